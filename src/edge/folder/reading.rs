//! From a file's bytes to records that passed the door, or to every reason why not.

use std::io;
use std::path::Path;

use base64::Engine as _;
use serde_json::value::RawValue;

use crate::catalogue::Dataset;
use crate::catalogue::admit::Refusal;
use crate::edge::blobs::BlobError;
use crate::edge::config::FileFormat;
use crate::edge::door::{Door, Incoming, op_named};
use crate::edge::folder::FolderSource;
use crate::edge::folder::files::{FILE_BYTES_MAX, Folder, Found};
use crate::edge::folder::handing::once_key;
use crate::edge::folder::reason::{Place, Reason, Told};
use crate::edge::rows::Attached;
use crate::engine::sending::NewRecord;
use crate::evidence::sha256;
use crate::formats::encoding::{self, Encoding, How};
use crate::formats::{FAULTS_MAX, Faults, edxml, json, station};
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::{Attachment, Op};
use crate::model::{ClockQuality, Now, RecordId};
use crate::store::edge::OnceKey;

/// Most records of one file.
pub(super) const RECORDS_MAX: usize = 10_000;
/// A measurement that is older than this when it comes was sent after an outage.
const HISTORICAL_MS: i64 = 3_600_000;

/// What a file holds.
pub enum Taken {
    Records {
        records: Vec<NewRecord>,
        once: OnceKey,
        /// What was found or tolerated and a person should know; names of columns, no content.
        notes: Vec<String>,
    },
    Refused(Refused),
    /// The file is no longer what was found.
    Changed,
    Unreadable(io::Error),
    /// Its attachments find no room now.
    NotKept(BlobError),
}

/// A file that is refused whole.
pub struct Refused {
    /// What stands beside the file.
    pub reason: String,
    pub records: u64,
    /// One sentence for the page, without any content.
    pub summary: String,
    /// The catalogue's own reason, which may ask for an alarm.
    pub refusal: Option<Box<Refusal>>,
    pub faults: Vec<Told>,
    pub cause: Cause,
}

/// At what a file fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It cannot be read, or not as what it is.
    Content,
    TooMany,
    /// It can be read, and its records do not fit.
    Records,
}

/// Why a good file cannot be read now, and may be later.
#[derive(Debug, thiserror::Error)]
pub enum NotNow {
    #[error(transparent)]
    NoRoom(#[from] BlobError),
    #[error("no process can be started to open a workbook: {0}")]
    NoProcess(io::Error),
    #[error("an attachment cannot be read: {0}")]
    Attachment(io::Error),
}

/// Reads, splits and checks one file.
pub fn take(folder: &Folder, source: &FolderSource, door: &Door, found: &Found, now: Now) -> Taken {
    let path = found.name.to_string_lossy();
    let name = path.rsplit('/').next().unwrap_or(&path);
    let format = source.folder.format.or_else(|| format_of(name));
    let bytes_max = match format {
        Some(FileFormat::EdXml) => edxml::FILE_BYTES_MAX as u64,
        _ => FILE_BYTES_MAX,
    };
    if bytes_max < found.print.bytes {
        return Taken::Refused(too_large(found.print.bytes, bytes_max));
    }
    let bytes = match folder.read(found) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Taken::Changed,
        Err(error) => return Taken::Unreadable(error),
    };
    let Some(dataset) = door.dataset(&source.dataset) else {
        let error = format!("the catalogue has no dataset {}", source.dataset);
        return Taken::Unreadable(io::Error::other(error));
    };
    let place = source.folder.path.join(&found.name);
    let file = File {
        door,
        dataset: &dataset,
        source,
        name,
        beside: place.parent(),
        bytes: &bytes,
        op: op_of(name),
    };
    let mut notes = Vec::new();
    let read = match format {
        Some(format) => match file.records(format, now, &mut notes) {
            Ok(read) => read,
            // It stays so however often it is tried.
            Err(NotNow::NoRoom(BlobError::Infected { .. })) => Err(infected()),
            Err(NotNow::NoRoom(error)) => return Taken::NotKept(error),
            Err(NotNow::NoProcess(error) | NotNow::Attachment(error)) => {
                return Taken::Unreadable(error);
            }
        },
        None => Err(unknown_format()),
    };
    match read {
        Ok(records) => {
            let digest = hex(&sha256(&bytes));
            let once = once_key(&source.name, &path, &digest);
            Taken::Records {
                records,
                once,
                notes,
            }
        }
        Err(refused) => Taken::Refused(refused),
    }
}

