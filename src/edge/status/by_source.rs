//! What waits by source. The store keeps no such count, so that a commit writes nothing for it: the
//! blocks that wait are looked through, each once, a bounded part at a time, and only when somebody
//! asks.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::edge::status::Stamp;
use crate::model::{Lane, Seq, UnixMs};
use crate::pack::{Pack, Unpacker};
use crate::store::StoreError;
use crate::store::edge_status::EdgeView;
use crate::store::log::Block;

/// What is looked through in one go, bytes when decompressed.
const LOOK_BYTES: u64 = 16 * 1024 * 1024;
/// Counts of a lane that are kept apart; older neighbours are added up beyond that, and a receipt in
/// the middle of such a sum takes its share of it.
const SEGMENTS_MAX: usize = 256;
/// Sources that are counted apart.
const SOURCES_MAX: usize = 500;
/// Where an entry says its source: near its beginning.
const SOURCE: &[u8] = b"\"source\":\"";
const SOURCE_WITHIN_BYTES: usize = 1_024;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BySource {
    /// False while a part of what waits is still to be looked through.
    pub is_complete: bool,
    /// By name; pieces of attachments stand under no name.
    pub sources: Vec<SourceWaiting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceWaiting {
    /// None: pieces of attachments.
    pub source: Option<String>,
    pub entries: u64,
    /// As they lie in the store, compressed.
    pub bytes: u64,
    pub oldest: Stamp,
}

/// What was counted so far; memory only.
#[derive(Debug, Default)]
pub struct Counter {
    lanes: [LaneCount; 5],
}

#[derive(Debug, Default)]
struct LaneCount {
    received: Seq,
    /// The last entry that was counted.
    counted: Seq,
    segments: VecDeque<Segment>,
}

/// What lies from `first` to `last`.
#[derive(Debug)]
struct Segment {
    first: Seq,
    last: Seq,
    shares: BTreeMap<String, Share>,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    entries: u64,
    bytes: u64,
    oldest: UnixMs,
}

impl Share {
    fn add(&mut self, other: Share) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.oldest = self.oldest.min(other.oldest);
    }
}

impl Counter {
    /// Looks through what has come since the last time, and tells what waits.
    pub fn look(&mut self, store: &Path) -> Result<BySource, StoreError> {
        self.look_through(store, LOOK_BYTES)
    }

    fn look_through(&mut self, store: &Path, bytes_max: u64) -> Result<BySource, StoreError> {
        let view = EdgeView::open(store)?;
        let mut room = bytes_max;
        let mut is_complete = true;
        for lane in Lane::ALL {
            let waiting = view.waiting(lane)?;
            let count = &mut self.lanes[lane.index()];
            count.forget(waiting.received, waiting.newest);
            count.take(&view, lane, &mut room)?;
            is_complete &= count.counted == waiting.newest;
        }
        Ok(BySource {
            is_complete,
            sources: self.sum(),
        })
    }

    fn sum(&self) -> Vec<SourceWaiting> {
        let mut sum: BTreeMap<&str, Share> = BTreeMap::new();
        for lane in &self.lanes {
            for segment in &lane.segments {
                for (name, share) in &segment.shares {
                    let Some(share) = segment.left(*share, lane.received) else {
                        continue;
                    };
                    sum.entry(name)
                        .and_modify(|sum| sum.add(share))
                        .or_insert(share);
                }
            }
        }
        let waiting = |(name, share): (&str, Share)| SourceWaiting {
            source: (!name.is_empty()).then(|| name.to_owned()),
            entries: share.entries,
            bytes: share.bytes,
            oldest: Stamp(share.oldest),
        };
        sum.into_iter().map(waiting).collect()
    }
}

impl LaneCount {
    /// Drops what has its receipt. A log that stands before what was counted is another one, or was
    /// set back: it is counted anew.
    fn forget(&mut self, received: Seq, newest: Seq) {
        if newest < self.counted || received < self.received {
            *self = LaneCount::default();
        }
        self.received = received;
        self.counted = self.counted.max(received);
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.last <= received)
        {
            self.segments.pop_front();
        }
    }

    fn take(&mut self, view: &EdgeView, lane: Lane, room: &mut u64) -> Result<(), StoreError> {
        let (mut unpacker, mut pack) = (Unpacker::default(), Pack::default());
        view.blocks(lane, self.counted, |block| {
            if *room < block.raw_bytes {
                *room = 0;
                return false;
            }
            *room -= block.raw_bytes;
            self.segments
                .push_back(segment(block, &mut unpacker, &mut pack));
            self.counted = block.last;
            if SEGMENTS_MAX < self.segments.len() {
                self.shrink();
            }
            true
        })
    }

    /// Adds neighbours up, two and two.
    fn shrink(&mut self) {
        let mut before = std::mem::take(&mut self.segments).into_iter();
        while let Some(mut segment) = before.next() {
            if let Some(next) = before.next() {
                segment.last = next.last;
                for (name, share) in next.shares {
                    let sum = segment.shares.entry(name);
                    sum.and_modify(|sum| sum.add(share)).or_insert(share);
                }
            }
            self.segments.push_back(segment);
        }
    }
}

