//! What the hub knows of its fleet, read from its store in one snapshot: `trucd status`,
//! `/status.json`, `/metrics` and systemd's line print it. Its JSON is stable.

pub mod text;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize, Serializer};

use crate::hub::output::outlook::OutputStatus;
use crate::model::{AgencyCode, BoxId, DatasetId, Epoch, Lane, Seq, UnixMs};
use crate::store::StoreError;
use crate::store::hub::BoxState;
use crate::store::hub_view::down::DownRow;
use crate::store::hub_view::{BoxRow, GapRow, HubView, LogRow, RefusalRow};

/// An epoch that grew so long after a newer one had begun is no late message: two machines use one
/// box's name.
const CLONE_AFTER_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub version: &'static str,
    /// When this was read.
    pub at: Stamp,
    pub boxes: Vec<BoxStatus>,
    /// Names that nobody registered and that batches came in.
    pub strangers: Vec<Refusals>,
    pub totals: Totals,
    pub outputs: Vec<OutputStatus>,
    pub store: StoreSpace,
}

#[derive(Debug, Clone, Serialize)]
pub struct BoxStatus {
    #[serde(rename = "box")]
    pub box_id: BoxId,
    pub agency: AgencyCode,
    pub state: BoxState,
    pub registered: Stamp,
    pub last_seen: Option<Stamp>,
    /// Of the certificate in force; negative when it has ended.
    pub certificate_days: i64,
    pub presence: Option<Presence>,
    pub presence_at: Option<Stamp>,
    /// The logs of the newest epoch, then older ones.
    pub logs: Vec<LogStatus>,
    pub entries: u64,
    /// Entries that repeat one of another epoch; they count once as records.
    pub doubles: u64,
    pub bytes: u64,
    /// Numbers that the box said it lost.
    pub lost: u64,
    pub gaps: u64,
    pub parked: u64,
    pub refusals: Vec<Refusal>,
    /// Two machines seem to use the box's name.
    pub suspected_clone: bool,
    /// None when nothing was ever sent down to it.
    pub down: Option<DownStatus>,
    /// Datasets that its office may read, and how far their loads are.
    pub loads: Vec<LoadStatus>,
    /// Documents that it has handed in and that found no office, by reason.
    pub undelivered: Vec<Undelivered>,
}

/// How far the load of a dataset's copy is.
#[derive(Debug, Clone, Serialize)]
pub struct LoadStatus {
    pub dataset: DatasetId,
    pub subjects: u64,
    pub seen: u64,
    pub done: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Undelivered {
    /// Such as `unknown_office`, `no_box`, `no_room`, `too_large`.
    pub reason: String,
    pub count: u64,
    pub oldest: Stamp,
    pub oldest_s: u64,
}

/// What goes down to a box.
#[derive(Debug, Clone, Serialize)]
pub struct DownStatus {
    /// Only those in which something waits.
    pub lanes: Vec<DownLane>,
    /// Entries that wait for the box's receipt.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// When the oldest of them was ordered.
    pub oldest: Option<Stamp>,
    pub oldest_s: u64,
    pub last_receipt: Option<Stamp>,
    /// Why what the box holds is to be loaded again: set_back, lost_there, dropped, new.
    pub reload: Option<String>,
    /// Entries that were dropped before the box had them.
    pub dropped: u64,
}

/// What waits to go down in one lane.
#[derive(Debug, Clone, Serialize)]
pub struct DownLane {
    pub lane: Lane,
    pub waiting: u64,
    pub waiting_bytes: u64,
    pub oldest: Option<Stamp>,
    pub oldest_s: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct LogStatus {
    pub lane: Lane,
    pub epoch: Epoch,
    /// Whether this is the box's newest epoch.
    pub current: bool,
    pub applied: Seq,
    pub entries: u64,
    pub doubles: u64,
    pub bytes: u64,
    pub last: Stamp,
}

/// What a box last said of itself; fields that it left out are absent.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Presence {
    pub online: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Entries that wait in the box, P0 to P4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<[u64; 5]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_days: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    pub code: String,
    pub count: u64,
    pub last: Stamp,
}

#[derive(Debug, Clone, Serialize)]
pub struct Refusals {
    #[serde(rename = "box")]
    pub box_id: BoxId,
    pub refusals: Vec<Refusal>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    pub boxes: u64,
    pub active: u64,
    pub online: u64,
    pub entries: u64,
    pub doubles: u64,
    pub bytes: u64,
    pub waiting: u64,
    /// Entries that wait to go down.
    pub waiting_down: u64,
    /// Documents that found no office.
    pub undelivered: u64,
    pub lost: u64,
    pub parked: u64,
    pub refused: u64,
    pub suspected_clones: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct StoreSpace {
    pub used_bytes: u64,
    /// Free inside the file.
    pub free_bytes: u64,
    pub quota_bytes: u64,
}

/// A time as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub UnixMs);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Presence {
    /// Reads what a box said; nothing when it cannot be understood.
    pub fn parse(text: &str) -> Option<Presence> {
        serde_json::from_str(text).ok()
    }
}

/// Reads the whole fleet in one snapshot.
pub fn read(view: &HubView, quota_bytes: u64, now: UnixMs) -> Result<Status, StoreError> {
    let snapshot = view.snapshot()?;
    let boxes = snapshot.boxes()?;
    let mut of_box = gather(
        snapshot.logs()?,
        snapshot.gaps()?,
        snapshot.refusals()?,
        &snapshot.parked_counts()?,
    );
    for row in snapshot.downs()? {
        let down = down_status(&row, now);
        of_box.entry(row.box_id).or_default().down = Some(down);
    }
    for row in snapshot.loads()? {
        of_box
            .entry(row.box_id)
            .or_default()
            .loads
            .push(LoadStatus {
                dataset: row.dataset,
                subjects: row.subjects,
                seen: row.seen,
                done: row.done,
            });
    }
    for row in snapshot.undelivered_counts()? {
        let undelivered = Undelivered {
            reason: row.reason,
            count: row.count,
            oldest: Stamp(row.oldest),
            oldest_s: age_s(Some(row.oldest), now),
        };
        let found = of_box.entry(row.box_id).or_default();
        found.undelivered.push(undelivered);
    }
    let (used_bytes, free_bytes) = view.space()?;
    let boxes: Vec<BoxStatus> = boxes
        .into_iter()
        .map(|known| {
            let found = of_box.remove(&known.box_id).unwrap_or_default();
            box_status(known, found, now)
        })
        .collect();
    let strangers: Vec<Refusals> = of_box
        .into_iter()
        .map(|(box_id, found)| Refusals {
            box_id,
            refusals: found.refusals,
        })
        .collect();
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        at: Stamp(now),
        totals: totals(&boxes, &strangers),
        boxes,
        strangers,
        outputs: Vec::new(),
        store: StoreSpace {
            used_bytes,
            free_bytes,
            quota_bytes,
        },
    })
}

