//! The content of a station file: five TAB-separated columns a parameter (symbol, value, unit,
//! time, status), one parameter a line or all on one line.

use jiff::civil::DateTime;

use super::decimal::{self, Decimal, Field};
use super::mapping::StationMapping;
use super::name::time_of;
use super::note::{Note, Notes};
use super::{FILE_BYTES_MAX, Status, Value};
use crate::formats::{Fault, Faults, excerpt, number, place_of};

const COLUMNS: usize = 5;
/// Longest symbol or unit.
const FIELD_CHARACTERS_MAX: usize = 20;
const PARAMETERS_MAX: usize = 64;

/// The values of a file, in its order; what is wrong goes to `faults`.
pub(super) fn parse(
    content: &[u8],
    mapping: &StationMapping,
    notes: &mut Notes,
    faults: &mut Faults,
) -> Vec<Value> {
    let text = match decode(content, notes) {
        Ok(text) => text,
        Err(fault) => {
            faults.push_with(|| fault);
            return Vec::new();
        }
    };
    let mut values: Vec<Value> = Vec::new();
    let mut blank = true;
    for (index, Line { body, end }) in Lines(text).enumerate() {
        match end {
            "\r\n" => {}
            "" => notes.add(Note::NoFinalLineEnd),
            _ => notes.add(Note::LineEnds),
        }
        let cells = cells(body, number(index + 1), notes);
        if cells.is_empty() {
            notes.add(Note::BlankLines);
            continue;
        }
        blank = false;
        if !whole_groups(&cells, faults) {
            continue;
        }
        if cells.len() > COLUMNS {
            notes.add(Note::OneLine {
                parameters: number(cells.len() / COLUMNS),
            });
        }
        for group in cells.chunks_exact(COLUMNS) {
            let Some(value) = value(group, !end.is_empty(), mapping, notes, faults) else {
                continue;
            };
            if values.iter().any(|other| other.symbol == value.symbol) {
                notes.add(Note::RepeatedParameter {
                    symbol: value.symbol.clone(),
                });
            }
            values.push(value);
        }
    }
    if values.len() > PARAMETERS_MAX {
        faults.push_with(|| {
            fault(
                (1, 1),
                &format!("tệp có {} kết quả, tối đa {PARAMETERS_MAX}; mỗi tệp chỉ chứa kết quả của một thời điểm", values.len()),
                &format!("the file has {} results, at most {PARAMETERS_MAX} are allowed; a file holds the results of one time", values.len()),
            )
        });
    }
    if blank {
        faults.push_with(|| {
            fault(
                (1, 1),
                "tệp không có thông số nào; hãy lấy lại tệp từ datalogger",
                "the file holds no parameter; fetch it from the data logger again",
            )
        });
    }
    values
}

/// The content as text, without a byte order mark and without control characters but tabs and
/// line ends.
fn decode<'a>(content: &'a [u8], notes: &mut Notes) -> Result<&'a str, Fault> {
    if content.len() > FILE_BYTES_MAX {
        return Err(fault(
            (1, 1),
            &format!(
                "tệp dài {} byte, tối đa {FILE_BYTES_MAX}; mỗi tệp chỉ chứa kết quả của một thời điểm",
                content.len()
            ),
            &format!(
                "the file has {} bytes, at most {FILE_BYTES_MAX} are allowed; a file holds the results of one time",
                content.len()
            ),
        ));
    }
    if is_utf16(content) {
        return Err(fault(
            (1, 1),
            "tệp lưu bằng UTF-16 (Unicode); hãy chọn bảng mã UTF-8 trong phần mềm datalogger rồi xuất lại",
            "the file is UTF-16; choose UTF-8 in the data logger's software and export it again",
        ));
    }
    let content = match content.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) => {
            notes.add(Note::ByteOrderMark);
            rest
        }
        None => content,
    };
    let text = std::str::from_utf8(content).map_err(|error| {
        let valid = std::str::from_utf8(&content[..error.valid_up_to()]).expect("valid up to here");
        let byte = content[error.valid_up_to()];
        fault(
            place_of(valid, valid.len()),
            &format!("byte 0x{byte:02x} không phải UTF-8 (tệp có thể lưu bằng Windows-1258 hoặc TCVN3); hãy chọn bảng mã UTF-8 trong phần mềm datalogger rồi xuất lại"),
            &format!("the byte 0x{byte:02x} is not UTF-8 (the file may be Windows-1258 or TCVN3); choose UTF-8 in the data logger's software and export it again"),
        )
    })?;
    match text
        .char_indices()
        .find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\r' | '\n'))
    {
        None => Ok(text),
        Some((at, '\0')) => Err(fault(
            place_of(text, at),
            "tệp chứa byte 0 (thường do mất điện khi đang ghi); hãy lấy lại tệp từ datalogger",
            "the file holds zero bytes (usually a power cut while it was written); fetch it from the data logger again",
        )),
        Some((at, c)) => Err(fault(
            place_of(text, at),
            &format!(
                "ký tự điều khiển 0x{:02x}; tệp không phải là văn bản hoặc bị hỏng, hãy lấy lại tệp từ datalogger",
                u32::from(c)
            ),
            &format!(
                "control character 0x{:02x}; the file is no text or damaged, fetch it from the data logger again",
                u32::from(c)
            ),
        )),
    }
}

