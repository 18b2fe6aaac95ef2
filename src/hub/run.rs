//! `trucd run`: the receiver. Everything that can fail fails before it says that it is ready; a stop
//! ends intake, finishes the commit in hand, and closes what was opened, in that order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use crate::catalogue::Catalogue;
use crate::evidence::{SigningKey, sha256};
use crate::hub::attachments::Settler;
use crate::hub::backup;
use crate::hub::broker::{self, Broker, Shown};
use crate::hub::config::{BrokerKind, CLIENT_NAME, Config};
use crate::hub::counters::Counters;
use crate::hub::grants;
use crate::hub::http;
use crate::hub::orders;
use crate::hub::output::supervise::Outputs;
use crate::hub::receiver::{EngineSource, INLET_MESSAGES, Inlet, Receiver};
use crate::hub::registry::{self, Doorkeeper};
use crate::hub::renewal;
use crate::model::limits::MESSAGE_BYTES_MAX;
use crate::shell::clock::Clock;
use crate::shell::courier::{Courier, CourierConfig};
use crate::shell::dial::Address;
use crate::shell::systemd::ServiceManager;
use crate::shell::tls::{Files, Identity};
use crate::wire::{SUBSCRIBE_PRESENCE, subscribe_up};

/// How soon a suspended box that is connected is sent away.
const PATROL: Duration = Duration::from_secs(15);
/// How soon a box that was registered gets the catalogues.
const ORDERS: Duration = Duration::from_secs(30);
/// How soon a box that has made a new key is answered; the wall clock is asked as often.
const RENEWAL: Duration = Duration::from_secs(2);
const STATUS_LINE: Duration = Duration::from_secs(60);
/// Unacknowledged messages each way between the hub and its broker.
const IN_FLIGHT: u16 = 64;
/// Nobody else returns to the broker at the same time.
const SPREAD: Duration = Duration::from_secs(2);
/// A message and its topic.
const PACKET_BYTES_MAX: u32 = MESSAGE_BYTES_MAX as u32 + 4096;
/// For the commit in hand.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// The certificate's end is told in the log from here on.
const WARN_DAYS: i64 = 60;

/// A hub whose parts stand, ready to be waited for.
pub struct Hub {
    courier: Arc<Courier>,
    engine: std::thread::JoinHandle<()>,
    inlet: mpsc::Sender<Inlet>,
    broker: Option<Arc<Broker>>,
    tasks: Vec<JoinHandle<()>>,
    outputs: Outputs,
    /// Tells the tasks to end.
    ending: watch::Sender<bool>,
    manager: Arc<ServiceManager>,
    /// Dropped, it ends the attachments' thread.
    settling: std::sync::mpsc::SyncSender<()>,
    settler: std::thread::JoinHandle<()>,
}

