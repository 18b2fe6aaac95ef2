//! A sender's logs, as both ends' stores keep them: in blocks, one per commit and lane. The statements
//! are the same over the box's tables and the hub's; what differs is their names, how the logs are
//! numbered, and that only the box counts captures.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{StoreError, chain_from};
use crate::model::{Capture, Chain, Epoch, Lane, Seq, UnixMs};

/// What a block takes beside its body, bytes: row, index, share of the page.
const BLOCK_OVERHEAD_BYTES: u64 = 128;

/// Where a log stands at some entry: its chain, and the bytes of all blocks that end there or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub seq: Seq,
    pub chain: Chain,
    pub sum_bytes: u64,
}

/// Where a lane's log stands. Numbers go on through the epochs.
#[derive(Debug, Clone, Copy)]
pub struct LaneState {
    /// The first entry under this epoch.
    pub begin: Seq,
    /// The newest entry that was deleted; what is held begins after it.
    pub tail: Mark,
    pub acked: Mark,
    pub newest: Mark,
    pub newest_capture: Capture,
}

/// Entries of a lane that were kept together, as they lie in the store. What `body` is, its writer
/// knows.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Number of the last entry.
    pub last: Seq,
    /// How many entries there are.
    pub entries: u64,
    /// When the first one was accepted.
    pub stored: UnixMs,
    /// Chain after the last entry.
    pub chain: Chain,
    pub raw_bytes: u64,
    pub body: &'a [u8],
}

impl Block<'_> {
    pub fn first(&self) -> Seq {
        Seq(self.last.0 + 1 - self.entries)
    }
}

/// A store with one log per lane.
pub trait LogStore {
    fn epoch(&self) -> Epoch;

    fn log(&self, lane: Lane) -> Log<'_>;

    /// Begins a new epoch with the oldest entry still held: everything held, the kept tail included,
    /// keeps its number and counts as not received.
    fn begin_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError>;

    /// Where a lane stands; reads a constant number of rows, whatever the backlog.
    fn lane_state(&self, lane: Lane) -> Result<LaneState, StoreError> {
        let log = self.log(lane);
        let has_captures = log.tables.has_captures;
        let capture_in = |row: &Row<'_>, column| match has_captures {
            true => row.get::<_, i64>(column),
            false => Ok(0),
        };
        let (begin, tail, acked, capture) = log
            .connection
            .prepare_cached(&log.tables.state)?
            .query_row([log.number], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    (row.get(1)?, row.get(2)?, row.get(3)?),
                    (row.get(4)?, row.get(5)?, row.get(6)?),
                    capture_in(row, 7)?,
                ))
            })?;
        let tail = mark(tail)?;
        let acked = mark(acked)?;
        let newest = log
            .connection
            .prepare_cached(&log.tables.newest)?
            .query_row([log.place(Seq::ZERO), log.end()], |row| {
                let found = (log.seq(row.get(0)?), row.get(1)?, row.get(2)?);
                Ok((found, capture_in(row, 3)?))
            })
            .optional()?;
        let (newest, newest_capture) = match newest {
            Some((found, capture)) => (mark(found)?, capture),
            // What was dropped without a receipt goes beyond it.
            None if acked.seq < tail.seq => (tail, capture),
            None => (acked, capture),
        };
        Ok(LaneState {
            begin: Seq(begin as u64),
            tail,
            acked,
            newest,
            newest_capture: Capture(newest_capture as u64),
        })
    }

    /// Adds a block at the end of a lane's log, of which `newest` is the end so far. `capture` is
    /// that of the last entry. Returns where the log stands then.
    fn append(
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
        let log = self.log(lane);
        let values: [&dyn ToSql; 8] = [
            &log.place(mark.seq),
            &(block.entries as i64),
            &block.stored.0,
            &(mark.sum_bytes as i64),
            &mark.chain.0,
            &(block.raw_bytes as i64),
            &block.body,
            &(capture.0 as i64),
        ];
        let mut statement = log.connection.prepare_cached(&log.tables.append)?;
        let asked = statement.parameter_count();
        statement.execute(&values[..asked])?;
        Ok(mark)
    }

    /// Reads blocks in order, beginning with the one that holds `first`, until `visit` says false or
    /// fails.
    fn read<E: From<StoreError>>(
        &self,
        lane: Lane,
        first: Seq,
        mut visit: impl FnMut(Block<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let log = self.log(lane);
        let mut statement = log
            .connection
            .prepare_cached(&log.tables.read)
            .map_err(StoreError::from)?;
        let mut rows = statement
            .query([log.place(first), log.end()])
            .map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            if !visit(log.block_in(row)?)? {
                break;
            }
        }
        Ok(())
    }

    /// Where the log stood at `seq`, if a block ends there or it is a receipt's or the tail's end.
    fn mark_at(&self, lane: Lane, seq: Seq) -> Result<Option<Mark>, StoreError> {
        let log = self.log(lane);
        let found = log
            .connection
            .prepare_cached(&log.tables.mark_at)?
            .query_row([log.place(seq), log.number, seq.0 as i64], |row| {
                Ok((seq.0 as i64, row.get(0)?, row.get(1)?))
            })
            .optional()?;
        found.map(mark).transpose()
    }

    /// The other end has given its receipt for everything up to `mark`, or was set back to there.
    fn set_acked(
        &mut self,
        lane: Lane,
        mark: Mark,
        receipt: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let log = self.log(lane);
        let values: [&dyn ToSql; 7] = [
            &log.number,
            &(mark.seq.0 as i64),
            &mark.chain.0,
            &(mark.sum_bytes as i64),
            &receipt,
            &at.0,
            &log.place(mark.seq),
        ];
        let mut statement = log.connection.prepare_cached(&log.tables.set_acked)?;
        let asked = statement.parameter_count();
        statement.execute(&values[..asked])?;
        Ok(())
    }

    /// Keeps the last receipt where it says nothing new.
    fn note_receipt(&mut self, lane: Lane, receipt: &[u8], at: UnixMs) -> Result<(), StoreError> {
        let log = self.log(lane);
        log.connection
            .prepare_cached(&log.tables.note_receipt)?
            .execute(params![log.number, receipt, at.0])?;
        Ok(())
    }

    /// Deletes at most `blocks_max` blocks that have their receipt and lie beyond the kept tail:
    /// older than `keep_since`, or beyond `keep_bytes`. Returns the number of the oldest entry
    /// held, if that changed.
    fn trim(
        &mut self,
        lane: Lane,
        keep_since: UnixMs,
        keep_bytes: u64,
        blocks_max: usize,
    ) -> Result<Option<Seq>, StoreError> {
        let LaneState { tail, acked, .. } = self.lane_state(lane)?;
        let log = self.log(lane);
        let end = log.tail_after(tail, acked.seq, blocks_max, |tail, stored| {
            let too_much = keep_bytes < acked.sum_bytes.saturating_sub(tail.sum_bytes);
            too_much || stored < keep_since
        })?;
        log.cut(tail, end)
    }
}

