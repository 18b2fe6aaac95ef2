//! Listening: the office's network, with TLS and limits that slow clients cannot get round, and a
//! socket beside the store for the commands on this machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::edge::guests::{Guest, Guests};
use crate::edge::plain;
use crate::edge::stall::Unstalled;
use crate::edge::tokens::Tokens;

const BACKLOG: i32 = 256;
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// A request's head must arrive within this; an idle connection is closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest head of a request, and how much of a body is read at once.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long connections may finish what they are doing when the program stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of commands on this machine.
const LOCAL_CONNECTIONS_MAX: usize = 8;

/// Marks requests that came through the socket beside the store.
#[derive(Debug, Clone, Copy)]
pub struct LocalPeer;

/// Where a request of the network comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Bound sockets.
#[derive(Debug)]
pub struct Bound {
    network: std::net::TcpListener,
    tls: Option<Arc<ServerConfig>>,
    guests: Arc<Guests>,
    /// None when the file system has no sockets; commands then do without the daemon.
    local: Option<std::os::unix::net::UnixListener>,
}

impl Bound {
    /// Binds at once, so that a fault shows before anything runs. An address that the machine does
    /// not have yet is bound all the same: a box starts before its network.
    pub fn bind(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        guests: Guests,
        store: &Path,
    ) -> anyhow::Result<Bound> {
        let network = bind_network(address).with_context(|| {
            format!("cannot listen on {address}; is another tramd running, or another program on this port?")
        })?;
        let local = bind_local(store)
            .inspect_err(|error| tracing::warn!(%error, "no socket for commands on this machine"))
            .ok();
        Ok(Bound {
            network,
            tls,
            guests: Arc::new(guests),
            local,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.network
            .local_addr()
            .expect("a bound socket has an address")
    }

    /// Serves until `stop` says so, then lets the connections finish.
    pub async fn serve(
        self,
        router: Router,
        tokens: Tokens,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let network =
            TcpListener::from_std(self.network).context("cannot hand the socket to the runtime")?;
        let local = self
            .local
            .and_then(|local| UnixListener::from_std(local).ok());
        let served = Served {
            router: router.clone(),
            tokens: Arc::new(tokens),
            acceptor: self.tls.map(TlsAcceptor::from),
            stop: stop.clone(),
        };
        let guests = self.guests;
        let accept_network = async {
            loop {
                match network.accept().await {
                    Ok((stream, address)) => {
                        let coming = Arc::clone(&guests).enter(address.ip());
                        let (served, peer) = (served.clone(), Peer(address.ip()));
                        tokio::spawn(async move {
                            // Who finds no place is gone; the log has no line for each.
                            if let Some(guest) = coming.await {
                                served.speak_network(stream, peer, guest).await;
                            }
                        });
                    }
                    Err(error) => not_accepted(error).await,
                }
            }
        };
        let room = Arc::new(Semaphore::new(LOCAL_CONNECTIONS_MAX));
        let accept_local = async {
            let Some(local) = &local else {
                return std::future::pending().await;
            };
            loop {
                let permit = enter(&room).await;
                match local.accept().await {
                    Ok((stream, _)) => {
                        let router = router.clone().layer(axum::Extension(LocalPeer));
                        let stop = stop.clone();
                        tokio::spawn(async move {
                            speak(stream, TowerToHyperService::new(router), stop).await;
                            drop(permit);
                        });
                    }
                    Err(error) => not_accepted(error).await,
                }
            }
        };
        let mut stopping = stop.clone();
        tokio::select! {
            () = accept_network => {}
            () = accept_local => {}
            () = stopped(&mut stopping) => {}
        }
        drop((network, local));
        if timeout(DRAIN_TIMEOUT, guests.all_gone()).await.is_err() {
            tracing::warn!("connections that did not finish in time are cut");
        }
        Ok(())
    }
}

/// What the connections of the network share.
#[derive(Clone)]
struct Served {
    router: Router,
    tokens: Arc<Tokens>,
    acceptor: Option<TlsAcceptor>,
    stop: watch::Receiver<bool>,
}

impl Served {
    /// One connection, until it ends or has to give way.
    async fn speak_network(self, stream: TcpStream, peer: Peer, guest: Guest) {
        // A socket that is gone already shows it at the next step.
        let _ = stream.set_nodelay(true);
        let guest = Arc::new(guest);
        tokio::select! {
            () = self.speak_to(stream, peer, &guest) => {}
            () = guest.must_leave() => tracing::debug!("a quiet connection gave way to another"),
        }
    }

    async fn speak_to(self, stream: TcpStream, peer: Peer, guest: &Arc<Guest>) {
        let Some(acceptor) = self.acceptor.clone() else {
            return self.speak_http(stream, peer, guest).await;
        };
        let begun = timeout(TLS_TIMEOUT, async {
            if plain::is_http(&stream).await {
                return Ok(Err(stream));
            }
            acceptor.accept(stream).await.map(Ok)
        });
        match begun.await {
            Ok(Ok(Ok(stream))) => self.speak_http(stream, peer, guest).await,
            Ok(Ok(Err(stream))) => {
                speak(stream, service_fn(plain::answer), self.stop).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn speak_http<S>(self, stream: S, peer: Peer, guest: &Arc<Guest>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
            let turn = guest.asks(self.tokens.know(request.headers()));
            request.extensions_mut().insert(peer);
            let answer = router.call(request);
            async move {
                let answer = answer.await;
                answer.map(|response| response.map(|body| turn.until_end_of(body)))
            }
        });
        speak(stream, service, self.stop).await;
    }
}

/// Where the socket for commands on this machine lies.
pub fn local_path(store: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sock", store.display()))
}

/// A way to the socket that is short enough for a socket's address, and what keeps it open.
pub fn short_path(path: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    let folder = std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((folder, short))
}

fn bind_network(address: SocketAddr) -> nix::Result<std::net::TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

/// Whoever may reach the store may reach the socket. The store's lock is held, so a socket that is
/// there already is a dead one.
fn bind_local(store: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let path = local_path(store);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_folder, short) = short_path(&path)?;
    let listener = std::os::unix::net::UnixListener::bind(short)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn enter(room: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(room)
        .acquire_owned()
        .await
        .expect("it is never closed")
}

async fn not_accepted(error: io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    sleep(ACCEPT_PAUSE).await;
}

/// One connection, from its first request to its last.
async fn speak<S, V, B>(stream: S, service: V, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service<hyper::Request<hyper::body::Incoming>, Response = hyper::Response<B>>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(Unstalled::new(stream)), service)
    );
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = stopped(&mut stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Ends when the program is to end.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Answers one request of this process itself, as if it had come through the local socket.
pub async fn answer(router: Router, request: Request) -> axum::response::Response {
    let router = router.layer(axum::Extension(LocalPeer));
    let Ok(response) = TowerToHyperService::new(router).call(request).await;
    response
}
