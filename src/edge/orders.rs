//! What the hub has ordered, done: takes catalogues and commands from the store of the downlink,
//! where the transport has written them down, and answers through the box's own log.
//!
//! Each step is one transaction with its line in the audit and the answer, so a crash leaves a step
//! undone or done, and every command can be done again. The answer goes to the log with a key of
//! its own before it is forgotten here, so the hub hears it once.

mod compare;
pub mod local;
mod obey;
pub mod rotate;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};

use crate::catalogue::Catalogue;
use crate::edge::commands::Failure;
use crate::edge::config::Config;
use crate::edge::config::load::{OWN_SOURCE, load};
use crate::edge::door::{Door, Incoming, short_digest};
use crate::edge::orders::obey::Left;
use crate::edge::orders::rotate::Rotation;
use crate::edge::published::{Judge, settle};
use crate::edge::status::read::Reader;
use crate::engine::sending::{Answer, Submission};
use crate::evidence::PublicKey;
use crate::model::order::{ANSWERS, Timetable};
use crate::model::record::Op;
use crate::model::{DatasetId, SourceName, UnixMs};
use crate::shell::clock::Clock;
use crate::store::down::DownStore;
use crate::store::edge::OnceKey;
use crate::store::orders::{AnswerRow, OrdersView, SettingRow};
use crate::store::rows::Beside;
use crate::store::{Options, StoreError};

/// The store is looked at so often, whoever says that there is something.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const CACHE_BYTES: u64 = 512 * 1024;
/// Lines that the audit shows.
const AUDIT_SHOWN: u32 = 500;
/// Settings that commands make.
const BANDWIDTH: &str = "bandwidth";
const PAUSED: &str = "paused/";

/// What commands steer in the running daemon.
#[derive(Debug)]
pub struct Steering {
    /// Sources that are to rest.
    pub paused: watch::Sender<BTreeSet<SourceName>>,
    /// The timetable that counts; none: the configuration's.
    pub bandwidth: watch::Sender<Option<Timetable>>,
    /// The daemon is to end in order; systemd starts it again.
    pub restart: Notify,
    /// Something has come from the hub.
    pub wake: Notify,
    /// What waits is to be offered to the hub now: no pause is waited for any more.
    pub send_now: Notify,
}

impl Default for Steering {
    fn default() -> Steering {
        Steering {
            paused: watch::Sender::new(BTreeSet::new()),
            bandwidth: watch::Sender::new(None),
            restart: Notify::new(),
            wake: Notify::new(),
            send_now: Notify::new(),
        }
    }
}

impl Steering {
    /// Takes over what commands have set, now or before the last start.
    fn follow(&self, settings: &[SettingRow]) {
        let paused: BTreeSet<SourceName> = settings
            .iter()
            .filter_map(|setting| setting.name.strip_prefix(PAUSED)?.parse().ok())
            .collect();
        let bandwidth = settings.iter().find(|setting| setting.name == BANDWIDTH);
        let bandwidth = bandwidth.and_then(|setting| {
            let texts: Vec<String> = serde_json::from_str(&setting.value).ok()?;
            Timetable::parse(texts.iter().map(String::as_str)).ok()
        });
        self.paused
            .send_if_modified(|before| replace(before, paused));
        self.bandwidth
            .send_if_modified(|before| replace(before, bandwidth));
    }
}

fn replace<T: PartialEq>(before: &mut T, after: T) -> bool {
    let is_new = *before != after;
    *before = after;
    is_new
}

/// What commands had set before this start, so that a source that is to rest does not begin.
pub fn recall(down: &Path, steering: &Steering) {
    if down.exists()
        && let Ok(settings) = OrdersView::open(down).and_then(|view| view.settings())
    {
        steering.follow(&settings);
    }
}

/// The timetable in force, also while the daemon is down: a command's, else the configuration's.
pub fn timetable(config: &Config) -> Timetable {
    let steering = Steering::default();
    recall(&config.store.down_path(), &steering);
    let ordered = steering.bandwidth.borrow().clone();
    ordered.unwrap_or_else(|| config.hub.bandwidth.clone())
}

/// Does what the hub orders.
pub struct Orders {
    pub config: Arc<Config>,
    pub hub_keys: Vec<PublicKey>,
    pub door: Arc<Door>,
    pub clock: Clock,
    pub reader: Reader,
    pub rotation: Rotation,
}

/// What a look at the store has led to.
#[derive(Default)]
struct Round {
    catalogue: Option<Catalogue>,
    /// When the next catalogue is due.
    next: Option<UnixMs>,
    answers: Vec<AnswerRow>,
    settings: Vec<SettingRow>,
    left: Left,
}

