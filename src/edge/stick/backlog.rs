//! Writes what waits onto a stick: the messages that would go over the line, sealed for the hub.
//!
//! A reading of the store stands still at one moment while the daemon goes on. Files that are whole are
//! named at the end, all of them or none, so that a stick that is full leaves nothing behind.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::state::Exported;
use crate::edge::blobs::{BlobContent, Blobs};
use crate::edge::config::Config;
use crate::edge::identity::Keys;
use crate::edge::reserve::disk_free_bytes;
use crate::engine::carry::{self, Message};
use crate::model::{Epoch, Lane, Seq, UnixMs};
use crate::shell::sealed::{SealError, SealKey, Sealed, Sealer};
use crate::shell::stick::{Stick, StickError, Unfinished, open_file};
use crate::store::StoreError;
use crate::store::edge::EdgeSnapshot;
use crate::store::edge_status::EdgeView;
use crate::store::log::LogStore;

/// A new file is begun beyond this: FAT takes none of 4 GiB.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// How often it is begun anew when attachments were received and removed meanwhile.
const TRIES_MAX: u32 = 3;

/// What a file says of itself, in the clear. Nothing in it names a person.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    #[serde(rename = "box")]
    box_id: String,
    made_at: String,
    /// Fingerprint of the key that it is sealed with.
    sealed_for: String,
    epoch: String,
    /// Up to where each log goes; once it is received so far, the file has done its work.
    upto: BTreeMap<Lane, Seq>,
}

/// Why the writing ended.
enum Stop {
    Stick(StickError),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

impl From<StickError> for Stop {
    fn from(error: StickError) -> Stop {
        Stop::Stick(error)
    }
}

impl From<SealError> for Stop {
    fn from(error: SealError) -> Stop {
        match error {
            SealError::Io(error) => Stop::Stick(error.into()),
            error => Stop::Stick(StickError::Io(io::Error::other(error))),
        }
    }
}

/// Writes all that waits at this moment; `told` hears how far it is.
pub fn write(
    config: &Config,
    keys: &Keys,
    seal_key: SealKey,
    (dir, stick): (&Path, &Stick),
    now: UnixMs,
    mut told: impl FnMut(&Exported),
) -> Result<Exported, Fault> {
    let free = disk_free_bytes(dir).unwrap_or(0);
    let of_stop = |stop| match stop {
        Stop::Stick(StickError::Full) => full(config, dir, free),
        Stop::Stick(error) => Fault::of_stick(dir, error),
        Stop::Store(error) => Fault::of_store(&error),
    };
    let mut tries = 1;
    loop {
        let filled = fill(config, keys, seal_key, stick, now, &mut told).map_err(of_stop)?;
        // A file that the hub has meanwhile may be gone; it must not be called lost.
        if filled.lacks_content && tries < TRIES_MAX && has_moved(config, &filled.stands)? {
            tries += 1;
            continue;
        }
        let placed = stick.place(filled.files);
        placed.map_err(|error| of_stop(Stop::Stick(error)))?;
        return Ok(filled.exported);
    }
}

/// Files that are whole and have no name yet.
struct Filled {
    files: Vec<Unfinished>,
    exported: Exported,
    /// Where the logs stood.
    stands: Vec<carry::Stand>,
    /// An attachment was to be written and is not to be had.
    lacks_content: bool,
}

fn fill(
    config: &Config,
    keys: &Keys,
    seal_key: SealKey,
    stick: &Stick,
    now: UnixMs,
    told: &mut impl FnMut(&Exported),
) -> Result<Filled, Stop> {
    let store = &config.store;
    let snapshot = EdgeSnapshot::open(&store.path)?;
    let stands = carry::stands(&snapshot)?;
    let head = Head {
        box_id: config.box_id.to_string(),
        made_at: now.to_string(),
        sealed_for: seal_key.fingerprint(),
        epoch: snapshot.epoch().to_string(),
        upto: stands
            .iter()
            .map(|stand| (stand.lane, stand.newest))
            .collect(),
    };
    let mut writer = Writer {
        stick,
        seal_key,
        head: serde_json::to_vec(&head).expect("a head is plain JSON"),
        stamp: stick.fresh_stamp(now)?,
        current: None,
        current_bytes: 0,
        whole: Vec::new(),
        exported: Exported::default(),
    };
    let content = BlobContent(Arc::new(Blobs::beside(&store.path, store.blobs_bytes_max)));
    let key = keys.signing_key();
    let mut lacks_content = false;
    carry::messages(&snapshot, (&config.box_id, &key), &content, |message| {
        lacks_content |= message.is_without_content;
        writer.put(&message)?;
        told(&writer.exported);
        Ok::<_, Stop>(())
    })?;
    writer.end_file()?;
    Ok(Filled {
        files: writer.whole,
        exported: writer.exported,
        stands,
        lacks_content,
    })
}

fn has_moved(config: &Config, before: &[carry::Stand]) -> Result<bool, Fault> {
    let snapshot =
        EdgeSnapshot::open(&config.store.path).map_err(|error| Fault::of_store(&error))?;
    let now = carry::stands(&snapshot).map_err(|error| Fault::of_store(&error))?;
    let moved = |(before, now): (&carry::Stand, &carry::Stand)| before.received != now.received;
    Ok(before.iter().zip(&now).any(moved))
}

struct Writer<'a> {
    stick: &'a Stick,
    seal_key: SealKey,
    head: Vec<u8>,
    stamp: String,
    current: Option<Sealer<BufWriter<Unfinished>>>,
    current_bytes: u64,
    whole: Vec<Unfinished>,
    exported: Exported,
}

