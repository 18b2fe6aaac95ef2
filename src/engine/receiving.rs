//! The hub's engine: takes the batches of many boxes, commits them together, gives receipts.
//!
//! Positions are read from the store within the transaction, so several workers may share it. A
//! batch that is forged, foreign or broken is refused, counted and answered; it never stops others.

mod logs;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::content::Content;
use super::feed::compare::Ended;
use super::feed::route::Committed;
use super::feed::{Change, Feed};
use super::files;
use super::inlet::{self, Heard, Stand};
use super::parts::{self, Arrived, NotCarried, Parts};
use super::posting::{DownSpace, Post, Posting};
use crate::catalogue::Catalogue;
use crate::evidence::{PublicKey, SigningKey};
use crate::model::chunk::{ChunkEntry, Digest};
use crate::model::compare::Verdict;
use crate::model::fault::{self, Fault};
use crate::model::record::{Entry, Op};
use crate::model::{BoxId, Capture, Chain, Lane, MonoMs, Now, Seq, UnixMs};
use crate::store::hub::blobs::BlobState;
use crate::store::hub::down::Reload;
use crate::store::hub::{BatchRow, BoxState, EntryRow, Growth, HubStore, LogState, StateRow};
use crate::store::{Options, StoreError};
use crate::sync::receiver::Receiver;
use crate::sync::{Ack, Limits, LogName, Offer};
use crate::wire::{self, Batch, BatchDecoder, Receipt, RefusalCode};

/// What an engine is made with.
pub struct Config {
    pub store: PathBuf,
    pub options: Options,
    pub key: SigningKey,
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

/// What is to be done now that the commit is through.
#[derive(Debug)]
pub enum Effect {
    Publish {
        box_id: BoxId,
        message: Bytes,
    },
    /// A batch of what goes down; what is not sent is offered again.
    Offer {
        box_id: BoxId,
        message: Bytes,
    },
    /// What this box holds of the hub is to be loaded again.
    Reload {
        box_id: BoxId,
        why: Reload,
    },
    /// An entry to this box does not pass the link's limit; its lane waits for another link.
    TooLarge {
        box_id: BoxId,
        lane: Lane,
        bytes: usize,
    },
    /// A file was to go down to this box and cannot be read here.
    FileGone {
        box_id: BoxId,
        blob: Digest,
    },
    /// The box has refused what was sent down.
    RefusedByBox {
        box_id: BoxId,
        code: RefusalCode,
    },
    /// A batch or a receipt was refused; for the log.
    Refused {
        box_id: BoxId,
        code: RefusalCode,
    },
    /// What a box holds was compared with what it is to hold.
    Compared {
        box_id: BoxId,
        /// Or [`crate::model::compare::LOGS`].
        dataset: String,
        verdict: Verdict,
        buckets: u64,
        subjects: u64,
    },
    /// Records were committed; for counters.
    Committed {
        box_id: BoxId,
        records: u64,
    },
}

pub struct HubEngine {
    store: HubStore,
    key: SigningKey,
    parts: Box<dyn Parts>,
    receivers: HashMap<(BoxId, LogName), Receiver>,
    decoder: BatchDecoder,
    posting: Posting,
    /// Bytes of offers that a step may return.
    room_bytes: usize,
    feed: Feed,
    posts: Vec<Post>,
    effects: Vec<Effect>,
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
        Ok(Self {
            store: HubStore::open(&config.store, config.options)?,
            key: config.key,
            parts: config.parts,
            receivers: HashMap::new(),
            decoder: BatchDecoder::default(),
            posting: Posting::new(Limits::FIELD, DownSpace::FIELD),
            room_bytes: usize::MAX,
            feed: Feed::default(),
            posts: Vec::new(),
            effects: Vec::new(),
        })
    }

    pub fn set_down_space(&mut self, space: DownSpace) {
        self.posting.set_space(space);
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
        self.feed = Feed::new(Some(catalogue));
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
            posts,
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
        posting.turn(store, now, key, *room_bytes, posts)?;
        if posts.iter().any(|post| matches!(post, Post::Reload { .. })) {
            feed.look_again();
        }
        effects.extend(posts.drain(..).map(Effect::from));
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
        let key = PublicKey::from_bytes(&known.public_key).map_err(|_| StoreError::Damaged)?;
        let signed = key.verify(&receipt.claim(box_id), &receipt.signature);
        if signed.is_err() && !fault::is_planted(Fault::AnyDownReceipt) {
            return self.refuse(now, box_id, RefusalCode::Forged);
        }
        if let Some(code) = receipt.refused.filter(|&code| code != RefusalCode::Lost) {
            self.effects.push(Effect::RefusedByBox {
                box_id: box_id.clone(),
                code,
            });
        }
        let Self { store, posting, .. } = self;
        posting.take_receipt(store, now, box_id, (message, &receipt))
    }

    // === Up ===

