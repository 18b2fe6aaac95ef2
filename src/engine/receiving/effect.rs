//! What the hub's engine wants done.

use bytes::Bytes;

use crate::engine::feed::compare::Ended;
use crate::model::chunk::Digest;
use crate::model::compare::Verdict;
use crate::model::{BoxId, Lane};
use crate::store::hub::down::Reload;
use crate::wire::RefusalCode;

/// What is to be done now that the commit is through.
#[derive(Debug)]
pub enum Effect {
    Publish {
        box_id: BoxId,
        message: Bytes,
    },
    /// A batch of what goes down; what is not sent is offered again.
    Offer {
        box_id: BoxId,
        message: Bytes,
    },
    /// What this box holds of the hub is to be loaded again.
    Reload {
        box_id: BoxId,
        why: Reload,
    },
    /// An entry to this box does not pass the link's limit; its lane waits for another link.
    TooLarge {
        box_id: BoxId,
        lane: Lane,
        bytes: usize,
    },
    /// A file was to go down to this box and cannot be read here.
    FileGone {
        box_id: BoxId,
        blob: Digest,
    },
    /// The box has refused what was sent down.
    RefusedByBox {
        box_id: BoxId,
        code: RefusalCode,
    },
    /// A batch or a receipt was refused; for the log.
    Refused {
        box_id: BoxId,
        code: RefusalCode,
    },
    /// A box has begun to sign with its new key, and the one before has ended.
    KeyChanged {
        box_id: BoxId,
    },
    /// What a box holds was compared with what it is to hold.
    Compared {
        box_id: BoxId,
        /// Or [`crate::model::compare::LOGS`].
        dataset: String,
        verdict: Verdict,
        buckets: u64,
        subjects: u64,
    },
    /// Records were committed; for counters.
    Committed {
        box_id: BoxId,
        records: u64,
    },
}

impl From<Ended> for Effect {
    fn from(ended: Ended) -> Effect {
        let Ended {
            box_id,
            dataset,
            verdict,
            buckets,
            subjects,
        } = ended;
        Effect::Compared {
            box_id,
            dataset,
            verdict,
            buckets,
            subjects,
        }
    }
}
