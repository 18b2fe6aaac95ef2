//! Settings of kind `http_pull`: which address, how its pages follow each other, and what its items
//! mean.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::edge::config::load::one_of;
use crate::edge::config::mqtt::pointer;
use crate::edge::json_rows::Fields;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::systemd::credential;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Clone)]
pub struct HttpPullConfig {
    pub url: String,
    pub query: BTreeMap<String, String>,
    pub poll_ms: u64,
    pub timeout_ms: u64,
    pub body_bytes_max: u64,
    /// Whom to trust.
    pub authority: PathBuf,
    pub login: Option<Login>,
    /// JSON pointer to the list of items; empty when the answer is the list.
    pub items: String,
    /// JSON pointers within an item: together they name it.
    pub key: Vec<String>,
    pub paging: Paging,
    /// Parameter and value of a page's size.
    pub page_size: Option<(String, u64)>,
    pub since: Option<Since>,
    pub fields: Fields,
}

/// How one asks for what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// The answer is all.
    None,
    /// A number that grows by one.
    Page { param: String, first: u64 },
    /// A number that grows by the items that came.
    Offset { param: String },
    /// The answer names the next address, at a JSON pointer.
    Next { pointer: String },
    /// The answer names the next address, in its `Link` header.
    Link,
    /// The answer names the place to go on from, also in the next round.
    Cursor { param: String, pointer: String },
}

/// Only what changed since the last round is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub param: String,
    /// JSON pointer within an item: when it changed.
    pub place: String,
    pub start: String,
    /// The last so long is asked for again: changes that came late.
    pub overlap_ms: u64,
}

/// How the service knows us; the secret is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    Bearer(PathBuf),
    Basic { user: String, password: PathBuf },
    Header { name: String, secret: PathBuf },
}

pub fn read(mut section: Section) -> Option<HttpPullConfig> {
    let url = section.value("url", None, url);
    let query = section.rest("query");
    let poll_ms = section.duration("every", "5 min", 1_000..=7 * DAY_MS);
    let timeout_ms = section.duration("timeout", "30 s", 1_000..=600_000);
    let body_bytes_max = section.size("body_max", "8 MiB", KIB..=64 * MIB);
    let authority = section.path("ca", Some("/etc/ssl/certs/ca-certificates.crt"));
    let login = login(&mut section);
    let items = section.value("items", Some(""), pointer);
    let key = section.texts("key", None, pointer);
    let paging = paging(&mut section);
    let size_param = section.value("size_param", Some("size"), |text| Ok(text.to_owned()));
    let page_size = section.number("page_size", 0, 0..=100_000);
    let since = since(&mut section);
    let fields = section.rest("fields");
    Some(HttpPullConfig {
        url: url?,
        query: query?,
        poll_ms: poll_ms?,
        timeout_ms: timeout_ms?,
        body_bytes_max: body_bytes_max?,
        authority: authority?,
        login: login?,
        items: items?,
        key: key?,
        paging: paging?,
        page_size: Some((size_param?, page_size?)).filter(|(_, size)| 0 < *size),
        since: since?,
        fields: fields?,
    })
}

fn paging(section: &mut Section) -> Option<Paging> {
    const KNOWN: [&str; 6] = ["none", "page", "offset", "next", "link", "cursor"];
    let kind = section.value("paging", Some("none"), |text| match KNOWN.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(one_of(text, &KNOWN)),
    })?;
    let mut text = |key, default| section.value(key, Some(default), |text| Ok(text.to_owned()));
    Some(match kind.as_str() {
        "page" => {
            let param = text("page_param", "page")?;
            let first = section.number("page_first", 1, 0..=1)?;
            Paging::Page { param, first }
        }
        "offset" => Paging::Offset {
            param: text("page_param", "offset")?,
        },
        "next" => Paging::Next {
            pointer: section.value("next", Some("/next"), pointer)?,
        },
        "link" => Paging::Link,
        "cursor" => {
            let param = text("page_param", "cursor")?;
            let pointer = section.value("next", Some("/next_cursor"), pointer)?;
            Paging::Cursor { param, pointer }
        }
        _ => Paging::None,
    })
}

fn since(section: &mut Section) -> Option<Option<Since>> {
    let param = section.optional("since_param", |text| Ok(text.to_owned()))?;
    let Some(param) = param else {
        return Some(None);
    };
    let place = section.value("since_from", None, pointer);
    let start = section.value("since_start", None, |text| Ok(text.to_owned()));
    let overlap_ms = section.duration("overlap", "10 min", 0..=30 * DAY_MS);
    Some(Some(Since {
        param,
        place: place?,
        start: start?,
        overlap_ms: overlap_ms?,
    }))
}

fn login(section: &mut Section) -> Option<Option<Login>> {
    const KNOWN: [&str; 4] = ["none", "bearer", "basic", "header"];
    let kind = section.value("auth", Some("none"), |text| match KNOWN.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(one_of(text, &KNOWN)),
    })?;
    if kind == "none" {
        return Some(None);
    }
    let secret = section.path("token_file", None).map(credential);
    Some(Some(match kind.as_str() {
        "bearer" => Login::Bearer(secret?),
        "basic" => Login::Basic {
            user: section.value("user", None, |text| Ok(text.to_owned()))?,
            password: secret?,
        },
        _ => Login::Header {
            name: section.value("header", Some("X-Api-Key"), |text| Ok(text.to_owned()))?,
            secret: secret?,
        },
    }))
}

fn url(text: &str) -> Result<String, Wrong> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let is_good = |rest: &&str| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && !host.contains('@') && rest.chars().all(|c| c.is_ascii_graphic())
    };
    match rest.filter(is_good) {
        Some(_) => Ok(text.to_owned()),
        None => Err(Wrong {
            vi: format!("“{text}” không phải là địa chỉ dịch vụ web"),
            en: format!("{text:?} is not the address of a web service"),
            hint_vi:
                "Ví dụ: \"https://phan-mem.example/api/ho-so\"; không viết mật khẩu trong địa chỉ."
                    .to_owned(),
            hint_en:
                "For example: \"https://software.example/api/records\"; no password in the address."
                    .to_owned(),
        }),
    }
}
