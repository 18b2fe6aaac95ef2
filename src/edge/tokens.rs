//! Who may hand in what over HTTP, look up what, and use the inbox.
//!
//! A token is known by its SHA-256 and compared in constant time, with every token that there is,
//! so that the time of an answer tells nothing. Who comes through the socket beside the store needs
//! none: the file system has let him in.

use axum::http::{HeaderMap, header};

use crate::edge::config::Token;
use crate::edge::config::load::PUT_SOURCE;
use crate::evidence::sha256;
use crate::model::{DatasetId, SourceName};

#[derive(Debug)]
pub struct Tokens {
    known: Vec<Known>,
    put: Known,
}

#[derive(Debug)]
struct Known {
    name: SourceName,
    sha256: [u8; 32],
    /// None: every dataset.
    datasets: Option<Vec<DatasetId>>,
    lookup: Option<Vec<DatasetId>>,
    inbox: bool,
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// Somebody whom we know.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'t> {
    known: &'t Known,
}

impl Tokens {
    pub fn new(tokens: &[Token]) -> Tokens {
        let known = tokens.iter().map(|token| Known {
            name: token.name.clone(),
            sha256: token.sha256,
            datasets: Some(token.datasets.clone()),
            lookup: Some(token.lookup.clone()),
            inbox: token.inbox,
        });
        let put = Known {
            name: put_source(),
            sha256: [0; 32],
            datasets: None,
            lookup: None,
            inbox: true,
        };
        Tokens {
            known: known.collect(),
            put,
        }
    }

    /// `tramd put`, through the socket beside the store.
    pub fn put(&self) -> Caller<'_> {
        Caller { known: &self.put }
    }

    /// Whether a request comes from somebody whom we know.
    pub fn know(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|token| self.find(token).is_some())
    }

    pub fn find(&self, token: &[u8]) -> Option<Caller<'_>> {
        let digest = sha256(token);
        let mut found = None;
        for known in &self.known {
            if is_same(&known.sha256, &digest) {
                found = Some(Caller { known });
            }
        }
        found
    }
}

impl<'t> Caller<'t> {
    pub fn name(self) -> &'t SourceName {
        &self.known.name
    }

    pub fn may_look_up(self, dataset: &DatasetId) -> bool {
        self.known
            .lookup
            .as_ref()
            .is_none_or(|datasets| datasets.contains(dataset))
    }

    pub fn may_use_inbox(self) -> bool {
        self.known.inbox
    }

    pub fn may_write(self, dataset: &DatasetId) -> bool {
        self.known
            .datasets
            .as_ref()
            .is_none_or(|datasets| datasets.contains(dataset))
    }
}

/// The source under which `tramd put` hands in.
pub fn put_source() -> SourceName {
    PUT_SOURCE
        .parse()
        .expect("the program's own name is a source name")
}

/// Takes the same time wherever the digests differ.
pub fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_datasets() {
        let dataset = |id: &str| id.parse::<DatasetId>().expect("valid");
        let token = Token {
            name: "mot-cua".parse().expect("valid"),
            sha256: sha256(b"bi-mat"),
            datasets: vec![dataset("ho_so_tthc")],
            lookup: vec![dataset("ho_tich")],
            inbox: false,
        };
        let tokens = Tokens::new(&[token]);
        let caller = tokens.find(b"bi-mat").expect("known");
        assert_eq!(caller.name().as_str(), "mot-cua");
        assert!(caller.may_write(&dataset("ho_so_tthc")) && !caller.may_write(&dataset("ho_tich")));
        assert!(
            caller.may_look_up(&dataset("ho_tich")) && !caller.may_look_up(&dataset("ho_so_tthc"))
        );
        assert!(!caller.may_use_inbox());
        let put = tokens.put();
        assert!(put.may_write(&dataset("ho_tich")) && put.name() == &put_source());
        for stranger in [&b""[..], b"bi-mat ", b"Bi-mat", b"put"] {
            assert!(tokens.find(stranger).is_none());
        }
    }
}
