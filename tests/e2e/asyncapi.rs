//! `docs/asyncapi.yaml` against what really goes over the broker: topics, kind bytes, the items of
//! each CBOR array in their order and types, the members of presence and entries.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use minicbor::data::Type;

use crate::rig::{Broker, Rig, hand_in_all, wait_for};

const DOCUMENT: &str = include_str!("../../docs/asyncapi.yaml");

/// An item of a CBOR array as the document describes it.
#[derive(Debug, PartialEq)]
struct Item {
    title: String,
    kind: String,
    bytes: Option<usize>,
}

/// The part of the document below a line, up to the next line with no more indentation.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text
        .find(heading)
        .unwrap_or_else(|| panic!("no {heading:?} in the document"));
    let line = start - text[..start].rsplit('\n').next().expect("a line").len();
    let indent = text[line..].len() - text[line..].trim_start().len();
    let body = start + text[start..].find('\n').expect("a line end") + 1;
    let mut end = body;
    for line in text[body..].split_inclusive('\n') {
        let depth = line.len() - line.trim_start().len();
        if !line.trim().is_empty() && depth <= indent {
            break;
        }
        end += line.len();
    }
    &text[body..end]
}

fn items(message: &str) -> Vec<Item> {
    let part = |line: &str, key: &str| {
        let value = line.split_once(key)?.1;
        Some(
            value
                .split([',', ' ', '}'])
                .next()
                .expect("a value")
                .to_owned(),
        )
    };
    section(DOCUMENT, message)
        .lines()
        .filter(|line| line.trim_start().starts_with("- { title: "))
        .map(|line| Item {
            title: part(line, "title: ").expect("a title"),
            kind: part(line, "type: ").expect("a type"),
            bytes: part(line, "maxLength: ").and_then(|value| value.parse().ok()),
        })
        .collect()
}

/// Walks a message's array beside its description.
fn check(payload: &[u8], kind: u8, described: &[Item]) {
    assert_eq!(&payload[..4], &[b'L', b'T', 1, kind]);
    let mut decoder = minicbor::Decoder::new(&payload[4..]);
    let count = decoder.array().expect("an array").expect("of known length");
    assert_eq!(count as usize, described.len(), "{described:?}");
    for item in described {
        let found = decoder.datatype().expect("an item");
        match item.kind.as_str() {
            "integer" => assert!(
                matches!(found, Type::U8 | Type::U16 | Type::U32 | Type::U64),
                "{}: {found}",
                item.title
            ),
            "boolean" => assert_eq!(found, Type::Bool, "{}", item.title),
            "string" => assert_eq!(found, Type::Bytes, "{}", item.title),
            other => panic!("{}: the test does not know {other}", item.title),
        }
        if let (Type::Bytes, Some(bytes)) = (found, item.bytes) {
            assert_eq!(
                decoder.bytes().expect("bytes").len(),
                bytes,
                "{}",
                item.title
            );
        } else {
            decoder.skip().expect("an item");
        }
    }
    assert_eq!(decoder.position(), payload.len() - 4);
}

fn members(heading: &str) -> BTreeSet<String> {
    let properties = section(section(DOCUMENT, heading), "properties:\n");
    let indent = properties.len() - properties.trim_start().len();
    properties
        .lines()
        .filter(|line| line.len() - line.trim_start().len() == indent)
        .filter_map(|line| Some(line.trim().split_once(':')?.0.to_owned()))
        .collect()
}

#[test]
fn asyncapi_describes_what_goes_over_the_broker() {
    let mut rig = Rig::start(Broker::Embedded);
    rig.add_box("xa-tan-bien", "H53.12", rig.port);
    let hub = rig.hub_folder();
    let captured = rig.folder.path().join("captured.txt");
    let mut listener = Command::new("mosquitto_sub")
        .args([
            "-V",
            "5",
            "-h",
            "127.0.0.1",
            "-p",
            &rig.port.to_string(),
            "-t",
            "lt/1/#",
        ])
        .args(["-i", "trucd/listener", "-F", "%t %x", "--cafile"])
        .arg(hub.join("ca.crt"))
        .arg("--cert")
        .arg(hub.join("trucd.crt"))
        .arg("--key")
        .arg(hub.join("trucd.key"))
        .stdout(Stdio::from(
            std::fs::File::create(&captured).expect("a file"),
        ))
        .spawn()
        .expect("mosquitto-clients is installed");
    std::thread::sleep(Duration::from_secs(1));
    rig.start_box("xa-tan-bien");
    hand_in_all(rig.boxes["xa-tan-bien"].http_port, "H53.12", 20, 20);
    rig.wait_until_drained("xa-tan-bien", Duration::from_secs(60));
    let read = || std::fs::read_to_string(&captured).expect("captured");
    wait_for(
        "all three kinds were heard",
        Duration::from_secs(30),
        || {
            ["/up ", "/down ", "/presence "]
                .iter()
                .all(|topic| read().contains(topic))
        },
    );
    let _ = listener.kill();
    let _ = listener.wait();
    let mut seen = [0; 3];
    for line in read().lines() {
        let (topic, hex) = line.split_once(' ').expect("topic and payload");
        let payload: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
            .collect();
        let kind = topic
            .strip_prefix("lt/1/xa-tan-bien/")
            .expect("a topic of the box");
        let described = format!("address: lt/1/{{box}}/{kind}\n");
        assert!(DOCUMENT.contains(&described), "{topic} is not described");
        match kind {
            "up" | "down" => {
                let (byte, heading) = match payload.get(3) {
                    Some(1) => (1, "    batch:\n      title:"),
                    _ => (2, "    receipt:\n      title:"),
                };
                check(&payload, byte, &items(heading));
                seen[usize::from(kind == "down")] += 1;
            }
            _ => {
                let presence: serde_json::Value =
                    serde_json::from_slice(&payload).expect("presence is JSON");
                let members = members("    presence:\n      title:");
                for member in presence.as_object().expect("an object").keys() {
                    assert!(members.contains(member), "{member} is not described");
                }
                seen[2] += 1;
            }
        }
    }
    assert!(seen.iter().all(|&count| 0 < count), "{seen:?}");
    check_entries(&rig);
}

/// The entries themselves, as the hub keeps them.
fn check_entries(rig: &Rig) {
    let described = members("    entry:\n      title:");
    let entries = rig.entries("xa-tan-bien");
    assert_eq!(entries.len(), 20);
    for entry in entries {
        for member in entry.as_object().expect("an object").keys() {
            assert!(described.contains(member), "{member} is not described");
        }
        for member in [
            "capture",
            "storedtime",
            "source",
            "type",
            "subject",
            "agency",
            "sensitivity",
            "data",
        ] {
            assert!(entry.get(member).is_some(), "{member} is missing");
        }
    }
}
