//! Documents that are addressed to this office, for its software:
//!
//! - `GET /v1/inbox?after=&all=`: what came, oldest first; `GET /v1/inbox/{number}`: one, whole;
//!   `GET /v1/inbox/{number}/original`: the bytes as the sender's software wrote them;
//!   `GET /v1/inbox/{number}/attachments/{sha256}`: one of its files, when all of it has come
//! - `POST /v1/inbox/{number}/done`: the office's software has it
//! - `POST /v1/inbox/{number}/status`: what became of it, told to the sender
//! - `GET /v1/sent/{id}`: what became of a document that this office has sent;
//!   `POST /v1/sent/{id}/status`: the sender's own word, such as 13, to take it back
//!
//! What is said here is on the disk when it is answered; `outward` hands it in as a record.

pub mod files;
pub mod outward;
mod shown;
mod words;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::edge::http::App;
use crate::edge::inbox::files::Named;
use crate::edge::listen::LocalPeer;
use crate::edge::problem::Problem;
use crate::edge::received::Received;
use crate::edge::records::caller;
use crate::model::chunk::{Digest, pieces};
use crate::model::handover::{known, warning};
use crate::model::{AgencyCode, RecordId, UnixMs};
use crate::store::StoreError;
use crate::store::files::FileState;
use crate::store::inbox::Inbox;
use shown::{shown, status, summary, whole};

const DOCUMENTS_MAX: u32 = 200;
const NOTE_CHARS_MAX: usize = 1000;

/// The documents, opened when they are first needed.
pub struct Documents {
    store: PathBuf,
    files: Received,
    inbox: Mutex<Option<Inbox>>,
}

#[derive(Debug, Deserialize)]
pub struct Parameters {
    after: Option<i64>,
    limit: Option<u32>,
    /// Those that are done too.
    #[serde(default)]
    all: bool,
}

/// What is said of a document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    code: String,
    #[serde(default)]
    note: String,
    /// Of a document that this office has sent: to whom.
    to: Option<AgencyCode>,
}

type Answer = Result<Response, Problem>;

impl Documents {
    pub fn new(store: PathBuf) -> Documents {
        Documents {
            files: Received::beside(&store),
            store,
            inbox: Mutex::default(),
        }
    }

    pub fn store(&self) -> &std::path::Path {
        &self.store
    }

    /// Where the files lie that came with them.
    pub fn files(&self) -> &Received {
        &self.files
    }

    /// Works with the one connection there is; after a fault it is opened again.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&mut Inbox) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut inbox = self.inbox.lock().expect("no holder panics");
        let mut open = match inbox.take() {
            Some(open) => open,
            None => Inbox::open(&self.store)?,
        };
        let done = work(&mut open)?;
        *inbox = Some(open);
        Ok(done)
    }
}

