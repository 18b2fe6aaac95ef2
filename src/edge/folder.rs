//! The drop folder: files that an office's software leaves become records, each file whole or not
//! at all.
//!
//! A name before the extension says what the records of a JSON or NDJSON file do, for all of them as
//! `op` does over HTTP: `a.delete.json`, `a.snapshot.ndjson`; without it they are upserts.
//!
//! A file is taken once it is *settled*: two looks, some time apart, found the same size, time and
//! inode. inotify only hastens the next look; nothing depends on it. After the commit the file
//! moves to `done/`, or to `refused/` with its reason beside it. Where records cannot be kept now
//! the file stays and is tried again. A crash between commit and move takes nothing twice, because
//! the file's name and content make the submission's key.

mod beside;
mod documents;
pub mod files;
pub(in crate::edge) mod handing;
pub mod reading;
pub mod reason;
mod tables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};

use crate::edge::blobs::BlobError;
use crate::edge::config::FolderConfig;
use crate::edge::config::table::TableConfig;
use crate::edge::connectors::{Fault, Post};
use crate::edge::door::Door;
use crate::engine::sending::Level;
use crate::formats::station::mapping::StationMapping;
use crate::model::{DatasetId, MonoMs, Now, SourceName};
use crate::shell::clock::Clock;
use files::{Folder, Found, Print, Verdict};
use handing::{Job, Outcome, groups, join, refuse, submit};
use reading::Taken;

/// Shortest time between two looks.
const LOOK_MS: u64 = 50;
/// Pauses after something that may pass by itself.
const RETRY_MS: (MonoMs, MonoMs) = (500, 60_000);
/// A look that takes longer waits for a network share that does not answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// One `[[source]]` of kind `folder`.
#[derive(Debug, Clone)]
pub struct FolderSource {
    pub name: SourceName,
    pub dataset: DatasetId,
    pub folder: FolderConfig,
    /// Without inotify only the re-scan finds files, as on a network share.
    pub inotify: bool,
}

impl FolderSource {
    /// Files that come in a request: no folder is looked at.
    pub fn of_request(name: SourceName, dataset: DatasetId, table: TableConfig) -> FolderSource {
        FolderSource {
            name,
            dataset,
            folder: FolderConfig {
                path: PathBuf::new(),
                format: None,
                patterns: Vec::new(),
                recursive: false,
                settle_ms: 0,
                rescan_ms: 0,
                done_keep_ms: 0,
                station: StationMapping::default(),
                table,
            },
            inotify: false,
        }
    }
}

/// Takes what is dropped, until `stop` turns true or its sender is gone.
pub async fn watch(
    source: FolderSource,
    door: Arc<Door>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) {
    let mut drop_folder = DropFolder::new(source, door, clock, stop.clone());
    loop {
        // Never cancelled inside: a sweep has an end, and what it decided it also does.
        let pause = drop_folder.sweep(&stop).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = drop_folder.wait(pause) => {}
        }
    }
}

struct DropFolder {
    source: Arc<FolderSource>,
    folder: Folder,
    door: Arc<Door>,
    clock: Clock,
    seen: BTreeMap<OsString, Seen>,
    watcher: Option<Watching>,
    post: Post,
    /// A look that a network share keeps from ending.
    looking: Option<tokio::task::JoinHandle<io::Result<files::Listing>>>,
    /// The share went away while a file was read or moved.
    away: Option<io::Error>,
    has_closed: bool,
    /// The last pause after something that may pass; 0 when all went well.
    pause_ms: MonoMs,
    /// What was told of the last file that was worth it.
    notes: Vec<String>,
}

/// What is remembered of a file that is still in the folder.
struct Seen {
    print: Print,
    since_ms: MonoMs,
    /// What is left to do: only the move.
    verdict: Option<Verdict>,
    retry_at_ms: MonoMs,
    tries: u32,
}

struct Watching {
    _watcher: notify::RecommendedWatcher,
    changed: mpsc::Receiver<()>,
    /// The folder that is watched; another may take its name.
    identity: (u64, u64),
}

