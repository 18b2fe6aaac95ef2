//! Settings of kind `ftp`: where the box listens for stations, and one login for each.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::catalogue::Catalogue;
use crate::edge::config::load::{digest, id, one_of, source_name};
use crate::edge::config::{FolderConfig, HttpTls, table};
use crate::edge::folder::files::FILE_BYTES_MAX;
use crate::model::{DatasetId, SourceName};
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::systemd::credential;

/// Datasets from this sensitivity on hold personal data (0 public, 1 internal).
pub const PERSONAL: u8 = 2;
const KIB: u64 = 1 << 10;
const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Clone)]
pub struct FtpConfig {
    /// FTP with TLS, which a client must ask for before it logs in.
    pub secure: Option<FtpSecure>,
    /// FTP without TLS.
    pub plain: Option<SocketAddr>,
    /// Where clients connect for their data.
    pub passive_ports: RangeInclusive<u16>,
    /// The address that clients are told, where a router stands in between.
    pub passive_host: Option<Ipv4Addr>,
    pub connections_max: usize,
    pub file_bytes_max: u64,
    pub idle_ms: u64,
    /// A refused file is answered with an error and not with 226.
    pub refuses_aloud: bool,
    pub logins: Vec<FtpLogin>,
}

#[derive(Debug, Clone)]
pub struct FtpSecure {
    pub listen: SocketAddr,
    pub tls: HttpTls,
}

/// A station: a source of its own, with its own folder.
#[derive(Debug, Clone)]
pub struct FtpLogin {
    pub name: SourceName,
    pub user: String,
    /// SHA-256 of the password.
    pub sha256: [u8; 32],
    pub dataset: DatasetId,
    pub folder: FolderConfig,
}

/// Reads a `[[source]]` of this kind; `names` are those that other sources have.
pub fn read(
    mut section: Section,
    dataset: Option<&DatasetId>,
    names: &mut BTreeSet<SourceName>,
) -> Option<FtpConfig> {
    let path = section.path("path", Some("/var/lib/lienthong/ftp"));
    let secure = secure(&mut section);
    let plain = plain(&mut section);
    let passive_ports = section.value("passive_ports", Some("50000-50099"), ports);
    let passive_host = section.optional("passive_host", ipv4);
    let connections_max = section.number("connections", 256, 4..=4096);
    let file_bytes_max = section.size("file_max", "8 MiB", KIB..=FILE_BYTES_MAX);
    let idle_ms = section.duration("idle", "5 min", 1_000..=DAY_MS);
    let done_keep_ms = section.duration("done_keep", "30 d", 0..=3650 * DAY_MS);
    let refuses_aloud = section.value("refused_reply", Some("226"), |text| match text {
        "226" => Ok(false),
        "550" => Ok(true),
        _ => Err(one_of(text, &["226", "550"])),
    });
    let (secure, plain) = (secure?, plain?);
    if secure.is_none() && plain.is_none() {
        section.fault("listen", Wrong::missing());
        return None;
    }
    let mut users = BTreeSet::new();
    let mut logins = Some(Vec::new());
    for entry in section.list("login") {
        let login = login(entry, dataset, names, path.as_ref(), done_keep_ms);
        let login = login.filter(|login| users.insert(login.user.clone()));
        match (login, &mut logins) {
            (Some(login), Some(logins)) => logins.push(login),
            _ => logins = None,
        }
    }
    if logins.as_ref().is_some_and(Vec::is_empty) {
        section.fault("login", Wrong::missing());
        return None;
    }
    Some(FtpConfig {
        secure,
        plain,
        passive_ports: passive_ports?,
        passive_host: passive_host?,
        connections_max: usize::try_from(connections_max?).expect("bounded above"),
        file_bytes_max: file_bytes_max?,
        idle_ms: idle_ms?,
        refuses_aloud: refuses_aloud?,
        logins: logins?,
    })
}

fn secure(section: &mut Section) -> Option<Option<FtpSecure>> {
    let listen = section.optional("listen", socket);
    let certificate = section.optional_path("certificate");
    let key = section.optional_path("key");
    match (listen?, certificate?, key?) {
        (None, None, None) => Some(None),
        (Some(listen), Some(certificate), Some(key)) => Some(Some(FtpSecure {
            listen,
            tls: HttpTls {
                certificate,
                key: credential(key),
            },
        })),
        (listen, certificate, _) => {
            let key = match (listen, certificate) {
                (None, _) => "listen",
                (_, None) => "certificate",
                _ => "key",
            };
            section.fault(key, Wrong::missing());
            None
        }
    }
}

