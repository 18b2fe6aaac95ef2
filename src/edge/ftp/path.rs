//! Paths as FTP clients see them. No such path ever reaches the file system: folders exist only in
//! memory, and a file lies on the disk under one flat name.

use std::fmt;

/// Longest path. A flat name may have 255 bytes.
const PATH_BYTES_MAX: usize = 240;
const NAME_BYTES_MAX: usize = 150;
const DEPTH_MAX: usize = 16;
/// What stands for `/` in a flat name; no path holds it.
const FLAT: char = '\\';

/// An absolute path within a login's own tree: `/`, or `/a/b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualPath(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable path")]
pub struct BadPath;

impl VirtualPath {
    pub fn root() -> VirtualPath {
        VirtualPath("/".to_owned())
    }

    /// Where `text` leads from here. Above the root there is the root.
    pub fn join(&self, text: &str) -> Result<VirtualPath, BadPath> {
        let start = if text.starts_with('/') { "" } else { &self.0 };
        let mut names: Vec<&str> = start.split('/').filter(|name| !name.is_empty()).collect();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(name),
            }
        }
        let is_bad = |name: &&str| {
            NAME_BYTES_MAX < name.len() || name.contains(|c: char| c.is_control() || c == FLAT)
        };
        let path = format!("/{}", names.join("/"));
        if names.iter().any(is_bad) || DEPTH_MAX < names.len() || PATH_BYTES_MAX < path.len() {
            return Err(BadPath);
        }
        Ok(VirtualPath(path))
    }

    /// The last part; none at the root.
    pub fn name(&self) -> Option<&str> {
        let (_, name) = self.0.rsplit_once('/')?;
        (!name.is_empty()).then_some(name)
    }

    /// The root is its own parent.
    pub fn parent(&self) -> VirtualPath {
        match self.0.rsplit_once('/') {
            Some(("", _)) | None => VirtualPath::root(),
            Some((parent, _)) => VirtualPath(parent.to_owned()),
        }
    }

    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// One name that says the whole path.
    pub fn to_flat(&self) -> String {
        self.0.replace('/', FLAT.encode_utf8(&mut [0; 4]))
    }

    /// What [`VirtualPath::to_flat`] made.
    pub fn of_flat(flat: &str) -> Option<VirtualPath> {
        let path = VirtualPath::root().join(&flat.replace(FLAT, "/")).ok()?;
        (path.to_flat() == flat && !path.is_root()).then_some(path)
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from(start: &str, text: &str) -> Result<String, BadPath> {
        let start = VirtualPath::root().join(start).unwrap();
        start.join(text).map(|path| path.to_string())
    }

    #[test]
    fn paths_are_joined_and_never_leave_the_root() {
        for (start, text, expected) in [
            ("/", "a.txt", "/a.txt"),
            ("/x", "a.txt", "/x/a.txt"),
            ("/x", "/y/./a.txt", "/y/a.txt"),
            ("/x/y", "..", "/x"),
            ("/x", "../../../../etc/passwd", "/etc/passwd"),
            ("/", "", "/"),
            ("/x", "Trạm 1", "/x/Trạm 1"),
        ] {
            assert_eq!(from(start, text), Ok(expected.to_owned()), "{start} {text}");
        }
        for bad in ["a\\b", "a\0b", "a\nb", &"x".repeat(151), &"x/".repeat(17)] {
            assert_eq!(from("/", bad), Err(BadPath), "{bad:?}");
        }
    }

    #[test]
    fn parents_and_names() {
        let path = VirtualPath::root().join("a/b").unwrap();
        assert_eq!(
            (path.name(), path.parent().to_string()),
            (Some("b"), "/a".to_owned())
        );
        assert!(path.parent().parent().is_root() && VirtualPath::root().parent().is_root());
        assert_eq!(VirtualPath::root().name(), None);
    }

    proptest! {
        #[test]
        fn any_text_stays_inside_and_has_one_flat_name(start in "\\PC{0,40}", text in "\\PC{0,80}") {
            if let Ok(path) = VirtualPath::root().join(&start).and_then(|path| path.join(&text)) {
                let shown = path.to_string();
                prop_assert!(shown.starts_with('/') && !shown.split('/').any(|name| name == ".." || name == "."));
                if !path.is_root() {
                    let flat = path.to_flat();
                    prop_assert!(!flat.contains('/') && flat.len() <= 255);
                    prop_assert_eq!(VirtualPath::of_flat(&flat), Some(path));
                }
            }
        }
    }
}
