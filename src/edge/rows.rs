//! Common ground of the sources that deliver rows: each row passes the door; what is fit is kept
//! together with the source's cursor in one transaction, and what is not is parked in the same one.
//!
//! A *poison row*, which the catalogue refuses, is parked with its reason and stops nobody else. Later
//! rows of its subject are parked behind it, so that a subject's order is kept; others pass. A row
//! that a rule refuses (a state secret) leaves its reason and nothing of its content, and nobody
//! waits behind it, because it will never go. When too much is parked the source stops with its cursor
//! unmoved: something is wrong with more than a row.

pub mod parked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::catalogue::admit::Refusal;
use crate::edge::blobs::BlobError;
use crate::edge::connectors::Fault;
use crate::edge::door::{Door, Incoming, op_text, short_digest};
use crate::edge::intake::IntakeError;
use crate::engine::sending::{Answer, NewRecord, Submission};
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::{Attachment, Op};
use crate::model::{DatasetId, Lane, RecordId, SourceName, Subject};
use crate::store::StoreError;
use crate::store::rows::{Beside, NewParked, RowsView, Short};

/// Rows of one source that may be parked, and their bytes.
pub const PARKED_ROWS_MAX: u64 = 1_000;
pub const PARKED_BYTES_MAX: u64 = 16 << 20;
/// What an entry has beside the record's tail.
const ENTRY_HEAD_BYTES: usize = 128;

/// One row as a connector read it.
#[derive(Debug, Clone)]
pub struct Row {
    /// A JSON object in the dataset's fields.
    pub data: Box<RawValue>,
    pub op: Op,
    /// The source's own id, or one that is made of the content: a repeat is then harmless.
    pub id: Option<RecordId>,
    /// What names the row at its source, where each version of it says all of its state: a newer one
    /// then takes the place of one that is parked.
    pub key: Option<Short>,
    pub attachments: Vec<Attached>,
    /// What of the row could not be said in `data`, Vietnamese and English, without content: such a
    /// row is parked.
    pub flaw: Option<[String; 2]>,
}

/// A file that a row names, and its content.
#[derive(Debug, Clone)]
pub struct Attached {
    pub name: Attachment,
    pub content: Vec<u8>,
}

impl Row {
    pub fn new(data: Box<RawValue>, op: Op) -> Row {
        Row {
            data,
            op,
            id: None,
            key: None,
            attachments: Vec::new(),
            flaw: None,
        }
    }

    /// What the record says of its attachments.
    fn names(&self) -> Vec<Attachment> {
        let name = |attached: &Attached| attached.name.clone();
        self.attachments.iter().map(name).collect()
    }
}

/// Rows that go in together, with where the source stands after them.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<Row>,
    /// None: the source stands where it stood.
    pub cursor: Option<String>,
    /// Where the reading began, by [`Rows::begin`]; none where nobody sets this source's cursor.
    pub round: Option<Round>,
    /// What else is written with them.
    pub beside: Beside,
}

/// A reading from where the source stood, until a person sets its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round(u64);

/// The code of the fault that a person has set the cursor while rows were read: it is to be read
/// anew from there.
pub const CURSOR_SET: &str = "cursor_set";

/// What became of a batch; all of it is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    pub accepted: u64,
    pub parked: u64,
}

/// One source's way in.
#[derive(Clone)]
pub struct Rows {
    door: Arc<Door>,
    source: SourceName,
    dataset: DatasetId,
}

impl Rows {
    pub fn new(door: Arc<Door>, source: SourceName, dataset: DatasetId) -> Rows {
        Rows {
            door,
            source,
            dataset,
        }
    }

    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    pub fn source(&self) -> &SourceName {
        &self.source
    }

    pub fn dataset(&self) -> &DatasetId {
        &self.dataset
    }

    /// Where the source stood when its last rows were kept.
    pub async fn cursor(&self) -> Result<Option<String>, Fault> {
        let cursor = self.door.intake().cursor(self.source.clone()).await;
        cursor.map_err(of_intake)
    }

    /// Begins a round: where the source stands, as long as no person sets it.
    pub async fn begin(&self) -> Result<(Round, Option<String>), Fault> {
        let turn = self.door.turn(&self.source).await;
        Ok((Round(*turn), self.cursor().await?))
    }

