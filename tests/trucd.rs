//! The hub's program as an administrator uses it: the real binary, real stores that real engines
//! filled, the real embedded broker, and Debian's Mosquitto with the configuration that `init` wrote.

#![cfg(all(feature = "hub", feature = "edge"))]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "trucd/live.rs"]
mod live;
#[path = "trucd/rights.rs"]
mod rights;
#[path = "trucd/stage.rs"]
mod stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lienthong::model::Lane;
use lienthong::model::record::Op;
use lienthong::shell::down::DownReason;
use live::{Daemon, Live, Mosquitto};
use rusqlite::Connection;
use serde_json::Value;
use stage::{Hub, Office, Sample};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

// === Making a hub, and its boxes ===

#[test]
fn init_makes_a_hub_and_never_overwrites_it() {
    let hub = Hub::new();
    for (name, expected) in [
        ("ca.key", 0o600),
        ("server.key", 0o600),
        ("trucd.key", 0o600),
        ("receipt.key", 0o600),
        ("trucd.db", 0o600),
        ("ca.crt", 0o644),
        ("server.crt", 0o644),
        ("trucd.crt", 0o644),
        ("hub.pub", 0o644),
        ("trucd.toml", 0o644),
        ("mosquitto.conf", 0o644),
        ("mosquitto.acl", 0o644),
    ] {
        assert_eq!(mode(&hub.path(name)), expected, "{name}");
    }
    assert!(hub.path("boxes").is_dir());
    let before = fs::read(hub.path("ca.key")).unwrap();
    let again = hub.run(&["init", hub.folder().to_str().unwrap()]);
    assert_eq!(again.code, 1);
    assert!(
        again.stderr.contains("is a hub already"),
        "{}",
        again.stderr
    );
    assert_eq!(fs::read(hub.path("ca.key")).unwrap(), before);
}

#[test]
fn openssl_reads_what_init_and_box_add_made() {
    let hub = Hub::new();
    hub.ok(&["box", "add", "xa-tan-bien", "--agency", "H53.12"]);
    let openssl = |args: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(args)
            .current_dir(hub.folder())
            .output()
            .expect("openssl is installed");
        assert!(
            output.status.success(),
            "openssl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let verified = openssl(&[
        "verify",
        "-CAfile",
        "ca.crt",
        "-purpose",
        "sslclient",
        "boxes/xa-tan-bien/box.crt",
        "trucd.crt",
    ]);
    assert_eq!(verified.matches(": OK").count(), 2, "{verified}");
    openssl(&[
        "verify",
        "-CAfile",
        "ca.crt",
        "-purpose",
        "sslserver",
        "-verify_ip",
        "127.0.0.1",
        "server.crt",
    ]);
    let own = openssl(&["pkey", "-in", "receipt.key", "-pubout"]);
    assert_eq!(own, fs::read_to_string(hub.path("hub.pub")).unwrap());
}

