//! What the box's store remembers for the page: how much waited over the last fortnight, and how the
//! program's lives ended.

use rusqlite::{OptionalExtension, Row, params};

use super::StoreError;
use super::edge::EdgeStore;
use super::edge_status::EdgeView;
use crate::model::UnixMs;

/// Samples are kept so long, and no more than so many.
const KEEP_MS: i64 = 14 * 86_400_000;
const SAMPLES_MAX: i64 = 4_032;
const LIVES_MAX: i64 = 20;

/// How much waited at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub at: UnixMs,
    /// Entries without a receipt, per lane.
    pub waiting: [u64; 5],
    /// Bytes of all of them.
    pub bytes: u64,
}

/// How a life of the program ended that was not stopped in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Another start of the machine has found it, so the machine went with it.
    pub with_machine: bool,
    /// The last sign of life before.
    pub after: UnixMs,
    /// When the next life began; none where there was none yet.
    pub before: UnixMs,
}

impl EdgeStore {
    /// Adds a sample, and drops those that are too old, too many, or of a time that is still to come.
    pub fn add_sample(&mut self, sample: &Sample) -> Result<(), StoreError> {
        let [p0, p1, p2, p3, p4] = sample.waiting.map(|entries| entries as i64);
        let (at, bytes) = (sample.at.0, sample.bytes as i64);
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![at, p0, p1, p2, p3, p4, bytes])?;
        self.connection
            .prepare_cached("DELETE FROM history WHERE at_ms <= ?1 OR ?2 < at_ms")?
            .execute([at - KEEP_MS, at])?;
        self.connection
            .prepare_cached(
                "DELETE FROM history WHERE at_ms <=
                   (SELECT at_ms FROM history ORDER BY at_ms DESC LIMIT 1 OFFSET ?1)",
            )?
            .execute([SAMPLES_MAX])?;
        Ok(())
    }

    /// Begins a life; tells how the one before ended when nobody has stopped it in order.
    pub fn begin_life(
        &mut self,
        now: UnixMs,
        boot: Option<&str>,
    ) -> Result<Option<Stop>, StoreError> {
        let last: Option<(i64, Option<String>)> = self
            .connection
            .query_row(
                "SELECT number, boot FROM life WHERE ending IS NULL ORDER BY number DESC LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let stop = match last {
            Some((number, before)) => {
                Some(self.end_unordered(number, before.as_deref(), now, boot)?)
            }
            None => None,
        };
        self.connection.execute(
            "INSERT INTO life (boot, began_ms) VALUES (?1, ?2)",
            params![boot, now.0],
        )?;
        self.connection.execute(
            "DELETE FROM life WHERE number <= (SELECT max(number) FROM life) - ?1",
            [LIVES_MAX],
        )?;
        Ok(stop)
    }

    /// The last sign of the life is what was written last.
    fn end_unordered(
        &mut self,
        number: i64,
        before: Option<&str>,
        now: UnixMs,
        boot: Option<&str>,
    ) -> Result<Stop, StoreError> {
        let with_machine = matches!((before, boot), (Some(before), Some(now)) if before != now);
        let ending = if with_machine { "power" } else { "killed" };
        let after = self.connection.query_row(
            "UPDATE life SET ending = ?2, ended_ms = max(began_ms,
               ifnull((SELECT max(at_ms) FROM history WHERE at_ms <= ?3), 0),
               ifnull((SELECT max(at_ms) FROM event WHERE at_ms <= ?3), 0),
               ifnull((SELECT max(receipt_ms) FROM lane WHERE receipt_ms <= ?3), 0))
             WHERE number = ?1 RETURNING ended_ms",
            params![number, ending, now.0],
            |row| row.get(0),
        )?;
        Ok(Stop {
            with_machine,
            after: UnixMs(after),
            before: now,
        })
    }

    /// The life ends in order.
    pub fn end_life(&mut self, now: UnixMs) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE life SET ended_ms = ?1, ending = 'ordered' WHERE ending IS NULL",
            [now.0],
        )?;
        Ok(())
    }
}

impl EdgeView {
    /// The samples after `since`, oldest first: all of them, or of each span of so many milliseconds
    /// the one with the most entries.
    pub fn samples(&self, since: UnixMs, span_ms: i64) -> Result<Vec<Sample>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT at_ms, p0, p1, p2, p3, p4, bytes, max(p0 + p1 + p2 + p3 + p4)
             FROM history WHERE ?1 < at_ms GROUP BY at_ms / ?2 ORDER BY at_ms",
        )?;
        let rows = statement.query_map([since.0, span_ms.max(1)], sample)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How the last life ended that was not stopped in order, where it is known.
    pub fn last_stop(&self) -> Result<Option<Stop>, StoreError> {
        let stop = self
            .connection
            .query_row(
                "SELECT ending = 'power', ended_ms,
                   (SELECT began_ms FROM life AS next WHERE life.number < next.number
                    ORDER BY next.number LIMIT 1) AS found_ms
                 FROM life WHERE ending IN ('power', 'killed') AND found_ms IS NOT NULL
                 ORDER BY number DESC LIMIT 1",
                [],
                |row| {
                    Ok(Stop {
                        with_machine: row.get(0)?,
                        after: UnixMs(row.get(1)?),
                        before: UnixMs(row.get(2)?),
                    })
                },
            )
            .optional()?;
        Ok(stop)
    }
}

