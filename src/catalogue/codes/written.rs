//! The catalogues of codes as their files write them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Validity;
use crate::catalogue::CatalogueFault;
use crate::catalogue::directory::Place;
use crate::catalogue::file::line_and_column;

/// First letter of an agency's code, and the numbers behind it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgencyKind {
    pub(super) letter: char,
    pub(super) from: u8,
    pub(super) to: u8,
    /// Every code of this kind is in the catalogue.
    pub(super) complete: bool,
    /// The codes have the numbers of another letter's.
    #[serde(default)]
    pub(super) same_numbers_as: Option<char>,
    #[serde(rename = "name")]
    _name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAgencies {
    #[serde(default)]
    pub(super) kind: Vec<AgencyKind>,
    #[serde(default)]
    pub(super) agency: Vec<WrittenCode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenUnits {
    #[serde(default)]
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) unit: Vec<WrittenCode>,
}

/// A code with what is known of it; names are for people.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCode {
    pub(super) code: String,
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
    pub(super) old_code: Option<String>,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default, rename = "basis")]
    _basis: Option<String>,
}

impl WrittenCode {
    pub(super) fn place(&self) -> Place {
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

pub(super) fn by_code(written: Vec<WrittenCode>) -> BTreeMap<String, Vec<Validity>> {
    let mut codes: BTreeMap<String, Vec<Validity>> = BTreeMap::new();
    for code in written {
        codes.entry(code.code).or_default().push(Validity {
            from: code.valid_from.map(|day| day.0),
            to: code.valid_to.map(|day| day.0),
        });
    }
    codes
}

pub(super) fn read<T: DeserializeOwned>(
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
