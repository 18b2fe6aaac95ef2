//! Attachments in a world: what lies on a machine's disk, files that arrive at the hub or at a box and
//! lose with the power what was not synced, and what the checkers hold to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lienthong::engine::content::Content;
use lienthong::engine::parts::{PartFiles, Parts, part_path};
use lienthong::model::BoxId;
use lienthong::model::chunk::{Chunk, ChunkEntry, Digest};
use lienthong::model::fault::{self, Fault};
use lienthong::model::limits::CHUNK_BYTES_MAX;

use crate::check::{
    Checked, Checker, INVENTED, LOST, RECEIPTS, Timeline, box_name, sha256, violated,
};
use crate::dice::Dice;
use crate::eyes::HubEye;

/// A file that was put so short a time ago is not removed.
const HELD_MS: u64 = 60_000;

/// A content, and when it was put.
type Put = (Vec<u8>, u64);

/// Contents on a machine, which outlive its processes.
#[derive(Clone, Default)]
pub struct Contents(Arc<Mutex<BTreeMap<Digest, Put>>>);

impl Contents {
    pub fn put(&self, content: &[u8], now_ms: u64) {
        let mut held = self.0.lock().expect("one thread");
        held.insert(digest(content), (content.to_vec(), now_ms));
    }

    /// What the engine says that nobody needs any more.
    pub fn remove(&self, file: Digest, now_ms: u64) {
        let mut held = self.0.lock().expect("one thread");
        if held
            .get(&file)
            .is_some_and(|(_, put_ms)| put_ms + HELD_MS < now_ms)
        {
            held.remove(&file);
        }
    }

    pub fn has(&self, file: Digest) -> bool {
        self.0.lock().expect("one thread").contains_key(&file)
    }

    /// The disk of a clone.
    pub fn copied(&self) -> Contents {
        Contents(Arc::new(Mutex::new(
            self.0.lock().expect("one thread").clone(),
        )))
    }
}

impl Content for Contents {
    fn is_there(&self, blob: Digest, bytes: u64) -> bool {
        let held = self.0.lock().expect("one thread");
        held.get(&blob)
            .is_some_and(|(content, _)| content.len() as u64 == bytes)
    }

    fn read(&self, blob: Digest, at: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let held = self.0.lock().expect("one thread");
        let piece = held.get(&blob).and_then(|(content, _)| {
            let at = at as usize;
            content.get(at..at + length)
        });
        Ok(piece.map(<[u8]>::to_vec))
    }
}

pub fn digest(content: &[u8]) -> Digest {
    Digest(sha256([content, &[]]))
}

/// A content of which no other is the same: mostly small, one in `large_of` of several pieces.
pub fn content(uid: u64, large_of: u64, dice: &mut Dice) -> Vec<u8> {
    let bytes = match dice.below(large_of) {
        0 => CHUNK_BYTES_MAX as u64 + dice.below(2 * CHUNK_BYTES_MAX as u64),
        _ => dice.below(3_000),
    };
    let mut content = uid.to_be_bytes().to_vec();
    while (content.len() as u64) < bytes {
        content.extend_from_slice(&dice.roll().to_be_bytes());
    }
    content
}

// === Where files arrive ===

/// What is on the disk of each part file that was written since.
#[derive(Default)]
struct Written {
    synced: BTreeMap<PathBuf, Vec<u8>>,
    dirty: BTreeSet<PathBuf>,
    is_full: bool,
}

/// A disk where files arrive, the hub's or a box's, and what of them outlives a power cut.
#[derive(Clone)]
pub struct Disk {
    folder: PathBuf,
    written: Arc<Mutex<Written>>,
}

impl Disk {
    pub fn new(folder: PathBuf) -> Disk {
        Disk {
            folder,
            written: Arc::default(),
        }
    }

    /// For a process that begins.
    pub fn open(&self) -> Box<dyn Parts> {
        Box::new(Watched {
            files: PartFiles::new(self.folder.clone()),
            of: self.clone(),
        })
    }

    /// The power goes.
    pub fn lose(&self) {
        let mut written = self.written.lock().expect("one thread");
        for part in std::mem::take(&mut written.dirty) {
            let name = part.file_name().expect("a part file").to_string_lossy();
            let kept = kept_in(&self.folder, name.rsplit('-').next().expect("a digest"));
            let Some(path) = [part.clone(), kept].into_iter().find(|path| path.exists()) else {
                continue;
            };
            match written.synced.get(&part) {
                Some(bytes) => fs::write(&path, bytes).expect("written back"),
                None => fs::remove_file(&path).expect("it is there"),
            }
        }
    }

    /// New files find no room from now on, or find it again.
    pub fn set_full(&self, is_full: bool) {
        self.written.lock().expect("one thread").is_full = is_full;
    }

