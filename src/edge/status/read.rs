//! Reads the status: the store's numbers, completed with what only the running daemon knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::edge::config::Config;
use crate::edge::config::load::{OWN_SOURCE, PUT_SOURCE};
use crate::edge::generations::Generations;
use crate::edge::live::{self, Live};
use crate::edge::orders::{self, local};
use crate::edge::own_tls;
use crate::edge::published::CatalogueStatus;
use crate::edge::reserve::disk_free_bytes;
use crate::edge::status::backup::BackupStatus;
use crate::edge::status::by_source::Counter;
use crate::edge::status::down::DownStatus;
use crate::edge::status::history::History;
use crate::edge::status::machine::MachineStatus;
use crate::edge::status::{
    CardStatus, CertificateStatus, ClockStatus, EventStatus, LanStatus, LaneStatus, LinkState,
    LinkStatus, ParkedReason, SourceState, SourceStatus, Stamp, Status, StopKind, StopStatus,
    StoreStatus,
};
use crate::edge::stick;
use crate::edge::texts;
use crate::engine::sending::Level;
use crate::model::{Lane, Now, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::x509;
use crate::store::StoreError;
use crate::store::down_status::DownView;
use crate::store::edge::SourceTally;
use crate::store::edge_status::{EdgeView, EventFacts, LaneFacts, SourceFacts, WrittenFacts};
use crate::store::rows::RowsView;

/// A lane with less room than this for another record counts as full.
const RECORD_BYTES: u64 = 2_048;
/// Events that the status tells, and how old they may be.
const EVENTS_MAX: u32 = 50;
const EVENTS_MS: i64 = 7 * 86_400_000;
/// Parked rows whose reasons are counted, and reasons told of a source.
const PARKED_ROWS: u32 = 1_000;
const PARKED_REASONS: usize = 3;
/// The rate of writing is that of so many days.
const CARD_DAYS: i64 = 14;

/// Reads the status of one box.
#[derive(Debug, Clone)]
pub struct Reader {
    config: Arc<Config>,
    clock: Clock,
    /// None while the daemon is down.
    live: Option<Arc<Live>>,
    generations: Generations,
    /// Where `proc` and `sys` are.
    root: PathBuf,
    by_source: Arc<Mutex<Counter>>,
}

impl Reader {
    /// `live` is there in the daemon itself.
    pub fn new(config: Arc<Config>, clock: Clock, live: Option<Arc<Live>>) -> Reader {
        Reader {
            generations: Generations::of(&config),
            config,
            clock,
            live,
            root: PathBuf::from("/"),
            by_source: Arc::default(),
        }
    }

    /// Reads the machine below another root than `/`.
    #[must_use]
    pub fn with_root(self, root: PathBuf) -> Reader {
        Reader { root, ..self }
    }

    /// Takes the same time whatever the backlog; reads files, so not for the runtime's thread.
    pub fn read(&self) -> Status {
        let now = self.clock.now();
        let stored = Stored::read(&self.config.store.path, now);
        let facts = self.live.as_ref().map(|live| live.facts());
        let Stored {
            lanes,
            sources,
            parked,
            reasons,
            last_stop,
            events,
            mut store,
            trouble,
            receipt_at,
            written,
        } = stored;
        store.quota_bytes = self.config.store.quota_bytes;
        store.card = card(written, self.config.store.card_rated_bytes, now);
        store.trouble = match (&facts, trouble) {
            (Some(facts), _) if facts.trouble.is_some() => facts.trouble.clone(),
            // A store that was just now being made is no trouble.
            (Some(_), _) => None,
            (None, trouble) => trouble.map(|error| texts::trouble(&error, Stamp(now.wall))),
        };
        let quotas = self.config.store.lane_bytes_max();
        let mut link = facts
            .as_ref()
            .map_or_else(stopped, |facts| facts.link.clone());
        link.last_receipt = receipt_at;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            box_id: self.config.box_id.clone(),
            agency: self.config.agency.clone(),
            at: Stamp(now.wall),
            running_since: self.live.as_ref().map(|live| Stamp(live.running_since)),
            link,
            lanes: lanes
                .iter()
                .map(|lane| lane_status(lane, &quotas, now))
                .collect(),
            sources: self.sources(sources, &parked, reasons),
            waiting_by_source: None,
            store,
            machine: MachineStatus::read(&self.root),
            last_stop,
            backup: BackupStatus::read(
                &self.config,
                self.live.as_ref().map(|live| live.running_since),
                now.wall,
            ),
            clock: ClockStatus {
                quality: now.quality,
                floor: Stamp(self.clock.floor()),
            },
            certificate: self.certificate(now.wall),
            catalogue: CatalogueStatus::read(&self.config.store.down_path()),
            bandwidth_kbps: self
                .live
                .as_ref()
                .and_then(|live| live.bandwidth_kbps(now.wall)),
            bandwidth: orders::timetable(&self.config).texts(),
            events,
            stick: stick::state::read(&self.config.store.path),
            down: down(&self.config, facts.as_ref(), now.wall),
            lan: self.lan(facts.as_ref()),
            refused_by_hub: facts.and_then(|facts| facts.refused_by_hub),
        }
    }

    /// The same, with what waits by source: a part of the backlog is looked through for it.
    pub fn read_by_source(&self) -> Status {
        let counted = self
            .by_source
            .lock()
            .expect("no holder panics")
            .look(&self.config.store.path);
        Status {
            waiting_by_source: counted.ok(),
            ..self.read()
        }
    }

    /// What waited before the moment of a status; nothing where the store cannot be read.
    pub fn history(&self, status: &Status) -> History {
        History::read(&self.config.store.path, status.at.0).unwrap_or_default()
    }

    /// Everything but the name's state is on disk.
    fn lan(&self, facts: Option<&live::Facts>) -> Option<LanStatus> {
        let http = &self.config.http;
        http.tls.as_ref()?;
        let shown = own_tls::shown(&self.config);
        Some(LanStatus {
            address: format!("https://{}.local:{}/", http.name, http.listen.port()),
            not_after: shown.as_ref().map(|shown| Stamp(shown.not_after)),
            fingerprint: shown.map(|shown| shown.fingerprint),
            name: facts.map(|facts| facts.lan_name).unwrap_or_default(),
        })
    }

    /// None when the certificate cannot be read. It changes while the daemon runs.
    fn certificate(&self, now: UnixMs) -> Option<CertificateStatus> {
        let pair = self.generations.in_force();
        let pem = std::fs::read(&pair.certificate).ok()?;
        let facts = x509::from_pem(&pem).ok()?;
        Some(CertificateStatus {
            days_left: facts.days_left(now),
            common_name: facts.common_name,
            issuer: facts.issuer,
            not_after: Stamp(facts.not_after),
            generation: pair.number,
            rotated: pair.since.map(Stamp),
        })
    }

    /// The configured sources, whatever they did so far, then others that once did something.
    fn sources(
        &self,
        facts: Vec<SourceFacts>,
        parked: &BTreeMap<String, u64>,
        mut reasons: BTreeMap<String, Vec<ParkedReason>>,
    ) -> Vec<SourceStatus> {
        let tokens = self
            .config
            .http
            .tokens
            .iter()
            .map(|token| (token.name.as_str(), "http"));
        let others = self.config.sources.iter().flat_map(|source| {
            let kind = source.kind.name();
            let own = std::iter::once((source.name.as_str(), kind));
            own.chain(
                source
                    .kind
                    .stations()
                    .map(move |name| (name.as_str(), kind)),
            )
        });
        let counts = self.live.as_ref().map(|live| live.counts());
        let mut left = newest(facts, counts.unwrap_or_default());
        let mut statuses: Vec<SourceStatus> = tokens
            .chain(others)
            .map(|(name, kind)| {
                let place = left.iter().position(|facts| facts.source == name);
                let facts = place.map(|place| left.remove(place));
                source_status(name, Some(kind), facts)
            })
            .collect();
        statuses.extend(left.into_iter().map(|facts| {
            let name = facts.source.clone();
            let kind = [PUT_SOURCE, OWN_SOURCE]
                .into_iter()
                .find(|own| *own == name);
            source_status(&name, kind, Some(facts))
        }));
        // A source that only waits to be called says nothing of itself, and rests all the same.
        let resting = local::paused(&self.config).unwrap_or_default();
        for status in &mut statuses {
            status.parked = parked.get(&status.name).copied().unwrap_or(0);
            status.parked_reasons = reasons.remove(&status.name).unwrap_or_default();
            let live = self.live.as_ref();
            if let Some(live) = live.and_then(|live| live.board.get(&status.name)) {
                status.state = Some(live.state);
                status.since = Some(live.since);
                status.fault = live.fault;
                status.warning = live.warning;
                status.progress = live.progress;
            }
            if let Some((_, _, at)) = resting.iter().find(|(name, ..)| *name == status.name) {
                status.state = Some(SourceState::Paused);
                status.since = Some(Stamp(*at));
            }
        }
        statuses
    }
}

