//! Makes a hub: authority, keys, certificates, database, configuration, and a configuration for
//! Mosquitto.
//!
//! A folder is a hub from the moment on which it holds `trucd.toml`, which is written last. Until
//! then a marker says that the work has begun: what lies beside it served nobody yet, so the next
//! attempt removes it and begins again.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::{Uid, User};

use crate::evidence::SigningKey;
use crate::hub::authority::{Authority, Issued, PUBLIC, SECRET, write_new};
use crate::hub::config::{CLIENT_NAME, FILE_NAME};
use crate::hub::{mosquitto, pem, seal};
use crate::model::UnixMs;
use crate::store::Options;
use crate::store::hub::HubStore;

/// Says that `init` has begun in this folder and has not ended.
const MARKER: &str = "init.unfinished";
/// Everything that `init` makes beside the configuration file.
const FILES: [&str; 15] = [
    "ca.key",
    "ca.crt",
    "server.key",
    "server.crt",
    "trucd.key",
    "trucd.crt",
    "receipt.key",
    PUBLIC_KEY_FILE,
    "seal.key",
    SEAL_PUBLIC_FILE,
    "trucd.db",
    "trucd.db-wal",
    "trucd.db-shm",
    "mosquitto.conf",
    "mosquitto.acl",
];
/// The key by which boxes check receipts.
pub const PUBLIC_KEY_FILE: &str = "hub.pub";
/// The key by which boxes seal what a stick carries.
pub const SEAL_PUBLIC_FILE: &str = "seal.pub";
/// Folder of the boxes' material.
pub const BOXES: &str = "boxes";
/// Least that the store needs while it is made.
const OPTIONS: Options = Options {
    quota_bytes: 1 << 30,
    cache_bytes: 1 << 20,
};

/// What a new hub is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    pub folder: PathBuf,
    /// The name under which boxes reach it.
    pub name: String,
    pub listen: SocketAddr,
    /// Further names and addresses that its certificate is good for.
    pub names: Vec<String>,
}

/// Makes the hub, or says what stands in the way.
pub fn init(plan: &Plan, now: UnixMs) -> anyhow::Result<()> {
    let folder = &plan.folder;
    make_folder(folder)?;
    if folder.join(FILE_NAME).exists() {
        bail!(
            "{} is a hub already and is never overwritten",
            folder.display()
        );
    }
    clear_unfinished(folder)?;
    write_new(&folder.join(MARKER), b"", PUBLIC)?;
    make_keys(plan, now)?;
    make_folder(&folder.join(BOXES))?;
    // SQLite gives its other files the mode of this one: records are nobody else's business.
    write_new(&folder.join("trucd.db"), b"", SECRET)?;
    HubStore::open(&folder.join("trucd.db"), OPTIONS).context("cannot make the database")?;
    let setup = mosquitto::Setup {
        folder,
        listen: plan.listen,
        user: User::from_uid(Uid::effective())
            .ok()
            .flatten()
            .map(|user| user.name),
    };
    write_new(
        &folder.join("mosquitto.conf"),
        setup.configuration().as_bytes(),
        PUBLIC,
    )?;
    write_new(
        &folder.join("mosquitto.acl"),
        mosquitto::ACCESS_LIST.as_bytes(),
        PUBLIC,
    )?;
    write_new(
        &folder.join(FILE_NAME),
        configuration(plan).as_bytes(),
        PUBLIC,
    )?;
    fs::remove_file(folder.join(MARKER)).context("cannot remove the marker of the unfinished work")
}

