//! The lanes' logs between engine and store: entries are written in blocks, one per commit and lane,
//! and read again one by one, each block checked against its chain.

use crate::evidence::chain_after;
use crate::model::limits::{BLOCK_ENTRIES_MAX, BLOCK_RAW_BYTES_MAX};
use crate::model::{Capture, Chain, Lane, Seq, UnixMs};
use crate::pack::{Pack, Packer, Unpacker};
use crate::store::StoreError;
use crate::store::log::{Block, LogStore, Mark};
use crate::sync::Offer;
use crate::wire::BatchBuilder;

/// What blocks and batches are made and read with; one set serves any number of logs.
#[derive(Default)]
pub(super) struct Tools {
    packer: Packer,
    unpacker: Unpacker,
    /// The block that is being read.
    block: Pack,
    pub builder: BatchBuilder,
}

/// Where each lane's log stands, and the block that is being filled at its end.
pub(super) struct Logs {
    lanes: [Log; 5],
}

struct Log {
    /// The end of what is in the store.
    stored: Mark,
    /// The end with the entries that wait in `block`.
    seq: Seq,
    chain: Chain,
    block: Pack,
    capture: Capture,
    stored_at: UnixMs,
}

impl Logs {
    pub fn open(store: &impl LogStore) -> Result<Self, StoreError> {
        let mut lanes = Vec::with_capacity(5);
        for lane in Lane::ALL {
            let state = store.lane_state(lane)?;
            lanes.push(Log {
                stored: state.newest,
                seq: state.newest.seq,
                chain: state.newest.chain,
                block: Pack::default(),
                capture: state.newest_capture,
                stored_at: UnixMs(0),
            });
        }
        Ok(Self {
            lanes: lanes.try_into().ok().expect("five lanes have five logs"),
        })
    }

    /// Number of the newest entry.
    pub fn newest(&self, lane: Lane) -> Seq {
        self.lanes[lane.index()].seq
    }

    /// The greatest capture number in all lanes.
    pub fn newest_capture(&self) -> Capture {
        let captures = self.lanes.iter().map(|log| log.capture);
        captures.max().expect("five lanes")
    }

    /// Bytes of all blocks up to the newest; what is not yet written counts as it is.
    pub fn sum_bytes(&self, lane: Lane) -> u64 {
        let log = &self.lanes[lane.index()];
        log.stored.sum_bytes + log.block.raw_bytes() as u64
    }

    /// Adds an entry; it is in the store with the next [`Logs::flush`].
    pub fn append<S: LogStore>(
        &mut self,
        store: &mut S,
        tools: &mut Tools,
        lane: Lane,
        capture: Capture,
        stored_at: UnixMs,
        entry: &[u8],
    ) -> Result<Seq, StoreError> {
        let log = &mut self.lanes[lane.index()];
        if !log.block.is_empty()
            && !log
                .block
                .has_room(entry, BLOCK_ENTRIES_MAX, BLOCK_RAW_BYTES_MAX)
        {
            log.write(store, lane, &mut tools.packer)?;
        }
        if log.block.is_empty() {
            log.stored_at = stored_at;
        }
        log.block.push(entry);
        log.seq = log.seq.next();
        log.chain = chain_after(log.chain, entry);
        log.capture = capture;
        Ok(log.seq)
    }

    /// Frees what blocks were collected in; nothing may wait.
    pub fn give_memory_back(&mut self) {
        for log in &mut self.lanes {
            assert!(log.block.is_empty());
            log.block = Pack::default();
        }
    }

