//! TLS towards the hub: one trust root, a client certificate, and faults that say which file is
//! wrong and what to do.
//!
//! An expired certificate is no fault of loading: a box starts, keeps taking records in and says
//! on its page that its identity has ended. `Identity::check` is asked for that.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, SupportedProtocolVersion};

use crate::model::UnixMs;
use crate::shell::clock::Clock;
use crate::shell::x509::{self, Facts};

/// Sessions kept for resumption: there is one hub, and two addresses.
const RESUMED_SESSIONS: usize = 4;
/// Certificates and keys are a few kilobytes; anything longer was put there by mistake.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where an identity lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificate of the authority: the only root that is trusted.
    pub authority: PathBuf,
    /// Our certificate, followed by its intermediates.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A loaded identity.
#[derive(Debug, Clone)]
pub struct Identity {
    pub config: Arc<ClientConfig>,
    /// What our certificate says of itself.
    pub facts: Facts,
    certificate: PathBuf,
}

impl Identity {
    /// Reads the files and makes a client that trusts this authority alone. TLS 1.2 only when
    /// `allow_tls12`, for a province's older broker.
    pub fn load(files: &Files, clock: &Clock, allow_tls12: bool) -> Result<Identity, Fault> {
        let roots = read_roots(&files.authority)?;
        let chain = read_certificates(&files.certificate)?;
        let facts = x509::from_der(&chain[0])
            .map_err(|_| Fault::new(&files.certificate, Problem::NotX509))?;
        let key = read_key(&files.key)?;

        const NEW_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
        const OLD_TOO: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_protocol_versions(if allow_tls12 { OLD_TOO } else { NEW_ONLY })
            .expect("ring has cipher suites for both versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Fault::new(
                    &files.key,
                    Problem::WrongKey {
                        certificate: files.certificate.clone(),
                    },
                ),
                _ => Fault::new(&files.key, Problem::UnusableKey),
            })?;
        config.resumption = Resumption::in_memory_sessions(RESUMED_SESSIONS);
        Ok(Identity {
            config: Arc::new(config),
            facts,
            certificate: files.certificate.clone(),
        })
    }

    /// Whether our certificate is valid at this moment.
    pub fn check(&self, now: UnixMs) -> Result<(), Fault> {
        if now > self.facts.not_after {
            let since = self.facts.not_after;
            return Err(Fault::new(&self.certificate, Problem::Expired { since }));
        }
        if now < self.facts.not_before {
            let from = self.facts.not_before;
            return Err(Fault::new(&self.certificate, Problem::NotYetValid { from }));
        }
        Ok(())
    }
}

/// A client of other programs' servers: it trusts these authorities and shows no certificate.
pub fn trusting(authorities: &Path, clock: &Clock) -> Result<Arc<ClientConfig>, Fault> {
    let roots = read_roots(authorities)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has cipher suites for both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// What is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct Fault {
    pub file: PathBuf,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    Missing,
    NoPermission,
    Unreadable(io::ErrorKind),
    TooLarge,
    /// No PEM block of the kind that is wanted; `found` names what is there instead.
    NotPem {
        wanted: &'static str,
        found: Option<&'static str>,
    },
    NotX509,
    UnusableKey,
    WrongKey {
        certificate: PathBuf,
    },
    Expired {
        since: UnixMs,
    },
    NotYetValid {
        from: UnixMs,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing => f.write_str("the file does not exist"),
            Problem::NoPermission => f.write_str("no permission to read the file"),
            Problem::Unreadable(kind) => write!(f, "the file cannot be read: {kind}"),
            Problem::TooLarge => write!(f, "larger than {FILE_BYTES_MAX} bytes"),
            Problem::NotPem {
                wanted,
                found: Some(found),
            } => {
                write!(f, "holds no {wanted} but a {found}")
            }
            Problem::NotPem {
                wanted,
                found: None,
            } => write!(f, "holds no {wanted} in PEM"),
            Problem::NotX509 => f.write_str("the certificate in it cannot be read"),
            Problem::UnusableKey => f.write_str("the private key in it cannot be used"),
            Problem::WrongKey { certificate } => {
                write!(
                    f,
                    "the key does not belong to the certificate {}",
                    certificate.display()
                )
            }
            Problem::Expired { since } => write!(f, "the certificate expired on {since}"),
            Problem::NotYetValid { from } => write!(f, "the certificate is valid from {from} only"),
        }
    }
}

impl Fault {
    fn new(file: &Path, problem: Problem) -> Fault {
        Fault {
            file: file.to_owned(),
            problem,
        }
    }

    /// What to do, in Vietnamese and in English.
    pub fn hints(&self) -> [&'static str; 2] {
        let (vi, en) = self.hint().split_once(" / ").expect("both languages");
        [vi, en]
    }

    /// What to do, in Vietnamese with English beside it.
    pub fn hint(&self) -> &'static str {
        match self.problem {
            Problem::Missing => {
                "Kiểm tra đường dẫn trong cấu hình, hoặc chép lại bộ khóa của trạm. / Check the path \
                 in the configuration, or copy the box's key material again."
            }
            Problem::NoPermission => {
                "Cho tài khoản chạy dịch vụ quyền đọc tệp (chown, chmod 0400). / Let the service's \
                 user read the file (chown, chmod 0400)."
            }
            Problem::Unreadable(_) => {
                "Kiểm tra ổ đĩa và hệ thống tệp. / Check the disk and the file system."
            }
            Problem::TooLarge | Problem::NotPem { .. } | Problem::NotX509 => {
                "Tệp phải ở dạng PEM (-----BEGIN …); kiểm tra xem có đặt nhầm tệp không. / The file \
                 must be PEM (-----BEGIN …); check that the files were not mixed up."
            }
            Problem::UnusableKey => {
                "Dùng khóa ECDSA P-256 hoặc RSA không đặt mật khẩu, dạng PEM. / Use an ECDSA P-256 \
                 or RSA key without a password, in PEM."
            }
            Problem::WrongKey { .. } => {
                "Chứng thư và khóa phải cùng một lần cấp; chép lại cả hai. / Certificate and key \
                 must come from the same issue; copy both again."
            }
            Problem::Expired { .. } => {
                "Xin trục cấp lại chứng thư (trucd box reissue), và kiểm tra đồng hồ của máy. / Have \
                 the hub issue it again (trucd box reissue), and check the machine's clock."
            }
            Problem::NotYetValid { .. } => {
                "Đồng hồ của máy có thể bị chậm; chờ đồng bộ giờ hoặc chỉnh lại. / The machine's \
                 clock may be behind; wait for time synchronization or set it."
            }
        }
    }
}

