//! What is split, what is refused and where, and that nothing is refused or accepted otherwise
//! than serde_json would.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    records_max: 5,
    record_bytes_max: 2000,
};

fn records(body: &str, kind: Kind) -> Vec<String> {
    match split(body.as_bytes(), kind, &LIMITS) {
        Ok(records) => records
            .iter()
            .map(|record| record.get().to_owned())
            .collect(),
        Err(faults) => panic!("{body:?}: {faults}"),
    }
}

/// Line, column and English message of each fault.
fn faults(body: impl AsRef<[u8]>, kind: Kind) -> Vec<(u32, u32, String)> {
    let faults = split(body.as_ref(), kind, &LIMITS).expect_err("a fault");
    for fault in faults.list() {
        assert!(
            !fault.message_vi.is_empty() && !fault.message_vi.contains('\n'),
            "{fault}"
        );
    }
    faults
        .list()
        .iter()
        .map(|fault| (fault.line, fault.column, fault.message_en.clone()))
        .collect()
}

#[test]
fn records_keep_their_bytes() {
    let record = "{ \"a\" : 7.20,\t\"tên\":\"\\u0110à Nẵng\", \"b\":[1e2,{}] }";
    assert_eq!(records(record, Kind::Json), [record]);
    assert_eq!(
        records(&format!("\u{feff}\r\n {record}\r\n"), Kind::Json),
        [record]
    );
    assert_eq!(
        records(&format!("[{record} ,\n{{}}]\n"), Kind::Json),
        [record, "{}"]
    );
    assert_eq!(records(" [ ] ", Kind::Json), [""; 0]);
    for body in [
        "{}\n{\"a\":1}",
        "{}\r\n\r\n  \r\n{\"a\":1}\r\n",
        "\u{feff}\n{} \n\t{\"a\":1}\n\n",
    ] {
        assert_eq!(records(body, Kind::NdJson), ["{}", "{\"a\":1}"], "{body:?}");
    }
}

#[test]
fn records_are_slices_of_the_body() {
    let body = br#"[{"a":1},{"b":2}]"#;
    let range = body.as_ptr_range();
    for record in split(body, Kind::Json, &LIMITS).unwrap() {
        assert!(range.contains(&record.get().as_ptr()));
    }
}

#[test]
fn wrong_grammar_is_told_with_its_place() {
    for (body, line, column, message) in [
        ("", 1, 1, "no record"),
        (" \n", 1, 1, "no record"),
        ("{\"tên\":1,\n \"đ\" 2}", 2, 6, "expected :"),
        ("{\"a\":1 \"b\":2}", 1, 8, "expected , / }"),
        ("[{} {}]", 1, 5, "expected , / ]"),
        ("{a:1}", 1, 2, "expected \""),
        ("{'a':1}", 1, 2, "single quotes"),
        ("{\"a\":'x'}", 1, 6, "single quotes"),
        ("{\"a\":1,}", 1, 7, "comma"),
        ("[{},\n]", 1, 4, "comma"),
        ("{\"a\":True}", 1, 6, "no JSON value"),
        ("{\"a\":nul}", 1, 6, "no JSON value"),
        ("{\"a\":đ}", 1, 6, "no JSON value"),
        ("{\"a\":}", 1, 6, "no JSON value"),
        ("{\"a\":NaN}", 1, 6, "no JSON value"),
        ("{\"a\":007}", 1, 6, "wrong number"),
        ("{\"a\":1.}", 1, 6, "wrong number"),
        ("{\"a\":-}", 1, 6, "wrong number"),
        ("{\"a\":7,2}", 1, 8, "expected \""),
        ("{\"a\":1e999}", 1, 6, "too large"),
        ("{\"a\":\"x\ty\"}", 1, 8, "control character"),
        ("{\"a\":\"C:\\data\"}", 1, 9, "wrong escape"),
        ("{\"a\":\"\\ud800x\"}", 1, 7, "half a character"),
        ("{\"a\":\"\\udc00\"}", 1, 7, "half a character"),
        ("{\"a\":\"\\u12g4\"}", 1, 7, "wrong escape"),
        ("{}\n{}", 2, 1, "send it as NDJSON"),
        ("{}x", 1, 3, "more data follows"),
        ("7", 1, 1, "must be a JSON object"),
        ("[{},7,{}]", 1, 5, "must be a JSON object"),
        ("[[{}]]", 1, 2, "must be a JSON object"),
        (
            "{\"a\":{\"x\":1,\"x\":2},\n\"\\u0061\":3}",
            2,
            1,
            "\"a\" stands twice",
        ),
    ] {
        let found = faults(body, Kind::Json);
        let (found_line, found_column, found_message) = &found[0];
        if body.contains("\"x\":1,\"x\":2") {
            assert_eq!(found.len(), 1, "only the top level is checked for doubles");
        }
        assert_eq!(
            (*found_line, *found_column),
            (line, column),
            "{body:?}: {found_message}"
        );
        assert!(found_message.contains(message), "{body:?}: {found_message}");
    }
}

