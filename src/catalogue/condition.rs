//! Finding values in a record: pointers with wildcards, and comparison that forgives spelling.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A JSON pointer (RFC 6901) that may hold `*` for any element of an array and `**` for any depth:
/// `/gia_tri/*/s`, `/**/do_mat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    AnyElement,
    AnyDepth,
}

/// Why a text is not a pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a JSON pointer")]
pub struct InvalidPointer(pub String);

impl FromStr for Pattern {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        let names = segments(text).ok_or_else(|| InvalidPointer(text.to_owned()))?;
        let steps: Vec<Step> = names
            .into_iter()
            .map(|name| match name.as_str() {
                "*" => Step::AnyElement,
                "**" => Step::AnyDepth,
                _ => Step::Name(name),
            })
            .collect();
        match steps.last() {
            Some(Step::AnyDepth) | None => Err(InvalidPointer(text.to_owned())),
            Some(_) => Ok(Pattern { steps }),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| match step {
            Step::Name(name) => write!(f, "/{}", escape(name)),
            Step::AnyElement => f.write_str("/*"),
            Step::AnyDepth => f.write_str("/**"),
        })
    }
}

impl Pattern {
    /// The names on the way, `*` for an element; none when the pattern holds `**`.
    pub fn names(&self) -> Option<Vec<&str>> {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Name(name) => Some(name.as_str()),
                Step::AnyElement => Some("*"),
                Step::AnyDepth => None,
            })
            .collect()
    }

    /// The pointer of the first value that `accept` takes.
    pub fn find(&self, value: &Value, accept: &mut dyn FnMut(&Value) -> bool) -> Option<String> {
        find(&self.steps, value, accept)
    }
}

fn find(steps: &[Step], value: &Value, accept: &mut dyn FnMut(&Value) -> bool) -> Option<String> {
    let Some((step, rest)) = steps.split_first() else {
        return accept(value).then(String::new);
    };
    match (step, value) {
        (Step::Name(name), Value::Object(fields)) => {
            Some(below(name, find(rest, fields.get(name)?, accept)?))
        }
        (Step::AnyElement, Value::Array(elements)) => {
            elements.iter().enumerate().find_map(|(place, element)| {
                Some(below(&place.to_string(), find(rest, element, accept)?))
            })
        }
        (Step::AnyDepth, _) => find(rest, value, accept).or_else(|| match value {
            Value::Object(fields) => fields
                .iter()
                .find_map(|(name, field)| Some(below(name, find(steps, field, accept)?))),
            Value::Array(elements) => elements.iter().enumerate().find_map(|(place, element)| {
                Some(below(&place.to_string(), find(steps, element, accept)?))
            }),
            _ => None,
        }),
        _ => None,
    }
}

fn below(name: &str, pointer: String) -> String {
    format!("/{}{pointer}", escape(name))
}

/// A segment as RFC 6901 writes it.
pub fn escape(segment: &str) -> Cow<'_, str> {
    if segment.contains(['~', '/']) {
        Cow::Owned(segment.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(segment)
    }
}

/// The unescaped segments of a JSON pointer; none when the text is not one.
pub fn segments(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let unescape = |segment: &str| {
        let well_formed = segment
            .split('~')
            .skip(1)
            .all(|rest| rest.starts_with('0') || rest.starts_with('1'));
        well_formed.then(|| segment.replace("~1", "/").replace("~0", "~"))
    };
    pointer
        .strip_prefix('/')?
        .split('/')
        .map(unescape)
        .collect()
}

/// True of a record when one of the places holds one of the values.
#[derive(Debug, Clone)]
pub struct Condition {
    pub places: Vec<Pattern>,
    /// Texts are folded.
    pub values: Vec<Value>,
}

