//! The receiving end of attachments: the content of chunks goes into part files, each written at its
//! place and synced before the commit that gives the receipt.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::evidence::{GoneClaim, PublicKey, sha256};
use crate::model::chunk::{Chunk, ChunkEntry, Digest};
use crate::model::fault::{self, Fault};
use crate::model::{BoxId, Lane};
use crate::wire::{Batch, Cargo};

/// Where the content of chunks is put, one part for each sender and content.
pub trait Parts: Send {
    /// Writes a piece; false where what lies before it is not there.
    fn write(&mut self, sender: &BoxId, chunk: &Chunk, content: &[u8]) -> io::Result<bool>;
    /// Brings everything that was written to the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// Files that are open at the same time.
const OPEN_MAX: usize = 64;

/// Part files `<folder>/parts/<box>-<sha256>`.
#[derive(Debug)]
pub struct PartFiles {
    folder: PathBuf,
    open: BTreeMap<PathBuf, Open>,
    /// A file was made since the last sync.
    is_new: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    is_dirty: bool,
}

/// The part of a content that came from this sender.
pub fn part_path(folder: &Path, sender: &BoxId, blob: Digest) -> PathBuf {
    folder.join("parts").join(format!("{sender}-{blob}"))
}

/// The folder of attachments beside a store.
pub fn folder_beside(store: &Path) -> PathBuf {
    store.parent().unwrap_or(Path::new("")).join("blobs")
}

impl PartFiles {
    pub fn new(folder: PathBuf) -> PartFiles {
        PartFiles {
            folder,
            open: BTreeMap::new(),
            is_new: false,
        }
    }

    fn open(&mut self, path: &Path) -> io::Result<&mut Open> {
        if OPEN_MAX <= self.open.len() && !self.open.contains_key(path) {
            self.sync()?;
            self.open.clear();
        }
        if !self.open.contains_key(path) {
            let options = || {
                let mut options = OpenOptions::new();
                let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
                options.read(true).write(true).custom_flags(flags);
                options
            };
            let file = match options().open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.make_folders()?;
                    self.is_new = true;
                    options().create_new(true).mode(0o600).open(path)?
                }
                file => file?,
            };
            let open = Open {
                file,
                is_dirty: false,
            };
            self.open.insert(path.to_owned(), open);
        }
        Ok(self.open.get_mut(path).expect("opened above"))
    }

    fn make_folders(&self) -> io::Result<()> {
        let parts = self.folder.join("parts");
        if parts.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&parts)?;
        let above = self.folder.parent().filter(|at| !at.as_os_str().is_empty());
        for folder in [above.unwrap_or(Path::new(".")), &self.folder] {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Parts for PartFiles {
    fn write(&mut self, sender: &BoxId, chunk: &Chunk, content: &[u8]) -> io::Result<bool> {
        let path = part_path(&self.folder, sender, chunk.blob);
        let open = self.open(&path)?;
        // A file that was settled meanwhile has another name now, or none.
        let is_there = fs::symlink_metadata(&path).is_ok();
        if !is_there {
            self.open.remove(&path);
            return match chunk.at {
                0 => self.write(sender, chunk, content),
                _ => Ok(false),
            };
        }
        let length = open.file.metadata()?.len();
        if length < chunk.at {
            return Ok(false);
        }
        if chunk.bytes < length {
            open.file.set_len(chunk.at)?;
        }
        open.file.write_all_at(content, chunk.at)?;
        open.is_dirty = true;
        Ok(true)
    }

    fn sync(&mut self) -> io::Result<()> {
        if fault::is_planted(Fault::ContentUnsynced) {
            return Ok(());
        }
        for open in self.open.values_mut().filter(|open| open.is_dirty) {
            open.file.sync_data()?;
            open.is_dirty = false;
        }
        if self.is_new {
            File::open(self.folder.join("parts"))?.sync_all()?;
            self.is_new = false;
        }
        Ok(())
    }
}

/// A chunk of a batch that was checked, with what travelled beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub chunk: Chunk,
    /// None: the sender has said, and signed, that it is gone.
    pub content: Option<&'a [u8]>,
}

/// The chunk that the entry at this place of a batch of P4 is, if it is one.
pub(super) fn arrived<'a>(batch: &'a Batch, place: usize, entry: &[u8]) -> Option<Arrived<'a>> {
    if batch.offer.log.lane != Lane::P4 {
        return None;
    }
    let ChunkEntry { chunk, .. } = ChunkEntry::parse(entry)?;
    let content = match batch.cargo(place) {
        Some(Cargo::Content(content)) => Some(content.as_slice()),
        Some(Cargo::Gone(_)) | None => None,
    };
    Some(Arrived { chunk, content })
}

/// Whether every chunk of a batch has its content beside it, or the sender's signed word that it is
/// gone; `keys` are the sender's.
pub(super) fn check(batch: &Batch, box_id: &BoxId, keys: &[PublicKey]) -> Result<(), NotCarried> {
    for (place, entry) in batch.entries().enumerate() {
        let Some(Arrived { chunk, .. }) = arrived(batch, place, entry) else {
            continue;
        };
        let is_sound = match batch.cargo(place) {
            Some(Cargo::Content(content)) => {
                content.len() as u64 == chunk.length && sha256(content) == chunk.sha256.0
            }
            Some(Cargo::Gone(signature)) => {
                let gone = GoneClaim {
                    box_id,
                    lane: batch.offer.log.lane,
                    epoch: batch.offer.log.epoch,
                    seq: batch.offer.first.plus(place as u64),
                    blob: chunk.blob,
                };
                keys.iter().any(|key| key.verify(&gone, signature).is_ok())
            }
            None => false,
        };
        if !is_sound {
            return Err(NotCarried);
        }
    }
    Ok(())
}

/// A chunk's content is missing or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content of a chunk is missing or is another one")]
pub(super) struct NotCarried;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_at_their_place_and_none_without_those_before() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder_beside(&place.path().join("hub.db"));
        let sender: BoxId = "xa-a".parse().unwrap();
        let mut parts = PartFiles::new(folder.clone());
        assert!(
            !parts
                .write(&sender, &Chunk::sample(9, 3, 3), b"def")
                .unwrap()
        );
        assert!(
            parts
                .write(&sender, &Chunk::sample(9, 0, 3), b"abc")
                .unwrap()
        );
        assert!(
            parts
                .write(&sender, &Chunk::sample(9, 3, 3), b"def")
                .unwrap()
        );
        parts.sync().unwrap();
        let mut again = PartFiles::new(folder.clone());
        assert!(
            again
                .write(&sender, &Chunk::sample(9, 3, 3), b"DEF")
                .unwrap()
        );
        assert!(
            again
                .write(&sender, &Chunk::sample(9, 6, 3), b"ghi")
                .unwrap()
        );
        let path = part_path(&folder, &sender, Digest([7; 32]));
        assert_eq!(fs::read(&path).unwrap(), b"abcDEFghi");
        fs::rename(&path, place.path().join("settled")).unwrap();
        assert!(
            !again
                .write(&sender, &Chunk::sample(9, 6, 3), b"ghi")
                .unwrap()
        );
        assert!(
            again
                .write(&sender, &Chunk::sample(2, 0, 2), b"xy")
                .unwrap()
        );
        assert_eq!(fs::read(&path).unwrap(), b"xy");
    }
}
