//! The hub's engine thread: takes what has come from many boxes, commits it in one transaction, and
//! publishes the receipts after the commit.
//!
//! Bounded in both directions. Inwards the channel is short, and while it is full the courier reads
//! no more from the broker, which slows the boxes down. Outwards receipts wait in an outbox; what
//! does not fit is dropped and counted, because a box that hears nothing offers again. Behind them wait
//! batches of what goes down, of which the engine makes no more than there is room for.
//!
//! After a store error the engine is dropped and opened again. If a transaction fails for a reason
//! that a single message may have provoked, each is tried alone, so that no box stops the others.

mod message;
mod outbox;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::catalogue::Catalogue;
use crate::engine::parts::{PartFiles, folder_beside};
use crate::engine::receiving::effect::Effect;
use crate::engine::receiving::{Config, Event, HubEngine};
use crate::evidence::SigningKey;
use crate::hub::attachments::KeptContent;
use crate::hub::counters::{Counters, SILENT_MS_MAX};
use crate::model::compare::Verdict;
use crate::model::limits::MESSAGE_BYTES_MAX;
use crate::model::{BoxId, MonoMs};
use crate::shell::clock::Clock;
use crate::shell::courier::{Courier, CourierEvent, payload_bytes_max};
use crate::shell::drive::{Inbox, Next};
use crate::shell::mqtt::NotQueued;
use crate::shell::systemd::ServiceManager;
use crate::store::{Options, StoreError};
use crate::wire;
use message::{Taken, read_message};
use outbox::Outbox;

/// The loop turns at least so often.
pub const BEAT: Duration = Duration::from_secs(15);
/// Messages between courier and engine.
pub const INLET_MESSAGES: usize = 64;
/// Most messages and bytes that are committed together.
const ROUND_MESSAGES_MAX: usize = 256;
const ROUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How soon an order of another process is taken up. Looking for it reads shared memory only.
const ORDERS_MS: u64 = 1_000;
/// As long as the topic of any box.
const LONGEST_TOPIC: &str = "lt/1/abcdefghijklmnopqrstuvwxyz012345/down";
/// After a store error: first and longest pause.
const PAUSE_MS: (u64, u64) = (250, 10_000);
/// When so many boxes' messages fail alone and no other's goes through, it is the store.
const SICK_BOXES_MAX: usize = 4;
/// The same of the same box is logged again after this.
const LOG_AGAIN_MS: u64 = 600_000;
const LOGGED_MAX: usize = 4096;

/// What the engine's thread hears.
#[derive(Debug)]
pub enum Inlet {
    Courier(CourierEvent),
    /// Finish what was taken, then end.
    Stop,
}

impl From<CourierEvent> for Inlet {
    fn from(event: CourierEvent) -> Inlet {
        Inlet::Courier(event)
    }
}

/// How the engine is opened, again and again.
pub struct EngineSource {
    pub store: std::path::PathBuf,
    pub options: Options,
    /// The receipt key, PKCS#8 DER.
    pub receipt_key: Vec<u8>,
    /// By which copies and documents are handed on; none: nothing is.
    pub catalogue: Option<Arc<Catalogue>>,
}

impl EngineSource {
    pub fn open(&self) -> Result<HubEngine, StoreError> {
        let mut engine = HubEngine::open(Config {
            store: self.store.clone(),
            options: self.options,
            key: SigningKey::from_pkcs8(&self.receipt_key)
                .expect("the key was read at the start")
                .into(),
            parts: Box::new(PartFiles::new(folder_beside(&self.store))),
        })?;
        engine.set_content(Box::new(KeptContent {
            store: self.store.clone(),
        }));
        if let Some(catalogue) = &self.catalogue {
            engine.set_catalogue(Arc::clone(catalogue));
        }
        Ok(engine)
    }
}

