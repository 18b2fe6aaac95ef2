//! A batch on its way into the hub's log: its entries, the present state of their subjects, and the
//! content of its chunks.

use super::effect::Effect;
use super::keys;
use super::{HubEngine, not_written};
use crate::engine::answers;
use crate::engine::feed::route::Committed;
use crate::engine::feed::{Change, Feed};
use crate::engine::files;
use crate::engine::inlet;
use crate::engine::parts::{self, Arrived};
use crate::model::chunk::ChunkEntry;
use crate::model::fault::{self, Fault};
use crate::model::record::{Entry, Op};
use crate::model::{BoxId, Capture, Now, Seq, UnixMs};
use crate::store::StoreError;
use crate::store::hub::blobs::BlobState;
use crate::store::hub::{BatchRow, EntryRow, Growth, HubStore, LogState, StateRow};
use crate::sync::{LogName, Offer};
use crate::wire::Batch;

impl HubEngine {
    pub(super) fn commit_batch(
        &mut self,
        now: Now,
        box_id: &BoxId,
        batch: &Batch,
        state: Option<LogState>,
        range: inlet::Range,
    ) -> Result<(), StoreError> {
        let offer = batch.offer;
        let LogName { lane, epoch } = offer.log;
        let siblings = self.store.sibling_logs(box_id, lane, epoch)?;
        let (log, missing) = match state {
            Some(state) => (state, [range.missing, None]),
            None => {
                let log = self
                    .store
                    .create_log(box_id, lane, epoch, offer.begin, now.wall)?;
                (log, lost_before(&offer, &siblings))
            }
        };
        for missing in missing.into_iter().flatten() {
            if fault::is_planted(Fault::LossNotNoted) {
                break;
            }
            self.store
                .add_gap(box_id, lane, epoch, missing, "lost_at_box", now.wall)?;
        }
        let mut growth = Growth {
            applied: range.last,
            chain: range.chain,
            max_capture: Capture(0),
            entries: 0,
            doubles: 0,
            bytes: 0,
        };
        if range.first <= range.last {
            self.store.add_batch(
                log.log,
                &BatchRow {
                    first: offer.first,
                    last: offer.last,
                    oldest: offer.oldest,
                    base: batch.base,
                    signature: &batch.signature,
                    first_new: range.first,
                },
                now.wall,
            )?;
            let mut seq = offer.first;
            for (place, bytes) in batch.entries().enumerate() {
                if range.first <= seq {
                    let mut writer = EntryWriter {
                        box_id,
                        log,
                        siblings: &siblings,
                        at: now.wall,
                        feed: &mut self.feed,
                    };
                    let arrived = parts::arrived(batch, place, bytes);
                    let capture = arrived
                        .and_then(|_| ChunkEntry::parse(bytes))
                        .map(|chunk| chunk.capture);
                    writer.write(&mut self.store, seq, bytes, capture, &mut growth)?;
                    self.feed.deliver(&mut self.store, now.wall)?;
                    if let Some(arrived) = arrived {
                        self.take_chunk(now, box_id, arrived)?;
                    }
                }
                seq = seq.next();
            }
        }
        self.store.grow_log(log.log, growth, now.wall)?;
        self.store.saw_box(box_id, now.wall)?;
        self.effects.push(Effect::Committed {
            box_id: box_id.clone(),
            records: growth.entries,
        });
        Ok(())
    }

    /// Puts a chunk's content into its part file; what was kept before is not kept twice.
    fn take_chunk(
        &mut self,
        now: Now,
        box_id: &BoxId,
        arrived: Arrived<'_>,
    ) -> Result<(), StoreError> {
        let Arrived { chunk, content } = arrived;
        if self.store.blob_state(chunk.blob)? == Some(BlobState::Kept) {
            return Ok(());
        }
        let known = self.store.part(box_id, chunk.blob)?;
        let (received, state) = known.map_or((0, BlobState::Receiving), |part| {
            (part.received, part.state)
        });
        // It is being checked, or it is broken and does not begin anew.
        let is_broken = matches!(state, BlobState::Lost | BlobState::Quarantined);
        if state == BlobState::Checking || is_broken && 0 < chunk.at {
            return Ok(());
        }
        let received = if chunk.at == 0 { 0 } else { received };
        let is_written = match content {
            Some(content) if chunk.at <= received => self
                .parts
                .write(box_id, &chunk, content)
                .map_err(not_written)?,
            _ => false,
        };
        let (received, state) = match is_written {
            false => (received, BlobState::Lost),
            true if chunk.is_last() => (chunk.end(), BlobState::Checking),
            true => (received.max(chunk.end()), BlobState::Receiving),
        };
        self.store
            .set_part(box_id, &chunk, received, state, now.wall)
    }
}

