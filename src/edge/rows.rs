//! Common ground of the sources that deliver rows: each row passes the door; what is fit is kept
//! together with the source's cursor in one transaction, and what is not is parked in the same one.
//!
//! A *poison row*, which the catalogue refuses, is parked with its reason and stops nobody else. Later
//! rows of its subject are parked behind it, so that a subject's order is kept; others pass. A row
//! that a rule refuses (a state secret) leaves its reason and nothing of its content, and nobody
//! waits behind it, because it will never go. When too much is parked the source stops with its cursor
//! unmoved: something is wrong with more than a row.

pub mod check;
pub mod fault;
pub mod parked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::catalogue::admit::Refusal;
use crate::edge::connectors::Fault;
use crate::edge::door::Door;
use crate::edge::rows::check::{
    Checked, NO_ATTACHMENT, OTHER_CONTENT, TOO_LARGE, Verdict, reasons,
};
use crate::edge::rows::fault::{cursor_set, lane_full, of_blobs, of_intake, of_store, parked_full};
use crate::engine::sending::{Answer, Submission};
use crate::model::record::{Attachment, Op};
use crate::model::{DatasetId, RecordId, SourceName};
use crate::store::StoreError;
use crate::store::rows::{Beside, NewParked, RowsView, Short};

/// Rows of one source that may be parked, and their bytes.
pub const PARKED_ROWS_MAX: u64 = 1_000;
pub const PARKED_BYTES_MAX: u64 = 16 << 20;

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
    /// Files that were put before.
    pub named: Vec<Attachment>,
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
            named: Vec::new(),
            flaw: None,
        }
    }

    /// What the record says of its attachments.
    fn names(&self) -> Vec<Attachment> {
        let name = |attached: &Attached| attached.name.clone();
        let brought = self.attachments.iter().map(name);
        brought.chain(self.named.iter().cloned()).collect()
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
                Answer::NoAttachment { index, sha256 } => {
                    let place = sorted.places[index];
                    // It has gone meanwhile; read again, it is put again.
                    if checked.rows[place].brings(&sha256) {
                        let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
                        return Err(of_blobs(&gone.into()));
                    }
                    checked.refuse(place, NO_ATTACHMENT);
                }
                Answer::OtherContent { index: None } => {
                    unreachable!("the submission has no key of its own")
                }
            }
        }
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
            false => Err(parked_full(&self.source, sum.rows, park)),
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
}
