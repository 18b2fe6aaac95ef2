//! Supervision of the sources that run beside the HTTP door: each connector has a task of its own,
//! is started again with growing pauses after a fault, and says how it stands.
//!
//! A connector is a future that ends with `Ok(())` when it was told to stop and with a [`Fault`]
//! when it cannot go on. It says through its [`Post`] what it does; status, page and metrics show
//! it. A fault stands until the connector says that a round went well: being started again proves
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::edge::door::Door;
use crate::edge::intake::Intake;
use crate::edge::status::{Progress, SourceState, Stamp, Trouble};
use crate::engine::sending::Level;
use crate::model::{SourceName, UnixMs};
use crate::shell::backoff::{Backoff, CAP_MS, Ending, STABLE_MS};
use crate::shell::clock::Clock;

/// Why a connector cannot go on, and what a person can do. Without personal data and secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{en}")]
pub struct Fault {
    /// Stable, such as `connect` or `schema`.
    pub code: &'static str,
    pub vi: String,
    pub en: String,
    pub hint_vi: String,
    pub hint_en: String,
}

impl Fault {
    /// What is wrong and what to do, each in Vietnamese and in English.
    pub fn new(
        code: &'static str,
        [vi, en]: [impl Into<String>; 2],
        [hint_vi, hint_en]: [impl Into<String>; 2],
    ) -> Fault {
        Fault {
            code,
            vi: vi.into(),
            en: en.into(),
            hint_vi: hint_vi.into(),
            hint_en: hint_en.into(),
        }
    }

    fn trouble(&self, since: UnixMs) -> Trouble {
        Trouble {
            code: self.code.to_owned(),
            text_vi: self.vi.clone(),
            text_en: self.en.clone(),
            hint_vi: self.hint_vi.clone(),
            hint_en: self.hint_en.clone(),
            since: Some(Stamp(since)),
        }
    }
}

/// How one source stands.
#[derive(Debug, Clone)]
pub struct SourceLive {
    pub state: SourceState,
    pub since: Stamp,
    /// Why it does not work now.
    pub fault: Option<Trouble>,
    /// What somebody ought to know though it works, such as a link without encryption.
    pub warning: Option<Trouble>,
    pub progress: Option<Progress>,
}

/// How the sources stand, for the status.
#[derive(Debug, Default)]
pub struct Board {
    sources: Mutex<BTreeMap<SourceName, SourceLive>>,
}

impl Board {
    pub fn get(&self, source: &str) -> Option<SourceLive> {
        let name: SourceName = source.parse().ok()?;
        self.lock().get(&name).cloned()
    }

    /// Changes what is said of a source, which begins as working.
    fn change<T>(
        &self,
        source: &SourceName,
        now: UnixMs,
        change: impl FnOnce(&mut SourceLive) -> T,
    ) -> T {
        let mut sources = self.lock();
        let live = sources.entry(source.clone()).or_insert(SourceLive {
            state: SourceState::Working,
            since: Stamp(now),
            fault: None,
            warning: None,
            progress: None,
        });
        let before = live.state;
        let changed = change(live);
        if live.state != before {
            live.since = Stamp(now);
        }
        changed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SourceName, SourceLive>> {
        self.sources.lock().expect("no holder panics")
    }
}

/// A connector's place: what it says of itself, and how it hears that it is to stop.
#[derive(Debug, Clone)]
pub struct Post {
    source: SourceName,
    board: Arc<Board>,
    intake: Intake,
    clock: Clock,
    stop: watch::Receiver<bool>,
}

impl Post {
    pub fn new(source: SourceName, door: &Door, clock: Clock, stop: watch::Receiver<bool>) -> Post {
        Post {
            source,
            board: Arc::clone(door.board()),
            intake: door.intake().clone(),
            clock,
            stop,
        }
    }

