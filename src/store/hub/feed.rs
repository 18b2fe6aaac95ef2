//! What the hub hands on: which box has which dataset, how far its load is, what the present state
//! of a subject holds, and documents that found nobody.

use rusqlite::{OptionalExtension, Row, params};

use super::{HubStore, place, unplace};
use crate::model::down::Version;
use crate::model::{AgencyCode, BoxId, DatasetId, RecordId, Seq, Subject, UnixMs};
use crate::store::StoreError;

/// A dataset at a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    pub box_id: BoxId,
    pub dataset: DatasetId,
    /// JSON: the rights by which it was filled.
    pub content: String,
    pub load: Version,
    pub subjects: u64,
    pub seen: u64,
    /// Agency and subject that the load has looked at last.
    pub last: (String, String),
    pub done: bool,
}

/// A subject's present state.
#[derive(Debug, Clone)]
pub struct StateEntry {
    pub agency: AgencyCode,
    pub subject: String,
    pub place: i64,
    pub entry: Vec<u8>,
}

/// A document that could not be handed to an office.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    pub number: i64,
    pub place: i64,
    pub recipient: String,
    pub reason: String,
    pub noted: UnixMs,
}

/// A document that was handed on, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedRow {
    pub id: RecordId,
    pub sender: AgencyCode,
    /// Agency codes as the sender wrote them.
    pub recipients: Vec<String>,
}

