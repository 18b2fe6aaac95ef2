//! How the outputs stand, for status, metrics and people: read from the stores, so it is known while
//! the hub is down too.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use crate::hub::config::Config;
use crate::hub::output::{OutputConfig, Trouble, feed};
use crate::hub::status::Stamp;
use crate::model::{Seq, UnixMs};
use crate::store::hub_view::{HubView, Snapshot};
use crate::store::outputs::{LogName, OutputRow, OutputStore};
use crate::store::{Options, StoreError};

pub const OPTIONS: Options = Options {
    quota_bytes: 16 << 30,
    cache_bytes: 1 << 20,
};
/// Numbers of a log that are counted one by one.
const NUMBERS_MAX: u64 = 20_000;

/// Where cursors and dead letters lie.
pub fn store_path(config: &Config) -> PathBuf {
    config.store.path.with_file_name("outputs.db")
}

#[derive(Debug, Clone, Serialize)]
pub struct OutputStatus {
    pub name: String,
    /// Absent when the configuration no longer has it.
    pub kind: Option<&'static str>,
    pub state: State,
    pub delivered: u64,
    /// Entries of its datasets that are not delivered yet.
    pub waiting: u64,
    /// Of the oldest of them.
    pub oldest_waiting_s: Option<u64>,
    pub parked: u64,
    /// Entries that wait behind parked ones of their subjects.
    pub behind: u64,
    pub withheld: u64,
    pub dropped: u64,
    /// Station files that were delivered after the time that the law allows.
    pub late: u64,
    /// Station files that were flagged as old.
    pub history: u64,
    /// From the measurement to the delivery of the last live station file.
    pub last_delay_s: Option<i64>,
    pub last: Option<Stamp>,
    pub trouble: Option<Trouble>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Working,
    Failed,
    /// Nothing was ever asked of it.
    New,
    /// No longer in the configuration.
    Removed,
}

pub fn parse_trouble(text: &str) -> Option<Trouble> {
    serde_json::from_str(text).ok()
}

/// All outputs, in the order of the configuration, then those that it no longer has.
pub fn read(config: &Config, view: &HubView, now: UnixMs) -> anyhow::Result<Vec<OutputStatus>> {
    let path = store_path(config);
    let rows = match path.is_file() {
        false => Vec::new(),
        true => open(config)?.outputs()?,
    };
    let mut rows: HashMap<String, OutputRow> = rows
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    let mut found = Vec::new();
    for output in &config.outputs {
        let row = rows.remove(&output.name);
        found.push(status(config, view, Some(output), &output.name, row, now)?);
    }
    let mut left: Vec<_> = rows.into_iter().collect();
    left.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, row) in left {
        found.push(status(config, view, None, &name, Some(row), now)?);
    }
    Ok(found)
}

pub fn open(config: &Config) -> anyhow::Result<OutputStore> {
    let path = store_path(config);
    OutputStore::open_read_only(&path)
        .with_context(|| format!("cannot open the outputs' store {}", path.display()))
}

fn status(
    config: &Config,
    view: &HubView,
    output: Option<&OutputConfig>,
    name: &str,
    row: Option<OutputRow>,
    now: UnixMs,
) -> anyhow::Result<OutputStatus> {
    let mut status = OutputStatus {
        name: name.to_owned(),
        kind: output.map(|output| output.kind.name()),
        state: State::New,
        delivered: 0,
        waiting: 0,
        oldest_waiting_s: None,
        parked: 0,
        behind: 0,
        withheld: 0,
        dropped: 0,
        late: 0,
        history: 0,
        last_delay_s: None,
        last: None,
        trouble: None,
    };
    let mut cursors = HashMap::new();
    if let Some(row) = row {
        let standing = open(config)?.standing(row.output)?;
        let row = standing.row;
        cursors = standing.cursors.into_iter().collect();
        (status.parked, status.behind) = (standing.parked, standing.behind);
        status.trouble = row.trouble.as_deref().and_then(parse_trouble);
        status.state = match (output, &status.trouble) {
            (None, _) => State::Removed,
            (Some(_), None) => State::Working,
            (Some(_), Some(_)) => State::Failed,
        };
        status.delivered = row.delivered;
        status.withheld = row.withheld;
        status.dropped = row.dropped;
        status.late = row.late;
        status.history = row.history;
        status.last_delay_s = row.delay_ms.map(|ms| ms / 1000);
        status.last = row.last.map(Stamp);
    }
    if let Some(output) = output {
        let (waiting, oldest) = waiting(&view.snapshot()?, output, &cursors)?;
        status.waiting = waiting;
        status.oldest_waiting_s = oldest.map(|oldest| (now.0 - oldest.0).max(0) as u64 / 1000);
    }
    Ok(status)
}

