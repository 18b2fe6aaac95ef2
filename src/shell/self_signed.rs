//! A server's certificate that is signed by its own key (RFC 5280): there is nobody in an office's
//! network who could vouch for the box, so people and programs compare its fingerprint once.
//!
//! The few elements of such a certificate are written directly; the crate that the hub issues with
//! would be a large part of what a box may weigh.

use jiff::Timestamp;
use jiff::tz::Offset;
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::sign::SigningKey;

use crate::evidence::sha256;
use crate::model::UnixMs;
use crate::shell::der::{
    ALTERNATIVE_NAMES, BIT_STRING, BOOLEAN, COMMON_NAME, DNS_NAME, EXTENSIONS, GENERALIZED_TIME,
    INTEGER, IP_ADDRESS, OBJECT_ID, OCTET_STRING, SET, UTC_TIME, UTF8_STRING, VERSION, element,
    sequence,
};
use crate::shell::x509::Names;

/// `ecdsa-with-SHA256`, 1.2.840.10045.4.3.2.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// `id-kp-serverAuth`, 1.3.6.1.5.5.7.3.1.
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// A bit string's first byte: no bit of its last byte is unused, or seven are not.
const WHOLE: u8 = 0;
const DIGITAL_SIGNATURE: &[u8] = &[7, 0x80];
/// From this year on RFC 5280 writes years with four digits.
const LONG_YEAR: i16 = 2050;

/// A certificate of `key`, for the first of the DNS names in particular; none when it is no P-256 key.
pub fn issue(
    key: &dyn SigningKey,
    names: &Names,
    (from, until): (UnixMs, UnixMs),
    serial: [u8; 16],
) -> Option<CertificateDer<'static>> {
    let algorithm = sequence(&[&element(OBJECT_ID, ECDSA_SHA256)]);
    let subject = names.dns.first().map_or("", String::as_str);
    let subject = sequence(&[
        &element(OBJECT_ID, COMMON_NAME),
        &element(UTF8_STRING, subject.as_bytes()),
    ]);
    let subject = sequence(&[&element(SET, &subject)]);
    let public = key.public_key()?;
    let signed = sequence(&[
        &element(VERSION, &element(INTEGER, &[2])),
        &element(INTEGER, &positive(serial)),
        &algorithm,
        &subject,
        &sequence(&[&time(from)?, &time(until)?]),
        &subject,
        &public,
        &extensions(names),
    ]);
    let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
    let signature = [&[WHOLE], signer.sign(&signed).ok()?.as_slice()].concat();
    let whole = sequence(&[&signed, &algorithm, &element(BIT_STRING, &signature)]);
    Some(CertificateDer::from(whole))
}

/// As browsers and tools show it.
pub fn fingerprint(certificate: &[u8]) -> String {
    let pairs: Vec<String> = sha256(certificate)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    pairs.join(":")
}

fn extensions(names: &Names) -> Vec<u8> {
    let mut alternatives = Vec::new();
    for name in &names.dns {
        alternatives.extend(element(DNS_NAME, name.as_bytes()));
    }
    for address in &names.addresses {
        match address {
            std::net::IpAddr::V4(v4) => alternatives.extend(element(IP_ADDRESS, &v4.octets())),
            std::net::IpAddr::V6(v6) => alternatives.extend(element(IP_ADDRESS, &v6.octets())),
        }
    }
    let list = sequence(&[
        // No authority: whoever trusts this certificate trusts this server and nobody else.
        &extension(BASIC_CONSTRAINTS, true, &sequence(&[])),
        &extension(KEY_USAGE, true, &element(BIT_STRING, DIGITAL_SIGNATURE)),
        &extension(
            EXTENDED_KEY_USAGE,
            false,
            &sequence(&[&element(OBJECT_ID, SERVER_AUTH)]),
        ),
        &extension(ALTERNATIVE_NAMES, false, &sequence(&[&alternatives])),
    ]);
    element(EXTENSIONS, &list)
}

fn extension(id: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
    let id = element(OBJECT_ID, id);
    let critical = match is_critical {
        true => element(BOOLEAN, &[0xff]),
        false => Vec::new(),
    };
    sequence(&[&id, &critical, &element(OCTET_STRING, value)])
}

/// A number of at most 126 bits and at least 120: positive, and without leading zeros.
fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    serial[0] = serial[0] & 0x3f | 0x01;
    serial
}

fn time(at: UnixMs) -> Option<Vec<u8>> {
    let at = Timestamp::from_millisecond(at.0).ok()?;
    let at = Offset::UTC.to_datetime(at);
    let (tag, year) = match at.year() < LONG_YEAR {
        true => (UTC_TIME, format!("{:02}", at.year().rem_euclid(100))),
        false => (GENERALIZED_TIME, format!("{:04}", at.year())),
    };
    let text = format!(
        "{year}{:02}{:02}{:02}{:02}{:02}Z",
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    Some(element(tag, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::ring::sign::any_ecdsa_type;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;
    use crate::evidence;
    use crate::shell::x509;

    fn key() -> Arc<dyn SigningKey> {
        let key = PrivatePkcs8KeyDer::from(evidence::SigningKey::generate());
        any_ecdsa_type(&PrivateKeyDer::from(key)).unwrap()
    }

    #[test]
    fn what_was_written_can_be_read_again_and_is_for_these_names_only() {
        let names = Names {
            dns: vec!["xa-tan-bien.local".to_owned(), "localhost".to_owned()],
            addresses: vec!["192.168.1.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        };
        let span = (UnixMs(1_790_000_000_000), UnixMs(2_600_000_000_000));
        for serial in [[0; 16], [0xff; 16]] {
            let der = issue(&*key(), &names, span, serial).unwrap();
            let facts = x509::from_der(&der).unwrap();
            assert_eq!(facts.common_name, "xa-tan-bien.local");
            assert_eq!((facts.not_before, facts.not_after), span);
            assert_eq!(x509::names(&der), names);
            assert!(x509::names(&der).cover(&names));
            let other = Names {
                addresses: vec!["192.168.1.8".parse().unwrap()],
                ..Names::default()
            };
            assert!(!x509::names(&der).cover(&other));
        }
    }

    #[test]
    fn a_fingerprint_is_written_as_browsers_write_it() {
        let text = fingerprint(b"x");
        assert_eq!(text.len(), 95);
        assert!(text.starts_with("2D:71:16:42"), "{text}");
    }
}
