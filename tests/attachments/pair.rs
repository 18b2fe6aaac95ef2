//! A box and a hub in one thread: the engines' messages are handed over by hand.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lienthong::edge::blobs::{BlobContent, Blobs};
use lienthong::engine::parts::{PartFiles, Parts, folder_beside, part_path};
use lienthong::engine::{receiving, sending};
use lienthong::evidence::SigningKey;
use lienthong::hub::attachments::{Settler, kept_path};
use lienthong::model::chunk::{Chunk, Digest};
use lienthong::model::fault::Fault;
use lienthong::model::record::{Attachment, Draft, Op, RecordType};
use lienthong::model::{BoxId, ClockQuality, Epoch, Lane, Now, UnixMs};
use lienthong::shell::clock::Clock;
use lienthong::store::Options;
use lienthong::store::hub::blobs::BlobState;
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::store::hub_view::HubView;
use lienthong::store::rows::Beside;
use lienthong::sync::Limits;

const OPTIONS: Options = Options {
    quota_bytes: 256 << 20,
    cache_bytes: 1 << 20,
};
const BLOBS_BYTES_MAX: u64 = 64 << 20;
/// More rounds than any of these tests needs.
const ROUNDS_MAX: usize = 2_000;

/// Part files that know which of their bytes are on the disk.
struct Watched {
    files: PartFiles,
    folder: PathBuf,
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    /// Written since the last sync: file, place, what stood there before.
    unsynced: Vec<(PathBuf, u64, Vec<u8>)>,
    /// Length of each file at the last sync.
    lengths: BTreeMap<PathBuf, u64>,
}

impl Disk {
    /// The power goes: what nobody has synced is gone.
    fn lose(&mut self) {
        for (path, at, before) in self.unsynced.drain(..).rev() {
            let Ok(mut bytes) = fs::read(&path) else {
                continue;
            };
            let at = at as usize;
            if at + before.len() <= bytes.len() {
                bytes[at..at + before.len()].copy_from_slice(&before);
            }
            let length = self.lengths.get(&path).copied().unwrap_or(0) as usize;
            bytes.truncate(length.max(at.min(length)));
            fs::write(&path, bytes).expect("written back");
        }
    }
}

impl Parts for Watched {
    fn write(&mut self, sender: &BoxId, chunk: &Chunk, content: &[u8]) -> io::Result<bool> {
        let path = part_path(&self.folder, sender, chunk.blob);
        let before = fs::read(&path).unwrap_or_default();
        let at = chunk.at as usize;
        let end = (at + content.len()).min(before.len());
        let old = before.get(at.min(end)..end).unwrap_or_default().to_vec();
        let mut disk = self.disk.lock().expect("one thread");
        disk.unsynced.push((path, chunk.at, old));
        drop(disk);
        self.files.write(sender, chunk, content)
    }

    fn sync(&mut self) -> io::Result<()> {
        if lienthong::model::fault::is_planted(Fault::ContentUnsynced) {
            return self.files.sync();
        }
        self.files.sync()?;
        let mut disk = self.disk.lock().expect("one thread");
        for (path, _, _) in std::mem::take(&mut disk.unsynced) {
            let length = fs::metadata(&path).map_or(0, |facts| facts.len());
            disk.lengths.insert(path, length);
        }
        Ok(())
    }
}

pub struct Pair {
    place: tempfile::TempDir,
    keys: [Vec<u8>; 2],
    box_id: BoxId,
    blobs: Arc<Blobs>,
    edge: Option<sending::EdgeEngine<()>>,
    hub: Option<receiving::HubEngine>,
    disk: Arc<Mutex<Disk>>,
    to_hub: Vec<Bytes>,
    to_box: Vec<Bytes>,
    link: bool,
    now_ms: u64,
    records: u32,
}

