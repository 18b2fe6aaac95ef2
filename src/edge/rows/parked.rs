//! Parked rows: hand them in again, or give them up.
//!
//! Rows are taken in the order in which they came. The first row of a subject that is still refused
//! holds the later ones of its subject back; other subjects pass.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::catalogue::admit::Refusal;
use crate::edge::connectors::Fault;
use crate::edge::door::{Door, Incoming, op_named};
use crate::edge::rows::check::{ENTRY_HEAD_BYTES, reasons, short_subject};
use crate::edge::rows::fault::{lane_full, of_intake, of_store};
use crate::engine::sending::{Answer, NewRecord, Submission};
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::Attachment;
use crate::model::{DatasetId, RecordId, SourceName};
use crate::store::rows::{Beside, Mended, Parked, RowsView, Short};

/// Rows of one transaction.
const PAGE_ROWS: u32 = 100;
const REASON_CHARS_MAX: usize = 200;

/// Which parked rows are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// This one, with what waits behind it.
    Number(i64),
}

/// What became of the rows that were handed in again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    pub accepted: u64,
    pub left: u64,
}

/// Hands parked rows in again.
pub async fn retry(door: &Arc<Door>, source: &SourceName, which: Which) -> Result<Retried, Fault> {
    let _turn = door.turn(source).await;
    let meant = match which {
        Which::All => Meant::All,
        Which::Number(number) => match subject_of(door, source, number).await? {
            None => Meant::Row(number),
            Some(subject) => Meant::Subjects(BTreeSet::from([subject])),
        },
    };
    again(door, source, &meant).await
}

/// Hands in what of these subjects is parked; for who has the source's turn.
pub(super) async fn free(
    door: &Arc<Door>,
    source: &SourceName,
    subjects: BTreeSet<Short>,
) -> Result<Retried, Fault> {
    again(door, source, &Meant::Subjects(subjects)).await
}

/// Gives a row up; says so in the list of events, and hands in what waited behind it.
pub async fn drop_row(
    door: &Arc<Door>,
    source: &SourceName,
    number: i64,
    why: &str,
) -> Result<Retried, Fault> {
    let _turn = door.turn(source).await;
    let subject = subject_of(door, source, number).await?;
    let why: String = why.chars().filter(|c| !c.is_control()).collect();
    let why: String = why.trim().chars().take(REASON_CHARS_MAX).collect();
    let detail = format!("{source} #{number}: {why}");
    let beside = Beside {
        unpark: vec![number],
        events: vec![("warning", "parked_dropped", detail)],
        ..Beside::default()
    };
    submit(door, source, Vec::new(), beside).await?;
    tracing::warn!(%source, number, "a parked row was given up");
    match subject {
        Some(subject) => free(door, source, BTreeSet::from([subject])).await,
        None => Ok(Retried::default()),
    }
}

/// A parked row, to look at; a fault when there is none of this number.
pub async fn row(door: &Arc<Door>, source: &SourceName, number: i64) -> Result<Parked, Fault> {
    let page = page_after(door, source, number - 1, 1).await?;
    let found = page.into_iter().find(|parked| parked.number == number);
    found.ok_or_else(|| not_parked(source, number))
}

/// Puts a person's content in the place of a parked row's, and hands it in. Where it is still
/// refused it stays parked with what is wrong with it now.
pub async fn mend(
    door: &Arc<Door>,
    source: &SourceName,
    number: i64,
    content: String,
) -> Result<Retried, Fault> {
    let _turn = door.turn(source).await;
    let parked = row(door, source, number).await?;
    let dataset: Option<DatasetId> = parked.dataset.parse().ok();
    let dataset = dataset.and_then(|dataset| door.dataset(&dataset));
    let subject = dataset.and_then(|dataset| dataset.subject_of(content.as_bytes()));
    let subject = subject.as_ref().map(short_subject);
    let beside = Beside {
        mend: Some(Box::new(Mended {
            number,
            row: content.into_bytes(),
            subject,
        })),
        ..Beside::default()
    };
    submit(door, source, Vec::new(), beside).await?;
    let subjects: BTreeSet<Short> = parked.subject.into_iter().chain(subject).collect();
    match subject {
        Some(_) => again(door, source, &Meant::Subjects(subjects)).await,
        None => again(door, source, &Meant::Row(number)).await,
    }
}

/// Parked rows that are handed in again.
enum Meant {
    All,
    /// One that has no subject.
    Row(i64),
    Subjects(BTreeSet<Short>),
}

impl Meant {
    fn has(&self, parked: &Parked) -> bool {
        match self {
            Meant::All => true,
            Meant::Row(number) => parked.number == *number,
            Meant::Subjects(subjects) => parked
                .subject
                .is_some_and(|subject| subjects.contains(&subject)),
        }
    }
}

/// The subject of a parked row; a fault when there is no such row.
async fn subject_of(
    door: &Arc<Door>,
    source: &SourceName,
    number: i64,
) -> Result<Option<Short>, Fault> {
    Ok(row(door, source, number).await?.subject)
}

fn not_parked(source: &SourceName, number: i64) -> Fault {
    Fault::new(
        "not_parked",
        [
            format!("nguồn {source} không có dòng nào bị giữ lại với số {number}"),
            format!("the source {source} has no parked row number {number}"),
        ],
        [
            format!("Xem danh sách: tramd sources parked {source}"),
            format!("See the list: tramd sources parked {source}"),
        ],
    )
}

