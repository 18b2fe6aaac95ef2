//! The door to the engine: the handle through which every source hands records in.
//!
//! What is answered here is committed. The queue is bounded in messages and in bytes, so a slow
//! disk slows the sources down instead of filling memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::engine::sending::{Answer, Event, Level, Submission};
use crate::model::SourceName;

/// Messages that may wait for the engine.
const QUEUE: usize = 256;
/// Bytes of records that may wait for the engine, in units of [`UNIT_BYTES`].
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
const UNIT_BYTES: usize = 1024;

/// How the engine answers a submission.
pub type Reply = oneshot::Sender<Result<Answer, IntakeError>>;

/// What the engine's thread is told.
pub enum Input {
    Event(Event<Reply>),
    /// Where does this source stand?
    Cursor {
        source: SourceName,
        reply: oneshot::Sender<Option<String>>,
    },
    /// Records that count against the bytes waiting until the engine has taken them.
    Submit(Submission<Reply>, OwnedSemaphorePermit),
    /// Is the loop alive?
    Ping(oneshot::Sender<Pong>),
    /// Take nothing more, write everything down, close the store.
    Stop,
}

/// A sign of life of the engine's loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// Whether the store is open and takes records.
    pub is_ready: bool,
}

/// Why records were not kept; the engine's own refusals are an [`Answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// Nothing was kept.
    #[error("the store is not available")]
    StoreClosed,
    /// Nothing was kept.
    #[error("the disk or the store's quota is full")]
    StoreFull,
    /// The store failed while these records were being written: most probably nothing was kept,
    /// but only a repeat with the same key or id makes sure.
    #[error("the store failed while writing")]
    Unsure,
    /// Nothing was kept.
    #[error("the program is stopping")]
    Stopping,
}

/// A cheap handle; clones lead to the same engine.
#[derive(Debug, Clone)]
pub struct Intake {
    queue: mpsc::Sender<Input>,
    room: Arc<Semaphore>,
}

/// A handle, and the end from which the engine's thread reads.
pub fn channel() -> (Intake, mpsc::Receiver<Input>) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX / UNIT_BYTES));
    (Intake { queue, room }, receiver)
}

impl Intake {
    /// Hands records in, all or none, and waits for the commit. Safe to drop while it waits: the
    /// records may then be kept without anybody hearing of it, as after a power cut.
    pub async fn submit(&self, submission: Submission<()>) -> Result<Answer, IntakeError> {
        let bytes: usize = submission
            .records
            .iter()
            .map(|record| record.tail.len())
            .sum::<usize>()
            + submission.beside.bytes();
        let units = (bytes / UNIT_BYTES + 1).min(WAITING_BYTES_MAX / UNIT_BYTES);
        let units = u32::try_from(units).expect("the limit fits");
        let permit = Arc::clone(&self.room).acquire_many_owned(units).await;
        let permit = permit.expect("the semaphore is never closed");
        let (reply, answer) = oneshot::channel();
        let Submission {
            reply: (),
            source,
            records,
            once,
            cursor,
            beside,
        } = submission;
        let submission = Submission {
            reply,
            source,
            records,
            once,
            cursor,
            beside,
        };
        let input = Input::Submit(submission, permit);
        self.queue
            .send(input)
            .await
            .map_err(|_| IntakeError::Stopping)?;
        answer.await.map_err(|_| IntakeError::Unsure)?
    }

    /// Asks for room for attachments: what the hub has is given up before its time.
    pub async fn make_room(&self) {
        self.tell(Event::MakeRoom).await;
    }

    /// Counts records that a source refused at the door. `reason` goes onto the page and holds no
    /// personal data.
    pub async fn refused(&self, source: SourceName, records: u64, reason: String) {
        self.tell(Event::Refused {
            source,
            records,
            reason,
        })
        .await;
    }

    /// Writes into the list of events. `detail` holds no personal data.
    pub async fn note(&self, level: Level, code: &'static str, detail: String) {
        self.tell(Event::Note {
            level,
            code,
            detail,
        })
        .await;
    }

    /// Where a source stood when its last records were kept.
    pub async fn cursor(&self, source: SourceName) -> Result<Option<String>, IntakeError> {
        let (reply, answer) = oneshot::channel();
        let input = Input::Cursor { source, reply };
        self.queue
            .send(input)
            .await
            .map_err(|_| IntakeError::Stopping)?;
        answer.await.map_err(|_| IntakeError::StoreClosed)
    }

    /// Waits for a sign of life: the loop gives it after the step in hand.
    pub async fn ping(&self) -> Result<Pong, IntakeError> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Input::Ping(reply))
            .await
            .map_err(|_| IntakeError::Stopping)?;
        answer.await.map_err(|_| IntakeError::Stopping)
    }

    /// The link's events, in their order.
    pub(in crate::edge) async fn link(&self, event: Event<Reply>) {
        self.tell(event).await;
    }

    /// Ends the loop after what is queued already.
    pub(in crate::edge) async fn stop(&self) {
        // A loop that has ended needs no telling.
        let _ = self.queue.send(Input::Stop).await;
    }

    /// Counts and notes are no part of any promise; at the end of the program they are dropped.
    async fn tell(&self, event: Event<Reply>) {
        let _ = self.queue.send(Input::Event(event)).await;
    }
}
