//! The hub's half of the downlink: takes up what was ordered, keeps one outlet per box that has been
//! heard of, and offers while the boxes answer. A box that is away costs nothing.

mod orders;
mod receipts;

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::content::{self, Ahead, Content, NoContent};
use super::feed::WAITING_BYTES_MAX;
use super::log::Tools;
use super::outlet::{Offered, Outlet, Signer};
use super::receiving::effect::Effect;
use crate::evidence::CurrentKey;
use crate::model::fault::{self, Fault};
use crate::model::limits::MESSAGE_BYTES_MAX;
use crate::model::{BoxId, Capture, Lane, MonoMs, Now, UnixMs};
use crate::store::StoreError;
use crate::store::blobs::WantedStore;
use crate::store::hub::down::{DataVersion, DownBox, Reload};
use crate::store::hub::{BoxState, HubStore};
use crate::sync::Limits;

/// How much may be kept for a box.
#[derive(Debug, Clone, Copy)]
pub struct DownSpace {
    /// Per lane, bytes that wait; beyond this the oldest entries go, which is noted on both sides, and
    /// the box is loaded again.
    pub lane_bytes_max: [u64; 5],
    /// Entries with their receipt are kept so long …
    pub tail_ms: i64,
    /// … and so many bytes of them per lane, whichever is less.
    pub tail_bytes: u64,
}

impl DownSpace {
    pub const FIELD: DownSpace = DownSpace {
        lane_bytes_max: [1 << 20, 256 << 20, 16 << 20, 4 << 20, 16 << 20],
        tail_ms: 3_600_000,
        tail_bytes: 1 << 20,
    };
}

/// Blocks deleted in one step, of one box.
const TRIM_BLOCKS: usize = 64;
/// A box that was heard of but did not answer is offered nothing for so long, unless it asks.
const REST_MS: MonoMs = 300_000;

/// All boxes' outlets.
pub(super) struct Posting {
    limits: Limits,
    space: DownSpace,
    /// By box; a box without logs has been heard of all the same.
    known: HashMap<BoxId, Known>,
    peers: Vec<Peer>,
    /// When each peer's clock is due.
    due: BTreeSet<(MonoMs, usize)>,
    /// Peers that may have something to offer.
    ready: VecDeque<usize>,
    tools: Tools,
    message_bytes_max: usize,
    /// Where the store stood when orders were last looked for.
    seen: Option<DataVersion>,
    orders_left: bool,
    /// Of the files that go down.
    content: Box<dyn Content>,
}

#[derive(Clone, Copy)]
struct Known {
    peer: Option<usize>,
    /// It is there, as far as anybody knows.
    is_heard: bool,
}

struct Peer {
    box_id: BoxId,
    known: DownBox,
    outlet: Outlet,
    is_up: bool,
    is_ready: bool,
    due_at: Option<MonoMs>,
    rests_until: MonoMs,
    trim_due: bool,
    /// Since when its new epochs are counted, and how many there were.
    epochs: (MonoMs, u32),
    /// To be said when the box is there.
    reload: Option<Reload>,
}

