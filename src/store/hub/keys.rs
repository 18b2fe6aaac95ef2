//! The boxes' keys through their changes: which ones a box may use, which ones it has used, and how
//! far the last order to change has come.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::HubStore;
use crate::model::{BoxId, UnixMs};
use crate::store::StoreError;
use crate::store::hub_view::Snapshot;

/// A key with its certificate, to be offered to a box.
#[derive(Debug, Clone)]
pub struct NewKeyRow<'a> {
    pub public_key: &'a [u8; 65],
    pub serial: &'a str,
    /// PEM.
    pub certificate: &'a str,
    pub not_after: UnixMs,
}

/// A key that a box has, had or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    pub box_id: BoxId,
    pub public_key: Vec<u8>,
    pub serial: String,
    pub certificate: String,
    pub issued: UnixMs,
    /// `offered`, `current`, `retired` or `dropped`.
    pub state: String,
}

/// How far the last order to change a box's key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRow {
    pub box_id: BoxId,
    pub order: String,
    pub ordered: UnixMs,
    pub expires: UnixMs,
    /// Orders since the key last changed.
    pub tries: u32,
    /// What the box has said and nobody has looked at.
    pub answer: Option<String>,
    /// `ordered`, `offered`, `done` or `failed`.
    pub state: String,
    pub detail: String,
}

impl HubStore {
    pub(super) fn offered_keys(&self, box_id: &BoxId) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT public_key FROM box_key WHERE box_id = ?1 AND state = 'offered'",
        )?;
        let rows = statement.query_map([box_id.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The key of this point, whosever it is.
    pub fn key_row(&self, public_key: &[u8; 65]) -> Result<Option<KeyRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{KEY_COLUMNS} WHERE public_key = ?1"))?;
        let mut rows = statement.query([public_key])?;
        rows.next()?.map(key_row).transpose()
    }

    /// Whether a box is registered with this key.
    pub fn is_registered(&self, public_key: &[u8; 65]) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM box WHERE public_key = ?1")?
            .exists([public_key])?)
    }

    /// Lets a box use another key beside its present one. What was offered before and never used
    /// ends; false when the point is known already.
    pub fn offer_key(
        &mut self,
        box_id: &BoxId,
        new: &NewKeyRow<'_>,
        at: UnixMs,
    ) -> Result<bool, StoreError> {
        // The key of the registration takes its place before its first successor.
        self.connection.execute(
            "INSERT INTO box_key (box_id, public_key, serial, certificate, issued_ms, not_after_ms,
               state, state_ms)
             SELECT box_id, public_key, serial, '', registered_ms, not_after_ms, 'current',
               registered_ms FROM box WHERE box_id = ?1
             ON CONFLICT DO NOTHING",
            [box_id.as_str()],
        )?;
        self.connection.execute(
            "UPDATE box_key SET state = 'dropped', state_ms = ?2
             WHERE box_id = ?1 AND state = 'offered'",
            params![box_id.as_str(), at.0],
        )?;
        let added = self.connection.execute(
            "INSERT INTO box_key (box_id, public_key, serial, certificate, issued_ms, not_after_ms,
               state, state_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'offered', ?5)
             ON CONFLICT DO NOTHING",
            params![
                box_id.as_str(),
                new.public_key,
                new.serial,
                new.certificate,
                at.0,
                new.not_after.0
            ],
        )?;
        Ok(added == 1)
    }

    /// The box has used an offered key: it is the one in force, and the one before it ends.
    pub fn promote_key(
        &mut self,
        box_id: &BoxId,
        public_key: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE box_key SET state = 'retired', state_ms = ?2
             WHERE box_id = ?1 AND state = 'current'",
            params![box_id.as_str(), at.0],
        )?;
        self.connection.execute(
            "UPDATE box_key SET state = 'current', state_ms = ?2
             WHERE public_key = ?1 AND state = 'offered'",
            params![public_key, at.0],
        )?;
        self.connection.execute(
            "UPDATE box SET public_key = key.public_key, serial = key.serial,
               not_after_ms = key.not_after_ms
             FROM box_key AS key WHERE box.box_id = ?1 AND key.public_key = ?2",
            params![box_id.as_str(), public_key],
        )?;
        self.connection.execute(
            "UPDATE rotation SET state = 'done', detail = '', tries = 0, answer = NULL
             WHERE box_id = ?1 AND state = 'offered'",
            [box_id.as_str()],
        )?;
        Ok(())
    }

    /// A command to change the key was given.
    pub fn note_rotation(
        &mut self,
        box_id: &BoxId,
        order: &str,
        expires: UnixMs,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO rotation (box_id, order_id, ordered_ms, expires_ms, tries, answer, state,
               detail) VALUES (?1, ?2, ?3, ?4, 1, NULL, 'ordered', '')
             ON CONFLICT (box_id) DO UPDATE SET order_id = excluded.order_id,
               ordered_ms = excluded.ordered_ms, expires_ms = excluded.expires_ms,
               tries = tries + 1, answer = NULL, state = 'ordered', detail = ''",
            params![box_id.as_str(), order, at.0, expires.0],
        )?;
        Ok(())
    }

    /// The box's answer to the last order; one to an earlier order counts no more.
    pub fn note_new_key(
        &mut self,
        box_id: &BoxId,
        order: &str,
        answer: &str,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE rotation SET answer = ?3
                 WHERE box_id = ?1 AND order_id = ?2 AND state <> 'done'",
            )?
            .execute(params![box_id.as_str(), order, answer])?;
        Ok(())
    }

    /// How an order goes on: `offered`, or `failed` and why.
    pub fn set_rotation(
        &mut self,
        box_id: &BoxId,
        state: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE rotation SET state = ?2, detail = ?3, answer = NULL WHERE box_id = ?1",
            params![box_id.as_str(), state, detail],
        )?;
        Ok(())
    }

    /// The certificate that was offered could not be used; whoever orders again gets another.
    pub fn fail_rotation(&mut self, box_id: &BoxId, detail: &str) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE rotation SET state = 'failed', detail = ?2, answer = NULL
             WHERE box_id = ?1 AND state IN ('ordered', 'offered')",
            params![box_id.as_str(), detail],
        )?;
        Ok(())
    }
}

