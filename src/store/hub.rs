//! The hub's store: what the receiving engine writes. Reading for people is in `hub_view`.

pub mod blobs;
mod boxes;
pub mod compare;
pub mod down;
pub mod feed;
pub mod files;
pub mod keys;
pub mod orders;
pub mod rights;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Options, StoreError, chain_from};
use crate::model::{AgencyCode, BoxId, Capture, Chain, DatasetId, Epoch, Lane, Seq, UnixMs};

/// Records of 500 to 2,000 bytes waste less of 8-KiB pages than of smaller ones.
const PAGE_BYTES: u64 = 8192;
pub(super) const MIGRATIONS: &[&str] = &[
    concat!(
        include_str!("hub.sql"),
        include_str!("hub_feed.sql"),
        include_str!("hub_orders.sql"),
        include_str!("hub_files.sql"),
        include_str!("hub_compare.sql")
    ),
    include_str!("hub_keys.sql"),
];
pub(super) const LOG_SHIFT: u32 = 40;

/// Whether a box may hand in data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxState {
    Active,
    /// For a time, by the administrator.
    Suspended,
    /// For ever: stolen, broken, replaced.
    Revoked,
}

impl BoxState {
    pub fn as_str(self) -> &'static str {
        match self {
            BoxState::Active => "active",
            BoxState::Suspended => "suspended",
            BoxState::Revoked => "revoked",
        }
    }

    pub(super) fn parse(text: &str) -> Result<BoxState, StoreError> {
        [BoxState::Active, BoxState::Suspended, BoxState::Revoked]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(StoreError::Damaged)
    }
}

/// What the engine needs to know of a box.
#[derive(Debug, Clone)]
pub struct BoxKey {
    pub state: BoxState,
    pub public_key: Vec<u8>,
    /// Keys that the box may use from now on, and has not used yet.
    pub offered: Vec<Vec<u8>>,
}

/// A box as it is registered.
#[derive(Debug, Clone)]
pub struct NewBox<'a> {
    pub box_id: &'a BoxId,
    pub agency: &'a AgencyCode,
    pub public_key: &'a [u8; 65],
    pub serial: &'a str,
    pub not_after: UnixMs,
}

/// Where a log stands here.
#[derive(Debug, Clone, Copy)]
pub struct LogState {
    pub log: i64,
    /// Orders what was captured under different epochs: the first log of this one's epoch.
    pub life: i64,
    pub applied: Seq,
    pub chain: Chain,
    pub max_capture: Capture,
}

/// A batch's evidence and what of it is new.
#[derive(Debug)]
pub struct BatchRow<'a> {
    pub first: Seq,
    pub last: Seq,
    pub oldest: Seq,
    pub base: Chain,
    pub signature: &'a [u8; 64],
    pub first_new: Seq,
}

/// An entry to be added.
#[derive(Debug)]
pub struct EntryRow<'a> {
    pub seq: Seq,
    pub capture: Capture,
    pub dataset: Option<i64>,
    pub entry: &'a [u8],
    /// Place of the same entry in another log, whose bytes serve for both.
    pub same_as: Option<i64>,
}

/// What a log grew by.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    pub applied: Seq,
    pub chain: Chain,
    pub max_capture: Capture,
    pub entries: u64,
    pub doubles: u64,
    pub bytes: u64,
}

/// One record for the present state.
#[derive(Debug)]
pub struct StateRow<'a> {
    pub dataset: i64,
    pub agency: &'a AgencyCode,
    pub subject: &'a str,
    pub life: i64,
    pub capture: Capture,
    pub place: i64,
    pub deleted: bool,
}

pub struct HubStore {
    pub(super) connection: Connection,
    /// Something was ordered to be sent down.
    has_posted: bool,
}

