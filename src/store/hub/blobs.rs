//! Attachments as the hub's store knows them: what records name, how much of it has come from whom,
//! and what became of it. The content lies in files beside the store.

use rusqlite::{OptionalExtension, Row, params};

use super::HubStore;
use crate::model::chunk::{Chunk, Digest};
use crate::model::{BoxId, UnixMs};
use crate::store::StoreError;

/// What became of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobState {
    /// A record names it, and nothing of it has come.
    Expected,
    /// Some of its chunks are here.
    Receiving,
    /// All of it is here and is being checked.
    Checking,
    /// It is what its digest says, and is kept.
    Kept,
    /// It is not what its digest says, or a scanner has found something in it.
    Quarantined,
    /// The box no longer had it, or a chunk was lost.
    Lost,
}

impl BlobState {
    pub const ALL: [BlobState; 6] = [
        BlobState::Expected,
        BlobState::Receiving,
        BlobState::Checking,
        BlobState::Kept,
        BlobState::Quarantined,
        BlobState::Lost,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            BlobState::Expected => "expected",
            BlobState::Receiving => "receiving",
            BlobState::Checking => "checking",
            BlobState::Kept => "kept",
            BlobState::Quarantined => "quarantined",
            BlobState::Lost => "lost",
        }
    }

    pub fn parse(text: &str) -> Option<BlobState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a box has sent of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub bytes: u64,
    pub received: u64,
    pub state: BlobState,
}

/// A content that has come whole and waits to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchecked {
    pub box_id: BoxId,
    pub digest: Digest,
    pub bytes: u64,
}

impl HubStore {
    pub fn blob_state(&self, digest: Digest) -> Result<Option<BlobState>, StoreError> {
        let found: Option<String> = self
            .connection
            .prepare_cached("SELECT state FROM blob WHERE digest = ?1")?
            .query_row([digest.0], |row| row.get(0))
            .optional()?;
        found
            .map(|text| BlobState::parse(&text).ok_or(StoreError::Damaged))
            .transpose()
    }

    /// A record of this box names an attachment.
    pub fn expect_blob(
        &mut self,
        box_id: &BoxId,
        digest: Digest,
        bytes: u64,
        mime: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO blob (digest, bytes, mime, state, detail, box_id, first_ms, changed_ms)
                 VALUES (?1, ?2, ?3, 'expected', '', ?4, ?5, ?5)
                 ON CONFLICT (digest) DO UPDATE SET mime = excluded.mime WHERE mime = ''",
            )?
            .execute(params![digest.0, bytes as i64, mime, box_id.as_str(), at.0])?;
        Ok(())
    }

    pub fn part(&self, box_id: &BoxId, digest: Digest) -> Result<Option<Part>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT bytes, received, state FROM blob_part WHERE box_id = ?1 AND digest = ?2",
        )?;
        let mut rows = statement.query(params![box_id.as_str(), digest.0])?;
        rows.next()?.map(part_row).transpose()
    }

    /// How far a box has sent a content, and what that makes of the content.
    pub fn set_part(
        &mut self,
        box_id: &BoxId,
        chunk: &Chunk,
        received: u64,
        state: BlobState,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let (digest, bytes) = (chunk.blob, chunk.bytes as i64);
        self.connection
            .prepare_cached(
                "INSERT INTO blob_part (box_id, digest, bytes, received, state, first_ms, last_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT (box_id, digest) DO UPDATE SET bytes = excluded.bytes,
                   received = excluded.received, state = excluded.state,
                   last_ms = excluded.last_ms",
            )?
            .execute(params![
                box_id.as_str(),
                digest.0,
                bytes,
                received as i64,
                state.as_str(),
                at.0
            ])?;
        self.expect_blob(box_id, digest, chunk.bytes, "", at)?;
        self.set_blob_state(digest, state, "", at)
    }

    /// What is kept stays kept, whatever else comes.
    fn set_blob_state(
        &mut self,
        digest: Digest,
        state: BlobState,
        detail: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE blob SET state = ?2, detail = ?3, changed_ms = ?4
                 WHERE digest = ?1 AND state <> 'kept' AND state <> ?2",
            )?
            .execute(params![digest.0, state.as_str(), detail, at.0])?;
        Ok(())
    }

    /// Contents that have come whole, oldest first.
    pub fn unchecked_blobs(&self, rows_max: usize) -> Result<Vec<Unchecked>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT box_id, digest, bytes FROM blob_part WHERE state = 'checking'
             ORDER BY last_ms LIMIT ?1",
        )?;
        let mut rows = statement.query([rows_max as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Unchecked {
                box_id: row
                    .get::<_, String>(0)?
                    .parse()
                    .map_err(|_| StoreError::Damaged)?,
                digest: Digest(row.get(1)?),
                bytes: row.get::<_, i64>(2)? as u64,
            });
        }
        Ok(found)
    }

    /// What the check has found: `kept` or `quarantined`, with the reason.
    pub fn settle_blob(
        &mut self,
        unchecked: &Unchecked,
        state: BlobState,
        detail: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.begin()?;
        self.connection.execute(
            "UPDATE blob_part SET state = ?3 WHERE box_id = ?1 AND digest = ?2",
            params![
                unchecked.box_id.as_str(),
                unchecked.digest.0,
                state.as_str()
            ],
        )?;
        self.set_blob_state(unchecked.digest, state, detail, at)?;
        if state == BlobState::Kept {
            // As its file has, whatever the first record has said.
            self.connection.execute(
                "UPDATE blob SET bytes = ?2 WHERE digest = ?1",
                params![unchecked.digest.0, unchecked.bytes as i64],
            )?;
        }
        self.commit()
    }
}

fn part_row(row: &Row<'_>) -> Result<Part, StoreError> {
    let state: String = row.get(2)?;
    Ok(Part {
        bytes: row.get::<_, i64>(0)? as u64,
        received: row.get::<_, i64>(1)? as u64,
        state: BlobState::parse(&state).ok_or(StoreError::Damaged)?,
    })
}
