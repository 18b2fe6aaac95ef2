//! Many records wait on one box: how long it takes to start, what memory it needs, how fast they
//! leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::cage::Cage;
use crate::pair::dossier::AGENCY;
use crate::pair::{Edge, Pair, fill, open_edge, public_key};
use crate::process::{memory_mb, usage};
use crate::rig::{Broker, Rig, agent};

const XA: &str = "xa-tan-bien";
/// What the box may use; `tests/budget.rs` asserts it.
const LIMIT_BYTES: u64 = 24_000_000;
/// How often the start is timed.
const STARTS: usize = 3;

pub struct Measured {
    pub records: u32,
    /// Median of [`STARTS`].
    pub start_ms: f64,
    pub most_mb: f64,
    pub records_per_s: f64,
}

pub fn measure(records: u32) -> Measured {
    let mut rig = Rig::start(Broker::Embedded);
    rig.add_box(XA, AGENCY, rig.port);
    rig.kill_hub();
    fs::write(
        rig.boxes[XA].folder.join("tramd.d/20-growth.toml"),
        "[store]\nquota = \"64 GiB\"\n",
    )
    .expect("written");
    let pair = Pair::new();
    let store = rig.boxes[XA].folder.join("box.db");
    let mut edge = open_store(&rig, XA, &store);
    fill(&mut edge, records, |numbers| pair.records(numbers));
    edge.finish().expect("written down");
    drop(edge);
    let start_ms = start_to_intake_ms(&mut rig);
    assert_eq!(rig.waiting(XA), u64::from(records));

    let cage = Cage::new(rig.pid(XA), LIMIT_BYTES);
    let waiting_mb = memory_mb(rig.pid(XA));
    let before = usage(rig.pid(XA)).processor_us;
    rig.start_hub();
    let Drained { seconds, most_mb } = drain(&rig, records);
    let per_record = |us: u64| us as f64 / f64::from(records);
    let measured = Measured {
        records,
        start_ms,
        most_mb,
        records_per_s: f64::from(records) / seconds,
    };
    println!(
        "| {records} | {start_ms:.0} | {waiting_mb:.1} | {most_mb:.1} | {} | {:.0} | {:.1}, {:.1} |",
        cage.as_ref().and_then(Cage::peak_bytes).map_or(
            "no limit here".to_owned(),
            |bytes| format!(
                "{:.1} MB of {:.0}",
                bytes as f64 / 1e6,
                LIMIT_BYTES as f64 / 1e6
            )
        ),
        measured.records_per_s,
        per_record(usage(rig.pid(XA)).processor_us - before),
        per_record(usage(rig.hub_pid()).processor_us),
    );
    // The limit can be taken away only when nobody is under it any more.
    rig.kill_box(XA);
    measured
}

/// The store of a box of this rig that does not run as a process.
pub fn open_store(rig: &Rig, name: &str, store: &Path) -> Edge {
    let pkcs8 = |file: PathBuf| {
        let key = PrivatePkcs8KeyDer::from_pem_file(file).expect("a private key");
        key.secret_pkcs8_der().to_vec()
    };
    let key = pkcs8(rig.boxes[name].folder.join("box.key"));
    let receipt_key = pkcs8(rig.hub_folder().join("receipt.key"));
    open_edge(
        store,
        name.parse().expect("valid"),
        &key,
        vec![public_key(&receipt_key)],
    )
}

fn start_to_intake_ms(rig: &mut Rig) -> f64 {
    let agent = agent();
    let mut times: Vec<f64> = (0..STARTS)
        .map(|_| {
            rig.kill_box(XA);
            let begun = Instant::now();
            rig.launch_box(XA);
            let url = format!("http://127.0.0.1:{}/healthz", rig.boxes[XA].http_port);
            while agent.get(&url).call().is_err() {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "the box does not start: {}",
                    rig.log(XA)
                );
                std::thread::sleep(Duration::from_millis(2));
            }
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[STARTS / 2]
}

struct Drained {
    /// From the last moment at which everything waited to the first at which nothing did.
    seconds: f64,
    most_mb: f64,
}

fn drain(rig: &Rig, records: u32) -> Drained {
    // A short drain is looked at often, a long one seldom, because looking costs the box something.
    let pause = Duration::from_millis(u64::from(records / 20_000).clamp(5, 100));
    let mut begun = Instant::now();
    let mut most_mb = 0.0_f64;
    loop {
        let waiting = rig.waiting(XA);
        let looked = Instant::now();
        most_mb = most_mb.max(memory_mb(rig.pid(XA)));
        if waiting == u64::from(records) {
            begun = looked;
        }
        if waiting == 0 {
            let seconds = (looked - begun).as_secs_f64();
            return Drained { seconds, most_mb };
        }
        std::thread::sleep(pause);
    }
}
