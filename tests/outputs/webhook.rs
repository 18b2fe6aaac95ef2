//! Kind `webhook` against a real HTTP server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ring::hmac;
use serde_json::Value;

use crate::live::Daemon;
use crate::stage::{Hub, Office, Sample, free_port};
use crate::{KILLS, configure, kill_in_the_middle, parked, until, until_empty};

const TOKEN: &str = "ma-truy-cap-thu";
const KEY: &str = "khoa-ky-thu";

/// What the server has seen and how it answers.
#[derive(Default)]
struct Seen {
    /// Each request that was taken: key and events, repeats too.
    taken: Vec<(String, Vec<Value>)>,
    /// Subjects that are answered 422.
    poison: BTreeSet<String>,
    /// Requests that are answered 503.
    busy: u32,
    times: Vec<Instant>,
    faults: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Target(Arc<Mutex<Seen>>);

async fn take(State(target): State<Target>, headers: HeaderMap, body: Bytes) -> Response {
    let mut seen = target.0.lock().unwrap();
    seen.times.push(Instant::now());
    if 0 < seen.busy {
        seen.busy -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "2")]).into_response();
    }
    let head = |name: &str| headers[name].to_str().unwrap().to_owned();
    if head("authorization") != format!("Bearer {TOKEN}") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let signature = head("x-lienthong-signature");
    let (time, tag) = signature.split_once(",v1=").unwrap();
    let signed = [time.strip_prefix("t=").unwrap().as_bytes(), b".", &body].concat();
    let tag: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&tag[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    if hmac::verify(&key, &signed, &tag).is_err() {
        seen.faults.push("a wrong signature".to_owned());
    }
    let value: Value = serde_json::from_slice(&body).unwrap();
    let events = match (head("content-type").as_str(), value) {
        ("application/cloudevents+json", event) => vec![event],
        ("application/cloudevents-batch+json", Value::Array(events)) => events,
        (kind, _) => panic!("{kind}"),
    };
    let subject = |event: &Value| event["subject"].as_str().unwrap().to_owned();
    if events
        .iter()
        .any(|event| seen.poison.contains(&subject(event)))
    {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    seen.taken.push((head("idempotency-key"), events));
    StatusCode::NO_CONTENT.into_response()
}

impl Target {
    pub fn router(&self) -> Router {
        Router::new()
            .route("/nhan", post(take))
            .with_state(self.clone())
    }

    async fn serve(&self, port: u16) -> tokio::task::JoinHandle<()> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
            .await
            .unwrap();
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
    }

    /// Events as a receiver keeps them that knows repeats by their key.
    pub fn kept(&self) -> Vec<Value> {
        let seen = self.0.lock().unwrap();
        assert_eq!(seen.faults, Vec::<String>::new());
        let mut known: BTreeMap<&str, &Vec<Value>> = BTreeMap::new();
        let mut kept = Vec::new();
        for (key, events) in &seen.taken {
            match known.insert(key, events) {
                Some(before) => assert_eq!(before, events, "a repeat says something else"),
                None => kept.extend(events.iter().cloned()),
            }
        }
        kept
    }
}

fn output(hub: &Hub, port: u16, more: &str) {
    output_to(hub, &format!("http://127.0.0.1:{port}/nhan"), more);
}

pub fn output_to(hub: &Hub, url: &str, more: &str) {
    fs::write(hub.path("token"), format!("{TOKEN}\n")).unwrap();
    fs::write(hub.path("khoa"), KEY).unwrap();
    configure(
        hub,
        &format!(
            "[[output]]\nname = \"day\"\nkind = \"webhook\"\ndatasets = [\"ho_so_tthc\"]\n\
             url = \"{url}\"\ntoken_file = \"token\"\nhmac_key_file = \"khoa\"\n{more}"
        ),
    );
}

