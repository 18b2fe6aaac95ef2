//! MySQL and MariaDB: a read-only transaction with a consistent snapshot; rows are taken off the
//! line as they come, so that neither side holds all of them.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, OptsBuilder, Row, SslOpts};
use tokio::sync::mpsc;

use crate::edge::config::sql::{Mode, Server, SqlConfig};
use crate::edge::connectors::Fault;
use crate::edge::sql::driver::{
    Ask, COLUMNS_MAX, Gathering, Mark, Message, Table, bad_query, broken, grouped, login, password,
    patiently, too_slow, unreachable_fault,
};
use crate::edge::sql::mapping::Described;
use crate::edge::sql::query::Name;
use crate::edge::sql::value::{Kind, Value};
use crate::edge::trust::Distrust;

/// The character set that means "these are bytes".
const BINARY: u16 = 63;
/// Before every time that MySQL can hold.
const LEAST_TIME: &str = "1000-01-01 00:00:00";
/// A variable that this server does not have; MySQL and MariaDB name their time limit differently.
const UNKNOWN_VARIABLE: u16 = 1193;

pub struct Session {
    conn: Conn,
    statement_ms: u64,
}

pub async fn open(server: &Server, config: &SqlConfig) -> Result<Session, Fault> {
    let mut options = OptsBuilder::default()
        .user(Some(&server.user))
        .pass(Some(password(server.password.as_deref())?))
        .db_name(Some(&server.database))
        .prefer_socket(false)
        .stmt_cache_size(4)
        .tcp_keepalive(Some(Duration::from_secs(60)));
    options = match server.host.starts_with('/') {
        true => options.socket(Some(&server.host)),
        false => options.ip_or_hostname(&server.host).tcp_port(server.port),
    };
    if let Some(authority) = &server.tls_ca {
        let tls = SslOpts::default()
            .with_root_certs(vec![authority.clone().into()])
            .with_disable_built_in_roots(true);
        options = options.ssl_opts(tls);
    }
    let mut conn = Conn::new(options).await.map_err(of_connect)?;
    let minutes = config.zone_minutes;
    let zone = format!(
        "{}{:02}:{:02}",
        if minutes < 0 { '-' } else { '+' },
        minutes.abs() / 60,
        minutes.abs() % 60
    );
    let statement_ms = config.statement_ms;
    // The server counts the time that we take over the rows of a long result, too; there each wait
    // is bounded on our side.
    let limit_ms = match config.mode {
        Mode::Snapshot { .. } => 0,
        _ if !config.attachments.is_empty() => 0,
        _ => statement_ms,
    };
    let seconds = Duration::from_millis(limit_ms).as_secs_f64();
    for (setting, may_be_unknown) in [
        (format!("SET SESSION max_execution_time = {limit_ms}"), true),
        (format!("SET SESSION max_statement_time = {seconds}"), true),
        (format!("SET SESSION time_zone = '{zone}'"), false),
        ("SET SESSION TRANSACTION READ ONLY".to_owned(), false),
    ] {
        match conn.query_drop(setting).await {
            Err(mysql_async::Error::Server(error))
                if may_be_unknown && error.code == UNKNOWN_VARIABLE => {}
            set => set.map_err(of_connect)?,
        }
    }
    Ok(Session { conn, statement_ms })
}

impl Session {
    pub async fn clock_micros(&mut self) -> Result<i64, Fault> {
        let statement_ms = self.statement_ms;
        let asked = self
            .conn
            .query_first("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)");
        let micros: Option<i64> = patiently(statement_ms, asked)
            .await?
            .map_err(|error| of_mysql(&error, statement_ms))?;
        micros.ok_or_else(|| broken("the clock gave no answer"))
    }

    pub async fn read(
        &mut self,
        config: &SqlConfig,
        ask: Ask,
        sink: mpsc::Sender<Message>,
    ) -> Result<(), Fault> {
        let statement_ms = self.statement_ms;
        let fault = |error: mysql_async::Error| of_mysql(&error, statement_ms);
        let begin = self
            .conn
            .query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY");
        patiently(statement_ms, begin).await?.map_err(fault)?;
        let query = &config.query;
        let given: Vec<mysql_async::Value> = query.names().map(|name| bound(name, &ask)).collect();
        let given = match given.is_empty() {
            true => mysql_async::Params::Empty,
            false => mysql_async::Params::Positional(given),
        };
        {
            let asked = self.conn.exec_iter(query.with_marks(), given);
            let mut rows = patiently(statement_ms, asked).await?.map_err(fault)?;
            let columns = rows.columns().unwrap_or_else(|| Vec::new().into());
            let described: Vec<Described> = columns
                .iter()
                .map(|column| Described {
                    name: column.name_str().into_owned(),
                    kind: kind(column),
                    type_name: format!("{:?}", column.column_type()),
                })
                .collect();
            if sink.send(Message::Columns(described)).await.is_err() {
                return Ok(());
            }
            let mut gathering = Gathering::new(config);
            while let Some(row) = patiently(statement_ms, rows.next()).await?.map_err(fault)? {
                if let Some(full) = gathering.add(values(row))
                    && sink.send(full).await.is_err()
                {
                    return Ok(());
                }
            }
            if let Some(rest) = gathering.page()
                && sink.send(rest).await.is_err()
            {
                return Ok(());
            }
        }
        let end = self.conn.query_drop("ROLLBACK");
        patiently(statement_ms, end).await?.map_err(fault)
    }

