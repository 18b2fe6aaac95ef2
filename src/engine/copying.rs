//! The box's engine for what comes down: takes the hub's batches, does what the entries say, gives
//! receipts.
//!
//! It has a store and a thread of its own, so that neither direction waits for the other. Entries and
//! positions move in one transaction, which is on the disk before the receipt leaves.

use std::path::PathBuf;

use bytes::Bytes;

use super::compare::{self, Look};
use super::inlet::{self, Heard, Range, Stand};
use super::parts::{self, Arrived, NotCarried, Parts};
use crate::evidence::{CurrentKey, PublicKey, chain_after};
use crate::model::chunk::Chunk;
use crate::model::down::Down;
use crate::model::fault::{self, Fault};
use crate::model::{BoxId, Chain, Epoch, Lane, MonoMs, Now, Seq};
use crate::store::copies::Words;
use crate::store::down::{DownStore, Place, Position};
use crate::store::files::FileState;
use crate::store::{Options, StoreError};
use crate::sync::receiver::Receiver;
use crate::sync::{Ack, Limits, LogName, Offer};
use crate::wire::{Batch, BatchDecoder, RefusalCode};

/// What an engine is made with.
pub struct Config {
    pub store: PathBuf,
    pub options: Options,
    pub box_id: BoxId,
    /// The box's own, for its receipts.
    pub key: CurrentKey,
    /// Whose entries count; several while the hub changes its key.
    pub hub_keys: Vec<PublicKey>,
    pub limits: Limits,
}

/// What came in.
pub enum Event {
    LinkUp,
    LinkDown,
    /// A batch of the hub.
    Received(Bytes),
}

/// What is to be done now that the commit is through.
#[derive(Debug)]
pub enum Effect {
    Publish(Bytes),
    /// Entries were applied, so many of them kept because nobody here understands them.
    Applied {
        entries: u64,
        unknown: u64,
    },
    /// The hub has begun its logs anew.
    NewEpoch(Epoch),
    /// The hub no longer holds these entries.
    Lost {
        lane: Lane,
        first: Seq,
        last: Seq,
    },
    /// A batch was refused.
    Refused(RefusalCode),
    /// A file has come whole and is to be checked.
    FileCame,
}

/// Entries of earlier programs' time that are tried again in one go.
const AGAIN_MAX: u32 = 500;
/// Free bytes inside the file from which some are given back to the file system.
const VACUUM_BYTES: u64 = 16 * 1024 * 1024;
const VACUUM_PAGES: u32 = 64;
/// Void copies that are looked for in one go, and how soon it goes on.
const TIDY_ROWS: u32 = 500;
const TIDY_MS: MonoMs = 50;
/// Another catalogue may have the words looked through made anew; it is looked for so often.
const LOOK_MS: MonoMs = 60_000;
/// How soon a comparison goes on.
const COMPARE_MS: MonoMs = 20;

pub struct CopyEngine {
    config: Config,
    store: DownStore,
    receivers: [Option<Receiver>; 5],
    decoder: BatchDecoder,
    /// Where files go, and how many bytes they may have together; none: they find no room.
    files: Option<(Box<dyn Parts>, u64)>,
    /// While the link is up: when the hub is greeted next, and after how long again.
    greet_at: Option<MonoMs>,
    greet_after_ms: u64,
    /// The hub no longer holds something of the present epoch that was not applied here. It hears so
    /// with every receipt, until it begins anew and sends all that counts again.
    has_lost: bool,
    /// Whether the open transaction has written something.
    has_written: bool,
    /// When there is more to delete.
    tidy_at: Option<MonoMs>,
    /// The comparison that goes on, and when.
    look: Option<Look>,
    look_at: Option<MonoMs>,
    effects: Vec<Effect>,
}

impl CopyEngine {
    /// Opens the store, or creates it; tries again what an earlier program did not understand.
    pub fn open(config: Config, now: Now) -> Result<Self, StoreError> {
        let store = DownStore::open(&config.store, config.options, &config.box_id)?;
        let mut engine = Self {
            greet_after_ms: config.limits.resend_after_min_ms,
            config,
            store,
            receivers: Default::default(),
            decoder: BatchDecoder::default(),
            files: None,
            greet_at: None,
            has_lost: false,
            has_written: false,
            tidy_at: Some(now.mono_ms),
            look: None,
            look_at: Some(now.mono_ms),
            effects: Vec::new(),
        };
        engine.has_lost = engine.store.has_gap()?;
        engine.try_again(now)?;
        Ok(engine)
    }