/// All steps once, and rising within each subject.
pub fn assert_complete(events: &[Value], count: u64) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut all = Vec::new();
    for event in events {
        let step = event["data"]["buoc"].as_u64().unwrap();
        let subject = event["subject"].as_str().unwrap().to_owned();
        if let Some(before) = last.insert(subject.clone(), step) {
            assert!(before < step, "{subject}: {step} after {before}");
        }
        all.push(step);
    }
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_arrives_once_and_in_order_through_kills() {
    let hub = Hub::new();
    let (port, target) = (free_port(), Target::default());
    let _server = target.serve(port).await;
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    output(&hub, port, "");
    let count = kill_in_the_middle(&hub, &mut office, KILLS, 150).await;
    let daemon = Daemon::start(&hub).await;
    until_empty(&hub, "day");
    assert_complete(&target.kept(), count);
    assert_eq!(daemon.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_entry_parks_with_what_follows_it_and_is_replayed() {
    for more in ["", "events = 50\n"] {
        let hub = Hub::new();
        let (port, target) = (free_port(), Target::default());
        let _server = target.serve(port).await;
        target.0.lock().unwrap().poison = ["H53.01-3".to_owned(), "H53.01-4".to_owned()].into();
        let mut office = Office::add(&hub, "xa-a", "H53.01");
        output(&hub, port, more);
        office.send(crate::steps(0, 35));
        let daemon = Daemon::start(&hub).await;
        let standing = until(&hub, "day", "the others passed", |standing| {
            standing["delivered"] == 25
        });
        assert_eq!(
            (
                &standing["parked"],
                &standing["behind"],
                &standing["waiting"]
            ),
            (&2.into(), &8.into(), &0.into()),
            "{standing}"
        );
        // A later entry of the subject waits too; others still pass.
        office.send(crate::steps(35, 7));
        until(&hub, "day", "more passed", |standing| {
            standing["delivered"] == 30 && standing["behind"] == 10
        });
        let held = parked(&hub, "day");
        let wrong: Vec<&Value> = held
            .iter()
            .filter(|held| !held["reason"].is_null())
            .collect();
        assert_eq!(wrong.len(), 2);
        assert_eq!(
            (&wrong[0]["reason"], &wrong[0]["detail"]),
            (&"refused".into(), &"HTTP 422".into())
        );
        assert!(hub.ok(&["outputs", "parked", "day"]).contains("refused"));
        let all = hub.ok(&["outputs", "parked", "--json"]);
        assert!(all.contains(r#""output":"day""#), "{all}");
        assert!(hub.ok(&["parked"]).contains("trucd outputs parked day"));

        // One is mended at the target and replayed, of the other the first entry is given up.
        target.0.lock().unwrap().poison.remove("H53.01-3");
        let number = |at: usize| wrong[at]["number"].to_string();
        hub.ok(&["outputs", "retry", "day", &number(0)]);
        until(&hub, "day", "replayed in order", |standing| {
            standing["delivered"] == 36 && standing["parked"] == 1
        });
        hub.ok(&["outputs", "drop", "day", &number(1)]);
        until(
            &hub,
            "day",
            "the next one is parked in its place",
            |standing| {
                standing["dropped"] == 1 && standing["parked"] == 1 && standing["behind"] == 4
            },
        );
        target.0.lock().unwrap().poison.clear();
        hub.ok(&["outputs", "retry", "day"]);
        let standing = until_empty(&hub, "day");
        assert_eq!(standing["delivered"], 41, "{standing}");
        let mut events = target.kept();
        let given_up = events.iter().all(|event| event["data"]["buoc"] != 4);
        assert!(given_up);
        events.insert(
            0,
            serde_json::json!({"subject": "H53.01-4", "data": {"buoc": 4}}),
        );
        assert_complete(&events, 42);
        assert_eq!(hub.run(&["outputs", "retry", "day", "999"]).code, 1);
        assert_eq!(daemon.stop(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_or_busy_loses_nothing() {
    let hub = Hub::new();
    let (port, target) = (free_port(), Target::default());
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    output(&hub, port, "");
    office.send(crate::steps(0, 30));
    let daemon = Daemon::start(&hub).await;
    let standing = until(&hub, "day", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["trouble"]["code"], "connect");
    assert_eq!(standing["waiting"], 30);
    target.0.lock().unwrap().busy = 1;
    let _server = target.serve(port).await;
    let standing = until_empty(&hub, "day");
    assert!(standing["trouble"].is_null(), "{standing}");
    assert_complete(&target.kept(), 30);
    {
        let seen = target.0.lock().unwrap();
        let pause = seen.times[1] - seen.times[0];
        assert!(Duration::from_secs(2) <= pause, "Retry-After: {pause:?}");
    }
    // A token that is no longer right stops the output and says what to do.
    fs::write(hub.path("token"), "sai").unwrap();
    assert_eq!(daemon.stop(), 0);
    office.send(vec![Sample::new("H53.01-0", r#"{"buoc":30}"#)]);
    let daemon = Daemon::start(&hub).await;
    let standing = until(&hub, "day", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert!(
        standing["trouble"]["hint_vi"]
            .as_str()
            .unwrap()
            .contains("Mã truy cập")
    );
    fs::write(hub.path("token"), TOKEN).unwrap();
    until_empty(&hub, "day");
    assert_complete(&target.kept(), 31);
    assert_eq!(daemon.stop(), 0);
}
