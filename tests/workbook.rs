//! Workbooks that break the library which opens them cost one file and little memory: the real
//! program looks at them, and at a good one beside them.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use zip::write::{SimpleFileOptions, ZipWriter};

/// Of the program and of the processes that it starts, each by itself.
const MEMORY_BYTES_MAX: u64 = 260_000_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The golden workbook of the old form with one of its cells moved to the last row and column, which
/// makes a grid of sixteen million cells.
fn far_xls() -> Vec<u8> {
    const NUMBER_RECORD: [u8; 4] = [0x03, 0x02, 14, 0];
    let mut bytes = fs::read(root().join("tests/golden/sheet/xls/input.xls")).unwrap();
    let found = bytes.windows(4).rposition(|part| part == NUMBER_RECORD);
    let at = found.unwrap() + NUMBER_RECORD.len();
    bytes[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x00]);
    bytes
}

/// A table with one cell in column 16,384 of row 1,000,000, as its form says in few words.
fn far_ods() -> Vec<u8> {
    let cell = |attributes: &str| {
        format!("<table:table-cell {attributes}><text:p>x</text:p></table:table-cell>")
    };
    let content = format!(
        "<office:document-content xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" xmlns:table=\"urn:oasis:names:tc:opendocument:xmlns:table:1.0\" xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\"><office:body><office:spreadsheet><table:table table:name=\"a\"><table:table-row>{0}</table:table-row><table:table-row table:number-rows-repeated=\"999998\"><table:table-cell/></table:table-row><table:table-row><table:table-cell table:number-columns-repeated=\"16383\"/>{0}</table:table-row></table:table></office:spreadsheet></office:body></office:document-content>",
        cell("office:value-type=\"string\"")
    );
    packed(&[
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("content.xml", &content),
    ])
}

/// A sheet whose merged cells are written in a way that no program writes.
fn oddly_merged_xlsx() -> Vec<u8> {
    let sheet = fs::read(root().join("tests/data/workbooks/merged-cells.xml")).unwrap();
    packed(&[
        (
            "_rels/.rels",
            "<Relationships><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>",
        ),
        (
            "xl/workbook.xml",
            "<workbook xmlns:r=\"r\"><sheets><sheet name=\"a\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>",
        ),
        (
            "xl/_rels/workbook.xml.rels",
            "<Relationships><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>",
        ),
        ("xl/worksheets/sheet1.xml", &String::from_utf8_lossy(&sheet)),
    ])
}

fn packed(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        let options = SimpleFileOptions::default();
        writer.start_file(*name, options).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_workbook_that_breaks_its_reader_costs_one_file() {
    let place = tempfile::tempdir().unwrap();
    let drop_folder = place.path().join("nhan");
    fs::create_dir(&drop_folder).unwrap();
    let golden = root().join("tests/golden/sheet/xls");
    let good = fs::read(golden.join("input.xls")).unwrap();
    let damaged = fs::read(root().join("tests/data/workbooks/damaged.xls")).unwrap();
    fs::write(drop_folder.join("1-damaged.xls"), damaged).unwrap();
    fs::write(drop_folder.join("2-cut.xls"), &good[..good.len() / 2]).unwrap();
    fs::write(drop_folder.join("3-far.xls"), far_xls()).unwrap();
    fs::write(drop_folder.join("4-far.ods"), far_ods()).unwrap();
    fs::write(drop_folder.join("5-good.xls"), &good).unwrap();
    fs::write(drop_folder.join("6-merged.xlsx"), oddly_merged_xlsx()).unwrap();
    let config = format!(
        "[box]\nid = \"xa-tan-bien\"\nagency = \"H53.12\"\n[hub]\naddresses = [\"truc.example\"]\nreceipt_keys = [\"hub.pub\"]\n[store]\npath = {:?}\n[catalogue]\npath = {:?}\n[[source]]\nname = \"mau\"\nkind = \"folder\"\npath = \"nhan\"\n{}",
        place.path().join("box.db"),
        root().join("catalogue"),
        fs::read_to_string(golden.join("source.toml")).unwrap()
    );
    let path = place.path().join("tramd.toml");
    fs::write(&path, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tramd"))
        .args(["sources", "try", "mau", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = |name: &str| said.lines().find(|line| line.contains(name)).unwrap_or("");
    for name in ["1-damaged", "2-cut", "3-far", "4-far", "6-merged"] {
        assert!(line(name).contains("refused"), "{name}: {said}");
    }
    assert!(line("5-good").contains("taken"), "{said}");
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    let peak_bytes = u64::try_from(peak).unwrap() * 1024;
    println!("at most {peak_bytes} bytes in one process");
    assert!(peak_bytes <= MEMORY_BYTES_MAX, "{peak_bytes} bytes");
}
