//! One step of a box or of the hub: events in, effects out, and what the checkers make of them.

use bytes::Bytes;
use lienthong::engine::{receiving, sending};
use lienthong::model::{BoxId, fault};
use lienthong::store::StoreError;
use lienthong::wire::Receipt;

use crate::check::{AGAIN, Checked, LIMIT, LOST, ORDER, URGENT, box_name, office_of, violated};
use crate::net::Direction;
use crate::papers::ASKING;
use crate::sources::{Reply, Surroundings};
use crate::world::{Happening, World};

/// Batches of other lanes that may go out before a waiting lane's: the two most urgent lanes wait
/// only for lanes whose floor is due, the others until their own floor is due.
const PASSED_OVER_MAX: [u32; 5] = [4, 8, 12, 12, 12];

impl World {
    // === Processes ===

    pub fn open_box_in(&mut self, index: usize, after_ms: u64) {
        let at = self.now_ms + after_ms;
        self.stations[index].open_at = Some(at);
        self.at(at, Happening::OpenBox(index));
    }

    pub fn open_box(&mut self, index: usize) -> Checked {
        let now_ms = self.now_ms;
        let station = &mut self.stations[index];
        station.open_at = None;
        if let Err(error) = station.open(now_ms) {
            self.note(format_args!("box {index} does not open: {error}"));
            self.open_box_in(index, 5_000);
            return Ok(());
        }
        self.note(format_args!("box {index} runs"));
        self.look_at_box(index)?;
        let station = &mut self.stations[index];
        if let Some(running) = &station.down.running {
            let held = &mut station.down.held;
            self.orders
                .look_at_box(station.office, held, &running.eye)?;
        }
        self.check_received(index)?;
        self.keep_in(index, 10, 2_000);
        self.schedule_sources(index);
        self.wake_box_in(index, 0, 100);
        self.connect_box_in(index, 100, 5_000);
        Ok(())
    }

    /// The process dies; its supervisor starts it again.
    pub fn kill_box(&mut self, index: usize, away_ms: u64) {
        let office = self.stations[index].office;
        self.note(format_args!("box {index} dies"));
        if self.broker.sessions[office].is_some_and(|session| session.station == index) {
            self.broker.sessions[office] = None;
            self.tell_presence(office);
        }
        self.stations[index].die();
        self.open_box_in(index, away_ms);
    }

    pub fn open_hub(&mut self) -> Checked {
        self.center.open_at = None;
        if let Err(error) = self.center.open(self.now_ms) {
            self.note(format_args!("the hub does not open: {error}"));
            self.open_hub_in(5_000);
            return Ok(());
        }
        self.note(format_args!("the hub runs"));
        let running = self.center.running.as_ref().expect("just opened");
        if std::mem::take(&mut self.center.was_set_back) {
            self.checker.hub_was_set_back(&running.eye)?;
        } else {
            self.checker.hub_was_restarted(&running.eye)?;
        }
        self.checker.check_parts(&running.eye, &self.center.parts)?;
        if !self.plan.external_broker {
            self.broker.up = true;
        }
        let at = self.now_ms + self.dice.between(1, 2_000);
        self.connect_hub_at(at);
        Ok(())
    }

    pub fn open_hub_in(&mut self, after_ms: u64) {
        let at = self.now_ms + after_ms;
        self.center.open_at = Some(at);
        self.at(at, Happening::OpenHub);
    }

    /// The hub's process dies, and with it the broker that it has inside.
    pub fn kill_hub(&mut self, away_ms: u64) {
        self.note(format_args!("the hub dies"));
        self.center.die();
        if !self.plan.external_broker {
            self.broker.up = false;
            self.end_all_sessions();
        }
        self.open_hub_in(away_ms);
    }

    // === A box ===

    pub fn wake_box_in(&mut self, index: usize, least_ms: u64, most_ms: u64) {
        let at = self.now_ms + self.dice.between(least_ms, most_ms);
        self.wake_box_at(index, at);
    }

    fn wake_box_at(&mut self, index: usize, at: u64) {
        let station = &mut self.stations[index];
        if station.running.is_some() && station.wake_at.is_none_or(|wake| at < wake) {
            station.wake_at = Some(at);
            self.at(at, Happening::WakeBox(index));
        }
    }

