//! The box's page in the office's network with the real program: its own certificate, and what a
//! client without TLS hears.
#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use one_box::{SOON, XA, config, configure, one_box, said};
use rig::{Rig, run, tramd, wait_for};

fn open_to_the_network(rig: &Rig, lines: &str) {
    let port = rig.boxes[XA].http_port;
    let text = format!("[http]\nlisten = \"0.0.0.0:{port}\"\n{lines}\n");
    configure(rig, "30-lan.toml", &text);
}

fn start(rig: &mut Rig) {
    rig.launch_box(XA);
    wait_for("the box takes in", SOON, || {
        let answer = curl(rig, &["--insecure"], "https://127.0.0.1:PORT/healthz");
        answer.status.success()
    });
}

/// Asks by a browser's rules; the box's name leads to this machine.
fn curl(rig: &Rig, arguments: &[&str], url: &str) -> Output {
    let port = rig.boxes[XA].http_port;
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--fail"]);
    for name in ["xa-tan-bien", "xa-moi", "khac"] {
        command.args(["--resolve", &format!("{name}.local:{port}:127.0.0.1")]);
    }
    command.args(arguments);
    let url = url.replace("PORT", &port.to_string());
    command.arg(url).output().unwrap()
}

/// What `tramd certificate` prints, in a file.
fn certificate(rig: &Rig) -> PathBuf {
    let path = rig.folder.path().join("page.pem");
    fs::write(&path, said(rig, &["certificate"], 0)).unwrap();
    path
}

fn openssl(arguments: &[&str], file: &PathBuf) -> String {
    let output = run(
        Command::new("openssl").args(arguments).arg("-in").arg(file),
        0,
    );
    String::from_utf8(output.stdout).unwrap()
}

fn is_trusted(rig: &Rig, name: &str) -> bool {
    let file = certificate(rig);
    let url = format!("https://{name}:PORT/healthz");
    let answer = curl(rig, &["--cacert", file.to_str().unwrap()], &url);
    answer.status.success()
}

#[test]
fn the_page_has_a_certificate_of_the_boxs_own_that_can_be_compared_and_pinned() {
    let mut rig = one_box();
    open_to_the_network(&rig, "");
    let unmade = run(
        tramd().arg("certificate").arg("--config").arg(config(&rig)),
        78,
    );
    assert!(String::from_utf8_lossy(&unmade.stderr).contains("lần chạy đầu"));
    start(&mut rig);
    for name in ["xa-tan-bien.local", "127.0.0.1", "localhost"] {
        assert!(is_trusted(&rig, name), "{name}");
    }
    assert!(!is_trusted(&rig, "khac.local"));
    assert!(!curl(&rig, &[], "https://127.0.0.1:PORT/").status.success());

    let file = certificate(&rig);
    let shown = openssl(&["x509", "-noout", "-fingerprint", "-sha256"], &file);
    let fingerprint = shown.trim().split_once('=').unwrap().1;
    assert!(fs::read_to_string(&file).unwrap().contains(fingerprint));
    for command in [&["status"] as &[&str], &["check"], &["account", "code"]] {
        let output = tramd()
            .args(command)
            .arg("--config")
            .arg(config(&rig))
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(text.contains(fingerprint), "{command:?}: {text}");
    }
    assert!(rig.log(XA).contains(fingerprint));
    // No tool finds anything strange in it.
    let text = openssl(&["x509", "-noout", "-text"], &file);
    for wanted in [
        "CA:FALSE",
        "TLS Web Server Authentication",
        "DNS:xa-tan-bien.local",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let anchor = file.to_str().unwrap();
    run(
        Command::new("openssl").args([
            "verify",
            "-purpose",
            "sslserver",
            "-CAfile",
            anchor,
            anchor,
        ]),
        0,
    );
    for end in ["key", "crt"] {
        let path = rig.boxes[XA].folder.join(format!("https.{end}"));
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    // A restart changes nothing, another name the certificate, neither of them the key.
    let before = fs::read(&file).unwrap();
    let key = |file: &PathBuf| openssl(&["x509", "-noout", "-pubkey"], file);
    let first_key = key(&file);
    rig.kill_box(XA);
    start(&mut rig);
    assert_eq!(fs::read(certificate(&rig)).unwrap(), before);
    rig.kill_box(XA);
    open_to_the_network(&rig, "name = \"xa-moi\"");
    start(&mut rig);
    assert_ne!(fs::read(certificate(&rig)).unwrap(), before);
    assert_eq!(key(&certificate(&rig)), first_key);
    for name in ["xa-moi.local", "xa-tan-bien.local"] {
        assert!(is_trusted(&rig, name), "{name}");
    }
    // What cannot be read is made anew.
    rig.kill_box(XA);
    for end in ["key", "crt"] {
        fs::write(rig.boxes[XA].folder.join(format!("https.{end}")), "hỏng").unwrap();
    }
    start(&mut rig);
    assert!(is_trusted(&rig, "xa-moi.local"));
    assert_ne!(key(&certificate(&rig)), first_key);
}

#[test]
fn a_certificate_is_made_anew_before_it_ends() {
    if rig::faketime().is_none() {
        println!("SKIPPED: no other day can be shown to this program");
        return;
    }
    let mut rig = one_box();
    open_to_the_network(&rig, "");
    let at = |rig: &mut Rig, days| {
        rig.kill_box(XA);
        rig.set_days_ahead(days);
        start(rig);
        fs::read(certificate(rig)).unwrap()
    };
    let first = at(&mut rig, 0);
    assert_eq!(at(&mut rig, 700), first);
    assert_ne!(at(&mut rig, 740), first);
}

#[test]
fn who_speaks_plain_http_is_led_to_https() {
    let mut rig = one_box();
    open_to_the_network(&rig, "");
    start(&mut rig);
    let file = certificate(&rig);
    let led = curl(
        &rig,
        &["--location", "--cacert", file.to_str().unwrap()],
        "http://xa-tan-bien.local:PORT/?lang=en",
    );
    let page = String::from_utf8_lossy(&led.stdout).into_owned();
    assert!(
        led.status.success() && page.contains("<html lang=\"en\""),
        "{page}"
    );
    let told = curl(
        &rig,
        &[
            "--no-fail",
            "--include",
            "--data",
            "{}",
            "--header",
            "Authorization: Bearer x",
        ],
        "http://127.0.0.1:PORT/v1/records/ho_so_tthc",
    );
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert!(
        text.contains("https://") && text.contains("hãy đổi mã khác"),
        "{text}"
    );
}
