//! Reads and writes DER (X.690) element by element: what our own certificates and the walks over
//! others' need, no more.

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_ID: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const PRINTABLE_STRING: u8 = 0x13;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;
/// The optional version of a certificate, the only explicitly tagged element before its subject.
pub const VERSION: u8 = 0xa0;
pub const EXTENSIONS: u8 = 0xa3;
/// A DNS name and an IP address among a certificate's names.
pub const DNS_NAME: u8 = 0x82;
pub const IP_ADDRESS: u8 = 0x87;
/// `subjectAltName`, 2.5.29.17.
pub const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// `commonName`, 2.5.4.3.
pub const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What has not been read yet of an element's content.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Content of the next element, which must carry `tag`.
    pub fn expect(&mut self, tag: u8) -> Option<Reader<'a>> {
        let (found, content) = self.element()?;
        (found == tag).then_some(content)
    }

    /// Tag and content of the next element. Lengths of up to three bytes are read.
    pub fn element(&mut self) -> Option<(u8, Reader<'a>)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let add = |sum, &byte: &u8| sum << 8 | usize::from(byte);
                (bytes.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, Reader(content)))
    }
}

/// An element of this content, up to 16 MiB.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("nobody writes so much");
    let bytes = length.to_be_bytes();
    let mut written = vec![tag];
    match length {
        0..0x80 => written.push(bytes[3]),
        _ => {
            let used = &bytes[(length.leading_zeros() / 8) as usize..];
            written.push(0x80 | used.len() as u8);
            written.extend_from_slice(used);
        }
    }
    written.extend_from_slice(content);
    written
}

/// A sequence of elements that are written already.
pub fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}
