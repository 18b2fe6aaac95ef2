//! The store of the hub's outputs: cursors, batches in hand, dead letters and tallies. It lies beside
//! the hub's own, which so keeps one writer.
//!
//! A batch is written down before it is delivered and struck out when its target has committed it, in
//! the transaction that moves the cursors. So a batch that a crash interrupts is delivered again with
//! the same content under the same number.

pub mod held;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Options, StoreError};
use crate::model::{BoxId, Epoch, Lane, Seq, UnixMs};
use held::{NewHeld, hold};

const PAGE_BYTES: u64 = 4096;
const MIGRATIONS: &[&str] = &[include_str!("outputs.sql")];

/// A log by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogName {
    pub box_id: BoxId,
    pub epoch: u64,
    pub lane: Lane,
}

impl LogName {
    pub fn new(box_id: &BoxId, epoch: Epoch, lane: Lane) -> LogName {
        LogName {
            box_id: box_id.clone(),
            epoch: epoch.0,
            lane,
        }
    }
}

impl Serialize for LogName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.box_id, self.epoch, self.lane).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LogName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (box_id, epoch, lane) = Deserialize::deserialize(deserializer)?;
        Ok(LogName {
            box_id,
            epoch,
            lane,
        })
    }
}

/// An entry that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub log: LogName,
    pub seq: Seq,
    /// Its number among those held, when it comes from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<i64>,
}

/// A batch: what is to be delivered, and where the cursors stand when it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub items: Vec<Item>,
    pub cursors: Vec<(LogName, Seq)>,
    /// Entries that the output's rules keep back.
    pub withheld: u64,
}

/// What became of (a part of) a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    pub delivered: Vec<Item>,
    /// Gone from the hub, or nothing to be said of it any more.
    pub dropped: Vec<Item>,
    /// Overtaken by a newer state of its subject; counted nowhere.
    pub passed: Vec<Item>,
    pub held: Vec<NewHeld>,
    /// For [`OutputStore::answer`].
    pub once: Vec<(String, String)>,
    pub late: u64,
    pub history: u64,
    pub delay_ms: Option<i64>,
}

/// An output as it stands.
#[derive(Debug, Clone)]
pub struct OutputRow {
    pub output: i64,
    pub name: String,
    pub generation: i64,
    pub batch: u64,
    pub plan: Option<Plan>,
    pub delivered: u64,
    pub withheld: u64,
    pub dropped: u64,
    pub late: u64,
    pub history: u64,
    pub delay_ms: Option<i64>,
    pub last: Option<UnixMs>,
    /// JSON.
    pub trouble: Option<String>,
}

/// An output, its cursors, and how many of its entries are parked or wait behind those.
#[derive(Debug)]
pub struct Standing {
    pub row: OutputRow,
    pub cursors: Vec<(LogName, Seq)>,
    pub parked: u64,
    pub behind: u64,
}

pub struct OutputStore {
    connection: Connection,
}

const COLUMNS: &str = "output, name, generation, batch, plan, delivered, withheld, dropped, late, \
                       history, delay_ms, last_ms, trouble";
