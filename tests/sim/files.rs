//! Database files that survive their process: a crash leaves the file and its WAL as they lie, and
//! the next process opens a copy of exactly that.

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
