//! Kind `station` to a folder and to a real vsftpd with TLS.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use lienthong::evidence::sha256;
use rcgen::{CertificateParams, KeyPair};

use crate::live::Daemon;
use crate::stage::{Hub, Office, Sample, free_port};
use crate::{configure, parked, until, until_empty};

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the server needs, in a folder.
fn furnish(place: &Path, port: u16) {
    fs::create_dir_all(place.join("ftp/den")).unwrap();
    fs::create_dir_all(place.join("empty")).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    fs::write(
        place.join("ftp.pem"),
        certificate.pem() + &key.serialize_pem(),
    )
    .unwrap();
    fs::write(place.join("ftp-ca.pem"), certificate.pem()).unwrap();
    let shown = place.display();
    let config = format!(
        "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nrun_as_launching_user=YES\n\
         anonymous_enable=YES\nlocal_enable=NO\nno_anon_password=YES\nanon_root={shown}/ftp\nanon_umask=022\n\
         write_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\nanon_other_write_enable=YES\n\
         anon_world_readable_only=NO\nallow_writeable_chroot=YES\nsecure_chroot_dir={shown}/empty\n\
         seccomp_sandbox=NO\nxferlog_enable=NO\nssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\n\
         force_anon_logins_ssl=YES\nrsa_cert_file={shown}/ftp.pem\nrequire_ssl_reuse=NO\nssl_ciphers=HIGH\nssl_tlsv1=YES\n"
    );
    fs::write(place.join("vsftpd.conf"), config).unwrap();
}

fn serve(place: &Path, port: u16) -> Server {
    let child = Command::new("/usr/sbin/vsftpd")
        .arg(place.join("vsftpd.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Debian's package vsftpd is installed");
    let server = Server { child, port };
    let begin = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "vsftpd does not listen"
        );
        std::thread::sleep(Duration::from_millis(25));
    }
    server
}

