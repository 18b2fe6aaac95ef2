//! Parked rows: to list them, to look at one, to hand it in again, to give it up, to put it right.
//! Personal data are masked, and sensitive ones never shown.

use axum::http::StatusCode;

use super::form::encoded;
use super::html::{Both, Field, button, error, form, link, paragraph, section, table, words};
use super::sources::named;
use super::{Answer, HOME, Visit};
use crate::edge::connectors::Fault;
use crate::edge::page::lang::Lang;
use crate::edge::page::text::{self, Text, vietnamese};
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
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| line(visit.lang, &source, row))
        .collect();
    let heads: [Both<'_>; 5] = [
        ["Số", "Number"],
        ["Lúc", "At"],
        ["Bộ dữ liệu", "Dataset"],
        ["Lý do", "Reason"],
        ["Việc", "Deeds"],
    ];
    let mut html = format!("<p>{}</p>\n", Text(source.as_str()));
    if rows.is_empty() {
        html.push_str(&paragraph(
            visit.lang,
            ["Không có dòng nào bị giữ lại.", "No row is parked."],
        ));
    } else {
        let all = format!(
            "/ky-thuat/giu-lai/dua-lai?nguon={}",
            encoded(source.as_str())
        );
        html.push_str(&table(visit.lang, &heads, &lines));
        html.push_str(&format!(
            "<p class=\"deeds\">{}</p>\n",
            link(visit.lang, &all, ["Đưa lại tất cả", "Hand all in again"])
        ));
    }
    if let Some(last) = rows.last().filter(|_| rows.len() == PAGE_ROWS as usize) {
        let next = format!("{}&sau={}", list_path(&source), last.number);
        html.push_str(&format!(
            "<p>{}</p>\n",
            link(visit.lang, &next, ["Trang sau", "Next page"])
        ));
    }
    html.push_str(&format!(
        "<p>{}</p>\n",
        link(visit.lang, HOME, ["Quay lại", "Back"])
    ));
    visit.page(LIST_TITLE, &section(visit.lang, LIST_TITLE, &html))
}

fn line(lang: Lang, source: &SourceName, row: &Parked) -> Vec<String> {
    let deeds = [
        link(lang, &deed_path("xem", source, row.number), ["Xem", "Look"]),
        link(
            lang,
            &deed_path("sua", source, row.number),
            ["Sửa", "Put right"],
        ),
        link(lang, &deed_path("dua-lai", source, row.number), RETRY_TITLE),
        link(
            lang,
            &deed_path("bo", source, row.number),
            ["Bỏ", "Give up"],
        ),
    ];
    vec![
        row.number.to_string(),
        text::time(Stamp(row.at)),
        Text(&row.dataset).to_string(),
        reason(lang, row),
        format!("<span class=\"deeds\">{}</span>", deeds.join(" ")),
    ]
}

fn reason(lang: Lang, row: &Parked) -> String {
    let texts = match row.reason_vi.is_empty() {
        true => [
            "Chờ sau một dòng khác của cùng đối tượng.",
            "Waits behind another row of the same subject.",
        ],
        false => [row.reason_vi.as_str(), row.reason_en.as_str()],
    };
    words(lang, texts)
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
    let html = error(visit.lang, [&fault.vi, &fault.en]);
    visit.page_with(StatusCode::CONFLICT, title, &html)
}

