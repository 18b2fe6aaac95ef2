//! A cell's text as a JSON value of its column's type, exact to the digit.

use jiff::civil::{Date, DateTime, Time};

use crate::formats::excerpt;
use crate::formats::table::Cell;

/// What a column holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Text,
    Number,
    Integer,
    Boolean,
    /// Day, month, year; `yyyy-MM-dd` in the record.
    Date,
    /// A date with a time of Vietnam's, RFC 3339 in the record.
    DateTime,
}

impl Kind {
    /// The names by which settings call them.
    pub const NAMES: [(&str, Kind); 6] = [
        ("text", Kind::Text),
        ("number", Kind::Number),
        ("integer", Kind::Integer),
        ("boolean", Kind::Boolean),
        ("date", Kind::Date),
        ("datetime", Kind::DateTime),
    ];

    pub fn named(name: &str) -> Option<Kind> {
        let mut kinds = Kind::NAMES.into_iter();
        kinds
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| kind)
    }
}

/// What stands before the fraction of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalSign {
    Point,
    Comma,
}

/// Most digits of a number.
const DIGITS_MAX: usize = 40;

/// The cell as JSON, or why it is none, in Vietnamese and in English. The cell is not blank.
pub fn value(
    cell: &Cell<'_>,
    kind: Kind,
    decimal: Option<DecimalSign>,
) -> Result<String, [String; 2]> {
    let (text, decimal, is_plain) = match cell {
        Cell::Text(text) => (text.trim(), decimal, false),
        Cell::Plain(text) => (text.as_str(), Some(DecimalSign::Point), true),
        Cell::Wrong(why) => return Err(why.clone()),
    };
    match kind {
        Kind::Text => Ok(json_text(text)),
        Kind::Number => Ok(number(text, decimal, is_plain)?.to_json()),
        Kind::Integer => number(text, decimal, is_plain)?
            .to_integer()
            .ok_or_else(|| not(text, "số nguyên", "an integer")),
        Kind::Boolean => boolean(text).map(|value| value.to_string()),
        Kind::Date => date(text).map(|date| json_text(&date.to_string())),
        Kind::DateTime => date_time(text).map(|time| json_text(&time)),
    }
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

fn not(text: &str, vi: &str, en: &str) -> [String; 2] {
    let text = excerpt(text);
    [
        format!("“{text}” không phải là {vi}"),
        format!("{text:?} is not {en}"),
    ]
}

/// Digits before and behind the decimal sign.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    is_negative: bool,
    whole: String,
    fraction: String,
}

impl Number {
    fn to_json(&self) -> String {
        let sign = if self.is_negative { "-" } else { "" };
        match self.fraction.as_str() {
            "" => format!("{sign}{}", self.whole),
            fraction => format!("{sign}{}.{fraction}", self.whole),
        }
    }

    fn to_integer(&self) -> Option<String> {
        let is_whole = self.fraction.bytes().all(|digit| digit == b'0');
        let sign = if self.is_negative && self.whole != "0" {
            "-"
        } else {
            ""
        };
        is_whole.then(|| format!("{sign}{}", self.whole))
    }
}

fn number(text: &str, decimal: Option<DecimalSign>, is_plain: bool) -> Result<Number, [String; 2]> {
    let (is_negative, digits) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_short_form = digits.contains(['E', 'e'])
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, 'E' | 'e' | '+' | '-' | '.' | ','));
    if is_short_form && digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err([
            format!(
                "số “{}” đã bị rút gọn dạng mũ nên mất chữ số; hãy định dạng cột là số hoặc văn bản rồi xuất lại",
                excerpt(text)
            ),
            format!(
                "{:?} was shortened to an exponent and lost digits; format the column as number or text and export again",
                excerpt(text)
            ),
        ]);
    }
    let wrong = || not(text, "số", "a number");
    let (group, sign) = match decimal {
        Some(DecimalSign::Comma) => ('.', ','),
        Some(DecimalSign::Point) => (',', '.'),
        None => {
            if is_ambiguous(digits) {
                return Err(ambiguous(text));
            }
            // Nothing groups digits where the sign is not known.
            ('\0', '.')
        }
    };
    let (whole, fraction) = match digits.split_once(sign) {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(wrong()),
        None => (digits, ""),
    };
    let whole = ungrouped(whole, if is_plain { '\0' } else { group }).ok_or_else(wrong)?;
    let is_fraction = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_fraction || DIGITS_MAX < whole.len() + fraction.len() {
        return Err(wrong());
    }
    let significant = whole.trim_start_matches('0');
    Ok(Number {
        is_negative,
        whole: if significant.is_empty() {
            "0".to_owned()
        } else {
            significant.to_owned()
        },
        fraction: fraction.to_owned(),
    })
}

