//! Files that only the hub can read: HPKE (RFC 9180) in base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, ChaCha20-Poly1305.
//!
//! ```text
//! "LTSEAL1\n"  length of head (u16 BE)  head (JSON, in the clear, bound as HPKE's info)
//! encapsulated key (32 bytes)
//! then pieces: length (u32 BE)  ciphertext
//! ```
//!
//! Pieces are sealed under rising numbers, so none can be left out, moved or repeated; the last one is
//! empty inside, so a file that was cut off is known. Who wrote what is inside is for the content to
//! prove: batches are signed.

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hpke::aead::{AeadCtxR, AeadCtxS, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, setup_receiver, setup_sender};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::evidence::sha256;

const MAGIC: &[u8; 8] = b"LTSEAL1\n";
pub const KEY_BYTES: usize = 32;
const PIECE_BYTES_MAX: usize = 1 << 20;
const TAG_BYTES: usize = 16;

/// What stands before the key in SubjectPublicKeyInfo and in PKCS#8 (RFC 8410, X25519).
const PUBLIC_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00,
];
const PRIVATE_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20,
];

/// Lets anybody seal for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealKey(pub [u8; KEY_BYTES]);

/// Opens what was sealed.
#[derive(Clone)]
pub struct OpenKey(pub [u8; KEY_BYTES]);

impl SealKey {
    /// `PUBLIC KEY` in PEM, as `openssl pkey -pubout` writes it.
    pub fn from_pem(pem: &[u8]) -> Result<SealKey, SealError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| SealError::Key)?;
        key_behind(&PUBLIC_PREFIX, &der).map(SealKey)
    }

    pub fn to_pem(self) -> String {
        pem("PUBLIC KEY", &PUBLIC_PREFIX, &self.0)
    }

    /// Tells keys apart without naming them.
    pub fn fingerprint(self) -> String {
        sha256(&self.0)[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl OpenKey {
    /// `PRIVATE KEY` in PEM (PKCS#8), as `openssl genpkey -algorithm X25519` writes it.
    pub fn from_pem(pem: &[u8]) -> Result<OpenKey, SealError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| SealError::Key)?;
        key_behind(&PRIVATE_PREFIX, der.secret_pkcs8_der()).map(OpenKey)
    }

    pub fn to_pem(&self) -> String {
        pem("PRIVATE KEY", &PRIVATE_PREFIX, &self.0)
    }

    /// The other half.
    pub fn seal_key(&self) -> Result<SealKey, SealError> {
        let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&self.0);
        let key = key.map_err(|_| SealError::Key)?;
        let public = <X25519HkdfSha256 as Kem>::sk_to_pk(&key);
        Ok(SealKey(public.to_bytes().into()))
    }
}

fn key_behind(prefix: &[u8], der: &[u8]) -> Result<[u8; KEY_BYTES], SealError> {
    der.strip_prefix(prefix)
        .and_then(|key| key.try_into().ok())
        .ok_or(SealError::Key)
}

fn pem(label: &str, prefix: &[u8], key: &[u8]) -> String {
    let text = STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("this is no sealed file, or one of a newer program")]
    Foreign,
    #[error("it was sealed for somebody else, or changed on the way")]
    NotOurs,
    #[error("it is cut off")]
    CutOff,
    #[error("the key is none of X25519")]
    Key,
}

/// A new pair of keys.
pub fn new_keys() -> (OpenKey, SealKey) {
    let (open, seal) = X25519HkdfSha256::gen_keypair();
    (
        OpenKey(open.to_bytes().into()),
        SealKey(seal.to_bytes().into()),
    )
}

/// Seals piece after piece.
pub struct Sealer<W> {
    out: W,
    context: AeadCtxS<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>,
}

