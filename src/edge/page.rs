//! The box's page at `/`: one look tells whether data comes in, goes out, and whether trouble is
//! ahead. Plain HTML without scripts and without any request to elsewhere.

mod down;
pub mod lights;
mod orders;
pub mod text;

use std::fmt::Write;

use crate::edge::ftp::PLAIN_FTP;
use crate::edge::status::{LaneStatus, LinkState, SourceStatus, Status, Trouble, card_life_vi};
use crate::engine::sending::Level;
use crate::model::{ClockQuality, Lane};
use lights::Light;
use text::Text;

const STYLE: &str = include_str!("page/style.css");

/// The page's `Content-Security-Policy`: nothing but its own style, known by its digest.
pub const CSP: &str = "default-src 'none'; style-src 'sha256-H4/EFx+N3jxO/2xoRATkl3PVOhocPztzhCJoir3xoek='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page shows so many events; `tramd status` shows them all.
const EVENTS: usize = 12;
/// The page shows so many sources, so that it stays small.
const SOURCES: usize = 40;
/// Longest foreign text that is shown.
const TEXT_CHARS_MAX: usize = 200;

/// The whole page.
pub fn render(status: &Status) -> String {
    let mut out = String::with_capacity(16 * 1024);
    write!(
        out,
        concat!(
            "<!DOCTYPE html>\n<html lang=\"vi\"><head><meta charset=\"utf-8\">",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
            "<meta http-equiv=\"refresh\" content=\"10\">",
            "<title>Trạm {}</title><style>{}</style></head>\n<body>\n",
            "<header><h1>Trạm liên thông {}</h1>",
            "<p>Cơ quan {} · {} <small lang=\"en\">Gateway box, Vietnam time</small></p></header>\n",
            "<main>\n",
        ),
        Text(status.box_id.as_str()),
        STYLE,
        Text(status.box_id.as_str()),
        Text(status.agency.as_str()),
        text::time(status.at),
    )
    .expect("writing to memory");
    out.push_str("<div class=\"lights\">\n");
    light(
        &mut out,
        ["Dữ liệu vào", "Data in"],
        &lights::data_in(status),
    );
    light(
        &mut out,
        ["Dữ liệu đi", "Data out"],
        &lights::data_out(status),
    );
    light(
        &mut out,
        ["Sắp có sự cố?", "Trouble ahead?"],
        &lights::ahead(status),
    );
    out.push_str("</div>\n");
    link(&mut out, status);
    lanes(&mut out, &status.lanes);
    sources(&mut out, &status.sources);
    down::down(&mut out, status);
    out.push_str("<div class=\"pair\">\n");
    store(&mut out, status);
    clock(&mut out, status);
    out.push_str("</div>\n");
    orders::orders(&mut out, status);
    events(&mut out, status);
    put(
        &mut out,
        format_args!(
            "</main>\n<footer><p>tramd {} · trang tự làm mới sau 10 giây <span lang=\"en\">(refreshes every 10 s)</span></p></footer>\n</body></html>\n",
            Text(&status.version)
        ),
    );
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory");
}

fn light(out: &mut String, [name, name_en]: [&str; 2], light: &Light) {
    let Light {
        colour,
        text_vi,
        text_en,
    } = light;
    put(
        out,
        format_args!(
            "<div class=\"light {}\"><p>{name} <small lang=\"en\">{name_en}</small></p><p><strong>{}</strong> <small lang=\"en\">{}</small></p><p>{}</p><p><small lang=\"en\">{}</small></p></div>\n",
            colour.class(),
            colour.word(),
            colour.word_en(),
            Text(&short(text_vi)),
            Text(&short(text_en)),
        ),
    );
}

fn open(out: &mut String, [name, name_en]: [&str; 2]) {
    put(
        out,
        format_args!("<section><h2>{name} <small lang=\"en\">{name_en}</small></h2>\n"),
    );
}

/// A row of a list of terms; `html` is escaped already.
fn term(out: &mut String, name: &str, html: &str) {
    put(out, format_args!("<dt>{name}</dt><dd>{html}</dd>\n"));
}

