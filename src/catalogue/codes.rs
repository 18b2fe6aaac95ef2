//! Codes of agencies, dossiers, documents and administrative units, judged by catalogues that are
//! data: `codes/agencies.toml` and `codes/units.toml` beside the datasets.
//!
//! What a code looks like is the business of a field's pattern. Here is told what a code of the
//! right look cannot be (a sixty-fourth province, a thirty-first of February), which refuses the
//! record, and what a code is that the catalogue does not know or that was closed, which only
//! flags it: codes are issued and closed faster than catalogues travel.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use super::CatalogueFault;
use super::condition::Pattern;
use super::directory::{Directory, Place};
use super::file::line_and_column;
use super::schema::describing;

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

/// First letter of an agency's code, and the numbers behind it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgencyKind {
    letter: char,
    from: u8,
    to: u8,
    /// Every code of this kind is in the catalogue.
    complete: bool,
    /// The codes have the numbers of another letter's.
    #[serde(default)]
    same_numbers_as: Option<char>,
    #[serde(rename = "name")]
    _name: String,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAgencies {
    #[serde(default)]
    kind: Vec<AgencyKind>,
    #[serde(default)]
    agency: Vec<WrittenCode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenUnits {
    #[serde(default)]
    complete: bool,
    #[serde(default)]
    unit: Vec<WrittenCode>,
}

/// A code with what is known of it; names are for people.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCode {
    code: String,
    #[serde(rename = "name")]
    _name: String,
    #[serde(default)]
    valid_from: Option<Day>,
    #[serde(default)]
    valid_to: Option<Day>,
    #[serde(default)]
    replaced_by: Vec<String>,
    /// Of a unit.
    #[serde(default)]
    province: Option<String>,
    /// Of an agency: its code of the old form, the agency above where the code does not say so, and
    /// the administrative unit that it stands for.
    #[serde(default)]
    old_code: Option<String>,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default, rename = "basis")]
    _basis: Option<String>,
}

impl WrittenCode {
    fn place(&self) -> Place {
        Place {
            closed_after: self.valid_to.as_ref().map(|day| day.0),
            replaced_by: self.replaced_by.clone(),
            parent: self.parent.clone().or_else(|| self.province.clone()),
            unit: self.unit.clone(),
        }
    }
}

