//! Rights against records: tables, and the promise that nothing else comes through.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::catalogue::Catalogue;

const DATASET: &str = r#"
id = "mau"
version = 1
code = "X1"
title_vi = "Mẫu"
title_en = "Sample"
owner = "Sở"
owner_en = "Department"
key = ["/so"]
sensitivity = 2
retention_days = 10
area = ["/co_quan_giai_quyet", "/ma_xa"]
schema = '''
{"type": "object", "properties": {
  "so": {"type": "string"}, "ten": {"type": "string"}, "cccd": {"type": "string"},
  "co_quan_giai_quyet": {"type": "string"}, "ma_xa": {"type": "string"},
  "nguoi": {"type": "object", "properties": {"ten": {"type": "string"}, "cccd": {"type": "string"}}},
  "tep": {"type": "array", "items": {"type": "object", "properties": {"ten": {"type": "string"}, "so": {"type": "integer"}}}}
}}'''
[lane]
default = "P2"
"#;

fn dataset() -> Catalogue {
    Catalogue::from_files([("mau.toml".to_owned(), DATASET.to_owned())]).expect("a catalogue")
}

fn on() -> Date {
    "2026-11-22".parse().expect("a day")
}

fn right(fields: Option<&[&str]>, masked: &[&str]) -> Right {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Right {
        fields: fields.map(owned),
        masked: owned(masked),
        rows: Rows::All,
        sensitive: false,
    }
}

fn seen_through(right: &Right, sensitivity: u8, owner: &str, data: &str) -> Option<String> {
    let catalogue = dataset();
    let lens = Lens::new(right, &catalogue.datasets[0]);
    let owner = owner.parse().expect("a code");
    let data: &RawValue = serde_json::from_str(data).expect("JSON");
    let record = Seen {
        owner: &owner,
        sensitivity,
        data,
    };
    view(record, &lens, &Directory::default(), on()).map(|shown| shown.get().to_owned())
}

#[test]
fn only_what_is_granted_is_shown_and_as_it_was_written() {
    let data = r#"{"so": "1", "ten":"Lê Thị Mẫu","cccd":"072096001234",
        "nguoi": {"ten":"A","cccd":"072"},"tep":[{"ten":"a.pdf","so":1.50},{"so":2},3],"la":9}"#;
    let compact = |right: &Right| seen_through(right, 2, "H53.1", data).expect("shown");
    assert_eq!(
        compact(&right(Some(&["/ten", "/nguoi/ten", "/tep/*/so"]), &[])),
        r#"{"ten":"Lê Thị Mẫu","nguoi":{"ten":"A"},"tep":[{"so":1.50},{"so":2}]}"#
    );
    assert_eq!(
        compact(&right(
            Some(&["/cccd", "/nguoi"]),
            &["/cccd", "/nguoi/cccd", "/so"]
        )),
        r#"{"cccd":"****1234","nguoi":{"ten":"A","cccd":"****"}}"#
    );
    assert_eq!(compact(&right(None, &[])), data);
    let masked: Value =
        serde_json::from_str(&compact(&right(None, &["/nguoi", "/tep"]))).expect("JSON");
    assert_eq!(masked["nguoi"], json!({"ten": "****", "cccd": "****"}));
    assert_eq!(
        masked["tep"],
        json!([{"ten": "****.pdf", "so": "****"}, {"so": "****"}, "****"])
    );
    assert_eq!(masked["la"], 9);
    assert_eq!(
        seen_through(&right(Some(&["/ten"]), &[]), 2, "H53.1", r#"{"so":"1"}"#),
        None
    );
    assert_eq!(
        seen_through(&right(Some(&["/ten"]), &[]), 2, "H53.1", "[1]"),
        None
    );
}

#[test]
fn sensitive_records_need_the_flag() {
    let mut right = right(None, &[]);
    assert_eq!(seen_through(&right, 3, "H53.1", "{}"), None);
    right.sensitive = true;
    assert_eq!(
        seen_through(&right, 3, "H53.1", "{}"),
        Some("{}".to_owned())
    );
}

