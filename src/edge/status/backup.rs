//! The nightly backup, as the page tells it: the last good one, where it lies, when the next is due, and
//! why there is none.

use serde::{Deserialize, Serialize};

use crate::edge::backup::schedule::{LastBackup, next_due, results};
use crate::edge::config::Config;
use crate::edge::status::{Stamp, Trouble};
use crate::model::UnixMs;

/// Without a good backup for longer than twice the period somebody has to look.
const LATE_MS: i64 = 2 * 86_400_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// Where backups go.
    pub folder: String,
    /// So many are kept.
    pub keep: u64,
    /// None while the daemon is down.
    pub next: Option<Stamp>,
    /// Made and restored on trial.
    pub last: Option<LastBackup>,
    /// Why there was none since the last good one.
    pub fault: Option<Trouble>,
    /// There was no good one for longer than two days.
    pub late: bool,
}

impl BackupStatus {
    /// None where nobody wants backups. `running_since` is the daemon's.
    pub fn read(config: &Config, running_since: Option<UnixMs>, now: UnixMs) -> Option<Self> {
        let plan = config.backup.as_ref()?;
        let results = results(&config.store.path);
        let since = results.last.as_ref().map(|last| last.at.0);
        let late = since
            .or(running_since)
            .is_some_and(|since| since.0 + LATE_MS < now.0);
        Some(BackupStatus {
            folder: plan.folder.display().to_string(),
            keep: plan.keep as u64,
            next: running_since.map(|_| Stamp(next_due(plan, &results, now))),
            last: results.last,
            fault: results.fault,
            late,
        })
    }
}
