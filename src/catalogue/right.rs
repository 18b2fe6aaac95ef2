//! What an office may see of a dataset: which records, which of their fields, and which of these
//! only by their last characters. [`view`] is the only way from a record to a copy; what is not
//! granted does not come through, at any depth.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::condition::{Pattern, escape, segments};
use super::directory::Directory;
use super::{Dataset, schema};
use crate::model::AgencyCode;

/// Characters of a masked value that stay.
const SHOWN_CHARS: usize = 4;
const MASK: &str = "****";
/// Nobody reads personal data that is sensitive by law without a reason in law.
pub const SENSITIVE: u8 = 3;

/// A right as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// JSON pointers, `*` for any element; none: the whole record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    pub rows: Rows,
    /// Records of sensitivity 3 too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
}

/// Which records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    All,
    /// Those of these offices and of what is below them.
    Of(Vec<AgencyCode>),
}

/// Why a right cannot be given, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RightFault {
    pub message: String,
    pub hint: String,
}

/// A record that somebody may want to see.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub owner: &'a AgencyCode,
    pub sensitivity: u8,
    pub data: &'a RawValue,
}

/// A right, ready to be held against many records.
#[derive(Debug, Clone)]
pub struct Lens {
    rows: Rows,
    sensitive: bool,
    whole: bool,
    shows_key: bool,
    /// Fields that say whose record it is, beside its owner.
    area: Vec<Pattern>,
    root: Node,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// Everything from here on.
    granted: bool,
    masked: bool,
    below: BTreeMap<String, Node>,
}

impl Right {
    /// Holds a right against its dataset; all fields must be in the schema.
    pub fn check(&self, dataset: &Dataset) -> Result<(), RightFault> {
        let schema: serde_json::Value =
            serde_json::from_str(&dataset.schema).expect("a dataset's schema is JSON");
        for pointer in self.fields.iter().flatten().chain(&self.masked) {
            let names = segments(pointer).unwrap_or_default();
            let path: Vec<&str> = names.iter().map(String::as_str).collect();
            if path.is_empty() || schema::describing(&schema, &path).is_empty() {
                return Err(unknown_field(&schema, dataset, pointer, &path));
            }
        }
        if self.fields.as_ref().is_some_and(Vec::is_empty) {
            return Err(RightFault {
                message: "no field is named".to_owned(),
                hint:
                    "Name the fields that may be read, or leave out --fields for the whole record."
                        .to_owned(),
            });
        }
        if dataset.sensitivity >= SENSITIVE && !self.sensitive {
            return Err(RightFault {
                message: format!("{} holds sensitive personal data", dataset.id),
                hint: "Say --sensitive and the law with --basis.".to_owned(),
            });
        }
        Ok(())
    }

    /// Whether all that the other right lets through comes through this one as well, so that copies
    /// made under the other one may stay until they are renewed.
    pub fn covers(&self, other: &Right) -> bool {
        let fields = match (&self.fields, &other.fields) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => theirs.iter().all(|field| mine.contains(field)),
        };
        let rows = match (&self.rows, &other.rows) {
            (Rows::All, _) => true,
            (Rows::Of(_), Rows::All) => false,
            (Rows::Of(mine), Rows::Of(theirs)) => theirs.iter().all(|code| mine.contains(code)),
        };
        let masked = self.masked.iter().all(|field| other.masked.contains(field));
        fields && rows && masked && (self.sensitive || !other.sensitive)
    }
}

fn unknown_field(
    schema: &serde_json::Value,
    dataset: &Dataset,
    pointer: &str,
    path: &[&str],
) -> RightFault {
    let parent = (0..path.len())
        .rev()
        .map(|end| &path[..end])
        .find(|parent| !schema::describing(schema, parent).is_empty())
        .unwrap_or_default();
    let at: String = parent
        .iter()
        .map(|name| format!("/{}", escape(name)))
        .collect();
    let mut fields: Vec<String> = Vec::new();
    for part in schema::describing(schema, parent) {
        let names = part.get("properties").and_then(|fields| fields.as_object());
        fields.extend(
            names
                .into_iter()
                .flat_map(|names| names.keys())
                .map(|name| format!("{at}/{}", escape(name))),
        );
        if part.get("items").is_some() {
            fields.push(format!("{at}/*"));
        }
    }
    fields.dedup();
    RightFault {
        message: format!("{} has no field {pointer}", dataset.id),
        hint: format!("Fields there are: {}.", fields.join(", ")),
    }
}

impl Lens {
    pub fn new(right: &Right, dataset: &Dataset) -> Lens {
        let mut root = Node {
            granted: right.fields.is_none(),
            ..Node::default()
        };
        for pointer in right.fields.iter().flatten() {
            root.at(pointer).granted = true;
        }
        for pointer in &right.masked {
            root.at(pointer).masked = true;
        }
        let keys = dataset
            .variants
            .iter()
            .flat_map(|variant| &variant.key)
            .chain(&dataset.key);
        Lens {
            rows: right.rows.clone(),
            sensitive: right.sensitive,
            whole: right.fields.is_none() && right.masked.is_empty(),
            shows_key: dataset.hide_key || keys.into_iter().all(|key| root.shows(key)),
            area: dataset.area.clone(),
            root,
        }
    }

    /// Whether every field of the subject's key may be read; else its name is not to be told.
    pub fn shows_key(&self) -> bool {
        self.shows_key
    }

