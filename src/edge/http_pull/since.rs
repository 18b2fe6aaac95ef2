//! How far a service was read: a number or a time, as the service writes it.

use std::cmp::Ordering;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use crate::model::UnixMs;

/// A value of the field that tells when an item changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    text: String,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Number(i64),
    /// With an offset.
    Instant(i64),
    /// Without one: whatever the service's clock says.
    Civil(DateTime),
}

impl Mark {
    /// None when it is neither a number nor a time.
    pub fn parse(text: &str) -> Option<Mark> {
        let value = if let Ok(number) = text.parse() {
            Value::Number(number)
        } else if let Ok(instant) = text.parse::<Timestamp>() {
            Value::Instant(instant.as_millisecond())
        } else {
            Value::Civil(text.parse().ok()?)
        };
        Some(Mark {
            text: text.to_owned(),
            value,
        })
    }

    /// Grows with the mark; of a time in milliseconds.
    pub fn number(&self) -> i64 {
        match self.value {
            Value::Number(number) => number,
            Value::Instant(ms) => ms,
            Value::Civil(at) => civil_ms(at),
        }
    }

    pub fn is_later_than(&self, other: &Mark) -> bool {
        self.number().cmp(&other.number()) == Ordering::Greater
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to ask for: a time lies `overlap_ms` back, a number is asked for itself.
    pub fn asked(&self, overlap_ms: u64) -> String {
        let back = SignedDuration::from_millis(i64::try_from(overlap_ms).unwrap_or(i64::MAX));
        match self.value {
            Value::Instant(ms) => UnixMs(ms.saturating_sub_unsigned(overlap_ms)).to_string(),
            Value::Civil(at) => {
                let at = at.checked_sub(back).unwrap_or(at);
                let separator = if self.text.contains('T') { "T" } else { " " };
                at.strftime(&format!("%Y-%m-%d{separator}%H:%M:%S"))
                    .to_string()
            }
            Value::Number(_) => self.text.clone(),
        }
    }

    /// What is below this number is not asked for again.
    pub fn floor(&self, overlap_ms: u64) -> i64 {
        match self.value {
            Value::Number(number) => number,
            // Twice, so that a service whose sense of "since" is not ours gives no doubles.
            _ => self
                .number()
                .saturating_sub_unsigned(overlap_ms.saturating_mul(2)),
        }
    }
}

fn civil_ms(at: DateTime) -> i64 {
    let zoned = at.to_zoned(jiff::tz::TimeZone::UTC);
    zoned.map_or(0, |zoned| zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_compared_by_value_and_asked_for_with_their_overlap() {
        let mark = |text: &str| Mark::parse(text).unwrap();
        assert!(mark("10").is_later_than(&mark("9")));
        assert!(mark("2026-11-20T08:00:00+07:00").is_later_than(&mark("2026-11-20T00:59:00Z")));
        assert_eq!(mark("7").asked(60_000), "7");
        assert_eq!(
            mark("2026-11-20T08:00:00+07:00").asked(60_000),
            "2026-11-20T07:59:00.000+07:00"
        );
        assert_eq!(
            mark("2026-11-20 08:00:00").asked(60_000),
            "2026-11-20 07:59:00"
        );
        assert_eq!(
            mark("2026-11-20T00:00:00").asked(1_000),
            "2026-11-19T23:59:59"
        );
        assert_eq!(Mark::parse("hôm qua"), None);
    }
}
