//! Stores of earlier versions: today's program opens them, migrates them and goes on; a store of a
//! later version is left as it is.
//!
//! `tests/data/store/v1.txt` names what the golden stores hold. `WRITE_GOLDEN=1 cargo test --test
//! stores version_1` writes them anew; that is right only as long as the version is unreleased.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lienthong::engine::content::NoContent;
use lienthong::engine::parts::{PartFiles, folder_beside};
use lienthong::engine::{receiving, sending};
use lienthong::evidence::{SigningKey, chain_after};
use lienthong::model::record::{Draft, Op, RecordType};
use lienthong::model::{BoxId, Capture, Chain, ClockQuality, Epoch, Lane, Now, Seq, UnixMs};
use lienthong::pack::{Pack, Packer};
use lienthong::shell::clock::Clock;
use lienthong::store::edge::{EdgeStore, OnceKey, Sync};
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::store::log::{Block, LogStore, Mark};
use lienthong::store::rows::Beside;
use lienthong::store::{Options, StoreError};
use lienthong::sync::Limits;

const OPTIONS: Options = Options {
    quota_bytes: 4 << 30,
    cache_bytes: 1 << 20,
};
const EPOCH: Epoch = Epoch(0x0123_4567_89ab_cdef);

fn box_id() -> BoxId {
    "xa-tan-bien".parse().expect("valid")
}

fn now(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        wall: UnixMs(1_790_000_000_000 + mono_ms as i64),
        quality: ClockQuality::Synchronized,
    }
}

/// The keys that the golden stores were written with.
struct Keys {
    edge: Vec<u8>,
    hub: Vec<u8>,
}

impl Keys {
    fn edge(&self) -> SigningKey {
        SigningKey::from_pkcs8(&self.edge).expect("own key")
    }

    fn hub(&self) -> SigningKey {
        SigningKey::from_pkcs8(&self.hub).expect("own key")
    }
}

fn open_edge(path: &Path, keys: &Keys) -> Result<sending::EdgeEngine<u32>, StoreError> {
    sending::EdgeEngine::open(sending::Config {
        store: path.to_owned(),
        options: OPTIONS,
        box_id: box_id(),
        key: keys.edge().into(),
        hub_keys: vec![keys.hub().public_key()],
        limits: Limits::FIELD,
        space: sending::Space {
            lane_bytes_max: [1 << 30; 5],
            tail_ms: i64::MAX / 2,
            tail_bytes: 1 << 30,
            once_keys: 100,
            blob_bytes_max: 64 << 20,
        },
        content: Box::new(NoContent),
        mint: Box::new(|| EPOCH),
    })
}

fn open_hub(path: &Path, keys: &Keys) -> Result<receiving::HubEngine, StoreError> {
    receiving::HubEngine::open(receiving::Config {
        store: path.to_owned(),
        options: OPTIONS,
        key: keys.hub().into(),
        parts: Box::new(PartFiles::new(folder_beside(path))),
    })
}

