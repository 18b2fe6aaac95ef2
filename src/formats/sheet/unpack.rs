//! A workbook as cells, one a line: the half of reading it that may break down.
//!
//! Nothing here bounds memory but [`bounds`](super::bounds), and the library below panics on some
//! damaged workbooks of the old form. So the box calls it in a process of its own, whose limits and
//! end cost one file.

use std::io::{self, Cursor, Write};

use calamine::{
    CellErrorType, Data, DataRef, DataType, Dimensions, ExcelDateTime, Ods, Reader, Sheet,
    SheetType, SheetVisible, Xls, Xlsx,
};
use serde::{Deserialize, Serialize};

use crate::formats::sheet::bounds::{self, Kind};
use crate::formats::sheet::{damaged, fault};
use crate::formats::{Fault, excerpt, number};

/// From here on a number of a worksheet has lost digits.
const EXACT_MAX: f64 = 1e15;

/// One line: the sheet, then its cells row by row, then the end; or a fault in place of the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    Sheet {
        name: String,
        merged: Vec<Area>,
    },
    /// Row and column, from 0.
    Cell(u32, u32, Value),
    End,
    Fault {
        vi: String,
        en: String,
    },
}

/// Cells that are shown as one: the rows and columns of the first and the last, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    pub start: (u32, u32),
    pub end: (u32, u32),
}

/// What a cell holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// As a person wrote it.
    Text(String),
    /// A number with a decimal point, or a date as ISO 8601.
    Plain(String),
    /// No value, and why, in Vietnamese and in English.
    Wrong([String; 2]),
}

type Bytes<'b> = Cursor<&'b [u8]>;

/// Why there are no more lines.
enum Stop {
    Fault(Fault),
    Gone(io::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Gone(error)
    }
}

/// Writes the sheet of this name, or the first that people see. The error is that of `out`.
pub fn unpack(bytes: &[u8], sheet: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    match lines(bytes, sheet, out) {
        Ok(()) => write(out, &Line::End),
        Err(Stop::Gone(error)) => Err(error),
        Err(Stop::Fault(Fault {
            message_vi: vi,
            message_en: en,
            ..
        })) => write(out, &Line::Fault { vi, en }),
    }
}

fn lines(bytes: &[u8], wanted: Option<&str>, out: &mut dyn Write) -> Result<(), Stop> {
    match bounds::kind(bytes)? {
        Kind::Xlsx => {
            let mut book: Xlsx<Bytes<'_>> = open(bytes)?;
            let sheet = choose(book.sheets_metadata(), wanted)?;
            let merged = book.merge_cells_by_sheet_name(&sheet).unwrap_or_default();
            begin(&sheet, &merged, out)?;
            let mut cells = book.worksheet_cells_reader(&sheet).map_err(damaged)?;
            while let Some(cell) = cells.next_cell().map_err(damaged)? {
                let (row, column) = cell.get_position();
                write_cell(row, column, cell.get_value(), out)?;
            }
        }
        Kind::Xls => {
            let mut book: Xls<Bytes<'_>> = open(bytes)?;
            let sheet = choose(book.sheets_metadata(), wanted)?;
            let merged = book.merge_cells_by_sheet_name(&sheet).unwrap_or_default();
            begin(&sheet, &merged, out)?;
            range(&book.worksheet_range(&sheet).map_err(damaged)?, out)?;
        }
        Kind::Ods => {
            let mut book: Ods<Bytes<'_>> = open(bytes)?;
            let sheet = choose(book.sheets_metadata(), wanted)?;
            begin(&sheet, &[], out)?;
            range(&book.worksheet_range(&sheet).map_err(damaged)?, out)?;
        }
    }
    Ok(())
}

fn open<'b, R: Reader<Bytes<'b>>>(bytes: &'b [u8]) -> Result<R, Fault>
where
    R::Error: std::fmt::Display,
{
    R::new(Cursor::new(bytes)).map_err(damaged)
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

fn begin(sheet: &str, merged: &[Dimensions], out: &mut dyn Write) -> io::Result<()> {
    let area = |area: &Dimensions| Area {
        start: area.start,
        end: area.end,
    };
    let line = Line::Sheet {
        name: sheet.to_owned(),
        merged: merged.iter().map(area).collect(),
    };
    write(out, &line)
}

/// All cells of a range; a sheet that is in memory whole.
fn range(range: &calamine::Range<Data>, out: &mut dyn Write) -> io::Result<()> {
    let (first_row, first_column) = range.start().unwrap_or_default();
    for (row, column, value) in range.used_cells() {
        let (row, column) = (first_row + number(row), first_column + number(column));
        write_cell(row, column, &of_data(value), out)?;
    }
    Ok(())
}

fn write_cell(row: u32, column: u32, value: &DataRef<'_>, out: &mut dyn Write) -> io::Result<()> {
    match value.is_empty() {
        true => Ok(()),
        false => write(out, &Line::Cell(row, column, value_of(value))),
    }
}

fn write(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn value_of(value: &DataRef<'_>) -> Value {
    match value {
        DataRef::Int(whole) => Value::Plain(whole.to_string()),
        DataRef::Float(float) => of_float(*float),
        DataRef::String(text) => Value::Text(text.clone()),
        DataRef::SharedString(text) => Value::Text((*text).to_owned()),
        DataRef::Bool(truth) => Value::Plain(truth.to_string()),
        DataRef::DateTime(time) => of_time(*time),
        DataRef::DateTimeIso(text) => Value::Plain(text.replace('T', " ")),
        DataRef::DurationIso(text) => Value::Plain(text.clone()),
        DataRef::Error(error) => of_error(error),
        DataRef::Empty => Value::Plain(String::new()),
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

/// A number with the digits that the file has, never rounded.
fn of_float(float: f64) -> Value {
    match float {
        float if EXACT_MAX <= float.abs() => Value::Wrong([
            "số có hơn 15 chữ số nên Excel đã làm tròn; hãy định dạng cột là văn bản trước khi nhập".to_owned(),
            "a number of more than 15 digits, which Excel has rounded; format the column as text before typing".to_owned(),
        ]),
        float if float.is_finite() => Value::Plain(format!("{float}")),
        _ => of_error(&CellErrorType::Num),
    }
}

fn of_time(time: ExcelDateTime) -> Value {
    let serial = time.as_f64();
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let fraction = match milli {
        0 => String::new(),
        milli => format!(".{milli:03}"),
    };
    if time.is_duration() || serial < 1.0 {
        let hours = (serial * 24.0).floor();
        return Value::Plain(format!("{hours:02}:{minute:02}:{second:02}{fraction}"));
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    Value::Plain(match (hour, minute, second, milli) {
        (0, 0, 0, 0) => date,
        _ => format!("{date} {hour:02}:{minute:02}:{second:02}{fraction}"),
    })
}

fn of_error(error: &CellErrorType) -> Value {
    Value::Wrong([
        format!("ô có lỗi {error}; hãy sửa công thức hoặc xóa ô"),
        format!("the cell is the error {error}; mend the formula or clear the cell"),
    ])
}
