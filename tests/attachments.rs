//! Attachments from a box's store to a hub's, the real engines and real files, without a network:
//! crashes on both sides, a hub that is set back, contents that are gone, and disks that lose what
//! was not synced.

#[path = "bed/contents.rs"]
mod contents;
#[path = "attachments/pair.rs"]
mod pair;

use lienthong::evidence::sha256;
use lienthong::model::chunk::Digest;
use lienthong::model::limits::CHUNK_BYTES_MAX;
use lienthong::store::hub::blobs::BlobState;

use contents::incompressible;
use pair::Pair;

fn digest(content: &[u8]) -> Digest {
    Digest(sha256(content))
}

#[test]
fn contents_of_all_sizes_arrive_as_they_are_and_once() {
    let mut pair = Pair::new();
    let sizes = [
        0,
        1,
        CHUNK_BYTES_MAX - 1,
        CHUNK_BYTES_MAX,
        CHUNK_BYTES_MAX + 1,
        10 * CHUNK_BYTES_MAX + 7,
        100 * CHUNK_BYTES_MAX,
    ];
    let contents: Vec<Vec<u8>> = (1..)
        .zip(sizes)
        .map(|(n, size)| incompressible(n, size))
        .collect();
    for one in &contents {
        pair.hand_in(&[one]);
    }
    // Named again, it does not travel again.
    pair.hand_in(&[&contents[1], &contents[5]]);
    pair.run();
    pair.settle();
    for one in &contents {
        assert_eq!(pair.kept(digest(one)).as_deref(), Some(one.as_slice()));
    }
    let chunks: u64 = sizes
        .map(|size| lienthong::model::chunk::pieces(size as u64))
        .iter()
        .sum();
    assert_eq!(pair.entries_at_hub(), chunks + sizes.len() as u64 + 1);
    pair.verify();
}

#[test]
fn a_record_does_not_wait_for_its_attachment() {
    let mut pair = Pair::new();
    let large = incompressible(9, 200 * CHUNK_BYTES_MAX);
    pair.hand_in(&[&large]);
    pair.exchange(3);
    assert_eq!(pair.records_at_hub(), 1);
    assert_eq!(
        pair.state_at_hub(digest(&large)),
        Some(BlobState::Receiving)
    );
    pair.run();
    pair.settle();
    assert_eq!(pair.state_at_hub(digest(&large)), Some(BlobState::Kept));
}

#[test]
fn crashes_on_both_sides_lose_nothing_and_double_nothing() {
    let mut pair = Pair::new();
    let contents: Vec<Vec<u8>> = (0..6)
        .map(|n| incompressible(50 + n, (n as usize + 1) * 9 * CHUNK_BYTES_MAX + 3))
        .collect();
    for (round, one) in contents.iter().enumerate() {
        pair.hand_in(&[one]);
        pair.exchange(2 + round);
        match round % 3 {
            0 => pair.crash_box(),
            1 => pair.crash_hub(),
            _ => {
                pair.crash_hub();
                pair.crash_box();
            }
        }
        pair.exchange(1);
        pair.cut_link();
    }
    pair.run();
    pair.settle();
    for one in &contents {
        assert_eq!(pair.kept(digest(one)).as_deref(), Some(one.as_slice()));
    }
    pair.verify();
}

#[test]
fn a_power_cut_at_the_hub_takes_nothing_that_a_receipt_was_given_for() {
    assert_eq!(after_a_power_cut(None), Ok(()));
}

