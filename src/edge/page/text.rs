//! How the page writes foreign text, and numbers, sizes and times where only Vietnamese is spoken.

use std::borrow::Cow;
use std::fmt;

use crate::edge::page::lang::{self, Lang};
use crate::edge::status::Stamp;

/// Longest foreign text that is shown.
const TEXT_CHARS_MAX: usize = 200;

/// Text that may hold anything, as it may stand in HTML's text and quoted attributes.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_str(" ")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Foreign text, cut and escaped.
pub fn foreign(text: &str) -> String {
    Text(&short(text)).to_string()
}

/// Foreign text that was written in Vietnamese, whatever the page speaks: cut, escaped, and marked
/// for who reads it aloud.
pub fn vietnamese(lang: Lang, text: &str) -> String {
    match lang {
        Lang::Vi => foreign(text),
        Lang::En => format!("<span lang=\"vi\">{}</span>", foreign(text)),
    }
}

/// Text cut to what is shown of a foreign one.
pub fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

/// `12.345`.
pub fn count(number: u64) -> String {
    Lang::Vi.count(number)
}

/// `1,5 MiB`.
pub fn bytes(bytes: u64) -> String {
    Lang::Vi.bytes(bytes)
}

/// `3 giờ 5 phút`.
pub fn duration(seconds: u64) -> String {
    Lang::Vi.duration(seconds)
}

/// `20/11/2026 08:12`, Vietnam's time.
pub fn time(at: Stamp) -> String {
    lang::time(at)
}

/// How much of `whole` is taken, percent; 100 when there is no whole.
pub fn percent(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 100,
        whole => u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_bounds() {
        assert_eq!(
            [percent(1, 3), percent(3, 0), percent(u64::MAX, 1)],
            [33, 100, u64::MAX]
        );
    }

    #[test]
    fn foreign_text_cannot_leave_its_place() {
        assert_eq!(
            Text("<a href='x'>\"&\u{0}").to_string(),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp; "
        );
        assert_eq!(foreign(&"&".repeat(201)).len(), 200 * 5 + "…".len());
        assert_eq!(vietnamese(Lang::En, "<"), "<span lang=\"vi\">&lt;</span>");
    }
}