    pub fn source(&self) -> &SourceName {
        &self.source
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Something is being done. A fault that stands goes on to stand.
    pub fn working(&self) {
        self.change(|live| {
            if live.fault.is_none() {
                live.state = SourceState::Working;
            }
        });
    }

    /// A round went well; a fault that stood is over.
    pub async fn well(&self) {
        self.is_well(SourceState::Working).await;
    }

    /// A round went well, and the next one is waited for.
    pub async fn waiting(&self) {
        self.is_well(SourceState::Waiting).await;
    }

    async fn is_well(&self, state: SourceState) {
        let was_failed = self.change(|live| {
            live.state = state;
            live.fault.take().is_some()
        });
        if was_failed {
            tracing::info!(source = %self.source, "the source works again");
            let detail = self.source.to_string();
            self.intake.note(Level::Info, "source_works", detail).await;
        }
    }

    /// The source does not work now, and why. Told once, until the reason changes.
    pub async fn failed(&self, fault: &Fault) {
        let now = self.clock.now().wall;
        let is_new = self.change(|live| {
            live.state = SourceState::Failed;
            let before = live.fault.take();
            let is_new = before
                .as_ref()
                .is_none_or(|before| before.code != fault.code || before.text_en != fault.en);
            let since = before.and_then(|before| before.since);
            live.fault = Some(fault.trouble(since.map_or(now, |since| since.0)));
            is_new
        });
        if is_new {
            tracing::warn!(source = %self.source, code = fault.code, error = %fault, hint = fault.hint_en, "the source failed; it is tried again");
            let detail = format!("{}: {}", self.source, fault.vi);
            self.intake
                .note(Level::Warning, "source_failed", detail)
                .await;
        }
    }

    /// Something that somebody ought to know though the source works; none takes it back.
    pub async fn warn(&self, warning: Option<&Fault>) {
        let now = self.clock.now().wall;
        let is_new = self.change(|live| {
            let code = |trouble: &Trouble| trouble.code.clone();
            let before = live.warning.as_ref().map(code);
            if before.as_deref() != warning.map(|warning| warning.code) {
                live.warning = warning.map(|warning| warning.trouble(now));
                return live.warning.is_some();
            }
            false
        });
        if let (true, Some(warning)) = (is_new, warning) {
            tracing::warn!(source = %self.source, code = warning.code, "{warning}");
            let detail = format!("{}: {}", self.source, warning.vi);
            self.intake
                .note(Level::Warning, "source_warning", detail)
                .await;
        }
    }

    /// How far a long piece of work is; none when it is done.
    pub fn progress(&self, progress: Option<Progress>) {
        self.change(|live| live.progress = progress);
    }

    /// Tells when this run of the connector is to end.
    pub fn stop_signal(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }

    /// The hub has told the source to rest, or no longer.
    async fn rest(&self, is_resting: bool) {
        let state = match is_resting {
            true => SourceState::Paused,
            false => SourceState::Working,
        };
        self.change(|live| live.state = state);
        let code = if is_resting {
            "source_paused"
        } else {
            "source_resumed"
        };
        let detail = self.source.to_string();
        self.intake.note(Level::Info, code, detail).await;
    }

    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Waits until the program is to stop.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // A sender that is gone means the same.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Waits; false when the program is to stop.
    pub async fn pause(&self, pause: Duration) -> bool {
        tokio::select! {
            () = self.stopped() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut SourceLive) -> T) -> T {
        self.board
            .change(&self.source, self.clock.now().wall, change)
    }
}

/// The connectors that run.
pub struct Connectors {
    tasks: JoinSet<()>,
    door: Arc<Door>,
    clock: Clock,
    stop: watch::Receiver<bool>,
}

impl Connectors {
    pub fn new(door: Arc<Door>, clock: Clock, stop: watch::Receiver<bool>) -> Connectors {
        Connectors {
            tasks: JoinSet::new(),
            door,
            clock,
            stop,
        }
    }

    /// Runs a connector until it ends in order; `make` makes it anew after each fault.
    pub fn spawn<M, F>(&mut self, source: &SourceName, make: M)
    where
        M: FnMut(Post) -> F + Send + 'static,
        F: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        let post = Post::new(source.clone(), &self.door, clock, stop);
        let paused = self.door.steering().paused.subscribe();
        self.tasks.spawn(supervise(post, paused, make));
    }

    /// Waits until every connector has ended.
    pub async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn supervise<M, F>(post: Post, mut paused: watch::Receiver<BTreeSet<SourceName>>, mut make: M)
where
    M: FnMut(Post) -> F,
    F: Future<Output = Result<(), Fault>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(CAP_MS));
    loop {
        if is_paused(&paused, &post.source) {
            post.rest(true).await;
            tokio::select! {
                () = post.stopped() => return,
                resumed = paused.wait_for(|paused| !paused.contains(&post.source)) => {
                    if resumed.is_err() {
                        return;
                    }
                }
            }
            post.rest(false).await;
        }
        let began_ms = post.clock.mono_ms();
        post.working();
        let Err(fault) = run(&post, &mut paused, &mut make).await else {
            match is_paused(&paused, &post.source) && !post.is_stopping() {
                true => continue,
                false => return,
            }
        };
        post.progress(None);
        post.failed(&fault).await;
        let up_ms = post.clock.mono_ms() - began_ms;
        let ending = match STABLE_MS <= up_ms {
            true => Ending::Lost { up_ms },
            false => Ending::Failed,
        };
        let roll = getrandom::u64().expect("the operating system has random numbers");
        if !post.pause(backoff.pause(ending, roll)).await {
            return;
        }
    }
}

fn is_paused(paused: &watch::Receiver<BTreeSet<SourceName>>, source: &SourceName) -> bool {
    paused.borrow().contains(source)
}

/// One run, which is told to end in order when the program stops and when the source is to rest.
async fn run<M, F>(
    post: &Post,
    paused: &mut watch::Receiver<BTreeSet<SourceName>>,
    make: &mut M,
) -> Result<(), Fault>
where
    M: FnMut(Post) -> F,
    F: Future<Output = Result<(), Fault>>,
{
    let (end, stop) = watch::channel(false);
    let mut running = pin!(make(Post {
        stop,
        ..post.clone()
    }));
    tokio::select! {
        ended = &mut running => return ended,
        () = post.stopped() => {}
        // Without anybody who could pause, this never comes.
        Ok(_) = paused.wait_for(|paused| paused.contains(&post.source)) => {}
    }
    end.send_replace(true);
    running.await
}
