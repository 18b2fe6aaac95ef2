//! A box is replaced by a new machine, with the real programs: with its last backup and without one,
//! and the old machine wakes up again.
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
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use one_box::{AGENCY, SOON, XA, one_box, said};
use rig::{Process, Rig, code, free_port, hand_in, tramd, wait_for};

const LONG: Duration = Duration::from_secs(60);

fn folder(rig: &Rig) -> PathBuf {
    rig.boxes[XA].folder.clone()
}

fn hand_in_to(rig: &Rig, numbers: Range<u32>) {
    wait_for("the box takes it", SOON, || {
        hand_in(rig.boxes[XA].http_port, AGENCY, numbers.clone())
    });
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &place),
            false if path.extension().is_some_and(|end| end == "sock") => {}
            false => drop(fs::copy(&path, &place).unwrap()),
        }
    }
}

/// The old machine is set aside as it is; the new one has the configuration of the old one, a key
/// that the hub has just issued, and an empty disk.
fn replace_machine(rig: &mut Rig) -> PathBuf {
    rig.kill_box(XA);
    let old = rig.folder.path().join("old-machine");
    copy_folder(&folder(rig), &old);
    for entry in fs::read_dir(folder(rig)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_installed = [
            "tramd.toml",
            "tramd.d",
            "ca.crt",
            "hub.pub",
            "box.crt",
            "box.key",
        ];
        match (is_installed.contains(&name), path.is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir_all(&path).unwrap(),
            (false, false) => fs::remove_file(&path).unwrap(),
        }
    }
    let stick = rig.folder.path().join("usb");
    rig.trucd(&["box", "reissue", XA, "--out", stick.to_str().unwrap()], 0);
    for file in ["box.crt", "box.key"] {
        fs::copy(stick.join(file), folder(rig).join(file)).unwrap();
    }
    old
}

/// The old machine is switched on again, with whatever it still has.
fn wake(rig: &Rig, old: &Path) -> (Process, u16) {
    let port = free_port();
    let drop_in = old.join("tramd.d/10-test.toml");
    let text = fs::read_to_string(&drop_in).unwrap();
    let before = format!("127.0.0.1:{}", rig.boxes[XA].http_port);
    assert!(text.contains(&before));
    fs::write(
        &drop_in,
        text.replace(&before, &format!("127.0.0.1:{port}")),
    )
    .unwrap();
    let mut command = tramd();
    command
        .args(["run", "--config"])
        .arg(old.join("tramd.toml"));
    let log = rig.folder.path().join("old-machine.log");
    (Process::start("the old machine", &mut command, &log), port)
}

/// Which of these dossiers the hub has, and how often at most.
fn has(rig: &Rig, numbers: Range<u32>) -> (usize, u32) {
    let found = rig.at_hub(XA);
    let times: Vec<u32> = numbers
        .filter_map(|n| found.get(&code(AGENCY, n)).copied())
        .collect();
    (times.len(), times.iter().copied().max().unwrap_or(0))
}

#[test]
fn with_its_last_backup_a_box_goes_on_and_the_old_machine_is_refused() {
    let mut rig = one_box();
    rig.start_box(XA);
    hand_in_to(&rig, 0..60);
    rig.wait_until_drained(XA, SOON);
    rig.kill_hub();
    hand_in_to(&rig, 60..160);
    let archive = rig.folder.path().join("xa.tar.zst");
    said(&rig, &["backup", archive.to_str().unwrap()], 0);
    // After the backup: what still reaches the hub, and what dies with the disk.
    hand_in_to(&rig, 160..200);
    rig.start_hub();
    rig.wait_until_drained(XA, LONG);
    assert_eq!(has(&rig, 0..200), (200, 1));
    rig.kill_hub();
    hand_in_to(&rig, 200..220);
    let epoch = rig.status(XA)["store"]["epoch"].clone();
    let old = replace_machine(&mut rig);
    said(&rig, &["restore", archive.to_str().unwrap()], 0);
    rig.start_box(XA);
    let status = rig.status(XA);
    assert_ne!(
        status["store"]["epoch"], epoch,
        "old numbers are not used again"
    );
    let events = status["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["code"] == "restored"));
    rig.start_hub();
    hand_in_to(&rig, 300..320);
    rig.wait_until_drained(XA, LONG);
    assert_eq!(has(&rig, 0..200), (200, 1), "what was sent again is known");
    assert_eq!(has(&rig, 300..320), (20, 1));
    // The office's software hands in what it has no trace of.
    hand_in_to(&rig, 200..210);
    rig.wait_until_drained(XA, LONG);
    assert_eq!(has(&rig, 200..210), (10, 1));

    // The old machine still holds ten of which nobody else knows; it is not heard any more.
    let (machine, port) = wake(&rig, &old);
    wait_for("the old machine takes in", SOON, || {
        hand_in(port, AGENCY, 400..405)
    });
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(has(&rig, 210..220).0, 0);
    assert_eq!(has(&rig, 400..405).0, 0);
    let config = old.join("tramd.toml");
    let output = tramd()
        .args(["status", "--json", "--config"])
        .arg(config)
        .output();
    let status: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let refused = &status["refused_by_hub"];
    assert!(
        status["link"]["state"] != "up" || !refused.is_null(),
        "{status}"
    );
    let waiting = status["lanes"].as_array().unwrap().iter();
    let waiting: u64 = waiting.map(|lane| lane["waiting"].as_u64().unwrap()).sum();
    assert!(15 <= waiting, "it keeps what it has: {waiting}");
    machine.kill();
    // The new one goes on as if nothing had been.
    hand_in_to(&rig, 320..330);
    rig.wait_until_drained(XA, LONG);
    assert_eq!(has(&rig, 300..330), (30, 1));
    rig.verify();
}

#[test]
fn without_a_backup_a_new_store_begins_and_every_record_is_there_in_the_end() {
    let mut rig = one_box();
    rig.start_box(XA);
    hand_in_to(&rig, 0..80);
    rig.wait_until_drained(XA, SOON);
    let epoch = rig.status(XA)["store"]["epoch"].clone();
    rig.kill_hub();
    hand_in_to(&rig, 80..100);
    let old = replace_machine(&mut rig);
    rig.start_hub();
    rig.start_box(XA);
    assert_ne!(rig.status(XA)["store"]["epoch"], epoch);
    // The office's software hands everything in again, in the same pieces.
    hand_in_to(&rig, 0..80);
    hand_in_to(&rig, 80..100);
    rig.wait_until_drained(XA, LONG);
    // What the hub had is said once more about the same subjects; what died with the disk, once.
    assert_eq!(has(&rig, 80..100), (20, 1));
    let (there, most) = has(&rig, 0..80);
    assert!(there == 80 && most <= 2, "{there} {most}");
    rig.verify();
    let (machine, port) = wake(&rig, &old);
    wait_for("the old machine takes in", SOON, || {
        hand_in(port, AGENCY, 400..405)
    });
    std::thread::sleep(Duration::from_secs(5));
    machine.kill();
    assert_eq!(has(&rig, 400..405).0, 0, "it is not heard any more");
    hand_in_to(&rig, 100..110);
    rig.wait_until_drained(XA, LONG);
    assert_eq!(has(&rig, 100..110), (10, 1));
    rig.verify();
}