/// Plain FTP takes two words, so that nobody switches it on by mistake.
fn plain(section: &mut Section) -> Option<Option<SocketAddr>> {
    let is_on = section.flag("plain", false);
    let listen = section.optional("plain_listen", socket);
    match (is_on?, listen?) {
        (true, Some(listen)) => Some(Some(listen)),
        (false, None) => Some(None),
        (true, None) => {
            section.fault("plain_listen", Wrong::missing());
            None
        }
        (false, Some(_)) => {
            section.fault(
                "plain_listen",
                Wrong::new(
                    "FTP không mã hóa đang tắt",
                    "plain FTP is switched off",
                    "Thêm plain = true nếu thật sự cần, hoặc bỏ plain_listen.",
                    "Add plain = true if it is really needed, or remove plain_listen.",
                ),
            );
            None
        }
    }
}

fn login(
    mut section: Section,
    dataset: Option<&DatasetId>,
    names: &mut BTreeSet<SourceName>,
    path: Option<&PathBuf>,
    done_keep_ms: Option<u64>,
) -> Option<FtpLogin> {
    let name = source_name(&mut section, names);
    let user = section.optional("user", user);
    let sha256 = section.secret("sha256", digest);
    let own = section.optional("dataset", |text| id(text, "quan_trac_moi_truong"));
    let format = table::format(&mut section);
    let patterns = section.texts("patterns", Some(&[]), |text| Ok(text.to_owned()));
    let station = section.rest("station");
    let table = table::read(&mut section);
    let name = name?;
    Some(FtpLogin {
        user: user?.unwrap_or_else(|| name.to_string()),
        sha256: sha256?,
        dataset: own?.or_else(|| dataset.cloned())?,
        folder: FolderConfig {
            path: path?.join(name.as_str()),
            format: format?,
            patterns: patterns?,
            recursive: false,
            settle_ms: 0,
            rescan_ms: DAY_MS,
            done_keep_ms: done_keep_ms?,
            station: station?,
            table: table?,
        },
        name,
    })
}

/// What only the catalogue can tell: `(key below the source, fault)`.
pub fn faults(config: &FtpConfig, catalogue: &Catalogue) -> Vec<(String, Wrong)> {
    let is_personal = |login: &&FtpLogin| {
        let dataset = catalogue.get(&login.dataset);
        dataset.is_some_and(|dataset| PERSONAL <= dataset.sensitivity)
    };
    let personal = config.logins.iter().find(is_personal);
    let (Some(login), Some(_)) = (personal, config.plain) else {
        return Vec::new();
    };
    let (name, dataset) = (&login.name, &login.dataset);
    vec![(
        "plain".to_owned(),
        Wrong {
            vi: format!(
                "bộ dữ liệu “{dataset}” của {name} có dữ liệu cá nhân, không được đi qua FTP không mã hóa"
            ),
            en: format!(
                "dataset {dataset} of {name} holds personal data, which must not go through plain FTP"
            ),
            hint_vi:
                "Dùng FTPS (listen, certificate, key), hoặc tách đăng nhập này sang một nguồn khác."
                    .to_owned(),
            hint_en: "Use FTPS (listen, certificate, key), or move this login to another source."
                .to_owned(),
        },
    )]
}

fn user(text: &str) -> Result<String, Wrong> {
    let is_good = (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    match is_good {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            "không dùng được làm tên đăng nhập",
            "is not usable as a user name",
            "Dùng 1 đến 64 ký tự ASCII, không có dấu cách.",
            "Use 1 to 64 ASCII characters without spaces.",
        )),
    }
}

fn socket(text: &str) -> Result<SocketAddr, Wrong> {
    SocketAddr::from_str(text).map_err(|_| Wrong {
        vi: format!("“{text}” không phải là địa chỉ IP và cổng"),
        en: format!("{text:?} is not an IP address and port"),
        hint_vi: "Ví dụ: \"192.168.1.10:21\".".to_owned(),
        hint_en: "For example: \"192.168.1.10:21\".".to_owned(),
    })
}

fn ipv4(text: &str) -> Result<Ipv4Addr, Wrong> {
    Ipv4Addr::from_str(text).map_err(|_| Wrong {
        vi: format!("“{text}” không phải là địa chỉ IPv4"),
        en: format!("{text:?} is not an IPv4 address"),
        hint_vi: "Ví dụ: \"203.0.113.10\".".to_owned(),
        hint_en: "For example: \"203.0.113.10\".".to_owned(),
    })
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let range = text.split_once('-').and_then(|(first, last)| {
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    });
    let is_good = |range: &RangeInclusive<u16>| 1024 <= *range.start() && !range.is_empty();
    range.filter(is_good).ok_or_else(|| Wrong {
        vi: format!("“{text}” không phải là dải cổng"),
        en: format!("{text:?} is not a range of ports"),
        hint_vi: "Ví dụ: \"50000-50099\" (từ 1024 trở lên, mở trên tường lửa).".to_owned(),
        hint_en: "For example: \"50000-50099\" (1024 or above, open in the firewall).".to_owned(),
    })
}