impl Segment {
    /// What is left of a share after a receipt in the middle; none for nothing.
    fn left(&self, share: Share, received: Seq) -> Option<Share> {
        let all = u128::from(self.last.0 + 1 - self.first.0);
        let left = u128::from(self.last.0.saturating_sub(received.0)).min(all);
        let part = |number: u64| u64::try_from((u128::from(number) * left).div_ceil(all)).ok();
        let entries = part(share.entries)?;
        (0 < entries).then_some(Share {
            entries,
            bytes: part(share.bytes)?,
            ..share
        })
    }
}

/// Counts one block; one that cannot be read counts under no name.
fn segment(block: &Block<'_>, unpacker: &mut Unpacker, pack: &mut Pack) -> Segment {
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    let stored_bytes = block.body.len() as u64;
    let entries = usize::try_from(block.entries).unwrap_or(usize::MAX);
    let raw_bytes = usize::try_from(block.raw_bytes).unwrap_or(usize::MAX);
    // What does not unpack leaves the pack empty.
    let _ = unpacker.unpack(block.body, entries, raw_bytes, pack);
    let mut raw: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
    for entry in pack.iter() {
        let sum = raw.entry(source(entry)).or_default();
        *sum = (sum.0 + 1, sum.1 + entry.len() as u64);
    }
    if raw.is_empty() {
        raw.insert(b"", (block.entries, 1));
    }
    let whole: u64 = raw.values().map(|(_, bytes)| bytes).sum();
    for (name, (entries, bytes)) in raw.into_iter().take(SOURCES_MAX) {
        let share = Share {
            entries,
            bytes: stored_bytes * bytes / whole.max(1),
            oldest: block.stored,
        };
        shares.insert(String::from_utf8_lossy(name).into_owned(), share);
    }
    Segment {
        first: block.first(),
        last: block.last,
        shares,
    }
}

