//! The box's engine: takes captures, offers the logs, takes the hub's receipts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::content::{self, Content};
use super::log::Tools;
use super::outlet::{Offered, Outlet, Signer, Taken};
use crate::evidence::{PublicKey, SigningKey, entry_digest};
use crate::model::chunk::Digest;
use crate::model::fault::{self, Fault};
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::{Attachment, complete, derived_id};
use crate::model::{BoxId, Capture, Epoch, Lane, MonoMs, Now, RecordId, Seq, SourceName, UnixMs};
use crate::store::blobs::WantedStore;
use crate::store::edge::{EdgeStore, OnceKey, SourceTally, Sync};
use crate::store::log::LogStore;
use crate::store::rows::Beside;
use crate::store::{Options, StoreError};
use crate::sync::{Ack, Limits};
use crate::wire::{Receipt, RefusalCode};

/// What an engine is made with.
pub struct Config {
    pub store: PathBuf,
    pub options: Options,
    pub box_id: BoxId,
    pub key: SigningKey,
    /// Whose receipts count; several while the hub changes its key.
    pub hub_keys: Vec<PublicKey>,
    pub limits: Limits,
    pub space: Space,
    /// Where attachments lie.
    pub content: Box<dyn Content>,
    /// Mints the names of epochs: random, below 2^63.
    pub mint: Box<dyn FnMut() -> Epoch + Send>,
}

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    /// Per lane, bytes of entries waiting; a lane that would hold more refuses at the door.
    pub lane_bytes_max: [u64; 5],
    /// Entries with their receipt are kept so long …
    pub tail_ms: i64,
    /// … and so many bytes of them per lane, whichever is less.
    pub tail_bytes: u64,
    /// How many keys of repeats are remembered.
    pub once_keys: u64,
    /// Bytes of attachments; near this, those that the hub has are given up before their time.
    pub blob_bytes_max: u64,
}

/// What came in. `R` is how the one who handed it in is answered.
pub enum Event<R> {
    Submit(Submission<R>),
    /// The link is there and carries messages of at most so many bytes.
    LinkUp {
        message_bytes_max: usize,
    },
    LinkDown,
    /// The hub has said something.
    Received(Bytes),
    /// A source refused something at the door.
    Refused {
        source: SourceName,
        records: u64,
        reason: String,
    },
    /// Something for the list of events.
    Note {
        level: Level,
        code: &'static str,
        detail: String,
    },
    /// So many bytes more were written to the disk.
    Written(u64),
    /// The lanes P2 to P4 may use so many kilobits a second from now on; none: as many as there are.
    Bandwidth(Option<u32>),
    /// Attachments need room: give up what the hub has.
    MakeRoom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    Alarm,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Alarm => "alarm",
        }
    }
}

/// Records that are to be kept together or not at all, with the source's cursor.
pub struct Submission<R> {
    pub reply: R,
    pub source: SourceName,
    pub records: Vec<NewRecord>,
    /// Makes a repeat of the whole submission harmless.
    pub once: Option<OnceKey>,
    /// Where the source stands once these records are kept.
    pub cursor: Option<String>,
    /// What else is written with them; nothing for most.
    pub beside: Beside,
}

/// A record that has passed the door.
#[derive(Debug, Clone)]
pub struct NewRecord {
    pub lane: Lane,
    /// [`crate::model::record::Draft::to_tail`].
    pub tail: Vec<u8>,
    pub id: Option<RecordId>,
    /// Makes a repeat of this record harmless.
    pub once: Option<OnceKey>,
    /// Files that it names; they are there.
    pub attachments: Vec<Attachment>,
}

/// One record's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub id: RecordId,
    #[serde(with = "lane_text")]
    pub lane: Lane,
    pub seq: Seq,
}

