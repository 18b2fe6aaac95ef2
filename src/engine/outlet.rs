//! The offering half of an engine: the lanes of one sender, from the store's blocks to signed batches,
//! and from receipts to what may be forgotten. A box has one; the hub has one per box.

use bytes::Bytes;

use super::carry::Message;
use super::content::{self, Content, Load};
use super::log::{Logs, Tools};
use crate::evidence::{BatchClaim, CurrentKey};
use crate::model::chunk::Digest;
use crate::model::fault::{self, Fault};
use crate::model::limits::{BATCH_ENTRIES_MAX, MESSAGE_BYTES_MAX};
use crate::model::{BoxId, Capture, Chain, Epoch, Lane, MonoMs, Now, Seq, UnixMs};
use crate::store::StoreError;
use crate::store::log::{LogStore, Mark};
use crate::sync::bucket::Bucket;
use crate::sync::lanes::Lanes;
use crate::sync::sender::{Fit, Sender};
use crate::sync::{Limits, LogName, Offer};
use crate::wire::{Receipt, WireError};

/// The lanes from this one on may be bounded: what is urgent never waits for a timetable.
const BOUND_FROM: Lane = Lane::P2;

/// Numbers only; what is to be offered lies in the store.
pub(super) struct Outlet {
    limits: Limits,
    lanes: Lanes,
    logs: Logs,
    acked_sum: [u64; 5],
    /// Per lane, where the log stands with the last entry that was sent.
    sent: [Option<Mark>; 5],
    message_bytes_max: usize,
    /// Bounds the lanes from [`BOUND_FROM`] on.
    bucket: Bucket,
}

/// Whose logs these are, and who signs what is offered.
pub(super) struct Signer<'a> {
    pub box_id: &'a BoxId,
    pub key: &'a CurrentKey,
    /// What travels beside chunks.
    pub content: &'a dyn Content,
}

/// What came of a lane's turn.
pub(super) enum Offered {
    Message {
        message: Bytes,
        offer: Offer,
        /// A content of which a chunk was to travel and that is not to be had any more.
        gone: Option<Digest>,
    },
    /// An entry does not pass the link's limit; its lane rests until the next link.
    TooLarge {
        lane: Lane,
        bytes: usize,
        limit: usize,
    },
}

/// What a receipt has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    /// The log is received up to another entry than before.
    Moved,
    /// The receiver has entries that this log does not have: it needs a new epoch.
    Ahead,
}

impl Outlet {
    /// Reads where the logs stand; takes the same time whatever the backlog.
    pub fn open(store: &impl LogStore, limits: Limits) -> Result<Self, StoreError> {
        let mut outlet = Self {
            limits,
            lanes: lanes(limits, store)?,
            logs: Logs::open(store)?,
            acked_sum: [0; 5],
            sent: [None; 5],
            message_bytes_max: MESSAGE_BYTES_MAX,
            bucket: Bucket::default(),
        };
        outlet.load_marks(store)?;
        Ok(outlet)
    }

    // === The log ===

    pub fn newest_capture(&self) -> Capture {
        self.logs.newest_capture()
    }

    /// Bytes of a lane that wait for their receipt.
    pub fn waiting_bytes(&self, lane: Lane) -> u64 {
        let sum_bytes = self.logs.sum_bytes(lane);
        sum_bytes.saturating_sub(self.acked_sum[lane.index()])
    }

    /// Up to where a lane is received.
    pub fn acked(&self, lane: Lane) -> Seq {
        self.lanes.sender(lane).acked()
    }

    /// Entries that wait for their receipt, per lane.
    pub fn waiting(&self) -> [u64; 5] {
        Lane::ALL.map(|lane| {
            let sender = self.lanes.sender(lane);
            sender
                .acked()
                .next()
                .max(sender.oldest())
                .count_to(sender.newest())
        })
    }

    /// Adds an entry; it is in the store with the next [`Outlet::flush`], and offered after
    /// [`Outlet::appended`].
    pub fn append<S: LogStore>(
        &mut self,
        store: &mut S,
        tools: &mut Tools,
        lane: Lane,
        (capture, stored_at): (Capture, UnixMs),
        entry: &[u8],
    ) -> Result<Seq, StoreError> {
        self.logs
            .append(store, tools, lane, capture, stored_at, entry)
    }

