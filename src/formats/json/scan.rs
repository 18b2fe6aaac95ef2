//! A strict reader of JSON's grammar that builds nothing: it says where a value ends, or what is
//! wrong and at which byte.
//!
//! serde_json's raw values leave unchecked what a later reading refuses: depth, escapes that are
//! no characters, and numbers beyond a double. Here they are refused at once, so that a record
//! that passes can be read by everyone behind.

use std::ops::Range;

/// Deepest nesting of a record. serde_json reads 127 levels; the envelope and the lists around a
/// record need a few of them.
pub(super) const DEPTH_MAX: usize = 120;

/// What breaks the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The text ends before the value does.
    Truncated,
    /// Another character must stand here.
    Expected(&'static str),
    TrailingComma,
    /// A word or character that begins no value.
    NoValue,
    SingleQuote,
    ControlInText,
    BadEscape,
    LoneSurrogate,
    BadNumber,
    NumberTooLarge,
    TooDeep,
}

impl What {
    /// The message in Vietnamese and English.
    pub(super) fn messages(self) -> (String, String) {
        let (vi, en) = match self {
            What::Truncated => (
                "dữ liệu bị cắt giữa chừng một bản ghi; hãy gửi lại cho đủ",
                "the data ends in the middle of a record; send it again whole",
            ),
            What::Expected(token) => {
                return (
                    format!("chỗ này phải là {token}; hãy sửa phần mềm xuất JSON"),
                    format!("expected {token} here; correct the software that writes the JSON"),
                );
            }
            What::TrailingComma => (
                "thừa dấu phẩy trước dấu đóng ngoặc; hãy bỏ dấu phẩy này",
                "a comma stands before the closing bracket; remove it",
            ),
            What::NoValue => (
                "đây không phải là giá trị JSON; hãy dùng \"văn bản\", số, true, false, null, {…} hoặc […]",
                "this is no JSON value; use \"text\", a number, true, false, null, {…} or […]",
            ),
            What::SingleQuote => (
                "văn bản phải đặt trong dấu nháy kép \", không dùng dấu nháy đơn",
                "a text must stand in double quotes, not in single quotes",
            ),
            What::ControlInText => (
                "ký tự điều khiển trong văn bản; hãy viết xuống dòng là \\n và dấu tab là \\t",
                "control character in a text; write a line end as \\n and a tab as \\t",
            ),
            What::BadEscape => (
                "dấu \\ không đúng; hãy viết \\\\ cho chính dấu \\ (ví dụ trong đường dẫn tệp)",
                "wrong escape; write \\\\ for a backslash itself (as in a file path)",
            ),
            What::LoneSurrogate => (
                "mã \\u này chỉ là nửa ký tự; hãy ghi thẳng ký tự đó bằng UTF-8",
                "this \\u escape is half a character; write the character itself in UTF-8",
            ),
            What::BadNumber => (
                "số viết không đúng; hãy viết như 7.2 hoặc -0.5 (dấu chấm thập phân, không có số 0 thừa ở đầu)",
                "wrong number; write it as 7.2 or -0.5 (decimal point, no needless leading zero)",
            ),
            What::NumberTooLarge => (
                "số quá lớn; hãy gửi dưới dạng văn bản trong dấu nháy kép",
                "the number is too large; send it as a text in double quotes",
            ),
            What::TooDeep => (
                "bản ghi lồng nhau quá sâu (tối đa 120 tầng); hãy làm phẳng bản ghi",
                "the record nests too deep (at most 120 levels); flatten it",
            ),
        };
        (vi.to_owned(), en.to_owned())
    }
}

/// What is wrong, and at which byte of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) what: What,
}

/// Whether [`Scan::object`] goes on after a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Stop,
}