    /// A short look at the store, where it may block.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&RowsView, &SourceName) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        let (door, source) = (Arc::clone(&self.door), self.source.clone());
        let task = tokio::task::spawn_blocking(move || {
            let view = RowsView::open(door.store())?;
            look(&view, &source)
        });
        let looked = task.await.expect("looking neither panics nor is cancelled");
        looked.map_err(of_store)
    }

    /// Hands a batch in and waits for the commit: every row is then kept, parked, or known already.
    ///
    /// On a fault the cursor has not moved, but after `store_unsure` it may have: read it again.
    pub async fn hand_in(&self, batch: Batch) -> Result<Taken, Fault> {
        let turn = self.door.turn(&self.source).await;
        let Batch {
            rows,
            cursor,
            round,
            beside,
        } = batch;
        if round.is_some_and(|round| round != Round(*turn)) {
            return Err(cursor_set());
        }
        let this = self.clone();
        let checking = tokio::task::spawn_blocking(move || this.check(rows));
        let mut checked = checking
            .await
            .expect("checking neither panics nor is cancelled")?;
        loop {
            let sorted = checked.sort(self.dataset.as_str());
            self.may_park(&sorted.park, checked.replaced.len()).await?;
            let taken = Taken {
                accepted: sorted.records.len() as u64,
                parked: sorted.park.len() as u64,
            };
            let mut beside = beside.clone();
            beside.park.extend(sorted.park);
            beside.unpark.extend(checked.replaced.keys());
            let submission = Submission {
                reply: (),
                source: self.source.clone(),
                records: sorted.records,
                once: None,
                cursor: cursor.clone(),
                beside,
            };
            let answer = self.door.intake().submit(submission).await;
            match answer.map_err(of_intake)? {
                Answer::Stored { .. } => {
                    self.tell(&checked).await;
                    self.free(&checked).await?;
                    return Ok(taken);
                }
                Answer::LaneFull(lane) => return Err(lane_full(lane)),
                Answer::OtherContent { index: Some(index) } => {
                    checked.refuse(sorted.places[index], OTHER_CONTENT);
                }
                Answer::TooLarge { index, .. } => {
                    checked.refuse(sorted.places[index], TOO_LARGE);
                }
                // It has gone meanwhile; read again, it is put again.
                Answer::NoAttachment { .. } => {
                    return Err(of_blobs(
                        &std::io::Error::from(std::io::ErrorKind::NotFound).into(),
                    ));
                }
                Answer::OtherContent { index: None } => {
                    unreachable!("the submission has no key of its own")
                }
            }
        }
    }

    /// Passes every row through the door, and looks which subjects have something parked.
    fn check(&self, rows: Vec<Row>) -> Result<Checked, Fault> {
        let dataset = self.door.dataset(&self.dataset);
        let dataset = dataset.expect("the configuration names datasets of the catalogue");
        let mut checked = Checked::default();
        let mut subjects = BTreeSet::new();
        for mut row in rows {
            let incoming = Incoming {
                data: &row.data,
                op: row.op,
                original: None,
                id: row.id.clone(),
            };
            let names = row.names();
            let admitted = self
                .door
                .admit_attached(&dataset, &self.source, incoming, &names);
            let (subject, mut verdict) = match admitted {
                Ok((record, subject)) if ENTRY_BYTES_MAX < record.tail.len() + ENTRY_HEAD_BYTES => {
                    (Some(subject), Verdict::Unusable(TOO_LARGE))
                }
                Ok((record, subject)) => (Some(subject), Verdict::Fit(record)),
                Err(refusal @ Refusal::Rule { .. }) => (None, Verdict::Refused(refusal)),
                Err(refusal) => {
                    let subject = dataset.subject_of(row.data.get().as_bytes());
                    (subject, Verdict::Refused(refusal))
                }
            };
            if let (Some(flaw), false) = (&row.flaw, is_forbidden(&verdict)) {
                verdict = Verdict::Flawed(flaw.clone());
            }
            if !is_forbidden(&verdict)
                && let Some(flaw) = self.keep_attachments(&mut row)?
            {
                verdict = Verdict::Flawed(flaw);
            }
            let subject = subject.as_ref().map(short_subject);
            subjects.extend(subject);
            checked.rows.push(CheckedRow {
                row,
                names,
                subject,
                verdict,
            });
        }
        let keys = checked.rows.iter().filter_map(|row| row.row.key);
        let view = RowsView::open(self.door.store()).map_err(of_store)?;
        let replaced = view
            .parked_by_key(self.source.as_str(), keys)
            .map_err(of_store)?;
        let replaced = replaced
            .into_iter()
            .map(|parked| (parked.number, parked.subject));
        checked.replaced = replaced.collect();
        let numbers = checked.replaced.keys().copied().collect();
        checked.blocked = view
            .blocked(self.source.as_str(), &subjects, &numbers)
            .map_err(of_store)?;
        Ok(checked)
    }

    /// Hands in what waited behind parked rows whose place a newer version has taken.
    async fn free(&self, checked: &Checked) -> Result<(), Fault> {
        let subjects: BTreeSet<Short> = checked.replaced.values().flatten().copied().collect();
        if subjects.is_empty() {
            return Ok(());
        }
        let waiting = self
            .look({
                let subjects = subjects.clone();
                move |view, source| view.blocked(source.as_str(), &subjects, &BTreeSet::new())
            })
            .await?;
        if !waiting.is_empty() {
            parked::free(&self.door, &self.source, waiting).await?;
        }
        Ok(())
    }

    /// Puts a row's attachments on the disk and lets go of them here; says what is wrong where one
    /// can never have room.
    fn keep_attachments(&self, row: &mut Row) -> Result<Option<[String; 2]>, Fault> {
        let mut flaw = None;
        for attached in &mut row.attachments {
            let content = std::mem::take(&mut attached.content);
            match self.door.blobs().put(&content) {
                Ok(_) => {}
                Err(BlobError::Full { bytes_max }) if bytes_max < content.len() as u64 => {
                    flaw = Some([
                        "tệp đính kèm lớn hơn toàn bộ chỗ dành cho tệp đính kèm (store.attachments)"
                            .to_owned(),
                        "an attachment is larger than all room for attachments (store.attachments)"
                            .to_owned(),
                    ]);
                }
                Err(BlobError::Infected { .. }) => {
                    flaw = Some([
                        "trình quét phát hiện mã độc trong tệp đính kèm".to_owned(),
                        "the scanner has found malware in an attachment".to_owned(),
                    ]);
                }
                Err(error) => return Err(of_blobs(&error)),
            }
        }
        Ok(flaw)
    }

    /// Whether there is room for more parked rows.
    async fn may_park(&self, park: &[NewParked], replaced: usize) -> Result<(), Fault> {
        if park.is_empty() {
            return Ok(());
        }
        let sum = self
            .look(|view, source| view.parked_sum(source.as_str()))
            .await?;
        let bytes: usize = park
            .iter()
            .map(|parked| parked.row.as_ref().map_or(0, Vec::len))
            .sum();
        match sum.rows + park.len() as u64 <= PARKED_ROWS_MAX + replaced as u64
            && sum.bytes + bytes as u64 <= PARKED_BYTES_MAX
        {
            true => Ok(()),
            false => Err(self.parked_full(sum.rows, park)),
        }
    }

    /// Counts what was refused, each reason once, and raises the alarms.
    async fn tell(&self, checked: &Checked) {
        let mut refusals: BTreeMap<String, (u64, &Refusal)> = BTreeMap::new();
        for row in &checked.rows {
            match &row.verdict {
                Verdict::Refused(refusal) => {
                    let reason = reasons(refusal).1;
                    refusals.entry(reason).or_insert((0, refusal)).0 += 1;
                }
                Verdict::Unusable([vi, _]) => {
                    let (source, reason) = (self.source.clone(), (*vi).to_owned());
                    self.door.intake().refused(source, 1, reason).await;
                }
                Verdict::Flawed([vi, _]) => {
                    let (source, reason) = (self.source.clone(), vi.clone());
                    self.door.intake().refused(source, 1, reason).await;
                }
                Verdict::Fit(_) => {}
            }
        }
        for (records, refusal) in refusals.into_values() {
            self.door
                .refused(&self.source, &self.dataset, records, refusal)
                .await;
        }
    }

    fn parked_full(&self, rows: u64, park: &[NewParked]) -> Fault {
        let name = &self.source;
        let reason = |parked: &&NewParked| !parked.reason_vi.is_empty();
        let last = park.iter().find(reason);
        let (vi, en) = last.map_or(("", ""), |parked| {
            (parked.reason_vi.as_str(), parked.reason_en.as_str())
        });
        Fault::new(
            "parked_full",
            [
                format!(
                    "đã có {rows} dòng bị giữ lại, không giữ thêm được; nguồn dừng, chưa bỏ qua dòng nào. Lý do gần nhất: {vi}"
                ),
                format!(
                    "{rows} rows are parked and there is no room for more; the source stands still and has skipped nothing. Latest reason: {en}"
                ),
            ],
            [
                format!(
                    "Sửa dữ liệu hoặc cấu hình nguồn, rồi chạy: tramd sources retry {name} --all"
                ),
                format!(
                    "Correct the data or the source's configuration, then run: tramd sources retry {name} --all"
                ),
            ],
        )
    }
}

