//! The line between office and data centre: plain loopback, or 20 Mbit/s with a round trip of 60 ms,
//! and the proof that the emulation itself costs nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

use crate::wan::{Line, Wan};

pub const BYTES_PER_S: u64 = 20_000_000 / 8;
const ONE_WAY_MS: u64 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Link {
    Plain,
    Shaped,
}

impl Link {
    pub fn label(self) -> &'static str {
        match self {
            Link::Plain => "plain",
            Link::Shaped => "20 Mbit/s, 60 ms",
        }
    }

    fn line(self) -> Line {
        match self {
            Link::Plain => Line::FREE,
            Link::Shaped => Line::Open {
                bytes_per_s: BYTES_PER_S,
                delay_ms: ONE_WAY_MS,
            },
        }
    }
}

/// A line that is down until it is opened: whoever calls is refused.
pub struct Road {
    target: SocketAddr,
    port: u16,
    /// Holds the port without listening.
    down: Option<TcpSocket>,
    up: Option<Wan>,
    /// Carries the bytes; the line ends with it.
    runtime: Runtime,
}

impl Road {
    pub fn to(port: u16) -> Result<Road> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        Ok(Road {
            target: ([127, 0, 0, 1], port).into(),
            port: socket.local_addr()?.port(),
            down: Some(socket),
            up: None,
            runtime,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn open(&mut self, link: Link) -> Result<()> {
        let socket = self.down.take().context("a line is opened once")?;
        let _runtime = self.runtime.enter();
        let listener = socket.listen(1024)?;
        self.up = Some(Wan::start_on(listener, self.target, link.line())?);
        Ok(())
    }

    /// Bytes that have passed up and down.
    pub fn passed(&self) -> [u64; 2] {
        self.up.as_ref().map_or([0, 0], |wan| {
            [&wan.passed.up, &wan.passed.down].map(|bytes| bytes.load(Ordering::Relaxed))
        })
    }
}

/// What a plain copy and a plain question see of the emulated line.
pub struct Emulation {
    /// Shares of the nominal rate that a plain copy reaches, up and down.
    pub shares: [f64; 2],
    pub round_trip_ms: f64,
}

impl Emulation {
    pub fn measure() -> Result<Emulation> {
        Ok(Emulation {
            shares: [copy(true)?, copy(false)?],
            round_trip_ms: round_trip_ms()?,
        })
    }
}

/// Two ends of one connection through a shaped line.
fn ends() -> Result<(Road, TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut road = Road::to(listener.local_addr()?.port())?;
    road.open(Link::Shaped)?;
    let near = TcpStream::connect(("127.0.0.1", road.port()))?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(Duration::from_secs(10)))?;
    }
    Ok((road, near, far))
}

fn copy(is_up: bool) -> Result<f64> {
    const BYTES: usize = 5_000_000;
    let (_road, near, far) = ends()?;
    let (mut from, mut to) = if is_up { (near, far) } else { (far, near) };
    let writer = std::thread::spawn(move || from.write_all(&vec![0; BYTES]).map(|()| from));
    let mut buffer = vec![0; 64 * 1024];
    let first = to.read(&mut buffer)?;
    let begun = Instant::now();
    let mut rest = BYTES - first;
    while 0 < rest {
        rest -= to.read(&mut buffer)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let _from = writer.join().ok().context("the writer ends")??;
    Ok((BYTES - first) as f64 / seconds / BYTES_PER_S as f64)
}

/// The median of 15.
fn round_trip_ms() -> Result<f64> {
    let (_road, mut near, mut far) = ends()?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let mut times_ms = Vec::new();
    for _ in 0..15 {
        let begun = Instant::now();
        near.write_all(&[1])?;
        near.read_exact(&mut [0])?;
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    drop(near);
    echo.join().ok().context("the echo ends")?;
    times_ms.sort_by(f64::total_cmp);
    Ok(times_ms[times_ms.len() / 2])
}
