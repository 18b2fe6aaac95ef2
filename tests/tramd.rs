//! The box's commands, against the real program.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rig::{Broker, DATASET, Rig, dossier, run, tramd, wait_for};
use serde_json::Value;

const XA: &str = "xa-tan-bien";
const AGENCY: &str = "H53.12";

fn box_beside_a_hub() -> Rig {
    let mut rig = Rig::start(Broker::Embedded);
    let port = rig.port;
    rig.add_box(XA, AGENCY, port);
    rig
}

fn config(rig: &Rig) -> PathBuf {
    rig.boxes[XA].folder.join("tramd.toml")
}

fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = tramd();
    command.args(arguments).arg("--config").arg(config(rig));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    run(tramd().arg("--help"), 0);
    run(tramd().arg("--version"), 0);
    run(&mut tramd(), 64);
    run(tramd().arg("dance"), 64);
    run(tramd().args(["put", "only-one"]), 64);
}

#[test]
fn config_prints_what_counts_or_every_fault() {
    let rig = box_beside_a_hub();
    let output = run(&mut command(&rig, &["config"]), 0);
    let printed = text(&output.stdout);
    assert!(printed.contains("# tramd.d/10-test.toml:"), "{printed}");
    assert!(printed.contains("# default"), "{printed}");
    toml::from_str::<toml::Table>(&printed).expect("TOML");
    let broken = "[store]\nqouta = \"1 GiB\"\ntail_keep = \"soon\"\n[http]\nname = \"a.b\"\n";
    fs::write(rig.boxes[XA].folder.join("tramd.d/30-broken.toml"), broken).expect("written");
    for arguments in [&["config"][..], &["run"], &["status"]] {
        let output = run(&mut command(&rig, arguments), 78);
        let said = text(&output.stderr);
        for part in [
            "30-broken.toml:2: store.qouta",
            "“quota”",
            "store.tail_keep",
            "http.name",
        ] {
            assert!(said.contains(part), "{arguments:?} {part}: {said}");
        }
    }
    run(
        tramd().args(["config", "--config", "/nowhere/tramd.toml"]),
        78,
    );
}

#[test]
fn a_key_that_does_not_fit_is_a_configuration_fault() {
    let rig = box_beside_a_hub();
    let key = rig.boxes[XA].folder.join("box.key");
    fs::write(&key, "no key").expect("written");
    let output = run(&mut command(&rig, &["run"]), 78);
    let said = text(&output.stderr);
    assert!(
        said.contains("box.key") && said.contains("private key"),
        "{said}"
    );
}

#[test]
fn put_goes_through_the_daemon_or_straight_into_the_store() {
    let mut rig = box_beside_a_hub();
    rig.kill_hub();
    let file = rig.folder.path().join("ho-so.ndjson");
    let lines: Vec<String> = (0..3).map(|n| dossier(AGENCY, n)).collect();
    fs::write(&file, lines.join("\n")).expect("written");
    let file = file.display().to_string();
    let output = run(
        &mut command(&rig, &["put", DATASET, &file, "--key", "mot"]),
        0,
    );
    assert!(text(&output.stdout).starts_with("đã nhận 3 bản ghi / accepted 3\n"));
    rig.start_box(XA);
    assert_eq!(rig.waiting(XA), 3);
    let output = run(
        &mut command(&rig, &["put", DATASET, &file, "--key", "mot"]),
        0,
    );
    assert!(
        text(&output.stdout).contains("accepted before 3"),
        "a repeat with its key is harmless"
    );
    run(&mut command(&rig, &["put", DATASET, &file]), 0);
    wait_for("six wait", Duration::from_secs(5), || rig.waiting(XA) == 6);
    let broken = rig.folder.path().join("x.json");
    fs::write(&broken, "[{}]").expect("written");
    let output = run(
        &mut command(&rig, &["put", DATASET, &broken.display().to_string()]),
        1,
    );
    assert!(
        text(&output.stderr).contains("/0/ma_ho_so: "),
        "{}",
        text(&output.stderr)
    );
    run(&mut command(&rig, &["put", "khong_co", &file]), 1);
    run(&mut command(&rig, &["put", "KHONG", &file]), 64);
    run(&mut command(&rig, &["put", DATASET, "/nowhere.json"]), 1);
    wait_for("the counts show", Duration::from_secs(40), || {
        rig.status(XA)["sources"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|source| source["name"] == "put" && source["accepted"] == 6)
    });
}

#[test]
fn a_store_has_one_owner_and_a_stranger_is_turned_away() {
    let mut rig = box_beside_a_hub();
    rig.start_box(XA);
    let port = rig::free_port();
    let other = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    fs::write(rig.boxes[XA].folder.join("tramd.d/30-other.toml"), other).expect("written");
    let output = run(&mut command(&rig, &["run"]), 1);
    assert!(
        text(&output.stderr).contains("in use"),
        "{}",
        text(&output.stderr)
    );
    rig.process(XA).signal(Signal::SIGTERM);
    rig.process(XA)
        .wait(Duration::from_secs(15))
        .expect("it ends");
    let store = rusqlite::Connection::open(rig.boxes[XA].folder.join("box.db")).expect("the store");
    store
        .execute("UPDATE box SET box_id = 'xa-khac'", [])
        .expect("written");
    drop(store);
    let output = run(&mut command(&rig, &["run"]), 78);
    assert!(
        text(&output.stderr).contains("xa-khac"),
        "{}",
        text(&output.stderr)
    );
}

fn outcomes(output: &std::process::Output) -> Vec<(String, String)> {
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    let word = |check: &Value, name: &str| check[name].as_str().expect("text").to_owned();
    checks
        .iter()
        .map(|check| (word(check, "id"), word(check, "outcome")))
        .collect()
}

