//! A world: boxes, a hub, a broker and a network between them, in virtual time.
//!
//! One queue of happenings, ordered by time and then by the order in which they were entered. The
//! storm lasts as the plan says; then every fault stops and the world must converge.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use lienthong::engine::posting::DownSpace;
use lienthong::store::hub::down::Reload;
use lienthong::wire::BatchDecoder;

use crate::center::Center;
use crate::check::{Checked, Checker, PROGRESS, Timeline, violated};
use crate::dice::Dice;
use crate::downlink::Orders;
use crate::files::Copied;
use crate::final_check;
use crate::net::Broker;
use crate::papers::Papers;
use crate::plan::{Incident, Net, Plan, Theme};
use crate::sources::{Source, Style};
use crate::station::Station;
use crate::trace::Trace;

/// A world that has not converged so long after the faults stopped never will.
const CONVERGED_WITHIN_MS: u64 = 3 * 3_600_000;
/// So long it must stay as it is then: late and repeated messages change nothing.
const SETTLED_AFTER_MS: u64 = 120_000;
/// More happenings than any plan needs: something goes round in circles.
const HAPPENINGS_MAX: u64 = 100_000;

#[derive(Debug)]
pub enum Happening {
    OpenBox(usize),
    OpenHub,
    WakeBox(usize),
    WakeDown(usize),
    WakeHub,
    /// Office, lane and number of entries to be sent down.
    Order(usize, usize, u64),
    /// The hub checks files that have come; a box does.
    Settle,
    Keep(usize),
    DiskFull(usize, bool),
    /// So long after the faults have stopped nothing urgent waits.
    Urgent,
    Load(usize, Reload),
    LoadOn(usize),
    Act(usize, usize),
    ConnectBox(usize),
    ConnectHub,
    BrokerUp,
    ToHub(usize, Bytes),
    ToBox(usize, Bytes),
    Incident(Incident),
    Heal,
}

pub struct World {
    pub plan: Plan,
    pub net: Net,
    pub dice: Dice,
    pub trace: Trace,
    pub now_ms: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: BTreeMap<u64, Happening>,
    order: u64,
    pub stations: Vec<Station>,
    pub center: Center,
    pub broker: Broker,
    pub checker: Checker,
    pub orders: Orders,
    pub papers: Papers,
    pub decoder: BatchDecoder,
    /// The hub's copy, and how much was ordered then.
    pub hub_copy: Option<(Copied, usize)>,
    pub down_copies: BTreeMap<usize, (usize, Copied)>,
    pub box_copies: BTreeMap<usize, (usize, Copied, Timeline)>,
    pub healed_ms: Option<u64>,
    pub steps: u64,
    pub folder: tempfile::TempDir,
}

/// What a world was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub digest: u64,
    pub theme: Theme,
    pub records: u64,
    pub steps: u64,
    pub happenings: u64,
    /// From the end of the faults until everything had arrived.
    pub converged_after_ms: u64,
}

/// Runs the world of a seed in this thread.
pub fn run(seed: u64, may_have_files: bool, print: bool) -> Checked<Summary> {
    World::new(seed, may_have_files, print).run()
}

impl World {
    fn new(seed: u64, may_have_files: bool, print: bool) -> Self {
        let mut plan = Plan::new(seed);
        plan.has_files &= may_have_files;
        plan.has_papers &= may_have_files;
        let mut dice = Dice::new(!seed);
        let folder = new_folder();
        let space = DownSpace {
            lane_bytes_max: plan.down_lane_bytes_max(),
            tail_ms: plan.down_tail_ms,
            tail_bytes: plan.down_tail_bytes,
        };
        let mut world = World {
            net: plan.net,
            trace: Trace::new(print),
            now_ms: 0,
            queue: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            order: 0,
            stations: Vec::new(),
            center: Center::new(folder.path(), &plan, space),
            broker: Broker::new(plan.offices, plan.message_bytes),
            checker: Checker::default(),
            orders: Orders::default(),
            papers: Papers::default(),
            decoder: BatchDecoder::default(),
            hub_copy: None,
            down_copies: BTreeMap::new(),
            box_copies: BTreeMap::new(),
            healed_ms: None,
            steps: 0,
            dice: dice.fork(),
            folder,
            plan,
        };
        world.note(format_args!("seed {seed}: {:?}", world.plan.clone()));
        for office in 0..world.plan.offices {
            world.add_station(office, Timeline::default());
        }
        let incidents = std::mem::take(&mut world.plan.incidents);
        for (at, incident) in incidents {
            world.at(at, Happening::Incident(incident));
        }
        for (at, office, lane, count) in std::mem::take(&mut world.plan.orders) {
            world.at(at, Happening::Order(office, lane, count));
        }
        world.at(world.plan.storm_ms, Happening::Heal);
        world.at(0, Happening::OpenHub);
        world
    }