/// What is known of a box beside its registration.
#[derive(Default)]
struct Found {
    logs: Vec<LogRow>,
    gaps: Vec<GapRow>,
    refusals: Vec<Refusal>,
    parked: u64,
    down: Option<DownStatus>,
    loads: Vec<LoadStatus>,
    undelivered: Vec<Undelivered>,
}

fn down_status(row: &DownRow, now: UnixMs) -> DownStatus {
    let lanes = row.lanes.iter().filter(|lane| 0 < lane.waiting);
    let lanes: Vec<DownLane> = lanes
        .map(|lane| DownLane {
            lane: lane.lane,
            waiting: lane.waiting,
            waiting_bytes: lane.waiting_bytes,
            oldest: lane.oldest.map(Stamp),
            oldest_s: age_s(lane.oldest, now),
        })
        .collect();
    let receipts = row.lanes.iter().filter_map(|lane| lane.receipt_at);
    DownStatus {
        waiting: lanes.iter().map(|lane| lane.waiting).sum(),
        waiting_bytes: lanes.iter().map(|lane| lane.waiting_bytes).sum(),
        oldest: lanes.iter().filter_map(|lane| lane.oldest).min(),
        oldest_s: lanes.iter().map(|lane| lane.oldest_s).max().unwrap_or(0),
        lanes,
        last_receipt: receipts.max().map(Stamp),
        reload: row.reload.clone(),
        dropped: row.dropped,
    }
}

fn age_s(since: Option<UnixMs>, now: UnixMs) -> u64 {
    let age_ms = since.map_or(0, |since| now.0 - since.0);
    u64::try_from(age_ms / 1_000).unwrap_or(0)
}

fn gather(
    logs: Vec<LogRow>,
    gaps: Vec<GapRow>,
    refusals: Vec<RefusalRow>,
    parked: &HashMap<i64, u64>,
) -> BTreeMap<BoxId, Found> {
    let mut of_box: BTreeMap<BoxId, Found> = BTreeMap::new();
    for log in logs {
        let found = of_box.entry(log.box_id.clone()).or_default();
        found.parked += parked.get(&log.log).copied().unwrap_or(0);
        found.logs.push(log);
    }
    for gap in gaps {
        of_box.entry(gap.box_id.clone()).or_default().gaps.push(gap);
    }
    for refusal in refusals {
        of_box
            .entry(refusal.box_id)
            .or_default()
            .refusals
            .push(Refusal {
                code: refusal.code,
                count: refusal.count,
                last: Stamp(refusal.last),
            });
    }
    of_box
}

