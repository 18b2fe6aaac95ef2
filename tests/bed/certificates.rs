//! Certificates of servers for tests: good ones, and each kind of bad one.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// What a server shows.
#[derive(Debug, Clone)]
pub struct Shown {
    pub certificate: String,
    pub key: String,
    /// Whoever signed it.
    pub authority: String,
}

/// An authority and what it has issued, and a stranger.
pub struct Certificates {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let own = params.self_signed(&key).unwrap().pem();
            std::fs::write(folder.path().join(format!("{name}.pem")), own).unwrap();
            Issuer::new(params, key)
        };
        make("stranger");
        let issuer = make("ca");
        Certificates { folder, issuer }
    }

    /// File with the authority `ca`, or with that of a `stranger`.
    pub fn authority(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    /// A certificate for a host.
    pub fn good(&self) -> Shown {
        self.issue(&["localhost", "127.0.0.1"], |_| {})
    }

    pub fn of_another_host(&self) -> Shown {
        self.issue(&["khac.example"], |_| {})
    }

    pub fn expired(&self) -> Shown {
        self.issue(&["localhost", "127.0.0.1"], |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
    }

    pub fn of_the_future(&self) -> Shown {
        self.issue(&["localhost", "127.0.0.1"], |params| {
            params.not_before = rcgen::date_time_ymd(2090, 1, 1);
            params.not_after = rcgen::date_time_ymd(2091, 1, 1);
        })
    }

    /// Of a client, not of a server.
    pub fn of_a_client(&self) -> Shown {
        self.issue(&["localhost", "127.0.0.1"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn issue(&self, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, "server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Shown {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authority: std::fs::read_to_string(self.authority("ca")).unwrap(),
        }
    }
}
