//! A stick between box and hub where there is no line: `tramd export DIR` writes what waits, for the
//! hub's eyes only; `trucd import DIR` commits it and writes its receipts beside it; `tramd import DIR`
//! takes those. The box forgets by receipts only, and what goes over a line too is not doubled.
//!
//! Both work beside the daemon, which is asked through the socket beside the store for what only the
//! store's owner may do, and without it.

mod backlog;
pub mod device;
pub mod fault;
pub mod state;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::edge::commands::Failure;
use crate::edge::config::Config;
use crate::edge::config::load::{Loaded, load};
use crate::edge::http::App;
use crate::edge::identity::Keys;
use crate::edge::listen::LocalPeer;
use crate::edge::lock::{LockError, StoreLock};
use crate::edge::orders::local::{self, By};
use crate::edge::problem::Problem;
use crate::edge::run::Core;
use crate::edge::status::Stamp;
use crate::edge::talk;
use crate::engine::sending::{Event, Level};
use crate::model::{Lane, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::sealed::SealKey;
use crate::shell::stick::{Stick, read_receipts};
use crate::store::StoreError;
use crate::store::edge_status::EdgeView;
use crate::wire::Receipt;
use fault::Fault;
use state::{Exported, Imported, StickState, StickStatus};

/// Paths of the local socket.
pub const QUEUE_PATH: &str = "/v1/local/stick/queue";
pub const RECEIPT_PATH: &str = "/v1/local/stick/receipt";
pub const NOTE_PATH: &str = "/v1/local/stick/note";
const LOOK: Duration = Duration::from_millis(100);
/// The daemon lists the chunks of attachments for so long before it says that it is not through yet,
/// and is asked again while something has changed.
const LOOKS_MAX: u32 = 150;
/// What is being written is told so often.
const TOLD_EVERY_MS: u64 = 10_000;
/// Who only looks whether the lock is held has it for a moment.
const LOCK_TRIES: u32 = 5;
const NOTE_BYTES_MAX: usize = 512;

/// Asks the owner of the store to do something: path and body; returns the answer's status.
pub type Ask<'a> = &'a dyn Fn(&str, &[u8]) -> Result<u16, Fault>;

/// A box and its stick's errands.
pub struct Errand<'a> {
    pub config: &'a Config,
    pub keys: &'a Keys,
    pub clock: &'a Clock,
    pub ask: Ask<'a>,
}

/// `tramd export DIR`, or with `--prepare` only the folder on the stick.
pub fn export(path: &Path, dir: &Path, only_prepare: bool) -> Result<String, Failure> {
    let Loaded { config, .. } = load(path).map_err(Failure::Configuration)?;
    if only_prepare {
        let prepared = Stick::prepare(dir, &config.box_id, &config.store.path);
        let stick = prepared.map_err(|error| Fault::of_stick(dir, error))?;
        return Ok(format!(
            "Đã chuẩn bị USB cho trạm {0}: {1}. Từ nay cắm USB này vào trạm là dữ liệu tự được ghi.\n\
             The stick is prepared for box {0}: {1}. From now on what waits is written when it is plugged in.\n",
            config.box_id,
            stick.folder().display()
        ));
    }
    let exported = at_the_console(path, &config, "stick_export", |errand, told| {
        errand.export(dir, told)
    })?;
    let exported = exported.exported.unwrap_or_default();
    let left = match exported.left_bytes {
        0 => String::new(),
        left => format!(
            "Còn {0} MiB tệp đính kèm chưa ghi được vì kho của trạm đầy; mang chuyến này đi rồi làm thêm chuyến nữa.\n\
             {0} MiB of attachments are left because the box's store is full; carry this and come again.\n",
            left.div_ceil(1 << 20)
        ),
    };
    if exported.entries == 0 {
        return Ok(format!(
            "Không có bản ghi nào chờ gửi; không ghi gì vào USB.\nNothing waits; nothing was written.\n{left}"
        ));
    }
    Ok(format!(
        "Đã ghi {0} bản ghi chờ ({1} tệp, {2} byte), chỉ trục đọc được. Gỡ USB (umount), mang về trung tâm và chạy: \
         trucd import DIR. Trạm giữ nguyên dữ liệu cho đến khi có biên nhận.\n\
         Written: {0} entries that wait ({1} files, {2} bytes), for the hub's eyes only. Unmount the stick, carry it to \
         the hub: trucd import DIR. The box keeps everything until it has the receipts.\n{left}",
        exported.entries, exported.files, exported.bytes
    ))
}

