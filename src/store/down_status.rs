//! Reads what the box holds of the hub, beside its owner: what the status is made of.
//!
//! Every question reads a bounded number of rows, however much there is.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::copies::compare::{ComparedRow, compared};
use super::down::MIGRATIONS;
use super::files::FileFacts;
use crate::model::compare::LOGS;
use crate::model::handover::highest;
use crate::model::{DatasetId, UnixMs};

/// Documents that are looked at for their statuses, and that are counted as waiting.
const DOCUMENTS_MAX: i64 = 10_000;
/// Commands that are told, newest first.
const COMMANDS_MAX: i64 = 10;
/// Lines of the audit that their results are looked for in.
const AUDIT_MAX: i64 = 1_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownFacts {
    /// When entries last came.
    pub heard: Option<UnixMs>,
    /// Applied since the file was begun.
    pub entries: u64,
    /// Kept because this program does not understand them.
    pub unknown: u64,
    /// Entries of the present epoch that the hub no longer held.
    pub lost: u64,
    pub used_bytes: u64,
    /// By name.
    pub copies: Vec<CopyFacts>,
    /// How the logs were last compared with the hub's.
    pub logs_compared: Option<ComparedRow>,
    pub inbox: InboxFacts,
    pub files: FileFacts,
    /// Newest first.
    pub commands: Vec<CommandFacts>,
}

/// A dataset that the hub lets this office read, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFacts {
    pub dataset: DatasetId,
    /// Hub's time of the last that it said about the dataset.
    pub as_of: UnixMs,
    /// Records on the disk; after a withdrawal those that are still to be deleted.
    pub held: u64,
    /// Of the load that goes on or was the last: subjects at the hub, and how many it has looked at.
    pub subjects: u64,
    pub seen: u64,
    pub complete: bool,
    pub withdrawn: bool,
    /// How it was last compared with the hub's.
    pub compared: Option<ComparedRow>,
}

/// Documents that are addressed to this office.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxFacts {
    /// Not taken over by the office's software.
    pub open: u64,
    /// When the oldest of them came.
    pub oldest: Option<UnixMs>,
    /// How many of the oldest of these have which highest status.
    pub by_status: BTreeMap<String, u64>,
    /// What this office has said that is not yet in the box's own log.
    pub unsaid: u64,
}

/// How one way to the office's software stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WayFacts {
    /// Documents that have not gone out by it, and those of them that were tried in vain.
    pub waiting: u64,
    pub failed: u64,
    /// When it is tried next, and why it failed last.
    pub retry: Option<UnixMs>,
    pub error: Option<String>,
    pub last: Option<UnixMs>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFacts {
    pub id: String,
    pub name: String,
    pub by: String,
    /// waiting, begun, done, failed, expired, refused, unknown
    pub state: String,
    pub received: UnixMs,
    pub since: UnixMs,
    /// What the audit says of it last.
    pub detail: String,
}

/// A short look at the store; none where nothing ever came.
pub struct DownView {
    pub(super) connection: Connection,
}

/// None where nothing ever came.
pub fn read(path: &Path) -> Result<Option<DownFacts>, StoreError> {
    match DownView::open(path)? {
        Some(view) => view.facts(),
        None => Ok(None),
    }
}

