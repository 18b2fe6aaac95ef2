//! A try of an FTP server: nothing can be fetched from stations, but what they sent lies there.

use std::fs;
use std::path::Path;

use crate::edge::config::ftp::{FtpConfig, FtpLogin};
use crate::edge::config::{SourceConfig, SourceKind};
use crate::edge::connectors::Fault;
use crate::edge::ftp::shelf::{Kept, latest, waiting};
use crate::edge::look::{Look, unreadable};

/// Files of one login that were taken last, and that a try shows.
const LATEST_MAX: usize = 5;

/// Whether a source is an FTP server with a login of this name.
pub fn is_login(source: &SourceConfig, name: &str) -> bool {
    match &source.kind {
        SourceKind::Ftp(config) => config
            .logins
            .iter()
            .any(|login| login.name.as_str() == name),
        _ => false,
    }
}

/// Leaves only the login of this name, where it is one's and not the server's.
pub fn only(source: &mut SourceConfig, name: &str) {
    if is_login(source, name)
        && let SourceKind::Ftp(config) = &mut source.kind
    {
        config.logins.retain(|login| login.name.as_str() == name);
    }
}

impl Look {
    /// Login by login: what was taken and refused last, what waits, and what would become of it.
    pub(super) fn sample_stations(&self, config: &FtpConfig) -> Result<Vec<String>, Fault> {
        let mut lines = Vec::new();
        for login in &config.logins {
            lines.push(format!("{} ({}):\n", login.name, login.user));
            let found = self.sample_station(login)?;
            if found.is_empty() {
                lines.push(
                    "  chưa có tệp nào; kiểm tra địa chỉ, cổng, đăng nhập đặt trong thiết bị / no file has come yet; check address, port and login in the logger\n".to_owned(),
                );
            }
            lines.extend(found.iter().map(|line| format!("  {line}")));
        }
        Ok(lines)
    }

    fn sample_station(&self, login: &FtpLogin) -> Result<Vec<String>, Fault> {
        let home = &login.folder.path;
        let fault = |error| unreadable(&login.folder, &error);
        let mut lines: Vec<String> = latest(home, LATEST_MAX)
            .map_err(fault)?
            .iter()
            .map(|kept| of_kept(kept, home))
            .collect();
        for path in waiting(home).map_err(fault)? {
            lines.push(format!(
                "CHỜ / waits       {path}: chưa được đổi sang tên cuối / has not its final name yet\n"
            ));
        }
        // A login that was never used has no folder yet.
        if home.exists() {
            lines.extend(self.sample_files(&login.name, &login.dataset, &login.folder)?);
        }
        Ok(lines)
    }
}

fn of_kept(kept: &Kept, home: &Path) -> String {
    let Kept {
        name,
        facts,
        reason,
    } = kept;
    let (at, bytes) = (facts.modified, facts.bytes);
    match reason {
        None => format!("ĐÃ NHẬN / taken   {name}: {bytes} byte, {at}\n"),
        Some(path) => {
            let reason = fs::read_to_string(path).unwrap_or_default();
            let why: Vec<&str> = reason.lines().take(2).collect();
            let path = path.strip_prefix(home).unwrap_or(path).display();
            format!(
                "ĐÃ TỪ CHỐI / refused {name}: {bytes} byte, {at}: {} ({path})\n",
                why.join(" ")
            )
        }
    }
}
