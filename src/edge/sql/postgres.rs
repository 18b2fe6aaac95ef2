//! PostgreSQL: a read-only, repeatable transaction; the result is fetched through a portal and taken
//! off the line row by row, so that neither side holds all of it.

use std::error::Error as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_core::Stream as _;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::edge::config::sql::{Server, SqlConfig};
use crate::edge::connectors::Fault;
use crate::edge::sql::driver::{
    Ask, COLUMNS_MAX, Gathering, Mark, Message, PAGE_ROWS, Table, bad_query, broken, grouped,
    login, password, patiently, too_slow, unreachable_fault,
};
use crate::edge::sql::mapping::Described;
use crate::edge::sql::query::Name;
use crate::edge::sql::value::{Kind, Value};
use crate::edge::trust::Distrust;

/// Days and microseconds from 1970 to PostgreSQL's beginning, 2000.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Rows that are asked for at once where they hold files: the server's time limit counts how long we
/// take over them.
const FETCH_ROWS_ATTACHED: usize = 8;

/// What the driver says of a server that answers a request for TLS with no; it has no type for it.
const NO_TLS: &str = "server does not support TLS";

pub struct Session {
    client: Client,
    statement_ms: u64,
    driving: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

pub async fn open(server: &Server, config: &SqlConfig) -> Result<Session, Fault> {
    let mut target = Config::new();
    target
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&server.user)
        .password(password(server.password.as_deref())?)
        .application_name("tramd")
        .connect_timeout(Duration::from_millis(config.connect_ms))
        .options(format!(
            "-c default_transaction_read_only=on -c statement_timeout={} -c idle_in_transaction_session_timeout=600000",
            config.statement_ms
        ));
    let (client, driving) = match &server.tls_ca {
        None => {
            target.ssl_mode(SslMode::Disable);
            let (client, connection) = target.connect(NoTls).await.map_err(of_connect)?;
            (client, tokio::spawn(async { drop(connection.await) }))
        }
        Some(authority) => {
            target.ssl_mode(SslMode::Require);
            let tls = MakeRustlsConnect::new(tls(authority)?);
            let (client, connection) = target.connect(tls).await.map_err(of_connect)?;
            (client, tokio::spawn(async { drop(connection.await) }))
        }
    };
    Ok(Session {
        client,
        statement_ms: config.statement_ms,
        driving,
    })
}

