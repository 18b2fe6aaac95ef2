//! Kind `ftp_fetch`: fetches files from a logger's own FTP server.
//!
//! A file is fetched when two looks found it with the same size and time, oldest first, and taken as
//! in the drop folder. What was taken is remembered in the source's cursor by name, size and time,
//! for as long as the server still lists it; so the memory is as large as the listing. The cursor is
//! written behind some files at a time: what a crash leaves unwritten is fetched again, and the
//! file's name and content make that harmless. A file is deleted or renamed at the server only when
//! its records are committed or it lies in `refused/` here.

mod client;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::edge::config::ftp_fetch::{After, FtpFetchConfig};
use crate::edge::connectors::{Fault, Post};
use crate::edge::folder::files::{FILE_BYTES_MAX, Folder};
use crate::edge::ftp::PLAIN_FTP;
use crate::edge::ftp::shelf::Shelf;
use crate::edge::ftp::station::{Fate, Station, blocking};
use crate::edge::ftp_fetch::client::{Client, Listed};
use crate::edge::rows::{Batch, Rows};
use crate::edge::status::Progress;
use crate::edge::trust::no_authority;
use crate::shell::clock::Clock;
use crate::shell::tls;

/// Files between two writings of the cursor.
const FILES_PER_CURSOR: usize = 50;
/// End of the name of a file that was taken.
const TAKEN_END: &str = ".da-nhan";
const DAY_S: u64 = 86_400;

/// Size and time of what was taken, by name.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    taken: BTreeMap<String, (u64, u64)>,
}

/// Looks and fetches until it is told to stop; a fault is why it cannot.
pub async fn fetch(
    config: FtpFetchConfig,
    source: crate::edge::folder::FolderSource,
    rows: Rows,
    post: Post,
) -> Result<(), Fault> {
    post.warn(clear_text(&config).as_ref()).await;
    let cursor = rows.cursor().await?;
    let cursor = cursor.and_then(|text| serde_json::from_str(&text).ok());
    let (door, clock, home) = (
        Arc::clone(rows.door()),
        post.clock().clone(),
        source.folder.path.clone(),
    );
    let station = blocking(move || Station::open(source, door, clock)).await;
    let station = station.map_err(|error| no_folder(&home, &error))?;
    station.take_left_over().await;
    let mut fetcher = Fetcher {
        station,
        rows,
        post: post.clone(),
        cursor: cursor.unwrap_or_default(),
        seen: BTreeMap::new(),
        config,
    };
    loop {
        post.working();
        fetcher.round().await?;
        if post.is_stopping() {
            return Ok(());
        }
        post.waiting().await;
        fetcher.station.clean_done().await;
        if !post
            .pause(Duration::from_millis(fetcher.config.poll_ms))
            .await
        {
            return Ok(());
        }
    }
}

/// Fetches the oldest files into `folder`, for a look that keeps nothing.
pub async fn sample(
    config: &FtpFetchConfig,
    folder: PathBuf,
    clock: Clock,
    files_max: usize,
) -> Result<(), Fault> {
    let config = config.clone();
    blocking(move || {
        let (mut client, mut listed) = look(&config, &clock)?;
        let wanted = Folder::new(&folder, &config.folder.patterns);
        listed.retain(|file| {
            wanted.is_wanted(OsStr::new(&file.name)) && file.bytes <= FILE_BYTES_MAX
        });
        listed.sort_by(|a, b| (a.modified_s, &a.name).cmp(&(b.modified_s, &b.name)));
        for file in listed.iter().take(files_max) {
            let bytes = client.fetch(&file.name, FILE_BYTES_MAX)?;
            let written = std::fs::write(folder.join(&file.name), bytes);
            written.map_err(|error| no_folder(&folder, &error))?;
        }
        client.close();
        Ok(())
    })
    .await
}

/// Logs in and lists; blocks.
fn look(config: &FtpFetchConfig, clock: &Clock) -> Result<(Client, Vec<Listed>), Fault> {
    let tls = match &config.authority {
        Some(file) => Some(tls::trusting(file, clock).map_err(no_authority)?),
        None => None,
    };
    let mut client = Client::open(config, tls)?;
    let listed = client.list()?;
    Ok((client, listed))
}

struct Fetcher {
    config: FtpFetchConfig,
    station: Station,
    rows: Rows,
    post: Post,
    cursor: Cursor,
    /// What the look before found.
    seen: BTreeMap<String, Listed>,
}

impl Fetcher {
    async fn round(&mut self) -> Result<(), Fault> {
        let (config, clock) = (self.config.clone(), self.post.clock().clone());
        let opened = blocking(move || look(&config, &clock));
        let (mut client, listed) = opened.await?;
        let due = self.notice(listed);
        let count = due.len() as u64;
        for (number, file) in due.into_iter().enumerate() {
            if self.post.is_stopping() {
                break;
            }
            let progress = Progress {
                rows: number as u64,
                of: Some(count),
            };
            self.post.progress(Some(progress));
            client = self.take(client, file).await?;
            if (number + 1) % FILES_PER_CURSOR == 0 {
                self.save().await?;
            }
        }
        self.post.progress(None);
        self.save().await?;
        blocking(move || client.close()).await;
        Ok(())
    }

