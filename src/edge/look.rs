//! `tramd sources try` and `discover`: a look at a source that keeps nothing.
//!
//! A try reads a sample and shows what would be taken and what refused; texts and numbers of
//! datasets with personal data are masked. A discovery lists tables and columns or files, names
//! only, and proposes a mapping.

mod stations;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::runtime::Builder;

use crate::catalogue::Dataset;
use crate::edge::commands::Failure;
use crate::edge::config::load::{Loaded, load};
use crate::edge::config::{FolderConfig, SourceConfig, SourceKind};
use crate::edge::connectors::Fault;
use crate::edge::door::{Door, Incoming};
use crate::edge::folder::FolderSource;
use crate::edge::folder::files::Folder;
use crate::edge::folder::reading::{self, Taken};
use crate::edge::intake;
use crate::edge::rows::Row;
use crate::edge::rows::check::reasons;
use crate::edge::sql::sample;
use crate::edge::{ftp_fetch, http_pull, mqtt_source};
use crate::model::{DatasetId, SourceName, UnixMs};
use crate::shell::clock::Clock;

/// Rows, and files, that a try shows.
pub const SHOWN_MAX: usize = 20;
/// Datasets from this sensitivity on hold personal data.
const PERSONAL: u8 = 2;
const TEXT_CHARS_MAX: usize = 60;
/// How long a try waits for what a broker sends, and a check.
const PATIENCE: Duration = Duration::from_secs(10);
const CHECK_PATIENCE: Duration = Duration::from_secs(1);

/// What a try of one kind of source found.
#[derive(Debug)]
pub enum Sample {
    Rows(Vec<Row>),
    /// Lines for a person, about files: Vietnamese and English in one.
    Files(Vec<String>),
}

/// `tramd sources try NAME`.
pub fn try_source(path: &Path, name: &str) -> Result<String, Failure> {
    let look = Look::open(path, name)?;
    match look.block_on(look.sample(PATIENCE))? {
        Sample::Rows(rows) => Ok(look.show_rows(&rows)),
        Sample::Files(lines) if lines.is_empty() => {
            Ok("không có tệp nào đang chờ / no file is waiting\n".to_owned())
        }
        Sample::Files(lines) => Ok(lines.concat()),
    }
}

/// Whether the source answers as the daemon would ask it; nothing is kept.
pub fn reach(path: &Path, name: &str) -> Result<(), Fault> {
    let look = Look::open(path, name).map_err(|_| no_scratch())?;
    let reached = look.run(look.sample(CHECK_PATIENCE));
    reached.map_err(|_| no_scratch())?.map(drop)
}

fn no_scratch() -> Fault {
    Fault::new(
        "no_scratch",
        [
            "không tạo được thư mục tạm để đọc thử",
            "no temporary folder can be made for a try",
        ],
        [
            "Kiểm tra ổ đĩa còn chỗ và quyền ghi vào thư mục tạm.",
            "Check that the disk has room and that the temporary folder can be written.",
        ],
    )
}

/// `tramd sources discover NAME`.
pub fn discover(path: &Path, name: &str) -> Result<String, Failure> {
    let look = Look::open(path, name)?;
    match &look.source.kind {
        SourceKind::Sql(config) => {
            let tables = look.block_on(sample::tables(config))?;
            Ok(sample::proposal(&tables, &look.dataset()))
        }
        SourceKind::Folder(folder) => {
            let lines = look.block_on(async { files(folder) })?;
            Ok(lines.concat())
        }
        SourceKind::Ftp(_) => Ok(
            "nguồn này tự đẩy dữ liệu vào trạm, không có gì để liệt kê\nthis source pushes to the box; there is nothing to list\n"
                .to_owned(),
        ),
        SourceKind::Mqtt(_) | SourceKind::HttpPull(_) | SourceKind::FtpFetch(_) => Ok(format!(
            "nguồn loại này không có bảng để liệt kê; đọc thử bằng: tramd sources try {name}\nthis kind has no tables to list; read a sample with: tramd sources try {name}\n"
        )),
    }
}

/// A source, and a door that leads nowhere.
struct Look {
    source: SourceConfig,
    door: Door,
    clock: Clock,
    /// What a reader would keep beside the store is kept here, and is gone at the end.
    scratch: Scratch,
}

