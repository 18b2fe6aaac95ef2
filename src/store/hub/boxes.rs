//! The registered boxes: their keys, their agencies, their state, and what they say of themselves.

use rusqlite::{OptionalExtension, params};

use super::{BoxKey, BoxState, HubStore, NewBox};
use crate::model::{AgencyCode, BoxId, UnixMs};
use crate::store::StoreError;

impl HubStore {
    /// Registers a box; false when the name is taken.
    pub fn add_box(&mut self, new: &NewBox<'_>, at: UnixMs) -> Result<bool, StoreError> {
        let added = self.connection.execute(
            "INSERT INTO box (box_id, agency, public_key, serial, not_after_ms, state, registered_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, 'active', ?6) ON CONFLICT DO NOTHING",
            params![
                new.box_id.as_str(),
                new.agency.as_str(),
                new.public_key,
                new.serial,
                new.not_after.0,
                at.0
            ],
        )?;
        if added == 1 {
            self.connection.execute(
                "INSERT INTO box_agency (box_id, agency, from_ms) VALUES (?1, ?2, ?3)",
                params![new.box_id.as_str(), new.agency.as_str(), at.0],
            )?;
        }
        Ok(added == 1)
    }

    /// Assigns a box to another office; what it still holds of the earlier one stays welcome.
    pub fn move_box(
        &mut self,
        box_id: &BoxId,
        agency: &AgencyCode,
        at: UnixMs,
    ) -> Result<bool, StoreError> {
        let moved = self.connection.execute(
            "UPDATE box SET agency = ?2 WHERE box_id = ?1",
            params![box_id.as_str(), agency.as_str()],
        )?;
        if moved == 1 {
            self.connection.execute(
                "INSERT INTO box_agency (box_id, agency, from_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
                params![box_id.as_str(), agency.as_str(), at.0],
            )?;
        }
        Ok(moved == 1)
    }

    /// False when there is no such box, or when it was revoked, which is for ever.
    pub fn set_box_state(&mut self, box_id: &BoxId, state: BoxState) -> Result<bool, StoreError> {
        let changed = self.connection.execute(
            "UPDATE box SET state = ?2 WHERE box_id = ?1 AND state <> 'revoked'",
            params![box_id.as_str(), state.as_str()],
        )?;
        Ok(changed == 1)
    }

    pub fn box_key(&self, box_id: &BoxId) -> Result<Option<BoxKey>, StoreError> {
        let found: Option<(String, Vec<u8>)> = self
            .connection
            .prepare_cached("SELECT state, public_key FROM box WHERE box_id = ?1")?
            .query_row([box_id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        found
            .map(|(state, public_key)| {
                Ok(BoxKey {
                    state: BoxState::parse(&state)?,
                    public_key,
                    offered: self.offered_keys(box_id)?,
                })
            })
            .transpose()
    }

    pub fn stands_for(&self, box_id: &BoxId, agency: &AgencyCode) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM box_agency WHERE box_id = ?1 AND agency = ?2")?
            .exists([box_id.as_str(), agency.as_str()])?)
    }

    pub fn saw_box(&mut self, box_id: &BoxId, at: UnixMs) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE box SET last_seen_ms = ?2 WHERE box_id = ?1")?
            .execute(params![box_id.as_str(), at.0])?;
        Ok(())
    }

    /// A presence that is repeated says nothing new: the broker hands the retained ones out at each
    /// connection of the hub, also those of boxes that have been gone for weeks.
    pub fn set_presence(
        &mut self,
        box_id: &BoxId,
        presence: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE box SET presence = ?2, presence_ms = ?3, last_seen_ms = ?3
                 WHERE box_id = ?1 AND presence IS NOT ?2",
            )?
            .execute(params![box_id.as_str(), presence, at.0])?;
        Ok(())
    }
}
