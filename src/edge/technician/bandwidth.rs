//! How much of the link may be used at which hours: what holds, on whose word, and another one.

use std::sync::Arc;

use axum::http::StatusCode;

use super::html::{Both, Field, button, form, section};
use super::login::unavailable;
use super::sources::set;
use super::{Answer, Visit};
use crate::edge::orders::local::{self, InForce};
use crate::edge::page::text::{self, Text};
use crate::edge::status::Stamp;
use crate::model::order::{Order, Timetable};

const TITLE: Both<'_> = ["Lịch băng thông", "Bandwidth timetable"];
const PATH: &str = "/ky-thuat/bang-thong";

pub(super) async fn bandwidth(visit: &Visit) -> Answer {
    let config = Arc::clone(visit.config());
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
            "<p>Làn P2–P4 được dùng: <small lang=\"en\">Lanes P2 to P4 may use:</small></p>{}<p>Lịch này thay cho lịch đang dùng, kể cả lịch do trục đặt; trục có thể đặt lại. <small lang=\"en\">It takes the place of what holds now, the hub's too; the hub may set it again.</small></p>",
            list(&timetable)
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
            "do {} đặt lúc {} <small lang=\"en\">set by, at</small>",
            Text(by),
            text::time(Stamp(*at))
        ),
        None => "theo cấu hình của trạm <small lang=\"en\">as the box's configuration says</small>"
            .to_owned(),
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
    let inside = format!("{}{}", field.area(6), button(["Xem trước", "Preview"]));
    let html = format!(
        "<p>Đang dùng, {whose}:</p>{}{}",
        list(&in_force.timetable),
        form(PATH, &visit.token, &inside)
    );
    visit.page_with(status, TITLE, &section(TITLE, &html))
}

fn list(timetable: &Timetable) -> String {
    if timetable.is_empty() {
        return "<p>Không giới hạn, hoặc theo cấu hình của trạm. <small lang=\"en\">No limit, or as the configuration says.</small></p>".to_owned();
    }
    let lines: Vec<String> = timetable
        .texts()
        .iter()
        .map(|line| format!("<li>{} kbit/s</li>", Text(line)))
        .collect();
    format!("<ul>{}</ul>\n", lines.concat())
}
