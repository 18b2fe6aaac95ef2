//! The broker's door: accepts, speaks TLS, verifies the client's certificate, and carries bytes
//! between each guest and rmqtt's inner listener. It never reads MQTT.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Shown, grace};
use crate::hub::certificate;

/// Most TLS handshakes at once. A new one ends the oldest, so that whoever opens connections
/// without ever speaking keeps nobody out for long.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of the handshake until the gate has admitted the client.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(20);
/// A piece of data that moves no further for so long ends the connection.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the broker's last words may take after the client has gone.
const LINGER: Duration = Duration::from_secs(5);
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Most connections of one common name: takeovers in progress, and the hub's workers.
const CONNECTIONS_PER_NAME_MAX: usize = 16;
const PIECE_BYTES: usize = 8 * 1024;

pub struct Door {
    pub listener: TcpListener,
    pub tls: TlsAcceptor,
    /// Where rmqtt listens.
    pub inner: SocketAddr,
    pub links: Arc<Links>,
    pub connections_max: usize,
}

/// Who has shown its certificate.
struct Guest {
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    shown: Shown,
}

impl Door {
    /// Runs until its task is aborted; all connections end with it.
    pub async fn run(self) {
        let mut handshakes: JoinSet<Option<Guest>> = JoinSet::new();
        let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
        let mut connections: JoinSet<()> = JoinSet::new();
        let mut accepting = true;
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        accepting = true;
                        oldest_first.retain(|handshake| !handshake.is_finished());
                        if oldest_first.len() >= HANDSHAKES_MAX
                            && let Some(oldest) = oldest_first.pop_front()
                        {
                            oldest.abort();
                        }
                        oldest_first.push_back(handshakes.spawn(shake_hands(self.tls.clone(), socket, peer)));
                    }
                    Err(error) => {
                        if std::mem::take(&mut accepting) {
                            tracing::error!(%error, "cannot accept connections");
                        }
                        sleep(ACCEPT_RETRY).await;
                    }
                },
                Some(handshake) = handshakes.join_next() => if let Ok(Some(guest)) = handshake {
                    if connections.len() < self.connections_max {
                        connections.spawn(serve(guest, self.inner, self.links.clone()));
                    } else {
                        tracing::warn!(client = guest.shown.name, "refused: all connections are taken");
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn shake_hands(tls: TlsAcceptor, socket: TcpStream, peer: SocketAddr) -> Option<Guest> {
    let stream = match timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%peer, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::info!(%peer, "TLS handshake took too long");
            return None;
        }
    };
    // Refusals must not wait for a packet to fill up.
    stream.get_ref().0.set_nodelay(true).ok()?;
    let own = stream.get_ref().1.peer_certificates()?.first()?;
    let now = tls.config().time_provider.current_time();
    match certificate::common_name(own) {
        Some(name) => {
            let shown = Shown {
                name,
                key: certificate::public_key(own),
                has_ended: now.is_none_or(|now| grace::has_ended(own, now)),
            };
            Some(Guest {
                stream,
                peer,
                shown,
            })
        }
        None => {
            tracing::warn!(%peer, "refused: the client's certificate has no common name");
            None
        }
    }
}

async fn serve(guest: Guest, inner: SocketAddr, links: Arc<Links>) {
    let (client, peer) = (guest.shown.name.clone(), guest.peer);
    if let Err(error) = connect_and_carry(guest, inner, links).await {
        tracing::debug!(client, %peer, %error, "connection ended");
    }
}

async fn connect_and_carry(guest: Guest, inner: SocketAddr, links: Arc<Links>) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    // The gate may ask for the name as soon as the socket is connected, so it is written down first.
    let Some(link) = Links::open(&links, socket.local_addr()?, &guest.shown) else {
        tracing::warn!(
            client = guest.shown.name,
            "refused: too many connections of one name"
        );
        return Ok(());
    };
    let plain = socket.connect(inner).await?;
    plain.set_nodelay(true)?;
    tokio::select! {
        carried = carry(guest.stream, plain) => carried,
        () = link.told_to_leave() => Err(io::Error::other("ended by the hub")),
        () = link.not_admitted_in_time() => Err(io::Error::other("not admitted in time")),
    }
}

