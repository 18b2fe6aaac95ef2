//! Any database with an ODBC driver, Oracle first. Needs unixODBC on the machine and the cargo
//! feature `odbc`.
//!
//! Every value is fetched as text, which is exact for numbers and plain for times. ODBC has no
//! read-only transactions that all drivers keep: the statement is one that reads (see `query`), it
//! runs without autocommit and is rolled back, and the account is to have `SELECT` only. Each read has
//! a thread and a connection of its own, because drivers block.

use std::path::Path;
use std::thread;
use std::time::Duration;

use odbc_api::parameter::InputParameter;
use odbc_api::{
    Connection, ConnectionOptions, Cursor, CursorRow, DataType, Error, IntoParameter,
    ResultSetMetadata, environment,
};
use tokio::sync::{mpsc, oneshot};

use crate::edge::config::sql::SqlConfig;
use crate::edge::connectors::Fault;
use crate::edge::sql::driver::{
    Ask, COLUMNS_MAX, Gathering, Mark, Message, Table, bad_query, broken, grouped, login, password,
    patiently, too_slow, unreachable_fault,
};
use crate::edge::sql::mapping::Described;
use crate::edge::sql::query::{Name, Query};
use crate::edge::sql::value::{Kind, Value};

/// Before every time that a common database can hold.
const LEAST_TIME: &str = "1753-01-01 00:00:00";
/// Drivers are C libraries of any depth.
const STACK_BYTES: usize = 4 * 1024 * 1024;

pub struct Session {
    connection: String,
    options: ConnectionOptions,
    statement_ms: u64,
}

pub fn open(connection: &str, secret: Option<&Path>, config: &SqlConfig) -> Result<Session, Fault> {
    let secret = password(secret)?;
    let connection = match secret.is_empty() {
        true => connection.to_owned(),
        false => format!(
            "{};PWD={{{}}}",
            connection.trim_end_matches(';'),
            secret.replace('}', "}}")
        ),
    };
    let seconds = Duration::from_millis(config.connect_ms).as_secs().max(1);
    Ok(Session {
        connection,
        options: ConnectionOptions {
            login_timeout_sec: u32::try_from(seconds).ok(),
            packet_size: None,
        },
        statement_ms: config.statement_ms,
    })
}

impl Session {
    pub async fn read(
        &mut self,
        config: &SqlConfig,
        ask: Ask,
        sink: mpsc::Sender<Message>,
    ) -> Result<(), Fault> {
        let query = config.query.clone();
        let gathering = Gathering::new(config);
        let statement_ms = self.statement_ms;
        self.work(move |connection| read(connection, &query, &ask, gathering, statement_ms, &sink))
            .await
    }

    pub async fn tables(&mut self) -> Result<Vec<Table>, Fault> {
        patiently(self.statement_ms, self.work(tables)).await?
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let (target, options) = (self.connection.clone(), self.options);
        let statement_ms = self.statement_ms;
        let (answer, answered) = oneshot::channel();
        let worker = thread::Builder::new()
            .name("odbc".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let done = environment()
                    .and_then(|environment| {
                        environment.connect_with_connection_string(&target, options)
                    })
                    .map_err(|error| of_connect(&error))
                    .and_then(|connection| {
                        let fault = |error: Error| of_odbc(&error, statement_ms);
                        connection.set_autocommit(false).map_err(fault)?;
                        let done = work(&connection).map_err(fault);
                        // Nothing was changed, and a line that is cut is rolled back by itself.
                        let _ = connection.rollback();
                        done
                    });
                let _ = answer.send(done);
            });
        worker.map_err(|error| unreachable_fault(&error.to_string()))?;
        answered.await.map_err(|_| broken("the reader ended"))?
    }
}

fn read(
    connection: &Connection<'_>,
    query: &Query,
    ask: &Ask,
    mut gathering: Gathering,
    statement_ms: u64,
    sink: &mpsc::Sender<Message>,
) -> Result<(), Error> {
    let given: Vec<Box<dyn InputParameter>> = query.names().map(|name| bound(name, ask)).collect();
    let seconds = Duration::from_millis(statement_ms).as_secs().max(1);
    let seconds = usize::try_from(seconds).ok();
    let Some(mut cursor) = connection.execute(&query.with_marks(), given.as_slice(), seconds)?
    else {
        return Ok(());
    };
    let mut described = Vec::new();
    let count = u16::try_from(cursor.num_result_cols()?).unwrap_or(0);
    for place in 1..=count {
        let data_type = cursor.col_data_type(place)?;
        described.push(Described {
            name: cursor.col_name(place)?,
            kind: kind(&data_type),
            type_name: format!("{data_type:?}"),
        });
    }
    let kinds: Vec<Kind> = described.iter().map(|column| column.kind).collect();
    if sink.blocking_send(Message::Columns(described)).is_err() {
        return Ok(());
    }
    while let Some(mut row) = cursor.next_row()? {
        if let Some(full) = gathering.add(values(&mut row, &kinds)?)
            && sink.blocking_send(full).is_err()
        {
            return Ok(());
        }
    }
    if let Some(rest) = gathering.page() {
        // Whoever read may have seen enough.
        let _ = sink.blocking_send(rest);
    }
    Ok(())
}