    pub fn step_box(&mut self, index: usize) -> Checked {
        let now = self.stations[index].now(self.now_ms);
        let station = &mut self.stations[index];
        let Some(running) = &mut station.running else {
            return Ok(());
        };
        let events = std::mem::take(&mut station.pending);
        let dies = station.dies_inside && !events.is_empty();
        if dies {
            station.dies_inside = false;
            fault::crash_before_next_commit();
        }
        self.steps += 1;
        let count = events.len();
        let result = running.engine.step(now, events);
        if result.is_ok() && running.engine.is_synced() {
            station.synced = station.files.synced();
        }
        if dies {
            fault::is_crash_due();
        }
        let next = running.engine.poll_timeout(now.mono_ms);
        let boot_ms = running.boot_ms;
        match result {
            Ok(effects) => {
                self.note(format_args!(
                    "box {index}: {count} events, {} effects",
                    effects.len()
                ));
                self.look_at_box(index)?;
                for effect in effects {
                    self.effect_of_box(index, effect)?;
                }
                if dies {
                    let away_ms = self.dice.between(200, 10_000);
                    self.kill_box(index, away_ms);
                } else if let Some(next) = next {
                    self.wake_box_at(index, (boot_ms + next).max(self.now_ms + 1));
                }
                Ok(())
            }
            Err(error) => {
                self.note(format_args!(
                    "box {index}: {count} events: {}",
                    name(&error)
                ));
                let away_ms = self.dice.between(200, 10_000);
                self.kill_box(index, away_ms);
                Ok(())
            }
        }
    }

    fn look_at_box(&mut self, index: usize) -> Checked {
        let station = &self.stations[index];
        let running = station.running.as_ref().expect("it has just made a step");
        self.checker.look_at_box(station.timeline, &running.eye)
    }

    fn effect_of_box(&mut self, index: usize, effect: sending::Effect<Reply>) -> Checked {
        match effect {
            sending::Effect::Publish(message) => self.publish_from_box(index, message),
            sending::Effect::Answer { reply, answer } => {
                self.note(format_args!("  {reply:?}: {}", shortened(&answer)));
                if reply.source == ASKING {
                    self.asked(index, reply.number, &answer);
                    return Ok(());
                }
                let station = &mut self.stations[index];
                let mut around = Surroundings {
                    now_ms: self.now_ms,
                    writing: self.now_ms < self.plan.writing_ms,
                    healed: self.healed_ms.is_some(),
                    checker: &mut self.checker,
                    contents: &station.contents,
                };
                let source = &mut station.sources[reply.source];
                source.answered(reply.number, &answer, station.timeline, &mut around)?;
                self.schedule_source(index, reply.source);
                Ok(())
            }
            sending::Effect::RebuildLink => self.rebuild_link(index),
            sending::Effect::BrokerLimit { lane, bytes, limit } => {
                self.note(format_args!("  {lane} rests: {bytes} of {limit} bytes"));
                self.stations[index].traffic.lanes[lane.index()].rests = true;
                Ok(())
            }
            sending::Effect::NewEpoch(epoch) => {
                self.note(format_args!("  box {index} begins epoch {epoch}"));
                self.stations[index].traffic = Default::default();
                Ok(())
            }
            sending::Effect::HubTime(_) => Ok(()),
            sending::Effect::Forgotten(files) => {
                let contents = &self.stations[index].contents;
                files
                    .into_iter()
                    .for_each(|file| contents.remove(file, self.now_ms));
                Ok(())
            }
            sending::Effect::ContentGone(file) => {
                let office = self.stations[index].office;
                match self.checker.has_branches(office) {
                    true => Ok(()),
                    false => violated(LOST, format!("box {index} misses {file}")),
                }
            }
            sending::Effect::RefusedByHub(_) | sending::Effect::ForgedReceipt => {
                self.note(format_args!("  {}", shortened(&effect)));
                Ok(())
            }
        }
    }

    fn publish_from_box(&mut self, index: usize, message: Bytes) -> Checked {
        let Ok(batch) = self.decoder.decode(&message) else {
            return violated(ORDER, format!("box {index} sends what cannot be read"));
        };
        let offer = batch.offer;
        let (lane, first, last) = (offer.log.lane.index(), offer.first.0, offer.last.0);
        self.note(format_args!(
            "  box {index} offers {} {first}..{last} of {} from {}, {} bytes",
            offer.log.lane,
            offer.log.epoch,
            offer.oldest,
            message.len()
        ));
        let station = &self.stations[index];
        let office = station.office;
        let Some((connection, limit)) = station.link else {
            return Ok(()); // The link went in this very step.
        };
        if limit < message.len() {
            let what = format!("{} bytes, where {limit} are carried", message.len());
            return violated(LIMIT, what);
        }
        self.check_turn(index, lane, first, last)?;
        self.broker.overheard[office] = Some(message.clone());
        let session = self.broker.sessions[office];
        if session.is_some_and(|session| session.connection == connection && !session.half_open) {
            self.carry(Direction::Up, office, message);
        }
        Ok(())
    }

