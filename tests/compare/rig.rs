//! A box that hands in and reads, and its hub, engine to engine over real stores: for comparisons.

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
use lienthong::model::compare::Verdict;
use lienthong::model::limits::MESSAGE_BYTES_MAX;
use lienthong::model::order::ANSWERS;
use lienthong::model::record::{Draft, Op, RecordType};
use lienthong::model::{AgencyCode, BoxId, Chain, ClockQuality, Epoch, Lane, Now, Seq, UnixMs};
use lienthong::store::Options;
use lienthong::store::copies::Words;
use lienthong::store::down::DownStore;
use lienthong::store::edge::OnceKey;
use lienthong::store::edge_status::EdgeView;
use lienthong::store::hub::rights::RightRow;
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::store::rows::Beside;
use lienthong::sync::{Ack, Limits, LogName};
use lienthong::wire::{Receipt, RefusalCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub const OPTIONS: Options = Options {
    quota_bytes: 8 << 30,
    cache_bytes: 1 << 20,
};
/// 2026-11-22.
const START_MS: i64 = 1_795_300_000_000;
pub const DATASET: &str = "ho_so_tthc";

/// Everything random, from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % below
    }
}

/// One box that hands in and reads, and its hub.
pub struct Rig {
    pub folder: tempfile::TempDir,
    pub hub_key: Vec<u8>,
    pub box_key: Vec<u8>,
    pub catalogue: Arc<Catalogue>,
    /// None only while it is opened again.
    pub hub: Option<receiving::HubEngine>,
    up: sending::EdgeEngine<()>,
    pub down: Option<copying::CopyEngine>,
    /// The daemon's other half, which hands on what the box has to say.
    pub mouth: DownStore,
    pub to_hub: VecDeque<Bytes>,
    pub to_up: VecDeque<Bytes>,
    pub to_down: VecDeque<Bytes>,
    pub ended: Vec<(String, Verdict, u64, u64)>,
    pub now_ms: u64,
    pub count: u64,
    /// What was said so far, and turns of everybody.
    pub up_bytes: usize,
    pub down_bytes: usize,
    pub turns: u64,
}

pub fn box_id() -> BoxId {
    "xa-a".parse().unwrap()
}

pub fn agency() -> AgencyCode {
    "H53.11".parse().unwrap()
}

pub fn now(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        wall: UnixMs(START_MS + mono_ms as i64),
        quality: ClockQuality::Synchronized,
    }
}

fn key(pkcs8: &[u8]) -> SigningKey {
    SigningKey::from_pkcs8(pkcs8).unwrap()
}

