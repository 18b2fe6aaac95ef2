//! How the last stick went: `<store's folder>/stick.json`, read by the status, also while the daemon is
//! down.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::edge::lock::StoreLock;
use crate::edge::status::{Stamp, Trouble};
use crate::shell::replace::hand_over;

/// The last stick, and what was done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickStatus {
    pub state: StickState,
    /// When it came into this state.
    pub at: Stamp,
    /// What was written for the hub; while it is being written, so far.
    #[serde(default)]
    pub exported: Option<Exported>,
    /// What receipts it brought.
    #[serde(default)]
    pub imported: Option<Imported>,
    #[serde(default)]
    pub fault: Option<Trouble>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StickState {
    /// It must not be pulled.
    Writing,
    /// It may be pulled.
    Ready,
    Failed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    pub files: u64,
    pub entries: u64,
    pub bytes: u64,
    /// Of attachments that could not be written this time, because the store has no room to list them.
    #[serde(default)]
    pub left_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    pub files: u64,
    /// Entries that waited and have their receipt now.
    pub entries: u64,
}

/// What is locked while a stick is used.
pub(super) fn lock_path(store: &Path) -> PathBuf {
    store.with_file_name("stick")
}

/// Whether a stick is written or read now.
pub fn is_in_use(store: &Path) -> bool {
    StoreLock::is_held(&lock_path(store))
}

/// How the last stick went; none where there was none.
pub fn read(store: &Path) -> Option<StickStatus> {
    let text = fs::read(path(store)).ok()?;
    let status: StickStatus = serde_json::from_slice(&text).ok()?;
    if status.state == StickState::Writing && !is_in_use(store) {
        // Whoever wrote it has ended without a word.
        let trouble = Fault::interrupted().trouble(status.at.0);
        return Some(StickStatus {
            state: StickState::Failed,
            fault: Some(trouble),
            ..status
        });
    }
    Some(status)
}

pub(super) fn write(store: &Path, status: &StickStatus) -> io::Result<()> {
    let path = path(store);
    let part = path.with_extension("json.part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    hand_over(&file, store);
    file.write_all(&serde_json::to_vec(status)?)?;
    file.sync_all()?;
    fs::rename(&part, &path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn path(store: &Path) -> PathBuf {
    store.with_file_name("stick.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMs;

    #[test]
    fn who_was_killed_while_writing_is_told_as_broken_off() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("tramd.db");
        assert_eq!(read(&store), None);
        let writing = StickStatus {
            state: StickState::Writing,
            at: Stamp(UnixMs(1_790_000_000_000)),
            exported: Some(Exported::default()),
            imported: None,
            fault: None,
        };
        write(&store, &writing).unwrap();
        let lock = StoreLock::take(&lock_path(&store)).unwrap();
        assert_eq!(read(&store).unwrap(), writing);
        drop(lock);
        let read = read(&store).unwrap();
        assert_eq!(read.state, StickState::Failed);
        assert_eq!(read.fault.unwrap().code, "stick-interrupted");
    }
}
