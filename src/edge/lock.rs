//! One owner of a store: a lock file beside it, held by the kernel until the process ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::shell::replace::hand_over;

/// Held while this lives.
#[derive(Debug)]
pub struct StoreLock {
    _file: Flock<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("the store is in use by another process")]
    Held,
    #[error("cannot make {path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl StoreLock {
    pub fn take(store: &Path) -> Result<StoreLock, LockError> {
        let path = PathBuf::from(format!("{}.lock", store.display()));
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|error| LockError::Io {
            path: path.clone(),
            error,
        })?;
        hand_over(&file, store);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(StoreLock { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::Held),
            Err((_, errno)) => Err(LockError::Io {
                path,
                error: errno.into(),
            }),
        }
    }

    /// Whether somebody has it now.
    pub fn is_held(store: &Path) -> bool {
        let Ok(file) = File::open(format!("{}.lock", store.display())) else {
            return false;
        };
        let locked = Flock::lock(file, FlockArg::LockSharedNonblock);
        matches!(locked, Err((_, Errno::EWOULDBLOCK)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_one_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("tramd.db");
        let lock = StoreLock::take(&store).expect("free");
        assert!(matches!(StoreLock::take(&store), Err(LockError::Held)));
        drop(lock);
        StoreLock::take(&store).expect("free again");
        let nowhere = folder.path().join("none/tramd.db");
        assert!(matches!(
            StoreLock::take(&nowhere),
            Err(LockError::Io { .. })
        ));
    }
}
