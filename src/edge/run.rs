//! `tramd run`: build everything, serve until told to stop, stop in order.
//!
//! Start: configuration, keys, the store's lock, the store, sockets; a fault shows before anything
//! runs. Nothing waits for the network or for the time. Stop: sources finish what they have in hand,
//! connections finish their request, the engine makes its last step and closes the store, the
//! broker gets its goodbye. A second signal ends it at once.

pub mod engines;
mod sources;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use rustls::ServerConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::catalogue::Catalogue;
use crate::edge::accounts;
use crate::edge::commands::Failure;
use crate::edge::config::load::{Loaded, load};
use crate::edge::config::{Config, HttpSecure};
use crate::edge::connectors::Connectors;
use crate::edge::door::Door;
use crate::edge::generations::Generations;
use crate::edge::guests::Guests;
use crate::edge::http::{self, App};
use crate::edge::identity::Keys;
use crate::edge::inbox::{Documents, outward};
use crate::edge::intake::{self, Input, Intake};
use crate::edge::link::{Ends, Link, OUTGOING};
use crate::edge::listen::{self, Bound};
use crate::edge::live::Live;
use crate::edge::lock::StoreLock;
use crate::edge::orders::rotate::Rotation;
use crate::edge::orders::{self, Orders};
use crate::edge::own_tls::OwnTls;
use crate::edge::owner::{Outgoing, Owner};
use crate::edge::received::Keeper;
use crate::edge::reserve::Reserve;
use crate::edge::run::engines::{open_copies, open_engine};
use crate::edge::run::sources::start_connectors;
use crate::edge::status::read::Reader;
use crate::edge::sweep::Sweep;
use crate::edge::tokens::Tokens;
use crate::edge::{arrivals, backup, mdns};
use crate::model::UnixMs;
use crate::shell::clock::Clock;
use crate::shell::logging;
use crate::shell::signals::StopSignals;
use crate::shell::systemd::ServiceManager;

/// Threads are few and shallow.
const STACK_BYTES: usize = 512 * 1024;
/// Name lookups, large bodies and status reads run beside the runtime.
const BLOCKING_THREADS: usize = 3;
/// Without a watchdog the loop's life is looked at so often, for the status line.
const BEAT: Duration = Duration::from_secs(30);
const SOURCES_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine and the door to it, built and not running yet.
pub struct Core {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub keys: Keys,
    pub live: Arc<Live>,
    pub intake: Intake,
    pub door: Arc<Door>,
    engine: Engine,
    outgoing: mpsc::Receiver<Outgoing>,
    /// Released last.
    lock: StoreLock,
}

/// The engine's loop, and what waits for it.
struct Engine {
    owner: Owner,
    queue: mpsc::Receiver<Input>,
}

