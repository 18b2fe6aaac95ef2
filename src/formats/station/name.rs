//! The name of a station file: `<TenTinh>_<TenCoSo>_<TenTram>_yyyyMMddHHmmss.txt`, or
//! `<STATION>_<time>.txt` of older loggers.

use jiff::civil::DateTime;

use super::mapping::{Station, StationMapping};
use super::note::{Note, Notes};
use crate::formats::{Fault, excerpt, number};

/// What a file's name says, with what the mapping adds.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) province: Option<String>,
    pub(super) facility: Option<String>,
    pub(super) station: String,
    pub(super) kind: Option<String>,
    pub(super) interval_s: Option<u32>,
    pub(super) time: DateTime,
}

const NAME_CHARACTERS_MAX: usize = 120;

pub(super) fn parse(
    name: &str,
    mapping: &StationMapping,
    notes: &mut Notes,
) -> Result<Name, Fault> {
    let forbidden = |c: &char| c.is_control() || matches!(c, '/' | '\\' | '"');
    if let Some((at, c)) = name.chars().enumerate().find(|(_, c)| forbidden(c)) {
        let vi = format!("không được có ký tự {c:?}; hãy sửa mẫu tên tệp trong datalogger");
        let en = format!(
            "the character {c:?} is not allowed; correct the name pattern in the data logger"
        );
        return Err(fault(at, &vi, &en));
    }
    if name.chars().count() > NAME_CHARACTERS_MAX {
        return Err(fault(
            NAME_CHARACTERS_MAX,
            "quá dài (tối đa 120 ký tự)",
            "too long (at most 120 characters)",
        ));
    }
    let Some((stem, extension)) = name
        .rsplit_once('.')
        .filter(|(_, end)| end.eq_ignore_ascii_case("txt"))
    else {
        let end = name.chars().count();
        return Err(fault(
            end,
            "phải kết thúc bằng .txt; hãy sửa mẫu tên tệp trong datalogger",
            "it must end with .txt; correct the name pattern in the data logger",
        ));
    };
    if extension != "txt" {
        notes.add(Note::NameSpelling {
            given: extension.to_owned(),
            meant: "txt".to_owned(),
        });
    }
    let Some((before_time, time)) = stem
        .rsplit_once('_')
        .filter(|(before, _)| !before.is_empty())
    else {
        return Err(fault(0, FORM_VI, FORM_EN));
    };
    let time = time_of(time, notes)
        .map_err(|(vi, en)| fault(before_time.chars().count() + 1, &vi, &en))?;
    if let Some(station) = mapping.station(before_time) {
        return Ok(mapped(station, before_time, time, mapping, notes));
    }
    let parts: Vec<&str> = before_time.split('_').collect();
    if parts
        .iter()
        .any(|part| part.trim().is_empty() || part.trim() != *part)
    {
        return Err(fault(0, FORM_VI, FORM_EN));
    }
    Ok(unmapped(&parts, time, mapping, notes))
}

const FORM_VI: &str = "phải có dạng <TenTinh>_<TenCoSo>_<TenTram>_yyyyMMddHHmmss.txt; hãy sửa mẫu tên tệp trong datalogger";
const FORM_EN: &str = "it must have the form <province>_<facility>_<station>_yyyyMMddHHmmss.txt; correct the name pattern in the data logger";

fn mapped(
    station: &Station,
    before_time: &str,
    time: DateTime,
    mapping: &StationMapping,
    notes: &mut Notes,
) -> Name {
    let code = station.station.as_ref();
    let legal = format!(
        "{}_{}_{code}",
        station.province.as_ref(),
        station.facility.as_ref()
    );
    if legal != before_time {
        notes.add(Note::MappedName {
            given: excerpt(before_time),
        });
    }
    let kind = station
        .kind
        .as_ref()
        .map(AsRef::as_ref)
        .or_else(|| mapping.kind(code));
    if kind.is_none() {
        notes.add(Note::UnknownKind {
            station: code.to_owned(),
        });
    }
    Name {
        province: Some(station.province.as_ref().to_owned()),
        facility: Some(station.facility.as_ref().to_owned()),
        station: code.to_owned(),
        kind: kind.map(str::to_owned),
        interval_s: station.interval_s,
        time,
    }
}

