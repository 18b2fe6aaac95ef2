//! Binary columns of real databases as attachments: taken byte for byte, changed with their row, and
//! parked or waited for where they have no room.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "bed/mod.rs"]
#[allow(dead_code)]
mod bed;
#[path = "bed/offices.rs"]
#[allow(dead_code)]
mod offices;
#[path = "bed/reading.rs"]
#[allow(dead_code)]
mod reading;
#[path = "bed/servers.rs"]
mod servers;

use bed::Bed;
use lienthong::edge::blobs::Blobs;
use lienthong::edge::rows::parked::{Retried, drop_row};
use lienthong::store::rows::{Parked, RowsView};
use offices::{Kind, Office, by_id, by_time, code, snapshot};
use reading::{NAME, start};
use serde_json::Value;

const LIMIT: u64 = 400 << 10;

/// Bytes that no text is made of, another row's being others.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let byte = |at: usize| (at as u64 * 31 + seed * 7 + at as u64 / 251) as u8;
    (0..length).map(byte).collect()
}

/// Each entry of a dossier in order: its operation, and what it says of its attachments.
fn files_of(entries: &[Value], id: u64) -> Vec<(String, Vec<Value>)> {
    let mut found: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["subject"] == code(id).as_str())
        .collect();
    found.sort_by_key(|entry| entry["capture"].as_u64());
    let of = |entry: &&Value| {
        let op = entry["op"].as_str().unwrap_or("upsert").to_owned();
        let files = entry["attachments"].as_array().cloned();
        (op, files.unwrap_or_default())
    };
    found.iter().map(of).collect()
}

/// Whether the store has exactly this file under the name that the record gives it.
fn is_kept(bed: &Bed, file: &Value, id: u64, expected: &[u8]) -> bool {
    let kept = Blobs::beside(&bed.store(), 1 << 30).get(file["sha256"].as_str().unwrap());
    file["name"] == format!("Đơn {id}.pdf").as_str()
        && file["mime"] == "application/pdf"
        && file["bytes"] == expected.len()
        && kept.unwrap().as_deref() == Some(expected)
}

fn parked(bed: &Bed) -> Vec<Parked> {
    let view = RowsView::open(&bed.store()).unwrap();
    view.parked(NAME, 0, 100).unwrap()
}

async fn office_with_files(kind: Kind) -> Office {
    let mut office = Office::open(kind).await;
    office.add_file_columns().await;
    office.add(1..=40).await;
    // Pages are bounded by their bytes: these are several.
    for id in (2..=40).step_by(2) {
        office
            .attach(id, Some(&content(id, id as usize * 8_000)))
            .await;
    }
    office.attach(3, Some(&[])).await;
    office
}

fn all_are_kept(bed: &Bed, entries: &[Value]) {
    for id in 1..=40 {
        let found = files_of(entries, id);
        assert_eq!(found.len(), 1, "{id}: {found:?}");
        let files = &found[0].1;
        match id % 2 {
            0 => assert!(
                files.len() == 1 && is_kept(bed, &files[0], id, &content(id, id as usize * 8_000)),
                "{id}: {files:?}"
            ),
            _ => assert!(files.is_empty(), "{id}: {files:?}"),
        }
    }
}

async fn files_come_with_their_rows(kind: Kind) {
    let mut office = office_with_files(kind).await;
    let bed = Bed::new();
    let mut config = office.config_with_files(by_id(), 100);
    config.attachment_bytes_max = LIMIT;
    let source = start(&bed, config);
    source.until_read().await;
    // One too large is parked, the next one passes.
    office.add(41..=41).await;
    office
        .attach(41, Some(&content(41, LIMIT as usize + 1)))
        .await;
    office.add(42..=42).await;
    office.attach(42, Some(&content(42, 9))).await;
    source.until_read().await;
    source.until_read().await;
    source.stop().await;
    let entries = bed.entries();
    all_are_kept(&bed, &entries);
    // The file of 42 may have come after its row was read; it is in the row or it is not.
    assert_eq!(files_of(&entries, 42).len(), 1);
    let parked = parked(&bed);
    if let [parked] = parked.as_slice() {
        assert!(!parked.is_whole && parked.attachments.is_empty());
        assert!(
            parked.reason_en.contains("attachment_max (400 KiB)"),
            "{parked:?}"
        );
        assert!(parked.reason_vi.contains("“tep”"), "{parked:?}");
    }
}

async fn a_changed_file_is_a_changed_row_by_time(kind: Kind) {
    let mut office = office_with_files(kind).await;
    let bed = Bed::new();
    let source = start(&bed, office.config_with_files(by_time(), 100));
    source.until_read().await;
    // Within what is read again, the time of the row being the same.
    office.attach(4, Some(b"khac")).await;
    source.until_read().await;
    office.attach(6, None).await;
    source.until_read().await;
    source.until_read().await;
    source.stop().await;
    let mut entries = bed.entries();
    let four = files_of(&entries, 4);
    assert_eq!(four.len(), 2, "{four:?}");
    assert!(is_kept(&bed, &four[1].1[0], 4, b"khac"));
    let six = files_of(&entries, 6);
    assert!(six.len() == 2 && six[1].1.is_empty(), "{six:?}");
    let changed = [code(4), code(6)];
    let last = entries.iter().map(|entry| entry["capture"].as_u64()).max();
    assert_eq!(entries.len(), 42, "each once, and two changes: {last:?}");
    // What they were first.
    entries.sort_by_key(|entry| entry["capture"].as_u64());
    entries.truncate(40);
    assert!(changed.iter().all(|code| {
        entries
            .iter()
            .any(|entry| entry["subject"] == code.as_str())
    }));
    all_are_kept(&bed, &entries);
}

