//! The record envelope: how a record becomes an entry's bytes at the door, and is read at the hub.
//!
//! An entry is a JSON object with CloudEvents 1.0 attribute names. Its bytes are built once and
//! then only copied. What the log's place already says is left out and put back by
//! [`Entry::to_cloud_event`]: `specversion`, `id` (unless the source gave one), the `source` URN's
//! prefix, `lane`, and `datacontenttype`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    AgencyCode, BoxId, Capture, Chain, ClockQuality, DatasetId, Lane, Now, RecordId, SourceName,
    Subject,
};

/// What a record does to its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The subject now is as `data` says.
    #[default]
    Upsert,
    /// The subject is gone; `data` may hold the reason.
    Delete,
    /// As `Upsert`, from an initial load.
    Snapshot,
}

/// A classification code with its scheme (TN-40).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classification {
    pub scheme: String,
    pub code: String,
}

/// A content-addressed file that a record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub name: String,
    pub mime: String,
    pub bytes: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: String,
    /// It is what the source itself wrote and the record was read from, too large for the entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub original: bool,
}

/// What the door knows of a record: everything but its number and the time it was stored.
///
/// Serialised, it is the tail of the entry's bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Draft<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RecordId>,
    pub source: &'a SourceName,
    /// Dataset and version, `ho_so_tthc/1`.
    #[serde(rename = "type")]
    pub kind: RecordType,
    pub subject: Subject,
    /// Event time, RFC 3339 with offset, as the source gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    pub agency: &'a AgencyCode,
    #[serde(skip_serializing_if = "is_upsert")]
    pub op: Op,
    /// 0 public, 1 internal, 2 personal, 3 sensitive personal.
    pub sensitivity: u8,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub classification: &'a [Classification],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub attachments: &'a [Attachment],
    /// Codes of the record that the box's catalogue does not know or that are closed: pointer,
    /// scheme and flag, as `/tu/ma agency-code unknown`.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub codeflags: &'a [String],
    /// The producer's own bytes.
    pub data: &'a RawValue,
    /// The source's original bytes where `data` is parsed from another format, base64
    /// (CloudEvents `data_base64`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<&'a str>,
}

fn is_upsert(op: &Op) -> bool {
    *op == Op::Upsert
}

impl Draft<'_> {
    /// The tail of the entry's bytes, from `"source":` on.
    pub fn to_tail(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a draft holds only what JSON can say");
        assert_eq!(bytes[0], b'{');
        bytes.remove(0);
        bytes
    }
}

/// Puts the number and the stored time before a draft's tail: the entry's final bytes.
pub fn complete(capture: Capture, now: Now, tail: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut bytes = Vec::with_capacity(96 + tail.len());
    write!(
        bytes,
        r#"{{"capture":{},"storedtime":"{}","#,
        capture.0, now.wall
    )
    .expect("writing to memory");
    match now.quality {
        ClockQuality::Synchronized => {}
        ClockQuality::Free => bytes.extend_from_slice(br#""clockquality":"free","#),
        ClockQuality::Floor => bytes.extend_from_slice(br#""clockquality":"floor","#),
    }
    bytes.extend_from_slice(tail);
    bytes
}

/// Dataset and version as one CloudEvents `type`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordType {
    pub dataset: DatasetId,
    pub version: u32,
}

impl Serialize for RecordType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.dataset, self.version))
    }
}

impl<'de> Deserialize<'de> for RecordType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.split_once('/')
            .and_then(|(dataset, version)| {
                Some(RecordType {
                    dataset: dataset.parse().ok()?,
                    version: version.parse().ok()?,
                })
            })
            .ok_or_else(|| serde::de::Error::custom("type is not <dataset>/<version>"))
    }
}

/// An entry as read from its bytes; `data` is not parsed.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry<'a> {
    pub capture: Capture,
    #[serde(borrow)]
    pub storedtime: Cow<'a, str>,
    #[serde(default = "synchronized")]
    pub clockquality: ClockQuality,
    #[serde(default)]
    pub id: Option<RecordId>,
    pub source: SourceName,
    #[serde(rename = "type")]
    pub kind: RecordType,
    pub subject: Subject,
    #[serde(borrow, default)]
    pub time: Option<Cow<'a, str>>,
    pub agency: AgencyCode,
    #[serde(default)]
    pub op: Op,
    pub sensitivity: u8,
    #[serde(default)]
    pub classification: Vec<Classification>,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    #[serde(default)]
    pub codeflags: Vec<String>,
    #[serde(borrow)]
    pub data: &'a RawValue,
    #[serde(borrow, default)]
    pub original: Option<Cow<'a, str>>,
}

fn synchronized() -> ClockQuality {
    ClockQuality::Synchronized
}

impl<'a> Entry<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Entry<'a>, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The record as a full CloudEvents 1.0 object (JSON event format).
    ///
    /// `derived_id` is used where the source gave no id of its own.
    pub fn to_cloud_event(
        &self,
        box_id: &BoxId,
        lane: Lane,
        derived_id: &RecordId,
    ) -> CloudEvent<'_> {
        CloudEvent {
            specversion: "1.0",
            id: self.id.as_ref().unwrap_or(derived_id).clone(),
            source: format!("urn:lienthong:{box_id}:{}", self.source),
            kind: &self.kind,
            subject: &self.subject,
            time: self.time.as_deref().unwrap_or(&self.storedtime),
            datacontenttype: "application/json",
            agency: &self.agency,
            op: self.op,
            lane,
            sensitivity: self.sensitivity,
            classification: &self.classification,
            storedtime: &self.storedtime,
            clockquality: self.clockquality,
            capture: self.capture,
            attachments: &self.attachments,
            codeflags: &self.codeflags,
            data: self.data,
            original: self.original.as_deref(),
        }
    }
}

/// A record as the hub shows it: CloudEvents 1.0 with the extensions of the contract.
#[derive(Debug, Serialize)]
pub struct CloudEvent<'a> {
    pub specversion: &'static str,
    pub id: RecordId,
    pub source: String,
    #[serde(rename = "type")]
    pub kind: &'a RecordType,
    pub subject: &'a Subject,
    pub time: &'a str,
    pub datacontenttype: &'static str,
    pub agency: &'a AgencyCode,
    pub op: Op,
    pub lane: Lane,
    pub sensitivity: u8,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub classification: &'a [Classification],
    pub storedtime: &'a str,
    pub clockquality: ClockQuality,
    pub capture: Capture,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub attachments: &'a [Attachment],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub codeflags: &'a [String],
    pub data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<&'a str>,
}

/// The id of a record whose source gave none: a UUID version 8 (RFC 9562) made of the entry's
/// digest, so that it costs no bytes on the wire and survives a new epoch.
pub fn derived_id(digest: &Chain) -> RecordId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.0[..16]);
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let number = u128::from_be_bytes(bytes);
    let text = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        number >> 96,
        number >> 80 & 0xffff,
        number >> 64 & 0xffff,
        number >> 48 & 0xffff,
        number & 0xffff_ffff_ffff
    );
    text.parse().expect("a UUID is a record id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_is_a_uuid_of_version_8() {
        let digest = Chain(std::array::from_fn(|at| at as u8));
        let id = derived_id(&digest);
        assert_eq!(id.as_str(), "00010203-0405-8607-8809-0a0b0c0d0e0f");
    }
}
