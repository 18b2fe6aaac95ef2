//! The one owner of the engine: a thread that takes what is waiting, makes one step of it, and
//! hands the effects on.
//!
//! After an error of the store the engine is dropped and opened again, with growing pauses; what
//! is handed in meanwhile is refused, never kept in memory. A store that is damaged twice in a row
//! is set aside under another name, and a new one is begun.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::edge::intake::{Input, IntakeError, Pong, Reply};
use crate::edge::live::Live;
use crate::edge::reserve::{self, Reserve};
use crate::edge::status::machine::boot_id;
use crate::edge::sweep::Sweep;
use crate::edge::wear::Wear;
use crate::engine::sending::{Answer, EdgeEngine, Effect, Event, Level, Submission};
use crate::model::{MonoMs, SourceName, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::drive::{Inbox, Next};
use crate::shell::replace::set_aside;
use crate::store::StoreError;

/// Most messages, and about as many bytes of records, that go into one commit.
const STEP_MESSAGES_MAX: usize = 256;
const STEP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pause before a store that failed is opened again.
const REOPEN_MS: (MonoMs, MonoMs) = (500, 30_000);
/// How long a full store refuses records before it tries again, so that receipts can make room.
const REFUSE_MS: (MonoMs, MonoMs) = (5_000, 60_000);
/// How often it is tried to hold disk space back again.
const RESERVE_EVERY_MS: MonoMs = 60_000;
/// Below this a failed write is taken for a full disk, whatever SQLite calls it.
const DISK_FULL_BYTES: u64 = 1024 * 1024;
/// A store that is found damaged twice within this is set aside.
const DAMAGED_AGAIN_MS: MonoMs = 600_000;
/// What waits is remembered so often: at the start of a link, and otherwise.
const SAMPLE_MS: (MonoMs, MonoMs) = (60_000, 600_000);
/// Notes that wait for the store to come back.
const NOTES_MAX: usize = 50;

/// What the link is to do.
#[derive(Debug)]
pub enum Outgoing {
    Publish(Bytes),
    /// There is no progress: throw the connection away, try the next address.
    Rebuild,
}

/// Opens the engine, anew after each fault.
pub type OpenEngine = Box<dyn FnMut() -> Result<EdgeEngine<Reply>, StoreError> + Send>;

pub struct Owner {
    open: OpenEngine,
    store: PathBuf,
    reserve: Reserve,
    clock: Clock,
    live: Arc<Live>,
    outgoing: mpsc::Sender<Outgoing>,
    state: State,
    /// How large a message the link carries, while it is up.
    link: Option<usize>,
    /// Notes for the next step.
    notes: Vec<Event<Reply>>,
    full: Option<Full>,
    /// When to try to hold disk space back again.
    reserve_at: Option<MonoMs>,
    /// When the store was last found damaged.
    damaged_at: Option<MonoMs>,
    /// The last pause before the store was opened again; 0 once a step has worked.
    pause_ms: MonoMs,
    wear: Wear,
    /// When what waits was last sampled, and when that is due again.
    sampled_at: MonoMs,
    sample_at: MonoMs,
    /// This life has been written down.
    has_begun: bool,
    /// The bound of the link, kilobits a second, that the engine knows of.
    bandwidth: Option<u32>,
    sweep: Sweep,
}

enum State {
    Open(Box<EdgeEngine<Reply>>),
    Closed { reopen_at: MonoMs },
}

/// The store is full, and records are refused for a while.
struct Full {
    refuse_until: MonoMs,
    pause_ms: MonoMs,
}

/// What was waiting, sorted.
#[derive(Default)]
struct Batch {
    events: Vec<Event<Reply>>,
    submissions: usize,
    bytes: usize,
    messages: usize,
    /// Given back when the step is through.
    permits: Vec<OwnedSemaphorePermit>,
    cursors: Vec<(SourceName, oneshot::Sender<Option<String>>)>,
    pings: Vec<oneshot::Sender<Pong>>,
    stop: bool,
}

impl Owner {
    /// Opens the store. Only what a restart cannot mend is an error: a store of another box, or of
    /// a newer program.
    pub fn new(
        open: OpenEngine,
        store: &Path,
        reserve: Reserve,
        clock: Clock,
        live: Arc<Live>,
        outgoing: mpsc::Sender<Outgoing>,
        sweep: Sweep,
    ) -> Result<Owner, StoreError> {
        let wear = Wear::start(clock.mono_ms());
        let mut owner = Owner {
            open,
            store: store.to_owned(),
            reserve,
            reserve_at: Some(0),
            state: State::Closed { reopen_at: 0 },
            clock,
            live,
            outgoing,
            link: None,
            notes: Vec::new(),
            full: None,
            damaged_at: None,
            pause_ms: 0,
            wear,
            sampled_at: 0,
            sample_at: 0,
            has_begun: false,
            bandwidth: None,
            sweep,
        };
        match (owner.open)() {
            Ok(engine) => owner.opened(engine),
            Err(error @ (StoreError::Newer { .. } | StoreError::Foreign { .. })) => {
                return Err(error);
            }
            Err(error) => owner.failed(error),
        }
        Ok(owner)
    }

    /// Works until it is told to stop; then what was counted is written down and the store closed.
    pub fn run(mut self, queue: mpsc::Receiver<Input>) {
        let mut inbox = Inbox::new(queue, self.clock.clone());
        loop {
            let mut batch = Batch::default();
            match inbox.next(self.deadline()) {
                Next::Message(input) => batch.add(input),
                Next::Deadline => {}
                Next::Closed => break,
            }
            while batch.has_room()
                && let Some(input) = inbox.try_next()
            {
                batch.add(input);
            }
            let stop = batch.stop;
            self.work(batch);
            if stop {
                break;
            }
        }
        drop(inbox);
        let mut last: Vec<Event<Reply>> =
            self.wear.rest().map(Event::Written).into_iter().collect();
        last.extend([Event::Sample, Event::End]);
        self.step(last, 0);
        if let State::Open(engine) = &mut self.state
            && let Err(error) = engine.finish()
        {
            tracing::warn!(%error, "the last counts were not written down");
        }
    }

    fn deadline(&self) -> Option<MonoMs> {
        let now_ms = self.clock.mono_ms();
        let state = match &self.state {
            State::Open(engine) => engine.poll_timeout(now_ms),
            State::Closed { reopen_at } => Some(*reopen_at),
        };
        let notes =
            (!self.notes.is_empty() && matches!(self.state, State::Open(_))).then_some(now_ms);
        let sweep = matches!(self.state, State::Open(_)).then(|| self.sweep.deadline());
        [state, notes, self.reserve_at, sweep]
            .into_iter()
            .flatten()
            .min()
    }

    fn work(&mut self, batch: Batch) {
        let now_ms = self.clock.mono_ms();
        if let State::Closed { reopen_at } = self.state
            && reopen_at <= now_ms
        {
            self.reopen();
        }
        if self.reserve_at.is_some_and(|at| at <= now_ms) {
            self.hold_reserve(now_ms);
        }
        let Batch {
            events,
            submissions,
            permits,
            cursors,
            pings,
            ..
        } = batch;
        let (mut events, submissions) = self.remember(events, submissions, now_ms);
        self.follow_timetable(&mut events);
        if !events.is_empty()
            && let Some(bytes) = self.wear.due(now_ms)
        {
            events.push(Event::Written(bytes));
        }
        self.sample(&mut events, now_ms);
        self.step(events, submissions);
        drop(permits);
        if self.sweep.deadline() <= now_ms
            && let State::Open(engine) = &self.state
        {
            let needs = |file| engine.needs_blob(file);
            self.sweep.work(self.clock.now(), needs);
        }
        for (source, reply) in cursors {
            if let State::Open(engine) = &self.state
                && let Ok(cursor) = engine.cursor(source.as_str())
            {
                // Who asked may have gone.
                let _ = reply.send(cursor);
            }
        }
        let is_ready = matches!(self.state, State::Open(_)) && self.full.is_none();
        for reply in pings {
            let _ = reply.send(Pong { is_ready });
        }
    }

    /// Tells the engine how much of the link is allowed at this hour, when that has changed.
    fn follow_timetable(&mut self, events: &mut Vec<Event<Reply>>) {
        let kbps = self.live.bandwidth_kbps(self.clock.now().wall);
        if matches!(self.state, State::Open(_)) && self.bandwidth != kbps {
            self.bandwidth = kbps;
            events.push(Event::Bandwidth(kbps));
        }
    }

    /// Has what waits remembered now and then, with something that is written anyway. The start of
    /// a link is the start of a measurement.
    fn sample(&mut self, events: &mut Vec<Event<Reply>>, now_ms: MonoMs) {
        let is_start = |event: &Event<Reply>| matches!(event, Event::LinkUp { .. });
        if events.iter().any(is_start) {
            self.sample_at = self.sample_at.min(self.sampled_at + SAMPLE_MS.0);
        }
        if !events.is_empty() && self.sample_at <= now_ms {
            self.sampled_at = now_ms;
            self.sample_at = now_ms + SAMPLE_MS.1;
            events.push(Event::Sample);
        }
    }

    /// Notes how the link stands, and refuses what cannot be taken now.
    fn remember(
        &mut self,
        events: Vec<Event<Reply>>,
        submissions: usize,
        now_ms: MonoMs,
    ) -> (Vec<Event<Reply>>, usize) {
        let is_open = matches!(self.state, State::Open(_));
        let refuses = self
            .full
            .as_ref()
            .is_some_and(|full| now_ms < full.refuse_until);
        let mut left = submissions;
        let mut kept = std::mem::take(&mut self.notes);
        for event in events {
            match &event {
                Event::LinkUp { message_bytes_max } => self.link = Some(*message_bytes_max),
                Event::LinkDown => self.link = None,
                _ => {}
            }
            match event {
                Event::Submit(Submission { reply, .. }) if !is_open || refuses => {
                    left -= 1;
                    let why = if self.full.is_some() {
                        IntakeError::StoreFull
                    } else {
                        IntakeError::StoreClosed
                    };
                    // Who asked may have gone.
                    let _ = reply.send(Err(why));
                }
                event @ Event::Note { .. } if !is_open => {
                    if kept.len() < NOTES_MAX {
                        kept.push(event);
                    }
                }
                event => kept.push(event),
            }
        }
        if !is_open {
            kept.retain(|event| matches!(event, Event::Note { .. }));
            self.notes = kept;
            return (Vec::new(), 0);
        }
        (kept, left)
    }

    fn step(&mut self, events: Vec<Event<Reply>>, submissions: usize) {
        let State::Open(engine) = &mut self.state else {
            return;
        };
        let now = self.clock.now();
        let had_events = !events.is_empty();
        match engine.step(now, events) {
            Ok(effects) => {
                if had_events {
                    self.pause_ms = 0;
                }
                self.live.count(engine.take_counts());
                if 0 < submissions && self.full.is_some() {
                    self.is_no_longer_full(now.wall);
                }
                effects
                    .into_iter()
                    .for_each(|effect| self.dispatch(effect, now.wall));
            }
            Err(error) => self.failed(error),
        }
    }

    fn dispatch(&mut self, effect: Effect<Reply>, now: UnixMs) {
        match effect {
            Effect::Publish(message) => {
                // What does not fit is offered again from the store.
                let _ = self.outgoing.try_send(Outgoing::Publish(message));
            }
            Effect::Answer { reply, answer } => {
                if let Answer::LaneFull(lane) = answer {
                    tracing::debug!(%lane, "a lane is full and refuses records");
                }
                // Who asked may have gone; the records are kept all the same.
                let _ = reply.send(Ok(answer));
            }
            Effect::RebuildLink => {
                self.link = None;
                let _ = self.outgoing.try_send(Outgoing::Rebuild);
            }
            Effect::HubTime(time) => self.clock.raise_floor(time),
            Effect::BrokerLimit { lane, bytes, limit } => {
                tracing::error!(%lane, bytes, limit, "the broker does not carry an entry of this size");
                self.note(
                    Level::Alarm,
                    "broker_limit",
                    format!("{lane}: {bytes} > {limit} byte"),
                );
            }
            Effect::RefusedByHub(code) => {
                if self.live.refused_by_hub(code, now) {
                    tracing::error!(code = code.as_str(), "the hub refuses what we send");
                    self.note(Level::Alarm, "refused_by_hub", code.as_str().to_owned());
                }
            }
            Effect::NewEpoch(epoch) => {
                tracing::warn!(%epoch, "the hub has entries that this store does not have; a new epoch begins");
                self.note(Level::Warning, "new_epoch", epoch.to_string());
            }
            Effect::Forgotten(files) => {
                files.into_iter().for_each(|file| self.sweep.remove(file));
            }
            Effect::ContentGone(file) => {
                tracing::error!(sha256 = %file, "an attachment is missing or damaged; the hub hears of it");
                self.sweep.remove(file);
            }
            Effect::ForgedReceipt => {
                if self.live.forged_receipt() {
                    tracing::error!("a receipt without a valid signature of the hub was dropped");
                    self.note(Level::Alarm, "forged_receipt", String::new());
                }
            }
        }
    }

    fn note(&mut self, level: Level, code: &'static str, detail: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(Event::Note {
                level,
                code,
                detail,
            });
        }
    }

    // === When the store fails ===

    fn opened(&mut self, engine: EdgeEngine<Reply>) {
        self.clock.raise_floor(engine.time_floor());
        self.live.forget_counts();
        self.state = State::Open(Box::new(engine));
        self.bandwidth = None;
        if let Some(message_bytes_max) = self.link {
            self.notes.insert(0, Event::LinkUp { message_bytes_max });
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            let boot = boot_id(Path::new("/"));
            self.notes.push(Event::Begin { boot });
        }
        if self.full.is_none() && self.live.store(None, self.clock.now().wall) {
            tracing::info!("the store works again");
            self.note(Level::Info, "store_works", String::new());
        }
    }

    fn reopen(&mut self) {
        match (self.open)() {
            Ok(engine) => self.opened(engine),
            Err(error) => self.failed(error),
        }
    }

    /// Drops the engine; memory is only a cache of the store.
    fn failed(&mut self, error: StoreError) {
        let now = self.clock.now();
        let disk_free = reserve::disk_free_bytes(&self.store).unwrap_or(u64::MAX);
        let error = match error {
            StoreError::Sqlite(_) if disk_free < DISK_FULL_BYTES => StoreError::Full,
            error => error,
        };
        if self.live.store(Some(&error), now.wall) {
            tracing::error!(%error, hint = error.hint(), "the store failed");
            self.note(Level::Alarm, "store_failed", error.to_string());
        }
        self.pause_ms = (self.pause_ms * 2).clamp(REOPEN_MS.0, REOPEN_MS.1);
        let mut reopen_at = now.mono_ms + self.pause_ms;
        match error {
            StoreError::Full => {
                self.is_full(now.mono_ms);
                // With the reserve gone there is room to open it and to delete.
                reopen_at = now.mono_ms + REOPEN_MS.0;
            }
            StoreError::Damaged | StoreError::BrokenChain { .. } => {
                let again = |at| now.mono_ms < at + DAMAGED_AGAIN_MS;
                if self.damaged_at.replace(now.mono_ms).is_some_and(again) {
                    self.state = State::Closed { reopen_at };
                    self.set_aside(now.wall);
                }
            }
            _ => {}
        }
        self.state = State::Closed { reopen_at };
    }

    fn is_full(&mut self, now_ms: MonoMs) {
        let before_ms = self.full.as_ref().map_or(0, |full| full.pause_ms);
        let pause_ms = (before_ms * 2).clamp(REFUSE_MS.0, REFUSE_MS.1);
        self.full = Some(Full {
            refuse_until: now_ms + pause_ms,
            pause_ms,
        });
        self.reserve_at = Some(now_ms + RESERVE_EVERY_MS);
        match self.reserve.release() {
            Ok(true) => tracing::warn!("the disk space that was held back is released"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the disk space that was held back cannot be released")
            }
        }
    }

    fn is_no_longer_full(&mut self, now: UnixMs) {
        self.full = None;
        if self.live.store(None, now) {
            tracing::info!("the store has room again");
            self.note(Level::Info, "store_works", String::new());
        }
    }

    /// Holds disk space back, now or later.
    fn hold_reserve(&mut self, now_ms: MonoMs) {
        self.reserve_at = match self.reserve.take() {
            Ok(true) => None,
            Ok(false) => Some(now_ms + RESERVE_EVERY_MS),
            Err(error) => {
                tracing::debug!(%error, "disk space cannot be held back");
                Some(now_ms + RESERVE_EVERY_MS)
            }
        };
    }

    /// Keeps the damaged files under another name, for whoever can read something out of them.
    fn set_aside(&mut self, now: UnixMs) {
        self.damaged_at = None;
        let kept = set_aside(&self.store, "damaged", now);
        tracing::error!(
            files = kept,
            "the damaged store was set aside, a new one begins"
        );
        self.note(Level::Alarm, "store_set_aside", kept);
    }
}

impl Batch {
    fn has_room(&self) -> bool {
        self.messages < STEP_MESSAGES_MAX && self.bytes < STEP_BYTES_MAX && !self.stop
    }

    fn add(&mut self, input: Input) {
        self.messages += 1;
        match input {
            Input::Event(event) => self.events.push(event),
            Input::Submit(submission, permit) => {
                self.bytes += submission
                    .records
                    .iter()
                    .map(|record| record.tail.len())
                    .sum::<usize>();
                self.submissions += 1;
                self.permits.push(permit);
                self.events.push(Event::Submit(submission));
            }
            Input::Cursor { source, reply } => self.cursors.push((source, reply)),
            Input::Ping(reply) => self.pings.push(reply),
            Input::Stop => self.stop = true,
        }
    }
}

#[cfg(test)]
mod tests;
