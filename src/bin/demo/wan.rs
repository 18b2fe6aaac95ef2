//! A WAN to break: a TCP proxy between boxes and hub that can be cut, made half-open, and shaped.
//!
//! Rate and delay hold per direction for all connections through the proxy together, as for an
//! office's line. Nothing is lost inside TCP; what a cut loses is what a real cut loses.

#![expect(
    clippy::disallowed_methods,
    reason = "this stands for the world outside the product, which goes by real time"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

/// What the line does now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line {
    /// Bytes pass; 0 means without a limit.
    Open { bytes_per_s: u64, delay_ms: u64 },
    /// Connections are closed, new ones refused at once.
    Cut,
    /// Connections stay open and nothing passes any more, without a word to either end.
    HalfOpen,
}

impl Line {
    pub const FREE: Line = Line::Open {
        bytes_per_s: 0,
        delay_ms: 0,
    };
}

/// What the line's own buffer holds, as time.
const READ_AHEAD: Duration = Duration::from_millis(20);

/// What the line has done.
#[derive(Debug, Default)]
pub struct Passed {
    /// Bytes towards the hub.
    pub up: AtomicU64,
    /// Bytes towards the box.
    pub down: AtomicU64,
    /// How often the line was half-open: connections from before stay dead.
    blackouts: AtomicU64,
}

pub struct Wan {
    pub address: SocketAddr,
    pub passed: Arc<Passed>,
    line: watch::Sender<Line>,
}

impl Wan {
    /// Listens on a free loopback port and forwards to `target`.
    pub async fn start(target: SocketAddr, line: Line) -> std::io::Result<Wan> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Wan::start_on(listener, target, line)
    }

    /// The same on a port of the caller's choice, from within a runtime.
    pub fn start_on(listener: TcpListener, target: SocketAddr, line: Line) -> std::io::Result<Wan> {
        let address = listener.local_addr()?;
        let (sender, receiver) = watch::channel(line);
        let passed = Arc::new(Passed::default());
        let ways = [Arc::new(Way::default()), Arc::new(Way::default())];
        tokio::spawn(accept(
            listener,
            target,
            receiver,
            ways,
            Arc::clone(&passed),
        ));
        Ok(Wan {
            address,
            passed,
            line: sender,
        })
    }

    pub fn set(&self, line: Line) {
        if line == Line::HalfOpen {
            self.passed.blackouts.fetch_add(1, Ordering::Relaxed);
        }
        self.line.send_replace(line);
    }

    pub fn line(&self) -> Line {
        *self.line.borrow()
    }
}

/// One direction of the line: when it will have sent what it was given.
#[derive(Default)]
struct Way {
    free_at: Mutex<Option<Instant>>,
}

impl Way {
    /// When `bytes` that are handed over now will have left the line.
    async fn schedule(&self, bytes: usize, bytes_per_s: u64) -> Instant {
        let mut free_at = self.free_at.lock().await;
        let start = free_at.map_or_else(Instant::now, |at| at.max(Instant::now()));
        let time = if bytes_per_s == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64)
        };
        *free_at = Some(start + time);
        start + time
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    line: watch::Receiver<Line>,
    ways: [Arc<Way>; 2],
    passed: Arc<Passed>,
) {
    while let Ok((near, _)) = listener.accept().await {
        match *line.borrow() {
            Line::Cut => drop(near),
            Line::Open { .. } | Line::HalfOpen => {
                let ways = ways.clone();
                let passed = Arc::clone(&passed);
                tokio::spawn(connect(near, target, line.clone(), ways, passed));
            }
        }
    }
}

async fn connect(
    near: TcpStream,
    target: SocketAddr,
    line: watch::Receiver<Line>,
    ways: [Arc<Way>; 2],
    passed: Arc<Passed>,
) {
    if *line.borrow() == Line::HalfOpen {
        // The near end's own router accepts, and nothing answers.
        return swallow(near).await;
    }
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    // Small messages leave at once; the line itself is what delays.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let [up_way, down_way] = ways;
    let blackouts = passed.blackouts.load(Ordering::Relaxed);
    let is_dead = || passed.blackouts.load(Ordering::Relaxed) != blackouts;
    let both = async {
        tokio::select! {
            () = forward(near_read, far_write, &line, &up_way, &passed.up, is_dead) => {}
            () = forward(far_read, near_write, &line, &down_way, &passed.down, is_dead) => {}
        }
    };
    let mut cut = line.clone();
    tokio::select! {
        () = both => {}
        _ = cut.wait_for(|line| *line == Line::Cut) => {}
    }
}

/// Reads and forgets, until the other end gives up.
async fn swallow(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream
        .read(&mut buffer)
        .await
        .is_ok_and(|length| 0 < length)
    {}
}

/// Carries one direction of one connection: reads, schedules, delivers when its time has come.
///
/// Returns when one end closes. A connection that has met a half-open line stays dead for ever, as
/// one does whose router has forgotten it: what is read vanishes.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: &watch::Receiver<Line>,
    way: &Way,
    passed: &AtomicU64,
    is_dead: impl Fn() -> bool,
) {
    // What the line may hold under way; a full queue stops the reading, as a full router does.
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let read = async {
        let sender = sender;
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let state = *line.borrow();
            let Line::Open {
                bytes_per_s,
                delay_ms,
            } = state
            else {
                continue;
            };
            if is_dead() {
                continue;
            }
            let leaves = way.schedule(length, bytes_per_s).await;
            // Reading goes on when the bytes have nearly left: the line is the bottleneck, and
            // what the timer rounds away does not make it slower.
            tokio::time::sleep_until(leaves.checked_sub(READ_AHEAD).unwrap_or(leaves)).await;
            let due = leaves + Duration::from_millis(delay_ms);
            if sender.send((due, buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async {
        while let Some((due, bytes)) = queue.recv().await {
            tokio::time::sleep_until(due).await;
            if is_dead() {
                continue;
            }
            passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
