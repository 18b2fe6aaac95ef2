//! `GET /v1/lookup/{dataset}`: what the hub lets this office read of others' data, from the copy on
//! this box: `?key=` a subject, `?q=` words of a name, with and without diacritics.
//!
//! It reads beside everything else, so it answers with the network down and the engine busy. Every
//! answer says how old the copy is and whether it is whole. Who looked at which dataset is logged,
//! what was looked for is not.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::catalogue::Dataset;
use crate::catalogue::condition::Pattern;
use crate::edge::http::App;
use crate::edge::listen::LocalPeer;
use crate::edge::problem::Problem;
use crate::edge::records::caller;
use crate::edge::status::Stamp;
use crate::model::{AgencyCode, DatasetId};
use crate::store::StoreError;
use crate::store::copies::look::{After, CopyRecord, CopyState, CopyView};

/// Records of one answer; of personal data fewer, so that nobody lists a register page by page by
/// mistake.
const RECORDS_MAX: u32 = 100;
const PERSONAL_MAX: u32 = 20;
const QUESTION_CHARS_MAX: usize = 200;

/// The copies, opened when they are first asked for.
pub struct Lookup {
    store: PathBuf,
    view: Mutex<Option<CopyView>>,
}

#[derive(Debug, Deserialize)]
pub struct Parameters {
    key: Option<String>,
    q: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

/// What is asked for.
enum Question {
    Key(String),
    Words {
        words: String,
        limit: u32,
        after: Option<After>,
    },
}

#[derive(Debug, Serialize)]
struct Answer {
    dataset: DatasetId,
    /// Hub's time of the last that it said about the dataset.
    as_of: Stamp,
    /// When the hub last said anything to this box.
    heard: Option<Stamp>,
    /// The initial load has ended.
    complete: bool,
    progress: Progress,
    records: Vec<Record>,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// Of the initial load: subjects at the hub, and how many of them it has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub seen: u64,
    pub subjects: u64,
}

#[derive(Debug, Serialize)]
struct Record {
    subject: String,
    agency: AgencyCode,
    /// When the hub committed it.
    at: Stamp,
    #[serde(rename = "type")]
    kind: String,
    data: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachments: Option<Box<RawValue>>,
}

impl Lookup {
    pub fn new(store: PathBuf) -> Lookup {
        Lookup {
            store,
            view: Mutex::default(),
        }
    }

    /// Reads with the one connection there is; after a fault it is opened again.
    fn read<T>(
        &self,
        read: impl FnOnce(&CopyView) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut view = self.view.lock().expect("no holder panics");
        let open = match view.take() {
            Some(open) => open,
            None => CopyView::open(&self.store)?,
        };
        let found = read(&open)?;
        *view = Some(open);
        Ok(found)
    }
}

pub async fn get(
    State(app): State<Arc<App>>,
    dataset: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
) -> Response {
    let who = match local {
        Some(_) => Some(app.tokens.put()),
        None => caller(&app, &headers),
    };
    let Some(who) = who else {
        return Problem::unauthorized().into_response();
    };
    let dataset = dataset
        .ok()
        .and_then(|Path(text)| text.parse::<DatasetId>().ok());
    let described = dataset.as_ref().and_then(|id| app.door.dataset(id));
    let (Some(dataset), Some(described)) = (dataset.clone(), described) else {
        return unknown().into_response();
    };
    if !who.may_look_up(&dataset) {
        return not_allowed(&dataset).into_response();
    }
    let question = match Question::read(parameters.ok().map(|Query(found)| found), &described) {
        Ok(question) => question,
        Err(problem) => return problem.into_response(),
    };
    let name = who.name().clone();
    let (app, asked) = (Arc::clone(&app), dataset.clone());
    let answer = tokio::task::spawn_blocking(move || {
        app.lookup.read(|view| answer(view, &asked, &question))
    })
    .await
    .expect("reading does not panic");
    match answer {
        Ok(Some(answer)) => {
            tracing::info!(who = %name, %dataset, records = answer.records.len(), "looked up");
            match answer.records.is_empty() && answer.after.is_none() {
                true => nothing(&answer).into_response(),
                false => fresh(Json(answer).into_response()),
            }
        }
        Ok(None) => no_copy(&dataset).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the copies cannot be read");
            unreadable().into_response()
        }
    }
}

