//! The control connection: lines in, replies out, and a change to TLS in the middle.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::edge::ftp::command::{Command, parse};

/// Longest line of a client.
const LINE_BYTES_MAX: usize = 2_048;
/// A client that does not read is given up after this.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
pub const TLS_TIMEOUT: Duration = Duration::from_secs(10);

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Control {
    stream: Box<dyn Stream>,
    /// What was read and not yet understood.
    buffer: Vec<u8>,
    is_at_end: bool,
}

/// What ends a transfer from the control connection's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The client asked for it.
    Abort,
    /// The client is gone, and did not say goodbye.
    Gone,
    /// The client said goodbye without waiting for the answer.
    Goodbye,
}

impl Control {
    pub fn new(stream: impl Stream + 'static) -> Control {
        Control {
            stream: Box::new(stream),
            buffer: Vec::new(),
            is_at_end: false,
        }
    }

    /// The next line, none at the end. Safe to drop while it waits.
    pub async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.is_at_end {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// Waits for what ends a transfer; other lines wait for their turn. Safe to drop while it
    /// waits.
    pub async fn interrupt(&mut self) -> Interrupt {
        loop {
            if self.cut_abort() {
                return Interrupt::Abort;
            }
            if self.is_at_end {
                return match self.lines().any(|line| parse(line) == Some(Command::Quit)) {
                    true => Interrupt::Goodbye,
                    false => Interrupt::Gone,
                };
            }
            if self.read().await.is_err() {
                self.is_at_end = true;
            }
        }
    }

    pub async fn reply(&mut self, code: u16, text: &str) -> io::Result<()> {
        self.write(&format!("{code} {text}\r\n")).await
    }

    /// A reply of several lines.
    pub async fn reply_lines(&mut self, code: u16, lines: &[&str], end: &str) -> io::Result<()> {
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            text.push_str(&match number {
                0 => format!("{code}-{line}\r\n"),
                _ => format!(" {line}\r\n"),
            });
        }
        self.write(&format!("{text}{code} {end}\r\n")).await
    }

    /// Speaks TLS from here on. What came in the clear behind the request to do so could have been
    /// put there by anybody, so it ends the connection.
    pub async fn secure(self, acceptor: &TlsAcceptor) -> io::Result<Control> {
        if !self.buffer.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let stream = timeout(TLS_TIMEOUT, acceptor.accept(self.stream)).await??;
        Ok(Control::new(stream))
    }

    /// Says goodbye to a stream that wants it.
    pub async fn close(mut self) {
        // Nobody is left to be told of a failure.
        let _ = timeout(TLS_TIMEOUT, self.stream.shutdown()).await;
    }

    async fn write(&mut self, text: &str) -> io::Result<()> {
        let write = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.flush().await
        };
        timeout(WRITE_TIMEOUT, write).await?
    }

    async fn read(&mut self) -> io::Result<()> {
        if LINE_BYTES_MAX < self.buffer.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut chunk = [0; 512];
        match self.stream.read(&mut chunk).await? {
            0 => self.is_at_end = true,
            count => self.buffer.extend_from_slice(&chunk[..count]),
        }
        Ok(())
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.buffer.split_inclusive(|byte| *byte == b'\n');
        lines.filter(|line| line.ends_with(b"\n")).map(trim)
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(trim(&line).to_vec())
    }

    /// Takes the first ABOR out of what waits.
    fn cut_abort(&mut self) -> bool {
        let mut start = 0;
        for line in self.buffer.split_inclusive(|byte| *byte == b'\n') {
            let end = start + line.len();
            if line.ends_with(b"\n") && parse(trim(line)) == Some(Command::Abor) {
                self.buffer.drain(start..end);
                return true;
            }
            start = end;
        }
        false
    }
}

fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    async fn interrupt(said: &[u8], ends: bool) -> (Interrupt, Option<Vec<u8>>) {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(said).await.unwrap();
        let keep = (!ends).then_some(theirs);
        let mut control = Control::new(ours);
        let found = control.interrupt().await;
        drop(keep);
        (found, control.line().await.unwrap())
    }

    #[test]
    fn a_transfer_is_interrupted_by_abort_and_by_the_clients_end() {
        runtime().block_on(async {
            let noop = Some(b"NOOP".to_vec());
            assert_eq!(
                interrupt(b"NOOP\r\nABOR\r\n", false).await,
                (Interrupt::Abort, noop)
            );
            assert_eq!(
                interrupt(b"\xff\xf4\xf2ABOR\r\n", false).await.0,
                Interrupt::Abort
            );
            assert_eq!(interrupt(b"", true).await, (Interrupt::Gone, None));
            assert_eq!(interrupt(b"QUI", true).await.0, Interrupt::Gone);
            let quit = Some(b"QUIT".to_vec());
            assert_eq!(
                interrupt(b"QUIT\r\n", true).await,
                (Interrupt::Goodbye, quit)
            );
        });
    }

    #[test]
    fn an_endless_line_ends_the_connection() {
        runtime().block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(8192);
            theirs.write_all(&[b'x'; 6_000]).await.unwrap();
            assert!(Control::new(ours).line().await.is_err());
        });
    }
}
