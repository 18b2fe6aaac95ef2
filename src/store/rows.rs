//! What sources that deliver rows keep in the box's store beside their records: rows that are parked,
//! and what a source without a strict watermark has given already.
//!
//! Everything is written through [`Beside`] in the transaction that keeps the records, and read
//! beside the owner in short looks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};

use super::edge::EdgeStore;
use super::{StoreError, edge_status};
use crate::model::UnixMs;
use crate::model::record::Attachment;

/// The first 16 bytes of a SHA-256.
pub type Short = [u8; 16];

/// What is written in a submission's transaction beside its records and its cursor.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    pub park: Vec<NewParked>,
    /// Numbers of parked rows that are parked no longer.
    pub unpark: Vec<i64>,
    /// Parked rows, by number, with what is now known to be wrong with them.
    pub blame: Vec<(i64, String, String)>,
    /// A parked row whose content a person has put right; it stays parked until it is handed in.
    pub mend: Option<Box<Mended>>,
    pub seen: Vec<SeenChange>,
    /// What was seen with a mark below this is forgotten.
    pub forget_below: Option<i64>,
    /// For the list of events: level, code, detail without personal data.
    pub events: Vec<(&'static str, &'static str, String)>,
}

/// New content of a parked row.
#[derive(Debug, Clone)]
pub struct Mended {
    pub number: i64,
    pub row: Vec<u8>,
    pub subject: Option<Short>,
}

/// A row that cannot be kept now.
#[derive(Debug, Clone)]
pub struct NewParked {
    pub dataset: String,
    /// None: no later row waits for this one.
    pub subject: Option<Short>,
    pub op: &'static str,
    pub id: Option<String>,
    /// What names the row at its source, where a newer version of it is to take its place.
    pub key: Option<Short>,
    /// None where a rule forbids to store the content.
    pub row: Option<Vec<u8>>,
    /// Whether `row` is all of it, so that it can be handed in again.
    pub is_whole: bool,
    /// What the row names; their content is kept elsewhere.
    pub attachments: Vec<Attachment>,
    /// Empty: nothing is wrong with it, it waits behind another row of its subject.
    pub reason_vi: String,
    pub reason_en: String,
}

#[derive(Debug, Clone)]
pub enum SeenChange {
    Put(Seen),
    Delete(Short),
}

/// A row that a source has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub key: Short,
    pub hash: Short,
    pub mark: i64,
    pub fields: Vec<u8>,
}

impl Beside {
    pub fn is_empty(&self) -> bool {
        self.park.is_empty()
            && self.unpark.is_empty()
            && self.blame.is_empty()
            && self.mend.is_none()
            && self.seen.is_empty()
            && self.forget_below.is_none()
            && self.events.is_empty()
    }

    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let parked = self
            .park
            .iter()
            .map(|parked| 128 + parked.row.as_ref().map_or(0, Vec::len));
        let seen = self.seen.iter().map(|change| match change {
            SeenChange::Put(seen) => 64 + seen.fields.len(),
            SeenChange::Delete(_) => 24,
        });
        let mended = self.mend.as_ref().map_or(0, |mended| mended.row.len());
        parked.sum::<usize>() + seen.sum::<usize>() + mended
    }
}

