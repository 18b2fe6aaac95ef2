//! Evidence: the hash chain over entries, the box's signature under a batch, the hub's under a
//! receipt. Bytes in, bytes out.
//!
//! `chain(n) = SHA-256(chain(n-1) ‖ entry bytes)`. Signatures are ECDSA over P-256 with SHA-256
//! (FIPS 186-4), 64 bytes `r ‖ s`, by the key of the TLS certificate. What is signed begins with a
//! label, so that a signature can never be taken for one of another kind.

use std::sync::{Arc, PoisonError, RwLock};

use ring::digest::{Context, SHA256};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};

use crate::model::chunk::Digest;
use crate::model::{BoxId, Chain, Epoch, Lane, Seq, UnixMs};

/// ECDSA P-256 signature, `r ‖ s`.
pub type Signature = [u8; 64];

/// The chain's value after `entry`.
pub fn chain_after(previous: Chain, entry: &[u8]) -> Chain {
    let mut context = Context::new(&SHA256);
    context.update(&previous.0);
    context.update(entry);
    finish(context)
}

/// Names an entry by its content: the same capture has the same digest in every epoch, two
/// captures never have, since each entry carries its number and its time.
pub fn entry_digest(box_id: &BoxId, entry: &[u8]) -> Chain {
    let mut context = Context::new(&SHA256);
    context.update(b"lienthong/1 entry\0");
    context.update(box_id.as_str().as_bytes());
    context.update(b"\0");
    context.update(entry);
    finish(context)
}

/// SHA-256 of bytes that come piece by piece.
pub struct Hasher(Context);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        Digest(finish(self.0).0)
    }
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    finish(context).0
}

fn finish(context: Context) -> Chain {
    let mut chain = Chain::ZERO;
    chain.0.copy_from_slice(context.finish().as_ref());
    chain
}

/// What a box signs: "after `base`, my entries `first..=last` lead to `chain`".
#[derive(Debug, Clone, Copy)]
pub struct BatchClaim<'a> {
    pub box_id: &'a BoxId,
    pub lane: Lane,
    pub epoch: Epoch,
    pub begin: Seq,
    pub oldest: Seq,
    pub first: Seq,
    pub last: Seq,
    pub base: Chain,
    pub chain: Chain,
}

/// What the hub signs: "everything up to `applied`, which leads to `chain`, is committed here".
#[derive(Debug, Clone, Copy)]
pub struct ReceiptClaim<'a> {
    pub box_id: &'a BoxId,
    pub lane: Lane,
    pub epoch: Epoch,
    pub applied: Seq,
    pub chain: Chain,
    pub resend: bool,
    /// 0, or the number of the reason why the batch was refused.
    pub refused: u8,
    pub hub_time: UnixMs,
}

/// What the hub signs of a catalogue: "this content is version so and so and holds from that day".
#[derive(Debug, Clone, Copy)]
pub struct CatalogueClaim<'a> {
    pub version: u32,
    /// `yyyy-MM-dd`.
    pub effective: &'a str,
    pub bytes: u64,
    /// SHA-256 of the content, hexadecimal.
    pub sha256: &'a str,
    pub by: &'a str,
}

/// What the hub signs of a command: "this box is to do that until then".
#[derive(Debug, Clone, Copy)]
pub struct CommandClaim<'a> {
    pub box_id: &'a BoxId,
    pub id: &'a str,
    pub name: &'a str,
    /// JSON, byte for byte.
    pub arguments: &'a str,
    pub expires: UnixMs,
    pub by: &'a str,
}

/// What a box signs with a key that it has just made: "I hold this key, and made it for that order".
#[derive(Debug, Clone, Copy)]
pub struct KeyClaim<'a> {
    pub box_id: &'a BoxId,
    /// Of the command that asked for it.
    pub order: &'a str,
    pub public_key: &'a PublicKey,
}

/// What the sender of a chunk signs where its content is not to be had any more: "of my entry `seq`,
/// the content is gone". Without it a receiver takes no chunk without content, so that nobody on the
/// way can take the content off.
#[derive(Debug, Clone, Copy)]
pub struct GoneClaim<'a> {
    pub box_id: &'a BoxId,
    pub lane: Lane,
    pub epoch: Epoch,
    pub seq: Seq,
    pub blob: Digest,
}

