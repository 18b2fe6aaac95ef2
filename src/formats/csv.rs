//! CSV files as offices' software writes them: delimiter, quotes, heading and encoding given or
//! found.

use crate::formats::encoding::{self, Encoding, How};
use crate::formats::table::{Cell, Columns, HEADER_ROWS_MAX, Note, Reader, Row};
use crate::formats::{Fault, Faults, number};

/// Delimiters that are looked for.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// How a file is written; what is left out is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dialect {
    pub encoding: Option<Encoding>,
    pub delimiter: Option<u8>,
    pub quote: Quote,
    /// Line of the heading, from 1; 0 where there is none and columns go by their numbers.
    pub header: Option<u32>,
}

/// What encloses a cell that holds delimiters or line ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Quote {
    #[default]
    Double,
    Single,
    /// Quotes are letters like others.
    None,
}

/// A file that was read.
#[derive(Debug)]
pub struct Table {
    pub rows: Vec<Row>,
    pub encoding: Encoding,
    pub how: How,
    pub delimiter: u8,
    pub notes: Vec<Note>,
}

/// Reads a file whole, or says everything that is wrong with it.
pub fn parse(
    bytes: &[u8],
    dialect: &Dialect,
    columns: &Columns,
    records_max: usize,
) -> Result<Table, Faults> {
    let decoded = encoding::decode(bytes, dialect.encoding)?;
    let text = without_hint(&decoded.text);
    let delimiter = match dialect.delimiter.or(text.hint) {
        Some(delimiter) => delimiter,
        None => find_delimiter(&text, dialect, columns)?,
    };
    let place = |_, _| [String::new(), String::new()];
    let reader = Reader::new(columns, dialect.header, records_max, Box::new(place)).with_width();
    let reader = read(&text, dialect.quote, delimiter, reader);
    let (rows, notes) = reader.finish()?;
    Ok(Table {
        rows,
        encoding: decoded.encoding,
        how: decoded.how,
        delimiter,
        notes,
    })
}

/// The text behind a first line `sep=;`, which Excel understands.
struct Text<'t> {
    body: &'t str,
    first_line: u32,
    hint: Option<u8>,
}

fn without_hint(text: &str) -> Text<'_> {
    let plain = Text {
        body: text,
        first_line: 1,
        hint: None,
    };
    let Some((line, body)) = text.split_once('\n') else {
        return plain;
    };
    match line
        .trim_end_matches('\r')
        .strip_prefix("sep=")
        .map(str::as_bytes)
    {
        Some([delimiter]) if DELIMITERS.contains(delimiter) => Text {
            body,
            first_line: 2,
            hint: Some(*delimiter),
        },
        _ => plain,
    }
}

fn read<'c>(text: &Text<'_>, quote: Quote, delimiter: u8, mut reader: Reader<'c>) -> Reader<'c> {
    let read = records(text, quote, delimiter, |line, cells| {
        reader.row(line, cells)
    });
    if let Err(line) = read {
        reader.fault(Fault {
            line,
            column: 1,
            message_vi: "một dấu nháy mở ra mà không đóng lại; tệp bị cắt cụt, hoặc hãy đặt quote = \"\" nếu nguồn không dùng dấu nháy".to_owned(),
            message_en: "a quote is opened and never closed; the file was cut off, or set quote = \"\" if the source uses none".to_owned(),
        });
    }
    reader
}

