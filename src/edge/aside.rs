//! A store that is damaged or replaced is kept under another name, for whoever can read something out
//! of it.

use std::path::{Path, PathBuf};

use crate::model::UnixMs;

/// Renames the files of the store; returns their new names, which say `why`.
pub fn set_aside(store: &Path, why: &str, now: UnixMs) -> String {
    let named = |suffix: &str| PathBuf::from(format!("{}{suffix}", store.display()));
    let aside = format!(".{why}-{}", now.0 / 1_000);
    let mut kept = Vec::new();
    for suffix in ["", "-wal", "-shm"] {
        let from = named(suffix);
        let to = named(&format!("{aside}{suffix}"));
        match std::fs::rename(&from, &to) {
            Ok(()) => kept.push(to.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, file = %from.display(), "a file of the store cannot be set aside");
            }
        }
    }
    kept.join(" ")
}