impl Look {
    fn open(path: &Path, name: &str) -> Result<Look, Failure> {
        let Loaded {
            mut config,
            catalogue,
            ..
        } = load(path).map_err(Failure::Configuration)?;
        let place = config
            .sources
            .iter()
            .position(|source| source.name.as_str() == name || stations::is_login(source, name));
        let Some(place) = place else {
            let names: Vec<&str> = config
                .sources
                .iter()
                .map(|source| source.name.as_str())
                .collect();
            return Err(Failure::Usage(format!(
                "không có nguồn “{name}” trong cấu hình; các nguồn: {0} / no source {name:?}; there are: {0}",
                names.join(", ")
            )));
        };
        let mut source = config.sources.remove(place);
        stations::only(&mut source, name);
        let scratch = Scratch::make()?;
        config.store.path = scratch.0.join("store");
        let clock = Clock::start(UnixMs(0));
        let (intake, _) = intake::channel();
        let door = Door::new(&config, catalogue, intake, clock.clone());
        Ok(Look {
            source,
            door,
            clock,
            scratch,
        })
    }

    fn dataset(&self) -> std::sync::Arc<Dataset> {
        let dataset = self.door.dataset(&self.source.dataset);
        dataset.expect("the configuration names datasets of the catalogue")
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let done = runtime.block_on(work);
        runtime.shutdown_background();
        Ok(done)
    }

    fn block_on<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Failure> {
        self.run(work)?.map_err(|fault| {
            Failure::Runtime(anyhow::anyhow!(
                "{}\n    {}\n  {}\n    {}",
                fault.vi,
                fault.hint_vi,
                fault.en,
                fault.hint_en
            ))
        })
    }

    /// The sample of each kind of source.
    async fn sample(&self, patience: Duration) -> Result<Sample, Fault> {
        match &self.source.kind {
            SourceKind::Sql(config) => {
                let rows = sample::rows(config, &self.dataset(), SHOWN_MAX).await?;
                Ok(Sample::Rows(rows))
            }
            SourceKind::Folder(folder) => self.sample_own_files(folder).map(Sample::Files),
            SourceKind::HttpPull(config) => {
                http_pull::sample(config, SHOWN_MAX).await.map(Sample::Rows)
            }
            SourceKind::FtpFetch(config) => {
                let place = self.scratch.0.join("fetched");
                let made = fs::create_dir(&place);
                let folder = FolderConfig {
                    path: place.clone(),
                    ..config.folder.clone()
                };
                made.map_err(|error| unreadable(&folder, &error))?;
                ftp_fetch::sample(config, place, self.clock.clone(), SHOWN_MAX).await?;
                self.sample_own_files(&folder).map(Sample::Files)
            }
            SourceKind::Mqtt(config) => {
                let dataset = self.dataset();
                let rows = mqtt_source::sample(config, &dataset, &self.clock, SHOWN_MAX, patience);
                rows.await.map(Sample::Rows)
            }
            SourceKind::Ftp(config) => self.sample_stations(config).map(Sample::Files),
        }
    }

    fn sample_own_files(&self, folder: &FolderConfig) -> Result<Vec<String>, Fault> {
        self.sample_files(&self.source.name, &self.source.dataset, folder)
    }

    /// What would be taken and refused of the files that lie in a folder.
    fn sample_files(
        &self,
        name: &SourceName,
        dataset: &DatasetId,
        folder: &FolderConfig,
    ) -> Result<Vec<String>, Fault> {
        debug_assert!(self.scratch.0.is_dir(), "what is read is kept nowhere else");
        let place = Folder::new(&folder.path, &folder.patterns);
        let listing = place.look().map_err(|error| unreadable(folder, &error))?;
        let source = FolderSource {
            name: name.clone(),
            dataset: dataset.clone(),
            folder: folder.clone(),
            inotify: false,
        };
        let now = self.clock.now();
        let line = |found| {
            let taken = reading::take(&place, &source, &self.door, found, now);
            let name = found.name.to_string_lossy();
            match taken {
                Taken::Records { records, notes, .. } => {
                    let count = records.len();
                    let notes: String = notes.iter().map(|note| format!("    {note}\n")).collect();
                    format!("SẼ NHẬN / taken   {name}: {count} bản ghi / records\n{notes}")
                }
                Taken::Refused(refused) => {
                    format!("TỪ CHỐI / refused {name}: {}\n", refused.summary)
                }
                Taken::Changed => {
                    format!("CHỜ / waits       {name}: đang thay đổi / still changing\n")
                }
                Taken::Unreadable(error) => {
                    format!("HỎNG / unreadable {name}: {error}\n")
                }
                Taken::NotKept(error) => format!("HỎNG / not kept   {name}: {error}\n"),
            }
        };
        Ok(listing.files.iter().take(SHOWN_MAX).map(line).collect())
    }

