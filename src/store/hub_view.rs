//! Reading the hub's store, for people and their tools: status, records, gaps, what is parked, and
//! everything that is verified. A [`HubView`] never writes and works beside a running hub; what is
//! read through one [`Snapshot`] belongs together.

pub mod blobs;
pub mod down;
pub mod feed;
pub mod proof;

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::hub::{BoxState, LOG_SHIFT, MIGRATIONS, place, unplace};
use super::{StoreError, chain_from};
use crate::model::{AgencyCode, BoxId, Capture, Chain, DatasetId, Epoch, Lane, Seq, UnixMs};

pub struct HubView {
    connection: Connection,
}

/// One state of the store, as long as it lives. While it does, the hub's WAL file cannot be cut
/// back, so long work takes one per box.
pub struct Snapshot<'a> {
    transaction: Transaction<'a>,
}

/// A registered box.
#[derive(Debug, Clone)]
pub struct BoxRow {
    pub box_id: BoxId,
    pub agency: AgencyCode,
    pub public_key: Vec<u8>,
    pub serial: String,
    pub not_after: UnixMs,
    pub state: BoxState,
    pub registered: UnixMs,
    pub last_seen: Option<UnixMs>,
    /// JSON, as the box said it.
    pub presence: Option<String>,
    pub presence_at: Option<UnixMs>,
}

/// A log, as the hub has written it down.
#[derive(Debug, Clone)]
pub struct LogRow {
    pub log: i64,
    pub box_id: BoxId,
    pub epoch: Epoch,
    pub lane: Lane,
    /// Orders what was captured under different epochs.
    pub life: i64,
    /// First number under this epoch.
    pub begin: Seq,
    pub applied: Seq,
    pub chain: Chain,
    pub max_capture: Capture,
    pub entries: u64,
    pub doubles: u64,
    pub bytes: u64,
    pub first_at: UnixMs,
    pub last_at: UnixMs,
}

/// A range that a box has said it lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    pub box_id: BoxId,
    pub epoch: Epoch,
    pub lane: Lane,
    pub first: Seq,
    pub last: Seq,
    pub reason: String,
    pub noted: UnixMs,
}

/// An entry that is kept but not part of the present state.
#[derive(Debug, Clone)]
pub struct ParkedRow {
    pub box_id: BoxId,
    pub epoch: Epoch,
    pub lane: Lane,
    pub seq: Seq,
    pub dataset: Option<String>,
    pub reason: String,
    pub detail: String,
    pub parked: UnixMs,
}

/// How often batches in the name of a box were refused.
#[derive(Debug, Clone)]
pub struct RefusalRow {
    pub box_id: BoxId,
    pub code: String,
    pub count: u64,
    pub first: UnixMs,
    pub last: UnixMs,
}

/// Which records of a dataset are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub dataset: &'a DatasetId,
    /// Received by the hub at this time or later.
    pub since: Option<UnixMs>,
    /// Every record that was ever taken, instead of the present state.
    pub history: bool,
    /// In the present state: subjects that are gone too.
    pub deleted: bool,
}

/// A record and where it came from.
#[derive(Debug)]
pub struct RecordRow<'a> {
    pub box_id: &'a BoxId,
    pub lane: Lane,
    pub bytes: &'a [u8],
}

/// The number that a place stands for, within its log.
pub fn seq_of(place: i64) -> Seq {
    unplace(place).1
}

/// The log that a place stands in.
pub fn log_of(place: i64) -> i64 {
    unplace(place).0
}

impl HubView {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = super::open_read_only(path)?;
        let known = MIGRATIONS.len() as i64;
        match connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? {
            found if known < found => Err(StoreError::Newer { found, known }),
            0 => Err(StoreError::Damaged),
            _ => Ok(Self { connection }),
        }
    }

    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)?;
        Ok(Snapshot { transaction })
    }

    /// Bytes of the file in use, and bytes that are free inside it.
    pub fn space(&self) -> Result<(u64, u64), StoreError> {
        super::space(&self.connection)
    }
}