/// What is wrong with a row that the catalogue would take: Vietnamese, English.
type Why = [&'static str; 2];

const TOO_LARGE: Why = [
    "dòng dữ liệu lớn hơn giới hạn của một bản ghi (96 KiB)",
    "the row is larger than a record may be (96 KiB)",
];
const OTHER_CONTENT: Why = [
    "mã riêng của dòng đã được dùng cho nội dung khác",
    "the row's own id was used before for other content",
];

/// Rows that were held against the catalogue.
#[derive(Default)]
struct Checked {
    rows: Vec<CheckedRow>,
    /// Subjects that had something parked before, beside what is replaced.
    blocked: BTreeSet<Short>,
    /// Parked rows of which a newer version is here, with their subjects.
    replaced: BTreeMap<i64, Option<Short>>,
}

struct CheckedRow {
    row: Row,
    names: Vec<Attachment>,
    subject: Option<Short>,
    verdict: Verdict,
}

enum Verdict {
    Fit(NewRecord),
    Refused(Refusal),
    Unusable(Why),
    /// The connector itself could not say all of it.
    Flawed([String; 2]),
}

/// Whether a rule forbids to store the row's content.
fn is_forbidden(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(Refusal::Rule { .. }))
}

/// What goes in and what is parked.
struct Sorted {
    records: Vec<NewRecord>,
    /// Which row each record is.
    places: Vec<usize>,
    park: Vec<NewParked>,
}