/// A station's file of the minute, in the dialect of its logger.
fn file(minute: u32) -> (String, Vec<u8>) {
    let name = format!(
        "TNI_KCNA_NUO001_202611200{}{:02}00.txt",
        minute / 60,
        minute % 60
    );
    let bytes = match minute % 3 {
        0 => format!("pH\t7.{minute}\t-\t20261120080500\t00\r\n").into_bytes(),
        1 => format!("\u{feff}COD\t41,{minute}\tmg/L\t20261120080500\t00\t\n").into_bytes(),
        _ => [
            b"TSS\t---\tmg/L\t20261120080500\t02\r\n".as_slice(),
            &[0xff, minute as u8],
        ]
        .concat(),
    };
    (name, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn measurement(minute: u32, is_history: bool) -> Sample {
    let (name, bytes) = file(minute);
    let data = format!(
        r#"{{"tinh":"TNI","co_so":"KCNA","tram":"NUO001","thoi_diem":"2026-11-20T0{}:{:02}:00+07:00","gia_tri":[],"tep":"{name}","sha256_tep":"{}","lich_su":{is_history}}}"#,
        minute / 60,
        minute % 60,
        hex(&sha256(&bytes))
    );
    Sample::new(&format!("KCNA|NUO001|{minute}"), &data)
        .dataset("quan_trac_moi_truong")
        .original(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Every file below a folder.
pub fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

pub fn expected(minutes: u32) -> BTreeMap<String, Vec<u8>> {
    let placed = |minute| {
        let (name, bytes) = file(minute);
        (format!("NUO001/2026/11/20/{name}"), bytes)
    };
    (0..minutes).map(placed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_again_byte_for_byte_through_kills_and_cuts() {
    let hub = Hub::new();
    let port = free_port();
    furnish(hub.folder(), port);
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    fs::write(hub.path("mat-khau"), "x").unwrap();
    configure(
        &hub,
        &format!(
            "[[output]]\nname = \"so-nnmt\"\nkind = \"station\"\ndatasets = [\"quan_trac_moi_truong\"]\n\
             folder = \"luu\"\nprotocol = \"ftps\"\nserver = \"localhost:{port}\"\nuser = \"anonymous\"\n\
             password_file = \"mat-khau\"\nca = \"ftp-ca.pem\"\nremote = \"den\"\ntimeout = \"5 s\"\n"
        ),
    );
    let mut server = Some(serve(hub.folder(), port));
    let (rounds, per_round) = (12, 20);
    for round in 0..rounds {
        let minutes = round * per_round..(round + 1) * per_round;
        office.send(
            minutes
                .map(|minute| measurement(minute, minute % 2 == 0))
                .collect(),
        );
        let daemon = Daemon::start(&hub).await;
        std::thread::sleep(Duration::from_millis(u64::from(round) * 53 % 307));
        daemon.kill();
    }
    // The server is away for a while.
    drop(server.take());
    let daemon = Daemon::start(&hub).await;
    let minutes = rounds * per_round;
    office.send(vec![measurement(minutes, false)]);
    let standing = until(&hub, "so-nnmt", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["trouble"]["code"], "ftp", "{standing}");
    server = Some(serve(hub.folder(), port));
    let standing = until_empty(&hub, "so-nnmt");
    assert_eq!(standing["delivered"], minutes + 1, "{standing}");
    assert_eq!(standing["history"], minutes / 2);
    assert_eq!(standing["late"], minutes / 2 + 1, "all of it is days old");
    assert!(hub.ok(&["status"]).contains("trễ hạn"));
    assert_eq!(tree(&hub.path("luu")), expected(minutes + 1));
    assert_eq!(tree(&hub.path("ftp/den")), expected(minutes + 1));
    assert_eq!(daemon.stop(), 0);
    drop(server);
}

/// The real `sftp` program takes our command line and says why nothing arrives.
#[tokio::test(flavor = "multi_thread")]
async fn an_sftp_server_that_is_away_is_said() {
    let hub = Hub::new();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    fs::write(hub.path("known_hosts"), "").unwrap();
    configure(
        &hub,
        &format!(
            "[[output]]\nname = \"bo-nnmt\"\nkind = \"station\"\ndatasets = [\"quan_trac_moi_truong\"]\n\
             protocol = \"sftp\"\nserver = \"127.0.0.1:{}\"\nuser = \"tinh\"\nkey_file = \"trucd.key\"\n\
             known_hosts = \"known_hosts\"\n",
            free_port()
        ),
    );
    office.send(vec![measurement(1, false)]);
    let daemon = Daemon::start(&hub).await;
    let standing = until(&hub, "bo-nnmt", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["trouble"]["code"], "sftp", "{standing}");
    let told = standing["trouble"]["en"].as_str().unwrap();
    assert!(told.contains("Connection refused"), "{told}");
    assert_eq!(
        (&standing["waiting"], &standing["parked"]),
        (&1.into(), &0.into())
    );
    assert_eq!(daemon.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_its_file_is_parked_and_others_pass() {
    let hub = Hub::new();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    configure(
        &hub,
        "[[output]]\nname = \"so-nnmt\"\nkind = \"station\"\ndatasets = [\"quan_trac_moi_truong\"]\n\
         folder = \"luu\"\nhistory_folder = \"lich_su\"\n",
    );
    let bare = |subject: &str, name: &str, content: &str| {
        let data = format!(
            r#"{{"tram":"NUO001","thoi_diem":"2026-11-20T08:05:00+07:00","tep":"{name}","sha256_tep":"{}"}}"#,
            "0".repeat(64)
        );
        let sample = Sample::new(subject, &data).dataset("quan_trac_moi_truong");
        match content {
            "" => sample,
            content => sample.original(content),
        }
    };
    office.send(vec![
        bare("a", "a.txt", ""),
        bare("b", "b.txt", "eA=="),
        measurement(1, true),
        measurement(2, false),
    ]);
    let daemon = Daemon::start(&hub).await;
    let standing = until_empty(&hub, "so-nnmt");
    assert_eq!(
        (&standing["delivered"], &standing["parked"]),
        (&2.into(), &2.into())
    );
    let reasons: Vec<String> = parked(&hub, "so-nnmt")
        .iter()
        .map(|held| held["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reasons, ["no_original", "digest_differs"]);
    let names: Vec<String> = tree(&hub.path("luu")).into_keys().collect();
    let (old, new) = (file(1).0, file(2).0);
    assert_eq!(
        names,
        [
            format!("NUO001/2026/11/20/{new}"),
            format!("lich_su/NUO001/2026/11/20/{old}")
        ]
    );
    assert_eq!(daemon.stop(), 0);
}
