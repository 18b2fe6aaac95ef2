//! What waits to go down to each box.

use super::{Snapshot, number, parsed};
use crate::model::{BoxId, UnixMs};
use crate::store::StoreError;

#[derive(Debug, Clone)]
pub struct DownRow {
    pub box_id: BoxId,
    /// Entries without the box's receipt, and the bytes they take.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// When the oldest of them was ordered.
    pub oldest: Option<UnixMs>,
    pub receipt_at: Option<UnixMs>,
    /// Why the box's copies are to be loaded again.
    pub reload: Option<String>,
    /// Entries that were dropped before the box had them.
    pub dropped: u64,
}

impl Snapshot<'_> {
    /// By box; boxes to which nothing was ever sent are left out.
    pub fn downs(&self) -> Result<Vec<DownRow>, StoreError> {
        self.rows(
            "SELECT box.box_id, sum(lane.newest - lane.gone), sum(lane.newest_sum - lane.gone_sum),
               min(lane.oldest_ms), max(lane.receipt_ms), box.reload_why,
               (SELECT coalesce(sum(last - first + 1), 0) FROM down_gap
                WHERE down_gap.number = box.number)
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
             GROUP BY box.number ORDER BY box.box_id",
            |row| {
                Ok(DownRow {
                    box_id: parsed(row, 0)?,
                    waiting: number(row, 1)?,
                    waiting_bytes: number(row, 2)?,
                    oldest: row.get::<_, Option<i64>>(3)?.map(UnixMs),
                    receipt_at: row.get::<_, Option<i64>>(4)?.map(UnixMs),
                    reload: row.get(5)?,
                    dropped: number(row, 6)?,
                })
            },
        )
    }
}