impl Condition {
    /// Texts among `values` may be written in any spelling that [`fold`] makes equal.
    pub fn new(places: Vec<Pattern>, values: Vec<Value>) -> Condition {
        let values = values
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Value::String(fold(&text).into_owned()),
                other => other,
            })
            .collect();
        Condition { places, values }
    }

    pub fn matches(&self, record: &Value) -> bool {
        self.find(record).is_some()
    }

    /// The pointer of the first value that matches.
    pub fn find(&self, record: &Value) -> Option<String> {
        self.places
            .iter()
            .find_map(|place| place.find(record, &mut |value| self.accepts(value)))
    }

    fn accepts(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => {
                let folded = fold(text);
                self.values
                    .iter()
                    .any(|wanted| wanted.as_str() == Some(&*folded))
            }
            Value::Number(number) => self
                .values
                .iter()
                .any(|wanted| wanted.as_f64().is_some() && wanted.as_f64() == number.as_f64()),
            other => self.values.contains(other),
        }
    }
}

/// One spelling for texts that differ in case, diacritics or separators: `Tối mật`, `TOI-MAT` and
/// `toi_mat` are all `toi_mat`.
pub fn fold(text: &str) -> Cow<'_, str> {
    let folded_already = !text.starts_with('_')
        && !text.ends_with('_')
        && !text.contains("__")
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if folded_already {
        return Cow::Borrowed(text);
    }
    let mut folded = String::with_capacity(text.len());
    let mut gap = false;
    for letter in text
        .nfkd()
        .filter(|&letter| !is_combining_mark(letter) && !is_invisible(letter))
    {
        if !letter.is_alphanumeric() {
            gap = true;
            continue;
        }
        if gap && !folded.is_empty() {
            folded.push('_');
        }
        gap = false;
        match letter {
            'đ' | 'Đ' | 'ð' | 'Ð' => folded.push('d'),
            _ => folded.extend(letter.to_lowercase()),
        }
    }
    Cow::Owned(folded)
}

/// Marks that change nothing for the eye: zero-width characters, soft hyphen, byte order mark.
fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition(pointer: &str, values: Value) -> Condition {
        let values = values.as_array().expect("an array").clone();
        Condition::new(vec![pointer.parse().expect("a pointer")], values)
    }

    #[test]
    fn spellings_fold_to_one() {
        for (written, folded) in [
            ("Tối mật", "toi_mat"),
            ("TỐI MẬT", "toi_mat"),
            ("toi-mat", "toi_mat"),
            ("  Tối\u{a0}Mật. ", "toi_mat"),
            ("To\u{302}\u{301}i ma\u{323}\u{302}t", "toi_mat"),
            ("Độ mật", "do_mat"),
            ("ＭẬＴ", "mat"),
            ("m\u{200b}ật", "mat"),
            ("", ""),
            ("__", ""),
            ("02", "02"),
        ] {
            assert_eq!(fold(written), folded, "{written:?}");
            assert_eq!(fold(folded), folded, "folding twice changes nothing");
        }
    }

    #[test]
    fn conditions_find_their_place() {
        let record = json!({"gia_tri": [{"s": "00"}, {"s": "02"}], "a/b": {"x": [{"do_mat": "Mật"}]}, "n": 2, "b": true});
        for (pointer, values, found) in [
            ("/gia_tri/*/s", json!(["02"]), Some("/gia_tri/1/s")),
            ("/gia_tri/*/s", json!(["01"]), None),
            ("/**/do_mat", json!(["mat"]), Some("/a~1b/x/0/do_mat")),
            ("/a~1b/x/*/do_mat", json!(["MẬT"]), Some("/a~1b/x/0/do_mat")),
            ("/**/s", json!(["02"]), Some("/gia_tri/1/s")),
            ("/n", json!([2]), Some("/n")),
            ("/n", json!(["2"]), None),
            ("/b", json!([true]), Some("/b")),
            ("/b", json!([false]), None),
            ("/missing", json!([""]), None),
            ("/gia_tri", json!(["00"]), None),
        ] {
            assert_eq!(
                condition(pointer, values).find(&record).as_deref(),
                found,
                "{pointer}"
            );
        }
    }

    #[test]
    fn pointers_are_checked() {
        for bad in ["", "a", "/a~2", "/a~", "/**"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
        let pattern: Pattern = "/a~1b/*/~0".parse().expect("a pointer");
        assert_eq!(pattern.to_string(), "/a~1b/*/~0");
        assert_eq!(pattern.names(), Some(vec!["a/b", "*", "~"]));
    }
}
