//! The committing half of an engine: whether a batch is the sender's, continues the chain and is new,
//! and the receipt for it. The hub has one for each box, and a box one for the hub.

use bytes::Bytes;

use crate::evidence::{CurrentKey, PublicKey, chain_after};
use crate::model::fault::{self, Fault};
use crate::model::{BoxId, Chain, Seq, UnixMs};
use crate::sync::receiver::{Receiver, Verdict};
use crate::sync::{Ack, Offer};
use crate::wire::{Batch, Receipt, RefusalCode};

/// Where a log stands in the receiver's store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stand {
    pub applied: Seq,
    pub chain: Chain,
}

/// What is to be committed of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// What the sender has said it lost before it.
    pub missing: Option<(Seq, Seq)>,
    pub first: Seq,
    pub last: Seq,
    /// The chain at `last`.
    pub chain: Chain,
}

/// What a batch asks for.
pub(super) enum Heard {
    /// Commit this, tell the receiver, and answer with what it says then.
    Commit(Range),
    /// Nothing is new; perhaps there is an answer.
    Nothing(Option<Ack>),
    Refuse(RefusalCode),
}

/// Judges an offer of the receiver's log; what is to be committed must pass `check`.
pub(super) fn hear(
    receiver: &mut Receiver,
    offer: Offer,
    check: impl FnOnce() -> Result<Chain, RefusalCode>,
) -> Heard {
    let verdict = receiver.handle_offer(offer);
    let Verdict::Commit {
        missing,
        first,
        last,
    } = verdict
    else {
        let no_resend = verdict == Verdict::Gap && fault::is_planted(Fault::NoResendRequest);
        return Heard::Nothing(receiver.poll_transmit().filter(|_| !no_resend));
    };
    match check() {
        Ok(chain) => Heard::Commit(Range {
            missing,
            first,
            last,
            chain,
        }),
        Err(code) => Heard::Refuse(code),
    }
}

/// Checks chain and signature of a batch, of a log that stands at `stand` when it is known; returns
/// the chain at its end, and which of `keys` has signed it.
pub(super) fn check(
    box_id: &BoxId,
    keys: &[PublicKey],
    batch: &Batch,
    stand: Option<Stand>,
) -> Result<(Chain, usize), RefusalCode> {
    let mut chain = batch.base;
    let mut seq = batch.offer.first.previous();
    // Where the batch passes the place that we have, it must show the chain that we have. It does
    // not pass it when a range was lost: then `base` is a new start, signed by the sender.
    let agrees_at = |seq: Seq, chain: Chain| {
        stand.is_none_or(|stand| stand.applied != seq || stand.chain == chain)
    };
    let mut agrees = agrees_at(seq, chain);
    for entry in batch.entries() {
        chain = chain_after(chain, entry);
        seq = seq.next();
        agrees &= agrees_at(seq, chain);
    }
    if fault::is_planted(Fault::ChainNotChecked) {
        return Ok((chain, 0));
    }
    let claim = batch.claim(box_id, chain);
    let signed = |key: &PublicKey| key.verify(&claim, &batch.signature).is_ok();
    let signer = keys.iter().position(signed).ok_or(RefusalCode::Forged)?;
    if !agrees {
        return Err(RefusalCode::BrokenChain);
    }
    Ok((chain, signer))
}

/// A signed receipt.
pub(super) fn receipt(
    key: &CurrentKey,
    box_id: &BoxId,
    at: UnixMs,
    ack: Ack,
    chain: Chain,
    refused: Option<RefusalCode>,
) -> Bytes {
    let mut receipt = Receipt {
        ack,
        chain,
        refused,
        hub_time: at,
        signature: [0; 64],
    };
    receipt.signature = key.sign(&receipt.claim(box_id));
    receipt.encode().into()
}
