//! Many entries as one piece of bytes: a CBOR sequence (RFC 8742) of byte strings, compressed with
//! zstd (RFC 8878). Batches carry it, and the box's store keeps it.

use crate::model::limits::{BATCH_ENTRIES_MAX, BATCH_RAW_BYTES_MAX, DOWN_ENTRY_BYTES_MAX};

const ZSTD_LEVEL: i32 = 1;
/// A CBOR byte string's own header is at most this long.
const ENTRY_HEADER_BYTES_MAX: usize = 5;

const _: () = assert!(DOWN_ENTRY_BYTES_MAX + ENTRY_HEADER_BYTES_MAX <= BATCH_RAW_BYTES_MAX);

/// Why packed bytes could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotPacked(pub &'static str);

/// Entries one after another, not compressed.
#[derive(Debug, Default, Clone)]
pub struct Pack {
    bytes: Vec<u8>,
    entries: usize,
}

impl Pack {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub fn len(&self) -> usize {
        self.entries
    }

    /// Bytes of all entries with their headers.
    pub fn raw_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn push(&mut self, entry: &[u8]) {
        minicbor::Encoder::new(&mut self.bytes)
            .bytes(entry)
            .expect("writing to memory");
        self.entries += 1;
    }

    /// Whether the pack stays within `entries` and `raw_bytes` with one more entry.
    pub fn has_room(&self, entry: &[u8], entries: usize, raw_bytes: usize) -> bool {
        self.entries < entries
            && self.bytes.len() + entry.len() + ENTRY_HEADER_BYTES_MAX <= raw_bytes
    }

    /// Takes off what was added since the pack had so many entries and bytes.
    pub fn truncate(&mut self, entries: usize, raw_bytes: usize) {
        self.entries = entries;
        self.bytes.truncate(raw_bytes);
    }

    /// The entries' bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut decoder = minicbor::Decoder::new(&self.bytes);
        std::iter::from_fn(move || decoder.bytes().ok())
    }

    /// Whether the bytes are exactly so many byte strings of lawful size.
    fn is_sound(&self) -> bool {
        let mut decoder = minicbor::Decoder::new(&self.bytes);
        (0..self.entries).all(|_| {
            decoder
                .bytes()
                .is_ok_and(|entry| entry.len() <= DOWN_ENTRY_BYTES_MAX)
        }) && decoder.position() == self.bytes.len()
    }
}

/// Compresses packs.
pub struct Packer(zstd::bulk::Compressor<'static>);

impl Default for Packer {
    fn default() -> Self {
        Self(zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("zstd knows its own level 1"))
    }
}

impl Packer {
    /// The compressed bytes; none for an empty pack.
    pub fn pack(&mut self, pack: &Pack) -> Vec<u8> {
        if pack.is_empty() {
            return Vec::new();
        }
        self.0
            .compress(&pack.bytes)
            .expect("zstd compresses what is in memory")
    }
}

/// Reads compressed packs; keeps its decompressor between them.
pub struct Unpacker(zstd::bulk::Decompressor<'static>);

impl Default for Unpacker {
    fn default() -> Self {
        Self(zstd::bulk::Decompressor::new().expect("zstd has memory for one context"))
    }
}

impl Unpacker {
    /// Puts into `pack` the `entries` of `body`, which has `raw_bytes` when decompressed. Every limit
    /// is checked before and after decompression. After an error the pack is empty.
    pub fn unpack(
        &mut self,
        body: &[u8],
        entries: usize,
        raw_bytes: usize,
        pack: &mut Pack,
    ) -> Result<(), NotPacked> {
        pack.clear();
        if BATCH_ENTRIES_MAX < entries {
            return Err(NotPacked("too many entries"));
        }
        if BATCH_RAW_BYTES_MAX < raw_bytes {
            return Err(NotPacked("too many bytes when decompressed"));
        }
        if !body.is_empty() {
            pack.bytes.reserve(raw_bytes);
            let read = self.0.decompress_to_buffer(body, &mut pack.bytes);
            if read.is_err() {
                pack.clear();
                return Err(NotPacked("the body does not decompress"));
            }
        }
        pack.entries = entries;
        if pack.bytes.len() != raw_bytes || !pack.is_sound() {
            pack.clear();
            return Err(NotPacked("the entries do not fill the body"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_and_nothing_else_does() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        let mut pack = Pack::default();
        let entries: Vec<Vec<u8>> = (0..300).map(|n| vec![n as u8; n]).collect();
        for entry in &entries {
            pack.push(entry);
        }
        let body = packer.pack(&pack);
        let mut read = Pack::default();
        unpacker
            .unpack(&body, 300, pack.raw_bytes(), &mut read)
            .expect("our own");
        assert!(read.iter().eq(entries.iter().map(Vec::as_slice)));
        for (entries, raw_bytes) in [
            (299, pack.raw_bytes()),
            (301, pack.raw_bytes()),
            (300, pack.raw_bytes() - 1),
            (300, pack.raw_bytes() + 1),
            (BATCH_ENTRIES_MAX + 1, pack.raw_bytes()),
            (300, BATCH_RAW_BYTES_MAX + 1),
        ] {
            let failed = unpacker.unpack(&body, entries, raw_bytes, &mut read);
            assert!(failed.is_err(), "{entries} entries, {raw_bytes} bytes");
            assert!(read.is_empty());
        }
    }
}
