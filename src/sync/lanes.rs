//! Which log speaks next, and the progress clock.
//!
//! Lanes share one link. The more urgent lane goes first, but a waiting lane is passed over only
//! so often: nothing is starved for ever. Liveness is entries acknowledged: while something is
//! under way and nothing has been acknowledged for [`Limits::stalled_after_ms`], the link is dead,
//! whatever the transport believes.

use super::sender::{Fit, Sender, SenderError};
use super::{Ack, Limits, Offer};
use crate::model::fault::{self, Fault};
use crate::model::{Lane, MonoMs, Seq};

#[derive(Debug)]
pub struct Lanes {
    limits: Limits,
    senders: [Sender; 5],
    /// Lanes from this one on must wait; 5: none.
    held_from: usize,
    /// How often each lane had something to send and another went first.
    passed_over: [u32; 5],
    up: bool,
    /// When every lane is greeted again.
    greet_at: Option<MonoMs>,
    /// When any lane last made progress on this connection.
    answered_at: MonoMs,
    stalled: bool,
}

impl Lanes {
    /// `senders` in the order of [`Lane::ALL`].
    pub fn new(limits: Limits, senders: [Sender; 5]) -> Self {
        for (sender, lane) in senders.iter().zip(Lane::ALL) {
            assert!(sender.log().lane == lane);
        }
        Self {
            limits,
            senders,
            held_from: Lane::ALL.len(),
            passed_over: [0; 5],
            up: false,
            greet_at: None,
            answered_at: 0,
            stalled: false,
        }
    }