/// A day as files write it, `2025-07-01`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Day(Date);

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Day, String> {
        let day = text.parse().map(Day);
        day.map_err(|_| format!("{text:?} is not a day such as 2025-07-01"))
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

fn by_code(written: Vec<WrittenCode>) -> BTreeMap<String, Vec<Validity>> {
    let mut codes: BTreeMap<String, Vec<Validity>> = BTreeMap::new();
    for code in written {
        codes.entry(code.code).or_default().push(Validity {
            from: code.valid_from.map(|day| day.0),
            to: code.valid_to.map(|day| day.0),
        });
    }
    codes
}

fn read<T: serde::de::DeserializeOwned>(
    name: &str,
    text: Option<Result<String, String>>,
    faults: &mut Vec<CatalogueFault>,
) -> Option<T> {
    let read = text?
        .map_err(|error| ("-".to_owned(), error))
        .and_then(|text| {
            toml::from_str(&text).map_err(|error| {
                let place = error.span().map(|span| line_and_column(&text, span.start));
                (place.unwrap_or("-".to_owned()), error.message().to_owned())
            })
        });
    read.map_err(|(place, error)| {
        faults.push(CatalogueFault {
            file: format!("codes/{name}"),
            place,
            message_vi: format!("không đọc được danh mục mã: {error}"),
            message_en: format!("the catalogue of codes cannot be read: {error}"),
            hint_vi: "Sửa tệp theo mẫu của bộ cài; ngày viết dạng \"2025-07-01\".".to_owned(),
            hint_en: "Correct the file after the distribution's; write days as \"2025-07-01\"."
                .to_owned(),
        });
    })
    .ok()
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shipped() -> Codes {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        Codes::load(&root).expect("the shipped catalogue of codes")
    }

    fn day(text: &str) -> Option<Date> {
        Some(text.parse().expect("a day"))
    }

    #[test]
    fn a_dossier_of_the_day_after_tomorrow_cannot_be() {
        let codes = shipped();
        let today: Date = "2026-11-30".parse().expect("a day");
        for (scheme, text, is_of_the_future) in [
            (Scheme::Dossier, "H53.12-261130-0042", false),
            (Scheme::Dossier, "H53.12-261201-0042", false),
            (Scheme::Dossier, "H53.12-261202-0042", true),
            (Scheme::Dossier, "000.00.12.H53-991231-0001", true),
            (Scheme::Dossier, "không phải mã", false),
            (Scheme::Agency, "H53.12", false),
            (Scheme::Document, "H53.12,2099/01/01,1/UBND", false),
        ] {
            let found = codes.is_of_the_future(scheme, text, today);
            assert_eq!(found, is_of_the_future, "{text}");
        }
        let last = Date::MAX;
        assert!(!codes.is_of_the_future(Scheme::Dossier, "H53.12-991231-0001", last));
    }

    fn agency() -> impl Strategy<Value = (String, char, u8)> {
        let parts = (
            "[A-K]",
            0u8..100,
            prop::collection::vec("[0-9A-Z]{1,4}", 0..3),
        );
        parts.prop_map(|(letter, number, more)| {
            let letter = letter.chars().next().expect("one letter");
            let more: String = more.iter().map(|part| format!(".{part}")).collect();
            (format!("{letter}{number:02}{more}"), letter, number)
        })
    }

    proptest! {
        /// Old and new form of an agency's code are judged alike, and a dossier as its agency and
        /// its day are.
        #[test]
        fn a_dossier_is_as_possible_as_its_agency_and_day(
            (agency, letter, number) in agency(),
            (year, month, day) in (0u8..100, 0u8..16, 0u8..34),
            sequence in 0u32..1_000_000,
            today in -3i32..4,
        ) {
            let codes = shipped();
            let is_agency = codes.is_possible(Scheme::Agency, &agency);
            let top = format!("{letter}{number:02}");
            prop_assert_eq!(is_agency, codes.is_possible(Scheme::Agency, &top));
            prop_assert_eq!(
                is_agency,
                codes.is_possible(Scheme::Agency, &format!("000.00.12.{top}"))
            );
            let text = format!("{agency}-{year:02}{month:02}{day:02}-{sequence:04}");
            let date = Date::new(
                2000 + i16::from(year),
                month.cast_signed(),
                day.cast_signed(),
            );
            prop_assert_eq!(
                codes.is_possible(Scheme::Dossier, &text),
                is_agency && date.is_ok()
            );
            let document = format!("{agency},20{year:02}/{month:02}/{day:02},{sequence}/UBND");
            prop_assert_eq!(
                codes.is_possible(Scheme::Document, &document),
                is_agency && date.is_ok()
            );
            if let Ok(date) = date {
                let from = date.checked_sub(jiff::Span::new().days(today)).expect("a day");
                prop_assert_eq!(codes.is_of_the_future(Scheme::Dossier, &text, from), 1 < today);
            }
        }

        #[test]
        fn any_text_is_judged_twice_alike(text in "\\PC{0,40}") {
            let codes = shipped();
            for scheme in Scheme::ALL {
                let on = day("2026-11-22");
                prop_assert_eq!(
                    codes.flag(scheme, &text, on),
                    codes.flag(scheme, &text, on)
                );
                let is_possible = codes.is_possible(scheme, &text);
                prop_assert_eq!(is_possible, codes.is_possible(scheme, &text));
            }
        }
    }

    #[test]
    fn what_cannot_be_a_code_is_told_from_what_can() {
        let codes = shipped();
        for (scheme, text, is_possible) in [
            (Scheme::Agency, "H53.12", true),
            (Scheme::Agency, "000.00.12.H53", true),
            (Scheme::Agency, "H37.DN.001", true),
            (Scheme::Agency, "H64", false),
            (Scheme::Agency, "000.00.00.H64", false),
            (Scheme::Agency, "B02.1", false),
            (Scheme::Agency, "K00", false),
            (Scheme::Agency, "J28", true),
            (Scheme::Dossier, "H53.12-261120-0042", true),
            (Scheme::Dossier, "H53.12-260231-0042", false),
            (Scheme::Dossier, "000.00.12.H53-240229-00042", true),
            (Scheme::Dossier, "H99-261120-0042", false),
            (
                Scheme::Document,
                "000.00.12.H53,2026/11/20,142/UBND-VP",
                true,
            ),
            (
                Scheme::Document,
                "000.00.12.H53,2026/11/31,142/UBND-VP",
                false,
            ),
            (Scheme::Document, "H53.12,2026/13/01,1/A", false),
            (Scheme::AdminUnit, "25486", true),
            (Scheme::AdminUnit, "00000", false),
        ] {
            assert_eq!(codes.is_possible(scheme, text), is_possible, "{text}");
            assert!(
                Codes::default().is_possible(scheme, "H53.12"),
                "no catalogue refuses nothing"
            );
        }
    }

    #[test]
    fn unknown_and_closed_codes_are_flagged() {
        let codes = shipped();
        let (before, after) = (day("2025-01-01"), day("2026-11-20"));
        for (scheme, text, on, flag) in [
            (Scheme::Agency, "H53.12", after, None),
            (Scheme::Agency, "H39.5", before, None),
            (Scheme::Agency, "H39.5", after, Some(Flag::Closed)),
            (Scheme::Agency, "000.00.05.H39", after, Some(Flag::Closed)),
            (Scheme::Agency, "K39", after, Some(Flag::Closed)),
            (Scheme::Agency, "G14", after, Some(Flag::Closed)),
            (Scheme::Agency, "G14", None, None),
            (Scheme::Agency, "G99.1", after, Some(Flag::Unknown)),
            (Scheme::Agency, "A07", after, None),
            (
                Scheme::Dossier,
                "H22.1-261120-0042",
                after,
                Some(Flag::Closed),
            ),
            (
                Scheme::Document,
                "G99,2026/11/20,1/A",
                after,
                Some(Flag::Unknown),
            ),
            (Scheme::AdminUnit, "80", before, Some(Flag::Closed)),
            (Scheme::AdminUnit, "25486", before, None),
            (Scheme::AdminUnit, "99999", after, None),
        ] {
            assert_eq!(codes.flag(scheme, text, on), flag, "{text}");
            assert_eq!(Codes::default().flag(scheme, text, on), None);
        }
    }

    #[test]
    fn fields_are_found_through_references_lists_and_objects() {
        let schema = serde_json::json!({
            "properties": {
                "tu": {"properties": {"ma": {"$ref": "#/$defs/ma"}}},
                "den": {"items": {"properties": {"ma": {"$ref": "#/$defs/ma"}}}},
                "ten": {"type": "string"}
            },
            "$defs": {"ma": {"format": "agency-code"}}
        });
        let record =
            serde_json::json!({"tu": {"ma": "G99"}, "den": [{"ma": "H53"}, {"ma": "G98"}]});
        let pointers: Vec<Option<String>> = fields(&schema)
            .iter()
            .map(|(pattern, _)| {
                pattern.find(&record, &mut |value| {
                    value.as_str().is_some_and(|code| code.starts_with('G'))
                })
            })
            .collect();
        assert_eq!(
            pointers,
            [Some("/den/1/ma".to_owned()), Some("/tu/ma".to_owned())]
        );
    }
}
