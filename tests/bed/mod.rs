//! A box without a link for tests of sources: a real engine over a real store in a thread, a real
//! door with the real catalogue.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lienthong::catalogue::Catalogue;
use lienthong::edge::blobs::{BlobContent, Blobs};
use lienthong::edge::config::{Config, HttpConfig, HubConfig, StoreConfig};
use lienthong::edge::door::Door;
use lienthong::edge::intake::{Input, Intake, Reply, channel};
use lienthong::engine::sending::{self, EdgeEngine, Effect, Event, Space};
use lienthong::evidence::SigningKey;
use lienthong::model::{Epoch, Lane, Seq, UnixMs};
use lienthong::pack::{Pack, Unpacker};
use lienthong::shell::clock::Clock;
use lienthong::store::edge::EdgeStore;
use lienthong::store::edge_status::EdgeView;
use lienthong::store::log::LogStore;
use lienthong::store::{Options, StoreError};
use lienthong::sync::Limits;

pub const BOX: &str = "xa-tan-bien";
const OPTIONS: Options = Options {
    quota_bytes: 4 << 30,
    cache_bytes: 2 << 20,
};

pub struct Bed {
    pub place: tempfile::TempDir,
    key: Vec<u8>,
    pub clock: Clock,
    pub lane_bytes_max: u64,
    pub blobs_bytes_max: u64,
}

/// A bed whose engine runs.
pub struct Running {
    pub door: Arc<Door>,
    engine: std::thread::JoinHandle<()>,
    end: std::sync::mpsc::SyncSender<()>,
    intake: Intake,
}

impl Bed {
    pub fn new() -> Bed {
        Bed {
            place: tempfile::tempdir().unwrap(),
            key: SigningKey::generate(),
            clock: Clock::start(UnixMs(0)),
            lane_bytes_max: 1 << 30,
            blobs_bytes_max: 64 << 20,
        }
    }

    pub fn store(&self) -> PathBuf {
        self.place.path().join("box.db")
    }

    pub fn start(&self) -> Running {
        let (intake, mut queue) = channel();
        let (end, ended) = std::sync::mpsc::sync_channel::<()>(1);
        let clock = self.clock.clone();
        let mut engine = open(&self.store(), &self.key, self.lane_bytes_max);
        let engine = std::thread::spawn(move || {
            loop {
                let Ok(first) = queue.try_recv() else {
                    if ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                        engine.finish().unwrap();
                        return;
                    }
                    std::thread::sleep(std::time::Duration::from_micros(300));
                    continue;
                };
                let mut inputs = vec![first];
                while let Ok(input) = queue.try_recv() {
                    inputs.push(input);
                }
                let (mut events, mut permits, mut cursors) = (Vec::new(), Vec::new(), Vec::new());
                for input in inputs {
                    match input {
                        Input::Event(event) => events.push(event),
                        Input::Submit(submission, permit) => {
                            permits.push(permit);
                            events.push(Event::Submit(submission));
                        }
                        Input::Cursor { source, reply } => cursors.push((source, reply)),
                        Input::Ping(_) | Input::Stop => {}
                    }
                }
                for effect in engine.step(clock.now(), events).unwrap() {
                    if let Effect::Answer { reply, answer } = effect {
                        let _ = reply.send(Ok(answer));
                    }
                }
                for (source, reply) in cursors {
                    let _ = reply.send(engine.cursor(source.as_str()).unwrap());
                }
            }
        });
        let config = self.config();
        let catalogue = Catalogue::load(&config.catalogue).unwrap();
        let door = Door::new(&config, catalogue, intake.clone(), self.clock.clone());
        Running {
            door: Arc::new(door),
            engine,
            end,
            intake,
        }
    }

    pub fn config(&self) -> Config {
        Config {
            file: PathBuf::new(),
            box_id: BOX.parse().unwrap(),
            agency: "H53.12".parse().unwrap(),
            store: StoreConfig {
                path: self.store(),
                quota_bytes: OPTIONS.quota_bytes,
                tail_keep_ms: 0,
                tail_bytes: 0,
                reserve_bytes: 0,
                once_keys: 200_000,
                blobs_bytes_max: self.blobs_bytes_max,
                blob_bytes_max: 1 << 30,
                blob_types: Vec::new(),
                received_bytes_max: 64 << 20,
                received_keep_ms: 86_400_000,
                scanner: None,
                card_rated_bytes: 1 << 40,
            },
            hub: HubConfig {
                addresses: Vec::new(),
                authority: PathBuf::new(),
                certificate: PathBuf::new(),
                key: PathBuf::new(),
                receipt_keys: Vec::new(),
                seal_key: PathBuf::new(),
                allow_tls12: false,
                keep_alive_ms: 30_000,
                bandwidth: lienthong::model::order::Timetable::default(),
            },
            http: HttpConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                tls: None,
                name: BOX.to_owned(),
                mdns: false,
                tokens: Vec::new(),
                body_bytes_max: 1 << 20,
                connections_max: 8,
                per_address_max: 8,
            },
            catalogue: Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue"),
            sources: Vec::new(),
            inboxes: Vec::new(),
            backup: None,
            stick_folder: None,
            alarm_dataset: "an_toan_thiet_bi".parse().unwrap(),
            log_level: "info".to_owned(),
        }
    }

    /// How many entries are in the store, over all lanes.
    #[allow(dead_code)]
    pub fn stored(&self) -> u64 {
        let view = EdgeView::open(&self.store()).unwrap();
        let newest = |lane| view.lane(lane).unwrap().newest.0;
        Lane::ALL.into_iter().map(newest).sum()
    }

    /// Every record in the store, lane by lane.
    pub fn entries(&self) -> Vec<serde_json::Value> {
        entries(&self.store())
    }
}

