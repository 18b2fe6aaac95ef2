//! What the hub orders: catalogues for all boxes, commands for one, and who has given them.
//!
//! The command line only writes here; the running hub puts into each box's downlink what is not
//! there yet, in one transaction with the note that it is.

use rusqlite::{Connection, OptionalExtension, params};

use super::HubStore;
use crate::model::down::{CatalogueNews, Command};
use crate::model::{BoxId, UnixMs};
use crate::store::StoreError;
use crate::store::hub_view::Snapshot;

/// A published catalogue without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRow {
    pub news: CatalogueNews,
    pub effective: UnixMs,
    pub published: UnixMs,
}

/// A command that was given.
#[derive(Debug, Clone)]
pub struct GivenRow {
    pub number: i64,
    pub box_id: BoxId,
    pub command: Command,
    pub given: UnixMs,
    /// When it came into the box's downlink.
    pub posted: Option<UnixMs>,
}

impl HubStore {
    // === Catalogues ===

    /// Publishes; the version is the caller's business, within the same transaction.
    pub fn publish(
        &mut self,
        news: &CatalogueNews,
        effective: UnixMs,
        content: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(news).expect("news are plain JSON");
        self.connection.execute(
            "INSERT INTO published (version, news, effective_ms, content, published_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![news.version, text, effective.0, content, at.0],
        )?;
        Ok(())
    }

    /// Oldest first.
    pub fn published(&self) -> Result<Vec<PublishedRow>, StoreError> {
        published(&self.connection)
    }

    pub fn published_content(&self, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        content(&self.connection, version)
    }

    /// Of these versions, those that are not in the downlink of a box that is not revoked. A downlink
    /// that was begun anew has none: the box or this store was set back.
    pub fn catalogues_due(&mut self, versions: &[u32]) -> Result<Vec<(BoxId, u32)>, StoreError> {
        self.connection.execute(
            "UPDATE published_to SET epoch = down_box.epoch FROM down_box
             WHERE published_to.epoch = 0 AND down_box.box_id = published_to.box_id",
            [],
        )?;
        let mut statement = self.connection.prepare_cached(
            "SELECT box_id FROM box WHERE state <> 'revoked' AND NOT EXISTS (
               SELECT 1 FROM published_to
               WHERE published_to.box_id = box.box_id AND version = ?1 AND epoch = coalesce(
                 (SELECT epoch FROM down_box WHERE down_box.box_id = box.box_id), 0))
             ORDER BY box_id",
        )?;
        let mut due = Vec::new();
        for &version in versions {
            let mut rows = statement.query([version])?;
            while let Some(row) = rows.next()? {
                due.push((box_in(row.get(0)?)?, version));
            }
        }
        Ok(due)
    }

    pub fn note_published_to(
        &mut self,
        box_id: &BoxId,
        version: u32,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO published_to (box_id, version, posted_ms, epoch) VALUES (?1, ?2, ?3,
               coalesce((SELECT epoch FROM down_box WHERE box_id = ?1), 0))
             ON CONFLICT (box_id, version) DO UPDATE SET
               posted_ms = excluded.posted_ms, epoch = excluded.epoch",
            params![box_id.as_str(), version, at.0],
        )?;
        Ok(())
    }

    /// The box is to get every catalogue anew.
    pub fn forget_published_to(&mut self, box_id: &BoxId) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM published_to WHERE box_id = ?1",
            [box_id.as_str()],
        )?;
        Ok(())
    }

    // === Commands ===

    pub fn give(
        &mut self,
        box_id: &BoxId,
        command: &Command,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(command).expect("a command is plain JSON");
        self.connection.execute(
            "INSERT INTO command (id, box_id, command, given_ms) VALUES (?1, ?2, ?3, ?4)",
            params![command.id.as_str(), box_id.as_str(), text, at.0],
        )?;
        Ok(())
    }

    /// Commands that are in no downlink yet, in the order in which they were given.
    pub fn commands_due(&self, most: u32) -> Result<Vec<GivenRow>, StoreError> {
        given(
            &self.connection,
            "WHERE posted_ms IS NULL ORDER BY number LIMIT ?1",
            most,
        )
    }

    pub fn note_posted(&mut self, number: i64, at: UnixMs) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE command SET posted_ms = ?2 WHERE number = ?1",
            params![number, at.0],
        )?;
        Ok(())
    }
}

impl Snapshot<'_> {
    /// Oldest first.
    pub fn published(&self) -> Result<Vec<PublishedRow>, StoreError> {
        published(self.connection())
    }

    pub fn published_content(&self, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        content(self.connection(), version)
    }

    /// Newest first.
    pub fn given(&self, most: u32) -> Result<Vec<GivenRow>, StoreError> {
        given(self.connection(), "ORDER BY number DESC LIMIT ?1", most)
    }

    /// Which box's downlink has which version, and since when.
    pub fn published_to(&self) -> Result<Vec<(BoxId, u32, UnixMs)>, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT box_id, version, posted_ms FROM published_to ORDER BY box_id, version",
        )?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((box_in(row.get(0)?)?, row.get(1)?, UnixMs(row.get(2)?)));
        }
        Ok(found)
    }
}

/// The catalogue that holds at `now`: of those whose day has come the one of the highest version.
/// Boxes choose in the same way.
pub fn holding(rows: &[PublishedRow], now: UnixMs) -> Option<&PublishedRow> {
    let begun = rows.iter().filter(|row| row.effective <= now);
    begun.max_by_key(|row| row.news.version)
}

fn published(connection: &Connection) -> Result<Vec<PublishedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT news, effective_ms, published_ms FROM published ORDER BY version",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let news: String = row.get(0)?;
        found.push(PublishedRow {
            news: serde_json::from_str(&news).map_err(|_| StoreError::Damaged)?,
            effective: UnixMs(row.get(1)?),
            published: UnixMs(row.get(2)?),
        });
    }
    Ok(found)
}

fn content(connection: &Connection, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT content FROM published WHERE version = ?1")?
        .query_row([version], |row| row.get(0))
        .optional()?)
}

fn given(connection: &Connection, which: &str, most: u32) -> Result<Vec<GivenRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT number, box_id, command, given_ms, posted_ms FROM command {which}"
    ))?;
    let mut rows = statement.query([most])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let command: String = row.get(2)?;
        found.push(GivenRow {
            number: row.get(0)?,
            box_id: box_in(row.get(1)?)?,
            command: serde_json::from_str(&command).map_err(|_| StoreError::Damaged)?,
            given: UnixMs(row.get(3)?),
            posted: row.get::<_, Option<i64>>(4)?.map(UnixMs),
        });
    }
    Ok(found)
}

fn box_in(text: String) -> Result<BoxId, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged)
}
