//! Backup and restore of a box with the real programs: while records come in, over a lost disk, with
//! archives that are of no use, and killed in the middle.
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
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lienthong::evidence::sha256;
use one_box::{AGENCY, SOON, XA, config, configure, one_box, said};
use rig::{Rig, TOKEN, agent, hand_in_all, run, tramd, wait_for};
use rusqlite::Connection;
use serde_json::Value;

fn folder(rig: &Rig) -> PathBuf {
    rig.boxes[XA].folder.clone()
}

fn backup_file(rig: &Rig, name: &str) -> PathBuf {
    let place = rig.folder.path().join("saoluu");
    fs::create_dir_all(&place).unwrap();
    place.join(name)
}

fn hand_in_to(rig: &Rig, count: u32) {
    hand_in_all(rig.boxes[XA].http_port, AGENCY, count, 20);
}

/// Everything that the box has written, as if its disk had been replaced.
fn lose_the_disk(rig: &Rig) {
    for entry in fs::read_dir(folder(rig)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_data = ["box.db", "down.db", "backup.json", "blobs", "received"]
            .iter()
            .any(|data| name.starts_with(data));
        match path.is_dir() {
            true if is_data => fs::remove_dir_all(&path).unwrap(),
            false if is_data => fs::remove_file(&path).unwrap(),
            _ => {}
        }
    }
}