mod lane_text {
    use crate::model::Lane;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(lane: &Lane, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lane)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lane, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All is committed. `repeated` when nothing of it was new.
    Stored {
        accepted: Vec<Accepted>,
        repeated: bool,
    },
    /// The lane has no room; nothing of the submission was kept.
    LaneFull(Lane),
    /// The key was used before with other content; nothing was kept.
    OtherContent { index: Option<usize> },
    /// A record is larger than a message can carry; nothing was kept.
    TooLarge { index: usize, bytes: usize },
    /// A record names a file that is not there; nothing was kept.
    NoAttachment { index: usize, sha256: String },
}

/// What is to be done now that the commit is through.
#[derive(Debug)]
pub enum Effect<R> {
    Publish(Bytes),
    Answer {
        reply: R,
        answer: Answer,
    },
    /// The link makes no progress: throw the client away, try the next address.
    RebuildLink,
    /// The hub's clock, as signed in a receipt.
    HubTime(UnixMs),
    /// An entry does not pass this broker's limit; its lane waits for another link.
    BrokerLimit {
        lane: Lane,
        bytes: usize,
        limit: usize,
    },
    /// The hub has refused what we sent.
    RefusedByHub(RefusalCode),
    /// The hub has entries of ours that we do not have: a new epoch has begun.
    NewEpoch(Epoch),
    /// A receipt that no key of the hub has signed was dropped.
    ForgedReceipt,
    /// No record needs these files any more.
    Forgotten(Vec<Digest>),
    /// This file was found to be missing or damaged; the hub hears of it.
    ContentGone(Digest),
}

/// How often tallies are written down; they are no part of any promise.
const TALLY_EVERY_MS: MonoMs = 30_000;
/// Blocks, and keys of repeats, deleted in one step.
const TRIM_BLOCKS: usize = 64;
const TRIM_KEYS: u64 = 256;
/// Attachments forgotten in one step.
const TRIM_BLOBS: usize = 16;
/// Part of the attachments' limit in use from which those that the hub has are given up.
const BLOBS_CROWDED_PERCENT: u64 = 75;
/// Part of the store's quota in use from which the kept tail is given up.
const CROWDED_PERCENT: u64 = 80;
/// Free bytes inside the file from which some are given back to the file system.
const VACUUM_BYTES: u64 = 16 * 1024 * 1024;
const VACUUM_PAGES: u32 = 64;
/// The trusted time floor is written down when it has risen by so much.
const FLOOR_STEP_MS: i64 = 600_000;

pub struct EdgeEngine<R> {
    config: Config,
    store: EdgeStore,
    outlet: Outlet,
    tools: Tools,
    capture: Capture,
    tallies: BTreeMap<SourceName, SourceTally>,
    tally_at: Option<MonoMs>,
    trim_due: bool,
    make_room: bool,
    /// Chunks may be queued, which needs a synced step.
    chunks_due: bool,
    vacuum_due: bool,
    once_due: bool,
    time_floor: UnixMs,
    effects: Vec<Effect<R>>,
}

impl<R> EdgeEngine<R> {
    /// Opens the store, or creates it. Takes the same time whatever the backlog.
    pub fn open(mut config: Config) -> Result<Self, StoreError> {
        let fresh = (config.mint)();
        let store = EdgeStore::open(&config.store, config.options, &config.box_id, fresh)?;
        let time_floor = store.time_floor()?;
        let outlet = Outlet::open(&store, config.limits)?;
        Ok(Self {
            config,
            capture: outlet.newest_capture(),
            outlet,
            tools: Tools::default(),
            tallies: BTreeMap::new(),
            tally_at: None,
            trim_due: true,
            make_room: false,
            chunks_due: true,
            vacuum_due: false,
            once_due: true,
            time_floor,
            effects: Vec::new(),
            store,
        })
    }

    pub fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    pub fn cursor(&self, source: &str) -> Result<Option<String>, StoreError> {
        self.store.cursor(source)
    }

    /// Whether all that was committed is on the disk.
    pub fn is_synced(&self) -> bool {
        self.store.is_synced()
    }

