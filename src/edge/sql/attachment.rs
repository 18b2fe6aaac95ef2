//! Columns whose content goes with a row as an attachment: what is configured, joined to a result,
//! and taken out of its rows.

use std::fmt::Write;

use crate::edge::connectors::Fault;
use crate::edge::rows::Attached;
use crate::edge::sql::mapping::{Described, place_of};
use crate::edge::sql::value::{Kind, Value};
use crate::evidence::sha256;
use crate::formats::edxml::safe_name;
use crate::model::record::Attachment;
use crate::shell::settings::units::{Wrong, size_text};

/// What a file is when nobody says it.
pub const ANY_MIME: &str = "application/octet-stream";
const MIME_BYTES_MAX: usize = 100;

/// A column that holds a file, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileColumn {
    pub column: String,
    pub name: Pattern,
    pub mime: Pattern,
}

impl FileColumn {
    /// Columns that name the file and its kind.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        let pieces = self.name.0.iter().chain(&self.mime.0);
        pieces.filter_map(|piece| match piece {
            Piece::Column(column) => Some(column.as_str()),
            Piece::Text(_) => None,
        })
    }
}

/// A text in which `{column}` stands for what the row has in that column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece<String>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<C> {
    Text(String),
    Column(C),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Pattern, Wrong> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let column = from
                .strip_prefix('{')
                .and_then(|from| from.split_once('}'))
                .filter(|(column, _)| !column.is_empty() && !column.contains('{'));
            let (column, after) = column.ok_or_else(unclosed)?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Column(column.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        match pieces.is_empty() {
            true => Err(Wrong::empty()),
            false => Ok(Pattern(pieces)),
        }
    }

    fn placed(&self, described: &[Described]) -> Result<Placed, Fault> {
        let piece = |piece: &Piece<String>| {
            Ok(match piece {
                Piece::Text(text) => Piece::Text(text.clone()),
                Piece::Column(column) => Piece::Column(place_of(described, column)?),
            })
        };
        self.0
            .iter()
            .map(piece)
            .collect::<Result<_, _>>()
            .map(Placed)
    }
}

/// A pattern by the places of its columns.
#[derive(Debug, Clone)]
struct Placed(Vec<Piece<usize>>);

impl Placed {
    fn fill(&self, row: &[Value]) -> String {
        let value = |place: &usize| row[*place].to_mark().unwrap_or_default();
        let piece = |piece: &Piece<usize>| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Column(place) => value(place),
        };
        self.0.iter().map(piece).collect()
    }

    /// As a file's name. A column alone may hold a path; a number within a name, such as 12/QĐ-UBND,
    /// is no folder.
    fn fill_name(&self, row: &[Value]) -> String {
        if let [Piece::Column(_)] = self.0.as_slice() {
            return safe_name(&self.fill(row));
        }
        safe_name(&self.fill(row).replace(['/', '\\'], "-"))
    }
}

/// A column that holds a file, joined to a result.
#[derive(Debug, Clone)]
pub struct FilePlan {
    place: usize,
    column: String,
    name: Placed,
    mime: Placed,
    bytes_max: u64,
}

impl FilePlan {
    pub fn new(
        file: &FileColumn,
        described: &[Described],
        bytes_max: u64,
    ) -> Result<FilePlan, Fault> {
        let place = place_of(described, &file.column)?;
        match described[place].kind {
            Kind::Bytes | Kind::Text | Kind::Json | Kind::Any => {}
            _ => return Err(no_file(&described[place])),
        }
        Ok(FilePlan {
            place,
            column: file.column.clone(),
            name: file.name.placed(described)?,
            mime: file.mime.placed(described)?,
            bytes_max,
        })
    }

    pub fn place(&self) -> usize {
        self.place
    }

    /// Takes the file out of a row; none where the row has none. A flaw where it cannot be taken,
    /// Vietnamese and English.
    pub fn take(&self, row: &mut [Value]) -> Result<Option<Attached>, [String; 2]> {
        let (name, mime) = (self.name.fill_name(row), self.mime.fill(row));
        let content = match std::mem::replace(&mut row[self.place], Value::Null) {
            Value::Null => return Ok(None),
            Value::Bytes(bytes) => bytes,
            Value::Text(text) | Value::Json(text) => text.into_bytes(),
            Value::TooLong => return Err(self.too_long()),
            _ => {
                return Err([
                    format!("cột “{}” không phải là tệp", self.column),
                    format!("the column {:?} holds no file", self.column),
                ]);
            }
        };
        let bytes = content.len() as u64;
        if bytes == 0 {
            return Ok(None);
        }
        if self.bytes_max < bytes {
            return Err(self.too_long());
        }
        let mut digest = String::with_capacity(64);
        for byte in sha256(&content) {
            write!(digest, "{byte:02x}").expect("a string takes any text");
        }
        let name = Attachment {
            name,
            mime: usable_mime(&mime),
            bytes,
            sha256: digest,
            original: false,
        };
        Ok(Some(Attached { name, content }))
    }

