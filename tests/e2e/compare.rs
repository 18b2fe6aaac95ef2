//! Compare and repair between real programs over Mosquitto: what somebody has changed in a box's copy
//! by hand is found and put right, only the parts that differ are sent again, and nothing where nothing
//! differs.

use std::time::Duration;

use lienthong::model::Lane;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::rig::{Broker, DATASET, Rig, hand_in_all, wait_for};

const OWNER: &str = "xa-tan-bien";
const READER: &str = "so-noi-vu";
const DOSSIERS: u32 = 3_000;
const LONG: Duration = Duration::from_secs(120);
/// A comparison is not begun again sooner.
const PAUSE: Duration = Duration::from_secs(61);

/// What the reader holds, by subject.
fn copies(rig: &Rig) -> Vec<(String, String)> {
    let path = rig.boxes[READER].folder.join("down.db");
    let Ok(store) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return Vec::new();
    };
    let sql = "SELECT subject, data FROM copy WHERE subject IS NOT NULL ORDER BY subject";
    let Ok(mut statement) = store.prepare(sql) else {
        return Vec::new();
    };
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.expect("read").map(|row| row.expect("read")).collect()
}

/// Entries that ever went into the reader's log of changes, and whether it has them all.
fn changes(rig: &Rig) -> (u64, bool) {
    let path = rig.hub_folder().join("trucd.db");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = Connection::open_with_flags(path, flags).expect("the hub's store");
    let sql =
        "SELECT acked, max(acked, tail, coalesce((SELECT max(place) & ((1 << 40) - 1) FROM down
                 WHERE place BETWEEN log << 40 AND (log + 1 << 40) - 1), 0))
               FROM down_lane JOIN down_box ON log >> 3 = number
               WHERE box_id = ?1 AND log & 7 = ?2";
    let lane = Lane::P2.index() as i64;
    store
        .query_row(sql, rusqlite::params![READER, lane], |row| {
            let (acked, newest): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok((newest as u64, acked == newest))
        })
        .expect("read")
}

/// How the last comparison of the reader's copy has ended.
fn last(rig: &Rig) -> Value {
    let text = rig.trucd(&["compare", "--box", READER, "--json"], 0);
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut of_copy = lines.filter(|line| line["of"] == DATASET && line["goes_on"] == false);
    of_copy.next().unwrap_or_default()
}

/// A comparison from beginning to end, on the hub's command.
fn compare(rig: &Rig) -> Value {
    let before = last(rig)["ended"].clone();
    rig.trucd(&["command", READER, "compare"], 0);
    wait_for("the comparison has ended", LONG, || {
        let now = last(rig)["ended"].clone();
        now.is_string() && now != before && changes(rig).1
    });
    last(rig)
}

fn damage(rig: &Rig) {
    let path = rig.boxes[READER].folder.join("down.db");
    let store = Connection::open(path).expect("the reader's store");
    let damages = [
        "UPDATE copy SET data = replace(data, 'ma_ho_so', 'ma_khac') WHERE copy = 7",
        "DELETE FROM copy WHERE copy = (SELECT max(copy) FROM copy)",
        "INSERT INTO copy SELECT 900000, dataset, x'00112233445566778899aabbccddeeff', version,
           at_ms, schema, agency, 'H53.12-261199-000001', data, attachments FROM copy
           WHERE copy = 9",
    ];
    for damage in damages {
        assert_eq!(store.execute(damage, []).expect("written"), 1, "{damage}");
    }
}

#[test]
fn a_copy_that_was_damaged_by_hand_is_found_and_put_right() {
    let mut rig = Rig::start(Broker::Mosquitto);
    rig.use_shipped_catalogue();
    rig.add_box(OWNER, "H53.12", rig.port);
    rig.add_box(READER, "H53.20", rig.port);
    rig.start_box(OWNER);
    rig.start_box(READER);
    hand_in_all(rig.boxes[OWNER].http_port, "H53.12", DOSSIERS, 500);
    rig.wait_until_drained(OWNER, LONG);
    let rows = ["--rows", "agency=H53.12"];
    rig.trucd(
        &[&["grant", "add", "H53.20", DATASET][..], &rows].concat(),
        0,
    );
    wait_for("the copy is whole", LONG, || {
        copies(&rig).len() == DOSSIERS as usize && changes(&rig).1
    });
    let before = copies(&rig);
    rig.kill_box(READER);
    damage(&rig);
    assert!(copies(&rig) != before);
    let (said_before, _) = changes(&rig);
    rig.start_box(READER);

    let mended = compare(&rig);
    assert_eq!(mended["result"], "mended", "{mended}");
    let buckets = mended["buckets"].as_u64().expect("a number");
    let subjects = mended["subjects"].as_u64().expect("a number");
    assert!((1..=3).contains(&buckets), "{mended}");
    // A bucket holds a 256th of them, more or less.
    assert!((1..=100).contains(&subjects), "{mended}");
    wait_for("it is as it was", LONG, || copies(&rig) == before);
    let (said, _) = changes(&rig);
    // The subjects, an end to each bucket, two questions, and how it ended for the copy and the logs.
    assert_eq!(said - said_before, subjects + buckets + 4);

    std::thread::sleep(PAUSE);
    let equal = compare(&rig);
    assert_eq!(equal["result"], "equal", "{equal}");
    // A question and how both ended, and no subject.
    assert_eq!(changes(&rig).0 - said, 3);
    assert!(copies(&rig) == before);
    rig.verify();
}
