//! The link to the hub: between the courier, which may lose anything, and the engine.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::edge::arrivals::Arrivals;
use crate::edge::config::Config;
use crate::edge::intake::Intake;
use crate::edge::live::Live;
use crate::edge::orders::Steering;
use crate::edge::owner::Outgoing;
use crate::edge::status::Status;
use crate::edge::status::read::Reader;
use crate::engine::sending::{Event, Level};
use crate::model::MonoMs;
use crate::model::limits::MESSAGE_BYTES_MAX;
use crate::shell::clock::Clock;
use crate::shell::courier::{Courier, CourierConfig, CourierEvent, Rebuild, payload_bytes_max};
use crate::shell::down::DownReason;
use crate::shell::mqtt::{NotQueued, Presence};
use crate::shell::tls::Identity;
use crate::wire;

use std::sync::Arc;

/// Events of the courier that may wait for us.
const EVENTS: usize = 16;
/// Messages of the engine that may wait for us: more than all windows of all lanes hold.
pub const OUTGOING: usize = 64;
/// A new identity that the hub has neither let in nor refused by then waits for another trial.
const TRIAL_MS: MonoMs = 20_000;
/// How often the hub is told how we are, when that has changed.
const PRESENCE_EVERY: Duration = Duration::from_secs(300);
/// The presence that the broker publishes when we are gone.
const OFFLINE: &str = r#"{"online":false}"#;
/// What stands around a payload in an MQTT packet takes less than this.
const PACKET_OVERHEAD_BYTES: usize = 256;

pub struct Link {
    /// None only while another identity takes over.
    courier: Option<Courier>,
    settings: CourierConfig,
    trials: mpsc::Receiver<Trial>,
    running: Option<Running>,
    events: mpsc::Receiver<CourierEvent>,
    outgoing: mpsc::Receiver<Outgoing>,
    /// What comes down goes there, and its receipts come from there.
    arrivals: Arrivals,
    receipts: mpsc::Receiver<Bytes>,
    intake: Intake,
    live: Arc<Live>,
    steering: Arc<Steering>,
    clock: Clock,
    reader: Reader,
    topic_up: String,
    topic_down: String,
    topic_presence: String,
    /// Messages that the courier had no room for.
    waiting: VecDeque<Bytes>,
    is_up: bool,
    /// The presence that was said last on this connection.
    said: Vec<u8>,
}

/// Another identity, to be proved by connecting with it.
pub struct Trial {
    pub tls: Arc<ClientConfig>,
    /// The present one is of no use, so nothing is lost when it cannot be proved at once.
    pub is_desperate: bool,
    pub verdict: oneshot::Sender<Verdict>,
}

/// What came of a trial. Only with [`Verdict::LetIn`] the link stays with the new identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    LetIn,
    Refused(DownReason),
    /// The hub could not be asked.
    Unknown,
}

/// A trial that runs, and the way back.
struct Running {
    before: Arc<ClientConfig>,
    until_ms: MonoMs,
    verdict: oneshot::Sender<Verdict>,
}

/// How a box is, for the hub's list of boxes.
#[derive(Debug, Serialize)]
struct Online<'a> {
    online: bool,
    version: &'a str,
    waiting: [u64; 5],
    oldest_waiting_s: u64,
    certificate_days: Option<i64>,
    since: String,
}

/// What the link carries between: the two engines, each with what goes to it and comes from it.
pub struct Ends {
    pub intake: Intake,
    pub outgoing: mpsc::Receiver<Outgoing>,
    pub arrivals: Arrivals,
    pub receipts: mpsc::Receiver<Bytes>,
    pub steering: Arc<Steering>,
    pub trials: mpsc::Receiver<Trial>,
}

