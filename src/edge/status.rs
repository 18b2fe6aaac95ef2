//! The box's state in one struct: page, `/status.json`, `tramd status` and systemd's line print it.
//!
//! It is read from the store, which works while the daemon is down, and completed with what only
//! the running daemon knows: the link and the clock. Its JSON is stable.

pub mod backup;
pub mod by_source;
pub mod down;
pub mod history;
pub mod machine;
pub mod read;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::edge::published::CatalogueStatus;
use crate::edge::status::backup::BackupStatus;
use crate::edge::status::by_source::BySource;
use crate::edge::status::down::DownStatus;
use crate::edge::status::machine::MachineStatus;
use crate::edge::stick::state::StickStatus;
use crate::engine::sending::Level;
use crate::model::{AgencyCode, BoxId, ClockQuality, Lane, Seq, UnixMs};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    #[serde(rename = "box")]
    pub box_id: BoxId,
    pub agency: AgencyCode,
    /// When this was read.
    pub at: Stamp,
    /// Since when the daemon runs; none while it is down.
    pub running_since: Option<Stamp>,
    pub link: LinkStatus,
    /// Five, P0 to P4; none when the store cannot be read.
    pub lanes: Vec<LaneStatus>,
    pub sources: Vec<SourceStatus>,
    /// What waits by source; none where it was not counted.
    #[serde(default)]
    pub waiting_by_source: Option<BySource>,
    pub store: StoreStatus,
    #[serde(default)]
    pub machine: MachineStatus,
    /// How the program last ended without being stopped in order.
    #[serde(default)]
    pub last_stop: Option<StopStatus>,
    /// The nightly backup; none where none is configured.
    #[serde(default)]
    pub backup: Option<BackupStatus>,
    pub clock: ClockStatus,
    /// None when the certificate cannot be read.
    pub certificate: Option<CertificateStatus>,
    /// Which catalogue holds, and which one is coming.
    #[serde(default)]
    pub catalogue: CatalogueStatus,
    /// Kilobits a second that the lanes P2 to P4 may use now; none: as many as there are.
    #[serde(default)]
    pub bandwidth_kbps: Option<u32>,
    /// The timetable of it that is in force, as `07:30-17:00 256`; empty: the lanes are free.
    #[serde(default)]
    pub bandwidth: Vec<String>,
    /// Newest first.
    pub events: Vec<EventStatus>,
    /// What the hub last said when it refused a batch since the daemon started.
    pub refused_by_hub: Option<RefusedByHub>,
    /// The last stick that carried something between box and hub; none where there was none.
    #[serde(default)]
    pub stick: Option<StickStatus>,
    /// What has come down; none where nothing ever came.
    #[serde(default)]
    pub down: Option<DownStatus>,
    /// How the office's network reaches the page; none where it does not.
    #[serde(default)]
    pub lan: Option<LanStatus>,
}

/// The page in the office's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanStatus {
    /// Where it is reached while the network knows the box's name.
    pub address: String,
    /// SHA-256 of its certificate, as browsers show it; none before the first start.
    pub fingerprint: Option<String>,
    pub not_after: Option<Stamp>,
    pub name: NameState,
}

