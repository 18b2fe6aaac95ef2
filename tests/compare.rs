//! Compare and repair, engine to engine over real stores: what a box holds differently is found, said
//! again and equal afterwards; what is only on its way is no difference; logs that were set back are
//! noticed.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lienthong::catalogue::Catalogue;
use lienthong::catalogue::right::{Right, Rows};
use lienthong::engine::compare::{logs_of, say_logs};
use lienthong::engine::content::NoContent;
use lienthong::engine::parts::{PartFiles, folder_beside};
use lienthong::engine::{copying, receiving, sending};
use lienthong::evidence::{SigningKey, sha256};
use lienthong::model::compare::{LOGS, Verdict};
#[cfg(feature = "planted-faults")]
use lienthong::model::fault::{self, Fault};
use lienthong::model::limits::MESSAGE_BYTES_MAX;
use lienthong::model::order::ANSWERS;
use lienthong::model::record::{Draft, Op, RecordType};
use lienthong::model::{AgencyCode, BoxId, ClockQuality, Epoch, Lane, Now, UnixMs};
use lienthong::store::Options;
use lienthong::store::copies::Words;
use lienthong::store::down::DownStore;
use lienthong::store::edge::OnceKey;
use lienthong::store::edge_status::EdgeView;
use lienthong::store::hub::down::Reload;
use lienthong::store::hub::rights::RightRow;
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::store::rows::Beside;
use lienthong::sync::Limits;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const OPTIONS: Options = Options {
    quota_bytes: 256 << 20,
    cache_bytes: 1 << 20,
};
/// 2026-11-22.
const START_MS: i64 = 1_795_300_000_000;
const DATASET: &str = "ho_so_tthc";

/// Worlds in motion.
const SEEDS: u64 = 12;

/// Everything random, from a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % below
    }
}

/// One box that hands in and reads, and its hub.
struct Rig {
    folder: tempfile::TempDir,
    hub_key: Vec<u8>,
    box_key: Vec<u8>,
    catalogue: Arc<Catalogue>,
    /// None only while it is opened again.
    hub: Option<receiving::HubEngine>,
    up: sending::EdgeEngine<()>,
    down: Option<copying::CopyEngine>,
    /// The daemon's other half, which hands on what the box has to say.
    mouth: DownStore,
    to_hub: VecDeque<Bytes>,
    to_up: VecDeque<Bytes>,
    to_down: VecDeque<Bytes>,
    ended: Vec<(String, Verdict, u64, u64)>,
    now_ms: u64,
    count: u64,
}

fn box_id() -> BoxId {
    "xa-a".parse().unwrap()
}

fn agency() -> AgencyCode {
    "H53.11".parse().unwrap()
}

fn now(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        wall: UnixMs(START_MS + mono_ms as i64),
        quality: ClockQuality::Synchronized,
    }
}

fn key(pkcs8: &[u8]) -> SigningKey {
    SigningKey::from_pkcs8(pkcs8).unwrap()
}

fn open_hub(path: &Path, hub_key: &[u8], catalogue: &Arc<Catalogue>) -> receiving::HubEngine {
    let mut hub = receiving::HubEngine::open(receiving::Config {
        parts: Box::new(PartFiles::new(folder_beside(path))),
        store: path.to_owned(),
        options: OPTIONS,
        key: key(hub_key),
    })
    .unwrap();
    hub.set_catalogue(Arc::clone(catalogue));
    hub
}

fn open_up(folder: &Path, box_key: &[u8], hub_key: &[u8]) -> sending::EdgeEngine<()> {
    let mut epochs = 40;
    sending::EdgeEngine::open(sending::Config {
        store: folder.join("box.db"),
        options: OPTIONS,
        box_id: box_id(),
        key: key(box_key),
        hub_keys: vec![key(hub_key).public_key()],
        limits: Limits::FIELD,
        space: sending::Space {
            lane_bytes_max: [32 << 20; 5],
            tail_ms: 3_600_000,
            tail_bytes: 16 << 20,
            once_keys: 1000,
            blob_bytes_max: 64 << 20,
        },
        content: Box::new(NoContent),
        mint: Box::new(move || {
            epochs += 1;
            Epoch(epochs)
        }),
    })
    .unwrap()
}

