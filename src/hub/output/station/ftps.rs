//! Files to an FTP server, with TLS where there is somebody to trust.

use std::collections::HashSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use suppaftp::{FtpError, RustlsFtpStream};

use crate::hub::output::station::{Push, PushConfig};
use crate::hub::output::{Failure, Trouble, no_authority, secret};
use crate::model::UnixMs;
use crate::shell::clock::Clock;
use crate::shell::ftp::{self, Login, Obstacle};
use crate::shell::tls;

pub struct Ftps {
    config: PushConfig,
    password: PathBuf,
    tls: Option<Arc<ClientConfig>>,
    stream: Option<RustlsFtpStream>,
    /// Folders that are there.
    known: HashSet<String>,
}

impl Ftps {
    pub fn open(config: &PushConfig, password: &Path, ca: Option<&Path>) -> Result<Ftps, Trouble> {
        let clock = Clock::start(UnixMs(0));
        let tls = ca.map(|ca| tls::trusting(ca, &clock)).transpose();
        let tls = tls.map_err(|fault| no_authority("ca", &fault))?;
        if tls.is_none() {
            tracing::warn!(server = %config.server, "files and password go to this server without encryption");
        }
        Ok(Ftps {
            config: config.clone(),
            password: password.to_owned(),
            tls,
            stream: None,
            known: HashSet::new(),
        })
    }

    fn connect(&self) -> Result<RustlsFtpStream, Failure> {
        let password = secret(&self.password)?;
        let login = Login {
            server: &self.config.server,
            user: &self.config.user,
            password: &password,
            tls: self.tls.clone(),
            timeout: self.config.timeout,
        };
        ftp::connect(login).map_err(|error| of_ftp(&error).into())
    }

    fn transfer(
        &mut self,
        stream: &mut RustlsFtpStream,
        folder: &[String],
        name: &str,
        bytes: &[u8],
    ) -> Result<(), FtpError> {
        let mut path = self.config.remote.clone();
        for part in folder {
            path = format!("{path}/{part}");
            if !self.known.contains(&path) {
                // It may be there already; when it cannot be made, the transfer says so.
                let _ = stream.mkdir(&path);
            }
        }
        let (place, temporary) = (format!("{path}/{name}"), format!("{path}/{name}.part"));
        stream.put_file(&temporary, &mut Cursor::new(bytes))?;
        if stream.rename(&temporary, &place).is_err() {
            // Some servers do not replace a file, which is there when the same one was sent before.
            stream.rm(&place)?;
            stream.rename(&temporary, &place)?;
        }
        self.known.insert(path);
        Ok(())
    }
}

impl Push for Ftps {
    fn put(&mut self, folder: &[String], name: &str, bytes: &[u8]) -> Result<(), Failure> {
        // A server ends idle sessions: an old one may fail once.
        if let Some(mut stream) = self.stream.take()
            && self.transfer(&mut stream, folder, name, bytes).is_ok()
        {
            self.stream = Some(stream);
            return Ok(());
        }
        self.known.clear();
        let mut stream = self.connect()?;
        match self.transfer(&mut stream, folder, name, bytes) {
            Ok(()) => {
                self.stream = Some(stream);
                Ok(())
            }
            Err(error) => Err(of_ftp(&error).into()),
        }
    }
}

fn of_ftp(error: &FtpError) -> Trouble {
    let obstacle = Obstacle::of(error);
    let hint = match obstacle {
        Obstacle::NotLoggedIn => [
            "Kiểm tra user và password_file; máy chủ có thể chỉ nhận FTPS (protocol = \"ftps\").",
            "Check user and password_file; the server may take FTPS only (protocol = \"ftps\").",
        ],
        Obstacle::Answer(_) => [
            "Kiểm tra remote, quyền ghi và dung lượng của tài khoản ở máy chủ FTP.",
            "Check remote, and the account's right to write and its space at the FTP server.",
        ],
        Obstacle::NoTls => [
            "Kiểm tra tệp ca và tên máy chủ trong chứng thư của máy chủ FTP.",
            "Check the ca file and the host name in the FTP server's certificate.",
        ],
        Obstacle::Connection(_) => [
            "Kiểm tra server, mạng và tường lửa (cổng dữ liệu thụ động); trục giữ lại và tự gửi tiếp.",
            "Check server, network and firewall (passive data ports); the hub keeps everything and goes on by itself.",
        ],
        Obstacle::NotFtp => [
            "Kiểm tra địa chỉ và cổng: phía trả lời không nói FTP.",
            "Check address and port: what answers does not speak FTP.",
        ],
    };
    Trouble::new(
        "ftp",
        [
            format!("không gửi được tệp tới máy chủ FTP ({obstacle})"),
            format!("no file reaches the FTP server ({obstacle})"),
        ],
        hint,
    )
}
