//! What the hub's outputs read: entries of a log from a number on, in slices, and the present state
//! of single subjects.

use rusqlite::{OptionalExtension, params};

use super::{HubView, LogRow, Snapshot, blob, get, number, seq_of};
use crate::model::{AgencyCode, Capture, Seq, UnixMs};
use crate::store::StoreError;
use crate::store::hub::place;

/// An entry that may be delivered: neither a double nor parked.
#[derive(Debug, Clone)]
pub struct FeedEntry {
    pub seq: Seq,
    pub capture: Capture,
    pub bytes: Vec<u8>,
}

/// A piece of a log.
#[derive(Debug, Default)]
pub struct Slice {
    pub entries: Vec<FeedEntry>,
    /// Number up to which the log was looked at.
    pub seen: Seq,
}

/// How much of a log is read at once.
#[derive(Debug, Clone, Copy)]
pub struct SliceLimits {
    /// Numbers that are looked at.
    pub numbers: u64,
    pub entries: usize,
    pub bytes: usize,
}

/// A subject's present state.
#[derive(Debug)]
pub struct Present {
    pub life: i64,
    pub capture: Capture,
    pub deleted: bool,
    /// The log that its entry stands in.
    pub log: i64,
    pub bytes: Vec<u8>,
}

impl HubView {
    /// Changes when the hub has committed something.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        crate::store::data_version(&self.connection)
    }
}

impl Snapshot<'_> {
    /// Entries of these datasets after a number, in their order.
    pub fn slice(
        &self,
        log: &LogRow,
        after: Seq,
        datasets: &[i64],
        limits: SliceLimits,
    ) -> Result<Slice, StoreError> {
        let last = log.applied.min(after.plus(limits.numbers));
        let mut slice = Slice {
            entries: Vec::new(),
            seen: last,
        };
        let mut statement = self.transaction.prepare_cached(
            "SELECT place, capture, entry FROM entry
             WHERE place BETWEEN ?1 AND ?2 AND entry IS NOT NULL
               AND dataset IN (SELECT value FROM json_each(?3))
               AND NOT EXISTS (SELECT 1 FROM parked WHERE parked.place = entry.place)
             ORDER BY place",
        )?;
        let wanted = serde_json::to_string(datasets).expect("numbers are JSON");
        let (first, end) = (place(log.log, after.next()), place(log.log, last));
        let mut rows = statement.query(params![first, end, wanted])?;
        let mut bytes_sum = 0;
        while let Some(row) = rows.next()? {
            let bytes = blob(row, 2)?.ok_or(StoreError::Damaged)?;
            let full = limits.entries <= slice.entries.len()
                || limits.bytes < bytes_sum + bytes.len() && !slice.entries.is_empty();
            let seq = seq_of(get(row, 0)?);
            if full {
                slice.seen = seq.previous();
                break;
            }
            bytes_sum += bytes.len();
            slice.entries.push(FeedEntry {
                seq,
                capture: Capture(number(row, 1)?),
                bytes: bytes.to_vec(),
            });
        }
        Ok(slice)
    }

    /// The bytes of one entry; none when it is gone.
    pub fn entry(&self, log: i64, seq: Seq) -> Result<Option<Vec<u8>>, StoreError> {
        let found: Option<Option<Vec<u8>>> = self
            .transaction
            .prepare_cached("SELECT entry FROM entry WHERE place = ?1")?
            .query_row([place(log, seq)], |row| row.get(0))
            .optional()?;
        Ok(found.flatten())
    }

    pub fn present(
        &self,
        dataset: i64,
        agency: &AgencyCode,
        subject: &str,
    ) -> Result<Option<Present>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT life, state.capture, deleted, state.place, entry.entry
             FROM state JOIN entry ON entry.place = state.place
             WHERE state.dataset = ?1 AND agency = ?2 AND subject = ?3",
        )?;
        let mut rows = statement.query(params![dataset, agency.as_str(), subject])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(Present {
            life: get(row, 0)?,
            capture: Capture(number(row, 1)?),
            deleted: get(row, 2)?,
            log: super::log_of(get(row, 3)?),
            bytes: blob(row, 4)?.ok_or(StoreError::Damaged)?.to_vec(),
        }))
    }

    /// How many entries of these datasets follow a number, looked for among so many numbers.
    pub fn count_after(
        &self,
        log: &LogRow,
        after: Seq,
        datasets: &[i64],
        numbers: u64,
    ) -> Result<u64, StoreError> {
        let last = log.applied.min(after.plus(numbers));
        let wanted = serde_json::to_string(datasets).expect("numbers are JSON");
        let (first, end) = (place(log.log, after.next()), place(log.log, last));
        let count: i64 = self
            .transaction
            .prepare_cached(
                "SELECT count(*) FROM entry WHERE place BETWEEN ?1 AND ?2 AND entry IS NOT NULL
                   AND dataset IN (SELECT value FROM json_each(?3))",
            )?
            .query_row(params![first, end, wanted], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// When the entry of this number, or the next one, reached the hub.
    pub fn received(&self, log: i64, seq: Seq) -> Result<Option<UnixMs>, StoreError> {
        let found: Option<i64> = self
            .transaction
            .prepare_cached(
                "SELECT received_ms FROM batch WHERE place <= ?1 ORDER BY place DESC LIMIT 1",
            )?
            .query_row([place(log, seq)], |row| row.get(0))
            .optional()?;
        Ok(found.map(UnixMs))
    }
}
