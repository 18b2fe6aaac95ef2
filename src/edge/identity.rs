//! The box's identity: its certificate, the key that signs batches, and whose receipts count.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
};

use crate::edge::config::{Config, HttpSecure, HttpTls, HubConfig};
use crate::edge::generations::{Generations, Pair};
use crate::evidence::{CurrentKey, PublicKey, SigningKey};
use crate::shell::clock::Clock;
use crate::shell::settings::Fault;
use crate::shell::settings::units::Wrong;
use crate::shell::tls::{self, Files, Identity};

/// What stands before the point in the SPKI of an uncompressed P-256 key (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// All that is secret, and what proves the others.
pub struct Keys {
    pub identity: Identity,
    signing_key: CurrentKey,
    /// Which of the box's pairs these are.
    pub pair: Pair,
    hub_keys: Vec<PublicKey>,
    /// For the office's network, where the configuration names the files.
    pub http: Option<Arc<ServerConfig>>,
}

impl Keys {
    /// Reads every file that the configuration names; on faults gives all of them.
    pub fn load(config: &Config, clock: &Clock) -> Result<Keys, Vec<Fault>> {
        let mut faults = Vec::new();
        let generations = Generations::of(config);
        let mut pair = generations.in_force();
        if pair.number != 0
            && let Err(fault) = Own::load(config, clock, &pair)
        {
            // It belongs to nobody else, and a box that takes records in is better than none.
            tracing::error!(fault = %fault.message_en, file = %fault.file.display(), "the box's own pair cannot be used; the configured one is");
            pair = generations.configured().clone();
        }
        let mut keep = |fault: Fault| faults.push(fault);
        let identity = identity(config, clock, &pair).map_err(&mut keep).ok();
        let signing_key = signing_key(&pair.key).map_err(&mut keep).ok();
        let hub_keys: Vec<Option<PublicKey>> = config
            .hub
            .receipt_keys
            .iter()
            .map(|file| public_key(file).map_err(&mut keep).ok())
            .collect();
        let http = match &config.http.tls {
            Some(HttpSecure::Files(tls)) => server(tls).map_err(&mut keep).ok().map(Some),
            Some(HttpSecure::Own) | None => Some(None),
        };
        match (identity, signing_key, http) {
            (Some(identity), Some(signing_key), Some(http)) if faults.is_empty() => {
                let hub_keys = hub_keys.into_iter().flatten().collect();
                Ok(Keys {
                    identity,
                    signing_key: signing_key.into(),
                    pair,
                    hub_keys,
                    http,
                })
            }
            _ => {
                // A key that rustls refuses is refused for signing too; it is said once.
                faults.dedup_by(|a, b| a.file == b.file);
                Err(faults)
            }
        }
    }

    /// What signs; it can be replaced while everybody holds it.
    pub fn signing_key(&self) -> CurrentKey {
        self.signing_key.clone()
    }

    pub fn hub_keys(&self) -> Vec<PublicKey> {
        self.hub_keys.clone()
    }
}

/// One pair, read.
pub struct Own {
    pub identity: Identity,
    pub signing_key: SigningKey,
}

impl Own {
    pub fn load(config: &Config, clock: &Clock, pair: &Pair) -> Result<Own, Fault> {
        Ok(Own {
            identity: identity(config, clock, pair)?,
            signing_key: signing_key(&pair.key)?,
        })
    }
}

fn identity(config: &Config, clock: &Clock, pair: &Pair) -> Result<Identity, Fault> {
    let HubConfig {
        authority,
        allow_tls12,
        ..
    } = &config.hub;
    let certificate = &pair.certificate;
    let files = Files {
        authority: authority.clone(),
        certificate: certificate.clone(),
        key: pair.key.clone(),
    };
    let identity = Identity::load(&files, clock, *allow_tls12).map_err(of_tls)?;
    let name = &identity.facts.common_name;
    if name != config.box_id.as_str() {
        let box_id = &config.box_id;
        let wrong = Wrong {
            vi: format!("chứng thư cấp cho “{name}”, còn cấu hình là trạm “{box_id}”"),
            en: format!("the certificate is for {name:?}, the configuration is of box {box_id}"),
            hint_vi: "Chép đúng chứng thư của trạm này, hoặc sửa box.id.".to_owned(),
            hint_en: "Copy the certificate of this box, or correct box.id.".to_owned(),
        };
        return Err(of_file(certificate, "hub.certificate", wrong));
    }
    Ok(identity)
}

