//! Keys as PEM (RFC 7468), as `openssl` reads and writes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::evidence::PublicKey;

const LINE_CHARS: usize = 64;
/// SubjectPublicKeyInfo of a P-256 key, up to its point: SEQUENCE, the algorithms id-ecPublicKey
/// and prime256v1, BIT STRING.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key in PKCS#8 DER.
pub fn private_key(der: &[u8]) -> String {
    pem("PRIVATE KEY", der)
}

/// SubjectPublicKeyInfo.
pub fn public_key(key: &PublicKey) -> String {
    pem("PUBLIC KEY", &[&SPKI_P256[..], key.as_bytes()].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(LINE_CHARS) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

    use super::*;
    use crate::evidence::SigningKey;

    #[test]
    fn keys_come_back() {
        let der = SigningKey::generate();
        let read = PrivatePkcs8KeyDer::from_pem_slice(private_key(&der).as_bytes()).unwrap();
        assert_eq!(read.secret_pkcs8_der(), der);
        let public = SigningKey::from_pkcs8(&der).unwrap().public_key();
        let read = SubjectPublicKeyInfoDer::from_pem_slice(public_key(&public).as_bytes()).unwrap();
        assert_eq!(&read[26..], public.as_bytes());
    }
}
