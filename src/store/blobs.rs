//! The box's attachments as its store knows them: which are to be sent, how far their chunks are
//! queued and received, and who names them. The content lies in files beside the store.

use rusqlite::{Row, params};

use super::StoreError;
use super::edge::EdgeStore;
use super::edge_status::EdgeView;
use crate::model::chunk::Digest;
use crate::model::{Lane, Seq, UnixMs};

/// An attachment that a record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    pub number: i64,
    pub digest: Digest,
    pub bytes: u64,
    pub mime: String,
    /// When the first record that names it was accepted.
    pub stored: UnixMs,
    /// Bytes whose chunks are entries.
    pub queued: u64,
    /// Bytes whose chunks have their receipt.
    pub received: u64,
    pub state: BlobState,
    /// When its content was found to be missing or damaged.
    pub gone: Option<UnixMs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// Some of its chunks are no entries yet.
    Waiting,
    /// All of its chunks are entries.
    Queued,
    /// All of its chunks have their receipt.
    Received,
}

impl BlobState {
    const ALL: [BlobState; 3] = [BlobState::Waiting, BlobState::Queued, BlobState::Received];

    pub fn as_str(self) -> &'static str {
        match self {
            BlobState::Waiting => "waiting",
            BlobState::Queued => "queued",
            BlobState::Received => "received",
        }
    }

    fn parse(text: &str) -> Result<BlobState, StoreError> {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == text)
            .ok_or(StoreError::Damaged)
    }
}

const COLUMNS: &str = "number, digest, bytes, mime, stored_ms, queued, received, state, gone_ms";

/// A sender's store of which contents are to be sent.
pub trait WantedStore {
    /// The oldest attachment of which some chunks are no entries yet.
    fn next_wanted_blob(&self) -> Result<Option<BlobRow>, StoreError>;
    /// A chunk that ends at `upto` is the entry `seq` of P4; `is_last`: no other follows it.
    fn queued_chunk(
        &mut self,
        blob: i64,
        seq: Seq,
        upto: u64,
        is_last: bool,
    ) -> Result<(), StoreError>;
    /// How many chunks are entries without a receipt.
    fn chunks_under_way(&self) -> Result<u64, StoreError>;
    /// The content was found to be missing or damaged; says whether this is news.
    fn blob_is_gone(&mut self, digest: Digest, at: UnixMs) -> Result<bool, StoreError>;
}

impl EdgeStore {
    pub fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM blob WHERE digest = ?1"))?;
        let mut rows = statement.query([digest.0])?;
        rows.next()?.map(blob_row).transpose()
    }

    /// A record names this content: it is to be sent, unless it was already, or found gone since.
    pub fn want_blob(
        &mut self,
        digest: Digest,
        bytes: u64,
        mime: &str,
        at: UnixMs,
    ) -> Result<i64, StoreError> {
        if let Some(known) = self.blob(digest)? {
            if known.gone.is_none() {
                return Ok(known.number);
            }
            // It was put again.
            self.connection.execute(
                "UPDATE blob SET bytes = ?2, queued = 0, received = 0, last = NULL, gone_ms = NULL,
                   state = 'waiting' WHERE number = ?1",
                params![known.number, bytes as i64],
            )?;
            return Ok(known.number);
        }
        self.connection
            .prepare_cached(
                "INSERT INTO blob (digest, bytes, mime, stored_ms, queued, received, state)
                 VALUES (?1, ?2, ?3, ?4, 0, 0, 'waiting')",
            )?
            .execute(params![digest.0, bytes as i64, mime, at.0])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// The record with this number names the attachment.
    pub fn refer_to_blob(&mut self, blob: i64, lane: Lane, seq: Seq) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO blob_ref (blob, lane, seq) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![blob, lane.index() as i64, seq.0 as i64])?;
        Ok(())
    }

    /// The hub has P4 up to `acked`.
    pub fn chunks_received(&mut self, acked: Seq) -> Result<(), StoreError> {
        let acked = acked.0 as i64;
        self.connection
            .prepare_cached(
                "UPDATE blob SET received = (SELECT max(upto) FROM blob_chunk
                    WHERE blob = blob.number AND seq <= ?1)
                 WHERE number IN (SELECT blob FROM blob_chunk WHERE seq <= ?1)",
            )?
            .execute([acked])?;
        self.connection
            .prepare_cached("DELETE FROM blob_chunk WHERE seq <= ?1")?
            .execute([acked])?;
        self.connection
            .prepare_cached(
                "UPDATE blob SET state = 'received', received = queued
                 WHERE state = 'queued' AND last <= ?1",
            )?
            .execute([acked])?;
        Ok(())
    }

    /// The hub has P4 only up to `acked`: the chunks behind that are sent again.
    pub fn chunks_taken_back(&mut self, acked: Seq) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE blob SET received = 0, state = CASE WHEN state = 'received' THEN 'queued'
               ELSE state END WHERE ?1 < last",
            [acked.0 as i64],
        )?;
        Ok(())
    }

    /// Forgets at most `rows_max` attachments that the hub has and that no record without a receipt
    /// names, the oldest first: those whose chunks have left the kept tail, or any of them. Returns
    /// their names, so that the files can go after the commit.
    pub fn forget_blobs(&mut self, any: bool, rows_max: usize) -> Result<Vec<Digest>, StoreError> {
        let found: Vec<(i64, [u8; 32])> = {
            let mut statement = self.connection.prepare_cached(
                "SELECT number, digest FROM blob WHERE state = 'received'
                   AND (?1 OR last <= (SELECT tail FROM lane WHERE lane = ?2))
                   AND NOT EXISTS (SELECT 1 FROM blob_ref JOIN lane USING (lane)
                     WHERE blob_ref.blob = blob.number AND lane.acked < blob_ref.seq)
                 ORDER BY number LIMIT ?3",
            )?;
            let lane = Lane::P4.index() as i64;
            let rows = statement.query_map(params![any, lane, rows_max as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect::<Result<_, _>>()?
        };
        for (number, _) in &found {
            self.connection
                .prepare_cached("DELETE FROM blob_ref WHERE blob = ?1")?
                .execute([number])?;
            self.connection
                .prepare_cached("DELETE FROM blob WHERE number = ?1")?
                .execute([number])?;
        }
        Ok(found.into_iter().map(|(_, name)| Digest(name)).collect())
    }

    /// Whether a parked row names this content.
    pub fn is_parked_with(&self, digest: Digest) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT 1 FROM parked WHERE attachments IS NOT NULL AND 0 < instr(attachments, ?1)",
        )?;
        Ok(statement.exists([digest.to_string()])?)
    }

    /// Bytes of all attachments that records name.
    pub fn blob_bytes(&self) -> Result<u64, StoreError> {
        let bytes: i64 = self
            .connection
            .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM blob")?
            .query_row([], |row| row.get(0))?;
        Ok(bytes as u64)
    }
}

