//! The hub's private certificate authority: it signs the broker's certificate, the hub's own client
//! certificate, and one certificate per box (ECDSA P-256).
//!
//! A certificate's life begins at [`FLOOR`], before any version of this product was built, because
//! a box whose clock fell back trusts its build time at least, and must still accept the hub and be
//! accepted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::hub::certificate;
use crate::model::UnixMs;

const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.crt";
/// Names the authority in every certificate that it signs, so it never changes.
const AUTHORITY_NAME: &str = "Lien thong hub authority";
const SERVER_NAME: &str = "Lien thong hub";

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const AUTHORITY_LIFE_MS: i64 = 3653 * DAY_MS;
/// How long a certificate of a server, of a box or of the hub lives.
pub const CERTIFICATE_LIFE_MS: i64 = 731 * DAY_MS;
/// 2025-01-01T00:00:00Z: latest beginning of any certificate's life.
const FLOOR: UnixMs = UnixMs(1_735_689_600_000);

/// Mode of a file that only its owner reads.
pub const SECRET: u32 = 0o600;
/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// The authority's key and certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate with its private key, as handed to a box or to the broker.
pub struct Issued {
    pub cert_pem: String,
    /// PKCS#8.
    pub key_pem: String,
    /// Uncompressed point of P-256.
    pub public_key: [u8; 65],
    /// 32 hexadecimal digits.
    pub serial: String,
    pub not_after: UnixMs,
}

/// A certificate for a key that is not here.
pub struct Certified {
    pub cert_pem: String,
    /// 32 hexadecimal digits.
    pub serial: String,
    pub not_after: UnixMs,
}

/// What a certificate may be used for.
#[derive(Clone, Copy)]
enum Purpose {
    Server,
    Client,
}

impl Authority {
    /// Makes the key and the certificate of a new authority in `dir`.
    pub fn create(dir: &Path, now: UnixMs) -> anyhow::Result<Authority> {
        let key = new_key()?;
        let mut params = authority_params();
        set_life(&mut params, now, AUTHORITY_LIFE_MS);
        params.serial_number = Some(new_serial());
        let certificate = params
            .self_signed(&key)
            .context("cannot sign the authority's certificate")?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
        write_new(&dir.join(KEY_FILE), key.serialize_pem().as_bytes(), SECRET)?;
        write_new(
            &dir.join(CERTIFICATE_FILE),
            certificate.pem().as_bytes(),
            PUBLIC,
        )?;
        Ok(Authority {
            issuer: Issuer::new(params, key),
            certificate_pem: certificate.pem(),
        })
    }

