//! Splits a JSON body into records without changing a byte of them: one object, an array of
//! objects, or NDJSON (one object a line).
//!
//! Every record that comes out is valid UTF-8 and JSON that serde_json reads into any type: its
//! depth, escapes and numbers are checked, and no two members of its top level have one name.

mod scan;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::value::RawValue;

use crate::formats::{Fault, Faults, excerpt, number, place_of};
use scan::{Next, Scan, What, Wrong};

/// How records stand in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One object, or an array of objects.
    Json,
    /// One object a line.
    NdJson,
}

/// Bounds of one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub records_max: usize,
    pub record_bytes_max: usize,
}

/// Splits `body` into its records, each a slice of the producer's own bytes.
///
/// An empty array is no records; an empty body is a fault, since a truncated copy looks so.
pub fn split<'a>(body: &'a [u8], kind: Kind, limits: &Limits) -> Result<Vec<&'a RawValue>, Faults> {
    let text = utf8(body)?;
    let spans = match kind {
        Kind::Json => whole(text, limits)?,
        Kind::NdJson => lines(text, limits)?,
    };
    let mut faults = Faults::default();
    let mut records = Vec::with_capacity(spans.len());
    for span in spans {
        match serde_json::from_str::<&RawValue>(&text[span.clone()]) {
            Ok(record) => records.push(record),
            Err(error) => faults.push_with(|| {
                fault_at(
                    text,
                    span.start,
                    format!("bản ghi không đọc được: {error}"),
                    format!("the record cannot be read: {error}"),
                )
            }),
        }
    }
    faults.or(records)
}

/// A text member of a record's top level, such as its `id`; `None` when it is absent or null.
///
/// The fault's place is within the record.
pub fn top_level_str(record: &RawValue, field: &str) -> Option<Result<String, Fault>> {
    let text = record.get();
    if !text.starts_with('{') {
        return None;
    }
    let mut found = None;
    let scanned = Scan::new(text).object(0, &mut |key, value| {
        if decoded(&text[key]) == field {
            found = Some(value);
            Next::Stop
        } else {
            Next::GoOn
        }
    });
    if let Err(wrong) = scanned {
        return Some(Err(syntax_fault(text, wrong)));
    }
    let value = found?;
    match &text[value.clone()] {
        "null" => None,
        token if token.starts_with('"') => Some(Ok(decoded(token).into_owned())),
        _ => Some(Err(fault_at(
            text,
            value.start,
            format!("trường {field:?} phải là văn bản trong dấu nháy kép"),
            format!("the field {field:?} must be a text in double quotes"),
        ))),
    }
}

/// The body as text, without a byte order mark.
fn utf8(body: &[u8]) -> Result<&str, Fault> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    std::str::from_utf8(body).map_err(|error| {
        let valid = std::str::from_utf8(&body[..error.valid_up_to()]).expect("valid up to here");
        let byte = body[error.valid_up_to()];
        let hint_vi = "dữ liệu phải là UTF-8, hãy chọn bảng mã UTF-8 khi xuất (không dùng Windows-1258, TCVN3 hay UTF-16)";
        let hint_en = "the data must be UTF-8, choose UTF-8 when exporting (not Windows-1258, TCVN3 or UTF-16)";
        fault_at(
            valid,
            valid.len(),
            format!("byte 0x{byte:02x} không phải UTF-8; {hint_vi}"),
            format!("the byte 0x{byte:02x} is not UTF-8; {hint_en}"),
        )
    })
}

/// The records of one object or of an array of objects.
fn whole(text: &str, limits: &Limits) -> Result<Vec<Range<usize>>, Faults> {
    let mut scan = Scan::new(text);
    let mut take = Take::new(limits);
    let mut place = |at| place_of(text, at);
    let read = match scan.peek_token() {
        None => return Err(empty().into()),
        Some(b'[') => array_items(&mut scan, text, &mut take, &mut place),
        Some(_) => take.record(&mut scan, text, &mut place),
    };
    match read {
        Err(wrong) => take.faults.push_with(|| syntax_fault(text, wrong)),
        Ok(()) if scan.peek_token().is_some() => {
            let (vi, en) = (
                "còn dữ liệu sau bản ghi; nếu mỗi dòng là một bản ghi, hãy gửi dạng NDJSON (tệp .ndjson)",
                "more data follows the record; if each line is a record, send it as NDJSON (a .ndjson file)",
            );
            take.faults
                .push_with(|| fault_at(text, scan.at, vi.to_owned(), en.to_owned()));
        }
        Ok(()) => {}
    }
    take.faults.or(take.spans)
}

fn array_items(
    scan: &mut Scan<'_>,
    text: &str,
    take: &mut Take<'_>,
    place: &mut dyn FnMut(usize) -> (u32, u32),
) -> Result<(), Wrong> {
    scan.at += 1;
    if scan.take(b']') {
        return Ok(());
    }
    loop {
        take.record(scan, text, place)?;
        if scan.close_or_comma(b']')? {
            return Ok(());
        }
    }
}

