//! The hub's configuration: `trucd.toml` as it is written, checked into what is meant. All faults
//! are told at once, each with its place and what to do. Paths are relative to the file.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::shell::dial::Address;

/// Where the configuration is looked for when the command line does not say.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/lienthong/trucd.toml", "/var/lib/lienthong/trucd.toml"];
/// The configuration file's name in the folder that `trucd init` makes.
pub const FILE_NAME: &str = "trucd.toml";
/// Name of the hub's own client certificate; a box cannot have it, see `registry`.
pub const CLIENT_NAME: &str = "trucd";

#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the configuration file, which also holds the authority and the boxes' material.
    pub folder: PathBuf,
    pub hub: HubConfig,
    pub broker: BrokerKind,
    pub store: StoreConfig,
    /// Where status, health and metrics are served; nowhere when absent.
    pub http_listen: Option<SocketAddr>,
    pub log_level: String,
}

#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The name under which boxes reach the hub.
    pub name: String,
    /// What boxes dial, written into their configuration.
    pub box_addresses: Vec<Address>,
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// The hub's identity as an MQTT client.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Signs the receipts.
    pub receipt_key: PathBuf,
}

#[derive(Debug, Clone)]
pub enum BrokerKind {
    /// Within this process.
    Embedded {
        listen: SocketAddr,
        certificate: PathBuf,
        key: PathBuf,
        connections_max: usize,
    },
    External {
        /// In the order in which they are tried.
        addresses: Vec<Address>,
        allow_tls12: bool,
    },
}

#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub path: PathBuf,
    pub quota_bytes: u64,
    pub cache_bytes: u64,
}

/// Reads `HOST:PORT`; an IPv6 address stands in brackets.
pub fn parse_address(text: &str) -> Result<Address, String> {
    let wrong = || format!("{text:?} is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .filter(|host| host.parse::<Ipv6Addr>().is_ok());
    match v6.or(is_host_name(host).then_some(host)) {
        Some(host) if port != 0 => Ok(Address {
            host: host.to_owned(),
            port,
        }),
        _ => Err(wrong()),
    }
}

/// Whether this can be a host's name or IPv4 address.
pub fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `hub.listen`, or nothing when the file as a whole is meant.
    pub place: String,
    pub message: String,
    pub hint: String,
}

/// Everything that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    pub file: PathBuf,
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let colon = if fault.place.is_empty() { "" } else { ": " };
            write!(
                f,
                "{}: {}{colon}{}\n  {}",
                self.file.display(),
                fault.place,
                fault.message,
                fault.hint
            )?;
        }
        Ok(())
    }
}

/// The file that is meant when none is named: the first of [`DEFAULT_FILES`] that exists.
pub fn default_file() -> PathBuf {
    let existing = DEFAULT_FILES
        .into_iter()
        .map(PathBuf::from)
        .find(|file| file.exists());
    existing.unwrap_or_else(|| PathBuf::from(DEFAULT_FILES[0]))
}

pub fn load(file: &Path) -> Result<Config, Faults> {
    let whole = |message: String, hint: &str| Faults {
        file: file.to_owned(),
        faults: vec![Fault {
            place: String::new(),
            message,
            hint: hint.to_owned(),
        }],
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        whole(
            format!("cannot be read: {error}"),
            "Chỉ đúng tệp bằng --config, hoặc tạo trục mới bằng trucd init THƯ_MỤC. / Name the file \
             with --config, or make a hub with trucd init DIR.",
        )
    })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        whole(
            format!("line {line}: {}", error.message().replace('\n', " ")),
            "Sửa lại cú pháp TOML ở dòng này. / Mend the TOML on this line.",
        )
    })?;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut reader = Reader {
        table: &table,
        folder: &folder,
        known: Vec::new(),
        faults: Vec::new(),
    };
    let config = meant(&mut reader);
    reader.refuse_unknown();
    match config {
        Some(config) if reader.faults.is_empty() => Ok(config),
        _ => Err(Faults {
            file: file.to_owned(),
            faults: reader.faults,
        }),
    }
}

