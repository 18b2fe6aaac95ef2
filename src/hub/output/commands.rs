//! `trucd outputs …`: how outputs stand, what is parked, and what people do about it. All of it works
//! beside a running hub, which notices within a second.

use std::fmt::Write as _;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::hub::config::Config;
use crate::hub::output::outlook;
use crate::hub::registry;
use crate::hub::status::Stamp;
use crate::model::UnixMs;
use crate::store::outputs::held::Held;
use crate::store::outputs::{OutputRow, OutputStore};

/// Parked entries that are listed at once.
const LISTED_MAX: u64 = 10_000;

#[derive(Debug, Subcommand)]
pub enum OutputsCommand {
    /// All outputs and how they stand
    List(ListArgs),
    /// What an output could not deliver, and what waits behind it; --json prints an object a line
    Parked(ParkedArgs),
    /// Try parked entries again: one, or all
    Retry(RetryArgs),
    /// Give a parked entry up for ever
    Drop(DropArgs),
    /// Deliver everything again from the beginning
    Rewind(NameArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Stable JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ParkedArgs {
    /// All outputs when absent
    pub name: Option<String>,
    /// Stable JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    pub name: String,
    pub number: Option<i64>,
}

#[derive(Debug, Args)]
pub struct DropArgs {
    pub name: String,
    pub number: i64,
}

#[derive(Debug, Args)]
pub struct NameArgs {
    pub name: String,
}

/// Does it; returns what is to be printed.
pub fn run(config: &Config, command: &OutputsCommand, now: UnixMs) -> anyhow::Result<String> {
    match command {
        OutputsCommand::List(args) => {
            let outputs = outlook::read(config, &registry::open_view(config)?, now)?;
            match args.json {
                true => Ok(format!("{}\n", json!({ "outputs": outputs }))),
                false => Ok(outlook::text(&outputs)),
            }
        }
        OutputsCommand::Parked(args) => {
            let mut text = String::new();
            for (store, row) in parked_of(config, args.name.as_deref())? {
                let held = store.held(row.output, LISTED_MAX)?;
                let lines = held.iter().map(|held| line(&row.name, held, args.json));
                text.extend(lines);
            }
            Ok(text)
        }
        OutputsCommand::Retry(args) => {
            let (mut store, row) = open(config, &args.name)?;
            let count = store.retry(row.output, args.number)?;
            if let (0, Some(number)) = (count, args.number) {
                bail!(
                    "nothing is parked under number {number}; see trucd outputs parked {}",
                    args.name
                );
            }
            Ok(format!(
                "{count} mục sẽ được giao lại / {count} entries are tried again\n"
            ))
        }
        OutputsCommand::Drop(args) => {
            let (mut store, row) = open(config, &args.name)?;
            ensure!(
                store.drop_held(row.output, args.number)?,
                "nothing is parked under number {}; see trucd outputs parked {}",
                args.number,
                args.name
            );
            Ok(format!("{}: đã bỏ / given up\n", args.number))
        }
        OutputsCommand::Rewind(args) => {
            let (mut store, row) = open(config, &args.name)?;
            store.rewind(row.output)?;
            Ok(format!(
                "{}: giao lại từ đầu / delivered again from the beginning\n",
                args.name
            ))
        }
    }
}

fn open(config: &Config, name: &str) -> anyhow::Result<(OutputStore, OutputRow)> {
    let path = outlook::store_path(config);
    let known = || {
        let names: Vec<&str> = config
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        format!("outputs of the configuration: {}", names.join(", "))
    };
    ensure!(path.is_file(), "no output has run yet; {}", known());
    let store = OutputStore::open(&path, outlook::OPTIONS)
        .with_context(|| format!("cannot open the outputs' store {}", path.display()))?;
    let row = store.output(name)?;
    let row = row.with_context(|| format!("no output {name:?} has run yet; {}", known()))?;
    Ok((store, row))
}

/// The output of that name, or all that have run.
fn parked_of(config: &Config, name: Option<&str>) -> anyhow::Result<Vec<(OutputStore, OutputRow)>> {
    if let Some(name) = name {
        return Ok(vec![open(config, name)?]);
    }
    if !outlook::store_path(config).is_file() {
        return Ok(Vec::new());
    }
    let rows = outlook::open(config)?.outputs()?.into_iter();
    rows.map(|row| open(config, &row.name)).collect()
}

fn line(output: &str, held: &Held, as_json: bool) -> String {
    let log = &held.item.log;
    if as_json {
        let value = json!({
            "output": output, "number": held.number, "box": log.box_id, "lane": log.lane,
            "epoch": crate::model::Epoch(log.epoch), "seq": held.item.seq,
            "dataset": held.key.dataset, "agency": held.key.agency, "reason": held.reason,
            "detail": held.detail, "retry": held.retry, "parked": Stamp(held.held),
        });
        return format!("{value}\n");
    }
    let mut text = String::new();
    let reason = held
        .reason
        .as_deref()
        .unwrap_or("chờ sau mục trước (waits behind)");
    let _ = writeln!(
        text,
        "{output} {} {} {} {} {} {} {} {} {}",
        held.number,
        Stamp(held.held).0,
        log.box_id,
        log.lane,
        held.item.seq,
        held.key.dataset,
        held.key.agency,
        reason,
        held.detail
    );
    text
}
