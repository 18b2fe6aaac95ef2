//! What is to go down to the boxes: orders, and one log per box and lane, in blocks like the box's own.

use rusqlite::{Connection, OptionalExtension, params};

use super::{HubStore, LOG_SHIFT};
use crate::model::fault::{self, Fault};
use crate::model::limits::DOWN_ENTRY_BYTES_MAX;
use crate::model::{BoxId, Chain, Epoch, Lane, Seq, UnixMs};
use crate::store::log::{BLOCK_OVERHEAD_BYTES, Block, LaneState, Mark};
use crate::store::{StoreError, chain_from};

/// Why what a box holds of the hub cannot be relied upon, so that it is to be loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Nothing was ever sent to it.
    New,
    /// It has entries that this store does not have: one of the two was set back.
    SetBack,
    /// It lost entries that it had received.
    LostThere,
    /// Entries that waited for it were dropped, for want of room.
    Dropped,
    /// Somebody has ordered it.
    Asked,
}

impl Reload {
    const ALL: [Reload; 5] = [
        Reload::New,
        Reload::SetBack,
        Reload::LostThere,
        Reload::Dropped,
        Reload::Asked,
    ];

    fn parse(text: &str) -> Result<Reload, StoreError> {
        let known = Reload::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or(StoreError::Damaged)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Reload::New => "new",
            Reload::SetBack => "set_back",
            Reload::LostThere => "lost_there",
            Reload::Dropped => "dropped",
            Reload::Asked => "asked",
        }
    }
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    Ordered,
    /// There is no such box, or it was revoked.
    NoSuchBox,
    /// A message cannot carry it.
    TooLarge,
}

/// A box for which there are logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownBox {
    /// Names its logs.
    pub number: i64,
    pub epoch: Epoch,
    /// Why it is to be loaded again, if it is.
    pub reload: Option<Reload>,
}

/// Something to be sent that is in no log yet.
#[derive(Debug, Clone)]
pub struct Order {
    pub number: i64,
    pub box_id: BoxId,
    pub lane: Lane,
    pub entry: Vec<u8>,
    pub at: UnixMs,
}

/// A number that changes with every commit of another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataVersion(i64);

impl HubStore {
    /// Orders an entry to be sent to a box, in the transaction that is open or in one of its own. The
    /// engine puts it into the box's log in the order of these calls, within a second.
    pub fn post(
        &mut self,
        box_id: &BoxId,
        lane: Lane,
        entry: &[u8],
        at: UnixMs,
    ) -> Result<Posted, StoreError> {
        if DOWN_ENTRY_BYTES_MAX < entry.len() {
            return Ok(Posted::TooLarge);
        }
        let posted = self
            .connection
            .prepare_cached(
                "INSERT INTO down_order (box_id, lane, entry, at_ms)
                 SELECT box_id, ?2, ?3, ?4 FROM box WHERE box_id = ?1 AND state <> 'revoked'",
            )?
            .execute(params![box_id.as_str(), lane.index() as i64, entry, at.0])?;
        self.has_posted |= posted == 1;
        match posted {
            1 => Ok(Posted::Ordered),
            _ => Ok(Posted::NoSuchBox),
        }
    }

    /// Whether something was ordered here since this was last asked.
    pub fn take_has_posted(&mut self) -> bool {
        std::mem::take(&mut self.has_posted)
    }

    /// Bytes of a box's lane that wait for the box's receipt, orders included: who has much to send,
    /// as in an initial load, looks here and goes on when there is room.
    pub fn down_waiting_bytes(&self, box_id: &BoxId, lane: Lane) -> Result<u64, StoreError> {
        let ordered: i64 = self
            .connection
            .prepare_cached(
                "SELECT coalesce(sum(length(entry)), 0) FROM down_order
                 WHERE box_id = ?1 AND lane = ?2",
            )?
            .query_row(params![box_id.as_str(), lane.index() as i64], |row| {
                row.get(0)
            })?;
        let logged = match self.down_box(box_id)? {
            Some(known) => {
                let state = self.down_log(known).lane_state(lane)?;
                let received = state.acked.sum_bytes.max(state.tail.sum_bytes);
                state.newest.sum_bytes.saturating_sub(received)
            }
            None => 0,
        };
        Ok(ordered as u64 + logged)
    }