fn submission(numbers: std::ops::Range<u32>) -> sending::Submission<u32> {
    let source = "mot-cua".parse().expect("valid");
    let record = |number: u32| {
        let data = format!(r#"{{"so":{number},"noi_dung":"Đăng ký khai sinh"}}"#);
        let data = serde_json::value::RawValue::from_string(data).expect("JSON");
        let draft = Draft {
            id: None,
            source: &source,
            kind: RecordType {
                dataset: "ho_so_tthc".parse().expect("valid"),
                version: 1,
            },
            subject: format!("H53.01-{number:04}").parse().expect("valid"),
            time: None,
            agency: &"H53.01".parse().expect("valid"),
            op: Op::Upsert,
            sensitivity: 2,
            classification: &[],
            attachments: &[],
            codeflags: &[],
            data: &data,
            original: None,
        };
        sending::NewRecord {
            lane: [Lane::P1, Lane::P2][number as usize % 2],
            tail: draft.to_tail(),
            id: None,
            once: None,
            attachments: Vec::new(),
        }
    };
    sending::Submission {
        reply: numbers.start,
        once: Some(OnceKey {
            key: [numbers.start as u8; 16],
            digest: [1; 16],
        }),
        cursor: Some(numbers.end.to_string()),
        beside: Beside::default(),
        records: numbers.map(record).collect(),
        source: source.clone(),
    }
}

/// Hands events to the box; messages for the hub and answers come back.
fn step_edge(
    edge: &mut sending::EdgeEngine<u32>,
    at: u64,
    events: Vec<sending::Event<u32>>,
) -> (Vec<Bytes>, Vec<sending::Answer>) {
    let (mut messages, mut answers) = (Vec::new(), Vec::new());
    for effect in edge.step(now(at), events).expect("a step") {
        match effect {
            sending::Effect::Publish(message) => messages.push(message),
            sending::Effect::Answer { answer, .. } => answers.push(answer),
            sending::Effect::HubTime(_) => {}
            other => panic!("{other:?}"),
        }
    }
    (messages, answers)
}

fn step_hub(hub: &mut receiving::HubEngine, at: u64, messages: Vec<Bytes>) -> Vec<Bytes> {
    let received = messages
        .into_iter()
        .map(|message| receiving::Event::Received {
            box_id: box_id(),
            message,
        });
    let effects = hub.step(now(at), received.collect()).expect("a step");
    let published = effects.into_iter().filter_map(|effect| match effect {
        receiving::effect::Effect::Publish { message, .. } => Some(message),
        receiving::effect::Effect::Committed { .. } => None,
        other => panic!("{other:?}"),
    });
    published.collect()
}

/// Until nothing waits.
fn drain(edge: &mut sending::EdgeEngine<u32>, hub: &mut receiving::HubEngine, at: u64) {
    let up = sending::Event::LinkUp {
        message_bytes_max: 128 * 1024,
    };
    let (mut to_hub, _) = step_edge(edge, at, vec![up]);
    for round in 1..1_000 {
        let to_edge = step_hub(hub, at + round, std::mem::take(&mut to_hub));
        let events = to_edge.into_iter().map(sending::Event::Received).collect();
        to_hub = step_edge(edge, at + round, events).0;
        if to_hub.is_empty() && edge.waiting() == [0; 5] {
            return;
        }
    }
    panic!("still waiting: {:?}", edge.waiting());
}

// === Golden stores ===

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/store")
        .join(name)
}

/// Puts a golden store where it may be written.
fn unpack(name: &str, folder: &Path) -> PathBuf {
    let packed = std::fs::read(data(name)).expect("the golden store is there");
    let bytes = zstd::bulk::decompress(&packed, 4 << 20).expect("our own");
    let path = folder.join(name.trim_end_matches(".zst"));
    std::fs::write(&path, bytes).expect("written");
    path
}

fn golden_keys() -> Keys {
    let text = std::fs::read_to_string(data("v1.txt")).expect("the golden keys are there");
    let key = |word: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(word));
        let hex = line.expect("the key is there").trim();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
            .collect()
    };
    Keys {
        edge: key("box-key"),
        hub: key("hub-key"),
    }
}

