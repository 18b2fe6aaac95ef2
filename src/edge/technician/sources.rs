//! The area's first page: the sources and what can be done about each; and to pause one, to let it
//! work again, to send what waits now.

use std::sync::Arc;

use super::form::encoded;
use super::html::{Both, error, link, paragraph, section, table};
use super::login::unavailable;
use super::{Answer, HOME, Visit, stick};
use crate::edge::config::{Config, FolderConfig, SourceKind};
use crate::edge::orders::local::{self, NotDone};
use crate::edge::page::lang::Lang;
use crate::edge::page::text::{self, Text};
use crate::edge::sources::state_texts;
use crate::edge::status::{SourceState, SourceStatus, Stamp};
use crate::model::order::Order;
use crate::model::{SourceName, UnixMs};

const TITLE: Both<'_> = ["Kỹ thuật", "Technician"];
const PAUSE_TITLE: Both<'_> = ["Tạm dừng nguồn", "Pause the source"];
const RESUME_TITLE: Both<'_> = ["Cho nguồn chạy tiếp", "Let the source work again"];
const SEND_TITLE: Both<'_> = ["Gửi ngay", "Send now"];

type Paused = Vec<(String, String, UnixMs)>;

pub(super) async fn home(visit: &Visit) -> Answer {
    let status = visit.app.status().await;
    let config = Arc::clone(visit.config());
    let paused = tokio::task::spawn_blocking(move || local::paused(&config)).await;
    let paused = match paused.expect("reading neither panics nor is cancelled") {
        Ok(paused) => paused,
        Err(error) => return unavailable(visit, TITLE, &error),
    };
    let rows: Vec<Vec<String>> = status
        .sources
        .iter()
        .map(|source| row(visit.lang, visit.config(), source, &paused))
        .collect();
    let heads: [Both<'_>; 6] = [
        ["Nguồn", "Source"],
        ["Loại", "Kind"],
        ["Tình trạng", "State"],
        ["Đã nhận", "Taken"],
        ["Bị giữ lại", "Parked"],
        ["Việc", "Deeds"],
    ];
    let mut sources = table(visit.lang, &heads, &rows);
    if rows.is_empty() {
        sources = error(
            visit.lang,
            [
                "Chưa có nguồn nào trong cấu hình.",
                "No source is configured.",
            ],
        );
    }
    let deeds = [
        link(visit.lang, "/ky-thuat/gui-ngay", SEND_TITLE),
        link(
            visit.lang,
            "/ky-thuat/bang-thong",
            ["Lịch băng thông", "Bandwidth timetable"],
        ),
        link(
            visit.lang,
            "/ky-thuat/sao-luu",
            ["Sao lưu ngay", "Back up now"],
        ),
        link(visit.lang, stick::PATH, stick::TITLE),
        link(
            visit.lang,
            "/ky-thuat/goi-chan-doan",
            ["Tải gói chẩn đoán", "Download the diagnostics bundle"],
        ),
        link(
            visit.lang,
            "/ky-thuat/khoi-dong-lai",
            ["Khởi động lại chương trình", "Restart the program"],
        ),
        link(
            visit.lang,
            "/ky-thuat/tat-may",
            ["Tắt máy an toàn", "Shut the machine down"],
        ),
    ];
    let html = format!(
        "{}{}",
        section(visit.lang, ["Nguồn dữ liệu", "Sources"], &sources),
        section(
            visit.lang,
            ["Trạm", "The box"],
            &format!("<p class=\"deeds\">{}</p>\n", deeds.join(" "))
        )
    );
    visit.page(TITLE, &html)
}

fn row(lang: Lang, config: &Config, source: &SourceStatus, paused: &Paused) -> Vec<String> {
    let name = &source.name;
    let rest = paused.iter().find(|(known, ..)| known == name);
    let state = match (rest, source.state) {
        (Some((_, by, at)), _) => format!(
            "{} ({}, {})",
            lang.of(state_texts(SourceState::Paused)),
            Text(by),
            text::time(Stamp(*at))
        ),
        (None, Some(state)) => lang.of(state_texts(state)).to_owned(),
        (None, None) => "–".to_owned(),
    };
    let query = format!("?nguon={}", encoded(name));
    let mut deeds = Vec::new();
    let is_configured = config
        .sources
        .iter()
        .any(|known| known.name.as_str() == name)
        || config
            .http
            .tokens
            .iter()
            .any(|known| known.name.as_str() == name);
    match rest {
        Some(_) => deeds.push(link(
            lang,
            &format!("/ky-thuat/nguon/chay-tiep{query}"),
            ["Chạy tiếp", "Resume"],
        )),
        None if is_configured => {
            deeds.push(link(
                lang,
                &format!("/ky-thuat/nguon/tam-dung{query}"),
                ["Tạm dừng", "Pause"],
            ));
        }
        None => {}
    }
    if 0 < source.parked {
        deeds.push(link(
            lang,
            &format!("/ky-thuat/giu-lai{query}"),
            ["Dòng bị giữ lại", "Parked rows"],
        ));
    }
    if folder_of(config, name).is_some() {
        deeds.push(link(
            lang,
            &format!("/ky-thuat/tep{query}"),
            ["Tệp bị từ chối", "Refused files"],
        ));
    }
    vec![
        Text(name).to_string(),
        Text(source.kind.as_deref().unwrap_or("–")).to_string(),
        state,
        lang.count(source.accepted),
        lang.count(source.parked),
        format!("<span class=\"deeds\">{}</span>", deeds.join(" ")),
    ]
}

