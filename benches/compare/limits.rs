//! What disk and line allow at best, measured beside the systems in the same run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::Connection;

use crate::link::BYTES_PER_S;
use crate::wait;

const TIME_EACH: Duration = Duration::from_millis(500);

pub struct Limits {
    /// Bytes of one record in bare zstd-1 batches of 1,000.
    pub record_bytes: f64,
    /// 4 KiB overwritten in place and synced, times a second.
    pub syncs_per_s: f64,
    /// Bare rows into SQLite with `synchronous=FULL`, records a second: 1, 100, 1,000 a commit.
    pub rows_per_s: [f64; 3],
}

impl Limits {
    pub fn measure(records: &[String]) -> Result<Limits> {
        let rows = |group| sqlite(records, group);
        Ok(Limits {
            record_bytes: batch_bytes(records)?,
            syncs_per_s: syncs()?,
            rows_per_s: [rows(1)?, rows(100)?, rows(1_000)?],
        })
    }

    /// Records that the emulated line carries in a second, without any protocol.
    pub fn line_per_s(&self) -> f64 {
        BYTES_PER_S as f64 / self.record_bytes
    }
}

fn batch_bytes(records: &[String]) -> Result<f64> {
    let mut bytes = 0;
    for batch in records.chunks(1_000) {
        bytes += zstd::bulk::compress(batch.join("\n").as_bytes(), 1)?.len();
    }
    Ok(bytes as f64 / records.len() as f64)
}

fn syncs() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = File::create(folder.path().join("page"))?;
    let page = [1; 4096];
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    per_second(|| {
        file.write_all_at(&page, 0)?;
        Ok(file.sync_data()?)
    })
}

fn sqlite(records: &[String], group: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut database = Connection::open(folder.path().join("rows.db"))?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE record (number INTEGER PRIMARY KEY, record TEXT NOT NULL) STRICT;",
    )?;
    let mut groups = records.chunks(group).cycle();
    let commits = per_second(|| {
        let transaction = database.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO record (record) VALUES (?1)")?;
            for record in groups.next().unwrap_or_default() {
                insert.execute([record])?;
            }
        }
        Ok(transaction.commit()?)
    })?;
    Ok(commits * group.min(records.len()) as f64)
}

fn per_second(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < TIME_EACH {
        wait::check()?;
        work()?;
        times += 1;
    }
    Ok(f64::from(times) / begun.elapsed().as_secs_f64())
}
