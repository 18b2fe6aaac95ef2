//! What is to be delivered next: entries after the cursors, in the order of capture within a box.

use std::collections::{BTreeMap, HashMap};

use crate::hub::output::event::{Verdict, judge};
use crate::hub::output::{OutputConfig, Trouble};
use crate::model::{BoxId, Capture, Seq};
use crate::store::StoreError;
use crate::store::hub_view::feed::{FeedEntry, Slice, SliceLimits};
use crate::store::hub_view::{HubView, LogRow, Snapshot};
use crate::store::outputs::held::NewHeld;
use crate::store::outputs::{Item, LogName, OutputRow, OutputStore, Plan};

/// Numbers of a log that are looked at for one batch.
const NUMBERS_MAX: u64 = 20_000;
/// Bytes of the entries of one batch, and of those read ahead of one log.
const BATCH_BYTES_MAX: usize = 4 << 20;
const SLICE_BYTES_MAX: usize = 1 << 20;

/// A batch that was put together.
#[derive(Debug, Default)]
pub struct Next {
    pub plan: Plan,
    /// Entries that wait behind held ones of their subjects.
    pub behind: Vec<NewHeld>,
    /// Whether more was there than the batch holds.
    pub is_full: bool,
}

impl Next {
    pub fn is_empty(&self) -> bool {
        self.plan.items.is_empty() && self.plan.cursors.is_empty()
    }
}

/// Cursors of an output that begins with what comes from now on.
pub fn ends(view: &HubView) -> Result<Vec<(LogName, Seq)>, StoreError> {
    let logs = view.snapshot()?.logs()?;
    Ok(logs.iter().map(|log| (name(log), log.applied)).collect())
}

pub fn name(log: &LogRow) -> LogName {
    LogName::new(&log.box_id, log.epoch, log.lane)
}

/// Puts the next batch together. `turn` goes round the boxes, so that a busy one does not hold the
/// others up.
pub fn next(
    config: &OutputConfig,
    view: &HubView,
    store: &OutputStore,
    row: &OutputRow,
    turn: &mut usize,
) -> Result<Next, Trouble> {
    let snapshot = view.snapshot()?;
    let datasets: Vec<i64> = snapshot
        .datasets()?
        .into_iter()
        .filter(|(_, name)| config.datasets.contains(name))
        .map(|(number, _)| number)
        .collect();
    let cursors: HashMap<LogName, Seq> = store.cursors(row.output)?.into_iter().collect();
    let lives = pending(snapshot.logs()?, &cursors);
    let mut gathering = Gathering {
        config,
        snapshot: &snapshot,
        store,
        output: row.output,
        datasets: &datasets,
        room: config.kind.batch_max(),
        bytes: 0,
        next: Next::default(),
    };
    let count = lives.len();
    for offset in 0..count {
        if gathering.room == 0 || BATCH_BYTES_MAX < gathering.bytes {
            gathering.next.is_full = true;
            break;
        }
        gathering.gather(&lives[(*turn + offset) % count])?;
    }
    *turn = turn.wrapping_add(1);
    Ok(gathering.next)
}

/// Of each box the earliest life of which something is to be looked at: its logs with their cursors.
fn pending(logs: Vec<LogRow>, cursors: &HashMap<LogName, Seq>) -> Vec<Vec<(LogRow, Seq)>> {
    let mut boxes: BTreeMap<BoxId, BTreeMap<i64, Vec<(LogRow, Seq)>>> = BTreeMap::new();
    for log in logs {
        let cursor = cursors.get(&name(&log)).copied().unwrap_or(Seq::ZERO);
        if cursor < log.applied {
            let lives = boxes.entry(log.box_id.clone()).or_default();
            lives.entry(log.life).or_default().push((log, cursor));
        }
    }
    boxes
        .into_values()
        .filter_map(|lives| lives.into_values().next())
        .collect()
}

struct Gathering<'a> {
    config: &'a OutputConfig,
    snapshot: &'a Snapshot<'a>,
    store: &'a OutputStore,
    output: i64,
    datasets: &'a [i64],
    room: usize,
    bytes: usize,
    next: Next,
}

impl Gathering<'_> {
    /// Takes from the lanes of one life in the order of capture.
    fn gather(&mut self, logs: &[(LogRow, Seq)]) -> Result<(), Trouble> {
        let limits = SliceLimits {
            numbers: NUMBERS_MAX,
            entries: self.room,
            bytes: SLICE_BYTES_MAX,
        };
        let mut slices = Vec::new();
        for (log, cursor) in logs {
            let slice = self.snapshot.slice(log, *cursor, self.datasets, limits)?;
            slices.push(slice);
        }
        // Beyond its slice, a lane may hold captures that come before those of another lane.
        let mut bound = Capture(u64::MAX);
        for (slice, (log, _)) in slices.iter().zip(logs) {
            if slice.seen < log.applied {
                self.next.is_full = true;
                let last = slice.entries.last().map(|entry| entry.capture);
                bound = bound.min(last.unwrap_or(Capture(0)));
            }
        }
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (lane, slice) in slices.iter().enumerate() {
            let within = slice.entries.iter().filter(|entry| entry.capture <= bound);
            order.extend((0..within.count()).map(|at| (lane, at)));
        }
        let entry = |&(lane, at): &(usize, usize)| -> &FeedEntry { &slices[lane].entries[at] };
        order.sort_by_key(|place| entry(place).capture);
        let mut taken = vec![0; slices.len()];
        for place in &order {
            if self.room == 0 || BATCH_BYTES_MAX < self.bytes {
                self.next.is_full = true;
                break;
            }
            self.take(&logs[place.0].0, entry(place))?;
            taken[place.0] = place.1 + 1;
        }
        for ((slice, taken), (log, cursor)) in slices.iter().zip(taken).zip(logs) {
            let reached = reached(slice, taken, *cursor);
            if *cursor < reached {
                self.next.plan.cursors.push((name(log), reached));
            }
        }
        Ok(())
    }

    fn take(&mut self, log: &LogRow, entry: &FeedEntry) -> Result<(), Trouble> {
        let event = match judge(self.config, log, &entry.bytes) {
            Verdict::Deliver(event) => event,
            Verdict::Withheld => {
                self.next.plan.withheld += 1;
                return Ok(());
            }
            Verdict::Other => return Ok(()),
        };
        let item = Item {
            log: name(log),
            seq: entry.seq,
            held: None,
        };
        self.room -= 1;
        self.bytes += entry.bytes.len();
        let is_event = !self.config.kind.is_state();
        if is_event && self.store.first_held(self.output, &event.key)?.is_some() {
            self.next.behind.push(NewHeld {
                item,
                key: event.key,
                reason: None,
                detail: String::new(),
            });
        } else {
            self.next.plan.items.push(item);
        }
        Ok(())
    }
}

/// Where a lane's cursor stands when so many entries of its slice are taken.
fn reached(slice: &Slice, taken: usize, cursor: Seq) -> Seq {
    match taken {
        all if all == slice.entries.len() => slice.seen,
        0 => cursor,
        some => slice.entries[some - 1].seq,
    }
}