fn link(out: &mut String, status: &Status) {
    let link = &status.link;
    open(out, ["Kết nối tới trục", "Link to the hub"]);
    out.push_str("<dl>\n");
    let state = match link.state {
        LinkState::Up => "Đã kết nối <small lang=\"en\">up</small>",
        LinkState::Connecting => "Đang kết nối <small lang=\"en\">connecting</small>",
        LinkState::Down => "Mất liên lạc <small lang=\"en\">down</small>",
        LinkState::Stopped => "Chương trình không chạy <small lang=\"en\">stopped</small>",
    };
    let since = link
        .since
        .map_or(String::new(), |since| format!(", từ {}", text::time(since)));
    term(out, "Trạng thái", &format!("{state}{since}"));
    if let Some(reason) = &link.reason {
        let mqtt = reason
            .mqtt
            .map_or(String::new(), |code| format!(", MQTT 0x{code:02x}"));
        let html = format!(
            "{} <small lang=\"en\">{}{mqtt}</small>",
            Text(&short(&reason.text_vi)),
            Text(&short(&reason.code))
        );
        term(out, "Nguyên nhân và cách xử lý", &html);
    }
    if let Some(refused) = &status.refused_by_hub {
        let html = format!(
            "{} <small lang=\"en\">{}</small>, {}",
            Text(&short(&refused.text_vi)),
            Text(&short(&refused.code)),
            text::time(refused.at)
        );
        term(out, "Trục từ chối", &html);
    }
    if let Some(address) = &link.address {
        term(out, "Địa chỉ", &Text(&short(address)).to_string());
    }
    let receipt = link.last_receipt.map_or("chưa có".to_owned(), text::time);
    term(out, "Biên nhận gần nhất", &receipt);
    if let Some(down) = &status.down {
        let heard = down.heard.map_or("chưa có".to_owned(), text::time);
        let held = format!("{heard}; {} mục", down.entries);
        term(out, "Dữ liệu từ trục", &held);
        if let Some(trouble) = &down.trouble {
            let html = format!("<small lang=\"en\">{}</small>", Text(&short(trouble)));
            term(out, "Kho dữ liệu từ trục gặp sự cố", &html);
        }
    }
    out.push_str("</dl></section>\n");
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::P0 => "Điều khiển và cảnh báo",
        Lane::P1 => "Khẩn",
        Lane::P2 => "Thông thường",
        Lane::P3 => "Đo đạc định kỳ",
        Lane::P4 => "Tệp đính kèm, nạp ban đầu",
    }
}