    /// Names the limit: where it is raised the row is another one than it was.
    fn too_long(&self) -> [String; 2] {
        let (column, most) = (&self.column, size_text(&self.bytes_max));
        [
            format!("tệp ở cột “{column}” lớn hơn giới hạn attachment_max ({most})"),
            format!("the file in the column {column:?} is larger than attachment_max ({most})"),
        ]
    }
}

/// A media type without parameters (RFC 6838), or that of any bytes.
fn usable_mime(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let is_mime = text.len() <= MIME_BYTES_MAX
        && text
            .split_once('/')
            .is_some_and(|(kind, part)| is_word(kind) && is_word(part));
    match is_mime {
        true => text,
        false => ANY_MIME.to_owned(),
    }
}

fn unclosed() -> Wrong {
    Wrong::new(
        "dấu ngoặc nhọn không khớp hoặc trống",
        "has a brace that is not closed, or an empty one",
        "Ví dụ: \"{so_ho_so}.pdf\", trong đó so_ho_so là một cột của query.",
        "For example: \"{so_ho_so}.pdf\", where so_ho_so is a column of the query.",
    )
}

fn no_file(described: &Described) -> Fault {
    let Described {
        name, type_name, ..
    } = described;
    Fault::new(
        "column_type",
        [
            format!("cột “{name}” có kiểu {type_name}, không phải là tệp đính kèm"),
            format!("the column {name:?} has the type {type_name}, which is no attachment"),
        ],
        [
            "Chọn cột nhị phân (BYTEA, BLOB, VARBINARY) hoặc văn bản trong [[source.attachment]].",
            "Name a binary column (BYTEA, BLOB, VARBINARY) or a text in [[source.attachment]].",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(names: &[(&str, Kind)]) -> Vec<Described> {
        let described = |(name, kind): &(&str, Kind)| Described {
            name: (*name).to_owned(),
            kind: *kind,
            type_name: "x".to_owned(),
        };
        names.iter().map(described).collect()
    }

    fn file(name: &str, mime: &str) -> FileColumn {
        FileColumn {
            column: "tep".to_owned(),
            name: Pattern::parse(name).expect("a name"),
            mime: Pattern::parse(mime).expect("a type"),
        }
    }

    #[test]
    fn patterns_name_their_columns() {
        let file = file("{So}-{id}.pdf", "{loai}");
        assert_eq!(file.others().collect::<Vec<_>>(), ["So", "id", "loai"]);
        for bad in ["", "{", "}", "{}", "a{b", "{a{b}}"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_taken_out_of_its_row_once() {
        let described = described(&[
            ("so", Kind::Text),
            ("tep", Kind::Bytes),
            ("loai", Kind::Any),
        ]);
        let plan = FilePlan::new(&file("đơn {SO}.pdf", "{loai}"), &described, 5);
        let plan = plan.expect("a plan");
        let row = |content, mime: &str| {
            let mime = Value::Text(mime.to_owned());
            vec![Value::Text("12/QĐ".to_owned()), content, mime]
        };
        let mut full = row(Value::Bytes(b"12345".to_vec()), "Application/PDF ");
        let taken = plan.take(&mut full).expect("no flaw").expect("a file");
        assert_eq!(
            (taken.name.name.as_str(), taken.name.bytes),
            ("đơn 12-QĐ.pdf", 5)
        );
        assert_eq!(taken.name.mime, "application/pdf");
        assert_eq!(taken.content, b"12345");
        assert!(taken.name.sha256.starts_with("5994471abb01"));
        assert_eq!(full[1], Value::Null);
        for none in [Value::Null, Value::Bytes(Vec::new())] {
            assert!(plan.take(&mut row(none, "")).expect("no flaw").is_none());
        }
        for flaw in [
            Value::Bytes(b"123456".to_vec()),
            Value::TooLong,
            Value::Int(1),
        ] {
            let flaw = plan.take(&mut row(flaw, "")).expect_err("a flaw");
            assert!(flaw[1].contains("\"tep\""), "{flaw:?}");
        }
        let text = plan.take(&mut row(Value::Text("<a/>".to_owned()), "xml; x"));
        let text = text.expect("no flaw").expect("a file");
        assert_eq!((text.name.mime.as_str(), text.name.bytes), (ANY_MIME, 4));
    }

    #[test]
    fn what_is_no_file_is_said_at_once() {
        let number = described(&[("tep", Kind::Number)]);
        let fault = FilePlan::new(&file("a.pdf", "a/b"), &number, 5).expect_err("a fault");
        assert_eq!(fault.code, "column_type");
        let gone = described(&[("tep", Kind::Bytes)]);
        let fault = FilePlan::new(&file("{ten}", "a/b"), &gone, 5).expect_err("a fault");
        assert!(fault.en.contains("\"ten\""), "{fault}");
    }
}
