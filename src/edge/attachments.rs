//! `PUT /v1/blobs/{sha256}`: an attachment, streamed to the disk while it is hashed, and there before
//! a record names it. `GET` says whether it is there and how far it is on its way.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::edge::blobs::{BlobError, Blobs, Incoming};
use crate::edge::config::StoreConfig;
use crate::edge::http::App;
use crate::edge::listen::LocalPeer;
use crate::edge::problem::Problem;
use crate::edge::records;
use crate::edge::reserve::disk_free_bytes;
use crate::model::chunk::{Digest, pieces};
use crate::model::limits::CHUNK_BYTES_MAX;
use crate::store::blobs::{BlobRow, BlobState};
use crate::store::edge_status::EdgeView;

/// Attachments that are taken in at the same time.
const INCOMING_MAX: usize = 3;
/// The next piece of a body must come within this.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// So much of a body is collected before it is written.
const PIECE_BYTES: usize = 256 * 1024;
/// The disk keeps so much for the store.
const DISK_FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// Of a refused body, so much is read, and for so long.
const PASSED_OVER_BYTES_MAX: usize = 64 << 20;
const PASSED_OVER_TIME_MAX: Duration = Duration::from_secs(10);
/// How often room is asked for before the sender is sent away, and the pause between.
const ROOM_TRIES: u32 = 10;
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// What is taken in, and how much at once.
pub struct Rules {
    /// Largest attachment, bytes.
    one_bytes_max: u64,
    /// Media types that are taken; none: every type.
    types: Vec<String>,
    turns: Semaphore,
}

impl Rules {
    pub fn new(config: &StoreConfig) -> Rules {
        Rules {
            one_bytes_max: config.blob_bytes_max,
            types: config.blob_types.clone(),
            turns: Semaphore::new(INCOMING_MAX),
        }
    }

    /// The declared type must be one that is taken, and the content must begin as that type does.
    fn refuses(&self, declared: &str, start: &[u8]) -> bool {
        if self.types.is_empty() {
            return false;
        }
        let takes = |kind: &str| self.types.iter().any(|known| matches_type(known, kind));
        match sniff(start) {
            Some(found) => !found.contains(&declared) || !takes(declared),
            None => !takes(declared),
        }
    }
}

/// `image/*` stands for all images.
fn matches_type(known: &str, kind: &str) -> bool {
    match known.strip_suffix("/*") {
        Some(family) => kind
            .split_once('/')
            .is_some_and(|(start, _)| start == family),
        None => known == kind,
    }
}

/// The media types that a content may have that begins like this, where that is certain.
fn sniff(start: &[u8]) -> Option<&'static [&'static str]> {
    const ZIPPED: [&str; 9] = [
        "application/zip",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
        "application/vnd.etsi.asic-e+zip",
        "application/x-zip-compressed",
    ];
    const OLE: [&str; 4] = [
        "application/msword",
        "application/vnd.ms-excel",
        "application/vnd.ms-powerpoint",
        "application/x-ole-storage",
    ];
    let known: [(&[u8], &'static [&'static str]); 11] = [
        (b"%PDF-", &["application/pdf"]),
        (b"\x89PNG\r\n\x1a\n", &["image/png"]),
        (b"\xff\xd8\xff", &["image/jpeg"]),
        (b"GIF8", &["image/gif"]),
        (b"II*\0", &["image/tiff"]),
        (b"MM\0*", &["image/tiff"]),
        (b"PK\x03\x04", &ZIPPED),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", &OLE),
        (b"MZ", &["application/vnd.microsoft.portable-executable"]),
        (b"\x7fELF", &["application/x-executable"]),
        (b"{\\rtf", &["application/rtf", "text/rtf"]),
    ];
    let found = known
        .into_iter()
        .find(|(magic, _)| start.starts_with(magic));
    found.map(|(_, kinds)| kinds)
}

/// What the box knows of an attachment.
#[derive(Debug, Serialize)]
struct State_ {
    sha256: Digest,
    bytes: u64,
    /// `stored` (no record names it yet), `waiting`, `sending`, `sent`, `damaged`.
    state: &'static str,
    chunks: u64,
    /// Those that the hub has given its receipt for.
    sent_chunks: u64,
}

