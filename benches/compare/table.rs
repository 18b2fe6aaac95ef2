//! The results as one Markdown table, to be pasted into `docs/performance.md`.

use std::fmt::Write as _;

use crate::job::{Measured, Moment, Survived};
use crate::limits::Limits;
use crate::link::{BYTES_PER_S, Link};
use crate::system::{Kind, Part};

/// Runs of one system over one link.
pub struct Row {
    pub kind: Kind,
    pub link: Link,
    pub records: usize,
    pub runs: Vec<Measured>,
    /// Counted once, over the plain link; nothing where strace is not allowed to.
    pub syncs: Option<[f64; 2]>,
}

pub struct KillRow {
    pub kind: Kind,
    pub link: Link,
    pub records: usize,
    pub part: Part,
    /// One moment stands for all runs: each has a share of its own.
    pub moment: Moment,
    pub runs: Vec<Survived>,
}

const HEAD: &str = "\
| line | system | `kill -9` of | records | accepted/s, one a call | accepted/s, in groups | s until all held | stream records/s | line used | lost | held twice | B/record on the wire, up + down | B/record written at the office, in + out | syncs/record at the office, in + out | MB at the office, idle, peak | processor µs/record, office, centre |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

pub fn render(rows: &[Row], kills: &[KillRow], limits: &Limits) -> String {
    let mut text = HEAD.to_owned();
    for link in [Link::Plain, Link::Shaped] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.link == link).collect();
        let product = rows.iter().find(|row| row.kind == Kind::Product).copied();
        for row in &rows {
            text.push_str(&measured(row, product));
        }
        if !rows.is_empty() {
            text.push_str(&bound(link, limits));
        }
        for row in kills.iter().filter(|row| row.link == link) {
            text.push_str(&survived(row));
        }
    }
    text
}

fn measured(row: &Row, product: Option<&Row>) -> String {
    let is_product = row.kind == Kind::Product;
    let both = |of: &dyn Fn(&Measured) -> f64| {
        let reference = product
            .filter(|_| !is_product)
            .map(|product| median(&product.runs, of));
        (median(&row.runs, of), reference)
    };
    // The value, and how many times that of the product it is.
    let cell = |digits: usize, of: &dyn Fn(&Measured) -> f64| {
        let (value, reference) = both(of);
        with_ratio(value, reference, digits)
    };
    let stream = median(&row.runs, &|run| run.stream_per_s);
    let up = median(&row.runs, &|run| run.wire_bytes[0]);
    let used = match row.link {
        Link::Plain => "–".to_owned(),
        Link::Shaped => format!("{:.0} %", stream * up / BYTES_PER_S as f64 * 100.0),
    };
    let syncs = row.syncs.map_or("–".to_owned(), |[handing_in, draining]| {
        format!("{handing_in:.4} + {draining:.4}")
    });
    format!(
        "| {} | {} | – | {} | {} | {} | {} | {} | {used} | {} | {} | {} + {:.1} | {} + {:.0} | {syncs} | {}, {} | {}, {} |\n",
        row.link.label(),
        row.kind.label(),
        thousands(row.records as f64),
        cell(0, &|run| run.singly_per_s),
        cell(0, &|run| run.grouped_per_s),
        cell(2, &|run| run.survived.drain_s),
        cell(0, &|run| run.stream_per_s),
        worst(row.runs.iter().map(|run| run.survived.lost)),
        worst(row.runs.iter().map(|run| run.survived.twice)),
        cell(0, &|run| run.wire_bytes[0]),
        median(&row.runs, &|run| run.wire_bytes[1]),
        cell(0, &|run| run.written_bytes[0]),
        median(&row.runs, &|run| run.written_bytes[1]),
        cell(1, &|run| run.idle_mb),
        cell(1, &|run| run.peak_mb),
        cell(1, &|run| run.office_us),
        cell(1, &|run| run.centre_us),
    )
}

fn bound(link: Link, limits: &Limits) -> String {
    let [alone, hundred, thousand] = limits.rows_per_s.map(thousands);
    let stream = match link {
        Link::Plain => format!("{thousand} (SQLite, 1,000 a commit)"),
        Link::Shaped => thousands(limits.line_per_s()),
    };
    format!(
        "| {} | *bound* | – | – | {} syncs/s; SQLite {alone} | SQLite {hundred} | – | {stream} | – | – | – | {:.0} (bare zstd-1, 1,000 a batch) | – | – | – | – |\n",
        link.label(),
        thousands(limits.syncs_per_s),
        limits.record_bytes,
    )
}

fn survived(row: &KillRow) -> String {
    let moment = match row.moment {
        Moment::AfterLastAcknowledgement => "after the last acknowledgement, line down",
        Moment::InTheDrain(_) => "in the drain",
    };
    let drain_s = median(&row.runs, &|run| run.drain_s);
    let lost = worst(row.runs.iter().map(|run| run.lost));
    let mut text = format!(
        "| {} | {} | {}, {moment} | {} | | | {} | | | {lost} | {} | | | | | |\n",
        row.link.label(),
        row.kind.label(),
        row.kind.part_label(row.part),
        thousands(row.records as f64),
        if row.runs.iter().any(|run| 0 < run.lost) {
            "never".to_owned()
        } else {
            format!("{drain_s:.2}")
        },
        worst(row.runs.iter().map(|run| run.twice)),
    );
    if row.runs.is_empty() {
        text.clear();
    }
    text
}

/// The median, and the worst when it is another.
fn worst(values: impl Iterator<Item = u64>) -> String {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let (Some(&median), Some(&worst)) = (values.get(values.len() / 2), values.last()) else {
        return String::new();
    };
    let mut text = thousands(median as f64);
    if worst != median {
        let _ = write!(text, " (worst {})", thousands(worst as f64));
    }
    text
}

pub fn median<T>(runs: &[T], of: &dyn Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn with_ratio(value: f64, reference: Option<f64>, digits: usize) -> String {
    let text = if digits == 0 {
        thousands(value)
    } else {
        format!("{value:.digits$}")
    };
    match reference {
        Some(reference) if 0.0 < reference => format!("{text} ({:.2}×)", value / reference),
        _ => text,
    }
}

/// 12345.6 as 12,346.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if 0 < at && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
