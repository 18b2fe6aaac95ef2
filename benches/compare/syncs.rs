//! How often a process syncs, counted by strace.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::setup::STRACE;
use crate::wait;

/// A strace that counts until it is asked.
pub struct Counter {
    strace: Child,
    summary: PathBuf,
    _folder: tempfile::TempDir,
}

impl Counter {
    pub fn attach(pid: u32) -> Result<Counter> {
        let folder = tempfile::tempdir()?;
        let summary = folder.path().join("summary");
        let strace = Command::new(STRACE)
            .args(["-c", "-f", "-e", "trace=fsync,fdatasync", "-o"])
            .arg(&summary)
            .args(["-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace does not start")?;
        let counter = Counter {
            strace,
            summary,
            _folder: folder,
        };
        wait::until(
            "strace holds all threads (is it allowed to?)",
            Duration::from_secs(10),
            || is_traced(pid),
        )?;
        Ok(counter)
    }

    pub fn finish(mut self) -> Result<u64> {
        let pid = Pid::from_raw(i32::try_from(self.strace.id())?);
        kill(pid, Signal::SIGINT)?;
        self.strace.wait()?;
        let summary = fs::read_to_string(&self.summary)?;
        // "100.00 0.000123 61 2 1 fdatasync": the fourth word counts the calls.
        Ok(summary
            .lines()
            .filter(|line| line.ends_with(" fsync") || line.ends_with(" fdatasync"))
            .filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok())
            .sum())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        fs::read_to_string(thread.path().join("status"))
            .is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
    })
}
