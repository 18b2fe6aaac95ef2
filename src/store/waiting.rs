//! The blocks of the box's store that wait, read beside its owner: for counting what is in them.

use super::edge_status::EdgeView;
use super::log::Block;
use super::{StoreError, edge};
use crate::model::{Chain, Lane, Seq, UnixMs};

/// Which entries of a lane wait: those after `received`, up to `newest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub received: Seq,
    pub newest: Seq,
}

impl EdgeView {
    pub fn waiting(&self, lane: Lane) -> Result<Waiting, StoreError> {
        let facts = self.lane(lane)?;
        Ok(Waiting {
            received: Seq(facts.newest.0 - facts.waiting),
            newest: facts.newest,
        })
    }

    /// Hands the blocks of a lane that end after `after` on, oldest first, until `take` says that it
    /// has enough.
    pub fn blocks(
        &self,
        lane: Lane,
        after: Seq,
        mut take: impl FnMut(&Block<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let log = edge::log(&self.connection, lane);
        let mut statement = self.connection.prepare(
            "SELECT place, entries, stored_ms, raw_bytes, body FROM outbox
             WHERE place BETWEEN ?1 AND ?2 ORDER BY place",
        )?;
        let mut rows = statement.query([log.place(after.next()), log.end()])?;
        while let Some(row) = rows.next()? {
            let block = Block {
                last: Seq(log.seq(row.get(0)?) as u64),
                entries: row.get::<_, i64>(1)? as u64,
                stored: UnixMs(row.get(2)?),
                // Who counts does not verify.
                chain: Chain::ZERO,
                raw_bytes: row.get::<_, i64>(3)? as u64,
                body: row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?,
            };
            if !(1..=block.last.0).contains(&block.entries) {
                return Err(StoreError::Damaged);
            }
            if !take(&block) {
                break;
            }
        }
        Ok(())
    }
}
