//! Rows of sources and their supervision, with a real engine and a real store.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used)]

#[path = "bed/mod.rs"]
mod bed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bed::Bed;
use lienthong::catalogue::bundle::Bundle;
use lienthong::edge::connectors::{Connectors, Fault};
use lienthong::edge::door::Door;
use lienthong::edge::rows::fault::CURSOR_SET;
use lienthong::edge::rows::parked::{Retried, Which, drop_row, retry};
use lienthong::edge::rows::{Batch, PARKED_ROWS_MAX, Row, Rows, Taken};
use lienthong::edge::sql::rewind;
use lienthong::edge::status::SourceState;
use lienthong::model::SourceName;
use lienthong::model::record::{Attachment, Op};
use lienthong::store::edge_status::EdgeView;
use lienthong::store::rows::{Parked, RowsView};
use serde_json::json;

const STATION: &str = "quan_trac_moi_truong";

fn source() -> SourceName {
    "quan-trac".parse().unwrap()
}

fn rows(door: &Arc<Door>, dataset: &str) -> Rows {
    Rows::new(Arc::clone(door), source(), dataset.parse().unwrap())
}

fn row(value: &serde_json::Value) -> Row {
    Row::new(serde_json::value::to_raw_value(value).unwrap(), Op::Upsert)
}

/// A good measurement of a station at a minute.
fn good(station: &str, minute: u32) -> Row {
    row(&json!({
        "tram": station, "co_so": "KCNA",
        "thoi_diem": format!("2026-11-20T08:{minute:02}:00+07:00"),
        "gia_tri": [{"k": "COD", "v": 12.5, "u": "mg/L", "s": "00"}]
    }))
}

/// One with a key but without values.
fn bad(station: &str, minute: u32) -> Row {
    row(&json!({
        "tram": station, "co_so": "KCNA",
        "thoi_diem": format!("2026-11-20T08:{minute:02}:00+07:00"), "gia_tri": "nhiều"
    }))
}

fn batch(rows: Vec<Row>, cursor: &str) -> Batch {
    Batch {
        rows,
        cursor: Some(cursor.to_owned()),
        ..Batch::default()
    }
}

fn parked(bed: &Bed) -> Vec<Parked> {
    let view = RowsView::open(&bed.store()).unwrap();
    view.parked("quan-trac", 0, 10_000).unwrap()
}

