//! Signing keys, made once per process: they are random, so nothing that a trace shows may depend
//! on them.

use std::sync::OnceLock;

use lienthong::evidence::{PublicKey, SigningKey};

pub const OFFICES_MAX: usize = 6;

struct Keys {
    hub: Vec<u8>,
    stranger: Vec<u8>,
    offices: [Vec<u8>; OFFICES_MAX],
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        hub: SigningKey::generate(),
        stranger: SigningKey::generate(),
        offices: std::array::from_fn(|_| SigningKey::generate()),
    })
}

fn read(der: &[u8]) -> SigningKey {
    SigningKey::from_pkcs8(der).expect("own key")
}

pub fn hub() -> SigningKey {
    read(&keys().hub)
}

pub fn hub_public() -> PublicKey {
    static KEY: OnceLock<PublicKey> = OnceLock::new();
    *KEY.get_or_init(|| hub().public_key())
}

/// A key that nobody registered.
pub fn stranger() -> SigningKey {
    read(&keys().stranger)
}

pub fn office(office: usize) -> SigningKey {
    read(&keys().offices[office])
}
