//! Comparisons with the boxes: how far each is, and how the last one has ended; and the entries and
//! signed places of a log from which its chain at a number is found.

use rusqlite::{Connection, OptionalExtension, params};

use super::{HubStore, place};
use crate::model::{BoxId, Chain, Seq, UnixMs};
use crate::store::hub_view::Snapshot;
use crate::store::{StoreError, chain_from};

/// How a comparison has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparisonRow {
    pub box_id: BoxId,
    /// A dataset, or [`crate::model::compare::LOGS`].
    pub dataset: String,
    pub ended: UnixMs,
    pub result: String,
    pub buckets: u64,
    pub subjects: u64,
    pub detail: String,
}

/// How comparisons stand, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparisonState {
    pub box_id: BoxId,
    pub dataset: String,
    pub goes_on: bool,
    pub last: Option<ComparisonRow>,
}

impl HubStore {
    /// Those that go on: box, dataset, and how far they are.
    pub fn comparisons_at_work(&self) -> Result<Vec<(BoxId, String, String)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT box_id, dataset, work FROM comparison WHERE work IS NOT NULL",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
        })?;
        rows.map(|row| {
            let (box_id, dataset, work) = row?;
            Ok((box_in(box_id)?, dataset, work))
        })
        .collect()
    }

    pub fn put_comparison(
        &mut self,
        box_id: &BoxId,
        dataset: &str,
        work: &str,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO comparison (box_id, dataset, work) VALUES (?1, ?2, ?3)
                 ON CONFLICT (box_id, dataset) DO UPDATE SET work = excluded.work",
            )?
            .execute(params![box_id.as_str(), dataset, work])?;
        Ok(())
    }

    pub fn end_comparison(&mut self, row: &ComparisonRow) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO comparison
                   (box_id, dataset, work, ended_ms, result, buckets, subjects, detail)
                 VALUES (?1, ?2, NULL, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                row.box_id.as_str(),
                row.dataset,
                row.ended.0,
                row.result,
                row.buckets as i64,
                row.subjects as i64,
                row.detail
            ])?;
        Ok(())
    }

    /// There is nothing to compare any more.
    pub fn drop_comparison(&mut self, box_id: &BoxId, dataset: &str) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM comparison WHERE box_id = ?1 AND dataset = ?2",
            [box_id.as_str(), dataset],
        )?;
        Ok(())
    }

    pub fn comparison_ended(
        &self,
        box_id: &BoxId,
        dataset: &str,
    ) -> Result<Option<UnixMs>, StoreError> {
        let ended: Option<Option<i64>> = self
            .connection
            .prepare_cached("SELECT ended_ms FROM comparison WHERE box_id = ?1 AND dataset = ?2")?
            .query_row([box_id.as_str(), dataset], |row| row.get(0))
            .optional()?;
        Ok(ended.flatten().map(UnixMs))
    }

    // === Chains ===

    /// Of the batch in which a number lies: its first number, and the chain before that.
    pub fn signed_before(&self, log: i64, seq: Seq) -> Result<Option<(Seq, Chain)>, StoreError> {
        let found: Option<(i64, i64, Vec<u8>)> = self
            .connection
            .prepare_cached(
                "SELECT first, last, base FROM batch WHERE place BETWEEN ?1 AND ?2
                 ORDER BY place DESC LIMIT 1",
            )?
            .query_row([place(log, Seq(1)), place(log, seq)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((first, last, base)) = found else {
            return Ok(None);
        };
        let is_within = (first as u64..=last as u64).contains(&seq.0);
        is_within
            .then(|| Ok((Seq(first as u64), chain_from(base)?)))
            .transpose()
    }

    /// Visits the entries of a log in their order; gives how many there were.
    pub fn for_each_entry(
        &self,
        log: i64,
        (first, last): (Seq, Seq),
        mut visit: impl FnMut(&[u8]),
    ) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT coalesce(entry, (SELECT first.entry FROM entry AS first
               WHERE first.place = entry.same_as))
             FROM entry WHERE place BETWEEN ?1 AND ?2 ORDER BY place",
        )?;
        let mut rows = statement.query([place(log, first), place(log, last)])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            visit(bytes);
            count += 1;
        }
        Ok(count)
    }
}

impl Snapshot<'_> {
    /// By box and dataset.
    pub fn comparisons(&self) -> Result<Vec<ComparisonState>, StoreError> {
        comparisons(self.connection())
    }
}

fn comparisons(connection: &Connection) -> Result<Vec<ComparisonState>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT box_id, dataset, work IS NOT NULL, ended_ms, result, buckets, subjects, detail
         FROM comparison ORDER BY box_id, dataset",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let box_id = box_in(row.get(0)?)?;
        let dataset: String = row.get(1)?;
        let ended: Option<i64> = row.get(3)?;
        let last = match ended {
            None => None,
            Some(ended) => Some(ComparisonRow {
                box_id: box_id.clone(),
                dataset: dataset.clone(),
                ended: UnixMs(ended),
                result: row.get(4)?,
                buckets: row.get::<_, i64>(5)? as u64,
                subjects: row.get::<_, i64>(6)? as u64,
                detail: row.get(7)?,
            }),
        };
        found.push(ComparisonState {
            box_id,
            dataset,
            goes_on: row.get(2)?,
            last,
        });
    }
    Ok(found)
}

fn box_in(text: String) -> Result<BoxId, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged)
}
