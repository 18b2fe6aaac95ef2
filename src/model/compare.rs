//! Comparing what a box holds with what it is to hold: the words that both sides use.
//!
//! A copy is compared in buckets, by the first byte of what stands for a subject, so that only what
//! differs is said again. A bucket that changes while it is looked through is marked, and compared
//! another time: neither side ever takes a change on its way for a difference.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::down::Version;
use super::{Chain, Epoch, Lane, Seq};

/// Parts into which a copy is divided.
pub const BUCKETS: usize = 256;
/// What the logs are called among the datasets; no dataset can have this name.
pub const LOGS: &str = "nhat-ky";
/// `loai` of the boxes' answers that belong to comparisons.
pub const KIND: &str = "doi_chieu";

/// How a comparison has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    /// What differed was sent again, and is equal now.
    Mended,
    /// So much differed that the dataset is loaded anew.
    Reloaded,
    /// Some buckets changed all the time; the others are equal.
    Unsettled,
    /// It differs again although it was sent again.
    Failed,
    /// A log differs; what the sides disagree about is settled by the logs' own protocol.
    Differs,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::Mended => "mended",
            Verdict::Reloaded => "reloaded",
            Verdict::Unsettled => "unsettled",
            Verdict::Failed => "failed",
            Verdict::Differs => "differs",
        }
    }
}

/// One number for each bucket: the sum of its subjects' digests, in whatever order they come.
#[derive(Clone, PartialEq, Eq)]
pub struct Sums(Box<[u64; BUCKETS]>);

impl Default for Sums {
    fn default() -> Sums {
        Sums(Box::new([0; BUCKETS]))
    }
}

impl Sums {
    pub fn add(&mut self, bucket: u8, digest: u64) {
        let sum = &mut self.0[usize::from(bucket)];
        *sum = sum.wrapping_add(digest);
    }

    pub fn of(&self, bucket: u8) -> u64 {
        self.0[usize::from(bucket)]
    }
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sums")
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = decoded::<{ BUCKETS * 8 }, D>(deserializer)?;
        let mut sums = Sums::default();
        for (sum, bytes) in sums.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *sum = u64::from_be_bytes(*bytes);
        }
        Ok(sums)
    }
}

/// Some of the buckets.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks([u8; BUCKETS / 8]);

impl Marks {
    pub const ALL: Marks = Marks([0xff; BUCKETS / 8]);

    pub fn set(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 8)] |= 1 << (bucket % 8);
    }

    pub fn has(&self, bucket: u8) -> bool {
        self.0[usize::from(bucket / 8)] & 1 << (bucket % 8) != 0
    }

    pub fn is_empty(&self) -> bool {
        *self == Marks::default()
    }

    pub fn count(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |&bucket| self.has(bucket))
    }
}

impl FromIterator<u8> for Marks {
    fn from_iter<I: IntoIterator<Item = u8>>(buckets: I) -> Marks {
        let mut marks = Marks::default();
        buckets.into_iter().for_each(|bucket| marks.set(bucket));
        marks
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decoded(deserializer).map(Marks)
    }
}

fn decoded<'de, const N: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64.decode(text).map_err(serde::de::Error::custom)?;
    bytes
        .try_into()
        .map_err(|_| serde::de::Error::custom("another number of bytes"))
}

/// What a box says of a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopySaid {
    /// Of the [`super::down::Compare`] that this answers.
    pub version: Version,
    /// None: the copy is being loaded, or rests on another load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<Sums>,
    /// Buckets that have changed since.
    #[serde(default)]
    pub moved: Marks,
    pub rows: u64,
}

/// What a box says of its logs: where each ends, and what the hub has given its receipt for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsSaid {
    pub up: Vec<UpHead>,
    pub down: Vec<DownHead>,
}

/// An end of one of the box's own logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpHead {
    pub lane: Lane,
    #[serde(with = "epoch_text")]
    pub epoch: Epoch,
    /// First number under this epoch.
    pub begin: Seq,
    pub newest: Head,
    /// Up to here the hub has given its receipt.
    pub received: Head,
}

/// How far a log of the hub's is applied at the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownHead {
    pub lane: Lane,
    #[serde(with = "epoch_text")]
    pub epoch: Epoch,
    pub applied: Head,
}

/// A place in a log, and its chain there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: Seq,
    #[serde(with = "chain_text")]
    pub chain: Chain,
}

mod epoch_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Epoch;

    pub fn serialize<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(epoch)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Epoch, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Epoch(number))
    }
}

mod chain_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Chain;
    use crate::model::chunk::Digest;

    pub fn serialize<S: Serializer>(chain: &Chain, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(chain)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Chain, D::Error> {
        Ok(Chain(Digest::deserialize(deserializer)?.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_marks_survive_the_wire() {
        let mut sums = Sums::default();
        sums.add(0, 1);
        sums.add(255, u64::MAX);
        sums.add(255, 3);
        let said = CopySaid {
            version: Version(7),
            sums: Some(sums.clone()),
            moved: [0, 9, 255].into_iter().collect(),
            rows: 3,
        };
        let text = serde_json::to_string(&said).unwrap();
        assert!(text.len() < 3_000, "{}", text.len());
        let read: CopySaid = serde_json::from_str(&text).unwrap();
        assert_eq!((read.sums.unwrap(), read.moved), (sums, said.moved));
        assert_eq!(said.moved.iter().collect::<Vec<_>>(), [0, 9, 255]);
        assert_eq!((said.moved.count(), Marks::ALL.count()), (3, 256));
    }

    #[test]
    fn a_head_is_written_as_people_read_it() {
        let head = DownHead {
            lane: Lane::P2,
            epoch: Epoch(255),
            applied: Head {
                seq: Seq(9),
                chain: Chain([0xab; 32]),
            },
        };
        let text = serde_json::to_string(&head).unwrap();
        assert!(
            text.contains("00000000000000ff") && text.contains("abab"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<DownHead>(&text).unwrap(), head);
    }
}