#[test]
fn every_cut_of_a_body_is_told_as_cut() {
    let body = r#"{"a":"đ\u00e1\ud83d\ude00\n","b":[true,false,null,-1.5e+3,{}],"c":{}}"#;
    for end in (1..body.len()).filter(|&end| body.is_char_boundary(end)) {
        for cut in [body[..end].to_owned(), format!("[{{}},{}", &body[..end])] {
            let found = faults(&cut, Kind::Json);
            assert!(
                found[0].2.contains("ends in the middle of a record"),
                "{cut}: {found:?}"
            );
            let columns = u32::try_from(cut.chars().count()).unwrap();
            assert_eq!((found[0].0, found[0].1), (1, columns + 1), "{cut}");
        }
        let found = faults(format!("{{}}\n{}", &body[..end]), Kind::NdJson);
        assert_eq!(found[0].0, 2);
        assert!(
            found[0].2.contains("ends in the middle of a record"),
            "{found:?}"
        );
    }
}

#[test]
fn ndjson_tells_every_bad_line() {
    let found = faults(
        "{\"a\":1}\n7\n{\"a\":\n{\"a\":1,\"a\":2}\r\n{} {}\n[{}]\n{\"đ\":x}",
        Kind::NdJson,
    );
    let places: Vec<(u32, u32)> = found
        .iter()
        .map(|(line, column, _)| (*line, *column))
        .collect();
    assert_eq!(places, [(2, 1), (3, 6), (4, 8), (5, 4), (6, 1), (7, 6)]);
    assert!(
        found[1]
            .2
            .contains("each record must stand whole on one line"),
        "{found:?}"
    );
    assert!(found[3].2.contains("a line holds one record"), "{found:?}");

    let many = "x\n".repeat(70);
    let faults = split(many.as_bytes(), Kind::NdJson, &LIMITS).expect_err("a fault");
    assert_eq!((faults.list().len(), faults.more()), (50, 20));
}

#[test]
fn json_over_several_lines_is_not_ndjson() {
    let found = faults("{\n  \"a\": 1\n}\n", Kind::NdJson);
    assert_eq!(found.len(), 1);
    assert!(found[0].2.contains("send it as JSON"), "{found:?}");
    assert!(faults("\n\r\n", Kind::NdJson)[0].2.contains("no record"));
}

#[test]
fn bytes_that_are_not_utf8_are_told_with_their_place() {
    let found = faults(b"{\"a\":\n\"\xc4\x91\xe1\"}", Kind::Json);
    assert_eq!((found[0].0, found[0].1), (2, 3));
    assert!(
        found[0].2.contains("0xe1") && found[0].2.contains("must be UTF-8"),
        "{found:?}"
    );
    let utf16: Vec<u8> = "{\"a\":1}"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    assert!(split(&utf16, Kind::Json, &LIMITS).is_err());
}

