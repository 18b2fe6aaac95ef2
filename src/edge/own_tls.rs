//! The certificate that the box makes for its page in the office's network.
//!
//! Nobody in such a network could vouch for the box, so it signs for itself, and people compare the
//! fingerprint that `tramd certificate` prints. The key lies beside the store and stays the same, so
//! whoever pins it need not care; the certificate is made anew before it ends and when the box is
//! reached by a name or address that it does not carry. What an earlier one carried is carried on,
//! so that a box that moves between two addresses does not become a stranger each time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use tokio::time::timeout;

use crate::edge::config::{Config, HttpSecure};
use crate::evidence;
use crate::model::UnixMs;
use crate::shell::clock::Clock;
use crate::shell::lan::{self, Changes};
use crate::shell::self_signed::{fingerprint, issue};
use crate::shell::x509::{self, Names};

const DAY_MS: i64 = 86_400_000;
/// A certificate begins in the past: clocks in an office differ.
const BEGUN_MS: i64 = 30 * DAY_MS;
/// Some systems take none that lives for more than 825 days, counted from its beginning.
const LIFE_MS: i64 = 790 * DAY_MS;
const RENEW_DAYS: i64 = 60;
/// A look at the time, where addresses never change.
const LOOK: Duration = Duration::from_secs(12 * 60 * 60);
/// Names and addresses of earlier certificates are carried on up to so many in all.
const NAMES_MAX: usize = 24;

/// What is known of the certificate that the office's network is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub pem: String,
    /// SHA-256.
    pub fingerprint: String,
    pub not_after: UnixMs,
    /// Names and addresses that it is for.
    pub names: Names,
}

/// The certificate on disk, the box's own or the configured one; none where there is none.
pub fn shown(config: &Config) -> Option<Shown> {
    let file = match config.http.tls.as_ref()? {
        HttpSecure::Own => config.store.own_tls_path("crt"),
        HttpSecure::Files(files) => files.certificate.clone(),
    };
    let der = CertificateDer::from_pem_file(file).ok()?;
    Some(Shown {
        pem: pem("CERTIFICATE", &der),
        fingerprint: fingerprint(&der),
        not_after: x509::from_der(&der).ok()?.not_after,
        names: x509::names(&der),
    })
}

/// Key and certificate; the certificate changes while it is used.
pub struct OwnTls {
    file: PathBuf,
    wanted: Wanted,
    key: Arc<dyn SigningKey>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl OwnTls {
    /// Reads what lies beside the store, or makes it.
    pub fn open(config: &Config, now: UnixMs) -> anyhow::Result<Arc<OwnTls>> {
        let key = config.store.own_tls_path("key");
        let key = read_or_make_key(&key)
            .with_context(|| format!("cannot keep the page's key in {}", key.display()))?;
        let file = config.store.own_tls_path("crt");
        let wanted = Wanted::of(config);
        let former = CertificateDer::from_pem_file(&file).ok();
        let kept = former
            .as_ref()
            .map(|former| CertifiedKey::new(vec![former.clone()], Arc::clone(&key)))
            .filter(|kept| kept.keys_match().is_ok());
        let names = wanted.names();
        let current = match kept {
            Some(kept) if is_good(&kept.cert[0], &names, now) => kept,
            _ => make(&file, &key, names, former.as_deref(), now)?,
        };
        tracing::info!(
            fingerprint = fingerprint(&current.cert[0]),
            name = format!("{}.local", config.http.name),
            "the page's certificate, made by this box"
        );
        Ok(Arc::new(OwnTls {
            file,
            wanted,
            key,
            current: RwLock::new(Arc::new(current)),
        }))
    }

    /// Makes another certificate when this one does not fit any more.
    pub fn look(&self, now: UnixMs) {
        let former = self.current().cert[0].clone();
        let names = self.wanted.names();
        if is_good(&former, &names, now) {
            return;
        }
        match make(&self.file, &self.key, names, Some(&former), now) {
            Ok(made) => {
                tracing::info!(
                    fingerprint = fingerprint(&made.cert[0]),
                    "the page has another certificate: its name or address has changed, or it would have ended"
                );
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "no new certificate for the page"
                );
            }
        }
    }