fn unmapped(parts: &[&str], time: DateTime, mapping: &StationMapping, notes: &mut Notes) -> Name {
    let (before, station) = match parts {
        [before @ .., station] if mapping.kind(station).is_some() || before.len() > 1 => {
            (before, (*station).to_owned())
        }
        // A station code of an older logger may hold the separator.
        _ => (&[][..], parts.join("_")),
    };
    let (province, facility) = match before {
        [] => (None, None),
        [facility] => (None, Some((*facility).to_owned())),
        [province, facility @ ..] => (Some((*province).to_owned()), Some(facility.join("_"))),
    };
    let province = province.map(|given| match mapping.merged_province(&given) {
        Some(today) => {
            notes.add(Note::MergedProvince {
                given,
                today: today.to_owned(),
            });
            today.to_owned()
        }
        None => given,
    });
    if province.is_none() {
        notes.add(Note::ShortName {
            given: parts.join("_"),
        });
    }
    if let Some(facility) = facility.as_ref().filter(|facility| facility.contains('_')) {
        notes.add(Note::FacilityUnderscore {
            facility: facility.clone(),
        });
    }
    let kind = mapping.kind(&station).map(str::to_owned);
    let meant = if kind.is_some() {
        station.to_ascii_uppercase()
    } else {
        station.clone()
    };
    if kind.is_none() {
        notes.add(Note::UnknownKind {
            station: station.clone(),
        });
    }
    if meant != station {
        notes.add(Note::NameSpelling {
            given: station,
            meant: meant.clone(),
        });
    }
    Name {
        province,
        facility,
        station: meant,
        kind,
        interval_s: None,
        time,
    }
}

/// A time as 14 digits, `yyyyMMddHHmmss`, local time of Vietnam; or what is wrong with it.
pub(super) fn time_of(text: &str, notes: &mut Notes) -> Result<DateTime, (String, String)> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = match (text.len(), digits) {
        (14, true) => text.to_owned(),
        (12, true) => format!("{text}00"),
        _ => {
            let given = excerpt(text);
            return Err((
                format!(
                    "thời gian {given:?} phải gồm 14 chữ số yyyyMMddHHmmss, ví dụ 20260101120000"
                ),
                format!(
                    "the time {given:?} must be 14 digits yyyyMMddHHmmss, such as 20260101120000"
                ),
            ));
        }
    };
    let part = |range: std::ops::Range<usize>| padded[range].parse::<i8>().unwrap_or(-1);
    let year = padded[..4].parse::<i16>().unwrap_or(-1);
    let time = DateTime::new(
        year,
        part(4..6),
        part(6..8),
        part(8..10),
        part(10..12),
        part(12..14),
        0,
    );
    match time {
        Ok(time) if (1970..=2199).contains(&year) => {
            if text.len() == 12 {
                notes.add(Note::TimeWithoutSeconds);
            }
            Ok(time)
        }
        _ => Err((
            format!(
                "thời gian {text} không có thật; hãy chỉnh đồng hồ và mẫu thời gian yyyyMMddHHmmss của datalogger"
            ),
            format!(
                "the time {text} is impossible; set the data logger's clock and its time pattern yyyyMMddHHmmss"
            ),
        )),
    }
}

/// A fault of the name: it stands in no line, so its column counts in the name.
fn fault(characters_before: usize, vi: &str, en: &str) -> Fault {
    Fault {
        line: 1,
        column: number(characters_before + 1),
        message_vi: format!("tên tệp: {vi}"),
        message_en: format!("file name: {en}"),
    }
}
