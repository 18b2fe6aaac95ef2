//! What the parsers make of a foreign file is what the shipped catalogue takes.
#![cfg(feature = "edge")]

use std::fs;
use std::path::Path;

use lienthong::catalogue::Catalogue;
use lienthong::formats::station::mapping::StationMapping;
use lienthong::formats::station::parse;

/// The golden record of every station file is admitted, unless the facility, which is a part of
/// the key, is in neither the file's name nor the mapping.
#[test]
fn the_catalogue_takes_every_station_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let catalogue = Catalogue::load(&root.join("catalogue")).expect("the shipped catalogue");
    let dataset = catalogue
        .get(&"quan_trac_moi_truong".parse().expect("an id"))
        .expect("the dataset of stations");
    let mut admitted = 0;
    for case in fs::read_dir(root.join("tests/data/formats/station")).expect("the samples") {
        for file in fs::read_dir(case.expect("a case").path()).expect("a case") {
            let path = file.expect("a file").path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let record = fs::read_to_string(&path).expect("a record");
            match dataset.admit(record.as_bytes()) {
                Ok(_) => admitted += 1,
                Err(refusal) => {
                    let pointers: Vec<String> = refusal
                        .faults()
                        .into_iter()
                        .map(|fault| fault.pointer)
                        .collect();
                    assert!(
                        !record.contains("\"co_so\""),
                        "{}: {refusal:?}",
                        path.display()
                    );
                    assert_eq!(pointers, ["/co_so"], "{}", path.display());
                }
            }
        }
    }
    assert!(admitted >= 30, "{admitted} admitted");
}

/// A file that is understood says in its notes what the mapping lacks for the catalogue.
#[test]
fn a_station_without_facility_is_named_in_the_notes() {
    let content = b"pH\t7.20\t-\t20261120080500\t00\r\n";
    let file = parse(
        "TRAM_01_20261120080500.txt",
        content,
        &StationMapping::default(),
    )
    .expect("an old name");
    let notes: Vec<String> = file.notes.iter().map(|note| note.message_vi()).collect();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("hãy khai báo trạm \"TRAM_01\" trong cấu hình")),
        "{notes:?}"
    );
}
