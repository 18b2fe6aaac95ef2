//! What goes wrong, and the end of it.

use bytes::Bytes;
use lienthong::engine::sending;
use lienthong::evidence::BatchClaim;
use lienthong::model::limits::MESSAGE_BYTES_MAX;
use lienthong::model::{Chain, ClockQuality, Epoch, Lane, Seq, UnixMs};
use lienthong::store::hub::BoxState;
use lienthong::sync::{Ack, LogName};
use lienthong::wire::{BatchBuilder, Receipt};

use crate::check::{Checked, Timeline};
use crate::keys;
use crate::papers::URGENT_WITHIN_MS;
use crate::plan::{HUB_QUOTA_BYTES, Incident, Net};
use crate::world::{Happening, World};

impl World {
    pub fn suffer(&mut self, incident: Incident) -> Checked {
        self.note(format_args!("{incident:?}"));
        match incident {
            Incident::Cut(office) => self.end_session(office),
            Incident::HalfOpen(office) => {
                if let Some(session) = &mut self.broker.sessions[office] {
                    session.half_open = true;
                }
            }
            Incident::Unreachable(office, ms) => {
                self.broker.unreachable_until[office] = self.now_ms + ms;
                self.end_session(office);
            }
            Incident::BrokerRestart => self.restart_broker(),
            Incident::Suspend(office) => self.center.set_state(office, BoxState::Suspended),
            Incident::Readmit(office) => self.center.set_state(office, BoxState::Active),
            Incident::BoxCrash(office) => {
                let (index, away_ms) = (self.station_of(office), self.dice.between(200, 20_000));
                self.kill_box(index, away_ms);
            }
            Incident::BoxCrashInside(office) => {
                let index = self.station_of(office);
                self.stations[index].dies_inside = true;
            }
            Incident::BoxRestart(office) => self.restart_box(office),
            Incident::HubCrash(away_ms) => self.kill_hub(away_ms),
            Incident::HubCrashInside(_) => self.center.dies_inside = true,
            Incident::HubCopy => {
                let copied = self.center.files.copy_aside(self.now_ms);
                self.hub_copy = Some((copied, self.orders.facts.len()));
            }
            Incident::HubPutBack => {
                if let Some((copied, ordered)) = self.hub_copy.clone() {
                    let away_ms = self.dice.between(200, 20_000);
                    self.kill_hub(away_ms);
                    self.center.put_back(&copied);
                    self.orders.hub_was_set_back(ordered);
                    self.hub_forgot_logs();
                }
            }
            Incident::BoxCopy(office) => {
                let index = self.station_of(office);
                let station = &self.stations[index];
                let copied = station.files.copy_aside(self.now_ms);
                let timeline = self.checker.timelines[station.timeline].clone();
                self.box_copies.insert(office, (index, copied, timeline));
            }
            Incident::BoxPutBack(office) => self.put_box_back(office),
            Incident::BoxClone(office) => self.clone_box(office),
            Incident::BoxClock(office, days) => {
                let quality = self.quality();
                let index = self.station_of(office);
                self.stations[index].clock.jump(days, quality);
            }
            Incident::HubClock(days) => {
                let quality = self.quality();
                self.center.clock.jump(days, quality);
            }
            Incident::MessageLimit(bytes) => {
                self.broker.limit = bytes;
                self.restart_broker();
            }
            Incident::ForgedBatch(office) => self.forge_batch(office),
            Incident::ForgedReceipt(office) => self.forge_receipt(office),
            Incident::ForeignBatch(office) => {
                if let Some(message) = self.broker.overheard[office].clone() {
                    let victim = (office + 1) % self.plan.offices;
                    self.arrive_at_hub(victim, message);
                }
            }
            Incident::DownCrashInside(office) => {
                let index = self.station_of(office);
                self.stations[index].down.dies_inside = true;
            }
            Incident::DownLost(office) => {
                let index = self.station_of(office);
                self.kill_box(index, 2_000);
                self.stations[index].set_down_back(None);
            }
            Incident::DownCopy(office) => {
                let index = self.station_of(office);
                let copied = self.stations[index].down.files.copy_aside(self.now_ms);
                self.down_copies.insert(office, (index, copied));
            }
            Incident::DownPutBack(office) => {
                if let Some((index, copied)) = self.down_copies.get(&office).cloned() {
                    self.kill_box(index, 2_000);
                    self.stations[index].set_down_back(Some(&copied));
                }
            }
            Incident::ForgedDownBatch(office) => self.forge_down_batch(office),
            Incident::ForgedDownReceipt(office) => self.forge_down_receipt(office),
            Incident::ForeignDownBatch(office) => {
                let victim = self.station_of((office + 1) % self.plan.offices);
                if let Some(message) = self.broker.overheard_down[office].last().cloned() {
                    self.hand_to_running(victim, message);
                }
            }
            Incident::ForeignDownReceipt(office) => {
                if let Some(message) = self.broker.overheard_receipt[office].clone() {
                    self.arrive_at_hub((office + 1) % self.plan.offices, message);
                }
            }
            Incident::FileHarmed(office) => {
                let index = self.station_of(office);
                self.stations[index].down.harms = true;
            }
            Incident::DiskFull(office, ms) => {
                let index = self.station_of(office);
                self.set_disk_full(index, true);
                self.at(self.now_ms + ms, Happening::DiskFull(index, false));
            }
            Incident::ReplayedDown(office) => {
                let index = self.station_of(office);
                let oldest: Vec<_> = self.broker.overheard_down[office].clone();
                for message in oldest.into_iter().take(8) {
                    self.hand_to_running(index, message);
                }
            }
        }
        Ok(())
    }

