//! The other direction: orders at the hub, what each box holds of them, and the checkers' books of it.
//!
//! The entries are of a kind that no program understands, so a box keeps them as they came and the
//! checkers can compare. What stands for the hub's subscriptions here loads a box again when the
//! engine asks for it.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use lienthong::engine::copying;
use lienthong::model::fault;
use lienthong::model::{BoxId, Lane, UnixMs};
use lienthong::store::Options;
use lienthong::store::hub::HubStore;
use lienthong::store::hub::down::{Posted, Reload};
use lienthong::sync::Ack;
use lienthong::wire::Receipt;

use crate::check::{
    Checked, FORGOTTEN, GAPS, INVENTED, LOST, ORDER, RECEIPTS, TWICE, Violation, box_name, violated,
};
use crate::eyes::{DownEye, HubEye};
use crate::keys;
use crate::net::Direction;
use crate::papers::Papers;
use crate::plan::HUB_QUOTA_BYTES;
use crate::world::{Happening, World};

/// An entry that was ordered.
pub struct Fact {
    pub office: usize,
    pub lane: usize,
    pub uid: u64,
    /// False: the hub's store was set back to before it.
    pub alive: bool,
}

/// What the checkers know of the downlink.
#[derive(Default)]
pub struct Orders {
    pub facts: Vec<Fact>,
    by_bytes: HashMap<(usize, Vec<u8>), usize>,
    uids: u64,
    /// Up to which number a box has ever committed a log: office, epoch, lane.
    committed: BTreeMap<(usize, u64, usize), u64>,
    /// Boxes that are being loaded again: the uids that are still to be ordered.
    pub loads: BTreeMap<usize, Vec<(u64, usize)>>,
}

/// What one store of a box was seen to hold.
#[derive(Default)]
pub struct Held {
    last_row: i64,
    last_seq: BTreeMap<(u64, usize), (u64, usize)>,
    facts: HashSet<(u64, usize)>,
    uids: HashSet<u64>,
}

impl Orders {
    /// Uids of an office that the hub has not forgotten, in the order of their first order.
    fn living(&self, office: usize) -> Vec<(u64, usize)> {
        let mut seen = HashSet::new();
        let facts = self.facts.iter();
        facts
            .filter(|fact| fact.office == office && fact.alive && seen.insert(fact.uid))
            .map(|fact| (fact.uid, fact.lane))
            .collect()
    }

    pub fn hub_was_set_back(&mut self, facts: usize) {
        for fact in &mut self.facts[facts..] {
            fact.alive = false;
        }
    }

    /// Reads what a box's store holds now that it did not hold before.
    pub fn look_at_box(&mut self, office: usize, held: &mut Held, eye: &DownEye) -> Checked {
        for row in eye.entries_after(held.last_row) {
            held.last_row = row.number;
            let Some(&fact) = self.by_bytes.get(&(office, row.entry)) else {
                let what = format!("office {office} has what was never ordered for it");
                return violated(INVENTED, what);
            };
            let (uid, lane) = (self.facts[fact].uid, self.facts[fact].lane);
            if lane != row.lane {
                return violated(ORDER, format!("{uid} of lane {lane} came in {}", row.lane));
            }
            let key = (row.epoch, row.lane);
            let last = held.last_seq.insert(key, (row.seq, fact));
            if !held.facts.insert((row.epoch, fact)) {
                return violated(
                    TWICE,
                    format!("office {office}: {uid} came twice in {key:?}"),
                );
            }
            if last.is_some_and(|(seq, before)| row.seq <= seq || fact <= before) {
                return violated(
                    ORDER,
                    format!("office {office}: {uid} came late in {key:?}"),
                );
            }
            held.uids.insert(uid);
        }
        for position in eye.positions() {
            let key = (office, position.epoch, position.lane);
            let known = self.committed.entry(key).or_default();
            *known = position.applied.max(*known);
        }
        Ok(())
    }