impl Snapshot<'_> {
    /// For the store's other rooms.
    pub(super) fn connection(&self) -> &Connection {
        &self.transaction
    }

    // === Boxes and logs ===

    /// All boxes, by name.
    pub fn boxes(&self) -> Result<Vec<BoxRow>, StoreError> {
        self.rows(
            "SELECT box_id, agency, public_key, serial, not_after_ms, state, registered_ms,
               last_seen_ms, presence, presence_ms FROM box ORDER BY box_id",
            box_row,
        )
    }

    pub fn box_row(&self, box_id: &BoxId) -> Result<Option<BoxRow>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT box_id, agency, public_key, serial, not_after_ms, state, registered_ms,
               last_seen_ms, presence, presence_ms FROM box WHERE box_id = ?1",
        )?;
        let mut rows = statement.query([box_id.as_str()])?;
        rows.next()?.map(box_row).transpose()
    }

    /// All logs, in the order in which they were first seen.
    pub fn logs(&self) -> Result<Vec<LogRow>, StoreError> {
        self.rows(
            "SELECT log, box_id, epoch, lane, life, begin, applied, chain, max_capture, entries,
               doubles, bytes, first_ms, last_ms FROM log ORDER BY log",
            |row| {
                Ok(LogRow {
                    log: row.get(0)?,
                    box_id: parsed(row, 1)?,
                    epoch: Epoch(number(row, 2)?),
                    lane: lane(row, 3)?,
                    life: row.get(4)?,
                    begin: Seq(number(row, 5)?),
                    applied: Seq(number(row, 6)?),
                    chain: chain_from(row.get(7)?)?,
                    max_capture: Capture(number(row, 8)?),
                    entries: number(row, 9)?,
                    doubles: number(row, 10)?,
                    bytes: number(row, 11)?,
                    first_at: UnixMs(row.get(12)?),
                    last_at: UnixMs(row.get(13)?),
                })
            },
        )
    }

    pub fn refusals(&self) -> Result<Vec<RefusalRow>, StoreError> {
        self.rows(
            "SELECT box_id, code, count, first_ms, last_ms FROM refusal ORDER BY box_id, code",
            |row| {
                Ok(RefusalRow {
                    box_id: parsed(row, 0)?,
                    code: row.get(1)?,
                    count: number(row, 2)?,
                    first: UnixMs(row.get(3)?),
                    last: UnixMs(row.get(4)?),
                })
            },
        )
    }

    // === What was lost, and what is parked ===

    /// By box, epoch, lane and number.
    pub fn gaps(&self) -> Result<Vec<GapRow>, StoreError> {
        self.rows(
            "SELECT box_id, epoch, lane, first, last, reason, noted_ms FROM gap
             ORDER BY box_id, epoch, lane, first, gap",
            |row| {
                Ok(GapRow {
                    box_id: parsed(row, 0)?,
                    epoch: Epoch(number(row, 1)?),
                    lane: lane(row, 2)?,
                    first: Seq(number(row, 3)?),
                    last: Seq(number(row, 4)?),
                    reason: row.get(5)?,
                    noted: UnixMs(row.get(6)?),
                })
            },
        )
    }

    pub fn for_each_parked<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(ParkedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = format!(
            "SELECT parked.place, box_id, epoch, lane, dataset.name, reason, detail, parked_ms
             FROM parked JOIN log ON log.log = parked.place >> {LOG_SHIFT}
             LEFT JOIN entry ON entry.place = parked.place
             LEFT JOIN dataset ON dataset.dataset = entry.dataset ORDER BY parked.place"
        );
        self.for_each(&sql, [], |row| {
            let parked = ParkedRow {
                box_id: parsed(row, 1)?,
                epoch: Epoch(number(row, 2)?),
                lane: lane(row, 3)?,
                seq: seq_of(get(row, 0)?),
                dataset: get(row, 4)?,
                reason: get(row, 5)?,
                detail: get(row, 6)?,
                parked: UnixMs(get(row, 7)?),
            };
            each(parked)
        })
    }

    /// How many entries of each log are parked.
    pub fn parked_counts(&self) -> Result<HashMap<i64, u64>, StoreError> {
        let sql = format!("SELECT place >> {LOG_SHIFT}, count(*) FROM parked GROUP BY 1");
        let counts = self.rows(&sql, |row| Ok((row.get(0)?, number(row, 1)?)))?;
        Ok(counts.into_iter().collect())
    }

    // === Records ===

    /// The present state in the order of agency and subject, or the history in the order of each
    /// log. One record is in memory at a time.
    pub fn for_each_record<E: From<StoreError>>(
        &self,
        wanted: Wanted<'_>,
        mut each: impl FnMut(RecordRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let logs = self.logs()?;
        let Some(dataset) = self.dataset_number(wanted.dataset)? else {
            return Ok(());
        };
        if wanted.history {
            for log in &logs {
                self.for_each_in_history(log, dataset, wanted.since, &mut each)?;
            }
            return Ok(());
        }
        let logs: HashMap<i64, &LogRow> = logs.iter().map(|log| (log.log, log)).collect();
        self.for_each(
            "SELECT state.place, entry.entry FROM state JOIN entry ON entry.place = state.place
             WHERE state.dataset = ?1 AND (?2 OR NOT deleted) AND (?3 IS NULL OR ?3 <= (
               SELECT received_ms FROM batch WHERE batch.place <= state.place
               ORDER BY batch.place DESC LIMIT 1))
             ORDER BY agency, subject",
            params![dataset, wanted.deleted, wanted.since.map(|since| since.0)],
            |row| {
                let (log, _) = unplace(get(row, 0)?);
                let log = logs.get(&log).ok_or(StoreError::Damaged)?;
                each(RecordRow {
                    box_id: &log.box_id,
                    lane: log.lane,
                    bytes: blob(row, 1)?.ok_or(StoreError::Damaged)?,
                })
            },
        )
    }

    /// Doubles and parked entries are no records of the dataset.
    fn for_each_in_history<E: From<StoreError>>(
        &self,
        log: &LogRow,
        dataset: i64,
        since: Option<UnixMs>,
        each: &mut impl FnMut(RecordRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut first, last) = (place(log.log, Seq(1)), place(log.log, log.applied));
        if let Some(since) = since {
            let sql = "SELECT place FROM batch WHERE place BETWEEN ?1 AND ?2 AND ?3 <= received_ms
                       ORDER BY place LIMIT 1";
            match self.optional(sql, params![first, last, since.0])? {
                Some(place) => first = place,
                None => return Ok(()),
            }
        }
        self.for_each(
            "SELECT entry FROM entry WHERE place BETWEEN ?1 AND ?2 AND dataset = ?3
               AND entry IS NOT NULL AND place NOT IN (SELECT place FROM parked) ORDER BY place",
            params![first, last, dataset],
            |row| {
                each(RecordRow {
                    box_id: &log.box_id,
                    lane: log.lane,
                    bytes: blob(row, 0)?.ok_or(StoreError::Damaged)?,
                })
            },
        )
    }

    /// Names of all datasets of which there is an entry, sorted.
    pub fn datasets(&self) -> Result<Vec<(i64, DatasetId)>, StoreError> {
        self.rows("SELECT dataset, name FROM dataset ORDER BY name", |row| {
            Ok((row.get(0)?, parsed(row, 1)?))
        })
    }

    fn dataset_number(&self, dataset: &DatasetId) -> Result<Option<i64>, StoreError> {
        self.optional(
            "SELECT dataset FROM dataset WHERE name = ?1",
            [dataset.as_str()],
        )
    }

    // === Helpers ===

    fn rows<T>(
        &self,
        sql: &str,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.for_each(sql, [], |row| {
            found.push(read(row)?);
            Ok::<(), StoreError>(())
        })?;
        Ok(found)
    }

    fn for_each<E: From<StoreError>>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        mut each: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut statement = self
            .transaction
            .prepare_cached(sql)
            .map_err(StoreError::from)?;
        let mut rows = statement.query(parameters).map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            each(row)?;
        }
        Ok(())
    }

    fn optional<T: rusqlite::types::FromSql>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Option<T>, StoreError> {
        Ok(self
            .transaction
            .prepare_cached(sql)?
            .query_row(parameters, |row| row.get(0))
            .optional()?)
    }
}

