//! Event times as offices' software writes them, read into RFC 3339.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use crate::model::{ClockQuality, Now, UnixMs};

/// The day in Vietnam; none under a clock that no time server keeps, because a code must not be
/// refused for a clock that is behind.
pub fn today(now: Now) -> Option<Date> {
    const OFFSET: Offset = Offset::constant(7);
    if now.quality != ClockQuality::Synchronized {
        return None;
    }
    let timestamp = Timestamp::from_millisecond(now.wall.0).ok()?;
    Some(OFFSET.to_datetime(timestamp).date())
}

/// RFC 3339 with offset. A time without offset is Vietnam's (+07:00), a date its midnight.
///
/// What is RFC 3339 already stays as it is.
pub fn rfc3339(text: &str) -> Option<String> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(if is_rfc3339(text) {
            text.to_owned()
        } else {
            in_vietnam(timestamp)
        });
    }
    let local = text.parse::<DateTime>().ok().or_else(|| day_first(text))?;
    let offset = jiff::tz::offset(7);
    Some(in_vietnam(offset.to_timestamp(local).ok()?))
}

fn in_vietnam(timestamp: Timestamp) -> String {
    UnixMs(timestamp.as_millisecond()).to_string()
}

/// The strict shape, for a text that is known to be a timestamp.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let zone_at = |length: usize| bytes.get(bytes.len().wrapping_sub(length));
    bytes.get(10) == Some(&b'T')
        && bytes.get(16) == Some(&b':')
        && bytes
            .get(19)
            .is_some_and(|&b| matches!(b, b'.' | b'Z' | b'+' | b'-'))
        && (zone_at(1) == Some(&b'Z')
            || (matches!(zone_at(6), Some(b'+' | b'-')) && zone_at(3) == Some(&b':')))
}

/// `dd/MM/yyyy`, with or without a time of day.
fn day_first(text: &str) -> Option<DateTime> {
    let (date, clock) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let mut parts = date.split('/');
    let day = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let year = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    Some(
        Date::new(year, month, day)
            .ok()?
            .to_datetime(clock.trim().parse().ok()?),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_is_vietnams_and_only_of_a_clock_that_is_kept() {
        let of = |text: &str, quality| {
            let at: Timestamp = text.parse().expect("a time");
            today(Now {
                mono_ms: 0,
                wall: UnixMs(at.as_millisecond()),
                quality,
            })
            .map(|day| day.to_string())
        };
        let evening = "2026-11-30T17:00:00Z";
        assert_eq!(
            of(evening, ClockQuality::Synchronized),
            Some("2026-12-01".to_owned())
        );
        assert_eq!(of(evening, ClockQuality::Free), None);
        assert_eq!(of(evening, ClockQuality::Floor), None);
    }

    #[test]
    fn times_of_offices() {
        for (written, read) in [
            (
                "2026-11-20T08:12:45+07:00",
                Some("2026-11-20T08:12:45+07:00"),
            ),
            ("2026-11-20T01:12:45Z", Some("2026-11-20T01:12:45Z")),
            (
                "2026-11-20T08:12:45.123456+07:00",
                Some("2026-11-20T08:12:45.123456+07:00"),
            ),
            (
                "2026-11-20T08:12:45+07",
                Some("2026-11-20T08:12:45.000+07:00"),
            ),
            ("2026-11-20 08:12:45", Some("2026-11-20T08:12:45.000+07:00")),
            ("2026-11-20T08:12:45", Some("2026-11-20T08:12:45.000+07:00")),
            ("2026-11-20", Some("2026-11-20T00:00:00.000+07:00")),
            ("20/11/2026", Some("2026-11-20T00:00:00.000+07:00")),
            ("20/11/2026 08:12:45", Some("2026-11-20T08:12:45.000+07:00")),
            ("31/02/2026", None),
            ("11/20/2026", None),
            ("2026", None),
            ("hôm nay", None),
            ("", None),
        ] {
            assert_eq!(rfc3339(written).as_deref(), read, "{written}");
        }
    }
}
