//! `trucd grant …` and `trucd audit` on the command line.

use serde_json::json;

use super::arguments::{GrantArgs, GrantCommand, JsonArgs, WithdrawArgs};
use super::{print_json, print_text};
use crate::catalogue::right::Rows;
use crate::hub::config::Config;
use crate::hub::grants::{self, Grant, Granted};
use crate::hub::status::text::table;
use crate::model::UnixMs;

pub fn run(config: &Config, command: GrantCommand, now: UnixMs) -> anyhow::Result<()> {
    match command {
        GrantCommand::Add(args) => add(config, args, now),
        GrantCommand::List(args) => list(config, &args),
        GrantCommand::Withdraw(args) => withdraw(config, args, now),
    }
}

fn add(config: &Config, args: GrantArgs, now: UnixMs) -> anyhow::Result<()> {
    let by = grants::caller(args.by);
    let grant = Grant {
        agency: args.agency,
        dataset: args.dataset,
        fields: args.fields,
        masked: args.mask,
        rows: args.rows,
        sensitive: args.sensitive,
        basis: args.basis,
    };
    let right = grants::add(config, &grant, &by, now)?;
    print_text(&format!(
        "{} được đọc {} / may read: {}\n",
        grant.agency,
        grant.dataset,
        json!(right)
    ))
}

fn withdraw(config: &Config, args: WithdrawArgs, now: UnixMs) -> anyhow::Result<()> {
    let by = grants::caller(args.by);
    grants::withdraw(config, &args.agency, &args.dataset, &by, now)?;
    print_text(&format!(
        "{} không còn được đọc {}; bản sao ở trạm sẽ bị xóa / the copies are being deleted\n",
        args.agency, args.dataset
    ))
}

fn list(config: &Config, args: &JsonArgs) -> anyhow::Result<()> {
    let rights = grants::list(config)?;
    if args.json {
        return print_json(&json!({ "rights": rights }));
    }
    let header = [
        "Cơ quan (agency)",
        "Bộ dữ liệu (dataset)",
        "Trường (fields)",
        "Che (masked)",
        "Bản ghi (rows)",
        "Căn cứ (basis)",
        "Từ (granted)",
        "Người cấp (by)",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(rights.iter().map(row));
    print_text(&table(&rows))
}

fn row(granted: &Granted) -> [String; 8] {
    let right = &granted.right;
    [
        granted.agency.to_string(),
        granted.dataset.to_string(),
        right
            .fields
            .as_ref()
            .map_or("*".to_owned(), |fields| fields.join(",")),
        right.masked.join(","),
        match &right.rows {
            Rows::All => "all".to_owned(),
            Rows::Of(codes) => codes
                .iter()
                .map(|code| code.as_str())
                .collect::<Vec<_>>()
                .join(","),
        },
        granted.basis.clone(),
        granted.granted.0.to_string(),
        granted.by.clone(),
    ]
}

/// A line each, because there may be many.
pub fn audit(config: &Config, args: &JsonArgs) -> anyhow::Result<()> {
    let mut text = String::new();
    for line in grants::audit(config)? {
        match args.json {
            true => text.push_str(&format!("{}\n", json!(line))),
            false => text.push_str(&format!(
                "{} {} {} {}\n",
                line.at.0, line.who, line.action, line.detail
            )),
        }
    }
    print_text(&text)
}