    /// Boxes whose copies are to be loaded again, since when, and why.
    pub fn reloads(&self) -> Result<Vec<(BoxId, UnixMs, Reload)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT box_id, reload_ms, reload_why FROM down_box WHERE reload_ms IS NOT NULL
             ORDER BY reload_ms, box_id",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get(1)?,
                row.get::<_, String>(2)?,
            ))
        })?;
        rows.map(|row| {
            let (box_id, at, why) = row?;
            Ok((
                box_id.parse().map_err(|_| StoreError::Damaged)?,
                UnixMs(at),
                Reload::parse(&why)?,
            ))
        })
        .collect()
    }

    /// A box is being loaded again; in the transaction that orders the first entries of it.
    pub fn reloading(&mut self, box_id: &BoxId) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE down_box SET reload_ms = NULL, reload_why = NULL WHERE box_id = ?1",
            )?
            .execute([box_id.as_str()])?;
        Ok(())
    }

    pub fn ask_to_reload(
        &mut self,
        known: DownBox,
        why: Reload,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE down_box SET reload_ms = ?2, reload_why = ?3 WHERE number = ?1",
            )?
            .execute(params![known.number, at.0, why.as_str()])?;
        Ok(())
    }

    pub fn down_box(&self, box_id: &BoxId) -> Result<Option<DownBox>, StoreError> {
        let found: Option<(i64, i64, Option<String>)> = self
            .connection
            .prepare_cached("SELECT number, epoch, reload_why FROM down_box WHERE box_id = ?1")?
            .query_row([box_id.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        found
            .map(|(number, epoch, why)| {
                Ok(DownBox {
                    number,
                    epoch: Epoch(epoch as u64),
                    reload: why.as_deref().map(Reload::parse).transpose()?,
                })
            })
            .transpose()
    }

    /// Creates a box's logs, which must not exist.
    pub fn create_down_box(
        &mut self,
        box_id: &BoxId,
        epoch: Epoch,
        why: Reload,
        at: UnixMs,
    ) -> Result<DownBox, StoreError> {
        self.connection.execute(
            "INSERT INTO down_box (box_id, epoch, reload_ms, reload_why) VALUES (?1, ?2, ?3, ?4)",
            params![box_id.as_str(), epoch.0 as i64, at.0, why.as_str()],
        )?;
        let number = self.connection.last_insert_rowid();
        for lane in Lane::ALL {
            self.connection
                .prepare_cached(
                    "INSERT INTO down_lane (log, begin, tail, tail_chain, tail_sum,
                       acked, acked_chain, acked_sum) VALUES (?1, 1, 0, ?2, 0, 0, ?2, 0)",
                )?
                .execute(params![log_of(number, lane), Chain::ZERO.0])?;
        }
        Ok(DownBox {
            number,
            epoch,
            reload: Some(why),
        })
    }

    pub fn down_log(&self, known: DownBox) -> DownLog<'_> {
        DownLog {
            connection: &self.connection,
            known,
        }
    }

    /// The oldest orders, up to so many and so many bytes.
    pub fn orders(&self, most: usize, bytes_max: usize) -> Result<Vec<Order>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, box_id, lane, entry, at_ms FROM down_order ORDER BY number LIMIT ?1",
        )?;
        let mut rows = statement.query([most as i64])?;
        let (mut orders, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(row) = rows.next()?
        {
            let lane = Lane::from_index(row.get::<_, i64>(2)? as u64);
            let order = Order {
                number: row.get(0)?,
                box_id: row
                    .get::<_, String>(1)?
                    .parse()
                    .map_err(|_| StoreError::Damaged)?,
                lane: lane.ok_or(StoreError::Damaged)?,
                entry: row.get(3)?,
                at: UnixMs(row.get(4)?),
            };
            bytes += order.entry.len();
            orders.push(order);
        }
        Ok(orders)
    }

    /// The orders up to this number are in their logs.
    pub fn drop_orders(&mut self, last: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM down_order WHERE number <= ?1")?
            .execute([last])?;
        Ok(())
    }

    /// Reads shared memory, not the disk.
    pub fn data_version(&self) -> Result<DataVersion, StoreError> {
        Ok(DataVersion(
            self.connection
                .prepare_cached("PRAGMA data_version")?
                .query_row([], |row| row.get(0))?,
        ))
    }
}

/// The logs of one box.
pub struct DownLog<'a> {
    connection: &'a Connection,
    known: DownBox,
}

