//! SQLite: a file of another program beside us, read as its own readers do.
//!
//! The file is opened for reading only and is never created. The other program's WAL is read with it,
//! and its writers are not held up: a reader of a WAL blocks nobody, and in the older journal modes a
//! read is short because it is bounded. Each read has a thread and a connection of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Statement};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::edge::config::sql::SqlConfig;
use crate::edge::connectors::Fault;
use crate::edge::sql::driver::{
    Ask, Gathering, Mark, Message, Table, bad_query, broken, grouped, login, too_slow,
    unreachable_fault,
};
use crate::edge::sql::mapping::Described;
use crate::edge::sql::query::{Name, Query};
use crate::edge::sql::value::{Kind, Value};

/// How long another program's lock is waited for.
const BUSY: Duration = Duration::from_secs(5);
const STACK_BYTES: usize = 512 * 1024;

pub struct Session {
    file: PathBuf,
}

impl Session {
    pub fn new(file: &Path) -> Session {
        Session {
            file: file.to_owned(),
        }
    }

    pub async fn read(
        &mut self,
        config: &SqlConfig,
        ask: Ask,
        sink: mpsc::Sender<Message>,
    ) -> Result<(), Fault> {
        let query = config.query.clone();
        let gathering = Gathering::new(config);
        let statement_ms = config.statement_ms;
        let pages = Arc::new(AtomicU64::new(0));
        let limit = Limit {
            ms: statement_ms,
            pages: Arc::clone(&pages),
            sink: sink.clone().downgrade(),
        };
        self.work(Some(limit), move |connection| {
            read(connection, &query, &ask, gathering, &sink, &pages)
        })
        .await
    }

    pub async fn tables(&mut self) -> Result<Vec<Table>, Fault> {
        self.work(None, tables).await
    }

    /// Works in a thread of its own with a connection of its own; interrupts it after its time.
    async fn work<T: Send + 'static>(
        &self,
        limit: Option<Limit>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let file = self.file.clone();
        let limit_ms = limit.as_ref().map(|limit| limit.ms);
        let (answer, mut answered) = oneshot::channel();
        let (handle, interrupt) = oneshot::channel();
        let worker = thread::Builder::new()
            .name("sqlite".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let done = open(&file).and_then(|connection| {
                    // Who waits may be gone; then the work is short.
                    let _ = handle.send(connection.get_interrupt_handle());
                    work(&connection).map_err(|error| of_sqlite(&error, limit_ms))
                });
                let _ = answer.send(done);
            });
        worker.map_err(|error| unreachable_fault(&error.to_string()))?;
        let Some(limit) = limit else {
            return answered.await.map_err(|_| broken("the reader ended"))?;
        };
        let interrupt = interrupt.await.ok();
        let done = loop {
            let before = limit.pages.load(Ordering::Relaxed);
            match timeout(Duration::from_millis(limit.ms), &mut answered).await {
                Ok(done) => break done,
                Err(_) if limit.is_at_work(before) => {}
                Err(_) => {
                    interrupt.inspect(|interrupt| interrupt.interrupt());
                    break answered.await;
                }
            }
        };
        done.map_err(|_| broken("the reader ended"))?
    }
}

/// How long a statement may work without giving anything.
struct Limit {
    ms: u64,
    pages: Arc<AtomicU64>,
    sink: mpsc::WeakSender<Message>,
}

impl Limit {
    /// Whether pages have come since, or whoever takes them is the slower one.
    fn is_at_work(&self, before: u64) -> bool {
        let waits = self.sink.upgrade().is_some_and(|sink| sink.capacity() == 0);
        waits || before != self.pages.load(Ordering::Relaxed)
    }
}

fn open(file: &Path) -> Result<Connection, Fault> {
    if !file.is_file() {
        return Err(unreachable_fault(&format!(
            "không có tệp / no such file: {}",
            file.display()
        )));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(file, flags).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(
            "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -1024;",
        )?;
        Ok(connection)
    });
    opened.map_err(|error| of_sqlite(&error, None))
}

