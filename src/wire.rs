//! Topics and bytes: the only file that knows how messages look on MQTT.
//!
//! A message is `LT`, a version byte, a kind byte, and one CBOR array (RFC 8949). A batch's entries
//! are a [`Pack`]. `docs/asyncapi.yaml` describes the same for readers outside.

use std::borrow::Cow;

use minicbor::{Decode, Encode};

use crate::evidence::{BatchClaim, ReceiptClaim, Signature};
use crate::model::limits::{
    BATCH_ENTRIES_MAX, BATCH_RAW_BYTES_MAX, CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX,
};
use crate::model::{BoxId, Chain, Epoch, Lane, Seq, UnixMs};
use crate::pack::{NotPacked, Pack, Packer, Unpacker};
use crate::sync::{Ack, LogName, Offer};

const MAGIC: [u8; 2] = *b"LT";
const VERSION: u8 = 1;
const KIND_BATCH: u8 = 1;
const KIND_RECEIPT: u8 = 2;

/// Where a box speaks: its batches, and its receipts for the hub's.
pub fn topic_up(box_id: &BoxId) -> String {
    format!("lt/1/{box_id}/up")
}

/// Where a box hears the hub: receipts, and batches of what comes down.
pub fn topic_down(box_id: &BoxId) -> String {
    format!("lt/1/{box_id}/down")
}

/// Where a box says whether it is there: retained, and its last will.
pub fn topic_presence(box_id: &BoxId) -> String {
    format!("lt/1/{box_id}/presence")
}

/// What the hub subscribes to: the batches of all boxes, shared among its workers, which know the
/// name of their group.
pub fn subscribe_up(group: &str) -> String {
    format!("$share/{group}/lt/1/+/up")
}

/// What the hub subscribes to: the presence of all boxes.
pub const SUBSCRIBE_PRESENCE: &str = "lt/1/+/presence";

/// The kinds of topic below a box's own level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKind {
    Up,
    Down,
    Presence,
}

/// Whether this claims to be a receipt; if not, it claims to be a batch. Both go in both directions,
/// and the topic says who speaks.
pub fn is_receipt(message: &[u8]) -> bool {
    matches!(message, [m0, m1, VERSION, KIND_RECEIPT, ..] if [*m0, *m1] == MAGIC)
}

/// Which box a topic belongs to.
pub fn parse_topic(topic: &str) -> Option<(BoxId, TopicKind)> {
    let (box_id, kind) = topic.strip_prefix("lt/1/")?.split_once('/')?;
    let kind = match kind {
        "up" => TopicKind::Up,
        "down" => TopicKind::Down,
        "presence" => TopicKind::Presence,
        _ => return None,
    };
    Some((box_id.parse().ok()?, kind))
}

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("not one of our messages")]
    Foreign,
    #[error("version {0} of the protocol is not known here")]
    Version(u8),
    #[error("damaged message: {0}")]
    Damaged(&'static str),
    #[error("the batch has {bytes} bytes, more than the {limit} that the link carries")]
    TooLarge { bytes: usize, limit: usize },
}

/// Why the receiver refused a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalCode {
    /// The box is not registered.
    UnknownBox,
    /// The box is suspended or revoked.
    Suspended,
    /// The signature is not that of the box's key.
    Forged,
    /// The entries do not continue the chain that the hub has.
    BrokenChain,
    /// The message cannot be read.
    Unreadable,
    /// Not this batch is at fault: the receiver lacks what the sender no longer holds, and asks for all
    /// that counts to be sent again. A box says so to the hub.
    Lost,
}

impl RefusalCode {
    pub const ALL: [RefusalCode; 6] = [
        RefusalCode::UnknownBox,
        RefusalCode::Suspended,
        RefusalCode::Forged,
        RefusalCode::BrokenChain,
        RefusalCode::Unreadable,
        RefusalCode::Lost,
    ];

