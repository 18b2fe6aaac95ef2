//! A schema's own words about a field: its title and examples, for messages that people read.

use serde_json::Value;

use super::condition::segments;

/// Every subschema that speaks about the field at the names, outermost first; `*` is any element.
pub fn describing<'s>(root: &'s Value, names: &[&str]) -> Vec<&'s Value> {
    let mut level = Vec::new();
    expand(root, root, &mut level);
    for name in names {
        let mut next = Vec::new();
        for schema in level {
            for child in children(schema, name) {
                expand(root, child, &mut next);
            }
        }
        level = next;
    }
    level
}

/// The title of the field, in Vietnamese, when the schema gives one.
pub fn title<'s>(root: &'s Value, names: &[&str]) -> Option<&'s str> {
    annotation(root, names, "title")?.as_str()
}

/// The first value of an annotation of the field.
pub fn annotation<'s>(root: &'s Value, names: &[&str], keyword: &str) -> Option<&'s Value> {
    describing(root, names)
        .into_iter()
        .find_map(|schema| schema.get(keyword))
}

/// Adds a schema and what it refers to or combines; each once, so that circles end.
fn expand<'s>(root: &'s Value, schema: &'s Value, out: &mut Vec<&'s Value>) {
    if !schema.is_object() || out.iter().any(|seen| std::ptr::eq(*seen, schema)) {
        return;
    }
    out.push(schema);
    if let Some(target) = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|uri| local(root, uri))
    {
        expand(root, target, out);
    }
    for keyword in ["then", "else", "if"] {
        if let Some(part) = schema.get(keyword) {
            expand(root, part, out);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for part in schema
            .get(keyword)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            expand(root, part, out);
        }
    }
}

fn local<'s>(root: &'s Value, uri: &str) -> Option<&'s Value> {
    segments(uri.strip_prefix('#')?)?
        .iter()
        .try_fold(root, |schema, name| match schema {
            Value::Array(parts) => parts.get(name.parse::<usize>().ok()?),
            _ => schema.get(name),
        })
}

fn children<'s>(schema: &'s Value, name: &str) -> Vec<&'s Value> {
    if let Some(field) = schema.get("properties").and_then(|fields| fields.get(name)) {
        return vec![field];
    }
    if name != "*" && name.parse::<usize>().is_err() {
        return Vec::new();
    }
    let place = name.parse::<usize>().unwrap_or(0);
    let fixed = schema.get("prefixItems").and_then(|parts| parts.get(place));
    fixed.or_else(|| schema.get("items")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn titles_are_found_through_references_and_branches() {
        let root = json!({
            "properties": {
                "a": {"title": "Tên A", "$ref": "#/$defs/text"},
                "list": {"items": {"properties": {"b": {"title": "Tên B"}}}},
                "loop": {"$ref": "#/properties/loop"}
            },
            "allOf": [{"if": {}, "then": {"properties": {"c": {"title": "Tên C"}}}}],
            "$defs": {"text": {"title": "Khác", "examples": ["x"]}}
        });
        assert_eq!(title(&root, &["a"]), Some("Tên A"));
        assert_eq!(annotation(&root, &["a"], "examples"), Some(&json!(["x"])));
        assert_eq!(title(&root, &["list", "3", "b"]), Some("Tên B"));
        assert_eq!(title(&root, &["list", "*", "b"]), Some("Tên B"));
        assert_eq!(title(&root, &["c"]), Some("Tên C"));
        assert_eq!(title(&root, &["loop"]), None);
        assert!(describing(&root, &["missing"]).is_empty());
    }
}
