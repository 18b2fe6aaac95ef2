//! The file system's side of a drop folder: listing, reading without following links, moving
//! without overwriting. All of it blocks.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::model::UnixMs;

/// Largest file that is read, bytes, unless its format has a limit of its own.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most files of one look; the others wait for the next.
const LOOK_FILES_MAX: usize = 5_000;
/// Most names of one folder that are tried before it is given up.
const NAMES_MAX: u32 = 10_000;
/// Old files that are deleted in one go.
const CLEAN_FILES: usize = 256;
const DONE: &str = "done";
const REFUSED: &str = "refused";
/// The end of the name of what stands beside a refused file, and how much of it is read.
const REASON: &str = ".reason.txt";
const REASON_BYTES_MAX: u64 = 4 * 1024;
/// Ends of names that writers give to files which are not complete.
const UNFINISHED: [&str; 4] = [".part", ".tmp", ".filepart", ".crdownload"];

/// Folders inside of folders that are looked into.
const DEPTH_MAX: usize = 16;

/// A folder and the names that are taken from it.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    patterns: Vec<String>,
    is_recursive: bool,
}

/// What changes when a file is written to or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print {
    pub bytes: u64,
    pub modified_ns: i128,
    pub inode: u64,
}

/// A file that was refused, and what stands beside it.
#[derive(Debug, Clone)]
pub struct RefusedFile {
    /// With the sub-folders in which it lay.
    pub name: OsString,
    pub bytes: u64,
    pub reason: String,
}

#[derive(Debug, Clone)]
pub struct Found {
    /// With the sub-folders in which it lies.
    pub name: OsString,
    pub print: Print,
}

pub struct Listing {
    pub files: Vec<Found>,
    /// There are more files than one look takes.
    pub more: bool,
    /// A sub-folder may not be read.
    pub closed: bool,
    /// Device and inode of the folder.
    pub identity: (u64, u64),
}

/// Where a file goes.
#[derive(Debug, Clone)]
pub enum Verdict {
    Done,
    /// With the text that stands beside it.
    Refused(String),
}

impl Folder {
    pub fn new(path: &Path, patterns: &[String]) -> Folder {
        Folder {
            path: path.to_owned(),
            patterns: patterns.to_vec(),
            is_recursive: false,
        }
    }

    /// Looks into sub-folders too.
    #[must_use]
    pub fn with_sub_folders(mut self, is_recursive: bool) -> Folder {
        self.is_recursive = is_recursive;
        self
    }

    /// The regular files that are wanted. Links are not followed.
    pub fn look(&self) -> io::Result<Listing> {
        let folder = fs::metadata(&self.path)?;
        let mut listing = Listing {
            files: Vec::new(),
            more: false,
            closed: false,
            identity: (folder.dev(), folder.ino()),
        };
        let mut folders = vec![(PathBuf::new(), 0)];
        while let Some((above, depth)) = folders.pop() {
            let entries = match fs::read_dir(self.path.join(&above)) {
                // A sub-folder that went away since is no fault, and one that is closed to us
                // keeps no other from being read.
                Err(error) if 0 < depth && !is_away(&error) => {
                    listing.closed |= error.kind() == io::ErrorKind::PermissionDenied;
                    continue;
                }
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let name = above.join(entry.file_name());
                // A file that is gone again was somebody's temporary file.
                let data = match entry.metadata() {
                    Err(error) if is_away(&error) => return Err(error),
                    Err(_) => continue,
                    Ok(data) => data,
                };
                if data.is_dir() && self.is_recursive && depth < DEPTH_MAX && is_open(&name) {
                    folders.push((name, depth + 1));
                    continue;
                }
                if !data.is_file() || !self.is_wanted(name.as_os_str()) {
                    continue;
                }
                if listing.files.len() == LOOK_FILES_MAX {
                    listing.more = true;
                    return Ok(listing);
                }
                let print = Print::of(&data);
                let name = name.into_os_string();
                listing.files.push(Found { name, print });
            }
        }
        Ok(listing)
    }

