//! What a station file does not say itself: symbols, kinds of stations, merged provinces, and the
//! legal names of stations whose logger writes an older form. A configuration adds to it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Symbols of Table 34 (Appendix 15, Circular 10/2021/TT-BTNMT).
pub const TABLE_34: [&str; 25] = [
    "Flow", "Temp", "Color", "pH", "TSS", "COD", "NH4", "TP", "TN", "TOC", "Cl", "RH", "P", "NO",
    "NO2", "CO", "SO2", "O2", "H2S", "NH3", "VHg", "PM", "O3", "PM10", "PM2,5",
];

/// Spellings that loggers use for symbols of Table 34, beside another case of the letters.
const SYMBOL_ALIASES: [(&str, &str); 9] = [
    ("PM2.5", "PM2,5"),
    ("PM25", "PM2,5"),
    ("PM2_5", "PM2,5"),
    ("PM-2.5", "PM2,5"),
    ("NH4+", "NH4"),
    ("T-P", "TP"),
    ("T-N", "TN"),
    ("Temperature", "Temp"),
    ("Colour", "Color"),
];

/// Kind of a station by the letters of its code, as `loai` of the record.
const KINDS: [(&str, &str); 2] = [("NUO", "nuoc_thai"), ("KHI", "khi_thai")];

/// Provinces that merged on 1 July 2025, where the old abbreviation meant one province only.
///
/// No circular fixes the abbreviations, so a province that uses others says so in its
/// configuration; mapping an abbreviation to itself undoes a line of this table.
const MERGED_PROVINCES: [(&str, &str); 15] = [
    ("BG", "BN"),
    ("BL", "CM"),
    ("BRVT", "HCM"),
    ("HB", "PT"),
    ("HD", "HP"),
    ("KG", "AG"),
    ("LA", "TNI"),
    ("ND", "NB"),
    ("NT", "KH"),
    ("QB", "QT"),
    ("ST", "CT"),
    ("TB", "HY"),
    ("TG", "DT"),
    ("TV", "VL"),
    ("VP", "PT"),
];

/// Additions to the tables above, for one source's configuration. Keys compare without regard to
/// the case of ASCII letters, and win over the tables.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StationMapping {
    /// Stations by what stands before the time in the file name, such as `TRAM01` for
    /// `TRAM01_20260101120000.txt`.
    pub stations: BTreeMap<String, Station>,
    /// `loai` by the letters of a station code, such as `NUO`.
    pub kinds: BTreeMap<String, Label>,
    /// Today's abbreviation of a province by an older one.
    pub provinces: BTreeMap<String, NamePart>,
    /// Symbol by the vendor's spelling.
    pub symbols: BTreeMap<String, Label>,
}

/// A station's legal name, and what its files do not say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Station {
    pub province: NamePart,
    pub facility: NamePart,
    pub station: NamePart,
    /// `loai`, where the letters of the station code do not say it.
    #[serde(default)]
    pub kind: Option<Label>,
    /// Time between two results, seconds.
    #[serde(default)]
    pub interval_s: Option<u32>,
}

/// A part of a legal file name: it cannot split the name or leave the folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NamePart(String);

impl TryFrom<String> for NamePart {
    type Error = String;

    fn try_from(text: String) -> Result<NamePart, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if (1..=40).contains(&text.len()) && text.chars().all(fits) {
            Ok(NamePart(text))
        } else {
            Err(format!(
                "{text:?} is not a part of a station file's name (1 to 40 of A-Z, a-z, 0-9 and '-')"
            ))
        }
    }
}

impl AsRef<str> for NamePart {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A symbol or a kind of station: it cannot break a line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(String);

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> Result<Label, String> {
        let count = text.chars().count();
        if (1..=40).contains(&count) && text.trim() == text && !text.chars().any(char::is_control) {
            Ok(Label(text))
        } else {
            Err(format!(
                "{text:?} is not a symbol or kind (1 to 40 characters without tabs and outer spaces)"
            ))
        }
    }
}

impl AsRef<str> for Label {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl StationMapping {
    pub(super) fn station(&self, before_time: &str) -> Option<&Station> {
        self.stations
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(before_time))
            .map(|(_, station)| station)
    }

    /// Kind of a station by its code: letters, then digits.
    pub(super) fn kind(&self, station: &str) -> Option<&str> {
        let letters = station.trim_end_matches(|c: char| c.is_ascii_digit());
        look_up(&self.kinds, &KINDS, letters)
    }

    /// Today's abbreviation of a merged province.
    pub(super) fn merged_province(&self, province: &str) -> Option<&str> {
        look_up(&self.provinces, &MERGED_PROVINCES, province).filter(|today| *today != province)
    }

    /// The legal symbol, `None` when the parameter is not in Table 34 and not configured.
    pub(super) fn symbol(&self, given: &str) -> Option<&str> {
        look_up(&self.symbols, &SYMBOL_ALIASES, given)
            .or_else(|| TABLE_34.into_iter().find(|symbol| *symbol == given))
            .or_else(|| {
                TABLE_34
                    .into_iter()
                    .find(|symbol| symbol.eq_ignore_ascii_case(given))
            })
    }
}

fn look_up<'a, T: AsRef<str>>(
    configured: &'a BTreeMap<String, T>,
    table: &[(&str, &'a str)],
    key: &str,
) -> Option<&'a str> {
    let configured = configured
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_ref()));
    configured
        .chain(table.iter().copied())
        .find(|(name, _)| name.eq_ignore_ascii_case(key))
        .map(|(_, value)| value)
}
