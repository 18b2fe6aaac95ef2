//! Reading by snapshot and difference, for tables without a watermark.
//!
//! A *sweep* reads everything. The store keeps, of every row that was given, the digest of its key
//! and of its content, written in the transaction that keeps the row; so a row that is new or
//! changed is known at once. Which rows were met is remembered in one bit a row (10 million rows:
//! 1.2 MB). Only a sweep that was read to its end says what is gone; one that was interrupted says
//! nothing. When more is gone than is believable, nothing is deleted and the source asks a person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::catalogue::Dataset;
use crate::edge::config::sql::{Mode, SqlConfig};
use crate::edge::connectors::{Fault, Post};
use crate::edge::door::short_digest;
use crate::edge::rows::{Batch, Round, Row, Rows};
use crate::edge::sql::driver::{Ask, Mark, Session};
use crate::edge::sql::mapping::{Described, Plan};
use crate::edge::sql::value::Value;
use crate::edge::sql::{Taker, dataset_of, never_read, planned, read, unreadable_cursor};
use crate::edge::status::Progress;
use crate::model::SourceName;
use crate::model::record::Op;
use crate::store::rows::{Beside, Seen, SeenChange, Short};

/// Rows that are looked through at once for those that are gone.
const PAGE_ROWS: u32 = 500;
/// A breath for the other program's machine after so many rows as `rows_max` says.
const BREATH: Duration = Duration::from_millis(10);

/// Where the source stands; kept with the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stand {
    /// Sweeps that were read to their end.
    sweeps: u64,
    schema: String,
    config: String,
    /// A person has said that the next sweep may find any number of rows gone.
    #[serde(default)]
    deletes_allowed: bool,
}

impl Stand {
    fn read(cursor: Option<&str>) -> Result<Stand, Fault> {
        cursor.map_or(Ok(Stand::default()), |cursor| {
            serde_json::from_str(cursor).map_err(|_| unreadable_cursor())
        })
    }

    fn to_cursor(&self) -> String {
        serde_json::to_string(self).expect("a stand is plain JSON")
    }
}

/// A cursor by which the next sweep may find any number of rows gone.
pub fn allowing_deletes(cursor: Option<&str>) -> Result<String, Fault> {
    let cursor = cursor.ok_or_else(never_read)?;
    let mut stand = Stand::read(Some(cursor))?;
    stand.deletes_allowed = true;
    Ok(stand.to_cursor())
}

pub struct Reader {
    config: Arc<SqlConfig>,
    rows: Rows,
    stand: Stand,
    round: Round,
}

impl Reader {
    pub async fn new(config: Arc<SqlConfig>, rows: Rows) -> Result<Reader, Fault> {
        let (round, cursor) = rows.begin().await?;
        Ok(Reader {
            config,
            rows,
            stand: Stand::read(cursor.as_deref())?,
            round,
        })
    }

    /// Looks whether somebody has set the cursor since the last sweep.
    async fn mind_orders(&mut self) -> Result<(), Fault> {
        let (round, cursor) = self.rows.begin().await?;
        if round != self.round {
            self.stand = Stand::read(cursor.as_deref())?;
            self.round = round;
        }
        Ok(())
    }

    /// Reads everything once; false when told to stop meanwhile.
    pub async fn sweep(&mut self, session: &mut Session, post: &Post) -> Result<bool, Fault> {
        self.mind_orders().await?;
        let (known, last_number) = self
            .rows
            .look(|view, source| view.seen_count(source.as_str()))
            .await?;
        let config = Arc::clone(&self.config);
        let everything = Ask {
            after: Mark::BeginNumber,
            limit: u64::MAX,
        };
        let before = self.stand.clone();
        let mut sweep = Sweep {
            known,
            last_number,
            reader: self,
            post,
            plan: None,
            met: Bits::default(),
            met_known: 0,
            read_rows: 0,
        };
        let all = read(session, &config, everything, &mut sweep).await?;
        let Sweep {
            met,
            met_known,
            read_rows,
            ..
        } = sweep;
        post.progress(None);
        if !all {
            return Ok(false);
        }
        let gone = known - met_known;
        if 0 < gone {
            self.may_delete(gone, known, read_rows)?;
            if !self.delete(&met, last_number, post).await? {
                return Ok(false);
            }
        }
        self.stand.sweeps = 1;
        self.stand.deletes_allowed = false;
        if before != self.stand {
            let batch = self.batch(Vec::new(), Vec::new());
            self.rows.hand_in(batch).await?;
        }
        Ok(true)
    }

