//! Comparing the boxes' copies with what they are to show: asked for by a box's word about its logs,
//! which it gives every night and on command; so a box that was away is compared when it is back.
//!
//! The question goes down among the changes, under a version of its own. The box's answer holds for
//! that place of its log; the hub looks through its own state in slices, each with its position, and
//! marks what it changes meanwhile. Buckets that neither side has marked must agree. Those that do not
//! are said again, in slices that wait for room, and compared another time; those that were marked are
//! compared another time too.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{Feed, SLICE_BYTES, SLICE_SUBJECTS, Subscriber, is_carried, reload_due};
use crate::engine::answers::Answer;
use crate::engine::compare::{bucket_of, digest_of_copy};
use crate::model::compare::{CopySaid, KIND, LOGS, LogsSaid, Marks, Sums, Verdict};
use crate::model::down::{Compare, Compared, Copy, Down, Mended, Version};
use crate::model::fault::{self, Fault};
use crate::model::record::Entry;
use crate::model::{BoxId, DatasetId, Lane, UnixMs};
use crate::store::StoreError;
use crate::store::hub::HubStore;
use crate::store::hub::compare::ComparisonRow;
use crate::store::hub::feed::StateEntry;
use crate::store::hub::rights::AuditRow;

/// Looks through the hub's state that go on at the same time; others wait.
const LOOKS_MAX: usize = 4;
/// Rounds of one comparison: after so many what still moves, or still differs, is told.
const ROUNDS_MAX: u32 = 6;
/// When more of a copy differs it is loaded anew.
const MEND_BUCKETS_MAX: u32 = 128;
/// What is said again waits for this much room, so that changes never stand behind it for long and
/// nothing is dropped.
const WAITING_BYTES_MAX: u64 = 1 << 20;
/// A comparison is not begun again sooner, whoever asks.
const PAUSE_MS: i64 = 60_000;
/// A comparison of which nothing was heard for so long begins anew when the box asks.
const STALE_MS: i64 = 12 * 3_600_000;

pub(super) type Key = (BoxId, DatasetId);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Wanted,
    Asked,
    Mending,
}

/// How far a comparison is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Work {
    stage: Stage,
    begun: UnixMs,
    round: u32,
    /// Of the question, or from which on subjects were said again.
    version: Version,
    load: Version,
    /// Where the look through the state is.
    last: (String, String),
    looked: bool,
    /// The box was loading when it was asked: it is to have everything before it is asked again.
    waits: bool,
    ours: Sums,
    said: Option<CopySaid>,
    /// Buckets that are still to be found equal, those that have changed, and those to be said again.
    open: Marks,
    moved: Marks,
    wrong: Marks,
    /// Found to differ until now, and what was said again for it.
    differed: Marks,
    subjects: u64,
}

/// For the log.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Ended {
    pub box_id: BoxId,
    pub dataset: String,
    pub verdict: Verdict,
    pub buckets: u64,
    pub subjects: u64,
}

enum Step {
    Rests,
    Moved,
    Ended,
}

impl Feed {
    // === What comes in ===

    /// A box's word in a comparison.
    pub(in crate::engine) fn hear(
        &mut self,
        store: &mut HubStore,
        box_id: &BoxId,
        answer: &Answer,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        if answer.loai != KIND {
            return Ok(());
        }
        if answer.ma == LOGS {
            if let Ok(logs) = serde_json::from_str::<LogsSaid>(&answer.chi_tiet) {
                self.logs_said.push((box_id.clone(), logs));
            }
            return self.want(store, box_id, now);
        }
        let said = serde_json::from_str::<CopySaid>(&answer.chi_tiet).ok();
        let (Ok(dataset), Some(said)) = (answer.ma.parse(), said) else {
            return Ok(());
        };
        let key = (box_id.clone(), dataset);
        if let Some(work) = self.comparing.get_mut(&key)
            && work.stage == Stage::Asked
            && work.version == said.version
        {
            work.said = Some(said);
            keep(store, &key, work)?;
        }
        Ok(())
    }

    /// Every copy of a box is to be compared.
    fn want(
        &mut self,
        store: &mut HubStore,
        box_id: &BoxId,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let mut wanted = Vec::new();
        for (dataset, subscribers) in &self.datasets {
            if subscribers.iter().any(|one| one.box_id == *box_id) {
                wanted.push((box_id.clone(), dataset.clone()));
            }
        }
        for key in wanted {
            let is_fresh = |since: UnixMs, ms: i64| (0..ms).contains(&(now.0 - since.0));
            let goes_on = self.comparing.get(&key);
            let ended = store.comparison_ended(&key.0, key.1.as_str())?;
            if goes_on.is_some_and(|work| is_fresh(work.begun, STALE_MS))
                || ended.is_some_and(|ended| is_fresh(ended, PAUSE_MS))
            {
                continue;
            }
            let work = Work::wanted(now);
            keep(store, &key, &work)?;
            self.comparing.insert(key, work);
        }
        Ok(())
    }

