//! The hub's half of the downlink: takes up what was ordered, keeps one outlet per box that has been
//! heard of, and offers while the boxes answer. A box that is away costs nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use super::content::{self, Content, NoContent};
use super::feed::WAITING_BYTES_MAX;
use super::log::Tools;
use super::outlet::{Offered, Outlet, Signer, Taken};
use crate::evidence::SigningKey;
use crate::model::chunk::Digest;
use crate::model::fault::{self, Fault};
use crate::model::limits::MESSAGE_BYTES_MAX;
use crate::model::{BoxId, Capture, Chain, Epoch, Lane, MonoMs, Now, Seq, UnixMs};
use crate::store::StoreError;
use crate::store::blobs::WantedStore;
use crate::store::hub::down::{DataVersion, DownBox, Reload};
use crate::store::hub::{BoxState, HubStore};
use crate::sync::{Ack, Limits};
use crate::wire::{Receipt, RefusalCode};

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

/// Orders taken up in one step.
const ORDERS_MAX: usize = 2_000;
const ORDER_BYTES_MAX: usize = 4 << 20;
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
    /// To be said when the box is there.
    reload: Option<Reload>,
}

/// What is to be sent once the commit is through.
pub(super) enum Post {
    Offer {
        box_id: BoxId,
        message: Bytes,
    },
    Reload {
        box_id: BoxId,
        why: Reload,
    },
    TooLarge {
        box_id: BoxId,
        lane: Lane,
        bytes: usize,
    },
    /// A file was to go down and cannot be read here.
    Gone {
        box_id: BoxId,
        blob: Digest,
    },
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

    // === Orders ===

    /// Whether there may be orders: some are left, or somebody has written since.
    pub fn may_have_orders(&mut self, store: &mut HubStore) -> Result<bool, StoreError> {
        self.orders_left |= store.take_has_posted();
        Ok(self.orders_left || Some(store.data_version()?) != self.seen)
    }

    /// Puts what was ordered into the boxes' logs, in the open transaction.
    pub fn take_orders(&mut self, store: &mut HubStore, now: Now) -> Result<(), StoreError> {
        for box_id in store.boxes_with_files()? {
            if let Some(index) = self.peer(store, &box_id)? {
                self.make_ready(index);
            }
        }
        let orders = store.orders(ORDERS_MAX, ORDER_BYTES_MAX)?;
        self.seen = Some(store.data_version()?);
        self.orders_left = !orders.is_empty();
        let Some(last) = orders.last().map(|order| order.number) else {
            return Ok(());
        };
        if fault::is_planted(Fault::OrderOutside) {
            store.drop_orders(last)?;
            store.commit()?;
            store.begin()?;
        }
        let mut touched = BTreeSet::new();
        for order in orders {
            let index = match self.peer(store, &order.box_id)? {
                Some(index) => index,
                None => self.create(store, now, &order.box_id, Epoch(0), Reload::New)?,
            };
            let Self { peers, tools, .. } = self;
            let peer = &mut peers[index];
            let stamp = (Capture(0), order.at);
            let mut log = store.down_log(peer.known);
            peer.outlet
                .append(&mut log, tools, order.lane, stamp, &order.entry)?;
            touched.insert(index);
        }
        if !fault::is_planted(Fault::OrderTwice) {
            store.drop_orders(last)?;
        }
        for index in touched {
            self.close_blocks(store, now, index)?;
        }
        Ok(())
    }

    fn close_blocks(
        &mut self,
        store: &mut HubStore,
        now: Now,
        index: usize,
    ) -> Result<(), StoreError> {
        let Self {
            peers,
            tools,
            space,
            ..
        } = self;
        let peer = &mut peers[index];
        let mut log = store.down_log(peer.known);
        peer.outlet.flush(&mut log, tools)?;
        peer.outlet.give_memory_back();
        peer.outlet.appended();
        let mut dropped = false;
        for lane in Lane::ALL {
            let most = space.lane_bytes_max[lane.index()];
            if most < peer.outlet.waiting_bytes(lane)
                && let Some(oldest) = log.drop_oldest(lane, most, now.wall)?
            {
                peer.outlet.dropped(&log, lane, oldest)?;
                dropped = true;
            }
        }
        let (known, box_id) = (peer.known, peer.box_id.clone());
        if dropped {
            peer.reload = Some(Reload::Dropped);
            store.ask_to_reload(known, Reload::Dropped, now.wall)?;
            // A piece of a catalogue may be among it; whoever looks after orders sends them again.
            store.forget_published_to(&box_id)?;
        }
        let is_asleep = !self.peers[index].is_up && self.peers[index].rests_until <= now.mono_ms;
        match is_asleep && self.is_heard(&box_id) {
            true => self.wake(store, index),
            false => {
                self.make_ready(index);
                Ok(())
            }
        }
    }

    /// Creates a box's logs, under an epoch greater than `above`.
    fn create(
        &mut self,
        store: &mut HubStore,
        now: Now,
        box_id: &BoxId,
        above: Epoch,
        why: Reload,
    ) -> Result<usize, StoreError> {
        let known = store.create_down_box(box_id, mint(now, above), why, now.wall)?;
        self.add_peer(store, box_id, known)
    }

    // === Receipts ===

