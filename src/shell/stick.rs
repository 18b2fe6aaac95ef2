//! The folder of a box on a stick: `lienthong/<box>/`, with what goes to the hub (`up-<time>-<part>.lts`,
//! see `shell::sealed`) and what comes back (`receipts-<time>.ltr`).
//!
//! A file is written under another name (`.part`), synced, renamed, and its folder synced: whoever
//! finds a name without `.part` finds the whole file. A stick may come from anybody, so no link is
//! followed and no file is read beyond its limit.
//!
//! Receipts: `"LTRECV1\n"`, then for each its length (u32 BE) and bytes, then four zero bytes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::model::{BoxId, UnixMs};
use crate::shell::replace::hand_over;

/// The folder at the stick's top that holds a folder for each box.
pub const FOLDER: &str = "lienthong";
const UP: (&str, &str) = ("up-", ".lts");
const RECEIPTS: (&str, &str) = ("receipts-", ".ltr");
const PART: &str = ".part";
const RECEIPTS_MAGIC: &[u8; 8] = b"LTRECV1\n";
/// Five lanes under a few epochs make a few dozen receipts of some hundred bytes.
const RECEIPT_BYTES_MAX: usize = 64 * 1024;
const RECEIPTS_BYTES_MAX: u64 = 16 << 20;
/// Files of a kind that one folder may hold.
const FILES_MAX: usize = 10_000;
/// What is written is brought to the stick in pieces of this size, so that a stick that is pulled, full
/// or slow is noticed soon and memory is not filled.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StickError {
    #[error("there is no folder {0}")]
    NotThere(PathBuf),
    /// It has no folder for this box.
    #[error("the stick was not prepared for this box")]
    NotPrepared,
    #[error("the stick cannot be written to")]
    ReadOnly,
    #[error("the stick is full")]
    Full,
    /// FAT takes no file of 4 GiB.
    #[error("the stick's file system takes no file of this size")]
    TooLarge,
    /// Pulled, or worn out.
    #[error("the stick does not answer")]
    Gone,
    #[error("a file on the stick is damaged or of a newer program")]
    Damaged,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for StickError {
    fn from(error: io::Error) -> StickError {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => StickError::Full,
            Some(Errno::EROFS | Errno::EACCES | Errno::EPERM) => StickError::ReadOnly,
            Some(Errno::EFBIG) => StickError::TooLarge,
            Some(Errno::EIO | Errno::ENODEV | Errno::ENXIO | Errno::ENOMEDIUM) => StickError::Gone,
            _ => StickError::Io(error),
        }
    }
}

/// A box's folder on a stick.
#[derive(Debug, Clone)]
pub struct Stick {
    folder: PathBuf,
}

