//! The courier: keeps one MQTT session to the hub, and carries bytes both ways.
//!
//! It promises nothing. It may lose any message at any moment: what was queued or in flight when a
//! link breaks is forgotten, and the engine offers it again from the store after the next `Up`.
//! What it does keep: a bounded queue, the broker's limits, one connection at a time, a dead line
//! found within one and a half times the keep-alive, and an exact word for why there is no link.
//!
//! Events go into the channel of the caller's loop. The courier waits when that channel is full,
//! so a slow engine slows the socket instead of filling memory; the caller therefore never waits
//! for the courier.

mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::shell::backoff::CAP_MS;
use crate::shell::clock::Clock;
use crate::shell::courier::worker::{Command, Link, Worker};
use crate::shell::dial::Address;
use crate::shell::down::DownReason;
use crate::shell::mqtt::{self, NotQueued, Presence};

/// A standby hub is left again after its first address could be reached this long after.
const RETURN_AFTER: Duration = Duration::from_secs(600);
/// Requests of the caller to the courier: only the first of several matters.
const COMMANDS: usize = 4;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a courier needs to know.
#[derive(Debug, Clone)]
pub struct CourierConfig {
    /// The box id; another client with the same one takes our place.
    pub client_id: String,
    /// Where the hub listens, the best address first; not empty.
    pub addresses: Vec<Address>,
    pub tls: Arc<ClientConfig>,
    pub presence: Option<Presence>,
    /// Topic filters; `$share/group/filter` shares with other workers.
    pub subscriptions: Vec<String>,
    pub keep_alive: Duration,
    /// Largest MQTT packet, each way.
    pub max_packet_bytes: u32,
    /// Most unacknowledged messages, each way, and as many more wait in the queue.
    pub in_flight: u16,
    /// Over how long a fleet spreads its return when the hub sent everybody away.
    pub spread: Duration,
    /// How long a later address is used before the first one is tried again.
    pub return_after: Duration,
}

impl CourierConfig {
    /// A box's settings; a hub raises `in_flight`.
    pub fn new(client_id: &str, addresses: Vec<Address>, tls: Arc<ClientConfig>) -> CourierConfig {
        CourierConfig {
            client_id: client_id.to_owned(),
            addresses,
            tls,
            presence: None,
            subscriptions: Vec::new(),
            keep_alive: Duration::from_secs(30),
            max_packet_bytes: 128 * 1024,
            in_flight: 8,
            spread: Duration::from_millis(CAP_MS),
            return_after: RETURN_AFTER,
        }
    }
}

/// What the courier tells. An attempt that fails like the one before is not told again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CourierEvent {
    Connecting {
        address: Address,
    },
    /// The broker confirmed the connection and every subscription: offer everything anew. A packet
    /// may have `max_packet_bytes`; `payload_bytes_max` says how large the payload may be.
    Up {
        address: Address,
        max_packet_bytes: u32,
        receive_maximum: u16,
    },
    Message {
        topic: String,
        payload: Bytes,
    },
    /// There is room again after `try_publish` said `Full`.
    Writable,
    /// The broker took a message and threw it away, with this MQTT 5 reason code.
    PublishRefused {
        reason_code: u8,
    },
    /// No link, and all that was queued is forgotten.
    Down {
        address: Address,
        reason: DownReason,
    },
}

/// Why the caller wants another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    /// Rows wait too long for their receipt: the next address is tried.
    NoProgress,
    /// The same address again.
    Asked,
}

/// Largest payload on `topic` within a packet of `max_packet_bytes`.
pub fn payload_bytes_max(topic: &str, max_packet_bytes: u32) -> usize {
    // The longest header, so that the answer holds for every payload up to it.
    let header_bytes =
        mqtt::packet_bytes(topic, max_packet_bytes as usize) - max_packet_bytes as usize;
    (max_packet_bytes as usize).saturating_sub(header_bytes)
}

/// Handle of a running courier. Dropping it ends the courier.
pub struct Courier {
    link: Arc<Link>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Courier {
    /// Starts a courier on the current runtime. It also ends when `events` has no receiver.
    pub fn start<E>(config: CourierConfig, clock: Clock, events: mpsc::Sender<E>) -> Courier
    where
        E: From<CourierEvent> + Send + 'static,
    {
        assert!(!config.addresses.is_empty(), "a courier needs an address");
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let link = Arc::new(Link::default());
        let worker = Worker::new(config, clock, events, receiver, Arc::clone(&link));
        Courier {
            link,
            commands,
            task: tokio::spawn(worker.run()),
        }
    }

    /// Queues a message. Never waits; may be called from any thread.
    pub fn try_publish(&self, topic: &str, payload: Bytes) -> Result<(), NotQueued> {
        self.queue(topic, payload, false)
    }

    /// As `try_publish`, for a message that the broker keeps for whoever subscribes later.
    pub fn try_publish_retained(&self, topic: &str, payload: Bytes) -> Result<(), NotQueued> {
        self.queue(topic, payload, true)
    }

    fn queue(&self, topic: &str, payload: Bytes, retained: bool) -> Result<(), NotQueued> {
        let publisher = self.link.publisher();
        let publisher = publisher.as_ref().ok_or(NotQueued::NoLink)?;
        match publisher.try_publish(topic, payload.clone(), retained) {
            Err(NotQueued::Full) => {
                // Asked for before the second try: else the queue could empty itself in between,
                // and nobody would tell of the room.
                self.link.wants_room.store(true, Ordering::SeqCst);
                publisher.try_publish(topic, payload, retained)
            }
            result => result,
        }
    }

    /// Throws the connection away and makes another.
    pub fn rebuild(&self, why: Rebuild) {
        // A full channel means that a rebuild is already due.
        let _ = self.commands.try_send(Command::Rebuild(why));
    }

    /// Says goodbye to the broker and waits for the end; at most `CLOSE_TIMEOUT`, because the
    /// courier may be waiting for a place in the channel that the caller no longer empties.
    pub async fn close(self) {
        let Courier { commands, task, .. } = self;
        let abort = task.abort_handle();
        let farewell = async {
            if commands.send(Command::Close).await.is_ok() {
                // A worker that panicked has ended as well.
                let _ = task.await;
            }
        };
        if timeout(CLOSE_TIMEOUT, farewell).await.is_err() {
            abort.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_payload_fills_the_packet_and_no_more() {
        for limit in [200_u32, 16_500, 131_072, 3_000_000] {
            let payload = payload_bytes_max("lt/1/a/up", limit);
            assert!(mqtt::packet_bytes("lt/1/a/up", payload) <= limit as usize);
            assert!(mqtt::packet_bytes("lt/1/a/up", payload + 3) > limit as usize);
        }
        assert_eq!(payload_bytes_max("lt/1/a/up", 5), 0);
    }
}
