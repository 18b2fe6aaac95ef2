//! The conversation with a logger's FTP server. All of it blocks; a time limit is on every step.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::ClientConfig;
use suppaftp::list::File;
use suppaftp::types::FileType;
use suppaftp::{FtpError, RustlsConnector, RustlsFtpStream, Status};

use crate::edge::config::ftp_fetch::FtpFetchConfig;
use crate::edge::connectors::Fault;
use crate::edge::mqtt_source::read_password;
use crate::edge::trust::Distrust;

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
        let open = || -> Result<Client, FtpError> {
            let limit = Duration::from_millis(config.timeout_ms);
            let address = (config.server.host.as_str(), config.server.port);
            let mut addresses = address
                .to_socket_addrs()
                .map_err(FtpError::ConnectionError)?;
            let address = addresses.next().ok_or(io::ErrorKind::NotFound);
            let address = address.map_err(|kind| FtpError::ConnectionError(kind.into()))?;
            let connect = move |address| {
                let stream = TcpStream::connect_timeout(&address, limit)?;
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                io::Result::Ok(stream)
            };
            let control = connect(address).map_err(FtpError::ConnectionError)?;
            let stream = RustlsFtpStream::connect_with_stream(control)?;
            let mut stream = stream.passive_stream_builder(move |address| {
                connect(address).map_err(FtpError::ConnectionError)
            });
            // Loggers behind a router name an address that nobody can reach.
            stream.set_passive_nat_workaround(true);
            if let Some(tls) = tls {
                let secured = stream.into_secure(RustlsConnector::from(tls), &config.server.host);
                stream = secured.map_err(|error| match error {
                    // The answer to AUTH: this server does not encrypt.
                    FtpError::UnexpectedResponse(_) => FtpError::SecureError(String::new()),
                    error => error,
                })?;
            }
            stream.login(config.user.as_str(), password.as_str())?;
            stream.cwd(&config.remote)?;
            stream.transfer_type(FileType::Binary)?;
            Ok(Client { stream })
        };
        open().map_err(|error| of_ftp(&error))
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

/// The server's words may hold names of files, so they are told by their number.
fn of_ftp(error: &FtpError) -> Fault {
    let distrust = match error {
        FtpError::SecureError(_) => Some(Distrust::NoTls),
        FtpError::ConnectionError(error) => Distrust::of(error),
        _ => None,
    };
    if let Some(distrust) = distrust {
        return distrust.fault("ca");
    }
    let (kind, hint) = match error {
        FtpError::UnexpectedResponse(response) if response.status == Status::NotLoggedIn => (
            "530".to_owned(),
            [
                "Kiểm tra user và password_file của nguồn này; máy chủ có thể đòi FTPS (đặt ca).",
                "Check this source's user and password_file; the server may ask for FTPS (set ca).",
            ],
        ),
        FtpError::UnexpectedResponse(response) => (
            response.status.code().to_string(),
            [
                "Kiểm tra folder và quyền của tài khoản ở máy chủ FTP.",
                "Check folder and the account's rights at the FTP server.",
            ],
        ),
        FtpError::ConnectionError(error) => (
            error.kind().to_string(),
            [
                "Kiểm tra thiết bị có bật không, địa chỉ server và mạng nội bộ; trạm tự hỏi lại.",
                "Check that the logger is on, server, and the local network; the box asks again by itself.",
            ],
        ),
        _ => (
            "not FTP".to_owned(),
            [
                "Kiểm tra địa chỉ và cổng: phía trả lời không nói FTP.",
                "Check address and port: what answers does not speak FTP.",
            ],
        ),
    };
    Fault::new(
        "ftp_fetch_link",
        [
            format!("không lấy được tệp từ máy chủ FTP ({kind}); chưa bỏ qua tệp nào"),
            format!("no files from the FTP server ({kind}); none was skipped"),
        ],
        hint,
    )
}