    /// Writes what waits into the store.
    pub fn flush<S: LogStore>(
        &mut self,
        store: &mut S,
        tools: &mut Tools,
    ) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            let log = &mut self.lanes[lane.index()];
            if !log.block.is_empty() {
                log.write(store, lane, &mut tools.packer)?;
            }
        }
        Ok(())
    }

    /// Where the log stood at `seq`, as far as that is still known.
    pub fn mark_at<S: LogStore>(
        &self,
        store: &S,
        tools: &mut Tools,
        lane: Lane,
        seq: Seq,
    ) -> Result<Option<Mark>, StoreError> {
        if let Some(mark) = store.mark_at(lane, seq)? {
            return Ok(Some(mark));
        }
        let Tools {
            unpacker,
            block: pack,
            ..
        } = tools;
        let mut found = None;
        store.read(lane, seq, |block| {
            if seq < block.first() {
                return Ok::<_, StoreError>(false);
            }
            let base = base_of(store, lane, &block)?;
            unpack(unpacker, &block, pack)?;
            let mut chain = base.chain;
            for (number, entry) in (block.first().0..).zip(pack.iter()) {
                chain = chain_after(chain, entry);
                if number == seq.0 {
                    found = Some(Mark {
                        seq,
                        chain,
                        sum_bytes: base.sum_bytes,
                    });
                }
            }
            if chain != block.chain {
                return Err(broken(&block));
            }
            Ok(false)
        })?;
        Ok(found)
    }

    /// Fills the tools' builder with the entries of an offer, of which `base` is the end of what comes
    /// before; returns where the log stands after the last entry taken.
    pub fn collect<S: LogStore>(
        &self,
        store: &S,
        tools: &mut Tools,
        base: Mark,
        offer: Offer,
        entries_max: usize,
    ) -> Result<Mark, StoreError> {
        let lane = offer.log.lane;
        let Tools {
            unpacker,
            block: pack,
            builder,
            ..
        } = tools;
        builder.clear();
        let mut end = base;
        if offer.last < offer.first {
            return Ok(end);
        }
        let mut take = |block: &Block<'_>| -> Result<bool, StoreError> {
            let begins_here = block.first() == end.seq.next();
            let fits = builder.len() + block.entries as usize <= entries_max
                && builder.has_room(block.entries as usize, block.raw_bytes as usize);
            if !begins_here && !builder.is_empty() {
                return Err(broken(block));
            }
            // A block is cut only where it would not fit an empty batch either.
            if offer.last < block.first() || !fits && !builder.is_empty() {
                return Ok(false);
            }
            unpack(unpacker, block, pack)?;
            let before = match begins_here {
                true => end,
                false => base_of(store, lane, block)?,
            };
            let sizes = (builder.len(), builder.raw_bytes());
            let (mut chain, mut taken, mut is_full) = (before.chain, end, false);
            for (number, entry) in (block.first().0..).zip(pack.iter()) {
                chain = chain_after(chain, entry);
                let seq = Seq(number);
                if seq <= taken.seq || offer.last < seq || is_full {
                    continue;
                }
                is_full = builder.len() == entries_max || !builder.push(entry);
                if !is_full {
                    taken = Mark {
                        seq,
                        chain,
                        sum_bytes: before.sum_bytes,
                    };
                }
            }
            if chain != block.chain {
                builder.truncate(sizes.0, sizes.1);
                return Err(broken(block));
            }
            end = taken;
            Ok(end.seq == block.last && end.seq < offer.last)
        };
        match store.read(lane, offer.first, |block| take(&block)) {
            // Blocks before the broken one still go out; it is met again at the front.
            Err(error) if builder.is_empty() => Err(error),
            _ if builder.is_empty() => Err(StoreError::Damaged),
            _ => Ok(end),
        }
    }
}

impl Log {
    fn write<S: LogStore>(
        &mut self,
        store: &mut S,
        lane: Lane,
        packer: &mut Packer,
    ) -> Result<(), StoreError> {
        let block = Block {
            last: self.seq,
            entries: self.block.len() as u64,
            stored: self.stored_at,
            chain: self.chain,
            raw_bytes: self.block.raw_bytes() as u64,
            body: &packer.pack(&self.block),
        };
        self.stored = store.append(lane, self.stored, self.capture, block)?;
        self.block.clear();
        Ok(())
    }
}

/// Where the log stood before this block.
fn base_of(store: &impl LogStore, lane: Lane, block: &Block<'_>) -> Result<Mark, StoreError> {
    let before = store.mark_at(lane, block.first().previous())?;
    before.ok_or_else(|| broken(block))
}

pub(super) fn unpack(
    unpacker: &mut Unpacker,
    block: &Block<'_>,
    pack: &mut Pack,
) -> Result<(), StoreError> {
    unpacker
        .unpack(
            block.body,
            block.entries as usize,
            block.raw_bytes as usize,
            pack,
        )
        .map_err(|_| broken(block))
}

pub(super) fn broken(block: &Block<'_>) -> StoreError {
    StoreError::BrokenChain {
        place: block.first().0 as i64,
    }
}
