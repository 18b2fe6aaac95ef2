//! The sending end of attachments: where the content of chunks comes from, and how it is put beside
//! the entries that name it.

use std::io;

use super::log::Tools;
use super::outlet::{Outlet, Signer};
use crate::evidence::{GoneClaim, sha256};
use crate::model::chunk::{self, Chunk, ChunkEntry, Digest};
use crate::model::limits::CHUNK_BYTES_MAX;
use crate::model::{Capture, Lane, Now};
use crate::store::StoreError;
use crate::store::blobs::WantedStore;
use crate::store::log::LogStore;
use crate::sync::Offer;
use crate::wire::{BatchBuilder, Cargo};

/// Chunks that wait as entries for their receipt: so many, and more where records wait in the same
/// lane, so that both go on.
const QUEUED_CHUNKS: u64 = 64;
const QUEUED_CHUNKS_MAX: u64 = 1024;
/// Chunks that are read and queued in one step.
const STEP_CHUNKS: u64 = 16;

/// Contents by their digest.
pub trait Content: Send {
    /// Whether a content of so many bytes is there.
    fn is_there(&self, blob: Digest, bytes: u64) -> bool;
    /// A piece of a content; none when it is gone, or ends before the piece does.
    fn read(&self, blob: Digest, at: u64, length: usize) -> io::Result<Option<Vec<u8>>>;
}

/// For who has no attachments.
#[derive(Debug, Clone, Copy)]
pub struct NoContent;

impl Content for NoContent {
    fn is_there(&self, _: Digest, _: u64) -> bool {
        false
    }

    fn read(&self, _: Digest, _: u64, _: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// How many chunks may wait as entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// What the link needs to be kept busy.
    Few,
    /// All, for a stick.
    All,
}

/// Whether there is a content to be sent, and room for a step's worth of its chunks.
pub(super) fn is_due(
    store: &impl WantedStore,
    outlet: &Outlet,
    ahead: Ahead,
) -> Result<bool, StoreError> {
    let has_room = store.chunks_under_way()? + STEP_CHUNKS <= queued_max(outlet, ahead);
    Ok(has_room && store.next_wanted_blob()?.is_some())
}

fn queued_max(outlet: &Outlet, ahead: Ahead) -> u64 {
    if ahead == Ahead::All {
        return u64::MAX;
    }
    let beside_records = outlet.waiting_bytes(Lane::P4) / CHUNK_BYTES_MAX as u64;
    (QUEUED_CHUNKS + beside_records).min(QUEUED_CHUNKS_MAX)
}

/// Adds the next chunks of the oldest wanted contents to P4, as many as one step takes; the step
/// must be synced before they are sent. Returns contents that were found to be gone.
pub(super) fn queue<S: LogStore + WantedStore>(
    store: &mut S,
    outlet: &mut Outlet,
    tools: &mut Tools,
    content: &dyn Content,
    (capture, ahead): (&mut Capture, Ahead),
    now: Now,
) -> Result<Vec<Digest>, StoreError> {
    let mut gone = Vec::new();
    let room = queued_max(outlet, ahead).saturating_sub(store.chunks_under_way()?);
    for _ in 0..room.min(STEP_CHUNKS) {
        let Some(wanted) = store.next_wanted_blob()? else {
            break;
        };
        let length = (wanted.bytes - wanted.queued).min(CHUNK_BYTES_MAX as u64);
        let take = usize::try_from(length).expect("a chunk is small");
        let piece = content
            .read(wanted.digest, wanted.queued, take)
            .map_err(|error| StoreError::Content(error.to_string()))?;
        // What cannot be read is announced all the same, so that the receiver hears of it.
        let sha256 = piece.as_deref().map_or([0; 32], sha256);
        let piece_of = Chunk {
            blob: wanted.digest,
            bytes: wanted.bytes,
            at: wanted.queued,
            length,
            sha256: Digest(sha256),
        };
        *capture = Capture(capture.0 + 1);
        let entry = chunk::entry(*capture, now, &piece_of);
        let place = (*capture, now.wall);
        let seq = outlet.append(store, tools, Lane::P4, place, &entry)?;
        let is_last = piece_of.is_last() || piece.is_none();
        store.queued_chunk(wanted.number, seq, piece_of.end(), is_last)?;
        if piece.is_none() && store.blob_is_gone(wanted.digest, now.wall)? {
            gone.push(wanted.digest);
        }
    }
    outlet.appended();
    Ok(gone)
}

/// What a batch has to carry.
pub(super) enum Load {
    /// No content, or it is beside its entry now.
    Done,
    /// As before, and this content was found to be missing or damaged.
    Gone(Digest),
    /// A second chunk stands at this place: the batch must end before it. One a message lets an
    /// urgent record on a slow link wait for no more than that.
    CutAt(usize),
}

/// Puts the content of the batch's chunk beside it.
pub(super) fn load(
    builder: &mut BatchBuilder,
    signer: &Signer<'_>,
    offer: &Offer,
) -> io::Result<Load> {
    if offer.log.lane != Lane::P4 {
        return Ok(Load::Done);
    }
    let entries = builder.entries().enumerate();
    let mut chunks = entries.filter_map(|(place, entry)| {
        let entry = ChunkEntry::parse(entry)?;
        Some((place, entry.chunk))
    });
    let Some((place, chunk)) = chunks.next() else {
        return Ok(Load::Done);
    };
    if let Some((second, _)) = chunks.next() {
        return Ok(Load::CutAt(second));
    }
    drop(chunks);
    if let Some(piece) = piece(signer.content, &chunk)? {
        builder.load(place, Cargo::Content(piece));
        return Ok(Load::Done);
    }
    let claim = GoneClaim {
        box_id: signer.box_id,
        lane: offer.log.lane,
        epoch: offer.log.epoch,
        seq: offer.first.plus(place as u64),
        blob: chunk.blob,
    };
    builder.load(place, Cargo::Gone(signer.key.sign(&claim)));
    Ok(Load::Gone(chunk.blob))
}

fn piece(content: &dyn Content, chunk: &Chunk) -> io::Result<Option<Vec<u8>>> {
    let length = usize::try_from(chunk.length).expect("a chunk is small");
    let piece = content.read(chunk.blob, chunk.at, length)?;
    Ok(piece.filter(|piece| sha256(piece) == chunk.sha256.0))
}
