//! The words of a sender's logs, as both ends' stores keep them: in blocks, one per commit and lane.

use crate::model::{Capture, Chain, Seq, UnixMs};

/// What a block takes beside its body, bytes: row, index, share of the page.
pub(super) const BLOCK_OVERHEAD_BYTES: u64 = 128;

/// Where a log stands at some entry: its chain, and the bytes of all blocks that end there or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub seq: Seq,
    pub chain: Chain,
    pub sum_bytes: u64,
}

/// Where a lane's log stands. Numbers go on through the epochs.
#[derive(Debug, Clone, Copy)]
pub struct LaneState {
    /// The first entry under this epoch.
    pub begin: Seq,
    /// The newest entry that was deleted; what is held begins after it.
    pub tail: Mark,
    pub acked: Mark,
    pub newest: Mark,
    pub newest_capture: Capture,
}

/// Entries of a lane that were kept together, as they lie in the store. What `body` is, its writer
/// knows.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Number of the last entry.
    pub last: Seq,
    /// How many entries there are.
    pub entries: u64,
    /// When the first one was accepted.
    pub stored: UnixMs,
    /// Chain after the last entry.
    pub chain: Chain,
    pub raw_bytes: u64,
    pub body: &'a [u8],
}

impl Block<'_> {
    pub fn first(&self) -> Seq {
        Seq(self.last.0 + 1 - self.entries)
    }
}