/// The records of NDJSON. Every bad line is told, not only the first.
fn lines(text: &str, limits: &Limits) -> Result<Vec<Range<usize>>, Faults> {
    let mut take = Take::new(limits);
    let mut start = 0;
    let mut torn_line = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let mut place = |at: usize| (number(index + 1), number(line[..at].chars().count() + 1));
        let mut scan = Scan::new(line);
        if scan.peek_token().is_some() {
            let before = take.spans.len();
            let wrong_line = match take.record(&mut scan, line, &mut place) {
                Ok(()) if scan.peek_token().is_none() => None,
                Ok(()) => Some((scan.at, more_on_line())),
                Err(wrong) if wrong.what == What::Truncated && line.ends_with('\n') => {
                    torn_line = true;
                    Some((line.trim_end().len(), line_ends_early()))
                }
                Err(wrong) => Some((wrong.at, wrong.what.messages())),
            };
            if let Some((at, (message_vi, message_en))) = wrong_line {
                let (line, column) = place(at);
                take.faults.push_with(|| Fault {
                    line,
                    column,
                    message_vi,
                    message_en,
                });
            }
            for span in &mut take.spans[before..] {
                *span = span.start + start..span.end + start;
            }
        }
        start += line.len();
    }
    if torn_line && whole(text, limits).is_ok() {
        let (vi, en) = (
            "đây là một JSON trải trên nhiều dòng, không phải mỗi dòng một bản ghi; hãy gửi dạng JSON (tệp .json)",
            "this is one JSON value over several lines, not one record a line; send it as JSON (a .json file)",
        );
        return Err(fault_at(text, 0, vi.to_owned(), en.to_owned()).into());
    }
    if take.faults.is_empty() && take.spans.is_empty() {
        return Err(empty().into());
    }
    take.faults.or(take.spans)
}

fn line_ends_early() -> (String, String) {
    (
        "dòng kết thúc giữa chừng một bản ghi; trong NDJSON mỗi bản ghi phải nằm trọn trên một dòng".to_owned(),
        "the line ends in the middle of a record; in NDJSON each record must stand whole on one line".to_owned(),
    )
}

fn more_on_line() -> (String, String) {
    (
        "còn dữ liệu sau bản ghi trên cùng dòng; trong NDJSON mỗi dòng chỉ có một bản ghi"
            .to_owned(),
        "more data follows the record on its line; in NDJSON a line holds one record".to_owned(),
    )
}

/// What has been taken of a body.
struct Take<'l> {
    limits: &'l Limits,
    spans: Vec<Range<usize>>,
    faults: Faults,
}

impl<'l> Take<'l> {
    fn new(limits: &'l Limits) -> Take<'l> {
        Take {
            limits,
            spans: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// Reads one record at the scan's position. A fault of its meaning is kept and reading goes
    /// on behind it; a fault of its grammar is returned, since what follows it cannot be trusted.
    fn record(
        &mut self,
        scan: &mut Scan<'_>,
        text: &str,
        place: &mut dyn FnMut(usize) -> (u32, u32),
    ) -> Result<(), Wrong> {
        let is_said = self.faults.too_many_records;
        let mut say = |at, vi: String, en: String| {
            self.faults.push_with(|| {
                let (line, column) = place(at);
                Fault {
                    line,
                    column,
                    message_vi: vi,
                    message_en: en,
                }
            });
        };
        if scan.peek_token() != Some(b'{') {
            let start = scan.at;
            scan.value(0)?;
            say(
                start,
                "bản ghi phải là một đối tượng JSON {…}".to_owned(),
                "a record must be a JSON object {…}".to_owned(),
            );
            return Ok(());
        }
        let start = scan.at;
        let mut keys = BTreeSet::new();
        scan.object(0, &mut |key, _| {
            let name = decoded(&text[key.clone()]);
            if keys.contains(&name) {
                let name = excerpt(&name);
                say(
                    key.start,
                    format!("trường {name:?} có hai lần trong một bản ghi; hãy bỏ bớt một"),
                    format!("the field {name:?} stands twice in one record; remove one"),
                );
            }
            keys.insert(name);
            Next::GoOn
        })?;
        let bytes = scan.at - start;
        let Limits {
            records_max,
            record_bytes_max,
        } = *self.limits;
        if bytes > record_bytes_max {
            say(
                start,
                format!(
                    "bản ghi dài {bytes} byte, tối đa {record_bytes_max}; hãy gửi tệp lớn dưới dạng tệp đính kèm"
                ),
                format!(
                    "the record has {bytes} bytes, at most {record_bytes_max} are allowed; send large files as attachments"
                ),
            );
        }
        if self.spans.len() < records_max {
            self.spans.push(start..scan.at);
        } else if !is_said {
            say(
                start,
                format!("có hơn {records_max} bản ghi; hãy chia thành nhiều lần gửi"),
                format!("there are more than {records_max} records; send them in several parts"),
            );
            self.faults.too_many_records = true;
        }
        Ok(())
    }
}

/// The text of a string token, which has its quotes. The scan has checked its escapes.
fn decoded(token: &str) -> Cow<'_, str> {
    if token.contains('\\') {
        Cow::Owned(serde_json::from_str(token).expect("a scanned string is a string"))
    } else {
        Cow::Borrowed(&token[1..token.len() - 1])
    }
}

fn empty() -> Fault {
    Fault {
        line: 1,
        column: 1,
        message_vi: "không có bản ghi nào; hãy kiểm tra phần mềm xuất dữ liệu rồi gửi lại"
            .to_owned(),
        message_en: "there is no record in it; check the exporting software and send it again"
            .to_owned(),
    }
}

fn syntax_fault(text: &str, wrong: Wrong) -> Fault {
    let (message_vi, message_en) = wrong.what.messages();
    fault_at(text, wrong.at, message_vi, message_en)
}

fn fault_at(text: &str, at: usize, message_vi: String, message_en: String) -> Fault {
    let (line, column) = place_of(text, at);
    Fault {
        line,
        column,
        message_vi,
        message_en,
    }
}

#[cfg(test)]
mod tests;
