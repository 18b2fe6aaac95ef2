//! The page's two languages. A rendering speaks one of them; data of the office stays as it was
//! written.

use crate::edge::status::Stamp;

/// The same in Vietnamese and English.
pub type Words = [&'static str; 2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    Vi,
    En,
}

impl Lang {
    pub const ALL: [Lang; 2] = [Lang::Vi, Lang::En];

    /// The language that an address asks for: English by `lang=en`, otherwise Vietnamese.
    pub fn of_query(query: Option<&str>) -> Lang {
        match query
            .unwrap_or_default()
            .split('&')
            .any(|pair| pair == "lang=en")
        {
            true => Lang::En,
            false => Lang::Vi,
        }
    }

    /// For the attribute `lang`.
    pub fn code(self) -> &'static str {
        match self {
            Lang::Vi => "vi",
            Lang::En => "en",
        }
    }

    pub fn other(self) -> Lang {
        match self {
            Lang::Vi => Lang::En,
            Lang::En => Lang::Vi,
        }
    }

    /// What an address on this page needs to stay in the language.
    pub fn query(self) -> &'static str {
        match self {
            Lang::Vi => "",
            Lang::En => "?lang=en",
        }
    }

    /// The one of two texts that is this language's.
    pub fn of<T>(self, [vi, en]: [T; 2]) -> T {
        match self {
            Lang::Vi => vi,
            Lang::En => en,
        }
    }

    /// `12.345` or `12,345`.
    pub fn count(self, number: u64) -> String {
        let separator = self.of(['.', ',']);
        let digits = number.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if 0 < index && (digits.len() - index).is_multiple_of(3) {
                text.push(separator);
            }
            text.push(digit);
        }
        text
    }

    /// `1.024,5` or `1,024.5`.
    pub fn tenths(self, tenths: u64) -> String {
        let point = self.of([',', '.']);
        format!("{}{point}{}", self.count(tenths / 10), tenths % 10)
    }

    /// `1,5 MiB` or `1.5 MiB`.
    pub fn bytes(self, bytes: u64) -> String {
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
        let tenths = u64::try_from(tenths).expect("not more than ten times a TiB's share");
        format!("{} {}", self.tenths(tenths), UNITS[unit])
    }

    /// `3 giờ 5 phút` or `3 h 5 min`: the two greatest units.
    pub fn duration(self, seconds: u64) -> String {
        let [second, minute, hour, day] =
            self.of([["giây", "phút", "giờ", "ngày"], ["s", "min", "h", "d"]]);
        let pair = |great: u64, great_name: &str, small: u64, small_name: &str| match small {
            0 => format!("{} {great_name}", self.count(great)),
            small => format!("{} {great_name} {small} {small_name}", self.count(great)),
        };
        match seconds {
            0..60 => format!("{seconds} {second}"),
            60..3_600 => pair(seconds / 60, minute, seconds % 60, second),
            3_600..86_400 => pair(seconds / 3_600, hour, seconds % 3_600 / 60, minute),
            _ => pair(seconds / 86_400, day, seconds % 86_400 / 3_600, hour),
        }
    }

    /// How long a card lasts.
    pub fn card_life(self, days: u64) -> String {
        match days / 365 {
            0 => format!("{} {}", self.count(days), self.of(["ngày", "days"])),
            years @ 1..100 => format!("{years} {}", self.of(["năm", "years"])),
            _ => self.of(["trên 100 năm", "more than 100 years"]).to_owned(),
        }
    }
}

/// `20/11/2026 08:12`, Vietnam's time, in both languages.
pub fn time(at: Stamp) -> String {
    local(at, "%d/%m/%Y %H:%M")
}

/// `08:12` when `at` is of the day of `now`, otherwise with its date.
pub fn time_near(at: Stamp, now: Stamp) -> String {
    const DAY: &str = "%d/%m/%Y";
    match local(at, DAY) == local(now, DAY) {
        true => local(at, "%H:%M"),
        false => time(at),
    }
}

fn local(at: Stamp, form: &str) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(at.0.0).unwrap_or(jiff::Timestamp::MAX);
    let local = timestamp.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(7)));
    local.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMs;

    #[test]
    fn numbers_are_written_in_the_manner_of_the_language() {
        for (number, vi, en) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_000, "1.000", "1,000"),
            (1_234_567, "1.234.567", "1,234,567"),
        ] {
            assert_eq!([Lang::Vi.count(number), Lang::En.count(number)], [vi, en]);
        }
        for (size, vi, en) in [
            (1023, "1023 B", "1023 B"),
            (1536, "1,5 KiB", "1.5 KiB"),
            (5000 << 40, "5.000,0 TiB", "5,000.0 TiB"),
            (u64::MAX, "16.777.215,9 TiB", "16,777,215.9 TiB"),
        ] {
            assert_eq!([Lang::Vi.bytes(size), Lang::En.bytes(size)], [vi, en]);
        }
        for (seconds, vi, en) in [
            (59, "59 giây", "59 s"),
            (60, "1 phút", "1 min"),
            (4_500, "1 giờ 15 phút", "1 h 15 min"),
            (90_000, "1 ngày 1 giờ", "1 d 1 h"),
        ] {
            let both = [Lang::Vi.duration(seconds), Lang::En.duration(seconds)];
            assert_eq!(both, [vi, en]);
        }
    }

    #[test]
    fn times_are_vietnams() {
        let at = Stamp(UnixMs(1_763_600_000_123));
        assert_eq!(time(at), "20/11/2025 07:53");
        assert_eq!(
            time_near(at, Stamp(UnixMs(1_763_600_000_123 + 3_600_000))),
            "07:53"
        );
        let tomorrow = Stamp(UnixMs(1_763_600_000_123 + 86_400_000));
        assert_eq!(time_near(at, tomorrow), "20/11/2025 07:53");
    }

    #[test]
    fn the_address_says_the_language() {
        for (query, lang) in [
            (None, Lang::Vi),
            (Some("lang=en"), Lang::En),
            (Some("a=b&lang=en"), Lang::En),
            (Some("lang=fr"), Lang::Vi),
            (Some("language=lang=en"), Lang::Vi),
        ] {
            assert_eq!(Lang::of_query(query), lang, "{query:?}");
        }
    }
}