impl Pair {
    pub fn new() -> Pair {
        let place = tempfile::tempdir().expect("a folder");
        let keys: [Vec<u8>; 2] = std::array::from_fn(|_| SigningKey::generate());
        let box_id: BoxId = "xa-tan-bien".parse().expect("valid");
        fs::create_dir(place.path().join("box")).expect("made");
        fs::create_dir(place.path().join("hub")).expect("made");
        let key = SigningKey::from_pkcs8(&keys[0]).expect("own key");
        let public_key = key.public_key();
        let new = NewBox {
            box_id: &box_id,
            agency: &"H53.01".parse().expect("valid"),
            public_key: public_key.as_bytes(),
            serial: "01",
            not_after: UnixMs(i64::MAX),
        };
        let hub = place.path().join("hub/hub.db");
        let mut registry = HubStore::open(&hub, OPTIONS).expect("a new store");
        assert!(registry.add_box(&new, UnixMs(0)).expect("written"));
        drop(registry);
        let store = place.path().join("box/box.db");
        let mut pair = Pair {
            blobs: Arc::new(Blobs::beside(&store, BLOBS_BYTES_MAX)),
            place,
            keys,
            box_id,
            edge: None,
            hub: None,
            disk: Arc::default(),
            to_hub: Vec::new(),
            to_box: Vec::new(),
            link: false,
            now_ms: 0,
            records: 0,
        };
        pair.open_box();
        pair.open_hub();
        pair
    }

    fn store(&self) -> PathBuf {
        self.place.path().join("box/box.db")
    }

    fn hub_store(&self) -> PathBuf {
        self.place.path().join("hub/hub.db")
    }

    fn key(&self, index: usize) -> SigningKey {
        SigningKey::from_pkcs8(&self.keys[index]).expect("own key")
    }

    fn open_box(&mut self) {
        let engine = sending::EdgeEngine::open(sending::Config {
            store: self.store(),
            options: OPTIONS,
            box_id: self.box_id.clone(),
            key: self.key(0).into(),
            hub_keys: vec![self.key(1).public_key()],
            limits: Limits::FIELD,
            space: sending::Space {
                lane_bytes_max: [8 << 20; 5],
                tail_ms: i64::MAX / 2,
                tail_bytes: 64 << 20,
                once_keys: 100,
                blob_bytes_max: BLOBS_BYTES_MAX,
            },
            content: Box::new(BlobContent(Arc::clone(&self.blobs))),
            mint: Box::new(|| Epoch(40)),
        });
        self.edge = Some(engine.expect("a box"));
        self.link = false;
    }

    fn open_hub(&mut self) {
        let folder = folder_beside(&self.hub_store());
        let engine = receiving::HubEngine::open(receiving::Config {
            store: self.hub_store(),
            options: OPTIONS,
            key: self.key(1).into(),
            parts: Box::new(Watched {
                files: PartFiles::new(folder.clone()),
                folder,
                disk: Arc::clone(&self.disk),
            }),
        });
        self.hub = Some(engine.expect("a hub"));
        self.link = false;
    }

    fn now(&mut self) -> Now {
        self.now_ms += 10;
        Now {
            mono_ms: self.now_ms,
            wall: UnixMs(1_790_000_000_000 + self.now_ms as i64),
            quality: ClockQuality::Synchronized,
        }
    }

    // === The box ===

    fn step_box(&mut self, events: Vec<sending::Event<()>>) -> Option<sending::Answer> {
        let now = self.now();
        let engine = self.edge.as_mut().expect("it runs");
        let mut given = None;
        for effect in engine.step(now, events).expect("a step") {
            match effect {
                sending::Effect::Publish(message) => self.to_hub.push(message),
                sending::Effect::Answer { answer, .. } => given = Some(answer),
                sending::Effect::Forgotten(files) => {
                    for file in files {
                        self.blobs.remove(file).expect("removed");
                    }
                }
                sending::Effect::ContentGone(file) => {
                    self.blobs.remove(file).expect("removed");
                }
                sending::Effect::HubTime(_) | sending::Effect::RebuildLink => {}
                other => panic!("{other:?}"),
            }
        }
        given
    }

