//! Floor 5, the shells around the engine: clocks, TLS, the MQTT courier, systemd and the log.

pub mod archive;
pub mod backoff;
pub mod clock;
pub mod courier;
pub mod der;
pub mod dial;
#[cfg(feature = "edge")]
pub mod dns;
pub mod down;
pub mod drive;
#[cfg(any(feature = "edge", feature = "hub"))]
pub mod ftp;
#[cfg(feature = "edge")]
pub mod lan;
pub mod logging;
pub mod mqtt;
#[cfg(feature = "edge")]
pub mod mqtt_in;
pub mod replace;
pub mod scan;
pub mod sealed;
#[cfg(feature = "edge")]
pub mod self_signed;
pub mod settings;
pub mod signals;
pub mod stick;
pub mod systemd;
pub mod tls;
#[cfg(any(feature = "edge", feature = "hub"))]
pub mod web;
pub mod x509;
