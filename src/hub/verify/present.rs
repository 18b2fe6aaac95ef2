//! The present state against the entries: it points to one of its subject, and none is newer.
//!
//! Newer means of a later life, or captured later within a life. When an earlier life of a box
//! speaks again, two machines run as that box and whoever spoke last is right; the order in which
//! the entries of several logs arrived is not written down. So for the agencies of a box of which
//! this may be true, only a state's own log is held against it: there entries stand in both orders.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use crate::model::record::{Entry, Op};
use crate::model::{AgencyCode, BoxId, DatasetId};
use crate::store::StoreError;
use crate::store::hub_view::proof::{Order, PresentState};
use crate::store::hub_view::{LogRow, Snapshot, log_of};

pub struct Judge<'a> {
    snapshot: &'a Snapshot<'a>,
    datasets: &'a HashMap<i64, DatasetId>,
    /// By number.
    logs: &'a [LogRow],
    /// Agencies whose subjects may be as the last speaker said; looked up when it matters.
    last_speaker: OnceCell<HashSet<AgencyCode>>,
}

impl<'a> Judge<'a> {
    pub fn new(
        snapshot: &'a Snapshot<'a>,
        datasets: &'a HashMap<i64, DatasetId>,
        logs: &'a [LogRow],
    ) -> Judge<'a> {
        Judge {
            snapshot,
            datasets,
            logs,
            last_speaker: OnceCell::new(),
        }
    }

    pub fn log(&self, number: i64) -> Option<&'a LogRow> {
        let at = self.logs.binary_search_by_key(&number, |log| log.log);
        at.ok().map(|at| &self.logs[at])
    }

    /// Whether the entry of this log is newer than the present state of its subject.
    pub fn is_newer(
        &self,
        log: &LogRow,
        dataset: i64,
        entry: &Entry<'_>,
    ) -> Result<bool, StoreError> {
        let subject = entry.subject.as_str();
        let Some(present) = self.snapshot.state_order(dataset, &entry.agency, subject)? else {
            return Ok(true);
        };
        if (log.life, entry.capture) <= (present.life, present.capture) {
            return Ok(false);
        }
        Ok(self.is_said_in(log, &present) || !self.last_speaker()?.contains(&entry.agency))
    }

    /// Whether the state is that of an entry of its subject.
    pub fn points_rightly(&self, state: &PresentState<'_>) -> Result<bool, StoreError> {
        let Order {
            life,
            capture,
            place,
        } = state.order;
        let (Some(log), Some(Ok(entry))) = (self.log(log_of(place)), state.bytes.map(Entry::parse))
        else {
            return Ok(false);
        };
        let agrees = self.datasets.get(&state.dataset) == Some(&entry.kind.dataset)
            && entry.agency.as_str() == state.agency
            && entry.subject.as_str() == state.subject
            && entry.capture == capture
            && (entry.op == Op::Delete) == state.deleted;
        if !agrees || log.life == life {
            return Ok(agrees);
        }
        // It was repeated in another life, and stands for that one: mostly a later, but when two
        // machines run as one box also an earlier.
        let mut logs = self.logs.iter();
        match logs.find(|log| self.is_said_in(log, &state.order)) {
            Some(repeats) => self.snapshot.is_repeat(repeats, capture, place),
            None => Ok(false),
        }
    }

    /// Whether the state was last set by an entry of this log.
    fn is_said_in(&self, log: &LogRow, order: &Order) -> bool {
        let holder = self.log(log_of(order.place));
        log.life == order.life
            && holder.is_some_and(|holder| holder.box_id == log.box_id && holder.lane == log.lane)
    }

    fn last_speaker(&self) -> Result<&HashSet<AgencyCode>, StoreError> {
        if let Some(known) = self.last_speaker.get() {
            return Ok(known);
        }
        let mut agencies = HashSet::new();
        for (box_id, agency) in self.snapshot.agencies()? {
            if self.may_speak_again(&box_id)? {
                agencies.insert(agency);
            }
        }
        Ok(self.last_speaker.get_or_init(|| agencies))
    }

    /// Whether a log of an earlier life may have grown after a later life had begun. The times of
    /// reception tell it, unless the hub's clock was set back meanwhile.
    fn may_speak_again(&self, box_id: &BoxId) -> Result<bool, StoreError> {
        let logs: Vec<&LogRow> = self
            .logs
            .iter()
            .filter(|log| log.box_id == *box_id)
            .collect();
        let mut pairs = logs
            .iter()
            .flat_map(|earlier| logs.iter().map(move |later| (earlier, later)))
            .filter(|(earlier, later)| earlier.life < later.life)
            .peekable();
        if pairs.peek().is_none() {
            return Ok(false);
        }
        if pairs
            .any(|(earlier, later)| later.life < earlier.log || later.first_at <= earlier.last_at)
        {
            return Ok(true);
        }
        for log in logs {
            if self.snapshot.went_back_in_time(log.log)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