/// Hands out record after record until `take` has enough. The error is the line of a record with a
/// quote that never ends, which is not handed out.
fn records(
    text: &Text<'_>,
    quote: Quote,
    delimiter: u8,
    mut take: impl FnMut(u32, &[Cell<'_>]) -> bool,
) -> Result<(), u32> {
    let quote_byte = match quote {
        Quote::Single => b'\'',
        Quote::Double | Quote::None => b'"',
    };
    let mut records = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .quote(quote_byte)
        .quoting(quote != Quote::None)
        .from_reader(text.body.as_bytes());
    let mut record = csv::StringRecord::new();
    let (bytes, mut start, mut line) = (text.body.as_bytes(), 0, text.first_line);
    loop {
        // A text in memory gives no error: every record of it is text, of any length.
        let Ok(true) = records.read_record(&mut record) else {
            return Ok(());
        };
        // The reader leaves the second half of a line's end, and blank lines, to the next record.
        let end = usize::try_from(records.position().byte()).unwrap_or(bytes.len());
        let blank = bytes[start..end]
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        line += line_ends(bytes, start..start + blank);
        // A quote that stays open swallows the rest, so it is in the last record only.
        let is_open = quote != Quote::None
            && end == bytes.len()
            && ends_in_quotes(&bytes[start..end], quote_byte, delimiter);
        let cells: Vec<Cell<'_>> = record.iter().map(|cell| Cell::Text(cell.into())).collect();
        if is_open {
            return Err(line);
        }
        if !take(line, &cells) {
            return Ok(());
        }
        line += line_ends(bytes, start + blank..end);
        start = end;
    }
}

/// Line ends that end within a range: CR LF, LF, and CR alone.
fn line_ends(bytes: &[u8], range: std::ops::Range<usize>) -> u32 {
    let is_end = |at: &usize| match bytes[*at] {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    number(range.filter(is_end).count())
}

/// Whether a record's bytes end inside of quotes. As for the reader, a quote opens only at the
/// beginning of a cell, and a doubled one is a letter.
fn ends_in_quotes(record: &[u8], quote: u8, delimiter: u8) -> bool {
    let (mut is_open, mut is_start) = (false, true);
    let mut at = 0;
    while at < record.len() {
        let byte = record[at];
        match is_open {
            true if byte == quote && record.get(at + 1) == Some(&quote) => at += 1,
            true if byte == quote => is_open = false,
            true => {}
            false if byte == quote && is_start => is_open = true,
            false => {}
        }
        is_start = !is_open && (byte == delimiter || matches!(byte, b'\r' | b'\n'));
        at += 1;
    }
    is_open
}

/// The delimiter under which the first lines have a heading; where none has, the only one that
/// stands in each of them.
fn find_delimiter(text: &Text<'_>, dialect: &Dialect, columns: &Columns) -> Result<u8, Fault> {
    let mut best: Vec<(usize, u8)> = Vec::new();
    for delimiter in DELIMITERS {
        let mut most = 0;
        let mut rows = 0;
        let mut fewest = usize::MAX;
        // An open quote is told when the file is read.
        let _ = records(text, dialect.quote, delimiter, |_, cells| {
            rows += 1;
            fewest = fewest.min(cells.len());
            most = most.max(columns.known(cells));
            rows < HEADER_ROWS_MAX
        });
        let score = match dialect.header {
            Some(0) if rows > 0 => fewest - 1,
            _ => most,
        };
        best.push((score, delimiter));
    }
    best.sort_by(|a, b| b.cmp(a));
    match best[..] {
        [(first, delimiter), (second, _), ..] if second < first => Ok(delimiter),
        // One column has no delimiter to be found: any will do.
        [(1, _), ..] | [(0, _), ..] if columns.list.len() == 1 => Ok(DELIMITERS[0]),
        _ => Err(Fault {
            line: text.first_line,
            column: 1,
            message_vi: "không tìm được dấu phân cách: tiêu đề không có cột nào đã khai báo, hoặc có thể đọc theo nhiều cách; hãy khai báo delimiter và kiểm tra tên cột trong [source.columns]".to_owned(),
            message_en: "the delimiter cannot be found: the heading has no column that is known, or can be read in several ways; set delimiter and check the names in [source.columns]".to_owned(),
        }),
    }
}

/// The delimiter that a setting names.
pub fn delimiter_named(text: &str) -> Option<u8> {
    match text {
        "," | ";" | "\t" | "|" => Some(text.as_bytes()[0]),
        "tab" | "TAB" => Some(b'\t'),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
