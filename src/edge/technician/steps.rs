//! An answer that grows while the browser shows it, without script.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

/// The answer's parts as they come.
pub struct Parts(mpsc::Receiver<String>);

impl Parts {
    pub fn body(parts: mpsc::Receiver<String>) -> Body {
        Body::from_stream(Parts(parts))
    }
}

impl Stream for Parts {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .poll_recv(cx)
            .map(|part| part.map(|part| Ok(Bytes::from(part))))
    }
}
