//! From the bytes of old Vietnamese software to text: UTF-8 in NFC, whatever it was.
//!
//! What is not told and not certain is searched for by [`detect`], which answers only where one
//! encoding alone makes Vietnamese of the bytes. The answer says how the encoding was known, so
//! that nothing is guessed in silence.

mod detect;
mod table;
#[cfg(test)]
mod tests;
mod vni;

use std::fmt;
use std::str::FromStr;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::formats::{Fault, Faults, place_of};

/// How text stands in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    /// TCVN 5712:1993 VN3, which the ABC fonts use (`.VnTime`).
    Tcvn3,
    /// VNI for Windows (`VNI-Times`): a letter, then its mark.
    Vni,
    /// Of the Vietnamese Professionals Society.
    Vps,
    /// RFC 1456.
    Viscii,
    /// Letters and combining tone marks, as Windows writes Vietnamese "ANSI".
    Windows1258,
}

impl Encoding {
    /// The names by which a configuration calls them; the first of each is the printed one.
    const NAMES: [(&str, Encoding); 12] = [
        ("utf-8", Encoding::Utf8),
        ("utf8", Encoding::Utf8),
        ("utf-16le", Encoding::Utf16Le),
        ("utf-16be", Encoding::Utf16Be),
        ("tcvn3", Encoding::Tcvn3),
        ("abc", Encoding::Tcvn3),
        ("vni", Encoding::Vni),
        ("vps", Encoding::Vps),
        ("viscii", Encoding::Viscii),
        ("windows-1258", Encoding::Windows1258),
        ("cp1258", Encoding::Windows1258),
        ("x-viet-tcvn5712", Encoding::Tcvn3),
    ];
    /// For messages that list what may be written.
    pub const PRINTED: [&str; 8] = [
        "utf-8",
        "utf-16le",
        "utf-16be",
        "tcvn3",
        "vni",
        "vps",
        "viscii",
        "windows-1258",
    ];

    pub fn as_str(self) -> &'static str {
        Encoding::NAMES
            .into_iter()
            .find(|(_, encoding)| *encoding == self)
            .map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that calls no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an encoding")]
pub struct UnknownEncoding;

impl FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(text: &str) -> Result<Encoding, UnknownEncoding> {
        Encoding::NAMES
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, encoding)| encoding)
            .ok_or(UnknownEncoding)
    }
}

/// How an encoding was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The source says so.
    Given,
    /// By the byte order mark.
    Bom,
    /// The bytes are valid UTF-8, which texts in other encodings never are by accident.
    Utf8,
    /// Only this one makes Vietnamese of the bytes.
    Detected,
}

/// Text in NFC, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub text: String,
    pub encoding: Encoding,
    pub how: How,
}

/// Decodes `bytes`, by their byte order mark, as UTF-8 where they are that, as `given`, or as what
/// they turn out to be.
pub fn decode(bytes: &[u8], given: Option<Encoding>) -> Result<Decoded, Faults> {
    for (mark, encoding) in [
        (&b"\xef\xbb\xbf"[..], Encoding::Utf8),
        (b"\xff\xfe", Encoding::Utf16Le),
        (b"\xfe\xff", Encoding::Utf16Be),
    ] {
        if let Some(rest) = bytes.strip_prefix(mark) {
            return decode_as(rest, encoding, How::Bom);
        }
    }
    let is_wide = matches!(given, Some(Encoding::Utf16Le | Encoding::Utf16Be));
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) if !is_wide && (!text.is_ascii() || given.is_none()) && !has_zero(bytes) => {
            let how = match given {
                Some(Encoding::Utf8) => How::Given,
                _ => How::Utf8,
            };
            return decode_as(bytes, Encoding::Utf8, how);
        }
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    match given {
        Some(encoding) => decode_as(bytes, encoding, How::Given),
        None => match detect::detect(bytes) {
            Some((encoding, text)) => Ok(Decoded {
                text,
                encoding,
                how: How::Detected,
            }),
            None => Err(not_found(bytes, valid).into()),
        },
    }
}

/// Text that some software filled, byte for byte, with an older encoding and that has since been
/// taken for Windows-1252, as cells of a workbook in `.VnTime` are. Text that was not stays as it is.
///
/// The error is the character, from 0, that the encoding cannot explain.
pub fn recode(text: &str, encoding: Encoding) -> Result<String, usize> {
    if matches!(
        encoding,
        Encoding::Utf8 | Encoding::Utf16Le | Encoding::Utf16Be
    ) || text.is_ascii()
    {
        return Ok(nfc(text.to_owned()));
    }
    let (bytes, _, is_wrong) = encoding_rs::WINDOWS_1252.encode(text);
    if is_wrong {
        // A letter that no byte of Windows-1252 stands for: this text is Unicode already.
        return Ok(nfc(text.to_owned()));
    }
    let Translated { text, wrong } = translate(&bytes, encoding);
    match wrong.first() {
        None => Ok(nfc(text)),
        Some(wrong) => Err(text[..wrong.at].chars().count()),
    }
}

