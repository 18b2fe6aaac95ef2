//! The catalogue that the hub has published, at the box: judged when it has come, changed at its
//! midnight, and never given up for one that does not work here.
//!
//! What holds is decided by the store alone, so it survives restarts and needs no link: of the
//! catalogues that have begun, or whose day has come by the trusted time, the one of the highest
//! version. One that has begun is written down as such, so that a clock that is set back takes
//! nothing back.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::catalogue::Catalogue;
use crate::catalogue::bundle::{Bundle, CONTENT_BYTES_MAX};
use crate::edge::config::Config;
use crate::edge::config::load::misfits;
use crate::edge::status::Stamp;
use crate::evidence::{CatalogueClaim, PublicKey, sha256};
use crate::model::UnixMs;
use crate::model::down::CatalogueNews;
use crate::store::StoreError;
use crate::store::down::DownStore;
use crate::store::orders::{CatalogueRow, CatalogueState, OrdersView, Said, by_preference};

/// Faults that a refusal tells.
const FAULTS_TOLD: usize = 3;

/// The published catalogue that holds at `now`, from the store of what the hub sends, when there is one that can be read. What was
/// published last and does not load is passed over for the last good one.
pub fn holding(down: &Path, now: UnixMs) -> Option<(Catalogue, CatalogueNews)> {
    if !down.exists() {
        return None;
    }
    let view = OrdersView::open(down).ok()?;
    let rows = view.catalogues().ok()?;
    by_preference(&rows, now).into_iter().find_map(|row| {
        let content = view.content(row.number).ok()??;
        let catalogue = Bundle::from_content(&content).ok()?.catalogue().ok()?;
        Some((catalogue, row.news.clone()))
    })
}

/// As what the catalogue that holds is known, and what is coming.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueStatus {
    /// None: the installed folder's, nothing was published yet.
    pub current: Option<Edition>,
    pub next: Option<Edition>,
    /// The last one that this box could not take, and why.
    pub refused: Option<RefusedEdition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edition {
    pub version: u32,
    /// `yyyy-MM-dd`; it holds from that midnight on, Vietnam time.
    pub effective: String,
    /// When the box took it over, or heard of it.
    pub since: Stamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedEdition {
    pub version: u32,
    pub reason: String,
    pub since: Stamp,
}

impl CatalogueStatus {
    pub fn read(down: &Path) -> CatalogueStatus {
        if !down.exists() {
            return CatalogueStatus::default();
        }
        let rows = OrdersView::open(down).and_then(|view| view.catalogues());
        CatalogueStatus::of(&rows.unwrap_or_default())
    }

    fn of(rows: &[CatalogueRow]) -> CatalogueStatus {
        let edition = |state: CatalogueState| {
            let rows = rows.iter().filter(|row| row.state == state);
            let row = rows.max_by_key(|row| (row.news.version, row.number))?;
            Some(Edition {
                version: row.news.version,
                effective: row.news.effective.clone(),
                since: Stamp(row.since),
            })
        };
        let current = edition(CatalogueState::Current);
        let passed = current.as_ref().map_or(0, |current| current.version);
        // What was refused is of interest until a later one has taken its place.
        let refused = rows
            .iter()
            .filter(|row| row.state == CatalogueState::Refused && passed <= row.news.version)
            .max_by_key(|row| (row.news.version, row.number));
        CatalogueStatus {
            next: edition(CatalogueState::Next),
            refused: refused.map(|row| RefusedEdition {
                version: row.news.version,
                reason: row.reason.clone(),
                since: Stamp(row.since),
            }),
            current,
        }
    }
}

/// Holds what has come against the hub's keys and this box's configuration.
pub struct Judge<'a> {
    pub config: &'a Config,
    pub hub_keys: &'a [PublicKey],
}

impl Judge<'_> {
    /// The catalogue, or why this box cannot use it; Vietnamese.
    fn judge(&self, news: &CatalogueNews, content: &[u8]) -> Result<Catalogue, String> {
        self.authentic(news, content)?;
        self.usable(content)
    }

    /// Whether the hub has signed these bytes for that version and day.
    fn authentic(&self, news: &CatalogueNews, content: &[u8]) -> Result<(), String> {
        let digest: String = sha256(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if digest != news.sha256 || content.len() as u64 != news.bytes {
            return Err(
                "nội dung không khớp mã băm / the content does not match its digest".to_owned(),
            );
        }
        let claim = CatalogueClaim {
            version: news.version,
            effective: &news.effective,
            bytes: news.bytes,
            sha256: &news.sha256,
            by: &news.by,
        };
        let signature = BASE64.decode(&news.signature).ok();
        let signature = signature.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        let is_signed = signature.is_some_and(|signature| {
            let mut keys = self.hub_keys.iter();
            keys.any(|key| key.verify(&claim, &signature).is_ok())
        });
        match is_signed {
            true => Ok(()),
            false => Err("chữ ký không phải của trục / the signature is not the hub's".to_owned()),
        }
    }

    /// Whether it loads, and holds everything that this box is configured to use.
    fn usable(&self, content: &[u8]) -> Result<Catalogue, String> {
        let bundle = Bundle::from_content(content).map_err(|error| error.to_string())?;
        let catalogue = bundle.catalogue().map_err(|faults| {
            let told = faults.iter().take(FAULTS_TOLD).map(ToString::to_string);
            told.collect::<Vec<_>>().join("; ")
        })?;
        let wrong = misfits(self.config, &catalogue);
        if wrong.is_empty() {
            return Ok(catalogue);
        }
        let told = wrong.iter().take(FAULTS_TOLD);
        let told: Vec<String> = told
            .map(|(key, wrong)| format!("{key}: {} / {}", wrong.vi, wrong.en))
            .collect();
        Err(told.join("; "))
    }
}