/// One log in its tables.
#[derive(Clone, Copy)]
pub struct Log<'a> {
    pub(super) connection: &'a Connection,
    pub(super) tables: &'static Tables,
    /// Names it.
    pub(super) number: i64,
}

impl Log<'_> {
    pub(super) fn create(self) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(&self.tables.create)?
            .execute(params![self.number, Chain::ZERO.0])?;
        Ok(())
    }

    /// Everything held counts as not received.
    pub(super) fn begin_again(self) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(&self.tables.begin_again)?
            .execute([self.number])?;
        Ok(())
    }

    /// Where the tail would end when blocks up to `last` go for which `goes` says so.
    pub(super) fn tail_after(
        self,
        tail: Mark,
        last: Seq,
        blocks_max: usize,
        goes: impl Fn(Mark, UnixMs) -> bool,
    ) -> Result<Mark, StoreError> {
        let mut end = tail;
        let mut statement = self.connection.prepare_cached(&self.tables.oldest)?;
        let places = [self.place(tail.seq.next()), self.place(last)];
        let mut rows = statement.query([places[0], places[1], blocks_max as i64])?;
        while let Some(row) = rows.next()? {
            if !goes(end, UnixMs(row.get(3)?)) {
                break;
            }
            end = mark((self.seq(row.get(0)?), row.get(1)?, row.get(2)?))?;
        }
        Ok(end)
    }

    /// Deletes what lies between the tail as it is and as it is to be; returns the number of the
    /// oldest entry held, if that changed.
    pub(super) fn cut(self, before: Mark, tail: Mark) -> Result<Option<Seq>, StoreError> {
        if tail == before {
            return Ok(None);
        }
        self.connection
            .prepare_cached(&self.tables.delete)?
            .execute([self.place(before.seq.next()), self.place(tail.seq)])?;
        self.connection
            .prepare_cached(&self.tables.set_tail)?
            .execute(params![
                self.number,
                tail.seq.0 as i64,
                tail.chain.0,
                tail.sum_bytes as i64
            ])?;
        Ok(Some(tail.seq.next()))
    }

    /// The place of an entry among those of all logs.
    pub(super) fn place(self, seq: Seq) -> i64 {
        (self.number << self.tables.shift) + seq.0 as i64
    }

    /// The last place of this log.
    pub(super) fn end(self) -> i64 {
        self.place(Seq::ZERO) + ((1 << self.tables.shift) - 1)
    }

    pub(super) fn seq(self, place: i64) -> i64 {
        place & ((1 << self.tables.shift) - 1)
    }

    fn block_in<'a>(self, row: &'a Row<'_>) -> Result<Block<'a>, StoreError> {
        let blob = |index| row.get_ref(index).and_then(|value| Ok(value.as_blob()?));
        let chain: [u8; 32] = blob(3)?.try_into().map_err(|_| StoreError::Damaged)?;
        let (last, entries) = (self.seq(row.get(0)?), row.get::<_, i64>(1)?);
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
}