fn read(
    connection: &Connection,
    query: &Query,
    ask: &Ask,
    mut gathering: Gathering,
    sink: &mpsc::Sender<Message>,
    pages: &AtomicU64,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&query.with_numbers("?"))?;
    let described = describe(&statement);
    for (place, name) in query.numbered().into_iter().enumerate() {
        bind(&mut statement, place + 1, name, ask)?;
    }
    let count = described.len();
    if sink.blocking_send(Message::Columns(described)).is_err() {
        return Ok(());
    }
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if let Some(full) = gathering.add(values(row, count)?) {
            if sink.blocking_send(full).is_err() {
                return Ok(());
            }
            pages.fetch_add(1, Ordering::Relaxed);
        }
    }
    if let Some(rest) = gathering.page() {
        // Whoever read may have seen enough.
        let _ = sink.blocking_send(rest);
    }
    Ok(())
}

fn bind(
    statement: &mut Statement<'_>,
    place: usize,
    name: Name,
    ask: &Ask,
) -> rusqlite::Result<()> {
    match (name, &ask.after) {
        (Name::Limit, _) => {
            let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
            statement.raw_bind_parameter(place, limit)
        }
        (Name::After, Mark::BeginTime) => statement.raw_bind_parameter(place, ""),
        (Name::After, mark) => match (mark.as_int(), mark) {
            (Some(number), _) => statement.raw_bind_parameter(place, number),
            (None, Mark::At(text)) => statement.raw_bind_parameter(place, text.as_str()),
            (None, _) => unreachable!("a beginning is a number or a time"),
        },
    }
}

/// A declared type binds nobody in SQLite: each value has a type of its own.
fn describe(statement: &Statement<'_>) -> Vec<Described> {
    let column = |name: &str| Described {
        name: name.to_owned(),
        kind: Kind::Any,
        type_name: String::new(),
    };
    statement.column_names().map(column).collect()
}

/// Only what is plainly binary is told apart.
fn kind(declared: &str) -> Kind {
    match declared {
        "BLOB" => Kind::Bytes,
        _ => Kind::Any,
    }
}

fn values(row: &Row<'_>, count: usize) -> rusqlite::Result<Vec<Value>> {
    let value = |place: usize| {
        Ok(match row.get_ref(place)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Int(number),
            ValueRef::Real(number) => Value::Float(number),
            ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        })
    };
    (0..count).map(value).collect()
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut statement = connection.prepare(
        "SELECT s.name, c.name, c.type FROM sqlite_schema AS s, pragma_table_info(s.name) AS c
         WHERE s.type IN ('table', 'view') AND s.name NOT LIKE 'sqlite_%'
         ORDER BY s.name, c.cid",
    )?;
    let rows = statement.query_map([], |row| {
        let declared: String = row.get(2)?;
        let described = Described {
            name: row.get(1)?,
            kind: kind(&declared.to_uppercase()),
            type_name: declared,
        };
        Ok((row.get(0)?, described))
    })?;
    let rows: Vec<(String, Described)> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(grouped(rows.into_iter()))
}

fn of_sqlite(error: &rusqlite::Error, limit_ms: Option<u64>) -> Fault {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => too_slow(limit_ms.unwrap_or(0)),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => unreachable_fault(
            "chương trình kia đang khóa tệp / the other program keeps the file locked",
        ),
        Some(ErrorCode::CannotOpen) => unreachable_fault(
            "không mở được tệp hoặc tệp -wal, -shm của nó / the file, or its -wal and -shm, cannot be opened",
        ),
        Some(
            ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::AuthorizationForStatementDenied,
        ) => login(&error.to_string()),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => broken(
            "tệp không phải SQLite hoặc bị hỏng / the file is no SQLite database or is damaged",
        ),
        // What SQLite says of a statement names tables and columns, never content.
        _ => bad_query(&error.to_string()),
    }
}
