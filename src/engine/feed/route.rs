//! Addressed delivery: from a committed record to the boxes of the offices that it names, by their
//! codes of any form and through mergers. Who is not found, or has no room, is written down, and tried
//! again when offices or boxes change, at midnight, and when the box has received what filled its room.

mod said;

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::files;
use super::{Feed, date};
use crate::catalogue::Dataset;
use crate::catalogue::condition::Pattern;
use crate::evidence::entry_digest;
use crate::model::down::{Document, Down};
use crate::model::limits::DOWN_ENTRY_BYTES_MAX;
use crate::model::record::{Entry, Op, derived_id};
use crate::model::{AgencyCode, BoxId, Lane, RecordId, UnixMs};
use crate::store::StoreError;
use crate::store::hub::HubStore;

/// Documents that are tried again in one step.
const RETRY_MAX: u64 = 200;
/// Stands for the recipients of a status as long as nobody knows them.
const NOBODY: &str = "-";

/// A committed record.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Committed<'a> {
    pub box_id: &'a BoxId,
    pub place: i64,
    pub bytes: &'a [u8],
    pub entry: &'a Entry<'a>,
}

impl Feed {
    /// Hands a record to the offices that it is addressed to.
    pub(in crate::engine) fn route(
        &mut self,
        store: &mut HubStore,
        committed: Committed<'_>,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.route_to(store, committed, None, now).map(|_| ())
    }

    /// `only`: to this one of its recipients. True: everybody was found.
    fn route_to(
        &mut self,
        store: &mut HubStore,
        committed: Committed<'_>,
        only: Option<&str>,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let entry = committed.entry;
        let Some(catalogue) = self.catalogue.clone() else {
            return Ok(true);
        };
        let Some(dataset) = catalogue.get(&entry.kind.dataset) else {
            return Ok(true);
        };
        let says_nothing = dataset.status.is_none() && dataset.packet.is_none();
        if entry.op == Op::Delete || (dataset.deliver.is_empty() && says_nothing) {
            return Ok(true);
        }
        let Ok(data) = serde_json::from_str::<Value>(entry.data.get()) else {
            return Ok(true);
        };
        let (mut recipients, status) = match said::read(store, dataset, &data, entry, now)? {
            Some(Ok(said)) => (said.to, Some(said.status)),
            Some(Err(reason)) => {
                store.add_undelivered(committed.place, NOBODY, reason, now)?;
                return Ok(false);
            }
            None => {
                let recipients = recipients(dataset, &data, &entry.agency, now);
                if only.is_none() && !recipients.is_empty() {
                    let document = (&record_id(committed), &entry.agency);
                    let about = (&dataset.id, &entry.subject);
                    let to = recipients.iter().map(String::as_str);
                    store.note_handed(document, about, to, now)?;
                }
                (recipients, None)
            }
        };
        recipients.retain(|code| only.is_none_or(|only| only == NOBODY || code == only));
        let mut all_found = true;
        let mut reached: BTreeSet<BoxId> = BTreeSet::new();
        for code in recipients {
            let boxes = self.boxes_of(dataset, &code, now);
            let down = match (boxes.is_empty(), &status) {
                (true, _) => Err(match dataset.codes.directory.knows(&code, date(now)) {
                    true => "no_box",
                    false => "unknown_office",
                }),
                (false, Some(status)) => Ok(Down::Status(status.clone())),
                (false, None) if self.has_no_room(store, &boxes)? => Err("no_room"),
                (false, None) => addressed(committed, &code, now),
            };
            match down {
                Ok(down) => {
                    if let Down::Document(document) = &down {
                        files::want(store, boxes.iter(), &document.attachments, now)?;
                    }
                    for box_id in boxes {
                        if reached.insert(box_id.clone()) {
                            self.post(&box_id, &down);
                        }
                    }
                }
                Err(reason) => {
                    // What waits under nobody's name waits under this one from now on.
                    all_found &= only == Some(NOBODY);
                    store.add_undelivered(committed.place, &code, reason, now)?;
                }
            }
        }
        Ok(all_found)
    }

