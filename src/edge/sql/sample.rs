//! A look at a database that keeps nothing: a sample of rows, or the names of its tables.

use crate::catalogue::Dataset;
use crate::edge::config::sql::{Mode, SqlConfig};
use crate::edge::connectors::Fault;
use crate::edge::rows::Row;
use crate::edge::sql::driver::{Ask, Mark, Session, Table};
use crate::edge::sql::mapping::{Described, Plan};
use crate::edge::sql::value::{Kind, Value};
use crate::edge::sql::{Taker, read};
use crate::model::record::Op;

/// The first rows that the query gives, as records.
pub async fn rows(
    config: &SqlConfig,
    dataset: &Dataset,
    rows_max: usize,
) -> Result<Vec<Row>, Fault> {
    let mut session = Session::open(config).await?;
    let after = match (config.mode.start(), &config.mode) {
        (Some(start), _) => Mark::At(start.to_owned()),
        (None, Mode::Time { .. }) => Mark::BeginTime,
        (None, _) => Mark::BeginNumber,
    };
    let ask = Ask {
        after,
        limit: rows_max as u64,
    };
    let mut sample = Sample {
        config,
        dataset,
        rows_max,
        plan: None,
        rows: Vec::new(),
    };
    read(&mut session, config, ask, &mut sample).await?;
    let rows = sample.rows;
    session.close().await;
    Ok(rows)
}

struct Sample<'c> {
    config: &'c SqlConfig,
    dataset: &'c Dataset,
    rows_max: usize,
    plan: Option<Plan>,
    rows: Vec<Row>,
}

impl Taker for Sample<'_> {
    fn columns(&mut self, described: Vec<Described>) -> Result<(), Fault> {
        let others: Vec<&str> = match &self.config.mode {
            Mode::Snapshot { key, .. } => key.iter().map(String::as_str).collect(),
            mode => mode.watermark().into_iter().collect(),
        };
        self.plan = Some(Plan::new(self.config, &described, &others, self.dataset)?);
        Ok(())
    }

    async fn rows(&mut self, page: Vec<Vec<Value>>) -> Result<bool, Fault> {
        let plan = self.plan.as_ref().expect("columns come first");
        for values in page.into_iter().take(self.rows_max - self.rows.len()) {
            let mut row = plan.record(values).into_row(Op::Upsert);
            for attached in &mut row.attachments {
                attached.content = Vec::new();
            }
            self.rows.push(row);
        }
        Ok(self.rows.len() < self.rows_max)
    }
}

/// The database's tables and columns.
pub async fn tables(config: &SqlConfig) -> Result<Vec<Table>, Fault> {
    let mut session = Session::open(config).await?;
    let tables = session.tables().await?;
    session.close().await;
    Ok(tables)
}

/// Tables and columns, and a mapping as TOML to begin with.
pub fn proposal(tables: &[Table], dataset: &Dataset) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for table in tables {
        say(format!("# {}", table.name));
        for Described {
            name,
            kind,
            type_name,
        } in &table.columns
        {
            let binary = if *kind == Kind::Bytes {
                " (nhị phân / binary)"
            } else {
                ""
            };
            say(format!("#   {name} {type_name}{binary}"));
        }
    }
    let fields = field_names(&dataset.schema);
    let best = tables
        .iter()
        .max_by_key(|table| matches(table, &fields).len());
    let Some(table) = best else {
        say("# không thấy bảng nào / no table is visible".to_owned());
        return text;
    };
    say(String::new());
    say(format!(
        "# Gợi ý, cần kiểm tra từng dòng / a proposal, check each line; dataset {}",
        dataset.id
    ));
    let watermark = watermark(table);
    match &watermark {
        Some((name, true)) => {
            say("mode = \"increasing\"".to_owned());
            say(format!("watermark = {name:?}"));
            say(format!(
                "query = \"\"\"\nSELECT * FROM {} WHERE {name} > :after ORDER BY {name} LIMIT :limit\n\"\"\"",
                table.name
            ));
        }
        Some((name, false)) => {
            say("mode = \"time\"".to_owned());
            say(format!("watermark = {name:?}"));
            say(format!(
                "query = \"\"\"\nSELECT * FROM {} WHERE {name} >= :after ORDER BY {name} LIMIT :limit\n\"\"\"",
                table.name
            ));
        }
        None => {
            let key = table
                .columns
                .first()
                .map_or("?", |column| column.name.as_str());
            say("mode = \"snapshot\"".to_owned());
            say(format!("key = [{key:?}]"));
            say(format!("query = \"SELECT * FROM {}\"", table.name));
        }
    }
    say(String::new());
    say("[source.columns]".to_owned());
    let matched = matches(table, &fields);
    for field in &fields {
        match matched.iter().find(|(known, _)| known == field) {
            Some((_, column)) => say(format!("{} = {field:?}", key(column))),
            None => say(format!("# \"?\" = {field:?}")),
        }
    }
    text
}

/// A column that looks like a watermark; true when it grows, false when it is a time.
fn watermark(table: &Table) -> Option<(String, bool)> {
    const TIMES: [&str; 6] = [
        "capnhat", "updated", "modified", "changed", "ngaysua", "thoidiem",
    ];
    let plain = |column: &Described| simple(&column.name);
    let time = table
        .columns
        .iter()
        .find(|column| TIMES.iter().any(|word| plain(column).contains(word)));
    if let Some(time) = time {
        return Some((time.name.clone(), false));
    }
    let id = table
        .columns
        .iter()
        .find(|column| plain(column) == "id" && column.type_name.to_lowercase().contains("int"))?;
    Some((id.name.clone(), true))
}

/// Fields that have the name of a column, however it is written.
fn matches(table: &Table, fields: &[String]) -> Vec<(String, String)> {
    let same = |field: &String| {
        let last = field.rsplit('.').next().unwrap_or(field);
        let column = table
            .columns
            .iter()
            .find(|column| simple(&column.name) == simple(last))?;
        Some((field.clone(), column.name.clone()))
    };
    fields.iter().filter_map(same).collect()
}

/// A name without case and separators.
fn simple(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// The schema's fields, nested ones with a dot, the required ones first.
fn field_names(schema: &str) -> Vec<String> {
    let schema: serde_json::Value =
        serde_json::from_str(schema).expect("the schema was parsed at load");
    let mut names = Vec::new();
    gather(&schema, "", &mut names);
    let required = |name: &String| {
        let list = schema.get("required").and_then(serde_json::Value::as_array);
        let top = name.split('.').next();
        !list.is_some_and(|list| list.iter().any(|field| field.as_str() == top))
    };
    names.sort_by_key(required);
    names
}

fn gather(schema: &serde_json::Value, before: &str, names: &mut Vec<String>) {
    let fields = schema
        .get("properties")
        .and_then(serde_json::Value::as_object);
    for (name, field) in fields.into_iter().flatten() {
        let path = match before {
            "" => name.clone(),
            before => format!("{before}.{name}"),
        };
        match field.get("properties") {
            Some(_) => gather(field, &path, names),
            None => names.push(path),
        }
    }
}

/// A column's name as a key of TOML.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match is_bare {
        true => name.to_owned(),
        false => toml::Value::from(name).to_string(),
    }
}