pub async fn put(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut reader = Reader {
        body,
        rules: &app.attachments,
        kind: media_type(&headers),
        is_first: true,
    };
    match take(&app, &name, local.is_some(), &headers, &mut reader).await {
        Ok(response) => response,
        Err(problem) => {
            reader.pass_over().await;
            problem.into_response()
        }
    }
}

pub async fn get(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    local: Option<Extension<LocalPeer>>,
    headers: HeaderMap,
) -> Response {
    if local.is_none() && records::caller(&app, &headers).is_none() {
        return Problem::unauthorized().into_response();
    }
    let Ok(digest) = name.parse::<Digest>() else {
        return no_digest().into_response();
    };
    let found = tokio::task::spawn_blocking(move || look_up(&app, digest)).await;
    match found.expect("looking up does not panic") {
        Some(state) => Json(state).into_response(),
        None => not_here().into_response(),
    }
}

fn look_up(app: &App, digest: Digest) -> Option<State_> {
    let view = EdgeView::open(app.door.store()).ok();
    let row = view.and_then(|view| view.blob(digest).ok().flatten());
    match (row, app.door.blobs().length(digest)) {
        (Some(row), _) => Some(of_row(&row)),
        (None, Some(bytes)) => Some(State_ {
            sha256: digest,
            bytes,
            state: "stored",
            chunks: pieces(bytes),
            sent_chunks: 0,
        }),
        (None, None) => None,
    }
}

fn of_row(row: &BlobRow) -> State_ {
    let (state, sent) = match (row.gone, row.state) {
        (Some(_), _) => ("damaged", received_pieces(row)),
        (None, BlobState::Received) => ("sent", pieces(row.bytes)),
        (None, _) if 0 < row.received => ("sending", received_pieces(row)),
        (None, _) => ("waiting", 0),
    };
    State_ {
        sha256: row.digest,
        bytes: row.bytes,
        state,
        chunks: pieces(row.bytes),
        sent_chunks: sent,
    }
}

/// How many chunks of an attachment have their receipt.
pub fn received_pieces(row: &BlobRow) -> u64 {
    row.received.div_ceil(CHUNK_BYTES_MAX as u64)
}

async fn take(
    app: &Arc<App>,
    name: &str,
    is_local: bool,
    headers: &HeaderMap,
    reader: &mut Reader<'_>,
) -> Result<Response, Problem> {
    if !is_local && records::caller(app, headers).is_none() {
        return Err(Problem::unauthorized());
    }
    let digest: Digest = name.parse().map_err(|_| no_digest())?;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = length.ok_or_else(no_length)?;
    let rules = reader.rules;
    if rules.one_bytes_max.min(app.door.blobs().bytes_max()) < length {
        return Err(too_large(rules.one_bytes_max));
    }
    let _turn = rules.turns.try_acquire().map_err(|_| busy())?;
    let blobs = Arc::clone(app.door.blobs());
    let is_here = {
        let blobs = Arc::clone(&blobs);
        blocking(move || Ok(blobs.is_here(digest, length)?)).await
    };
    if is_here.map_err(of_blob)? {
        // It is here; the body is read so that the sender hears the answer.
        while reader.next().await?.is_some() {}
        return Ok(answer(StatusCode::OK, digest, length));
    }
    let mut incoming = begin(app, &blobs, length).await?;
    while let Some(piece) = reader.next().await? {
        incoming = blocking(move || {
            for part in piece {
                incoming.write(&part)?;
            }
            Ok(incoming)
        })
        .await
        .map_err(of_blob)?;
    }
    if incoming.written() != length {
        return Err(cut_off());
    }
    let is_new = blocking(move || incoming.finish(digest)).await;
    if 0 < blobs.take_unscanned() {
        let text = format!("{digest}: trình quét không trả lời, tệp vẫn được nhận");
        let level = crate::engine::sending::Level::Warning;
        app.door
            .intake()
            .note(level, "attachment_unscanned", text)
            .await;
    }
    let status = match is_new.map_err(of_blob)? {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(answer(status, digest, length))
}

/// Holds room, for which what the hub has is given up where it must be.
async fn begin(app: &App, blobs: &Arc<Blobs>, length: u64) -> Result<Incoming, Problem> {
    let free = disk_free_bytes(app.door.store()).unwrap_or(u64::MAX);
    if free < length.saturating_add(DISK_FREE_BYTES_MIN) {
        return Err(full());
    }
    for _ in 0..ROOM_TRIES {
        let begun = {
            let blobs = Arc::clone(blobs);
            blocking(move || blobs.begin(length)).await
        };
        match begun {
            Err(BlobError::Full { .. }) => {
                app.door.intake().make_room().await;
                tokio::time::sleep(ROOM_PAUSE).await;
            }
            begun => return begun.map_err(of_blob),
        }
    }
    Err(full())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("writing does not panic")
}

/// A body in pieces that are worth a write.
struct Reader<'a> {
    body: Body,
    rules: &'a Rules,
    kind: String,
    is_first: bool,
}