    /// Whether so much waits for one of the boxes that a lane might drop its oldest documents.
    fn has_no_room(&mut self, store: &HubStore, boxes: &[BoxId]) -> Result<bool, StoreError> {
        for box_id in boxes {
            let posted = self.posted_bytes.get(box_id).copied().unwrap_or(0);
            if self.document_bytes_max < posted + store.down_waiting_bytes(box_id, Lane::P1)? {
                self.full.insert(box_id.clone());
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn boxes_of(&self, dataset: &Dataset, code: &str, now: UnixMs) -> Vec<BoxId> {
        let (directory, on) = (&dataset.codes.directory, date(now));
        let is_there =
            |(_, agency): &&(BoxId, AgencyCode)| directory.is_same(agency.as_str(), code, on);
        let found = self.offices.iter().filter(is_there);
        found.map(|(box_id, _)| box_id.clone()).collect()
    }

    /// Tries documents again that found nobody, a slice at a time.
    pub(super) fn retry(&mut self, store: &mut HubStore, now: UnixMs) -> Result<(), StoreError> {
        let Some(from) = self.retry_from else {
            return Ok(());
        };
        let rows = store.undelivered(from, RETRY_MAX)?;
        self.retry_from = match rows.last() {
            Some(last) if rows.len() as u64 == RETRY_MAX => Some(last.number + 1),
            _ => None,
        };
        for row in rows {
            let Some((box_id, bytes)) = store.entry_at(row.place)? else {
                continue;
            };
            let Ok(entry) = Entry::parse(&bytes) else {
                continue;
            };
            let committed = Committed {
                box_id: &box_id,
                place: row.place,
                bytes: &bytes,
                entry: &entry,
            };
            if self.route_to(store, committed, Some(&row.recipient), now)? {
                store.drop_undelivered(row.number)?;
            }
        }
        Ok(())
    }
}

/// Codes of the offices that a record is for, as it writes them; never its own.
fn recipients(
    dataset: &Dataset,
    data: &Value,
    owner: &AgencyCode,
    now: UnixMs,
) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    let rule = dataset
        .deliver
        .iter()
        .find(|rule| rule.when.as_ref().is_none_or(|when| when.matches(data)));
    if let Some(rule) = rule {
        each_text(&rule.to, data, &mut |code| {
            codes.insert(code.to_owned());
        });
    }
    let directory = &dataset.codes.directory;
    codes.retain(|code| !directory.is_same(code, owner.as_str(), date(now)));
    codes
}

/// What the door of a box takes fits: a sender whose document is too large hears it there. An entry of
/// another program's may still be too large, and is written down.
fn addressed(committed: Committed<'_>, to: &str, now: UnixMs) -> Result<Down, &'static str> {
    let entry = committed.entry;
    let document = Document {
        id: record_id(committed),
        dataset: entry.kind.dataset.clone(),
        schema: entry.kind.version,
        subject: entry.subject.clone(),
        from: entry.agency.clone(),
        to: to.parse().map_err(|_| "unknown_office")?,
        at: said_at(entry).unwrap_or(now),
        attachments: entry.attachments.clone(),
        data: entry.data.to_owned(),
        original: entry.original.as_deref().map(str::to_owned),
    };
    let down = Down::Document(Box::new(document));
    let bytes = serde_json::to_vec(&down).expect("an entry holds only what JSON can say");
    match bytes.len() <= DOWN_ENTRY_BYTES_MAX {
        true => Ok(down),
        false => Err("too_large"),
    }
}

/// As the source gave it, else made of the entry.
fn record_id(committed: Committed<'_>) -> RecordId {
    let given = committed.entry.id.clone();
    given.unwrap_or_else(|| derived_id(&entry_digest(committed.box_id, committed.bytes)))
}

/// The event's time, else when the box stored it.
fn said_at(entry: &Entry<'_>) -> Option<UnixMs> {
    let text = entry.time.as_deref().unwrap_or(&entry.storedtime);
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(UnixMs(time.as_millisecond()))
}

fn each_text(pattern: &Pattern, data: &Value, each: &mut dyn FnMut(&str)) {
    pattern.find(data, &mut |value| {
        if let Some(text) = value.as_str() {
            each(text);
        }
        false
    });
}

fn first_text(pattern: &Pattern, data: &Value) -> Option<String> {
    let mut found = None;
    each_text(pattern, data, &mut |text| {
        found.get_or_insert_with(|| text.to_owned());
    });
    found
}
