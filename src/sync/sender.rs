//! The offering end of a log: decides which entries to send, and when to send them again.
//!
//! Holds numbers only, never an entry: the store keeps the entries, the engine reads them.

use std::collections::VecDeque;

use super::{Ack, Limits, LogName, Offer};
use crate::model::fault::{self, Fault};
use crate::model::{MonoMs, Seq};

#[derive(Debug)]
pub struct Sender {
    limits: Limits,
    log: LogName,
    /// First entry under this epoch.
    begin: Seq,
    /// Oldest entry that the store still holds (`newest + 1` when it holds none).
    oldest: Seq,
    /// Newest entry that the store has committed.
    newest: Seq,
    /// Everything up to here is committed at the receiver.
    acked: Seq,
    /// Next entry to offer. Invariant: `acked < next && next <= newest + 1`.
    next: Seq,
    up: bool,
    /// Whether the receiver has still to be greeted on this connection.
    greet: bool,
    /// What is under way, oldest first.
    flight: VecDeque<Flight>,
    /// How many batches may be under way now.
    window_batches: u32,
    /// When to offer again from `acked + 1`, if nothing is heard.
    resend_at: Option<MonoMs>,
    resend_after_ms: u64,
    /// Since when something has been under way without progress.
    waiting_since: Option<MonoMs>,
}

#[derive(Debug)]
struct Flight {
    last: Seq,
    bytes: u64,
    sent_at: MonoMs,
}

/// What the engine made of a call for entries: the batch ends here and weighs this much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    pub last: Seq,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// The peer has entries that this log does not have: our store was set back (restored from a
    /// backup, say), or another box goes by our name. The log must be given a new epoch.
    #[error("the receiver has {applied} entries, this log only {newest}")]
    AheadOfUs { applied: Seq, newest: Seq },
}

impl Sender {
    /// `begin` is the first entry under this epoch; `oldest` the oldest entry held, `newest + 1` when
    /// none is.
    pub fn new(
        limits: Limits,
        log: LogName,
        begin: Seq,
        oldest: Seq,
        newest: Seq,
        acked: Seq,
    ) -> Self {
        let sender = Self {
            limits,
            log,
            begin,
            oldest,
            newest,
            acked,
            next: acked.next().max(oldest),
            up: false,
            greet: false,
            flight: VecDeque::new(),
            window_batches: 1,
            resend_at: None,
            resend_after_ms: limits.resend_after_min_ms,
            waiting_since: None,
        };
        sender.assert_invariants();
        sender
    }

    pub fn log(&self) -> LogName {
        self.log
    }

    pub fn acked(&self) -> Seq {
        self.acked
    }

    pub fn newest(&self) -> Seq {
        self.newest
    }

    pub fn oldest(&self) -> Seq {
        self.oldest
    }

    /// The store has committed entries up to `newest`.
    pub fn handle_appended(&mut self, newest: Seq) {
        assert!(self.newest < newest);
        self.newest = newest;
    }

    /// The store no longer holds what is older than `oldest`: trimmed after its receipt, or lost.
    pub fn handle_dropped(&mut self, oldest: Seq) {
        assert!(self.oldest <= oldest && oldest <= self.newest.next());
        self.oldest = oldest;
        self.next = self.next.max(oldest);
    }

    pub fn handle_up(&mut self) {
        self.up = true;
        self.greet();
        self.rewind();
        self.window_batches = self.limits.window_batches_max.min(2);
        self.resend_after_ms = self.limits.resend_after_min_ms;
        self.waiting_since = None;
    }

    pub fn handle_down(&mut self) {
        self.up = false;
        self.rewind();
        self.waiting_since = None;
    }

    /// Asks where the receiver stands, unless something that is under way asks already.
    pub fn greet(&mut self) {
        self.greet = !fault::is_planted(Fault::NoGreeting);
    }

    pub fn handle_ack(&mut self, now: MonoMs, ack: Ack) -> Result<(), SenderError> {
        if ack.log != self.log {
            return Ok(()); // About a log that we no longer keep.
        }
        if self.newest < ack.applied {
            return Err(SenderError::AheadOfUs {
                applied: ack.applied,
                newest: self.newest,
            });
        }
        self.greet = false;
        if self.acked < ack.applied {
            self.acked = ack.applied;
            self.next = self.next.max(self.acked.next());
            self.land(now);
            self.resend_after_ms = self.limits.resend_after_min_ms;
            if ack.resend {
                self.rewind();
            }
            let waits = self.up && self.in_flight();
            self.resend_at = waits.then_some(now + self.resend_after_ms);
            self.waiting_since = waits.then_some(now);
        } else if ack.resend {
            // The receiver may have been set back behind `acked`: go where it stands.
            self.acked = self.acked.min(ack.applied);
            self.rewind();
            if self.acked.next() < self.oldest {
                self.greet(); // Says what is lost, even where nothing is left to offer.
            }
            if self.newest < self.next {
                self.waiting_since = None;
            }
        } else if !self.in_flight() {
            self.flight.clear();
            self.resend_at = None;
            self.waiting_since = None;
        }
        self.assert_invariants();
        Ok(())
    }