/// The declared media type, without its parameters.
fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or("application/octet-stream").split(';').next();
    kind.unwrap_or_default().trim().to_ascii_lowercase()
}

impl Reader<'_> {
    /// Reads some of what is refused, because many a sender hears no answer before it has sent all.
    async fn pass_over(&mut self) {
        let read = async {
            let mut bytes = 0;
            while bytes < PASSED_OVER_BYTES_MAX {
                let body = &mut self.body;
                let next = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
                let Some(Ok(frame)) = next.await else { return };
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // Whoever is slower than that does not hear why.
        let _ = timeout(PASSED_OVER_TIME_MAX, read).await;
    }

    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Problem> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            let body = &mut self.body;
            let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            let frame = timeout(PIECE_TIMEOUT, frame).await;
            let Some(frame) = frame.map_err(|_| records::refusal::body_too_slow())? else {
                break;
            };
            let Ok(data) = frame.map_err(|_| cut_off())?.into_data() else {
                continue;
            };
            if std::mem::take(&mut self.is_first) && self.rules.refuses(&self.kind, &data) {
                return Err(wrong_type(&self.kind));
            }
            bytes += data.len();
            piece.push(data);
        }
        Ok((!piece.is_empty()).then_some(piece))
    }
}

fn answer(status: StatusCode, digest: Digest, bytes: u64) -> Response {
    let state = State_ {
        sha256: digest,
        bytes,
        state: "stored",
        chunks: pieces(bytes),
        sent_chunks: 0,
    };
    (status, Json(state)).into_response()
}

fn of_blob(error: BlobError) -> Problem {
    match error {
        BlobError::Full { .. } => full(),
        BlobError::OtherDigest { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "other-digest",
            ["Nội dung khác mã băm", "The content has another digest"],
            [
                "SHA-256 của nội dung nhận được khác với mã trong đường dẫn. Tệp không được lưu.",
                "The SHA-256 of what has come differs from that in the path. Nothing was kept.",
            ],
            [
                "Tính lại SHA-256 trên đúng các byte gửi đi, rồi gửi lại.",
                "Compute the SHA-256 over the very bytes that you send, then send it again.",
            ],
        ),
        BlobError::Infected { .. } => {
            tracing::warn!("the scanner has found something in an attachment");
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "infected",
                ["Tệp bị trình quét từ chối", "The scanner refuses the file"],
                [
                    "Trình quét mã độc phát hiện mối nguy trong tệp. Tệp không được lưu.",
                    "The scanner has found malware in the file. Nothing was kept.",
                ],
                [
                    "Kiểm tra máy đã tạo tệp; gửi bản sạch.",
                    "Check the machine that made the file; send a clean one.",
                ],
            )
        }
        BlobError::NotScanned(error) => {
            tracing::warn!(%error, "the scanner does not answer; attachments are refused");
            Problem::unavailable(
                "scanner-down",
                [
                    "Trình quét mã độc không trả lời. Tệp không được lưu.",
                    "The scanner does not answer. Nothing was kept.",
                ],
                [
                    "Gửi lại sau; báo người quản trị trạm kiểm tra trình quét.",
                    "Send it again later; the box's administrator should look at the scanner.",
                ],
                30,
            )
        }
        BlobError::Io(error) => {
            tracing::warn!(%error, "an attachment cannot be written");
            full()
        }
    }
}

