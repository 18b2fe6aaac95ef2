//! The yearly rehearsal with a real box and hub: what it reports, and that it leaves nothing behind.
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

use std::collections::BTreeSet;
use std::fs;

use one_box::{AGENCY, SOON, XA, configure, one_box, said};
use rig::{Rig, hand_in_all};
use rusqlite::Connection;

const REHEARSALS: [&str; 5] = [
    "1. Đứt đường truyền và mất điện: ",
    "2. Kho đầy: ",
    "3. Chứng thư hết hạn: ",
    "4. Khôi phục từ bản sao lưu: ",
    "5. Gửi thật về trục: ",
];

/// The verdict of each rehearsal.
fn verdicts(report: &str) -> Vec<&str> {
    let of = |name: &str| report.lines().find_map(|line| line.strip_prefix(name));
    REHEARSALS.map(|name| of(name).unwrap_or(report)).to_vec()
}

fn files(rig: &Rig) -> BTreeSet<String> {
    let folder = fs::read_dir(&rig.boxes[XA].folder).unwrap();
    folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect()
}

fn marks(rig: &Rig) -> usize {
    let entries = rig.entries(XA);
    let marks = entries
        .iter()
        .filter(|entry| entry["data"]["su_kien"] == "dien_tap");
    marks.count()
}

#[test]
fn a_sound_box_passes_and_is_left_as_it_was() {
    let mut rig = one_box();
    rig.start_box(XA);
    hand_in_all(rig.boxes[XA].http_port, AGENCY, 40, 20);
    rig.wait_until_drained(XA, SOON);
    let before = files(&rig);
    let report = said(&rig, &["drill"], 0);
    assert!(report.starts_with("BIÊN BẢN DIỄN TẬP"), "{report}");
    assert_eq!(verdicts(&report), ["ĐẠT"; 5], "{report}");
    assert!(report.contains("trục đã ký biên nhận"), "{report}");
    assert!(report.contains("40 mục"), "{report}");
    // Fit for the file.
    for (part, times) in [
        ("Trạm: xa-tan-bien", 1),
        ("Máy: ", 1),
        ("Tài khoản thực hiện lệnh: ", 1),
        ("   Cách làm: ", 5),
        ("   Mong đợi: ", 5),
        ("   Kết quả: ", 5),
        ("Chưa diễn tập trong buổi này", 1),
        ("(ký, ghi rõ họ tên)", 2),
    ] {
        assert_eq!(report.matches(part).count(), times, "{part} in {report}");
    }
    let mut after = files(&rig);
    after.remove("backup.lock");
    assert_eq!(after, before, "everything that was made for it is gone");
    assert_eq!(marks(&rig), 1);
    rig.assert_exactly(XA, AGENCY, 40);

    rig.kill_hub();
    rig.kill_broker();
    rig::wait_for("the link is seen to be down", SOON, || {
        rig.status(XA)["link"]["state"] != "up"
    });
    let report = said(&rig, &["drill"], 0);
    assert!(report.contains("hiện không có đường truyền"), "{report}");
    rig.kill_box(XA);
    let report = said(&rig, &["drill"], 0);
    assert!(report.contains("dịch vụ không chạy"), "{report}");
    rig.start_broker();
    rig.start_hub();
    rig.start_box(XA);
    rig.wait_until_drained(XA, SOON);
    assert_eq!(marks(&rig), 2);
    rig.assert_exactly(XA, AGENCY, 40);
}

#[test]
fn a_store_that_is_not_sound_does_not_pass() {
    let mut rig = one_box();
    rig.kill_hub();
    rig.start_box(XA);
    hand_in_all(rig.boxes[XA].http_port, AGENCY, 40, 20);
    rig.kill_box(XA);
    let store = Connection::open(rig.boxes[XA].folder.join("box.db")).unwrap();
    let changed = store
        .execute(
            "UPDATE outbox SET chain = zeroblob(32) WHERE place = (SELECT max(place) FROM outbox)",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    drop(store);
    let report = said(&rig, &["drill"], 1);
    let verdicts = verdicts(&report);
    let bad = "KHÔNG ĐẠT";
    // What was there before is held against its chain after each rehearsal with the store.
    assert_eq!(verdicts[..4], [bad, bad, "ĐẠT", bad], "{report}");
    assert!(report.contains("3 tình huống không đạt"), "{report}");
}

#[test]
fn a_certificate_that_has_ended_does_not_pass() {
    let mut rig = one_box();
    rig.kill_hub();
    rig.start_box(XA);
    rig.kill_box(XA);
    // The store knows a time, surely past, that is after the certificate's end.
    let store = Connection::open(rig.boxes[XA].folder.join("box.db")).unwrap();
    let floor_ms = 4_000_000_000_000_i64;
    let changed = store.execute("UPDATE box SET time_floor_ms = ?1", [floor_ms]);
    assert_eq!(changed.unwrap(), 1);
    drop(store);
    let report = said(&rig, &["drill"], 1);
    assert_eq!(verdicts(&report)[2], "KHÔNG ĐẠT", "{report}");
    assert!(report.contains("đã hết hạn thật"), "{report}");
    assert!(report.contains("1 tình huống không đạt"), "{report}");
}

#[test]
fn a_box_that_does_not_take_the_marker_does_not_pass() {
    let mut rig = one_box();
    rig.kill_hub();
    configure(&rig, "20-alarm.toml", "[alarms]\ndataset = \"khong_co\"\n");
    rig.start_box(XA);
    let report = said(&rig, &["drill"], 1);
    assert_eq!(verdicts(&report)[4], "KHÔNG ĐẠT", "{report}");
    assert!(report.contains("không nhận bản ghi đánh dấu"), "{report}");
}