fn tls(authority: &std::path::Path) -> Result<ClientConfig, Fault> {
    let unusable =
        |what: String| unreachable_fault(&format!("tls_ca {}: {what}", authority.display()));
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(authority).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Session {
    pub async fn clock_micros(&mut self) -> Result<i64, Fault> {
        let asked = self.client.query_one(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            &[],
        );
        let row = patiently(self.statement_ms, asked).await?;
        let row = row.map_err(|error| of_postgres(&error, self.statement_ms))?;
        Ok(row.get(0))
    }

    pub async fn read(
        &mut self,
        config: &SqlConfig,
        ask: Ask,
        sink: mpsc::Sender<Message>,
    ) -> Result<(), Fault> {
        let statement_ms = self.statement_ms;
        let fault = |error: tokio_postgres::Error| of_postgres(&error, statement_ms);
        let begin = self
            .client
            .build_transaction()
            .read_only(true)
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .start();
        let transaction = patiently(statement_ms, begin).await?.map_err(fault)?;
        let query = &config.query;
        let text = query.with_numbers("$");
        let prepared = transaction.prepare(&text);
        let statement = patiently(statement_ms, prepared).await?.map_err(fault)?;
        let described: Vec<Described> = statement
            .columns()
            .iter()
            .map(|column| Described {
                name: column.name().to_owned(),
                kind: kind(column.type_()),
                type_name: column.type_().name().to_owned(),
            })
            .collect();
        if sink.send(Message::Columns(described)).await.is_err() {
            return Ok(());
        }
        let given: Vec<Given> = query
            .numbered()
            .into_iter()
            .map(|name| match name {
                Name::After => Given::After(ask.after.clone()),
                Name::Limit => Given::Limit(ask.limit),
            })
            .collect();
        let given: Vec<&(dyn ToSql + Sync)> = given
            .iter()
            .map(|given| given as &(dyn ToSql + Sync))
            .collect();
        let bound = transaction.bind(&statement, &given);
        let portal = patiently(statement_ms, bound).await?.map_err(fault)?;
        let fetch_rows = match config.attachments.is_empty() {
            true => PAGE_ROWS,
            false => FETCH_ROWS_ATTACHED,
        };
        let mut gathering = Gathering::new(config);
        loop {
            let fetched = transaction.query_portal_raw(&portal, fetch_rows as i32);
            let mut rows = pin!(patiently(statement_ms, fetched).await?.map_err(fault)?);
            let mut count = 0;
            loop {
                let next = poll_fn(|context| rows.as_mut().poll_next(context));
                let Some(row) = patiently(statement_ms, next).await? else {
                    break;
                };
                count += 1;
                if let Some(full) = gathering.add(values(&row.map_err(fault)?)?)
                    && sink.send(full).await.is_err()
                {
                    return Ok(());
                }
            }
            if count < fetch_rows {
                break;
            }
        }
        if let Some(rest) = gathering.page()
            && sink.send(rest).await.is_err()
        {
            return Ok(());
        }
        patiently(statement_ms, transaction.rollback())
            .await?
            .map_err(fault)
    }

    pub async fn tables(&mut self) -> Result<Vec<Table>, Fault> {
        let asked = self.client.query(
            "SELECT table_schema, table_name, column_name, udt_name FROM information_schema.columns
             WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
             ORDER BY table_schema, table_name, ordinal_position LIMIT $1",
            &[&(COLUMNS_MAX as i64)],
        );
        let rows = patiently(self.statement_ms, asked).await?;
        let rows = rows.map_err(|error| of_postgres(&error, self.statement_ms))?;
        let columns = rows.iter().map(|row| {
            let schema: String = row.get(0);
            let table: String = row.get(1);
            let type_name: String = row.get(3);
            let described = Described {
                name: row.get(2),
                kind: kind_of_name(&type_name),
                type_name,
            };
            let name = match schema.as_str() {
                "public" => table,
                schema => format!("{schema}.{table}"),
            };
            (name, described)
        });
        Ok(grouped(columns))
    }
}

/// A value that is bound as text: the server reads it as whatever type stands beside it.
#[derive(Debug)]
enum Given {
    After(Mark),
    Limit(u64),
}

impl ToSql for Given {
    fn to_sql(
        &self,
        wanted: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let text = match self {
            Given::Limit(limit) => limit.to_string(),
            Given::After(Mark::At(text)) => text.clone(),
            Given::After(_) => least(wanted).to_owned(),
        };
        out.put_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The least value of a type, as text.
fn least(wanted: &Type) -> &'static str {
    match *wanted {
        Type::INT2 => "-32768",
        Type::INT4 => "-2147483648",
        Type::INT8 => "-9223372036854775808",
        Type::OID => "0",
        Type::FLOAT4 | Type::FLOAT8 => "-infinity",
        Type::NUMERIC => "-99999999999999999999999999999999",
        Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::DATE => "-infinity",
        Type::UUID => "00000000-0000-0000-0000-000000000000",
        Type::PG_LSN => "0/0",
        _ => "",
    }
}

fn kind(of: &Type) -> Kind {
    kind_of_name(of.name())
}

fn kind_of_name(name: &str) -> Kind {
    match name {
        "bool" => Kind::Bool,
        "int2" | "int4" | "int8" | "oid" | "float4" | "float8" | "numeric" => Kind::Number,
        "text" | "varchar" | "bpchar" | "name" | "uuid" | "unknown" | "char" | "citext" => {
            Kind::Text
        }
        "date" | "time" | "timestamp" | "timestamptz" => Kind::Time,
        "json" | "jsonb" => Kind::Json,
        "bytea" => Kind::Bytes,
        _ => Kind::Foreign,
    }
}

fn values(row: &Row) -> Result<Vec<Value>, Fault> {
    let value = |place: usize| {
        let Read(value) = row
            .try_get(place)
            .map_err(|_| bad_query(&format!("cột / column {}", row.columns()[place].name())))?;
        Ok(value)
    };
    (0..row.len()).map(value).collect()
}

/// A value of any type that is known here, read from its binary form.
struct Read(Value);

impl<'a> FromSql<'a> for Read {
    fn from_sql(
        of: &Type,
        raw: &'a [u8],
    ) -> Result<Read, Box<dyn std::error::Error + Sync + Send>> {
        decode(of.name(), raw)
            .map(Read)
            .ok_or_else(|| "a value of an unexpected form".into())
    }

    fn from_sql_null(_: &Type) -> Result<Read, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Read(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn decode(type_name: &str, raw: &[u8]) -> Option<Value> {
    let text = || String::from_utf8(raw.to_vec()).ok();
    Some(match type_name {
        "bool" => Value::Bool(*raw.first()? != 0),
        "int2" => Value::Int(i16::from_be_bytes(raw.try_into().ok()?).into()),
        "int4" => Value::Int(i32::from_be_bytes(raw.try_into().ok()?).into()),
        "oid" => Value::Int(u32::from_be_bytes(raw.try_into().ok()?).into()),
        "int8" => Value::Int(i64::from_be_bytes(raw.try_into().ok()?)),
        // The shortest digits of the narrow type: widened first, 0.1 would grow a tail.
        "float4" => {
            let number = f32::from_be_bytes(raw.try_into().ok()?);
            Value::Float(number.to_string().parse().ok()?)
        }
        "float8" => Value::Float(f64::from_be_bytes(raw.try_into().ok()?)),
        "numeric" => Value::Decimal(numeric(raw)?),
        "bpchar" => Value::Text(text()?.trim_end_matches(' ').to_owned()),
        "date" => match i32::from_be_bytes(raw.try_into().ok()?) {
            i32::MAX | i32::MIN => Value::Null,
            days => {
                let days = i64::from(days) + i64::from(EPOCH_DAYS);
                let span = jiff::Span::new().try_days(days).ok()?;
                Value::Date(Date::constant(1970, 1, 1).checked_add(span).ok()?)
            }
        },
        "time" => {
            let micros = i64::from_be_bytes(raw.try_into().ok()?);
            let span = jiff::Span::new().try_microseconds(micros).ok()?;
            Value::Time(Time::midnight().checked_add(span).ok()?)
        }
        "timestamp" => match i64::from_be_bytes(raw.try_into().ok()?) {
            i64::MAX | i64::MIN => Value::Null,
            micros => Value::DateTime(instant(micros)?.1),
        },
        "timestamptz" => match i64::from_be_bytes(raw.try_into().ok()?) {
            i64::MAX | i64::MIN => Value::Null,
            micros => Value::Instant(instant(micros)?.0),
        },
        "json" => Value::Json(text()?),
        "jsonb" => Value::Json(String::from_utf8(raw.get(1..)?.to_vec()).ok()?),
        "uuid" => Value::Text(uuid(raw)?),
        "bytea" => Value::Bytes(raw.to_vec()),
        _ => Value::Text(text()?),
    })
}

fn instant(micros: i64) -> Option<(Timestamp, DateTime)> {
    let instant = Timestamp::from_microsecond(micros.checked_add(EPOCH_MICROS)?).ok()?;
    let civil = instant.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    Some((instant, civil))
}

fn uuid(raw: &[u8]) -> Option<String> {
    let number = u128::from_be_bytes(raw.try_into().ok()?);
    let text = format!("{number:032x}");
    Some(format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    ))
}

/// The digits of a `numeric`: groups of four decimal digits, a weight, a sign, a scale.
fn numeric(raw: &[u8]) -> Option<String> {
    let word = |at: usize| Some(u16::from_be_bytes(raw.get(at..at + 2)?.try_into().ok()?));
    let (groups, weight) = (usize::from(word(0)?), i32::from(word(2)? as i16));
    let (sign, scale) = (word(4)?, usize::from(word(6)?));
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        // NaN and infinities: said as what they are not.
        _ => return Some("NaN".to_owned()),
    };
    let group = |place: i32| -> Option<u16> {
        let index = weight - place;
        match usize::try_from(index) {
            Ok(index) if index < groups => word(8 + 2 * index),
            _ => Some(0),
        }
    };
    let mut text = sign.to_owned();
    let mut whole = String::new();
    for place in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", group(place)?));
    }
    let whole = whole.trim_start_matches('0');
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if 0 < scale {
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < scale {
            fraction.push_str(&format!("{:04}", group(place)?));
            place -= 1;
        }
        text.push('.');
        text.push_str(&fraction[..scale]);
    }
    Some(text)
}

fn of_connect(error: tokio_postgres::Error) -> Fault {
    match error.code() {
        Some(code)
            if [
                SqlState::INVALID_PASSWORD,
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                SqlState::INVALID_CATALOG_NAME,
                SqlState::INSUFFICIENT_PRIVILEGE,
            ]
            .contains(code) =>
        {
            login(&said(&error))
        }
        _ => match Distrust::of(&error) {
            Some(distrust) => distrust.fault("tls_ca"),
            None if said(&error).ends_with(NO_TLS) => Distrust::NoTls.fault("tls_ca"),
            None => unreachable_fault(&said(&error)),
        },
    }
}

fn of_postgres(error: &tokio_postgres::Error, statement_ms: u64) -> Fault {
    let Some(code) = error.code() else {
        return broken(&said(error));
    };
    match *code {
        SqlState::QUERY_CANCELED => too_slow(statement_ms),
        SqlState::INSUFFICIENT_PRIVILEGE => login(&said(error)),
        _ => match code.code().get(..2) {
            // Lost connection, resources, a server that stops.
            Some("08" | "53" | "57" | "40") => broken(&said(error)),
            _ => bad_query(&said(error)),
        },
    }
}

/// What the server said, where it speaks of names; elsewhere only the code, because a message about
/// a value quotes it.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => {
            let code = error.code().code();
            let speaks_of_names = ["42", "28", "3D", "57", "53", "08", "25"]
                .iter()
                .any(|class| code.starts_with(class));
            match speaks_of_names {
                true => format!("{} (SQLSTATE {code})", error.message()),
                false => format!("SQLSTATE {code}"),
            }
        }
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(groups: &[u16], weight: i16, sign: u16, scale: u16) -> Vec<u8> {
        let head = [groups.len() as u16, weight as u16, sign, scale];
        let words = head.iter().chain(groups);
        words.flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numerics_are_exact() {
        for (groups, weight, sign, scale, expected) in [
            (&[][..], 0, 0, 0, "0"),
            (&[], 0, 0, 2, "0.00"),
            (&[5], 1, 0, 0, "50000"),
            (&[1, 2345, 6700], 1, 0x4000, 2, "-12345.67"),
            (&[12], -1, 0, 4, "0.0012"),
            (&[1200], -2, 0, 6, "0.000012"),
            (&[1, 0, 1], 2, 0, 0, "100000001"),
        ] {
            let text = numeric(&packed(groups, weight, sign, scale));
            assert_eq!(text.as_deref(), Some(expected));
        }
        assert_eq!(numeric(&packed(&[], 0, 0xc000, 0)).as_deref(), Some("NaN"));
    }

    #[test]
    fn times_begin_in_2000() {
        let date = decode("date", &(-10_957_i32).to_be_bytes());
        assert_eq!(date, Some(Value::Date(Date::constant(1970, 1, 1))));
        let time = decode("timestamp", &1_500_000_i64.to_be_bytes());
        let expected: DateTime = "2000-01-01T00:00:01.5".parse().expect("a time");
        assert_eq!(time, Some(Value::DateTime(expected)));
        assert_eq!(
            decode("timestamp", &i64::MAX.to_be_bytes()),
            Some(Value::Null)
        );
        let bytes: Vec<u8> = (0..16).collect();
        let uuid = decode("uuid", &bytes);
        let expected = "00010203-0405-0607-0809-0a0b0c0d0e0f".to_owned();
        assert_eq!(uuid, Some(Value::Text(expected)));
        assert_eq!(decode("bpchar", b"A   "), Some(Value::Text("A".to_owned())));
        let narrow = decode("float4", &0.1_f32.to_be_bytes());
        assert_eq!(narrow, Some(Value::Float(0.1)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_none(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            of in prop::sample::select(vec![
                "bool", "int2", "int4", "int8", "float4", "numeric", "date", "time", "timestamp",
                "timestamptz", "json", "jsonb", "uuid", "text", "bpchar",
            ]),
        ) {
            let _ = decode(of, &bytes);
        }
    }
}
