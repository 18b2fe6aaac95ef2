//! The box's store: outbox, kept tail, repeats, cursors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, params};

use super::log::{Log, LogStore, Tables};
use super::{Options, StoreError};
use crate::model::{BoxId, Epoch, Lane, UnixMs};

const MIGRATIONS: &[&str] = &[include_str!("edge.sql")];
/// A lone record costs two pages; a block of many fills its pages anyway.
const PAGE_BYTES: u64 = 4096;
pub(super) const LANE_SHIFT: u32 = 56;
static OUTBOX: LazyLock<Tables> =
    LazyLock::new(|| Tables::new(LANE_SHIFT, "outbox", "lane", "lane", true));

/// A key that makes a repeat harmless, with the digest of what it stood for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceKey {
    pub key: [u8; 16],
    pub digest: [u8; 16],
}

/// What a source did, at all or since it was last written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceTally {
    pub accepted: u64,
    pub refused: u64,
    pub last_accepted: Option<UnixMs>,
    pub last_refused: Option<UnixMs>,
    pub last_refusal: Option<String>,
}

impl SourceTally {
    /// Adds what came later.
    pub fn add(&mut self, later: &SourceTally) {
        self.accepted += later.accepted;
        self.refused += later.refused;
        self.last_accepted = later.last_accepted.or(self.last_accepted);
        self.last_refused = later.last_refused.or(self.last_refused);
        let last = later.last_refusal.as_ref().or(self.last_refusal.as_ref());
        self.last_refusal = last.cloned();
    }
}

/// A store of a newer program is an error.
pub(super) fn known_version(connection: &Connection) -> Result<(), StoreError> {
    super::known_version(connection, MIGRATIONS).map(drop)
}

/// What each source did as it was last written down.
pub(super) fn tallies(
    connection: &Connection,
) -> Result<BTreeMap<String, SourceTally>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT source, accepted, refused, last_accepted_ms, last_refused_ms, last_refusal
         FROM source ORDER BY source LIMIT 1000",
    )?;
    let rows = statement.query_map([], |row| {
        let tally = SourceTally {
            accepted: row.get::<_, i64>(1)? as u64,
            refused: row.get::<_, i64>(2)? as u64,
            last_accepted: row.get::<_, Option<i64>>(3)?.map(UnixMs),
            last_refused: row.get::<_, Option<i64>>(4)?.map(UnixMs),
            last_refusal: row.get(5)?,
        };
        Ok((row.get(0)?, tally))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When a commit reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before it returns.
    Full,
    /// With the next full one, or whenever the system writes it: for what the hub says again. A
    /// power cut takes such commits back in their order, so that what is left is an older state.
    Later,
}

pub struct EdgeStore {
    pub(super) connection: Connection,
    epoch: Epoch,
    /// How the connection is set.
    sync: Sync,
}

impl EdgeStore {
    /// Opens the store of `box_id`, or creates it with `fresh` as its epoch.
    pub fn open(
        path: &Path,
        options: Options,
        box_id: &BoxId,
        fresh: Epoch,
    ) -> Result<Self, StoreError> {
        let connection = super::open(path, options, PAGE_BYTES, MIGRATIONS)?;
        let transaction = rusqlite::Transaction::new_unchecked(
            &connection,
            rusqlite::TransactionBehavior::Immediate,
        )?;
        let found: Option<String> = transaction
            .query_row("SELECT box_id FROM box", [], |row| row.get(0))
            .optional()?;
        match found {
            None => create(&transaction, box_id, fresh)?,
            Some(found) if found != box_id.as_str() => {
                return Err(StoreError::Foreign {
                    found,
                    wanted: box_id.to_string(),
                });
            }
            Some(_) => {}
        }
        let epoch: i64 = transaction.query_row("SELECT epoch FROM box", [], |row| row.get(0))?;
        transaction.commit()?;
        Ok(Self {
            connection,
            epoch: Epoch(epoch as u64),
            sync: Sync::Full,
        })
    }

    pub fn begin(&mut self, sync: Sync) -> Result<(), StoreError> {
        if self.sync != sync {
            self.connection.execute_batch(match sync {
                Sync::Full => super::synced(),
                Sync::Later => "PRAGMA synchronous = NORMAL",
            })?;
            self.sync = sync;
        }
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Whether the last commit has reached the disk, and with it all before.
    pub fn is_synced(&self) -> bool {
        self.sync == Sync::Full
    }

    /// Brings all commits so far to the disk.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.begin(Sync::Full)?;
        // A commit without a write would not reach the disk.
        self.connection
            .execute("UPDATE box SET epoch = epoch", [])?;
        self.commit()
    }

    pub fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    /// Gives up the transaction.
    pub fn roll_back(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("ROLLBACK")?)
    }

    /// The answer that this key got before, with the digest of what it stood for.
    pub fn find_once(&self, key: &[u8; 16]) -> Result<Option<([u8; 16], String)>, StoreError> {
        let found: Option<(Vec<u8>, String)> = self
            .connection
            .prepare_cached("SELECT digest, answer FROM once WHERE key = ?1")?
            .query_row([key.as_slice()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        found
            .map(|(digest, answer)| {
                Ok((digest.try_into().map_err(|_| StoreError::Damaged)?, answer))
            })
            .transpose()
    }

    pub fn put_once(&mut self, once: OnceKey, answer: &str, at: UnixMs) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO once (key, digest, answer, stored_ms) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![once.key, once.digest, answer, at.0])?;
        Ok(())
    }

    /// Drops at most `rows_max` of the oldest keys beyond `keep`. Returns how many went.
    pub fn trim_once(&mut self, keep: u64, rows_max: u64) -> Result<usize, StoreError> {
        let gone = self
            .connection
            .prepare_cached(
                "DELETE FROM once WHERE number <= (SELECT max(number) FROM once) - ?1
                   AND number < (SELECT min(number) FROM once) + ?2",
            )?
            .execute([keep as i64, rows_max as i64])?;
        Ok(gone)
    }

    pub fn cursor(&self, source: &str) -> Result<Option<String>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT value FROM cursor WHERE source = ?1")?
            .query_row([source], |row| row.get(0))
            .optional()?)
    }

    pub fn set_cursor(&mut self, source: &str, value: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO cursor (source, value) VALUES (?1, ?2)
                 ON CONFLICT (source) DO UPDATE SET value = excluded.value",
            )?
            .execute([source, value])?;
        Ok(())
    }

    /// Counts bytes that the program had written to the disk.
    pub fn add_written(&mut self, now: UnixMs, bytes: u64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO written (day, since_ms, bytes) VALUES (?1, ?2, ?3)
                 ON CONFLICT (day) DO UPDATE SET bytes = bytes + excluded.bytes",
            )?
            .execute([now.day(), now.0, bytes as i64])?;
        Ok(())
    }

    pub fn time_floor(&self) -> Result<UnixMs, StoreError> {
        Ok(UnixMs(self.connection.query_row(
            "SELECT time_floor_ms FROM box",
            [],
            |row| row.get(0),
        )?))
    }

    pub fn raise_time_floor(&mut self, floor: UnixMs) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE box SET time_floor_ms = max(time_floor_ms, ?1)")?
            .execute([floor.0])?;
        Ok(())
    }

    /// What each source did as it was last written down.
    pub fn tallies(&self) -> Result<BTreeMap<String, SourceTally>, StoreError> {
        tallies(&self.connection)
    }

    pub fn add_tally(&mut self, source: &str, tally: &SourceTally) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO source VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (source) DO UPDATE SET
                   accepted = accepted + excluded.accepted,
                   refused = refused + excluded.refused,
                   last_accepted_ms = coalesce(excluded.last_accepted_ms, last_accepted_ms),
                   last_refused_ms = coalesce(excluded.last_refused_ms, last_refused_ms),
                   last_refusal = coalesce(excluded.last_refusal, last_refusal)",
            )?
            .execute(params![
                source,
                tally.accepted as i64,
                tally.refused as i64,
                tally.last_accepted.map(|at| at.0),
                tally.last_refused.map(|at| at.0),
                tally.last_refusal
            ])?;
        Ok(())
    }

    /// Writes an event for the page, keeping the newest thousand.
    pub fn add_event(
        &mut self,
        at: UnixMs,
        level: &str,
        code: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO event (at_ms, level, code, detail) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![at.0, level, code, detail])?;
        self.connection
            .prepare_cached(
                "DELETE FROM event WHERE number <= (SELECT max(number) FROM event) - 1000",
            )?
            .execute([])?;
        Ok(())
    }

    /// Bytes in use and bytes free inside the file.
    pub fn space(&self) -> Result<(u64, u64), StoreError> {
        super::space(&self.connection)
    }

    /// Gives at most `pages` free pages back to the file system. Outside a transaction.
    pub fn vacuum(&mut self, pages: u32) -> Result<(), StoreError> {
        super::vacuum(&self.connection, pages)
    }
}