/// What a log that is seen for the first time lacks: of the numbers before its epoch, those that no
/// earlier log has; of its own, those that the box no longer holds.
fn lost_before(offer: &Offer, siblings: &[LogState]) -> [Option<(Seq, Seq)>; 2] {
    let had = siblings.iter().map(|log| log.applied).max();
    let range = |first: Seq, end: Seq| (first < end).then(|| (first, end.previous()));
    [
        range(had.unwrap_or(Seq::ZERO).next(), offer.begin),
        range(offer.begin, offer.oldest),
    ]
}

/// Writes one entry of a batch, and the present state of its subject.
struct EntryWriter<'a> {
    box_id: &'a BoxId,
    log: LogState,
    /// The box's logs of this lane under other epochs, in which the entry may stand already.
    siblings: &'a [LogState],
    at: UnixMs,
    feed: &'a mut Feed,
}

impl EntryWriter<'_> {
    fn write(
        &mut self,
        store: &mut HubStore,
        seq: Seq,
        bytes: &[u8],
        // Of an entry that is a chunk.
        chunk: Option<Capture>,
        growth: &mut Growth,
    ) -> Result<(), StoreError> {
        let parsed = Entry::parse(bytes);
        let capture = parsed.as_ref().map(|entry| entry.capture);
        let capture = capture.ok().or(chunk).unwrap_or(Capture(0));
        let same_as = self.find_double(store, capture, bytes)?;
        let dataset = match &parsed {
            Ok(entry) => Some(store.dataset_number(&entry.kind.dataset)?),
            Err(_) => None,
        };
        let place = store.add_entry(
            self.log.log,
            &EntryRow {
                seq,
                capture,
                dataset,
                entry: bytes,
                same_as,
            },
        )?;
        growth.entries += 1;
        growth.doubles += u64::from(same_as.is_some());
        growth.bytes += bytes.len() as u64;
        growth.max_capture = growth.max_capture.max(capture);
        match (parsed, dataset) {
            (Ok(entry), Some(dataset)) => {
                for file in &entry.attachments {
                    if let Ok(digest) = file.sha256.parse() {
                        let (bytes, mime) = (file.bytes, &file.mime);
                        store.expect_blob(self.box_id, digest, bytes, mime, self.at)?;
                        store.name_blob(digest, same_as.unwrap_or(place))?;
                    }
                }
                let place = same_as.unwrap_or(place);
                self.put_state(store, place, same_as.is_some(), dataset, (&entry, bytes))
            }
            _ if same_as.is_some() || chunk.is_some() => Ok(()),
            (parsed, _) => {
                // The place of the fault, never the content.
                let detail = parsed.err().map_or(String::new(), |error| {
                    format!("line {} column {}", error.line(), error.column())
                });
                store.park(place, "unreadable", &detail, self.at)
            }
        }
    }

    fn put_state(
        &mut self,
        store: &mut HubStore,
        place: i64,
        is_double: bool,
        dataset: i64,
        (entry, bytes): (&Entry<'_>, &[u8]),
    ) -> Result<(), StoreError> {
        if !store.stands_for(self.box_id, &entry.agency)? {
            if is_double {
                return Ok(());
            }
            return store.park(place, "foreign_agency", entry.agency.as_str(), self.at);
        }
        let row = StateRow {
            dataset,
            agency: &entry.agency,
            subject: entry.subject.as_str(),
            life: self.log.life,
            capture: entry.capture,
            place,
            deleted: entry.op == Op::Delete,
        };
        let is_followed = self.feed.follows(&entry.kind.dataset);
        let before = match is_followed {
            true => store.state_entry(dataset, &entry.agency, entry.subject.as_str())?,
            false => None,
        };
        let has_changed = match is_double {
            true => store.renew_state(&row)?,
            false => store.put_state(&row, fault::is_planted(Fault::LateOverwrites))?,
        };
        if is_followed && has_changed {
            let change = Change {
                entry,
                before,
                at: self.at,
            };
            self.feed.changed(store, &change)?;
        }
        if !is_double {
            let committed = Committed {
                box_id: self.box_id,
                place,
                bytes,
                entry,
            };
            self.feed.route(store, committed, self.at)?;
            if let Some(answer) = answers::answer(self.box_id, entry) {
                files::hear(store, self.box_id, &answer, self.at)?;
                self.feed.hear(store, self.box_id, &answer, self.at)?;
                keys::hear(store, self.box_id, &answer)?;
            }
        }
        Ok(())
    }

    fn find_double(
        &self,
        store: &HubStore,
        capture: Capture,
        bytes: &[u8],
    ) -> Result<Option<i64>, StoreError> {
        if fault::is_planted(Fault::NoContentIds) || capture == Capture(0) {
            return Ok(None);
        }
        for sibling in self.siblings {
            if let Some(place) = store.find_same(sibling, capture, bytes)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}
