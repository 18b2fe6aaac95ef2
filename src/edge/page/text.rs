//! How the page writes numbers, sizes, times and foreign text, in the Vietnamese manner.

use std::fmt;

use crate::edge::status::Stamp;

/// Text that may hold anything, as it may stand in HTML's text and quoted attributes.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_str(" ")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// `12.345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            text.push('.');
        }
        text.push(digit);
    }
    text
}

/// `1,5 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut unit, mut size) = (0, 1024_u64);
    while unit + 1 < UNITS.len() && size * 1024 <= bytes {
        unit += 1;
        size *= 1024;
    }
    // Cut, not rounded: `1.024,0 KiB` would look wrong.
    let tenths = u128::from(bytes) * 10 / u128::from(size);
    let whole = u64::try_from(tenths / 10).expect("not more than the bytes");
    format!("{},{} {}", count(whole), tenths % 10, UNITS[unit])
}

/// `3 giờ 5 phút`: the two greatest units.
pub fn duration(seconds: u64) -> String {
    let pair = |great: u64, great_name: &str, small: u64, small_name: &str| match small {
        0 => format!("{} {great_name}", count(great)),
        small => format!("{} {great_name} {small} {small_name}", count(great)),
    };
    match seconds {
        0..60 => format!("{seconds} giây"),
        60..3_600 => pair(seconds / 60, "phút", seconds % 60, "giây"),
        3_600..86_400 => pair(seconds / 3_600, "giờ", seconds % 3_600 / 60, "phút"),
        _ => pair(seconds / 86_400, "ngày", seconds % 86_400 / 3_600, "giờ"),
    }
}

/// `20/11/2026 08:12`, Vietnam's time.
pub fn time(at: Stamp) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(at.0.0).unwrap_or(jiff::Timestamp::MAX);
    let local = timestamp.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(7)));
    local.strftime("%d/%m/%Y %H:%M").to_string()
}

/// How much of `whole` is taken, percent; 100 when there is no whole.
pub fn percent(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 100,
        whole => u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMs;

    #[test]
    fn numbers_are_written_as_in_vietnam() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.000"),
            (1_234_567, "1.234.567"),
        ] {
            assert_eq!(count(number), text);
        }
        for (size, text) in [
            (1023, "1023 B"),
            (1536, "1,5 KiB"),
            (1 << 30, "1,0 GiB"),
            (5000 << 40, "5.000,0 TiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        for (seconds, text) in [
            (59, "59 giây"),
            (60, "1 phút"),
            (4_500, "1 giờ 15 phút"),
            (90_000, "1 ngày 1 giờ"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(time(Stamp(UnixMs(1_763_600_000_123))), "20/11/2025 07:53");
        assert_eq!(
            [percent(1, 3), percent(3, 0), percent(u64::MAX, 1)],
            [33, 100, u64::MAX]
        );
    }

    #[test]
    fn foreign_text_cannot_leave_its_place() {
        assert_eq!(
            Text("<a href='x'>\"&\u{0}").to_string(),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp; "
        );
    }
}
