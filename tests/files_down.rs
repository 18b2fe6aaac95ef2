//! Files on their way down: each goes to a box once, only when its check has found it sound, and comes
//! whole through crashes of the hub and of the box.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]

#[path = "bed/contents.rs"]
mod contents;
#[path = "files_down/rig.rs"]
mod rig;

use contents::incompressible;
use lienthong::model::Epoch;
use lienthong::model::chunk::pieces;
use lienthong::store::files::FileState;
use rig::{RECEIVER, Rig, SENDER, attachment, digest};

const ROOM: u64 = 64 << 20;

#[test]
fn a_file_goes_once_however_many_documents_name_it() {
    let mut rig = Rig::new(ROOM);
    let file = incompressible(1, 700_000);
    rig.put(&file);
    rig.send("vb-1", &[attachment("don.pdf", &file)]);
    rig.send("vb-2", &[attachment("don-2.pdf", &file)]);
    rig.set_online(SENDER, true);
    rig.settle();
    assert_eq!(rig.chunks_sent(), 0, "a box that is away costs nothing");
    rig.set_online(RECEIVER, true);
    rig.settle();
    rig.tend();
    assert_eq!(rig.states(), [FileState::Kept; 2]);
    assert!(rig.has_file(&file));
    assert_eq!(rig.chunks_sent(), pieces(700_000));
    rig.send("vb-3", &[attachment("don-3.pdf", &file)]);
    rig.settle();
    assert_eq!(rig.states(), [FileState::Kept; 3]);
    assert_eq!(rig.chunks_sent(), pieces(700_000), "it is there already");
}

#[test]
fn a_document_is_shown_before_its_file_has_come() {
    let mut rig = Rig::new(ROOM);
    let file = incompressible(2, 2_000_000);
    rig.put(&file);
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("ban-do.pdf", &file)]);
    let mut is_shown_before = false;
    while rig.states() != [FileState::Checking] {
        rig.turn();
        is_shown_before |= rig.states() == [FileState::Waiting];
    }
    assert!(is_shown_before);
    rig.tend();
    assert!(rig.has_file(&file));
}

#[test]
fn what_the_hub_does_not_hold_whole_goes_when_it_does() {
    let mut rig = Rig::new(ROOM);
    let file = incompressible(3, 6_000_000);
    rig.put(&file);
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("ho-so.pdf", &file)]);
    while rig.inbox().is_empty() {
        rig.turn();
    }
    rig.set_online(SENDER, false);
    rig.settle();
    assert_eq!(rig.states(), [FileState::Waiting], "the document is there");
    assert_eq!(rig.chunks_sent(), 0);
    rig.set_online(SENDER, true);
    rig.settle();
    rig.tend();
    assert!(rig.has_file(&file));
}

#[test]
fn an_empty_file_comes_too() {
    let mut rig = Rig::new(ROOM);
    rig.put(b"");
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("rong.txt", b"")]);
    rig.settle();
    rig.tend();
    assert_eq!(rig.states(), [FileState::Kept]);
    assert!(rig.has_file(b""));
}

/// A file that is not what its digest says.
fn send_unsound(rig: &mut Rig) {
    let (good, bad) = (incompressible(4, 200_000), incompressible(5, 200_000));
    rig.put(&good);
    let name = digest(&good).to_string();
    let folder = rig.folder.path().join("xa-a").join("blobs");
    std::fs::write(folder.join(&name[..2]).join(&name), &bad).unwrap();
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("don.pdf", &good)]);
    rig.no_check = true;
    rig.settle();
    rig.no_check = false;
    rig.settle();
}

#[test]
fn what_the_hub_finds_unsound_never_goes_down_and_the_box_hears_of_it() {
    let mut rig = Rig::new(ROOM);
    send_unsound(&mut rig);
    assert_eq!(rig.states(), [FileState::Refused]);
    assert_eq!(rig.chunks_sent(), 0, "nothing of it went down");
    rig.tend();
    assert_eq!(rig.carry_questions(), 0, "nor is it asked for");
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_hub_that_sends_before_its_check_is_noticed() {
    use lienthong::model::fault::{Fault, plant};
    plant(Some(Fault::UncheckedFileSent));
    let mut rig = Rig::new(ROOM);
    send_unsound(&mut rig);
    plant(None);
    assert_ne!(
        rig.chunks_sent(),
        0,
        "the fault is what the test above is for"
    );
}

#[cfg(feature = "planted-faults")]
#[test]
fn crashes_of_hub_and_box_lose_and_double_nothing() {
    for crash_every in [3, 7, 11] {
        let mut rig = Rig::new(ROOM);
        let files = [
            incompressible(6, 1_300_000),
            incompressible(7, 61_441),
            incompressible(8, 10),
        ];
        rig.set_online(RECEIVER, true);
        rig.set_online(SENDER, true);
        for (number, file) in files.iter().enumerate() {
            rig.put(file);
            let named = attachment("tep.pdf", file);
            rig.send(&format!("vb-{number}"), std::slice::from_ref(&named));
            rig.send(&format!("vb-{number}-lai"), &[named]);
        }
        rig.crash_every = crash_every;
        for _ in 0..400 {
            rig.turn();
        }
        rig.crash_every = 0;
        rig.settle();
        rig.tend();
        assert!(10 < rig.crashes, "{} crashes", rig.crashes);
        assert_eq!(rig.states(), [FileState::Kept; 6]);
        for file in &files {
            assert!(rig.has_file(file));
        }
        let most: u64 = files.iter().map(|file| pieces(file.len() as u64)).sum();
        assert_eq!(rig.chunks_sent(), most, "each chunk is one entry");
    }
}

#[test]
fn a_file_that_came_to_harm_is_asked_for_and_comes_again() {
    let mut rig = Rig::new(ROOM);
    let file = incompressible(9, 300_000);
    rig.put(&file);
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("don.pdf", &file)]);
    rig.settle();
    assert_eq!(rig.states(), [FileState::Checking]);
    let parts = rig.folder.path().join("xa-b").join("received/parts");
    let part = std::fs::read_dir(&parts).unwrap().next().unwrap().unwrap();
    std::fs::write(part.path(), incompressible(10, 300_000)).unwrap();
    assert!(rig.tend(), "it asks at once");
    assert_eq!(rig.states(), [FileState::Lost]);
    assert_eq!(rig.carry_questions(), 1);
    rig.settle();
    assert!(!rig.tend());
    assert_eq!(rig.states(), [FileState::Kept]);
    assert!(rig.has_file(&file));
}