    /// 1 and up; 0 on the wire is "not refused".
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    pub fn from_number(number: u8) -> Option<RefusalCode> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// For logs, metrics and the hub's tables.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalCode::UnknownBox => "unknown_box",
            RefusalCode::Suspended => "suspended",
            RefusalCode::Forged => "forged",
            RefusalCode::BrokenChain => "broken_chain",
            RefusalCode::Unreadable => "unreadable",
            RefusalCode::Lost => "lost",
        }
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct BatchFrame<'a> {
    #[n(0)]
    lane: u8,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    begin: u64,
    #[n(3)]
    oldest: u64,
    #[n(4)]
    first: u64,
    #[n(5)]
    count: u32,
    #[cbor(n(6), with = "minicbor::bytes")]
    signature: [u8; 64],
    #[cbor(n(7), with = "minicbor::bytes")]
    base: [u8; 32],
    #[n(8)]
    raw_bytes: u32,
    #[cbor(b(9), with = "minicbor::bytes")]
    body: Cow<'a, [u8]>,
    #[b(10)]
    cargo: Option<Vec<CargoFrame<'a>>>,
}

/// The content of an entry that is a chunk, or the sender's signed word that it is gone.
#[derive(Encode, Decode)]
#[cbor(array)]
struct CargoFrame<'a> {
    /// Place of the entry in the batch, from 0.
    #[n(0)]
    entry: u32,
    #[cbor(n(1))]
    gone: bool,
    #[cbor(b(2), with = "minicbor::bytes")]
    bytes: Cow<'a, [u8]>,
}

/// What travels beside an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cargo {
    Content(Vec<u8>),
    /// The content is not to be had any more; signed as [`crate::evidence::GoneClaim`].
    Gone(Signature),
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct ReceiptFrame {
    #[n(0)]
    lane: u8,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    applied: u64,
    #[cbor(n(3), with = "minicbor::bytes")]
    chain: [u8; 32],
    #[n(4)]
    resend: bool,
    #[n(5)]
    refused: u8,
    #[n(6)]
    hub_time_ms: i64,
    #[cbor(n(7), with = "minicbor::bytes")]
    signature: [u8; 64],
}

/// Collects a batch's entries up to the limits, and compresses them.
#[derive(Default)]
pub struct BatchBuilder {
    pack: Pack,
    packer: Packer,
    /// By place of the entry, from 0.
    cargo: Vec<(usize, Cargo)>,
}

impl BatchBuilder {
    pub fn clear(&mut self) {
        self.pack.clear();
        self.cargo.clear();
    }

