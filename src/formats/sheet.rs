//! Worksheets: Excel workbooks, old and new, and OpenDocument tables.
//!
//! A workbook is read in two halves. [`unpack`] turns it into cells, one a line, with a library
//! that may panic on a damaged workbook of the old form or take hundreds of megabytes for one cell
//! in a far corner; it is made to run in a process of its own. [`read`] makes rows of the cells,
//! never panics, and bounds the cells and bytes that are taken. Before either, [`kind`] bounds what
//! a packed file unpacks to.

mod bounds;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::io::{BufRead, Read};

use crate::formats::encoding::{self, Encoding};
use crate::formats::sheet::unpack::{Area, Line, Value};
use crate::formats::table::{COLUMNS_MAX, Cell, Columns, Note, Reader, Row};
use crate::formats::{Fault, Faults, excerpt, number};

/// Most cells of one sheet that are looked at.
const CELLS_MAX: usize = 2_000_000;
/// Most bytes of text that one sheet's cells make.
const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest line; Excel's longest cell has a fiftieth of it.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What to take of a workbook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Name of the sheet; the first that is visible where none is given.
    pub sheet: Option<String>,
    /// Row of the heading, from 1; 0 where there is none and columns go by their numbers.
    pub header: Option<u32>,
    /// What the fonts of the workbook, such as `.VnTime`, show its letters as.
    pub encoding: Option<Encoding>,
}

/// A sheet that was read.
#[derive(Debug)]
pub struct Table {
    pub sheet: String,
    pub rows: Vec<Row>,
    pub notes: Vec<Note>,
}

/// Reads a sheet whole, or says everything that is wrong with it; in this process.
pub fn parse(
    bytes: &[u8],
    choice: &Choice,
    columns: &Columns,
    records_max: usize,
) -> Result<Table, Faults> {
    let mut lines = Vec::new();
    unpack::unpack(bytes, choice.sheet.as_deref(), &mut lines).map_err(damaged)?;
    read(lines.as_slice(), choice, columns, records_max)
}

/// Makes rows of the lines that [`unpack::unpack`] writes.
pub fn read(
    mut lines: impl BufRead,
    choice: &Choice,
    columns: &Columns,
    records_max: usize,
) -> Result<Table, Faults> {
    let (sheet, merged) = match next(&mut lines)? {
        Line::Sheet { name, merged } => (name, merged),
        Line::Fault { vi, en } => return Err(fault(vi, en).into()),
        Line::Cell(..) | Line::End => return Err(damaged("no sheet").into()),
    };
    let mut taking = Taking::new(&sheet, merged, choice, columns, records_max);
    loop {
        match next(&mut lines)? {
            Line::Cell(row, column, value) => {
                if !taking.cell(row, column, value) {
                    break;
                }
            }
            Line::End => break,
            Line::Fault { vi, en } => return Err(fault(vi, en).into()),
            Line::Sheet { .. } => return Err(damaged("two sheets").into()),
        }
    }
    taking.finish(sheet)
}

/// The next line. One that is missing or torn means that the other half broke down.
fn next(lines: &mut impl BufRead) -> Result<Line, Fault> {
    let mut line = Vec::new();
    let read = lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    match (read, line.strip_suffix(b"\n")) {
        (Ok(_), Some(line)) => serde_json::from_slice(line).map_err(damaged),
        _ => Err(damaged("cut off")),
    }
}

/// What a workbook is refused with that cannot be opened.
pub fn damaged(error: impl std::fmt::Display) -> Fault {
    let error = excerpt(&error.to_string());
    fault(
        format!(
            "không đọc được bảng tính ({error}); tệp hỏng, có mật khẩu, hoặc chưa chép xong; hãy mở và lưu lại bằng Excel dạng .xlsx, không đặt mật khẩu"
        ),
        format!(
            "the workbook cannot be read ({error}): damaged, with a password, or not copied whole; open it in Excel and save it as .xlsx without a password"
        ),
    )
}

/// What a workbook is refused with that would take too much memory or time.
pub fn too_wide() -> Fault {
    fault(
        "bảng tính cần quá nhiều bộ nhớ hoặc thời gian để mở: thường do một ô ở rất xa (bấm Ctrl+End để tìm); hãy xóa các dòng và cột thừa rồi lưu lại dạng .xlsx".to_owned(),
        "the workbook takes too much memory or time to open, mostly for a cell that is far away (Ctrl+End leads there); delete the rows and columns that are not needed and save it as .xlsx".to_owned(),
    )
}

/// A fault of the whole file.
fn fault(message_vi: String, message_en: String) -> Fault {
    Fault {
        line: 1,
        column: 1,
        message_vi,
        message_en,
    }
}

/// Puts cells together to rows.
struct Taking<'c> {
    reader: Reader<'c>,
    encoding: Option<Encoding>,
    merged: Vec<Area>,
    /// The row in hand, from 0.
    row: u32,
    cells: Vec<Cell<'static>>,
    cells_seen: usize,
    text_bytes: usize,
    title_rows: u64,
    has_enough: bool,
}

