//! Worksheets: Excel workbooks, old and new, and OpenDocument tables.
//!
//! A workbook is a packed file that may unpack to anything, so it is bounded before it is opened:
//! what its parts unpack to is counted ([`bounds`]), cells of a new workbook are streamed, and the
//! cells and bytes that are taken have limits.

mod bounds;
#[cfg(test)]
mod tests;

use std::io::Cursor;

use calamine::{
    CellErrorType, Data, DataRef, DataType, Dimensions, ExcelDateTime, Ods, Reader as _, Sheet,
    SheetType, SheetVisible, Xls, Xlsx,
};

use crate::formats::encoding::{self, Encoding};
use crate::formats::table::{COLUMNS_MAX, Cell, Columns, Note, Reader, Row};
use crate::formats::{Fault, Faults, excerpt, number};

/// Most cells of one sheet that are looked at.
const CELLS_MAX: usize = 2_000_000;
/// Most bytes of text that one sheet's cells make.
const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// From here on a number of a worksheet has lost digits.
const EXACT_MAX: f64 = 1e15;

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

type Bytes<'b> = Cursor<&'b [u8]>;

/// Reads a sheet whole, or says everything that is wrong with it.
pub fn parse(
    bytes: &[u8],
    choice: &Choice,
    columns: &Columns,
    records_max: usize,
) -> Result<Table, Faults> {
    match bounds::kind(bytes)? {
        bounds::Kind::Xlsx => {
            let mut book: Xlsx<Bytes<'_>> = open(bytes)?;
            let sheet = choose(book.sheets_metadata(), choice.sheet.as_deref())?;
            let merged = book.merge_cells_by_sheet_name(&sheet).unwrap_or_default();
            let mut taking = Taking::new(&sheet, merged, choice, columns, records_max);
            let mut cells = book.worksheet_cells_reader(&sheet).map_err(damaged)?;
            while let Some(cell) = cells.next_cell().map_err(damaged)? {
                let (row, column) = cell.get_position();
                if !taking.cell(row, column, cell.get_value().clone()) {
                    break;
                }
            }
            taking.finish(sheet)
        }
        bounds::Kind::Xls => {
            let mut book: Xls<Bytes<'_>> = open(bytes)?;
            let sheet = choose(book.sheets_metadata(), choice.sheet.as_deref())?;
            let merged = book.merge_cells_by_sheet_name(&sheet).unwrap_or_default();
            let range = book.worksheet_range(&sheet).map_err(damaged)?;
            Taking::new(&sheet, merged, choice, columns, records_max).range(&range, sheet)
        }
        bounds::Kind::Ods => {
            let mut book: Ods<Bytes<'_>> = open(bytes)?;
            let sheet = choose(book.sheets_metadata(), choice.sheet.as_deref())?;
            let range = book.worksheet_range(&sheet).map_err(damaged)?;
            Taking::new(&sheet, Vec::new(), choice, columns, records_max).range(&range, sheet)
        }
    }
}

