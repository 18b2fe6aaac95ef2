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

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::shell::backoff::{Backoff, CAP_MS, Ending, STABLE_MS};
use crate::shell::clock::Clock;
use crate::shell::dial::{Address, Dialer, Line};
use crate::shell::down::DownReason;
use crate::shell::mqtt::{self, Greeting, Heard, NotQueued, Presence, Publisher, Session};

/// A standby hub is left again after its first address could be reached this long after.
const RETURN_AFTER: Duration = Duration::from_secs(600);
/// Each return doubles the wait for the next one, up to this, so that a first address that answers
/// but makes no progress is not returned to all day.
const RETURN_AFTER_MAX: Duration = Duration::from_secs(4 * 3_600);
/// Requests of the caller to the courier: only the first of several matters.
const COMMANDS: usize = 4;
/// From this many links on that were closed early, the repetition itself is told.
const CLOSED_EARLY_MAX: u32 = 3;
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

/// What the courier tells. Attempts that repeat what was told already are not told again.
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
        let publisher = self.link.publisher();
        let result = match publisher.as_ref() {
            Some(publisher) => publisher.try_publish(topic, payload),
            None => Err(NotQueued::NoLink),
        };
        if result == Err(NotQueued::Full) {
            self.link.wants_room.store(true, Ordering::Relaxed);
        }
        result
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

/// What the handle and the worker share.
#[derive(Default)]
struct Link {
    /// Present while the link is up.
    publisher: Mutex<Option<Publisher>>,
    /// Somebody was told `Full` and waits for `Writable`.
    wants_room: AtomicBool,
}

impl Link {
    fn publisher(&self) -> MutexGuard<'_, Option<Publisher>> {
        self.publisher.lock().expect("no holder panics")
    }
}

#[derive(Debug, Clone, Copy)]
enum Command {
    Rebuild(Rebuild),
    Close,
}

/// Why the worker ends; not an error.
struct Ended;

struct Worker<E> {
    greeting: Greeting,
    dialers: Vec<Dialer>,
    clock: Clock,
    events: mpsc::Sender<E>,
    commands: mpsc::Receiver<Command>,
    link: Arc<Link>,
    backoff: Backoff,
    return_base: Duration,
    return_after: Duration,
    /// Per address, what was told since the link was last up.
    told: Vec<Told>,
    /// Links in a row that were closed without a word before they were stable.
    closed_early: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Connecting,
    Down(DownReason),
}

/// How a link that stood ended.
struct Loss {
    reason: DownReason,
    up_ms: u64,
    /// The first address answers: its line, ready for use.
    first: Option<Line>,
}

