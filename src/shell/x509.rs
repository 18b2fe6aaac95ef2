//! What we need to know of a certificate: common name, issuer, the two dates, and a server's names.
//!
//! They stand at fixed places of DER (RFC 5280, 4.1), so a short walk is enough; an X.509 crate
//! would be larger than all of `shell`. Nothing here judges trust: rustls does that.

use std::net::IpAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::model::UnixMs;
use crate::shell::der::{
    ALTERNATIVE_NAMES, BOOLEAN, COMMON_NAME, DNS_NAME, EXTENSIONS, GENERALIZED_TIME, INTEGER,
    IP_ADDRESS, OBJECT_ID, OCTET_STRING, Reader, SEQUENCE, SET, UTC_TIME, VERSION,
};

const DAY_MS: i64 = 86_400_000;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Empty when the subject has none.
    pub common_name: String,
    /// Common name of the issuer; empty when it has none.
    pub issuer: String,
    pub not_before: UnixMs,
    pub not_after: UnixMs,
}

impl Facts {
    /// Whole days until the certificate ends; negative when it has ended.
    pub fn days_left(&self, now: UnixMs) -> i64 {
        (self.not_after.0 - now.0).div_euclid(DAY_MS)
    }
}

/// Why a text is not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotACertificate {
    #[error("it holds no PEM certificate")]
    NotPem,
    #[error("it is not an X.509 certificate")]
    NotX509,
}

/// Facts of the first certificate in a PEM text.
pub fn from_pem(pem: &[u8]) -> Result<Facts, NotACertificate> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|_| NotACertificate::NotPem)?;
    from_der(&der)
}

/// Facts of a certificate in DER.
pub fn from_der(der: &[u8]) -> Result<Facts, NotACertificate> {
    read(der).ok_or(NotACertificate::NotX509)
}

/// When the first certificate in a PEM text ends.
pub fn not_after(pem: &[u8]) -> Result<UnixMs, NotACertificate> {
    Ok(from_pem(pem)?.not_after)
}

/// Common name of the first certificate in a PEM text: the box id of a box's certificate.
pub fn common_name(pem: &[u8]) -> Result<String, NotACertificate> {
    Ok(from_pem(pem)?.common_name)
}

/// Whole days until the first certificate in a PEM text ends; negative when it has ended.
pub fn certificate_days_left(pem: &[u8], now: UnixMs) -> Result<i64, NotACertificate> {
    Ok(from_pem(pem)?.days_left(now))
}

/// Whom a server's certificate is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

impl Names {
    /// Whether each of `wanted` is among these.
    pub fn cover(&self, wanted: &Names) -> bool {
        wanted.dns.iter().all(|name| self.dns.contains(name))
            && wanted
                .addresses
                .iter()
                .all(|ip| self.addresses.contains(ip))
    }
}

/// Names that a certificate in DER is for; none where it cannot be read.
pub fn names(der: &[u8]) -> Names {
    read_names(der).unwrap_or_default()
}

fn read_names(der: &[u8]) -> Option<Names> {
    let mut signed = Reader(der).expect(SEQUENCE)?.expect(SEQUENCE)?;
    let mut names = Names::default();
    while !signed.is_empty() {
        let (tag, mut content) = signed.element()?;
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = content.expect(SEQUENCE)?;
        while !extensions.is_empty() {
            let mut extension = extensions.expect(SEQUENCE)?;
            if extension.expect(OBJECT_ID)?.0 != ALTERNATIVE_NAMES {
                continue;
            }
            if extension.peek()? == BOOLEAN {
                extension.expect(BOOLEAN)?;
            }
            let mut found = extension.expect(OCTET_STRING)?.expect(SEQUENCE)?;
            while !found.is_empty() {
                let (tag, Reader(value)) = found.element()?;
                match (tag, value.len()) {
                    (DNS_NAME, _) => names.dns.push(String::from_utf8(value.to_vec()).ok()?),
                    (IP_ADDRESS, 4) => names
                        .addresses
                        .push(<[u8; 4]>::try_from(value).ok()?.into()),
                    (IP_ADDRESS, 16) => names
                        .addresses
                        .push(<[u8; 16]>::try_from(value).ok()?.into()),
                    _ => {}
                }
            }
        }
    }
    Some(names)
}

fn read(der: &[u8]) -> Option<Facts> {
    let mut certificate = Reader(der).expect(SEQUENCE)?;
    let mut signed = certificate.expect(SEQUENCE)?;
    if signed.peek()? == VERSION {
        signed.expect(VERSION)?;
    }
    signed.expect(INTEGER)?; // serial number
    signed.expect(SEQUENCE)?; // signature algorithm
    let issuer = read_common_name(signed.expect(SEQUENCE)?)?;
    let mut validity = signed.expect(SEQUENCE)?;
    let not_before = read_time(&mut validity)?;
    let not_after = read_time(&mut validity)?;
    let common_name = read_common_name(signed.expect(SEQUENCE)?)?;
    Some(Facts {
        common_name,
        issuer,
        not_before,
        not_after,
    })
}

