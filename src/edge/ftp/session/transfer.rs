//! Data in and out: where its connection comes from, listings, uploads, and what becomes of them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::Session;
use crate::edge::ftp::control::Stream;
use crate::edge::ftp::data::send;
use crate::edge::ftp::path::VirtualPath;
use crate::edge::ftp::shelf::{Facts, Place, Shelf};
use crate::edge::ftp::station::{Fate, blocking};
use crate::edge::ftp::upload::{Received, receive};

const LATER: &str = "The box cannot keep records now; keep the file and send it again later";
/// The disk did not do what it must.
pub(super) const FAILED: &str = "The box's disk failed; keep the file and send it again later";

impl Session {
    pub(super) async fn go_passive(&mut self, is_extended: bool) -> io::Result<()> {
        let host = self.server.config.passive_host.map(IpAddr::V4);
        let IpAddr::V4(host) = host.unwrap_or(self.local.to_canonical()) else {
            if !is_extended {
                return self.control.reply(425, "Use EPSV on this network").await;
            }
            return self
                .listen(|port| (229, format!("Connect to (|||{port}|)")))
                .await;
        };
        let [a, b, c, d] = host.octets();
        self.listen(|port| match is_extended {
            true => (229, format!("Connect to (|||{port}|)")),
            false => {
                let [high, low] = port.to_be_bytes();
                (227, format!("Connect to ({a},{b},{c},{d},{high},{low})"))
            }
        })
        .await
    }

    async fn listen(&mut self, answer: impl Fn(u16) -> (u16, String)) -> io::Result<()> {
        self.way = None;
        let way = self.server.ports.listen(self.local).await;
        match way.and_then(|way| Ok((way.port()?, way))) {
            Ok((port, way)) => {
                self.way = Some(way);
                let (code, text) = answer(port);
                self.control.reply(code, &text).await
            }
            Err(error) => {
                tracing::warn!(%error, "no passive port of FTP is free");
                self.control
                    .reply(425, "No port is free now; try again")
                    .await
            }
        }
    }

    /// Says that data may come, and opens its connection; none when the client was told why not.
    async fn open_data(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        if self.must_secure && !self.protects_data {
            self.control
                .reply(521, "Data must be encrypted: PROT P")
                .await?;
            return Ok(None);
        }
        let Some(way) = self.way.take() else {
            self.control.reply(425, "PASV or EPSV comes first").await?;
            return Ok(None);
        };
        self.control.reply(150, "Ready").await?;
        let acceptor = self.server.acceptor.as_ref().filter(|_| self.protects_data);
        match way.connect(self.peer, acceptor).await {
            Ok(data) => Ok(Some(data)),
            Err(error) => {
                tracing::debug!(%error, "a data connection of FTP did not come about");
                self.control
                    .reply(425, "The data connection did not come about")
                    .await?;
                Ok(None)
            }
        }
    }

    pub(super) async fn send(&mut self, text: &str) -> io::Result<()> {
        let Some(data) = self.open_data().await? else {
            return Ok(());
        };
        match send(data, text).await {
            Ok(()) => self.control.reply(226, "That is all").await,
            Err(_) => {
                self.control
                    .reply(426, "The data connection was lost")
                    .await
            }
        }
    }

