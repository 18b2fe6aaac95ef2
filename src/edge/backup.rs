//! Backups of the box: everything that the hub does not have yet or cannot send again, in one archive
//! (see `shell::archive`), made while the daemon runs and tried out before it counts.
//!
//! In it: the box's store, the store of what came down without the copies of others' data, files. Not
//! in it: keys, passwords, the configuration; a new box gets its own from the hub. What is restored
//! begins a new epoch, so that nothing is sent again under old numbers.

pub mod problem;
pub mod schedule;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::edge::backup::problem::Problem;
use crate::edge::commands::Failure;
use crate::edge::config::load::{Loaded, load};
use crate::edge::config::{Config, StoreConfig};
use crate::edge::lock::{LockError, StoreLock};
use crate::edge::reserve::disk_free_bytes;
use crate::edge::run::engines::mint;
use crate::engine::parts::folder_beside;
use crate::engine::proof::verify_logs;
use crate::model::{BoxId, Lane, UnixMs};
use crate::shell::archive::{self, ArchiveError, Writer};
use crate::shell::clock::Clock;
use crate::shell::replace::{self, Places, Scratch, files_in, folder_of, is_digest};
use crate::store::backup::{check_pages, copy_into, is_made, strip_copies};
use crate::store::edge::{EdgeStore, Sync};
use crate::store::edge_status::EdgeView;
use crate::store::log::LogStore;
use crate::store::{Options, StoreError};

const FORMAT: &str = "lienthong-box-backup/1";
const BOX: &str = "box.db";
const DOWN: &str = "down.db";
/// Folders of files that lie beside the stores, in the archive under the same names.
const FILES: [&str; 2] = ["blobs", "received"];
const CACHE_BYTES: u64 = 1024 * 1024;
/// The disk keeps so much while a copy lies on it.
const ROOM_BYTES: u64 = 32 << 20;

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    #[serde(rename = "box")]
    pub box_id: BoxId,
    /// RFC 3339.
    pub made_at: String,
    /// Of the program.
    pub version: String,
    /// Entries in all lanes' logs, those with a receipt too.
    pub entries: u64,
    /// Of these, without a receipt.
    pub waiting: u64,
}

/// A backup that was made and tried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub facts: Facts,
    pub files: usize,
    /// Of the archive.
    pub bytes: u64,
}

/// Makes a backup and restores it on trial. On a fault no file is left.
pub fn make(config: &Config, path: &Path, now: UnixMs) -> anyhow::Result<Made> {
    let store = &config.store;
    let folder = folder_of(&store.path);
    let _lock = StoreLock::take(&folder.join("backup")).map_err(|error| match error {
        LockError::Held => {
            anyhow!("đang có một lần sao lưu khác / another backup is being made; wait for its end")
        }
        error => anyhow!(error),
    })?;
    if path.exists() {
        bail!(Problem::Exists(path.to_owned()));
    }
    let scratch = Scratch::make(&folder.join("backup.tmp"))?;
    let needed = [&store.path, &store.down_path()]
        .into_iter()
        .filter_map(|file| fs::metadata(file).ok())
        .map(|file| 2 * file.len())
        .sum::<u64>()
        + ROOM_BYTES;
    let free = disk_free_bytes(folder)?;
    ensure!(
        needed <= free,
        Problem::NoRoom {
            free_mib: free >> 20,
            needed_mib: needed >> 20,
        }
    );
    let (entries, waiting) = copy_stores(store, &scratch.0)?;
    let facts = Facts {
        box_id: config.box_id.clone(),
        made_at: now.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        entries,
        waiting,
    };
    let written = write(path, &scratch.0, folder, &facts)?;
    scratch.clear()?;
    let tried = try_out(config, path, &scratch.0, &facts);
    if tried.is_err() {
        fs::remove_file(path).context("a backup that is of no use cannot be removed")?;
    }
    let files = tried.context(Problem::Trial)?;
    Ok(Made {
        facts,
        files,
        bytes: written,
    })
}

