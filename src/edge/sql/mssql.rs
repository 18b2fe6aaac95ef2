//! Microsoft SQL Server, natively and without encryption; links that must be encrypted go through
//! ODBC.
//!
//! SQL Server has no read-only transactions: the statement is one that reads (see `query`), it runs in
//! a transaction that is always rolled back, and the account is to have `SELECT` only. Dates and
//! times are converted to text in the query, because this build of the driver does not read them.

use std::time::Duration;

use mssql_client::{
    ApplicationIntent, Client, Config, Credentials, Error, Ready, SqlValue, TimeoutConfig, ToSql,
};
use tokio::sync::mpsc;

use crate::edge::config::sql::{Server, SqlConfig};
use crate::edge::connectors::Fault;
use crate::edge::sql::driver::{
    Ask, COLUMNS_MAX, Gathering, Mark, Message, Table, bad_query, broken, grouped, login, password,
    patiently, too_slow, unreachable_fault,
};
use crate::edge::sql::mapping::Described;
use crate::edge::sql::query::Name;
use crate::edge::sql::value::{Kind, Value};

/// Before every time that `datetime` can hold.
const LEAST_TIME: &str = "1753-01-01T00:00:00";

pub struct Session {
    /// None while a transaction has it.
    client: Option<Client<Ready>>,
    statement_ms: u64,
}

pub async fn open(server: &Server, config: &SqlConfig) -> Result<Session, Fault> {
    let timeouts = TimeoutConfig {
        connect_timeout: Duration::from_millis(config.connect_ms),
        login_timeout: Duration::from_millis(config.connect_ms),
        command_timeout: Duration::from_millis(config.statement_ms),
        ..TimeoutConfig::default()
    };
    let secret = password(server.password.as_deref())?;
    let target = Config::new()
        .host(&server.host)
        .port(server.port)
        .database(&server.database)
        .credentials(Credentials::sql_server(server.user.clone(), secret))
        .application_name("tramd")
        .application_intent(ApplicationIntent::ReadOnly)
        .no_tls(true)
        .timeouts(timeouts);
    let client = Client::connect(target).await.map_err(of_connect)?;
    Ok(Session {
        client: Some(client),
        statement_ms: config.statement_ms,
    })
}

impl Session {
    pub async fn clock_micros(&mut self) -> Result<i64, Fault> {
        let statement_ms = self.statement_ms;
        let fault = |error: Error| of_mssql(&error, statement_ms);
        let client = self.client()?;
        let asked = client.query(
            "SELECT DATEDIFF_BIG(microsecond, '1970-01-01', SYSUTCDATETIME())",
            &[],
        );
        let mut rows = patiently(statement_ms, asked).await?.map_err(fault)?;
        let row = rows
            .try_next()
            .ok_or_else(|| broken("the clock gave no answer"))?;
        row.get(0).map_err(|error| bad_query(&error.to_string()))
    }

