//! Backups of the hub: database, state of the outputs, attachments, and everything in the folder of the
//! configuration, keys included, in one archive (see `shell::archive`). It is made while the hub runs.
//!
//! After a restore the boxes, which keep a tail of what they had receipts for, send again what the
//! database lacks; what goes down begins a new epoch where a box has more than the database knows of.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::engine::parts::folder_beside;
use crate::hub::config::{self, Config};
use crate::hub::verify::verify;
use crate::hub::{output, registry};
use crate::model::UnixMs;
use crate::shell::archive::{self, Writer};
use crate::shell::replace::{self, Places, Scratch, files_in, folder_of, is_digest};
use crate::store::backup::{check_pages, copy_into, is_unused};
use crate::store::hub_view::HubView;

const FORMAT: &str = "lienthong-hub-backup/1";
const STORE: &str = "trucd.db";
const OUTPUTS: &str = "outputs.db";
const BLOBS: &str = "blobs";
/// Within it: what has come so far of attachments that are on their way; the database counts on it.
const PARTS: &str = "parts";
/// What lies in the folder of the configuration: keys, certificates, boxes' material.
const SETTINGS: &str = "settings";
/// Larger files in that folder are none of ours.
const SETTING_BYTES_MAX: u64 = 1 << 20;
/// Folders within it are looked into so deep.
const DEPTH_MAX: usize = 3;

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    hub: String,
    /// RFC 3339.
    made_at: String,
    /// Of the program.
    version: String,
    entries: u64,
    with_attachments: bool,
}

/// `trucd backup FILE`: what it says to the administrator.
pub fn backup(
    config: &Config,
    path: &Path,
    with_attachments: bool,
    now: UnixMs,
) -> anyhow::Result<String> {
    let shown = path.display();
    ensure!(
        !path.exists(),
        "{shown} đã có; chọn tên khác / {shown} exists already; choose another name"
    );
    registry::existing_store(config)?;
    let name = path.file_name().context("the path names no file")?;
    let scratch = format!(".{}.trucd-backup", name.to_string_lossy());
    let scratch = Scratch::make(&std::path::absolute(path)?.with_file_name(scratch))?;
    let copy = scratch.0.join(STORE);
    copy_into(&config.store.path, &copy).context("cannot copy the database")?;
    let outputs = output::outlook::store_path(config);
    if outputs.exists() {
        copy_into(&outputs, &scratch.0.join(OUTPUTS)).context("cannot copy the outputs' state")?;
    }
    let entries = sound(&scratch.0).context("the database is not sound; see trucd verify")?;
    let facts = Facts {
        hub: config.hub.name.clone(),
        made_at: now.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        entries,
        with_attachments,
    };
    let mut writer = Writer::create(path).with_context(|| format!("cannot write {shown}"))?;
    let written = match add_all(&mut writer, config, &scratch.0, with_attachments) {
        Ok(()) => writer.finish(FORMAT, &facts),
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    };
    let bytes = written.with_context(|| format!("cannot write {shown}"))?;
    let read = archive::read::<Facts>(path, FORMAT, |_, _| Ok(()));
    let (again, members) = read.with_context(|| format!("{shown}, read again"))?;
    ensure!(again == facts, "{shown} holds something else, read again");
    Ok(format!(
        "Đã sao lưu và đọc lại đúng: {shown}, {bytes} byte, {entries} mục, {0} tệp. Tệp này chứa khóa của trục: \
         cất giữ như giữ khóa.\n\
         Made and read again: {shown}, {bytes} bytes, {entries} entries, {0} files. It holds the hub's keys: \
         keep it as safe.\n",
        members.len()
    ))
}

fn add_all(
    writer: &mut Writer,
    config: &Config,
    scratch: &Path,
    with_attachments: bool,
) -> io::Result<()> {
    for name in [STORE, OUTPUTS] {
        let copy = scratch.join(name);
        if copy.exists() {
            writer.add(name, File::open(copy)?)?;
        }
    }
    for (name, path) in settings_in(config)? {
        writer.add(&name, File::open(path)?)?;
    }
    if with_attachments {
        let is_ours = |group: &str, name: &str| group == PARTS || is_digest(name);
        for (name, path) in files_in(&folder_beside(&config.store.path), BLOBS, is_ours)? {
            match File::open(path) {
                // Its time was over.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => writer.add(&name, file?)?,
            }
        }
    }
    Ok(())
}