async fn a_changed_file_is_a_changed_row_of_a_snapshot(kind: Kind) {
    let mut office = office_with_files(kind).await;
    let bed = Bed::new();
    let mut config = office.config_with_files(snapshot(20), 100);
    config.attachment_bytes_max = LIMIT;
    let source = start(&bed, config);
    source.until_read().await;
    office.attach(4, Some(b"khac")).await;
    office.attach(6, None).await;
    office
        .attach(8, Some(&content(8, LIMIT as usize + 1)))
        .await;
    source.until_read().await;
    source.until_read().await;
    let waiting = parked(&bed);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    // Another one that is too large takes the place of the first.
    office
        .attach(8, Some(&content(9, LIMIT as usize + 2)))
        .await;
    office
        .run("UPDATE ho_so SET ten = 'Đã sửa' WHERE id = 8")
        .await;
    source.until_read().await;
    let still = parked(&bed);
    assert_eq!(still.len(), 1, "{still:?}");
    assert_ne!(still[0].row, waiting[0].row);
    // Mended at the source it goes by itself.
    office.attach(8, Some(b"gon")).await;
    source.until_read().await;
    source.stop().await;
    assert!(parked(&bed).is_empty());
    let mut entries = bed.entries();
    let of = |id| files_of(&entries, id);
    assert!(is_kept(&bed, &of(4)[1].1[0], 4, b"khac"));
    assert!(of(6)[1].1.is_empty());
    assert_eq!(of(8).len(), 2);
    assert!(is_kept(&bed, &of(8)[1].1[0], 8, b"gon"));
    assert_eq!(entries.len(), 43, "each once, and three changes");
    entries.sort_by_key(|entry| entry["capture"].as_u64());
    entries.truncate(40);
    all_are_kept(&bed, &entries);
}

macro_rules! stories {
    ($($name:ident($story:ident, $kind:ident);)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $story(Kind::$kind).await;
        })*
    };
}

stories! {
    files_of_sqlite(files_come_with_their_rows, Sqlite);
    files_of_postgres(files_come_with_their_rows, Postgres);
    files_of_mariadb(files_come_with_their_rows, Mariadb);
    changed_files_of_sqlite_by_time(a_changed_file_is_a_changed_row_by_time, Sqlite);
    changed_files_of_postgres_by_time(a_changed_file_is_a_changed_row_by_time, Postgres);
    changed_files_of_mariadb_by_time(a_changed_file_is_a_changed_row_by_time, Mariadb);
    changed_files_of_a_snapshot_of_sqlite(a_changed_file_is_a_changed_row_of_a_snapshot, Sqlite);
    changed_files_of_a_snapshot_of_postgres(a_changed_file_is_a_changed_row_of_a_snapshot, Postgres);
    changed_files_of_a_snapshot_of_mariadb(a_changed_file_is_a_changed_row_of_a_snapshot, Mariadb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_file_has_no_room_waits_and_nothing_is_skipped() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add_file_columns().await;
    office.add(1..=6).await;
    for id in 1..=6 {
        office.attach(id, Some(&content(id, 300 << 10))).await;
    }
    let mut bed = Bed::new();
    bed.blobs_bytes_max = 1_000 << 10;
    let config = office.config_with_files(by_id(), 2);
    let source = start(&bed, config.clone());
    let fault = source.until_fault("attachments_full").await;
    assert!(fault.hint_vi.contains("store.attachments"), "{fault:?}");
    source.stop().await;
    assert!(parked(&bed).is_empty());
    assert_eq!(bed.entries().len(), 2, "whole pages only");
    bed.blobs_bytes_max = 64 << 20;
    let source = start(&bed, config);
    source.until_read().await;
    source.stop().await;
    let entries = bed.entries();
    assert_eq!(entries.len(), 6);
    for id in 1..=6 {
        let files = &files_of(&entries, id)[0].1;
        assert!(is_kept(&bed, &files[0], id, &content(id, 300 << 10)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_all_room_stops_nobody() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add_file_columns().await;
    office.add(1..=2).await;
    office.attach(1, Some(&content(1, 200 << 10))).await;
    let mut bed = Bed::new();
    bed.blobs_bytes_max = 100 << 10;
    let source = start(&bed, office.config_with_files(by_id(), 10));
    source.until_read().await;
    source.stop().await;
    assert_eq!(bed.entries().len(), 1);
    let parked = parked(&bed);
    assert!(
        parked.len() == 1
            && parked[0].reason_en.contains("store.attachments")
            && !parked[0].is_whole,
        "{parked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_row_keeps_its_file_and_goes_with_it_later() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add_file_columns().await;
    office.add(1..=2).await;
    // Both are of one dossier; the first one is refused.
    office
        .run(&format!(
            "UPDATE ho_so SET so = '{}', phi = -5 WHERE id = 1",
            code(2)
        ))
        .await;
    office.attach(1, Some(b"hong")).await;
    office.attach(2, Some(b"tot")).await;
    let bed = Bed::new();
    let source = start(&bed, office.config_with_files(by_id(), 10));
    source.until_read().await;
    let waiting = parked(&bed);
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    assert!(
        waiting
            .iter()
            .all(|row| row.is_whole && row.attachments.len() == 1)
    );
    let (door, name) = (&source.running.door, NAME.parse().unwrap());
    let dropped = drop_row(door, &name, waiting[0].number, "nhập sai").await;
    assert_eq!(
        dropped.unwrap(),
        Retried {
            accepted: 1,
            left: 0
        }
    );
    source.stop().await;
    let entries = bed.entries();
    let two = files_of(&entries, 2);
    assert!(
        two.len() == 1 && is_kept(&bed, &two[0].1[0], 2, b"tot"),
        "{two:?}"
    );
}
