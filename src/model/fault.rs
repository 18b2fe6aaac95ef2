//! Faults that the simulation plants to prove that it would notice them.
//!
//! Without the feature `planted-faults` nothing can be planted and every question is answered
//! "no" at compile time.

/// A broken promise, each in the place where it would be broken in earnest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The source hears "accepted" before the commit.
    AnswerBeforeCommit,
    /// The hub gives its receipt before the commit.
    ReceiptBeforeCommit,
    /// A connection begins without a greeting, and the hub does not say where it stands.
    NoGreeting,
    /// What was not answered is not offered again.
    NoResendTimer,
    /// The hub does not ask for what is missing.
    NoResendRequest,
    /// What was sent counts as delivered: the window goes on from memory instead of from the store.
    WindowFromMemory,
    /// The hub takes a batch without looking at chain and signature.
    ChainNotChecked,
    /// A source's cursor is written in a transaction of its own, before the rows.
    CursorOutside,
    /// A repeat's key is written in a transaction of its own, before the rows.
    OnceOutside,
    /// A repeat with the same key is taken again.
    RepeatTakenAgain,
    /// Entries are forgotten when they are sent, not when the receipt comes.
    ForgetOnSend,
    /// A receipt is believed, whoever signed it.
    AnyReceipt,
    /// A range that was lost is not announced.
    LossNotSaid,
    /// A range that was announced as lost is not written down.
    LossNotNoted,
    /// A store that was set back goes on in its old epoch.
    NoNewEpoch,
    /// A receipt for other entries with our numbers, a clone's, is taken for ours.
    ChainNotCompared,
    /// The hub does not look for doubles after a new epoch.
    NoContentIds,
    /// A late record overwrites a newer one in the current state.
    LateOverwrites,
    /// The lane that is least urgent goes first.
    UrgentLast,
    /// "Accepted" is said after a commit that is not on the disk yet.
    AcceptedUnsynced,
    /// The box gives its receipt for what came down before the commit.
    DownReceiptBeforeCommit,
    /// What goes down is forgotten when it is sent.
    ForgetOnPost,
    /// The hub goes on in the old epoch when a box has another history.
    NoNewDownEpoch,
    /// A box believes what comes down, whoever signed it.
    AnyDownBatch,
    /// The hub believes a box's receipt, whoever signed it.
    AnyDownReceipt,
    /// A box goes back to an epoch that has ended.
    OldDownEpoch,
    /// An order is struck off in a transaction of its own, before it is in the log.
    OrderOutside,
    /// An order that was taken up stays an order.
    OrderTwice,
    /// Entries that were dropped for want of room are not noted.
    DropNotNoted,
    /// Positions of what came down move in a transaction of their own, after the entries.
    PositionOutside,
    /// The receipt for a chunk is given before its content is on the disk.
    ContentUnsynced,
    /// A box gives its receipt for a chunk of a file before its content is on the disk.
    DownContentUnsynced,
    /// The hub sends a file down before its check has found it sound.
    UncheckedFileSent,
    /// A box offers a file without comparing it with its digest.
    FileNotCompared,
    /// The clean-up of attachments does not ask whether a record names them.
    NeededFileRemoved,
    /// What changes while a copy is compared is not marked.
    MovedNotMarked,
}

impl Fault {
    pub const ALL: [Fault; 36] = [
        Fault::AnswerBeforeCommit,
        Fault::ReceiptBeforeCommit,
        Fault::NoGreeting,
        Fault::NoResendTimer,
        Fault::NoResendRequest,
        Fault::WindowFromMemory,
        Fault::ChainNotChecked,
        Fault::CursorOutside,
        Fault::OnceOutside,
        Fault::RepeatTakenAgain,
        Fault::ForgetOnSend,
        Fault::AnyReceipt,
        Fault::LossNotSaid,
        Fault::LossNotNoted,
        Fault::NoNewEpoch,
        Fault::ChainNotCompared,
        Fault::NoContentIds,
        Fault::LateOverwrites,
        Fault::UrgentLast,
        Fault::AcceptedUnsynced,
        Fault::DownReceiptBeforeCommit,
        Fault::ForgetOnPost,
        Fault::NoNewDownEpoch,
        Fault::AnyDownBatch,
        Fault::AnyDownReceipt,
        Fault::OldDownEpoch,
        Fault::OrderOutside,
        Fault::OrderTwice,
        Fault::DropNotNoted,
        Fault::PositionOutside,
        Fault::ContentUnsynced,
        Fault::DownContentUnsynced,
        Fault::UncheckedFileSent,
        Fault::FileNotCompared,
        Fault::NeededFileRemoved,
        Fault::MovedNotMarked,
    ];
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
    static CRASH: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Plants a fault in this thread, or takes it out again.
#[cfg(feature = "planted-faults")]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Lets the next commit of this thread fail, as if the process had died before it.
#[cfg(feature = "planted-faults")]
pub fn crash_before_next_commit() {
    CRASH.set(true);
}

/// Whether `fault` was planted in this thread.
#[inline]
pub fn is_planted(fault: Fault) -> bool {
    #[cfg(feature = "planted-faults")]
    return PLANTED.get() == Some(fault);
    #[cfg(not(feature = "planted-faults"))]
    {
        let _ = fault;
        false
    }
}

#[cfg(feature = "planted-faults")]
static WEAK_SYNC: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// From now on the stores of this process are opened with `synchronous=NORMAL`, from which a power cut
/// takes commits: the negative control of tests/power.
#[cfg(feature = "planted-faults")]
pub fn weaken_sync() {
    WEAK_SYNC.store(true, std::sync::atomic::Ordering::Relaxed);
}

pub fn is_sync_weak() -> bool {
    #[cfg(feature = "planted-faults")]
    return WEAK_SYNC.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(feature = "planted-faults"))]
    false
}

/// Whether the process is to die now; asked before each commit.
#[inline]
pub fn is_crash_due() -> bool {
    #[cfg(feature = "planted-faults")]
    return CRASH.replace(false);
    #[cfg(not(feature = "planted-faults"))]
    false
}
