//! The hub's engine: takes the batches of many boxes, commits them together, gives receipts.
//!
//! Positions are read from the store within the transaction, so several workers may share it. A
//! batch that is forged, foreign or broken is refused, counted and answered; it never stops others.

pub mod effect;
mod entries;
mod keys;
mod logs;

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::content::Content;
use super::feed::Feed;
use super::files;
use super::inlet::{self, Heard, Stand};
use super::parts::{self, NotCarried, Parts};
use super::posting::{DownSpace, Posting};
use crate::catalogue::Catalogue;
use crate::evidence::{CurrentKey, PublicKey};
use crate::model::fault::{self, Fault};
use crate::model::{BoxId, Chain, Lane, MonoMs, Now, Seq, UnixMs};
use crate::store::hub::{BoxKey, BoxState, HubStore, LogState};
use crate::store::{Options, StoreError};
use crate::sync::receiver::Receiver;
use crate::sync::{Ack, Limits, LogName};
use crate::wire::{self, Batch, BatchDecoder, Receipt, RefusalCode};
use effect::Effect;

/// What an engine is made with.
pub struct Config {
    pub store: PathBuf,
    pub options: Options,
    pub key: CurrentKey,
    /// Where the content of attachments goes.
    pub parts: Box<dyn Parts>,
}

/// What came in.
pub enum Event {
    /// The broker is there: say to every box where its logs stand.
    LinkUp,
    LinkDown,
    /// A batch or a receipt, from the topic of this box.
    Received {
        box_id: BoxId,
        message: Bytes,
    },
    /// A box's retained presence changed; the text is JSON.
    Presence {
        box_id: BoxId,
        presence: String,
    },
}

pub struct HubEngine {
    store: HubStore,
    key: CurrentKey,
    parts: Box<dyn Parts>,
    receivers: HashMap<(BoxId, LogName), Receiver>,
    decoder: BatchDecoder,
    posting: Posting,
    /// Bytes of offers that a step may return.
    room_bytes: usize,
    feed: Feed,
    effects: Vec<Effect>,
}

/// What became of messages that a stick has brought.
#[derive(Debug, Default)]
pub struct Carried {
    /// Entries in the messages that were looked at.
    pub offered: u64,
    /// Of these, entries that the hub did not have.
    pub new: u64,
    /// Signed, in the order in which they were given.
    pub receipts: Vec<Bytes>,
    pub refused: Option<RefusalCode>,
}

/// A receiver remembers only what it asked for; beyond this many they are all forgotten.
const RECEIVERS_MAX: usize = 50_000;

/// A box's whole chain of reasons to be refused ends in one of these.
enum Outcome {
    Answer(Option<Ack>, Chain),
    Refuse(RefusalCode, Option<LogState>),
}

impl HubEngine {
    pub fn open(config: Config) -> Result<Self, StoreError> {
        let mut engine = Self {
            store: HubStore::open(&config.store, config.options)?,
            key: config.key,
            parts: config.parts,
            receivers: HashMap::new(),
            decoder: BatchDecoder::default(),
            posting: Posting::new(Limits::FIELD, DownSpace::FIELD),
            room_bytes: usize::MAX,
            feed: Feed::default(),
            effects: Vec::new(),
        };
        engine.set_down_space(DownSpace::FIELD);
        Ok(engine)
    }

    pub fn set_down_space(&mut self, space: DownSpace) {
        self.posting.set_space(space);
        // The rest is for statuses, which are small.
        self.feed.document_bytes_max = space.lane_bytes_max[Lane::P1.index()] / 4 * 3;
    }

    /// Where the content of files comes from that go down; without it nothing of them is sent.
    pub fn set_content(&mut self, content: Box<dyn Content>) {
        self.posting.set_content(content);
    }

    /// The link carries messages of at most so many bytes; to be said before [`Event::LinkUp`].
    pub fn set_message_bytes_max(&mut self, message_bytes_max: usize) {
        self.posting.set_message_bytes_max(message_bytes_max);
    }

    /// What is handed on, and to whom, is judged by this catalogue; without one nothing is.
    pub fn set_catalogue(&mut self, catalogue: Arc<Catalogue>) {
        let document_bytes_max = self.feed.document_bytes_max;
        self.feed = Feed::new(Some(catalogue));
        self.feed.document_bytes_max = document_bytes_max;
    }

    /// How many bytes of offers the next step may return, at about; more wait for another step.
    pub fn set_room(&mut self, room_bytes: usize) {
        self.room_bytes = room_bytes;
    }

    /// Whether another process may have ordered something; looks at shared memory only.
    pub fn may_have_orders(&mut self) -> Result<bool, StoreError> {
        self.posting.may_have_orders(&mut self.store)
    }

    /// Whether a day has begun since the last step: mergers and catalogues take effect with it.
    pub fn is_new_day(&self, now: UnixMs) -> bool {
        self.feed.is_new_day(now)
    }

    /// When `step` wants to be called though nothing has happened.
    pub fn poll_timeout(&self, now: MonoMs) -> Option<MonoMs> {
        match self.feed.is_busy() {
            true => Some(now),
            false => self.posting.poll_timeout(now),
        }
    }

