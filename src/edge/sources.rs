//! `tramd sources`: which sources there are and how they stand, and what to do with rows that are
//! parked.
//!
//! What changes the store goes through the daemon when it runs, by the socket beside the store; else
//! this process does it itself.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use crate::edge::commands::{self, Failure};
use crate::edge::config::Config;
use crate::edge::config::load::{Loaded, load};
use crate::edge::connectors::Fault;
use crate::edge::http::App;
use crate::edge::listen::LocalPeer;
use crate::edge::orders::local::By;
use crate::edge::problem::Problem;
use crate::edge::rows::parked::{self, Retried, Which};
use crate::edge::run::Core;
use crate::edge::status::{SourceState, SourceStatus};
use crate::edge::{sql, talk};
use crate::model::SourceName;
use crate::store::rows::{Parked, RowsView};

/// Where the commands reach the daemon.
pub const RETRY_PATH: &str = "/v1/local/parked/retry";
pub const DROP_PATH: &str = "/v1/local/parked/drop";
pub const REWIND_PATH: &str = "/v1/local/sources/rewind";
pub const DELETES_PATH: &str = "/v1/local/sources/allow-deletes";
/// Rows that a list shows.
const SHOWN: u32 = 200;

/// `tramd sources list`: the configured sources and how they stand.
pub fn list(path: &Path, as_json: bool) -> Result<String, Failure> {
    let status = commands::read_status(path)?;
    if as_json {
        let text = serde_json::to_string_pretty(&status.sources);
        return Ok(text.context("a status is plain JSON")? + "\n");
    }
    let mut text = String::new();
    for source in &status.sources {
        describe(&mut text, source);
    }
    if text.is_empty() {
        text.push_str("chưa có nguồn nào trong cấu hình / no source is configured\n");
    }
    Ok(text)
}

fn describe(text: &mut String, source: &SourceStatus) {
    let kind = source.kind.as_deref().unwrap_or("-");
    let state = source.state.map_or("-", |state| state_texts(state)[0]);
    let mut line = format!(
        "{} ({kind}): {state}; nhận {}, từ chối {}",
        source.name, source.accepted, source.refused
    );
    if 0 < source.parked {
        line.push_str(&format!(", giữ lại {}", source.parked));
    }
    if let Some(progress) = source.progress {
        line.push_str(&format!("; đã đọc {} dòng", progress.rows));
        if let Some(of) = progress.of {
            line.push_str(&format!(" trên {of}"));
        }
    }
    line.push('\n');
    for trouble in [&source.fault, &source.warning].into_iter().flatten() {
        line.push_str(&format!(
            "    {}. {}\n      {}. {}\n",
            trouble.text_vi, trouble.hint_vi, trouble.text_en, trouble.hint_en
        ));
    }
    text.push_str(&line);
}

/// A state in Vietnamese and in English.
pub fn state_texts(state: SourceState) -> [&'static str; 2] {
    match state {
        SourceState::Working => ["đang làm việc", "working"],
        SourceState::Waiting => ["đang chờ lượt sau", "waiting"],
        SourceState::Failed => ["hỏng, đang thử lại", "failed, tried again"],
        SourceState::Paused => ["tạm dừng theo lệnh", "paused by order"],
    }
}

/// `tramd sources parked NAME`: the rows that are parked, and why. Their content stays in the store.
pub fn list_parked(path: &Path, name: &str, as_json: bool) -> Result<String, Failure> {
    let (config, name) = configured(path, name)?;
    let rows =
        RowsView::open(&config.store.path).and_then(|view| view.parked(name.as_str(), 0, SHOWN));
    let rows = match rows {
        Ok(rows) => rows,
        Err(_) if !config.store.path.exists() => Vec::new(),
        Err(error) => return Err(Failure::of_store(error)),
    };
    if as_json {
        let rows: Vec<ParkedView<'_>> = rows.iter().map(ParkedView::new).collect();
        let text = serde_json::to_string_pretty(&rows).context("a list is plain JSON")?;
        return Ok(text + "\n");
    }
    let mut text = String::new();
    for row in &rows {
        let view = ParkedView::new(row);
        writeln!(
            text,
            "{} {} {} {}\n    {}\n    {}",
            view.number, view.at, view.dataset, view.op, view.reason_vi, view.reason_en
        )
        .expect("a string takes any text");
    }
    if rows.is_empty() {
        text.push_str("không có dòng nào bị giữ lại / no row is parked\n");
    } else {
        write!(
            text,
            "Sửa xong thì: tramd sources retry {name} --all. Bỏ một dòng: tramd sources drop {name} SỐ --reason \"lý do\".\n\
             When it is mended: tramd sources retry {name} --all. To give a row up: tramd sources drop {name} ID --reason \"why\".\n"
        )
        .expect("a string takes any text");
    }
    Ok(text)
}