    pub async fn read(
        &mut self,
        config: &SqlConfig,
        ask: Ask,
        sink: mpsc::Sender<Message>,
    ) -> Result<(), Fault> {
        let statement_ms = self.statement_ms;
        let fault = |error: Error| of_mssql(&error, statement_ms);
        self.client()?;
        let client = self.client.take().expect("it was there a moment ago");
        let begin = client.begin_transaction();
        let mut transaction = patiently(statement_ms, begin).await?.map_err(fault)?;
        let query = &config.query;
        let given: Vec<Given> = query
            .numbered()
            .into_iter()
            .map(|name| given(name, &ask))
            .collect();
        let given: Vec<&(dyn ToSql + Sync)> = given.iter().map(Given::as_sql).collect();
        {
            let statement = query.with_numbers("@p");
            let asked = transaction.query_stream(&statement, &given);
            let mut rows = patiently(statement_ms, asked).await?.map_err(fault)?;
            let columns = rows.columns().iter();
            let described: Vec<Described> = columns
                .map(|column| Described {
                    name: column.name.clone(),
                    kind: kind(&column.type_name),
                    type_name: column.type_name.clone(),
                })
                .collect();
            let count = described.len();
            if sink.send(Message::Columns(described)).await.is_err() {
                return Ok(());
            }
            let mut gathering = Gathering::new(config);
            while let Some(row) = patiently(statement_ms, rows.try_next())
                .await?
                .map_err(fault)?
            {
                let row = (0..count).map(|place| value(row.get_raw(place)));
                if let Some(full) = gathering.add(row.collect())
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
        let client = patiently(statement_ms, transaction.rollback()).await?;
        self.client = Some(client.map_err(fault)?);
        Ok(())
    }

    pub async fn tables(&mut self) -> Result<Vec<Table>, Fault> {
        let statement_ms = self.statement_ms;
        let fault = |error: Error| of_mssql(&error, statement_ms);
        let statement = format!(
            "SELECT TOP ({COLUMNS_MAX}) TABLE_SCHEMA + '.' + TABLE_NAME, COLUMN_NAME, DATA_TYPE
             FROM INFORMATION_SCHEMA.COLUMNS ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        );
        let asked = self.client()?.query(&statement, &[]);
        let rows = patiently(statement_ms, asked).await?.map_err(fault)?;
        let rows = rows.collect_all().await.map_err(fault)?;
        let text = |row: &mssql_client::Row, place| row.get_string(place).unwrap_or_default();
        let columns = rows.iter().map(|row| {
            let type_name = text(row, 2);
            let described = Described {
                name: text(row, 1),
                kind: kind(&type_name),
                type_name,
            };
            (text(row, 0), described)
        });
        Ok(grouped(columns))
    }

    pub async fn close(self) {
        if let Some(client) = self.client {
            // The server notices a line that is simply cut, too.
            let _ = client.close().await;
        }
    }

    fn client(&mut self) -> Result<&mut Client<Ready>, Fault> {
        self.client
            .as_mut()
            .ok_or_else(|| broken("the last read was broken off"))
    }
}

/// A parameter.
#[derive(Debug, PartialEq)]
enum Given {
    Int(i64),
    Text(String),
}

impl Given {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Given::Int(number) => number,
            Given::Text(text) => text,
        }
    }
}

fn given(name: Name, ask: &Ask) -> Given {
    match (name, &ask.after) {
        (Name::Limit, _) => Given::Int(i64::try_from(ask.limit).unwrap_or(i64::MAX)),
        (Name::After, Mark::BeginTime) => Given::Text(LEAST_TIME.to_owned()),
        (Name::After, mark) => match (mark.as_int(), mark) {
            (Some(number), _) => Given::Int(number),
            (None, Mark::At(text)) => Given::Text(text.clone()),
            (None, _) => unreachable!("a beginning is a number or a time"),
        },
    }
}

/// By the type's name, the driver's own or that of `INFORMATION_SCHEMA`.
fn kind(type_name: &str) -> Kind {
    let lower = type_name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match () {
        () if has(&[
            "date",
            "time",
            "variant",
            "udt",
            "geography",
            "geometry",
            "hierarchy",
        ]) =>
        {
            Kind::Foreign
        }
        () if has(&["binary", "image", "timestamp", "rowversion"]) => Kind::Bytes,
        () if has(&["guid", "uniqueidentifier"]) => Kind::Foreign,
        () if has(&["char", "text", "xml"]) => Kind::Text,
        () if has(&["bit"]) => Kind::Bool,
        () if has(&["int", "decimal", "numeric", "money", "float", "flt", "real"]) => Kind::Number,
        () => Kind::Any,
    }
}

