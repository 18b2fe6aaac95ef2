//! Database files that survive their process: a crash leaves the file and its WAL as they lie, and
//! the next process opens a copy of exactly that. A power cut leaves of the WAL only what was synced.

use std::path::{Path, PathBuf};

/// The generations of one database.
pub struct Files {
    folder: PathBuf,
    name: String,
    generation: u32,
}

/// A copy that was set aside.
#[derive(Clone)]
pub struct Copied(PathBuf);

impl Files {
    pub fn new(folder: &Path, name: String) -> Self {
        Self {
            folder: folder.to_owned(),
            name,
            generation: 0,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder
            .join(format!("{}-{}.db", self.name, self.generation))
    }

    /// Sets a copy aside; no transaction may be open.
    pub fn copy_aside(&self, label: u64) -> Copied {
        let copied = Copied(self.folder.join(format!("{}-copy-{label}.db", self.name)));
        copy(&self.path(), &copied.0);
        copied
    }

    /// The process dies: what it left is moved to where the next one will open it. To be called
    /// while the database is still open, so that nothing is tidied up first.
    pub fn crash(&mut self) -> Crashed {
        let left = self.path();
        self.generation += 1;
        copy(&left, &self.path());
        Crashed(left)
    }

    /// Puts an older copy in the place of what is there; the database must be closed.
    pub fn put_back(&mut self, copied: &Copied) {
        remove(&self.path());
        copy(&copied.0, &self.path());
    }

    /// The file is gone; the database must be closed.
    pub fn remove(&self) {
        remove(&self.path());
    }
}

/// Up to where the WAL was on the disk when somebody asked.
#[derive(Clone, Copy)]
pub struct Synced {
    /// Names one filling of the WAL; it is filled anew after all of it was written back.
    salt: [u8; 8],
    frames: u32,
}

impl Files {
    /// Where the WAL stands; to be called right after a commit that reaches the disk.
    pub fn synced(&self) -> Option<Synced> {
        WalIndex::read(&self.path()).map(|index| Synced {
            salt: index.salt,
            frames: index.frames,
        })
    }

    /// The power goes: commits since `synced` that nothing has synced are gone.
    pub fn power_cut(&mut self, synced: Option<Synced>) -> Crashed {
        let index = WalIndex::read(&self.path());
        let crashed = self.crash();
        let wal = beside(&self.path(), "-wal");
        if let Some(index) = index
            && let Ok(file) = std::fs::OpenOptions::new().write(true).open(&wal)
        {
            let known = synced.filter(|synced| synced.salt == index.salt);
            // What was written back was synced before.
            let kept = known
                .map_or(0, |known| known.frames)
                .max(index.written_back);
            let bytes = 32 + u64::from(kept) * (24 + u64::from(index.page_bytes));
            file.set_len(bytes).expect("the WAL can be cut");
        }
        crashed
    }
}

/// The part of SQLite's wal-index that tells how far the WAL goes (sqlite.org/walformat.html).
struct WalIndex {
    page_bytes: u32,
    frames: u32,
    salt: [u8; 8],
    written_back: u32,
}

impl WalIndex {
    fn read(path: &Path) -> Option<WalIndex> {
        let bytes = std::fs::read(beside(path, "-shm")).ok()?;
        let number = |at: usize| {
            let four = bytes.get(at..at + 4)?;
            Some(u32::from_ne_bytes(four.try_into().expect("four bytes")))
        };
        let page = bytes.get(14..16)?;
        Some(WalIndex {
            page_bytes: u32::from(u16::from_ne_bytes(page.try_into().expect("two bytes"))),
            frames: number(16)?,
            salt: bytes.get(32..40)?.try_into().expect("eight bytes"),
            written_back: number(96)?,
        })
    }
}

/// What the dead process had open; to be dropped after it.
pub struct Crashed(PathBuf);

impl Drop for Crashed {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("the file can be copied");
    let wal = beside(from, "-wal");
    if wal.exists() {
        std::fs::copy(wal, beside(to, "-wal")).expect("the WAL can be copied");
    }
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let file = beside(path, suffix);
        if file.exists() {
            std::fs::remove_file(file).expect("the file can be removed");
        }
    }
}
