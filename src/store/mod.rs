//! SQLite: the only SQL of the house.
//!
//! One file per daemon, in WAL mode with `synchronous=FULL`: a commit that has returned is on the
//! disk. Only the box's commits that keep nothing but receipts do without (see [`edge::Sync`]). The schemas in `edge.sql`, `down.sql` and `hub.sql` are the dictionaries of the tables. Memory is a
//! cache of the database: after any [`StoreError`] the owner drops the store and opens it again.

pub mod accounts;
pub mod backup;
pub mod blobs;
pub mod copies;
pub mod down;
pub mod down_status;
pub mod edge;
pub mod edge_status;
pub mod files;
pub mod history;
pub mod hub;
pub mod hub_view;
pub mod inbox;
pub mod log;
pub mod orders;
pub mod outputs;
pub mod rows;
pub mod waiting;

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::model::fault;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the disk or the store's quota is full")]
    Full,
    #[error("the database file is damaged")]
    Damaged,
    #[error("the store has schema version {found}, this program knows up to {known}")]
    Newer { found: i64, known: i64 },
    #[error("the store belongs to {found}, not to {wanted}")]
    Foreign { found: String, wanted: String },
    #[error("the store is in use by another process")]
    Busy,
    #[error("the store is read-only")]
    ReadOnly,
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
    #[error("entry {place} does not agree with its chain")]
    BrokenChain { place: i64 },
    #[error("the content of an attachment cannot be read or written: {0}")]
    Content(String),
}

impl StoreError {
    /// What the person in front of the machine should do (English; the page has the Vietnamese).
    pub fn hint(&self) -> &'static str {
        match self {
            StoreError::Full => "Free space on the data partition, or raise store.quota.",
            StoreError::Damaged | StoreError::BrokenChain { .. } => {
                "Keep the file for the support team and restore the last backup."
            }
            StoreError::Newer { .. } => {
                "Install the newer program again, or restore a backup made by this one."
            }
            StoreError::Foreign { .. } => "Check box.id, or use the folder of this box.",
            StoreError::Busy => "Stop the other process that uses this store.",
            StoreError::ReadOnly => {
                "Check the data partition: it may have been remounted read-only after a fault."
            }
            StoreError::Content(_) => {
                "Check the folder `blobs` beside the store: room on the disk, owner, open files."
            }
            StoreError::Sqlite(_) => "Look at the log; the program tries again by itself.",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        match error.sqlite_error_code() {
            Some(Code::DiskFull) => StoreError::Full,
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => StoreError::Damaged,
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => StoreError::Busy,
            Some(Code::ReadOnly) => StoreError::ReadOnly,
            _ => StoreError::Sqlite(error),
        }
    }
}

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The file never grows beyond this.
    pub quota_bytes: u64,
    /// SQLite's page cache.
    pub cache_bytes: u64,
}

/// The WAL is written back at so many bytes, and its file cut back to as much.
const WAL_BYTES: u64 = 4 << 20;

/// With it a commit that has returned is on the disk.
fn synced() -> &'static str {
    match fault::is_sync_weak() {
        false => "PRAGMA synchronous = FULL",
        true => "PRAGMA synchronous = NORMAL",
    }
}

/// Opens or creates a database: pragmas outside, then one transaction for schema or migration.
///
/// `migrations[n]` leads from version `n` to `n + 1`; the first is the schema itself. A new file gets
/// pages of `page_bytes`.
fn open(
    path: &Path,
    options: Options,
    page_bytes: u64,
    migrations: &[&str],
) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    // A file of the future is left as it is, pragmas included.
    known_version(&connection, migrations)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {page_bytes};
         PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         {synced};
         PRAGMA wal_autocheckpoint = {wal_pages};
         PRAGMA journal_size_limit = {WAL_BYTES};
         PRAGMA cache_size = -{cache_kib};
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA max_page_count = {pages};",
        synced = synced(),
        wal_pages = WAL_BYTES / page_bytes,
        pages = options.quota_bytes / page_bytes,
        cache_kib = options.cache_bytes / 1024,
    ))?;
    migrate(&connection, migrations)?;
    Ok(connection)
}

