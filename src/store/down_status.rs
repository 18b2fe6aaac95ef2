//! Reads what the box holds of the hub, beside its owner.

use std::path::Path;

use rusqlite::OptionalExtension;

use super::StoreError;
use super::down::MIGRATIONS;
use crate::model::UnixMs;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
}

/// None where nothing ever came.
pub fn read(path: &Path) -> Result<Option<DownFacts>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = super::open_read_only(path)?;
    if super::known_version(&connection, MIGRATIONS)? < MIGRATIONS.len() {
        return Ok(None);
    }
    let sql = "SELECT heard_ms, (SELECT coalesce(sum(entries), 0) FROM position),
                 (SELECT count(*) FROM unknown),
                 (SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.epoch = down.epoch)
               FROM down";
    let found: Option<(Option<i64>, i64, i64, i64)> = connection
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
        used_bytes: super::space(&connection)?.0,
    }))
}
