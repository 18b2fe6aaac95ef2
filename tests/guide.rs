//! Every example of the guide to sources is a configuration that loads.
#![cfg(feature = "edge")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lienthong::edge::config::load::load;

const BASE: &str = "[box]\nid = \"xa-tan-bien\"\nagency = \"H53.12\"\n[hub]\naddresses = [\"truc.example\"]\nreceipt_keys = [\"hub.pub\"]\n[catalogue]\npath = \"CATALOGUE\"\n";

/// The TOML of a guide's examples, with the line on which each begins.
fn examples(guide: &str) -> Vec<(usize, String)> {
    let mut examples: Vec<(usize, String)> = Vec::new();
    let mut is_inside = false;
    for (number, line) in guide.lines().enumerate() {
        match line.trim_end() {
            "```toml" => {
                is_inside = true;
                examples.push((number + 1, String::new()));
            }
            "```" => is_inside = false,
            line if is_inside => {
                if let Some((_, text)) = examples.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            _ => {}
        }
    }
    examples
}

#[test]
fn every_example_about_looking_up_and_documents_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/rights.md")).expect("the guide");
    let base = BASE.replace("CATALOGUE", &root.join("catalogue").display().to_string());
    let (mut inboxes, mut readers) = (0, 0);
    for (line, example) in examples(&guide) {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("tramd.toml");
        fs::write(&path, format!("{base}{example}")).expect("written");
        let loaded =
            load(&path).unwrap_or_else(|faults| panic!("docs/rights.md:{line}: {faults:?}"));
        inboxes += loaded.config.inboxes.len();
        readers += loaded
            .config
            .http
            .tokens
            .iter()
            .filter(|token| token.inbox)
            .count();
    }
    assert_eq!((inboxes, readers), (2, 1));
}

#[test]
fn every_example_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/sources.md")).expect("the guide");
    let base = BASE.replace("CATALOGUE", &root.join("catalogue").display().to_string());
    let mut kinds = BTreeSet::new();
    for (line, example) in examples(&guide) {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("tramd.toml");
        fs::write(&path, format!("{base}{example}")).expect("written");
        let loaded =
            load(&path).unwrap_or_else(|faults| panic!("docs/sources.md:{line}: {faults:?}"));
        let sources = loaded.config.sources;
        assert!(!sources.is_empty(), "docs/sources.md:{line} has no source");
        kinds.extend(sources.iter().map(|source| source.kind.name()));
    }
    assert!(kinds.contains("folder"), "{kinds:?}");
}