/// The folder from which a source takes files.
pub(super) fn folder_of<'c>(config: &'c Config, name: &str) -> Option<&'c FolderConfig> {
    let source = config
        .sources
        .iter()
        .find(|source| source.name.as_str() == name)?;
    match &source.kind {
        SourceKind::Folder(folder) => Some(folder),
        SourceKind::FtpFetch(settings) => Some(&settings.folder),
        _ => None,
    }
}

/// The source that a request names; else the page that says that it names none.
pub(super) fn named(visit: &Visit, title: Both<'_>) -> Result<SourceName, Answer> {
    visit.field("nguon").parse().map_err(|_| {
        let texts = ["Không có nguồn này.", "There is no such source."];
        visit.page_with(
            axum::http::StatusCode::NOT_FOUND,
            title,
            &error(visit.lang, texts),
        )
    })
}

pub(super) async fn pause(visit: &Visit) -> Answer {
    let source = match named(visit, PAUSE_TITLE) {
        Ok(source) => source,
        Err(answer) => return answer,
    };
    if !visit.is_confirmed() {
        let name = Text(source.as_str());
        let what = visit.lang.of([
            format!("<p>Trạm thôi lấy dữ liệu từ nguồn <strong>{name}</strong> cho đến khi có người cho chạy tiếp. Dữ liệu đã nhận vẫn được gửi.</p>"),
            format!("<p>The box takes nothing from <strong>{name}</strong> until somebody lets it work again. What is taken already is sent.</p>"),
        ]);
        let fields = [("nguon", source.as_str())];
        return visit.confirm(PAUSE_TITLE, &what, &fields, PAUSE_TITLE, HOME);
    }
    let told = [
        format!("Nguồn {source} tạm dừng."),
        format!("The source {source} rests."),
    ];
    set(
        visit,
        "pause_source",
        Order::PauseSource(source),
        told,
        HOME,
    )
    .await
}

pub(super) async fn resume(visit: &Visit) -> Answer {
    let source = match named(visit, RESUME_TITLE) {
        Ok(source) => source,
        Err(answer) => return answer,
    };
    if !visit.is_confirmed() {
        let name = Text(source.as_str());
        let what = visit.lang.of([
            format!("<p>Trạm lấy dữ liệu từ nguồn <strong>{name}</strong> trở lại.</p>"),
            format!("<p>The box takes data from <strong>{name}</strong> again.</p>"),
        ]);
        let fields = [("nguon", source.as_str())];
        return visit.confirm(RESUME_TITLE, &what, &fields, RESUME_TITLE, HOME);
    }
    let told = [
        format!("Nguồn {source} chạy tiếp."),
        format!("The source {source} works again."),
    ];
    set(
        visit,
        "resume_source",
        Order::ResumeSource(source),
        told,
        HOME,
    )
    .await
}

/// Does an order that changes a setting, as the hub's command does.
pub(super) async fn set(
    visit: &Visit,
    name: &'static str,
    order: Order,
    told: [String; 2],
    next: &str,
) -> Answer {
    let (app, by, now) = (Arc::clone(&visit.app), visit.by(), visit.now().wall);
    let done = tokio::task::spawn_blocking(move || {
        local::set(&app.area.config, &app.door, &by, name, &order, now)
    });
    match done.await.expect("it neither panics nor is cancelled") {
        Ok(()) => visit.tell(true, told, next),
        Err(NotDone::Failed(why)) => {
            visit.record(visit.by(), name, "failed", &why).await;
            let (vi, en) = why.split_once(" / ").unwrap_or((&why, &why));
            visit.tell(false, [vi.to_owned(), en.to_owned()], next)
        }
        Err(NotDone::Store(error)) => unavailable(visit, TITLE, &error),
    }
}

pub(super) async fn send_now(visit: &Visit) -> Answer {
    if !visit.is_confirmed() {
        let what = paragraph(
            visit.lang,
            [
                "Trạm nối lại với trục ngay, không chờ hết khoảng nghỉ, và gửi mọi dữ liệu đang chờ. Lịch băng thông vẫn giữ nguyên.",
                "The box connects to the hub anew at once, without waiting for its pause to end, and sends all that waits. The bandwidth timetable goes on to hold.",
            ],
        );
        return visit.confirm(SEND_TITLE, &what, &[], SEND_TITLE, HOME);
    }
    visit.app.door.steering().send_now.notify_one();
    visit.record(visit.by(), "send_now", "done", "").await;
    let told = [
        "Đang nối lại với trục để gửi.",
        "Connecting to the hub to send.",
    ];
    visit.tell(true, told.map(str::to_owned), HOME)
}