    /// Whether so many rows may be taken for deleted.
    fn may_delete(&self, gone: u64, known: u64, read_rows: u64) -> Result<(), Fault> {
        let Mode::Snapshot {
            deletes_max_percent,
            ..
        } = self.config.mode
        else {
            unreachable!("a snapshot's reader reads snapshots");
        };
        let believable = match deletes_max_percent {
            _ if self.stand.deletes_allowed => true,
            100 => true,
            0 => false,
            percent => 0 < read_rows && gone <= (known.saturating_mul(percent) / 100).max(1),
        };
        match believable {
            true => Ok(()),
            false => Err(too_many(
                self.rows.source(),
                gone,
                known,
                deletes_max_percent,
            )),
        }
    }

    /// Says of every row that was known and was not met that it is gone; false when told to stop.
    async fn delete(&mut self, met: &Bits, last: i64, post: &Post) -> Result<bool, Fault> {
        let mut after = 0;
        loop {
            if post.is_stopping() {
                return Ok(false);
            }
            let page = self
                .rows
                .look(move |view, source| view.seen_page(source.as_str(), after, last, PAGE_ROWS))
                .await?;
            let Some((number, _)) = page.last() else {
                return Ok(true);
            };
            after = *number;
            let (mut rows, mut changes) = (Vec::new(), Vec::new());
            for (number, seen) in page {
                if met.has(number) {
                    continue;
                }
                changes.push(SeenChange::Delete(seen.key));
                let fields = String::from_utf8(seen.fields).ok();
                let data = fields.and_then(|text| RawValue::from_string(text).ok());
                // A row that never had a usable key was never given, so nothing of it is gone.
                rows.extend(data.map(|data| {
                    let mut row = Row::new(data, Op::Delete);
                    row.key = Some(seen.key);
                    row
                }));
            }
            if !changes.is_empty() {
                let batch = self.batch(rows, changes);
                self.rows.hand_in(batch).await?;
            }
        }
    }

    fn batch(&self, rows: Vec<Row>, seen: Vec<SeenChange>) -> Batch {
        Batch {
            rows,
            cursor: Some(self.stand.to_cursor()),
            round: Some(self.round),
            beside: Beside {
                seen,
                ..Beside::default()
            },
        }
    }
}

/// One sweep, taken page by page.
struct Sweep<'r> {
    reader: &'r mut Reader,
    post: &'r Post,
    /// Rows that were known when it began, and the greatest of their numbers.
    known: u64,
    last_number: i64,
    plan: Option<(Plan, Vec<usize>)>,
    met: Bits,
    met_known: u64,
    read_rows: u64,
}

/// A row of a page with what names it.
struct Met {
    row: Row,
    key: Short,
    hash: Short,
}

impl Sweep<'_> {
    fn make(&self, page: Vec<Vec<Value>>) -> Result<Vec<Met>, Fault> {
        let (plan, places) = self.plan.as_ref().expect("columns come first");
        let op = match self.reader.stand.sweeps {
            0 => Op::Snapshot,
            _ => Op::Upsert,
        };
        let make = |values: Vec<Value>| {
            let key = plan.key(&values, places).ok_or_else(no_key)?;
            let key = short_digest(&["row", &key]);
            let made = plan.record(values);
            let hash = made.digest(&[]);
            let mut row = made.into_row(op);
            row.key = Some(key);
            Ok(Met { row, key, hash })
        };
        page.into_iter().map(make).collect()
    }
}

impl Taker for Sweep<'_> {
    fn columns(&mut self, described: Vec<Described>) -> Result<(), Fault> {
        let reader = &mut *self.reader;
        let Mode::Snapshot { key, .. } = &reader.config.mode else {
            unreachable!("a snapshot's reader reads snapshots");
        };
        let names: Vec<&str> = key.iter().map(String::as_str).collect();
        let stand = &mut reader.stand;
        let before = (&mut stand.schema, &mut stand.config);
        let planned = planned(&reader.config, &reader.rows, &described, &names, before)?;
        self.plan = Some(planned);
        Ok(())
    }

    async fn rows(&mut self, page: Vec<Vec<Value>>) -> Result<bool, Fault> {
        if self.post.is_stopping() {
            return Ok(false);
        }
        let made = self.make(page)?;
        let keys: Vec<Short> = made.iter().map(|met| met.key).collect();
        let seen = self
            .reader
            .rows
            .look(move |view, source| view.seen(source.as_str(), keys.into_iter()))
            .await?;
        let mut here = BTreeMap::new();
        let (mut rows, mut changes) = (Vec::new(), Vec::new());
        let count = made.len() as u64;
        for Met { row, key, hash } in made {
            if here.insert(key, ()).is_some() {
                return Err(key_twice());
            }
            match seen.get(&key) {
                // Known from this sweep already.
                Some((number, _)) if self.last_number < *number => return Err(key_twice()),
                Some((number, _)) if !self.met.set(*number) => return Err(key_twice()),
                Some((_, before)) => {
                    self.met_known += 1;
                    if *before == hash {
                        continue;
                    }
                }
                None => {}
            }
            let fields = delete_fields(&dataset_of(&self.reader.rows), row.data.get());
            changes.push(SeenChange::Put(Seen {
                key,
                hash,
                mark: 0,
                fields,
            }));
            rows.push(row);
        }
        if !changes.is_empty() {
            let batch = self.reader.batch(rows, changes);
            self.reader.rows.hand_in(batch).await?;
        }
        let before = self.read_rows / self.reader.config.rows_max;
        self.read_rows += count;
        let of = (0 < self.known).then_some(self.known);
        let rows = self.read_rows;
        self.post.progress(Some(Progress { rows, of }));
        if before < self.read_rows / self.reader.config.rows_max {
            tokio::time::sleep(BREATH).await;
        }
        Ok(true)
    }
}