    /// Whether the record goes through as it is, with what it names.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn has_row(&self, record: Seen<'_>, directory: &Directory, on: Date) -> bool {
        let Rows::Of(offices) = &self.rows else {
            return true;
        };
        let within = |code: &str| {
            let is_unit = code.bytes().all(|digit| digit.is_ascii_digit());
            offices.iter().any(|office| match is_unit {
                true => directory.unit_is_within(code, office.as_str(), on),
                false => directory.is_within(code, office.as_str(), on),
            })
        };
        if within(record.owner.as_str()) {
            return true;
        }
        if self.area.is_empty() {
            return false;
        }
        let Ok(data) = serde_json::from_str::<serde_json::Value>(record.data.get()) else {
            return false;
        };
        self.area.iter().any(|place| {
            place
                .find(&data, &mut |value| value.as_str().is_some_and(within))
                .is_some()
        })
    }
}

impl Node {
    fn at(&mut self, pointer: &str) -> &mut Node {
        segments(pointer)
            .unwrap_or_default()
            .into_iter()
            .fold(self, |node, name| node.below.entry(name).or_default())
    }

    /// Whether the whole of what a pointer names comes through as it is.
    fn shows(&self, pointer: &str) -> bool {
        let (mut node, mut granted) = (self, self.granted);
        for name in segments(pointer).unwrap_or_default() {
            match node.below.get(&name).or_else(|| node.below.get("*")) {
                Some(below) if below.masked => return false,
                Some(below) => node = below,
                None => return granted,
            }
            granted |= node.granted;
        }
        granted && !node.hides_below()
    }

    fn hides_below(&self) -> bool {
        self.below
            .values()
            .any(|node| node.masked || node.hides_below())
    }
}

/// The record as the right shows it; none where the right does not reach it, or is to show nothing
/// of it.
pub fn view(
    record: Seen<'_>,
    lens: &Lens,
    directory: &Directory,
    on: Date,
) -> Option<Box<RawValue>> {
    if record.sensitivity >= SENSITIVE && !lens.sensitive {
        return None;
    }
    if !lens.has_row(record, directory, on) {
        return None;
    }
    let mut out = String::new();
    let shown = write(record.data, &[&lens.root], State::default(), &mut out)?;
    shown.then(|| RawValue::from_string(out).expect("made of JSON"))
}

/// What holds on the way down.
#[derive(Clone, Copy, Default)]
struct State {
    granted: bool,
    masked: bool,
}

/// Writes what may be seen of a value; false, and nothing written, where that is nothing; none
/// where it is no JSON that can be taken apart.
///
/// More than one node may speak about a value: by its name and by `*`.
fn write(value: &RawValue, nodes: &[&Node], above: State, out: &mut String) -> Option<bool> {
    let state = State {
        granted: above.granted || nodes.iter().any(|node| node.granted),
        masked: above.masked || nodes.iter().any(|node| node.masked),
    };
    let is_decided = nodes.iter().all(|node| node.below.is_empty());
    if is_decided && !state.granted {
        return Some(false);
    }
    if is_decided && !state.masked {
        out.push_str(value.get());
        return Some(true);
    }
    match value.get().as_bytes().first()? {
        b'{' => {
            let Members(members) = serde_json::from_str(value.get()).ok()?;
            write_parts(
                members.into_iter().map(|(name, value)| (Some(name), value)),
                nodes,
                state,
                ['{', '}'],
                out,
            )
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            write_parts(
                elements.into_iter().map(|value| (None, value)),
                nodes,
                state,
                ['[', ']'],
                out,
            )
        }
        _ if !state.granted => Some(false),
        _ if state.masked => {
            write_masked(value, out)?;
            Some(true)
        }
        _ => {
            out.push_str(value.get());
            Some(true)
        }
    }
}

fn write_parts<'v>(
    parts: impl Iterator<Item = (Option<Cow<'v, str>>, &'v RawValue)>,
    nodes: &[&Node],
    state: State,
    [open, close]: [char; 2],
    out: &mut String,
) -> Option<bool> {
    let start = out.len();
    out.push(open);
    let mut count = 0;
    for (name, value) in parts {
        let before = out.len();
        if 0 < count {
            out.push(',');
        }
        let mut below: Vec<&Node> = Vec::new();
        for node in nodes {
            let named = name.as_ref().map_or("*", |name| name.as_ref());
            below.extend(node.below.get(named));
        }
        if let Some(name) = name {
            out.push_str(&serde_json::to_string(&name).expect("a text is JSON"));
            out.push(':');
        }
        match write(value, &below, state, out)? {
            true => count += 1,
            false => out.truncate(before),
        }
    }
    out.push(close);
    if count == 0 && !state.granted {
        out.truncate(start);
        return Some(false);
    }
    Some(true)
}

/// The last characters of a text or number; of what is no longer than these, nothing.
fn write_masked(value: &RawValue, out: &mut String) -> Option<()> {
    let text = match value.get().as_bytes().first()? {
        b'n' => {
            out.push_str("null");
            return Some(());
        }
        b'"' => serde_json::from_str::<String>(value.get()).ok()?,
        b't' | b'f' => String::new(),
        _ => value.get().to_owned(),
    };
    let count = text.chars().count();
    let mut masked = MASK.to_owned();
    if SHOWN_CHARS < count {
        masked.extend(text.chars().skip(count - SHOWN_CHARS));
    }
    out.push_str(&serde_json::to_string(&masked).expect("a text is JSON"));
    Some(())
}

/// A JSON object's members in their order, still as they were written.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((Cow::Owned(name), value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests;
