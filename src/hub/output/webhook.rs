//! Kind `webhook`: CloudEvents in structured form by HTTP POST, one or a batch a request. The same
//! event always carries the same `id` and the same `Idempotency-Key`, so that a receiver can tell a
//! repeat.

use std::path::PathBuf;
use std::time::Duration;

use ring::hmac;

use crate::evidence::sha256;
use crate::hub::output::event::Event;
use crate::hub::output::http::{self, Client, Endpoint};
use crate::hub::output::{Adapter, Delivery, Failure, Receipt, Trouble, secret, settings};
use crate::model::UnixMs;
use crate::shell::settings::section::Section;
use crate::shell::systemd::credential;

/// Bytes of one request, unless a single event is longer.
const BODY_BYTES_MAX: usize = 1 << 20;
const SIGNATURE: &str = "x-lienthong-signature";

#[derive(Debug, Clone)]
pub struct WebhookConfig {
    pub endpoint: Endpoint,
    /// Events of one request; 1: an event, else a list of them.
    pub events_max: usize,
    pub token: Option<PathBuf>,
    /// Key of the HMAC-SHA256 signature.
    pub hmac_key: Option<PathBuf>,
    pub every_ms: u64,
}

pub fn settings(section: &mut Section) -> Option<WebhookConfig> {
    let timeout = settings::timeout(section);
    let endpoint = http::settings(section, timeout);
    let token = section.optional_path("token_file");
    let hmac_key = section.optional_path("hmac_key_file");
    let events_max = section.number("events", 1, 1..=1_000);
    let every_ms = settings::every(section, "0 s");
    Some(WebhookConfig {
        endpoint: endpoint?,
        events_max: usize::try_from(events_max?).expect("bounded above"),
        token: token?.map(credential),
        hmac_key: hmac_key?.map(credential),
        every_ms: every_ms?,
    })
}

pub struct Webhook {
    config: WebhookConfig,
    client: Client,
    token: Option<String>,
    key: Option<hmac::Key>,
}

impl Webhook {
    pub fn open(config: &WebhookConfig) -> Result<Webhook, Trouble> {
        let token = config
            .token
            .as_deref()
            .map(http::header_secret)
            .transpose()?;
        let key = config.hmac_key.as_deref().map(secret).transpose()?;
        Ok(Webhook {
            client: Client::open(&config.endpoint)?,
            token,
            key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())),
            config: config.clone(),
        })
    }

    fn post(&self, events: &[Event], now: UnixMs) -> Result<(), Failure> {
        let (kind, body) = match (self.config.events_max, events) {
            (1, [event]) => ("application/cloudevents+json", event.json.clone()),
            _ => {
                let list: Vec<&str> = events.iter().map(|event| event.json.as_str()).collect();
                let body = format!("[{}]", list.join(","));
                ("application/cloudevents-batch+json", body)
            }
        };
        let mut headers = vec![
            ("content-type".to_owned(), kind.to_owned()),
            ("idempotency-key".to_owned(), idempotency_key(events)),
        ];
        if let Some(token) = &self.token {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        if let Some(key) = &self.key {
            let signature = signature(key, now.0 / 1000, body.as_bytes());
            headers.push((SIGNATURE.to_owned(), signature));
        }
        let answer = self
            .client
            .post(&self.config.endpoint.url, &headers, body.as_bytes())?;
        http::judge(&answer)
    }
}

impl Adapter for Webhook {
    fn events_max(&self) -> usize {
        self.config.events_max
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Failure> {
        let bytes: usize = delivery.events.iter().map(|event| event.json.len()).sum();
        if BODY_BYTES_MAX < bytes && 1 < delivery.events.len() {
            // They come again one by one.
            return Err(Failure::Data {
                reason: "too_large",
                detail: format!("{bytes} bytes in one request"),
            });
        }
        self.post(delivery.events, delivery.now)?;
        Ok(Receipt::default())
    }
}

/// Of one event its digest; of several a digest of theirs.
fn idempotency_key(events: &[Event]) -> String {
    match events {
        [event] => event.digest[..32].to_owned(),
        several => {
            let all: String = several.iter().map(|event| event.digest.as_str()).collect();
            let digest = sha256(all.as_bytes());
            digest[..16]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        }
    }
}

/// `t=<seconds>,v1=<hex>`: HMAC-SHA256 over the seconds, a full stop and the body.
fn signature(key: &hmac::Key, now_s: i64, body: &[u8]) -> String {
    let signed = [format!("{now_s}.").as_bytes(), body].concat();
    let tag = hmac::sign(key, &signed);
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={now_s},v1={hex}")
}

impl WebhookConfig {
    pub fn gather(&self) -> Duration {
        Duration::from_millis(self.every_ms)
    }
}
