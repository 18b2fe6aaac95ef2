//! What comparing a box's copy of a million records with the hub costs, and what repairing it does,
//! engine to engine over real stores. Run with `cargo bench --bench compare_copies [-- ROWS]`.

#![allow(clippy::disallowed_methods, reason = "a bench reads the real clock")]
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/compare/rig.rs"]
mod rig;

use std::time::Instant;

use lienthong::catalogue::right::Rows;
use lienthong::model::compare::Verdict;
use lienthong::model::record::Op;
use rig::{Rig, right};

const ROWS: u64 = 1_000_000;
const GROUP: u64 = 10_000;

fn main() {
    let rows = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(ROWS);
    let mut rig = Rig::new(&right(Rows::All));
    let begun = Instant::now();
    for first in (0..rows).step_by(GROUP as usize) {
        rig.dossiers(first..rows.min(first + GROUP), Op::Upsert);
        rig.settle_within(2);
    }
    rig.settle();
    println!(
        "{rows} records sent up and copied down: {:?}",
        begun.elapsed()
    );
    let bytes = |name: &str| std::fs::metadata(rig.path(name)).unwrap().len() >> 20;
    println!("hub {} MiB, copy {} MiB", bytes("hub.db"), bytes("down.db"));

    compare(&mut rig, "nothing differs", Verdict::Equal);
    let damages = [
        "UPDATE copy SET data = replace(data, 'Nguyễn', 'Nguyên') WHERE copy = 7",
        "DELETE FROM copy WHERE copy = (SELECT max(copy) FROM copy)",
        "INSERT INTO copy SELECT 1 << 40, dataset, x'00112233445566778899aabbccddeeff', version,
           at_ms, schema, agency, 'S-khong-co', data, attachments FROM copy WHERE copy = 9",
    ];
    for damage in damages {
        assert_eq!(rig.damage(damage), 1);
    }
    compare(
        &mut rig,
        "one changed, one gone, one added",
        Verdict::Mended,
    );
    compare(&mut rig, "once more", Verdict::Equal);
}

fn compare(rig: &mut Rig, what: &str, expected: Verdict) {
    let (up, down) = (rig.up_bytes, rig.down_bytes);
    let (begun, steps) = (Instant::now(), rig.turns);
    let (verdict, buckets, subjects) = rig.compare();
    assert_eq!(verdict, expected, "{what}");
    println!(
        "{what}: {:?} of work of both sides in {} turns; {buckets} of 256 buckets, {subjects} \
         subjects sent again; {} bytes down, {} bytes up",
        begun.elapsed(),
        rig.turns - steps,
        rig.down_bytes - down,
        rig.up_bytes - up
    );
}
