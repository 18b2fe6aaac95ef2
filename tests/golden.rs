//! Golden files: what comes of a file under a source's settings, through the configuration, the
//! parser and the shipped catalogue.
//!
//! A case is a folder below `tests/golden/<format>/` with `source.toml` (the settings of the
//! source), the file `input.*`, and `expected.txt`: records one a line, or what is refused. Where
//! `expected.txt` is missing it is written and the test fails, so that somebody reads it first.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use lienthong::catalogue::Dataset;
use lienthong::edge::columns;
use lienthong::edge::config::load::{Loaded, load};
use lienthong::edge::config::{FileFormat, FolderConfig, SourceKind};
use lienthong::formats::edxml::{self, Document};
use lienthong::formats::table::{Note, Row};
use lienthong::formats::{Faults, csv, sheet};
use serde_json::value::RawValue;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A configuration of a box with this source.
fn configured(source: &str) -> Loaded {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tramd.toml");
    let catalogue = root().join("catalogue");
    let text = format!(
        "[box]\nid = \"xa-tan-bien\"\nagency = \"H53.12\"\n[hub]\naddresses = [\"truc.example\"]\nreceipt_keys = [\"hub.pub\"]\n[catalogue]\npath = {:?}\n[[source]]\nname = \"mau\"\nkind = \"folder\"\npath = \"nhan\"\n{source}",
        catalogue.display().to_string()
    );
    fs::write(&path, text).unwrap();
    load(&path).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn outcome(input: &Path, folder: &FolderConfig, dataset: &Dataset) -> String {
    let bytes = fs::read(input).unwrap();
    let columns = columns::of(dataset, &folder.table).unwrap();
    let mut out = String::new();
    let read = match folder.format {
        Some(FileFormat::Csv) => {
            csv::parse(&bytes, &folder.table.dialect(), &columns, 1_000).map(|table| {
                writeln!(out, "# {} {:?}", table.encoding, table.how).unwrap();
                (table.rows, table.notes)
            })
        }
        Some(FileFormat::Sheet) => sheet::parse(&bytes, &folder.table.choice(), &columns, 1_000)
            .map(|table| (table.rows, table.notes)),
        Some(FileFormat::EdXml) => {
            document(edxml::parse(&bytes), dataset, &mut out);
            return out;
        }
        other => panic!("no golden files of {other:?}"),
    };
    rows(read, dataset, &mut out);
    out
}

fn document(read: Result<Document, Faults>, dataset: &Dataset, out: &mut String) {
    let read = read.map(|document| {
        for note in &document.notes {
            writeln!(out, "# {} / {}", note.message_vi(), note.message_en()).unwrap();
        }
        for file in &document.attachments {
            let (name, mime, bytes) = (&file.name, &file.mime, file.bytes.len());
            writeln!(out, "+ {name} {mime} {bytes} {}", file.sha256).unwrap();
        }
        let data = RawValue::from_string(document.record).unwrap();
        (vec![Row { line: 1, data }], Vec::new())
    });
    rows(read, dataset, out);
}

fn rows(read: Result<(Vec<Row>, Vec<Note>), Faults>, dataset: &Dataset, out: &mut String) {
    match read {
        Err(faults) => writeln!(out, "{faults}").unwrap(),
        Ok((rows, notes)) => {
            for note in notes {
                writeln!(out, "# {} / {}", note.message_vi(), note.message_en()).unwrap();
            }
            for row in rows {
                writeln!(out, "{} {}", row.line, row.data.get()).unwrap();
                if let Err(refusal) = dataset.admit(row.data.get().as_bytes()) {
                    for fault in refusal.faults() {
                        writeln!(out, "  ! {} {}", fault.pointer, fault.message_vi).unwrap();
                    }
                }
            }
        }
    }
}

fn cases(format: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/golden").join(format);
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|case| case.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

fn input_of(case: &Path) -> PathBuf {
    let files = fs::read_dir(case).unwrap().map(|file| file.unwrap().path());
    let mut inputs = files.filter(|path| path.file_stem().is_some_and(|stem| stem == "input"));
    inputs.next().unwrap()
}

fn hold(format: &str, at_least: usize) {
    let cases = cases(format);
    assert!(at_least <= cases.len(), "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let settings = fs::read_to_string(case.join("source.toml")).unwrap();
        let loaded = configured(&settings);
        let source = &loaded.config.sources[0];
        let SourceKind::Folder(folder) = &source.kind else {
            panic!("a folder");
        };
        let dataset = loaded.catalogue.get(&source.dataset).unwrap();
        let found = outcome(&input_of(&case), folder, dataset);
        let expected = case.join("expected.txt");
        match fs::read_to_string(&expected) {
            Ok(text) if text == found => {}
            Ok(text) => wrong.push(format!(
                "{}:\n--- expected\n{text}--- found\n{found}",
                case.display()
            )),
            Err(_) => {
                fs::write(&expected, &found).unwrap();
                wrong.push(format!(
                    "{}: was written, read it:\n{found}",
                    case.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn csv_files() {
    hold("csv", 8);
}

#[test]
fn worksheets() {
    hold("sheet", 4);
}

#[test]
fn documents() {
    hold("edxml", 8);
}
