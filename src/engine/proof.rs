//! The logs of a store held against their own chains, from the oldest entry held to the newest.

use crate::engine::log::{broken, unpack};
use crate::evidence::chain_after;
use crate::model::Lane;
use crate::pack::{Pack, Unpacker};
use crate::store::StoreError;
use crate::store::log::LogStore;

/// Reads every block of every lane; returns how many entries are held.
pub fn verify_logs(store: &impl LogStore) -> Result<u64, StoreError> {
    let (mut unpacker, mut pack) = (Unpacker::default(), Pack::default());
    let mut entries = 0;
    for lane in Lane::ALL {
        let state = store.lane_state(lane)?;
        let (mut seq, mut chain) = (state.tail.seq, state.tail.chain);
        store.read(lane, seq.next(), |block| {
            unpack(&mut unpacker, &block, &mut pack)?;
            chain = pack.iter().fold(chain, chain_after);
            if block.first() != seq.next() || chain != block.chain {
                return Err(broken(&block));
            }
            seq = block.last;
            entries += block.entries;
            Ok::<_, StoreError>(true)
        })?;
    }
    Ok(entries)
}
