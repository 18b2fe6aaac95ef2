//! Golden files of every dialect, and the laws: the strict form is stable, every dialect of a
//! strict file says the same, no bytes make the parser panic.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use mapping::TABLE_34;

/// Reads every sample below `tests/data/formats/station`: `<case>/<sample>`, beside it
/// `<sample>.json` and `<sample>.notes.txt` if it is readable, else `<sample>.reason.txt`;
/// `<case>/mapping.toml` where the case needs one.
#[test]
fn golden_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats/station");
    let mut samples = 0;
    let mut wrong = Vec::new();
    for case in children(&root) {
        let mapping = match fs::read_to_string(case.join("mapping.toml")) {
            Ok(text) => {
                toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
            }
            Err(_) => StationMapping::default(),
        };
        for sample in children(&case)
            .into_iter()
            .filter(|path| !is_expectation(path))
        {
            samples += 1;
            let name = sample
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a UTF-8 name");
            for (extension, found) in outcome(name, &fs::read(&sample).expect("a sample"), &mapping)
            {
                let expected = sample.with_file_name(format!("{name}.{extension}"));
                let wanted = fs::read_to_string(&expected).ok();
                if wanted.as_deref().map(str::trim_end) != found.as_deref() {
                    wrong.push(format!(
                        "{}\n wanted: {wanted:?}\n found:  {found:?}",
                        expected.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(samples >= 50, "{samples} samples");
}

/// The text of each expectation file that a sample should have, `None` where none should be.
fn outcome(
    name: &str,
    content: &[u8],
    mapping: &StationMapping,
) -> [(&'static str, Option<String>); 3] {
    match parse(name, content, mapping) {
        Ok(file) => {
            let (strict_name, strict) = file.to_strict_file();
            let again = parse(&strict_name, &strict, mapping)
                .unwrap_or_else(|faults| panic!("{name}: {faults}"));
            assert_eq!(again.to_strict_file(), (strict_name, strict), "{name}");
            let notes: Vec<String> = file.notes.iter().map(Note::to_string).collect();
            let notes = (!notes.is_empty()).then(|| notes.join("\n"));
            [
                ("json", Some(file.to_json())),
                ("notes.txt", notes),
                ("reason.txt", None),
            ]
        }
        Err(faults) => [
            ("json", None),
            ("notes.txt", None),
            ("reason.txt", Some(faults.to_string())),
        ],
    }
}

fn is_expectation(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".json")
        || name.ends_with(".reason.txt")
        || name.ends_with(".notes.txt")
        || name.ends_with(".toml")
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder's entry").path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_expectation_has_its_sample() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats/station");
    for path in children(&root).iter().flat_map(|case| children(case)) {
        let text = path.to_string_lossy();
        let sample = [".json", ".notes.txt", ".reason.txt"]
            .iter()
            .find_map(|end| text.strip_suffix(end));
        assert!(
            sample.is_none_or(|sample| Path::new(sample).exists()),
            "{text} has no sample"
        );
    }
}

#[test]
fn every_cut_of_a_strict_file_is_refused_or_whole_lines() {
    let (name, content) = example().to_strict_file();
    let whole = parse(&name, &content, &StationMapping::default()).expect("the whole file");
    for end in 0..content.len() {
        if let Ok(file) = parse(&name, &content[..end], &StationMapping::default()) {
            assert_eq!(
                file.values[..],
                whole.values[..file.values.len()],
                "cut at {end}"
            );
        }
    }
}

#[test]
fn a_name_cannot_leave_its_folder() {
    for (bad, column) in [
        ("../NUO001_20261120080500.txt", 3),
        ("K\\NUO001_20261120080500.txt", 2),
        ("NUO\n_20261120080500.txt", 4),
    ] {
        let faults = parse(
            bad,
            &example().to_strict_file().1,
            &StationMapping::default(),
        )
        .expect_err("a fault");
        assert_eq!(
            (faults.list().len(), faults.list()[0].column),
            (1, column),
            "{bad}: {faults}"
        );
        assert!(
            faults.list()[0].message_en.contains("is not allowed"),
            "{faults}"
        );
    }
}

#[test]
fn instants_are_vietnams() {
    assert_eq!(
        example().measured_at_unix().to_string(),
        "2026-11-20T08:05:00.000+07:00"
    );
}

#[test]
fn a_mapping_refuses_what_would_break_a_name_or_a_line() {
    for bad in [
        "[stations.T1]\nprovince = 'TNI'\nfacility = 'K/A'\nstation = 'NUO001'",
        "[stations.T1]\nprovince = 'TNI'\nfacility = 'K_A'\nstation = 'NUO001'",
        "[stations.T1]\nprovince = ''\nfacility = 'KA'\nstation = 'NUO001'",
        "[stations.T1]\nfacility = 'KA'\nstation = 'NUO001'",
        "[symbols]\nBOD5 = \"B\\tOD\"",
        "[provinces]\nLA = '../x'",
        "[unknown]\na = 'b'",
    ] {
        assert!(toml::from_str::<StationMapping>(bad).is_err(), "{bad}");
    }
}

/// The example of the dataset, as the station wrote it.
fn example() -> StationFile {
    let content = "pH\t7.21\t-\t20261120080500\t00\r\nCOD\t41.3\tmg/L\t20261120080500\t01\r\nTSS\t---\tmg/L\t20261120080500\t02\r\n";
    let name = "TNI_KCNA_NUO001_20261120080500.txt";
    parse(name, content.as_bytes(), &StationMapping::default()).expect("the example")
}

#[test]
fn the_record_has_the_datasets_fields() {
    let mut file = example();
    file.historical = true;
    let sha256 = &file.sha256;
    assert_eq!(
        file.to_json(),
        format!(
            "{}{sha256}{}",
            r#"{"tinh":"TNI","tram":"NUO001","co_so":"KCNA","loai":"nuoc_thai","thoi_diem":"2026-11-20T08:05:00+07:00","gia_tri":[{"k":"pH","v":7.21,"u":"-","s":"00"},{"k":"COD","v":41.3,"u":"mg/L","s":"01"},{"k":"TSS","v":null,"u":"mg/L","s":"02"}],"tep":"TNI_KCNA_NUO001_20261120080500.txt","sha256_tep":""#,
            r#"","lich_su":true}"#
        )
    );
}

/// One line of a strict file: symbol, value, unit, status.
type Row = (String, String, String, String);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        1 => Just("---".to_owned()),
        8 => "-?(0|[1-9][0-9]{0,6})(\\.[0-9]{1,4})?",
    ];
    let unit = prop::sample::select(vec!["-", "", "mg/L", "m3/h", "oC", "ug/m3", "°C", "µg/Nm3"]);
    let status = prop::sample::select(vec!["00", "01", "02"]);
    let row = (value, unit, status)
        .prop_map(|(value, unit, status)| (value, unit.to_owned(), status.to_owned()));
    let symbols = prop::sample::subsequence(TABLE_34.to_vec(), 1..=TABLE_34.len()).prop_shuffle();
    (symbols, prop::collection::vec(row, TABLE_34.len())).prop_map(|(symbols, rows)| {
        let joined = symbols.into_iter().zip(rows);
        joined
            .map(|(symbol, (value, unit, status))| (symbol.to_owned(), value, unit, status))
            .collect()
    })
}

/// The time of a file, as 14 digits.
fn time() -> impl Strategy<Value = String> {
    (
        1970..2200u32,
        1..=12u32,
        1..=28u32,
        0..24u32,
        0..60u32,
        0..60u32,
    )
        .prop_map(|(year, month, day, hour, minute, second)| {
            format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
        })
}

fn strict_name() -> impl Strategy<Value = String> {
    (
        "(HN|TNI|TQ|HCM|AG)",
        "[A-Z][A-Za-z0-9-]{0,8}",
        "(NUO|KHI)[0-9]{3}",
    )
        .prop_map(|(province, facility, station)| format!("{province}_{facility}_{station}"))
}

fn strict(rows: &[Row], time: &str) -> String {
    rows.iter()
        .map(|(symbol, value, unit, status)| {
            format!("{symbol}\t{value}\t{unit}\t{time}\t{status}\r\n")
        })
        .collect()
}

/// How a logger departs from the strict form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    OneLine,
    ByteOrderMark,
    LineFeed,
    CarriageReturn,
    NoFinalLineEnd,
    BlankLines,
    TrailingTabs,
    Spaces,
    DecimalComma,
    LowerCase,
    UpperCase,
    PlusSign,
    LeadingZeros,
    EmptyForMissing,
    OneDigitStatus,
    PmWithPoint,
}

const DIALECTS: [Dialect; 16] = [
    Dialect::OneLine,
    Dialect::ByteOrderMark,
    Dialect::LineFeed,
    Dialect::CarriageReturn,
    Dialect::NoFinalLineEnd,
    Dialect::BlankLines,
    Dialect::TrailingTabs,
    Dialect::Spaces,
    Dialect::DecimalComma,
    Dialect::LowerCase,
    Dialect::UpperCase,
    Dialect::PlusSign,
    Dialect::LeadingZeros,
    Dialect::EmptyForMissing,
    Dialect::OneDigitStatus,
    Dialect::PmWithPoint,
];

/// The same file as a logger with these habits writes it.
fn write_as(rows: &[Row], time: &str, habits: &BTreeSet<Dialect>) -> String {
    let has = |habit| habits.contains(&habit);
    let groups = rows.iter().map(|(symbol, value, unit, status)| {
        let symbol = match symbol.as_str() {
            "PM2,5" if has(Dialect::PmWithPoint) => "PM2.5".to_owned(),
            symbol if has(Dialect::LowerCase) => symbol.to_ascii_lowercase(),
            symbol if has(Dialect::UpperCase) => symbol.to_ascii_uppercase(),
            symbol => symbol.to_owned(),
        };
        let (sign, digits) = value
            .strip_prefix('-')
            .map_or(("", value.as_str()), |digits| ("-", digits));
        let mut value = match value.as_str() {
            "---" if has(Dialect::EmptyForMissing) => String::new(),
            "---" => value.clone(),
            _ if has(Dialect::LeadingZeros) => format!("{sign}00{digits}"),
            _ if has(Dialect::PlusSign) && sign.is_empty() => format!("+{digits}"),
            _ => value.clone(),
        };
        if has(Dialect::DecimalComma) {
            value = value.replace('.', ",");
        }
        // A lone digit at the end of a file may be a cut status, so it is only written inside.
        let cut_short = has(Dialect::NoFinalLineEnd) || has(Dialect::OneLine);
        let status = if has(Dialect::OneDigitStatus) && !cut_short {
            &status[1..]
        } else {
            status
        };
        let around = if has(Dialect::Spaces) { " " } else { "" };
        [&symbol, &value, unit, time, status]
            .map(|field| format!("{around}{field}{around}"))
            .join("\t")
    });
    let tabs = if has(Dialect::TrailingTabs) {
        "\t\t"
    } else {
        ""
    };
    let mut lines: Vec<String> = groups.collect();
    if has(Dialect::OneLine) {
        lines = vec![lines.join("\t")];
    }
    let mut end = match () {
        () if has(Dialect::LineFeed) => "\n",
        () if has(Dialect::CarriageReturn) => "\r",
        () => "\r\n",
    }
    .to_owned();
    if has(Dialect::BlankLines) {
        end = end.repeat(2);
    }
    let mark = if has(Dialect::ByteOrderMark) {
        "\u{feff}"
    } else {
        ""
    };
    let body = lines.join(&format!("{tabs}{end}"));
    let last = if has(Dialect::NoFinalLineEnd) {
        String::new()
    } else {
        format!("{tabs}{end}")
    };
    format!("{mark}{body}{last}")
}

proptest! {
    #[test]
    fn the_strict_form_is_stable(rows in rows(), time in time(), name in strict_name()) {
        let name = format!("{name}_{time}.txt");
        let content = strict(&rows, &time);
        let file = parse(&name, content.as_bytes(), &StationMapping::default()).unwrap();
        prop_assert_eq!(&file.notes, &vec![]);
        prop_assert_eq!(file.to_strict_file(), (name, content.into_bytes()));
    }

    #[test]
    fn every_dialect_says_the_same(
        rows in rows(),
        time in time(),
        name in strict_name(),
        habits in prop::collection::btree_set(prop::sample::select(DIALECTS.to_vec()), 0..6),
    ) {
        let name = format!("{name}_{time}.txt");
        let mapping = StationMapping::default();
        let wanted = parse(&name, strict(&rows, &time).as_bytes(), &mapping).unwrap();
        let content = write_as(&rows, &time, &habits);
        let found = parse(&name, content.as_bytes(), &mapping).unwrap();
        prop_assert_eq!(&found.values, &wanted.values);
        prop_assert_eq!(found.to_strict_file(), wanted.to_strict_file());
        prop_assert!(!found.notes.is_empty() || content == strict(&rows, &time));
    }

    #[test]
    fn the_record_is_json_with_every_value_once(rows in rows(), time in time(), line_time in time(), name in strict_name()) {
        let content = strict(&rows, &line_time);
        let file = parse(&format!("{name}_{time}.txt"), content.as_bytes(), &StationMapping::default()).unwrap();
        let json = file.to_json();
        let record: serde_json::Value = serde_json::from_str(&json).unwrap();
        let values = record["gia_tri"].as_array().unwrap();
        prop_assert_eq!(values.len(), rows.len());
        for ((symbol, value, unit, status), found) in rows.iter().zip(values) {
            prop_assert_eq!(&found["k"], symbol);
            prop_assert_eq!(&found["u"], unit);
            prop_assert_eq!(&found["s"], status);
            let number = if value == "---" { "null" } else { value };
            let (symbol, unit) = (serde_json::to_string(symbol).unwrap(), serde_json::to_string(unit).unwrap());
            let text = format!(r#"{{"k":{symbol},"v":{number},"u":{unit},"s":"{status}""#);
            prop_assert_eq!(json.matches(&text).count(), 1, "{} in {}", text, json);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(name in ".{0,40}", content in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(faults) = parse(&name, &content, &StationMapping::default()) {
            prop_assert!(faults.list().iter().all(|fault| fault.line > 0 && fault.column > 0));
            prop_assert!(!faults.is_empty());
        }
    }

    /// A file with a few bytes changed: what is read still makes a valid record and strict file.
    #[test]
    fn a_damaged_file_is_read_or_refused(
        rows in rows(),
        time in time(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[-+0-9.,eE\t\r\n A-Za-z_đ\"]{0,3}"), 0..4),
    ) {
        let mut content = strict(&rows, &time).into_bytes();
        for (at, inserted) in changes {
            let at = at.index(content.len());
            content.splice(at..(at + 1).min(content.len()), inserted.bytes());
        }
        let mapping = StationMapping::default();
        if let Ok(file) = parse(&format!("NUO001_{time}.txt"), &content, &mapping) {
            let record: serde_json::Value = serde_json::from_str(&file.to_json()).unwrap();
            prop_assert_eq!(record["gia_tri"].as_array().unwrap().len(), file.values.len());
            let (name, strict) = file.to_strict_file();
            let again = parse(&name, &strict, &mapping).unwrap();
            prop_assert_eq!(again.to_strict_file(), (name, strict));
            prop_assert_eq!(again.values.iter().map(|value| &value.value).collect::<Vec<_>>(),
                file.values.iter().map(|value| &value.value).collect::<Vec<_>>());
        }
    }
}
