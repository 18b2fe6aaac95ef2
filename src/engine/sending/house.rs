//! What is done now and then: tallies are written down, and what need not be kept is deleted, a slice
//! at a time.

use super::{EdgeEngine, Level};
use crate::model::{Lane, MonoMs, Now, SourceName, UnixMs};
use crate::store::StoreError;
use crate::store::edge::{SourceTally, Sync};
use crate::store::history::Sample;

/// How often tallies are written down; they are no part of any promise.
const TALLY_EVERY_MS: MonoMs = 30_000;
/// Blocks, and keys of repeats, deleted in one step.
const TRIM_BLOCKS: usize = 64;
const TRIM_KEYS: u64 = 256;
/// Part of the store's quota in use from which the kept tail is given up.
const CROWDED_PERCENT: u64 = 80;
/// Free bytes inside the file from which some are given back to the file system.
const VACUUM_BYTES: u64 = 16 * 1024 * 1024;
const VACUUM_PAGES: u32 = 64;

impl<R> EdgeEngine<R> {
    pub(super) fn count(&mut self, now: Now, source: &SourceName, tally: &SourceTally) {
        self.tally_at.get_or_insert(now.mono_ms + TALLY_EVERY_MS);
        self.tallies.entry(source.clone()).or_default().add(tally);
        let name = source.as_str();
        self.totals.entry(name.to_owned()).or_default().add(tally);
        self.counted.insert(name.to_owned());
    }

    /// What sources did at all, of those that did something since this was last asked. To be asked after
    /// a step that has succeeded; the store hears of it later.
    pub fn take_counts(&mut self) -> Vec<(String, SourceTally)> {
        std::mem::take(&mut self.counted)
            .into_iter()
            .filter_map(|name| {
                let total = self.totals.get(&name)?.clone();
                Some((name, total))
            })
            .collect()
    }

    /// Writes the tallies down and deletes what need not be kept, a slice at a time.
    pub(super) fn keep_house(&mut self, now: Now) -> Result<(), StoreError> {
        if self.tally_at.is_some_and(|at| at <= now.mono_ms) {
            self.write_tallies()?;
        }
        if self.trim_due {
            self.trim(now)?;
        }
        if self.once_due {
            let gone = self
                .store
                .trim_once(self.config.space.once_keys, TRIM_KEYS)?;
            self.once_due = 0 < gone;
        }
        Ok(())
    }

    fn write_tallies(&mut self) -> Result<(), StoreError> {
        for (source, tally) in std::mem::take(&mut self.tallies) {
            self.store.add_tally(source.as_str(), &tally)?;
        }
        self.tally_at = None;
        Ok(())
    }

    /// Writes what is written only now and then; to be called before an orderly stop.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        self.store.begin(Sync::Full)?;
        self.write_tallies()?;
        self.store.commit()
    }

    pub(super) fn sample(&mut self, now: Now) -> Result<(), StoreError> {
        let bytes = Lane::ALL.map(|lane| self.outlet.waiting_bytes(lane));
        self.store.add_sample(&Sample {
            at: now.wall,
            waiting: self.outlet.waiting(),
            bytes: bytes.into_iter().sum(),
        })
    }

    /// Notes that a life has begun, and that the one before was not ended in order.
    pub(super) fn begin_life(&mut self, now: Now, boot: Option<&str>) -> Result<(), StoreError> {
        if let Some(stop) = self.store.begin_life(now.wall, boot)? {
            let code = if stop.with_machine {
                "power_cut"
            } else {
                "killed"
            };
            let level = Level::Warning.as_str();
            self.store
                .add_event(now.wall, level, code, &stop.after.to_string())?;
        }
        Ok(())
    }

    fn trim(&mut self, now: Now) -> Result<(), StoreError> {
        let (used, _) = self.store.space()?;
        let crowded = self.config.options.quota_bytes / 100 * CROWDED_PERCENT < used;
        let space = self.config.space;
        let since = UnixMs(now.wall.0.saturating_sub(space.tail_ms));
        let keep_bytes = if crowded { 0 } else { space.tail_bytes };
        self.trim_due = self
            .outlet
            .trim(&mut self.store, since, keep_bytes, TRIM_BLOCKS)?;
        self.vacuum_due |= self.trim_due;
        self.trim_due |= self.forget_blobs()?;
        Ok(())
    }

    /// Gives free pages back in slices.
    pub(super) fn vacuum(&mut self) -> Result<(), StoreError> {
        self.vacuum_due = VACUUM_BYTES < self.store.space()?.1;
        if self.vacuum_due {
            self.store.vacuum(VACUUM_PAGES)?;
        }
        Ok(())
    }
}
