//! Offices in time: what a code stands for today, which office is below which, and where a unit of
//! the country belongs. Records are never rewritten because an office was merged; who looks at them
//! goes through this map, which is data (`codes/agencies.toml`, `codes/units.toml`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

/// Mergers that are followed one after another; a longer way is a circle in the data.
const MERGERS_MAX: usize = 16;

/// What is known of offices and administrative units. Empty, every code stands for itself.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    offices: BTreeMap<String, Place>,
    units: BTreeMap<String, Place>,
    /// Codes of QCVN 102:2016/BTTTT and what they became.
    by_old_code: BTreeMap<String, String>,
}

/// An office, or an administrative unit.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// It is called so until this day, and after it by the codes in `replaced_by`.
    pub closed_after: Option<Date>,
    pub replaced_by: Vec<String>,
    /// Of an office: the one above, where its code does not say so. Of a unit: its province.
    pub parent: Option<String>,
    /// Of an office: the administrative unit that it stands for.
    pub unit: Option<String>,
}

impl Directory {
    pub fn add_office(&mut self, code: &str, old_code: Option<String>, place: Place) {
        if let Some(old_code) = old_code {
            self.by_old_code.insert(old_code, code.to_owned());
        }
        add(&mut self.offices, code, place);
    }

    pub fn add_unit(&mut self, code: &str, place: Place) {
        add(&mut self.units, code, place);
    }

    /// The codes that an office's code stands for on a day: itself, or those that it was merged
    /// into; a code of the old form by the table, else as it would be computed.
    pub fn offices(&self, code: &str, on: Date) -> BTreeSet<String> {
        let code = match self.by_old_code.get(code) {
            Some(new) => new.clone(),
            None => computed(code).unwrap_or_else(|| code.to_owned()),
        };
        successors(&self.offices, code, on)
    }

    /// Whether two codes stand for the same office on a day.
    pub fn is_same(&self, a: &str, b: &str, on: Date) -> bool {
        a == b || !self.offices(a, on).is_disjoint(&self.offices(b, on))
    }

    /// Whether an office is the other one, or below it.
    pub fn is_within(&self, code: &str, area: &str, on: Date) -> bool {
        let areas = self.offices(area, on);
        self.offices(code, on)
            .iter()
            .any(|code| self.above(code).any(|above| areas.contains(above)))
    }

    /// Whether an administrative unit is the one that an office or one below it stands for, or a
    /// part of it.
    pub fn unit_is_within(&self, unit: &str, area: &str, on: Date) -> bool {
        let units = successors(&self.units, unit.to_owned(), on);
        let is_of = |code: &str| {
            units.contains(code)
                || units.iter().any(|unit| {
                    let place = self.units.get(unit);
                    place.and_then(|place| place.parent.as_deref()) == Some(code)
                })
        };
        let areas = self.offices(area, on);
        self.offices.iter().any(|(code, place)| {
            place.unit.as_deref().is_some_and(is_of)
                && self.above(code).any(|above| areas.contains(above))
        })
    }

    /// Whether a code is one that the directory names, or stands below one that it names.
    pub fn knows(&self, code: &str, on: Date) -> bool {
        self.offices(code, on).iter().any(|code| {
            self.above(code)
                .any(|above| self.offices.contains_key(above))
        })
    }

    /// All that a directory names within an office, offices and units; changes with mergers.
    pub fn within(&self, area: &str, on: Date) -> Vec<String> {
        let offices = self
            .offices
            .keys()
            .filter(|code| self.is_within(code, area, on));
        let mut within: Vec<String> = offices.cloned().collect();
        let unit = |code: &&String| self.unit_is_within(code, area, on);
        within.extend(self.units.keys().filter(unit).cloned());
        within
    }

    /// The office and all that stand above it, nearest first.
    fn above<'d>(&'d self, code: &'d str) -> impl Iterator<Item = &'d str> {
        let next = |code: &&'d str| -> Option<&'d str> {
            let parent = self
                .offices
                .get(*code)
                .and_then(|place| place.parent.as_deref());
            parent.or_else(|| code.rsplit_once('.').map(|(above, _)| above))
        };
        std::iter::successors(Some(code), next).take(MERGERS_MAX)
    }
}

fn add(places: &mut BTreeMap<String, Place>, code: &str, new: Place) {
    let place = places.entry(code.to_owned()).or_default();
    // A code that goes on under another name is closed by its last line only.
    place.closed_after = match (place.closed_after, new.closed_after) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (None, b) if place.replaced_by.is_empty() => b,
        _ => None,
    };
    place.replaced_by.extend(new.replaced_by);
    place.parent = new.parent.or(place.parent.take());
    place.unit = new.unit.or(place.unit.take());
}