    pub(super) async fn store(&mut self, path: VirtualPath) -> io::Result<()> {
        let announced_bytes = self.announced_bytes.take();
        let Some(name) = path.name().map(str::to_owned) else {
            return self.control.reply(553, "Name the file").await;
        };
        let station = Arc::clone(self.station());
        let shelf = Arc::clone(&station.shelf);
        let Ok(upload) = blocking(move || shelf.begin()).await else {
            return self.control.reply(450, FAILED).await;
        };
        let Some(data) = self.open_data().await? else {
            return Ok(());
        };
        let is_protected = self.protects_data;
        let bytes_max = self.server.config.file_bytes_max;
        let received = receive(
            upload,
            data,
            &mut self.control,
            bytes_max,
            announced_bytes,
            is_protected,
        );
        let upload = match received.await {
            Received::Whole(upload) => upload,
            Received::Aborted => {
                self.control.reply(426, "Aborted; nothing was kept").await?;
                return self.control.reply(226, "Abort done").await;
            }
            Received::Broken(why) => return self.control.reply(426, why).await,
            Received::TooLarge => {
                station
                    .refused("tệp gửi qua FTP vượt giới hạn file_max; chia nhỏ tệp")
                    .await;
                return self
                    .control
                    .reply(552, "The file is larger than allowed")
                    .await;
            }
            Received::Disk(error) => {
                tracing::warn!(source = %station.name(), %error, "an upload cannot be written");
                return self.control.reply(452, FAILED).await;
            }
        };
        let now = self.server.clock.now().wall;
        let (bytes, shelf) = (upload.bytes, Arc::clone(&station.shelf));
        if !station.is_final(&name) {
            let kept = blocking(move || shelf.keep_waiting(upload, &path, now)).await;
            return match kept {
                Ok(()) => {
                    self.control
                        .reply(226, "Kept; it is taken when it gets its final name")
                        .await
                }
                Err(_) => {
                    self.control
                        .reply(452, "No room for more unfinished names")
                        .await
                }
            };
        }
        let (final_name, undone) = (name.clone(), name);
        let place = move |shelf: &Shelf| shelf.keep_final(upload, &final_name);
        let fate = station
            .take(place, move |shelf| shelf.give_up(&undone))
            .await;
        let facts = Facts {
            bytes,
            modified: now,
        };
        self.tell(fate, 226, &path, facts).await
    }

    pub(super) async fn rename(&mut self, from: VirtualPath, to: VirtualPath) -> io::Result<()> {
        let station = Arc::clone(self.station());
        let shelf = Arc::clone(&station.shelf);
        let (Some((place, facts)), Some(name)) = (shelf.find(&from), to.name().map(str::to_owned))
        else {
            return self.control.reply(553, "No such file").await;
        };
        if place == Place::Taken {
            // It is committed under its first name, so nothing is left to do but to agree.
            shelf.forget_taken(&from);
            shelf.remember_taken(&to, facts);
            return self.control.reply(250, "Renamed").await;
        }
        if !station.is_final(&name) {
            let renamed = blocking(move || shelf.rename_waiting(&from, &to)).await;
            return match renamed {
                Ok(()) => self.control.reply(250, "Renamed").await,
                Err(_) => self.control.reply(450, FAILED).await,
            };
        }
        let (waiting, back, final_name, undone) = (from.clone(), from.clone(), name.clone(), name);
        let place = move |shelf: &Shelf| shelf.finish_waiting(&waiting, &final_name);
        let fate = station
            .take(place, move |shelf| shelf.wait_again(&undone, &back))
            .await;
        if matches!(fate, Fate::Committed | Fate::KeptApart) {
            shelf.forget_waiting(&from);
        }
        self.tell(fate, 250, &to, facts).await
    }

    /// Answers a file that came whole; a yes only for one that is committed or safely kept apart.
    async fn tell(
        &mut self,
        fate: Fate,
        yes: u16,
        path: &VirtualPath,
        facts: Facts,
    ) -> io::Result<()> {
        if matches!(fate, Fate::Committed | Fate::KeptApart) {
            self.station().shelf.remember_taken(path, facts);
        }
        match fate {
            Fate::Committed => {
                self.control
                    .reply(yes, "Taken: its records are committed")
                    .await
            }
            Fate::KeptApart if self.server.config.refuses_aloud => {
                self.control
                    .reply(550, "Refused; the reason lies beside it on the box")
                    .await
            }
            Fate::KeptApart => {
                self.control
                    .reply(
                        yes,
                        "Refused and kept apart on the box; do not send it again",
                    )
                    .await
            }
            Fate::Later => self.control.reply(450, LATER).await,
            Fate::Failed => self.control.reply(450, FAILED).await,
        }
    }
}