pub fn format_of(name: &str) -> Option<FileFormat> {
    let (_, extension) = name.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "json" => Some(FileFormat::Json),
        "ndjson" | "jsonl" => Some(FileFormat::NdJson),
        "txt" => Some(FileFormat::Station),
        "xml" | "edxml" => Some(FileFormat::EdXml),
        "csv" | "tsv" => Some(FileFormat::Csv),
        "xlsx" | "xlsm" | "xls" | "ods" => Some(FileFormat::Sheet),
        _ => None,
    }
}

/// What the file's records do, which its name may say before the extension: `2026-11.delete.json`.
pub fn op_of(name: &str) -> Op {
    let said = name
        .rsplit_once('.')
        .and_then(|(stem, _)| stem.rsplit_once('.'))
        .and_then(|(_, word)| op_named(&word.to_ascii_lowercase()));
    said.unwrap_or_default()
}

/// A file in memory, and where it belongs.
pub struct File<'f> {
    pub door: &'f Door,
    pub dataset: &'f Dataset,
    pub source: &'f FolderSource,
    pub name: &'f str,
    /// The folder that it lies in; none where it came by itself.
    pub beside: Option<&'f Path>,
    pub bytes: &'f [u8],
    pub op: Op,
}

impl File<'_> {
    /// The records of the file, read as this format. A document's attachments are on the disk then.
    pub fn records(
        &self,
        format: FileFormat,
        now: Now,
        notes: &mut Vec<String>,
    ) -> Result<Result<Vec<NewRecord>, Refused>, NotNow> {
        Ok(match format {
            FileFormat::Json => self.split(json::Kind::Json, notes),
            FileFormat::NdJson => self.split(json::Kind::NdJson, notes),
            FileFormat::Station => self.measure(now),
            FileFormat::Csv => return self.csv(notes),
            FileFormat::Sheet => return self.sheet(notes),
            FileFormat::EdXml => return Ok(self.document(notes)?),
        })
    }

    fn split(&self, kind: json::Kind, notes: &mut Vec<String>) -> Result<Vec<NewRecord>, Refused> {
        let decoded = match self.source.folder.table.encoding {
            None => None,
            given => {
                let decoded = encoding::decode(self.bytes, given);
                let decoded = decoded.map_err(|faults| unreadable(&faults))?;
                notes.extend(encoding_note(decoded.encoding, decoded.how));
                Some(decoded.text)
            }
        };
        let bytes = decoded.as_deref().map_or(self.bytes, str::as_bytes);
        let limits = json::Limits {
            records_max: RECORDS_MAX,
            record_bytes_max: ENTRY_BYTES_MAX,
        };
        let raw = json::split(bytes, kind, &limits).map_err(|faults| unreadable(&faults))?;
        let line = |index: usize| line_of(bytes, raw[index]);
        self.admit(raw.iter().copied(), line)
    }

    /// Admits all records of the file, or says what is wrong in each.
    pub(super) fn admit<'r>(
        &self,
        data: impl ExactSizeIterator<Item = &'r RawValue>,
        line: impl Fn(usize) -> usize,
    ) -> Result<Vec<NewRecord>, Refused> {
        let nothing = |_| Ok(Ok(Vec::new()));
        match self.admit_attached(data, line, nothing) {
            Ok(read) => read,
            Err(_) => unreachable!("no attachment is read"),
        }
    }

    /// As [`File::admit`], each with what `attach` gives for it; that is on the disk then.
    pub(super) fn admit_attached<'r>(
        &self,
        data: impl ExactSizeIterator<Item = &'r RawValue>,
        line: impl Fn(usize) -> usize,
        attach: impl Fn(usize) -> Result<Result<Vec<Attached>, [&'static str; 2]>, NotNow>,
    ) -> Result<Result<Vec<NewRecord>, Refused>, NotNow> {
        let count = data.len();
        let mut records = Vec::with_capacity(count);
        let mut wrong = Wrong::default();
        for (index, data) in data.enumerate() {
            let line = || line(index);
            let id = json::top_level_str(data, "id").map(|id| id.map(|id| id.parse::<RecordId>()));
            let id = match id {
                None => None,
                Some(Ok(Ok(id))) => Some(id),
                Some(Ok(Err(_)) | Err(_)) => {
                    wrong.add(
                        index,
                        line,
                        "/id",
                        [
                            "mã bản ghi phải là văn bản từ 1 đến 128 ký tự in được",
                            "the record's id must be a text of 1 to 128 printable characters",
                        ],
                    );
                    continue;
                }
            };
            let attached = match attach(index)? {
                Ok(attached) => attached,
                Err(why) => {
                    wrong.add(index, line, "", why);
                    continue;
                }
            };
            let names: Vec<Attachment> = attached.iter().map(|file| file.name.clone()).collect();
            let incoming = Incoming {
                data,
                op: self.op,
                original: None,
                id,
            };
            let (door, source) = (self.door, &self.source.name);
            match door.admit_attached(self.dataset, source, incoming, &names) {
                Ok((record, _)) => records.push(record),
                Err(refusal) => {
                    wrong.add_refusal(index, line, refusal);
                    continue;
                }
            }
            for file in &attached {
                door.blobs().put(&file.content)?;
            }
        }
        Ok(wrong.or(records, count))
    }
}

