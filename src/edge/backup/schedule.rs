//! The nightly backup: when, where to, how many are kept, and how the last one went.
//!
//! Result: `<store's folder>/backup.json`, read by the status, also while the daemon is down.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::edge::backup::problem::Problem;
use crate::edge::backup::{Made, make};
use crate::edge::config::{BackupConfig, Config};
use crate::edge::door::Door;
use crate::edge::status::{Stamp, Trouble};
use crate::engine::sending::Level;
use crate::model::UnixMs;

/// The clock is looked at so often, so that a step of it is noticed.
const LOOK: Duration = Duration::from_secs(60);
/// A backup that failed is tried again so much later.
const RETRY_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;
const SUFFIX: &str = ".tar.zst";
const SUFFIX_HAND: &str = "-tay.tar.zst";

/// How the last backups went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    pub last: Option<LastBackup>,
    /// Why there was none since the last good one; none: it was good.
    pub fault: Option<Trouble>,
}

/// A backup that was made and restored on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    pub at: Stamp,
    pub file: String,
    pub bytes: u64,
    pub entries: u64,
    pub files: u64,
    /// It lies on the disk of the store, so it does not outlive that.
    pub same_disk: bool,
}

/// How the last backups went; nothing where there were none.
pub fn results(store: &Path) -> Results {
    let text = fs::read(results_path(store)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn results_path(store: &Path) -> PathBuf {
    store.with_file_name("backup.json")
}

fn write_results(store: &Path, results: &Results) -> io::Result<()> {
    let path = results_path(store);
    let part = path.with_extension("json.part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(&serde_json::to_vec(results)?)?;
    file.sync_all()?;
    fs::rename(&part, &path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes the nightly backups until told to stop.
pub async fn run(config: Arc<Config>, door: Arc<Door>, mut stop: watch::Receiver<bool>) {
    let Some(plan) = config.backup.clone() else {
        return;
    };
    while !*stop.borrow() {
        let now = door.now().wall;
        if is_due(&plan, &results(&config.store.path), now) {
            // How it went is written down and among the events.
            let _ = make_now(&config, &door, By::Plan).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stop.changed() => return,
        }
    }
}

/// On whose word a backup is made. Those by hand are kept apart, so that they push no night's out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Plan,
    Hand,
}

/// Makes a backup into the configured folder; how it went is written down and among the events.
pub async fn make_now(config: &Arc<Config>, door: &Door, by: By) -> anyhow::Result<LastBackup> {
    let (config, now) = (Arc::clone(config), door.now().wall);
    let made = tokio::task::spawn_blocking(move || one(&config, by, now)).await;
    let made = made.expect("a backup does not panic");
    let (level, code, detail) = match &made {
        Ok(last) => (Level::Info, "backup_made", last.file.clone()),
        // The one that is being made says how it went.
        Err(error) if Problem::of(error) == &Problem::Busy => return made,
        Err(error) => (Level::Warning, "backup_failed", format!("{error:#}")),
    };
    door.intake().note(level, code, detail).await;
    made
}

/// The moment of the plan that was last, at or before now.
fn last_due(plan: &BackupConfig, now: UnixMs) -> i64 {
    let midnight = now.day() * DAY_MS - 7 * 3_600_000;
    let today = midnight + i64::from(plan.minute) * 60_000;
    if now.0 < today { today - DAY_MS } else { today }
}

fn is_due(plan: &BackupConfig, results: &Results, now: UnixMs) -> bool {
    let is_made = results.last.as_ref().is_some_and(|last| {
        // A clock that was set back makes no backup count for the future.
        (last_due(plan, now)..=now.0 + DAY_MS).contains(&last.at.0.0)
    });
    let failed = results.fault.as_ref().and_then(|fault| fault.since);
    let is_early = failed.is_some_and(|at| (at.0.0..at.0.0 + RETRY_MS).contains(&now.0));
    !is_made && !is_early
}

/// When the next one is made; now, where it is due.
pub fn next_due(plan: &BackupConfig, results: &Results, now: UnixMs) -> UnixMs {
    if is_due(plan, results, now) {
        return now;
    }
    let failed = results.fault.as_ref().and_then(|fault| fault.since);
    let next = last_due(plan, now) + DAY_MS;
    // A failure after the plan's moment is tried again before its next one.
    let retry = failed.map_or(next, |at| at.0.0 + RETRY_MS);
    UnixMs(next.min(retry).max(now.0))
}

/// One backup with everything around it; the result is written down.
fn one(config: &Config, by: By, now: UnixMs) -> anyhow::Result<LastBackup> {
    let plan = config.backup.as_ref();
    let plan = plan.context("there is no folder for backups in the configuration")?;
    let store = &config.store.path;
    let made = into_folder(config, plan, by, now);
    if let Err(error) = &made
        && Problem::of(error) == &Problem::Busy
    {
        return made;
    }
    let before = results(store);
    let after = match &made {
        Ok(last) => Results {
            last: Some(last.clone()),
            fault: None,
        },
        Err(error) => Results {
            fault: Some(Problem::trouble(error, Stamp(now))),
            ..before
        },
    };
    write_results(store, &after).context("backup.json cannot be written")?;
    made
}

fn into_folder(
    config: &Config,
    plan: &BackupConfig,
    by: By,
    now: UnixMs,
) -> anyhow::Result<LastBackup> {
    let folder = &plan.folder;
    // Never made: where a share is not mounted the archive would land on the box's own disk.
    ensure!(folder.is_dir(), Problem::NoFolder(folder.clone()));
    let same_disk = fs::metadata(folder)?.dev() == fs::metadata(&config.store.path)?.dev();
    let prefix = format!("{}-", config.box_id);
    let suffix = match by {
        By::Plan => SUFFIX,
        By::Hand => SUFFIX_HAND,
    };
    let file = folder.join(format!("{prefix}{}{suffix}", file_time(now)));
    let Made {
        facts,
        files,
        bytes,
    } = make(config, &file, now)?;
    thin_out(folder, [&prefix, suffix], plan.keep)?;
    Ok(LastBackup {
        at: Stamp(now),
        file: file.display().to_string(),
        bytes,
        entries: facts.entries,
        files: files as u64,
        same_disk,
    })
}

/// `20261122-023010`, Vietnam time.
fn file_time(now: UnixMs) -> String {
    let text = now.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{}-{}", &digits[..8], &digits[8..])
}

/// Removes the oldest of this box's backups of one kind beyond `keep`; other files are left alone.
fn thin_out(folder: &Path, [prefix, suffix]: [&str; 2], keep: usize) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let time = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(suffix));
        let is_ours = time.is_some_and(|time| {
            time.len() == 15 && time.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        });
        if is_ours {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(names.len().saturating_sub(keep));
    names
        .iter()
        .try_for_each(|name| fs::remove_file(folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: u16 = 2 * 60 + 30;

    fn plan(folder: &Path) -> BackupConfig {
        BackupConfig {
            folder: folder.to_owned(),
            minute: NIGHT,
            keep: 2,
        }
    }

    fn at(text: &str) -> UnixMs {
        let timestamp: jiff::Timestamp = text.parse().unwrap();
        UnixMs(timestamp.as_millisecond())
    }

    fn made(text: &str) -> Results {
        Results {
            last: Some(LastBackup {
                at: Stamp(at(text)),
                file: String::new(),
                bytes: 0,
                entries: 0,
                files: 0,
                same_disk: false,
            }),
            fault: None,
        }
    }

    #[test]
    fn a_night_that_was_missed_is_made_up_for() {
        let plan = plan(Path::new("/x"));
        let now = at("2026-11-22T09:00:00+07:00");
        assert!(is_due(&plan, &Results::default(), now));
        assert!(!is_due(&plan, &made("2026-11-22T02:30:10+07:00"), now));
        assert!(is_due(&plan, &made("2026-11-21T02:30:10+07:00"), now));
        let early = at("2026-11-22T02:29:00+07:00");
        assert!(!is_due(&plan, &made("2026-11-21T02:30:10+07:00"), early));
        assert!(
            is_due(&plan, &made("2027-03-01T02:30:00+07:00"), now),
            "the clock was wrong when it was made"
        );
    }

    #[test]
    fn a_failed_one_is_tried_again_after_an_hour() {
        let plan = plan(Path::new("/x"));
        let mut results = made("2026-11-21T02:30:10+07:00");
        let failed = Stamp(at("2026-11-22T02:30:00+07:00"));
        results.fault = Some(Problem::trouble(&Problem::Busy.into(), failed));
        let due = |text| is_due(&plan, &results, at(text));
        assert!(!due("2026-11-22T03:29:00+07:00"));
        assert!(due("2026-11-22T03:30:00+07:00"));
        let next = |results: &Results, text| next_due(&plan, results, at(text));
        let retry = at("2026-11-22T03:30:00+07:00");
        assert_eq!(next(&results, "2026-11-22T03:00:00+07:00"), retry);
        assert_eq!(next(&results, "2026-11-22T03:30:00+07:00"), retry);
        let good = made("2026-11-22T02:30:10+07:00");
        assert_eq!(
            next(&good, "2026-11-22T09:00:00+07:00"),
            at("2026-11-23T02:30:00+07:00")
        );
    }

    #[test]
    fn only_the_boxs_own_old_backups_go() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "xa-a-20261120-023010.tar.zst",
            "xa-a-20261121-023010.tar.zst",
            "xa-a-20261122-023010.tar.zst",
            "xa-a-20261101-101500-tay.tar.zst",
            "xa-a-2-20261101-023010.tar.zst",
            "xa-a-truoc-khi-doi-may.tar.zst",
            "xa-a-20261119-023010.tar.zst.part",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        thin_out(folder.path(), ["xa-a-", SUFFIX], 2).unwrap();
        let oldest = folder.path().join("xa-a-20261120-023010.tar.zst");
        assert!(!oldest.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
        thin_out(folder.path(), ["xa-a-", SUFFIX_HAND], 1).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
        let name = file_time(at("2026-11-22T02:30:10+07:00"));
        assert_eq!(name, "20261122-023010");
    }
}
