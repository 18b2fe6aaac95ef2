//! Catalogues and commands between real processes: published while a box is away, forged, repeated,
//! and with the box killed at any moment.

use std::time::Duration;

use crate::rig::{Broker, Rig, agent, hand_in, tramd, wait_for};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
const PHUONG: &str = "phuong-hai";
const LONG: Duration = Duration::from_secs(90);

fn catalogue(rig: &Rig, name: &str) -> serde_json::Value {
    let port = rig.boxes[name].http_port;
    agent()
        .get(format!("http://127.0.0.1:{port}/v1/catalogue"))
        .call()
        .expect("the box answers")
        .body_mut()
        .read_json()
        .expect("JSON")
}

fn version(rig: &Rig, name: &str) -> u64 {
    let answer = catalogue(rig, name);
    answer["current"]["version"].as_u64().unwrap_or(0)
}

fn commands(rig: &Rig) -> Vec<serde_json::Value> {
    let text = rig.trucd(&["command", "list", "--json"], 0);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn state(rig: &Rig, name: &str) -> String {
    let all = commands(rig);
    let found = all.iter().find(|line| line["name"] == name);
    found.expect("it was given")["state"]
        .as_str()
        .expect("a text")
        .to_owned()
}

fn audit(rig: &Rig, name: &str) -> String {
    let output = crate::rig::run(
        tramd()
            .args(["audit", "--json", "--config"])
            .arg(rig.boxes[name].folder.join("tramd.toml")),
        0,
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The shipped catalogue in a folder of its own, with one dataset more.
fn with_one_more(rig: &Rig) -> std::path::PathBuf {
    let from = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
    let folder = rig.folder.path().join("danh-muc");
    std::fs::create_dir_all(folder.join("codes")).expect("a folder");
    for below in ["", "codes"] {
        for entry in std::fs::read_dir(format!("{from}/{below}")).expect("shipped") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|kind| kind == "toml") {
                let name = path.file_name().expect("a name");
                std::fs::copy(&path, folder.join(below).join(name)).expect("copied");
            }
        }
    }
    let text = std::fs::read_to_string(folder.join("ho_so_tthc.toml")).expect("shipped");
    let text = text.replacen("id = \"ho_so_tthc\"", "id = \"ho_so_moi\"", 1);
    let code = text.lines().find(|line| line.starts_with("code = "));
    let code = code.expect("a code").to_owned();
    let text = text.replacen(&code, "code = \"D91\"", 1);
    std::fs::write(folder.join("ho_so_moi.toml"), text).expect("written");
    folder
}

#[test]
fn catalogues_and_commands_reach_boxes_that_were_away_and_are_answered_once() {
    let mut rig = Rig::start(Broker::Embedded);
    let port = rig.port;
    rig.add_box(XA, AGENCY, port);
    rig.start_box(XA);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..5));
    assert_eq!(version(&rig, XA), 0, "the installed one");

    // Two boxes hear of it: one that runs, one that is registered and started later.
    let folder = with_one_more(&rig);
    let folder = folder.to_str().expect("UTF-8").to_owned();
    rig.trucd(&["catalogue", "check", &folder], 0);
    let today: String = rig.status(XA)["at"].as_str().expect("a time")[..10].to_owned();
    rig.trucd(&["catalogue", "publish", &folder, "--effective", &today], 0);
    wait_for("the running box changes", LONG, || version(&rig, XA) == 1);
    let known = catalogue(&rig, XA).to_string();
    assert!(known.contains("ho_so_moi"), "{known}");
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 5..10));

    rig.add_box(PHUONG, "H53.13", port);
    rig.start_box(PHUONG);
    wait_for("the later box changes", LONG, || version(&rig, PHUONG) == 1);

    // A set that lacks what there are records of is not published.
    std::fs::remove_file(format!("{folder}/ho_so_tthc.toml")).expect("removed");
    rig.trucd(&["catalogue", "publish", &folder, "--effective", &today], 1);
    std::fs::write(format!("{folder}/hong.toml"), "id = \n").expect("written");
    rig.trucd(&["catalogue", "check", &folder], 1);

    // One file more while the box is away, and commands of which one is too late by then.
    rig.kill_box(XA);
    let one = format!("{folder}/ho_so_moi.toml");
    rig.trucd(&["catalogue", "publish", &one, "--effective", &today], 0);
    rig.trucd(&["command", XA, "pause_source", "mot-cua"], 0);
    rig.trucd(&["command", XA, "set_bandwidth", "00:00-24:00 64"], 0);
    rig.trucd(&["command", XA, "send_diagnostics"], 0);
    rig.trucd(&["command", XA, "format_disk"], 1);
    rig.start_box(XA);
    wait_for("the box that was away changes", LONG, || {
        version(&rig, XA) == 2
    });
    wait_for("every command is answered", LONG, || {
        commands(&rig).iter().all(|line| line["state"] == "done")
    });
    assert!(
        !hand_in(rig.boxes[XA].http_port, AGENCY, 10..11),
        "the source rests"
    );
    assert_eq!(rig.status(XA)["bandwidth_kbps"], 64);
    let diagnostics = commands(&rig);
    let diagnostics = diagnostics
        .iter()
        .find(|line| line["name"] == "send_diagnostics");
    let detail = diagnostics.expect("given")["detail"]
        .as_str()
        .expect("a text")
        .to_owned();
    assert!(detail.contains("\"lanes\""), "{detail}");

    // What was set outlives a kill; the box goes on as it was told.
    rig.kill_box(XA);
    rig.start_box(XA);
    assert!(!hand_in(rig.boxes[XA].http_port, AGENCY, 10..11));
    assert_eq!(version(&rig, XA), 2);
    rig.trucd(&["command", "--all", "resume_source", "mot-cua"], 0);
    wait_for("the source works again", LONG, || {
        hand_in(rig.boxes[XA].http_port, AGENCY, 10..11)
    });

    // An order to restart is one restart.
    rig.trucd(&["command", XA, "restart"], 0);
    let ended = rig.process(XA).wait(LONG);
    assert!(ended.is_some_and(|status| status.success()), "in order");
    rig.start_box(XA);
    wait_for("the restart is answered", LONG, || {
        state(&rig, "restart") == "done"
    });
    rig.wait_until_drained(XA, LONG);
    assert_eq!(rig.status(XA)["lanes"].as_array().expect("lanes").len(), 5);

    let told = rig.trucd(&["catalogue", "list", "--json"], 0);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let boxes = told["boxes"].as_array().expect("boxes");
    let newest: Vec<_> = boxes.iter().filter(|line| line["version"] == 2).collect();
    assert_eq!(newest.len(), 2);
    assert!(
        newest.iter().all(|line| line["state"] == "current"),
        "{told}"
    );
    let here = audit(&rig, XA);
    for word in ["pause_source", "restart", "\"current\"", "send_diagnostics"] {
        assert!(here.contains(word), "{word} is not in {here}");
    }
    assert_eq!(here.matches("\"name\":\"restart\"").count(), 1, "{here}");
    let there = rig.trucd(&["audit"], 0);
    for word in ["pause_source", "restart", "catalogue"] {
        assert!(there.contains(word), "{word} is not in {there}");
    }
    rig.verify();
}