/// `tramd import DIR`.
pub fn import(path: &Path, dir: &Path) -> Result<String, Failure> {
    let Loaded { config, .. } = load(path).map_err(Failure::Configuration)?;
    let imported = at_the_console(path, &config, "stick_import", |errand, told| {
        errand.import(dir, told)
    })?;
    let Imported { files, entries } = imported.imported.unwrap_or_default();
    if files == 0 {
        return Ok("USB không có biên nhận mới.\nThe stick holds no new receipts.\n".to_owned());
    }
    Ok(format!(
        "Đã đọc {files} tệp biên nhận: trục đã giữ thêm {entries} bản ghi.\n\
         {files} files of receipts were read: the hub has {entries} entries more.\n"
    ))
}

/// Does an errand for a command: through the daemon, or in its place. The audit notes it as `name`.
fn at_the_console(
    path: &Path,
    config: &Config,
    name: &'static str,
    work: impl FnOnce(&Errand<'_>, &mut Teller<'_>) -> Result<(), Fault>,
) -> Result<StickStatus, Failure> {
    let clock = Clock::start(UnixMs(0));
    let keys = Keys::load(config, &clock).map_err(Failure::Configuration)?;
    let ask = |place: &str, body: &[u8]| match talk::post(&config.store.path, place, &[], body) {
        Ok(Ok(reply)) => Ok(reply.status),
        Ok(Err(error)) => Err(Fault::daemon(&error.to_string())),
        Err(_) if place == NOTE_PATH => Ok(204),
        Err(_) => in_its_place(path, place, body),
    };
    let errand = Errand {
        config,
        keys: &keys,
        clock: &clock,
        ask: &ask,
    };
    let done = errand.run(work);
    let (result, detail) = match &done {
        Ok(_) => ("done", ""),
        Err(fault) => ("failed", fault.code),
    };
    let now = clock.now().wall;
    // What is done is done; a fault of the audit's is only logged.
    if let Err(error) = local::note(config, &By::console(), name, result, detail, now) {
        tracing::error!(%error, name, "the audit could not be written");
    }
    Ok(done?)
}

/// Answers a request as the daemon would, while none runs.
fn in_its_place(path: &Path, place: &str, body: &[u8]) -> Result<u16, Fault> {
    let serve = || -> Result<u16, Failure> {
        let Loaded {
            config, catalogue, ..
        } = load(path).map_err(Failure::Configuration)?;
        let request = Request::post(place).extension(LocalPeer);
        let request = request.body(Body::from(body.to_vec()));
        let request = request.map_err(|error| anyhow!(error))?;
        let (status, _) = Core::build(config, catalogue)?.serve_one(request)?;
        Ok(status.as_u16())
    };
    serve().map_err(|failure| Fault::daemon(&failure.text()))
}

/// Writes down how far an errand is.
pub struct Teller<'a> {
    config: &'a Config,
    clock: &'a Clock,
    status: StickStatus,
    told_at: u64,
}

impl Teller<'_> {
    /// What cannot be told hinders nothing.
    fn tell(&mut self) {
        self.told_at = self.clock.mono_ms();
        if let Err(error) = state::write(&self.config.store.path, &self.status) {
            tracing::warn!(%error, "stick.json cannot be written");
        }
    }

    fn tell_now_and_then(&mut self, exported: &Exported) {
        self.status.exported = Some(*exported);
        if self.told_at + TOLD_EVERY_MS <= self.clock.mono_ms() {
            self.tell();
        }
    }
}