impl LogStore for EdgeStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn log(&self, lane: Lane) -> Log<'_> {
        log(&self.connection, lane)
    }

    fn begin_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            self.log(lane).begin_again()?;
        }
        self.connection
            .execute("UPDATE box SET epoch = ?1", [epoch.0 as i64])?;
        self.epoch = epoch;
        Ok(())
    }
}

/// The store as it stood at one moment, read beside its owner or while there is none. The owner goes on
/// meanwhile; what it deletes stays readable here.
pub struct EdgeSnapshot {
    connection: Connection,
    epoch: Epoch,
}

impl EdgeSnapshot {
    pub fn open(path: &Path) -> Result<EdgeSnapshot, StoreError> {
        let connection = super::open_read_only(path)?;
        connection.execute_batch("BEGIN")?;
        let epoch: i64 = connection.query_row("SELECT epoch FROM box", [], |row| row.get(0))?;
        Ok(EdgeSnapshot {
            connection,
            epoch: Epoch(epoch as u64),
        })
    }
}

impl LogStore for EdgeSnapshot {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn log(&self, lane: Lane) -> Log<'_> {
        log(&self.connection, lane)
    }

    fn begin_epoch(&mut self, _: Epoch) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }
}

fn create(connection: &Connection, box_id: &BoxId, epoch: Epoch) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO box (one, box_id, epoch, time_floor_ms) VALUES (1, ?1, ?2, 0)",
        params![box_id.as_str(), epoch.0 as i64],
    )?;
    for lane in Lane::ALL {
        log(connection, lane).create()?;
    }
    Ok(())
}

/// A lane's log; its number is the lane's.
pub(super) fn log(connection: &Connection, lane: Lane) -> Log<'_> {
    Log {
        connection,
        tables: &OUTBOX,
        number: lane.index() as i64,
    }
}
