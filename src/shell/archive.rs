//! Archives of backups: a tar file (POSIX ustar) compressed with zstd, so that any system opens it.
//! The last member, `manifest.json`, names all others with length and SHA-256 and says what they are;
//! an archive without it is torn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::evidence::Hasher;
use crate::model::chunk::Digest;

const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// zstd's level: entries and most attachments are compressed already.
const LEVEL: i32 = 1;
const PIECE_BYTES: usize = 64 * 1024;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Relative, with `/` between folders.
    pub name: String,
    pub bytes: u64,
    pub sha256: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest<T> {
    format: String,
    #[serde(flatten)]
    facts: T,
    members: Vec<Member>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the archive is damaged or cut off: {0}")]
    Damaged(String),
    #[error("the archive is a {found}, not a {wanted}")]
    Foreign { found: String, wanted: String },
}

/// An archive that is being written, under another name until it is whole.
pub struct Writer {
    tar: tar::Builder<zstd::Encoder<'static, File>>,
    path: PathBuf,
    part: PathBuf,
    members: Vec<Member>,
}

impl Writer {
    /// Begins an archive that is to lie at `path`, where nothing lies yet.
    pub fn create(path: &Path) -> io::Result<Writer> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        let mut encoder = zstd::Encoder::new(file, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Writer {
            tar: tar::Builder::new(encoder),
            path: path.to_owned(),
            part,
            members: Vec::new(),
        })
    }

    /// Adds a file, which nobody changes meanwhile.
    pub fn add(&mut self, name: &str, file: File) -> io::Result<()> {
        let bytes = file.metadata()?.len();
        let mut content = Hashing::new(file.take(bytes));
        self.tar
            .append_data(&mut header(bytes), name, &mut content)?;
        if content.bytes != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let sha256 = content.hasher.finish();
        self.members.push(Member {
            name: name.to_owned(),
            bytes,
            sha256,
        });
        Ok(())
    }

    /// Ends the archive, syncs it and gives it its name; returns its length.
    pub fn finish<T: Serialize>(mut self, format: &str, facts: &T) -> io::Result<u64> {
        let manifest = Manifest {
            format: format.to_owned(),
            facts,
            members: std::mem::take(&mut self.members),
        };
        let text = serde_json::to_vec_pretty(&manifest)?;
        let mut header = header(text.len() as u64);
        self.tar
            .append_data(&mut header, MANIFEST, text.as_slice())?;
        let file = self.tar.into_inner()?.finish()?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(&self.part, &self.path)?;
        let folder = self.path.parent().filter(|at| !at.as_os_str().is_empty());
        match File::open(folder.unwrap_or(Path::new(".")))?.sync_all() {
            // Some network shares cannot sync a folder.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
            _ => Ok(bytes),
        }
    }

    /// Gives the archive up.
    pub fn abandon(self) {
        // What cannot be removed is written over the next time.
        let _ = fs::remove_file(&self.part);
    }
}

/// Every time is the same, so that the same content gives the same archive.
fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// Reads an archive once from its beginning to its end. `take` gets each member with its name; it may
/// leave content unread. What it was given counts only when this returns.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    format: &str,
    mut take: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<(T, Vec<Member>), ArchiveError> {
    let file = File::open(path)?;
    let decoder = zstd::Decoder::new(file).map_err(damaged)?;
    let mut tar = tar::Archive::new(decoder);
    let mut found = Vec::new();
    let mut manifest = None;
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .ok()
            .filter(|name| is_plain(name))
            .ok_or_else(|| ArchiveError::Damaged("a member's name".to_owned()))?;
        if name == MANIFEST {
            let mut text = Vec::new();
            entry
                .take(MANIFEST_BYTES_MAX)
                .read_to_end(&mut text)
                .map_err(damaged)?;
            manifest = Some(text);
            break;
        }
        let mut content = Hashing::new(&mut entry);
        take(&name, &mut content)?;
        io::copy(&mut content, &mut io::sink()).map_err(damaged)?;
        found.push(Member {
            name,
            bytes: content.bytes,
            sha256: content.hasher.finish(),
        });
    }
    let text = manifest.ok_or_else(|| ArchiveError::Damaged(format!("it has no {MANIFEST}")))?;
    // The checksum of the whole stands at its end.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(damaged)?;
    judge(&text, format, found)
}

