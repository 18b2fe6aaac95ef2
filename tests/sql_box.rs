//! Sources of kind `sql` with the real programs: killed at random moments, with large tables, and
//! the commands about sources.
//!
//! `SQL_CRASH_ROUNDS` (20) and `SQL_ROWS` (100000) make the long forms.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "bed/offices.rs"]
#[allow(dead_code)]
mod offices;
#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "bed/servers.rs"]
#[allow(dead_code)]
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use lienthong::edge::blobs::Blobs;
use lienthong::edge::config::sql::Place;
use offices::{Kind, Office, SELECT};
use one_box::{XA, configure, one_box};
use rig::{Rig, run, tramd, wait_for};
use serde_json::Value;

/// For tens of rounds; the long forms take what they need.
fn patience() -> Duration {
    let rounds = number("SQL_CRASH_ROUNDS", 20) + number("SQL_ROWS", 100_000) / 20_000;
    Duration::from_secs(60 + 5 * rounds)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Where an office's database is, as settings.
fn place(office: &Office) -> String {
    match office.place().1 {
        Place::File(file) => format!("driver = \"sqlite\"\nfile = \"{}\"\n", file.display()),
        Place::Server(server) => format!(
            "driver = \"{}\"\nhost = \"{}\"\nport = {}\ndatabase = \"{}\"\nuser = \"{}\"\npassword_file = \"{}\"\n",
            if server.user == "chu" {
                "mysql"
            } else {
                "postgres"
            },
            server.host,
            server.port,
            server.database,
            server.user,
            office.secret().display()
        ),
        Place::Odbc { .. } => panic!("not used here"),
    }
}

const COLUMNS: &str = "[source.columns]\nso = \"ma_ho_so\"\ntthc = \"ma_tthc\"\ncq = \"co_quan_tiep_nhan\"\ncq2 = \"co_quan_giai_quyet\"\nloai = \"nguoi_nop.loai\"\nten = \"nguoi_nop.ho_ten\"\nngay = \"ngay_tiep_nhan\"\nphi = \"phi\"\nda_thu = \"da_thu\"\ngoc = \"trang_thai_goc\"\nchuan = \"trang_thai_chuan\"\n";

/// Every third dossier has a file, another one for each.
const FILES: &str =
    "[[source.attachment]]\ncolumn = \"tep\"\nname = \"{so}.pdf\"\nmime = \"application/pdf\"\n";

fn source_with_files(name: &str, mode: &str, tail: &str, office: &Office) -> String {
    let plain = source(name, mode, tail, office);
    plain.replacen(" FROM ho_so", ", tep FROM ho_so", 1) + FILES
}

fn content(id: u64) -> Option<Vec<u8>> {
    let length = 1_000 + id as usize % 7 * 9_000;
    let byte = |at: usize| (at as u64 * 31 + id * 7 + at as u64 / 251) as u8;
    id.is_multiple_of(3)
        .then(|| (0..length).map(byte).collect())
}

/// Adds dossiers with their files, in one transaction: a row is never there without its file.
async fn add(office: &mut Office, ids: std::ops::RangeInclusive<u64>) {
    office.run("BEGIN").await;
    office.add(ids.clone()).await;
    for id in ids {
        if let Some(content) = content(id) {
            office.attach(id, Some(&content)).await;
        }
    }
    office.run("COMMIT").await;
}

fn source(name: &str, mode: &str, tail: &str, office: &Office) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\nkind = \"sql\"\ndataset = \"ho_so_tthc\"\npoll = \"100 ms\"\nrows_max = 200\n{}{mode}query = \"\"\"{SELECT} {tail}\"\"\"\n{COLUMNS}\n",
        place(office)
    )
}

fn three_sources_with_files(office: &Office) -> String {
    three(office, source_with_files)
}

fn three_sources(office: &Office) -> String {
    three(office, source)
}

fn three(office: &Office, source: fn(&str, &str, &str, &Office) -> String) -> String {
    let by_id = source(
        "theo-so",
        "mode = \"increasing\"\nwatermark = \"id\"\n",
        "WHERE id > :after ORDER BY id LIMIT :limit",
        office,
    );
    let by_time = source(
        "theo-gio",
        "mode = \"time\"\nwatermark = \"cap_nhat\"\noverlap = \"10 min\"\n",
        "WHERE cap_nhat >= :after ORDER BY cap_nhat LIMIT :limit",
        office,
    );
    let snapshot = source(
        "toan-bang",
        "mode = \"snapshot\"\nkey = [\"id\"]\n",
        "",
        office,
    );
    format!("{by_id}{by_time}{snapshot}")
}

fn write_sources(rig: &Rig, text: &str) {
    configure(rig, "50-sources.toml", text);
}

fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = tramd();
    command
        .args(arguments)
        .arg("--config")
        .arg(rig.boxes[XA].folder.join("tramd.toml"));
    command
}

