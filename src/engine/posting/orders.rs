//! What was ordered goes into the logs of the boxes, which begin with their first order.

use std::collections::BTreeSet;

use super::Posting;
use crate::model::fault::{self, Fault};
use crate::model::{BoxId, Capture, Epoch, Lane, Now};
use crate::store::StoreError;
use crate::store::hub::HubStore;
use crate::store::hub::down::Reload;

/// Orders taken up in one step.
const ORDERS_MAX: usize = 2_000;
const ORDER_BYTES_MAX: usize = 4 << 20;

impl Posting {
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
    pub(super) fn create(
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
}

/// No box can have a greater epoch in earnest, and a new one must still be found above it.
pub(super) const EPOCH_MAX: Epoch = Epoch(1 << 62);

/// Epochs rise, so that a box knows the newer one; they follow the clock, so that a hub that was set
/// back mostly finds one that is greater than those it has forgotten.
pub(super) fn mint(now: Now, above: Epoch) -> Epoch {
    Epoch((above.0 + 1).max(now.wall.0.max(0) as u64))
}
