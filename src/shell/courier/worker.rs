//! The courier's task: attempts, links and pauses, one after the other.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep;

use crate::shell::backoff::{Backoff, Ending, STABLE_MS};
use crate::shell::clock::Clock;
use crate::shell::courier::{CourierConfig, CourierEvent, Rebuild};
use crate::shell::dial::{Dialer, Life, Line};
use crate::shell::down::DownReason;
use crate::shell::mqtt::{self, Greeting, Heard, Publisher, Session};

/// Each return to the first address doubles the wait for the next one, up to this, so that a first
/// address that answers but makes no progress is not returned to all day.
const RETURN_AFTER_MAX: Duration = Duration::from_secs(4 * 3_600);
/// From this many links on that were closed early, the repetition itself is told.
const CLOSED_EARLY_MAX: u32 = 3;

/// What the handle and the worker share.
#[derive(Default)]
pub(super) struct Link {
    /// Present while the link is up.
    publisher: Mutex<Option<Publisher>>,
    /// Somebody was told `Full` and waits for `Writable`.
    pub(super) wants_room: AtomicBool,
}

impl Link {
    pub(super) fn publisher(&self) -> MutexGuard<'_, Option<Publisher>> {
        self.publisher.lock().expect("no holder panics")
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Rebuild(Rebuild),
    Close,
}

/// Why the worker ends; not an error.
struct Ended;

pub(super) struct Worker<E> {
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
    pub(super) fn new(
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

    pub(super) async fn run(mut self) {
        let Err(Ended) = self.serve().await;
        *self.link.publisher() = None;
    }

    /// Attempts and links, for ever. A whole round over the addresses fails before a pause.
    async fn serve(&mut self) -> Result<Infallible, Ended> {
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
        self.forget_rebuilds()?;
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

    /// What the caller asked for while this link stood is done with it.
    fn forget_rebuilds(&mut self) -> Result<(), Ended> {
        while let Ok(command) = self.commands.try_recv() {
            if matches!(command, Command::Close) {
                return Err(Ended);
            }
        }
        Ok(())
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
                Ok(Heard::Progress) => match link.wants_room.swap(false, Ordering::SeqCst) {
                    true => CourierEvent::Writable,
                    false => continue,
                },
                Err(reason) => return Ok((reason, None)),
            };
            hand_over(events, event.into(), &life).await?;
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
        self.link.wants_room.store(false, Ordering::SeqCst);
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

/// Waits for a place in the caller's channel. Nobody listened to the line meanwhile, so its
/// silence begins anew.
async fn hand_over<E>(events: &mpsc::Sender<E>, event: E, life: &Life) -> Result<(), Ended> {
    match events.try_send(event) {
        Ok(()) => Ok(()),
        Err(TrySendError::Closed(_)) => Err(Ended),
        Err(TrySendError::Full(event)) => {
            events.send(event).await.map_err(|_| Ended)?;
            life.seen();
            Ok(())
        }
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