async fn carry(secured: TlsStream<TcpStream>, mut plain: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(secured);
    let (mut from_broker, mut to_broker) = plain.split();
    let inward = carry_one_way(&mut from_client, &mut to_broker);
    let outward = carry_one_way(&mut from_broker, &mut to_client);
    tokio::pin!(inward, outward);
    tokio::select! {
        // The broker has hung up: nothing that the client still says matters.
        ended = &mut outward => ended,
        ended = &mut inward => {
            timeout(LINGER, outward).await??;
            ended
        }
    }
}

/// Carries bytes until their source ends, and then ends the sink.
async fn carry_one_way(
    source: &mut (impl AsyncRead + Unpin),
    sink: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        // A source that breaks off ends the sink too: the broker is to see it at once.
        let read = source.read(&mut piece).await;
        let count = *read.as_ref().unwrap_or(&0);
        if count == 0 {
            timeout(STALL_TIMEOUT, sink.shutdown()).await??;
            return read.map(|_| ());
        }
        timeout(STALL_TIMEOUT, async {
            sink.write_all(&piece[..count]).await?;
            sink.flush().await
        })
        .await??;
    }
}

/// The connections that stand, by the address of the door's own socket to rmqtt.
#[derive(Default)]
pub struct Links(Mutex<HashMap<SocketAddr, Arc<Link>>>);

struct Link {
    shown: Shown,
    admitted: AtomicBool,
    admission: Notify,
    leave: Notify,
}

impl Links {
    /// Who stands behind one of rmqtt's connections.
    pub fn guest_of(&self, inner: SocketAddr) -> Option<Shown> {
        self.lock().get(&inner).map(|link| link.shown.clone())
    }

    /// Told by the gate: the client has been let in.
    pub fn admit(&self, inner: SocketAddr) {
        if let Some(link) = self.lock().get(&inner) {
            link.admitted.store(true, Ordering::Relaxed);
            link.admission.notify_one();
        }
    }

    /// All that have been let in, by name.
    pub fn admitted(&self) -> Vec<Shown> {
        let links = self.lock();
        let admitted = links
            .values()
            .filter(|link| link.admitted.load(Ordering::Relaxed));
        let mut guests: Vec<Shown> = admitted.map(|link| link.shown.clone()).collect();
        guests.sort_by(|one, other| one.name.cmp(&other.name));
        guests
    }

    /// Ends the connections of whoever is meant, and says how many.
    pub fn close(&self, is_meant: impl Fn(&Shown) -> bool) -> usize {
        let links = self.lock();
        links
            .values()
            .filter(|link| is_meant(&link.shown))
            .map(|link| link.leave.notify_one())
            .count()
    }

    fn open(links: &Arc<Links>, inner: SocketAddr, shown: &Shown) -> Option<OpenLink> {
        let mut open = links.lock();
        let same_name = open.values().filter(|link| link.shown.name == shown.name);
        if same_name.count() >= CONNECTIONS_PER_NAME_MAX {
            return None;
        }
        let link = Arc::new(Link {
            shown: shown.clone(),
            admitted: AtomicBool::new(false),
            admission: Notify::new(),
            leave: Notify::new(),
        });
        open.insert(inner, link.clone());
        Some(OpenLink {
            links: links.clone(),
            inner,
            link,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes its link off the list when the connection ends.
struct OpenLink {
    links: Arc<Links>,
    inner: SocketAddr,
    link: Arc<Link>,
}

impl OpenLink {
    async fn told_to_leave(&self) {
        self.link.leave.notified().await;
    }

    async fn not_admitted_in_time(&self) {
        if timeout(ADMISSION_TIMEOUT, self.link.admission.notified())
            .await
            .is_ok()
        {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for OpenLink {
    fn drop(&mut self) {
        self.links.lock().remove(&self.inner);
    }
}