    /// Lets the entries that were added since be offered.
    pub fn appended(&mut self) {
        for lane in Lane::ALL {
            let newest = self.logs.newest(lane);
            if self.lanes.sender(lane).newest() < newest {
                self.lanes.handle_appended(lane, newest);
            }
        }
    }

    /// Gives back the memory in which entries are collected.
    pub fn give_memory_back(&mut self) {
        self.logs.give_memory_back();
    }

    /// Writes what was added into the store.
    pub fn flush<S: LogStore>(
        &mut self,
        store: &mut S,
        tools: &mut Tools,
    ) -> Result<(), StoreError> {
        self.logs.flush(store, tools)
    }

    // === The link ===

    pub fn handle_up(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max.min(MESSAGE_BYTES_MAX);
        self.lanes.handle_up();
    }

    pub fn handle_down(&mut self) {
        self.lanes.handle_down();
    }

    /// The receiver asks where each log stands.
    pub fn greet(&mut self) {
        self.lanes.greet();
    }

    pub fn handle_timeout(&mut self, now: MonoMs) {
        self.lanes.handle_timeout(now);
    }

    pub fn poll_timeout(&self) -> Option<MonoMs> {
        let opens = self.bucket.opens_at();
        [
            self.lanes.poll_timeout(),
            opens.filter(|_| self.lanes.is_up()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// From now on the less urgent lanes send at most so many kilobits a second.
    pub fn set_bandwidth(&mut self, now: MonoMs, kbps: Option<u32>) {
        self.bucket.set(kbps, now);
    }

    /// Whether the link makes no progress; the lanes then rest until the next one.
    pub fn poll_stalled(&mut self) -> bool {
        self.lanes.poll_stalled()
    }

    /// The next message to put on the wire. Call until `None`.
    pub fn poll_transmit<S: LogStore>(
        &mut self,
        now: MonoMs,
        store: &S,
        tools: &mut Tools,
        signer: &Signer<'_>,
    ) -> Result<Option<Offered>, StoreError> {
        let Self {
            lanes,
            logs,
            sent,
            message_bytes_max,
            bucket,
            ..
        } = self;
        let is_open = bucket.is_open(now);
        lanes.hold((!is_open).then_some(BOUND_FROM));
        let mut message = None;
        let mut gone = None;
        let offer = lanes.poll_transmit(now, |offer| {
            let log = LogReader { store, logs, tools };
            let batch = build(log, signer, sent, *message_bytes_max, offer)?;
            message = Some(batch.message);
            gone = batch.gone;
            Ok::<_, BuildError>(batch.fit)
        });
        match offer {
            Ok(None) => Ok(None),
            Ok(Some(offer)) => {
                let message = message.expect("an offer was built");
                if BOUND_FROM <= offer.log.lane {
                    bucket.spend(message.len());
                }
                Ok(Some(Offered::Message {
                    message,
                    offer,
                    gone,
                }))
            }
            Err(BuildError::Store(error)) => Err(error),
            Err(BuildError::Limit { lane, bytes, limit }) => {
                self.lanes.pause(lane);
                Ok(Some(Offered::TooLarge { lane, bytes, limit }))
            }
        }
    }

    /// Every message that the entries without a receipt make, in their order, without a link.
    pub fn carry<S: LogStore, E: From<StoreError>>(
        &mut self,
        store: &S,
        tools: &mut Tools,
        signer: &Signer<'_>,
        mut put: impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { logs, sent, .. } = self;
        for lane in Lane::ALL {
            let state = store.lane_state(lane)?;
            let mut first = state.acked.seq.max(state.tail.seq).next().max(state.begin);
            while first <= state.newest.seq {
                let offer = Offer {
                    log: LogName {
                        lane,
                        epoch: store.epoch(),
                    },
                    begin: state.begin,
                    oldest: state.tail.seq.next().max(state.begin),
                    first,
                    last: state.newest.seq,
                };
                let log = LogReader { store, logs, tools };
                let built = build(log, signer, sent, MESSAGE_BYTES_MAX, offer);
                let built = built.map_err(|error| match error {
                    BuildError::Store(error) => error,
                    // The door takes nothing that a message cannot carry.
                    BuildError::Limit { .. } => StoreError::Damaged,
                })?;
                put(Message {
                    lane,
                    entries: first.count_to(built.fit.last),
                    bytes: &built.message,
                    is_without_content: built.gone.is_some(),
                })?;
                first = built.fit.last.next();
            }
        }
        Ok(())
    }

    /// The planted fault [`Fault::ForgetOnSend`].
    pub fn forget<S: LogStore>(
        &mut self,
        now: Now,
        store: &mut S,
        tools: &mut Tools,
        offer: Offer,
    ) -> Result<(), StoreError> {
        let mark = self
            .logs
            .mark_at(store, tools, offer.log.lane, offer.last)?;
        if let Some(mark) = mark {
            store.set_acked(offer.log.lane, mark, &[], now.wall)?;
        }
        Ok(())
    }

    // === Receipts ===

    /// Takes a receipt of the present epoch whose signature was found right.
    pub fn take_receipt<S: LogStore>(
        &mut self,
        now: Now,
        store: &mut S,
        tools: &mut Tools,
        message: &[u8],
        receipt: &Receipt,
    ) -> Result<Taken, StoreError> {
        let lane = receipt.ack.log.lane;
        let applied = receipt.ack.applied;
        // A receiver that was set back behind all that is held gets what is held.
        let tail = self.lanes.sender(lane).oldest().previous();
        let mark = self.logs.mark_at(store, tools, lane, applied.max(tail))?;
        let diverged = Seq::ZERO < applied
            && mark.is_some_and(|mark| mark.seq == applied && mark.chain != receipt.chain)
            && !fault::is_planted(Fault::ChainNotCompared);
        let before = self.lanes.sender(lane).acked();
        if diverged || self.lanes.handle_ack(now.mono_ms, receipt.ack).is_err() {
            return Ok(Taken::Ahead);
        }
        let after = self.lanes.sender(lane).acked();
        if after != before {
            let mark = mark.ok_or(StoreError::Damaged)?;
            store.set_acked(lane, mark, message, now.wall)?;
            self.acked_sum[lane.index()] = mark.sum_bytes;
        } else if applied == after && receipt.refused.is_none() {
            store.note_receipt(lane, message, now.wall)?;
        }
        if after < before {
            self.sent[lane.index()] = None;
        }
        match after == before {
            true => Ok(Taken::Nothing),
            false => Ok(Taken::Moved),
        }
    }

    /// The chain of a lane at a number, as far as that is still known.
    pub fn chain_at<S: LogStore>(
        &self,
        store: &S,
        tools: &mut Tools,
        lane: Lane,
        seq: Seq,
    ) -> Result<Option<Chain>, StoreError> {
        let mark = self.logs.mark_at(store, tools, lane, seq)?;
        Ok(mark.map(|mark| mark.chain))
    }

    /// All that is held goes out again under a new epoch.
    pub fn begin_epoch<S: LogStore>(
        &mut self,
        store: &mut S,
        tools: &mut Tools,
        epoch: Epoch,
    ) -> Result<(), StoreError> {
        self.logs.flush(store, tools)?;
        store.begin_epoch(epoch)?;
        let up = self.lanes.is_up();
        self.lanes = lanes(self.limits, store)?;
        self.sent = [None; 5];
        self.load_marks(store)?;
        if up {
            self.lanes.handle_up();
        }
        Ok(())
    }

    // === House ===

    /// Deletes some blocks that have their receipt and lie beyond the kept tail; says whether there
    /// were any.
    pub fn trim<S: LogStore>(
        &mut self,
        store: &mut S,
        keep_since: UnixMs,
        keep_bytes: u64,
        blocks_max: usize,
    ) -> Result<bool, StoreError> {
        for lane in Lane::ALL {
            if let Some(oldest) = store.trim(lane, keep_since, keep_bytes, blocks_max)? {
                self.lanes.handle_dropped(lane, oldest);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The store has dropped what is older than `oldest`, received or not.
    pub fn dropped(
        &mut self,
        store: &impl LogStore,
        lane: Lane,
        oldest: Seq,
    ) -> Result<(), StoreError> {
        self.lanes.handle_dropped(lane, oldest);
        self.sent[lane.index()] = None;
        self.load_marks(store)
    }

    fn load_marks(&mut self, store: &impl LogStore) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            let state = store.lane_state(lane)?;
            // What was dropped without a receipt does not wait either.
            self.acked_sum[lane.index()] = state.acked.sum_bytes.max(state.tail.sum_bytes);
        }
        Ok(())
    }
}

fn lanes(limits: Limits, store: &impl LogStore) -> Result<Lanes, StoreError> {
    let mut senders = Vec::with_capacity(5);
    for lane in Lane::ALL {
        let state = store.lane_state(lane)?;
        let log = LogName {
            lane,
            epoch: store.epoch(),
        };
        senders.push(Sender::new(
            limits,
            log,
            state.begin,
            state.tail.seq.next(),
            state.newest.seq,
            state.acked.seq,
        ));
    }
    let senders = senders.try_into().expect("five lanes make five senders");
    Ok(Lanes::new(limits, senders))
}

enum BuildError {
    Store(StoreError),
    Limit {
        lane: Lane,
        bytes: usize,
        limit: usize,
    },
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        BuildError::Store(error)
    }
}

struct Built {
    message: Bytes,
    fit: Fit,
    gone: Option<Digest>,
}

/// What a batch is made with.
struct LogReader<'a, S> {
    store: &'a S,
    logs: &'a mut Logs,
    tools: &'a mut Tools,
}

/// Reads a batch from the store, checks every entry against its chain, signs and compresses.
fn build<S: LogStore>(
    log: LogReader<'_, S>,
    signer: &Signer<'_>,
    sent: &mut [Option<Mark>; 5],
    limit_bytes: usize,
    offer: Offer,
) -> Result<Built, BuildError> {
    let LogReader { store, logs, tools } = log;
    let lane = offer.log.lane;
    let before = offer.first.previous();
    let base = match sent[lane.index()] {
        Some(mark) if mark.seq == before => mark,
        _ => logs
            .mark_at(store, tools, lane, before)?
            .ok_or(StoreError::Damaged)?,
    };
    let mut entries_max = BATCH_ENTRIES_MAX;
    loop {
        let end = logs.collect(store, tools, base, offer, entries_max)?;
        let gone = match content::load(&mut tools.builder, signer, &offer) {
            Ok(Load::Done) => None,
            Ok(Load::Gone(blob)) => Some(blob),
            Ok(Load::CutAt(entries)) => {
                entries_max = entries;
                continue;
            }
            Err(error) => return Err(StoreError::Content(error.to_string()).into()),
        };
        let claim = BatchClaim {
            box_id: signer.box_id,
            lane,
            epoch: offer.log.epoch,
            begin: offer.begin,
            oldest: offer.oldest,
            first: offer.first,
            last: end.seq,
            base: base.chain,
            chain: end.chain,
        };
        match tools
            .builder
            .encode(&claim, &signer.key.sign(&claim), limit_bytes)
        {
            Ok(message) => {
                sent[lane.index()] = Some(end);
                let fit = Fit {
                    last: end.seq,
                    bytes: (tools.builder.raw_bytes() + tools.builder.cargo_bytes()) as u64,
                };
                return Ok(Built {
                    message: message.into(),
                    fit,
                    gone,
                });
            }
            Err(WireError::TooLarge { bytes, limit }) => {
                let entries = offer.first.count_to(end.seq) as usize;
                if entries <= 1 {
                    return Err(BuildError::Limit { lane, bytes, limit });
                }
                // What would have fitted at the same ratio, and a little less.
                entries_max = (entries * limit / bytes * 9 / 10).clamp(1, entries - 1);
            }
            Err(_) => unreachable!("encoding fails only for size"),
        }
    }
}
