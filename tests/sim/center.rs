//! The hub's process: the real engine, and around it what the shell would do.

use std::path::Path;

use lienthong::engine::parts::folder_beside;
use lienthong::engine::posting::DownSpace;
use lienthong::engine::receiving::{Config, Event, HubEngine};
use lienthong::hub::attachments::KeptContent;
use lienthong::model::limits::MESSAGE_BYTES_MAX;
use lienthong::model::{AgencyCode, BoxId, UnixMs};
use lienthong::store::hub::{BoxState, HubStore, NewBox};
use lienthong::store::{Options, StoreError};

use crate::blobs::Disk;
use crate::check::box_name;
use crate::eyes::HubEye;
use crate::files::{Copied, Files};
use crate::keys;
use crate::papers;
use crate::plan::{HUB_QUOTA_BYTES, Plan};
use crate::station::Clock;

pub struct Running {
    pub engine: HubEngine,
    pub eye: HubEye,
    pub boot_ms: u64,
}

pub struct Center {
    pub files: Files,
    pub running: Option<Running>,
    pub pending: Vec<Event>,
    pub wake_at: Option<u64>,
    pub open_at: Option<u64>,
    pub connected: bool,
    pub connect_at: Option<u64>,
    pub dies_inside: bool,
    /// An older copy lies where the store was.
    pub was_set_back: bool,
    pub clock: Clock,
    pub quota_bytes: u64,
    /// What messages the hub's own link carries.
    pub link_limit: usize,
    pub parts: Disk,
    space: DownSpace,
    has_papers: bool,
}

impl Center {
    /// A hub with all boxes registered.
    pub fn new(folder: &Path, plan: &Plan, space: DownSpace) -> Self {
        let files = Files::new(folder, "hub".to_owned());
        let parts = Disk::new(folder_beside(&files.path()));
        let options = Options {
            quota_bytes: HUB_QUOTA_BYTES,
            cache_bytes: 256 * 1024,
        };
        let mut registry = HubStore::open(&files.path(), options).expect("a new store");
        registry.begin().expect("a transaction");
        for office in 0..plan.offices {
            let box_id: BoxId = box_name(office).parse().expect("valid");
            let agency: AgencyCode = format!("H53.{office}").parse().expect("valid");
            let public_key = keys::office(office).public_key();
            let new = NewBox {
                box_id: &box_id,
                agency: &agency,
                public_key: public_key.as_bytes(),
                serial: "01",
                not_after: UnixMs(i64::MAX),
            };
            assert!(registry.add_box(&new, UnixMs(0)).expect("written"));
        }
        registry.commit().expect("committed");
        Self {
            files,
            running: None,
            pending: Vec::new(),
            wake_at: None,
            open_at: Some(0),
            connected: false,
            connect_at: None,
            dies_inside: false,
            was_set_back: false,
            clock: Clock::TRUE,
            quota_bytes: plan.hub_quota_bytes,
            has_papers: plan.has_papers,
            link_limit: MESSAGE_BYTES_MAX,
            parts,
            space,
        }
    }

    pub fn open(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let mut engine = HubEngine::open(Config {
            store: self.files.path(),
            options: Options {
                quota_bytes: self.quota_bytes,
                cache_bytes: 256 * 1024,
            },
            key: keys::hub().into(),
            parts: self.parts.open(),
        })?;
        if self.has_papers {
            engine.set_catalogue(papers::catalogue());
            let store = self.files.path();
            engine.set_content(Box::new(KeptContent { store }));
        }
        engine.set_down_space(self.space);
        self.running = Some(Running {
            engine,
            eye: HubEye::open(&self.files.path()),
            boot_ms: now_ms,
        });
        Ok(())
    }

    pub fn die(&mut self) {
        if let Some(running) = self.running.take() {
            let left = self.files.crash();
            drop(running);
            drop(left);
            self.parts.lose();
        }
        self.pending.clear();
        self.wake_at = None;
        self.connected = false;
        self.connect_at = None;
    }

    /// What an administrator does beside the running hub.
    pub fn set_state(&self, office: usize, state: BoxState) {
        let box_id: BoxId = box_name(office).parse().expect("valid");
        let options = Options {
            quota_bytes: HUB_QUOTA_BYTES,
            cache_bytes: 64 * 1024,
        };
        let mut registry = HubStore::open(&self.files.path(), options).expect("the store is there");
        assert!(registry.set_box_state(&box_id, state).expect("written"));
    }

    pub fn put_back(&mut self, copied: &Copied) {
        self.die();
        self.was_set_back = true;
        self.files.put_back(copied);
    }
}