/// Looks through what has come, and changes at the due time. Gives the catalogue that holds from now
/// on when that is another one, and when the next one is due.
pub struct Settled {
    pub changed: Option<(Catalogue, CatalogueNews)>,
    pub next: Option<UnixMs>,
}

pub fn settle(
    store: &mut DownStore,
    judge: &Judge<'_>,
    now: UnixMs,
) -> Result<Settled, StoreError> {
    let rows = store.catalogues()?;
    for row in &rows {
        if row.state != CatalogueState::Arriving {
            continue;
        }
        let most = CONTENT_BYTES_MAX;
        let content = match row.news.bytes <= most && row.effective < UnixMs(i64::MAX) {
            true => store.assembled(&row.news)?,
            false => Some(Vec::new()),
        };
        let Some(content) = content else { continue };
        match judge.judge(&row.news, &content) {
            Ok(_) => conclude(store, judge, row, "next", "", now, |store| {
                store.accept_catalogue(row, &content, now)
            })?,
            Err(reason) => refuse(store, judge, row, &reason, now)?,
        }
    }
    let changed = change(store, judge, now)?;
    let rows = store.catalogues()?;
    let next = rows.iter().filter(|row| row.state == CatalogueState::Next);
    Ok(Settled {
        changed,
        next: next.map(|row| row.effective).min(),
    })
}

/// Takes over the catalogue whose day has come. One that no longer fits this box is refused now, and
/// the one before goes on.
fn change(
    store: &mut DownStore,
    judge: &Judge<'_>,
    now: UnixMs,
) -> Result<Option<(Catalogue, CatalogueNews)>, StoreError> {
    loop {
        let rows = store.catalogues()?;
        let Some(row) = by_preference(&rows, now).first().copied() else {
            return Ok(None);
        };
        if row.state != CatalogueState::Next {
            return Ok(None);
        }
        let content = store.content(row.number)?.unwrap_or_default();
        match judge.judge(&row.news, &content) {
            Ok(catalogue) => {
                conclude(store, judge, row, "current", "", now, |store| {
                    store.begin_catalogue(row, now)
                })?;
                tracing::info!(version = row.news.version, "another catalogue holds");
                return Ok(Some((catalogue, row.news.clone())));
            }
            Err(reason) => refuse(store, judge, row, &reason, now)?,
        }
    }
}

fn refuse(
    store: &mut DownStore,
    judge: &Judge<'_>,
    row: &CatalogueRow,
    reason: &str,
    now: UnixMs,
) -> Result<(), StoreError> {
    tracing::warn!(
        version = row.news.version,
        reason,
        "a catalogue was refused"
    );
    conclude(store, judge, row, "refused", reason, now, |store| {
        store.refuse_catalogue(row, reason, now)
    })
}

/// One step of a catalogue with its line in the audit and the answer to the hub, in one transaction.
fn conclude(
    store: &mut DownStore,
    judge: &Judge<'_>,
    row: &CatalogueRow,
    result: &str,
    detail: &str,
    now: UnixMs,
    step: impl FnOnce(&mut DownStore) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let id = row.news.version.to_string();
    let answer = json!({
        "thiet_bi": judge.config.box_id,
        "loai": "danh_muc",
        "ma": id,
        "ten": match row.news.effective.is_empty() {
            true => "-".to_owned(),
            false => row.news.effective.chars().take(40).collect(),
        },
        "trang_thai": result,
        "nguoi": row.news.by.chars().take(200).collect::<String>(),
        "thoi_diem": now.to_string(),
        "chi_tiet": detail,
    });
    let said = Said {
        who: &row.news.by,
        what: "catalogue",
        id: &id,
        name: &row.news.effective,
        result,
        detail,
        answer: Some(answer.to_string()),
    };
    store.begin()?;
    let done = step(store).and_then(|()| store.say(&said, now));
    match done {
        Ok(()) => store.commit(),
        Err(error) => {
            // The first error says what is wrong.
            let _ = store.roll_back();
            Err(error)
        }
    }
}