    /// Puts up a machine for an office, with its sources; it is switched on at once.
    pub fn add_station(&mut self, office: usize, timeline: Timeline) -> usize {
        let index = self.stations.len();
        self.checker.timelines.push(Timeline {
            office,
            alive: true,
            ..timeline
        });
        let line = self.checker.timelines.len() - 1;
        let folder = self.folder.path().to_owned();
        let dice = self.dice.fork();
        let mut station = Station::new(&folder, index, office, line, &self.plan, dice);
        let styles = [Style::Whole, Style::Poll, Style::Each, Style::Never];
        let count = self.dice.between(1, 3) as usize;
        for (number, style) in styles.into_iter().take(count).enumerate() {
            let (left, bytes) = (self.plan.submissions, self.plan.record_bytes);
            let dice = self.dice.fork();
            let name = format!("nguon-{number}");
            let mut source = Source::new(&name, style, office, index, left, bytes, dice);
            if self.plan.has_files {
                let dice = Dice::new(self.plan.storm_ms ^ (index * 8 + number) as u64);
                let offices = if self.plan.has_papers {
                    self.plan.offices
                } else {
                    0
                };
                source.attach_files(offices, dice);
            }
            station.sources.push(source);
        }
        self.stations.push(station);
        self.open_box_in(index, 0);
        index
    }

    // === Time ===

