//! Who may log in, and who has tried too often.
//!
//! A lock falls on one user name *from one address*: whoever guesses at a station's password locks
//! out neither the station itself, which comes from elsewhere, nor another station behind the same
//! address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use crate::edge::tokens::is_same;
use crate::evidence::sha256;
use crate::model::MonoMs;

/// Wrong passwords before the lock falls.
const TRIES_MAX: u32 = 5;
/// How long wrong passwords are remembered, and how long a lock holds.
const LOCK_MS: MonoMs = 5 * 60_000;
/// Guessers that are remembered at once.
const GUESSERS_MAX: usize = 4_096;
/// No user name of ours is longer.
const USER_BYTES_MAX: usize = 64;

/// Users and the SHA-256 of their passwords.
#[derive(Debug)]
pub struct Logins {
    known: Vec<(String, [u8; 32])>,
    guessers: Mutex<BTreeMap<(IpAddr, String), Guesser>>,
}

#[derive(Debug, Clone, Copy)]
struct Guesser {
    tries: u32,
    last_ms: MonoMs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Wrong,
    /// This wrong password is the one that brings the lock.
    Locked,
    /// The lock holds; the password was not looked at.
    StillLocked,
}

impl Logins {
    pub fn new(known: Vec<(String, [u8; 32])>) -> Logins {
        Logins {
            known,
            guessers: Mutex::default(),
        }
    }

    /// The place of the user among the known ones.
    pub fn check(
        &self,
        from: IpAddr,
        user: &str,
        password: &str,
        now_ms: MonoMs,
    ) -> Result<usize, Denied> {
        let name: String = user.chars().take(USER_BYTES_MAX).collect();
        let key = (from, name);
        let mut guessers = self.guessers.lock().expect("no holder panics");
        guessers.retain(|_, guesser| now_ms < guesser.last_ms + LOCK_MS);
        if guessers
            .get(&key)
            .is_some_and(|guesser| TRIES_MAX <= guesser.tries)
        {
            return Err(Denied::StillLocked);
        }
        let digest = sha256(password.as_bytes());
        // Every password is compared, so that the time tells nothing of which users there are.
        let mut found = None;
        for (place, (known, sha256)) in self.known.iter().enumerate() {
            if is_same(sha256, &digest) && known == user {
                found = Some(place);
            }
        }
        if let Some(place) = found {
            guessers.remove(&key);
            return Ok(place);
        }
        if GUESSERS_MAX <= guessers.len() && !guessers.contains_key(&key) {
            let oldest = guessers.iter().min_by_key(|(_, guesser)| guesser.last_ms);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| guessers.remove(&key));
        }
        let guesser = guessers.entry(key).or_insert(Guesser {
            tries: 0,
            last_ms: now_ms,
        });
        guesser.tries += 1;
        guesser.last_ms = now_ms;
        match guesser.tries {
            TRIES_MAX => Err(Denied::Locked),
            _ => Err(Denied::Wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_is_locked_out_and_nobody_else() {
        let logins = Logins::new(vec![
            ("tram-1".to_owned(), sha256(b"mot")),
            ("tram-2".to_owned(), sha256(b"hai")),
        ]);
        let [near, far] = [1, 2].map(|n| IpAddr::from([10, 0, 0, n]));
        for _ in 1..TRIES_MAX {
            assert_eq!(logins.check(near, "tram-1", "sai", 0), Err(Denied::Wrong));
        }
        assert_eq!(logins.check(near, "tram-1", "hai", 0), Err(Denied::Locked));
        assert_eq!(
            logins.check(near, "tram-1", "mot", 1),
            Err(Denied::StillLocked)
        );
        assert_eq!(
            logins.check(near, "tram-2", "hai", 1),
            Ok(1),
            "behind the same address"
        );
        assert_eq!(
            logins.check(far, "tram-1", "mot", 1),
            Ok(0),
            "from elsewhere"
        );
        assert_eq!(
            logins.check(near, "tram-1", "mot", LOCK_MS),
            Ok(0),
            "the lock ends"
        );
    }

    #[test]
    fn a_right_password_forgets_the_wrong_ones() {
        let logins = Logins::new(vec![("tram-1".to_owned(), sha256(b"mot"))]);
        let near = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..20 {
            assert_eq!(logins.check(near, "tram-1", "sai", 0), Err(Denied::Wrong));
            assert_eq!(logins.check(near, "tram-1", "mot", 0), Ok(0));
        }
    }

    #[test]
    fn the_memory_of_guessers_is_bounded() {
        let logins = Logins::new(Vec::new());
        for n in 0..GUESSERS_MAX as u64 + 500 {
            let from = IpAddr::from([10, 0, 0, 1]);
            assert_eq!(
                logins.check(from, &n.to_string(), "x", n % 7),
                Err(Denied::Wrong)
            );
        }
        assert!(logins.guessers.lock().unwrap().len() <= GUESSERS_MAX);
    }
}
