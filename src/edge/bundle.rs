//! `tramd bundle FILE`: what somebody far away needs to see of a box in trouble, in one zip file that any
//! computer opens. No personal data, no secrets: nothing in it is made of records, and long numbers in
//! the log are masked.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::edge::check::check;
use crate::edge::commands::{self, Failure};
use crate::edge::config::Config;
use crate::edge::config::load::load;
use crate::edge::orders;
use crate::model::UnixMs;
use crate::shell::clock::Clock;
use crate::shell::replace::folder_of;
use crate::shell::settings::Fault;
use crate::store::rows::RowsView;

/// Newest lines of the log that are taken along.
const LOG_LINES: &str = "5000";
const LOG_BYTES_MAX: usize = 4 << 20;
/// Parked rows that reasons are counted over.
const PARKED_ROWS: u32 = 10_000;
/// Names of files that are listed.
const FILES_MAX: usize = 500;
/// A number of so many digits may be an identity card's, a telephone's or an account's.
const DIGITS_MIN: usize = 9;
const DIGITS_SHOWN: usize = 4;

const README: &str = "\
Gói chẩn đoán của trạm liên thông, không chứa dữ liệu cá nhân, mật khẩu hay khóa.\n\
Diagnostics of a gateway box, without personal data, passwords or keys.\n\
\n\
status.json    trạng thái như trên trang / the status that the page shows\n\
check.txt      kết quả tramd check / what tramd check found\n\
config.txt     cấu hình đang có hiệu lực, che mật khẩu / the effective configuration, secrets masked\n\
audit.txt      lệnh của trục và việc kỹ thuật viên đã làm / what was ordered and done\n\
parked.txt     lý do các dòng bị giữ lại, không có nội dung / why rows are parked, without content\n\
store.txt      các tệp của kho / the store's files\n\
log.txt        nhật ký gần nhất / the newest lines of the log\n\
system.txt     máy và hệ điều hành / the machine and its system\n";

/// Writes the bundle into a new file.
pub fn bundle(config: &Path, file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| {
            format!("không ghi được {shown}, hoặc tệp đã có / cannot write {shown}, or it exists")
        });
    let written = opened.and_then(|out| write(config, out));
    match written {
        Ok(bytes) => Ok(format!(
            "Đã ghi {shown}, {bytes} byte, không có dữ liệu cá nhân / written, without personal data\n"
        )),
        Err(error) => Err(Failure::Runtime(error)),
    }
}

/// Writes everything that can be had; what cannot says why in its place.
pub fn write(config_path: &Path, out: impl Write + Seek) -> anyhow::Result<u64> {
    let mut zip = ZipWriter::new(out);
    let options = SimpleFileOptions::default().unix_permissions(0o600);
    let mut add = |name: &str, text: &str| -> anyhow::Result<()> {
        zip.start_file(name, options)?;
        Ok(zip.write_all(text.as_bytes())?)
    };
    let now = Clock::start(UnixMs(0)).now().wall;
    add("README.txt", README)?;
    add("status.json", &told(commands::status(config_path, true)))?;
    add("check.txt", &told(check(config_path, false)))?;
    add("config.txt", &told(commands::config(config_path)))?;
    add("audit.txt", &told(orders::audit(config_path, false)))?;
    if let Ok(loaded) = load(config_path) {
        add("parked.txt", &or_error(parked(&loaded.config)))?;
        add("store.txt", &or_error(store_files(&loaded.config)))?;
    }
    add("log.txt", &masked(&or_error(log())))?;
    add("system.txt", &system(now))?;
    let mut out = zip.finish()?;
    out.flush()?;
    Ok(out.stream_position()?)
}

/// What a command says, or why it says nothing.
fn told(said: Result<String, Failure>) -> String {
    said.unwrap_or_else(|failure| match failure {
        Failure::Configuration(faults) => faults
            .iter()
            .map(Fault::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
        failure => failure.text(),
    })
}

fn or_error(text: anyhow::Result<String>) -> String {
    text.unwrap_or_else(|error| format!("{error:#}\n"))
}

fn parked(config: &Config) -> anyhow::Result<String> {
    let view = RowsView::open(&config.store.path)?;
    let mut text = String::new();
    for (source, rows) in view.parked_counts()? {
        writeln!(text, "{source}: {rows}")?;
    }
    for found in view.parked_reasons(PARKED_ROWS)? {
        writeln!(
            text,
            "{}: {} × {} / {}",
            found.source, found.rows, found.reason_vi, found.reason_en
        )?;
    }
    Ok(text)
}

/// Names and lengths; attachments, which are many, as one sum.
fn store_files(config: &Config) -> anyhow::Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder_of(&config.store.path))?.take(FILES_MAX) {
        let entry = entry?;
        let facts = entry.metadata()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match facts.is_dir() {
            true => writeln!(text, "{name}/")?,
            false => writeln!(text, "{name} {}", facts.len())?,
        }
    }
    Ok(text)
}

fn log() -> anyhow::Result<String> {
    let output = Command::new("journalctl")
        .args(["--unit", "tramd", "--lines", LOG_LINES, "--no-pager"])
        .args(["--output", "short-iso"])
        .stdin(Stdio::null())
        .output()
        .context("journalctl")?;
    if !output.status.success() {
        bail!("journalctl: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let too_many = text.len().saturating_sub(LOG_BYTES_MAX);
    let from = (too_many..=text.len()).find(|at| text.is_char_boundary(*at));
    text.drain(..from.unwrap_or(0));
    Ok(text)
}

/// Long runs of digits keep their last four.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut digits = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
        } else {
            end_number(&mut digits, &mut out);
            out.push(character);
        }
    }
    end_number(&mut digits, &mut out);
    out
}

fn end_number(digits: &mut String, out: &mut String) {
    match digits.len() {
        DIGITS_MIN.. => {
            out.push('…');
            out.push_str(&digits[digits.len() - DIGITS_SHOWN..]);
        }
        _ => out.push_str(digits),
    }
    digits.clear();
}

fn system(now: UnixMs) -> String {
    let mut text = format!("at {now}\ntramd {}\n", env!("CARGO_PKG_VERSION"));
    for file in [
        "/etc/os-release",
        "/proc/version",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/mounts",
        "/etc/resolv.conf",
    ] {
        let content = fs::read_to_string(file).unwrap_or_else(|error| error.to_string());
        text.push_str(&format!("\n=== {file}\n{content}"));
    }
    for command in [
        ["df", "-h"],
        ["ip", "address"],
        ["ip", "route"],
        ["timedatectl", "status"],
    ] {
        let output = Command::new(command[0])
            .arg(command[1])
            .stdin(Stdio::null())
            .output();
        let said = output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        text.push_str(&format!("\n=== {}\n{said}", command.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_masked_and_short_ones_are_not() {
        assert_eq!(
            masked("CCCD 066203001234, số 0912345678; pid 31337 lúc 20:15\n"),
            "CCCD …1234, số …5678; pid 31337 lúc 20:15\n"
        );
    }
}
