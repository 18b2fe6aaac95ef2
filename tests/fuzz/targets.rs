//! Every parser of foreign bytes under libFuzzer: `bash .ci/fuzz SECONDS [TARGET]`.
//!
//! One program holds all targets, so that it is built once; `FUZZ_TARGET` names the one that runs.
//! A target takes any bytes, must not panic on them, and asserts what must hold of whatever it
//! reads. Where a parser has options, the length of the input chooses them, so that real files are
//! seeds as they are. What `tests/fuzz/corpus/TARGET` holds is run first, by every run.
#![no_main]

mod center;
mod settings;
mod stations;
mod tables;
mod texts;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 15] = [
    ("catalogue", settings::catalogue),
    ("cloudevents", texts::cloudevents),
    ("codes", texts::codes),
    ("csv", tables::csv_file),
    ("edxml", texts::edxml_document),
    ("encoding", texts::encoding_of_text),
    ("entry", center::entry),
    ("evidence", center::evidence),
    ("ftp", stations::ftp_line),
    ("json", texts::json_records),
    ("record", texts::record),
    ("settings", settings::box_settings),
    ("sheet", tables::sheet_file),
    ("station", stations::station_file),
    ("wire", center::wire),
];

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        match TARGETS.iter().find(|(known, _)| *known == name) {
            Some((_, target)) => *target,
            None => {
                let known: Vec<&str> = TARGETS.iter().map(|(known, _)| *known).collect();
                panic!("FUZZ_TARGET must be one of: {}", known.join(" "));
            }
        }
    })
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));