/// What a delete of this record has to say: the fields of its key where they are enough, else all of
/// it; nothing where the record has no usable key.
fn delete_fields(dataset: &Dataset, record: &str) -> Vec<u8> {
    let Some(subject) = dataset.subject_of(record.as_bytes()) else {
        return Vec::new();
    };
    let variants = dataset.variants.iter().flat_map(|variant| &variant.key);
    let wanted: Vec<&str> = dataset
        .key
        .iter()
        .chain(variants)
        .filter_map(|pointer| pointer.split('/').nth(1))
        .collect();
    let fields: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(record).ok();
    let reduced = fields.and_then(|mut fields| {
        fields.retain(|name, _| wanted.contains(&name.as_str()));
        serde_json::to_vec(&fields).ok()
    });
    match reduced {
        Some(reduced) if dataset.subject_of(&reduced) == Some(subject) => reduced,
        _ => record.as_bytes().to_vec(),
    }
}

/// A set of numbers, one bit each, in chunks that are there only where a number is.
#[derive(Debug, Default)]
struct Bits {
    chunks: BTreeMap<i64, Box<[u64; 64]>>,
}

impl Bits {
    fn place(number: i64) -> (i64, usize, u64) {
        let within = (number & 4_095) as usize;
        (number >> 12, within / 64, 1 << (within % 64))
    }

    /// False when it was set before.
    fn set(&mut self, number: i64) -> bool {
        let (chunk, word, bit) = Bits::place(number);
        let words = self
            .chunks
            .entry(chunk)
            .or_insert_with(|| Box::new([0; 64]));
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        is_new
    }

    fn has(&self, number: i64) -> bool {
        let (chunk, word, bit) = Bits::place(number);
        let words = self.chunks.get(&chunk);
        words.is_some_and(|words| words[word] & bit != 0)
    }
}

fn no_key() -> Fault {
    Fault::new(
        "key",
        [
            "một dòng có cột khóa trống",
            "a row has an empty key column",
        ],
        [
            "Chọn các cột key luôn có giá trị, hoặc loại dòng đó trong query.",
            "Choose key columns that always have a value, or leave such rows out in query.",
        ],
    )
}

fn key_twice() -> Fault {
    Fault::new(
        "key",
        [
            "hai dòng có cùng khóa trong một lượt đọc",
            "two rows of one sweep have the same key",
        ],
        [
            "Thêm cột vào key cho đủ phân biệt từng dòng.",
            "Add columns to key until each row has a key of its own.",
        ],
    )
}

fn too_many(source: &SourceName, gone: u64, known: u64, percent: u64) -> Fault {
    Fault::new(
        "too_many_deletes",
        [
            format!(
                "{gone} trên {known} dòng không còn trong bảng nguồn, quá mức cho phép {percent} %; chưa xóa dòng nào"
            ),
            format!(
                "{gone} of {known} rows are gone from the source, more than the {percent} % allowed; nothing was deleted"
            ),
        ],
        [
            format!(
                "Kiểm tra bảng nguồn và query; nếu đúng là đã xóa thì cho phép một lần: tramd sources allow-deletes {source}."
            ),
            format!(
                "Check the source's table and query; if they really were deleted allow it once: tramd sources allow-deletes {source}."
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bits_are_a_set(numbers in prop::collection::vec(0..20_000_i64, 0..400), other in 0..20_000_i64) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(bits.set(number), set.insert(number));
            }
            prop_assert_eq!(bits.has(other), set.contains(&other));
        }
    }

    #[test]
    fn a_delete_says_the_key_and_no_more() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        let catalogue = crate::catalogue::Catalogue::load(&folder).expect("the catalogue");
        let dossier = catalogue
            .get(&"ho_so_tthc".parse().expect("an id"))
            .expect("there");
        let record = r#"{"ma_ho_so":"H53.12-261120-0042","nguoi_nop":{"ho_ten":"Trần Văn A"}}"#;
        assert_eq!(
            delete_fields(dossier, record),
            br#"{"ma_ho_so":"H53.12-261120-0042"}"#
        );
        assert!(delete_fields(dossier, "{}").is_empty());
        for dataset in &catalogue {
            assert!(delete_fields(dataset, "not JSON").is_empty());
        }
    }
}
