//! What the hub says to a box: the entries of its downlink logs.
//!
//! An entry is a JSON object with one member, whose name says what it is (`{"copy":{…}}`). Like a
//! record, its bytes are built once, chained and signed, and only copied after that. What a box does
//! not know it keeps as received and passes over, so that a newer hub can say more.

use jiff::civil::Date;
use jiff::tz::{TimeZone, offset};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::chunk::Digest;
use super::record::{Attachment, Op};
use super::{AgencyCode, DatasetId, Lane, RecordId, Subject, UnixMs};

/// One entry of a downlink log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// What a subject now is, in a dataset that this office may read.
    Copy(Copy),
    /// An initial load of a dataset begins or has ended. At the end the box drops what the load
    /// did not name and no later change has touched.
    Load(Load),
    /// A right has ended: the whole copy goes.
    Withdraw(Withdraw),
    /// A document or dossier that is addressed to this office.
    Document(Box<Document>),
    /// A file that a document names will not come.
    File(FileNews),
    /// What became of a document that this office has sent or received.
    Status(DocumentStatus),
    /// A catalogue that takes effect at a date; its content comes in parts.
    Catalogue(CatalogueNews),
    /// A piece of a catalogue's content.
    CataloguePart(CataloguePart),
    /// Something to do, from a closed list.
    Command(Command),
    /// The box is to say what its copy of a dataset is at this place of the log.
    Compare(Compare),
    /// What a subject is, said again because the copy differed: it counts whatever stands there.
    Mend(Copy),
    /// All subjects of a bucket were said again: what was not is to go.
    Mended(Mended),
    /// How a comparison has ended.
    Compared(Compared),
}

impl Down {
    /// The log in which such an entry travels; an initial load's copies travel in P4.
    pub fn lane(&self) -> Lane {
        match self {
            Down::Command(_) => Lane::P0,
            Down::Document(_) | Down::File(_) | Down::Status(_) => Lane::P1,
            Down::Copy(copy) if copy.initial => Lane::P4,
            Down::Copy(_) | Down::Withdraw(_) | Down::Catalogue(_) => Lane::P2,
            // Among the changes, and in their order.
            Down::Compare(_) | Down::Mend(_) | Down::Mended(_) | Down::Compared(_) => Lane::P2,
            Down::Load(_) => Lane::P4,
            Down::CataloguePart(_) => Lane::P4,
        }
    }
}

/// The hub's number of what it said of its datasets, rising with every copy, load and withdrawal,
/// whatever the lane in which they travel: the greater one was said later. It follows the clock
/// where it can, so that a hub that was set back soon says greater ones again.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// The next one to be said; below 2^53 until the year 2248.
    pub fn next(self, at: UnixMs) -> Version {
        let clock = (at.0.max(0) as u64) << 10;
        Version((self.0 + 1).max(clock))
    }
}