    pub fn sender(&self, lane: Lane) -> &Sender {
        &self.senders[lane.index()]
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    pub fn handle_appended(&mut self, lane: Lane, newest: Seq) {
        self.senders[lane.index()].handle_appended(newest);
    }

    pub fn handle_dropped(&mut self, lane: Lane, oldest: Seq) {
        self.senders[lane.index()].handle_dropped(oldest);
    }

    pub fn handle_up(&mut self) {
        self.up = true;
        self.stalled = false;
        self.senders.iter_mut().for_each(Sender::handle_up);
    }

    pub fn handle_down(&mut self) {
        self.up = false;
        self.greet_at = None;
        self.stalled = false;
        self.senders.iter_mut().for_each(Sender::handle_down);
    }

    /// The receiver asks where each log stands.
    pub fn greet(&mut self) {
        self.senders.iter_mut().for_each(Sender::greet);
    }

    /// Lets a lane rest until the next connection.
    pub fn pause(&mut self, lane: Lane) {
        self.senders[lane.index()].handle_down();
    }

    /// Lanes from `first` on send nothing until they are let go with `None`.
    pub fn hold(&mut self, first: Option<Lane>) {
        self.held_from = first.map_or(Lane::ALL.len(), Lane::index);
    }

    pub fn handle_ack(&mut self, now: MonoMs, ack: Ack) -> Result<(), SenderError> {
        let sender = &mut self.senders[ack.log.lane.index()];
        let acked = sender.acked();
        sender.handle_ack(now, ack)?;
        if acked < sender.acked() || sender.waiting_since().is_none() {
            self.answered_at = now;
        }
        Ok(())
    }

    pub fn handle_timeout(&mut self, now: MonoMs) {
        self.senders
            .iter_mut()
            .for_each(|sender| sender.handle_timeout(now));
        if self.up {
            let next = now + self.limits.greet_every_ms;
            if *self.greet_at.get_or_insert(next) <= now {
                self.greet_at = Some(next);
                self.greet();
            }
        }
        self.stalled |= self.stalled_at().is_some_and(|at| at <= now);
    }

    /// The next batch to put on the wire, of whichever lane's turn it is. Call until `None`.
    pub fn poll_transmit<E>(
        &mut self,
        now: MonoMs,
        fit: impl FnOnce(Offer) -> Result<Fit, E>,
    ) -> Result<Option<Offer>, E> {
        let Some(turn) = self.turn() else {
            return Ok(None);
        };
        for lane in Lane::ALL.map(Lane::index) {
            if lane != turn && lane < self.held_from && self.senders[lane].wants_to_transmit() {
                self.passed_over[lane] += 1;
            }
        }
        self.passed_over[turn] = 0;
        self.senders[turn].poll_transmit(now, fit)
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<MonoMs> {
        let resend = self.senders.iter().filter_map(Sender::poll_timeout).min();
        let stall = if self.stalled {
            None
        } else {
            self.stalled_at()
        };
        [resend, stall, self.greet_at].into_iter().flatten().min()
    }

    /// Whether the link makes no progress and must be rebuilt. Said once per connection.
    pub fn poll_stalled(&mut self) -> bool {
        let say = self.stalled && self.up;
        if say {
            self.handle_down();
        }
        say
    }

    fn turn(&self) -> Option<usize> {
        let open = 0..self.held_from;
        let waiting = || {
            let open = open.clone();
            open.filter(|&lane| self.senders[lane].wants_to_transmit())
        };
        if fault::is_planted(Fault::UrgentLast) {
            return waiting().next_back();
        }
        waiting()
            .find(|&lane| self.limits.passed_over_max <= self.passed_over[lane])
            .or_else(|| waiting().next())
    }

    fn stalled_at(&self) -> Option<MonoMs> {
        let oldest_wait = self
            .senders
            .iter()
            .filter_map(Sender::waiting_since)
            .min()?;
        Some(oldest_wait.max(self.answered_at) + self.limits.stalled_after_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;
    use crate::sync::LogName;

    fn lanes(newest: [u64; 5]) -> Lanes {
        let senders = Lane::ALL.map(|lane| {
            let log = LogName {
                lane,
                epoch: Epoch(1),
            };
            Sender::new(
                Limits::FIELD,
                log,
                Seq(1),
                Seq(1),
                Seq(newest[lane.index()]),
                Seq(0),
            )
        });
        let mut lanes = Lanes::new(Limits::FIELD, senders);
        lanes.handle_up();
        lanes
    }

    fn one(lanes: &mut Lanes, now: MonoMs) -> Option<Offer> {
        let one_entry = |offer: Offer| {
            Ok::<_, ()>(Fit {
                last: offer.first.min(offer.last),
                bytes: 1,
            })
        };
        lanes
            .poll_transmit(now, one_entry)
            .expect("the test's fit cannot fail")
    }

    #[test]
    fn urgent_first_but_nothing_starves() {
        let mut lanes = lanes([0, 1_000, 1_000, 0, 1_000]);
        let mut turns = [0_u32; 5];
        for now in 0..300 {
            let offer = one(&mut lanes, now).expect("there is always something to send");
            turns[offer.log.lane.index()] += 1;
            let ack = Ack {
                log: offer.log,
                applied: offer.last,
                resend: false,
            };
            lanes.handle_ack(now, ack).expect("in step");
        }
        assert!(turns[1] > turns[2] && turns[1] > turns[4], "{turns:?}");
        assert!(turns[2] >= 300 / 10 && turns[4] >= 300 / 10, "{turns:?}");
    }

    #[test]
    fn a_quiet_link_greets_again_within_the_hour_and_keeps_its_window() {
        let mut lanes = lanes([4; 5]);
        let mut greetings = 0;
        let mut now = 0;
        while now < 24 * 3_600_000 {
            lanes.handle_timeout(now);
            while let Some(offer) = one(&mut lanes, now) {
                greetings += u32::from(offer.last < offer.first);
                let ack = Ack {
                    log: offer.log,
                    applied: offer.last,
                    resend: false,
                };
                lanes.handle_ack(now, ack).expect("in step");
            }
            now = lanes.poll_timeout().expect("the next greeting is due");
        }
        assert_eq!(greetings, 23 * 5);
    }

    #[test]
    fn no_progress_is_said_once_and_within_two_minutes() {
        let mut lanes = lanes([1, 0, 0, 0, 0]);
        let mut now = 0;
        while one(&mut lanes, now).is_some() {}
        let mut said = 0;
        lanes.handle_timeout(now);
        while let Some(at) = lanes.poll_timeout() {
            now = at;
            lanes.handle_timeout(now);
            while one(&mut lanes, now).is_some() {}
            said += u32::from(lanes.poll_stalled());
        }
        assert_eq!(said, 1);
        assert!(now < 120_000, "{now}");
    }
}
