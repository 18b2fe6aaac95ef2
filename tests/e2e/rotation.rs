//! Boxes change their keys and certificates, on order and by themselves, and whoever is killed at
//! whichever step: records flow on, none is lost or doubled, and the old key ends.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lienthong::hub::authority::Authority;
use lienthong::hub::config::{Config, load};
use lienthong::hub::orders::{self, Wish};
use lienthong::hub::registry::{self, NewBoxPlan};
use lienthong::model::UnixMs;
use lienthong::model::order::NewKey;
use lienthong::shell::clock::Clock;
use rusqlite::{Connection, OpenFlags};

use crate::rig::{Broker, Rig, faketime, hand_in, wait_for};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
const LONG: Duration = Duration::from_secs(90);

fn with_box(broker: Broker) -> Rig {
    let mut rig = Rig::start(broker);
    let port = rig.port;
    rig.add_box(XA, AGENCY, port);
    rig.start_box(XA);
    rig
}

/// One value of the hub's store, read with our own SQL.
fn value(rig: &Rig, sql: &str) -> Option<String> {
    let path = rig.hub_folder().join("trucd.db");
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.query_row(sql, [], |row| row.get(0)).ok()
}

fn rotation(rig: &Rig) -> String {
    value(rig, "SELECT state FROM rotation").unwrap_or_default()
}

fn serial(rig: &Rig) -> String {
    value(rig, "SELECT serial FROM box").expect("registered")
}

fn identity(rig: &Rig) -> PathBuf {
    rig.boxes[XA].folder.join("identity")
}

/// The pair that counts at the box.
fn generation(rig: &Rig) -> u64 {
    let name = fs::read_link(identity(rig).join("current")).ok();
    name.and_then(|name| name.to_str()?.parse().ok())
        .unwrap_or(0)
}

fn newest_folder(rig: &Rig) -> u64 {
    let entries = fs::read_dir(identity(rig)).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// Steps of a change, in their order; each is reached for the change to `number`.
fn is_reached(rig: &Rig, step: u32, number: u64, before: &str) -> bool {
    match step {
        0 => true,
        1 => newest_folder(rig) == number,
        2 => rotation(rig) == "offered" || serial(rig) != before,
        3 => identity(rig).join(format!("{number}/box.crt")).exists(),
        4 => generation(rig) == number,
        _ => serial(rig) != before,
    }
}

fn wait_until_changed(rig: &Rig, number: u64, before: &str) {
    wait_for("the box uses its new pair", LONG, || {
        generation(rig) == number
    });
    wait_for("the hub knows it", LONG, || {
        serial(rig) != before && rotation(rig) == "done"
    });
}

/// Starts the box with the pair of its registration and a store of its own, as somebody would who
/// has stolen that pair before it was changed; says what the box then says.
fn old_pair_speaks(rig: &mut Rig, numbers: std::ops::Range<u32>) -> serde_json::Value {
    rig.kill_box(XA);
    let folder = rig.boxes[XA].folder.clone();
    fs::create_dir_all(folder.join("thief")).expect("a folder");
    let drop_in = folder.join("tramd.d/20-thief.toml");
    fs::write(&drop_in, "[store]\npath = \"../thief/box.db\"\n").expect("written");
    rig.start_box(XA);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, numbers));
    std::thread::sleep(Duration::from_secs(12));
    let status = rig.status(XA);
    rig.kill_box(XA);
    fs::remove_file(drop_in).expect("removed");
    status
}

fn ten_changes_with_a_kill_at_each_step(broker: Broker) {
    let mut rig = with_box(broker);
    let port = rig.boxes[XA].http_port;
    let enough = AtomicBool::new(false);
    let handed_in = std::thread::scope(|both| {
        let flow = both.spawn(|| {
            let mut count = 0;
            while !enough.load(Ordering::Relaxed) {
                count += 5;
                hand_in_all_from(port, count - 5..count);
                std::thread::sleep(Duration::from_millis(150));
            }
            count
        });
        for change in 1..=10 {
            let (step, kills_hub) = ((change as u32 - 1) / 2, change % 2 == 0);
            let before = serial(&rig);
            rig.trucd(&["command", XA, "rotate_key"], 0);
            let until = std::time::Instant::now() + LONG;
            while !is_reached(&rig, step, change, &before) {
                assert!(
                    std::time::Instant::now() < until,
                    "step {step} is not reached"
                );
                std::thread::sleep(Duration::from_millis(2));
            }
            if kills_hub {
                rig.kill_hub();
                rig.start_hub();
            } else {
                rig.kill_box(XA);
                rig.start_box(XA);
            }
            wait_until_changed(&rig, change, &before);
        }
        enough.store(true, Ordering::Relaxed);
        flow.join().expect("it hands in")
    });
    rig.wait_until_drained(XA, LONG);
    rig.assert_exactly(XA, AGENCY, handed_in);
    let certificate = rig.status(XA)["certificate"].clone();
    assert_eq!(certificate["generation"], 10, "{certificate}");
    let told = rig.trucd(&["audit"], 0);
    assert_eq!(told.matches("key_changed").count(), 10, "{told}");

    let status = old_pair_speaks(&mut rig, 900_000..900_005);
    match broker {
        Broker::Embedded => assert_ne!(status["link"]["state"], "up", "{status}"),
        Broker::Mosquitto => assert_eq!(status["refused_by_hub"]["code"], "forged", "{status}"),
    }
    rig.start_box(XA);
    let count = handed_in + 5;
    hand_in_all_from(port, handed_in..count);
    rig.wait_until_drained(XA, LONG);
    rig.assert_exactly(XA, AGENCY, count);
}