/// A parked row as it is shown.
#[derive(Debug, Serialize)]
struct ParkedView<'r> {
    number: i64,
    at: String,
    dataset: &'r str,
    op: &'r str,
    /// False where a rule forbids to store the content; such a row can only be dropped.
    has_content: bool,
    /// False where the box does not have all of the row: it is mended at its source.
    is_whole: bool,
    waits_behind_another: bool,
    reason_vi: &'r str,
    reason_en: &'r str,
}

impl ParkedView<'_> {
    fn new(row: &Parked) -> ParkedView<'_> {
        let waits = row.reason_vi.is_empty();
        ParkedView {
            number: row.number,
            at: row.at.to_string(),
            dataset: &row.dataset,
            op: &row.op,
            has_content: row.row.is_some(),
            is_whole: row.is_whole,
            waits_behind_another: waits,
            reason_vi: match waits {
                true => "chờ sau một dòng khác của cùng đối tượng",
                false => &row.reason_vi,
            },
            reason_en: match waits {
                true => "waits behind another row of the same subject",
                false => &row.reason_en,
            },
        }
    }
}

/// `tramd sources retry NAME`: hands parked rows in again.
pub fn retry(path: &Path, name: &str, number: Option<i64>) -> Result<String, Failure> {
    let (_, name) = configured(path, name)?;
    let order = Order {
        source: name.to_string(),
        number,
        reason: None,
    };
    let retried = send(path, RETRY_PATH, &order)?;
    let text = format!(
        "đã nhận {0} dòng, còn giữ lại {1} / accepted {0} rows, {1} are still parked\n",
        retried.accepted, retried.left
    );
    match retried.left {
        0 => Ok(text),
        _ => Err(Failure::Found(text)),
    }
}

/// `tramd sources drop NAME ID`: gives a parked row up.
pub fn drop_parked(path: &Path, name: &str, number: i64, reason: &str) -> Result<String, Failure> {
    let (_, name) = configured(path, name)?;
    if reason.trim().is_empty() {
        return Err(Failure::Usage(
            "--reason: ghi lý do bỏ dòng này / say why the row is given up".to_owned(),
        ));
    }
    let order = Order {
        source: name.to_string(),
        number: Some(number),
        reason: Some(reason.to_owned()),
    };
    let retried = send(path, DROP_PATH, &order)?;
    Ok(format!(
        "đã bỏ dòng {number}; đã nhận {0} dòng chờ sau nó, còn giữ lại {1} / dropped; accepted {0} rows behind it, {1} are still parked\n",
        retried.accepted, retried.left
    ))
}

/// `tramd sources rewind NAME --to MARK`: a database is read again from there.
pub fn rewind(path: &Path, name: &str, mark: &str) -> Result<String, Failure> {
    let (_, name) = configured(path, name)?;
    let order = Order {
        source: name.to_string(),
        number: None,
        reason: Some(mark.to_owned()),
    };
    send(path, REWIND_PATH, &order)?;
    Ok(format!(
        "nguồn {name} sẽ đọc lại từ sau {mark} / the source {name} is read again from after {mark}\n"
    ))
}

/// `tramd sources allow-deletes NAME`: the next sweep may find any number of rows gone.
pub fn allow_deletes(path: &Path, name: &str) -> Result<String, Failure> {
    let (_, name) = configured(path, name)?;
    let order = Order {
        source: name.to_string(),
        number: None,
        reason: None,
    };
    send(path, DELETES_PATH, &order)?;
    Ok(format!(
        "lượt đọc tới của nguồn {name} được xóa mọi dòng không còn trong bảng / the next reading of {name} may delete every row that is gone from the table\n"
    ))
}

/// The configuration, and the source of that name in it or once in it.
fn configured(path: &Path, name: &str) -> Result<(Config, SourceName), Failure> {
    let Loaded { config, .. } = load(path).map_err(Failure::Configuration)?;
    let name: SourceName = name
        .parse()
        .map_err(|error| Failure::Usage(format!("{error}")))?;
    Ok((config, name))
}

/// What the daemon is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    source: String,
    number: Option<i64>,
    reason: Option<String>,
}