impl Hub {
    /// Opens, binds and starts everything; nothing runs when this fails.
    pub async fn start(config: Config) -> anyhow::Result<Hub> {
        let config = Arc::new(config);
        let manager = Arc::new(ServiceManager::from_environment());
        let clock = Clock::start(crate::model::UnixMs(0));
        backup::finish(&config, clock.now().wall)?;
        registry::existing_store(&config)?;
        let receipt_key = read_receipt_key(&config)?;
        let group = share_group(&receipt_key);
        let source = EngineSource {
            store: config.store.path.clone(),
            options: registry::options(&config),
            receipt_key,
            catalogue: catalogue(&config)?,
        };
        let engine = source
            .open()
            .map_err(|error| anyhow!("{error}. {}", error.hint()))
            .with_context(|| format!("cannot open the database {}", config.store.path.display()))?;
        let identity = load_identity(&config, &clock)?;
        let http = match config.http_listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on {address} (http.listen)"))?,
            ),
            None => None,
        };
        let doorkeeper = Arc::new(Doorkeeper::new(&config));
        let broker = start_broker(&config, &doorkeeper).await?;

        let counters = Arc::new(Counters::default());
        let (inlet, outlet) = mpsc::channel(INLET_MESSAGES);
        let courier = CourierConfig {
            subscriptions: vec![subscribe_up(&group), SUBSCRIBE_PRESENCE.to_owned()],
            max_packet_bytes: PACKET_BYTES_MAX,
            in_flight: IN_FLIGHT,
            spread: SPREAD,
            ..CourierConfig::new(
                CLIENT_NAME,
                broker_addresses(&config, broker.as_deref()),
                identity.config,
            )
        };
        let courier = Arc::new(Courier::start(courier, clock.clone(), inlet.clone()));
        let receiver = Receiver::new(
            source,
            engine,
            courier.clone(),
            clock.clone(),
            counters.clone(),
            manager.clone(),
        );
        let engine = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || receiver.run(outlet))
            .context("cannot start the engine's thread")?;

        let settler = Settler {
            store: config.store.path.clone(),
            options: registry::options(&config),
            scanner: config.store.scanner.clone(),
            clock: clock.clone(),
        };
        let (settling, settled) = std::sync::mpsc::sync_channel(1);
        let settler = std::thread::Builder::new()
            .name("attachments".to_owned())
            .spawn(move || settler.run(&settled))
            .context("cannot start the attachments' thread")?;

        let outputs = Outputs::start(&config, &clock)?;
        let (ending, ended) = watch::channel(false);
        let mut tasks = vec![tokio::spawn(tell_status(
            config.clone(),
            clock.clone(),
            manager.clone(),
        ))];
        tasks.push(tokio::spawn(send_orders(config.clone(), clock.clone())));
        tasks.push(tokio::spawn(renew(config.clone(), clock.clone())));
        if let Some(broker) = &broker {
            tasks.push(tokio::spawn(patrol(doorkeeper, broker.clone())));
        }
        if let Some(listener) = http {
            let shared = http::Shared {
                config: config.clone(),
                clock,
                counters,
            };
            tasks.push(tokio::spawn(http::serve(listener, shared, ended)));
        }
        Ok(Hub {
            courier,
            engine,
            inlet,
            broker,
            tasks,
            outputs,
            ending,
            manager,
            settling,
            settler,
        })
    }

    /// Where boxes connect to, when the broker is within this process.
    pub fn broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(|broker| broker.address())
    }

    /// Runs until `stop` is there, then ends in order; also when the engine's thread has died.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.manager.ready();
        tracing::info!("ready");
        let mut stop = std::pin::pin!(stop);
        let mut look = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = look.tick() => if self.engine.is_finished() { break },
            }
        }
        self.stop().await
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.manager.stopping();
        tracing::info!("stopping");
        let Hub {
            courier,
            engine,
            inlet,
            broker,
            tasks,
            outputs,
            ending,
            settling,
            settler,
            ..
        } = self;
        drop(settling);
        // Receivers may be gone already; then nobody needs to be told.
        let _ = ending.send(true);
        let outputs = tokio::task::spawn_blocking(move || outputs.stop());
        let died = engine.is_finished();
        let settled = tokio::task::spawn_blocking(move || settler.join());
        let ended = timeout(STOP_TIMEOUT, async {
            // What was taken before this is still committed, and its receipts are handed over.
            let _ = inlet.send(Inlet::Stop).await;
            tokio::task::spawn_blocking(move || engine.join()).await
        })
        .await;
        // A thread that panicked has been told of.
        let _ = outputs.await;
        drop(inlet);
        if let Some(courier) = Arc::into_inner(courier) {
            courier.close().await;
        }
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        if let Some(broker) = broker.and_then(Arc::into_inner) {
            broker.stop().await;
        }
        if timeout(STOP_TIMEOUT, settled).await.is_err() {
            tracing::warn!(
                "the check of an attachment did not end in time; it begins anew at the next start"
            );
        }
        match ended {
            Ok(Ok(Ok(()))) if !died => {
                tracing::info!("stopped");
                Ok(())
            }
            Ok(_) => Err(anyhow!("the engine's thread ended on its own")),
            Err(_) => Err(anyhow!("the commit in hand did not end in time")),
        }
    }
}

/// The key that signs receipts and orders, PKCS#8 DER.
pub fn read_receipt_key(config: &Config) -> anyhow::Result<Vec<u8>> {
    let path = &config.hub.receipt_key;
    let der = PrivatePkcs8KeyDer::from_pem_file(path)
        .map(|key| key.secret_pkcs8_der().to_vec())
        .map_err(|error| anyhow!("cannot read the receipt key {}: {error}", path.display()))?;
    SigningKey::from_pkcs8(&der)
        .with_context(|| format!("{} cannot sign receipts", path.display()))?;
    Ok(der)
}

/// Workers that share the receipt key share a subscription. Its name comes from the key, so that no
/// box can guess it: where a broker does not refuse subscriptions, whoever joined the group would
/// draw away other boxes' batches.
fn share_group(receipt_key: &[u8]) -> String {
    let digest = sha256(&[b"lienthong/1 share group\0", receipt_key].concat());
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{CLIENT_NAME}-{hex}")
}

fn load_identity(config: &Config, clock: &Clock) -> anyhow::Result<Identity> {
    let files = Files {
        authority: config.hub.ca.clone(),
        certificate: config.hub.certificate.clone(),
        key: config.hub.key.clone(),
    };
    let allow_tls12 = matches!(
        config.broker,
        BrokerKind::External {
            allow_tls12: true,
            ..
        }
    );
    let identity = Identity::load(&files, clock, allow_tls12)
        .map_err(|fault| anyhow!("{fault}. {}", fault.hint()))?;
    let days = identity.facts.days_left(clock.now().wall);
    if days < WARN_DAYS {
        tracing::warn!(days, file = %config.hub.certificate.display(), "the hub's certificate ends soon");
    }
    Ok(identity)
}

