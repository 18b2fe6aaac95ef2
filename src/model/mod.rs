//! The words of the house: identifiers, numbers and times, parsed once at the border.

pub mod chunk;
pub mod compare;
pub mod down;
pub mod fault;
pub mod handover;
pub mod order;
pub mod record;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the identifier that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidId {
    pub text: String,
    pub expected: &'static str,
}

/// Declares a validated text newtype.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId { text: text.chars().take(80).collect(), expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Identity of a box: the common name of its certificate and a level of its MQTT topics.
    BoxId,
    "a box id (1 to 32 of a-z, 0-9 and '-', beginning with a letter)",
    |text| {
        (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
);

text_id!(
    /// Agency identifier code: Decision 20/2020/QĐ-TTg (`H53.12`, highest level first, at most 35
    /// characters), or the older form of QCVN 102:2016/BTTTT (`000.00.12.H53`).
    AgencyCode,
    "an agency code (such as H53.12 or 000.00.12.H53)",
    is_agency_code
);

text_id!(
    /// Name of a dataset in the catalogue, such as `ho_so_tthc`.
    DatasetId,
    "a dataset id (1 to 40 of a-z, 0-9 and '_', beginning with a letter)",
    |text| {
        (1..=40).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    }
);

text_id!(
    /// Name of a source in the box's configuration, such as `mot-cua`.
    SourceName,
    "a source name (1 to 40 of a-z, 0-9, '-' and '_', beginning with a letter)",
    |text| {
        (1..=40).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    }
);

text_id!(
    /// Identity of a record, as CloudEvents 1.0 `id`: the source's own, or a UUID that is derived
    /// from the entry's bytes.
    RecordId,
    "a record id (1 to 128 printable characters)",
    |text| !text.is_empty() && text.chars().count() <= 128 && !text.chars().any(char::is_control)
);

text_id!(
    /// Natural key of what a record is about; order is kept per subject.
    Subject,
    "a subject (1 to 200 printable characters)",
    |text| !text.is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control)
);

fn is_agency_code(text: &str) -> bool {
    let group = |group: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&group.len())
            && group
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    let top = |group: &str| {
        group.len() == 3
            && matches!(group.as_bytes()[0], b'A'..=b'K')
            && group.bytes().skip(1).all(|b| b.is_ascii_digit())
    };
    let groups: Vec<&str> = text.split('.').collect();
    let new_form =
        text.len() <= 35 && top(groups[0]) && groups[1..].iter().all(|g| group(g, 1..=10));
    let old_form = groups.len() == 4
        && group(groups[0], 3..=3)
        && group(groups[1], 2..=2)
        && group(groups[2], 2..=2)
        && top(groups[3]);
    new_form || old_form
}

/// The five lanes, each a log of its own, so that small urgent rows never wait behind scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Control and alarms.
    P0,
    /// Urgent documents, dossier events, threshold alarms.
    P1,
    /// Ordinary records.
    P2,
    /// Routine telemetry.
    P3,
    /// Attachments and initial loads.
    P4,
}

impl Lane {
    pub const ALL: [Lane; 5] = [Lane::P0, Lane::P1, Lane::P2, Lane::P3, Lane::P4];

    /// 0 for `P0` to 4 for `P4`: the number on the wire and in the store.
    pub fn index(self) -> usize {
        self as usize
    }

    pub fn from_index(index: u64) -> Option<Lane> {
        usize::try_from(index)
            .ok()
            .and_then(|index| Lane::ALL.get(index))
            .copied()
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.index())
    }
}

impl FromStr for Lane {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Lane::ALL
            .into_iter()
            .find(|lane| lane.to_string() == text)
            .ok_or_else(|| InvalidId {
                text: text.chars().take(20).collect(),
                expected: "a lane (P0 to P4)",
            })
    }
}