fn sample(row: &Row<'_>) -> rusqlite::Result<Sample> {
    let count = |index| row.get::<_, i64>(index).map(|count| count as u64);
    Ok(Sample {
        at: UnixMs(row.get(0)?),
        waiting: [count(1)?, count(2)?, count(3)?, count(4)?, count(5)?],
        bytes: count(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;
    use crate::store::Options;
    use crate::store::edge::Sync;

    const OPTIONS: Options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };
    const MINUTE_MS: i64 = 60_000;

    struct Kept {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        store: EdgeStore,
    }

    fn kept() -> Kept {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tramd.db");
        let box_id = "xa-ba-vi".parse().expect("valid");
        let store = EdgeStore::open(&path, OPTIONS, &box_id, Epoch(7)).expect("a store");
        Kept {
            _folder: folder,
            path,
            store,
        }
    }

    impl Kept {
        fn write<T>(&mut self, write: impl Fn(&mut EdgeStore) -> Result<T, StoreError>) -> T {
            self.store.begin(Sync::Later).expect("begun");
            let answer = write(&mut self.store).expect("written");
            self.store.commit().expect("committed");
            answer
        }

        fn view(&self) -> EdgeView {
            EdgeView::open(&self.path).expect("a view")
        }
    }

    fn at(minutes: i64, entries: u64) -> Sample {
        Sample {
            at: UnixMs(1_790_000_000_000 + minutes * MINUTE_MS),
            waiting: [0, 1, entries, 0, 2],
            bytes: entries * 100,
        }
    }

    #[test]
    fn a_fortnight_of_samples_is_kept_and_nothing_of_the_future() {
        let mut kept = kept();
        kept.write(|store| {
            // Three weeks, and before them a clock that was years ahead.
            store.add_sample(&at(9_000_000, 5))?;
            (0..3 * 7 * 144).try_for_each(|number| store.add_sample(&at(number * 10, 1)))
        });
        let newest = at((3 * 7 * 144 - 1) * 10, 1);
        let all = kept.view().samples(UnixMs(0), 1).expect("read");
        assert_eq!(all.len(), 2_016);
        assert_eq!(all.last(), Some(&newest));
        assert_eq!(all[0].at.0 + 14 * 86_400_000, newest.at.0 + 10 * MINUTE_MS);
    }

    #[test]
    fn many_samples_in_a_short_time_have_a_bound_too() {
        let mut kept = kept();
        kept.write(|store| (0..5_000).try_for_each(|number| store.add_sample(&at(number, 1))));
        let all = kept.view().samples(UnixMs(0), 1).expect("read");
        assert_eq!(all.len(), 4_032);
        assert_eq!(all.last(), Some(&at(4_999, 1)));
    }

    #[test]
    fn of_a_span_the_worst_is_told() {
        let mut kept = kept();
        let start = at(0, 0).at.0;
        let first = (7_200_000 - start % 7_200_000) / MINUTE_MS + 1;
        kept.write(|store| {
            store.add_sample(&at(first, 3))?;
            store.add_sample(&at(first + 10, 900))?;
            store.add_sample(&at(first + 20, 4))?;
            store.add_sample(&at(first + 120, 6))
        });
        let spans = kept.view().samples(UnixMs(0), 7_200_000).expect("read");
        assert_eq!(spans, [at(first + 10, 900), at(first + 120, 6)]);
        let late = kept.view().samples(at(first + 10, 0).at, 1).expect("read");
        assert_eq!(late, [at(first + 20, 4), at(first + 120, 6)]);
    }

    #[test]
    fn a_stop_that_nobody_ordered_is_found_by_the_next_life() {
        let mut kept = kept();
        let time = |minutes| at(minutes, 0).at;
        assert_eq!(
            kept.write(|store| store.begin_life(time(0), Some("a"))),
            None
        );
        kept.write(|store| store.end_life(time(5)));
        assert_eq!(
            kept.write(|store| store.begin_life(time(6), Some("a"))),
            None
        );
        assert_eq!(kept.view().last_stop().expect("read"), None);

        kept.write(|store| store.add_sample(&at(16, 1)));
        let power = Stop {
            with_machine: true,
            after: time(16),
            before: time(40),
        };
        let found = kept.write(|store| store.begin_life(time(40), Some("b")));
        assert_eq!(found, Some(power));
        assert_eq!(kept.view().last_stop().expect("read"), Some(power));

        let killed = Stop {
            with_machine: false,
            after: time(40),
            before: time(41),
        };
        let found = kept.write(|store| store.begin_life(time(41), Some("b")));
        assert_eq!(found, Some(killed));
        // A kernel that names no boot blames no power.
        let found = kept.write(|store| store.begin_life(time(42), None));
        assert_eq!(found.map(|stop| stop.with_machine), Some(false));
        for minute in 43..99 {
            kept.write(|store| store.end_life(time(minute)));
            kept.write(|store| store.begin_life(time(minute), None));
        }
        assert_eq!(
            kept.view().last_stop().expect("read"),
            None,
            "twenty lives are kept"
        );
    }
}
