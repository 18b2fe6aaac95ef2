//! What the hub knows of attachments, for lists and for the check of what is kept.

use rusqlite::{Row, params};

use super::{Snapshot, number, parsed};
use crate::model::chunk::{Digest, pieces};
use crate::model::limits::CHUNK_BYTES_MAX;
use crate::model::{BoxId, UnixMs};
use crate::store::StoreError;
use crate::store::hub::blobs::BlobState;

/// An attachment, and how much of it has come from the box that sent most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    pub digest: Digest,
    pub bytes: u64,
    pub mime: String,
    pub state: BlobState,
    pub detail: String,
    /// The first box that spoke of it.
    pub box_id: BoxId,
    pub first: UnixMs,
    pub changed: UnixMs,
    pub received: u64,
}

/// How many attachments are in a state, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobCount {
    pub state: BlobState,
    pub blobs: u64,
    pub bytes: u64,
}

/// An attachment on its way to a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobWay {
    pub box_id: BoxId,
    /// As in the table `down_file`.
    pub state: String,
    /// Bytes whose chunks are entries of the box's log.
    pub queued: u64,
    pub since: UnixMs,
}

/// How many chunks of an attachment have come.
pub fn received_pieces(blob: &BlobRow) -> u64 {
    match blob.state {
        BlobState::Kept | BlobState::Checking => pieces(blob.bytes),
        _ => blob.received / CHUNK_BYTES_MAX as u64,
    }
}

const SELECT: &str = "SELECT digest, bytes, mime, state, detail, box_id, first_ms, changed_ms,
    coalesce((SELECT max(received) FROM blob_part WHERE blob_part.digest = blob.digest), 0)
  FROM blob";

impl Snapshot<'_> {
    /// All attachments that this box has sent or named, or all, in the order of their digests.
    pub fn for_each_blob<E: From<StoreError>>(
        &self,
        box_id: Option<&BoxId>,
        state: Option<BlobState>,
        mut each: impl FnMut(BlobRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = format!(
            "{SELECT} WHERE (?1 IS NULL OR box_id = ?1 OR EXISTS (SELECT 1 FROM blob_part
               WHERE blob_part.box_id = ?1 AND blob_part.digest = blob.digest))
             AND (?2 IS NULL OR state = ?2) ORDER BY digest"
        );
        let parameters = params![box_id.map(BoxId::as_str), state.map(BlobState::as_str)];
        self.for_each(&sql, parameters, |row| each(blob_row(row)?))
    }

    pub fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, StoreError> {
        let mut found = None;
        let sql = format!("{SELECT} WHERE digest = ?1");
        self.for_each(&sql, [digest.0], |row| {
            found = Some(blob_row(row)?);
            Ok::<(), StoreError>(())
        })?;
        Ok(found)
    }

    /// Places of the entries that name an attachment, oldest first.
    pub fn blob_places(&self, digest: Digest, rows_max: usize) -> Result<Vec<i64>, StoreError> {
        let mut found = Vec::new();
        let sql = "SELECT place FROM blob_ref WHERE digest = ?1 ORDER BY place LIMIT ?2";
        self.for_each(sql, params![digest.0, rows_max as i64], |row| {
            found.push(row.get(0).map_err(StoreError::from)?);
            Ok::<(), StoreError>(())
        })?;
        Ok(found)
    }

    /// The boxes that an attachment goes to.
    pub fn blob_ways(&self, digest: Digest) -> Result<Vec<BlobWay>, StoreError> {
        let mut found = Vec::new();
        let sql = "SELECT box_id, state, queued, since_ms FROM down_file WHERE digest = ?1
             ORDER BY box_id";
        self.for_each(sql, [digest.0], |row| {
            found.push(BlobWay {
                box_id: parsed(row, 0)?,
                state: row.get(1).map_err(StoreError::from)?,
                queued: number(row, 2)?,
                since: UnixMs(row.get(3).map_err(StoreError::from)?),
            });
            Ok::<(), StoreError>(())
        })?;
        Ok(found)
    }

    pub fn blob_counts(&self) -> Result<Vec<BlobCount>, StoreError> {
        self.rows(
            "SELECT state, count(*), coalesce(sum(bytes), 0) FROM blob GROUP BY state
             ORDER BY state",
            |row| {
                Ok(BlobCount {
                    state: state(row, 0)?,
                    blobs: number(row, 1)?,
                    bytes: number(row, 2)?,
                })
            },
        )
    }
}

fn state(row: &Row<'_>, index: usize) -> Result<BlobState, StoreError> {
    BlobState::parse(super::text(row, index)?).ok_or(StoreError::Damaged)
}

fn blob_row(row: &Row<'_>) -> Result<BlobRow, StoreError> {
    Ok(BlobRow {
        digest: Digest(row.get(0)?),
        bytes: number(row, 1)?,
        mime: row.get(2)?,
        state: state(row, 3)?,
        detail: row.get(4)?,
        box_id: parsed(row, 5)?,
        first: UnixMs(row.get(6)?),
        changed: UnixMs(row.get(7)?),
        received: number(row, 8)?,
    })
}
