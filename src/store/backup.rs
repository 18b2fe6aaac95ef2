//! Copies of stores that are in use, for backups, and checks of such copies.

use std::path::Path;

use rusqlite::Connection;

use super::{StoreError, open_read_only};

/// Writes a store as it stands at one moment into a new file. Its owner may go on writing meanwhile.
pub fn copy_into(store: &Path, copy: &Path) -> Result<(), StoreError> {
    let copy = copy.to_str().ok_or_else(|| {
        StoreError::Content("the folder's name is not written in UTF-8".to_owned())
    })?;
    open_read_only(store)?.execute("VACUUM INTO ?1", [copy])?;
    Ok(())
}

/// Whether it has its tables: a store whose owner has only begun to make it has none.
pub fn is_made(store: &Path) -> Result<bool, StoreError> {
    let version: i64 =
        open_read_only(store)?.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(version != 0)
}

/// Whether nobody has the store open.
pub fn is_unused(store: &Path) -> Result<bool, StoreError> {
    let connection = Connection::open(store)?;
    let locked =
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK");
    match locked.map_err(StoreError::from) {
        Ok(()) => Ok(true),
        Err(StoreError::Busy) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Holds every page and every index against the others.
pub fn check_pages(store: &Path) -> Result<(), StoreError> {
    let verdict: String =
        open_read_only(store)?.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged),
    }
}

/// Takes the copies of others' data out of a copy of the box's store of what comes down. They must
/// not outlive a deletion or a withdrawn right in a backup; the hub, asked from the beginning, sends
/// what the office may still read.
pub fn strip_copies(copy: &Path) -> Result<(), StoreError> {
    let connection = Connection::open(copy)?;
    connection.execute_batch("PRAGMA secure_delete = ON; PRAGMA journal_mode = MEMORY; BEGIN;")?;
    let words: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for table in words {
        connection.execute_batch(&format!("DROP TABLE \"{}\"", table.replace('"', "\"\"")))?;
    }
    connection.execute_batch(
        "DELETE FROM copied; DELETE FROM copy; DELETE FROM compare; DELETE FROM compare_moved;
         DELETE FROM position; DELETE FROM gap; DELETE FROM unknown;
         UPDATE down SET epoch = 0;
         COMMIT; VACUUM;",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_its_tables_is_not_made_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("down.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL")
            .unwrap();
        assert!(!is_made(&path).unwrap());
        connection.execute_batch("PRAGMA user_version = 1").unwrap();
        assert!(is_made(&path).unwrap());
    }
}
