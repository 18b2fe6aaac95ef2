//! The way of some records through box and hub, for counting instructions: `instructions.sh` runs it
//! on a simulated processor, which counts what is spent in the `measured_*` functions. Counts, unlike
//! times, do not depend on what else the machine does.
//!
//! A counter that knows no names is told by system calls, `sched_yield`, where each of them begins
//! and ends, and by the last line of the output which was which.

mod pair;

use std::sync::Mutex;
use std::thread::yield_now;

use lienthong::engine::{receiving, sending};
use pair::{Edge, Pair, body, is_stored, now, submission};

/// A multiple of [`GROUP`].
const RECORDS: u32 = 2_000;
/// Records a request, and a commit.
const GROUP: u32 = 100;

/// What was measured, in its order.
static ORDER: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn main() {
    let pair = Pair::new();
    let mut edge = pair.edge("counted");
    let mut hub = pair.hub("counted");
    // What is done once, such as compiling the schema and preparing statements, is done before.
    run(&pair, &mut edge, &mut hub, 0..GROUP);
    counting_begins();
    run(&pair, &mut edge, &mut hub, GROUP..GROUP + RECORDS);
    println!("records {RECORDS}");
    println!("order {}", ORDER.lock().expect("one thread").join(" "));
}

/// Entering it sets the counts to zero.
#[inline(never)]
fn counting_begins() {
    ORDER.lock().expect("one thread").clear();
}

fn run(
    pair: &Pair,
    edge: &mut Edge,
    hub: &mut receiving::HubEngine,
    numbers: std::ops::Range<u32>,
) {
    let starts: Vec<u32> = numbers.step_by(GROUP as usize).collect();
    for start in starts {
        let body = body(start..start + GROUP);
        let records = measured_door(pair, &body);
        let effects = measured_intake(edge, vec![submission(records)]);
        assert!(effects.iter().any(is_stored), "{effects:?}");
    }
    pair.drain(edge, hub, measured_drain, measured_hub);
}

#[inline(never)]
fn measured_door(pair: &Pair, body: &str) -> Vec<sending::NewRecord> {
    marked("door", || pair.admit(body))
}

#[inline(never)]
fn measured_intake(edge: &mut Edge, events: Vec<sending::Event<()>>) -> Vec<sending::Effect<()>> {
    marked("intake", || edge.step(now(), events).expect("kept"))
}

#[inline(never)]
fn measured_drain(edge: &mut Edge, events: Vec<sending::Event<()>>) -> Vec<sending::Effect<()>> {
    marked("drain", || edge.step(now(), events).expect("a step"))
}

#[inline(never)]
fn measured_hub(
    hub: &mut receiving::HubEngine,
    events: Vec<receiving::Event>,
) -> Vec<receiving::effect::Effect> {
    marked("hub", || hub.step(now(), events).expect("committed"))
}

fn marked<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    ORDER.lock().expect("one thread").push(name);
    yield_now();
    let result = work();
    yield_now();
    result
}
