//! One box of a hub, both real processes, for tests of what the box takes in.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::rig::{Broker, Rig, run, tramd};

pub const XA: &str = "xa-tan-bien";
pub const AGENCY: &str = "H53.12";
pub const SOON: Duration = Duration::from_secs(30);

/// A hub that runs, and a box that does not yet.
pub fn one_box() -> Rig {
    let mut rig = Rig::start(Broker::Embedded);
    let port = rig.port;
    rig.add_box(XA, AGENCY, port);
    rig
}

/// Writes a file of the box's configuration.
pub fn configure(rig: &Rig, file: &str, text: &str) {
    fs::write(rig.boxes[XA].folder.join("tramd.d").join(file), text).unwrap();
}

pub fn config(rig: &Rig) -> PathBuf {
    rig.boxes[XA].folder.join("tramd.toml")
}

/// What a command of the box's program says; it must exit with `code`.
pub fn said(rig: &Rig, arguments: &[&str], code: i32) -> String {
    let mut command = tramd();
    command.args(arguments).arg("--config").arg(config(rig));
    String::from_utf8(run(&mut command, code).stdout).unwrap()
}

/// A source as the box's status shows it.
pub fn source(rig: &Rig, name: &str) -> Value {
    let status = rig.status(XA);
    let mut sources = status["sources"].as_array().unwrap().iter();
    sources
        .find(|source| source["name"] == name)
        .unwrap()
        .clone()
}

/// How often each subject of a dataset stands at the hub.
pub fn subjects(rig: &Rig, dataset: &str) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for entry in rig.entries(XA) {
        if entry["type"].as_str().unwrap().starts_with(dataset) {
            let subject = entry["subject"].as_str().unwrap().to_owned();
            *found.entry(subject).or_insert(0) += 1;
        }
    }
    found
}

pub fn assert_once(found: &BTreeMap<String, u32>, count: usize) {
    let most = found.values().max();
    assert_eq!((found.len(), most), (count, Some(&1)), "{found:?}");
}