    /// Applies events in one transaction; returns what is to be done after its commit.
    pub fn step(&mut self, now: Now, events: Vec<Event>) -> Result<Vec<Effect>, StoreError> {
        self.store.begin()?;
        self.feed.refresh(&mut self.store, now.wall)?;
        for event in events {
            match event {
                Event::LinkUp => {
                    self.posting.forget_all();
                    self.announce(now)?;
                }
                Event::LinkDown => self.posting.forget_all(),
                Event::Received { box_id, message } => {
                    match wire::is_receipt(&message) {
                        true => self.receive_receipt(now, &box_id, &message)?,
                        false => self.receive(now, &box_id, &message)?,
                    }
                    self.posting.heard(&self.store, now, &box_id)?;
                }
                Event::Presence { box_id, presence } => {
                    self.store.set_presence(&box_id, &presence, now.wall)?;
                    match is_online(&presence) {
                        true => self.posting.heard(&self.store, now, &box_id)?,
                        false => self.posting.gone(&box_id),
                    }
                }
            }
        }
        self.compare_logs(now)?;
        self.feed.work(&mut self.store, now.wall)?;
        self.send_down(now)?;
        let ended = self.feed.take_ended().into_iter();
        self.effects.extend(ended.map(Effect::from));
        self.parts.sync().map_err(not_written)?;
        if fault::is_crash_due() {
            if fault::is_planted(Fault::ReceiptBeforeCommit) {
                self.store.roll_back()?;
                return Ok(std::mem::take(&mut self.effects));
            }
            return Err(StoreError::Full);
        }
        self.store.commit()?;
        Ok(std::mem::take(&mut self.effects))
    }

    /// Takes messages that a stick has brought, in one transaction, beside the engine that serves the
    /// line, in this process or another: what is to go down is ordered here and sent by that one. The
    /// first message that is refused ends it; what stands before it is committed.
    pub fn take_carried(
        &mut self,
        now: Now,
        box_id: &BoxId,
        messages: &[Vec<u8>],
    ) -> Result<Carried, StoreError> {
        let mut carried = Carried::default();
        self.store.begin()?;
        self.feed.refresh(&mut self.store, now.wall)?;
        for message in messages {
            match self.decoder.decode(message) {
                Ok(batch) => {
                    self.take_batch(now, box_id, &batch)?;
                    let offer = batch.offer;
                    carried.offered += offer.first.count_to(offer.last);
                }
                Err(_) => self.refuse(now, box_id, RefusalCode::Unreadable)?,
            }
            for effect in self.effects.drain(..) {
                match effect {
                    Effect::Publish { message, .. } => carried.receipts.push(message),
                    Effect::Committed { records, .. } => carried.new += records,
                    Effect::Refused { code, .. } => carried.refused = Some(code),
                    _ => {}
                }
            }
            if carried.refused.is_some() {
                break;
            }
        }
        self.parts.sync().map_err(not_written)?;
        self.store.commit()?;
        Ok(carried)
    }

    /// Asks every active box to greet. A box that waits goes on at once; one that believes more
    /// than the hub has, after a restore, goes back.
    fn announce(&mut self, now: Now) -> Result<(), StoreError> {
        self.receivers.clear();
        if fault::is_planted(Fault::NoGreeting) {
            return Ok(());
        }
        for box_id in self.store.active_boxes()? {
            self.answer(now, &box_id, Ack::GREET, Chain::ZERO, None);
        }
        Ok(())
    }

    // === Down ===

    /// Takes up what was ordered, by this step or by others, and offers it.
    fn send_down(&mut self, now: Now) -> Result<(), StoreError> {
        let Self {
            store,
            posting,
            key,
            room_bytes,
            feed,
            effects,
            ..
        } = self;
        if posting.may_have_orders(store)? {
            files::refuse(store, now.wall)?;
            posting.take_orders(store, now)?;
        }
        let before = effects.len();
        posting.turn(store, now, key, *room_bytes, effects)?;
        let is_reload = |effect: &Effect| matches!(effect, Effect::Reload { .. });
        if effects[before..].iter().any(is_reload) {
            feed.look_again();
        }
        Ok(())
    }

    fn receive_receipt(
        &mut self,
        now: Now,
        box_id: &BoxId,
        message: &[u8],
    ) -> Result<(), StoreError> {
        let Ok(receipt) = Receipt::decode(message) else {
            return self.refuse(now, box_id, RefusalCode::Unreadable);
        };
        let known = match self.store.box_key(box_id)? {
            None => return self.refuse(now, box_id, RefusalCode::UnknownBox),
            Some(known) if known.state != BoxState::Active => {
                return self.refuse(now, box_id, RefusalCode::Suspended);
            }
            Some(known) => known,
        };
        let (keys, claim) = (keys_of(&known)?, receipt.claim(box_id));
        let signed = |key: &PublicKey| key.verify(&claim, &receipt.signature).is_ok();
        if !keys.iter().any(signed) && !fault::is_planted(Fault::AnyDownReceipt) {
            return self.refuse(now, box_id, RefusalCode::Forged);
        }
        if let Some(code) = receipt.refused.filter(|&code| code != RefusalCode::Lost) {
            self.effects.push(Effect::RefusedByBox {
                box_id: box_id.clone(),
                code,
            });
        }
        let Self {
            store,
            posting,
            feed,
            ..
        } = self;
        posting.take_receipt(store, now, box_id, (message, &receipt))?;
        match receipt.ack.log.lane {
            Lane::P1 => feed.has_received(store, box_id),
            _ => Ok(()),
        }
    }

