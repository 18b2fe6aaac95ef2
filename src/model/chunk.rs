//! A piece of an attachment as an entry of P4: which piece it is, not what it holds.
//!
//! The entry is chained and signed like every other; the content travels beside it in the same
//! message and is checked against the entry's digest before anything is committed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::limits::CHUNK_BYTES_MAX;
use super::record::complete;
use super::{Capture, InvalidId, Now};

/// SHA-256 that names a content; written with 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId {
            text: text.chars().take(80).collect(),
            expected: "a SHA-256 (64 of 0-9 and a-f)",
        };
        let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 64 || !text.bytes().all(is_lower) {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Digest(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// One piece of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The whole content's.
    pub blob: Digest,
    /// Of the whole content.
    pub bytes: u64,
    pub at: u64,
    pub length: u64,
    /// This piece's.
    pub sha256: Digest,
}

impl Chunk {
    /// Where the piece ends.
    pub fn end(&self) -> u64 {
        self.at + self.length
    }

    pub fn is_last(&self) -> bool {
        self.end() == self.bytes
    }

    /// Whether the numbers can belong to a piece; an empty content has one empty piece.
    fn is_well_formed(&self) -> bool {
        let is_empty_file = self.bytes == 0 && self.at == 0;
        self.length <= CHUNK_BYTES_MAX as u64
            && (0 < self.length || is_empty_file)
            && self
                .at
                .checked_add(self.length)
                .is_some_and(|end| end <= self.bytes)
            && i64::try_from(self.bytes).is_ok()
    }
}

/// How many pieces `bytes` of a content make.
pub fn pieces(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES_MAX as u64).max(1)
}

/// The entry of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkEntry {
    pub capture: Capture,
    #[serde(default, rename = "storedtime")]
    _storedtime: serde::de::IgnoredAny,
    #[serde(default, rename = "clockquality")]
    _clockquality: serde::de::IgnoredAny,
    pub chunk: Chunk,
}

impl ChunkEntry {
    /// None for everything that is no sound entry of a piece, records first of all.
    pub fn parse(bytes: &[u8]) -> Option<ChunkEntry> {
        let entry: ChunkEntry = serde_json::from_slice(bytes).ok()?;
        entry.chunk.is_well_formed().then_some(entry)
    }
}

/// An entry's bytes.
pub fn entry(capture: Capture, now: Now, chunk: &Chunk) -> Vec<u8> {
    let mut tail = br#""chunk":"#.to_vec();
    serde_json::to_writer(&mut tail, chunk).expect("writing to memory");
    tail.push(b'}');
    complete(capture, now, &tail)
}

#[cfg(test)]
impl Chunk {
    /// A piece of some content.
    pub fn sample(bytes: u64, at: u64, length: u64) -> Chunk {
        Chunk {
            blob: Digest([7; 32]),
            bytes,
            at,
            length,
            sha256: Digest([9; 32]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClockQuality, UnixMs};

    #[test]
    fn an_entry_comes_out_as_it_went_in_and_a_record_is_none() {
        let now = Now {
            mono_ms: 0,
            wall: UnixMs(1_790_000_000_000),
            quality: ClockQuality::Free,
        };
        let piece = Chunk::sample(100_000, 61_440, 38_560);
        let bytes = entry(Capture(5), now, &piece);
        let read = ChunkEntry::parse(&bytes).expect("our own");
        assert_eq!((read.capture, read.chunk), (Capture(5), piece));
        assert!(piece.is_last());
        let record = br#"{"capture":1,"storedtime":"x","source":"a","chunk":{}}"#;
        assert_eq!(ChunkEntry::parse(record), None);
    }

    #[test]
    fn numbers_that_do_not_belong_together_are_refused() {
        let now = Now {
            mono_ms: 0,
            wall: UnixMs(0),
            quality: ClockQuality::Synchronized,
        };
        let most = CHUNK_BYTES_MAX as u64;
        for (piece, is_sound) in [
            (Chunk::sample(0, 0, 0), true),
            (Chunk::sample(most, 0, most), true),
            (Chunk::sample(2 * most, 0, most + 1), false),
            (Chunk::sample(10, 0, 0), false),
            (Chunk::sample(10, 4, 7), false),
            (Chunk::sample(u64::MAX, u64::MAX, 2), false),
        ] {
            let bytes = entry(Capture(1), now, &piece);
            assert_eq!(ChunkEntry::parse(&bytes).is_some(), is_sound, "{piece:?}");
        }
    }

    #[test]
    fn pieces_are_counted() {
        let most = CHUNK_BYTES_MAX as u64;
        assert_eq!([0, 1, most, most + 1].map(pieces), [1, 1, 1, 2]);
    }

    #[test]
    fn a_digest_is_64_small_hexadecimal_digits() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        for bad in ["", "ab", &text.to_uppercase(), &text.replace('0', "g")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