    pub async fn tables(&mut self) -> Result<Vec<Table>, Fault> {
        let statement_ms = self.statement_ms;
        let asked = self.conn.query(format!(
            "SELECT table_name, column_name, column_type FROM information_schema.columns
             WHERE table_schema = database() ORDER BY table_name, ordinal_position
             LIMIT {COLUMNS_MAX}"
        ));
        let rows: Vec<(String, String, String)> = patiently(statement_ms, asked)
            .await?
            .map_err(|error| of_mysql(&error, statement_ms))?;
        let columns = rows.into_iter().map(|(table, name, type_name)| {
            let kind = match type_name.contains("blob") || type_name.contains("binary") {
                true => Kind::Bytes,
                false => Kind::Any,
            };
            let described = Described {
                name,
                kind,
                type_name,
            };
            (table, described)
        });
        Ok(grouped(columns))
    }

    pub async fn close(self) {
        // The server notices a line that is simply cut, too.
        let _ = self.conn.disconnect().await;
    }
}

fn bound(name: Name, ask: &Ask) -> mysql_async::Value {
    match (name, &ask.after) {
        (Name::Limit, _) => mysql_async::Value::UInt(ask.limit),
        (Name::After, Mark::BeginTime) => LEAST_TIME.into(),
        (Name::After, mark) => match (mark.as_int(), mark) {
            (Some(number), _) => mysql_async::Value::Int(number),
            (None, Mark::At(text)) => text.as_str().into(),
            (None, _) => unreachable!("a beginning is a number or a time"),
        },
    }
}

fn kind(column: &mysql_async::Column) -> Kind {
    use ColumnType as T;
    match column.column_type() {
        T::MYSQL_TYPE_TINY
        | T::MYSQL_TYPE_SHORT
        | T::MYSQL_TYPE_INT24
        | T::MYSQL_TYPE_LONG
        | T::MYSQL_TYPE_LONGLONG
        | T::MYSQL_TYPE_YEAR
        | T::MYSQL_TYPE_BIT
        | T::MYSQL_TYPE_FLOAT
        | T::MYSQL_TYPE_DOUBLE
        | T::MYSQL_TYPE_DECIMAL
        | T::MYSQL_TYPE_NEWDECIMAL => Kind::Number,
        T::MYSQL_TYPE_DATE
        | T::MYSQL_TYPE_NEWDATE
        | T::MYSQL_TYPE_TIME
        | T::MYSQL_TYPE_TIME2
        | T::MYSQL_TYPE_DATETIME
        | T::MYSQL_TYPE_DATETIME2
        | T::MYSQL_TYPE_TIMESTAMP
        | T::MYSQL_TYPE_TIMESTAMP2 => Kind::Time,
        T::MYSQL_TYPE_JSON => Kind::Json,
        T::MYSQL_TYPE_GEOMETRY => Kind::Foreign,
        T::MYSQL_TYPE_NULL => Kind::Any,
        _ if column.character_set() == BINARY
            && column.flags().contains(ColumnFlags::BINARY_FLAG) =>
        {
            Kind::Bytes
        }
        _ => Kind::Text,
    }
}

fn values(row: Row) -> Vec<Value> {
    let columns = row.columns();
    let cells = row.unwrap_raw();
    let cells = columns.iter().zip(cells);
    cells
        .map(|(column, cell)| value(column.column_type(), kind(column), cell))
        .collect()
}

fn value(of: ColumnType, kind: Kind, cell: Option<mysql_async::Value>) -> Value {
    use mysql_async::Value as Cell;
    match cell {
        None | Some(Cell::NULL) => Value::Null,
        Some(Cell::Int(number)) => Value::Int(number),
        Some(Cell::UInt(number)) => Value::Decimal(number.to_string()),
        // The shortest digits of the narrow type: widened first, 0.1 would grow a tail.
        Some(Cell::Float(number)) => {
            Value::Float(number.to_string().parse().unwrap_or(f64::from(number)))
        }
        Some(Cell::Double(number)) => Value::Float(number),
        Some(Cell::Date(year, month, day, hour, minute, second, micros)) => time(
            of,
            [year, month.into(), day.into()],
            [hour, minute, second],
            micros,
        ),
        Some(Cell::Time(is_negative, days, hours, minutes, seconds, _)) => {
            let hours = u64::from(days) * 24 + u64::from(hours);
            let sign = if is_negative { "-" } else { "" };
            Value::Text(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"))
        }
        Some(Cell::Bytes(bytes)) => match (of, kind) {
            (ColumnType::MYSQL_TYPE_BIT, _) if bytes.len() <= 8 => {
                let number = bytes
                    .iter()
                    .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
                Value::Decimal(number.to_string())
            }
            (_, Kind::Bytes) => Value::Bytes(bytes),
            (_, kind) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                match kind {
                    Kind::Number => Value::Decimal(text),
                    Kind::Json => Value::Json(text),
                    _ => Value::Text(text),
                }
            }
        },
    }
}

