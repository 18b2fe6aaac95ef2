//! What the hub orders: catalogues and commands, as the box keeps them in its store of the downlink.
//!
//! An entry is only written down in the transaction that moves its log's position. What it asks for
//! is done afterwards, by whoever opens the store beside the transport; each step is one transaction,
//! with its line in the audit and with the answer that the hub is to get.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::down::DownStore;
use crate::model::UnixMs;
use crate::model::down::{CatalogueNews, CataloguePart, Command, midnight};

/// Pieces of catalogues that wait for the others.
const PARTS_MAX: i64 = 512;
/// Largest piece that is kept.
const PART_BYTES_MAX: usize = 128 << 10;
/// Done commands, catalogues and lines of the audit that are kept.
const COMMANDS_MAX: i64 = 10_000;
const CATALOGUES_MAX: i64 = 200;
const AUDIT_MAX: i64 = 100_000;

/// How a catalogue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogueState {
    Arriving,
    Next,
    Current,
    Past,
    Refused,
}

impl CatalogueState {
    const ALL: [CatalogueState; 5] = [
        CatalogueState::Arriving,
        CatalogueState::Next,
        CatalogueState::Current,
        CatalogueState::Past,
        CatalogueState::Refused,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CatalogueState::Arriving => "arriving",
            CatalogueState::Next => "next",
            CatalogueState::Current => "current",
            CatalogueState::Past => "past",
            CatalogueState::Refused => "refused",
        }
    }
}

/// A catalogue of the hub's, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueRow {
    pub number: i64,
    pub news: CatalogueNews,
    pub effective: UnixMs,
    pub state: CatalogueState,
    pub reason: String,
    pub since: UnixMs,
}

/// How a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandState {
    Waiting,
    Begun,
    Done,
    Failed,
    Expired,
    Refused,
    /// This program does not know such a command.
    Unknown,
}

impl CommandState {
    const ALL: [CommandState; 7] = [
        CommandState::Waiting,
        CommandState::Begun,
        CommandState::Done,
        CommandState::Failed,
        CommandState::Expired,
        CommandState::Refused,
        CommandState::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CommandState::Waiting => "waiting",
            CommandState::Begun => "begun",
            CommandState::Done => "done",
            CommandState::Failed => "failed",
            CommandState::Expired => "expired",
            CommandState::Refused => "refused",
            CommandState::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone)]
pub struct CommandRow {
    pub number: i64,
    pub command: Command,
    pub received: UnixMs,
    pub state: CommandState,
}

/// A line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub number: i64,
    pub at: UnixMs,
    pub who: String,
    pub what: String,
    pub id: String,
    pub name: String,
    pub result: String,
    pub detail: String,
}

/// What is written down about something that was done: a line of the audit, and what the hub hears.
#[derive(Debug, Clone)]
pub struct Said<'a> {
    pub who: &'a str,
    pub what: &'a str,
    pub id: &'a str,
    pub name: &'a str,
    pub result: &'a str,
    /// Without personal data.
    pub detail: &'a str,
    /// What the hub is told; JSON.
    pub answer: Option<String>,
}

/// An answer that the hub is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRow {
    pub number: i64,
    pub id: String,
    pub answer: String,
}

/// A setting that a command has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingRow {
    pub name: String,
    pub value: String,
    pub by: String,
    pub at: UnixMs,
}

impl DownStore {
    // === In the transaction that moves the position ===

    /// A catalogue was published. One that was refused is looked at again.
    pub(super) fn take_catalogue(
        &mut self,
        news: &CatalogueNews,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        // A day that is none never comes.
        let effective = midnight(&news.effective).unwrap_or(UnixMs(i64::MAX));
        let text = serde_json::to_string(news).expect("news are plain JSON");
        self.connection
            .prepare_cached(
                "INSERT INTO catalogue
                   (version, effective, sha256, news, effective_ms, state, reason, since_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'arriving', '', ?6)
                 ON CONFLICT (version, effective, sha256) DO UPDATE SET
                   news = excluded.news, state = 'arriving', reason = '', since_ms = excluded.since_ms
                 WHERE state IN ('arriving', 'refused')",
            )?
            .execute(params![
                news.version,
                news.effective,
                news.sha256,
                text,
                effective.0,
                now.0
            ])?;
        self.connection
            .prepare_cached(
                "DELETE FROM catalogue WHERE number <= ?1 AND state NOT IN ('current', 'next')",
            )?
            .execute([self.connection.last_insert_rowid() - CATALOGUES_MAX])?;
        Ok(())
    }

    /// A piece of a catalogue's content; what is no such piece is dropped, and its catalogue never
    /// becomes whole.
    pub(super) fn take_catalogue_part(&mut self, part: &CataloguePart) -> Result<(), StoreError> {
        let Ok(data) = BASE64.decode(&part.data) else {
            return Ok(());
        };
        if PART_BYTES_MAX < data.len() {
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "INSERT INTO catalogue_part (sha256, part, data) VALUES (?1, ?2, ?3)
                 ON CONFLICT (sha256, part) DO UPDATE SET data = excluded.data",
            )?
            .execute(params![part.sha256, part.part, data])?;
        self.connection
            .prepare_cached(
                "DELETE FROM catalogue_part WHERE number <=
                   (SELECT max(number) FROM catalogue_part) - ?1",
            )?
            .execute([PARTS_MAX])?;
        Ok(())
    }