/// What has come down, and what troubles its store.
fn down(config: &Config, live: Option<&live::Facts>, now: UnixMs) -> Option<DownStatus> {
    let read = DownView::open(&config.store.down_path()).and_then(|view| match view {
        Some(view) => DownStatus::read(&view, &config.inboxes, now),
        None => Ok(None),
    });
    let trouble = live.and_then(|facts| facts.down_trouble.clone());
    let trouble = trouble.or_else(|| read.as_ref().err().map(StoreError::to_string));
    let status = match (read.unwrap_or_default(), &trouble) {
        (None, None) => return None,
        (status, _) => status.unwrap_or_else(DownStatus::unreadable),
    };
    Some(DownStatus { trouble, ..status })
}

/// What the store says.
struct Stored {
    lanes: Vec<LaneFacts>,
    sources: Vec<SourceFacts>,
    parked: BTreeMap<String, u64>,
    reasons: BTreeMap<String, Vec<ParkedReason>>,
    last_stop: Option<StopStatus>,
    events: Vec<EventStatus>,
    store: StoreStatus,
    trouble: Option<StoreError>,
    receipt_at: Option<Stamp>,
    written: Option<WrittenFacts>,
}

impl Stored {
    fn read(path: &Path, now: Now) -> Stored {
        let mut stored = Stored {
            lanes: Vec::new(),
            sources: Vec::new(),
            parked: BTreeMap::new(),
            reasons: BTreeMap::new(),
            last_stop: None,
            events: Vec::new(),
            store: StoreStatus {
                path: path.display().to_string(),
                trouble: None,
                used_bytes: 0,
                free_bytes: 0,
                quota_bytes: 0,
                disk_free_bytes: disk_free_bytes(path).ok(),
                epoch: None,
                card: CardStatus {
                    written_bytes: 0,
                    written_per_day_bytes: None,
                    rated_bytes: 0,
                    days_left: None,
                },
            },
            trouble: None,
            receipt_at: None,
            written: None,
        };
        if let Err(error) = stored.fill(path, now) {
            stored.trouble = Some(error);
        }
        stored
    }