impl Question {
    fn read(parameters: Option<Parameters>, dataset: &Dataset) -> Result<Question, Problem> {
        let parameters = parameters.ok_or_else(no_question)?;
        match (parameters.key, parameters.q) {
            (Some(key), None) if !key.is_empty() => Ok(Question::Key(key)),
            (None, Some(words))
                if words.chars().any(char::is_alphanumeric)
                    && words.chars().count() <= QUESTION_CHARS_MAX =>
            {
                let most = match dataset.quotable() {
                    true => RECORDS_MAX,
                    false => PERSONAL_MAX,
                };
                let after = match parameters.after.as_deref() {
                    None => None,
                    Some(text) => Some(read_after(text).ok_or_else(no_question)?),
                };
                Ok(Question::Words {
                    words,
                    limit: parameters.limit.unwrap_or(PERSONAL_MAX).clamp(1, most),
                    after,
                })
            }
            _ => Err(no_question()),
        }
    }
}

fn answer(
    view: &CopyView,
    dataset: &DatasetId,
    question: &Question,
) -> Result<Option<Answer>, StoreError> {
    let Some(state) = view.dataset(dataset)? else {
        return Ok(None);
    };
    let (records, after) = match question {
        Question::Key(key) => (view.by_subject(&state, key)?, None),
        Question::Words {
            words,
            limit,
            after,
        } => view.by_words(&state, words, *after, *limit)?,
    };
    let records: Result<Vec<Record>, StoreError> = records
        .into_iter()
        .map(|found| record(&state, found))
        .collect();
    Ok(Some(Answer {
        as_of: Stamp(state.as_of),
        heard: view.heard()?.map(Stamp),
        complete: state.complete,
        progress: Progress {
            seen: state.seen,
            subjects: state.subjects,
        },
        records: records?,
        after: after.map(write_after),
        dataset: state.dataset,
    }))
}

fn record(of: &CopyState, found: CopyRecord) -> Result<Record, StoreError> {
    let raw = |text: String| RawValue::from_string(text).map_err(|_| StoreError::Damaged);
    Ok(Record {
        kind: format!("{}/{}", of.dataset, found.schema),
        subject: found.subject,
        agency: found.agency,
        at: Stamp(found.at),
        data: raw(found.data)?,
        attachments: found.attachments.map(raw).transpose()?,
    })
}

fn write_after(after: After) -> String {
    let kind = if after.folded { 'f' } else { 'e' };
    format!("{kind}{}", after.row)
}

fn read_after(text: &str) -> Option<After> {
    let (kind, row) = text.split_at_checked(1)?;
    let folded = match kind {
        "e" => false,
        "f" => true,
        _ => return None,
    };
    let row = row.parse().ok().filter(|row| 0 <= *row)?;
    Some(After { folded, row })
}

/// Nobody on the way keeps it.
fn fresh(mut response: Response) -> Response {
    let no_store = header::HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

/// Words of a record that its dataset says are looked through.
pub fn words(fields: &[Pattern], data: &str) -> String {
    let mut words = String::new();
    let Ok(data) = serde_json::from_str::<serde_json::Value>(data) else {
        return words;
    };
    for field in fields {
        field.find(&data, &mut |value| {
            match value {
                serde_json::Value::String(text) => words.push_str(text),
                serde_json::Value::Number(number) => words.push_str(&number.to_string()),
                _ => return false,
            }
            words.push('\n');
            false
        });
    }
    words
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-dataset",
        ["Không có bộ dữ liệu này", "There is no such dataset"],
        [
            "Danh mục của trạm không có bộ dữ liệu này.",
            "The box's catalogue has no such dataset.",
        ],
        [
            "Kiểm tra mã bộ dữ liệu trong danh mục.",
            "Check the dataset's id against the catalogue.",
        ],
    )
}

