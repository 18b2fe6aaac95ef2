//! Records for people and other programs: NDJSON of full CloudEvents, or CSV for a spreadsheet.
//! Read as a stream, so a dataset may be larger than memory.

use std::collections::HashSet;
use std::io::{self, Write};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::evidence::entry_digest;
use crate::hub::output::pick::Members;
use crate::model::chunk::pieces;
use crate::model::record::{Attachment, CloudEvent, Entry, derived_id};
use crate::store::hub::blobs::BlobState;
use crate::store::hub_view::blobs::received_pieces;
use crate::store::hub_view::{RecordRow, Snapshot, Wanted};

/// Most columns that the fields of a dataset's data may make.
const COLUMNS_MAX: usize = 1000;
/// Tells a spreadsheet program that the text is UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// Attributes of a record that come before its data.
const ATTRIBUTES: [&str; 14] = [
    "id",
    "source",
    "type",
    "subject",
    "time",
    "op",
    "agency",
    "lane",
    "sensitivity",
    "classification",
    "storedtime",
    "clockquality",
    "capture",
    "attachmentstate",
];
/// Field of a record whose data is no JSON object; its column is `data.` alone.
const WHOLE: &str = "";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Csv,
    Ndjson,
}

/// Writes all records that are wanted; returns how many.
pub fn write(
    snapshot: &Snapshot<'_>,
    wanted: Wanted<'_>,
    format: Format,
    byte_order_mark: bool,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    match format {
        Format::Ndjson => write_ndjson(snapshot, wanted, out),
        Format::Csv => {
            if byte_order_mark {
                out.write_all(BYTE_ORDER_MARK.as_bytes())?;
            }
            write_csv(snapshot, wanted, out)
        }
    }
}

fn write_ndjson(
    snapshot: &Snapshot<'_>,
    wanted: Wanted<'_>,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    let mut count = 0;
    snapshot.for_each_record::<anyhow::Error>(wanted, |row| {
        with_event(&row, |event| {
            let mut line = serde_json::to_vec(event).context("cannot write a record as JSON")?;
            if !event.attachments.is_empty() {
                add_attachment_states(snapshot, event.attachments, &mut line)?;
            }
            // The data keeps its producer's line breaks, which can only stand between values: within
            // a JSON string they are escaped.
            for byte in &mut line {
                if matches!(byte, b'\n' | b'\r') {
                    *byte = b' ';
                }
            }
            line.push(b'\n');
            out.write_all(&line)?;
            count += 1;
            Ok(())
        })
    })?;
    Ok(count)
}

/// How far a file of a record has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct AttachmentState<'a> {
    sha256: &'a str,
    state: BlobState,
    chunks: u64,
    received_chunks: u64,
}

fn attachment_states<'a>(
    snapshot: &Snapshot<'_>,
    files: &'a [Attachment],
) -> anyhow::Result<Vec<AttachmentState<'a>>> {
    let mut states = Vec::new();
    for file in files {
        let blob = match file.sha256.parse() {
            Ok(digest) => snapshot.blob(digest)?,
            Err(_) => None,
        };
        states.push(AttachmentState {
            sha256: &file.sha256,
            state: blob.as_ref().map_or(BlobState::Expected, |blob| blob.state),
            chunks: pieces(blob.as_ref().map_or(file.bytes, |blob| blob.bytes)),
            received_chunks: blob.as_ref().map_or(0, received_pieces),
        });
    }
    Ok(states)
}