    /// Looks whenever addresses change, and twice a day.
    pub async fn keep(self: Arc<Self>, clock: Clock) {
        let mut changes = Changes::listen();
        loop {
            // Whichever it was, there is something to look at.
            let _ = timeout(LOOK, changes.next()).await;
            let (own, now) = (Arc::clone(&self), clock.now().wall);
            // A fault is logged where it is met.
            let _ = tokio::task::spawn_blocking(move || own.look(now)).await;
        }
    }

    pub fn server(self: &Arc<Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        Arc::new(config)
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Resolver(Arc<OwnTls>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current())
    }
}

/// By what the box is reached.
struct Wanted {
    name: String,
    listen: IpAddr,
}

impl Wanted {
    fn of(config: &Config) -> Wanted {
        Wanted {
            name: config.http.name.clone(),
            listen: SocketAddr::ip(&config.http.listen),
        }
    }

    /// Its names, and the addresses of now. Of version 6 only one that the configuration names: the
    /// others change by the day, and the certificate would with them.
    fn names(&self) -> Names {
        let name = &self.name;
        let mut dns = vec![
            format!("{name}.local"),
            name.clone(),
            "localhost".to_owned(),
        ];
        let host = nix::unistd::gethostname().ok();
        if let Some(host) = host.and_then(|host| host.into_string().ok())
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
            && !host.is_empty()
            && !dns.contains(&host)
        {
            dns.push(host);
        }
        let mut addresses: Vec<IpAddr> =
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if !self.listen.is_unspecified() {
            addresses.push(self.listen);
        } else if let Ok(interfaces) = lan::interfaces() {
            let v4 = interfaces.iter().flat_map(|interface| &interface.v4);
            addresses.extend(v4.map(|(address, _)| IpAddr::from(*address)));
        }
        let mut seen = Vec::new();
        addresses.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        addresses.truncate(NAMES_MAX);
        Names { dns, addresses }
    }
}

fn is_good(certificate: &[u8], wanted: &Names, now: UnixMs) -> bool {
    let is_in_time = x509::from_der(certificate)
        .is_ok_and(|facts| facts.not_before <= now && RENEW_DAYS <= facts.days_left(now));
    is_in_time && x509::names(certificate).cover(wanted)
}

/// A certificate that covers what `former` did too, on disk before anybody sees it.
fn make(
    file: &Path,
    key: &Arc<dyn SigningKey>,
    mut names: Names,
    former: Option<&[u8]>,
    now: UnixMs,
) -> anyhow::Result<CertifiedKey> {
    let former = former.map(x509::names).unwrap_or_default();
    for name in former.dns {
        if !names.dns.contains(&name) && names.dns.len() < NAMES_MAX {
            names.dns.push(name);
        }
    }
    for address in former.addresses {
        if !names.addresses.contains(&address) && names.addresses.len() < NAMES_MAX {
            names.addresses.push(address);
        }
    }
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).context("no random numbers")?;
    let span = (UnixMs(now.0 - BEGUN_MS), UnixMs(now.0 + LIFE_MS));
    let der = issue(&**key, &names, span, serial).context("the page's key cannot sign")?;
    put(file, pem("CERTIFICATE", &der).as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(CertifiedKey::new(vec![der], Arc::clone(key)))
}

/// A key that cannot be read is made anew: it proves nothing but itself.
fn read_or_make_key(file: &Path) -> io::Result<Arc<dyn SigningKey>> {
    let usable = |key: PrivatePkcs8KeyDer<'static>| any_ecdsa_type(&PrivateKeyDer::from(key)).ok();
    if let Some(key) = PrivatePkcs8KeyDer::from_pem_file(file)
        .ok()
        .and_then(usable)
    {
        return Ok(key);
    }
    let der = evidence::SigningKey::generate();
    put(file, pem("PRIVATE KEY", &der).as_bytes())?;
    Ok(usable(der.into()).expect("it was made just now"))
}

/// Replaces a file as a whole; nobody else may read it.
fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = OpenOptions::new();
    let mut written = open
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    fs::rename(&unfinished, file)?;
    File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = format!("-----BEGIN {kind}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem + &format!("-----END {kind}-----\n")
}