impl HubStore {
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        Ok(Self {
            connection: super::open(path, options, PAGE_BYTES, MIGRATIONS)?,
            has_posted: false,
        })
    }

    pub fn begin(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    /// Gives up the transaction.
    pub fn roll_back(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("ROLLBACK")?)
    }

    // === Logs ===

    pub fn log(
        &self,
        box_id: &BoxId,
        lane: Lane,
        epoch: Epoch,
    ) -> Result<Option<LogState>, StoreError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT log, life, applied, chain, max_capture FROM log
                 WHERE box_id = ?1 AND lane = ?2 AND epoch = ?3",
            )?
            .query_row(
                params![box_id.as_str(), lane.index() as i64, epoch.0 as i64],
                log_row,
            )
            .optional()?;
        found.map(log_state).transpose()
    }

    /// The logs of this lane under the box's other epochs.
    pub fn sibling_logs(
        &self,
        box_id: &BoxId,
        lane: Lane,
        epoch: Epoch,
    ) -> Result<Vec<LogState>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT log, life, applied, chain, max_capture FROM log
             WHERE box_id = ?1 AND lane = ?2 AND epoch <> ?3",
        )?;
        let rows = statement.query_map(
            params![box_id.as_str(), lane.index() as i64, epoch.0 as i64],
            log_row,
        )?;
        rows.map(|row| log_state(row?)).collect()
    }

    /// The boxes that may hand in data.
    pub fn active_boxes(&self) -> Result<Vec<BoxId>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT box_id FROM box WHERE state = 'active' ORDER BY box_id")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| row?.parse().map_err(|_| StoreError::Damaged))
            .collect()
    }

    /// Creates the log, which must not exist, with nothing committed.
    pub fn create_log(
        &mut self,
        box_id: &BoxId,
        lane: Lane,
        epoch: Epoch,
        begin: Seq,
        at: UnixMs,
    ) -> Result<LogState, StoreError> {
        let (log, life) = self.connection.query_row(
            "INSERT INTO log (log, box_id, epoch, lane, life, begin, applied, chain, max_capture,
               entries, doubles, bytes, first_ms, last_ms)
             SELECT next, ?1, ?2, ?3,
               coalesce((SELECT min(log) FROM log WHERE box_id = ?1 AND epoch = ?2), next),
               ?4, 0, ?5, 0, 0, 0, 0, ?6, ?6
             FROM (SELECT coalesce(max(log), 0) + 1 AS next FROM log)
             RETURNING log, life",
            params![
                box_id.as_str(),
                epoch.0 as i64,
                lane.index() as i64,
                begin.0 as i64,
                Chain::ZERO.0,
                at.0
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(LogState {
            log,
            life,
            applied: Seq::ZERO,
            chain: Chain::ZERO,
            max_capture: Capture(0),
        })
    }

    pub fn grow_log(&mut self, log: i64, growth: Growth, at: UnixMs) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE log SET applied = ?2, chain = ?3, max_capture = max(max_capture, ?4),
                   entries = entries + ?5, doubles = doubles + ?6, bytes = bytes + ?7, last_ms = ?8
                 WHERE log = ?1",
            )?
            .execute(params![
                log,
                growth.applied.0 as i64,
                growth.chain.0,
                growth.max_capture.0 as i64,
                growth.entries as i64,
                growth.doubles as i64,
                growth.bytes as i64,
                at.0
            ])?;
        Ok(())
    }

    pub fn add_batch(
        &mut self,
        log: i64,
        batch: &BatchRow<'_>,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO batch (place, first, last, oldest, base, signature, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                place(log, batch.first_new),
                batch.first.0 as i64,
                batch.last.0 as i64,
                batch.oldest.0 as i64,
                batch.base.0,
                batch.signature,
                at.0
            ])?;
        Ok(())
    }

    /// Returns the entry's place.
    pub fn add_entry(&mut self, log: i64, row: &EntryRow<'_>) -> Result<i64, StoreError> {
        let place = place(log, row.seq);
        let bytes = row.same_as.is_none().then_some(row.entry);
        self.connection
            .prepare_cached(
                "INSERT INTO entry (place, capture, dataset, entry, same_as) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![place, row.capture.0 as i64, row.dataset, bytes, row.same_as])?;
        Ok(place)
    }

    /// Place of the entry with this capture number and these very bytes in another log.
    pub fn find_same(
        &self,
        log: &LogState,
        capture: Capture,
        entry: &[u8],
    ) -> Result<Option<i64>, StoreError> {
        if log.max_capture < capture {
            return Ok(None);
        }
        let end = place(log.log, log.applied);
        let first = first_of_capture(&self.connection, log.log, log.applied, capture)?;
        let found: Option<(i64, Option<i64>, bool)> = self
            .connection
            .prepare_cached(
                "SELECT place, same_as, capture = ?3 AND ?4 = coalesce(entry,
                     (SELECT first.entry FROM entry AS first WHERE first.place = entry.same_as))
                 FROM entry WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT 1",
            )?
            .query_row(params![first, end, capture.0 as i64, entry], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        Ok(found.and_then(|(place, same_as, same)| same.then_some(same_as.unwrap_or(place))))
    }

    pub fn dataset_number(&mut self, dataset: &DatasetId) -> Result<i64, StoreError> {
        let find = "SELECT dataset FROM dataset WHERE name = ?1";
        let found = self
            .connection
            .prepare_cached(find)?
            .query_row([dataset.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(number) = found {
            return Ok(number);
        }
        self.connection
            .execute("INSERT INTO dataset (name) VALUES (?1)", [dataset.as_str()])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Sets the subject's present state, unless what is there was captured later; false then.
    ///
    /// Within a life captures are in order. A later life stands for a box that was set back, or that
    /// took another's place, and goes before an earlier one; when an earlier life of the same box
    /// speaks again, two machines run as this box, and whoever spoke last is right.
    pub fn put_state(
        &mut self,
        row: &StateRow<'_>,
        late_overwrites: bool,
    ) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO state (dataset, agency, subject, life, capture, place, deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (dataset, agency, subject) DO UPDATE SET
               life = excluded.life, capture = excluded.capture,
               place = excluded.place, deleted = excluded.deleted
             WHERE ?8 OR state.life < excluded.life
               OR state.life = excluded.life AND state.capture < excluded.capture
               OR state.life > excluded.life
                 AND (SELECT box_id FROM log WHERE log.log = state.life)
                   = (SELECT box_id FROM log WHERE log.log = excluded.life)",
        )?;
        let changed = statement.execute(params![
            row.dataset,
            row.agency.as_str(),
            row.subject,
            row.life,
            row.capture.0 as i64,
            row.place,
            row.deleted,
            late_overwrites
        ])?;
        Ok(changed == 1)
    }

    /// An entry that is here already came again in a later life: as part of that life's history it
    /// takes its place among the captures of it. It overwrites nothing of other lives.
    pub fn renew_state(&mut self, row: &StateRow<'_>) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "UPDATE state SET life = ?4, capture = ?5, place = ?6, deleted = ?7
             WHERE dataset = ?1 AND agency = ?2 AND subject = ?3
               AND (life = ?4 AND capture < ?5 OR life < ?4 AND place = ?6)",
        )?;
        let changed = statement.execute(params![
            row.dataset,
            row.agency.as_str(),
            row.subject,
            row.life,
            row.capture.0 as i64,
            row.place,
            row.deleted
        ])?;
        Ok(changed == 1)
    }

    // === What went wrong ===

    pub fn add_gap(
        &mut self,
        box_id: &BoxId,
        lane: Lane,
        epoch: Epoch,
        range: (Seq, Seq),
        reason: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO gap (box_id, epoch, lane, first, last, reason, noted_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                box_id.as_str(),
                epoch.0 as i64,
                lane.index() as i64,
                range.0.0 as i64,
                range.1.0 as i64,
                reason,
                at.0
            ],
        )?;
        Ok(())
    }

    pub fn park(
        &mut self,
        place: i64,
        reason: &str,
        detail: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO parked (place, reason, detail, parked_ms) VALUES (?1, ?2, ?3, ?4)",
            params![place, reason, detail, at.0],
        )?;
        Ok(())
    }

    pub fn count_refusal(
        &mut self,
        box_id: &BoxId,
        code: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO refusal (box_id, code, count, first_ms, last_ms) VALUES (?1, ?2, 1, ?3, ?3)
                 ON CONFLICT (box_id, code) DO UPDATE SET count = count + 1, last_ms = excluded.last_ms",
            )?
            .execute(params![box_id.as_str(), code, at.0])?;
        Ok(())
    }
}