/// Something whose canonical bytes can be signed.
pub trait Claim {
    fn to_signed_bytes(&self) -> Vec<u8>;
}

impl Claim for BatchClaim<'_> {
    fn to_signed_bytes(&self) -> Vec<u8> {
        let mut bytes = labelled(b"lienthong/1 batch\0", self.box_id, self.lane, self.epoch);
        for number in [self.begin, self.oldest, self.first, self.last] {
            bytes.extend_from_slice(&number.0.to_be_bytes());
        }
        bytes.extend_from_slice(&self.base.0);
        bytes.extend_from_slice(&self.chain.0);
        bytes
    }
}

impl Claim for ReceiptClaim<'_> {
    fn to_signed_bytes(&self) -> Vec<u8> {
        let mut bytes = labelled(b"lienthong/1 receipt\0", self.box_id, self.lane, self.epoch);
        bytes.extend_from_slice(&self.applied.0.to_be_bytes());
        bytes.extend_from_slice(&self.chain.0);
        bytes.push(u8::from(self.resend));
        bytes.push(self.refused);
        bytes.extend_from_slice(&self.hub_time.0.to_be_bytes());
        bytes
    }
}

impl Claim for CatalogueClaim<'_> {
    fn to_signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"lienthong/1 catalogue\0".to_vec();
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        add_texts(&mut bytes, &[self.effective, self.sha256, self.by]);
        bytes
    }
}

impl Claim for GoneClaim<'_> {
    fn to_signed_bytes(&self) -> Vec<u8> {
        let mut bytes = labelled(b"lienthong/1 gone\0", self.box_id, self.lane, self.epoch);
        bytes.extend_from_slice(&self.seq.0.to_be_bytes());
        bytes.extend_from_slice(&self.blob.0);
        bytes
    }
}

impl Claim for KeyClaim<'_> {
    fn to_signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"lienthong/1 new key\0".to_vec();
        bytes.extend_from_slice(self.public_key.as_bytes());
        add_texts(&mut bytes, &[self.box_id.as_str(), self.order]);
        bytes
    }
}

impl Claim for CommandClaim<'_> {
    fn to_signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"lienthong/1 command\0".to_vec();
        bytes.extend_from_slice(&self.expires.0.to_be_bytes());
        let texts = [
            self.box_id.as_str(),
            self.id,
            self.name,
            self.arguments,
            self.by,
        ];
        add_texts(&mut bytes, &texts);
        bytes
    }
}

/// Texts with their lengths before them, so that no two lists give the same bytes.
fn add_texts(bytes: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
}

fn labelled(label: &[u8], box_id: &BoxId, lane: Lane, epoch: Epoch) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    bytes.extend_from_slice(label);
    bytes.extend_from_slice(box_id.as_str().as_bytes());
    bytes.push(0);
    bytes.push(lane.index() as u8);
    bytes.extend_from_slice(&epoch.0.to_be_bytes());
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    #[error("the key is not an ECDSA P-256 key in PKCS#8")]
    Key,
    #[error("the signature does not match")]
    Signature,
}