/// How a file's encoding was known, where nobody said it.
pub(super) fn encoding_note(encoding: Encoding, how: How) -> Option<String> {
    match how {
        How::Given | How::Utf8 | How::Bom => None,
        How::Detected => Some(format!("bảng mã {encoding}, do trạm tự nhận ra")),
    }
}

impl File<'_> {
    /// A station file: its record, with the file's own bytes beside it.
    fn measure(&self, now: Now) -> Result<Vec<NewRecord>, Refused> {
        let mut file = station::parse(self.name, self.bytes, &self.source.folder.station)
            .map_err(|faults| unreadable(&faults))?;
        let age_ms = now.wall.0 - file.measured_at_unix().0;
        // Under a clock that is not believed nothing can be called new.
        file.historical = now.quality == ClockQuality::Floor || HISTORICAL_MS < age_ms;
        let data = RawValue::from_string(file.to_json()).expect("a station record is JSON");
        let original = base64::engine::general_purpose::STANDARD.encode(self.bytes);
        let incoming = Incoming {
            data: &data,
            op: Op::Upsert,
            original: Some(&original),
            id: None,
        };
        let admitted = self.door.admit(self.dataset, &self.source.name, incoming);
        admitted.map(|record| vec![record]).map_err(|refusal| {
            let mut wrong = Wrong::default();
            wrong.add_refusal(0, || 1, refusal);
            wrong.refused(1)
        })
    }
}

/// What is wrong in the records of one file.
#[derive(Default)]
pub(super) struct Wrong {
    reason: Reason,
    faults: usize,
    refusal: Option<Refusal>,
}

impl Wrong {
    /// The line is asked for only where it is shown, because finding it walks over the text.
    fn add(&mut self, index: usize, line: impl Fn() -> usize, pointer: &str, [vi, en]: [&str; 2]) {
        self.faults += 1;
        if FAULTS_MAX < self.faults {
            return;
        }
        let (number, line) = (index + 1, line());
        let (at_vi, at_en) = match pointer {
            "" => (String::new(), String::new()),
            pointer => (format!(", trường {pointer}"), format!(", field {pointer}")),
        };
        let place = Place {
            record: Some(index),
            pointer: (!pointer.is_empty()).then(|| pointer.to_owned()),
            line: u32::try_from(line).ok(),
            column: None,
        };
        self.reason.fault_at(
            place,
            format!("bản ghi {number} (dòng {line}){at_vi}: {vi}"),
            format!("record {number} (line {line}){at_en}: {en}"),
        );
    }

