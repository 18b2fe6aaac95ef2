//! One machine that runs as a box: the real engine, and around it what the shell would do: wait,
//! step, open again after an error.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lienthong::edge::inbox::Documents;
use lienthong::edge::received::Keeper;
use lienthong::engine::copying::{self, CopyEngine};
use lienthong::engine::sending::{Config, EdgeEngine, Event, Space};
use lienthong::evidence::PublicKey;
use lienthong::model::chunk::Digest;
use lienthong::model::{BoxId, ClockQuality, Epoch, Now, UnixMs};
use lienthong::store::{Options, StoreError};
use lienthong::sync::Limits;

use crate::blobs::{Contents, Disk};
use crate::check::box_name;
use crate::dice::Dice;
use crate::downlink::Held;
use crate::eyes::{BoxEye, DownEye};
use crate::files::{Copied, Files, Synced};
use crate::keys;
use crate::plan::Plan;
use crate::sources::{Reply, Source};

/// 2026-09-21, when a world begins.
const WALL_MS: i64 = 1_790_000_000_000;
/// More than any world sends.
const FILES_BYTES_MAX: u64 = 64 << 20;
const DAY_MS: i64 = 86_400_000;

/// A wall clock that jumps.
#[derive(Clone)]
pub struct Clock {
    pub offset_ms: i64,
    pub quality: ClockQuality,
}

impl Clock {
    pub const TRUE: Clock = Clock {
        offset_ms: 0,
        quality: ClockQuality::Synchronized,
    };

    pub fn jump(&mut self, days: i64, quality: ClockQuality) {
        self.offset_ms += days * DAY_MS;
        self.quality = quality;
    }

    /// `boot_ms` is when the process began.
    pub fn now(&self, world_ms: u64, boot_ms: u64) -> Now {
        Now {
            mono_ms: world_ms - boot_ms,
            wall: UnixMs(WALL_MS + world_ms as i64 + self.offset_ms),
            quality: self.quality,
        }
    }
}

/// A process that is alive.
pub struct Running {
    pub engine: EdgeEngine<Reply>,
    pub eye: BoxEye,
    pub boot_ms: u64,
}

/// The half of the process that hears the hub, with a store of its own.
pub struct DownSide {
    pub files: Files,
    pub running: Option<DownRunning>,
    pub pending: Vec<copying::Event>,
    pub wake_at: Option<u64>,
    pub dies_inside: bool,
    pub held: Held,
    /// Where files come that documents name; none in worlds without documents.
    pub disk: Option<Disk>,
    pub keeper: Option<Keeper>,
    pub keep_at: Option<u64>,
    pub is_first_look: bool,
    /// The next file that comes is damaged on the disk, and which ones were.
    pub harms: bool,
    pub harmed: BTreeSet<Digest>,
    /// The store was lost or set back: documents may be missing without anybody's fault.
    pub was_set_back: bool,
}

impl DownSide {
    fn new(folder: &Path, name: String, has_papers: bool) -> DownSide {
        let folder = folder.join(&name);
        std::fs::create_dir(&folder).expect("a folder for the machine");
        DownSide {
            disk: has_papers.then(|| Disk::new(folder.join("received"))),
            files: Files::new(&folder, name),
            running: None,
            pending: Vec::new(),
            wake_at: None,
            dies_inside: false,
            held: Held::default(),
            keeper: None,
            keep_at: None,
            is_first_look: true,
            harms: false,
            harmed: BTreeSet::new(),
            was_set_back: false,
        }
    }
}

pub struct DownRunning {
    pub engine: CopyEngine,
    pub eye: DownEye,
}

pub struct Station {
    pub office: usize,
    pub box_id: BoxId,
    pub files: Files,
    pub running: Option<Running>,
    /// Up to where its store was on the disk when it last said so to somebody.
    pub synced: Option<Synced>,
    pub pending: Vec<Event<Reply>>,
    pub wake_at: Option<u64>,
    pub clock: Clock,
    pub timeline: usize,
    pub sources: Vec<Source>,
    pub contents: Contents,
    /// The connection as the box believes it: its number and its message limit.
    pub link: Option<(u64, usize)>,
    pub connect_at: Option<u64>,
    pub open_at: Option<u64>,
    /// The process is to die inside its next step that has something to do.
    pub dies_inside: bool,
    pub traffic: Traffic,
    pub down: DownSide,
    space: Space,
    quota_bytes: u64,
    dice: Dice,
}

/// What the checkers saw on this connection.
#[derive(Default)]
pub struct Traffic {
    /// What went out: lane, first and last number.
    pub sent: Vec<(usize, u64, u64)>,
    pub lanes: [LaneTraffic; 5],
}

#[derive(Default, Clone, Copy)]
pub struct LaneTraffic {
    /// The highest number that went out, and that a receipt named.
    pub sent: u64,
    pub heard: u64,
    pub greeted: bool,
    /// It waits for a link that carries larger messages.
    pub rests: bool,
    /// Batches of other lanes that went out while it waited with nothing under way.
    pub passed_over: u32,
}

