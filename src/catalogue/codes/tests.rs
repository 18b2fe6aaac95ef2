//! What the shipped catalogue of codes takes and refuses.

use proptest::prelude::*;

use super::*;

fn shipped() -> Codes {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    Codes::load(&root).expect("the shipped catalogue of codes")
}

fn day(text: &str) -> Option<Date> {
    Some(text.parse().expect("a day"))
}

#[test]
fn a_dossier_of_the_day_after_tomorrow_cannot_be() {
    let codes = shipped();
    let today: Date = "2026-11-30".parse().expect("a day");
    for (scheme, text, is_of_the_future) in [
        (Scheme::Dossier, "H53.12-261130-0042", false),
        (Scheme::Dossier, "H53.12-261201-0042", false),
        (Scheme::Dossier, "H53.12-261202-0042", true),
        (Scheme::Dossier, "000.00.12.H53-991231-0001", true),
        (Scheme::Dossier, "không phải mã", false),
        (Scheme::Agency, "H53.12", false),
        (Scheme::Document, "H53.12,2099/01/01,1/UBND", false),
    ] {
        let found = codes.is_of_the_future(scheme, text, today);
        assert_eq!(found, is_of_the_future, "{text}");
    }
    let last = Date::MAX;
    assert!(!codes.is_of_the_future(Scheme::Dossier, "H53.12-991231-0001", last));
}

fn agency() -> impl Strategy<Value = (String, char, u8)> {
    let parts = (
        "[A-K]",
        0u8..100,
        prop::collection::vec("[0-9A-Z]{1,4}", 0..3),
    );
    parts.prop_map(|(letter, number, more)| {
        let letter = letter.chars().next().expect("one letter");
        let more: String = more.iter().map(|part| format!(".{part}")).collect();
        (format!("{letter}{number:02}{more}"), letter, number)
    })
}

proptest! {
    /// Old and new form of an agency's code are judged alike, and a dossier as its agency and
    /// its day are.
    #[test]
    fn a_dossier_is_as_possible_as_its_agency_and_day(
        (agency, letter, number) in agency(),
        (year, month, day) in (0u8..100, 0u8..16, 0u8..34),
        sequence in 0u32..1_000_000,
        today in -3i32..4,
    ) {
        let codes = shipped();
        let is_agency = codes.is_possible(Scheme::Agency, &agency);
        let top = format!("{letter}{number:02}");
        prop_assert_eq!(is_agency, codes.is_possible(Scheme::Agency, &top));
        prop_assert_eq!(
            is_agency,
            codes.is_possible(Scheme::Agency, &format!("000.00.12.{top}"))
        );
        let text = format!("{agency}-{year:02}{month:02}{day:02}-{sequence:04}");
        let date = Date::new(
            2000 + i16::from(year),
            month.cast_signed(),
            day.cast_signed(),
        );
        prop_assert_eq!(
            codes.is_possible(Scheme::Dossier, &text),
            is_agency && date.is_ok()
        );
        let document = format!("{agency},20{year:02}/{month:02}/{day:02},{sequence}/UBND");
        prop_assert_eq!(
            codes.is_possible(Scheme::Document, &document),
            is_agency && date.is_ok()
        );
        if let Ok(date) = date {
            let from = date.checked_sub(jiff::Span::new().days(today)).expect("a day");
            prop_assert_eq!(codes.is_of_the_future(Scheme::Dossier, &text, from), 1 < today);
        }
    }

    #[test]
    fn any_text_is_judged_twice_alike(text in "\\PC{0,40}") {
        let codes = shipped();
        for scheme in Scheme::ALL {
            let on = day("2026-11-22");
            prop_assert_eq!(
                codes.flag(scheme, &text, on),
                codes.flag(scheme, &text, on)
            );
            let is_possible = codes.is_possible(scheme, &text);
            prop_assert_eq!(is_possible, codes.is_possible(scheme, &text));
        }
    }
}

