//! Kind `http_pull`: software that offers only a web service with JSON.
//!
//! What a round delivers is held against what earlier rounds delivered: each item has a key, and only
//! an item whose content is new goes in. So overlaps, repeated pages and a round that broke off give
//! no doubles, and an item that changes and changes back is told both times.
//!
//! `since` moves only behind a whole round. Numbered pages shift when items come or go between two
//! requests, and an item may fall through; so such a round is repeated until it brings nothing new.
//! A place that the service itself names (`paging = "cursor"`) moves with the rows of its page, in
//! one transaction.

pub mod answer;
mod client;
pub mod since;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::edge::config::http_pull::{HttpPullConfig, Paging};
use crate::edge::connectors::{Fault, Post};
use crate::edge::door::short_digest;
use crate::edge::http_pull::answer::Place;
use crate::edge::http_pull::client::{Client, Reply};
use crate::edge::http_pull::since::Mark;
use crate::edge::json_rows::{at, is_null, shape, text_of};
use crate::edge::rows::{Batch, Row, Rows};
use crate::edge::status::Progress;
use crate::model::record::Op;
use crate::store::rows::{Beside, Seen, SeenChange, Short};

/// Times that a round of numbered pages is gone through.
const PASSES_MAX: u32 = 3;
/// Pages of one round; more is a service that goes in circles.
const PAGES_MAX: u64 = 100_000;
/// Rows of one transaction.
const BATCH_ROWS: usize = 500;

/// Where the source stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    /// The latest change that a whole round delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// The place that the service named.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Of the first page of the last whole round, and what was asked for then.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<(String, Option<String>)>,
    /// A whole round was made: what comes now is no initial load.
    is_loaded: bool,
}

/// Asks again and again until it is told to stop; a fault is why it cannot.
pub async fn pull(config: HttpPullConfig, rows: Rows, post: Post) -> Result<(), Fault> {
    post.warn(clear_text(&config).as_ref()).await;
    let cursor = rows.cursor().await?;
    let cursor = cursor.and_then(|text| serde_json::from_str(&text).ok());
    let making = config.clone();
    let client = blocking(move || Client::new(&making)).await?;
    let mut puller = Puller {
        client: Arc::new(client),
        config,
        rows,
        post: post.clone(),
        cursor: cursor.unwrap_or_default(),
    };
    loop {
        post.working();
        let mut pause = Duration::from_millis(puller.config.poll_ms);
        match puller.round().await? {
            Round::Done => post.waiting().await,
            Round::Busy(asked, fault) => {
                post.failed(&fault).await;
                pause = asked;
            }
            Round::Stopped => return Ok(()),
        }
        if !post.pause(pause).await {
            return Ok(());
        }
    }
}

/// The rows of the first page, for a look that keeps nothing.
pub async fn sample(config: &HttpPullConfig, rows_max: usize) -> Result<Vec<Row>, Fault> {
    let making = config.clone();
    let client = blocking(move || Client::new(&making)).await?;
    let since = config.since.as_ref();
    let since = since.map(|since| (since.param.clone(), since.start.clone()));
    let reply = blocking(move || client.get(&Place::First, since.as_ref(), None)).await?;
    let (bytes, link) = match reply {
        Reply::Body { bytes, link, .. } => (bytes, link),
        Reply::Busy(_, fault) => return Err(fault),
        Reply::NotModified => return Ok(Vec::new()),
    };
    let body: Box<RawValue> = serde_json::from_slice(&bytes).map_err(|_| no_json(&bytes))?;
    let page = answer::read(config, &body, link.as_deref(), 0, 0)?;
    let items = page.items.into_iter().take(rows_max);
    items
        .map(|item| Ok(read(config, item, Op::Upsert)?.row))
        .collect()
}

/// How a round ended.
enum Round {
    Done,
    Busy(Duration, Fault),
    Stopped,
}

/// What a pass through all pages found.
struct Pass {
    pages: u64,
    /// Items that were new or changed.
    fresh: u64,
    newest: Option<Mark>,
    etag: Option<String>,
}