impl Link {
    /// Starts the courier on the current runtime; it never waits for the network here.
    pub fn start(
        config: &Config,
        identity: &Identity,
        clock: Clock,
        live: Arc<Live>,
        reader: Reader,
        ends: Ends,
    ) -> Link {
        let box_id = &config.box_id;
        let topic_presence = wire::topic_presence(box_id);
        let topic_down = wire::topic_down(box_id);
        let mut courier = CourierConfig::new(
            box_id.as_str(),
            config.hub.addresses.clone(),
            Arc::clone(&identity.config),
        );
        let packet_bytes_max = MESSAGE_BYTES_MAX + PACKET_OVERHEAD_BYTES;
        courier.max_packet_bytes = u32::try_from(packet_bytes_max).expect("the limit fits");
        courier.keep_alive = Duration::from_millis(config.hub.keep_alive_ms);
        courier.subscriptions = vec![topic_down.clone()];
        courier.presence = Some(Presence {
            topic: topic_presence.clone(),
            online: presence(&reader.read()).into(),
            offline: Bytes::from_static(OFFLINE.as_bytes()),
        });
        let (sender, events) = mpsc::channel(EVENTS);
        Link {
            courier: Some(Courier::start(courier.clone(), clock.clone(), sender)),
            settings: courier,
            trials: ends.trials,
            running: None,
            events,
            outgoing: ends.outgoing,
            arrivals: ends.arrivals,
            receipts: ends.receipts,
            intake: ends.intake,
            live,
            steering: ends.steering,
            clock,
            reader,
            topic_up: wire::topic_up(box_id),
            topic_down,
            topic_presence,
            waiting: VecDeque::new(),
            is_up: false,
            said: Vec::new(),
        }
    }

    /// Carries both ways until it is dropped at a wait.
    pub async fn carry(&mut self) {
        if self.courier.is_none() {
            self.start_courier();
        }
        loop {
            let trial_ms = self.running.as_ref().map(|running| running.until_ms);
            let trial_ms = trial_ms.map(|until_ms| until_ms.saturating_sub(self.clock.mono_ms()));
            let trial_ends = Duration::from_millis(trial_ms.unwrap_or(0));
            tokio::select! {
                Some(trial) = self.trials.recv() => self.begin_trial(trial).await,
                () = tokio::time::sleep(trial_ends), if trial_ms.is_some() => {
                    self.end_trial(Verdict::Unknown).await;
                }
                Some(event) = self.events.recv() => self.heard(event).await,
                Some(receipt) = self.receipts.recv() => self.send_receipt(receipt),
                Some(outgoing) = self.outgoing.recv() => self.send(outgoing),
                // Every pause ends, and on the new connection all that waits is offered anew.
                () = self.steering.send_now.notified() => self.rebuild(Rebuild::Asked),
                () = tokio::time::sleep(PRESENCE_EVERY), if self.is_up => self.say_presence().await,
                else => return,
            }
        }
    }

    /// Says goodbye to the broker.
    pub async fn close(self) {
        if let Some(courier) = self.courier {
            courier.close().await;
        }
    }

    /// Leaves the present connection and tries the hub with another identity.
    async fn begin_trial(&mut self, trial: Trial) {
        let Trial {
            tls,
            is_desperate,
            verdict,
        } = trial;
        if !self.is_up && !is_desperate || self.running.is_some() {
            // Who asked may have gone.
            let _ = verdict.send(Verdict::Unknown);
            return;
        }
        self.running = Some(Running {
            before: Arc::clone(&self.settings.tls),
            until_ms: self.clock.mono_ms() + TRIAL_MS,
            verdict,
        });
        self.connect_as(tls).await;
    }

    /// Says what came of a trial; unless the new identity was let in, the one before takes over.
    async fn end_trial(&mut self, verdict: Verdict) {
        let Some(running) = self.running.take() else {
            return;
        };
        // Who asked may have gone.
        let _ = running.verdict.send(verdict);
        if verdict != Verdict::LetIn {
            self.connect_as(running.before).await;
        }
    }

    /// Another connection with this identity, in the place of the present one. The present one is
    /// closed first, so that nobody takes it for taken over.
    async fn connect_as(&mut self, tls: Arc<ClientConfig>) {
        self.settings.tls = tls;
        self.waiting.clear();
        self.events = mpsc::channel(1).1;
        if let Some(courier) = self.courier.take() {
            courier.close().await;
        }
        if std::mem::take(&mut self.is_up) {
            self.intake.link(Event::LinkDown).await;
            self.arrivals.link(false).await;
        }
        self.start_courier();
    }

    fn start_courier(&mut self) {
        let (sender, events) = mpsc::channel(EVENTS);
        self.events = events;
        let settings = self.settings.clone();
        self.courier = Some(Courier::start(settings, self.clock.clone(), sender));
    }

