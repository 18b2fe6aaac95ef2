//! Parked rows: to list them, to look at one, to hand it in again, to give it up, to put it right.
//! Personal data are masked, and sensitive ones never shown.

use axum::http::StatusCode;

use super::form::encoded;
use super::html::{Both, Field, button, error, form, link, section, table};
use super::sources::named;
use super::{Answer, HOME, Visit};
use crate::edge::connectors::Fault;
use crate::edge::page::text::{self, Text};
use crate::edge::rows::parked::{self, Retried, Which};
use crate::edge::status::Stamp;
use crate::edge::technician::repair::{self, Content};
use crate::model::SourceName;
use crate::store::rows::Parked;

const LIST_TITLE: Both<'_> = ["Dòng bị giữ lại", "Parked rows"];
const LOOK_TITLE: Both<'_> = ["Xem dòng bị giữ lại", "Look at a parked row"];
const RETRY_TITLE: Both<'_> = ["Đưa lại", "Hand in again"];
const DROP_TITLE: Both<'_> = ["Bỏ dòng", "Give the row up"];
const MEND_TITLE: Both<'_> = ["Sửa dòng rồi đưa lại", "Put the row right and hand it in"];
const PAGE_ROWS: u32 = 50;

fn list_path(source: &SourceName) -> String {
    format!("/ky-thuat/giu-lai?nguon={}", encoded(source.as_str()))
}

fn deed_path(deed: &str, source: &SourceName, number: i64) -> String {
    format!(
        "/ky-thuat/giu-lai/{deed}?nguon={}&so={number}",
        encoded(source.as_str())
    )
}

pub(super) async fn list(visit: &Visit) -> Answer {
    let source = match named(visit, LIST_TITLE) {
        Ok(source) => source,
        Err(answer) => return answer,
    };
    let after: i64 = visit.query.get("sau").parse().unwrap_or(0);
    let rows = match parked::page_after(&visit.app.door, &source, after, PAGE_ROWS).await {
        Ok(rows) => rows,
        Err(fault) => return faulty(visit, LIST_TITLE, &fault),
    };
    let lines: Vec<Vec<String>> = rows.iter().map(|row| line(&source, row)).collect();
    let heads: [Both<'_>; 5] = [
        ["Số", "Number"],
        ["Lúc", "At"],
        ["Bộ dữ liệu", "Dataset"],
        ["Lý do", "Reason"],
        ["Việc", "Deeds"],
    ];
    let mut html = format!("<p>{}</p>\n", Text(source.as_str()));
    if rows.is_empty() {
        html.push_str(
            "<p>Không có dòng nào bị giữ lại. <small lang=\"en\">No row is parked.</small></p>\n",
        );
    } else {
        let all = format!(
            "/ky-thuat/giu-lai/dua-lai?nguon={}",
            encoded(source.as_str())
        );
        html.push_str(&table(&heads, &lines));
        html.push_str(&format!(
            "<p class=\"deeds\">{}</p>\n",
            link(&all, ["Đưa lại tất cả", "Hand all in again"])
        ));
    }
    if let Some(last) = rows.last().filter(|_| rows.len() == PAGE_ROWS as usize) {
        let next = format!("{}&sau={}", list_path(&source), last.number);
        html.push_str(&format!(
            "<p>{}</p>\n",
            link(&next, ["Trang sau", "Next page"])
        ));
    }
    html.push_str(&format!("<p>{}</p>\n", link(HOME, ["Quay lại", "Back"])));
    visit.page(LIST_TITLE, &section(LIST_TITLE, &html))
}

fn line(source: &SourceName, row: &Parked) -> Vec<String> {
    let deeds = [
        link(&deed_path("xem", source, row.number), ["Xem", "Look"]),
        link(&deed_path("sua", source, row.number), ["Sửa", "Put right"]),
        link(&deed_path("dua-lai", source, row.number), RETRY_TITLE),
        link(&deed_path("bo", source, row.number), ["Bỏ", "Give up"]),
    ];
    vec![
        row.number.to_string(),
        text::time(Stamp(row.at)),
        Text(&row.dataset).to_string(),
        reason(row),
        format!("<span class=\"deeds\">{}</span>", deeds.join(" ")),
    ]
}

