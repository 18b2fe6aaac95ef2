//! The page's sections on what the hub has sent: copies of others' data, the inbox with its ways to
//! the office's software, and commands.

use super::{open, put, short, term, text};
use crate::edge::page::text::Text;
use crate::edge::status::Status;
use crate::edge::status::down::{
    CommandStatus, CopyStatus, DownStatus, FilesStatus, InboxStatus, WayStatus,
};
use crate::model::handover::known;

/// The page shows so many rows of a table, so that it stays small; `tramd status` shows them all.
const ROWS: usize = 20;
const COMMANDS: usize = 5;

pub(super) fn down(out: &mut String, status: &Status) {
    let Some(down) = &status.down else {
        return;
    };
    copies(out, down);
    inbox(out, &down.inbox, &down.files);
    commands(out, down);
}

fn copies(out: &mut String, down: &DownStatus) {
    if down.copies.is_empty() {
        return;
    }
    open(
        out,
        ["Dữ liệu được tra cứu", "Copies that may be looked up"],
    );
    out.push_str("<table><thead><tr><th scope=\"col\">Bộ dữ liệu</th><th scope=\"col\" class=\"number\">Hồ sơ</th><th scope=\"col\">Dữ liệu đến lúc</th><th scope=\"col\">Tình trạng</th></tr></thead><tbody>\n");
    for copy in down.copies.iter().take(ROWS) {
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td>{}</td><td>{}</td></tr>\n",
                Text(&short(copy.dataset.as_str())),
                text::count(copy.subjects),
                text::time(copy.as_of),
                compared(copy),
            ),
        );
    }
    out.push_str("</tbody></table>");
    more(out, down.copies.len(), "bộ dữ liệu");
    out.push_str("</section>\n");
}

/// How the copy stands, and how it was last compared.
fn compared(copy: &CopyStatus) -> String {
    let state = state(copy);
    match &copy.compared {
        Some(compared) if compared.is_alarming() => format!(
            "{state}; <strong>{}</strong>; báo đơn vị vận hành trục <small lang=\"en\">differs from the hub</small>",
            Text(&compared.words())
        ),
        Some(compared) => format!("{state}; {}", Text(&compared.words())),
        None => state,
    }
}

fn state(copy: &CopyStatus) -> String {
    match (&copy.load, copy.withdrawn) {
        (_, true) if 0 < copy.subjects => {
            "<strong>Quyền đã bị thu hồi</strong>, đang xóa; không tra cứu được nữa <small lang=\"en\">withdrawn, being deleted</small>".to_owned()
        }
        (_, true) => {
            "<strong>Quyền đã bị thu hồi</strong>, đã xóa hết. Cần dùng lại thì đề nghị đơn vị vận hành trục. <small lang=\"en\">withdrawn, all deleted</small>".to_owned()
        }
        (Some(load), false) => format!(
            "Đang nạp {} / {} ({} %); hồ sơ chưa có ở đây chưa chắc là không có <small lang=\"en\">loading; what is missing may yet come</small>",
            text::count(load.seen),
            text::count(load.of),
            text::percent(load.seen, load.of)
        ),
        (None, false) => "Đầy đủ <small lang=\"en\">whole</small>".to_owned(),
    }
}

fn inbox(out: &mut String, inbox: &InboxStatus, came: &FilesStatus) {
    open(out, ["Văn bản đến", "Documents for this office"]);
    out.push_str("<dl>\n");
    let unread = match inbox.unread {
        0 => "không có <small lang=\"en\">none unread</small>".to_owned(),
        unread => format!(
            "{}, cũ nhất từ {} trước; mở phần mềm của cơ quan để tiếp nhận <small lang=\"en\">unread; the oldest came so long ago</small>",
            text::count(unread),
            text::duration(inbox.oldest_s)
        ),
    };
    term(out, "Chưa tiếp nhận", &unread);
    if !inbox.by_status.is_empty() {
        let states = inbox.by_status.iter();
        let states: Vec<String> = states
            .map(|(code, count)| format!("{}: {}", code_name(code), text::count(*count)))
            .collect();
        term(out, "Theo trạng thái", &states.join("; "));
    }
    if 0 < inbox.unsaid {
        let html = format!(
            "{} trạng thái đang chờ gửi, tự gửi khi có chỗ <small lang=\"en\">statuses wait to be sent</small>",
            text::count(inbox.unsaid)
        );
        term(out, "Báo lại bên gửi", &html);
    }
    files(out, came);
    out.push_str("</dl>\n");
    if !inbox.ways.is_empty() {
        out.push_str("<table><thead><tr><th scope=\"col\">Chuyển tới phần mềm</th><th scope=\"col\" class=\"number\">Đang chờ</th><th scope=\"col\">Lần cuối</th><th scope=\"col\">Tình trạng</th></tr></thead><tbody>\n");
    }
    for way in &inbox.ways {
        let class = if 0 < way.failed { " class=\"red\"" } else { "" };
        put(
            out,
            format_args!(
                "<tr{class}><th scope=\"row\">{} ({})</th><td class=\"number\">{}</td><td>{}</td><td>{}</td></tr>\n",
                Text(&short(&way.name)),
                Text(&way.kind),
                text::count(way.waiting),
                way.last.map_or("–".to_owned(), text::time),
                way_state(way),
            ),
        );
    }
    if !inbox.ways.is_empty() {
        out.push_str("</tbody></table>");
    }
    out.push_str("</section>\n");
}