impl OutputStore {
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        Ok(Self {
            connection: super::open(path, options, PAGE_BYTES, MIGRATIONS)?,
        })
    }

    /// For people who look while the hub runs.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            connection: super::open_read_only(path)?,
        })
    }

    /// Changes when another connection has written.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        super::data_version(&self.connection)
    }

    // === Outputs and cursors ===

    /// The output's row; a new one begins with the cursors of `start`.
    pub fn register(
        &mut self,
        name: &str,
        start: &[(LogName, Seq)],
    ) -> Result<OutputRow, StoreError> {
        let transaction = self.connection.transaction()?;
        let inserted = transaction.execute(
            "INSERT INTO output (name, generation, batch, delivered, withheld, dropped, late, history)
             VALUES (?1, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT (name) DO NOTHING",
            [name],
        )?;
        if inserted == 1 {
            let output = transaction.last_insert_rowid();
            put_cursors(&transaction, output, start)?;
        }
        transaction.commit()?;
        self.output(name)?.ok_or(StoreError::Damaged)
    }

    pub fn output(&self, name: &str) -> Result<Option<OutputRow>, StoreError> {
        let found = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM output WHERE name = ?1"))?
            .query_row([name], output_row)
            .optional()?;
        Ok(found)
    }

    /// By name.
    pub fn outputs(&self) -> Result<Vec<OutputRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM output ORDER BY name");
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map([], output_row)?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// All that is known of an output at one moment.
    pub fn standing(&self, output: i64) -> Result<Standing, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let sql = format!("SELECT {COLUMNS} FROM output WHERE output = ?1");
        let (parked, behind) = self.held_counts(output)?;
        let standing = Standing {
            row: transaction.query_row(&sql, [output], output_row)?,
            cursors: self.cursors(output)?,
            parked,
            behind,
        };
        transaction.commit()?;
        Ok(standing)
    }

    pub fn cursors(&self, output: i64) -> Result<Vec<(LogName, Seq)>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT box_id, epoch, lane, seq FROM cursor WHERE output = ?1")?;
        let mut rows = statement.query([output])?;
        let mut cursors = Vec::new();
        while let Some(row) = rows.next()? {
            cursors.push((log_name(row, 0)?, Seq(row.get::<_, i64>(3)? as u64)));
        }
        Ok(cursors)
    }

    /// Everything is to be delivered again from the beginning; what was held is among it. What a far
    /// end must not hear twice stays remembered.
    pub fn rewind(&mut self, output: i64) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for sql in [
            "UPDATE output SET generation = generation + 1, plan = NULL WHERE output = ?1",
            "DELETE FROM cursor WHERE output = ?1",
            "DELETE FROM held WHERE output = ?1",
        ] {
            transaction.execute(sql, [output])?;
        }
        Ok(transaction.commit()?)
    }

    // === Batches ===

    /// Writes down what is to be delivered, and what waits behind held entries; returns the batch's
    /// number. A batch without items only moves the cursors; one with items is not planned again
    /// before it is settled, so what waits behind is written down once. None when somebody has
    /// rewound.
    pub fn plan(
        &mut self,
        row: &OutputRow,
        plan: &Plan,
        behind: &[NewHeld],
        at: UnixMs,
    ) -> Result<Option<u64>, StoreError> {
        let transaction = self.connection.transaction()?;
        let is_empty = plan.items.is_empty();
        let text = (!is_empty).then(|| json(plan));
        let batch = row.batch + u64::from(!is_empty);
        let changed = transaction
            .prepare_cached(
                "UPDATE output SET plan = ?3, batch = ?4, withheld = withheld + ?5
                 WHERE output = ?1 AND generation = ?2",
            )?
            .execute(params![
                row.output,
                row.generation,
                text,
                batch as i64,
                if is_empty { plan.withheld as i64 } else { 0 }
            ])?;
        if changed == 0 {
            return Ok(None);
        }
        for held in behind {
            hold(&transaction, row.output, held, at)?;
        }
        if is_empty {
            put_cursors(&transaction, row.output, &plan.cursors)?;
        }
        transaction.commit()?;
        Ok(Some(batch))
    }

    /// Writes down what became of the batch: `rest` is what is still to be delivered of it. Without a
    /// rest the cursors move. False when somebody has rewound.
    pub fn settle(
        &mut self,
        row: &OutputRow,
        outcome: &Outcome,
        rest: &Plan,
        at: UnixMs,
    ) -> Result<bool, StoreError> {
        let transaction = self.connection.transaction()?;
        // What a far end has heard it has heard, whoever has rewound.
        for (key, answer) in &outcome.once {
            transaction
                .prepare_cached(
                    "INSERT INTO once (output, key, answer) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![row.output, key, answer])?;
        }
        let is_done = rest.items.is_empty();
        let text = (!is_done).then(|| json(rest));
        let changed = transaction
            .prepare_cached(
                "UPDATE output SET plan = ?3, delivered = delivered + ?4, dropped = dropped + ?5,
                   late = late + ?6, history = history + ?7, delay_ms = coalesce(?8, delay_ms),
                   last_ms = CASE WHEN 0 < ?4 THEN ?9 ELSE last_ms END, withheld = withheld + ?10
                 WHERE output = ?1 AND generation = ?2",
            )?
            .execute(params![
                row.output,
                row.generation,
                text,
                outcome.delivered.len() as i64,
                outcome.dropped.len() as i64,
                outcome.late as i64,
                outcome.history as i64,
                outcome.delay_ms,
                at.0,
                if is_done { rest.withheld as i64 } else { 0 }
            ])?;
        if changed == 0 {
            transaction.commit()?;
            return Ok(false);
        }
        let done = outcome.delivered.iter().chain(&outcome.dropped);
        for item in done.chain(&outcome.passed) {
            if let Some(number) = item.held {
                transaction
                    .prepare_cached("DELETE FROM held WHERE number = ?1")?
                    .execute([number])?;
            }
        }
        for held in &outcome.held {
            hold(&transaction, row.output, held, at)?;
        }
        if is_done {
            put_cursors(&transaction, row.output, &rest.cursors)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// What the far end answered, when it was told this already.
    pub fn answer(&self, output: i64, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT answer FROM once WHERE output = ?1 AND key = ?2")?
            .query_row(params![output, key], |row| row.get(0))
            .optional()?)
    }

    pub fn set_trouble(&mut self, output: i64, trouble: Option<&str>) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE output SET trouble = ?2 WHERE output = ?1",
            params![output, trouble],
        )?;
        Ok(())
    }
}

fn put_cursors(
    connection: &Connection,
    output: i64,
    cursors: &[(LogName, Seq)],
) -> Result<(), StoreError> {
    for (log, seq) in cursors {
        connection
            .prepare_cached(
                "INSERT INTO cursor (output, box_id, epoch, lane, seq) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET seq = excluded.seq",
            )?
            .execute(params![
                output,
                log.box_id.as_str(),
                log.epoch as i64,
                log.lane.index() as i64,
                seq.0 as i64
            ])?;
    }
    Ok(())
}

fn output_row(row: &Row<'_>) -> rusqlite::Result<OutputRow> {
    let count = |index: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(index)? as u64);
    let plan: Option<String> = row.get(4)?;
    Ok(OutputRow {
        output: row.get(0)?,
        name: row.get(1)?,
        generation: row.get(2)?,
        batch: count(3)?,
        plan: plan.and_then(|text| serde_json::from_str(&text).ok()),
        delivered: count(5)?,
        withheld: count(6)?,
        dropped: count(7)?,
        late: count(8)?,
        history: count(9)?,
        delay_ms: row.get(10)?,
        last: row.get::<_, Option<i64>>(11)?.map(UnixMs),
        trouble: row.get(12)?,
    })
}

fn json(plan: &Plan) -> String {
    serde_json::to_string(plan).expect("a plan is plain data")
}

fn log_name(row: &Row<'_>, first: usize) -> Result<LogName, StoreError> {
    let lane = Lane::from_index(row.get::<_, i64>(first + 2)? as u64);
    Ok(LogName {
        box_id: parsed(row, first)?,
        epoch: row.get::<_, i64>(first + 1)? as u64,
        lane: lane.ok_or(StoreError::Damaged)?,
    })
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    let text: String = row.get(index)?;
    text.parse().map_err(|_| StoreError::Damaged)
}
