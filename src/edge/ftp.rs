//! Kind `ftp`: the box is the FTP and FTPS server that station loggers push to.
//!
//! A server of our own, because of what must hold here and does not in the library that was tried:
//! a broken TLS handshake of a client must not end the program, an upload whose client died must not
//! be taken for a whole one, and 226 is said only after the commit.
//!
//! Each login is a source of its own with a folder of its own. A file is taken as in the drop
//! folder, but at the end of its upload and before its answer; nothing is swept. See [`upload`] for
//! what counts as whole, [`station`] for what is answered to a refused file, and [`shelf`] for how
//! files lie on the disk.

pub mod command;
pub mod control;
pub mod data;
pub mod listing;
pub mod logins;
pub mod path;
mod session;
pub mod shelf;
pub(in crate::edge) mod station;
mod upload;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::edge::config::ftp::FtpConfig;
use crate::edge::connectors::{Fault, Post};
use crate::edge::door::Door;
use crate::edge::folder::FolderSource;
use crate::edge::ftp::control::Control;
use crate::edge::ftp::data::Ports;
use crate::edge::ftp::logins::Logins;
use crate::edge::ftp::session::Session;
use crate::edge::ftp::station::{Station, blocking};
use crate::edge::identity::server;
use crate::engine::sending::Level;
use crate::model::SourceName;
use crate::shell::clock::Clock;
use crate::shell::settings;

/// Code of the warning that plain FTP is on; the page shows it red.
pub const PLAIN_FTP: &str = "plain_ftp";
const BACKLOG: u32 = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often files that were done long ago are looked for.
const CLEAN_EVERY: Duration = Duration::from_secs(3_600);

/// What all sessions share.
pub struct Server {
    name: SourceName,
    config: FtpConfig,
    logins: Logins,
    stations: Vec<Arc<Station>>,
    ports: Ports,
    acceptor: Option<TlsAcceptor>,
    door: Arc<Door>,
    clock: Clock,
}

/// Serves until `stop` turns true or its sender is gone; a fault is what kept it from starting.
pub async fn serve(
    config: FtpConfig,
    door: Arc<Door>,
    post: Post,
    stop: watch::Receiver<bool>,
) -> Result<(), Fault> {
    let (server, listeners) = open(config, &door, &post).await?;
    post.warn(server.config.plain.map(is_plain).as_ref()).await;
    post.well().await;
    server.run(listeners, stop).await;
    Ok(())
}

/// Certificates, folders and sockets; `true` beside a socket where TLS must come first.
async fn open(
    config: FtpConfig,
    door: &Arc<Door>,
    post: &Post,
) -> Result<(Arc<Server>, Vec<(TcpListener, bool)>), Fault> {
    let clock = post.clock();
    let secure = config.secure.clone();
    let tls = match secure.as_ref().map(|secure| secure.tls.clone()) {
        Some(files) => Some(
            blocking(move || server(&files))
                .await
                .map_err(no_certificate)?,
        ),
        None => None,
    };
    let mut stations = Vec::new();
    for login in config.logins.clone() {
        let (door, clock) = (Arc::clone(door), clock.clone());
        let home = login.folder.path.clone();
        let source = FolderSource {
            name: login.name,
            dataset: login.dataset,
            folder: login.folder,
            inotify: false,
        };
        let station = blocking(move || Station::open(source, door, clock)).await;
        stations.push(Arc::new(station.map_err(|error| no_folder(&home, &error))?));
    }
    let mut listeners = Vec::new();
    let wanted = [
        (secure.map(|secure| secure.listen), true),
        (config.plain, false),
    ];
    for (address, must_secure) in wanted {
        if let Some(address) = address {
            let listener = bind(address).map_err(|error| no_address(address, &error))?;
            listeners.push((listener, must_secure));
        }
    }
    let logins = config
        .logins
        .iter()
        .map(|login| (login.user.clone(), login.sha256));
    let server = Server {
        name: post.source().clone(),
        logins: Logins::new(logins.collect()),
        stations,
        ports: Ports::new(config.passive_ports.clone()),
        acceptor: tls.map(TlsAcceptor::from),
        door: Arc::clone(door),
        clock: clock.clone(),
        config,
    };
    Ok((Arc::new(server), listeners))
}

