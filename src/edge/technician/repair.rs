//! The fields of a parked row as a form has them, and the row as a person has put it right. Whatever
//! was not changed keeps its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::form::Fields;
use crate::catalogue::{Dataset, schema};
use crate::edge::door::Door;
use crate::edge::mask;
use crate::model::DatasetId;
use crate::store::rows::Parked;

/// What the names of a form's fields begin with; the pointer follows.
pub const NEW: &str = "moi:";
pub const CLEAR: &str = "bo:";
const FIELDS_MAX: usize = 200;
const DEPTH_MAX: usize = 4;
/// Allowed values that are named.
const ALLOWED_MAX: usize = 12;

/// A field of a row, or one that the row could have.
#[derive(Debug, Clone)]
pub struct Field {
    pub pointer: String,
    /// As the schema calls it.
    pub title: String,
    /// Its value as it may be shown; none where it has none.
    pub shown: Option<String>,
    pub allowed: Vec<String>,
    names: Vec<String>,
    types: Vec<String>,
}

/// A change, as it may be shown.
#[derive(Debug, Clone)]
pub struct Change {
    pub pointer: String,
    pub title: String,
    pub before: String,
    pub after: String,
}

#[derive(Debug)]
pub struct Mended {
    pub content: String,
    pub changes: Vec<Change>,
}

/// A row whose content a technician may see, masked.
pub struct Content {
    dataset: Arc<Dataset>,
    schema: Value,
    raw: Box<RawValue>,
    fields: Vec<Field>,
}

impl Content {
    /// None where the content is not here, is sensitive, or nobody knows what it is.
    pub fn of(door: &Door, row: &Parked) -> Option<Content> {
        let text = String::from_utf8(row.row.clone().filter(|_| row.is_whole)?).ok()?;
        let id: DatasetId = row.dataset.parse().ok()?;
        Content::new(door.dataset(&id)?, text)
    }