    /// A copy goes to a box: what the comparison has seen of its bucket holds no more.
    pub(super) fn mark(
        &mut self,
        store: &mut HubStore,
        box_id: &BoxId,
        copy: &Copy,
    ) -> Result<(), StoreError> {
        if self.comparing.is_empty() || fault::is_planted(Fault::MovedNotMarked) {
            return Ok(());
        }
        let key = (box_id.clone(), copy.dataset.clone());
        let bucket = bucket_of(copy.agency.as_str(), copy.subject.as_str());
        if let Some(work) = self.comparing.get_mut(&key)
            && work.stage == Stage::Asked
            && !work.moved.has(bucket)
        {
            work.moved.set(bucket);
            keep(store, &key, work)?;
        }
        Ok(())
    }

    /// As the store has them; another process may have gone on.
    pub(super) fn recall_comparisons(&mut self, store: &HubStore) -> Result<(), StoreError> {
        self.comparing.clear();
        for (box_id, dataset, work) in store.comparisons_at_work()? {
            if let (Ok(dataset), Ok(work)) = (dataset.parse(), serde_json::from_str(&work)) {
                self.comparing.insert((box_id, dataset), work);
            }
        }
        Ok(())
    }

    pub(super) fn forget_comparison(
        &mut self,
        store: &mut HubStore,
        key: &Key,
    ) -> Result<(), StoreError> {
        self.comparing.remove(key);
        store.drop_comparison(&key.0, key.1.as_str())
    }

    pub(in crate::engine) fn take_logs_said(&mut self) -> Vec<(BoxId, LogsSaid)> {
        std::mem::take(&mut self.logs_said)
    }

    pub(in crate::engine) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    // === Step by step ===

