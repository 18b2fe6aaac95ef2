//! `POST /v1/records/{dataset}`: a body of records in, "accepted" out after the commit.
//!
//! Whatever is wrong, nothing of the body is kept and every fault is told at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::catalogue::Dataset;
use crate::catalogue::admit::Refusal;
use crate::edge::door::{Incoming, op_text, short_digest};
use crate::edge::http::App;
use crate::edge::intake::IntakeError;
use crate::edge::listen::LocalPeer;
use crate::edge::problem::{ERRORS_MAX, ErrorItem, Problem};
use crate::edge::tokens::Caller;
use crate::engine::sending::{Answer, NewRecord, Submission};
use crate::formats::json::{self, Kind, Limits};
use crate::formats::{Fault, Faults};
use crate::model::record::Op;
use crate::model::{DatasetId, RecordId, SourceName};
use crate::store::edge::OnceKey;

/// Most records of one request.
const RECORDS_MAX: usize = 10_000;
/// A whole body must arrive within this, so that slow clients hold nothing up.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// So long a body waits for room in memory before the client is asked to come again.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// A body that has no more than this needs no room of its own.
const FREE_BYTES: usize = 64 * 1024;
const UNIT_BYTES: usize = 1024;
/// A body larger than this is not parsed on the runtime's thread.
const INLINE_BYTES_MAX: usize = 32 * 1024;
const KEY_CHARS_MAX: usize = 255;

#[derive(Debug, Deserialize)]
pub struct Parameters {
    op: Option<String>,
}

/// A request whose head is in order.
struct Request {
    source: SourceName,
    dataset: DatasetId,
    kind: Kind,
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
        let dataset = dataset
            .and_then(|dataset| dataset.parse::<DatasetId>().ok())
            .filter(|dataset| app.door.dataset(dataset).is_some())
            .ok_or_else(unknown_dataset)?;
        if !caller.may_write(&dataset) {
            return Err(not_allowed(&dataset));
        }
        Ok(Request {
            source: caller.name().clone(),
            dataset,
            kind: kind(headers)?,
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
        let (body, room) = timeout(BODY_TIMEOUT, read_body(&app.room, body, limit))
            .await
            .map_err(|_| body_too_slow())??;
        let request = Arc::new(self);
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
        let limits = Limits {
            records_max: RECORDS_MAX,
            record_bytes_max: usize::MAX,
        };
        let split = json::split(body, self.kind, &limits)
            .map_err(|faults| Unfit::Body(not_readable(&faults)))?;
        let dataset = app
            .door
            .dataset(&self.dataset)
            .expect("it was looked up before");
        let is_array = self.kind == Kind::Json && body.trim_ascii_start().first() == Some(&b'[');
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
        if let Some(first) = refused.first {
            let problem = unfit(
                dataset,
                &first,
                refused.errors,
                refused.records,
                split.len(),
            );
            return Err(Unfit::Records {
                problem,
                count: split.len() as u64,
                refusal: first,
            });
        }
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
            return Ok((StatusCode::OK, Json(json!({"accepted": []}))).into_response());
        }
        let submission = Submission {
            reply: (),
            source: self.source.clone(),
            records,
            once,
            cursor: None,
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
                Ok((status, Json(json!({"accepted": accepted}))).into_response())
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
            Err(error) => Err(of_intake(error)),
        }
    }
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
}

fn caller<'t>(app: &'t App, headers: &HeaderMap) -> Option<Caller<'t>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return None;
    }
    app.tokens.find(token.trim_ascii())
}

