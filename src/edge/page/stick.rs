//! The page's word on the stick that carries data to the hub: whether it may be pulled, what it carries,
//! and what went wrong with it.

use super::sources::trouble_text;
use crate::edge::page::frame::{open, put};
use crate::edge::page::lang::{Lang, Words, time_near};
use crate::edge::status::Status;
use crate::edge::stick::state::{StickState, StickStatus};

pub(super) const STICK: (&str, Words) = ("usb", ["USB", "Stick"]);
/// What happened longer ago is no news; a fault and a stick that is being written always are.
const NEWS_MS: i64 = 7 * 86_400_000;

/// Whether the page speaks of it.
pub(super) fn is_news(status: &Status) -> bool {
    status.stick.as_ref().is_some_and(|stick| {
        stick.state == StickState::Writing || status.at.0.0 < stick.at.0.0 + NEWS_MS
    })
}

pub(super) fn stick(out: &mut String, status: &Status, lang: Lang) {
    let Some(stick) = status.stick.as_ref().filter(|_| is_news(status)) else {
        return;
    };
    open(out, lang, STICK.0, STICK.1);
    let at = time_near(stick.at, status.at);
    let html = match (stick.state, &stick.fault) {
        (StickState::Writing, _) => lang.of([
            format!("<strong>USB: đang ghi… không được rút</strong> (từ {at})"),
            format!("<strong>Being written, do not pull it</strong> (since {at})"),
        ]),
        (StickState::Ready, _) => lang.of([
            format!("<strong>USB: đã xong, có thể rút USB</strong> ({at})"),
            format!("<strong>Done, the stick may be pulled</strong> ({at})"),
        ]),
        (StickState::Failed, Some(fault)) => format!("USB, {at}: {}", trouble_text(fault, lang)),
        (StickState::Failed, None) => at,
    };
    put(out, format_args!("<p>{html}</p>\n"));
    carried(out, stick, lang);
    out.push_str("</section>\n");
}

fn carried(out: &mut String, stick: &StickStatus, lang: Lang) {
    if let Some(imported) = stick.imported.filter(|imported| 0 < imported.files) {
        let (files, entries) = (lang.count(imported.files), lang.count(imported.entries));
        let html = lang.of([
            format!("Đã nhận biên nhận: {files} tệp, trục đã giữ thêm {entries} bản ghi."),
            format!("Receipts taken: {files} files, the hub has {entries} entries more."),
        ]);
        put(out, format_args!("<p>{html}</p>\n"));
    }
    let Some(exported) = stick.exported else {
        return;
    };
    let (entries, size) = (lang.count(exported.entries), lang.bytes(exported.bytes));
    let html = match (stick.state, exported.entries) {
        (StickState::Ready, 0) => lang
            .of([
                "Không có gì chờ gửi, nên không ghi gì.",
                "Nothing waits, so nothing was written.",
            ])
            .to_owned(),
        (StickState::Writing, _) => lang.of([
            format!("Đã ghi được {entries} bản ghi, {size}."),
            format!("{entries} entries so far, {size}."),
        ]),
        _ => lang.of([
            format!(
                "Trên USB: {entries} bản ghi chờ, {size}, chỉ trục đọc được. Mang USB về trung tâm, rồi mang trở lại để \
                 nhận biên nhận."
            ),
            format!(
                "On it: {entries} entries that wait, {size}, for the hub's eyes only. Carry it to the hub, and back for \
                 the receipts."
            ),
        ]),
    };
    put(out, format_args!("<p>{html}</p>\n"));
    if 0 < exported.left_bytes {
        let left = lang.bytes(exported.left_bytes);
        let html = lang.of([
            format!("Còn {left} tệp đính kèm chưa ghi được vì kho đầy; cần thêm một chuyến nữa."),
            format!("{left} of attachments are left because the store is full; come again."),
        ]);
        put(out, format_args!("<p>{html}</p>\n"));
    }
}