    /// Reads the authority that [`Authority::create`] made in `dir`.
    pub fn open(dir: &Path) -> anyhow::Result<Authority> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let key = KeyPair::from_pem(&read(KEY_FILE)?)
            .with_context(|| format!("{} is no private key", dir.join(KEY_FILE).display()))?;
        let certificate_pem = read(CERTIFICATE_FILE)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .ok()
            .with_context(|| {
                format!("{} is no certificate", dir.join(CERTIFICATE_FILE).display())
            })?;
        ensure!(
            certificate::common_name(&certificate).as_deref() == Some(AUTHORITY_NAME)
                && certificate::public_key(&certificate)
                    .is_some_and(|found| found == key.public_key_raw()),
            "{CERTIFICATE_FILE} in {} does not belong to its {KEY_FILE}",
            dir.display()
        );
        Ok(Authority {
            issuer: Issuer::new(authority_params(), key),
            certificate_pem,
        })
    }

    /// What boxes and the broker trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate for a server that is reached under `names`: DNS names and IP addresses.
    pub fn issue_server(&self, names: &[String], now: UnixMs) -> anyhow::Result<Issued> {
        ensure!(
            !names.is_empty(),
            "a server certificate needs at least one DNS name or IP address"
        );
        let mut params = CertificateParams::new(names).with_context(|| {
            format!("{names:?} holds what is neither a DNS name nor an IP address")
        })?;
        params.distinguished_name = named(SERVER_NAME);
        self.issue(params, Purpose::Server, now)
    }

    /// A certificate for a client: a box, whose id is `common_name`, or the hub itself.
    pub fn issue_client(&self, common_name: &str, now: UnixMs) -> anyhow::Result<Issued> {
        self.issue(client_params(common_name)?, Purpose::Client, now)
    }

    /// A certificate for a box that has made its key itself.
    pub fn certify(
        &self,
        common_name: &str,
        public_key: &[u8; 65],
        now: UnixMs,
    ) -> anyhow::Result<Certified> {
        let params = client_params(common_name)?;
        self.sign(params, Purpose::Client, &Point(*public_key), now)
    }

    fn issue(
        &self,
        params: CertificateParams,
        purpose: Purpose,
        now: UnixMs,
    ) -> anyhow::Result<Issued> {
        let key = new_key()?;
        let certified = self.sign(params, purpose, &key, now)?;
        Ok(Issued {
            cert_pem: certified.cert_pem,
            key_pem: key.serialize_pem(),
            public_key: key
                .public_key_raw()
                .try_into()
                .expect("a point of P-256 has 65 bytes"),
            serial: certified.serial,
            not_after: certified.not_after,
        })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        purpose: Purpose,
        key: &impl PublicKeyData,
        now: UnixMs,
    ) -> anyhow::Result<Certified> {
        let serial = new_serial();
        let not_after = set_life(&mut params, now, CERTIFICATE_LIFE_MS);
        params.serial_number = Some(serial.clone());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let certificate: Certificate = params
            .signed_by(key, &self.issuer)
            .context("cannot sign a certificate")?;
        Ok(Certified {
            cert_pem: certificate.pem(),
            serial: hex(&serial.to_bytes()),
            not_after,
        })
    }
}

fn client_params(common_name: &str) -> anyhow::Result<CertificateParams> {
    ensure!(
        (1..=64).contains(&common_name.len())
            && common_name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')),
        "{common_name:?} is no common name (1 to 64 of letters, digits, '-', '_' and '.')"
    );
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    Ok(params)
}

/// A public key that was made elsewhere.
struct Point([u8; 65]);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Writes a file that must not exist yet: whole and synced, or not at all.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .with_context(|| format!("{} names no file", path.display()))?;
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{}.new", hex(&random::<4>())));
    let temporary = dir.join(temporary_name);
    let written = write_synced(&temporary, bytes, mode).and_then(|()| {
        match renameat2(
            AT_FDCWD,
            &temporary,
            AT_FDCWD,
            path,
            RenameFlags::RENAME_NOREPLACE,
        ) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) => {
                bail!(
                    "{} exists already and is never overwritten; move it away first",
                    path.display()
                )
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot put {} in its place", path.display()))
            }
        }
    });
    if written.is_err() {
        // The fault that is told is the first one; a left-over temporary file holds nobody up.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("cannot sync the folder {}", dir.display()))
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What certificates take over from their issuer; the same for each authority.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets a life of `life_ms` from now on; its end is returned.
fn set_life(params: &mut CertificateParams, now: UnixMs, life_ms: i64) -> UnixMs {
    let epoch = date_time_ymd(1970, 1, 1);
    let whole_seconds = |at: i64| Duration::from_secs(u64::try_from(at / 1000).unwrap_or(0));
    let not_after = now.0 + life_ms;
    params.not_before = epoch + whole_seconds((now.0 - DAY_MS).min(FLOOR.0));
    params.not_after = epoch + whole_seconds(not_after);
    UnixMs(not_after / 1000 * 1000)
}

fn new_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")
}

