//! Kind `station`: environmental station files (Circular 10/2021/TT-BTNMT) written again, byte for
//! byte as the station sent them, to a folder, to an FTPS or an SFTP server, or to both. The path is
//! `<station>/yyyy/MM/dd/<file>`; a file appears there whole, under its own name, or not at all.

mod ftps;
mod sftp;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};
use serde::Deserialize;

use crate::evidence::sha256;
use crate::hub::config;
use crate::hub::output::event::Event;
use crate::hub::output::files::{of_disk, write_whole};
use crate::hub::output::{Adapter, Delivery, Failure, Receipt, Trouble, settings};
use crate::model::UnixMs;
use crate::model::record::Op;
use crate::shell::dial::Address;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::systemd::credential;

/// The circular wants a file within five minutes of its measurement.
const LIVE_MS_MAX: i64 = 300_000;
/// Bytes that a part of a path may have.
const NAME_BYTES_MAX: usize = 200;

#[derive(Debug, Clone)]
pub struct StationConfig {
    pub folder: Option<PathBuf>,
    pub push: Option<PushConfig>,
    /// Files that are flagged as old go below this folder; else they stand among the others.
    pub history: Option<String>,
}

/// A server that files are pushed to.
#[derive(Debug, Clone)]
pub struct PushConfig {
    pub server: Address,
    pub user: String,
    /// Folder on the server.
    pub remote: String,
    pub timeout: Duration,
    pub login: Login,
}

#[derive(Debug, Clone)]
pub enum Login {
    Ftps {
        password: PathBuf,
        ca: PathBuf,
    },
    /// Without encryption, where a department has nothing better.
    Ftp {
        password: PathBuf,
    },
    /// OpenSSH's own files.
    Sftp {
        key: PathBuf,
        known_hosts: PathBuf,
    },
}

pub fn settings(section: &mut Section) -> Option<StationConfig> {
    let folder = section.optional_path("folder");
    let history = section.optional("history_folder", |text| match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            "không dùng được làm tên thư mục",
            "is no folder's name",
            "Ví dụ: \"lich_su\".",
            "For example: \"lich_su\".",
        )),
    });
    let protocol = section.optional("protocol", |text| {
        const PROTOCOLS: [&str; 3] = ["ftps", "sftp", "ftp"];
        match PROTOCOLS.contains(&text) {
            true => Ok(text.to_owned()),
            false => Err(settings::one_of(text, &PROTOCOLS)),
        }
    });
    let timeout = settings::timeout(section);
    let (folder, history, protocol) = (folder?, history?, protocol?);
    let push = match &protocol {
        Some(protocol) => Some(push(section, protocol, timeout?)?),
        None => None,
    };
    if folder.is_none() && push.is_none() {
        section.fault(
            "folder",
            Wrong::new(
                "chưa có nơi nhận tệp",
                "there is nowhere for the files to go",
                "Ghi folder, hoặc protocol và server, hoặc cả hai.",
                "Set folder, or protocol and server, or both.",
            ),
        );
        return None;
    }
    Some(StationConfig {
        folder,
        push,
        history,
    })
}

fn push(section: &mut Section, protocol: &str, timeout: Duration) -> Option<PushConfig> {
    let server = section.value("server", None, |text| {
        config::parse_address(text).map_err(|_| {
            Wrong::new(
                "không phải là tên máy và cổng",
                "is no host and port",
                "Ví dụ: \"ftp.so-nnmt.example:21\".",
                "For example: \"ftp.so-nnmt.example:21\".",
            )
        })
    });
    let user = section.value("user", None, |text| match is_plain(text) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::empty()),
    });
    let remote = section.value("remote", Some("/"), |text| match is_plain(text) {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(Wrong::empty()),
    });
    let login = match protocol {
        "sftp" => {
            let key = section.path("key_file", None);
            let known_hosts = section.path("known_hosts", None);
            Login::Sftp {
                key: credential(key?),
                known_hosts: known_hosts?,
            }
        }
        "ftps" => {
            let password = section.path("password_file", None);
            let ca = section.path("ca", None);
            Login::Ftps {
                password: credential(password?),
                ca: ca?,
            }
        }
        _ => Login::Ftp {
            password: credential(section.path("password_file", None)?),
        },
    };
    Some(PushConfig {
        server: server?,
        user: user?,
        remote: remote?,
        timeout,
        login,
    })
}

/// A text that cannot break a command line or a command of FTP.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | '*' | '?' | '['))
}

