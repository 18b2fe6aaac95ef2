//! Disk space that is held back, so that a full disk is always left again.
//!
//! SQLite needs room even to delete. A file of zeros beside the store takes that room while there
//! is plenty; when the disk is full it is removed, deletes and checkpoints work again, and it is
//! made anew once the disk has room for it and for the next checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

use crate::shell::replace::hand_over;

/// The largest that the write-ahead log grows to, with room to spare: a checkpoint may need as much
/// while the log still lies beside it. A smaller reserve would be of no use.
pub const RESERVE_BYTES_MIN: u64 = 12 * 1024 * 1024;

#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub fn beside(store: &Path, bytes: u64) -> Reserve {
        let path = PathBuf::from(format!("{}.reserve", store.display()));
        Reserve { path, bytes }
    }

    /// Whether the space is held back.
    pub fn is_there(&self) -> bool {
        self.bytes == 0 || fs::metadata(&self.path).is_ok_and(|facts| facts.len() == self.bytes)
    }

    /// Takes the space, if the disk has room; says whether it is held now.
    pub fn take(&self) -> io::Result<bool> {
        if self.is_there() {
            return Ok(true);
        }
        if disk_free_bytes(&self.path)? < self.bytes + RESERVE_BYTES_MIN / 2 {
            return Ok(false);
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        hand_over(&file, &self.path);
        let bytes = i64::try_from(self.bytes).expect("the configuration bounds it");
        let taken = posix_fallocate(&file, 0, bytes).map_err(io::Error::from);
        if let Err(error) = taken.and_then(|()| File::sync_all(&file)) {
            drop(file);
            self.release()?;
            return Err(error);
        }
        Ok(true)
    }

    /// Gives the space back; says whether there was any.
    pub fn release(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Bytes that are free for everybody on the file system that holds `path`, or would hold it.
pub fn disk_free_bytes(path: &Path) -> io::Result<u64> {
    let facts = statvfs(path).or_else(|_| statvfs(path.parent().unwrap_or(Path::new("."))))?;
    Ok(facts.blocks_available() as u64 * facts.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_really_taken_and_given_back() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("tramd.db");
        let reserve = Reserve::beside(&store, 1 << 20);
        assert!(!reserve.is_there());
        assert!(reserve.take().expect("taken"));
        let facts = fs::metadata(folder.path().join("tramd.db.reserve")).expect("there");
        assert!(facts.blocks() * 512 >= 1 << 20, "{} blocks", facts.blocks());
        assert!(reserve.take().expect("held already"));
        assert!(reserve.release().expect("given back"));
        assert!(!reserve.release().expect("nothing to give back"));
        let greedy = Reserve::beside(&store, 1 << 50);
        assert!(!greedy.take().expect("no room is no error"));
        assert!(Reserve::beside(&store, 0).take().expect("nothing to take"));
    }
}
