//! `docs/asyncapi.yaml` against what really goes over the broker: topics, kind bytes, the items of
//! each CBOR array in their order and types, the members of presence and entries.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use lienthong::evidence::sha256;
use lienthong::model::chunk::Digest;
use lienthong::model::down::{
    self, CatalogueNews, CataloguePart, Compare, Compared, Document, DocumentStatus, Down,
    FileNews, Load, Mended, Version, Withdraw,
};
use lienthong::model::record::{Attachment, Op};
use lienthong::model::{AgencyCode, DatasetId, RecordId, UnixMs};
use minicbor::data::Type;
use serde_json::value::RawValue;

use crate::rig::{Broker, DATASET, Rig, TOKEN, agent, dossier, hand_in_all, wait_for};

const DOCUMENT: &str = include_str!("../../docs/asyncapi.yaml");

/// An item of a CBOR array as the document describes it.
#[derive(Debug, PartialEq)]
struct Item {
    title: String,
    kind: String,
    bytes: Option<usize>,
    is_optional: bool,
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
            is_optional: line.contains("x-optional: true"),
        })
        .collect()
}

/// Walks a message's array beside its description.
fn check(payload: &[u8], kind: u8, described: &[Item]) {
    assert_eq!(&payload[..4], &[b'L', b'T', 1, kind]);
    let mut decoder = minicbor::Decoder::new(&payload[4..]);
    let count = decoder.array().expect("an array").expect("of known length");
    let count = count as usize;
    let needed = described.iter().filter(|item| !item.is_optional).count();
    assert!((needed..=described.len()).contains(&count), "{described:?}");
    for item in &described[..count] {
        let found = decoder.datatype().expect("an item");
        match item.kind.as_str() {
            "integer" => assert!(
                matches!(found, Type::U8 | Type::U16 | Type::U32 | Type::U64),
                "{}: {found}",
                item.title
            ),
            "boolean" => assert_eq!(found, Type::Bool, "{}", item.title),
            "string" => assert_eq!(found, Type::Bytes, "{}", item.title),
            "array" => check_cargo(decoder.clone()),
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

/// Place, whether it is gone, and the bytes of each chunk.
fn check_cargo(mut decoder: minicbor::Decoder<'_>) {
    let chunks = decoder.array().expect("an array").expect("of known length");
    assert!(0 < chunks, "an empty cargo is left out");
    for _ in 0..chunks {
        assert_eq!(decoder.array().expect("an array"), Some(3));
        decoder.u32().expect("the entry's place");
        assert!(!decoder.bool().expect("gone"));
        let content = decoder.bytes().expect("the content");
        assert!(content.len() <= 61_440);
    }
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
    attach(&rig);
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
    let (mut seen, mut cargoes) = ([0; 3], 0);
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
                cargoes += usize::from(byte == 1 && payload[4] == 0x8b);
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
    assert!(
        0 < cargoes,
        "no batch of eleven items: the attachment's chunk"
    );
    check_entries(&rig);
}

/// Puts an attachment and a record that names it.
fn attach(rig: &Rig) {
    let content = b"%PDF-1.7 a scan";
    let digest: String = sha256(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let base = format!("http://127.0.0.1:{}", rig.boxes["xa-tan-bien"].http_port);
    let token = format!("Bearer {TOKEN}");
    let put = agent()
        .put(format!("{base}/v1/blobs/{digest}"))
        .header("Authorization", &token)
        .content_type("application/pdf")
        .send(&content[..])
        .expect("the box answers");
    assert_eq!(put.status(), 201);
    let record: serde_json::Value =
        serde_json::from_str(&dossier("H53.12", 999)).expect("a record");
    let event = serde_json::json!({
        "specversion": "1.0", "id": "co-tep", "source": "urn:mot-cua", "type": DATASET,
        "attachments": [{"name": "don.pdf", "mime": "application/pdf", "bytes": content.len(), "sha256": digest}],
        "data": record,
    });
    let kept = agent()
        .post(format!("{base}/v1/records/{DATASET}"))
        .header("Authorization", &token)
        .content_type("application/cloudevents+json")
        .send(event.to_string())
        .expect("the box answers");
    assert_eq!(kept.status(), 201);
}

/// The entries themselves, as the hub keeps them.
fn check_entries(rig: &Rig) {
    let described = members("    entry:\n      title:");
    let entries = rig.entries("xa-tan-bien");
    let (records, chunks): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| entry.get("chunk").is_none());
    assert_eq!((records.len(), chunks.len()), (21, 1));
    let (outer, inner) = (
        members("    chunk:\n      title:"),
        members("    piece:\n      title:"),
    );
    for chunk in chunks {
        assert_eq!(keys(&chunk["chunk"]), inner);
        assert!(keys(&chunk).is_subset(&outer), "{chunk}");
    }
    for entry in records {
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

fn keys(value: &serde_json::Value) -> BTreeSet<String> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect()
}

/// Each kind of entry that goes down, with all of its members.
#[test]
fn asyncapi_describes_every_entry_that_goes_down() {
    let data = || RawValue::from_string("{}".to_owned()).expect("JSON");
    let attachments = vec![Attachment {
        name: "don.pdf".to_owned(),
        mime: "application/pdf".to_owned(),
        bytes: 1,
        sha256: "0".repeat(64),
        original: false,
    }];
    let dataset: DatasetId = "ho_so_tthc".parse().expect("valid");
    let agency: AgencyCode = "H53.12".parse().expect("valid");
    let (id, at) = ("vb-1".parse::<RecordId>().expect("valid"), UnixMs(1));
    let copy = down::Copy {
        dataset: dataset.clone(),
        schema: 1,
        agency: agency.clone(),
        subject: "S-1".parse().expect("valid"),
        op: Op::Upsert,
        version: Version(2),
        at,
        load: Version(1),
        initial: true,
        attachments: attachments.clone(),
        data: Some(data()),
    };
    let downs = [
        Down::Copy(copy.clone()),
        Down::Mend(copy),
        Down::Compare(Compare {
            dataset: dataset.clone(),
            version: Version(4),
            load: Version(1),
            at,
        }),
        Down::Mended(Mended {
            dataset: dataset.clone(),
            load: Version(1),
            bucket: 255,
            since: Version(4),
            version: Version(5),
            at,
        }),
        Down::Compared(Compared {
            dataset: Some(dataset.clone()),
            at,
            result: "equal".to_owned(),
            buckets: 0,
            subjects: 0,
        }),
        Down::Load(Load {
            dataset: dataset.clone(),
            load: Version(1),
            subjects: 1,
            seen: 1,
            done: true,
            at,
        }),
        Down::Withdraw(Withdraw {
            dataset: dataset.clone(),
            version: Version(3),
            at,
        }),
        Down::Document(Box::new(Document {
            id: id.clone(),
            dataset,
            schema: 1,
            subject: "S-1".parse().expect("valid"),
            from: agency.clone(),
            to: agency.clone(),
            at,
            attachments,
            data: data(),
            original: Some(String::new()),
        })),
        Down::File(FileNews {
            sha256: Digest([7; 32]),
            state: "quarantined".to_owned(),
            at,
        }),
        Down::Status(DocumentStatus {
            document: id.clone(),
            from: agency.clone(),
            code: "03".to_owned(),
            by: agency,
            at,
            note: "đã vào sổ".to_owned(),
        }),
        Down::Catalogue(CatalogueNews {
            version: 1,
            effective: "2026-12-01".to_owned(),
            bytes: 1,
            sha256: String::new(),
            parts: 1,
            by: String::new(),
            signature: String::new(),
        }),
        Down::CataloguePart(CataloguePart {
            sha256: String::new(),
            part: 0,
            data: String::new(),
        }),
        Down::Command(down::Command {
            id,
            name: "restart".to_owned(),
            arguments: data(),
            expires: at,
            by: String::new(),
            signature: String::new(),
        }),
    ];
    let mut named = BTreeSet::new();
    for down in downs {
        let entry = serde_json::to_value(&down).expect("plain JSON");
        let (name, content) = entry
            .as_object()
            .expect("an object")
            .iter()
            .next()
            .expect("one");
        assert_eq!(name, heading_of(&down));
        let camel: String = name
            .split('_')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect();
        assert_eq!(
            keys(content),
            members(&format!("    down{camel}:\n")),
            "{name}"
        );
        named.insert(name.clone());
    }
    assert_eq!(named, members("    downEntry:\n"));
}

/// A kind that is new here is to be described, and to be added to the test above.
fn heading_of(down: &Down) -> &'static str {
    match down {
        Down::Copy(_) => "copy",
        Down::Load(_) => "load",
        Down::Withdraw(_) => "withdraw",
        Down::Document(_) => "document",
        Down::File(_) => "file",
        Down::Status(_) => "status",
        Down::Catalogue(_) => "catalogue",
        Down::CataloguePart(_) => "catalogue_part",
        Down::Command(_) => "command",
        Down::Compare(_) => "compare",
        Down::Mend(_) => "mend",
        Down::Mended(_) => "mended",
        Down::Compared(_) => "compared",
    }
}
