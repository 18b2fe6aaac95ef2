//! The page's section on what waits for the hub's receipt: by lane, over time, and until when.

use super::{BACKLOG, chart};
use crate::edge::page::frame::{TABLE_END, column, more, number, open, put, table};
use crate::edge::page::lang::{Lang, Words, time_near};
use crate::edge::page::text::{self, foreign};
use crate::edge::status::Status;
use crate::edge::status::by_source::SourceWaiting;
use crate::edge::status::history::{Forecast, History};
use crate::model::Lane;

/// The page shows so many sources, so that it stays small.
const SOURCES: usize = 30;

pub(super) fn backlog(out: &mut String, status: &Status, history: &History, lang: Lang) {
    open(out, lang, BACKLOG.0, BACKLOG.1);
    if status.lanes.is_empty() {
        put(
            out,
            format_args!(
                "<p>{}</p></section>\n",
                lang.of(["Không đọc được kho dữ liệu.", "The store cannot be read."])
            ),
        );
        return;
    }
    put(
        out,
        format_args!("<p>{}</p>\n", forecast(status, history, lang)),
    );
    lanes(out, status, lang);
    by_source(out, status, lang);
    chart::charts(out, status, history, lang);
    out.push_str("</section>\n");
}

/// Until when all of it has gone; said only where it is known.
fn forecast(status: &Status, history: &History, lang: Lang) -> String {
    let waiting = lang.count(status.waiting());
    let [vi, en] = match history.forecast(status) {
        Forecast::Flowing if status.waiting() == 0 => [
            "Không có gì chờ gửi.".to_owned(),
            "Nothing waits.".to_owned(),
        ],
        Forecast::Flowing => [
            format!("{waiting} bản ghi đang đi, không bản ghi nào chờ lâu."),
            format!("{waiting} records are on their way; none waits for long."),
        ],
        Forecast::NoLink => [
            format!(
                "{waiting} bản ghi chờ gửi; chưa có kết nối nên chưa dự kiến được lúc gửi hết."
            ),
            format!("{waiting} records wait; without a link nobody knows until when."),
        ],
        Forecast::Measuring => [
            format!("{waiting} bản ghi chờ gửi; đang đo tốc độ để dự kiến lúc gửi hết."),
            format!("{waiting} records wait; the rate is being measured."),
        ],
        Forecast::Growing => [
            format!(
                "{waiting} bản ghi chờ gửi; lượng chờ không giảm nên chưa dự kiến được lúc gửi hết."
            ),
            format!("{waiting} records wait, and they do not become fewer: no forecast."),
        ],
        Forecast::At(end) => {
            let end = time_near(end, status.at);
            [
                format!("{waiting} bản ghi chờ gửi, dự kiến gửi hết lúc {end}."),
                format!("{waiting} records wait; all will be delivered at about {end}."),
            ]
        }
    };
    lang.of([vi, en])
}

/// What travels in a lane.
pub(super) fn lane_name(lane: Lane) -> Words {
    match lane {
        Lane::P0 => ["Điều khiển và cảnh báo", "control and alarms"],
        Lane::P1 => ["Khẩn", "urgent"],
        Lane::P2 => ["Thông thường", "ordinary"],
        Lane::P3 => ["Đo đạc định kỳ", "routine measurements"],
        Lane::P4 => ["Tệp đính kèm, nạp ban đầu", "attachments, first loads"],
    }
}

fn lanes(out: &mut String, status: &Status, lang: Lang) {
    table(
        out,
        lang,
        lang.of([
            "Theo làn, làn trên đi trước",
            "By lane; the upper ones go first",
        ]),
        &[
            column("Làn", "Lane"),
            number("Bản ghi chờ", "Records waiting"),
            number("Dung lượng", "Size"),
            number("Đã dùng", "Used"),
            number("Chờ lâu nhất", "Oldest"),
        ],
    );
    for lane in &status.lanes {
        let oldest = match lane.waiting {
            0 => "–".to_owned(),
            _ => lang.duration(lane.oldest_s),
        };
        let full = match lane.full {
            true => lang.of([" <strong>ĐẦY</strong>", " <strong>FULL</strong>"]),
            false => "",
        };
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{} {}{full}</th><td class=\"number\">{}</td>\
                 <td class=\"number\">{}</td><td class=\"number\">{} %</td>\
                 <td class=\"number\">{oldest}</td></tr>\n",
                lane.lane,
                lang.of(lane_name(lane.lane)),
                lang.count(lane.waiting),
                lang.bytes(lane.waiting_bytes),
                text::percent(lane.waiting_bytes, lane.quota_bytes),
            ),
        );
    }
    out.push_str(TABLE_END);
}

/// The sources of which something waits, the most entries first.
fn by_source(out: &mut String, status: &Status, lang: Lang) {
    let Some(counted) = &status.waiting_by_source else {
        return;
    };
    if counted.sources.is_empty() {
        return;
    }
    let caption = lang.of(match counted.is_complete {
        true => ["Theo nguồn", "By source"],
        false => [
            "Theo nguồn; đang đếm, chưa hết phần chờ gửi",
            "By source; still counting, a part is missing",
        ],
    });
    table(
        out,
        lang,
        caption,
        &[
            column("Nguồn", "Source"),
            number("Bản ghi chờ", "Records waiting"),
            number("Dung lượng", "Size"),
            number("Chờ lâu nhất", "Oldest"),
        ],
    );
    let mut order: Vec<&SourceWaiting> = counted.sources.iter().collect();
    order.sort_by_key(|waiting| std::cmp::Reverse(waiting.entries));
    for waiting in order.into_iter().take(SOURCES) {
        let attachments = || lang.of(["tệp đính kèm", "attachments"]).to_owned();
        let age_ms = status.at.0.0.saturating_sub(waiting.oldest.0.0);
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td>\
                 <td class=\"number\">{}</td><td class=\"number\">{}</td></tr>\n",
                waiting.source.as_deref().map_or_else(attachments, foreign),
                lang.count(waiting.entries),
                lang.bytes(waiting.bytes),
                lang.duration(u64::try_from(age_ms / 1_000).unwrap_or(0)),
            ),
        );
    }
    out.push_str(TABLE_END);
    more(out, lang, counted.sources.len().saturating_sub(SOURCES));
}