/// Copies both stores as they stand; returns how many entries there are, and how many wait.
pub fn copy_stores(store: &StoreConfig, scratch: &Path) -> anyhow::Result<(u64, u64)> {
    let copy = scratch.join(BOX);
    copy_into(&store.path, &copy).context("the store cannot be copied")?;
    // On a new box it may be on its way; then nothing has come down yet.
    if store.down_path().exists() && is_made(&store.down_path())? {
        let copy = scratch.join(DOWN);
        copy_into(&store.down_path(), &copy).context("the store of what came down")?;
        strip_copies(&copy)?;
    }
    Ok((entries(&copy)?, waiting(&copy)?))
}

fn entries(store: &Path) -> Result<u64, StoreError> {
    EdgeView::open(store)?.entries()
}

fn waiting(store: &Path) -> Result<u64, StoreError> {
    let view = EdgeView::open(store)?;
    let mut waiting = 0;
    for lane in Lane::ALL {
        waiting += view.lane(lane)?.waiting;
    }
    Ok(waiting)
}

fn write(path: &Path, scratch: &Path, folder: &Path, facts: &Facts) -> anyhow::Result<u64> {
    let unwritable = || Problem::Unwritable(path.to_owned());
    let mut writer = Writer::create(path).with_context(unwritable)?;
    let add = |writer: &mut Writer| -> io::Result<()> {
        for name in [BOX, DOWN] {
            let copy = scratch.join(name);
            if copy.exists() {
                writer.add(name, File::open(copy)?)?;
            }
        }
        for kind in FILES {
            for (name, file) in files_in(&folder.join(kind), kind, |_, name| is_digest(name))? {
                match File::open(file) {
                    // It was sent and removed since; nothing in the copied store needs it any more, or
                    // the hub has it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    file => writer.add(&name, file?)?,
                }
            }
        }
        Ok(())
    };
    match add(&mut writer) {
        Ok(()) => writer.finish(FORMAT, facts),
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    }
    .with_context(unwritable)
}

/// Does with a backup what a restore does, in a folder of its own; returns how many files are in it.
fn try_out(config: &Config, path: &Path, scratch: &Path, wanted: &Facts) -> anyhow::Result<usize> {
    let (facts, files) = unpack(path, scratch, false)?;
    ensure!(facts == *wanted, "it says {facts:?}");
    let entries = renew(config, scratch, None)?;
    ensure!(
        entries == wanted.entries,
        "{entries} entries instead of {}",
        wanted.entries
    );
    Ok(files)
}

/// Takes an archive apart into a folder, its files of attachments only where they are wanted.
fn unpack(path: &Path, into: &Path, with_files: bool) -> anyhow::Result<(Facts, usize)> {
    let read = archive::read::<Facts>(path, FORMAT, |name, content| {
        let is_store = name == BOX || name == DOWN;
        if is_store || with_files {
            archive::write_out(&into.join(name), content)?;
        }
        Ok(())
    });
    let (facts, members) = read.map_err(|error| match error {
        ArchiveError::Io(error) => anyhow!(error).context(path.display().to_string()),
        error => anyhow!(
            "{0} không dùng được, dữ liệu của trạm không bị thay đổi; dùng bản sao lưu khác / {0} is of \
             no use, nothing was changed; use another backup ({error})",
            path.display()
        ),
    })?;
    let stores = members.iter().filter(|m| m.name == BOX || m.name == DOWN);
    let stores = stores.count();
    ensure!(into.join(BOX).is_file(), "there is no {BOX} in it");
    Ok((facts, members.len() - stores))
}

