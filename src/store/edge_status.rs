//! The box's store, read beside its owner or while there is none: what the status is made of.
//!
//! Every question reads a bounded number of rows, whatever the backlog.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{StoreError, edge};
use crate::model::compare::{Head, UpHead};
use crate::model::{Epoch, Lane, Seq, UnixMs};

/// Facts about the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxFacts {
    pub box_id: String,
    pub epoch: Epoch,
    pub time_floor: UnixMs,
    /// Bytes in use, and bytes free inside the file.
    pub used_bytes: u64,
    pub free_bytes: u64,
}

/// What one lane holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneFacts {
    pub lane: Lane,
    /// Entries without a receipt.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// When the oldest of them was accepted.
    pub oldest: Option<UnixMs>,
    pub newest: Seq,
    pub received: Seq,
    /// When the hub's last receipt for this lane came.
    pub receipt_at: Option<UnixMs>,
}

/// What a source did since the store was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    pub source: String,
    pub tally: edge::SourceTally,
}

/// What the program had written to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenFacts {
    /// Since the store was created.
    pub bytes: u64,
    /// Since `recent_since`, which is at most so many days ago as was asked for.
    pub recent_bytes: u64,
    pub recent_since: Option<UnixMs>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFacts {
    pub at: UnixMs,
    /// `info`, `warning` or `alarm`.
    pub level: String,
    pub code: String,
    pub detail: String,
}

/// A short look at the store. One transaction, so that the numbers belong together.
pub struct EdgeView {
    pub(super) connection: Connection,
}

impl EdgeView {
    pub fn open(path: &Path) -> Result<EdgeView, StoreError> {
        let connection = open(path)?;
        edge::known_version(&connection)?;
        connection.execute_batch("BEGIN")?;
        Ok(EdgeView { connection })
    }

    pub fn facts(&self) -> Result<BoxFacts, StoreError> {
        let (used_bytes, free_bytes) = super::space(&self.connection)?;
        let facts = self.connection.query_row(
            "SELECT box_id, epoch, time_floor_ms FROM box",
            [],
            |row| {
                Ok(BoxFacts {
                    box_id: row.get(0)?,
                    epoch: Epoch(row.get::<_, i64>(1)? as u64),
                    time_floor: UnixMs(row.get(2)?),
                    used_bytes,
                    free_bytes,
                })
            },
        )?;
        Ok(facts)
    }

    /// Entries in all lanes' logs, those with a receipt too.
    pub fn entries(&self) -> Result<u64, StoreError> {
        let question = "SELECT coalesce(sum(entries), 0) FROM outbox";
        let entries: i64 = self.connection.query_row(question, [], |row| row.get(0))?;
        Ok(entries as u64)
    }

