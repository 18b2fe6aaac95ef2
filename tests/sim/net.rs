//! The broker and the network: sessions, losses, repeats, delays, damage.

use bytes::Bytes;
use lienthong::engine::{copying, receiving, sending};
use lienthong::wire;

use crate::dice::Dice;
use crate::world::{Happening, World};

pub struct Broker {
    pub up: bool,
    /// Who is connected as which office: station and number of the connection.
    pub sessions: Vec<Option<Session>>,
    pub limit: usize,
    pub unreachable_until: Vec<u64>,
    connections: u64,
    /// When the last message of each office and direction arrives, where order is kept.
    last_at: [Vec<u64>; 2],
    /// The last batch of each office, for those who want to replay it.
    pub overheard: Vec<Option<Bytes>>,
    /// The same for a box's receipts and for what goes down, which is kept from the beginning.
    pub overheard_receipt: Vec<Option<Bytes>>,
    pub overheard_down: Vec<Vec<Bytes>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Session {
    pub station: usize,
    pub connection: u64,
    /// Everything vanishes in it, and nobody is told.
    pub half_open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

impl Broker {
    pub fn new(offices: usize, limit: usize) -> Self {
        Self {
            up: true,
            sessions: vec![None; offices],
            limit,
            unreachable_until: vec![0; offices],
            connections: 0,
            last_at: [vec![0; offices], vec![0; offices]],
            overheard: vec![None; offices],
            overheard_receipt: vec![None; offices],
            overheard_down: vec![Vec::new(); offices],
        }
    }
}

impl World {
    /// Puts a message on its way.
    pub fn carry(&mut self, direction: Direction, office: usize, message: Bytes) {
        let lost_percent = match direction {
            Direction::Up => self.net.lost_up_percent,
            Direction::Down => self.net.lost_down_percent,
        };
        if self.dice.chance(lost_percent) {
            self.note(format_args!("  lost {direction:?} {office}"));
            return;
        }
        let message = match self.dice.chance(self.net.damaged_percent) {
            true => damaged(&message, &mut self.dice),
            false => message,
        };
        let times = 1 + u64::from(self.dice.chance(self.net.twice_percent));
        for _ in 0..times {
            let mut at = self.now_ms + self.dice.between(1, self.net.delay_ms);
            if self.net.in_order {
                let last = &mut self.broker.last_at[direction as usize][office];
                at = at.max(*last);
                *last = at;
            }
            let happening = match direction {
                Direction::Up => Happening::ToHub(office, message.clone()),
                Direction::Down => Happening::ToBox(office, message.clone()),
            };
            self.at(at, happening);
        }
    }

    pub fn arrive_at_hub(&mut self, office: usize, message: Bytes) {
        if !self.center.connected {
            self.note(format_args!("  nobody hears office {office}"));
            return;
        }
        let box_id = crate::check::box_name(office).parse().expect("valid");
        let event = receiving::Event::Received { box_id, message };
        self.center.pending.push(event);
        self.wake_hub_in(0, 10);
    }

    pub fn arrive_at_box(&mut self, office: usize, message: Bytes) {
        let Some(session) = self.broker.sessions[office].filter(|session| !session.half_open)
        else {
            self.note(format_args!("  office {office} does not hear"));
            return;
        };
        let station = &self.stations[session.station];
        let connection = station.link.map(|(connection, _)| connection);
        if connection == Some(session.connection) && station.running.is_some() {
            self.hand_to_box(session.station, message);
        }
    }

    /// A box takes a message from its topic.
    pub fn hand_to_box(&mut self, index: usize, message: Bytes) {
        if wire::is_receipt(&message) {
            self.overhear_receipt(index, &message);
            let event = sending::Event::Received(message);
            self.stations[index].pending.push(event);
            self.wake_box_in(index, 0, 10);
        } else {
            let event = copying::Event::Received(message);
            self.stations[index].down.pending.push(event);
            self.wake_down_in(index, 0, 10);
        }
    }

    /// The broker keeps a box's presence, and hands it to the hub when it comes.
    pub fn tell_presence(&mut self, office: usize) {
        if self.center.connected {
            let online = self.broker.sessions[office].is_some();
            let event = receiving::Event::Presence {
                box_id: crate::check::box_name(office).parse().expect("valid"),
                presence: format!(r#"{{"online":{online}}}"#),
            };
            self.center.pending.push(event);
            self.wake_hub_in(0, 10);
        }
    }

    // === Connections ===

    pub fn connect_box_in(&mut self, index: usize, least_ms: u64, most_ms: u64) {
        let at = self.now_ms + self.dice.between(least_ms, most_ms);
        self.stations[index].connect_at = Some(at);
        self.at(at, Happening::ConnectBox(index));
    }

    pub fn connect_box(&mut self, index: usize) {
        let office = self.stations[index].office;
        if self.stations[index].running.is_none() {
            return;
        }
        if !self.broker.up || self.now_ms < self.broker.unreachable_until[office] {
            self.connect_box_in(index, 1_000, 10_000);
            return;
        }
        self.broker.connections += 1;
        let connection = self.broker.connections;
        let session = Session {
            station: index,
            connection,
            half_open: false,
        };
        let before = self.broker.sessions[office].replace(session);
        if let Some(before) = before.filter(|before| before.station != index) {
            self.note(format_args!(
                "box {index} takes over from box {}",
                before.station
            ));
            if !before.half_open {
                self.lose_link(before.station, 20_000, 60_000);
            }
        }
        let limit = self.broker.limit;
        self.note(format_args!("box {index} connected, {limit} bytes"));
        self.stations[index].link_is_up(connection, limit);
        let event = sending::Event::LinkUp {
            message_bytes_max: limit,
        };
        self.stations[index].pending.push(event);
        self.wake_box_in(index, 0, 10);
        self.stations[index]
            .down
            .pending
            .push(copying::Event::LinkUp);
        self.wake_down_in(index, 0, 10);
        self.tell_presence(office);
    }

    /// A box notices that its link is gone; it connects again.
    pub fn lose_link(&mut self, index: usize, least_ms: u64, most_ms: u64) {
        let station = &mut self.stations[index];
        if station.link.is_none() || station.running.is_none() {
            return;
        }
        station.link_is_down();
        station.pending.push(sending::Event::LinkDown);
        station.down.pending.push(copying::Event::LinkDown);
        self.wake_box_in(index, 0, 10);
        self.wake_down_in(index, 0, 10);
        self.connect_box_in(index, least_ms, most_ms);
    }

    pub fn end_session(&mut self, office: usize) {
        if let Some(session) = self.broker.sessions[office].take()
            && !session.half_open
        {
            self.note(format_args!("box {} is cut", session.station));
            self.tell_presence(office);
            self.lose_link(session.station, 500, 10_000);
        }
    }

    pub fn end_all_sessions(&mut self) {
        for office in 0..self.plan.offices {
            self.end_session(office);
        }
    }

    pub fn restart_broker(&mut self) {
        self.note(format_args!("the broker restarts"));
        self.end_all_sessions();
        self.broker.up = false;
        let back = self.now_ms + self.dice.between(100, 8_000);
        self.at(back, Happening::BrokerUp);
        if self.center.running.is_some() {
            self.center.connected = false;
            self.center.pending.push(receiving::Event::LinkDown);
            self.wake_hub_in(0, 10);
            self.connect_hub_at(back + self.dice.clone().between(1, 3_000));
        }
    }

    pub fn connect_hub_at(&mut self, at: u64) {
        self.center.connect_at = Some(at);
        self.at(at, Happening::ConnectHub);
    }

    pub fn connect_hub(&mut self) {
        if self.center.running.is_none() {
            return;
        }
        self.note(format_args!("the hub is connected"));
        self.center.connected = true;
        self.center.link_limit = self.broker.limit;
        self.center.pending.push(receiving::Event::LinkUp);
        self.wake_hub_in(0, 10);
        for office in 0..self.plan.offices {
            self.tell_presence(office);
        }
    }
}

/// One byte is another.
fn damaged(message: &Bytes, dice: &mut Dice) -> Bytes {
    let mut bytes = message.to_vec();
    let at = dice.index(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    bytes.into()
}