/// A subject's present state, with the fields that the right lets the office see.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Copy {
    pub dataset: DatasetId,
    /// Version of the dataset's schema.
    pub schema: u32,
    /// The office that owns the record.
    pub agency: AgencyCode,
    pub subject: Subject,
    pub op: Op,
    pub version: Version,
    /// When the hub committed it.
    pub at: UnixMs,
    /// The initial load by which the office has the dataset: until that one has ended, an older
    /// copy of this subject may still be on its way.
    pub load: Version,
    /// Part of the load itself, and not a change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// None when the subject is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    pub dataset: DatasetId,
    /// When it began; copies of an earlier version that it does not name are out of date.
    pub load: Version,
    /// Subjects of the dataset at its beginning, and how many of them were looked at until now.
    pub subjects: u64,
    pub seen: u64,
    /// False: the load begins or goes on. True: all of it was said.
    pub done: bool,
    pub at: UnixMs,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Withdraw {
    pub dataset: DatasetId,
    /// Copies of an earlier version are void, also those that are still on their way.
    pub version: Version,
    pub at: UnixMs,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compare {
    pub dataset: DatasetId,
    /// Names the comparison: everything that was said before has an earlier version.
    pub version: Version,
    /// The initial load that the copy rests on; with another one it cannot be compared.
    pub load: Version,
    pub at: UnixMs,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mended {
    pub dataset: DatasetId,
    pub load: Version,
    pub bucket: u8,
    /// What belongs there was said between these two.
    pub since: Version,
    pub version: Version,
    pub at: UnixMs,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compared {
    /// None: the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    pub at: UnixMs,
    /// As [`super::compare::Verdict`] writes it; a newer hub may know more of them.
    pub result: String,
    /// Buckets that differed, and subjects that were sent again.
    pub buckets: u64,
    pub subjects: u64,
}

/// A document on its way from one office to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document {
    /// The sender's id of the record; a repeat is harmless.
    pub id: RecordId,
    pub dataset: DatasetId,
    pub schema: u32,
    pub subject: Subject,
    pub from: AgencyCode,
    /// As the sender wrote it; may be a code that was merged since.
    pub to: AgencyCode,
    pub at: UnixMs,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    pub data: Box<RawValue>,
    /// The source's original bytes, base64, such as the edXML file as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
}

/// Why a file that a document names will not come. The files themselves come as chunks, in P4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNews {
    pub sha256: Digest,
    /// `quarantined`: it is not what its digest says, or a scanner has found something in it.
    pub state: String,
    pub at: UnixMs,
}

/// A status of QCVN 102:2016/BTTTT: 01 to 06, 13, 15, 16; others are kept as they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DocumentStatus {
    /// Of the document's record, and who has sent the document.
    pub document: RecordId,
    pub from: AgencyCode,
    pub code: String,
    /// Who says so.
    pub by: AgencyCode,
    pub at: UnixMs,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A consistent set of datasets and codes that takes the place of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueNews {
    /// Rising; the greater one that holds wins.
    pub version: u32,
    /// Local date from which it holds, `yyyy-MM-dd`; it changes at that midnight, Vietnam time.
    pub effective: String,
    /// Of the compressed content.
    pub bytes: u64,
    /// SHA-256 of the compressed content, 64 hexadecimal digits.
    pub sha256: String,
    /// How many [`CataloguePart`]s hold it.
    pub parts: u32,
    /// Who has published it.
    pub by: String,
    /// The hub's, over all of this (`evidence::CatalogueClaim`), base64.
    pub signature: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CataloguePart {
    /// SHA-256 of the whole content, as in [`CatalogueNews`].
    pub sha256: String,
    /// From 0.
    pub part: u32,
    /// base64.
    pub data: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// A repeat is harmless.
    pub id: RecordId,
    pub name: String,
    /// A JSON object, signed byte for byte.
    pub arguments: Box<RawValue>,
    /// After this it is answered with "expired" and not done.
    pub expires: UnixMs,
    /// Who has given it, for both audit logs.
    pub by: String,
    /// The hub's, over the box and all of this (`evidence::CommandClaim`), base64: it proves the
    /// order long after the batch that brought it is gone.
    pub signature: String,
}

/// The midnight, Vietnam time, with which a day `yyyy-MM-dd` begins.
pub fn midnight(day: &str) -> Option<UnixMs> {
    // What jiff reads besides, such as a time behind the day, is not written the one way that is
    // signed.
    let date: Date = (day.len() == 10).then(|| day.parse().ok())??;
    let zoned = date.to_zoned(TimeZone::fixed(offset(7))).ok()?;
    Some(UnixMs(zoned.timestamp().as_millisecond()))
}

/// The day, Vietnam time, as [`midnight`] reads it.
pub fn day_of(time: UnixMs) -> String {
    time.to_string()[..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rise_whatever_the_clock_says() {
        let first = Version::default().next(UnixMs(1_790_000_000_000));
        let second = first.next(UnixMs(5));
        assert!(first < second && second.0 < 1 << 53);
        assert!(second < Version::default().next(UnixMs(1_790_000_000_001)));
    }

    #[test]
    fn an_entry_survives_the_wire_with_its_data_byte_for_byte() {
        let data = r#"{"ho_ten":  "Nguyễn Thị Mẫu","so":1.50}"#;
        let down = Down::Copy(Copy {
            dataset: "ho_tich".parse().unwrap(),
            schema: 1,
            agency: "H53.12".parse().unwrap(),
            subject: "KS-2026-0001".parse().unwrap(),
            op: Op::Upsert,
            version: Version(9),
            at: UnixMs(1_790_000_000_000),
            load: Version(3),
            initial: false,
            attachments: Vec::new(),
            data: Some(RawValue::from_string(data.to_owned()).unwrap()),
        });
        let bytes = serde_json::to_vec(&down).unwrap();
        match serde_json::from_slice(&bytes).unwrap() {
            Down::Copy(copy) => {
                assert_eq!(copy.data.unwrap().get(), data);
                assert_eq!((copy.version, copy.load), (Version(9), Version(3)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_vietnam() {
        assert_eq!(midnight("1970-01-02"), Some(UnixMs(17 * 3_600_000)));
        assert_eq!(day_of(UnixMs(17 * 3_600_000)), "1970-01-02");
        assert_eq!(day_of(UnixMs(17 * 3_600_000 - 1)), "1970-01-01");
        for bad in ["", "2026-02-30", "2026-1-1", "2026-01-01T00", "hôm nay"] {
            assert_eq!(midnight(bad), None, "{bad}");
        }
    }
}