/// Hands in until it is kept, as a careful office program does.
fn hand_in_all_from(port: u16, numbers: std::ops::Range<u32>) {
    let until = std::time::Instant::now() + LONG;
    while !hand_in(port, AGENCY, numbers.clone()) {
        assert!(
            std::time::Instant::now() < until,
            "the box does not come back"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ten_changes_on_the_embedded_broker() {
    ten_changes_with_a_kill_at_each_step(Broker::Embedded);
}

#[test]
fn ten_changes_on_mosquitto() {
    ten_changes_with_a_kill_at_each_step(Broker::Mosquitto);
}

fn hub_config(rig: &Rig) -> Config {
    load(&rig.hub_folder().join("trucd.toml")).expect("init wrote it")
}

/// Registers the box as it was done so many days ago.
fn add_long_ago(rig: &mut Rig, days: i64) {
    let port = rig.port;
    rig.add_box(XA, AGENCY, port);
    let folder = rig.boxes[XA].folder.clone();
    let connection = Connection::open(rig.hub_folder().join("trucd.db")).expect("the store");
    connection
        .execute_batch("DELETE FROM box_agency; DELETE FROM box")
        .expect("forgotten");
    for file in ["box.crt", "box.key"] {
        fs::remove_file(folder.join(file)).expect("written by add");
    }
    let plan = NewBoxPlan {
        box_id: XA.parse().expect("valid"),
        agency: AGENCY.parse().expect("valid"),
        out: Some(folder.join("first")),
        addresses: Vec::new(),
    };
    let now = Clock::start(UnixMs(0)).now().wall;
    let then = UnixMs(now.0 - days * 86_400_000);
    registry::add(&hub_config(rig), &plan, then).expect("registered");
    for file in ["box.crt", "box.key"] {
        fs::copy(folder.join("first").join(file), folder.join(file)).expect("copied");
    }
}

/// What the box says to the commands of this name, the last first.
fn answers(rig: &Rig, name: &str) -> Vec<serde_json::Value> {
    let text = rig.trucd(&["command", "list", "--json"], 0);
    let lines = text.lines().map(serde_json::from_str);
    let lines = lines.map(|line: Result<serde_json::Value, _>| line.expect("JSON"));
    lines.filter(|line| line["name"] == name).collect()
}

/// Orders a change of which the hub knows nothing more, so that it sends no certificate; returns the
/// key that the box then has made.
fn order_and_intercept(rig: &mut Rig) -> [u8; 65] {
    let before = answers(rig, "rotate_key").len();
    rig.trucd(&["command", XA, "rotate_key"], 0);
    let connection = Connection::open(rig.hub_folder().join("trucd.db")).expect("the store");
    connection
        .busy_timeout(Duration::from_secs(5))
        .expect("set");
    connection
        .execute_batch("DELETE FROM rotation")
        .expect("forgotten");
    wait_for("the box has made a key", LONG, || {
        let all = answers(rig, "rotate_key");
        before < all.len() && all[0]["state"] == "done"
    });
    let detail = answers(rig, "rotate_key")[0]["detail"].clone();
    let said: NewKey = serde_json::from_str(detail.as_str().expect("a text")).expect("a key");
    let point = BASE64.decode(said.public_key).expect("base64");
    point.try_into().expect("a point of P-256")
}

/// The hub's word, signed with its key, for whatever certificate.
fn send_certificate(rig: &Rig, pem: &str) {
    let config = hub_config(rig);
    let key = orders::signing_key(&config).expect("the receipt key");
    let mut store = registry::open(&config).expect("the store");
    let now = Clock::start(UnixMs(0)).now().wall;
    let wish = Wish {
        box_id: None,
        name: "use_certificate",
        arguments: serde_json::json!({ "certificate": pem }).to_string(),
        expires: UnixMs(now.0 + 86_400_000),
        by: "thử nghiệm",
    };
    store.begin().expect("begun");
    let box_id = XA.parse().expect("valid");
    orders::give_one(&mut store, &key, &box_id, &wish, now).expect("given");
    orders::send_due(&mut store, now).expect("sent");
    store.commit().expect("committed");
}

/// A hub that sends the wrong certificate changes nothing: for another name, another key, one that
/// has ended, and one that only the broker can tell from a good one.
#[test]
fn a_bad_certificate_is_refused_and_the_old_pair_stays() {
    let mut rig = with_box(Broker::Embedded);
    let now = Clock::start(UnixMs(0)).now().wall;
    let authority = Authority::open(&rig.hub_folder()).expect("the hub's own");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let stranger = Authority::create(elsewhere.path(), now).expect("another authority");
    let long_ago = UnixMs(now.0 - 800 * 86_400_000);
    for (count, (kind, word)) in [
        ("name", "xa-khac"),
        ("key", "does not belong"),
        ("ended", "expired"),
        ("issuer", "refused"),
    ]
    .into_iter()
    .enumerate()
    {
        let point = order_and_intercept(&mut rig);
        let certified = match kind {
            "name" => authority.certify("xa-khac", &point, now),
            "key" => authority.certify(XA, &[4; 65], now),
            "ended" => authority.certify(XA, &point, long_ago),
            _ => stranger.certify(XA, &point, now),
        };
        send_certificate(&rig, &certified.expect("issued").cert_pem);
        wait_for("the box refuses it", Duration::from_secs(180), || {
            let all = answers(&rig, "use_certificate");
            all.len() == count + 1 && all[0]["state"] == "failed"
        });
        let detail = answers(&rig, "use_certificate")[0]["detail"].to_string();
        assert!(detail.contains(word), "{kind}: {detail}");
        assert_eq!(generation(&rig), 0, "{kind}");
        assert!(hand_in(
            rig.boxes[XA].http_port,
            AGENCY,
            count as u32 * 5..count as u32 * 5 + 5
        ));
        rig.wait_until_drained(XA, LONG);
    }
    rig.assert_exactly(XA, AGENCY, 20);
    // A good one is used all the same after all that.
    let before = serial(&rig);
    rig.trucd(&["command", XA, "rotate_key"], 0);
    wait_for("the hub knows the new key", LONG, || serial(&rig) != before);
    assert!(0 < generation(&rig));
    rig.wait_until_drained(XA, LONG);
    rig.verify();
    // By hand nobody gives it.
    rig.trucd(&["command", XA, "use_certificate"], 1);
}

/// With a third of its life left, a certificate is renewed though nobody orders it; and before that
/// it is left alone.
#[test]
fn f35_a_certificate_is_renewed_by_itself_when_the_clock_jumps_over_the_moment() {
    let mut rig = with_box(Broker::Embedded);
    let before = serial(&rig);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..5));
    rig.wait_until_drained(XA, LONG);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(rotation(&rig), "", "it is too early");
    if faketime().is_none() {
        // A program for another processor cannot be given another clock; those of this one are.
        return;
    }
    rig.kill_box(XA);
    rig.kill_hub();
    rig.set_days_ahead(500);
    rig.start_hub();
    rig.start_box(XA);
    wait_until_changed(&rig, 1, &before);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 5..10));
    rig.wait_until_drained(XA, LONG);
    let days = rig.status(XA)["certificate"]["days_left"].as_i64();
    assert!(days.is_some_and(|days| 720 < days), "{days:?}");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(answers(&rig, "rotate_key").len(), 1, "it is ordered once");
    rig.assert_exactly(XA, AGENCY, 10);
}

