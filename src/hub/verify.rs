//! Proves the store anew: every chain from the entries' own bytes, every batch's signature against
//! the box's registered key, every number either held or in the gap ledger, and the present state
//! against the entries that it came from. It reads as a stream and stops at the first fault.

mod present;

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::evidence::{BatchClaim, PublicKey, chain_after};
use crate::hub::verify::present::Judge;
use crate::model::chunk::ChunkEntry;
use crate::model::record::Entry;
use crate::model::{BoxId, Capture, Chain, DatasetId, Epoch, Lane, Seq};
use crate::store::StoreError;
use crate::store::hub_view::proof::{KeptEntry, SignedBatch};
use crate::store::hub_view::{BoxRow, GapRow, HubView, LogRow, Snapshot, log_of, seq_of};

/// What was found sound for one box.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    #[serde(rename = "box")]
    pub box_id: BoxId,
    pub logs: u64,
    pub entries: u64,
    pub batches: u64,
    /// Entries that repeat one of another epoch.
    pub doubles: u64,
    pub parked: u64,
    /// Numbers that were said to be lost.
    pub lost: u64,
}

/// Where a fault lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub box_id: BoxId,
    pub epoch: Epoch,
    pub lane: Lane,
    pub seq: Seq,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "box {} epoch {} lane {} number {}",
            self.box_id, self.epoch, self.lane, self.seq
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("the entry is missing, and the gap ledger does not name it")]
    Missing,
    #[error("an entry stands where the gap ledger says that it was lost")]
    InGap,
    #[error("an entry stands behind the position that receipts were given for")]
    BeyondApplied,
    #[error("the position that receipts were given for ({applied}) has no entry")]
    AppliedWithoutEntry { applied: Seq },
    #[error("the chain of the entries is not the one that receipts were given for")]
    Chain,
    #[error("the batch does not continue the chain before it")]
    Base,
    #[error("the batch's signature is not that of the box's key over these entries")]
    Signature,
    #[error("no signed batch covers the entry")]
    Uncovered,
    #[error("a signed batch has no entries")]
    EmptyBatch,
    #[error("the entry is a repeat of one that is not there")]
    LostOriginal,
    #[error("the entry's columns do not agree with its bytes")]
    Columns,
    #[error("the log's counters ({counter}) do not agree with its entries")]
    Counters { counter: &'static str },
    #[error("the present state of the entry's subject is older than the entry")]
    StateBehind,
    #[error("the present state points to an entry that is not there or is of another subject")]
    StatePointer,
    #[error("the box's registered key cannot be read")]
    Key,
    #[error("entries stand in log {log}, which is not written down")]
    UnknownLog { log: i64 },
}

/// The first fault, and its place where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: Option<Place>,
    pub finding: Finding,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.finding),
            None => write!(f, "{}", self.finding),
        }
    }
}

/// Why the store was not found sound.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Fault(Fault),
}

/// Checks one box, or all and what joins them. `sound` hears of each box that was found sound.
pub fn verify(
    view: &HubView,
    only: Option<&BoxId>,
    mut sound: impl FnMut(Summary),
) -> Result<(), Unsound> {
    let boxes = view.snapshot()?.boxes()?;
    for known in boxes
        .iter()
        .filter(|known| only.is_none_or(|only| known.box_id == *only))
    {
        // Each box is read in a snapshot of its own, so that the hub's WAL is cut back in between.
        sound(verify_box(&view.snapshot()?, known)?);
    }
    if only.is_none() {
        verify_whole(&view.snapshot()?)?;
    }
    Ok(())
}

