//! Codes of agencies, dossiers, documents and administrative units, judged by catalogues that are
//! data: `codes/agencies.toml` and `codes/units.toml` beside the datasets.
//!
//! What a code looks like is the business of a field's pattern. Here is told what a code of the
//! right look cannot be (a sixty-fourth province, a thirty-first of February), which refuses the
//! record, and what a code is that the catalogue does not know or that was closed, which only
//! flags it: codes are issued and closed faster than catalogues travel.

mod written;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::Date;
use serde_json::Value;

use super::CatalogueFault;
use super::condition::Pattern;
use super::directory::Directory;
use super::schema::describing;
use written::{AgencyKind, WrittenAgencies, WrittenUnits, by_code, read};

/// The files of the folder `codes`.
pub const AGENCIES: &str = "agencies.toml";
pub const UNITS: &str = "units.toml";
/// Fields inside of fields that are looked into for codes.
const DEPTH_MAX: usize = 6;

/// What a code is of, by the `format` of a field's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Agency,
    Dossier,
    Document,
    AdminUnit,
}

impl Scheme {
    pub const ALL: [Scheme; 4] = [
        Scheme::Agency,
        Scheme::Dossier,
        Scheme::Document,
        Scheme::AdminUnit,
    ];

    /// The `format` that names it.
    pub fn format(self) -> &'static str {
        match self {
            Scheme::Agency => "agency-code",
            Scheme::Dossier => "dossier-code",
            Scheme::Document => "document-id",
            Scheme::AdminUnit => "admin-unit",
        }
    }
}

/// What is remarkable about a code that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Unknown,
    /// It was closed before the record's time, or not valid yet.
    Closed,
}

impl Flag {
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::Unknown => "unknown",
            Flag::Closed => "closed",
        }
    }
}

/// The catalogues of codes. Without files everything is possible and nothing is remarkable.
#[derive(Debug, Clone, Default)]
pub struct Codes {
    kinds: Vec<AgencyKind>,
    agencies: BTreeMap<String, Vec<Validity>>,
    units: BTreeMap<String, Vec<Validity>>,
    units_are_complete: bool,
    /// Mergers and what is below what.
    pub directory: Directory,
}

#[derive(Debug, Clone, Copy)]
struct Validity {
    from: Option<Date>,
    to: Option<Date>,
}

impl Validity {
    fn holds(self, on: Date) -> bool {
        self.from.is_none_or(|from| from <= on) && self.to.is_none_or(|to| on <= to)
    }
}

impl Codes {
    /// Reads the folder `codes` of a catalogue; a folder without it knows no codes.
    pub fn load(catalogue: &Path) -> Result<Codes, Vec<CatalogueFault>> {
        let folder = catalogue.join("codes");
        let text = |name: &str| match std::fs::read_to_string(folder.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            text => Some(text.map_err(|error| error.to_string())),
        };
        Codes::from_texts(text(AGENCIES), text(UNITS))
    }

