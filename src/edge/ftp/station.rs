//! One login: whose files they are, and how a whole file becomes records before it is answered.
//!
//! A file that the dataset refuses is *kept apart*: moved to `refused/` with its reason, counted and
//! shown on the page. To the logger it is answered with 226 unless the configuration says
//! otherwise, because loggers repeat a file that got an error for ever and send nothing behind it:
//! one bad file would stop a station. What is never answered with 226 is a file that is neither
//! committed nor safely kept apart.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::edge::door::Door;
use crate::edge::folder::FolderSource;
use crate::edge::folder::files::{Folder, Verdict};
use crate::edge::folder::handing::{Outcome, refuse, submit};
use crate::edge::folder::reading::{self, Taken};
use crate::edge::ftp::shelf::Shelf;
use crate::model::SourceName;
use crate::shell::clock::Clock;

/// Sessions of one login at once: the one that works, and some that a broken line left behind.
const SESSIONS_MAX: usize = 8;

pub struct Station {
    pub shelf: Arc<Shelf>,
    source: Arc<FolderSource>,
    folder: Folder,
    door: Arc<Door>,
    clock: Clock,
    /// One file at a time lies under its final name.
    taking: Mutex<()>,
    sessions: Arc<Semaphore>,
}

/// What became of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its records are committed.
    Committed,
    /// It lies in `refused/` with its reason.
    KeptApart,
    /// The box cannot keep records now; the file is the client's.
    Later,
    /// The disk failed.
    Failed,
}

impl Station {
    /// Opens the source's folder; blocks.
    pub fn open(source: FolderSource, door: Arc<Door>, clock: Clock) -> io::Result<Station> {
        let home = &source.folder.path;
        let shelf = Arc::new(Shelf::open(home, clock.now().wall)?);
        let folder = Folder::new(home, &source.folder.patterns);
        Ok(Station {
            shelf,
            source: Arc::new(source),
            folder,
            door,
            clock,
            taking: Mutex::new(()),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
        })
    }

    pub fn name(&self) -> &SourceName {
        &self.source.name
    }

    /// Counts something that was refused before it was a file, so that the page tells of it.
    pub async fn refused(&self, why_vi: &str) {
        let intake = self.door.intake();
        intake
            .refused(self.name().clone(), 1, why_vi.to_owned())
            .await;
    }

    /// None when this login has too many sessions.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sessions).try_acquire_owned().ok()
    }

    /// Whether a file of this name is taken, and not one that waits for another name.
    pub fn is_final(&self, name: &str) -> bool {
        self.folder.is_wanted(OsStr::new(name))
    }

    /// Puts a file under its final name by `place`, and takes it. `undo` has it back when the box
    /// cannot keep its records now.
    pub async fn take(
        &self,
        place: impl FnOnce(&Shelf) -> io::Result<()> + Send + 'static,
        undo: impl FnOnce(&Shelf) -> io::Result<()> + Send + 'static,
    ) -> Fate {
        let _one = self.taking.lock().await;
        let shelf = Arc::clone(&self.shelf);
        let placed = blocking(move || place(&shelf)).await;
        if let Err(error) = placed {
            tracing::warn!(source = %self.name(), %error, "an upload cannot be kept");
            return Fate::Failed;
        }
        match self.take_placed().await {
            Ok(fate @ (Fate::Committed | Fate::KeptApart)) => fate,
            other => {
                let shelf = Arc::clone(&self.shelf);
                if let Err(error) = blocking(move || undo(&shelf)).await {
                    tracing::warn!(source = %self.name(), %error, "an upload that was not taken cannot be put back");
                }
                other.unwrap_or_else(|error| {
                    tracing::warn!(source = %self.name(), %error, "an upload cannot be taken");
                    Fate::Failed
                })
            }
        }
    }

    /// Takes what a crash left between the final name and the commit.
    pub async fn take_left_over(&self) {
        let _one = self.taking.lock().await;
        match self.take_placed().await {
            Ok(Fate::Committed | Fate::KeptApart) => {}
            Ok(fate) => {
                tracing::warn!(source = %self.name(), ?fate, "left uploads are taken later")
            }
            Err(error) => {
                tracing::warn!(source = %self.name(), %error, "left uploads cannot be read")
            }
        }
    }

    /// Takes every file that lies under its final name.
    async fn take_placed(&self) -> io::Result<Fate> {
        let mut fate = Fate::Committed;
        let folder = self.folder.clone();
        for found in blocking(move || folder.look()).await?.files {
            let now = self.clock.now();
            let read = {
                let (folder, source) = (self.folder.clone(), Arc::clone(&self.source));
                let (door, found) = (Arc::clone(&self.door), found.clone());
                blocking(move || reading::take(&folder, &source, &door, &found, now)).await
            };
            let outcome = match read {
                Taken::Records { records, once, .. } => {
                    submit(&self.door, &self.source, records, once).await
                }
                Taken::Refused(refused) => refuse(&self.door, &self.source, refused).await,
                // Somebody else has touched it: what was received is not what lies there now.
                Taken::Changed => return Ok(Fate::Later),
                Taken::Unreadable(error) => return Err(error),
                Taken::NotKept(error) => return Err(io::Error::other(error)),
            };
            let verdict = match outcome {
                Outcome::Verdict(verdict) => verdict,
                Outcome::Later
                | Outcome::Waits
                | Outcome::Changed
                | Outcome::Unreadable
                | Outcome::Away(_) => {
                    return Ok(Fate::Later);
                }
            };
            if matches!(verdict, Verdict::Refused(_)) {
                fate = Fate::KeptApart;
            }
            let folder = self.folder.clone();
            let is_committed = matches!(verdict, Verdict::Done);
            match blocking(move || folder.put_away(&found, &verdict, now.wall)).await {
                Err(error) if is_committed => {
                    // The promise is kept all the same; the next start moves the file.
                    tracing::warn!(source = %self.name(), %error, "a taken file cannot be moved to done/");
                }
                moved => moved?,
            }
        }
        Ok(fate)
    }

    /// Deletes files that were done long ago.
    pub async fn clean_done(&self) {
        let keep_ms = self.source.folder.done_keep_ms;
        let (folder, wall) = (self.folder.clone(), self.clock.now().wall);
        if 0 < keep_ms
            && let Err(error) = blocking(move || folder.clean_done(wall, keep_ms)).await
        {
            tracing::debug!(source = %self.name(), %error, "old files cannot be deleted");
        }
    }
}

/// Runs file work where it may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("file work neither panics nor is cancelled")
}