/// What waits, and since when the oldest does. Of a long log, numbers beyond those that are counted
/// one by one count as entries.
fn waiting(
    snapshot: &Snapshot<'_>,
    output: &OutputConfig,
    cursors: &HashMap<LogName, Seq>,
) -> Result<(u64, Option<UnixMs>), StoreError> {
    let datasets: Vec<i64> = snapshot
        .datasets()?
        .into_iter()
        .filter(|(_, name)| output.datasets.contains(name))
        .map(|(number, _)| number)
        .collect();
    let (mut waiting, mut oldest) = (0, None);
    for log in snapshot.logs()? {
        let cursor = cursors.get(&feed::name(&log)).copied();
        let cursor = cursor.unwrap_or(Seq::ZERO);
        if log.applied <= cursor {
            continue;
        }
        let counted = snapshot.count_after(&log, cursor, &datasets, NUMBERS_MAX)?;
        let beyond = cursor
            .next()
            .count_to(log.applied)
            .saturating_sub(NUMBERS_MAX);
        if 0 < counted + beyond {
            waiting += counted + beyond;
            let since = snapshot.received(log.log, cursor.next())?;
            oldest = [oldest, since].into_iter().flatten().min();
        }
    }
    Ok((waiting, oldest))
}

/// Prometheus text.
pub fn metrics(outputs: &[OutputStatus]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, of: &dyn Fn(&OutputStatus) -> i64| {
        let _ = writeln!(text, "# HELP trucd_output_{name} {help}");
        let _ = writeln!(text, "# TYPE trucd_output_{name} {kind}");
        for output in outputs {
            let value = of(output);
            let _ = writeln!(
                text,
                "trucd_output_{name}{{output=\"{}\"}} {value}",
                output.name
            );
        }
    };
    family(
        "delivered_total",
        "counter",
        "Entries delivered",
        &|output| output.delivered as i64,
    );
    family("waiting", "gauge", "Entries that wait", &|output| {
        output.waiting as i64
    });
    family("parked", "gauge", "Entries parked", &|output| {
        output.parked as i64
    });
    family("behind", "gauge", "Entries behind parked ones", &|output| {
        output.behind as i64
    });
    family(
        "oldest_waiting_seconds",
        "gauge",
        "Age of the oldest entry that waits",
        &|output| output.oldest_waiting_s.unwrap_or(0) as i64,
    );
    family(
        "late_total",
        "counter",
        "Station files sent late",
        &|output| output.late as i64,
    );
    family(
        "works",
        "gauge",
        "Whether the output can deliver",
        &|output| i64::from(output.trouble.is_none()),
    );
    text
}

/// For a terminal: a line each, and what is wrong.
pub fn text(outputs: &[OutputStatus]) -> String {
    let mut text = String::new();
    for output in outputs {
        let state = match output.state {
            State::Working => "đang giao (working)",
            State::Failed => "chưa giao được (failed)",
            State::New => "mới (new)",
            State::Removed => "đã bỏ khỏi cấu hình (removed)",
        };
        let _ = write!(
            text,
            "→ {} [{}]: {state}; đã giao {}, chờ {}, tạm giữ {} / {} delivered, {} waiting, {} parked",
            output.name,
            output.kind.unwrap_or("—"),
            output.delivered,
            output.waiting,
            output.parked,
            output.delivered,
            output.waiting,
            output.parked,
        );
        if let Some(delay_s) = output.last_delay_s {
            let _ = write!(
                text,
                "; độ trễ {delay_s} s, trễ hạn {}, bù {} / delay {delay_s} s, {} late, {} history",
                output.late, output.history, output.late, output.history
            );
        }
        text.push('\n');
        if let Some(trouble) = &output.trouble {
            let _ = writeln!(
                text,
                "! {}: {} ({})\n    {}\n  {}\n    {}",
                output.name,
                trouble.vi,
                trouble.since,
                trouble.hint_vi,
                trouble.en,
                trouble.hint_en
            );
        }
    }
    text
}
