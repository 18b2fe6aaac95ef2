//! Environmental station files of Circular 10/2021/TT-BTNMT (Article 39, Appendix 15, Table 34),
//! with the dialects that loggers write, and the strict legal form for output.
//!
//! The parser says what it tolerated ([`Note`]) and refuses only what cannot be such a file; it
//! does not judge whether a value is plausible.

mod content;
pub mod decimal;
pub mod mapping;
mod name;
pub mod note;

use std::fmt::Write;

use jiff::civil::DateTime;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::formats::Faults;
use crate::model::UnixMs;

use decimal::Decimal;
use mapping::StationMapping;
use note::Note;

/// Largest station file, bytes. A file holds one result time, which takes some 300 bytes.
pub const FILE_BYTES_MAX: usize = 24 * 1024;

/// What a station file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationFile {
    /// Name of the file as it came.
    pub name: String,
    /// SHA-256 of the file as it came, 64 hexadecimal digits.
    pub sha256: String,
    /// Abbreviation of the province as it is today.
    pub province: Option<String>,
    pub facility: Option<String>,
    /// Station code, such as `NUO001`.
    pub station: String,
    /// Kind of station, such as `nuoc_thai`, where it is known.
    pub kind: Option<String>,
    /// Time between two results, seconds, where the mapping tells it.
    pub interval_s: Option<u32>,
    /// The time in the file's name, local time of Vietnam (+07:00).
    pub measured_at: DateTime,
    /// Sent after an outage and not at its time. The parser has no clock and leaves it false.
    pub historical: bool,
    /// At least one, in the file's order.
    pub values: Vec<Value>,
    /// What was tolerated.
    pub notes: Vec<Note>,
}

/// One measured parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Symbol of Table 34, or the file's own for a parameter that is not in it.
    pub symbol: String,
    /// `None` when missing (`---`).
    pub value: Option<Decimal>,
    pub unit: String,
    /// Local time of Vietnam (+07:00).
    pub time: DateTime,
    pub status: Status,
}

/// State of the measuring device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Measuring,
    Calibrating,
    DeviceFault,
    /// `03` of one vendor's loggers; not legal in a file.
    Maintenance,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Measuring => "00",
            Status::Calibrating => "01",
            Status::DeviceFault => "02",
            Status::Maintenance => "03",
        }
    }

    /// The legal status nearest to it. A device under maintenance does not measure, and a
    /// regulator must not read its value as a measurement, so it counts as faulty.
    fn legal(self) -> Status {
        match self {
            Status::Maintenance => Status::DeviceFault,
            Status::Measuring | Status::Calibrating | Status::DeviceFault => self,
        }
    }
}

/// Reads a station file: `name` without folders, `content` byte for byte.
pub fn parse(name: &str, content: &[u8], mapping: &StationMapping) -> Result<StationFile, Faults> {
    let mut notes = note::Notes::default();
    let mut faults = Faults::default();
    let parsed_name = name::parse(name, mapping, &mut notes)
        .map_err(|fault| faults.push_with(|| fault))
        .ok();
    let values = content::parse(content, mapping, &mut notes, &mut faults);
    let Some(parsed_name) = parsed_name.filter(|_| faults.is_empty()) else {
        return Err(faults);
    };
    for value in values.iter().filter(|value| value.time != parsed_name.time) {
        notes.add(Note::TimeDiffers {
            name: digits(parsed_name.time),
            line: digits(value.time),
        });
    }
    Ok(StationFile {
        name: name.to_owned(),
        sha256: sha256_hex(content),
        province: parsed_name.province,
        facility: parsed_name.facility,
        station: parsed_name.station,
        kind: parsed_name.kind,
        interval_s: parsed_name.interval_s,
        measured_at: parsed_name.time,
        historical: false,
        values,
        notes: notes.0,
    })
}

impl StationFile {
    /// The time of the measurement as an instant.
    pub fn measured_at_unix(&self) -> UnixMs {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(7));
        let instant = zone
            .to_timestamp(self.measured_at)
            .expect("a name's year lies between 1970 and 2199");
        UnixMs(instant.as_millisecond())
    }

    /// The record of the dataset of environmental stations. Numbers stand as in the file.
    pub fn to_json(&self) -> String {
        let record = Record {
            tinh: self.province.as_deref(),
            tram: &self.station,
            co_so: self.facility.as_deref(),
            loai: self.kind.as_deref(),
            thoi_diem: rfc3339(self.measured_at),
            chu_ky_giay: self.interval_s,
            gia_tri: self
                .values
                .iter()
                .map(|value| RecordValue::new(value, self.measured_at))
                .collect(),
            tep: &self.name,
            sha256_tep: &self.sha256,
            lich_su: self.historical,
        };
        serde_json::to_string(&record).expect("texts and numbers are always JSON")
    }

    /// Name and content in the strict legal form: UTF-8 without a byte order mark, TAB, CR LF,
    /// decimal point, legal status. A station whose province or facility is not known has a name
    /// without it.
    pub fn to_strict_file(&self) -> (String, Vec<u8>) {
        let time = digits(self.measured_at);
        let known = [
            self.province.as_deref(),
            self.facility.as_deref(),
            Some(&self.station),
        ];
        let name = format!(
            "{}_{time}.txt",
            known.into_iter().flatten().collect::<Vec<_>>().join("_")
        );
        let mut content = String::new();
        for Value {
            symbol,
            value,
            unit,
            time,
            status,
        } in &self.values
        {
            let value = value.as_ref().map_or("---", Decimal::as_str);
            let (time, status) = (digits(*time), status.legal().as_str());
            write!(content, "{symbol}\t{value}\t{unit}\t{time}\t{status}\r\n")
                .expect("writing to memory");
        }
        (name, content.into_bytes())
    }
}

/// Field names of the dataset of environmental stations.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tinh: Option<&'a str>,
    tram: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    co_so: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loai: Option<&'a str>,
    thoi_diem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    chu_ky_giay: Option<u32>,
    gia_tri: Vec<RecordValue<'a>>,
    tep: &'a str,
    sha256_tep: &'a str,
    lich_su: bool,
}

#[derive(Serialize)]
struct RecordValue<'a> {
    k: &'a str,
    v: Option<&'a RawValue>,
    u: &'a str,
    s: &'static str,
    /// Only where it is not the record's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<String>,
}

impl<'a> RecordValue<'a> {
    fn new(value: &'a Value, record_time: DateTime) -> RecordValue<'a> {
        let number = |decimal: &'a Decimal| {
            serde_json::from_str(decimal.as_str()).expect("a decimal is a JSON number")
        };
        RecordValue {
            k: &value.symbol,
            v: value.value.as_ref().map(number),
            u: &value.unit,
            s: value.status.as_str(),
            t: (value.time != record_time).then(|| rfc3339(value.time)),
        }
    }
}

fn rfc3339(time: DateTime) -> String {
    format!("{}+07:00", time.strftime("%Y-%m-%dT%H:%M:%S"))
}

fn digits(time: DateTime) -> String {
    time.strftime("%Y%m%d%H%M%S").to_string()
}

fn sha256_hex(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to memory");
            hex
        })
}

#[cfg(test)]
mod tests;
