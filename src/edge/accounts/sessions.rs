//! Who is logged in. Pure, and kept in memory only: nothing is written to the card for a click, and
//! a restart ends every session.

use std::collections::HashMap;

use crate::evidence::sha256;
use crate::model::MonoMs;

/// A session that is not used ends.
pub const IDLE_MS: u64 = 15 * 60_000;
/// No session lasts longer.
pub const LONGEST_MS: u64 = 8 * 60 * 60_000;
const SESSIONS_MAX: usize = 64;

/// What is told on the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub is_good: bool,
    pub vi: String,
    pub en: String,
}

#[derive(Debug)]
struct Session {
    account: String,
    /// Of the password with which it was begun.
    stamp: i64,
    began_ms: MonoMs,
    used_ms: MonoMs,
    notice: Option<Notice>,
}

/// The sessions, by the digest of what the browser holds.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<[u8; 32], Session>);

impl Sessions {
    /// Begins a session; returns what the browser shall hold.
    pub fn begin(&mut self, account: &str, stamp: i64, now_ms: MonoMs) -> String {
        self.drop_ended(now_ms);
        if SESSIONS_MAX <= self.0.len() {
            let oldest = self.0.iter().min_by_key(|(_, session)| session.used_ms);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.0.remove(&oldest);
            }
        }
        let token = random_token();
        let session = Session {
            account: account.to_owned(),
            stamp,
            began_ms: now_ms,
            used_ms: now_ms,
            notice: None,
        };
        self.0.insert(sha256(token.as_bytes()), session);
        token
    }

    /// Whose session it is, and the stamp of his password then; it counts as used now.
    pub fn look(&mut self, token: &str, now_ms: MonoMs) -> Option<(String, i64)> {
        self.drop_ended(now_ms);
        let session = self.0.get_mut(&sha256(token.as_bytes()))?;
        session.used_ms = now_ms;
        Some((session.account.clone(), session.stamp))
    }

    pub fn end(&mut self, token: &str) {
        self.0.remove(&sha256(token.as_bytes()));
    }

    pub fn set_notice(&mut self, token: &str, notice: Notice) {
        if let Some(session) = self.0.get_mut(&sha256(token.as_bytes())) {
            session.notice = Some(notice);
        }
    }

    pub fn take_notice(&mut self, token: &str) -> Option<Notice> {
        self.0.get_mut(&sha256(token.as_bytes()))?.notice.take()
    }

    fn drop_ended(&mut self, now_ms: MonoMs) {
        self.0.retain(|_, session| {
            now_ms < session.used_ms + IDLE_MS && now_ms < session.began_ms + LONGEST_MS
        });
    }
}

/// 256 bits of the operating system's, hexadecimal.
pub fn random_token() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    hex(&bytes)
}

/// What a form of this browser must carry; it tells nothing of the secret that the browser holds.
pub fn form_token(secret: &str) -> String {
    hex(&sha256(format!("form {secret}").as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_and_after_a_day_of_work() {
        let mut sessions = Sessions::default();
        let token = sessions.begin("lan", 7, 0);
        assert_eq!(token.len(), 64);
        assert_eq!(
            sessions.look(&token, IDLE_MS - 1),
            Some(("lan".to_owned(), 7))
        );
        assert!(
            sessions.look(&token, 2 * IDLE_MS - 2).is_some(),
            "used in between"
        );
        assert_eq!(sessions.look(&token, 3 * IDLE_MS - 2), None);
        let token = sessions.begin("lan", 7, 0);
        let mut now_ms = 0;
        while sessions.look(&token, now_ms).is_some() {
            now_ms += IDLE_MS / 2;
        }
        assert_eq!(now_ms, LONGEST_MS);
    }

    #[test]
    fn what_the_store_of_sessions_holds_opens_none() {
        let mut sessions = Sessions::default();
        let token = sessions.begin("lan", 7, 0);
        let kept = hex(sessions.0.keys().next().unwrap());
        assert!(!format!("{sessions:?}").contains(&token));
        assert_eq!(sessions.look(&kept, 1), None);
        assert_eq!(sessions.look(&form_token(&token), 1), None);
        sessions.end(&token);
        assert_eq!(sessions.look(&token, 1), None);
        for _ in 0..200 {
            sessions.begin("lan", 7, 0);
        }
        assert_eq!(sessions.0.len(), SESSIONS_MAX);
    }
}