/// Whether it could be a number with either sign: `1.234` may be a thousand or one.
fn is_ambiguous(digits: &str) -> bool {
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let is_number_like = digits
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | ' ' | '\u{a0}' | '\u{202f}'));
    let mut parts = digits.split('.');
    let (whole, behind) = (parts.next().unwrap_or(""), parts.next());
    let is_grouped_like =
        behind.is_some_and(|behind| behind.len() == 3) && whole.len() <= 3 && whole != "0";
    is_number_like
        && (is_grouped_like
            || parts.next().is_some()
            || digits.contains([',', ' ', '\u{a0}', '\u{202f}']))
}

fn ambiguous(text: &str) -> [String; 2] {
    let text = excerpt(text);
    [
        format!(
            "số “{text}” có thể hiểu theo hai cách; hãy khai báo decimal = \",\" hoặc decimal = \".\" cho nguồn"
        ),
        format!(
            "{text:?} can be read in two ways; set decimal = \",\" or decimal = \".\" for the source"
        ),
    ]
}

/// Digits without what groups them by three; all groups or none.
fn ungrouped(whole: &str, group: char) -> Option<String> {
    let is_group =
        |c: char| c == group || (group != '\0' && matches!(c, ' ' | '\u{a0}' | '\u{202f}'));
    let parts: Vec<&str> = whole.split(is_group).collect();
    let (first, others) = parts.split_first()?;
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_grouped = others.is_empty() || first.len() <= 3;
    let fits = is_digits(first)
        && is_grouped
        && others.iter().all(|part| part.len() == 3 && is_digits(part));
    fits.then(|| parts.concat())
}

fn boolean(text: &str) -> Result<bool, [String; 2]> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "có" | "co" | "đúng" | "yes" | "x" => Ok(true),
        "false" | "0" | "không" | "khong" | "sai" | "no" => Ok(false),
        _ => Err(not(
            text,
            "giá trị có hoặc không (có/không, true/false, 1/0)",
            "a truth value (true/false, 1/0)",
        )),
    }
}

/// `20/11/2026`, with `/`, `-` or `.`, or `2026-11-20`. The day stands before the month.
fn date(text: &str) -> Result<Date, [String; 2]> {
    let wrong = || {
        not(
            text,
            "ngày dạng dd/MM/yyyy, ví dụ 20/11/2026",
            "a date as dd/MM/yyyy, such as 20/11/2026",
        )
    };
    civil_date(without_midnight(text)).ok_or_else(wrong)
}

/// Software that has only one type for times writes a date as its midnight.
fn without_midnight(text: &str) -> &str {
    match text.split_once([' ', 'T']) {
        Some((date, "00:00:00" | "00:00" | "0:00" | "0:00:00")) => date,
        _ => text,
    }
}

fn civil_date(text: &str) -> Option<Date> {
    let sign = text.chars().find(|c| !c.is_ascii_digit())?;
    if !matches!(sign, '/' | '-' | '.') {
        return None;
    }
    let parts: Vec<&str> = text.split(sign).collect();
    let [first, month, last] = parts[..] else {
        return None;
    };
    let number = |part: &str, lengths: std::ops::RangeInclusive<usize>| -> Option<i16> {
        let is_digits = part.bytes().all(|b| b.is_ascii_digit());
        (lengths.contains(&part.len()) && is_digits).then(|| part.parse().ok())?
    };
    let (year, day) = match first.len() {
        4 => (number(first, 4..=4)?, number(last, 1..=2)?),
        _ => (number(last, 4..=4)?, number(first, 1..=2)?),
    };
    let month = number(month, 1..=2)?;
    let date = Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    // A year outside of these is a slip of the hand.
    (1800..=2199).contains(&year).then_some(date)
}

/// A date and a time in either order, or RFC 3339. A date alone is its midnight; without an offset
/// it is Vietnam's time.
fn date_time(text: &str) -> Result<String, [String; 2]> {
    let wrong = || {
        not(
            text,
            "thời điểm dạng dd/MM/yyyy HH:mm, ví dụ 20/11/2026 08:12",
            "a time as dd/MM/yyyy HH:mm, such as 20/11/2026 08:12",
        )
    };
    if text.parse::<jiff::Timestamp>().is_ok() && text.contains(['T', 't']) {
        return Ok(text.to_owned());
    }
    civil_date_time(text)
        .map(|time| format!("{}+07:00", precise(time)))
        .ok_or_else(wrong)
}

fn precise(time: DateTime) -> String {
    let fraction = match time.subsec_nanosecond() {
        0 => String::new(),
        nanoseconds => format!(".{nanoseconds:09}")
            .trim_end_matches('0')
            .to_owned(),
    };
    format!("{}{fraction}", time.strftime("%Y-%m-%dT%H:%M:%S"))
}

fn civil_date_time(text: &str) -> Option<DateTime> {
    let mut words: Vec<&str> = text.split([' ', 'T', '\u{a0}', '\u{202f}']).collect();
    words.retain(|word| !word.is_empty());
    let half = match words.last()?.to_uppercase().as_str() {
        "SA" | "AM" => Some(false),
        "CH" | "PM" => Some(true),
        _ => None,
    };
    if half.is_some() {
        words.pop();
    }
    let (day, time) = match words[..] {
        [day] if half.is_none() => (day, "0:00"),
        [time, day] if time.contains(':') => (day, time),
        [day, time] => (day, time),
        _ => return None,
    };
    Some(civil_date(day)?.to_datetime(time_of_day(time, half)?))
}