    pub fn lane(&self, lane: Lane) -> Result<LaneFacts, StoreError> {
        let (tail, acked, acked_sum, receipt_ms) = self.connection.query_row(
            "SELECT tail, acked, acked_sum, receipt_ms FROM lane WHERE lane = ?1",
            [lane.index() as i64],
            |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, Option<i64>>(3)?,
                ))
            },
        )?;
        let held_to = acked.max(tail);
        let log = edge::log(&self.connection, lane);
        let places = [log.place(Seq(held_to as u64).next()), log.end()];
        let end = |order: &str, column: &str| {
            let question = format!(
                "SELECT place, {column} FROM outbox WHERE place BETWEEN ?1 AND ?2
                 ORDER BY place {order} LIMIT 1"
            );
            self.connection
                .query_row(&question, places, |row| {
                    Ok((log.seq(row.get(0)?), row.get::<_, i64>(1)?))
                })
                .optional()
        };
        let oldest = end("ASC", "stored_ms")?;
        let (newest, newest_sum) = end("DESC", "sum")?.unwrap_or((held_to, acked_sum));
        Ok(LaneFacts {
            lane,
            waiting: (newest - held_to) as u64,
            waiting_bytes: (newest_sum - acked_sum).max(0) as u64,
            oldest: oldest.map(|(_, stored_ms)| UnixMs(stored_ms)),
            newest: Seq(newest as u64),
            received: Seq(acked as u64),
            receipt_at: receipt_ms.map(UnixMs),
        })
    }

    /// Where the lanes' logs end; those that are empty are left out.
    pub fn heads(&self) -> Result<Vec<UpHead>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT lane, (SELECT epoch FROM box), begin, acked, acked_chain,
               coalesce((SELECT chain FROM outbox WHERE place BETWEEN lane.lane << ?1
                 AND ((lane.lane + 1) << ?1) - 1 ORDER BY place DESC LIMIT 1), acked_chain),
               coalesce((SELECT max(place) & ((1 << ?1) - 1) FROM outbox
                 WHERE place BETWEEN lane.lane << ?1 AND ((lane.lane + 1) << ?1) - 1), acked)
             FROM lane ORDER BY lane",
        )?;
        let mut rows = statement.query([edge::LANE_SHIFT])?;
        let mut heads = Vec::new();
        while let Some(row) = rows.next()? {
            let seq = |index| row.get::<_, i64>(index).map(|seq| Seq(seq as u64));
            let lane = Lane::from_index(row.get::<_, i64>(0)? as u64);
            let head = UpHead {
                lane: lane.ok_or(StoreError::Damaged)?,
                epoch: Epoch(row.get::<_, i64>(1)? as u64),
                begin: seq(2)?,
                received: Head {
                    seq: seq(3)?,
                    chain: super::chain_from(row.get(4)?)?,
                },
                newest: Head {
                    seq: seq(6)?,
                    chain: super::chain_from(row.get(5)?)?,
                },
            };
            if Seq::ZERO < head.newest.seq {
                heads.push(head);
            }
        }
        Ok(heads)
    }

    /// What was written in all, and over the last `days`.
    pub fn written(&self, now: UnixMs, days: i64) -> Result<WrittenFacts, StoreError> {
        let facts = self.connection.query_row(
            "SELECT ifnull(sum(bytes), 0), ifnull(sum(bytes) FILTER (WHERE ?1 < day), 0),
               min(since_ms) FILTER (WHERE ?1 < day)
             FROM written",
            [now.day() - days],
            |row| {
                Ok(WrittenFacts {
                    bytes: row.get::<_, i64>(0)? as u64,
                    recent_bytes: row.get::<_, i64>(1)? as u64,
                    recent_since: row.get::<_, Option<i64>>(2)?.map(UnixMs),
                })
            },
        )?;
        Ok(facts)
    }

    pub fn sources(&self) -> Result<Vec<SourceFacts>, StoreError> {
        let tallies = edge::tallies(&self.connection)?.into_iter();
        let facts = tallies.map(|(source, tally)| SourceFacts { source, tally });
        Ok(facts.collect())
    }

    /// The newest events, newest first.
    pub fn events(&self, count_max: u32) -> Result<Vec<EventFacts>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT at_ms, level, code, detail FROM event ORDER BY number DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([count_max], |row| {
            Ok(EventFacts {
                at: UnixMs(row.get(0)?),
                level: row.get(1)?,
                code: row.get(2)?,
                detail: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A store that nobody has open and whose folder may not be written to has no shared memory to be
/// read through. Then nobody can change it either, and it is read as it lies.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let probe = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM box", [], |row| row.get::<_, i64>(0))
    };
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    let opened = super::open_read_only(path).and_then(|connection| {
        probe(&connection)?;
        Ok(connection)
    });
    match opened {
        Err(_) if path.exists() && !wal.exists() => {
            let plain = path
                .display()
                .to_string()
                .replace('%', "%25")
                .replace('?', "%3f")
                .replace('#', "%23");
            let connection = Connection::open_with_flags(
                format!("file:{plain}?immutable=1"),
                OpenFlags::SQLITE_OPEN_READ_ONLY
                    | OpenFlags::SQLITE_OPEN_URI
                    | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?;
            probe(&connection)?;
            Ok(connection)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BoxId, Capture, Chain};
    use crate::store::Options;
    use crate::store::edge::{EdgeStore, SourceTally};
    use crate::store::log::{Block, LogStore, Mark};

    const OPTIONS: Options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };

    const BLOCK_BYTES: u64 = 10 + 128;

    fn mark(seq: u64) -> Mark {
        Mark {
            seq: Seq(seq),
            chain: Chain([seq as u8; 32]),
            sum_bytes: seq * BLOCK_BYTES,
        }
    }

    #[test]
    fn the_view_agrees_with_the_owner_through_trim_and_new_epoch() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a store?.db");
        let box_id: BoxId = "xa-ba-vi".parse().expect("valid");
        let mut store = EdgeStore::open(&path, OPTIONS, &box_id, Epoch(7)).expect("a store");
        store.begin(edge::Sync::Full).expect("begun");
        for seq in 1..=9 {
            let stored = UnixMs(1_000 * seq as i64);
            let block = Block {
                last: Seq(seq),
                entries: 1,
                stored,
                chain: mark(seq).chain,
                raw_bytes: 10,
                body: &[b'x'; 10],
            };
            let kept = store.append(Lane::P2, mark(seq - 1), Capture(seq), block);
            assert_eq!(kept.expect("kept"), mark(seq));
        }
        store
            .set_acked(Lane::P2, mark(4), b"receipt", UnixMs(77))
            .expect("kept");
        let tally = SourceTally {
            accepted: 9,
            ..SourceTally::default()
        };
        store.add_tally("mot-cua", &tally).expect("kept");
        store
            .add_event(UnixMs(5), "alarm", "state_secret", "mot-cua")
            .expect("kept");
        store.commit().expect("committed");

        let view = EdgeView::open(&path).expect("beside its owner");
        let p2 = LaneFacts {
            lane: Lane::P2,
            waiting: 5,
            waiting_bytes: 5 * BLOCK_BYTES,
            oldest: Some(UnixMs(5_000)),
            newest: Seq(9),
            received: Seq(4),
            receipt_at: Some(UnixMs(77)),
        };
        assert_eq!(view.lane(Lane::P2).expect("read"), p2);
        let empty = view.lane(Lane::P1).expect("read");
        assert_eq!(
            (empty.waiting, empty.waiting_bytes, empty.oldest),
            (0, 0, None)
        );
        assert_eq!(view.facts().expect("read").epoch, Epoch(7));
        assert_eq!(view.sources().expect("read")[0].tally.accepted, 9);
        assert_eq!(view.events(5).expect("read")[0].code, "state_secret");
        drop(view);

        store.begin(edge::Sync::Full).expect("begun");
        store
            .trim(Lane::P2, UnixMs(i64::MAX), 0, 3)
            .expect("trimmed");
        store.begin_epoch(Epoch(8)).expect("begun");
        store.commit().expect("committed");
        drop(store);

        let view = EdgeView::open(&path).expect("without an owner");
        let after = view.lane(Lane::P2).expect("read");
        assert_eq!((after.waiting, after.waiting_bytes), (6, 6 * BLOCK_BYTES));
        assert_eq!((after.newest, after.received), (Seq(9), Seq(3)));
        assert_eq!(view.facts().expect("read").epoch, Epoch(8));
    }

    #[test]
    fn what_is_no_store_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(EdgeView::open(&folder.path().join("none.db")).is_err());
        let path = folder.path().join("text.db");
        std::fs::write(&path, "not a database, only a text of some length").expect("written");
        assert!(matches!(EdgeView::open(&path), Err(StoreError::Damaged)));
    }

    #[test]
    fn what_was_written_is_counted_by_days() {
        const DAY_MS: i64 = 86_400_000;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tramd.db");
        let box_id: BoxId = "xa-ba-vi".parse().expect("valid");
        let mut store = EdgeStore::open(&path, OPTIONS, &box_id, Epoch(7)).expect("a store");
        let start = UnixMs(20_000 * DAY_MS);
        let at = |days: i64, ms: i64| UnixMs(start.0 + days * DAY_MS + ms);
        let written = |store: &mut EdgeStore, when: UnixMs, bytes| {
            store.begin(edge::Sync::Full).expect("begun");
            store.add_written(when, bytes).expect("counted");
            store.commit().expect("committed");
        };
        written(&mut store, at(0, 0), 1_000);
        written(&mut store, at(19, 5), 30);
        written(&mut store, at(19, 9), 4);
        written(&mut store, at(20, 0), 500);
        let view = EdgeView::open(&path).expect("a view");
        let facts = view.written(at(20, 60_000), 14).expect("facts");
        assert_eq!(
            facts,
            WrittenFacts {
                bytes: 1_534,
                recent_bytes: 534,
                recent_since: Some(at(19, 5)),
            }
        );
    }
}
