//! Rows of a table, from a CSV file or a worksheet, as JSON objects of a dataset.
//!
//! A column is found by its heading and has a type; its cells become values of the record without
//! any rounding. What cannot be such a value is a fault that names row and column. A reading of a
//! cell that could be meant in two ways is not chosen but refused, with the setting that decides.

pub mod cell;
mod header;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::formats::{Fault, Faults, excerpt, number};
use cell::{DecimalSign, Kind};

/// Most columns of a table.
pub const COLUMNS_MAX: usize = 1_000;
/// A heading is looked for in so many rows.
pub const HEADER_ROWS_MAX: usize = 20;

/// Which columns are taken, and as what.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    pub list: Vec<Column>,
    /// Headings that are known and not taken.
    pub ignored: Vec<String>,
    /// A heading that stands nowhere above is a fault, not a note.
    pub is_closed: bool,
    /// How cells write fractions. Without it, cells that could be read in two ways are refused.
    pub decimal: Option<DecimalSign>,
}

/// A column, and the field of the record that it fills.
#[derive(Debug, Clone, Default)]
pub struct Column {
    /// Headings by which it is known.
    pub names: Vec<String>,
    /// Names of the fields from the record's top to the value.
    pub path: Vec<String>,
    pub kind: Kind,
    /// A table without it is refused.
    pub is_required: bool,
    /// What cells say, and what the record says instead.
    pub values: BTreeMap<String, String>,
    /// JSON that the field has where no cell fills it.
    pub constant: Option<String>,
}

impl Column {
    /// The cell with the word that the record uses.
    fn said<'a>(&self, cell: &Cell<'a>) -> Cell<'a> {
        let (Cell::Text(_) | Cell::Plain(_)) = cell else {
            return cell.clone();
        };
        match self.values.get(&cell.heading()) {
            Some(value) => Cell::Text(value.clone().into()),
            None => cell.clone(),
        }
    }
}

impl Columns {
    /// How many of the columns a row names.
    pub fn known(&self, cells: &[Cell<'_>]) -> usize {
        let names: Vec<String> = cells.iter().map(Cell::heading).collect();
        header::known(self, &names)
    }
}

/// A row that became a record.
#[derive(Debug)]
pub struct Row {
    /// Line or row of the file, from 1.
    pub line: u32,
    pub data: Box<RawValue>,
}

/// What was tolerated in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Columns that no setting names.
    ColumnsLeftOut(Vec<String>),
    /// Rows without any value.
    BlankRows(u64),
    /// Rows that hold nothing but a title over several columns.
    TitleRows(u64),
}

impl Note {
    pub fn message_vi(&self) -> String {
        match self {
            Note::ColumnsLeftOut(names) => {
                format!("bỏ qua các cột không khai báo: {}", names.join(", "))
            }
            Note::BlankRows(count) => format!("bỏ qua {count} dòng trống"),
            Note::TitleRows(count) => {
                format!("bỏ qua {count} dòng tiêu đề nhóm (ô gộp qua nhiều cột)")
            }
        }
    }

    pub fn message_en(&self) -> String {
        match self {
            Note::ColumnsLeftOut(names) => {
                format!(
                    "columns that no setting names are left out: {}",
                    names.join(", ")
                )
            }
            Note::BlankRows(count) => format!("{count} blank rows are skipped"),
            Note::TitleRows(count) => {
                format!("{count} rows are skipped that are titles over several columns")
            }
        }
    }
}

/// A cell as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell<'a> {
    /// As a person wrote it.
    Text(std::borrow::Cow<'a, str>),
    /// A value that the file itself writes in one way only: a number with a decimal point, or a
    /// date as ISO 8601.
    Plain(String),
    /// No value, and why, in Vietnamese and in English.
    Wrong([String; 2]),
}

impl Cell<'_> {
    fn heading(&self) -> String {
        match self {
            Cell::Text(text) => header::normal(text),
            Cell::Plain(text) => text.clone(),
            Cell::Wrong(_) => String::new(),
        }
    }

    fn is_blank(&self) -> bool {
        match self {
            Cell::Text(text) => text.trim().is_empty(),
            Cell::Plain(text) => text.is_empty(),
            Cell::Wrong(_) => false,
        }
    }
}

/// Says where a cell stands, for a fault's message: Vietnamese and English.
pub type Place<'p> = dyn Fn(u32, usize) -> [String; 2] + 'p;

/// Takes the rows of a table one after the other, the heading among the first of them.
pub struct Reader<'c> {
    columns: &'c Columns,
    records_max: usize,
    place: Box<Place<'c>>,
    /// The heading stands in this row of those that are not blank; `Some(0)` is no heading at all.
    header_row: Option<u32>,
    header: Option<header::Header>,
    /// Rows before the heading is found.
    waiting: Vec<(u32, Vec<String>)>,
    rows: Vec<Row>,
    blank_rows: u64,
    /// A row that has not as many cells as the heading is a fault.
    has_width: bool,
    faults: Faults,
}

