//! Kinds `postgres` and `sqlite`: a table a dataset with the present state of each subject, a row
//! each. What both have in common: settings, and the values of a row.
//!
//! The program's own columns are `agency` and `subject` (the key), `life` and `capture` (the version),
//! `event_id`, `event_time`, `stored_time`, `deleted` and `data`. A row of an older version of the same
//! life never replaces a newer one.

mod postgres;
mod sqlite;

use std::path::PathBuf;
use std::time::Duration;

use crate::hub::output::event::Event;
use crate::hub::output::pick::find;
use crate::hub::output::settings::{self, Column, ColumnType};
use crate::hub::output::{Adapter, Failure, Trouble};
use crate::model::DatasetId;
use crate::model::record::Op;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::systemd::credential;

/// The program's own columns, in the order of a row's values.
const OWN: [&str; 9] = [
    "agency",
    "subject",
    "life",
    "capture",
    "event_id",
    "event_time",
    "stored_time",
    "deleted",
    "data",
];
/// Stands for the dataset in the table's name.
const DATASET: &str = "{dataset}";
const TABLE_NAME_MAX: usize = 60;

#[derive(Debug, Clone)]
pub struct TableConfig {
    pub place: Place,
    /// With `{dataset}` in it, unless there is one dataset.
    pub table: String,
    /// Whether tables are made when they are not there.
    pub create: bool,
    pub columns: Vec<Column>,
    pub timeout: Duration,
    pub every_ms: u64,
    pub batch_max: usize,
}

#[derive(Debug, Clone)]
pub enum Place {
    Sqlite(PathBuf),
    Postgres(Server),
}

#[derive(Debug, Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub schema: String,
    pub user: String,
    pub password: Option<PathBuf>,
    /// The authority that signed the server's certificate; none: no encryption.
    pub tls_ca: Option<PathBuf>,
}

pub fn postgres(section: &mut Section) -> Option<TableConfig> {
    let host: Option<String> = section.text("host", None);
    let port = section.number("port", 5432, 1..=65_535);
    let database = section.text("database", None);
    let schema = section.value("schema", Some("public"), identifier);
    let user = section.text("user", None);
    let password = section.optional_path("password_file");
    let tls_ca = section.optional_path("tls_ca");
    let rest = common(section);
    let (host, tls_ca) = (host?, tls_ca?);
    let address: Result<std::net::IpAddr, _> = host.parse();
    let is_near = host == "localhost"
        || host.starts_with('/')
        || address.is_ok_and(|address| address.is_loopback());
    if !is_near && tls_ca.is_none() {
        section.fault(
            "tls_ca",
            Wrong::new(
                "bắt buộc khi máy chủ ở máy khác: dữ liệu không được đi mà không mã hóa",
                "is required for a server on another machine: data must not travel unencrypted",
                "Ghi đường dẫn tệp PEM của CA đã ký chứng thư máy chủ.",
                "Name the PEM file of the authority that signed the server's certificate.",
            ),
        );
        return None;
    }
    let server = Server {
        host,
        port: u16::try_from(port?).expect("bounded above"),
        database: database?,
        schema: schema?,
        user: user?,
        password: password?.map(credential),
        tls_ca,
    };
    rest.map(|rest| rest.at(Place::Postgres(server)))
}

pub fn sqlite(section: &mut Section) -> Option<TableConfig> {
    let file = section.path("file", None);
    let rest = common(section);
    Some(rest?.at(Place::Sqlite(file?)))
}

/// What both kinds have.
struct Rest {
    table: String,
    create: bool,
    columns: Vec<Column>,
    timeout: Duration,
    every_ms: u64,
    batch_max: usize,
}

impl Rest {
    fn at(self, place: Place) -> TableConfig {
        TableConfig {
            place,
            table: self.table,
            create: self.create,
            columns: self.columns,
            timeout: self.timeout,
            every_ms: self.every_ms,
            batch_max: self.batch_max,
        }
    }
}

fn common(section: &mut Section) -> Option<Rest> {
    let table = section.value("table", Some(DATASET), |text| {
        identifier(&text.replace(DATASET, "x")).map(|_| text.to_owned())
    });
    let create = section.flag("create", false);
    let columns = settings::columns(section, &OWN);
    let timeout = settings::timeout(section);
    let every_ms = settings::every(section, "0 s");
    let batch_max = section.number("batch", 500, 1..=10_000);
    Some(Rest {
        table: table?,
        create: create?,
        columns: columns?,
        timeout: timeout?,
        every_ms: every_ms?,
        batch_max: usize::try_from(batch_max?).expect("bounded above"),
    })
}

