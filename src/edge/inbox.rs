//! Documents that are addressed to this office, for its software:
//!
//! - `GET /v1/inbox?after=&all=`: what came, oldest first; `GET /v1/inbox/{number}`: one, whole;
//!   `GET /v1/inbox/{number}/original`: the bytes as the sender's software wrote them
//! - `POST /v1/inbox/{number}/done`: the office's software has it
//! - `POST /v1/inbox/{number}/status`: what became of it, told to the sender
//! - `GET /v1/sent/{id}`: what became of a document that this office has sent;
//!   `POST /v1/sent/{id}/status`: the sender's own word, such as 13, to take it back
//!
//! What is said here is on the disk when it is answered; `outward` hands it in as a record.

pub mod outward;
mod words;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::edge::http::App;
use crate::edge::listen::LocalPeer;
use crate::edge::problem::Problem;
use crate::edge::records::caller;
use crate::edge::status::Stamp;
use crate::model::handover::{highest, known, warning};
use crate::model::{AgencyCode, RecordId, UnixMs};
use crate::store::StoreError;
use crate::store::inbox::{DocumentRow, Inbox, StatusRow};

const DOCUMENTS_MAX: u32 = 200;
const NOTE_CHARS_MAX: usize = 1000;

/// The documents, opened when they are first needed.
pub struct Documents {
    store: PathBuf,
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
            store,
            inbox: Mutex::default(),
        }
    }

    pub fn store(&self) -> &std::path::Path {
        &self.store
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
    State(app): State<Arc<App>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
) -> Response {
    let asked = parameters.map_err(|_| words::not_readable());
    let answer = async {
        enter(&app, local, &headers)?;
        let Query(asked) = asked?;
        let limit = asked.limit.unwrap_or(50).clamp(1, DOCUMENTS_MAX);
        let found = work(&app, move |inbox| {
            let rows = inbox.documents(asked.after.unwrap_or(0), !asked.all, limit)?;
            let mut found = Vec::new();
            for row in rows {
                let statuses = inbox.statuses(&row.sender, &row.id)?;
                found.push(summary(&row, &statuses));
            }
            Ok(found)
        })
        .await?;
        let after = found.last().map(|last| last["number"].clone());
        ok(json!({ "documents": found, "after": after }))
    };
    answer.await.into_response()
}

pub async fn one(
    State(app): State<Arc<App>>,
    number: Result<Path<i64>, PathRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        enter(&app, local, &headers)?;
        let number = number.map_err(|_| words::no_document())?.0;
        let found = work(&app, move |inbox| {
            let Some(row) = inbox.document(number)? else {
                return Ok(None);
            };
            let statuses = inbox.statuses(&row.sender, &row.id)?;
            whole(&row, &statuses).map(Some)
        })
        .await?;
        ok(found.ok_or_else(words::no_document)?)
    };
    answer.await.into_response()
}

pub async fn original(
    State(app): State<Arc<App>>,
    number: Result<Path<i64>, PathRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        enter(&app, local, &headers)?;
        let number = number.map_err(|_| words::no_document())?.0;
        let found = work(&app, move |inbox| inbox.original(number)).await?;
        let bytes = found
            .as_deref()
            .and_then(decoded)
            .ok_or_else(words::no_original)?;
        let mut response = (StatusCode::OK, bytes).into_response();
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok::<Response, Problem>(fresh(response))
    };
    answer.await.into_response()
}

pub async fn done(
    State(app): State<Arc<App>>,
    number: Result<Path<i64>, PathRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        enter(&app, local, &headers)?;
        let number = number.map_err(|_| words::no_document())?.0;
        let now = app.door.now().wall;
        let is_there = work(&app, move |inbox| inbox.done(number, now)).await?;
        match is_there {
            true => ok(json!({ "number": number, "done": true })),
            false => Err(words::no_document()),
        }
    };
    answer.await.into_response()
}

/// What this office says of a document that it has received.
pub async fn say(
    State(app): State<Arc<App>>,
    number: Result<Path<i64>, PathRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
    body: Result<Json<Said>, JsonRejection>,
) -> Response {
    let answer = async {
        enter(&app, local, &headers)?;
        let number = number.map_err(|_| words::no_document())?.0;
        let Json(said) = body.map_err(|_| words::not_readable())?;
        check(&said)?;
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
    };
    answer.await.into_response()
}

/// What became of a document that this office has sent.
pub async fn sent(
    State(app): State<Arc<App>>,
    id: Result<Path<RecordId>, PathRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        enter(&app, local, &headers)?;
        let id = id.map_err(|_| words::no_document())?.0;
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
    };
    answer.await.into_response()
}

/// What the sender itself says, such as 13.
pub async fn say_sent(
    State(app): State<Arc<App>>,
    id: Result<Path<RecordId>, PathRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
    body: Result<Json<Said>, JsonRejection>,
) -> Response {
    let answer = async {
        enter(&app, local, &headers)?;
        let id = id.map_err(|_| words::no_document())?.0;
        let Json(said) = body.map_err(|_| words::not_readable())?;
        check(&said)?;
        let to = said.to.clone().ok_or_else(words::to_whom)?;
        let own = app.door.agency().clone();
        let now = app.door.now().wall;
        let said = work(&app, move |inbox| {
            say_it(inbox, &own, &id, to.as_str(), &said, now)
        });
        Ok::<Response, Problem>(said.await?.into_response())
    };
    answer.await.into_response()
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

fn enter(
    app: &App,
    local: Option<Extension<LocalPeer>>,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let who = match local {
        Some(_) => Some(app.tokens.put()),
        None => caller(app, headers),
    };
    match who.ok_or_else(Problem::unauthorized)?.may_use_inbox() {
        true => Ok(()),
        false => Err(words::not_allowed()),
    }
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

fn check(said: &Said) -> Result<(), Problem> {
    let is_code = said.code.len() == 2 && said.code.bytes().all(|digit| digit.is_ascii_digit());
    match is_code && said.note.chars().count() <= NOTE_CHARS_MAX {
        true => Ok(()),
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

fn summary(row: &DocumentRow, statuses: &[StatusRow]) -> Value {
    json!({
        "number": row.document,
        "id": row.id,
        "type": format!("{}/{}", row.dataset, row.schema),
        "subject": row.subject,
        "from": row.sender,
        "to": row.recipient,
        "at": Stamp(row.at),
        "received": Stamp(row.received),
        "done": row.done.map(Stamp),
        "status": shown(statuses),
        "has_original": row.has_original,
    })
}

/// With content; its data is as the sender wrote it.
pub(super) fn whole(row: &DocumentRow, statuses: &[StatusRow]) -> Result<Value, StoreError> {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).map_err(|_| StoreError::Damaged);
    let mut whole = summary(row, statuses);
    whole["statuses"] = statuses.iter().map(status).collect();
    if let Some(attachments) = &row.attachments {
        whole["attachments"] = parsed(attachments)?;
    }
    whole["data"] = parsed(&row.data)?;
    Ok(whole)
}

fn shown(statuses: &[StatusRow]) -> Value {
    let code = highest(statuses.iter().map(|row| row.code.as_str()));
    code.map_or(
        Value::Null,
        |code| json!({ "code": code, "name": name(code) }),
    )
}

fn status(row: &StatusRow) -> Value {
    json!({
        "code": row.code,
        "name": name(&row.code),
        "by": row.by,
        "at": Stamp(row.at),
        "note": row.note,
    })
}

fn name(code: &str) -> String {
    match known(code) {
        Some(status) => format!("{} / {}", status.name_vi, status.name_en),
        None => format!("chưa biết / unknown status {code}"),
    }
}
