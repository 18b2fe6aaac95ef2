//! Documents that are addressed to this office, and what became of those that it has received or
//! sent. The owner of the down store takes them in; [`Inbox`] serves the office's software beside it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::StoreError;
use super::down::{DownStore, MIGRATIONS};
use crate::model::down::{Document, DocumentStatus};
use crate::model::{AgencyCode, DatasetId, RecordId, UnixMs};

/// Is said by the box itself as soon as a document is on its disk.
const ARRIVED: &str = "01";

/// A document, without its original bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    pub document: i64,
    pub id: RecordId,
    pub dataset: DatasetId,
    pub schema: u32,
    pub subject: String,
    pub sender: AgencyCode,
    pub recipient: String,
    pub at: UnixMs,
    pub received: UnixMs,
    /// JSON
    pub attachments: Option<String>,
    pub data: String,
    pub has_original: bool,
    pub done: Option<UnixMs>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    pub code: String,
    /// None: this office.
    pub by: Option<AgencyCode>,
    pub at: UnixMs,
    pub note: String,
}

/// A status of ours that the hub does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaid {
    pub status: i64,
    pub sender: AgencyCode,
    pub id: RecordId,
    pub code: String,
    pub at: UnixMs,
    pub note: String,
    /// Of what this office says as the document's sender: to whom; else empty.
    pub to: String,
}

impl DownStore {
    /// A repeat is harmless.
    pub(super) fn apply_document(
        &mut self,
        document: &Document,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let attachments = match document.attachments.is_empty() {
            true => None,
            false => Some(serde_json::to_string(&document.attachments).expect("plain JSON")),
        };
        let added = self
            .connection
            .prepare_cached(
                "INSERT INTO document (id, dataset, schema, subject, sender, recipient, at_ms,
                   received_ms, attachments, data, original)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                document.id.as_str(),
                document.dataset.as_str(),
                document.schema,
                document.subject.as_str(),
                document.from.as_str(),
                document.to.as_str(),
                document.at.0,
                now.0,
                attachments,
                document.data.get(),
                document.original
            ])?;
        if added == 1 {
            let number = self.connection.last_insert_rowid();
            self.name_files(number, &document.attachments, now)?;
            let (sender, id) = (document.from.as_str(), document.id.as_str());
            add_status(
                &self.connection,
                (sender, id),
                (ARRIVED, ""),
                Who::Us(""),
                now,
            )?;
        }
        Ok(())
    }

    pub(super) fn apply_status(&mut self, status: &DocumentStatus) -> Result<(), StoreError> {
        let document = (status.from.as_str(), status.document.as_str());
        let said = (status.code.as_str(), status.note.as_str());
        let who = Who::Other(status.by.as_str());
        add_status(&self.connection, document, said, who, status.at)?;
        Ok(())
    }
}

