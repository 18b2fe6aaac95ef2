//! What a service answers, read without trust: items, and where it goes on.

use serde_json::value::RawValue;

use crate::edge::config::http_pull::{HttpPullConfig, Paging};
use crate::edge::connectors::Fault;
use crate::edge::json_rows::{at, is_null, text_of};

/// Where one page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// As the configuration says.
    First,
    /// The same with one parameter more.
    With(String, String),
    /// The address that the answer before named.
    Url(String),
}

/// One page.
#[derive(Debug)]
pub struct Page<'a> {
    pub items: Vec<&'a RawValue>,
    /// None at the end.
    pub next: Option<Place>,
    /// Where the next round goes on, for a service that has such a place.
    pub cursor: Option<String>,
}

/// Finds items and the next place. `sum` counts the items before this page, `number` the pages.
pub fn read<'a>(
    config: &HttpPullConfig,
    body: &'a RawValue,
    link: Option<&str>,
    sum: u64,
    number: u64,
) -> Result<Page<'a>, Fault> {
    let items = at(body, &config.items).filter(|items| items.get().starts_with('['));
    let items: Option<Vec<&RawValue>> =
        items.and_then(|items| serde_json::from_str(items.get()).ok());
    let items = items.ok_or_else(|| no_items(config))?;
    let text = |pointer: &str| {
        let found = at(body, pointer).filter(|found| !is_null(found));
        found.and_then(text_of).filter(|text| !text.is_empty())
    };
    let mut cursor = None;
    let next = match &config.paging {
        Paging::None => None,
        // Only an empty page is the end: a service may give fewer items than it was asked for.
        Paging::Page { .. } | Paging::Offset { .. } if items.is_empty() => None,
        Paging::Page { param, first } => {
            Some(Place::With(param.clone(), (first + number + 1).to_string()))
        }
        Paging::Offset { param } => {
            let offset = sum + items.len() as u64;
            Some(Place::With(param.clone(), offset.to_string()))
        }
        Paging::Next { pointer } => match text(pointer) {
            Some(url) => Some(Place::Url(resolve(&config.url, &url)?)),
            None => None,
        },
        Paging::Link => match link.and_then(next_of_link) {
            Some(url) => Some(Place::Url(resolve(&config.url, &url)?)),
            None => None,
        },
        Paging::Cursor { param, pointer } => {
            cursor = text(pointer);
            let more = cursor.clone().filter(|_| !items.is_empty());
            more.map(|cursor| Place::With(param.clone(), cursor))
        }
    };
    Ok(Page {
        items,
        next,
        cursor,
    })
}

/// The target of `rel="next"` (RFC 8288).
fn next_of_link(header: &str) -> Option<String> {
    for link in header.split(",") {
        let (target, parameters) = link.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            matches!(parameter.as_str(), "rel=next" | "rel=\"next\"")
        });
        if is_next {
            return Some(target.trim().strip_prefix('<')?.to_owned());
        }
    }
    None
}

/// The next address. One on another server is not followed: it would be handed our token.
fn resolve(base: &str, next: &str) -> Result<String, Fault> {
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    let origin_end = base[scheme_end..]
        .find('/')
        .map_or(base.len(), |at| scheme_end + at);
    let origin = &base[..origin_end];
    let path = base.split('?').next().unwrap_or(base);
    if next.starts_with("http://") || next.starts_with("https://") {
        let is_own = next
            .strip_prefix(origin)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        return match is_own {
            true => Ok(next.to_owned()),
            false => Err(Fault::new(
                "http_next",
                [
                    "dịch vụ chỉ sang một máy chủ khác cho trang tiếp theo; trạm không đi theo",
                    "the service names another server for its next page; the box does not follow",
                ],
                [
                    "Sửa url trong cấu hình cho đúng máy chủ của dịch vụ (cả giao thức và cổng).",
                    "Set url in the configuration to the service's own server (scheme and port too).",
                ],
            )),
        };
    }
    Ok(match next.chars().next() {
        Some('/') => format!("{origin}{next}"),
        Some('?') => format!("{path}{next}"),
        _ => {
            let folder = path
                .rfind('/')
                .filter(|at| scheme_end < *at)
                .map_or(path.len(), |at| at);
            format!("{}/{next}", &path[..folder])
        }
    })
}

fn no_items(config: &HttpPullConfig) -> Fault {
    let place = match config.items.as_str() {
        "" => "/",
        place => place,
    };
    Fault::new(
        "http_shape",
        [
            format!("câu trả lời của dịch vụ không có danh sách ở {place}; con trỏ giữ nguyên"),
            format!("the service's answer has no list at {place}; the cursor stands still"),
        ],
        [
            "Dịch vụ có thể đã đổi cách trả lời: so lại với tài liệu của nó, rồi sửa items, key và [source.fields].",
            "The service may have changed its answers: compare with its documentation, then correct items, key and [source.fields].",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_next_address_stays_on_its_server() {
        let base = "https://pm.example:8443/api/ho-so?x=1";
        for (next, expected) in [
            (
                "/api/ho-so?page=2",
                Some("https://pm.example:8443/api/ho-so?page=2"),
            ),
            ("?page=2", Some("https://pm.example:8443/api/ho-so?page=2")),
            ("trang-2", Some("https://pm.example:8443/api/trang-2")),
            (
                "https://pm.example:8443/b",
                Some("https://pm.example:8443/b"),
            ),
            ("https://pm.example:84430/b", None),
            ("https://pm.example:8443.kẻ-xấu.example/b", None),
            ("http://pm.example:8443/b", None),
        ] {
            assert_eq!(resolve(base, next).ok().as_deref(), expected, "{next}");
        }
    }

    #[test]
    fn links_name_the_next_page() {
        let header = "</a?page=1>; rel=\"prev\", </a?page=3>; rel=\"next\"; title=\"x\"";
        assert_eq!(next_of_link(header).as_deref(), Some("/a?page=3"));
        assert_eq!(next_of_link("</a>; rel=\"last\""), None);
    }

    proptest! {
        #[test]
        fn any_link_is_read(header in "\\PC{0,60}", next in "\\PC{0,40}") {
            let _ = (next_of_link(&header), resolve("https://a/b", &next));
        }
    }
}