impl<'c> Taking<'c> {
    fn new(
        sheet: &str,
        merged: Vec<Area>,
        choice: &Choice,
        columns: &'c Columns,
        records_max: usize,
    ) -> Taking<'c> {
        let name = excerpt(sheet);
        let place = move |line: u32, column: usize| {
            let cell = cell_name(line, column);
            [
                format!("trang “{name}”, ô {cell}, "),
                format!("sheet {name:?}, cell {cell}, "),
            ]
        };
        Taking {
            reader: Reader::new(columns, choice.header, records_max, Box::new(place)),
            encoding: choice.encoding,
            merged,
            row: 0,
            cells: Vec::new(),
            cells_seen: 0,
            text_bytes: 0,
            title_rows: 0,
            has_enough: false,
        }
    }

    /// Takes one cell, row by row; false when it is of no use to go on.
    fn cell(&mut self, row: u32, column: u32, value: Value) -> bool {
        if row != self.row {
            self.end_row();
            if row < self.row {
                self.refuse(damaged("rows out of order"));
            }
            self.row = row;
        }
        self.cells_seen += 1;
        let place = column as usize;
        if COLUMNS_MAX <= place || CELLS_MAX < self.cells_seen || TEXT_BYTES_MAX < self.text_bytes {
            self.refuse(fault(
                format!("trang tính quá lớn: ô {} vượt giới hạn {COLUMNS_MAX} cột, {CELLS_MAX} ô hoặc {} MiB chữ; hãy xóa vùng thừa hoặc chia tệp", cell_name(line_of(row), place), TEXT_BYTES_MAX >> 20),
                format!("the sheet is too large: cell {} is beyond {COLUMNS_MAX} columns, {CELLS_MAX} cells or {} MiB of text; clear what is not needed, or split the file", cell_name(line_of(row), place), TEXT_BYTES_MAX >> 20),
            ));
        }
        if self.has_enough {
            return false;
        }
        let cell = self.read(value);
        if let Cell::Text(text) = &cell {
            self.text_bytes += text.len();
        }
        if self.cells.len() <= place {
            self.cells.resize(place + 1, Cell::Plain(String::new()));
        }
        self.cells[place] = cell;
        true
    }

    fn refuse(&mut self, fault: Fault) {
        self.reader.fault(fault);
        self.has_enough = true;
    }

    fn end_row(&mut self) {
        let cells = std::mem::take(&mut self.cells);
        if self.is_title(&cells) {
            self.title_rows += 1;
        } else if !self.has_enough && !cells.is_empty() {
            self.has_enough = !self.reader.row(line_of(self.row), &cells);
        }
    }

    /// Whether a row's only value is written over several columns.
    fn is_title(&self, cells: &[Cell<'_>]) -> bool {
        let mut filled = cells
            .iter()
            .enumerate()
            .filter(|(_, cell)| **cell != Cell::Plain(String::new()));
        let (Some((column, _)), None) = (filled.next(), filled.next()) else {
            return false;
        };
        self.merged
            .iter()
            .any(|area| area.start == (self.row, number(column)) && area.start.1 < area.end.1)
    }

    fn finish(mut self, sheet: String) -> Result<Table, Faults> {
        self.end_row();
        let (rows, mut notes) = self.reader.finish()?;
        if 0 < self.title_rows {
            notes.push(Note::TitleRows(self.title_rows));
        }
        Ok(Table { sheet, rows, notes })
    }

    fn read(&self, value: Value) -> Cell<'static> {
        match value {
            Value::Plain(text) => Cell::Plain(text),
            Value::Text(text) => self.text(&text),
            Value::Wrong(messages) => Cell::Wrong(messages),
        }
    }

    fn text(&self, text: &str) -> Cell<'static> {
        // Excel writes characters that XML cannot hold in this form.
        let text = text.replace("_x000D_", "");
        match encoding::recode(&text, self.encoding.unwrap_or(Encoding::Utf8)) {
            Ok(text) => Cell::Text(text.into()),
            Err(at) => {
                let letter: String = text.chars().skip(at).take(1).collect();
                let encoding = self.encoding.unwrap_or(Encoding::Utf8);
                Cell::Wrong([
                    format!(
                        "ký tự “{letter}” không có trong bảng mã {encoding}; hãy kiểm tra mục encoding của nguồn"
                    ),
                    format!(
                        "the character {letter:?} is not in {encoding}; check the source's encoding"
                    ),
                ])
            }
        }
    }
}

/// Number of a row, from 1, that is counted from 0.
fn line_of(row: u32) -> u32 {
    row.saturating_add(1)
}

/// `C7` for the seventh row, from 1, and the third column, from 0.
fn cell_name(row: u32, mut column: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(b'A' + u8::try_from(column % 26).unwrap_or(0));
        match column / 26 {
            0 => break,
            more => column = more - 1,
        }
    }
    letters.reverse();
    format!("{}{row}", String::from_utf8_lossy(&letters))
}