fn verify_box(snapshot: &Snapshot<'_>, known: &BoxRow) -> Result<Summary, Unsound> {
    let datasets: HashMap<i64, DatasetId> = snapshot.datasets()?.into_iter().collect();
    let gaps = snapshot.gaps()?;
    let mut summary = Summary {
        box_id: known.box_id.clone(),
        logs: 0,
        entries: 0,
        batches: 0,
        doubles: 0,
        parked: 0,
        lost: 0,
    };
    let logs = snapshot.logs()?;
    let judge = Judge::new(snapshot, &datasets, &logs);
    let keys = keys_of(snapshot, known)?;
    for log in logs.iter().filter(|log| log.box_id == known.box_id) {
        let keys = keys
            .as_ref()
            .ok_or_else(|| fault(log, Seq::ZERO, Finding::Key))?;
        summary.lost += before_begin(&logs, &gaps, log)?;
        let mut walk = Walk {
            snapshot,
            datasets: &datasets,
            keys,
            log,
            judge: &judge,
            gaps: gaps_of(&gaps, log),
            reached: log.begin.previous(),
            chain: None,
            batch: None,
            counted: Counted::default(),
            summary: &mut summary,
        };
        snapshot.for_each_entry(log.log, |entry| walk.entry(&entry))?;
        walk.end()?;
        summary.logs += 1;
    }
    Ok(summary)
}

/// The keys that the box has had, the oldest first, and the one in force; none when one is no key.
fn keys_of(snapshot: &Snapshot<'_>, known: &BoxRow) -> Result<Option<Vec<PublicKey>>, StoreError> {
    let rows = snapshot.keys_of(&known.box_id)?;
    let was_used = |state: &str| matches!(state, "retired" | "current");
    let mut keys: Vec<&[u8]> = rows
        .iter()
        .filter(|row| was_used(&row.state))
        .map(|row| row.public_key.as_slice())
        .collect();
    if keys.last() != Some(&known.public_key.as_slice()) {
        keys.push(&known.public_key);
    }
    let keys = keys.into_iter().map(PublicKey::from_bytes);
    Ok(keys.collect::<Result<_, _>>().ok())
}

/// What belongs to no single box: the present state, and entries of no log.
fn verify_whole(snapshot: &Snapshot<'_>) -> Result<(), Unsound> {
    if let Some(place) = snapshot.first_orphan()? {
        let finding = Finding::UnknownLog { log: log_of(place) };
        return Err(Unsound::Fault(Fault {
            place: None,
            finding,
        }));
    }
    let datasets: HashMap<i64, DatasetId> = snapshot.datasets()?.into_iter().collect();
    let logs = snapshot.logs()?;
    let judge = Judge::new(snapshot, &datasets, &logs);
    snapshot.for_each_state(|state| {
        if judge.points_rightly(&state)? {
            return Ok(());
        }
        let place = state.order.place;
        let log = judge.log(log_of(place));
        Err(Unsound::Fault(Fault {
            place: log.map(|log| place_in(log, seq_of(place))),
            finding: Finding::StatePointer,
        }))
    })
}

/// Numbers go on through the epochs: what lies before this log's beginning must have been held by an
/// earlier log of the lane, or stand in the ledger. Returns how many numbers were lost there.
fn before_begin(logs: &[LogRow], gaps: &[GapRow], log: &LogRow) -> Result<u64, Unsound> {
    let held = logs
        .iter()
        .filter(|other| other.box_id == log.box_id && other.lane == log.lane && other.log < log.log)
        .map(|other| other.applied)
        .max()
        .unwrap_or(Seq::ZERO);
    let lost = gaps
        .iter()
        .find(|gap| is_of(gap, log) && gap.last < log.begin);
    let covered = match lost {
        Some(gap) if gap.first <= held.next() => held.max(gap.last),
        _ => held,
    };
    match log.begin <= covered.next() {
        true => Ok(lost.map_or(0, |gap| gap.first.count_to(gap.last))),
        false => Err(fault(log, covered.next(), Finding::Missing)),
    }
}

/// The walk along one log.
struct Walk<'a> {
    snapshot: &'a Snapshot<'a>,
    datasets: &'a HashMap<i64, DatasetId>,
    /// The box's keys that may have signed what is still ahead, the oldest first: once a batch was
    /// signed with one, those before it have ended.
    keys: &'a [PublicKey],
    log: &'a LogRow,
    judge: &'a Judge<'a>,
    /// Ranges still ahead, first to last.
    gaps: std::vec::IntoIter<(Seq, Seq)>,
    /// Everything up to here was held or said to be lost.
    reached: Seq,
    /// The chain at `reached`; none at the beginning and behind a gap, where the next batch brings a
    /// start that the box has signed: an epoch goes on from the chain of the one before it.
    chain: Option<Chain>,
    /// The batch that covers the entries being walked.
    batch: Option<SignedBatch>,
    counted: Counted,
    summary: &'a mut Summary,
}