async fn start_broker(
    config: &Config,
    doorkeeper: &Arc<Doorkeeper>,
) -> anyhow::Result<Option<Arc<Broker>>> {
    let BrokerKind::Embedded {
        listen,
        certificate,
        key,
        connections_max,
    } = &config.broker
    else {
        return Ok(None);
    };
    let settings = broker::BrokerConfig {
        max_connections: *connections_max,
        ..broker::BrokerConfig::new(
            *listen,
            config.hub.ca.clone(),
            certificate.clone(),
            key.clone(),
            CLIENT_NAME.to_owned(),
        )
    };
    let doorkeeper = doorkeeper.clone();
    let may_connect = Arc::new(move |guest: &Shown| doorkeeper.may_connect(guest));
    Ok(Some(Arc::new(broker::start(&settings, may_connect).await?)))
}

/// Without a catalogue the hub receives as ever.
pub(in crate::hub) fn catalogue(config: &Config) -> anyhow::Result<Option<Arc<Catalogue>>> {
    if !config.catalogue.is_dir() {
        tracing::info!(path = %config.catalogue.display(), "there is no catalogue: no copies and no documents are handed on");
        return Ok(None);
    }
    Ok(Some(Arc::new(grants::load_catalogue(config)?)))
}

/// The embedded broker is dialled over loopback where it listens there.
fn broker_addresses(config: &Config, broker: Option<&Broker>) -> Vec<Address> {
    let Some(broker) = broker else {
        return match &config.broker {
            BrokerKind::External { addresses, .. } => addresses.clone(),
            BrokerKind::Embedded { .. } => unreachable!("an embedded broker was started"),
        };
    };
    let address = broker.address();
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    vec![Address {
        host: host.to_string(),
        port: address.port(),
    }]
}

/// Sends boxes away that were suspended or revoked while they were connected, and old keys.
async fn patrol(doorkeeper: Arc<Doorkeeper>, broker: Arc<Broker>) {
    let mut interval = interval(PATROL);
    loop {
        interval.tick().await;
        let connected = broker.guests();
        let doorkeeper = doorkeeper.clone();
        let unwelcome = tokio::task::spawn_blocking(move || doorkeeper.unwelcome(connected)).await;
        for guest in unwelcome.unwrap_or_default() {
            let connections = broker.disconnect_guest(&guest);
            tracing::info!(
                box_id = guest.name,
                connections,
                "disconnected: the box is suspended or revoked, or has another key by now"
            );
        }
    }
}

/// Sees to it that every box has the catalogues, also one that was registered since.
async fn send_orders(config: Arc<Config>, clock: Clock) {
    let mut interval = interval(ORDERS);
    loop {
        interval.tick().await;
        let (config, now) = (config.clone(), clock.now().wall);
        let sent = tokio::task::spawn_blocking(move || orders::look_after(&config, now)).await;
        if let Ok(Err(error)) = sent {
            tracing::warn!(
                error = format!("{error:#}"),
                "orders could not be sent to boxes; tried again"
            );
        }
    }
}

/// Has boxes change their keys before their certificates end, and answers what they say to it.
async fn renew(config: Arc<Config>, clock: Clock) {
    let mut interval = interval(RENEWAL);
    let mut told = false;
    loop {
        interval.tick().await;
        let (config, now) = (config.clone(), clock.now().wall);
        let looked = tokio::task::spawn_blocking(move || renewal::look_after(&config, now)).await;
        match looked {
            Ok(Err(error)) if !std::mem::replace(&mut told, true) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "certificates could not be renewed; tried again");
            }
            Ok(Ok(())) => told = false,
            _ => {}
        }
    }
}

/// Keeps systemd's status line up to date, and says when a box's name seems to be used twice.
async fn tell_status(config: Arc<Config>, clock: Clock, manager: Arc<ServiceManager>) {
    let mut interval = interval(STATUS_LINE);
    let mut told = std::collections::HashSet::new();
    loop {
        interval.tick().await;
        let (config, now) = (config.clone(), clock.now().wall);
        let read = tokio::task::spawn_blocking(move || http::read_status(&config, now)).await;
        let Ok(Ok(status)) = read else { continue };
        manager.status(&status.to_line());
        let clones: std::collections::HashSet<_> = status
            .boxes
            .iter()
            .filter(|known| known.suspected_clone)
            .map(|known| known.box_id.clone())
            .collect();
        for box_id in clones.difference(&told) {
            tracing::warn!(%box_id, "two machines seem to use this box's name: an old epoch grew again");
        }
        told = clones;
    }
}
