//! FTP to other people's servers, with TLS where there is somebody to trust. All of it blocks; a time
//! limit is on every step.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use suppaftp::types::FileType;
use suppaftp::{FtpError, RustlsConnector, RustlsFtpStream, Status};

use crate::shell::dial::Address;

/// Whom to ask for a session, and as whom.
pub struct Login<'a> {
    pub server: &'a Address,
    pub user: &'a str,
    pub password: &'a str,
    /// Without it, files and password travel in the clear.
    pub tls: Option<Arc<ClientConfig>>,
    pub timeout: Duration,
}

/// Connects, encrypts, and logs in.
pub fn connect(login: Login<'_>) -> Result<RustlsFtpStream, FtpError> {
    let limit = login.timeout;
    let mut addresses = (login.server.host.as_str(), login.server.port)
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
    let mut stream = stream
        .passive_stream_builder(move |address| connect(address).map_err(FtpError::ConnectionError));
    // Servers behind a router name an address that nobody can reach.
    stream.set_passive_nat_workaround(true);
    if let Some(tls) = login.tls {
        let secured = stream.into_secure(RustlsConnector::from(tls), &login.server.host);
        stream = secured.map_err(|error| match error {
            // The answer to AUTH: this server does not encrypt.
            FtpError::UnexpectedResponse(_) => FtpError::SecureError(String::new()),
            error => error,
        })?;
    }
    stream.login(login.user, login.password)?;
    stream.transfer_type(FileType::Binary)?;
    Ok(stream)
}

/// What stands in the way. A server's words may hold names of files, so they are told by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    NotLoggedIn,
    Answer(u32),
    /// The server does not encrypt.
    NoTls,
    Connection(io::ErrorKind),
    NotFtp,
}

impl Obstacle {
    pub fn of(error: &FtpError) -> Obstacle {
        match error {
            FtpError::UnexpectedResponse(response) if response.status == Status::NotLoggedIn => {
                Obstacle::NotLoggedIn
            }
            FtpError::UnexpectedResponse(response) => Obstacle::Answer(response.status.code()),
            FtpError::SecureError(_) => Obstacle::NoTls,
            FtpError::ConnectionError(error) => Obstacle::Connection(error.kind()),
            _ => Obstacle::NotFtp,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NotLoggedIn => Status::NotLoggedIn.code().fmt(f),
            Obstacle::Answer(code) => code.fmt(f),
            Obstacle::NoTls => f.write_str("TLS"),
            Obstacle::Connection(kind) => kind.fmt(f),
            Obstacle::NotFtp => f.write_str("not FTP"),
        }
    }
}