    /// What the hub has forgotten, or counts as received, a box has committed, or it is said.
    pub fn look_at_hub(&self, eye: &HubEye) -> Checked {
        let gaps = eye.down_gaps();
        for lane in eye.down_lanes() {
            let key = (lane.office, lane.epoch, lane.lane);
            let committed = self.committed.get(&key).copied().unwrap_or(0);
            let received = committed.max(lane.begin - 1);
            let dropped = gaps
                .iter()
                .filter(|gap| gap.0 == key)
                .map(|gap| gap.1.1)
                .max();
            if received.max(dropped.unwrap_or(0)) < lane.acked {
                let what = format!("{key:?}: received to {}, held {received}", lane.acked);
                return violated(FORGOTTEN, what);
            }
            if received.max(dropped.unwrap_or(0)) < lane.tail {
                let what = format!("{key:?}: dropped to {}, held {received}", lane.tail);
                return violated(GAPS, what);
            }
        }
        Ok(())
    }

    /// Every number of a log was applied or is noted as lost.
    fn check_whole(&self, office: usize, eye: &DownEye, papers: &Papers) -> Checked {
        let mut have: HashMap<(u64, usize), HashSet<u64>> = HashMap::new();
        let mut begin: HashMap<(u64, usize), u64> = HashMap::new();
        for row in eye.entries_after(0) {
            let key = (row.epoch, row.lane);
            have.entry(key).or_default().insert(row.seq);
            let first = begin.entry(key).or_insert(row.seq);
            *first = row.seq.min(*first);
        }
        for (&(_, epoch, lane), numbers) in papers
            .beside_orders
            .iter()
            .filter(|(log, _)| log.0 == office)
        {
            have.entry((epoch, lane)).or_default().extend(numbers);
        }
        for (epoch, lane, first, last) in eye.gaps() {
            have.entry((epoch, lane)).or_default().extend(first..=last);
        }
        for position in eye.positions() {
            let key = (position.epoch, position.lane);
            let Some(&first) = begin.get(&key) else {
                continue;
            };
            for seq in first..=position.applied {
                if !have[&key].contains(&seq) {
                    return violated(
                        LOST,
                        format!("office {office} {key:?}: {seq} is neither held nor said lost"),
                    );
                }
            }
        }
        Ok(())
    }
}

impl World {
    // === At the hub ===

    fn registry(&self) -> HubStore {
        let options = Options {
            quota_bytes: HUB_QUOTA_BYTES,
            cache_bytes: 64 * 1024,
        };
        HubStore::open(&self.center.files.path(), options).expect("the store is there")
    }

    /// Somebody orders new entries, in a process of his own.
    pub fn order(&mut self, office: usize, lane: usize, count: u64) {
        let mut uids = Vec::new();
        for _ in 0..count {
            self.orders.uids += 1;
            uids.push((self.orders.uids, lane));
        }
        self.order_uids(office, &uids, false);
    }

    /// One transaction; with the first of a load, the hub's wish for it is struck off.
    fn order_uids(&mut self, office: usize, uids: &[(u64, usize)], is_load: bool) {
        let box_id: BoxId = box_name(office).parse().expect("valid");
        let mut registry = self.registry();
        if registry.begin().is_err() {
            return;
        }
        if is_load {
            registry.reloading(&box_id).expect("written");
        }
        for &(uid, lane) in uids {
            let pad = self.dice.below(self.plan.record_bytes);
            let mark = self.dice.roll();
            let entry = format!(
                r#"{{"sim":{{"uid":{uid},"mark":{mark},"pad":"{}"}}}}"#,
                "x".repeat(pad as usize)
            );
            let posted = registry.post(&box_id, Lane::ALL[lane], entry.as_bytes(), UnixMs(0));
            assert_eq!(posted.expect("written"), Posted::Ordered);
            self.orders.facts.push(Fact {
                office,
                lane,
                uid,
                alive: true,
            });
            let fact = self.orders.facts.len() - 1;
            self.orders
                .by_bytes
                .insert((office, entry.into_bytes()), fact);
        }
        registry.commit().expect("committed");
        self.note(format_args!("ordered for {office}: {uids:?}"));
        self.wake_hub_in(0, 1_000);
    }