impl Stick {
    /// Makes the box's folder where it is not there yet. Made by root, it belongs to the owner of the
    /// store's folder, where the stick's file system knows owners.
    pub fn prepare(dir: &Path, box_id: &BoxId, store: &Path) -> Result<Stick, StickError> {
        if !dir.is_dir() {
            return Err(StickError::NotThere(dir.to_owned()));
        }
        let top = dir.join(FOLDER);
        let folder = top.join(box_id.as_str());
        for (above, folder) in [(dir, &top), (&top, &folder)] {
            match DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => {
                    hand_over(&File::open(folder)?, store);
                    File::open(above)?.sync_all()?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Stick::open(dir, box_id)
    }

    pub fn open(dir: &Path, box_id: &BoxId) -> Result<Stick, StickError> {
        if !dir.is_dir() {
            return Err(StickError::NotThere(dir.to_owned()));
        }
        let folder = dir.join(FOLDER).join(box_id.as_str());
        match is_own_folder(&dir.join(FOLDER))? && is_own_folder(&folder)? {
            true => Ok(Stick { folder }),
            false => Err(StickError::NotPrepared),
        }
    }

    /// The boxes that have a folder on a stick.
    pub fn boxes(dir: &Path) -> Result<Vec<BoxId>, StickError> {
        if !dir.is_dir() {
            return Err(StickError::NotThere(dir.to_owned()));
        }
        let top = dir.join(FOLDER);
        if !is_own_folder(&top)? {
            return Err(StickError::NotPrepared);
        }
        let mut boxes = Vec::new();
        for entry in fs::read_dir(&top)?.take(FILES_MAX) {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Ok(box_id) = entry.file_name().to_string_lossy().parse()
            {
                boxes.push(box_id);
            }
        }
        boxes.sort();
        Ok(boxes)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was written for the hub, the oldest first.
    pub fn up_files(&self) -> Result<Vec<PathBuf>, StickError> {
        self.files(UP)
    }

    /// What the hub has answered, the oldest first.
    pub fn receipt_files(&self) -> Result<Vec<PathBuf>, StickError> {
        self.files(RECEIPTS)
    }

    fn files(&self, (prefix, suffix): (&str, &str)) -> Result<Vec<PathBuf>, StickError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)?.take(FILES_MAX) {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_file() && name.starts_with(prefix) && name.ends_with(suffix) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes what an attempt has left that was broken off.
    pub fn clear(&self) -> Result<(), StickError> {
        for (prefix, suffix) in [UP, RECEIPTS] {
            for path in self.files((prefix, &format!("{suffix}{PART}")))? {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// A time for new files that none on the stick has.
    pub fn fresh_stamp(&self, now: UnixMs) -> Result<String, StickError> {
        let mut names = self.up_files()?;
        names.extend(self.receipt_files()?);
        let mut at = now;
        loop {
            let stamp = stamp(at);
            let is_taken = names.iter().any(|path| {
                let name = path.file_name().map(|name| name.to_string_lossy());
                name.is_some_and(|name| name.contains(&stamp))
            });
            if !is_taken {
                return Ok(stamp);
            }
            at = UnixMs(at.0 + 1_000);
        }
    }

    pub fn begin_up(&self, stamp: &str, part: usize) -> Result<Unfinished, StickError> {
        self.begin(&format!("{}{stamp}-{part:03}{}", UP.0, UP.1))
    }

    /// Writes a file of receipts; returns its path.
    pub fn put_receipts(
        &self,
        stamp: &str,
        receipts: &[impl AsRef<[u8]>],
    ) -> Result<PathBuf, StickError> {
        let mut file = self.begin(&format!("{}{stamp}{}", RECEIPTS.0, RECEIPTS.1))?;
        let mut bytes = RECEIPTS_MAGIC.to_vec();
        for receipt in receipts.iter().map(AsRef::as_ref) {
            let length = u32::try_from(receipt.len()).map_err(|_| StickError::TooLarge)?;
            bytes.extend(length.to_be_bytes());
            bytes.extend(receipt);
        }
        bytes.extend([0; 4]);
        file.write_all(&bytes)?;
        let mut placed = self.place(vec![file])?;
        Ok(placed.remove(0))
    }

    fn begin(&self, name: &str) -> Result<Unfinished, StickError> {
        let path = self.folder.join(format!("{name}{PART}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(&path)?;
        hand_over(&file, &path);
        Ok(Unfinished {
            file,
            path,
            target: Some(self.folder.join(name)),
            written: 0,
            synced: 0,
        })
    }

    /// Brings files to the stick and gives them their names, all of them or, after a fault, none.
    pub fn place(&self, mut files: Vec<Unfinished>) -> Result<Vec<PathBuf>, StickError> {
        for file in &files {
            file.file.sync_all()?;
        }
        let mut placed = Vec::new();
        for file in &mut files {
            let target = file.target.clone().expect("it is placed once");
            if let Err(error) = fs::rename(&file.path, &target) {
                for path in placed {
                    // What cannot be removed is whole and does no harm.
                    let _ = fs::remove_file(path);
                }
                return Err(error.into());
            }
            file.target = None;
            placed.push(target);
        }
        File::open(&self.folder)?.sync_all()?;
        Ok(placed)
    }

    /// Removes a file that has done its work.
    pub fn remove(&self, path: &Path) -> Result<(), StickError> {
        fs::remove_file(path)?;
        Ok(File::open(&self.folder)?.sync_all()?)
    }
}

/// A file on its way to the stick. Dropped before it is placed, nothing is left of it.
#[derive(Debug)]
pub struct Unfinished {
    file: File,
    path: PathBuf,
    /// None: it is placed.
    target: Option<PathBuf>,
    written: u64,
    synced: u64,
}

impl Unfinished {
    pub fn written(&self) -> u64 {
        self.written
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.synced + SYNC_EVERY_BYTES <= self.written {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.target.is_some() {
            // What is left on a stick that was pulled is removed the next time.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a file of the stick for reading, and no link.
pub fn open_file(path: &Path) -> Result<File, StickError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)?;
    Ok(file)
}

/// The receipts of a file, whole or not at all. Who signed them is for the reader to check.
pub fn read_receipts(path: &Path) -> Result<Vec<Vec<u8>>, StickError> {
    let mut bytes = Vec::new();
    let file = open_file(path)?;
    file.take(RECEIPTS_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    parse_receipts(&bytes).ok_or(StickError::Damaged)
}

fn parse_receipts(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = bytes.strip_prefix(RECEIPTS_MAGIC)?;
    let mut receipts = Vec::new();
    loop {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 {
            return behind.is_empty().then_some(receipts);
        }
        if RECEIPT_BYTES_MAX < length {
            return None;
        }
        let (receipt, behind) = behind.split_at_checked(length)?;
        receipts.push(receipt.to_vec());
        rest = behind;
    }
}

/// `20261122-083015`, Vietnam time.
fn stamp(at: UnixMs) -> String {
    let text = at.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{}-{}", &digits[..8], &digits[8..])
}

/// A folder itself, not a link to one.
fn is_own_folder(path: &Path) -> Result<bool, StickError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn box_id() -> BoxId {
        "xa-a".parse().unwrap()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_else_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Stick::open(dir.path(), &box_id()),
            Err(StickError::NotPrepared)
        ));
        let stick = Stick::prepare(dir.path(), &box_id(), dir.path()).unwrap();
        let stamp = stick.fresh_stamp(UnixMs(1_790_000_000_000)).unwrap();
        let mut file = stick.begin_up(&stamp, 1).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(stick.up_files().unwrap().len(), 0);
        drop(file);
        assert_eq!(fs::read_dir(stick.folder()).unwrap().count(), 0);

        let mut file = stick.begin_up(&stamp, 1).unwrap();
        file.write_all(b"whole").unwrap();
        stick.place(vec![file]).unwrap();
        let found = stick.up_files().unwrap();
        assert_eq!(fs::read(&found[0]).unwrap(), b"whole");
        assert_ne!(stick.fresh_stamp(UnixMs(1_790_000_000_000)).unwrap(), stamp);

        fs::write(stick.folder().join("up-1-001.lts.part"), "killed").unwrap();
        fs::write(stick.folder().join("thu-rieng.part"), "somebody's").unwrap();
        stick.clear().unwrap();
        assert_eq!(fs::read_dir(stick.folder()).unwrap().count(), 2);
        assert_eq!(Stick::boxes(dir.path()).unwrap(), [box_id()]);
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let link = dir.path().join(FOLDER).join("xa-a");
        std::os::unix::fs::symlink(elsewhere.path(), link).unwrap();
        assert!(matches!(
            Stick::prepare(dir.path(), &box_id(), dir.path()),
            Err(StickError::NotPrepared)
        ));
        assert_eq!(Stick::boxes(dir.path()).unwrap(), []);
    }

    #[test]
    fn receipts_are_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let stick = Stick::prepare(dir.path(), &box_id(), dir.path()).unwrap();
        let path = stick.put_receipts("1", &[b"mot", b"hai"]).unwrap();
        assert_eq!(read_receipts(&path).unwrap(), [b"mot", b"hai"]);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(parse_receipts(&bytes[..cut]), None, "cut at {cut}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(parse_receipts(&longer), None);
    }
}
