//! Sources of kind `sql`: another program's database, read without writing to it.
//!
//! New rows are found by a watermark (`watermark`), or by comparing everything with what was seen
//! before (`snapshot`). Either way a page of rows goes in through [`Rows`] together with where the
//! source then stands, so that a crash at any moment loses and doubles nothing.

pub mod attachment;
pub mod driver;
pub mod mapping;
mod mssql;
mod mysql;
#[cfg(feature = "odbc")]
mod odbc;
mod postgres;
pub mod query;
pub mod sample;
pub mod shape;
mod snapshot;
mod sqlite;
pub mod value;
mod watermark;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::catalogue::Dataset;
use crate::edge::config::sql::{Driver, Mode, Place, SqlConfig};
use crate::edge::connectors::{Fault, Post};
use crate::edge::door::{Door, short_digest};
use crate::edge::rows::Rows;
use crate::edge::rows::fault::{CURSOR_SET, of_intake};
use crate::engine::sending::Submission;
use crate::model::SourceName;
use crate::store::rows::Beside;
use driver::{Ask, Message, PAGES_WAITING, Session};
use mapping::{Described, Plan, place_of};
use value::Value;

/// Reads a source until told to stop, or until a fault.
pub async fn poll(config: Arc<SqlConfig>, rows: Rows, post: Post) -> Result<(), Fault> {
    post.warn(unencrypted(&config).as_ref()).await;
    let mut reader = Reader::new(&config, &rows).await?;
    loop {
        post.working();
        let mut session = Session::open(&config).await?;
        let round = match &mut reader {
            Reader::Watermark(reader) => reader.poll(&mut session, &post).await,
            Reader::Snapshot(reader) => reader.sweep(&mut session, &post).await,
        };
        match round {
            Ok(true) => session.close().await,
            Ok(false) => return Ok(()),
            Err(fault) if fault.code == CURSOR_SET => {
                tracing::info!(source = %rows.source(), "the cursor was set; reading from there");
                reader = Reader::new(&config, &rows).await?;
                continue;
            }
            Err(fault) => return Err(fault),
        }
        post.waiting().await;
        if !post.pause(Duration::from_millis(config.poll_ms)).await {
            return Ok(());
        }
    }
}

/// Sets back (or forth) where a source is read from, by its watermark. A round that is in hand ends,
/// and reading begins anew from there.
pub async fn rewind(door: &Arc<Door>, source: SourceName, mark: &str) -> Result<(), Fault> {
    let event = ("warning", "source_rewound", format!("{source}: {mark}"));
    let set = |before: Option<&str>| watermark::stand::rewound(before, mark);
    set_cursor(door, source, set, event).await
}

/// Lets the next sweep of a snapshot find any number of rows gone, once.
pub async fn allow_deletes(door: &Arc<Door>, source: SourceName) -> Result<(), Fault> {
    tracing::warn!(%source, "a person allows the next sweep any number of deletes");
    let event = ("warning", "deletes_allowed", source.to_string());
    set_cursor(door, source, snapshot::allowing_deletes, event).await
}

/// Sets a source's cursor on a person's order; rows that were read before it are not handed in.
async fn set_cursor(
    door: &Arc<Door>,
    source: SourceName,
    set: impl FnOnce(Option<&str>) -> Result<String, Fault>,
    event: (&'static str, &'static str, String),
) -> Result<(), Fault> {
    let mut turn = door.turn(&source).await;
    let before = door.intake().cursor(source.clone()).await;
    let cursor = set(before.map_err(of_intake)?.as_deref())?;
    let beside = Beside {
        events: vec![event],
        ..Beside::default()
    };
    let submission = Submission {
        reply: (),
        source,
        records: Vec::new(),
        once: None,
        cursor: Some(cursor),
        beside,
    };
    // Whatever becomes of it: who reads looks again.
    *turn += 1;
    let kept = door.intake().submit(submission).await;
    kept.map(|_| ()).map_err(of_intake)
}

enum Reader {
    Watermark(watermark::Reader),
    Snapshot(snapshot::Reader),
}

impl Reader {
    async fn new(config: &Arc<SqlConfig>, rows: &Rows) -> Result<Reader, Fault> {
        let (config, rows) = (Arc::clone(config), rows.clone());
        Ok(match config.mode {
            Mode::Snapshot { .. } => Reader::Snapshot(snapshot::Reader::new(config, rows).await?),
            _ => Reader::Watermark(watermark::Reader::new(config, rows).await?),
        })
    }
}

/// What takes a result's parts.
trait Taker {
    fn columns(&mut self, described: Vec<Described>) -> Result<(), Fault>;
    /// True to go on.
    fn rows(&mut self, page: Vec<Vec<Value>>) -> impl Future<Output = Result<bool, Fault>> + Send;
}

