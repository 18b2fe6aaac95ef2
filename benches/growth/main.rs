//! What a record costs as work grows: up to five million records waiting on one box, and up to a
//! thousand boxes on one hub. `cargo bench --bench growth` measures all of it, prints two tables and
//! draws `docs/growth.svg`; with `-- --quick`, or with sizes of your own (`--waiting 10000`,
//! `--boxes 1,10`, an empty list for none), it draws beside the build's other files.
//!
//! The hub is a process of its own. So is the box that many records wait on; many boxes are engines
//! and couriers of the product in this process, because a thousand processes do not fit on a small
//! machine.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

mod boxes;
mod plot;
mod waiting;

#[path = "../../tests/e2e/cage.rs"]
mod cage;
#[path = "../pair/mod.rs"]
mod pair;
#[path = "../compare/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../../tests/e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::path::{Path, PathBuf};

use plot::{Panel, Point};

fn main() {
    let whole = !is_given("--quick") && list("--waiting").is_none() && list("--boxes").is_none();
    let (waiting, boxes, records) = if is_given("--quick") {
        (vec![2_000, 20_000], vec![1, 10, 40], 20_000)
    } else {
        (
            vec![10_000, 100_000, 1_000_000, 5_000_000],
            vec![1, 10, 151, 1_000],
            200_000,
        )
    };
    let waiting = list("--waiting").unwrap_or(waiting);
    let boxes = list("--boxes").unwrap_or(boxes);
    println!(
        "\n## Records waiting on one box\n\n\
         | waiting | start to intake, ms | MB waiting | most MB draining | peak under the kernel's limit, page cache included | drained, records/s | box, hub: processor µs/record |\n\
         |---|---|---|---|---|---|---|"
    );
    let waiting: Vec<_> = waiting.into_iter().map(waiting::measure).collect();
    println!(
        "\n## Boxes on one hub, {records} records together\n\n\
         | boxes | connected in, s | records/s | hub: processor µs/record | hub: MB idle, at most | connections lost |\n\
         |---|---|---|---|---|---|"
    );
    let boxes: Vec<_> = boxes
        .into_iter()
        .map(|boxes| boxes::measure(boxes, records))
        .collect();
    let picture = plot::draw(&panels(&waiting, &boxes));
    let path = picture_path(whole);
    fs::write(&path, picture).expect("the picture is written");
    println!("\ndrawn: {}", path.display());
}

fn is_given(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// The numbers after an argument, such as `--boxes 1,10`.
fn list(name: &str) -> Option<Vec<u32>> {
    let text = std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)?;
    let numbers = text.split(',').filter(|number| !number.is_empty());
    Some(
        numbers
            .map(|number| number.parse().expect("a list of numbers, such as 1,10"))
            .collect(),
    )
}

fn picture_path(whole: bool) -> PathBuf {
    let folder = if whole {
        concat!(env!("CARGO_MANIFEST_DIR"), "/docs")
    } else {
        env!("CARGO_TARGET_TMPDIR")
    };
    Path::new(folder).join("growth.svg")
}

fn panels(waiting: &[waiting::Measured], boxes: &[boxes::Measured]) -> Vec<Panel> {
    let of_waiting = |title, value: fn(&waiting::Measured) -> f64| Panel {
        title,
        below: "records waiting on one box",
        points: waiting
            .iter()
            .map(|row| Point::new(row.records, value(row)))
            .collect(),
    };
    let of_boxes = |title, value: fn(&boxes::Measured) -> f64| Panel {
        title,
        below: "boxes on one hub",
        points: boxes
            .iter()
            .map(|row| Point::new(row.boxes, value(row)))
            .collect(),
    };
    vec![
        of_waiting("Drain, thousand records a second", |row| {
            row.records_per_s / 1e3
        }),
        of_waiting("Memory of the box while draining, MB", |row| row.most_mb),
        of_waiting("Start to intake, milliseconds", |row| row.start_ms),
        of_boxes("Committed, thousand records a second", |row| {
            row.records_per_s / 1e3
        }),
        of_boxes("Memory of the hub, MB", |row| row.most_mb),
        of_boxes("Processor time of the hub, µs a record", |row| row.hub_us),
    ]
}
