//! The box's HTTP API, against the real program: every answer, repeats across a SIGKILL, bursts,
//! state secrets, a full lane, a full disk, slow clients, the ordered stop.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use lienthong::evidence::sha256;
use lienthong::model::UnixMs;
use lienthong::model::down::Down;
use lienthong::store::Options;
use lienthong::store::down::DownStore;
use lienthong::store::orders::SettingRow;
use nix::sys::signal::Signal;
use rig::{Broker, DATASET, Rig, TOKEN, agent, dossier, run, tramd, wait_for};
use serde_json::{Value, json};

const XA: &str = "xa-tan-bien";
const AGENCY: &str = "H53.12";
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// A box without a hub, configured with some more lines.
fn lonely_box(lines: &str) -> Rig {
    let mut rig = Rig::start(Broker::Embedded);
    rig.kill_hub();
    add_box(&mut rig, lines);
    rig.start_box(XA);
    rig
}

fn add_box(rig: &mut Rig, lines: &str) {
    let port = rig.port;
    rig.add_box(XA, AGENCY, port);
    let token = format!(
        "[[http.token]]\nname = \"mot-cua\"\ndatasets = [\"{DATASET}\", \"van_ban_dien_tu\"]\n{lines}\n"
    );
    fs::write(rig.boxes[XA].folder.join("tramd.d/20-more.toml"), token).expect("written");
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn ids(&self) -> Vec<&str> {
        let accepted = self.body["accepted"].as_array().expect("a list");
        accepted
            .iter()
            .map(|one| one["id"].as_str().expect("an id"))
            .collect()
    }
}

/// Posts with the token unless the headers say otherwise.
fn post(rig: &Rig, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    post_bytes(rig, path, headers, body.as_bytes())
}

