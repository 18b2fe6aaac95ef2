//! Opens the box's two engines, as often as needed: after a fault each is dropped and opened again.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::edge::arrivals::OpenCopies;
use crate::edge::blobs::{BlobContent, Blobs};
use crate::edge::config::Config;
use crate::edge::door::Door;
use crate::edge::identity::Keys;
use crate::edge::lookup;
use crate::edge::owner::OpenEngine;
use crate::edge::received::Received;
use crate::engine::copying::{self, CopyEngine};
use crate::engine::sending::{self, EdgeEngine, Space};
use crate::model::Epoch;
use crate::shell::replace::hand_over;
use crate::store::Options;
use crate::store::copies::Words;
use crate::sync::Limits;

/// SQLite's page cache in the engine.
const CACHE_BYTES: u64 = 2 * 1024 * 1024;
/// The same for what comes down.
const DOWN_CACHE_BYTES: u64 = 1024 * 1024;

/// Opens the engine over the configured store, as often as needed.
pub fn open_engine(config: &Arc<Config>, keys: &Keys, blobs: &Arc<Blobs>) -> OpenEngine {
    let (config, blobs) = (Arc::clone(config), Arc::clone(blobs));
    let key = keys.signing_key();
    let hub_keys = keys.hub_keys();
    Box::new(move || {
        let store = &config.store;
        make_store_file(&store.path);
        EdgeEngine::open(sending::Config {
            store: store.path.clone(),
            options: Options {
                quota_bytes: store.quota_bytes,
                cache_bytes: CACHE_BYTES,
            },
            box_id: config.box_id.clone(),
            key: key.clone(),
            hub_keys: hub_keys.clone(),
            limits: Limits::FIELD,
            space: Space {
                lane_bytes_max: store.lane_bytes_max(),
                tail_ms: store.tail_keep_ms,
                tail_bytes: store.tail_bytes,
                once_keys: store.once_keys,
                blob_bytes_max: store.blobs_bytes_max,
            },
            content: Box::new(BlobContent(Arc::clone(&blobs))),
            mint: Box::new(mint),
        })
    })
}

/// Opens the engine of what comes down, as often as needed.
pub(super) fn open_copies(config: &Arc<Config>, keys: &Keys, door: &Arc<Door>) -> OpenCopies {
    let (config, door) = (Arc::clone(config), Arc::clone(door));
    let key = keys.signing_key();
    let hub_keys = keys.hub_keys();
    Box::new(move |now| {
        let store = config.store.down_path();
        make_store_file(&store);
        let received = Received::beside(&store);
        let mut engine = CopyEngine::open(
            copying::Config {
                store,
                options: Options {
                    quota_bytes: config.store.quota_bytes,
                    cache_bytes: DOWN_CACHE_BYTES,
                },
                box_id: config.box_id.clone(),
                key: key.clone(),
                hub_keys: hub_keys.clone(),
                limits: Limits::FIELD,
            },
            now,
        )?;
        engine.set_files(received.parts(), config.store.received_bytes_max);
        engine.set_words(words(&door));
        Ok(engine)
    })
}

/// What is looked through, by the catalogue that holds at the time.
fn words(door: &Arc<Door>) -> Words {
    let search = |door: &Arc<Door>| {
        let door = Arc::clone(door);
        move |dataset: &_| door.dataset(dataset).map(|dataset| dataset.search.clone())
    };
    let (fields, of) = (search(door), search(door));
    Words {
        fields: Box::new(move |dataset| {
            let fields = fields(dataset).unwrap_or_default();
            let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
            fields.join(" ")
        }),
        of: Box::new(move |dataset, data| {
            let fields = of(dataset).unwrap_or_default();
            lookup::words(&fields, data)
        }),
    }
}

/// Makes the file for its owner's eyes only; SQLite gives its other files the same mode. What keeps
/// us from making it keeps SQLite too, and is said by it.
pub(in crate::edge) fn make_store_file(path: &Path) {
    if let Ok(file) = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        hand_over(&file, path);
    }
}

/// A new epoch: random, below 2^63.
pub fn mint() -> Epoch {
    Epoch(getrandom::u64().expect("the operating system has random numbers") >> 1)
}