/// A byte order mark of UTF-16, or ASCII characters as two bytes.
fn is_utf16(content: &[u8]) -> bool {
    let ascii_pairs = match content {
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] => *a != 0 && *b != 0,
        _ => false,
    };
    ascii_pairs || content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff])
}

struct Line<'a> {
    body: &'a str,
    /// `"\r\n"`, `"\n"`, `"\r"`, or empty at the end of the file.
    end: &'a str,
}

/// The lines of a text, with any of the three line ends.
struct Lines<'a>(&'a str);

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let (body, rest) = self
            .0
            .split_at(self.0.find(['\r', '\n']).unwrap_or(self.0.len()));
        let end_bytes = if rest.starts_with("\r\n") {
            2
        } else {
            rest.len().min(1)
        };
        let (end, rest) = rest.split_at(end_bytes);
        self.0 = rest;
        Some(Line { body, end })
    }
}

/// A field without the spaces around it, and its place.
#[derive(Clone, Copy)]
struct Cell<'a> {
    text: &'a str,
    line: u32,
    column: u32,
}

impl Cell<'_> {
    fn fault(&self, vi: &str, en: &str) -> Fault {
        fault((self.line, self.column), vi, en)
    }
}

/// The fields of a line; empty ones at its end are dropped.
fn cells<'a>(body: &'a str, line: u32, notes: &mut Notes) -> Vec<Cell<'a>> {
    let is_space = |c: char| c.is_whitespace() || c == '\u{feff}';
    let mut cells = Vec::new();
    let mut column = 1;
    for raw in body.split('\t') {
        let text = raw.trim_matches(is_space);
        let before = raw.chars().take_while(|&c| is_space(c)).count();
        cells.push(Cell {
            text,
            line,
            column: number(column + before),
        });
        if !text.is_empty() && raw.len() != text.len() {
            notes.add(Note::Spaces);
        }
        column += raw.chars().count() + 1;
    }
    let kept = cells
        .iter()
        .rposition(|cell| !cell.text.is_empty())
        .map_or(0, |last| last + 1);
    if kept > 0 && kept < cells.len() {
        notes.add(Note::TrailingTabs);
    }
    cells.truncate(kept);
    cells
}