impl Checked {
    fn refuse(&mut self, place: usize, why: Why) {
        self.rows[place].verdict = Verdict::Unusable(why);
    }

    fn sort(&self, dataset: &str) -> Sorted {
        let mut blocked = self.blocked.clone();
        let mut sorted = Sorted {
            records: Vec::with_capacity(self.rows.len()),
            places: Vec::with_capacity(self.rows.len()),
            park: Vec::new(),
        };
        for (place, row) in self.rows.iter().enumerate() {
            let waits = row
                .subject
                .is_some_and(|subject| blocked.contains(&subject));
            let (reason_vi, reason_en) = match &row.verdict {
                Verdict::Fit(record) if !waits => {
                    sorted.records.push(record.clone());
                    sorted.places.push(place);
                    continue;
                }
                Verdict::Fit(_) => (String::new(), String::new()),
                Verdict::Refused(refusal) => reasons(refusal),
                Verdict::Unusable([vi, en]) => ((*vi).to_owned(), (*en).to_owned()),
                Verdict::Flawed([vi, en]) => (vi.clone(), en.clone()),
            };
            let is_forbidden = is_forbidden(&row.verdict);
            blocked.extend(row.subject);
            sorted.park.push(NewParked {
                dataset: dataset.to_owned(),
                subject: row.subject,
                op: op_text(row.row.op),
                id: match is_forbidden {
                    true => None,
                    false => row.row.id.as_ref().map(|id| id.as_str().to_owned()),
                },
                key: row.row.key,
                row: (!is_forbidden).then(|| row.row.data.get().as_bytes().to_vec()),
                is_whole: !is_forbidden && !matches!(row.verdict, Verdict::Flawed(_)),
                attachments: match is_forbidden {
                    true => Vec::new(),
                    false => row.names.clone(),
                },
                reason_vi,
                reason_en,
            });
        }
        sorted
    }
}

