//! Out at the hub: the real `trucd` delivers what real engines put into its store, to real targets,
//! and is killed on the way.
#![cfg(all(feature = "hub", feature = "edge"))]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "bed/certificates.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod certificates;
#[path = "outputs/edxml.rs"]
mod edxml;
#[path = "outputs/files.rs"]
mod files;
#[path = "outputs/guide.rs"]
mod guide;
#[path = "trucd/live.rs"]
#[allow(dead_code, reason = "boxes on the network are not needed here")]
mod live;
#[path = "outputs/originals.rs"]
mod originals;
#[path = "bed/servers.rs"]
#[allow(dead_code, reason = "other tests need more servers")]
mod servers;
#[path = "outputs/sftp.rs"]
mod sftp;
#[path = "trucd/stage.rs"]
#[allow(dead_code, reason = "some of the stage is for other tests")]
mod stage;
#[path = "outputs/station.rs"]
mod station;
#[path = "outputs/table.rs"]
mod table;
#[path = "outputs/tls.rs"]
mod tls;
#[path = "outputs/webhook.rs"]
mod webhook;

use std::io::Write;
use std::time::{Duration, Instant};

use live::Daemon;
use serde_json::Value;
use stage::{Hub, Office, Sample};

const SOON: Duration = Duration::from_secs(60);
/// How often the hub is killed in the middle.
const KILLS: u64 = 20;

/// Adds to the hub's configuration.
fn configure(hub: &Hub, text: &str) {
    let mut file = std::fs::File::options()
        .append(true)
        .open(hub.path("trucd.toml"))
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// How an output stands.
fn standing(hub: &Hub, name: &str) -> Value {
    let list: Value = serde_json::from_str(&hub.ok(&["outputs", "list", "--json"])).unwrap();
    let outputs = list["outputs"].as_array().unwrap();
    let found = outputs.iter().find(|output| output["name"] == name);
    found.expect("the output is listed").clone()
}

/// Waits until the output stands so.
#[track_caller]
fn until(hub: &Hub, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let standing = standing(hub, name);
        if done(&standing) {
            return standing;
        }
        assert!(begin.elapsed() < SOON, "{what}: {standing}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn until_empty(hub: &Hub, name: &str) -> Value {
    until(hub, name, "everything is delivered", |standing| {
        standing["waiting"] == 0 && standing["behind"] == 0 && standing["state"] == "working"
    })
}

fn parked(hub: &Hub, name: &str) -> Vec<Value> {
    let text = hub.ok(&["outputs", "parked", name, "--json"]);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `count` records over a few subjects, each subject's steps rising, in two lanes.
fn steps(from: u64, count: u64) -> Vec<Sample> {
    use lienthong::model::Lane;
    (from..from + count)
        .map(|step| {
            let subject = format!("H53.01-{}", step % 7);
            let data = format!(r#"{{"buoc":{step},"ten":"Nguyễn Văn Mẫu"}}"#);
            let lane = if step % 3 == 0 { Lane::P1 } else { Lane::P2 };
            Sample::new(&subject, &data).lane(lane)
        })
        .collect()
}

/// Sends, and kills the hub at ever other moments of its delivery.
async fn kill_in_the_middle(hub: &Hub, office: &mut Office, rounds: u64, per_round: u64) -> u64 {
    for round in 0..rounds {
        office.send(steps(round * per_round, per_round));
        let daemon = Daemon::start(hub).await;
        std::thread::sleep(Duration::from_millis(round * 37 % 211));
        daemon.kill();
    }
    rounds * per_round
}

#[test]
fn faults_of_outputs_are_all_told() {
    let hub = Hub::new();
    configure(
        &hub,
        "[[output]]\nname = \"A B\"\nkind = \"fax\"\ndatasets = [\"ho_so_tthc\"]\n\
         [[output]]\nname = \"x\"\nkind = \"files\"\ndatasets = []\nfolder = \"out\"\nformat = \"xls\"\nfrom = \"then\"\n\
         [[output]]\nname = \"y\"\nkind = \"files\"\ndatasets = [\"ho_tich\"]\nfolder = \"out\"\nformat = \"ndjson\"\nsensitivity_max = 3\n",
    );
    let refused = hub.run(&["run"]);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    for key in [
        "output[A B].name",
        "output[A B].kind",
        "output[x].datasets",
        "output[x].format",
        "output[x].from",
        "output[y].legal_basis",
    ] {
        assert!(refused.stderr.contains(key), "{key}: {}", refused.stderr);
    }
}
