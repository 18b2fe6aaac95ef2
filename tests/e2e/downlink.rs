//! The other direction, with the same processes, brokers and SIGKILLs: what is ordered at the hub
//! reaches the box once and in order, and the box's receipt reaches the hub.

use std::time::Duration;

use lienthong::model::{Lane, UnixMs};
use lienthong::store::Options;
use lienthong::store::hub::HubStore;
use lienthong::store::hub::down::Posted;
use rusqlite::{Connection, OpenFlags};

use crate::rig::{Broker, Rig, hand_in_all, wait_for};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
const ARRIVES: Duration = Duration::from_secs(90);

macro_rules! stories {
    ($($name:ident)*) => {
        mod on_the_embedded_broker {
            $(#[test] fn $name() { super::$name(super::Broker::Embedded); })*
        }
        mod on_mosquitto {
            $(#[test] fn $name() { super::$name(super::Broker::Mosquitto); })*
        }
    };
}

stories! {
    what_is_ordered_beside_the_running_hub_arrives_within_seconds
    killed_boxes_hubs_and_brokers_lose_and_double_nothing
    a_damaged_store_of_what_came_down_is_set_aside_and_filled_again
}

/// Orders entries that no program understands, so that the box keeps them as they come.
fn order(rig: &Rig, lane: Lane, numbers: std::ops::Range<u32>) {
    let options = Options {
        quota_bytes: 1 << 30,
        cache_bytes: 1 << 20,
    };
    let mut store =
        HubStore::open(&rig.hub_folder().join("trucd.db"), options).expect("the hub's store");
    let box_id = XA.parse().expect("valid");
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let now = UnixMs(since.expect("after 1970").as_millis() as i64);
    store.begin().expect("begun");
    for number in numbers {
        let entry = format!(r#"{{"thu":{{"so":{number},"ghi_chu":"Nguyễn Thị Mẫu"}}}}"#);
        let posted = store.post(&box_id, lane, entry.as_bytes(), now);
        assert_eq!(posted.expect("written"), Posted::Ordered);
    }
    store.commit().expect("committed");
}

fn open(path: std::path::PathBuf) -> Option<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()
}

/// Numbers that the box holds of a lane, in the order in which they came.
fn held(rig: &Rig, lane: Lane) -> Vec<u32> {
    let Some(store) = open(rig.boxes[XA].folder.join("down.db")) else {
        return Vec::new();
    };
    let Ok(mut statement) =
        store.prepare("SELECT entry FROM unknown WHERE lane = ?1 ORDER BY number")
    else {
        return Vec::new();
    };
    let rows = statement.query_map([lane.index() as i64], |row| row.get::<_, Vec<u8>>(0));
    rows.expect("read")
        .map(|row| {
            let entry: serde_json::Value =
                serde_json::from_slice(&row.expect("read")).expect("JSON");
            entry["thu"]["so"].as_u64().expect("a number") as u32
        })
        .collect()
}

/// Entries that the hub counts as received by the box, and all.
fn received(rig: &Rig) -> (u64, u64) {
    let store = open(rig.hub_folder().join("trucd.db")).expect("the hub's store");
    let sql =
        "SELECT sum(acked), sum(max(acked, tail, coalesce((SELECT max(place) & ((1 << 40) - 1)
                 FROM down WHERE place BETWEEN log << 40 AND (log + 1 << 40) - 1), 0)))
               FROM down_lane";
    store
        .query_row(sql, [], |row| {
            let (acked, newest): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok((acked.unwrap_or(0) as u64, newest.unwrap_or(0) as u64))
        })
        .expect("read")
}

fn one_box(broker: Broker) -> Rig {
    let mut rig = Rig::start(broker);
    rig.add_box(XA, AGENCY, rig.port);
    rig
}

fn what_is_ordered_beside_the_running_hub_arrives_within_seconds(broker: Broker) {
    let mut rig = one_box(broker);
    order(&rig, Lane::P4, 0..2_000);
    rig.start_box(XA);
    wait_for("what waited is there", ARRIVES, || {
        held(&rig, Lane::P4).len() == 2_000
    });
    // The box is there and idle now.
    order(&rig, Lane::P0, 0..1);
    wait_for("an urgent one is there", Duration::from_secs(10), || {
        held(&rig, Lane::P0) == [0]
    });
    wait_for("its receipt is at the hub", ARRIVES, || {
        received(&rig) == (2_001, 2_001)
    });
    assert_eq!(held(&rig, Lane::P4), (0..2_000).collect::<Vec<_>>());
}

fn killed_boxes_hubs_and_brokers_lose_and_double_nothing(broker: Broker) {
    let mut rig = one_box(broker);
    rig.start_box(XA);
    let port = rig.boxes[XA].http_port;
    for round in 0..6 {
        order(&rig, Lane::P2, round * 400..(round + 1) * 400);
        hand_in_all(port, AGENCY, (round + 1) * 200, 50);
        std::thread::sleep(Duration::from_millis(u64::from(round) * 150));
        match round % 3 {
            0 => {
                rig.kill_box(XA);
                rig.start_box(XA);
            }
            1 => {
                rig.kill_broker();
                rig.start_broker();
            }
            _ => {
                rig.kill_hub();
                rig.start_hub();
            }
        }
    }
    wait_for("all is there", ARRIVES, || {
        held(&rig, Lane::P2).len() == 2_400
    });
    wait_for("the receipts are at the hub", ARRIVES, || {
        received(&rig) == (2_400, 2_400)
    });
    assert_eq!(held(&rig, Lane::P2), (0..2_400).collect::<Vec<_>>());
    rig.wait_until_drained(XA, ARRIVES);
    rig.assert_exactly(XA, AGENCY, 1_200);
}

/// Damage here never touches what waits to go up.
fn a_damaged_store_of_what_came_down_is_set_aside_and_filled_again(broker: Broker) {
    let mut rig = one_box(broker);
    rig.start_box(XA);
    order(&rig, Lane::P2, 0..50);
    wait_for("all is there", ARRIVES, || held(&rig, Lane::P2).len() == 50);
    wait_for("its receipt is at the hub", ARRIVES, || {
        received(&rig) == (50, 50)
    });
    rig.kill_hub();
    hand_in_all(rig.boxes[XA].http_port, AGENCY, 30, 30);
    rig.kill_box(XA);
    let folder = rig.boxes[XA].folder.clone();
    let store = folder.join("down.db");
    let bytes = std::fs::metadata(&store).expect("there").len() as usize;
    std::fs::write(&store, vec![0xa5; bytes.max(8_192)]).expect("damaged");
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", store.display()));
    }
    rig.start_hub();
    rig.start_broker();
    rig.start_box(XA);
    wait_for("the kept tail is there again", ARRIVES, || {
        held(&rig, Lane::P2) == (0..50).collect::<Vec<_>>()
    });
    rig.wait_until_drained(XA, ARRIVES);
    rig.assert_exactly(XA, AGENCY, 30);
    let beside = std::fs::read_dir(store.parent().expect("a folder")).expect("read");
    let kept = beside
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .any(|name| name.starts_with("down.db.damaged-"));
    assert!(kept, "the damaged file is kept for whoever can read it");
}