/// A risk that somebody chose; it is said as long as it is there.
fn is_plain(address: SocketAddr) -> Fault {
    Fault::new(
        PLAIN_FTP,
        [
            format!("FTP không mã hóa đang bật ở {address}: mật khẩu và số liệu đi trần trên mạng"),
            format!("plain FTP is on at {address}: passwords and files travel in the clear"),
        ],
        [
            "Chuyển các trạm sang FTPS rồi bỏ plain và plain_listen trong cấu hình.",
            "Move the stations to FTPS, then remove plain and plain_listen from the configuration.",
        ],
    )
}

fn no_certificate(fault: settings::Fault) -> Fault {
    let file = fault.file.display();
    Fault::new(
        "ftp_certificate",
        [
            format!("{file}: {}", fault.message_vi),
            format!("{file}: {}", fault.message_en),
        ],
        [
            "Kiểm tra certificate và key của nguồn này (PEM, cùng một lần cấp).",
            "Check this source's certificate and key (PEM, of the same issue).",
        ],
    )
}

fn no_folder(home: &Path, error: &io::Error) -> Fault {
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

fn no_address(address: SocketAddr, error: &io::Error) -> Fault {
    Fault::new(
        "ftp_listen",
        [
            format!("không mở được cổng FTP {address}: {error}"),
            format!("cannot listen for FTP on {address}: {error}"),
        ],
        [
            "Kiểm tra địa chỉ IP của máy, chương trình khác đang giữ cổng này, hoặc dùng cổng từ 1024 trở lên.",
            "Check the machine's IP address, whether another program has this port, or use a port from 1024 on.",
        ],
    )
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Server {
    async fn run(
        self: Arc<Self>,
        listeners: Vec<(TcpListener, bool)>,
        mut stop: watch::Receiver<bool>,
    ) {
        for station in &self.stations {
            station.take_left_over().await;
        }
        let room = Arc::new(Semaphore::new(self.config.connections_max));
        let mut tasks = JoinSet::new();
        for (listener, must_secure) in listeners {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(source = %self.name, %address, must_secure, "FTP serves");
            }
            let (server, room) = (Arc::clone(&self), Arc::clone(&room));
            tasks.spawn(server.accept(listener, must_secure, room, stop.clone()));
        }
        let cleaner = async {
            loop {
                for station in &self.stations {
                    station.clean_done().await;
                }
                sleep(CLEAN_EVERY).await;
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = cleaner => {}
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Accepts until the stop, then waits for the sessions to end.
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        must_secure: bool,
        room: Arc<Semaphore>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut sessions = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            while sessions.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "an FTP connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                // The answer is short and the socket new, so this does not wait.
                let mut control = Control::new(stream);
                let _ = control
                    .reply(421, "Too many connections; come again later")
                    .await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (server, stop) = (Arc::clone(&self), stop.clone());
            sessions.spawn(async move {
                let ended = match Session::new(server, stream, must_secure) {
                    Ok(session) => session.run(stop).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, "an FTP connection ended early");
                }
                drop(permit);
            });
        }
        drop(listener);
        while sessions.join_next().await.is_some() {}
    }

    /// Somebody guesses at passwords.
    async fn note_locked(&self) {
        let text = format!(
            "{}: một đăng nhập FTP bị khóa 5 phút vì sai mật khẩu nhiều lần; kiểm tra mật khẩu đặt trong trạm đo",
            self.name
        );
        let intake = self.door.intake();
        intake.note(Level::Warning, "ftp_locked", text).await;
    }
}
