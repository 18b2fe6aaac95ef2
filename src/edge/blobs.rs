//! Attachments on the box's disk, named by what they hold: `<store's folder>/blobs/<aa>/<sha256>`.
//!
//! A file is here, whole and synced, before a record names it. It is written under another name and
//! then renamed, so that what has a digest for a name always has that digest. A second one with the
//! same content costs nothing. What no record names any more is removed: by name when the engine
//! says so, and by a look through the folder for what a crash has left.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use nix::fcntl::OFlag;

use crate::engine::content::Content;
use crate::engine::parts::folder_beside;
use crate::evidence::{Hasher, sha256};
use crate::model::UnixMs;
use crate::model::chunk::Digest;
use crate::shell::scan::{Scanner, Verdict};

/// What a name begins with until the file is whole.
const UNFINISHED: &str = "tmp-";
/// A file that comes piece by piece is brought to the disk so often, so that it does not pile up in
/// memory.
const SYNC_EVERY_BYTES: u64 = 4 * 1024 * 1024;
/// So many files that no record names yet are remembered.
const HELD_MAX: usize = 4096;

/// The folder of attachments.
#[derive(Debug)]
pub struct Blobs {
    folder: PathBuf,
    bytes_max: u64,
    scanner: Option<Scanner>,
    /// Bytes that are here or on their way; none before the folder was looked through.
    bytes: Mutex<Option<u64>>,
    held: Mutex<Held>,
    next: AtomicU64,
    /// Taken though the scanner did not answer, since the start.
    unscanned: AtomicU64,
}

/// What was put a short time ago, and may be named by a record any moment: of this hour and of the
/// one before it.
#[derive(Debug, Default)]
struct Held {
    now: BTreeSet<Digest>,
    before: BTreeSet<Digest>,
}

/// Why an attachment is not kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the attachments' limit of {bytes_max} bytes is reached")]
    Full { bytes_max: u64 },
    #[error("an attachment cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("the scanner has found something in an attachment")]
    Infected { name: String },
    #[error("the scanner cannot be asked: {0}")]
    NotScanned(io::Error),
    #[error("the content has another digest: {found}")]
    OtherDigest { found: Digest },
}

impl Blobs {
    /// The attachments that lie beside a store, of at most so many bytes together.
    pub fn beside(store: &Path, bytes_max: u64) -> Blobs {
        Blobs {
            folder: folder_beside(store),
            bytes_max,
            scanner: None,
            bytes: Mutex::new(None),
            held: Mutex::default(),
            next: AtomicU64::new(0),
            unscanned: AtomicU64::new(0),
        }
    }

    /// Every attachment is scanned before it is kept.
    #[must_use]
    pub fn scanned_by(mut self, scanner: Option<Scanner>) -> Blobs {
        self.scanner = scanner;
        self
    }

    /// Keeps an attachment; returns its SHA-256 in hexadecimal digits when it is synced.
    pub fn put(self: &Arc<Self>, content: &[u8]) -> Result<String, BlobError> {
        let digest = Digest(sha256(content));
        if self.is_here(digest, content.len() as u64)? {
            return Ok(digest.to_string());
        }
        let mut incoming = self.begin(content.len() as u64)?;
        incoming.write(content)?;
        incoming.finish(digest)?;
        Ok(digest.to_string())
    }