/// Runs the query and hands its result to `taker` while it comes. True when all of it was taken.
async fn read(
    session: &mut Session,
    config: &SqlConfig,
    ask: Ask,
    taker: &mut impl Taker,
) -> Result<bool, Fault> {
    let (sink, mut parts) = mpsc::channel(PAGES_WAITING);
    let reading = session.read(config, ask, sink);
    let taking = async move {
        while let Some(part) = parts.recv().await {
            match part {
                Message::Columns(described) => taker.columns(described)?,
                Message::Rows(page) => {
                    if !taker.rows(page).await? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    };
    let (read, taken) = tokio::join!(reading, taking);
    let taken = taken?;
    read?;
    Ok(taken)
}

/// Joins the configuration to a result's columns: how its rows become records, and the places of
/// `others`. A fault where a column is no longer of the kind that it was; `before` is the schema and
/// the configuration's digest under which the source was read last, and says the new ones after.
fn planned(
    config: &SqlConfig,
    rows: &Rows,
    described: &[Described],
    others: &[&str],
    before: (&mut String, &mut String),
) -> Result<(Plan, Vec<usize>), Fault> {
    let plan = Plan::new(config, described, others, &dataset_of(rows))?;
    let places = others.iter().map(|name| place_of(described, name));
    let places = places.collect::<Result<_, _>>()?;
    let (schema, digest) = (plan.signature(), config_digest(config));
    if *before.1 == digest {
        same_schema(before.0, &schema)?;
    }
    (*before.0, *before.1) = (schema, digest);
    Ok((plan, places))
}

fn dataset_of(rows: &Rows) -> std::sync::Arc<Dataset> {
    let dataset = rows.door().dataset(rows.dataset());
    dataset.expect("the configuration names datasets of the catalogue")
}

/// What the configuration makes of rows, in a few letters: with another query or another mapping
/// another schema is no surprise.
fn config_digest(config: &SqlConfig) -> String {
    let columns = format!("{:?}{:?}", config.columns, config.attachments);
    let digest = short_digest(&[&config.query.with_marks(), &columns]);
    hex(&digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A fault when a column is no longer of the kind that it was.
fn same_schema(before: &str, now: &str) -> Result<(), Fault> {
    if before.is_empty() || before == now {
        return Ok(());
    }
    let old: Vec<&str> = before.split(',').collect();
    let changed: Vec<&str> = now.split(',').filter(|part| !old.contains(part)).collect();
    let changed = changed.join(", ");
    Err(Fault::new(
        "schema",
        [
            format!("kiểu dữ liệu của cột nguồn đã đổi: {changed}; trước đây: {before}"),
            format!("the kind of a source's column has changed: {changed}; it was: {before}"),
        ],
        [
            "Đổi kiểu trong query cho như cũ (CAST), hoặc sửa query hay [source.columns] cho đúng kiểu mới; con trỏ giữ nguyên, không mất dòng nào.",
            "Convert it back in query (CAST), or correct query or [source.columns] for the new kind; the cursor stands still, no row is lost.",
        ],
    ))
}

fn never_read() -> Fault {
    Fault::new(
        "cursor",
        [
            "nguồn này chưa đọc được dòng nào",
            "nothing of this source was read yet",
        ],
        [
            "Đặt start trong cấu hình nguồn.",
            "Set start in the source's configuration.",
        ],
    )
}

fn unreadable_cursor() -> Fault {
    Fault::new(
        "cursor",
        [
            "vị trí đã đọc của nguồn này thuộc về một chế độ đọc khác",
            "where this source was read to belongs to another mode of reading",
        ],
        [
            "Đặt lại mode như cũ, hoặc đặt tên mới cho nguồn để đọc từ đầu.",
            "Set the mode back, or give the source a new name to read it from the beginning.",
        ],
    )
}

/// A warning where rows travel unencrypted over the network.
fn unencrypted(config: &SqlConfig) -> Option<Fault> {
    let is_open = match &config.place {
        Place::Server(server) => server.tls_ca.is_none() && !server.is_on_this_machine(),
        Place::File(_) | Place::Odbc { .. } => false,
    };
    let hint = match config.driver {
        Driver::Mssql => [
            "Dùng driver = \"odbc\" để mã hóa đường nối.",
            "Use driver = \"odbc\" to encrypt the link.",
        ],
        _ => [
            "Bật TLS ở máy chủ cơ sở dữ liệu và ghi tls_ca.",
            "Switch TLS on at the database's server and set tls_ca.",
        ],
    };
    is_open.then(|| {
        Fault::new(
            "unencrypted",
            [
                "đường nối tới cơ sở dữ liệu nguồn không được mã hóa",
                "the link to the source's database is not encrypted",
            ],
            hint,
        )
    })
}
