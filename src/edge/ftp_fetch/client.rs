//! The conversation with a logger's FTP server. All of it blocks; a time limit is on every step.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::ClientConfig;
use suppaftp::list::File;
use suppaftp::{FtpError, RustlsFtpStream};

use crate::edge::config::ftp_fetch::FtpFetchConfig;
use crate::edge::connectors::Fault;
use crate::edge::mqtt_source::read_password;
use crate::edge::trust::Distrust;
use crate::shell::ftp::{self, Login, Obstacle};

/// Lines of one listing that are read.
const LISTED_MAX: usize = 20_000;

/// A file as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
    /// Seconds since 1970, as exact as the listing says it.
    pub modified_s: u64,
}

pub struct Client {
    stream: RustlsFtpStream,
}

impl Client {
    /// Connects, encrypts where there is somebody to trust, logs in, and goes to the folder.
    pub fn open(config: &FtpFetchConfig, tls: Option<Arc<ClientConfig>>) -> Result<Client, Fault> {
        let password = match &config.password {
            Some(file) => read_password(file)?,
            None => String::new(),
        };
        let login = Login {
            server: &config.server,
            user: &config.user,
            password: &password,
            tls,
            timeout: Duration::from_millis(config.timeout_ms),
        };
        let opened = ftp::connect(login).and_then(|mut stream| {
            stream.cwd(&config.remote)?;
            Ok(Client { stream })
        });
        opened.map_err(|error| of_ftp(&error))
    }

    pub fn list(&mut self) -> Result<Vec<Listed>, Fault> {
        let lines = self.stream.list(None).map_err(|error| of_ftp(&error))?;
        let files = lines.iter().take(LISTED_MAX).filter_map(|line| {
            let file = File::try_from(line.as_str()).ok()?;
            let modified = file.modified().duration_since(UNIX_EPOCH).ok();
            let is_usable = file.is_file() && !file.name().contains(['/', '\\', '\0']);
            is_usable.then(|| Listed {
                name: file.name().to_owned(),
                bytes: file.size() as u64,
                modified_s: modified.map_or(0, |modified| modified.as_secs()),
            })
        });
        Ok(files.collect())
    }

    /// The file's bytes, up to `bytes_max` and one more; the server has said that they are all.
    pub fn fetch(&mut self, name: &str, bytes_max: u64) -> Result<Vec<u8>, Fault> {
        let fetched = self.stream.retr(name, |reader| {
            let mut bytes = Vec::new();
            let read = reader.take(bytes_max + 1).read_to_end(&mut bytes);
            read.map(|_| bytes).map_err(FtpError::ConnectionError)
        });
        fetched.map_err(|error| of_ftp(&error))
    }

    pub fn delete(&mut self, name: &str) -> Result<(), Fault> {
        self.stream.rm(name).map_err(|error| of_ftp(&error))
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        self.stream.rename(from, to).map_err(|error| of_ftp(&error))
    }

    pub fn close(mut self) {
        // The server finds out by itself as well.
        let _ = self.stream.quit();
    }
}

fn of_ftp(error: &FtpError) -> Fault {
    let obstacle = Obstacle::of(error);
    let distrust = match (obstacle, error) {
        (Obstacle::NoTls, _) => Some(Distrust::NoTls),
        (_, FtpError::ConnectionError(error)) => Distrust::of(error),
        _ => None,
    };
    if let Some(distrust) = distrust {
        return distrust.fault("ca");
    }
    let hint = match obstacle {
        Obstacle::NotLoggedIn => [
            "Kiểm tra user và password_file của nguồn này; máy chủ có thể đòi FTPS (đặt ca).",
            "Check this source's user and password_file; the server may ask for FTPS (set ca).",
        ],
        Obstacle::Answer(_) => [
            "Kiểm tra folder và quyền của tài khoản ở máy chủ FTP.",
            "Check folder and the account's rights at the FTP server.",
        ],
        Obstacle::Connection(_) => [
            "Kiểm tra thiết bị có bật không, địa chỉ server và mạng nội bộ; trạm tự hỏi lại.",
            "Check that the logger is on, server, and the local network; the box asks again by itself.",
        ],
        Obstacle::NoTls | Obstacle::NotFtp => [
            "Kiểm tra địa chỉ và cổng: phía trả lời không nói FTP.",
            "Check address and port: what answers does not speak FTP.",
        ],
    };
    Fault::new(
        "ftp_fetch_link",
        [
            format!("không lấy được tệp từ máy chủ FTP ({obstacle}); chưa bỏ qua tệp nào"),
            format!("no files from the FTP server ({obstacle}); none was skipped"),
        ],
        hint,
    )
}
