//! A box and a hub in this process, with real stores and keys and without a network: what the
//! benchmarks, the instruction counts and the allocation counts set up.

#![allow(
    dead_code,
    reason = "it is part of several programs, and each needs its own half of it"
)]

#[path = "../compare/dossier.rs"]
pub mod dossier;

use std::fs;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use lienthong::edge::config::load::load;
use lienthong::edge::door::{Door, Incoming};
use lienthong::edge::intake;
use lienthong::engine::content::NoContent;
use lienthong::engine::parts::{PartFiles, folder_beside};
use lienthong::engine::{receiving, sending};
use lienthong::evidence::{PublicKey, SigningKey};
use lienthong::formats::json::{self, Kind, Limits as BodyLimits};
use lienthong::model::record::Op;
use lienthong::model::{BoxId, ClockQuality, Epoch, Now, UnixMs};
use lienthong::shell::clock::Clock;
use lienthong::store::Options;
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::store::rows::Beside;
use lienthong::sync::Limits;
use tempfile::TempDir;

use dossier::{AGENCY, record};

/// The dataset that the dossiers belong to.
const DATASET: &str = "ho_so_tthc";
/// What a broker with the product's own limit lets through.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
const EDGE_OPTIONS: Options = Options {
    quota_bytes: 64 << 30,
    cache_bytes: 2 << 20,
};
const HUB_OPTIONS: Options = Options {
    quota_bytes: 64 << 30,
    cache_bytes: 16 << 20,
};

pub type Edge = sending::EdgeEngine<()>;

/// Keys of a box and of its hub, the door that the box's HTTP interface uses, and a folder for the
/// stores.
pub struct Pair {
    folder: TempDir,
    box_id: BoxId,
    edge_key: Vec<u8>,
    hub_key: Vec<u8>,
    door: Door,
}

impl Pair {
    pub fn new() -> Pair {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tramd.toml");
        let catalogue = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
        let settings = format!(
            "[box]\nid = \"xa-tan-bien\"\nagency = \"{AGENCY}\"\n[hub]\naddresses = [\"127.0.0.1:8883\"]\n\
             receipt_keys = [\"hub.pub\"]\n[catalogue]\npath = \"{catalogue}\"\n"
        );
        fs::write(&file, settings).expect("written");
        let loaded = load(&file).expect("the configuration has no faults");
        let (intake, _) = intake::channel();
        let clock = Clock::start(UnixMs(0));
        Pair {
            box_id: loaded.config.box_id.clone(),
            door: Door::new(&loaded.config, loaded.catalogue, intake, clock),
            edge_key: SigningKey::generate(),
            hub_key: SigningKey::generate(),
            folder,
        }
    }

    /// What the box does with a body of records before the engine sees them.
    pub fn admit(&self, body: &str) -> Vec<sending::NewRecord> {
        let limits = BodyLimits {
            records_max: 10_000,
            record_bytes_max: usize::MAX,
        };
        let dataset = DATASET.parse().expect("valid");
        let dataset = self.door.dataset(&dataset).expect("shipped");
        let source = "mot-cua".parse().expect("valid");
        let records = json::split(body.as_bytes(), Kind::NdJson, &limits).expect("NDJSON");
        let admit = |data| {
            let incoming = Incoming {
                data,
                op: Op::Upsert,
                original: None,
                id: None,
            };
            self.door.admit(&dataset, &source, incoming)
        };
        records
            .into_iter()
            .map(|data| admit(data).expect("it fits the catalogue"))
            .collect()
    }

    /// Dossiers that have passed the door.
    pub fn records(&self, numbers: Range<u32>) -> Vec<sending::NewRecord> {
        self.admit(&body(numbers))
    }

    /// A box with an empty store of its own.
    pub fn edge(&self, name: &str) -> Edge {
        let store = self.folder.path().join(format!("box-{name}.db"));
        let hub_key = public_key(&self.hub_key);
        open_edge(&store, self.box_id.clone(), &self.edge_key, vec![hub_key])
    }

    /// A box in whose store so many records wait.
    pub fn filled(&self, name: &str, records: u32) -> Edge {
        let mut edge = self.edge(name);
        fill(&mut edge, records, |numbers| self.records(numbers));
        edge
    }

    /// A hub with an empty store of its own that knows the box.
    pub fn hub(&self, name: &str) -> receiving::HubEngine {
        let store = self.folder.path().join(format!("hub-{name}.db"));
        let mut registry = HubStore::open(&store, HUB_OPTIONS).expect("a store");
        let public_key = public_key(&self.edge_key);
        let new = NewBox {
            box_id: &self.box_id,
            agency: &AGENCY.parse().expect("valid"),
            public_key: public_key.as_bytes(),
            serial: "01",
            not_after: UnixMs(i64::MAX),
        };
        assert!(registry.add_box(&new, UnixMs(0)).expect("registered"));
        receiving::HubEngine::open(receiving::Config {
            parts: Box::new(PartFiles::new(folder_beside(&store))),
            store,
            options: HUB_OPTIONS,
            key: key(&self.hub_key).into(),
        })
        .expect("a hub")
    }