/// The source's name in an entry; empty for one that names none.
fn source(entry: &[u8]) -> &[u8] {
    let near = &entry[..entry.len().min(SOURCE_WITHIN_BYTES)];
    let Some(at) = near.windows(SOURCE.len()).position(|part| part == SOURCE) else {
        return b"";
    };
    let name = &entry[at + SOURCE.len()..];
    name.split(|byte| *byte == b'"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BoxId, Capture, Epoch};
    use crate::pack::Packer;
    use crate::store::Options;
    use crate::store::edge::{EdgeStore, Sync};
    use crate::store::log::{LogStore, Mark};

    struct Kept {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        store: EdgeStore,
        newest: Mark,
    }

    fn kept() -> Kept {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tramd.db");
        let options = Options {
            quota_bytes: 64 << 20,
            cache_bytes: 1 << 20,
        };
        let box_id: BoxId = "xa-ba-vi".parse().expect("valid");
        let store = EdgeStore::open(&path, options, &box_id, Epoch(7)).expect("a store");
        let newest = store.lane_state(Lane::P2).expect("read").newest;
        Kept {
            _folder: folder,
            path,
            store,
            newest,
        }
    }

    impl Kept {
        /// One block, an entry of each of these sources.
        fn append(&mut self, sources: &[&str], at: i64) {
            let mut pack = Pack::default();
            for name in sources {
                let entry = match *name {
                    "" => r#"{"capture":1,"storedtime":"x","chunk":{}}"#.to_owned(),
                    name => format!(
                        r#"{{"capture":1,"storedtime":"x","source":"{name}","type":"a/1"}}"#
                    ),
                };
                pack.push(entry.as_bytes());
            }
            let body = Packer::default().pack(&pack);
            let block = Block {
                last: Seq(self.newest.seq.0 + sources.len() as u64),
                entries: sources.len() as u64,
                stored: UnixMs(at),
                chain: self.newest.chain,
                raw_bytes: pack.raw_bytes() as u64,
                body: &body,
            };
            self.store.begin(Sync::Later).expect("begun");
            let newest = self.store.append(Lane::P2, self.newest, Capture(1), block);
            self.newest = newest.expect("kept");
            self.store.commit().expect("committed");
        }

        fn receive(&mut self, seq: u64) {
            let mark = Mark {
                seq: Seq(seq),
                ..self.newest
            };
            self.store.begin(Sync::Later).expect("begun");
            let kept = self.store.set_acked(Lane::P2, mark, b"receipt", UnixMs(77));
            kept.expect("kept");
            self.store.commit().expect("committed");
        }
    }

    fn counts(found: &BySource) -> Vec<(Option<&str>, u64, i64)> {
        let sources = found.sources.iter();
        sources
            .map(|waiting| {
                (
                    waiting.source.as_deref(),
                    waiting.entries,
                    waiting.oldest.0.0,
                )
            })
            .collect()
    }

    #[test]
    fn what_waits_is_told_by_source_and_receipts_take_it_away() {
        let mut kept = kept();
        let mut counter = Counter::default();
        assert_eq!(
            counter.look(&kept.path).expect("read"),
            BySource {
                is_complete: true,
                sources: Vec::new()
            }
        );
        kept.append(&["kho", "kho", "mot-cua"], 1_000);
        kept.append(&["mot-cua", ""], 2_000);
        let found = counter.look(&kept.path).expect("read");
        assert_eq!(
            counts(&found),
            [
                (None, 1, 2_000),
                (Some("kho"), 2, 1_000),
                (Some("mot-cua"), 2, 1_000)
            ]
        );
        assert!(found.is_complete && found.sources.iter().all(|waiting| 0 < waiting.bytes));

        kept.receive(3);
        kept.append(&["kho"], 3_000);
        let found = counter.look(&kept.path).expect("read");
        let expected = [
            (None, 1, 2_000),
            (Some("kho"), 1, 3_000),
            (Some("mot-cua"), 1, 2_000),
        ];
        assert_eq!(counts(&found), expected);
        // A counter that begins now finds the same.
        let again = Counter::default().look(&kept.path).expect("read");
        assert_eq!(counts(&again), expected);
        kept.receive(6);
        assert_eq!(counter.look(&kept.path).expect("read").sources, []);
    }

    #[test]
    fn a_long_backlog_is_looked_through_in_parts_and_takes_little_memory() {
        let mut kept = kept();
        for number in 0..1_000 {
            kept.append(&["kho", "mot-cua"], number);
        }
        let mut counter = Counter::default();
        let first = counter.look_through(&kept.path, 20_000).expect("read");
        assert!(!first.is_complete && !first.sources.is_empty());
        let mut looks = 1;
        let found = loop {
            looks += 1;
            let found = counter.look_through(&kept.path, 20_000).expect("read");
            if found.is_complete {
                break found;
            }
        };
        assert!((5..20).contains(&looks), "{looks}");
        assert_eq!(
            counts(&found),
            [(Some("kho"), 1_000, 0), (Some("mot-cua"), 1_000, 0)]
        );
        assert!(counter.lanes[2].segments.len() <= SEGMENTS_MAX);
        // In the middle of what was added up, the share is near the truth.
        kept.receive(1_001);
        let found = counter.look(&kept.path).expect("read");
        let left = counts(&found)[0].1;
        assert!((490..=510).contains(&left), "{left}");
    }

    #[test]
    fn another_store_under_the_name_is_counted_anew() {
        let mut old = kept();
        old.append(&["kho", "kho", "kho"], 1);
        let mut counter = Counter::default();
        counter.look(&old.path).expect("read");
        let mut new = kept();
        new.append(&["mot-cua"], 2);
        let found = counter.look(&new.path).expect("read");
        assert_eq!(counts(&found), [(Some("mot-cua"), 1, 2)]);
    }

    #[test]
    fn an_entry_says_its_source_near_its_beginning() {
        for (entry, name) in [
            (r#"{"capture":1,"source":"kho","x":1}"#, "kho"),
            (
                r#"{"capture":1,"id":"a\"source\":\"b","source":"kho"}"#,
                "kho",
            ),
            (r#"{"capture":1}"#, ""),
            ("", ""),
        ] {
            assert_eq!(source(entry.as_bytes()), name.as_bytes(), "{entry}");
        }
        let late = format!("{{\"a\":\"{}\",\"source\":\"kho\"", "a".repeat(2_000));
        assert_eq!(
            source(late.as_bytes()),
            b"",
            "data of others is not searched"
        );
    }
}
