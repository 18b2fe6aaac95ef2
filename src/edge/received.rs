//! Files that have come down with documents: `<store's folder>/received/<aa>/<sha256>`, and their parts
//! on the way. The engine of what comes down writes the parts; here what is whole is checked and gets
//! its name, what nobody needs goes, and what is missing is asked for.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use crate::edge::door::Door;
use crate::edge::inbox::Documents;
use crate::edge::reserve::disk_free_bytes;
use crate::engine::parts::{PartFiles, Parts, part_path};
use crate::evidence::Hasher;
use crate::model::chunk::{Chunk, Digest};
use crate::model::fault::{self, Fault};
use crate::model::order::{FILE_WANTED, say_applied};
use crate::model::{BoxId, UnixMs};
use crate::store::StoreError;
use crate::store::files::{FileRow, FileState};

const LOOK: Duration = Duration::from_secs(2);
/// Files that are checked, let go or asked for in one go.
const ROUND: usize = 16;
const PIECE_BYTES: usize = 256 * 1024;
/// A file that no document has named for so long goes.
const ORPHAN_MS: i64 = 7 * 86_400_000;
/// The disk keeps so much for the stores.
const DISK_FREE_BYTES_MIN: u64 = 64 << 20;

/// The folder of files that have come.
#[derive(Debug, Clone)]
pub struct Received {
    folder: PathBuf,
}

impl Received {
    /// The folder beside the store of what comes down.
    pub fn beside(store: &Path) -> Received {
        Received {
            folder: store.parent().unwrap_or(Path::new("")).join("received"),
        }
    }

    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    /// Where the engine puts what comes.
    pub fn parts(&self) -> Box<dyn Parts> {
        Box::new(Roomy {
            files: PartFiles::new(self.folder.clone()),
            folder: self.folder.clone(),
        })
    }

    fn remove(&self, digest: Digest, box_id: &BoxId) -> io::Result<()> {
        for path in [self.path(digest), part_path(&self.folder, box_id, digest)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Renames a part that was found sound, and syncs the folder.
    fn put(&self, part: &Path, digest: Digest) -> io::Result<()> {
        let path = self.path(digest);
        let folder = path.parent().expect("it lies in a folder");
        if !folder.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder)?;
            File::open(&self.folder)?.sync_all()?;
        }
        fs::rename(part, &path)?;
        File::open(folder)?.sync_all()
    }

    /// Everything that lies there, by its digest.
    fn all(&self) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        let folders = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            folders => folders?,
        };
        for folder in folders {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let name = file?.file_name().to_string_lossy().into_owned();
                let digest = name.rsplit('-').next().unwrap_or_default();
                found.extend(digest.parse::<Digest>());
            }
        }
        Ok(found)
    }
}

/// Part files that leave the disk room for the stores.
struct Roomy {
    files: PartFiles,
    folder: PathBuf,
}

impl Parts for Roomy {
    fn write(&mut self, sender: &BoxId, chunk: &Chunk, content: &[u8]) -> io::Result<bool> {
        let free = disk_free_bytes(&self.folder).unwrap_or(u64::MAX);
        if chunk.at == 0 && free < chunk.bytes.saturating_add(DISK_FREE_BYTES_MIN) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.files.write(sender, chunk, content)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.files.sync()
    }
}

/// Looks after the files.
pub struct Keeper {
    pub documents: Arc<Documents>,
    pub box_id: BoxId,
    /// All files together, bytes.
    pub bytes_max: u64,
    /// So long they stay after their documents are done.
    pub keep_ms: i64,
}