pub struct Receiver {
    source: EngineSource,
    /// None after a store error.
    engine: Option<HubEngine>,
    courier: Arc<Courier>,
    clock: Clock,
    counters: Arc<Counters>,
    manager: Arc<ServiceManager>,
    /// The loop turns at least so often, which feeds the watchdog.
    beat_ms: u64,
    watchdog_at_ms: MonoMs,
    outbox: Outbox,
    pause_ms: u64,
    /// The boxes are to be asked where they stand.
    greeting_due: bool,
    /// The link to the broker is gone, and the engine has not heard of it.
    parting_due: bool,
    message_bytes_max: usize,
    logged: HashMap<(BoxId, &'static str), MonoMs>,
}

/// What is committed together.
#[derive(Default)]
struct Round {
    taken: Vec<Taken>,
    bytes: usize,
    stop: bool,
}

impl Round {
    fn is_full(&self) -> bool {
        self.stop || ROUND_MESSAGES_MAX <= self.taken.len() || ROUND_BYTES_MAX <= self.bytes
    }
}

impl Receiver {
    pub fn new(
        source: EngineSource,
        engine: HubEngine,
        courier: Arc<Courier>,
        clock: Clock,
        counters: Arc<Counters>,
        manager: Arc<ServiceManager>,
    ) -> Receiver {
        counters.store_works.store(true, Relaxed);
        let half = manager.watchdog_interval().unwrap_or(2 * BEAT) / 2;
        Receiver {
            beat_ms: half.min(BEAT).as_millis() as u64,
            source,
            engine: Some(engine),
            courier,
            clock,
            counters,
            manager,
            watchdog_at_ms: 0,
            outbox: Outbox::default(),
            pause_ms: PAUSE_MS.0,
            greeting_due: false,
            parting_due: false,
            message_bytes_max: MESSAGE_BYTES_MAX,
            logged: HashMap::new(),
        }
    }

    /// Runs until it is told to stop, or until nobody can tell it anything any more.
    pub fn run(mut self, queue: mpsc::Receiver<Inlet>) {
        let mut inbox = Inbox::new(queue, self.clock.clone());
        loop {
            self.beat();
            let mut round = Round::default();
            match inbox.next(Some(self.deadline())) {
                Next::Message(first) => self.take(first, &mut round),
                Next::Deadline => {}
                Next::Closed => return,
            }
            while !round.is_full()
                && let Some(next) = inbox.try_next()
            {
                self.take(next, &mut round);
            }
            let stop = round.stop;
            self.work(&round.taken);
            self.flush();
            if stop {
                return;
            }
        }
    }

    fn deadline(&self) -> MonoMs {
        let now_ms = self.clock.mono_ms();
        let next = now_ms + self.beat_ms.min(ORDERS_MS);
        let engine = self.engine.as_ref();
        let due = engine.and_then(|engine| engine.poll_timeout(now_ms));
        // While the broker takes nothing there is no use in being early.
        match self.outbox.room_bytes() {
            0 => next,
            _ => due.map_or(next, |at| at.min(next)),
        }
    }

    /// Says that the loop turns: a thread that hangs feeds no watchdog.
    fn beat(&mut self) {
        let now_ms = self.clock.mono_ms();
        self.counters.beat_ms.store(now_ms, Relaxed);
        if self.watchdog_at_ms <= now_ms {
            self.manager.watchdog();
            self.watchdog_at_ms = now_ms + self.beat_ms / 2;
        }
    }

    fn take(&mut self, inlet: Inlet, round: &mut Round) {
        match inlet {
            Inlet::Stop => round.stop = true,
            Inlet::Courier(CourierEvent::Message { topic, payload }) => {
                if let Some(taken) = read_message(&topic, payload) {
                    round.bytes += taken.bytes();
                    round.taken.push(taken);
                    self.counters.messages.fetch_add(1, Relaxed);
                }
            }
            Inlet::Courier(CourierEvent::Up {
                max_packet_bytes, ..
            }) => {
                self.counters.link_up.store(true, Relaxed);
                self.greeting_due = true;
                self.message_bytes_max = payload_bytes_max(LONGEST_TOPIC, max_packet_bytes);
            }
            Inlet::Courier(CourierEvent::Down { .. }) => {
                self.counters.link_up.store(false, Relaxed);
                self.parting_due = true;
                self.outbox.forget();
            }
            Inlet::Courier(CourierEvent::PublishRefused { .. }) => {
                self.counters.receipts_dropped.fetch_add(1, Relaxed);
            }
            Inlet::Courier(CourierEvent::Connecting { .. } | CourierEvent::Writable) => {}
        }
    }