    async fn heard(&mut self, event: CourierEvent) {
        let now = self.clock.now().wall;
        match event {
            CourierEvent::Connecting { address } => self.live.link_connecting(address.to_string()),
            CourierEvent::Up {
                address,
                max_packet_bytes,
                ..
            } => {
                self.is_up = true;
                self.waiting.clear();
                self.said.clear();
                self.live.link_up(address.to_string(), now);
                let message_bytes_max = payload_bytes_max(&self.topic_up, max_packet_bytes);
                self.intake.link(Event::LinkUp { message_bytes_max }).await;
                self.arrivals.link(true).await;
                self.intake
                    .note(Level::Info, "link_up", address.to_string())
                    .await;
                self.say_presence().await;
                self.end_trial(Verdict::LetIn).await;
            }
            CourierEvent::Message { topic, payload } if topic == self.topic_down => {
                match wire::is_receipt(&payload) {
                    true => self.intake.link(Event::Received(payload)).await,
                    false => self.arrivals.batch(payload),
                }
            }
            CourierEvent::Message { topic, .. } => {
                tracing::debug!(topic, "a message on a topic that we did not ask for");
            }
            CourierEvent::Writable => self.flush(),
            CourierEvent::PublishRefused { reason_code } => {
                // The engine offers it again, and rebuilds the link when that helps nothing.
                tracing::warn!(reason_code, "the broker threw a message away");
            }
            CourierEvent::Down { address, reason } => {
                self.waiting.clear();
                self.live.link_down(address.to_string(), reason, now);
                if std::mem::take(&mut self.is_up) {
                    self.intake.link(Event::LinkDown).await;
                    self.arrivals.link(false).await;
                    let detail = format!("{address}: {reason}");
                    self.intake.note(Level::Warning, "link_down", detail).await;
                }
                if is_refusal(reason) {
                    self.end_trial(Verdict::Refused(reason)).await;
                }
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Publish(message) if self.is_up => {
                self.waiting.push_back(message);
                self.flush();
            }
            // Of a link that is gone; the engine offers it again on the next.
            Outgoing::Publish(_) => {}
            Outgoing::Rebuild => self.rebuild(Rebuild::NoProgress),
        }
    }

    fn rebuild(&self, why: Rebuild) {
        if let Some(courier) = &self.courier {
            courier.rebuild(why);
        }
    }

    /// A receipt is small, and the hub waits for it: it goes before the batches.
    fn send_receipt(&mut self, receipt: Bytes) {
        if self.is_up {
            self.waiting.push_front(receipt);
            self.flush();
        }
    }

    /// Hands the courier what it has room for.
    fn flush(&mut self) {
        let Some(courier) = &self.courier else {
            return;
        };
        while let Some(message) = self.waiting.pop_front() {
            match courier.try_publish(&self.topic_up, message.clone()) {
                Ok(()) => {}
                Err(NotQueued::Full) => return self.waiting.push_front(message),
                Err(NotQueued::NoLink) => return self.waiting.clear(),
                Err(error @ (NotQueued::TooLarge { .. } | NotQueued::BadTopic)) => {
                    tracing::error!(%error, "a message cannot be sent");
                }
            }
        }
    }

    async fn say_presence(&mut self) {
        let reader = self.reader.clone();
        let Ok(online) = tokio::task::spawn_blocking(move || presence(&reader.read())).await else {
            return;
        };
        if online == self.said {
            return;
        }
        let message = Bytes::from(online.clone());
        // What cannot be said now is said in five minutes.
        let told = self.courier.as_ref().is_some_and(|courier| {
            let topic = &self.topic_presence;
            courier.try_publish_retained(topic, message).is_ok()
        });
        if told {
            self.said = online;
        }
    }
}

/// Whether somebody has looked at our certificate and turned us away. With TLS 1.3 that often shows
/// as a connection that is closed without a word.
fn is_refusal(reason: DownReason) -> bool {
    match reason {
        DownReason::TlsOursRefused
        | DownReason::ClosedByPeer
        | DownReason::KeepsClosing
        | DownReason::SubscriptionRefused(_) => true,
        // Client id not valid, bad user name or password, not authorized, banned.
        DownReason::MqttRefused(code) => matches!(code, 0x85..=0x87 | 0x8a),
        _ => false,
    }
}

fn presence(status: &Status) -> Vec<u8> {
    let mut waiting = [0; 5];
    for lane in &status.lanes {
        waiting[lane.lane.index()] = lane.waiting;
    }
    let online = Online {
        online: true,
        version: &status.version,
        waiting,
        oldest_waiting_s: status.oldest_s(),
        certificate_days: status
            .certificate
            .as_ref()
            .map(|certificate| certificate.days_left),
        since: status.running_since.unwrap_or(status.at).to_string(),
    };
    serde_json::to_vec(&online).expect("a presence is plain JSON")
}
