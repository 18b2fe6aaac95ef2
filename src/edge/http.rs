//! The box's HTTP API on the office's network:
//!
//! - `POST /v1/records/{dataset}`: records (see `records`)
//! - `GET /v1/catalogue`: which catalogue holds, and its datasets
//! - `GET /v1/lookup/{dataset}`: others' data (see `lookup`); `/v1/inbox`, `/v1/sent`: documents
//!   between offices (see `inbox`)
//! - `PUT /v1/blobs/{sha256}`, `GET`: attachments (see `attachments`)
//! - `GET /v1/openapi.json`: the API's description of itself
//! - `GET /status.json`, `GET /metrics`, `GET /`: the status for programs, Prometheus and people;
//!   `GET /page.js` renews the page
//! - `POST /v1/local/parked/…`, `POST /v1/local/stick/…`: what commands ask of the daemon, by the socket
//!   beside the store only
//! - `/ky-thuat`: the technician's area (see `technician`)
//! - `GET /healthz`: the engine's loop lives; `GET /readyz`: and records would be taken now

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get, post, put};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::edge::config::Config;
use crate::edge::door::Door;
use crate::edge::inbox::Documents;
use crate::edge::lookup::Lookup;
use crate::edge::page::frame;
use crate::edge::page::lang::Lang;
use crate::edge::problem::Problem;
use crate::edge::status::Status;
use crate::edge::status::read::Reader;
use crate::edge::technician::{self, Area};
use crate::edge::tokens::Tokens;
use crate::edge::{attachments, inbox, lookup, metrics, page, records, sources, stick};

/// The API's description of itself.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");
/// A loop that gives no sign of life for so long is not healthy.
const LIFE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the handlers share.
pub struct App {
    pub door: Arc<Door>,
    pub tokens: Tokens,
    pub room: Arc<Semaphore>,
    pub body_bytes_max: usize,
    pub lookup: Lookup,
    pub documents: Arc<Documents>,
    pub attachments: attachments::Rules,
    pub area: Area,
    reader: Reader,
    turn: Mutex<()>,
}

impl App {
    pub fn new(
        config: &Arc<Config>,
        door: Arc<Door>,
        documents: Arc<Documents>,
        reader: Reader,
    ) -> App {
        let area = Area::new(config);
        let attachments = attachments::Rules::new(&config.store);
        let config = &config.http;
        App {
            area,
            attachments,
            lookup: Lookup::new(documents.store().to_owned()),
            documents,
            door,
            tokens: Tokens::new(&config.tokens),
            room: records::body::room(config.body_bytes_max),
            body_bytes_max: config.body_bytes_max,
            reader,
            turn: Mutex::default(),
        }
    }

    /// One read at a time: whoever asks too often waits for the others.
    pub(in crate::edge) async fn status(&self) -> Status {
        let _turn = self.turn.lock().await;
        let reader = self.reader.clone();
        let status = tokio::task::spawn_blocking(move || reader.read_by_source()).await;
        status.expect("reading the status does not panic")
    }
}

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/records/{dataset}", post(records::post))
        .route("/v1/catalogue", get(catalogue))
        .route("/v1/lookup/{dataset}", get(lookup::get))
        .route("/v1/inbox", get(inbox::list))
        .route("/v1/inbox/{number}", get(inbox::one))
        .route("/v1/inbox/{number}/original", get(inbox::original))
        .route(
            "/v1/inbox/{number}/attachments/{sha256}",
            get(inbox::attachment),
        )
        .route("/v1/inbox/{number}/done", post(inbox::done))
        .route("/v1/inbox/{number}/status", post(inbox::say))
        .route("/v1/sent/{id}", get(inbox::sent))
        .route("/v1/sent/{id}/status", post(inbox::say_sent))
        .route(
            "/v1/blobs/{sha256}",
            put(attachments::put).get(attachments::get),
        )
        .route("/v1/openapi.json", get(openapi))
        .route("/status.json", get(status_json))
        .route("/metrics", get(metrics_text))
        .route(sources::RETRY_PATH, post(sources::post_retry))
        .route(sources::DROP_PATH, post(sources::post_drop))
        .route(sources::REWIND_PATH, post(sources::post_rewind))
        .route(sources::DELETES_PATH, post(sources::post_allow_deletes))
        .route(stick::QUEUE_PATH, post(stick::post_queue))
        .route(stick::RECEIPT_PATH, post(stick::post_receipt))
        .route(stick::NOTE_PATH, post(stick::post_note))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/", get(page_html))
        .route(frame::SCRIPT_PATH, get(page_script))
        .route("/ky-thuat", any(technician::serve))
        .route("/ky-thuat/{*rest}", any(technician::serve))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(app)
}