    fn receive(&mut self, now: Now, box_id: &BoxId, message: &[u8]) -> Result<(), StoreError> {
        let Ok(batch) = self.decoder.decode(message) else {
            return self.refuse(now, box_id, RefusalCode::Unreadable);
        };
        let log = batch.offer.log;
        match self.take(now, box_id, &batch)? {
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
        let key = PublicKey::from_bytes(&known.public_key).map_err(|_| StoreError::Damaged)?;
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
        let keys = [key];
        let check = || {
            let chain = inlet::check(box_id, &keys, batch, stand)?;
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

    fn commit_batch(
        &mut self,
        now: Now,
        box_id: &BoxId,
        batch: &Batch,
        state: Option<LogState>,
        range: inlet::Range,
    ) -> Result<(), StoreError> {
        let offer = batch.offer;
        let LogName { lane, epoch } = offer.log;
        let siblings = self.store.sibling_logs(box_id, lane, epoch)?;
        let (log, missing) = match state {
            Some(state) => (state, [range.missing, None]),
            None => {
                let log = self
                    .store
                    .create_log(box_id, lane, epoch, offer.begin, now.wall)?;
                (log, lost_before(&offer, &siblings))
            }
        };
        for missing in missing.into_iter().flatten() {
            if fault::is_planted(Fault::LossNotNoted) {
                break;
            }
            self.store
                .add_gap(box_id, lane, epoch, missing, "lost_at_box", now.wall)?;
        }
        let mut growth = Growth {
            applied: range.last,
            chain: range.chain,
            max_capture: Capture(0),
            entries: 0,
            doubles: 0,
            bytes: 0,
        };
        if range.first <= range.last {
            self.store.add_batch(
                log.log,
                &BatchRow {
                    first: offer.first,
                    last: offer.last,
                    oldest: offer.oldest,
                    base: batch.base,
                    signature: &batch.signature,
                    first_new: range.first,
                },
                now.wall,
            )?;
            let mut seq = offer.first;
            for (place, bytes) in batch.entries().enumerate() {
                if range.first <= seq {
                    let mut writer = EntryWriter {
                        box_id,
                        log,
                        siblings: &siblings,
                        at: now.wall,
                        feed: &mut self.feed,
                    };
                    let arrived = parts::arrived(batch, place, bytes);
                    let capture = arrived
                        .and_then(|_| ChunkEntry::parse(bytes))
                        .map(|chunk| chunk.capture);
                    writer.write(&mut self.store, seq, bytes, capture, &mut growth)?;
                    self.feed.deliver(&mut self.store, now.wall)?;
                    if let Some(arrived) = arrived {
                        self.take_chunk(now, box_id, arrived)?;
                    }
                }
                seq = seq.next();
            }
        }
        self.store.grow_log(log.log, growth, now.wall)?;
        self.store.saw_box(box_id, now.wall)?;
        self.effects.push(Effect::Committed {
            box_id: box_id.clone(),
            records: growth.entries,
        });
        Ok(())
    }

    /// Puts a chunk's content into its part file; what was kept before is not kept twice.
    fn take_chunk(
        &mut self,
        now: Now,
        box_id: &BoxId,
        arrived: Arrived<'_>,
    ) -> Result<(), StoreError> {
        let Arrived { chunk, content } = arrived;
        if self.store.blob_state(chunk.blob)? == Some(BlobState::Kept) {
            return Ok(());
        }
        let known = self.store.part(box_id, chunk.blob)?;
        let (received, state) = known.map_or((0, BlobState::Receiving), |part| {
            (part.received, part.state)
        });
        // It is being checked, or it is broken and does not begin anew.
        let is_broken = matches!(state, BlobState::Lost | BlobState::Quarantined);
        if state == BlobState::Checking || is_broken && 0 < chunk.at {
            return Ok(());
        }
        let received = if chunk.at == 0 { 0 } else { received };
        let is_written = match content {
            Some(content) if chunk.at <= received => self
                .parts
                .write(box_id, &chunk, content)
                .map_err(not_written)?,
            _ => false,
        };
        let (received, state) = match is_written {
            false => (received, BlobState::Lost),
            true if chunk.is_last() => (chunk.end(), BlobState::Checking),
            true => (received.max(chunk.end()), BlobState::Receiving),
        };
        self.store
            .set_part(box_id, &chunk, received, state, now.wall)
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

/// Whether a presence says that the box is there.
fn is_online(presence: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Online {
        online: bool,
    }
    serde_json::from_str::<Online>(presence).is_ok_and(|presence| presence.online)
}

impl From<Post> for Effect {
    fn from(post: Post) -> Effect {
        match post {
            Post::Offer { box_id, message } => Effect::Offer { box_id, message },
            Post::Reload { box_id, why } => Effect::Reload { box_id, why },
            Post::TooLarge {
                box_id,
                lane,
                bytes,
            } => Effect::TooLarge {
                box_id,
                lane,
                bytes,
            },
            Post::Gone { box_id, blob } => Effect::FileGone { box_id, blob },
        }
    }
}

impl From<Ended> for Effect {
    fn from(ended: Ended) -> Effect {
        let Ended {
            box_id,
            dataset,
            verdict,
            buckets,
            subjects,
        } = ended;
        Effect::Compared {
            box_id,
            dataset,
            verdict,
            buckets,
            subjects,
        }
    }
}

fn not_written(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Content(error.to_string()),
    }
}

/// What a log that is seen for the first time lacks: of the numbers before its epoch, those that no
/// earlier log has; of its own, those that the box no longer holds.
fn lost_before(offer: &Offer, siblings: &[LogState]) -> [Option<(Seq, Seq)>; 2] {
    let had = siblings.iter().map(|log| log.applied).max();
    let range = |first: Seq, end: Seq| (first < end).then(|| (first, end.previous()));
    [
        range(had.unwrap_or(Seq::ZERO).next(), offer.begin),
        range(offer.begin, offer.oldest),
    ]
}

/// Writes one entry of a batch, and the present state of its subject.
struct EntryWriter<'a> {
    box_id: &'a BoxId,
    log: LogState,
    /// The box's logs of this lane under other epochs, in which the entry may stand already.
    siblings: &'a [LogState],
    at: UnixMs,
    feed: &'a mut Feed,
}

impl EntryWriter<'_> {
    fn write(
        &mut self,
        store: &mut HubStore,
        seq: Seq,
        bytes: &[u8],
        // Of an entry that is a chunk.
        chunk: Option<Capture>,
        growth: &mut Growth,
    ) -> Result<(), StoreError> {
        let parsed = Entry::parse(bytes);
        let capture = parsed.as_ref().map(|entry| entry.capture);
        let capture = capture.ok().or(chunk).unwrap_or(Capture(0));
        let same_as = self.find_double(store, capture, bytes)?;
        let dataset = match &parsed {
            Ok(entry) => Some(store.dataset_number(&entry.kind.dataset)?),
            Err(_) => None,
        };
        let place = store.add_entry(
            self.log.log,
            &EntryRow {
                seq,
                capture,
                dataset,
                entry: bytes,
                same_as,
            },
        )?;
        growth.entries += 1;
        growth.doubles += u64::from(same_as.is_some());
        growth.bytes += bytes.len() as u64;
        growth.max_capture = growth.max_capture.max(capture);
        match (parsed, dataset) {
            (Ok(entry), Some(dataset)) => {
                for file in &entry.attachments {
                    if let Ok(digest) = file.sha256.parse() {
                        let (bytes, mime) = (file.bytes, &file.mime);
                        store.expect_blob(self.box_id, digest, bytes, mime, self.at)?;
                        store.name_blob(digest, same_as.unwrap_or(place))?;
                    }
                }
                let place = same_as.unwrap_or(place);
                self.put_state(store, place, same_as.is_some(), dataset, (&entry, bytes))
            }
            _ if same_as.is_some() || chunk.is_some() => Ok(()),
            (parsed, _) => {
                // The place of the fault, never the content.
                let detail = parsed.err().map_or(String::new(), |error| {
                    format!("line {} column {}", error.line(), error.column())
                });
                store.park(place, "unreadable", &detail, self.at)
            }
        }
    }

    fn put_state(
        &mut self,
        store: &mut HubStore,
        place: i64,
        is_double: bool,
        dataset: i64,
        (entry, bytes): (&Entry<'_>, &[u8]),
    ) -> Result<(), StoreError> {
        if !store.stands_for(self.box_id, &entry.agency)? {
            if is_double {
                return Ok(());
            }
            return store.park(place, "foreign_agency", entry.agency.as_str(), self.at);
        }
        let row = StateRow {
            dataset,
            agency: &entry.agency,
            subject: entry.subject.as_str(),
            life: self.log.life,
            capture: entry.capture,
            place,
            deleted: entry.op == Op::Delete,
        };
        let is_followed = self.feed.follows(&entry.kind.dataset);
        let before = match is_followed {
            true => store.state_entry(dataset, &entry.agency, entry.subject.as_str())?,
            false => None,
        };
        let has_changed = match is_double {
            true => store.renew_state(&row)?,
            false => store.put_state(&row, fault::is_planted(Fault::LateOverwrites))?,
        };
        if is_followed && has_changed {
            let change = Change {
                entry,
                before,
                at: self.at,
            };
            self.feed.changed(store, &change)?;
        }
        if !is_double {
            let committed = Committed {
                box_id: self.box_id,
                place,
                bytes,
                entry,
            };
            self.feed.route(store, committed, self.at)?;
            files::hear(store, self.box_id, entry, self.at)?;
            self.feed.hear(store, self.box_id, entry, self.at)?;
        }
        Ok(())
    }

    fn find_double(
        &self,
        store: &HubStore,
        capture: Capture,
        bytes: &[u8],
    ) -> Result<Option<i64>, StoreError> {
        if fault::is_planted(Fault::NoContentIds) || capture == Capture(0) {
            return Ok(None);
        }
        for sibling in self.siblings {
            if let Some(place) = store.find_same(sibling, capture, bytes)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}