    pub(super) fn add_refusal(&mut self, index: usize, line: impl Fn() -> usize, refusal: Refusal) {
        for fault in refusal.faults() {
            self.add(
                index,
                &line,
                &fault.pointer,
                [&fault.message_vi, &fault.message_en],
            );
        }
        // An alarm must not hide behind the first small fault.
        if self.refusal.is_none() || (refusal.alarm() && !self.is_alarm()) {
            self.refusal = Some(refusal);
        }
    }

    fn is_alarm(&self) -> bool {
        self.refusal.as_ref().is_some_and(Refusal::alarm)
    }

    fn or<T>(self, value: T, records: usize) -> Result<T, Refused> {
        match self.faults {
            0 => Ok(value),
            _ => Err(self.refused(records)),
        }
    }

    pub(super) fn refused(mut self, records: usize) -> Refused {
        if let Some(more) = self.faults.checked_sub(FAULTS_MAX).filter(|more| 0 < *more) {
            self.reason.fault(
                format!("và {more} lỗi khác"),
                format!("and {more} more faults"),
            );
        }
        let is_alarm = self.is_alarm();
        let (headline, hint) = match is_alarm {
            true => (
                [
                    "Tệp bị từ chối: có nội dung không được phép gửi qua hệ thống này.",
                    "The file is refused: it holds content that must not go through this system.",
                ],
                [
                    "Không gửi lại tệp này. Báo ngay cho người phụ trách bảo vệ bí mật nhà nước của cơ quan và xử lý tệp theo quy định.",
                    "Do not send this file again. Tell the agency's officer for state secrets at once.",
                ],
            ),
            false => (
                [
                    "Tệp bị từ chối: bản ghi không đúng quy định của bộ dữ liệu. Không bản ghi nào của tệp được nhận.",
                    "The file is refused: records do not fit the dataset. None of its records was taken.",
                ],
                FIX_AND_DROP,
            ),
        };
        Refused {
            reason: self.reason.to_text(headline, hint),
            records: records as u64,
            summary: headline[0].to_owned(),
            refusal: self.refusal.map(Box::new),
            faults: self.reason.into_faults(),
            cause: Cause::Records,
        }
    }
}

const FIX_AND_DROP: [&str; 2] = [
    "Sửa các lỗi trên ở phần mềm nguồn, xuất lại tệp và đặt vào thư mục nhận. Tệp này được giữ nguyên ở đây.",
    "Correct the faults in the source software, export again and put the file into the drop folder. This file stays here unchanged.",
];

impl Refused {
    fn plain(headline: [&str; 2], faults: Reason, hint: [&str; 2], records: u64) -> Refused {
        Refused {
            reason: faults.to_text(headline, hint),
            records,
            summary: headline[0].to_owned(),
            refusal: None,
            faults: faults.into_faults(),
            cause: Cause::Content,
        }
    }

    /// A record's id was used before with other content.
    pub fn other_content(index: Option<usize>, records: u64) -> Refused {
        let mut faults = Reason::default();
        let number = index.map_or(1, |index| index + 1);
        faults.fault(
            format!(
                "bản ghi {number}, trường /id: mã này đã dùng cho một bản ghi có nội dung khác"
            ),
            format!("record {number}, field /id: this id was used before for another content"),
        );
        Refused::plain(
            [
                "Tệp bị từ chối: mã bản ghi trùng với bản ghi đã nhận nhưng nội dung khác.",
                "The file is refused: an id repeats with other content.",
            ],
            faults,
            [
                "Mỗi lần thay đổi, phần mềm nguồn phải cấp mã (id) mới cho bản ghi; sửa rồi đặt lại tệp.",
                "The source must give a new id with each change; correct it and put the file in again.",
            ],
            records,
        )
    }

