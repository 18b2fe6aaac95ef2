//! Attachments that have come whole: each is hashed, scanned where a scanner is configured, and gets
//! its final name; what is not what its digest says goes into quarantine. A thread of its own does
//! this, so that no box waits for it.
//!
//! Beside the database lie `blobs/<aa>/<sha256>` (kept), `blobs/parts/` (on their way) and
//! `blobs/quarantine/<sha256>-<box>`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::engine::content::Content;
use crate::engine::parts::{folder_beside, part_path};
use crate::evidence::Hasher;
use crate::model::chunk::Digest;
use crate::shell::clock::Clock;
use crate::shell::scan::{Scanner, Verdict};
use crate::store::hub::HubStore;
use crate::store::hub::blobs::{BlobState, Unchecked};
use crate::store::{Options, StoreError};

/// How often it is looked whether something has come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Contents that are checked before it is looked whether to stop.
const ROUND: usize = 16;
const PIECE_BYTES: usize = 256 * 1024;

/// Checks what has come whole, in the thread that runs it.
pub struct Settler {
    pub store: PathBuf,
    pub options: Options,
    pub scanner: Option<Scanner>,
    pub clock: Clock,
}

/// Where the content with this digest lies when it is kept.
pub fn kept_path(store: &Path, digest: Digest) -> PathBuf {
    let name = digest.to_string();
    folder_beside(store).join(&name[..2]).join(name)
}

/// The kept attachments, from which the engine reads what goes down.
#[derive(Debug)]
pub struct KeptContent {
    pub store: PathBuf,
}

impl Content for KeptContent {
    fn is_there(&self, blob: Digest, bytes: u64) -> bool {
        fs::metadata(kept_path(&self.store, blob)).is_ok_and(|found| found.len() == bytes)
    }

    /// One file that the disk does not give stops no box: it is told as gone.
    fn read(&self, blob: Digest, at: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let read = || {
            let mut content = vec![0; length];
            File::open(kept_path(&self.store, blob))?.read_exact_at(&mut content, at)?;
            Ok::<_, io::Error>(content)
        };
        match read() {
            Ok(content) => Ok(Some(content)),
            Err(error) => {
                tracing::error!(digest = %blob, %error, "a kept attachment cannot be read");
                Ok(None)
            }
        }
    }
}

fn quarantine_path(store: &Path, unchecked: &Unchecked) -> PathBuf {
    folder_beside(store)
        .join("quarantine")
        .join(format!("{}-{}", unchecked.digest, unchecked.box_id))
}