fn put_file(rig: &Rig, content: &[u8]) -> String {
    let digest: String = sha256(content).iter().map(|b| format!("{b:02x}")).collect();
    let port = rig.boxes[XA].http_port;
    let answer = agent()
        .put(format!("http://127.0.0.1:{port}/v1/blobs/{digest}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/pdf")
        .send(content)
        .unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    digest
}

/// What the box says of a run of a command, whatever its exit code.
fn tried(rig: &Rig, arguments: &[&str]) -> (i32, String) {
    let mut command = tramd();
    command.args(arguments).arg("--config").arg(config(rig));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

fn stored(path: &Path) -> i64 {
    let store = Connection::open(path).unwrap();
    let count = store.query_row("SELECT coalesce(sum(entries), 0) FROM outbox", [], |row| {
        row.get(0)
    });
    count.unwrap()
}

#[test]
fn a_box_that_lost_its_disk_goes_on_from_its_backup() {
    let mut rig = one_box();
    rig.start_box(XA);
    hand_in_to(&rig, 60);
    rig.wait_until_drained(XA, SOON);
    rig.kill_hub();
    rig.kill_broker();
    hand_in_to(&rig, 160);
    let file = put_file(&rig, b"%PDF-1.7 to trinh");
    // Records go on coming in while the backup is made.
    let port = rig.boxes[XA].http_port;
    let caller = std::thread::spawn(move || hand_in_all(port, AGENCY, 600, 20));
    let archive = backup_file(&rig, "xa.tar.zst");
    let text = said(&rig, &["backup", archive.to_str().unwrap()], 0);
    assert!(text.contains("khôi phục thử tốt"), "{text}");
    caller.join().unwrap();
    let before = rig.status(XA)["store"]["epoch"].clone();
    rig.kill_box(XA);
    lose_the_disk(&rig);

    let text = said(&rig, &["restore", archive.to_str().unwrap()], 0);
    assert!(text.contains("Đã khôi phục"), "{text}");
    rig.start_box(XA);
    let status = rig.status(XA);
    assert_ne!(
        status["store"]["epoch"], before,
        "old numbers are not used again"
    );
    let events = status["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["code"] == "restored"),
        "{events:?}"
    );
    assert!(
        folder(&rig)
            .join("blobs")
            .join(&file[..2])
            .join(&file)
            .is_file()
    );
    let waiting = rig.waiting(XA);
    assert!((160..=600).contains(&waiting), "{waiting}");
    // What the office's software did not hear "accepted" of, or hands in again, is taken once.
    hand_in_to(&rig, 600);
    rig.start_broker();
    rig.start_hub();
    rig.wait_until_drained(XA, SOON);
    rig.assert_exactly(XA, AGENCY, 600);
}

#[test]
fn what_is_of_no_use_is_refused_and_changes_nothing() {
    let mut rig = one_box();
    rig.kill_broker();
    rig.start_box(XA);
    hand_in_to(&rig, 40);
    let archive = backup_file(&rig, "xa.tar.zst");
    let archive_text = archive.to_str().unwrap();
    said(&rig, &["backup", archive_text], 0);
    let (code, text) = tried(&rig, &["backup", archive_text]);
    assert!(code == 1 && text.contains("đã có"), "{text}");
    let (code, text) = tried(&rig, &["restore", archive_text]);
    assert!(code == 1 && text.contains("stop it first"), "{text}");
    rig.kill_box(XA);

    let (code, text) = tried(&rig, &["restore", archive_text]);
    assert!(
        code == 1 && text.contains("--replace") && text.contains("40"),
        "{text}"
    );
    let whole = fs::read(&archive).unwrap();
    for (name, bytes) in [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("flipped", {
            let mut bytes = whole.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("other", b"khong phai la ban sao luu".to_vec()),
    ] {
        let bad = backup_file(&rig, name);
        fs::write(&bad, bytes).unwrap();
        let (code, text) = tried(&rig, &["restore", "--replace", bad.to_str().unwrap()]);
        assert!(
            code == 1 && text.contains("không dùng được"),
            "{name}: {text}"
        );
    }
    let other = rig.port;
    rig.add_box("xa-hoa-hiep", "H53.13", other);
    let foreign = rig.boxes["xa-hoa-hiep"].folder.join("tramd.toml");
    let output = run(
        tramd()
            .args(["restore", archive_text, "--config"])
            .arg(&foreign),
        1,
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("là của trạm xa-tan-bien"), "{text}");

    assert_eq!(stored(&folder(&rig).join("box.db")), 40);
    for left in ["restore.tmp", "restore.ready", "backup.tmp"] {
        assert!(!folder(&rig).join(left).exists(), "{left}");
    }
    // Replaced on purpose: set aside, not deleted.
    said(&rig, &["restore", "--replace", archive_text], 0);
    let aside = fs::read_dir(folder(&rig)).unwrap();
    let aside = aside.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    assert!(
        aside
            .into_iter()
            .any(|name| name.starts_with("box.db.replaced-"))
    );
    assert_eq!(stored(&folder(&rig).join("box.db")), 40);
}

#[test]
fn a_restore_that_is_killed_anywhere_leaves_the_old_store_or_the_new() {
    let mut rig = one_box();
    rig.kill_broker();
    rig.start_box(XA);
    hand_in_to(&rig, 200);
    let archive = backup_file(&rig, "xa.tar.zst");
    said(&rig, &["backup", archive.to_str().unwrap()], 0);
    hand_in_to(&rig, 300);
    rig.kill_box(XA);
    let began = std::time::Instant::now();
    let whole = |rig: &Rig| {
        let mut command = tramd();
        let restore = ["restore", "--replace", archive.to_str().unwrap()];
        command.args(restore).arg("--config").arg(config(rig));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    assert!(whole(&rig).wait().unwrap().success());
    let takes = began.elapsed();
    for round in 0..16u32 {
        // From here on the store holds 200 when the restore was done, else what it held before.
        let mut child = whole(&rig);
        std::thread::sleep(takes * round / 15);
        let _ = child.kill();
        child.wait().unwrap();
        rig.start_box(XA);
        let waiting = rig.waiting(XA);
        assert!(
            waiting == 200 || waiting == 200 + u64::from(round),
            "{waiting} after round {round}"
        );
        assert!(!folder(&rig).join("restore.ready").exists());
        rig.kill_box(XA);
        let _ = fs::remove_dir_all(folder(&rig).join("restore.tmp"));
    }
}

#[test]
fn copies_of_others_data_are_not_in_a_backup_and_the_offices_own_documents_are() {
    let mut rig = one_box();
    rig.start_box(XA);
    hand_in_to(&rig, 5);
    rig.wait_until_drained(XA, SOON);
    rig.kill_box(XA);
    let down = Connection::open(folder(&rig).join("down.db")).unwrap();
    let copied: i64 = down
        .query_row(
            "SELECT count(*) FROM pragma_table_info('copy')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(5 < copied, "the table is there");
    down.execute_batch(
        "INSERT INTO copied VALUES (1, 'ho_tich', 0, 0, 0, 0, 0, 0, 0, 1, '', NULL);
         INSERT INTO copy VALUES
           (1, 1, x'00', 1, 0, 1, 'H53.20', 'S1', '{\"ten\":\"DAUHIEU-BANSAO\"}', NULL);
         CREATE VIRTUAL TABLE copy_text_1 USING fts5(exact, folded);
         INSERT INTO copy_text_1 VALUES ('DAUHIEU-TIM', 'DAUHIEU-TIM');
         INSERT INTO document (id, dataset, schema, subject, sender, recipient, at_ms, received_ms, data)
           VALUES ('v1', 'van_ban_dien_tu', 1, 's', 'H53.20', 'H53.12', 0, 0, '{\"so\":\"DAUHIEU-VANBAN\"}');",
    )
    .unwrap();
    drop(down);
    let archive = backup_file(&rig, "xa.tar.zst");
    said(&rig, &["backup", archive.to_str().unwrap()], 0);
    let unpacked = backup_file(&rig, "unpacked");
    fs::create_dir(&unpacked).unwrap();
    // With the tools of any Linux machine.
    run(
        std::process::Command::new("tar")
            .args(["--zstd", "-xf"])
            .arg(&archive)
            .arg("-C")
            .arg(&unpacked),
        0,
    );
    let holds = |marker: &str| {
        let bytes = fs::read(unpacked.join("down.db")).unwrap();
        bytes
            .windows(marker.len())
            .any(|at| at == marker.as_bytes())
    };
    assert!(holds("DAUHIEU-VANBAN"));
    assert!(!holds("DAUHIEU-BANSAO") && !holds("DAUHIEU-TIM"));
    let manifest = fs::read_to_string(unpacked.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["box"], XA);
    for secret in ["box.key", "tramd.toml"] {
        assert!(!unpacked.join(secret).exists());
    }

    rig.kill_hub();
    lose_the_disk(&rig);
    said(&rig, &["restore", archive.to_str().unwrap()], 0);
    rig.start_hub();
    rig.start_box(XA);
    let url = format!("http://127.0.0.1:{}/status.json", rig.boxes[XA].http_port);
    assert!(agent().get(url).call().is_ok());
    let down = Connection::open(folder(&rig).join("down.db")).unwrap();
    let documents: i64 = down
        .query_row("SELECT count(*) FROM document", [], |row| row.get(0))
        .unwrap();
    assert_eq!(documents, 1);
}

#[test]
fn every_night_a_backup_and_a_share_that_is_not_there_is_said() {
    let mut rig = one_box();
    let share = rig.folder.path().join("o-mang");
    let settings = format!("[backup]\nfolder = \"{}\"\nkeep = 3\n", share.display());
    configure(&rig, "30-backup.toml", &settings);
    rig.start_box(XA);
    hand_in_to(&rig, 10);
    let results = |rig: &Rig| -> Value {
        let text = fs::read(folder(rig).join("backup.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    };
    let fault = |rig: &Rig| results(rig)["fault"]["text_vi"].as_str().map(str::to_owned);
    wait_for("the missing share is said", SOON, || fault(&rig).is_some());
    let text = fault(&rig).unwrap();
    assert!(text.contains("không có thư mục"), "{text}");
    assert!(!share.exists(), "it is never made");
    let events = rig.status(XA)["events"].clone();
    assert!(events.to_string().contains("backup_failed"), "{events}");
    let told = rig.status(XA)["backup"].clone();
    assert_eq!(told["fault"]["code"], "backup_no_folder", "{told}");
    assert!(told["last"].is_null() && told["next"].is_string(), "{told}");
    for (path, words) in [
        ("/", ["Sao lưu không thành công", "Kiểm tra ổ mạng"]),
        (
            "/?lang=en",
            ["The backup failed", "share or stick is mounted"],
        ),
    ] {
        let page = page(&rig, path);
        assert!(words.iter().all(|word| page.contains(word)), "{page}");
    }
    let text = said(&rig, &["status"], 0);
    assert!(text.contains("chưa có lần nào; lỗi lúc"), "{text}");
    rig.kill_box(XA);

    fs::create_dir(&share).unwrap();
    fs::remove_file(folder(&rig).join("backup.json")).unwrap();
    rig.start_box(XA);
    wait_for("the backup of last night is made up for", SOON, || {
        results(&rig)["last"].is_object()
    });
    let made = results(&rig);
    assert_eq!(made["last"]["entries"], 10, "{made}");
    assert_eq!(made["last"]["same_disk"], true);
    assert!(made["fault"].is_null());
    let path = PathBuf::from(made["last"]["file"].as_str().unwrap());
    assert_eq!(path.parent().unwrap(), share);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(fs::read_dir(&share).unwrap().count(), 1);
    let told = rig.status(XA)["backup"].clone();
    assert_eq!(told["last"], made["last"]);
    let page = page(&rig, "/");
    assert!(!page.contains("Sao lưu không thành công"), "{page}");
    assert!(page.contains("đã khôi phục thử tốt"), "{page}");
    assert!(page.contains("cùng đĩa với dữ liệu"), "{page}");
    let text = said(&rig, &["status"], 0);
    assert!(text.contains("10 bản ghi, đã khôi phục thử tốt"), "{text}");

    // Nights went by without one.
    rig.kill_box(XA);
    let mut old = made.clone();
    old["last"]["at"] = "2026-01-02T02:30:00.000+07:00".into();
    fs::write(folder(&rig).join("backup.json"), old.to_string()).unwrap();
    fs::rename(&share, rig.folder.path().join("thao-ra")).unwrap();
    let text = said(&rig, &["status"], 0);
    assert!(text.contains("QUÁ CŨ"), "{text}");
}

fn page(rig: &Rig, path: &str) -> String {
    let url = format!("http://127.0.0.1:{}{path}", rig.boxes[XA].http_port);
    let mut answer = agent().get(url).call().unwrap();
    answer.body_mut().read_to_string().unwrap()
}

#[test]
fn a_hub_that_lost_its_machine_goes_on_from_its_backup() {
    let mut rig = one_box();
    rig.start_box(XA);
    hand_in_to(&rig, 100);
    rig.wait_until_drained(XA, SOON);
    // Ordered before the backup, and after it.
    let pause = |rig: &Rig, kbits: &str| {
        rig.trucd(
            &[
                "command",
                XA,
                "set_bandwidth",
                &format!("00:00-23:59 {kbits}"),
            ],
            0,
        );
    };
    let timetable = |rig: &Rig| rig.status(XA)["bandwidth"].to_string();
    pause(&rig, "7001");
    wait_for("the box has obeyed", SOON, || {
        timetable(&rig).contains("7001")
    });
    let archive = backup_file(&rig, "truc.tar.zst");
    let archive_text = archive.to_str().unwrap();
    let text = rig.trucd(&["backup", archive_text], 0);
    assert!(text.contains("đọc lại đúng"), "{text}");
    hand_in_to(&rig, 300);
    rig.wait_until_drained(XA, SOON);
    pause(&rig, "7002");
    wait_for("the box has obeyed", SOON, || {
        timetable(&rig).contains("7002")
    });

    let running = run(
        rig::trucd()
            .args(["restore", "--replace", archive_text, "--config"])
            .arg(rig.hub_folder().join("trucd.toml")),
        1,
    );
    let running = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(running.contains("trục đang chạy"), "{running}");
    rig.kill_hub();
    let lost = rig.hub_folder().with_extension("lost");
    fs::rename(rig.hub_folder(), &lost).unwrap();
    let text = rig.trucd(&["restore", archive_text], 0);
    assert!(text.contains("Đã khôi phục"), "{text}");
    for key in ["ca.key", "receipt.key", "trucd.toml"] {
        let same = |folder: &Path| fs::read(folder.join(key)).unwrap();
        assert_eq!(same(&rig.hub_folder()), same(&lost), "{key}");
    }
    rig.start_hub();
    rig.kill_box(XA);
    rig.start_box(XA);
    wait_for("the box has sent again what is missing", SOON, || {
        rig.at_hub(XA).len() == 300
    });
    rig.assert_exactly(XA, AGENCY, 300);
    pause(&rig, "7003");
    wait_for("what the hub says now is heard", SOON, || {
        timetable(&rig).contains("7003")
    });

    rig.kill_hub();
    let (config, path) = (rig.hub_folder().join("trucd.toml"), archive_text);
    let refused = run(
        rig::trucd()
            .args(["restore", path, "--config"])
            .arg(&config),
        1,
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--replace"));
    let other = rig.folder.path().join("other");
    run(
        rig::trucd()
            .arg("init")
            .arg(&other)
            .args(["--listen", "127.0.0.1:0", "--ip", "127.0.0.1"]),
        0,
    );
    let refused = run(
        rig::trucd()
            .args(["restore", "--replace", path, "--config"])
            .arg(other.join("trucd.toml")),
        1,
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("một trục khác"));
    fs::write(&archive, &fs::read(&archive).unwrap()[1_000..]).unwrap();
    let refused = run(
        rig::trucd()
            .args(["restore", "--replace", path, "--config"])
            .arg(&config),
        1,
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("không dùng được"));
    rig.start_hub();
    rig.assert_exactly(XA, AGENCY, 300);
}

/// The database counts on what has come so far of a file: without it the file would never be whole.
#[test]
fn a_file_that_was_on_its_way_when_the_hub_was_lost_arrives_whole() {
    let mut rig = one_box();
    configure(
        &rig,
        "30-line.toml",
        "[hub]\nbandwidth = [\"00:00-23:59 1200\"]\n",
    );
    rig.start_box(XA);
    let mut content = b"%PDF-1.7".to_vec();
    for number in 0..40_000_u32 {
        content.extend(sha256(&number.to_be_bytes()));
    }
    let file = put_file(&rig, &content);
    let part = |rig: &Rig| {
        let parts = fs::read_dir(rig.hub_folder().join("blobs/parts"));
        let mut parts = parts.into_iter().flatten().flatten();
        parts.any(|part| 200_000 < part.metadata().unwrap().len())
    };
    let data: Value = serde_json::from_str(&rig::dossier(AGENCY, 1)).unwrap();
    let event = serde_json::json!({
        "specversion": "1.0", "id": "tep-1", "source": "urn:mot-cua",
        "type": rig::DATASET, "data": data,
        "attachments": [{"name": "to-trinh.pdf", "mime": "application/pdf",
            "bytes": content.len(), "sha256": file}],
    });
    let port = rig.boxes[XA].http_port;
    let answer = agent()
        .post(format!(
            "http://127.0.0.1:{port}/v1/records/{}",
            rig::DATASET
        ))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/cloudevents+json")
        .send(event.to_string());
    assert_eq!(answer.unwrap().status().as_u16(), 201);
    wait_for("a part of the file is at the hub", SOON, || part(&rig));
    let archive = backup_file(&rig, "truc.tar.zst");
    rig.trucd(&["backup", archive.to_str().unwrap()], 0);
    rig.kill_hub();
    fs::rename(rig.hub_folder(), rig.hub_folder().with_extension("lost")).unwrap();
    rig.trucd(&["restore", archive.to_str().unwrap()], 0);
    rig.start_hub();
    let kept = rig.hub_folder().join("blobs").join(&file[..2]).join(&file);
    wait_for("the file is whole", 2 * SOON, || kept.is_file());
    rig.trucd(&["verify", "--attachments"], 0);
}
