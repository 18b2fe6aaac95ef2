//! The link test: name, TCP, TLS, certificate, clock, login at the broker, and a receipt of the hub,
//! each told as soon as it is through. The answer grows while the browser shows it, without script.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{Semaphore, mpsc};

use super::html::{self, words};
use super::steps::Parts;
use super::{Answer, HOME, Visit};
use crate::edge::check::{Check, Outcome, both as told, local, network};
use crate::edge::http::App;
use crate::edge::identity::Keys;
use crate::edge::page::lang::{Lang, Words};
use crate::edge::page::text::Text;
use crate::edge::status::{LinkState, Stamp, Status};

const TITLE: Words = ["Kiểm tra đường truyền", "Link test"];
/// The daemon logs in anew and hears of the hub within this, or the test says what it has not heard.
const ROUND_TRIP: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Where the steps stand in the page.
const STEPS: &str = "<!--steps-->";

/// One at a time: each makes the daemon log in anew.
static TURN: Semaphore = Semaphore::const_new(1);

pub(super) async fn link_test(visit: &Visit) -> Answer {
    if !visit.is_confirmed() {
        let what = html::paragraph(
            visit.lang,
            [
                "Trạm thử từng bước tới trục, rồi nối lại với trục và chờ biên nhận. Việc nhận dữ liệu không gián đoạn. Mất nhiều nhất một phút.",
                "The box tries each step of the way to the hub, then connects anew and waits for a receipt. Data is taken in all the while. It takes a minute at most.",
            ],
        );
        let start = ["Bắt đầu kiểm tra", "Start the test"];
        return visit.confirm(TITLE, &what, &[], start, HOME);
    }
    let Ok(turn) = TURN.try_acquire() else {
        let texts = [
            "Đang có một lần kiểm tra khác; chờ nó xong rồi thử lại.",
            "Another test is going on; wait for its end and try again.",
        ];
        return visit.page_with(StatusCode::CONFLICT, TITLE, &html::error(visit.lang, texts));
    };
    visit.record(visit.by(), "link_test", "done", "").await;
    let list = html::section(
        visit.lang,
        TITLE,
        &format!("<ol class=\"steps\">{STEPS}</ol>"),
    );
    let again = html::link(visit.lang, visit.path, ["Kiểm tra lại", "Test again"]);
    let answer = visit.page(TITLE, &format!("{list}<p>{again}</p>"));
    let (before, after) = answer.body.split_once(STEPS).expect("the steps' place");
    let (sender, receiver) = mpsc::channel(4);
    let (app, lang) = (Arc::clone(&visit.app), visit.lang);
    let (begin, end) = (before.to_owned(), after.to_owned());
    let said = Steps { sender, lang };
    tokio::spawn(async move {
        // A browser that has gone away ends the test at its next step.
        if said.sender.send(begin).await.is_ok() && walk(&app, &said).await.is_some() {
            let _ = said.sender.send(end).await;
        }
        drop(turn);
    });
    Answer {
        stream: Some(Parts::body(receiver)),
        ..answer
    }
}

/// All steps, one after the other; none when nobody listens any more.
async fn walk(app: &Arc<App>, steps: &Steps) -> Option<()> {
    let (config, clock) = (Arc::clone(&app.area.config), app.door.clock().clone());
    let loaded = {
        let (config, clock) = (Arc::clone(&config), clock.clone());
        tokio::task::spawn_blocking(move || Keys::load(&config, &clock))
    };
    let keys = loaded.await.expect("reading keys does not panic");
    let mut is_open = false;
    if let Ok(keys) = &keys {
        let mut way = network::Way::new(&config, keys, &clock);
        steps.say(&way.look_up().await).await?;
        steps.say(&way.connect().await).await?;
        steps.say(&way.secure().await).await?;
        is_open = way.is_open();
    }
    let own = {
        let (config, clock) = (Arc::clone(&config), clock.clone());
        tokio::task::spawn_blocking(move || {
            [
                local::certificate(&keys, &clock),
                local::clock(&config, &clock),
            ]
        })
    };
    for check in own.await.expect("looking at the clock does not panic") {
        steps.say(&check).await?;
    }
    round_trip(app, steps, is_open).await
}

/// Has the daemon log in anew, which greets the hub, and waits for the receipt that answers; where
/// there is no way to the hub, nothing is waited for.
async fn round_trip(app: &Arc<App>, steps: &Steps, is_open: bool) -> Option<()> {
    let start = Stamp(app.door.now().wall);
    app.door.steering().send_now.notify_one();
    let is_new = |status: &Status| {
        status.link.state == LinkState::Up && status.link.since.is_some_and(|since| start <= since)
    };
    let (mut said, mut waited) = (0, Duration::ZERO);
    loop {
        let status = app.status().await;
        let checks = network::of_daemon(&status);
        let answered = status.link.last_receipt.is_some_and(|at| start <= at);
        let is_through = is_new(&status) && (answered || status.refused_by_hub.is_some());
        let is_late = !is_open || ROUND_TRIP <= waited;
        let ready = match (is_new(&status), is_through || is_late) {
            (_, true) => checks.len(),
            (true, false) => 1,
            (false, false) => 0,
        };
        for check in checks.iter().take(ready).skip(said) {
            steps.say(check).await?;
        }
        said = said.max(ready);
        if is_through || is_late {
            return match checks.iter().any(|check| check.id == "receipt") {
                true => Some(()),
                false => {
                    let why = told("bước trước chưa thông", "the step before it failed");
                    steps.say(&Check::skipped("receipt", why)).await
                }
            };
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

/// Who listens to the steps, and in which language.
struct Steps {
    sender: mpsc::Sender<String>,
    lang: Lang,
}

impl Steps {
    /// None when nobody listens any more.
    async fn say(&self, check: &Check) -> Option<()> {
        self.sender.send(item(self.lang, check)).await.ok()
    }
}

/// One step with its result in words, and what to do.
fn item(lang: Lang, check: &Check) -> String {
    let (class, word) = match check.outcome {
        Outcome::Ok => ("green", ["ĐẠT", "ok"]),
        Outcome::Warning => ("amber", ["CHÚ Ý", "attention"]),
        Outcome::Failed => ("red", ["HỎNG", "failed"]),
        Outcome::Skipped => ("none", ["BỎ QUA", "skipped"]),
    };
    let lines = |vi: &str, en: &str| match lang.of([vi, en]) {
        "" => String::new(),
        text => format!("<p>{}</p>", broken(text)),
    };
    format!(
        "<li class=\"{class}\"><strong>{}</strong> {}{}{}</li>\n",
        words(lang, word),
        words(lang, [check.name_vi, check.name_en]),
        lines(&check.detail_vi, &check.detail_en),
        lines(&check.hint_vi, &check.hint_en),
    )
}

fn broken(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| Text(line).to_string()).collect();
    lines.join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_in_words_and_stays_text() {
        let detail = told("hub1: <b>", "hub1: <b>");
        let hint = told(
            "Xem cáp.\nGọi nhà mạng.",
            "Look at the cable.\nCall the provider.",
        );
        let check = Check::new("tcp", Outcome::Failed, detail, hint);
        for (lang, parts) in [
            (Lang::Vi, ["HỎNG", "Xem cáp.<br>Gọi nhà mạng."]),
            (
                Lang::En,
                ["failed", "Look at the cable.<br>Call the provider."],
            ),
        ] {
            let html = item(lang, &check);
            for part in [parts[0], parts[1], "class=\"red\"", "&lt;b&gt;"] {
                assert!(html.contains(part), "{part} in {html}");
            }
            assert!(!html.contains("<b>"));
        }
    }
}