fn reason(row: &Parked) -> String {
    let texts = match row.reason_vi.is_empty() {
        true => [
            "Chờ sau một dòng khác của cùng đối tượng.",
            "Waits behind another row of the same subject.",
        ],
        false => [row.reason_vi.as_str(), row.reason_en.as_str()],
    };
    super::html::both(texts)
}

/// The row that a request names; else the page that says why there is none.
async fn row(visit: &Visit, title: Both<'_>) -> Result<(SourceName, Parked), Answer> {
    let source = named(visit, title)?;
    let number = visit.field("so").parse().unwrap_or(0);
    match parked::row(&visit.app.door, &source, number).await {
        Ok(row) => Ok((source, row)),
        Err(fault) => Err(faulty(visit, title, &fault)),
    }
}

fn faulty(visit: &Visit, title: Both<'_>, fault: &Fault) -> Answer {
    let html = error([&fault.vi, &fault.en]);
    visit.page_with(StatusCode::CONFLICT, title, &html)
}

/// What a page shows of a row before it says anything of its own.
fn about(source: &SourceName, row: &Parked) -> String {
    format!(
        "<dl><dt>Nguồn</dt><dd>{}</dd><dt>Số</dt><dd>{}</dd><dt>Lúc</dt><dd>{}</dd><dt>Bộ dữ liệu</dt><dd>{}</dd><dt>Lý do</dt><dd>{}</dd></dl>\n",
        Text(source.as_str()),
        row.number,
        text::time(Stamp(row.at)),
        Text(&row.dataset),
        reason(row)
    )
}

const NOT_SHOWN: Both<'_> = [
    "Nội dung không được xem: dữ liệu nhạy cảm, hoặc trạm không giữ. Sửa tại phần mềm nguồn rồi đưa lại.",
    "The content is not shown: it is sensitive, or the box does not have it. Put it right at the source.",
];