fn open<'b, R: calamine::Reader<Bytes<'b>>>(bytes: &'b [u8]) -> Result<R, Fault>
where
    R::Error: std::fmt::Display,
{
    R::new(Cursor::new(bytes)).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> Fault {
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

/// A fault of the whole file.
fn fault(message_vi: String, message_en: String) -> Fault {
    Fault {
        line: 1,
        column: 1,
        message_vi,
        message_en,
    }
}

/// The sheet of this name, or the first one that people see.
fn choose(sheets: &[Sheet], name: Option<&str>) -> Result<String, Fault> {
    let mut tables = sheets
        .iter()
        .filter(|sheet| sheet.typ == SheetType::WorkSheet);
    let found = match name {
        Some(name) => tables.find(|sheet| sheet.name.trim() == name.trim()),
        None => tables.find(|sheet| sheet.visible == SheetVisible::Visible),
    };
    found.map(|sheet| sheet.name.clone()).ok_or_else(|| {
        let known: Vec<String> = sheets.iter().map(|sheet| format!("“{}”", excerpt(&sheet.name))).collect();
        let (known, name) = (known.join(", "), name.unwrap_or_default());
        fault(
            format!("bảng tính không có trang “{name}”; các trang có trong tệp: {known}; hãy sửa mục sheet của nguồn"),
            format!("the workbook has no sheet {name:?}; its sheets are {known}; correct the source's sheet"),
        )
    })
}

/// Puts cells together to rows.
struct Taking<'c> {
    reader: Reader<'c>,
    encoding: Option<Encoding>,
    merged: Vec<Dimensions>,
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
        merged: Vec<Dimensions>,
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

    /// Takes all cells of a range; a sheet that is in memory whole.
    fn range(mut self, range: &calamine::Range<Data>, sheet: String) -> Result<Table, Faults> {
        let (first_row, first_column) = range.start().unwrap_or_default();
        for (row, column, value) in range.used_cells() {
            let (row, column) = (first_row + number(row), first_column + number(column));
            if !self.cell(row, column, of_data(value)) {
                break;
            }
        }
        self.finish(sheet)
    }

    /// Takes one cell, row by row; false when it is of no use to go on.
    fn cell(&mut self, row: u32, column: u32, value: DataRef<'_>) -> bool {
        if value.is_empty() {
            return true;
        }
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
                format!("trang tính quá lớn: ô {} vượt giới hạn {COLUMNS_MAX} cột, {CELLS_MAX} ô hoặc {} MiB chữ; hãy xóa vùng thừa hoặc chia tệp", cell_name(row + 1, place), TEXT_BYTES_MAX >> 20),
                format!("the sheet is too large: cell {} is beyond {COLUMNS_MAX} columns, {CELLS_MAX} cells or {} MiB of text; clear what is not needed, or split the file", cell_name(row + 1, place), TEXT_BYTES_MAX >> 20),
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
            self.has_enough = !self.reader.row(self.row + 1, &cells);
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

    fn read(&self, value: DataRef<'_>) -> Cell<'static> {
        match value {
            DataRef::Int(whole) => Cell::Plain(whole.to_string()),
            DataRef::Float(float) => of_float(float),
            DataRef::String(text) => self.text(&text),
            DataRef::SharedString(text) => self.text(text),
            DataRef::Bool(truth) => Cell::Plain(truth.to_string()),
            DataRef::DateTime(time) => of_time(time),
            DataRef::DateTimeIso(text) => Cell::Plain(text.replace('T', " ")),
            DataRef::DurationIso(text) => Cell::Plain(text),
            DataRef::Error(error) => of_error(&error),
            DataRef::Empty => Cell::Plain(String::new()),
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

fn of_data(value: &Data) -> DataRef<'_> {
    match value {
        Data::Int(whole) => DataRef::Int(*whole),
        Data::Float(float) => DataRef::Float(*float),
        Data::String(text) => DataRef::SharedString(text),
        Data::Bool(truth) => DataRef::Bool(*truth),
        Data::DateTime(time) => DataRef::DateTime(*time),
        Data::DateTimeIso(text) => DataRef::DateTimeIso(text.clone()),
        Data::DurationIso(text) => DataRef::DurationIso(text.clone()),
        Data::Error(error) => DataRef::Error(error.clone()),
        Data::Empty => DataRef::Empty,
    }
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

/// A number with the digits that the file has, never rounded.
fn of_float(float: f64) -> Cell<'static> {
    match float {
        float if EXACT_MAX <= float.abs() => Cell::Wrong([
            "số có hơn 15 chữ số nên Excel đã làm tròn; hãy định dạng cột là văn bản trước khi nhập".to_owned(),
            "a number of more than 15 digits, which Excel has rounded; format the column as text before typing".to_owned(),
        ]),
        float if float.is_finite() => Cell::Plain(format!("{float}")),
        _ => of_error(&CellErrorType::Num),
    }
}

fn of_time(time: ExcelDateTime) -> Cell<'static> {
    let serial = time.as_f64();
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let fraction = match milli {
        0 => String::new(),
        milli => format!(".{milli:03}"),
    };
    if time.is_duration() || serial < 1.0 {
        let hours = (serial * 24.0).floor();
        return Cell::Plain(format!("{hours:02}:{minute:02}:{second:02}{fraction}"));
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    Cell::Plain(match (hour, minute, second, milli) {
        (0, 0, 0, 0) => date,
        _ => format!("{date} {hour:02}:{minute:02}:{second:02}{fraction}"),
    })
}

fn of_error(error: &CellErrorType) -> Cell<'static> {
    Cell::Wrong([
        format!("ô có lỗi {error}; hãy sửa công thức hoặc xóa ô"),
        format!("the cell is the error {error}; mend the formula or clear the cell"),
    ])
}
