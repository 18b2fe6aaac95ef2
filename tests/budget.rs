//! Memory budgets, enforced by the kernel: a box with a million records waiting starts, takes in and
//! delivers within 24 MB.
//!
//! The budgets hold for what is shipped, so `TRAMD_BIN` names a build of the profile `ship`; with that
//! of the development profile only the delivery is checked. `BUDGET_RECORDS` sets how many
//! records wait, `BUDGET_FILE_MIB` how large the attachment is that goes through.

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "account/browser.rs"]
#[allow(dead_code)]
mod browser;
#[path = "e2e/cage.rs"]
mod cage;
#[path = "bed/contents.rs"]
mod contents;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::time::{Duration, Instant};

use cage::Cage;
use contents::incompressible;
use lienthong::evidence::sha256;
use rig::{Broker, DATASET, Rig, TOKEN, agent, dossier, wait_for};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
const IDLE_BYTES_MAX: u64 = 20_000_000;
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
        told(&cage)
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

/// Passwords cost 7 MiB each while they are hashed, and nothing afterwards; the box lives under its
/// limit meanwhile.
#[test]
fn logins_give_their_memory_back() {
    let mut rig = Rig::start(Broker::Embedded);
    rig.add_box(XA, AGENCY, rig.port);
    rig.kill_hub();
    rig.start_box(XA);
    let cage = Cage::new(rig.pid(XA), BUSY_BYTES_MAX);
    let mut browser = browser::Browser::new(rig.boxes[XA].http_port);
    // The first brings in what every page needs.
    let log_in = |browser: &mut browser::Browser| {
        browser.get("/ky-thuat/dang-nhap").ok();
        let fields = [("ten", "lan"), ("mat_khau", "mưa rào đầu mùa hạ")];
        browser.post("/ky-thuat/dang-nhap", &fields).status
    };
    assert_eq!(log_in(&mut browser), 401);
    std::thread::sleep(Duration::from_secs(2));
    let before = memory_bytes(rig.pid(XA));
    for number in 0..12_u8 {
        let address = std::net::Ipv4Addr::new(127, 0, 3, number + 1);
        let mut browser = browser::Browser::at(rig.boxes[XA].http_port, address);
        let status = log_in(&mut browser);
        assert!(status == 401 || status == 429, "{status}");
    }
    std::thread::sleep(Duration::from_secs(2));
    let after = memory_bytes(rig.pid(XA));
    println!(
        "logins: {:.1} MB before, {:.1} MB after, {}",
        before as f64 / 1e6,
        after as f64 / 1e6,
        told(&cage)
    );
    assert!(
        after < before + 1_000_000,
        "{before} bytes before, {after} after"
    );
    rig.status(XA);
}

/// The box takes a file in and hands it to the hub with less memory than the file has bytes.
#[test]
fn a_large_attachment_goes_through_within_the_memory_budget() {
    let mebibytes: usize = match std::env::var("BUDGET_FILE_MIB") {
        Ok(text) => text.parse().expect("BUDGET_FILE_MIB is a number"),
        Err(_) => 64,
    };
    let is_optimised = std::env::var_os("TRAMD_BIN").is_some();
    let mut rig = Rig::start(Broker::Embedded);
    rig.add_box(XA, AGENCY, rig.port);
    let room = rig.boxes[XA].folder.join("tramd.d/20-attachments.toml");
    fs::write(
        room,
        "[store]\nattachments = \"8 GiB\"\nattachment_max = \"8 GiB\"\n",
    )
    .expect("written");
    rig.start_box(XA);
    let cage = Cage::new(rig.pid(XA), BUSY_BYTES_MAX);
    let content = incompressible(1, mebibytes << 20);
    let name: String = sha256(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let pid = rig.pid(XA);
    let http_port = rig.boxes[XA].http_port;
    let begun = Instant::now();
    let (length, named) = (content.len(), name.clone());
    let putting = std::thread::spawn(move || put(http_port, &named, &content));
    let mut taking = 0;
    while !putting.is_finished() {
        taking = taking.max(memory_bytes(pid));
        std::thread::sleep(Duration::from_millis(20));
    }
    putting.join().expect("the box takes it");
    println!(
        "{mebibytes} MiB: taken in {:.1} s, at most {:.1} MB",
        begun.elapsed().as_secs_f64(),
        taking as f64 / 1e6
    );
    let begun = Instant::now();
    attach(&rig, &name, length);
    let kept = rig.hub_folder().join("blobs").join(&name[..2]).join(&name);
    let mut handing = 0;
    let most = Duration::from_secs(60 + 2 * mebibytes as u64);
    wait_for("the hub keeps the file", most, || {
        handing = handing.max(memory_bytes(pid));
        kept.is_file()
    });
    println!(
        "{mebibytes} MiB: at the hub in {:.1} s, at most {:.1} MB, {}",
        begun.elapsed().as_secs_f64(),
        handing as f64 / 1e6,
        told(&cage)
    );
    assert_eq!(fs::metadata(kept).expect("kept").len(), length as u64);
    assert_eq!(rig.at_hub(XA).len(), 1);
    if is_optimised {
        assert!(taking <= BUSY_BYTES_MAX, "taking: {taking} bytes");
        assert!(handing <= BUSY_BYTES_MAX, "handing on: {handing} bytes");
    }
}

fn put(http_port: u16, name: &str, content: &[u8]) {
    let patient = ureq::Agent::config_builder().http_status_as_error(false);
    let answer = ureq::Agent::from(patient.build())
        .put(format!("http://127.0.0.1:{http_port}/v1/blobs/{name}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/pdf")
        .send(content)
        .expect("the box answers");
    assert_eq!(answer.status(), 201);
}

/// Hands in the dossier that names the file.
fn attach(rig: &Rig, name: &str, bytes: usize) {
    let data: serde_json::Value = serde_json::from_str(&dossier(AGENCY, 0)).expect("JSON");
    let event = serde_json::json!({
        "specversion": "1.0", "id": "tep-0", "source": "urn:mot-cua", "type": DATASET, "data": data,
        "attachments": [{"name": "tep.pdf", "mime": "application/pdf", "bytes": bytes, "sha256": name}],
    });
    let port = rig.boxes[XA].http_port;
    let answer = agent()
        .post(format!("http://127.0.0.1:{port}/v1/records/{DATASET}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/cloudevents+json")
        .send(event.to_string())
        .expect("the box answers");
    assert_eq!(answer.status(), 201);
}

fn told(cage: &Option<Cage>) -> String {
    cage.as_ref()
        .map_or("no kernel limit here".to_owned(), |cage| {
            format!(
                "under a kernel limit of 24 MB, page cache included; peak {:.1} MB",
                cage.peak_bytes().unwrap_or_default() as f64 / 1e6
            )
        })
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
