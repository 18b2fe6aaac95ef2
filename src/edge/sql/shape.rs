//! What a dataset's schema takes at one field, as far as a database's value has to know it.

use serde_json::Value;

/// Depth of `$ref` that is followed.
const REFS_MAX: usize = 16;

/// What a field takes; with nothing said, anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    pub null: bool,
    pub boolean: bool,
    pub number: bool,
    /// No fraction may stand behind the point.
    pub integer_only: bool,
    pub text: bool,
    pub date_time: bool,
    pub date: bool,
    other: bool,
}

impl Shape {
    /// Whether the schema says nothing of the field's type.
    pub fn is_any(&self) -> bool {
        !(self.boolean || self.number || self.text || self.other)
    }

    /// What `schema` takes at a field within a record.
    pub fn of_field(schema: &Value, path: &[String]) -> Shape {
        let mut here = vec![schema];
        for name in path {
            let found = here
                .iter()
                .flat_map(|part| parts(schema, part))
                .filter_map(|part| part.get("properties")?.get(name))
                .collect();
            here = found;
        }
        let mut shape = Shape::default();
        let mut fraction = false;
        for part in here.iter().flat_map(|part| parts(schema, part)) {
            shape.learn(part, &mut fraction);
        }
        shape.integer_only = shape.number && !fraction;
        shape
    }

    fn learn(&mut self, part: &Value, fraction: &mut bool) {
        let types = match part.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => match part.get("enum").and_then(Value::as_array) {
                Some(values) => values.iter().map(type_of).collect(),
                None => Vec::new(),
            },
        };
        for name in types {
            match name {
                "null" => self.null = true,
                "boolean" => self.boolean = true,
                "integer" => self.number = true,
                "number" => {
                    self.number = true;
                    *fraction = true;
                }
                "string" => self.text = true,
                _ => self.other = true,
            }
        }
        match part.get("format").and_then(Value::as_str) {
            Some("date-time") => self.date_time = true,
            Some("date") => self.date = true,
            _ => {}
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        _ => "object",
    }
}

/// A schema and those that it refers to.
fn parts<'s>(root: &'s Value, part: &'s Value) -> Vec<&'s Value> {
    let mut parts = vec![part];
    while parts.len() < REFS_MAX {
        let last = parts[parts.len() - 1];
        let next = last
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|place| root.pointer(place.strip_prefix('#')?));
        match next {
            Some(next) => parts.push(next),
            None => break,
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_nesting_are_followed() {
        let schema = serde_json::json!({
            "properties": {
                "phi": {"type": ["integer", "null"], "$ref": "#/$defs/tien"},
                "nguoi": {"$ref": "#/$defs/nguoi"},
                "kenh": {"enum": ["a", null]},
                "vong": {"$ref": "#/$defs/vong"}
            },
            "$defs": {
                "tien": {"minimum": 0},
                "nguoi": {"type": "object", "properties": {"sinh": {"type": "string", "format": "date"}}},
                "vong": {"$ref": "#/$defs/vong"}
            }
        });
        let shape = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
            Shape::of_field(&schema, &path)
        };
        let fee = shape(&["phi"]);
        assert!(fee.null && fee.number && fee.integer_only && !fee.text);
        assert!(shape(&["nguoi", "sinh"]).date);
        assert!(shape(&["kenh"]).null && shape(&["kenh"]).text);
        assert!(shape(&["vong"]).is_any());
        assert!(shape(&["la", "gi"]).is_any());
    }
}