/// A private P-256 key.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl SigningKey {
    /// Reads PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, EvidenceError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|_| EvidenceError::Key)?;
        Ok(Self { pair, random })
    }

    /// A new key as PKCS#8 DER.
    pub fn generate() -> Vec<u8> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("the operating system has random numbers")
            .as_ref()
            .to_vec()
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.pair.public_key().as_ref())
            .expect("ring writes uncompressed points")
    }

    pub fn sign(&self, claim: &impl Claim) -> Signature {
        let signature = self
            .pair
            .sign(&self.random, &claim.to_signed_bytes())
            .expect("the operating system has random numbers");
        signature
            .as_ref()
            .try_into()
            .expect("a fixed P-256 signature has 64 bytes")
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// The key that signs at this moment. All clones change together, so whatever is signed after a
/// change is signed with the new one.
#[derive(Debug, Clone)]
pub struct CurrentKey(Arc<RwLock<SigningKey>>);

impl CurrentKey {
    pub fn sign(&self, claim: &impl Claim) -> Signature {
        let key = self.0.read().unwrap_or_else(PoisonError::into_inner);
        key.sign(claim)
    }

    pub fn replace(&self, key: SigningKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl From<SigningKey> for CurrentKey {
    fn from(key: SigningKey) -> CurrentKey {
        CurrentKey(Arc::new(RwLock::new(key)))
    }
}

/// A public P-256 key: the uncompressed point, 65 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 65]);

impl PublicKey {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        match <[u8; 65]>::try_from(bytes) {
            Ok(point) if point[0] == 4 => Ok(Self(point)),
            _ => Err(EvidenceError::Key),
        }
    }

    pub fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    pub fn verify(&self, claim: &impl Claim, signature: &Signature) -> Result<(), EvidenceError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(&claim.to_signed_bytes(), signature)
            .map_err(|_| EvidenceError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(box_id: &BoxId) -> BatchClaim<'_> {
        BatchClaim {
            box_id,
            lane: Lane::P2,
            epoch: Epoch(5),
            begin: Seq(1),
            oldest: Seq(1),
            first: Seq(3),
            last: Seq(4),
            base: Chain([1; 32]),
            chain: Chain([2; 32]),
        }
    }

    #[test]
    fn every_field_of_a_claim_is_signed() {
        let key = SigningKey::from_pkcs8(&SigningKey::generate()).expect("own key");
        let [box_a, box_b]: [BoxId; 2] = ["a", "b"].map(|id| id.parse().expect("valid"));
        let original = claim(&box_a);
        let signature = key.sign(&original);
        assert_eq!(key.public_key().verify(&original, &signature), Ok(()));
        let altered = [
            BatchClaim {
                box_id: &box_b,
                ..original
            },
            BatchClaim {
                lane: Lane::P1,
                ..original
            },
            BatchClaim {
                epoch: Epoch(6),
                ..original
            },
            BatchClaim {
                begin: Seq(2),
                ..original
            },
            BatchClaim {
                oldest: Seq(2),
                ..original
            },
            BatchClaim {
                first: Seq(2),
                ..original
            },
            BatchClaim {
                last: Seq(5),
                ..original
            },
            BatchClaim {
                base: Chain([3; 32]),
                ..original
            },
            BatchClaim {
                chain: Chain([3; 32]),
                ..original
            },
        ];
        for claim in altered {
            assert_eq!(
                key.public_key().verify(&claim, &signature),
                Err(EvidenceError::Signature)
            );
        }
    }

    #[test]
    fn every_field_of_an_order_is_signed() {
        let key = SigningKey::from_pkcs8(&SigningKey::generate()).expect("own key");
        let [box_a, box_b]: [BoxId; 2] = ["a", "b"].map(|id| id.parse().expect("valid"));
        let command = CommandClaim {
            box_id: &box_a,
            id: "1",
            name: "restart",
            arguments: "{}",
            expires: UnixMs(5),
            by: "quản trị",
        };
        let signature = key.sign(&command);
        assert_eq!(key.public_key().verify(&command, &signature), Ok(()));
        for other in [
            CommandClaim {
                box_id: &box_b,
                ..command
            },
            CommandClaim { id: "2", ..command },
            CommandClaim {
                id: "1restart",
                name: "",
                ..command
            },
            CommandClaim {
                arguments: "{ }",
                ..command
            },
            CommandClaim {
                expires: UnixMs(6),
                ..command
            },
            CommandClaim { by: "", ..command },
        ] {
            assert!(key.public_key().verify(&other, &signature).is_err());
        }
        let catalogue = CatalogueClaim {
            version: 2,
            effective: "2026-12-01",
            bytes: 9,
            sha256: "00",
            by: "a",
        };
        let signature = key.sign(&catalogue);
        assert_eq!(key.public_key().verify(&catalogue, &signature), Ok(()));
        for other in [
            CatalogueClaim {
                version: 3,
                ..catalogue
            },
            CatalogueClaim {
                effective: "2026-12-02",
                ..catalogue
            },
            CatalogueClaim {
                bytes: 8,
                ..catalogue
            },
            CatalogueClaim {
                sha256: "01",
                ..catalogue
            },
            CatalogueClaim {
                by: "b",
                ..catalogue
            },
        ] {
            assert!(key.public_key().verify(&other, &signature).is_err());
        }
    }

    #[test]
    fn the_chain_is_plain_sha_256() {
        let after = chain_after(Chain::ZERO, b"abc");
        let mut joined = vec![0; 32];
        joined.extend_from_slice(b"abc");
        assert_eq!(after.0, sha256(&joined));
    }
}