async fn again(door: &Arc<Door>, source: &SourceName, meant: &Meant) -> Result<Retried, Fault> {
    let mut retried = Retried::default();
    let mut held: BTreeSet<Short> = BTreeSet::new();
    let mut after = 0;
    loop {
        let mut page = page_after(door, source, after, PAGE_ROWS).await?;
        let Some(last) = page.last() else {
            return Ok(retried);
        };
        after = last.number;
        page.retain(|parked| meant.has(parked));
        let mut beside = Beside::default();
        let mut fit: Vec<(i64, Option<Short>, NewRecord)> = Vec::new();
        for (parked, verdict) in admit_all(door, source, page).await {
            let is_held = parked
                .subject
                .is_some_and(|subject| held.contains(&subject));
            match (is_held, verdict) {
                (false, Ok(record)) => fit.push((parked.number, parked.subject, record)),
                (is_held, verdict) => {
                    held.extend(parked.subject);
                    retried.left += 1;
                    if let (false, Err(Some((vi, en)))) = (is_held, verdict)
                        && vi != parked.reason_vi
                    {
                        beside.blame.push((parked.number, vi, en));
                    }
                }
            }
        }
        loop {
            let beside = Beside {
                unpark: fit.iter().map(|(number, ..)| *number).collect(),
                ..beside.clone()
            };
            if beside.is_empty() {
                break;
            }
            let records = fit.iter().map(|(.., record)| record.clone()).collect();
            let Some(unfit) = submit(door, source, records, beside).await? else {
                retried.accepted += fit.len() as u64;
                break;
            };
            // Its own id stands for other content: it stays, and what follows of its subject.
            let (_, subject, _) = fit.remove(unfit);
            retried.left += 1;
            let mut place = 0;
            fit.retain(|(_, other, _)| {
                place += 1;
                let stays = place <= unfit || subject.is_none() || *other != subject;
                retried.left += u64::from(!stays);
                stays
            });
            held.extend(subject);
        }
    }
}

/// A parked row as a record; what is wrong with it, where that is known anew.
type Verdict = Result<NewRecord, Option<(String, String)>>;

/// Checks rows where it may block.
async fn admit_all(
    door: &Arc<Door>,
    source: &SourceName,
    page: Vec<Parked>,
) -> Vec<(Parked, Verdict)> {
    let (door, source) = (Arc::clone(door), source.clone());
    let task = tokio::task::spawn_blocking(move || {
        let admit = |parked: Parked| {
            let verdict = admit(&door, &source, &parked);
            (parked, verdict)
        };
        page.into_iter().map(admit).collect()
    });
    task.await
        .expect("checking neither panics nor is cancelled")
}

/// The row as a record, or what is wrong with it; no reason where its content was not kept.
fn admit(door: &Door, source: &SourceName, parked: &Parked) -> Verdict {
    let gone = || {
        Some((
            "danh mục không còn bộ dữ liệu của dòng này".to_owned(),
            "the catalogue no longer has the row's dataset".to_owned(),
        ))
    };
    let row = parked.row.as_ref().filter(|_| parked.is_whole);
    let row = row.ok_or(None)?;
    let dataset: DatasetId = parked.dataset.parse().map_err(|_| gone())?;
    let dataset = door.dataset(&dataset).ok_or_else(gone)?;
    let text = String::from_utf8(row.clone()).map_err(|_| None)?;
    let data = RawValue::from_string(text).map_err(|_| None)?;
    let incoming = Incoming {
        data: &data,
        op: op_named(&parked.op).ok_or(None)?,
        original: None,
        id: parked
            .id
            .as_ref()
            .and_then(|id| id.parse::<RecordId>().ok()),
    };
    let (record, _) = door
        .admit_attached(&dataset, source, incoming, &parked.attachments)
        .map_err(|refusal: Refusal| Some(reasons(&refusal)))?;
    let is_here = |file: &Attachment| matches!(door.blobs().get(&file.sha256), Ok(Some(_)));
    if !parked.attachments.iter().all(is_here) {
        return Err(Some((
            "tệp đính kèm của dòng không còn trong kho của trạm".to_owned(),
            "an attachment of the row is no longer in the box's store".to_owned(),
        )));
    }
    match record.tail.len() + ENTRY_HEAD_BYTES <= ENTRY_BYTES_MAX {
        true => Ok(record),
        false => Err(None),
    }
}

/// Parked rows in their order, from after a number on.
pub async fn page_after(
    door: &Arc<Door>,
    source: &SourceName,
    after: i64,
    rows_max: u32,
) -> Result<Vec<Parked>, Fault> {
    let (door, source) = (Arc::clone(door), source.clone());
    let task = tokio::task::spawn_blocking(move || {
        RowsView::open(door.store())?.parked(source.as_str(), after, rows_max)
    });
    let page = task.await.expect("looking neither panics nor is cancelled");
    page.map_err(of_store)
}

/// The place of a record that cannot be kept, if there is one; then nothing was written.
async fn submit(
    door: &Door,
    source: &SourceName,
    records: Vec<NewRecord>,
    beside: Beside,
) -> Result<Option<usize>, Fault> {
    let submission = Submission {
        reply: (),
        source: source.clone(),
        records,
        once: None,
        cursor: None,
        beside,
    };
    match door.intake().submit(submission).await {
        Ok(Answer::Stored { .. }) => Ok(None),
        Ok(Answer::LaneFull(lane)) => Err(lane_full(lane)),
        Ok(Answer::OtherContent { index }) => {
            Ok(Some(index.expect("the submission has no key of its own")))
        }
        Ok(Answer::TooLarge { index, .. } | Answer::NoAttachment { index, .. }) => Ok(Some(index)),
        Err(error) => Err(of_intake(error)),
    }
}