/// Whether the line holds five columns a parameter.
fn whole_groups(cells: &[Cell<'_>], faults: &mut Faults) -> bool {
    let over = cells.len() % COLUMNS;
    if over == 0 {
        return true;
    }
    let first_over = &cells[cells.len() - over];
    faults.push_with(|| match cells.len() {
        1 => first_over.fault(
            "dòng không có dấu TAB; năm cột (ký hiệu, giá trị, đơn vị, thời gian, trạng thái) phải cách nhau bằng phím TAB",
            "the line has no TAB; the five columns (symbol, value, unit, time, status) must be separated by TAB",
        ),
        count => first_over.fault(
            &format!("dòng có {count} cột, mỗi thông số phải có đủ 5 cột (ký hiệu, giá trị, đơn vị, thời gian, trạng thái); nếu tệp bị cắt, hãy lấy lại từ datalogger"),
            &format!("the line has {count} columns, each parameter needs 5 (symbol, value, unit, time, status); if the file was cut, fetch it from the data logger again"),
        ),
    });
    false
}

/// One parameter of five cells; every bad cell is told.
fn value(
    cells: &[Cell<'_>],
    line_ended: bool,
    mapping: &StationMapping,
    notes: &mut Notes,
    faults: &mut Faults,
) -> Option<Value> {
    let mut keep = |read: Result<(), Fault>| {
        if let Err(fault) = read {
            faults.push_with(|| fault);
        }
    };
    let symbol = symbol(&cells[0], mapping, notes)
        .map_err(|fault| keep(Err(fault)))
        .ok();
    let name = symbol.clone().unwrap_or_default();
    let measured = measured(&cells[1], &name, notes)
        .map_err(|fault| keep(Err(fault)))
        .ok();
    let unit = unit(&cells[2]).map_err(|fault| keep(Err(fault))).ok();
    let time = time(&cells[3], notes)
        .map_err(|fault| keep(Err(fault)))
        .ok();
    let status = status(&cells[4], &name, line_ended, notes)
        .map_err(|fault| keep(Err(fault)))
        .ok();
    Some(Value {
        symbol: symbol?,
        value: measured?,
        unit: unit?,
        time: time?,
        status: status?,
    })
}

fn symbol(cell: &Cell<'_>, mapping: &StationMapping, notes: &mut Notes) -> Result<String, Fault> {
    if cell.text.is_empty() {
        return Err(cell.fault(
            "thiếu ký hiệu thông số; hãy ghi ký hiệu theo Bảng 34, ví dụ COD",
            "the parameter's symbol is missing; write a symbol of Table 34, such as COD",
        ));
    }
    if cell.text.chars().count() > FIELD_CHARACTERS_MAX {
        return Err(cell.fault(
            "ký hiệu thông số quá dài (tối đa 20 ký tự); hãy ghi ký hiệu theo Bảng 34, ví dụ COD",
            "the parameter's symbol is too long (at most 20 characters); write a symbol of Table 34, such as COD",
        ));
    }
    Ok(match mapping.symbol(cell.text) {
        Some(symbol) => {
            if symbol != cell.text {
                notes.add(Note::SymbolSpelling {
                    given: cell.text.to_owned(),
                    meant: symbol.to_owned(),
                });
            }
            symbol.to_owned()
        }
        None => {
            notes.add(Note::UnknownParameter {
                symbol: cell.text.to_owned(),
            });
            cell.text.to_owned()
        }
    })
}

fn measured(cell: &Cell<'_>, symbol: &str, notes: &mut Notes) -> Result<Option<Decimal>, Fault> {
    let given = excerpt(cell.text);
    match decimal::field(cell.text) {
        Field::Number { value, comma } => {
            if comma {
                notes.add(Note::DecimalComma);
            }
            if value.as_str() != cell.text.replace(',', ".") {
                let (symbol, meant) = (symbol.to_owned(), value.as_str().to_owned());
                notes.add(Note::NumberSpelling { symbol, given, meant });
            }
            Ok(Some(value))
        }
        Field::Missing { legal } => {
            if !legal {
                notes.add(Note::MissingMark { symbol: symbol.to_owned(), given });
            }
            Ok(None)
        }
        Field::NotANumber => Err(cell.fault(
            &format!("giá trị {given:?} không phải là số; hãy ghi số như 7.2, hoặc --- khi thiếu số liệu"),
            &format!("the value {given:?} is not a number; write a number such as 7.2, or --- when it is missing"),
        )),
        Field::Separators => Err(cell.fault(
            &format!("giá trị {given:?} có nhiều dấu chấm, dấu phẩy; hãy bỏ dấu phân cách hàng nghìn, chỉ dùng dấu chấm thập phân như 1234.5"),
            &format!("the value {given:?} has several points or commas; drop the thousands separator and use a decimal point only, as 1234.5"),
        )),
        Field::TooLong => Err(cell.fault(
            "giá trị quá dài (tối đa 40 ký tự); hãy làm tròn số trong datalogger",
            "the value is too long (at most 40 characters); round it in the data logger",
        )),
    }
}

fn unit(cell: &Cell<'_>) -> Result<String, Fault> {
    if cell.text.chars().count() > FIELD_CHARACTERS_MAX {
        return Err(cell.fault(
            "đơn vị quá dài (tối đa 20 ký tự); hãy ghi đơn vị như mg/L",
            "the unit is too long (at most 20 characters); write a unit such as mg/L",
        ));
    }
    Ok(cell.text.to_owned())
}

fn time(cell: &Cell<'_>, notes: &mut Notes) -> Result<DateTime, Fault> {
    time_of(cell.text, notes).map_err(|(vi, en)| cell.fault(&vi, &en))
}

fn status(
    cell: &Cell<'_>,
    symbol: &str,
    line_ended: bool,
    notes: &mut Notes,
) -> Result<Status, Fault> {
    let status = match cell.text {
        "00" => Some(Status::Measuring),
        "01" => Some(Status::Calibrating),
        "02" => Some(Status::DeviceFault),
        "03" => Some(Status::Maintenance),
        // One digit at the very end of a file may be a `02` that was cut.
        "0" if line_ended => Some(Status::Measuring),
        "1" if line_ended => Some(Status::Calibrating),
        "2" if line_ended => Some(Status::DeviceFault),
        "3" if line_ended => Some(Status::Maintenance),
        _ => None,
    };
    let given = excerpt(cell.text);
    let status = status.ok_or_else(|| match cell.text {
        "0" | "1" | "2" | "3" => cell.fault(
            "tệp kết thúc giữa chừng trạng thái; hãy lấy lại tệp từ datalogger",
            "the file ends in the middle of a status; fetch it from the data logger again",
        ),
        _ => cell.fault(
            &format!("trạng thái {given:?} không hợp lệ; hãy ghi 00 (đang đo), 01 (hiệu chuẩn) hoặc 02 (lỗi thiết bị)"),
            &format!("the status {given:?} is not valid; write 00 (measuring), 01 (calibrating) or 02 (device fault)"),
        ),
    })?;
    if cell.text.len() == 1 {
        notes.add(Note::StatusSpelling { given });
    }
    if status == Status::Maintenance {
        notes.add(Note::StatusNotLegal {
            symbol: symbol.to_owned(),
        });
    }
    Ok(status)
}

fn fault((line, column): (u32, u32), vi: &str, en: &str) -> Fault {
    Fault {
        line,
        column,
        message_vi: vi.to_owned(),
        message_en: en.to_owned(),
    }
}