impl Writer<'_> {
    fn put(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        if FILE_BYTES_MAX <= self.current_bytes {
            self.end_file()?;
        }
        let sealer = match &mut self.current {
            Some(sealer) => sealer,
            None => {
                let file = self.stick.begin_up(&self.stamp, self.whole.len() + 1)?;
                let out = BufWriter::with_capacity(1 << 17, file);
                self.exported.files += 1;
                self.current
                    .insert(Sealer::begin(out, self.seal_key, &self.head)?)
            }
        };
        sealer.seal(message.bytes)?;
        self.exported.entries += message.entries;
        self.exported.bytes += message.bytes.len() as u64;
        self.current_bytes += message.bytes.len() as u64;
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), Stop> {
        if let Some(sealer) = self.current.take() {
            let mut out = sealer.finish()?;
            out.flush().map_err(StickError::from)?;
            let file = out.into_inner().map_err(|error| error.into_error());
            self.whole.push(file.map_err(StickError::from)?);
            self.current_bytes = 0;
        }
        Ok(())
    }
}

/// What is needed, and what there was.
fn full(config: &Config, dir: &Path, free: u64) -> Fault {
    let waiting = || -> Result<u64, StoreError> {
        let view = EdgeView::open(&config.store.path)?;
        let mut bytes = view.blobs()?.waiting_bytes;
        for lane in Lane::ALL {
            bytes += view.lane(lane)?.waiting_bytes;
        }
        Ok(bytes)
    };
    let mut fault = Fault::of_stick(dir, StickError::Full);
    if let Ok(waiting) = waiting() {
        let [vi, en] = &mut fault.text;
        let (needed, free) = (waiting.div_ceil(1 << 20), free >> 20);
        vi.push_str(&format!(
            ": đang chờ khoảng {needed} MiB, USB còn trống {free} MiB"
        ));
        en.push_str(&format!(
            ": about {needed} MiB wait, {free} MiB are free on it"
        ));
    }
    fault
}

/// Removes files of which everything is received: their records are at the hub, by whatever way.
pub fn remove_delivered(config: &Config, stick: &Stick) -> Result<(), StickError> {
    let stands = || -> Result<(Epoch, BTreeMap<Lane, Seq>), StoreError> {
        let snapshot = EdgeSnapshot::open(&config.store.path)?;
        let stands = carry::stands(&snapshot)?;
        let received = stands
            .iter()
            .map(|stand| (stand.lane, stand.received))
            .collect();
        Ok((snapshot.epoch(), received))
    };
    // Without a look at the store nothing is known to be delivered.
    let Ok((epoch, received)) = stands() else {
        return Ok(());
    };
    for file in stick.up_files()? {
        let Some(head) = head_of(&file) else {
            continue;
        };
        let is_received = |(lane, upto): (&Lane, &Seq)| received.get(lane) >= Some(upto);
        if head.box_id == config.box_id.as_str()
            && head.epoch == epoch.to_string()
            && head.upto.len() == Lane::ALL.len()
            && head.upto.iter().all(is_received)
        {
            stick.remove(&file)?;
        }
    }
    Ok(())
}

fn head_of(path: &Path) -> Option<Head> {
    let sealed = Sealed::begin(open_file(path).ok()?).ok()?;
    serde_json::from_slice(sealed.head()).ok()
}
