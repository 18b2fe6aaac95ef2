//! Kind `ftp_fetch` against a real vsftpd as a logger's own server.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use one_box::{SOON, XA, assert_once, configure, one_box, said, source, subjects};
use rcgen::{CertificateParams, KeyPair};
use rig::{Process, Rig, free_port, wait_for};

struct Bed {
    rig: Rig,
    port: u16,
    server: Option<Process>,
}

impl Bed {
    fn new(source: &str, server: &str) -> Bed {
        let rig = one_box();
        let place = rig.folder.path().to_owned();
        fs::create_dir_all(place.join("logger/so-lieu")).unwrap();
        fs::create_dir(place.join("empty")).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]);
        let certificate = params.unwrap().self_signed(&key).unwrap();
        fs::write(
            place.join("ftp.pem"),
            certificate.pem() + &key.serialize_pem(),
        )
        .unwrap();
        fs::write(place.join("ca.pem"), certificate.pem()).unwrap();
        let port = free_port();
        let shown = place.display();
        let config = format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nrun_as_launching_user=YES\n\
             anonymous_enable=YES\nlocal_enable=NO\nno_anon_password=YES\nanon_root={shown}/logger\n\
             write_enable=YES\nanon_other_write_enable=YES\nanon_world_readable_only=NO\n\
             secure_chroot_dir={shown}/empty\nseccomp_sandbox=NO\nxferlog_enable=NO\n{}",
            server.replace("PLACE", &shown.to_string())
        );
        fs::write(place.join("vsftpd.conf"), config).unwrap();
        let text = format!(
            "[[source]]\nname = \"lay-tram\"\nkind = \"ftp_fetch\"\ndataset = \"quan_trac_moi_truong\"\n\
             server = \"localhost:{port}\"\nfolder = \"so-lieu\"\npatterns = [\"*.txt\"]\nevery = \"1 s\"\npath = \"../../fetch\"\n{source}"
        );
        configure(&rig, "20-fetch.toml", &text);
        said(&rig, &["config"], 0);
        let mut bed = Bed {
            rig,
            port,
            server: None,
        };
        bed.start_server();
        bed
    }

    fn start_server(&mut self) {
        let mut command = Command::new("/usr/sbin/vsftpd");
        command.arg(self.rig.folder.path().join("vsftpd.conf"));
        let log = self.rig.folder.path().join("vsftpd.log");
        self.server = Some(Process::start("vsftpd", &mut command, &log));
        let port = self.port;
        wait_for("vsftpd listens", SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    fn remote(&self) -> PathBuf {
        self.rig.folder.path().join("logger/so-lieu")
    }

    fn put(&self, n: u32) {
        fs::write(self.remote().join(name(n)), content(n)).unwrap();
    }

    fn source(&self) -> serde_json::Value {
        source(&self.rig, "lay-tram")
    }

    /// How often each measurement stands at the hub, once `count` are there and nothing more comes.
    fn at_hub(&self, count: usize) -> BTreeMap<String, u32> {
        let found = || subjects(&self.rig, "quan_trac");
        wait_for(
            &format!("{count} are at the hub"),
            Duration::from_secs(60),
            || count <= found().len(),
        );
        std::thread::sleep(Duration::from_millis(2_500));
        self.rig.wait_until_drained(XA, SOON);
        found()
    }

    fn assert_once(&self, count: usize) {
        assert_once(&self.at_hub(count), count);
    }
}

fn name(n: u32) -> String {
    format!("HN_KCNA_NUO001_20261120{:02}{:02}00.txt", n / 60, n % 60)
}

fn content(n: u32) -> String {
    let at = format!("20261120{:02}{:02}00", n / 60, n % 60);
    format!(
        "pH\t7.{}\t-\t{at}\t00\r\nCOD\t48.3\tmg/L\t{at}\t00\r\n",
        n % 10
    )
}

#[test]
fn files_are_fetched_once_also_through_a_restart() {
    let mut bed = Bed::new("", "");
    (0..20).for_each(|n| bed.put(n));
    fs::write(bed.remote().join("khac.csv"), "x").unwrap();
    fs::write(bed.remote().join("sai.txt"), "khong phai so lieu\r\n").unwrap();
    let said = said(&bed.rig, &["sources", "try", "lay-tram"], 0);
    assert!(
        said.contains("SẼ NHẬN") && said.contains(&name(0)),
        "{said}"
    );
    bed.rig.start_box(XA);
    bed.assert_once(20);
    let refused = bed.rig.folder.path().join("fetch/lay-tram/refused/sai.txt");
    assert!(refused.exists());
    assert_eq!(bed.source()["warning"]["code"], "plain_ftp");
    bed.rig.kill_box(XA);
    bed.put(20);
    bed.rig.start_box(XA);
    bed.assert_once(21);
    assert_eq!(
        fs::read_dir(refused.parent().unwrap()).unwrap().count(),
        2,
        "and its reason, once"
    );
    assert_eq!(
        fs::read_dir(bed.remote()).unwrap().count(),
        23,
        "all stays at the server"
    );
}

#[test]
fn a_file_that_still_grows_is_left_alone() {
    let mut bed = Bed::new("", "");
    let path = bed.remote().join(name(0));
    fs::write(&path, &content(0)[..30]).unwrap();
    bed.rig.start_box(XA);
    let text = content(0);
    for end in 31..36 {
        std::thread::sleep(Duration::from_millis(600));
        fs::write(&path, &text[..end]).unwrap();
    }
    fs::write(&path, &text).unwrap();
    bed.assert_once(1);
    let data = &bed.rig.entries(XA)[0]["data"];
    assert_eq!(data["gia_tri"].as_array().unwrap().len(), 2, "{data}");
}

#[test]
fn taken_files_are_deleted_or_renamed_behind_the_commit() {
    for (after, left) in [
        ("delete", vec![]),
        ("rename", vec![name(0) + ".da-nhan", name(1) + ".da-nhan"]),
    ] {
        let mut bed = Bed::new(&format!("after = \"{after}\"\n"), "");
        (0..2).for_each(|n| bed.put(n));
        bed.rig.start_box(XA);
        bed.assert_once(2);
        let files = fs::read_dir(bed.remote()).unwrap();
        let mut files: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, left);
    }
}

