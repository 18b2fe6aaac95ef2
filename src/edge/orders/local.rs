//! The same deeds on a technician's word: by the box's page or at its console. Each stands in the
//! audit beside the hub's commands, with who, from where and when.

use super::{BANDWIDTH, CACHE_BYTES, PAUSED, obey};
use crate::edge::config::Config;
use crate::edge::door::Door;
use crate::model::UnixMs;
use crate::model::order::{Order, Timetable};
use crate::store::down::DownStore;
use crate::store::orders::{AuditRow, OrdersView, Said, SettingRow};
use crate::store::{Options, StoreError};

/// What the audit says of local deeds; those on the hub's word are `command`.
const LOCAL: &str = "local";

/// On whose word something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The account's name.
    pub who: String,
    /// From where, such as the browser's address.
    pub place: String,
}

impl By {
    /// Who sits at the box itself, with the right to its files.
    pub fn console() -> By {
        By {
            who: "console".to_owned(),
            place: "-".to_owned(),
        }
    }
}

/// Why a local deed was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// In Vietnamese and English, as the hub's answer says it.
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes a setting as a command of the hub's does, in one transaction with its line in the audit;
/// the running daemon follows at once.
pub fn set(
    config: &Config,
    door: &Door,
    by: &By,
    name: &str,
    order: &Order,
    now: UnixMs,
) -> Result<(), NotDone> {
    let setting = obey::setting(config, order).map_err(NotDone::Failed)?;
    let Some((setting, detail)) = setting else {
        unreachable!("only orders that set something come here");
    };
    let mut store = open(config)?;
    store.begin()?;
    let written = obey::write_setting(&mut store, &setting, &by.who, now)
        .and_then(|()| say(&mut store, by, name, "done", &detail, now))
        .and_then(|()| store.commit());
    if let Err(error) = written {
        // The first error says what is wrong.
        let _ = store.roll_back();
        return Err(error.into());
    }
    tracing::info!(who = by.who, name, "done on a technician's word");
    door.steering().follow(&store.settings()?);
    Ok(())
}

/// Writes into the audit what was done elsewhere. Without personal data.
pub fn note(
    config: &Config,
    by: &By,
    name: &str,
    result: &str,
    detail: &str,
    now: UnixMs,
) -> Result<(), StoreError> {
    let mut store = open(config)?;
    tracing::info!(who = by.who, name, result, "done on a technician's word");
    say(&mut store, by, name, result, detail, now)
}

/// The newest lines of the audit.
pub fn audit(config: &Config, most: u32) -> Result<Vec<AuditRow>, StoreError> {
    let path = config.store.down_path();
    match path.exists() {
        true => OrdersView::open(&path)?.audit(most),
        false => Ok(Vec::new()),
    }
}

/// A setting that counts, whose word it is and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    pub timetable: Timetable,
    /// None: the configuration's.
    pub by: Option<(String, UnixMs)>,
}

/// The timetable that counts, and from whom it is.
pub fn bandwidth(config: &Config) -> Result<InForce, StoreError> {
    let path = config.store.down_path();
    let settings = match path.exists() {
        true => OrdersView::open(&path)?.settings()?,
        false => Vec::new(),
    };
    let set = settings.into_iter().find(|row| row.name == BANDWIDTH);
    let read = set.and_then(|row: SettingRow| {
        let hours: Vec<String> = serde_json::from_str(&row.value).ok()?;
        let timetable = Timetable::parse(hours.iter().map(String::as_str)).ok()?;
        Some(InForce {
            timetable,
            by: Some((row.by, row.at)),
        })
    });
    Ok(read.unwrap_or_else(|| InForce {
        timetable: config.hub.bandwidth.clone(),
        by: None,
    }))
}

/// Which sources rest, on whose word and since when.
pub fn paused(config: &Config) -> Result<Vec<(String, String, UnixMs)>, StoreError> {
    let path = config.store.down_path();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let settings = OrdersView::open(&path)?.settings()?;
    let paused = settings.into_iter().filter_map(|row| {
        let source = row.name.strip_prefix(PAUSED)?.to_owned();
        Some((source, row.by, row.at))
    });
    Ok(paused.collect())
}

fn open(config: &Config) -> Result<DownStore, StoreError> {
    let path = config.store.down_path();
    crate::edge::run::engines::make_store_file(&path);
    let options = Options {
        quota_bytes: config.store.quota_bytes,
        cache_bytes: CACHE_BYTES,
    };
    DownStore::open(&path, options, &config.box_id)
}

fn say(
    store: &mut DownStore,
    by: &By,
    name: &str,
    result: &str,
    detail: &str,
    now: UnixMs,
) -> Result<(), StoreError> {
    let said = Said {
        who: &by.who,
        what: LOCAL,
        id: &by.place,
        name,
        result,
        detail,
        answer: None,
    };
    store.say(&said, now)
}
