//! Tables: delimited text and worksheets.

use std::sync::OnceLock;

use lienthong::catalogue::Catalogue;
use lienthong::edge::columns;
use lienthong::edge::config::table::TableConfig;
use lienthong::formats::csv::{self, Dialect, Quote};
use lienthong::formats::encoding::Encoding;
use lienthong::formats::sheet::{self, Choice};
use lienthong::formats::table::{Columns, Row};
use unicode_normalization::is_nfc;

const ROWS_MAX: usize = 1_000;

/// The columns of several datasets: nested fields, dates, money, lists of words.
fn all_columns() -> &'static [Columns] {
    static COLUMNS: OnceLock<Vec<Columns>> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        let catalogue = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
        let catalogue = Catalogue::load(catalogue.as_ref()).expect("the shipped catalogue");
        let of = |id: &str| {
            let dataset = catalogue.get(&id.parse().expect("an id")).expect("shipped");
            columns::of(dataset, &TableConfig::default()).expect("columns")
        };
        vec![
            of("ho_so_tthc"),
            of("ngan_sach_xa"),
            of("thong_ke_giao_duc"),
        ]
    })
}

fn hold(rows: &[Row], lines: usize) {
    assert!(rows.len() <= lines.min(ROWS_MAX));
    for row in rows {
        let text = row.data.get();
        assert!(is_nfc(text), "{text}");
        let value: serde_json::Value = serde_json::from_str(text).expect("a record is JSON");
        assert!(value.is_object());
    }
    assert!(rows.is_sorted_by_key(|row| row.line));
}

pub fn csv_file(bytes: &[u8]) {
    let dialect = match bytes.len() % 5 {
        0 => Dialect {
            encoding: Some(Encoding::Tcvn3),
            ..Dialect::default()
        },
        1 => Dialect {
            delimiter: Some(b';'),
            quote: Quote::Single,
            header: Some(1),
            ..Dialect::default()
        },
        2 => Dialect {
            quote: Quote::None,
            header: Some(0),
            ..Dialect::default()
        },
        _ => Dialect::default(),
    };
    let lines = bytes
        .iter()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count();
    let columns = &all_columns()[bytes.len() / 5 % all_columns().len()];
    if let Ok(table) = csv::parse(bytes, &dialect, columns, ROWS_MAX) {
        hold(&table.rows, lines + 1);
    }
}

/// The cells of a workbook as lines. The library that makes lines of workbooks does panic, which is
/// why the box lets it work in a process of its own.
pub fn sheet_file(bytes: &[u8]) {
    let choice = match bytes.len() % 3 {
        0 => Choice {
            header: Some(1),
            encoding: Some(Encoding::Tcvn3),
            ..Choice::default()
        },
        1 => Choice {
            header: Some(0),
            ..Choice::default()
        },
        _ => Choice::default(),
    };
    let columns = &all_columns()[0];
    if let Ok(table) = sheet::read(bytes, &choice, columns, ROWS_MAX) {
        hold(&table.rows, ROWS_MAX);
    }
}
