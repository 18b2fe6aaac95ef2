//! Files that come down with documents, as the box's store knows them: how much of each has come,
//! what became of it, and when it may go. The content lies in files beside the store.

use rusqlite::{Connection, Row, params};

use super::StoreError;
use super::down::DownStore;
use super::down_status::DownView;
use super::inbox::Inbox;
use crate::model::chunk::{Chunk, Digest};
use crate::model::record::Attachment;
use crate::model::{Epoch, Lane, Seq, UnixMs};

/// The hub is asked for a file of which nothing has come for so long, and then again.
const ASK_AFTER_MS: i64 = 3_600_000;
const ASK_AGAIN_MS: i64 = 6 * 3_600_000;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// A document names it, and nothing of it has come.
    Waiting,
    Receiving,
    /// All of it is here and is being checked.
    Checking,
    /// It is what its digest says.
    Kept,
    /// The hub says that it will not come.
    Refused,
    /// What came is of no use; it is asked for again.
    Lost,
    /// There was no room for it; it is asked for again.
    Full,
    /// Its documents are done and its time is over.
    Removed,
}

impl FileState {
    const ALL: [FileState; 8] = [
        FileState::Waiting,
        FileState::Receiving,
        FileState::Checking,
        FileState::Kept,
        FileState::Refused,
        FileState::Lost,
        FileState::Full,
        FileState::Removed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            FileState::Waiting => "waiting",
            FileState::Receiving => "receiving",
            FileState::Checking => "checking",
            FileState::Kept => "kept",
            FileState::Refused => "refused",
            FileState::Lost => "lost",
            FileState::Full => "full",
            FileState::Removed => "removed",
        }
    }

    fn parse(text: &str) -> Result<FileState, StoreError> {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == text)
            .ok_or(StoreError::Damaged)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRow {
    pub digest: Digest,
    pub bytes: u64,
    /// From the beginning up to here.
    pub received: u64,
    pub state: FileState,
    pub changed: UnixMs,
}

/// What there is of files, and what is still to come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileFacts {
    /// Named by documents, and not whole yet.
    pub coming: u64,
    /// Bytes of these that have not come.
    pub coming_bytes: u64,
    /// Since when the one waits that has waited longest.
    pub oldest: Option<UnixMs>,
    pub kept: u64,
    /// Bytes that all files take here.
    pub bytes: u64,
    /// Those for which there was no room.
    pub full: u64,
    /// Those that the hub says will not come.
    pub refused: u64,
    /// Some of those that are coming, oldest first.
    pub under_way: Vec<FileRow>,
}

const COLUMNS: &str = "digest, bytes, received, state, changed_ms";
/// States in which a file takes room here.
const HERE: &str = "('receiving', 'checking', 'kept')";
/// So many files on their way are told one by one.
const UNDER_WAY_MAX: usize = 5;

impl DownStore {
    /// A document names these files.
    pub(super) fn name_files(
        &mut self,
        document: i64,
        files: &[Attachment],
        now: UnixMs,
    ) -> Result<(), StoreError> {
        for file in files {
            let Ok(Digest(digest)) = file.sha256.parse() else {
                continue;
            };
            self.connection
                .prepare_cached(
                    "INSERT INTO file (digest, bytes, received, state, changed_ms, ask_ms)
                     VALUES (?1, ?2, 0, 'waiting', ?3, ?4)
                     ON CONFLICT (digest) DO UPDATE SET state = 'waiting', received = 0,
                       changed_ms = ?3, ask_ms = CASE WHEN state = 'removed' THEN ?3 ELSE ?4 END
                     WHERE state IN ('removed', 'refused')",
                )?
                .execute(params![
                    digest,
                    file.bytes as i64,
                    now.0,
                    now.0 + ASK_AFTER_MS
                ])?;
            self.connection
                .prepare_cached(
                    "INSERT INTO document_file (digest, document) VALUES (?1, ?2)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![digest, document])?;
        }
        Ok(())
    }

    pub fn file(&self, digest: Digest) -> Result<Option<FileRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM file WHERE digest = ?1"))?;
        let mut rows = statement.query([digest.0])?;
        rows.next()?.map(file_row).transpose()
    }