    /// Forgets what is no longer listed; gives what is due, the oldest first.
    fn notice(&mut self, listed: Vec<Listed>) -> Vec<Listed> {
        let wanted: BTreeMap<String, Listed> = listed
            .into_iter()
            .filter(|file| self.station.is_final(&file.name) && !file.name.ends_with(TAKEN_END))
            .map(|file| (file.name.clone(), file))
            .collect();
        self.cursor
            .taken
            .retain(|name, _| wanted.contains_key(name));
        let is_due = |file: &&Listed| {
            let taken = self.cursor.taken.get(&file.name);
            let is_taken = taken.is_some_and(|taken| is_same(*taken, file));
            !is_taken && self.seen.get(&file.name) == Some(*file)
        };
        let mut due: Vec<Listed> = wanted.values().filter(is_due).cloned().collect();
        due.sort_by(|a, b| (a.modified_s, &a.name).cmp(&(b.modified_s, &b.name)));
        self.seen = wanted;
        due
    }

    /// Fetches one file, takes it, and does with it at the server what was asked for.
    async fn take(&mut self, mut client: Client, file: Listed) -> Result<Client, Fault> {
        let name = file.name.clone();
        if FILE_BYTES_MAX < file.bytes {
            self.station
                .refused("tệp ở máy chủ FTP lớn hơn giới hạn 8 MiB; chia nhỏ tệp")
                .await;
            self.cursor
                .taken
                .insert(name, (file.bytes, file.modified_s));
            return Ok(client);
        }
        let asked = name.clone();
        let fetched = blocking(move || {
            let bytes = client.fetch(&asked, FILE_BYTES_MAX);
            (client, bytes)
        });
        let (mut client, bytes) = fetched.await;
        let bytes = bytes?;
        if bytes.len() as u64 != file.bytes {
            // It is still being written; a later look finds it settled.
            self.seen.remove(&name);
            return Ok(client);
        }
        let (placed, undone) = (name.clone(), name.clone());
        let place = move |shelf: &Shelf| {
            let mut upload = shelf.begin()?;
            upload.write(&bytes)?;
            upload.sync()?;
            shelf.keep_final(upload, &placed)
        };
        let fate = self
            .station
            .take(place, move |shelf| shelf.give_up(&undone))
            .await;
        match fate {
            Fate::Committed | Fate::KeptApart => {}
            Fate::Later | Fate::Failed => return Err(not_now(fate)),
        }
        self.cursor
            .taken
            .insert(name.clone(), (file.bytes, file.modified_s));
        let after = self.config.after;
        let done = blocking(move || {
            let done = match after {
                After::Keep => Ok(()),
                After::Delete => client.delete(&name),
                After::Rename => client.rename(&name, &format!("{name}{TAKEN_END}")),
            };
            (client, done)
        });
        let (client, done) = done.await;
        done?;
        Ok(client)
    }

    async fn save(&self) -> Result<(), Fault> {
        let text = serde_json::to_string(&self.cursor).expect("names and numbers are JSON");
        if self.rows.cursor().await?.as_deref() == Some(&text) {
            return Ok(());
        }
        let batch = Batch {
            cursor: Some(text),
            ..Batch::default()
        };
        self.rows.hand_in(batch).await.map(|_| ())
    }
}

/// Whether it is the file that was taken. Listings drop the time of day of files that grow old.
fn is_same((bytes, modified_s): (u64, u64), file: &Listed) -> bool {
    let is_day_alone =
        file.modified_s.is_multiple_of(DAY_S) && modified_s / DAY_S == file.modified_s / DAY_S;
    bytes == file.bytes && (modified_s == file.modified_s || is_day_alone)
}

fn clear_text(config: &FtpFetchConfig) -> Option<Fault> {
    let server = &config.server;
    config.authority.is_none().then(|| {
        Fault::new(
            PLAIN_FTP,
            [
                format!("lấy tệp từ {server} qua FTP không mã hóa: mật khẩu và số liệu đi trần trên mạng"),
                format!("files come from {server} over plain FTP: passwords and files travel in the clear"),
            ],
            [
                "Bật FTPS ở thiết bị đó rồi đặt ca.",
                "Switch FTPS on at that logger, then set ca.",
            ],
        )
    })
}

fn no_folder(home: &std::path::Path, error: &std::io::Error) -> Fault {
    let home = home.display();
    Fault::new(
        "ftp_folder",
        [
            format!("không dùng được thư mục {home}: {error}"),
            format!("the folder {home} cannot be used: {error}"),
        ],
        [
            "Tạo thư mục và cho tài khoản lienthong quyền đọc, ghi.",
            "Make the folder and let the service's user read and write it.",
        ],
    )
}

fn not_now(fate: Fate) -> Fault {
    let [vi, en] = match fate {
        Fate::Failed => [
            "đĩa của trạm không ghi được tệp",
            "the box's disk cannot keep the file",
        ],
        _ => [
            "trạm tạm thời không nhận bản ghi",
            "the box does not take records now",
        ],
    };
    Fault::new(
        "store_closed",
        [
            format!("{vi}; tệp còn nguyên ở máy chủ FTP"),
            format!("{en}; the file stays at the FTP server"),
        ],
        [
            "Xem mục Kho dữ liệu và đĩa; nguồn tự lấy lại khi kho hoạt động.",
            "See the store's state and the disk; the source goes on by itself when the store works.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_file_is_known_again_also_when_its_listing_grows_old() {
        let file = |bytes, modified_s| Listed {
            name: "a.txt".to_owned(),
            bytes,
            modified_s,
        };
        let taken = (10, 20_000 * DAY_S + 3_661);
        assert!(is_same(taken, &file(10, 20_000 * DAY_S + 3_661)));
        assert!(is_same(taken, &file(10, 20_000 * DAY_S)));
        assert!(!is_same(taken, &file(11, 20_000 * DAY_S + 3_661)));
        assert!(!is_same(taken, &file(10, 20_000 * DAY_S + 3_720)));
        assert!(!is_same(taken, &file(10, 20_001 * DAY_S)));
    }
}
