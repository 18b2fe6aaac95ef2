//! What one login sees: files that wait for their final name, files that were just taken, and
//! folders.
//!
//! On the disk a login's folder is laid out so that nothing unfinished can be taken for a file:
//!
//! | Place | Holds |
//! |---|---|
//! | `incoming/` | uploads under way; emptied at each start |
//! | `waiting/` | whole files whose name is not final yet, under one flat name each |
//! | the folder itself | a file that is being taken; what is left of a crash is taken at the start |
//! | `done/`, `refused/` | as in a drop folder |
//!
//! Folders and taken files are remembered in memory only: a logger asks for SIZE and MDTM right
//! after its upload, and it may enter any folder that it names. After a start the latest files of
//! `done/` and `refused/` answer too, by their names alone, because nobody knows in which folder a
//! logger had put them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::UNIX_EPOCH;

use crate::edge::ftp::path::VirtualPath;
use crate::model::UnixMs;

/// Taken files that are remembered: a day of five-minute files.
const TAKEN_MAX: usize = 300;
const FOLDERS_MAX: usize = 1_000;
const WAITING_MAX: usize = 1_000;
/// A file that never got its final name is deleted after this.
const WAITING_KEEP_MS: i64 = 7 * 86_400_000;
const INCOMING: &str = "incoming";
const WAITING: &str = "waiting";
const REASON: &str = ".reason.txt";

/// The files of one login. Its methods with `io::Result` block.
#[derive(Debug)]
pub struct Shelf {
    home: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folders: BTreeSet<VirtualPath>,
    waiting: BTreeMap<VirtualPath, Facts>,
    taken: BTreeMap<VirtualPath, Facts>,
    /// The oldest first.
    taken_order: VecDeque<VirtualPath>,
    /// Files that were taken before the start, by name.
    before: BTreeMap<String, Facts>,
    uploads: u64,
}

/// What a client may ask of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub bytes: u64,
    pub modified: UnixMs,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// None for a folder.
    pub file: Option<Facts>,
}

/// Where a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Waiting,
    Taken,
}

/// An upload under way; gone when it is dropped unless it was kept.
#[derive(Debug)]
pub struct Upload {
    path: PathBuf,
    file: File,
    pub bytes: u64,
    is_kept: bool,
}

impl Shelf {
    /// Makes the folders, throws away what was under way when the program ended, and finds what
    /// waits.
    pub fn open(home: &Path, now: UnixMs) -> io::Result<Shelf> {
        let incoming = home.join(INCOMING);
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // All are there from the beginning, so that no upload takes one of these names.
        for folder in [INCOMING, WAITING, "done", "refused"] {
            fs::create_dir_all(home.join(folder))?;
        }
        let mut state = State::default();
        for entry in fs::read_dir(home.join(WAITING))? {
            let entry = entry?;
            let data = entry.metadata()?;
            let name = entry.file_name();
            let Some(path) = name.to_str().and_then(VirtualPath::of_flat) else {
                continue;
            };
            let facts = facts(&data);
            if facts.modified.0 + WAITING_KEEP_MS < now.0 {
                fs::remove_file(entry.path())?;
            } else if data.is_file() {
                state.waiting.insert(path, facts);
            }
        }
        let before = latest(home, TAKEN_MAX)?;
        state.before = before
            .into_iter()
            .map(|kept| (kept.name, kept.facts))
            .collect();
        Ok(Shelf {
            home: home.to_owned(),
            state: Mutex::new(state),
        })
    }

    pub fn begin(&self) -> io::Result<Upload> {
        let number = {
            let mut state = self.lock();
            state.uploads += 1;
            state.uploads
        };
        let path = self.home.join(INCOMING).join(number.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)?;
        Ok(Upload {
            path,
            file,
            bytes: 0,
            is_kept: false,
        })
    }