impl Orders {
    /// Works until the program is to stop.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let mut is_first = true;
        let mut told = false;
        loop {
            let worker = Arc::clone(&this);
            let round = tokio::task::spawn_blocking(move || worker.round(is_first)).await;
            let mut pause = LOOK_EVERY;
            match round {
                Ok(Ok(round)) => {
                    told = false;
                    is_first = false;
                    this.door.steering().follow(&round.settings);
                    if let Some(catalogue) = round.catalogue {
                        this.door.set_catalogue(catalogue);
                    }
                    if let Some(next) = round.next {
                        let left_ms = next.0.saturating_sub(this.clock.now().wall.0).max(0);
                        pause = pause.min(Duration::from_millis(left_ms.unsigned_abs() + 1));
                    }
                    this.answer(round.answers).await;
                    if round.left.restart {
                        this.door.steering().restart.notify_one();
                    }
                    if let Some(to_prove) = round.left.to_prove {
                        let has_news = tokio::select! {
                            has_news = this.prove(*to_prove) => has_news,
                            _ = stop.wait_for(|stop| *stop) => return,
                        };
                        if has_news {
                            pause = Duration::ZERO;
                        }
                    }
                }
                Ok(Err(error)) if !told => {
                    told = true;
                    tracing::warn!(%error, "the hub's orders cannot be read; tried again");
                }
                Ok(Err(_)) => {}
                Err(_) => tracing::error!("the work on the hub's orders has panicked"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = this.door.steering().wake.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// One look: catalogues first, then commands in the order in which they came.
    fn round(&self, is_first: bool) -> Result<Round, StoreError> {
        let path = self.config.store.down_path();
        if !path.exists() {
            return Ok(Round::default());
        }
        let options = Options {
            quota_bytes: self.config.store.quota_bytes,
            cache_bytes: CACHE_BYTES,
        };
        let mut store = DownStore::open(&path, options, &self.config.box_id)?;
        let judge = Judge {
            config: &self.config,
            hub_keys: &self.hub_keys,
        };
        let settled = settle(&mut store, &judge, self.clock.now().wall)?;
        let left = self.obey(&mut store, is_first)?;
        compare::nightly(&mut store, &self.config, self.clock.now())?;
        Ok(Round {
            catalogue: settled.changed.map(|(catalogue, _)| catalogue),
            next: settled.next,
            answers: store.answers()?,
            settings: store.settings()?,
            left,
        })
    }

    /// Puts answers into the box's own log, then forgets them.
    async fn answer(&self, answers: Vec<AnswerRow>) {
        let dataset: DatasetId = ANSWERS.parse().expect("a dataset id");
        for answer in answers {
            let Some(dataset) = self.door.dataset(&dataset) else {
                tracing::warn!(
                    dataset = ANSWERS,
                    "the catalogue has no dataset for answers to the hub"
                );
                return;
            };
            let own: SourceName = OWN_SOURCE.parse().expect("a source name");
            let Ok(data) = RawValue::from_string(answer.answer.clone()) else {
                continue;
            };
            let incoming = Incoming {
                data: &data,
                op: Op::Upsert,
                original: None,
                id: None,
            };
            let mut record = match self.door.admit(&dataset, &own, incoming) {
                Ok(record) => record,
                Err(refusal) => {
                    tracing::warn!(%refusal, "the catalogue does not take answers to the hub");
                    continue;
                }
            };
            record.once = Some(OnceKey {
                key: short_digest(&["answer", &answer.id, &answer.answer]),
                digest: short_digest(&[&answer.answer]),
            });
            let submission = Submission {
                reply: (),
                source: own,
                records: vec![record],
                once: None,
                cursor: None,
                beside: Beside::default(),
            };
            match self.door.intake().submit(submission).await {
                Ok(Answer::Stored { .. }) => {}
                Ok(kept) => {
                    tracing::warn!(?kept, "an answer to the hub was not kept; tried again");
                    return;
                }
                Err(_) => return,
            }
            let path = self.config.store.down_path();
            let options = Options {
                quota_bytes: self.config.store.quota_bytes,
                cache_bytes: CACHE_BYTES,
            };
            let box_id = self.config.box_id.clone();
            let forgotten = tokio::task::spawn_blocking(move || {
                DownStore::open(&path, options, &box_id)?.drop_answer(answer.number)
            });
            if !matches!(forgotten.await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// `tramd audit`: what was done on the hub's word, and on a technician's.
pub fn audit(path: &Path, as_json: bool) -> Result<String, Failure> {
    let loaded = load(path).map_err(Failure::Configuration)?;
    let rows = local::audit(&loaded.config, AUDIT_SHOWN).map_err(Failure::of_store)?;
    let mut text = String::new();
    for row in &rows {
        if as_json {
            let line = serde_json::json!({
                "at": row.at.to_string(), "who": row.who, "what": row.what, "id": row.id,
                "name": row.name, "result": row.result, "detail": row.detail,
            });
            text.push_str(&serde_json::to_string(&line).context("a line is plain JSON")?);
        } else {
            let shown: String = row.detail.chars().take(200).collect();
            text.push_str(&format!(
                "{} {} {} {} {}: {} {shown}",
                row.at, row.who, row.what, row.id, row.name, row.result
            ));
        }
        text.push('\n');
    }
    if rows.is_empty() && !as_json {
        text.push_str("chưa có lệnh hay việc nào / nothing was ordered or done yet\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