impl EdgeStore {
    /// Writes what goes with a submission; inside its transaction.
    pub fn write_beside(
        &mut self,
        source: &str,
        beside: &Beside,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        for number in &beside.unpark {
            self.connection
                .prepare_cached("DELETE FROM parked WHERE number = ?1 AND source = ?2")?
                .execute(params![number, source])?;
        }
        for (number, vi, en) in &beside.blame {
            self.connection
                .prepare_cached(
                    "UPDATE parked SET reason_vi = ?3, reason_en = ?4
                     WHERE number = ?1 AND source = ?2",
                )?
                .execute(params![number, source, vi, en])?;
        }
        if let Some(mended) = &beside.mend {
            self.connection
                .prepare_cached(
                    "UPDATE parked SET row = ?3, subject = ?4
                     WHERE number = ?1 AND source = ?2 AND row IS NOT NULL AND whole",
                )?
                .execute(params![mended.number, source, mended.row, mended.subject])?;
        }
        for parked in &beside.park {
            self.connection
                .prepare_cached(
                    "INSERT INTO parked
                       (source, dataset, subject, op, id, key, row, whole, attachments,
                        reason_vi, reason_en, at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )?
                .execute(params![
                    source,
                    parked.dataset,
                    parked.subject,
                    parked.op,
                    parked.id,
                    parked.key,
                    parked.row,
                    parked.is_whole,
                    attachments_text(&parked.attachments),
                    parked.reason_vi,
                    parked.reason_en,
                    at.0
                ])?;
        }
        for change in &beside.seen {
            self.write_seen(source, change)?;
        }
        if let Some(mark) = beside.forget_below {
            self.connection
                .prepare_cached("DELETE FROM seen WHERE source = ?1 AND mark < ?2")?
                .execute(params![source, mark])?;
        }
        for (level, code, detail) in &beside.events {
            self.add_event(at, level, code, detail)?;
        }
        Ok(())
    }

    fn write_seen(&mut self, source: &str, change: &SeenChange) -> Result<(), StoreError> {
        match change {
            SeenChange::Put(seen) => self
                .connection
                .prepare_cached(
                    "INSERT INTO seen (source, key, hash, mark, fields) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (source, key) DO UPDATE SET
                       hash = excluded.hash, mark = excluded.mark, fields = excluded.fields",
                )?
                .execute(params![source, seen.key, seen.hash, seen.mark, seen.fields])?,
            SeenChange::Delete(key) => self
                .connection
                .prepare_cached("DELETE FROM seen WHERE source = ?1 AND key = ?2")?
                .execute(params![source, key])?,
        };
        Ok(())
    }
}

/// A row that is parked.
#[derive(Debug, Clone)]
pub struct Parked {
    pub number: i64,
    pub dataset: String,
    pub subject: Option<Short>,
    pub op: String,
    pub id: Option<String>,
    pub row: Option<Vec<u8>>,
    pub is_whole: bool,
    pub attachments: Vec<Attachment>,
    pub reason_vi: String,
    pub reason_en: String,
    pub at: UnixMs,
}

/// As the table says it; none where there are none.
fn attachments_text(attachments: &[Attachment]) -> Option<String> {
    let text = || serde_json::to_string(attachments).expect("attachments are plain JSON");
    (!attachments.is_empty()).then(text)
}

/// What [`attachments_text`] wrote.
fn attachments_of(text: Option<&str>) -> rusqlite::Result<Vec<Attachment>> {
    let read = |text| {
        serde_json::from_str(text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
        })
    };
    text.map_or(Ok(Vec::new()), read)
}

/// A parked row by what names it at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedKey {
    pub number: i64,
    pub key: Short,
    pub subject: Option<Short>,
}

/// How much a source has parked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParkedSum {
    pub rows: u64,
    pub bytes: u64,
}

/// Rows of a source that are parked for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonFacts {
    pub source: String,
    pub reason_vi: String,
    pub reason_en: String,
    pub rows: u64,
}

/// A short look at the rows' tables, beside the owner. To be dropped soon: the store may be set
/// aside and another one take its name.
pub struct RowsView {
    connection: Connection,
}

impl RowsView {
    pub fn open(path: &Path) -> Result<RowsView, StoreError> {
        let connection = edge_status::open(path)?;
        Ok(RowsView { connection })
    }

