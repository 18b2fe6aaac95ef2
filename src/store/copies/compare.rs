//! Comparing a copy with the hub's: the rows in the order of their buckets, which buckets have changed
//! since the comparison began, and what is said again where something differs.

use rusqlite::{OptionalExtension, params};

use super::forget_words;
use crate::model::compare::{LOGS, Marks};
use crate::model::down::{Compare, Compared, Mended, Version};
use crate::model::fault::{self, Fault};
use crate::model::{DatasetId, UnixMs};
use crate::store::StoreError;
use crate::store::down::DownStore;
use crate::store::orders::Said;

/// A comparison that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCompare {
    pub number: i64,
    pub dataset: DatasetId,
    pub version: Version,
    /// Whether the copy can be compared.
    pub is_good: bool,
}

/// A row as it lies there, whatever became of it.
#[derive(Debug, Clone, Copy)]
pub struct CopyBytes<'a> {
    pub key: &'a [u8],
    pub agency: &'a [u8],
    pub subject: &'a [u8],
    pub schema: u32,
    pub data: &'a [u8],
    /// Empty: none.
    pub attachments: &'a [u8],
}

/// How a comparison has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedRow {
    pub name: String,
    pub at: UnixMs,
    pub result: String,
    pub buckets: u64,
    pub subjects: u64,
}

impl DownStore {
    // === In the transaction that moves the position ===

    pub(in crate::store) fn apply_compare(&mut self, compare: &Compare) -> Result<(), StoreError> {
        let copied = self.copied(&compare.dataset)?;
        let is_good = copied.load == compare.load
            && copied.loaded == compare.load
            && copied.floor <= compare.load;
        self.connection.execute(
            "DELETE FROM compare_moved WHERE dataset = ?1",
            [copied.dataset],
        )?;
        self.connection.execute(
            "INSERT OR REPLACE INTO compare (dataset, version, good) VALUES (?1, ?2, ?3)",
            params![copied.dataset, compare.version.0 as i64, is_good],
        )?;
        self.comparing.insert(copied.dataset);
        Ok(())
    }