/// Who says something of a document.
#[derive(Clone, Copy)]
enum Who<'a> {
    /// This office, to another one when it is the sender: to be handed in as a record.
    Us(&'a str),
    Other(&'a str),
}

/// False: this was said already.
fn add_status(
    connection: &Connection,
    (sender, id): (&str, &str),
    (code, note): (&str, &str),
    who: Who<'_>,
    at: UnixMs,
) -> Result<bool, StoreError> {
    let (by, said_to, said) = match who {
        Who::Us(to) => ("", to, false),
        Who::Other(by) => (by, "", true),
    };
    let added = connection
        .prepare_cached(
            "INSERT INTO document_status (sender, id, code, by, at_ms, note, said_to, said)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![sender, id, code, by, at.0, note, said_to, said])?;
    Ok(added == 1)
}

/// The documents, for whoever works with them; a connection of its own.
pub struct Inbox {
    pub(super) connection: Connection,
}

impl Inbox {
    /// Opens the store, which its owner has made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA cache_size = -256; PRAGMA trusted_schema = OFF;
             PRAGMA secure_delete = ON;",
        )?;
        let known = MIGRATIONS.len() as i64;
        match connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? {
            found if known < found => Err(StoreError::Newer { found, known }),
            0 => Err(StoreError::Damaged),
            _ => Ok(Self { connection }),
        }
    }

    // === Documents ===

    /// Those after a number, in the order in which they came; `open`: only those that are not done.
    pub fn documents(
        &self,
        after: i64,
        open: bool,
        limit: u32,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{DOCUMENTS} WHERE ?1 < document AND (NOT ?2 OR done_ms IS NULL)
             ORDER BY document LIMIT ?3"
        ))?;
        let mut rows = statement.query(params![after, open, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(document(row)?);
        }
        Ok(found)
    }

    pub fn document(&self, number: i64) -> Result<Option<DocumentRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{DOCUMENTS} WHERE document = ?1"))?;
        let mut rows = statement.query([number])?;
        rows.next()?.map(document).transpose()
    }

    /// Base64, as it came.
    pub fn original(&self, number: i64) -> Result<Option<String>, StoreError> {
        let found: Option<Option<String>> = self
            .connection
            .prepare_cached("SELECT original FROM document WHERE document = ?1")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        Ok(found.flatten())
    }

    /// How many came, and how many of them are not done.
    pub fn counts(&self) -> Result<(u64, u64), StoreError> {
        let counts = self.connection.query_row(
            "SELECT count(*), count(*) - count(done_ms) FROM document",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )?;
        Ok((counts.0 as u64, counts.1 as u64))
    }

    /// The office's software has taken the document over; a repeat changes nothing. False: there is
    /// no such document.
    pub fn done(&mut self, number: i64, at: UnixMs) -> Result<bool, StoreError> {
        let changed = self.connection.execute(
            "UPDATE document SET done_ms = coalesce(done_ms, ?2) WHERE document = ?1",
            params![number, at.0],
        )?;
        Ok(changed == 1)
    }

    // === Statuses ===

    /// By time.
    pub fn statuses(
        &self,
        sender: &AgencyCode,
        id: &RecordId,
    ) -> Result<Vec<StatusRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT code, by, at_ms, note FROM document_status WHERE sender = ?1 AND id = ?2
             ORDER BY at_ms, status",
        )?;
        let mut rows = statement.query([sender.as_str(), id.as_str()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let by: String = row.get(1)?;
            found.push(StatusRow {
                code: row.get(0)?,
                by: match by.is_empty() {
                    true => None,
                    false => Some(by.parse().map_err(|_| StoreError::Damaged)?),
                },
                at: UnixMs(row.get(2)?),
                note: row.get(3)?,
            });
        }
        Ok(found)
    }

    /// What this office says of a document, `to` another when it is the sender; it is handed in as a record soon after. False: it has
    /// said so before.
    pub fn say(
        &mut self,
        sender: &AgencyCode,
        id: &RecordId,
        to: &str,
        said: (&str, &str),
        at: UnixMs,
    ) -> Result<bool, StoreError> {
        let document = (sender.as_str(), id.as_str());
        add_status(&self.connection, document, said, Who::Us(to), at)
    }

    pub fn unsaid(&self, limit: u32) -> Result<Vec<Unsaid>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT status, sender, id, code, at_ms, note, said_to FROM document_status
             WHERE said = 0 ORDER BY status LIMIT ?1",
        )?;
        let mut rows = statement.query([limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Unsaid {
                status: row.get(0)?,
                sender: parsed(row, 1)?,
                id: parsed(row, 2)?,
                code: row.get(3)?,
                at: UnixMs(row.get(4)?),
                note: row.get(5)?,
                to: row.get(6)?,
            });
        }
        Ok(found)
    }

    /// The box's store has committed the record.
    pub fn was_said(&mut self, status: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE document_status SET said = 1 WHERE status = ?1")?
            .execute([status])?;
        Ok(())
    }

    // === Out to the office's software ===

    /// Documents that are to go out by this way now, oldest first: those that lack no file that may
    /// still come.
    pub fn to_hand(
        &self,
        inbox: &str,
        now: UnixMs,
        limit: u32,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{DOCUMENTS} LEFT JOIN handed
               ON handed.inbox = ?1 AND handed.document = document.document
             WHERE handed.done_ms IS NULL AND coalesce(retry_ms, 0) <= ?2
               AND NOT EXISTS (SELECT 1 FROM document_file JOIN file USING (digest)
                 WHERE document_file.document = document.document
                   AND file.state NOT IN ('kept', 'refused'))
             ORDER BY document.document LIMIT ?3"
        ))?;
        let mut rows = statement.query(params![inbox, now.0, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(document(row)?);
        }
        Ok(found)
    }

    pub fn was_handed(&mut self, inbox: &str, number: i64, at: UnixMs) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO handed (inbox, document, done_ms, tries, retry_ms, error)
             VALUES (?1, ?2, ?3, 1, 0, '')
             ON CONFLICT (inbox, document) DO UPDATE SET done_ms = excluded.done_ms,
               tries = tries + 1, error = ''",
            params![inbox, number, at.0],
        )?;
        Ok(())
    }

    /// Returns how often it was tried.
    pub fn was_not_handed(
        &mut self,
        inbox: &str,
        number: i64,
        retry: UnixMs,
        error: &str,
    ) -> Result<u64, StoreError> {
        let tries: i64 = self.connection.query_row(
            "INSERT INTO handed (inbox, document, tries, retry_ms, error) VALUES (?1, ?2, 1, ?3, ?4)
             ON CONFLICT (inbox, document) DO UPDATE SET tries = tries + 1,
               retry_ms = excluded.retry_ms, error = excluded.error
             RETURNING tries",
            params![inbox, number, retry.0, error],
            |row| row.get(0),
        )?;
        Ok(tries as u64)
    }

    /// How often the document was tried by this way.
    pub fn tries(&self, inbox: &str, number: i64) -> Result<u64, StoreError> {
        let tries: Option<i64> = self
            .connection
            .prepare_cached("SELECT tries FROM handed WHERE inbox = ?1 AND document = ?2")?
            .query_row(params![inbox, number], |row| row.get(0))
            .optional()?;
        Ok(tries.unwrap_or(0) as u64)
    }
}

const DOCUMENTS: &str = "SELECT document.document, id, dataset, schema, subject, sender, recipient,
    at_ms, received_ms, attachments, data, original IS NOT NULL, document.done_ms FROM document";

fn document(row: &Row<'_>) -> Result<DocumentRow, StoreError> {
    Ok(DocumentRow {
        document: row.get(0)?,
        id: parsed(row, 1)?,
        dataset: parsed(row, 2)?,
        schema: row.get(3)?,
        subject: row.get(4)?,
        sender: parsed(row, 5)?,
        recipient: row.get(6)?,
        at: UnixMs(row.get(7)?),
        received: UnixMs(row.get(8)?),
        attachments: row.get(9)?,
        data: row.get(10)?,
        has_original: row.get(11)?,
        done: row.get::<_, Option<i64>>(12)?.map(UnixMs),
    })
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    let text: String = row.get(index)?;
    text.parse().map_err(|_| StoreError::Damaged)
}

#[cfg(test)]
mod tests;