    // === Up ===

    fn receive(&mut self, now: Now, box_id: &BoxId, message: &[u8]) -> Result<(), StoreError> {
        let Ok(batch) = self.decoder.decode(message) else {
            return self.refuse(now, box_id, RefusalCode::Unreadable);
        };
        self.take_batch(now, box_id, &batch)
    }

    fn take_batch(&mut self, now: Now, box_id: &BoxId, batch: &Batch) -> Result<(), StoreError> {
        let log = batch.offer.log;
        match self.take(now, box_id, batch)? {
            Outcome::Answer(Some(ack), chain) => self.answer(now, box_id, ack, chain, None),
            Outcome::Answer(None, _) => {}
            Outcome::Refuse(code, state) => {
                self.refuse(now, box_id, code)?;
                let applied = state.map_or(Seq::ZERO, |state| state.applied);
                let chain = state.map_or(Chain::ZERO, |state| state.chain);
                let ack = Ack {
                    log,
                    applied,
                    resend: false,
                };
                self.answer(now, box_id, ack, chain, Some(code));
            }
        }
        Ok(())
    }

    fn take(&mut self, now: Now, box_id: &BoxId, batch: &Batch) -> Result<Outcome, StoreError> {
        let Some(known) = self.store.box_key(box_id)? else {
            return Ok(Outcome::Refuse(RefusalCode::UnknownBox, None));
        };
        if known.state != BoxState::Active {
            return Ok(Outcome::Refuse(RefusalCode::Suspended, None));
        }
        let keys = keys_of(&known)?;
        let log = batch.offer.log;
        let state = self.store.log(box_id, log.lane, log.epoch)?;
        let applied = state.map_or(Seq::ZERO, |state| state.applied);
        if RECEIVERS_MAX < self.receivers.len() {
            self.receivers.clear();
        }
        let receiver = self
            .receivers
            .entry((box_id.clone(), log))
            .and_modify(|receiver| {
                if receiver.applied() != applied {
                    *receiver = Receiver::new(log, applied);
                }
            })
            .or_insert_with(|| Receiver::new(log, applied));
        let stand = state.map(|state| Stand {
            applied: state.applied,
            chain: state.chain,
        });
        let signer = Cell::new(0);
        let check = || {
            let (chain, at) = inlet::check(box_id, &keys, batch, stand)?;
            signer.set(at);
            match parts::check(batch, box_id, &keys) {
                Ok(()) => Ok(chain),
                Err(NotCarried) => Err(RefusalCode::Unreadable),
            }
        };
        match inlet::hear(receiver, batch.offer, check) {
            Heard::Refuse(code) => Ok(Outcome::Refuse(code, state)),
            Heard::Nothing(ack) => {
                self.store.saw_box(box_id, now.wall)?;
                let chain = state.map_or(Chain::ZERO, |state| state.chain);
                Ok(Outcome::Answer(ack, chain))
            }
            Heard::Commit(range) => {
                if 0 < signer.get() {
                    self.change_key(now, box_id, &keys[signer.get()])?;
                }
                self.commit_batch(now, box_id, batch, state, range)?;
                let receiver = self
                    .receivers
                    .get_mut(&(box_id.clone(), log))
                    .expect("entered above");
                receiver.handle_committed(range.last);
                let ack = receiver.poll_transmit();
                Ok(Outcome::Answer(ack, range.chain))
            }
        }
    }

    fn refuse(&mut self, now: Now, box_id: &BoxId, code: RefusalCode) -> Result<(), StoreError> {
        self.store.count_refusal(box_id, code.as_str(), now.wall)?;
        self.effects.push(Effect::Refused {
            box_id: box_id.clone(),
            code,
        });
        Ok(())
    }

    fn answer(
        &mut self,
        now: Now,
        box_id: &BoxId,
        ack: Ack,
        chain: Chain,
        refused: Option<RefusalCode>,
    ) {
        let message = inlet::receipt(&self.key, box_id, now.wall, ack, chain, refused);
        self.effects.push(Effect::Publish {
            box_id: box_id.clone(),
            message,
        });
    }
}

/// The key in force, and those that may follow it.
fn keys_of(known: &BoxKey) -> Result<Vec<PublicKey>, StoreError> {
    let keys = [&known.public_key].into_iter().chain(&known.offered);
    keys.map(|key| PublicKey::from_bytes(key).map_err(|_| StoreError::Damaged))
        .collect()
}

/// Whether a presence says that the box is there.
fn is_online(presence: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Online {
        online: bool,
    }
    serde_json::from_str::<Online>(presence).is_ok_and(|presence| presence.online)
}

fn not_written(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Content(error.to_string()),
    }
}
