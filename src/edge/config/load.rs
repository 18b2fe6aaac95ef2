//! From `tramd.toml` and its drop-ins to [`Config`]: every setting of the box with its default.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use crate::catalogue::{Catalogue, CatalogueFault};
use crate::edge::columns;
use crate::edge::config::ftp::{self, FtpLogin};

use crate::edge::config::inbox::{self, InboxConfig};
use crate::edge::config::{
    BackupConfig, Config, FolderConfig, HttpConfig, HttpSecure, HttpTls, HubConfig, SourceConfig,
    SourceKind, StoreConfig, Token, sql, table,
};
use crate::edge::config::{ftp_fetch, http_pull, mqtt};
use crate::edge::published;
use crate::edge::reserve::RESERVE_BYTES_MIN;
use crate::model::order::{Span, Timetable};
use crate::model::{BoxId, DatasetId, InvalidId, SourceName, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::dial::Address;
use crate::shell::scan::Scanner;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::{self, Wrong};
use crate::shell::settings::{Effective, Fault, Settings};
use crate::shell::systemd::credential;

/// Where the configuration lies when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/lienthong/tramd.toml";
/// Names of sources that the program itself uses.
pub const OWN_SOURCE: &str = "tramd";
pub const PUT_SOURCE: &str = "put";
/// Kinds of `[[source]]`.
const KINDS: [&str; 6] = ["folder", "ftp", "ftp_fetch", "http_pull", "mqtt", "sql"];
const PORT: u16 = 8883;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY_MS: u64 = 86_400_000;

/// A configuration without faults.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub catalogue: Catalogue,
    pub effective: Effective,
}

/// Reads the configuration and the catalogue that it names; on faults gives all of them.
pub fn load(path: &Path) -> Result<Loaded, Vec<Fault>> {
    let mut settings = Settings::read(path);
    let config = config(path, &mut settings);
    let catalogue = config
        .as_ref()
        .and_then(|config| catalogue(&mut settings, config));
    let effective = settings.finish()?;
    let (Some(config), Some(catalogue)) = (config, catalogue) else {
        unreachable!("a setting that is not there is a fault");
    };
    Ok(Loaded {
        config,
        catalogue,
        effective,
    })
}

fn config(file: &Path, settings: &mut Settings) -> Option<Config> {
    let mut section = settings.section("box");
    let box_id = section.value("id", None, |text| id(text, "xa-tan-bien"));
    let agency = section.value("agency", None, |text| id(text, "H53.12"));
    drop(section);
    let scanner = scanner(settings.section("attachments"));
    let store = store(settings.section("store"), scanner);
    let hub = hub(settings.section("hub"));
    let http = http(settings.section("http"), box_id.as_ref());
    let mut section = settings.section("catalogue");
    let catalogue = section.path("path", Some("/usr/share/lienthong/catalogue"));
    drop(section);
    let backup = backup(settings.section("backup"));
    let stick_folder = settings.section("stick").optional_path("folder");
    let mut section = settings.section("alarms");
    let alarm_dataset = section.value("dataset", Some("an_toan_thiet_bi"), |text| {
        id(text, "an_toan_thiet_bi")
    });
    drop(section);
    let mut section = settings.section("log");
    let log_level = section.value("level", Some("info"), log_level);
    drop(section);
    let taken = http
        .as_ref()
        .map(|http| http.tokens.iter().map(|token| token.name.clone()));
    let sources = sources(settings, taken.into_iter().flatten().collect());
    let inboxes = inboxes(settings);
    Some(Config {
        file: file.to_owned(),
        box_id: box_id?,
        agency: agency?,
        store: store?,
        hub: hub?,
        http: http?,
        catalogue: catalogue?,
        backup: backup?,
        stick_folder: stick_folder?,
        alarm_dataset: alarm_dataset?,
        log_level: log_level?,
        sources: sources?,
        inboxes: inboxes?,
    })
}

fn scanner(mut section: Section) -> Option<Option<Scanner>> {
    let scanner = section.section("scanner");
    Scanner::read(scanner)
}

