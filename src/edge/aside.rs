//! A store that is damaged is kept under another name, for whoever can read something out of it.

use std::path::{Path, PathBuf};

use crate::model::UnixMs;

/// Renames the files of the store; returns their new names.
pub fn set_aside(store: &Path, now: UnixMs) -> String {
    let named = |suffix: &str| PathBuf::from(format!("{}{suffix}", store.display()));
    let aside = format!(".damaged-{}", now.0 / 1_000);
    let mut kept = Vec::new();
    for suffix in ["", "-wal", "-shm"] {
        let from = named(suffix);
        let to = named(&format!("{aside}{suffix}"));
        match std::fs::rename(&from, &to) {
            Ok(()) => kept.push(to.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, file = %from.display(), "a damaged file cannot be set aside");
            }
        }
    }
    tracing::error!(
        files = kept.join(" "),
        "the damaged store was set aside, a new one begins"
    );
    kept.join(" ")
}
