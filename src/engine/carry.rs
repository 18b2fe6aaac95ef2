//! A box's backlog on a stick: the messages that would go over the line, one after the other. The hub
//! takes them and the box takes the receipts as if they had come over the line, so nothing is doubled
//! when they do that too.

use super::content::Content;
use super::log::Tools;
use super::outlet::{Outlet, Signer};
use crate::evidence::CurrentKey;
use crate::model::{BoxId, Lane, Seq};
use crate::store::StoreError;
use crate::store::log::LogStore;
use crate::sync::Limits;

/// A message, and what it is made of.
pub struct Message<'a> {
    pub lane: Lane,
    pub entries: u64,
    pub bytes: &'a [u8],
    /// A content that was to travel in it is not to be had; the message says so instead.
    pub is_without_content: bool,
}

/// How far a log is received, and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    pub lane: Lane,
    pub received: Seq,
    pub newest: Seq,
}

/// Where the logs of a store stand, the most urgent first.
pub fn stands(store: &impl LogStore) -> Result<Vec<Stand>, StoreError> {
    let stand = |lane| {
        let state = store.lane_state(lane)?;
        Ok(Stand {
            lane,
            received: state.acked.seq,
            newest: state.newest.seq,
        })
    };
    Lane::ALL.into_iter().map(stand).collect()
}

/// Gives every message of a store, which nobody changes meanwhile, to `put`.
pub fn messages<S: LogStore, E: From<StoreError>>(
    store: &S,
    (box_id, key): (&BoxId, &CurrentKey),
    content: &dyn Content,
    put: impl FnMut(Message<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut outlet = Outlet::open(store, Limits::FIELD)?;
    let signer = Signer {
        box_id,
        key,
        content,
    };
    outlet.carry(store, &mut Tools::default(), &signer, put)
}