async fn catalogue(State(app): State<Arc<App>>) -> Response<Body> {
    let catalogue = app.door.catalogue();
    let datasets: Vec<serde_json::Value> = catalogue
        .iter()
        .map(|dataset| {
            serde_json::json!({
                "id": dataset.id,
                "version": dataset.version,
                "code": dataset.code,
                "title_vi": dataset.title_vi,
                "title_en": dataset.title_en,
            })
        })
        .collect();
    let status = app.status().await.catalogue;
    let answer = serde_json::json!({
        "current": status.current,
        "next": status.next,
        "refused": status.refused,
        "datasets": datasets,
    });
    text("application/json", answer.to_string())
}

async fn openapi() -> Response<Body> {
    text("application/json", OPENAPI)
}

async fn status_json(State(app): State<Arc<App>>) -> Response<Body> {
    let status = serde_json::to_string(&app.status().await).expect("a status is plain JSON");
    text("application/json", status)
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response<Body> {
    text(metrics::CONTENT_TYPE, metrics::render(&app.status().await))
}

async fn page_html(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let lang = Lang::of_query(query.as_deref());
    let status = app.status().await;
    let reader = app.reader.clone();
    let html = tokio::task::spawn_blocking(move || {
        let history = reader.history(&status);
        page::render(&status, &history, lang)
    });
    let html = html.await.expect("writing a page does not panic");
    let mut response = text("text/html; charset=utf-8", html);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(frame::CSP),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

async fn page_script() -> Response<Body> {
    text("text/javascript; charset=utf-8", frame::SCRIPT)
}

async fn healthz(State(app): State<Arc<App>>) -> Response<Body> {
    match timeout(LIFE_TIMEOUT, app.door.intake().ping()).await {
        Ok(Ok(_)) => text("text/plain; charset=utf-8", "ok\n"),
        _ => no_life().into_response(),
    }
}

async fn readyz(State(app): State<Arc<App>>) -> Response<Body> {
    match timeout(LIFE_TIMEOUT, app.door.intake().ping()).await {
        Ok(Ok(pong)) if pong.is_ready => text("text/plain; charset=utf-8", "ok\n"),
        Ok(Ok(_)) => not_ready(&app.status().await).into_response(),
        _ => no_life().into_response(),
    }
}

fn no_life() -> Problem {
    let what = [
        "Vòng xử lý của trạm không trả lời.",
        "The box's engine does not answer.",
    ];
    let hint = [
        "systemd sẽ tự khởi động lại; nếu kéo dài, kiểm tra ổ đĩa.",
        "systemd restarts it by itself; if it lasts, check the disk.",
    ];
    Problem::unavailable("no-progress", what, hint, 10)
}

fn not_ready(status: &Status) -> Problem {
    match &status.store.trouble {
        Some(trouble) => Problem::unavailable(
            &trouble.code.replace('_', "-"),
            [&trouble.text_vi, &trouble.text_en],
            [&trouble.hint_vi, &trouble.hint_en],
            10,
        ),
        None => no_life(),
    }
}

fn text(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = (StatusCode::OK, body.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