    /// Urgent lanes go first, and no lane waits for ever.
    fn check_turn(&mut self, index: usize, lane: usize, first: u64, last: u64) -> Checked {
        let station = &mut self.stations[index];
        let line = &self.checker.timelines[station.timeline];
        let newest = line.newest();
        station.traffic.sent.push((lane, first, last));
        for (other, traffic) in station.traffic.lanes.iter_mut().enumerate() {
            let waits = traffic.sent.max(line.acked[other]) < newest[other];
            let under_way = traffic.heard < traffic.sent || traffic.greeted;
            if other == lane || !waits || under_way || traffic.rests {
                traffic.passed_over = 0;
            } else {
                traffic.passed_over += 1;
            }
            if PASSED_OVER_MAX[other] < traffic.passed_over {
                let what = format!(
                    "box {index}: {} batches before lane {other}",
                    traffic.passed_over
                );
                return violated(URGENT, what);
            }
        }
        let traffic = &mut station.traffic.lanes[lane];
        traffic.greeted |= last < first;
        traffic.sent = traffic.sent.max(last);
        Ok(())
    }

    /// The box gives its link up: it must have offered something a second time before.
    fn rebuild_link(&mut self, index: usize) -> Checked {
        self.note(format_args!("  box {index} gives its link up"));
        let sent = &self.stations[index].traffic.sent;
        let again = sent.iter().enumerate().any(|(at, later)| {
            sent[..at]
                .iter()
                .any(|earlier| earlier.0 == later.0 && later.1 <= earlier.1)
        });
        if !again {
            return violated(AGAIN, format!("box {index}: {sent:?}"));
        }
        let office = self.stations[index].office;
        if self.broker.sessions[office].is_some_and(|session| session.station == index) {
            self.broker.sessions[office] = None;
        }
        self.stations[index].link_is_down();
        self.connect_box_in(index, 500, 5_000);
        Ok(())
    }

    // === The hub ===

    pub fn wake_hub_in(&mut self, least_ms: u64, most_ms: u64) {
        let at = self.now_ms + self.dice.between(least_ms, most_ms);
        self.wake_hub_at(at);
    }

    fn wake_hub_at(&mut self, at: u64) {
        if self.center.running.is_some() && self.center.wake_at.is_none_or(|wake| at < wake) {
            self.center.wake_at = Some(at);
            self.at(at, Happening::WakeHub);
        }
    }

    pub fn step_hub(&mut self) -> Checked {
        let Some(running) = &mut self.center.running else {
            return Ok(());
        };
        let now = self.center.clock.now(self.now_ms, running.boot_ms);
        let events = std::mem::take(&mut self.center.pending);
        let dies = self.center.dies_inside && !events.is_empty();
        if dies {
            self.center.dies_inside = false;
            fault::crash_before_next_commit();
        }
        self.steps += 1;
        let count = events.len();
        running.engine.set_message_bytes_max(self.center.link_limit);
        running.engine.set_room(self.plan.down_room_bytes);
        let result = running.engine.step(now, events);
        if dies {
            fault::is_crash_due();
        }
        let next = running.engine.poll_timeout(now.mono_ms);
        let boot_ms = running.boot_ms;
        match result {
            Ok(effects) => {
                self.note(format_args!(
                    "hub: {count} events, {} effects",
                    effects.len()
                ));
                for effect in effects {
                    self.effect_of_hub(effect)?;
                }
                let running = self.center.running.as_ref().expect("it made a step");
                self.orders.look_at_hub(&running.eye)?;
                self.look_after_papers()?;
                if dies {
                    let away_ms = self.dice.between(200, 20_000);
                    self.kill_hub(away_ms);
                } else if let Some(next) = next {
                    self.wake_hub_at((boot_ms + next).max(self.now_ms + 1));
                }
            }
            Err(error) => {
                self.note(format_args!("hub: {count} events: {}", name(&error)));
                let away_ms = self.dice.between(200, 20_000);
                self.kill_hub(away_ms);
            }
        }
        Ok(())
    }