/// Checks the stores in a folder to the last entry and gives them a new epoch; returns how many entries
/// there are.
fn renew(config: &Config, folder: &Path, said: Option<(UnixMs, &str)>) -> anyhow::Result<u64> {
    let options = Options {
        quota_bytes: config.store.quota_bytes,
        cache_bytes: CACHE_BYTES,
    };
    for name in [BOX, DOWN] {
        let store = folder.join(name);
        if store.exists() {
            check_pages(&store).with_context(|| format!("{name} in the backup"))?;
        }
    }
    let path = folder.join(BOX);
    let mut store = EdgeStore::open(&path, options, &config.box_id, mint())?;
    let entries = verify_logs(&store)?;
    store.begin(Sync::Full)?;
    store.begin_epoch(mint())?;
    if let Some((now, detail)) = said {
        store.add_event(now, "warning", "restored", detail)?;
    }
    store.commit()?;
    Ok(entries)
}

/// `tramd backup FILE`.
pub fn backup(config: &Path, file: &Path) -> Result<String, Failure> {
    let Loaded { config, .. } = load(config).map_err(Failure::Configuration)?;
    let now = Clock::start(UnixMs(0)).now().wall;
    let made = make(&config, file, now)?;
    Ok(format!(
        "Đã sao lưu và khôi phục thử tốt: {0}, {1} byte, {2} bản ghi ({3} chưa gửi), {4} tệp đính kèm.\n\
         Made and tried out: {0}, {1} bytes, {2} entries ({3} waiting), {4} files.\n",
        file.display(),
        made.bytes,
        made.facts.entries,
        made.facts.waiting,
        made.files
    ))
}

/// `tramd restore FILE`: the daemon must be stopped. What is there is set aside, never deleted.
pub fn restore(config: &Path, file: &Path, replace: bool) -> Result<String, Failure> {
    let Loaded { config, .. } = load(config).map_err(Failure::Configuration)?;
    let store = &config.store.path;
    let _lock = StoreLock::take(store).map_err(Failure::of_lock)?;
    let now = Clock::start(UnixMs(0)).now().wall;
    let (facts, entries, files) = put_back(&config, file, replace, now)?;
    Ok(format!(
        "Đã khôi phục: sao lưu lúc {0}, {entries} bản ghi, {files} tệp. Khởi động dịch vụ: systemctl start tramd\n\
         Restored: made at {0}, {entries} entries, {files} files. Start the service: systemctl start tramd\n",
        facts.made_at
    ))
}

/// Returns what the backup says of itself, how many entries and how many files were in it.
fn put_back(
    config: &Config,
    file: &Path,
    replace: bool,
    now: UnixMs,
) -> anyhow::Result<(Facts, u64, usize)> {
    let store = &config.store.path;
    finish(&config.store, now)?;
    if let Ok(waiting @ 1..) = waiting(store)
        && !replace
    {
        bail!(
            "trạm còn {waiting} bản ghi chưa gửi; khôi phục sẽ cất chúng sang một bên. Chờ gửi hết, hoặc thêm \
             --replace / the box holds {waiting} records that wait; a restore sets them aside. Let them be \
             sent first, or say --replace"
        );
    }
    let folder = folder_of(store);
    let scratch = Scratch::make(&folder.join("restore.tmp"))?;
    let (facts, files) = unpack(file, &scratch.0, true)?;
    ensure!(
        facts.box_id == config.box_id,
        "bản sao lưu là của trạm {0}, còn đây là trạm {1} / the backup is of box {0}, this is {1}",
        facts.box_id,
        config.box_id
    );
    let detail = format!("{}, {} entries", facts.made_at, facts.entries);
    let entries = renew(config, &scratch.0, Some((now, &detail)))?;
    scratch.make_ready()?;
    finish(&config.store, now)?;
    Ok((facts, entries, files))
}

/// Puts a restored store in its place, where a restore has got so far. To be called by the store's owner
/// before the store is opened.
pub fn finish(store: &StoreConfig, now: UnixMs) -> anyhow::Result<()> {
    let folder = folder_of(&store.path);
    let (path, down) = (store.path.clone(), store.down_path());
    let [blobs, received] = FILES;
    let places = Places {
        stores: vec![(BOX, path), (DOWN, down)],
        files: vec![
            (blobs, folder_beside(&store.path)),
            (received, folder.join(received)),
        ],
    };
    replace::finish(folder, &places, now)
}
