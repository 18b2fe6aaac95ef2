//! A bound on what the less urgent lanes put on the link: a bucket of bytes that fills with time.
//!
//! A message goes when the bucket is not empty, whole, and may leave it in debt; the next one waits
//! until the debt is paid. So any message passes, and over time no more than the rate.

use crate::model::MonoMs;

/// What may be saved up while nothing is sent: so long a time's worth.
const SAVED_MS: u64 = 1_000;

/// Counted in bits, so that no rate is rounded to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// Kilobits a second are bits a millisecond. None: no bound.
    kbps: Option<u32>,
    bits: i64,
    filled_at: MonoMs,
}

impl Bucket {
    /// Another rate from now on; a debt stays.
    pub fn set(&mut self, kbps: Option<u32>, now: MonoMs) {
        self.fill(now);
        if self.kbps != kbps {
            self.bits = self.bits.min(0);
            self.kbps = kbps;
        }
    }

    /// Whether a message may go now.
    pub fn is_open(&mut self, now: MonoMs) -> bool {
        self.fill(now);
        match self.kbps {
            None => true,
            Some(0) => false,
            Some(_) => 0 <= self.bits,
        }
    }

    /// A message has gone.
    pub fn spend(&mut self, bytes: usize) {
        if self.kbps.is_some() {
            let bits = i64::try_from(bytes).unwrap_or(i64::MAX / 8) * 8;
            self.bits = self.bits.saturating_sub(bits);
        }
    }

    /// When a message may go, while none may; none also while the lanes are shut for good.
    pub fn opens_at(&self) -> Option<MonoMs> {
        match self.kbps {
            Some(kbps) if 0 < kbps && self.bits < 0 => {
                let wait_ms = self.bits.unsigned_abs().div_ceil(u64::from(kbps));
                Some(self.filled_at + wait_ms)
            }
            _ => None,
        }
    }

    fn fill(&mut self, now: MonoMs) {
        let passed_ms = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let kbps = u64::from(self.kbps.unwrap_or(0));
        let saved = i64::try_from(kbps * SAVED_MS).unwrap_or(i64::MAX);
        let more = i64::try_from(kbps.saturating_mul(passed_ms)).unwrap_or(i64::MAX);
        self.bits = self.bits.saturating_add(more).min(saved.max(0));
        if self.kbps.is_none() {
            self.bits = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that pass in a span when somebody always has a message.
    fn passed(bucket: &mut Bucket, message: usize, from: MonoMs, to: MonoMs) -> u64 {
        let (mut now, mut bytes) = (from, 0);
        while now < to {
            if bucket.is_open(now) {
                bucket.spend(message);
                bytes += message as u64;
            } else {
                now = bucket.opens_at().unwrap_or(to).max(now + 1);
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn over_time_no_more_and_hardly_less_than_the_rate(
            kbps in 1_u32..20_000, message in 100_usize..130_000,
        ) {
            let mut bucket = Bucket::default();
            bucket.set(Some(kbps), 0);
            let seconds = 600;
            let bytes = passed(&mut bucket, message, 0, seconds * 1_000);
            let rate = u64::from(kbps) * seconds * 125;
            let slack = message as u64 + u64::from(kbps) * 125 + rate / 50;
            prop_assert!(bytes <= rate + slack, "{bytes} {rate}");
            prop_assert!(rate <= bytes + slack, "{bytes} {rate}");
        }
    }

    #[test]
    fn nought_shuts_and_none_lets_all_through() {
        let mut bucket = Bucket::default();
        assert!(bucket.is_open(0));
        bucket.spend(1 << 30);
        assert!(bucket.is_open(0));
        bucket.set(Some(0), 5);
        assert!(!bucket.is_open(1_000_000));
        assert_eq!(bucket.opens_at(), None);
        bucket.set(Some(8), 1_000_000);
        assert!(bucket.is_open(1_000_000), "no debt from the time before");
        bucket.spend(1_000);
        assert_eq!(bucket.opens_at(), Some(1_001_000), "a byte a millisecond");
        bucket.set(None, 1_000_001);
        assert!(bucket.is_open(1_000_001));
    }
}
