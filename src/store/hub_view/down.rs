//! What waits to go down to each box: entries by lane, loads of datasets, documents that found nobody.

use rusqlite::Row;

use super::{Snapshot, number, parsed};
use crate::model::{BoxId, DatasetId, Lane, UnixMs};
use crate::store::StoreError;

#[derive(Debug, Clone)]
pub struct DownRow {
    pub box_id: BoxId,
    /// P0 to P4.
    pub lanes: Vec<DownLaneRow>,
    /// Why the box's copies are to be loaded again.
    pub reload: Option<String>,
    /// Entries that were dropped before the box had them.
    pub dropped: u64,
}

#[derive(Debug, Clone)]
pub struct DownLaneRow {
    pub lane: Lane,
    /// Entries without the box's receipt, and the bytes they take.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// When the oldest of them was ordered.
    pub oldest: Option<UnixMs>,
    pub receipt_at: Option<UnixMs>,
}

/// How far the load of a dataset's copy is.
#[derive(Debug, Clone)]
pub struct LoadRow {
    pub box_id: BoxId,
    pub dataset: DatasetId,
    /// Of the dataset, when the load began.
    pub subjects: u64,
    /// Of these, looked at until now.
    pub seen: u64,
    pub done: bool,
}

/// Documents of a box that found no office, and when the first of them came.
#[derive(Debug, Clone)]
pub struct UndeliveredRow {
    pub box_id: BoxId,
    pub reason: String,
    pub count: u64,
    pub oldest: UnixMs,
}

impl Snapshot<'_> {
    /// By box; boxes to which nothing was ever sent are left out.
    pub fn downs(&self) -> Result<Vec<DownRow>, StoreError> {
        let lanes = self.rows(
            "SELECT box.box_id, box.reload_why,
               (SELECT coalesce(sum(last - first + 1), 0) FROM down_gap
                WHERE down_gap.number = box.number),
               lane.log & 7, lane.newest - lane.gone, lane.newest_sum - lane.gone_sum,
               lane.oldest_ms, lane.receipt_ms
             FROM down_box AS box JOIN (
               SELECT log, receipt_ms, max(acked, tail) AS gone, max(acked_sum, tail_sum) AS gone_sum,
                 coalesce((SELECT place & ((1 << 40) - 1) FROM down
                   WHERE place BETWEEN (log << 40) AND ((log + 1) << 40) - 1
                   ORDER BY place DESC LIMIT 1), max(acked, tail)) AS newest,
                 coalesce((SELECT sum FROM down
                   WHERE place BETWEEN (log << 40) AND ((log + 1) << 40) - 1
                   ORDER BY place DESC LIMIT 1), max(acked_sum, tail_sum)) AS newest_sum,
                 (SELECT stored_ms FROM down
                   WHERE place BETWEEN (log << 40) + max(acked, tail) + 1 AND ((log + 1) << 40) - 1
                   ORDER BY place LIMIT 1) AS oldest_ms
               FROM down_lane) AS lane ON lane.log >> 3 = box.number
             ORDER BY box.box_id, lane.log",
            down_lane,
        )?;
        let mut downs: Vec<DownRow> = Vec::new();
        for mut one in lanes {
            match downs.last_mut() {
                Some(last) if last.box_id == one.box_id => last.lanes.append(&mut one.lanes),
                _ => downs.push(one),
            }
        }
        Ok(downs)
    }

    /// By box and dataset.
    pub fn loads(&self) -> Result<Vec<LoadRow>, StoreError> {
        self.rows(
            "SELECT box_id, dataset, subjects, seen, done FROM subscription
             ORDER BY box_id, dataset",
            |row| {
                Ok(LoadRow {
                    box_id: parsed(row, 0)?,
                    dataset: parsed(row, 1)?,
                    subjects: number(row, 2)?,
                    seen: number(row, 3)?,
                    done: row.get(4)?,
                })
            },
        )
    }

    /// By the sender's box and the reason.
    pub fn undelivered_counts(&self) -> Result<Vec<UndeliveredRow>, StoreError> {
        self.rows(
            "SELECT log.box_id, reason, count(*), min(noted_ms)
             FROM undelivered JOIN log ON log.log = place >> 40
             GROUP BY log.box_id, reason ORDER BY log.box_id, reason",
            |row| {
                Ok(UndeliveredRow {
                    box_id: parsed(row, 0)?,
                    reason: row.get(1)?,
                    count: number(row, 2)?,
                    oldest: UnixMs(row.get(3)?),
                })
            },
        )
    }
}

/// A box with one of its lanes.
fn down_lane(row: &Row<'_>) -> Result<DownRow, StoreError> {
    let lane = Lane::from_index(number(row, 3)?).ok_or(StoreError::Damaged)?;
    Ok(DownRow {
        box_id: parsed(row, 0)?,
        reload: row.get(1)?,
        dropped: number(row, 2)?,
        lanes: vec![DownLaneRow {
            lane,
            waiting: number(row, 4)?,
            waiting_bytes: number(row, 5)?,
            oldest: row.get::<_, Option<i64>>(6)?.map(UnixMs),
            receipt_at: row.get::<_, Option<i64>>(7)?.map(UnixMs),
        }],
    })
}