/// Runs the daemon until a signal.
pub fn run(path: &Path, log_level: Option<&str>) -> Result<(), Failure> {
    let Loaded {
        config, catalogue, ..
    } = load(path).map_err(Failure::Configuration)?;
    logging::init(Some(log_level.unwrap_or(&config.log_level)))?;
    let manager = ServiceManager::from_environment();
    let core = Core::build(config, catalogue)?;
    let http = &core.config.http;
    let own_tls = match http.tls {
        Some(HttpSecure::Own) => Some(OwnTls::open(&core.config, core.clock.now().wall)?),
        _ => None,
    };
    let bound = Bound::bind(
        http.listen,
        core.http_tls(own_tls.as_ref()),
        Guests::new(http.connections_max, http.per_address_max),
        &core.config.store.path,
    )?;
    let runtime = new_runtime()?;
    let reader = core.reader();
    let Core {
        config,
        clock,
        door,
        ..
    } = core;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        box_id = %config.box_id,
        store = %config.store.path.display(),
        http = %bound.address(),
        "tramd takes records in"
    );
    accounts::invite(&config.store);
    let (engine, engine_ended) = core.engine.start()?;
    let (arrivals, receipts, arrivals_thread) = arrivals::start(
        open_copies(&config, &core.keys, &door),
        &config.store.down_path(),
        clock.clone(),
        Arc::clone(&core.live),
        STACK_BYTES,
    )?;
    let live = Arc::clone(&core.live);
    let (begin_stop, stop) = watch::channel(false);
    let is_ordered = runtime.block_on(async {
        let mut signals = StopSignals::listen()?;
        let (trials, tried) = mpsc::channel(1);
        let link = Link::start(
            &config,
            &core.keys.identity,
            clock.clone(),
            core.live,
            reader.clone(),
            Ends {
                intake: core.intake.clone(),
                outgoing: core.outgoing,
                arrivals,
                receipts,
                steering: Arc::clone(door.steering()),
                trials: tried,
            },
        );
        let documents = Arc::new(Documents::new(config.store.down_path()));
        let app = App::new(
            &config,
            Arc::clone(&door),
            Arc::clone(&documents),
            reader.clone(),
        );
        let keeper = Keeper {
            documents: Arc::clone(&documents),
            box_id: config.box_id.clone(),
            bytes_max: config.store.received_bytes_max,
            keep_ms: config.store.received_keep_ms,
        };
        tokio::spawn(keeper.run(Arc::clone(&door), stop.clone()));
        tokio::spawn(outward::run(
            Arc::clone(&door),
            documents,
            config.inboxes.clone(),
            stop.clone(),
        ));
        let tokens = Tokens::new(&config.http.tokens);
        let router = http::router(Arc::new(app));
        let server = tokio::spawn(bound.serve(router, tokens, stop.clone()));
        if config.http.mdns {
            tokio::spawn(mdns::run(config.http.clone(), live, stop.clone()));
        }
        if let Some(own_tls) = own_tls {
            tokio::spawn(own_tls.keep(clock.clone()));
        }
        orders::recall(&config.store.down_path(), door.steering());
        let connectors = start_connectors(&config, &door, &clock, &stop);
        tokio::spawn(backup::schedule::run(
            Arc::clone(&config),
            Arc::clone(&door),
            stop.clone(),
        ));
        let orders = Orders {
            config: Arc::clone(&config),
            hub_keys: core.keys.hub_keys(),
            door: Arc::clone(&door),
            clock: clock.clone(),
            reader: reader.clone(),
            rotation: Rotation::new(Generations::of(&config), core.keys.signing_key(), trials),
        };
        tokio::spawn(orders.run(stop.clone()));
        manager.ready();
        let daemon = Daemon {
            intake: core.intake,
            reader,
            manager,
            door,
            link,
            server,
            connectors,
            engine_ended,
        };
        daemon.serve(&mut signals, begin_stop).await
    })?;
    runtime.shutdown_background();
    if is_ordered {
        engine
            .join()
            .map_err(|_| anyhow!("the engine's thread has panicked"))?;
        arrivals_thread
            .join()
            .map_err(|_| anyhow!("the thread for what comes down has panicked"))?;
        tracing::info!("stopped in order");
    } else {
        tracing::warn!("stopped at once; the next start goes on from what is committed");
    }
    drop(core.lock);
    Ok(())
}

impl Core {
    /// Builds, in the order in which faults are best met. What a restart cannot mend is a fault of
    /// the configuration.
    pub fn build(config: Config, catalogue: Catalogue) -> Result<Core, Failure> {
        let clock = Clock::start(UnixMs(0));
        let keys = Keys::load(&config, &clock).map_err(Failure::Configuration)?;
        let lock = StoreLock::take(&config.store.path).map_err(Failure::of_lock)?;
        backup::finish(&config.store, clock.now().wall)?;
        let config = Arc::new(config);
        let (intake, queue) = intake::channel();
        let door = Arc::new(Door::new(&config, catalogue, intake.clone(), clock.clone()));
        let live = Arc::new(Live::new(
            clock.now().wall,
            Arc::clone(door.board()),
            Arc::clone(door.steering()),
            config.hub.bandwidth.clone(),
        ));
        let (outbox, outgoing) = mpsc::channel(OUTGOING);
        let owner = Owner::new(
            open_engine(&config, &keys, door.blobs()),
            &config.store.path,
            Reserve::beside(&config.store.path, config.store.reserve_bytes),
            clock.clone(),
            Arc::clone(&live),
            outbox,
            Sweep::new(Arc::clone(door.blobs()), clock.mono_ms()),
        )
        .map_err(Failure::of_store)?;
        if let Err(fault) = keys.identity.check(clock.now().wall) {
            tracing::warn!(%fault, "the box's certificate is not valid now; records are taken in all the same");
        }
        Ok(Core {
            config,
            clock,
            keys,
            live,
            intake,
            door,
            engine: Engine { owner, queue },
            outgoing,
            lock,
        })
    }

    /// What the office's network is served with; none: plain HTTP, on this machine.
    fn http_tls(&self, own: Option<&Arc<OwnTls>>) -> Option<Arc<ServerConfig>> {
        own.map(OwnTls::server).or_else(|| self.keys.http.clone())
    }

    fn reader(&self) -> Reader {
        let live = Some(Arc::clone(&self.live));
        Reader::new(Arc::clone(&self.config), self.clock.clone(), live)
    }

