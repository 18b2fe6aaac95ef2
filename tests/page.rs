//! The page of a real box, in states that are reached for real, judged by HTML Tidy: valid without a
//! warning, complete in both languages, small, and without any request to elsewhere.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for by the real clock"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::io::Write;
use std::process::{Command, Stdio};

use one_box::{AGENCY, SOON, XA, one_box};
use rig::{Rig, agent, hand_in, wait_for};

const BYTES_MAX: usize = 100_000;

/// Headers that matter and the body.
struct Answer {
    kind: String,
    policy: String,
    body: String,
}

fn get(rig: &Rig, path: &str) -> Answer {
    let url = format!("http://127.0.0.1:{}{path}", rig.boxes[XA].http_port);
    let mut answer = agent().get(&url).call().unwrap();
    let header = |name: &str| {
        let value = answer.headers().get(name);
        value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    };
    let (kind, policy) = (header("content-type"), header("content-security-policy"));
    let body = answer.body_mut().read_to_string().unwrap();
    Answer { kind, policy, body }
}

/// HTML Tidy finds nothing to say.
fn assert_valid(html: &str) {
    let mut tidy = Command::new("tidy")
        .args(["-quiet", "-errors", "-utf8", "--show-info", "no"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidy is installed (.ci/setup)");
    let mut stdin = tidy.stdin.take().unwrap();
    stdin.write_all(html.as_bytes()).unwrap();
    drop(stdin);
    let output = tidy.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}\n{html}");
}

/// The Vietnamese page, after what holds for every state.
fn page(rig: &Rig) -> String {
    let script = get(rig, "/page.js");
    assert!(
        script.kind.starts_with("text/javascript"),
        "{}",
        script.kind
    );
    for path in ["/", "/?lang=en"] {
        let answer = get(rig, path);
        assert_eq!(answer.kind, "text/html; charset=utf-8");
        assert!(
            answer.policy.starts_with("default-src 'none';"),
            "{}",
            answer.policy
        );
        assert!(!answer.policy.contains("unsafe"), "{}", answer.policy);
        assert!(answer.body.len() + script.body.len() < BYTES_MAX);
        assert!(!answer.body.contains("://") && !answer.body.contains(" style="));
        assert_valid(&answer.body);
    }
    get(rig, "/").body
}

#[test]
fn tidy_is_no_yes_man() {
    let bad = "<!DOCTYPE html><html lang=\"vi\"><head><title>x</title></head><body><p><b>x</p></body></html>";
    assert!(std::panic::catch_unwind(|| assert_valid(bad)).is_err());
}

#[test]
fn a_box_through_its_states() {
    let mut rig = one_box();
    rig.start_box(XA);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..20));
    rig.wait_until_drained(XA, SOON);
    wait_for("the receipt is told", SOON, || {
        rig.status(XA)["link"]["state"] == "up"
            && get(&rig, "/").body.contains("Không có gì chờ gửi")
    });
    let html = page(&rig);
    for part in ["Đã kết nối", "<th scope=\"row\">mot-cua</th>", "Nhìn nhanh"] {
        assert!(html.contains(part), "{part} in {html}");
    }
    assert!(!html.contains("Cách xử lý:") && !html.contains("Mất điện gần nhất"));

    // The hub goes: the page says why and what to do, and what waits by source.
    rig.kill_hub();
    wait_for("the link is lost", SOON, || {
        rig.status(XA)["link"]["state"] == "down"
    });
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 20..50));
    wait_for("the reason is told", SOON, || {
        rig.status(XA)["link"]["reason"]["code"] == "tcp-refused"
    });
    let html = page(&rig);
    for part in [
        "Hỏng ở bước",
        "Cách xử lý:",
        "tcp-refused",
        "chưa có kết nối",
        "Theo nguồn",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    let waiting = &rig.status(XA)["waiting_by_source"];
    assert_eq!(waiting["is_complete"], true);
    let ours = waiting["sources"].as_array().unwrap().iter();
    let ours: Vec<_> = ours
        .filter(|waiting| waiting["source"] == "mot-cua")
        .collect();
    assert_eq!(ours.len(), 1, "{waiting}");
    assert_eq!(ours[0]["entries"], 30);

    // Killed and started again: the history has survived, and the sudden stop is told.
    rig.kill_box(XA);
    rig.start_box(XA);
    wait_for("the stop is told", SOON, || {
        !rig.status(XA)["last_stop"].is_null()
    });
    assert_eq!(rig.status(XA)["last_stop"]["kind"], "killed");
    let html = page(&rig);
    for part in [
        "Dừng đột ngột gần nhất",
        "Chương trình bị dừng đột ngột",
        "<svg ",
        "14 ngày qua",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    // The same again in order: nothing new is told of.
    let told = rig.status(XA)["last_stop"].clone();
    rig.process(XA).signal(nix::sys::signal::Signal::SIGTERM);
    rig.process(XA).wait(SOON).expect("it ends in order");
    rig.kill_box(XA);
    rig.start_box(XA);
    assert_eq!(rig.status(XA)["last_stop"], told);
}

/// A new box that has just taken something in says so at once, not when its counts are next written down.
#[test]
fn the_first_record_shows_at_once_and_counts_go_on_over_a_restart() {
    let mut rig = one_box();
    rig.kill_hub();
    rig.start_box(XA);
    let port = rig.boxes[XA].http_port;
    let told = |rig: &Rig| {
        let status = rig.status(XA);
        let sources = status["sources"].as_array().unwrap();
        let source = sources.iter().find(|s| s["name"] == "mot-cua").unwrap();
        [&source["accepted"], &source["refused"]].map(|count| count.as_u64().unwrap())
    };
    assert!(get(&rig, "/").body.contains("Chưa nguồn nào đưa dữ liệu"));
    assert!(hand_in(port, AGENCY, 0..1));
    let html = get(&rig, "/").body;
    assert!(html.contains("Trạm đang nhận dữ liệu."), "{html}");
    assert!(!html.contains("Chưa nguồn nào đưa dữ liệu"), "{html}");
    assert_eq!(told(&rig), [1, 0]);
    assert!(hand_in(port, AGENCY, 1..8));
    assert_eq!(told(&rig), [8, 0]);
    let refused = agent()
        .post(format!(
            "http://127.0.0.1:{port}/v1/records/{}",
            rig::DATASET
        ))
        .header("authorization", format!("Bearer {}", rig::TOKEN))
        .header("content-type", "application/json")
        .send("{}");
    assert_eq!(refused.unwrap().status().as_u16(), 422);
    wait_for("what was refused is told", SOON, || told(&rig) == [8, 1]);
    // In order: everything was written down. The counts go on from there.
    rig.process(XA).signal(nix::sys::signal::Signal::SIGTERM);
    rig.process(XA).wait(SOON).expect("it ends");
    rig.start_box(XA);
    assert_eq!(told(&rig), [8, 1]);
    assert!(hand_in(port, AGENCY, 8..10));
    assert_eq!(told(&rig), [10, 1]);
}
