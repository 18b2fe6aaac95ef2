//! Looks through the folder of attachments for files that nobody needs: put and never named by a
//! record, or left by a crash. A sub-folder at a time, by the engine's thread, so that nothing is
//! named while it is decided.

use std::sync::Arc;

use crate::edge::blobs::Blobs;
use crate::model::chunk::Digest;
use crate::model::{MonoMs, Now, UnixMs};
use crate::store::StoreError;

/// A file that no record names stays so long.
const UNNAMED_MS: i64 = 86_400_000;
/// The first look begins so long after the start, the next so long after the one before.
const FIRST_AFTER_MS: MonoMs = 60_000;
const EVERY_MS: MonoMs = 86_400_000;
/// Pause between two sub-folders.
const PAUSE_MS: MonoMs = 500;
const HOUR_MS: MonoMs = 3_600_000;

#[derive(Debug)]
pub struct Sweep {
    blobs: Arc<Blobs>,
    /// The sub-folder that is next.
    part: u8,
    at: MonoMs,
    hour_at: MonoMs,
}

impl Sweep {
    pub fn new(blobs: Arc<Blobs>, now_ms: MonoMs) -> Sweep {
        Sweep {
            blobs,
            part: 0,
            at: now_ms + FIRST_AFTER_MS,
            hour_at: now_ms + HOUR_MS,
        }
    }

    /// When [`Sweep::work`] wants to be called.
    pub fn deadline(&self) -> MonoMs {
        self.at.min(self.hour_at)
    }

    /// Does what is due; `needs` says whether a file must stay.
    pub fn work(&mut self, now: Now, needs: impl Fn(Digest) -> Result<bool, StoreError>) {
        if self.hour_at <= now.mono_ms {
            self.hour_at = now.mono_ms + HOUR_MS;
            self.blobs.an_hour_later();
        }
        if now.mono_ms < self.at {
            return;
        }
        let before = UnixMs(now.wall.0 - UNNAMED_MS);
        match self.blobs.older_than(self.part, before) {
            Ok(found) => found
                .into_iter()
                // A store that cannot be asked needs everything.
                .filter(|&digest| !needs(digest).unwrap_or(true))
                .for_each(|digest| self.remove(digest)),
            Err(error) => tracing::debug!(%error, "a folder of attachments cannot be read"),
        }
        let next = self.part.wrapping_add(1);
        self.at = now.mono_ms + if next == 0 { EVERY_MS } else { PAUSE_MS };
        self.part = next;
    }

    /// Removes a file that nobody needs.
    pub fn remove(&self, digest: Digest) {
        if let Err(error) = self.blobs.remove(digest) {
            // The next look tries again.
            tracing::warn!(%error, "an attachment that nobody needs cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClockQuality;

    #[test]
    fn what_nobody_needs_goes_after_a_day_and_what_somebody_needs_stays() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::beside(&place.path().join("box.db"), 100));
        let put = |content: &[u8]| blobs.put(content).unwrap().parse::<Digest>().unwrap();
        let (needed, other) = (put(b"needed"), put(b"other"));
        blobs.an_hour_later();
        blobs.an_hour_later();
        let mut sweep = Sweep::new(Arc::clone(&blobs), 0);
        let now = |mono_ms, days: i64| Now {
            mono_ms,
            wall: UnixMs(i64::from(u32::MAX) * 1_000 * days),
            quality: ClockQuality::Synchronized,
        };
        for _ in 0..256 {
            sweep.work(now(sweep.deadline(), 0), |_| Ok(false));
        }
        assert_eq!(blobs.bytes().unwrap(), 11, "they are young");
        let next_ms = sweep.deadline().max(EVERY_MS);
        for step in 0..400 {
            sweep.work(now(next_ms + step * HOUR_MS, 2), |digest| {
                Ok(digest == needed)
            });
        }
        assert_eq!((blobs.length(needed), blobs.length(other)), (Some(6), None));
    }
}
