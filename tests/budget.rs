//! Memory budgets, enforced by the kernel: a box with a million records waiting starts, takes in and
//! delivers within 24 MB.
//!
//! The budgets hold for what is shipped, so `TRAMD_BIN` names a build of the profile `ship`; with that
//! of the development profile only the delivery is checked. `BUDGET_RECORDS` sets how many
//! records wait.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "e2e/cage.rs"]
mod cage;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::time::{Duration, Instant};

use cage::Cage;
use rig::{Broker, DATASET, Rig, TOKEN, agent, dossier, wait_for};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
const IDLE_BYTES_MAX: u64 = 18_000_000;
const BUSY_BYTES_MAX: u64 = 24_000_000;
const GROUP: u32 = 1_000;

#[test]
fn f29_a_million_records_wait_and_leave_within_the_memory_budget() {
    let records: u32 = match std::env::var("BUDGET_RECORDS") {
        Ok(text) => text.parse().expect("BUDGET_RECORDS is a number"),
        Err(_) => 20_000,
    };
    let is_optimised = std::env::var_os("TRAMD_BIN").is_some();
    let mut rig = Rig::start(Broker::Embedded);
    rig.add_box(XA, AGENCY, rig.port);
    rig.kill_hub();
    rig.start_box(XA);
    fill(&rig, records);
    assert_eq!(rig.waiting(XA), u64::from(records));

    rig.kill_box(XA);
    let begun = Instant::now();
    rig.start_box(XA);
    println!(
        "{records} waiting: start to intake {} ms",
        begun.elapsed().as_millis()
    );
    let cage = Cage::new(rig.pid(XA), BUSY_BYTES_MAX);
    let waiting_bytes = memory_bytes(rig.pid(XA));
    println!("waiting: {:.1} MB", waiting_bytes as f64 / 1e6);

    rig.start_hub();
    let begun = Instant::now();
    let mut busiest = 0;
    wait_for("everything is received", Duration::from_secs(900), || {
        busiest = busiest.max(memory_bytes(rig.pid(XA)));
        rig.waiting(XA) == 0
    });
    println!(
        "delivered in {:.1} s, at most {:.1} MB, {}",
        begun.elapsed().as_secs_f64(),
        busiest as f64 / 1e6,
        cage.as_ref()
            .map_or("no kernel limit here".to_owned(), |cage| format!(
                "under a kernel limit of 24 MB, page cache included; peak {:.1} MB",
                cage.peak_bytes().unwrap_or_default() as f64 / 1e6
            ))
    );
    std::thread::sleep(Duration::from_secs(3));
    let idle_bytes = memory_bytes(rig.pid(XA));
    println!("idle afterwards: {:.1} MB", idle_bytes as f64 / 1e6);
    assert_eq!(rig.at_hub(XA).len(), records as usize, "every record once");
    if is_optimised {
        assert!(
            waiting_bytes <= BUSY_BYTES_MAX,
            "waiting: {waiting_bytes} bytes"
        );
        assert!(busiest <= BUSY_BYTES_MAX, "delivering: {busiest} bytes");
        rig.kill_box(XA);
        rig.start_box(XA);
        std::thread::sleep(Duration::from_secs(3));
        let idle_bytes = memory_bytes(rig.pid(XA));
        println!("idle after a start: {:.1} MB", idle_bytes as f64 / 1e6);
        assert!(idle_bytes <= IDLE_BYTES_MAX, "idle: {idle_bytes} bytes");
    }
}

fn fill(rig: &Rig, records: u32) {
    let agent = agent();
    let url = format!(
        "http://127.0.0.1:{}/v1/records/{DATASET}",
        rig.boxes[XA].http_port
    );
    for start in (0..records).step_by(GROUP as usize) {
        let body: Vec<String> = (start..(start + GROUP).min(records))
            .map(|n| dossier(AGENCY, n))
            .collect();
        let answer = agent
            .post(&url)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/x-ndjson")
            .send(body.join("\n"))
            .expect("the box answers");
        assert_eq!(answer.status().as_u16(), 201);
    }
}

/// Proportional memory, bytes.
fn memory_bytes(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .expect("the process lives")
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .expect("the kernel tells")
        * 1024
}