/// Number of an entry within its log: 1, 2, 3 … without holes. 0 stands before the first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    pub const ZERO: Seq = Seq(0);
    /// The greatest number of a log: a thousand entries a second for a generation. The stores keep
    /// lane or log and number in one integer.
    pub const MAX: Seq = Seq((1 << 40) - 1);

    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// The number before this one; must not be called on 0.
    #[must_use]
    pub fn previous(self) -> Seq {
        Seq(self.0 - 1)
    }

    #[must_use]
    pub fn plus(self, count: u64) -> Seq {
        Seq(self.0 + count)
    }

    /// How many numbers lie in `self..=last`; 0 when `last` stands before `self`.
    pub fn count_to(self, last: Seq) -> u64 {
        (last.0 + 1).saturating_sub(self.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Box-wide number of a capture: the order in which a box accepted its records, across lanes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Capture(pub u64);

/// Random name of a box's life: minted when its store is created, and anew when the hub shows that
/// the store was set back. Numbers are never used twice within one epoch. Below 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Running SHA-256 over the entries of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The value before the first entry of a store.
    pub const ZERO: Chain = Chain([0; 32]);
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Monotonic milliseconds since the process started. Only `shell::clock` reads a clock.
pub type MonoMs = u64;

/// Wall-clock time, milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Days since 1970-01-01, as Vietnam counts them.
    pub fn day(self) -> i64 {
        (self.0 + 7 * 3_600_000).div_euclid(86_400_000)
    }
}

impl fmt::Display for UnixMs {
    /// RFC 3339 with milliseconds and Vietnam's offset, +07:00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        let local = timestamp.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(7)));
        write!(f, "{}", local.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
    }
}

/// How far the wall clock could be trusted when a record was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockQuality {
    /// The operating system's clock is disciplined by a time server.
    Synchronized,
    /// The clock runs free since its last discipline.
    Free,
    /// The clock stood before the trusted floor, so the floor was written instead.
    Floor,
}

/// The present, read once by the shell and handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono_ms: MonoMs,
    pub wall: UnixMs,
    pub quality: ClockQuality,
}

/// Limits that rooms share. Relations between them are asserted at compile time.
pub mod limits {
    /// Largest entry (envelope and data), bytes. A larger record is refused at the door.
    pub const ENTRY_BYTES_MAX: usize = 96 * 1024;
    /// Largest entry of a downlink log, bytes: what the hub adds around a record of the largest size
    /// fits, and masks that are longer than what they hide.
    pub const DOWN_ENTRY_BYTES_MAX: usize = 112 * 1024;
    /// Largest batch before compression, bytes.
    pub const BATCH_RAW_BYTES_MAX: usize = 512 * 1024;
    /// Largest message on the wire, bytes; a broker may set a lower limit.
    pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
    /// Most entries in one batch.
    pub const BATCH_ENTRIES_MAX: usize = 1000;
    /// Entries that are stored together: at most so many …
    pub const BLOCK_ENTRIES_MAX: usize = 250;
    /// … and so many bytes before compression, unless it is one entry alone. Whole blocks fill a batch
    /// with little room to spare.
    pub const BLOCK_RAW_BYTES_MAX: usize = 128 * 1024;

    /// Largest piece of an attachment, bytes: with its entry it passes a broker that carries 64 KiB.
    pub const CHUNK_BYTES_MAX: usize = 60 * 1024;

    const _: () = assert!(ENTRY_BYTES_MAX < DOWN_ENTRY_BYTES_MAX);
    const _: () = assert!(DOWN_ENTRY_BYTES_MAX + 4 * 1024 <= MESSAGE_BYTES_MAX);
    const _: () = assert!(CHUNK_BYTES_MAX + 2 * 1024 <= 64 * 1024);
    const _: () = assert!(DOWN_ENTRY_BYTES_MAX < BATCH_RAW_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agency_codes_of_both_forms() {
        for good in [
            "H53",
            "H21.65",
            "H37.DN.001",
            "H55.242",
            "G12.18",
            "000.00.00.H49",
            "002.00.20.H13",
        ] {
            assert!(good.parse::<AgencyCode>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "h53",
            "L01",
            "H5",
            "H53.",
            "H53..1",
            "00.00.00.H49",
            "H53.ĐN",
            "H53.12345678901",
            "H53.1234567890.1234567890.1234567890.1",
        ] {
            assert!(bad.parse::<AgencyCode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_refuse_what_could_leave_their_place() {
        for bad in ["", "A", "1a", "a/b", "a+", "#", "tram xa", &"a".repeat(33)] {
            assert!(bad.parse::<BoxId>().is_err(), "{bad}");
        }
        assert!("x\u{0}".parse::<Subject>().is_err());
    }

    #[test]
    fn unix_ms_prints_vietnam_time() {
        assert_eq!(
            UnixMs(1_763_600_000_123).to_string(),
            "2025-11-20T07:53:20.123+07:00"
        );
    }
}