/// Reads a key that signs batches.
pub fn signing_key(file: &Path) -> Result<SigningKey, Fault> {
    let key = PrivatePkcs8KeyDer::from_pem_file(file).ok();
    key.and_then(|key| SigningKey::from_pkcs8(key.secret_pkcs8_der()).ok())
        .ok_or_else(|| {
            let wrong = Wrong::new(
                "không phải là khóa riêng ECDSA P-256 dạng PKCS#8 PEM",
                "is not an ECDSA P-256 private key in PKCS#8 PEM",
                "Dùng box.key do trục cấp (trucd box add).",
                "Use the box.key that the hub issued (trucd box add).",
            );
            of_file(file, "hub.key", wrong)
        })
}

fn public_key(file: &Path) -> Result<PublicKey, Fault> {
    let key = SubjectPublicKeyInfoDer::from_pem_file(file).ok();
    let point = key
        .as_ref()
        .and_then(|key| key.strip_prefix(P256_PREFIX.as_slice()));
    point
        .and_then(|point| PublicKey::from_bytes(point).ok())
        .ok_or_else(|| {
            let wrong = Wrong::new(
                "không phải là khóa công khai ECDSA P-256 dạng PEM (PUBLIC KEY)",
                "is not an ECDSA P-256 public key in PEM (PUBLIC KEY)",
                "Chép lại khóa biên nhận của trục (hub.pub).",
                "Copy the hub's receipt key again (hub.pub).",
            );
            of_file(file, "hub.receipt_keys", wrong)
        })
}

/// TLS for agency software: no client certificates, tokens tell who it is.
pub fn server(files: &HttpTls) -> Result<Arc<ServerConfig>, Fault> {
    let wrong = |vi: &str, en: &str| {
        Wrong::new(
            vi,
            en,
            "Kiểm tra http.certificate và http.key (PEM, cùng một lần cấp).",
            "Check http.certificate and http.key (PEM, of the same issue).",
        )
    };
    let chain: Option<Vec<_>> = CertificateDer::pem_file_iter(&files.certificate)
        .ok()
        .and_then(|found| found.collect::<Result<Vec<_>, _>>().ok())
        .filter(|chain| !chain.is_empty());
    let Some(chain) = chain else {
        let wrong = wrong(
            "không có chứng thư PEM nào đọc được",
            "holds no readable PEM certificate",
        );
        return Err(of_file(&files.certificate, "http.certificate", wrong));
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|_| {
        let wrong = wrong(
            "không có khóa riêng PEM nào đọc được",
            "holds no readable PEM private key",
        );
        of_file(&files.key, "http.key", wrong)
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for both versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| {
            let wrong = wrong(
                "khóa không thuộc về chứng thư",
                "the key does not belong to the certificate",
            );
            of_file(&files.key, "http.key", wrong)
        })?;
    Ok(Arc::new(config))
}

fn of_tls(fault: tls::Fault) -> Fault {
    let [hint_vi, hint_en] = fault.hints();
    Fault {
        file: fault.file.clone(),
        line: None,
        key: String::new(),
        message_vi: format!("không dùng được: {}", fault.problem),
        message_en: fault.problem.to_string(),
        hint_vi: hint_vi.to_owned(),
        hint_en: hint_en.to_owned(),
    }
}

fn of_file(file: &Path, key: &str, wrong: Wrong) -> Fault {
    Fault {
        file: file.to_owned(),
        line: None,
        key: key.to_owned(),
        message_vi: wrong.vi,
        message_en: wrong.en,
        hint_vi: wrong.hint_vi,
        hint_en: wrong.hint_en,
    }
}
