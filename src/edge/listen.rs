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
    connections_max: usize,
    /// None when the file system has no sockets; commands then do without the daemon.
    local: Option<std::os::unix::net::UnixListener>,
}

impl Bound {
    /// Binds at once, so that a fault shows before anything runs. An address that the machine does
    /// not have yet is bound all the same: a box starts before its network.
    pub fn bind(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        connections_max: usize,
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
            connections_max,
            local,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.network
            .local_addr()
            .expect("a bound socket has an address")
    }

    /// Serves until `stop` says so, then lets the connections finish.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let network =
            TcpListener::from_std(self.network).context("cannot hand the socket to the runtime")?;
        let acceptor = self.tls.map(TlsAcceptor::from);
        let local = self
            .local
            .and_then(|local| UnixListener::from_std(local).ok());
        let rooms =
            [self.connections_max, LOCAL_CONNECTIONS_MAX].map(|max| Arc::new(Semaphore::new(max)));
        let accept_network = async {
            loop {
                let permit = enter(&rooms[0]).await;
                match network.accept().await {
                    Ok((stream, address)) => {
                        let (acceptor, router, stop) =
                            (acceptor.clone(), router.clone(), stop.clone());
                        let peer = Some(Peer(address.ip()));
                        tokio::spawn(async move {
                            speak_network(stream, acceptor, (router, peer), stop, permit).await;
                        });
                    }
                    Err(error) => not_accepted(error).await,
                }
            }
        };
        let accept_local = async {
            let Some(local) = &local else {
                return std::future::pending().await;
            };
            loop {
                let permit = enter(&rooms[1]).await;
                match local.accept().await {
                    Ok((stream, _)) => {
                        let router = router.clone().layer(axum::Extension(LocalPeer));
                        tokio::spawn(speak(stream, (router, None), stop.clone(), permit));
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
        let connections_max = u32::try_from(self.connections_max).expect("bounded");
        if timeout(DRAIN_TIMEOUT, rooms[0].acquire_many(connections_max))
            .await
            .is_err()
        {
            tracing::warn!("connections that did not finish in time are cut");
        }
        Ok(())
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

async fn speak_network(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    served: (Router, Option<Peer>),
    stop: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) {
    // A socket that is gone already shows it at the next step.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return speak(stream, served, stop, permit).await;
    };
    match timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, served, stop, permit).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// One connection, from its first request to its last.
async fn speak<S>(
    stream: S,
    (router, peer): (Router, Option<Peer>),
    mut stop: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.call(request)
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
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
    drop(permit);
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Answers one request of this process itself, as if it had come through the local socket.
pub async fn answer(router: Router, request: Request) -> axum::response::Response {
    let router = router.layer(axum::Extension(LocalPeer));
    let Ok(response) = TowerToHyperService::new(router).call(request).await;
    response
}