impl DownView {
    pub fn open(path: &Path) -> Result<Option<DownView>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let connection = super::open_read_only(path)?;
        if super::known_version(&connection, MIGRATIONS)? < MIGRATIONS.len() {
            return Ok(None);
        }
        // One transaction, so that the numbers belong together.
        connection.execute_batch("BEGIN")?;
        Ok(Some(DownView { connection }))
    }

    pub fn facts(&self) -> Result<Option<DownFacts>, StoreError> {
        let sql = "SELECT heard_ms, (SELECT coalesce(sum(entries), 0) FROM position),
                     (SELECT count(*) FROM unknown),
                     (SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.epoch = down.epoch)
                   FROM down";
        let found: Option<(Option<i64>, i64, i64, i64)> = self
            .connection
            .query_row(sql, [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((heard, entries, unknown, lost)) = found else {
            return Ok(None);
        };
        Ok(Some(DownFacts {
            heard: heard.map(UnixMs),
            entries: entries as u64,
            unknown: unknown as u64,
            lost: lost as u64,
            used_bytes: super::space(&self.connection)?.0,
            copies: self.copies()?,
            logs_compared: compared(&self.connection)?
                .into_iter()
                .find(|row| row.name == LOGS),
            inbox: self.inbox()?,
            files: self.file_facts()?,
            commands: self.commands()?,
        }))
    }

    fn copies(&self) -> Result<Vec<CopyFacts>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT name, as_of_ms, held, subjects, seen, load <= loaded, load < floor
             FROM copied WHERE load <> 0 OR floor <> 0 ORDER BY name",
        )?;
        let compared = compared(&self.connection)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
            let name: String = row.get(0)?;
            found.push(CopyFacts {
                compared: compared.iter().find(|row| row.name == name).cloned(),
                dataset: name.parse().map_err(|_| StoreError::Damaged)?,
                as_of: UnixMs(row.get(1)?),
                held: number(2)?,
                subjects: number(3)?,
                seen: number(4)?,
                complete: row.get(5)?,
                withdrawn: row.get(6)?,
            });
        }
        Ok(found)
    }

    fn inbox(&self) -> Result<InboxFacts, StoreError> {
        let (open, oldest, unsaid) = self.connection.query_row(
            "SELECT (SELECT count(*) FROM document WHERE done_ms IS NULL),
               (SELECT min(received_ms) FROM document WHERE done_ms IS NULL),
               (SELECT count(*) FROM document_status WHERE said = 0)",
            [],
            |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, Option<i64>>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            },
        )?;
        let mut statement = self.connection.prepare(
            "SELECT (SELECT group_concat(code, ' ') FROM document_status
                     WHERE document_status.sender = open.sender AND document_status.id = open.id)
             FROM (SELECT sender, id FROM document WHERE done_ms IS NULL
                   ORDER BY received_ms LIMIT ?1) AS open",
        )?;
        let mut rows = statement.query([DOCUMENTS_MAX])?;
        let mut by_status = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let codes: Option<String> = row.get(0)?;
            let code = highest(codes.as_deref().unwrap_or_default().split(' '));
            *by_status
                .entry(code.unwrap_or_default().to_owned())
                .or_insert(0) += 1;
        }
        Ok(InboxFacts {
            open: open as u64,
            oldest: oldest.map(UnixMs),
            by_status,
            unsaid: unsaid as u64,
        })
    }

    /// How documents go out by the way of that name.
    pub fn way(&self, inbox: &str) -> Result<WayFacts, StoreError> {
        // Documents go out oldest first: above the last that was tried nothing was tried.
        let facts = self.connection.query_row(
            "SELECT count(*), min(retry_ms),
               (SELECT count(*) FROM (SELECT 1 FROM document WHERE document >
                  (SELECT coalesce(max(document), 0) FROM handed WHERE inbox = ?1) LIMIT ?2)),
               (SELECT error FROM handed WHERE inbox = ?1 AND done_ms IS NULL
                ORDER BY document LIMIT 1),
               (SELECT done_ms FROM handed WHERE inbox = ?1 ORDER BY document DESC LIMIT 1)
             FROM handed WHERE inbox = ?1 AND done_ms IS NULL",
            params![inbox, DOCUMENTS_MAX],
            |row| {
                let failed = row.get::<_, i64>(0)? as u64;
                Ok(WayFacts {
                    waiting: failed + row.get::<_, i64>(2)? as u64,
                    failed,
                    retry: row.get::<_, Option<i64>>(1)?.map(UnixMs),
                    error: row.get(3)?,
                    last: row.get::<_, Option<i64>>(4)?.map(UnixMs),
                })
            },
        )?;
        Ok(facts)
    }

    fn commands(&self) -> Result<Vec<CommandFacts>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT id, command ->> 'name', command ->> 'by', state, received_ms, state_ms,
               (SELECT substr(detail, 1, 1000) FROM audit
                WHERE (SELECT max(number) FROM audit) - ?2 < audit.number
                  AND audit.what = 'command' AND audit.id = command.id
                ORDER BY audit.number DESC LIMIT 1)
             FROM command ORDER BY number DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([COMMANDS_MAX, AUDIT_MAX], |row| {
            Ok(CommandFacts {
                id: row.get(0)?,
                name: row.get(1)?,
                by: row.get(2)?,
                state: row.get(3)?,
                received: UnixMs(row.get(4)?),
                since: UnixMs(row.get(5)?),
                detail: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