impl Posting {
    pub fn new(limits: Limits, space: DownSpace) -> Self {
        Self {
            limits,
            space,
            known: HashMap::new(),
            peers: Vec::new(),
            due: BTreeSet::new(),
            ready: VecDeque::new(),
            tools: Tools::default(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            seen: None,
            orders_left: true,
            content: Box::new(NoContent),
        }
    }

    pub fn set_content(&mut self, content: Box<dyn Content>) {
        self.content = content;
    }

    pub fn set_space(&mut self, space: DownSpace) {
        self.space = space;
    }

    /// The hub's own link carries messages of at most so many bytes.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    // === Who is there ===

    /// The broker is gone, or there again: nobody has been heard of.
    pub fn forget_all(&mut self) {
        self.known
            .values_mut()
            .for_each(|known| known.is_heard = false);
        for index in 0..self.peers.len() {
            self.rest(index, 0);
        }
    }

    pub fn gone(&mut self, box_id: &BoxId) {
        if let Some(known) = self.known.get_mut(box_id) {
            known.is_heard = false;
            if let Some(index) = known.peer {
                self.rest(index, 0);
            }
        }
    }

    /// A box was heard of: what waits for it is offered.
    pub fn heard(&mut self, store: &HubStore, now: Now, box_id: &BoxId) -> Result<(), StoreError> {
        match self.known.get_mut(box_id) {
            Some(known) if known.is_heard => {
                let Some(index) = known.peer else {
                    return Ok(());
                };
                let peer = &self.peers[index];
                if peer.is_up || now.mono_ms < peer.rests_until {
                    return Ok(());
                }
            }
            Some(known) => known.is_heard = true,
            None => {
                let known = Known {
                    peer: None,
                    is_heard: true,
                };
                self.known.insert(box_id.clone(), known);
            }
        }
        if let Some(index) = self.peer(store, box_id)? {
            self.wake(store, index)?;
        }
        Ok(())
    }

    fn wake(&mut self, store: &HubStore, index: usize) -> Result<(), StoreError> {
        let peer = &mut self.peers[index];
        let key = store.box_key(&peer.box_id)?;
        if key.is_some_and(|key| key.state == BoxState::Active) {
            // What was said to no avail is said again; somebody else may have seen to it.
            let found = store.down_box(&peer.box_id)?;
            peer.reload = found.and_then(|found| found.reload);
            peer.is_up = true;
            peer.rests_until = 0;
            peer.outlet.handle_up(self.message_bytes_max);
            self.make_ready(index);
        }
        Ok(())
    }

    fn rest(&mut self, index: usize, until: MonoMs) {
        let peer = &mut self.peers[index];
        peer.is_up = false;
        peer.rests_until = until;
        peer.outlet.handle_down();
        self.set_timer(index);
    }

    /// The outlet of a box that has logs.
    fn peer(&mut self, store: &HubStore, box_id: &BoxId) -> Result<Option<usize>, StoreError> {
        if let Some(Known {
            peer: Some(index), ..
        }) = self.known.get(box_id)
        {
            return Ok(Some(*index));
        }
        match store.down_box(box_id)? {
            Some(known) => Ok(Some(self.add_peer(store, box_id, known)?)),
            None => Ok(None),
        }
    }

    fn add_peer(
        &mut self,
        store: &HubStore,
        box_id: &BoxId,
        known: DownBox,
    ) -> Result<usize, StoreError> {
        let index = self.peers.len();
        self.peers.push(Peer {
            box_id: box_id.clone(),
            outlet: Outlet::open(&store.down_log(known), self.limits)?,
            known,
            is_up: false,
            is_ready: false,
            due_at: None,
            rests_until: 0,
            trim_due: true,
            epochs: (0, 0),
            reload: None,
        });
        self.known
            .entry(box_id.clone())
            .or_insert(Known {
                peer: None,
                is_heard: false,
            })
            .peer = Some(index);
        Ok(index)
    }

    fn is_heard(&self, box_id: &BoxId) -> bool {
        self.known.get(box_id).is_some_and(|known| known.is_heard)
    }

    // === Time ===

    /// Lets clocks run, offers what may be offered, at most about `room_bytes`, and deletes what need
    /// not be kept.
    pub fn turn(
        &mut self,
        store: &mut HubStore,
        now: Now,
        key: &CurrentKey,
        mut room_bytes: usize,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        while let Some(&(at, index)) = self.due.first()
            && at <= now.mono_ms
        {
            self.due.pop_first();
            self.peers[index].due_at = None;
            self.make_ready(index);
        }
        for _ in 0..self.ready.len() {
            if room_bytes == 0 {
                break;
            }
            let Some(index) = self.ready.pop_front() else {
                break;
            };
            self.peers[index].is_ready = false;
            self.turn_one(store, now, key, index, &mut room_bytes, effects)?;
        }
        Ok(())
    }

    fn turn_one(
        &mut self,
        store: &mut HubStore,
        now: Now,
        key: &CurrentKey,
        index: usize,
        room_bytes: &mut usize,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let peer = &self.peers[index];
        if !peer.is_up && (1..=now.mono_ms).contains(&peer.rests_until) {
            self.peers[index].rests_until = 0;
            if self.is_heard(&self.peers[index].box_id) {
                self.wake(store, index)?;
            }
        }
        let Self {
            peers,
            tools,
            space,
            content,
            ..
        } = self;
        let peer = &mut peers[index];
        let mut log = store.down_log(peer.known);
        if peer.trim_due {
            let since = UnixMs(now.wall.0.saturating_sub(space.tail_ms));
            peer.trim_due = peer
                .outlet
                .trim(&mut log, since, space.tail_bytes, TRIM_BLOCKS)?;
        }
        peer.outlet.handle_timeout(now.mono_ms);
        let has_room = peer.outlet.waiting_bytes(Lane::P4) <= WAITING_BYTES_MAX;
        let mut gone = Vec::new();
        if peer.is_up && has_room && content::is_due(&log, &peer.outlet, Ahead::Few)? {
            let mut capture = Capture(0);
            gone = content::queue(
                &mut log,
                &mut peer.outlet,
                tools,
                &**content,
                (&mut capture, Ahead::Few),
                now,
            )?;
            peer.outlet.flush(&mut log, tools)?;
            peer.outlet.give_memory_back();
        }
        let signer = Signer {
            box_id: &peer.box_id,
            key,
            content: &**content,
        };
        if peer.is_up
            && let Some(why) = peer.reload.take()
        {
            let box_id = peer.box_id.clone();
            effects.push(Effect::Reload { box_id, why });
        }
        let mut is_done = !peer.is_up;
        while !is_done && 0 < *room_bytes {
            let offered = peer
                .outlet
                .poll_transmit(now.mono_ms, &log, tools, &signer)?;
            let box_id = peer.box_id.clone();
            match offered {
                None => is_done = true,
                Some(Offered::Message {
                    message,
                    offer,
                    gone: missing,
                }) => {
                    *room_bytes = room_bytes.saturating_sub(message.len());
                    if let Some(blob) = missing
                        && log.blob_is_gone(blob, now.wall)?
                    {
                        gone.push(blob);
                    }
                    if fault::is_planted(Fault::ForgetOnPost) && offer.first <= offer.last {
                        peer.outlet.forget(now, &mut log, tools, offer)?;
                        peer.trim_due = true;
                    }
                    effects.push(Effect::Offer { box_id, message });
                }
                Some(Offered::TooLarge { lane, bytes, .. }) => effects.push(Effect::TooLarge {
                    box_id,
                    lane,
                    bytes,
                }),
            }
        }
        for blob in gone {
            let box_id = peer.box_id.clone();
            effects.push(Effect::FileGone { box_id, blob });
        }
        let has_room = peer.outlet.waiting_bytes(Lane::P4) <= WAITING_BYTES_MAX;
        let has_chunks = peer.is_up && has_room && content::is_due(&log, &peer.outlet, Ahead::Few)?;
        let is_again = !is_done || peer.trim_due || has_chunks;
        if peer.outlet.poll_stalled() {
            self.rest(index, now.mono_ms + REST_MS);
        } else {
            self.set_timer(index);
        }
        if is_again {
            self.make_ready(index);
        }
        Ok(())
    }

    /// When the engine wants to make a step though nothing has happened.
    pub fn poll_timeout(&self, now: MonoMs) -> Option<MonoMs> {
        match self.ready.is_empty() && !self.orders_left {
            true => self.due.first().map(|&(at, _)| at),
            false => Some(now),
        }
    }

    fn make_ready(&mut self, index: usize) {
        if !std::mem::replace(&mut self.peers[index].is_ready, true) {
            self.ready.push_back(index);
        }
    }

    fn set_timer(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        let due_at = match peer.is_up {
            true => peer.outlet.poll_timeout(),
            false => (0 < peer.rests_until).then_some(peer.rests_until),
        };
        if due_at != peer.due_at {
            if let Some(at) = peer.due_at {
                self.due.remove(&(at, index));
            }
            if let Some(at) = due_at {
                self.due.insert((at, index));
            }
            peer.due_at = due_at;
        }
    }
}
