//! Compare and repair, engine to engine over real stores: what a box holds differently is found, said
//! again and equal afterwards; what is only on its way is no difference; logs that were set back are
//! noticed.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]

#[path = "compare/rig.rs"]
mod rig;

use std::collections::BTreeSet;

use lienthong::catalogue::right::Rows;
use lienthong::engine::receiving;
#[cfg(feature = "planted-faults")]
use lienthong::engine::{copying, sending};
use lienthong::model::compare::{LOGS, Verdict};
#[cfg(feature = "planted-faults")]
use lienthong::model::fault::{self, Fault};
use lienthong::model::record::Op;
use lienthong::store::hub::HubStore;
use lienthong::store::hub::down::Reload;
use rig::{DATASET, Dice, OPTIONS, Rig, box_id, narrow, now, open_hub, right};

/// Worlds in motion.
const SEEDS: u64 = 12;

#[test]
fn what_differs_is_found_said_again_and_equal_afterwards() {
    for right in [right(Rows::All), narrow()] {
        let mut rig = Rig::new(&right);
        rig.dossiers(0..1_300, Op::Upsert);
        rig.settle();
        assert_eq!(rig.compare(), (Verdict::Equal, 0, 0));
        let before = rig.copies();
        assert_eq!(before.len(), 1_300);

        // One changed, one deleted, one added, one with another name, one that seems to be newer.
        let damages = [
            "UPDATE copy SET data = replace(data, 'Nguyễn', 'Nguyên') WHERE copy = 7",
            "DELETE FROM copy WHERE copy = (SELECT max(copy) FROM copy)",
            "INSERT INTO copy SELECT 5000, dataset, x'00112233445566778899aabbccddeeff', version,
               at_ms, schema, agency, 'S-khong-co', data, attachments FROM copy WHERE copy = 9",
            "UPDATE copy SET subject = 'S-khac' WHERE copy = 11",
            "UPDATE copy SET data = '{}', version = version + (1 << 40) WHERE copy = 13",
        ];
        for damage in damages {
            assert_eq!(rig.damage(damage), 1, "{damage}");
        }
        let (verdict, buckets, subjects) = rig.compare();
        assert_eq!(verdict, Verdict::Mended);
        assert!((2..=5).contains(&buckets), "{buckets}");
        assert!(
            subjects < 100,
            "only what differs is sent again: {subjects}"
        );
        assert!(rig.copies() == before, "as it was");
        let kept = rig.mouth.compared().unwrap();
        let said = kept.iter().find(|row| row.name == DATASET).unwrap();
        assert_eq!((said.result.as_str(), said.subjects), ("mended", subjects));
        assert_eq!(rig.compare(), (Verdict::Equal, 0, 0));
    }
}

#[test]
fn a_copy_of_which_little_is_left_is_loaded_anew() {
    let mut rig = Rig::new(&right(Rows::All));
    rig.dossiers(0..900, Op::Upsert);
    rig.settle();
    let before = rig.copies();
    rig.damage("DELETE FROM copy WHERE copy % 3 <> 0");
    assert_eq!(rig.compare().0, Verdict::Reloaded);
    assert!(rig.copies() == before);
    assert_eq!(rig.compare(), (Verdict::Equal, 0, 0));
}

/// Changes all the time, on both sides of every step of a comparison; crashes of both.
fn in_motion(seed: u64) -> Vec<(String, Verdict, u64, u64)> {
    let mut dice = Dice(seed);
    let own = Rows::Of(vec!["H53.11".parse().unwrap()]);
    let rights = [right(Rows::All), right(own), narrow()];
    let mut rig = Rig::new(&rights[dice.next(3) as usize]);
    let subjects = 20 + dice.next(1_200);
    rig.dossiers(0..subjects, Op::Upsert);
    rig.settle();
    rig.ended.clear();
    for round in 0..3 {
        rig.ask();
        let busy = 1 + dice.next(12);
        for _ in 0..150 + dice.next(250) {
            if dice.next(12) < busy {
                let op = match dice.next(4) {
                    0 => Op::Delete,
                    _ => Op::Upsert,
                };
                let number = dice.next(subjects + 5);
                rig.dossiers(number..number + 1, op);
            }
            match dice.next(400) {
                0 => rig.restart_hub(),
                1 => rig.restart_down(),
                _ => rig.move_on(&mut dice),
            }
        }
        if round == 1 {
            rig.settle();
        }
    }
    rig.settle();
    let last = rig.ended.iter().rev().find(|ended| ended.0 == DATASET);
    assert!(last.is_some(), "seed {seed}: no comparison ends");
    rig.ended
}

