//! Kind `edxml` against an axis that speaks as the provincial variant does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::Json;
use axum::routing::post;
use base64::Engine as _;
use serde_json::{Value, json};

use crate::configure;
use crate::live::Daemon;
use crate::stage::{Hub, Office, Sample, free_port};
use crate::{parked, until};

#[derive(Default)]
struct Seen {
    /// Documents as they came, by the axis's number.
    documents: Vec<Vec<u8>>,
    statuses: Vec<(String, String)>,
    /// Answers to come, before all goes well.
    answers: Vec<u16>,
}

#[derive(Clone, Default)]
pub struct Axis(Arc<Mutex<Seen>>);

impl Axis {
    /// Documents as they came.
    pub fn documents(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().documents.clone()
    }
}

fn is_known(headers: &HeaderMap) -> bool {
    headers["systemid"] == "TNI01" && headers["secret"] == "bi-mat"
}

/// The content of the only part of a multipart body.
fn part(body: &[u8], boundary: &str) -> Vec<u8> {
    let find = |bytes: &[u8], wanted: &[u8]| {
        let at = bytes
            .windows(wanted.len())
            .position(|window| window == wanted);
        at.expect("a multipart body")
    };
    assert!(body.starts_with(format!("--{boundary}\r\n").as_bytes()));
    let head = find(body, b"\r\n\r\n");
    let names = String::from_utf8(body[..head].to_vec()).unwrap();
    assert!(names.contains("name=\"edocFile\"; filename=\""), "{names}");
    let content = &body[head + 4..];
    let end = find(content, format!("\r\n--{boundary}--\r\n").as_bytes());
    content[..end].to_vec()
}

async fn send(State(axis): State<Axis>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    if !is_known(&headers) {
        return Json(json!({"errorCode": 15}));
    }
    let kind = headers["content-type"].to_str().unwrap();
    let boundary = kind.split_once("boundary=").unwrap().1.to_owned();
    let bytes = part(&body, &boundary);
    let mut seen = axis.0.lock().unwrap();
    if let Some(code) = seen.answers.pop() {
        return Json(json!({ "errorCode": code, "message": "…" }));
    }
    seen.documents.push(bytes.to_vec());
    Json(json!({"errorCode": "0", "data": {"docId": seen.documents.len()}}))
}

async fn update(State(axis): State<Axis>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    if !is_known(&headers) {
        return Json(json!({"errorCode": 15}));
    }
    let said: BTreeMap<String, String> = serde_json::from_slice(&body).unwrap();
    let mut seen = axis.0.lock().unwrap();
    seen.statuses
        .push((said["docId"].clone(), said["status"].clone()));
    Json(json!({"errorCode": 0}))
}