fn said(command: &mut Command, code: i32) -> String {
    String::from_utf8(run(command, code).stdout).unwrap()
}

/// The entries that are records; the others are chunks of attachments.
fn records(rig: &Rig) -> Vec<serde_json::Value> {
    let mut entries = rig.entries(XA);
    entries.retain(|entry| entry.get("chunk").is_none());
    entries
}

/// How often each source has given each dossier, and the operations on it.
fn given(rig: &Rig) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut entries = records(rig);
    entries.sort_by_key(|entry| entry["capture"].as_u64());
    let mut given: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for entry in &entries {
        let source = entry["source"].as_str().unwrap().to_owned();
        let subject = entry["subject"].as_str().unwrap().to_owned();
        let op = entry["op"].as_str().unwrap_or("upsert").to_owned();
        let subjects = given.entry(source).or_default();
        subjects.entry(subject).or_default().push(op);
    }
    given
}

async fn killed_at_random_moments(kind: Kind) {
    let rounds = number("SQL_CRASH_ROUNDS", 20);
    let added = 150.min(40_000 / rounds);
    let mut office = Office::open(kind).await;
    office.add_file_columns().await;
    add(&mut office, 1..=600).await;
    let mut rig = one_box();
    write_sources(&rig, &three_sources_with_files(&office));
    let (mut last, mut kept) = (600, Vec::new());
    for round in 0..rounds {
        rig.launch_box(XA);
        let pause_ms = getrandom::u64().unwrap() % 900;
        tokio::time::sleep(Duration::from_millis(pause_ms / 2)).await;
        add(&mut office, last + 1..=last + added).await;
        last += added;
        // Every other round some rows that were there go.
        if round % 2 == 1 {
            let gone = last - added + 1;
            let statement = format!("DELETE FROM ho_so WHERE id = {gone}");
            office.run(&statement).await;
            kept.push(gone);
        }
        tokio::time::sleep(Duration::from_millis(pause_ms / 2)).await;
        rig.kill_box(XA);
    }
    let gone = kept;
    rig.start_box(XA);
    office.add(last + 1..=last + 1).await;
    let rest = last + 1 - gone.len() as u64;
    wait_for("everything was read", patience(), || {
        let given = given(&rig);
        let has = |source: &str| {
            let subjects = given.get(source);
            subjects.is_some_and(|subjects| subjects.contains_key(&offices::code(last + 1)))
        };
        has("theo-so") && has("theo-gio") && has("toan-bang")
    });
    // The sweep that met the last row also says what is gone; the next one is read to its end.
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.wait_until_drained(XA, patience());
    let given = given(&rig);
    for (source, subjects) in &given {
        for (subject, ops) in subjects {
            let is_gone = gone.iter().any(|id| *subject == offices::code(*id));
            let expected = match (source.as_str(), is_gone) {
                ("toan-bang", true) => 2,
                _ => 1,
            };
            assert_eq!(ops.len(), expected, "{source} {subject} {ops:?}");
            assert_eq!(
                ops.iter().any(|op| op == "delete"),
                expected == 2,
                "{ops:?}"
            );
        }
        let present = subjects
            .keys()
            .filter(|subject| !gone.iter().any(|id| **subject == offices::code(*id)));
        assert_eq!(present.count() as u64, rest, "{source}: none is lost");
    }
    assert_eq!(given.len(), 3);
    every_file_is_there(&rig, last);
    rig.verify();
}

