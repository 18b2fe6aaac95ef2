//! Simulation: many boxes and a hub, the real engines and real SQLite files, in virtual time, with a
//! network, clocks and a fate that follow from a seed.
//!
//! A world suffers for some minutes (losses, repeats, reordering, half-open links, crashes between
//! and inside steps, full disks, jumping clocks, stores set back or cloned, forgers); then every
//! fault stops, and everything that was accepted must arrive. The checkers keep books of their own
//! and read both databases with SQL of their own; see `check.rs` for what they hold to.
//!
//! ```text
//! cargo test --features planted-faults --test sim                       twelve hundred seeds
//! bash .ci/seeds 1000000                                                a million
//! SIM_FIRST=4711 SIM_SEEDS=1 SIM_TRACE=1 cargo test --features planted-faults \
//!     --test sim seeds -- --nocapture                                   one, with its whole trace
//! SIM_FAULT=NoGreeting …                                                the same with a planted fault
//! ```
//!
//! A world runs in one thread, since planted faults are the thread's; worlds share nothing but their
//! signing keys.

mod blobs;
mod center;
mod check;
mod dice;
mod downlink;
mod eyes;
mod files;
mod final_check;
mod incidents;
mod keys;
mod net;
mod papers;
mod plan;
mod planted;
mod sources;
mod station;
mod steps;
mod trace;
mod world;

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use lienthong::model::fault::{self, Fault};

use check::{Checked, PANIC, Violation};
use world::Summary;

/// Seeds that run when nobody says how many.
const SEEDS: u64 = 1_200;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

/// Runs a seed's world; an assertion that fails in it is a violation like others.
fn run(seed: u64, planted: Option<Fault>, print: bool) -> Checked<Summary> {
    fault::plant(planted);
    // A fault of records is searched for where nothing else can notice it first.
    let may_have_files = planted.is_none_or(|fault| planted::OF_FILES.contains(&fault));
    let world = AssertUnwindSafe(|| world::run(seed, may_have_files, print));
    let result = std::panic::catch_unwind(world);
    fault::plant(None);
    fault::is_crash_due();
    result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        Err(Violation {
            checker: PANIC,
            what: text.unwrap_or("").to_owned(),
        })
    })
}

/// Runs `work` on numbers, spread over the machine's processors; results in no order.
fn spread<T: Send>(
    numbers: Range<u64>,
    work: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(u64, T),
) {
    let next = AtomicU64::new(numbers.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (results, incoming) = mpsc::sync_channel(64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (results, next, work) = (results.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if numbers.end <= number || results.send((number, work(number))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        incoming
            .iter()
            .for_each(|(number, result)| each(number, result));
    });
}

fn fault_of_environment() -> Option<Fault> {
    let name = std::env::var("SIM_FAULT").ok()?;
    let found = Fault::ALL
        .into_iter()
        .find(|fault| format!("{fault:?}") == name);
    Some(found.unwrap_or_else(|| panic!("SIM_FAULT is one of {:?}", Fault::ALL)))
}

#[test]
fn seeds() {
    let first = number("SIM_FIRST").unwrap_or(0);
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
    let planted = fault_of_environment();
    let print = std::env::var_os("SIM_TRACE").is_some();
    let (mut records, mut steps, mut slowest_ms) = (0, 0, 0);
    let mut failed = Vec::new();
    spread(
        first..first + count,
        |seed| run(seed, planted, print),
        |seed, result| match result {
            Ok(summary) => {
                records += summary.records;
                steps += summary.steps;
                slowest_ms = summary.converged_after_ms.max(slowest_ms);
            }
            Err(violation) => {
                println!("seed {seed}: {}: {}", violation.checker, violation.what);
                println!(
                    "  repeat with: SIM_FIRST={seed} SIM_SEEDS=1 SIM_TRACE=1 cargo test \
                     --features planted-faults --test sim seeds -- --nocapture"
                );
                failed.push(seed);
            }
        },
    );
    println!(
        "{count} seeds, {records} records, {steps} steps; slowest to converge: {} s",
        slowest_ms / 1000
    );
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{} seeds failed: {failed:?}",
        failed.len()
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    spread(
        0..44,
        |seed| (run(seed, None, false), run(seed, None, false)),
        |seed, (once, again)| {
            let (once, again) = (once.expect("sound"), again.expect("sound"));
            assert_eq!(once, again, "seed {seed}");
        },
    );
}
