//! An office that sends, a hub and an office that receives, engine to engine over real stores and real
//! files; each may die at any commit.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lienthong::catalogue::Catalogue;
use lienthong::edge::blobs::{BlobContent, Blobs};
use lienthong::edge::inbox::Documents;
use lienthong::edge::inbox::files::{Named, named};
use lienthong::edge::received::Keeper;
use lienthong::engine::parts::{PartFiles, folder_beside};
use lienthong::engine::{copying, receiving, sending};
use lienthong::evidence::{SigningKey, sha256};
use lienthong::hub::attachments::{KeptContent, Settler};
use lienthong::model::chunk::Digest;
use lienthong::model::limits::MESSAGE_BYTES_MAX;
use lienthong::model::record::{Attachment, Draft, Op, RecordType};
use lienthong::model::{AgencyCode, BoxId, ClockQuality, Epoch, Lane, Now, UnixMs};
use lienthong::shell::clock::Clock;
use lienthong::store::down::DownStore;
use lienthong::store::files::FileState;
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::store::log::LogStore;
use lienthong::store::rows::Beside;
use lienthong::store::{Options, StoreError};
use lienthong::sync::Limits;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const OPTIONS: Options = Options {
    quota_bytes: 256 << 20,
    cache_bytes: 1 << 20,
};
/// 2026-11-22.
const START_MS: i64 = 1_795_300_000_000;
const DAY_MS: i64 = 86_400_000;
const OFFICES: [(&str, &str); 2] = [("xa-a", "H53.11"), ("xa-b", "H53.12")];
/// More turns than any of these tests needs.
const TURNS_MAX: u32 = 5_000;
/// So many turns without a word, and it is quiet: longer than what is sent again waits.
const QUIET_TURNS: u32 = 60;
const TURN_MS: u64 = 20;

pub const SENDER: usize = 0;
pub const RECEIVER: usize = 1;

pub struct Station {
    pub id: BoxId,
    agency: AgencyCode,
    key: Vec<u8>,
    folder: PathBuf,
    pub blobs: Arc<Blobs>,
    up: Option<sending::EdgeEngine<()>>,
    down: Option<copying::CopyEngine>,
    pub keeper: Keeper,
    is_online: bool,
}

pub struct Rig {
    pub folder: tempfile::TempDir,
    hub_key: Vec<u8>,
    hub: Option<receiving::HubEngine>,
    pub stations: Vec<Station>,
    to_hub: Vec<receiving::Event>,
    now_ms: u64,
    /// Every so many steps of an engine end in a crash; 0: none.
    pub crash_every: u32,
    steps: u32,
    pub crashes: u32,
    /// The hub's check of attachments does not run.
    pub no_check: bool,
}

pub fn digest(content: &[u8]) -> Digest {
    Digest(sha256(content))
}

pub fn attachment(name: &str, content: &[u8]) -> Attachment {
    Attachment {
        name: name.to_owned(),
        mime: "application/pdf".to_owned(),
        bytes: content.len() as u64,
        sha256: digest(content).to_string(),
        original: false,
    }
}