/// 127 random bits (RFC 5280 wants it positive and at most 20 bytes long).
fn new_serial() -> SerialNumber {
    let mut bytes = random::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
    };
    use rustls::RootCertStore;
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName, UnixTime};
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    const NOW: UnixMs = UnixMs(1_763_600_000_000);

    fn roots(authority: &Authority) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(der(authority.certificate_pem())).unwrap();
        Arc::new(roots)
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn at(wall: UnixMs) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(wall.0 as u64))
    }

    #[test]
    fn issued_after_reopening_is_trusted_under_the_first_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let created = Authority::create(dir.path(), NOW).unwrap();
        let opened = Authority::open(dir.path()).unwrap();
        assert_eq!(opened.certificate_pem(), created.certificate_pem());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&created), provider)
            .build()
            .unwrap();

        let client = opened.issue_client("xa-dong-van", NOW).unwrap();
        let accepted = |wall| {
            verifier
                .verify_client_cert(&der(&client.cert_pem), &[], at(wall))
                .is_ok()
        };
        assert!(accepted(NOW));
        assert!(
            accepted(FLOOR),
            "a box whose clock fell back to its build time"
        );
        assert!(accepted(UnixMs(client.not_after.0 - 1000)));
        assert!(!accepted(UnixMs(client.not_after.0 + 1000)));
        assert!(!accepted(UnixMs(FLOOR.0 - 1000)));

        let server = opened.issue_server(&["localhost".into()], NOW).unwrap();
        assert!(
            verifier
                .verify_client_cert(&der(&server.cert_pem), &[], at(NOW))
                .is_err()
        );

        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = Authority::create(elsewhere.path(), NOW).unwrap();
        let forged = stranger.issue_client("xa-dong-van", NOW).unwrap();
        assert!(
            verifier
                .verify_client_cert(&der(&forged.cert_pem), &[], at(NOW))
                .is_err()
        );
    }

    #[test]
    fn a_server_is_trusted_under_its_names_only() {
        use rustls::client::WebPkiServerVerifier;
        use rustls::client::danger::ServerCertVerifier;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), NOW).unwrap();
        let server = authority
            .issue_server(&["truc.tinh.example".into(), "10.1.2.3".into()], NOW)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(&authority), provider)
            .build()
            .unwrap();
        let accepted = |name: &'static str| {
            let name = ServerName::try_from(name).unwrap();
            verifier
                .verify_server_cert(&der(&server.cert_pem), &[], &name, &[], at(NOW))
                .is_ok()
        };
        assert!(accepted("truc.tinh.example") && accepted("10.1.2.3"));
        assert!(!accepted("tinh.example") && !accepted("10.1.2.4"));
        assert!(authority.issue_server(&[], NOW).is_err());
        assert!(authority.issue_server(&["tỉnh".into()], NOW).is_err());
    }

    #[test]
    fn key_signs_for_the_public_key_told() {
        let dir = tempfile::tempdir().unwrap();
        let issued = Authority::create(dir.path(), NOW)
            .unwrap()
            .issue_client("xa-a", NOW)
            .unwrap();
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            pkcs8.secret_pkcs8_der(),
            &random,
        )
        .unwrap();
        let signature = key.sign(&random, b"batch").unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, issued.public_key)
            .verify(b"batch", signature.as_ref())
            .unwrap();
        assert_eq!(
            certificate::public_key(&der(&issued.cert_pem)),
            Some(issued.public_key)
        );
        assert_eq!(
            certificate::common_name(&der(&issued.cert_pem)).as_deref(),
            Some("xa-a")
        );
        assert_eq!(issued.serial.len(), 32);
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), NOW).unwrap();
        for bad in ["", "a/b", "+", "#", "xã", "a b", &"a".repeat(65)] {
            assert!(authority.issue_client(bad, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_secret_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        Authority::create(dir.path(), NOW).unwrap();
        let mode = |name| {
            fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode(KEY_FILE), 0o600);
        let before = fs::read(dir.path().join(KEY_FILE)).unwrap();
        let error = Authority::create(dir.path(), NOW)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(fs::read(dir.path().join(KEY_FILE)).unwrap(), before);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::create(one.path(), NOW).unwrap();
        Authority::create(other.path(), NOW).unwrap();
        fs::copy(
            other.path().join(CERTIFICATE_FILE),
            one.path().join(CERTIFICATE_FILE),
        )
        .unwrap();
        let error = Authority::open(one.path()).err().unwrap().to_string();
        assert!(error.contains("does not belong"), "{error}");
    }
}
