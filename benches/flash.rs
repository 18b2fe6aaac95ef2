//! What a day of each office of the load model writes to the box's card, against the card's rated
//! life: `cargo bench --bench flash`. A day's records are handed in one by one; once with the link
//! up, each waiting for its receipt as on a real day, and once with the link down and drained in the
//! evening. Attachments are not in it.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "../src/bin/demo/generator.rs"]
#[allow(dead_code)]
mod generator;
#[path = "compare/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../tests/e2e/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "../src/bin/demo/wan.rs"]
#[allow(dead_code)]
mod wan;

use std::time::Duration;

use generator::{Generator, Profile};
use lienthong::model::UnixMs;
use process::usage;
use rig::{Broker, Rig, TOKEN, wait_for};
use wan::{Line, Wan};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
/// The box's own default for a card of 16 GB, `store.card_rated`.
const RATED_BYTES: f64 = 5_000.0 * (1_u64 << 30) as f64;
const MORNING: UnixMs = UnixMs(1_795_219_200_000);

fn main() {
    println!(
        "# What a day writes to the card\n\n\
         | office | records a day | bytes a record | link up: MB a day | bytes written a record | years of a card rated 5,000 GiB | link down, drained at night: MB a day | bytes written a record |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for (name, profile) in [
        ("S", Profile::S),
        ("M", Profile::M),
        ("L", Profile::L),
        ("K", Profile::K),
        ("R", Profile::R),
    ] {
        let day = day(profile);
        let records = day.len() as f64;
        let bytes: usize = day.iter().map(|(_, json)| json.len()).sum();
        let up = written(&day, true) as f64;
        let down = written(&day, false) as f64;
        println!(
            "| {name} | {records} | {:.0} | {:.1} | {:.0} | {:.0} | {:.1} | {:.0} |",
            bytes as f64 / records,
            up / 1e6,
            up / records,
            RATED_BYTES / up / 365.0,
            down / 1e6,
            down / records,
        );
    }
}

/// Dataset and text of each record of a day, in their order.
fn day(profile: Profile) -> Vec<(String, String)> {
    let agency = AGENCY.parse().expect("valid");
    let mut generator = Generator::new(7, profile, agency);
    let step = 86_400_000 / i64::from(profile.messages_per_day());
    (0..profile.messages_per_day())
        .map(|number| {
            let sample = generator.next_record(UnixMs(MORNING.0 + i64::from(number) * step));
            (sample.dataset.to_string(), sample.json)
        })
        .collect()
}

/// Bytes that the box had written once the hub holds the whole day.
fn written(day: &[(String, String)], link_up: bool) -> u64 {
    let mut rig = Rig::start(Broker::Embedded);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let hub = ([127, 0, 0, 1], rig.port).into();
    let first = if link_up { Line::FREE } else { Line::Cut };
    let wan = runtime.block_on(Wan::start(hub, first)).expect("a line");
    rig.add_box(XA, AGENCY, wan.address.port());
    allow_all(&rig, day);
    rig.start_box(XA);
    if link_up {
        wait_for("the box is linked", Duration::from_secs(90), || {
            rig.status(XA)["link"]["state"] == "up"
        });
    }
    let before = usage(rig.pid(XA)).written;
    let port = rig.boxes[XA].http_port;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    for (dataset, json) in day {
        let answer = agent
            .post(format!("http://127.0.0.1:{port}/v1/records/{dataset}"))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .send(json)
            .expect("the box answers");
        assert_eq!(answer.status().as_u16(), 201, "{dataset}: {json}");
        while link_up && 0 < rig.waiting(XA) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    wan.set(Line::FREE);
    rig.wait_until_drained(XA, Duration::from_secs(600));
    usage(rig.pid(XA)).written - before
}

/// Lets the one token hand in all that the day holds.
fn allow_all(rig: &Rig, day: &[(String, String)]) {
    let mut datasets: Vec<&str> = day.iter().map(|(dataset, _)| dataset.as_str()).collect();
    datasets.sort_unstable();
    datasets.dedup();
    let list: Vec<String> = datasets.iter().map(|name| format!("{name:?}")).collect();
    let path = rig.boxes[XA].folder.join("tramd.d/10-test.toml");
    let text = std::fs::read_to_string(&path).expect("written before");
    let wider = text.replace(
        &format!("datasets = [\"{}\"]", rig::DATASET),
        &format!("datasets = [{}]", list.join(", ")),
    );
    assert_ne!(text, wider);
    std::fs::write(path, wider).expect("written");
}