type RawLog = (i64, i64, i64, Vec<u8>, i64);

fn log_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RawLog> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
    ))
}

fn log_state((log, life, applied, chain, max_capture): RawLog) -> Result<LogState, StoreError> {
    Ok(LogState {
        log,
        life,
        applied: Seq(applied as u64),
        chain: chain_from(chain)?,
        max_capture: Capture(max_capture as u64),
    })
}

/// Place of the first entry of a log with this capture number or a higher one, found by bisection:
/// within a log capture numbers rise with the entries' numbers.
pub(super) fn first_of_capture(
    connection: &Connection,
    log: i64,
    applied: Seq,
    capture: Capture,
) -> Result<i64, StoreError> {
    let mut at_or_after = connection.prepare_cached(
        "SELECT place, capture FROM entry WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT 1",
    )?;
    let end = place(log, applied);
    let (mut low, mut high) = (place(log, Seq(1)), end + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, i64)> = at_or_after
            .query_row([middle, end], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((place, number)) if (number as u64) < capture.0 => low = place + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

pub(super) fn place(log: i64, seq: Seq) -> i64 {
    (log << LOG_SHIFT) + seq.0 as i64
}

/// The log and the number that a place stands for.
pub(super) fn unplace(place: i64) -> (i64, Seq) {
    (
        place >> LOG_SHIFT,
        Seq((place & ((1 << LOG_SHIFT) - 1)) as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One subject's records, each as (box, epoch, capture): which one is the present state?
    fn last_of(records: &[(&str, u64, u64)]) -> usize {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            quota_bytes: 16 << 20,
            cache_bytes: 1 << 20,
        };
        let mut store = HubStore::open(&folder.path().join("hub.db"), options).expect("open");
        let agency: AgencyCode = "H53.01".parse().expect("valid");
        for (number, &(box_id, epoch, capture)) in records.iter().enumerate() {
            let box_id: BoxId = box_id.parse().expect("valid");
            let found = store.log(&box_id, Lane::P2, Epoch(epoch)).expect("read");
            let log = found.unwrap_or_else(|| {
                let at = UnixMs(0);
                let created = store.create_log(&box_id, Lane::P2, Epoch(epoch), Seq(1), at);
                created.expect("written")
            });
            let row = StateRow {
                dataset: 1,
                agency: &agency,
                subject: "mot",
                life: log.life,
                capture: Capture(capture),
                place: place(log.log, Seq(number as u64)),
                deleted: false,
            };
            store.put_state(&row, false).expect("written");
        }
        let state = store
            .connection
            .query_row("SELECT place FROM state", [], |row| row.get(0));
        unplace(state.expect("read")).1.0 as usize
    }

    #[test]
    fn the_present_state_is_what_was_captured_last() {
        assert_eq!(last_of(&[("a", 1, 5), ("a", 1, 9), ("a", 1, 7)]), 1);
        // The box was set back: its numbers begin anew.
        assert_eq!(last_of(&[("a", 1, 90), ("a", 2, 7), ("a", 2, 6)]), 1);
        // The box was replaced; what the old one still brings is older.
        assert_eq!(last_of(&[("a", 1, 90), ("b", 3, 2), ("a", 1, 91)]), 1);
        // Two machines run as this box: whoever spoke last.
        assert_eq!(last_of(&[("a", 1, 90), ("a", 2, 91), ("a", 1, 95)]), 2);
    }
}
