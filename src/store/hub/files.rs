//! Files on their way down: which box is to have which of the attachments, and how far its chunks are
//! entries of the box's log. A file goes out only when its check has found it sound.

use rusqlite::{OptionalExtension, params};

use super::HubStore;
use super::down::DownLog;
use crate::model::chunk::Digest;
use crate::model::fault::{self, Fault};
use crate::model::{BoxId, Epoch, Seq, UnixMs};
use crate::store::StoreError;
use crate::store::blobs::{BlobRow, BlobState, WantedStore};

impl HubStore {
    /// A record, the entry at this place, names an attachment.
    pub fn name_blob(&mut self, digest: Digest, place: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO blob_ref (digest, place) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute(params![digest.0, place])?;
        Ok(())
    }

    /// A document for this box names a file: it goes there, unless it already does or did.
    pub fn want_file(
        &mut self,
        box_id: &BoxId,
        digest: Digest,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO down_file (box_id, digest, queued, state, since_ms)
                 VALUES (?1, ?2, 0, 'wanted', ?3)
                 ON CONFLICT (box_id, digest) DO UPDATE SET queued = 0, state = 'wanted',
                   since_ms = excluded.since_ms WHERE state IN ('refused', 'gone')",
            )?
            .execute(params![box_id.as_str(), digest.0, at.0])?;
        self.has_posted = true;
        Ok(())
    }

    /// A box lacks a file that once was sent to it, and says up to where it has P4. What it was never
    /// sent, and what is still on its way, changes nothing; says whether it goes again.
    pub fn want_file_again(
        &mut self,
        box_id: &BoxId,
        digest: Digest,
        applied: Option<(Epoch, Seq)>,
        at: UnixMs,
    ) -> Result<bool, StoreError> {
        let (epoch, applied) = applied.unwrap_or((Epoch(0), Seq::ZERO));
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE down_file SET queued = 0, state = 'wanted', since_ms = ?3
                 WHERE box_id = ?1 AND digest = ?2 AND (state IN ('received', 'refused', 'gone')
                   OR state = 'queued' AND last <= ?5
                     AND ?4 = (SELECT epoch FROM down_box WHERE down_box.box_id = ?1))",
            )?
            .execute(params![
                box_id.as_str(),
                digest.0,
                at.0,
                i64::try_from(epoch.0).unwrap_or(0),
                i64::try_from(applied.0).unwrap_or(0)
            ])?;
        self.has_posted |= changed == 1;
        Ok(changed == 1)
    }

    /// Boxes for which there is a sound file of which some chunks are no entries yet.
    pub fn boxes_with_files(&self) -> Result<Vec<BoxId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT DISTINCT down_file.box_id FROM down_file JOIN blob USING (digest)
             WHERE down_file.state = 'wanted' AND (blob.state = 'kept' OR ?1)",
        )?;
        let is_any = fault::is_planted(Fault::UncheckedFileSent);
        let mut rows = statement.query([is_any])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let box_id: String = row.get(0)?;
            found.push(box_id.parse().map_err(|_| StoreError::Damaged)?);
        }
        Ok(found)
    }

    /// Files that were found to be unsound, each with a box that waits for it and is to be told;
    /// from now on it counts as told.
    pub fn refuse_files(&mut self, at: UnixMs) -> Result<Vec<(BoxId, Digest)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "UPDATE down_file SET state = 'refused', since_ms = ?1
             WHERE state = 'wanted'
               AND digest IN (SELECT digest FROM blob WHERE state = 'quarantined')
             RETURNING box_id, digest",
        )?;
        let mut rows = statement.query([at.0])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let box_id: String = row.get(0)?;
            let box_id = box_id.parse().map_err(|_| StoreError::Damaged)?;
            found.push((box_id, Digest(row.get(1)?)));
        }
        Ok(found)
    }
}

impl DownLog<'_> {
    fn box_id(&self) -> Result<String, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT box_id FROM down_box WHERE number = ?1")?
            .query_row([self.known.number], |row| row.get(0))?)
    }

    /// The box has P4 up to `acked`.
    pub fn chunks_received(&mut self, acked: Seq, at: UnixMs) -> Result<(), StoreError> {
        let box_id = self.box_id()?;
        let removed = self
            .connection
            .prepare_cached("DELETE FROM down_chunk WHERE box_id = ?1 AND seq <= ?2")?
            .execute(params![box_id, acked.0 as i64])?;
        if 0 < removed {
            self.connection
                .prepare_cached(
                    "UPDATE down_file SET state = 'received', since_ms = ?3
                     WHERE box_id = ?1 AND state = 'queued' AND last <= ?2",
                )?
                .execute(params![box_id, acked.0 as i64, at.0])?;
        }
        Ok(())
    }
}

impl WantedStore for DownLog<'_> {
    /// Only what was found sound.
    fn next_wanted_blob(&self) -> Result<Option<BlobRow>, StoreError> {
        let is_any = fault::is_planted(Fault::UncheckedFileSent);
        let mut statement = self.connection.prepare_cached(
            "SELECT down_file.number, digest, bytes, mime, since_ms, queued
             FROM down_file JOIN blob USING (digest)
             WHERE down_file.box_id = ?1 AND down_file.state = 'wanted'
               AND (blob.state = 'kept' OR ?2)
             ORDER BY down_file.number LIMIT 1",
        )?;
        let found = statement
            .query_row(params![self.box_id()?, is_any], |row| {
                Ok(BlobRow {
                    number: row.get(0)?,
                    digest: Digest(row.get(1)?),
                    bytes: row.get::<_, i64>(2)? as u64,
                    mime: row.get(3)?,
                    stored: UnixMs(row.get(4)?),
                    queued: row.get::<_, i64>(5)? as u64,
                    received: 0,
                    state: BlobState::Waiting,
                    gone: None,
                })
            })
            .optional()?;
        Ok(found)
    }

    fn queued_chunk(
        &mut self,
        file: i64,
        seq: Seq,
        upto: u64,
        is_last: bool,
    ) -> Result<(), StoreError> {
        let box_id = self.box_id()?;
        self.connection
            .prepare_cached("INSERT INTO down_chunk (box_id, seq, file) VALUES (?1, ?2, ?3)")?
            .execute(params![box_id, seq.0 as i64, file])?;
        self.connection
            .prepare_cached(
                "UPDATE down_file SET queued = ?2, last = ?3,
                   state = CASE WHEN ?4 THEN 'queued' ELSE state END WHERE number = ?1",
            )?
            .execute(params![file, upto as i64, seq.0 as i64, is_last])?;
        Ok(())
    }

    fn chunks_under_way(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM down_chunk WHERE box_id = ?1")?
            .query_row([self.box_id()?], |row| row.get(0))?;
        Ok(count as u64)
    }

    fn blob_is_gone(&mut self, digest: Digest, at: UnixMs) -> Result<bool, StoreError> {
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE down_file SET state = 'gone', since_ms = ?3
                 WHERE box_id = ?1 AND digest = ?2 AND state <> 'gone'",
            )?
            .execute(params![self.box_id()?, digest.0, at.0])?;
        Ok(changed == 1)
    }
}
