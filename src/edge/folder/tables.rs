//! Files that are tables: CSV and worksheets.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;

use crate::edge::columns;
use crate::edge::config::table::NamedFile;
use crate::edge::folder::beside::{self, Why};
use crate::edge::folder::reading::{
    File, NotNow, RECORDS_MAX, Refused, encoding_note, hex, unreadable,
};
use crate::edge::rows::Attached;
use crate::edge::workbook;
use crate::engine::sending::NewRecord;
use crate::evidence::sha256;
use crate::formats::csv;
use crate::formats::edxml::safe_name;
use crate::formats::table::{Columns, Note, Row};
use crate::model::record::Attachment;

impl File<'_> {
    pub(super) fn csv(
        &self,
        notes: &mut Vec<String>,
    ) -> Result<Result<Vec<NewRecord>, Refused>, NotNow> {
        let dialect = self.source.folder.table.dialect();
        let table = match csv::parse(self.bytes, &dialect, &self.columns(), RECORDS_MAX) {
            Ok(table) => table,
            Err(faults) => return Ok(Err(unreadable(&faults))),
        };
        notes.extend(encoding_note(table.encoding, table.how));
        notes.extend(table.notes.iter().filter_map(note));
        self.rows(&table.rows)
    }

    pub(super) fn sheet(
        &self,
        notes: &mut Vec<String>,
    ) -> Result<Result<Vec<NewRecord>, Refused>, NotNow> {
        let choice = self.source.folder.table.choice();
        let table = workbook::parse(self.bytes, &choice, &self.columns(), RECORDS_MAX)
            .map_err(NotNow::NoProcess)?;
        match table {
            Ok(table) => {
                notes.extend(table.notes.iter().filter_map(note));
                self.rows(&table.rows)
            }
            Err(faults) => Ok(Err(unreadable(&faults))),
        }
    }

    fn columns(&self) -> Columns {
        // The configuration was checked against the catalogue, and both do not change while we run.
        columns::of(self.dataset, &self.source.folder.table).unwrap_or_default()
    }

    fn rows(&self, rows: &[Row]) -> Result<Result<Vec<NewRecord>, Refused>, NotNow> {
        let line = |index: usize| rows[index].line as usize;
        let files = &self.source.folder.table.attachments;
        let Some(folder) = self.beside.filter(|_| !files.is_empty()) else {
            return Ok(self.admit(rows.iter().map(|row| &*row.data), line));
        };
        let split: Vec<(Box<RawValue>, Vec<Option<String>>)> =
            rows.iter().map(|row| split(row, files.len())).collect();
        let attach = |index: usize| {
            let named = split[index].1.iter().zip(files);
            let named = named.filter_map(|(name, file)| Some((name.as_deref()?, file)));
            let read = named.map(|(name, file)| self.attached(folder, name, file));
            match read.collect::<Result<Vec<Attached>, Why>>() {
                Ok(attached) => Ok(Ok(attached)),
                Err(Why::Wrong(why)) => Ok(Err(why)),
                Err(Why::Unreadable(error)) => Err(NotNow::Attachment(error)),
            }
        };
        self.admit_attached(split.iter().map(|(data, _)| &**data), line, attach)
    }

    fn attached(&self, folder: &Path, name: &str, file: &NamedFile) -> Result<Attached, Why> {
        let bytes_max = self.source.folder.table.attachment_bytes_max;
        let content = beside::read(folder, name, bytes_max)?;
        let mime = file.mime.as_deref();
        let name = Attachment {
            name: safe_name(name),
            mime: mime.unwrap_or_else(|| beside::mime_of(name)).to_owned(),
            bytes: content.len() as u64,
            sha256: hex(&sha256(&content)),
            original: false,
        };
        Ok(Attached { name, content })
    }
}

/// A row's record without the columns that name files, and the names.
fn split(row: &Row, count: usize) -> (Box<RawValue>, Vec<Option<String>>) {
    let fields = serde_json::from_str(row.data.get());
    let mut fields: BTreeMap<String, Box<RawValue>> = fields.expect("a row is a JSON object");
    let mut name = |place| {
        let cell = fields.remove(&columns::file_field(place))?;
        let name: String = serde_json::from_str(cell.get()).ok()?;
        let name = name.trim();
        (!name.is_empty()).then(|| name.to_owned())
    };
    let names = (0..count).map(&mut name).collect();
    let data = serde_json::value::to_raw_value(&fields).expect("fields are plain JSON");
    (data, names)
}

/// What differs from file to file, such as a number of blank rows, is not worth a line in the list
/// of events.
fn note(note: &Note) -> Option<String> {
    match note {
        Note::ColumnsLeftOut(_) => Some(note.message_vi()),
        Note::BlankRows(_) | Note::TitleRows(_) => None,
    }
}
