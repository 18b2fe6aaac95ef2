//! `trucd grant` and `trucd audit`: what is given, what is refused, and that both are written down.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::stage::Hub;

/// A hub with the shipped catalogue.
fn hub() -> Hub {
    let hub = Hub::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let file = hub.path("trucd.toml");
    let text = fs::read_to_string(&file).unwrap();
    let setting = format!("\n[catalogue]\npath = \"{}\"\n", shipped.display());
    fs::write(&file, text + &setting).unwrap();
    hub
}

fn audit(hub: &Hub) -> Vec<(String, String)> {
    let text = hub.ok(&["audit", "--json"]);
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        assert!(text("at").ends_with("+07:00"), "{line}");
        (text("who"), text("action"))
    };
    text.lines().map(line).collect()
}

#[test]
fn a_right_is_given_changed_listed_and_withdrawn() {
    let hub = hub();
    hub.ok(&[
        "grant",
        "add",
        "H53.12",
        "ho_so_tthc",
        "--fields",
        "ma_ho_so,/nguoi_nop/ho_ten,/nguoi_nop/dien_thoai",
        "--mask",
        "/nguoi_nop/dien_thoai",
        "--by",
        "chi-lan",
    ]);
    hub.ok(&[
        "grant",
        "add",
        "H53.12",
        "ho_so_tthc",
        "--rows",
        "all",
        "--by",
        "anh-minh",
    ]);
    hub.ok(&[
        "grant",
        "add",
        "H53.13",
        "ho_so_tthc",
        "--rows",
        "agency=H53.13,H53.14",
        "--by",
        "anh-minh",
    ]);
    let listed: Value = serde_json::from_str(&hub.ok(&["grant", "list", "--json"])).unwrap();
    let rights = listed["rights"].as_array().unwrap();
    assert_eq!(rights.len(), 2);
    assert_eq!(rights[0]["right"], json!({"rows": "all"}));
    assert_eq!(
        rights[1]["right"],
        json!({"rows": {"of": ["H53.13", "H53.14"]}})
    );
    assert!(hub.ok(&["grant", "list"]).contains("anh-minh"));
    hub.ok(&[
        "grant",
        "withdraw",
        "H53.12",
        "ho_so_tthc",
        "--by",
        "chi-lan",
    ]);
    let again = hub.run(&["grant", "withdraw", "H53.12", "ho_so_tthc"]);
    assert_eq!(again.code, 1, "{}", again.stderr);
    let line = |who: &str, action: &str| (who.to_owned(), action.to_owned());
    assert_eq!(
        audit(&hub),
        [
            line("chi-lan", "grant"),
            line("anh-minh", "grant"),
            line("anh-minh", "grant"),
            line("chi-lan", "withdraw")
        ]
    );
}

#[test]
fn what_cannot_be_granted_is_refused_with_what_to_do() {
    let hub = hub();
    for (arguments, said) in [
        (&["H53.12", "ho_so_ttch"][..], "ho_so_tthc"),
        (
            &["H53.12", "ho_so_tthc", "--fields", "/nguoi_nop/ten"],
            "/nguoi_nop/ho_ten",
        ),
        (
            &["H53.12", "ho_so_tthc", "--mask", "so_dien_thoai"],
            "no field /so_dien_thoai",
        ),
        (&["H53.12", "tiem_chung_dich_benh"], "--sensitive"),
        (
            &["H53.12", "tiem_chung_dich_benh", "--sensitive"],
            "--basis",
        ),
    ] {
        let ran = hub.run(&[&["grant", "add"], arguments].concat());
        assert_eq!(ran.code, 1, "{arguments:?}");
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert_eq!(
        hub.run(&["grant", "add", "H53.12", "ho_so_tthc", "--rows", "mine"])
            .code,
        64
    );
    assert!(audit(&hub).is_empty(), "nothing was changed");
    hub.ok(&[
        "grant",
        "add",
        "H53.12",
        "tiem_chung_dich_benh",
        "--sensitive",
        "--basis",
        "Điều 5 Quyết định mẫu",
    ]);
    let listed: Value = serde_json::from_str(&hub.ok(&["grant", "list", "--json"])).unwrap();
    assert_eq!(listed["rights"][0]["basis"], "Điều 5 Quyết định mẫu");
}

/// Words of a command line; what stands in quotation marks is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn every_command_of_the_guide_works() {
    let hub = hub();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/rights.md")).unwrap();
    let mut count = 0;
    for line in guide.lines().filter_map(|line| line.strip_prefix("trucd ")) {
        let words = words(line);
        hub.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
        count += 1;
    }
    assert_eq!(count, 7);
}