#[test]
fn box_add_writes_what_a_box_needs() {
    let hub = Hub::new();
    let out = hub.folder().join("usb");
    hub.ok(&[
        "box",
        "add",
        "xa-tan-bien",
        "--agency",
        "H53.12",
        "--out",
        out.to_str().unwrap(),
        "--hub",
        "truc1.tinh.example:8883",
        "--hub",
        "[2001:db8::1]:8884",
    ]);
    for (name, expected) in [
        ("ca.crt", 0o644),
        ("box.crt", 0o644),
        ("box.key", 0o600),
        ("hub.pub", 0o644),
        ("tramd.toml", 0o644),
    ] {
        assert_eq!(mode(&out.join(name)), expected, "{name}");
    }
    let text = fs::read_to_string(out.join("tramd.toml")).unwrap();
    let written: toml::Table = text.parse().unwrap();
    assert_eq!(written["box"]["id"].as_str(), Some("xa-tan-bien"));
    assert_eq!(written["box"]["agency"].as_str(), Some("H53.12"));
    let addresses: Vec<&str> = written["hub"]["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address.as_str().unwrap())
        .collect();
    assert_eq!(addresses, ["truc1.tinh.example:8883", "[2001:db8::1]:8884"]);

    // The box's own program takes it as it is, but for the catalogue, which is installed elsewhere.
    let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let drop_ins = out.join("tramd.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(
        drop_ins.join("catalogue.toml"),
        format!("[catalogue]\npath = {catalogue:?}\n"),
    )
    .unwrap();
    let loaded = lienthong::edge::config::load::load(&out.join("tramd.toml")).unwrap();
    assert_eq!(loaded.config.box_id.as_str(), "xa-tan-bien");
    assert_eq!(loaded.config.hub.addresses.len(), 2);
    assert!(loaded.config.hub.receipt_keys[0].is_file());

    let taken = hub.run(&["box", "add", "xa-tan-bien", "--agency", "H53.12"]);
    assert_eq!(taken.code, 1);
    assert!(
        taken.stderr.contains("registered already"),
        "{}",
        taken.stderr
    );
    let occupied = hub.run(&[
        "box",
        "add",
        "xa-khac",
        "--agency",
        "H53.12",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(occupied.code, 1, "another box's files are not overwritten");
    let reserved = hub.run(&["box", "add", "trucd", "--agency", "H53.12"]);
    assert_eq!(reserved.code, 1);
    assert!(reserved.stderr.contains("own name"), "{}", reserved.stderr);
}

#[test]
fn a_box_add_that_broke_off_is_done_again() {
    let hub = Hub::new();
    hub.ok(&["box", "add", "xa-a", "--agency", "H53.12"]);
    // As a crash before the registration would have left it: files, but no row.
    let connection = Connection::open(hub.path("trucd.db")).unwrap();
    connection
        .execute_batch("DELETE FROM box; DELETE FROM box_agency")
        .unwrap();
    drop(connection);
    fs::remove_file(hub.path("boxes/xa-a/tramd.toml")).unwrap();
    let before = fs::read(hub.path("boxes/xa-a/box.key")).unwrap();
    hub.ok(&["box", "add", "xa-a", "--agency", "H53.12"]);
    assert_ne!(fs::read(hub.path("boxes/xa-a/box.key")).unwrap(), before);
    assert!(hub.path("boxes/xa-a/tramd.toml").exists());
}

#[test]
fn boxes_change_their_state() {
    let hub = Hub::new();
    hub.ok(&["box", "add", "xa-a", "--agency", "H53.12"]);
    let state = || {
        let list: Value = serde_json::from_str(&hub.ok(&["box", "list", "--json"])).unwrap();
        let known = &list["boxes"][0];
        (
            known["state"].as_str().unwrap().to_owned(),
            known["agency"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(state(), ("active".into(), "H53.12".into()));
    hub.ok(&["box", "suspend", "xa-a"]);
    assert_eq!(state().0, "suspended");
    hub.ok(&["box", "resume", "xa-a"]);
    hub.ok(&["box", "move", "xa-a", "--agency", "H53.13"]);
    assert_eq!(state(), ("active".into(), "H53.13".into()));
    hub.ok(&["box", "revoke", "xa-a"]);
    assert_eq!(state().0, "revoked");
    assert_eq!(hub.run(&["box", "resume", "xa-a"]).code, 1, "for ever");
    assert_eq!(hub.run(&["box", "suspend", "xa-b"]).code, 1);
    assert_eq!(
        hub.run(&["box", "move", "xa-b", "--agency", "H53.13"]).code,
        1
    );
}

#[test]
fn exit_codes_tell_usage_from_configuration() {
    let hub = Hub::new();
    assert_eq!(hub.run(&["run", "--nonsense"]).code, 64);
    assert_eq!(hub.run(&["box", "add", "Xã A", "--agency", "H53"]).code, 64);
    assert_eq!(hub.run(&["records", "x", "--since", "hôm qua"]).code, 64);
    assert_eq!(hub.run(&["--help"]).code, 0);
    fs::write(
        hub.path("trucd.toml"),
        "[hub]\nlisten = \"?\"\n[store]\nquota = \"much\"\n[http]\nlisten = \"0.0.0.0:1\"\n",
    )
    .unwrap();
    let faulty = hub.run(&["run"]);
    assert_eq!(faulty.code, 78);
    for key in ["hub.name", "hub.listen", "store.quota", "http.listen"] {
        assert!(faulty.stderr.contains(key), "{key}: {}", faulty.stderr);
    }
    fs::remove_file(hub.path("trucd.toml")).unwrap();
    assert_eq!(hub.run(&["status"]).code, 78);
}

#[test]
fn a_database_that_is_not_there_is_no_empty_hub() {
    let hub = Hub::new();
    fs::remove_file(hub.path("trucd.db")).unwrap();
    for command in [
        &["run"][..],
        &["status"],
        &["box", "add", "xa-a", "--agency", "H53"],
    ] {
        let refused = hub.run(command);
        assert_eq!(refused.code, 1, "{command:?}");
        assert!(
            refused.stderr.contains("is not there"),
            "{}",
            refused.stderr
        );
        assert!(!hub.path("trucd.db").exists());
    }
}

// === Reading out ===

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn records_show_the_present_and_the_past() {
    let hub = Hub::new();
    let mut sender = Office::add(&hub, "xa-a", "H53.01");
    sender.send(vec![
        Sample::new(
            "H53.01-1",
            r#"{"ten":"Nguyễn Văn Mẫu",
            "buoc": 1}"#,
        ),
        Sample::new("H53.01-2", r#"{"ten":"Trần Thị Mẫu","buoc":1}"#),
    ]);
    sender.send(vec![
        Sample::new("H53.01-1", r#"{"ten":"Nguyễn Văn Mẫu","buoc":2}"#),
        Sample::new("H53.01-2", "{}").op(Op::Delete),
        Sample::new("H53.01-3", r#"{"le_phi":-5.50}"#).lane(Lane::P1),
    ]);

    let present = lines(&hub.ok(&["records", "ho_so_tthc"]));
    let subjects: Vec<&str> = present
        .iter()
        .map(|record| record["subject"].as_str().unwrap())
        .collect();
    assert_eq!(subjects, ["H53.01-1", "H53.01-3"]);
    let first = &present[0];
    assert_eq!(first["specversion"], "1.0");
    assert_eq!(first["source"], "urn:lienthong:xa-a:mot-cua");
    assert_eq!(first["type"], "ho_so_tthc/1");
    assert_eq!(first["data"]["buoc"], 2);
    assert_eq!(first["id"].as_str().unwrap().len(), 36);

    let past = lines(&hub.ok(&["records", "ho_so_tthc", "--history"]));
    assert_eq!(past.len(), 5);
    assert!(past.iter().any(|record| record["op"] == "delete"));

    let changes = lines(&hub.ok(&["records", "ho_so_tthc", "--since", "2026-01-01"]));
    assert_eq!(changes.len(), 3, "who asks for changes hears of deletions");
    let none = hub.run(&["records", "ho_so_tthc", "--since", "2100-01-01"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    assert_eq!(hub.run(&["records", "khong_co"]).stdout, "");
}

#[test]
fn csv_holds_no_formula() {
    let hub = Hub::new();
    let mut sender = Office::add(&hub, "xa-a", "H53.01");
    sender.send(vec![
        Sample::new(
            "=HYPERLINK(\"http://x\")",
            r#"{"ten":"=cmd|'/c calc'!A1","so":-5,"ghi_chu":"a,\"b\"\r\nc"}"#,
        ),
        Sample::new("s-2", r#"{"ten":"@SUM(A1)","khac":"+84 296"}"#),
    ]);
    let csv = hub.ok(&["records", "ho_so_tthc", "--format", "csv", "--bom"]);
    let rows = stage::read_csv(csv.strip_prefix('\u{feff}').expect("a byte order mark"));
    let column = |name: &str| {
        rows[0]
            .iter()
            .position(|cell| cell == name)
            .unwrap_or_else(|| panic!("no column {name} in {:?}", rows[0]))
    };
    let cells = |name: &str| -> Vec<&str> {
        rows[1..]
            .iter()
            .map(|row| row[column(name)].as_str())
            .collect()
    };
    assert_eq!(cells("subject"), ["'=HYPERLINK(\"http://x\")", "s-2"]);
    assert_eq!(cells("data.ten"), ["'=cmd|'/c calc'!A1", "'@SUM(A1)"]);
    assert_eq!(cells("data.so"), ["-5", ""], "a number stays a number");
    assert_eq!(cells("data.khac"), ["", "'+84 296"]);
    assert_eq!(cells("data.ghi_chu"), ["a,\"b\"\r\nc", ""]);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
}

#[test]
fn a_reader_that_has_had_enough_is_no_fault() {
    let hub = Hub::new();
    let mut sender = Office::add(&hub, "xa-a", "H53.01");
    let many =
        |number: u32| Sample::new(&format!("s-{number}"), r#"{"x":"yyyyyyyyyyyyyyyyyyyyyy"}"#);
    sender.send((0..3_000).map(many).collect());
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg("{ \"$0\" records ho_so_tthc --config \"$1\"; echo $? >&2; } | head -n 1")
        .arg(env!("CARGO_BIN_EXE_trucd"))
        .arg(hub.path("trucd.toml"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "0\n");
    assert_eq!(lines(&String::from_utf8(output.stdout).unwrap()).len(), 1);
}

#[test]
fn gaps_parked_and_status_say_what_happened() {
    let hub = Hub::new();
    let mut sender = Office::add(&hub, "xa-a", "H53.01");
    sender.send(vec![
        Sample::new("s-1", "{}"),
        Sample::new("s-2", "{}").agency("H99.99"),
    ]);
    sender.lose_and_send(
        vec![Sample::new("s-3", "{}"), Sample::new("s-4", "{}")],
        vec![Sample::new("s-5", "{}")],
    );

    let gaps = lines(&hub.ok(&["gaps", "--json"]));
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (&gaps[0]["first"], &gaps[0]["last"], &gaps[0]["lane"]),
        (&3.into(), &4.into(), &"P2".into())
    );
    assert!(hub.ok(&["gaps"]).contains("lost_at_box"));

    let parked = lines(&hub.ok(&["parked", "--json"]));
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0]["reason"], "foreign_agency");
    assert_eq!(parked[0]["detail"], "H99.99");
    assert_eq!(parked[0]["dataset"], "ho_so_tthc");
    let taken = lines(&hub.ok(&["records", "ho_so_tthc", "--history"]));
    assert_eq!(taken.len(), 2, "what is parked is no record");

    let status: Value = serde_json::from_str(&hub.ok(&["status", "--json"])).unwrap();
    let known = &status["boxes"][0];
    assert_eq!(known["entries"], 3);
    assert_eq!((&known["lost"], &known["gaps"]), (&2.into(), &1.into()));
    assert_eq!(known["parked"], 1);
    assert_eq!(known["logs"][0]["applied"], 5);
    assert_eq!(known["suspected_clone"], false);
    assert_eq!(status["totals"]["lost"], 2);
    let text = hub.ok(&["status"]);
    assert!(
        text.contains("xa-a") && text.contains("trucd gaps"),
        "{text}"
    );
    assert!(hub.ok(&["verify"]).contains("xa-a"), "gaps are no fault");
}

// === Proof ===

/// A store with everything in it that verification has to get through.
fn rich_hub() -> Hub {
    let hub = Hub::new();
    let mut first = Office::add(&hub, "xa-a", "H53.01");
    let many = |from: u32, count: u32| -> Vec<Sample> {
        (from..from + count)
            .map(|number| Sample::new(&format!("s-{}", number % 7), r#"{"so":1}"#))
            .collect()
    };
    first.send(many(0, 20));
    first.send(vec![Sample::new("s-x", "{}").agency("H99.99")]);
    first.lose_and_send(many(20, 3), many(30, 20));
    first.send(vec![Sample::new("p-1", "{}").lane(Lane::P1)]);
    first.send(vec![
        Sample::new("gone", "{}"),
        Sample::new("gone", "{}").op(Op::Delete),
    ]);
    let mut second = Office::add(&hub, "xa-b", "H53.02");
    second.send(many(0, 10));
    // Set back to before its last batch, it begins a new epoch and sends again what it still has.
    second.set_back_and_send(many(10, 5), many(20, 5));
    hub
}

#[test]
fn a_sound_store_is_verified() {
    let hub = rich_hub();
    let text = hub.ok(&["verify"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    let summaries = lines(&hub.ok(&["verify", "--json"]));
    assert_eq!(summaries[0]["box"], "xa-a");
    assert_eq!(summaries[0]["lost"], 3);
    assert_eq!(summaries[0]["parked"], 1);
    assert_eq!(summaries[0]["entries"], 44);
    assert!(
        summaries[1]["doubles"].as_u64().unwrap() > 0,
        "{summaries:?}"
    );
    assert_eq!(hub.run(&["verify", "xa-b"]).code, 0);
    assert_eq!(hub.run(&["verify", "xa-c"]).code, 1);
}

#[test]
fn verify_finds_each_planted_damage() {
    let whole = rich_hub();
    let number = "(place & 0xffffffffff)";
    let log = "(place >> 40) = (SELECT log FROM log WHERE box_id = 'xa-a' AND lane = 2)";
    // What the box that was set back has said of a subject in its first life, first and last.
    let first_life = "place >> 40 = (SELECT min(log) FROM log WHERE box_id = 'xa-b')";
    let said = |subject: &str, which: &str| {
        format!(
            "SELECT {which}(place) FROM entry WHERE {first_life} AND CAST(entry AS TEXT) LIKE '%\"{subject}\"%'"
        )
    };
    let moved = |subject: &str, which: &str, life: &str| {
        let said = said(subject, which);
        format!(
            "UPDATE state SET place = ({said}), capture = (SELECT capture FROM entry WHERE place = ({said})), life = {life}
             WHERE subject = '{subject}' AND agency = 'H53.02'"
        )
    };
    let damages: Vec<(&str, String, &str)> = vec![
        (
            "a byte of an entry",
            format!("UPDATE entry SET entry = CAST(replace(CAST(entry AS TEXT), '\"so\":1', '\"so\":2') AS BLOB) WHERE {log} AND {number} = 5"),
            "xa-a",
        ),
        ("a deleted entry", format!("DELETE FROM entry WHERE {log} AND {number} = 7"), "number 7"),
        ("the last entry deleted", format!("DELETE FROM entry WHERE place = (SELECT max(place) FROM entry WHERE {log})"), "number 46"),
        (
            "two entries exchanged",
            format!("UPDATE entry SET entry = (SELECT entry FROM entry AS other WHERE other.place = entry.place + 1), capture = capture + 1 WHERE {log} AND {number} = 3"),
            "xa-a",
        ),
        ("applied ahead", "UPDATE log SET applied = applied + 1 WHERE box_id = 'xa-a' AND lane = 2".into(), "xa-a"),
        ("applied behind", "UPDATE log SET applied = applied - 1 WHERE box_id = 'xa-a' AND lane = 2".into(), "xa-a"),
        ("another chain", "UPDATE log SET chain = zeroblob(32) WHERE box_id = 'xa-a' AND lane = 2".into(), "chain"),
        ("counters", "UPDATE log SET bytes = bytes + 1 WHERE box_id = 'xa-a' AND lane = 2".into(), "bytes"),
        ("a forged signature", format!("UPDATE batch SET signature = zeroblob(64) WHERE {log} AND {number} = 1"), "signature"),
        ("a deleted signature", format!("DELETE FROM batch WHERE {log} AND {number} = 21"), "number 21"),
        ("another start of a batch", format!("UPDATE batch SET base = zeroblob(32) WHERE {log} AND {number} = 21"), "number 21"),
        ("an unsigned oldest", format!("UPDATE batch SET oldest = oldest + 1 WHERE {log} AND {number} = 21"), "signature"),
        ("a batch of nothing", format!("INSERT INTO batch SELECT place + 1000, first + 1000, last + 1000, oldest, base, signature, received_ms FROM batch WHERE {log} AND {number} = 1"), "no entries"),
        ("another box's key", "UPDATE box SET public_key = (SELECT public_key FROM box AS other WHERE other.box_id = 'xa-b') WHERE box_id = 'xa-a'".into(), "signature"),
        ("no key", "UPDATE box SET public_key = x'00' WHERE box_id = 'xa-a'".into(), "key"),
        ("a deleted gap", "DELETE FROM gap".into(), "number 22"),
        ("a gap too long", "UPDATE gap SET last = last + 1".into(), "number 25"),
        ("a gap that is none", "INSERT INTO gap SELECT NULL, box_id, epoch, lane, 3, 4, reason, noted_ms FROM gap".into(), "number 3"),
        ("a state moved to an older entry", "UPDATE state SET (place, capture) = (SELECT place, capture FROM entry WHERE entry.place < state.place AND CAST(entry.entry AS TEXT) LIKE '%\"s-3\"%' ORDER BY place LIMIT 1) WHERE subject = 's-3' AND agency = 'H53.01'".into(), "older"),
        ("a state moved to a repeated entry, which is older", moved("s-3", "max", "life"), "older"),
        (
            "a state moved to an earlier life",
            moved("s-1", "max", "(SELECT min(life) FROM log WHERE box_id = 'xa-b')"),
            "older",
        ),
        ("a state moved to an entry of an earlier life, as if repeated", moved("s-1", "max", "life"), "older"),
        (
            "an entry of an earlier life, as if repeated",
            "UPDATE state SET life = (SELECT max(life) FROM log WHERE box_id = 'xa-b') WHERE subject = 'after-the-copy'".into(),
            "points to",
        ),
        ("a state of nothing", "UPDATE state SET place = place + 100000 WHERE subject = 's-3' AND agency = 'H53.01'".into(), "points to"),
        ("a state of another subject", "UPDATE state SET place = (SELECT place FROM state AS other WHERE other.subject = 's-2' AND other.agency = 'H53.01') WHERE subject = 's-3' AND agency = 'H53.01'".into(), "present state"),
        ("a missing state", "DELETE FROM state WHERE subject = 's-3'".into(), "older"),
        ("a subject that rose again", "UPDATE state SET deleted = 0 WHERE subject = 'gone'".into(), "points to"),
        ("an invented state", "INSERT INTO state SELECT dataset, agency, 'invented', life, capture, place, 0 FROM state LIMIT 1".into(), "points to"),
        ("a wrong dataset", format!("UPDATE entry SET dataset = NULL WHERE {log} AND {number} = 5"), "columns"),
        ("a wrong capture", format!("UPDATE entry SET capture = capture + 1 WHERE {log} AND {number} = 5"), "columns"),
        ("a log taken away", "DELETE FROM log WHERE box_id = 'xa-a' AND lane = 1".into(), "not written down"),
        ("the original of a double", "DELETE FROM entry WHERE place = (SELECT min(same_as) FROM entry)".into(), "xa-b"),
    ];
    for (what, sql, expected) in damages {
        let hub = whole.copy();
        let connection = Connection::open(hub.path("trucd.db")).unwrap();
        let changed = connection
            .execute(&sql, [])
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(0 < changed, "{what}: nothing was damaged");
        drop(connection);
        let found = hub.run(&["verify"]);
        assert_eq!(
            found.code, 1,
            "{what}: not found\n{}{}",
            found.stdout, found.stderr
        );
        assert!(found.stderr.contains(expected), "{what}: {}", found.stderr);
    }
}

// === Running ===

const LONG: Duration = Duration::from_secs(60);

fn samples(from: u32, count: u32) -> Vec<Sample> {
    (from..from + count)
        .map(|number| Sample::new(&format!("s-{number}"), r#"{"so":1}"#))
        .collect()
}

#[tokio::test]
async fn the_hub_receives_survives_a_kill_and_stops_in_order() {
    let hub = Hub::new();
    let daemon = Daemon::start(&hub).await;
    // Registered while the hub runs.
    let mut sender = Live::start(Office::add(&hub, "xa-a", "H53.01"), &hub);
    sender.keep(&samples(0, 300));
    sender
        .until("all is received", LONG, |sender| sender.waiting() == 0)
        .await;

    let status: Value = daemon.get_json("/status.json");
    let known = &status["boxes"][0];
    assert_eq!(
        (&known["box"], &known["entries"]),
        (&"xa-a".into(), &300.into())
    );
    assert_eq!(known["presence"]["online"], true, "{known}");
    assert!(known["last_seen"].is_string());
    assert_eq!(status["process"]["records"], 300);
    let metrics = daemon.get("/metrics");
    assert!(
        metrics.contains("trucd_box_entries{box=\"xa-a\"} 300\n"),
        "{metrics}"
    );
    assert!(metrics.contains("trucd_link_up 1\n"), "{metrics}");

    assert!(
        hub.ok(&["verify"]).contains("300 entries"),
        "beside the hub"
    );
    daemon.kill();
    sender.keep(&samples(300, 50));
    sender
        .until("the loss is noticed", LONG, |sender| !sender.is_up)
        .await;
    let daemon = Daemon::start(&hub).await;
    sender
        .until("the rest is received", LONG, |sender| sender.waiting() == 0)
        .await;
    assert_eq!(daemon.stop(), 0);
    assert_eq!(
        lines(&hub.ok(&["records", "ho_so_tthc", "--history"])).len(),
        350
    );
    assert!(hub.ok(&["verify"]).contains("350 entries"));
}

#[tokio::test]
async fn a_suspended_box_is_sent_away_and_comes_back() {
    let hub = Hub::new();
    let daemon = Daemon::start(&hub).await;
    let mut sender = Live::start(Office::add(&hub, "xa-a", "H53.01"), &hub);
    sender.keep(&samples(0, 10));
    sender
        .until("all is received", LONG, |sender| sender.waiting() == 0)
        .await;

    hub.ok(&["box", "suspend", "xa-a"]);
    sender.keep(&samples(10, 10));
    sender
        .until("it is sent away", LONG, |sender| !sender.is_up)
        .await;
    sender
        .until("it is refused", LONG, |sender| {
            sender
                .downs
                .iter()
                .any(|reason| matches!(reason, DownReason::MqttRefused(_)))
        })
        .await;
    assert_eq!(sender.waiting(), 10, "nothing was taken, nothing is lost");

    hub.ok(&["box", "resume", "xa-a"]);
    sender
        .until("all is received", 2 * LONG, |sender| sender.waiting() == 0)
        .await;
    assert_eq!(daemon.stop(), 0);
    hub.ok(&["verify"]);
}

/// A fault that one box's rows provoke stops neither the others nor the hub.
#[tokio::test]
async fn what_the_store_cannot_take_from_one_box_holds_up_no_other() {
    let hub = Hub::new();
    let mut sick = Office::add(&hub, "xa-b", "H53.02");
    sick.keep(&samples(0, 5));
    let connection = Connection::open(hub.path("trucd.db")).unwrap();
    connection
        // The broker lets it in by the key that it may use next; the engine meets the broken one.
        .execute_batch(
            "INSERT INTO box_key SELECT NULL, box_id, public_key, serial, '', 0, 0, 'offered', 0
               FROM box WHERE box_id = 'xa-b';
             UPDATE box SET public_key = x'00' WHERE box_id = 'xa-b'",
        )
        .unwrap();
    drop(connection);
    let daemon = Daemon::start(&hub).await;
    let mut sick = Live::start(sick, &hub);
    let mut sound = Live::start(Office::add(&hub, "xa-a", "H53.01"), &hub);
    sick.until("the sick box is connected", LONG, |sick| sick.is_up)
        .await;
    for round in 0..5 {
        sound.keep(&samples(round * 20, 20));
        sick.keep(&samples(100 + round, 1));
        sick.until("it has sent", LONG, |_| true).await;
        sound
            .until("all is received", LONG, |sound| sound.waiting() == 0)
            .await;
    }
    let status: Value = daemon.get_json("/status.json");
    assert!(
        0 < status["process"]["set_aside"].as_u64().unwrap(),
        "{status}"
    );
    assert_eq!(status["process"]["records"], 100);
    assert_eq!(sick.waiting(), 10, "what was set aside is not lost");
    assert_eq!(daemon.stop(), 0);
}

#[tokio::test]
async fn a_full_store_refuses_and_goes_on_when_there_is_room() {
    let hub = Hub::new();
    hub.edit("64 GiB", "8 MiB");
    let daemon = Daemon::start(&hub).await;
    let mut sender = Live::start(Office::add(&hub, "xa-a", "H53.01"), &hub);
    // Digits that do not repeat, so that the store and not the wire decides.
    let mut state = 1_u64;
    let mut large = |number: u32| {
        let digits: String = (0..4_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                format!("{:016x}", state)
            })
            .collect();
        Sample::new(&format!("s-{number}"), &format!(r#"{{"x":"{digits}"}}"#))
    };
    let many: Vec<Sample> = (0..160).map(&mut large).collect();
    sender.keep(&many);
    sender
        .until("the hub says that it cannot go on", LONG, |_| {
            !daemon.is_healthy()
        })
        .await;
    assert!(0 < sender.waiting());
    assert_eq!(daemon.stop(), 0, "a full disk is no reason to die");
    hub.ok(&["verify"]);
    hub.edit("8 MiB", "1 GiB");
    let _daemon = Daemon::start(&hub).await;
    sender
        .until("all is received", 2 * LONG, |sender| sender.waiting() == 0)
        .await;
    assert!(hub.ok(&["verify"]).contains("160 entries"));
}

#[tokio::test]
async fn the_service_manager_hears_of_start_progress_and_end() {
    let hub = Hub::new();
    let folder = tempfile::tempdir().unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    // The receipt key comes as a credential and lies nowhere else.
    fs::rename(hub.path("receipt.key"), folder.path().join("receipt.key")).unwrap();
    let daemon = Daemon::start_with(&hub, |command| {
        command
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .env("WATCHDOG_USEC", "2000000")
            .env("CREDENTIALS_DIRECTORY", folder.path());
    })
    .await;
    let hear = |wanted: &str| {
        let mut buffer = [0; 2048];
        loop {
            let length = socket.recv(&mut buffer).expect(wanted);
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(wanted) {
                return message;
            }
        }
    };
    hear("READY=1");
    for _ in 0..3 {
        hear("WATCHDOG=1");
    }
    assert!(
        tokio::task::spawn_blocking(move || daemon.stop())
            .await
            .unwrap()
            == 0
    );
    hear("STOPPING=1");
}

#[tokio::test]
async fn a_configuration_that_cannot_run_says_why() {
    let hub = Hub::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", hub.port)).unwrap();
    let refused = hub.run(&["run"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("cannot listen on"),
        "{}",
        refused.stderr
    );
    drop(taken);
    fs::write(hub.path("receipt.key"), "nonsense").unwrap();
    let refused = hub.run(&["run"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("receipt.key"), "{}", refused.stderr);
}

#[tokio::test]
async fn mosquitto_serves_with_what_init_wrote() {
    let hub = Hub::new();
    let broker = Mosquitto::start(&hub).await;
    hub.edit("broker = \"embedded\"", "broker = \"external\"");
    hub.edit("# addresses = [", "addresses = [");
    let daemon = Daemon::start(&hub).await;

    let mut hostile = Live::start(Office::add(&hub, "xa-b", "H53.02"), &hub);
    hostile.also_subscribe(&["$share/trucd/lt/1/+/up", "lt/1/+/up", "lt/1/xa-a/down"]);
    let mut sender = Live::start(Office::add(&hub, "xa-a", "H53.01"), &hub);
    hostile
        .until("the hostile box is connected", LONG, |hostile| {
            hostile.is_up
        })
        .await;
    sender.keep(&samples(0, 300));
    sender
        .until("all is received", LONG, |sender| sender.waiting() == 0)
        .await;

    // Another box's name, in a batch that carries its own signature, on the other's topic.
    hostile.publish("lt/1/xa-a/up", b"x");
    hostile
        .until("it is refused", LONG, |hostile| {
            0 < hostile.publishes_refused
        })
        .await;
    assert_eq!(hostile.foreign, 0, "another box's messages were seen");

    let stranger = Hub::new();
    stranger.ok(&["box", "add", "xa-a", "--agency", "H53.01"]);
    let mut forged = Live::with_material(&stranger.path("boxes/xa-a"), &hub);
    forged
        .until("the stranger is refused", LONG, |forged| {
            !forged.downs.is_empty()
        })
        .await;
    assert!(!forged.is_up);
    drop(forged);

    // It keeps nothing over a restart, and nobody needs it to.
    drop(broker);
    sender.keep(&samples(300, 20));
    let _broker = Mosquitto::start(&hub).await;
    sender
        .until("the rest is received", 2 * LONG, |sender| {
            sender.waiting() == 0
        })
        .await;
    assert_eq!(daemon.stop(), 0);
    let status: Value = serde_json::from_str(&hub.ok(&["status", "--json"])).unwrap();
    assert_eq!(status["totals"]["entries"], 320);
    assert_eq!(status["totals"]["refused"], 0);
    hub.ok(&["verify"]);
}