    /// Whether a file is meant, and its name is not that of one which is still being written. A
    /// pattern with a `/` is held against the whole way to a file, another against its name.
    pub fn is_wanted(&self, path: &OsStr) -> bool {
        let path = path.to_string_lossy();
        let name = path.rsplit('/').next().unwrap_or(&path);
        let lower = name.to_ascii_lowercase();
        let is_unfinished = name.starts_with(['.', '~'])
            || name.ends_with('~')
            || UNFINISHED.iter().any(|end| lower.ends_with(end));
        let is_meant = self.patterns.is_empty()
            || self
                .patterns
                .iter()
                .any(|pattern| match pattern.contains('/') {
                    true => matches(pattern, &path),
                    false => matches(pattern, name),
                });
        !is_unfinished && is_meant
    }

    /// The file's bytes; `None` when it is no longer what was found. The caller has looked at how
    /// many they are.
    pub fn read(&self, found: &Found) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(self.path.join(&found.name));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let before = file.metadata()?;
        if !before.is_file() || Print::of(&before) != found.print {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(found.print.bytes.min(FILE_BYTES_MAX) as usize);
        (&file)
            .take(found.print.bytes.saturating_add(1))
            .read_to_end(&mut bytes)?;
        let same =
            Print::of(&file.metadata()?) == found.print && bytes.len() as u64 == found.print.bytes;
        Ok(same.then_some(bytes))
    }

    /// Moves the file to where it belongs and syncs both folders. A refused file's reason is on
    /// the disk before the file moves.
    pub fn put_away(&self, found: &Found, verdict: &Verdict, wall: UnixMs) -> io::Result<()> {
        let from = self.path.join(&found.name);
        match fs::symlink_metadata(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Another file took the name since: it is found and judged by itself.
            Ok(data) if Print::of(&data) != found.print => return Ok(()),
            data => data?,
        };
        let (above, name) = split(&found.name);
        let mut names = match verdict {
            Verdict::Done => vec![OsString::from(DONE), OsString::from(date(wall))],
            Verdict::Refused(_) => vec![OsString::from(REFUSED)],
        };
        names.extend(above.iter().map(OsStr::to_owned));
        let folder = self.sub_folder(&names)?;
        let to = free_name(&folder, name)?;
        if let Verdict::Refused(reason) = verdict {
            write_synced(&reason_beside(&to), reason)?;
            sync(&folder)?;
        }
        fs::rename(&from, &to)?;
        sync(&folder)?;
        sync(&self.path.join(above))
    }