    pub fn set_disk_full(&mut self, index: usize, is_full: bool) {
        if let Some(disk) = &self.stations[index].down.disk {
            disk.set_full(is_full);
        }
    }

    fn quality(&mut self) -> ClockQuality {
        self.dice.pick(&[
            ClockQuality::Synchronized,
            ClockQuality::Free,
            ClockQuality::Floor,
        ])
    }

    /// One of the machines that run as this box.
    fn station_of(&mut self, office: usize) -> usize {
        let all: Vec<usize> = (0..self.stations.len())
            .filter(|&index| self.stations[index].office == office)
            .collect();
        self.dice.pick(&all)
    }

    fn restart_box(&mut self, office: usize) {
        let index = self.station_of(office);
        self.note(format_args!("box {index} stops in order"));
        if self.broker.sessions[office].is_some_and(|session| session.station == index) {
            self.broker.sessions[office] = None;
        }
        // A store that is full may refuse even this; then the process ends all the same.
        if let Err(error) = self.stations[index].stop() {
            self.note(format_args!("  not quite: {error}"));
            self.stations[index].die();
        }
        self.open_box_in(index, 500);
    }

    /// The store of a box is set back: a new branch of history begins at the copy.
    fn put_box_back(&mut self, office: usize) {
        let Some((index, copied, timeline)) = self.box_copies.get(&office).cloned() else {
            return;
        };
        self.kill_box(index, 2_000);
        let old = self.stations[index].timeline;
        self.checker.timelines[old].alive = false;
        self.stations[index].put_back(&copied);
        self.checker.timelines.push(timeline);
        self.stations[index].timeline = self.checker.timelines.len() - 1;
    }

    fn clone_box(&mut self, office: usize) {
        let index = self.station_of(office);
        let copied = self.stations[index].files.copy_aside(self.now_ms);
        let timeline: Timeline = self.checker.timelines[self.stations[index].timeline].clone();
        let clone = self.add_station(office, timeline);
        self.stations[clone].put_back(&copied);
        self.stations[clone].contents = self.stations[index].contents.copied();
        self.open_box_in(clone, 1_000);
        for number in 0..self.stations[index].sources.len() {
            let dice = self.dice.fork();
            if let Some(cloned) = self.stations[index].sources[number].cloned(dice) {
                let sources = &mut self.stations[clone].sources;
                sources.truncate(number);
                sources.push(cloned);
            }
        }
    }

    // === Forgers ===

    /// A stranger goes on with a box's log.
    fn forge_batch(&mut self, office: usize) {
        let index = self.station_of(office);
        let station = &self.stations[index];
        let Some(epoch) = self.checker.timelines[station.timeline].epochs.last() else {
            return;
        };
        let known = self.checker.at_hub.get(&(office, *epoch, 2));
        let (applied, base) = known.map_or((0, [0; 32]), |log| (log.applied, log.chain));
        let entry = br#"{"data":{"uid":0}}"#;
        let claim = BatchClaim {
            box_id: &station.box_id,
            lane: Lane::P2,
            epoch: Epoch(*epoch),
            begin: Seq(1),
            oldest: Seq(1),
            first: Seq(applied + 1),
            last: Seq(applied + 1),
            base: Chain(base),
            chain: Chain(crate::check::sha256([&base, entry])),
        };
        let mut builder = BatchBuilder::default();
        assert!(builder.push(entry));
        let signature = keys::stranger().sign(&claim);
        let message = builder
            .encode(&claim, &signature, MESSAGE_BYTES_MAX)
            .expect("a small batch");
        self.arrive_at_hub(office, message.into());
    }

    fn hand_to_running(&mut self, index: usize, message: Bytes) {
        if self.stations[index].running.is_some() {
            self.hand_to_box(index, message);
        }
    }

