//! The page's sections on what the hub has sent: copies of others' data, the inbox with its ways to
//! the office's software, and commands.

use super::{COMMANDS, COPIES, INBOX};
use crate::edge::page::frame::{Column, TABLE_END, column, more, number, open, row, table, term};
use crate::edge::page::lang::{Lang, Words, time};
use crate::edge::page::text::{foreign, percent};
use crate::edge::status::Status;
use crate::edge::status::down::{
    CommandStatus, ComparedStatus, CopyStatus, DownStatus, FilesStatus, InboxStatus, WayStatus,
};
use crate::model::handover::known;

/// The page shows so many rows of a table, so that it stays small; `tramd status` shows them all.
const ROWS: usize = 20;
const COMMAND_ROWS: usize = 5;
const COPY_COLUMNS: [Column; 4] = [
    column("Bộ dữ liệu", "Dataset"),
    number("Hồ sơ", "Subjects"),
    column("Dữ liệu đến lúc", "As of"),
    column("Tình trạng", "State"),
];
const WAY_COLUMNS: [Column; 4] = [
    column("Đường", "Way"),
    number("Đang chờ", "Waiting"),
    column("Lần cuối", "Last"),
    column("Tình trạng", "State"),
];
const COMMAND_COLUMNS: [Column; 4] = [
    column("Lúc", "When"),
    column("Lệnh", "Command"),
    column("Người ra lệnh", "By"),
    column("Kết quả", "Result"),
];

pub(super) fn down(out: &mut String, status: &Status, lang: Lang) {
    let Some(down) = &status.down else {
        return;
    };
    copies(out, down, lang);
    inbox(out, &down.inbox, &down.files, lang);
}

fn copies(out: &mut String, down: &DownStatus, lang: Lang) {
    if down.copies.is_empty() {
        return;
    }
    open(out, lang, COPIES.0, COPIES.1);
    table(
        out,
        lang,
        lang.of([
            "Bản sao tại trạm của dữ liệu cơ quan khác",
            "Copies of other agencies' data on this box",
        ]),
        &COPY_COLUMNS,
    );
    for copy in down.copies.iter().take(ROWS) {
        let cells = [
            &foreign(copy.dataset.as_str()),
            &lang.count(copy.subjects),
            &time(copy.as_of),
            &compared(copy, lang),
        ];
        row(
            out,
            lang,
            &COPY_COLUMNS,
            false,
            0,
            &cells.map(String::as_str),
        );
    }
    out.push_str(TABLE_END);
    more(out, lang, down.copies.len().saturating_sub(ROWS));
    out.push_str("</section>\n");
}

/// How the copy stands, and how it was last compared.
fn compared(copy: &CopyStatus, lang: Lang) -> String {
    let state = state(copy, lang);
    match &copy.compared {
        Some(compared) if compared.is_alarming() => format!(
            "{state}; <strong>{}</strong>; {}",
            comparison(compared, lang),
            lang.of(["báo đơn vị vận hành trục", "tell the hub's operator"])
        ),
        Some(compared) => format!("{state}; {}", comparison(compared, lang)),
        None => state,
    }
}

fn comparison(compared: &ComparedStatus, lang: Lang) -> String {
    let subjects = lang.count(compared.subjects);
    let what = match compared.result.as_str() {
        "equal" => lang.of(["khớp với trục", "equal to the hub's"]).to_owned(),
        "mended" => lang.of([
            format!("đã tự sửa {subjects} hồ sơ"),
            format!("{subjects} subjects mended"),
        ]),
        "reloaded" => lang
            .of([
                "lệch nhiều, nạp lại toàn bộ",
                "very different, loaded again",
            ])
            .to_owned(),
        "unsettled" => lang
            .of([
                "khớp, trừ phần đang thay đổi liên tục",
                "equal but for what keeps changing",
            ])
            .to_owned(),
        _ => lang
            .of(["còn lệch với trục", "differs from the hub's"])
            .to_owned(),
    };
    format!(
        "{} {}: {what}",
        lang.of(["đối chiếu", "compared"]),
        time(compared.at)
    )
}