    pub fn handle_timeout(&mut self, now: MonoMs) {
        if self.resend_at.is_some_and(|at| at <= now) && !fault::is_planted(Fault::NoResendTimer) {
            self.rewind();
            self.window_batches = 1;
            self.resend_after_ms = (self.resend_after_ms * 2).min(self.limits.resend_after_max_ms);
        }
    }

    /// Whether [`Self::poll_transmit`] would send something.
    pub fn wants_to_transmit(&self) -> bool {
        self.up && (self.may_offer_entries() || self.must_greet())
    }

    /// The next entries to put on the wire. Call until `None`.
    ///
    /// `fit(first, last_max)` builds the batch and says where it ends, at `last_max` or before.
    pub fn poll_transmit<E>(
        &mut self,
        now: MonoMs,
        fit: impl FnOnce(Offer) -> Result<Fit, E>,
    ) -> Result<Option<Offer>, E> {
        if !self.wants_to_transmit() {
            return Ok(None);
        }
        let widest = Offer {
            log: self.log,
            begin: self.begin,
            oldest: if fault::is_planted(Fault::LossNotSaid) {
                Seq(1)
            } else {
                self.oldest
            },
            first: self.next,
            last: if self.may_offer_entries() {
                self.newest
            } else {
                self.next.previous()
            },
        };
        let fit = fit(widest)?;
        assert!(
            fit.last <= widest.last && (widest.first <= fit.last) == (widest.first <= widest.last)
        );
        self.next = fit.last.next();
        self.flight.push_back(Flight {
            last: fit.last,
            bytes: fit.bytes,
            sent_at: now,
        });
        self.resend_at.get_or_insert(now + self.resend_after_ms);
        self.waiting_since.get_or_insert(now);
        self.assert_invariants();
        Ok(Some(Offer {
            last: fit.last,
            ..widest
        }))
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<MonoMs> {
        self.resend_at
            .filter(|_| !fault::is_planted(Fault::NoResendTimer))
    }

    /// Since when something has been under way without any acknowledgement.
    pub fn waiting_since(&self) -> Option<MonoMs> {
        self.waiting_since
    }

    fn may_offer_entries(&self) -> bool {
        let bytes: u64 = self.flight.iter().map(|flight| flight.bytes).sum();
        self.next <= self.newest
            && self.flight.len() < self.window_batches as usize
            && (bytes < self.limits.window_bytes_max)
    }

    fn must_greet(&self) -> bool {
        self.greet && self.resend_at.is_none()
    }

    /// Drops from the flight what has landed, and fits the window to how long the answer took.
    fn land(&mut self, now: MonoMs) {
        let mut slowest_ms = 0;
        while let Some(flight) = self.flight.front()
            && flight.last <= self.acked
        {
            slowest_ms = slowest_ms.max(now.saturating_sub(flight.sent_at));
            self.flight.pop_front();
        }
        self.window_batches = if slowest_ms > self.limits.answer_target_ms {
            (self.window_batches / 2).max(1)
        } else {
            (self.window_batches + 1).min(self.limits.window_batches_max)
        };
    }

    fn rewind(&mut self) {
        if !fault::is_planted(Fault::WindowFromMemory) {
            self.next = self.next_to_hold();
        }
        self.flight.clear();
        self.resend_at = None;
    }

    /// First entry that is not acknowledged and that the store still holds.
    fn next_to_hold(&self) -> Seq {
        self.acked.next().max(self.oldest)
    }

    fn in_flight(&self) -> bool {
        self.next_to_hold() < self.next
    }

    fn assert_invariants(&self) {
        assert!(self.begin <= self.oldest);
        assert!(self.oldest <= self.newest.next());
        assert!(self.acked <= self.newest);
        assert!(self.acked < self.next);
        assert!(self.next <= self.newest.next());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Lane};

    const LOG: LogName = LogName {
        lane: Lane::P2,
        epoch: Epoch(7),
    };

    fn sender(oldest: u64, newest: u64, acked: u64) -> Sender {
        let [oldest, newest, acked] = [oldest, newest, acked].map(Seq);
        Sender::new(Limits::FIELD, LOG, Seq(1), oldest, newest, acked)
    }

    fn transmit(sender: &mut Sender, now: MonoMs, most: u64) -> Option<(u64, u64)> {
        sender
            .poll_transmit::<()>(now, |offer| {
                Ok(Fit {
                    last: offer.last.min(Seq(offer.first.0 + most - 1)),
                    bytes: 1,
                })
            })
            .expect("the test's fit cannot fail")
            .map(|offer| (offer.first.0, offer.last.0))
    }

    fn ack(applied: u64, resend: bool) -> Ack {
        Ack {
            log: LOG,
            applied: Seq(applied),
            resend,
        }
    }

    #[test]
    fn a_quiet_log_greets_once_and_again_after_the_timeout() {
        let mut sender = sender(1, 4, 4);
        assert_eq!(transmit(&mut sender, 0, 10), None, "the link is down");
        sender.handle_up();
        assert_eq!(transmit(&mut sender, 0, 10), Some((5, 4)));
        assert_eq!(transmit(&mut sender, 0, 10), None);
        sender.handle_timeout(sender.poll_timeout().expect("a greeting awaits its answer"));
        assert_eq!(transmit(&mut sender, 20_000, 10), Some((5, 4)));
        sender.handle_ack(20_100, ack(4, false)).expect("in step");
        assert_eq!(sender.poll_timeout(), None);
        assert_eq!(transmit(&mut sender, 20_100, 10), None);
    }

    #[test]
    fn a_hub_that_was_set_back_gets_the_kept_tail_again() {
        let mut sender = sender(3, 9, 9);
        sender.handle_up();
        transmit(&mut sender, 0, 10);
        sender.handle_ack(10, ack(5, true)).expect("in step");
        assert_eq!(transmit(&mut sender, 10, 10), Some((6, 9)));
        sender.handle_ack(20, ack(1, true)).expect("in step");
        assert_eq!(
            transmit(&mut sender, 20, 10),
            Some((3, 9)),
            "no older than the kept tail"
        );
    }

    #[test]
    fn a_loss_is_said_though_nothing_is_left_to_offer() {
        let mut sender = sender(10, 9, 9);
        sender.handle_up();
        transmit(&mut sender, 0, 10);
        sender.handle_ack(10, ack(5, true)).expect("in step");
        assert_eq!(transmit(&mut sender, 10, 10), Some((10, 9)));
        sender.handle_ack(20, ack(9, false)).expect("in step");
        assert_eq!(transmit(&mut sender, 20, 10), None);
    }

    #[test]
    fn a_hub_that_is_ahead_is_an_error() {
        let mut sender = sender(1, 4, 2);
        assert_eq!(
            sender.handle_ack(0, ack(6, false)),
            Err(SenderError::AheadOfUs {
                applied: Seq(6),
                newest: Seq(4)
            })
        );
    }

    #[test]
    fn slow_answers_make_the_window_smaller_and_quick_ones_wider() {
        let mut sender = sender(1, 100, 0);
        sender.handle_up();
        let mut under_way = 0;
        while transmit(&mut sender, 0, 1).is_some() {
            under_way += 1;
        }
        assert_eq!(under_way, 2, "a connection begins narrow");
        for applied in 1..=20 {
            sender.handle_ack(10, ack(applied, false)).expect("in step");
            while transmit(&mut sender, 10, 1).is_some() {}
        }
        assert_eq!(sender.flight.len(), 8);
        sender.handle_ack(60_000, ack(21, false)).expect("in step");
        assert_eq!(sender.window_batches, 4);
    }

    #[test]
    fn a_greeting_long_ago_does_not_count_as_a_slow_answer() {
        let mut sender = sender(1, 4, 4);
        sender.handle_up();
        transmit(&mut sender, 0, 10);
        sender.handle_ack(10, ack(4, false)).expect("in step");
        sender.handle_appended(Seq(5));
        assert_eq!(transmit(&mut sender, 3_600_000, 10), Some((5, 5)));
        let narrow = sender.window_batches;
        sender
            .handle_ack(3_600_010, ack(5, false))
            .expect("in step");
        assert!(narrow < sender.window_batches);
    }

    #[test]
    fn a_resting_lane_never_counts_as_a_dead_link() {
        let mut sender = sender(1, 9, 0);
        sender.handle_up();
        assert_eq!(transmit(&mut sender, 0, 2), Some((1, 2)));
        assert_eq!(transmit(&mut sender, 0, 2), Some((3, 4)));
        sender.handle_down();
        sender.handle_ack(5, ack(2, false)).expect("in step");
        assert_eq!(
            (sender.poll_timeout(), sender.waiting_since()),
            (None, None)
        );
        sender.handle_up();
        assert_eq!(transmit(&mut sender, 10, 9), Some((3, 9)));
    }

    #[test]
    fn a_late_answer_changes_nothing() {
        let mut sender = sender(1, 9, 5);
        sender.handle_up();
        assert_eq!(transmit(&mut sender, 0, 4), Some((6, 9)));
        sender.handle_ack(1, ack(3, false)).expect("in step");
        assert_eq!(sender.acked(), Seq(5));
        assert!(
            sender.poll_timeout().is_some(),
            "the batch is still under way"
        );
    }
}
