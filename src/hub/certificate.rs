//! Reads what the hub needs out of a certificate (X.509, DER): its common name and its public key.
//!
//! Only certificates that the hub's own authority has signed come here, so this is a strict reader
//! of the few forms that the authority writes, and answers `None` for everything else.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
/// The optional version, the only explicitly tagged element before the subject.
const VERSION: u8 = 0xa0;
/// `commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The subject's common name; `None` where it has none, or more than one.
pub fn common_name(der: &[u8]) -> Option<String> {
    let mut names = Vec::new();
    let mut sets = fields(der)?.subject;
    while !sets.is_empty() {
        let (mut attributes, rest) = expect(SET, sets)?;
        sets = rest;
        while !attributes.is_empty() {
            let (attribute, rest) = expect(SEQUENCE, attributes)?;
            attributes = rest;
            let (kind, value) = expect(OBJECT_ID, attribute)?;
            if kind == COMMON_NAME {
                let (tag, text, _) = element(value)?;
                matches!(tag, UTF8_STRING | PRINTABLE_STRING).then_some(())?;
                names.push(std::str::from_utf8(text).ok()?);
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
    let (_algorithm, rest) = expect(SEQUENCE, fields(der)?.public_key)?;
    let (bits, _) = expect(BIT_STRING, rest)?;
    let (unused_bits, point) = bits.split_first()?;
    (*unused_bits == 0).then_some(())?;
    point.try_into().ok()
}

/// The contents of the two elements that are read.
struct Fields<'a> {
    subject: &'a [u8],
    public_key: &'a [u8],
}

fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (mut rest, _) = expect(SEQUENCE, certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (subject, rest) = expect(SEQUENCE, rest)?;
    let (public_key, _) = expect(SEQUENCE, rest)?;
    Some(Fields {
        subject,
        public_key,
    })
}

/// Content of the first element, which must carry `tag`, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                digits
                    .iter()
                    .fold(0, |length, &digit| length << 8 | usize::from(digit)),
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
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