impl WantedStore for EdgeStore {
    fn next_wanted_blob(&self) -> Result<Option<BlobRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM blob WHERE state = 'waiting' ORDER BY number LIMIT 1"
        ))?;
        let mut rows = statement.query([])?;
        rows.next()?.map(blob_row).transpose()
    }

    fn queued_chunk(
        &mut self,
        blob: i64,
        seq: Seq,
        upto: u64,
        is_last: bool,
    ) -> Result<(), StoreError> {
        let (seq, upto) = (seq.0 as i64, upto as i64);
        self.connection
            .prepare_cached("INSERT INTO blob_chunk (seq, blob, upto) VALUES (?1, ?2, ?3)")?
            .execute([seq, blob, upto])?;
        self.connection
            .prepare_cached(
                "UPDATE blob SET queued = ?2, last = ?3,
                   state = CASE WHEN ?4 THEN 'queued' ELSE state END WHERE number = ?1",
            )?
            .execute(params![blob, upto, seq, is_last])?;
        Ok(())
    }

    fn chunks_under_way(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM blob_chunk")?
            .query_row([], |row| row.get(0))?;
        Ok(count as u64)
    }

    fn blob_is_gone(&mut self, digest: Digest, at: UnixMs) -> Result<bool, StoreError> {
        let changed = self.connection.execute(
            "UPDATE blob SET gone_ms = ?2 WHERE digest = ?1 AND gone_ms IS NULL",
            params![digest.0, at.0],
        )?;
        Ok(changed == 1)
    }
}

/// What waits of the attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFacts {
    /// Without all their receipts.
    pub waiting: u64,
    /// Of these, bytes without a receipt.
    pub waiting_bytes: u64,
    /// When the first record that names the oldest of them was accepted.
    pub oldest: Option<UnixMs>,
    /// Bytes of all that are known, those in the kept tail too.
    pub bytes: u64,
    /// Found missing or damaged.
    pub gone: u64,
    /// Those of which some chunks have a receipt or could have one, oldest first; a few.
    pub under_way: Vec<BlobRow>,
}

/// So many attachments under way are told one by one.
const UNDER_WAY_MAX: usize = 5;

impl EdgeView {
    pub fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM blob WHERE digest = ?1");
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([digest.0])?;
        rows.next()?.map(blob_row).transpose()
    }

    /// Bytes of attachments whose chunks are no entries yet.
    pub fn unqueued_blob_bytes(&self) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(bytes - queued), 0) FROM blob WHERE state = 'waiting'";
        let bytes: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(bytes as u64)
    }

    pub fn blobs(&self) -> Result<BlobFacts, StoreError> {
        let mut facts = self.connection.query_row(
            "SELECT count(*) FILTER (WHERE state <> 'received'),
               coalesce(sum(bytes - received) FILTER (WHERE state <> 'received'), 0),
               min(stored_ms) FILTER (WHERE state <> 'received'),
               coalesce(sum(bytes), 0), count(gone_ms)
             FROM blob",
            [],
            |row| {
                Ok(BlobFacts {
                    waiting: row.get::<_, i64>(0)? as u64,
                    waiting_bytes: row.get::<_, i64>(1)? as u64,
                    oldest: row.get::<_, Option<i64>>(2)?.map(UnixMs),
                    bytes: row.get::<_, i64>(3)? as u64,
                    gone: row.get::<_, i64>(4)? as u64,
                    under_way: Vec::new(),
                })
            },
        )?;
        let sql = format!(
            "SELECT {COLUMNS} FROM blob WHERE state <> 'received' AND last IS NOT NULL
             ORDER BY number LIMIT {UNDER_WAY_MAX}"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            facts.under_way.push(blob_row(row)?);
        }
        Ok(facts)
    }
}

fn blob_row(row: &Row<'_>) -> Result<BlobRow, StoreError> {
    let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
    let state: String = row.get(7)?;
    Ok(BlobRow {
        number: row.get(0)?,
        digest: Digest(row.get(1)?),
        bytes: number(2)?,
        mime: row.get(3)?,
        stored: UnixMs(row.get(4)?),
        queued: number(5)?,
        received: number(6)?,
        state: BlobState::parse(&state)?,
        gone: row.get::<_, Option<i64>>(8)?.map(UnixMs),
    })
}