    /// Where a source stands.
    pub fn cursor(&self, source: &str) -> Result<Option<String>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT value FROM cursor WHERE source = ?1")?
            .query_row([source], |row| row.get(0))
            .optional()?)
    }

    /// Which of these subjects have a row parked, rows with the numbers `except` left aside.
    pub fn blocked(
        &self,
        source: &str,
        subjects: &BTreeSet<Short>,
        except: &BTreeSet<i64>,
    ) -> Result<BTreeSet<Short>, StoreError> {
        let mut blocked = BTreeSet::new();
        let any = self
            .connection
            .prepare_cached("SELECT 1 FROM parked WHERE source = ?1 LIMIT 1")?
            .exists([source])?;
        if !any {
            return Ok(blocked);
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT number FROM parked WHERE source = ?1 AND subject = ?2")?;
        for subject in subjects {
            let mut numbers = statement.query(params![source, subject])?;
            while let Some(row) = numbers.next()? {
                if !except.contains(&row.get(0)?) {
                    blocked.insert(*subject);
                    break;
                }
            }
        }
        Ok(blocked)
    }

    /// Parked rows by what names them at their source: number and subject of each.
    pub fn parked_by_key(
        &self,
        source: &str,
        keys: impl Iterator<Item = Short>,
    ) -> Result<Vec<ParkedKey>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT number, subject FROM parked WHERE source = ?1 AND key = ?2")?;
        let mut found = Vec::new();
        for key in keys {
            let rows = statement.query_map(params![source, key], |row| {
                Ok(ParkedKey {
                    number: row.get(0)?,
                    key,
                    subject: row.get(1)?,
                })
            })?;
            for row in rows {
                found.push(row?);
            }
        }
        Ok(found)
    }

    pub fn parked_sum(&self, source: &str) -> Result<ParkedSum, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT count(*), coalesce(sum(length(row)), 0) FROM parked WHERE source = ?1",
            )?
            .query_row([source], |row| {
                Ok(ParkedSum {
                    rows: row.get::<_, i64>(0)? as u64,
                    bytes: row.get::<_, i64>(1)? as u64,
                })
            })?)
    }

    /// How many rows each source has parked; the table is bounded for each source.
    pub fn parked_counts(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT source, count(*) FROM parked GROUP BY source LIMIT 1000")?;
        let rows =
            statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Why the newest rows are parked, the most frequent reason of all first; rows that only wait
    /// behind others have none.
    pub fn parked_reasons(&self, rows_max: u32) -> Result<Vec<ReasonFacts>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT source, reason_vi, reason_en, count(*) FROM
               (SELECT source, reason_vi, reason_en FROM parked ORDER BY number DESC LIMIT ?1)
             WHERE reason_vi <> '' GROUP BY source, reason_vi ORDER BY count(*) DESC, reason_vi",
        )?;
        let rows = statement.query_map([rows_max], |row| {
            Ok(ReasonFacts {
                source: row.get(0)?,
                reason_vi: row.get(1)?,
                reason_en: row.get(2)?,
                rows: row.get::<_, i64>(3)? as u64,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Parked rows in the order in which they came, from after `number` on.
    pub fn parked(
        &self,
        source: &str,
        after: i64,
        rows_max: u32,
    ) -> Result<Vec<Parked>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, dataset, subject, op, id, row, whole, attachments, reason_vi,
                    reason_en, at_ms
             FROM parked WHERE source = ?1 AND ?2 < number ORDER BY number LIMIT ?3",
        )?;
        let rows = statement.query_map(params![source, after, rows_max], |row| {
            Ok(Parked {
                number: row.get(0)?,
                dataset: row.get(1)?,
                subject: row.get(2)?,
                op: row.get(3)?,
                id: row.get(4)?,
                row: row.get(5)?,
                is_whole: row.get(6)?,
                attachments: attachments_of(row.get_ref(7)?.as_str_or_null()?)?,
                reason_vi: row.get(8)?,
                reason_en: row.get(9)?,
                at: UnixMs(row.get(10)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Number and content's hash of each of these keys that was seen.
    pub fn seen(
        &self,
        source: &str,
        keys: impl Iterator<Item = Short>,
    ) -> Result<BTreeMap<Short, (i64, Short)>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT number, hash FROM seen WHERE source = ?1 AND key = ?2")?;
        let mut found = BTreeMap::new();
        for key in keys {
            let row = statement
                .query_row(params![source, key], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some(row) = row {
                found.insert(key, row);
            }
        }
        Ok(found)
    }

    /// How many rows of a source were seen, and the greatest number among them.
    pub fn seen_count(&self, source: &str) -> Result<(u64, i64), StoreError> {
        Ok(self.connection.query_row(
            "SELECT count(*), coalesce(max(number), 0) FROM seen WHERE source = ?1",
            [source],
            |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)),
        )?)
    }

    /// Rows that were seen, by number, after `after` and up to `last`.
    pub fn seen_page(
        &self,
        source: &str,
        after: i64,
        last: i64,
        rows_max: u32,
    ) -> Result<Vec<(i64, Seen)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, key, hash, mark, fields FROM seen
             WHERE ?2 < number AND number <= ?3 AND +source = ?1 ORDER BY number LIMIT ?4",
        )?;
        let rows = statement.query_map(params![source, after, last, rows_max], |row| {
            Ok((
                row.get(0)?,
                Seen {
                    key: row.get(1)?,
                    hash: row.get(2)?,
                    mark: row.get(3)?,
                    fields: row.get(4)?,
                },
            ))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