    /// Puts a whole upload where it waits for its final name.
    pub fn keep_waiting(&self, upload: Upload, path: &VirtualPath, now: UnixMs) -> io::Result<()> {
        self.drop_old(now)?;
        let is_new = !self.lock().waiting.contains_key(path);
        if is_new && WAITING_MAX <= self.lock().waiting.len() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let bytes = upload.bytes;
        upload.move_to(&self.on_disk(path))?;
        sync(&self.home.join(WAITING))?;
        let modified = now;
        self.lock()
            .waiting
            .insert(path.clone(), Facts { bytes, modified });
        Ok(())
    }

    /// Puts a whole upload under its final name, where it can be taken.
    pub fn keep_final(&self, upload: Upload, name: &str) -> io::Result<()> {
        upload.move_to(&self.home.join(name))?;
        sync(&self.home)
    }

    /// Gives a waiting file its final name, where it can be taken.
    pub fn finish_waiting(&self, path: &VirtualPath, name: &str) -> io::Result<()> {
        fs::rename(self.on_disk(path), self.home.join(name))?;
        sync(&self.home)
    }

    /// The taking did not come about: the file waits again.
    pub fn wait_again(&self, name: &str, path: &VirtualPath) -> io::Result<()> {
        fs::rename(self.home.join(name), self.on_disk(path))
    }

    /// Deletes a file that cannot be taken now; whoever sent it keeps it and sends it again.
    pub fn give_up(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.home.join(name))
    }

    pub fn rename_waiting(&self, from: &VirtualPath, to: &VirtualPath) -> io::Result<()> {
        fs::rename(self.on_disk(from), self.on_disk(to))?;
        let mut state = self.lock();
        if let Some(facts) = state.waiting.remove(from) {
            state.waiting.insert(to.clone(), facts);
        }
        Ok(())
    }

    /// True when there was such a file.
    pub fn delete(&self, path: &VirtualPath) -> io::Result<bool> {
        if self.lock().waiting.remove(path).is_some() {
            fs::remove_file(self.on_disk(path))?;
            return Ok(true);
        }
        Ok(self.forget_taken(path).is_some())
    }

    fn drop_old(&self, now: UnixMs) -> io::Result<()> {
        let old: Vec<VirtualPath> = {
            let state = self.lock();
            let waiting = state.waiting.iter();
            let old = waiting.filter(|(_, facts)| facts.modified.0 + WAITING_KEEP_MS < now.0);
            old.map(|(path, _)| path.clone()).collect()
        };
        for path in old {
            self.delete(&path)?;
        }
        Ok(())
    }

    // === What is in memory ===

    /// A file was taken: it answers SIZE and MDTM for a while.
    pub fn remember_taken(&self, path: &VirtualPath, facts: Facts) {
        self.forget_taken(path);
        let mut state = self.lock();
        state.waiting.remove(path);
        state.taken.insert(path.clone(), facts);
        state.taken_order.push_back(path.clone());
        if TAKEN_MAX < state.taken_order.len()
            && let Some(oldest) = state.taken_order.pop_front()
        {
            state.taken.remove(&oldest);
        }
    }

    pub fn forget_taken(&self, path: &VirtualPath) -> Option<Facts> {
        let mut state = self.lock();
        state.taken_order.retain(|taken| taken != path);
        let before = path.name().and_then(|name| state.before.remove(name));
        state.taken.remove(path).or(before)
    }

    /// A waiting file was taken under another name.
    pub fn forget_waiting(&self, path: &VirtualPath) {
        self.lock().waiting.remove(path);
    }

    pub fn find(&self, path: &VirtualPath) -> Option<(Place, Facts)> {
        let state = self.lock();
        let waiting = state
            .waiting
            .get(path)
            .map(|facts| (Place::Waiting, *facts));
        let taken = || state.taken.get(path);
        let before = || state.before.get(path.name()?);
        waiting.or_else(|| Some((Place::Taken, *taken().or_else(before)?)))
    }

    /// False when there is one already, or too many.
    pub fn make_folder(&self, path: &VirtualPath) -> bool {
        let mut state = self.lock();
        state.folders.len() < FOLDERS_MAX && !path.is_root() && state.folders.insert(path.clone())
    }

    /// A folder that is named is there. Beyond their number they are entered but not listed.
    pub fn enter_folder(&self, path: &VirtualPath) {
        let mut state = self.lock();
        if !path.is_root() && state.folders.len() < FOLDERS_MAX {
            state.folders.insert(path.clone());
        }
    }

    pub fn remove_folder(&self, path: &VirtualPath) -> bool {
        self.list(path).is_empty() && self.lock().folders.remove(path)
    }

    /// What lies in a folder, or the file of that name.
    pub fn list(&self, path: &VirtualPath) -> Vec<Listed> {
        let line = |path: &VirtualPath, file| {
            let name = path.name().unwrap_or_default().to_owned();
            (path.clone(), Listed { name, file })
        };
        let state = self.lock();
        let files = state.taken.iter().chain(&state.waiting);
        let files = files.map(|(file, facts)| line(file, Some(*facts)));
        let folders = state.folders.iter().map(|folder| line(folder, None));
        let is_meant = |of: &VirtualPath| of == path || of.parent() == *path;
        let mut found: Vec<Listed> = folders
            .chain(files)
            .filter(|(of, listed)| is_meant(of) && (of != path || listed.file.is_some()))
            .map(|(_, listed)| listed)
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        found
    }

    fn on_disk(&self, path: &VirtualPath) -> PathBuf {
        self.home.join(WAITING).join(path.to_flat())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

/// A file that was taken, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub facts: Facts,
    /// The text beside a refused one.
    pub reason: Option<PathBuf>,
}

