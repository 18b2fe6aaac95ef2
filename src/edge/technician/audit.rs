//! Who did what and when: the hub's commands and the technicians' deeds in one list.

use std::sync::Arc;

use super::html::{Both, section, table};
use super::login::unavailable;
use super::{Answer, Visit};
use crate::edge::orders::local;
use crate::edge::page::text::{self, Text};
use crate::edge::status::Stamp;

const TITLE: Both<'_> = ["Nhật ký việc đã làm", "Audit log"];
const SHOWN: u32 = 200;
/// Longest detail that is shown.
const DETAIL_CHARS_MAX: usize = 200;

pub(super) async fn audit(visit: &Visit) -> Answer {
    let config = Arc::clone(visit.config());
    let rows = tokio::task::spawn_blocking(move || local::audit(&config, SHOWN)).await;
    let rows = match rows.expect("reading neither panics nor is cancelled") {
        Ok(rows) => rows,
        Err(error) => return unavailable(visit, TITLE, &error),
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let detail: String = row.detail.chars().take(DETAIL_CHARS_MAX).collect();
            vec![
                text::time(Stamp(row.at)),
                Text(&row.who).to_string(),
                Text(&row.name).to_string(),
                Text(&row.result).to_string(),
                Text(&detail).to_string(),
                format!("{} {}", Text(&row.what), Text(&row.id)),
            ]
        })
        .collect();
    let heads: [Both<'_>; 6] = [
        ["Lúc", "At"],
        ["Ai", "Who"],
        ["Việc", "Deed"],
        ["Kết quả", "Result"],
        ["Chi tiết", "Detail"],
        ["Từ đâu", "From where"],
    ];
    visit.page(
        TITLE,
        &section(visit.lang, TITLE, &table(visit.lang, &heads, &rows)),
    )
}
