//! A browser as far as forms need one: cookies, the token of the last page's form, no script, and an
//! address of its own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

pub struct Browser {
    port: u16,
    address: Ipv4Addr,
    pub cookies: BTreeMap<String, String>,
    /// The token that the last page's forms carried.
    pub token: String,
    /// Lines that it sends beside the usual ones.
    pub headers: Vec<String>,
}

#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Page {
    pub fn location(&self) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("location: "));
        line.map(|line| &line["location: ".len()..])
    }

    /// The page, which must have been shown.
    #[track_caller]
    pub fn ok(self) -> Page {
        assert_eq!(self.status, 200, "{}\n{}", self.head, self.body);
        self
    }
}

impl Browser {
    pub fn new(port: u16) -> Browser {
        Browser::at(port, Ipv4Addr::LOCALHOST)
    }

    /// A browser on another machine.
    pub fn at(port: u16, address: Ipv4Addr) -> Browser {
        Browser {
            port,
            address,
            cookies: BTreeMap::new(),
            token: String::new(),
            headers: Vec::new(),
        }
    }

    pub fn get(&mut self, path: &str) -> Page {
        self.send("GET", path, None)
    }

    /// Sends a form with the last page's token.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = self.token.clone();
        let mut all = vec![("ma_bieu_mau", token.as_str())];
        all.extend_from_slice(fields);
        self.post_raw(path, &all)
    }

    /// Sends exactly these fields.
    pub fn post_raw(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        self.send("POST", path, Some(pairs.join("&")))
    }

    /// Looks at the page of a deed, then confirms it with the fields that stand there and those that
    /// are given; follows to where it tells how it went.
    #[track_caller]
    pub fn confirm(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let page = self.get(path).ok();
        let mut all = hidden(&page.body);
        for (name, value) in fields {
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.follow(&action(&page.body), all)
    }

    #[track_caller]
    pub fn follow(&mut self, action: &str, fields: Vec<(String, String)>) -> Page {
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .filter(|(name, _)| name != "ma_bieu_mau")
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let told = self.post(action, &fields);
        match told.location() {
            Some(next) => {
                let next = next.to_owned();
                self.get(&next).ok()
            }
            None => told,
        }
    }

    fn send(&mut self, method: &str, path: &str, body: Option<String>) -> Page {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((self.address, 0)).into())
            .unwrap();
        let box_address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        socket.connect(&box_address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let body = body.unwrap_or_default();
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.port,
            body.len()
        );
        if !cookies.is_empty() {
            head.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        for line in &self.headers {
            head.push_str(&format!("{line}\r\n"));
        }
        stream
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head_end = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
        let bytes = answer[head_end + 4..].to_vec();
        let head = std::str::from_utf8(&answer[..head_end]).unwrap();
        // A page is UTF-8; whatever else comes is looked at as bytes.
        let body = String::from_utf8_lossy(&bytes);
        let body = body.as_ref();
        let body = match head.contains("transfer-encoding: chunked") {
            true => &joined(body),
            false => body,
        };
        for line in head.lines() {
            if let Some(cookie) = line.strip_prefix("set-cookie: ") {
                let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
                match value.is_empty() {
                    true => self.cookies.remove(name),
                    false => self.cookies.insert(name.to_owned(), value.to_owned()),
                };
            }
        }
        if let Some((_, token)) = hidden(body)
            .into_iter()
            .find(|(name, _)| name == "ma_bieu_mau")
        {
            self.token = token;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_page = head.contains("content-type: text/html");
        if is_page && path.starts_with("/ky-thuat") && [200, 409, 422].contains(&status) {
            assert_usable(body);
            assert_language(path.contains("lang=en"), body);
        }
        Page {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
            bytes,
        }
    }
}

/// A body that came in pieces (RFC 9112, 7.1).
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").unwrap();
        match usize::from_str_radix(length, 16).unwrap() {
            0 => return whole,
            length => {
                whole.push_str(&rest[..length]);
                body = &rest[length + 2..];
            }
        }
    }
}

/// The page speaks the language that was asked for, and everything that it leads to within the box does,
/// except for the way to the other language.
#[track_caller]
fn assert_language(is_english: bool, html: &str) {
    let code = if is_english { "en" } else { "vi" };
    assert!(html.contains(&format!("<html lang=\"{code}\">")), "{html}");
    for mark in [" href=\"", " action=\""] {
        for rest in html.split(mark).skip(1) {
            let (address, rest) = rest.split_once('"').unwrap();
            let is_switch = rest.starts_with(" hreflang=");
            assert_eq!(
                address.contains("lang=en"),
                is_english != is_switch,
                "{address} in {html}"
            );
        }
    }
}

/// HTML Tidy finds nothing to say, everything that is filled in has a label, and nothing needs a
/// script, a style of its own or another place.
#[track_caller]
fn assert_usable(html: &str) {
    for mark in ["<script", " style=", "://", " onclick"] {
        assert!(!html.contains(mark), "{mark} in {html}");
    }
    for tag in ["<input ", "<textarea "] {
        for rest in html.split(tag).skip(1) {
            let rest = rest.split('>').next().unwrap();
            if let Some(id) = rest.split("id=\"").nth(1) {
                let label = format!("for=\"{}\"", id.split('"').next().unwrap());
                assert!(html.contains(&label), "{label} is missing in {html}");
            } else {
                assert!(rest.contains("type=\"hidden\""), "{rest} has no label");
            }
        }
    }
    let mut tidy = Command::new("tidy")
        .args(["-quiet", "-errors", "-utf8", "--show-info", "no"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidy is installed (.ci/setup)");
    tidy.stdin
        .take()
        .unwrap()
        .write_all(html.as_bytes())
        .unwrap();
    let output = tidy.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.is_empty(), "{said}\n{html}");
}

/// Where the form in a page's main part is sent.
pub fn action(body: &str) -> String {
    let main = body.split("<main>").nth(1).unwrap();
    let rest = main.split("<form method=\"post\" action=\"").nth(1);
    let rest = rest.unwrap_or_else(|| panic!("no form in {body}"));
    unescaped(rest.split('"').next().unwrap())
}

/// The hidden fields of a page, without those of the bar's own form.
pub fn hidden(body: &str) -> Vec<(String, String)> {
    let main = body.split("<main>").nth(1).unwrap_or_default();
    let main = if main.contains("<form") { main } else { body };
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split(&format!(" {name}=\"")).nth(1)?;
        Some(unescaped(rest.split('"').next()?))
    };
    main.split("<input type=\"hidden\"")
        .skip(1)
        .filter_map(|rest| {
            let tag = rest.split('>').next()?;
            Some((attribute(tag, "name")?, attribute(tag, "value")?))
        })
        .collect()
}

pub fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte))
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