/// Whether the office's network knows the box by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameState {
    /// Nobody is told the name.
    #[default]
    Off,
    On,
    /// Another machine has it.
    Taken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    Up,
    Connecting,
    Down,
    /// The daemon is not running.
    Stopped,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkStatus {
    pub state: LinkState,
    /// The hub's address that is in use, or was tried last.
    pub address: Option<String>,
    pub since: Option<Stamp>,
    /// When the hub's last receipt came.
    pub last_receipt: Option<Stamp>,
    /// Why there is no link.
    pub reason: Option<LinkReason>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReason {
    /// Stable, such as `tcp-refused`.
    pub code: String,
    /// The broker's MQTT 5 reason code, where it gave one.
    pub mqtt: Option<u8>,
    /// What it means and what to do, in Vietnamese.
    pub text_vi: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaneStatus {
    pub lane: Lane,
    /// Entries that wait for their receipt.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// When the oldest of them was accepted.
    pub oldest: Option<Stamp>,
    pub oldest_s: u64,
    pub quota_bytes: u64,
    /// Whether an average record would be refused now.
    pub full: bool,
    pub newest: Seq,
    pub received: Seq,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceStatus {
    pub name: String,
    /// `http`, `folder`, …; none for a source that is no longer configured.
    pub kind: Option<String>,
    pub accepted: u64,
    pub refused: u64,
    pub last_accepted: Option<Stamp>,
    pub last_refused: Option<Stamp>,
    pub last_reason: Option<String>,
    /// Rows that are parked with their reason, and those that wait behind them.
    #[serde(default)]
    pub parked: u64,
    /// Why the newest of them are parked, the most frequent reason first.
    #[serde(default)]
    pub parked_reasons: Vec<ParkedReason>,
    /// What the source does; none for one that does nothing by itself, and while the daemon is down.
    #[serde(default)]
    pub state: Option<SourceState>,
    #[serde(default)]
    pub since: Option<Stamp>,
    /// Why it does not work now.
    #[serde(default)]
    pub fault: Option<Trouble>,
    /// What somebody ought to know though it works.
    #[serde(default)]
    pub warning: Option<Trouble>,
    /// How far an initial load or a sweep is.
    #[serde(default)]
    pub progress: Option<Progress>,
}

/// Why rows are parked; without personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedReason {
    pub text_vi: String,
    pub text_en: String,
    pub rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    Working,
    /// All was well; the next round is waited for.
    Waiting,
    /// Tried again with growing pauses.
    Failed,
    /// Rests, because the hub has said so.
    Paused,
}

/// How far a long piece of work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub rows: u64,
    /// None while nobody knows.
    pub of: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreStatus {
    pub path: String,
    /// None while the store works.
    pub trouble: Option<Trouble>,
    pub used_bytes: u64,
    /// Free inside the file.
    pub free_bytes: u64,
    pub quota_bytes: u64,
    /// Free on the disk for everybody.
    pub disk_free_bytes: Option<u64>,
    /// Names this life of the store.
    pub epoch: Option<String>,
    pub card: CardStatus,
}

/// What the memory card has to bear from this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardStatus {
    /// Since the store was created.
    pub written_bytes: u64,
    /// A day, over the last fortnight; none before an hour was counted.
    pub written_per_day_bytes: Option<u64>,
    /// `store.card_rated`: what the card's maker lets it be written.
    pub rated_bytes: u64,
    /// Until the rated bytes are used up, at the rate of the last fortnight.
    pub days_left: Option<u64>,
}

/// An end that nobody has ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopStatus {
    pub kind: StopKind,
    /// It came between the last sign of life and the next start.
    pub after: Stamp,
    pub before: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopKind {
    /// The machine went with it: a power cut, a reset.
    Power,
    /// The program alone.
    Killed,
}

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub code: String,
    pub text_vi: String,
    pub text_en: String,
    pub hint_vi: String,
    pub hint_en: String,
    pub since: Option<Stamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClockStatus {
    pub quality: ClockQuality,
    /// The time is at least this.
    pub floor: Stamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub common_name: String,
    pub issuer: String,
    pub not_after: Stamp,
    /// Negative when it has ended.
    pub days_left: i64,
    /// How often the box has changed its key; 0: the pair that the configuration names.
    #[serde(default)]
    pub generation: u64,
    /// When it last did.
    #[serde(default)]
    pub rotated: Option<Stamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventStatus {
    pub at: Stamp,
    pub level: Level,
    pub code: String,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedByHub {
    /// Such as `unknown_box`, `suspended`, `forged`.
    pub code: String,
    pub at: Stamp,
    pub text_vi: String,
}

impl Status {
    /// Entries that wait, over all lanes.
    pub fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.waiting).sum()
    }

    /// One line for systemd and for a terminal, Vietnamese.
    pub fn line(&self) -> String {
        let link = match self.link.state {
            LinkState::Up => "Đã nối với trục".to_owned(),
            LinkState::Connecting => "Đang nối với trục".to_owned(),
            LinkState::Stopped => "Dịch vụ không chạy".to_owned(),
            LinkState::Down => match &self.link.reason {
                Some(reason) => format!("Mất liên kết ({})", reason.code),
                None => "Mất liên kết".to_owned(),
            },
        };
        let waiting = match self.waiting() {
            0 => "không có bản ghi chờ".to_owned(),
            waiting => {
                format!(
                    "{waiting} bản ghi chờ, lâu nhất {}",
                    span_vi(self.oldest_s())
                )
            }
        };
        let trouble = self.store.trouble.as_ref();
        let trouble = trouble.map_or(String::new(), |trouble| format!("; {}", trouble.text_vi));
        format!("{link}; {waiting}{trouble}")
    }

    /// Age of the oldest entry that waits, seconds.
    pub fn oldest_s(&self) -> u64 {
        self.lanes
            .iter()
            .map(|lane| lane.oldest_s)
            .max()
            .unwrap_or(0)
    }
}

/// A span of time in its largest unit, Vietnamese.
pub fn span_vi(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} giây"),
        60..3_600 => format!("{} phút", seconds / 60),
        3_600..86_400 => format!("{} giờ", seconds / 3_600),
        _ => format!("{} ngày", seconds / 86_400),
    }
}

/// How long a card lasts, Vietnamese.
pub fn card_life_vi(days: u64) -> String {
    match days / 365 {
        0 => format!("{days} ngày"),
        years @ 1..100 => format!("{years} năm"),
        _ => "trên 100 năm".to_owned(),
    }
}

/// A point in time that is written as RFC 3339 with Vietnam's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub UnixMs);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Stamp(UnixMs(timestamp.as_millisecond())))
    }
}