    /// As [`Codes::load`], from the texts of the files, or why they cannot be read.
    pub fn from_texts(
        agencies: Option<Result<String, String>>,
        units: Option<Result<String, String>>,
    ) -> Result<Codes, Vec<CatalogueFault>> {
        let mut faults = Vec::new();
        let agencies: Option<WrittenAgencies> = read(AGENCIES, agencies, &mut faults);
        let units: Option<WrittenUnits> = read(UNITS, units, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut directory = Directory::default();
        for office in agencies.iter().flat_map(|written| &written.agency) {
            directory.add_office(&office.code, office.old_code.clone(), office.place());
        }
        for unit in units.iter().flat_map(|written| &written.unit) {
            directory.add_unit(&unit.code, unit.place());
        }
        let (kinds, agencies) = agencies.map_or_else(Default::default, |agencies| {
            (agencies.kind, by_code(agencies.agency))
        });
        let (units_are_complete, units) = units.map_or_else(Default::default, |units| {
            (units.complete, by_code(units.unit))
        });
        Ok(Codes {
            kinds,
            agencies,
            units,
            units_are_complete,
            directory,
        })
    }

    /// Whether a text of the right look can be such a code.
    pub fn is_possible(&self, scheme: Scheme, text: &str) -> bool {
        match scheme {
            Scheme::Agency => self.is_agency(text),
            Scheme::Dossier => match dossier(text) {
                Some((agency, date)) => self.is_agency(agency) && date_of("20", date).is_some(),
                None => true,
            },
            Scheme::Document => match document(text) {
                Some((agency, date)) => self.is_agency(agency) && date_of("", date).is_some(),
                None => true,
            },
            Scheme::AdminUnit => !text.is_empty() && !text.bytes().all(|digit| digit == b'0'),
        }
    }

    /// Whether a code names a day that no office can have reached: a dossier is received on the day
    /// in its code. A day more is allowed, for clocks that differ.
    pub fn is_of_the_future(&self, scheme: Scheme, text: &str, today: Date) -> bool {
        let day = match scheme {
            Scheme::Dossier => dossier(text).and_then(|(_, date)| date_of("20", date)),
            Scheme::Agency | Scheme::Document | Scheme::AdminUnit => None,
        };
        day.is_some_and(|day| today.tomorrow().is_ok_and(|tomorrow| tomorrow < day))
    }

    /// What is remarkable about a possible code on a day.
    pub fn flag(&self, scheme: Scheme, text: &str, on: Option<Date>) -> Option<Flag> {
        match scheme {
            Scheme::Agency => self.agency_flag(text, on),
            Scheme::Dossier => self.agency_flag(dossier(text)?.0, on),
            Scheme::Document => self.agency_flag(document(text)?.0, on),
            Scheme::AdminUnit => match self.units.get(text) {
                None => self.units_are_complete.then_some(Flag::Unknown),
                Some(validities) => closed(validities, on),
            },
        }
    }

    fn kind(&self, letter: char) -> Option<&AgencyKind> {
        self.kinds.iter().find(|kind| kind.letter == letter)
    }

    fn is_agency(&self, text: &str) -> bool {
        let Some((letter, number)) = top_level(text).and_then(letter_and_number) else {
            return true;
        };
        let kind = self.kind(letter);
        kind.is_none_or(|kind| (kind.from..=kind.to).contains(&number))
    }

    fn agency_flag(&self, text: &str, on: Option<Date>) -> Option<Flag> {
        let top = top_level(text)?;
        let (letter, number) = letter_and_number(top)?;
        let kind = self.kind(letter)?;
        let letter = kind.same_numbers_as.unwrap_or(letter);
        let top = [letter as u8, b'0' + number / 10, b'0' + number % 10];
        let top = std::str::from_utf8(&top).expect("a capital and two digits");
        let known = self.agencies.get(text).or_else(|| self.agencies.get(top));
        match known {
            None => kind.complete.then_some(Flag::Unknown),
            Some(validities) => closed(validities, on),
        }
    }
}

fn closed(validities: &[Validity], on: Option<Date>) -> Option<Flag> {
    let on = on?;
    let is_valid = validities.iter().any(|validity| validity.holds(on));
    (!is_valid).then_some(Flag::Closed)
}

/// The part of an agency's code that names the ministry or province: the last group of the old
/// form, the first of the new.
fn top_level(text: &str) -> Option<&str> {
    let first = text.split('.').next()?;
    let is_old = first.len() == 3
        && letter_and_number(first).is_none()
        && text.bytes().filter(|byte| *byte == b'.').count() == 3;
    match is_old {
        true => text.rsplit('.').next(),
        false => Some(first),
    }
}

fn letter_and_number(group: &str) -> Option<(char, u8)> {
    let mut letters = group.chars();
    let letter = letters.next().filter(char::is_ascii_uppercase)?;
    let digits = letters.as_str();
    let is_number = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| Some((letter, digits.parse().ok()?)))?
}

/// Agency and `yyMMdd` of a dossier's code.
fn dossier(text: &str) -> Option<(&str, &str)> {
    let (before, _) = text.rsplit_once('-')?;
    let (agency, date) = before.rsplit_once('-')?;
    let is_date = date.len() == 6 && date.bytes().all(|digit| digit.is_ascii_digit());
    is_date.then_some((agency, date))
}

/// Agency and `yyyy/MM/dd` of a document's identifier.
fn document(text: &str) -> Option<(&str, &str)> {
    let (agency, rest) = text.split_once(',')?;
    let (date, _) = rest.split_once(',')?;
    Some((agency, date))
}

/// A day of the calendar: `century` and `yyMMdd`, or `yyyy/MM/dd`.
fn date_of(century: &str, text: &str) -> Option<Date> {
    let mut digits = [0u8; 8];
    let mut count = 0;
    for byte in century.bytes().chain(text.bytes()) {
        match byte {
            b'/' | b'-' => {}
            b'0'..=b'9' if count < digits.len() => {
                digits[count] = byte - b'0';
                count += 1;
            }
            _ => return None,
        }
    }
    let pair = |at: usize| digits[at] * 10 + digits[at + 1];
    let year = i16::from(pair(0)) * 100 + i16::from(pair(2));
    let (month, day) = (pair(4).cast_signed(), pair(6).cast_signed());
    (count == digits.len()).then(|| Date::new(year, month, day).ok())?
}

/// The fields of a schema that hold codes.
pub fn fields(schema: &Value) -> Vec<(Pattern, Scheme)> {
    let mut found = Vec::new();
    add_fields(schema, &mut Vec::new(), &mut found);
    found
}

fn add_fields(schema: &Value, names: &mut Vec<String>, found: &mut Vec<(Pattern, Scheme)>) {
    let here: Vec<&str> = names.iter().map(String::as_str).collect();
    let known = describing(schema, &here);
    let format = known.iter().find_map(|part| part.get("format")?.as_str());
    let scheme = Scheme::ALL
        .into_iter()
        .find(|scheme| Some(scheme.format()) == format);
    if let (Some(scheme), Ok(pattern)) = (scheme, format!("/{}", here.join("/")).parse()) {
        found.push((pattern, scheme));
    }
    if names.len() == DEPTH_MAX {
        return;
    }
    let mut below: Vec<String> = Vec::new();
    for part in &known {
        let properties = part.get("properties").and_then(Value::as_object);
        below.extend(
            properties
                .into_iter()
                .flat_map(|fields| fields.keys().cloned()),
        );
        if part.get("items").is_some() {
            below.push("*".to_owned());
        }
    }
    below.sort();
    below.dedup();
    for name in below {
        names.push(name);
        add_fields(schema, names, found);
        names.pop();
    }
}

#[cfg(test)]
mod tests;
