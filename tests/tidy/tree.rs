//! The tracked files, read once, and a view of Rust text that tells code, comments and strings
//! apart, so that a rule about code is not alarmed by a sentence.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A tracked file. Paths are relative to the repository and use `/`.
pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    /// The text, or nothing where the bytes are not UTF-8 or hold a NUL.
    pub text: String,
    /// For Rust, text of the same shape in which all else is blank. Empty for other files.
    pub code: String,
    pub comments: String,
    pub strings: String,
}

impl File {
    pub fn new(path: &str, bytes: Vec<u8>) -> File {
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) if !text.contains('\0') => text.to_owned(),
            _ => String::new(),
        };
        let [code, comments, strings] = if path.ends_with(".rs") {
            split(&text)
        } else {
            Default::default()
        };
        File {
            path: path.to_owned(),
            bytes,
            text,
            code,
            comments,
            strings,
        }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The floors, and with them most rules, are about what is shipped.
    pub fn is_source(&self) -> bool {
        self.is_rust() && self.path.starts_with("src/")
    }

    /// Bytes of other people's programs, kept as they were found.
    pub fn is_foreign_data(&self) -> bool {
        ["tests/data/", "tests/golden/", "tests/fuzz/corpus/"]
            .iter()
            .any(|folder| self.path.starts_with(folder))
    }

    /// A fault at an offset of `text`, `code`, `comments` or `strings`, which have the same shape.
    pub fn fault(&self, offset: usize, what: impl Into<String>) -> Fault {
        let line = 1 + self.bytes[..offset.min(self.bytes.len())]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        Fault {
            path: self.path.clone(),
            line,
            what: what.into(),
        }
    }
}

/// Where a rule is broken, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// All tracked files, in the order of their paths.
pub fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        paths(root)
            .into_iter()
            .map(|path| {
                let bytes = std::fs::read(root.join(&path)).expect("a listed file can be read");
                File::new(&path, bytes)
            })
            .collect()
    })
}

/// What git tracks or would track, or all files where the sources came without git.
fn paths(root: &Path) -> BTreeSet<String> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output();
    let paths: BTreeSet<String> = match listed {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .expect("names of tracked files are UTF-8")
            .split_terminator('\0')
            .map(str::to_owned)
            .filter(|path| root.join(path).is_file())
            .collect(),
        _ => {
            let mut found = BTreeSet::new();
            walk(root, root, &mut found);
            found
        }
    };
    assert!(
        paths.contains("Cargo.toml"),
        "the list of files is not that of this package"
    );
    paths
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    let is_built = |path: &PathBuf| {
        [".git", ".cross", "target", "site"]
            .iter()
            .any(|name| path.ends_with(name))
    };
    for entry in std::fs::read_dir(folder).expect("a folder of the sources can be listed") {
        let path = entry.expect("an entry of a folder can be read").path();
        if path.is_dir() && !is_built(&path) {
            walk(root, &path, found);
        } else if path.is_file() {
            let path = path
                .strip_prefix(root)
                .expect("a walk stays below its root");
            found.insert(
                path.to_str()
                    .expect("names of sources are UTF-8")
                    .to_owned(),
            );
        }
    }
}

/// Rust text as code, comments and insides of strings; each has the bytes of its own kind at their
/// places, and blanks and line ends elsewhere.
fn split(text: &str) -> [String; 3] {
    const CODE: usize = 0;
    const COMMENT: usize = 1;
    const STRING: usize = 2;
    let bytes = text.as_bytes();
    let mut views = [(); 3].map(|()| {
        bytes
            .iter()
            .map(|b| if *b == b'\n' { b'\n' } else { b' ' })
            .collect::<Vec<u8>>()
    });
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (kind, length) = if rest.starts_with(b"//") {
            (
                COMMENT,
                rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            )
        } else if rest.starts_with(b"/*") {
            (COMMENT, block_comment(rest))
        } else if let Some(length) = raw_string(bytes, at) {
            (STRING, length)
        } else if rest[0] == b'"' {
            (STRING, quoted(rest, b'"'))
        } else if let Some(length) = character(rest) {
            (STRING, length)
        } else {
            (CODE, 1)
        };
        views[kind][at..at + length].copy_from_slice(&bytes[at..at + length]);
        at += length;
    }
    views.map(|view| String::from_utf8(view).expect("kinds change only at ASCII characters"))
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length of `r"…"`, `r#"…"#`, `br"…"` and so on that begins here.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    if at > 0 && is_word(&bytes[at - 1]) {
        return None;
    }
    let rest = &bytes[at..];
    let prefix = usize::from(matches!(rest[0], b'b' | b'c'));
    let hashes = rest
        .get(prefix + 1..)?
        .iter()
        .take_while(|b| **b == b'#')
        .count();
    let quote = prefix + 1 + hashes;
    if rest[prefix] != b'r' || rest.get(quote) != Some(&b'"') {
        return None;
    }
    let end: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let inside = &rest[quote + 1..];
    let length = inside.windows(end.len()).position(|window| window == end);
    Some(length.map_or(rest.len(), |length| quote + 1 + length + end.len()))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a character literal, as opposed to a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted(rest, b'\''));
    }
    let inside = std::str::from_utf8(&rest[1..]).ok()?.chars().next()?;
    (rest.get(1 + inside.len_utf8()) == Some(&b'\'')).then(|| inside.len_utf8() + 2)
}

/// Places of a word or path in text; a letter, digit or `_` on either side makes it another word.
pub fn places<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = text.as_bytes();
    let opens = is_word(needle.as_bytes().first());
    let closes = is_word(needle.as_bytes().last());
    text.match_indices(needle)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            let after = bytes.get(at + needle.len());
            !((opens && is_word(before)) || (closes && is_word(after)))
        })
}

#[test]
fn code_comments_and_strings_are_told_apart() {
    let text = "let a = 'x'; // one\nlet b: &'static str = \"two // \\\" no\"; /* three /* four */ */ c\n\
                let d = r#\"five \" \"#; br\"six\"; let her = '\\''; f(\"\")";
    let [code, comments, strings] = split(text);
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        words(&code),
        "let a = ; let b: &'static str = ; c let d = ; ; let her = ; f( )"
    );
    assert_eq!(words(&comments), "// one /* three /* four */ */");
    assert_eq!(
        words(&strings),
        "'x' \"two // \\\" no\" r#\"five \" \"# br\"six\" '\\'' \"\""
    );
    assert_eq!(code.len(), text.len());
}

#[test]
fn a_word_is_not_found_inside_another() {
    assert_eq!(
        places("unsafe_code unsafe unsafely", "unsafe").collect::<Vec<_>>(),
        [12]
    );
    assert_eq!(
        places("a.execute(x) self.execute_batch(", ".execute(").collect::<Vec<_>>(),
        [1]
    );
}