/// A name that needs no quotes in SQL.
fn identifier(text: &str) -> Result<String, Wrong> {
    let is_name = (1..=TABLE_NAME_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match is_name {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            "không dùng được làm tên bảng",
            "is no table's name",
            "Dùng chữ thường không dấu, chữ số và gạch dưới, ví dụ \"lt_{dataset}\".",
            "Use a-z, 0-9 and '_', such as \"lt_{dataset}\".",
        )),
    }
}

impl TableConfig {
    pub(super) fn open(&self) -> Result<Box<dyn Adapter>, Trouble> {
        match &self.place {
            Place::Sqlite(file) => Ok(Box::new(sqlite::Sqlite::open(file, self)?)),
            Place::Postgres(server) => Ok(Box::new(postgres::Postgres::open(server, self)?)),
        }
    }

    fn table_of(&self, dataset: &DatasetId) -> String {
        self.table.replace(DATASET, dataset.as_str())
    }

    /// A table's columns after the program's own: name and type of the database.
    fn declared(&self, type_of: fn(ColumnType) -> &'static str) -> String {
        let columns = self.columns.iter();
        columns
            .map(|column| format!(", \"{}\" {}", column.name, type_of(column.kind)))
            .collect()
    }

    /// `INSERT … ON CONFLICT …` with a value for each column.
    fn upsert(&self, table: &str, values: &str) -> String {
        let names: Vec<&str> = OWN
            .into_iter()
            .chain(self.columns.iter().map(|column| column.name.as_str()))
            .collect();
        let set: Vec<String> = names[2..]
            .iter()
            .map(|name| format!("\"{name}\" = excluded.\"{name}\""))
            .collect();
        format!(
            "INSERT INTO {table} AS t (\"{}\") VALUES ({values})
             ON CONFLICT (\"agency\", \"subject\") DO UPDATE SET {}
             WHERE t.\"life\" <> excluded.\"life\" OR t.\"capture\" <= excluded.\"capture\"",
            names.join("\", \""),
            set.join(", ")
        )
    }
}

/// The texts of a row after the program's own numbers; a subject that is gone leaves nothing else.
struct Values {
    data: Option<String>,
    columns: Vec<Option<String>>,
}

fn values(event: &Event, columns: &[Column]) -> Result<Values, Failure> {
    if event.op == Op::Delete {
        return Ok(Values {
            data: None,
            columns: vec![None; columns.len()],
        });
    }
    let columns: Result<_, Failure> = columns.iter().map(|column| text(event, column)).collect();
    Ok(Values {
        data: Some(event.data.get().to_owned()),
        columns: columns?,
    })
}

/// A field as the database is given it, of the right kind.
fn text(event: &Event, column: &Column) -> Result<Option<String>, Failure> {
    let Some(value) = find(&event.data, &column.field) else {
        return Ok(None);
    };
    let raw = value.get();
    if column.kind == ColumnType::Json {
        return Ok(Some(raw.to_owned()));
    }
    let text = match serde_json::from_str(raw) {
        Ok(serde_json::Value::Null) => return Ok(None),
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => raw.to_owned(),
        _ => raw.to_owned(),
    };
    let fits = match column.kind {
        ColumnType::Text | ColumnType::Json => true,
        ColumnType::Integer => text.parse::<i64>().is_ok(),
        ColumnType::Number => text.parse::<f64>().is_ok_and(f64::is_finite),
        ColumnType::Boolean => ["true", "false"].contains(&text.as_str()),
        ColumnType::Date => text.parse::<jiff::civil::Date>().is_ok(),
        ColumnType::Datetime => text.parse::<jiff::Timestamp>().is_ok(),
    };
    match fits {
        true => Ok(Some(text)),
        false => Err(Failure::Data {
            reason: "wrong_type",
            detail: format!("{} is no {:?}", column.field, column.kind),
        }),
    }
}

/// The table is not as it should be, or not there.
fn no_table(table: &str, what: &str, create: &str) -> Trouble {
    Trouble::new(
        "table",
        [
            format!("bảng {table} không có hoặc thiếu cột: {what}"),
            format!("the table {table} is not there or lacks a column: {what}"),
        ],
        [
            format!("Đặt create = true, hoặc tạo bảng: {create}"),
            format!("Set create = true, or make the table: {create}"),
        ],
    )
}