impl<E> Worker<E>
where
    E: From<CourierEvent> + Send + 'static,
{
    fn new(
        config: CourierConfig,
        clock: Clock,
        events: mpsc::Sender<E>,
        commands: mpsc::Receiver<Command>,
        link: Arc<Link>,
    ) -> Worker<E> {
        let dialer = |address| Dialer::new(address, Arc::clone(&config.tls), clock.clone());
        let dialers: Vec<Dialer> = config.addresses.into_iter().map(dialer).collect();
        let told = vec![Told::Nothing; dialers.len()];
        let greeting = Greeting {
            client_id: config.client_id,
            keep_alive: config.keep_alive,
            presence: config.presence,
            subscriptions: config.subscriptions,
            max_packet_bytes: config.max_packet_bytes,
            in_flight: config.in_flight.max(1),
        };
        Worker {
            greeting,
            dialers,
            clock,
            events,
            commands,
            link,
            backoff: Backoff::new(config.spread),
            return_base: config.return_after,
            return_after: config.return_after,
            told,
            closed_early: 0,
        }
    }

    async fn run(mut self) {
        let Err(Ended) = self.serve().await;
        *self.link.publisher() = None;
    }

    /// Attempts and links, for ever. A whole round over the addresses fails before a pause.
    async fn serve(&mut self) -> Result<std::convert::Infallible, Ended> {
        let mut at = 0;
        let mut line = None;
        let mut round = Round::default();
        loop {
            match self.attempt(at, line.take()).await? {
                Ok(session) => {
                    let loss = self.serve_link(at, session).await?;
                    round = Round::default();
                    line = loss.first;
                    at = self
                        .after_loss(at, loss.reason, loss.up_ms, line.is_some())
                        .await?;
                }
                Err(reason) => {
                    self.tell_down(at, reason).await?;
                    at = (at + 1) % self.dialers.len();
                    if let Some(ending) = round.failed(reason, self.dialers.len()) {
                        self.pause(ending).await?;
                    }
                }
            }
        }
    }

    /// Dials, unless there is a line already, and opens a session.
    async fn attempt(
        &mut self,
        at: usize,
        line: Option<Line>,
    ) -> Result<Result<Session, DownReason>, Ended> {
        let address = self.dialers[at].address.clone();
        if self.told[at] == Told::Nothing {
            self.told[at] = Told::Connecting;
            self.tell(CourierEvent::Connecting { address }).await?;
        }
        let Worker {
            dialers,
            greeting,
            commands,
            ..
        } = self;
        let attempt = async {
            let line = match line {
                Some(line) => line,
                None => dialers[at].dial().await?,
            };
            Session::open(line, greeting).await
        };
        match unless_commanded(commands, attempt).await {
            Ok(result) => Ok(result),
            Err(Command::Rebuild(_)) => Ok(Err(DownReason::Asked)),
            Err(Command::Close) => Err(Ended),
        }
    }

    /// Carries messages until the link is lost or given up.
    async fn serve_link(&mut self, at: usize, mut session: Session) -> Result<Loss, Ended> {
        let since_ms = self.clock.mono_ms();
        self.tell_up(at, &session).await?;
        let (reason, first) = match self.carry(at, &mut session).await {
            Ok(ending) => ending,
            Err(Ended) => {
                *self.link.publisher() = None;
                session.close().await;
                return Err(Ended);
            }
        };
        *self.link.publisher() = None;
        if matches!(reason, DownReason::Asked | DownReason::Returning) {
            session.close().await;
        } else {
            drop(session);
        }
        let up_ms = self.clock.mono_ms() - since_ms;
        let reason = self.name_repetition(reason, up_ms);
        self.tell_down(at, reason).await?;
        Ok(Loss {
            reason,
            up_ms,
            first,
        })
    }

    /// One link that is closed early says little, several in a row say more.
    fn name_repetition(&mut self, reason: DownReason, up_ms: u64) -> DownReason {
        if reason != DownReason::ClosedByPeer || up_ms >= STABLE_MS {
            self.closed_early = 0;
            return reason;
        }
        self.closed_early += 1;
        match self.closed_early < CLOSED_EARLY_MAX {
            true => reason,
            false => DownReason::KeepsClosing,
        }
    }

    async fn carry(
        &mut self,
        at: usize,
        session: &mut Session,
    ) -> Result<(DownReason, Option<Line>), Ended> {
        let silence_max = session.terms.keep_alive * 3 / 2;
        let life = session.life.clone();
        let Worker {
            dialers,
            commands,
            events,
            link,
            return_after,
            ..
        } = self;
        let mut silence = pin!(sleep(silence_max));
        let mut first = pin!(first_address(&mut dialers[0], at, *return_after));
        loop {
            let mut next = pin!(session.next());
            let heard = loop {
                tokio::select! {
                    biased;
                    heard = &mut next => break heard,
                    command = commands.recv() => match command {
                        Some(Command::Rebuild(Rebuild::NoProgress)) => return Ok((DownReason::NoProgress, None)),
                        Some(Command::Rebuild(Rebuild::Asked)) => return Ok((DownReason::Asked, None)),
                        Some(Command::Close) | None => return Err(Ended),
                    },
                    line = &mut first => return Ok((DownReason::Returning, Some(line))),
                    () = &mut silence => match silence_max.checked_sub(life.silence()) {
                        Some(left) if !left.is_zero() => silence.set(sleep(left)),
                        _ => return Ok((DownReason::Silent, None)),
                    },
                }
            };
            let event = match heard {
                Ok(Heard::Message(message)) => CourierEvent::Message {
                    topic: message.topic,
                    payload: message.payload,
                },
                Ok(Heard::PublishRefused(reason_code)) => {
                    tracing::warn!(reason_code, "the broker refused a message of ours");
                    CourierEvent::PublishRefused { reason_code }
                }
                Ok(Heard::Progress) => match link.wants_room.swap(false, Ordering::Relaxed) {
                    true => CourierEvent::Writable,
                    false => continue,
                },
                Err(reason) => return Ok((reason, None)),
            };
            events.send(event.into()).await.map_err(|_| Ended)?;
        }
    }

    /// Pauses as the loss demands, and says which address is next.
    async fn after_loss(
        &mut self,
        at: usize,
        reason: DownReason,
        up_ms: u64,
        first_is_ready: bool,
    ) -> Result<usize, Ended> {
        if first_is_ready {
            self.return_after = (self.return_after * 2).min(RETURN_AFTER_MAX.max(self.return_base));
            return Ok(0);
        }
        if at == 0 && u128::from(up_ms) >= self.return_base.as_millis() {
            self.return_after = self.return_base;
        }
        let several = self.dialers.len() > 1;
        let ending = match reason.ending_of_link(up_ms) {
            // There is somewhere else to go, so nobody needs to wait for this one.
            Ending::HubWide { up_ms } if several => Ending::Lost { up_ms },
            ending => ending,
        };
        self.pause(ending).await?;
        let leaves =
            reason == DownReason::NoProgress || matches!(reason, DownReason::BrokerLeft(_));
        Ok(if leaves {
            (at + 1) % self.dialers.len()
        } else {
            at
        })
    }

    async fn pause(&mut self, ending: Ending) -> Result<(), Ended> {
        let pause = self.backoff.pause(ending, roll());
        match unless_commanded(&mut self.commands, sleep(pause)).await {
            Ok(()) | Err(Command::Rebuild(_)) => Ok(()),
            Err(Command::Close) => Err(Ended),
        }
    }

    async fn tell_up(&mut self, at: usize, session: &Session) -> Result<(), Ended> {
        self.told.fill(Told::Nothing);
        let address = self.dialers[at].address.clone();
        let mqtt::Terms {
            max_packet_bytes,
            receive_maximum,
            ..
        } = session.terms;
        tracing::info!(%address, max_packet_bytes, receive_maximum, "link to the hub is up");
        self.link.wants_room.store(false, Ordering::Relaxed);
        *self.link.publisher() = Some(session.publisher());
        self.tell(CourierEvent::Up {
            address,
            max_packet_bytes,
            receive_maximum,
        })
        .await
    }

    async fn tell_down(&mut self, at: usize, reason: DownReason) -> Result<(), Ended> {
        if self.told[at] == Told::Down(reason) {
            return Ok(());
        }
        self.told[at] = Told::Down(reason);
        let address = self.dialers[at].address.clone();
        tracing::warn!(%address, %reason, "no link to the hub");
        self.tell(CourierEvent::Down { address, reason }).await
    }

    async fn tell(&self, event: CourierEvent) -> Result<(), Ended> {
        self.events.send(event.into()).await.map_err(|_| Ended)
    }
}

