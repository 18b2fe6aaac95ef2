//! Out at the hub: what boxes sent goes on to databases, files, web services, environmental
//! departments and document axes, dataset by dataset.
//!
//! # How it works
//!
//! Each output has a thread, cursors of its own in `outputs.db`, and an [`Adapter`] to its target.
//! It reads the hub's store beside the receiver and costs it nothing. A batch is written down before
//! it is delivered, and its cursors move when the target has it: a crash in between delivers the same
//! batch again under the same number, which every adapter makes harmless.
//!
//! # Order
//!
//! *State* kinds (`postgres`, `sqlite`) write the present state of each subject that an entry
//! touched, so lanes may overtake each other. *Event* kinds deliver each entry once, within a box in
//! the order of capture.
//!
//! # Faults
//!
//! When the target is away ([`Failure::World`]) the whole output waits and tries again. When it
//! refuses one entry ([`Failure::Data`]) the entry is parked with its reason, later ones of the same
//! subject wait behind it, and others pass.

pub mod commands;
mod edxml;
mod event;
mod feed;
mod files;
mod http;
pub mod outlook;
pub mod pick;
mod runner;
pub mod settings;
mod station;
pub mod supervise;
mod table;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hub::output::edxml::{Edxml, EdxmlConfig};
use crate::hub::output::event::Event;
use crate::hub::output::files::FilesConfig;
use crate::hub::output::pick::Mask;
use crate::hub::output::station::{Station, StationConfig};
use crate::hub::output::table::{Place, TableConfig};
use crate::hub::output::webhook::{Webhook, WebhookConfig};
use crate::model::chunk::Digest;
use crate::model::{AgencyCode, DatasetId, UnixMs};
use crate::shell::tls;
use crate::store::StoreError;

/// Events of a batch that go out one by one: so many may go out again after a crash.
const REQUESTS_MAX: usize = 20;
const FILES_MAX: usize = 50;

/// One `[[output]]`.
#[derive(Debug, Clone)]
pub struct OutputConfig {
    pub name: String,
    pub datasets: Vec<DatasetId>,
    /// Only records of these agencies and of those below them; empty: all.
    pub agencies: Vec<AgencyCode>,
    /// Whether a new output begins with what the hub has already.
    pub from_beginning: bool,
    pub sensitivity_max: u8,
    /// Why the law allows sensitive personal data to leave; required for it.
    pub legal_basis: Option<String>,
    pub masks: Vec<Mask>,
    /// More parked entries than this stop the output: something is wrong with all of them.
    pub parked_max: u64,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Edxml(EdxmlConfig),
    Files(FilesConfig),
    Station(StationConfig),
    Table(TableConfig),
    Webhook(WebhookConfig),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Edxml(_) => "edxml",
            Kind::Files(_) => "files",
            Kind::Station(_) => "station",
            Kind::Table(config) => match config.place {
                Place::Postgres(_) => "postgres",
                Place::Sqlite(_) => "sqlite",
            },
            Kind::Webhook(_) => "webhook",
        }
    }

    /// Whether the present state of subjects is delivered instead of each entry.
    pub fn is_state(&self) -> bool {
        match self {
            Kind::Edxml(_) | Kind::Files(_) | Kind::Station(_) | Kind::Webhook(_) => false,
            Kind::Table(_) => true,
        }
    }

    /// Whether the source's own bytes are delivered.
    fn needs_original(&self) -> bool {
        match self {
            Kind::Files(_) | Kind::Table(_) | Kind::Webhook(_) => false,
            Kind::Edxml(_) | Kind::Station(_) => true,
        }
    }

    /// Whether the source's own bytes are delivered also when they are an attachment.
    fn takes_large_original(&self) -> bool {
        match self {
            Kind::Edxml(_) | Kind::Files(_) => true,
            Kind::Station(_) | Kind::Table(_) | Kind::Webhook(_) => false,
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Adapter>, Trouble> {
        match self {
            Kind::Edxml(config) => Ok(Box::new(Edxml::open(config)?)),
            Kind::Files(config) => Ok(Box::new(files::Files::new(name, config))),
            Kind::Station(config) => Ok(Box::new(Station::open(config)?)),
            Kind::Table(config) => config.open(),
            Kind::Webhook(config) => Ok(Box::new(Webhook::open(config)?)),
        }
    }

    /// Entries of one batch.
    fn batch_max(&self) -> usize {
        match self {
            // Each is settled before the next goes out.
            Kind::Edxml(_) => 1,
            Kind::Files(config) => config.batch_max,
            Kind::Station(_) => FILES_MAX,
            Kind::Table(config) => config.batch_max,
            Kind::Webhook(config) => config.events_max.max(REQUESTS_MAX),
        }
    }

    /// After a batch that was not full, how long more is gathered before the next.
    fn gather(&self) -> Duration {
        match self {
            Kind::Files(config) => Duration::from_millis(config.every_ms),
            Kind::Edxml(_) | Kind::Station(_) => Duration::ZERO,
            Kind::Table(config) => Duration::from_millis(config.every_ms),
            Kind::Webhook(config) => config.gather(),
        }
    }

    /// Pauses between attempts where a rule names them; the last one stands for all later ones.
    fn pauses(&self) -> &[Duration] {
        match self {
            Kind::Edxml(config) => &config.pauses,
            Kind::Files(_) | Kind::Station(_) | Kind::Table(_) | Kind::Webhook(_) => &[],
        }
    }
}

/// The way to one target. Whatever it does is harmless when it is done again.
trait Adapter {
    /// Events of one call; more are handed over in several.
    fn events_max(&self) -> usize;

    /// Returns when the target has committed all of the events. With [`Failure::Data`] it has taken
    /// none of them; they are then handed over one by one to find the one that is wrong.
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Failure>;
}

/// What an adapter is to deliver.
struct Delivery<'a> {
    /// Number of the batch: the same when it is delivered again.
    batch: u64,
    events: &'a [Event],
    now: UnixMs,
    /// What the target answered when it was told this already.
    answered: &'a dyn Fn(&str) -> Result<Option<String>, StoreError>,
    /// The file of an attachment that the hub keeps; none: it has no sound one. What is still on its
    /// way is not handed to an adapter.
    kept: &'a dyn Fn(Digest) -> Option<PathBuf>,
}