    fn new(dataset: Arc<Dataset>, text: String) -> Option<Content> {
        mask::shown(Some(&dataset), "")?;
        let value: Value = serde_json::from_str(&text).ok().filter(Value::is_object)?;
        let mut content = Content {
            schema: serde_json::from_str(&dataset.schema).ok()?,
            raw: RawValue::from_string(text).ok()?,
            dataset,
            fields: Vec::new(),
        };
        content.collect(Some(&value), &mut Vec::new());
        content.fields.truncate(FIELDS_MAX);
        Some(content)
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Fields of a value and of what the schema knows at its place.
    fn collect(&mut self, value: Option<&Value>, names: &mut Vec<String>) {
        let path: Vec<&str> = names.iter().map(String::as_str).collect();
        let described = schema::describing(&self.schema, &path);
        let mut children: BTreeMap<String, bool> = BTreeMap::new();
        for part in &described {
            let properties = part.get("properties").and_then(Value::as_object);
            for name in properties.into_iter().flat_map(|fields| fields.keys()) {
                children.entry(name.clone()).or_insert(false);
            }
            let required = part.get("required").and_then(Value::as_array);
            for name in required.into_iter().flatten().filter_map(Value::as_str) {
                children.insert(name.to_owned(), true);
            }
        }
        match value {
            Some(Value::Object(object)) => {
                for name in object.keys() {
                    children.insert(name.clone(), true);
                }
            }
            Some(Value::Array(items)) => {
                children = (0..items.len())
                    .map(|place| (place.to_string(), true))
                    .collect();
            }
            None if !children.is_empty() => {}
            _ => return self.add(value, names),
        }
        if DEPTH_MAX <= names.len() || FIELDS_MAX <= self.fields.len() {
            return;
        }
        for (name, is_wanted) in children {
            let child = match value {
                Some(Value::Array(items)) => {
                    name.parse().ok().and_then(|place: usize| items.get(place))
                }
                Some(value) => value.get(&name),
                None => None,
            };
            names.push(name);
            // What is neither there nor required is offered where it is a plain value.
            if child.is_some() || is_wanted || self.is_plain(names) {
                self.collect(child, names);
            }
            names.pop();
        }
    }

    fn is_plain(&self, names: &[String]) -> bool {
        let path: Vec<&str> = names.iter().map(String::as_str).collect();
        let described = schema::describing(&self.schema, &path);
        !described
            .iter()
            .any(|part| part.get("properties").is_some() || part.get("items").is_some())
    }

    fn add(&mut self, value: Option<&Value>, names: &[String]) {
        let path: Vec<&str> = names.iter().map(String::as_str).collect();
        let pointer = pointer(names);
        let types = schema::describing(&self.schema, &path)
            .iter()
            .filter_map(|part| part.get("type"))
            .flat_map(|types| match types {
                Value::Array(types) => types.clone(),
                one => vec![one.clone()],
            })
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect();
        let allowed = schema::annotation(&self.schema, &path, "enum").and_then(Value::as_array);
        let allowed = allowed
            .into_iter()
            .flatten()
            .filter(|value| !value.is_null());
        let allowed = allowed.take(ALLOWED_MAX).map(plain).collect();
        let shown = value.and_then(|value| mask::shown(Some(&self.dataset), &plain(value)));
        self.fields.push(Field {
            title: schema::title(&self.schema, &path)
                .unwrap_or(&pointer)
                .to_owned(),
            pointer,
            shown,
            allowed,
            names: names.to_vec(),
            types,
        });
    }

    /// The row with what a form changes; else what is wrong, field by field.
    pub fn mended(&self, form: &Fields) -> Result<Mended, Vec<(String, [String; 2])>> {
        let (mut raw, mut changes, mut faults) = (self.raw.clone(), Vec::new(), Vec::new());
        for field in &self.fields {
            let text = form.get(&format!("{NEW}{}", field.pointer)).trim();
            let is_cleared = !form.get(&format!("{CLEAR}{}", field.pointer)).is_empty();
            let value = match (text.is_empty(), is_cleared) {
                (true, false) => continue,
                (true, true) => Value::Null,
                (false, _) => match typed(text, &field.types) {
                    Ok(value) => value,
                    Err(texts) => {
                        faults.push((field.pointer.clone(), texts.map(str::to_owned)));
                        continue;
                    }
                },
            };
            raw = set(&raw, &field.names, &value);
            let masked = mask::shown(Some(&self.dataset), &plain(&value));
            changes.push(Change {
                pointer: field.pointer.clone(),
                title: field.title.clone(),
                before: field.shown.clone().unwrap_or_default(),
                after: masked.unwrap_or_default(),
            });
        }
        match faults.is_empty() {
            true => Ok(Mended {
                content: raw.get().to_owned(),
                changes,
            }),
            false => Err(faults),
        }
    }
}

fn pointer(names: &[String]) -> String {
    let escaped = names
        .iter()
        .map(|name| name.replace('~', "~0").replace('/', "~1"));
    escaped.map(|name| format!("/{name}")).collect()
}

/// A plain value as text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

/// A text as the schema wants the value.
fn typed(text: &str, types: &[String]) -> Result<Value, [&'static str; 2]> {
    let is = |name: &str| types.iter().any(|known| known == name);
    if types.is_empty() || is("string") {
        return Ok(Value::String(text.to_owned()));
    }
    if is("integer") || is("number") {
        let number = serde_json::from_str(&text.replace(',', "."));
        return number.ok().filter(Value::is_number).ok_or([
            "Phải là một số, ví dụ 12 hoặc 3,5.",
            "A number, such as 12 or 3.5.",
        ]);
    }
    if is("boolean") {
        return match text.to_lowercase().as_str() {
            "true" | "có" | "đúng" | "1" => Ok(Value::Bool(true)),
            "false" | "không" | "sai" | "0" => Ok(Value::Bool(false)),
            _ => Err(["Ghi có hoặc không.", "true or false."]),
        };
    }
    Err([
        "Trường này không sửa được ở đây.",
        "This field cannot be put right here.",
    ])
}

/// The value with another one at a place; objects on the way are made where they are missing.
fn set(raw: &RawValue, names: &[String], value: &Value) -> Box<RawValue> {
    let Some((name, rest)) = names.split_first() else {
        return to_raw_value(value).expect("a plain value");
    };
    let empty = || to_raw_value(&Value::Null).expect("a plain value");
    if let (Ok(mut items), Ok(place)) = (
        serde_json::from_str::<Vec<Box<RawValue>>>(raw.get()),
        name.parse::<usize>(),
    ) {
        if let Some(item) = items.get_mut(place) {
            *item = set(item, rest, value);
        }
        return to_raw_value(&items).expect("what was read is written");
    }
    let mut object: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(raw.get()).unwrap_or_default();
    let child = object.remove(name).unwrap_or_else(empty);
    object.insert(name.clone(), set(&child, rest, value));
    to_raw_value(&object).expect("what was read is written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use std::path::Path;

    fn content(dataset: &str, text: &str) -> Option<Content> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        let catalogue = Catalogue::load(&folder).unwrap();
        Content::new(
            catalogue.shared(&dataset.parse().unwrap()).unwrap(),
            text.to_owned(),
        )
    }

    const ROW: &str = r#"{"ma_ho_so":"H53.12-261120-0001","phi":8000.10,"buoc":3,"nguoi_nop":{"loai":"ca_nhan","ho_ten":"Nguyễn Văn Mẫu"},"la":12345678901234567890123}"#;

    #[test]
    fn what_is_not_changed_keeps_its_bytes() {
        let content = content("ho_so_tthc", ROW).unwrap();
        let form = "moi:/nguoi_nop/ho_ten=Tr%E1%BA%A7n+Th%E1%BB%8B+M%E1%BA%ABu&moi:/buoc=4&bo:/la=1&moi:/ma_tthc=1.001193";
        let mended = content.mended(&Fields::parse(form.as_bytes())).unwrap();
        assert!(
            mended.content.contains("\"phi\":8000.10"),
            "{}",
            mended.content
        );
        let value: Value = serde_json::from_str(&mended.content).unwrap();
        assert_eq!(value["nguoi_nop"]["ho_ten"], "Trần Thị Mẫu");
        assert_eq!(value["nguoi_nop"]["loai"], "ca_nhan");
        assert_eq!(
            (&value["buoc"], &value["la"], &value["ma_tthc"]),
            (&4.into(), &Value::Null, &"1.001193".into())
        );
        let name = mended
            .changes
            .iter()
            .find(|change| change.pointer.ends_with("ho_ten"))
            .unwrap();
        assert_eq!(
            (name.before.as_str(), name.after.as_str()),
            ("•••• Mẫu", "•••• Mẫu")
        );
    }

    #[test]
    fn missing_fields_are_offered_and_numbers_checked() {
        let content = content("ho_so_tthc", "{\"ma_ho_so\":\"A\"}").unwrap();
        let pointers: Vec<&str> = content
            .fields()
            .iter()
            .map(|field| field.pointer.as_str())
            .collect();
        for pointer in [
            "/ma_ho_so",
            "/ma_tthc",
            "/nguoi_nop/ho_ten",
            "/trang_thai_chuan",
        ] {
            assert!(pointers.contains(&pointer), "{pointer} in {pointers:?}");
        }
        let faults = content.mended(&Fields::parse(b"moi:/buoc=ba")).unwrap_err();
        assert_eq!(faults[0].0, "/buoc");
        let form = "moi:/nguoi_nop/ho_ten=L%C3%AA+M%E1%BA%ABu";
        let mended = content.mended(&Fields::parse(form.as_bytes())).unwrap();
        assert!(
            mended.content.contains("{\"ho_ten\":\"Lê Mẫu\"}"),
            "{}",
            mended.content
        );
    }

    #[test]
    fn sensitive_data_have_no_content() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        let catalogue = Catalogue::load(&folder).unwrap();
        let mut sensitive = catalogue.iter().filter(|dataset| 3 <= dataset.sensitivity);
        let dataset = sensitive.next().expect("the catalogue has some");
        assert!(content(dataset.id.as_str(), "{\"a\":1}").is_none());
    }
}