    /// The part that came from an office, or what became of it.
    pub fn read(&self, office: usize, file: Digest) -> Option<Vec<u8>> {
        let sender = box_name(office).parse().expect("valid");
        let part = fs::read(part_path(&self.folder, &sender, file));
        part.ok().or_else(|| self.read_kept(file))
    }

    pub fn read_kept(&self, file: Digest) -> Option<Vec<u8>> {
        fs::read(kept_in(&self.folder, &file.to_string())).ok()
    }

    /// A byte of a part that has come is another one.
    pub fn harm(&self, office: usize, file: Digest) {
        let sender = box_name(office).parse().expect("valid");
        let path = part_path(&self.folder, &sender, file);
        if let Ok(mut content) = fs::read(&path)
            && let Some(last) = content.last_mut()
        {
            *last ^= 1;
            fs::write(&path, content).expect("written");
        }
    }
}

fn kept_in(folder: &Path, digest: &str) -> PathBuf {
    folder.join(&digest[..2]).join(digest)
}

struct Watched {
    files: PartFiles,
    of: Disk,
}

impl Parts for Watched {
    fn write(&mut self, sender: &BoxId, chunk: &Chunk, content: &[u8]) -> io::Result<bool> {
        let path = part_path(&self.of.folder, sender, chunk.blob);
        let mut written = self.of.written.lock().expect("one thread");
        if chunk.at == 0 && written.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if !path.exists() {
            written.synced.remove(&path);
        }
        let is_written = self.files.write(sender, chunk, content)?;
        if is_written {
            written.dirty.insert(path);
        }
        Ok(is_written)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.files.sync()?;
        if fault::is_planted(Fault::ContentUnsynced) {
            return Ok(()); // It has synced nothing.
        }
        let mut written = self.of.written.lock().expect("one thread");
        for path in std::mem::take(&mut written.dirty) {
            let bytes = fs::read(&path)?;
            written.synced.insert(path, bytes);
        }
        Ok(())
    }
}

// === What is held to ===

impl Checker {
    /// The entry of a piece: of a file that was handed in, and exactly that piece of it.
    pub fn check_chunk(&self, office: usize, entry: &[u8]) -> Checked {
        let Some(ChunkEntry { chunk, .. }) = ChunkEntry::parse(entry) else {
            return violated(
                INVENTED,
                "an entry that is neither a record nor a piece".into(),
            );
        };
        let Some(content) = self.contents.get(&chunk.blob) else {
            return violated(
                INVENTED,
                format!("a piece of {} that nobody has put", chunk.blob),
            );
        };
        let piece = content.get(chunk.at as usize..chunk.end() as usize);
        let is_it = piece.is_some_and(|piece| digest(piece) == chunk.sha256);
        // A store that was set back may want a file again that was removed.
        let is_gone = chunk.sha256 == Digest([0; 32]) && self.has_branches(office);
        match chunk.bytes == content.len() as u64 && (is_it || is_gone) {
            true => Ok(()),
            false => violated(INVENTED, format!("another piece of {}", chunk.blob)),
        }
    }

    /// A box's store was set back or cloned, or the hub's was.
    pub fn has_branches(&self, office: usize) -> bool {
        let lines = self.timelines.iter().filter(|line| line.office == office);
        self.hub_set_back || 1 < lines.count()
    }

    /// What the hub's database counts as received is on its disk.
    pub fn check_parts(&self, eye: &HubEye, parts: &Disk) -> Checked {
        for part in eye.blob_parts() {
            let found = parts.read(part.office, part.digest).unwrap_or_default();
            let content = &self.contents[&part.digest];
            let received = part.received as usize;
            if found.get(..received) != content.get(..received) {
                let what = format!(
                    "office {}: {received} bytes of {} are counted and not on the disk",
                    part.office, part.digest
                );
                return violated(RECEIPTS, what);
            }
        }
        Ok(())
    }

    /// Every file that an accepted record names is whole at the hub. Where there are several
    /// histories it may have been given up by one of them, and is still on the box.
    pub fn check_files(&self, line: &Timeline, contents: &Contents, parts: &Disk) -> Checked {
        for uid in &line.uids {
            let Some(file) = self.handed[uid].file else {
                continue;
            };
            let found = parts.read(line.office, file);
            let is_whole = found.as_deref() == self.contents.get(&file).map(Vec::as_slice);
            let is_excused = self.has_branches(line.office) && contents.has(file);
            if !is_whole && !is_excused {
                let what = format!(
                    "office {}: the file of record {uid} is not whole",
                    line.office
                );
                return violated(LOST, what);
            }
        }
        Ok(())
    }
}
