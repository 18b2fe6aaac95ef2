//! What a database said, free of its dialect, and how it becomes JSON.
//!
//! Exact numbers stay exact: they travel as their decimal digits and never as floating point. A time
//! without zone is read in the source's zone. What the dataset's schema wants of a field decides
//! where a database has several ways to say the same: 0 and 1 for no and yes, text for a time.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};

use crate::edge::sql::shape::Shape;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Digits with at most one sign and one point.
    Decimal(String),
    Float(f64),
    Text(String),
    Date(Date),
    Time(Time),
    /// Without zone.
    DateTime(DateTime),
    Instant(Timestamp),
    Json(String),
    Bytes(Vec<u8>),
    /// Bytes, more than an attachment may have; they were let go of.
    TooLong,
}

/// Kinds of columns, coarse: a change from one to another is a change of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody says, as in SQLite.
    Any,
    Bool,
    Number,
    Text,
    Time,
    Json,
    Bytes,
    /// A type that the driver does not read.
    Foreign,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Any => "any",
            Kind::Bool => "bool",
            Kind::Number => "number",
            Kind::Text => "text",
            Kind::Time => "time",
            Kind::Json => "json",
            Kind::Bytes => "bytes",
            Kind::Foreign => "foreign",
        }
    }
}

/// Why a value cannot become JSON: Vietnamese, English. Quotes no content.
pub type Unfit = [&'static str; 2];

const NOT_FINITE: Unfit = [
    "là số không hữu hạn (NaN hoặc vô cực)",
    "is not a finite number (NaN or infinity)",
];
const NOT_A_NUMBER: Unfit = ["không phải là số thập phân đúng", "is not a decimal number"];
const OUT_OF_RANGE: Unfit = ["là thời điểm ngoài giới hạn", "is a time out of range"];
const BAD_JSON: Unfit = ["không phải là JSON đúng", "is not well-formed JSON"];
const BINARY: Unfit = [
    "là dữ liệu nhị phân, chỉ nhận làm tệp đính kèm ([[source.attachment]])",
    "is binary data, which is taken as an attachment only ([[source.attachment]])",
];

impl Value {
    /// The value as JSON text; none when the field is to be left out.
    pub fn to_json(&self, shape: &Shape, zone_minutes: i32) -> Result<Option<String>, Unfit> {
        let json = match self {
            Value::Null if shape.null => "null".to_owned(),
            Value::Null => return Ok(None),
            Value::Bool(value) if shape.boolean || shape.is_any() => value.to_string(),
            Value::Bool(value) if shape.number => i32::from(*value).to_string(),
            Value::Bool(value) => quoted(&value.to_string()),
            Value::Int(value @ (0 | 1)) if shape.boolean && !shape.number => {
                (*value == 1).to_string()
            }
            Value::Decimal(text) if shape.boolean && !shape.number && is_yes(text).is_some() => {
                is_yes(text).unwrap_or_default().to_string()
            }
            Value::Int(value) => number(value.to_string(), shape),
            Value::Decimal(text) => {
                let exact = exact(text).ok_or(NOT_A_NUMBER)?;
                number(exact, shape)
            }
            Value::Float(value) if value.is_finite() => number(float(*value), shape),
            Value::Float(_) => return Err(NOT_FINITE),
            Value::Text(text) => text_json(text, shape, zone_minutes)?,
            Value::Date(date) if shape.date_time => {
                in_zone(date.to_datetime(Time::midnight()), zone_minutes)?
            }
            Value::Date(date) => quoted(&date.to_string()),
            Value::Time(time) => quoted(&time.to_string()),
            Value::DateTime(time) if shape.date => quoted(&time.date().to_string()),
            Value::DateTime(time) => in_zone(*time, zone_minutes)?,
            Value::Instant(instant) if shape.date => {
                let local = instant.to_zoned(zone(zone_minutes)?);
                quoted(&local.date().to_string())
            }
            Value::Instant(instant) => quoted(&rfc3339(*instant, zone_minutes)?),
            Value::Json(text) if shape.text && !shape.is_any() => quoted(text),
            Value::Json(text) => {
                let raw: &serde_json::value::RawValue =
                    serde_json::from_str(text).map_err(|_| BAD_JSON)?;
                raw.get().to_owned()
            }
            Value::Bytes(_) | Value::TooLong => return Err(BINARY),
        };
        Ok(Some(json))
    }

    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let content = match self {
            Value::Decimal(text) | Value::Text(text) | Value::Json(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Value>() + content
    }

    /// The value as a watermark: text that says all of it.
    pub fn to_mark(&self) -> Option<String> {
        match self {
            Value::Int(value) => Some(value.to_string()),
            Value::Decimal(text) => exact(text),
            Value::Text(text) => Some(text.trim_end().to_owned()),
            Value::Date(date) => Some(date.to_string()),
            Value::DateTime(time) => Some(time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()),
            Value::Instant(instant) => Some(utc(*instant)),
            _ => None,
        }
    }
}

/// Microseconds since 1970 of a watermark that is a time.
pub fn mark_micros(mark: &str, zone_minutes: i32) -> Option<i64> {
    if let Ok(instant) = mark.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    let time = civil(mark)?;
    let instant = zone(zone_minutes).ok()?.to_timestamp(time).ok()?;
    Some(instant.as_microsecond())
}

/// The watermark that lies at `micros`, written as `like` is written.
pub fn mark_at(micros: i64, like: &str, zone_minutes: i32) -> Option<String> {
    let instant = Timestamp::from_microsecond(micros).ok()?;
    if like.parse::<Timestamp>().is_ok() {
        return Some(utc(instant));
    }
    let local = instant.to_zoned(zone(zone_minutes).ok()?).datetime();
    if like.len() <= 10 {
        return Some(local.date().to_string());
    }
    let has_fraction = like.contains('.');
    let separator = if like.as_bytes().get(10) == Some(&b'T') {
        'T'
    } else {
        ' '
    };
    let (date, clock) = (local.date(), local.strftime("%H:%M:%S"));
    let fraction = match has_fraction {
        true => {
            let digits = like.rsplit('.').next().map_or(0, str::len).clamp(1, 6);
            let micros = format!("{:06}", local.subsec_nanosecond() / 1_000);
            format!(".{}", &micros[..digits])
        }
        false => String::new(),
    };
    Some(format!("{date}{separator}{clock}{fraction}"))
}

fn utc(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A time without zone as offices' databases write it.
fn civil(text: &str) -> Option<DateTime> {
    let text = text.trim();
    let shaped = text.len() >= 10
        && text.is_ascii()
        && text.as_bytes()[4] == b'-'
        && text.as_bytes()[7] == b'-';
    if !shaped {
        return None;
    }
    if text.len() == 10 {
        let date: Date = text.parse().ok()?;
        return Some(date.to_datetime(Time::midnight()));
    }
    text.parse().ok()
}

fn text_json(text: &str, shape: &Shape, zone_minutes: i32) -> Result<String, Unfit> {
    let trimmed = text.trim();
    if shape.date_time && !trimmed.is_empty() {
        if trimmed.parse::<Timestamp>().is_ok() {
            return Ok(quoted(trimmed));
        }
        if let Some(time) = civil(trimmed) {
            return in_zone(time, zone_minutes);
        }
    }
    if shape.date
        && let Some(time) = civil(trimmed)
    {
        return Ok(quoted(&time.date().to_string()));
    }
    if !shape.text && !shape.is_any() {
        if shape.number
            && let Some(exact) = exact(trimmed)
        {
            return Ok(number(exact, shape));
        }
        if shape.boolean
            && let Some(yes) = is_yes(trimmed)
        {
            return Ok(yes.to_string());
        }
        if trimmed.is_empty() && shape.null {
            return Ok("null".to_owned());
        }
    }
    Ok(quoted(text))
}

/// Yes or no, as databases and their drivers write it.
fn is_yes(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    }
}

/// A number where the schema takes one, else its digits as text.
fn number(digits: String, shape: &Shape) -> String {
    if shape.number || shape.is_any() || !shape.text {
        let is_whole = |fraction: &str| fraction.bytes().all(|b| b == b'0');
        if shape.integer_only
            && let Some((whole, fraction)) = digits.split_once('.')
            && is_whole(fraction)
        {
            return whole.to_owned();
        }
        return digits;
    }
    quoted(&digits)
}

/// Digits as JSON writes a number, with nothing lost; none when it is no plain decimal.
fn exact(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    })
}

