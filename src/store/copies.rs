//! The box's copies of datasets that its office may read: present state by version, initial loads,
//! withdrawals, and deletion that leaves nothing on the disk.
//!
//! Changes (P2) and initial loads (P4) come in any order; the greater version wins. A subject that is
//! gone leaves a row without content for as long as an older copy of it may be on its way.

pub mod compare;
pub mod look;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::down::DownStore;
use crate::model::down::{Copy, Load, Version, Withdraw};
use crate::model::{AgencyCode, DatasetId};

/// Which words of a record are looked through.
pub struct Words {
    /// The fields of a dataset that they are taken from, in a form that changes when the fields do.
    pub fields: Box<FieldsOf>,
    /// Those of one record; empty: none.
    pub of: Box<WordsOf>,
}

pub type FieldsOf = dyn Fn(&DatasetId) -> String + Send;
pub type WordsOf = dyn Fn(&DatasetId, &str) -> String + Send;

/// How far void rows were looked for: of which dataset, below which version, up to which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    dataset: i64,
    below: i64,
    row: i64,
}

/// What is known of a dataset's copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub dataset: i64,
    pub floor: Version,
    pub load: Version,
    pub loaded: Version,
    pub sweep: Version,
}

/// Of which fields a dataset's words were made, and after which row they are to be made anew.
struct Worded {
    number: i64,
    dataset: DatasetId,
    made_of: String,
    reword: Option<i64>,
}

impl DownStore {
    pub(super) fn apply_copy(&mut self, copy: &Copy) -> Result<(), StoreError> {
        self.take_copy(copy, false)
    }

    /// A change counts from its place in the log on; what stands there is not believed.
    pub(super) fn apply_mend(&mut self, copy: &Copy) -> Result<(), StoreError> {
        self.take_copy(copy, true)
    }

    fn take_copy(&mut self, copy: &Copy, mends: bool) -> Result<(), StoreError> {
        let copied = self.copied(&copy.dataset)?;
        if copy.version < copied.floor {
            return Ok(());
        }
        let key = key(&copy.agency, copy.subject.as_str());
        let old: Option<(i64, i64, bool)> = self
            .connection
            .prepare_cached(
                "SELECT copy, version, subject IS NOT NULL FROM copy WHERE dataset = ?1 AND key = ?2",
            )?
            .query_row(params![copied.dataset, key], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        // With no load on its way nothing later can stand there in earnest.
        let mends = mends && copy.load == copied.load && copy.load == copied.loaded;
        let is_old = !mends && old.is_some_and(|(_, version, _)| copy.version.0 <= version as u64);
        let had_content = old.is_some_and(|(_, _, has_content)| has_content);
        let more = match is_old {
            true => 0,
            false => i64::from(copy.data.is_some()) - i64::from(had_content),
        };
        self.connection
            .prepare_cached(
                "UPDATE copied SET as_of_ms = max(as_of_ms, ?2), load = max(load, ?3),
                   held = held + ?4 WHERE dataset = ?1",
            )?
            .execute(params![copied.dataset, copy.at.0, copy.load.0 as i64, more])?;
        if is_old {
            return Ok(());
        }
        self.mark_moved(copied.dataset, key[0])?;
        if let Some((row, _, true)) = old {
            forget_words(&self.connection, copied.dataset, row)?;
        }
        match &copy.data {
            Some(data) => {
                let row = self.put_copy(copied, &key, copy, data.get())?;
                let words = self
                    .words
                    .as_ref()
                    .map(|words| (words.of)(&copy.dataset, data.get()));
                if let Some(words) = words.filter(|words| !words.is_empty()) {
                    put_words(&self.connection, copied.dataset, row, &words)?;
                }
            }
            None => {
                self.erased |= had_content;
                if copy.load == copied.loaded && copied.load <= copied.loaded {
                    self.connection
                        .prepare_cached("DELETE FROM copy WHERE dataset = ?1 AND key = ?2")?
                        .execute(params![copied.dataset, key])?;
                } else {
                    self.put_gone(copied, &key, copy)?;
                }
            }
        }
        Ok(())
    }

    fn put_copy(
        &self,
        copied: Copied,
        key: &[u8],
        copy: &Copy,
        data: &str,
    ) -> Result<i64, StoreError> {
        let attachments = match copy.attachments.is_empty() {
            true => None,
            false => Some(serde_json::to_string(&copy.attachments).expect("plain JSON")),
        };
        Ok(self
            .connection
            .prepare_cached(
                "INSERT INTO copy (dataset, key, version, at_ms, schema, agency, subject, data,
                   attachments) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (dataset, key) DO UPDATE SET version = excluded.version,
                   at_ms = excluded.at_ms, schema = excluded.schema, agency = excluded.agency,
                   subject = excluded.subject, data = excluded.data,
                   attachments = excluded.attachments
                 RETURNING copy",
            )?
            .query_row(
                params![
                    copied.dataset,
                    key,
                    copy.version.0 as i64,
                    copy.at.0,
                    copy.schema,
                    copy.agency.as_str(),
                    copy.subject.as_str(),
                    data,
                    attachments
                ],
                |row| row.get(0),
            )?)
    }

