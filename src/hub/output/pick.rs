//! Fields of a record's data by JSON pointer: read for columns, masked for protection. Every other
//! value stays as its producer wrote it, numbers to the last digit.

use std::fmt;

use serde_json::value::RawValue;

/// Characters that [`Hiding::LastFour`] leaves.
const LEFT: usize = 4;

/// A field that leaves the hub only in part, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    pub field: Pointer,
    pub hiding: Hiding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hiding {
    Remove,
    /// All but the last four characters become stars.
    LastFour,
}

/// A JSON pointer (RFC 6901); `*` stands for every item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl std::str::FromStr for Pointer {
    type Err = ();

    fn from_str(text: &str) -> Result<Pointer, ()> {
        let parts = text.strip_prefix('/').ok_or(())?.split('/');
        let parts = parts.map(|part| part.replace("~1", "/").replace("~0", "~"));
        Ok(Pointer(parts.collect()))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| {
            let part = part.replace('~', "~0").replace('/', "~1");
            write!(f, "/{part}")
        })
    }
}

/// The field's value as it is written; none when it is not there.
pub fn find<'a>(data: &'a RawValue, pointer: &Pointer) -> Option<&'a RawValue> {
    let mut value = data;
    for part in &pointer.0 {
        value = match members(value) {
            Some(members) => members.into_iter().rev().find(|(name, _)| name == part)?.1,
            None => {
                let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
                items.get(part.parse::<usize>().ok()?)?
            }
        };
    }
    Some(value)
}

/// The data without what the masks hide.
pub fn mask(data: &RawValue, masks: &[Mask]) -> Box<RawValue> {
    let mut masked = data.to_owned();
    for mask in masks {
        if let Some(text) = masked_at(&masked, &mask.field.0, mask.hiding) {
            masked = RawValue::from_string(text).expect("JSON was put together from JSON");
        }
    }
    masked
}

/// The value's new text, or none when it stays as it is.
fn masked_at(value: &RawValue, path: &[String], hiding: Hiding) -> Option<String> {
    let (part, rest) = path.split_first()?;
    if let Some(members) = members(value) {
        let mut changed = false;
        let mut kept = Vec::new();
        for (name, value) in members {
            let mut text = value.get().to_owned();
            if name == *part {
                changed = true;
                match (rest.is_empty(), hiding) {
                    (true, Hiding::Remove) => continue,
                    (true, Hiding::LastFour) => text = starred(value),
                    (false, _) => text = masked_at(value, rest, hiding).unwrap_or(text),
                }
            }
            let name = serde_json::to_string(&name).expect("a text is JSON");
            kept.push(format!("{name}:{text}"));
        }
        return changed.then(|| format!("{{{}}}", kept.join(",")));
    }
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    let texts = items.iter().enumerate().filter_map(|(index, item)| {
        let is_meant = part == "*" || part.parse() == Ok(index);
        match (is_meant, rest.is_empty(), hiding) {
            (false, _, _) => Some(item.get().to_owned()),
            (true, true, Hiding::Remove) => None,
            (true, true, Hiding::LastFour) => Some(starred(item)),
            (true, false, _) => {
                Some(masked_at(item, rest, hiding).unwrap_or(item.get().to_owned()))
            }
        }
    });
    Some(format!("[{}]", texts.collect::<Vec<_>>().join(",")))
}

/// A short text is hidden whole, and so is whatever is not a text or a number.
fn starred(value: &RawValue) -> String {
    let text = match serde_json::from_str(value.get()) {
        Ok(serde_json::Value::Null) => return "null".to_owned(),
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Number(_)) => value.get().to_owned(),
        _ => String::new(),
    };
    let letters: Vec<char> = text.chars().collect();
    let hidden = match letters.len() {
        count if count <= 2 * LEFT => count.max(1),
        count => count - LEFT,
    };
    let shown = letters.iter().skip(hidden);
    let stars = std::iter::repeat_n('*', hidden).chain(shown.copied());
    serde_json::to_string(&stars.collect::<String>()).expect("a text is JSON")
}

fn members(value: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    Some(serde_json::from_str::<Members<'_>>(value.get()).ok()?.0)
}

/// A JSON object's members in their order; a repeated name stays repeated.
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn fields_are_found_as_they_are_written() {
        let data = raw(r#"{"phi":1.50,"nguoi":{"ten":"Lê Mẫu","a/b":[1,{"c":true}]}}"#);
        let at = |pointer: &str| find(&data, &pointer.parse().unwrap()).map(RawValue::get);
        assert_eq!(at("/phi"), Some("1.50"));
        assert_eq!(at("/nguoi/ten"), Some("\"Lê Mẫu\""));
        assert_eq!(at("/nguoi/a~1b/1/c"), Some("true"));
        assert_eq!(at("/nguoi/khong"), None);
        assert!("ten".parse::<Pointer>().is_err());
    }

    #[test]
    fn masks_hide_and_leave_the_rest() {
        let data =
            raw(r#"{"phi":1.50,"cccd":"001099000001","con":[{"ten":"A","n":1},{"ten":"B"}]}"#);
        let mask_of = |field: &str, hiding| Mask {
            field: field.parse().unwrap(),
            hiding,
        };
        let masks = [
            mask_of("/cccd", Hiding::LastFour),
            mask_of("/con/*/ten", Hiding::Remove),
            mask_of("/khong/co", Hiding::Remove),
        ];
        assert_eq!(
            mask(&data, &masks).get(),
            r#"{"phi":1.50,"cccd":"********0001","con":[{"n":1},{}]}"#
        );
        let short = mask(
            &raw(r#"{"a":"1234567"}"#),
            &[mask_of("/a", Hiding::LastFour)],
        );
        assert_eq!(short.get(), r#"{"a":"*******"}"#);
    }
}