fn judge<T: DeserializeOwned>(
    text: &[u8],
    format: &str,
    found: Vec<Member>,
) -> Result<(T, Vec<Member>), ArchiveError> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let bad = |error: serde_json::Error| ArchiveError::Damaged(error.to_string());
    let head: Head = serde_json::from_slice(text).map_err(bad)?;
    if head.format != format {
        return Err(ArchiveError::Foreign {
            found: head.format,
            wanted: format.to_owned(),
        });
    }
    let manifest: Manifest<T> = serde_json::from_slice(text).map_err(bad)?;
    let differs = |(a, b): (&Member, &Member)| (a != b).then(|| a.name.clone());
    let mut pairs = manifest.members.iter().zip(&found);
    if let Some(name) = pairs.find_map(differs) {
        return Err(ArchiveError::Damaged(name));
    }
    if manifest.members.len() != found.len() {
        return Err(ArchiveError::Damaged("a member is missing".to_owned()));
    }
    Ok((manifest.facts, found))
}

fn damaged(error: io::Error) -> ArchiveError {
    ArchiveError::Damaged(error.to_string())
}

/// Only names that stay within a folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0'])
        })
}

/// Writes a member's content into a new file and syncs it.
pub fn write_out(path: &Path, content: &mut dyn Read) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match content.read(&mut piece)? {
            0 => break,
            length => file.write_all(&piece[..length])?,
        }
    }
    file.sync_all()?;
    Ok(file)
}

/// Counts and hashes what is read through it.
struct Hashing<R> {
    inner: R,
    bytes: u64,
    hasher: Hasher,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Hashing<R> {
        Hashing {
            inner,
            bytes: 0,
            hasher: Hasher::default(),
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.bytes += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Facts {
        who: String,
    }

    fn archive(folder: &Path) -> PathBuf {
        let path = folder.join("a.tar.zst");
        let mut writer = Writer::create(&path).unwrap();
        for (name, content) in [("box.db", "một"), ("blobs/ab/abc", "hai")] {
            let source = folder.join("source");
            fs::write(&source, content.repeat(50_000)).unwrap();
            writer.add(name, File::open(&source).unwrap()).unwrap();
        }
        let facts = Facts { who: "xa".into() };
        writer.finish("thu/1", &facts).unwrap();
        path
    }

    fn all(path: &Path, format: &str) -> Result<(Facts, Vec<(String, usize)>), ArchiveError> {
        let mut seen = Vec::new();
        let (facts, members) = read(path, format, |name, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            seen.push((name.to_owned(), bytes.len()));
            Ok(())
        })?;
        assert_eq!(members.len(), seen.len());
        Ok((facts, seen))
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path());
        let (facts, seen) = all(&path, "thu/1").unwrap();
        assert_eq!(facts.who, "xa");
        let sizes = [
            ("box.db".to_owned(), "một".len() * 50_000),
            ("blobs/ab/abc".to_owned(), 150_000),
        ];
        assert_eq!(seen, sizes);
        assert!(!folder.path().join("a.tar.zst.part").exists());
        let again = Writer::create(&path).err().unwrap();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let foreign = all(&path, "khac/1").unwrap_err();
        assert!(matches!(foreign, ArchiveError::Foreign { .. }), "{foreign}");
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path());
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            // zstd ignores a few bits of its frame's head; what is read then is what was written.
            if let Ok((facts, seen)) = all(&path, "thu/1") {
                assert_eq!((facts.who.as_str(), seen.len()), ("xa", 2), "byte {at}");
                assert_eq!(seen[1].1, 150_000);
            }
            fs::write(&path, &whole[..at]).unwrap();
            assert!(all(&path, "thu/1").is_err(), "cut at {at}");
        }
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", "/etc/passwd", "../a", "a/../b", "a//b", ".", "a\\b"] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("blobs/ab/abcdef"));
    }
}