#[test]
fn a_box_asks_only_for_what_was_sent_to_it() {
    let mut rig = Rig::new(ROOM);
    let (own, other) = (incompressible(11, 1_000), incompressible(12, 1_000));
    rig.put(&own);
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("don.pdf", &own)]);
    rig.settle();
    let mut registry = rig.registry();
    let receiver = rig.stations[RECEIVER].id.clone();
    let now = rig.now().wall;
    let mut asked = |content: &[u8]| {
        registry
            .want_file_again(&receiver, digest(content), None, now)
            .unwrap()
    };
    assert!(asked(&own));
    assert!(!asked(&own), "it is on its way already");
    assert!(!asked(&other));
}

#[test]
fn a_file_that_is_asked_for_before_its_receipt_has_come_goes_again() {
    let mut rig = Rig::new(ROOM);
    let file = incompressible(16, 100_000);
    rig.put(&file);
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("don.pdf", &file)]);
    while rig.states() != [FileState::Checking] {
        rig.turn();
    }
    rig.lose_words();
    let mut registry = rig.registry();
    let receiver = rig.stations[RECEIVER].id.clone();
    let documents = &rig.stations[RECEIVER].keeper.documents;
    let applied = documents.with(|inbox| inbox.chunks_applied()).unwrap();
    let (epoch, upto) = applied.expect("its chunks have come");
    let now = rig.now().wall;
    let mut asked = |applied| {
        let file = digest(&file);
        let asked = registry.want_file_again(&receiver, file, applied, now);
        asked.unwrap()
    };
    assert!(!asked(None), "the hub believes that it is on its way");
    assert!(!asked(Some((epoch, upto.previous()))), "a piece is");
    assert!(!asked(Some((Epoch(epoch.0 + 1), upto))), "of another time");
    assert!(asked(Some((epoch, upto))), "nothing of it is");
}

#[test]
fn files_that_find_no_room_come_when_others_have_gone() {
    let mut rig = Rig::new(1_000_000);
    let files = [incompressible(13, 600_000), incompressible(14, 700_000)];
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    for (number, file) in files.iter().enumerate() {
        rig.put(file);
        rig.send(&format!("vb-{number}"), &[attachment("tep.pdf", file)]);
        rig.settle();
        rig.tend();
    }
    assert_eq!(rig.states(), [FileState::Kept, FileState::Full]);
    assert!(!rig.tend(), "there is no room yet");
    let now = rig.now().wall;
    let documents = &rig.stations[RECEIVER].keeper.documents;
    assert!(documents.with(|inbox| inbox.done(1, now)).unwrap());
    rig.pass(1_000);
    rig.tend();
    assert!(!rig.has_file(&files[0]), "its document is done");
    assert_eq!(rig.carry_questions(), 1);
    rig.settle();
    rig.tend();
    assert!(rig.has_file(&files[1]));
}

#[test]
fn a_done_document_keeps_its_file_for_its_time_and_gets_it_back_when_it_is_named_again() {
    let mut rig = Rig::new(ROOM);
    let file = incompressible(15, 100_000);
    rig.put(&file);
    rig.set_online(RECEIVER, true);
    rig.set_online(SENDER, true);
    rig.send("vb-1", &[attachment("don.pdf", &file)]);
    rig.settle();
    rig.tend();
    let now = rig.now().wall;
    let documents = &rig.stations[RECEIVER].keeper.documents;
    assert!(documents.with(|inbox| inbox.done(1, now)).unwrap());
    rig.pass(86_000_000);
    rig.tend();
    assert!(rig.has_file(&file));
    rig.pass(800_000);
    rig.tend();
    assert!(!rig.has_file(&file), "its time is over");
    rig.send("vb-2", &[attachment("don.pdf", &file)]);
    rig.settle();
    rig.tend();
    assert_eq!(rig.carry_questions(), 1);
    rig.settle();
    rig.tend();
    assert!(rig.has_file(&file));
}
