//! What the product does on this machine, in one table: durable intake beside plain SQLite, drain,
//! memory, bytes. Real processes and a real broker. `cargo bench --bench measure` runs 10,000 and
//! 100,000 records; `cargo bench --bench measure -- --full` a million too.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "compare/dossier.rs"]
mod dossier;
#[path = "compare/process.rs"]
mod process;
#[path = "../tests/e2e/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "../src/bin/demo/wan.rs"]
#[allow(dead_code)]
mod wan;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dossier::{AGENCY, record};
use process::{memory_mb, usage};
use rig::{Broker, DATASET, Rig, TOKEN, wait_for};
use wan::{Line, Wan};

const XA: &str = "xa-tan-bien";

fn main() {
    let full = std::env::args().any(|argument| argument == "--full");
    println!("# Measured on this machine\n");
    intake();
    let mut sizes = vec![10_000, 100_000];
    if full {
        sizes.push(1_000_000);
    }
    println!(
        "\n## Drain: handed in while the line is cut, then until the hub's receipt for the last\n\n\
         | records | s | records/s | bytes up, down per record | box: written B/rec in, out | box: processor µs/rec in, out | hub: processor µs/rec | box: MB idle, waiting, draining |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for size in sizes {
        drain(size);
    }
    for program in [env!("CARGO_BIN_EXE_tramd"), env!("CARGO_BIN_EXE_trucd")] {
        let bytes = std::fs::metadata(program).map_or(0, |file| file.len());
        println!(
            "\n{}: {:.1} MB",
            program.rsplit('/').next().unwrap_or(program),
            bytes as f64 / 1e6
        );
    }
}

fn post(agent: &ureq::Agent, port: u16, numbers: std::ops::Range<u32>) {
    let body: Vec<String> = numbers.map(record).collect();
    let answer = agent
        .post(format!("http://127.0.0.1:{port}/v1/records/{DATASET}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/x-ndjson")
        .send(body.join("\n"))
        .expect("the box takes in");
    assert_eq!(answer.status().as_u16(), 201);
}

fn intake() {
    println!(
        "## Durable intake over HTTP, records of 500 bytes\n\n\
         | records a request | callers | records/s | plain SQLite, same group | ratio | written B/rec |\n\
         |---|---|---|---|---|---|"
    );
    for (group, callers, requests) in [
        (1, 1, 2_000),
        (10, 1, 1_000),
        (100, 1, 400),
        (1000, 1, 60),
        (1, 64, 20_000),
    ] {
        let mut rig = Rig::start(Broker::Embedded);
        rig.add_box(XA, AGENCY, rig::free_port());
        rig.start_box(XA);
        let port = rig.boxes[XA].http_port;
        let before = usage(rig.pid(XA));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for caller in 0..callers {
                scope.spawn(move || {
                    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
                    let mine = requests / callers;
                    for request in 0..mine {
                        let first = (caller * mine + request) * group;
                        post(&agent, port, first..first + group);
                    }
                });
            }
        });
        let seconds = begun.elapsed().as_secs_f64();
        let records = f64::from(requests / callers * callers * group);
        let written = usage(rig.pid(XA)).written - before.written;
        let plain = plain_sqlite(group);
        println!(
            "| {group} | {callers} | {:.0} | {plain:.0} | {:.2} | {:.0} |",
            records / seconds,
            records / seconds / plain,
            written as f64 / records,
        );
    }
}

/// Rows of the same size into SQLite with the same durability, without anything around it.
fn plain_sqlite(group: u32) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let connection = rusqlite::Connection::open(folder.path().join("plain.db")).expect("opened");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE row (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;",
        )
        .expect("created");
    let rounds = (20_000 / group).clamp(40, 2_000);
    let rows: Vec<String> = (0..group).map(record).collect();
    let begun = Instant::now();
    for _ in 0..rounds {
        connection.execute_batch("BEGIN").expect("begun");
        let mut insert = connection
            .prepare_cached("INSERT INTO row (bytes) VALUES (?1)")
            .expect("prepared");
        for row in &rows {
            insert.execute([row.as_bytes()]).expect("written");
        }
        connection.execute_batch("COMMIT").expect("committed");
    }
    f64::from(rounds * group) / begun.elapsed().as_secs_f64()
}

fn drain(records: u32) {
    let mut rig = Rig::start(Broker::Embedded);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let hub = ([127, 0, 0, 1], rig.port).into();
    let wan = runtime
        .block_on(Wan::start(hub, Line::Cut))
        .expect("a line");
    rig.add_box(XA, AGENCY, wan.address.port());
    rig.start_box(XA);
    std::thread::sleep(Duration::from_secs(2));
    let idle_mb = memory_mb(rig.pid(XA));
    let port = rig.boxes[XA].http_port;
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let start = usage(rig.pid(XA));
    for first in (0..records).step_by(1_000) {
        post(&agent, port, first..(first + 1_000).min(records));
    }
    let filled = usage(rig.pid(XA));
    let hub_before = usage(rig.hub_pid());
    let waiting_mb = memory_mb(rig.pid(XA));
    wan.set(Line::FREE);
    wait_for("the box is linked", Duration::from_secs(90), || {
        rig.status(XA)["link"]["state"] == "up"
    });
    let begun = Instant::now();
    let mut peak_mb = waiting_mb;
    wait_for("all is received", Duration::from_secs(600), || {
        peak_mb = peak_mb.max(memory_mb(rig.pid(XA)));
        rig.waiting(XA) == 0
    });
    let seconds = begun.elapsed().as_secs_f64();
    let done = usage(rig.pid(XA));
    let hub_after = usage(rig.hub_pid());
    let per = |value: u64| value as f64 / f64::from(records);
    println!(
        "| {records} | {seconds:.1} | {:.0} | {:.0}, {:.1} | {:.0}, {:.0} | {:.1}, {:.1} | {:.1} | {idle_mb:.1}, {waiting_mb:.1}, {peak_mb:.1} |",
        f64::from(records) / seconds,
        per(wan.passed.up.load(Ordering::Relaxed)),
        per(wan.passed.down.load(Ordering::Relaxed)),
        per(filled.written - start.written),
        per(done.written - filled.written),
        per(filled.processor_us - start.processor_us),
        per(done.processor_us - filled.processor_us),
        per(hub_after.processor_us - hub_before.processor_us),
    );
}