    /// The entries' bytes, in order.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.pack.iter()
    }

    /// Puts beside the entry at this place what travels with it.
    pub fn load(&mut self, entry: usize, cargo: Cargo) {
        self.cargo.push((entry, cargo));
    }

    /// Bytes of all contents that travel beside the entries.
    pub fn cargo_bytes(&self) -> usize {
        let bytes = |cargo: &Cargo| match cargo {
            Cargo::Content(content) => content.len(),
            Cargo::Gone(signature) => signature.len(),
        };
        self.cargo.iter().map(|(_, cargo)| bytes(cargo)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.pack.is_empty()
    }

    pub fn len(&self) -> usize {
        self.pack.len()
    }

    pub fn raw_bytes(&self) -> usize {
        self.pack.raw_bytes()
    }

    /// Whether `entries` more of `raw_bytes` in all fit.
    pub fn has_room(&self, entries: usize, raw_bytes: usize) -> bool {
        self.len() + entries <= BATCH_ENTRIES_MAX
            && self.raw_bytes() + raw_bytes <= BATCH_RAW_BYTES_MAX
    }

    /// Takes one more entry, or says that the batch is full. An empty batch takes any entry.
    pub fn push(&mut self, entry: &[u8]) -> bool {
        let has_room = self
            .pack
            .has_room(entry, BATCH_ENTRIES_MAX, BATCH_RAW_BYTES_MAX);
        if !has_room && !self.is_empty() {
            return false;
        }
        self.pack.push(entry);
        true
    }

    /// Takes off what was added since the batch had so many entries and bytes.
    pub fn truncate(&mut self, entries: usize, raw_bytes: usize) {
        self.pack.truncate(entries, raw_bytes);
    }

    /// The message. `limit_bytes` is what the link carries at most.
    pub fn encode(
        &mut self,
        claim: &BatchClaim<'_>,
        signature: &Signature,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, WireError> {
        assert!(claim.first.count_to(claim.last) == self.len() as u64);
        let cargo = self.cargo.iter().map(|(entry, cargo)| {
            let (gone, bytes) = match cargo {
                Cargo::Content(content) => (false, content.as_slice()),
                Cargo::Gone(signature) => (true, signature.as_slice()),
            };
            CargoFrame {
                entry: *entry as u32,
                gone,
                bytes: Cow::Borrowed(bytes),
            }
        });
        let cargo: Vec<_> = cargo.collect();
        let frame = BatchFrame {
            lane: claim.lane.index() as u8,
            epoch: claim.epoch.0,
            begin: claim.begin.0,
            oldest: claim.oldest.0,
            first: claim.first.0,
            count: self.len() as u32,
            signature: *signature,
            base: claim.base.0,
            raw_bytes: self.raw_bytes() as u32,
            body: Cow::Owned(self.packer.pack(&self.pack)),
            cargo: (!cargo.is_empty()).then_some(cargo),
        };
        let message = framed(KIND_BATCH, &frame);
        if limit_bytes < message.len() {
            return Err(WireError::TooLarge {
                bytes: message.len(),
                limit: limit_bytes,
            });
        }
        Ok(message)
    }
}

/// A batch as received: the numbers, the evidence, and the entries still compressed.
#[derive(Debug)]
pub struct Batch {
    pub offer: Offer,
    pub base: Chain,
    pub signature: Signature,
    pack: Pack,
    cargo: Vec<(usize, Cargo)>,
}

impl Batch {
    /// What travelled beside the entry at this place, from 0.
    pub fn cargo(&self, entry: usize) -> Option<&Cargo> {
        let mut cargo = self.cargo.iter();
        cargo.find(|(at, _)| *at == entry).map(|(_, cargo)| cargo)
    }

    /// The entries' bytes, in order.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.pack.iter()
    }

    /// What the sender claims about this batch when its entries lead to `chain`.
    pub fn claim<'a>(&self, box_id: &'a BoxId, chain: Chain) -> BatchClaim<'a> {
        BatchClaim {
            box_id,
            lane: self.offer.log.lane,
            epoch: self.offer.log.epoch,
            begin: self.offer.begin,
            oldest: self.offer.oldest,
            first: self.offer.first,
            last: self.offer.last,
            base: self.base,
            chain,
        }
    }
}

/// The receiver's answer: a signed receipt. `hub_time` is the clock of whoever signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub ack: Ack,
    pub chain: Chain,
    pub refused: Option<RefusalCode>,
    pub hub_time: UnixMs,
    pub signature: Signature,
}

impl Receipt {
    pub fn claim<'a>(&self, box_id: &'a BoxId) -> ReceiptClaim<'a> {
        ReceiptClaim {
            box_id,
            lane: self.ack.log.lane,
            epoch: self.ack.log.epoch,
            applied: self.ack.applied,
            chain: self.chain,
            resend: self.ack.resend,
            refused: self.refused.map_or(0, RefusalCode::number),
            hub_time: self.hub_time,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        framed(
            KIND_RECEIPT,
            &ReceiptFrame {
                lane: self.ack.log.lane.index() as u8,
                epoch: self.ack.log.epoch.0,
                applied: self.ack.applied.0,
                chain: self.chain.0,
                resend: self.ack.resend,
                refused: self.refused.map_or(0, RefusalCode::number),
                hub_time_ms: self.hub_time.0,
                signature: self.signature,
            },
        )
    }

    pub fn decode(message: &[u8]) -> Result<Receipt, WireError> {
        let frame: ReceiptFrame = unframed(KIND_RECEIPT, message)?;
        if Seq::MAX < Seq(frame.applied) {
            return Err(WireError::Damaged("no such number"));
        }
        Ok(Receipt {
            ack: Ack {
                log: log_name(frame.lane, frame.epoch)?,
                applied: Seq(frame.applied),
                resend: frame.resend,
            },
            chain: Chain(frame.chain),
            refused: RefusalCode::from_number(frame.refused),
            hub_time: UnixMs(frame.hub_time_ms),
            signature: frame.signature,
        })
    }
}

