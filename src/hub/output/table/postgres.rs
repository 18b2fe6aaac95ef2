//! Kind `postgres`. Every value is bound as text and cast by the server, so that numbers keep their
//! digits and a wrong one is an error of its row.

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::hub::output::event::Event;
use crate::hub::output::settings::ColumnType;
use crate::hub::output::table::{Server, TableConfig, no_table, values};
use crate::hub::output::{Adapter, Delivery, Failure, Receipt, Trouble, no_authority, secret};
use crate::model::UnixMs;
use crate::model::record::Op;
use crate::shell::clock::Clock;
use crate::shell::tls;

const CONNECT: Duration = Duration::from_secs(10);

pub struct Postgres {
    server: Server,
    config: TableConfig,
    runtime: Runtime,
    client: Option<Client>,
    /// Tables that were made or found.
    known: HashSet<String>,
}

impl Postgres {
    pub fn open(server: &Server, config: &TableConfig) -> Result<Postgres, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| {
                Trouble::new(
                    "system",
                    [
                        format!("hệ điều hành từ chối: {error}"),
                        format!("the operating system refuses: {error}"),
                    ],
                    [
                        "Kiểm tra giới hạn của dịch vụ.",
                        "Check the service's limits.",
                    ],
                )
            })?;
        Ok(Postgres {
            server: server.clone(),
            config: config.clone(),
            runtime,
            client: None,
            known: HashSet::new(),
        })
    }

    fn create(&self, table: &str) -> String {
        let more = self.config.declared(type_of);
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (agency text NOT NULL, subject text NOT NULL, \
             life bigint NOT NULL, capture bigint NOT NULL, event_id text NOT NULL, \
             event_time timestamptz NOT NULL, stored_time timestamptz NOT NULL, \
             deleted boolean NOT NULL, data jsonb{more}, PRIMARY KEY (agency, subject))"
        )
    }

    fn write(&mut self, events: &[Event]) -> Result<(), Failure> {
        let mut client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.runtime.block_on(connect(&self.server, &self.config))?,
        };
        let limit = self.config.timeout;
        let written = self.runtime.block_on(async {
            let written = tokio::time::timeout(limit, self.transact(&mut client, events));
            written
                .await
                .unwrap_or_else(|_| Err(too_slow(limit).into()))
        });
        let known = written?;
        self.known.extend(known);
        // After any fault the connection is made anew.
        self.client = Some(client);
        Ok(())
    }

    /// Returns the tables that are known to be there now.
    async fn transact(
        &self,
        client: &mut Client,
        events: &[Event],
    ) -> Result<HashSet<String>, Failure> {
        let transaction = client.transaction().await.map_err(|error| fault(&error))?;
        let mut known = self.known.clone();
        let casts: Vec<&str> = [
            "text",
            "text",
            "bigint",
            "bigint",
            "text",
            "timestamptz",
            "timestamptz",
            "boolean",
            "jsonb",
        ]
        .into_iter()
        .chain(
            self.config
                .columns
                .iter()
                .map(|column| type_of(column.kind)),
        )
        .collect();
        let marks: Vec<String> = casts
            .iter()
            .enumerate()
            .map(|(at, cast)| format!("${}::text::{cast}", at + 1))
            .collect();
        let marks = marks.join(", ");
        for event in events {
            let name = self.config.table_of(&event.key.dataset);
            let table = format!("\"{}\".\"{name}\"", self.server.schema);
            if known.insert(table.clone()) && self.config.create {
                let create = self.create(&table);
                let created = transaction.execute(create.as_str(), &[]).await;
                created.map_err(|error| self.of_statement(&table, &error))?;
            }
            let row = row(event, &self.config)?;
            let row: Vec<&(dyn ToSql + Sync)> = row
                .iter()
                .map(|value| value as &(dyn ToSql + Sync))
                .collect();
            let sql = self.config.upsert(&table, &marks);
            let written = transaction.execute(sql.as_str(), &row).await;
            written.map_err(|error| self.of_statement(&table, &error))?;
        }
        transaction.commit().await.map_err(|error| fault(&error))?;
        Ok(known)
    }

    /// Of what a row says (classes 22 and 23) the row is parked; everything else stops the output.
    fn of_statement(&self, table: &str, error: &tokio_postgres::Error) -> Failure {
        let Some(told) = error.as_db_error() else {
            return fault(error).into();
        };
        let code = told.code().code();
        if code.starts_with("22") || code.starts_with("23") {
            let names = [told.table(), told.column(), told.constraint()];
            let names: Vec<&str> = names.into_iter().flatten().collect();
            return Failure::Data {
                reason: "constraint",
                detail: format!("SQLSTATE {code} {}", names.join(" ")),
            };
        }
        let is_missing = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_COLUMN_REFERENCE,
            SqlState::INVALID_SCHEMA_NAME,
        ];
        match is_missing.contains(told.code()) {
            true => no_table(table, told.message(), &self.create(table)).into(),
            false => fault(error).into(),
        }
    }
}