#[test]
fn what_cannot_be_a_code_is_told_from_what_can() {
    let codes = shipped();
    for (scheme, text, is_possible) in [
        (Scheme::Agency, "H53.12", true),
        (Scheme::Agency, "000.00.12.H53", true),
        (Scheme::Agency, "H37.DN.001", true),
        (Scheme::Agency, "H64", false),
        (Scheme::Agency, "000.00.00.H64", false),
        (Scheme::Agency, "B02.1", false),
        (Scheme::Agency, "K00", false),
        (Scheme::Agency, "J28", true),
        (Scheme::Dossier, "H53.12-261120-0042", true),
        (Scheme::Dossier, "H53.12-260231-0042", false),
        (Scheme::Dossier, "000.00.12.H53-240229-00042", true),
        (Scheme::Dossier, "H99-261120-0042", false),
        (
            Scheme::Document,
            "000.00.12.H53,2026/11/20,142/UBND-VP",
            true,
        ),
        (
            Scheme::Document,
            "000.00.12.H53,2026/11/31,142/UBND-VP",
            false,
        ),
        (Scheme::Document, "H53.12,2026/13/01,1/A", false),
        (Scheme::AdminUnit, "25486", true),
        (Scheme::AdminUnit, "00000", false),
    ] {
        assert_eq!(codes.is_possible(scheme, text), is_possible, "{text}");
        assert!(
            Codes::default().is_possible(scheme, "H53.12"),
            "no catalogue refuses nothing"
        );
    }
}

#[test]
fn unknown_and_closed_codes_are_flagged() {
    let codes = shipped();
    let (before, after) = (day("2025-01-01"), day("2026-11-20"));
    for (scheme, text, on, flag) in [
        (Scheme::Agency, "H53.12", after, None),
        (Scheme::Agency, "H39.5", before, None),
        (Scheme::Agency, "H39.5", after, Some(Flag::Closed)),
        (Scheme::Agency, "000.00.05.H39", after, Some(Flag::Closed)),
        (Scheme::Agency, "K39", after, Some(Flag::Closed)),
        (Scheme::Agency, "G14", after, Some(Flag::Closed)),
        (Scheme::Agency, "G14", None, None),
        (Scheme::Agency, "G99.1", after, Some(Flag::Unknown)),
        (Scheme::Agency, "A07", after, None),
        (
            Scheme::Dossier,
            "H22.1-261120-0042",
            after,
            Some(Flag::Closed),
        ),
        (
            Scheme::Document,
            "G99,2026/11/20,1/A",
            after,
            Some(Flag::Unknown),
        ),
        (Scheme::AdminUnit, "80", before, Some(Flag::Closed)),
        (Scheme::AdminUnit, "25486", before, None),
        (Scheme::AdminUnit, "99999", after, None),
    ] {
        assert_eq!(codes.flag(scheme, text, on), flag, "{text}");
        assert_eq!(Codes::default().flag(scheme, text, on), None);
    }
}

#[test]
fn fields_are_found_through_references_lists_and_objects() {
    let schema = serde_json::json!({
        "properties": {
            "tu": {"properties": {"ma": {"$ref": "#/$defs/ma"}}},
            "den": {"items": {"properties": {"ma": {"$ref": "#/$defs/ma"}}}},
            "ten": {"type": "string"}
        },
        "$defs": {"ma": {"format": "agency-code"}}
    });
    let record = serde_json::json!({"tu": {"ma": "G99"}, "den": [{"ma": "H53"}, {"ma": "G98"}]});
    let pointers: Vec<Option<String>> = fields(&schema)
        .iter()
        .map(|(pattern, _)| {
            pattern.find(&record, &mut |value| {
                value.as_str().is_some_and(|code| code.starts_with('G'))
            })
        })
        .collect();
    assert_eq!(
        pointers,
        [Some("/den/1/ma".to_owned()), Some("/tu/ma".to_owned())]
    );
}