    pub fn asked_to_load(&mut self, office: usize, why: Reload) {
        self.note(format_args!(
            "  hub wants {office} loaded again: {}",
            why.as_str()
        ));
        let at = self.now_ms + self.dice.between(10, 2_000);
        self.at(at, Happening::Load(office, why));
    }

    /// What the hub's subscriptions would do.
    pub fn load(&mut self, office: usize, why: Reload) {
        if self.center.running.is_none() {
            if self.plan.has_papers {
                self.at(self.now_ms + 2_000, Happening::Load(office, why));
            }
            return; // It is asked again when it runs and the box is heard.
        }
        let living = match why {
            // What there is was ordered just now.
            Reload::New => Vec::new(),
            _ => self.orders.living(office),
        };
        self.orders.loads.insert(office, living);
        self.order_uids(office, &[], true);
        self.load_on(office);
    }

    /// Orders what there is room for.
    pub fn load_on(&mut self, office: usize) {
        let Some(mut left) = self.orders.loads.remove(&office) else {
            return;
        };
        let box_id: BoxId = box_name(office).parse().expect("valid");
        let registry = self.registry();
        while let Some(&(uid, lane)) = left.first() {
            let waiting = registry.down_waiting_bytes(&box_id, Lane::ALL[lane]);
            if self.plan.down_lane_bytes / 2 < waiting.expect("read") {
                break;
            }
            left.remove(0);
            self.order_uids(office, &[(uid, lane)], false);
        }
        if !left.is_empty() {
            self.orders.loads.insert(office, left);
            self.at(self.now_ms + 1_000, Happening::LoadOn(office));
        }
    }

    // === A box ===

    pub fn wake_down_in(&mut self, index: usize, least_ms: u64, most_ms: u64) {
        let at = self.now_ms + self.dice.between(least_ms, most_ms);
        self.wake_down_at(index, at);
    }

    fn wake_down_at(&mut self, index: usize, at: u64) {
        let down = &mut self.stations[index].down;
        if down.running.is_some() && down.wake_at.is_none_or(|wake| at < wake) {
            down.wake_at = Some(at);
            self.at(at, Happening::WakeDown(index));
        }
    }

    pub fn step_down(&mut self, index: usize) -> Checked {
        let now = self.stations[index].now(self.now_ms);
        let station = &mut self.stations[index];
        let (office, down) = (station.office, &mut station.down);
        let Some(running) = &mut down.running else {
            return Ok(());
        };
        let events = std::mem::take(&mut down.pending);
        let dies = down.dies_inside && !events.is_empty();
        if dies {
            down.dies_inside = false;
            fault::crash_before_next_commit();
        }
        self.steps += 1;
        let count = events.len();
        let result = running.engine.step(now, events);
        if dies {
            fault::is_crash_due();
        }
        let next = running.engine.poll_timeout();
        let boot_ms = station
            .running
            .as_ref()
            .map_or(0, |running| running.boot_ms);
        match result {
            Ok(effects) => {
                self.note(format_args!(
                    "down {index}: {count} events, {} effects",
                    effects.len()
                ));
                let down = &mut self.stations[index].down;
                let eye = &down.running.as_ref().expect("it made a step").eye;
                self.orders.look_at_box(office, &mut down.held, eye)?;
                for effect in effects {
                    self.effect_of_down(index, effect)?;
                }
                if dies {
                    let away_ms = self.dice.between(200, 10_000);
                    self.kill_box(index, away_ms);
                } else if let Some(next) = next {
                    self.wake_down_at(index, (boot_ms + next).max(self.now_ms + 1));
                }
                Ok(())
            }
            Err(error) => {
                self.note(format_args!("down {index}: {count} events: {error}"));
                let away_ms = self.dice.between(200, 10_000);
                self.kill_box(index, away_ms);
                Ok(())
            }
        }
    }

