//! The box's store of what the hub has sent: how far each log is applied, and what the entries do.
//!
//! A file of its own beside the box's store, with its own owner, so that neither direction waits for
//! the other. Everything in it the hub can send again.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::copies::{Swept, Words};
use super::{Options, StoreError, chain_from};
use crate::model::down::Down;
use crate::model::{BoxId, Chain, Epoch, Lane, Seq, UnixMs};

pub(super) const MIGRATIONS: &[&str] = &[concat!(
    include_str!("down.sql"),
    include_str!("copies.sql"),
    include_str!("inbox.sql"),
    include_str!("files.sql"),
    include_str!("orders.sql")
)];
const PAGE_BYTES: u64 = 4096;
/// Entries that are not understood, and gaps, are kept up to so many.
const UNKNOWN_MAX: i64 = 10_000;
const GAPS_MAX: i64 = 1_000;

/// How far a lane's log is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub applied: Seq,
    pub chain: Chain,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub epoch: Epoch,
    pub lane: Lane,
    pub seq: Seq,
}

pub struct DownStore {
    pub(super) connection: Connection,
    epoch: Option<Epoch>,
    pub(super) words: Option<Words>,
    /// Something was deleted that still stands in the write-ahead log.
    pub(super) erased: bool,
    /// Rows may be void.
    pub(super) sweeps: bool,
    pub(super) swept: Swept,
    /// Numbers of the datasets that are being compared.
    pub(super) comparing: BTreeSet<i64>,
}