impl HubStore {
    /// The boxes that may receive, with their offices.
    pub fn offices(&self) -> Result<Vec<(BoxId, AgencyCode)>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT box_id, agency FROM box WHERE state <> 'revoked' ORDER BY box_id")?;
        let mut rows = statement.query([])?;
        let mut boxes = Vec::new();
        while let Some(row) = rows.next()? {
            boxes.push((parsed(row, 0)?, parsed(row, 1)?));
        }
        Ok(boxes)
    }

    // === Versions ===

    /// Takes the next number.
    pub fn next_version(&mut self, at: UnixMs) -> Result<Version, StoreError> {
        let floor = Version::default().next(at);
        let mut statement = self
            .connection
            .prepare_cached("UPDATE feed SET version = max(version + 1, ?1) RETURNING version")?;
        let version: Option<i64> = statement
            .query_row([floor.0 as i64], |row| row.get(0))
            .optional()?;
        drop(statement);
        if let Some(version) = version {
            return Ok(Version(version as u64));
        }
        self.connection.execute(
            "INSERT INTO feed (one, version, secret) VALUES (1, ?1, randomblob(32))",
            [floor.0 as i64],
        )?;
        Ok(floor)
    }

    /// The key of names that are not to be told; none before the first version was taken.
    pub fn feed_secret(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT secret FROM feed")?
            .query_row([], |row| row.get(0))
            .optional()?)
    }

    // === Subscriptions ===

    pub fn subscriptions(&self) -> Result<Vec<SubscriptionRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT box_id, dataset, content, load, subjects, seen, last_agency, last_subject, done
             FROM subscription ORDER BY box_id, dataset",
        )?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
            found.push(SubscriptionRow {
                box_id: parsed(row, 0)?,
                dataset: parsed(row, 1)?,
                content: row.get(2)?,
                load: Version(number(3)?),
                subjects: number(4)?,
                seen: number(5)?,
                last: (row.get(6)?, row.get(7)?),
                done: row.get(8)?,
            });
        }
        Ok(found)
    }

    pub fn put_subscription(&mut self, row: &SubscriptionRow) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO subscription (box_id, dataset, content, load, subjects,
                   seen, last_agency, last_subject, done)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                row.box_id.as_str(),
                row.dataset.as_str(),
                row.content,
                row.load.0 as i64,
                row.subjects as i64,
                row.seen as i64,
                row.last.0,
                row.last.1,
                row.done
            ])?;
        Ok(())
    }

    pub fn drop_subscription(
        &mut self,
        box_id: &BoxId,
        dataset: &DatasetId,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM subscription WHERE box_id = ?1 AND dataset = ?2",
            [box_id.as_str(), dataset.as_str()],
        )?;
        Ok(())
    }

    // === Present state ===

    pub fn state_count(&self, dataset: i64) -> Result<u64, StoreError> {
        let count: i64 = self.connection.query_row(
            "SELECT count(*) FROM state WHERE dataset = ?1 AND NOT deleted",
            [dataset],
            |row| row.get(0),
        )?;
        Ok(count as u64)
    }

    /// The present state of a subject; none when it is gone or was never there.
    pub fn state_entry(
        &self,
        dataset: i64,
        agency: &AgencyCode,
        subject: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT entry.entry FROM state JOIN entry ON entry.place = state.place
                 WHERE state.dataset = ?1 AND agency = ?2 AND subject = ?3 AND NOT deleted",
            )?
            .query_row(params![dataset, agency.as_str(), subject], |row| row.get(0))
            .optional()?)
    }

    /// The next subjects that are there, in the order of agency and subject.
    pub fn state_after(
        &self,
        dataset: i64,
        last: &(String, String),
        limit: u64,
    ) -> Result<Vec<StateEntry>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT agency, subject, state.place, entry.entry
             FROM state JOIN entry ON entry.place = state.place
             WHERE state.dataset = ?1 AND (agency, subject) > (?2, ?3) AND NOT deleted
             ORDER BY agency, subject LIMIT ?4",
        )?;
        let mut rows = statement.query(params![dataset, last.0, last.1, limit as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(StateEntry {
                agency: parsed(row, 0)?,
                subject: row.get(1)?,
                place: row.get(2)?,
                entry: row.get(3)?,
            });
        }
        Ok(found)
    }

    // === Documents that were handed on ===

    /// Writes down to whom a document was addressed; a repeat adds those that are new.
    pub fn note_handed<'a>(
        &mut self,
        (id, sender): (&RecordId, &AgencyCode),
        (dataset, subject): (&DatasetId, &Subject),
        recipients: impl Iterator<Item = &'a str>,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let document: i64 = self
            .connection
            .prepare_cached(
                "INSERT INTO handed (id, sender, dataset, subject, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id, sender) DO UPDATE SET at_ms = excluded.at_ms
                 RETURNING document",
            )?
            .query_row(
                params![
                    id.as_str(),
                    sender.as_str(),
                    dataset.as_str(),
                    subject.as_str(),
                    at.0
                ],
                |row| row.get(0),
            )?;
        let mut add = self.connection.prepare_cached(
            "INSERT INTO handed_to (document, recipient) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?;
        for recipient in recipients {
            add.execute(params![document, recipient])?;
        }
        Ok(())
    }

    /// Forgets documents that were handed on before `before`, some of the oldest; says whether there may
    /// be more.
    pub fn forget_handed(&mut self, before: UnixMs, rows_max: u64) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "DELETE FROM handed WHERE at_ms < ?1 AND document IN
               (SELECT document FROM handed ORDER BY document LIMIT ?2)
             RETURNING document",
        )?;
        let gone = statement.query_map(params![before.0, rows_max as i64], |row| row.get(0))?;
        let gone: Vec<i64> = gone.collect::<Result<_, _>>()?;
        let mut forget = self
            .connection
            .prepare_cached("DELETE FROM handed_to WHERE document = ?1")?;
        for document in &gone {
            forget.execute([document])?;
        }
        Ok(!gone.is_empty())
    }

    /// Forgets words that nobody was to hear and that were noted before `before`; says whether there
    /// may be more.
    pub fn forget_unheard(&mut self, before: UnixMs, rows_max: u64) -> Result<bool, StoreError> {
        let gone = self
            .connection
            .prepare_cached(
                "DELETE FROM undelivered WHERE number IN
                   (SELECT number FROM undelivered
                    WHERE recipient = '-' AND noted_ms < ?1 ORDER BY number LIMIT ?2)",
            )?
            .execute(params![before.0, rows_max as i64])?;
        Ok(0 < gone)
    }

    /// The documents of that id: each sender has ids of its own.
    pub fn handed_by_id(&self, id: &RecordId) -> Result<Vec<HandedRow>, StoreError> {
        self.handed("WHERE id = ?1", params![id.as_str()])
    }

    /// The documents of that subject, newest first.
    pub fn handed_by_subject(
        &self,
        dataset: &DatasetId,
        subject: &str,
    ) -> Result<Vec<HandedRow>, StoreError> {
        self.handed(
            "WHERE subject = ?1 AND dataset = ?2",
            params![subject, dataset.as_str()],
        )
    }

    fn handed(
        &self,
        which: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<HandedRow>, StoreError> {
        let mut find = self.connection.prepare_cached(&format!(
            "SELECT id, sender, document FROM handed {which} ORDER BY at_ms DESC, document DESC
             LIMIT 100"
        ))?;
        let mut to = self
            .connection
            .prepare_cached("SELECT recipient FROM handed_to WHERE document = ?1")?;
        let mut rows = find.query(parameters)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let recipients = to.query_map([row.get::<_, i64>(2)?], |row| row.get(0))?;
            found.push(HandedRow {
                id: parsed(row, 0)?,
                sender: parsed(row, 1)?,
                recipients: recipients.collect::<Result<_, _>>()?,
            });
        }
        Ok(found)
    }

    // === Documents that found nobody ===

    pub fn add_undelivered(
        &mut self,
        place: i64,
        recipient: &str,
        reason: &str,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO undelivered (place, recipient, reason, noted_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (place, recipient) DO UPDATE SET reason = excluded.reason",
            )?
            .execute(params![place, recipient, reason, at.0])?;
        Ok(())
    }

    /// From a number on, oldest first.
    pub fn undelivered(&self, from: i64, limit: u64) -> Result<Vec<Undelivered>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, place, recipient, reason, noted_ms FROM undelivered
             WHERE ?1 <= number ORDER BY number LIMIT ?2",
        )?;
        let rows = statement.query_map([from, limit as i64], |row| {
            Ok(Undelivered {
                number: row.get(0)?,
                place: row.get(1)?,
                recipient: row.get(2)?,
                reason: row.get(3)?,
                noted: UnixMs(row.get(4)?),
            })
        })?;
        rows.map(|row| Ok(row?)).collect()
    }

    pub fn drop_undelivered(&mut self, number: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM undelivered WHERE number = ?1")?
            .execute([number])?;
        Ok(())
    }

    /// The bytes of an entry, and the box whose log it stands in.
    pub fn entry_at(&self, at: i64) -> Result<Option<(BoxId, Vec<u8>)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT log.box_id, coalesce(entry.entry,
               (SELECT first.entry FROM entry AS first WHERE first.place = entry.same_as))
             FROM entry JOIN log ON log.log = ?2 WHERE entry.place = ?1",
        )?;
        let mut rows = statement.query([at, unplace(at).0])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some((parsed(row, 0)?, row.get(1)?)))
    }
}