/// Every record in a box's store, lane by lane; chunks of attachments are none.
pub fn entries(store: &Path) -> Vec<serde_json::Value> {
    let store = EdgeStore::open(store, OPTIONS, &BOX.parse().unwrap(), Epoch(9)).unwrap();
    let mut entries = Vec::new();
    let (mut unpacker, mut pack) = (Unpacker::default(), Pack::default());
    for lane in Lane::ALL {
        store
            .read(lane, Seq(1), |block| {
                let (count, raw_bytes) = (block.entries as usize, block.raw_bytes as usize);
                unpacker
                    .unpack(block.body, count, raw_bytes, &mut pack)
                    .unwrap();
                let read = pack
                    .iter()
                    .map(|entry| serde_json::from_slice::<serde_json::Value>(entry).unwrap());
                entries.extend(read.filter(|entry| entry.get("chunk").is_none()));
                Ok::<_, StoreError>(true)
            })
            .unwrap();
    }
    entries
}

impl Running {
    pub async fn stop(self) {
        drop((self.door, self.intake, self.end));
        tokio::task::spawn_blocking(|| self.engine.join().unwrap())
            .await
            .unwrap();
    }
}

fn open(store: &Path, key: &[u8], lane_bytes_max: u64) -> EdgeEngine<Reply> {
    let mut epochs = 40;
    EdgeEngine::open(sending::Config {
        store: store.to_owned(),
        options: OPTIONS,
        box_id: BOX.parse().unwrap(),
        key: SigningKey::from_pkcs8(key).unwrap().into(),
        hub_keys: Vec::new(),
        limits: Limits::FIELD,
        space: Space {
            lane_bytes_max: [lane_bytes_max; 5],
            tail_ms: 0,
            tail_bytes: 0,
            once_keys: 200_000,
            blob_bytes_max: 64 << 20,
        },
        content: Box::new(BlobContent(Arc::new(Blobs::beside(store, 64 << 20)))),
        mint: Box::new(move || {
            epochs += 1;
            Epoch(epochs)
        }),
    })
    .unwrap()
}
