//! Who is connected: how many at once, how many of one address, and who gives way when it is full.
//!
//! A connection on which nothing is asked (in its handshake, before the end of a request's head, or
//! idle) gives way after a short while as soon as somebody else of its address waits for a place.
//! When all places are taken, the address with the most connections gives one to whoever has fewer,
//! at once if he has less than half as many; so those who come in crowds wait for each other, and
//! nobody else for them. A request with a known token never gives way.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::model::MonoMs;
use crate::shell::clock::boot_ms;

/// A connection is not asked to give way before it has been quiet for so long …
const QUIET_MS: u64 = 2_000;
/// … or before its request has been under way for so long.
const SLOW_MS: u64 = 5_000;
/// So long somebody waits for a place.
const WAIT_MS: u64 = 10_000;
/// So many of an address may wait where others wait in crowds.
const WAITING_FREE: usize = 4;
/// Who waits looks again so often, and whenever somebody leaves.
const LOOK: Duration = Duration::from_millis(250);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    /// Nothing is asked.
    Nothing,
    /// The same, and it has asked with a known token before.
    KnownNothing,
    /// A stranger's request is under way.
    Request,
    /// A known token's is.
    KnownRequest,
}

#[derive(Debug)]
struct Seat {
    address: IpAddr,
    doing: Doing,
    since_ms: MonoMs,
    leave: Arc<Notify>,
}

/// Every connection of the network.
#[derive(Debug)]
pub struct Guests {
    all_max: usize,
    per_address_max: usize,
    seats: Mutex<Seats>,
    /// Somebody has left.
    left: Notify,
}

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Seat>,
    waiting: HashMap<IpAddr, usize>,
}