struct Puller {
    client: Arc<Client>,
    config: HttpPullConfig,
    rows: Rows,
    post: Post,
    cursor: Cursor,
}

impl Puller {
    async fn round(&mut self) -> Result<Round, Fault> {
        let asked = self.asked();
        let may_shift = self.config.since.is_some()
            && matches!(
                self.config.paging,
                Paging::Page { .. } | Paging::Offset { .. }
            );
        let mut newest: Option<Mark> = None;
        for _ in 0..PASSES_MAX {
            let pass = match self.pass(asked.as_ref()).await? {
                Ok(Some(pass)) => pass,
                // Nothing changed, as the service itself says.
                Ok(None) => return Ok(Round::Done),
                Err(ended) => return Ok(ended),
            };
            if let Some(mark) = &pass.newest
                && newest
                    .as_ref()
                    .is_none_or(|newest| mark.is_later_than(newest))
            {
                newest = Some(mark.clone());
            }
            // An empty page ends every round of pages, so two of them are one with items.
            if !may_shift || pass.pages <= 2 || pass.fresh == 0 {
                self.finish(asked, newest, pass.etag).await?;
                return Ok(Round::Done);
            }
        }
        // It never came to rest; the next round begins where this one did.
        tracing::debug!(source = %self.post.source(), "pages shift without end; since is left where it was");
        Ok(Round::Done)
    }

    /// The parameter that asks for what is new.
    fn asked(&self) -> Option<(String, String)> {
        let since = self.config.since.as_ref()?;
        let mark = self.cursor.since.as_deref().and_then(Mark::parse);
        let value = mark.map_or_else(|| since.start.clone(), |mark| mark.asked(since.overlap_ms));
        Some((since.param.clone(), value))
    }

    /// Goes through all pages once. `None` when the service says that nothing changed.
    async fn pass(
        &mut self,
        asked: Option<&(String, String)>,
    ) -> Result<Result<Option<Pass>, Round>, Fault> {
        let mut place = match (&self.config.paging, &self.cursor.place) {
            (Paging::Cursor { param, .. }, Some(at)) => Place::With(param.clone(), at.clone()),
            (Paging::Page { param, first }, _) => Place::With(param.clone(), first.to_string()),
            _ => Place::First,
        };
        let mut pass = Pass {
            pages: 0,
            fresh: 0,
            newest: None,
            etag: None,
        };
        let (mut sum, mut before) = (0, None);
        loop {
            if self.post.is_stopping() {
                return Ok(Err(Round::Stopped));
            }
            let is_first = pass.pages == 0;
            let etag = self.cursor.etag.as_ref();
            let etag =
                etag.filter(|(_, of)| is_first && of.as_ref() == asked.map(|(_, value)| value));
            let (client, to, since) = (Arc::clone(&self.client), place.clone(), asked.cloned());
            let etag = etag.map(|(etag, _)| etag.clone());
            let reply = blocking(move || client.get(&to, since.as_ref(), etag.as_deref())).await?;
            let (bytes, etag, link) = match reply {
                Reply::Body { bytes, etag, link } => (bytes, etag, link),
                Reply::NotModified => return Ok(Ok(None)),
                Reply::Busy(pause, fault) => return Ok(Err(Round::Busy(pause, fault))),
            };
            if is_first {
                pass.etag = etag;
            }
            let body: Box<RawValue> =
                serde_json::from_slice(&bytes).map_err(|_| no_json(&bytes))?;
            let page = answer::read(&self.config, &body, link.as_deref(), sum, pass.pages)?;
            // A service that has no empty page gives its last one for ever.
            let digest = short_digest(&[body.get()]);
            let is_same = before.replace(digest) == Some(digest);
            pass.pages += 1;
            sum += page.items.len() as u64;
            if !is_same {
                self.take(&page.items, page.cursor, &mut pass).await?;
            }
            self.post.progress(Some(Progress {
                rows: sum,
                of: None,
            }));
            let is_circle = page.next.as_ref() == Some(&place) || PAGES_MAX <= pass.pages;
            match page.next {
                Some(_) if is_circle => return Err(goes_in_circles()),
                Some(next) if !is_same => place = next,
                _ => break,
            }
        }
        self.post.progress(None);
        Ok(Ok(Some(pass)))
    }