/// A position that moves forward over a text.
pub(super) struct Scan<'a> {
    text: &'a str,
    pub(super) at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Scan<'a> {
        Scan { text, at: 0 }
    }

    /// The byte at the position, `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips spaces and shows the next byte.
    pub(super) fn peek_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    /// Takes `byte` if it comes next, after spaces.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek_token() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Reads over one value of any kind. `depth` is how many brackets are open around it.
    pub(super) fn value(&mut self, depth: usize) -> Result<(), Wrong> {
        match self.peek_token() {
            Some(b'{') => self.object(depth, &mut |_, _| Next::GoOn),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'\'') => Err(self.wrong(What::SingleQuote)),
            _ => Err(self.wrong(What::NoValue)),
        }
    }

    /// Reads over an object, showing each member's key (with its quotes) and value.
    pub(super) fn object(
        &mut self,
        depth: usize,
        member: &mut dyn FnMut(Range<usize>, Range<usize>) -> Next,
    ) -> Result<(), Wrong> {
        self.open(depth)?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            match self.peek_token() {
                Some(b'"') => {}
                Some(b'\'') => return Err(self.wrong(What::SingleQuote)),
                _ => return Err(self.wrong(What::Expected("\""))),
            }
            let key_start = self.at;
            self.string()?;
            let key = key_start..self.at;
            if !self.take(b':') {
                return Err(self.wrong(What::Expected(":")));
            }
            self.peek_token();
            let value_start = self.at;
            self.value(depth + 1)?;
            if member(key, value_start..self.at) == Next::Stop || self.close_or_comma(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Wrong> {
        self.open(depth)?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.close_or_comma(b']')? {
                return Ok(());
            }
        }
    }

    /// After an element: true when `close` was taken, false when a comma was and more follows.
    pub(super) fn close_or_comma(&mut self, close: u8) -> Result<bool, Wrong> {
        if self.take(close) {
            return Ok(true);
        }
        let comma = self.at;
        if !self.take(b',') {
            return Err(self.wrong(What::Expected(if close == b'}' {
                ", / }"
            } else {
                ", / ]"
            })));
        }
        if self.peek_token() == Some(close) {
            return Err(Wrong {
                at: comma,
                what: What::TrailingComma,
            });
        }
        Ok(false)
    }

    fn open(&mut self, depth: usize) -> Result<(), Wrong> {
        if depth >= DEPTH_MAX {
            return Err(self.wrong(What::TooDeep));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Wrong> {
        let rest = &self.text[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(rest) {
            Err(Wrong {
                at: self.text.len(),
                what: What::Truncated,
            })
        } else {
            Err(self.wrong(What::NoValue))
        }
    }

    fn string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..0x20) => return Err(self.wrong(What::ControlInText)),
                Some(_) => self.at += 1,
                None => return Err(self.wrong(What::Truncated)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let wrong = |what| Wrong { at: start, what };
        match self.text.as_bytes().get(start + 1) {
            None => {
                return Err(Wrong {
                    at: self.text.len(),
                    what: What::Truncated,
                });
            }
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = self.code_unit()?;
                if (0xdc00..0xe000).contains(&unit) {
                    return Err(wrong(What::LoneSurrogate));
                }
                if (0xd800..0xdc00).contains(&unit) {
                    let follows = self.text[self.at..].starts_with("\\u");
                    let ends = "\\u".starts_with(&self.text[self.at..]);
                    if ends {
                        return Err(Wrong {
                            at: self.text.len(),
                            what: What::Truncated,
                        });
                    }
                    if !follows || !(0xdc00..0xe000).contains(&self.code_unit()?) {
                        return Err(wrong(What::LoneSurrogate));
                    }
                }
            }
            Some(_) => return Err(wrong(What::BadEscape)),
        }
        Ok(())
    }

    /// Reads `\uXXXX` at the position.
    fn code_unit(&mut self) -> Result<u32, Wrong> {
        let start = self.at;
        let mut unit = 0;
        for index in start + 2..start + 6 {
            match self.text.as_bytes().get(index) {
                None => {
                    return Err(Wrong {
                        at: self.text.len(),
                        what: What::Truncated,
                    });
                }
                Some(&byte) => {
                    let digit = char::from(byte).to_digit(16);
                    unit = unit * 16
                        + digit.ok_or(Wrong {
                            at: start,
                            what: What::BadEscape,
                        })?;
                }
            }
        }
        self.at = start + 6;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let bad = Wrong {
            at: start,
            what: What::BadNumber,
        };
        self.at += usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.peek() == Some(b'0');
        let whole_digits = self.digits()?.ok_or(bad)?;
        if leading_zero && whole_digits > 1 {
            return Err(bad);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?.ok_or(bad)?;
        }
        let exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?.ok_or(bad)?;
        }
        // The largest double has 309 digits.
        let may_overflow = exponent || whole_digits > 300;
        if may_overflow
            && self.text[start..self.at]
                .parse::<f64>()
                .is_ok_and(f64::is_infinite)
        {
            return Err(Wrong {
                at: start,
                what: What::NumberTooLarge,
            });
        }
        Ok(())
    }

    /// Reads over digits: how many, `None` when another character stands here.
    fn digits(&mut self) -> Result<Option<usize>, Wrong> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match self.at - start {
            0 if self.peek().is_none() => Err(self.wrong(What::Truncated)),
            0 => Ok(None),
            count => Ok(Some(count)),
        }
    }

    /// The fault at the position; at the end of the text every fault is that it ends.
    fn wrong(&self, what: What) -> Wrong {
        let what = if self.peek().is_none() {
            What::Truncated
        } else {
            what
        };
        Wrong { at: self.at, what }
    }
}