    fn put_gone(&self, copied: Copied, key: &[u8], copy: &Copy) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO copy (dataset, key, version, at_ms, schema) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (dataset, key) DO UPDATE SET version = excluded.version,
                   at_ms = excluded.at_ms, agency = NULL, subject = NULL, data = NULL,
                   attachments = NULL",
            )?
            .execute(params![
                copied.dataset,
                key,
                copy.version.0 as i64,
                copy.at.0,
                copy.schema
            ])?;
        Ok(())
    }

    pub(super) fn apply_load(&mut self, load: &Load) -> Result<(), StoreError> {
        let copied = self.copied(&load.dataset)?;
        if load.load < copied.floor || load.load < copied.load {
            return Ok(());
        }
        let (loaded, sweep) = match load.done {
            true => (load.load, copied.sweep.max(load.load)),
            false => (copied.loaded, copied.sweep),
        };
        self.sweeps |= load.done;
        self.spoil_compare(copied.dataset)?;
        self.connection
            .prepare_cached(
                "UPDATE copied SET load = ?2, subjects = ?3, seen = ?4, loaded = ?5, sweep = ?6,
                   as_of_ms = max(as_of_ms, ?7) WHERE dataset = ?1",
            )?
            .execute(params![
                copied.dataset,
                load.load.0 as i64,
                load.subjects as i64,
                load.seen as i64,
                loaded.0 as i64,
                sweep.0 as i64,
                load.at.0
            ])?;
        Ok(())
    }

    /// From here on nobody reads what there is; it is deleted in slices.
    pub(super) fn apply_withdraw(&mut self, withdraw: &Withdraw) -> Result<(), StoreError> {
        let copied = self.copied(&withdraw.dataset)?;
        if withdraw.version <= copied.floor {
            return Ok(());
        }
        self.sweeps = true;
        self.spoil_compare(copied.dataset)?;
        self.connection.execute(
            "DELETE FROM compared WHERE name = ?1",
            [withdraw.dataset.as_str()],
        )?;
        self.connection.execute(
            "UPDATE copied SET floor = ?2, sweep = max(sweep, ?2), as_of_ms = max(as_of_ms, ?3)
             WHERE dataset = ?1",
            params![copied.dataset, withdraw.version.0 as i64, withdraw.at.0],
        )?;
        Ok(())
    }

    // === Deletion ===

    /// Deletes at most `rows` that are void, and when none are left takes what was deleted out of the
    /// write-ahead log too. False: nothing is left to do. Outside a transaction.
    pub fn tidy(&mut self, rows: u32) -> Result<bool, StoreError> {
        if self.sweeps {
            self.begin()?;
            match self.sweep(rows) {
                Ok(more) => {
                    self.commit()?;
                    self.sweeps = more;
                }
                Err(error) => {
                    // The first error is the one that counts.
                    let _ = self.roll_back();
                    return Err(error);
                }
            }
            return Ok(true);
        }
        if self.reword(rows)? {
            self.erased = true;
            return Ok(true);
        }
        if self.erased {
            self.erased = !self.empty_wal()?;
        }
        Ok(self.erased)
    }

    /// False: a reader holds it open.
    fn empty_wal(&self) -> Result<bool, StoreError> {
        let busy: i64 =
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok(busy == 0)
    }

    /// True: there may be more.
    fn sweep(&mut self, rows: u32) -> Result<bool, StoreError> {
        let dataset: Option<(i64, i64, bool)> = self
            .connection
            .query_row(
                "SELECT dataset, sweep, load <= loaded FROM copied WHERE sweep <> 0 LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let Some((dataset, below, is_loaded)) = dataset else {
            return Ok(false);
        };
        if (self.swept.dataset, self.swept.below) != (dataset, below) {
            self.swept = Swept {
                dataset,
                below,
                row: 0,
            };
        }
        let mut looked_at = self.connection.prepare_cached(
            "SELECT copy, dataset = ?1 AND (version < ?2 OR ?3 AND subject IS NULL),
               subject IS NOT NULL FROM copy WHERE ?4 < copy ORDER BY copy LIMIT ?5",
        )?;
        let mut found =
            looked_at.query(params![dataset, below, is_loaded, self.swept.row, rows])?;
        let mut void = Vec::new();
        let mut count = 0;
        while let Some(row) = found.next()? {
            count += 1;
            self.swept.row = row.get(0)?;
            if row.get(1)? {
                void.push((self.swept.row, row.get::<_, bool>(2)?));
            }
        }
        drop(found);
        drop(looked_at);
        let gone = void.iter().filter(|(_, has_content)| *has_content).count();
        if 0 < gone {
            self.erased = true;
            self.connection
                .prepare_cached("UPDATE copied SET held = held - ?2 WHERE dataset = ?1")?
                .execute([dataset, gone as i64])?;
        }
        for (row, has_content) in void {
            if has_content {
                forget_words(&self.connection, dataset, row)?;
            }
            self.connection
                .prepare_cached("DELETE FROM copy WHERE copy = ?1")?
                .execute([row])?;
        }
        if count < rows {
            self.swept = Swept::default();
            self.connection.execute(
                "UPDATE copied SET sweep = 0 WHERE dataset = ?1 AND sweep = ?2",
                [dataset, below],
            )?;
        }
        Ok(true)
    }
}