    /// Lets one comparison go on, each in its turn.
    pub(super) fn compare(&mut self, store: &mut HubStore, now: UnixMs) -> Result<(), StoreError> {
        self.is_compare_resting = true;
        if self.comparing.is_empty() {
            return Ok(());
        }
        let looks = |work: &&Work| work.stage == Stage::Asked && !work.looked;
        let has_room = self.comparing.values().filter(looks).count() < LOOKS_MAX;
        let may_move = |work: &Work| match work.stage {
            Stage::Wanted => has_room,
            Stage::Asked => !work.looked || work.said.is_some(),
            Stage::Mending => true,
        };
        let after = match &self.compared_last {
            Some(key) => Bound::Excluded(key.clone()),
            None => Bound::Unbounded,
        };
        let behind = self.comparing.range((after, Bound::Unbounded));
        let keys: Vec<Key> = behind
            .chain(self.comparing.iter())
            .filter(|(_, work)| may_move(work))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let Some(mut work) = self.comparing.remove(&key) else {
                continue;
            };
            match self.advance(store, &key, &mut work, now)? {
                Step::Rests => {
                    self.comparing.insert(key, work);
                    continue;
                }
                Step::Moved => {
                    keep(store, &key, &work)?;
                    self.comparing.insert(key.clone(), work);
                }
                Step::Ended => {}
            }
            self.is_compare_resting = false;
            self.compared_last = Some(key);
            break;
        }
        Ok(())
    }

    fn advance(
        &mut self,
        store: &mut HubStore,
        key: &Key,
        work: &mut Work,
        now: UnixMs,
    ) -> Result<Step, StoreError> {
        let subscribers = self.datasets.get(&key.1);
        let subscriber = subscribers.and_then(|all| all.iter().find(|one| one.box_id == key.0));
        let Some(load) = subscriber.map(|subscriber| subscriber.load) else {
            store.drop_comparison(&key.0, key.1.as_str())?;
            return Ok(Step::Ended);
        };
        if work.stage != Stage::Wanted && work.load != load {
            *work = Work::wanted(work.begun);
        }
        let mut loads = self.loads.iter();
        let is_loading = loads.any(|row| row.box_id == key.0 && row.dataset == key.1);
        match work.stage {
            Stage::Wanted if is_loading => Ok(Step::Rests),
            Stage::Wanted if work.waits && 0 < store.down_waiting_bytes(&key.0, Lane::P4)? => {
                Ok(Step::Rests)
            }
            Stage::Wanted => self.ask(store, key, work, load, now),
            Stage::Asked if !work.looked => self.look(store, key, work),
            Stage::Asked => self.judge(store, key, work, now),
            Stage::Mending => {
                if WAITING_BYTES_MAX < store.down_waiting_bytes(&key.0, Lane::P2)? {
                    return Ok(Step::Rests);
                }
                self.mend(store, key, work, now)
            }
        }
    }

    /// Puts the question into the box's log; from here on changes are marked.
    fn ask(
        &mut self,
        store: &mut HubStore,
        key: &Key,
        work: &mut Work,
        load: Version,
        now: UnixMs,
    ) -> Result<Step, StoreError> {
        work.stage = Stage::Asked;
        work.round += 1;
        work.version = store.next_version(now)?;
        work.load = load;
        work.last = Default::default();
        work.looked = false;
        work.ours = Sums::default();
        work.said = None;
        work.moved = Marks::default();
        let compare = Compare {
            dataset: key.1.clone(),
            version: work.version,
            load,
            at: now,
        };
        self.post(&key.0, &Down::Compare(compare));
        Ok(Step::Moved)
    }

    /// A slice of the hub's own state.
    fn look(
        &mut self,
        store: &mut HubStore,
        key: &Key,
        work: &mut Work,
    ) -> Result<Step, StoreError> {
        let version = work.version;
        let (states, is_done) = slice(store, key, work)?;
        for state in states {
            if let Some(copy) = self.shown(key, &state, version) {
                let bucket = bucket_of(copy.agency.as_str(), copy.subject.as_str());
                work.ours.add(bucket, digest_of_copy(&copy));
            }
            work.last = (state.agency.to_string(), state.subject);
        }
        work.looked = is_done;
        Ok(Step::Moved)
    }

    /// What the box is to have of a subject.
    fn shown(&self, key: &Key, state: &StateEntry, version: Version) -> Option<Copy> {
        let subscribers = self.datasets.get(&key.1)?;
        let subscriber: &Subscriber = subscribers.iter().find(|one| one.box_id == key.0)?;
        let entry = Entry::parse(&state.entry).ok()?;
        let at = UnixMs((version.0 >> 10) as i64);
        self.copy(subscriber, &entry, at).filter(is_carried)
    }

    fn judge(
        &mut self,
        store: &mut HubStore,
        key: &Key,
        work: &mut Work,
        now: UnixMs,
    ) -> Result<Step, StoreError> {
        let Some(said) = work.said.take() else {
            return Ok(Step::Rests);
        };
        let Some(theirs) = said.sums else {
            // It was loading; the question comes again, until the rounds are used up.
            return match work.round < ROUNDS_MAX {
                true => {
                    work.stage = Stage::Wanted;
                    work.waits = true;
                    Ok(Step::Moved)
                }
                false => self.end(store, key, work, Verdict::Unsettled, now),
            };
        };
        let has_moved = |bucket: u8| said.moved.has(bucket) || work.moved.has(bucket);
        let differs = |bucket: u8| theirs.of(bucket) != work.ours.of(bucket);
        let open = work.open;
        let settled = open.iter().filter(|&bucket| !has_moved(bucket));
        work.wrong = settled.filter(|&bucket| differs(bucket)).collect();
        work.open = open
            .iter()
            .filter(|&bucket| has_moved(bucket) || differs(bucket))
            .collect();
        let found = work.differed.iter().chain(work.wrong.iter());
        work.differed = found.collect();
        let is_last = ROUNDS_MAX <= work.round;
        if work.open.is_empty() {
            let verdict = match work.differed.is_empty() {
                true => Verdict::Equal,
                false => Verdict::Mended,
            };
            return self.end(store, key, work, verdict, now);
        }
        if work.wrong.is_empty() && is_last {
            return self.end(store, key, work, Verdict::Unsettled, now);
        }
        if work.wrong.is_empty() {
            work.stage = Stage::Wanted;
            return Ok(Step::Moved);
        }
        if is_last {
            return self.end(store, key, work, Verdict::Failed, now);
        }
        if MEND_BUCKETS_MAX < work.wrong.count() {
            if reload_due(store, &key.0, now)?.is_some() {
                return self.end(store, key, work, Verdict::Failed, now);
            }
            store.note_reloaded(&key.0, now)?;
            self.load_again(store, key, now)?;
            return self.end(store, key, work, Verdict::Reloaded, now);
        }
        work.stage = Stage::Mending;
        work.version = store.next_version(now)?;
        work.last = Default::default();
        Ok(Step::Moved)
    }

    /// A slice of what differs, said again; then what was not said is to go, and all of it is compared
    /// another time.
    fn mend(
        &mut self,
        store: &mut HubStore,
        key: &Key,
        work: &mut Work,
        now: UnixMs,
    ) -> Result<Step, StoreError> {
        let (states, is_done) = slice(store, key, work)?;
        for state in states {
            if let Some(mut copy) = self.shown(key, &state, work.version)
                && work
                    .wrong
                    .has(bucket_of(copy.agency.as_str(), copy.subject.as_str()))
            {
                copy.version = store.next_version(now)?;
                copy.at = now;
                self.post(&key.0, &Down::Mend(copy));
                work.subjects += 1;
            }
            work.last = (state.agency.to_string(), state.subject);
        }
        if is_done {
            for bucket in work.wrong.iter() {
                let mended = Mended {
                    dataset: key.1.clone(),
                    load: work.load,
                    bucket,
                    since: work.version,
                    version: store.next_version(now)?,
                    at: now,
                };
                self.post(&key.0, &Down::Mended(mended));
            }
            work.stage = Stage::Wanted;
        }
        Ok(Step::Moved)
    }

    fn end(
        &mut self,
        store: &mut HubStore,
        key: &Key,
        work: &Work,
        verdict: Verdict,
        now: UnixMs,
    ) -> Result<Step, StoreError> {
        let detail = match verdict {
            Verdict::Unsettled | Verdict::Failed => format!("open {}", work.open.count()),
            _ => String::new(),
        };
        let row = ComparisonRow {
            box_id: key.0.clone(),
            dataset: key.1.to_string(),
            ended: now,
            result: verdict.as_str().to_owned(),
            buckets: u64::from(work.differed.count()),
            subjects: work.subjects,
            detail,
        };
        self.tell(store, row, verdict)?;
        Ok(Step::Ended)
    }

    /// How a comparison has ended: for the store, the audit, the log, and the box.
    pub(in crate::engine) fn tell(
        &mut self,
        store: &mut HubStore,
        row: ComparisonRow,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        store.end_comparison(&row)?;
        if verdict != Verdict::Equal {
            store.add_audit(&AuditRow {
                at: row.ended,
                who: "trucd".to_owned(),
                action: "compare".to_owned(),
                detail: format!(
                    "{} {} {} {} buckets {} subjects {}",
                    row.box_id, row.dataset, row.result, row.buckets, row.subjects, row.detail
                ),
            })?;
        }
        let compared = Compared {
            dataset: row.dataset.parse().ok(),
            at: row.ended,
            result: row.result,
            buckets: row.buckets,
            subjects: row.subjects,
        };
        self.post(&row.box_id, &Down::Compared(compared));
        self.ended.push(Ended {
            box_id: row.box_id,
            dataset: row.dataset,
            verdict,
            buckets: row.buckets,
            subjects: row.subjects,
        });
        Ok(())
    }
}