/// Sends, cuts the hub's power in the middle, goes on; whether the content is whole then.
fn after_a_power_cut(planted: Option<lienthong::model::fault::Fault>) -> Result<(), String> {
    let mut pair = Pair::new();
    pair.plant(planted);
    let one = incompressible(77, 40 * CHUNK_BYTES_MAX + 11);
    pair.hand_in(&[&one]);
    pair.exchange(6);
    pair.power_cut_at_hub();
    pair.run();
    pair.settle();
    pair.plant(None);
    match pair.kept(digest(&one)) {
        Some(kept) if kept == one => Ok(()),
        _ => Err(format!("{:?}", pair.state_at_hub(digest(&one)))),
    }
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_receipt_before_the_content_is_synced_is_noticed() {
    use lienthong::model::fault::Fault;
    assert!(after_a_power_cut(Some(Fault::ContentUnsynced)).is_err());
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_clean_up_that_removes_a_needed_file_is_noticed() {
    use lienthong::model::fault::Fault;
    assert_eq!(after_a_clean_up(None), Some(BlobState::Kept));
    assert_eq!(
        after_a_clean_up(Some(Fault::NeededFileRemoved)),
        Some(BlobState::Lost)
    );
}

#[cfg(feature = "planted-faults")]
fn after_a_clean_up(planted: Option<lienthong::model::fault::Fault>) -> Option<BlobState> {
    let mut pair = Pair::new();
    let one = incompressible(78, 90 * CHUNK_BYTES_MAX);
    pair.hand_in(&[&one]);
    pair.exchange(2);
    pair.plant(planted);
    pair.clean_up_at_box();
    pair.plant(None);
    pair.run();
    pair.settle();
    pair.state_at_hub(digest(&one))
}

#[test]
fn a_content_that_is_gone_is_said_and_holds_nothing_up() {
    let mut pair = Pair::new();
    let (bad, good) = (
        incompressible(5, 90 * CHUNK_BYTES_MAX),
        incompressible(6, 3 * CHUNK_BYTES_MAX),
    );
    pair.hand_in(&[&bad]);
    pair.hand_in(&[&good]);
    pair.exchange(3);
    pair.damage_at_box(digest(&bad));
    pair.run();
    pair.settle();
    assert_eq!(pair.state_at_hub(digest(&bad)), Some(BlobState::Lost));
    assert_eq!(pair.state_at_hub(digest(&good)), Some(BlobState::Kept));
    // It is put again, and named again.
    pair.hand_in(&[&bad]);
    pair.run();
    pair.settle();
    assert_eq!(pair.kept(digest(&bad)), Some(bad));
    pair.verify();
}

#[test]
fn a_hub_that_was_set_back_gets_the_content_again() {
    let mut pair = Pair::new();
    let (first, second) = (
        incompressible(1, 5 * CHUNK_BYTES_MAX),
        incompressible(2, 7 * CHUNK_BYTES_MAX),
    );
    pair.hand_in(&[&first]);
    pair.run();
    pair.settle();
    pair.set_hub_aside();
    pair.hand_in(&[&second]);
    pair.run();
    pair.settle();
    pair.put_hub_back();
    assert_eq!(pair.state_at_hub(digest(&second)), None);
    pair.run();
    pair.settle();
    assert_eq!(pair.kept(digest(&second)), Some(second));
    pair.verify();
}

#[test]
fn what_the_hub_has_goes_when_its_time_has_come_and_sooner_when_room_is_needed() {
    let mut pair = Pair::new();
    let one = incompressible(3, 2 * CHUNK_BYTES_MAX);
    pair.hand_in(&[&one]);
    pair.exchange(1);
    pair.make_room();
    assert!(pair.is_at_box(digest(&one)), "the hub does not have it");
    pair.run();
    assert!(
        pair.is_at_box(digest(&one)),
        "kept for a hub that is set back"
    );
    pair.make_room();
    assert!(!pair.is_at_box(digest(&one)));
}

#[test]
fn a_record_is_refused_whose_file_is_not_there() {
    let mut pair = Pair::new();
    let answer = pair.name_without_file(&incompressible(4, 10));
    assert!(
        matches!(
            answer,
            lienthong::engine::sending::Answer::NoAttachment { index: 0, .. }
        ),
        "{answer:?}"
    );
    assert_eq!(pair.waiting(), 0);
}