    fn effect_of_hub(&mut self, effect: receiving::effect::Effect) -> Checked {
        match effect {
            receiving::effect::Effect::Publish { box_id, message } => {
                let office = office_of(box_id.as_str());
                let running = self.center.running.as_ref().expect("it made a step");
                let name = box_name(office);
                self.checker
                    .look_at_hub(Some((office, &name)), &running.eye)?;
                let receipt = self.checker.receipt(office, &name, &message)?;
                self.note(format_args!(
                    "  hub to {office}: {}",
                    receipt_text(&receipt)
                ));
                self.carry(Direction::Down, office, message);
            }
            receiving::effect::Effect::Offer { box_id, message } => {
                self.offer_to_box(&box_id, message)?
            }
            receiving::effect::Effect::Reload { box_id, why } => {
                // Where documents go the hub itself sees to it, and the logs are looked at.
                if !self.plan.has_papers {
                    self.asked_to_load(office_of(box_id.as_str()), why);
                }
            }
            receiving::effect::Effect::TooLarge { .. }
            | receiving::effect::Effect::FileGone { .. }
            | receiving::effect::Effect::RefusedByBox { .. }
            | receiving::effect::Effect::KeyChanged { .. }
            | receiving::effect::Effect::Compared { .. } => {
                self.note(format_args!("  {effect:?}"));
            }
            receiving::effect::Effect::Refused { box_id, code } => {
                self.note(format_args!("  hub refuses {box_id}: {}", code.as_str()));
            }
            receiving::effect::Effect::Committed { box_id, records } => {
                self.note(format_args!("  hub has {records} of {box_id}"));
            }
        }
        Ok(())
    }

    fn offer_to_box(&mut self, box_id: &BoxId, message: Bytes) -> Checked {
        let office = office_of(box_id.as_str());
        let Ok(batch) = self.decoder.decode(&message) else {
            return violated(ORDER, "the hub sends what cannot be read".into());
        };
        let offer = batch.offer;
        self.note(format_args!(
            "  hub offers {office} {} {}..{} of {} from {}, {} bytes",
            offer.log.lane,
            offer.first,
            offer.last,
            offer.log.epoch,
            offer.oldest,
            message.len()
        ));
        let log = (offer.log.epoch.0, offer.log.lane.index());
        for (seq, entry) in (offer.first.0..).zip(batch.entries()) {
            self.check_offered(office, log, seq, entry)?;
        }
        if self.center.link_limit < message.len() {
            let what = format!("{} bytes to office {office}", message.len());
            return violated(LIMIT, what);
        }
        if self.center.connected {
            self.broker.overheard_down[office].push(message.clone());
            self.carry(Direction::Down, office, message);
        }
        Ok(())
    }

    // === Sources ===

    pub fn schedule_source(&mut self, index: usize, source: usize) {
        if let Some(due) = self.stations[index].sources[source].due {
            self.at(due, Happening::Act(index, source));
        }
    }

    pub fn schedule_sources(&mut self, index: usize) {
        for source in 0..self.stations[index].sources.len() {
            let due = &mut self.stations[index].sources[source].due;
            *due = due.map(|due| due.max(self.now_ms + 10));
            self.schedule_source(index, source);
        }
    }

    pub fn act(&mut self, index: usize, number: usize) {
        let station = &mut self.stations[index];
        let source = &mut station.sources[number];
        let Some(running) = &station.running else {
            return; // It is scheduled again when the box runs.
        };
        let cursor = running.eye.cursor(source.name.as_str());
        let mut around = Surroundings {
            now_ms: self.now_ms,
            writing: self.now_ms < self.plan.writing_ms,
            healed: self.healed_ms.is_some(),
            checker: &mut self.checker,
            contents: &station.contents,
        };
        if let Some(submission) = source.act(index, number, cursor, &mut around) {
            let records = submission.records.len();
            station.pending.push(sending::Event::Submit(submission));
            self.note(format_args!(
                "box {index} source {number} hands in {records}"
            ));
            self.wake_box_in(index, 0, 20);
        }
        self.schedule_source(index, number);
    }
}

fn name(error: &StoreError) -> String {
    error.to_string()
}

fn receipt_text(receipt: &Receipt) -> String {
    let ack = receipt.ack;
    format!(
        "{} {} of {} {} {:?}",
        ack.log.lane, ack.applied, ack.log.epoch, ack.resend, receipt.refused
    )
}

fn shortened(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    text.truncate(60);
    text
}