/// Statements over a table of blocks and one of where their logs stand. They are put together once, so
/// that prepared statements are found by their text.
pub(super) struct Tables {
    /// A block's place is the number of its log, shifted by so much, plus that of its last entry.
    shift: u32,
    has_captures: bool,
    create: String,
    state: String,
    newest: String,
    append: String,
    read: String,
    mark_at: String,
    set_acked: String,
    note_receipt: String,
    oldest: String,
    delete: String,
    set_tail: String,
    begin_again: String,
}

impl Tables {
    /// Over the tables `blocks` and `logs`, of which `log` is the key; `has_captures`: both have
    /// columns for the number of a capture.
    pub fn new(shift: u32, blocks: &str, logs: &str, log: &str, has_captures: bool) -> Self {
        let if_captures = |text: &str| match has_captures {
            true => text.replace("blocks", blocks),
            false => String::new(),
        };
        let (capture, eighth) = (if_captures(", capture"), if_captures(", ?8"));
        let (acked_capture, nought) = (if_captures(", acked_capture"), if_captures(", 0"));
        let acked_capture_there = if_captures(
            ", acked_capture =
               coalesce((SELECT capture FROM blocks WHERE place = ?7), acked_capture)",
        );
        Self {
            shift,
            has_captures,
            create: format!(
                "INSERT INTO {logs} ({log}, begin, tail, tail_chain, tail_sum,
                   acked, acked_chain, acked_sum{acked_capture})
                 VALUES (?1, 1, 0, ?2, 0, 0, ?2, 0{nought})"
            ),
            state: format!(
                "SELECT begin, tail, tail_chain, tail_sum, acked, acked_chain, acked_sum{acked_capture}
                 FROM {logs} WHERE {log} = ?1"
            ),
            newest: format!(
                "SELECT place, chain, sum{capture} FROM {blocks}
                 WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC LIMIT 1"
            ),
            append: format!(
                "INSERT INTO {blocks}
                   (place, entries, stored_ms, sum, chain, raw_bytes, body{capture})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7{eighth})"
            ),
            read: format!(
                "SELECT place, entries, stored_ms, chain, raw_bytes, body FROM {blocks}
                 WHERE place BETWEEN ?1 AND ?2 ORDER BY place"
            ),
            mark_at: format!(
                "SELECT chain, sum FROM {blocks} WHERE place = ?1
                 UNION ALL SELECT acked_chain, acked_sum FROM {logs} WHERE {log} = ?2 AND acked = ?3
                 UNION ALL SELECT tail_chain, tail_sum FROM {logs} WHERE {log} = ?2 AND tail = ?3
                 LIMIT 1"
            ),
            set_acked: format!(
                "UPDATE {logs} SET acked = ?2, acked_chain = ?3, acked_sum = ?4,
                   receipt = ?5, receipt_ms = ?6{acked_capture_there}
                 WHERE {log} = ?1"
            ),
            note_receipt: format!(
                "UPDATE {logs} SET receipt = ?2, receipt_ms = ?3 WHERE {log} = ?1"
            ),
            oldest: format!(
                "SELECT place, chain, sum, stored_ms FROM {blocks}
                 WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3"
            ),
            delete: format!("DELETE FROM {blocks} WHERE place BETWEEN ?1 AND ?2"),
            set_tail: format!(
                "UPDATE {logs} SET tail = ?2, tail_chain = ?3, tail_sum = ?4 WHERE {log} = ?1"
            ),
            begin_again: format!(
                "UPDATE {logs} SET begin = tail + 1, acked = tail, acked_chain = tail_chain,
                   acked_sum = tail_sum, receipt = NULL, receipt_ms = NULL
                 WHERE {log} = ?1"
            ),
        }
    }
}

fn mark((seq, chain, sum): (i64, Vec<u8>, i64)) -> Result<Mark, StoreError> {
    Ok(Mark {
        seq: Seq(seq as u64),
        chain: chain_from(chain)?,
        sum_bytes: sum as u64,
    })
}
