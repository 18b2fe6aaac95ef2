//! The box's store: outbox, kept tail, repeats, cursors.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::log::{BLOCK_OVERHEAD_BYTES, Block, LaneState, Mark};
use super::{Options, StoreError, chain_from};
use crate::model::{BoxId, Capture, Chain, Epoch, Lane, Seq, UnixMs};

const MIGRATIONS: &[&str] = &[include_str!("edge.sql")];
/// A lone record costs two pages; a block of many fills its pages anyway.
const PAGE_BYTES: u64 = 4096;
const LANE_SHIFT: u32 = 56;

/// A key that makes a repeat harmless, with the digest of what it stood for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceKey {
    pub key: [u8; 16],
    pub digest: [u8; 16],
}

/// What a source did since the last time it was written down.
#[derive(Debug, Clone, Default)]
pub struct SourceTally {
    pub accepted: u64,
    pub refused: u64,
    pub last_accepted: Option<UnixMs>,
    pub last_refused: Option<UnixMs>,
    pub last_refusal: Option<String>,
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

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn begin(&mut self, sync: Sync) -> Result<(), StoreError> {
        if self.sync != sync {
            self.connection.execute_batch(match sync {
                Sync::Full => "PRAGMA synchronous = FULL",
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

    /// Where a lane stands; reads a constant number of rows, whatever the backlog.
    pub fn lane_state(&self, lane: Lane) -> Result<LaneState, StoreError> {
        let mark = |seq: i64, chain: Vec<u8>, sum: i64| {
            Ok::<_, StoreError>(Mark {
                seq: Seq(seq as u64),
                chain: chain_from(chain)?,
                sum_bytes: sum as u64,
            })
        };
        let (tail, acked, capture, begin) = self.connection.query_row(
            "SELECT tail, tail_chain, tail_sum, acked, acked_chain, acked_sum, acked_capture, begin
             FROM lane WHERE lane = ?1",
            [lane.index() as i64],
            |row| {
                Ok((
                    (row.get(0)?, row.get(1)?, row.get(2)?),
                    (row.get(3)?, row.get(4)?, row.get(5)?),
                    row.get::<_, i64>(6)?,
                    row.get::<_, i64>(7)?,
                ))
            },
        )?;
        let acked = mark(acked.0, acked.1, acked.2)?;
        let newest = self
            .connection
            .query_row(
                "SELECT place, chain, sum, capture FROM outbox
                 WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC LIMIT 1",
                [place(lane, Seq::ZERO), place(lane, Seq::MAX)],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get::<_, i64>(3)?,
                    ))
                },
            )
            .optional()?;
        let (newest, newest_capture) = match newest {
            Some((found, chain, sum, capture)) => (mark(seq_in(found), chain, sum)?, capture),
            None => (acked, capture),
        };
        Ok(LaneState {
            begin: Seq(begin as u64),
            tail: mark(tail.0, tail.1, tail.2)?,
            acked,
            newest,
            newest_capture: Capture(newest_capture as u64),
        })
    }

    /// Adds a block at the end of a lane's log, of which `newest` is the end so far. `capture` is
    /// that of the last entry. Returns where the log stands then.
    pub fn append(
        &mut self,
        lane: Lane,
        newest: Mark,
        capture: Capture,
        block: Block<'_>,
    ) -> Result<Mark, StoreError> {
        assert!(block.first() == newest.seq.next());
        let mark = Mark {
            seq: block.last,
            chain: block.chain,
            sum_bytes: newest.sum_bytes + block.body.len() as u64 + BLOCK_OVERHEAD_BYTES,
        };
        self.connection
            .prepare_cached(
                "INSERT INTO outbox
                   (place, entries, capture, stored_ms, sum, chain, raw_bytes, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                place(lane, mark.seq),
                block.entries as i64,
                capture.0 as i64,
                block.stored.0,
                mark.sum_bytes as i64,
                mark.chain.0,
                block.raw_bytes as i64,
                block.body
            ])?;
        Ok(mark)
    }

    /// Reads blocks in order, beginning with the one that holds `first`, until `visit` says false or
    /// fails.
    pub fn read<E: From<StoreError>>(
        &self,
        lane: Lane,
        first: Seq,
        mut visit: impl FnMut(Block<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT place, entries, stored_ms, chain, raw_bytes, body FROM outbox
                 WHERE place BETWEEN ?1 AND ?2 ORDER BY place",
            )
            .map_err(StoreError::from)?;
        let mut rows = statement
            .query([place(lane, first), place(lane, Seq::MAX)])
            .map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            if !visit(block_in(row)?)? {
                break;
            }
        }
        Ok(())
    }

