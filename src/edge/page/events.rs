//! The page's section on the events of the last days.

use super::EVENTS;
use crate::edge::page::frame::{Column, TABLE_END, column, more, open, put, row, table};
use crate::edge::page::lang::{Lang, Words, time};
use crate::edge::page::text::foreign;
use crate::edge::status::Status;
use crate::engine::sending::Level;

/// The page shows so many events; `tramd status` shows them all.
const ROWS: usize = 25;
const COLUMNS: [Column; 4] = [
    column("Lúc", "When"),
    column("Mức", "Level"),
    column("Sự kiện", "Event"),
    column("Chi tiết", "Detail"),
];

pub(super) fn events(out: &mut String, status: &Status, lang: Lang) {
    open(out, lang, EVENTS.0, EVENTS.1);
    if status.events.is_empty() {
        put(
            out,
            format_args!(
                "<p>{}</p></section>\n",
                lang.of([
                    "Không có sự kiện nào trong 7 ngày qua.",
                    "Nothing in the last 7 days."
                ])
            ),
        );
        return;
    }
    table(
        out,
        lang,
        lang.of([
            "7 ngày qua, mới nhất ở trên",
            "The last 7 days, newest first",
        ]),
        &COLUMNS,
    );
    for event in status.events.iter().take(ROWS) {
        let level = lang.of(match event.level {
            Level::Info => ["Thông tin", "Information"],
            Level::Warning => ["Chú ý", "Warning"],
            Level::Alarm => ["<strong>Báo động</strong>", "<strong>Alarm</strong>"],
        });
        let code = foreign(&event.code);
        let what = match name(&event.code) {
            Some(name) => format!("{} <code>{code}</code>", lang.of(name)),
            None => format!("<code>{code}</code>"),
        };
        let (at, detail) = (time(event.at), foreign(&event.detail));
        row(out, lang, &COLUMNS, false, 2, &[&at, level, &what, &detail]);
    }
    out.push_str(TABLE_END);
    more(out, lang, status.events.len().saturating_sub(ROWS));
    out.push_str("</section>\n");
}

/// What a code of an event means.
fn name(code: &str) -> Option<Words> {
    Some(match code {
        "link_up" => ["Đã nối với trục", "Link to the hub stands"],
        "link_down" => ["Mất liên kết với trục", "Link to the hub lost"],
        "refused_by_hub" => ["Trục từ chối dữ liệu", "The hub refuses data"],
        "new_epoch" => ["Bắt đầu số hiệu nhật ký mới", "A new epoch begins"],
        "forged_receipt" => [
            "Biên nhận không có chữ ký hợp lệ",
            "Receipt without a valid signature",
        ],
        "broker_limit" => [
            "Bản ghi lớn hơn giới hạn của broker",
            "Entry beyond the broker's limit",
        ],
        "store_failed" => ["Kho dữ liệu gặp lỗi", "The store failed"],
        "store_works" => ["Kho dữ liệu hoạt động lại", "The store works again"],
        "store_set_aside" => [
            "Kho dữ liệu hỏng đã được cất riêng",
            "A damaged store was set aside",
        ],
        "state_secret" => [
            "Chặn nội dung có dấu mật",
            "Content with a secrecy mark was stopped",
        ],
        "source_failed" => ["Nguồn không hoạt động", "A source does not work"],
        "source_warning" => ["Nguồn cần chú ý", "A source wants attention"],
        "source_works" => ["Nguồn hoạt động lại", "A source works again"],
        "ftp_locked" => ["Tạm khóa đăng nhập FTP", "FTP login locked for a while"],
        "mqtt_session_lost" => [
            "Broker nội bộ làm mất phiên",
            "The local broker lost the session",
        ],
        "file_notes" => ["Ghi chú khi đọc tệp", "Notes about a file"],
        "attachments_not_kept" => ["Tệp đính kèm không được giữ", "Attachments were not kept"],
        "attachment_unscanned" => ["Tệp đính kèm chưa quét vi-rút", "Attachment not scanned"],
        "power_cut" => [
            "Máy bị tắt đột ngột hoặc mất điện",
            "Power cut or sudden stop of the machine",
        ],
        "stick_done" => ["Đã ghi hoặc đọc xong USB", "A stick was written or read"],
        "stick_failed" => ["USB gặp lỗi", "A stick failed"],
        "restored" => [
            "Kho dữ liệu được khôi phục từ bản sao lưu",
            "The store was restored from a backup",
        ],
        "killed" => [
            "Chương trình bị dừng đột ngột",
            "The program was stopped suddenly",
        ],
        _ => return None,
    })
}
