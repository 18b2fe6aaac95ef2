//! Talking to the daemon on this machine, through the socket beside its store.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::edge::listen::{local_path, short_path};
use crate::edge::status::Status;

/// A daemon that is busy with a large commit may take its time.
const TIMEOUT: Duration = Duration::from_secs(30);
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the daemon answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// The daemon's status; none when no daemon answers.
pub fn status(store: &Path) -> Option<Status> {
    let mut stream = connect(store, STATUS_TIMEOUT).ok()?;
    let reply = ask(&mut stream, "GET", "/status.json", &[], b"").ok()?;
    (reply.status == 200).then(|| serde_json::from_slice(&reply.body).ok())?
}

/// Posts a body; the outer error means that no daemon is there.
pub fn post(
    store: &Path,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<io::Result<Reply>> {
    let mut stream = connect(store, TIMEOUT)?;
    Ok(ask(&mut stream, "POST", path, headers, body))
}

fn connect(store: &Path, patience: Duration) -> io::Result<UnixStream> {
    let (_folder, short) = short_path(&local_path(store))?;
    let stream = UnixStream::connect(short)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// One request on a connection of its own (RFC 9112).
fn ask(
    stream: &mut UnixStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    // A daemon that refuses a large body answers before it has read it.
    let sent = stream.write_all(body);
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    match parse(&answer) {
        Some(reply) => Ok(reply),
        None => sent.and(Err(io::ErrorKind::InvalidData.into())),
    }
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply {
        status,
        body: answer[end + 4..].to_vec(),
    })
}
