//! A measured value as decimal text. It is never made a binary number, so `7.20` stays `7.20`.

/// A decimal number whose text is a JSON number: decimal point, no needless sign or zero in front.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal(String);

impl Decimal {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a value's field says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field {
    Number {
        value: Decimal,
        comma: bool,
    },
    /// No value; `legal` when it is written `---`.
    Missing {
        legal: bool,
    },
    NotANumber,
    /// Both a point and a comma, or several: which one is decimal cannot be known.
    Separators,
    TooLong,
}

const CHARACTERS_MAX: usize = 40;
/// Largest power of ten that is believed in an exponent.
const EXPONENT_MAX: u32 = 99;

pub(super) fn field(text: &str) -> Field {
    if text == "---" {
        return Field::Missing { legal: true };
    }
    let dashes = text.chars().all(|c| matches!(c, '-' | '–' | '—'));
    if dashes
        || ["nan", "null", "n/a", "na"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(text))
    {
        return Field::Missing { legal: false };
    }
    if text.chars().count() > CHARACTERS_MAX {
        return Field::TooLong;
    }
    let (negative, unsigned) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => unsigned.split_at(at),
        None => (unsigned, ""),
    };
    if !mantissa
        .chars()
        .all(|c| c.is_ascii_digit() || c == '.' || c == ',')
        || !mantissa.contains(|c: char| c.is_ascii_digit())
        || !(exponent.is_empty() || is_exponent(exponent))
    {
        return Field::NotANumber;
    }
    let mut parts = mantissa.split(['.', ',']);
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    if parts.next().is_some() {
        return Field::Separators;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let sign = if negative { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    let value = Decimal(format!("{sign}{whole}{point}{fraction}{exponent}"));
    Field::Number {
        value,
        comma: mantissa.contains(','),
    }
}

/// `e` or `E`, a sign or none, and a small number.
fn is_exponent(text: &str) -> bool {
    let digits = &text[1..];
    let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits
        && digits
            .parse::<u32>()
            .is_ok_and(|power| power <= EXPONENT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        for (given, meant, comma) in [
            ("7.20", "7.20", false),
            ("0", "0", false),
            ("-0.50", "-0.50", false),
            ("7,2", "7.2", true),
            ("+7.2", "7.2", false),
            ("007.2", "7.2", false),
            ("000", "0", false),
            ("00.5", "0.5", false),
            (".5", "0.5", false),
            ("-,5", "-0.5", true),
            ("5.", "5", false),
            ("5,", "5", true),
            ("−3", "-3", false),
            ("1.2E-3", "1.2E-3", false),
            ("1e+05", "1e+05", false),
            (
                "123456789012345678901234567890.10",
                "123456789012345678901234567890.10",
                false,
            ),
        ] {
            let Field::Number {
                value,
                comma: found,
            } = field(given)
            else {
                panic!("{given}: {:?}", field(given))
            };
            assert_eq!((value.as_str(), found), (meant, comma), "{given}");
            assert!(
                serde_json::from_str::<serde_json::Number>(value.as_str()).is_ok(),
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_told_apart() {
        assert_eq!(field("---"), Field::Missing { legal: true });
        for missing in ["", "-", "--", "----", "–––", "NaN", "null", "N/A"] {
            assert_eq!(field(missing), Field::Missing { legal: false }, "{missing}");
        }
        for bad in [
            "abc", "7 2", "<0.05", "1.2e", "1e999", "e5", ".", ",", "+", "--7", "+-7", "0x10",
            "inf", "٣", "7%",
        ] {
            assert_eq!(field(bad), Field::NotANumber, "{bad}");
        }
        for unclear in ["1.234,5", "1,234.5", "1.2.3", "1,2,3"] {
            assert_eq!(field(unclear), Field::Separators, "{unclear}");
        }
        assert_eq!(field(&"1".repeat(41)), Field::TooLong);
    }
}