fn not_allowed(dataset: &DatasetId) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "dataset-not-allowed",
        [
            "Không được tra cứu bộ dữ liệu này",
            "This dataset may not be looked up",
        ],
        [
            &format!("Mã truy cập này không được tra cứu {dataset}."),
            &format!("This token may not look up {dataset}."),
        ],
        [
            "Thêm bộ dữ liệu vào lookup của [[http.token]] trong cấu hình của trạm.",
            "Add the dataset to lookup of the [[http.token]] in the box's configuration.",
        ],
    )
}

fn no_copy(dataset: &DatasetId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-copy",
        ["Trạm không có bản sao này", "The box has no such copy"],
        [
            &format!("Cơ quan chưa được cấp quyền đọc {dataset}, hoặc quyền đã bị thu hồi."),
            &format!("The office has no right to read {dataset}, or it was withdrawn."),
        ],
        [
            "Đề nghị quản trị trục cấp quyền (trucd grant add).",
            "Ask the hub's administrator for the right (trucd grant add).",
        ],
    )
}

/// Not there, which means less while the copy is not whole.
fn nothing(answer: &Answer) -> Problem {
    let (as_of, progress) = (answer.as_of.0, answer.progress);
    let state = match answer.complete {
        true => [
            format!("Bản sao đầy đủ tính đến {as_of}."),
            format!("The copy is whole as of {as_of}."),
        ],
        false => [
            format!(
                "Bản sao đang được nạp: {} trên {}.",
                progress.seen, progress.subjects
            ),
            format!(
                "The copy is being loaded: {} of {}.",
                progress.seen, progress.subjects
            ),
        ],
    };
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-in-copy",
        ["Không tìm thấy trong bản sao", "Not found in the copy"],
        [&state[0], &state[1]],
        [
            "Kiểm tra khóa hoặc từ cần tìm; bản ghi ngoài phạm vi được cấp không có ở đây.",
            "Check the key or the words; records outside the right are not here.",
        ],
    )
}

fn no_question() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "not-readable",
        ["Yêu cầu không đọc được", "The request cannot be read"],
        [
            "Cần đúng một trong hai: key (khóa) hoặc q (từ cần tìm, tối đa 200 ký tự); after lấy từ câu trả lời trước.",
            "Needs either key (a subject) or q (words, at most 200 characters); after comes from the answer before.",
        ],
        [
            "Ví dụ: ?key=H53.12-261120-0042 hoặc ?q=nguyen+van&limit=20.",
            "For example: ?key=H53.12-261120-0042 or ?q=nguyen+van&limit=20.",
        ],
    )
}

fn unreadable() -> Problem {
    let what = ["Chưa đọc được bản sao.", "The copies cannot be read now."];
    let hint = [
        "Thử lại sau; nếu kéo dài, xem trang trạng thái của trạm.",
        "Try again later; if it lasts, look at the box's status page.",
    ];
    Problem::unavailable("copies-unreadable", what, hint, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_page_ended_is_read_back() {
        for folded in [false, true] {
            let after = After { folded, row: 42 };
            assert_eq!(read_after(&write_after(after)), Some(after));
        }
        for bad in ["", "e", "x1", "e-1", "é1", "e1x"] {
            assert_eq!(read_after(bad), None, "{bad}");
        }
    }

    #[test]
    fn words_come_from_the_fields_that_the_dataset_names() {
        let fields: Vec<Pattern> = ["/ten", "/con/*/ten"]
            .iter()
            .map(|text| text.parse().expect("a pointer"))
            .collect();
        let data = r#"{"ten":"Nguyễn Văn A","cccd":"1","con":[{"ten":"B"},{"ten":7},{}]}"#;
        assert_eq!(words(&fields, data), "Nguyễn Văn A\nB\n7\n");
        assert_eq!(words(&fields, "x"), "");
    }
}