fn full() -> Problem {
    Problem::unavailable(
        "attachments-full",
        [
            "Trạm hết chỗ cho tệp đính kèm. Tệp không được lưu.",
            "The box has no room for attachments. Nothing was kept.",
        ],
        [
            "Gửi lại sau khi các tệp đang chờ đã về trục; hoặc tăng store.attachments.",
            "Send it again when what waits has reached the hub, or raise store.attachments.",
        ],
        60,
    )
}

fn busy() -> Problem {
    Problem::unavailable(
        "busy",
        [
            "Trạm đang nhận nhiều tệp cùng lúc. Tệp không được lưu.",
            "The box is taking in several files at once. Nothing was kept.",
        ],
        ["Gửi lại sau ít giây.", "Send it again in a few seconds."],
        5,
    )
}

fn too_large(bytes_max: u64) -> Problem {
    let mib = bytes_max / (1024 * 1024);
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "attachment-too-large",
        ["Tệp quá lớn", "The file is too large"],
        [
            &format!("Một tệp đính kèm tối đa {mib} MiB."),
            &format!("An attachment has at most {mib} MiB."),
        ],
        [
            "Giảm dung lượng tệp, hoặc tăng store.attachment_max.",
            "Make the file smaller, or raise store.attachment_max.",
        ],
    )
}

fn wrong_type(kind: &str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "attachment-type",
        ["Loại tệp không được nhận", "This type of file is not taken"],
        [
            &format!("Trạm không nhận tệp loại {kind}, hoặc nội dung không đúng loại đã khai."),
            &format!("The box does not take {kind}, or the content is of another type."),
        ],
        [
            "Khai đúng Content-Type; loại được nhận nằm ở store.attachment_types.",
            "Give the right Content-Type; what is taken stands in store.attachment_types.",
        ],
    )
}

fn no_digest() -> Problem {
    records::refusal::bad_request(
        [
            "Đường dẫn phải kết thúc bằng SHA-256: 64 chữ số thập lục phân viết thường.",
            "The path must end with a SHA-256: 64 small hexadecimal digits.",
        ],
        [
            "Dùng PUT /v1/blobs/<sha256 của nội dung>.",
            "Use PUT /v1/blobs/<sha256 of the content>.",
        ],
    )
}

fn no_length() -> Problem {
    Problem::new(
        StatusCode::LENGTH_REQUIRED,
        "length-required",
        ["Thiếu Content-Length", "Content-Length is missing"],
        [
            "Trạm cần biết trước dung lượng để giữ chỗ.",
            "The box holds room and must know the length before.",
        ],
        [
            "Gửi tiêu đề Content-Length.",
            "Send the header Content-Length.",
        ],
    )
}

fn cut_off() -> Problem {
    records::refusal::bad_request(
        ["Tệp bị cắt giữa đường.", "The file was cut off on its way."],
        ["Gửi lại.", "Send it again."],
    )
}

fn not_here() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-attachment",
        ["Không có tệp này", "There is no such attachment"],
        [
            "Trạm không có tệp với mã này, hoặc đã xóa sau khi trục nhận đủ.",
            "The box has no file of this digest, or has removed it after the hub's receipts.",
        ],
        [
            "Gửi bằng PUT /v1/blobs/{sha256} trước khi gửi bản ghi nêu tên tệp.",
            "PUT /v1/blobs/{sha256} before the record that names it.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(types: &[&str]) -> Rules {
        Rules {
            one_bytes_max: 1,
            types: types.iter().map(|&kind| kind.to_owned()).collect(),
            turns: Semaphore::new(1),
        }
    }

    #[test]
    fn a_type_is_taken_that_is_listed_and_true() {
        let some = rules(&["application/pdf", "image/*"]);
        assert!(!some.refuses("application/pdf", b"%PDF-1.7"));
        assert!(!some.refuses("image/png", b"\x89PNG\r\n\x1a\n"));
        assert!(some.refuses("application/pdf", b"MZ\x90"), "a program");
        assert!(some.refuses("image/png", b"\xff\xd8\xff\xe0"), "a JPEG");
        assert!(some.refuses("text/plain", b"chao"));
        assert!(!rules(&[]).refuses("text/plain", b"MZ"), "no list");
    }
}