impl Station {
    pub fn new(
        folder: &Path,
        index: usize,
        office: usize,
        timeline: usize,
        plan: &Plan,
        dice: Dice,
    ) -> Self {
        let name = box_name(office);
        Self {
            office,
            files: Files::new(folder, format!("{name}-{index}")),
            box_id: name.parse().expect("valid"),
            running: None,
            synced: None,
            pending: Vec::new(),
            wake_at: None,
            clock: Clock::TRUE,
            timeline,
            sources: Vec::new(),
            contents: Contents::default(),
            link: None,
            connect_at: None,
            open_at: Some(0),
            dies_inside: false,
            traffic: Traffic::default(),
            down: DownSide::new(folder, format!("{name}-{index}-down"), plan.has_papers),
            space: Space {
                lane_bytes_max: [plan.lane_bytes; 5],
                tail_ms: plan.tail_ms,
                tail_bytes: plan.tail_bytes,
                once_keys: 300,
                blob_bytes_max: 64 << 20,
            },
            quota_bytes: plan.box_quota_bytes,
            dice,
        }
    }

    /// The process begins.
    pub fn open(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let mut epochs = self.dice.fork();
        let hub_keys: Vec<PublicKey> = vec![keys::hub_public()];
        let engine = EdgeEngine::open(Config {
            store: self.files.path(),
            options: Options {
                quota_bytes: self.quota_bytes,
                cache_bytes: 256 * 1024,
            },
            box_id: self.box_id.clone(),
            key: keys::office(self.office).into(),
            hub_keys,
            limits: Limits::FIELD,
            space: self.space,
            content: Box::new(self.contents.clone()),
            mint: Box::new(move || Epoch((epochs.roll() >> 1) | 1)),
        })?;
        self.synced = self.files.synced();
        self.running = Some(Running {
            engine,
            eye: BoxEye::open(&self.files.path()),
            boot_ms: now_ms,
        });
        for source in &mut self.sources {
            source.restarted(now_ms);
        }
        self.open_down(now_ms)
    }

    fn open_down(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let store = self.down.files.path();
        let mut engine = CopyEngine::open(
            copying::Config {
                store: store.clone(),
                options: Options {
                    quota_bytes: 64 << 20,
                    cache_bytes: 64 * 1024,
                },
                box_id: self.box_id.clone(),
                key: keys::office(self.office).into(),
                hub_keys: vec![keys::hub_public()],
                limits: Limits::FIELD,
            },
            self.now(now_ms),
        )?;
        let eye = DownEye::open(&store);
        if let Some(disk) = &self.down.disk {
            engine.set_files(disk.open(), FILES_BYTES_MAX);
            self.down.is_first_look = true;
            self.down.keeper = Some(Keeper {
                documents: Arc::new(Documents::new(store)),
                box_id: self.box_id.clone(),
                bytes_max: FILES_BYTES_MAX,
                keep_ms: DAY_MS,
            });
        }
        self.down.running = Some(DownRunning { engine, eye });
        Ok(())
    }

    /// The process dies, and all that was only in its memory with it; with the power, what was not
    /// on the disk too.
    pub fn die(&mut self) {
        if let Some(running) = self.down.running.take() {
            // Every commit of this store is on the disk.
            self.down.keeper = None;
            let left = self.down.files.crash();
            drop(running);
            drop(left);
            self.down.disk.iter().for_each(Disk::lose);
        }
        if let Some(running) = self.running.take() {
            let left = match self.dice.chance(50) {
                true => self.files.power_cut(self.synced),
                false => self.files.crash(),
            };
            drop(running);
            drop(left);
        }
        self.forget();
    }

    /// The process stops in order.
    pub fn stop(&mut self) -> Result<(), StoreError> {
        self.down.keeper = None;
        self.down.running = None;
        if let Some(mut running) = self.running.take() {
            running.engine.finish()?;
        }
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.pending.clear();
        self.wake_at = None;
        self.down.pending.clear();
        self.down.wake_at = None;
        self.down.keep_at = None;
        self.link_is_down();
    }

    pub fn put_back(&mut self, copied: &Copied) {
        self.die();
        self.files.put_back(copied);
    }

    /// What came down is lost, or set back; the box must be down.
    pub fn set_down_back(&mut self, copied: Option<&Copied>) {
        self.down.held = Held::default();
        self.down.was_set_back = true;
        match copied {
            Some(copied) => self.down.files.put_back(copied),
            None => self.down.files.remove(),
        }
    }

    pub fn link_is_up(&mut self, connection: u64, limit: usize) {
        self.link = Some((connection, limit));
        self.connect_at = None;
        self.traffic = Traffic::default();
    }

    pub fn link_is_down(&mut self) {
        self.link = None;
        self.connect_at = None;
    }

    pub fn now(&self, now_ms: u64) -> Now {
        let boot_ms = self.running.as_ref().map_or(0, |running| running.boot_ms);
        self.clock.now(now_ms, boot_ms)
    }

    /// Everything that was to be handed in is stored.
    pub fn is_quiet(&self) -> bool {
        self.sources.iter().all(Source::is_done)
    }
}