/// Every record of a dossier with a file names it, and the box's store has it byte for byte; no
/// other record names one.
fn every_file_is_there(rig: &Rig, last: u64) {
    let ids: BTreeMap<String, u64> = (1..=last + 1).map(|id| (offices::code(id), id)).collect();
    let blobs = Blobs::beside(&rig.boxes[XA].folder.join("box.db"), 1 << 30);
    let mut files = 0;
    for entry in records(rig) {
        let id = ids[entry["subject"].as_str().unwrap()];
        let named = entry["attachments"].as_array().cloned().unwrap_or_default();
        let expected = content(id).filter(|_| entry["op"] != "delete");
        let expected: Vec<Vec<u8>> = expected.into_iter().collect();
        assert_eq!(named.len(), expected.len(), "{id}: {named:?}");
        for (file, content) in named.iter().zip(expected) {
            let kept = blobs.get(file["sha256"].as_str().unwrap()).unwrap();
            assert!(kept.is_some_and(|kept| kept == content), "{id}: {file}");
            files += 1;
        }
    }
    assert!(last / 3 <= files, "{files} files of {last} dossiers");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_polls_sqlite() {
    killed_at_random_moments(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_polls_postgres() {
    killed_at_random_moments(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_polls_mariadb() {
    killed_at_random_moments(Kind::Mariadb).await;
}

/// Most memory that a process has had, KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A box reads a table of so many rows by snapshot, twice; most memory, KiB.
async fn memory_of_a_sweep(rows: u64) -> u64 {
    let mut office = Office::open(Kind::Sqlite).await;
    office.fill(rows).await;
    let mut rig = one_box();
    rig.kill_hub();
    let snapshot = source(
        "toan-bang",
        "mode = \"snapshot\"\nkey = [\"id\"]\n",
        "",
        &office,
    );
    let store = "[store]\nquota = \"64 GiB\"\n";
    write_sources(
        &rig,
        &format!(
            "{store}{}",
            snapshot.replace("rows_max = 200", "rows_max = 100000")
        ),
    );
    rig.start_box(XA);
    wait_for("the first sweep", patience(), || {
        let accepted = &rig.status(XA)["lanes"][4]["newest"];
        accepted.as_u64() == Some(rows)
    });
    // A sweep that finds nothing new reads everything again.
    office
        .run("UPDATE ho_so SET ten = 'Đã sửa' WHERE id = 1")
        .await;
    wait_for("the second sweep", patience(), || {
        let lanes = rig.status(XA)["lanes"].clone();
        let newest = |lane: usize| lanes[lane]["newest"].as_u64().unwrap();
        (1..=2).map(newest).sum::<u64>() == 1
    });
    peak_kib(rig.pid(XA))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_table() {
    let small = memory_of_a_sweep(10_000).await;
    let rows = number("SQL_ROWS", 100_000);
    let large = memory_of_a_sweep(rows).await;
    println!("{small} KiB with 10000 rows, {large} KiB with {rows}");
    // One bit a row and what the allocator makes of it.
    assert!(
        large < small + 8 * 1024 + rows / 1024,
        "{small} KiB, then {large} KiB"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_tried_discovered_and_mended_by_commands() {
    let mut office = Office::open(Kind::Postgres).await;
    office.add(1..=5).await;
    office
        .run("UPDATE ho_so SET so = 'sai mã' WHERE id = 2")
        .await;
    let mut rig = one_box();
    write_sources(&rig, &three_sources(&office));

    let tried = said(&mut command(&rig, &["sources", "try", "theo-so"]), 0);
    assert!(
        tried.contains("4 taken, 1 refused") && tried.contains("Mã hồ sơ"),
        "{tried}"
    );
    assert!(
        !tried.contains("Người Thử"),
        "personal values are masked: {tried}"
    );
    let found = said(&mut command(&rig, &["sources", "discover", "theo-so"]), 0);
    for part in [
        "# ho_so",
        "cap_nhat",
        "mode = \"time\"",
        "[source.columns]",
        "phi = \"phi\"",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert!(!found.contains("Người Thử"), "names only: {found}");
    let settings = found[found.find("mode = ").unwrap()..].replace("[source.columns]", "[columns]");
    toml::from_str::<toml::Table>(&settings).expect("the proposal is TOML");
    assert!(
        !rig.boxes[XA].folder.join("box.db").exists(),
        "nothing was kept"
    );

    rig.start_box(XA);
    wait_for("it has read", patience(), || {
        let listed = said(&mut command(&rig, &["sources", "list"]), 0);
        listed.matches("giữ lại 1").count() == 3
    });
    let status: Value = rig.status(XA);
    assert_eq!(status["sources"][1]["kind"], "sql");
    assert_eq!(status["sources"][1]["parked"], 1);
    let parked = said(&mut command(&rig, &["sources", "parked", "theo-so"]), 0);
    assert!(
        parked.contains("Mã hồ sơ") && !parked.contains("Người Thử"),
        "{parked}"
    );
    let id = parked.split(' ').next().unwrap().to_owned();
    said(
        &mut command(&rig, &["sources", "retry", "theo-so", "--all"]),
        1,
    );
    said(&mut command(&rig, &["sources", "drop", "theo-so", &id]), 64);
    let reason = ["sources", "drop", "theo-so", &id, "--reason", "nhập sai"];
    said(&mut command(&rig, &reason), 0);
    let parked = said(&mut command(&rig, &["sources", "parked", "theo-so"]), 0);
    assert!(parked.contains("no row is parked"), "{parked}");

    // Reading goes back when told to.
    let rewind = ["sources", "rewind", "theo-so", "--to", "3"];
    said(&mut command(&rig, &rewind), 0);
    wait_for("rows 4 and 5 come again", patience(), || {
        let given = given(&rig);
        let times = |id| given["theo-so"].get(&offices::code(id)).map_or(0, Vec::len);
        (times(3), times(4), times(5)) == (1, 2, 2)
    });
    // What leads around the socket beside the store is not there for the network.
    let port = rig.boxes[XA].http_port;
    let url = format!("http://127.0.0.1:{port}/v1/local/parked/drop?source=theo-gio&number=1");
    let answer = rig::agent().post(&url).send_empty().unwrap();
    assert_eq!(answer.status(), 404);

    // Without the daemon the command does it itself.
    rig.kill_box(XA);
    said(&mut command(&rig, &["sources", "retry", "theo-gio"]), 1);
}
