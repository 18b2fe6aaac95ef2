//! Lock-out against guessing: per account and per address, with growing delays, never for ever.
//!
//! Pure, and kept in memory: a stranger who guesses must not write to the card. A technician who has
//! logged in from an address is known there: what others do to his account from elsewhere does not
//! lock him out. Whoever is locked out all the same has the console's code.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::edge::guests::network;
use crate::model::MonoMs;

/// Tries before the first delay.
const FREE_TRIES: u32 = 5;
const FIRST_DELAY_MS: u64 = 30_000;
const DELAY_MS_MAX: u64 = 15 * 60_000;
/// After so long without a failure it is forgotten.
const FORGET_MS: u64 = 60 * 60_000;
const SLOTS_MAX: usize = 2_048;
const KNOWN_MAX: usize = 256;
/// Tries of strangers, all together: so many at once, and one more every `REFILL_MS`. A password
/// costs time on the processor, and addresses of a LAN cost nothing.
const BURST: u64 = 20;
const REFILL_MS: u64 = 2_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Account(String),
    /// An account at an address where it is known.
    Known(String, IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    failures: u32,
    last_ms: MonoMs,
    until_ms: MonoMs,
}

#[derive(Debug, Default)]
pub struct Guard {
    slots: HashMap<Key, Slot>,
    known: HashSet<(String, IpAddr)>,
    /// When the strangers' tries are all there again.
    full_at_ms: MonoMs,
}

impl Guard {
    /// How long this try must wait; none: it may be made, and counts as made.
    pub fn wait_ms(&mut self, account: &str, address: IpAddr, now_ms: MonoMs) -> Option<u64> {
        let keys = self.keys(account, address);
        let until_ms = keys
            .iter()
            .filter_map(|key| self.slots.get(key))
            .map(|slot| slot.until_ms)
            .max()
            .unwrap_or(0);
        if now_ms < until_ms {
            return Some(until_ms - now_ms);
        }
        if self.is_known(account, address) {
            return None;
        }
        let full_at_ms = self.full_at_ms.max(now_ms);
        let late_ms = (full_at_ms - now_ms).saturating_sub((BURST - 1) * REFILL_MS);
        if 0 < late_ms {
            return Some(late_ms);
        }
        self.full_at_ms = full_at_ms + REFILL_MS;
        None
    }

    /// A try has failed; true when it begins a delay that is worth a line in the audit.
    pub fn failed(&mut self, account: &str, address: IpAddr, now_ms: MonoMs) -> bool {
        self.make_room(now_ms);
        let mut begins = false;
        for key in self.keys(account, address) {
            let slot = self.slots.entry(key).or_insert(Slot {
                failures: 0,
                last_ms: now_ms,
                until_ms: 0,
            });
            slot.failures += 1;
            slot.last_ms = now_ms;
            if let Some(beyond) = slot.failures.checked_sub(FREE_TRIES) {
                let delay_ms = FIRST_DELAY_MS << beyond.min(10);
                slot.until_ms = now_ms + delay_ms.min(DELAY_MS_MAX);
                begins |= beyond < 6;
            }
        }
        begins
    }

    /// Somebody has proved to be the account's owner at this address.
    pub fn succeeded(&mut self, account: &str, address: IpAddr) {
        let network = network(address);
        self.slots.remove(&Key::Address(network));
        self.slots.remove(&Key::Known(account.to_owned(), network));
        if self.known.len() < KNOWN_MAX {
            self.known.insert((account.to_owned(), network));
        }
    }

    /// The console's code has let the owner in: nothing stands against the account or the address.
    pub fn pardon(&mut self, account: &str, address: IpAddr) {
        self.slots.remove(&Key::Account(account.to_owned()));
        self.succeeded(account, address);
    }

    fn is_known(&self, account: &str, address: IpAddr) -> bool {
        self.known.contains(&(account.to_owned(), network(address)))
    }

    fn keys(&self, account: &str, address: IpAddr) -> [Key; 2] {
        let network = network(address);
        match self.is_known(account, address) {
            true => [
                Key::Known(account.to_owned(), network),
                Key::Known(account.to_owned(), network),
            ],
            false => [Key::Address(network), Key::Account(account.to_owned())],
        }
    }

    fn make_room(&mut self, now_ms: MonoMs) {
        if self.slots.len() + 2 <= SLOTS_MAX {
            return;
        }
        self.slots
            .retain(|_, slot| now_ms < slot.last_ms + FORGET_MS);
        // Those who have been at it longest stay, the casual ones go.
        while SLOTS_MAX < self.slots.len() + 2 {
            let least = self
                .slots
                .iter()
                .min_by_key(|(_, slot)| (slot.failures, slot.last_ms))
                .map(|(key, _)| key.clone());
            let Some(least) = least else { return };
            self.slots.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, last])
    }

    #[test]
    fn delays_grow_to_a_quarter_of_an_hour_and_end() {
        let mut guard = Guard::default();
        let mut now_ms = 0;
        let mut waits = Vec::new();
        for _ in 0..14 {
            now_ms += guard
                .wait_ms("lan", ip(1), now_ms)
                .inspect(|wait| waits.push(*wait))
                .unwrap_or(0);
            assert_eq!(guard.wait_ms("lan", ip(1), now_ms), None);
            guard.failed("lan", ip(1), now_ms);
        }
        assert_eq!(waits[..3], [30_000, 60_000, 120_000]);
        assert_eq!(waits[8], DELAY_MS_MAX);
    }

    #[test]
    fn a_known_address_is_not_locked_out_by_others() {
        let mut guard = Guard::default();
        guard.succeeded("lan", ip(7));
        for round in 0..40 {
            guard.failed("lan", ip(1 + round % 5), 0);
        }
        assert!(guard.wait_ms("lan", ip(1), 1).is_some());
        assert!(
            guard.wait_ms("lan", ip(99), 1).is_some(),
            "an account's own lock"
        );
        assert_eq!(guard.wait_ms("lan", ip(7), 1), None);
        guard.pardon("lan", ip(99));
        assert_eq!(guard.wait_ms("lan", ip(99), 1), None);
    }

    #[test]
    fn strangers_of_many_addresses_have_one_budget_and_little_memory() {
        let mut guard = Guard::default();
        let mut made = 0;
        for number in 0..4_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            let name = format!("a{number}");
            if guard.wait_ms(&name, address, 0).is_none() {
                made += 1;
            }
            guard.failed(&name, address, 0);
        }
        assert_eq!(made, BURST);
        assert!(guard.slots.len() <= SLOTS_MAX);
        assert_eq!(guard.wait_ms("lan", ip(1), REFILL_MS), None);
        assert!(guard.wait_ms("lan", ip(1), REFILL_MS).is_some());
    }
}