impl DownStore {
    /// Opens the store of `box_id`, or creates it.
    pub fn open(path: &Path, options: Options, box_id: &BoxId) -> Result<Self, StoreError> {
        let connection = super::open(path, options, PAGE_BYTES, MIGRATIONS)?;
        // What is deleted here is deleted by law: its bytes are overwritten.
        connection.execute_batch("PRAGMA secure_delete = ON")?;
        connection.execute(
            "INSERT INTO down (one, box_id, epoch) VALUES (1, ?1, 0) ON CONFLICT DO NOTHING",
            [box_id.as_str()],
        )?;
        let (found, epoch): (String, i64) =
            connection.query_row("SELECT box_id, epoch FROM down", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if found != box_id.as_str() {
            return Err(StoreError::Foreign {
                found,
                wanted: box_id.to_string(),
            });
        }
        let comparing = {
            let mut statement = connection.prepare("SELECT dataset FROM compare")?;
            let numbers = statement.query_map([], |row| row.get(0))?;
            numbers.collect::<Result<_, _>>()?
        };
        Ok(Self {
            connection,
            comparing,
            epoch: (epoch != 0).then_some(Epoch(epoch as u64)),
            words: None,
            // A run before this one may have been cut off while it deleted.
            erased: true,
            sweeps: true,
            swept: Swept::default(),
        })
    }

    /// Says which words of a record are looked through; to be called before entries are applied.
    pub fn set_words(&mut self, words: Words) {
        self.words = Some(words);
    }

    pub fn begin(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// What was written is on the disk when this returns.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    /// Gives up the transaction.
    pub fn roll_back(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("ROLLBACK")?)
    }

    // === Positions ===

    /// The newest epoch of the hub's logs that was heard of.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The hub has begun its logs anew: every lane's position is nothing.
    pub fn begin_epoch(&mut self, epoch: Epoch, at: UnixMs) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE down SET epoch = ?1, epoch_ms = ?2",
            params![epoch.0 as i64, at.0],
        )?;
        self.epoch = Some(epoch);
        Ok(())
    }

    /// Where a lane stands in the present epoch; none before anything of it was applied.
    pub fn position(&self, lane: Lane) -> Result<Option<Position>, StoreError> {
        let Some(epoch) = self.epoch else {
            return Ok(None);
        };
        let found: Option<(i64, Vec<u8>)> = self
            .connection
            .prepare_cached("SELECT applied, chain FROM position WHERE lane = ?1 AND epoch = ?2")?
            .query_row([lane.index() as i64, epoch.0 as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        found
            .map(|(applied, chain)| {
                Ok(Position {
                    applied: Seq(applied as u64),
                    chain: chain_from(chain)?,
                })
            })
            .transpose()
    }

    /// Moves a lane on, in the transaction in which `entries` were applied.
    pub fn move_to(
        &mut self,
        lane: Lane,
        position: Position,
        entries: u64,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let epoch = self.epoch.unwrap_or(Epoch(0));
        self.connection
            .prepare_cached(
                "INSERT INTO position (lane, epoch, applied, chain, entries, last_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (lane) DO UPDATE SET
                   epoch = excluded.epoch, applied = excluded.applied, chain = excluded.chain,
                   entries = entries + excluded.entries, last_ms = excluded.last_ms",
            )?
            .execute(params![
                lane.index() as i64,
                epoch.0 as i64,
                position.applied.0 as i64,
                position.chain.0,
                entries as i64,
                at.0
            ])?;
        self.connection
            .prepare_cached("UPDATE down SET heard_ms = ?1")?
            .execute([at.0])?;
        Ok(())
    }

    /// Whether something of the present epoch was lost.
    pub fn has_gap(&self) -> Result<bool, StoreError> {
        let epoch = self.epoch.unwrap_or(Epoch(0));
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM gap WHERE epoch = ?1")?
            .exists([epoch.0 as i64])?)
    }

    /// Notes a range that the hub has said it no longer holds.
    pub fn add_gap(
        &mut self,
        lane: Lane,
        range: (Seq, Seq),
        reason: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let epoch = self.epoch.unwrap_or(Epoch(0));
        self.connection.execute(
            "INSERT INTO gap (epoch, lane, first, last, reason, noted_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                epoch.0 as i64,
                lane.index() as i64,
                range.0.0 as i64,
                range.1.0 as i64,
                reason,
                at.0
            ],
        )?;
        self.connection.execute(
            "DELETE FROM gap WHERE gap <= (SELECT max(gap) FROM gap) - ?1",
            [GAPS_MAX],
        )?;
        Ok(())
    }

    // === Entries ===

    /// Does what an entry says, in the open transaction; a repeat is harmless. False: this program
    /// does not know how, and the entry is kept as it was received.
    pub fn apply(&mut self, entry: &Down, now: UnixMs) -> Result<bool, StoreError> {
        match entry {
            Down::Copy(copy) => self.apply_copy(copy)?,
            Down::Load(load) => self.apply_load(load)?,
            Down::Withdraw(withdraw) => self.apply_withdraw(withdraw)?,
            Down::Document(document) => self.apply_document(document, now)?,
            Down::File(news) => self.refuse_file(news.sha256, now)?,
            Down::Status(status) => self.apply_status(status)?,
            Down::Catalogue(news) => self.take_catalogue(news, now)?,
            Down::CataloguePart(part) => self.take_catalogue_part(part)?,
            Down::Command(command) => self.take_command(command, now)?,
            Down::Compare(compare) => self.apply_compare(compare)?,
            Down::Mend(copy) => self.apply_mend(copy)?,
            Down::Mended(mended) => self.apply_mended(mended)?,
            Down::Compared(compared) => self.apply_compared(compared, now)?,
        }
        Ok(true)
    }

    /// As `apply`; an entry that the tables refuse counts as one that is not understood, and what it
    /// has written is undone, so that it does not stop those behind it.
    pub fn apply_or_undo(&mut self, entry: &Down, now: UnixMs) -> Result<bool, StoreError> {
        self.connection.execute_batch("SAVEPOINT entry")?;
        match self.apply(entry, now) {
            Ok(is_done) => {
                self.connection.execute_batch("RELEASE entry")?;
                Ok(is_done)
            }
            Err(StoreError::Sqlite(_)) => {
                self.connection
                    .execute_batch("ROLLBACK TO entry; RELEASE entry")?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps an entry that this program does not understand.
    pub fn keep_unknown(
        &mut self,
        place: Place,
        entry: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO unknown (epoch, lane, seq, entry, kept_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                place.epoch.0 as i64,
                place.lane.index() as i64,
                place.seq.0 as i64,
                entry,
                at.0
            ])?;
        self.connection
            .prepare_cached("DELETE FROM unknown WHERE number <= ?1")?
            .execute([self.connection.last_insert_rowid() - UNKNOWN_MAX])?;
        Ok(())
    }

    /// Kept entries with a number above `after`, in the order in which they came; at most `most`.
    pub fn unknown(&self, after: i64, most: u32) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, entry FROM unknown WHERE number > ?1 ORDER BY number LIMIT ?2",
        )?;
        let rows = statement.query_map([after, i64::from(most)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A kept entry is understood now.
    pub fn drop_unknown(&mut self, number: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM unknown WHERE number = ?1")?
            .execute([number])?;
        Ok(())
    }

    // === House ===

    /// Bytes in use and bytes free inside the file.
    pub fn space(&self) -> Result<(u64, u64), StoreError> {
        super::space(&self.connection)
    }

    /// Gives at most `pages` free pages back to the file system. Outside a transaction.
    pub fn vacuum(&mut self, pages: u32) -> Result<(), StoreError> {
        super::vacuum(&self.connection, pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        quota_bytes: 16 << 20,
        cache_bytes: 1 << 20,
    };

    #[test]
    fn positions_move_with_their_transaction_and_begin_anew_with_an_epoch() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("down.db");
        let box_id = "xa-a".parse().expect("valid");
        let mut store = DownStore::open(&path, OPTIONS, &box_id).expect("a new store");
        assert_eq!(
            (store.epoch(), store.position(Lane::P2).expect("read")),
            (None, None)
        );
        let position = Position {
            applied: Seq(7),
            chain: Chain([7; 32]),
        };
        store.begin().expect("begun");
        store.begin_epoch(Epoch(3), UnixMs(1)).expect("written");
        store
            .move_to(Lane::P2, position, 7, UnixMs(1))
            .expect("written");
        store.commit().expect("committed");
        store.begin().expect("begun");
        let later = Position {
            applied: Seq(8),
            ..position
        };
        store
            .move_to(Lane::P2, later, 1, UnixMs(2))
            .expect("written");
        store.roll_back().expect("given up");
        drop(store);
        let mut store = DownStore::open(&path, OPTIONS, &box_id).expect("the same store");
        assert_eq!(store.epoch(), Some(Epoch(3)));
        assert_eq!(store.position(Lane::P2).expect("read"), Some(position));
        store.begin_epoch(Epoch(4), UnixMs(3)).expect("written");
        assert_eq!(store.position(Lane::P2).expect("read"), None);
        drop(store);
        let other = DownStore::open(&path, OPTIONS, &"xa-b".parse().expect("valid"));
        assert!(matches!(other, Err(StoreError::Foreign { .. })));
    }

    #[test]
    fn what_is_not_understood_is_kept_in_order_and_within_bounds() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("down.db");
        let box_id = "xa-a".parse().expect("valid");
        let mut store = DownStore::open(&path, OPTIONS, &box_id).expect("a new store");
        store.begin().expect("begun");
        for seq in 1..=UNKNOWN_MAX as u64 + 5 {
            let place = Place {
                epoch: Epoch(3),
                lane: Lane::P1,
                seq: Seq(seq),
            };
            let entry = format!(r#"{{"later":{seq}}}"#);
            store
                .keep_unknown(place, entry.as_bytes(), UnixMs(1))
                .expect("written");
        }
        store.commit().expect("committed");
        let kept = store.unknown(0, u32::MAX).expect("read");
        assert_eq!(kept.len() as i64, UNKNOWN_MAX);
        assert_eq!(kept[0].1, br#"{"later":6}"#);
        store.drop_unknown(kept[0].0).expect("written");
        assert_eq!(store.unknown(0, 1).expect("read")[0].1, br#"{"later":7}"#);
    }
}
