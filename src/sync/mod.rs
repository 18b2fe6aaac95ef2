//! How one end's log reaches the other end: the protocol, as a specification.
//!
//! A *log* is a numbered, append-only list of entries, 1, 2, 3, … without holes, named by its lane
//! and by the [`Epoch`] of the store that keeps it. Numbers go on through the epochs. The sender offers entries; the receiver commits
//! them in order and answers with the last number that it has committed.
//!
//! Invariants:
//!
//! 1. An [`Ack`] names only what the receiver's store has committed.
//! 2. The sender forgets only what was acknowledged, or what it lost by force; what it lost it
//!    says, by `oldest`.
//! 3. The receiver's log is the sender's log, minus the ranges that were said to be lost.
//! 4. A number is never used twice within one epoch.
//!
//! Everything here is pure: no socket, clock, dice or store. Methods come in kinds: `handle_*` for
//! what happened (with the time where it matters), `poll_*` for what is to be done now, getters.
//! After any `handle_*` the caller drains every `poll_*`. Time must not run backwards.

pub mod bucket;
pub mod lanes;
pub mod receiver;
pub mod sender;

use crate::model::{Epoch, Lane, Seq};

/// Name of a log, between one box and the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogName {
    pub lane: Lane,
    pub epoch: Epoch,
}

/// "These are my entries `first..=last`; I hold nothing older than `oldest`. This epoch began with
/// `begin`; what has a smaller number, you have under earlier epochs."
///
/// An empty offer (`last` stands one before `first`) is a greeting: it asks where the receiver
/// stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    pub log: LogName,
    pub begin: Seq,
    pub oldest: Seq,
    pub first: Seq,
    pub last: Seq,
}

impl Offer {
    /// Whether the numbers can belong together; what comes from the wire is checked with this.
    pub fn is_well_formed(&self) -> bool {
        Seq::ZERO < self.begin
            && self.begin <= self.oldest
            && self.oldest <= self.first
            && self.last <= Seq::MAX
            && self.first <= self.last.next()
    }
}

/// "I have committed everything up to `applied`." `resend` asks to start again from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    pub log: LogName,
    pub applied: Seq,
    pub resend: bool,
}

impl Ack {
    /// "Greet me", about no log: the receiver has forgotten which logs there are.
    pub const GREET: Ack = Ack {
        log: LogName {
            lane: Lane::P0,
            epoch: Epoch(0),
        },
        applied: Seq::ZERO,
        resend: true,
    };
}

/// How much may be under way, and how long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most batches of one lane under way.
    pub window_batches_max: u32,
    /// Most bytes of one lane under way, before compression; P4's window is this one.
    pub window_bytes_max: u64,
    /// An answer that takes longer than this makes the window smaller: on a slow link, what is
    /// under way is what an urgent record waits behind.
    pub answer_target_ms: u64,
    pub resend_after_min_ms: u64,
    pub resend_after_max_ms: u64,
    /// How often a log is greeted again though nothing new is in it: the longest time for which a
    /// receiver that was set back stays unnoticed when its request to be greeted was lost.
    pub greet_every_ms: u64,
    /// Something is under way and nothing was acknowledged for so long: the link is dead.
    pub stalled_after_ms: u64,
    /// A waiting lane is passed over at most so often in favour of more urgent ones.
    pub passed_over_max: u32,
}

impl Limits {
    pub const FIELD: Limits = Limits {
        window_batches_max: 8,
        window_bytes_max: 4 * 1024 * 1024,
        answer_target_ms: 3_000,
        resend_after_min_ms: 15_000,
        resend_after_max_ms: 60_000,
        greet_every_ms: 3_600_000,
        stalled_after_ms: 75_000,
        passed_over_max: 7,
    };
}

// A dead link is found within two minutes: one resend, then the stall.
const _: () = assert!(Limits::FIELD.stalled_after_ms > 2 * Limits::FIELD.resend_after_min_ms);
const _: () = assert!(Limits::FIELD.stalled_after_ms < 120_000);
