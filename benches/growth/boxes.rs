//! Many boxes on one hub: all are connected, then all begin to deliver at the same moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lienthong::engine::sending::{Effect, Event};
use lienthong::model::UnixMs;
use lienthong::shell::clock::Clock;
use lienthong::shell::courier::{Courier, CourierConfig, CourierEvent, Rebuild, payload_bytes_max};
use lienthong::shell::dial::Address;
use lienthong::shell::tls::{Files, Identity};
use lienthong::wire;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};

use crate::pair::dossier::AGENCY;
use crate::pair::{Edge, Pair, is_stored, now, submission};
use crate::process::{memory_mb, usage};
use crate::rig::{Broker, Rig};
use crate::waiting::open_store;

/// So many connect at a time.
const CONNECTING: usize = 50;
/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(900);

pub struct Measured {
    pub boxes: u32,
    pub records_per_s: f64,
    pub hub_us: f64,
    pub most_mb: f64,
}

/// What a station tells.
enum Said {
    Connected,
    Lost,
    Delivered,
}

pub fn measure(boxes: u32, records: u32) -> Measured {
    allow_many_files();
    let mut rig = Rig::start(Broker::Embedded);
    let pair = Pair::new();
    let each = records / boxes;
    let records = each * boxes;
    let stations: Vec<(String, Edge)> = (0..boxes)
        .map(|number| {
            let name = format!("tram-{number:04}");
            rig.add_box(&name, AGENCY, rig.port);
            let store = rig.folder.path().join(format!("{name}.db"));
            let mut edge = open_store(&rig, &name, &store);
            for start in (0..each).step_by(1000) {
                let range = start..(start + 1000).min(each);
                let group = pair.records(number * each + range.start..number * each + range.end);
                let effects = edge.step(now(), vec![submission(group)]).expect("a step");
                assert!(effects.iter().any(is_stored), "{effects:?}");
            }
            (name, edge)
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let measured = runtime.block_on(deliver(&rig, stations, records));
    runtime.shutdown_timeout(Duration::from_secs(5));
    measured
}

/// Each box has a connection and three files of its store.
fn allow_many_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("up to the hard limit is allowed");
}

async fn deliver(rig: &Rig, stations: Vec<(String, Edge)>, records: u32) -> Measured {
    let boxes = stations.len();
    let clock = Clock::start(UnixMs(0));
    let idle_mb = memory_mb(rig.hub_pid());
    let (begin, gate) = watch::channel(false);
    let (say, mut said) = mpsc::channel(1024);
    let mut tally = Tally::default();
    let connecting = Instant::now();
    for (started, (name, edge)) in stations.into_iter().enumerate() {
        let station = Station::start(rig, &name, edge, &clock, say.clone());
        tokio::spawn(station.run(gate.clone()));
        while tally.connected + CONNECTING <= started {
            tally.take(&mut said).await;
        }
    }
    while tally.connected < boxes {
        tally.take(&mut said).await;
    }
    let connected_s = connecting.elapsed().as_secs_f64();

    let before = usage(rig.hub_pid()).processor_us;
    let mut most_mb = memory_mb(rig.hub_pid());
    let delivering = Instant::now();
    begin.send(true).expect("the stations live");
    let mut look = tokio::time::interval(Duration::from_millis(50));
    while tally.delivered < boxes {
        tokio::select! {
            () = tally.take(&mut said) => {}
            _ = look.tick() => most_mb = most_mb.max(memory_mb(rig.hub_pid())),
        }
    }
    let seconds = delivering.elapsed().as_secs_f64();
    let hub_us = (usage(rig.hub_pid()).processor_us - before) as f64 / f64::from(records);
    let records_per_s = f64::from(records) / seconds;
    println!(
        "| {boxes} | {connected_s:.1} | {records_per_s:.0} | {hub_us:.1} | {idle_mb:.1}, {most_mb:.1} | {} |",
        tally.lost
    );
    Measured {
        boxes: boxes as u32,
        records_per_s,
        hub_us,
        most_mb,
    }
}

#[derive(Default)]
struct Tally {
    connected: usize,
    lost: usize,
    delivered: usize,
}

impl Tally {
    async fn take(&mut self, said: &mut mpsc::Receiver<Said>) {
        let said = tokio::time::timeout(PATIENCE, said.recv()).await;
        match said.expect("something happens").expect("the stations live") {
            Said::Connected => self.connected += 1,
            Said::Lost => {
                self.connected -= 1;
                self.lost += 1;
            }
            Said::Delivered => self.delivered += 1,
        }
    }
}

/// A box without a process of its own: the product's engine and courier.
struct Station {
    edge: Edge,
    courier: Courier,
    events: mpsc::Receiver<CourierEvent>,
    clock: Clock,
    topic_up: String,
    say: mpsc::Sender<Said>,
    /// How large a message the link carries, while it is up.
    link: Option<usize>,
    has_delivered: bool,
}

impl Station {
    fn start(rig: &Rig, name: &str, edge: Edge, clock: &Clock, say: mpsc::Sender<Said>) -> Station {
        let folder = &rig.boxes[name].folder;
        let files = Files {
            authority: folder.join("ca.crt"),
            certificate: folder.join("box.crt"),
            key: folder.join("box.key"),
        };
        let identity = Identity::load(&files, clock, false).expect("the hub issued it");
        let box_id = name.parse().expect("valid");
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port: rig.port,
        };
        let mut config = CourierConfig::new(name, vec![address], Arc::clone(&identity.config));
        config.subscriptions = vec![wire::topic_down(&box_id)];
        let (sender, events) = mpsc::channel(16);
        Station {
            edge,
            courier: Courier::start(config, clock.clone(), sender),
            events,
            clock: clock.clone(),
            topic_up: wire::topic_up(&box_id),
            say,
            link: None,
            has_delivered: false,
        }
    }

    /// The engine hears of the link when the gate is open.
    async fn run(mut self, mut gate: watch::Receiver<bool>) {
        let mut is_open = false;
        loop {
            let due = self.edge.poll_timeout(self.clock.mono_ms());
            let pause_ms = due.map_or(60_000, |at| at.saturating_sub(self.clock.mono_ms()));
            let mut events = Vec::new();
            tokio::select! {
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    events.extend(self.heard(event).await.filter(|_| is_open));
                }
                changed = gate.changed(), if !is_open => {
                    if changed.is_err() {
                        return;
                    }
                    is_open = true;
                    events.extend(self.link_up());
                }
                () = tokio::time::sleep(Duration::from_millis(pause_ms)), if is_open => {}
            }
            if is_open {
                let now = self.clock.now();
                let effects = tokio::task::block_in_place(|| self.edge.step(now, events));
                self.apply(effects.expect("a step"));
                if !self.has_delivered && self.edge.waiting() == [0; 5] {
                    self.has_delivered = true;
                    self.tell(Said::Delivered).await;
                }
            }
        }
    }

    async fn tell(&mut self, said: Said) {
        // Nobody listens any more when everything is measured.
        let _ = self.say.send(said).await;
    }

    fn link_up(&self) -> Option<Event<()>> {
        let message_bytes_max = self.link?;
        Some(Event::LinkUp { message_bytes_max })
    }

    async fn heard(&mut self, event: CourierEvent) -> Option<Event<()>> {
        match event {
            CourierEvent::Up {
                max_packet_bytes, ..
            } => {
                self.link = Some(payload_bytes_max(&self.topic_up, max_packet_bytes));
                self.tell(Said::Connected).await;
                self.link_up()
            }
            CourierEvent::Down { .. } => {
                self.link.take()?;
                self.tell(Said::Lost).await;
                Some(Event::LinkDown)
            }
            CourierEvent::Message { payload, .. } => Some(Event::Received(payload)),
            CourierEvent::Connecting { .. }
            | CourierEvent::Writable
            | CourierEvent::PublishRefused { .. } => None,
        }
    }

    fn apply(&mut self, effects: Vec<Effect<()>>) {
        for effect in effects {
            match effect {
                // The window of one lane fits the courier; what does not is offered again.
                Effect::Publish(message) => {
                    let _ = self.courier.try_publish(&self.topic_up, message);
                }
                Effect::RebuildLink => self.courier.rebuild(Rebuild::NoProgress),
                _ => {}
            }
        }
    }
}