impl DropFolder {
    fn new(
        source: FolderSource,
        door: Arc<Door>,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> DropFolder {
        let post = Post::new(source.name.clone(), &door, clock.clone(), stop);
        DropFolder {
            folder: Folder::new(&source.folder.path, &source.folder.patterns)
                .with_sub_folders(source.folder.recursive),
            source: Arc::new(source),
            door,
            clock,
            seen: BTreeMap::new(),
            watcher: None,
            post,
            looking: None,
            away: None,
            has_closed: false,
            pause_ms: 0,
            notes: Vec::new(),
        }
    }

    /// Waits for the next look: after `pause`, or as soon as inotify tells of something.
    async fn wait(&mut self, pause: Pause) {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        let rest = Duration::from_millis(pause.ms.saturating_sub(LOOK_MS));
        match &mut self.watcher {
            Some(watcher) if !pause.is_backoff => {
                let changed = tokio::time::timeout(rest, watcher.changed.recv()).await;
                if matches!(changed, Ok(None)) {
                    self.watcher = None;
                    tokio::time::sleep(rest).await;
                }
            }
            _ => tokio::time::sleep(rest).await,
        }
    }

    /// Looks once and takes what is settled; returns how long to wait.
    async fn sweep(&mut self, stop: &watch::Receiver<bool>) -> Pause {
        let listing = match self.look().await {
            Ok(listing) => listing,
            Err(error) => return self.is_in_trouble(&error).await,
        };
        self.post.well().await;
        self.tell_closed(listing.closed).await;
        self.watch_changes(listing.identity);
        let now_ms = self.clock.mono_ms();
        self.notice(&listing.files, now_ms);
        let settled = self.settled(listing.files, now_ms);
        let mut failed = false;
        for group in groups(settled) {
            if failed || *stop.borrow() {
                break;
            }
            failed = self.take(group).await;
        }
        if let Some(error) = self.away.take() {
            return self.is_in_trouble(&error).await;
        }
        self.clean_done().await;
        if failed {
            self.pause_ms = (self.pause_ms * 2).clamp(RETRY_MS.0, RETRY_MS.1);
            return Pause {
                ms: self.pause_ms,
                is_backoff: true,
            };
        }
        self.pause_ms = 0;
        let waits = self.seen.values().any(|seen| seen.retry_at_ms <= now_ms);
        let ms = match (waits || listing.more, self.seen.is_empty()) {
            (true, _) => self.source.folder.settle_ms.max(LOOK_MS),
            (false, false) => RETRY_MS.1.min(self.source.folder.rescan_ms),
            (false, true) => self.source.folder.rescan_ms,
        };
        Pause {
            ms: ms.min(self.source.folder.rescan_ms),
            is_backoff: false,
        }
    }

    /// Looks through the folder. A share that does not answer keeps one thread and no more: the
    /// next look waits for the same answer.
    async fn look(&mut self) -> io::Result<files::Listing> {
        let mut looking = self.looking.take().unwrap_or_else(|| {
            let folder = self.folder.clone();
            tokio::task::spawn_blocking(move || folder.look())
        });
        match tokio::time::timeout(LOOK_TIMEOUT, &mut looking).await {
            Ok(listing) => listing.expect("file work neither panics nor is cancelled"),
            Err(_) => {
                self.looking = Some(looking);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Tells that a sub-folder may not be read, and takes it back.
    async fn tell_closed(&mut self, is_closed: bool) {
        if std::mem::replace(&mut self.has_closed, is_closed) == is_closed {
            return;
        }
        let warning = Fault::new(
            "sub_folder",
            [
                "không có quyền đọc một thư mục con",
                "a sub-folder may not be read",
            ],
            [
                "Cấp quyền đọc và ghi cho tài khoản lienthong.",
                "Let the account lienthong read and write it.",
            ],
        );
        self.post.warn(is_closed.then_some(&warning)).await;
    }

    /// Runs file work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Folder, Arc<FolderSource>) -> T + Send + 'static,
    ) -> T {
        let (folder, source) = (self.folder.clone(), Arc::clone(&self.source));
        let task = tokio::task::spawn_blocking(move || work(folder, source));
        task.await
            .expect("file work neither panics nor is cancelled")
    }

    /// Keeps what is known of the files that are still there; a file that changed begins anew.
    fn notice(&mut self, files: &[Found], now_ms: MonoMs) {
        let mut before = std::mem::take(&mut self.seen);
        for Found { name, print } in files {
            let same = before
                .remove(name)
                .filter(|seen: &Seen| seen.print == *print);
            let seen = same.unwrap_or(Seen {
                print: *print,
                since_ms: now_ms,
                verdict: None,
                retry_at_ms: 0,
                tries: 0,
            });
            self.seen.insert(name.clone(), seen);
        }
    }

    fn settled(&self, mut files: Vec<Found>, now_ms: MonoMs) -> Vec<Found> {
        files.retain(|found| {
            let seen = &self.seen[&found.name];
            let age_ms = now_ms - seen.since_ms;
            0 < age_ms && self.source.folder.settle_ms <= age_ms && seen.retry_at_ms <= now_ms
        });
        // The oldest first, so that records go in the order in which they were written.
        files.sort_by(|a, b| (a.print.modified_ns, &a.name).cmp(&(b.print.modified_ns, &b.name)));
        files
    }

    /// Takes a group of files; true when it is of no use to go on now.
    async fn take(&mut self, group: Vec<Found>) -> bool {
        let mut jobs: Vec<Job> = Vec::new();
        let now = self.clock.now();
        let mut outcomes = Vec::new();
        for found in &group {
            match self
                .seen
                .get_mut(&found.name)
                .and_then(|seen| seen.verdict.take())
            {
                Some(verdict) => outcomes.push(Some(Outcome::Verdict(verdict))),
                None => {
                    outcomes.push(None);
                    jobs.push(self.read_and_check(found.clone(), now).await);
                }
            }
        }
        let mut answers = join(jobs).await.into_iter();
        let mut failed = false;
        for (found, outcome) in group.into_iter().zip(outcomes) {
            let outcome = outcome
                .or_else(|| answers.next())
                .expect("an answer for each job");
            failed |= self.finish(found, outcome, now).await;
        }
        failed
    }

    /// Reads and checks one file; what remains is to hand its records in.
    async fn read_and_check(&mut self, found: Found, now: Now) -> Job {
        let door = Arc::clone(&self.door);
        let read = {
            let door = Arc::clone(&door);
            let read = move |folder: Folder, source: Arc<FolderSource>| {
                reading::take(&folder, &source, &door, &found, now)
            };
            self.blocking(read).await
        };
        match &read {
            Taken::Records { notes, .. } => self.tell(notes).await,
            Taken::NotKept(error) => self.tell_no_room(error).await,
            _ => {}
        }
        let source = Arc::clone(&self.source);
        Box::pin(async move {
            match read {
                Taken::Records { records, once, .. } => submit(&door, &source, records, once).await,
                Taken::Refused(refused) => refuse(&door, &source, refused).await,
                Taken::Changed => Outcome::Changed,
                Taken::NotKept(_) => Outcome::Later,
                Taken::Unreadable(error) if files::is_away(&error) => Outcome::Away(error),
                Taken::Unreadable(error) => {
                    tracing::debug!(source = %source.name, %error, "a file cannot be read");
                    Outcome::Unreadable
                }
            }
        })
    }

    /// Tells what was found or tolerated in a file, once while it stays the same.
    async fn tell(&mut self, notes: &[String]) {
        if notes.is_empty() || *notes == self.notes {
            return;
        }
        self.notes = notes.to_vec();
        let text = format!("{}: {}", self.source.name, notes.join("; "));
        self.door
            .intake()
            .note(Level::Info, "file_notes", text)
            .await;
    }

    /// Tells why a document waits: there is no room for its attachments.
    async fn tell_no_room(&mut self, error: &BlobError) {
        let name = &self.source.name;
        tracing::warn!(source = %name, %error, "attachments are not kept; the document is tried again");
        if self.pause_ms == 0 {
            let why = match error {
                BlobError::Full { .. } => {
                    "hết chỗ cho tệp đính kèm; tăng store.attachments hoặc chờ gửi bớt về trục"
                }
                BlobError::Infected { .. } => "trình quét phát hiện mã độc trong tệp đính kèm",
                BlobError::NotScanned(_) => "trình quét mã độc không trả lời",
                BlobError::Io(_) | BlobError::OtherDigest { .. } => {
                    "không ghi được tệp đính kèm; kiểm tra ổ đĩa của trạm"
                }
            };
            let text = format!("{name}: {why}");
            self.door
                .intake()
                .note(Level::Warning, "attachments_not_kept", text)
                .await;
        }
    }

    /// Moves the file as its outcome says; true when it is of no use to go on now.
    async fn finish(&mut self, found: Found, outcome: Outcome, now: Now) -> bool {
        let name = found.name.clone();
        let verdict = match outcome {
            Outcome::Verdict(verdict) => verdict,
            Outcome::Later => return true,
            Outcome::Away(error) => {
                self.away = Some(error);
                return true;
            }
            Outcome::Changed => {
                self.seen.remove(&name);
                return false;
            }
            Outcome::Waits => {
                let why = "bản ghi nêu tệp đính kèm mà trạm chưa có; gửi tệp bằng PUT /v1/blobs/{sha256}, tệp bản ghi được tự đọc lại";
                self.retry_later(&name, None, why).await;
                return false;
            }
            Outcome::Unreadable => {
                self.retry_later(
                    &name,
                    None,
                    "không đọc được một tệp; kiểm tra quyền đọc của tệp",
                )
                .await;
                return false;
            }
        };
        let kept = verdict.clone();
        let moved = self
            .blocking(move |folder, _| folder.put_away(&found, &verdict, now.wall))
            .await;
        match moved {
            Ok(()) => {
                self.seen.remove(&name);
            }
            Err(error) if files::is_away(&error) => {
                if let Some(seen) = self.seen.get_mut(&name) {
                    seen.verdict = Some(kept);
                }
                self.away = Some(error);
                return true;
            }
            Err(error) => {
                tracing::debug!(source = %self.source.name, %error, "a file cannot be moved");
                let why = "không chuyển được tệp đã xử lý vào done/ hoặc refused/; kiểm tra quyền ghi của thư mục";
                self.retry_later(&name, Some(kept), why).await;
            }
        }
        false
    }

    /// One file is left for a while. Its name stays out of log and page: it may name a person.
    async fn retry_later(&mut self, name: &OsString, verdict: Option<Verdict>, why: &str) {
        let now_ms = self.clock.mono_ms();
        let Some(seen) = self.seen.get_mut(name) else {
            return;
        };
        seen.verdict = verdict;
        seen.tries += 1;
        let pause_ms = RETRY_MS.0 << seen.tries.min(7);
        seen.retry_at_ms = now_ms + pause_ms.min(RETRY_MS.1);
        if seen.tries == 1 {
            tracing::warn!(source = %self.source.name, "a file in the drop folder cannot be read, taken or moved; it is tried again");
            self.door
                .intake()
                .refused(self.source.name.clone(), 0, why.to_owned())
                .await;
        }
    }

    async fn clean_done(&self) {
        let keep_ms = self.source.folder.done_keep_ms;
        let wall = self.clock.now().wall;
        if 0 < keep_ms
            && let Err(error) = self
                .blocking(move |folder, _| folder.clean_done(wall, keep_ms))
                .await
        {
            tracing::debug!(source = %self.source.name, %error, "old files cannot be deleted");
        }
    }

    // === The folder itself ===

    /// Tells once that the folder cannot be used, and why.
    async fn is_in_trouble(&mut self, error: &io::Error) -> Pause {
        self.watcher = None;
        self.pause_ms = (self.pause_ms * 2).clamp(RETRY_MS.0, RETRY_MS.1);
        tracing::debug!(source = %self.source.name, %error, "the drop folder cannot be used");
        let (what, hint) = files::folder_trouble(error);
        self.post.failed(&Fault::new("folder", what, hint)).await;
        Pause {
            ms: self.pause_ms.min(self.source.folder.rescan_ms),
            is_backoff: true,
        }
    }

    /// Begins to listen to inotify, anew where another folder took the name.
    fn watch_changes(&mut self, identity: (u64, u64)) {
        let is_watched = self
            .watcher
            .as_ref()
            .is_some_and(|watching| watching.identity == identity);
        if !self.source.inotify || is_watched {
            return;
        }
        let (changes, changed) = mpsc::channel(1);
        let tell = move |_: notify::Result<notify::Event>| {
            // A change that is told already needs no second word.
            let _ = changes.try_send(());
        };
        let mode = match self.source.folder.recursive {
            true => RecursiveMode::Recursive,
            false => RecursiveMode::NonRecursive,
        };
        let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
            watcher.watch(&self.source.folder.path, mode)?;
            Ok(watcher)
        });
        self.watcher = match watcher {
            Ok(watcher) => Some(Watching {
                _watcher: watcher,
                changed,
                identity,
            }),
            Err(error) => {
                tracing::debug!(source = %self.source.name, %error, "inotify is not available; the re-scan goes on");
                None
            }
        };
    }
}

struct Pause {
    ms: u64,
    /// Nothing is to cut it short.
    is_backoff: bool,
}
