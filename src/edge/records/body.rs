//! Reads a request's body within what one body, and all bodies together, may take.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::edge::problem::Problem;
use crate::edge::records::refusal::{bad_request, body_too_large, busy};

/// So long a body waits for room in memory before the client is asked to come again.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// A body that has no more than this needs no room of its own.
const FREE_BYTES: usize = 64 * 1024;
const UNIT_BYTES: usize = 1024;

/// Reads a body within its limit. Beyond a first piece it takes room from what all bodies share.
pub async fn read(
    room: &Arc<Semaphore>,
    mut body: Body,
    limit: usize,
) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Problem> {
    let mut whole: Vec<u8> = Vec::new();
    let mut permits = Vec::new();
    let mut room_bytes = FREE_BYTES;
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let frame = frame.map_err(|_| {
            bad_request(
                [
                    "Dữ liệu bị cắt giữa đường.",
                    "The body was cut off on its way.",
                ],
                ["Gửi lại.", "Send it again."],
            )
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if limit < whole.len() + data.len() {
            return Err(body_too_large(limit));
        }
        while room_bytes < whole.len() + data.len() {
            let units = (FREE_BYTES / UNIT_BYTES) as u32;
            let permit = timeout(ROOM_TIMEOUT, Arc::clone(room).acquire_many_owned(units));
            permits.push(
                permit
                    .await
                    .map_err(|_| busy())?
                    .expect("it is never closed"),
            );
            room_bytes += FREE_BYTES;
        }
        whole.extend_from_slice(&data);
    }
    Ok((Bytes::from(whole), permits))
}

/// Room in memory that all bodies share, for bodies of at most `body_bytes_max`.
pub fn room(body_bytes_max: usize) -> Arc<Semaphore> {
    let bytes = (body_bytes_max * 3 / 2).max(2 * FREE_BYTES);
    Arc::new(Semaphore::new(bytes / UNIT_BYTES))
}
