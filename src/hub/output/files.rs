//! Kind `files`: segments of CSV or NDJSON, one a batch and dataset, named by the batch's number. A
//! segment appears whole or not at all, and appears again with the same name and content when a
//! crash came in between. What a source itself wrote and was too large for its entry lies beside the
//! segments, under `originals/<sha256>`, before the segment that names it is there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::hub::output::event::Event;
use crate::hub::output::pick::find;
use crate::hub::output::settings::{self, Column};
use crate::hub::output::{Adapter, Delivery, Failure, Receipt, Trouble};
use crate::hub::records::{safe, write_row};
use crate::model::DatasetId;
use crate::model::record::Op;
use crate::shell::settings::section::Section;

/// Tells a spreadsheet program that the text is UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// Columns that every CSV file begins with.
const OWN: [&str; 6] = ["id", "agency", "subject", "op", "event_time", "stored_time"];

#[derive(Debug, Clone)]
pub struct FilesConfig {
    pub folder: PathBuf,
    pub format: FileFormat,
    pub every_ms: u64,
    pub batch_max: usize,
}

#[derive(Debug, Clone)]
pub enum FileFormat {
    Ndjson,
    Csv {
        byte_order_mark: bool,
        /// Empty: the whole data in one column.
        columns: Vec<Column>,
    },
}

pub fn settings(section: &mut Section) -> Option<FilesConfig> {
    let folder = section.path("folder", None);
    let format = section.value("format", None, |text| match text {
        "csv" => Ok(true),
        "ndjson" => Ok(false),
        _ => Err(settings::one_of(text, &["csv", "ndjson"])),
    });
    let every_ms = settings::every(section, "10 s");
    let batch_max = section.number("batch", 1_000, 1..=10_000);
    let format = match format {
        Some(true) => {
            let byte_order_mark = section.flag("bom", true);
            let columns = settings::columns(section, &OWN);
            FileFormat::Csv {
                byte_order_mark: byte_order_mark?,
                columns: columns?,
            }
        }
        Some(false) => FileFormat::Ndjson,
        None => return None,
    };
    Some(FilesConfig {
        folder: folder?,
        format,
        every_ms: every_ms?,
        batch_max: usize::try_from(batch_max?).expect("bounded above"),
    })
}

pub struct Files {
    name: String,
    config: FilesConfig,
}

impl Files {
    pub fn new(name: &str, config: &FilesConfig) -> Files {
        Files {
            name: name.to_owned(),
            config: config.clone(),
        }
    }

    fn content(&self, events: &[&Event]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = match &self.config.format {
            FileFormat::Ndjson => events
                .iter()
                .try_for_each(|event| writeln!(bytes, "{}", event.json)),
            FileFormat::Csv {
                byte_order_mark,
                columns,
            } => write_csv(&mut bytes, *byte_order_mark, columns, events),
        };
        written.expect("writing to memory");
        bytes
    }
}

impl Adapter for Files {
    fn events_max(&self) -> usize {
        self.config.batch_max
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Failure> {
        let mut segments: BTreeMap<&DatasetId, Vec<&Event>> = BTreeMap::new();
        for event in delivery.events {
            let segment = segments.entry(&event.key.dataset).or_default();
            segment.push(event);
        }
        let ending = match self.config.format {
            FileFormat::Ndjson => "ndjson",
            FileFormat::Csv { .. } => "csv",
        };
        for (dataset, events) in segments {
            let folder = self.config.folder.join(dataset.as_str());
            for digest in events.iter().filter_map(|event| event.large_original) {
                if let Some(kept) = (delivery.kept)(digest) {
                    let originals = folder.join("originals");
                    copy_whole(&kept, &originals, &digest.to_string())
                        .map_err(|error| of_disk(&originals, &error))?;
                }
            }
            let name = format!("{}-{:012}.{ending}", self.name, delivery.batch);
            write_whole(&folder, &name, &self.content(&events))
                .map_err(|error| of_disk(&folder, &error))?;
        }
        Ok(Receipt::default())
    }
}

fn write_csv(
    out: &mut Vec<u8>,
    byte_order_mark: bool,
    columns: &[Column],
    events: &[&Event],
) -> io::Result<()> {
    if byte_order_mark {
        out.write_all(BYTE_ORDER_MARK.as_bytes())?;
    }
    let whole = columns.is_empty().then(|| "data".to_owned());
    let names = columns.iter().map(|column| column.name.clone());
    let own = OWN.iter().map(|name| (*name).to_owned());
    write_row(out, own.chain(names).chain(whole))?;
    for event in events {
        let op = match event.op {
            Op::Upsert => "upsert",
            Op::Delete => "delete",
            Op::Snapshot => "snapshot",
        };
        let own = [
            safe(event.id.to_string()),
            event.key.agency.to_string(),
            safe(event.key.subject.to_string()),
            op.to_owned(),
            safe(event.time.clone()),
            event.stored.clone(),
        ];
        let cells = columns.iter().map(|column| cell(event, column));
        let whole = columns.is_empty().then(|| event.data.get().to_owned());
        write_row(out, own.into_iter().chain(cells).chain(whole))?;
    }
    Ok(())
}

/// Texts without their quotes; numbers and whatever has structure as they are written.
fn cell(event: &Event, column: &Column) -> String {
    let Some(value) = find(&event.data, &column.field) else {
        return String::new();
    };
    match serde_json::from_str(value.get()) {
        Ok(serde_json::Value::String(text)) => safe(text),
        Ok(serde_json::Value::Null) => String::new(),
        _ => value.get().to_owned(),
    }
}

/// Writes a file so that it is there whole, and synced, or not at all.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    make_folder(folder)?;
    let temporary = folder.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Copies a file so that it is there whole, and synced, or not at all; one that is there stays.
fn copy_whole(from: &Path, folder: &Path, name: &str) -> io::Result<()> {
    let mut from = File::open(from)?;
    let to = folder.join(name);
    if fs::metadata(&to)
        .is_ok_and(|found| from.metadata().is_ok_and(|own| own.len() == found.len()))
    {
        return Ok(());
    }
    make_folder(folder)?;
    let temporary = folder.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary)?;
    io::copy(&mut from, &mut file)?;
    file.sync_all()?;
    fs::rename(&temporary, to)?;
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, each of which is synced into the one above.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => File::open(above)?.sync_all()?,
        }
    }
    Ok(())
}

pub fn of_disk(folder: &Path, error: &io::Error) -> Trouble {
    let folder = folder.display();
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => [
            "Ổ đĩa đầy: giải phóng dung lượng; trục tự ghi tiếp.",
            "The disk is full: free space; the hub goes on by itself.",
        ],
        io::ErrorKind::PermissionDenied => [
            "Cho tài khoản chạy trucd quyền ghi vào thư mục này.",
            "Let the user that runs trucd write to this folder.",
        ],
        _ => [
            "Kiểm tra thư mục và ổ đĩa (ổ mạng còn nối không); trục tự ghi tiếp.",
            "Check the folder and its disk (is a network drive still mounted?); the hub goes on by itself.",
        ],
    };
    Trouble::new(
        "disk",
        [
            format!("không ghi được vào {folder}: {error}"),
            format!("cannot write to {folder}: {error}"),
        ],
        hint,
    )
}
