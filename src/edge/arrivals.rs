//! What comes down: the thread that owns the engine of the hub's entries and their store.
//!
//! It shares nothing with the box's own engine but the link, so that neither direction waits for the
//! other: while this store fails, records go up as ever. All that it loses the hub sends again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::edge::live::Live;
use crate::engine::copying::{CopyEngine, Effect, Event};
use crate::model::{MonoMs, Now};
use crate::shell::clock::Clock;
use crate::shell::drive::{Inbox, Next};
use crate::shell::replace::set_aside;
use crate::store::StoreError;

/// Messages of the hub that may wait; more are dropped, and the hub offers them again.
const QUEUE: usize = 32;
/// Receipts that may wait for the link.
pub const RECEIPTS: usize = 64;
/// Most messages that go into one commit.
const STEP_MESSAGES_MAX: usize = 16;
/// Pause before a store that failed is opened again.
const REOPEN_MS: (MonoMs, MonoMs) = (500, 60_000);

/// What the thread is told.
#[derive(Debug)]
pub enum Arrival {
    LinkUp,
    LinkDown,
    /// A batch of the hub.
    Batch(Bytes),
}

/// Opens the engine, anew after each fault.
pub type OpenCopies = Box<dyn FnMut(Now) -> Result<CopyEngine, StoreError> + Send>;

/// The way to the thread.
#[derive(Debug, Clone)]
pub struct Arrivals(mpsc::Sender<Arrival>);

impl Arrivals {
    /// Hands on a batch, if there is room.
    pub fn batch(&self, message: Bytes) {
        if self.0.try_send(Arrival::Batch(message)).is_err() {
            tracing::debug!("no room for a batch of the hub; it will be offered again");
        }
    }

    /// Tells how the link stands.
    pub async fn link(&self, is_up: bool) {
        let arrival = match is_up {
            true => Arrival::LinkUp,
            false => Arrival::LinkDown,
        };
        // The thread ends only after the link.
        let _ = self.0.send(arrival).await;
    }
}

struct Owner {
    open: OpenCopies,
    store: PathBuf,
    clock: Clock,
    live: Arc<Live>,
    receipts: mpsc::Sender<Bytes>,
    state: State,
    link_is_up: bool,
    pause_ms: MonoMs,
    was_damaged: bool,
}

enum State {
    Open(Box<CopyEngine>),
    Closed { reopen_at: MonoMs },
}

/// Starts the thread; it ends when all handles are gone. Also gives what is to be sent to the hub.
pub fn start(
    open: OpenCopies,
    store: &Path,
    clock: Clock,
    live: Arc<Live>,
    stack_bytes: usize,
) -> anyhow::Result<(Arrivals, mpsc::Receiver<Bytes>, thread::JoinHandle<()>)> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let (receipts, outgoing) = mpsc::channel(RECEIPTS);
    let owner = Owner {
        open,
        store: store.to_owned(),
        clock,
        live,
        receipts,
        state: State::Closed { reopen_at: 0 },
        link_is_up: false,
        pause_ms: 0,
        was_damaged: false,
    };
    let thread = thread::Builder::new()
        .name("arrivals".to_owned())
        .stack_size(stack_bytes)
        .spawn(move || owner.run(queue))
        .context("cannot start the thread for what comes down")?;
    Ok((Arrivals(sender), outgoing, thread))
}

impl Owner {
    fn run(mut self, queue: mpsc::Receiver<Arrival>) {
        let mut inbox = Inbox::new(queue, self.clock.clone());
        loop {
            let mut events = Vec::new();
            match inbox.next(self.deadline()) {
                Next::Message(arrival) => events.push(self.note(arrival)),
                Next::Deadline => {}
                Next::Closed => return,
            }
            while events.len() < STEP_MESSAGES_MAX
                && let Some(arrival) = inbox.try_next()
            {
                events.push(self.note(arrival));
            }
            self.work(events);
        }
    }

    fn deadline(&self) -> Option<MonoMs> {
        match &self.state {
            State::Open(engine) => engine.poll_timeout(),
            State::Closed { reopen_at } => Some(*reopen_at),
        }
    }

    fn note(&mut self, arrival: Arrival) -> Event {
        match arrival {
            Arrival::LinkUp => {
                self.link_is_up = true;
                Event::LinkUp
            }
            Arrival::LinkDown => {
                self.link_is_up = false;
                Event::LinkDown
            }
            Arrival::Batch(message) => Event::Received(message),
        }
    }

    fn work(&mut self, mut events: Vec<Event>) {
        let now = self.clock.now();
        if let State::Closed { reopen_at } = self.state {
            if now.mono_ms < reopen_at {
                return; // What is dropped here is offered again.
            }
            match (self.open)(now) {
                Ok(engine) => {
                    self.state = State::Open(Box::new(engine));
                    if self.link_is_up {
                        events.insert(0, Event::LinkUp);
                    }
                }
                Err(error) => return self.failed(error, now),
            }
        }
        let State::Open(engine) = &mut self.state else {
            return;
        };
        match engine.step(now, events) {
            Ok(effects) => {
                self.pause_ms = 0;
                if self.live.down_store(None) {
                    tracing::info!("the store of what comes down works again");
                }
                effects.into_iter().for_each(|effect| self.dispatch(effect));
            }
            Err(error) => self.failed(error, now),
        }
    }

    fn dispatch(&mut self, effect: Effect) {
        match effect {
            Effect::Publish(message) => {
                // One that finds no room is asked for again.
                let _ = self.receipts.try_send(message);
            }
            Effect::Applied { entries, unknown } => {
                self.was_damaged = false;
                self.live.heard_down();
                if 0 < unknown {
                    tracing::warn!(
                        entries,
                        unknown,
                        "entries of the hub are kept for a newer program"
                    );
                }
            }
            Effect::NewEpoch(epoch) => {
                tracing::info!(%epoch, "the hub sends from the beginning");
            }
            Effect::Lost { lane, first, last } => {
                tracing::warn!(%lane, %first, %last, "the hub no longer holds these entries");
            }
            Effect::FileCame => tracing::debug!("a file of a document has come whole"),
            Effect::Refused(code) => {
                if self.live.refused_down() {
                    tracing::error!(code = code.as_str(), "a batch of the hub was refused");
                }
            }
        }
    }

    /// Drops the engine; memory is only a cache of the store.
    fn failed(&mut self, error: StoreError, now: Now) {
        if self.live.down_store(Some(&error)) {
            tracing::error!(%error, hint = error.hint(), "the store of what comes down failed; records go up all the same");
        }
        self.pause_ms = (self.pause_ms * 2).clamp(REOPEN_MS.0, REOPEN_MS.1);
        self.state = State::Closed {
            reopen_at: now.mono_ms + self.pause_ms,
        };
        let is_damaged = matches!(
            error,
            StoreError::Damaged | StoreError::BrokenChain { .. } | StoreError::Foreign { .. }
        );
        if is_damaged && std::mem::replace(&mut self.was_damaged, is_damaged) {
            self.was_damaged = false;
            let files = set_aside(&self.store, "damaged", now.wall);
            tracing::error!(files, "the damaged store was set aside, a new one begins");
        }
    }
}