#[test]
fn stores_of_version_1_are_opened_and_gone_on_with() {
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        write_golden_stores();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let keys = golden_keys();
    let mut edge = open_edge(&unpack("box-v1.db.zst", folder.path()), &keys).expect("our own");
    assert_eq!(edge.epoch(), Epoch(0x0fed_cba9_8765_4321));
    assert_eq!(edge.waiting(), [0, 2, 2, 0, 0], "6 to 9 wait");
    assert_eq!(edge.cursor("mot-cua").expect("read").as_deref(), Some("10"));
    let hub_path = unpack("hub-v1.db.zst", folder.path());
    let mut hub = open_hub(&hub_path, &keys).expect("our own");

    let again = vec![
        sending::Event::Submit(submission(0..6)),
        sending::Event::Submit(submission(10..13)),
    ];
    let (_, answers) = step_edge(&mut edge, 0, again);
    let stored: Vec<(usize, u64, bool)> = answers
        .iter()
        .map(|answer| match answer {
            sending::Answer::Stored { accepted, repeated } => {
                let last = accepted.last().expect("not empty");
                (accepted.len(), last.seq.0, *repeated)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(stored, [(6, 3, true), (3, 7, false)]);

    drain(&mut edge, &mut hub, 10);
    drop(hub);
    let registry = HubStore::open(&hub_path, OPTIONS).expect("open");
    for (lane, count) in [(Lane::P1, 7), (Lane::P2, 6)] {
        let log = registry.log(&box_id(), lane, edge.epoch());
        let log = log.expect("read").expect("there");
        assert_eq!(log.applied, Seq(count), "{lane}");
    }
}

#[test]
fn a_store_of_a_later_version_is_left_untouched() {
    let keys = golden_keys();
    for name in ["box-v1.db.zst", "hub-v1.db.zst"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = unpack(name, folder.path());
        let connection = rusqlite::Connection::open(&path).expect("open");
        connection
            .execute_batch(
                "PRAGMA journal_mode = DELETE; PRAGMA user_version = 9; CREATE TABLE new_thing (x)",
            )
            .expect("a later program");
        drop(connection);
        let before = std::fs::read(&path).expect("read");
        let error = match name.starts_with("box") {
            true => open_edge(&path, &keys).err(),
            false => open_hub(&path, &keys).err(),
        };
        let error = error.expect("the store is too new");
        assert!(
            matches!(error, StoreError::Newer { found: 9, .. }),
            "{error}"
        );
        assert!(error.hint().contains("newer program"), "{}", error.hint());
        assert!(
            std::fs::read(&path).expect("read") == before,
            "{name} was changed"
        );
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("read").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

#[test]
fn what_is_no_store_of_ours_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = golden_keys();
    let path = folder.path().join("zeros.db");
    std::fs::write(&path, vec![0; 64 * 1024]).expect("written");
    assert!(open_edge(&path, &keys).is_err(), "a file of zeros");
    std::fs::write(&path, vec![b'x'; 64 * 1024]).expect("written");
    assert!(matches!(open_edge(&path, &keys), Err(StoreError::Damaged)));
    let path = unpack("box-v1.db.zst", folder.path());
    let other = EdgeStore::open(&path, OPTIONS, &"xa-khac".parse().expect("valid"), EPOCH);
    assert!(matches!(other, Err(StoreError::Foreign { .. })));
}

#[test]
fn an_entry_that_does_not_agree_with_its_chain_is_not_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = golden_keys();
    let path = unpack("box-v1.db.zst", folder.path());
    let mut edge = open_edge(&path, &keys).expect("our own");
    step_edge(
        &mut edge,
        0,
        vec![sending::Event::Submit(submission(10..14))],
    );
    step_edge(
        &mut edge,
        0,
        vec![sending::Event::Submit(submission(14..18))],
    );
    drop(edge);
    // The newest block of P1 gets the entries of the one before: each byte of it is lawful.
    let connection = rusqlite::Connection::open(&path).expect("open");
    let changed = connection.execute(
        "UPDATE outbox SET body = (SELECT body FROM outbox WHERE place >> 56 = 1
           ORDER BY place DESC LIMIT 1 OFFSET 1)
         WHERE place = (SELECT max(place) FROM outbox WHERE place >> 56 = 1)",
        [],
    );
    assert_eq!(changed.expect("changed"), 1);
    drop(connection);
    let mut edge = open_edge(&path, &keys).expect("the damage is not met at the start");
    let mut hub = open_hub(&unpack("hub-v1.db.zst", folder.path()), &keys).expect("our own");
    let mut events = vec![sending::Event::LinkUp {
        message_bytes_max: 128 * 1024,
    }];
    let error = (1..100).find_map(|round| {
        let effects = match edge.step(now(round), std::mem::take(&mut events)) {
            Ok(effects) => effects,
            Err(error) => return Some(error),
        };
        let messages = effects.into_iter().filter_map(|effect| match effect {
            sending::Effect::Publish(message) => Some(message),
            _ => None,
        });
        // The hub refuses what is damaged, and `step_hub` panics where it does.
        let answers = step_hub(&mut hub, round, messages.collect());
        events = answers.into_iter().map(sending::Event::Received).collect();
        None
    });
    assert!(
        matches!(error, Some(StoreError::BrokenChain { .. })),
        "{error:?}"
    );
}

fn write_golden_stores() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys {
        edge: SigningKey::generate(),
        hub: SigningKey::generate(),
    };
    let edge_path = folder.path().join("box.db");
    let hub_path = folder.path().join("hub.db");
    let first = Epoch(0x0fed_cba9_8765_4321);
    drop(EdgeStore::open(&edge_path, OPTIONS, &box_id(), first).expect("a new store"));
    let mut registry = HubStore::open(&hub_path, OPTIONS).expect("a new store");
    let public_key = keys.edge().public_key();
    let new = NewBox {
        box_id: &box_id(),
        agency: &"H53.01".parse().expect("valid"),
        public_key: public_key.as_bytes(),
        serial: "01",
        not_after: UnixMs(i64::MAX),
    };
    registry.begin().expect("a transaction");
    assert!(registry.add_box(&new, UnixMs(0)).expect("written"));
    registry.commit().expect("committed");
    drop(registry);
    let mut hub = open_hub(&hub_path, &keys).expect("a hub");
    let mut edge = open_edge(&edge_path, &keys).expect("a box");
    step_edge(&mut edge, 0, vec![sending::Event::Submit(submission(0..6))]);
    drain(&mut edge, &mut hub, 10);
    let later = vec![
        sending::Event::LinkDown,
        sending::Event::Submit(submission(6..10)),
    ];
    step_edge(&mut edge, 60, later);
    edge.finish().expect("written");
    drop((edge, hub));
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let text = format!(
        "# Written by schema version 1: ten records, 0 to 9, by turns in P1 and P2, with a key per\n\
         # submission; 0 to 5 have their receipt, 6 to 9 wait. The keys (PKCS#8) serve these files only.\n\
         box-key {}\nhub-key {}\n",
        hex(&keys.edge),
        hex(&keys.hub)
    );
    std::fs::write(data("v1.txt"), text).expect("written");
    for (path, name) in [(edge_path, "box-v1.db.zst"), (hub_path, "hub-v1.db.zst")] {
        let bytes = std::fs::read(path).expect("read");
        let packed = zstd::bulk::compress(&bytes, 19).expect("packed");
        std::fs::write(data(name), packed).expect("written");
    }
}

// === Start ===

/// A store with entries of 500 bytes that wait, each kept alone.
fn store_with(waiting: u64, path: &Path) {
    const SLICE: u64 = 10_000;
    let mut store = EdgeStore::open(path, OPTIONS, &box_id(), EPOCH).expect("a new store");
    let mut mark = Mark {
        seq: Seq::ZERO,
        chain: Chain::ZERO,
        sum_bytes: 0,
    };
    let entry = [b'a'; 500];
    let mut pack = Pack::default();
    pack.push(&entry);
    let body = Packer::default().pack(&pack);
    while mark.seq.0 < waiting {
        store.begin(Sync::Full).expect("a transaction");
        for _ in 0..SLICE.min(waiting - mark.seq.0) {
            let block = Block {
                last: mark.seq.next(),
                entries: 1,
                stored: UnixMs(0),
                chain: chain_after(mark.chain, &entry),
                raw_bytes: pack.raw_bytes() as u64,
                body: &body,
            };
            mark = store
                .append(Lane::P2, mark, Capture(mark.seq.0 + 1), block)
                .expect("appended");
        }
        store.commit().expect("committed");
    }
}

/// From the start until the first record is stored, best of five, in milliseconds.
fn start_of(path: &Path) -> u64 {
    let clock = Clock::start(UnixMs(0));
    let keys = golden_keys();
    let times = (0..5).map(|_| {
        let begin_ms = clock.mono_ms();
        let mut edge = open_edge(path, &keys).expect("our own");
        let events = vec![sending::Event::Submit(submission(0..1))];
        edge.step(now(0), events).expect("a step");
        clock.mono_ms() - begin_ms
    });
    times.min().expect("five times")
}

/// `WAITING=1000000 cargo test --release --test stores start -- --nocapture` prints it for a million.
#[test]
fn the_start_does_not_depend_on_what_waits() {
    let waiting = std::env::var("WAITING").map_or(50_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let [few, many] = [10, waiting].map(|waiting| {
        let path = folder.path().join(format!("{waiting}.db"));
        store_with(waiting, &path);
        start_of(&path)
    });
    println!("start to first record: {few} ms with 10 waiting, {many} ms with {waiting}");
    assert!(many < few * 10 + 50, "{few} ms, then {many} ms");
}