    /// Where the log stood at `seq`, if a block ends there or it is a receipt's or the tail's end.
    pub fn mark_at(&self, lane: Lane, seq: Seq) -> Result<Option<Mark>, StoreError> {
        let found: Option<(Vec<u8>, i64)> = self
            .connection
            .prepare_cached(
                "SELECT chain, sum FROM outbox WHERE place = ?1
                 UNION ALL SELECT acked_chain, acked_sum FROM lane WHERE lane = ?2 AND acked = ?3
                 UNION ALL SELECT tail_chain, tail_sum FROM lane WHERE lane = ?2 AND tail = ?3
                 LIMIT 1",
            )?
            .query_row(
                [place(lane, seq), lane.index() as i64, seq.0 as i64],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        found
            .map(|(chain, sum)| {
                Ok(Mark {
                    seq,
                    chain: chain_from(chain)?,
                    sum_bytes: sum as u64,
                })
            })
            .transpose()
    }

    /// The hub has given its receipt for everything up to `mark`, or was set back to there.
    pub fn set_acked(
        &mut self,
        lane: Lane,
        mark: Mark,
        receipt: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let capture: Option<i64> = self
            .connection
            .prepare_cached("SELECT capture FROM outbox WHERE place = ?1")?
            .query_row([place(lane, mark.seq)], |row| row.get(0))
            .optional()?;
        self.connection
            .prepare_cached(
                "UPDATE lane SET acked = ?2, acked_chain = ?3, acked_sum = ?4,
                   acked_capture = coalesce(?5, acked_capture), receipt = ?6, receipt_ms = ?7
                 WHERE lane = ?1",
            )?
            .execute(params![
                lane.index() as i64,
                mark.seq.0 as i64,
                mark.chain.0,
                mark.sum_bytes as i64,
                capture,
                receipt,
                at.0
            ])?;
        Ok(())
    }

    /// Keeps the last receipt where it says nothing new.
    pub fn note_receipt(
        &mut self,
        lane: Lane,
        receipt: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE lane SET receipt = ?2, receipt_ms = ?3 WHERE lane = ?1")?
            .execute(params![lane.index() as i64, receipt, at.0])?;
        Ok(())
    }

    /// Deletes at most `blocks_max` blocks that have their receipt and lie beyond the kept tail:
    /// older than `keep_since`, or beyond `keep_bytes`. Returns the number of the oldest entry
    /// held, if that changed.
    pub fn trim(
        &mut self,
        lane: Lane,
        keep_since: UnixMs,
        keep_bytes: u64,
        blocks_max: usize,
    ) -> Result<Option<Seq>, StoreError> {
        let state = self.lane_state(lane)?;
        let mut tail = state.tail;
        {
            let mut statement = self.connection.prepare_cached(
                "SELECT place, stored_ms, sum, chain FROM outbox
                 WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3",
            )?;
            let mut rows = statement.query([
                place(lane, state.tail.seq.next()),
                place(lane, state.acked.seq),
                blocks_max as i64,
            ])?;
            while let Some(row) = rows.next()? {
                let too_much = keep_bytes < state.acked.sum_bytes.saturating_sub(tail.sum_bytes);
                if !too_much && keep_since <= UnixMs(row.get(1)?) {
                    break;
                }
                tail = Mark {
                    seq: Seq(seq_in(row.get(0)?) as u64),
                    chain: chain_from(row.get(3)?)?,
                    sum_bytes: row.get::<_, i64>(2)? as u64,
                };
            }
        }
        if tail == state.tail {
            return Ok(None);
        }
        self.connection
            .prepare_cached("DELETE FROM outbox WHERE place BETWEEN ?1 AND ?2")?
            .execute([place(lane, state.tail.seq.next()), place(lane, tail.seq)])?;
        self.connection
            .prepare_cached(
                "UPDATE lane SET tail = ?2, tail_chain = ?3, tail_sum = ?4 WHERE lane = ?1",
            )?
            .execute(params![
                lane.index() as i64,
                tail.seq.0 as i64,
                tail.chain.0,
                tail.sum_bytes as i64
            ])?;
        Ok(Some(tail.seq.next()))
    }

    /// Begins a new epoch with the oldest entry still held: everything held, the kept tail included,
    /// keeps its number and counts as not received.
    pub fn begin_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE lane SET begin = tail + 1, acked = tail, acked_chain = tail_chain,
               acked_sum = tail_sum, receipt = NULL, receipt_ms = NULL",
            [],
        )?;
        self.connection
            .execute("UPDATE box SET epoch = ?1", [epoch.0 as i64])?;
        self.epoch = epoch;
        Ok(())
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
        let mut statement = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

fn create(connection: &Connection, box_id: &BoxId, epoch: Epoch) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO box (one, box_id, epoch, time_floor_ms) VALUES (1, ?1, ?2, 0)",
        params![box_id.as_str(), epoch.0 as i64],
    )?;
    for lane in Lane::ALL {
        connection.execute(
            "INSERT INTO lane (lane, begin, tail, tail_chain, tail_sum,
               acked, acked_chain, acked_sum, acked_capture) VALUES (?1, 1, 0, ?2, 0, 0, ?2, 0, 0)",
            params![lane.index() as i64, Chain::ZERO.0],
        )?;
    }
    Ok(())
}

fn block_in<'a>(row: &'a rusqlite::Row<'_>) -> Result<Block<'a>, StoreError> {
    let blob = |index| row.get_ref(index).and_then(|value| Ok(value.as_blob()?));
    let chain: [u8; 32] = blob(3)?.try_into().map_err(|_| StoreError::Damaged)?;
    let (last, entries) = (seq_in(row.get(0)?), row.get::<_, i64>(1)?);
    if !(1..=last).contains(&entries) {
        return Err(StoreError::Damaged);
    }
    Ok(Block {
        last: Seq(last as u64),
        entries: entries as u64,
        stored: UnixMs(row.get(2)?),
        chain: Chain(chain),
        raw_bytes: row.get::<_, i64>(4)? as u64,
        body: blob(5)?,
    })
}

pub(super) fn place(lane: Lane, seq: Seq) -> i64 {
    ((lane.index() as i64) << LANE_SHIFT) + seq.0 as i64
}

pub(super) fn seq_in(place: i64) -> i64 {
    place & ((1 << LANE_SHIFT) - 1)
}
