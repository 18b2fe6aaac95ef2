//! Records, documents and codes as text.

use std::sync::OnceLock;

use jiff::civil::Date;
use lienthong::catalogue::codes::{Codes, Scheme};
use lienthong::catalogue::{Catalogue, Dataset};
use lienthong::edge::records::events;
use lienthong::evidence::sha256;
use lienthong::formats::edxml;
use lienthong::formats::encoding::{self, Encoding};
use lienthong::formats::json::{Kind, Limits, split, top_level_str};
use serde_json::{Map, Value};
use unicode_normalization::is_nfc;

const LIMITS: Limits = Limits {
    records_max: 200,
    record_bytes_max: 4_096,
};

fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
        Catalogue::load(folder.as_ref()).expect("the shipped catalogue")
    })
}

fn dataset(id: &str) -> &'static Dataset {
    let id = id.parse().expect("an id");
    catalogue().get(&id).expect("shipped")
}

/// Both forms of records; what comes out stands together as one array again.
pub fn json_records(bytes: &[u8]) {
    for kind in [Kind::Json, Kind::NdJson] {
        let Ok(records) = split(bytes, kind, &LIMITS) else {
            continue;
        };
        assert!(records.len() <= LIMITS.records_max);
        let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
        if kind == Kind::NdJson {
            assert!(records.len() <= newlines + 1, "more records than lines");
        }
        let texts: Vec<&str> = records.iter().map(|record| record.get()).collect();
        for record in &records {
            assert!(record.get().len() <= LIMITS.record_bytes_max);
            let value: serde_json::Value = serde_json::from_str(record.get()).expect("JSON");
            let id = value.get("id").filter(|id| !id.is_null());
            match top_level_str(record, "id") {
                None => assert!(id.is_none()),
                Some(Ok(text)) => assert_eq!(id.and_then(|id| id.as_str()), Some(text.as_str())),
                Some(Err(_)) => assert!(id.is_some_and(|id| !id.is_string())),
            }
        }
        let joined = format!("[{}]", texts.join(","));
        let again = split(joined.as_bytes(), Kind::Json, &LIMITS).expect("records stay records");
        let again: Vec<&str> = again.iter().map(|record| record.get()).collect();
        assert_eq!(again, texts);
    }
}

/// A record at the door of two datasets, one of them with personal data.
pub fn record(bytes: &[u8]) {
    for id in ["ho_so_tthc", "quan_trac_moi_truong"] {
        let dataset = dataset(id);
        match dataset.admit(bytes) {
            Ok(admitted) => {
                assert!(is_nfc(admitted.subject.as_str()));
                assert_eq!(dataset.subject_of(bytes).as_ref(), Some(&admitted.subject));
                assert!(dataset.admit_delete(bytes).is_ok());
            }
            Err(refusal) => assert!(!refusal.faults().is_empty(), "a refusal has a reason"),
        }
    }
}

pub fn cloudevents(bytes: &[u8]) {
    let Ok(all) = split(bytes, Kind::Json, &LIMITS) else {
        return;
    };
    let dataset = dataset("ho_so_tthc");
    for event in all {
        match events::read(dataset, event) {
            Ok(told) => assert!(event.get().contains(told.data.get())),
            Err(faults) => assert!(!faults.is_empty()),
        }
    }
}

pub fn edxml_document(bytes: &[u8]) {
    let Ok(document) = edxml::parse(bytes) else {
        return;
    };
    let mut record: Map<String, Value> =
        serde_json::from_str(&document.record).expect("a record is an object");
    // A signature stays as it was written, or it would no longer hold.
    record.remove("chu_ky");
    let record = Value::from(record).to_string();
    assert!(is_nfc(&record), "{record}");
    for file in &document.attachments {
        let digest: String = sha256(&file.bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(digest, file.sha256);
        assert!(!file.name.contains(['/', '\0']), "{:?}", file.name);
    }
}

/// The detector, or an encoding that is given.
pub fn encoding_of_text(bytes: &[u8]) {
    const GIVEN: [Option<Encoding>; 8] = [
        None,
        Some(Encoding::Utf8),
        Some(Encoding::Utf16Le),
        Some(Encoding::Windows1258),
        Some(Encoding::Tcvn3),
        Some(Encoding::Vni),
        Some(Encoding::Viscii),
        Some(Encoding::Vps),
    ];
    let given = GIVEN[bytes.len() % GIVEN.len()];
    let decoded = encoding::decode(bytes, given);
    assert_eq!(
        decoded,
        encoding::decode(bytes, given),
        "decoding is a function"
    );
    let Ok(decoded) = decoded else {
        return;
    };
    assert!(is_nfc(&decoded.text));
    // UTF-8 is what everything becomes, so it stays as it is.
    if !decoded.text.starts_with('\u{feff}') && !decoded.text.contains('\0') {
        let again = encoding::decode(decoded.text.as_bytes(), Some(Encoding::Utf8));
        assert_eq!(again.expect("UTF-8").text, decoded.text);
    }
    if let Ok(recoded) = encoding::recode(&decoded.text, Encoding::Tcvn3) {
        assert!(is_nfc(&recoded));
    }
}

/// A code of every scheme, on several days.
pub fn codes(bytes: &[u8]) {
    static CODES: OnceLock<Codes> = OnceLock::new();
    let codes = CODES.get_or_init(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
        Codes::load(folder.as_ref()).expect("the shipped codes")
    });
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for scheme in Scheme::ALL {
        let is_possible = codes.is_possible(scheme, text);
        assert_eq!(is_possible, codes.is_possible(scheme, text));
        for on in [
            None,
            Date::new(2018, 1, 1).ok(),
            Date::new(2026, 11, 22).ok(),
        ] {
            let flag = codes.flag(scheme, text, on);
            assert_eq!(flag, codes.flag(scheme, text, on));
        }
        assert_eq!(
            Codes::default().flag(scheme, text, None),
            None,
            "without a catalogue nothing is remarkable"
        );
    }
}