#[derive(Default)]
struct Counted {
    entries: u64,
    doubles: u64,
    bytes: u64,
    max_capture: Capture,
}

impl Walk<'_> {
    fn entry(&mut self, entry: &KeptEntry<'_>) -> Result<(), Unsound> {
        self.pass_gaps(entry.seq)?;
        let seq = self.reached.next();
        if seq < entry.seq {
            return Err(self.fault(seq, Finding::Missing));
        }
        if entry.seq < seq {
            return Err(self.fault(entry.seq, Finding::InGap));
        }
        if self.log.applied < seq {
            return Err(self.fault(seq, Finding::BeyondApplied));
        }
        let Some(bytes) = entry.bytes else {
            return Err(self.fault(seq, Finding::LostOriginal));
        };
        self.open_batch(seq)?;
        let chain = self.chain.expect("an open batch brought a chain");
        self.chain = Some(chain_after(chain, bytes));
        self.reached = seq;
        self.close_batch()?;
        self.count(entry, bytes);
        self.contents(entry, bytes)
    }

    /// Steps over the gaps that begin where the walk stands, as long as they end before `next`.
    fn pass_gaps(&mut self, next: Seq) -> Result<(), Unsound> {
        while let Some(&(first, last)) = self.gaps.as_slice().first() {
            if self.reached.next() < first {
                break;
            }
            if self.batch.is_some() || first <= self.reached {
                return Err(self.fault(first, Finding::InGap));
            }
            if next <= last {
                return Err(self.fault(next, Finding::InGap));
            }
            self.gaps.next();
            self.summary.lost += first.count_to(last);
            self.reached = last;
            self.chain = None;
        }
        Ok(())
    }

    /// Makes sure that a batch covers `seq`, and that it continues the chain.
    fn open_batch(&mut self, seq: Seq) -> Result<(), Unsound> {
        if self.batch.is_some() {
            return Ok(());
        }
        let Some(batch) = self
            .snapshot
            .batch_from(self.log.log, seq)?
            .filter(|batch| batch.first_new == seq && seq <= batch.last && batch.first <= seq)
        else {
            return Err(self.fault(seq, Finding::Uncovered));
        };
        // A batch that began earlier brought numbers that were there already; its signature still
        // binds them to the chain that it ends with.
        if batch.first == seq && *self.chain.get_or_insert(batch.base) != batch.base
            || self.chain.is_none()
        {
            return Err(self.fault(seq, Finding::Base));
        }
        self.batch = Some(batch);
        Ok(())
    }

    fn close_batch(&mut self) -> Result<(), Unsound> {
        let chain = self.chain.expect("an open batch brought a chain");
        let Some(batch) = self.batch.take_if(|batch| batch.last == self.reached) else {
            return Ok(());
        };
        let claim = BatchClaim {
            box_id: &self.log.box_id,
            lane: self.log.lane,
            epoch: self.log.epoch,
            begin: self.log.begin,
            oldest: batch.oldest,
            first: batch.first,
            last: batch.last,
            base: batch.base,
            chain,
        };
        let signed = |key: &PublicKey| key.verify(&claim, &batch.signature).is_ok();
        match self.keys.iter().position(signed) {
            Some(at) => self.keys = &self.keys[at..],
            None => return Err(self.fault(batch.first_new, Finding::Signature)),
        }
        self.summary.batches += 1;
        Ok(())
    }

    fn count(&mut self, entry: &KeptEntry<'_>, bytes: &[u8]) {
        self.counted.entries += 1;
        self.counted.doubles += u64::from(entry.is_double);
        self.counted.bytes += bytes.len() as u64;
        self.counted.max_capture = self.counted.max_capture.max(entry.capture);
        self.summary.parked += u64::from(entry.is_parked);
    }

    /// Compares the entry's columns with its bytes, and the present state with the entry.
    fn contents(&self, entry: &KeptEntry<'_>, bytes: &[u8]) -> Result<(), Unsound> {
        let dataset = entry.dataset.and_then(|number| self.datasets.get(&number));
        let parsed = Entry::parse(bytes).ok();
        if parsed.is_none()
            && self.log.lane == Lane::P4
            && let Some(chunk) = ChunkEntry::parse(bytes)
        {
            return match (entry.dataset, chunk.capture == entry.capture) {
                (None, true) => Ok(()),
                _ => Err(self.fault(entry.seq, Finding::Columns)),
            };
        }
        let agrees = parsed.as_ref().map(|parsed| &parsed.kind.dataset) == dataset
            && parsed.as_ref().map_or(Capture(0), |parsed| parsed.capture) == entry.capture;
        if !agrees {
            return Err(self.fault(entry.seq, Finding::Columns));
        }
        let (Some(parsed), Some(dataset)) = (parsed, entry.dataset) else {
            return match entry.is_parked || entry.is_double {
                true => Ok(()),
                false => Err(self.fault(entry.seq, Finding::Columns)),
            };
        };
        if entry.is_double || entry.is_parked {
            return Ok(());
        }
        match self.judge.is_newer(self.log, dataset, &parsed)? {
            true => Err(self.fault(entry.seq, Finding::StateBehind)),
            false => Ok(()),
        }
    }

    fn end(mut self) -> Result<(), Unsound> {
        self.pass_gaps(Seq(u64::MAX))?;
        if let Some((first, _)) = self.gaps.next() {
            return Err(self.fault(self.reached.next().min(first), Finding::Missing));
        }
        let log = self.log;
        if self.reached < log.applied {
            return Err(match self.batch {
                Some(_) => self.fault(self.reached.next(), Finding::Missing),
                None => self.fault(
                    self.reached.next(),
                    Finding::AppliedWithoutEntry {
                        applied: log.applied,
                    },
                ),
            });
        }
        if log.applied < self.reached {
            return Err(self.fault(self.reached, Finding::BeyondApplied));
        }
        if let Some(batch) = &self.batch {
            return Err(self.fault(batch.last, Finding::Missing));
        }
        if let Some(batch) = self.snapshot.batch_from(log.log, self.reached.next())? {
            return Err(self.fault(batch.first_new, Finding::EmptyBatch));
        }
        // Behind a gap with nothing after it, the chain is the box's word alone until its next batch.
        if self.chain.is_some_and(|chain| chain != log.chain) {
            return Err(self.fault(self.reached, Finding::Chain));
        }
        self.counters()?;
        self.summary.entries += self.counted.entries;
        self.summary.doubles += self.counted.doubles;
        Ok(())
    }

    fn counters(&self) -> Result<(), Unsound> {
        let (log, counted) = (self.log, &self.counted);
        let counter = if log.entries != counted.entries {
            "entries"
        } else if log.doubles != counted.doubles {
            "doubles"
        } else if log.bytes != counted.bytes {
            "bytes"
        } else if log.max_capture != counted.max_capture {
            "max_capture"
        } else {
            return Ok(());
        };
        Err(self.fault(self.reached, Finding::Counters { counter }))
    }

    fn fault(&self, seq: Seq, finding: Finding) -> Unsound {
        fault(self.log, seq, finding)
    }
}

fn gaps_of(gaps: &[GapRow], log: &LogRow) -> std::vec::IntoIter<(Seq, Seq)> {
    let of_this_log: Vec<(Seq, Seq)> = gaps
        .iter()
        .filter(|gap| is_of(gap, log) && log.begin <= gap.last)
        .map(|gap| (gap.first, gap.last))
        .collect();
    of_this_log.into_iter()
}

fn is_of(gap: &GapRow, log: &LogRow) -> bool {
    gap.box_id == log.box_id && gap.epoch == log.epoch && gap.lane == log.lane
}

fn place_in(log: &LogRow, seq: Seq) -> Place {
    Place {
        box_id: log.box_id.clone(),
        epoch: log.epoch,
        lane: log.lane,
        seq,
    }
}

fn fault(log: &LogRow, seq: Seq, finding: Finding) -> Unsound {
    Unsound::Fault(Fault {
        place: Some(place_in(log, seq)),
        finding,
    })
}
