//! What a browser sends: fields of a form or a query, cookies, and where a request comes from.

use axum::http::{HeaderMap, header};

/// Fields that one form may have.
const FIELDS_MAX: usize = 1_000;
/// The browser's half of a session, and of a form that is sent before there is one. Where the page
/// has TLS the prefix makes browsers hold to `Secure` and `Path=/`.
const SESSION: [&str; 2] = ["phien", "__Host-phien"];
const BEFORE: [&str; 2] = ["truoc", "__Host-truoc"];

/// Names with their values, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// `application/x-www-form-urlencoded`; what is not readable is left out.
    pub fn parse(text: &[u8]) -> Fields {
        let pairs = text.split(|byte| *byte == b'&').take(FIELDS_MAX);
        let fields = pairs.filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            Some((decoded(&pair[..at])?, decoded(&pair[at + 1..])?))
        });
        Fields(fields.collect())
    }

    /// The first of this name; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [*rest.next()?, *rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A value as it stands in an address's query (RFC 3986).
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The secrets that the browser holds.
#[derive(Debug, Clone, Default)]
pub struct Cookies {
    pub session: Option<String>,
    pub before: Option<String>,
}

impl Cookies {
    pub fn of(headers: &HeaderMap, is_secure: bool) -> Cookies {
        let find = |names: [&str; 2]| {
            let name = names[usize::from(is_secure)];
            let lines = headers.get_all(header::COOKIE).iter();
            let mut pairs = lines
                .filter_map(|line| line.to_str().ok())
                .flat_map(|line| line.split(';'))
                .filter_map(|pair| pair.trim().split_once('='));
            let found = pairs.find(|(known, _)| *known == name)?.1;
            let is_ours = found.len() == 64 && found.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_ours.then(|| found.to_owned())
        };
        Cookies {
            session: find(SESSION),
            before: find(BEFORE),
        }
    }
}

/// The line that gives the browser its half of a session.
pub fn session_cookie(secret: &str, is_secure: bool) -> String {
    cookie(SESSION, secret, is_secure)
}

/// The same before there is a session.
pub fn before_cookie(secret: &str, is_secure: bool) -> String {
    cookie(BEFORE, secret, is_secure)
}

/// The line that takes it away.
pub fn no_session_cookie(is_secure: bool) -> String {
    format!("{}; Max-Age=0", cookie(SESSION, "", is_secure))
}

fn cookie(names: [&str; 2], value: &str, is_secure: bool) -> String {
    let name = names[usize::from(is_secure)];
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

/// Whether a form was sent from a page of ours, by what the browser itself says. A browser that is
/// too old to say anything is judged by the form's token alone.
pub fn is_from_here(headers: &HeaderMap, is_secure: bool) -> bool {
    let word = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = word("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = word("origin") else {
        return true;
    };
    let scheme = if is_secure { "https" } else { "http" };
    let host = word("host").unwrap_or("?");
    origin.eq_ignore_ascii_case(&format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn fields_are_decoded_and_nonsense_is_left_out() {
        let fields = Fields::parse("ten=l%C3%A2n+an&x=%ZZ&so=1&so=2&trong=&%ff=1&khong".as_bytes());
        assert_eq!(fields.get("ten"), "lân an");
        assert_eq!(
            (fields.get("so"), fields.get("x"), fields.get("trong")),
            ("1", "", "")
        );
        assert_eq!(fields.iter().count(), 4);
        assert_eq!(
            decoded(encoded("tệp & 1.csv").as_bytes()).unwrap(),
            "tệp & 1.csv"
        );
    }

    #[test]
    fn forms_of_other_pages_are_known() {
        for (pairs, is_secure, expected) in [
            (vec![("sec-fetch-site", "same-origin")], true, true),
            (vec![("sec-fetch-site", "cross-site")], true, false),
            (vec![("sec-fetch-site", "same-site")], true, false),
            (vec![("sec-fetch-site", "none")], true, false),
            (
                vec![("host", "tram:8480"), ("origin", "https://tram:8480")],
                true,
                true,
            ),
            (
                vec![("host", "tram:8480"), ("origin", "http://tram:8480")],
                true,
                false,
            ),
            (
                vec![("host", "tram:8480"), ("origin", "null")],
                false,
                false,
            ),
            (
                vec![("host", "tram"), ("origin", "http://tram.example")],
                false,
                false,
            ),
            (vec![("host", "tram")], false, true),
        ] {
            assert_eq!(
                is_from_here(&headers(&pairs), is_secure),
                expected,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_cookie_of_the_other_kind_is_none() {
        let secret = "a1".repeat(32);
        let line = format!("x=1; phien={secret}; __Host-truoc=zz");
        let cookies = Cookies::of(&headers(&[("cookie", &line)]), false);
        assert_eq!((cookies.session, cookies.before), (Some(secret), None));
        let cookies = Cookies::of(&headers(&[("cookie", &line)]), true);
        assert_eq!((cookies.session, cookies.before), (None, None));
        assert_eq!(
            session_cookie("s", true),
            "__Host-phien=s; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
    }
}