    /// Serves one request of this process itself, while no daemon runs, and closes the store.
    pub fn serve_one(self, request: Request) -> Result<(StatusCode, Bytes), Failure> {
        let runtime = new_runtime()?;
        let documents = Arc::new(Documents::new(self.config.store.down_path()));
        let app = App::new(
            &self.config,
            Arc::clone(&self.door),
            documents,
            self.reader(),
        );
        let (engine, _ended) = self.engine.start()?;
        let answered = runtime.block_on(async {
            let response = listen::answer(http::router(Arc::new(app)), request).await;
            let (head, body) = response.into_parts();
            let body = axum::body::to_bytes(body, ANSWER_BYTES_MAX).await;
            self.intake.stop().await;
            body.map(|body| (head.status, body))
                .context("the answer is too long")
        })?;
        engine
            .join()
            .map_err(|_| anyhow!("the engine's thread has panicked"))?;
        drop(self.lock);
        Ok(answered)
    }
}

impl Engine {
    /// Runs the loop in a thread of its own; the receiver hears when it has ended.
    fn start(self) -> anyhow::Result<(thread::JoinHandle<()>, oneshot::Receiver<()>)> {
        let (ended, engine_ended) = oneshot::channel();
        let engine = thread::Builder::new()
            .name("engine".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                self.owner.run(self.queue);
                // Whoever waits for this end may be gone.
                let _ = ended.send(());
            })
            .context("cannot start the engine's thread")?;
        Ok((engine, engine_ended))
    }
}

fn new_runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("cannot start the runtime")
}

/// Everything that runs.
struct Daemon {
    intake: Intake,
    reader: Reader,
    manager: ServiceManager,
    door: Arc<Door>,
    link: Link,
    server: tokio::task::JoinHandle<anyhow::Result<()>>,
    connectors: Connectors,
    engine_ended: oneshot::Receiver<()>,
}

impl Daemon {
    /// Serves until a signal; says whether everything ended in order.
    async fn serve(
        mut self,
        signals: &mut StopSignals,
        begin_stop: watch::Sender<bool>,
    ) -> anyhow::Result<bool> {
        let beat = self
            .manager
            .watchdog_interval()
            .map_or(BEAT, |interval| interval / 3);
        let ending = tokio::select! {
            () = signals.next() => Ok(()),
            () = self.link.carry() => Err(anyhow!("the link's task has ended")),
            () = feed(&self.intake, &self.reader, &self.manager, beat) => Ok(()),
            server = &mut self.server => match server {
                Ok(Ok(())) => Err(anyhow!("the HTTP server has ended")),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(anyhow!("the HTTP server has panicked")),
            },
            _ = &mut self.engine_ended => Err(anyhow!("the engine has ended")),
            never = self.door.send_alarms_held_back() => match never {},
            () = self.door.steering().restart.notified() => {
                tracing::info!("a restart was ordered");
                Ok(())
            }
        };
        ending?;
        tracing::info!("stopping");
        self.manager.stopping();
        // Every task that listens for it may have ended already.
        let _ = begin_stop.send(true);
        tokio::select! {
            () = signals.next() => Ok(false),
            is_ordered = self.stop() => Ok(is_ordered),
        }
    }

    /// The ordered stop. The link goes on carrying receipts until the engine has closed the store.
    async fn stop(self) -> bool {
        let Daemon {
            intake,
            mut link,
            mut server,
            mut connectors,
            engine_ended,
            ..
        } = self;
        let wind_down = async {
            if timeout(SOURCES_TIMEOUT, connectors.ended()).await.is_err() {
                tracing::warn!(
                    "a source did not finish in time; what it had in hand is taken at the next start"
                );
            }
            // The server bounds its own draining.
            let _ = (&mut server).await;
            intake.stop().await;
            timeout(ENGINE_TIMEOUT, engine_ended).await.is_ok()
        };
        let is_ordered = tokio::select! {
            is_ordered = wind_down => is_ordered,
            () = async { link.carry().await; std::future::pending().await } => unreachable!("pending"),
        };
        link.close().await;
        is_ordered
    }
}

/// Feeds the watchdog while the engine's loop gives signs of life, and keeps systemd's line.
async fn feed(intake: &Intake, reader: &Reader, manager: &ServiceManager, beat: Duration) {
    loop {
        if let Ok(Ok(_)) = timeout(beat, intake.ping()).await {
            manager.watchdog();
        }
        let reader = reader.clone();
        if let Ok(status) = tokio::task::spawn_blocking(move || reader.read()).await {
            manager.status(&status.line());
        }
        sleep(beat).await;
    }
}
