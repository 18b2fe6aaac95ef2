//! Rows held against the catalogue: which go in, which are parked, and why.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalogue::admit::Refusal;
use crate::edge::blobs::BlobError;
use crate::edge::connectors::Fault;
use crate::edge::door::{Incoming, op_text, short_digest};
use crate::edge::rows::fault::{of_blobs, of_store};
use crate::edge::rows::{Row, Rows};
use crate::engine::sending::NewRecord;
use crate::model::Subject;
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::Attachment;
use crate::store::rows::{NewParked, RowsView, Short};

/// What an entry has beside the record's tail.
pub(super) const ENTRY_HEAD_BYTES: usize = 128;

/// What is wrong with a row that the catalogue would take: Vietnamese, English.
pub(super) type Why = [&'static str; 2];

pub(super) const TOO_LARGE: Why = [
    "dòng dữ liệu lớn hơn giới hạn của một bản ghi (96 KiB)",
    "the row is larger than a record may be (96 KiB)",
];
pub(super) const OTHER_CONTENT: Why = [
    "mã riêng của dòng đã được dùng cho nội dung khác",
    "the row's own id was used before for other content",
];

pub(super) const NO_ATTACHMENT: Why = [
    "dòng nêu tệp đính kèm mà trạm chưa có; gửi tệp bằng PUT /v1/blobs/{sha256}, rồi cho thử lại bằng tramd sources retry",
    "the row names an attachment that the box does not have; PUT /v1/blobs/{sha256} it, then tramd sources retry",
];

/// Rows that were held against the catalogue.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) rows: Vec<CheckedRow>,
    /// Subjects that had something parked before, beside what is replaced.
    blocked: BTreeSet<Short>,
    /// Parked rows of which a newer version is here, with their subjects.
    pub(super) replaced: BTreeMap<i64, Option<Short>>,
}

pub(super) struct CheckedRow {
    row: Row,
    names: Vec<Attachment>,
    subject: Option<Short>,
    pub(super) verdict: Verdict,
}

impl CheckedRow {
    /// Whether the row came with the content of this file.
    pub(super) fn brings(&self, sha256: &str) -> bool {
        let mut brought = self.row.attachments.iter();
        brought.any(|attached| attached.name.sha256 == sha256)
    }
}

pub(super) enum Verdict {
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
pub(super) struct Sorted {
    pub(super) records: Vec<NewRecord>,
    /// Which row each record is.
    pub(super) places: Vec<usize>,
    pub(super) park: Vec<NewParked>,
}

impl Checked {
    pub(super) fn refuse(&mut self, place: usize, why: Why) {
        self.rows[place].verdict = Verdict::Unusable(why);
    }

    pub(super) fn sort(&self, dataset: &str) -> Sorted {
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
pub(super) fn short_subject(subject: &Subject) -> Short {
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

impl Rows {
    /// Passes every row through the door, and looks which subjects have something parked.
    pub(super) fn check(&self, rows: Vec<Row>) -> Result<Checked, Fault> {
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
}
