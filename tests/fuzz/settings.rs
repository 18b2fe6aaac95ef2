//! What a technician writes: the box's configuration, and catalogue files.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use lienthong::catalogue::codes::Codes;
use lienthong::catalogue::{Catalogue, file};
use lienthong::edge::config::load::load;

/// A folder of this process with a catalogue of one dataset, which is read quickly.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let shipped = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue"));
        let folder = std::env::temp_dir().join(format!("fuzz-settings-{}", std::process::id()));
        fs::create_dir_all(folder.join("catalogue")).expect("a temporary folder");
        let name = "catalogue/quan_trac_moi_truong.toml";
        fs::copy(shipped.join("quan_trac_moi_truong.toml"), folder.join(name)).expect("a dataset");
        folder
    })
}

pub fn box_settings(bytes: &[u8]) {
    let path = folder().join("tramd.toml");
    fs::write(&path, bytes).expect("a temporary file");
    match load(&path) {
        Ok(loaded) => {
            let printed = loaded.effective.to_string();
            let printed: toml::Table = printed.parse().expect("what is printed is TOML");
            let sources = printed.get("source").and_then(toml::Value::as_array);
            let sources = sources.map_or(0, Vec::len);
            assert_eq!(sources, loaded.config.sources.len());
        }
        Err(faults) => assert!(!faults.is_empty(), "a refusal has a reason"),
    }
}

/// A dataset's file, and both files of codes.
pub fn catalogue(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match file::read("quan_trac_moi_truong.toml", text) {
        Ok(dataset) => {
            let name = format!("{}.toml", dataset.id);
            let catalogue = Catalogue::from_files([(name, text.to_owned())]);
            let catalogue = catalogue.expect("one file alone is a catalogue");
            let dataset = catalogue.iter().next().expect("its dataset");
            for record in ["{}", r#"{"tram":"NUO001","co_so":"KCNA"}"#] {
                if let Err(refusal) = dataset.admit(record.as_bytes()) {
                    assert!(!refusal.faults().is_empty());
                }
            }
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
    let text = || Some(Ok(text.to_owned()));
    for codes in [
        Codes::from_texts(text(), None),
        Codes::from_texts(None, text()),
    ] {
        if let Err(faults) = codes {
            assert!(!faults.is_empty());
        }
    }
}
