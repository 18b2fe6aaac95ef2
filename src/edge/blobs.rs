//! Attachments on the box's disk, named by what they hold: `<store's folder>/blobs/<aa>/<sha256>`.
//!
//! A file is here, whole and synced, before a record names it. It is written under another name and
//! then renamed, so that what has a digest for a name always has that digest. A second one with the
//! same content costs nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::fcntl::OFlag;

use crate::evidence::sha256;

/// What a name begins with until the file is whole.
const UNFINISHED: &str = "tmp-";

/// The folder of attachments.
#[derive(Debug)]
pub struct Blobs {
    folder: PathBuf,
    bytes_max: u64,
    /// Bytes that are here; none before the folder was looked through.
    bytes: Mutex<Option<u64>>,
}

/// Why an attachment is not kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the attachments' limit of {bytes_max} bytes is reached")]
    Full { bytes_max: u64 },
    #[error("an attachment cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl Blobs {
    /// The attachments that lie beside a store, of at most so many bytes together.
    pub fn beside(store: &Path, bytes_max: u64) -> Blobs {
        let folder = store.parent().unwrap_or(Path::new("")).join("blobs");
        Blobs {
            folder,
            bytes_max,
            bytes: Mutex::new(None),
        }
    }

    /// Keeps an attachment; returns its SHA-256 in hexadecimal digits when it is synced.
    pub fn put(&self, content: &[u8]) -> Result<String, BlobError> {
        let digest: String = sha256(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = self.folder.join(&digest[..2]);
        let path = folder.join(&digest);
        let mut bytes = self.bytes.lock().expect("no holder panics");
        let before = match *bytes {
            Some(bytes) => bytes,
            None => *bytes.insert(look_through(&self.folder)?),
        };
        let length = content.len() as u64;
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() == length => {
                // Its name may not have reached the disk when it was put there.
                File::open(&folder)?.sync_all()?;
                return Ok(digest);
            }
            Ok(_) => fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if self.bytes_max < before.saturating_add(length) {
            return Err(BlobError::Full {
                bytes_max: self.bytes_max,
            });
        }
        make_folder(&self.folder)?;
        make_folder(&folder)?;
        let unfinished = folder.join(format!("{UNFINISHED}{digest}"));
        let written = write_synced(&unfinished, content)
            .and_then(|()| fs::rename(&unfinished, &path))
            .and_then(|()| File::open(&folder)?.sync_all());
        if let Err(error) = written {
            // What is left of it is removed at the next look through.
            let _ = fs::remove_file(&unfinished);
            return Err(error.into());
        }
        *bytes = Some(before + length);
        Ok(digest)
    }

    /// The content of an attachment, if it is here and is what its name says.
    pub fn get(&self, digest: &str) -> io::Result<Option<Vec<u8>>> {
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return Ok(None);
        }
        let content = match fs::read(self.folder.join(&digest[..2]).join(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content?,
        };
        let found: String = sha256(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok((found == digest).then_some(content))
    }

    /// Bytes of all attachments here.
    pub fn bytes(&self) -> io::Result<u64> {
        let mut bytes = self.bytes.lock().expect("no holder panics");
        match *bytes {
            Some(bytes) => Ok(bytes),
            None => Ok(*bytes.insert(look_through(&self.folder)?)),
        }
    }
}

/// Counts what is here, and removes what a crash left unfinished.
fn look_through(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for part in entries {
        let part = part?;
        if !part.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(part.path())? {
            let file = file?;
            match file.file_name().to_string_lossy().starts_with(UNFINISHED) {
                true => fs::remove_file(file.path())?,
                false => bytes += file.metadata()?.len(),
            }
        }
    }
    Ok(bytes)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => match folder.parent() {
            Some(above) if !above.as_os_str().is_empty() => File::open(above)?.sync_all(),
            _ => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_by_its_digest_and_counted_once() {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("box.db");
        let blobs = Blobs::beside(&store, 10);
        let digest = blobs.put(b"12345").unwrap();
        assert_eq!(blobs.put(b"12345").unwrap(), digest);
        assert_eq!(blobs.bytes().unwrap(), 5);
        assert!(
            place
                .path()
                .join("blobs")
                .join(&digest[..2])
                .join(&digest)
                .is_file()
        );
        assert_eq!(blobs.get(&digest).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(blobs.get("../../etc/passwd").unwrap(), None);
        let full = blobs.put(b"123456").unwrap_err();
        assert!(matches!(full, BlobError::Full { bytes_max: 10 }), "{full}");
        blobs.put(b"54321").unwrap();
        assert_eq!(Blobs::beside(&store, 10).bytes().unwrap(), 10);
    }

    #[test]
    fn what_a_crash_left_is_removed_and_what_is_damaged_is_written_anew() {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("box.db");
        let digest = Blobs::beside(&store, 100).put(b"whole").unwrap();
        let folder = place.path().join("blobs").join(&digest[..2]);
        fs::write(folder.join("tmp-half"), "ha").unwrap();
        fs::write(folder.join(&digest), "who").unwrap();
        let blobs = Blobs::beside(&store, 100);
        assert_eq!(blobs.get(&digest).unwrap(), None, "damaged");
        assert_eq!(blobs.put(b"whole").unwrap(), digest);
        assert_eq!(blobs.get(&digest).unwrap().as_deref(), Some(&b"whole"[..]));
        assert!(!folder.join("tmp-half").exists());
    }
}