    /// Something of a bucket has changed.
    pub(super) fn mark_moved(&mut self, dataset: i64, bucket: u8) -> Result<(), StoreError> {
        if self.comparing.contains(&dataset) && !fault::is_planted(Fault::MovedNotMarked) {
            self.connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO compare_moved (dataset, bucket) VALUES (?1, ?2)",
                )?
                .execute([dataset, i64::from(bucket)])?;
        }
        Ok(())
    }

    /// The whole copy is another one from now on.
    pub(super) fn spoil_compare(&mut self, dataset: i64) -> Result<(), StoreError> {
        if self.comparing.contains(&dataset) {
            self.connection
                .execute("UPDATE compare SET good = 0 WHERE dataset = ?1", [dataset])?;
        }
        Ok(())
    }

    /// Deletes what is in a bucket and was not said again.
    pub(in crate::store) fn apply_mended(&mut self, mended: &Mended) -> Result<(), StoreError> {
        let copied = self.copied(&mended.dataset)?;
        if copied.load != mended.load || copied.loaded != mended.load {
            return Ok(());
        }
        let (first, last) = range(mended.bucket);
        let void: Vec<(i64, bool)> = {
            let mut statement = self.connection.prepare_cached(
                "SELECT copy, subject IS NOT NULL FROM copy WHERE dataset = ?1 AND key BETWEEN ?2 AND ?3
                   AND NOT version BETWEEN ?4 AND ?5",
            )?;
            let rows = statement.query_map(
                params![
                    copied.dataset,
                    first,
                    last,
                    mended.since.0 as i64,
                    mended.version.0 as i64
                ],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            rows.collect::<Result<_, _>>()?
        };
        let gone = void.iter().filter(|(_, has_content)| *has_content).count();
        self.connection.execute(
            "UPDATE copied SET held = held - ?2 WHERE dataset = ?1",
            [copied.dataset, gone as i64],
        )?;
        for (row, _) in void {
            forget_words(&self.connection, copied.dataset, row)?;
            self.connection
                .prepare_cached("DELETE FROM copy WHERE copy = ?1")?
                .execute([row])?;
            self.erased = true;
        }
        self.mark_moved(copied.dataset, mended.bucket)
    }

    pub(in crate::store) fn apply_compared(
        &mut self,
        compared: &Compared,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let name = compared.dataset.as_ref().map_or(LOGS, DatasetId::as_str);
        self.connection.execute(
            "INSERT OR REPLACE INTO compared (name, at_ms, result, buckets, subjects)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                name,
                compared.at.0,
                compared.result,
                compared.buckets as i64,
                compared.subjects as i64
            ],
        )?;
        if compared.result == "equal" {
            return Ok(());
        }
        let detail = format!(
            "buckets {}, subjects {}",
            compared.buckets, compared.subjects
        );
        let said = Said {
            who: "trục / hub",
            what: "compare",
            id: name,
            name: "",
            result: &compared.result,
            detail: &detail,
            answer: None,
        };
        self.say(&said, now)
    }

    // === Afterwards ===

    /// Whether there may be something to compare; reads nothing.
    pub fn is_comparing(&self) -> bool {
        !self.comparing.is_empty()
    }

    pub fn open_compare(&self) -> Result<Option<OpenCompare>, StoreError> {
        let found: Option<(i64, String, i64, bool)> = self
            .connection
            .prepare_cached(
                "SELECT compare.dataset, name, version, good FROM compare
                 JOIN copied ON copied.dataset = compare.dataset ORDER BY version LIMIT 1",
            )?
            .query_row([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        found
            .map(|(number, name, version, is_good)| {
                Ok(OpenCompare {
                    number,
                    dataset: name.parse().map_err(|_| StoreError::Damaged)?,
                    version: Version(version as u64),
                    is_good,
                })
            })
            .transpose()
    }

    pub fn moved(&self, number: i64) -> Result<Marks, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT bucket FROM compare_moved WHERE dataset = ?1")?;
        let buckets = statement.query_map([number], |row| row.get::<_, u8>(0))?;
        Ok(buckets.collect::<Result<Marks, _>>()?)
    }

    /// The next rows of a copy behind a key, in its order; at most so many. Gives the last one's key,
    /// none when there are no more.
    pub fn for_each_copy(
        &self,
        number: i64,
        after: Option<&[u8]>,
        most: u32,
        mut visit: impl FnMut(CopyBytes<'_>),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT key, agency, subject, schema, data, attachments FROM copy
             WHERE dataset = ?1 AND (?2 IS NULL OR ?2 < key) AND subject IS NOT NULL
               AND (SELECT max(floor, loaded) FROM copied WHERE dataset = ?1) <= version
             ORDER BY key LIMIT ?3",
        )?;
        let mut rows = statement.query(params![number, after, most])?;
        let (mut last, mut count) = (None, 0);
        while let Some(row) = rows.next()? {
            let bytes = |index| -> rusqlite::Result<&[u8]> {
                let value = row.get_ref(index)?;
                Ok(value.as_bytes_or_null().ok().flatten().unwrap_or_default())
            };
            let key = bytes(0)?;
            visit(CopyBytes {
                key,
                agency: bytes(1)?,
                subject: bytes(2)?,
                schema: row.get(3).unwrap_or_default(),
                data: bytes(4)?,
                attachments: bytes(5)?,
            });
            count += 1;
            if count == most {
                last = Some(key.to_owned());
            }
        }
        Ok(last)
    }

    /// What was counted in going through a copy that did not change meanwhile.
    pub fn set_held(&mut self, number: i64, rows: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE copied SET held = ?2 WHERE dataset = ?1 AND sweep = 0",
            [number, rows as i64],
        )?;
        Ok(())
    }

    pub fn end_compare(&mut self, number: i64) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM compare WHERE dataset = ?1", [number])?;
        self.connection
            .execute("DELETE FROM compare_moved WHERE dataset = ?1", [number])?;
        self.comparing.remove(&number);
        Ok(())
    }

    /// When this box last said where its logs stand.
    pub fn logs_said(&self) -> Result<Option<UnixMs>, StoreError> {
        let said: Option<Option<i64>> = self
            .connection
            .prepare_cached("SELECT logs_ms FROM down")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(said.flatten().map(UnixMs))
    }

    /// In the transaction that says it.
    pub fn note_logs_said(&mut self, now: UnixMs) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE down SET logs_ms = ?1", [now.0])?;
        Ok(())
    }

    /// How the last comparisons have ended, by name.
    pub fn compared(&self) -> Result<Vec<ComparedRow>, StoreError> {
        compared(&self.connection)
    }
}

pub(in crate::store) fn compared(
    connection: &rusqlite::Connection,
) -> Result<Vec<ComparedRow>, StoreError> {
    let mut statement = connection
        .prepare("SELECT name, at_ms, result, buckets, subjects FROM compared ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok(ComparedRow {
            name: row.get(0)?,
            at: UnixMs(row.get(1)?),
            result: row.get(2)?,
            buckets: row.get::<_, i64>(3)? as u64,
            subjects: row.get::<_, i64>(4)? as u64,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The keys of a bucket; an empty one, which no row should have, belongs to the first.
fn range(bucket: u8) -> (Vec<u8>, Vec<u8>) {
    let first = match bucket {
        0 => Vec::new(),
        bucket => vec![bucket],
    };
    let mut last = vec![0xff; 18];
    last[0] = bucket;
    (first, last)
}