    pub fn record_too_large(index: usize, bytes: usize, records: u64) -> Refused {
        let mut faults = Reason::default();
        let number = index + 1;
        faults.fault(
            format!("bản ghi {number}: {bytes} byte, vượt giới hạn {ENTRY_BYTES_MAX} byte"),
            format!("record {number}: {bytes} bytes, over the limit of {ENTRY_BYTES_MAX}"),
        );
        Refused::plain(
            [
                "Tệp bị từ chối: có bản ghi quá lớn.",
                "The file is refused: a record is too large.",
            ],
            faults,
            [
                "Gửi tệp đính kèm riêng, không đặt trong bản ghi; rồi đặt lại tệp.",
                "Send attachments apart from the record; then put the file in again.",
            ],
            records,
        )
    }
}

fn too_large(bytes: u64, bytes_max: u64) -> Refused {
    let mut faults = Reason::default();
    faults.fault(
        format!("tệp có {bytes} byte, giới hạn là {bytes_max} byte"),
        format!("the file has {bytes} bytes, the limit is {bytes_max}"),
    );
    Refused::plain(
        [
            "Tệp bị từ chối: tệp quá lớn.",
            "The file is refused: it is too large.",
        ],
        faults,
        [
            "Chia thành nhiều tệp nhỏ hơn rồi đặt lại vào thư mục nhận.",
            "Split it into smaller files and put them into the drop folder.",
        ],
        1,
    )
}

pub fn unknown_format() -> Refused {
    Refused::plain(
        [
            "Tệp bị từ chối: không biết định dạng của tệp theo phần mở rộng.",
            "The file is refused: its extension names no known format.",
        ],
        Reason::default(),
        [
            "Dùng phần mở rộng .json, .ndjson, .csv, .xlsx, .xls, .ods, .edxml (văn bản điện tử) hoặc .txt (tệp trạm quan trắc), hoặc khai báo format trong cấu hình của nguồn.",
            "Use .json, .ndjson, .csv, .xlsx, .xls, .ods, .edxml (document) or .txt (station file), or set format in the source's configuration.",
        ],
        1,
    )
}

fn infected() -> Refused {
    let mut faults = Reason::default();
    faults.fault(
        "trình quét phát hiện mã độc trong tệp đính kèm".to_owned(),
        "the scanner has found malware in an attachment".to_owned(),
    );
    Refused::plain(
        [
            "Tệp bị từ chối: có mã độc trong tệp đính kèm. Không bản ghi nào của tệp được nhận.",
            "The file is refused: there is malware in an attachment. None of its records was taken.",
        ],
        faults,
        [
            "Không mở tệp này. Báo người phụ trách an toàn thông tin, đề nghị nơi gửi kiểm tra máy và gửi lại tệp sạch; xóa tệp ở đây.",
            "Do not open this file. Tell the officer for information security, have the sender check its machine and send a clean one; delete this one.",
        ],
        1,
    )
}

pub(super) fn unreadable(found: &Faults) -> Refused {
    let mut faults = Reason::default();
    for fault in found.list() {
        let (line, column) = (fault.line, fault.column);
        let place = Place {
            line: Some(line),
            column: Some(column),
            ..Place::default()
        };
        faults.fault_at(
            place,
            format!("dòng {line}, cột {column}: {}", fault.message_vi),
            format!("line {line}, column {column}: {}", fault.message_en),
        );
    }
    if 0 < found.more() {
        let more = found.more();
        faults.fault(
            format!("và {more} lỗi khác"),
            format!("and {more} more faults"),
        );
    }
    let refused = Refused::plain(
        [
            "Tệp bị từ chối: không đọc được nội dung tệp.",
            "The file is refused: its content cannot be read.",
        ],
        faults,
        FIX_AND_DROP,
        1,
    );
    Refused {
        cause: match found.too_many_records() {
            true => Cause::TooMany,
            false => Cause::Content,
        },
        ..refused
    }
}

/// The line, from 1, on which a record of `bytes` begins.
fn line_of(bytes: &[u8], record: &RawValue) -> usize {
    let offset = (record.get().as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
    let before = &bytes[..offset.min(bytes.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