/// A dossier that names a file in its own field.
fn dossier(number: u32, sha256: &str) -> Row {
    let file = json!({"ten": "don.pdf", "mime": "application/pdf", "bytes": 5, "sha256": sha256});
    row(&json!({
        "ma_ho_so": format!("H53.12-261120-{number:04}"), "ma_tthc": "1.001193",
        "co_quan_tiep_nhan": "H53.12", "co_quan_giai_quyet": "H53.12",
        "ngay_tiep_nhan": "2026-11-20T08:12:45+07:00", "trang_thai_goc": "Đang thụ lý",
        "trang_thai_chuan": "DANG_XU_LY",
        "nguoi_nop": {"ho_ten": "Nguyễn Thị Mẫu", "loai": "ca_nhan"}, "dinh_kem": [file]
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_named_by_the_row_or_by_the_field_that_the_dataset_says() {
    const CONTENT: &[u8] = b"%PDF-";
    let digest = |content: &[u8]| -> String {
        let digest = lienthong::evidence::sha256(content);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let bed = Bed::new();
    let running = bed.start();
    let here = running.door.blobs().put(CONTENT).unwrap();
    assert_eq!(here, digest(CONTENT));

    // Without the setting the field is only data.
    let dossiers = rows(&running.door, "ho_so_tthc");
    let missing = digest(b"khong co");
    let taken = dossiers.hand_in(batch(vec![dossier(1, &missing)], "1"));
    assert_eq!(
        taken.await.unwrap(),
        Taken {
            accepted: 1,
            parked: 0
        }
    );
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let text = std::fs::read_to_string(shipped.join("ho_so_tthc.toml")).unwrap();
    let with = format!("attachments = \"/dinh_kem\"\n{text}");
    let bundle = Bundle::read(&shipped)
        .unwrap()
        .with_file("ho_so_tthc.toml", with);
    running.door.set_catalogue(bundle.catalogue().unwrap());
    let later = digest(b"later");
    let taken = dossiers.hand_in(batch(vec![dossier(2, &here), dossier(3, &later)], "3"));
    assert_eq!(
        taken.await.unwrap(),
        Taken {
            accepted: 1,
            parked: 1
        }
    );
    assert!(parked(&bed)[0].reason_vi.contains("PUT /v1/blobs/"));

    // A row that says so itself, as an event over MQTT does.
    let measured = rows(&running.door, STATION);
    let naming = |station: &str, sha256: &str| Row {
        named: vec![Attachment {
            name: "anh.png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: 5,
            sha256: sha256.to_owned(),
            original: false,
        }],
        ..good(station, 1)
    };
    let both = vec![naming("A", &here), naming("B", &later)];
    let taken = measured.hand_in(batch(both, "5")).await.unwrap();
    assert_eq!(
        taken,
        Taken {
            accepted: 1,
            parked: 1
        }
    );

    // The files come, and a person has the rows tried again.
    running.door.blobs().put(b"later").unwrap();
    let retried = retry(&running.door, &source(), Which::All).await.unwrap();
    assert_eq!(
        retried,
        Retried {
            accepted: 2,
            left: 0
        }
    );
    running.stop().await;
    let entries = bed.entries();
    let mut named: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["attachments"][0]["sha256"].as_str())
        .collect();
    named.sort_unstable();
    let mut expected = [&here, &here, &later, &later].map(String::as_str);
    expected.sort_unstable();
    assert_eq!(named, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_row_is_parked_and_only_its_subject_waits() {
    let bed = Bed::new();
    let running = bed.start();
    let rows = rows(&running.door, STATION);
    let first = batch(
        vec![good("A", 0), bad("B", 1), good("C", 2), good("B", 1)],
        "4",
    );
    let taken = rows.hand_in(first).await.unwrap();
    assert_eq!(
        taken,
        Taken {
            accepted: 2,
            parked: 2
        }
    );
    assert_eq!(rows.cursor().await.unwrap().as_deref(), Some("4"));
    // Later rows of the subject wait too, in a batch of their own as well.
    let taken = rows
        .hand_in(batch(vec![good("B", 1), good("D", 3)], "6"))
        .await
        .unwrap();
    assert_eq!(
        taken,
        Taken {
            accepted: 1,
            parked: 1
        }
    );
    let parked = parked(&bed);
    assert_eq!(parked.len(), 3);
    assert!(
        !parked[0].reason_vi.is_empty() && !parked[0].reason_en.is_empty(),
        "{parked:?}"
    );
    assert!(parked[1].reason_vi.is_empty() && parked[2].reason_vi.is_empty());
    running.stop().await;
    assert_eq!(bed.entries().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_frees_what_waited_behind_it() {
    let bed = Bed::new();
    let running = bed.start();
    let rows = rows(&running.door, STATION);
    rows.hand_in(batch(
        vec![
            bad("B", 1),
            good("B", 1),
            bad("B", 1),
            good("B", 1),
            bad("E", 4),
        ],
        "5",
    ))
    .await
    .unwrap();
    let door = &running.door;
    let retried = retry(door, &source(), Which::All).await.unwrap();
    assert_eq!(
        retried,
        Retried {
            accepted: 0,
            left: 5
        },
        "nothing was mended"
    );
    let first = parked(&bed)[0].number;
    let retried = drop_row(door, &source(), first, "nhập sai, đã sửa ở nguồn")
        .await
        .unwrap();
    assert_eq!(
        retried,
        Retried {
            accepted: 1,
            left: 2
        },
        "the next poison row holds the last one"
    );
    let left = parked(&bed);
    assert_eq!(left.len(), 3);
    assert!(!left[0].reason_vi.is_empty() && left[1].reason_vi.is_empty());
    assert!(drop_row(door, &source(), first, "lần nữa").await.is_err());
    running.stop().await;
    assert_eq!(bed.entries().len(), 1);
    let events = EdgeView::open(&bed.store()).unwrap().events(10).unwrap();
    let dropped = events.iter().find(|event| event.code == "parked_dropped");
    assert!(dropped.unwrap().detail.contains("nhập sai"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_secret_leaves_its_reason_and_nothing_of_its_content() {
    let bed = Bed::new();
    let running = bed.start();
    let rows = rows(&running.door, "van_ban_dien_tu");
    let secret = json!({"so_ky_hieu": "07/KH-UBND-BIMATQUOCGIA", "do_mat": "MAT", "trich_yeu": "ke hoach bi mat"});
    let taken = rows.hand_in(batch(vec![row(&secret)], "1")).await.unwrap();
    assert_eq!(
        taken,
        Taken {
            accepted: 0,
            parked: 1
        }
    );
    let parked = parked(&bed);
    assert!(parked[0].row.is_none() && parked[0].subject.is_none() && parked[0].id.is_none());
    let retried = retry(&running.door, &source(), Which::All).await.unwrap();
    assert_eq!(
        retried,
        Retried {
            accepted: 0,
            left: 1
        }
    );
    running.stop().await;
    for file in std::fs::read_dir(bed.place.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for word in [&b"BIMATQUOCGIA"[..], b"ke hoach bi mat"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_too_much_parked_stops_with_its_cursor_unmoved() {
    let bed = Bed::new();
    let running = bed.start();
    let rows = rows(&running.door, STATION);
    let many = (0..PARKED_ROWS_MAX as u32).map(|n| bad(&format!("T{n}"), n % 60));
    rows.hand_in(batch(many.collect(), "1")).await.unwrap();
    let fault = rows
        .hand_in(batch(vec![good("A", 1), bad("B", 1)], "2"))
        .await
        .unwrap_err();
    assert_eq!(fault.code, "parked_full");
    assert!(
        fault
            .hint_en
            .contains("tramd sources retry quan-trac --all")
    );
    assert_eq!(rows.cursor().await.unwrap().as_deref(), Some("1"));
    // What is fit passes all the same.
    rows.hand_in(batch(vec![good("A", 1)], "2")).await.unwrap();
    assert_eq!(rows.cursor().await.unwrap().as_deref(), Some("2"));
    running.stop().await;
    assert_eq!(bed.entries().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_keeps_nothing_and_moves_no_cursor() {
    let mut bed = Bed::new();
    bed.lane_bytes_max = 100;
    let running = bed.start();
    let rows = rows(&running.door, STATION);
    let fault = rows
        .hand_in(batch(vec![good("A", 0), bad("B", 0)], "1"))
        .await
        .unwrap_err();
    assert_eq!(fault.code, "lane_full");
    assert_eq!(rows.cursor().await.unwrap(), None);
    assert!(parked(&bed).is_empty(), "parked in the same transaction");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_id_stands_for_other_content_is_parked_and_a_repeat_is_not_taken_twice() {
    let bed = Bed::new();
    let running = bed.start();
    let rows = rows(&running.door, STATION);
    let with_id = |mut row: Row| {
        row.id = Some("do-1".parse().unwrap());
        row
    };
    for cursor in ["1", "2"] {
        let taken = rows
            .hand_in(batch(vec![with_id(good("A", 0))], cursor))
            .await
            .unwrap();
        assert_eq!(taken.parked, 0);
    }
    let taken = rows
        .hand_in(batch(vec![with_id(good("A", 9)), good("C", 1)], "3"))
        .await
        .unwrap();
    assert_eq!(
        taken,
        Taken {
            accepted: 1,
            parked: 1
        }
    );
    let retried = retry(&running.door, &source(), Which::All).await.unwrap();
    assert_eq!(retried.left, 1);
    running.stop().await;
    assert_eq!(bed.entries().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_started_again_and_stops_no_other() {
    let bed = Bed::new();
    let running = bed.start();
    let door = Arc::clone(&running.door);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut connectors = Connectors::new(Arc::clone(&door), bed.clock.clone(), stopped);
    let starts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&starts);
    connectors.spawn(&"hong".parse().unwrap(), move |post| {
        let start = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if start < 2 {
                return Err(Fault::new("connect", ["đứt", "cut"], ["nối", "mend it"]));
            }
            post.waiting().await;
            post.stopped().await;
            Ok(())
        }
    });
    connectors.spawn(&"tot".parse().unwrap(), |post| async move {
        post.waiting().await;
        post.stopped().await;
        Ok(())
    });
    let board = Arc::clone(door.board());
    let eventually = async |is_so: &dyn Fn() -> bool| {
        for _ in 0..1_500 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never came");
    };
    eventually(&|| board.get("hong").is_some_and(|live| live.fault.is_some())).await;
    let live = board.get("hong").unwrap();
    assert_eq!(live.state, SourceState::Failed);
    assert_eq!(live.fault.unwrap().hint_en, "mend it");
    let waits = |name| {
        board
            .get(name)
            .is_some_and(|live| live.state == SourceState::Waiting)
    };
    eventually(&|| waits("tot")).await;
    eventually(&|| board.get("hong").unwrap().state == SourceState::Waiting).await;
    assert!(board.get("hong").unwrap().fault.is_none());
    assert_eq!(starts.load(Ordering::SeqCst), 3);
    stop.send(true).unwrap();
    connectors.ended().await;
    drop((connectors, door));
    running.stop().await;
    let events = EdgeView::open(&bed.store()).unwrap().events(10).unwrap();
    let count = |code: &str| events.iter().filter(|event| event.code == code).count();
    assert_eq!(
        (count("source_failed"), count("source_works")),
        (1, 1),
        "told at the change only"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_read_before_a_person_set_the_cursor_are_not_handed_in() {
    let bed = Bed::new();
    let running = bed.start();
    let rows = rows(&running.door, STATION);
    let stand = r#"{"after":"7","rows":0,"loaded":true,"schema":"","config":"","moved_ms":0,"clock_micros":0}"#;
    rows.hand_in(batch(vec![good("A", 0)], stand))
        .await
        .unwrap();
    let (round, before) = rows.begin().await.unwrap();
    assert_eq!(before.as_deref(), Some(stand));
    rewind(&running.door, source(), "3").await.unwrap();
    let mut late = batch(vec![good("B", 0)], "later");
    late.round = Some(round);
    let fault = rows.hand_in(late).await.unwrap_err();
    assert_eq!(fault.code, CURSOR_SET);
    let (round, cursor) = rows.begin().await.unwrap();
    assert!(cursor.unwrap().contains(r#""after":"3""#));
    let mut anew = batch(vec![good("B", 0)], "anew");
    anew.round = Some(round);
    rows.hand_in(anew).await.unwrap();
    running.stop().await;
    assert_eq!(bed.entries().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_takes_the_place_of_a_parked_one_and_frees_who_waited() {
    let bed = Bed::new();
    let running = bed.start();
    let rows = rows(&running.door, STATION);
    let keyed = |mut row: Row, key: u8| {
        row.key = Some([key; 16]);
        row
    };
    let first = batch(
        vec![keyed(bad("B", 1), 1), keyed(good("B", 1), 2), good("C", 2)],
        "3",
    );
    rows.hand_in(first).await.unwrap();
    assert_eq!(parked(&bed).len(), 2);
    // Still refused: only the newest version is kept, and who waited for the older one goes.
    rows.hand_in(batch(vec![keyed(bad("B", 1), 1)], "4"))
        .await
        .unwrap();
    assert_eq!(parked(&bed).len(), 1);
    rows.hand_in(batch(vec![keyed(good("B", 1), 1)], "5"))
        .await
        .unwrap();
    assert!(parked(&bed).is_empty(), "{:?}", parked(&bed));
    running.stop().await;
    assert_eq!(bed.entries().len(), 3);
}