    /// A folder below this one, made where it is missing. A link in its place is not followed.
    fn sub_folder(&self, names: &[OsString]) -> io::Result<PathBuf> {
        let mut path = self.path.clone();
        for name in names {
            let above = path.clone();
            path.push(name);
            match fs::create_dir(&path) {
                Ok(()) => sync(&above)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            if !fs::symlink_metadata(&path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        Ok(path)
    }

    /// Deletes some of the files that were done longer ago than `keep_ms`, by the date of their
    /// folder: the files' own times are the sources'.
    pub fn clean_done(&self, wall: UnixMs, keep_ms: u64) -> io::Result<()> {
        let oldest = date(UnixMs(wall.0.saturating_sub_unsigned(keep_ms)));
        let days = match fs::read_dir(self.path.join(DONE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            days => days?,
        };
        let mut left = CLEAN_FILES;
        for day in days {
            let day = day?;
            let name = day.file_name();
            let is_old = name
                .to_str()
                .is_some_and(|name| is_date(name) && name < oldest.as_str());
            if !is_old || !day.file_type()?.is_dir() {
                continue;
            }
            if !clean(&day.path(), &mut left)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Folder {
    /// The refused files, by name, at most so many. Links are not followed.
    pub fn refused(&self, most: usize) -> io::Result<Vec<RefusedFile>> {
        let top = self.path.join(REFUSED);
        let mut refused = Vec::new();
        let mut folders = vec![(PathBuf::new(), 0)];
        while let Some((above, depth)) = folders.pop() {
            let entries = match fs::read_dir(top.join(&above)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let name = above.join(entry.file_name());
                let kind = entry.file_type()?;
                if kind.is_dir() && depth < DEPTH_MAX {
                    folders.push((name, depth + 1));
                } else if kind.is_file() && !is_reason(&name) && refused.len() < most {
                    refused.push(RefusedFile {
                        bytes: entry.metadata()?.len(),
                        reason: read_reason(&top.join(&name)),
                        name: name.into_os_string(),
                    });
                }
            }
        }
        refused.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(refused)
    }

    /// Puts a refused file back to where it lay, so that it is taken anew; its reason goes. A file
    /// that lies there already stays, and this one too.
    pub fn replay(&self, name: &OsStr) -> io::Result<()> {
        let path = Path::new(name);
        let is_below = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !is_below || path.as_os_str().is_empty() || is_reason(path) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let top = self.path.join(REFUSED);
        let from = top.join(path);
        // A link on the way could lead to a file that is nobody's to hand in.
        for folder in from
            .ancestors()
            .skip(1)
            .take_while(|folder| folder.starts_with(&top))
        {
            if !fs::symlink_metadata(folder)?.is_dir() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        let to = self.path.join(path);
        if !fs::symlink_metadata(&from)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (above, _) = split(name);
        fs::create_dir_all(self.path.join(above))?;
        match fs::symlink_metadata(&to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        fs::rename(&from, &to)?;
        sync(&self.path.join(above))?;
        match fs::remove_file(reason_beside(&from)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sync(&self.path.join(REFUSED).join(above))
    }
}

fn reason_beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(REASON);
    PathBuf::from(beside)
}

fn is_reason(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(REASON.as_bytes())
}

/// What stands beside a refused file; nothing where nothing is to be read.
fn read_reason(path: &Path) -> String {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(reason_beside(path));
    let mut bytes = Vec::new();
    if let Ok(file) = opened {
        // What cannot be read to its end is shown as far as it goes.
        let _ = file.take(REASON_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Print {
    fn of(data: &fs::Metadata) -> Print {
        Print {
            bytes: data.size(),
            modified_ns: i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec()),
            inode: data.ino(),
        }
    }
}

/// Deletes a folder with what is in it, as far as `left` reaches; says whether it is gone.
fn clean(folder: &Path, left: &mut usize) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if !clean(&entry.path(), left)? {
                return Ok(false);
            }
            continue;
        }
        if *left == 0 {
            return Ok(false);
        }
        fs::remove_file(entry.path())?;
        *left -= 1;
    }
    fs::remove_dir(folder)?;
    Ok(true)
}

/// Whether files are looked for in a sub-folder.
fn is_open(path: &Path) -> bool {
    let is_ours = path == Path::new(DONE) || path == Path::new(REFUSED);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !is_ours && !name.starts_with(['.', '~', '$'])
}

/// The sub-folders of a file, and its own name.
pub fn split(name: &OsStr) -> (&Path, &OsStr) {
    let path = Path::new(name);
    let above = path.parent().unwrap_or(Path::new(""));
    (above, path.file_name().unwrap_or(name))
}

/// Whether an error says that a network share is gone for now, and nothing about a file.
pub fn is_away(error: &io::Error) -> bool {
    const AWAY: [Errno; 10] = [
        Errno::ESTALE,
        Errno::EIO,
        Errno::ENOTCONN,
        Errno::EHOSTDOWN,
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::ETIMEDOUT,
        Errno::ENODEV,
        Errno::ENXIO,
        Errno::EREMOTEIO,
    ];
    let code = error.raw_os_error().map(Errno::from_raw);
    code.is_some_and(|code| AWAY.contains(&code)) || error.kind() == io::ErrorKind::TimedOut
}

/// What is wrong with the folder, in Vietnamese and in English, and what to do.
pub fn folder_trouble(error: &io::Error) -> ([&'static str; 2], [&'static str; 2]) {
    match error.kind() {
        _ if is_away(error) => (
            [
                "ổ chia sẻ không trả lời",
                "the network share does not answer",
            ],
            [
                "Kiểm tra máy chủ tệp và mạng; khi ổ chia sẻ trở lại, trạm tự nhận tiếp.",
                "Check the file server and the network; the box goes on by itself when the share is back.",
            ],
        ),
        io::ErrorKind::NotFound => (
            ["không có thư mục này", "there is no such folder"],
            [
                "Tạo thư mục hoặc nối lại ổ chia sẻ.",
                "Make the folder, or mount the share again.",
            ],
        ),
        io::ErrorKind::PermissionDenied => (
            ["không có quyền đọc thư mục", "the folder may not be read"],
            [
                "Cấp quyền đọc và ghi cho tài khoản lienthong.",
                "Let the account lienthong read and write it.",
            ],
        ),
        io::ErrorKind::NotADirectory => (
            ["đường dẫn không phải là thư mục", "the path is no folder"],
            ["Sửa trong cấu hình.", "Correct the configuration."],
        ),
        _ => (
            ["không đọc được thư mục", "the folder cannot be read"],
            [
                "Kiểm tra đĩa hoặc ổ chia sẻ.",
                "Check the disk or the network share.",
            ],
        ),
    }
}

/// `*` stands for any characters, `?` for one; letters of ASCII in either case.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on when the last `*` must take one character more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || c.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// A name in `folder` that nothing has: the file's own, or with a number before its extension.
fn free_name(folder: &Path, name: &OsStr) -> io::Result<PathBuf> {
    let own = Path::new(name);
    let stem = own.file_stem().unwrap_or(name);
    for number in 0..NAMES_MAX {
        let mut candidate = stem.to_owned();
        if number > 0 {
            candidate.push(format!(".{number}"));
        }
        if let Some(extension) = own.extension() {
            candidate.push(".");
            candidate.push(extension);
        }
        let path = folder.join(candidate);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            found => found?,
        };
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Vietnam's day, `2026-11-20`.
fn date(wall: UnixMs) -> String {
    wall.to_string().chars().take(10).collect()
}

fn is_date(name: &str) -> bool {
    name.len() == 10 && name.parse::<jiff::civil::Date>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.txt", "TRAM_1.TXT", true),
            ("*.txt", "a.txt.bak", false),
            ("a*b*c", "aXbYbc", true),
            ("?.json", "1.json", true),
            ("?.json", "12.json", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_share_that_is_gone_says_nothing_about_a_file() {
        for code in [Errno::ESTALE, Errno::EIO, Errno::ENOTCONN, Errno::EHOSTDOWN] {
            assert!(
                is_away(&io::Error::from_raw_os_error(code as i32)),
                "{code}"
            );
        }
        for code in [Errno::ENOENT, Errno::EACCES, Errno::EISDIR] {
            assert!(
                !is_away(&io::Error::from_raw_os_error(code as i32)),
                "{code}"
            );
        }
    }

    #[test]
    fn unfinished_files_are_not_wanted() {
        let folder = Folder::new(Path::new("/"), &[]);
        for name in [".a.json", "a.PART", "a.tmp", "a.json~", "~$a.json"] {
            assert!(!folder.is_wanted(OsStr::new(name)), "{name}");
        }
        assert!(folder.is_wanted(OsStr::new("a.json")));
    }

    #[test]
    fn old_days_are_deleted_and_other_folders_stay() {
        let place = tempfile::tempdir().unwrap();
        let done = place.path().join("done");
        for day in ["2026-11-01", "2026-11-19", "khác"] {
            fs::create_dir_all(done.join(day)).unwrap();
            fs::write(done.join(day).join("a.json"), "{}").unwrap();
        }
        let folder = Folder::new(place.path(), &[]);
        let wall = UnixMs(1_795_136_400_000);
        assert_eq!(date(wall), "2026-11-20");
        folder.clean_done(wall, 7 * 86_400_000).unwrap();
        assert!(!done.join("2026-11-01").exists());
        assert!(done.join("2026-11-19/a.json").exists());
        assert!(done.join("khác/a.json").exists());
    }
}
