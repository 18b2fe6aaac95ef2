//! Real processes and boxes that talk to them over the network.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lienthong::engine::sending::{Effect, Event};
use lienthong::model::UnixMs;
use lienthong::shell::clock::Clock;
use lienthong::shell::courier::{Courier, CourierConfig, CourierEvent, Rebuild, payload_bytes_max};
use lienthong::shell::dial::Address;
use lienthong::shell::down::DownReason;
use lienthong::shell::mqtt::Presence;
use lienthong::shell::tls::{Files, Identity};
use lienthong::wire;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::stage::{Hub, Office, Sample};

const START: Duration = Duration::from_secs(30);

/// `trucd run`, which dies with the test.
pub struct Daemon {
    child: Child,
    http_port: u16,
}

impl Daemon {
    /// Returns when the hub has its link to the broker.
    pub async fn start(hub: &Hub) -> Daemon {
        Daemon::start_with(hub, |_| {}).await
    }

    pub async fn start_with(hub: &Hub, change: impl FnOnce(&mut Command)) -> Daemon {
        let mut command = hub.command(&["run"]);
        change(&mut command);
        let child = command.spawn().unwrap();
        let mut daemon = Daemon {
            child,
            http_port: hub.http_port,
        };
        let begin = Instant::now();
        while !daemon.is_healthy() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "trucd ended: {ended:?}");
            assert!(begin.elapsed() < START, "trucd does not become healthy");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        daemon
    }

    /// Whether the hub says that it works.
    pub fn is_healthy(&self) -> bool {
        self.fetch("/healthz").is_some()
    }

    fn fetch(&self, path: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.http_port);
        ureq::get(&url)
            .call()
            .ok()?
            .into_body()
            .read_to_string()
            .ok()
    }

    pub fn get(&self, path: &str) -> String {
        self.fetch(path).expect("an answer")
    }

    pub fn get_json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).unwrap()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// An ordered stop; returns the exit code.
    pub fn stop(mut self) -> i32 {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("not killed");
            }
            assert!(begin.elapsed() < START, "trucd does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Mosquitto with the configuration that `init` wrote, which dies with the test.
pub struct Mosquitto(Child);

impl Mosquitto {
    pub async fn start(hub: &Hub) -> Mosquitto {
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(hub.path("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package mosquitto is installed");
        let mut broker = Mosquitto(child);
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", hub.port)).is_err() {
            let ended = broker.0.try_wait().unwrap();
            assert!(ended.is_none(), "mosquitto refused its configuration");
            assert!(begin.elapsed() < START, "mosquitto does not listen");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        broker
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A box on the network: its engine, and a courier that is served by [`Live::until`].
pub struct Live {
    office: Option<Office>,
    name: String,
    tls: Arc<ClientConfig>,
    port: u16,
    clock: Clock,
    courier: Courier,
    events: mpsc::Receiver<CourierEvent>,
    pub is_up: bool,
    pub downs: Vec<DownReason>,
    pub publishes_refused: u64,
    /// Messages on topics that are not ours.
    pub foreign: u64,
}

impl Live {
    pub fn start(office: Office, hub: &Hub) -> Live {
        let mut live = Live::with_material(&office.material.clone(), hub);
        live.office = Some(office);
        live
    }

    /// Somebody with these certificates and no engine.
    pub fn with_material(material: &Path, hub: &Hub) -> Live {
        let clock = Clock::start(UnixMs(0));
        let files = Files {
            authority: hub.path("ca.crt"),
            certificate: material.join("box.crt"),
            key: material.join("box.key"),
        };
        let identity = Identity::load(&files, &clock, false).unwrap();
        let name = identity.facts.common_name.clone();
        let (courier, events) = courier(
            &name,
            hub.port,
            &identity.config,
            &clock,
            &[&format!("lt/1/{name}/down")],
        );
        Live {
            office: None,
            name,
            tls: identity.config,
            port: hub.port,
            clock,
            courier,
            events,
            is_up: false,
            downs: Vec::new(),
            publishes_refused: 0,
            foreign: 0,
        }
    }

    /// Connects anew, listening to other boxes as well as a hostile one can.
    pub fn also_subscribe(&mut self, filters: &[&str]) {
        let own = format!("lt/1/{}/down", self.name);
        let all: Vec<&str> = filters.iter().copied().chain([own.as_str()]).collect();
        (self.courier, self.events) = courier(&self.name, self.port, &self.tls, &self.clock, &all);
    }

    pub fn publish(&self, topic: &str, payload: &'static [u8]) {
        self.courier
            .try_publish(topic, Bytes::from_static(payload))
            .unwrap();
    }

    /// Takes samples in; they leave while somebody waits in [`Live::until`].
    pub fn keep(&mut self, samples: &[Sample]) {
        let now = self.clock.now();
        let office = self.office.as_mut().unwrap();
        let submission = office.submission(samples);
        let effects = office.engine.step(now, vec![Event::Submit(submission)]);
        self.apply(effects.unwrap());
    }

    pub fn waiting(&self) -> u64 {
        self.office
            .as_ref()
            .map_or(0, |office| office.engine.waiting().iter().sum())
    }

    /// Serves the link until `done`.
    pub async fn until(&mut self, what: &str, within: Duration, done: impl Fn(&Live) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(
                begin.elapsed() < within,
                "{what}: not within {within:?}; {} waiting, up {}, downs {:?}",
                self.waiting(),
                self.is_up,
                self.downs
            );
            let next = tokio::time::timeout(Duration::from_millis(50), self.events.recv()).await;
            let events = match next {
                Ok(event) => self.heard(event.expect("the courier lives")),
                Err(_) => Vec::new(),
            };
            if let Some(office) = &mut self.office {
                let effects = office.engine.step(self.clock.now(), events).unwrap();
                self.apply(effects);
            }
        }
    }

    fn heard(&mut self, event: CourierEvent) -> Vec<Event<()>> {
        match event {
            CourierEvent::Up {
                max_packet_bytes, ..
            } => {
                self.is_up = true;
                let topic = format!("lt/1/{}/up", self.name);
                return vec![Event::LinkUp {
                    message_bytes_max: payload_bytes_max(&topic, max_packet_bytes),
                }];
            }
            CourierEvent::Down { reason, .. } => {
                self.is_up = false;
                self.downs.push(reason);
                return vec![Event::LinkDown];
            }
            CourierEvent::Message { topic, payload } => {
                if topic == format!("lt/1/{}/down", self.name) {
                    return vec![Event::Received(payload)];
                }
                self.foreign += 1;
            }
            CourierEvent::PublishRefused { .. } => self.publishes_refused += 1,
            CourierEvent::Connecting { .. } | CourierEvent::Writable => {}
        }
        Vec::new()
    }

    fn apply(&mut self, effects: Vec<Effect<()>>) {
        let topic = wire::topic_up(&self.name.parse().unwrap());
        for effect in effects {
            match effect {
                // What finds no room is offered again.
                Effect::Publish(message) => drop(self.courier.try_publish(&topic, message)),
                Effect::RebuildLink => self.courier.rebuild(Rebuild::NoProgress),
                _ => {}
            }
        }
    }
}

fn courier(
    name: &str,
    port: u16,
    tls: &Arc<ClientConfig>,
    clock: &Clock,
    subscriptions: &[&str],
) -> (Courier, mpsc::Receiver<CourierEvent>) {
    let (sender, events) = mpsc::channel(64);
    let address = Address {
        host: "localhost".to_owned(),
        port,
    };
    let config = CourierConfig {
        subscriptions: subscriptions
            .iter()
            .map(|filter| (*filter).to_owned())
            .collect(),
        presence: Some(Presence {
            topic: format!("lt/1/{name}/presence"),
            online: Bytes::from_static(br#"{"online":true,"waiting":[0,0,0,0,0]}"#),
            offline: Bytes::from_static(br#"{"online":false}"#),
        }),
        ..CourierConfig::new(name, vec![address], tls.clone())
    };
    (Courier::start(config, clock.clone(), sender), events)
}
