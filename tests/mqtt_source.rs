//! Kind `mqtt` against a real Mosquitto as the office's own broker.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use one_box::{SOON, XA, config, configure, one_box, said, source};
use rig::{Process, Rig, free_port, run, tramd, wait_for};

/// A box, and the office's broker to which it listens.
struct Bed {
    rig: Rig,
    port: u16,
    mosquitto: Option<Process>,
}

impl Bed {
    fn start(source: &str) -> Bed {
        let mut bed = Bed::new(source, "allow_anonymous true\n");
        bed.rig.start_box(XA);
        bed.wait_until_listening();
        bed
    }

    fn new(source: &str, broker: &str) -> Bed {
        let rig = one_box();
        let port = free_port();
        let place = rig.folder.path().display().to_string();
        let config = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {place}/\n\
             max_queued_messages 0\n{broker}"
        );
        fs::write(rig.folder.path().join("local.conf"), config).unwrap();
        // A dataset whose records have no event time: a switch and its position.
        let catalogue = rig.folder.path().join("catalogue");
        let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        run(Command::new("cp").arg("-r").arg(own).arg(&catalogue), 0);
        fs::write(catalogue.join("cong_tac.toml"), SWITCH).unwrap();
        let own = "[catalogue]\npath = \"../../catalogue\"\n";
        configure(&rig, "15-catalogue.toml", own);
        let text = format!(
            "[[source]]\nname = \"cam-bien\"\nkind = \"mqtt\"\nbroker = \"127.0.0.1:{port}\"\n{source}"
        );
        configure(&rig, "20-mqtt.toml", &text);
        // Faults of the configuration show at once.
        said(&rig, &["config"], 0);
        let mut bed = Bed {
            rig,
            port,
            mosquitto: None,
        };
        bed.start_broker();
        bed
    }

    fn start_broker(&mut self) {
        let mut command = Command::new("/usr/sbin/mosquitto");
        command
            .arg("-c")
            .arg(self.rig.folder.path().join("local.conf"));
        let log = self.rig.folder.path().join("local.log");
        self.mosquitto = Some(Process::start("mosquitto", &mut command, &log));
        let port = self.port;
        wait_for("the local broker listens", SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// An orderly stop, at which Mosquitto writes down what it keeps.
    fn stop_broker(&mut self) {
        let mut process = self.mosquitto.take().unwrap();
        process.signal(Signal::SIGTERM);
        process.wait(SOON).expect("mosquitto ends");
    }

    fn source(&self) -> serde_json::Value {
        source(&self.rig, "cam-bien")
    }

    fn wait_until_listening(&self) {
        wait_for("the box listens", SOON, || {
            self.source()["state"] == "waiting"
        });
    }

    /// One message a line.
    fn publish(&self, topic: &str, lines: &[String]) {
        self.publish_with(topic, lines, &["-q", "1", "-l"]);
    }

    fn publish_with(&self, topic: &str, lines: &[String], how: &[&str]) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic]);
        let mut child = command.args(how).stdin(Stdio::piped()).spawn().unwrap();
        let text = lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// The data of the records of a dataset at the hub, in their order, once `count` are there.
    fn at_hub(&self, dataset: &str, count: usize) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        wait_for(
            &format!("{count} records are at the hub"),
            Duration::from_secs(60),
            || {
                found = self.rig.entries(XA);
                found.retain(|entry| entry["type"].as_str().unwrap().starts_with(dataset));
                count <= found.len()
            },
        );
        // What would be too much gets the time to come.
        std::thread::sleep(Duration::from_millis(500));
        self.rig.wait_until_drained(XA, SOON);
        found = self.rig.entries(XA);
        found.retain(|entry| entry["type"].as_str().unwrap().starts_with(dataset));
        found.sort_by_key(|entry| entry["id"].to_string());
        found
            .into_iter()
            .map(|entry| entry["data"].clone())
            .collect()
    }

    fn parked(&self) -> String {
        said(&self.rig, &["sources", "parked", "cam-bien"], 0)
    }
}

const SWITCH: &str = r#"
id = "cong_tac"
version = 1
code = "T91"
title_vi = "Công tắc"
title_en = "Switch"
owner = "Ủy ban nhân dân xã"
owner_en = "Commune"
key = ["/ma"]
time = []
sensitivity = 0
retention_days = 30
schema = '''
{"type": "object", "required": ["ma", "vi_tri"],
 "properties": {"ma": {"title": "Mã", "type": "string"}, "vi_tri": {"title": "Vị trí", "enum": ["bat", "tat"]}},
 "additionalProperties": false}
'''
[lane]
default = "P3"
"#;