impl Guests {
    pub fn new(all_max: usize, per_address_max: usize) -> Guests {
        Guests {
            all_max,
            per_address_max,
            seats: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// A place for a connection of this address, once there is one; none when nobody gives way, or
    /// when too many wait already.
    pub fn enter(self: Arc<Self>, address: IpAddr) -> impl Future<Output = Option<Guest>> {
        let address = network(address);
        let begun_ms = boot_ms();
        // Before anything is awaited: whoever is accepted is counted, here or there.
        let guest = self.admit(address);
        let waits = match guest {
            Some(_) => None,
            None => Waiting::begin(&self, address),
        };
        async move {
            if guest.is_some() {
                return guest;
            }
            let _waits = waits?;
            while boot_ms() < begun_ms + WAIT_MS {
                // Either way it is looked at again.
                let _ = timeout(LOOK, self.left.notified()).await;
                let guest = self.admit(address);
                if guest.is_some() {
                    return guest;
                }
            }
            None
        }
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let (number, leave) = self.seats().take(self, address, boot_ms())?;
        Some(Guest {
            guests: Arc::clone(self),
            number,
            leave,
        })
    }

    /// Waits until nobody is there any more.
    pub async fn all_gone(&self) {
        while !self.seats().taken.is_empty() {
            // Either way it is looked at again.
            let _ = timeout(LOOK, self.left.notified()).await;
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// A free place, or one that somebody gives up for it.
    fn take(
        &mut self,
        limits: &Guests,
        address: IpAddr,
        now_ms: MonoMs,
    ) -> Option<(u64, Arc<Notify>)> {
        if limits.per_address_max <= self.count(address) {
            self.give_way(address, true, now_ms)?;
        } else if limits.all_max <= self.taken.len() {
            self.give_way(address, false, now_ms)?;
        }
        self.last += 1;
        let leave = Arc::new(Notify::new());
        let seat = Seat {
            address,
            doing: Doing::Nothing,
            since_ms: now_ms,
            leave: Arc::clone(&leave),
        };
        self.taken.insert(self.last, seat);
        Some((self.last, leave))
    }

    fn count(&self, address: IpAddr) -> usize {
        let taken = self.taken.values();
        taken.filter(|seat| seat.address == address).count()
    }

    /// Sends away the connection that can best be spared for one of `address`, of its own only or of
    /// all.
    fn give_way(&mut self, address: IpAddr, own_only: bool, now_ms: MonoMs) -> Option<()> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for seat in self.taken.values() {
            *counts.entry(seat.address).or_default() += 1;
        }
        let own = counts.get(&address).copied().unwrap_or(0);
        let can_be_spared = |seat: &Seat| {
            let for_ms = now_ms.saturating_sub(seat.since_ms);
            let is_late = match seat.doing {
                Doing::Nothing | Doing::KnownNothing => QUIET_MS <= for_ms,
                Doing::Request => SLOW_MS <= for_ms,
                Doing::KnownRequest => return false,
            };
            let crowd = counts[&seat.address];
            match seat.address == address {
                true => is_late,
                false if own_only => false,
                false => (is_late && own < crowd) || 2 * (own + 1) < crowd,
            }
        };
        let spared = self
            .taken
            .iter()
            .filter(|(_, seat)| can_be_spared(seat))
            .min_by_key(|(_, seat)| {
                let crowd = std::cmp::Reverse(counts[&seat.address]);
                (crowd, seat.doing, seat.since_ms)
            });
        let number = *spared?.0;
        let seat = self.taken.remove(&number)?;
        seat.leave.notify_one();
        Some(())
    }
}

/// Somebody without a place.
struct Waiting {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Waiting {
    fn begin(guests: &Arc<Guests>, address: IpAddr) -> Option<Waiting> {
        let mut seats = guests.seats();
        let all: usize = seats.waiting.values().sum();
        let of_address = seats.waiting.entry(address).or_default();
        let all_max = match *of_address {
            0..WAITING_FREE => 4 * guests.all_max,
            _ => guests.all_max,
        };
        if 2 * guests.per_address_max <= *of_address || all_max <= all {
            return None;
        }
        *of_address += 1;
        Some(Waiting {
            guests: Arc::clone(guests),
            address,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut seats = self.guests.seats();
        if let Some(waiting) = seats.waiting.get_mut(&self.address) {
            *waiting -= 1;
            if *waiting == 0 {
                seats.waiting.remove(&self.address);
            }
        }
    }
}

/// A connection's place.
#[derive(Debug)]
pub struct Guest {
    guests: Arc<Guests>,
    number: u64,
    leave: Arc<Notify>,
}

impl Guest {
    /// Ends when somebody else needs the place.
    pub async fn must_leave(&self) {
        self.leave.notified().await;
    }

    /// A request has come, of somebody whom we know or of a stranger; it lasts as long as the turn.
    pub fn asks(self: &Arc<Self>, is_known: bool) -> Turn {
        self.does(match is_known {
            true => Doing::KnownRequest,
            false => Doing::Request,
        });
        Turn {
            guest: Arc::clone(self),
            is_known,
        }
    }

    fn does(&self, doing: Doing) {
        let now_ms = boot_ms();
        if let Some(seat) = self.guests.seats().taken.get_mut(&self.number) {
            seat.doing = doing;
            seat.since_ms = now_ms;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.seats().taken.remove(&self.number);
        self.guests.left.notify_waiters();
    }
}

/// A request that is under way.
pub struct Turn {
    guest: Arc<Guest>,
    is_known: bool,
}

impl Turn {
    /// The request lasts until its answer is written.
    pub fn until_end_of(self, body: Body) -> Body {
        Body::new(Lasting { body, _turn: self })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guest.does(match self.is_known {
            true => Doing::KnownNothing,
            false => Doing::Nothing,
        });
    }
}

struct Lasting {
    body: Body,
    _turn: Turn,
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// One customer has many addresses in IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, last])
    }

    struct Room {
        limits: Guests,
        seats: Seats,
    }

    fn room(all_max: usize, per_address_max: usize) -> Room {
        Room {
            limits: Guests::new(all_max, per_address_max),
            seats: Seats::default(),
        }
    }

    impl Room {
        fn take(&mut self, of: u8, now_ms: u64) -> Option<u64> {
            let taken = self.seats.take(&self.limits, ip(of), now_ms);
            taken.map(|(number, _)| number)
        }

        fn does(&mut self, number: u64, doing: Doing) {
            self.seats.taken.get_mut(&number).unwrap().doing = doing;
        }

        fn has(&self, number: u64) -> bool {
            self.seats.taken.contains_key(&number)
        }
    }

    #[test]
    fn one_address_has_its_share_and_its_own_oldest_give_way() {
        let mut room = room(10, 4);
        let first = room.take(1, 0).unwrap();
        for at in 1..4 {
            room.take(1, at).unwrap();
        }
        assert_eq!(room.take(1, 10), None, "nobody has been quiet for long");
        assert!(room.take(2, 10).is_some());
        assert!(room.take(1, QUIET_MS).is_some());
        assert!(!room.has(first));
        assert_eq!(room.seats.count(ip(1)), 4);
    }

    #[test]
    fn when_all_places_are_taken_the_greatest_crowd_gives_way_first() {
        let mut room = room(8, 4);
        let lonely = room.take(9, 0).unwrap();
        let crowd: Vec<u64> = (0..7).map(|n| room.take(1 + n / 4, 1).unwrap()).collect();
        let newcomer = room.take(7, QUIET_MS + 1).unwrap();
        assert!(room.has(lonely) && room.has(newcomer));
        assert_eq!(crowd.iter().filter(|number| room.has(**number)).count(), 6);
    }

    #[test]
    fn whoever_comes_alone_waits_for_no_crowd_and_crowds_wait_for_each_other() {
        let mut room = room(12, 6);
        for of in [1, 2] {
            for _ in 0..6 {
                let seat = room.take(of, 0).unwrap();
                room.does(seat, Doing::Request);
            }
        }
        assert!(room.take(3, 1).is_some(), "at once");
        assert!(room.take(4, 1).is_some());
        assert_eq!(room.seats.count(ip(1)) + room.seats.count(ip(2)), 10);
        let now_ms = 10 * SLOW_MS;
        let before = room.seats.count(ip(2));
        assert!(room.take(1, now_ms).is_some());
        assert_eq!(room.seats.count(ip(2)), before, "its own give way");
    }

    #[test]
    fn a_known_request_never_gives_way_and_a_strangers_does_last() {
        let mut room = room(4, 4);
        let seats: Vec<u64> = (0..4).map(|of| room.take(of, 0).unwrap()).collect();
        for (number, doing) in seats.iter().zip([
            Doing::KnownRequest,
            Doing::Request,
            Doing::KnownNothing,
            Doing::Nothing,
        ]) {
            room.does(*number, doing);
        }
        let now_ms = SLOW_MS + 1;
        for (of, gone) in [(9, seats[3]), (8, seats[2]), (7, seats[1])] {
            let next = room.take(of, now_ms).unwrap();
            room.does(next, Doing::KnownRequest);
            assert!(!room.has(gone));
        }
        assert_eq!(room.take(6, now_ms + WAIT_MS), None);
        assert!(room.has(seats[0]));
    }
}