fn post_bytes(rig: &Rig, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let url = format!("http://127.0.0.1:{}{path}", rig.boxes[XA].http_port);
    let mut request = agent().post(url);
    if !headers.iter().any(|(name, _)| *name == "authorization") {
        request = request.header("authorization", format!("Bearer {TOKEN}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.send(body).expect("the box answers");
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
        .collect();
    let text = answer.body_mut().read_to_string().expect("a body");
    let status = answer.status().as_u16();
    let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    Answer {
        status,
        headers,
        body,
    }
}

/// A whole request with records, for a connection of the test's own.
fn raw_request(body: &str) -> String {
    format!(
        "POST /v1/records/{DATASET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: {JSON}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn records(rig: &Rig, body: &str) -> Answer {
    post(
        rig,
        &format!("/v1/records/{DATASET}"),
        &[("content-type", JSON)],
        body,
    )
}

fn get(rig: &Rig, path: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}{path}", rig.boxes[XA].http_port);
    let mut answer = agent().get(url).call().expect("the box answers");
    (
        answer.status().as_u16(),
        answer.body_mut().read_to_string().expect("a body"),
    )
}

fn with_id(n: u32, id: &str) -> String {
    dossier(AGENCY, n).replacen('{', &format!("{{\"id\":\"{id}\","), 1)
}

fn store(rig: &Rig) -> PathBuf {
    rig.boxes[XA].folder.join("box.db")
}

// === Every answer, and the description of them ===

#[test]
fn every_status_is_as_described() {
    let mut rig = lonely_box("[http]\nbody_max = \"64 KiB\"\n");
    let good = dossier(AGENCY, 1);
    let path = format!("/v1/records/{DATASET}");
    let json = ("content-type", JSON);
    let key = ("idempotency-key", "k1");
    let ask = |path: &str, headers: &[(&str, &str)], body: &str| post(&rig, path, headers, body);
    let large = format!("{{\"ma_ho_so\":\"{}\"}}", "x".repeat(70_000));
    let many = format!("[{}{{}}]", "{},".repeat(10_000));
    let seen = [
        (201, ask(&path, &[json], &good)),
        (201, ask(&path, &[json, key], &dossier(AGENCY, 2))),
        (200, ask(&path, &[json, key], &dossier(AGENCY, 2))),
        (409, ask(&path, &[json, key], &dossier(AGENCY, 3))),
        (201, ask(&path, &[json], &with_id(4, "a-4"))),
        (200, ask(&path, &[json], &with_id(4, "a-4"))),
        (409, ask(&path, &[json], &with_id(5, "a-4"))),
        (200, ask(&path, &[json], "[]")),
        (400, ask(&path, &[json], "{\"a\":1")),
        (400, ask(&path, &[json], "")),
        (400, ask(&format!("{path}?op=burn"), &[json], &good)),
        (
            400,
            ask(&format!("{path}?op=upsert&op=delete"), &[json], &good),
        ),
        (400, ask(&path, &[json, ("idempotency-key", "")], &good)),
        (
            401,
            ask(&path, &[json, ("authorization", "Bearer nobody")], &good),
        ),
        (
            401,
            ask(&path, &[json, ("authorization", "Basic eDp5")], &good),
        ),
        (403, ask("/v1/records/ho_tich", &[json], &good)),
        (404, ask("/v1/records/khong_co", &[json], &good)),
        (404, ask("/v1/records/KHÔNG", &[json], &good)),
        (404, ask("/v1/elsewhere", &[json], &good)),
        (405, ask("/status.json", &[json], &good)),
        (413, ask(&path, &[json], &large)),
        (413, ask(&path, &[json], &many)),
        (
            415,
            ask(&path, &[("content-type", "application/pdf")], &good),
        ),
        (422, ask(&path, &[json], "{}")),
        (201, ask(&format!("{path}?op=delete"), &[json], &good)),
        (201, ask(&format!("{path}?op=snapshot"), &[json], &good)),
    ];
    rig.process(XA).signal(Signal::SIGTERM);
    for (number, (expected, answer)) in seen.iter().enumerate() {
        assert_eq!(answer.status, *expected, "answer {number}: {}", answer.body);
        let kind = answer.header("content-type").expect("a type");
        let (schema, expected_kind) = match answer.status {
            200 | 201 => ("Accepted", JSON),
            _ => ("Problem", "application/problem+json"),
        };
        assert_eq!(kind, expected_kind, "answer {number}");
        assert_fits(schema, &answer.body);
        if answer.status >= 400 {
            let title = answer.body["title"].as_str().expect("a title");
            assert!(title.contains(" / "), "Vietnamese and English: {title}");
        }
    }
    let delete = &seen[24].1.body["accepted"][0];
    let snapshot = &seen[25].1.body["accepted"][0];
    assert_eq!(
        (delete["lane"].as_str(), snapshot["lane"].as_str()),
        (Some("P1"), Some("P4"))
    );
    let too_many = seen[21].1.body["detail"].as_str().expect("a text");
    assert!(too_many.contains("10000 bản ghi"), "{too_many}");
    let challenge = &seen[13].1;
    assert!(
        challenge
            .header("www-authenticate")
            .is_some_and(|value| value.starts_with("Bearer"))
    );
    // What the description promises of this call is what was seen, and two that take special means.
    let described: Vec<String> = openapi()["paths"]["/v1/records/{dataset}"]["post"]["responses"]
        .as_object()
        .expect("responses")
        .keys()
        .cloned()
        .collect();
    let mut found: Vec<String> = seen.iter().map(|(status, _)| status.to_string()).collect();
    found.extend(["408", "503"].map(str::to_owned));
    found.retain(|status| status != "405");
    found.sort();
    found.dedup();
    assert_eq!(described, found);
}

fn openapi() -> Value {
    serde_json::from_str(include_str!("../docs/openapi.json")).expect("JSON")
}

/// Holds an answer against the description's schema of that name.
fn assert_fits(schema: &str, body: &Value) {
    let mut root = openapi()["components"]["schemas"][schema].clone();
    root["components"] = openapi()["components"].clone();
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .build(&root)
        .expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{schema}: {errors:?}\n{body}");
}

/// Writes what a hub would have sent.
fn from_the_hub(rig: &Rig) {
    let options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };
    let path = rig.boxes[XA].folder.join("down.db");
    let box_id = XA.parse().expect("a box");
    let mut store = DownStore::open(&path, options, &box_id).expect("a store");
    store.begin().expect("begun");
    for down in [
        json!({"load": {"dataset": "ho_tich", "load": 5, "subjects": 9, "seen": 1, "done": false, "at": 7}}),
        json!({"document": {"id": "vb-1", "dataset": "van_ban_dien_tu", "schema": 1,
            "subject": "142/UBND", "from": "H53.07", "to": AGENCY, "at": 7, "data": {"so": 142}}}),
        json!({"command": {"id": "c-1", "name": "restart", "arguments": {}, "expires": 7,
            "by": "Lê Thị Mẫu", "signature": ""}}),
    ] {
        let down: Down = serde_json::from_value(down).expect("an entry");
        assert!(
            store
                .apply(&down, UnixMs(1_790_000_000_000))
                .expect("applied")
        );
    }
    store
        .put_setting(&SettingRow {
            name: "bandwidth".to_owned(),
            value: r#"["07:30-17:00 256"]"#.to_owned(),
            by: "Lê Thị Mẫu".to_owned(),
            at: UnixMs(7),
        })
        .expect("written");
    store.commit().expect("committed");
}

#[test]
fn the_pages_are_there_and_as_described() {
    let rig = lonely_box("");
    assert_eq!(records(&rig, &dossier(AGENCY, 1)).status, 201);
    let (status, text) = get(&rig, "/v1/openapi.json");
    assert_eq!(
        (status, serde_json::from_str::<Value>(&text).expect("JSON")),
        (200, openapi())
    );
    let (status, text) = get(&rig, "/status.json");
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert_fits("Status", &body);
    assert_eq!(body["lanes"][1]["waiting"], 1);
    from_the_hub(&rig);
    let (_, text) = get(&rig, "/status.json");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_fits("Status", &told);
    let down = &told["down"];
    assert_eq!(down["copies"][0]["load"], json!({"seen": 1, "of": 9}));
    assert_eq!(down["copies"][0]["subjects"], 0);
    assert_eq!(down["inbox"]["unread"], 1);
    assert_eq!(down["inbox"]["by_status"], json!({"01": 1}));
    // What nobody has signed is refused.
    assert!(["waiting", "refused"].contains(&down["commands"][0]["state"].as_str().expect("text")));
    assert_eq!(told["bandwidth"], json!(["07:30-17:00 256"]));
    let config = rig.boxes[XA].folder.join("tramd.toml");
    let printed = run(tramd().args(["status", "--config"]).arg(config), 0).stdout;
    let printed = String::from_utf8(printed).expect("UTF-8");
    for part in [
        "Bản sao ho_tich",
        "1 văn bản chưa tiếp nhận",
        "Lịch giờ",
        "restart",
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    assert_eq!(body["link"]["state"], "down");
    assert_eq!(body["link"]["reason"]["code"], "tcp-refused");
    assert_eq!(get(&rig, "/healthz").0, 200);
    assert_eq!(get(&rig, "/readyz").0, 200);
    let (status, text) = get(&rig, "/metrics");
    assert!(status == 200 && text.contains("lienthong_"), "{text}");
    let (status, text) = get(&rig, "/");
    assert!(status == 200 && text.contains("Trạm liên thông"), "{text}");
    for (path, described) in openapi()["paths"].as_object().expect("paths") {
        if !path.contains('{') {
            let expected = match described["get"]["security"].is_null() {
                true => 200,
                false => 401,
            };
            assert_eq!(get(&rig, path).0, expected, "{path}");
        }
    }
}

// === Faults ===

#[test]
fn every_fault_of_a_batch_is_told_with_its_pointer_and_nothing_is_kept() {
    let rig = lonely_box("");
    let broken = dossier(AGENCY, 2)
        .replace("\"phi\":8000", "\"phi\":\"nhiều\"")
        .replace("\"buoc\":3", "\"buoc\":-1");
    let body = format!("[{},{broken},{{\"ma_ho_so\":7}}]", dossier(AGENCY, 1));
    let answer = records(&rig, &body);
    assert_eq!(answer.status, 422);
    let pointers: Vec<&str> = answer.body["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| error["pointer"].as_str().expect("a pointer"))
        .collect();
    for pointer in [
        "/1/phi",
        "/1/buoc",
        "/2/ma_ho_so",
        "/2/ma_tthc",
        "/2/trang_thai_goc",
    ] {
        assert!(pointers.contains(&pointer), "{pointer} in {pointers:?}");
    }
    assert!(
        !pointers.iter().any(|pointer| pointer.starts_with("/0")),
        "{pointers:?}"
    );
    assert!(
        !answer.body.to_string().contains("nhiều"),
        "no value of a personal record is quoted"
    );
    assert_eq!(rig.waiting(XA), 0);
    let answer = records(&rig, &dossier(AGENCY, 1));
    assert_eq!(
        answer.body["accepted"][0]["seq"], 1,
        "nothing was kept before it"
    );
}

#[test]
fn ndjson_is_taken_line_by_line_and_its_faults_name_the_line() {
    let rig = lonely_box("");
    let path = format!("/v1/records/{DATASET}");
    let body = format!("{}\r\n\n{}\n", dossier(AGENCY, 1), dossier(AGENCY, 2));
    let answer = post(&rig, &path, &[("content-type", NDJSON)], &body);
    assert_eq!(
        (answer.status, answer.ids().len()),
        (201, 2),
        "{}",
        answer.body
    );
    let body = format!("{}\n{{\"a\":\nnonsense\n", dossier(AGENCY, 3));
    let answer = post(
        &rig,
        &path,
        &[("content-type", "application/x-ndjson; charset=utf-8")],
        &body,
    );
    assert_eq!(answer.status, 400, "{}", answer.body);
    let lines: Vec<u64> = answer.body["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| error["line"].as_u64().expect("a line"))
        .collect();
    assert_eq!(lines, [2, 3]);
    assert_eq!(rig.waiting(XA), 2);
}

#[test]
fn a_state_secret_is_refused_and_the_hub_hears_of_it_but_not_of_its_content() {
    let rig = lonely_box("");
    let path = "/v1/records/van_ban_dien_tu";
    let secret = json!({
        "loai_ban_ghi": "van_ban", "ma_van_ban": "1", "tu": {"ma": AGENCY},
        "do_mat": "Tuyệt mật", "trich_yeu": "noi-dung-rat-mat"
    });
    let mut answer = post(&rig, path, &[("content-type", JSON)], &secret.to_string());
    if answer.body["type"] != "urn:lienthong:problem:state-secret" {
        let secret = secret.to_string().replace("Tuyệt mật", "tuyet_mat");
        answer = post(&rig, path, &[("content-type", JSON)], &secret);
    }
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(
        answer.body["type"], "urn:lienthong:problem:state-secret",
        "{}",
        answer.body
    );
    assert!(
        !answer.body.to_string().contains("noi-dung"),
        "{}",
        answer.body
    );
    let status = rig.status(XA);
    assert_eq!(
        status["lanes"][0]["waiting"], 1,
        "one alarm in P0: {}",
        status["lanes"]
    );
    let event = &status["events"][0];
    assert_eq!(
        (event["level"].as_str(), event["code"].as_str()),
        (Some("alarm"), Some("state_secret"))
    );
    for _ in 0..5 {
        let secret = secret.to_string().replace("Tuyệt mật", "tuyet_mat");
        assert_eq!(
            post(&rig, path, &[("content-type", JSON)], &secret).status,
            422
        );
    }
    let entries = entries(&rig);
    assert_eq!(
        entries.len(),
        1,
        "a storm of refusals is one alarm a minute"
    );
    assert_eq!(entries[0]["type"], "an_toan_thiet_bi/1");
    assert_eq!(entries[0]["data"]["thiet_bi"], XA);
    assert!(
        !entries[0].to_string().contains("noi-dung"),
        "{}",
        entries[0]
    );
}

/// What lies in the box's outbox, read with our own SQL.
fn entries(rig: &Rig) -> Vec<Value> {
    let connection = rusqlite::Connection::open(store(rig)).expect("the box's store");
    let mut statement = connection
        .prepare("SELECT raw_bytes, body FROM outbox ORDER BY place")
        .expect("SQL");
    let blocks = statement
        .query_map([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .expect("rows");
    let mut entries = Vec::new();
    for block in blocks {
        let (raw_bytes, body) = block.expect("a row");
        let raw = zstd::bulk::decompress(&body, raw_bytes as usize).expect("zstd");
        let mut decoder = minicbor::Decoder::new(&raw);
        while let Ok(entry) = decoder.bytes() {
            entries.push(serde_json::from_slice(entry).expect("JSON"));
        }
    }
    entries
}

// === Repeats and commits ===

#[test]
fn repeats_are_harmless_even_across_a_sigkill() {
    let mut rig = lonely_box("");
    let path = format!("/v1/records/{DATASET}");
    let headers = [("content-type", JSON), ("idempotency-key", "lan-gui-1")];
    let first = post(&rig, &path, &headers, &dossier(AGENCY, 1));
    let second = records(&rig, &with_id(2, "hs-2"));
    assert_eq!((first.status, second.status), (201, 201));
    rig.kill_box(XA);
    rig.start_box(XA);
    let again = post(&rig, &path, &headers, &dossier(AGENCY, 1));
    assert_eq!((again.status, again.ids()), (200, first.ids()));
    let again = records(&rig, &with_id(2, "hs-2"));
    assert_eq!((again.status, again.ids()), (200, vec!["hs-2"]));
    // A batch that is partly known: what is new is kept, the rest keeps its first answer.
    let body = format!("[{},{}]", with_id(2, "hs-2"), with_id(3, "hs-3"));
    let mixed = records(&rig, &body);
    assert_eq!((mixed.status, mixed.ids()), (201, vec!["hs-2", "hs-3"]));
    assert_eq!(mixed.body["accepted"][0], second.body["accepted"][0]);
    assert_eq!(rig.waiting(XA), 3);
    // Another dataset or another key is another thing.
    let other = [("content-type", JSON), ("idempotency-key", "lan-gui-2")];
    assert_eq!(post(&rig, &path, &other, &dossier(AGENCY, 1)).status, 201);
}

#[test]
fn a_burst_of_requests_shares_its_commits() {
    const CLIENTS: usize = 64;
    let mut rig = lonely_box("");
    let before = commits(&rig);
    rig.process(XA).signal(Signal::SIGSTOP);
    let port = rig.boxes[XA].http_port;
    let mut clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|n| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the kernel answers");
            let request = raw_request(&dossier(AGENCY, n as u32));
            client.write_all(request.as_bytes()).expect("written");
            client
        })
        .collect();
    rig.process(XA).signal(Signal::SIGCONT);
    for client in &mut clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    let made = commits(&rig) - before;
    println!("{CLIENTS} requests in {made} commits");
    assert_eq!(rig.waiting(XA), CLIENTS as u64);
    // Unoptimised, the check of a request takes as long as a commit, so that not all can share.
    assert!((1..=CLIENTS * 3 / 4).contains(&made), "{made} commits");
}

/// Commits in the write-ahead log: a frame that ends one names the database's size.
fn commits(rig: &Rig) -> usize {
    const PAGE: usize = 4096;
    let wal = fs::read(format!("{}-wal", store(rig).display())).expect("a write-ahead log");
    let salt = &wal[16..24];
    let frames = wal[32..].chunks_exact(24 + PAGE);
    frames
        .filter(|frame| &frame[8..16] == salt && frame[4..8] != [0; 4])
        .count()
}

// === Limits ===

/// A dossier that takes a kilobyte however well it is compressed.
fn bulky(n: u32) -> String {
    let noise: String = (0..32_u32)
        .flat_map(|part| sha256(format!("{n}/{part}").as_bytes()))
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let dossier = dossier(AGENCY, n);
    let open = dossier.strip_suffix('}').expect("a JSON object");
    format!(r#"{open},"ghi_chu":"{noise}"}}"#)
}

#[test]
fn a_full_lane_refuses_and_takes_again_once_the_hub_has_received() {
    let mut rig =
        lonely_box("[store]\nquota = \"8 MiB\"\nreserve = \"0 B\"\ntail_keep = \"0 s\"\n");
    let mut n = 0;
    let refused = loop {
        let group: Vec<String> = (n..n + 200).map(bulky).collect();
        n += 200;
        let answer = records(&rig, &format!("[{}]", group.join(",")));
        match answer.status {
            201 => assert!(n < 100_000, "the lane never fills"),
            _ => break answer,
        }
    };
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.body["type"], "urn:lienthong:problem:lane-full");
    assert!(refused.header("retry-after").is_some());
    assert_fits("Problem", &refused.body);
    let waiting = rig.waiting(XA);
    assert_eq!(waiting, u64::from(n) - 200, "all or nothing");
    // Another lane still takes.
    let path = format!("/v1/records/{DATASET}?op=snapshot");
    assert_eq!(
        post(&rig, &path, &[("content-type", JSON)], &dossier(AGENCY, 0)).status,
        201
    );
    rig.start_hub();
    rig.wait_until_drained(XA, Duration::from_secs(60));
    assert_eq!(records(&rig, &dossier(AGENCY, n)).status, 201);
    rig.wait_until_drained(XA, Duration::from_secs(60));
    assert_eq!(rig.at_hub(XA).len() as u64, waiting + 1);
}

#[test]
fn slow_clients_do_not_starve_others() {
    let rig = lonely_box("[http]\nconnections = 4\n");
    let port = rig.boxes[XA].http_port;
    let slow: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
            client
                .write_all(b"POST /v1/records/ho_so_tthc HTTP/1.1\r\nHost: x\r\n")
                .expect("written");
            client
        })
        .collect();
    let begun = Instant::now();
    let answer = records(&rig, &dossier(AGENCY, 1));
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
    drop(slow);
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let rig = lonely_box("");
    let mut client = TcpStream::connect(("127.0.0.1", rig.boxes[XA].http_port)).expect("connected");
    write!(
        client,
        "POST /v1/records/{DATASET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: {JSON}\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{{"
    )
    .expect("written");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert_fits("Problem", &serde_json::from_str(body).expect("JSON"));
}

#[test]
fn the_network_is_served_over_tls_only() {
    use lienthong::hub::authority::Authority;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    let mut rig = Rig::start(Broker::Embedded);
    rig.kill_hub();
    let hub = rig.hub_folder();
    let authority = Authority::open(&hub).expect("the hub's authority");
    let now = lienthong::model::UnixMs(1_790_000_000_000);
    let issued = authority
        .issue_server(&["localhost".to_owned()], now)
        .expect("issued");
    let files = rig.folder.path().join("lan");
    fs::create_dir(&files).expect("a folder");
    fs::write(files.join("lan.crt"), issued.cert_pem).expect("written");
    fs::write(files.join("lan.key"), issued.key_pem).expect("written");
    let folder = files.display();
    add_box(
        &mut rig,
        &format!("[http]\ncertificate = \"{folder}/lan.crt\"\nkey = \"{folder}/lan.key\"\n"),
    );
    rig.launch_box(XA);
    let port = rig.boxes[XA].http_port;
    wait_for("the box listens", Duration::from_secs(20), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let mut roots = rustls::RootCertStore::empty();
    let pem = authority.certificate_pem().as_bytes().to_vec();
    roots
        .add(CertificateDer::from_pem_slice(&pem).expect("PEM"))
        .expect("a root");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let session =
        rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a session");
    let tcp = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let mut stream = rustls::StreamOwned::new(session, tcp);
    let request = raw_request(&dossier(AGENCY, 1));
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    // A peer that closes without a TLS goodbye is told of as an error; what it said counts.
    let _ = stream.read_to_end(&mut answer);
    assert!(
        answer.starts_with(b"HTTP/1.1 201"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    plain
        .write_all(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("written");
    let mut answer = String::new();
    let _ = plain.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 307"), "{answer}");
    // Commands on this machine need neither the network nor a token.
    let status = run(
        tramd()
            .args(["status", "--json", "--config"])
            .arg(rig.boxes[XA].folder.join("tramd.toml")),
        0,
    );
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["lanes"][1]["waiting"], 1);
    assert!(
        status["running_since"].is_string(),
        "it comes from the daemon"
    );
}

#[test]
fn a_full_disk_refuses_keeps_what_it_has_and_is_left_again() {
    let mount = tempfile::tempdir().expect("a folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
        .arg(mount.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no right to mount a small file system");
        return;
    }
    let _unmount = Unmount(mount.path().to_owned());
    let mut rig = Rig::start(Broker::Embedded);
    rig.kill_hub();
    let path = mount.path().join("box.db").display().to_string();
    add_box(
        &mut rig,
        &format!(
            "[store]\npath = \"{path}\"\nreserve = \"12 MiB\"\ntail_keep = \"0 s\"\ntail_size = \"0 B\"\n"
        ),
    );
    rig.start_box(XA);
    let mut kept = 0;
    let refused = loop {
        let group: Vec<String> = (kept..kept + 500).map(bulky).collect();
        let answer = records(&rig, &format!("[{}]", group.join(",")));
        match answer.status {
            201 => kept += 500,
            _ => break answer,
        }
        assert!(kept < 1_000_000, "the disk never fills");
    };
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    assert!(kept > 500, "{kept}");
    wait_for("the store is open again", Duration::from_secs(20), || {
        get(&rig, "/status.json").1.contains("\"store_full\"") && rig.waiting(XA) > 0
    });
    assert_eq!(get(&rig, "/readyz").0, 503);
    assert_eq!(
        rig.waiting(XA),
        u64::from(kept),
        "what was accepted is there"
    );
    // The hub comes, receipts make room, and the box takes records again by itself.
    rig.start_hub();
    rig.wait_until_drained(XA, Duration::from_secs(90));
    wait_for("records are taken again", Duration::from_secs(100), || {
        records(&rig, &dossier(AGENCY, kept)).status == 201
    });
    rig.wait_until_drained(XA, Duration::from_secs(60));
    let at_hub = rig.at_hub(XA);
    assert_eq!(at_hub.len() as u32, kept + 1);
    wait_for("space is held back again", Duration::from_secs(150), || {
        fs::metadata(format!("{path}.reserve")).is_ok_and(|facts| facts.len() == 12 << 20)
    });
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_damaged_store_is_set_aside_and_the_box_goes_on() {
    let mut rig = lonely_box("");
    for n in 0..20 {
        assert_eq!(records(&rig, &dossier(AGENCY, n)).status, 201);
    }
    rig.process(XA).signal(Signal::SIGTERM);
    rig.process(XA)
        .wait(Duration::from_secs(15))
        .expect("it ends in time");
    rig.kill_box(XA);
    fs::write(store(&rig), vec![0x5a; 100_000]).expect("overwritten");
    rig.start_box(XA);
    wait_for("a new store is in use", Duration::from_secs(20), || {
        get(&rig, "/readyz").0 == 200
    });
    assert_eq!(records(&rig, &dossier(AGENCY, 99)).status, 201);
    let status = rig.status(XA);
    let codes: Vec<&str> = status["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event["code"].as_str())
        .collect();
    assert!(codes.contains(&"store_set_aside"), "{codes:?}");
    let kept = fs::read_dir(&rig.boxes[XA].folder)
        .expect("the folder")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|name| name.contains(".damaged-"))
        .count();
    assert!(kept >= 1);
    rig.start_hub();
    rig.wait_until_drained(XA, Duration::from_secs(60));
    assert_eq!(rig.at_hub(XA).len(), 1);
}

// === Stop ===

#[test]
fn the_ordered_stop_finishes_the_request_in_hand_and_writes_the_counts_down() {
    let mut rig = lonely_box("");
    let port = rig.boxes[XA].http_port;
    let body = dossier(AGENCY, 1);
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    write!(
        client,
        "POST /v1/records/{DATASET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: {JSON}\r\nContent-Length: {}\r\n\r\n{}",
        body.len(),
        &body[..100]
    )
    .expect("written");
    std::thread::sleep(Duration::from_millis(300));
    rig.process(XA).signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    client
        .write_all(&body.as_bytes()[100..])
        .expect("the connection still stands");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let ended = rig
        .process(XA)
        .wait(Duration::from_secs(15))
        .expect("it ends in time");
    assert_eq!(ended.code(), Some(0));
    let output = run(
        tramd()
            .args(["status", "--json", "--config"])
            .arg(rig.boxes[XA].folder.join("tramd.toml")),
        0,
    );
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_fits("Status", &status);
    assert_eq!(status["link"]["state"], "stopped");
    assert_eq!(status["sources"][0]["accepted"], 1);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut rig = lonely_box("");
    let port = rig.boxes[XA].http_port;
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    write!(
        client,
        "POST /v1/records/{DATASET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: {JSON}\r\nContent-Length: 1000\r\n\r\n{{"
    )
    .expect("written");
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    rig.process(XA).signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        rig.process(XA).wait(Duration::ZERO).is_none(),
        "the first signal waits for the request"
    );
    rig.process(XA).signal(Signal::SIGINT);
    rig.process(XA)
        .wait(Duration::from_secs(3))
        .expect("the second does not");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

// === Files and events ===

fn golden(path: &str) -> Vec<u8> {
    fs::read(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(path),
    )
    .expect("a golden file")
}

/// Records that wait in all lanes.
fn waiting(rig: &Rig) -> u64 {
    let status: Value = serde_json::from_str(&get(rig, "/status.json").1).expect("JSON");
    let lanes = status["lanes"].as_array().expect("lanes").clone();
    lanes
        .iter()
        .map(|lane| lane["waiting"].as_u64().expect("a number"))
        .sum()
}

fn form(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, kind, content) in parts {
        let head = format!(
            "--ranh-gioi\r\nContent-Disposition: form-data; name=\"tep\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--ranh-gioi--\r\n");
    body
}

const TABLE: &str = "Mã hồ sơ;ma_tthc;co_quan_tiep_nhan;co_quan_giai_quyet;nguoi_nop.loai;nguoi_nop.ho_ten;ngay_tiep_nhan;trang_thai_goc;trang_thai_chuan;le_phi\nH53.12-261120-0001;1.001193;H53.12;H53.12;ca_nhan;Lê Thị Mận;20/11/2026 08:12;Đang thụ lý;DANG_XU_LY;15.000\n";

#[test]
fn csv_is_taken_whole_in_the_encoding_that_the_request_says() {
    let rig = lonely_box("");
    let path = format!("/v1/records/{DATASET}?decimal=%2C");
    let csv = |kind: &str, body: &[u8]| {
        post_bytes(
            &rig,
            &path,
            &[("content-type", kind), ("idempotency-key", "k1")],
            body,
        )
    };
    let first = csv("text/csv; charset=utf-8", TABLE.as_bytes());
    assert_eq!(first.status, 201, "{}", first.body);
    assert_fits("Accepted", &first.body);
    let again = csv("text/csv", TABLE.as_bytes());
    assert_eq!((again.status, again.ids()), (200, first.ids()));
    let path = format!("/v1/records/{DATASET}");
    let plain = |kind: &str, body: &[u8]| post_bytes(&rig, &path, &[("content-type", kind)], body);
    for (kind, body, status, part) in [
        ("text/csv", TABLE.to_owned(), 400, "hai cách"),
        ("text/csv; charset=koi8-r", TABLE.to_owned(), 400, "koi8-r"),
        ("text/csv", TABLE.replace("le_phi", "gi_do"), 400, "gi_do"),
        (
            "text/csv",
            TABLE.replace("15.000", "1").replace("1.001193", "x"),
            422,
            "/ma_tthc",
        ),
        (
            "text/csv",
            TABLE.replace("15.000", "1").replace("20/11", "31/11"),
            400,
            "dòng 2, cột 7",
        ),
    ] {
        let answer = plain(kind, body.as_bytes());
        assert_eq!(answer.status, status, "{part}: {}", answer.body);
        assert_fits("Problem", &answer.body);
        assert!(
            answer.body.to_string().contains(part),
            "{part}: {}",
            answer.body
        );
    }
    let answer = plain(
        "text/csv",
        TABLE
            .replace("15.000", "1")
            .replace("20/11", "31/11")
            .as_bytes(),
    );
    let error = &answer.body["errors"][0];
    assert_eq!(
        (&error["line"], &error["column"]),
        (&json!(2), &json!(7)),
        "{error}"
    );
    let answer = plain(
        "text/csv",
        TABLE
            .replace("15.000", "1")
            .replace("1.001193", "x")
            .as_bytes(),
    );
    let error = &answer.body["errors"][0];
    assert_eq!(
        (&error["line"], &error["record"]),
        (&json!(2), &json!(0)),
        "{error}"
    );
    assert_eq!(error["pointer"], "/ma_tthc");
    // In TCVN3, told and found.
    let table = TABLE
        .replace("15.000", "1")
        .replace("Mã hồ sơ", "ma_ho_so")
        .replace("Lê Thị Mận", "L\u{1}")
        .replace("Đang thụ lý", "\u{2}");
    let mut old: Vec<u8> = Vec::new();
    for byte in table.into_bytes() {
        match byte {
            1 => old.extend_from_slice(b"\xaa Th\xde M\xcbn"),
            2 => old.extend_from_slice(b"\xa7ang th\xf4 l\xfd"),
            byte => old.push(byte),
        }
    }
    for (kind, n) in [("text/csv; charset=tcvn3", b'2'), ("text/csv", b'3')] {
        let at = old
            .windows(12)
            .position(|window| window == b"261120-0001;")
            .map_or(0, |at| at + 10);
        let mut body = old.clone();
        if at > 0 {
            body[at] = n;
        }
        let answer = plain(kind, &body);
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    assert_eq!(waiting(&rig), 3);
    let names: Vec<Value> = entries(&rig)
        .into_iter()
        .map(|entry| entry["data"]["nguoi_nop"]["ho_ten"].clone())
        .collect();
    assert!(names.iter().all(|name| name == "Lê Thị Mận"), "{names:?}");
}

#[test]
fn a_form_is_taken_with_all_its_files_or_none() {
    let rig = lonely_box("");
    let kind = "multipart/form-data; boundary=ranh-gioi";
    let send = |dataset: &str, body: &[u8]| {
        post_bytes(
            &rig,
            &format!("/v1/records/{dataset}"),
            &[("content-type", kind), ("idempotency-key", "f1")],
            body,
        )
    };
    let record = dossier(AGENCY, 7);
    let table = TABLE.replace("15.000", "1");
    let good: [(&str, &str, &[u8]); 2] = [
        ("a.csv", "text/plain", table.as_bytes()),
        ("khong-ten", JSON, record.as_bytes()),
    ];
    let bad = [good[0], good[1], ("c.json", JSON, b"{\"ma_ho_so\":1}")];
    let refused = send(DATASET, &form(&bad));
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert_fits("Problem", &refused.body);
    assert!(
        refused.body.to_string().contains("tệp “c.json”"),
        "{}",
        refused.body
    );
    let error = &refused.body["errors"][0];
    assert_eq!(
        (&error["file"], &error["record"]),
        (&json!("c.json"), &json!(0))
    );
    let unknown = send(DATASET, &form(&[("a.pdf", "application/pdf", b"%PDF")]));
    assert_eq!(unknown.status, 400, "{}", unknown.body);
    assert_eq!(waiting(&rig), 0);
    let taken = send(DATASET, &form(&good));
    assert_eq!(
        (taken.status, taken.ids().len()),
        (201, 2),
        "{}",
        taken.body
    );
    assert_eq!(send(DATASET, &form(&good)).status, 200);
    let document = golden("edxml/document/input.edxml");
    let taken = send(
        "van_ban_dien_tu",
        &form(&[("142.edxml", "application/xml", &document)]),
    );
    assert_eq!(taken.status, 201, "{}", taken.body);
    assert_eq!(waiting(&rig), 4, "with the attachment's chunk");
    let not_a_form = send(DATASET, b"x");
    assert_eq!(not_a_form.status, 400);
    let blobs = rig.boxes[XA].folder.join("blobs");
    assert_eq!(fs::read_dir(blobs).expect("attachments").count(), 1);
}

#[test]
fn a_file_is_put_before_an_event_names_it() {
    let rig = lonely_box(
        "[store]\nattachment_max = \"1 MiB\"\nattachment_types = [\"application/pdf\"]\n",
    );
    let content = [b"%PDF-1.7 ".as_slice(), &[7; 150_000]].concat();
    let name: String = sha256(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let url = |name: &str| {
        format!(
            "http://127.0.0.1:{}/v1/blobs/{name}",
            rig.boxes[XA].http_port
        )
    };
    let put = |name: &str, kind: &str, content: &[u8]| {
        let request = agent()
            .put(url(name))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", kind);
        let mut answer = request.send(content).expect("the box answers");
        let body: Value = answer.body_mut().read_json().expect("JSON");
        (answer.status().as_u16(), body)
    };
    let state = || {
        let request = agent()
            .get(url(&name))
            .header("authorization", format!("Bearer {TOKEN}"));
        let mut answer = request.call().expect("the box answers");
        let body: Value = answer.body_mut().read_json().expect("JSON");
        (answer.status().as_u16(), body)
    };
    let event = |files: Value| {
        let data: Value = serde_json::from_str(&dossier(AGENCY, 1)).expect("JSON");
        let event = json!({"specversion": "1.0", "id": "e1", "source": "urn:mot-cua", "type": DATASET, "data": data, "attachments": files});
        post(
            &rig,
            &format!("/v1/records/{DATASET}"),
            &[("content-type", "application/cloudevents+json")],
            &event.to_string(),
        )
    };
    let named = |bytes: usize| json!([{"name": "don.pdf", "mime": "application/pdf", "bytes": bytes, "sha256": name}]);

    let early = event(named(content.len()));
    assert_eq!(early.status, 422, "{}", early.body);
    assert_fits("Problem", &early.body);
    assert!(early.body["hint"].as_str().expect("a hint").contains("PUT"));
    assert_eq!(state().0, 404);
    for (name, kind, content, status) in [
        ("xyz", "application/pdf", &content[..], 400),
        (&name, "application/pdf", b"MZ a program", 415),
        (&name, "application/pdf", &content[..1_000], 422),
        (&name, "text/plain", &content[..], 415),
        (&name, "application/pdf", &vec![b'%'; 2 << 20][..], 413),
    ] {
        let (found, body) = put(name, kind, content);
        assert_eq!(found, status, "{body}");
        assert_fits("Problem", &body);
    }
    assert_eq!(state().0, 404, "nothing refused is kept");
    for status in [201, 200] {
        let (found, body) = put(&name, "application/pdf", &content);
        assert_eq!((found, &body["state"]), (status, &json!("stored")));
        assert_fits("Blob", &body);
    }
    for wrong in [json!({}), json!([{"name": "a/b"}]), named(1)] {
        assert_eq!(event(wrong).status, 422);
    }
    assert_eq!(waiting(&rig), 0);
    let taken = event(named(content.len()));
    assert_eq!(taken.status, 201, "{}", taken.body);
    assert_eq!(event(named(content.len())).status, 200, "a repeat");
    assert_eq!(
        event(json!([])).status,
        409,
        "the same id without the file is another content"
    );
    let (_, body) = state();
    assert_fits("Blob", &body);
    assert_eq!(
        (&body["state"], &body["chunks"]),
        (&json!("waiting"), &json!(3))
    );
}

#[test]
fn cloud_events_are_taken_one_by_one_and_in_batches() {
    let rig = lonely_box("");
    let one = "application/cloudevents+json";
    let batch = "application/cloudevents-batch+json";
    let send = |kind: &str, body: &Value| {
        post(
            &rig,
            &format!("/v1/records/{DATASET}"),
            &[("content-type", kind)],
            &body.to_string(),
        )
    };
    let event = |n: u32, id: &str| {
        let data: Value = serde_json::from_str(&dossier(AGENCY, n)).expect("JSON");
        json!({"specversion": "1.0", "id": id, "source": "urn:mot-cua", "type": format!("{DATASET}/1"), "time": "2026-11-20T08:12:45+07:00", "subject": data["ma_ho_so"], "data": data, "traceparent": "x"})
    };
    let first = send(one, &event(1, "e1"));
    assert_eq!(
        (first.status, first.ids()),
        (201, vec!["e1"]),
        "{}",
        first.body
    );
    let again = send(one, &event(1, "e1"));
    assert_eq!((again.status, again.ids()), (200, vec!["e1"]));
    let both = send(batch, &json!([event(1, "e1"), event(2, "e2")]));
    assert_eq!(both.ids(), ["e1", "e2"], "{}", both.body);
    assert_eq!(send(one, &event(3, "e1")).status, 409, "another content");
    let mut wrong = event(4, "e4");
    for (name, value) in [
        ("specversion", json!("0.3")),
        ("id", json!(4)),
        ("source", json!("")),
        ("type", json!("x")),
        ("subject", json!(1)),
        ("time", json!("hôm nay")),
        ("datacontenttype", json!("text/xml")),
        ("data", json!("x")),
        ("op", json!("xoa")),
    ] {
        wrong[name] = value;
    }
    let answer = send(batch, &json!([event(5, "e5"), wrong]));
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_fits("Problem", &answer.body);
    let pointers: Vec<&str> = answer.body["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| error["pointer"].as_str().expect("a pointer"))
        .collect();
    for name in [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "data",
        "op",
    ] {
        assert!(
            pointers.contains(&format!("/1/{name}").as_str()),
            "{name}: {pointers:?}"
        );
    }
    let mut other = event(6, "e6");
    other["subject"] = json!("H53.12-261120-9999");
    let answer = send(one, &other);
    assert_eq!(
        (answer.status, answer.body["errors"][0]["pointer"].as_str()),
        (422, Some("/subject"))
    );
    let mut lacking = event(7, "e7");
    lacking["data"]["ma_tthc"] = json!("x");
    let answer = send(one, &lacking);
    assert_eq!(
        (answer.status, answer.body["errors"][0]["pointer"].as_str()),
        (422, Some("/data/ma_tthc"))
    );
    for (kind, body) in [(one, json!([event(8, "e8")])), (batch, event(8, "e8"))] {
        let answer = send(kind, &body);
        assert_eq!(answer.status, 422, "{}", answer.body);
    }
    let mut gone = event(9, "e9");
    gone["op"] = json!("delete");
    assert_eq!(send(one, &gone).status, 201);
    assert_eq!(waiting(&rig), 3);
}
