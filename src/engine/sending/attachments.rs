//! The files that records name: whether they are there, their chunks as entries of P4, and which of
//! them may go.

use super::{EdgeEngine, Effect, Level, NewRecord};
use crate::engine::content::{self, Ahead};
use crate::model::chunk::Digest;
use crate::model::fault::{self, Fault};
use crate::model::{Lane, Now, Seq};
use crate::store::StoreError;

/// Attachments forgotten in one step.
const TRIM_BLOBS: usize = 16;
/// Part of the attachments' limit in use from which those that the hub has are given up.
const BLOBS_CROWDED_PERCENT: u64 = 75;

impl<R> EdgeEngine<R> {
    /// The first of a record's files that is not there.
    pub(super) fn missing_attachment(
        &self,
        record: &NewRecord,
    ) -> Result<Option<String>, StoreError> {
        for file in &record.attachments {
            let is_there = match file.sha256.parse() {
                Err(_) => false,
                Ok(digest) => match self.store.blob(digest)? {
                    Some(known) if known.gone.is_none() => true,
                    _ => self.config.content.is_there(digest, file.bytes),
                },
            };
            if !is_there {
                return Ok(Some(file.sha256.clone()));
            }
        }
        Ok(None)
    }

    pub(super) fn want_attachments(
        &mut self,
        now: Now,
        record: &NewRecord,
        seq: Seq,
    ) -> Result<(), StoreError> {
        for file in &record.attachments {
            let digest = file.sha256.parse().expect("it was looked up at the door");
            let blob = self
                .store
                .want_blob(digest, file.bytes, &file.mime, now.wall)?;
            self.store.refer_to_blob(blob, record.lane, seq)?;
            self.chunks_due = true;
        }
        Ok(())
    }

    pub(super) fn queue_chunks(&mut self, now: Now) -> Result<(), StoreError> {
        let Self {
            store,
            outlet,
            tools,
            config,
            capture,
            ahead,
            ..
        } = self;
        let place = (&mut *capture, *ahead);
        let gone = content::queue(store, outlet, tools, &*config.content, place, now)?;
        for blob in gone {
            self.content_gone(now, blob)?;
        }
        self.chunks_due = content::is_due(&self.store, &self.outlet, self.ahead)?;
        if !self.chunks_due {
            self.ahead = Ahead::Few;
        }
        Ok(())
    }

    /// The file goes too: one that is put again is then written anew.
    pub(super) fn content_gone(&mut self, now: Now, blob: Digest) -> Result<(), StoreError> {
        self.store.add_event(
            now.wall,
            Level::Alarm.as_str(),
            "attachment_damaged",
            &blob.to_string(),
        )?;
        self.effects.push(Effect::ContentGone(blob));
        Ok(())
    }

    /// The hub has P4 up to another entry than before.
    pub(super) fn chunks_moved(&mut self, before: Seq) -> Result<(), StoreError> {
        let acked = self.outlet.acked(Lane::P4);
        match before <= acked {
            true => self.store.chunks_received(acked)?,
            false => self.store.chunks_taken_back(acked)?,
        }
        self.chunks_due =
            self.chunks_due || content::is_due(&self.store, &self.outlet, self.ahead)?;
        Ok(())
    }

    /// Whether a file must stay: a record names it, or a row that is parked.
    pub fn needs_blob(&self, blob: Digest) -> Result<bool, StoreError> {
        if fault::is_planted(Fault::NeededFileRemoved) {
            return Ok(false);
        }
        Ok(self.store.blob(blob)?.is_some() || self.store.is_parked_with(blob)?)
    }

    /// Forgets some attachments that the hub has and nobody needs; says whether there were any.
    pub(super) fn forget_blobs(&mut self) -> Result<bool, StoreError> {
        let is_crowded = || -> Result<bool, StoreError> {
            let limit = self.config.space.blob_bytes_max / 100 * BLOBS_CROWDED_PERCENT;
            Ok(limit < self.store.blob_bytes()?)
        };
        let any = std::mem::take(&mut self.make_room) || is_crowded()?;
        let gone = self.store.forget_blobs(any, TRIM_BLOBS)?;
        let is_some = !gone.is_empty();
        if is_some {
            self.effects.push(Effect::Forgotten(gone));
        }
        Ok(is_some)
    }
}
