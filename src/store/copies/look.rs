//! Looking something up in the box's copies, beside their owner: by subject, or by words with and
//! without diacritics. It never writes, waits for nobody, and needs no network.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::model::down::Version;
use crate::model::{AgencyCode, DatasetId, UnixMs};
use crate::store::StoreError;
use crate::store::down::MIGRATIONS;

/// Words of a question that are looked at.
const WORDS_MAX: usize = 12;

pub struct CopyView {
    connection: Connection,
}

/// A dataset's copy, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyState {
    pub dataset: DatasetId,
    /// Hub's time of the last that it said about the dataset.
    pub as_of: UnixMs,
    /// The initial load has ended.
    pub complete: bool,
    /// Subjects of the load that goes on or was the last, and how many were looked at.
    pub subjects: u64,
    pub seen: u64,
    number: i64,
    floor: Version,
}

/// A record of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRecord {
    pub agency: AgencyCode,
    pub subject: String,
    pub at: UnixMs,
    pub schema: u32,
    pub data: String,
    /// JSON, when there are some.
    pub attachments: Option<String>,
}

/// Where a page of results ended, so that the next goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Those that are written as the question is have been told.
    pub folded: bool,
    pub row: i64,
}

impl CopyView {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = crate::store::open_read_only(path)?;
        let known = MIGRATIONS.len() as i64;
        match connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? {
            found if known < found => Err(StoreError::Newer { found, known }),
            0 => Err(StoreError::Damaged),
            _ => Ok(Self { connection }),
        }
    }

    /// When the hub last said anything at all.
    pub fn heard(&self) -> Result<Option<UnixMs>, StoreError> {
        let heard: Option<i64> =
            self.connection
                .query_row("SELECT max(heard_ms) FROM down", [], |row| row.get(0))?;
        Ok(heard.map(UnixMs))
    }

    /// The datasets that may be read now, by name.
    pub fn datasets(&self) -> Result<Vec<CopyState>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{STATES} ORDER BY name"))?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(state(row)?);
        }
        Ok(found)
    }

    /// None when nothing of it may be read.
    pub fn dataset(&self, dataset: &DatasetId) -> Result<Option<CopyState>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{STATES} AND name = ?1"))?;
        let mut rows = statement.query([dataset.as_str()])?;
        rows.next()?.map(state).transpose()
    }

    /// Records that are there.
    pub fn count(&self, of: &CopyState) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM copy WHERE dataset = ?1 AND subject IS NOT NULL AND ?2 <= version",
            )?
            .query_row(params![of.number, of.floor.0 as i64], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// The records of a subject: more than one where offices use the same name.
    pub fn by_subject(&self, of: &CopyState, subject: &str) -> Result<Vec<CopyRecord>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT agency, subject, at_ms, schema, data, attachments FROM copy
             WHERE dataset = ?1 AND subject = ?2 AND ?3 <= version ORDER BY agency",
        )?;
        let mut rows = statement.query(params![of.number, subject, of.floor.0 as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(record(row)?);
        }
        Ok(found)
    }

    /// Records that hold all words of the question, the last as a beginning: first those that write
    /// them so, then those that do when diacritics are left out. With where to go on.
    pub fn by_words(
        &self,
        of: &CopyState,
        question: &str,
        after: Option<After>,
        limit: u32,
    ) -> Result<(Vec<CopyRecord>, Option<After>), StoreError> {
        let Some((exact, folded)) = matches(question) else {
            return Ok((Vec::new(), None));
        };
        let mut found = Vec::new();
        let mut after = after.unwrap_or(After {
            folded: false,
            row: 0,
        });
        loop {
            let phrase = match after.folded {
                false => exact.clone(),
                true => format!("({folded}) NOT ({exact})"),
            };
            let left = limit - found.len() as u32;
            let last = self.page(of, &phrase, after.row, left, &mut found)?;
            match last {
                Some(row) => {
                    after.row = row;
                    return Ok((found, Some(after)));
                }
                None if after.folded => return Ok((found, None)),
                None => {
                    after = After {
                        folded: true,
                        row: 0,
                    }
                }
            }
            if limit <= found.len() as u32 {
                return Ok((found, Some(after)));
            }
        }
    }

    /// The row at which the page is full; none when there are no more.
    fn page(
        &self,
        of: &CopyState,
        phrase: &str,
        after: i64,
        limit: u32,
        found: &mut Vec<CopyRecord>,
    ) -> Result<Option<i64>, StoreError> {
        let number = of.number;
        let sql = format!(
            "SELECT agency, subject, at_ms, schema, data, attachments, copy.copy
             FROM copy_text_{number} AS words CROSS JOIN copy ON copy.copy = words.rowid
             WHERE copy_text_{number} MATCH ?1 AND ?2 < words.rowid AND ?3 <= version
             ORDER BY words.rowid LIMIT ?4"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![phrase, after, of.floor.0 as i64, limit])?;
        let (mut count, mut last) = (0, None);
        while let Some(row) = rows.next()? {
            count += 1;
            last = Some(row.get(6)?);
            found.push(record(row)?);
        }
        Ok(last.filter(|_| count == limit))
    }

    /// A record's data by its subject and owner, for tests of deletion.
    pub fn is_there(&self, of: &CopyState, subject: &str) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM copy WHERE dataset = ?1 AND subject = ?2")?
            .query_row(params![of.number, subject], |_| Ok(()))
            .optional()?
            .is_some())
    }
}

