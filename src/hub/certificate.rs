//! Reads what the hub needs out of a certificate (X.509, DER): its common name and its public key.
//!
//! Only certificates that the hub's own authority has signed come here, so this is a strict reader
//! of the few forms that the authority writes, and answers `None` for everything else.

use crate::shell::der::{
    BIT_STRING, COMMON_NAME, OBJECT_ID, PRINTABLE_STRING, Reader, SEQUENCE, SET, UTF8_STRING,
    VERSION,
};

/// The subject's common name; `None` where it has none, or more than one.
pub fn common_name(der: &[u8]) -> Option<String> {
    let mut names = Vec::new();
    let mut sets = fields(der)?.subject;
    while !sets.is_empty() {
        let mut attributes = sets.expect(SET)?;
        while !attributes.is_empty() {
            let mut attribute = attributes.expect(SEQUENCE)?;
            if attribute.expect(OBJECT_ID)?.0 == COMMON_NAME {
                let (tag, text) = attribute.element()?;
                matches!(tag, UTF8_STRING | PRINTABLE_STRING).then_some(())?;
                names.push(std::str::from_utf8(text.0).ok()?);
            }
        }
    }
    match names.as_slice() {
        [name] => Some((*name).to_owned()),
        _ => None,
    }
}

/// The subject's public key, where it is an uncompressed point of P-256.
pub fn public_key(der: &[u8]) -> Option<[u8; 65]> {
    let mut key = fields(der)?.public_key;
    key.expect(SEQUENCE)?; // algorithm
    let (unused_bits, point) = key.expect(BIT_STRING)?.0.split_first()?;
    (*unused_bits == 0).then_some(())?;
    point.try_into().ok()
}

/// The contents of the two elements that are read.
struct Fields<'a> {
    subject: Reader<'a>,
    public_key: Reader<'a>,
}

fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let mut signed = Reader(der).expect(SEQUENCE)?.expect(SEQUENCE)?;
    if signed.peek() == Some(VERSION) {
        signed.element()?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        signed.element()?;
    }
    Some(Fields {
        subject: signed.expect(SEQUENCE)?,
        public_key: signed.expect(SEQUENCE)?,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        (params.self_signed(&key).unwrap().der().to_vec(), key)
    }

    #[test]
    fn reads_name_and_key() {
        let (der, key) = certificate(&[
            (DnType::OrganizationName, "Tỉnh mẫu"),
            (DnType::CommonName, "xa-dong-van"),
        ]);
        assert_eq!(common_name(&der).as_deref(), Some("xa-dong-van"));
        assert_eq!(public_key(&der).unwrap().as_slice(), key.public_key_raw());
    }

    #[test]
    fn no_name_is_none() {
        let (der, _) = certificate(&[(DnType::OrganizationName, "xa-dong-van")]);
        assert_eq!(common_name(&der), None);
    }

    #[test]
    fn damaged_bytes_are_none_and_never_a_panic() {
        let (der, _) = certificate(&[(DnType::CommonName, "xa-dong-van")]);
        for length in 0..der.len() {
            assert!(common_name(&der[..length]).is_none(), "cut to {length}");
        }
        for place in 0..der.len() {
            for byte in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = der.clone();
                damaged[place] = byte;
                let _ = (common_name(&damaged), public_key(&damaged));
            }
        }
    }
}
