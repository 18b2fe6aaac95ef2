//! DNS messages as multicast DNS uses them (RFC 1035, RFC 6762): read from strangers, written by us.
//! Names are written whole, so that what is written is small code and never wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const NSEC: u16 = 47;
pub const ANY: u16 = 255;

const INTERNET: u16 = 1;
/// In a question: the answer may come to the asker alone. In a record: it replaces all others.
const TOP_BIT: u16 = 0x8000;
const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
/// Bits of a message's second word that must be zero: its operation and its result.
const OPERATION_AND_RESULT: u16 = 0x780f;
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 255;
/// More than an office's network says at once.
const PARTS_MAX: u16 = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// In small letters, without the last dot.
    pub name: String,
    pub kind: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub kind: u16,
    /// It replaces whatever else is known of this name and kind.
    pub is_only: bool,
    pub ttl_s: u32,
    pub data: Data,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Name(String),
    Service { port: u16, host: String },
    Other(Vec<u8>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub id: u16,
    pub is_response: bool,
    pub questions: Vec<Question>,
    pub answers: Vec<Record>,
    /// In a question about a name that is to be used: what it shall be.
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

/// Reads a message; none where it is no sound one.
pub fn read(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader { bytes, at: 0 };
    let id = reader.u16()?;
    let flags = reader.u16()?;
    if flags & OPERATION_AND_RESULT != 0 {
        return None;
    }
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    if counts.iter().any(|count| PARTS_MAX < *count) {
        return None;
    }
    let mut questions = Vec::new();
    for _ in 0..counts[0] {
        let name = reader.name()?;
        let kind = reader.u16()?;
        if reader.u16()? & !TOP_BIT == INTERNET {
            questions.push(Question { name, kind });
        }
    }
    let mut records = |count: u16| {
        let records: Option<Vec<Option<Record>>> = (0..count).map(|_| reader.record()).collect();
        Some(records?.into_iter().flatten().collect())
    };
    Some(Message {
        id,
        is_response: flags & RESPONSE != 0,
        questions,
        answers: records(counts[1])?,
        authorities: records(counts[2])?,
        additionals: records(counts[3])?,
    })
}

/// Writes a message; its names are ours and sound.
pub fn write(message: &Message) -> Vec<u8> {
    let flags = match message.is_response {
        true => RESPONSE | AUTHORITATIVE,
        false => 0,
    };
    let records = [&message.answers, &message.authorities, &message.additionals];
    let mut bytes = Vec::with_capacity(256);
    let counts = records.map(|records| records.len() as u16);
    let head = [message.id, flags, message.questions.len() as u16];
    for word in head.into_iter().chain(counts) {
        bytes.extend(word.to_be_bytes());
    }
    for question in &message.questions {
        write_name(&mut bytes, &question.name);
        bytes.extend(question.kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
    }
    for record in records.into_iter().flatten() {
        write_name(&mut bytes, &record.name);
        bytes.extend(record.kind.to_be_bytes());
        let only = if record.is_only { TOP_BIT } else { 0 };
        bytes.extend((INTERNET | only).to_be_bytes());
        bytes.extend(record.ttl_s.to_be_bytes());
        let mut data = Vec::new();
        match &record.data {
            Data::V4(address) => data.extend(address.octets()),
            Data::V6(address) => data.extend(address.octets()),
            Data::Name(name) => write_name(&mut data, name),
            Data::Service { port, host } => {
                data.extend([0; 4]); // priority and weight
                data.extend(port.to_be_bytes());
                write_name(&mut data, host);
            }
            Data::Other(other) => data.extend(other),
        }
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

/// A name as it stands in a message.
pub fn write_name(bytes: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        let label = &label.as_bytes()[..label.len().min(LABEL_BYTES_MAX)];
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// The outer none: unsound. The inner one: of another class than ours.
    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let kind = self.u16()?;
        let class = self.u16()?;
        let ttl_s = self.u32()?;
        let length = usize::from(self.u16()?);
        let begin = self.at;
        let raw = self.take(length)?;
        let data = match (kind, length) {
            (A, 4) => Data::V4(<[u8; 4]>::try_from(raw).ok()?.into()),
            (AAAA, 16) => Data::V6(<[u8; 16]>::try_from(raw).ok()?.into()),
            (PTR, _) => {
                let mut inside = Reader {
                    bytes: &self.bytes[..begin + length],
                    at: begin,
                };
                Data::Name(inside.name()?)
            }
            _ => Data::Other(raw.to_vec()),
        };
        let record = Record {
            name,
            kind,
            is_only: class & TOP_BIT != 0,
            ttl_s,
            data,
        };
        Some((class & !TOP_BIT == INTERNET).then_some(record))
    }

    /// A name may end in a pointer to an earlier one; each pointer leads further back, so it ends.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut bytes_left = NAME_BYTES_MAX;
        let mut back: Option<usize> = None;
        let mut limit = self.at;
        loop {
            let length = usize::from(self.take(1)?[0]);
            match length {
                0 => break,
                0xc0.. => {
                    let low = usize::from(self.take(1)?[0]);
                    back = back.or(Some(self.at));
                    let target = (length & 0x3f) << 8 | low;
                    if limit <= target {
                        return None;
                    }
                    limit = target;
                    self.at = target;
                }
                1..=LABEL_BYTES_MAX => {
                    bytes_left = bytes_left.checked_sub(length + 1)?;
                    let label = String::from_utf8_lossy(self.take(length)?);
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // A dot within a label must not look like one between labels.
                    name.push_str(&label.replace('.', "\\.").to_lowercase());
                }
                _ => return None,
            }
        }
        if let Some(back) = back {
            self.at = back;
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let record = |kind, data| Record {
            name: "xa-tan-bien.local".to_owned(),
            kind,
            is_only: true,
            ttl_s: 120,
            data,
        };
        let message = Message {
            id: 7,
            is_response: true,
            questions: vec![Question {
                name: "_https._tcp.local".to_owned(),
                kind: PTR,
            }],
            answers: vec![
                record(A, Data::V4(Ipv4Addr::new(192, 168, 1, 9))),
                record(AAAA, Data::V6("fd00::9".parse().unwrap())),
                record(PTR, Data::Name("xa._https._tcp.local".to_owned())),
            ],
            authorities: vec![record(TXT, Data::Other(vec![1, b'x']))],
            additionals: Vec::new(),
        };
        assert_eq!(read(&write(&message)), Some(message));
    }

    #[test]
    fn pointers_lead_back_and_never_in_a_circle() {
        let head = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let asked = |name: &[u8]| {
            let bytes = [&head, name, &[0, 1, 0, 1]].concat();
            read(&bytes).map(|message| message.questions[0].name.clone())
        };
        assert_eq!(asked(b"\x02XA\x05local\0").as_deref(), Some("xa.local"));
        assert_eq!(asked(b"\x04a.bc\0").as_deref(), Some("a\\.bc"));
        assert_eq!(asked(b"\xc0\x0c"), None, "itself");
        assert_eq!(asked(b"\x01a\xc0\x0c"), None, "its own beginning");
        assert_eq!(asked(b"\xc0\xff"), None, "nowhere");
        assert_eq!(asked(b"\x40"), None, "no such length");
        let two = [
            &[0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0],
            b"\x01a\x01b\0\0\x01\0\x01".as_slice(),
            b"\x01c\xc0\x0e\0\x01\0\x01",
        ];
        assert_eq!(read(&two.concat()).unwrap().questions[1].name, "c.b");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&[0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], bytes.as_slice()].concat());
        }
    }
}
