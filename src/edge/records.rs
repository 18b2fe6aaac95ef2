//! `POST /v1/records/{dataset}`: a body of records in, "accepted" out after the commit.
//!
//! Whatever is wrong, nothing of the body is kept and every fault is told at once.

pub mod body;
pub mod events;
mod files;
pub(in crate::edge) mod refusal;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use tokio::time::timeout;

use crate::catalogue::Dataset;
use crate::catalogue::admit::Refusal;
use crate::edge::door::{Incoming, op_named, op_text, short_digest};
use crate::edge::http::App;
use crate::edge::listen::LocalPeer;
use crate::edge::problem::{ERRORS_MAX, ErrorItem, Problem};
use crate::edge::records::refusal::{
    bad_request, body_too_large, body_too_slow, no_attachment, not_allowed, not_readable,
    of_intake, other_content, paused, record_too_large, too_many_records, unfit, unknown_dataset,
};
use crate::edge::tokens::{Caller, bearer};
use crate::engine::sending::{Accepted, Answer, NewRecord, Submission};
use crate::evidence::sha256;
use crate::formats::Fault;
use crate::formats::json::{self, Kind, Limits};
use crate::model::record::Op;
use crate::model::{DatasetId, RecordId, SourceName};
use crate::store::edge::OnceKey;
use crate::store::rows::Beside;

/// Most records of one request.
const RECORDS_MAX: usize = 10_000;
/// A whole body must arrive within this, so that slow clients hold nothing up.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A body larger than this is not parsed on the runtime's thread.
const INLINE_BYTES_MAX: usize = 32 * 1024;
const KEY_CHARS_MAX: usize = 255;

#[derive(Debug, Deserialize)]
pub struct Parameters {
    op: Option<String>,
    /// How numbers of a table write fractions.
    decimal: Option<String>,
}

/// What a body is.
enum Media {
    Records(Kind),
    /// One file, or several.
    Files(files::Files),
    /// CloudEvents: one, or an array of them.
    Events(events::Mode),
}

/// A request whose head is in order.
struct Request {
    source: SourceName,
    dataset: DatasetId,
    /// As it held when the request came.
    known: Arc<Dataset>,
    media: Media,
    op: Op,
    idempotency_key: Option<String>,
}

/// A body whose records may enter.
struct Prepared {
    records: Vec<NewRecord>,
    once: Option<OnceKey>,
}

/// Why none of the body's records may enter.
enum Unfit {
    /// It cannot be split into records.
    Body(Problem),
    /// Some records are refused.
    Records {
        problem: Problem,
        count: u64,
        refusal: Refusal,
    },
}

