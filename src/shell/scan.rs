//! Asks a virus scanner about a file: clamd over its socket (INSTREAM), or a command.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;

/// How files are scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanner {
    pub kind: ScannerKind,
    /// A scan that takes longer has failed.
    pub timeout_ms: u64,
    /// What could not be scanned is taken all the same, and flagged.
    pub accepts_unscanned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScannerKind {
    /// clamd's local socket.
    Clamd(PathBuf),
    /// A command and its arguments; the file's path is added. Exit status 0 says clean, 1 found.
    Command(Vec<String>),
}

/// What the scanner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    /// The name of what was found.
    Found(String),
}

/// Pieces in which a file is sent to clamd.
const PIECE_BYTES: usize = 64 * 1024;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4096;
/// A command is looked at so often.
const LOOK_MS: u64 = 20;

impl Scanner {
    /// Reads `[attachments.scanner]`; none where nothing is written.
    pub fn read(mut section: Section) -> Option<Option<Scanner>> {
        let clamd = section.optional_path("clamd");
        let command = section.texts("command", Some(&[]), |text| Ok(text.to_owned()));
        let timeout_ms = section.duration("timeout", "60 s", 100..=3_600_000);
        let failing = section.value("failing", Some("refuse"), |text| match text {
            "refuse" => Ok(false),
            "accept" => Ok(true),
            _ => Err(Wrong::new(
                &format!("không có lựa chọn “{text}”"),
                &format!("{text:?} is not one of the choices"),
                "Chọn một trong: refuse, accept.",
                "Choose one of: refuse, accept.",
            )),
        });
        let (clamd, command) = (clamd?, command?);
        let kind = match (clamd, command.is_empty()) {
            (None, true) => return Some(None),
            (Some(socket), true) => ScannerKind::Clamd(socket),
            (None, false) => ScannerKind::Command(command),
            (Some(_), false) => {
                section.fault(
                    "command",
                    Wrong::new(
                        "chỉ chọn một: clamd hoặc command",
                        "only one of clamd and command is possible",
                        "Bỏ một trong hai.",
                        "Leave one of them out.",
                    ),
                );
                return None;
            }
        };
        Some(Some(Scanner {
            kind,
            timeout_ms: timeout_ms?,
            accepts_unscanned: failing?,
        }))
    }

    /// Scans a file; blocks.
    pub fn scan(&self, path: &Path) -> io::Result<Verdict> {
        match &self.kind {
            ScannerKind::Clamd(socket) => self.ask_clamd(socket, path),
            ScannerKind::Command(words) => self.run(words, path),
        }
    }

    /// `zINSTREAM`, then pieces with their length before them, the last of length 0.
    fn ask_clamd(&self, socket: &Path, path: &Path) -> io::Result<Verdict> {
        let mut clamd = UnixStream::connect(socket)?;
        let limit = Some(Duration::from_millis(self.timeout_ms));
        clamd.set_read_timeout(limit)?;
        clamd.set_write_timeout(limit)?;
        let mut file = File::open(path)?;
        let sent = send(&mut clamd, &mut file);
        // When clamd has had enough it says so and hangs up before all is sent.
        let mut answer = Vec::new();
        let read = (&mut clamd).take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let text = text.trim_end_matches(['\0', '\n']).trim();
        let text = text.strip_prefix("stream:").unwrap_or(text).trim();
        if text == "OK" {
            sent?;
            return Ok(Verdict::Clean);
        }
        if let Some(name) = text.strip_suffix("FOUND") {
            return Ok(Verdict::Found(name.trim().to_owned()));
        }
        sent?;
        read?;
        Err(io::Error::other(format!("clamd says {text:?}")))
    }

    fn run(&self, words: &[String], path: &Path) -> io::Result<Verdict> {
        let (program, arguments) = words.split_first().expect("a command has a program");
        let mut child = Command::new(program)
            .args(arguments)
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        for _ in 0..self.timeout_ms.div_ceil(LOOK_MS) {
            if let Some(status) = child.try_wait()? {
                return match status.code() {
                    Some(0) => Ok(Verdict::Clean),
                    Some(1) => Ok(Verdict::Found(program.clone())),
                    _ => Err(io::Error::other(format!("the scanner ended with {status}"))),
                };
            }
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
        child.kill()?;
        child.wait()?;
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn send(clamd: &mut UnixStream, file: &mut File) -> io::Result<()> {
    clamd.write_all(b"zINSTREAM\0")?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = file.read(&mut piece)?;
        let head = u32::try_from(length).expect("a piece is small");
        clamd.write_all(&head.to_be_bytes())?;
        if length == 0 {
            return Ok(());
        }
        clamd.write_all(&piece[..length])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(script: &str, timeout_ms: u64) -> Scanner {
        Scanner {
            kind: ScannerKind::Command(["/bin/sh", "-c", script, "scan"].map(str::to_owned).into()),
            timeout_ms,
            accepts_unscanned: false,
        }
    }

    #[test]
    fn a_command_says_clean_found_or_nothing_in_time() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a");
        std::fs::write(&file, "EICAR").unwrap();
        let grep = command("! grep -q EICAR \"$1\"", 10_000);
        assert!(matches!(grep.scan(&file).unwrap(), Verdict::Found(_)));
        std::fs::write(&file, "sạch").unwrap();
        assert_eq!(grep.scan(&file).unwrap(), Verdict::Clean);
        assert!(command("exit 2", 10_000).scan(&file).is_err());
        let slow = command("exec sleep 60", 60).scan(&file).unwrap_err();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
    }
}