pub fn open_hub(path: &Path, hub_key: &[u8], catalogue: &Arc<Catalogue>) -> receiving::HubEngine {
    let mut hub = receiving::HubEngine::open(receiving::Config {
        parts: Box::new(PartFiles::new(folder_beside(path))),
        store: path.to_owned(),
        options: OPTIONS,
        key: key(hub_key).into(),
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
        key: key(box_key).into(),
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
        key: key(box_key).into(),
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
    pub fn new(right: &Right) -> Rig {
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
            up_bytes: 0,
            down_bytes: 0,
            turns: 0,
        };
        rig.connect();
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn connect(&mut self) {
        let link = sending::Event::LinkUp {
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        self.step_up(vec![link]);
        self.step_down(vec![copying::Event::LinkUp]);
    }

    /// The hub dies, and begins again.
    pub fn restart_hub(&mut self) {
        drop(self.hub.take());
        let path = self.path("hub.db");
        self.hub = Some(open_hub(&path, &self.hub_key, &self.catalogue));
        self.step_hub(vec![receiving::Event::LinkUp]);
    }

    /// The box's half for what comes down dies, and begins again.
    pub fn restart_down(&mut self) {
        let folder = self.folder.path().to_owned();
        self.to_down.clear();
        drop(self.down.take());
        let down = open_down(&folder, &self.box_key, &self.hub_key, self.now_ms);
        self.down = Some(down);
        self.step_down(vec![copying::Event::LinkUp]);
    }

    pub fn step_hub(&mut self, events: Vec<receiving::Event>) {
        let at = now(self.now_ms);
        let hub = self.hub.as_mut().unwrap();
        hub.set_room(8 << 20);
        let Ok(effects) = hub.step(at, events) else {
            return self.restart_hub();
        };
        for effect in effects {
            match effect {
                receiving::effect::Effect::Publish { message, .. } => {
                    self.down_bytes += message.len();
                    self.to_up.push_back(message);
                }
                receiving::effect::Effect::Offer { message, .. } => {
                    self.down_bytes += message.len();
                    self.to_down.push_back(message);
                }
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

    pub fn step_up(&mut self, events: Vec<sending::Event<()>>) {
        for effect in self.up.step(now(self.now_ms), events).unwrap() {
            match effect {
                sending::Effect::Publish(message) => {
                    self.up_bytes += message.len();
                    self.to_hub.push_back(message);
                }
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

    pub fn step_down(&mut self, events: Vec<copying::Event>) {
        let at = now(self.now_ms);
        let Ok(effects) = self.down.as_mut().unwrap().step(at, events) else {
            return self.restart_down();
        };
        for effect in effects {
            if let copying::Effect::Publish(message) = effect {
                self.up_bytes += message.len();
                self.to_hub.push_back(message);
            }
        }
    }

    pub fn take_to_hub(&mut self, most: usize) -> Vec<receiving::Event> {
        let count = most.min(self.to_hub.len());
        let event = |message| receiving::Event::Received {
            box_id: box_id(),
            message,
        };
        self.to_hub.drain(..count).map(event).collect()
    }

    /// Something happens, whatever the dice say; every message arrives in the end.
    pub fn move_on(&mut self, dice: &mut Dice) {
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
    pub fn settle(&mut self) {
        self.settle_within(60);
    }

    /// The same, where so many turns without a word are enough.
    pub fn settle_within(&mut self, quiet_turns: u32) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            self.now_ms += 25;
            self.turns += 1;
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
            if quiet_turns < quiet {
                return;
            }
        }
        panic!("they never come to rest");
    }

    /// What the box has to say goes into its own log, as the daemon does it.
    pub fn relay(&mut self) {
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

    pub fn keep(
        &mut self,
        dataset: &str,
        subject: &str,
        op: Op,
        data: &Value,
        once: Option<OnceKey>,
    ) {
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
    pub fn dossiers(&mut self, numbers: std::ops::Range<u64>, op: Op) {
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
    pub fn ask(&mut self) {
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
    pub fn compare(&mut self) -> (Verdict, u64, u64) {
        self.ended.clear();
        self.ask();
        // A long look through the state is silent.
        for _ in 0..100 {
            self.settle();
            if self.ended.iter().any(|(name, ..)| name == DATASET) {
                break;
            }
        }
        let mut ended = self.ended.iter().filter(|(name, ..)| name == DATASET);
        let (_, verdict, buckets, subjects) = ended.next().expect("it ends").clone();
        assert!(ended.next().is_none());
        (verdict, buckets, subjects)
    }

    /// What the box's copy holds.
    pub fn copies(&self) -> Vec<(String, Option<String>)> {
        let file = rusqlite::Connection::open(self.path("down.db")).unwrap();
        let mut statement = file
            .prepare("SELECT subject, data FROM copy WHERE subject IS NOT NULL ORDER BY subject")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The box's signed word that it has lost what it had received.
    pub fn says_lost(&self, epoch: Epoch) -> Bytes {
        let mut receipt = Receipt {
            ack: Ack {
                log: LogName {
                    lane: Lane::P2,
                    epoch,
                },
                applied: Seq::ZERO,
                resend: false,
            },
            chain: Chain::ZERO,
            refused: Some(RefusalCode::Lost),
            hub_time: UnixMs(0),
            signature: [0; 64],
        };
        receipt.signature = key(&self.box_key).sign(&receipt.claim(&box_id()));
        receipt.encode().into()
    }

    pub fn damage(&self, statement: &str) -> usize {
        let file = rusqlite::Connection::open(self.path("down.db")).unwrap();
        file.execute(statement, []).unwrap()
    }
}

pub fn record(
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

pub fn right(rows: Rows) -> Right {
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
pub fn narrow() -> Right {
    Right {
        fields: Some(vec!["/nguoi_nop/ho_ten".to_owned(), "/lan".to_owned()]),
        masked: Vec::new(),
        ..right(Rows::All)
    }
}