/// Tells the daemon, or does it in this process.
fn send(path: &Path, place: &str, order: &Order) -> Result<Retried, Failure> {
    let Loaded {
        config, catalogue, ..
    } = load(path).map_err(Failure::Configuration)?;
    let query = format!(
        "{place}?source={}{}{}",
        order.source,
        order
            .number
            .map_or(String::new(), |number| format!("&number={number}")),
        order
            .reason
            .as_ref()
            .map_or(String::new(), |reason| format!(
                "&reason={}",
                escaped(reason)
            )),
    );
    let (status, body) = match talk::post(&config.store.path, &query, &[], b"") {
        Ok(reply) => {
            let reply = reply.context("the daemon broke off; look at the list again")?;
            (reply.status, reply.body)
        }
        Err(_) => {
            let request = Request::post(query)
                .body(Body::empty())
                .map_err(|error| Failure::Usage(error.to_string()))?;
            let (status, body) = Core::build(config, catalogue)?.serve_one(request)?;
            (status.as_u16(), body.to_vec())
        }
    };
    if status == 200 {
        let retried = serde_json::from_slice(&body).context("the answer is not readable")?;
        return Ok(retried);
    }
    let problem: serde_json::Value =
        serde_json::from_slice(&body).context("the answer is not JSON")?;
    let word = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    Err(Failure::Runtime(anyhow!(
        "{}\n    {}\n  {}\n    {}",
        word("detail"),
        word("hint"),
        word("detail_en"),
        word("hint_en")
    )))
}

/// Percent-encoding for a query (RFC 3986).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => write!(escaped, "%{byte:02X}").expect("a string takes any text"),
        }
    }
    escaped
}

// === In the daemon ===

pub async fn post_retry(
    State(app): State<Arc<App>>,
    local: Option<Extension<LocalPeer>>,
    order: Query<Order>,
) -> Response {
    let Some(source) = allowed(local.is_some(), &order) else {
        return Problem::not_found().into_response();
    };
    let which = order.number.map_or(Which::All, Which::Number);
    let retried = parked::retry(&app.door, &source, which).await;
    answer(said(&app, "retry_parked", &order, retried).await)
}

pub async fn post_drop(
    State(app): State<Arc<App>>,
    local: Option<Extension<LocalPeer>>,
    order: Query<Order>,
) -> Response {
    let (Some(source), Some(number)) = (allowed(local.is_some(), &order), order.number) else {
        return Problem::not_found().into_response();
    };
    let why = order.reason.as_deref().unwrap_or_default();
    let dropped = parked::drop_row(&app.door, &source, number, why).await;
    answer(said(&app, "drop_parked", &order, dropped).await)
}

pub async fn post_rewind(
    State(app): State<Arc<App>>,
    local: Option<Extension<LocalPeer>>,
    order: Query<Order>,
) -> Response {
    let Some(source) = allowed(local.is_some(), &order) else {
        return Problem::not_found().into_response();
    };
    let mark = order.reason.as_deref().unwrap_or_default();
    let rewound = sql::rewind(&app.door, source, mark).await;
    let rewound = rewound.map(|()| Retried::default());
    answer(said(&app, "rewind_source", &order, rewound).await)
}

pub async fn post_allow_deletes(
    State(app): State<Arc<App>>,
    local: Option<Extension<LocalPeer>>,
    order: Query<Order>,
) -> Response {
    let Some(source) = allowed(local.is_some(), &order) else {
        return Problem::not_found().into_response();
    };
    let allowed = sql::allow_deletes(&app.door, source).await;
    let allowed = allowed.map(|()| Retried::default());
    answer(said(&app, "allow_deletes", &order, allowed).await)
}

/// Only who came through the socket beside the store may do this.
fn allowed(is_local: bool, order: &Order) -> Option<SourceName> {
    is_local.then(|| order.source.parse().ok()).flatten()
}

/// Writes what was done into the audit; hands on how it went.
async fn said(
    app: &App,
    name: &'static str,
    order: &Order,
    done: Result<Retried, Fault>,
) -> Result<Retried, Fault> {
    let number = order
        .number
        .map_or(String::new(), |number| format!(" #{number}"));
    let why = order
        .reason
        .as_ref()
        .map_or(String::new(), |why| format!(": {why}"));
    let detail = format!("{}{number}{why}", order.source);
    let result = if done.is_ok() { "done" } else { "failed" };
    let now = app.door.now().wall;
    app.area
        .record(By::console(), name, result, detail, now)
        .await;
    done
}

fn answer(retried: Result<Retried, Fault>) -> Response {
    match retried {
        Ok(retried) => (StatusCode::OK, Json(retried)).into_response(),
        Err(fault) => Problem::new(
            StatusCode::CONFLICT,
            fault.code,
            ["Chưa làm được", "Not done"],
            [&fault.vi, &fault.en],
            [&fault.hint_vi, &fault.hint_en],
        )
        .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_travels_in_a_query() {
        assert_eq!(
            escaped("sai mã & trùng"),
            "sai%20m%C3%A3%20%26%20tr%C3%B9ng"
        );
    }
}