/// Reads batches; keeps its decompressor between them.
#[derive(Default)]
pub struct BatchDecoder(Unpacker);

impl BatchDecoder {
    /// Checks every limit before and after decompression; the numbers of the offer are well formed
    /// and agree with the entries.
    pub fn decode(&mut self, message: &[u8]) -> Result<Batch, WireError> {
        let frame: BatchFrame<'_> = unframed(KIND_BATCH, message)?;
        let mut pack = Pack::default();
        self.0
            .unpack(
                &frame.body,
                frame.count as usize,
                frame.raw_bytes as usize,
                &mut pack,
            )
            .map_err(|NotPacked(why)| WireError::Damaged(why))?;
        let offer = Offer {
            log: log_name(frame.lane, frame.epoch)?,
            begin: Seq(frame.begin),
            oldest: Seq(frame.oldest),
            first: Seq(frame.first),
            last: Seq(frame
                .first
                .saturating_add(u64::from(frame.count))
                .saturating_sub(1)),
        };
        if !offer.is_well_formed() {
            return Err(WireError::Damaged("the numbers do not belong together"));
        }
        Ok(Batch {
            offer,
            base: Chain(frame.base),
            signature: frame.signature,
            cargo: cargo_of(frame.cargo.unwrap_or_default(), pack.len())?,
            pack,
        })
    }
}

fn cargo_of(frames: Vec<CargoFrame<'_>>, entries: usize) -> Result<Vec<(usize, Cargo)>, WireError> {
    let mut cargo: Vec<(usize, Cargo)> = Vec::with_capacity(frames.len());
    for frame in frames {
        let entry = frame.entry as usize;
        // In order, so that no entry has two.
        if entries <= entry || cargo.last().is_some_and(|(last, _)| entry <= *last) {
            return Err(WireError::Damaged("cargo without its entry"));
        }
        let one = match frame.gone {
            true => Cargo::Gone(
                <[u8; 64]>::try_from(frame.bytes.as_ref())
                    .map_err(|_| WireError::Damaged("cargo is not as it should be"))?,
            ),
            false if CHUNK_BYTES_MAX < frame.bytes.len() => {
                return Err(WireError::Damaged("a chunk is too large"));
            }
            false => Cargo::Content(frame.bytes.into_owned()),
        };
        cargo.push((entry, one));
    }
    Ok(cargo)
}

fn log_name(lane: u8, epoch: u64) -> Result<LogName, WireError> {
    let lane = Lane::from_index(u64::from(lane)).ok_or(WireError::Damaged("no such lane"))?;
    if i64::try_from(epoch).is_err() {
        return Err(WireError::Damaged("no such epoch"));
    }
    Ok(LogName {
        lane,
        epoch: Epoch(epoch),
    })
}

fn framed<T: Encode<()>>(kind: u8, frame: &T) -> Vec<u8> {
    let mut message = vec![MAGIC[0], MAGIC[1], VERSION, kind];
    minicbor::encode(frame, &mut message).expect("writing to memory");
    message
}

fn unframed<'b, T: Decode<'b, ()>>(kind: u8, message: &'b [u8]) -> Result<T, WireError> {
    if MESSAGE_BYTES_MAX < message.len() {
        return Err(WireError::TooLarge {
            bytes: message.len(),
            limit: MESSAGE_BYTES_MAX,
        });
    }
    match message {
        [m0, m1, version, found, frame @ ..] if [*m0, *m1] == MAGIC => {
            if *version != VERSION {
                return Err(WireError::Version(*version));
            }
            if *found != kind {
                return Err(WireError::Foreign);
            }
            let mut decoder = minicbor::Decoder::new(frame);
            let decoded = decoder
                .decode()
                .map_err(|_| WireError::Damaged("the frame is not as it should be"))?;
            if decoder.position() < frame.len() {
                return Err(WireError::Damaged("something follows the frame"));
            }
            Ok(decoded)
        }
        _ => Err(WireError::Foreign),
    }
}