    fn fill(&mut self, path: &Path, now: Now) -> Result<(), StoreError> {
        let view = EdgeView::open(path)?;
        let facts = view.facts()?;
        self.store.used_bytes = facts.used_bytes;
        self.store.free_bytes = facts.free_bytes;
        self.store.epoch = Some(facts.epoch.to_string());
        self.lanes = Lane::ALL
            .into_iter()
            .map(|lane| view.lane(lane))
            .collect::<Result<_, _>>()?;
        self.receipt_at = self
            .lanes
            .iter()
            .filter_map(|lane| lane.receipt_at)
            .max()
            .map(Stamp);
        self.sources = view.sources()?;
        self.last_stop = view.last_stop()?.map(|stop| StopStatus {
            kind: match stop.with_machine {
                true => StopKind::Power,
                false => StopKind::Killed,
            },
            after: Stamp(stop.after),
            before: Stamp(stop.before),
        });
        self.written = Some(view.written(now.wall, CARD_DAYS)?);
        let rows = RowsView::open(path)?;
        self.parked = rows.parked_counts()?;
        if !self.parked.is_empty() {
            self.reasons = reasons(&rows)?;
        }
        let since = UnixMs(now.wall.0 - EVENTS_MS);
        let events = view
            .events(EVENTS_MAX)?
            .into_iter()
            .filter(|event| since <= event.at);
        self.events = events.map(event_status).collect();
        Ok(())
    }
}

