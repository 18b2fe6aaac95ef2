//! Files that a folder source has refused: to look at the reason, and to have one taken anew.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use axum::http::StatusCode;

use super::form::encoded;
use super::html::{Both, error, link, paragraph, section, table};
use super::login::unavailable;
use super::sources::{folder_of, named};
use super::{Answer, HOME, Visit};
use crate::edge::folder::files::{Folder, RefusedFile};
use crate::edge::page::text::Text;
use crate::model::SourceName;

const TITLE: Both<'_> = ["Tệp bị từ chối", "Refused files"];
const REPLAY_TITLE: Both<'_> = ["Nhận lại tệp", "Take the file anew"];
const SHOWN: usize = 200;

/// The folder of the source that a request names.
fn folder(visit: &Visit, title: Both<'_>) -> Result<(SourceName, Folder), Answer> {
    let name = named(visit, title)?;
    match folder_of(visit.config(), name.as_str()) {
        Some(folder) => Ok((name, Folder::new(&folder.path, &folder.patterns))),
        None => {
            let texts = ["Nguồn này không nhận tệp.", "This source takes no files."];
            Err(visit.page_with(StatusCode::NOT_FOUND, title, &error(visit.lang, texts)))
        }
    }
}

pub(super) async fn list(visit: &Visit) -> Answer {
    let (name, folder) = match folder(visit, TITLE) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let files = tokio::task::spawn_blocking(move || folder.refused(SHOWN)).await;
    let files = match files.expect("reading neither panics nor is cancelled") {
        Ok(files) => files,
        Err(error) => return unavailable(visit, TITLE, &error),
    };
    let rows: Vec<Vec<String>> = files
        .iter()
        .map(|file: &RefusedFile| {
            let path = format!(
                "/ky-thuat/tep/nhan-lai?nguon={}&ten={}",
                encoded(name.as_str()),
                encoded(&hex(&file.name))
            );
            vec![
                Text(&file.name.to_string_lossy()).to_string(),
                visit.lang.bytes(file.bytes),
                format!("<pre lang=\"vi\">{}</pre>", lines(&file.reason)),
                link(visit.lang, &path, REPLAY_TITLE),
            ]
        })
        .collect();
    let heads: [Both<'_>; 4] = [
        ["Tệp", "File"],
        ["Dung lượng", "Size"],
        ["Lý do", "Reason"],
        ["Việc", "Deeds"],
    ];
    let mut html = format!("<p>{}</p>\n", Text(name.as_str()));
    match rows.is_empty() {
        true => html.push_str(&paragraph(
            visit.lang,
            ["Không có tệp nào bị từ chối.", "No file was refused."],
        )),
        false => html.push_str(&table(visit.lang, &heads, &rows)),
    }
    html.push_str(&format!(
        "<p>{}</p>\n",
        link(visit.lang, HOME, ["Quay lại", "Back"])
    ));
    visit.page(TITLE, &section(visit.lang, TITLE, &html))
}

pub(super) async fn replay(visit: &Visit) -> Answer {
    let (name, folder) = match folder(visit, REPLAY_TITLE) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let back = format!("/ky-thuat/tep?nguon={}", encoded(name.as_str()));
    let Some(file) = unhex(visit.field("ten")) else {
        let told = ["Không có tệp này.", "There is no such file."];
        return visit.tell(false, told.map(str::to_owned), &back);
    };
    let shown = file.to_string_lossy().into_owned();
    if !visit.is_confirmed() {
        let (file, source) = (Text(&shown), Text(name.as_str()));
        let what = visit.lang.of([
            format!(
                "<p>Tệp <strong>{file}</strong> trở lại thư mục của nguồn {source} và được đọc lại từ đầu; lý do cũ bị xóa. Nếu vẫn sai, tệp lại nằm ở đây.</p>"
            ),
            format!(
                "<p>The file <strong>{file}</strong> goes back to the folder of {source} and is read anew; the old reason is removed. If it is still wrong it comes back here.</p>"
            ),
        ]);
        let fields = [("nguon", name.as_str()), ("ten", visit.field("ten"))];
        return visit.confirm(REPLAY_TITLE, &what, &fields, REPLAY_TITLE, &back);
    }
    let done = tokio::task::spawn_blocking(move || folder.replay(&file)).await;
    // A file's name may be a person's: the audit names the source alone.
    let deed = "replay_file";
    match done.expect("it neither panics nor is cancelled") {
        Ok(()) => {
            visit.record(visit.by(), deed, "done", name.as_str()).await;
            let told = [
                format!("Tệp {shown} đang được nhận lại."),
                format!("The file {shown} is taken anew."),
            ];
            visit.tell(true, told, &back)
        }
        Err(error) => {
            visit
                .record(visit.by(), deed, "failed", name.as_str())
                .await;
            let told = match error.kind() {
                io::ErrorKind::NotFound => ["Tệp không còn ở đó.", "The file is no longer there."],
                io::ErrorKind::AlreadyExists => [
                    "Thư mục đang có một tệp cùng tên chờ nhận; chờ tệp đó xong rồi thử lại.",
                    "A file of the same name waits in the folder; try again when it is taken.",
                ],
                _ => [
                    "Không chuyển được tệp; kiểm tra quyền ghi của thư mục.",
                    "The file cannot be moved; check the folder's permissions.",
                ],
            };
            visit.tell(false, told.map(str::to_owned), &back)
        }
    }
}

/// Text of several lines, as HTML.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| Text(line).to_string()).collect();
    lines.join("\n")
}

/// A file's name may have any bytes; in a form it travels as hexadecimal digits.
fn hex(name: &OsStr) -> String {
    name.as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn unhex(text: &str) -> Option<OsString> {
    let digits = text.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some(OsStr::from_bytes(&bytes?).to_owned())
}