fn migrate(connection: &Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    let found = known_version(&transaction, migrations)?;
    let steps = &migrations[found..];
    for step in steps {
        transaction.execute_batch(step)?;
    }
    if !steps.is_empty() {
        transaction.execute_batch(&format!("PRAGMA user_version = {}", migrations.len()))?;
    }
    transaction.commit()?;
    Ok(())
}

/// The version of the file's schema, which is one that `migrations` leads on from.
fn known_version(connection: &Connection, migrations: &[&str]) -> Result<usize, StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = migrations.len() as i64;
    if known < found {
        return Err(StoreError::Newer { found, known });
    }
    usize::try_from(found).map_err(|_| StoreError::Damaged)
}

/// Opens an existing database for reading only, beside its owner.
fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA cache_size = -256; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}

/// Changes when another connection has written to the file.
fn data_version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))?)
}

/// Bytes of the file that are in use, and bytes that are free inside it.
fn space(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let pragma = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
    };
    let (pages, free) = (
        pragma("page_count")? as u64,
        pragma("freelist_count")? as u64,
    );
    let page_bytes = pragma("page_size")? as u64;
    Ok(((pages - free) * page_bytes, free * page_bytes))
}

/// Gives at most `pages` free pages back to the file system. Outside a transaction.
fn vacuum(connection: &Connection, pages: u32) -> Result<(), StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn chain_from(bytes: Vec<u8>) -> Result<crate::model::Chain, StoreError> {
    bytes
        .try_into()
        .map(crate::model::Chain)
        .map_err(|_| StoreError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        quota_bytes: 16 << 20,
        cache_bytes: 1 << 20,
    };
    const PAGE_BYTES: u64 = 4096;
    const FIRST: &str = "CREATE TABLE note (text TEXT NOT NULL) STRICT;";
    const SECOND: &str = "ALTER TABLE note ADD COLUMN at INTEGER;";

    fn version_and_notes(connection: &Connection) -> (i64, Vec<String>) {
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        let mut statement = connection
            .prepare("SELECT text FROM note ORDER BY text")
            .expect("the table is there");
        let notes = statement.query_map([], |row| row.get(0)).expect("read");
        let notes = notes.map(|note| note.expect("a text")).collect();
        (version.expect("read"), notes)
    }

    #[test]
    fn a_migration_that_fails_leaves_the_store_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let connection = open(&path, OPTIONS, PAGE_BYTES, &[FIRST]).expect("a new store");
        connection
            .execute("INSERT INTO note VALUES ('giữ')", [])
            .expect("written");
        drop(connection);

        let broken = "DELETE FROM note; CREATE TABLE half (x INTEGER) STRICT; SELECT no_such();";
        let failed = open(&path, OPTIONS, PAGE_BYTES, &[FIRST, SECOND, broken]);
        assert!(failed.is_err(), "the third step cannot work");

        let before = open(&path, OPTIONS, PAGE_BYTES, &[FIRST]).expect("the old program goes on");
        assert_eq!(version_and_notes(&before), (1, vec!["giữ".to_owned()]));
        let tables: i64 = before
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .expect("read");
        assert_eq!(tables, 1, "nothing of the second and third step is there");
        drop(before);

        let after = open(&path, OPTIONS, PAGE_BYTES, &[FIRST, SECOND]).expect("the mended program");
        assert_eq!(version_and_notes(&after), (2, vec!["giữ".to_owned()]));
        after
            .execute("INSERT INTO note VALUES ('thêm', 1)", [])
            .expect("the new column is there");
    }

    #[test]
    fn every_commit_is_synced() {
        let folder = tempfile::tempdir().expect("a folder");
        let store =
            open(&folder.path().join("a.db"), OPTIONS, PAGE_BYTES, &[FIRST]).expect("a new store");
        let pragma = |name: &str| -> String {
            store
                .query_row(&format!("PRAGMA {name}"), [], |row| {
                    Ok(match row.get_ref(0)? {
                        rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                        other => other.as_str()?.to_owned(),
                    })
                })
                .expect("read")
        };
        assert_eq!(
            (pragma("synchronous"), pragma("journal_mode")),
            ("2".into(), "wal".into())
        );
    }
}