fn store(mut section: Section, scanner: Option<Option<Scanner>>) -> Option<StoreConfig> {
    let path = section.path("path", Some("/var/lib/lienthong/tramd.db"));
    let quota_bytes = section.size("quota", "2 GiB", 8 * MIB..=4096 * GIB);
    let tail_keep_ms = section.duration("tail_keep", "14 d", 0..=3650 * DAY_MS);
    let tail_bytes = section.size("tail_size", "64 MiB", 0..=64 * GIB);
    let reserve_bytes = section.value("reserve", Some("16 MiB"), |text| match units::size(text)? {
        0 => Ok(0),
        bytes => units::within(bytes, &(RESERVE_BYTES_MIN..=GIB), units::size_text),
    });
    let once_keys = section.number("repeat_keys", 200_000, 0..=10_000_000);
    let blobs_bytes_max = section.size("attachments", "1 GiB", 0..=4096 * GIB);
    let blob_bytes_max = section.size("attachment_max", "1 GiB", 1..=4096 * GIB);
    let blob_types = section.texts("attachment_types", Some(&[]), media_type);
    let received_bytes_max = section.size("received", "1 GiB", 0..=4096 * GIB);
    let received_keep_ms = section.duration("received_keep", "30 d", 0..=3650 * DAY_MS);
    let card_rated_bytes = section.size("card_rated", "5000 GiB", GIB..=1024 * 1024 * GIB);
    Some(StoreConfig {
        path: path?,
        quota_bytes: quota_bytes?,
        tail_keep_ms: i64::try_from(tail_keep_ms?).expect("bounded above"),
        tail_bytes: tail_bytes?,
        reserve_bytes: reserve_bytes?,
        once_keys: once_keys?,
        blobs_bytes_max: blobs_bytes_max?,
        blob_bytes_max: blob_bytes_max?,
        blob_types: blob_types?,
        received_bytes_max: received_bytes_max?,
        received_keep_ms: i64::try_from(received_keep_ms?).expect("bounded above"),
        scanner: scanner?,
        card_rated_bytes: card_rated_bytes?,
    })
}

fn backup(mut section: Section) -> Option<Option<BackupConfig>> {
    let folder = section.optional_path("folder");
    let minute = section.value("at", Some("02:30"), |text| {
        let parsed = text.split_once(':').and_then(|(hour, minute)| {
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        });
        parsed.ok_or_else(|| {
            Wrong::new(
                &format!("“{text}” không phải là giờ trong ngày"),
                &format!("{text:?} is not a time of day"),
                "Ví dụ: \"02:30\".",
                "For example: \"02:30\".",
            )
        })
    });
    let keep = section.number("keep", 14, 1..=1_000);
    let (folder, minute, keep) = (folder?, minute?, keep?);
    Some(folder.map(|folder| BackupConfig {
        folder,
        minute,
        keep: usize::try_from(keep).expect("bounded above"),
    }))
}

fn media_type(text: &str) -> Result<String, Wrong> {
    match text.split_once('/') {
        Some((family, kind)) if !family.is_empty() && !kind.is_empty() => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(Wrong::new(
            &format!("“{text}” không phải là loại tệp"),
            &format!("{text:?} is not a media type"),
            "Ví dụ: \"application/pdf\" hoặc \"image/*\".",
            "For example: \"application/pdf\" or \"image/*\".",
        )),
    }
}