    /// Whether this content is here and synced. It then stays for a while though no record names it.
    pub fn is_here(&self, digest: Digest, bytes: u64) -> io::Result<bool> {
        self.hold(digest);
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() == bytes => {
                // Its name may not have reached the disk when it was put there.
                File::open(path.parent().expect("it lies in a folder"))?.sync_all()?;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many bytes the file of this name has, if there is one.
    pub fn length(&self, digest: Digest) -> Option<u64> {
        let found = fs::symlink_metadata(self.path(digest)).ok()?;
        found.is_file().then_some(found.len())
    }

    /// Begins to take in a content of at most so many bytes, for which room is held.
    pub fn begin(self: &Arc<Self>, bytes: u64) -> Result<Incoming, BlobError> {
        {
            let mut known = self.bytes.lock().expect("no holder panics");
            let before = match *known {
                Some(before) => before,
                None => look_through(&self.folder)?,
            };
            *known = Some(before);
            if self.bytes_max < before.saturating_add(bytes) {
                return Err(BlobError::Full {
                    bytes_max: self.bytes_max,
                });
            }
            *known = Some(before + bytes);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut incoming = Incoming {
            blobs: Arc::clone(self),
            path: self.folder.join(format!("{UNFINISHED}{number}")),
            file: None,
            hasher: Some(Hasher::default()),
            room_bytes: bytes,
            written: 0,
            synced: 0,
        };
        make_folder(&self.folder)?;
        incoming.file = Some(create(&incoming.path)?);
        Ok(incoming)
    }

    /// The content of an attachment, if it is here and is what its name says.
    pub fn get(&self, digest: &str) -> io::Result<Option<Vec<u8>>> {
        let Ok(digest) = digest.parse::<Digest>() else {
            return Ok(None);
        };
        let content = match fs::read(self.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content?,
        };
        Ok((sha256(&content) == digest.0).then_some(content))
    }

    /// Bytes of all attachments here.
    pub fn bytes(&self) -> io::Result<u64> {
        let mut bytes = self.bytes.lock().expect("no holder panics");
        match *bytes {
            Some(bytes) => Ok(bytes),
            None => Ok(*bytes.insert(look_through(&self.folder)?)),
        }
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// How many were taken though the scanner did not answer, since the last time this was asked.
    pub fn take_unscanned(&self) -> u64 {
        self.unscanned.swap(0, Ordering::Relaxed)
    }

    /// Removes what no record names any more, unless it was put again a short time ago. Called by
    /// the engine's thread, after the commit.
    pub fn remove(&self, digest: Digest) -> io::Result<()> {
        let held = self.held.lock().expect("no holder panics");
        if held.now.contains(&digest) || held.before.contains(&digest) {
            return Ok(());
        }
        let path = self.path(digest);
        let length = match fs::symlink_metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        fs::remove_file(&path)?;
        drop(held);
        self.give_back(length);
        Ok(())
    }

    /// An hour has passed: what was put before the last one is no longer held.
    pub fn an_hour_later(&self) {
        let mut held = self.held.lock().expect("no holder panics");
        held.before = std::mem::take(&mut held.now);
    }

    /// The files of one of the 256 sub-folders that have lain there since before `before`.
    pub fn older_than(&self, part: u8, before: UnixMs) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        let folder = self.folder.join(format!("{part:02x}"));
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        for file in entries {
            let file = file?;
            let Ok(digest) = file.file_name().to_string_lossy().parse::<Digest>() else {
                continue;
            };
            let changed = file.metadata()?.modified()?;
            let changed_ms = changed
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as i64);
            if changed_ms < before.0 {
                found.push(digest);
            }
        }
        Ok(found)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    fn hold(&self, digest: Digest) {
        let mut held = self.held.lock().expect("no holder panics");
        if HELD_MAX <= held.now.len() {
            held.before = std::mem::take(&mut held.now);
        }
        held.now.insert(digest);
    }

    fn give_back(&self, length: u64) {
        let mut bytes = self.bytes.lock().expect("no holder panics");
        if let Some(bytes) = bytes.as_mut() {
            *bytes = bytes.saturating_sub(length);
        }
    }
}

/// The engine reads chunks here.
#[derive(Debug, Clone)]
pub struct BlobContent(pub Arc<Blobs>);

impl Content for BlobContent {
    fn is_there(&self, blob: Digest, bytes: u64) -> bool {
        self.0.length(blob) == Some(bytes)
    }

    fn read(&self, blob: Digest, at: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.0.path(blob)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut content = vec![0; length];
        match file.read_exact_at(&mut content, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(Some(content)),
        }
    }
}

/// A content on its way in. Dropped before its end, nothing is left of it.
#[derive(Debug)]
pub struct Incoming {
    blobs: Arc<Blobs>,
    path: PathBuf,
    /// None when it was finished.
    file: Option<File>,
    hasher: Option<Hasher>,
    room_bytes: u64,
    written: u64,
    synced: u64,
}

impl Incoming {
    /// Adds a piece; blocks.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let length = self.written + piece.len() as u64;
        if self.room_bytes < length {
            return Err(BlobError::Full {
                bytes_max: self.room_bytes,
            });
        }
        let file = self.file.as_mut().expect("it is not finished");
        file.write_all(piece)?;
        self.hasher.as_mut().expect("as the file").update(piece);
        self.written = length;
        if self.synced + SYNC_EVERY_BYTES <= length {
            file.sync_data()?;
            self.synced = length;
        }
        Ok(())
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    /// Checks the digest, asks the scanner, and keeps the content under its name; blocks. False when
    /// it was here already.
    pub fn finish(mut self, digest: Digest) -> Result<bool, BlobError> {
        let found = self.hasher.take().expect("it is not finished").finish();
        if found != digest {
            return Err(BlobError::OtherDigest { found });
        }
        let blobs = Arc::clone(&self.blobs);
        let file = self.file.as_ref().expect("it is not finished");
        file.sync_all()?;
        self.scan()?;
        // From here on it may be named, and must not be removed.
        blobs.hold(digest);
        let path = blobs.path(digest);
        let folder = path.parent().expect("it lies in a folder");
        let before = blobs.length(digest);
        make_folder(folder)?;
        fs::rename(&self.path, &path)?;
        File::open(folder)?.sync_all()?;
        self.file = None;
        let unused = self.room_bytes - self.written;
        self.blobs.give_back(unused + before.unwrap_or(0));
        Ok(before != Some(self.written))
    }

    fn scan(&self) -> Result<(), BlobError> {
        let Some(scanner) = &self.blobs.scanner else {
            return Ok(());
        };
        match scanner.scan(&self.path) {
            Ok(Verdict::Clean) => Ok(()),
            Ok(Verdict::Found(name)) => Err(BlobError::Infected { name }),
            Err(error) if scanner.accepts_unscanned => {
                tracing::warn!(%error, "an attachment is taken though the scanner did not answer");
                self.blobs.unscanned.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(BlobError::NotScanned(error)),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            self.blobs.give_back(self.room_bytes);
            // What is left of it is removed at the next look through.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Counts what is here, and removes what a crash left unfinished.
fn look_through(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let is_unfinished = |file: &fs::DirEntry| {
        let name = file.file_name();
        name.to_string_lossy().starts_with(UNFINISHED)
    };
    let mut bytes = 0;
    for part in entries {
        let part = part?;
        if !part.file_type()?.is_dir() {
            if is_unfinished(&part) {
                fs::remove_file(part.path())?;
            }
            continue;
        }
        for file in fs::read_dir(part.path())? {
            let file = file?;
            match is_unfinished(&file) {
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

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_by_its_digest_and_counted_once() {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("box.db");
        let blobs = Arc::new(Blobs::beside(&store, 10));
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
        let digest = Arc::new(Blobs::beside(&store, 100)).put(b"whole").unwrap();
        let folder = place.path().join("blobs").join(&digest[..2]);
        fs::write(folder.join("tmp-half"), "ha").unwrap();
        fs::write(folder.join(&digest), "who").unwrap();
        let blobs = Arc::new(Blobs::beside(&store, 100));
        assert_eq!(blobs.get(&digest).unwrap(), None, "damaged");
        assert_eq!(blobs.put(b"whole").unwrap(), digest);
        assert_eq!(blobs.get(&digest).unwrap().as_deref(), Some(&b"whole"[..]));
        assert!(!folder.join("tmp-half").exists());
    }

    #[test]
    fn a_content_that_comes_in_pieces_takes_room_only_while_it_comes() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::beside(&place.path().join("box.db"), 10));
        let digest = Digest(sha256(b"12345"));
        let mut incoming = blobs.begin(6).unwrap();
        assert!(matches!(blobs.begin(5), Err(BlobError::Full { .. })));
        incoming.write(b"123").unwrap();
        incoming.write(b"45").unwrap();
        assert!(incoming.finish(digest).unwrap(), "new");
        assert_eq!(blobs.bytes().unwrap(), 5);
        let mut wrong = blobs.begin(5).unwrap();
        wrong.write(b"abc").unwrap();
        let error = wrong.finish(digest).unwrap_err();
        assert!(matches!(error, BlobError::OtherDigest { .. }), "{error}");
        drop(blobs.begin(5).unwrap());
        assert_eq!(blobs.bytes().unwrap(), 5);
        let left = fs::read_dir(place.path().join("blobs")).unwrap().count();
        assert_eq!(left, 1, "only the sub-folder");
    }

    #[test]
    fn what_was_put_lately_is_not_removed() {
        let place = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::beside(&place.path().join("box.db"), 100));
        let digest: Digest = blobs.put(b"one").unwrap().parse().unwrap();
        blobs.remove(digest).unwrap();
        blobs.an_hour_later();
        blobs.remove(digest).unwrap();
        assert_eq!(blobs.length(digest), Some(3));
        let old = blobs.older_than(digest.0[0], UnixMs(i64::MAX)).unwrap();
        assert_eq!(old, [digest]);
        let old = blobs.older_than(digest.0[0], UnixMs(0)).unwrap();
        assert!(old.is_empty());
        blobs.an_hour_later();
        blobs.remove(digest).unwrap();
        assert_eq!((blobs.length(digest), blobs.bytes().unwrap()), (None, 0));
    }

    #[test]
    fn what_the_scanner_finds_is_not_kept() {
        use crate::shell::scan::ScannerKind;
        let place = tempfile::tempdir().unwrap();
        let scanner = |script: &str, accepts_unscanned| Scanner {
            kind: ScannerKind::Command(["/bin/sh", "-c", script, "scan"].map(str::to_owned).into()),
            timeout_ms: 10_000,
            accepts_unscanned,
        };
        let store = place.path().join("box.db");
        let with = |scanner| Arc::new(Blobs::beside(&store, 100).scanned_by(Some(scanner)));
        let found = with(scanner("! grep -q bad \"$1\"", true));
        assert!(matches!(found.put(b"bad"), Err(BlobError::Infected { .. })));
        found.put(b"good").unwrap();
        let broken = with(scanner("exit 3", false)).put(b"new");
        assert!(matches!(broken, Err(BlobError::NotScanned(_))));
        let lenient = with(scanner("exit 3", true));
        lenient.put(b"new").unwrap();
        assert_eq!(lenient.take_unscanned(), 1);
    }
}