    /// A command has come; a repeat of one that is known does nothing.
    pub(super) fn take_command(
        &mut self,
        command: &Command,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(command).expect("a command is plain JSON");
        self.connection
            .prepare_cached(
                "INSERT INTO command (id, command, received_ms, state, state_ms)
                 VALUES (?1, ?2, ?3, 'waiting', ?3) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![command.id.as_str(), text, now.0])?;
        self.connection
            .prepare_cached(
                "DELETE FROM command WHERE number <= (SELECT max(number) FROM command) - ?1
                   AND state NOT IN ('waiting', 'begun')",
            )?
            .execute([COMMANDS_MAX])?;
        Ok(())
    }

    // === Catalogues ===

    /// The published catalogues, oldest first.
    pub fn catalogues(&self) -> Result<Vec<CatalogueRow>, StoreError> {
        catalogues(&self.connection)
    }

    /// The content of a catalogue that is arriving, as soon as all of it is there.
    pub fn assembled(&self, news: &CatalogueNews) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT part, data FROM catalogue_part WHERE sha256 = ?1 ORDER BY part",
        )?;
        let mut rows = statement.query([&news.sha256])?;
        let mut content = Vec::new();
        let mut next = 0;
        while let Some(row) = rows.next()? {
            if row.get::<_, u32>(0)? != next {
                return Ok(None);
            }
            content.extend_from_slice(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
            next += 1;
        }
        Ok((next == news.parts).then_some(content))
    }

    pub fn content(&self, number: i64) -> Result<Option<Vec<u8>>, StoreError> {
        content(&self.connection, number)
    }

    /// An arriving catalogue is whole and sound and waits for its day.
    pub fn accept_catalogue(
        &mut self,
        row: &CatalogueRow,
        content: &[u8],
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE catalogue SET state = 'next', content = ?2, since_ms = ?3 WHERE number = ?1",
            params![row.number, content, now.0],
        )?;
        self.drop_parts(&row.news.sha256)
    }

    pub fn refuse_catalogue(
        &mut self,
        row: &CatalogueRow,
        reason: &str,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE catalogue SET state = 'refused', content = NULL, reason = ?2, since_ms = ?3
             WHERE number = ?1",
            params![row.number, reason, now.0],
        )?;
        self.drop_parts(&row.news.sha256)
    }

    fn drop_parts(&mut self, sha256: &str) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM catalogue_part WHERE sha256 = ?1", [sha256])?;
        Ok(())
    }

    /// From now on this one holds. The one before keeps its content, as the last good one.
    pub fn begin_catalogue(&mut self, row: &CatalogueRow, now: UnixMs) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE catalogue SET content = NULL WHERE state = 'past'",
            [],
        )?;
        self.connection.execute(
            "UPDATE catalogue SET state = 'past', since_ms = ?1 WHERE state = 'current'",
            [now.0],
        )?;
        self.connection.execute(
            "UPDATE catalogue SET state = 'past', content = NULL, since_ms = ?3
             WHERE state = 'next' AND (version, number) < (?1, ?2)",
            params![row.news.version, row.number, now.0],
        )?;
        self.connection.execute(
            "UPDATE catalogue SET state = 'current', since_ms = ?2 WHERE number = ?1",
            params![row.number, now.0],
        )?;
        Ok(())
    }

    // === Commands ===

    /// Commands that are not through, in the order in which they came.
    pub fn open_commands(&self) -> Result<Vec<CommandRow>, StoreError> {
        commands(
            &self.connection,
            "WHERE state IN ('waiting', 'begun') ORDER BY number LIMIT ?1",
            1_000,
        )
    }

    pub fn set_command(
        &mut self,
        number: i64,
        state: CommandState,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE command SET state = ?2, state_ms = ?3 WHERE number = ?1",
            params![number, state.as_str(), now.0],
        )?;
        Ok(())
    }

    // === Settings, audit, answers ===

    pub fn put_setting(&mut self, setting: &SettingRow) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO setting (name, value, by, at_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET
               value = excluded.value, by = excluded.by, at_ms = excluded.at_ms",
            params![setting.name, setting.value, setting.by, setting.at.0],
        )?;
        Ok(())
    }

    pub fn drop_setting(&mut self, name: &str) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM setting WHERE name = ?1", [name])?;
        Ok(())
    }

    pub fn settings(&self) -> Result<Vec<SettingRow>, StoreError> {
        settings(&self.connection)
    }

    /// Writes down what was done, and what the hub is to hear of it.
    pub fn say(&mut self, said: &Said<'_>, now: UnixMs) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO audit (at_ms, who, what, id, name, result, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                now.0,
                said.who,
                said.what,
                said.id,
                said.name,
                said.result,
                said.detail
            ],
        )?;
        let number = self.connection.last_insert_rowid();
        self.connection
            .execute("DELETE FROM audit WHERE number <= ?1", [number - AUDIT_MAX])?;
        if let Some(answer) = &said.answer {
            let id = format!("{}/{}/{number}", said.what, said.id);
            self.connection.execute(
                "INSERT INTO answer (id, answer) VALUES (?1, ?2)",
                params![id, answer],
            )?;
        }
        Ok(())
    }

    /// What the hub is to hear, oldest first.
    pub fn answers(&self) -> Result<Vec<AnswerRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT number, id, answer FROM answer ORDER BY number LIMIT 100")?;
        let rows = statement.query_map([], |row| {
            Ok(AnswerRow {
                number: row.get(0)?,
                id: row.get(1)?,
                answer: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The answer is in the box's own log.
    pub fn drop_answer(&mut self, number: i64) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM answer WHERE number = ?1", [number])?;
        Ok(())
    }
}

/// A look at what the hub has ordered, beside the owner.
pub struct OrdersView {
    connection: Connection,
}

impl OrdersView {
    pub fn open(path: &Path) -> Result<OrdersView, StoreError> {
        let connection = super::open_read_only(path)?;
        Ok(OrdersView { connection })
    }

    pub fn catalogues(&self) -> Result<Vec<CatalogueRow>, StoreError> {
        catalogues(&self.connection)
    }

    pub fn content(&self, number: i64) -> Result<Option<Vec<u8>>, StoreError> {
        content(&self.connection, number)
    }

    /// Newest first.
    pub fn commands(&self, most: u32) -> Result<Vec<CommandRow>, StoreError> {
        commands(&self.connection, "ORDER BY number DESC LIMIT ?1", most)
    }

    pub fn settings(&self) -> Result<Vec<SettingRow>, StoreError> {
        settings(&self.connection)
    }

    /// Newest first.
    pub fn audit(&self, most: u32) -> Result<Vec<AuditRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, at_ms, who, what, id, name, result, detail FROM audit
             ORDER BY number DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([most], audit_in)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The catalogue that holds: the one of the highest version that has begun or whose day has come.
/// The order of preference of what may be used: that one first, then what held before.
pub fn by_preference(rows: &[CatalogueRow], now: UnixMs) -> Vec<&CatalogueRow> {
    let rank = |row: &&CatalogueRow| (row.news.version, row.number);
    let mut holding: Vec<&CatalogueRow> = rows
        .iter()
        .filter(|row| match row.state {
            CatalogueState::Current => true,
            CatalogueState::Next => row.effective <= now,
            _ => false,
        })
        .collect();
    holding.sort_by_key(|row| std::cmp::Reverse(rank(row)));
    let mut past: Vec<&CatalogueRow> = rows
        .iter()
        .filter(|row| row.state == CatalogueState::Past)
        .collect();
    past.sort_by_key(|row| std::cmp::Reverse((row.since, rank(row))));
    holding.extend(past);
    holding
}

fn audit_in(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        number: row.get(0)?,
        at: UnixMs(row.get(1)?),
        who: row.get(2)?,
        what: row.get(3)?,
        id: row.get(4)?,
        name: row.get(5)?,
        result: row.get(6)?,
        detail: row.get(7)?,
    })
}

fn catalogues(connection: &Connection) -> Result<Vec<CatalogueRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, news, effective_ms, state, reason, since_ms FROM catalogue ORDER BY number",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let news: String = row.get(1)?;
        let state: String = row.get(3)?;
        let state = CatalogueState::ALL
            .into_iter()
            .find(|known| known.as_str() == state);
        found.push(CatalogueRow {
            number: row.get(0)?,
            news: serde_json::from_str(&news).map_err(|_| StoreError::Damaged)?,
            effective: UnixMs(row.get(2)?),
            state: state.ok_or(StoreError::Damaged)?,
            reason: row.get(4)?,
            since: UnixMs(row.get(5)?),
        });
    }
    Ok(found)
}

fn content(connection: &Connection, number: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let content: Option<Option<Vec<u8>>> = connection
        .prepare_cached("SELECT content FROM catalogue WHERE number = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    Ok(content.flatten())
}

fn commands(
    connection: &Connection,
    which: &str,
    most: u32,
) -> Result<Vec<CommandRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT number, command, received_ms, state FROM command {which}"
    ))?;
    let mut rows = statement.query([most])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let command: String = row.get(1)?;
        let state: String = row.get(3)?;
        let state = CommandState::ALL
            .into_iter()
            .find(|known| known.as_str() == state);
        found.push(CommandRow {
            number: row.get(0)?,
            command: serde_json::from_str(&command).map_err(|_| StoreError::Damaged)?,
            received: UnixMs(row.get(2)?),
            state: state.ok_or(StoreError::Damaged)?,
        });
    }
    Ok(found)
}

fn settings(connection: &Connection) -> Result<Vec<SettingRow>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name, value, by, at_ms FROM setting ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok(SettingRow {
            name: row.get(0)?,
            value: row.get(1)?,
            by: row.get(2)?,
            at: UnixMs(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