    /// Messages of the box as the hub hears them.
    pub fn received(&self, messages: &[Bytes]) -> Vec<receiving::Event> {
        let event = |message: &Bytes| receiving::Event::Received {
            box_id: self.box_id.clone(),
            message: message.clone(),
        };
        messages.iter().map(event).collect()
    }

    /// Carries messages to and fro until nothing waits in the box. `edge_step` and `hub_step` are
    /// called for each step.
    pub fn drain(
        &self,
        edge: &mut Edge,
        hub: &mut receiving::HubEngine,
        mut edge_step: impl FnMut(&mut Edge, Vec<sending::Event<()>>) -> Vec<sending::Effect<()>>,
        mut hub_step: impl FnMut(
            &mut receiving::HubEngine,
            Vec<receiving::Event>,
        ) -> Vec<receiving::effect::Effect>,
    ) {
        let mut to_box = vec![link_up()];
        for _ in 0..100_000 {
            if edge.waiting() == [0; 5] {
                return;
            }
            let messages = published(edge_step(edge, to_box));
            let answers = hub_step(hub, self.received(&messages));
            to_box = answers
                .into_iter()
                .filter_map(|effect| match effect {
                    receiving::effect::Effect::Publish { message, .. } => {
                        Some(sending::Event::Received(message))
                    }
                    _ => None,
                })
                .collect();
        }
        panic!("the box does not become empty");
    }
}

/// Dossiers as an NDJSON body.
pub fn body(numbers: Range<u32>) -> String {
    let records: Vec<String> = numbers.map(record).collect();
    records.join("\n")
}

pub fn public_key(pkcs8: &[u8]) -> PublicKey {
    key(pkcs8).public_key()
}

fn key(pkcs8: &[u8]) -> SigningKey {
    SigningKey::from_pkcs8(pkcs8).expect("own key")
}

/// Opens a box's store, with room for everything and without a tail of what was received.
pub fn open_edge(store: &Path, box_id: BoxId, pkcs8: &[u8], hub_keys: Vec<PublicKey>) -> Edge {
    let mut epoch = 0;
    sending::EdgeEngine::open(sending::Config {
        store: store.to_owned(),
        options: EDGE_OPTIONS,
        box_id,
        key: key(pkcs8).into(),
        hub_keys,
        limits: Limits::FIELD,
        space: sending::Space {
            lane_bytes_max: [32 << 30; 5],
            tail_ms: 0,
            tail_bytes: 0,
            once_keys: 1000,
            blob_bytes_max: 64 << 20,
        },
        content: Box::new(NoContent),
        mint: Box::new(move || {
            epoch += 1;
            Epoch(epoch)
        }),
    })
    .expect("a box")
}

/// Hands in so many records, 1,000 together.
pub fn fill(
    edge: &mut Edge,
    records: u32,
    mut admitted: impl FnMut(Range<u32>) -> Vec<sending::NewRecord>,
) {
    for start in (0..records).step_by(1000) {
        let group = admitted(start..(start + 1000).min(records));
        let effects = edge.step(now(), vec![submission(group)]).expect("a step");
        assert!(
            effects.iter().any(is_stored),
            "the box does not take records in: {effects:?}"
        );
    }
}

pub fn is_stored(effect: &sending::Effect<()>) -> bool {
    matches!(
        effect,
        sending::Effect::Answer {
            answer: sending::Answer::Stored { .. },
            ..
        }
    )
}

/// A time that stands still: nothing falls due while something is measured.
pub fn now() -> Now {
    Now {
        mono_ms: 1,
        wall: UnixMs(1_795_136_400_000),
        quality: ClockQuality::Synchronized,
    }
}

pub fn submission(records: Vec<sending::NewRecord>) -> sending::Event<()> {
    sending::Event::Submit(sending::Submission {
        reply: (),
        source: "mot-cua".parse().expect("valid"),
        records,
        once: None,
        cursor: None,
        beside: Beside::default(),
    })
}

pub fn link_up() -> sending::Event<()> {
    sending::Event::LinkUp {
        message_bytes_max: MESSAGE_BYTES_MAX,
    }
}

/// The messages among what is to be done.
pub fn published(effects: Vec<sending::Effect<()>>) -> Vec<Bytes> {
    effects
        .into_iter()
        .filter_map(|effect| match effect {
            sending::Effect::Publish(message) => Some(message),
            _ => None,
        })
        .collect()
}
