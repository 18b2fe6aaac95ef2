//! Files to an SFTP server, through OpenSSH's `sftp` program in batch mode: a process a file, host
//! keys strictly from the file that the settings name.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::hub::output::station::{Push, PushConfig};
use crate::hub::output::{Failure, Trouble};

const CONNECT_S: u64 = 10;
/// Between two looks whether the program has ended.
const LOOK: Duration = Duration::from_millis(20);
/// What of the program's words is kept.
const TOLD_BYTES_MAX: u64 = 2_000;

pub struct Sftp {
    config: PushConfig,
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Sftp {
    pub fn new(config: &PushConfig, key: &Path, known_hosts: &Path) -> Sftp {
        Sftp {
            config: config.clone(),
            key: key.to_owned(),
            known_hosts: known_hosts.to_owned(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sftp");
        command
            // -q would also hide why there is no connection.
            .args(["-b", "-", "-o", "LogLevel=ERROR"])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .args([
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "GlobalKnownHostsFile=/dev/null",
            ])
            .args(["-o", &format!("ConnectTimeout={CONNECT_S}")])
            .args(["-o", "ServerAliveInterval=5", "-F", "none"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts.display()))
            .arg("-i")
            .arg(&self.key)
            .args(["-P", &self.config.server.port.to_string()])
            .arg(format!("{}@{}", self.config.user, self.config.server.host))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, batch: &str) -> Result<(), Trouble> {
        let mut child = self
            .command()
            .spawn()
            .map_err(|error| of_sftp(&format!("sftp: {error}")))?;
        if let Some(mut input) = child.stdin.take() {
            // A program that has ended says why.
            let _ = input.write_all(batch.as_bytes());
        }
        let told = child.stderr.take().map(|words| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                // Words that cannot be read are no loss.
                let _ = words.take(TOLD_BYTES_MAX).read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let is_done = self.ended(&mut child);
        let told = told.and_then(|told| told.join().ok()).unwrap_or_default();
        match is_done {
            true => Ok(()),
            false => Err(of_sftp(reason(&told).unwrap_or("timeout"))),
        }
    }

    /// Whether the program has ended well within its time.
    fn ended(&self, child: &mut Child) -> bool {
        let looks = self.config.timeout.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => std::thread::sleep(LOOK),
                Err(_) => break,
            }
        }
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

impl Push for Sftp {
    fn put(&mut self, folder: &[String], name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let local = write_temporary(bytes).map_err(|error| of_sftp(&error.to_string()))?;
        let mut path = self.config.remote.clone();
        let mut batch = String::new();
        for part in folder {
            path = format!("{path}/{part}");
            // A minus lets the batch go on: the folder may be there.
            let _ = writeln!(batch, "-mkdir \"{path}\"");
        }
        let place = format!("{path}/{name}");
        let _ = writeln!(batch, "put \"{}\" \"{place}.part\"", local.path.display());
        let rename = format!("rename \"{place}.part\" \"{place}\"\n");
        let first = self.run(&format!("{batch}{rename}"));
        // Some servers do not replace a file, which is there when the same one was sent before.
        let again = || self.run(&format!("{batch}-rm \"{place}\"\n{rename}"));
        Ok(first.or_else(|_| again())?)
    }
}

/// A file for the program to read, which is gone when it is dropped.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // One that stays is overwritten by nobody and cleared with the temporary folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn write_temporary(bytes: &[u8]) -> std::io::Result<Temporary> {
    let roll = getrandom::u64().expect("the operating system has random numbers");
    let path = std::env::temp_dir().join(format!("trucd-{roll:016x}"));
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&path)?;
    let temporary = Temporary { path };
    file.write_all(bytes)?;
    Ok(temporary)
}

/// The line that says why; sftp's own last word after it is always the same.
fn reason(told: &str) -> Option<&str> {
    let is_reason = |line: &&str| !line.starts_with("Connection closed");
    let mut lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.clone().next_back();
    lines.rfind(is_reason).or(last)
}

fn of_sftp(told: &str) -> Trouble {
    let told: String = told.chars().filter(|c| !c.is_control()).take(200).collect();
    let hint = match told.to_lowercase() {
        text if text.contains("host key") => [
            "Hỏi đơn vị vận hành khóa máy chủ đúng, rồi ghi vào tệp known_hosts (ssh-keyscan, đối chiếu vân tay).",
            "Ask the operator for the right host key and write it to known_hosts (ssh-keyscan, compare the fingerprint).",
        ],
        text if text.contains("permission denied") => [
            "Kiểm tra user, key_file (quyền 0600) và quyền ghi vào remote ở máy chủ SFTP.",
            "Check user, key_file (mode 0600) and the right to write to remote at the SFTP server.",
        ],
        _ => [
            "Kiểm tra server, mạng, và máy trục có cài openssh-client không; trục giữ lại và tự gửi tiếp.",
            "Check server, network, and that openssh-client is installed here; the hub keeps everything and goes on by itself.",
        ],
    };
    Trouble::new(
        "sftp",
        [
            format!("không gửi được tệp tới máy chủ SFTP ({told})"),
            format!("no file reaches the SFTP server ({told})"),
        ],
        hint,
    )
}
