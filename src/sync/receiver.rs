//! The committing end of a log: decides what is new, what is a repeat, and what is missing.

use super::{Ack, LogName, Offer};
use crate::model::Seq;

#[derive(Debug)]
pub struct Receiver {
    log: LogName,
    /// Everything up to here is committed in our store.
    applied: Seq,
    /// Where the last offer began that lay behind a gap. We ask for a resend once: what is under way
    /// behind that offer begins later, and asking for each would multiply it. An offer that begins no
    /// later was made anew, so our request was lost.
    gap_before: Option<Seq>,
    answer: Option<Ack>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Commit `first..=last` of the offer (which may be empty); in the same transaction note
    /// `missing`, the range that the sender has said it lost.
    Commit {
        missing: Option<(Seq, Seq)>,
        first: Seq,
        last: Seq,
    },
    /// Nothing new.
    Repeat,
    /// Something in between has not arrived.
    Gap,
}

impl Receiver {
    pub fn new(log: LogName, applied: Seq) -> Self {
        Self {
            log,
            applied,
            gap_before: None,
            answer: None,
        }
    }

    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// What to do with an offer, which must be well formed and of this log. After the commit, and
    /// only then, call [`Self::handle_committed`].
    pub fn handle_offer(&mut self, offer: Offer) -> Verdict {
        assert!(offer.is_well_formed() && offer.log == self.log);
        let reachable = self.applied.next().max(offer.oldest);
        if reachable < offer.first {
            // A greeting is always answered: its sender waits for nothing else.
            let is_greeting = offer.last < offer.first;
            if is_greeting || self.gap_before.is_none_or(|last| offer.first <= last) {
                self.answer = Some(self.ack(true));
            }
            self.gap_before = Some(offer.first);
            return Verdict::Gap;
        }
        if offer.last <= self.applied && offer.oldest <= self.applied.next() {
            self.answer = Some(self.ack(false));
            return Verdict::Repeat;
        }
        let missing =
            (self.applied.next() < reachable).then(|| (self.applied.next(), reachable.previous()));
        Verdict::Commit {
            missing,
            first: reachable,
            last: offer.last.max(reachable.previous()),
        }
    }

    /// The store has committed everything up to `applied`.
    pub fn handle_committed(&mut self, applied: Seq) {
        assert!(self.applied < applied);
        self.applied = applied;
        self.gap_before = None;
        self.answer = Some(self.ack(false));
    }

    pub fn poll_transmit(&mut self) -> Option<Ack> {
        self.answer.take()
    }

    fn ack(&self, resend: bool) -> Ack {
        Ack {
            log: self.log,
            applied: self.applied,
            resend,
        }
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

    fn offer(oldest: u64, first: u64, last: u64) -> Offer {
        Offer {
            log: LOG,
            begin: Seq(1),
            oldest: Seq(oldest),
            first: Seq(first),
            last: Seq(last),
        }
    }

    #[test]
    fn new_overlapping_repeated_missing_and_lost() {
        let mut receiver = Receiver::new(LOG, Seq(10));
        let commit = |missing: Option<(u64, u64)>, first, last| Verdict::Commit {
            missing: missing.map(|(first, last)| (Seq(first), Seq(last))),
            first: Seq(first),
            last: Seq(last),
        };
        assert_eq!(
            receiver.handle_offer(offer(1, 11, 13)),
            commit(None, 11, 13)
        );
        assert_eq!(receiver.handle_offer(offer(1, 8, 13)), commit(None, 11, 13));
        assert_eq!(
            receiver.handle_offer(offer(15, 15, 16)),
            commit(Some((11, 14)), 15, 16)
        );
        assert_eq!(
            receiver.handle_offer(offer(15, 15, 14)),
            commit(Some((11, 14)), 15, 14)
        );
        assert_eq!(receiver.handle_offer(offer(1, 3, 10)), Verdict::Repeat);
        assert_eq!(receiver.poll_transmit(), Some(receiver.ack(false)));
        assert_eq!(receiver.handle_offer(offer(1, 12, 13)), Verdict::Gap);
        assert_eq!(receiver.poll_transmit(), Some(receiver.ack(true)));
        assert_eq!(receiver.handle_offer(offer(1, 14, 15)), Verdict::Gap);
        assert_eq!(receiver.poll_transmit(), None, "a resend is asked for once");
        assert_eq!(receiver.handle_offer(offer(1, 12, 13)), Verdict::Gap);
        assert!(
            receiver.poll_transmit().is_some(),
            "the same offer again: the request was lost"
        );
        for (first, asks) in [(15, false), (17, false), (16, true), (16, true)] {
            assert_eq!(receiver.handle_offer(offer(1, first, 20)), Verdict::Gap);
            assert_eq!(receiver.poll_transmit().is_some(), asks, "{first}");
        }
        assert_eq!(receiver.handle_offer(offer(1, 16, 15)), Verdict::Gap);
        assert!(
            receiver.poll_transmit().is_some(),
            "a greeting is always answered"
        );
    }
}
