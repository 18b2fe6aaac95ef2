//! `docs/alerts.yml` and `docs/grafana-dashboard.json` against what a running box and a running hub
//! really export: whoever renames a metric is told here, not on the night when nobody is alarmed.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for by the real clock"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::collections::BTreeSet;
use std::fs;

use lienthong::edge::metrics;
use lienthong::edge::status::Status;
use lienthong::edge::status::machine::{MachineStatus, MemoryStatus, SupplyKind, SupplyStatus};
use one_box::{AGENCY, SOON, XA, configure, one_box};
use rig::{Rig, agent, hand_in, wait_for};

const ALERTS: &str = include_str!("../docs/alerts.yml");
const DASHBOARD: &str = include_str!("../docs/grafana-dashboard.json");

/// Prometheus's own metric of every target.
const OWN: &str = "up";
const FUNCTIONS: [&str; 12] = [
    "sum", "max", "min", "count", "rate", "increase", "delta", "changes", "time", "on", "by",
    "without",
];
const WORDS: [&str; 3] = ["and", "or", "unless"];
const LABELS: [&str; 9] = [
    "lane", "instance", "source", "code", "box", "output", "job", "reason", "dataset",
];

/// One rule of `docs/alerts.yml`.
#[derive(Debug, Default)]
struct Rule {
    name: String,
    expr: String,
    wait: String,
    severity: String,
    texts: Vec<(String, String)>,
}

/// Reads the rules: block mappings in steps of two spaces, strings in JSON's quotes, which are
/// YAML's too. Anything else is a fault.
fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut groups = Vec::new();
    for line in ALERTS.lines().filter(|line| !line.starts_with('#')) {
        assert!(!line.contains('\t') && line.trim_end() == line, "{line:?}");
        let depth = line.len() - line.trim_start().len();
        let (key, value) = line.trim_start().split_once(':').expect("a key");
        let value = value.trim_start();
        let text = || match value.starts_with('"') {
            true => serde_json::from_str::<String>(value).expect("a quoted string"),
            false => {
                assert!(
                    !value.is_empty() && !value.contains([':', '#', '{']),
                    "{line:?}"
                );
                value.to_owned()
            }
        };
        match (depth, key) {
            (0, "groups") | (4, "rules") | (8, "labels" | "annotations") => {
                assert_eq!(value, "", "{line:?}");
            }
            (2, "- name") => groups.push(text()),
            (6, "- alert") => rules.push(Rule {
                name: text(),
                ..Rule::default()
            }),
            (8 | 10, key) => {
                let rule = rules.last_mut().expect("a rule before its parts");
                match (depth, key) {
                    (8, "expr") => rule.expr = text(),
                    (8, "for") => rule.wait = text(),
                    (10, "severity") => rule.severity = text(),
                    (10, key) => rule.texts.push((key.to_owned(), text())),
                    _ => panic!("{line:?}"),
                }
            }
            _ => panic!("{line:?}"),
        }
    }
    assert_eq!(groups, ["tramd", "trucd"]);
    rules
}

/// The metrics that an expression names, after a check that all its words are known and that its
/// brackets close.
fn metrics_of(expr: &str) -> BTreeSet<String> {
    let (mut named, mut brackets) = (BTreeSet::new(), Vec::new());
    let mut rest = expr;
    while let Some(c) = rest.chars().next() {
        let word_len = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if c == '"' {
            let end = rest[1..].find('"').expect("a string ends") + 2;
            rest = &rest[end..];
            continue;
        }
        if c.is_ascii_digit() {
            rest = &rest[word_len..];
            continue;
        }
        if c.is_ascii_alphabetic() {
            let word = &rest[..word_len];
            let in_braces = brackets.last() == Some(&'}');
            let is_known = FUNCTIONS.contains(&word) || WORDS.contains(&word);
            let is_label = LABELS.contains(&word);
            let is_metric = word == OWN
                || ["lienthong_", "trucd_"]
                    .iter()
                    .any(|start| word.starts_with(start));
            match is_metric {
                true => drop(named.insert(word.to_owned())),
                false => assert!(is_known || is_label, "{word} in {expr}"),
            }
            assert!(!in_braces || is_label, "{word} in {expr}");
            rest = &rest[word_len..];
            continue;
        }
        match c {
            '(' => brackets.push(')'),
            '[' => brackets.push(']'),
            '{' => brackets.push('}'),
            ')' | ']' | '}' => assert_eq!(brackets.pop(), Some(c), "{expr}"),
            ' ' | ',' | '<' | '>' | '=' | '~' | '+' | '-' | '*' | '/' | '.' | '!' => {}
            _ => panic!("{c} in {expr}"),
        }
        rest = &rest[c.len_utf8()..];
    }
    assert!(brackets.is_empty(), "{expr}");
    assert!(!named.is_empty(), "{expr} asks for nothing");
    named
}

/// The expressions of the dashboard's panels.
fn panels() -> Vec<String> {
    let board: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut ids = BTreeSet::new();
    let mut found = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        for target in panel["targets"].as_array().unwrap() {
            found.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn every_rule_says_in_both_languages_what_is_wrong_and_what_to_do() {
    let rules = rules();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names.len(), rules.len());
    assert!(20 < rules.len());
    for rule in &rules {
        assert!(
            ["warning", "critical"].contains(&rule.severity.as_str()),
            "{rule:?}"
        );
        let (number, unit) = rule.wait.split_at(rule.wait.len() - 1);
        assert!(
            number.parse::<u32>().is_ok() && ["m", "h"].contains(&unit),
            "{rule:?}"
        );
        let keys: Vec<&str> = rule.texts.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            keys,
            ["summary", "summary_en", "description", "description_en"]
        );
        for (key, text) in &rule.texts {
            let is_english = key.ends_with("_en");
            let has_vietnamese = text.chars().any(|c| c.is_alphabetic() && !c.is_ascii());
            assert_eq!(!has_vietnamese, is_english, "{}: {text}", rule.name);
            assert_eq!(text.matches("{{").count(), text.matches("}}").count());
        }
        metrics_of(&rule.expr);
    }
}

