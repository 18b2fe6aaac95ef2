//! Pure parsers of foreign bytes: records, or every fault with its line and column.
//!
//! A parser here has no clock, no file and no socket, never panics on any bytes, and bounds what
//! it keeps. What it cannot read it refuses whole, in words that tell the technician what to do;
//! what it tolerates it says.

#[cfg(feature = "edge")]
pub mod csv;
#[cfg(feature = "edge")]
pub mod edxml;
#[cfg(feature = "edge")]
pub mod encoding;
pub mod json;
#[cfg(feature = "edge")]
pub mod sheet;
pub mod station;
#[cfg(feature = "edge")]
pub mod table;

use std::fmt;

/// Most faults kept of one file; the rest is counted.
pub const FAULTS_MAX: usize = 50;

/// One thing that is wrong in foreign bytes, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1: in characters, or of the table.
    pub column: u32,
    pub message_vi: String,
    pub message_en: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            line,
            column,
            message_vi,
            message_en,
        } = self;
        write!(
            f,
            "dòng {line}, cột {column}: {message_vi} / line {line}, column {column}: {message_en}"
        )
    }
}

/// All that is wrong in one file or body: the first [`FAULTS_MAX`] faults, and how many more.
///
/// Printed, it is one line a fault, Vietnamese first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    more: u64,
    too_many_records: bool,
}

impl Faults {
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// How many faults were found beyond those in [`Faults::list`].
    pub fn more(&self) -> u64 {
        self.more
    }

    /// Whether more records were found than the limit allows; a fault says so too.
    pub fn too_many_records(&self) -> bool {
        self.too_many_records
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Keeps the fault if there is room, else only counts it.
    ///
    /// It is built on demand, because finding its line costs a walk over the text.
    fn push_with(&mut self, fault: impl FnOnce() -> Fault) {
        if self.list.len() < FAULTS_MAX {
            self.list.push(fault());
        } else {
            self.more += 1;
        }
    }

    /// `value` if nothing was wrong, else the faults.
    fn or<T>(self, value: T) -> Result<T, Faults> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults {
            list: vec![fault],
            ..Faults::default()
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        if self.more > 0 {
            write!(f, "\nvà còn {0} lỗi nữa / and {0} more faults", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Line and column, both from 1, of a byte offset that lies on a character's border.
fn place_of(text: &str, offset: usize) -> (u32, u32) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines = before.bytes().filter(|&byte| byte == b'\n').count();
    (
        number(lines + 1),
        number(before[line_start..].chars().count() + 1),
    )
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A text of the producer's as it may stand in a message: short, and without control characters.
fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    let mut short: String = text
        .chars()
        .take(CHARACTERS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "một\nhai ba\n";
        assert_eq!(place_of(text, 0), (1, 1));
        assert_eq!(place_of(text, "một".len()), (1, 4));
        assert_eq!(place_of(text, "một\nhai ".len()), (2, 5));
        assert_eq!(place_of(text, text.len()), (3, 1));
    }

    #[test]
    fn faults_are_bounded_and_say_how_many_more() {
        let mut faults = Faults::default();
        for line in 1..=53 {
            faults.push_with(|| Fault {
                line,
                column: 1,
                message_vi: "sai".to_owned(),
                message_en: "wrong".to_owned(),
            });
        }
        assert_eq!((faults.list().len(), faults.more()), (50, 3));
        let text = faults.to_string();
        assert!(
            text.starts_with("dòng 1, cột 1: sai / line 1, column 1: wrong\ndòng 2"),
            "{text}"
        );
        assert!(
            text.ends_with("\nvà còn 3 lỗi nữa / and 3 more faults"),
            "{text}"
        );
    }
}
