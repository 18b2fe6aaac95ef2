//! What a seed stands for: how large the world is, how its network behaves, and what goes wrong in
//! it, and when. Everything is decided before the first event.

use crate::dice::Dice;
use crate::keys::OFFICES_MAX;

/// What a world mostly suffers from: a world with a few faults of one kind shows more than one in
/// which everything breaks at once, but those exist too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Calm,
    Lossy,
    Cuts,
    Crashes,
    HubSetBack,
    BoxSetBack,
    Cloned,
    Full,
    Forger,
    Limits,
    Everything,
}

const THEMES: [Theme; 11] = [
    Theme::Calm,
    Theme::Lossy,
    Theme::Cuts,
    Theme::Crashes,
    Theme::HubSetBack,
    Theme::BoxSetBack,
    Theme::Cloned,
    Theme::Full,
    Theme::Forger,
    Theme::Limits,
    Theme::Everything,
];

/// Enough for any world.
pub const HUB_QUOTA_BYTES: u64 = 256 << 20;

#[derive(Debug, Clone)]
pub struct Plan {
    pub theme: Theme,
    pub offices: usize,
    /// Faults stop after so long, …
    pub storm_ms: u64,
    /// … and the sources have nothing new after so long.
    pub writing_ms: u64,
    /// Of each source: what it hands in.
    pub submissions: u64,
    /// The broker lives on when the hub's process dies.
    pub external_broker: bool,
    pub net: Net,
    pub tail_ms: i64,
    pub tail_bytes: u64,
    pub lane_bytes: u64,
    pub box_quota_bytes: u64,
    pub hub_quota_bytes: u64,
    /// Largest record, bytes.
    pub record_bytes: u64,
    pub message_bytes: usize,
    pub incidents: Vec<(u64, Incident)>,
    /// What is ordered for the boxes: when, office, lane, how many entries.
    pub orders: Vec<(u64, usize, usize, u64)>,
    pub down_lane_bytes: u64,
    pub down_tail_ms: i64,
    pub down_tail_bytes: u64,
    /// Bytes of batches that the hub's outbox takes at a time.
    pub down_room_bytes: usize,
    /// Records name files.
    pub has_files: bool,
    /// Some of them are documents, which go to other offices with their files.
    pub has_papers: bool,
}

/// How the network behaves until it heals.
#[derive(Debug, Clone, Copy)]
pub struct Net {
    pub lost_up_percent: u64,
    pub lost_down_percent: u64,
    pub twice_percent: u64,
    pub damaged_percent: u64,
    pub delay_ms: u64,
    pub in_order: bool,
}

impl Net {
    pub const HEALED: Net = Net {
        lost_up_percent: 0,
        lost_down_percent: 0,
        twice_percent: 0,
        damaged_percent: 0,
        delay_ms: 200,
        in_order: true,
    };
}