/// A date or a time; the zero date of old programs is none.
fn time(of: ColumnType, [year, month, day]: [u16; 3], clock: [u8; 3], micros: u32) -> Value {
    let part = |number: u16| i8::try_from(number).unwrap_or(0);
    let year = i16::try_from(year).unwrap_or(0);
    let Ok(date) = Date::new(year, part(month), part(day)) else {
        return Value::Null;
    };
    if matches!(
        of,
        ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE
    ) {
        return Value::Date(date);
    }
    let [hour, minute, second] = clock.map(|number| part(number.into()));
    let nanos = i32::try_from(micros).unwrap_or(0) * 1_000;
    match Time::new(hour, minute, second, nanos) {
        Ok(time) => Value::DateTime(DateTime::from_parts(date, time)),
        Err(_) => Value::Null,
    }
}

fn of_connect(error: mysql_async::Error) -> Fault {
    match &error {
        // Access denied to the server or to the database, unknown database.
        mysql_async::Error::Server(said) if [1044, 1045, 1049, 1698].contains(&said.code) => {
            login(&format!("MySQL {}", said.code))
        }
        mysql_async::Error::Server(said) => unreachable_fault(&format!("MySQL {}", said.code)),
        mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            Distrust::NoTls.fault("tls_ca")
        }
        error => match Distrust::of(error) {
            Some(distrust) => distrust.fault("tls_ca"),
            None => unreachable_fault(&error.to_string()),
        },
    }
}

fn of_mysql(error: &mysql_async::Error, statement_ms: u64) -> Fault {
    let mysql_async::Error::Server(said) = error else {
        return broken(&error.to_string());
    };
    match said.code {
        // Query interrupted, execution time exceeded, statement time exceeded.
        1317 | 3024 | 1969 => too_slow(statement_ms),
        // Denied: table, column, database, routine.
        1142 | 1143 | 1044 | 1370 => login(&said.message),
        // The server stops, is killed, gives up.
        1053 | 1077 | 1152 | 1205 | 1213 | 1927 => broken(&format!("MySQL {}", said.code)),
        // These speak of names; others may quote a value.
        1046 | 1049 | 1051 | 1052 | 1054 | 1064 | 1109 | 1146 | 1305 => {
            bad_query(&format!("{} (MySQL {})", said.message, said.code))
        }
        code => bad_query(&format!("MySQL {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_values() {
        use mysql_async::Value as Cell;
        let bytes = |text: &[u8]| Some(Cell::Bytes(text.to_vec()));
        let of = ColumnType::MYSQL_TYPE_NEWDECIMAL;
        assert_eq!(
            value(of, Kind::Number, bytes(b"12345678901234567890.10")),
            Value::Decimal("12345678901234567890.10".to_owned())
        );
        let of = ColumnType::MYSQL_TYPE_BIT;
        assert_eq!(
            value(of, Kind::Number, bytes(&[1, 0])),
            Value::Decimal("256".to_owned())
        );
        let of = ColumnType::MYSQL_TYPE_DATETIME;
        let zero = Some(Cell::Date(0, 0, 0, 0, 0, 0, 0));
        assert_eq!(value(of, Kind::Time, zero), Value::Null);
        let some = Some(Cell::Date(2026, 11, 20, 8, 12, 45, 250_000));
        let expected: DateTime = "2026-11-20T08:12:45.25".parse().expect("a time");
        assert_eq!(value(of, Kind::Time, some), Value::DateTime(expected));
        let of = ColumnType::MYSQL_TYPE_FLOAT;
        let narrow = Some(Cell::Float(0.1));
        assert_eq!(value(of, Kind::Number, narrow), Value::Float(0.1));
    }

    #[test]
    fn a_beginning_is_bound_as_a_number_or_a_time() {
        let ask = |after| Ask { after, limit: 5 };
        let number = bound(Name::After, &ask(Mark::BeginNumber));
        assert_eq!(number, mysql_async::Value::Int(i64::MIN));
        let time = bound(Name::After, &ask(Mark::BeginTime));
        assert_eq!(time, mysql_async::Value::Bytes(LEAST_TIME.into()));
        let limit = bound(Name::Limit, &ask(Mark::BeginTime));
        assert_eq!(limit, mysql_async::Value::UInt(5));
    }
}
