//! A simulation that misses a fault proves nothing: each planted fault is noticed, and by the checker
//! whose promise it breaks. The same seeds without a fault are part of `seeds`.

use lienthong::model::fault::Fault;

use crate::check::{
    ACCEPTED, AGAIN, CURSOR, FORGOTTEN, GAPS, INVENTED, LOST, ORDER, PROGRESS, RECEIPTS, STATE,
    TWICE, URGENT, WHOLE,
};
use crate::{run, spread};

/// The faults that worlds can show; those of comparisons, and of files that nobody removes here, stand
/// behind them.
const SHOWN_FAULTS: usize = Fault::ALL.len() - 2;

/// Faults that are searched for in worlds with files.
pub const OF_FILES: [Fault; 4] = [
    Fault::ContentUnsynced,
    Fault::DownContentUnsynced,
    Fault::UncheckedFileSent,
    Fault::FileNotCompared,
];

/// Within so many seeds the first of a fault's checkers must notice it.
const NOTICED_WITHIN: u64 = 660;

/// The checker that must notice a fault, and those that may notice what follows from it.
fn noticed_by(fault: Fault) -> (&'static str, &'static [&'static str]) {
    match fault {
        Fault::AnswerBeforeCommit => (ACCEPTED, &[LOST]),
        Fault::ReceiptBeforeCommit => (RECEIPTS, &[FORGOTTEN]),
        Fault::NoGreeting => (PROGRESS, &[]),
        Fault::NoResendTimer => (AGAIN, &[PROGRESS]),
        Fault::NoResendRequest => (PROGRESS, &[]),
        // What it believes to be delivered is never offered again: not to a hub that lacks it, and
        // not before the link is given up.
        Fault::WindowFromMemory => (PROGRESS, &[AGAIN]),
        // A forged batch is invented; a batch on another chain doubles, or takes others' numbers.
        Fault::ChainNotChecked => (INVENTED, &[FORGOTTEN, TWICE]),
        Fault::CursorOutside => (CURSOR, &[]),
        // The repeat finds the key of records that were never kept.
        Fault::OnceOutside => (ACCEPTED, &[]),
        Fault::RepeatTakenAgain => (TWICE, &[]),
        // Where rows go in the step that brought them, the checkers see a log with a hole.
        Fault::ForgetOnSend => (FORGOTTEN, &[ORDER]),
        Fault::AnyReceipt => (FORGOTTEN, &[STATE]),
        // Without the words for the loss the box offers what it does not have, or nothing.
        Fault::LossNotSaid => (PROGRESS, &[ORDER]),
        Fault::LossNotNoted => (GAPS, &[]),
        Fault::NoNewEpoch => (PROGRESS, &[]),
        Fault::ChainNotCompared => (FORGOTTEN, &[]),
        Fault::NoContentIds => (TWICE, &[]),
        Fault::LateOverwrites => (STATE, &[]),
        Fault::UrgentLast => (URGENT, &[]),
        Fault::AcceptedUnsynced => (ACCEPTED, &[LOST, CURSOR]),
        Fault::DownReceiptBeforeCommit => (RECEIPTS, &[FORGOTTEN]),
        Fault::ForgetOnPost => (FORGOTTEN, &[]),
        Fault::NoNewDownEpoch => (PROGRESS, &[LOST]),
        Fault::AnyDownBatch => (INVENTED, &[]),
        Fault::AnyDownReceipt => (FORGOTTEN, &[]),
        Fault::OldDownEpoch => (TWICE, &[ORDER, PROGRESS]),
        Fault::OrderOutside => (LOST, &[]),
        Fault::OrderTwice => (TWICE, &[ORDER]),
        Fault::DropNotNoted => (GAPS, &[]),
        Fault::PositionOutside => (TWICE, &[ORDER]),
        // What was lost with the power is counted as received, or missing in the end.
        Fault::ContentUnsynced => (RECEIPTS, &[LOST]),
        Fault::DownContentUnsynced => (RECEIPTS, &[WHOLE]),
        Fault::UncheckedFileSent => (WHOLE, &[]),
        // What was damaged on the box's disk is offered all the same.
        Fault::FileNotCompared => (WHOLE, &[]),
        Fault::NeededFileRemoved => unreachable!("tests/attachments.rs notices it"),
        Fault::MovedNotMarked => unreachable!("no world compares; tests/compare.rs notices it"),
    }
}

#[test]
fn every_planted_fault_is_noticed_by_the_checker_of_its_promise() {
    let mut wrong = Vec::new();
    spread(
        0..SHOWN_FAULTS as u64,
        |index| {
            let fault = Fault::ALL[index as usize];
            (fault, search(fault))
        },
        |_, (fault, found)| match found {
            Ok(text) => println!("{fault:?}: {text}"),
            Err(text) => wrong.push(format!("{fault:?}: {text}")),
        },
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Runs seeds until the fault's own checker notices it; all others that speak must be named too.
fn search(fault: Fault) -> Result<String, String> {
    let (must, may) = noticed_by(fault);
    for seed in 0..NOTICED_WITHIN {
        let Err(violation) = run(seed, Some(fault), false) else {
            continue;
        };
        let text = format!("seed {seed}: {} ({})", violation.checker, violation.what);
        match violation.checker {
            checker if checker == must => return Ok(text),
            checker if may.contains(&checker) => {}
            _ => {
                return Err(format!(
                    "noticed by another than {must:?} and {may:?}: {text}"
                ));
            }
        }
    }
    Err(format!(
        "not noticed by {must:?} within {NOTICED_WITHIN} seeds"
    ))
}
