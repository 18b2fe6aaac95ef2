//! How much of the link may be used at which hours: what holds, on whose word, and another one.

use std::sync::Arc;

use axum::http::StatusCode;

use super::html::{Both, Field, button, form, paragraph, section, words};
use super::login::unavailable;
use super::sources::set;
use super::{Answer, Visit};
use crate::edge::orders::local::{self, InForce};
use crate::edge::page::lang::Lang;
use crate::edge::page::text::{self, Text};
use crate::edge::status::Stamp;
use crate::model::order::{Order, Timetable};

const TITLE: Both<'_> = ["Lịch băng thông", "Bandwidth timetable"];
const PATH: &str = "/ky-thuat/bang-thong";

pub(super) async fn bandwidth(visit: &Visit) -> Answer {
    let (config, lang) = (Arc::clone(visit.config()), visit.lang);
    let in_force = tokio::task::spawn_blocking(move || local::bandwidth(&config)).await;
    let in_force = match in_force.expect("reading neither panics nor is cancelled") {
        Ok(in_force) => in_force,
        Err(error) => return unavailable(visit, TITLE, &error),
    };
    if !visit.is_post {
        let hours = in_force.timetable.texts().join("\n");
        return page(visit, StatusCode::OK, &in_force, &hours, None);
    }
    // The confirmation has them in one line.
    let hours = visit.form.get("gio").replace('\r', "").replace(';', "\n");
    let lines = hours.lines().map(str::trim).filter(|line| !line.is_empty());
    let timetable = match Timetable::parse(lines) {
        Ok(timetable) => timetable,
        Err(fault) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return page(visit, status, &in_force, &hours, Some(&fault));
        }
    };
    if !visit.is_confirmed() {
        let what = format!(
            "{}{}{}",
            paragraph(lang, ["Làn P2–P4 được dùng:", "Lanes P2 to P4 may use:"]),
            list(lang, &timetable),
            paragraph(
                lang,
                [
                    "Lịch này thay cho lịch đang dùng, kể cả lịch do trục đặt; trục có thể đặt lại.",
                    "It takes the place of what holds now, the hub's too; the hub may set it again.",
                ]
            )
        );
        return visit.confirm(
            TITLE,
            &what,
            &[("gio", &timetable.texts().join(";"))],
            ["Áp dụng", "Apply"],
            PATH,
        );
    }
    let told = match timetable.is_empty() {
        true => [
            "Dùng lịch trong cấu hình của trạm.",
            "The configuration's timetable holds.",
        ],
        false => ["Đã đặt lịch băng thông.", "The timetable was set."],
    };
    let order = Order::SetBandwidth(timetable);
    set(visit, "set_bandwidth", order, told.map(str::to_owned), PATH).await
}

fn page(
    visit: &Visit,
    status: StatusCode,
    in_force: &InForce,
    hours: &str,
    fault: Option<&str>,
) -> Answer {
    let whose = match &in_force.by {
        Some((by, at)) => format!(
            "{} {} {} {}",
            visit.lang.of(["do", "set by"]),
            Text(by),
            visit.lang.of(["đặt lúc", "at"]),
            text::time(Stamp(*at))
        ),
        None => words(
            visit.lang,
            ["theo cấu hình của trạm", "as the box's configuration says"],
        ),
    };
    let fault_vi = fault.map(|_| "Có dòng không đúng mẫu; xem ví dụ ở trên.");
    let field = Field {
        name: "gio",
        label: [
            "Mỗi dòng một khung giờ và kbit/s",
            "Hours and kbit/s, one a line",
        ],
        kind: "text",
        value: hours,
        autocomplete: "off",
        hint: Some([
            "Ví dụ: 07:30-17:00 256. Số 0 là không gửi. Để trống: theo cấu hình của trạm.",
            "For example 07:30-17:00 256; 0 sends nothing. Empty: as the box's configuration says.",
        ]),
        fault: fault_vi.zip(fault).map(|(vi, en)| [vi, en]),
    };
    let inside = format!(
        "{}{}",
        field.area(visit.lang, 6),
        button(visit.lang, ["Xem trước", "Preview"])
    );
    let html = format!(
        "<p>{}, {whose}:</p>{}{}",
        visit.lang.of(["Đang dùng", "In force"]),
        list(visit.lang, &in_force.timetable),
        form(visit.lang, PATH, &visit.token, &inside)
    );
    visit.page_with(status, TITLE, &section(visit.lang, TITLE, &html))
}

fn list(lang: Lang, timetable: &Timetable) -> String {
    if timetable.is_empty() {
        let texts = [
            "Không giới hạn, hoặc theo cấu hình của trạm.",
            "No limit, or as the box's configuration says.",
        ];
        return paragraph(lang, texts);
    }
    let lines: Vec<String> = timetable
        .texts()
        .iter()
        .map(|line| format!("<li>{} kbit/s</li>", Text(line)))
        .collect();
    format!("<ul>{}</ul>\n", lines.concat())
}
