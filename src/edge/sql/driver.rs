//! One session with a source's database, whatever its dialect: read-only, bounded in time, its
//! result handed on in pages so that memory does not grow with it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::edge::config::sql::{Driver, Place, SqlConfig};
use crate::edge::connectors::Fault;
use crate::edge::sql::mapping::Described;
#[cfg(feature = "odbc")]
use crate::edge::sql::odbc;
use crate::edge::sql::value::Value;
use crate::edge::sql::{mssql, mysql, postgres, sqlite};

/// Rows of one page, and bytes from which on it is handed on with fewer.
pub const PAGE_ROWS: usize = 500;
const PAGE_BYTES: usize = 1 << 20;
/// Pages that wait for their reader.
pub const PAGES_WAITING: usize = 1;
/// A driver that has not answered so long after the database's own limit is given up.
const GRACE: Duration = Duration::from_secs(5);
/// Tables that a discovery lists, and columns of all of them.
pub const COLUMNS_MAX: usize = 5_000;
const PASSWORD_BYTES_MAX: usize = 4096;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub after: Mark,
    pub limit: u64,
}

/// Where to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Before everything: the least value of the watermark's type.
    BeginNumber,
    BeginTime,
    At(String),
}

impl Mark {
    /// A whole number, where it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Mark::BeginNumber => Some(i64::MIN),
            Mark::BeginTime => None,
            Mark::At(text) => text.parse().ok(),
        }
    }
}

/// What comes of a query: the columns once, then rows in pages.
#[derive(Debug)]
pub enum Message {
    Columns(Vec<Described>),
    Rows(Vec<Vec<Value>>),
}

/// Rows that are gathered to a page.
pub struct Gathering {
    rows: Vec<Vec<Value>>,
    bytes: usize,
    value_bytes_max: usize,
}

impl Gathering {
    pub fn new(config: &SqlConfig) -> Gathering {
        let value_bytes_max = match config.attachments.is_empty() {
            // Nobody wants bytes.
            true => 0,
            false => config.attachment_bytes_max,
        };
        Gathering {
            rows: Vec::new(),
            bytes: 0,
            value_bytes_max: usize::try_from(value_bytes_max).unwrap_or(usize::MAX),
        }
    }

    /// Adds a row; gives the page when it is full.
    pub fn add(&mut self, mut row: Vec<Value>) -> Option<Message> {
        for value in &mut row {
            if matches!(value, Value::Bytes(bytes) if self.value_bytes_max < bytes.len()) {
                *value = Value::TooLong;
            }
            self.bytes += value.bytes();
        }
        self.rows.push(row);
        let is_full = self.rows.len() == PAGE_ROWS || PAGE_BYTES <= self.bytes;
        is_full.then(|| self.page()).flatten()
    }

    /// What is gathered, if there is anything.
    pub fn page(&mut self) -> Option<Message> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        (!rows.is_empty()).then_some(Message::Rows(rows))
    }
}

/// A table as a discovery shows it: names only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Described>,
}

pub enum Session {
    Postgres(postgres::Session),
    Mysql(mysql::Session),
    Mssql(Box<mssql::Session>),
    Sqlite(sqlite::Session),
    #[cfg(feature = "odbc")]
    Odbc(odbc::Session),
}

impl Session {
    pub async fn open(config: &SqlConfig) -> Result<Session, Fault> {
        let opening = async {
            match (&config.place, config.driver) {
                (Place::Server(server), Driver::Postgres) => {
                    postgres::open(server, config).await.map(Session::Postgres)
                }
                (Place::Server(server), Driver::Mysql) => {
                    mysql::open(server, config).await.map(Session::Mysql)
                }
                (Place::Server(server), _) => mssql::open(server, config)
                    .await
                    .map(|session| Session::Mssql(Box::new(session))),
                (Place::File(file), _) => Ok(Session::Sqlite(sqlite::Session::new(file))),
                #[cfg(feature = "odbc")]
                (
                    Place::Odbc {
                        connection,
                        password,
                    },
                    _,
                ) => odbc::open(connection, password.as_deref(), config).map(Session::Odbc),
                #[cfg(not(feature = "odbc"))]
                (Place::Odbc { .. }, _) => unreachable!("refused by the configuration"),
            }
        };
        let patience = Duration::from_millis(config.connect_ms);
        match timeout(patience, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(unreachable_fault("no answer within connect_timeout")),
        }
    }

    /// The database's own clock, microseconds since 1970; none where it is ours or cannot be asked.
    pub async fn clock_micros(&mut self) -> Result<Option<i64>, Fault> {
        match self {
            Session::Postgres(session) => session.clock_micros().await.map(Some),
            Session::Mysql(session) => session.clock_micros().await.map(Some),
            Session::Mssql(session) => session.clock_micros().await.map(Some),
            Session::Sqlite(_) => Ok(None),
            #[cfg(feature = "odbc")]
            Session::Odbc(_) => Ok(None),
        }
    }

