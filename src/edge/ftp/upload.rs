//! Receives one file, and finds out whether it came whole.
//!
//! FTP itself does not say where a file ends: the connection is closed, by a client that is done and
//! by one that has died. So a file counts as whole only when TLS said that it ended or, without TLS,
//! when the client is still there a moment later, waiting for its answer; and never when it is
//! shorter than the client announced with ALLO. Where TLS was cut without its own end, a file is
//! whole only if it has just as many bytes as were announced: nothing else could be known of it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::edge::ftp::control::{Control, Interrupt, Stream};
use crate::edge::ftp::shelf::Upload;
use crate::edge::ftp::station::blocking;

/// A client that sends nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the end of the control connection may come after the end of the data, when both were
/// cut together.
const GRACE: Duration = Duration::from_millis(150);
/// Bytes that are gathered before they go to the disk.
const CHUNK_BYTES: usize = 64 * 1024;

/// How a transfer ended.
pub enum Received {
    Whole(Upload),
    /// The client asked for the end.
    Aborted,
    /// It broke, and why.
    Broken(&'static str),
    TooLarge,
    Disk(io::Error),
}

/// Reads `data` to its end while it listens to what the client says beside it.
pub async fn receive(
    mut upload: Upload,
    mut data: Box<dyn Stream>,
    control: &mut Control,
    bytes_max: u64,
    announced_bytes: Option<u64>,
    is_protected: bool,
) -> Received {
    let mut buffer = Vec::new();
    let mut has_left = false;
    loop {
        let read = async {
            buffer.reserve(4_096);
            timeout(SILENCE, data.read_buf(&mut buffer)).await
        };
        let read = tokio::select! {
            read = read => read,
            interrupt = control.interrupt(), if !has_left => match interrupt {
                Interrupt::Abort => return Received::Aborted,
                Interrupt::Gone => return Received::Broken("The control connection was lost"),
                Interrupt::Goodbye => {
                    has_left = true;
                    continue;
                }
            },
        };
        let count = match read {
            Ok(Ok(count)) => count,
            // Some loggers close TLS without its own end. What was announced to the byte is whole.
            Ok(Err(error))
                if error.kind() == io::ErrorKind::UnexpectedEof
                    && announced_bytes == Some(upload.bytes + buffer.len() as u64) =>
            {
                0
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Received::Broken("The connection was cut: TLS did not say that it ended");
            }
            Ok(Err(_)) => return Received::Broken("The data connection was lost"),
            Err(_) => return Received::Broken("No data came for too long"),
        };
        if bytes_max < upload.bytes + buffer.len() as u64 {
            return Received::TooLarge;
        }
        let is_end = count == 0;
        if is_end || CHUNK_BYTES <= buffer.len() {
            let chunk = std::mem::take(&mut buffer);
            let written = blocking(move || {
                upload.write(&chunk)?;
                if is_end {
                    upload.sync()?;
                }
                io::Result::Ok(upload)
            });
            upload = match written.await {
                Ok(upload) => upload,
                Err(error) => return Received::Disk(error),
            };
        }
        if is_end {
            break;
        }
    }
    // Some clients wait for our end of the connection before they ask for the answer.
    let _ = timeout(SILENCE, data.shutdown()).await;
    if announced_bytes.is_some_and(|announced| upload.bytes < announced) {
        return Received::Broken("Fewer bytes came than ALLO announced");
    }
    if !is_protected && !has_left {
        match timeout(GRACE, control.interrupt()).await {
            Ok(Interrupt::Abort) => return Received::Aborted,
            Ok(Interrupt::Gone) => return Received::Broken("The control connection was lost"),
            Ok(Interrupt::Goodbye) | Err(_) => {}
        }
    }
    Received::Whole(upload)
}
