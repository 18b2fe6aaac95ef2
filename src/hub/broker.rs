//! The hub's embedded MQTT 5 broker: TLS with client certificates, and an access rule that lets a
//! box touch nothing but its own topics. A small province needs no other process.
//!
//! # Why rmqtt
//!
//! `rmqtt` is kept up, speaks MQTT 5 whole, and has a hook at each place where the access rule must
//! stand; the advisories of August 2026 name nothing open in it. `rumqttd` 0.20, the other broker
//! that can be a library, knows no access rule by topic, and pins tokio-rustls 0.25 with
//! rustls-webpki 0.102, for which RUSTSEC-2026-0049, -0098, -0099 and -0104 stay open.
//!
//! # How it stands together
//!
//! rmqtt runs sessions only over sockets that its own listener accepts, and its own TLS brings a
//! second cryptographic library, bounds no handshakes and never stops. So the [`door`] accepts,
//! speaks TLS, and joins each verified guest to rmqtt's listener over loopback. That listener is no
//! way in: a session is admitted only from a socket that the door itself has opened, which the door
//! knows by its address and the operating system gives to nobody else while it is open.

mod access;
mod door;
mod gate;
pub mod grace;
mod presence;
mod workers;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rmqtt::codec::types::QoS;
use rmqtt::context::ServerContext;
use rmqtt::hook::Type;
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use access::Rules;
use door::{Door, Links};
use gate::{Gate, GateHandler};
use presence::PresenceStore;
use workers::StickyWorkers;

/// What the broker needs to know. [`BrokerConfig::new`] fills in the limits.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    pub listen: SocketAddr,
    /// Certificate of the authority whose clients are let in, PEM.
    pub ca_path: PathBuf,
    pub certificate_path: PathBuf,
    pub key_path: PathBuf,
    /// Common name of the hub's own client certificate. No box may bear it.
    pub hub_name: String,
    /// Largest MQTT packet.
    pub max_packet_bytes: u32,
    /// Most connections at once. Each takes three file descriptors.
    pub max_connections: usize,
    /// Most bytes of messages that wait for the hub's own clients; where they are full, boxes are
    /// slowed down and then refused.
    pub waiting_bytes_max: usize,
}

impl BrokerConfig {
    pub fn new(
        listen: SocketAddr,
        ca_path: PathBuf,
        certificate_path: PathBuf,
        key_path: PathBuf,
        hub_name: String,
    ) -> BrokerConfig {
        BrokerConfig {
            listen,
            ca_path,
            certificate_path,
            key_path,
            hub_name,
            max_packet_bytes: 160 * 1024,
            max_connections: 1024,
            waiting_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// What a verified certificate says of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Common name.
    pub name: String,
    /// The public key, where it is one of P-256.
    pub key: Option<[u8; 65]>,
    /// The certificate has ended, not so long ago that nobody with it is let in.
    pub has_ended: bool,
}

/// Asked with a box's name and key at each connect: may it come in now?
pub type MayConnect = Arc<dyn Fn(&Shown) -> bool + Send + Sync>;

/// Longest message and session that outlive their connection, and longest wait of a message.
const EXPIRY: Duration = Duration::from_secs(60);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long is let go.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE_S_MAX: u16 = 600;
/// Messages on their way to a client, or from it, without acknowledgement; announced as
/// receive maximum.
const IN_FLIGHT_MAX: NonZeroU16 = NonZeroU16::new(64).expect("not zero");
/// Messages that wait for one client; of more, the oldest is dropped, and its sender waits in vain for
/// an answer until it sends again. A thousand boxes that come at once greet with five messages each,
/// a box that catches up has at most eight batches under way.
const QUEUE_MESSAGES_MAX: usize = 8192;
const SUBSCRIPTIONS_MAX: usize = 16;
const CLIENT_ID_BYTES_MAX: usize = 128;
const TOPIC_LEVELS_MAX: usize = 8;
/// File descriptors beside those of connections.
const DESCRIPTORS_BESIDE: u64 = 256;

/// A running broker. Dropped, it stops as [`Broker::stop`] does, but nobody waits for it.
pub struct Broker {
    address: SocketAddr,
    links: Arc<Links>,
    running: Option<Running>,
}

/// Binds and starts the broker on the caller's runtime.
pub async fn start(config: &BrokerConfig, may_connect: MayConnect) -> anyhow::Result<Broker> {
    ensure!(
        !config.hub_name.is_empty(),
        "the hub's common name is empty"
    );
    let tls = tls_config(config)?;
    raise_descriptor_limit(config.max_connections);
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener
        .local_addr()
        .context("cannot read the address listened on")?;
    let inner = inner_listener(config)?;
    let inner_address = inner
        .local_addr()
        .context("cannot read the inner address")?;

    let links = Arc::new(Links::default());
    let rules = Rules::new(config.hub_name.clone());
    let gate = Gate::new(rules, may_connect, links.clone(), config.waiting_bytes_max);
    let context = server_context(config, gate).await;
    let server = MqttServer::new(context.clone())
        .listener_by_id(inner, 1)
        .build();
    let door = Door {
        listener,
        tls: tls.into(),
        inner: inner_address,
        links: links.clone(),
        connections_max: config.max_connections,
    };
    let running = Running {
        context,
        server: tokio::spawn(async move {
            if let Err(error) = server.run().await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the broker's inner server ended"
                );
            }
        }),
        door: tokio::spawn(door.run()),
    };
    tracing::info!(%address, "broker listens");
    Ok(Broker {
        address,
        links,
        running: Some(running),
    })
}

