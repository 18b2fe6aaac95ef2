//! Backups on a technician's word, and the diagnostics bundle for whoever helps from far away.
//!
//! A backup goes to the folder of the configuration and never to the browser: it holds personal data in
//! the clear, and a download would leave them on whatever computer the technician sits at. The bundle
//! holds none, so it is handed out.

use std::io::Cursor;
use std::sync::Arc;
use std::thread;

use axum::http::StatusCode;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Duration, interval};

use super::html::{self, Both, error, paragraph, section};
use super::steps::Parts;
use super::{Answer, Download, HOME, Visit};
use crate::edge::backup::problem::Problem;
use crate::edge::backup::schedule::{By as MadeBy, LastBackup, make_now};
use crate::edge::bundle;
use crate::edge::page::backup::last_text;
use crate::edge::page::lang::{Lang, time};
use crate::edge::page::text::Text;
use crate::edge::status::Stamp;
use crate::edge::status::backup::BackupStatus;

const BACKUP_TITLE: Both<'_> = ["Sao lưu ngay", "Back up now"];
const BUNDLE_TITLE: Both<'_> = ["Tải gói chẩn đoán", "Download the diagnostics bundle"];
/// Where the result stands in the page.
const RESULT: &str = "<!--result-->";
/// So often the browser hears that the work goes on.
const BEAT: Duration = Duration::from_secs(5);
/// The bundle does everything that the command does on its main thread.
const STACK_BYTES: usize = 8 << 20;

/// One bundle at a time: each tries the way to the hub.
static TURN: Semaphore = Semaphore::const_new(1);

pub(super) async fn backup(visit: &Visit) -> Answer {
    let lang = visit.lang;
    let (config, now) = (Arc::clone(visit.config()), visit.now().wall);
    let known = tokio::task::spawn_blocking(move || BackupStatus::read(&config, Some(now), now));
    let Some(known) = known.await.expect("reading does not panic") else {
        let texts = [
            "Trạm chưa có nơi chứa bản sao lưu: thêm vào cấu hình mục [backup] với folder = \"/mnt/saoluu\" (ổ mạng hoặc ổ rời đã gắn), rồi khởi động lại chương trình.",
            "The box has no place for backups: add [backup] with folder = \"/mnt/saoluu\" (a mounted share or disk) to the configuration, then restart the program.",
        ];
        return visit.page_with(StatusCode::CONFLICT, BACKUP_TITLE, &error(lang, texts));
    };
    if !visit.is_confirmed() {
        let last = match &known.last {
            Some(last) => last_text(last, lang),
            None => lang.of(["chưa có lần nào", "none yet"]).to_owned(),
        };
        let folder = Text(&known.folder);
        let what = format!(
            "<p>{}: {last}</p>{}{}",
            lang.of(["Sao lưu gần nhất", "Last backup"]),
            lang.of([
                format!("<p>Trạm sao lưu vào <strong>{folder}</strong>, rồi khôi phục thử. Việc nhận và gửi dữ liệu không gián đoạn.</p>\n"),
                format!("<p>The box makes a backup in <strong>{folder}</strong> and restores it on trial. Data goes on coming in and going out.</p>\n"),
            ]),
            paragraph(
                lang,
                [
                    "Bản sao lưu chứa dữ liệu cá nhân, không mã hóa: chỉ người có trách nhiệm được vào nơi chứa. Vì vậy không tải qua trình duyệt.",
                    "A backup holds personal data in the clear: only those in charge may reach its place. That is why it is not handed to a browser.",
                ]
            )
        );
        return visit.confirm(BACKUP_TITLE, &what, &[], BACKUP_TITLE, HOME);
    }
    let began = lang.of([
        format!("Bắt đầu lúc {}. Có thể đóng trang này: việc sao lưu vẫn tiếp tục, kết quả nằm ở Nhật ký và trang Tình trạng.", time(Stamp(now))),
        format!("Begun at {}. This page may be closed: the backup goes on, and its result stands in the audit log and on the status page.", time(Stamp(now))),
    ]);
    let list = format!("<p>{began}</p>\n<ol class=\"steps\">{RESULT}</ol>");
    let back = html::link(lang, HOME, ["Quay lại", "Back"]);
    let page = format!("{}<p>{back}</p>", section(lang, BACKUP_TITLE, &list));
    let answer = visit.page(BACKUP_TITLE, &page);
    let (before, after) = answer.body.split_once(RESULT).expect("the result's place");
    let (sender, receiver) = mpsc::channel(4);
    let told = Told {
        before: before.to_owned(),
        after: after.to_owned(),
        lang,
        sender,
    };
    let (app, by) = (Arc::clone(&visit.app), visit.by());
    // It is not the browser's: whoever goes away leaves the work to be finished.
    tokio::spawn(async move {
        let work = async {
            let config = &app.area.config;
            let made = make_now(config, &app.door, MadeBy::Hand).await;
            let (result, detail) = match &made {
                Ok(last) => ("done", last.file.clone()),
                Err(error) => ("failed", Problem::of(error).code().to_owned()),
            };
            let now = app.door.now().wall;
            app.area.record(by, "backup", result, detail, now).await;
            made
        };
        told.follow(work).await;
    });
    Answer {
        stream: Some(Parts::body(receiver)),
        ..answer
    }
}

