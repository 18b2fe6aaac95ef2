//! Boxes whose certificate ended while they were away: for a time they are let in all the same, so
//! that they can be given a new one.
//!
//! The end alone is overlooked. Everything else must hold as it did in the last second of the
//! certificate's life: who issued it, what it is for, and that its owner has the key. Behind this the
//! gate asks the registry, which lets in a key only that it knows, of a box that is active.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::shell::x509;

/// So long after its end a certificate that the registry knows still opens the door.
pub const GRACE_DAYS: i64 = 90;
const DAY_MS: i64 = 86_400_000;

/// A verifier that overlooks an end of late.
#[derive(Debug)]
pub struct Lenient {
    strict: Arc<dyn ClientCertVerifier>,
}

impl Lenient {
    pub fn new(strict: Arc<dyn ClientCertVerifier>) -> Lenient {
        Lenient { strict }
    }
}

/// Whether a certificate has ended; one that cannot be read has.
pub fn has_ended(certificate: &[u8], now: UnixTime) -> bool {
    match ended_ms(certificate, now) {
        Some((ago_ms, _)) => 0 < ago_ms,
        None => true,
    }
}

/// How long ago a certificate ended, and its last second.
fn ended_ms(certificate: &[u8], now: UnixTime) -> Option<(i64, UnixTime)> {
    let not_after = x509::from_der(certificate).ok()?.not_after;
    let last = Duration::from_millis(u64::try_from(not_after.0).ok()?);
    let now_ms = i64::try_from(now.as_secs()).ok()?.checked_mul(1000)?;
    Some((now_ms - not_after.0, UnixTime::since_unix_epoch(last)))
}

impl ClientCertVerifier for Lenient {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self
            .strict
            .verify_client_cert(end_entity, intermediates, now);
        match verdict {
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => match ended_ms(end_entity, now) {
                Some((ago_ms, last)) if (1..=GRACE_DAYS * DAY_MS).contains(&ago_ms) => self
                    .strict
                    .verify_client_cert(end_entity, intermediates, last),
                _ => verdict,
            },
            verdict => verdict,
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.strict.client_auth_mandatory()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::pki_types::pem::PemObject;
    use rustls::server::WebPkiClientVerifier;

    use super::*;
    use crate::hub::authority::Authority;
    use crate::model::UnixMs;

    const NOW: UnixMs = UnixMs(1_763_600_000_000);

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn an_end_of_late_is_overlooked_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path(), NOW).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der(authority.certificate_pem())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let strict = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let lenient = Lenient::new(strict);
        let accepts = |pem: &str, at: UnixMs| {
            let at = UnixTime::since_unix_epoch(Duration::from_millis(at.0 as u64));
            lenient.verify_client_cert(&der(pem), &[], at).is_ok()
        };
        let own = authority.issue_client("xa-dong-van", NOW).unwrap();
        let after = |days: i64| UnixMs(own.not_after.0 + days * DAY_MS);
        assert!(accepts(&own.cert_pem, after(-1)));
        assert!(accepts(&own.cert_pem, after(1)));
        assert!(accepts(&own.cert_pem, after(GRACE_DAYS)));
        assert!(!accepts(&own.cert_pem, after(GRACE_DAYS + 1)));
        assert!(!accepts(&own.cert_pem, UnixMs(0)), "not yet valid");

        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = Authority::create(elsewhere.path(), NOW).unwrap();
        let forged = stranger.issue_client("xa-dong-van", NOW).unwrap();
        assert!(!accepts(&forged.cert_pem, after(1)));
        let server = authority.issue_server(&["localhost".into()], NOW).unwrap();
        assert!(!accepts(&server.cert_pem, after(1)));
    }
}