fn time_of_day(text: &str, half: Option<bool>) -> Option<Time> {
    let (text, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let parts: Vec<&str> = text.split(':').collect();
    let number = |part: &str| -> Option<i8> {
        let is_digits = part.bytes().all(|b| b.is_ascii_digit());
        ((1..=2).contains(&part.len()) && is_digits).then(|| part.parse().ok())?
    };
    let (hour, minute, second) = match parts[..] {
        [hour, minute] if fraction.is_empty() => (number(hour)?, number(minute)?, 0),
        [hour, minute, second] => (number(hour)?, number(minute)?, number(second)?),
        _ => return None,
    };
    let hour = match half {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(is_afternoon) => hour % 12 + if is_afternoon { 12 } else { 0 },
    };
    let is_digits = fraction.bytes().all(|b| b.is_ascii_digit()) && fraction.len() <= 9;
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok()?;
    is_digits.then(|| Time::new(hour, minute, second, nanoseconds).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: Kind, decimal: Option<DecimalSign>) -> Option<String> {
        value(&Cell::Text(text.into()), kind, decimal).ok()
    }

    #[test]
    fn numbers_keep_every_digit() {
        let (point, comma) = (Some(DecimalSign::Point), Some(DecimalSign::Comma));
        for (text, decimal, expected) in [
            (
                "1234567890123456789.10",
                None,
                Some("1234567890123456789.10"),
            ),
            ("0.125", None, Some("0.125")),
            ("12.5", None, Some("12.5")),
            ("007", None, Some("7")),
            ("-0", None, Some("-0")),
            ("+5", None, Some("5")),
            ("1.234", None, None),
            ("12,5", None, None),
            ("1 234", None, None),
            ("1.234", comma, Some("1234")),
            ("1.234.567,89", comma, Some("1234567.89")),
            ("1234,5", comma, Some("1234.5")),
            ("12.5", comma, None),
            ("1.2345", comma, None),
            ("1\u{a0}234,50", comma, Some("1234.50")),
            ("1,234,567.89", point, Some("1234567.89")),
            ("1,23", point, None),
            ("1E+05", None, None),
            ("5 đ", None, None),
            ("", point, None),
            (".5", point, None),
            ("5.", point, None),
            ("--5", point, None),
        ] {
            let read = read(text, Kind::Number, decimal);
            assert_eq!(read.as_deref(), expected, "{text} {decimal:?}");
        }
        let two_ways = value(&Cell::Text("1.234".into()), Kind::Number, None).unwrap_err();
        assert!(two_ways[0].contains("decimal = \",\""), "{two_ways:?}");
    }

    #[test]
    fn integers_and_truth() {
        for (text, expected) in [("12", Some("12")), ("12.00", Some("12")), ("12.5", None)] {
            let read = read(text, Kind::Integer, None);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        assert_eq!(read("Có", Kind::Boolean, None).as_deref(), Some("true"));
        assert_eq!(read("2", Kind::Boolean, None), None);
    }

    #[test]
    fn the_day_stands_before_the_month() {
        for (text, expected) in [
            ("05/11/2026", Some("\"2026-11-05\"")),
            ("5-1-2026", Some("\"2026-01-05\"")),
            ("2026-11-20", Some("\"2026-11-20\"")),
            ("2026-11-20 00:00:00", Some("\"2026-11-20\"")),
            ("2026/11/20", Some("\"2026-11-20\"")),
            ("11/20/2026", None),
            ("29/02/2026", None),
            ("20/11/26", None),
            ("20/11/2026 08:00", None),
            ("45000", None),
        ] {
            let read = read(text, Kind::Date, None);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn times_are_vietnams_where_nothing_else_is_said() {
        for (text, expected) in [
            ("20/11/2026 08:12", Some("\"2026-11-20T08:12:00+07:00\"")),
            ("08:12:45 20/11/2026", Some("\"2026-11-20T08:12:45+07:00\"")),
            (
                "2026-11-20 8:12:45.250",
                Some("\"2026-11-20T08:12:45.25+07:00\""),
            ),
            ("2026-11-20T08:12:45Z", Some("\"2026-11-20T08:12:45Z\"")),
            ("20/11/2026 1:05 CH", Some("\"2026-11-20T13:05:00+07:00\"")),
            ("20/11/2026 12:05 SA", Some("\"2026-11-20T00:05:00+07:00\"")),
            ("20/11/2026", Some("\"2026-11-20T00:00:00+07:00\"")),
            ("20/11/2026 24:00", None),
            ("20/11/2026 13:00 CH", None),
            ("08:12", None),
        ] {
            let read = read(text, Kind::DateTime, None);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
