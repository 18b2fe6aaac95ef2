//! One client from its greeting to its goodbye.

mod transfer;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use crate::edge::ftp::Server;
use crate::edge::ftp::command::{Command, parse};
use crate::edge::ftp::control::Control;
use crate::edge::ftp::data::Way;
use crate::edge::ftp::listing;
use crate::edge::ftp::logins::Denied;
use crate::edge::ftp::path::VirtualPath;
use crate::edge::ftp::session::transfer::FAILED;
use crate::edge::ftp::shelf::{Listed, Shelf};
use crate::edge::ftp::station::{Station, blocking};

/// A client that does not log in is sent away after this.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Makes guessing slow.
const WRONG_PAUSE: Duration = Duration::from_secs(1);
/// Commands that make no sense, before the connection ends: no FTP client speaks there.
const NONSENSE_MAX: u32 = 10;
const NO_PATH: &str = "Not a usable path: at most 240 bytes, no control characters, no backslash";

/// Whether the session goes on.
enum Next {
    Go,
    End,
}

pub struct Session {
    server: Arc<Server>,
    control: Control,
    peer: IpAddr,
    local: IpAddr,
    /// TLS must come before the login.
    must_secure: bool,
    is_secure: bool,
    protects_data: bool,
    user: Option<String>,
    station: Option<(Arc<Station>, OwnedSemaphorePermit)>,
    folder: VirtualPath,
    way: Option<Way>,
    rename_from: Option<VirtualPath>,
    announced_bytes: Option<u64>,
    nonsense: u32,
}

impl Session {
    pub fn new(server: Arc<Server>, stream: TcpStream, must_secure: bool) -> io::Result<Session> {
        Ok(Session {
            peer: stream.peer_addr()?.ip(),
            local: stream.local_addr()?.ip(),
            control: Control::new(stream),
            server,
            must_secure,
            is_secure: false,
            protects_data: false,
            user: None,
            station: None,
            folder: VirtualPath::root(),
            way: None,
            rename_from: None,
            announced_bytes: None,
            nonsense: 0,
        })
    }