#[test]
fn a_reader_that_finds_no_fault_is_no_reader() {
    for bad in [
        "sum(lienthong_x",
        "rate(lienthong_x[5m)",
        "lienthong_x{nolabel=\"a\"}",
        "1 + 1",
        "foo(lienthong_x)",
    ] {
        assert!(
            std::panic::catch_unwind(|| metrics_of(bad)).is_err(),
            "{bad}"
        );
    }
    let named = metrics_of("sum by (lane) (rate(lienthong_a_total{box=~\"b\"}[5m])) > 1.5");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["lienthong_a_total"]);
}

/// Names of the families that stand in a text with at least one sample.
fn families(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names = samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned());
    names.collect()
}

fn scrape(port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let mut answer = agent().get(&url).call().unwrap();
    answer.body_mut().read_to_string().unwrap()
}

fn hub_port(rig: &Rig) -> u16 {
    let text = fs::read_to_string(rig.hub_folder().join("trucd.toml")).unwrap();
    let (_, http) = text.split_once("[http]").unwrap();
    let (_, port) = http.split_once("listen = \"127.0.0.1:").unwrap();
    port.split('"').next().unwrap().parse().unwrap()
}

/// What a machine with sensors, a UPS and a power cut behind it adds: not every machine has them.
fn of_the_machine(status: serde_json::Value) -> BTreeSet<String> {
    let mut status: Status = serde_json::from_value(status).unwrap();
    let without = families(&metrics::render(&Status {
        machine: MachineStatus::default(),
        ..status.clone()
    }));
    status.machine = MachineStatus {
        memory: Some(MemoryStatus {
            total_bytes: 2,
            available_bytes: 1,
        }),
        temperature_c: Some(50.0),
        supplies: vec![SupplyStatus {
            name: "ups0".to_owned(),
            kind: SupplyKind::Ups,
            online: None,
            discharging: Some(true),
            charge_percent: Some(50),
        }],
    };
    let with = families(&metrics::render(&status));
    with.difference(&without).cloned().collect()
}

#[test]
fn what_rules_and_dashboard_name_is_really_exported() {
    let mut rig = one_box();
    let absent = rig.folder.path().join("khong-co.db");
    configure(
        &rig,
        "20-source.toml",
        &format!(
            "[[source]]\nname = \"can-bo\"\nkind = \"sql\"\ndataset = \"ho_so_tthc\"\ndriver = \"sqlite\"\nfile = \"{}\"\nmode = \"snapshot\"\nkey = [\"ma_ho_so\"]\npoll = \"1 s\"\nquery = \"SELECT * FROM v\"\n",
            absent.display()
        ),
    );
    let share = rig.folder.path().join("saoluu");
    fs::create_dir(&share).unwrap();
    let backup = format!("[backup]\nfolder = \"{}\"\n", share.display());
    configure(&rig, "30-backup.toml", &backup);
    rig.start_box(XA);
    let port = rig.boxes[XA].http_port;
    assert!(hand_in(port, AGENCY, 0..50));
    rig.wait_until_drained(XA, SOON);
    wait_for("the source fails and the receipt is told", SOON, || {
        let text = scrape(port);
        text.contains("lienthong_source_failed{source=\"can-bo\"} 1")
            && text.contains("lienthong_last_receipt_timestamp_seconds")
            && text.contains("lienthong_backup_last_success_timestamp_seconds")
    });
    let mut found = families(&scrape(port));
    found.extend(families(&scrape(hub_port(&rig))));

    // The hub refuses.
    rig.trucd(&["box", "suspend", XA], 0);
    assert!(hand_in(port, AGENCY, 50..60));
    wait_for("the hub refuses", SOON, || {
        // A link that the broker cuts is made again, and the refusal comes with it.
        scrape(port).contains("lienthong_refused_by_hub")
            || !rig.status(XA)["link"]["reason"].is_null()
    });
    found.extend(families(&scrape(port)));
    found.extend(of_the_machine(rig.status(XA)));
    let types: BTreeSet<String> = scrape(hub_port(&rig))
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE trucd_output_"))
        .map(|rest| format!("trucd_output_{}", rest.split(' ').next().unwrap()))
        .collect();
    // This hub has no outputs; their families stand there all the same.
    found.extend(types);
    found.insert(OWN.to_owned());

    let rules = rules();
    let rules = rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.expr.as_str()));
    let panels = panels();
    // What Grafana fills in is a string for whoever reads the expression.
    let all = rules.chain(panels.iter().map(|expr| ("dashboard", expr.as_str())));
    let missing: Vec<String> = all
        .flat_map(|(place, expr)| metrics_of(expr).into_iter().map(move |name| (place, name)))
        .filter(|(_, name)| !found.contains(name))
        .map(|(place, name)| format!("{place}: {name}"))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\nof {found:#?}");
    for name in &found {
        let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(
            is_plain && !name.ends_with("_ms"),
            "{name}: base units (seconds, bytes)"
        );
    }
}
