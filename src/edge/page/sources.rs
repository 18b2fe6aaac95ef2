//! The page's section on the sources: what came, what was refused or is parked, and why.

use std::borrow::Cow;

use super::SOURCES;
use crate::edge::ftp::PLAIN_FTP;
use crate::edge::page::frame::{Column, TABLE_END, column, more, number, open, put, row, table};
use crate::edge::page::lang::{Lang, time};
use crate::edge::page::text::{Text, foreign, vietnamese};
use crate::edge::status::{SourceState, SourceStatus, Status, Trouble};

/// The page shows so many sources, so that it stays small.
const ROWS: usize = 30;
const COLUMNS: [Column; 7] = [
    column("Tên", "Name"),
    column("Loại", "Kind"),
    number("Đã nhận", "Accepted"),
    column("Nhận lần cuối", "Last accepted"),
    number("Bị từ chối", "Refused"),
    column("Từ chối lần cuối", "Last refused"),
    column("Tình trạng", "State"),
];
/// A reason is cut to this on the page; the source's own log has all of it.
const REASON_CHARS_MAX: usize = 120;

pub(super) fn sources(out: &mut String, status: &Status, lang: Lang) {
    let sources = &status.sources;
    open(out, lang, SOURCES.0, SOURCES.1);
    if sources.is_empty() {
        put(
            out,
            format_args!(
                "<p>{}</p></section>\n",
                lang.of(["Chưa có nguồn nào.", "No source yet."])
            ),
        );
        return;
    }
    table(
        out,
        lang,
        lang.of([
            "Mỗi nguồn: lần nhận cuối, lần từ chối cuối và lý do",
            "Each source: what it gave last, what was last refused and why",
        ]),
        &COLUMNS,
    );
    // The ones in trouble first: they are what somebody looks for.
    let mut order: Vec<&SourceStatus> = sources.iter().collect();
    order.sort_by_key(|source| !is_red(source));
    for source in order.into_iter().take(ROWS) {
        one(out, source, lang);
    }
    out.push_str(TABLE_END);
    more(out, lang, sources.len().saturating_sub(ROWS));
    parked(out, sources, lang);
    out.push_str("</section>\n");
}

fn is_red(source: &SourceStatus) -> bool {
    let is_risky = |warning: &Trouble| warning.code == PLAIN_FTP;
    source.fault.is_some() || source.warning.as_ref().is_some_and(is_risky)
}

fn one(out: &mut String, source: &SourceStatus, lang: Lang) {
    let gone = lang.of(["không còn trong cấu hình", "no longer configured"]);
    let kind = source.kind.as_deref().unwrap_or(gone);
    let last = source.last_accepted.map_or("–".to_owned(), time);
    let refused = match (&source.last_reason, source.last_refused) {
        (Some(reason), Some(at)) => format!("{}: {}", time(at), vietnamese(lang, &cut(reason))),
        (Some(reason), None) => vietnamese(lang, &cut(reason)),
        (None, at) => at.map_or("–".to_owned(), time),
    };
    let cells = [
        &foreign(&source.name),
        &foreign(kind),
        &lang.count(source.accepted),
        &last,
        &lang.count(source.refused),
        &refused,
        &state(source, lang),
    ];
    let cells = cells.map(String::as_str);
    row(out, lang, &COLUMNS, is_red(source), 0, &cells);
}

/// What the source does, what is wrong with it, and what waits for a person.
fn state(source: &SourceStatus, lang: Lang) -> String {
    let mut parts = Vec::new();
    for trouble in [&source.fault, &source.warning].into_iter().flatten() {
        parts.push(trouble_text(trouble, lang));
    }
    if let Some(state) = source.state {
        let word = lang.of(match state {
            SourceState::Working => ["Đang đọc", "Reading"],
            SourceState::Waiting => ["Tốt, chờ lượt sau", "Good, waits for its next turn"],
            SourceState::Failed => [
                "Tự thử lại, khoảng nghỉ tăng dần",
                "Tries again by itself, with growing pauses",
            ],
            SourceState::Paused => ["Tạm dừng", "Paused"],
        });
        let since = source.since.filter(|_| state != SourceState::Working);
        let since = since.map_or(String::new(), |since| {
            format!("{}{}", lang.of([", từ ", ", since "]), time(since))
        });
        parts.push(format!("{word}{since}"));
    }
    if let Some(progress) = source.progress {
        let of = progress
            .of
            .map_or(String::new(), |of| format!(" / {}", lang.count(of)));
        let rows = lang.count(progress.rows);
        parts.push(format!("{rows}{of} {}", lang.of(["dòng", "rows"])));
    }
    if 0 < source.parked {
        let rows = lang.count(source.parked);
        parts.push(lang.of([
            format!("Giữ lại {rows} dòng"),
            format!("{rows} rows parked"),
        ]));
    }
    if parts.is_empty() {
        parts.push("–".to_owned());
    }
    parts.join("<br>")
}

/// A trouble with what to do.
pub(super) fn trouble_text(trouble: &Trouble, lang: Lang) -> String {
    let [text, hint] = lang.of([
        [&trouble.text_vi, &trouble.hint_vi],
        [&trouble.text_en, &trouble.hint_en],
    ]);
    format!("<strong>{}</strong>. {}", foreign(text), foreign(hint))
}

/// What is kept aside until a person has looked at it.
fn parked(out: &mut String, sources: &[SourceStatus], lang: Lang) {
    let total: u64 = sources.iter().map(|source| source.parked).sum();
    if total == 0 {
        return;
    }
    put(
        out,
        format_args!(
            "<h3>{}</h3><p>{}</p><ul>\n",
            lang.of(["Giữ lại chờ xử lý", "Parked"]),
            lang.of([
                format!(
                    "{} dòng không nhận được như hiện tại; phần còn lại vẫn đi.",
                    lang.count(total)
                ),
                format!(
                    "{} rows cannot be kept as they are; the rest goes on.",
                    lang.count(total)
                ),
            ])
        ),
    );
    for source in sources.iter().filter(|source| 0 < source.parked).take(ROWS) {
        let reasons = source.parked_reasons.iter().map(|reason| {
            let text = foreign(&cut(lang.of([&reason.text_vi, &reason.text_en])));
            format!("{text} ({})", lang.count(reason.rows))
        });
        let reasons: Vec<String> = reasons.collect();
        let colon = if reasons.is_empty() { "" } else { ": " };
        put(
            out,
            format_args!(
                "<li>{}, {}{colon}{}</li>\n",
                Text(&source.name),
                lang.count(source.parked),
                reasons.join("; ")
            ),
        );
    }
    put(
        out,
        format_args!(
            "</ul><p><a id=\"xu-ly\" href=\"/ky-thuat{}\">{}</a></p>\n",
            lang.query(),
            lang.of([
                "Xem, sửa và đưa vào lại (cần đăng nhập)",
                "Look at them, repair them, hand them in again (needs signing in)"
            ])
        ),
    );
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(REASON_CHARS_MAX) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}