fn box_status(known: BoxRow, found: Found, now: UnixMs) -> BoxStatus {
    let sum = |of: fn(&LogRow) -> u64| found.logs.iter().map(of).sum();
    // Logs are numbered in the order in which they were first seen.
    let newest = found
        .logs
        .iter()
        .max_by_key(|log| log.log)
        .map(|log| log.epoch);
    let mut logs: Vec<&LogRow> = found.logs.iter().collect();
    logs.sort_by_key(|log| (Some(log.epoch) != newest, log.epoch, log.lane));
    BoxStatus {
        certificate_days: (known.not_after.0 - now.0).div_euclid(DAY_MS),
        suspected_clone: !clones(&found.logs).is_empty(),
        entries: sum(|log| log.entries),
        doubles: sum(|log| log.doubles),
        bytes: sum(|log| log.bytes),
        lost: found
            .gaps
            .iter()
            .map(|gap| gap.first.count_to(gap.last))
            .sum(),
        gaps: found.gaps.len() as u64,
        parked: found.parked,
        presence: known.presence.as_deref().and_then(Presence::parse),
        presence_at: known.presence_at.map(Stamp),
        registered: Stamp(known.registered),
        last_seen: known.last_seen.map(Stamp),
        box_id: known.box_id,
        agency: known.agency,
        state: known.state,
        logs: logs
            .into_iter()
            .map(|log| LogStatus {
                lane: log.lane,
                epoch: log.epoch,
                current: Some(log.epoch) == newest,
                applied: log.applied,
                entries: log.entries,
                doubles: log.doubles,
                bytes: log.bytes,
                last: Stamp(log.last_at),
            })
            .collect(),
        refusals: found.refusals,
        down: found.down,
        loads: found.loads,
        undelivered: found.undelivered,
    }
}

/// Boxes whose name two machines seem to use: an epoch grew although a newer one had begun. A box
/// that is restored begins a new epoch and never goes back to an old one.
pub fn clones(logs: &[LogRow]) -> HashSet<BoxId> {
    let mut epochs: HashMap<(&BoxId, Epoch), (UnixMs, UnixMs)> = HashMap::new();
    for log in logs {
        let (begun, grown) = epochs
            .entry((&log.box_id, log.epoch))
            .or_insert((log.first_at, log.last_at));
        *begun = log.first_at.min(*begun);
        *grown = log.last_at.max(*grown);
    }
    let mut found = HashSet::new();
    for ((box_id, epoch), (begun, grown)) in &epochs {
        let overtaken = epochs.iter().any(|((other, newer), (newer_begun, _))| {
            other == box_id
                && newer != epoch
                && begun <= newer_begun
                && newer_begun.0 + CLONE_AFTER_MS < grown.0
        });
        if overtaken {
            found.insert((*box_id).clone());
        }
    }
    found
}

fn totals(boxes: &[BoxStatus], strangers: &[Refusals]) -> Totals {
    let mut totals = Totals {
        boxes: boxes.len() as u64,
        ..Totals::default()
    };
    let count = |refusals: &[Refusal]| refusals.iter().map(|refusal| refusal.count).sum::<u64>();
    for known in boxes {
        totals.active += u64::from(known.state == BoxState::Active);
        totals.entries += known.entries;
        totals.doubles += known.doubles;
        totals.bytes += known.bytes;
        totals.lost += known.lost;
        totals.waiting_down += known.down.as_ref().map_or(0, |down| down.waiting);
        let undelivered = known.undelivered.iter();
        totals.undelivered += undelivered.map(|one| one.count).sum::<u64>();
        totals.parked += known.parked;
        totals.refused += count(&known.refusals);
        totals.suspected_clones += u64::from(known.suspected_clone);
        if let Some(presence) = &known.presence {
            totals.online += u64::from(presence.online);
            totals.waiting += presence.waiting.unwrap_or_default().iter().sum::<u64>();
        }
    }
    totals.refused += strangers
        .iter()
        .map(|stranger| count(&stranger.refusals))
        .sum::<u64>();
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Capture, Chain};

    fn log(epoch: u64, first_ms: i64, last_ms: i64) -> LogRow {
        LogRow {
            log: epoch as i64,
            box_id: "xa-a".parse().unwrap(),
            epoch: Epoch(epoch),
            lane: Lane::P2,
            life: epoch as i64,
            begin: Seq(1),
            applied: Seq(1),
            chain: Chain::ZERO,
            max_capture: Capture(1),
            entries: 1,
            doubles: 0,
            bytes: 1,
            first_at: UnixMs(first_ms),
            last_at: UnixMs(last_ms),
        }
    }

    #[test]
    fn an_old_epoch_that_grows_again_is_a_clone() {
        let hour = 3_600_000;
        assert!(clones(&[log(1, 0, hour), log(2, hour, 9 * hour)]).is_empty());
        assert!(clones(&[log(1, 0, hour + 1000), log(2, hour, 9 * hour)]).is_empty());
        assert_eq!(
            clones(&[log(1, 0, 5 * hour), log(2, hour, 9 * hour)]).len(),
            1
        );
    }

    #[test]
    fn a_presence_may_be_short_or_foreign() {
        let will = Presence::parse(r#"{"online":false}"#).unwrap();
        assert!(!will.online && will.waiting.is_none());
        let full = Presence::parse(
            r#"{"online":true,"version":"0.1.0","waiting":[0,1,2,3,4],"oldest_waiting_s":5,
                "certificate_days":729,"since":"2026-08-01T00:00:00Z","new":1}"#,
        )
        .unwrap();
        assert_eq!(full.waiting, Some([0, 1, 2, 3, 4]));
        assert_eq!(Presence::parse("yes"), None);
    }
}