pub(super) async fn look(visit: &Visit) -> Answer {
    let (source, row) = match row(visit, LOOK_TITLE).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let mut html = about(&source, &row);
    match Content::of(&visit.app.door, &row) {
        Some(content) => {
            let heads: [Both<'_>; 2] = [["Trường", "Field"], ["Giá trị (đã che)", "Value, masked"]];
            let lines: Vec<Vec<String>> = content
                .fields()
                .iter()
                .filter_map(|field| {
                    let shown = field.shown.as_ref()?;
                    Some(vec![label(field), Text(shown).to_string()])
                })
                .collect();
            html.push_str(&table(&heads, &lines));
        }
        None => html.push_str(&error(NOT_SHOWN)),
    }
    let deeds = [
        link(&deed_path("sua", &source, row.number), MEND_TITLE),
        link(&deed_path("dua-lai", &source, row.number), RETRY_TITLE),
        link(&deed_path("bo", &source, row.number), DROP_TITLE),
        link(&list_path(&source), ["Quay lại", "Back"]),
    ];
    html.push_str(&format!("<p class=\"deeds\">{}</p>\n", deeds.join(" ")));
    visit
        .record(
            visit.by(),
            "look_parked",
            "done",
            &format!("{source} #{}", row.number),
        )
        .await;
    visit.page(LOOK_TITLE, &section(LOOK_TITLE, &html))
}

fn label(field: &repair::Field) -> String {
    super::html::both([&field.title, &field.pointer])
}

pub(super) async fn retry(visit: &Visit) -> Answer {
    let source = match named(visit, RETRY_TITLE) {
        Ok(source) => source,
        Err(answer) => return answer,
    };
    let number = visit.field("so").to_owned();
    let which = match number.parse() {
        Ok(number) => Which::Number(number),
        Err(_) if number.is_empty() => Which::All,
        Err(_) => Which::Number(0),
    };
    if !visit.is_confirmed() {
        let meant = match which {
            Which::All => "Mọi dòng bị giữ lại".to_owned(),
            Which::Number(number) => format!("Dòng số {number} và các dòng chờ sau nó"),
        };
        let what = format!(
            "<p>{meant} của nguồn <strong>{}</strong> được kiểm tra lại theo danh mục đang dùng; dòng nào đúng thì được nhận, dòng nào sai vẫn giữ lại. <small lang=\"en\">They are checked again; what fits is taken, what does not stays parked.</small></p>",
            Text(source.as_str())
        );
        let fields = [("nguon", source.as_str()), ("so", number.as_str())];
        return visit.confirm(
            RETRY_TITLE,
            &what,
            &fields,
            RETRY_TITLE,
            &list_path(&source),
        );
    }
    let retried = parked::retry(&visit.app.door, &source, which).await;
    done(visit, "retry_parked", &source, &number, retried).await
}

pub(super) async fn drop_row(visit: &Visit) -> Answer {
    let (source, row) = match row(visit, DROP_TITLE).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let number = row.number.to_string();
    let reason = visit.field("ly_do").trim().to_owned();
    if !visit.is_post || reason.is_empty() {
        let field = Field {
            name: "ly_do",
            label: ["Lý do bỏ dòng này", "Why it is given up"],
            kind: "text",
            value: &reason,
            autocomplete: "off",
            hint: Some([
                "Ghi vào nhật ký; không ghi dữ liệu cá nhân.",
                "It stands in the audit; no personal data.",
            ]),
            fault: visit
                .is_post
                .then_some(["Phải ghi lý do.", "A reason is needed."]),
        };
        let inside = format!(
            "{}{}{}{}",
            super::html::hidden("nguon", source.as_str()),
            super::html::hidden("so", &number),
            field.html(),
            button(["Tiếp tục", "Go on"])
        );
        let html = format!(
            "{}{}",
            about(&source, &row),
            form(visit.path, &visit.token, &inside)
        );
        return visit.page(DROP_TITLE, &section(DROP_TITLE, &html));
    }
    if !visit.is_confirmed() {
        let what = format!(
            "{}<p><strong>Dòng này bị xóa hẳn khỏi trạm</strong> và không được gửi về trục; các dòng chờ sau nó được đưa lại. Lý do: {}. <small lang=\"en\">The row is deleted for good and never sent; what waits behind it is handed in.</small></p>",
            about(&source, &row),
            Text(&reason)
        );
        let fields = [
            ("nguon", source.as_str()),
            ("so", &number),
            ("ly_do", &reason),
        ];
        return visit.confirm(DROP_TITLE, &what, &fields, DROP_TITLE, &list_path(&source));
    }
    let dropped = parked::drop_row(&visit.app.door, &source, row.number, &reason).await;
    let detail = format!("{number}: {reason}");
    done(visit, "drop_parked", &source, &detail, dropped).await
}

pub(super) async fn mend(visit: &Visit) -> Answer {
    let (source, row) = match row(visit, MEND_TITLE).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let number = row.number.to_string();
    let Some(content) = Content::of(&visit.app.door, &row) else {
        let html = format!("{}{}", about(&source, &row), error(NOT_SHOWN));
        return visit.page(MEND_TITLE, &section(MEND_TITLE, &html));
    };
    if !visit.is_post {
        return mend_page(visit, &source, &row, &content, &[]);
    }
    let mended = match content.mended(&visit.form) {
        Ok(mended) => mended,
        Err(faults) => return mend_page(visit, &source, &row, &content, &faults),
    };
    if mended.changes.is_empty() {
        return mend_page(visit, &source, &row, &content, &[]);
    }
    if !visit.is_confirmed() {
        let heads: [Both<'_>; 3] = [["Trường", "Field"], ["Cũ", "Before"], ["Mới", "After"]];
        let lines: Vec<Vec<String>> = mended
            .changes
            .iter()
            .map(|change| {
                vec![
                    super::html::both([&change.title, &change.pointer]),
                    Text(&change.before).to_string(),
                    Text(&change.after).to_string(),
                ]
            })
            .collect();
        let what = format!(
            "{}{}<p>Dòng được sửa như trên rồi đưa lại; nếu vẫn sai thì được giữ lại với nội dung mới. Nhớ sửa cả ở phần mềm nguồn. <small lang=\"en\">The row is changed and handed in; if it is still wrong it stays parked as changed. Put it right at the source, too.</small></p>",
            about(&source, &row),
            table(&heads, &lines)
        );
        let mut fields = vec![("nguon", source.as_str()), ("so", number.as_str())];
        fields.extend(visit.form.iter().filter(|(name, value)| {
            (name.starts_with(repair::NEW) || name.starts_with(repair::CLEAR)) && !value.is_empty()
        }));
        return visit.confirm(MEND_TITLE, &what, &fields, MEND_TITLE, &list_path(&source));
    }
    let names: Vec<&str> = mended
        .changes
        .iter()
        .map(|change| change.pointer.as_str())
        .collect();
    let detail = format!("{number}: {}", names.join(" "));
    let retried = parked::mend(&visit.app.door, &source, row.number, mended.content).await;
    done(visit, "mend_parked", &source, &detail, retried).await
}

fn mend_page(
    visit: &Visit,
    source: &SourceName,
    row: &Parked,
    content: &Content,
    faults: &[(String, [String; 2])],
) -> Answer {
    let number = row.number.to_string();
    let mut inside = super::html::hidden("nguon", source.as_str());
    inside.push_str(&super::html::hidden("so", &number));
    for field in content.fields() {
        let name = format!("{}{}", repair::NEW, field.pointer);
        let fault = faults.iter().find(|(pointer, _)| *pointer == field.pointer);
        let now = match &field.shown {
            Some(shown) => [format!("Hiện là: {shown}"), format!("Now: {shown}")],
            None => ["Hiện không có.".to_owned(), "Not there now.".to_owned()],
        };
        let allowed = match field.allowed.is_empty() {
            true => String::new(),
            false => format!(" · {}", field.allowed.join(", ")),
        };
        let hint = [format!("{}{allowed}", now[0]), now[1].clone()];
        let html = Field {
            name: &name,
            label: [&field.title, &field.pointer],
            kind: "text",
            value: visit.form.get(&name),
            autocomplete: "off",
            hint: Some([&hint[0], &hint[1]]),
            fault: fault.map(|(_, [vi, en])| [vi.as_str(), en.as_str()]),
        };
        inside.push_str(&html.html());
        if field.shown.is_some() {
            let clear = Text(&format!("{}{}", repair::CLEAR, field.pointer)).to_string();
            inside.push_str(&format!(
                "<p><input type=\"checkbox\" id=\"{clear}\" name=\"{clear}\" value=\"1\"> <label class=\"inline\" for=\"{clear}\">Bỏ giá trị này <small lang=\"en\">Take this value away</small></label></p>\n"
            ));
        }
    }
    inside.push_str(&button(["Xem trước", "Preview"]));
    let status = match faults.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let html = format!(
        "{}<p>Chỉ điền trường cần sửa; trường để trống giữ nguyên. <small lang=\"en\">Fill in what is to change; what is left empty stays.</small></p>\n{}",
        about(source, row),
        form(visit.path, &visit.token, &inside)
    );
    visit.page_with(status, MEND_TITLE, &section(MEND_TITLE, &html))
}

/// Into the audit, and told on the list.
async fn done(
    visit: &Visit,
    deed: &'static str,
    source: &SourceName,
    what: &str,
    retried: Result<Retried, Fault>,
) -> Answer {
    let detail = match what.is_empty() {
        true => source.to_string(),
        false => format!("{source} #{what}"),
    };
    let path = list_path(source);
    match retried {
        Ok(Retried { accepted, left }) => {
            visit.record(visit.by(), deed, "done", &detail).await;
            let told = [
                format!("Đã xong: nhận {accepted} dòng, còn giữ lại {left} dòng trong số đã xét."),
                format!("Done: {accepted} rows taken, {left} of those looked at are still parked."),
            ];
            visit.tell(left == 0, told, &path)
        }
        Err(fault) => {
            visit
                .record(
                    visit.by(),
                    deed,
                    "failed",
                    &format!("{detail}: {}", fault.code),
                )
                .await;
            let told = [
                format!("{}. {}", fault.vi, fault.hint_vi),
                format!("{}. {}", fault.en, fault.hint_en),
            ];
            visit.tell(false, told, &path)
        }
    }
}