/// Makes a folder that only its owner enters, unless it is there.
pub fn make_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// Removes what an attempt that broke off has left; refuses files of anybody else.
fn clear_unfinished(folder: &Path) -> anyhow::Result<()> {
    let left: Vec<PathBuf> = FILES
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.exists())
        .collect();
    let marker = folder.join(MARKER);
    if !marker.exists() {
        return match left.first() {
            Some(file) => bail!(
                "{} is there although {} is no hub; choose another folder, or move it away",
                file.display(),
                folder.display()
            ),
            None => Ok(()),
        };
    }
    for file in left.iter().chain([&marker]) {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

fn make_keys(plan: &Plan, now: UnixMs) -> anyhow::Result<()> {
    let folder = &plan.folder;
    let authority = Authority::create(folder, now)?;
    let server = authority.issue_server(&server_names(plan), now)?;
    write_pair(folder, "server", &server)?;
    let client = authority.issue_client(CLIENT_NAME, now)?;
    write_pair(folder, "trucd", &client)?;
    let receipt_key = SigningKey::generate();
    let public_key = SigningKey::from_pkcs8(&receipt_key)
        .context("cannot use the new receipt key")?
        .public_key();
    write_new(
        &folder.join("receipt.key"),
        pem::private_key(&receipt_key).as_bytes(),
        SECRET,
    )?;
    write_new(
        &folder.join(PUBLIC_KEY_FILE),
        pem::public_key(&public_key).as_bytes(),
        PUBLIC,
    )?;
    seal::make(&folder.join("seal.key")).map(|_| ())
}

fn write_pair(folder: &Path, name: &str, issued: &Issued) -> anyhow::Result<()> {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    write_new(&file("key"), issued.key_pem.as_bytes(), SECRET)?;
    write_new(&file("crt"), issued.cert_pem.as_bytes(), PUBLIC)
}

/// The names that boxes dial, and those under which the hub dials its own broker.
fn server_names(plan: &Plan) -> Vec<String> {
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let listen = (!plan.listen.ip().is_unspecified()).then(|| plan.listen.ip().to_string());
    let mut names: Vec<String> = Vec::new();
    let all = std::iter::once(plan.name.clone())
        .chain(plan.names.iter().cloned())
        .chain(listen)
        .chain(own);
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn configuration(plan: &Plan) -> String {
    let host = match plan.name.parse() {
        Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
        _ => plan.name.clone(),
    };
    let (name, listen, port) = (&plan.name, plan.listen, plan.listen.port());
    format!(
        r#"# Cấu hình của trục (trucd); đường dẫn tính từ thư mục chứa tệp này.
# Configuration of the hub (trucd); paths are relative to this file's folder.

[hub]
# Tên mà các trạm gọi tới / the name under which boxes reach the hub.
name = "{name}"
# Địa chỉ ghi vào cấu hình của trạm mới, theo thứ tự ưu tiên.
# What is written into a new box's configuration, best first.
box_addresses = ["{host}:{port}"]
# Máy môi giới MQTT: "embedded" (trong trucd) hoặc "external" (Mosquitto, cụm MQTT).
# The MQTT broker: "embedded" (within trucd) or "external" (Mosquitto, an MQTT cluster).
broker = "embedded"
# embedded: nơi các trạm kết nối đến / where boxes connect to.
listen = "{listen}"
server_certificate = "server.crt"
server_key = "server.key"
connections_max = 1024
# external: nơi trucd kết nối đến / where trucd connects to.
# addresses = ["127.0.0.1:{port}"]
# tls_min = "1.3"
# Định danh của trucd khi kết nối MQTT / the identity of trucd as an MQTT client.
ca = "ca.crt"
certificate = "trucd.crt"
key = "trucd.key"
# Khóa ký biên nhận; giữ bí mật, sao lưu / signs the receipts; keep it secret, back it up.
receipt_key = "receipt.key"
# Mở dữ liệu trạm mang đến bằng USB; giữ bí mật, sao lưu / opens what boxes bring on sticks; keep it
# secret, back it up.
seal_key = "seal.key"

[store]
path = "trucd.db"
# Tệp không bao giờ lớn hơn / the file never grows beyond this.
quota = "64 GiB"

[http]
# Trạng thái và số đo, chỉ trên máy này; để trống để tắt.
# Status and metrics, on this machine only; empty for none.
listen = "127.0.0.1:8490"

[log]
# off, error, warn, info, debug, trace
level = "info"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::config;

    fn plan(folder: &Path) -> Plan {
        Plan {
            folder: folder.to_owned(),
            name: "truc.tinh.example".to_owned(),
            listen: "10.1.2.3:8883".parse().unwrap(),
            names: vec!["10.9.9.9".to_owned(), "localhost".to_owned()],
        }
    }

    const NOW: UnixMs = UnixMs(1_790_000_000_000);

    #[test]
    fn what_is_written_is_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        init(&plan(folder.path()), NOW).unwrap();
        let config = config::load(&folder.path().join(FILE_NAME)).unwrap();
        assert_eq!(
            config.hub.box_addresses[0].to_string(),
            "truc.tinh.example:8883"
        );
        for path in [
            &config.hub.ca,
            &config.hub.certificate,
            &config.hub.receipt_key,
        ] {
            assert!(path.is_file(), "{}", path.display());
        }
        assert!(!folder.path().join(MARKER).exists());
        assert!(
            init(&plan(folder.path()), NOW).is_err(),
            "never overwritten"
        );
    }

    #[test]
    fn an_attempt_that_broke_off_anywhere_is_begun_again() {
        let whole = tempfile::tempdir().unwrap();
        init(&plan(whole.path()), NOW).unwrap();
        for kept in 0..FILES.len() {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(MARKER), b"").unwrap();
            for name in &FILES[..kept] {
                fs::write(folder.path().join(name), b"half").unwrap();
            }
            init(&plan(folder.path()), NOW).unwrap();
            config::load(&folder.path().join(FILE_NAME)).unwrap();
            assert!(Authority::open(folder.path()).is_ok());
        }
    }

    #[test]
    fn somebody_elses_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.key"), b"theirs").unwrap();
        assert!(init(&plan(folder.path()), NOW).is_err());
        assert_eq!(fs::read(folder.path().join("ca.key")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