fn successors(places: &BTreeMap<String, Place>, code: String, on: Date) -> BTreeSet<String> {
    let mut level = BTreeSet::from([code]);
    for _ in 0..MERGERS_MAX {
        let mut next = BTreeSet::new();
        let mut changed = false;
        for code in &level {
            match places.get(code) {
                Some(place)
                    if !place.replaced_by.is_empty()
                        && place.closed_after.is_none_or(|last| last < on) =>
                {
                    changed = true;
                    next.extend(place.replaced_by.iter().cloned());
                }
                _ => {
                    next.insert(code.clone());
                }
            }
        }
        level = next;
        if !changed {
            break;
        }
    }
    level
}

/// The new form of a code of the old one (`000.00.12.H53` is `H53.12`), where no table says better.
fn computed(code: &str) -> Option<String> {
    let groups: Vec<&str> = code.split('.').collect();
    let [unit, third, second, top] = groups.as_slice() else {
        return None;
    };
    if (unit.len(), third.len(), second.len(), top.len()) != (3, 2, 2, 3)
        || !top.starts_with(|letter: char| letter.is_ascii_uppercase())
        || unit.starts_with(|letter: char| letter.is_ascii_uppercase())
    {
        return None;
    }
    let mut new = (*top).to_owned();
    for group in [second, third, unit] {
        if !group.bytes().all(|digit| digit == b'0') {
            new.push('.');
            new.push_str(group);
        }
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        text.parse().expect("a day")
    }

    fn directory() -> Directory {
        let mut directory = Directory::default();
        let merged = |into: &[&str]| Place {
            closed_after: Some(day("2026-06-30")),
            replaced_by: into.iter().map(|code| (*code).to_owned()).collect(),
            ..Place::default()
        };
        directory.add_office("H53.11", None, merged(&["H53.12"]));
        directory.add_office("H53.20", None, merged(&["H53.12", "H53.13"]));
        directory.add_office(
            "H53.12",
            Some("002.00.20.H13".to_owned()),
            Place {
                unit: Some("25486".to_owned()),
                ..Place::default()
            },
        );
        directory.add_office(
            "X1.7",
            None,
            Place {
                parent: Some("H53.12".to_owned()),
                ..Place::default()
            },
        );
        directory.add_office("H53", None, Place::default());
        directory.add_unit(
            "25486",
            Place {
                parent: Some("80".to_owned()),
                ..Place::default()
            },
        );
        directory.add_unit("25480", merged(&["25486"]));
        directory
    }

    #[test]
    fn a_code_stands_for_its_successors_from_the_day_after() {
        let directory = directory();
        let today = |code, on| {
            directory
                .offices(code, day(on))
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(today("H53.11", "2026-06-30"), ["H53.11"]);
        assert_eq!(today("H53.11", "2026-07-01"), ["H53.12"]);
        assert_eq!(today("H53.20", "2026-07-01"), ["H53.12", "H53.13"]);
        assert_eq!(
            today("002.00.20.H13", "2026-07-01"),
            ["H53.12"],
            "the table"
        );
        assert_eq!(
            today("000.00.11.H53", "2026-07-01"),
            ["H53.12"],
            "computed, then merged"
        );
        assert!(directory.is_same("000.00.12.H53", "H53.11", day("2026-07-01")));
        assert!(!directory.is_same("H53.12", "H53.11", day("2026-06-30")));
    }

    #[test]
    fn below_goes_by_the_code_and_by_the_directory() {
        let directory = directory();
        let on = day("2026-07-01");
        for (code, area, is_within) in [
            ("H53.12", "H53.12", true),
            ("H53.12.3", "H53.12", true),
            ("H53.120", "H53.12", false),
            ("H53", "H53.12", false),
            ("X1.7", "H53", true),
            ("000.00.11.H53", "H53.12", true),
            ("H53.12", "H53.11", true),
        ] {
            assert_eq!(
                directory.is_within(code, area, on),
                is_within,
                "{code} {area}"
            );
        }
        assert!(directory.unit_is_within("25486", "H53.12", on));
        assert!(
            directory.unit_is_within("25480", "H53", on),
            "a merged unit, the office above"
        );
        assert!(!directory.unit_is_within("25486", "H53.13", on));
        assert!(directory.knows("H53.99", on) && !directory.knows("H60.1", on));
    }

    #[test]
    fn a_circle_in_the_data_ends() {
        let mut directory = Directory::default();
        for (code, next) in [("H53.1", "H53.2"), ("H53.2", "H53.1")] {
            directory.add_office(
                code,
                None,
                Place {
                    replaced_by: vec![next.to_owned()],
                    ..Place::default()
                },
            );
        }
        assert_eq!(directory.offices("H53.1", day("2026-07-01")).len(), 1);
    }
}
