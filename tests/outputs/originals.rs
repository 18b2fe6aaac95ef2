//! What an office's software wrote and was too large for its entry: the outputs take it out of the
//! hub's attachments, and wait for it; and the command line shows it, copies it out, and proves it.

use std::fs;

use lienthong::engine::parts::{PartFiles, Parts, folder_beside};
use lienthong::evidence::sha256;
use lienthong::hub::attachments::kept_path;
use lienthong::model::UnixMs;
use lienthong::model::chunk::{Chunk, Digest};
use lienthong::model::record::Attachment;
use lienthong::store::Options;
use lienthong::store::hub::HubStore;
use lienthong::store::hub::blobs::BlobState;
use serde_json::{Value, json};

use crate::edxml::{Axis, document, serve};
use crate::live::Daemon;
use crate::stage::{Hub, Office, Sample, free_port};
use crate::{configure, until, until_empty};

/// As an office's software writes it, of some 5 MiB.
fn letter() -> Vec<u8> {
    let mut letter = "\u{feff}<?xml version=\"1.0\"?>\r\n<a>Đ"
        .as_bytes()
        .to_vec();
    letter.extend((0..5_300_000_u32).map(|at| b'A' + (at.wrapping_mul(2_654_435_761) >> 28) as u8));
    letter.extend_from_slice(b"</a>\r\n\0");
    letter
}

/// A content comes whole to the hub, as its engine leaves it for the check.
fn comes(hub: &Hub, office: &Office, content: &[u8]) {
    let chunk = Chunk {
        blob: Digest(sha256(content)),
        bytes: content.len() as u64,
        at: 0,
        length: content.len() as u64,
        sha256: Digest(sha256(content)),
    };
    let store = hub.path("trucd.db");
    let mut parts = PartFiles::new(folder_beside(&store));
    assert!(parts.write(&office.box_id, &chunk, content).unwrap());
    parts.sync().unwrap();
    let options = Options {
        quota_bytes: 1 << 30,
        cache_bytes: 1 << 20,
    };
    let mut store = HubStore::open(&store, options).unwrap();
    let state = BlobState::Checking;
    store
        .set_part(&office.box_id, &chunk, chunk.bytes, state, UnixMs(1))
        .unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_original_is_waited_for_and_goes_out_as_it_is() {
    let hub = Hub::new();
    let (port, axis) = (free_port(), Axis::default());
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    fs::write(hub.path("bi-mat"), "bi-mat").unwrap();
    configure(
        &hub,
        &format!(
            "[[output]]\nname = \"truc\"\nkind = \"edxml\"\ndatasets = [\"van_ban_dien_tu\"]\n\
             url = \"http://127.0.0.1:{port}/v1\"\nsystem_id = \"TNI01\"\nsecret_file = \"bi-mat\"\n\
             [[output]]\nname = \"kho\"\nkind = \"files\"\ndatasets = [\"van_ban_dien_tu\"]\n\
             folder = \"out\"\nformat = \"ndjson\"\nevery = \"0 s\"\n"
        ),
    );
    let letter = letter();
    let sha256 = Digest(sha256(&letter));
    let id = "000.00.12.H53,2026/11/20,1/UBND";
    let data = json!({"loai_ban_ghi": "van_ban", "ma_van_ban": id, "tu": {"ma": "000.00.12.H53"}});
    let large = Sample::new(id, &data.to_string())
        .dataset("van_ban_dien_tu")
        .attachment(Attachment {
            name: "vb-1.edxml".to_owned(),
            mime: "application/xml".to_owned(),
            bytes: letter.len() as u64,
            sha256: sha256.to_string(),
            original: true,
        });
    let small = document("000.00.12.H53,2026/11/20,2/UBND", b"<?xml?><b/>");
    office.send(vec![large, small]);
    let _server = serve(&axis, port).await;
    let daemon = Daemon::start(&hub).await;
    for name in ["truc", "kho"] {
        let standing = until(&hub, name, "the other one is out", |standing| {
            standing["delivered"] == 1
        });
        assert_eq!(
            (&standing["parked"], &standing["behind"]),
            (&0.into(), &1.into()),
            "it waits and is not parked: {standing}"
        );
    }
    let record = &lines(&hub.ok(&["records", "van_ban_dien_tu", "--format", "ndjson"]))[0];
    assert_eq!(
        record["attachmentstate"][0]["state"], "expected",
        "{record}"
    );

    comes(&hub, &office, &letter);
    for name in ["truc", "kho"] {
        assert_eq!(until_empty(&hub, name)["delivered"], 2);
    }
    assert!(axis.documents() == [b"<?xml?><b/>".to_vec(), letter.clone()]);
    let beside = hub.path("out/van_ban_dien_tu/originals");
    assert!(fs::read(beside.join(sha256.to_string())).unwrap() == letter);
    prove(&hub, &letter, sha256);
    assert_eq!(daemon.stop(), 0);
}

/// What the command line says of the attachment.
fn prove(hub: &Hub, letter: &[u8], sha256: Digest) {
    let listed = &lines(&hub.ok(&["attachments", "--json"]))[0];
    let chunks = (letter.len() as u64).div_ceil(60 * 1024);
    assert_eq!(
        (&listed["sha256"], &listed["state"], &listed["box"]),
        (&json!(sha256), &json!("kept"), &json!("xa-a"))
    );
    assert_eq!(listed["records"][0]["dataset"], "van_ban_dien_tu");
    assert_eq!(listed["chunks"], listed["received_chunks"]);
    let text = hub.ok(&["attachments", "--box", "xa-a", "--state", "kept"]);
    assert!(
        text.contains(&format!("{chunks} trên {chunks} đoạn")),
        "{text}"
    );
    assert_eq!(hub.ok(&["attachments", "--state", "lost"]), "");
    assert_ne!(hub.run(&["attachments", "--state", "x"]).code, 0);

    let (name, to) = (sha256.to_string(), hub.path("lay-ra.edxml"));
    let get = ["attachments", "get", &name, "--by", "Trần Mẫu", "--to"];
    let get = [&get[..], &[to.to_str().unwrap()]].concat();
    hub.ok(&get);
    assert!(fs::read(&to).unwrap() == letter);
    let audit = hub.ok(&["audit"]);
    assert!(
        audit.contains("Trần Mẫu") && audit.contains(&name),
        "{audit}"
    );
    assert_ne!(hub.run(&get).code, 0, "a file that is there stays");

    hub.ok(&["verify", "--attachments"]);
    let kept = kept_path(&hub.path("trucd.db"), sha256);
    let mut damaged = letter.to_vec();
    damaged[letter.len() / 2] ^= 1;
    fs::write(&kept, damaged).unwrap();
    hub.ok(&["verify"]);
    let ran = hub.run(&["verify", "--attachments"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(&name), "{}", ran.stderr);
    fs::remove_file(&to).unwrap();
    assert_ne!(hub.run(&get).code, 0);
    assert!(!to.exists(), "nothing of a damaged one comes out");
    fs::write(&kept, letter).unwrap();
}