impl DownStore {
    /// The dataset's row, which is made when it is new.
    fn copied(&self, dataset: &DatasetId) -> Result<Copied, StoreError> {
        let connection = &self.connection;
        let mut find = connection.prepare_cached(
            "SELECT dataset, floor, load, loaded, sweep FROM copied WHERE name = ?1",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let version = |index| {
                row.get::<_, i64>(index)
                    .map(|number| Version(number as u64))
            };
            Ok(Copied {
                dataset: row.get(0)?,
                floor: version(1)?,
                load: version(2)?,
                loaded: version(3)?,
                sweep: version(4)?,
            })
        };
        if let Some(found) = find.query_row([dataset.as_str()], read).optional()? {
            return Ok(found);
        }
        connection.execute(
            "INSERT INTO copied
               (name, floor, load, subjects, seen, loaded, sweep, as_of_ms, held, words)
             VALUES (?1, 0, 0, 0, 0, 0, 0, 0, 0, ?2)",
            params![dataset.as_str(), self.fields(dataset)],
        )?;
        let number = connection.last_insert_rowid();
        connection.execute_batch(&format!(
            "CREATE VIRTUAL TABLE copy_text_{number} USING fts5(
               exact, folded, tokenize = 'unicode61 remove_diacritics 0', detail = column,
               columnsize = 0);
             INSERT INTO copy_text_{number} (copy_text_{number}, rank) VALUES ('secure-delete', 1);"
        ))?;
        Ok(find.query_row([dataset.as_str()], read)?)
    }

    fn fields(&self, dataset: &DatasetId) -> String {
        let words = self.words.as_ref();
        words.map_or(String::new(), |words| (words.fields)(dataset))
    }

    /// Makes the words of at most `rows` records anew, where another catalogue takes them from other
    /// fields. True: there may be more.
    fn reword(&self, rows: u32) -> Result<bool, StoreError> {
        let Some(words) = &self.words else {
            return Ok(false);
        };
        for worded in self.worded()? {
            let (number, dataset) = (worded.number, worded.dataset);
            let fields = (words.fields)(&dataset);
            let after = match worded.reword {
                _ if fields != worded.made_of => 0,
                Some(after) => after,
                None => continue,
            };
            let transaction = self.connection.unchecked_transaction()?;
            let looked_at = self.looked_at(number, after, rows)?;
            let next = (looked_at.len() == rows as usize)
                .then(|| looked_at.last().map(|(row, _)| *row))
                .flatten();
            for (row, data) in looked_at {
                let Some(data) = data else { continue };
                forget_words(&self.connection, number, row)?;
                let words = (words.of)(&dataset, &data);
                if !words.is_empty() {
                    put_words(&self.connection, number, row, &words)?;
                }
            }
            self.connection
                .prepare_cached("UPDATE copied SET words = ?2, reword = ?3 WHERE dataset = ?1")?
                .execute(params![number, fields, next])?;
            transaction.commit()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn worded(&self) -> Result<Vec<Worded>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT dataset, name, words, reword FROM copied ORDER BY dataset")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            let name = name.parse().map_err(|_| StoreError::Damaged)?;
            found.push(Worded {
                number: row.get(0)?,
                dataset: name,
                made_of: row.get(2)?,
                reword: row.get(3)?,
            });
        }
        Ok(found)
    }

    /// Rows after one, with the content of those that are the dataset's.
    fn looked_at(
        &self,
        dataset: i64,
        after: i64,
        rows: u32,
    ) -> Result<Vec<(i64, Option<String>)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT copy, CASE WHEN dataset = ?1 THEN data END FROM copy
             WHERE ?2 < copy ORDER BY copy LIMIT ?3",
        )?;
        let rows = statement.query_map(params![dataset, after, rows], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn put_words(
    connection: &Connection,
    dataset: i64,
    row: i64,
    words: &str,
) -> Result<(), StoreError> {
    let exact = look::exact(words);
    let folded = look::folded(&exact);
    // Words that a damaged copy has left behind make way.
    let sql = format!(
        "INSERT OR REPLACE INTO copy_text_{dataset} (rowid, exact, folded) VALUES (?1, ?2, ?3)"
    );
    connection
        .prepare_cached(&sql)?
        .execute(params![row, exact, folded])?;
    Ok(())
}

fn forget_words(connection: &Connection, dataset: i64, row: i64) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM copy_text_{dataset} WHERE rowid = ?1");
    connection.prepare_cached(&sql)?.execute([row])?;
    Ok(())
}

/// What stands for a subject when nothing of it is to be left.
fn key(agency: &AgencyCode, subject: &str) -> [u8; 16] {
    use ring::digest::{Context, SHA256};
    let mut context = Context::new(&SHA256);
    context.update(agency.as_str().as_bytes());
    context.update(b"\0");
    context.update(subject.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&context.finish().as_ref()[..16]);
    key
}

#[cfg(test)]
mod tests;