/// Why rows are parked, by source.
fn reasons(rows: &RowsView) -> Result<BTreeMap<String, Vec<ParkedReason>>, StoreError> {
    let mut reasons: BTreeMap<String, Vec<ParkedReason>> = BTreeMap::new();
    for facts in rows.parked_reasons(PARKED_ROWS)? {
        let of_source = reasons.entry(facts.source).or_default();
        if of_source.len() < PARKED_REASONS {
            of_source.push(ParkedReason {
                text_vi: facts.reason_vi,
                text_en: facts.reason_en,
                rows: facts.rows,
            });
        }
    }
    Ok(reasons)
}

/// What the card still bears. A rate needs an hour of counting.
fn card(written: Option<WrittenFacts>, rated_bytes: u64, now: Now) -> CardStatus {
    const HOUR_MS: i64 = 3_600_000;
    let written_bytes = written.map_or(0, |written| written.bytes);
    let rate = written.and_then(|written| {
        let counted_ms = now.wall.0 - written.recent_since?.0;
        let per_day = i128::from(written.recent_bytes) * i128::from(24 * HOUR_MS);
        (HOUR_MS <= counted_ms)
            .then(|| u64::try_from(per_day / i128::from(counted_ms)).unwrap_or(u64::MAX))
    });
    CardStatus {
        written_bytes,
        written_per_day_bytes: rate,
        rated_bytes,
        days_left: rate
            .and_then(|rate| rated_bytes.saturating_sub(written_bytes).checked_div(rate)),
    }
}

fn lane_status(facts: &LaneFacts, quotas: &[u64; 5], now: Now) -> LaneStatus {
    let quota_bytes = quotas[facts.lane.index()];
    let age_ms = facts
        .oldest
        .map_or(0, |oldest| (now.wall.0 - oldest.0).max(0));
    LaneStatus {
        lane: facts.lane,
        waiting: facts.waiting,
        waiting_bytes: facts.waiting_bytes,
        oldest: facts.oldest.map(Stamp),
        oldest_s: u64::try_from(age_ms / 1_000).unwrap_or(0),
        quota_bytes,
        full: quota_bytes < facts.waiting_bytes + RECORD_BYTES,
        newest: facts.newest,
        received: facts.received,
    }
}

/// What the store says of the sources, with what the daemon knows and has not written down yet.
fn newest(mut facts: Vec<SourceFacts>, counts: BTreeMap<String, SourceTally>) -> Vec<SourceFacts> {
    facts.retain(|facts| !counts.contains_key(&facts.source));
    let counted = counts
        .into_iter()
        .map(|(source, tally)| SourceFacts { source, tally });
    facts.extend(counted);
    facts.sort_by(|one, other| one.source.cmp(&other.source));
    facts
}

fn source_status(name: &str, kind: Option<&str>, facts: Option<SourceFacts>) -> SourceStatus {
    let mut status = SourceStatus {
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        accepted: 0,
        refused: 0,
        last_accepted: None,
        last_refused: None,
        last_reason: None,
        parked: 0,
        parked_reasons: Vec::new(),
        state: None,
        since: None,
        fault: None,
        warning: None,
        progress: None,
    };
    if let Some(facts) = facts {
        let tally = facts.tally;
        status.accepted = tally.accepted;
        status.refused = tally.refused;
        status.last_accepted = tally.last_accepted.map(Stamp);
        status.last_refused = tally.last_refused.map(Stamp);
        status.last_reason = tally.last_refusal;
    }
    status
}

fn event_status(facts: EventFacts) -> EventStatus {
    let level = match facts.level.as_str() {
        "alarm" => Level::Alarm,
        "warning" => Level::Warning,
        _ => Level::Info,
    };
    EventStatus {
        at: Stamp(facts.at),
        level,
        code: facts.code,
        detail: facts.detail,
    }
}

fn stopped() -> LinkStatus {
    LinkStatus {
        state: LinkState::Stopped,
        address: None,
        since: None,
        last_receipt: None,
        reason: None,
    }
}
