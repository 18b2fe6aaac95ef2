//! What the hub's process did since it started, and whether it is well.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::model::MonoMs;

/// A loop that did not turn for so long hangs.
pub const SILENT_MS_MAX: u64 = 45_000;

/// What the process did since it started, for health and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    pub messages: AtomicU64,
    pub commits: AtomicU64,
    pub records: AtomicU64,
    pub refused: AtomicU64,
    pub receipts: AtomicU64,
    pub receipts_dropped: AtomicU64,
    /// Batches to boxes.
    pub offers: AtomicU64,
    pub refused_by_boxes: AtomicU64,
    /// Messages that the store could not take alone.
    pub set_aside: AtomicU64,
    pub store_failures: AtomicU64,
    pub link_up: AtomicBool,
    pub store_works: AtomicBool,
    /// When the loop last turned.
    pub beat_ms: AtomicU64,
}

impl Counters {
    /// For the health check: what is wrong, if anything is.
    pub fn ailment(&self, now_ms: MonoMs) -> Option<&'static str> {
        let silent_ms = now_ms.saturating_sub(self.beat_ms.load(Relaxed));
        if SILENT_MS_MAX < silent_ms {
            Some("the engine makes no progress")
        } else if !self.store_works.load(Relaxed) {
            Some("the store fails")
        } else if !self.link_up.load(Relaxed) {
            Some("no link to the broker")
        } else {
            None
        }
    }
}