    fn try_again(&mut self, now: Now) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let kept = self.store.unknown(after, AGAIN_MAX)?;
            let Some((last, _)) = kept.last() else {
                return Ok(());
            };
            after = *last;
            self.store.begin()?;
            for (number, entry) in kept {
                if let Ok(down) = serde_json::from_slice::<Down>(&entry)
                    && self.store.apply_or_undo(&down, now.wall)?
                {
                    self.store.drop_unknown(number)?;
                }
            }
            self.store.commit()?;
        }
    }

    /// Says which words of a copy are looked through; to be called before entries are applied.
    pub fn set_words(&mut self, words: Words) {
        self.store.set_words(words);
    }

    /// Says where the files go that documents name, and how many bytes they may have together.
    pub fn set_files(&mut self, parts: Box<dyn Parts>, bytes_max: u64) {
        self.files = Some((parts, bytes_max));
    }

    pub fn epoch(&self) -> Option<Epoch> {
        self.store.epoch()
    }

    /// Applies events in one transaction; returns what is to be done after its commit.
    pub fn step(&mut self, now: Now, events: Vec<Event>) -> Result<Vec<Effect>, StoreError> {
        self.has_written = false;
        self.store.begin()?;
        for event in events {
            match event {
                Event::LinkUp => {
                    self.greet_at = Some(now.mono_ms);
                    self.greet_after_ms = self.config.limits.resend_after_min_ms;
                }
                Event::LinkDown => self.greet_at = None,
                Event::Received(message) => self.receive(now, &message)?,
            }
        }
        self.greet(now);
        if let Some((parts, _)) = &mut self.files
            && !fault::is_planted(Fault::DownContentUnsynced)
        {
            parts
                .sync()
                .map_err(|error| StoreError::Content(error.to_string()))?;
        }
        if fault::is_crash_due() {
            if fault::is_planted(Fault::DownReceiptBeforeCommit) {
                self.store.roll_back()?;
                return Ok(std::mem::take(&mut self.effects));
            }
            return Err(StoreError::Full);
        }
        self.store.commit()?;
        if self.has_written || self.tidy_at.is_some_and(|at| at <= now.mono_ms) {
            let is_left = self.store.tidy(TIDY_ROWS)?;
            let after_ms = if is_left { TIDY_MS } else { LOOK_MS };
            self.tidy_at = Some(now.mono_ms + after_ms);
        }
        self.compare(now)?;
        if self.has_written && VACUUM_BYTES < self.store.space()?.1 {
            self.store.vacuum(VACUUM_PAGES)?;
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// When `step` wants to be called though nothing has happened.
    pub fn poll_timeout(&self) -> Option<MonoMs> {
        [self.greet_at, self.tidy_at, self.look_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Goes on with what the hub wants to know of the copies, a slice at a time.
    fn compare(&mut self, now: Now) -> Result<(), StoreError> {
        if !self.store.is_comparing() {
            self.look_at = None;
            return Ok(());
        }
        if self.look_at.is_none_or(|at| at <= now.mono_ms) {
            let box_id = &self.config.box_id;
            let is_more = compare::go_on(&mut self.store, &mut self.look, box_id, now.wall)?;
            self.look_at = is_more.then_some(now.mono_ms + COMPARE_MS);
        }
        Ok(())
    }

    /// Asks the hub to greet: soon again until it is heard, then now and then, since a hub that was
    /// set back may not know that there is something to say.
    fn greet(&mut self, now: Now) {
        if self.greet_at.is_none_or(|at| now.mono_ms < at) {
            return;
        }
        self.greet_at = Some(now.mono_ms + self.greet_after_ms);
        self.greet_after_ms = (self.greet_after_ms * 2).min(self.config.limits.greet_every_ms);
        self.answer(now, Ack::GREET, Chain::ZERO, None);
    }

    fn receive(&mut self, now: Now, message: &[u8]) -> Result<(), StoreError> {
        let Ok(batch) = self.decoder.decode(message) else {
            self.effects.push(Effect::Refused(RefusalCode::Unreadable));
            return Ok(());
        };
        // An epoch is believed only with the hub's signature, and its number is answered to only then.
        let lane = batch.offer.log.lane;
        let is_current = self.store.epoch() == Some(batch.offer.log.epoch);
        let stand = match is_current {
            true => self.stand(lane)?,
            false => None,
        };
        let (box_id, keys) = (&self.config.box_id, &self.config.hub_keys);
        let chain = inlet::check(box_id, keys, &batch, stand).and_then(|(chain, _)| {
            match parts::check(&batch, box_id, keys) {
                Ok(()) => Ok(chain),
                Err(NotCarried) => Err(RefusalCode::Unreadable),
            }
        });
        let chain = match fault::is_planted(Fault::AnyDownBatch) {
            true => Ok(batch.entries().fold(batch.base, chain_after)),
            false => chain,
        };
        if chain == Err(RefusalCode::Forged) {
            self.effects.push(Effect::Refused(RefusalCode::Forged));
            return Ok(());
        }
        if let Some(at) = &mut self.greet_at {
            self.greet_after_ms = self.config.limits.greet_every_ms;
            *at = now.mono_ms + self.greet_after_ms;
        }
        let theirs = batch.offer.log.epoch;
        match self.store.epoch() {
            Some(epoch) if theirs < epoch && !fault::is_planted(Fault::OldDownEpoch) => {
                return self.answer_stand(now, lane, None);
            }
            Some(epoch) if theirs == epoch => {}
            _ => self.begin_epoch(now, theirs)?,
        }
        self.take(now, &batch, stand, chain)
    }

    fn begin_epoch(&mut self, now: Now, epoch: Epoch) -> Result<(), StoreError> {
        self.store.begin_epoch(epoch, now.wall)?;
        self.has_written = true;
        self.has_lost = false;
        self.receivers = Default::default();
        self.effects.push(Effect::NewEpoch(epoch));
        Ok(())
    }

    fn take(
        &mut self,
        now: Now,
        batch: &Batch,
        stand: Option<Stand>,
        checked: Result<Chain, RefusalCode>,
    ) -> Result<(), StoreError> {
        let log = batch.offer.log;
        let applied = stand.map_or(Seq::ZERO, |stand| stand.applied);
        let receiver =
            self.receivers[log.lane.index()].get_or_insert_with(|| Receiver::new(log, applied));
        match inlet::hear(receiver, batch.offer, || checked) {
            Heard::Refuse(code) => {
                self.effects.push(Effect::Refused(code));
                self.answer_stand(now, log.lane, Some(code))
            }
            Heard::Nothing(ack) => {
                let chain = stand.map_or(Chain::ZERO, |stand| stand.chain);
                if let Some(ack) = ack {
                    self.answer(now, ack, chain, None);
                }
                Ok(())
            }
            Heard::Commit(range) => {
                self.commit_batch(now, batch, stand, range)?;
                let receiver = self.receivers[log.lane.index()]
                    .as_mut()
                    .expect("entered above");
                receiver.handle_committed(range.last);
                if let Some(ack) = receiver.poll_transmit() {
                    self.answer(now, ack, range.chain, None);
                }
                Ok(())
            }
        }
    }

    fn commit_batch(
        &mut self,
        now: Now,
        batch: &Batch,
        stand: Option<Stand>,
        range: Range,
    ) -> Result<(), StoreError> {
        self.has_written = true;
        let LogName { lane, epoch } = batch.offer.log;
        let missing = match stand {
            Some(_) => range.missing,
            None => lost_of_new(&batch.offer),
        };
        if let Some((first, last)) = missing {
            self.store
                .add_gap(lane, (first, last), "lost_at_hub", now.wall)?;
            self.has_lost = true;
            self.effects.push(Effect::Lost { lane, first, last });
        }
        let (mut entries, mut unknown) = (0, 0);
        for (place, bytes) in batch.entries().enumerate() {
            let number = batch.offer.first.0 + place as u64;
            if Seq(number) < range.first {
                continue;
            }
            entries += 1;
            if let Some(arrived) = parts::arrived(batch, place, bytes) {
                self.take_chunk(now, arrived)?;
                continue;
            }
            let is_done = match serde_json::from_slice::<Down>(bytes) {
                Ok(down) => self.store.apply_or_undo(&down, now.wall)?,
                Err(_) => false,
            };
            if !is_done {
                unknown += 1;
                let place = Place {
                    epoch,
                    lane,
                    seq: Seq(number),
                };
                self.store.keep_unknown(place, bytes, now.wall)?;
            }
        }
        let position = Position {
            applied: range.last,
            chain: range.chain,
        };
        if fault::is_planted(Fault::PositionOutside) {
            self.store.commit()?;
            self.store.begin()?;
        }
        self.store.move_to(lane, position, entries, now.wall)?;
        if 0 < entries {
            self.effects.push(Effect::Applied { entries, unknown });
        }
        Ok(())
    }

    /// Puts a chunk's content into its part file; what is kept is not kept twice.
    fn take_chunk(&mut self, now: Now, arrived: Arrived<'_>) -> Result<(), StoreError> {
        let Arrived { chunk, content } = arrived;
        let known = self.store.file(chunk.blob)?;
        let (received, state) =
            known.map_or((0, FileState::Waiting), |file| (file.received, file.state));
        let is_on = matches!(state, FileState::Waiting | FileState::Receiving);
        if matches!(state, FileState::Kept | FileState::Checking) || !is_on && 0 < chunk.at {
            return Ok(());
        }
        let received = if chunk.at == 0 { 0 } else { received };
        let (received, state) = match content {
            Some(content) if chunk.at <= received => match self.put_chunk(&chunk, content)? {
                FileState::Receiving if chunk.is_last() => {
                    self.effects.push(Effect::FileCame);
                    (chunk.end(), FileState::Checking)
                }
                FileState::Receiving => (received.max(chunk.end()), FileState::Receiving),
                other => (0, other),
            },
            _ => (0, FileState::Lost),
        };
        self.store.set_file(&chunk, received, state, now.wall)
    }

    /// `Receiving`, or why the content is not there now.
    fn put_chunk(&mut self, chunk: &Chunk, content: &[u8]) -> Result<FileState, StoreError> {
        let Some((parts, bytes_max)) = &mut self.files else {
            return Ok(FileState::Full);
        };
        if chunk.at == 0 && *bytes_max < self.store.file_bytes_beside(chunk.blob)? + chunk.bytes {
            return Ok(FileState::Full);
        }
        match parts.write(&self.config.box_id, chunk, content) {
            Ok(true) => Ok(FileState::Receiving),
            Ok(false) => Ok(FileState::Lost),
            Err(error) if is_full(&error) => Ok(FileState::Full),
            Err(error) => Err(StoreError::Content(error.to_string())),
        }
    }

    fn stand(&self, lane: Lane) -> Result<Option<Stand>, StoreError> {
        let position = self.store.position(lane)?;
        Ok(position.map(|position| Stand {
            applied: position.applied,
            chain: position.chain,
        }))
    }

    /// Says where the lane stands in the newest epoch, whatever was asked.
    fn answer_stand(
        &mut self,
        now: Now,
        lane: Lane,
        refused: Option<RefusalCode>,
    ) -> Result<(), StoreError> {
        let Some(epoch) = self.store.epoch() else {
            return Ok(());
        };
        let stand = self.stand(lane)?;
        let ack = Ack {
            log: LogName { lane, epoch },
            applied: stand.map_or(Seq::ZERO, |stand| stand.applied),
            resend: false,
        };
        let chain = stand.map_or(Chain::ZERO, |stand| stand.chain);
        self.answer(now, ack, chain, refused);
        Ok(())
    }

    fn answer(&mut self, now: Now, ack: Ack, chain: Chain, refused: Option<RefusalCode>) {
        let is_about_epoch = Some(ack.log.epoch) == self.store.epoch();
        let lost = (self.has_lost && is_about_epoch).then_some(RefusalCode::Lost);
        let (config, refused) = (&self.config, refused.or(lost));
        let message = inlet::receipt(&config.key, &config.box_id, now.wall, ack, chain, refused);
        self.effects.push(Effect::Publish(message));
    }
}

/// A disk that is full stops the files only, not what else comes down.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// What a lane lacks that is seen for the first time in its epoch: what stands before it was said
/// under earlier ones, or is loaded again.
fn lost_of_new(offer: &Offer) -> Option<(Seq, Seq)> {
    (offer.begin < offer.oldest).then(|| (offer.begin, offer.oldest.previous()))
}