pub async fn post(
    State(app): State<Arc<App>>,
    dataset: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let caller = match local {
        Some(_) => Some(app.tokens.put()),
        None => caller(&app, &headers),
    };
    let dataset = dataset.as_ref().ok().map(|Path(dataset)| dataset.as_str());
    let parameters = parameters.ok().map(|Query(parameters)| parameters);
    let request = match Request::read(&app, caller, dataset, parameters, &headers) {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    match request.take(&app, &headers, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

impl Request {
    fn read(
        app: &App,
        caller: Option<Caller<'_>>,
        dataset: Option<&str>,
        parameters: Option<Parameters>,
        headers: &HeaderMap,
    ) -> Result<Request, Problem> {
        let caller = caller.ok_or_else(Problem::unauthorized)?;
        let known = dataset
            .and_then(|dataset| app.door.dataset(&dataset.parse().ok()?))
            .ok_or_else(unknown_dataset)?;
        let dataset = known.id.clone();
        if !caller.may_write(&dataset) {
            return Err(not_allowed(&dataset));
        }
        if app.door.steering().paused.borrow().contains(caller.name()) {
            return Err(paused());
        }
        Ok(Request {
            source: caller.name().clone(),
            dataset,
            known,
            media: media(headers, parameters.as_ref())?,
            op: op(parameters)?,
            idempotency_key: idempotency_key(headers)?,
        })
    }

    async fn take(
        self,
        app: &Arc<App>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        let limit = app.body_bytes_max;
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| (limit as u64) < length) {
            return Err(body_too_large(limit));
        }
        let (body, room) = timeout(BODY_TIMEOUT, body::read(&app.room, body, limit))
            .await
            .map_err(|_| body_too_slow())??;
        let mut request = self;
        if let Media::Files(files) = &mut request.media {
            files.take_apart(&body).await?;
        }
        let request = Arc::new(request);
        let prepared = if body.len() <= INLINE_BYTES_MAX {
            request.prepare(app, &body)
        } else {
            let (app, request) = (Arc::clone(app), Arc::clone(&request));
            tokio::task::spawn_blocking(move || request.prepare(&app, &body))
                .await
                .expect("preparing does not panic")
        };
        let response = match prepared {
            Ok(prepared) => request.submit(app, prepared).await,
            Err(Unfit::Body(problem)) => {
                let reason = problem.detail().to_owned();
                app.door
                    .intake()
                    .refused(request.source.clone(), 1, reason)
                    .await;
                Err(problem)
            }
            Err(Unfit::Records {
                problem,
                count,
                refusal,
            }) => {
                app.door
                    .refused(&request.source, &request.dataset, count, &refusal)
                    .await;
                Err(problem)
            }
        };
        drop(room);
        response
    }

    /// Splits the body and checks every record of it. Pure computing.
    fn prepare(&self, app: &App, body: &Bytes) -> Result<Prepared, Unfit> {
        let kind = match &self.media {
            Media::Records(kind) => *kind,
            Media::Files(files) => return self.prepare_files(app, body, files),
            Media::Events(mode) => return self.prepare_events(app, body, *mode),
        };
        let limits = Limits {
            records_max: RECORDS_MAX,
            record_bytes_max: usize::MAX,
        };
        let split = json::split(body, kind, &limits).map_err(|faults| {
            Unfit::Body(match faults.too_many_records() {
                true => too_many_records(RECORDS_MAX, &faults),
                false => not_readable(&faults),
            })
        })?;
        let dataset = &*self.known;
        let is_array = kind == Kind::Json && body.trim_ascii_start().first() == Some(&b'[');
        let mut records = Vec::with_capacity(split.len());
        let mut refused = Refused::default();
        for (index, data) in split.iter().enumerate() {
            let admitted = record_id(data).and_then(|id| {
                let incoming = Incoming {
                    data,
                    op: self.op,
                    original: None,
                    id,
                };
                app.door.admit(dataset, &self.source, incoming)
            });
            match admitted {
                Ok(record) => records.push(record),
                Err(refusal) => refused.add(index, is_array, refusal),
            }
        }
        refused.or_none(dataset, split.len())?;
        let once = self.idempotency_key.as_ref().map(|key| OnceKey {
            key: short_digest(&["request", self.source.as_str(), self.dataset.as_str(), key]),
            digest: {
                // The body was split, so it is text.
                let text = std::str::from_utf8(body).unwrap_or_default();
                short_digest(&[op_text(self.op), text])
            },
        });
        Ok(Prepared { records, once })
    }

    async fn submit(&self, app: &App, prepared: Prepared) -> Result<Response, Problem> {
        let Prepared { records, once } = prepared;
        if records.is_empty() {
            return Ok(accepted_answer(StatusCode::OK, &[]));
        }
        let submission = Submission {
            reply: (),
            source: self.source.clone(),
            records,
            once,
            cursor: None,
            beside: Beside::default(),
        };
        let refused = |problem: Problem| async {
            let reason = problem.detail().to_owned();
            app.door
                .intake()
                .refused(self.source.clone(), 1, reason)
                .await;
            Err(problem)
        };
        match app.door.intake().submit(submission).await {
            Ok(Answer::Stored { accepted, repeated }) => {
                let status = if repeated {
                    StatusCode::OK
                } else {
                    StatusCode::CREATED
                };
                Ok(accepted_answer(status, &accepted))
            }
            Ok(Answer::LaneFull(lane)) => Err(Problem::unavailable(
                "lane-full",
                [
                    &format!(
                        "Làn {lane} đã đầy vì dữ liệu chưa gửi được về trục. Không bản ghi nào của lần gửi này được lưu."
                    ),
                    &format!(
                        "Lane {lane} is full, because its data could not be sent to the hub yet. Nothing of this request was kept."
                    ),
                ],
                [
                    "Gửi lại sau; kiểm tra đường truyền trên trang của trạm.",
                    "Send it again later; look at the link on the box's page.",
                ],
                60,
            )),
            Ok(Answer::OtherContent { index }) => refused(other_content(index)).await,
            Ok(Answer::TooLarge { index, bytes }) => refused(record_too_large(index, bytes)).await,
            Ok(Answer::NoAttachment { index, sha256 }) => {
                refused(no_attachment(index, &sha256)).await
            }
            Err(error) => Err(of_intake(error)),
        }
    }
}

/// The body of a good answer, written as it is: a value tree of it would cost as much as the check.
fn accepted_answer(status: StatusCode, accepted: &[Accepted]) -> Response {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        accepted: &'a [Accepted],
    }
    (status, Json(Body { accepted })).into_response()
}

/// The key of a whole request, of these bytes.
fn request_key(request: &Request, parts: &[&[u8]]) -> Option<OnceKey> {
    let key = request.idempotency_key.as_ref()?;
    let digests: Vec<String> = parts
        .iter()
        .map(|part| {
            sha256(part)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        })
        .collect();
    let mut texts = vec![op_text(request.op)];
    texts.extend(digests.iter().map(String::as_str));
    Some(OnceKey {
        key: short_digest(&[
            "request",
            request.source.as_str(),
            request.dataset.as_str(),
            key,
        ]),
        digest: short_digest(&texts),
    })
}

/// What was refused of one body.
#[derive(Default)]
struct Refused {
    records: usize,
    errors: Vec<ErrorItem>,
    /// The first refusal, or the first that raises the alarm.
    first: Option<Refusal>,
}

impl Refused {
    fn add(&mut self, index: usize, is_array: bool, refusal: Refusal) {
        self.records += 1;
        if self.errors.len() < ERRORS_MAX {
            self.errors
                .extend(refusal.faults().into_iter().map(|fault| ErrorItem {
                    record: Some(index),
                    pointer: Some(match is_array {
                        true => format!("/{index}{}", fault.pointer),
                        false => fault.pointer,
                    }),
                    detail: fault.message_vi,
                    detail_en: fault.message_en,
                    ..ErrorItem::default()
                }));
        }
        let is_worse = self
            .first
            .as_ref()
            .is_none_or(|first| !first.alarm() && refusal.alarm());
        if is_worse {
            self.first = Some(refusal);
        }
    }

    /// Of so many records none may have been refused.
    fn or_none(self, dataset: &Dataset, count: usize) -> Result<(), Unfit> {
        let Some(refusal) = self.first else {
            return Ok(());
        };
        Err(Unfit::Records {
            problem: unfit(dataset, &refusal, self.errors, self.records, count),
            count: count as u64,
            refusal,
        })
    }
}

pub fn caller<'t>(app: &'t App, headers: &HeaderMap) -> Option<Caller<'t>> {
    app.tokens.find(bearer(headers)?)
}