fn hub(mut section: Section) -> Option<HubConfig> {
    let addresses = section.texts("addresses", None, address);
    let authority = section.path("ca", Some("ca.crt"));
    let certificate = section.path("certificate", Some("box.crt"));
    let key = section.path("key", Some("box.key"));
    let receipt_keys = section.paths("receipt_keys");
    let seal_key = section.optional_path("seal_key");
    let allow_tls12 = section.value("tls_min", Some("1.3"), |text| match text {
        "1.3" => Ok(false),
        "1.2" => Ok(true),
        _ => Err(one_of(text, &["1.3", "1.2"])),
    });
    let keep_alive_ms = section.duration("keep_alive", "30 s", 2_000..=60_000);
    let bandwidth = section.texts("bandwidth", Some(&[]), |text| {
        text.parse::<Span>().map_err(|_| Wrong {
            vi: format!("“{text}” không phải là giờ và kbit/s"),
            en: format!("{text:?} is not hours and kbit/s"),
            hint_vi: "Ví dụ: \"07:30-17:00 256\"; ngoài các giờ đã ghi thì không giới hạn."
                .to_owned(),
            hint_en: "For example: \"07:30-17:00 256\"; outside of the hours there is no limit."
                .to_owned(),
        })
    });
    let (authority, seal_key) = (authority?, seal_key?);
    Some(HubConfig {
        seal_key: seal_key.unwrap_or_else(|| authority.with_file_name("seal.pub")),
        addresses: addresses?,
        authority,
        certificate: certificate?,
        key: credential(key?),
        receipt_keys: receipt_keys?,
        allow_tls12: allow_tls12?,
        keep_alive_ms: keep_alive_ms?,
        bandwidth: Timetable::from(bandwidth?),
    })
}

fn http(mut section: Section, box_id: Option<&BoxId>) -> Option<HttpConfig> {
    let listen = section.value("listen", Some("127.0.0.1:8480"), |text| {
        SocketAddr::from_str(text).map_err(|_| Wrong {
            vi: format!("“{text}” không phải là địa chỉ IP và cổng"),
            en: format!("{text:?} is not an IP address and port"),
            hint_vi: "Ví dụ: \"127.0.0.1:8480\".".to_owned(),
            hint_en: "For example: \"127.0.0.1:8480\".".to_owned(),
        })
    });
    let own_name = box_id.map_or("tram", |id| id.as_str().trim_end_matches('-'));
    let name = section.value("name", Some(own_name), label);
    let mdns = section.flag("mdns", true);
    let certificate = section.optional_path("certificate");
    let key = section.optional_path("key");
    let body_bytes_max = section.size("body_max", "4 MiB", 64 * KIB..=64 * MIB);
    let connections_max = section.number("connections", 128, 4..=4096);
    let per_address_max = section.number("connections_per_address", 32, 4..=4096);
    let mut names = BTreeSet::new();
    let mut tokens = Some(Vec::new());
    for mut entry in section.list("token") {
        let name = source_name(&mut entry, &mut names);
        let sha256 = entry.secret("sha256", digest);
        let datasets = entry.texts("datasets", Some(&[]), |text| id(text, "ho_so_tthc"));
        let lookup = entry.texts("lookup", Some(&[]), |text| id(text, "ho_so_tthc"));
        let inbox = entry.flag("inbox", false);
        if let (Some([]), Some([]), Some(false)) = (datasets.as_deref(), lookup.as_deref(), inbox) {
            entry.fault("datasets", Wrong::missing());
        }
        match (name, sha256, datasets.zip(lookup.zip(inbox)), &mut tokens) {
            (Some(name), Some(sha256), Some((datasets, (lookup, inbox))), Some(tokens)) => {
                tokens.push(Token {
                    name,
                    sha256,
                    datasets,
                    lookup,
                    inbox,
                });
            }
            _ => tokens = None,
        }
    }
    let listen = listen?;
    let tls = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(HttpSecure::Files(HttpTls {
            certificate,
            key: credential(key),
        })),
        (None, None) if listen.ip().is_loopback() => None,
        (None, None) => Some(HttpSecure::Own),
        (Some(_), None) => return missing(&mut section, "key"),
        (None, Some(_)) => return missing(&mut section, "certificate"),
    };
    Some(HttpConfig {
        listen,
        tls,
        name: name?,
        mdns: mdns? && !listen.ip().is_loopback(),
        tokens: tokens?,
        body_bytes_max: usize::try_from(body_bytes_max?).expect("bounded above"),
        connections_max: usize::try_from(connections_max?).expect("bounded above"),
        per_address_max: usize::try_from(per_address_max?).expect("bounded above"),
    })
}