impl Adapter for Postgres {
    fn events_max(&self) -> usize {
        self.config.batch_max
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Failure> {
        self.write(delivery.events).map(|()| Receipt::default())
    }
}

fn type_of(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "text",
        ColumnType::Integer => "bigint",
        ColumnType::Number => "numeric",
        ColumnType::Boolean => "boolean",
        ColumnType::Date => "date",
        ColumnType::Datetime => "timestamptz",
        ColumnType::Json => "jsonb",
    }
}

fn row(event: &Event, config: &TableConfig) -> Result<Vec<Option<String>>, Failure> {
    let values = values(event, &config.columns)?;
    let own = [
        event.key.agency.to_string(),
        event.key.subject.to_string(),
        event.life.to_string(),
        event.capture.0.to_string(),
        event.id.to_string(),
        event.time.clone(),
        event.stored.clone(),
        (event.op == Op::Delete).to_string(),
    ];
    let own = own.into_iter().map(Some);
    Ok(own.chain([values.data]).chain(values.columns).collect())
}

async fn connect(server: &Server, config: &TableConfig) -> Result<Client, Trouble> {
    let mut target = Config::new();
    target
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&server.user)
        .application_name("trucd")
        .connect_timeout(CONNECT)
        .options(format!(
            "-c statement_timeout={} -c idle_in_transaction_session_timeout=600000",
            config.timeout.as_millis()
        ));
    if let Some(file) = &server.password {
        target.password(secret(file)?);
    }
    let connected = async {
        match &server.tls_ca {
            None => {
                target.ssl_mode(SslMode::Disable);
                let (client, connection) = target.connect(NoTls).await.map_err(|e| fault(&e))?;
                tokio::spawn(async { drop(connection.await) });
                Ok(client)
            }
            Some(authority) => {
                target.ssl_mode(SslMode::Require);
                let clock = Clock::start(UnixMs(0));
                let tls = tls::trusting(authority, &clock);
                let tls = tls.map_err(|fault| no_authority("tls_ca", &fault))?;
                let tls = MakeRustlsConnect::new(Arc::unwrap_or_clone(tls));
                let (client, connection) = target.connect(tls).await.map_err(|e| fault(&e))?;
                tokio::spawn(async { drop(connection.await) });
                Ok(client)
            }
        }
    };
    let connected = tokio::time::timeout(2 * CONNECT, connected).await;
    connected.unwrap_or_else(|_| Err(too_slow(CONNECT)))
}

fn too_slow(limit: Duration) -> Trouble {
    Trouble::new(
        "timeout",
        [
            format!(
                "máy chủ PostgreSQL không trả lời trong {} giây",
                limit.as_secs()
            ),
            format!(
                "the PostgreSQL server gave no answer within {} s",
                limit.as_secs()
            ),
        ],
        [
            "Kiểm tra tải và khóa của máy chủ; trục giữ lại và tự ghi tiếp.",
            "Look at the server's load and locks; the hub keeps everything and goes on by itself.",
        ],
    )
}

/// Server's words about values stay out of it: they may be personal data.
fn fault(error: &tokio_postgres::Error) -> Trouble {
    let told = match error.as_db_error() {
        Some(told) => format!("SQLSTATE {} {}", told.code().code(), told.message()),
        None => match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    };
    let is_login = error
        .code()
        .is_some_and(|code| code.code().starts_with("28"));
    let hint = match is_login {
        true => [
            "Kiểm tra user, password_file và pg_hba.conf của máy chủ.",
            "Check user, password_file and the server's pg_hba.conf.",
        ],
        false => [
            "Kiểm tra máy chủ PostgreSQL có chạy không, host, port, database, và quyền ghi; trục giữ lại và tự ghi tiếp.",
            "Check that the PostgreSQL server runs, host, port, database, and the right to write; the hub keeps everything and goes on by itself.",
        ],
    };
    Trouble::new(
        "database",
        [
            format!("không ghi được vào PostgreSQL: {told}"),
            format!("cannot write to PostgreSQL: {told}"),
        ],
        hint,
    )
}
