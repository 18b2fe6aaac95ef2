//! Stores that take the place of others: what is unpacked lies whole and synced in `restore.ready` beside
//! the store before anything is touched, so that a crash at any point leaves the old or leads to the
//! new. Nothing that was there is deleted; it is set aside under another name.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use nix::unistd::geteuid;

use crate::model::UnixMs;
use crate::model::chunk::Digest;

const READY: &str = "restore.ready";

/// Where what was unpacked belongs, by its name there.
pub struct Places {
    pub stores: Vec<(&'static str, PathBuf)>,
    /// Folders with folders of files, which are added to what is there.
    pub files: Vec<(&'static str, PathBuf)>,
}

/// Puts what is ready in its place; after a crash at any point the same is done again. To be called by
/// the owner of the stores before they are opened.
pub fn finish(folder: &Path, places: &Places, now: UnixMs) -> anyhow::Result<()> {
    let ready = folder.join(READY);
    if !ready.is_dir() {
        return Ok(());
    }
    for (name, place) in &places.stores {
        let new = ready.join(name);
        if new.exists() {
            let kept = set_aside(place, "replaced", now);
            ensure!(!place.exists(), "the former store cannot be set aside");
            tracing::warn!(files = kept, "the former store was set aside");
            fs::rename(&new, place).with_context(|| format!("cannot put {name} in place"))?;
            sync_folder(folder)?;
        }
    }
    for (kind, beside) in &places.files {
        for (_, file) in files_in(&ready.join(kind), kind, |_, _| true)? {
            let name = file.file_name().expect("a file has a name");
            let group = file.parent().and_then(Path::file_name).expect("its folder");
            let group = beside.join(group);
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&group)?;
            own(beside)?;
            own(&group)?;
            fs::rename(&file, group.join(name))?;
            sync_folder(&group)?;
        }
    }
    fs::remove_dir_all(&ready).context("cannot clear up after a restore")?;
    Ok(sync_folder(folder)?)
}

/// Renames the files of the store; returns their new names, which say `why`.
pub fn set_aside(store: &Path, why: &str, now: UnixMs) -> String {
    let named = |suffix: &str| PathBuf::from(format!("{}{suffix}", store.display()));
    let aside = format!(".{why}-{}", now.0 / 1_000);
    let mut kept = Vec::new();
    for suffix in ["", "-wal", "-shm"] {
        let from = named(suffix);
        let to = named(&format!("{aside}{suffix}"));
        match std::fs::rename(&from, &to) {
            Ok(()) => kept.push(to.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, file = %from.display(), "a file of the store cannot be set aside");
            }
        }
    }
    kept.join(" ")
}

/// Files in the folders of a folder of which `is_ours` says so by folder and name: name in an archive,
/// path.
pub fn files_in(
    folder: &Path,
    kind: &str,
    is_ours: impl Fn(&str, &str) -> bool,
) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let groups = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        groups => groups?,
    };
    for group in groups {
        let group = group?;
        if !group.file_type()?.is_dir() {
            continue;
        }
        let group_name = group.file_name().to_string_lossy().into_owned();
        for file in fs::read_dir(group.path())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if is_ours(&group_name, &name) {
                found.push((format!("{kind}/{group_name}/{name}"), file.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file is named as whole contents are.
pub fn is_digest(name: &str) -> bool {
    name.parse::<Digest>().is_ok()
}

/// Gives a new file to the owner of the store's folder: a command that root runs must not leave
/// files that the daemon cannot open. Others own what they make already.
pub fn hand_over(file: &File, store: &Path) {
    let folder = store
        .parent()
        .and_then(|folder| std::fs::metadata(folder).ok());
    if geteuid().is_root()
        && let Some(folder) = folder
        && let Err(error) = fchown(file, Some(folder.uid()), Some(folder.gid()))
    {
        tracing::warn!(%error, "a new file cannot be given to the owner of the store's folder");
    }
}

/// The folder in which a store lies.
pub fn folder_of(store: &Path) -> &Path {
    match store.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A folder for our eyes only, which goes with this.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn make(folder: &Path) -> io::Result<Scratch> {
        remove(folder)?;
        DirBuilder::new().mode(0o700).create(folder)?;
        own(folder)?;
        Ok(Scratch(folder.to_owned()))
    }

    pub fn clear(&self) -> io::Result<()> {
        remove(&self.0)?;
        DirBuilder::new().mode(0o700).create(&self.0)
    }

    /// From here on [`finish`] puts its content in place.
    pub fn make_ready(&self) -> anyhow::Result<()> {
        let above = folder_of(&self.0);
        sync_tree(&self.0).context("cannot sync what was unpacked")?;
        fs::rename(&self.0, above.join(READY)).context("cannot make the restored store ready")?;
        Ok(sync_folder(above)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is removed the next time.
        let _ = remove(&self.0);
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn own(path: &Path) -> io::Result<()> {
    hand_over(&File::open(path)?, path);
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Syncs everything in a folder and gives it to the owner of the folder around it.
fn sync_tree(folder: &Path) -> io::Result<()> {
    own(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync_tree(&path)?,
            false => {
                let file = File::open(&path)?;
                hand_over(&file, &path);
                file.sync_all()?;
            }
        }
    }
    sync_folder(folder)
}