impl Rig {
    pub fn new(received_bytes_max: u64) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig {
            hub_key: SigningKey::generate(),
            hub: None,
            stations: Vec::new(),
            to_hub: Vec::new(),
            now_ms: 1_000,
            crash_every: 0,
            steps: 0,
            crashes: 0,
            no_check: false,
            folder,
        };
        let mut registry = rig.registry();
        for (name, agency) in OFFICES {
            let key = SigningKey::generate();
            let public_key = SigningKey::from_pkcs8(&key).unwrap().public_key();
            let (id, agency): (BoxId, AgencyCode) =
                (name.parse().unwrap(), agency.parse().unwrap());
            let new = NewBox {
                box_id: &id,
                agency: &agency,
                public_key: public_key.as_bytes(),
                serial: "01",
                not_after: UnixMs(i64::MAX),
            };
            assert!(registry.add_box(&new, UnixMs(START_MS)).unwrap());
            let place = rig.folder.path().join(name);
            std::fs::create_dir(&place).unwrap();
            rig.stations.push(Station {
                blobs: Arc::new(Blobs::beside(&place.join("box.db"), 64 << 20)),
                up: None,
                down: None,
                keeper: Keeper {
                    documents: Arc::new(Documents::new(place.join("down.db"))),
                    box_id: id.clone(),
                    bytes_max: received_bytes_max,
                    keep_ms: DAY_MS,
                },
                folder: place,
                id,
                agency,
                key,
                is_online: false,
            });
        }
        rig.open();
        rig
    }

    pub fn hub_store(&self) -> PathBuf {
        self.folder.path().join("hub.db")
    }

    pub fn registry(&self) -> HubStore {
        HubStore::open(&self.hub_store(), OPTIONS).unwrap()
    }

    pub fn now(&self) -> Now {
        Now {
            mono_ms: self.now_ms,
            wall: UnixMs(START_MS + self.now_ms as i64),
            quality: ClockQuality::Synchronized,
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Opens whatever has died.
    fn open(&mut self) {
        let key = |bytes: &[u8]| SigningKey::from_pkcs8(bytes).unwrap();
        if self.hub.is_none() {
            let path = self.hub_store();
            let mut hub = receiving::HubEngine::open(receiving::Config {
                parts: Box::new(PartFiles::new(folder_beside(&path))),
                store: path.clone(),
                options: OPTIONS,
                key: key(&self.hub_key).into(),
            })
            .unwrap();
            let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("catalogue");
            hub.set_catalogue(Arc::new(Catalogue::load(&shipped).unwrap()));
            hub.set_content(Box::new(KeptContent { store: path }));
            self.hub = Some(hub);
            for number in 0..self.stations.len() {
                self.say_link(number);
            }
        }
        for number in 0..self.stations.len() {
            let now = self.now();
            let hub_keys = vec![key(&self.hub_key).public_key()];
            let station = &mut self.stations[number];
            let mut is_new = false;
            if station.up.is_none() {
                is_new = true;
                station.up = Some(
                    sending::EdgeEngine::open(sending::Config {
                        store: station.folder.join("box.db"),
                        options: OPTIONS,
                        box_id: station.id.clone(),
                        key: key(&station.key).into(),
                        hub_keys: hub_keys.clone(),
                        limits: Limits::FIELD,
                        space: sending::Space {
                            lane_bytes_max: [32 << 20; 5],
                            tail_ms: 0,
                            tail_bytes: 0,
                            once_keys: 1000,
                            blob_bytes_max: 64 << 20,
                        },
                        content: Box::new(BlobContent(Arc::clone(&station.blobs))),
                        mint: Box::new(|| Epoch(41)),
                    })
                    .unwrap(),
                );
            }
            if station.down.is_none() {
                is_new = true;
                let config = copying::Config {
                    store: station.folder.join("down.db"),
                    options: OPTIONS,
                    box_id: station.id.clone(),
                    key: key(&station.key).into(),
                    hub_keys,
                    limits: Limits::FIELD,
                };
                let mut down = copying::CopyEngine::open(config, now).unwrap();
                let parts = station.keeper.documents.files().parts();
                down.set_files(parts, station.keeper.bytes_max);
                station.down = Some(down);
            }
            if is_new {
                self.say_link(number);
            }
        }
    }

    pub fn set_online(&mut self, number: usize, is_online: bool) {
        self.stations[number].is_online = is_online;
        self.say_link(number);
    }

    fn say_link(&mut self, number: usize) {
        let now = self.now();
        let station = &mut self.stations[number];
        let (Some(up), Some(down)) = (&mut station.up, &mut station.down) else {
            return;
        };
        let (to_up, to_down) = match station.is_online {
            true => (
                sending::Event::LinkUp {
                    message_bytes_max: MESSAGE_BYTES_MAX,
                },
                copying::Event::LinkUp,
            ),
            false => (sending::Event::LinkDown, copying::Event::LinkDown),
        };
        let mut messages = up_messages(up.step(now, vec![to_up]).unwrap());
        messages.extend(down_messages(down.step(now, vec![to_down]).unwrap()));
        let id = station.id.clone();
        self.to_hub.extend(
            messages
                .into_iter()
                .map(|message| receiving::Event::Received {
                    box_id: id.clone(),
                    message,
                }),
        );
    }

    /// What is on its way to the hub does not come.
    pub fn lose_words(&mut self) {
        self.to_hub.clear();
    }

    /// The next step of some engine dies before its commit.
    fn maybe_crash(&mut self) {
        self.steps += 1;
        if self.crash_every != 0 && self.steps.is_multiple_of(self.crash_every) {
            #[cfg(feature = "planted-faults")]
            lienthong::model::fault::crash_before_next_commit();
        }
    }

    /// One step of everybody; false when nobody had anything to say.
    pub fn turn(&mut self) -> bool {
        self.pass(TURN_MS);
        let now = self.now();
        self.open();
        let events = std::mem::take(&mut self.to_hub);
        let mut is_busy = !events.is_empty();
        self.maybe_crash();
        let hub = self.hub.as_mut().expect("opened above");
        hub.set_room(1 << 20);
        let effects = hub.step(now, events).unwrap_or_else(|error| {
            assert!(matches!(error, StoreError::Full), "{error}");
            self.crashes += 1;
            self.hub = None;
            Vec::new()
        });
        let mut ups: Vec<Vec<sending::Event<()>>> = vec![Vec::new(), Vec::new()];
        let mut downs: Vec<Vec<copying::Event>> = vec![Vec::new(), Vec::new()];
        for effect in effects {
            let place = |id: &BoxId| OFFICES.iter().position(|(name, _)| *name == id.as_str());
            match effect {
                receiving::effect::Effect::Publish { box_id, message } => {
                    ups[place(&box_id).unwrap()].push(sending::Event::Received(message));
                }
                receiving::effect::Effect::Offer { box_id, message } => {
                    downs[place(&box_id).unwrap()].push(copying::Event::Received(message));
                }
                receiving::effect::Effect::Refused { box_id, code } => panic!("{box_id}: {code:?}"),
                _ => {}
            }
        }
        for (number, (up, down)) in ups.into_iter().zip(downs).enumerate() {
            if !self.stations[number].is_online {
                continue;
            }
            is_busy |= !up.is_empty() || !down.is_empty();
            let messages = self.step_station(number, up, down);
            is_busy |= !messages.is_empty();
            let box_id = self.stations[number].id.clone();
            self.to_hub.extend(
                messages
                    .into_iter()
                    .map(|message| receiving::Event::Received {
                        box_id: box_id.clone(),
                        message,
                    }),
            );
        }
        if !self.no_check && (is_busy || self.steps % 32 < 3) {
            self.check();
        }
        is_busy
    }

    fn step_station(
        &mut self,
        number: usize,
        up: Vec<sending::Event<()>>,
        down: Vec<copying::Event>,
    ) -> Vec<Bytes> {
        let now = self.now();
        let mut messages = Vec::new();
        if let Some(engine) = &mut self.stations[number].up {
            messages.extend(up_messages(engine.step(now, up).unwrap()));
        }
        self.maybe_crash();
        let Some(engine) = &mut self.stations[number].down else {
            return messages;
        };
        match engine.step(now, down) {
            Ok(effects) => messages.extend(down_messages(effects)),
            Err(error) => {
                assert!(matches!(error, StoreError::Full), "{error}");
                self.crashes += 1;
                self.stations[number].down = None;
            }
        }
        messages
    }

    /// The hub's check of what has come whole.
    pub fn check(&self) {
        let (_hold, stop) = std::sync::mpsc::sync_channel::<()>(1);
        let settler = Settler {
            store: self.hub_store(),
            options: OPTIONS,
            scanner: None,
            clock: Clock::start(UnixMs(0)),
        };
        settler.settle_all(&stop).unwrap();
    }

    /// Turns until nobody has said anything for a while.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..TURNS_MAX {
            quiet = if self.turn() { 0 } else { quiet + 1 };
            if QUIET_TURNS < quiet {
                return;
            }
        }
        panic!("they never come to rest");
    }

    /// What the receiving office's box does with its files now and then; says whether it asks.
    pub fn tend(&mut self) -> bool {
        let now = self.now().wall;
        self.stations[RECEIVER].keeper.round(now, false).unwrap()
    }

    // === What the offices do ===

    pub fn put(&self, content: &[u8]) {
        self.stations[SENDER].blobs.put(content).unwrap();
    }

    /// A letter with these files, from the one office to the other.
    pub fn send(&mut self, id: &str, files: &[Attachment]) {
        let data = json!({
            "loai_ban_ghi": "van_ban", "ma_van_ban": id, "tu": {"ma": "H53.11"},
            "den": [{"ma": "H53.12"}],
        });
        self.keep(SENDER, "van_ban_dien_tu", id, &data, files);
    }

    fn keep(
        &mut self,
        number: usize,
        dataset: &str,
        id: &str,
        data: &Value,
        attachments: &[Attachment],
    ) {
        let now = self.now();
        let station = &mut self.stations[number];
        let data: Box<RawValue> = serde_json::value::to_raw_value(data).unwrap();
        let draft = Draft {
            id: Some(id.parse().unwrap()),
            source: &"thu".parse().unwrap(),
            kind: RecordType {
                dataset: dataset.parse().unwrap(),
                version: 1,
            },
            subject: id.parse().unwrap(),
            time: None,
            agency: &station.agency,
            op: Op::Upsert,
            sensitivity: 1,
            classification: &[],
            attachments,
            codeflags: &[],
            data: &data,
            original: None,
        };
        let record = sending::NewRecord {
            lane: Lane::P1,
            tail: draft.to_tail(),
            id: draft.id.clone(),
            once: None,
            attachments: attachments.to_vec(),
        };
        let submission = sending::Submission {
            reply: (),
            source: "thu".parse().unwrap(),
            records: vec![record],
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        let up = station.up.as_mut().expect("it runs");
        let effects = up
            .step(now, vec![sending::Event::Submit(submission)])
            .unwrap();
        let is_stored = effects.iter().any(|effect| {
            matches!(
                effect,
                sending::Effect::Answer {
                    answer: sending::Answer::Stored { .. },
                    ..
                }
            )
        });
        assert!(is_stored, "{effects:?}");
        let box_id = station.id.clone();
        self.to_hub
            .extend(
                up_messages(effects)
                    .into_iter()
                    .map(|message| receiving::Event::Received {
                        box_id: box_id.clone(),
                        message,
                    }),
            );
    }

    /// Puts what the receiving office's box asks for into its log; returns how often it asked.
    pub fn carry_questions(&mut self) -> usize {
        let path = self.stations[RECEIVER].folder.join("down.db");
        let id = self.stations[RECEIVER].id.clone();
        let mut store = DownStore::open(&path, OPTIONS, &id).unwrap();
        let answers = store.answers().unwrap();
        for answer in &answers {
            let data: Value = serde_json::from_str(&answer.answer).unwrap();
            let subject = format!("hoi-{}", answer.number);
            self.keep(RECEIVER, "lenh_tram", &subject, &data, &[]);
            store.drop_answer(answer.number).unwrap();
        }
        answers.len()
    }

    // === What there is ===

    /// The documents of the receiving office, with the state of their files.
    pub fn inbox(&self) -> Vec<(String, Vec<Named>)> {
        let documents = &self.stations[RECEIVER].keeper.documents;
        documents
            .with(|inbox| {
                let mut found = Vec::new();
                for row in inbox.documents(0, false, 100)? {
                    let files = named(inbox, &row)?;
                    found.push((row.id.to_string(), files));
                }
                Ok(found)
            })
            .unwrap()
    }

    pub fn states(&self) -> Vec<FileState> {
        let inbox = self.inbox();
        let files = inbox.iter().flat_map(|(_, files)| files);
        files.map(Named::state).collect()
    }

    pub fn has_file(&self, content: &[u8]) -> bool {
        let files = self.stations[RECEIVER].keeper.documents.files();
        std::fs::read(files.path(digest(content))).is_ok_and(|found| found == content)
    }

    /// Entries that the hub has put into the receiving office's P4.
    pub fn chunks_sent(&self) -> u64 {
        let registry = self.registry();
        let known = registry.down_box(&self.stations[RECEIVER].id).unwrap();
        let Some(known) = known else { return 0 };
        let state = registry.down_log(known).lane_state(Lane::P4).unwrap();
        state.newest.seq.0
    }
}

fn up_messages(effects: Vec<sending::Effect<()>>) -> Vec<Bytes> {
    let message = |effect| match effect {
        sending::Effect::Publish(message) => Some(message),
        _ => None,
    };
    effects.into_iter().filter_map(message).collect()
}

fn down_messages(effects: Vec<copying::Effect>) -> Vec<Bytes> {
    let message = |effect| match effect {
        copying::Effect::Publish(message) => Some(message),
        _ => None,
    };
    effects.into_iter().filter_map(message).collect()
}