/// A subject as the table of parked rows knows it: nothing of the key shows.
fn short_subject(subject: &Subject) -> Short {
    short_digest(&["subject", subject.as_str()])
}

/// Every fault of a refusal in one line, Vietnamese and English. The catalogue's sentences quote no
/// personal data.
pub fn reasons(refusal: &Refusal) -> (String, String) {
    const FAULTS_SHOWN: usize = 5;
    let faults = refusal.faults();
    let join = |text: fn(&crate::catalogue::admit::Fault) -> &str| {
        let shown: Vec<&str> = faults.iter().take(FAULTS_SHOWN).map(text).collect();
        let more = faults.len().saturating_sub(FAULTS_SHOWN);
        match more {
            0 => shown.join("; "),
            more => format!("{}; +{more}", shown.join("; ")),
        }
    };
    (
        join(|fault| &fault.message_vi),
        join(|fault| &fault.message_en),
    )
}

pub fn of_intake(error: IntakeError) -> Fault {
    let code = match error {
        IntakeError::StoreClosed => "store_closed",
        IntakeError::StoreFull => "store_full",
        IntakeError::Unsure => "store_unsure",
        IntakeError::Stopping => "stopping",
    };
    Fault::new(
        code,
        [
            "kho dữ liệu của trạm tạm thời không nhận bản ghi; chưa mất dòng nào",
            "the box's store does not take records now; no row is lost",
        ],
        [
            "Xem mục Kho dữ liệu; nguồn tự đọc lại khi kho hoạt động.",
            "See the store's state; the source goes on by itself when the store works.",
        ],
    )
}

fn cursor_set() -> Fault {
    Fault::new(
        CURSOR_SET,
        [
            "vị trí đọc của nguồn vừa được đặt lại; đọc lại từ đó",
            "the source's cursor was set; it is read again from there",
        ],
        ["Không cần làm gì.", "Nothing is to be done."],
    )
}

fn of_blobs(error: &BlobError) -> Fault {
    let (code, hint) = match error {
        BlobError::Full { .. } => (
            "attachments_full",
            [
                "Kiểm tra đường truyền về trục, hoặc tăng store.attachments; nguồn tự đọc tiếp khi có chỗ.",
                "Check the link to the hub, or raise store.attachments; the source goes on by itself when there is room.",
            ],
        ),
        BlobError::NotScanned(_) => (
            "scanner_down",
            [
                "Kiểm tra trình quét mã độc (attachments.scanner); nguồn tự đọc lại.",
                "Look at the scanner (attachments.scanner); it is read again by itself.",
            ],
        ),
        BlobError::Io(_) | BlobError::OtherDigest { .. } | BlobError::Infected { .. } => (
            "attachments",
            [
                "Kiểm tra ổ đĩa còn chỗ và quyền ghi cạnh kho; nguồn tự đọc lại.",
                "Check that the disk has room and can be written beside the store; it is read again by itself.",
            ],
        ),
    };
    Fault::new(
        code,
        [
            format!("chưa giữ được tệp đính kèm của một dòng; chưa bỏ qua dòng nào: {error}"),
            format!("a row's attachment cannot be kept; no row is skipped: {error}"),
        ],
        hint,
    )
}

fn of_store(error: StoreError) -> Fault {
    Fault::new(
        "store_closed",
        [
            "không đọc được kho dữ liệu của trạm".to_owned(),
            format!("the box's store cannot be read: {error}"),
        ],
        [
            "Xem mục Kho dữ liệu; nguồn tự đọc lại khi kho hoạt động.",
            "See the store's state; the source goes on by itself when the store works.",
        ],
    )
}

fn lane_full(lane: Lane) -> Fault {
    Fault::new(
        "lane_full",
        [
            format!("làn {lane} đã đầy; nguồn chờ đến khi gửi bớt được về trục"),
            format!("lane {lane} is full; the source waits until some of it is delivered"),
        ],
        [
            "Kiểm tra đường truyền về trục, hoặc tăng store.quota.",
            "Check the link to the hub, or raise store.quota.",
        ],
    )
}
