//! The technicians' accounts and the console's one-time codes, in a file of their own.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Options, StoreError};
use crate::model::UnixMs;

pub(super) const MIGRATIONS: &[&str] = &[include_str!("accounts.sql")];
const PAGE_BYTES: u64 = 4096;
const OPTIONS: Options = Options {
    quota_bytes: 4 << 20,
    cache_bytes: 64 << 10,
};
/// Codes that may be valid at once.
const CODES_MAX: i64 = 8;

/// An account, without its password's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    pub name: String,
    pub created: UnixMs,
    /// Who has made it.
    pub by: String,
}

/// What a login is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub hash: String,
    pub stamp: i64,
}

/// An account that is made, or whose password is changed.
#[derive(Debug, Clone)]
pub struct NewAccount<'a> {
    pub name: &'a str,
    pub hash: &'a str,
    pub stamp: i64,
    pub by: &'a str,
    pub at: UnixMs,
}

pub struct AccountStore {
    connection: Connection,
}

impl AccountStore {
    /// Opens the file, or creates it.
    pub fn open(path: &Path) -> Result<AccountStore, StoreError> {
        let connection = super::open(path, OPTIONS, PAGE_BYTES, MIGRATIONS)?;
        // An old password's hash must not stay readable in a free page.
        connection.execute_batch("PRAGMA secure_delete = ON")?;
        Ok(AccountStore { connection })
    }

    /// In the order of their names.
    pub fn accounts(&self) -> Result<Vec<AccountRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT name, created_ms, by FROM account ORDER BY name LIMIT 1000")?;
        let rows = statement.query_map([], |row| {
            Ok(AccountRow {
                name: row.get(0)?,
                created: UnixMs(row.get(1)?),
                by: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn count(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .query_row("SELECT count(*) FROM account", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    pub fn secret(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        Ok(self
            .connection
            .query_row(
                "SELECT hash, stamp FROM account WHERE name = ?1",
                [name],
                |row| {
                    Ok(Secret {
                        hash: row.get(0)?,
                        stamp: row.get(1)?,
                    })
                },
            )
            .optional()?)
    }

    /// Makes an account; false when there is one of this name.
    pub fn add(&mut self, new: &NewAccount<'_>) -> Result<bool, StoreError> {
        let added = self.connection.execute(
            "INSERT INTO account (name, hash, stamp, created_ms, by) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO NOTHING",
            params![new.name, new.hash, new.stamp, new.at.0, new.by],
        )?;
        Ok(added == 1)
    }

    /// False when there is no such account any more.
    pub fn set_password(&mut self, name: &str, hash: &str, stamp: i64) -> Result<bool, StoreError> {
        let changed = self.connection.execute(
            "UPDATE account SET hash = ?2, stamp = ?3 WHERE name = ?1",
            params![name, hash, stamp],
        )?;
        Ok(changed == 1)
    }

    /// False when there was none.
    pub fn remove(&mut self, name: &str) -> Result<bool, StoreError> {
        let removed = self
            .connection
            .execute("DELETE FROM account WHERE name = ?1", [name])?;
        Ok(removed == 1)
    }

    /// A code is valid from now on, beside those that are.
    pub fn add_code(&mut self, sha256: &[u8; 32], boot_ms: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO code (sha256, boot_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![sha256.as_slice(), boot_ms as i64],
        )?;
        self.connection.execute(
            "DELETE FROM code WHERE rowid NOT IN
               (SELECT rowid FROM code ORDER BY rowid DESC LIMIT ?1)",
            [CODES_MAX],
        )?;
        Ok(())
    }

    /// Forgets the codes that are older than `from_ms` on the boot clock, and those of another boot,
    /// which seem to be younger than now.
    pub fn drop_old_codes(&mut self, from_ms: u64, now_ms: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM code WHERE boot_ms < ?1 OR ?2 < boot_ms",
            [from_ms as i64, now_ms as i64],
        )?;
        Ok(())
    }

    pub fn has_code(&self, sha256: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare("SELECT 1 FROM code WHERE sha256 = ?1")?
            .exists([sha256.as_slice()])?)
    }

    /// Makes the account, or gives it a new password, on the word of a code; with it every code is
    /// used. False when somebody else has used it in between.
    pub fn add_by_code(
        &mut self,
        sha256: &[u8; 32],
        new: &NewAccount<'_>,
    ) -> Result<bool, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let used = transaction.execute(
            "DELETE FROM code WHERE EXISTS (SELECT 1 FROM code WHERE sha256 = ?1)",
            [sha256.as_slice()],
        )?;
        if used == 0 {
            return Ok(false);
        }
        transaction.execute(
            "INSERT INTO account (name, hash, stamp, created_ms, by) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, stamp = excluded.stamp",
            params![new.name, new.hash, new.stamp, new.at.0, new.by],
        )?;
        transaction.commit()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new<'a>(name: &'a str, hash: &'a str, stamp: i64) -> NewAccount<'a> {
        NewAccount {
            name,
            hash,
            stamp,
            by: "console",
            at: UnixMs(1_795_300_000_000),
        }
    }

    #[test]
    fn a_code_makes_one_account_and_all_codes_are_used_with_it() {
        let place = tempfile::tempdir().unwrap();
        let mut store = AccountStore::open(&place.path().join("accounts.db")).unwrap();
        for number in 0..12 {
            store.add_code(&[number; 32], 1_000).unwrap();
        }
        assert!(!store.has_code(&[3; 32]).unwrap(), "only the last are kept");
        assert!(!store.add_by_code(&[99; 32], &new("lan", "h", 1)).unwrap());
        assert_eq!(store.count().unwrap(), 0);
        assert!(store.add_by_code(&[11; 32], &new("lan", "h", 1)).unwrap());
        assert!(!store.add_by_code(&[10; 32], &new("nam", "h", 1)).unwrap());
        assert_eq!(store.count().unwrap(), 1);
        store.add_code(&[1; 32], 5_000).unwrap();
        store.drop_old_codes(2_000, 4_000).unwrap();
        assert!(!store.has_code(&[1; 32]).unwrap(), "of another boot");
        store.add_code(&[2; 32], 3_000).unwrap();
        store.drop_old_codes(2_000, 4_000).unwrap();
        assert!(store.add_by_code(&[2; 32], &new("lan", "h2", 2)).unwrap());
        let secret = store.secret("lan").unwrap().unwrap();
        assert_eq!((secret.hash.as_str(), secret.stamp), ("h2", 2));
        assert!(!store.add(&new("lan", "h3", 3)).unwrap());
        assert!(store.set_password("lan", "h4", 4).unwrap());
        assert!(store.remove("lan").unwrap() && !store.remove("lan").unwrap());
    }
}