/// The page that waits for a backup's end.
struct Told {
    before: String,
    after: String,
    lang: Lang,
    sender: mpsc::Sender<String>,
}

impl Told {
    async fn follow(self, work: impl Future<Output = anyhow::Result<LastBackup>>) {
        let mut work = std::pin::pin!(work);
        // Nobody may be listening any more, here and below.
        let _ = self.sender.send(self.before.clone()).await;
        let mut beat = interval(BEAT);
        let made = loop {
            tokio::select! {
                made = &mut work => break made,
                _ = beat.tick() => {
                    let _ = self.sender.try_send("\n".to_owned());
                }
            }
        };
        let item = self.item(&made);
        let _ = self.sender.send(format!("{item}{}", self.after)).await;
    }

    fn item(&self, made: &anyhow::Result<LastBackup>) -> String {
        let lang = self.lang;
        let (class, word, html) = match made {
            Ok(last) => ("green", ["ĐẠT", "done"], last_text(last, lang)),
            Err(error) => {
                let [text, hint] = Problem::words(error, lang);
                let html = format!("{}. {}", Text(&text), Text(&hint));
                ("red", ["HỎNG", "failed"], html)
            }
        };
        format!(
            "<li class=\"{class}\"><strong>{}</strong> {html}</li>\n",
            lang.of(word)
        )
    }
}

pub(super) async fn diagnostics(visit: &Visit) -> Answer {
    if !visit.is_confirmed() {
        let what = paragraph(
            visit.lang,
            [
                "Gói gồm trạng thái, kết quả kiểm tra, cấu hình đã che mật khẩu, nhật ký chương trình, nhật ký việc đã làm và thông tin máy. Không có dữ liệu cá nhân, mật khẩu hay khóa. Trạm thử đường truyền khi làm gói nên mất đến một phút.",
                "It holds the status, the checks' results, the configuration without secrets, the program's log, the audit log and facts of the machine. No personal data, no passwords, no keys. The box tries its link meanwhile, which takes up to a minute.",
            ],
        );
        return visit.confirm(BUNDLE_TITLE, &what, &[], BUNDLE_TITLE, HOME);
    }
    let Ok(_turn) = TURN.try_acquire() else {
        let texts = [
            "Đang có một gói khác được làm; chờ xong rồi thử lại.",
            "Another bundle is being made; wait for its end and try again.",
        ];
        let page = error(visit.lang, texts);
        return visit.page_with(StatusCode::CONFLICT, BUNDLE_TITLE, &page);
    };
    match made_bundle(visit).await {
        Ok(bytes) => {
            let size = format!("{} bytes", bytes.len());
            visit.record(visit.by(), "bundle", "done", &size).await;
            let config = visit.config();
            let at = visit.now().wall.to_string();
            let digits: String = at.chars().filter(char::is_ascii_digit).take(14).collect();
            Answer {
                download: Some(Download {
                    name: format!("chan-doan-{}-{digits}.zip", config.box_id),
                    kind: "application/zip",
                    bytes,
                }),
                ..Answer::html(StatusCode::OK, String::new())
            }
        }
        Err(why) => {
            tracing::warn!(error = %format!("{why:#}"), "the diagnostics bundle could not be made");
            visit.record(visit.by(), "bundle", "failed", "").await;
            let texts = [
                "Không làm được gói; làm tại máy bằng lệnh: sudo tramd bundle TỆP.",
                "The bundle could not be made; make it at the console: sudo tramd bundle FILE.",
            ];
            let page = error(visit.lang, texts);
            visit.page_with(StatusCode::INTERNAL_SERVER_ERROR, BUNDLE_TITLE, &page)
        }
    }
}

async fn made_bundle(visit: &Visit) -> anyhow::Result<Vec<u8>> {
    let config = Arc::clone(visit.config());
    let (done, bytes) = oneshot::channel();
    thread::Builder::new()
        .name("bundle".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let mut out = Cursor::new(Vec::new());
            let written = bundle::write(&config.file, &mut out);
            // Whoever wanted it may have gone.
            let _ = done.send(written.map(|_| out.into_inner()));
        })?;
    bytes.await?
}
