//! What is to go down to the boxes: orders, and one log per box and lane, in blocks like the box's own.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, params};

use super::{HubStore, LOG_SHIFT};
use crate::model::fault::{self, Fault};
use crate::model::limits::DOWN_ENTRY_BYTES_MAX;
use crate::model::{BoxId, Epoch, Lane, Seq, UnixMs};
use crate::store::StoreError;
use crate::store::log::{Log, LogStore, Tables};

static DOWN: LazyLock<Tables> =
    LazyLock::new(|| Tables::new(LOG_SHIFT, "down", "down_lane", "log", false));

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

    /// When a box was last loaded again for what it has said.
    pub fn reloaded(&self, box_id: &BoxId) -> Result<Option<UnixMs>, StoreError> {
        let at: Option<Option<i64>> = self
            .connection
            .prepare_cached("SELECT reloaded_ms FROM down_box WHERE box_id = ?1")?
            .query_row([box_id.as_str()], |row| row.get(0))
            .optional()?;
        Ok(at.flatten().map(UnixMs))
    }

    pub fn note_reloaded(&mut self, box_id: &BoxId, at: UnixMs) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE down_box SET reloaded_ms = ?2 WHERE box_id = ?1")?
            .execute(params![box_id.as_str(), at.0])?;
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
        let known = DownBox {
            number,
            epoch,
            reload: Some(why),
        };
        for lane in Lane::ALL {
            self.down_log(known).log(lane).create()?;
        }
        Ok(known)
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
    pub(super) connection: &'a Connection,
    pub(super) known: DownBox,
}

impl DownLog<'_> {
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
        let log = self.log(lane);
        let tail = log.tail_after(state.tail, newest.seq, usize::MAX >> 1, |tail, _| {
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
        log.cut(state.tail, tail)
    }
}

impl LogStore for DownLog<'_> {
    fn epoch(&self) -> Epoch {
        self.known.epoch
    }

    fn log(&self, lane: Lane) -> Log<'_> {
        Log {
            connection: self.connection,
            tables: &DOWN,
            number: self.known.number * 8 + lane.index() as i64,
        }
    }

    fn begin_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        assert!(self.known.epoch < epoch);
        for lane in Lane::ALL {
            self.log(lane).begin_again()?;
        }
        self.connection.execute(
            "UPDATE down_box SET epoch = ?2 WHERE number = ?1",
            [self.known.number, epoch.0 as i64],
        )?;
        self.known.epoch = epoch;
        Ok(())
    }
}
