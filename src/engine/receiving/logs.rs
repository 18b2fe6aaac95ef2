//! Comparing the logs: what a box says of their ends is held against what stands here. Chains are
//! checked with every batch and receipt, so a difference means that one side's store was set back or
//! has lost something; a greeting lets the logs' own protocol settle it.

use super::HubEngine;
use crate::evidence::chain_after;
use crate::model::compare::{DownHead, Head, LOGS, LogsSaid, UpHead, Verdict};
use crate::model::{BoxId, Chain, Now, Seq};
use crate::store::StoreError;
use crate::store::hub::compare::ComparisonRow;
use crate::store::hub::{HubStore, LogState};
use crate::sync::Ack;

impl HubEngine {
    /// Judges what boxes have said in this step.
    pub(super) fn compare_logs(&mut self, now: Now) -> Result<(), StoreError> {
        for (box_id, said) in self.feed.take_logs_said() {
            let mut wrong = Vec::new();
            let mut is_up_wrong = false;
            for head in &said.up {
                if let Some(why) = up_fault(&self.store, &box_id, head)? {
                    is_up_wrong = true;
                    wrong.push(format!("up {} {why}", head.lane));
                }
            }
            let down = self.down_fault(&box_id, &said)?;
            wrong.extend(down.iter().cloned());
            let verdict = match wrong.is_empty() {
                true => Verdict::Equal,
                false => Verdict::Differs,
            };
            let row = ComparisonRow {
                box_id: box_id.clone(),
                dataset: LOGS.to_owned(),
                ended: now.wall,
                result: verdict.as_str().to_owned(),
                buckets: wrong.len() as u64,
                subjects: 0,
                detail: wrong.join(", "),
            };
            self.feed.tell(&mut self.store, row, verdict)?;
            if is_up_wrong {
                self.answer(now, &box_id, Ack::GREET, Chain::ZERO, None);
            }
            if down.is_some() {
                let Self { store, posting, .. } = self;
                posting.begin_anew(store, now, &box_id)?;
            }
        }
        Ok(())
    }

    fn down_fault(
        &mut self,
        box_id: &BoxId,
        said: &LogsSaid,
    ) -> Result<Option<String>, StoreError> {
        let Self { store, posting, .. } = self;
        for DownHead {
            lane,
            epoch,
            applied,
        } in &said.down
        {
            let Some(chain) = posting.chain_at(store, box_id, (*lane, *epoch), applied.seq)? else {
                continue;
            };
            if chain != applied.chain {
                return Ok(Some(format!(
                    "down {lane} another chain at {}",
                    applied.seq
                )));
            }
        }
        Ok(None)
    }
}

/// What is wrong with one of the box's own logs, as far as it can be known.
fn up_fault(store: &HubStore, box_id: &BoxId, head: &UpHead) -> Result<Option<String>, StoreError> {
    let log = store.log(box_id, head.lane, head.epoch)?;
    let applied = log.map_or(Seq::ZERO, |log| log.applied);
    // Before its beginning it was received under earlier epochs.
    if head.begin <= head.received.seq && applied < head.received.seq {
        let received = head.received.seq;
        return Ok(Some(format!(
            "ends at {applied} here, receipt at {received}"
        )));
    }
    let Some(log) = log else {
        return Ok(None);
    };
    for Head { seq, chain } in [head.received, head.newest] {
        let is_there = head.begin <= seq && seq <= log.applied;
        if is_there
            && let Some(ours) = chain_at(store, &log, seq)?
            && ours != chain
        {
            return Ok(Some(format!("has another chain at {seq}")));
        }
    }
    Ok(None)
}

/// The chain of a log at a number; none where it cannot be found from what was signed.
fn chain_at(store: &HubStore, log: &LogState, seq: Seq) -> Result<Option<Chain>, StoreError> {
    if seq == log.applied {
        return Ok(Some(log.chain));
    }
    let Some((first, base)) = store.signed_before(log.log, seq)? else {
        return Ok(None);
    };
    let mut chain = base;
    let count = store.for_each_entry(log.log, (first, seq), |entry| {
        chain = chain_after(chain, entry);
    })?;
    Ok((count == first.count_to(seq)).then_some(chain))
}