pub async fn list(
    Entrance(app): Entrance,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Answer {
    let Query(asked) = parameters.map_err(|_| words::not_readable())?;
    let limit = asked.limit.unwrap_or(50).clamp(1, DOCUMENTS_MAX);
    let found = work(&app, move |inbox| {
        let rows = inbox.documents(asked.after.unwrap_or(0), !asked.all, limit)?;
        let mut found = Vec::new();
        for row in rows {
            let statuses = inbox.statuses(&row.sender, &row.id)?;
            let files = files::named(inbox, &row)?;
            found.push(summary(&row, &statuses, &files));
        }
        Ok(found)
    })
    .await?;
    let after = found.last().map(|last| last["number"].clone());
    ok(json!({ "documents": found, "after": after }))
}

pub async fn one(Entrance(app): Entrance, number: Result<Path<i64>, PathRejection>) -> Answer {
    let number = named(number)?;
    let found = work(&app, move |inbox| {
        let Some(row) = inbox.document(number)? else {
            return Ok(None);
        };
        let statuses = inbox.statuses(&row.sender, &row.id)?;
        let files = files::named(inbox, &row)?;
        whole(&row, &statuses, &files).map(Some)
    })
    .await?;
    ok(found.ok_or_else(words::no_document)?)
}

pub async fn original(Entrance(app): Entrance, number: Result<Path<i64>, PathRejection>) -> Answer {
    let number = named(number)?;
    let found = work(&app, move |inbox| {
        let row = inbox.document(number)?;
        let files = row.map_or(Ok(Vec::new()), |row| files::named(inbox, &row));
        Ok((inbox.original(number)?, files?))
    });
    let (inline, files) = found.await?;
    if let (None, Some(named)) = (&inline, files::original(&files)) {
        return hand_over(&app, named).await;
    }
    let bytes = inline
        .as_deref()
        .and_then(decoded)
        .ok_or_else(words::no_original)?;
    let mut response = (StatusCode::OK, bytes).into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(fresh(response))
}

pub async fn attachment(
    Entrance(app): Entrance,
    place: Result<Path<(i64, Digest)>, PathRejection>,
) -> Answer {
    let Path((number, digest)) = place.map_err(|_| words::no_attachment())?;
    let files = work(&app, move |inbox| match inbox.document(number)? {
        Some(row) => files::named(inbox, &row).map(Some),
        None => Ok(None),
    })
    .await?
    .ok_or_else(words::no_document)?;
    let named = files.iter().find(|named| named.digest() == Some(digest));
    hand_over(&app, named.ok_or_else(words::no_attachment)?).await
}

/// A file that has come, or why it is not to be had.
async fn hand_over(app: &Arc<App>, named: &Named) -> Result<Response, Problem> {
    let digest = named.digest().ok_or_else(words::no_attachment)?;
    match named.state() {
        FileState::Kept => {}
        FileState::Refused => return Err(words::file_refused()),
        FileState::Removed => return Err(words::file_removed()),
        _ => {
            let chunks = pieces(named.row.map_or(named.file.bytes, |row| row.bytes));
            let received = files::received_pieces(named.row.as_ref());
            return Err(words::file_coming(received, chunks));
        }
    }
    let (app, mime) = (Arc::clone(app), named.file.mime.clone());
    let opened =
        tokio::task::spawn_blocking(move || files::stream(app.documents.files(), digest, &mime));
    match opened.await.expect("opening a file does not panic") {
        Ok(response) => Ok(fresh(response)),
        Err(error) => {
            tracing::warn!(%error, %digest, "a file that has come cannot be read");
            Err(words::unreadable())
        }
    }
}

pub async fn done(Entrance(app): Entrance, number: Result<Path<i64>, PathRejection>) -> Answer {
    let number = named(number)?;
    let now = app.door.now().wall;
    let is_there = work(&app, move |inbox| inbox.done(number, now)).await?;
    match is_there {
        true => ok(json!({ "number": number, "done": true })),
        false => Err(words::no_document()),
    }
}

/// What this office says of a document that it has received.
pub async fn say(
    Entrance(app): Entrance,
    number: Result<Path<i64>, PathRejection>,
    body: Result<Json<Said>, JsonRejection>,
) -> Answer {
    let number = named(number)?;
    let said = readable(body)?;
    if known(&said.code).is_some_and(|status| status.of_sender) {
        return Err(words::says_the_sender());
    }
    let now = app.door.now().wall;
    let found = work(&app, move |inbox| match inbox.document(number)? {
        Some(row) => say_it(inbox, &row.sender, &row.id, "", &said, now).map(Some),
        None => Ok(None),
    })
    .await?;
    Ok(found.ok_or_else(words::no_document)?.into_response())
}

/// What became of a document that this office has sent.
pub async fn sent(Entrance(app): Entrance, id: Result<Path<RecordId>, PathRejection>) -> Answer {
    let id = named(id)?;
    let own = app.door.agency().clone();
    let asked = id.clone();
    let statuses = work(&app, move |inbox| inbox.statuses(&own, &asked)).await?;
    match statuses.is_empty() {
        true => Err(words::nothing_said()),
        false => ok(json!({
            "id": id,
            "status": shown(&statuses),
            "statuses": statuses.iter().map(status).collect::<Vec<_>>(),
        })),
    }
}

/// What the sender itself says, such as 13.
pub async fn say_sent(
    Entrance(app): Entrance,
    id: Result<Path<RecordId>, PathRejection>,
    body: Result<Json<Said>, JsonRejection>,
) -> Answer {
    let id = named(id)?;
    let said = readable(body)?;
    let to = said.to.clone().ok_or_else(words::to_whom)?;
    let own = app.door.agency().clone();
    let now = app.door.now().wall;
    let said = work(&app, move |inbox| {
        say_it(inbox, &own, &id, to.as_str(), &said, now)
    });
    Ok(said.await?.into_response())
}

/// 201, or 200 for what was said before; with a warning where the order is unusual.
fn say_it(
    inbox: &mut Inbox,
    sender: &AgencyCode,
    id: &RecordId,
    to: &str,
    said: &Said,
    now: UnixMs,
) -> Result<(StatusCode, Json<Value>), StoreError> {
    let before = inbox.statuses(sender, id)?;
    let codes: Vec<&str> = before.iter().map(|row| row.code.as_str()).collect();
    let remark = warning(&said.code, &codes);
    let is_new = inbox.say(sender, id, to, (&said.code, &said.note), now)?;
    let mut answer = json!({ "id": id, "code": said.code });
    if let Some([vi, en]) = remark {
        answer["warning"] = json!(format!("{vi} / {en}"));
    }
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, Json(answer)))
}

/// Whoever may use the inbox; it stands first among a handler's arguments.
pub struct Entrance(Arc<App>);

impl FromRequestParts<Arc<App>> for Entrance {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Entrance, Problem> {
        let who = match parts.extensions.get::<LocalPeer>() {
            Some(_) => Some(app.tokens.put()),
            None => caller(app, &parts.headers),
        };
        match who.ok_or_else(Problem::unauthorized)?.may_use_inbox() {
            true => Ok(Entrance(Arc::clone(app))),
            false => Err(words::not_allowed()),
        }
    }
}

/// The document that a path names.
fn named<T>(place: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    let Path(name) = place.map_err(|_| words::no_document())?;
    Ok(name)
}

async fn work<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&mut Inbox) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || app.documents.with(work)).await;
    done.expect("the store does not panic").map_err(|error| {
        tracing::warn!(%error, "the inbox cannot be used");
        words::unreadable()
    })
}

fn readable(body: Result<Json<Said>, JsonRejection>) -> Result<Said, Problem> {
    let Json(said) = body.map_err(|_| words::not_readable())?;
    let is_code = said.code.len() == 2 && said.code.bytes().all(|digit| digit.is_ascii_digit());
    match is_code && said.note.chars().count() <= NOTE_CHARS_MAX {
        true => Ok(said),
        false => Err(words::not_readable()),
    }
}

fn ok(value: Value) -> Answer {
    Ok(fresh(Json(value).into_response()))
}

fn fresh(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