const STATES: &str = "SELECT dataset, name, floor, load, loaded, subjects, seen, as_of_ms
    FROM copied WHERE floor <= load AND load <> 0";

fn state(row: &Row<'_>) -> Result<CopyState, StoreError> {
    let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
    let name: String = row.get(1)?;
    Ok(CopyState {
        dataset: name.parse().map_err(|_| StoreError::Damaged)?,
        number: row.get(0)?,
        floor: Version(number(2)?),
        complete: number(3)? <= number(4)?,
        subjects: number(5)?,
        seen: number(6)?,
        as_of: UnixMs(row.get(7)?),
    })
}

fn record(row: &Row<'_>) -> Result<CopyRecord, StoreError> {
    let agency: String = row.get(0)?;
    Ok(CopyRecord {
        agency: agency.parse().map_err(|_| StoreError::Damaged)?,
        subject: row.get(1)?,
        at: UnixMs(row.get(2)?),
        schema: row.get(3)?,
        data: row.get(4)?,
        attachments: row.get(5)?,
    })
}

/// Words as people write them, in one spelling of letters.
pub(super) fn exact(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).collect()
}

/// Without diacritics; `đ` is a letter of its own, which no normal form takes apart.
pub(super) fn folded(text: &str) -> String {
    text.nfd()
        .filter(|letter| !is_combining_mark(*letter))
        .map(|letter| match letter {
            'đ' | 'Đ' => 'd',
            other => other,
        })
        .collect()
}

/// What to look for among the words as written, and among the folded ones; none where the question
/// has no word.
fn matches(question: &str) -> Option<(String, String)> {
    let exact = exact(question);
    let words: Vec<&str> = exact
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(WORDS_MAX)
        .collect();
    let (last, _) = words.split_last()?;
    let phrase = |column: &str, fold: &dyn Fn(&str) -> String| {
        let mut terms: Vec<String> = words
            .iter()
            .map(|word| format!("\"{}\"", fold(word)))
            .collect();
        if 1 < last.chars().count() {
            let prefix = terms.last_mut().expect("as many as words");
            prefix.push('*');
        }
        format!("{column}: ({})", terms.join(" AND "))
    };
    Some((
        phrase("exact", &|word| word.to_owned()),
        phrase("folded", &|word| folded(word)),
    ))
}