fn lanes(out: &mut String, lanes: &[LaneStatus]) {
    open(out, ["Dữ liệu chờ gửi", "Waiting for the hub"]);
    if lanes.is_empty() {
        out.push_str("<p>Không đọc được kho dữ liệu. <small lang=\"en\">The store cannot be read.</small></p></section>\n");
        return;
    }
    out.push_str("<table><thead><tr><th scope=\"col\">Làn</th><th scope=\"col\" class=\"number\">Bản ghi chờ</th><th scope=\"col\" class=\"number\">Dung lượng</th><th scope=\"col\" class=\"number\">Đã dùng</th><th scope=\"col\" class=\"number\">Chờ lâu nhất</th></tr></thead><tbody>\n");
    for lane in lanes {
        let oldest = match lane.waiting {
            0 => "–".to_owned(),
            _ => text::duration(lane.oldest_s),
        };
        let full = match lane.full {
            true => " <strong>ĐẦY</strong> <small lang=\"en\">full</small>",
            false => "",
        };
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{} {}{full}</th><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{} %</td><td class=\"number\">{oldest}</td></tr>\n",
                lane.lane,
                lane_name(lane.lane),
                text::count(lane.waiting),
                text::bytes(lane.waiting_bytes),
                text::percent(lane.waiting_bytes, lane.quota_bytes),
            ),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn sources(out: &mut String, sources: &[SourceStatus]) {
    open(out, ["Nguồn dữ liệu", "Sources"]);
    if sources.is_empty() {
        out.push_str(
            "<p>Chưa có nguồn nào. <small lang=\"en\">No source yet.</small></p></section>\n",
        );
        return;
    }
    out.push_str("<table><thead><tr><th scope=\"col\">Tên</th><th scope=\"col\">Loại</th><th scope=\"col\" class=\"number\">Đã nhận</th><th scope=\"col\">Lần cuối</th><th scope=\"col\" class=\"number\">Bị từ chối</th><th scope=\"col\">Lý do gần nhất</th></tr></thead><tbody>\n");
    for source in sources.iter().take(SOURCES) {
        let kind = source.kind.as_deref().unwrap_or("không còn trong cấu hình");
        let last = source.last_accepted.map_or("–".to_owned(), text::time);
        let reason = match (&source.last_reason, source.last_refused) {
            (Some(reason), Some(at)) => format!("{}: {}", text::time(at), Text(&short(reason))),
            (Some(reason), None) => Text(&short(reason)).to_string(),
            (None, at) => at.map_or("–".to_owned(), text::time),
        };
        let reason = format!("{}{reason}", troubles(source));
        let is_risky = |warning: &Trouble| warning.code == PLAIN_FTP;
        let is_red = source.fault.is_some() || source.warning.as_ref().is_some_and(is_risky);
        let class = if is_red { " class=\"red\"" } else { "" };
        put(
            out,
            format_args!(
                "<tr{class}><th scope=\"row\">{}</th><td>{}</td><td class=\"number\">{}</td><td>{last}</td><td class=\"number\">{}</td><td>{reason}</td></tr>\n",
                Text(&short(&source.name)),
                Text(&short(kind)),
                text::count(source.accepted),
                text::count(source.refused),
            ),
        );
    }
    out.push_str("</tbody></table>");
    if SOURCES < sources.len() {
        put(
            out,
            format_args!(
                "<p>Và {} nguồn khác, xem bằng lệnh: tramd status</p>",
                sources.len() - SOURCES
            ),
        );
    }
    out.push_str("</section>\n");
}

/// What is wrong with a source now, and what waits for a person.
fn troubles(source: &SourceStatus) -> String {
    let mut html = String::new();
    for trouble in [&source.fault, &source.warning].into_iter().flatten() {
        html.push_str(&format!(
            "<strong>{}</strong>. {} <small lang=\"en\">{}. {}</small><br>",
            Text(&short(&trouble.text_vi)),
            Text(&short(&trouble.hint_vi)),
            Text(&short(&trouble.text_en)),
            Text(&short(&trouble.hint_en))
        ));
    }
    if let Some(progress) = source.progress {
        html.push_str(&format!(
            "Đang đọc: {} dòng<br>",
            text::count(progress.rows)
        ));
    }
    if 0 < source.parked {
        html.push_str(&format!(
            "Giữ lại {} dòng, xem: tramd sources parked {}<br>",
            text::count(source.parked),
            Text(&short(&source.name))
        ));
    }
    html
}

fn store(out: &mut String, status: &Status) {
    let store = &status.store;
    open(out, ["Kho dữ liệu", "Store"]);
    out.push_str("<dl>\n");
    match &store.trouble {
        None => term(
            out,
            "Trạng thái",
            "Hoạt động tốt <small lang=\"en\">good</small>",
        ),
        Some(trouble) => {
            let html = format!(
                "<strong>{}</strong>. {} <small lang=\"en\">{}. {}</small>",
                Text(&short(&trouble.text_vi)),
                Text(&short(&trouble.hint_vi)),
                Text(&short(&trouble.text_en)),
                Text(&short(&trouble.hint_en))
            );
            term(out, "Trạng thái", &html);
        }
    }
    let used = format!(
        "{} / {} ({} %)",
        text::bytes(store.used_bytes),
        text::bytes(store.quota_bytes),
        text::percent(store.used_bytes, store.quota_bytes)
    );
    term(out, "Đã dùng / hạn mức", &used);
    let free = store
        .disk_free_bytes
        .map_or("không rõ".to_owned(), text::bytes);
    term(out, "Đĩa còn trống", &free);
    if let (Some(rate), Some(days)) = (store.card.written_per_day_bytes, store.card.days_left) {
        let html = format!(
            "ghi {} mỗi ngày, còn {} <small lang=\"en\">written a day; life left by its rating</small>",
            text::bytes(rate),
            card_life_vi(days)
        );
        term(out, "Thẻ nhớ", &html);
    }
    out.push_str("</dl></section>\n");
}

fn clock(out: &mut String, status: &Status) {
    open(out, ["Đồng hồ và chứng thư", "Clock and certificate"]);
    out.push_str("<dl>\n");
    let quality = match status.clock.quality {
        ClockQuality::Synchronized => {
            "Khớp với máy chủ giờ <small lang=\"en\">synchronized</small>"
        }
        ClockQuality::Free => {
            "Chạy tự do, chưa thấy máy chủ giờ <small lang=\"en\">no time server seen</small>"
        }
        ClockQuality::Floor => {
            "<strong>Sai</strong>: sớm hơn thời điểm đã biết <small lang=\"en\">wrong, before a time known to be past</small>"
        }
    };
    term(out, "Đồng hồ", quality);
    match &status.certificate {
        None => term(
            out,
            "Chứng thư",
            "Không đọc được <small lang=\"en\">cannot be read</small>",
        ),
        Some(certificate) if certificate.days_left <= 0 => {
            let html = format!(
                "<strong>Đã hết hạn</strong> ngày {} <small lang=\"en\">ended</small>",
                text::time(certificate.not_after)
            );
            term(out, "Chứng thư", &html);
        }
        Some(certificate) => {
            let html = format!(
                "{}, còn {} ngày (đến {})",
                Text(&short(&certificate.common_name)),
                text::count(certificate.days_left.unsigned_abs()),
                text::time(certificate.not_after)
            );
            term(out, "Chứng thư", &html);
        }
    }
    out.push_str("</dl></section>\n");
}

fn events(out: &mut String, status: &Status) {
    open(out, ["Sự kiện gần đây", "Recent events"]);
    if status.events.is_empty() {
        out.push_str("<p>Chưa có sự kiện nào. <small lang=\"en\">None.</small></p></section>\n");
        return;
    }
    out.push_str("<table><thead><tr><th scope=\"col\">Lúc</th><th scope=\"col\">Mức</th><th scope=\"col\">Sự kiện</th></tr></thead><tbody>\n");
    for event in status.events.iter().take(EVENTS) {
        let level = match event.level {
            Level::Info => "Thông tin",
            Level::Warning => "Cảnh báo",
            Level::Alarm => "<strong>Báo động</strong>",
        };
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td>{level}</td><td>{} <small lang=\"en\">{}</small></td></tr>\n",
                text::time(event.at),
                Text(&short(&event.detail)),
                Text(&short(&event.code)),
            ),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn short(text: &str) -> std::borrow::Cow<'_, str> {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

#[cfg(test)]
pub(in crate::edge) mod tests;
