//! What only the running daemon knows: how the link stands, and what troubles the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::edge::connectors::Board;
use crate::edge::orders::Steering;
use crate::edge::status::{
    LinkReason, LinkState, LinkStatus, NameState, RefusedByHub, Stamp, Trouble,
};
use crate::edge::texts;
use crate::model::UnixMs;
use crate::model::order::Timetable;
use crate::shell::down::DownReason;
use crate::store::StoreError;
use crate::store::edge::SourceTally;
use crate::wire::RefusalCode;

#[derive(Debug)]
pub struct Live {
    facts: Mutex<Facts>,
    /// What each source did at all, as far as it did something since the daemon started.
    counts: Mutex<BTreeMap<String, SourceTally>>,
    pub board: Arc<Board>,
    steering: Arc<Steering>,
    /// The configuration's, where no command has set another.
    bandwidth: Timetable,
    pub running_since: UnixMs,
}

#[derive(Debug, Clone)]
pub struct Facts {
    pub link: LinkStatus,
    /// None while the store works.
    pub trouble: Option<Trouble>,
    pub refused_by_hub: Option<RefusedByHub>,
    /// Receipts without a valid signature.
    pub forged_receipts: u64,
    /// What the store of what comes down suffers from; none while it works.
    pub down_trouble: Option<String>,
    /// Batches of the hub that were refused.
    pub refused_down: u64,
    pub lan_name: NameState,
}

impl Live {
    pub fn new(
        now: UnixMs,
        board: Arc<Board>,
        steering: Arc<Steering>,
        bandwidth: Timetable,
    ) -> Live {
        let link = LinkStatus {
            state: LinkState::Connecting,
            address: None,
            since: Some(Stamp(now)),
            last_receipt: None,
            reason: None,
        };
        let facts = Facts {
            link,
            trouble: None,
            refused_by_hub: None,
            forged_receipts: 0,
            down_trouble: None,
            refused_down: 0,
            lan_name: NameState::Off,
        };
        Live {
            facts: Mutex::new(facts),
            counts: Mutex::default(),
            board,
            steering,
            bandwidth,
            running_since: now,
        }
    }

    /// Kilobits a second that the lanes P2 to P4 may use at this time.
    pub fn bandwidth_kbps(&self, now: UnixMs) -> Option<u32> {
        let ordered = self.steering.bandwidth.borrow();
        ordered.as_ref().unwrap_or(&self.bandwidth).kbps(now)
    }

    /// Sources have done something; the store hears of it only now and then.
    pub fn count(&self, counts: Vec<(String, SourceTally)>) {
        if !counts.is_empty() {
            self.counts.lock().expect("no holder panics").extend(counts);
        }
    }

    /// Another store, or the same one anew, says what sources did.
    pub fn forget_counts(&self) {
        self.counts.lock().expect("no holder panics").clear();
    }

    /// What each source did at all, of those that did something since the daemon started.
    pub fn counts(&self) -> BTreeMap<String, SourceTally> {
        self.counts.lock().expect("no holder panics").clone()
    }

    pub fn facts(&self) -> Facts {
        self.lock().clone()
    }

    /// The link is there.
    pub fn link_up(&self, address: String, now: UnixMs) {
        let mut facts = self.lock();
        facts.link = LinkStatus {
            state: LinkState::Up,
            address: Some(address),
            since: Some(Stamp(now)),
            last_receipt: None,
            reason: None,
        };
    }

    /// The link is being made; what is known of the last failure stays.
    pub fn link_connecting(&self, address: String) {
        let mut facts = self.lock();
        facts.link.address = Some(address);
    }

    /// There is no link, and why; `since` tells when it was lost, not when it was last tried.
    pub fn link_down(&self, address: String, reason: DownReason, now: UnixMs) {
        let mut facts = self.lock();
        if facts.link.state != LinkState::Down {
            facts.link.state = LinkState::Down;
            facts.link.since = Some(Stamp(now));
        }
        facts.link.address = Some(address);
        facts.link.reason = Some(LinkReason {
            code: reason.as_code().to_owned(),
            mqtt: reason.reason_code(),
            text_vi: reason.vietnamese().to_owned(),
        });
    }

    /// Says how the store is; true when that is new.
    pub fn store(&self, error: Option<&StoreError>, now: UnixMs) -> bool {
        let mut facts = self.lock();
        let trouble = error.map(|error| texts::trouble(error, Stamp(now)));
        let code = |trouble: &Option<Trouble>| trouble.as_ref().map(|trouble| trouble.code.clone());
        let changed = code(&facts.trouble) != code(&trouble);
        if changed {
            facts.trouble = trouble;
        }
        changed
    }

    /// The hub has refused a batch; true when that is new.
    pub fn refused_by_hub(&self, code: RefusalCode, now: UnixMs) -> bool {
        let mut facts = self.lock();
        let before = facts.refused_by_hub.replace(RefusedByHub {
            code: code.as_str().to_owned(),
            at: Stamp(now),
            text_vi: texts::refusal_vi(code).to_owned(),
        });
        before.is_none_or(|before| before.code != code.as_str())
    }

    /// Counts a receipt without a valid signature; true for the first.
    pub fn forged_receipt(&self) -> bool {
        let mut facts = self.lock();
        facts.forged_receipts += 1;
        facts.forged_receipts == 1
    }

    /// Entries of the hub have come.
    pub fn heard_down(&self) {
        self.steering.wake.notify_one();
    }

    /// Says how the store of what comes down is; true when that is new.
    pub fn down_store(&self, error: Option<&StoreError>) -> bool {
        let mut facts = self.lock();
        let trouble = error.map(StoreError::to_string);
        let changed = facts.down_trouble != trouble;
        facts.down_trouble = trouble;
        changed
    }

    /// Counts a batch of the hub that was refused; true for the first.
    pub fn refused_down(&self) -> bool {
        let mut facts = self.lock();
        facts.refused_down += 1;
        facts.refused_down == 1
    }

    /// Says whether the office's network knows the box's name; true when that is new.
    pub fn lan_name(&self, state: NameState) -> bool {
        std::mem::replace(&mut self.lock().lan_name, state) != state
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().expect("no holder panics")
    }
}