/// Something that goes wrong. `usize` is an office.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// The box's connection ends, and it notices.
    Cut(usize),
    /// Everything vanishes, and nobody is told.
    HalfOpen(usize),
    /// No connection can be made for a while.
    Unreachable(usize, u64),
    BrokerRestart,
    /// The administrator shuts the box out, or lets it in again.
    Suspend(usize),
    Readmit(usize),
    BoxCrash(usize),
    BoxCrashInside(usize),
    BoxRestart(usize),
    HubCrash(u64),
    HubCrashInside(u64),
    HubCopy,
    HubPutBack,
    BoxCopy(usize),
    BoxPutBack(usize),
    /// A second machine with the same identity and the same store begins to run.
    BoxClone(usize),
    /// The clock of a box jumps by so many days, and is trusted more or less.
    BoxClock(usize, i64),
    HubClock(i64),
    /// The broker carries messages of at most so many bytes from now on.
    MessageLimit(usize),
    ForgedBatch(usize),
    ForgedReceipt(usize),
    /// What a box sent is sent again from the topic of another.
    ForeignBatch(usize),
    DownCrashInside(usize),
    /// The store of what came down is gone, or set back.
    DownLost(usize),
    DownCopy(usize),
    DownPutBack(usize),
    ForgedDownBatch(usize),
    ForgedDownReceipt(usize),
    /// What was sent to a box, or by it, comes to or from another.
    ForeignDownBatch(usize),
    ForeignDownReceipt(usize),
    /// The oldest batches come once more.
    ReplayedDown(usize),
    /// The next file that comes is damaged on the box's disk.
    FileHarmed(usize),
    /// For a while the box's disk has no room for files.
    DiskFull(usize, u64),
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut dice = Dice::new(seed);
        let theme = THEMES[(seed % THEMES.len() as u64) as usize];
        let storm_ms = dice.between(120, 600) * 1000;
        let quiet = dice.chance(60);
        let mut plan = Plan {
            theme,
            offices: dice.pick(&[1, 1, 1, 1, 2, 2, 3, OFFICES_MAX]),
            storm_ms,
            writing_ms: if quiet {
                storm_ms * dice.between(15, 60) / 100
            } else {
                storm_ms
            },
            submissions: dice.between(3, 10),
            external_broker: dice.chance(40),
            net: Net {
                lost_up_percent: 0,
                lost_down_percent: 0,
                twice_percent: 0,
                damaged_percent: 0,
                delay_ms: dice.pick(&[50, 300, 2_000]),
                in_order: true,
            },
            tail_ms: dice.pick(&[0, 60_000, 14 * 86_400_000]),
            tail_bytes: dice.pick(&[0, 4_000, 64 << 20]),
            lane_bytes: 8 << 20,
            box_quota_bytes: 64 << 20,
            hub_quota_bytes: HUB_QUOTA_BYTES,
            record_bytes: dice.pick(&[200, 200, 2_000]),
            message_bytes: dice.pick(&[128 * 1024, 128 * 1024, 16 * 1024]),
            incidents: Vec::new(),
            orders: Vec::new(),
            down_lane_bytes: 1 << 20,
            down_tail_ms: 3_600_000,
            down_tail_bytes: 1 << 20,
            down_room_bytes: 8 << 20,
            has_files: seed.is_multiple_of(4),
            has_papers: false,
        };
        plan.suffer(theme, &mut dice);
        plan.readmit(&mut dice);
        // Dice of its own: what goes up is the same with it as without.
        plan.go_down(theme, &mut Dice::new(seed.rotate_left(32) ^ 0x646f_776e));
        plan.has_papers = plan.has_files && 1 < plan.offices;
        if plan.has_papers {
            plan.send_papers(theme, &mut Dice::new(seed.rotate_left(16) ^ 0x7061_7065));
        }
        plan.incidents.sort_by_key(|&(at, _)| at);
        plan
    }

    /// Documents go from office to office, and their files suffer too.
    fn send_papers(&mut self, theme: Theme, dice: &mut Dice) {
        // The lane of the documents is theirs alone: what is ordered would drop them.
        for (_, _, lane, _) in self.orders.iter_mut().filter(|order| order.2 == 1) {
            *lane = 2;
        }
        for _ in 0..dice.between(0, 3) {
            let office = self.office(dice);
            self.at_some_time(dice, Incident::FileHarmed(office));
        }
        if matches!(theme, Theme::Full | Theme::Everything) {
            let (office, ms) = (self.office(dice), dice.between(5, 200) * 1_000);
            self.at_some_time(dice, Incident::DiskFull(office, ms));
        }
    }

    /// Pieces of files are entries of P4, and no load asks before it adds them.
    pub fn down_lane_bytes_max(&self) -> [u64; 5] {
        let mut most = [self.down_lane_bytes; 5];
        if self.has_papers {
            most[4] = most[4].max(1 << 20);
        }
        most
    }

    fn suffer(&mut self, theme: Theme, dice: &mut Dice) {
        let lossy = match theme {
            Theme::Calm => false,
            Theme::Lossy | Theme::Everything => true,
            _ => dice.chance(30),
        };
        if lossy {
            self.net = Net {
                lost_up_percent: dice.between(0, 40),
                lost_down_percent: dice.between(0, 40),
                twice_percent: dice.between(0, 15),
                damaged_percent: dice.pick(&[0, 0, 3]),
                delay_ms: dice.pick(&[300, 3_000, 10_000]),
                in_order: dice.chance(40),
            };
        }
        match theme {
            Theme::Calm | Theme::Lossy => {}
            Theme::Cuts => {
                for _ in 0..dice.between(2, 8) {
                    let incident = self.cut(dice);
                    self.at_some_time(dice, incident);
                }
            }
            Theme::Crashes => {
                for _ in 0..dice.between(2, 10) {
                    let incident = self.crash(dice);
                    self.at_some_time(dice, incident);
                }
            }
            Theme::HubSetBack => self.hub_set_back(dice),
            Theme::BoxSetBack => {
                let office = self.office(dice);
                self.set_back(
                    dice,
                    Incident::BoxCopy(office),
                    Incident::BoxPutBack(office),
                );
                if dice.chance(30) {
                    self.hub_set_back(dice);
                }
            }
            Theme::Cloned => {
                let office = self.office(dice);
                self.at_some_time(dice, Incident::BoxClone(office));
                for _ in 0..dice.between(0, 3) {
                    let incident = self.cut(dice);
                    self.at_some_time(dice, incident);
                }
            }
            Theme::Full => self.full(dice),
            Theme::Forger => {
                for _ in 0..dice.between(2, 6) {
                    let incident = self.forgery(dice);
                    self.at_some_time(dice, incident);
                }
            }
            Theme::Limits => {
                self.record_bytes = 6_000;
                for _ in 0..dice.between(1, 3) {
                    let limit = dice.pick(&[1_000, 4_000, 16_000, 128 * 1024]);
                    self.at_some_time(dice, Incident::MessageLimit(limit));
                }
            }
            Theme::Everything => {
                for _ in 0..dice.between(3, 12) {
                    let incident = match dice.below(5) {
                        0 => self.cut(dice),
                        1 | 2 => self.crash(dice),
                        3 => self.forgery(dice),
                        _ => self.clock(dice),
                    };
                    self.at_some_time(dice, incident);
                }
                if dice.chance(50) {
                    self.hub_set_back(dice);
                }
                let office = self.office(dice);
                match dice.below(4) {
                    0 => self.at_some_time(dice, Incident::BoxClone(office)),
                    1 => {
                        self.set_back(
                            dice,
                            Incident::BoxCopy(office),
                            Incident::BoxPutBack(office),
                        );
                    }
                    2 => self.full(dice),
                    _ => {}
                }
            }
        }
        if dice.chance(25) {
            let incident = self.clock(dice);
            self.at_some_time(dice, incident);
        }
    }

    /// What is ordered for the boxes, and what this direction suffers beside.
    fn go_down(&mut self, theme: Theme, dice: &mut Dice) {
        self.down_tail_ms = dice.pick(&[3_600_000, 3_600_000, 0]);
        self.down_tail_bytes = dice.pick(&[1 << 20, 0, 600]);
        self.down_room_bytes = dice.pick(&[8 << 20, 8 << 20, 2_000]);
        if dice.chance(10) {
            return;
        }
        for office in 0..self.offices {
            for _ in 0..dice.between(1, 6) {
                let at = dice.between(0, self.writing_ms);
                let lane = dice.index(5);
                self.orders.push((at, office, lane, dice.between(1, 6)));
            }
        }
        let office = self.office(dice);
        match theme {
            Theme::Calm | Theme::Lossy | Theme::Cuts | Theme::Cloned => {}
            Theme::Limits | Theme::HubSetBack => {}
            Theme::Crashes => {
                for _ in 0..dice.between(1, 4) {
                    let office = self.office(dice);
                    self.at_some_time(dice, Incident::DownCrashInside(office));
                }
            }
            Theme::BoxSetBack => match dice.chance(50) {
                true => self.at_some_time(dice, Incident::DownLost(office)),
                false => {
                    self.set_back(
                        dice,
                        Incident::DownCopy(office),
                        Incident::DownPutBack(office),
                    );
                }
            },
            Theme::Full => {
                self.down_lane_bytes = dice.between(1, 4) * 1_000;
                for _ in 0..dice.between(2, 6) {
                    let at = dice.between(0, self.writing_ms);
                    self.orders.push((at, office, 2, dice.between(3, 9)));
                }
            }
            Theme::Forger => {
                for _ in 0..dice.between(2, 6) {
                    let incident = self.down_forgery(dice);
                    self.at_some_time(dice, incident);
                }
            }
            Theme::Everything => {
                for _ in 0..dice.between(1, 4) {
                    let incident = match dice.below(3) {
                        0 => Incident::DownCrashInside(self.office(dice)),
                        1 => Incident::DownLost(self.office(dice)),
                        _ => self.down_forgery(dice),
                    };
                    self.at_some_time(dice, incident);
                }
            }
        }
    }

    fn down_forgery(&self, dice: &mut Dice) -> Incident {
        let office = self.office(dice);
        match dice.below(5) {
            0 => Incident::ForgedDownBatch(office),
            1 => Incident::ForgedDownReceipt(office),
            2 => Incident::ForeignDownBatch(office),
            3 => Incident::ForeignDownReceipt(office),
            _ => Incident::ReplayedDown(office),
        }
    }

    /// Whoever was shut out is let in again before the end.
    fn readmit(&mut self, dice: &mut Dice) {
        for at in 0..self.incidents.len() {
            if let (from, Incident::Suspend(office)) = self.incidents[at] {
                let until = dice.between(from, self.storm_ms - 1);
                self.incidents.push((until, Incident::Readmit(office)));
            }
        }
    }

    /// Small stores: lanes that are full at the door, or a disk that is full in earnest.
    fn full(&mut self, dice: &mut Dice) {
        self.record_bytes = 400;
        let office = self.office(dice);
        let away_ms = self.storm_ms / 2;
        self.incidents
            .push((5_000, Incident::Unreachable(office, away_ms)));
        match dice.below(3) {
            0 => self.lane_bytes = 24 * 1024,
            1 => self.box_quota_bytes = dice.between(26, 34) * 8192,
            _ => {
                self.hub_quota_bytes = dice.between(24, 40) * 8192;
            }
        }
        self.submissions *= 3;
    }

    fn hub_set_back(&mut self, dice: &mut Dice) {
        self.set_back(dice, Incident::HubCopy, Incident::HubPutBack);
        if dice.chance(20) {
            self.set_back(dice, Incident::HubCopy, Incident::HubPutBack);
        }
    }

    /// A copy early, the setting back later; in quiet worlds mostly when nothing is written any more.
    fn set_back(&mut self, dice: &mut Dice, copy: Incident, put_back: Incident) {
        let copied = dice.between(1_000, self.storm_ms / 2);
        let back = dice.between(copied + 1, self.storm_ms - 1);
        self.incidents.push((copied, copy));
        self.incidents.push((back, put_back));
    }

    /// Mostly while there is something to break.
    fn at_some_time(&mut self, dice: &mut Dice, incident: Incident) {
        let end = match dice.chance(60) {
            true => self.writing_ms.max(20_000),
            false => self.storm_ms,
        };
        let at = dice.between(1_000, end - 1);
        self.incidents.push((at, incident));
    }

    fn office(&self, dice: &mut Dice) -> usize {
        dice.index(self.offices)
    }

    fn cut(&self, dice: &mut Dice) -> Incident {
        let office = self.office(dice);
        match dice.below(6) {
            0 | 1 => Incident::Cut(office),
            2 => Incident::HalfOpen(office),
            3 => Incident::Unreachable(office, dice.between(10, 200) * 1000),
            4 => Incident::Suspend(office),
            _ => Incident::BrokerRestart,
        }
    }

    fn crash(&self, dice: &mut Dice) -> Incident {
        let office = self.office(dice);
        let away_ms = dice.between(1, 60) * 1000;
        match dice.below(8) {
            0 => Incident::BoxCrash(office),
            1..=3 => Incident::BoxCrashInside(office),
            4 => Incident::BoxRestart(office),
            5 => Incident::HubCrash(away_ms),
            _ => Incident::HubCrashInside(away_ms),
        }
    }

    fn forgery(&self, dice: &mut Dice) -> Incident {
        let office = self.office(dice);
        match dice.below(3) {
            0 => Incident::ForgedBatch(office),
            1 => Incident::ForgedReceipt(office),
            _ => Incident::ForeignBatch(office),
        }
    }

    fn clock(&self, dice: &mut Dice) -> Incident {
        let days = dice.pick(&[-365, -1, 1, 365]);
        match dice.chance(70) {
            true => Incident::BoxClock(self.office(dice), days),
            false => Incident::HubClock(days),
        }
    }
}