fn value(raw: Option<SqlValue>) -> Value {
    match raw {
        None | Some(SqlValue::Null) => Value::Null,
        Some(SqlValue::Bool(value)) => Value::Bool(value),
        Some(SqlValue::TinyInt(number)) => Value::Int(number.into()),
        Some(SqlValue::SmallInt(number)) => Value::Int(number.into()),
        Some(SqlValue::Int(number)) => Value::Int(number.into()),
        Some(SqlValue::BigInt(number)) => Value::Int(number),
        Some(SqlValue::Float(number)) => {
            Value::Float(number.to_string().parse().unwrap_or(f64::from(number)))
        }
        Some(SqlValue::Double(number)) => Value::Float(number),
        Some(SqlValue::String(text) | SqlValue::Xml(text)) => Value::Text(text),
        Some(SqlValue::Binary(bytes)) => Value::Bytes(bytes.to_vec()),
        Some(
            SqlValue::Decimal(number) | SqlValue::Money(number) | SqlValue::SmallMoney(number),
        ) => Value::Decimal(number.to_string()),
        Some(_) => Value::Bytes(Vec::new()),
    }
}

fn of_connect(error: Error) -> Fault {
    match &error {
        // Login failed, cannot open the database.
        Error::Server { number, .. } if [18_452, 18_456, 4_060].contains(number) => {
            login(&format!("SQL Server {number}"))
        }
        Error::Authentication(_) => login("authentication failed"),
        error => unreachable_fault(&short(error)),
    }
}

fn of_mssql(error: &Error, statement_ms: u64) -> Fault {
    match error {
        Error::Server {
            number, message, ..
        } => match number {
            // Denied: object, column.
            229 | 230 => login(message),
            // Deadlock, lock time-out, a server that stops.
            1205 | 1222 | 6005 => broken(&format!("SQL Server {number}")),
            // These speak of names; others may quote a value.
            102 | 156 | 207 | 208 | 209 => bad_query(&format!("{message} (SQL Server {number})")),
            number => bad_query(&format!("SQL Server {number}")),
        },
        error => match short(error) {
            said if said.contains("timed out") || said.contains("timeout") => {
                too_slow(statement_ms)
            }
            said => broken(&said),
        },
    }
}

/// What the driver says, in one line; a server's own message may quote a value.
fn short(error: &Error) -> String {
    match error {
        Error::Server { number, .. } => format!("SQL Server {number}"),
        error => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::sql::query::Query;

    #[test]
    fn the_statement_has_numbered_parameters_in_their_order() {
        let query = Query::parse(
            "SELECT TOP (:limit) [id], CONVERT(varchar(33), [ngay:after], 126) AS ngay FROM dbo.ho_so WHERE id > :after ORDER BY id",
        )
        .expect("a query");
        assert_eq!(
            query.with_numbers("@p"),
            "SELECT TOP (@p1) [id], CONVERT(varchar(33), [ngay:after], 126) AS ngay FROM dbo.ho_so WHERE id > @p2 ORDER BY id"
        );
        let ask = Ask {
            after: Mark::At("41".to_owned()),
            limit: 100,
        };
        let bound: Vec<Given> = query
            .numbered()
            .into_iter()
            .map(|name| given(name, &ask))
            .collect();
        assert_eq!(bound, [Given::Int(100), Given::Int(41)]);
        let time = Ask {
            after: Mark::BeginTime,
            limit: 1,
        };
        assert_eq!(
            given(Name::After, &time),
            Given::Text(LEAST_TIME.to_owned())
        );
    }

    #[test]
    fn money_is_exact_and_types_are_told_apart() {
        let money = "92233720368547.5807".parse().expect("a decimal");
        assert_eq!(
            value(Some(SqlValue::Money(money))),
            Value::Decimal("92233720368547.5807".to_owned())
        );
        assert_eq!(value(Some(SqlValue::Float(0.1))), Value::Float(0.1));
        assert_eq!(value(Some(SqlValue::TinyInt(7))), Value::Int(7));
        assert_eq!(value(None), Value::Null);
        for (name, expected) in [
            ("NVarChar", Kind::Text),
            ("IntN", Kind::Number),
            ("MoneyN", Kind::Number),
            ("BitN", Kind::Bool),
            ("DateTime2", Kind::Foreign),
            ("datetime", Kind::Foreign),
            ("BigVarBinary", Kind::Bytes),
            ("varbinary", Kind::Bytes),
            ("uniqueidentifier", Kind::Foreign),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
