//! A document of 5 MiB with a file of more than 3 MiB from one office to another, while the office that
//! receives is killed in the middle: shown at once, whole in the end, byte for byte as it was written.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use lienthong::evidence::sha256;
use serde_json::Value;

use crate::contents::incompressible;
use crate::rig::{Broker, Rig, TOKEN, agent, slow_way, wait_for};

const A: (&str, &str) = ("xa-tan-bien", "H53.12");
/// One of those that the document names.
const B: (&str, &str) = ("so-noi-vu", "H53.20");
const LONG: Duration = Duration::from_secs(120);
const FILE_BYTES: usize = 3_900_000;
const KILLS: u32 = 3;
/// So slow that the receiving office is killed while files are on their way.
const LINE_BYTES_PER_SECOND: u64 = 1_000_000;

#[test]
fn a_large_document_arrives_with_its_file_on_the_embedded_broker() {
    a_large_document_arrives_with_its_file(Broker::Embedded);
}

#[test]
fn a_large_document_arrives_with_its_file_on_mosquitto() {
    a_large_document_arrives_with_its_file(Broker::Mosquitto);
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As an office's software writes it, with this file inside.
fn document(content: &[u8]) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/edxml/document");
    let text = fs::read_to_string(golden.join("input.edxml")).expect("golden");
    let file = base64::engine::general_purpose::STANDARD.encode(content);
    let with = text.replace("JVBERi0xLjcKAP/+IGJpbmFyeSANCg==", &file);
    assert!(5_000_000 < with.len(), "{}", with.len());
    with
}

/// Two offices that send documents from a folder and receive them into one.
fn stage(broker: Broker) -> Rig {
    let mut rig = Rig::start(broker);
    rig.kill_hub();
    let mut settings = File::options()
        .append(true)
        .open(rig.hub_folder().join("trucd.toml"))
        .expect("init wrote it");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
    write!(settings, "\n[catalogue]\npath = \"{shipped}\"\n").expect("written");
    rig.start_hub();
    let slow = slow_way(rig.port, LINE_BYTES_PER_SECOND);
    for ((name, agency), port) in [(A, rig.port), (B, slow)] {
        rig.add_box(name, agency, port);
        let folder = rig.boxes[name].folder.clone();
        for below in ["van-ban", "den"] {
            fs::create_dir(folder.join(below)).expect("a folder");
        }
        let shown = folder.display();
        let drop_in = folder.join("tramd.d/10-test.toml");
        let text = fs::read_to_string(&drop_in).expect("written above");
        let text = text.replace(
            "datasets = [\"ho_so_tthc\"]",
            "datasets = [\"ho_so_tthc\"]\ninbox = true",
        );
        let ways = format!(
            "[[source]]\nname = \"van-thu\"\nkind = \"folder\"\ndataset = \"van_ban_dien_tu\"\n\
             path = \"{shown}/van-ban\"\nformat = \"edxml\"\nsettle = \"0 s\"\nrescan = \"1 s\"\n\
             [[inbox]]\nname = \"qlvb\"\nkind = \"folder\"\npath = \"{shown}/den\"\n"
        );
        fs::write(&drop_in, text + &ways).expect("written");
        rig.start_box(name);
    }
    rig
}

fn get(rig: &Rig, path: &str) -> (u16, Vec<u8>) {
    let url = format!("http://127.0.0.1:{}{path}", rig.boxes[B.0].http_port);
    let answer = agent()
        .get(url)
        .header("authorization", format!("Bearer {TOKEN}"))
        .call();
    let Ok(mut answer) = answer else {
        return (0, Vec::new());
    };
    let mut bytes = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .read_to_end(&mut bytes)
        .expect("a body");
    (answer.status().as_u16(), bytes)
}

/// The document in the inbox; nothing before it has come.
fn inbox(rig: &Rig) -> Value {
    let (_, bytes) = get(rig, "/v1/inbox?all=true");
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    answer["documents"][0].clone()
}

fn received_chunks(document: &Value) -> u64 {
    let files = document["attachments"].as_array();
    let files = files.into_iter().flatten();
    files
        .map(|file| file["received_chunks"].as_u64().expect("a number"))
        .sum()
}

fn a_large_document_arrives_with_its_file(broker: Broker) {
    let mut rig = stage(broker);
    let content = incompressible(1, FILE_BYTES);
    let (document, file) = (document(&content), hexadecimal(&sha256(&content)));
    let place = rig.boxes[A.0].folder.join("van-ban");
    fs::write(place.join(".vb.part"), &document).expect("written");
    fs::rename(place.join(".vb.part"), place.join("vb-142.edxml")).expect("renamed");
    wait_for("the document is shown", LONG, || inbox(&rig).is_object());
    let den = rig.boxes[B.0].folder.join("den");
    let mut seen = 0;
    for _ in 0..KILLS {
        wait_for("more of its files is here", LONG, || {
            let now = received_chunks(&inbox(&rig));
            std::mem::replace(&mut seen, now) < now
        });
        // Asked before, so that what is not whole afterwards was not whole then.
        let handed = fs::read_dir(&den).expect("a folder").count();
        let (status, _) = get(&rig, &format!("/v1/inbox/1/attachments/{file}"));
        let shown = inbox(&rig);
        let files = shown["attachments"].as_array().expect("files");
        for named in files.iter().filter(|named| named["state"] != "kept") {
            assert_eq!(handed, 0, "it waits for its files");
            if named["sha256"] == *file {
                assert_eq!(status, 503);
            }
        }
        rig.kill_box(B.0);
        rig.start_box(B.0);
    }
    let handed = den.join("00000001-000.00.12.H53-2026-11-20-142-UBND-VP.edxml");
    wait_for("the office's software has it", LONG, || handed.exists());
    assert!(fs::read(&handed).expect("a file") == document.as_bytes());
    let beside = handed.with_extension("files");
    assert!(fs::read(beside.join("142.pdf")).expect("a file") == content);

    let (status, bytes) = get(&rig, &format!("/v1/inbox/1/attachments/{file}"));
    assert_eq!((status, hexadecimal(&sha256(&bytes))), (200, file.clone()));
    let (status, bytes) = get(&rig, "/v1/inbox/1/original");
    assert_eq!(status, 200);
    assert!(bytes == document.as_bytes());
    let shown = inbox(&rig);
    assert_eq!(shown["has_original"], true);
    for named in shown["attachments"].as_array().expect("files") {
        assert_eq!(named["state"], "kept", "{named}");
    }
    assert_eq!(get(&rig, "/v1/inbox/1/attachments/00").0, 404);
    let listed = rig.trucd(&["attachments", "--json"], 0);
    assert!(listed.contains(&file) && listed.contains(B.0), "{listed}");
    rig.trucd(&["verify", "--attachments"], 0);
}
