//! What leaves a box's inbox: its words about documents, once each in its own log, and documents into
//! a folder or to a web service, with the original byte for byte.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod bed;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use bed::Bed;
use lienthong::edge::config::inbox::{InboxConfig, InboxKind, Service};
use lienthong::edge::inbox::Documents;
use lienthong::edge::inbox::outward::{hand_out, say_all};
use lienthong::model::UnixMs;
use lienthong::model::down::{Document, Down};
use lienthong::store::Options;
use lienthong::store::down::DownStore;
use lienthong::store::inbox::Inbox;
use serde_json::value::RawValue;

const EDXML: &[u8] = "1212<?xml version=\"1.0\"?><a>Đ\u{0}\r\n</a>".as_bytes();

fn letter(id: &str, original: Option<&[u8]>) -> Down {
    Down::Document(Box::new(Document {
        id: id.parse().unwrap(),
        dataset: "van_ban_dien_tu".parse().unwrap(),
        schema: 1,
        subject: "142/UBND-VP".parse().unwrap(),
        from: "H53.07".parse().unwrap(),
        to: "H53.12".parse().unwrap(),
        at: UnixMs(1),
        attachments: Vec::new(),
        data: RawValue::from_string(r#"{"so": 142}"#.to_owned()).unwrap(),
        original: original.map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes)),
    }))
}

/// A box to which letters have come.
fn with_letters(bed: &Bed, letters: &[Down]) -> (PathBuf, Arc<Documents>) {
    let path = bed.config().store.down_path();
    let options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };
    let mut store = DownStore::open(&path, options, &bed.config().box_id).unwrap();
    store.begin().unwrap();
    for letter in letters {
        assert!(store.apply(letter, UnixMs(7)).unwrap());
    }
    store.commit().unwrap();
    (path.clone(), Arc::new(Documents::new(path)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_one_record_also_when_the_box_dies_before_it_is_noted() {
    let bed = Bed::new();
    let running = bed.start();
    let (path, documents) = with_letters(&bed, &[letter("vb-1", None)]);
    say_all(&running.door, &documents).await.unwrap();
    assert_eq!(bed.stored(), 1, "01 by itself");
    // As if the power had gone between the commit of the record and the note of it.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE document_status SET said = 0", [])
        .unwrap();
    say_all(&running.door, &documents).await.unwrap();
    assert_eq!(bed.stored(), 1, "still one record");
    let mut inbox = Inbox::open(&path).unwrap();
    assert!(inbox.unsaid(10).unwrap().is_empty());
    let row = inbox.document(1).unwrap().unwrap();
    assert!(
        inbox
            .say(&row.sender, &row.id, "", ("03", "đã vào sổ"), UnixMs(9))
            .unwrap()
    );
    say_all(&running.door, &documents).await.unwrap();
    assert_eq!(bed.stored(), 2);
}

#[test]
fn a_folder_gets_each_document_whole_and_a_full_one_later() {
    let bed = Bed::new();
    let (path, documents) =
        with_letters(&bed, &[letter("vb-1", Some(EDXML)), letter("vb-2", None)]);
    let folder = bed.place.path().join("den");
    let way = InboxConfig {
        name: "qlvb".parse().unwrap(),
        kind: InboxKind::Folder {
            path: folder.clone(),
        },
    };
    hand_out(&way, &documents, UnixMs(1_000)).unwrap();
    let inbox = Inbox::open(&path).unwrap();
    assert_eq!(
        inbox.counts().unwrap(),
        (2, 2),
        "the folder is not there: nothing is done"
    );
    std::fs::create_dir(&folder).unwrap();
    hand_out(&way, &documents, UnixMs(2_000)).unwrap();
    assert_eq!(
        inbox.counts().unwrap(),
        (2, 2),
        "it is tried again in its time"
    );
    hand_out(&way, &documents, UnixMs(31_000)).unwrap();
    assert_eq!(inbox.counts().unwrap(), (2, 0));
    let file = folder.join("00000001-142-UBND-VP.edxml");
    assert_eq!(std::fs::read(file).unwrap(), EDXML);
    let json = std::fs::read(folder.join("00000002-142-UBND-VP.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (json["id"].as_str(), json["data"]["so"].as_i64()),
        (Some("vb-2"), Some(142))
    );
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        2,
        "nothing half written is left"
    );
}

#[test]
fn a_service_has_a_document_when_it_says_so() {
    let bed = Bed::new();
    let (path, documents) = with_letters(&bed, &[letter("vb-1", Some(EDXML))]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/nhan", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        ["500 Busy", "204 No Content"].map(|status| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !request.ends_with(EDXML) {
                let count = stream.read(&mut piece).unwrap();
                assert_ne!(count, 0, "the whole original comes");
                request.extend_from_slice(&piece[..count]);
            }
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request).to_lowercase()
        })
    });
    let way = InboxConfig {
        name: "qlvb".parse().unwrap(),
        kind: InboxKind::Http(Service {
            url,
            authority: None,
            token_file: None,
            timeout_ms: 5_000,
        }),
    };
    hand_out(&way, &documents, UnixMs(0)).unwrap();
    let inbox = Inbox::open(&path).unwrap();
    assert_eq!(inbox.counts().unwrap(), (1, 1));
    hand_out(&way, &documents, UnixMs(31_000)).unwrap();
    assert_eq!(inbox.counts().unwrap(), (1, 0));
    let requests = server.join().unwrap();
    for request in requests {
        assert!(request.contains("idempotency-key: h53.07:1"), "{request}");
    }
}