impl Work {
    fn wanted(now: UnixMs) -> Work {
        Work {
            stage: Stage::Wanted,
            begun: now,
            round: 0,
            version: Version::default(),
            load: Version::default(),
            last: Default::default(),
            looked: false,
            waits: false,
            ours: Sums::default(),
            said: None,
            open: Marks::ALL,
            moved: Marks::default(),
            wrong: Marks::default(),
            differed: Marks::default(),
            subjects: 0,
        }
    }
}

/// The next subjects, and whether they are the last.
fn slice(
    store: &mut HubStore,
    key: &Key,
    work: &Work,
) -> Result<(Vec<StateEntry>, bool), StoreError> {
    let number = store.dataset_number(&key.1)?;
    let mut states = store.state_after(number, &work.last, SLICE_SUBJECTS)?;
    let mut is_done = (states.len() as u64) < SLICE_SUBJECTS;
    let mut bytes = 0;
    let within = states.iter().take_while(|state| {
        let is_within = bytes <= SLICE_BYTES;
        bytes += state.entry.len();
        is_within
    });
    let count = within.count();
    is_done &= count == states.len();
    states.truncate(count);
    Ok((states, is_done))
}

fn keep(store: &mut HubStore, key: &Key, work: &Work) -> Result<(), StoreError> {
    let text = serde_json::to_string(work).expect("plain JSON");
    store.put_comparison(&key.0, key.1.as_str(), &text)
}