/// The files of a login that were taken last, the latest first.
pub fn latest(home: &Path, count: usize) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    let mut days = Vec::new();
    for day in entries(&home.join("done"))? {
        if day.file_type()?.is_dir() {
            days.push(day.path());
        }
    }
    // The names of the folders are days.
    days.sort();
    for day in days.iter().rev() {
        if count <= kept.len() {
            break;
        }
        add_kept(day, &mut kept)?;
    }
    add_kept(&home.join("refused"), &mut kept)?;
    kept.sort_by(|a, b| (b.facts.modified, &b.name).cmp(&(a.facts.modified, &a.name)));
    kept.truncate(count);
    Ok(kept)
}

/// The names of the files that wait for their final name.
pub fn waiting(home: &Path) -> io::Result<Vec<VirtualPath>> {
    let names = entries(&home.join(WAITING))?;
    let path = |entry: &fs::DirEntry| VirtualPath::of_flat(entry.file_name().to_str()?);
    Ok(names.iter().filter_map(path).collect())
}

fn add_kept(folder: &Path, kept: &mut Vec<Kept>) -> io::Result<()> {
    for entry in entries(folder)? {
        let data = entry.metadata()?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !data.is_file() || name.ends_with(REASON) {
            continue;
        }
        let reason = folder.join(format!("{name}{REASON}"));
        kept.push(Kept {
            name,
            facts: facts(&data),
            reason: reason.exists().then_some(reason),
        });
    }
    Ok(())
}

/// None where the folder is not there.
fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl Upload {
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn move_to(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "an upload that ended early is deleted at the next start");
        }
    }
}

