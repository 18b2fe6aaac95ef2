//! Entries of an output that wait: something is wrong with them, or with an earlier one of their
//! subject.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Item, OutputStore, log_name, parsed};
use crate::model::{AgencyCode, DatasetId, Seq, Subject, UnixMs};
use crate::store::StoreError;

/// Why an entry is held that lacks a file which is still on its way to the hub; its detail is the
/// file's digest. Nothing is wrong with it, and it goes on by itself.
pub const FILE_COMING: &str = "file_coming";

/// The subject of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub dataset: DatasetId,
    pub agency: AgencyCode,
    pub subject: Subject,
}

/// An entry that is to wait.
#[derive(Debug, Clone)]
pub struct NewHeld {
    pub item: Item,
    pub key: Key,
    /// None: it waits behind another of its subject.
    pub reason: Option<&'static str>,
    pub detail: String,
}

/// An entry that waits.
#[derive(Debug, Clone)]
pub struct Held {
    pub number: i64,
    pub item: Item,
    pub key: Key,
    pub reason: Option<String>,
    pub detail: String,
    pub retry: bool,
    pub held: UnixMs,
}

const HELD: &str =
    "number, dataset, agency, subject, box_id, epoch, lane, seq, reason, detail, retry, held_ms";

impl OutputStore {
    /// All that waits, in order, up to a limit.
    pub fn held(&self, output: i64, limit: u64) -> Result<Vec<Held>, StoreError> {
        let sql =
            format!("SELECT {HELD} FROM held WHERE output = ?1 ORDER BY number LIMIT {limit}");
        self.held_rows(&sql, params![output])
    }

    /// Entries whose turn has come: the first of its subject, and either nothing was wrong with it
    /// or somebody wants it to be tried again.
    pub fn ready(&self, output: i64, limit: u64) -> Result<Vec<Held>, StoreError> {
        let sql = format!(
            "SELECT {HELD} FROM held WHERE output = ?1 AND (reason IS NULL OR retry = 1)
               AND NOT EXISTS (SELECT 1 FROM held AS earlier WHERE earlier.output = held.output
                 AND earlier.dataset = held.dataset AND earlier.agency = held.agency
                 AND earlier.subject = held.subject AND earlier.number < held.number)
             ORDER BY number LIMIT {limit}"
        );
        self.held_rows(&sql, params![output])
    }

    /// The first that waits of this subject.
    pub fn first_held(&self, output: i64, key: &Key) -> Result<Option<i64>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number FROM held
             WHERE output = ?1 AND dataset = ?2 AND agency = ?3 AND subject = ?4
             ORDER BY number LIMIT 1",
        )?;
        let (dataset, agency) = (key.dataset.as_str(), key.agency.as_str());
        let of = params![output, dataset, agency, key.subject.as_str()];
        Ok(statement.query_row(of, |row| row.get(0)).optional()?)
    }

    /// Entries that wait for a file, with the file's digest.
    pub fn waiting_for_files(&self, output: i64) -> Result<Vec<(i64, String)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, detail FROM held WHERE output = ?1 AND reason = ?2 AND retry = 0",
        )?;
        let rows = statement.query_map(params![output, FILE_COMING], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many have something wrong with them, and how many wait, behind those or for a file.
    pub fn held_counts(&self, output: i64) -> Result<(u64, u64), StoreError> {
        let counts = self
            .connection
            .prepare_cached(
                "SELECT count(reason) FILTER (WHERE reason <> ?2), count(*) FROM held
                 WHERE output = ?1",
            )?
            .query_row(params![output, FILE_COMING], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
            })?;
        Ok((counts.0, counts.1 - counts.0))
    }

    /// Lets held entries be tried again, one or all; returns how many.
    pub fn retry(&mut self, output: i64, number: Option<i64>) -> Result<usize, StoreError> {
        Ok(self.connection.execute(
            "UPDATE held SET retry = 1 WHERE output = ?1 AND reason IS NOT NULL
               AND (?2 IS NULL OR number = ?2)",
            params![output, number],
        )?)
    }

    /// Gives up one held entry, for ever; false when there is none of this number.
    pub fn drop_held(&mut self, output: i64, number: i64) -> Result<bool, StoreError> {
        let transaction = self.connection.transaction()?;
        let gone = transaction.execute(
            "DELETE FROM held WHERE output = ?1 AND number = ?2",
            params![output, number],
        )?;
        transaction.execute(
            "UPDATE output SET dropped = dropped + ?2 WHERE output = ?1",
            params![output, gone as i64],
        )?;
        transaction.commit()?;
        Ok(gone == 1)
    }

    fn held_rows(&self, sql: &str, of: impl rusqlite::Params) -> Result<Vec<Held>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(of)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            found.push(Held {
                number,
                key: Key {
                    dataset: parsed(row, 1)?,
                    agency: parsed(row, 2)?,
                    subject: parsed(row, 3)?,
                },
                item: Item {
                    log: log_name(row, 4)?,
                    seq: Seq(row.get::<_, i64>(7)? as u64),
                    held: Some(number),
                },
                reason: row.get(8)?,
                detail: row.get(9)?,
                retry: row.get(10)?,
                held: UnixMs(row.get(11)?),
            });
        }
        Ok(found)
    }
}

pub(super) fn hold(
    connection: &Connection,
    output: i64,
    held: &NewHeld,
    at: UnixMs,
) -> Result<(), StoreError> {
    if let Some(number) = held.item.held {
        connection
            .prepare_cached(
                "UPDATE held SET reason = ?2, detail = ?3, retry = 0, held_ms = ?4 WHERE number = ?1",
            )?
            .execute(params![number, held.reason, held.detail, at.0])?;
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO held (output, dataset, agency, subject, box_id, epoch, lane, seq, reason,
               detail, retry, held_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11)",
        )?
        .execute(params![
            output,
            held.key.dataset.as_str(),
            held.key.agency.as_str(),
            held.key.subject.as_str(),
            held.item.log.box_id.as_str(),
            held.item.log.epoch as i64,
            held.item.log.lane.index() as i64,
            held.item.seq.0 as i64,
            held.reason,
            held.detail,
            at.0
        ])?;
    Ok(())
}