    /// Latest time known to be past.
    pub fn time_floor(&self) -> UnixMs {
        self.time_floor
    }

    /// Entries that wait for their receipt, per lane.
    pub fn waiting(&self) -> [u64; 5] {
        self.outlet.waiting()
    }

    /// Applies events in one transaction; returns what is to be done after its commit.
    pub fn step(&mut self, now: Now, events: Vec<Event<R>>) -> Result<Vec<Effect<R>>, StoreError> {
        // What a source was told is synced; a receipt that a power cut takes away comes again.
        let is_promise = |event: &Event<R>| matches!(event, Event::Submit(_));
        let promises = events.iter().any(is_promise) && !fault::is_planted(Fault::AcceptedUnsynced);
        let sync = match promises || self.chunks_due {
            true => Sync::Full,
            false => Sync::Later,
        };
        let epoch = self.store.epoch();
        self.store.begin(sync)?;
        for event in events {
            self.apply(now, event)?;
        }
        if sync == Sync::Full && self.chunks_due {
            self.queue_chunks(now)?;
        }
        self.outlet.flush(&mut self.store, &mut self.tools)?;
        self.outlet.handle_timeout(now.mono_ms);
        self.transmit(now)?;
        if self.outlet.poll_stalled() {
            self.effects.push(Effect::RebuildLink);
        }
        self.keep_house(now)?;
        if fault::is_crash_due() {
            if fault::is_planted(Fault::AnswerBeforeCommit) {
                self.store.roll_back()?;
                return Ok(std::mem::take(&mut self.effects));
            }
            return Err(StoreError::Full);
        }
        self.store.commit()?;
        if self.store.epoch() != epoch && sync == Sync::Later {
            self.store.sync()?;
        }
        if self.vacuum_due {
            self.vacuum()?;
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// When `step` wants to be called though nothing has happened.
    pub fn poll_timeout(&self, now: MonoMs) -> Option<MonoMs> {
        let is_due = self.trim_due || self.once_due || self.vacuum_due || self.chunks_due;
        let house = is_due.then_some(now);
        let tally = self.tally_at;
        [self.outlet.poll_timeout(), house, tally]
            .into_iter()
            .flatten()
            .min()
    }

    fn apply(&mut self, now: Now, event: Event<R>) -> Result<(), StoreError> {
        match event {
            Event::Submit(submission) => self.submit(now, submission)?,
            Event::LinkUp { message_bytes_max } => self.outlet.handle_up(message_bytes_max),
            Event::LinkDown => self.outlet.handle_down(),
            Event::Received(message) => self.receive(now, &message)?,
            Event::Refused {
                source,
                records,
                reason,
            } => {
                let tally = self.tally(now, &source);
                tally.refused += records;
                tally.last_refused = Some(now.wall);
                tally.last_refusal = Some(reason);
            }
            Event::Note {
                level,
                code,
                detail,
            } => {
                self.store
                    .add_event(now.wall, level.as_str(), code, &detail)?;
            }
            Event::Written(bytes) => self.store.add_written(now.wall, bytes)?,
            Event::Bandwidth(kbps) => self.outlet.set_bandwidth(now.mono_ms, kbps),
            Event::MakeRoom => {
                self.make_room = true;
                self.trim_due = true;
            }
        }
        Ok(())
    }

    // === Intake ===

    fn submit(&mut self, now: Now, submission: Submission<R>) -> Result<(), StoreError> {
        let Submission {
            reply,
            source,
            records,
            once,
            cursor,
            beside,
        } = submission;
        if let Some(cursor) = &cursor
            && fault::is_planted(Fault::CursorOutside)
        {
            self.store.set_cursor(source.as_str(), cursor)?;
            self.store.commit()?;
            self.store.begin(Sync::Full)?;
        }
        let admission = self.admit(&records, once)?;
        if let (Some(once), Admission::New(_)) = (once, &admission)
            && fault::is_planted(Fault::OnceOutside)
        {
            self.store.put_once(once, "[]", now.wall)?;
            self.store.commit()?;
            self.store.begin(Sync::Full)?;
        }
        let answer = match admission {
            Admission::Refused(answer) => answer,
            Admission::Known { accepted, whole } => {
                if let Some(cursor) = cursor {
                    self.store.set_cursor(source.as_str(), &cursor)?;
                }
                if !whole {
                    self.store
                        .write_beside(source.as_str(), &beside, now.wall)?;
                }
                Answer::Stored {
                    accepted,
                    repeated: true,
                }
            }
            Admission::New(known) => {
                let accepted = self.keep(now, &records, known)?;
                if let Some(once) = once
                    && !fault::is_planted(Fault::OnceOutside)
                {
                    self.remember(now, once, &accepted)?;
                }
                if let Some(cursor) = cursor {
                    self.store.set_cursor(source.as_str(), &cursor)?;
                }
                self.store
                    .write_beside(source.as_str(), &beside, now.wall)?;
                if !records.is_empty() || beside.is_empty() {
                    let tally = self.tally(now, &source);
                    tally.accepted += records.len() as u64;
                    tally.last_accepted = Some(now.wall);
                }
                Answer::Stored {
                    accepted,
                    repeated: false,
                }
            }
        };
        self.effects.push(Effect::Answer { reply, answer });
        Ok(())
    }

    /// Whether the submission may be kept, decided before anything is written.
    fn admit(&self, records: &[NewRecord], once: Option<OnceKey>) -> Result<Admission, StoreError> {
        if let Some(once) = once
            && let Some((digest, answer)) = self.store.find_once(&once.key)?
        {
            if digest != once.digest {
                return Ok(Admission::Refused(Answer::OtherContent { index: None }));
            }
            let accepted = serde_json::from_str(&answer).map_err(|_| StoreError::Damaged)?;
            return Ok(Admission::Known {
                accepted,
                whole: true,
            });
        }
        let mut known = Vec::new();
        let mut here = BTreeMap::new();
        let mut bytes = [0_u64; 5];
        for (index, record) in records.iter().enumerate() {
            if ENTRY_BYTES_MAX < record.tail.len() + 128 {
                let bytes = record.tail.len();
                return Ok(Admission::Refused(Answer::TooLarge { index, bytes }));
            }
            let found = match record.once {
                Some(once) => self.store.find_once(&once.key)?.map(|found| (once, found)),
                None => None,
            };
            let other_content = Ok(Admission::Refused(Answer::OtherContent {
                index: Some(index),
            }));
            if let Some(OnceKey { key, digest }) = record.once
                && *here.entry(key).or_insert(digest) != digest
            {
                return other_content;
            }
            match found {
                Some((once, (digest, _))) if digest != once.digest => return other_content,
                Some((_, (_, answer))) => {
                    let accepted =
                        serde_json::from_str(&answer).map_err(|_| StoreError::Damaged)?;
                    known.push(Some(accepted));
                }
                None => {
                    if let Some(sha256) = self.missing_attachment(record)? {
                        let refused = Answer::NoAttachment { index, sha256 };
                        return Ok(Admission::Refused(refused));
                    }
                    bytes[record.lane.index()] += record.tail.len() as u64;
                    known.push(None);
                }
            }
        }
        if let Some(lane) = Lane::ALL
            .into_iter()
            .find(|&lane| self.would_overflow(lane, &bytes))
        {
            return Ok(Admission::Refused(Answer::LaneFull(lane)));
        }
        if !known.is_empty() && known.iter().all(Option::is_some) {
            return Ok(Admission::Known {
                accepted: known.into_iter().flatten().collect(),
                whole: false,
            });
        }
        Ok(Admission::New(known))
    }

    fn would_overflow(&self, lane: Lane, bytes: &[u64; 5]) -> bool {
        let waiting = self.outlet.waiting_bytes(lane);
        let lane = lane.index();
        0 < bytes[lane] && self.config.space.lane_bytes_max[lane] < waiting + bytes[lane]
    }

    /// Writes the records that are new; `known` holds the answers of those that are not.
    fn keep(
        &mut self,
        now: Now,
        records: &[NewRecord],
        known: Vec<Option<Accepted>>,
    ) -> Result<Vec<Accepted>, StoreError> {
        let mut accepted: Vec<Accepted> = Vec::with_capacity(records.len());
        let mut here: BTreeMap<[u8; 16], Accepted> = BTreeMap::new();
        for (record, known) in records.iter().zip(known) {
            let within = record.once.and_then(|once| here.get(&once.key).cloned());
            if let Some(answer) = known.or(within) {
                accepted.push(answer);
                continue;
            }
            let answer = self.append(now, record)?;
            if let Some(once) = record.once {
                self.remember(now, once, &answer)?;
                here.insert(once.key, answer.clone());
            }
            accepted.push(answer);
        }
        self.outlet.appended();
        Ok(accepted)
    }

    /// Keeps the answer for a repeat.
    fn remember(
        &mut self,
        now: Now,
        once: OnceKey,
        answer: &impl Serialize,
    ) -> Result<(), StoreError> {
        if fault::is_planted(Fault::RepeatTakenAgain) {
            return Ok(());
        }
        let text = serde_json::to_string(answer).expect("an answer is plain JSON");
        self.once_due = true;
        self.store.put_once(once, &text, now.wall)
    }

    fn append(&mut self, now: Now, record: &NewRecord) -> Result<Accepted, StoreError> {
        self.capture = Capture(self.capture.0 + 1);
        let entry = complete(self.capture, now, &record.tail);
        let seq = self.outlet.append(
            &mut self.store,
            &mut self.tools,
            record.lane,
            (self.capture, now.wall),
            &entry,
        )?;
        self.want_attachments(now, record, seq)?;
        let id = match &record.id {
            Some(id) => id.clone(),
            None => derived_id(&entry_digest(&self.config.box_id, &entry)),
        };
        Ok(Accepted {
            id,
            lane: record.lane,
            seq,
        })
    }

    // === Attachments ===

    /// The first of a record's files that is not there.
    fn missing_attachment(&self, record: &NewRecord) -> Result<Option<String>, StoreError> {
        for file in &record.attachments {
            let is_there = match file.sha256.parse() {
                Err(_) => false,
                Ok(digest) => match self.store.blob(digest)? {
                    Some(known) if known.gone.is_none() => true,
                    _ => self.config.content.is_there(digest, file.bytes),
                },
            };
            if !is_there {
                return Ok(Some(file.sha256.clone()));
            }
        }
        Ok(None)
    }

    fn want_attachments(
        &mut self,
        now: Now,
        record: &NewRecord,
        seq: Seq,
    ) -> Result<(), StoreError> {
        for file in &record.attachments {
            let digest = file.sha256.parse().expect("it was looked up at the door");
            let blob = self
                .store
                .want_blob(digest, file.bytes, &file.mime, now.wall)?;
            self.store.refer_to_blob(blob, record.lane, seq)?;
            self.chunks_due = true;
        }
        Ok(())
    }

    fn queue_chunks(&mut self, now: Now) -> Result<(), StoreError> {
        let Self {
            store,
            outlet,
            tools,
            config,
            capture,
            ..
        } = self;
        let gone = content::queue(store, outlet, tools, &*config.content, capture, now)?;
        for blob in gone {
            self.content_gone(now, blob)?;
        }
        self.chunks_due = content::is_due(&self.store, &self.outlet)?;
        Ok(())
    }

    /// The file goes too: one that is put again is then written anew.
    fn content_gone(&mut self, now: Now, blob: Digest) -> Result<(), StoreError> {
        self.store.add_event(
            now.wall,
            Level::Alarm.as_str(),
            "attachment_damaged",
            &blob.to_string(),
        )?;
        self.effects.push(Effect::ContentGone(blob));
        Ok(())
    }

    /// The hub has P4 up to another entry than before.
    fn chunks_moved(&mut self, before: Seq) -> Result<(), StoreError> {
        let acked = self.outlet.acked(Lane::P4);
        match before <= acked {
            true => self.store.chunks_received(acked)?,
            false => self.store.chunks_taken_back(acked)?,
        }
        self.chunks_due = self.chunks_due || content::is_due(&self.store, &self.outlet)?;
        Ok(())
    }

    /// Whether a file must stay: a record names it, or a row that is parked.
    pub fn needs_blob(&self, blob: Digest) -> Result<bool, StoreError> {
        if fault::is_planted(Fault::NeededFileRemoved) {
            return Ok(false);
        }
        Ok(self.store.blob(blob)?.is_some() || self.store.is_parked_with(blob)?)
    }

    /// Forgets some attachments that the hub has and nobody needs; says whether there were any.
    fn forget_blobs(&mut self) -> Result<bool, StoreError> {
        let is_crowded = || -> Result<bool, StoreError> {
            let limit = self.config.space.blob_bytes_max / 100 * BLOBS_CROWDED_PERCENT;
            Ok(limit < self.store.blob_bytes()?)
        };
        let any = std::mem::take(&mut self.make_room) || is_crowded()?;
        let gone = self.store.forget_blobs(any, TRIM_BLOBS)?;
        let is_some = !gone.is_empty();
        if is_some {
            self.effects.push(Effect::Forgotten(gone));
        }
        Ok(is_some)
    }

    // === Sending ===

    fn transmit(&mut self, now: Now) -> Result<(), StoreError> {
        let Self {
            outlet,
            store,
            tools,
            config,
            effects,
            ..
        } = self;
        let signer = Signer {
            box_id: &config.box_id,
            key: &config.key,
            content: &*config.content,
        };
        let mut lost = Vec::new();
        while let Some(offered) = outlet.poll_transmit(now.mono_ms, store, tools, &signer)? {
            match offered {
                Offered::Message {
                    message,
                    offer,
                    gone,
                } => {
                    lost.extend(gone);
                    effects.push(Effect::Publish(message));
                    if fault::is_planted(Fault::ForgetOnSend) && offer.first <= offer.last {
                        outlet.forget(now, store, tools, offer)?;
                        self.trim_due = true;
                    }
                }
                Offered::TooLarge { lane, bytes, limit } => {
                    effects.push(Effect::BrokerLimit { lane, bytes, limit });
                }
            }
        }
        for blob in lost {
            if self.store.blob_is_gone(blob, now.wall)? {
                self.content_gone(now, blob)?;
            }
        }
        Ok(())
    }

    // === Receipts ===

    fn receive(&mut self, now: Now, message: &[u8]) -> Result<(), StoreError> {
        let Ok(receipt) = Receipt::decode(message) else {
            self.effects.push(Effect::ForgedReceipt);
            return Ok(());
        };
        let claim = receipt.claim(&self.config.box_id);
        let signed = |key: &PublicKey| key.verify(&claim, &receipt.signature).is_ok();
        if !self.config.hub_keys.iter().any(signed) && !fault::is_planted(Fault::AnyReceipt) {
            self.effects.push(Effect::ForgedReceipt);
            return Ok(());
        }
        self.take_hub_time(receipt.hub_time)?;
        if let Some(code) = receipt.refused {
            self.effects.push(Effect::RefusedByHub(code));
        }
        if receipt.ack == Ack::GREET {
            self.outlet.greet();
        }
        if receipt.ack.log.epoch == self.store.epoch() {
            let Self {
                outlet,
                store,
                tools,
                ..
            } = self;
            let before = outlet.acked(Lane::P4);
            match outlet.take_receipt(now, store, tools, message, &receipt)? {
                Taken::Nothing => {}
                Taken::Moved => {
                    self.trim_due = true;
                    if receipt.ack.log.lane == Lane::P4 {
                        self.chunks_moved(before)?;
                    }
                }
                Taken::Ahead => self.begin_epoch()?,
            }
        }
        Ok(())
    }

    /// The hub has what we do not have: our store was set back, or another box has our name. All
    /// that is held goes out again under a new epoch; content ids remove the doubles at the hub.
    fn begin_epoch(&mut self) -> Result<(), StoreError> {
        if fault::is_planted(Fault::NoNewEpoch) {
            return Ok(());
        }
        let epoch = (self.config.mint)();
        self.outlet
            .begin_epoch(&mut self.store, &mut self.tools, epoch)?;
        let acked = self.outlet.acked(Lane::P4);
        self.store.chunks_taken_back(acked)?;
        self.effects.push(Effect::NewEpoch(epoch));
        Ok(())
    }

    fn take_hub_time(&mut self, hub_time: UnixMs) -> Result<(), StoreError> {
        self.effects.push(Effect::HubTime(hub_time));
        if self.time_floor.0 + FLOOR_STEP_MS <= hub_time.0 {
            self.store.raise_time_floor(hub_time)?;
            self.time_floor = hub_time;
        }
        Ok(())
    }

    // === House ===

    fn tally(&mut self, now: Now, source: &SourceName) -> &mut SourceTally {
        self.tally_at.get_or_insert(now.mono_ms + TALLY_EVERY_MS);
        self.tallies.entry(source.clone()).or_default()
    }

    /// Writes the tallies down and deletes what need not be kept, a slice at a time.
    fn keep_house(&mut self, now: Now) -> Result<(), StoreError> {
        if self.tally_at.is_some_and(|at| at <= now.mono_ms) {
            self.write_tallies()?;
        }
        if self.trim_due {
            self.trim(now)?;
        }
        if self.once_due {
            let gone = self
                .store
                .trim_once(self.config.space.once_keys, TRIM_KEYS)?;
            self.once_due = 0 < gone;
        }
        Ok(())
    }

    fn write_tallies(&mut self) -> Result<(), StoreError> {
        for (source, tally) in std::mem::take(&mut self.tallies) {
            self.store.add_tally(source.as_str(), &tally)?;
        }
        self.tally_at = None;
        Ok(())
    }

    /// Writes what is written only now and then; to be called before an orderly stop.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        self.store.begin(Sync::Full)?;
        self.write_tallies()?;
        self.store.commit()
    }

    fn trim(&mut self, now: Now) -> Result<(), StoreError> {
        let (used, _) = self.store.space()?;
        let crowded = self.config.options.quota_bytes / 100 * CROWDED_PERCENT < used;
        let space = self.config.space;
        let since = UnixMs(now.wall.0.saturating_sub(space.tail_ms));
        let keep_bytes = if crowded { 0 } else { space.tail_bytes };
        self.trim_due = self
            .outlet
            .trim(&mut self.store, since, keep_bytes, TRIM_BLOCKS)?;
        self.vacuum_due |= self.trim_due;
        self.trim_due |= self.forget_blobs()?;
        Ok(())
    }

    /// Gives free pages back in slices.
    fn vacuum(&mut self) -> Result<(), StoreError> {
        self.vacuum_due = VACUUM_BYTES < self.store.space()?.1;
        if self.vacuum_due {
            self.store.vacuum(VACUUM_PAGES)?;
        }
        Ok(())
    }
}

enum Admission {
    Refused(Answer),
    Known {
        accepted: Vec<Accepted>,
        /// The submission as a whole was taken before, with what is written beside it.
        whole: bool,
    },
    New(Vec<Option<Accepted>>),
}
