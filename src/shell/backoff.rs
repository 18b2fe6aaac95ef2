//! When to try the hub again. Pure: the dice are passed in.
//!
//! Two goals pull against each other: one box behind a cut link is to notice its return within
//! two seconds, and a fleet that comes back at once must not storm the hub. A box cannot see the
//! other boxes, but it sees *what an attempt cost the hub*, and that decides:
//!
//! - **Nothing answered** (no route, no name, refused by the kernel, no reply): the hub paid
//!   nothing, so such probes are not rationed; one starts at least every two seconds.
//! - **It answered and failed** (TLS, MQTT, or the link broke soon after it stood): the hub paid a
//!   handshake. These attempts are *strikes*, spaced by decorrelated jitter from 1 s to 60 s. A
//!   hub that is flooded makes attempts time out, so a flood spreads itself after one round.
//! - **A link that stood was lost**: the first retry comes within two seconds; a second loss before
//!   the link has stood for a minute is a strike, because an accepted connection alone proves
//!   nothing (a hub that accepts and falls over again would otherwise be kept down).
//! - **The hub says that it goes away or is busy**: every box hears that at once, so the retry is
//!   spread evenly over a minute.
//! - **Taken over**: a second machine uses our identity, and both would kick each other out
//!   for ever; the fight is slowed to one round in 30 to 60 s until a person ends it.

use std::time::Duration;

/// Shortest decorrelated sleep.
const BASE_MS: u64 = 1_000;
/// Longest sleep of any kind; also the default spread of a fleet.
pub const CAP_MS: u64 = 60_000;
/// First retry after a link that stood was lost.
const FIRST_RETRY_MAX_MS: u64 = 2_000;
/// Between two probes that fail at once. Below the two seconds in which a return is noticed.
const PROBE_MS: (u64, u64) = (1_000, 1_900);
/// After a probe that waited in vain. The kernel repeats an unanswered SYN after 1 and 3 s and the
/// probe ends after 4 s, so this keeps every pause between two SYN below two seconds.
const SILENT_PROBE_MS: (u64, u64) = (100, 900);
/// A link that stood this long ends a series of strikes.
pub const STABLE_MS: u64 = 60_000;
const TAKEN_OVER_MS: (u64, u64) = (30_000, CAP_MS);

/// How an attempt or a link ended, by what it cost the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Failed at once and without the hub: no name, no route, refused.
    Unreachable,
    /// No answer to a connection attempt within its time.
    Silent,
    /// The far end answered, but no usable link came of it.
    Failed,
    /// A usable link was lost after this time.
    Lost { up_ms: u64 },
    /// The hub told all its boxes that it is busy or going away.
    HubWide { up_ms: u64 },
    /// Another client took our place with our identity.
    TakenOver,
}

/// The memory between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    spread_ms: u64,
    strikes: u32,
    previous_ms: u64,
}

impl Backoff {
    /// `spread` bounds the pause after the hub told all its boxes to go away.
    pub fn new(spread: Duration) -> Backoff {
        let spread_ms = u64::try_from(spread.as_millis())
            .unwrap_or(CAP_MS)
            .min(CAP_MS);
        Backoff {
            spread_ms,
            strikes: 0,
            previous_ms: BASE_MS,
        }
    }

    /// The pause before the next attempt; `roll` is a uniform random number.
    pub fn pause(&mut self, ending: Ending, roll: u64) -> Duration {
        if let Ending::Lost { up_ms } | Ending::HubWide { up_ms } = ending
            && up_ms >= STABLE_MS
        {
            self.strikes = 0;
            self.previous_ms = BASE_MS;
        }
        let ms = match ending {
            Ending::Unreachable => between(PROBE_MS, roll),
            Ending::Silent => between(SILENT_PROBE_MS, roll),
            Ending::TakenOver => between(TAKEN_OVER_MS, roll),
            Ending::HubWide { .. } => {
                self.strikes += 1;
                between((0, self.spread_ms), roll)
            }
            Ending::Lost { .. } if self.strikes == 0 => {
                self.strikes = 1;
                between((0, FIRST_RETRY_MAX_MS), roll)
            }
            Ending::Lost { .. } | Ending::Failed => {
                self.strikes = self.strikes.saturating_add(1);
                self.previous_ms = between((BASE_MS, (self.previous_ms * 3).min(CAP_MS)), roll);
                self.previous_ms
            }
        };
        Duration::from_millis(ms)
    }
}