/// F34, F40: a box that was away until its certificate had ended is let in for a time and gets a new
/// one; after that only by hand.
#[test]
fn f40_a_box_whose_certificate_has_ended_finds_its_way_back() {
    let mut rig = Rig::start(Broker::Embedded);
    add_long_ago(&mut rig, 731 + 60);
    rig.start_box(XA);
    let before = serial(&rig);
    let port = rig.boxes[XA].http_port;
    assert!(hand_in(port, AGENCY, 0..5), "it takes in all the same");
    wait_until_changed(&rig, 1, &before);
    rig.wait_until_drained(XA, LONG);
    rig.assert_exactly(XA, AGENCY, 5);
}

#[test]
fn f40_a_box_that_was_away_too_long_is_issued_another_pair_by_hand() {
    let mut rig = Rig::start(Broker::Embedded);
    add_long_ago(&mut rig, 731 + 100);
    rig.start_box(XA);
    let (before, port) = (serial(&rig), rig.boxes[XA].http_port);
    assert!(hand_in(port, AGENCY, 0..5));
    std::thread::sleep(Duration::from_secs(8));
    assert_ne!(rig.status(XA)["link"]["state"], "up");
    rig.kill_box(XA);
    let (folder, stick) = (rig.boxes[XA].folder.clone(), rig.folder.path().join("usb"));
    let out = stick.to_str().expect("UTF-8").to_owned();
    rig.trucd(&["box", "reissue", XA, "--out", &out], 0);
    for file in ["box.crt", "box.key"] {
        fs::copy(stick.join(file), folder.join(file)).expect("copied");
    }
    rig.start_box(XA);
    wait_for("the hub knows the new key", LONG, || serial(&rig) != before);
    rig.wait_until_drained(XA, LONG);
    rig.assert_exactly(XA, AGENCY, 5);
}