/// Failures since the last link or pause.
#[derive(Default)]
struct Round {
    failures: usize,
    worst: Option<Ending>,
}

impl Round {
    /// Counts a failure; at the end of a round, what its costliest attempt cost the hub.
    fn failed(&mut self, reason: DownReason, addresses: usize) -> Option<Ending> {
        let cost = |ending: &Ending| match ending {
            Ending::Unreachable => 0,
            Ending::Silent => 1,
            Ending::Failed | Ending::Lost { .. } => 2,
            Ending::HubWide { .. } => 3,
            Ending::TakenOver => 4,
        };
        let ending = reason.ending_of_attempt();
        self.worst = self.worst.into_iter().chain([ending]).max_by_key(cost);
        self.failures += 1;
        if self.failures < addresses {
            return None;
        }
        self.failures = 0;
        self.worst.take()
    }
}

/// A line to the first address, as soon as it can be had while a later one is in use.
async fn first_address(dialer: &mut Dialer, at: usize, wait: Duration) -> Line {
    if at == 0 {
        return std::future::pending().await;
    }
    loop {
        sleep(wait).await;
        if let Ok(line) = dialer.dial().await {
            return line;
        }
    }
}

/// Works until it is done or the caller wants something else; a dropped handle means `Close`.
async fn unless_commanded<T>(
    commands: &mut mpsc::Receiver<Command>,
    work: impl Future<Output = T>,
) -> Result<T, Command> {
    tokio::select! {
        biased;
        command = commands.recv() => Err(command.unwrap_or(Command::Close)),
        done = work => Ok(done),
    }
}

/// A random number from the operating system.
fn roll() -> u64 {
    getrandom::u64().expect("the operating system has random numbers")
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

    #[test]
    fn a_round_over_several_addresses_remembers_its_costliest_attempt() {
        let mut round = Round::default();
        assert_eq!(round.failed(DownReason::TlsExpired, 2), None);
        assert_eq!(
            round.failed(DownReason::TcpRefused, 2),
            Some(Ending::Failed)
        );
        assert_eq!(round.failed(DownReason::TcpRefused, 2), None);
        assert_eq!(
            round.failed(DownReason::TcpTimedOut, 2),
            Some(Ending::Silent)
        );
        assert_eq!(
            round.failed(DownReason::TcpRefused, 1),
            Some(Ending::Unreachable)
        );
    }
}