fn decode_as(bytes: &[u8], encoding: Encoding, how: How) -> Result<Decoded, Faults> {
    let text = match encoding {
        Encoding::Utf8 => utf8(bytes)?,
        Encoding::Utf16Le => utf16(bytes, u16::from_le_bytes)?,
        Encoding::Utf16Be => utf16(bytes, u16::from_be_bytes)?,
        Encoding::Tcvn3
        | Encoding::Vni
        | Encoding::Vps
        | Encoding::Viscii
        | Encoding::Windows1258 => {
            let Translated { text, wrong } = translate(bytes, encoding);
            let mut faults = Faults::default();
            for Wrong { at, byte } in wrong {
                faults.push_with(|| {
                    fault_at(
                        &text,
                        at,
                        format!("byte 0x{byte:02x} không có trong bảng mã {encoding}; hãy kiểm tra mục encoding của nguồn"),
                        format!("the byte 0x{byte:02x} has no meaning in {encoding}; check the source's encoding"),
                    )
                });
            }
            faults.or(text)?
        }
    };
    Ok(Decoded {
        text: nfc(text),
        encoding,
        how,
    })
}

/// What an older encoding makes of bytes.
struct Translated {
    /// With U+FFFD in the place of each byte that means nothing.
    text: String,
    wrong: Vec<Wrong>,
}

/// A byte that means nothing.
struct Wrong {
    /// Where its U+FFFD stands in the text.
    at: usize,
    byte: u8,
}

fn translate(bytes: &[u8], encoding: Encoding) -> Translated {
    let mut out = Translated {
        text: String::with_capacity(bytes.len() * 3 / 2),
        wrong: Vec::new(),
    };
    if encoding == Encoding::Vni {
        vni::translate(bytes, &mut out);
        return out;
    }
    let table = table::of(encoding);
    for &byte in bytes {
        match table.letter(byte) {
            Some(letter) => out.text.push(letter),
            None => out.wrong(byte),
        }
    }
    if encoding == Encoding::Tcvn3 && out.wrong.is_empty() {
        out.text = table::raise_capitals(&out.text);
    }
    out
}

impl Translated {
    fn wrong(&mut self, byte: u8) {
        self.wrong.push(Wrong {
            at: self.text.len(),
            byte,
        });
        self.text.push(char::REPLACEMENT_CHARACTER);
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let at = error.valid_up_to();
            let valid = std::str::from_utf8(&bytes[..at]).expect("valid up to here");
            let byte = bytes[at];
            Err(fault_at(
                valid,
                at,
                format!("byte 0x{byte:02x} không phải UTF-8; hãy kiểm tra mục encoding của nguồn"),
                format!("the byte 0x{byte:02x} is not UTF-8; check the source's encoding"),
            ))
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Fault> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let mut text = String::with_capacity(bytes.len());
    for letter in char::decode_utf16(units) {
        match letter {
            Ok(letter) => text.push(letter),
            Err(_) => return Err(not_utf16(&text)),
        }
    }
    match rest {
        [] => Ok(text),
        _ => Err(not_utf16(&text)),
    }
}

fn not_utf16(before: &str) -> Fault {
    fault_at(
        before,
        before.len(),
        "dữ liệu không phải UTF-16 hoặc bị cắt cụt; hãy xuất lại tệp".to_owned(),
        "the data is not UTF-16, or was cut off; export the file again".to_owned(),
    )
}

/// Bytes whose encoding cannot be found; they are UTF-8 up to `valid`.
fn not_found(bytes: &[u8], valid: usize) -> Fault {
    let valid = bytes
        .iter()
        .position(|byte| *byte == 0)
        .map_or(valid, |zero| zero.min(valid));
    let before = std::str::from_utf8(&bytes[..valid]).expect("valid up to here");
    let (vi, en) = match has_zero(bytes) {
        true => (
            "tệp có byte 0, có lẽ là UTF-16 không có dấu đầu tệp hoặc không phải văn bản; hãy xuất bằng UTF-8, hoặc khai báo encoding = \"utf-16le\" cho nguồn",
            "there are zero bytes: this may be UTF-16 without a byte order mark, or no text; export UTF-8, or set encoding = \"utf-16le\" for the source",
        ),
        false => (
            "không xác định chắc chắn được bảng mã của tệp; hãy xuất bằng UTF-8, hoặc khai báo encoding cho nguồn: \"tcvn3\", \"vni\", \"vps\", \"viscii\" hoặc \"windows-1258\"",
            "the encoding cannot be told with certainty; export UTF-8, or set the source's encoding: \"tcvn3\", \"vni\", \"vps\", \"viscii\" or \"windows-1258\"",
        ),
    };
    fault_at(before, before.len(), vi.to_owned(), en.to_owned())
}

fn has_zero(bytes: &[u8]) -> bool {
    bytes.contains(&0)
}

fn nfc(text: String) -> String {
    match is_nfc(&text) {
        true => text,
        false => text.nfc().collect(),
    }
}

fn fault_at(text: &str, at: usize, message_vi: String, message_en: String) -> Fault {
    let (line, column) = place_of(text, at);
    Fault {
        line,
        column,
        message_vi,
        message_en,
    }
}