/// Every value is read, whatever is wrong with the others, so that all faults are found.
fn meant(reader: &mut Reader<'_>) -> Option<Config> {
    let name = reader.get("hub.name", None, |text| {
        host_name(text).map_err(str::to_owned)
    });
    let listen = reader.get("hub.listen", Some("0.0.0.0:8883"), socket_address);
    let box_addresses = reader.list("hub.box_addresses", parse_address);
    let broker = reader.get("hub.broker", Some("embedded"), broker_kind);
    let addresses = reader.list("hub.addresses", parse_address);
    let ca = reader.path("hub.ca", "ca.crt");
    let certificate = reader.path("hub.certificate", "trucd.crt");
    let key = reader.path("hub.key", "trucd.key");
    let receipt_key = reader.path("hub.receipt_key", "receipt.key");
    let server_certificate = reader.path("hub.server_certificate", "server.crt");
    let server_key = reader.path("hub.server_key", "server.key");
    let connections_max = reader.number("hub.connections_max", 1024, 8, 100_000);
    let allow_tls12 = reader.get("hub.tls_min", Some("1.3"), tls_min);
    let path = reader.path("store.path", "trucd.db");
    let quota_bytes = reader.get("store.quota", Some("64 GiB"), size);
    let cache_bytes = reader.get("store.cache", Some("32 MiB"), size);
    let http_listen = reader.get("http.listen", Some("127.0.0.1:8490"), http_listen);
    let log_level = reader.get("log.level", Some("info"), log_level);
    let external = broker == Some(true);
    if external && addresses.as_ref().is_some_and(Vec::is_empty) {
        reader.fault(
            "hub.addresses",
            "an external broker needs at least one address".to_owned(),
            "Ví dụ / for example: addresses = [\"127.0.0.1:8883\"].",
        );
    }
    let (name, listen) = (name?, listen?);
    let mut box_addresses = box_addresses?;
    if box_addresses.is_empty() {
        box_addresses.push(Address {
            host: name.clone(),
            port: listen.port(),
        });
    }
    Some(Config {
        folder: reader.folder.to_owned(),
        hub: HubConfig {
            name,
            box_addresses,
            ca: ca?,
            certificate: certificate?,
            key: key?,
            receipt_key: receipt_key?,
        },
        broker: match external {
            true => BrokerKind::External {
                addresses: addresses?,
                allow_tls12: allow_tls12?,
            },
            false => BrokerKind::Embedded {
                listen,
                certificate: server_certificate?,
                key: server_key?,
                connections_max: connections_max?,
            },
        },
        store: StoreConfig {
            path: path?,
            quota_bytes: quota_bytes?,
            cache_bytes: cache_bytes?,
        },
        http_listen: http_listen?,
        log_level: log_level?,
    })
}

/// Takes values out of the written table and notes everything that is wrong.
struct Reader<'a> {
    table: &'a Table,
    folder: &'a Path,
    /// Keys that were asked for, `section.key`.
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// A text, turned into what is meant; the default is a text too, so that it passes the same way.
    fn get<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let written = match self.value(key) {
            Some(Value::String(text)) => text.clone(),
            Some(_) => return self.wrong(key, "is not a text in quotes".to_owned()),
            None => match default {
                Some(default) => default.to_owned(),
                None => return self.wrong(key, "is missing".to_owned()),
            },
        };
        match parse(&written) {
            Ok(meant) => Some(meant),
            Err(message) => self.wrong(key, message),
        }
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.value(key) else {
            return Some(Vec::new());
        };
        let texts: Option<Vec<&str>> = value
            .as_array()
            .and_then(|values| values.iter().map(Value::as_str).collect());
        let Some(texts) = texts else {
            return self.wrong(key, "is not a list of texts".to_owned());
        };
        match texts.into_iter().map(parse).collect() {
            Ok(list) => Some(list),
            Err(message) => self.wrong(key, message),
        }
    }

    fn number(&mut self, key: &'static str, default: i64, min: i64, max: i64) -> Option<usize> {
        let written = match self.value(key) {
            Some(Value::Integer(number)) => *number,
            Some(_) => return self.wrong(key, "is not a whole number".to_owned()),
            None => default,
        };
        match usize::try_from(written) {
            Ok(number) if (min..=max).contains(&written) => Some(number),
            _ => self.wrong(key, format!("{written} is not between {min} and {max}")),
        }
    }

    fn path(&mut self, key: &'static str, default: &str) -> Option<PathBuf> {
        let folder = self.folder.to_owned();
        self.get(key, Some(default), |text| match text.is_empty() {
            true => Err("is empty".to_owned()),
            false => Ok(folder.join(text)),
        })
    }

    fn value(&mut self, key: &'static str) -> Option<&Value> {
        self.known.push(key);
        let (section, name) = key.split_once('.').expect("keys have a section");
        self.table.get(section)?.as_table()?.get(name)
    }

    fn wrong<T>(&mut self, key: &'static str, message: String) -> Option<T> {
        let hint = HINTS
            .iter()
            .find(|(known, _)| *known == key)
            .map_or(GENERAL_HINT, |(_, hint)| hint);
        self.fault(key, message, hint);
        None
    }

    fn fault(&mut self, place: &str, message: String, hint: &str) {
        self.faults.push(Fault {
            place: place.to_owned(),
            message,
            hint: hint.to_owned(),
        });
    }

    /// A misspelt key would silently mean its default.
    fn refuse_unknown(&mut self) {
        let mut unknown = Vec::new();
        for (section, value) in self.table {
            match value.as_table() {
                Some(keys) => unknown.extend(keys.keys().map(|key| format!("{section}.{key}"))),
                None => unknown.push(section.clone()),
            }
        }
        unknown.retain(|key| !self.known.contains(&key.as_str()));
        for key in unknown {
            let known = self.known.join(", ");
            self.fault(
                &key,
                "is not known".to_owned(),
                &format!("Xóa hoặc sửa tên; các tên có / remove or mend it; known are: {known}."),
            );
        }
    }
}