/// One part of a DNS name (RFC 1123).
fn label(text: &str) -> Result<String, Wrong> {
    let name = text.to_ascii_lowercase();
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let has_ends = !name.starts_with('-') && !name.ends_with('-');
    if !(1..=63).contains(&name.len()) || !has_ends || !name.bytes().all(is_inner) {
        return Err(Wrong::new(
            &format!("“{text}” không phải là một tên trong mạng"),
            &format!("{text:?} is not a name in the network"),
            "Từ 1 đến 63 chữ a-z, số và gạch nối, không có .local; ví dụ: \"xa-tan-bien\".",
            "1 to 63 of a-z, 0-9 and '-', without .local; for example: \"xa-tan-bien\".",
        ));
    }
    Ok(name)
}

fn missing<T>(section: &mut Section, key: &str) -> Option<T> {
    section.fault(key, Wrong::missing());
    None
}

fn inboxes(settings: &mut Settings) -> Option<Vec<InboxConfig>> {
    let mut names = BTreeSet::new();
    let mut inboxes = Some(Vec::new());
    for mut section in settings.list("inbox") {
        let name = source_name(&mut section, &mut names);
        let kind = inbox::read(&mut section);
        match (name, kind, &mut inboxes) {
            (Some(name), Some(kind), Some(inboxes)) => inboxes.push(InboxConfig { name, kind }),
            _ => inboxes = section.leave(),
        }
    }
    inboxes
}

fn sources(settings: &mut Settings, taken: Vec<SourceName>) -> Option<Vec<SourceConfig>> {
    let mut names: BTreeSet<SourceName> = taken.into_iter().collect();
    let mut sources = Some(Vec::new());
    for mut section in settings.list("source") {
        let name = source_name(&mut section, &mut names);
        let dataset = section.value("dataset", None, |text| id(text, "quan_trac_moi_truong"));
        let kind = section.value("kind", None, |text| match KINDS.contains(&text) {
            true => Ok(text.to_owned()),
            false => Err(one_of(text, &KINDS)),
        });
        let kind = match kind.as_deref() {
            Some("folder") => folder(section).map(SourceKind::Folder),
            Some("ftp") => ftp::read(section, dataset.as_ref(), &mut names).map(SourceKind::Ftp),
            Some("sql") => sql::sql(section).map(|sql| SourceKind::Sql(Box::new(sql))),
            Some("ftp_fetch") => {
                let own = name.as_ref().map_or("", SourceName::as_str);
                ftp_fetch::read(section, own).map(|fetch| SourceKind::FtpFetch(Box::new(fetch)))
            }
            Some("http_pull") => {
                http_pull::read(section).map(|pull| SourceKind::HttpPull(Box::new(pull)))
            }
            Some("mqtt") => mqtt::read(section).map(SourceKind::Mqtt),
            _ => section.leave(),
        };
        match (name, dataset, kind, &mut sources) {
            (Some(name), Some(dataset), Some(kind), Some(sources)) => {
                sources.push(SourceConfig {
                    name,
                    dataset,
                    kind,
                });
            }
            _ => sources = None,
        }
    }
    sources
}

fn folder(mut section: Section) -> Option<FolderConfig> {
    let path = section.path("path", None);
    let format = table::format(&mut section);
    let patterns = section.texts("patterns", Some(&[]), |text| Ok(text.to_owned()));
    let recursive = section.flag("recursive", false);
    let settle_ms = section.duration("settle", "2 s", 0..=DAY_MS);
    let rescan_ms = section.duration("rescan", "60 s", 1_000..=DAY_MS);
    let done_keep_ms = section.duration("done_keep", "30 d", 0..=3650 * DAY_MS);
    let station = section.rest("station");
    let mut table = table::read(&mut section);
    if let Some(table) = &mut table {
        table::read_attachments(&mut section, table)?;
        if !table.attachments.is_empty() && patterns.as_ref().is_some_and(Vec::is_empty) {
            section.fault("patterns", Wrong::new(
                "phải nói tệp nào là bảng, để tệp đính kèm bên cạnh không bị coi là bảng",
                "must say which files are tables, or the attachments beside them are taken for such",
                "Ví dụ: patterns = [\"*.csv\"].",
                "For example: patterns = [\"*.csv\"].",
            ));
            return None;
        }
    }
    Some(FolderConfig {
        path: path?,
        format: format?,
        patterns: patterns?,
        recursive: recursive?,
        settle_ms: settle_ms?,
        rescan_ms: rescan_ms?,
        done_keep_ms: done_keep_ms?,
        station: station?,
        table: table?,
    })
}