    fn effect_of_down(&mut self, index: usize, effect: copying::Effect) -> Checked {
        if let copying::Effect::FileCame = effect {
            self.file_came(index);
        }
        if let copying::Effect::Applied { .. } = effect {
            self.keep_in(index, 100, 60_000);
        }
        let copying::Effect::Publish(message) = effect else {
            self.note(format_args!("  {effect:?}"));
            return Ok(());
        };
        self.check_receipt(index, &message)?;
        let station = &self.stations[index];
        let office = station.office;
        let Some((connection, _)) = station.link else {
            return Ok(());
        };
        self.broker.overheard_receipt[office] = Some(message.clone());
        let session = self.broker.sessions[office];
        if session.is_some_and(|session| session.connection == connection && !session.half_open) {
            self.carry(Direction::Up, office, message);
        }
        Ok(())
    }

    /// A box's receipt is signed, and its store holds what it names.
    fn check_receipt(&mut self, index: usize, message: &Bytes) -> Checked {
        let Ok(receipt) = Receipt::decode(message) else {
            return violated(RECEIPTS, format!("box {index} sends what is no receipt"));
        };
        let station = &self.stations[index];
        let claim = receipt.claim(&station.box_id);
        let key = keys::office(station.office).public_key();
        if key.verify(&claim, &receipt.signature).is_err() {
            return violated(RECEIPTS, format!("box {index} does not sign"));
        }
        self.note(format_args!(
            "  box {index} has {} {} of {}{}",
            receipt.ack.log.lane,
            receipt.ack.applied,
            receipt.ack.log.epoch,
            if receipt.ack.resend { ", again" } else { "" }
        ));
        if receipt.ack == Ack::GREET {
            return Ok(());
        }
        let eye = &self.stations[index]
            .down
            .running
            .as_ref()
            .expect("it made a step")
            .eye;
        let (lane, epoch) = (receipt.ack.log.lane.index(), receipt.ack.log.epoch.0);
        let positions = eye.positions();
        let held = positions
            .iter()
            .find(|position| position.lane == lane && position.epoch == epoch)
            .map_or(0, |position| position.applied);
        // Within one step a newer epoch may have come behind it.
        let is_over = positions.iter().any(|position| epoch < position.epoch);
        match held < receipt.ack.applied.0 && !is_over {
            true => violated(
                RECEIPTS,
                format!(
                    "box {index}: receipt for {}, held {held}",
                    receipt.ack.applied
                ),
            ),
            false => Ok(()),
        }
    }

    // === The end ===

    /// What has not gone down yet.
    pub fn lacks_down(&self) -> Option<String> {
        let running = self.center.running.as_ref()?;
        if running.eye.orders() != 0 || !self.orders.loads.is_empty() {
            return Some("there are orders".into());
        }
        for lane in running.eye.down_lanes() {
            if self.checker.is_cloned(lane.office) {
                continue;
            }
            let mut stations = self.stations.iter();
            let station = stations.find(|station| station.office == lane.office)?;
            let Some(down) = &station.down.running else {
                return Some("a box is down".into());
            };
            let positions = down.eye.positions();
            let here = |position: &&crate::eyes::PositionRow| {
                position.lane == lane.lane && position.epoch == lane.epoch
            };
            let applied = positions
                .iter()
                .find(here)
                .map_or(lane.begin - 1, |p| p.applied);
            let is_asked = lane.reload && !self.plan.has_papers;
            if is_asked || lane.acked != lane.newest || applied != lane.newest {
                return Some(format!(
                    "down to {} lane {}: {} ordered, {applied} there, receipt for {}, reload {}",
                    lane.office, lane.lane, lane.newest, lane.acked, lane.reload
                ));
            }
        }
        None
    }

    /// Each box holds what was ordered for it, in whole logs.
    pub fn check_down(&self) -> Checked {
        for (index, station) in self.stations.iter().enumerate() {
            let Some(down) = &station.down.running else {
                return violated(LOST, format!("box {index} is down"));
            };
            self.orders
                .check_whole(station.office, &down.eye, &self.papers)?;
            if self.checker.is_cloned(station.office) {
                continue;
            }
            for (uid, lane) in self.orders.living(station.office) {
                if !station.down.held.uids.contains(&uid) {
                    return Err(Violation {
                        checker: LOST,
                        what: format!("box {index} lacks {uid} of lane {lane}"),
                    });
                }
            }
        }
        Ok(())
    }
}