    fn work(&mut self, taken: &[Taken]) {
        if taken.is_empty() && !self.greeting_due && !self.parting_due && !self.is_due() {
            return;
        }
        match self.step(taken) {
            Ok(()) => {}
            Err(error) if is_perhaps_provoked(&error) => self.work_alone(taken, &error),
            Err(error) => self.give_up(&error),
        }
    }

    /// Whether the engine has something to do though nothing has come.
    fn is_due(&mut self) -> bool {
        let now_ms = self.clock.mono_ms();
        let Some(engine) = &mut self.engine else {
            return true;
        };
        let is_timed = engine.poll_timeout(now_ms).is_some_and(|at| at <= now_ms);
        if engine.is_new_day(self.clock.now().wall) {
            return true;
        }
        // An error is met again in the step.
        (is_timed && 0 < self.outbox.room_bytes()) || engine.may_have_orders().unwrap_or(true)
    }

    /// Tries each message in a transaction of its own, and no more of a box once one has failed.
    fn work_alone(&mut self, taken: &[Taken], why: &StoreError) {
        if taken.is_empty() {
            return self.give_up(why);
        }
        let (mut sick, mut taken_in) = (HashSet::new(), false);
        for one in taken {
            if !sick.contains(one.box_id()) {
                let Err(error) = self.step(std::slice::from_ref(one)) else {
                    taken_in = true;
                    continue;
                };
                sick.insert(one.box_id());
                let is_the_store = !taken_in && SICK_BOXES_MAX <= sick.len();
                if is_the_store || !is_perhaps_provoked(&error) {
                    return self.give_up(&error);
                }
                if self.is_to_be_logged(one.box_id(), "set_aside") {
                    tracing::error!(box_id = %one.box_id(), %error, "a message was set aside: the store cannot take it; repeats are counted only");
                }
            }
            self.counters.set_aside.fetch_add(1, Relaxed);
        }
    }

    /// One transaction; opens the engine where the last one was dropped.
    fn step(&mut self, taken: &[Taken]) -> Result<(), StoreError> {
        let result = self.try_step(taken);
        match &result {
            Ok(()) => {
                self.greeting_due = false;
                self.parting_due = false;
                self.pause_ms = PAUSE_MS.0;
                self.counters.commits.fetch_add(1, Relaxed);
                if !self.counters.store_works.swap(true, Relaxed) {
                    tracing::info!("the store works again");
                }
            }
            Err(_) => {
                self.counters.store_failures.fetch_add(1, Relaxed);
            }
        }
        result
    }