/// The same in a cell: a file's digest, its state and its chunks, one file after the other.
fn states_cell(states: &[AttachmentState<'_>]) -> String {
    let files = states.iter().map(|file| {
        let (state, received) = (file.state.as_str(), file.received_chunks);
        format!("{} {state} {received}/{}", file.sha256, file.chunks)
    });
    safe(files.collect::<Vec<_>>().join("; "))
}

/// One more attribute of a record's event: how far each of its files has come.
fn add_attachment_states(
    snapshot: &Snapshot<'_>,
    files: &[Attachment],
    line: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let states = attachment_states(snapshot, files)?;
    let end = line.pop();
    assert_eq!(end, Some(b'}'), "an event is an object");
    line.extend_from_slice(br#","attachmentstate":"#);
    serde_json::to_writer(&mut *line, &states).context("cannot write states as JSON")?;
    line.push(b'}');
    Ok(())
}

/// Two passes over the same snapshot: which fields there are, then the rows.
fn write_csv(
    snapshot: &Snapshot<'_>,
    wanted: Wanted<'_>,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    let fields = data_fields(snapshot, wanted)?;
    let header = ATTRIBUTES
        .iter()
        .map(|name| (*name).to_owned())
        .chain(fields.iter().map(|field| format!("data.{field}")));
    write_row(out, header)?;
    let mut count = 0;
    snapshot.for_each_record::<anyhow::Error>(wanted, |row| {
        with_event(&row, |event| {
            let data = Fields::of(event.data);
            let states = attachment_states(snapshot, event.attachments)?;
            let cells = attribute_cells(event)
                .into_iter()
                .chain([states_cell(&states)])
                .chain(fields.iter().map(|field| data.cell(field)));
            write_row(out, cells)?;
            count += 1;
            Ok(())
        })
    })?;
    Ok(count)
}

fn with_event(
    row: &RecordRow<'_>,
    work: impl FnOnce(&CloudEvent<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let entry = Entry::parse(row.bytes)
        .context("an entry that was taken as a record cannot be read; run trucd verify")?;
    let id = derived_id(&entry_digest(row.box_id, row.bytes));
    work(&entry.to_cloud_event(row.box_id, row.lane, &id))
}

/// The top-level fields of all data, in the order in which they first appear.
fn data_fields(snapshot: &Snapshot<'_>, wanted: Wanted<'_>) -> anyhow::Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut fields = Vec::new();
    snapshot.for_each_record::<anyhow::Error>(wanted, |row| {
        with_event(&row, |event| {
            for field in Fields::of(event.data).names() {
                if !seen.contains(field) {
                    seen.insert(field.to_owned());
                    fields.push(field.to_owned());
                }
            }
            ensure!(
                fields.len() <= COLUMNS_MAX,
                "the data has more than {COLUMNS_MAX} fields, too many for CSV; use --format ndjson"
            );
            Ok(())
        })
    })?;
    Ok(fields)
}

fn attribute_cells(event: &CloudEvent<'_>) -> Vec<String> {
    let word = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let classification: Vec<String> = event
        .classification
        .iter()
        .map(|class| format!("{}:{}", class.scheme, class.code))
        .collect();
    vec![
        safe(event.id.to_string()),
        safe(event.source.clone()),
        word(serde_json::json!(event.kind)),
        safe(event.subject.to_string()),
        safe(event.time.to_owned()),
        word(serde_json::json!(event.op)),
        event.agency.to_string(),
        event.lane.to_string(),
        event.sensitivity.to_string(),
        safe(classification.join(" ")),
        event.storedtime.to_owned(),
        word(serde_json::json!(event.clockquality)),
        event.capture.0.to_string(),
    ]
}

/// The data of one record, field by field, each value still as it was written.
enum Fields<'a> {
    Object(Vec<(String, &'a RawValue)>),
    Other(&'a RawValue),
}

impl<'a> Fields<'a> {
    fn of(data: &'a RawValue) -> Fields<'a> {
        match serde_json::from_str::<Members<'a>>(data.get()) {
            Ok(Members(members)) => Fields::Object(members),
            Err(_) => Fields::Other(data),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let (members, other) = match self {
            Fields::Object(members) => (members.as_slice(), None),
            Fields::Other(_) => (&[][..], Some(WHOLE)),
        };
        members.iter().map(|(name, _)| name.as_str()).chain(other)
    }

    fn cell(&self, field: &str) -> String {
        let found = match self {
            Fields::Object(members) => members
                .iter()
                .rev()
                .find(|(name, _)| name == field)
                .map(|(_, value)| *value),
            Fields::Other(value) => (field == WHOLE).then_some(*value),
        };
        let Some(value) = found else {
            return String::new();
        };
        match serde_json::from_str::<serde_json::Value>(value.get()) {
            Ok(serde_json::Value::String(text)) => safe(text),
            Ok(serde_json::Value::Null) => String::new(),
            // Numbers as they were written: a parsed one may have lost digits.
            _ => value.get().to_owned(),
        }
    }
}

/// A text that a spreadsheet program would take for a formula gets an apostrophe before it (OWASP,
/// "CSV Injection"). Numbers do not come through here and stay numbers.
pub fn safe(text: String) -> String {
    const STARTS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    if text.starts_with(STARTS) {
        format!("'{text}")
    } else {
        text
    }
}

/// One line of RFC 4180.
pub fn write_row(out: &mut impl Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        if cell.contains([',', ';', '"', '\n', '\r', '\t']) {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            out.write_all(cell.as_bytes())?;
        }
    }
    out.write_all(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(json: &str, fields: &[&str]) -> Vec<String> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        let data = Fields::of(raw);
        fields.iter().map(|field| data.cell(field)).collect()
    }

    #[test]
    fn data_becomes_cells() {
        assert_eq!(
            cells(
                r#"{"a":"Nguyễn","b":-1.50,"c":null,"d":[1, 2],"e":{"x":"=1"},"f":true}"#,
                &["a", "b", "c", "d", "e", "f", "g"]
            ),
            ["Nguyễn", "-1.50", "", "[1, 2]", r#"{"x":"=1"}"#, "true", ""]
        );
        assert_eq!(cells("[1]", &[WHOLE, "a"]), ["[1]", ""]);
    }

    #[test]
    fn no_text_begins_a_formula() {
        for start in ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"] {
            let json = serde_json::json!({ "a": format!("{start}cmd") }).to_string();
            assert_eq!(cells(&json, &["a"]), [format!("'{start}cmd")]);
        }
        assert_eq!(cells(r#"{"a":"a=b"}"#, &["a"]), ["a=b"]);
    }

    #[test]
    fn files_stand_in_a_cell() {
        let file = |state, received_chunks| AttachmentState {
            sha256: "ab12",
            state,
            chunks: 7,
            received_chunks,
        };
        let two = [file(BlobState::Receiving, 3), file(BlobState::Kept, 7)];
        assert_eq!(states_cell(&two), "ab12 receiving 3/7; ab12 kept 7/7");
        assert_eq!(states_cell(&[]), "");
    }

    #[test]
    fn rows_are_quoted() {
        let mut out = Vec::new();
        let cells = ["a", "b,c", "d\"e", "f\r\ng", ""];
        write_row(&mut out, cells.iter().map(|cell| (*cell).to_owned())).unwrap();
        assert_eq!(out, b"a,\"b,c\",\"d\"\"e\",\"f\r\ng\",\r\n");
    }
}