/// Log and number of an undelivered document's entry, for people.
pub fn place_text(at: i64) -> String {
    let (log, Seq(seq)) = unplace(at);
    debug_assert_eq!(place(log, Seq(seq)), at);
    format!("{log}/{seq}")
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    let text: String = row.get(index)?;
    text.parse().map_err(|_| StoreError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[test]
    fn what_was_handed_on_is_forgotten_in_slices_and_what_is_young_stays() {
        let place = tempfile::tempdir().unwrap();
        let options = Options {
            quota_bytes: 64 << 20,
            cache_bytes: 1 << 20,
        };
        let mut hub = HubStore::open(&place.path().join("hub.db"), options).unwrap();
        let sender = "H53.12".parse().unwrap();
        for number in 1..=5 {
            let id = format!("VB-{number}").parse().unwrap();
            let about = (&"van_ban_dien_tu".parse().unwrap(), &"VB".parse().unwrap());
            let to = ["H53.20", "H53.30"].into_iter();
            hub.note_handed((&id, &sender), about, to, UnixMs(number * 100))
                .unwrap();
        }
        assert!(hub.forget_handed(UnixMs(400), 2).unwrap());
        assert!(hub.forget_handed(UnixMs(400), 2).unwrap());
        assert!(!hub.forget_handed(UnixMs(400), 2).unwrap());
        let left = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            let row = hub.connection.query_row(&sql, [], |row| row.get(0));
            row.unwrap()
        };
        assert_eq!((left("handed"), left("handed_to")), (2_i64, 4_i64));
        assert_eq!(hub.handed_by_id(&"VB-4".parse().unwrap()).unwrap().len(), 1);

        hub.add_undelivered(1, "-", "not_addressed", UnixMs(1))
            .unwrap();
        hub.add_undelivered(2, "H53.99", "no_box", UnixMs(1))
            .unwrap();
        hub.add_undelivered(3, "-", "not_addressed", UnixMs(500))
            .unwrap();
        assert!(hub.forget_unheard(UnixMs(400), 10).unwrap());
        assert!(!hub.forget_unheard(UnixMs(400), 10).unwrap());
        let left = hub.undelivered(0, 10).unwrap();
        let places: Vec<i64> = left.iter().map(|row| row.place).collect();
        assert_eq!(places, [2, 3], "a document is never forgotten so");
    }
}
