//! A backup and a diagnostics bundle on a technician's word, by a real box.

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::browser::encoded;
use crate::deeds::only_shown;
use crate::one_box::{SOON, XA, configure, one_box, said};
use crate::rig::{Rig, run, wait_for};
use crate::{assert_audited, audit, hand_in, port, start, technician};

const BACKUP: &str = "/ky-thuat/sao-luu";
/// Between backups by hand.
const PAUSE: Duration = Duration::from_millis(1_100);
const BUNDLE: &str = "/ky-thuat/goi-chan-doan";

/// A box with a share for backups, which was made at its start.
fn with_share() -> (Rig, PathBuf) {
    let mut rig = one_box();
    rig.kill_hub();
    let share = rig.folder.path().join("o-mang");
    fs::create_dir(&share).unwrap();
    let settings = format!(
        "[backup]\nfolder = \"{}\"\nat = \"00:00\"\nkeep = 2\n",
        share.display()
    );
    configure(&rig, "30-backup.toml", &settings);
    rig.start_box(XA);
    wait_for("the nightly backup is made", SOON, || {
        let backup = rig.status(XA)["backup"].clone();
        assert!(backup["fault"].is_null(), "{backup}");
        backup["last"].is_object()
    });
    (rig, share)
}

/// Backups by hand that lie in the folder.
fn by_hand(share: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(share).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_str().unwrap().ends_with("-tay.tar.zst"))
        .collect()
}

#[test]
fn a_backup_is_made_on_a_word_and_its_result_told() {
    let (rig, share) = with_share();
    let mut browser = technician(&rig);
    hand_in(&rig, 1);
    let page = only_shown(&mut browser, &rig, BACKUP);
    for word in [share.to_str().unwrap(), "dữ liệu cá nhân", "0 bản ghi"] {
        assert!(page.body.contains(word), "{word} in {}", page.body);
    }
    assert!(by_hand(&share).is_empty(), "only shown");

    let page = browser.confirm(BACKUP, &[]).ok();
    assert!(page.body.contains("ĐẠT</strong>"), "{}", page.body);
    assert!(page.body.contains("1 bản ghi"), "{}", page.body);
    assert!(page.body.contains("đã khôi phục thử tốt"), "{}", page.body);
    let made = by_hand(&share);
    assert_eq!(made.len(), 1);
    let listed = run(Command::new("tar").args(["--zstd", "-tf"]).arg(&made[0]), 0);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("box.db"));
    assert_audited(&rig, "backup", "done");
    let told = rig.status(XA)["backup"].clone();
    assert_eq!(told["last"]["file"], made[0].to_str().unwrap());
    assert_eq!(told["last"]["entries"], 1);

    // Names tell seconds. A browser that goes away leaves the work to be finished.
    sleep(PAUSE);
    browser.get(BACKUP).ok();
    let form = format!("ma_bieu_mau={}&xac_nhan=1", browser.token);
    let cookie = format!("phien={}", encoded(&browser.cookies["phien"]));
    let mut stream = TcpStream::connect(("127.0.0.1", port(&rig))).unwrap();
    let head = format!(
        "POST {BACKUP} HTTP/1.1\r\nHost: tram\r\nCookie: {cookie}\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("it has begun");
    drop(stream);
    let done = || {
        let lines = audit(&rig);
        let backups = lines.iter().filter(|line| line["name"] == "backup");
        backups.filter(|line| line["result"] == "done").count()
    };
    wait_for("it is done all the same", SOON, || done() == 2);
    // Never more than `keep` by hand, and no night's is pushed out.
    for _ in 0..2 {
        sleep(PAUSE);
        browser.confirm(BACKUP, &[]).ok();
    }
    assert_eq!(by_hand(&share).len(), 2);
    assert_eq!(fs::read_dir(&share).unwrap().count(), 3);

    fs::rename(&share, rig.folder.path().join("thao-ra")).unwrap();
    let page = browser.confirm(BACKUP, &[]).ok();
    assert!(page.body.contains("HỎNG</strong>"), "{}", page.body);
    assert!(page.body.contains("không có thư mục"), "{}", page.body);
    assert!(page.body.contains("Kiểm tra ổ mạng"), "{}", page.body);
    assert_audited(&rig, "backup", "failed");
    assert_eq!(
        rig.status(XA)["backup"]["fault"]["code"],
        "backup_no_folder"
    );
}

#[test]
fn without_a_place_for_backups_the_page_says_how_to_get_one() {
    let rig = start();
    let mut browser = technician(&rig);
    let page = browser.get(BACKUP);
    assert_eq!(page.status, 409);
    assert!(page.body.contains("[backup]"), "{}", page.body);
    assert_eq!(browser.post(BACKUP, &[("xac_nhan", "1")]).status, 409);
}

#[test]
fn the_diagnostics_bundle_is_handed_out_without_a_trace_of_the_records() {
    let rig = start();
    let mut browser = technician(&rig);
    hand_in(&rig, 1);
    only_shown(&mut browser, &rig, BUNDLE);
    let page = browser.confirm(BUNDLE, &[]).ok();
    let head = page.head.to_lowercase();
    assert!(head.contains("content-type: application/zip"), "{head}");
    assert!(
        head.contains("content-disposition: attachment; filename=\"chan-doan-xa-tan-bien-2"),
        "{head}"
    );
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_audited(&rig, "bundle", "done");
    let path = rig.folder.path().join("goi.zip");
    fs::write(&path, &page.bytes).unwrap();
    let mut zip = zip::ZipArchive::new(Cursor::new(page.bytes)).unwrap();
    let names = names_in(&zip);
    for name in [
        "status.json",
        "check.txt",
        "config.txt",
        "audit.txt",
        "log.txt",
    ] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    for index in 0..zip.len() {
        let mut text = String::new();
        let mut file = zip.by_index(index).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert!(!text.contains("Trần Thị Bích"), "{text}");
    }
    let mut checks = String::new();
    let mut file = zip.by_name("check.txt").unwrap();
    file.read_to_string(&mut checks).unwrap();
    assert!(checks.contains("tcp-refused"), "{checks}");
    // The same as the command's.
    let other = rig.folder.path().join("lenh.zip");
    said(&rig, &["bundle", other.to_str().unwrap()], 0);
    let by_command = zip::ZipArchive::new(File::open(other).unwrap()).unwrap();
    assert_eq!(names, names_in(&by_command));
}

fn names_in<R: Read + Seek>(zip: &zip::ZipArchive<R>) -> Vec<String> {
    let names = zip.file_names().map(|name| name.unwrap().into_owned());
    names.collect()
}
