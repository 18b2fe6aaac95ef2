//! The diagnostics bundle of a real box: complete, and without a trace of what the records hold.
#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use one_box::{AGENCY, SOON, XA, configure, one_box, said};
use rig::{Rig, TOKEN, agent, dossier, wait_for};
use serde_json::Value;

/// Planted wherever a person or a program may put personal data; none may come out.
const MARKERS: [&str; 6] = [
    "DAUHIEU-HOTEN",
    "0912345678",
    "066203001234",
    "DAUHIEU-DIACHI",
    "DAUHIEU-TENTEP",
    "DAUHIEU-MATKHAU",
];

fn open(path: &Path) -> BTreeMap<String, String> {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut found = BTreeMap::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let name = file.name().unwrap().into_owned();
        found.insert(name, text);
    }
    found
}

fn assert_clean(files: &BTreeMap<String, String>) {
    for (name, text) in files {
        for marker in MARKERS {
            let line = text.lines().find(|line| line.contains(marker));
            assert!(line.is_none(), "{marker} in {name}: {}", line.unwrap());
        }
    }
}

/// Hands in a dossier; says what was answered.
fn post(rig: &Rig, body: &str) -> u16 {
    let url = format!(
        "http://127.0.0.1:{}/v1/records/ho_so_tthc",
        rig.boxes[XA].http_port
    );
    let answer = agent()
        .post(url)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .send(body);
    answer.unwrap().status().as_u16()
}

#[test]
fn the_bundle_is_complete_and_holds_nothing_of_the_records() {
    let mut rig = one_box();
    rig.kill_hub();
    let folder = rig.boxes[XA].folder.clone();
    let place = folder.join("thu-muc");
    fs::create_dir(&place).unwrap();
    fs::write(folder.join("mat-khau"), "DAUHIEU-MATKHAU").unwrap();
    let text = format!(
        "[[source]]\nname = \"excel\"\nkind = \"folder\"\ndataset = \"ho_so_tthc\"\npath = \"{0}\"\n\
         settle = \"0 s\"\nrescan = \"1 s\"\n\
         [[source]]\nname = \"bo-phan\"\nkind = \"http_pull\"\ndataset = \"ho_so_tthc\"\n\
         url = \"http://127.0.0.1:1/ho-so\"\nevery = \"1 min\"\nitems = \"/muc\"\nkey = [\"/ma\"]\n\
         auth = \"bearer\"\ntoken_file = \"{1}\"\n[source.fields]\nma_ho_so = \"/ma\"\n",
        place.display(),
        folder.join("mat-khau").display()
    );
    configure(&rig, "20-sources.toml", &text);
    rig.start_box(XA);
    let good = dossier(AGENCY, 1).replace("Trần Thị Bích 1", "DAUHIEU-HOTEN");
    assert_eq!(post(&rig, &good), 201);
    for bad in [
        good.replace("2026-11-20T08:12:45+07:00", "0912345678"),
        good.replace("DANG_XU_LY", "DAUHIEU-DIACHI"),
        good.replace("ca_nhan", "066203001234"),
        good.replace(&rig::code(AGENCY, 1), "DAUHIEU-HOTEN 066203001234"),
        "{\"DAUHIEU-DIACHI\": 0912345678".to_owned(),
    ] {
        assert!((400..500).contains(&post(&rig, &bad)), "{bad}");
    }
    fs::write(
        place.join("DAUHIEU-TENTEP.json"),
        "[{\"ma_ho_so\": \"DAUHIEU-HOTEN\", \"nguoi_nop\": \"066203001234 DAUHIEU-DIACHI\"}]",
    )
    .unwrap();
    wait_for("the file is refused", SOON, || {
        place.join("refused/DAUHIEU-TENTEP.json").exists()
    });

    let running = folder.join("chan-doan.zip");
    said(&rig, &["bundle", running.to_str().unwrap()], 0);
    said(&rig, &["bundle", running.to_str().unwrap()], 1);
    rig.kill_box(XA);
    let stopped = folder.join("chan-doan-2.zip");
    said(&rig, &["bundle", stopped.to_str().unwrap()], 0);
    for path in [running, stopped] {
        let files = open(&path);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let wanted = [
            "README.txt",
            "audit.txt",
            "check.txt",
            "config.txt",
            "log.txt",
            "parked.txt",
            "status.json",
            "store.txt",
            "system.txt",
        ];
        assert_eq!(names, wanted);
        let status: Value = serde_json::from_str(&files["status.json"]).unwrap();
        let lanes = status["lanes"].as_array().unwrap();
        let waiting = lanes.iter().map(|lane| lane["waiting"].as_u64().unwrap());
        assert!(0 < waiting.sum::<u64>(), "{status}");
        assert!(files["check.txt"].contains("Kết nối TCP"));
        assert!(files["config.txt"].contains("bo-phan"));
        assert!(files["store.txt"].contains("box.db "));
        assert_clean(&files);
        assert!(!files["config.txt"].contains(&digest_of_the_token()));
    }
}

/// The stored hash of a token is nobody's business either.
fn digest_of_the_token() -> String {
    let digest = lienthong::evidence::sha256(TOKEN.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_faulty_configuration_is_no_reason_to_send_nothing() {
    let rig = one_box();
    configure(&rig, "20-loi.toml", "[store]\nquota = \"mot it\"\n");
    let path = rig.boxes[XA].folder.join("chan-doan.zip");
    said(&rig, &["bundle", path.to_str().unwrap()], 0);
    let files = open(&path);
    assert!(files["config.txt"].contains("mot it"), "{files:?}");
    assert!(files["check.txt"].contains("Cấu hình"));
}
