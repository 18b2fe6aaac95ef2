//! The generator of sample records: all that it makes is accepted by the shipped catalogue, in the
//! mix of the load model, the same for the same seed.
#![cfg(feature = "edge")]

#[path = "../src/bin/demo/generator.rs"]
mod generator;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use generator::{Generator, Profile, Sample};
use lienthong::catalogue::Catalogue;
use lienthong::formats::station;
use lienthong::formats::station::mapping::StationMapping;
use lienthong::model::{Lane, UnixMs};

const ALL: [Profile; 5] = [Profile::S, Profile::M, Profile::L, Profile::K, Profile::R];

/// 2026-11-20T08:00:00+07:00.
const MORNING: UnixMs = UnixMs(1_795_136_400_000);

fn catalogue() -> Catalogue {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    Catalogue::load(&folder).expect("the shipped catalogue loads")
}

fn generator(seed: u64, profile: Profile, agency: &str) -> Generator {
    Generator::new(seed, profile, agency.parse().expect("an agency code"))
}

/// A day's records at the profile's pace.
fn records(seed: u64, profile: Profile, agency: &str, count: u32) -> Vec<Sample> {
    let mut generator = generator(seed, profile, agency);
    let pace = i64::try_from(profile.mean_interval(1).as_millis()).expect("short");
    (0..count)
        .map(|n| generator.next_record(UnixMs(MORNING.0 + i64::from(n) * pace)))
        .collect()
}

#[test]
fn twenty_thousand_records_are_accepted() {
    let catalogue = catalogue();
    let agencies = ["H53.12", "H60.07", "000.00.12.H53", "H60.242", "H53"];
    let (mut sizes, mut datasets, mut lanes) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (profile, agency) in ALL.into_iter().zip(agencies) {
        for sample in records(7, profile, agency, 4_000) {
            let dataset = catalogue.get(&sample.dataset).expect("a shipped dataset");
            let admitted = dataset
                .admit(sample.json.as_bytes())
                .unwrap_or_else(|refusal| panic!("{}: {:#?}", sample.json, refusal.faults()));
            assert!(
                admitted.time.is_some() || sample.json.contains("cho_chi"),
                "{}",
                sample.json
            );
            sizes.push(sample.json.len());
            datasets.insert(dataset.code.clone());
            lanes.insert(admitted.lane);
        }
    }
    sizes.sort();
    let (least, median, most) = (sizes[0], sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    assert!(least >= 380 && most <= 1_500, "{least} {median} {most}");
    assert!((450..=800).contains(&median), "{median}");
    assert_eq!(
        datasets.len(),
        14,
        "all but the shared catalogues, which come down: {datasets:?}"
    );
    assert_eq!(
        lanes,
        BTreeSet::from([Lane::P0, Lane::P1, Lane::P2, Lane::P3])
    );
}

#[test]
fn the_mix_is_that_of_the_load_model() {
    let daily: Vec<u32> = ALL.map(Profile::messages_per_day).to_vec();
    assert_eq!(daily, [491, 1_118, 3_988, 4_286, 3_514]);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for sample in records(3, Profile::M, "H53.12", 11_180) {
        *counts.entry(sample.dataset.to_string()).or_default() += 1;
    }
    for (dataset, expected) in [
        ("ho_so_tthc", 2_400),
        ("van_ban_dien_tu", 1_600),
        ("an_toan_thiet_bi", 3_380),
        ("quan_trac_moi_truong", 2_880),
        ("tiem_chung_dich_benh", 200),
    ] {
        let count = counts[dataset];
        assert!(
            count.abs_diff(expected) * 5 < expected,
            "{dataset}: {count}, not {expected}"
        );
    }
    assert_eq!(Profile::M.mean_interval(1).as_secs(), 77);
    assert_eq!(Profile::M.mean_interval(1000).as_millis(), 77);
    assert_eq!(Profile::M.mean_interval(0), Profile::M.mean_interval(1));
    assert!(Profile::R.mean_interval(1) > Duration::from_secs(24));
}

#[test]
fn equal_seeds_give_equal_records_and_others_do_not() {
    let first = records(42, Profile::L, "H53.12", 500);
    assert_eq!(first, records(42, Profile::L, "H53.12", 500));
    let other = records(43, Profile::L, "H53.12", 500);
    let same = first.iter().filter(|sample| other.contains(sample)).count();
    assert!(same == 0, "{same} records are the same with another seed");
}

#[test]
fn subjects_live_on_and_are_not_overwritten_by_chance() {
    let catalogue = catalogue();
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut results = BTreeSet::new();
    for sample in records(5, Profile::L, "H53.12", 8_000) {
        let dataset = catalogue.get(&sample.dataset).expect("shipped");
        let subject = dataset
            .admit(sample.json.as_bytes())
            .expect("accepted")
            .subject
            .to_string();
        let record: serde_json::Value = serde_json::from_str(&sample.json).expect("JSON");
        match sample.dataset.as_str() {
            "ho_so_tthc" => {
                let state = record["trang_thai_chuan"]
                    .as_str()
                    .expect("a state")
                    .to_owned();
                states.entry(subject).or_default().push(state);
            }
            "quan_trac_moi_truong" => assert!(results.insert(subject), "two results at one time"),
            _ => {}
        }
    }
    let ended = states
        .values()
        .filter(|states| states.last().is_some_and(|s| s == "DA_TRA_KET_QUA"));
    assert!(ended.clone().count() > 300);
    for path in ended {
        assert_eq!(path.len(), 6, "{path:?}");
        assert_eq!(path[0], "MOI_NOP");
    }
}

#[test]
fn station_files_are_legal_and_become_accepted_records() {
    let catalogue = catalogue();
    let dataset = catalogue
        .get(&"quan_trac_moi_truong".parse().expect("an id"))
        .expect("shipped");
    let mut generator = generator(9, Profile::K, "H53.12");
    let (mut names, mut lanes) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..600 {
        let (name, content) = generator.station_file(UnixMs(MORNING.0 + n / 12 * 300_000));
        assert!(
            content.ends_with("\r\n") && content.len() < 600,
            "{content:?}"
        );
        let file = station::parse(&name, content.as_bytes(), &StationMapping::default())
            .unwrap_or_else(|faults| panic!("{name} {content}: {faults:?}"));
        assert!(file.notes.is_empty(), "{name}: {:?}", file.notes);
        assert_eq!(file.to_strict_file(), (name.clone(), content.into_bytes()));
        let admitted = dataset.admit(file.to_json().as_bytes()).expect("accepted");
        lanes.insert(admitted.lane);
        assert!(names.insert(name), "a name comes once");
    }
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("TNI_KCNTB_NUO001_20261120080000")),
        "{names:?}"
    );
    assert_eq!(lanes, BTreeSet::from([Lane::P1, Lane::P3]));
}
