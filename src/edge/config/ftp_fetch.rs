//! Settings of kind `ftp_fetch`: a logger's own FTP server, and what is taken from it.

use std::path::PathBuf;

use crate::catalogue::Dataset;
use crate::edge::config::ftp::PERSONAL;
use crate::edge::config::load::{address_at, one_of};
use crate::edge::config::{FolderConfig, table};
use crate::shell::dial::Address;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::systemd::credential;

const PORT: u16 = 21;
const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Clone)]
pub struct FtpFetchConfig {
    pub server: Address,
    /// Whom to trust; without it there is no TLS.
    pub authority: Option<PathBuf>,
    pub user: String,
    /// File with the password.
    pub password: Option<PathBuf>,
    /// Folder at the server.
    pub remote: String,
    pub after: After,
    pub poll_ms: u64,
    pub timeout_ms: u64,
    /// Where files are taken and kept here.
    pub folder: FolderConfig,
}

/// What becomes of a file at the server once it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Keep,
    Delete,
    /// It gets another end of its name.
    Rename,
}

pub fn read(mut section: Section, name: &str) -> Option<FtpFetchConfig> {
    let server = section.value("server", None, |text| {
        address_at(text, PORT, "192.168.1.50:21")
    });
    let authority = section.optional_path("ca");
    let user = section.value("user", Some("anonymous"), |text| Ok(text.to_owned()));
    let password = section.optional_path("password_file");
    let remote = section.value("folder", Some("/"), folder);
    let after = section.value("after", Some("keep"), |text| match text {
        "keep" => Ok(After::Keep),
        "delete" => Ok(After::Delete),
        "rename" => Ok(After::Rename),
        _ => Err(one_of(text, &["keep", "delete", "rename"])),
    });
    let poll_ms = section.duration("every", "1 min", 1_000..=7 * DAY_MS);
    let timeout_ms = section.duration("timeout", "30 s", 1_000..=600_000);
    let path = section.path("path", Some("/var/lib/lienthong/ftp-fetch"));
    let done_keep_ms = section.duration("done_keep", "30 d", 0..=3650 * DAY_MS);
    let format = table::format(&mut section);
    let patterns = section.texts("patterns", Some(&[]), |text| Ok(text.to_owned()));
    let station = section.rest("station");
    let table = table::read(&mut section);
    Some(FtpFetchConfig {
        server: server?,
        authority: authority?,
        user: user?,
        password: password?.map(credential),
        remote: remote?,
        after: after?,
        poll_ms: poll_ms?,
        timeout_ms: timeout_ms?,
        folder: FolderConfig {
            path: path?.join(name),
            format: format?,
            patterns: patterns?,
            recursive: false,
            settle_ms: 0,
            rescan_ms: DAY_MS,
            done_keep_ms: done_keep_ms?,
            station: station?,
            table: table?,
        },
    })
}

/// What only the catalogue can tell: `(key below the source, fault)`.
pub fn faults(config: &FtpFetchConfig, dataset: &Dataset) -> Vec<(String, Wrong)> {
    if config.authority.is_some() || dataset.sensitivity < PERSONAL {
        return Vec::new();
    }
    let id = &dataset.id;
    let wrong = Wrong {
        vi: format!("bộ dữ liệu “{id}” có dữ liệu cá nhân, không được đi qua FTP không mã hóa"),
        en: format!("dataset {id} holds personal data, which must not go through plain FTP"),
        hint_vi: "Bật FTPS ở máy chủ đó rồi đặt ca.".to_owned(),
        hint_en: "Switch FTPS on at that server, then set ca.".to_owned(),
    };
    vec![("ca".to_owned(), wrong)]
}

fn folder(text: &str) -> Result<String, Wrong> {
    match text.is_empty() || text.chars().any(char::is_control) {
        false => Ok(text.to_owned()),
        true => Err(Wrong::empty()),
    }
}
