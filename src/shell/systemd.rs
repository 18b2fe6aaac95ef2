//! The service manager's notification protocol (`sd_notify`): one datagram per message.
//!
//! Outside systemd every call does nothing. A message that cannot be sent is dropped: the watchdog
//! notices what matters.

use std::env;
use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest status line; systemd shows one line and cuts long ones.
const STATUS_CHARS_MAX: usize = 400;
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// A secret that the service manager handed over (`LoadCredential=`) is preferred to the file of that
/// name.
pub fn credential(path: PathBuf) -> PathBuf {
    let handed = env::var_os("CREDENTIALS_DIRECTORY")
        .zip(path.file_name())
        .map(|(folder, name)| Path::new(&folder).join(name));
    handed.filter(|handed| handed.exists()).unwrap_or(path)
}

/// Longest file that holds a password or a token.
const SECRET_BYTES_MAX: u64 = 4096;

/// The first line of a file that holds a secret.
pub fn read_secret(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?
        .take(SECRET_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The connection to the service manager, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    peer: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> ServiceManager {
        let address = env::var_os("NOTIFY_SOCKET").and_then(|path| address(path.as_bytes()).ok());
        let text = |name| env::var(name).ok();
        ServiceManager {
            peer: address.and_then(|address| Some((socket().ok()?, address))),
            watchdog: watchdog_interval(
                text("WATCHDOG_USEC").as_deref(),
                text("WATCHDOG_PID").as_deref(),
            ),
        }
    }

    /// The service takes work now.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// One line about what the service does, shown by `systemctl status`.
    pub fn status(&self, line: &str) {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(STATUS_CHARS_MAX)
            .collect();
        self.send(&format!("STATUS={line}"));
    }

    /// The service has begun to stop.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The service is alive; due at least once in each `watchdog_interval`.
    pub fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// Time after which the service manager kills a silent service; feed it twice as often.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Asks for more time to start or to stop.
    pub fn extend_timeout(&self, more: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", more.as_micros()));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.peer
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

/// A socket on which a manager that hangs cannot hold us up.
fn socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

/// A path, or after `@` a name in the abstract namespace.
fn address(path: &[u8]) -> io::Result<SocketAddr> {
    match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    }
}

/// The interval, unless it is meant for another process: a child inherits our environment.
fn watchdog_interval(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let micros: u64 = micros?.parse().ok()?;
    let ours = match pid {
        Some(pid) => pid.parse() == Ok(std::process::id()),
        None => true,
    };
    (ours && micros > 0).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(address: SocketAddr, watchdog: Option<Duration>) -> ServiceManager {
        ServiceManager {
            peer: Some((socket().unwrap(), address)),
            watchdog,
        }
    }

    fn received(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_a_socket_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager(
            address(path.as_os_str().as_bytes()).unwrap(),
            Some(Duration::from_secs(30)),
        );
        manager.ready();
        assert_eq!(received(&socket), "READY=1");
        manager.status("12 bản ghi đang chờ\nREADY=0");
        assert_eq!(received(&socket), "STATUS=12 bản ghi đang chờ READY=0");
        manager.watchdog();
        assert_eq!(received(&socket), "WATCHDOG=1");
        manager.extend_timeout(Duration::from_millis(1_500));
        assert_eq!(received(&socket), "EXTEND_TIMEOUT_USEC=1500000");
        manager.stopping();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn messages_reach_an_abstract_socket() {
        let name = format!("lienthong-test-{}", std::process::id());
        let bound = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&bound).unwrap();
        let manager = manager(address(format!("@{name}").as_bytes()).unwrap(), None);
        manager.watchdog();
        manager.ready();
        assert_eq!(
            received(&socket),
            "READY=1",
            "without a watchdog nothing feeds it"
        );
    }

    #[test]
    fn a_manager_that_is_gone_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone");
        drop(UnixDatagram::bind(&path).unwrap());
        manager(address(path.as_os_str().as_bytes()).unwrap(), None).ready();
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let ours = std::process::id().to_string();
        assert_eq!(
            watchdog_interval(Some("30000000"), None),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            watchdog_interval(Some("30000000"), Some(&ours)),
            Some(Duration::from_secs(30))
        );
        assert_eq!(watchdog_interval(Some("30000000"), Some("1")), None);
        assert_eq!(watchdog_interval(Some("0"), None), None);
        assert_eq!(watchdog_interval(Some("soon"), None), None);
        assert_eq!(watchdog_interval(None, Some(&ours)), None);
    }
}
