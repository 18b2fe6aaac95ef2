//! From an address to a TLS stream: name, TCP, TLS. Each step has its own time and its own reasons.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::MonoMs;
use crate::shell::clock::Clock;
use crate::shell::down::DownReason;

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// `backoff` counts on this: the kernel repeats an unanswered SYN after 1 and 3 s.
const TCP_TIMEOUT: Duration = Duration::from_secs(4);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that the kernel takes beyond what it may send. Without a bound it takes megabytes at
/// once, and a narrow line is silent for minutes while it sends them; this much takes 30 s on the
/// slowest line in use (20 kbit/s), and holds 26 ms of a fast one (20 Mbit/s).
const UNSENT_BYTES: u32 = 64 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// While an address is known, its name is looked up again at most this often.
const LOOKUP_AGAIN_MS: u64 = 15_000;

/// Where a hub listens: a name or an IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A stream to a hub whose certificate was accepted, and its sign of life.
#[derive(Debug)]
pub struct Line {
    pub stream: TlsStream<Watched>,
    pub life: Life,
}

/// Dials one address again and again. It remembers where the name led last: a box whose DNS
/// server is gone, or hangs, still reaches a hub that stayed where it was.
#[derive(Debug)]
pub struct Dialer {
    pub address: Address,
    tls: Arc<ClientConfig>,
    clock: Clock,
    known: Vec<SocketAddr>,
    lookup_again_at_ms: MonoMs,
    /// At most one question is under way: a resolver may hang for half a minute, and each question
    /// holds a thread.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Dialer {
    pub fn new(address: Address, tls: Arc<ClientConfig>, clock: Clock) -> Dialer {
        Dialer {
            address,
            tls,
            clock,
            known: Vec::new(),
            lookup_again_at_ms: 0,
            lookup: None,
        }
    }

    /// All three steps.
    pub async fn dial(&mut self) -> Result<Line, DownReason> {
        let tcp = self.connect().await?;
        self.secure(tcp).await
    }

    /// Name lookup alone.
    pub async fn resolve(&mut self) -> Result<Vec<SocketAddr>, DownReason> {
        if let Ok(ip) = self.address.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.address.port)]);
        }
        let now_ms = self.clock.mono_ms();
        if !self.known.is_empty() && now_ms < self.lookup_again_at_ms {
            return Ok(self.known.clone());
        }
        self.lookup_again_at_ms = now_ms + LOOKUP_AGAIN_MS;
        let lookup = self.lookup.get_or_insert_with(|| {
            let (host, port) = (self.address.host.clone(), self.address.port);
            tokio::spawn(async move {
                Ok(lookup_host((host, port))
                    .await?
                    .take(ADDRESSES_MAX)
                    .collect())
            })
        });
        match timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(answer) => {
                self.lookup = None;
                if let Ok(Ok(found)) = answer
                    && !found.is_empty()
                {
                    self.known = found;
                }
            }
            Err(_) => tracing::debug!(address = %self.address, "name lookup hangs"),
        }
        match self.known.is_empty() {
            true => Err(DownReason::NameLookup),
            false => Ok(self.known.clone()),
        }
    }

    /// Name lookup and TCP.
    pub async fn connect(&mut self) -> Result<TcpStream, DownReason> {
        let mut reason = DownReason::NameLookup;
        for candidate in self.resolve().await? {
            match timeout(TCP_TIMEOUT, TcpStream::connect(candidate)).await {
                Ok(Ok(stream)) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => reason = of_connect(&error),
                Err(_) => reason = DownReason::TcpTimedOut,
            }
        }
        Err(reason)
    }

    /// TLS on a stream of `connect`.
    pub async fn secure(&self, tcp: TcpStream) -> Result<Line, DownReason> {
        let name = ServerName::try_from(self.address.host.clone())
            .map_err(|_| DownReason::TlsWrongName)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let life = Life::new(self.clock.clone());
        let watched = Watched {
            tcp,
            life: life.clone(),
            stalled: false,
        };
        match timeout(TLS_TIMEOUT, connector.connect(name, watched)).await {
            Ok(Ok(stream)) => Ok(Line { stream, life }),
            Ok(Err(error)) => Err(DownReason::of_stream(&error)),
            Err(_) => Err(DownReason::TlsTimedOut),
        }
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        if let Some(lookup) = &self.lookup {
            lookup.abort();
        }
    }
}

/// Small messages do not wait for each other's acknowledgement, and little waits in the kernel. A
/// socket that is gone already shows it at the next step, so its refusal is no matter.
fn tune(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let _ = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT_BYTES);
}

fn of_connect(error: &io::Error) -> DownReason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DownReason::TcpRefused,
        io::ErrorKind::TimedOut => DownReason::TcpTimedOut,
        _ => DownReason::TcpUnreachable,
    }
}

/// When the far end last proved that it lives.
#[derive(Debug, Clone)]
pub struct Life {
    clock: Clock,
    last_ms: Arc<AtomicU64>,
}

impl Life {
    fn new(clock: Clock) -> Life {
        let last_ms = Arc::new(AtomicU64::new(clock.mono_ms()));
        Life { clock, last_ms }
    }

    /// Counts this moment as a proof.
    pub(in crate::shell) fn seen(&self) {
        self.last_ms.store(self.clock.mono_ms(), Ordering::Relaxed);
    }

    /// Time since the last proof.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(
            self.clock
                .mono_ms()
                .saturating_sub(self.last_ms.load(Ordering::Relaxed)),
        )
    }
}

/// A socket that notes proofs of life: bytes that arrive, and a write that goes on after the
/// socket's buffer was full, for that takes the far kernel's acknowledgement. Without the second
/// one a long message on a slow line would look like a dead line.
#[derive(Debug)]
pub struct Watched {
    tcp: TcpStream,
    life: Life,
    stalled: bool,
}

impl Watched {
    fn note<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let stalled_before = std::mem::replace(&mut self.stalled, written.is_pending());
        if stalled_before && matches!(written, Poll::Ready(Ok(_))) {
            self.life.seen();
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.life.seen();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(context, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_dialled() {
        let address = |host: &str| {
            Address {
                host: host.to_owned(),
                port: 8883,
            }
            .to_string()
        };
        assert_eq!(address("hub.example"), "hub.example:8883");
        assert_eq!(address("2001:db8::1"), "[2001:db8::1]:8883");
    }
}