    /// Bytes that all files take here, or will when they are whole, without this one.
    pub fn file_bytes_beside(&self, digest: Digest) -> Result<u64, StoreError> {
        let bytes: i64 = self
            .connection
            .prepare_cached(&format!(
                "SELECT coalesce(sum(bytes), 0) FROM file WHERE state IN {HERE} AND digest <> ?1"
            ))?
            .query_row([digest.0], |row| row.get(0))?;
        Ok(bytes as u64)
    }

    /// How far a file has come.
    pub fn set_file(
        &mut self,
        chunk: &Chunk,
        received: u64,
        state: FileState,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let ask = match state {
            FileState::Lost => now.0,
            FileState::Full => i64::MAX,
            _ => now.0 + ASK_AFTER_MS,
        };
        self.connection
            .prepare_cached(
                "INSERT INTO file (digest, bytes, received, state, changed_ms, ask_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes,
                   received = excluded.received, changed_ms = excluded.changed_ms,
                   ask_ms = CASE WHEN state = 'lost' AND excluded.state = 'lost' THEN ask_ms
                     ELSE excluded.ask_ms END,
                   state = excluded.state",
            )?
            .execute(params![
                chunk.blob.0,
                chunk.bytes as i64,
                received as i64,
                state.as_str(),
                now.0,
                ask
            ])?;
        Ok(())
    }

    /// The hub says that a file will not come.
    pub(super) fn refuse_file(&mut self, digest: Digest, now: UnixMs) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE file SET state = 'refused', changed_ms = ?2
                 WHERE digest = ?1 AND state NOT IN ('kept', 'checking', 'removed')",
            )?
            .execute(params![digest.0, now.0])?;
        Ok(())
    }
}

impl Inbox {
    pub fn file(&self, digest: Digest) -> Result<Option<FileRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM file WHERE digest = ?1"))?;
        let mut rows = statement.query([digest.0])?;
        rows.next()?.map(file_row).transpose()
    }

    /// Files that have come whole and wait to be checked, oldest first.
    pub fn unchecked_files(&self, rows_max: usize) -> Result<Vec<FileRow>, StoreError> {
        self.files_where("state = 'checking' ORDER BY changed_ms", rows_max)
    }

    /// What the check has found.
    pub fn settle_file(
        &mut self,
        digest: Digest,
        state: FileState,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE file SET state = ?2, changed_ms = ?3, ask_ms = ?3
             WHERE digest = ?1 AND state = 'checking'",
            params![digest.0, state.as_str(), now.0],
        )?;
        Ok(())
    }

    /// Lets files go whose documents were all done before `done_before`, and files that no document
    /// has named since `orphan_before`; the content is removed afterwards.
    pub fn remove_files(
        &mut self,
        done_before: UnixMs,
        orphan_before: UnixMs,
        now: UnixMs,
        rows_max: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "UPDATE file SET state = 'removed', changed_ms = ?3 WHERE digest IN (
               SELECT digest FROM file WHERE state IN ('kept', 'receiving')
                 AND coalesce((SELECT max(coalesce(document.done_ms, 9223372036854775807))
                     FROM document_file JOIN document USING (document)
                     WHERE document_file.digest = file.digest) < ?1, changed_ms < ?2)
               ORDER BY changed_ms LIMIT ?4)
             RETURNING digest",
        )?;
        let rows = statement.query_map(
            params![done_before.0, orphan_before.0, now.0, rows_max as i64],
            |row| Ok(Digest(row.get(0)?)),
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether some file found no room.
    pub fn has_full_files(&self) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM file WHERE state = 'full'")?
            .exists([])?)
    }

    /// Files that found no room and would find it now are asked for; oldest first.
    pub fn make_use_of_room(&mut self, bytes_max: u64, now: UnixMs) -> Result<(), StoreError> {
        let mut bytes = self.file_bytes()?;
        for file in self.files_where("state = 'full' ORDER BY changed_ms", 100)? {
            bytes += file.bytes;
            if bytes_max < bytes {
                break;
            }
            self.connection.execute(
                "UPDATE file SET state = 'waiting', ask_ms = ?2, changed_ms = ?2
                 WHERE digest = ?1 AND state = 'full'",
                params![file.digest.0, now.0],
            )?;
        }
        Ok(())
    }

    /// Files that a document which is not done lacks, and for which the hub is to be asked now. After a
    /// clock that was set back none waits longer than between two times.
    pub fn files_to_ask(&self, now: UnixMs, rows_max: usize) -> Result<Vec<FileRow>, StoreError> {
        let due = format!(
            "state IN ('waiting', 'receiving', 'lost') AND NOT ask_ms BETWEEN {} AND {} AND EXISTS (
               SELECT 1 FROM document_file JOIN document USING (document)
               WHERE document_file.digest = file.digest AND document.done_ms IS NULL)
             ORDER BY changed_ms",
            now.0 + 1,
            now.0 + ASK_AGAIN_MS
        );
        self.files_where(&due, rows_max)
    }

    /// Up to where the log in which files travel is applied here.
    pub fn chunks_applied(&self) -> Result<Option<(Epoch, Seq)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT position.epoch, applied FROM position JOIN down USING (epoch) WHERE lane = ?1",
        )?;
        let mut rows = statement.query([Lane::P4.index() as i64])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
        Ok(Some((Epoch(number(0)?), Seq(number(1)?))))
    }

    /// Notes in one transaction that the hub is asked for a file, and what it is to hear.
    pub fn ask_for(&mut self, digest: Digest, answer: &str, now: UnixMs) -> Result<(), StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        transaction.execute(
            "UPDATE file SET ask_ms = ?2 WHERE digest = ?1",
            params![digest.0, now.0 + ASK_AGAIN_MS],
        )?;
        transaction.execute(
            "INSERT INTO answer (id, answer) VALUES (?1, ?2)",
            params![format!("file/{digest}/{}", now.0), answer],
        )?;
        Ok(transaction.commit()?)
    }

    /// Bytes that all files take here, or will when they are whole.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        let bytes: i64 = self
            .connection
            .prepare_cached(&format!(
                "SELECT coalesce(sum(bytes), 0) FROM file WHERE state IN {HERE}"
            ))?
            .query_row([], |row| row.get(0))?;
        Ok(bytes as u64)
    }

    fn files_where(&self, condition: &str, rows_max: usize) -> Result<Vec<FileRow>, StoreError> {
        files_where(&self.connection, condition, rows_max)
    }
}