fn kind(headers: &HeaderMap) -> Result<Kind, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Kind::Json);
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Kind::Json),
        "application/x-ndjson" | "application/ndjson" => Ok(Kind::NdJson),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            ["Sai kiểu dữ liệu", "Wrong media type"],
            [
                "Trạm chỉ nhận application/json và application/x-ndjson.",
                "The box takes application/json and application/x-ndjson only.",
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
    [Op::Upsert, Op::Delete, Op::Snapshot]
        .into_iter()
        .find(|op| op_text(*op) == text)
        .ok_or_else(wrong)
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

/// Reads a body within its limit. Beyond a first piece it takes room from what all bodies share.
async fn read_body(
    room: &Arc<Semaphore>,
    mut body: Body,
    limit: usize,
) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Problem> {
    let mut whole: Vec<u8> = Vec::new();
    let mut permits = Vec::new();
    let mut room_bytes = FREE_BYTES;
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let frame = frame.map_err(|_| {
            bad_request(
                [
                    "Dữ liệu bị cắt giữa đường.",
                    "The body was cut off on its way.",
                ],
                ["Gửi lại.", "Send it again."],
            )
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if limit < whole.len() + data.len() {
            return Err(body_too_large(limit));
        }
        while room_bytes < whole.len() + data.len() {
            let units = (FREE_BYTES / UNIT_BYTES) as u32;
            let permit = timeout(ROOM_TIMEOUT, Arc::clone(room).acquire_many_owned(units));
            permits.push(
                permit
                    .await
                    .map_err(|_| busy())?
                    .expect("it is never closed"),
            );
            room_bytes += FREE_BYTES;
        }
        whole.extend_from_slice(&data);
    }
    Ok((Bytes::from(whole), permits))
}

/// Room in memory that all bodies share, for bodies of at most `body_bytes_max`.
pub fn room(body_bytes_max: usize) -> Arc<Semaphore> {
    let bytes = (body_bytes_max * 3 / 2).max(2 * FREE_BYTES);
    Arc::new(Semaphore::new(bytes / UNIT_BYTES))
}

// === Problems ===

fn bad_request(detail: [&str; 2], hint: [&str; 2]) -> Problem {
    let title = ["Yêu cầu không đọc được", "The request cannot be read"];
    Problem::new(StatusCode::BAD_REQUEST, "not-readable", title, detail, hint)
}

fn not_readable(faults: &Faults) -> Problem {
    let errors = faults.list().iter().map(|fault| ErrorItem {
        line: Some(fault.line),
        column: Some(fault.column),
        detail: fault.message_vi.clone(),
        detail_en: fault.message_en.clone(),
        ..ErrorItem::default()
    });
    let count = faults.list().len() as u64 + faults.more();
    bad_request(
        [
            &format!("Dữ liệu có {count} chỗ không đọc được; không bản ghi nào được lưu."),
            &format!("The body cannot be read in {count} places; nothing was kept."),
        ],
        [
            "Sửa các chỗ nêu trong errors rồi gửi lại.",
            "Correct the places in errors and send it again.",
        ],
    )
    .with_errors(errors.collect())
}

fn unfit(
    dataset: &Dataset,
    first: &Refusal,
    errors: Vec<ErrorItem>,
    refused: usize,
    count: usize,
) -> Problem {
    if first.alarm() {
        return Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "state-secret",
            ["Nội dung không được phép vào hệ thống này", "This content must not enter this system"],
            [
                "Tài liệu mang dấu mật. Trạm đã từ chối, không lưu nội dung, và đã báo động về trục.",
                "The document is marked as a state secret. The box refused it, kept nothing of it, and raised the alarm.",
            ],
            [
                "Gửi tài liệu mật theo đường riêng đúng quy định về bảo vệ bí mật nhà nước.",
                "Send secret documents by the way that the law on state secrets provides.",
            ],
        )
        .with_errors(errors);
    }
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "unfit",
        ["Bản ghi không đúng mẫu", "The record does not fit"],
        [
            &format!("{refused} trong {count} bản ghi không đúng mẫu của bộ dữ liệu “{}”; không bản ghi nào được lưu.", dataset.title_vi),
            &format!("{refused} of {count} records do not fit the dataset {:?}; nothing was kept.", dataset.title_en),
        ],
        ["Sửa các trường nêu trong errors rồi gửi lại.", "Correct the fields in errors and send it again."],
    )
    .with_errors(errors)
}

fn unknown_dataset() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-dataset",
        ["Không có bộ dữ liệu này", "There is no such dataset"],
        [
            "Danh mục của trạm không có bộ dữ liệu với mã này.",
            "The box's catalogue has no dataset of this id.",
        ],
        [
            "Kiểm tra mã bộ dữ liệu trong đường dẫn.",
            "Check the dataset's id in the path.",
        ],
    )
}

fn not_allowed(dataset: &DatasetId) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "dataset-not-allowed",
        [
            "Không được gửi bộ dữ liệu này",
            "This dataset is not allowed",
        ],
        [
            &format!("Mã truy cập này không được gửi bộ dữ liệu {dataset}."),
            &format!("This token may not send the dataset {dataset}."),
        ],
        [
            "Đề nghị người quản trị trạm thêm bộ dữ liệu vào http.token.datasets.",
            "Ask the box's administrator to add the dataset to http.token.datasets.",
        ],
    )
}