    fn try_step(&mut self, taken: &[Taken]) -> Result<(), StoreError> {
        let parting = self.parting_due.then_some(Event::LinkDown);
        let greeting = self.greeting_due.then_some(Event::LinkUp);
        let events = taken.iter().cloned().map(Event::from);
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => self.source.open()?,
        };
        engine.set_message_bytes_max(self.message_bytes_max);
        engine.set_room(self.outbox.room_bytes());
        let link = parting.into_iter().chain(greeting);
        let effects = engine.step(self.clock.now(), link.chain(events).collect())?;
        self.engine = Some(engine);
        for effect in effects {
            self.apply(effect);
        }
        Ok(())
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Publish { box_id, message } => {
                let dropped = self.outbox.push(wire::topic_down(&box_id), message);
                self.counters
                    .receipts_dropped
                    .fetch_add(u64::from(dropped), Relaxed);
            }
            Effect::Offer { box_id, message } => {
                self.outbox.push_offer(wire::topic_down(&box_id), message);
            }
            Effect::Reload { box_id, why } => {
                if self.is_to_be_logged(&box_id, why.as_str()) {
                    tracing::info!(%box_id, why = why.as_str(), "what this box holds of the hub is to be loaded again");
                }
            }
            Effect::TooLarge {
                box_id,
                lane,
                bytes,
            } => {
                if self.is_to_be_logged(&box_id, "too_large") {
                    tracing::error!(%box_id, %lane, bytes, "the broker does not carry an entry of this size to the box");
                }
            }
            Effect::FileGone { box_id, blob } => {
                if self.is_to_be_logged(&box_id, "file_gone") {
                    tracing::error!(%box_id, digest = %blob, "a file was to go to a box and cannot be read; see trucd verify --attachments");
                }
            }
            Effect::RefusedByBox { box_id, code } => {
                self.counters.refused_by_boxes.fetch_add(1, Relaxed);
                if self.is_to_be_logged(&box_id, "refused_by_box") {
                    tracing::warn!(%box_id, code = code.as_str(), "the box refuses what was sent down; repeats are counted only");
                }
            }
            Effect::Refused { box_id, code } => {
                self.counters.refused.fetch_add(1, Relaxed);
                if self.is_to_be_logged(&box_id, code.as_str()) {
                    tracing::warn!(%box_id, code = code.as_str(), "batch or receipt refused; repeats are counted only");
                }
            }
            Effect::KeyChanged { box_id } => {
                tracing::info!(%box_id, "the box signs with its new key; the one before has ended");
            }
            Effect::Compared {
                box_id,
                dataset,
                verdict,
                buckets,
                subjects,
            } => {
                let result = verdict.as_str();
                match verdict {
                    Verdict::Equal | Verdict::Mended => {
                        tracing::info!(%box_id, dataset, result, buckets, subjects, "compared");
                    }
                    _ => {
                        tracing::warn!(%box_id, dataset, result, buckets, subjects, "compared");
                    }
                }
            }
            Effect::Committed { records, .. } => {
                self.counters.records.fetch_add(records, Relaxed);
            }
        }
    }

    /// Hands receipts, and then batches, to the courier until it has no more room.
    fn flush(&mut self) {
        while let Some((topic, message)) = self.outbox.front() {
            match self.courier.try_publish(topic, message.clone()) {
                Ok(()) if wire::is_receipt(message) => {
                    self.counters.receipts.fetch_add(1, Relaxed);
                }
                Ok(()) => {
                    self.counters.offers.fetch_add(1, Relaxed);
                }
                // `Writable` turns the loop again.
                Err(NotQueued::Full) => return,
                Err(NotQueued::NoLink) => {
                    self.outbox.forget();
                    return;
                }
                Err(NotQueued::TooLarge { .. } | NotQueued::BadTopic) => {
                    self.counters.receipts_dropped.fetch_add(1, Relaxed);
                }
            }
            self.outbox.pop();
        }
    }

    /// What is in hand is dropped, and all boxes will be asked where they stand. The world has to
    /// change before it is worth another try. The watchdog is fed all the same: a restart would not
    /// empty the disk.
    fn give_up(&mut self, error: &StoreError) {
        self.greeting_due = true;
        if self.counters.store_works.swap(false, Relaxed) {
            tracing::error!(%error, hint = error.hint(), "the store failed; boxes keep their records and send them again");
        }
        std::thread::sleep(Duration::from_millis(self.pause_ms));
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS.1);
    }

    /// Whether this was not logged lately.
    fn is_to_be_logged(&mut self, box_id: &BoxId, what: &'static str) -> bool {
        let now_ms = self.clock.mono_ms();
        if LOGGED_MAX <= self.logged.len() {
            self.logged.clear();
        }
        let key = (box_id.clone(), what);
        let is_due = self
            .logged
            .get(&key)
            .is_none_or(|at_ms| at_ms + LOG_AGAIN_MS <= now_ms);
        if is_due {
            self.logged.insert(key, now_ms);
        }
        is_due
    }
}

/// Whether a message may have caused this, and not the disk.
fn is_perhaps_provoked(error: &StoreError) -> bool {
    match error {
        StoreError::Sqlite(_) | StoreError::Damaged | StoreError::BrokenChain { .. } => true,
        StoreError::Full
        | StoreError::Newer { .. }
        | StoreError::Foreign { .. }
        | StoreError::Busy
        | StoreError::ReadOnly
        | StoreError::Content(_) => false,
    }
}

const _: () = assert!(PAUSE_MS.1 < BEAT.as_millis() as u64);
const _: () = assert!(2 * BEAT.as_millis() < SILENT_MS_MAX as u128);