impl<W: Write> Sealer<W> {
    /// Begins a file for the owner of `key`; everybody can read `head`, and nobody change it.
    pub fn begin(mut out: W, key: SealKey, head: &[u8]) -> Result<Sealer<W>, SealError> {
        let reader = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&key.0);
        let reader = reader.map_err(|_| SealError::Key)?;
        let (encapsulated, context) =
            setup_sender::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &reader,
                head,
            )
            .map_err(|_| SealError::Key)?;
        let length =
            u16::try_from(head.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        out.write_all(MAGIC)?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(head)?;
        out.write_all(&encapsulated.to_bytes())?;
        Ok(Sealer { out, context })
    }

    /// Adds a piece, which is not empty.
    pub fn seal(&mut self, piece: &[u8]) -> Result<(), SealError> {
        assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES_MAX);
        self.put(piece)
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<W, SealError> {
        self.put(&[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, piece: &[u8]) -> Result<(), SealError> {
        let sealed = self.context.seal(piece, b"");
        let sealed = sealed.expect("2^64 pieces are more than any file holds");
        let length = u32::try_from(sealed.len()).expect("a piece is bounded");
        self.out.write_all(&length.to_be_bytes())?;
        Ok(self.out.write_all(&sealed)?)
    }
}

/// What stands before the sealed part.
pub struct Sealed<R> {
    input: R,
    head: Vec<u8>,
}

impl<R: Read> Sealed<R> {
    pub fn begin(mut input: R) -> Result<Sealed<R>, SealError> {
        let mut magic = [0; MAGIC.len()];
        let mut length = [0; 2];
        let found = input.read_exact(&mut magic);
        if found.map_err(cut_off).is_err() || magic != *MAGIC {
            return Err(SealError::Foreign);
        }
        input.read_exact(&mut length).map_err(cut_off)?;
        let mut head = vec![0; usize::from(u16::from_be_bytes(length))];
        input.read_exact(&mut head).map_err(cut_off)?;
        Ok(Sealed { input, head })
    }

    /// Proved only once a piece was opened.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    pub fn open(mut self, key: &OpenKey) -> Result<Opener<R>, SealError> {
        let mut encapsulated = [0; KEY_BYTES];
        self.input.read_exact(&mut encapsulated).map_err(cut_off)?;
        let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&key.0);
        let key = key.map_err(|_| SealError::Key)?;
        let sent = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&encapsulated);
        let sent = sent.map_err(|_| SealError::NotOurs)?;
        let context = setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key,
            &sent,
            &self.head,
        )
        .map_err(|_| SealError::NotOurs)?;
        Ok(Opener {
            input: self.input,
            context,
        })
    }
}

/// Opens piece after piece.
pub struct Opener<R> {
    input: R,
    context: AeadCtxR<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>,
}

impl<R: Read> Opener<R> {
    /// The next piece; none at the sound end.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, SealError> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length).map_err(cut_off)?;
        let length = u32::from_be_bytes(length) as usize;
        if PIECE_BYTES_MAX + TAG_BYTES < length {
            return Err(SealError::NotOurs);
        }
        let mut sealed = vec![0; length];
        self.input.read_exact(&mut sealed).map_err(cut_off)?;
        let piece = self
            .context
            .open(&sealed, b"")
            .map_err(|_| SealError::NotOurs)?;
        Ok((!piece.is_empty()).then_some(piece))
    }
}

fn cut_off(error: io::Error) -> SealError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => SealError::CutOff,
        _ => SealError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"{\"box\":\"xa-tan-bien\"}";

    fn sealed(key: SealKey) -> Vec<u8> {
        let mut sealer = Sealer::begin(Vec::new(), key, HEAD).unwrap();
        for piece in ["một", "hai", "ba"] {
            sealer.seal(piece.as_bytes()).unwrap();
        }
        sealer.finish().unwrap()
    }

    fn opened(bytes: &[u8], key: &OpenKey) -> Result<Vec<Vec<u8>>, SealError> {
        let sealed = Sealed::begin(bytes)?;
        let mut opener = sealed.open(key)?;
        let mut pieces = Vec::new();
        while let Some(piece) = opener.next_piece()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    #[test]
    fn only_its_owner_opens_it() {
        let (open, seal) = new_keys();
        let bytes = sealed(seal);
        assert_eq!(Sealed::begin(bytes.as_slice()).unwrap().head(), HEAD);
        assert_eq!(
            opened(&bytes, &open).unwrap().concat(),
            "mộthaiba".as_bytes()
        );
        let (stranger, _) = new_keys();
        assert!(matches!(opened(&bytes, &stranger), Err(SealError::NotOurs)));
        assert!(!bytes.windows(4).any(|four| four == "một".as_bytes()));
        assert_ne!(bytes, sealed(seal), "no two files are alike");
    }

    #[test]
    fn keys_come_back_from_pem() {
        let (open, seal) = new_keys();
        assert_eq!(SealKey::from_pem(seal.to_pem().as_bytes()).unwrap(), seal);
        let read = OpenKey::from_pem(open.to_pem().as_bytes()).unwrap();
        assert_eq!(read.0, open.0);
        assert_eq!(read.seal_key().unwrap(), seal);
        assert!(SealKey::from_pem(open.to_pem().as_bytes()).is_err());
        assert!(OpenKey::from_pem(b"-----BEGIN").is_err());
        assert_eq!(seal.fingerprint().len(), 16);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let (open, seal) = new_keys();
        let bytes = sealed(seal);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(opened(&changed, &open).is_err(), "byte {at}");
            assert!(opened(&bytes[..at], &open).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn pieces_stay_in_their_order() {
        let (open, seal) = new_keys();
        let bytes = sealed(seal);
        let start = MAGIC.len() + 2 + HEAD.len() + KEY_BYTES;
        let first = 4 + "một".len() + TAG_BYTES;
        let without = [&bytes[..start], &bytes[start + first..]].concat();
        assert!(matches!(opened(&without, &open), Err(SealError::NotOurs)));
    }
}
