//! From a program's JSON to a dataset's fields: values are found by pointer and copied as they were
//! written, so that no number loses a digit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Field of the dataset by its place in what was delivered, a JSON pointer. Empty: as delivered.
pub type Fields = BTreeMap<String, String>;

type Object<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The value at a JSON pointer (RFC 6901); the empty pointer is the whole.
pub fn at<'a>(raw: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut found = raw;
    let mut steps = pointer.split('/');
    if !steps.next()?.is_empty() {
        return None;
    }
    for step in steps {
        let step = step.replace("~1", "/").replace("~0", "~");
        found = match found.get().as_bytes().first()? {
            b'{' => object(found)?.get(step.as_str()).copied()?,
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(found.get()).ok()?;
                items.get(step.parse::<usize>().ok()?).copied()?
            }
            _ => return None,
        };
    }
    Some(found)
}

/// A text's content, or a number as it is written.
pub fn text_of(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first()? {
        b'"' => serde_json::from_str(raw.get()).ok(),
        b'-' | b'0'..=b'9' => Some(raw.get().to_owned()),
        _ => None,
    }
}

pub fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// An item in the dataset's fields, with texts that are known from elsewhere; none when it is not an
/// object.
pub fn shape(
    item: &RawValue,
    fields: &Fields,
    known: &BTreeMap<String, String>,
) -> Option<Box<RawValue>> {
    let delivered = object(item)?;
    if fields.is_empty() && known.is_empty() {
        return Some(item.to_owned());
    }
    let known: BTreeMap<&str, Box<RawValue>> = known
        .iter()
        .map(|(field, text)| {
            let raw = serde_json::value::to_raw_value(text).expect("a text is JSON");
            (field.as_str(), raw)
        })
        .collect();
    let mut shaped: BTreeMap<&str, &RawValue> = match fields.is_empty() {
        true => delivered.iter().map(|(key, raw)| (&**key, *raw)).collect(),
        false => fields
            .iter()
            .filter_map(|(field, place)| Some((field.as_str(), at(item, place)?)))
            .collect(),
    };
    shaped.extend(known.iter().map(|(field, raw)| (*field, &**raw)));
    Some(serde_json::value::to_raw_value(&shaped).expect("texts and raw values are JSON"))
}

fn object(raw: &RawValue) -> Option<Object<'_>> {
    let object: BTreeMap<Key<'_>, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    Some(object.into_iter().map(|(key, raw)| (key.0, raw)).collect())
}

/// A key that is borrowed where it holds no escapes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn pointers_find_values_as_they_were_written() {
        let item = raw(r#"{"a":{"b/c":[1.10,{"d~":"x\u00e9"}]},"n":null}"#);
        for (pointer, expected) in [
            ("/a/b~1c/0", Some("1.10")),
            ("/a/b~1c/1/d~0", Some(r#""x\u00e9""#)),
            ("/n", Some("null")),
            ("/a/x", None),
            ("/n/x", None),
            ("a", None),
        ] {
            assert_eq!(at(&item, pointer).map(RawValue::get), expected, "{pointer}");
        }
        assert_eq!(at(&item, "").map(RawValue::get), Some(item.get()));
        assert_eq!(
            text_of(at(&item, "/a/b~1c/1/d~0").unwrap()),
            Some("xé".to_owned())
        );
        assert_eq!(text_of(&raw("-1.50")), Some("-1.50".to_owned()));
        assert_eq!((text_of(&raw("true")), is_null(&raw("null"))), (None, true));
    }

    #[test]
    fn items_are_shaped_into_the_datasets_fields() {
        let item = raw(r#"{"id":7,"v":{"x":1.50}}"#);
        let fields: Fields = [("gia_tri", "/v/x"), ("thieu", "/y")]
            .map(|(field, place)| (field.to_owned(), place.to_owned()))
            .into();
        let known = BTreeMap::from([("tram".to_owned(), "NUO\"1".to_owned())]);
        let shaped = |fields: &Fields, known: &BTreeMap<String, String>| {
            shape(&item, fields, known).unwrap().get().to_owned()
        };
        assert_eq!(
            shaped(&fields, &known),
            r#"{"gia_tri":1.50,"tram":"NUO\"1"}"#
        );
        assert_eq!(
            shaped(&Fields::new(), &known),
            r#"{"id":7,"tram":"NUO\"1","v":{"x":1.50}}"#
        );
        assert_eq!(shaped(&Fields::new(), &BTreeMap::new()), item.get());
        assert!(shape(&raw("[1]"), &fields, &known).is_none());
    }

    proptest! {
        #[test]
        fn any_pointer_is_followed(pointer in "\\PC{0,30}", text in "\\PC{0,20}") {
            let item = serde_json::value::to_raw_value(&BTreeMap::from([(text, [1])])).unwrap();
            let _ = at(&item, &pointer);
        }
    }
}
