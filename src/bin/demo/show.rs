//! The live table: what each box and the hub say of themselves.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use lienthong::edge::status::Status;
use lienthong::model::BoxId;

use crate::wan::Line;
use crate::wan_script::words;

/// Rows beyond this many are summed up.
const ROWS_MAX: usize = 12;

/// One box as the table shows it.
pub struct Row {
    pub box_id: BoxId,
    /// Records over HTTP that were accepted, and files that were dropped.
    pub handed_in: u64,
    pub received: u64,
    pub line: Line,
    /// None while the box does not answer.
    pub status: Option<Box<Status>>,
}

/// Writes the table over the last one on a terminal, below it elsewhere.
pub struct Screen {
    lines: usize,
    is_terminal: bool,
}

impl Screen {
    pub fn new() -> Screen {
        Screen {
            lines: 0,
            is_terminal: std::io::stdout().is_terminal(),
        }
    }

    /// How often a new table is worth its lines.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(if self.is_terminal { 1 } else { 5 })
    }

    pub fn draw(&mut self, seconds: u64, rows: &[Row]) {
        let table = table(seconds, rows);
        let mut out = std::io::stdout().lock();
        if self.is_terminal && 0 < self.lines {
            let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
        }
        self.lines = table.lines().count();
        let _ = out.write_all(table.as_bytes());
        let _ = out.flush();
    }
}

fn table(seconds: u64, rows: &[Row]) -> String {
    let mut table = format!(
        "{seconds:>4} s {:<14} {:>9} {:>23} {:>9} {:>7}  {:<10} line\n",
        "box", "handed in", "waiting P0 P1 P2 P3 P4", "received", "oldest", "link"
    );
    for row in rows.iter().take(ROWS_MAX) {
        let (waiting, oldest, link) = match &row.status {
            Some(status) => {
                let waiting: Vec<String> = status
                    .lanes
                    .iter()
                    .map(|lane| lane.waiting.to_string())
                    .collect();
                let link = format!("{:?}", status.link.state).to_lowercase();
                (waiting.join(" "), format!("{} s", status.oldest_s()), link)
            }
            None => ("-".to_owned(), "-".to_owned(), "no answer".to_owned()),
        };
        let _ = writeln!(
            table,
            "       {:<14} {:>9} {waiting:>23} {:>9} {oldest:>7}  {link:<10} {}",
            row.box_id.as_str(),
            row.handed_in,
            row.received,
            words(row.line),
        );
    }
    let waiting: u64 = rows
        .iter()
        .filter_map(|row| Some(row.status.as_ref()?.waiting()))
        .sum();
    let _ = writeln!(
        table,
        "       {:<14} {:>9} {waiting:>23} {:>9}",
        format!("all {}", rows.len()),
        rows.iter().map(|row| row.handed_in).sum::<u64>(),
        rows.iter().map(|row| row.received).sum::<u64>(),
    );
    table
}
