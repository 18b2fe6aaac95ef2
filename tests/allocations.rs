//! How often a record makes the box and the hub ask for memory, counted in a process of its own.
//!
//! The bounds stand close above what was counted. Fewer is always welcome: lower the bound then.
#![cfg(feature = "edge")]

#[path = "../benches/pair/mod.rs"]
mod pair;

use std::cell::Cell;

use dhat::HeapStats;
use pair::{Pair, body, is_stored, now, submission};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const RECORDS: u32 = 1_000;
const GROUP: u32 = 100;

/// Allocations while `work` runs.
fn counted<T>(sum: &Cell<u64>, work: impl FnOnce() -> T) -> T {
    let before = HeapStats::get().total_blocks;
    let result = work();
    sum.set(sum.get() + HeapStats::get().total_blocks - before);
    result
}

#[test]
fn a_record_costs_few_allocations() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let pair = Pair::new();
    let mut edge = pair.edge("counted");
    let mut hub = pair.hub("counted");
    let [door, intake, drain, receive] = [const { Cell::new(0) }; 4];
    // The first round does what is done once, such as compiling the schema; it is not counted.
    for round in [0..GROUP, GROUP..GROUP + RECORDS] {
        for sum in [&door, &intake, &drain, &receive] {
            sum.set(0);
        }
        for start in round.step_by(GROUP as usize) {
            let body = body(start..start + GROUP);
            let records = counted(&door, || pair.admit(&body));
            let events = vec![submission(records)];
            let effects = counted(&intake, || edge.step(now(), events).expect("kept"));
            assert!(effects.iter().any(is_stored), "{effects:?}");
        }
        pair.drain(
            &mut edge,
            &mut hub,
            |edge, events| counted(&drain, || edge.step(now(), events).expect("a step")),
            |hub, events| counted(&receive, || hub.step(now(), events).expect("committed")),
        );
    }
    let figures = [
        ("door", &door, 54.0),
        ("intake", &intake, 25.5),
        ("drain", &drain, 0.2),
        ("hub", &receive, 19.5),
    ]
    .map(|(what, sum, bound)| (what, sum.get() as f64 / f64::from(RECORDS), bound));
    println!("allocations a record: {figures:.2?}");
    for (what, figure, bound) in figures {
        assert!(
            0.0 < figure && figure <= bound,
            "{what}: {figure:.2} allocations a record, at most {bound}"
        );
    }
}
