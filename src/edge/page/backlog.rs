//! The page's section on what waits for the hub's receipt, by lane.

use super::BACKLOG;
use crate::edge::page::frame::{TABLE_END, column, number, open, put, table};
use crate::edge::page::lang::{Lang, Words};
use crate::edge::page::text;
use crate::edge::status::Status;
use crate::model::Lane;

pub(super) fn backlog(out: &mut String, status: &Status, lang: Lang) {
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
    lanes(out, status, lang);
    out.push_str("</section>\n");
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