#[test]
fn limits_hold() {
    let five = "{}\n".repeat(5);
    assert_eq!(records(&five, Kind::NdJson).len(), 5);
    let found = faults(format!("{five}{{}}\n{{}}\n"), Kind::NdJson);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, 6);
    assert!(found[0].2.contains("more than 5 records"), "{found:?}");

    let long = |letters: usize| format!("[{{}},{{\"a\":\"{}\"}}]", "x".repeat(letters));
    assert_eq!(records(&long(2000 - 8), Kind::Json)[1].len(), 2000);
    let found = faults(long(2001 - 8), Kind::Json);
    assert_eq!((found[0].0, found[0].1), (1, 5));
    assert!(found[0].2.contains("2001 bytes, at most 2000"), "{found:?}");

    let nested = |levels: usize| {
        format!(
            "[{{\"a\":{}{}}}]",
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    };
    let deepest = nested(scan::DEPTH_MAX);
    let record = &records(&deepest, Kind::Json)[0];
    assert!(serde_json::from_str::<serde_json::Value>(record).is_ok());
    assert!(
        faults(nested(scan::DEPTH_MAX + 1), Kind::Json)[0]
            .2
            .contains("nests too deep")
    );
    assert!(split("[".repeat(1_000_000).as_bytes(), Kind::Json, &LIMITS).is_err());
    assert!(split("{\"a\":".repeat(1_000_000).as_bytes(), Kind::Json, &LIMITS).is_err());
}

#[test]
fn a_text_member_of_the_top_level() {
    let field = |record: &str| {
        let record: &RawValue = serde_json::from_str(record).unwrap();
        top_level_str(record, "id").map(|found| found.map_err(|fault| (fault.line, fault.column)))
    };
    assert_eq!(
        field(r#"{"a":{"id":"inner"},"id" : "\u0110-1"}"#),
        Some(Ok("Đ-1".to_owned()))
    );
    assert_eq!(field(r#"{"\u0069d":"x"}"#), Some(Ok("x".to_owned())));
    assert_eq!(field(r#"{"a":1}"#), None);
    assert_eq!(field(r#"{"id":null}"#), None);
    assert_eq!(field("[\"id\"]"), None);
    assert_eq!(field("{\"a\":1,\n\"id\":7}"), Some(Err((2, 6))));
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\đ]{0,3}", inner, 0..5).prop_map(|members| {
                members
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }),
        ]
    })
}

/// Texts near JSON: a value's text with one part removed, doubled or replaced.
fn near_json() -> impl Strategy<Value = String> {
    let inserted = prop::sample::select(vec![
        "", ",", "{", "}", "[", "]", "\"", ":", "\\", "\\u", "d8", "0", "-", ".", "e", "E+", " ",
        "\t", "t", "null", "đ",
    ]);
    (
        any_json(),
        any::<prop::sample::Index>(),
        0..3usize,
        inserted,
    )
        .prop_map(|(value, at, removed, inserted)| {
            let mut letters: Vec<char> = value.to_string().chars().collect();
            let at = at.index(letters.len());
            let end = (at + removed).min(letters.len());
            letters.splice(at..end, inserted.chars());
            letters.into_iter().collect()
        })
}

proptest! {
    #[test]
    fn any_bytes_are_split_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in [Kind::Json, Kind::NdJson] {
            if let Err(faults) = split(&body, kind, &LIMITS) {
                prop_assert!(!faults.is_empty());
            }
        }
    }

    #[test]
    fn the_grammar_is_serde_jsons(text in near_json()) {
        let body = format!("{{\"a\":{text}}}");
        let ours = split(body.as_bytes(), Kind::Json, &Limits { records_max: 1, record_bytes_max: 10_000 });
        let theirs = serde_json::from_str::<serde_json::Value>(&body);
        let doubled = ours.as_ref().is_err_and(|faults| faults.list().iter().all(|f| f.message_en.contains("twice")));
        prop_assert!(ours.is_ok() || doubled == theirs.is_ok(), "{:?} but {:?}", ours, theirs);
        prop_assert!(ours.is_err() || theirs.is_ok(), "{:?} but {:?}", ours, theirs);
    }

    #[test]
    fn what_is_joined_is_split_again(values in prop::collection::vec(any_json(), 1..5)) {
        let wanted: Vec<String> = values.iter().map(|value| format!("{{\"v\":{value}}}")).collect();
        let limits = Limits { records_max: 5, record_bytes_max: 10_000 };
        for (body, kind) in [
            (format!("[{}]", wanted.join(" ,\n")), Kind::Json),
            (wanted.join("\r\n"), Kind::NdJson),
            (format!("{}\n", wanted.join("\n\n")), Kind::NdJson),
        ] {
            let split = split(body.as_bytes(), kind, &limits).unwrap();
            prop_assert_eq!(split.iter().map(|record| record.get()).collect::<Vec<_>>(), wanted.clone());
        }
    }
}