/// The files of the configuration's folder, without the stores: name in the archive, path.
fn settings_in(config: &Config) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![(SETTINGS.to_owned(), config.folder.clone(), 0)];
    while let Some((name, folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let Ok(own) = entry.file_name().into_string() else {
                continue;
            };
            // Other backups.
            if own.ends_with(".zst") || own.ends_with(".part") {
                continue;
            }
            let is_store = [&config.store.path, &output::outlook::store_path(config)]
                .into_iter()
                .any(|store| {
                    path.as_os_str()
                        .as_encoded_bytes()
                        .starts_with(store.as_os_str().as_encoded_bytes())
                });
            let is_blobs = path == folder_beside(&config.store.path);
            let name = format!("{name}/{own}");
            if kind.is_dir() && !is_blobs && depth < DEPTH_MAX {
                folders.push((name, path, depth + 1));
            } else if kind.is_file() && !is_store && entry.metadata()?.len() <= SETTING_BYTES_MAX {
                found.push((name, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Checks a copy of the stores to the last signature; returns how many entries there are.
fn sound(folder: &Path) -> anyhow::Result<u64> {
    for name in [STORE, OUTPUTS] {
        let store = folder.join(name);
        if store.exists() {
            check_pages(&store).with_context(|| name.to_owned())?;
        }
    }
    let view = HubView::open(&folder.join(STORE))?;
    let mut entries = 0;
    verify(&view, None, |summary| entries += summary.entries)?;
    Ok(entries)
}

/// `trucd restore FILE`: the hub must be stopped. Where the folder of the configuration is empty it is
/// filled too; keys that are there are never changed.
pub fn restore(
    config_file: &Path,
    path: &Path,
    replace: bool,
    now: UnixMs,
) -> anyhow::Result<String> {
    let shown = path.display();
    let folder = folder_of(config_file).to_owned();
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let settings = Scratch::make(&folder.join("restore-settings.tmp"))?;
    let take_settings = |name: &str, content: &mut dyn io::Read| {
        if name.starts_with("settings/") {
            archive::write_out(&settings.0.join(name), content)?;
        }
        Ok(())
    };
    let useless = |error: archive::ArchiveError| {
        anyhow!(
            "{shown} không dùng được, chưa có gì bị thay đổi; dùng bản sao lưu khác / {shown} is of no use, \
             nothing was changed; use another backup ({error})"
        )
    };
    archive::read::<Facts>(path, FORMAT, take_settings).map_err(useless)?;
    let settings_folder = settings.0.join(SETTINGS);
    compare_keys(&settings_folder, &folder)?;
    put_settings(&settings_folder, &folder)?;

    let config = config::load(config_file)?;
    let store = &config.store.path;
    finish(&config, now)?;
    if store.exists() {
        ensure!(
            is_unused(store).unwrap_or(true),
            "trục đang chạy; dừng trước: systemctl stop trucd / the hub runs; stop it first: systemctl stop trucd"
        );
        ensure!(
            replace,
            "{0} đã có dữ liệu; thêm --replace để cất sang một bên / {0} is there; say --replace to set it aside",
            store.display()
        );
    }
    let scratch = Scratch::make(&folder_of(store).join("restore.tmp"))?;
    let take = |name: &str, content: &mut dyn io::Read| {
        if !name.starts_with("settings/") {
            archive::write_out(&scratch.0.join(name), content)?;
        }
        Ok(())
    };
    let (facts, members) = archive::read::<Facts>(path, FORMAT, take).map_err(useless)?;
    let entries = sound(&scratch.0).context("the database in the backup is not sound")?;
    ensure!(
        entries == facts.entries,
        "{entries} entries instead of {}",
        facts.entries
    );
    scratch.make_ready()?;
    finish(&config, now)?;
    let missing = match facts.with_attachments {
        true => "",
        false => {
            "Bản này không có nội dung tệp đính kèm: chép thư mục blobs lại. / It is without the contents \
                  of attachments: copy the folder blobs back.\n"
        }
    };
    Ok(format!(
        "Đã khôi phục: sao lưu lúc {0}, {entries} mục, {1} tệp. Khởi động: systemctl start trucd. Các trạm tự gửi \
         lại phần thiếu.\n\
         Restored: made at {0}, {entries} entries, {1} files. Start it: systemctl start trucd. The boxes send \
         again what is missing.\n{missing}",
        facts.made_at,
        members.len()
    ))
}

/// A database under another hub's keys would be of no use to any box.
fn compare_keys(from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in ["ca.key", "receipt.key", "seal.key"] {
        let (old, new) = (to.join(name), from.join(name));
        if old.exists() && new.exists() && fs::read(&old)? != fs::read(&new)? {
            bail!(
                "{0} là khóa của một trục khác; chuyển thư mục {1} đi rồi khôi phục lại / {0} is the key of another \
                 hub; move the folder {1} away and restore again",
                old.display(),
                to.display()
            );
        }
    }
    Ok(())
}

/// Puts files where there are none of that name.
fn put_settings(from: &Path, to: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            match DirBuilder::new().mode(0o700).create(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error.into());
                }
                _ => put_settings(&path, &place)?,
            }
        } else if !place.exists() {
            fs::rename(&path, &place)
                .with_context(|| format!("cannot write {}", place.display()))?;
        }
    }
    File::open(to)?.sync_all()?;
    Ok(())
}

/// Puts a restored database in its place, where a restore has got so far; before it is opened.
pub fn finish(config: &Config, now: UnixMs) -> anyhow::Result<()> {
    let store = &config.store.path;
    let places = Places {
        stores: vec![
            (STORE, store.clone()),
            (OUTPUTS, output::outlook::store_path(config)),
        ],
        files: vec![(BLOBS, folder_beside(store))],
    };
    replace::finish(folder_of(store), &places, now)
}