#[test]
fn check_walks_the_whole_way_and_names_what_is_broken() {
    let mut rig = box_beside_a_hub();
    // Registered boxes are known to a running hub at once, so a greeting is answered.
    let output = run(
        command(&rig, &["put", DATASET, "-"]).stdin(std::process::Stdio::null()),
        1,
    );
    assert!(
        text(&output.stderr).contains("không có bản ghi nào"),
        "{}",
        text(&output.stderr)
    );
    let outcome = |output: &std::process::Output, id: &str| {
        let found = outcomes(output).into_iter().find(|(known, _)| known == id);
        found.expect("every check is told").1
    };
    let output = run(&mut command(&rig, &["check", "--json"]), 0);
    assert_eq!(outcomes(&output).len(), 13);
    for id in [
        "configuration",
        "catalogue",
        "store",
        "certificate",
        "name",
        "tcp",
        "tls",
        "mqtt",
        "receipt",
        "sources",
        "page",
    ] {
        assert_eq!(outcome(&output, id), "ok", "{id}: {}", text(&output.stdout));
    }
    // Beside the daemon nothing takes the box's place at the broker.
    rig.start_box(XA);
    wait_for("the link is up", Duration::from_secs(20), || {
        rig.status(XA)["link"]["state"] == "up"
    });
    let since = rig.status(XA)["link"]["since"].clone();
    wait_for("a receipt came", Duration::from_secs(20), || {
        rig.status(XA)["link"]["last_receipt"].is_string()
    });
    let output = run(&mut command(&rig, &["check", "--json"]), 0);
    assert_eq!(
        (outcome(&output, "mqtt"), outcome(&output, "receipt")),
        ("ok".to_owned(), "ok".to_owned())
    );
    assert_eq!(rig.status(XA)["link"]["since"], since);
    // Without a hub the step that breaks says what to do.
    rig.kill_box(XA);
    rig.kill_hub();
    let output = run(&mut command(&rig, &["check", "--json"]), 1);
    let words = ["name", "tcp", "tls", "mqtt", "receipt"].map(|id| outcome(&output, id));
    assert_eq!(words, ["ok", "failed", "skipped", "skipped", "skipped"]);
    let output = run(&mut command(&rig, &["check"]), 1);
    let said = text(&output.stdout);
    assert!(
        said.contains("HỎNG") && said.contains("tcp-refused"),
        "{said}"
    );
    fs::write(config(&rig), "[box]\nid = 5\n").expect("written");
    let output = run(&mut command(&rig, &["check", "--json"]), 1);
    assert_eq!(
        outcomes(&output)[0],
        ("configuration".to_owned(), "failed".to_owned())
    );
}

#[test]
fn check_reaches_into_each_source_and_says_what_to_do() {
    let rig = box_beside_a_hub();
    let folder = rig.boxes[XA].folder.clone();
    let database = folder.join("motcua.db");
    let table = "CREATE TABLE v_ho_so (ma_ho_so TEXT PRIMARY KEY)";
    let connection = rusqlite::Connection::open(&database).expect("opened");
    connection.execute_batch(table).expect("a table");
    let sources = |url: &str| {
        let text = format!(
            "[[source]]\nname = \"mot-cua-db\"\nkind = \"sql\"\ndataset = \"{DATASET}\"\ndriver = \"sqlite\"\n\
             file = \"{}\"\nmode = \"snapshot\"\nkey = [\"ma_ho_so\"]\nquery = \"SELECT * FROM v_ho_so\"\n{url}",
            database.display()
        );
        fs::write(folder.join("tramd.d/20-sources.toml"), text).expect("written");
    };
    let told = |code: i32| {
        let output = run(&mut command(&rig, &["check", "--json"]), code);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = report["checks"].as_array().expect("checks").clone();
        let found = checks.into_iter().find(|check| check["id"] == "sources");
        found.expect("sources are checked")
    };
    sources("");
    assert_eq!(told(0)["outcome"], "ok");
    let port = rig::free_port();
    sources(&format!(
        "[[source]]\nname = \"dich-vu\"\nkind = \"http_pull\"\ndataset = \"{DATASET}\"\n\
         url = \"http://127.0.0.1:{port}/ho-so\"\nitems = \"\"\nkey = [\"/ma\"]\n[source.fields]\nma_ho_so = \"/ma\"\n"
    ));
    let check = told(1);
    let said = |key: &str| check[key].as_str().expect("text").to_owned();
    assert!(said("detail_vi").contains("dich-vu: "), "{check}");
    assert!(!said("detail_vi").contains("mot-cua-db"), "{check}");
    assert!(said("hint_vi").len() > "dich-vu: ".len(), "{check}");
    fs::remove_file(&database).expect("removed");
    assert!(
        told(1)["detail_vi"]
            .as_str()
            .expect("text")
            .contains("mot-cua-db")
    );
    assert!(!database.exists(), "a check makes no database");
}

#[test]
fn status_tells_a_person_and_a_program_the_same() {
    let mut rig = box_beside_a_hub();
    rig.start_box(XA);
    wait_for("the link is up", Duration::from_secs(20), || {
        rig.status(XA)["link"]["state"] == "up"
    });
    let output = run(&mut command(&rig, &["status"]), 0);
    let said = text(&output.stdout);
    assert!(said.contains("đã nối với 127.0.0.1:"), "{said}");
    let output = run(&mut command(&rig, &["status", "--json"]), 0);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (status["box"].as_str(), status["link"]["state"].as_str()),
        (Some(XA), Some("up"))
    );
    rig.kill_box(XA);
    let output = run(&mut command(&rig, &["status"]), 0);
    assert!(
        text(&output.stdout).contains("không chạy"),
        "{}",
        text(&output.stdout)
    );
}