impl Broker {
    /// The address listened on, with the port that the system chose where the configured one is 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Common names of the clients connected, sorted, one per connection.
    pub fn connected(&self) -> Vec<String> {
        let guests = self.links.admitted().into_iter();
        guests.map(|guest| guest.name).collect()
    }

    /// What the clients connected have shown, by name, one per connection.
    pub fn guests(&self) -> Vec<Shown> {
        self.links.admitted()
    }

    /// Ends all connections of a common name, and says how many. It may come again as long as the
    /// registry lets it.
    pub fn disconnect(&self, common_name: &str) -> usize {
        self.links.close(|guest| guest.name == common_name)
    }

    /// Ends all connections that show this name and this key, and says how many.
    pub fn disconnect_guest(&self, unwelcome: &Shown) -> usize {
        self.links.close(|guest| guest == unwelcome)
    }

    /// Ends all connections and frees the port.
    pub async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.door.abort();
            running.server.abort();
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(running.stop());
            }
        }
    }
}

struct Running {
    context: ServerContext,
    server: JoinHandle<()>,
    door: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        // The door owns the connections' tasks, so with it all sockets close, and each session sees
        // its end.
        self.door.abort();
        self.server.abort();
        let _ = self.door.await;
        let _ = self.server.await;
        let sessions_ended = async {
            // Sessions that outlive their connection are sent away too.
            let entries: Vec<_> = self.context.extends.shared().await.iter().collect();
            for mut entry in entries {
                let _ = entry.kick(true, true, true).await;
            }
            while self.context.connections.count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, sessions_ended)
            .await
            .is_err()
        {
            tracing::warn!("some of the broker's sessions did not end in time");
        }
    }
}

fn tls_config(config: &BrokerConfig) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&config.ca_path)? {
        roots.add(certificate).with_context(|| {
            format!(
                "{} holds no authority's certificate",
                config.ca_path.display()
            )
        })?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .with_context(|| {
            format!(
                "{} holds no authority's certificate",
                config.ca_path.display()
            )
        })?;
    let key = PrivateKeyDer::from_pem_file(&config.key_path)
        .with_context(|| format!("cannot read the private key {}", config.key_path.display()))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot choose TLS versions")?
        .with_client_cert_verifier(Arc::new(grace::Lenient::new(clients)))
        .with_single_cert(certificates(&config.certificate_path)?, key)
        .with_context(|| format!("{} does not fit its key", config.certificate_path.display()))?;
    // A resumed session would not look at the certificate again.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(tls.into())
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("cannot read the certificate {}", path.display()))?;
    ensure!(
        !certificates.is_empty(),
        "{} holds no certificate",
        path.display()
    );
    Ok(certificates)
}

/// rmqtt's own listener, for the door only, with the limits that rmqtt keeps.
fn inner_listener(config: &BrokerConfig) -> anyhow::Result<Listener> {
    Builder::new()
        .name("inner")
        .laddr((Ipv4Addr::LOCALHOST, 0).into())
        .nodelay(true)
        .tcp_keepalive(false)
        .max_connections(config.max_connections)
        .max_handshaking_limit(config.max_connections)
        .max_packet_size(config.max_packet_bytes)
        // Without this, rmqtt would not ask the gate about clients that send no user name.
        .allow_anonymous(false)
        .allow_zero_keepalive(false)
        .max_keepalive(KEEP_ALIVE_S_MAX)
        .max_inflight(IN_FLIGHT_MAX)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .send_timeout(SEND_TIMEOUT)
        .max_mqueue_len(QUEUE_MESSAGES_MAX)
        .max_clientid_len(CLIENT_ID_BYTES_MAX)
        .max_qos_allowed(QoS::AtLeastOnce)
        .max_topic_levels(TOPIC_LEVELS_MAX)
        .max_subscriptions(SUBSCRIPTIONS_MAX)
        .session_expiry_interval(EXPIRY)
        .max_session_expiry_interval(EXPIRY)
        .message_expiry_interval(EXPIRY)
        // MQTT 5 forbids to send again on a living connection.
        .message_retry_interval(Duration::ZERO)
        .bind()
        .and_then(|listener| listener.tcp())
        .context("cannot listen on loopback")
}

async fn server_context(config: &BrokerConfig, gate: Gate) -> ServerContext {
    let context = ServerContext::new()
        .busy_check_enable(false)
        .mqtt_max_sessions(config.max_connections.try_into().unwrap_or(isize::MAX))
        .build()
        .await;
    *context.extends.retain_mut().await = Box::new(PresenceStore::default());
    *context.extends.shared_subscription_mut().await = Box::new(StickyWorkers);
    let gate = Arc::new(gate);
    let register = context.extends.hook_mgr().register();
    for place in [
        Type::ClientAuthenticate,
        Type::ClientSubscribeCheckAcl,
        Type::MessagePublish,
        Type::MessagePublishCheckAcl,
        Type::ClientDisconnected,
    ] {
        register
            .add(place, Box::new(GateHandler(gate.clone())))
            .await;
    }
    register.start().await;
    context
}

/// Raises the process's limit of open files where connections could exceed it.
fn raise_descriptor_limit(connections_max: usize) {
    let needed = 3 * connections_max as u64 + DESCRIPTORS_BESIDE;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < needed => {
            if setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).is_err() || hard < needed
            {
                tracing::warn!(
                    needed,
                    hard,
                    "too few open files allowed for all connections"
                );
            }
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot read the limit of open files"),
    }
}