/// What is to be remembered of a delivery.
#[derive(Debug, Default)]
struct Receipt {
    /// What the target must not hear again, and its answer.
    once: Vec<(String, String)>,
    late: u64,
    history: u64,
    delay_ms: Option<i64>,
}

/// Why events were not delivered.
#[derive(Debug)]
enum Failure {
    /// The target is away, or refuses everything.
    World(Trouble),
    /// The target will never take this event. `detail` is without personal data.
    Data {
        reason: &'static str,
        detail: String,
    },
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::World(trouble)
    }
}

/// Why an output stands still, and what a person can do. Without personal data and secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{en}")]
pub struct Trouble {
    /// Stable, such as `connect` or `disk`.
    pub code: String,
    pub vi: String,
    pub en: String,
    pub hint_vi: String,
    pub hint_en: String,
    pub since: String,
    /// The target asked for this pause.
    #[serde(skip)]
    pub pause: Option<Duration>,
}

impl Trouble {
    /// What is wrong and what to do, each in Vietnamese and in English.
    pub fn new(
        code: &str,
        [vi, en]: [impl Into<String>; 2],
        [hint_vi, hint_en]: [impl Into<String>; 2],
    ) -> Trouble {
        Trouble {
            code: code.to_owned(),
            vi: vi.into(),
            en: en.into(),
            hint_vi: hint_vi.into(),
            hint_en: hint_en.into(),
            since: String::new(),
            pause: None,
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::new(
            "store",
            [
                format!("không đọc ghi được kho của trục: {error}"),
                format!("the hub's store: {error}"),
            ],
            [
                "Kiểm tra ổ đĩa của trục và xem nhật ký; trục tự thử lại.",
                error.hint(),
            ],
        )
    }
}

/// The file of the authority that is to be trusted, which `setting` names, is of no use.
fn no_authority(setting: &'static str, fault: &tls::Fault) -> Trouble {
    Trouble::new(
        setting,
        [
            format!("không dùng được tệp CA: {fault}"),
            fault.to_string(),
        ],
        fault.hints(),
    )
}

/// The secret in the first line of a file.
fn secret(file: &std::path::Path) -> Result<String, Trouble> {
    crate::shell::systemd::read_secret(file).map_err(|error| {
        let name = file.display();
        Trouble::new(
            "secret",
            [
                format!("không đọc được tệp mật khẩu {name}: {error}"),
                format!("the secret in {name} cannot be read: {error}"),
            ],
            [
                "Tạo tệp với mật khẩu trong một dòng, hoặc dùng LoadCredential= của systemd.",
                "Make the file with the secret in one line, or use systemd's LoadCredential=.",
            ],
        )
    })
}