const GENERAL_HINT: &str = "Sửa giá trị này. / Mend this value.";
const HINTS: [(&str, &str); 11] = [
    (
        "hub.name",
        "Tên máy hoặc địa chỉ IP mà các trạm gọi tới / the host name or IP address that boxes dial: \
         name = \"truc.tinh.example\".",
    ),
    (
        "hub.listen",
        "Địa chỉ IP và cổng / an IP address and a port: listen = \"0.0.0.0:8883\".",
    ),
    ("hub.box_addresses", ADDRESSES_HINT),
    ("hub.addresses", ADDRESSES_HINT),
    (
        "hub.broker",
        "Chọn / choose broker = \"embedded\" or broker = \"external\".",
    ),
    ("hub.tls_min", "Chọn / choose tls_min = \"1.3\" or \"1.2\"."),
    (
        "hub.connections_max",
        "Số kết nối / a number of connections: connections_max = 1024.",
    ),
    ("store.quota", SIZE_HINT),
    ("store.cache", SIZE_HINT),
    (
        "http.listen",
        "Chỉ địa chỉ của chính máy này, hoặc để trống để tắt / this machine's own address only, or \
         empty for none: listen = \"127.0.0.1:8490\".",
    ),
    (
        "log.level",
        "Chọn / choose: off, error, warn, info, debug, trace.",
    ),
];
const ADDRESSES_HINT: &str =
    "Danh sách tên máy và cổng / a list of host and port: [\"truc1.tinh.example:8883\"].";
const SIZE_HINT: &str =
    "Viết số và đơn vị B, KiB, MiB, GiB hoặc TiB / a number and a unit: \"64 GiB\".";

fn host_name(text: &str) -> Result<String, &'static str> {
    match is_host_name(text) || text.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("is not a host name or IP address"),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not IP-ADDRESS:PORT"))
}

/// Whether the broker is an external one.
fn broker_kind(text: &str) -> Result<bool, String> {
    match text {
        "embedded" => Ok(false),
        "external" => Ok(true),
        _ => Err(format!("{text:?} is neither embedded nor external")),
    }
}

/// Whether TLS 1.2 is allowed.
fn tls_min(text: &str) -> Result<bool, String> {
    match text {
        "1.3" => Ok(false),
        "1.2" => Ok(true),
        _ => Err(format!("{text:?} is neither 1.3 nor 1.2")),
    }
}

fn http_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = socket_address(text)?;
    match address.ip().is_loopback() {
        true => Ok(Some(address)),
        false => Err(format!("{address} can be reached from other machines")),
    }
}

fn log_level(text: &str) -> Result<String, String> {
    match ["off", "error", "warn", "info", "debug", "trace"].contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no log level")),
    }
}

fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    const LEAST: u64 = 1 << 20;
    let wrong = || format!("{text:?} is not a size");
    let (unit, shift) = UNITS
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))
        .ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - unit.len()]
        .trim_end()
        .parse()
        .map_err(|_| wrong())?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if (LEAST..=i64::MAX as u64).contains(&bytes) => Ok(bytes),
        _ => Err(format!("{text:?} is less than 1 MiB or too much")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Faults> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        std::fs::write(&file, text).unwrap();
        load(&file)
    }

    #[test]
    fn a_name_is_enough() {
        let config = read("[hub]\nname = \"truc.tinh.example\"\n").unwrap();
        assert_eq!(
            config.hub.box_addresses[0].to_string(),
            "truc.tinh.example:8883"
        );
        assert!(
            matches!(config.broker, BrokerKind::Embedded { listen, .. } if listen.port() == 8883)
        );
        assert!(config.hub.ca.is_absolute() && config.hub.ca.ends_with("ca.crt"));
        assert_eq!(config.store.quota_bytes, 64 << 30);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = read(
            "[hub]\nlisten = \"8883\"\nbroker = \"external\"\nnmae = \"x\"\naddresses = []\n\
             [store]\nquota = \"64 GB\"\n[http]\nlisten = \"0.0.0.0:80\"\n[log]\nlevel = 3\n",
        )
        .unwrap_err();
        let places: Vec<&str> = faults
            .faults
            .iter()
            .map(|fault| fault.place.as_str())
            .collect();
        assert_eq!(
            places,
            [
                "hub.name",
                "hub.listen",
                "store.quota",
                "http.listen",
                "log.level",
                "hub.addresses",
                "hub.nmae"
            ]
        );
        assert!(faults.faults.iter().all(|fault| !fault.hint.is_empty()));
    }

    #[test]
    fn a_fault_of_the_syntax_names_its_line() {
        let faults = read("[hub]\nname = \n").unwrap_err();
        assert!(faults.faults[0].message.starts_with("line 2: "), "{faults}");
    }

    #[test]
    fn addresses_in_all_forms() {
        for good in ["truc:8883", "10.0.0.1:8883", "[::1]:8883", "a-b.c:1"] {
            assert_eq!(parse_address(good).unwrap().to_string(), good);
        }
        for bad in [
            "truc",
            "truc:0",
            "truc:70000",
            ":8883",
            "::1:8883",
            "[x]:1",
            "tỉnh:1",
            "a b:1",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
