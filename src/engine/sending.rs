//! The box's engine: takes captures, offers the logs, takes the hub's receipts.

mod admission;
mod attachments;
mod house;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::content::{Ahead, Content};
use super::log::Tools;
use super::outlet::{Offered, Outlet, Signer, Taken};
use crate::evidence::{CurrentKey, PublicKey};
use crate::model::chunk::Digest;
use crate::model::fault::{self, Fault};
use crate::model::record::Attachment;
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
    pub key: CurrentKey,
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
    /// How much waits is to be remembered.
    Sample,
    /// The program's life with this store begins, at this start of the machine.
    Begin {
        boot: Option<String>,
    },
    /// It ends in order.
    End,
    /// The lanes P2 to P4 may use so many kilobits a second from now on; none: as many as there are.
    Bandwidth(Option<u32>),
    /// All chunks of all attachments become entries, so that they can be carried off on a stick.
    QueueFiles,
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

/// The trusted time floor is written down when it has risen by so much.
const FLOOR_STEP_MS: i64 = 600_000;

pub struct EdgeEngine<R> {
    config: Config,
    store: EdgeStore,
    outlet: Outlet,
    tools: Tools,
    capture: Capture,
    /// What is still to be written down.
    tallies: BTreeMap<SourceName, SourceTally>,
    /// What each source did at all.
    totals: BTreeMap<String, SourceTally>,
    /// Those that have changed since somebody asked.
    counted: BTreeSet<String>,
    tally_at: Option<MonoMs>,
    trim_due: bool,
    make_room: bool,
    /// Chunks may be queued, which needs a synced step.
    chunks_due: bool,
    ahead: Ahead,
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
            totals: store.tallies()?,
            counted: BTreeSet::new(),
            tally_at: None,
            trim_due: true,
            make_room: false,
            chunks_due: true,
            ahead: Ahead::Few,
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
        // A file that is removed stays removed when a power cut takes back that it was forgotten.
        let forgets = |effect: &Effect<R>| matches!(effect, Effect::Forgotten(_));
        let must_last = self.store.epoch() != epoch || self.effects.iter().any(forgets);
        if must_last && sync == Sync::Later {
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
                let tally = SourceTally {
                    refused: records,
                    last_refused: Some(now.wall),
                    last_refusal: Some(reason),
                    ..SourceTally::default()
                };
                self.count(now, &source, &tally);
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
            Event::Sample => self.sample(now)?,
            Event::Begin { boot } => self.begin_life(now, boot.as_deref())?,
            Event::End => self.store.end_life(now.wall)?,
            Event::Bandwidth(kbps) => self.outlet.set_bandwidth(now.mono_ms, kbps),
            Event::QueueFiles => {
                self.ahead = Ahead::All;
                self.chunks_due = true;
            }
            Event::MakeRoom => {
                self.make_room = true;
                self.trim_due = true;
            }
        }
        Ok(())
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
}