    /// Takes what is new of one page; the service's own place moves with the last of it.
    async fn take(
        &mut self,
        items: &[&RawValue],
        place: Option<String>,
        pass: &mut Pass,
    ) -> Result<(), Fault> {
        let op = match self.cursor.is_loaded {
            true => Op::Upsert,
            false => Op::Snapshot,
        };
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            found.push(read(&self.config, item, op)?);
        }
        let mut after = self.cursor.clone();
        if place.is_some() {
            after.place = place;
        }
        let has_moved = after != self.cursor;
        let chunks: Vec<&[Found]> = found.chunks(BATCH_ROWS).collect();
        for (number, chunk) in chunks.iter().enumerate() {
            let keys: BTreeSet<Short> = chunk.iter().map(|found| found.seen.key).collect();
            let known = self
                .rows
                .look(move |view, source| view.seen(source.as_str(), keys.into_iter()))
                .await?;
            let mut hashes: BTreeMap<Short, Short> = known
                .into_iter()
                .map(|(key, (_, hash))| (key, hash))
                .collect();
            let mut batch = Batch::default();
            for found in *chunk {
                if let Some(mark) = &found.mark
                    && pass
                        .newest
                        .as_ref()
                        .is_none_or(|newest| mark.is_later_than(newest))
                {
                    pass.newest = Some(mark.clone());
                }
                if hashes.insert(found.seen.key, found.seen.hash) != Some(found.seen.hash) {
                    batch.rows.push(found.row.clone());
                    batch.beside.seen.push(SeenChange::Put(found.seen.clone()));
                }
            }
            pass.fresh += batch.rows.len() as u64;
            let is_last = number + 1 == chunks.len();
            if is_last && has_moved {
                batch.cursor = Some(text(&after));
            }
            if !batch.rows.is_empty() || batch.cursor.is_some() {
                self.rows.hand_in(batch).await?;
            }
        }
        if chunks.is_empty() && has_moved {
            self.save(&after, Beside::default()).await?;
        }
        self.cursor = after;
        Ok(())
    }

    /// A whole round is behind us.
    async fn finish(
        &mut self,
        asked: Option<(String, String)>,
        newest: Option<Mark>,
        etag: Option<String>,
    ) -> Result<(), Fault> {
        let mut after = self.cursor.clone();
        after.is_loaded = true;
        let before = after.since.as_deref().and_then(Mark::parse);
        let newest = newest.filter(|newest| {
            before
                .as_ref()
                .is_none_or(|before| newest.is_later_than(before))
        });
        let mut beside = Beside::default();
        if let (Some(newest), Some(since)) = (newest, &self.config.since) {
            beside.forget_below = Some(newest.floor(since.overlap_ms));
            after.since = Some(newest.text().to_owned());
        }
        after.etag = etag.map(|etag| (etag, asked.map(|(_, value)| value)));
        if after != self.cursor {
            self.save(&after, beside).await?;
            self.cursor = after;
        }
        Ok(())
    }

    async fn save(&self, cursor: &Cursor, beside: Beside) -> Result<(), Fault> {
        let batch = Batch {
            rows: Vec::new(),
            cursor: Some(text(cursor)),
            round: None,
            beside,
        };
        self.rows.hand_in(batch).await.map(|_| ())
    }
}

/// One item as a row, and how it will be known again.
fn read(config: &HttpPullConfig, item: &RawValue, op: Op) -> Result<Found, Fault> {
    let part = |place: &String| {
        at(item, place)
            .filter(|part| !is_null(part))
            .and_then(text_of)
    };
    let key: Option<Vec<String>> = config.key.iter().map(part).collect();
    let mark = match &config.since {
        None => None,
        Some(since) => {
            let text = at(item, &since.place).and_then(text_of);
            let mark = text.as_deref().and_then(Mark::parse);
            Some(mark.ok_or_else(|| no_mark(&since.place))?)
        }
    };
    let shaped = shape(item, &config.fields, &BTreeMap::new());
    let (Some(key), Some(data)) = (key, shaped) else {
        return Err(no_key(config));
    };
    let key: Vec<&str> = std::iter::once("item")
        .chain(key.iter().map(String::as_str))
        .collect();
    let seen = Seen {
        key: short_digest(&key),
        hash: short_digest(&[data.get()]),
        mark: mark.as_ref().map_or(0, Mark::number),
        fields: Vec::new(),
    };
    let row = Row::new(data, op);
    Ok(Found { row, seen, mark })
}