fn open_down(folder: &Path, box_key: &[u8], hub_key: &[u8], at: u64) -> copying::CopyEngine {
    let config = copying::Config {
        store: folder.join("down.db"),
        options: OPTIONS,
        box_id: box_id(),
        key: key(box_key),
        hub_keys: vec![key(hub_key).public_key()],
        limits: Limits::FIELD,
    };
    let mut down = copying::CopyEngine::open(config, now(at)).unwrap();
    down.set_words(Words {
        fields: Box::new(|_| "/nguoi_nop/ho_ten".to_owned()),
        of: Box::new(|_, data| {
            let data: Value = serde_json::from_str(data).unwrap();
            let name = data["nguoi_nop"]["ho_ten"].as_str();
            name.unwrap_or_default().to_owned()
        }),
    });
    down
}

impl Rig {
    /// A box that may read dossiers by this right, connected.
    fn new(right: &Right) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        let catalogue = Arc::new(Catalogue::load(&shipped).unwrap());
        let (hub_key, box_key) = (SigningKey::generate(), SigningKey::generate());
        let path = folder.path().join("hub.db");
        let mut registry = HubStore::open(&path, OPTIONS).unwrap();
        let public_key = key(&box_key).public_key();
        let new = NewBox {
            box_id: &box_id(),
            agency: &agency(),
            public_key: public_key.as_bytes(),
            serial: "01",
            not_after: UnixMs(i64::MAX),
        };
        assert!(registry.add_box(&new, UnixMs(START_MS)).unwrap());
        let row = RightRow {
            agency: agency(),
            dataset: DATASET.parse().unwrap(),
            content: serde_json::to_string(right).unwrap(),
            basis: String::new(),
            granted: UnixMs(0),
            granted_by: "thử".to_owned(),
        };
        registry.set_right(&row).unwrap();
        let mut rig = Rig {
            hub: Some(open_hub(&path, &hub_key, &catalogue)),
            up: open_up(folder.path(), &box_key, &hub_key),
            down: Some(open_down(folder.path(), &box_key, &hub_key, 0)),
            mouth: DownStore::open(&folder.path().join("down.db"), OPTIONS, &box_id()).unwrap(),
            folder,
            hub_key,
            box_key,
            catalogue,
            to_hub: VecDeque::new(),
            to_up: VecDeque::new(),
            to_down: VecDeque::new(),
            ended: Vec::new(),
            now_ms: 1000,
            count: 0,
        };
        rig.connect();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn connect(&mut self) {
        let link = sending::Event::LinkUp {
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        self.step_up(vec![link]);
        self.step_down(vec![copying::Event::LinkUp]);
    }

    /// The hub dies, and begins again.
    fn restart_hub(&mut self) {
        drop(self.hub.take());
        let path = self.path("hub.db");
        self.hub = Some(open_hub(&path, &self.hub_key, &self.catalogue));
        self.step_hub(vec![receiving::Event::LinkUp]);
    }

    /// The box's half for what comes down dies, and begins again.
    fn restart_down(&mut self) {
        let folder = self.folder.path().to_owned();
        self.to_down.clear();
        drop(self.down.take());
        let down = open_down(&folder, &self.box_key, &self.hub_key, self.now_ms);
        self.down = Some(down);
        self.step_down(vec![copying::Event::LinkUp]);
    }

    fn step_hub(&mut self, events: Vec<receiving::Event>) {
        let at = now(self.now_ms);
        let hub = self.hub.as_mut().unwrap();
        hub.set_room(8 << 20);
        let Ok(effects) = hub.step(at, events) else {
            return self.restart_hub();
        };
        for effect in effects {
            match effect {
                receiving::effect::Effect::Publish { message, .. } => self.to_up.push_back(message),
                receiving::effect::Effect::Offer { message, .. } => self.to_down.push_back(message),
                receiving::effect::Effect::Refused { box_id, code } => panic!("{box_id}: {code:?}"),
                receiving::effect::Effect::Compared {
                    dataset,
                    verdict,
                    buckets,
                    subjects,
                    ..
                } => self.ended.push((dataset, verdict, buckets, subjects)),
                _ => {}
            }
        }
    }

    fn step_up(&mut self, events: Vec<sending::Event<()>>) {
        for effect in self.up.step(now(self.now_ms), events).unwrap() {
            match effect {
                sending::Effect::Publish(message) => self.to_hub.push_back(message),
                sending::Effect::Answer { answer, .. } => {
                    assert!(
                        matches!(answer, sending::Answer::Stored { .. }),
                        "{answer:?}"
                    );
                }
                _ => {}
            }
        }
    }

    fn step_down(&mut self, events: Vec<copying::Event>) {
        let at = now(self.now_ms);
        let Ok(effects) = self.down.as_mut().unwrap().step(at, events) else {
            return self.restart_down();
        };
        for effect in effects {
            if let copying::Effect::Publish(message) = effect {
                self.to_hub.push_back(message);
            }
        }
    }

    fn take_to_hub(&mut self, most: usize) -> Vec<receiving::Event> {
        let count = most.min(self.to_hub.len());
        let event = |message| receiving::Event::Received {
            box_id: box_id(),
            message,
        };
        self.to_hub.drain(..count).map(event).collect()
    }

    /// Something happens, whatever the dice say; every message arrives in the end.
    fn move_on(&mut self, dice: &mut Dice) {
        self.now_ms += dice.next(30);
        match dice.next(6) {
            0 | 1 => {
                let events = self.take_to_hub(1 + dice.next(3) as usize);
                self.step_hub(events);
            }
            2 => {
                let events = self.to_up.drain(..).map(sending::Event::Received).collect();
                self.step_up(events);
            }
            3 | 4 => {
                let count = (1 + dice.next(3) as usize).min(self.to_down.len());
                let events = self.to_down.drain(..count);
                let events = events.map(copying::Event::Received).collect();
                self.step_down(events);
            }
            _ => self.relay(),
        }
    }

    /// Everything arrives, and whatever follows from it.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            self.now_ms += 25;
            let is_quiet =
                self.to_hub.is_empty() && self.to_up.is_empty() && self.to_down.is_empty();
            let events = self.take_to_hub(usize::MAX);
            self.step_hub(events);
            let events = self.to_up.drain(..).map(sending::Event::Received).collect();
            self.step_up(events);
            let events = self
                .to_down
                .drain(..)
                .map(copying::Event::Received)
                .collect();
            self.step_down(events);
            self.relay();
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if 60 < quiet {
                return;
            }
        }
        panic!("they never come to rest");
    }

    /// What the box has to say goes into its own log, as the daemon does it.
    fn relay(&mut self) {
        for row in self.mouth.answers().unwrap() {
            let data: Value = serde_json::from_str(&row.answer).unwrap();
            let subject = format!("{}/{}", data["loai"], data["ma"]);
            let digest = sha256(row.id.as_bytes());
            let once = OnceKey {
                key: digest[..16].try_into().unwrap(),
                digest: digest[16..].try_into().unwrap(),
            };
            self.keep(ANSWERS, &subject, Op::Upsert, &data, Some(once));
            self.mouth.drop_answer(row.number).unwrap();
        }
    }

    fn keep(&mut self, dataset: &str, subject: &str, op: Op, data: &Value, once: Option<OnceKey>) {
        let agency = agency();
        let record = record(dataset, &agency, (subject, op), data, once);
        self.submit(vec![record]);
    }

    fn submit(&mut self, records: Vec<sending::NewRecord>) {
        let submission = sending::Submission {
            reply: (),
            source: "thu".parse().unwrap(),
            records,
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        self.step_up(vec![sending::Event::Submit(submission)]);
    }

    /// Dossiers of which about every seventh belongs to another office's area.
    fn dossiers(&mut self, numbers: std::ops::Range<u64>, op: Op) {
        let agency = agency();
        let mut records = Vec::new();
        for number in numbers {
            self.count += 1;
            let subject = format!("S-{number}");
            let solver = ["H53.11", "H53.12"][(self.count % 7 / 6) as usize];
            let data = json!({
                "ma_ho_so": subject, "co_quan_giai_quyet": solver, "lan": self.count,
                "trang_thai_chuan": "DANG_XU_LY",
                "nguoi_nop": {"ho_ten": format!("Nguyễn Văn Đ{number}"), "so_dinh_danh": "072096001234"}
            });
            records.push(record(DATASET, &agency, (&subject, op), &data, None));
        }
        self.submit(records);
    }

    /// The box says where its logs stand, which begins a comparison.
    fn ask(&mut self) {
        // Not again too soon.
        self.now_ms += 120_000;
        let up = EdgeView::open(&self.path("box.db")).unwrap();
        let logs = logs_of(&up, &self.mouth).unwrap();
        let at = now(self.now_ms).wall;
        self.mouth.begin().unwrap();
        say_logs(&mut self.mouth, &logs, (&box_id(), "thử"), at).unwrap();
        self.mouth.commit().unwrap();
    }

    /// A comparison from beginning to end.
    fn compare(&mut self) -> (Verdict, u64, u64) {
        self.ended.clear();
        self.ask();
        self.settle();
        let mut ended = self.ended.iter().filter(|(name, ..)| name == DATASET);
        let (_, verdict, buckets, subjects) = ended.next().expect("it ends").clone();
        assert!(ended.next().is_none());
        (verdict, buckets, subjects)
    }

    /// What the box's copy holds.
    fn copies(&self) -> Vec<(String, Option<String>)> {
        let file = rusqlite::Connection::open(self.path("down.db")).unwrap();
        let mut statement = file
            .prepare("SELECT subject, data FROM copy WHERE subject IS NOT NULL ORDER BY subject")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn damage(&self, statement: &str) -> usize {
        let file = rusqlite::Connection::open(self.path("down.db")).unwrap();
        file.execute(statement, []).unwrap()
    }
}

fn record(
    dataset: &str,
    agency: &AgencyCode,
    (subject, op): (&str, Op),
    data: &Value,
    once: Option<OnceKey>,
) -> sending::NewRecord {
    let data: Box<RawValue> = serde_json::value::to_raw_value(data).unwrap();
    let draft = Draft {
        id: None,
        source: &"thu".parse().unwrap(),
        kind: RecordType {
            dataset: dataset.parse().unwrap(),
            version: 1,
        },
        subject: subject.parse().unwrap(),
        time: None,
        agency,
        op,
        sensitivity: 2,
        classification: &[],
        attachments: &[],
        codeflags: &[],
        data: &data,
        original: None,
    };
    let lane = match dataset {
        ANSWERS => Lane::P0,
        _ => Lane::P2,
    };
    sending::NewRecord {
        lane,
        tail: draft.to_tail(),
        id: None,
        once,
        attachments: Vec::new(),
    }
}

fn right(rows: Rows) -> Right {
    Right {
        fields: Some(vec![
            "/ma_ho_so".to_owned(),
            "/lan".to_owned(),
            "/nguoi_nop".to_owned(),
        ]),
        masked: vec!["/nguoi_nop/so_dinh_danh".to_owned()],
        rows,
        sensitive: false,
    }
}

/// A right that does not show the key: subjects have other names at the box.
fn narrow() -> Right {
    Right {
        fields: Some(vec!["/nguoi_nop/ho_ten".to_owned(), "/lan".to_owned()]),
        masked: Vec::new(),
        ..right(Rows::All)
    }
}

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
