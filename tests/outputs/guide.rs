//! Every example of the guide to outputs is a configuration that loads.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lienthong::hub::config::load;

const BASE: &str = "[hub]\nname = \"truc.tinh.example\"\n";

/// The TOML of a guide's examples.
fn examples(guide: &str) -> Vec<String> {
    let parts = guide.split("```toml\n").skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_example_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/outputs.md")).expect("the guide");
    let mut kinds = BTreeSet::new();
    for example in examples(&guide) {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("trucd.toml");
        fs::write(&path, format!("{BASE}{example}")).expect("written");
        let config = load(&path).unwrap_or_else(|faults| panic!("{example}\n{faults}"));
        assert!(!config.outputs.is_empty(), "{example}");
        kinds.extend(config.outputs.iter().map(|output| output.kind.name()));
    }
    let all = ["edxml", "files", "postgres", "sqlite", "station", "webhook"];
    assert_eq!(kinds, all.into());
}