    /// Takes a receipt that the box has signed.
    pub fn take_receipt(
        &mut self,
        store: &mut HubStore,
        now: Now,
        box_id: &BoxId,
        (message, receipt): (&[u8], &Receipt),
    ) -> Result<(), StoreError> {
        let theirs = receipt.ack.log.epoch;
        let Some(index) = self.peer(store, box_id)? else {
            if Epoch(0) < theirs && theirs < EPOCH_MAX {
                // What it has, a store that was set back no longer knows of.
                let index = self.create(store, now, box_id, theirs, Reload::SetBack)?;
                return self.wake(store, index);
            }
            return Ok(());
        };
        if !self.peers[index].is_up {
            self.wake(store, index)?;
        }
        if receipt.ack == Ack::GREET {
            return self.wake(store, index);
        }
        let Self { peers, tools, .. } = self;
        let peer = &mut peers[index];
        if theirs < peer.known.epoch || EPOCH_MAX <= theirs {
            return Ok(());
        }
        if peer.known.epoch < theirs {
            return self.begin_epoch(store, now, index, theirs, Reload::SetBack);
        }
        if receipt.refused == Some(RefusalCode::Lost) {
            return self.begin_epoch(store, now, index, theirs, Reload::LostThere);
        }
        let mut log = store.down_log(peer.known);
        match peer
            .outlet
            .take_receipt(now, &mut log, tools, message, receipt)?
        {
            Taken::Nothing => {}
            Taken::Moved => {
                peer.trim_due = true;
                log.chunks_received(peer.outlet.acked(Lane::P4), now.wall)?;
            }
            Taken::Ahead => {
                return self.begin_epoch(store, now, index, theirs, Reload::SetBack);
            }
        }
        self.make_ready(index);
        Ok(())
    }

    /// What the box holds and what was sent are not the same history any more.
    fn begin_epoch(
        &mut self,
        store: &mut HubStore,
        now: Now,
        index: usize,
        above: Epoch,
        why: Reload,
    ) -> Result<(), StoreError> {
        if fault::is_planted(Fault::NoNewDownEpoch) {
            return Ok(());
        }
        let Self { peers, tools, .. } = self;
        let peer = &mut peers[index];
        let epoch = mint(now, above.max(peer.known.epoch));
        let mut log = store.down_log(peer.known);
        peer.outlet.begin_epoch(&mut log, tools, epoch)?;
        peer.known.epoch = epoch;
        peer.reload = Some(why);
        store.ask_to_reload(peer.known, why, now.wall)?;
        self.make_ready(index);
        Ok(())
    }

    /// The chain of a box's log at a number, where that can still be known.
    pub fn chain_at(
        &mut self,
        store: &HubStore,
        box_id: &BoxId,
        (lane, epoch): (Lane, Epoch),
        seq: Seq,
    ) -> Result<Option<Chain>, StoreError> {
        let Some(index) = self.peer(store, box_id)? else {
            return Ok(None);
        };
        let Self { peers, tools, .. } = self;
        let peer = &peers[index];
        if peer.known.epoch != epoch {
            return Ok(None);
        }
        let log = store.down_log(peer.known);
        peer.outlet.chain_at(&log, tools, lane, seq)
    }

    /// A box holds another history than was sent to it.
    pub fn begin_anew(
        &mut self,
        store: &mut HubStore,
        now: Now,
        box_id: &BoxId,
    ) -> Result<(), StoreError> {
        match self.peer(store, box_id)? {
            Some(index) => {
                let epoch = self.peers[index].known.epoch;
                self.begin_epoch(store, now, index, epoch, Reload::SetBack)
            }
            None => Ok(()),
        }
    }

    // === Time ===

    /// Lets clocks run, offers what may be offered, at most about `room_bytes`, and deletes what need
    /// not be kept.
    pub fn turn(
        &mut self,
        store: &mut HubStore,
        now: Now,
        key: &SigningKey,
        mut room_bytes: usize,
        posts: &mut Vec<Post>,
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
            self.turn_one(store, now, key, index, &mut room_bytes, posts)?;
        }
        Ok(())
    }

    fn turn_one(
        &mut self,
        store: &mut HubStore,
        now: Now,
        key: &SigningKey,
        index: usize,
        room_bytes: &mut usize,
        posts: &mut Vec<Post>,
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
        if peer.is_up && has_room && content::is_due(&log, &peer.outlet)? {
            let mut capture = Capture(0);
            gone = content::queue(
                &mut log,
                &mut peer.outlet,
                tools,
                &**content,
                &mut capture,
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
            posts.push(Post::Reload { box_id, why });
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
                    posts.push(Post::Offer { box_id, message });
                }
                Some(Offered::TooLarge { lane, bytes, .. }) => posts.push(Post::TooLarge {
                    box_id,
                    lane,
                    bytes,
                }),
            }
        }
        for blob in gone {
            let box_id = peer.box_id.clone();
            posts.push(Post::Gone { box_id, blob });
        }
        let has_room = peer.outlet.waiting_bytes(Lane::P4) <= WAITING_BYTES_MAX;
        let has_chunks = peer.is_up && has_room && content::is_due(&log, &peer.outlet)?;
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

/// No box can have a greater epoch in earnest, and a new one must still be found above it.
const EPOCH_MAX: Epoch = Epoch(1 << 62);

/// Epochs rise, so that a box knows the newer one; they follow the clock, so that a hub that was set
/// back mostly finds one that is greater than those it has forgotten.
fn mint(now: Now, above: Epoch) -> Epoch {
    Epoch((above.0 + 1).max(now.wall.0.max(0) as u64))
}
