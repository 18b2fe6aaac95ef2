//! HTTP to other people's services: one agent with its limits, and what is told of their answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::http::HeaderMap;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::shell::tls;

/// Longest pause that a service may ask for, seconds.
const RETRY_AFTER_S_MAX: u64 = 3_600;

/// An agent that gives up after `timeout`. With an authority, only who has a certificate of it is
/// trusted; without one, https is not spoken.
pub fn agent(timeout: Duration, authority: Option<&Path>) -> Result<Agent, tls::Fault> {
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect leads to a captive portal, or hands data and token to somebody else.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("lienthong/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(timeout));
    let roots: Vec<Certificate<'static>> = match authority {
        Some(file) => tls::read_authorities(file)?
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect(),
        None => Vec::new(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::Specific(Arc::new(roots)));
    builder = builder.tls_config(tls.build());
    Ok(builder.build().into())
}

/// How long the service wants to be left alone.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)))
}

/// Why there was no answer. The library's words may hold the address with its parameters, so errors
/// are told by their kind.
pub fn kind_of(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "timeout".to_owned(),
        ureq::Error::HostNotFound => "host not found".to_owned(),
        ureq::Error::Io(error) => match distrust(error) {
            Some(distrust) => format!("TLS: {distrust}"),
            None => error.kind().to_string(),
        },
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::ConnectionFailed => "connection failed".to_owned(),
        _ => "not an HTTP answer".to_owned(),
    }
}

/// What TLS says, wrapped in an error of the connection.
fn distrust(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