fn box_row(row: &Row<'_>) -> Result<BoxRow, StoreError> {
    Ok(BoxRow {
        box_id: parsed(row, 0)?,
        agency: parsed(row, 1)?,
        public_key: row.get(2)?,
        serial: row.get(3)?,
        not_after: UnixMs(row.get(4)?),
        state: BoxState::parse(text(row, 5)?)?,
        registered: UnixMs(row.get(6)?),
        last_seen: row.get::<_, Option<i64>>(7)?.map(UnixMs),
        presence: row.get(8)?,
        presence_at: row.get::<_, Option<i64>>(9)?.map(UnixMs),
    })
}

fn end_of_log(log: i64) -> i64 {
    place(log + 1, Seq::ZERO) - 1
}

fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    Ok(row.get(index)?)
}

fn number(row: &Row<'_>, index: usize) -> Result<u64, StoreError> {
    Ok(row.get::<_, i64>(index)? as u64)
}

fn lane(row: &Row<'_>, index: usize) -> Result<Lane, StoreError> {
    Lane::from_index(number(row, index)?).ok_or(StoreError::Damaged)
}

fn text<'r>(row: &'r Row<'_>, index: usize) -> Result<&'r str, StoreError> {
    row.get_ref(index)?
        .as_str()
        .map_err(|_| StoreError::Damaged)
}

fn blob<'r>(row: &'r Row<'_>, index: usize) -> Result<Option<&'r [u8]>, StoreError> {
    row.get_ref(index)?
        .as_blob_or_null()
        .map_err(|_| StoreError::Damaged)
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    text(row, index)?.parse().map_err(|_| StoreError::Damaged)
}