/// An item that was read.
struct Found {
    row: Row,
    seen: Seen,
    mark: Option<Mark>,
}

fn text(cursor: &Cursor) -> String {
    serde_json::to_string(cursor).expect("texts are JSON")
}

/// Runs what may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("asking neither panics nor is cancelled")
}

/// A service that is asked over the network without encryption.
fn clear_text(config: &HttpPullConfig) -> Option<Fault> {
    let host = config.url.strip_prefix("http://")?;
    let is_here = ["127.", "localhost", "[::1]"]
        .iter()
        .any(|here| host.starts_with(here));
    let fault = || {
        Fault::new(
            "plain_http",
            [
                "dịch vụ web được hỏi qua HTTP không mã hóa: mã truy cập và dữ liệu đi trần trên mạng",
                "the web service is asked over plain HTTP: token and data travel in the clear",
            ],
            [
                "Bật HTTPS ở phần mềm đó rồi sửa url.",
                "Switch HTTPS on in that program, then change url.",
            ],
        )
    };
    (!is_here).then(fault)
}

fn no_json(bytes: &[u8]) -> Fault {
    let is_page = bytes.trim_ascii_start().starts_with(b"<");
    if is_page {
        return Fault::new(
            "http_portal",
            [
                "dịch vụ trả về một trang web thay cho JSON (có thể là trang đăng nhập của mạng hoặc của phần mềm); con trỏ giữ nguyên",
                "a web page came in place of JSON (perhaps a login page of the network or the program); the cursor stands still",
            ],
            [
                "Mở url bằng trình duyệt trên máy này: đăng nhập mạng nếu được hỏi, kiểm tra url và mã truy cập.",
                "Open url in a browser on this machine: log in to the network if it asks, check url and the token.",
            ],
        );
    }
    Fault::new(
        "http_shape",
        [
            "câu trả lời của dịch vụ không phải là JSON; con trỏ giữ nguyên",
            "the service's answer is not JSON; the cursor stands still",
        ],
        [
            "Kiểm tra url; dịch vụ phải trả lời application/json bằng UTF-8.",
            "Check url; the service must answer application/json in UTF-8.",
        ],
    )
}

fn no_key(config: &HttpPullConfig) -> Fault {
    let key = config.key.join(", ");
    Fault::new(
        "http_shape",
        [
            format!("có mục không phải là đối tượng JSON với khóa {key}; con trỏ giữ nguyên"),
            format!("an item is no JSON object with the key {key}; the cursor stands still"),
        ],
        [
            "Dịch vụ có thể đã đổi cách trả lời: so lại với tài liệu của nó, rồi sửa items và key.",
            "The service may have changed its answers: compare with its documentation, then correct items and key.",
        ],
    )
}

fn no_mark(place: &str) -> Fault {
    Fault::new(
        "http_shape",
        [
            format!("có mục không có số hoặc thời gian ở {place}; con trỏ giữ nguyên"),
            format!("an item has no number or time at {place}; the cursor stands still"),
        ],
        [
            "Sửa since_from cho đúng trường thời gian thay đổi, dạng ISO 8601 hoặc số nguyên.",
            "Set since_from to the field that tells the change, in ISO 8601 or an integer.",
        ],
    )
}

fn goes_in_circles() -> Fault {
    Fault::new(
        "http_next",
        [
            "dịch vụ chỉ lại chính trang vừa đọc hoặc có quá nhiều trang",
            "the service names the page that was just read, or has too many pages",
        ],
        [
            "Kiểm tra paging và next so với tài liệu của dịch vụ.",
            "Check paging and next against the service's documentation.",
        ],
    )
}