fn body_too_large(limit: usize) -> Problem {
    let kib = limit / 1024;
    Problem::too_large([
        &format!("Một lần gửi tối đa {kib} KiB."),
        &format!("A request has at most {kib} KiB."),
    ])
}

fn record_too_large(index: usize, bytes: usize) -> Problem {
    let item = ErrorItem {
        record: Some(index),
        detail: format!("bản ghi có {bytes} byte, quá lớn"),
        detail_en: format!("the record has {bytes} bytes, which is too large"),
        ..ErrorItem::default()
    };
    Problem::too_large([
        "Một bản ghi quá lớn; không bản ghi nào của lần gửi này được lưu.",
        "A record is too large; nothing of this request was kept.",
    ])
    .with_errors(vec![item])
}

fn body_too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "too-slow",
        ["Gửi quá chậm", "Too slow"],
        [
            "Dữ liệu không đến đủ trong 30 giây.",
            "The body did not arrive within 30 seconds.",
        ],
        [
            "Chia thành nhiều lần gửi nhỏ hơn.",
            "Send it in smaller parts.",
        ],
    )
}

fn busy() -> Problem {
    Problem::unavailable(
        "busy",
        [
            "Trạm đang nhận nhiều dữ liệu lớn cùng lúc. Không bản ghi nào của lần gửi này được lưu.",
            "The box is taking in many large bodies at once. Nothing of this request was kept.",
        ],
        ["Gửi lại sau ít giây.", "Send it again in a few seconds."],
        5,
    )
}

fn other_content(index: Option<usize>) -> Problem {
    let problem = Problem::new(
        StatusCode::CONFLICT,
        "other-content",
        [
            "Mã đã dùng cho nội dung khác",
            "The key was used with other content",
        ],
        [
            "Mã id hoặc Idempotency-Key này đã dùng trước đây với nội dung khác; không bản ghi nào của lần gửi này được lưu.",
            "This id or Idempotency-Key was used before with other content; nothing of this request was kept.",
        ],
        [
            "Dùng mã mới cho nội dung mới; chỉ gửi lại mã cũ với đúng nội dung cũ.",
            "Use a new key for new content, and an old key only with its old content.",
        ],
    );
    match index {
        None => problem,
        Some(index) => problem.with_errors(vec![ErrorItem {
            record: Some(index),
            detail: "id này đã dùng với nội dung khác".to_owned(),
            detail_en: "this id was used with other content".to_owned(),
            ..ErrorItem::default()
        }]),
    }
}

fn of_intake(error: IntakeError) -> Problem {
    let again = ["Gửi lại sau.", "Send it again later."];
    match error {
        IntakeError::StoreClosed => Problem::unavailable(
            "store-unavailable",
            [
                "Kho dữ liệu của trạm đang gặp lỗi. Không bản ghi nào của lần gửi này được lưu.",
                "The box's store has a fault. Nothing of this request was kept.",
            ],
            again,
            10,
        ),
        IntakeError::StoreFull => Problem::unavailable(
            "store-full",
            [
                "Ổ đĩa của trạm đã đầy. Không bản ghi nào của lần gửi này được lưu.",
                "The box's disk is full. Nothing of this request was kept.",
            ],
            [
                "Báo người quản trị trạm giải phóng ổ đĩa, rồi gửi lại.",
                "Ask the box's administrator to free the disk, then send it again.",
            ],
            60,
        ),
        IntakeError::Unsure => Problem::unavailable(
            "store-failed",
            [
                "Kho dữ liệu gặp lỗi khi đang ghi; có lẽ chưa lưu, nhưng không chắc chắn.",
                "The store failed while writing; most probably nothing was kept, but that is not certain.",
            ],
            [
                "Gửi lại với cùng id hoặc Idempotency-Key; bản ghi đã lưu sẽ không bị lặp.",
                "Send it again with the same id or Idempotency-Key; what was kept is not doubled.",
            ],
            10,
        ),
        IntakeError::Stopping => Problem::unavailable(
            "stopping",
            [
                "Trạm đang dừng. Không bản ghi nào của lần gửi này được lưu.",
                "The box is stopping. Nothing of this request was kept.",
            ],
            again,
            10,
        ),
    }
}