/// A number in `range`, both ends included.
pub fn between((low, high): (u64, u64), roll: u64) -> u64 {
    low + roll % (high - low + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BinaryHeap;

    fn endings() -> impl Strategy<Value = Ending> {
        prop_oneof![
            Just(Ending::Unreachable),
            Just(Ending::Silent),
            Just(Ending::Failed),
            (0..200_000u64).prop_map(|up_ms| Ending::Lost { up_ms }),
            (0..200_000u64).prop_map(|up_ms| Ending::HubWide { up_ms }),
            Just(Ending::TakenOver),
        ]
    }

    proptest! {
        #[test]
        fn pauses_stay_in_their_bounds(steps in prop::collection::vec((endings(), any::<u64>()), 1..60)) {
            let mut backoff = Backoff::new(Duration::from_secs(60));
            for (ending, roll) in steps {
                let stable = matches!(ending, Ending::Lost { up_ms } if up_ms >= STABLE_MS);
                let ms = backoff.pause(ending, roll).as_millis() as u64;
                match ending {
                    Ending::Unreachable => prop_assert!((1_000..2_000).contains(&ms)),
                    Ending::Silent => prop_assert!(ms < 1_000),
                    Ending::TakenOver => prop_assert!((30_000..=60_000).contains(&ms)),
                    Ending::Lost { .. } if stable => prop_assert!(ms <= 2_000),
                    Ending::Failed => prop_assert!((1_000..=60_000).contains(&ms)),
                    Ending::Lost { .. } | Ending::HubWide { .. } => prop_assert!(ms <= 60_000),
                }
            }
        }

        #[test]
        fn a_cut_of_any_length_is_left_within_two_seconds(probes in 0usize..5_000, roll: u64) {
            let mut backoff = Backoff::new(Duration::from_secs(60));
            backoff.pause(Ending::Lost { up_ms: STABLE_MS }, roll);
            for _ in 0..probes {
                prop_assert!(backoff.pause(Ending::Unreachable, roll) < Duration::from_secs(2));
            }
        }
    }

    #[test]
    fn failures_with_the_worst_dice_reach_the_cap_and_no_more() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let worst: Vec<u64> = (0..6)
            .map(|_| {
                let top = (backoff.previous_ms * 3).min(CAP_MS);
                backoff.pause(Ending::Failed, top - BASE_MS).as_millis() as u64
            })
            .collect();
        assert_eq!(worst, [3_000, 9_000, 27_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn links_that_break_soon_do_not_reset_the_strikes() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        assert!(backoff.pause(Ending::Lost { up_ms: 5_000 }, 0) <= Duration::from_secs(2));
        for _ in 0..5 {
            assert!(backoff.pause(Ending::Lost { up_ms: 5_000 }, 1_999) >= Duration::from_secs(1));
        }
        assert!(backoff.strikes > 5);
        backoff.pause(Ending::Lost { up_ms: STABLE_MS }, 0);
        assert_eq!(backoff.strikes, 1);
    }

    /// A fleet that lost its hub at the same moment, in virtual time. The hub does one handshake in
    /// `handshake_ms`; whoever waits longer than 10 s for its turn gives up, and the hub's work for
    /// it was in vain.
    fn fleet(boxes: usize, handshake_ms: u64) -> (u64, usize) {
        const PATIENCE_MS: u64 = 10_000;
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut roll = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice
        };
        let mut memory: Vec<Backoff> = vec![Backoff::new(Duration::from_secs(60)); boxes];
        let mut queue = BinaryHeap::new();
        for (name, backoff) in memory.iter_mut().enumerate() {
            let pause = backoff
                .pause(Ending::Lost { up_ms: 3_600_000 }, roll())
                .as_millis() as u64;
            queue.push((std::cmp::Reverse(pause), name));
        }
        let (mut free_at, mut done_at, mut attempts) = (0, 0, 0);
        while let Some((std::cmp::Reverse(now), name)) = queue.pop() {
            attempts += 1;
            let turn = free_at.max(now);
            if turn - now > PATIENCE_MS {
                // The hello still costs the hub something before it learns that nobody waits.
                free_at += handshake_ms / 4;
                let pause = memory[name].pause(Ending::Failed, roll()).as_millis() as u64;
                queue.push((std::cmp::Reverse(now + PATIENCE_MS + pause), name));
            } else {
                free_at = turn + handshake_ms;
                done_at = free_at;
            }
        }
        (done_at, attempts)
    }

    #[test]
    fn a_province_is_back_in_seconds_without_a_second_attempt() {
        let (done_ms, attempts) = fleet(151, 10);
        assert!(done_ms < 4_000, "{done_ms}");
        assert_eq!(attempts, 151);
    }

    #[test]
    fn a_fleet_that_floods_its_hub_spreads_itself() {
        // 20 s of handshakes arrive in two seconds, twice as many as are waited for.
        let (done_ms, attempts) = fleet(2_000, 10);
        assert!(done_ms < 60_000, "{done_ms}");
        assert!(attempts < 2_000 * 3, "{attempts}");
    }
}
