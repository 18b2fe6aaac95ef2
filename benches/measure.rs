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

use std::io::{Read, Write};
use std::net::TcpStream;
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
    lone();
    for program in [env!("CARGO_BIN_EXE_tramd"), env!("CARGO_BIN_EXE_trucd")] {
        let bytes = std::fs::metadata(program).map_or(0, |file| file.len());
        println!(
            "\n{}: {:.1} MB",
            program.rsplit('/').next().unwrap_or(program),
            bytes as f64 / 1e6
        );
    }
}

/// A caller on one connection that does as little as it can, so that the box is what is measured.
struct Caller {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Caller {
    fn new(port: u16) -> Caller {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the box listens");
        stream.set_nodelay(true).expect("a socket of ours");
        Caller {
            stream,
            answer: vec![0; 1 << 20],
        }
    }

    /// A request of records, whole.
    fn request(numbers: std::ops::Range<u32>) -> Vec<u8> {
        let body: Vec<String> = numbers.map(record).collect();
        let body = body.join("\n");
        let head = format!(
            "POST /v1/records/{DATASET} HTTP/1.1\r\nhost: box\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body.as_bytes()].concat()
    }

    fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("the box reads");
        let mut have = 0;
        loop {
            have += self
                .stream
                .read(&mut self.answer[have..])
                .expect("the box answers");
            let text = &self.answer[..have];
            assert!(
                text.starts_with(b"HTTP/1.1 201"),
                "{}",
                String::from_utf8_lossy(text)
            );
            // The one list in the answer ends it.
            if text.ends_with(b"]}") {
                return;
            }
        }
    }
}

fn intake() {
    println!(
        "## Durable intake over HTTP, records of 500 bytes\n\n\
         | records a request | callers | plain SQLite, same group | line down: records/s | ratio | written B/rec | line up, hub beside it: records/s | ratio |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for (group, callers, requests) in [
        (1, 1, 4_000),
        (10, 1, 1_000),
        (100, 1, 400),
        (1000, 1, 60),
        (1, 64, 60_000),
    ] {
        let mut rates = Vec::new();
        let mut written = 0;
        for line_up in [false, true] {
            let (rate, bytes) = taken_in(group, callers, requests, line_up);
            rates.push(rate);
            if !line_up {
                written = bytes;
            }
        }
        let plain = plain_sqlite(group);
        println!(
            "| {group} | {callers} | {plain:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
            rates[0],
            rates[0] / plain,
            written as f64 / f64::from(requests / callers * callers * group),
            rates[1],
            rates[1] / plain,
        );
    }
}

/// Records a second that the box took in, and bytes that it had written for all of them.
fn taken_in(group: u32, callers: u32, requests: u32, line_up: bool) -> (f64, u64) {
    let mut rig = Rig::start(Broker::Embedded);
    let hub_port = if line_up { rig.port } else { rig::free_port() };
    rig.add_box(XA, AGENCY, hub_port);
    rig.start_box(XA);
    if line_up {
        wait_for("the box is linked", Duration::from_secs(90), || {
            rig.status(XA)["link"]["state"] == "up"
        });
    }
    let port = rig.boxes[XA].http_port;
    let mine = requests / callers;
    // Made before, so that making them is not measured.
    let made: Vec<Vec<Vec<u8>>> = (0..callers)
        .map(|caller| {
            (0..mine)
                .map(|request| {
                    let first = (caller * mine + request) * group;
                    Caller::request(first..first + group)
                })
                .collect()
        })
        .collect();
    let before = usage(rig.pid(XA));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for requests in &made {
            scope.spawn(move || {
                let mut caller = Caller::new(port);
                requests.iter().for_each(|request| caller.send(request));
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let records = f64::from(mine * callers * group);
    let written = usage(rig.pid(XA)).written - before.written;
    (records / seconds, written)
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

/// A hub and a box with a line between them, which lives as long as its runtime.
fn behind_a_line(line: Line) -> (Rig, Wan, tokio::runtime::Runtime) {
    let mut rig = Rig::start(Broker::Embedded);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let hub = ([127, 0, 0, 1], rig.port).into();
    let wan = runtime.block_on(Wan::start(hub, line)).expect("a line");
    rig.add_box(XA, AGENCY, wan.address.port());
    rig.start_box(XA);
    (rig, wan, runtime)
}

/// Records that come one by one, each sent and receipted before the next: what each costs on the
/// wire, and what a dictionary made of the records before it would save.
fn lone() {
    const RECORDS: u32 = 200;
    let (rig, wan, _runtime) = behind_a_line(Line::FREE);
    let mut caller = Caller::new(rig.boxes[XA].http_port);
    caller.send(&Caller::request(0..1));
    rig.wait_until_drained(XA, Duration::from_secs(90));
    let [up, down] = [&wan.passed.up, &wan.passed.down].map(|bytes| bytes.load(Ordering::Relaxed));
    for number in 1..=RECORDS {
        caller.send(&Caller::request(number..number + 1));
        rig.wait_until_drained(XA, Duration::from_secs(90));
    }
    let per = |now: u64, before: u64| (now - before) / u64::from(RECORDS);
    let entries = rig.entries(XA);
    let texts: Vec<String> = entries.iter().map(ToString::to_string).collect();
    let alone = |dictionary: &[u8], text: &str| {
        zstd::bulk::Compressor::with_dictionary(1, dictionary)
            .and_then(|mut compressor| compressor.compress(text.as_bytes()))
            .expect("compressed")
            .len()
    };
    let bare: usize = texts[9..].iter().map(|text| alone(&[], text)).sum();
    let helped: usize = texts
        .windows(10)
        .map(|window| alone(window[..9].concat().as_bytes(), &window[9]))
        .sum();
    println!(
        "\n## Records one by one, each with its own batch and receipt\n\n\
         | bytes up, down a record | entry | compressed alone | with the nine before it as dictionary |\n\
         |---|---|---|---|\n| {}, {} | {} | {} | {} |",
        per(wan.passed.up.load(Ordering::Relaxed), up),
        per(wan.passed.down.load(Ordering::Relaxed), down),
        texts[9..].iter().map(String::len).sum::<usize>() / (texts.len() - 9),
        bare / (texts.len() - 9),
        helped / (texts.len() - 9),
    );
}

fn drain(records: u32) {
    let (rig, wan, _runtime) = behind_a_line(Line::Cut);
    std::thread::sleep(Duration::from_secs(2));
    let idle_mb = memory_mb(rig.pid(XA));
    let port = rig.boxes[XA].http_port;
    let mut caller = Caller::new(port);
    let start = usage(rig.pid(XA));
    for first in (0..records).step_by(1_000) {
        caller.send(&Caller::request(first..(first + 1_000).min(records)));
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
