//! Who has an account: further ones, new passwords, accounts that are taken away.

use axum::http::StatusCode;

use super::form::{encoded, session_cookie};
use super::html::{Both, Field, button, form, link, section, table};
use super::login::{Fault, account_fields, password_fields, refused, unavailable};
use super::{Answer, Visit};
use crate::edge::accounts::Denied;
use crate::edge::page::text::{self, Text};
use crate::edge::status::Stamp;

const LIST: &str = "/ky-thuat/tai-khoan";
const LIST_TITLE: Both<'_> = ["Tài khoản kỹ thuật viên", "Technicians' accounts"];
const ADD_TITLE: Both<'_> = ["Thêm tài khoản", "Add an account"];
const PASSWORD_TITLE: Both<'_> = ["Đổi mật khẩu của tôi", "Change my password"];
const REMOVE_TITLE: Both<'_> = ["Xóa tài khoản", "Remove an account"];

pub(super) async fn accounts(visit: &Visit) -> Answer {
    let rows = match visit.accounts().list().await {
        Ok(rows) => rows,
        Err(error) => return unavailable(visit, LIST_TITLE, &error),
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let remove = format!("{LIST}/xoa?ten={}", encoded(&row.name));
            vec![
                Text(&row.name).to_string(),
                text::time(Stamp(row.created)),
                Text(&row.by).to_string(),
                link(visit.lang, &remove, ["Xóa", "Remove"]),
            ]
        })
        .collect();
    let heads: [Both<'_>; 4] = [
        ["Tên", "Name"],
        ["Tạo lúc", "Made at"],
        ["Người tạo", "By"],
        ["Việc", "Deeds"],
    ];
    let html = format!(
        "{}<p class=\"deeds\">{} {}</p>\n",
        table(visit.lang, &heads, &rows),
        link(visit.lang, "/ky-thuat/tai-khoan/them", ADD_TITLE),
        link(visit.lang, "/ky-thuat/tai-khoan/mat-khau", PASSWORD_TITLE)
    );
    visit.page(LIST_TITLE, &section(visit.lang, LIST_TITLE, &html))
}

pub(super) async fn add(visit: &Visit) -> Answer {
    if !visit.is_post {
        return add_page(visit, StatusCode::OK, None);
    }
    let word = |name| visit.form.get(name);
    if word("mat_khau") != word("mat_khau_2") {
        return add_page(
            visit,
            StatusCode::UNPROCESSABLE_ENTITY,
            Some(&Fault::Different),
        );
    }
    let by = visit.by();
    let added = visit
        .accounts()
        .add(word("ten"), word("mat_khau"), &by.who, visit.now())
        .await;
    match added {
        Ok(name) => {
            visit.record(by, "account_add", "done", &name).await;
            let told = [
                format!("Đã thêm tài khoản {name}."),
                format!("The account {name} was added."),
            ];
            visit.tell(true, told, LIST)
        }
        Err(denied) => refused(&denied, |status, _| {
            add_page(visit, status, Some(&Fault::Denied(&denied)))
        }),
    }
}

fn add_page(visit: &Visit, status: StatusCode, fault: Option<&Fault<'_>>) -> Answer {
    let inside = format!(
        "{}{}",
        account_fields(visit, fault),
        button(visit.lang, ADD_TITLE)
    );
    let html = form(visit.lang, visit.path, &visit.token, &inside);
    visit.page_with(status, ADD_TITLE, &section(visit.lang, ADD_TITLE, &html))
}

pub(super) async fn change_password(visit: &Visit) -> Answer {
    if !visit.is_post {
        return password_page(visit, StatusCode::OK, None, None);
    }
    let word = |name| visit.form.get(name);
    if word("mat_khau") != word("mat_khau_2") {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return password_page(visit, status, Some(&Fault::Different), None);
    }
    let visitor = visit.visitor.as_ref().expect("the route needs a session");
    let changed = visit.accounts().change_password(
        visitor,
        word("mat_khau_cu"),
        word("mat_khau"),
        visit.address,
        || visit.now(),
    );
    match changed.await {
        Ok(token) => {
            visit
                .record(visit.by(), "password_change", "done", "")
                .await;
            let cookie = session_cookie(&token, visit.app.area.is_secure());
            Answer::go(visit.lang, LIST).with_cookie(cookie)
        }
        Err(denied) => refused(&denied, |status, texts| {
            let old = (!matches!(denied, Denied::Password(_))).then_some(texts);
            password_page(visit, status, Some(&Fault::Denied(&denied)), old)
        }),
    }
}

fn password_page(
    visit: &Visit,
    status: StatusCode,
    fault: Option<&Fault<'_>>,
    old_fault: Option<Both<'_>>,
) -> Answer {
    let old = Field {
        name: "mat_khau_cu",
        label: ["Mật khẩu đang dùng", "Present password"],
        kind: "password",
        value: "",
        autocomplete: "current-password",
        hint: None,
        fault: old_fault,
    };
    // Browsers keep a password under the name that stands beside it.
    let account = visit.visitor.as_ref().map_or("", |known| &known.account);
    let inside = format!(
        "<label for=\"ten\">{}</label><input id=\"ten\" name=\"ten\" type=\"text\" value=\"{}\" autocomplete=\"username\" readonly>{}{}{}",
        visit.lang.of(["Tài khoản", "Account"]),
        Text(account),
        old.html(visit.lang),
        password_fields(visit.lang, fault),
        button(visit.lang, PASSWORD_TITLE)
    );
    let html = form(visit.lang, visit.path, &visit.token, &inside);
    visit.page_with(
        status,
        PASSWORD_TITLE,
        &section(visit.lang, PASSWORD_TITLE, &html),
    )
}

pub(super) async fn remove(visit: &Visit) -> Answer {
    let name = visit.field("ten").to_owned();
    if !visit.is_confirmed() {
        let account = Text(&name);
        let what = visit.lang.of([
            format!("<p>Tài khoản <strong>{account}</strong> bị xóa, mọi phiên làm việc của tài khoản này kết thúc.</p>"),
            format!("<p>The account <strong>{account}</strong> is removed; all its sessions end.</p>"),
        ]);
        return visit.confirm(REMOVE_TITLE, &what, &[("ten", &name)], REMOVE_TITLE, LIST);
    }
    match visit.accounts().remove(&name).await {
        Ok(true) => {
            visit
                .record(visit.by(), "account_remove", "done", &name)
                .await;
            let told = [
                format!("Đã xóa tài khoản {name}."),
                format!("The account {name} was removed."),
            ];
            visit.tell(true, told, LIST)
        }
        Ok(false) => {
            let told = ["Không có tài khoản này.", "There is no such account."];
            visit.tell(false, told.map(str::to_owned), LIST)
        }
        Err(error) => unavailable(visit, REMOVE_TITLE, &error),
    }
}