impl DownView {
    pub fn file_facts(&self) -> Result<FileFacts, StoreError> {
        const COMING: &str = "state IN ('waiting', 'receiving', 'checking', 'lost', 'full')";
        let mut facts = self.connection.query_row(
            &format!(
                "SELECT count(*) FILTER (WHERE {COMING}),
                   coalesce(sum(bytes - min(received, bytes)) FILTER (WHERE {COMING}), 0),
                   (SELECT min(received_ms) FROM document_file JOIN document USING (document)
                    JOIN file USING (digest) WHERE {COMING}),
                   count(*) FILTER (WHERE state = 'kept'),
                   coalesce(sum(bytes) FILTER (WHERE state IN {HERE}), 0),
                   count(*) FILTER (WHERE state = 'full'),
                   count(*) FILTER (WHERE state = 'refused')
                 FROM file"
            ),
            [],
            |row| {
                let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
                Ok(FileFacts {
                    coming: number(0)?,
                    coming_bytes: number(1)?,
                    oldest: row.get::<_, Option<i64>>(2)?.map(UnixMs),
                    kept: number(3)?,
                    bytes: number(4)?,
                    full: number(5)?,
                    refused: number(6)?,
                    under_way: Vec::new(),
                })
            },
        )?;
        facts.under_way = files_where(
            &self.connection,
            &format!("{COMING} ORDER BY changed_ms"),
            UNDER_WAY_MAX,
        )?;
        Ok(facts)
    }
}

fn files_where(
    connection: &Connection,
    condition: &str,
    rows_max: usize,
) -> Result<Vec<FileRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM file WHERE {condition} LIMIT {rows_max}");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(file_row(row)?);
    }
    Ok(found)
}

fn file_row(row: &Row<'_>) -> Result<FileRow, StoreError> {
    let state: String = row.get(3)?;
    Ok(FileRow {
        digest: Digest(row.get(0)?),
        bytes: row.get::<_, i64>(1)? as u64,
        received: row.get::<_, i64>(2)? as u64,
        state: FileState::parse(&state)?,
        changed: UnixMs(row.get(4)?),
    })
}
