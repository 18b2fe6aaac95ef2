//! What leaves the inbox: what this office says of documents goes into the box's own log as records,
//! and documents go to the office's software, into a folder or to a web service.
//!
//! Each is noted in the inbox only when it has succeeded, and made so that a repeat is harmless: a
//! record carries an id made of what it says, a file has the document's number, a request an
//! `Idempotency-Key`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::files::{self, Named};
use super::shown::whole;
use super::{Documents, decoded};
use crate::catalogue::condition::Pattern;
use crate::catalogue::{Dataset, StatusFields};
use crate::edge::config::inbox::{InboxConfig, InboxKind};
use crate::edge::door::{Door, Incoming, short_digest};
use crate::edge::received::Received;
use crate::engine::sending::{Answer, Submission};
use crate::model::record::Op;
use crate::model::{RecordId, SourceName, UnixMs};
use crate::store::StoreError;
use crate::store::files::FileState;
use crate::store::inbox::{DocumentRow, Unsaid};
use crate::store::rows::Beside;

/// How soon something new is seen.
const LOOK: Duration = Duration::from_secs(2);
const SLICE: u32 = 50;
/// Waiting times of the national axis (formats.md B.2.4), then the last again and again.
const RETRY_S: [i64; 5] = [30, 60, 120, 240, 480];
const ERROR_CHARS_MAX: usize = 200;

/// The source under which the box itself says what became of documents.
pub fn own_source() -> SourceName {
    "giao-nhan".parse().expect("a source name")
}

/// Until told to stop.
pub async fn run(
    door: Arc<Door>,
    documents: Arc<Documents>,
    inboxes: Vec<InboxConfig>,
    mut stop: watch::Receiver<bool>,
) {
    let inboxes = Arc::new(inboxes);
    while !*stop.borrow() {
        if let Err(error) = say_all(&door, &documents).await {
            tracing::debug!(%error, "what was said of documents waits");
        }
        let (door, documents, inboxes) = (door.clone(), documents.clone(), inboxes.clone());
        let handed = tokio::task::spawn_blocking(move || {
            for inbox in inboxes.iter() {
                if let Err(error) = hand_out(inbox, &documents, door.now().wall) {
                    tracing::debug!(inbox = %inbox.name, %error, "documents wait");
                }
            }
        });
        tokio::select! {
            _ = handed => {}
            _ = stop.changed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stop.changed() => return,
        }
    }
}

// === Statuses ===

/// Hands in what was said, in its order; what cannot be kept now is said later.
pub async fn say_all(door: &Arc<Door>, documents: &Arc<Documents>) -> anyhow::Result<()> {
    let Some(dataset) = door.status_dataset() else {
        return Ok(());
    };
    let fields = dataset.status.as_ref().expect("found by it");
    let unsaid = on_disk(documents, |inbox| inbox.unsaid(SLICE)).await?;
    for said in unsaid {
        if said_record(door, &dataset, fields, &said).await? {
            on_disk(documents, move |inbox| inbox.was_said(said.status)).await?;
        }
    }
    Ok(())
}

async fn on_disk<T: Send + 'static>(
    documents: &Arc<Documents>,
    work: impl FnOnce(&mut crate::store::inbox::Inbox) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let documents = Arc::clone(documents);
    let done = tokio::task::spawn_blocking(move || documents.with(work)).await;
    done.expect("the store does not panic")
}

/// True: it is in the log, or never will be.
async fn said_record(
    door: &Door,
    dataset: &Dataset,
    fields: &StatusFields,
    said: &Unsaid,
) -> anyhow::Result<bool> {
    let to = match said.to.as_str() {
        "" => door.agency().as_str(),
        to => to,
    };
    let mut data = Value::Object(serde_json::Map::new());
    let time = said.at.to_string();
    for (field, text) in [
        (&fields.document, said.id.as_str()),
        (&fields.from, said.sender.as_str()),
        (&fields.to, to),
        (&fields.code, &said.code),
        (&fields.note, &said.note),
    ] {
        set(&mut data, field, text);
    }
    for pointer in dataset.time.iter().take(1) {
        if let Ok(field) = pointer.parse() {
            set(&mut data, &field, &time);
        }
    }
    let data = serde_json::value::to_raw_value(&data)?;
    let incoming = Incoming {
        data: &data,
        op: Op::Upsert,
        original: None,
        id: Some(status_id(said)),
    };
    let source = own_source();
    let record = match door.admit(dataset, &source, incoming) {
        Ok(record) => record,
        Err(refusal) => {
            tracing::error!(dataset = %dataset.id, %refusal, "a status does not fit its dataset and is not sent");
            return Ok(true);
        }
    };
    let submission = Submission {
        reply: (),
        source,
        records: vec![record],
        once: None,
        cursor: None,
        beside: Beside::default(),
    };
    match door.intake().submit(submission).await? {
        Answer::Stored { .. } => Ok(true),
        Answer::LaneFull(_) => Ok(false),
        answer => {
            tracing::error!(?answer, "a status is not sent");
            Ok(true)
        }
    }
}

