//! What sources hand in: whether it may be kept, decided before anything is written, and how it is
//! kept, so that a repeat is harmless.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Accepted, Answer, EdgeEngine, Effect, NewRecord, Submission};
use crate::evidence::entry_digest;
use crate::model::fault::{self, Fault};
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::{complete, derived_id};
use crate::model::{Capture, Lane, Now};
use crate::store::StoreError;
use crate::store::edge::{OnceKey, SourceTally, Sync};

enum Admission {
    Refused(Answer),
    Known {
        accepted: Vec<Accepted>,
        /// The submission as a whole was taken before, with what is written beside it.
        whole: bool,
    },
    New(Vec<Option<Accepted>>),
}

impl<R> EdgeEngine<R> {
    pub(super) fn submit(&mut self, now: Now, submission: Submission<R>) -> Result<(), StoreError> {
        let Submission {
            reply,
            source,
            records,
            once,
            cursor,
            beside,
        } = submission;
        if let Some(cursor) = &cursor
            && fault::is_planted(Fault::CursorOutside)
        {
            self.store.set_cursor(source.as_str(), cursor)?;
            self.store.commit()?;
            self.store.begin(Sync::Full)?;
        }
        let admission = self.admit(&records, once)?;
        if let (Some(once), Admission::New(_)) = (once, &admission)
            && fault::is_planted(Fault::OnceOutside)
        {
            self.store.put_once(once, "[]", now.wall)?;
            self.store.commit()?;
            self.store.begin(Sync::Full)?;
        }
        let answer = match admission {
            Admission::Refused(answer) => answer,
            Admission::Known { accepted, whole } => {
                if let Some(cursor) = cursor {
                    self.store.set_cursor(source.as_str(), &cursor)?;
                }
                if !whole {
                    self.store
                        .write_beside(source.as_str(), &beside, now.wall)?;
                }
                Answer::Stored {
                    accepted,
                    repeated: true,
                }
            }
            Admission::New(known) => {
                let accepted = self.keep(now, &records, known)?;
                if let Some(once) = once
                    && !fault::is_planted(Fault::OnceOutside)
                {
                    self.remember(now, once, &accepted)?;
                }
                if let Some(cursor) = cursor {
                    self.store.set_cursor(source.as_str(), &cursor)?;
                }
                self.store
                    .write_beside(source.as_str(), &beside, now.wall)?;
                if !records.is_empty() || beside.is_empty() {
                    let tally = SourceTally {
                        accepted: records.len() as u64,
                        last_accepted: Some(now.wall),
                        ..SourceTally::default()
                    };
                    self.count(now, &source, &tally);
                }
                Answer::Stored {
                    accepted,
                    repeated: false,
                }
            }
        };
        self.effects.push(Effect::Answer { reply, answer });
        Ok(())
    }

    /// Whether the submission may be kept, decided before anything is written.
    fn admit(&self, records: &[NewRecord], once: Option<OnceKey>) -> Result<Admission, StoreError> {
        if let Some(once) = once
            && let Some((digest, answer)) = self.store.find_once(&once.key)?
        {
            if digest != once.digest {
                return Ok(Admission::Refused(Answer::OtherContent { index: None }));
            }
            let accepted = serde_json::from_str(&answer).map_err(|_| StoreError::Damaged)?;
            return Ok(Admission::Known {
                accepted,
                whole: true,
            });
        }
        let mut known = Vec::new();
        let mut here = BTreeMap::new();
        let mut bytes = [0_u64; 5];
        for (index, record) in records.iter().enumerate() {
            if ENTRY_BYTES_MAX < record.tail.len() + 128 {
                let bytes = record.tail.len();
                return Ok(Admission::Refused(Answer::TooLarge { index, bytes }));
            }
            let found = match record.once {
                Some(once) => self.store.find_once(&once.key)?.map(|found| (once, found)),
                None => None,
            };
            let other_content = Ok(Admission::Refused(Answer::OtherContent {
                index: Some(index),
            }));
            if let Some(OnceKey { key, digest }) = record.once
                && *here.entry(key).or_insert(digest) != digest
            {
                return other_content;
            }
            match found {
                Some((once, (digest, _))) if digest != once.digest => return other_content,
                Some((_, (_, answer))) => {
                    let accepted =
                        serde_json::from_str(&answer).map_err(|_| StoreError::Damaged)?;
                    known.push(Some(accepted));
                }
                None => {
                    if let Some(sha256) = self.missing_attachment(record)? {
                        let refused = Answer::NoAttachment { index, sha256 };
                        return Ok(Admission::Refused(refused));
                    }
                    bytes[record.lane.index()] += record.tail.len() as u64;
                    known.push(None);
                }
            }
        }
        if let Some(lane) = Lane::ALL
            .into_iter()
            .find(|&lane| self.would_overflow(lane, &bytes))
        {
            return Ok(Admission::Refused(Answer::LaneFull(lane)));
        }
        if !known.is_empty() && known.iter().all(Option::is_some) {
            return Ok(Admission::Known {
                accepted: known.into_iter().flatten().collect(),
                whole: false,
            });
        }
        Ok(Admission::New(known))
    }

    fn would_overflow(&self, lane: Lane, bytes: &[u64; 5]) -> bool {
        let waiting = self.outlet.waiting_bytes(lane);
        let lane = lane.index();
        0 < bytes[lane] && self.config.space.lane_bytes_max[lane] < waiting + bytes[lane]
    }

    /// Writes the records that are new; `known` holds the answers of those that are not.
    fn keep(
        &mut self,
        now: Now,
        records: &[NewRecord],
        known: Vec<Option<Accepted>>,
    ) -> Result<Vec<Accepted>, StoreError> {
        let mut accepted: Vec<Accepted> = Vec::with_capacity(records.len());
        let mut here: BTreeMap<[u8; 16], Accepted> = BTreeMap::new();
        for (record, known) in records.iter().zip(known) {
            let within = record.once.and_then(|once| here.get(&once.key).cloned());
            if let Some(answer) = known.or(within) {
                accepted.push(answer);
                continue;
            }
            let answer = self.append(now, record)?;
            if let Some(once) = record.once {
                self.remember(now, once, &answer)?;
                here.insert(once.key, answer.clone());
            }
            accepted.push(answer);
        }
        self.outlet.appended();
        Ok(accepted)
    }

    /// Keeps the answer for a repeat.
    fn remember(
        &mut self,
        now: Now,
        once: OnceKey,
        answer: &impl Serialize,
    ) -> Result<(), StoreError> {
        if fault::is_planted(Fault::RepeatTakenAgain) {
            return Ok(());
        }
        let text = serde_json::to_string(answer).expect("an answer is plain JSON");
        self.once_due = true;
        self.store.put_once(once, &text, now.wall)
    }

    fn append(&mut self, now: Now, record: &NewRecord) -> Result<Accepted, StoreError> {
        self.capture = Capture(self.capture.0 + 1);
        let entry = complete(self.capture, now, &record.tail);
        let seq = self.outlet.append(
            &mut self.store,
            &mut self.tools,
            record.lane,
            (self.capture, now.wall),
            &entry,
        )?;
        self.want_attachments(now, record, seq)?;
        let id = match &record.id {
            Some(id) => id.clone(),
            None => derived_id(&entry_digest(&self.config.box_id, &entry)),
        };
        Ok(Accepted {
            id,
            lane: record.lane,
            seq,
        })
    }
}
