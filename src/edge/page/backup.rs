//! What the section on the machine says of the nightly backup.

use super::sources::trouble_text;
use crate::edge::backup::schedule::LastBackup;
use crate::edge::page::frame::term;
use crate::edge::page::lang::{Lang, time, time_near};
use crate::edge::page::text::foreign;
use crate::edge::status::Status;

pub(super) fn backup(out: &mut String, status: &Status, lang: Lang) {
    let name = lang.of(["Sao lưu gần nhất", "Last backup"]);
    let Some(backup) = &status.backup else {
        let html = lang.of([
            "chưa đặt; thêm mục <code>[backup]</code> với <code>folder</code> vào cấu hình",
            "not set up; add <code>[backup]</code> with <code>folder</code> to the configuration",
        ]);
        return term(out, name, html);
    };
    let last = match &backup.last {
        Some(last) => last_text(last, lang),
        None => lang.of(["chưa có lần nào", "none yet"]).to_owned(),
    };
    let late = match backup.late {
        true => lang.of(["; <strong>quá cũ</strong>", "; <strong>too old</strong>"]),
        false => "",
    };
    term(out, name, &format!("{last}{late}"));
    if let Some(fault) = &backup.fault {
        let since = fault.since.map_or(String::new(), |at| {
            format!("{}: ", time_near(at, status.at))
        });
        let html = format!("{since}{}", trouble_text(fault, lang));
        term(out, lang.of(["Sao lưu gặp lỗi", "Backup failed"]), &html);
    }
    if let Some(next) = backup.next {
        let html = lang.of([
            format!(
                "{} vào {}, giữ {} bản",
                time(next),
                foreign(&backup.folder),
                backup.keep
            ),
            format!(
                "{} to {}, {} are kept",
                time(next),
                foreign(&backup.folder),
                backup.keep
            ),
        ]);
        term(out, lang.of(["Sao lưu lần tới", "Next backup"]), &html);
    }
}

/// The last good one, as HTML.
pub fn last_text(last: &LastBackup, lang: Lang) -> String {
    let (at, size, entries) = (
        time(last.at),
        lang.bytes(last.bytes),
        lang.count(last.entries),
    );
    let (files, file) = (lang.count(last.files), foreign(&last.file));
    let mut html = lang.of([
        format!("{at}, {size}, {entries} bản ghi, {files} tệp, đã khôi phục thử tốt: {file}"),
        format!("{at}, {size}, {entries} entries, {files} files, restored on trial: {file}"),
    ]);
    if last.same_disk {
        html.push_str(lang.of([
            "; <strong>cùng đĩa với dữ liệu</strong>, hỏng đĩa là mất cả hai: đặt folder ở ổ mạng",
            "; <strong>on the disk of the data</strong>, which takes both with it: let folder be a share",
        ]));
    }
    html
}