/// Loads the catalogue that holds, the hub's or the installed one, and holds the configuration
/// against it.
fn catalogue(settings: &mut Settings, config: &Config) -> Option<Catalogue> {
    let now = Clock::start(UnixMs(0)).now().wall;
    let published =
        published::holding(&config.store.down_path(), now).map(|(catalogue, _)| catalogue);
    let catalogue = match published.map_or_else(|| Catalogue::load(&config.catalogue), Ok) {
        Ok(catalogue) => catalogue,
        Err(faults) => {
            faults
                .into_iter()
                .for_each(|fault| settings.add_fault(of_catalogue(&config.catalogue, fault)));
            return None;
        }
    };
    for (key, wrong) in misfits(config, &catalogue) {
        settings.fault(&key, wrong);
    }
    Some(catalogue)
}

/// What of the configuration a catalogue does not serve: settings, and what is wrong with them.
pub fn misfits(config: &Config, catalogue: &Catalogue) -> Vec<(String, Wrong)> {
    let mut found = Vec::new();
    let tokens = config.http.tokens.iter().flat_map(|token| {
        token
            .datasets
            .iter()
            .map(move |dataset| (format!("http.token[{}].datasets", token.name), dataset))
    });
    let sources = config
        .sources
        .iter()
        .map(|source| (format!("source[{}].dataset", source.name), &source.dataset));
    let logins = config.sources.iter().flat_map(|source| {
        let logins = match &source.kind {
            SourceKind::Ftp(config) => config.logins.as_slice(),
            _ => &[],
        };
        let key = |login: &FtpLogin| format!("source[{}].login[{}]", source.name, login.name);
        logins
            .iter()
            .map(move |login| (key(login) + ".dataset", &login.dataset))
    });
    for (key, dataset) in tokens.chain(sources).chain(logins) {
        if catalogue.get(dataset).is_none() {
            found.push((key, unknown_dataset(dataset, catalogue)));
        }
    }
    for source in &config.sources {
        let faults = match (&source.kind, catalogue.get(&source.dataset)) {
            (SourceKind::Ftp(config), _) => {
                let mut faults = ftp::faults(config, catalogue);
                for login in &config.logins {
                    let dataset = catalogue.get(&login.dataset);
                    let columns = dataset.map(|dataset| columns::of(dataset, &login.folder.table));
                    let wrong = columns.and_then(Result::err).unwrap_or_default();
                    let key = |key: &str| format!("login[{}].{key}", login.name);
                    faults.extend(wrong.into_iter().map(|(name, wrong)| (key(&name), wrong)));
                }
                faults
            }
            (SourceKind::FtpFetch(fetch), Some(dataset)) => {
                let mut faults = ftp_fetch::faults(fetch, dataset);
                faults.extend(
                    columns::of(dataset, &fetch.folder.table)
                        .err()
                        .unwrap_or_default(),
                );
                faults
            }
            (SourceKind::Folder(folder), Some(dataset)) => columns::of(dataset, &folder.table)
                .err()
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let prefix = format!("source[{}]", source.name);
        found.extend(
            faults
                .into_iter()
                .map(|(key, wrong)| (format!("{prefix}.{key}"), wrong)),
        );
    }
    found
}

fn unknown_dataset(dataset: &DatasetId, catalogue: &Catalogue) -> Wrong {
    let known: Vec<&str> = catalogue
        .iter()
        .map(|dataset| dataset.id.as_str())
        .collect();
    let known = known.join(", ");
    Wrong {
        vi: format!("danh mục không có bộ dữ liệu “{dataset}”"),
        en: format!("the catalogue has no dataset {dataset:?}"),
        hint_vi: format!("Các bộ dữ liệu có trong danh mục: {known}."),
        hint_en: format!("Datasets of the catalogue: {known}."),
    }
}

fn of_catalogue(folder: &Path, fault: CatalogueFault) -> Fault {
    Fault {
        file: folder.join(fault.file),
        line: None,
        key: fault.place,
        message_vi: fault.message_vi,
        message_en: fault.message_en,
        hint_vi: fault.hint_vi,
        hint_en: fault.hint_en,
    }
}

pub(super) fn source_name(
    section: &mut Section,
    taken: &mut BTreeSet<SourceName>,
) -> Option<SourceName> {
    let name: SourceName = section.value("name", None, |text| id(text, "mot-cua"))?;
    let reserved = [OWN_SOURCE, PUT_SOURCE].contains(&name.as_str());
    if reserved || !taken.insert(name.clone()) {
        section.fault(
            "name",
            Wrong::new(
                "tên này đã có nguồn khác dùng",
                "this name is taken by another source",
                "Mỗi nguồn và mỗi mã truy cập có một tên riêng.",
                "Give each source and each token a name of its own.",
            ),
        );
        return None;
    }
    Some(name)
}

pub(super) fn id<T: FromStr<Err = InvalidId>>(text: &str, example: &str) -> Result<T, Wrong> {
    text.parse().map_err(|error: InvalidId| Wrong {
        vi: format!("“{}” không đúng dạng", error.text),
        en: error.to_string(),
        hint_vi: format!("Ví dụ: \"{example}\"."),
        hint_en: format!("For example: {example:?}."),
    })
}

pub(super) fn digest(text: &str) -> Result<[u8; 32], Wrong> {
    let byte = |at: usize| {
        text.get(2 * at..2 * at + 2)
            .and_then(|two| u8::from_str_radix(two, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    match bytes.map(<[u8; 32]>::try_from) {
        Some(Ok(digest)) if text.len() == 64 => Ok(digest),
        _ => Err(Wrong::new(
            "không phải là SHA-256 (64 chữ số thập lục phân)",
            "is not a SHA-256 (64 hexadecimal digits)",
            "Lấy bằng lệnh: printf %s 'mã truy cập' | sha256sum",
            "Take it from: printf %s 'the token' | sha256sum",
        )),
    }
}

fn address(text: &str) -> Result<Address, Wrong> {
    address_at(text, PORT, "truc.tinh.example:8883")
}

/// A host and a port, which may be left out.
pub(super) fn address_at(text: &str, port: u16, example: &str) -> Result<Address, Wrong> {
    let wrong = || Wrong {
        vi: format!("“{text}” không phải là địa chỉ máy chủ"),
        en: format!("{text:?} is not the address of a server"),
        hint_vi: format!("Viết tên máy hoặc IP và cổng, ví dụ \"{example}\"."),
        hint_en: format!("Write a host name or IP address and a port, such as {example:?}."),
    };
    let (host, written) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = written.map_or(Ok(port), str::parse).map_err(|_| wrong())?;
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || port == 0 || !host.chars().all(letters) {
        return Err(wrong());
    }
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

fn log_level(text: &str) -> Result<String, Wrong> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    if LEVELS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(one_of(text, &LEVELS))
}

pub(super) fn one_of(text: &str, known: &[&str]) -> Wrong {
    let known = known.join(", ");
    Wrong {
        vi: format!("“{text}” không dùng được ở đây"),
        en: format!("{text:?} is not usable here"),
        hint_vi: format!("Chọn một trong: {known}."),
        hint_en: format!("Choose one of: {known}."),
    }
}

#[cfg(test)]
mod tests;
