//! The promise, end to end: real brokers, real processes, real SIGKILLs. Nothing lost, nothing
//! doubled, the evidence whole. Each story runs on the embedded broker and on Mosquitto.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

mod asyncapi;
mod attachments;
mod compare;
#[path = "../bed/contents.rs"]
mod contents;
mod downlink;
mod files_down;
mod initial_load;
mod offices;
mod orders;
mod rotation;
mod scanner;
// The budget test and the benches use the rest of it.
#[allow(dead_code)]
mod rig;

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use rig::{Broker, Rig, free_port, hand_in, hand_in_all, run, tramd, wait_for};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
const DRAIN: Duration = Duration::from_secs(120);

/// Makes one test per broker out of a story.
macro_rules! stories {
    ($($(#[$doc:meta])* $name:ident)*) => {
        mod on_the_embedded_broker {
            $($(#[$doc])* #[test] fn $name() { super::$name(super::Broker::Embedded); })*
        }
        mod on_mosquitto {
            $($(#[$doc])* #[test] fn $name() { super::$name(super::Broker::Mosquitto); })*
        }
    };
}

stories! {
    ten_thousand_records_while_the_broker_is_down
    f28_broker_restarts_without_memory_in_the_middle
    hub_killed_in_the_middle
    box_killed_during_intake_and_during_draining
    a_strangers_certificate_gets_nowhere
    a_box_on_anothers_topic_changes_nothing
    a_suspended_box_is_refused_and_loses_nothing
}

fn one_box(broker: Broker) -> Rig {
    let mut rig = Rig::start(broker);
    rig.add_box(XA, AGENCY, rig.port);
    rig
}

fn http_port(rig: &Rig) -> u16 {
    rig.boxes[XA].http_port
}

fn ten_thousand_records_while_the_broker_is_down(broker: Broker) {
    let mut rig = one_box(broker);
    rig.kill_broker();
    rig.start_box(XA);
    hand_in_all(http_port(&rig), AGENCY, 10_000, 500);
    assert_eq!(rig.waiting(XA), 10_000);
    rig.start_broker();
    rig.wait_until_drained(XA, DRAIN);
    rig.assert_exactly(XA, AGENCY, 10_000);
}

fn f28_broker_restarts_without_memory_in_the_middle(broker: Broker) {
    broken_off_five_times(broker, Rig::kill_broker, Rig::start_broker);
}

fn hub_killed_in_the_middle(broker: Broker) {
    broken_off_five_times(broker, Rig::kill_hub, Rig::start_hub);
}

/// Records come in before each break, and while it lasts.
fn broken_off_five_times(broker: Broker, kill: fn(&mut Rig), start: fn(&mut Rig)) {
    let mut rig = one_box(broker);
    rig.start_box(XA);
    for part in 1..=5 {
        hand_in_all(http_port(&rig), AGENCY, part * 1_000, 50);
        kill(&mut rig);
        hand_in_all(http_port(&rig), AGENCY, part * 1_000 + 200, 50);
        start(&mut rig);
    }
    rig.wait_until_drained(XA, DRAIN);
    rig.assert_exactly(XA, AGENCY, 5_200);
}

fn box_killed_during_intake_and_during_draining(broker: Broker) {
    let mut rig = one_box(broker);
    rig.start_box(XA);
    let port = http_port(&rig);
    // A program that hands in and repeats what was not answered, while the box is killed under it.
    let sender = std::thread::spawn(move || hand_in_all(port, AGENCY, 6_000, 20));
    for pause_ms in [300, 700, 150, 1_100, 500, 900] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        rig.kill_box(XA);
        rig.start_box(XA);
    }
    sender.join().expect("everything was taken in the end");
    rig.kill_box(XA);
    rig.start_box(XA);
    rig.wait_until_drained(XA, DRAIN);
    rig.assert_exactly(XA, AGENCY, 6_000);
}

fn a_strangers_certificate_gets_nowhere(broker: Broker) {
    let mut rig = one_box(broker);
    let stranger = Rig::start(Broker::Embedded);
    let issued = stranger.folder.path().join("x");
    stranger.trucd(
        &[
            "box",
            "add",
            XA,
            "--agency",
            AGENCY,
            "--out",
            issued.to_str().expect("UTF-8"),
        ],
        0,
    );
    // Same name, right addresses, right hub authority; but key and certificate of another province.
    for file in ["box.crt", "box.key"] {
        fs::copy(issued.join(file), rig.boxes[XA].folder.join(file)).expect("copied");
    }
    rig.start_box(XA);
    hand_in_all(http_port(&rig), AGENCY, 50, 50);
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(rig.waiting(XA), 50, "nothing may be forgotten");
    assert!(rig.at_hub(XA).is_empty());
    let link = rig.status(XA)["link"].clone();
    assert_ne!(link["state"], "up", "{link}");
}

fn a_box_on_anothers_topic_changes_nothing(broker: Broker) {
    let mut rig = one_box(broker);
    rig.add_box("xa-hoa-hiep", "H53.13", rig.port);
    // The intruder has a certificate of its own, and claims the neighbour's name in everything that
    // it says: topics, client id, batches.
    let [victim, intruder] = [XA, "xa-hoa-hiep"].map(|name| rig.boxes[name].folder.clone());
    for file in ["box.crt", "box.key"] {
        fs::copy(intruder.join(file), victim.join(format!("stolen-{file}"))).expect("copied");
    }
    fs::write(
        victim.join("tramd.d/20-intruder.toml"),
        "[hub]\ncertificate = \"../stolen-box.crt\"\nkey = \"../stolen-box.key\"\n",
    )
    .expect("written");
    let output = tramd()
        .args(["run", "--config"])
        .arg(victim.join("tramd.toml"))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut child = output.expect("it starts");
    std::thread::sleep(Duration::from_secs(8));
    let _ = hand_in(http_port(&rig), AGENCY, 0..20);
    std::thread::sleep(Duration::from_secs(8));
    let _ = child.kill();
    let _ = child.wait();
    assert!(rig.at_hub(XA).is_empty(), "a forged record was taken");
    // The neighbour itself works on, and the victim too once it has its own key again.
    fs::remove_file(victim.join("tramd.d/20-intruder.toml")).expect("removed");
    rig.start_box(XA);
    hand_in_all(http_port(&rig), AGENCY, 40, 20);
    rig.wait_until_drained(XA, DRAIN);
    rig.assert_exactly(XA, AGENCY, 40);
}

fn a_suspended_box_is_refused_and_loses_nothing(broker: Broker) {
    let mut rig = one_box(broker);
    rig.trucd(&["box", "suspend", XA], 0);
    rig.start_box(XA);
    hand_in_all(http_port(&rig), AGENCY, 30, 30);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(rig.waiting(XA), 30);
    assert!(rig.at_hub(XA).is_empty());
    rig.trucd(&["box", "resume", XA], 0);
    rig.wait_until_drained(XA, DRAIN);
    rig.assert_exactly(XA, AGENCY, 30);
}

/// F13: a broker that is frozen keeps its connections and moves nothing.
#[test]
fn f13_a_frozen_broker_is_noticed_and_its_return_too() {
    let mut rig = one_box(Broker::Mosquitto);
    rig.start_box(XA);
    hand_in_all(http_port(&rig), AGENCY, 10, 10);
    rig.wait_until_drained(XA, DRAIN);
    rig.signal_broker(Signal::SIGSTOP);
    hand_in_all(http_port(&rig), AGENCY, 20, 10);
    wait_for(
        "the link is seen to be dead",
        Duration::from_secs(120),
        || rig.status(XA)["link"]["state"] != "up",
    );
    rig.signal_broker(Signal::SIGCONT);
    rig.wait_until_drained(XA, DRAIN);
    rig.assert_exactly(XA, AGENCY, 20);
}

/// F41, and the order of the stop: no hub anywhere, yet the box is ready within seconds, takes in,
/// and ends by itself when asked.
#[test]
fn f41_a_box_without_network_starts_takes_in_and_stops_in_order() {
    let mut rig = Rig::start(Broker::Embedded);
    rig.add_box(XA, AGENCY, free_port());
    rig.start_box(XA);
    hand_in_all(http_port(&rig), AGENCY, 100, 10);
    rig.process(XA).signal(Signal::SIGTERM);
    let status = rig
        .process(XA)
        .wait(Duration::from_secs(15))
        .expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{}", rig.log(XA));
    let folder = rig.boxes[XA].folder.clone();
    let output = run(
        tramd()
            .args(["status", "--json", "--config"])
            .arg(folder.join("tramd.toml")),
        0,
    );
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let waiting: u64 = status["lanes"]
        .as_array()
        .expect("lanes")
        .iter()
        .filter_map(|l| l["waiting"].as_u64())
        .sum();
    assert_eq!(waiting, 100, "the store answers while the daemon is down");
}

/// Each "accepted" is said after a sync of its own; receipts, which the hub says again, cost none.
#[test]
fn accepted_means_synced_and_a_receipt_costs_no_sync() {
    const RECORDS: u32 = 20;
    let mut rig = one_box(Broker::Embedded);
    rig.start_box(XA);
    hand_in_all(http_port(&rig), AGENCY, 1, 1);
    rig.wait_until_drained(XA, DRAIN);
    let calls = rig.folder.path().join("calls");
    let pid = rig.pid(XA).to_string();
    let log = rig.folder.path().join("strace.log");
    let strace = rig::Process::start(
        "strace",
        std::process::Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-s",
                "16",
                "-e",
                "trace=fsync,fdatasync,write,writev,sendto",
            ])
            .args(["-p", &pid, "-o"])
            .arg(&calls),
        &log,
    );
    let traced = || fs::read_to_string(&calls).unwrap_or_default();
    wait_for("strace is attached", DRAIN, || {
        hand_in(http_port(&rig), AGENCY, 1..2);
        traced().contains("HTTP/1.1 2")
    });
    let before = traced().len();
    for number in 2..2 + RECORDS {
        assert!(hand_in(http_port(&rig), AGENCY, number..number + 1));
        rig.wait_until_drained(XA, DRAIN);
    }
    strace.signal(Signal::SIGINT);
    let traced = traced();
    let (mut answers, mut syncs, mut synced_since) = (0, 0, false);
    for call in traced[before..].lines() {
        // A call that another thread interrupts in the text is counted where it ends.
        if call.contains("sync") && call.contains("= 0") {
            syncs += 1;
            synced_since = true;
        } else if call.contains("HTTP/1.1 201") {
            assert!(synced_since, "accepted before a sync:\n{traced}");
            answers += 1;
            synced_since = false;
        }
    }
    assert_eq!(answers, RECORDS);
    // Tallies and the last checkpoint may add a few; a sync for each receipt would double them.
    assert!(syncs <= RECORDS + RECORDS / 4, "{syncs} syncs:\n{traced}");
}