fn state(copy: &CopyStatus, lang: Lang) -> String {
    match (&copy.load, copy.withdrawn) {
        (_, true) if 0 < copy.subjects => lang.of([
            "<strong>Quyền đã bị thu hồi</strong>, đang xóa; không tra cứu được nữa",
            "<strong>Right withdrawn</strong>, being deleted; no longer looked up",
        ])
        .to_owned(),
        (_, true) => lang.of([
            "<strong>Quyền đã bị thu hồi</strong>, đã xóa hết. Cần dùng lại thì đề nghị đơn vị vận hành trục.",
            "<strong>Right withdrawn</strong>, all deleted. If it is needed again, ask the hub's operator.",
        ])
        .to_owned(),
        (Some(load), false) => {
            let progress = format!(
                "{} / {} ({} %)",
                lang.count(load.seen),
                lang.count(load.of),
                percent(load.seen, load.of)
            );
            lang.of([
                format!("Đang nạp {progress}; hồ sơ chưa có ở đây chưa chắc là không có"),
                format!("Loading {progress}; what is missing may yet come"),
            ])
        }
        (None, false) => lang.of(["Đầy đủ", "Whole"]).to_owned(),
    }
}

fn inbox(out: &mut String, inbox: &InboxStatus, came: &FilesStatus, lang: Lang) {
    open(out, lang, INBOX.0, INBOX.1);
    out.push_str("<dl>\n");
    let unread = match inbox.unread {
        0 => lang.of(["không có", "none"]).to_owned(),
        unread => {
            let (unread, age) = (lang.count(unread), lang.duration(inbox.oldest_s));
            lang.of([
                format!("{unread}, cũ nhất từ {age} trước; mở phần mềm của cơ quan để tiếp nhận"),
                format!(
                    "{unread}, the oldest since {age}; open the office's software to take them over"
                ),
            ])
        }
    };
    term(out, lang.of(["Chưa tiếp nhận", "Not taken over"]), &unread);
    if !inbox.by_status.is_empty() {
        let states = inbox.by_status.iter();
        let states: Vec<String> = states
            .map(|(code, count)| format!("{}: {}", code_name(code, lang), lang.count(*count)))
            .collect();
        term(
            out,
            lang.of(["Theo trạng thái", "By status"]),
            &states.join("; "),
        );
    }
    if 0 < inbox.unsaid {
        let unsaid = lang.count(inbox.unsaid);
        let html = lang.of([
            format!("{unsaid} trạng thái đang chờ gửi, tự gửi khi có chỗ"),
            format!("{unsaid} statuses wait and go out by themselves"),
        ]);
        term(out, lang.of(["Báo lại bên gửi", "Told to senders"]), &html);
    }
    files(out, came, lang);
    out.push_str("</dl>\n");
    if !inbox.ways.is_empty() {
        ways(out, inbox, lang);
    }
    out.push_str("</section>\n");
}

fn ways(out: &mut String, inbox: &InboxStatus, lang: Lang) {
    table(
        out,
        lang,
        lang.of([
            "Đường chuyển văn bản tới phần mềm của cơ quan",
            "Ways of documents to the office's software",
        ]),
        &WAY_COLUMNS,
    );
    for way in inbox.ways.iter().take(ROWS) {
        let cells = [
            &format!("{} ({})", foreign(&way.name), foreign(&way.kind)),
            &lang.count(way.waiting),
            &way.last.map_or("–".to_owned(), time),
            &way_state(way, lang),
        ];
        let is_red = 0 < way.failed;
        row(
            out,
            lang,
            &WAY_COLUMNS,
            is_red,
            0,
            &cells.map(String::as_str),
        );
    }
    out.push_str(TABLE_END);
    more(out, lang, inbox.ways.len().saturating_sub(ROWS));
}