const STATIONS: &str = "dataset = \"quan_trac_moi_truong\"\ntopics = [\"tram/+/so-lieu\"]\n\
                        [source.topic_fields]\ntram = 2\n";
const SWITCHES: &str = "dataset = \"cong_tac\"\ntopics = [\"cong-tac/#\"]\n";

fn measured(n: u32) -> String {
    format!(
        r#"{{"co_so":"KCNA","thoi_diem":"2026-11-20T{:02}:{:02}:00+07:00","gia_tri":[{{"k":"pH","v":7.{},"s":"00"}}]}}"#,
        n / 60 % 24,
        n % 60,
        n % 10
    )
}

fn switched(to: &str) -> String {
    format!(r#"{{"ma":"C1","vi_tri":"{to}"}}"#)
}

/// How often each moment was measured.
fn moments(records: &[serde_json::Value]) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for record in records {
        *found
            .entry(record["thoi_diem"].as_str().unwrap().to_owned())
            .or_insert(0) += 1;
    }
    found
}

#[test]
fn messages_of_every_form_become_records_and_a_repeat_is_harmless() {
    let bed = Bed::start(STATIONS);
    let topic = "tram/NUO001/so-lieu";
    bed.publish(topic, &[measured(0)]);
    bed.publish(topic, &[format!("[{},{}]", measured(1), measured(2))]);
    bed.publish_with(topic, &[measured(3), measured(4)], &["-q", "1", "-s"]);
    let event = format!(
        r#"{{"specversion":"1.0","id":"e-5","source":"urn:pm","type":"x","data":{}}}"#,
        measured(5)
    );
    bed.publish(topic, &[event]);
    // A sender that did not hear the broker's word publishes again.
    bed.publish(topic, &[measured(0), measured(1)]);
    let records = bed.at_hub("quan_trac", 6);
    let moments = moments(&records);
    assert_eq!(
        (moments.len(), moments.values().max()),
        (6, Some(&1)),
        "{moments:?}"
    );
    assert!(records.iter().all(|record| record["tram"] == "NUO001"));
    assert!(bed.source()["warning"].is_null());
    // A try listens beside the box, and takes nothing away from it.
    let config = config(&bed.rig);
    let trying = std::thread::spawn(move || {
        let mut command = tramd();
        command
            .args(["sources", "try", "cam-bien", "--config"])
            .arg(config);
        String::from_utf8(run(&mut command, 0).stdout).unwrap()
    });
    std::thread::sleep(Duration::from_secs(2));
    bed.publish(topic, &[measured(7), "khong phai JSON".to_owned()]);
    let said = trying.join().unwrap();
    assert!(
        said.contains("SẼ NHẬN") && said.contains("TỪ CHỐI"),
        "{said}"
    );
    assert_eq!(bed.at_hub("quan_trac", 7).len(), 7);
    bed.publish_with(topic, &[measured(6)], &["-q", "0", "-l"]);
    wait_for("a sender without promise is told of", SOON, || {
        bed.source()["warning"]["code"] == "mqtt_qos0"
    });
}

#[test]
fn what_means_the_same_twice_is_kept_twice() {
    let bed = Bed::start(SWITCHES);
    bed.publish("cong-tac/1", &["bat", "tat", "bat"].map(switched));
    let positions = bed.at_hub("cong_tac", 3);
    assert_eq!(
        positions
            .iter()
            .filter(|record| record["vi_tri"] == "bat")
            .count(),
        2
    );
}

#[test]
fn the_broker_keeps_what_comes_while_the_box_is_down() {
    let mut bed = Bed::start(STATIONS);
    bed.rig.kill_box(XA);
    let lines: Vec<String> = (0..200).map(measured).collect();
    bed.publish("tram/NUO001/so-lieu", &lines);
    // The broker itself goes and comes back in between.
    bed.stop_broker();
    bed.start_broker();
    bed.rig.start_box(XA);
    let moments = moments(&bed.at_hub("quan_trac", 200));
    assert_eq!((moments.len(), moments.values().max()), (200, Some(&1)));
}