/// What a page shows of a row before it says anything of its own.
fn about(lang: Lang, source: &SourceName, row: &Parked) -> String {
    let facts = [
        (["Nguồn", "Source"], Text(source.as_str()).to_string()),
        (["Số", "Number"], row.number.to_string()),
        (["Lúc", "At"], text::time(Stamp(row.at))),
        (["Bộ dữ liệu", "Dataset"], Text(&row.dataset).to_string()),
        (["Lý do", "Reason"], reason(lang, row)),
    ];
    let terms: Vec<String> = facts
        .iter()
        .map(|(name, html)| format!("<dt>{}</dt><dd>{html}</dd>", lang.of(*name)))
        .collect();
    format!("<dl>{}</dl>\n", terms.concat())
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
    let mut html = about(visit.lang, &source, &row);
    match Content::of(&visit.app.door, &row) {
        Some(content) => {
            let heads: [Both<'_>; 2] = [["Trường", "Field"], ["Giá trị (đã che)", "Value, masked"]];
            let lines: Vec<Vec<String>> = content
                .fields()
                .iter()
                .filter_map(|field| {
                    let shown = field.shown.as_ref()?;
                    let name = label(&field.title, &field.pointer);
                    Some(vec![
                        vietnamese(visit.lang, &name),
                        vietnamese(visit.lang, shown),
                    ])
                })
                .collect();
            html.push_str(&table(visit.lang, &heads, &lines));
        }
        None => html.push_str(&error(visit.lang, NOT_SHOWN)),
    }
    let deeds = [
        link(
            visit.lang,
            &deed_path("sua", &source, row.number),
            MEND_TITLE,
        ),
        link(
            visit.lang,
            &deed_path("dua-lai", &source, row.number),
            RETRY_TITLE,
        ),
        link(
            visit.lang,
            &deed_path("bo", &source, row.number),
            DROP_TITLE,
        ),
        link(visit.lang, &list_path(&source), ["Quay lại", "Back"]),
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
    visit.page(LOOK_TITLE, &section(visit.lang, LOOK_TITLE, &html))
}

/// A field's name as the schema has it, which is Vietnamese, and its place.
fn label(title: &str, pointer: &str) -> String {
    format!("{title} ({pointer})")
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
        let [meant, meant_en] = match which {
            Which::All => [
                "Mọi dòng bị giữ lại".to_owned(),
                "All parked rows".to_owned(),
            ],
            Which::Number(number) => [
                format!("Dòng số {number} và các dòng chờ sau nó"),
                format!("Row {number} and those that wait behind it"),
            ],
        };
        let name = Text(source.as_str());
        let what = visit.lang.of([
            format!("<p>{meant} của nguồn <strong>{name}</strong> được kiểm tra lại theo danh mục đang dùng; dòng nào đúng thì được nhận, dòng nào sai vẫn giữ lại.</p>"),
            format!("<p>{meant_en} of <strong>{name}</strong> are checked again by the catalogue in force; what fits is taken, what does not stays parked.</p>"),
        ]);
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
            field.html(visit.lang),
            button(visit.lang, ["Tiếp tục", "Go on"])
        );
        let html = format!(
            "{}{}",
            about(visit.lang, &source, &row),
            form(visit.lang, visit.path, &visit.token, &inside)
        );
        return visit.page(DROP_TITLE, &section(visit.lang, DROP_TITLE, &html));
    }
    if !visit.is_confirmed() {
        let (about, why) = (about(visit.lang, &source, &row), Text(&reason));
        let what = visit.lang.of([
            format!("{about}<p><strong>Dòng này bị xóa hẳn khỏi trạm</strong> và không được gửi về trục; các dòng chờ sau nó được đưa lại. Lý do: {why}.</p>"),
            format!("{about}<p><strong>The row is deleted for good</strong> and never sent to the hub; what waits behind it is handed in. Reason: {why}.</p>"),
        ]);
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
        let html = format!(
            "{}{}",
            about(visit.lang, &source, &row),
            error(visit.lang, NOT_SHOWN)
        );
        return visit.page(MEND_TITLE, &section(visit.lang, MEND_TITLE, &html));
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
                    vietnamese(visit.lang, &label(&change.title, &change.pointer)),
                    vietnamese(visit.lang, &change.before),
                    vietnamese(visit.lang, &change.after),
                ]
            })
            .collect();
        let what = format!(
            "{}{}{}",
            about(visit.lang, &source, &row),
            table(visit.lang, &heads, &lines),
            paragraph(
                visit.lang,
                [
                    "Dòng được sửa như trên rồi đưa lại; nếu vẫn sai thì được giữ lại với nội dung mới. Nhớ sửa cả ở phần mềm nguồn.",
                    "The row is changed as above and handed in; if it is still wrong it stays parked as changed. Put it right at the source, too.",
                ]
            )
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
    // What is wrong comes first; the reason names fields by their titles.
    let is_wrong = |field: &&repair::Field| row.reason_vi.contains(&format!("“{}”", field.title));
    let (wrong, others): (Vec<_>, Vec<_>) = content.fields().iter().partition(is_wrong);
    let first_other = wrong.len();
    for (place, field) in wrong.into_iter().chain(others).enumerate() {
        if 0 < place && place == first_other {
            inside.push_str(&format!(
                "<h3>{}</h3>\n",
                visit.lang.of(["Các trường khác", "Other fields"])
            ));
        }
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
        let hint = now.map(|now| format!("{now}{allowed}"));
        let label = label(&field.title, &field.pointer);
        let html = Field {
            name: &name,
            label: [&label, &label],
            kind: "text",
            value: visit.form.get(&name),
            autocomplete: "off",
            hint: Some([&hint[0], &hint[1]]),
            fault: fault.map(|(_, [vi, en])| [vi.as_str(), en.as_str()]),
        };
        inside.push_str(&html.html(visit.lang));
        if field.shown.is_some() {
            let clear = Text(&format!("{}{}", repair::CLEAR, field.pointer)).to_string();
            inside.push_str(&format!(
                "<p><input type=\"checkbox\" id=\"{clear}\" name=\"{clear}\" value=\"1\"> <label class=\"inline\" for=\"{clear}\">{}</label></p>\n",
                visit.lang.of(["Bỏ giá trị này", "Take this value away"])
            ));
        }
    }
    inside.push_str(&button(visit.lang, ["Xem trước", "Preview"]));
    let status = match faults.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let html = format!(
        "{}{}{}",
        about(visit.lang, source, row),
        paragraph(
            visit.lang,
            [
                "Chỉ điền trường cần sửa; trường để trống giữ nguyên.",
                "Fill in what is to change; what is left empty stays.",
            ]
        ),
        form(visit.lang, visit.path, &visit.token, &inside)
    );
    visit.page_with(status, MEND_TITLE, &section(visit.lang, MEND_TITLE, &html))
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
