//! Kind `sqlite`: tables in a file that other programs read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use crate::hub::output::event::Event;
use crate::hub::output::settings::ColumnType;
use crate::hub::output::table::{TableConfig, no_table, values};
use crate::hub::output::{Adapter, Delivery, Failure, Receipt, Trouble};
use crate::model::record::Op;

pub struct Sqlite {
    file: PathBuf,
    config: TableConfig,
    connection: Connection,
    /// Tables that were made or found.
    known: HashSet<String>,
}

impl Sqlite {
    pub fn open(file: &Path, config: &TableConfig) -> Result<Sqlite, Trouble> {
        let connect = || {
            let connection = Connection::open(file)?;
            connection.busy_timeout(config.timeout)?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;",
            )?;
            Ok(connection)
        };
        Ok(Sqlite {
            connection: connect().map_err(|error| of_file(file, &error))?,
            file: file.to_owned(),
            config: config.clone(),
            known: HashSet::new(),
        })
    }

    fn create(&self, table: &str) -> String {
        let more = self.config.declared(|kind| match kind {
            ColumnType::Text | ColumnType::Date | ColumnType::Datetime | ColumnType::Json => "TEXT",
            ColumnType::Integer | ColumnType::Boolean => "INTEGER",
            ColumnType::Number => "NUMERIC",
        });
        format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" (agency TEXT NOT NULL, subject TEXT NOT NULL, \
             life INTEGER NOT NULL, capture INTEGER NOT NULL, event_id TEXT NOT NULL, \
             event_time TEXT NOT NULL, stored_time TEXT NOT NULL, deleted INTEGER NOT NULL, \
             data TEXT{more}, PRIMARY KEY (agency, subject))"
        )
    }

    fn write(&mut self, events: &[Event]) -> Result<(), Failure> {
        let of_file = |error: rusqlite::Error| of_file(&self.file, &error);
        let mut known = self.known.clone();
        let transaction = self.connection.unchecked_transaction().map_err(of_file)?;
        for event in events {
            let table = self.config.table_of(&event.key.dataset);
            if known.insert(table.clone()) && self.config.create {
                let create = self.create(&table);
                transaction.execute(&create, []).map_err(of_file)?;
            }
            let marks = vec!["?"; super::OWN.len() + self.config.columns.len()];
            let sql = self
                .config
                .upsert(&format!("\"{table}\""), &marks.join(", "));
            let mut statement = transaction.prepare_cached(&sql).map_err(|error| {
                match error.sqlite_error_code() {
                    Some(ErrorCode::Unknown) => {
                        no_table(&table, &error.to_string(), &self.create(&table))
                    }
                    _ => of_file(error),
                }
            })?;
            let row = row(event, &self.config)?;
            statement.execute(params_from_iter(row)).map_err(|error| {
                match error.sqlite_error_code() {
                    Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
                        Failure::Data {
                            reason: "constraint",
                            detail: constraint(&error),
                        }
                    }
                    _ => of_file(error).into(),
                }
            })?;
        }
        transaction.commit().map_err(of_file)?;
        self.known = known;
        Ok(())
    }
}

impl Adapter for Sqlite {
    fn events_max(&self) -> usize {
        self.config.batch_max
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Failure> {
        // A transaction that is dropped is rolled back.
        self.write(delivery.events).map(|()| Receipt::default())
    }
}

fn row(event: &Event, config: &TableConfig) -> Result<Vec<Value>, Failure> {
    let values = values(event, &config.columns)?;
    let text = |text: Option<String>| text.map_or(Value::Null, Value::Text);
    let mut row = vec![
        Value::Text(event.key.agency.to_string()),
        Value::Text(event.key.subject.to_string()),
        Value::Integer(event.life),
        Value::Integer(event.capture.0 as i64),
        Value::Text(event.id.to_string()),
        Value::Text(event.time.clone()),
        Value::Text(event.stored.clone()),
        Value::Integer(i64::from(event.op == Op::Delete)),
        text(values.data),
    ];
    for (value, column) in values.columns.into_iter().zip(&config.columns) {
        row.push(match (column.kind, value) {
            (ColumnType::Boolean, Some(truth)) => Value::Integer(i64::from(truth == "true")),
            // Of texts that are numbers the column's affinity makes numbers.
            (_, value) => text(value),
        });
    }
    Ok(row)
}

/// The constraint's name without values.
fn constraint(error: &rusqlite::Error) -> String {
    let text = error.to_string();
    text.chars().take(200).collect()
}

fn of_file(file: &Path, error: &rusqlite::Error) -> Trouble {
    let file = file.display();
    Trouble::new(
        "database",
        [
            format!("không ghi được tệp SQLite {file}: {error}"),
            format!("cannot write the SQLite file {file}: {error}"),
        ],
        [
            "Kiểm tra thư mục, quyền ghi, dung lượng, và chương trình khác có đang khóa tệp không; trục tự ghi tiếp.",
            "Check folder, right to write, space, and whether another program locks the file; the hub goes on by itself.",
        ],
    )
}