/// The last common name of a distinguished name, which is the most specific one.
fn read_common_name(mut name: Reader<'_>) -> Option<String> {
    let mut found = String::new();
    while !name.is_empty() {
        let mut set = name.expect(SET)?;
        while !set.is_empty() {
            let mut attribute = set.expect(SEQUENCE)?;
            let kind = attribute.expect(OBJECT_ID)?;
            let (_, value) = attribute.element()?;
            if kind.0 == COMMON_NAME {
                found = String::from_utf8_lossy(value.0).into_owned();
            }
        }
    }
    Some(found)
}

fn read_time(validity: &mut Reader<'_>) -> Option<UnixMs> {
    let (tag, value) = validity.element()?;
    let text = std::str::from_utf8(value.0).ok()?.strip_suffix('Z')?;
    let digits: Vec<i16> = text
        .chars()
        .map(|c| c.to_digit(10).and_then(|d| i16::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let pair = |at: usize| digits[at] * 10 + digits[at + 1];
    let (year, rest) = match (tag, digits.len()) {
        // RFC 5280, 4.1.2.5.1: two digits mean 1950 to 2049.
        (UTC_TIME, 12) => (if pair(0) < 50 { 2000 } else { 1900 } + pair(0), 2),
        (GENERALIZED_TIME, 14) => (pair(0) * 100 + pair(2), 4),
        _ => return None,
    };
    let field = |at: usize| i8::try_from(pair(rest + at)).ok();
    let civil = DateTime::new(
        year,
        field(0)?,
        field(2)?,
        field(4)?,
        field(6)?,
        field(8)?,
        0,
    )
    .ok()?;
    // RFC 5280 writes "never" as the last second of 9999, which lies beyond jiff's last instant.
    let instant = civil
        .to_zoned(TimeZone::UTC)
        .map_or(jiff::Timestamp::MAX, |zoned| zoned.timestamp());
    Some(UnixMs(instant.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(tag: u8, text: &str) -> Option<UnixMs> {
        let mut der = vec![tag, text.len() as u8];
        der.extend_from_slice(text.as_bytes());
        read_time(&mut Reader(&der))
    }

    #[test]
    fn times_of_both_forms() {
        assert_eq!(
            time(UTC_TIME, "251120005320Z"),
            Some(UnixMs(1_763_600_000_000))
        );
        assert_eq!(
            time(GENERALIZED_TIME, "20251120005320Z"),
            Some(UnixMs(1_763_600_000_000))
        );
        assert_eq!(
            time(UTC_TIME, "500101000000Z"),
            Some(UnixMs(-631_152_000_000))
        );
        assert!(
            time(GENERALIZED_TIME, "99991231235959Z") > time(GENERALIZED_TIME, "99980101000000Z")
        );
        for bad in [
            "",
            "Z",
            "2511200053Z",
            "251320005320Z",
            "25112000532xZ",
            "251120005320",
        ] {
            assert_eq!(time(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_said() {
        assert_eq!(from_pem(b"hello"), Err(NotACertificate::NotPem));
        assert_eq!(from_der(b""), Err(NotACertificate::NotX509));
        assert_eq!(
            from_der(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
            Err(NotACertificate::NotX509)
        );
        let foreign = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(from_pem(foreign.as_bytes()), Err(NotACertificate::NotX509));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_der(&bytes);
            let _ = names(&bytes);
            let _ = read_time(&mut Reader(&bytes));
            let _ = read_common_name(Reader(&bytes));
        }
    }
}

#[cfg(test)]
#[cfg(feature = "hub")]
mod tests_with_real_certificates {
    use super::*;
    use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

    #[test]
    fn facts_of_an_issued_certificate() {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::OrganizationName, "Tỉnh Lâm Đồng");
        authority
            .distinguished_name
            .push(DnType::CommonName, "Liên Thông CA");
        let issuer = Issuer::new(authority, authority_key);
        let mut params = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "xa-ba-vi-01");
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2051, 6, 30);
        let pem = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap()
            .pem();

        let facts = from_pem(pem.as_bytes()).unwrap();
        assert_eq!(facts.common_name, "xa-ba-vi-01");
        assert_eq!(facts.issuer, "Liên Thông CA");
        assert_eq!(facts.not_before, UnixMs(1_735_689_600_000));
        assert_eq!(facts.not_after, UnixMs(2_571_696_000_000));
        assert_eq!(facts.days_left(UnixMs(facts.not_after.0 - 3 * DAY_MS)), 3);
        assert_eq!(facts.days_left(UnixMs(facts.not_after.0 + 1)), -1);
        assert_eq!(common_name(pem.as_bytes()).unwrap(), "xa-ba-vi-01");
    }
}