#[test]
fn an_area_is_an_office_with_all_below_by_owner_or_by_field() {
    let mut right = right(None, &[]);
    right.rows = Rows::Of(vec!["H53.12".parse().expect("a code")]);
    let shown = |owner: &str, data: &str| seen_through(&right, 1, owner, data).is_some();
    assert!(shown("H53.12", "{}") && shown("H53.12.1", "{}"));
    assert!(!shown("H53.13", "{}") && !shown("H53", "{}") && !shown("H53.120", "{}"));
    assert!(shown("H53.13", r#"{"co_quan_giai_quyet":"000.00.12.H53"}"#));
    assert!(
        !shown("H53.13", r#"{"ten":"H53.12"}"#),
        "another field says nothing"
    );
}

#[test]
fn a_right_is_held_against_the_schema() {
    let catalogue = dataset();
    let dataset = &catalogue.datasets[0];
    assert_eq!(
        right(Some(&["/nguoi/ten", "/tep/*/so"]), &["/cccd"]).check(dataset),
        Ok(())
    );
    let fault = right(Some(&["/nguoi/tuoi"]), &[])
        .check(dataset)
        .expect_err("unknown");
    assert_eq!(fault.message, "mau has no field /nguoi/tuoi");
    assert_eq!(fault.hint, "Fields there are: /nguoi/cccd, /nguoi/ten.");
    assert!(right(Some(&[]), &[]).check(dataset).is_err());
    assert!(
        right(Some(&["ten"]), &[]).check(dataset).is_err(),
        "no pointer"
    );
}

#[test]
fn the_subject_is_told_where_its_key_is_granted() {
    let catalogue = dataset();
    let shows = |right: &Right| Lens::new(right, &catalogue.datasets[0]).shows_key();
    assert!(shows(&right(None, &[])) && shows(&right(Some(&["/so"]), &["/cccd"])));
    assert!(!shows(&right(Some(&["/ten"]), &[])) && !shows(&right(None, &["/so"])));
}

#[test]
fn a_wider_right_covers_a_narrower_one() {
    let narrow = right(Some(&["/ten"]), &["/cccd"]);
    let wide = right(Some(&["/ten", "/so"]), &[]);
    assert!(wide.covers(&narrow) && !narrow.covers(&wide) && wide.covers(&wide));
    assert!(right(None, &[]).covers(&wide) && !wide.covers(&right(None, &[])));
    let mut own = wide.clone();
    own.rows = Rows::Of(Vec::new());
    assert!(wide.covers(&own) && !own.covers(&wide));
}

/// JSON with few names, so that pointers meet it, and leaves that are told apart.
fn record() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[a-zđê]{0,9}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|fields| Value::from(serde_json::Map::from_iter(fields))),
        ]
    })
}

fn pointers() -> impl Strategy<Value = Vec<String>> {
    let step = prop_oneof![4 => "[a-d]", 1 => Just("*".to_owned())];
    let pointer = prop::collection::vec(step, 1..4).prop_map(|steps| {
        steps
            .iter()
            .map(|step| format!("/{step}"))
            .collect::<String>()
    });
    prop::collection::vec(pointer, 0..5)
}

/// Every leaf and empty container, with the way to it; elements of lists are `*`.
fn leaves(value: &Value, way: &str, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => fields
            .iter()
            .for_each(|(name, field)| leaves(field, &format!("{way}/{name}"), out)),
        Value::Array(elements) if !elements.is_empty() => elements
            .iter()
            .for_each(|element| leaves(element, &format!("{way}/*"), out)),
        other => out.push((way.to_owned(), other.clone())),
    }
}

fn is_at_or_below(way: &str, pointers: &[String]) -> bool {
    pointers
        .iter()
        .any(|pointer| way == pointer || way.starts_with(&format!("{pointer}/")))
}

proptest! {
    #[test]
    fn nothing_that_is_not_granted_comes_through(
        record in record(), fields in prop::option::of(pointers()), masked in pointers()
    ) {
        let right = Right { fields: fields.clone(), masked: masked.clone(), rows: Rows::All, sensitive: false };
        let text = record.to_string();
        let mut before = Vec::new();
        leaves(&record, "", &mut before);
        let is_granted = |way: &str| fields.as_ref().is_none_or(|fields| is_at_or_below(way, fields));
        let Some(shown) = seen_through(&right, 0, "H53", &text) else {
            prop_assert!(before.iter().all(|(way, _)| !is_granted(way)), "granted and not shown");
            return Ok(());
        };
        let shown: Value = serde_json::from_str(&shown).expect("the output is JSON");
        let mut after = Vec::new();
        leaves(&shown, "", &mut after);
        let empty = json!([]);
        let expected: Vec<(String, Value)> = before
            .into_iter()
            .filter(|(way, _)| is_granted(way))
            .map(|(way, value)| {
                let is_leaf = !value.is_object() && !value.is_array() && !value.is_null();
                let value = match is_leaf && is_at_or_below(&way, &masked) {
                    true => Value::from(mask(&value)),
                    false => value,
                };
                (way, value)
            })
            .collect();
        // A list or object of which nothing is shown may stand empty where it was granted itself.
        let full = |leaf: &(String, Value)| leaf.1 != empty && leaf.1 != json!({});
        prop_assert_eq!(
            after.iter().filter(|leaf| full(leaf)).collect::<Vec<_>>(),
            expected.iter().filter(|leaf| full(leaf)).collect::<Vec<_>>()
        );
    }
}

/// The mask, said in another way.
fn mask(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) => String::new(),
        other => other.to_string(),
    };
    let letters: Vec<char> = text.chars().collect();
    let shown = letters.len().checked_sub(4).filter(|hidden| 0 < *hidden);
    let tail = shown.map_or(&[][..], |hidden| &letters[hidden..]);
    format!("****{}", tail.iter().collect::<String>())
}
