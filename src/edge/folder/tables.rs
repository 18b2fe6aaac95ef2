//! Files that are tables: CSV and worksheets.

use crate::edge::columns;
use crate::edge::folder::reading::{File, NotNow, RECORDS_MAX, Refused, encoding_note, unreadable};
use crate::edge::workbook;
use crate::engine::sending::NewRecord;
use crate::formats::csv;
use crate::formats::table::{Columns, Note, Row};

impl File<'_> {
    pub(super) fn csv(&self, notes: &mut Vec<String>) -> Result<Vec<NewRecord>, Refused> {
        let dialect = self.source.folder.table.dialect();
        let table = csv::parse(self.bytes, &dialect, &self.columns(), RECORDS_MAX)
            .map_err(|faults| unreadable(&faults))?;
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
        Ok(match table {
            Ok(table) => {
                notes.extend(table.notes.iter().filter_map(note));
                self.rows(&table.rows)
            }
            Err(faults) => Err(unreadable(&faults)),
        })
    }

    fn columns(&self) -> Columns {
        // The configuration was checked against the catalogue, and both do not change while we run.
        columns::of(self.dataset, &self.source.folder.table).unwrap_or_default()
    }

    fn rows(&self, rows: &[Row]) -> Result<Vec<NewRecord>, Refused> {
        let line = |index: usize| rows[index].line as usize;
        self.admit(rows.iter().map(|row| &*row.data), line)
    }
}

/// What differs from file to file, such as a number of blank rows, is not worth a line in the list
/// of events.
fn note(note: &Note) -> Option<String> {
    match note {
        Note::ColumnsLeftOut(_) => Some(note.message_vi()),
        Note::BlankRows(_) | Note::TitleRows(_) => None,
    }
}
