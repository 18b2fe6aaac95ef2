//! The files of documents: how far each has come, and the way to it.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::edge::received::Received;
use crate::model::chunk::{Digest, pieces};
use crate::model::limits::CHUNK_BYTES_MAX;
use crate::model::record::Attachment;
use crate::store::StoreError;
use crate::store::files::{FileRow, FileState};
use crate::store::inbox::{DocumentRow, Inbox};

const PIECE_BYTES: u64 = 64 * 1024;

/// A file that a document names, and what is known of it.
#[derive(Debug, Clone)]
pub struct Named {
    pub file: Attachment,
    pub row: Option<FileRow>,
}

impl Named {
    pub fn state(&self) -> FileState {
        self.row.map_or(FileState::Waiting, |row| row.state)
    }

    pub fn digest(&self) -> Option<Digest> {
        self.file.sha256.parse().ok()
    }

    fn to_json(&self, document: i64) -> Value {
        let bytes = self.row.map_or(self.file.bytes, |row| row.bytes);
        let received = received_pieces(self.row.as_ref());
        json!({
            "name": self.file.name,
            "mime": self.file.mime,
            "bytes": bytes,
            "sha256": self.file.sha256,
            "original": self.file.original,
            "state": self.state(),
            "chunks": pieces(bytes),
            "received_chunks": received,
            "href": format!("/v1/inbox/{document}/attachments/{}", self.file.sha256),
        })
    }
}

/// How many chunks of a file are here.
pub fn received_pieces(row: Option<&FileRow>) -> u64 {
    match row {
        Some(row) if matches!(row.state, FileState::Kept | FileState::Checking) => {
            pieces(row.bytes)
        }
        Some(row) => row.received / CHUNK_BYTES_MAX as u64,
        None => 0,
    }
}

/// The files that a document names, in its order.
pub fn named(inbox: &Inbox, row: &DocumentRow) -> Result<Vec<Named>, StoreError> {
    let Some(text) = &row.attachments else {
        return Ok(Vec::new());
    };
    let files: Vec<Attachment> = serde_json::from_str(text).map_err(|_| StoreError::Damaged)?;
    let mut found = Vec::new();
    for file in files {
        let row = match file.sha256.parse() {
            Ok(digest) => inbox.file(digest)?,
            Err(_) => None,
        };
        found.push(Named { file, row });
    }
    Ok(found)
}

pub fn list(document: i64, files: &[Named]) -> Value {
    files.iter().map(|file| file.to_json(document)).collect()
}

/// What the sender's software wrote, where it came as a file.
pub fn original(files: &[Named]) -> Option<&Named> {
    files.iter().find(|named| named.file.original)
}

/// A file as the body of an answer, piece by piece.
pub fn stream(received: &Received, digest: Digest, mime: &str) -> io::Result<Response> {
    let file = File::open(received.path(digest))?;
    let bytes = file.metadata()?.len();
    let body = Body::from_stream(Pieces {
        file: Arc::new(file),
        at: 0,
        bytes,
        reading: None,
    });
    let mut response = body.into_response();
    let headers = response.headers_mut();
    // It shall be saved, never shown: whoever sent it may have written it for a browser.
    let plain = HeaderValue::from_static("application/octet-stream");
    let kind = HeaderValue::from_str(mime).unwrap_or(plain);
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Ok(response)
}

struct Pieces {
    file: Arc<File>,
    at: u64,
    bytes: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if self.at == self.bytes {
            return Poll::Ready(None);
        }
        let (at, length) = (self.at, PIECE_BYTES.min(self.bytes - self.at));
        let file = Arc::clone(&self.file);
        let reading = self.reading.get_or_insert_with(|| {
            spawn_blocking(move || {
                let mut piece = vec![0; length as usize];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece)
            })
        });
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let piece = read.map_err(io::Error::other).and_then(|piece| piece);
        self.at = match piece.is_ok() {
            true => at + length,
            false => self.bytes,
        };
        Poll::Ready(Some(piece.map(Bytes::from)))
    }
}