    /// Runs the source's query and hands its result to `sink`, which may be closed when enough was
    /// seen.
    pub async fn read(
        &mut self,
        config: &SqlConfig,
        ask: Ask,
        sink: mpsc::Sender<Message>,
    ) -> Result<(), Fault> {
        match self {
            Session::Postgres(session) => session.read(config, ask, sink).await,
            Session::Mysql(session) => session.read(config, ask, sink).await,
            Session::Mssql(session) => session.read(config, ask, sink).await,
            Session::Sqlite(session) => session.read(config, ask, sink).await,
            #[cfg(feature = "odbc")]
            Session::Odbc(session) => session.read(config, ask, sink).await,
        }
    }

    /// Tables and their columns, names only.
    pub async fn tables(&mut self) -> Result<Vec<Table>, Fault> {
        match self {
            Session::Postgres(session) => session.tables().await,
            Session::Mysql(session) => session.tables().await,
            Session::Mssql(session) => session.tables().await,
            Session::Sqlite(session) => session.tables().await,
            #[cfg(feature = "odbc")]
            Session::Odbc(session) => session.tables().await,
        }
    }

    pub async fn close(self) {
        match self {
            Session::Postgres(_) | Session::Sqlite(_) => {}
            Session::Mysql(session) => session.close().await,
            Session::Mssql(session) => session.close().await,
            #[cfg(feature = "odbc")]
            Session::Odbc(_) => {}
        }
    }
}

/// Waits for the next part of an answer, a little longer than the database's own limit.
pub async fn patiently<T>(statement_ms: u64, answer: impl Future<Output = T>) -> Result<T, Fault> {
    let patience = Duration::from_millis(statement_ms) + GRACE;
    timeout(patience, answer)
        .await
        .map_err(|_| too_slow(statement_ms))
}

/// Groups columns, which come table by table, into tables.
pub fn grouped(rows: impl Iterator<Item = (String, Described)>) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for (name, column) in rows.take(COLUMNS_MAX) {
        match tables.last_mut() {
            Some(table) if table.name == name => table.columns.push(column),
            _ => tables.push(Table {
                name,
                columns: vec![column],
            }),
        }
    }
    tables
}

/// The password in a file, without the line's end.
pub fn password(file: Option<&std::path::Path>) -> Result<String, Fault> {
    let Some(file) = file else {
        return Ok(String::new());
    };
    let unreadable = |error: std::io::Error| {
        Fault::new(
            "password",
            [
                format!("không đọc được tệp mật khẩu {}", file.display()),
                format!(
                    "cannot read the password's file {}: {error}",
                    file.display()
                ),
            ],
            [
                "Kiểm tra password_file hoặc LoadCredential= và quyền đọc.",
                "Check password_file or LoadCredential=, and the permission to read it.",
            ],
        )
    };
    let bytes = std::fs::read(file).map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| text.len() <= PASSWORD_BYTES_MAX)
        .ok_or_else(|| unreadable(std::io::ErrorKind::InvalidData.into()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

// === What can go wrong, the same for every dialect ===

pub fn unreachable_fault(detail: &str) -> Fault {
    Fault::new(
        "connect",
        [
            format!("không kết nối được cơ sở dữ liệu nguồn: {detail}"),
            format!("cannot connect to the source's database: {detail}"),
        ],
        [
            "Kiểm tra máy chủ có chạy, địa chỉ, cổng, tường lửa và TLS; chương trình tự thử lại.",
            "Check that the server runs, its address, port, firewall and TLS; it is tried again by itself.",
        ],
    )
}

pub fn login(detail: &str) -> Fault {
    Fault::new(
        "login",
        [
            format!("cơ sở dữ liệu nguồn không cho đăng nhập hoặc không cho đọc: {detail}"),
            format!("the source's database does not let us in or does not let us read: {detail}"),
        ],
        [
            "Kiểm tra user, mật khẩu và quyền (GRANT SELECT); xem docs/sources.md.",
            "Check user, password and rights (GRANT SELECT); see docs/sources.md.",
        ],
    )
}

pub fn bad_query(detail: &str) -> Fault {
    Fault::new(
        "query",
        [
            format!("cơ sở dữ liệu nguồn không chạy được câu truy vấn: {detail}"),
            format!("the source's database cannot run the query: {detail}"),
        ],
        [
            "Bảng hoặc cột có thể đã đổi tên, bị xóa hoặc đổi kiểu: sửa query; con trỏ giữ nguyên, không mất dòng nào.",
            "A table or column may have been renamed, dropped or changed: correct query; the cursor stands still, no row is lost.",
        ],
    )
}

pub fn broken(detail: &str) -> Fault {
    Fault::new(
        "read",
        [
            format!("đang đọc thì mất kết nối với cơ sở dữ liệu nguồn: {detail}"),
            format!("the source's database went away while it was read: {detail}"),
        ],
        [
            "Chương trình tự đọc lại từ chỗ dừng; nếu lặp lại, kiểm tra máy chủ và mạng.",
            "It is read again from where it stood; if this lasts, check server and network.",
        ],
    )
}

pub fn too_slow(statement_ms: u64) -> Fault {
    Fault::new(
        "timeout",
        [
            format!("câu truy vấn chạy quá {statement_ms} ms và bị dừng"),
            format!("the query took longer than {statement_ms} ms and was stopped"),
        ],
        [
            "Tạo chỉ mục cho cột watermark, giảm rows_max, hoặc tăng statement_timeout.",
            "Make an index on the watermark's column, lower rows_max, or raise statement_timeout.",
        ],
    )
}
