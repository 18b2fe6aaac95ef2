//! Configurations, from files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::edge::config::FileFormat;

const TOKEN: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

fn folder(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tramd.toml");
    let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let text = text.replace("CATALOGUE", &catalogue.display().to_string());
    fs::write(&path, text).expect("written");
    (folder, path)
}

const SMALL: &str = r#"
[box]
id = "xa-tan-bien"
agency = "H53.12"
[hub]
addresses = ["truc.tinh.example", "10.1.2.3:18883", "[2001:db8::1]:8883"]
receipt_keys = ["hub.pub"]
[catalogue]
path = "CATALOGUE"
"#;

#[test]
fn a_small_configuration_has_sensible_defaults() {
    let (folder, path) = folder(SMALL);
    let Loaded {
        config,
        catalogue,
        effective,
    } = load(&path).expect("no fault");
    assert_eq!(config.store.quota_bytes, 2 << 30);
    assert_eq!(
        config.store.lane_bytes_max().iter().sum::<u64>(),
        (2 << 30) / 100 * 85
    );
    assert_eq!(config.hub.certificate, folder.path().join("box.crt"));
    assert_eq!(config.hub.receipt_keys, [folder.path().join("hub.pub")]);
    let addresses: Vec<String> = config
        .hub
        .addresses
        .iter()
        .map(Address::to_string)
        .collect();
    assert_eq!(
        addresses,
        [
            "truc.tinh.example:8883",
            "10.1.2.3:18883",
            "[2001:db8::1]:8883"
        ]
    );
    assert!(config.http.listen.ip().is_loopback() && config.http.tls.is_none());
    assert!(!config.hub.allow_tls12);
    assert_eq!(catalogue.iter().count(), 17);
    let effective = effective.to_string();
    assert!(
        effective.contains("quota = \"2 GiB\"  # default\n"),
        "{effective}"
    );
    assert!(
        effective.contains("id = \"xa-tan-bien\"  # tramd.toml:3\n"),
        "{effective}"
    );
    toml::from_str::<toml::Table>(&effective).expect("it prints TOML");
}

#[test]
fn tokens_and_sources_are_read_and_secrets_are_not_printed() {
    let text = format!(
        r#"{SMALL}
[[http.token]]
name = "mot-cua"
sha256 = "{TOKEN}"
datasets = ["ho_so_tthc"]
[[source]]
name = "quan-trac"
kind = "folder"
dataset = "quan_trac_moi_truong"
path = "drop"
format = "station"
patterns = ["*.txt"]
settle = "500 ms"
[source.station.stations.TRAM01]
province = "TN"
facility = "KCNA"
station = "NUO001"
"#
    );
    let (folder, path) = folder(&text);
    let Loaded {
        config, effective, ..
    } = load(&path).expect("no fault");
    assert_eq!(config.http.tokens[0].name.as_str(), "mot-cua");
    let SourceKind::Folder(drop) = &config.sources[0].kind else {
        panic!("not a folder");
    };
    assert_eq!(drop.path, folder.path().join("drop"));
    assert_eq!(drop.format, Some(FileFormat::Station));
    assert_eq!(drop.settle_ms, 500);
    assert_eq!(drop.station.stations.len(), 1);
    let effective = effective.to_string();
    assert!(!effective.contains(TOKEN), "{effective}");
    toml::from_str::<toml::Table>(&effective).expect("it prints TOML");
}

#[test]
fn every_fault_is_found_at_once() {
    let text = r#"
[box]
id = "Xã Tân Biên"
[hub]
adresses = ["a:1"]
receipt_keys = []
tls_min = "1.1"
[http]
listen = "mang:8480"
[[http.token]]
name = "mot-cua"
sha256 = "abc"
datasets = ["khong_co"]
[[source]]
name = "mot-cua"
kind = "folder"
dataset = "khong_co"
path = "x"
[[source]]
name = "kho"
kind = "sqlx"
dataset = "ho_so_tthc"
dsn = "y"
[catalogue]
path = "CATALOGUE"
"#;
    let (_folder, path) = folder(text);
    let faults = load(&path).expect_err("faults");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    for key in [
        "box.id",
        "box.agency",
        "hub.addresses",
        "hub.adresses",
        "hub.receipt_keys",
        "hub.tls_min",
        "http.listen",
        "http.token[mot-cua].sha256",
        "source[kho].kind",
    ] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert!(
        !keys.contains(&"source[kho].dsn"),
        "a wrong kind knows nothing of its keys: {keys:?}"
    );
    for fault in &faults {
        assert!(
            !fault.hint_vi.is_empty() && !fault.hint_en.is_empty(),
            "{fault}"
        );
        assert!(
            fault.line.is_some() || fault.key.starts_with("hub"),
            "{fault}"
        );
    }
}

#[test]
fn datasets_must_be_in_the_catalogue_and_names_are_used_once() {
    let text = format!(
        r#"{SMALL}
[[http.token]]
name = "mot-cua"
sha256 = "{TOKEN}"
datasets = ["ho_so_tthc", "khong_co"]
[[source]]
name = "quan-trac"
kind = "folder"
dataset = "cung_khong"
path = "x"
"#
    );
    let faults = load(&folder(&text).1).expect_err("faults");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        ["http.token[mot-cua].datasets", "source[quan-trac].dataset"]
    );
    assert!(
        faults[0].hint_vi.contains("quan_trac_moi_truong"),
        "{}",
        faults[0]
    );
    for taken in ["mot-cua", "put", "tramd"] {
        let text = format!(
            "{SMALL}\n[[http.token]]\nname = \"mot-cua\"\nsha256 = \"{TOKEN}\"\ndatasets = [\"ho_so_tthc\"]\n\
             [[source]]\nname = \"{taken}\"\nkind = \"folder\"\ndataset = \"ho_so_tthc\"\npath = \"x\"\n"
        );
        let faults = load(&folder(&text).1).expect_err("taken");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].key, format!("source[{taken}].name"));
    }
}

#[test]
fn the_network_needs_tls() {
    let with = |lines: &str| load(&folder(&format!("{SMALL}\n[http]\n{lines}\n")).1);
    let tls = |lines: &str| with(lines).expect("no fault").config.http.tls;
    assert!(tls("listen = \"[::1]:0\"").is_none());
    for network in ["192.168.1.5:8480", "0.0.0.0:8480", "[::]:8480"] {
        let own = tls(&format!("listen = \"{network}\""));
        assert!(matches!(own, Some(HttpSecure::Own)), "{network}");
    }
    let files = tls("listen = \"192.168.1.5:8480\"\ncertificate = \"a.crt\"\nkey = \"a.key\"");
    assert!(matches!(files, Some(HttpSecure::Files(_))));
    let faults = with("certificate = \"a.crt\"").expect_err("half a certificate");
    assert_eq!(faults[0].key, "http.key");
}

#[test]
fn the_box_has_a_name_in_the_network() {
    let with = |lines: &str| load(&folder(&format!("{SMALL}\n[http]\n{lines}\n")).1);
    let own = with("").expect("no fault").config;
    assert_eq!(own.http.name, own.box_id.as_str());
    let other = with("name = \"Xa-Tan-Bien\"").expect("no fault").config;
    assert_eq!(other.http.name, "xa-tan-bien");
    for bad in ["", "-a", "a-", "a.local", "trạm", "a b", &"a".repeat(64)] {
        let faults = with(&format!("name = \"{bad}\"")).expect_err(bad);
        assert_eq!(faults[0].key, "http.name");
    }
}