fn media(headers: &HeaderMap, parameters: Option<&Parameters>) -> Result<Media, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Media::Records(Kind::Json));
    };
    let value = value.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Media::Records(Kind::Json)),
        "application/x-ndjson" | "application/ndjson" => Ok(Media::Records(Kind::NdJson)),
        "text/csv" => files::Files::csv(value, parameters).map(Media::Files),
        "multipart/form-data" => files::Files::multipart(value, parameters).map(Media::Files),
        "application/cloudevents+json" => Ok(Media::Events(events::Mode::One)),
        "application/cloudevents-batch+json" => Ok(Media::Events(events::Mode::Batch)),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            ["Sai kiểu dữ liệu", "Wrong media type"],
            [
                "Trạm nhận application/json, application/x-ndjson, text/csv, multipart/form-data, application/cloudevents+json và application/cloudevents-batch+json.",
                "The box takes application/json, application/x-ndjson, text/csv, multipart/form-data, application/cloudevents+json and application/cloudevents-batch+json.",
            ],
            [
                "Sửa tiêu đề Content-Type.",
                "Correct the header Content-Type.",
            ],
        )),
    }
}

fn op(parameters: Option<Parameters>) -> Result<Op, Problem> {
    let wrong = || {
        bad_request(
            [
                "Tham số op phải là upsert, delete hoặc snapshot.",
                "The parameter op must be upsert, delete or snapshot.",
            ],
            [
                "Bỏ tham số op nếu chỉ gửi bản ghi thường.",
                "Leave op out for ordinary records.",
            ],
        )
    };
    let Some(text) = parameters.ok_or_else(wrong)?.op else {
        return Ok(Op::Upsert);
    };
    op_named(&text).ok_or_else(wrong)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().ok().map(str::trim);
    match key {
        Some(key) if !key.is_empty() && key.len() <= KEY_CHARS_MAX => Ok(Some(key.to_owned())),
        _ => Err(bad_request(
            [
                "Idempotency-Key phải có 1 đến 255 ký tự ASCII.",
                "Idempotency-Key must have 1 to 255 ASCII characters.",
            ],
            [
                "Dùng một UUID cho mỗi lần gửi.",
                "Use a UUID for each request.",
            ],
        )),
    }
}

/// The source's own id of a record, where it has one.
fn record_id(data: &serde_json::value::RawValue) -> Result<Option<RecordId>, Refusal> {
    let fault = |message_vi: String, message_en: String| {
        Refusal::Schema(vec![crate::catalogue::admit::Fault {
            pointer: "/id".to_owned(),
            message_vi,
            message_en,
        }])
    };
    match json::top_level_str(data, "id") {
        None => Ok(None),
        Some(Err(Fault {
            message_vi,
            message_en,
            ..
        })) => Err(fault(message_vi, message_en)),
        Some(Ok(text)) => text.parse().map(Some).map_err(|_| {
            fault(
                "“id” phải có 1 đến 128 ký tự, không có ký tự điều khiển".to_owned(),
                "\"id\" must have 1 to 128 characters and no control characters".to_owned(),
            )
        }),
    }
}
