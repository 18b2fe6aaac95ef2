//! To restart the program, and to shut the machine down in order.
//!
//! A restart is an ordered end, after which systemd starts the program again; without systemd it
//! would stay down, so it is not offered. The machine is switched off by logind, which asks polkit
//! whether the service's user may (`systemd/lienthong.polkit.rules`).

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::html::{Both, error, link, paragraph, section};
use super::{Answer, HOME, Visit};

const RESTART_TITLE: Both<'_> = ["Khởi động lại chương trình", "Restart the program"];
const OFF_TITLE: Both<'_> = ["Tắt máy an toàn", "Shut the machine down"];
/// How long systemd's commands may take, in steps.
const STEP: Duration = Duration::from_millis(50);
const STEPS_MAX: u32 = 200;
const SAID_BYTES_MAX: u64 = 4 * 1024;

pub(super) async fn restart(visit: &Visit) -> Answer {
    // Set for everything that systemd starts.
    if std::env::var_os("INVOCATION_ID").is_none() {
        return visit.page(
            RESTART_TITLE,
            &error(visit.lang, [
                "Chương trình không do systemd chạy, nên không khởi động lại được từ đây; hãy khởi động lại tại máy trạm.",
                "systemd does not run this program, so it cannot be restarted from here.",
            ]),
        );
    }
    if !visit.is_confirmed() {
        let what = paragraph(
            visit.lang,
            [
                "Chương trình ghi xong việc đang làm, dừng lại rồi chạy lại sau vài giây. Không mất dữ liệu. Mọi người phải đăng nhập lại.",
                "The program ends in order and is back in a few seconds. Nothing is lost. Everybody has to log in again.",
            ],
        );
        return visit.confirm(RESTART_TITLE, &what, &[], RESTART_TITLE, HOME);
    }
    // The audit is written before, because the program may be gone at once.
    visit.record(visit.by(), "restart", "done", "").await;
    visit.app.door.steering().restart.notify_one();
    let wait = paragraph(
        visit.lang,
        [
            "Chương trình đang khởi động lại. Chờ khoảng 10 giây rồi mở lại trang.",
            "The program restarts. Wait for about ten seconds, then open the page again.",
        ],
    );
    let again = link(visit.lang, HOME, ["Mở lại trang", "Open the page again"]);
    let html = format!("{wait}<p>{again}</p>\n");
    visit.page(RESTART_TITLE, &section(visit.lang, RESTART_TITLE, &html))
}

pub(super) async fn power_off(visit: &Visit) -> Answer {
    let asked = blocking(&[
        "busctl",
        "call",
        "org.freedesktop.login1",
        "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager",
        "CanPowerOff",
    ])
    .await;
    let is_possible = asked.as_ref().is_ok_and(|said| said.contains("\"yes\""));
    if !is_possible {
        let why = asked.unwrap_or_else(|why| why);
        tracing::info!(why, "the machine cannot be shut down from the page");
        return visit.page(
            OFF_TITLE,
            &error(visit.lang, [
                "Máy này chưa cho phép tắt từ trang; hãy tắt tại máy bằng lệnh sudo systemctl poweroff. Để cho phép, cài tệp lienthong.polkit.rules.",
                "This machine does not let the page shut it down; use sudo systemctl poweroff. The file lienthong.polkit.rules allows it.",
            ]),
        );
    }
    if !visit.is_confirmed() {
        let what = paragraph(
            visit.lang,
            [
                "Chương trình ghi xong việc đang làm, rồi máy tắt hẳn. Phải có người bấm nút nguồn tại máy để bật lại; trong lúc tắt, trạm không nhận và không gửi gì.",
                "The program ends in order and the machine goes off. Somebody has to press its button to start it again; until then the box takes nothing in and sends nothing.",
            ],
        );
        return visit.confirm(OFF_TITLE, &what, &[], OFF_TITLE, HOME);
    }
    visit.record(visit.by(), "power_off", "begun", "").await;
    match blocking(&["systemctl", "poweroff"]).await {
        Ok(_) => {
            let html = paragraph(
                visit.lang,
                [
                    "Máy đang tắt. Chỉ rút điện khi đèn nguồn đã tắt.",
                    "The machine goes off. Unplug it only when its light is out.",
                ],
            );
            visit.page(OFF_TITLE, &section(visit.lang, OFF_TITLE, &html))
        }
        Err(why) => {
            tracing::warn!(why, "the machine could not be shut down");
            visit.record(visit.by(), "power_off", "failed", "").await;
            visit.page(
                OFF_TITLE,
                &error(
                    visit.lang,
                    [
                        "Máy không tắt được; hãy tắt tại máy.",
                        "The machine could not be shut down; do it at the machine.",
                    ],
                ),
            )
        }
    }
}

async fn blocking(words: &'static [&'static str]) -> Result<String, String> {
    let ran = tokio::task::spawn_blocking(move || run(words));
    ran.await.expect("it neither panics nor is cancelled")
}

/// What one of systemd's commands says; the error is why it did not do it.
fn run(words: &[&str]) -> Result<String, String> {
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", words[0]))?;
    for _ in 0..STEPS_MAX {
        match child.try_wait() {
            Ok(Some(status)) => {
                let mut said = String::new();
                // What it does not say is not waited for: it has ended.
                if let Some(out) = child.stdout.take() {
                    let _ = out.take(SAID_BYTES_MAX).read_to_string(&mut said);
                }
                if let Some(complaint) = child.stderr.take() {
                    let _ = complaint.take(SAID_BYTES_MAX).read_to_string(&mut said);
                }
                return if status.success() {
                    Ok(said)
                } else {
                    Err(said)
                };
            }
            Ok(None) => std::thread::sleep(STEP),
            Err(error) => return Err(error.to_string()),
        }
    }
    // It is ended either way.
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("{} does not answer", words[0]))
}