fn is_alarm((_, verdict, buckets, subjects): &(String, Verdict, u64, u64)) -> bool {
    !matches!(verdict, Verdict::Equal | Verdict::Unsettled) || 0 < *buckets || 0 < *subjects
}

#[test]
fn what_is_on_its_way_is_no_difference() {
    let mut compared = 0;
    for seed in 0..SEEDS {
        let ended = in_motion(seed);
        let alarms: Vec<_> = ended.iter().filter(|ended| is_alarm(ended)).collect();
        assert!(alarms.is_empty(), "seed {seed}: {alarms:?}");
        let equal = |ended: &&(String, Verdict, u64, u64)| ended.1 == Verdict::Equal;
        compared += ended.iter().filter(equal).count() as u64;
    }
    assert!(SEEDS < compared, "{compared}");
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_change_that_is_not_marked_is_taken_for_a_difference() {
    fault::plant(Some(Fault::MovedNotMarked));
    let is_noticed = (0..SEEDS).any(|seed| in_motion(seed).iter().any(is_alarm));
    fault::plant(None);
    assert!(is_noticed, "the test above would not see it");
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_crash_between_any_two_commits_loses_no_repair() {
    for crash in 0..40 {
        let mut rig = Rig::new(&right(Rows::All));
        rig.dossiers(0..60, Op::Upsert);
        rig.settle();
        let before = rig.copies();
        rig.damage("UPDATE copy SET data = '{}' WHERE copy = 7");
        rig.damage("DELETE FROM copy WHERE copy = 21");
        rig.ended.clear();
        rig.ask();
        rig.relay();
        let mut dice = Dice(crash);
        for step in 0..60 + dice.next(40) {
            let events = rig.take_to_hub(usize::MAX);
            if step % 40 == crash {
                fault::crash_before_next_commit();
            }
            rig.step_hub(events);
            rig.now_ms += 25;
            if step % 40 == (crash + 7) % 40 {
                fault::crash_before_next_commit();
            }
            let events = rig
                .to_down
                .drain(..)
                .map(copying::Event::Received)
                .collect();
            rig.step_down(events);
            let events = rig.to_up.drain(..).map(sending::Event::Received).collect();
            rig.step_up(events);
            rig.relay();
        }
        // What a crash has lost on the wire is offered again.
        rig.now_ms += 120_000;
        rig.connect();
        rig.settle();
        let ended = rig.ended.iter().find(|ended| ended.0 == DATASET);
        // The effect may be lost with its step; the store has it.
        assert!(
            ended.is_none_or(|ended| ended.1 == Verdict::Mended),
            "{crash}: {ended:?}"
        );
        assert!(rig.copies() == before, "crash {crash}");
        assert_eq!(rig.compare(), (Verdict::Equal, 0, 0), "crash {crash}");
    }
}

#[test]
fn a_hub_that_was_set_back_is_noticed() {
    let mut rig = Rig::new(&right(Rows::All));
    rig.dossiers(0..30, Op::Upsert);
    rig.settle();
    let kept = rig.path("kept.db");
    let file = rusqlite::Connection::open(rig.path("hub.db")).unwrap();
    let statement = format!("VACUUM INTO '{}'", kept.display());
    file.execute(&statement, []).unwrap();
    drop(file);
    rig.dossiers(0..30, Op::Upsert);
    rig.settle();
    rig.ended.clear();
    rig.ask();
    rig.settle();
    let logs = |rig: &Rig| rig.ended.iter().find(|ended| ended.0 == LOGS).cloned();
    assert_eq!(logs(&rig).unwrap().1, Verdict::Equal);

    // The older store takes the place of the present one, and nobody greets.
    drop(rig.hub.take());
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(rig.path(&format!("hub.db{suffix}")));
    }
    std::fs::rename(&kept, rig.path("hub.db")).unwrap();
    let path = rig.path("hub.db");
    rig.hub = Some(open_hub(&path, &rig.hub_key, &rig.catalogue));
    rig.ended.clear();
    rig.ask();
    rig.settle();
    assert_eq!(logs(&rig).unwrap().1, Verdict::Differs);
    let audit = HubStore::open(&rig.path("hub.db"), OPTIONS)
        .unwrap()
        .audit()
        .unwrap();
    assert!(audit.iter().any(|row| row.action == "compare"), "{audit:?}");
    // It heals: both sides agree in the end.
    for _ in 0..3 {
        rig.now_ms += 400_000;
        rig.settle();
    }
    rig.ended.clear();
    rig.ask();
    rig.settle();
    assert_eq!(logs(&rig).unwrap().1, Verdict::Equal);
    let ended = rig.ended.iter().find(|ended| ended.0 == DATASET).unwrap();
    assert_eq!(ended.1, Verdict::Equal, "{ended:?}");
}

#[test]
fn a_box_that_says_it_lost_everything_is_loaded_again_once_an_hour() {
    let mut rig = Rig::new(&right(Rows::All));
    rig.dossiers(0..900, Op::Upsert);
    rig.settle();
    let whole = rig.copies();
    rig.damage("DELETE FROM copy");
    assert_eq!(rig.compare().0, Verdict::Reloaded);
    rig.damage("DELETE FROM copy");
    assert_eq!(rig.compare().0, Verdict::Failed, "not again so soon");
    assert!(rig.copies().is_empty());
    // What the box does to its log's epoch waits as well, and is not forgotten.
    let registry = HubStore::open(&rig.path("hub.db"), OPTIONS).unwrap();
    let known = registry.down_box(&box_id()).unwrap().unwrap();
    let mut registry = registry;
    let at = now(rig.now_ms).wall;
    registry
        .ask_to_reload(known, Reload::LostThere, at)
        .unwrap();
    rig.settle();
    assert!(rig.copies().is_empty());
    assert_eq!(registry.reloads().unwrap().len(), 1, "noted in its row");
    rig.now_ms += 3_600_000;
    rig.connect();
    rig.settle();
    assert!(rig.copies() == whole);
    assert!(registry.reloads().unwrap().is_empty());
}

#[test]
fn a_box_that_says_again_and_again_that_it_lost_something_begins_few_epochs() {
    let mut rig = Rig::new(&right(Rows::All));
    rig.dossiers(0..50, Op::Upsert);
    rig.settle();
    let registry = HubStore::open(&rig.path("hub.db"), OPTIONS).unwrap();
    let epoch = || registry.down_box(&box_id()).unwrap().unwrap().epoch;
    let mut epochs = BTreeSet::from([epoch()]);
    let mut lie = |rig: &mut Rig| {
        rig.now_ms += 1_000;
        let message = rig.says_lost(epoch());
        rig.step_hub(vec![receiving::Event::Received {
            box_id: box_id(),
            message,
        }]);
        epochs.insert(epoch());
        epochs.len()
    };
    let begun = (0..40).map(|_| lie(&mut rig)).last();
    assert_eq!(begun, Some(1 + 12));
    let lines = registry.audit().unwrap().into_iter();
    let told = lines
        .filter(|line| line.action == "downlink_epochs")
        .count();
    assert_eq!(told, 1);
    rig.now_ms += 3_600_000;
    assert_eq!(lie(&mut rig), 1 + 13, "an honest one is heard again");
    // And nothing is lost by it.
    rig.now_ms += 3_600_000;
    rig.connect();
    rig.settle();
    assert_eq!(rig.copies().len(), 50);
}