    /// Serves until the client leaves, is silent too long, or `stop` says so between two commands.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        self.control
            .reply(220, "lienthong: station files are taken here")
            .await?;
        loop {
            let idle = match self.station {
                Some(_) => Duration::from_millis(self.server.config.idle_ms),
                None => LOGIN_TIMEOUT,
            };
            let line = tokio::select! {
                line = timeout(idle, self.control.line()) => Some(line),
                _ = stop.wait_for(|stop| *stop) => None,
            };
            let Some(line) = line else {
                self.control
                    .reply(421, "The box is stopping; come again later")
                    .await?;
                break;
            };
            let line = match line {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    self.control
                        .reply(421, "Silent for too long; goodbye")
                        .await?;
                    break;
                }
            };
            if line.is_empty() {
                continue;
            }
            let command = match parse(&line) {
                Some(command) => command,
                None => {
                    self.control.reply(501, "The command is not UTF-8").await?;
                    continue;
                }
            };
            if command == Command::AuthTls {
                match self.secure().await? {
                    Some(secured) => self = secured,
                    None => return Ok(()),
                }
                continue;
            }
            let next = match self.station.is_some() {
                true => self.obey(command).await?,
                false => self.admit(command).await?,
            };
            if matches!(next, Next::End) {
                break;
            }
        }
        self.control.close().await;
        Ok(())
    }

    /// AUTH TLS; none when the connection did not survive it.
    async fn secure(mut self) -> io::Result<Option<Session>> {
        let Some(acceptor) = self.server.acceptor.clone() else {
            self.control
                .reply(502, "This server has no certificate")
                .await?;
            return Ok(Some(self));
        };
        if self.is_secure {
            self.control
                .reply(503, "The connection is encrypted already")
                .await?;
            return Ok(Some(self));
        }
        self.control.reply(234, "TLS may begin").await?;
        match self.control.secure(&acceptor).await {
            Ok(control) => Ok(Some(Session {
                control,
                is_secure: true,
                // Whatever was said in the clear may have been said by anybody.
                user: None,
                station: None,
                ..self
            })),
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake of an FTP client failed");
                Ok(None)
            }
        }
    }

    /// Before the login.
    async fn admit(&mut self, command: Command) -> io::Result<Next> {
        match command {
            Command::User(_) | Command::Pass(_) if self.must_secure && !self.is_secure => {
                self.control.reply(530, "Encrypt first: AUTH TLS").await?;
            }
            Command::User(user) => {
                self.user = Some(user);
                self.control.reply(331, "Now the password").await?;
            }
            Command::Pass(password) => match self.user.take() {
                Some(user) => return self.log_in(&user, &password).await,
                None => self.control.reply(503, "USER comes first").await?,
            },
            other => return self.obey_anybody(other).await,
        }
        Ok(Next::Go)
    }

    async fn log_in(&mut self, user: &str, password: &str) -> io::Result<Next> {
        let now_ms = self.server.clock.mono_ms();
        let place = self.server.logins.check(self.peer, user, password, now_ms);
        let station = match place {
            Ok(place) => Arc::clone(&self.server.stations[place]),
            Err(denied) => {
                if denied == Denied::Locked {
                    tracing::warn!(from = %self.peer, "an FTP login was locked after wrong passwords");
                    self.server.note_locked().await;
                }
                sleep(WRONG_PAUSE).await;
                let text = match denied {
                    Denied::Wrong => "Wrong user or password",
                    _ => "Too many wrong passwords from your address; wait five minutes",
                };
                self.control.reply(530, text).await?;
                return Ok(Next::Go);
            }
        };
        let Some(permit) = station.enter() else {
            self.control
                .reply(421, "This login has too many connections")
                .await?;
            return Ok(Next::End);
        };
        self.station = Some((station, permit));
        self.control.reply(230, "Welcome").await?;
        Ok(Next::Go)
    }

    /// What needs no login.
    async fn obey_anybody(&mut self, command: Command) -> io::Result<Next> {
        match command {
            Command::Quit => {
                self.control.reply(221, "Goodbye").await?;
                return Ok(Next::End);
            }
            Command::Pbsz => self.control.reply(200, "PBSZ=0").await?,
            Command::Prot(protect) => match (self.is_secure, protect, self.must_secure) {
                (false, ..) => self.control.reply(503, "AUTH TLS comes first").await?,
                (_, false, true) => {
                    self.control
                        .reply(534, "Data must be encrypted too")
                        .await?
                }
                _ => {
                    self.protects_data = protect;
                    self.control.reply(200, "So be it").await?;
                }
            },
            Command::Syst => self.control.reply(215, "UNIX Type: L8").await?,
            Command::Feat => {
                let mut lines = vec!["Features:", "EPSV", "EPRT", "MDTM", "SIZE", "TVFS", "UTF8"];
                lines.push(listing::FACTS);
                if self.server.acceptor.is_some() {
                    lines.extend(["AUTH TLS", "PBSZ", "PROT"]);
                }
                self.control.reply_lines(211, &lines, "End").await?;
            }
            Command::Opts | Command::Noop => self.control.reply(200, "OK").await?,
            Command::Help => self.control.reply(214, "Send files with STOR").await?,
            Command::NotNeeded => self.control.reply(202, "Not needed here").await?,
            Command::BadParameter => self.control.reply(501, "Not a usable parameter").await?,
            Command::NotOffered(why) => self.control.reply(502, why).await?,
            Command::Unknown => {
                self.nonsense += 1;
                self.control.reply(500, "Not an FTP command").await?;
                if NONSENSE_MAX <= self.nonsense {
                    return Ok(Next::End);
                }
            }
            _ => self.control.reply(530, "Log in first").await?,
        }
        Ok(Next::Go)
    }

    /// After the login.
    async fn obey(&mut self, command: Command) -> io::Result<Next> {
        let rename_from = match command {
            Command::Rnto(_) => self.rename_from.take(),
            _ => None,
        };
        match command {
            Command::User(_) => self.control.reply(530, "Logged in already").await?,
            Command::Pass(_) => self.control.reply(230, "Logged in already").await?,
            Command::Stat => self.control.reply(211, "All is well").await?,
            Command::Accepted => self.control.reply(200, "OK").await?,
            Command::RestartAtZero => self.control.reply(350, "From the beginning").await?,
            Command::Abor => self.control.reply(226, "Nothing was under way").await?,
            Command::Allo(bytes) => {
                self.announced_bytes = (0 < bytes).then_some(bytes);
                self.control.reply(200, "OK").await?;
            }
            Command::Pasv | Command::Epsv => self.go_passive(command == Command::Epsv).await?,
            Command::Port(address, port) => {
                self.way = Way::active(address, port, self.peer);
                match self.way {
                    Some(_) => self.control.reply(200, "OK").await?,
                    None => {
                        self.control
                            .reply(504, "Only your own address, from port 1024 on")
                            .await?
                    }
                }
            }
            Command::Pwd => {
                let text = format!(
                    "\"{}\" is where you are",
                    self.folder.to_string().replace('"', "\"\"")
                );
                self.control.reply(257, &text).await?;
            }
            Command::Cwd(_)
            | Command::Cdup
            | Command::Mkd(_)
            | Command::Rmd(_)
            | Command::Size(_)
            | Command::Mdtm(_)
            | Command::Dele(_)
            | Command::Rnfr(_)
            | Command::List(_)
            | Command::Nlst(_)
            | Command::Mlsd(_)
            | Command::Mlst(_)
            | Command::Rnto(_)
            | Command::Stor(_) => self.obey_path(command, rename_from).await?,
            other => return self.obey_anybody(other).await,
        }
        Ok(Next::Go)
    }

    /// Commands that name a path.
    async fn obey_path(
        &mut self,
        command: Command,
        rename_from: Option<VirtualPath>,
    ) -> io::Result<()> {
        let named = match &command {
            Command::Cdup => "..",
            Command::Cwd(path)
            | Command::Mkd(path)
            | Command::Rmd(path)
            | Command::Size(path)
            | Command::Mdtm(path)
            | Command::Dele(path)
            | Command::Rnfr(path)
            | Command::List(path)
            | Command::Nlst(path)
            | Command::Mlsd(path)
            | Command::Mlst(path)
            | Command::Rnto(path)
            | Command::Stor(path) => path,
            _ => unreachable!("only commands that name a path come here"),
        };
        let Ok(path) = self.folder.join(named) else {
            return self.control.reply(553, NO_PATH).await;
        };
        let shelf = Arc::clone(&self.station().shelf);
        match command {
            Command::Stor(_) => self.store(path).await,
            Command::Rnto(_) => match rename_from {
                Some(from) => self.rename(from, path).await,
                None => self.control.reply(503, "RNFR comes first").await,
            },
            Command::List(_) => {
                let now = self.server.clock.now().wall;
                self.send(&listing::list(&shelf.list(&path), now)).await
            }
            Command::Nlst(_) => self.send(&listing::names(&shelf.list(&path))).await,
            Command::Mlsd(_) if shelf.find(&path).is_some() => {
                self.control.reply(501, "That is a file").await
            }
            Command::Mlsd(_) => self.send(&listing::facts(&shelf.list(&path))).await,
            Command::Mlst(_) => match shelf.find(&path) {
                Some((_, found)) => {
                    let name = path.to_string();
                    let listed = Listed {
                        name,
                        file: Some(found),
                    };
                    let line = listing::facts(&[listed]);
                    let lines = ["Listing", line.trim_end()];
                    self.control.reply_lines(250, &lines, "End").await
                }
                None => self.control.reply(550, "No such file").await,
            },
            Command::Dele(_) => match blocking(move || shelf.delete(&path)).await {
                Ok(true) => self.control.reply(250, "Deleted").await,
                Ok(false) => self.control.reply(550, "No such file").await,
                Err(_) => self.control.reply(450, FAILED).await,
            },
            command => self.look_up(command, path, &shelf).await,
        }
    }

    /// What memory alone answers.
    async fn look_up(
        &mut self,
        command: Command,
        path: VirtualPath,
        shelf: &Shelf,
    ) -> io::Result<()> {
        let found = shelf.find(&path);
        let (code, text) = match (command, found) {
            (Command::Cwd(_) | Command::Cdup, Some(_)) => (550, "That is a file".to_owned()),
            (Command::Cwd(_) | Command::Cdup, None) => {
                shelf.enter_folder(&path);
                self.folder = path;
                (250, "You are there".to_owned())
            }
            (Command::Mkd(_), None) if shelf.make_folder(&path) => {
                (257, format!("\"{path}\" is made"))
            }
            (Command::Mkd(_), _) => (550, "It is there already".to_owned()),
            (Command::Rmd(_), _) if shelf.remove_folder(&path) => (250, "Removed".to_owned()),
            (Command::Rmd(_), _) => (550, "No such folder, or it is not empty".to_owned()),
            (Command::Size(_), Some((_, facts))) => (213, facts.bytes.to_string()),
            (Command::Mdtm(_), Some((_, facts))) => (213, listing::stamp(facts.modified)),
            (Command::Rnfr(_), Some(_)) => {
                self.rename_from = Some(path);
                (350, "Now its new name".to_owned())
            }
            _ => (550, "No such file".to_owned()),
        };
        self.control.reply(code, &text).await
    }

    fn station(&self) -> &Arc<Station> {
        let (station, _) = self
            .station
            .as_ref()
            .expect("whoever names a path has logged in");
        station
    }
}