/// The certificates of authorities, for a client that is not ours.
pub fn read_authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    read_certificates(file)
}

fn read_roots(file: &Path) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for authority in read_certificates(file)? {
        roots
            .add(authority)
            .map_err(|_| Fault::new(file, Problem::NotX509))?;
    }
    Ok(roots)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = read_file(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => {
            let found = PrivateKeyDer::from_pem_slice(&pem)
                .is_ok()
                .then_some("private key");
            Err(Fault::new(
                file,
                Problem::NotPem {
                    wanted: "certificate",
                    found,
                },
            ))
        }
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let pem = read_file(file)?;
    if is_readable_by_all(file) {
        tracing::warn!(file = %file.display(), "every user of this machine can read the private key");
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let found = CertificateDer::from_pem_slice(&pem)
            .is_ok()
            .then_some("certificate");
        Fault::new(
            file,
            Problem::NotPem {
                wanted: "private key",
                found,
            },
        )
    })
}

fn is_readable_by_all(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|facts| facts.permissions().mode() & 0o004 != 0)
}

fn read_file(file: &Path) -> Result<Vec<u8>, Fault> {
    let fault = |error: io::Error| {
        Fault::new(
            file,
            match error.kind() {
                io::ErrorKind::NotFound => Problem::Missing,
                io::ErrorKind::PermissionDenied => Problem::NoPermission,
                kind => Problem::Unreadable(kind),
            },
        )
    };
    if std::fs::metadata(file).map_err(fault)?.len() > FILE_BYTES_MAX {
        return Err(Fault::new(file, Problem::TooLarge));
    }
    std::fs::read(file).map_err(fault)
}

#[cfg(test)]
#[cfg(feature = "hub")]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    struct Folder {
        root: tempfile::TempDir,
        files: Files,
    }

    fn folder() -> Folder {
        let root = tempfile::tempdir().unwrap();
        let files = Files {
            authority: root.path().join("ca.pem"),
            certificate: root.path().join("box.pem"),
            key: root.path().join("box.key"),
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "xa-ba-vi-01");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let certificate = params.self_signed(&key).unwrap().pem();
        std::fs::write(&files.authority, &certificate).unwrap();
        std::fs::write(&files.certificate, &certificate).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        Folder { root, files }
    }

    fn load(files: &Files) -> Result<Identity, Fault> {
        Identity::load(files, &Clock::start(UnixMs(0)), false)
    }

    #[test]
    fn an_identity_loads_and_knows_its_name_and_its_end() {
        let folder = folder();
        let identity = load(&folder.files).unwrap();
        assert_eq!(identity.facts.common_name, "xa-ba-vi-01");
        assert_eq!(identity.check(UnixMs(1_790_000_000_000)), Ok(()));
        let expired = identity.check(UnixMs(1_900_000_000_000)).unwrap_err();
        let text = expired.to_string();
        assert!(
            text.contains("box.pem") && text.contains("2027-01-01T07:00:00.000+07:00"),
            "{text}"
        );
        assert!(matches!(
            identity
                .check(UnixMs(1_700_000_000_000))
                .unwrap_err()
                .problem,
            Problem::NotYetValid { .. }
        ));
    }

    #[test]
    fn each_fault_names_its_file() {
        let folder = folder();
        let with = |change: &dyn Fn(&mut Files)| {
            let mut files = folder.files.clone();
            change(&mut files);
            load(&files).unwrap_err()
        };
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.root.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };

        let nowhere = folder.root.path().join("nowhere.pem");
        let fault = with(&|files| files.authority = nowhere.clone());
        assert_eq!(fault, Fault::new(&nowhere, Problem::Missing));

        let text = write("text.pem", b"xin chao");
        let fault = with(&|files| files.certificate = text.clone());
        assert_eq!(
            fault,
            Fault::new(
                &text,
                Problem::NotPem {
                    wanted: "certificate",
                    found: None
                }
            )
        );

        let fault = with(&|files| std::mem::swap(&mut files.certificate, &mut files.key));
        assert_eq!(
            fault.problem,
            Problem::NotPem {
                wanted: "certificate",
                found: Some("private key")
            }
        );

        let other = write(
            "other.key",
            KeyPair::generate().unwrap().serialize_pem().as_bytes(),
        );
        let fault = with(&|files| files.key = other.clone());
        assert_eq!(fault.file, other);
        assert!(fault.to_string().contains("box.pem"), "{fault}");

        let directory = folder.root.path().to_owned();
        let fault = with(&|files| files.key = directory.clone());
        assert!(matches!(fault.problem, Problem::Unreadable(_)), "{fault}");

        let broken = write(
            "broken.key",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        );
        let fault = with(&|files| files.key = broken.clone());
        assert_eq!(fault, Fault::new(&broken, Problem::UnusableKey));
        assert!(!fault.hint().is_empty());
    }
}
