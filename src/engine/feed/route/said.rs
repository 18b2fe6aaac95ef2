//! What offices say of documents: believed only of an office that the document was addressed to, or
//! of its successor, and of the sender itself.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{first_text, said_at};
use crate::catalogue::Dataset;
use crate::catalogue::directory::Directory;
use crate::engine::feed::date;
use crate::model::UnixMs;
use crate::model::down::DocumentStatus;
use crate::model::record::Entry;
use crate::store::StoreError;
use crate::store::hub::HubStore;
use crate::store::hub::feed::HandedRow;

/// A note of a status is cut here.
const NOTE_CHARS_MAX: usize = 1000;
/// The office is neither the sender nor one that the document was addressed to, or the hub does not
/// know the document yet. Not in the audit, which is of what people and the hub decide: the word may
/// only have come before its document, and a box could fill the audit with others.
const NOT_ADDRESSED: &str = "not_addressed";
const UNREADABLE: &str = "unreadable";

/// A word about a document, and which offices are to hear it.
pub(super) struct Said {
    pub status: DocumentStatus,
    pub to: BTreeSet<String>,
}

/// Which document a record speaks of, and what it says.
struct Word<'a> {
    /// None: all that the document was addressed to.
    to: Option<String>,
    code: String,
    note: String,
    /// Those that it can mean, newest first.
    documents: Vec<HandedRow>,
    entry: &'a Entry<'a>,
    now: UnixMs,
}

/// None: the record says nothing of another one. An error says why nobody is to hear it.
pub(super) fn read(
    store: &HubStore,
    dataset: &Dataset,
    data: &Value,
    entry: &Entry<'_>,
    now: UnixMs,
) -> Result<Option<Result<Said, &'static str>>, StoreError> {
    let directory = &dataset.codes.directory;
    let word = match word(store, dataset, data, entry, now)? {
        None => return Ok(None),
        Some(Err(reason)) => return Ok(Some(Err(reason))),
        Some(Ok(word)) => word,
    };
    let said = word
        .documents
        .iter()
        .find_map(|document| word.about(document, directory));
    Ok(Some(said.ok_or(NOT_ADDRESSED)))
}

fn word<'a>(
    store: &HubStore,
    dataset: &Dataset,
    data: &Value,
    entry: &'a Entry<'a>,
    now: UnixMs,
) -> Result<Option<Result<Word<'a>, &'static str>>, StoreError> {
    let word = |code, note, to, documents| {
        let code: Option<String> = first_text(code, data);
        let note = first_text(note, data).unwrap_or_default();
        Some(code.ok_or(UNREADABLE).map(|code| Word {
            to,
            code,
            note: note.chars().take(NOTE_CHARS_MAX).collect(),
            documents,
            entry,
            now,
        }))
    };
    if let Some(status) = &dataset.status {
        let id = first_text(&status.document, data).and_then(|id| id.parse().ok());
        let (Some(id), Some(from)) = (id, first_text(&status.from, data)) else {
            return Ok(Some(Err(UNREADABLE)));
        };
        let directory = &dataset.codes.directory;
        let mut documents = store.handed_by_id(&id)?;
        documents.retain(|one| directory.is_same(one.sender.as_str(), &from, date(now)));
        let to = first_text(&status.to, data);
        return Ok(word(&status.code, &status.note, to, documents));
    }
    if let Some(packet) = &dataset.packet
        && packet.when.matches(data)
    {
        let Some(subject) = first_text(&packet.subject, data) else {
            return Ok(Some(Err(UNREADABLE)));
        };
        let documents = store.handed_by_subject(&dataset.id, &subject)?;
        return Ok(word(&packet.code, &packet.note, None, documents));
    }
    Ok(None)
}

impl Word<'_> {
    /// None where this office has nothing to say of the document.
    fn about(&self, document: &HandedRow, directory: &Directory) -> Option<Said> {
        let on = date(self.now);
        let is_same = |a: &str, b: &str| directory.is_same(a, b, on);
        let by = self.entry.agency.as_str();
        let mut to: BTreeSet<String> = match is_same(document.sender.as_str(), by) {
            // What the sender says goes the same way as the document.
            true => {
                let recipients = document.recipients.iter();
                let is_meant = |code: &&String| {
                    let to = self.to.as_ref();
                    to.is_none_or(|to| is_same(code, to))
                };
                recipients.filter(is_meant).cloned().collect()
            }
            false => {
                let mut recipients = document.recipients.iter();
                let is_addressed = recipients.any(|code| is_same(code, by));
                let sender = is_addressed.then(|| document.sender.to_string());
                sender.into_iter().collect()
            }
        };
        if to.is_empty() {
            return None;
        }
        to.retain(|code| !is_same(code, by));
        let status = DocumentStatus {
            document: document.id.clone(),
            from: document.sender.clone(),
            code: self.code.clone(),
            by: self.entry.agency.clone(),
            at: said_at(self.entry).unwrap_or(self.now),
            note: self.note.clone(),
        };
        Some(Said { status, to })
    }
}