/// The same for the same word, so that it is one record however often it is handed in.
fn status_id(said: &Unsaid) -> RecordId {
    let parts = [said.sender.as_str(), said.id.as_str(), &said.code];
    let digest = short_digest(&parts);
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("tt-{text}").parse().expect("a record id")
}

fn set(data: &mut Value, field: &Pattern, text: &str) {
    let mut place = data;
    for name in field.names().unwrap_or_default() {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[name];
    }
    *place = Value::from(text);
}

// === Ways out ===

/// Hands out what is due by one way, oldest first. Blocks.
pub fn hand_out(inbox: &InboxConfig, documents: &Documents, now: UnixMs) -> Result<(), StoreError> {
    let name = inbox.name.as_str();
    for row in documents.with(|open| open.to_hand(name, now, SLICE))? {
        let (number, id) = (row.document, row.id.clone());
        let (content, files) = documents.with(|open| {
            let files = files::named(open, &row)?;
            let inline = open.original(number)?.as_deref().and_then(decoded);
            let sent = files::original(&files).filter(|named| named.state() == FileState::Kept);
            let sent = sent.and_then(|named| named.digest());
            let statuses = open.statuses(&row.sender, &row.id)?;
            let content = match (inline, sent) {
                (Some(bytes), _) => Content::Original(bytes),
                (None, Some(digest)) => Content::Large(documents.files().path(digest)),
                (None, None) => Content::Json(whole(&row, &statuses, &files)?.to_string()),
            };
            Ok((content, files))
        })?;
        let handed = match &inbox.kind {
            InboxKind::Folder { path } => write_files(path, &row, documents.files(), &files)
                .and_then(|()| write_document(path, &row, &content)),
            InboxKind::Http(service) => call(service, &row, &content),
        };
        match handed {
            Ok(()) => documents.with(|open| {
                open.was_handed(name, number, now)?;
                open.done(number, now)
            })?,
            Err(error) => {
                let tries = documents.with(|open| open.tries(name, number))? as usize;
                let wait_s = RETRY_S[tries.min(RETRY_S.len() - 1)];
                let text: String = format!("{error:#}").chars().take(ERROR_CHARS_MAX).collect();
                let retry = UnixMs(now.0 + wait_s * 1_000);
                documents.with(|open| open.was_not_handed(name, number, retry, &text))?;
                tracing::warn!(inbox = name, document = %id, error = text, wait_s, "a document could not be handed out");
                false
            }
        };
    }
    Ok(())
}

/// What goes out as the document.
enum Content {
    /// What the sender's software wrote.
    Original(Vec<u8>),
    /// The same, in a file that has come.
    Large(PathBuf),
    Json(String),
}

impl Content {
    fn open(&self) -> std::io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Content::Original(bytes) => Box::new(bytes.as_slice()),
            Content::Large(path) => Box::new(File::open(path)?),
            Content::Json(text) => Box::new(text.as_bytes()),
        })
    }

    fn ending(&self) -> std::io::Result<&'static str> {
        if matches!(self, Content::Json(_)) {
            return Ok("json");
        }
        let mut start = Vec::new();
        self.open()?.take(4100).read_to_end(&mut start)?;
        Ok(match start.windows(5).any(|part| part == b"<?xml") {
            true => "edxml",
            false => "bin",
        })
    }
}

