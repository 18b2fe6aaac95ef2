//! Rights of offices, and the audit of who changed them.

use rusqlite::{OptionalExtension, params};

use super::HubStore;
use crate::model::{AgencyCode, DatasetId, UnixMs};
use crate::store::StoreError;

/// A right as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightRow {
    pub agency: AgencyCode,
    pub dataset: DatasetId,
    /// JSON: what may be read.
    pub content: String,
    pub basis: String,
    pub granted: UnixMs,
    pub granted_by: String,
}

/// A line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub at: UnixMs,
    pub who: String,
    pub action: String,
    pub detail: String,
}

impl HubStore {
    /// All rights, by office and dataset.
    pub fn rights(&self) -> Result<Vec<RightRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT agency, dataset, content, basis, granted_ms, granted_by FROM office_right
             ORDER BY agency, dataset",
        )?;
        let mut rows = statement.query([])?;
        let mut rights = Vec::new();
        while let Some(row) = rows.next()? {
            let text = |index| row.get::<_, String>(index);
            rights.push(RightRow {
                agency: text(0)?.parse().map_err(|_| StoreError::Damaged)?,
                dataset: text(1)?.parse().map_err(|_| StoreError::Damaged)?,
                content: text(2)?,
                basis: text(3)?,
                granted: UnixMs(row.get(4)?),
                granted_by: text(5)?,
            });
        }
        Ok(rights)
    }

    /// Sets the right of an office to a dataset.
    pub fn set_right(&mut self, row: &RightRow) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO office_right (agency, dataset, content, basis, granted_ms, granted_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (agency, dataset) DO UPDATE SET content = excluded.content,
               basis = excluded.basis, granted_ms = excluded.granted_ms,
               granted_by = excluded.granted_by",
            params![
                row.agency.as_str(),
                row.dataset.as_str(),
                row.content,
                row.basis,
                row.granted.0,
                row.granted_by
            ],
        )?;
        Ok(())
    }

    /// False when there is no such right.
    pub fn drop_right(
        &mut self,
        agency: &AgencyCode,
        dataset: &DatasetId,
    ) -> Result<bool, StoreError> {
        let dropped = self.connection.execute(
            "DELETE FROM office_right WHERE agency = ?1 AND dataset = ?2",
            [agency.as_str(), dataset.as_str()],
        )?;
        Ok(dropped == 1)
    }

    pub fn has_right(&self, agency: &AgencyCode, dataset: &DatasetId) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM office_right WHERE agency = ?1 AND dataset = ?2")?
            .query_row([agency.as_str(), dataset.as_str()], |_| Ok(()))
            .optional()?
            .is_some())
    }

    pub fn add_audit(&mut self, row: &AuditRow) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO audit (at_ms, who, action, detail) VALUES (?1, ?2, ?3, ?4)",
            params![row.at.0, row.who, row.action, row.detail],
        )?;
        Ok(())
    }

    /// Oldest first.
    pub fn audit(&self) -> Result<Vec<AuditRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT at_ms, who, action, detail FROM audit ORDER BY number")?;
        let rows = statement.query_map([], |row| {
            Ok(AuditRow {
                at: UnixMs(row.get(0)?),
                who: row.get(1)?,
                action: row.get(2)?,
                detail: row.get(3)?,
            })
        })?;
        rows.map(|row| Ok(row?)).collect()
    }
}