impl Keeper {
    /// Until told to stop.
    pub async fn run(self, door: Arc<Door>, mut stop: watch::Receiver<bool>) {
        let keeper = Arc::new(self);
        let mut is_first = true;
        let mut is_told = false;
        while !*stop.borrow() {
            let (worker, now) = (Arc::clone(&keeper), door.now().wall);
            let done = tokio::task::spawn_blocking(move || worker.round(now, is_first)).await;
            match done.expect("looking after files does not panic") {
                Ok(has_asked) => {
                    (is_first, is_told) = (false, false);
                    if has_asked {
                        door.steering().wake.notify_one();
                    }
                }
                Err(error) if !std::mem::replace(&mut is_told, true) => {
                    tracing::warn!(%error, "files that have come cannot be looked after; tried again");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.changed() => return,
            }
        }
    }

    /// One look at everything; true: the hub is to be asked for something.
    pub fn round(&self, now: UnixMs, is_first: bool) -> anyhow::Result<bool> {
        if !self.documents.store().exists() {
            return Ok(false);
        }
        if is_first {
            self.sweep()?;
        }
        self.settle(now)?;
        self.let_go(now)?;
        self.ask(now)
    }

    /// Removes what a crash has left of files that are not kept.
    fn sweep(&self) -> anyhow::Result<()> {
        let files = self.documents.files();
        for digest in files.all()? {
            let row = self.documents.with(|inbox| inbox.file(digest))?;
            let is_here = |row: FileRow| {
                use FileState::{Checking, Kept, Receiving};
                matches!(row.state, Kept | Checking | Receiving)
            };
            if !row.is_some_and(is_here) {
                files.remove(digest, &self.box_id)?;
            }
        }
        Ok(())
    }

    /// Checks what has come whole. After a crash at any point the same is done again.
    fn settle(&self, now: UnixMs) -> anyhow::Result<()> {
        let files = self.documents.files();
        for row in self.documents.with(|inbox| inbox.unchecked_files(ROUND))? {
            let digest = row.digest;
            let part = part_path(&files.folder, &self.box_id, digest);
            let state = if files.path(digest).is_file() {
                FileState::Kept
            } else if is_sound(&part, &row)? {
                files.put(&part, digest)?;
                FileState::Kept
            } else {
                tracing::warn!(%digest, "a file has not come as its digest says; it is asked for again");
                files.remove(digest, &self.box_id)?;
                FileState::Lost
            };
            self.documents
                .with(|inbox| inbox.settle_file(digest, state, now))?;
        }
        Ok(())
    }

    /// Files whose time is over go; where one has found no room, those of all done documents.
    fn let_go(&self, now: UnixMs) -> anyhow::Result<()> {
        let is_full = self.documents.with(|inbox| inbox.has_full_files())?;
        let done_before = match is_full {
            true => now,
            false => UnixMs(now.0.saturating_sub(self.keep_ms)),
        };
        let orphan_before = UnixMs(now.0 - ORPHAN_MS);
        let gone = self
            .documents
            .with(|inbox| inbox.remove_files(done_before, orphan_before, now, ROUND))?;
        for digest in gone {
            self.documents.files().remove(digest, &self.box_id)?;
        }
        if is_full {
            let free = disk_free_bytes(self.documents.store()).unwrap_or(u64::MAX);
            let free = free.saturating_sub(DISK_FREE_BYTES_MIN);
            let bytes_max = self.bytes_max;
            self.documents.with(|inbox| {
                let most = bytes_max.min(inbox.file_bytes()?.saturating_add(free));
                inbox.make_use_of_room(most, now)
            })?;
        }
        Ok(())
    }

    /// Asks the hub for what has not come for long, in the box's own log.
    fn ask(&self, now: UnixMs) -> anyhow::Result<bool> {
        let due = self
            .documents
            .with(|inbox| inbox.files_to_ask(now, ROUND))?;
        if due.is_empty() {
            return Ok(false);
        }
        let applied = self.documents.with(|inbox| inbox.chunks_applied())?;
        let applied = applied.map(|(epoch, applied)| say_applied(epoch, applied));
        for row in &due {
            let answer = json!({
                "thiet_bi": self.box_id,
                "loai": FILE_WANTED,
                "ma": row.digest,
                "ten": "gửi lại / send again",
                "trang_thai": "wanted",
                "thoi_diem": now.to_string(),
                "chi_tiet": applied.as_deref().unwrap_or_default(),
            });
            self.documents
                .with(|inbox| inbox.ask_for(row.digest, &answer.to_string(), now))?;
        }
        Ok(true)
    }
}

/// Whether a part is what its digest says.
fn is_sound(part: &Path, row: &FileRow) -> Result<bool, StoreError> {
    let hash = || -> io::Result<bool> {
        let mut file = File::open(part)?;
        if file.metadata()?.len() != row.bytes {
            return Ok(false);
        }
        let mut hasher = Hasher::default();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => {
                    let is_it = hasher.finish() == row.digest;
                    return Ok(is_it || fault::is_planted(Fault::FileNotCompared));
                }
                length => hasher.update(&piece[..length]),
            }
        }
    };
    match hash() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map_err(|error| StoreError::Content(error.to_string())),
    }
}
