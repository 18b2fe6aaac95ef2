//! `tramd check`: field diagnosis, one named check after the other, each with what to do.
//!
//! Safe at any time: beside a running daemon it only looks, and asks the daemon about the link, so
//! that it never takes the box's place at the broker. Without a daemon it goes the whole way to the
//! hub and back itself, down to a signed receipt.

pub(in crate::edge) mod local;
pub(in crate::edge) mod network;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;

use crate::edge::commands::Failure;
use crate::edge::config::load::{Loaded, load};
use crate::edge::identity::Keys;
use crate::edge::talk;
use crate::model::UnixMs;
use crate::shell::clock::Clock;
use crate::shell::settings::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// What one check found.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Stable, such as `tcp`.
    pub id: &'static str,
    pub name_vi: &'static str,
    pub name_en: &'static str,
    pub outcome: Outcome,
    /// What was found, Vietnamese and English.
    pub detail_vi: String,
    pub detail_en: String,
    /// What to do; empty when nothing is to be done.
    pub hint_vi: String,
    pub hint_en: String,
}

#[derive(Debug, Serialize)]
struct Report<'c> {
    failed: usize,
    warnings: usize,
    checks: &'c [Check],
}

/// The same in Vietnamese and English.
pub struct Both {
    pub vi: String,
    pub en: String,
}

pub fn both(vi: impl Into<String>, en: impl Into<String>) -> Both {
    Both {
        vi: vi.into(),
        en: en.into(),
    }
}

/// Every check, in the order in which faults explain each other.
const CHECKS: [(&str, &str, &str); 13] = [
    ("configuration", "Cấu hình", "configuration"),
    ("catalogue", "Danh mục bộ dữ liệu", "catalogue"),
    ("store", "Kho dữ liệu", "store"),
    ("disk", "Ổ đĩa", "disk"),
    ("clock", "Đồng hồ", "clock"),
    ("certificate", "Chứng thư và khóa", "certificate and keys"),
    ("name", "Tra tên máy chủ trục", "name lookup"),
    ("tcp", "Kết nối TCP", "TCP"),
    ("tls", "Kết nối TLS", "TLS"),
    ("mqtt", "Dịch vụ MQTT", "MQTT"),
    ("receipt", "Biên nhận của trục", "receipt round trip"),
    ("sources", "Nguồn dữ liệu", "sources"),
    (
        "page",
        "Trang của trạm trong mạng",
        "the page in the network",
    ),
];

impl Check {
    pub fn new(id: &'static str, outcome: Outcome, detail: Both, hint: Both) -> Check {
        let known = CHECKS.iter().find(|known| known.0 == id);
        let (id, name_vi, name_en) = *known.expect("every check is in the list");
        Check {
            id,
            name_vi,
            name_en,
            outcome,
            detail_vi: detail.vi,
            detail_en: detail.en,
            hint_vi: hint.vi,
            hint_en: hint.en,
        }
    }

    pub fn ok(id: &'static str, detail: Both) -> Check {
        Check::new(id, Outcome::Ok, detail, both("", ""))
    }

    pub fn skipped(id: &'static str, why: Both) -> Check {
        Check::new(id, Outcome::Skipped, why, both("", ""))
    }
}

/// Runs every check; exit code 1 when one failed.
pub fn check(path: &Path, as_json: bool) -> Result<String, Failure> {
    let mut checks = run(path)?;
    let place = |check: &Check| CHECKS.iter().position(|known| known.0 == check.id);
    checks.sort_by_key(place);
    for (id, ..) in CHECKS {
        if !checks.iter().any(|check| check.id == id) {
            let why = both("cần các mục trước đạt đã", "needs the checks before it");
            checks.push(Check::skipped(id, why));
        }
    }
    checks.sort_by_key(place);
    let count = |outcome| {
        checks
            .iter()
            .filter(|check| check.outcome == outcome)
            .count()
    };
    let report = Report {
        failed: count(Outcome::Failed),
        warnings: count(Outcome::Warning),
        checks: &checks,
    };
    let text = match as_json {
        true => serde_json::to_string_pretty(&report).context("a report is plain JSON")? + "\n",
        false => report.to_string(),
    };
    match report.failed {
        0 => Ok(text),
        _ => Err(Failure::Found(text)),
    }
}

fn run(path: &Path) -> anyhow::Result<Vec<Check>> {
    let Loaded {
        config, catalogue, ..
    } = match load(path) {
        Ok(loaded) => loaded,
        Err(faults) => {
            let hint = both("Xem thêm: tramd config", "See also: tramd config");
            let detail = listed(&faults);
            return Ok(vec![Check::new(
                "configuration",
                Outcome::Failed,
                detail,
                hint,
            )]);
        }
    };
    let clock = Clock::start(UnixMs(0));
    let config = Arc::new(config);
    let status = talk::status(&config.store.path);
    let mut checks = vec![
        Check::ok(
            "configuration",
            both(path.display().to_string(), path.display().to_string()),
        ),
        local::catalogue(&config, &catalogue),
        local::store(&config, status.as_ref()),
        local::disk(&config, status.as_ref()),
        local::clock(&config, &clock),
    ];
    let keys = Keys::load(&config, &clock);
    checks.push(local::certificate(&keys, &clock));
    checks.push(local::sources(&config, path));
    checks.push(local::page(&config, status.as_ref()));
    if let Ok(keys) = keys {
        checks.extend(network::checks(&config, keys, &clock, status.as_ref())?);
    }
    Ok(checks)
}

fn listed(faults: &[Fault]) -> Both {
    let place = |fault: &Fault| match fault.key.as_str() {
        "" => fault.file.display().to_string(),
        key => key.to_owned(),
    };
    let vi = faults
        .iter()
        .map(|fault| format!("{}: {}. {}", place(fault), fault.message_vi, fault.hint_vi));
    let en = faults
        .iter()
        .map(|fault| format!("{}: {}. {}", place(fault), fault.message_en, fault.hint_en));
    both(
        vi.collect::<Vec<_>>().join("\n"),
        en.collect::<Vec<_>>().join("\n"),
    )
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in self.checks {
            let mark = match check.outcome {
                Outcome::Ok => "ĐẠT    / ok     ",
                Outcome::Warning => "CHÚ Ý  / warning",
                Outcome::Failed => "HỎNG   / failed ",
                Outcome::Skipped => "BỎ QUA / skipped",
            };
            writeln!(f, "{mark}  {} / {}", check.name_vi, check.name_en)?;
            indented(f, 4, &check.detail_vi)?;
            indented(f, 6, &check.hint_vi)?;
            if check.detail_en != check.detail_vi {
                indented(f, 4, &check.detail_en)?;
            }
            if check.hint_en != check.hint_vi {
                indented(f, 6, &check.hint_en)?;
            }
        }
        writeln!(
            f,
            "{0} mục hỏng, {1} mục cần chú ý / {0} failed, {1} warnings",
            self.failed, self.warnings
        )
    }
}

fn indented(f: &mut fmt::Formatter<'_>, columns: usize, text: &str) -> fmt::Result {
    text.lines()
        .try_for_each(|line| writeln!(f, "{:columns$}{line}", ""))
}