    fn submit(&mut self, contents: &[&[u8]]) -> sending::Answer {
        self.records += 1;
        let attachments: Vec<Attachment> = contents
            .iter()
            .map(|content| Attachment {
                name: "van-ban.pdf".to_owned(),
                mime: "application/pdf".to_owned(),
                bytes: content.len() as u64,
                sha256: super::digest(content).to_string(),
                original: false,
            })
            .collect();
        let data = serde_json::value::to_raw_value(&serde_json::json!({"so": self.records}));
        let data = data.expect("plain JSON");
        let draft = Draft {
            id: None,
            source: &"thu".parse().expect("valid"),
            kind: RecordType {
                dataset: "ho_so_tthc".parse().expect("valid"),
                version: 1,
            },
            subject: format!("H53.01-261121-{:04}", self.records)
                .parse()
                .expect("valid"),
            time: None,
            agency: &"H53.01".parse().expect("valid"),
            op: Op::Upsert,
            sensitivity: 2,
            classification: &[],
            attachments: &attachments,
            codeflags: &[],
            data: &data,
            original: None,
        };
        let record = sending::NewRecord {
            lane: Lane::P2,
            tail: draft.to_tail(),
            id: None,
            once: None,
            attachments: attachments.clone(),
        };
        let submission = sending::Submission {
            reply: (),
            source: "thu".parse().expect("valid"),
            records: vec![record],
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        let answer = self.step_box(vec![sending::Event::Submit(submission)]);
        answer.expect("an answer")
    }

    /// Puts the contents and hands in a record that names them.
    pub fn hand_in(&mut self, contents: &[&[u8]]) {
        for content in contents {
            self.blobs.put(content).expect("put");
        }
        let answer = self.submit(contents);
        assert!(
            matches!(answer, sending::Answer::Stored { .. }),
            "{answer:?}"
        );
    }

    pub fn name_without_file(&mut self, content: &[u8]) -> sending::Answer {
        self.submit(&[content])
    }

    pub fn waiting(&self) -> u64 {
        let engine = self.edge.as_ref().expect("it runs");
        engine.waiting().iter().sum()
    }

    /// The process dies between two steps; what was on its way is lost.
    pub fn crash_box(&mut self) {
        self.edge = None;
        self.to_box.clear();
        self.blobs = Arc::new(Blobs::beside(&self.store(), BLOBS_BYTES_MAX));
        self.open_box();
    }

    pub fn make_room(&mut self) {
        self.blobs.an_hour_later();
        self.blobs.an_hour_later();
        self.step_box(vec![sending::Event::MakeRoom]);
    }

    pub fn is_at_box(&self, digest: Digest) -> bool {
        self.blobs.length(digest).is_some()
    }

    /// What the look through the folder does, as if a day had passed.
    #[cfg(feature = "planted-faults")]
    pub fn clean_up_at_box(&mut self) {
        self.blobs.an_hour_later();
        self.blobs.an_hour_later();
        let engine = self.edge.as_ref().expect("it runs");
        for part in 0..=255 {
            let old = self.blobs.older_than(part, UnixMs(i64::MAX));
            for file in old.expect("read") {
                if !engine.needs_blob(file).expect("read") {
                    self.blobs.remove(file).expect("removed");
                }
            }
        }
    }

    /// A bit turns over in the last third of a file.
    pub fn damage_at_box(&mut self, digest: Digest) {
        self.blobs.an_hour_later();
        self.blobs.an_hour_later();
        let name = digest.to_string();
        let path = folder_beside(&self.store()).join(&name[..2]).join(&name);
        let mut bytes = fs::read(&path).expect("there");
        let at = bytes.len() - bytes.len() / 3;
        bytes[at] ^= 1;
        // Chunks that are queued already have the digest of what was there.
        let at = bytes.len() / 5;
        bytes[at] ^= 1;
        fs::write(path, bytes).expect("written");
    }

    // === The hub ===

    fn step_hub(&mut self, events: Vec<receiving::Event>) {
        let now = self.now();
        let engine = self.hub.as_mut().expect("it runs");
        for effect in engine.step(now, events).expect("a step") {
            match effect {
                receiving::effect::Effect::Publish { message, .. } => self.to_box.push(message),
                receiving::effect::Effect::Refused { code, .. } => panic!("refused: {code:?}"),
                _ => {}
            }
        }
    }

    pub fn crash_hub(&mut self) {
        self.hub = None;
        self.to_hub.clear();
        self.open_hub();
    }

    /// What was not synced of the part files is lost; the database syncs every commit.
    pub fn power_cut_at_hub(&mut self) {
        self.hub = None;
        self.to_hub.clear();
        self.disk.lock().expect("one thread").lose();
        self.open_hub();
    }

    pub fn set_hub_aside(&mut self) {
        self.hub = None;
        copy_all(
            &self.place.path().join("hub"),
            &self.place.path().join("aside"),
        );
        self.open_hub();
    }

    pub fn put_hub_back(&mut self) {
        self.hub = None;
        let hub = self.place.path().join("hub");
        fs::remove_dir_all(&hub).expect("removed");
        copy_all(&self.place.path().join("aside"), &hub);
        self.open_hub();
    }

    /// Checks everything that has come whole.
    pub fn settle(&self) {
        let settler = Settler {
            store: self.hub_store(),
            options: OPTIONS,
            scanner: None,
            clock: Clock::start(UnixMs(0)),
        };
        let (_hold, stop) = std::sync::mpsc::sync_channel::<()>(1);
        settler.settle_all(&stop).expect("settled");
    }

    pub fn kept(&self, digest: Digest) -> Option<Vec<u8>> {
        fs::read(kept_path(&self.hub_store(), digest)).ok()
    }

    pub fn state_at_hub(&self, digest: Digest) -> Option<BlobState> {
        let store = HubStore::open(&self.hub_store(), OPTIONS).expect("open");
        store.blob_state(digest).expect("read")
    }

    pub fn entries_at_hub(&self) -> u64 {
        let view = HubView::open(&self.hub_store()).expect("open");
        let logs = view.snapshot().and_then(|snapshot| snapshot.logs());
        logs.expect("read").iter().map(|log| log.entries).sum()
    }

    pub fn records_at_hub(&self) -> u64 {
        let view = HubView::open(&self.hub_store()).expect("open");
        let logs = view.snapshot().and_then(|snapshot| snapshot.logs());
        let logs = logs.expect("read");
        let records = logs.iter().filter(|log| log.lane == Lane::P2);
        records.map(|log| log.entries).sum()
    }

    pub fn verify(&self) {
        let view = HubView::open(&self.hub_store()).expect("open");
        lienthong::hub::verify::verify(&view, None, |_| {}).expect("sound");
    }

    // === The link ===

    pub fn cut_link(&mut self) {
        self.to_hub.clear();
        self.to_box.clear();
        self.step_box(vec![sending::Event::LinkDown]);
        self.link = false;
    }

    /// Some rounds of messages there and back.
    pub fn exchange(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let mut events: Vec<_> = std::mem::take(&mut self.to_box)
                .into_iter()
                .map(sending::Event::Received)
                .collect();
            if !std::mem::replace(&mut self.link, true) {
                self.to_hub.clear();
                events.push(sending::Event::LinkDown);
                events.push(sending::Event::LinkUp {
                    message_bytes_max: 128 * 1024,
                });
            }
            self.step_box(events);
            let received = std::mem::take(&mut self.to_hub)
                .into_iter()
                .map(|message| receiving::Event::Received {
                    box_id: self.box_id.clone(),
                    message,
                })
                .collect();
            self.step_hub(received);
        }
    }

    /// Until nothing waits.
    pub fn run(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.exchange(1);
            let is_quiet = self.to_box.is_empty() && self.to_hub.is_empty();
            if is_quiet && self.waiting() == 0 && self.is_all_received() {
                return;
            }
            if is_quiet {
                // Time passes until something is sent again.
                self.now_ms += 20_000;
            }
        }
        panic!("{} entries still wait", self.waiting());
    }

    fn is_all_received(&self) -> bool {
        use lienthong::store::edge_status::EdgeView;
        let view = EdgeView::open(&self.store()).expect("open");
        view.blobs().expect("read").waiting == 0
    }

    #[allow(
        unused_variables,
        reason = "without the feature there is nothing to plant"
    )]
    pub fn plant(&mut self, planted: Option<Fault>) {
        #[cfg(feature = "planted-faults")]
        lienthong::model::fault::plant(planted);
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("there") {
        let entry = entry.expect("read");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => {
                fs::copy(entry.path(), target).expect("copied");
            }
        }
    }
}