impl DownLog<'_> {
    pub fn epoch(&self) -> Epoch {
        self.known.epoch
    }

    fn log(&self, lane: Lane) -> i64 {
        log_of(self.known.number, lane)
    }

    /// The place of an entry among those of all boxes.
    fn place(&self, lane: Lane, seq: Seq) -> i64 {
        (self.log(lane) << LOG_SHIFT) + seq.0 as i64
    }

    fn end(&self, lane: Lane) -> i64 {
        ((self.log(lane) + 1) << LOG_SHIFT) - 1
    }

    pub fn lane_state(&self, lane: Lane) -> Result<LaneState, StoreError> {
        let raw = |seq: i64, chain: Vec<u8>, sum: i64| mark(seq as u64, chain, sum);
        let (begin, tail, acked) = self
            .connection
            .prepare_cached(
                "SELECT begin, tail, tail_chain, tail_sum, acked, acked_chain, acked_sum
                 FROM down_lane WHERE log = ?1",
            )?
            .query_row([self.log(lane)], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    (row.get(1)?, row.get(2)?, row.get(3)?),
                    (row.get(4)?, row.get(5)?, row.get(6)?),
                ))
            })?;
        let newest: Option<(i64, Vec<u8>, i64)> = self
            .connection
            .prepare_cached(
                "SELECT place, chain, sum FROM down WHERE place BETWEEN ?1 AND ?2
                 ORDER BY place DESC LIMIT 1",
            )?
            .query_row([self.place(lane, Seq::ZERO), self.end(lane)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let tail = raw(tail.0, tail.1, tail.2)?;
        let acked = raw(acked.0, acked.1, acked.2)?;
        let newest = match newest {
            Some((place, chain, sum)) => mark(seq_in(place), chain, sum)?,
            // What was dropped without a receipt goes beyond it.
            None if acked.seq < tail.seq => tail,
            None => acked,
        };
        Ok(LaneState {
            begin: Seq(begin as u64),
            tail,
            acked,
            newest,
            newest_capture: Default::default(),
        })
    }

    pub fn append(
        &mut self,
        lane: Lane,
        newest: Mark,
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
                "INSERT INTO down (place, entries, stored_ms, sum, chain, raw_bytes, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.place(lane, mark.seq),
                block.entries as i64,
                block.stored.0,
                mark.sum_bytes as i64,
                mark.chain.0,
                block.raw_bytes as i64,
                block.body
            ])?;
        Ok(mark)
    }

    pub fn read<E: From<StoreError>>(
        &self,
        lane: Lane,
        first: Seq,
        mut visit: impl FnMut(Block<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT place, entries, stored_ms, chain, raw_bytes, body FROM down
                 WHERE place BETWEEN ?1 AND ?2 ORDER BY place",
            )
            .map_err(StoreError::from)?;
        let mut rows = statement
            .query([self.place(lane, first), self.end(lane)])
            .map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            if !visit(block_in(row)?)? {
                break;
            }
        }
        Ok(())
    }

    pub fn mark_at(&self, lane: Lane, seq: Seq) -> Result<Option<Mark>, StoreError> {
        let found: Option<(Vec<u8>, i64)> = self
            .connection
            .prepare_cached(
                "SELECT chain, sum FROM down WHERE place = ?1
                 UNION ALL SELECT acked_chain, acked_sum FROM down_lane WHERE log = ?2 AND acked = ?3
                 UNION ALL SELECT tail_chain, tail_sum FROM down_lane WHERE log = ?2 AND tail = ?3
                 LIMIT 1",
            )?
            .query_row(
                [self.place(lane, seq), self.log(lane), seq.0 as i64],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        found
            .map(|(chain, sum)| mark(seq.0, chain, sum))
            .transpose()
    }

    pub fn set_acked(
        &mut self,
        lane: Lane,
        mark: Mark,
        receipt: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE down_lane SET acked = ?2, acked_chain = ?3, acked_sum = ?4, receipt = ?5,
                   receipt_ms = ?6 WHERE log = ?1",
            )?
            .execute(params![
                self.log(lane),
                mark.seq.0 as i64,
                mark.chain.0,
                mark.sum_bytes as i64,
                receipt,
                at.0
            ])?;
        Ok(())
    }

    pub fn note_receipt(
        &mut self,
        lane: Lane,
        receipt: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE down_lane SET receipt = ?2, receipt_ms = ?3 WHERE log = ?1")?
            .execute(params![self.log(lane), receipt, at.0])?;
        Ok(())
    }

    /// Deletes at most `blocks_max` blocks that have their receipt and lie beyond the kept tail.
    /// Returns the number of the oldest entry held, if that changed.
    pub fn trim(
        &mut self,
        lane: Lane,
        keep_since: UnixMs,
        keep_bytes: u64,
        blocks_max: usize,
    ) -> Result<Option<Seq>, StoreError> {
        let state = self.lane_state(lane)?;
        let end = state.acked;
        let tail = self.tail_after(lane, &state, end.seq, blocks_max, |tail, stored| {
            let too_much = keep_bytes < end.sum_bytes.saturating_sub(tail.sum_bytes);
            too_much || stored < keep_since
        })?;
        self.cut(lane, state.tail, tail)
    }

    /// Drops the oldest blocks until no more than `keep_bytes` wait, whether or not they were
    /// received. Returns the oldest entry still held, and the range that was not received, if there
    /// is one; it is noted.
    pub fn drop_oldest(
        &mut self,
        lane: Lane,
        keep_bytes: u64,
        at: UnixMs,
    ) -> Result<Option<Seq>, StoreError> {
        let state = self.lane_state(lane)?;
        let newest = state.newest;
        let tail = self.tail_after(lane, &state, newest.seq, usize::MAX >> 1, |tail, _| {
            keep_bytes < newest.sum_bytes.saturating_sub(tail.sum_bytes)
        })?;
        let first = state.acked.seq.max(state.tail.seq).next();
        if first <= tail.seq && !fault::is_planted(Fault::DropNotNoted) {
            self.connection.execute(
                "INSERT INTO down_gap (number, epoch, lane, first, last, reason, noted_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'no_room', ?6)",
                params![
                    self.known.number,
                    self.known.epoch.0 as i64,
                    lane.index() as i64,
                    first.0 as i64,
                    tail.seq.0 as i64,
                    at.0
                ],
            )?;
        }
        self.cut(lane, state.tail, tail)
    }

    /// Where the tail would end when blocks up to `last` go for which `goes` says so.
    fn tail_after(
        &self,
        lane: Lane,
        state: &LaneState,
        last: Seq,
        blocks_max: usize,
        goes: impl Fn(Mark, UnixMs) -> bool,
    ) -> Result<Mark, StoreError> {
        let mut tail = state.tail;
        let mut statement = self.connection.prepare_cached(
            "SELECT place, stored_ms, sum, chain FROM down
             WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3",
        )?;
        let mut rows = statement.query([
            self.place(lane, state.tail.seq.next()),
            self.place(lane, last),
            blocks_max as i64,
        ])?;
        while let Some(row) = rows.next()? {
            if !goes(tail, UnixMs(row.get(1)?)) {
                break;
            }
            tail = mark(seq_in(row.get(0)?), row.get(3)?, row.get(2)?)?;
        }
        Ok(tail)
    }

    fn cut(&mut self, lane: Lane, before: Mark, tail: Mark) -> Result<Option<Seq>, StoreError> {
        if tail == before {
            return Ok(None);
        }
        self.connection
            .prepare_cached("DELETE FROM down WHERE place BETWEEN ?1 AND ?2")?
            .execute([
                self.place(lane, before.seq.next()),
                self.place(lane, tail.seq),
            ])?;
        self.connection
            .prepare_cached(
                "UPDATE down_lane SET tail = ?2, tail_chain = ?3, tail_sum = ?4 WHERE log = ?1",
            )?
            .execute(params![
                self.log(lane),
                tail.seq.0 as i64,
                tail.chain.0,
                tail.sum_bytes as i64
            ])?;
        Ok(Some(tail.seq.next()))
    }

    /// Begins a new epoch with the oldest entry still held: everything held keeps its number and
    /// counts as not received.
    pub fn begin_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        assert!(self.known.epoch < epoch);
        self.connection.execute(
            "UPDATE down_lane SET begin = tail + 1, acked = tail, acked_chain = tail_chain,
               acked_sum = tail_sum, receipt = NULL, receipt_ms = NULL
             WHERE log BETWEEN ?1 AND ?2",
            [self.log(Lane::P0), self.log(Lane::P4)],
        )?;
        self.connection.execute(
            "UPDATE down_box SET epoch = ?2 WHERE number = ?1",
            [self.known.number, epoch.0 as i64],
        )?;
        self.known.epoch = epoch;
        Ok(())
    }
}

fn log_of(number: i64, lane: Lane) -> i64 {
    number * 8 + lane.index() as i64
}

fn seq_in(place: i64) -> u64 {
    (place & ((1 << LOG_SHIFT) - 1)) as u64
}

fn mark(seq: u64, chain: Vec<u8>, sum: i64) -> Result<Mark, StoreError> {
    Ok(Mark {
        seq: Seq(seq),
        chain: chain_from(chain)?,
        sum_bytes: sum as u64,
    })
}

fn block_in<'a>(row: &'a rusqlite::Row<'_>) -> Result<Block<'a>, StoreError> {
    let blob = |index| row.get_ref(index).and_then(|value| Ok(value.as_blob()?));
    let chain: [u8; 32] = blob(3)?.try_into().map_err(|_| StoreError::Damaged)?;
    let (last, entries) = (seq_in(row.get(0)?), row.get::<_, i64>(1)?);
    if entries < 1 || last < entries as u64 {
        return Err(StoreError::Damaged);
    }
    Ok(Block {
        last: Seq(last),
        entries: entries as u64,
        stored: UnixMs(row.get(2)?),
        chain: Chain(chain),
        raw_bytes: row.get::<_, i64>(4)? as u64,
        body: blob(5)?,
    })
}