/// What is still to come of the documents' files.
fn files(out: &mut String, files: &FilesStatus) {
    if 0 < files.coming {
        let first = files.under_way.first().map_or(String::new(), |file| {
            format!(
                "; tệp đầu {} trên {} đoạn",
                text::count(file.received_chunks),
                text::count(file.chunks)
            )
        });
        let html = format!(
            "{} tệp, còn {}{first} <small lang=\"en\">files on their way</small>",
            text::count(files.coming),
            text::bytes(files.coming_bytes)
        );
        term(out, "Tệp đang về", &html);
    }
    if 0 < files.full {
        let html = format!(
            "<strong>{} tệp chưa có chỗ</strong>. Tiếp nhận xong văn bản cũ, hoặc tăng store.received trong cấu hình. <small lang=\"en\">no room for these files</small>",
            text::count(files.full)
        );
        term(out, "Hết chỗ cho tệp", &html);
    }
    if 0 < files.refused {
        let html = format!(
            "{} tệp không qua được kiểm tra ở trục; đề nghị bên gửi gửi lại <small lang=\"en\">kept back by the hub's check</small>",
            text::count(files.refused)
        );
        term(out, "Tệp bị giữ ở trục", &html);
    }
}

/// A status code with its name; escaped.
fn code_name(code: &str) -> String {
    match known(code) {
        Some(status) => format!("{code} {}", status.name_vi),
        None => Text(&short(code)).to_string(),
    }
}

fn way_state(way: &WayStatus) -> String {
    if way.failed == 0 {
        return "Tốt <small lang=\"en\">good</small>".to_owned();
    }
    let what = match way.kind.as_str() {
        "folder" => "Kiểm tra thư mục và quyền ghi",
        _ => "Kiểm tra dịch vụ của phần mềm nhận",
    };
    format!(
        "<strong>Không chuyển được {} văn bản</strong>. {what}; thử lại lúc {}. <small lang=\"en\">{}</small>",
        text::count(way.failed),
        way.retry.map_or("–".to_owned(), text::time),
        Text(&short(way.error.as_deref().unwrap_or_default())),
    )
}

fn commands(out: &mut String, down: &DownStatus) {
    if down.commands.is_empty() {
        return;
    }
    open(out, ["Lệnh của trục", "Commands of the hub"]);
    out.push_str("<table><thead><tr><th scope=\"col\">Lúc</th><th scope=\"col\">Lệnh</th><th scope=\"col\">Người ra lệnh</th><th scope=\"col\">Kết quả</th></tr></thead><tbody>\n");
    for command in down.commands.iter().take(COMMANDS) {
        put(
            out,
            format_args!(
                "<tr><td>{}</td><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
                text::time(command.received),
                Text(&short(&command.name)),
                Text(&short(&command.by)),
                result(command),
            ),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn result(command: &CommandStatus) -> String {
    let [vi, en] = command.state_words();
    let since = match command.is_pending() {
        true => String::new(),
        false => format!(" lúc {}", text::time(command.since)),
    };
    let detail = match command.detail.as_str() {
        "" => String::new(),
        detail => format!(": {}", Text(&short(detail))),
    };
    format!("{vi}{since}{detail} <small lang=\"en\">{en}</small>")
}

fn more(out: &mut String, count: usize, what: &str) {
    if ROWS < count {
        put(
            out,
            format_args!(
                "<p>Và {} {what} khác, xem bằng lệnh: tramd status</p>",
                count - ROWS
            ),
        );
    }
}
