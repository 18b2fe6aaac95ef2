//! The hub's configuration: `trucd.toml` and its drop-ins, checked into what is meant. All faults are
//! told at once, each with its place and what to do. Paths are relative to the file that says them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::hub::output::OutputConfig;
use crate::hub::output::settings::outputs;
use crate::shell::dial::Address;
use crate::shell::scan::Scanner;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::settings::{Fault, Settings};
use crate::shell::systemd::credential;

/// Where the configuration is looked for when the command line does not say.
const DEFAULT_FILES: [&str; 2] = ["/etc/lienthong/trucd.toml", "/var/lib/lienthong/trucd.toml"];
/// The configuration file's name in the folder that `trucd init` makes.
pub const FILE_NAME: &str = "trucd.toml";
/// Name of the hub's own client certificate; a box cannot have it, see `registry`.
pub const CLIENT_NAME: &str = "trucd";
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the configuration file, which also holds the authority and the boxes' material.
    pub folder: PathBuf,
    pub hub: HubConfig,
    pub broker: BrokerKind,
    pub store: StoreConfig,
    /// Folder of the dataset catalogue: without it nobody can be given a right, and nothing is
    /// handed on.
    pub catalogue: PathBuf,
    /// Where status, health and metrics are served; nowhere when absent.
    pub http_listen: Option<SocketAddr>,
    pub log_level: String,
    pub outputs: Vec<OutputConfig>,
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
    /// Opens what boxes seal for the hub on sticks.
    pub seal_key: PathBuf,
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
    /// Looks at attachments before they are kept.
    pub scanner: Option<Scanner>,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{fault}")?;
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
    // What is printed for boxes and for Mosquitto must not depend on where somebody stood.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut settings = Settings::read(&file);
    let config = config(&mut settings, folder);
    settings.finish().map_err(Faults)?;
    Ok(config.expect("a setting that is not there is a fault"))
}

/// Every section is read, whatever is wrong with the others, so that all faults are found.
fn config(settings: &mut Settings, folder: PathBuf) -> Option<Config> {
    let hub = hub(settings.section("hub"));
    let scanner = Scanner::read(settings.section("attachments").section("scanner"));
    let store = store(settings.section("store"), scanner);
    let mut section = settings.section("catalogue");
    let catalogue = section.path("path", Some("/usr/share/lienthong/catalogue"));
    drop(section);
    let mut section = settings.section("http");
    let http_listen = section.value("listen", Some("127.0.0.1:8490"), http_listen);
    drop(section);
    let mut section = settings.section("log");
    let log_level = section.value("level", Some("info"), log_level);
    drop(section);
    let outputs = outputs(settings);
    let (hub, broker) = hub?;
    Some(Config {
        folder,
        hub,
        broker,
        store: store?,
        catalogue: catalogue?,
        http_listen: http_listen?,
        log_level: log_level?,
        outputs: outputs?,
    })
}

fn hub(mut section: Section) -> Option<(HubConfig, BrokerKind)> {
    let name = section.value("name", None, host);
    let box_addresses = section.texts("box_addresses", Some(&[]), address);
    let ca = section.path("ca", Some("ca.crt"));
    let certificate = section.path("certificate", Some("trucd.crt"));
    let key = section.path("key", Some("trucd.key"));
    let receipt_key = section.path("receipt_key", Some("receipt.key"));
    let seal_key = section.path("seal_key", Some("seal.key"));
    let is_external = section.value("broker", Some("embedded"), broker_kind);
    let listen = section.value("listen", Some("0.0.0.0:8883"), socket_address);
    let server_certificate = section.path("server_certificate", Some("server.crt"));
    let server_key = section.path("server_key", Some("server.key"));
    let connections_max = section.number("connections_max", 1024, 8..=100_000);
    let addresses = match is_external {
        Some(true) => section.texts("addresses", None, address),
        _ => section.texts("addresses", Some(&[]), address),
    };
    let allow_tls12 = section.value("tls_min", Some("1.3"), tls_min);
    let (name, listen) = (name?, listen?);
    let mut box_addresses = box_addresses?;
    if box_addresses.is_empty() {
        box_addresses.push(Address {
            host: name.clone(),
            port: listen.port(),
        });
    }
    let broker = match is_external? {
        true => BrokerKind::External {
            addresses: addresses?,
            allow_tls12: allow_tls12?,
        },
        false => BrokerKind::Embedded {
            listen,
            certificate: server_certificate?,
            key: credential(server_key?),
            connections_max: usize::try_from(connections_max?).expect("bounded above"),
        },
    };
    let hub = HubConfig {
        name,
        box_addresses,
        ca: ca?,
        certificate: certificate?,
        key: credential(key?),
        receipt_key: credential(receipt_key?),
        seal_key: credential(seal_key?),
    };
    Some((hub, broker))
}