fn facts(data: &fs::Metadata) -> Facts {
    let modified = data.modified().ok();
    let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    let ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    Facts {
        bytes: data.len(),
        modified: UnixMs(ms.unwrap_or(0)),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_795_136_400_000);

    fn path(text: &str) -> VirtualPath {
        VirtualPath::root().join(text).unwrap()
    }

    fn names(shelf: &Shelf, folder: &str) -> Vec<String> {
        let listed = shelf.list(&path(folder));
        listed.into_iter().map(|listed| listed.name).collect()
    }

    #[test]
    fn an_upload_that_is_dropped_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(home.path(), NOW).unwrap();
        let mut upload = shelf.begin().unwrap();
        upload.write(b"half").unwrap();
        drop(upload);
        assert_eq!(
            fs::read_dir(home.path().join("incoming")).unwrap().count(),
            0
        );
    }

    #[test]
    fn what_waits_is_found_again_and_what_was_under_way_is_not() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(home.path(), NOW).unwrap();
        let mut upload = shelf.begin().unwrap();
        upload.write(b"whole").unwrap();
        shelf
            .keep_waiting(upload, &path("/NUO001/a.tmp"), NOW)
            .unwrap();
        fs::write(home.path().join("incoming/77"), "half").unwrap();
        drop(shelf);
        let shelf = Shelf::open(home.path(), NOW).unwrap();
        assert!(!home.path().join("incoming/77").exists());
        let (place, facts) = shelf.find(&path("/NUO001/a.tmp")).unwrap();
        assert_eq!((place, facts.bytes), (Place::Waiting, 5));
        shelf
            .finish_waiting(&path("/NUO001/a.tmp"), "a.txt")
            .unwrap();
        assert_eq!(fs::read(home.path().join("a.txt")).unwrap(), b"whole");
        let left = home.path().join("waiting").join(path("/old.tmp").to_flat());
        fs::write(&left, "x").unwrap();
        let future = UnixMs(i64::MAX / 2);
        assert!(
            Shelf::open(home.path(), future)
                .unwrap()
                .list(&path("/"))
                .is_empty()
        );
        assert!(!left.exists());
    }

    #[test]
    fn taken_files_answer_for_a_while_and_are_bounded() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(home.path(), NOW).unwrap();
        let facts = Facts {
            bytes: 7,
            modified: NOW,
        };
        for n in 0..TAKEN_MAX + 5 {
            shelf.remember_taken(&path(&format!("/x/{n}.txt")), facts);
        }
        assert_eq!(shelf.find(&path("/x/0.txt")), None);
        assert_eq!(shelf.find(&path("/x/9.txt")), Some((Place::Taken, facts)));
        assert_eq!(names(&shelf, "/x").len(), TAKEN_MAX);
        assert!(
            shelf.delete(&path("/x/9.txt")).unwrap() && !shelf.delete(&path("/x/9.txt")).unwrap()
        );
    }

    #[test]
    fn what_was_taken_before_the_start_answers_by_its_name() {
        let home = tempfile::tempdir().unwrap();
        for file in [
            "done/2026-11-20/a.txt",
            "refused/b.txt",
            "refused/b.txt.reason.txt",
        ] {
            let file = home.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "12345").unwrap();
        }
        let shelf = Shelf::open(home.path(), NOW).unwrap();
        let (place, facts) = shelf.find(&path("/NUO001/2026/a.txt")).unwrap();
        assert_eq!((place, facts.bytes), (Place::Taken, 5));
        assert!(shelf.find(&path("/b.txt")).is_some());
        assert_eq!(shelf.find(&path("/b.txt.reason.txt")), None);
        assert!(names(&shelf, "/").is_empty(), "nobody knows where it was");
        assert!(shelf.delete(&path("/x/a.txt")).unwrap());
        assert_eq!(shelf.find(&path("/a.txt")), None);
        let kept = latest(home.path(), 9).unwrap();
        let reasons = kept.iter().filter(|kept| kept.reason.is_some()).count();
        assert_eq!((kept.len(), reasons), (2, 1));
    }

    #[test]
    fn folders_are_made_listed_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(home.path(), NOW).unwrap();
        assert!(shelf.make_folder(&path("/2026")) && !shelf.make_folder(&path("/2026")));
        shelf.enter_folder(&path("/2026/11"));
        assert_eq!(
            (names(&shelf, "/"), names(&shelf, "/2026")),
            (vec!["2026".to_owned()], vec!["11".to_owned()])
        );
        assert!(!shelf.remove_folder(&path("/2026")), "it is not empty");
        assert!(shelf.remove_folder(&path("/2026/11")) && shelf.remove_folder(&path("/2026")));
        assert!(!shelf.make_folder(&VirtualPath::root()));
    }
}