#[test]
fn a_broker_that_goes_away_is_named_and_comes_back() {
    let mut bed = Bed::start(STATIONS);
    bed.stop_broker();
    wait_for("the fault shows", SOON, || {
        bed.source()["fault"]["code"] == "mqtt_link"
    });
    bed.start_broker();
    wait_for("the fault is over", Duration::from_secs(60), || {
        bed.source()["fault"].is_null()
    });
    bed.publish("tram/NUO001/so-lieu", &[measured(0)]);
    assert_eq!(bed.at_hub("quan_trac", 1).len(), 1);
}

#[test]
fn poison_is_parked_and_stops_nobody() {
    let bed = Bed::start(STATIONS);
    let topic = "tram/NUO001/so-lieu";
    let wrong = r#"{"co_so":"KCNA","thoi_diem":"hôm qua","gia_tri":[]}"#;
    bed.publish(
        topic,
        &["khong phai JSON".to_owned(), wrong.to_owned(), measured(0)],
    );
    assert_eq!(bed.at_hub("quan_trac", 1).len(), 1);
    assert_eq!(bed.source()["parked"], 2);
    let parked = bed.parked();
    assert!(
        parked.contains("không phải là JSON") && parked.contains("not readable JSON"),
        "{parked}"
    );
    assert!(
        parked.contains("/thoi_diem")
            || parked.contains("thời điểm")
            || parked.contains("Thời điểm"),
        "{parked}"
    );
}

#[test]
fn an_event_names_files_as_over_http() {
    let bed = Bed::start(STATIONS);
    let topic = "tram/NUO001/so-lieu";
    let event = |id: &str, attachments: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"urn:pm","type":"x","attachments":{attachments},"data":{}}}"#,
            measured(1)
        )
    };
    let missing = "0a".repeat(32);
    let file =
        format!(r#"[{{"name":"anh.png","mime":"image/png","bytes":7,"sha256":"{missing}"}}]"#);
    bed.publish(
        topic,
        &[event("e-1", &file), event("e-2", r#"[{"name":"../x"}]"#)],
    );
    wait_for("both are parked with their reasons", SOON, || {
        let parked = bed.parked();
        parked.contains("PUT /v1/blobs/") && parked.contains("attachments")
    });
    bed.publish("tram/NUO002/so-lieu", &[event("e-3", "[]")]);
    assert_eq!(bed.at_hub("quan_trac", 1).len(), 1, "the others wait");
}

#[test]
fn killed_at_any_moment_it_loses_and_doubles_nothing() {
    let rounds: u32 = std::env::var("ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let each = 60;
    // Without an event time and with contents that come again and again, only their order tells.
    let mut bed = Bed::start(SWITCHES);
    for round in 0..rounds {
        let lines: Vec<String> = (0..each)
            .map(|n| {
                format!(
                    r#"{{"ma":"C{}","vi_tri":"{}"}}"#,
                    n % 3,
                    ["bat", "tat"][n as usize / 3 % 2]
                )
            })
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(|| bed.publish("cong-tac/1", &lines));
            std::thread::sleep(Duration::from_millis(u64::from(5 + round * 13 % 60)));
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(bed.rig.pid(XA) as i32),
                Signal::SIGKILL,
            )
            .unwrap();
        });
        bed.rig.kill_box(XA);
        bed.rig.start_box(XA);
    }
    let count = (rounds * each) as usize;
    assert_eq!(bed.at_hub("cong_tac", count).len(), count);
}

#[test]
fn a_wrong_password_is_named_with_what_to_do() {
    let source = format!("user = \"tram\"\npassword_file = \"../../mqtt.pass\"\n{STATIONS}");
    let users = tempfile::tempdir().unwrap();
    let file = users.path().join("users");
    run(
        Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&file)
            .args(["tram", "dung"]),
        0,
    );
    let broker = format!("allow_anonymous false\npassword_file {}\n", file.display());
    let mut bed = Bed::new(&source, &broker);
    let place = bed.rig.folder.path().to_owned();
    fs::write(place.join("mqtt.pass"), "sai\n").unwrap();
    bed.rig.start_box(XA);
    wait_for("the fault shows", SOON, || {
        let fault = bed.source()["fault"].clone();
        fault["code"] == "mqtt_link" && fault["hint_vi"].as_str().unwrap().contains("password_file")
    });
    fs::write(place.join("mqtt.pass"), "dung\n").unwrap();
    wait_for("the fault is over", Duration::from_secs(60), || {
        bed.source()["fault"].is_null()
    });
}