pub async fn serve(axis: &Axis, port: u16) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .unwrap();
    let router = Router::new()
        .route("/v1/sendEdoc", post(send))
        .route("/v1/updateStatus", post(update))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(axis.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

pub fn document(id: &str, bytes: &[u8]) -> Sample {
    let data = json!({"loai_ban_ghi": "van_ban", "ma_van_ban": id, "tu": {"ma": "000.00.12.H53"}});
    Sample::new(id, &data.to_string())
        .dataset("van_ban_dien_tu")
        .original(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn status(id: &str, code: &str) -> Sample {
    let data = json!({"loai_ban_ghi": "trang_thai", "ma_van_ban": id, "trang_thai": code, "tu": {"ma": "000.00.13.H53"}});
    Sample::new(id, &data.to_string()).dataset("van_ban_dien_tu")
}

fn golden(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(
        root.join("tests/golden/edxml")
            .join(name)
            .join("input.edxml"),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_go_out_as_they_are_and_each_status_once() {
    let hub = Hub::new();
    let (port, axis) = (free_port(), Axis::default());
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    fs::write(hub.path("bi-mat"), "sai").unwrap();
    configure(
        &hub,
        &format!(
            "[[output]]\nname = \"truc\"\nkind = \"edxml\"\ndatasets = [\"van_ban_dien_tu\"]\n\
             url = \"http://127.0.0.1:{port}/v1\"\nsystem_id = \"TNI01\"\nsecret_file = \"bi-mat\"\n\
             retry = [\"500 ms\", \"1 s\"]\n"
        ),
    );
    let files = ["document", "rubbish-before-declaration", "utf16", "recall"].map(golden);
    let ids: Vec<String> = (0..5)
        .map(|n| format!("000.00.12.H53,2026/11/20,{n}/UBND"))
        .collect();
    office.send(vec![
        document(&ids[0], &files[0]),
        status(&ids[0], "01"),
        status(&ids[0], "01"),
        status(&ids[0], "03"),
        document(&ids[1], &files[1]),
        // The same document once more, as a source that was set back would bring it.
        document(&ids[1], &files[1]),
        document(&ids[2], &files[2]),
        Sample::new(
            &ids[4],
            r#"{"loai_ban_ghi":"van_ban","ma_van_ban":"x","tu":{"ma":"H53"}}"#,
        )
        .dataset("van_ban_dien_tu"),
        document(&ids[3], &files[3]),
        status(&ids[3], "13"),
        status("H53,2026/11/20,khac", "05"),
    ]);
    let daemon = Daemon::start(&hub).await;
    // The axis is away; then the secret is wrong; both stop the output and lose nothing.
    let standing = until(&hub, "truc", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["trouble"]["code"], "connect", "{standing}");
    let _server = serve(&axis, port).await;
    let standing = until(&hub, "truc", "the code is told", |standing| {
        standing["trouble"]["code"] == "axis_code"
    });
    assert!(
        standing["trouble"]["vi"]
            .as_str()
            .unwrap()
            .contains("mã 15")
    );
    // An error of the axis is waited out, then an unknown receiver is a person's affair.
    axis.0.lock().unwrap().answers = vec![18, 20];
    fs::write(hub.path("bi-mat"), "bi-mat").unwrap();
    let standing = until(&hub, "truc", "the rest went out", |standing| {
        standing["waiting"] == 0 && standing["state"] == "working"
    });
    assert_eq!(
        (&standing["parked"], &standing["behind"]),
        (&2.into(), &3.into()),
        "{standing}"
    );
    let why: Vec<String> = parked(&hub, "truc")
        .iter()
        .filter_map(|held| Some(held["detail"].as_str()?.to_owned()))
        .filter(|detail| !detail.is_empty())
        .collect();
    assert_eq!(why[0], "code 18: receiver unknown");
    assert_eq!(why.len(), 2);
    {
        let seen = axis.0.lock().unwrap();
        assert_eq!(seen.documents, files[1..].to_vec(), "byte for byte");
        assert_eq!(
            seen.statuses,
            [
                ("3".to_owned(), "13".to_owned()),
                ("H53,2026/11/20,khac".to_owned(), "05".to_owned())
            ]
        );
    }
    hub.ok(&["outputs", "retry", "truc"]);
    until(&hub, "truc", "what waited went out", |standing| {
        standing["behind"] == 0 && standing["parked"] == 1
    });
    // Again from the beginning: the axis hears nothing twice.
    hub.ok(&["outputs", "rewind", "truc"]);
    until(&hub, "truc", "all of it was looked at", |standing| {
        standing["delivered"] == 20 && standing["waiting"] == 0
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    {
        let seen = axis.0.lock().unwrap();
        assert_eq!(seen.documents.len(), 4);
        assert_eq!(seen.documents[3], files[0]);
        let of_first: Vec<&str> = seen
            .statuses
            .iter()
            .map(|(_, code)| code.as_str())
            .collect();
        assert_eq!(of_first, ["13", "05", "01", "03"]);
        assert_eq!(seen.statuses[2].0, "4", "by the axis's own id");
    }
    assert_eq!(daemon.stop(), 0);
}