/// The document's file is whole under its name, or not there.
fn write_document(folder: &Path, row: &DocumentRow, content: &Content) -> anyhow::Result<()> {
    let name = format!("{}.{}", stem(row), content.ending()?);
    put(folder, &name, &mut content.open()?)
}

/// The files of a document, in a folder of its own, which is there whole before the document is.
fn write_files(
    folder: &Path,
    row: &DocumentRow,
    received: &Received,
    files: &[Named],
) -> anyhow::Result<()> {
    let files = files
        .iter()
        .filter(|named| !named.file.original && named.state() == FileState::Kept);
    let mut beside = None;
    let mut taken = BTreeSet::new();
    for named in files {
        let Some(digest) = named.digest() else {
            continue;
        };
        let beside = beside.get_or_insert_with(|| folder.join(format!("{}.files", stem(row))));
        match std::fs::create_dir(&*beside) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error.into());
            }
            _ => {}
        }
        let mut name = file_name(&named.file.name);
        if !taken.insert(name.to_lowercase()) {
            name = format!("{}-{name}", &named.file.sha256[..8]);
            taken.insert(name.to_lowercase());
        }
        put(beside, &name, &mut File::open(received.path(digest))?)?;
    }
    Ok(())
}

fn stem(row: &DocumentRow) -> String {
    format!("{:08}-{}", row.document, safe(&row.subject))
}

fn put(folder: &Path, name: &str, content: &mut dyn Read) -> anyhow::Result<()> {
    let beside = folder.join(format!(".{name}.part"));
    let mut file = File::create(&beside)?;
    std::io::copy(content, &mut file)?;
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// A name as its sender gave it, without what would lead elsewhere or hide it.
fn file_name(name: &str) -> String {
    const CHARS_MAX: usize = 60;
    let is_plain = |letter: &char| letter.is_alphanumeric() || " .-_()".contains(*letter);
    let plain: String = name
        .chars()
        .map(|letter| if is_plain(&letter) { letter } else { '-' })
        .collect();
    let plain = plain.trim_matches([' ', '.']);
    let (stem, ending) = match plain.rsplit_once('.') {
        Some((stem, ending)) if ending.len() <= 8 => (stem, format!(".{ending}")),
        _ => (plain, String::new()),
    };
    match stem.chars().take(CHARS_MAX).collect::<String>() {
        stem if stem.is_empty() => format!("tep{ending}"),
        stem => format!("{stem}{ending}"),
    }
}

/// Letters, digits and dashes only: a subject may hold slashes.
fn safe(subject: &str) -> String {
    let plain = |letter: char| match letter.is_ascii_alphanumeric() || letter == '.' {
        true => letter,
        false => '-',
    };
    subject.chars().map(plain).take(80).collect()
}

fn call(
    service: &crate::edge::config::inbox::Service,
    row: &DocumentRow,
    content: &Content,
) -> anyhow::Result<()> {
    let kind = match content {
        Content::Original(_) | Content::Large(_) => "application/octet-stream",
        Content::Json(_) => "application/json",
    };
    let agent = service.agent()?;
    let mut request = agent
        .post(&service.url)
        .header("Content-Type", kind)
        .header(
            "Idempotency-Key",
            format!("{}:{}", row.sender, row.document),
        )
        .header("Lienthong-Document", row.document.to_string())
        .header("Lienthong-From", row.sender.as_str());
    if let Some(token) = service.token()? {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let status = match content {
        Content::Original(bytes) => request.send(&bytes[..])?,
        Content::Large(path) => request.send(File::open(path)?)?,
        Content::Json(text) => request.send(text.as_bytes())?,
    };
    let status = status.status();
    anyhow::ensure!(status.is_success(), "the service answered {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_holds_nothing_that_leads_elsewhere() {
        assert_eq!(safe("142/UBND-VP,../x"), "142-UBND-VP-..-x");
        assert_eq!(safe("Đ").as_str(), "-");
    }

    #[test]
    fn fields_are_set_at_their_depth() {
        let mut data = Value::Null;
        set(&mut data, &"/tu/ma".parse().expect("a pointer"), "H53");
        set(&mut data, &"/ma".parse().expect("a pointer"), "01");
        assert_eq!(data, serde_json::json!({"tu": {"ma": "H53"}, "ma": "01"}));
    }
}