impl Errand<'_> {
    /// One errand at a time, told from its beginning to its end.
    pub fn run(
        &self,
        work: impl FnOnce(&Errand<'_>, &mut Teller<'_>) -> Result<(), Fault>,
    ) -> Result<StickStatus, Fault> {
        let _lock = self.lock()?;
        let mut teller = Teller {
            config: self.config,
            clock: self.clock,
            status: StickStatus {
                state: StickState::Writing,
                at: Stamp(self.clock.now().wall),
                exported: None,
                imported: None,
                fault: None,
            },
            told_at: 0,
        };
        teller.tell();
        let done = work(self, &mut teller);
        let now = self.clock.now().wall;
        teller.status.at = Stamp(now);
        let (code, detail) = match &done {
            Ok(()) => {
                teller.status.state = StickState::Ready;
                let exported = teller
                    .status
                    .exported
                    .map_or(0, |exported| exported.entries);
                let imported = teller
                    .status
                    .imported
                    .map_or(0, |imported| imported.entries);
                (
                    "stick_done",
                    format!("{exported} entries, {imported} receipts"),
                )
            }
            Err(fault) => {
                teller.status.state = StickState::Failed;
                teller.status.exported = None;
                teller.status.fault = Some(fault.trouble(now));
                ("stick_failed", fault.code.to_owned())
            }
        };
        teller.tell();
        // For the list of events only.
        let _ = (self.ask)(NOTE_PATH, format!("{code} {detail}").as_bytes());
        done.map(|()| teller.status)
    }

    fn lock(&self) -> Result<StoreLock, Fault> {
        let path = state::lock_path(&self.config.store.path);
        for _ in 1..LOCK_TRIES {
            match StoreLock::take(&path) {
                Err(LockError::Held) => thread::sleep(LOOK),
                taken => return taken.map_err(|error| Fault::daemon(&error.to_string())),
            }
        }
        Err(Fault::busy())
    }

    /// Writes what waits. What was delivered makes room first.
    pub fn export(&self, dir: &Path, teller: &mut Teller<'_>) -> Result<(), Fault> {
        let config = self.config;
        let of_stick = |error| Fault::of_stick(dir, error);
        let seal_key = seal_key(config)?;
        let stick = Stick::prepare(dir, &config.box_id, &config.store.path).map_err(of_stick)?;
        stick.clear().map_err(of_stick)?;
        backlog::remove_delivered(config, &stick).map_err(of_stick)?;
        let left_bytes = self.queue_attachments()?;
        let now = self.clock.now().wall;
        let place = (dir, &stick);
        let exported = backlog::write(config, self.keys, seal_key, place, now, |exported| {
            teller.tell_now_and_then(exported);
        })?;
        teller.status.exported = Some(Exported {
            left_bytes,
            ..exported
        });
        Ok(())
    }

    /// Has the chunks of all attachments listed as entries; returns the bytes of those that were not,
    /// because the store takes nothing more.
    fn queue_attachments(&self) -> Result<u64, Fault> {
        let left = || -> Result<u64, StoreError> {
            EdgeView::open(&self.config.store.path)?.unqueued_blob_bytes()
        };
        let left = || left().map_err(|error| Fault::of_store(&error));
        let mut before = left()?;
        while 0 < before {
            let status = (self.ask)(QUEUE_PATH, b"")?;
            let now = left()?;
            if !matches!(status, 200 | 202) || now == before {
                break;
            }
            before = now;
        }
        left()
    }

    /// Takes the receipts. Nothing counts that the hub has not signed for this box.
    pub fn import(&self, dir: &Path, teller: &mut Teller<'_>) -> Result<(), Fault> {
        let of_stick = |error| Fault::of_stick(dir, error);
        let stick = Stick::open(dir, &self.config.box_id).map_err(of_stick)?;
        let before = self.received()?;
        let mut fault = None;
        let mut files = 0;
        for file in stick.receipt_files().map_err(of_stick)? {
            match self.take_receipts(dir, &file) {
                Ok(()) => {
                    files += 1;
                    // Where it cannot be removed it is taken again, which changes nothing.
                    let _ = stick.remove(&file);
                }
                Err(found) => fault = fault.or(Some(found)),
            }
        }
        let entries = self.received()?.saturating_sub(before);
        teller.status.imported = Some(Imported { files, entries });
        if let Some(fault) = fault {
            return Err(fault);
        }
        // On a stick that cannot be written to they stay.
        let _ = backlog::remove_delivered(self.config, &stick);
        Ok(())
    }

    fn take_receipts(&self, dir: &Path, file: &Path) -> Result<(), Fault> {
        let messages = read_receipts(file).map_err(|error| Fault::of_stick(dir, error))?;
        let hub_keys = self.keys.hub_keys();
        let mut receipts = Vec::new();
        for message in &messages {
            let receipt = Receipt::decode(message).ok().filter(|receipt| {
                let claim = receipt.claim(&self.config.box_id);
                let mut keys = hub_keys.iter();
                keys.any(|key| key.verify(&claim, &receipt.signature).is_ok())
            });
            let Some(receipt) = receipt else {
                let name = file.file_name().unwrap_or_default();
                return Err(Fault::forged(&name.to_string_lossy()));
            };
            receipts.push(receipt);
        }
        for message in &messages {
            match (self.ask)(RECEIPT_PATH, message)? {
                204 => {}
                status => return Err(Fault::daemon(&format!("{RECEIPT_PATH}: {status}"))),
            }
        }
        match self.has_heard(&receipts) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::daemon("the store has not taken the receipts")),
            Err(error) => Err(Fault::of_store(&error)),
        }
    }

    /// Whether the store has taken receipts; those of another epoch, or that send it back, say nothing.
    fn has_heard(&self, receipts: &[Receipt]) -> Result<bool, StoreError> {
        let view = EdgeView::open(&self.config.store.path)?;
        let epoch = view.facts()?.epoch;
        for receipt in receipts {
            let ack = &receipt.ack;
            if ack.log.epoch == epoch
                && !ack.resend
                && view.lane(ack.log.lane)?.received < ack.applied
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Entries with a receipt, over all lanes.
    fn received(&self) -> Result<u64, Fault> {
        let count = || -> Result<u64, StoreError> {
            let view = EdgeView::open(&self.config.store.path)?;
            let received = |lane| view.lane(lane).map(|facts| facts.received.0);
            Lane::ALL.into_iter().map(received).sum()
        };
        count().map_err(|error| Fault::of_store(&error))
    }
}

fn seal_key(config: &Config) -> Result<SealKey, Fault> {
    let path = &config.hub.seal_key;
    let shown = path.display();
    let pem = fs::read(path).map_err(|error| Fault::no_key(&format!("{shown}: {error}")))?;
    SealKey::from_pem(&pem).map_err(|error| Fault::no_key(&format!("{shown}: {error}")))
}

// === In the daemon ===

/// Lists the chunks of all attachments as entries: 200 when all are, 202 when it is to be asked again.
pub async fn post_queue(
    State(app): State<Arc<App>>,
    local: Option<Extension<LocalPeer>>,
) -> Response {
    if local.is_none() {
        return Problem::not_found().into_response();
    }
    app.door.intake().link(Event::QueueFiles).await;
    for _ in 0..LOOKS_MAX {
        let store = app.area.config().store.path.clone();
        let left = tokio::task::spawn_blocking(move || {
            EdgeView::open(&store).and_then(|view| view.unqueued_blob_bytes())
        });
        match left.await.expect("a look does not panic") {
            Ok(0) => return StatusCode::OK.into_response(),
            Ok(_) => tokio::time::sleep(LOOK).await,
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }
    StatusCode::ACCEPTED.into_response()
}

/// Hands a receipt to the engine, which checks it as one of the line's.
pub async fn post_receipt(
    State(app): State<Arc<App>>,
    local: Option<Extension<LocalPeer>>,
    receipt: Bytes,
) -> Response {
    if local.is_none() {
        return Problem::not_found().into_response();
    }
    app.door.intake().link(Event::Received(receipt)).await;
    match app.door.intake().ping().await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Writes into the list of events how an errand ended.
pub async fn post_note(
    State(app): State<Arc<App>>,
    local: Option<Extension<LocalPeer>>,
    note: String,
) -> Response {
    if local.is_none() || NOTE_BYTES_MAX < note.len() {
        return Problem::not_found().into_response();
    }
    let (level, code, detail) = match note.split_once(' ') {
        Some(("stick_done", detail)) => (Level::Info, "stick_done", detail),
        Some(("stick_failed", detail)) => (Level::Warning, "stick_failed", detail),
        _ => return Problem::not_found().into_response(),
    };
    app.door.intake().note(level, code, detail.to_owned()).await;
    StatusCode::NO_CONTENT.into_response()
}