impl Settler {
    /// Works until the other end of `stop` is dropped.
    pub fn run(self, stop: &Receiver<()>) {
        let mut is_told = false;
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(LOOK_EVERY) {
            match self.settle_all(stop) {
                Ok(()) => is_told = false,
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::error!(%error, "attachments cannot be checked; it is tried again");
                    }
                }
            }
        }
    }

    /// Checks everything that has come whole by now.
    pub fn settle_all(&self, stop: &Receiver<()>) -> anyhow::Result<()> {
        let mut store = HubStore::open(&self.store, self.options)?;
        loop {
            let round = store.unchecked_blobs(ROUND)?;
            if round.is_empty() || stop.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                return Ok(());
            }
            for unchecked in round {
                self.settle(&mut store, &unchecked)?;
            }
        }
    }

    /// After a crash at any point the same is done again.
    fn settle(&self, store: &mut HubStore, unchecked: &Unchecked) -> anyhow::Result<()> {
        let digest = unchecked.digest;
        let part = part_path(&folder_beside(&self.store), &unchecked.box_id, digest);
        let kept = kept_path(&self.store, digest);
        let (state, detail) = if kept.is_file() {
            remove(&part)?;
            (BlobState::Kept, String::new())
        } else if !part.is_file() {
            (BlobState::Lost, "part file missing".to_owned())
        } else {
            match self.judge(&part, unchecked)? {
                None => {
                    put(&part, &kept)?;
                    (BlobState::Kept, String::new())
                }
                Some(why) => {
                    tracing::warn!(box_id = %unchecked.box_id, %digest, why, "an attachment is put in quarantine");
                    put(&part, &quarantine_path(&self.store, unchecked))?;
                    (BlobState::Quarantined, why)
                }
            }
        };
        store.settle_blob(unchecked, state, &detail, self.clock.now().wall)?;
        Ok(())
    }

    /// Why it is not kept; none when it is what its digest says and the scanner finds nothing.
    fn judge(&self, part: &Path, unchecked: &Unchecked) -> anyhow::Result<Option<String>> {
        if fs::metadata(part)?.len() != unchecked.bytes || hash(part)? != unchecked.digest {
            return Ok(Some("other digest".to_owned()));
        }
        let Some(scanner) = &self.scanner else {
            return Ok(None);
        };
        match scanner.scan(part) {
            Ok(Verdict::Clean) => Ok(None),
            Ok(Verdict::Found(name)) => Ok(Some(format!("scanner: {name}"))),
            Err(error) if scanner.accepts_unscanned => {
                tracing::warn!(%error, "an attachment is kept though the scanner did not answer");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// SHA-256 of a file.
pub fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// Renames a file into a folder, which is made where it is missing, and syncs the folder.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = to.parent().expect("a name in a folder");
    if !folder.is_dir() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        File::open(folder.parent().expect("the folder of attachments"))?.sync_all()?;
    }
    fs::rename(from, to)?;
    File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What is wrong with the file of a kept attachment, if something is.
pub fn fault_of(store: &Path, digest: Digest) -> Result<Option<&'static str>, StoreError> {
    match hash(&kept_path(store, digest)) {
        Ok(found) if found == digest => Ok(None),
        Ok(_) => Ok(Some("the kept content has another digest")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Some("the kept content is missing"))
        }
        Err(_) => Ok(Some("the kept content cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::parts::{PartFiles, Parts};
    use crate::evidence::sha256;
    use crate::model::chunk::Chunk;
    use crate::model::{BoxId, UnixMs};
    use crate::shell::scan::ScannerKind;

    const OPTIONS: Options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };

    /// A content has come whole in one piece from a box.
    fn came(store: &Path, box_id: &BoxId, content: &[u8], digest: Digest) {
        let chunk = Chunk {
            blob: digest,
            bytes: content.len() as u64,
            at: 0,
            length: content.len() as u64,
            sha256: Digest(sha256(content)),
        };
        let mut parts = PartFiles::new(folder_beside(store));
        assert!(parts.write(box_id, &chunk, content).unwrap());
        parts.sync().unwrap();
        let mut hub = HubStore::open(store, OPTIONS).unwrap();
        hub.set_part(box_id, &chunk, chunk.bytes, BlobState::Checking, UnixMs(1))
            .unwrap();
    }

    fn settler(store: &Path, scanner: Option<&str>) -> Settler {
        Settler {
            store: store.to_owned(),
            options: OPTIONS,
            scanner: scanner.map(|script| Scanner {
                kind: ScannerKind::Command(
                    ["/bin/sh", "-c", script, "scan"].map(str::to_owned).into(),
                ),
                timeout_ms: 10_000,
                accepts_unscanned: false,
            }),
            clock: Clock::start(UnixMs(0)),
        }
    }

    #[test]
    fn what_is_true_is_kept_once_and_what_is_not_is_set_aside() {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("hub.db");
        let [a, b]: [BoxId; 2] = ["xa-a", "xa-b"].map(|id| id.parse().unwrap());
        let (good, bad) = (Digest(sha256(b"good")), Digest([1; 32]));
        came(&store, &a, b"good", good);
        came(&store, &b, b"good", good);
        came(&store, &a, b"other", bad);
        let (_hold, stop) = std::sync::mpsc::sync_channel::<()>(1);
        settler(&store, None).settle_all(&stop).unwrap();
        let hub = HubStore::open(&store, OPTIONS).unwrap();
        assert_eq!(hub.blob_state(good).unwrap(), Some(BlobState::Kept));
        assert_eq!(hub.blob_state(bad).unwrap(), Some(BlobState::Quarantined));
        assert_eq!(fs::read(kept_path(&store, good)).unwrap(), b"good");
        assert_eq!(fault_of(&store, good).unwrap(), None);
        let parts = fs::read_dir(folder_beside(&store).join("parts")).unwrap();
        assert_eq!(parts.count(), 0);
        fs::write(kept_path(&store, good), "gold").unwrap();
        assert!(fault_of(&store, good).unwrap().is_some());
    }

    #[test]
    fn what_the_scanner_finds_is_set_aside_and_a_silent_scanner_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("hub.db");
        let box_id: BoxId = "xa-a".parse().unwrap();
        let digest = Digest(sha256(b"bad"));
        came(&store, &box_id, b"bad", digest);
        let (_hold, stop) = std::sync::mpsc::sync_channel::<()>(1);
        assert!(settler(&store, Some("exit 9")).settle_all(&stop).is_err());
        let hub = HubStore::open(&store, OPTIONS).unwrap();
        assert_eq!(hub.blob_state(digest).unwrap(), Some(BlobState::Checking));
        settler(&store, Some("exit 1")).settle_all(&stop).unwrap();
        assert_eq!(
            hub.blob_state(digest).unwrap(),
            Some(BlobState::Quarantined)
        );
    }
}