/// A part of a path that stays where it is put.
fn is_name(text: &str) -> bool {
    is_plain(text) && text.len() <= NAME_BYTES_MAX && !text.starts_with('.') && !text.contains('/')
}

/// A server's side of a push.
trait Push {
    /// Puts a file below the server's folder: whole, under its own name, or not at all.
    fn put(&mut self, folder: &[String], name: &str, bytes: &[u8]) -> Result<(), Failure>;
}

pub struct Station {
    config: StationConfig,
    push: Option<Box<dyn Push>>,
}

impl Station {
    pub fn open(config: &StationConfig) -> Result<Station, Trouble> {
        let push: Option<Box<dyn Push>> = match &config.push {
            None => None,
            Some(push) => Some(match &push.login {
                Login::Ftps { password, ca } => {
                    Box::new(ftps::Ftps::open(push, password, Some(ca))?)
                }
                Login::Ftp { password } => Box::new(ftps::Ftps::open(push, password, None)?),
                Login::Sftp { key, known_hosts } => {
                    Box::new(sftp::Sftp::new(push, key, known_hosts))
                }
            }),
        };
        Ok(Station {
            config: config.clone(),
            push,
        })
    }
}

impl Adapter for Station {
    /// One by one: a file that cannot be written again does not hold the others up.
    fn events_max(&self) -> usize {
        1
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Failure> {
        let mut receipt = Receipt::default();
        for event in delivery.events {
            if event.op == Op::Delete {
                continue;
            }
            let file = original(event)?;
            let mut folder = file.folder;
            if file.is_history
                && let Some(history) = &self.config.history
            {
                folder.insert(0, history.clone());
            }
            if let Some(base) = &self.config.folder {
                let place = folder
                    .iter()
                    .fold(base.clone(), |place, part| place.join(part));
                write_whole(&place, &file.name, &file.bytes)
                    .map_err(|error| of_disk(&place, &error))?;
            }
            if let Some(push) = &mut self.push {
                push.put(&folder, &file.name, &file.bytes)?;
            }
            match file.is_history {
                true => receipt.history += 1,
                false => {
                    let delay_ms = delivery.now.0 - file.measured.0;
                    receipt.delay_ms = Some(delay_ms);
                    receipt.late += u64::from(LIVE_MS_MAX < delay_ms);
                }
            }
        }
        Ok(receipt)
    }
}

/// A station's file as it came.
struct Original {
    name: String,
    folder: Vec<String>,
    bytes: Vec<u8>,
    measured: UnixMs,
    is_history: bool,
}

/// What a measurement says of its file.
#[derive(Deserialize)]
struct Measurement {
    tram: String,
    thoi_diem: String,
    tep: Option<String>,
    sha256_tep: Option<String>,
    lich_su: Option<bool>,
}

fn original(event: &Event) -> Result<Original, Failure> {
    let wrong = |reason: &'static str, detail: &str| Failure::Data {
        reason,
        detail: detail.to_owned(),
    };
    let unreadable = || wrong("no_measurement", "tram or thoi_diem cannot be read");
    let said: Measurement = serde_json::from_str(event.data.get()).map_err(|_| unreadable())?;
    let measured: Timestamp = said.thoi_diem.parse().map_err(|_| unreadable())?;
    let (Some(name), Some(text)) = (said.tep, &event.original) else {
        return Err(wrong("no_original", "the record was not made from a file"));
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| wrong("no_original", "its base64 cannot be read"))?;
    let digest: String = sha256(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if said.sha256_tep.is_some_and(|said| said != digest) {
        return Err(wrong(
            "digest_differs",
            "the file is not what its SHA-256 says",
        ));
    }
    if !is_name(&name) || !is_name(&said.tram) {
        return Err(wrong("name", "tep or tram cannot be a part of a path"));
    }
    let local = measured.to_zoned(TimeZone::fixed(offset(7)));
    Ok(Original {
        name,
        folder: vec![
            said.tram,
            local.strftime("%Y").to_string(),
            local.strftime("%m").to_string(),
            local.strftime("%d").to_string(),
        ],
        bytes,
        measured: UnixMs(measured.as_millisecond()),
        is_history: said.lich_su == Some(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_where_they_are_put() {
        for good in ["NUO001", "TNI_KCNA_NUO001_20261120080500.txt", "tệp 1.txt"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "", "..", ".an", "a/b", "a\\b", "a\"b", "-rf", "a\nb", "*.txt",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
