//! How a synchronous loop waits: for the next message of a tokio channel, or until a time.
//!
//! The engine's thread is no part of the runtime, so that a slow disk delays nobody else. It parks,
//! and whoever sends wakes it; there is no polling, and an idle loop costs nothing.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::MonoMs;
use crate::shell::clock::Clock;

/// The receiving end of a channel, for the thread that made it.
pub struct Inbox<T> {
    queue: mpsc::Receiver<T>,
    clock: Clock,
    waker: Waker,
}

/// What ended a wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Message(T),
    /// The deadline has come.
    Deadline,
    /// Nobody can send any more, and nothing is left.
    Closed,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<T> Inbox<T> {
    /// To be called on the thread that will wait.
    pub fn new(queue: mpsc::Receiver<T>, clock: Clock) -> Inbox<T> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        Inbox {
            queue,
            clock,
            waker,
        }
    }

    /// Waits for a message, until `deadline` at most.
    pub fn next(&mut self, deadline: Option<MonoMs>) -> Next<T> {
        loop {
            let mut context = Context::from_waker(&self.waker);
            match self.queue.poll_recv(&mut context) {
                Poll::Ready(Some(message)) => return Next::Message(message),
                Poll::Ready(None) => return Next::Closed,
                Poll::Pending => {}
            }
            match deadline.map(|at| at.saturating_sub(self.clock.mono_ms())) {
                None => thread::park(),
                Some(0) => return Next::Deadline,
                Some(left_ms) => thread::park_timeout(Duration::from_millis(left_ms)),
            }
        }
    }

    /// A message that is there already.
    pub fn try_next(&mut self) -> Option<T> {
        self.queue.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMs;

    #[test]
    fn a_sender_wakes_the_loop_and_a_deadline_ends_the_wait() {
        let (sender, queue) = mpsc::channel(4);
        let clock = Clock::start(UnixMs(0));
        let mut inbox = Inbox::new(queue, clock.clone());
        assert_eq!(inbox.next(Some(clock.mono_ms())), Next::<u32>::Deadline);
        let started_ms = clock.mono_ms();
        assert_eq!(inbox.next(Some(started_ms + 30)), Next::Deadline);
        assert!(clock.mono_ms() >= started_ms + 30);
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            sender.blocking_send(7).expect("the loop lives");
            sender.blocking_send(8).expect("the loop lives");
        });
        assert_eq!(inbox.next(None), Next::Message(7));
        other.join().expect("no panic");
        assert_eq!(inbox.try_next(), Some(8));
        assert_eq!(inbox.next(None), Next::Closed);
    }
}
