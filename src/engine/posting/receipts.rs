//! What boxes say of what was sent to them.

use super::Posting;
use super::orders::{EPOCH_MAX, mint};
use crate::engine::outlet::Taken;
use crate::model::fault::{self, Fault};
use crate::model::{BoxId, Chain, Epoch, Lane, MonoMs, Now, Seq};
use crate::store::StoreError;
use crate::store::hub::HubStore;
use crate::store::hub::down::Reload;
use crate::store::hub::rights::AuditRow;
use crate::sync::Ack;
use crate::wire::{Receipt, RefusalCode};

/// What a box says may begin its logs anew so often in such a time: its own word is the only proof, and
/// each time what waits is chained again. An honest box needs one or two.
const EPOCHS_MAX: u32 = 12;
const EPOCHS_MS: MonoMs = 3_600_000;

impl Posting {
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
        if !self.may_begin_epoch(store, now, index)? {
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

    /// Counts a new epoch. Beyond the limit the box's word changes nothing until its time is over, and
    /// the audit says so once.
    fn may_begin_epoch(
        &mut self,
        store: &mut HubStore,
        now: Now,
        index: usize,
    ) -> Result<bool, StoreError> {
        let peer = &mut self.peers[index];
        let (since, count) = &mut peer.epochs;
        if *since + EPOCHS_MS <= now.mono_ms {
            (*since, *count) = (now.mono_ms, 0);
        }
        *count = count.saturating_add(1);
        if *count == EPOCHS_MAX + 1 {
            store.add_audit(&AuditRow {
                at: now.wall,
                who: "trucd".to_owned(),
                action: "downlink_epochs".to_owned(),
                detail: format!(
                    "{} has had {EPOCHS_MAX} new epochs within an hour; its word is not followed until \
                     the hour is over",
                    peer.box_id
                ),
            })?;
        }
        Ok(*count <= EPOCHS_MAX)
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
}