#[test]
fn files_come_through_tls() {
    let tls = "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\nforce_anon_logins_ssl=YES\n\
               rsa_cert_file=PLACE/ftp.pem\nrequire_ssl_reuse=NO\nssl_ciphers=HIGH\nssl_tlsv1=YES\n";
    let mut bed = Bed::new("ca = \"../../ca.pem\"\n", tls);
    bed.put(0);
    bed.rig.start_box(XA);
    bed.assert_once(1);
    assert!(bed.source()["warning"].is_null());
}

#[test]
fn a_server_that_is_away_or_refuses_is_named_and_comes_back() {
    let mut bed = Bed::new("", "");
    bed.server.take().unwrap().kill();
    bed.put(0);
    bed.rig.start_box(XA);
    wait_for("the fault shows", SOON, || {
        bed.source()["fault"]["code"] == "ftp_fetch_link"
    });
    bed.start_server();
    wait_for("the fault is over", Duration::from_secs(60), || {
        bed.source()["fault"].is_null()
    });
    bed.assert_once(1);
    fs::rename(bed.remote(), bed.rig.folder.path().join("logger/khac")).unwrap();
    wait_for("the missing folder shows", SOON, || {
        let fault = bed.source()["fault"].clone();
        fault["vi"].is_null()
            && fault["text_vi"]
                .as_str()
                .is_some_and(|text| text.contains("550"))
    });
}

#[test]
fn killed_at_any_moment_it_loses_and_doubles_nothing() {
    let rounds: u32 = std::env::var("ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    let mut bed = Bed::new("", "");
    (0..60).for_each(|n| bed.put(n));
    bed.rig.start_box(XA);
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(u64::from(900 + round * 67 % 900)));
        bed.rig.process(XA).signal(Signal::SIGKILL);
        bed.rig.kill_box(XA);
        bed.put(60 + round);
        bed.rig.start_box(XA);
    }
    bed.assert_once((60 + rounds) as usize);
}