/// What is still to come of the documents' files.
fn files(out: &mut String, files: &FilesStatus, lang: Lang) {
    if 0 < files.coming {
        let first = files.under_way.first().map_or(String::new(), |file| {
            let (received, chunks) = (lang.count(file.received_chunks), lang.count(file.chunks));
            lang.of([
                format!("; tệp đầu {received} trên {chunks} đoạn"),
                format!("; the first: {received} of {chunks} pieces"),
            ])
        });
        let (coming, left) = (lang.count(files.coming), lang.bytes(files.coming_bytes));
        let html = lang.of([
            format!("{coming} tệp, còn {left}{first}"),
            format!("{coming} files, {left} to come{first}"),
        ]);
        term(out, lang.of(["Tệp đang về", "Files on their way"]), &html);
    }
    if 0 < files.full {
        let full = lang.count(files.full);
        let html = lang.of([
            format!("<strong>{full} tệp chưa có chỗ</strong>. Tiếp nhận xong văn bản cũ, hoặc tăng store.received trong cấu hình."),
            format!("<strong>No room for {full} files</strong>. Take over old documents, or raise store.received in the configuration."),
        ]);
        term(
            out,
            lang.of(["Hết chỗ cho tệp", "No room for files"]),
            &html,
        );
    }
    if 0 < files.refused {
        let refused = lang.count(files.refused);
        let html = lang.of([
            format!("{refused} tệp không qua được kiểm tra ở trục; đề nghị bên gửi gửi lại"),
            format!(
                "{refused} files did not pass the hub's check; ask the sender to send them again"
            ),
        ]);
        term(
            out,
            lang.of(["Tệp bị giữ ở trục", "Kept back at the hub"]),
            &html,
        );
    }
}

/// A status code with its name; escaped.
fn code_name(code: &str, lang: Lang) -> String {
    match known(code) {
        Some(status) => format!("{code} {}", lang.of([status.name_vi, status.name_en])),
        None => foreign(code),
    }
}

fn way_state(way: &WayStatus, lang: Lang) -> String {
    if way.failed == 0 {
        return lang.of(["Tốt", "Good"]).to_owned();
    }
    let what = lang.of(match way.kind.as_str() {
        "folder" => [
            "Kiểm tra thư mục và quyền ghi",
            "Check the folder and its permissions",
        ],
        _ => [
            "Kiểm tra dịch vụ của phần mềm nhận",
            "Check the receiving software's service",
        ],
    });
    let failed = lang.count(way.failed);
    let retry = way.retry.map_or("–".to_owned(), time);
    let html = lang.of([
        format!(
            "<strong>Không chuyển được {failed} văn bản</strong>. {what}; thử lại lúc {retry}."
        ),
        format!(
            "<strong>{failed} documents do not get through</strong>. {what}; next try {retry}."
        ),
    ]);
    match way.error.as_deref() {
        Some(error) => format!("{html} <span lang=\"en\">{}</span>", foreign(error)),
        None => html,
    }
}

pub(super) fn commands(out: &mut String, status: &Status, lang: Lang) {
    let commands = status.down.as_ref().map_or(&[][..], |down| &down.commands);
    if commands.is_empty() {
        return;
    }
    open(out, lang, COMMANDS.0, COMMANDS.1);
    table(
        out,
        lang,
        lang.of(["Mới nhất ở trên", "Newest first"]),
        &COMMAND_COLUMNS,
    );
    for command in commands.iter().take(COMMAND_ROWS) {
        let cells = [
            &time(command.received),
            &foreign(&command.name),
            &foreign(&command.by),
            &result(command, lang),
        ];
        row(
            out,
            lang,
            &COMMAND_COLUMNS,
            false,
            1,
            &cells.map(String::as_str),
        );
    }
    out.push_str(TABLE_END);
    more(out, lang, commands.len().saturating_sub(COMMAND_ROWS));
    out.push_str("</section>\n");
}

fn result(command: &CommandStatus, lang: Lang) -> String {
    let words: Words = command.state_words();
    let since = match command.is_pending() {
        true => String::new(),
        false => format!(" {} {}", lang.of(["lúc", "at"]), time(command.since)),
    };
    let detail = match command.detail.as_str() {
        "" => String::new(),
        detail => format!(": {}", foreign(detail)),
    };
    format!("{}{since}{detail}", lang.of(words))
}