impl<'c> Reader<'c> {
    pub fn new(
        columns: &'c Columns,
        header_row: Option<u32>,
        records_max: usize,
        place: Box<Place<'c>>,
    ) -> Reader<'c> {
        let header = (header_row == Some(0)).then(|| header::Header::by_number(columns));
        Reader {
            columns,
            records_max,
            place,
            header_row,
            header,
            waiting: Vec::new(),
            rows: Vec::new(),
            blank_rows: 0,
            has_width: false,
            faults: Faults::default(),
        }
    }

    /// A row with fewer or more cells than the heading is a fault: a delimiter or quote is wrong.
    #[must_use]
    pub fn with_width(mut self) -> Reader<'c> {
        self.has_width = true;
        self
    }

    /// Takes the next row; false when it is of no use to go on.
    pub fn row(&mut self, line: u32, cells: &[Cell<'_>]) -> bool {
        if cells.iter().all(Cell::is_blank) {
            self.blank_rows += u64::from(self.header.is_some());
            return true;
        }
        match &self.header {
            Some(_) => self.data_row(line, cells),
            None => self.heading(line, cells),
        }
    }

    /// Ends the table.
    pub fn finish(mut self) -> Result<(Vec<Row>, Vec<Note>), Faults> {
        if self.header.is_none() && self.faults.is_empty() {
            let fault = header::not_found(self.columns, &self.waiting, self.header_row);
            self.faults.push_with(|| fault);
        }
        let mut notes = Vec::new();
        if let Some(header) = &self.header {
            if !header.left_out.is_empty() {
                notes.push(Note::ColumnsLeftOut(header.left_out.clone()));
            }
            if 0 < self.blank_rows {
                notes.push(Note::BlankRows(self.blank_rows));
            }
        }
        if self.rows.is_empty() && self.faults.is_empty() {
            self.faults.push_with(no_rows);
        }
        self.faults.or((self.rows, notes))
    }

    pub fn fault(&mut self, fault: Fault) {
        self.faults.push_with(|| fault);
    }

    fn heading(&mut self, line: u32, cells: &[Cell<'_>]) -> bool {
        let names: Vec<String> = cells.iter().map(Cell::heading).collect();
        let found = match self.header_row {
            Some(row) if line < row => return true,
            Some(_) => {
                self.waiting = vec![(line, names.clone())];
                header::Header::of(self.columns, &names)
            }
            None => {
                let found = header::Header::of(self.columns, &names);
                self.waiting.push((line, names.clone()));
                found
            }
        };
        let has_room = self.header_row.is_none() && self.waiting.len() < HEADER_ROWS_MAX;
        match found {
            Some(header) => {
                for fault in header.faults(self.columns, line, &names) {
                    self.faults.push_with(|| fault);
                }
                let is_usable = self.faults.is_empty();
                self.header = Some(header);
                is_usable
            }
            None => has_room,
        }
    }

    fn data_row(&mut self, line: u32, cells: &[Cell<'_>]) -> bool {
        let Some(header) = &self.header else {
            return false;
        };
        if self.records_max == self.rows.len() {
            self.faults.too_many_records = true;
            let most = self.records_max;
            self.faults.push_with(|| Fault {
                line,
                column: 1,
                message_vi: format!(
                    "quá {most} dòng dữ liệu trong một tệp; hãy chia thành nhiều tệp"
                ),
                message_en: format!("more than {most} rows in one file; split it"),
            });
            return false;
        }
        let faults_before = self.faults.list.len() as u64 + self.faults.more;
        if let Some(width) = header.width.filter(|_| self.has_width) {
            let cells_there = cells.len();
            let is_too_long = cells[width.min(cells_there)..]
                .iter()
                .any(|cell| !cell.is_blank());
            if cells_there < width || is_too_long {
                self.faults
                    .push_with(|| wrong_width(line, cells_there, width));
            }
        }
        let constants = self
            .columns
            .list
            .iter()
            .map(|column| column.constant.clone());
        let mut values: Vec<Option<String>> = constants.collect();
        let filled = header.columns.iter().enumerate();
        for (at, column) in
            filled.flat_map(|(at, places)| places.iter().map(move |place| (at, place)))
        {
            let Some(cell) = cells.get(at) else {
                continue;
            };
            let filled = &self.columns.list[*column];
            if cell.is_blank() {
                continue;
            }
            match cell::value(&filled.said(cell), filled.kind, self.columns.decimal) {
                Ok(value) => values[*column] = Some(value),
                Err([vi, en]) => {
                    let name = excerpt(&header.names[at]);
                    let place = &self.place;
                    self.faults.push_with(|| {
                        let [at_vi, at_en] = place(line, at);
                        Fault {
                            line,
                            column: number(at + 1),
                            message_vi: format!("{at_vi}cột “{name}”: {vi}"),
                            message_en: format!("{at_en}column {name:?}: {en}"),
                        }
                    });
                }
            }
        }
        if faults_before == self.faults.list.len() as u64 + self.faults.more {
            let text = header.record(self.columns, &values);
            let data = RawValue::from_string(text).expect("a row is written as JSON");
            self.rows.push(Row { line, data });
        }
        true
    }
}

fn wrong_width(line: u32, cells: usize, width: usize) -> Fault {
    Fault {
        line,
        column: number(cells.min(width) + 1),
        message_vi: format!(
            "dòng có {cells} ô, tiêu đề có {width} cột; hãy kiểm tra dấu phân cách, dấu nháy và tệp có bị cắt cụt không"
        ),
        message_en: format!(
            "the row has {cells} cells, the heading {width} columns; check delimiter and quotes, and whether the file was cut off"
        ),
    }
}

fn no_rows() -> Fault {
    Fault {
        line: 1,
        column: 1,
        message_vi: "không có dòng dữ liệu nào dưới tiêu đề; hãy kiểm tra phần mềm xuất dữ liệu"
            .to_owned(),
        message_en: "there is no row below the heading; check the exporting software".to_owned(),
    }
}