fn store(mut section: Section, scanner: Option<Option<Scanner>>) -> Option<StoreConfig> {
    let path = section.path("path", Some("trucd.db"));
    let quota_bytes = section.size("quota", "64 GiB", 8 * MIB..=64 * 1024 * GIB);
    let cache_bytes = section.size("cache", "32 MiB", MIB..=64 * GIB);
    Some(StoreConfig {
        path: path?,
        quota_bytes: quota_bytes?,
        cache_bytes: cache_bytes?,
        scanner: scanner?,
    })
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

fn host(text: &str) -> Result<String, Wrong> {
    match is_host_name(text) || text.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err(not_a(
            text,
            "tên máy hay địa chỉ IP",
            "a host name or IP address",
            "truc.tinh.example",
        )),
    }
}

fn address(text: &str) -> Result<Address, Wrong> {
    parse_address(text).map_err(|_| {
        not_a(
            text,
            "tên máy và cổng",
            "a host and a port",
            "truc.tinh.example:8883",
        )
    })
}

fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        not_a(
            text,
            "địa chỉ IP và cổng",
            "an IP address and a port",
            "0.0.0.0:8883",
        )
    })
}

fn http_listen(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    match socket_address(text)? {
        address if address.ip().is_loopback() => Ok(Some(address)),
        _ => Err(Wrong::new(
            "các máy khác với tới được địa chỉ này, mà trang không có đăng nhập",
            "other machines can reach this address, and nobody is asked who they are",
            "Dùng \"127.0.0.1:8490\", hoặc để trống để tắt.",
            "Use \"127.0.0.1:8490\", or leave it empty for none.",
        )),
    }
}

fn broker_kind(text: &str) -> Result<bool, Wrong> {
    match text {
        "embedded" => Ok(false),
        "external" => Ok(true),
        _ => Err(one_of(text, &["embedded", "external"])),
    }
}

/// Whether TLS 1.2 is allowed.
fn tls_min(text: &str) -> Result<bool, Wrong> {
    match text {
        "1.3" => Ok(false),
        "1.2" => Ok(true),
        _ => Err(one_of(text, &["1.3", "1.2"])),
    }
}

fn log_level(text: &str) -> Result<String, Wrong> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    match LEVELS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(one_of(text, &LEVELS)),
    }
}

fn not_a(text: &str, vi: &str, en: &str, example: &str) -> Wrong {
    Wrong::new(
        &format!("“{text}” không phải là {vi}"),
        &format!("{text:?} is not {en}"),
        &format!("Ví dụ: {example:?}."),
        &format!("For example: {example:?}."),
    )
}

fn one_of(text: &str, known: &[&str]) -> Wrong {
    let known = known.join(", ");
    Wrong::new(
        &format!("không có lựa chọn “{text}”"),
        &format!("{text:?} is not one of the choices"),
        &format!("Chọn một trong: {known}."),
        &format!("Choose one of: {known}."),
    )
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
        let mut keys: Vec<&str> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "http.listen",
                "hub.addresses",
                "hub.listen",
                "hub.name",
                "hub.nmae",
                "log.level",
                "store.quota",
            ]
        );
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