    fn show_rows(&self, rows: &[Row]) -> String {
        let dataset = self.dataset();
        let (mut taken, mut text) = (0, String::new());
        for (number, row) in (1..).zip(rows) {
            let incoming = Incoming {
                data: &row.data,
                op: row.op,
                original: None,
                id: None,
            };
            let verdict = match (
                &row.flaw,
                self.door.admit_row(&dataset, &self.source.name, incoming),
            ) {
                (Some([vi, en]), _) => Err((vi.clone(), en.clone())),
                (None, Ok((record, subject))) => Ok((record.lane, subject)),
                (None, Err(refusal)) => Err(reasons(&refusal)),
            };
            match verdict {
                Ok((lane, subject)) => {
                    taken += 1;
                    writeln!(text, "{number}. SẼ NHẬN / taken, {lane}, {subject}")
                }
                Err((vi, en)) => writeln!(text, "{number}. TỪ CHỐI / refused: {vi}\n     {en}"),
            }
            .expect("a string takes any text");
            let shown = shown(row.data.get(), PERSONAL <= dataset.sensitivity);
            writeln!(text, "     {shown}").expect("a string takes any text");
        }
        let refused = rows.len() - taken;
        writeln!(
            text,
            "đọc thử {0} dòng: sẽ nhận {taken}, từ chối {refused}; không lưu gì / {0} rows tried: {taken} taken, {refused} refused; nothing was kept",
            rows.len()
        )
        .expect("a string takes any text");
        text
    }
}

/// The folder's files, names and sizes.
fn files(folder: &FolderConfig) -> Result<Vec<String>, Fault> {
    let listing = Folder::new(&folder.path, &folder.patterns).look();
    let listing = listing.map_err(|error| unreadable(folder, &error))?;
    let line = |found: &crate::edge::folder::files::Found| {
        format!(
            "{} ({} byte)\n",
            found.name.to_string_lossy(),
            found.print.bytes
        )
    };
    Ok(listing.files.iter().take(200).map(line).collect())
}

fn unreadable(folder: &FolderConfig, error: &std::io::Error) -> Fault {
    let path = folder.path.display();
    Fault::new(
        "folder",
        [
            format!("không đọc được thư mục {path}: {error}"),
            format!("the folder {path} cannot be read: {error}"),
        ],
        [
            "Kiểm tra path và quyền đọc; chạy bằng tài khoản tramd hoặc root.",
            "Check path and the permission to read; run as the user tramd or root.",
        ],
    )
}

/// A record for a person's eyes; with `mask` nothing of its texts and numbers shows.
fn shown(record: &str, mask: bool) -> String {
    match serde_json::from_str(record) {
        Ok(mut value) => {
            veil(&mut value, mask);
            value.to_string()
        }
        Err(_) => String::new(),
    }
}

fn veil(value: &mut Value, mask: bool) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| veil(value, mask)),
        Value::Array(items) => items.iter_mut().for_each(|value| veil(value, mask)),
        Value::String(text) if mask => {
            *text = format!("•••({})", text.chars().count());
        }
        Value::String(text) if TEXT_CHARS_MAX < text.chars().count() => {
            *text = text.chars().take(TEXT_CHARS_MAX).chain(['…']).collect();
        }
        Value::Number(_) if mask => *value = Value::String("•••".to_owned()),
        _ => {}
    }
}

/// A folder for this process's eyes only, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Scratch, Failure> {
        let name = format!(
            "tramd-try-{:016x}",
            getrandom::u64().expect("the operating system has random numbers")
        );
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a folder of a try is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_values_are_masked() {
        let record = r#"{"ma":"H53","nguoi":{"ho_ten":"Trần Thị B","cccd":72096001234},"da_thu":true,"x":null,"y":["Nguyễn"]}"#;
        let masked = shown(record, true);
        for word in ["H53", "Trần", "72096", "Nguyễn"] {
            assert!(!masked.contains(word), "{masked}");
        }
        assert!(masked.contains("•••(10)") && masked.contains("true") && masked.contains("ho_ten"));
        let open = shown(r#"{"a":"Độ ẩm","v":1.5}"#, false);
        assert_eq!(open, r#"{"a":"Độ ẩm","v":1.5}"#);
    }
}
