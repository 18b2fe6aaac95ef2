//! Data connections: passive ports out of a fixed range, or to the client's own port; protected or
//! not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::edge::ftp::control::{Stream, TLS_TIMEOUT};

/// How long a client may take to connect for its data.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client waits when all ports are in use, before it is told so.
const PORT_TIMEOUT: Duration = Duration::from_secs(10);
/// A listing that the client does not read is given up after this.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Ports below this belong to services; nothing of ours connects to them.
const PORT_MIN: u16 = 1024;

/// The ports that clients connect to for their data.
#[derive(Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    free: Arc<Semaphore>,
    next: AtomicU16,
}

/// Where the next data connection comes from.
#[derive(Debug)]
pub enum Way {
    Passive(TcpListener, OwnedSemaphorePermit),
    Active(SocketAddr),
}

impl Ports {
    pub fn new(range: RangeInclusive<u16>) -> Ports {
        let free = Arc::new(Semaphore::new(range.len()));
        Ports {
            range,
            free,
            next: AtomicU16::new(0),
        }
    }

    /// Listens on a port that is free, on the address to which the client has come.
    pub async fn listen(&self, on: IpAddr) -> io::Result<Way> {
        let free = Arc::clone(&self.free).acquire_owned();
        let permit = timeout(PORT_TIMEOUT, free).await?;
        let permit = permit.expect("the semaphore is never closed");
        let count = self.range.len();
        let mut failure = io::ErrorKind::AddrInUse.into();
        for _ in 0..count {
            let place = usize::from(self.next.fetch_add(1, Ordering::Relaxed)) % count;
            let Some(port) = self.range.clone().nth(place) else {
                break;
            };
            match bind(SocketAddr::new(on, port)) {
                Ok(listener) => return Ok(Way::Passive(listener, permit)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4)
}

impl Way {
    /// To the client that speaks to us and to nobody else, or it could make us knock at others'
    /// doors (RFC 2577).
    pub fn active(address: [u8; 4], port: u16, peer: IpAddr) -> Option<Way> {
        let is_own = IpAddr::from(address) == peer.to_canonical();
        let way = Way::Active(SocketAddr::new(IpAddr::from(address), port));
        (is_own && PORT_MIN <= port).then_some(way)
    }

    /// The port of a passive way.
    pub fn port(&self) -> io::Result<u16> {
        match self {
            Way::Passive(listener, _) => Ok(listener.local_addr()?.port()),
            Way::Active(address) => Ok(address.port()),
        }
    }

    /// The connection, from this client only, with TLS where an acceptor is given. The port is
    /// free again as soon as the client has connected.
    pub async fn connect(
        self,
        peer: IpAddr,
        acceptor: Option<&TlsAcceptor>,
    ) -> io::Result<Box<dyn Stream>> {
        let stream = match self {
            Way::Passive(listener, _permit) => {
                let accept = async {
                    loop {
                        let (stream, from) = listener.accept().await?;
                        if from.ip().to_canonical() == peer.to_canonical() {
                            return io::Result::Ok(stream);
                        }
                    }
                };
                timeout(CONNECT_TIMEOUT, accept).await??
            }
            Way::Active(address) => timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??,
        };
        match acceptor {
            None => Ok(Box::new(stream)),
            Some(acceptor) => {
                let stream = timeout(TLS_TIMEOUT, acceptor.accept(stream)).await??;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Sends a text and closes.
pub async fn send(mut stream: Box<dyn Stream>, text: &str) -> io::Result<()> {
    let send = async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        stream.shutdown().await
    };
    timeout(SEND_TIMEOUT, send).await?
}