    /// A stranger sends a box something as if it were the hub.
    fn forge_down_batch(&mut self, office: usize) {
        let index = self.station_of(office);
        let Some(down) = &self.stations[index].down.running else {
            return;
        };
        let position = down.eye.positions().into_iter().next();
        let (lane, epoch, applied) = position.map_or((0, 1 << 61, 0), |position| {
            (position.lane, position.epoch, position.applied)
        });
        let entry = br#"{"sim":{"uid":0}}"#;
        let box_id = self.stations[index].box_id.clone();
        let claim = BatchClaim {
            box_id: &box_id,
            lane: Lane::ALL[lane],
            epoch: Epoch(epoch),
            begin: Seq(1),
            oldest: Seq(applied + 1),
            first: Seq(applied + 1),
            last: Seq(applied + 1),
            base: Chain([0; 32]),
            chain: Chain(crate::check::sha256([&[0; 32], entry])),
        };
        let mut builder = BatchBuilder::default();
        assert!(builder.push(entry));
        let signature = keys::stranger().sign(&claim);
        let message = builder
            .encode(&claim, &signature, MESSAGE_BYTES_MAX)
            .expect("a small batch");
        self.hand_to_running(index, message.into());
    }

    /// A stranger tells the hub that a box has everything.
    fn forge_down_receipt(&mut self, office: usize) {
        let Some(running) = &self.center.running else {
            return;
        };
        let lanes = running.eye.down_lanes().into_iter();
        let waits = lanes.filter(|lane| lane.office == office && lane.acked < lane.newest);
        for lane in waits {
            let box_id = crate::check::box_name(office).parse().expect("valid");
            let mut receipt = Receipt {
                ack: Ack {
                    log: LogName {
                        lane: Lane::ALL[lane.lane],
                        epoch: Epoch(lane.epoch),
                    },
                    applied: Seq(lane.newest),
                    resend: false,
                },
                chain: Chain(lane.chain),
                refused: None,
                hub_time: UnixMs(0),
                signature: [0; 64],
            };
            receipt.signature = keys::stranger().sign(&receipt.claim(&box_id));
            self.arrive_at_hub(office, receipt.encode().into());
        }
    }

    /// A stranger tells a box that everything has arrived.
    fn forge_receipt(&mut self, office: usize) {
        let index = self.station_of(office);
        let station = &self.stations[index];
        let line = &self.checker.timelines[station.timeline];
        let newest = line.newest();
        let Some(lane) = (0..5).find(|&lane| line.acked[lane] < newest[lane]) else {
            return;
        };
        let mut receipt = Receipt {
            ack: Ack {
                log: LogName {
                    lane: Lane::ALL[lane],
                    epoch: Epoch(line.epoch()),
                },
                applied: Seq(newest[lane]),
                resend: false,
            },
            chain: Chain(*line.chain[lane].last().expect("there is an entry")),
            refused: None,
            hub_time: UnixMs(0),
            signature: [0; 64],
        };
        receipt.signature = keys::stranger().sign(&receipt.claim(&station.box_id));
        let message: Bytes = receipt.encode().into();
        if station.running.is_some() {
            let event = sending::Event::Received(message);
            self.stations[index].pending.push(event);
            self.wake_box_in(index, 0, 10);
        }
    }

    // === Healing ===

    /// Every fault stops. What is broken at this moment stays so until somebody notices.
    pub fn heal(&mut self) {
        self.note(format_args!("the faults stop"));
        self.healed_ms = Some(self.now_ms);
        self.net = Net::HEALED;
        self.broker.unreachable_until.fill(0);
        for office in 0..self.plan.offices {
            // The copy that the hub was set back to may have been made while it was shut out.
            self.center.set_state(office, BoxState::Active);
        }
        self.center.dies_inside = false;
        for station in &mut self.stations {
            station.dies_inside = false;
            station.down.dies_inside = false;
            station.down.harms = false;
        }
        for index in 0..self.stations.len() {
            self.set_disk_full(index, false);
        }
        if self.plan.has_papers {
            self.at(self.now_ms + URGENT_WITHIN_MS, Happening::Urgent);
        }
        if self.broker.limit < MESSAGE_BYTES_MAX {
            self.broker.limit = MESSAGE_BYTES_MAX;
            self.restart_broker();
        }
        if self.plan.hub_quota_bytes < HUB_QUOTA_BYTES {
            self.center.quota_bytes = HUB_QUOTA_BYTES;
            self.kill_hub(1_000);
        }
        for index in 0..self.stations.len() {
            for source in 0..self.stations[index].sources.len() {
                self.stations[index].sources[source].due = Some(self.now_ms + 1_000);
                self.at(self.now_ms + 1_000, Happening::Act(index, source));
            }
        }
    }

    /// A receipt on its way into a box: what the checkers need to know of it.
    pub fn overhear_receipt(&mut self, index: usize, message: &Bytes) {
        let Ok(receipt) = Receipt::decode(message) else {
            return;
        };
        let station = &mut self.stations[index];
        let claim = receipt.claim(&station.box_id);
        let signed = keys::hub_public().verify(&claim, &receipt.signature);
        if signed.is_err() {
            return;
        }
        let line = &self.checker.timelines[station.timeline];
        if receipt.ack.log.epoch.0 == line.epoch() {
            let traffic = &mut station.traffic.lanes[receipt.ack.log.lane.index()];
            traffic.heard = traffic.heard.max(receipt.ack.applied.0);
            traffic.greeted = false;
        }
    }
}