impl Snapshot<'_> {
    /// All keys that a box has used or may use, the oldest first; none where it never changed.
    pub fn keys_of(&self, box_id: &BoxId) -> Result<Vec<KeyRow>, StoreError> {
        if !has_keys(self.connection())? {
            return Ok(Vec::new());
        }
        let sql = format!("{KEY_COLUMNS} WHERE box_id = ?1 ORDER BY number");
        let mut statement = self.connection().prepare_cached(&sql)?;
        let mut rows = statement.query([box_id.as_str()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(key_row(row)?);
        }
        Ok(found)
    }

    /// Whether the box may use this key at this moment.
    pub fn may_use(&self, box_id: &BoxId, public_key: &[u8; 65]) -> Result<bool, StoreError> {
        let connection = self.connection();
        let is_registered = connection
            .prepare_cached("SELECT 1 FROM box WHERE box_id = ?1 AND public_key = ?2")?
            .exists(params![box_id.as_str(), public_key])?;
        if is_registered || !has_keys(connection)? {
            return Ok(is_registered);
        }
        Ok(connection
            .prepare_cached(
                "SELECT 1 FROM box_key
                 WHERE box_id = ?1 AND public_key = ?2 AND state = 'offered'",
            )?
            .exists(params![box_id.as_str(), public_key])?)
    }

    /// The last order of each box that was given one, by box.
    pub fn rotations(&self) -> Result<Vec<RotationRow>, StoreError> {
        if !has_keys(self.connection())? {
            return Ok(Vec::new());
        }
        let mut statement = self.connection().prepare_cached(
            "SELECT box_id, order_id, ordered_ms, expires_ms, tries, answer, state, detail
             FROM rotation ORDER BY box_id",
        )?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(RotationRow {
                box_id: box_in(row)?,
                order: row.get(1)?,
                ordered: UnixMs(row.get(2)?),
                expires: UnixMs(row.get(3)?),
                tries: row.get(4)?,
                answer: row.get(5)?,
                state: row.get(6)?,
                detail: row.get(7)?,
            });
        }
        Ok(found)
    }
}

const KEY_COLUMNS: &str =
    "SELECT box_id, public_key, serial, certificate, issued_ms, state FROM box_key";

fn key_row(row: &Row<'_>) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        box_id: box_in(row)?,
        public_key: row.get(1)?,
        serial: row.get(2)?,
        certificate: row.get(3)?,
        issued: UnixMs(row.get(4)?),
        state: row.get(5)?,
    })
}

fn box_in(row: &Row<'_>) -> Result<BoxId, StoreError> {
    let text: String = row.get(0)?;
    text.parse().map_err(|_| StoreError::Damaged)
}

/// A store of before is read as it is until a program that writes has opened it.
fn has_keys(connection: &Connection) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = 'rotation'")?
        .query_row([], |_| Ok(()))
        .optional()?
        .is_some())
}