    pub fn at(&mut self, at_ms: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((at_ms, self.order)));
        self.waiting.insert(self.order, happening);
    }

    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.now_ms, what);
    }

    fn run(mut self) -> Checked<Summary> {
        let mut converged_ms = None;
        let mut happenings = 0;
        while let Some(Reverse((at_ms, order))) = self.queue.pop() {
            if converged_ms.is_some_and(|ms| ms + SETTLED_AFTER_MS < at_ms) {
                break;
            }
            self.now_ms = at_ms;
            happenings += 1;
            let happening = self.waiting.remove(&order).expect("entered with its order");
            self.happen(happening)?;
            let Some(healed_ms) = self.healed_ms else {
                continue;
            };
            if converged_ms.is_none() && self.lacks().is_none() {
                self.note(format_args!("everything has arrived"));
                converged_ms = Some(self.now_ms);
            }
            if converged_ms.is_none() && healed_ms + CONVERGED_WITHIN_MS < self.now_ms
                || happenings > HAPPENINGS_MAX
            {
                break;
            }
        }
        if let Some(lack) = self.lacks() {
            return violated(PROGRESS, lack);
        }
        let Some(running) = &self.center.running else {
            return violated(PROGRESS, "the hub is down".into());
        };
        final_check::check(&self.checker, &running.eye)?;
        self.checker.check_parts(&running.eye, &self.center.parts)?;
        for station in &self.stations {
            let line = &self.checker.timelines[station.timeline];
            self.checker
                .check_files(line, &station.contents, &self.center.parts)?;
        }
        self.check_rows()?;
        self.check_down()?;
        for index in 0..self.stations.len() {
            self.check_received(index)?;
        }
        self.check_papers()?;
        self.check_with_the_products_own()?;
        let healed_ms = self.healed_ms.unwrap_or(self.now_ms);
        Ok(Summary {
            digest: self.trace.digest(),
            theme: self.plan.theme,
            records: self.checker.handed.len() as u64,
            steps: self.steps,
            happenings,
            converged_after_ms: converged_ms.unwrap_or(self.now_ms) - healed_ms,
        })
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        let now = Some(self.now_ms);
        match happening {
            Happening::OpenBox(index) if self.stations[index].open_at == now => {
                self.open_box(index)
            }
            Happening::OpenHub if self.center.open_at == now => self.open_hub(),
            Happening::WakeBox(index) if self.stations[index].wake_at == now => {
                self.stations[index].wake_at = None;
                self.step_box(index)
            }
            Happening::WakeDown(index) if self.stations[index].down.wake_at == now => {
                self.stations[index].down.wake_at = None;
                self.step_down(index)
            }
            Happening::Order(office, lane, count) => {
                self.order(office, lane, count);
                Ok(())
            }
            Happening::Settle => {
                self.settle();
                Ok(())
            }
            Happening::Keep(index) if self.stations[index].down.keep_at == now => {
                self.stations[index].down.keep_at = None;
                self.keep(index)
            }
            Happening::DiskFull(index, is_full) => {
                self.set_disk_full(index, is_full);
                Ok(())
            }
            Happening::Urgent => self.check_urgent(),
            Happening::Load(office, why) => {
                self.load(office, why);
                Ok(())
            }
            Happening::LoadOn(office) => {
                self.load_on(office);
                Ok(())
            }
            Happening::WakeHub if self.center.wake_at == now => {
                self.center.wake_at = None;
                self.step_hub()
            }
            Happening::Act(index, source) if self.stations[index].sources[source].due == now => {
                self.act(index, source);
                Ok(())
            }
            Happening::ConnectBox(index) if self.stations[index].connect_at == now => {
                self.connect_box(index);
                Ok(())
            }
            Happening::ConnectHub if self.center.connect_at == now => {
                self.connect_hub();
                Ok(())
            }
            Happening::BrokerUp => {
                self.broker.up = true;
                Ok(())
            }
            Happening::ToHub(office, message) => {
                self.arrive_at_hub(office, message);
                Ok(())
            }
            Happening::ToBox(office, message) => {
                self.arrive_at_box(office, message);
                Ok(())
            }
            Happening::Incident(incident) => self.suffer(incident),
            Happening::Heal => {
                self.heal();
                Ok(())
            }
            // A time that was changed since.
            _ => Ok(()),
        }
    }

    // === The end ===

    /// What has not arrived yet.
    fn lacks(&self) -> Option<String> {
        if !self.center.connected {
            return Some("the hub is down".into());
        }
        for (index, station) in self.stations.iter().enumerate() {
            let line = &self.checker.timelines[station.timeline];
            if station.running.is_none() || !station.is_quiet() {
                return Some(format!("box {index} has something to do"));
            }
            for (lane, newest) in line.newest().into_iter().enumerate() {
                let key = (station.office, line.epoch(), lane);
                let applied = self.checker.at_hub.get(&key).map_or(0, |log| log.applied);
                if newest != line.acked[lane] || newest != applied {
                    let acked = line.acked[lane];
                    return Some(format!(
                        "box {index} lane {lane}: {newest} accepted, {applied} at the hub, receipt for {acked}"
                    ));
                }
            }
        }
        self.lacks_down().or_else(|| self.lacks_files())
    }

    /// `trucd verify` agrees.
    fn check_with_the_products_own(&self) -> Checked {
        let view = lienthong::store::hub_view::HubView::open(&self.center.files.path());
        let view = view.expect("the store is there");
        match lienthong::hub::verify::verify(&view, None, |_| {}) {
            Ok(()) => Ok(()),
            Err(unsound) => violated(crate::check::VERIFY, unsound.to_string()),
        }
    }

    /// Every row of the other databases was taken (that none was taken twice is seen at the box).
    fn check_rows(&self) -> Checked {
        for station in &self.stations {
            let line = &self.checker.timelines[station.timeline];
            for source in station.sources.iter().filter(|s| s.style == Style::Poll) {
                if let Some(row) = source.rows_read().find(|uid| !line.uids.contains(uid)) {
                    let what = format!("row with record {row} was passed over");
                    return violated(crate::check::CURSOR, what);
                }
            }
        }
        Ok(())
    }
}

/// In memory where the machine has such a place: a crash here is that of a process, not of a disk.
fn new_folder() -> tempfile::TempDir {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("lienthong-sim-");
        builder
    };
    builder()
        .tempdir_in("/dev/shm")
        .or_else(|_| builder().tempdir())
        .expect("a folder for the world")
}