/// The shortest digits that mean this number.
fn float(value: f64) -> String {
    serde_json::Number::from_f64(value)
        .expect("finite")
        .to_string()
}

fn zone(minutes: i32) -> Result<TimeZone, Unfit> {
    Offset::from_seconds(minutes * 60)
        .map(TimeZone::fixed)
        .map_err(|_| OUT_OF_RANGE)
}

fn in_zone(time: DateTime, zone_minutes: i32) -> Result<String, Unfit> {
    let instant = zone(zone_minutes)?
        .to_timestamp(time)
        .map_err(|_| OUT_OF_RANGE)?;
    Ok(quoted(&rfc3339(instant, zone_minutes)?))
}

fn rfc3339(instant: Timestamp, zone_minutes: i32) -> Result<String, Unfit> {
    let local = instant.to_zoned(zone(zone_minutes)?);
    if !(0..=9999).contains(&local.year()) {
        return Err(OUT_OF_RANGE);
    }
    Ok(local.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string())
}

pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is plain JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIETNAM: i32 = 420;

    fn any() -> Shape {
        Shape::default()
    }

    fn of(schema: serde_json::Value) -> Shape {
        Shape::of_field(
            &serde_json::json!({"properties": {"x": schema}}),
            &["x".to_owned()],
        )
    }

    fn json(value: &Value, shape: &Shape) -> String {
        let json = value.to_json(shape, VIETNAM).expect("fit");
        json.unwrap_or_else(|| "left out".to_owned())
    }

    #[test]
    fn money_stays_exact() {
        let integer = of(serde_json::json!({"type": ["integer", "null"]}));
        let text = of(serde_json::json!({"type": "string"}));
        let big = "123456789012345678901234567890.1200";
        for (value, shape, expected) in [
            (Value::Decimal(big.to_owned()), &any(), big),
            (Value::Decimal("50000.00".to_owned()), &integer, "50000"),
            (Value::Decimal("50000.50".to_owned()), &integer, "50000.50"),
            (Value::Decimal("-0.10".to_owned()), &any(), "-0.10"),
            (Value::Decimal("007".to_owned()), &any(), "7"),
            (Value::Decimal(".5".to_owned()), &any(), "0.5"),
            (Value::Int(i64::MIN), &any(), "-9223372036854775808"),
            (Value::Int(7), &text, "\"7\""),
            (Value::Float(0.1), &any(), "0.1"),
        ] {
            assert_eq!(json(&value, shape), expected);
        }
        assert!(Value::Decimal("NaN".to_owned()).to_json(&any(), 0).is_err());
        assert!(Value::Float(f64::NAN).to_json(&any(), 0).is_err());
    }

    #[test]
    fn null_is_left_out_or_said_as_the_schema_takes_it() {
        let nullable = of(serde_json::json!({"type": ["string", "null"]}));
        let plain = of(serde_json::json!({"type": "string"}));
        let listed = of(serde_json::json!({"enum": ["a", null]}));
        assert_eq!(json(&Value::Null, &nullable), "null");
        assert_eq!(json(&Value::Null, &listed), "null");
        assert_eq!(json(&Value::Null, &plain), "left out");
    }

    #[test]
    fn times_without_zone_are_of_the_sources_zone() {
        let time = of(serde_json::json!({"type": "string", "format": "date-time"}));
        let date = of(serde_json::json!({"type": "string", "format": "date"}));
        let civil: DateTime = "2026-11-20T08:12:45.25".parse().expect("a time");
        let instant: Timestamp = "2026-11-19T20:00:00Z".parse().expect("an instant");
        for (value, shape, expected) in [
            (
                Value::DateTime(civil),
                &time,
                "\"2026-11-20T08:12:45.25+07:00\"",
            ),
            (Value::DateTime(civil), &date, "\"2026-11-20\""),
            (
                Value::Date(civil.date()),
                &time,
                "\"2026-11-20T00:00:00+07:00\"",
            ),
            (Value::Date(civil.date()), &date, "\"2026-11-20\""),
            (
                Value::Instant(instant),
                &time,
                "\"2026-11-20T03:00:00+07:00\"",
            ),
            (Value::Instant(instant), &date, "\"2026-11-20\""),
            (
                Value::Text("2026-11-20 08:12:45".to_owned()),
                &time,
                "\"2026-11-20T08:12:45+07:00\"",
            ),
            (
                Value::Text("2026-11-20T08:12:45Z".to_owned()),
                &time,
                "\"2026-11-20T08:12:45Z\"",
            ),
            (
                Value::Text("2026-11-20 08:12:45".to_owned()),
                &date,
                "\"2026-11-20\"",
            ),
            (Value::Text("hôm qua".to_owned()), &time, "\"hôm qua\""),
        ] {
            assert_eq!(json(&value, shape), expected);
        }
        let in_utc = Value::DateTime(civil).to_json(&time, 0).expect("fit");
        assert_eq!(in_utc.as_deref(), Some("\"2026-11-20T08:12:45.25+00:00\""));
    }

    #[test]
    fn yes_and_no_have_many_forms() {
        let boolean = of(serde_json::json!({"type": ["boolean", "null"]}));
        assert_eq!(json(&Value::Int(1), &boolean), "true");
        assert_eq!(json(&Value::Int(0), &boolean), "false");
        assert_eq!(json(&Value::Int(2), &boolean), "2");
        assert_eq!(json(&Value::Bool(true), &any()), "true");
        assert_eq!(json(&Value::Text("false".to_owned()), &boolean), "false");
        assert_eq!(json(&Value::Text("1".to_owned()), &boolean), "true");
        assert_eq!(json(&Value::Decimal("0".to_owned()), &boolean), "false");
        assert_eq!(json(&Value::Decimal("2".to_owned()), &boolean), "2");
    }

    #[test]
    fn watermarks_keep_their_form() {
        for mark in [
            "2026-11-20 08:12:45.123456",
            "2026-11-20 08:12:45.120",
            "2026-11-20 08:12:45",
            "2026-11-20T08:12:45",
            "2026-11-20T01:12:45.500000Z",
        ] {
            let micros = mark_micros(mark, VIETNAM).expect("a time");
            assert_eq!(mark_at(micros, mark, VIETNAM).as_deref(), Some(mark));
        }
        let earlier = mark_micros("2026-11-20 00:05:00", VIETNAM).expect("a time") - 600_000_000;
        assert_eq!(
            mark_at(earlier, "2026-11-20 00:05:00", VIETNAM).as_deref(),
            Some("2026-11-19 23:55:00")
        );
        assert_eq!(mark_micros("hôm qua", VIETNAM), None);
    }

    proptest! {
        #[test]
        fn any_text_becomes_json(text in ".{0,60}", zone in -840..=840i32) {
            for schema in [
                serde_json::json!({"type": "string", "format": "date-time"}),
                serde_json::json!({"type": "integer"}),
                serde_json::json!({}),
            ] {
                if let Ok(Some(json)) = Value::Text(text.clone()).to_json(&of(schema), zone) {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
                }
            }
        }

        #[test]
        fn decimals_lose_no_digit(whole in 0..u64::MAX, fraction in "[0-9]{0,20}") {
            let text = match fraction.as_str() {
                "" => whole.to_string(),
                fraction => format!("{whole}.{fraction}"),
            };
            prop_assert_eq!(json(&Value::Decimal(text.clone()), &any()), text);
        }
    }
}