fn bound(name: Name, ask: &Ask) -> Box<dyn InputParameter> {
    match (name, &ask.after) {
        (Name::Limit, _) => Box::new(
            i64::try_from(ask.limit)
                .unwrap_or(i64::MAX)
                .into_parameter(),
        ),
        (Name::After, Mark::BeginTime) => Box::new(LEAST_TIME.to_owned().into_parameter()),
        (Name::After, mark) => match (mark.as_int(), mark) {
            (Some(number), _) => Box::new(number.into_parameter()),
            (None, Mark::At(text)) => Box::new(text.clone().into_parameter()),
            (None, _) => unreachable!("a beginning is a number or a time"),
        },
    }
}

fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Numeric { .. }
        | DataType::Decimal { .. }
        | DataType::Integer
        | DataType::SmallInt
        | DataType::TinyInt
        | DataType::BigInt
        | DataType::Float { .. }
        | DataType::Real
        | DataType::Double => Kind::Number,
        DataType::Bit => Kind::Bool,
        DataType::Date | DataType::Time { .. } | DataType::Timestamp { .. } => Kind::Time,
        DataType::Binary { .. } | DataType::Varbinary { .. } | DataType::LongVarbinary { .. } => {
            Kind::Bytes
        }
        _ => Kind::Text,
    }
}

fn values(row: &mut CursorRow<'_>, kinds: &[Kind]) -> Result<Vec<Value>, Error> {
    let mut values = Vec::with_capacity(kinds.len());
    let (mut narrow, mut wide) = (Vec::new(), Vec::new());
    for (place, kind) in (1..).zip(kinds) {
        let value = match kind {
            Kind::Bytes => match row.get_binary(place, &mut narrow)? {
                true => Value::Bytes(std::mem::take(&mut narrow)),
                false => Value::Null,
            },
            Kind::Text | Kind::Time => match row.get_wide_text(place, &mut wide)? {
                true => Value::Text(String::from_utf16_lossy(&wide)),
                false => Value::Null,
            },
            kind => match row.get_text(place, &mut narrow)? {
                true => plain(*kind, &String::from_utf8_lossy(&narrow)),
                false => Value::Null,
            },
        };
        values.push(value);
    }
    Ok(values)
}

/// A number or a yes or no that came as text.
fn plain(kind: Kind, text: &str) -> Value {
    let text = text.trim();
    let is_plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    match (kind, text) {
        (Kind::Bool, "1") => Value::Bool(true),
        (Kind::Bool, "0") => Value::Bool(false),
        _ if is_plain => Value::Decimal(text.to_owned()),
        _ => match text.parse::<f64>() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Text(text.to_owned()),
        },
    }
}

fn tables(connection: &Connection<'_>) -> Result<Vec<Table>, Error> {
    let rows = connection.columns("", "", "%", "%")?;
    let mut columns = Vec::new();
    for row in rows.take(COLUMNS_MAX) {
        let row = row?;
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let schema = text(row.schema.as_bytes());
        let table = text(row.table.as_bytes());
        let type_name = text(row.type_name.as_bytes());
        let name = match schema.as_str() {
            "" => table,
            schema => format!("{schema}.{table}"),
        };
        let described = Described {
            name: text(row.column_name.as_bytes()),
            kind: Kind::Any,
            type_name,
        };
        columns.push((name, described));
    }
    Ok(grouped(columns.into_iter()))
}

/// The five letters that say what went wrong; a driver's message may quote a value.
fn state(error: &Error) -> Option<String> {
    match error {
        Error::Diagnostics { record, .. } => Some(record.state.as_str().to_owned()),
        _ => None,
    }
}

fn of_connect(error: &Error) -> Fault {
    match state(error) {
        Some(state) if state.starts_with("28") => login(&format!("SQLSTATE {state}")),
        Some(state) => unreachable_fault(&format!("ODBC, SQLSTATE {state}")),
        None => unreachable_fault("ODBC: no driver manager or no such driver"),
    }
}

fn of_odbc(error: &Error, statement_ms: u64) -> Fault {
    match state(error).as_deref() {
        Some("HYT00" | "HY008" | "57014") => too_slow(statement_ms),
        Some("42501") => login("SQLSTATE 42501"),
        Some(state) if state.starts_with("08") || state.starts_with("57") => {
            broken(&format!("SQLSTATE {state}"))
        }
        Some(state) => bad_query(&format!("SQLSTATE {state}")),
        None => broken("ODBC"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_came_as_text_stay_exact() {
        let digits = "12345678901234567890.10";
        assert_eq!(
            plain(Kind::Number, digits),
            Value::Decimal(digits.to_owned())
        );
        assert_eq!(plain(Kind::Number, "1e3"), Value::Float(1_000.0));
        assert_eq!(plain(Kind::Bool, "1"), Value::Bool(true));
    }
}
