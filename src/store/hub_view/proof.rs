//! What is verified: entries, signed batches and the present state, as they are kept.

use rusqlite::{Row, params};

use super::{LogRow, Snapshot, blob, end_of_log, get, number, parsed, seq_of, text};
use crate::model::{AgencyCode, BoxId, Capture, Chain, Seq};
use crate::store::hub::{first_of_capture, place, unplace};
use crate::store::{StoreError, chain_from};

/// A batch as it was signed, and the first of its numbers that was new.
#[derive(Debug, Clone)]
pub struct SignedBatch {
    pub first_new: Seq,
    pub first: Seq,
    pub last: Seq,
    pub oldest: Seq,
    pub base: Chain,
    pub signature: [u8; 64],
}

/// An entry as it is kept.
#[derive(Debug)]
pub struct KeptEntry<'a> {
    pub seq: Seq,
    pub place: i64,
    pub capture: Capture,
    /// Number of its dataset.
    pub dataset: Option<i64>,
    /// Its own bytes, or those of the entry that it repeats; none when that one is gone.
    pub bytes: Option<&'a [u8]>,
    pub is_double: bool,
    pub is_parked: bool,
}

/// A subject's present state and the bytes of the entry that it points to.
#[derive(Debug)]
pub struct PresentState<'a> {
    pub dataset: i64,
    pub agency: &'a str,
    pub subject: &'a str,
    pub order: Order,
    pub deleted: bool,
    pub bytes: Option<&'a [u8]>,
}

/// When a subject's present state was captured, and the entry that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub life: i64,
    pub capture: Capture,
    pub place: i64,
}

impl Snapshot<'_> {
    pub fn for_each_entry<E: From<StoreError>>(
        &self,
        log: i64,
        mut each: impl FnMut(KeptEntry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each(
            "SELECT entry.place, entry.capture, entry.dataset, coalesce(entry.entry, first.entry),
               entry.same_as IS NOT NULL, parked.place IS NOT NULL
             FROM entry LEFT JOIN entry AS first ON first.place = entry.same_as
             LEFT JOIN parked ON parked.place = entry.place
             WHERE entry.place BETWEEN ?1 AND ?2 ORDER BY entry.place",
            params![place(log, Seq(0)), end_of_log(log)],
            |row| {
                let place = get(row, 0)?;
                each(KeptEntry {
                    seq: seq_of(place),
                    place,
                    capture: Capture(number(row, 1)?),
                    dataset: get(row, 2)?,
                    bytes: blob(row, 3)?,
                    is_double: get(row, 4)?,
                    is_parked: get(row, 5)?,
                })
            },
        )
    }

    /// The first batch of the log whose first new number is `from` or later.
    pub fn batch_from(&self, log: i64, from: Seq) -> Result<Option<SignedBatch>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT place, first, last, oldest, base, signature FROM batch
             WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT 1",
        )?;
        let mut rows = statement.query(params![place(log, from), end_of_log(log)])?;
        rows.next()?
            .map(|row| {
                let signature: Vec<u8> = row.get(5)?;
                Ok(SignedBatch {
                    first_new: seq_of(row.get(0)?),
                    first: Seq(number(row, 1)?),
                    last: Seq(number(row, 2)?),
                    oldest: Seq(number(row, 3)?),
                    base: chain_from(row.get(4)?)?,
                    signature: signature.try_into().map_err(|_| StoreError::Damaged)?,
                })
            })
            .transpose()
    }

    pub fn state_order(
        &self,
        dataset: i64,
        agency: &AgencyCode,
        subject: &str,
    ) -> Result<Option<Order>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT life, capture, place FROM state
             WHERE dataset = ?1 AND agency = ?2 AND subject = ?3",
        )?;
        let mut rows = statement.query(params![dataset, agency.as_str(), subject])?;
        rows.next()?.map(|row| order(row, 0)).transpose()
    }

    pub fn for_each_state<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(PresentState<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each(
            "SELECT state.life, state.capture, state.place, state.dataset, agency, subject, deleted,
               entry.entry
             FROM state LEFT JOIN entry ON entry.place = state.place
             ORDER BY state.dataset, agency, subject",
            [],
            |row| {
                each(PresentState {
                    order: order(row, 0)?,
                    dataset: get(row, 3)?,
                    agency: text(row, 4)?,
                    subject: text(row, 5)?,
                    deleted: get(row, 6)?,
                    bytes: blob(row, 7)?,
                })
            },
        )
    }

    /// Whether the log holds a repeat of the entry at `original`, which has this capture number.
    pub fn is_repeat(
        &self,
        log: &LogRow,
        capture: Capture,
        original: i64,
    ) -> Result<bool, StoreError> {
        let first = first_of_capture(&self.transaction, log.log, log.applied, capture)?;
        let sql = "SELECT capture = ?3 AND same_as IS ?4 FROM entry
                   WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT 1";
        let end = place(log.log, log.applied);
        let found = self.optional(sql, params![first, end, capture.0 as i64, original])?;
        Ok(found.unwrap_or(false))
    }

    /// Every agency that a box has stood for.
    pub fn agencies(&self) -> Result<Vec<(BoxId, AgencyCode)>, StoreError> {
        self.rows(
            "SELECT box_id, agency FROM box_agency ORDER BY box_id, agency",
            |row| Ok((parsed(row, 0)?, parsed(row, 1)?)),
        )
    }

    /// Whether a batch of the log was received, by the hub's clock, before the one before it.
    pub fn went_back_in_time(&self, log: i64) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM (
                     SELECT received_ms, lag(received_ms) OVER (ORDER BY place) AS before_ms
                     FROM batch WHERE place BETWEEN ?1 AND ?2)
                   WHERE received_ms < before_ms LIMIT 1";
        let found: Option<i64> =
            self.optional(sql, params![place(log, Seq::ZERO), end_of_log(log)])?;
        Ok(found.is_some())
    }

    /// The first entry or batch whose log is not written down.
    pub fn first_orphan(&self) -> Result<Option<i64>, StoreError> {
        let mut from = 0;
        loop {
            let next: Option<i64> = self.optional(
                "SELECT min(place) FROM (
                   SELECT min(place) AS place FROM entry WHERE ?1 <= place
                   UNION ALL SELECT min(place) FROM batch WHERE ?1 <= place)
                 WHERE place IS NOT NULL HAVING min(place) IS NOT NULL",
                [from],
            )?;
            let Some(found) = next else { return Ok(None) };
            let (log, _) = unplace(found);
            let known: Option<i64> = self.optional("SELECT 1 FROM log WHERE log = ?1", [log])?;
            if known.is_none() {
                return Ok(Some(found));
            }
            from = end_of_log(log) + 1;
        }
    }
}

fn order(row: &Row<'_>, index: usize) -> Result<Order, StoreError> {
    Ok(Order {
        life: row.get(index)?,
        capture: Capture(number(row, index + 1)?),
        place: row.get(index + 2)?,
    })
}
