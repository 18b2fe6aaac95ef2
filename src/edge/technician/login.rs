//! In and out: by name and password, or by a code from the console.

use axum::http::StatusCode;

use super::form::{no_session_cookie, session_cookie};
use super::html::{Both, Field, button, error, form, link, section};
use super::{Answer, HOME, LOGIN, Visit};
use crate::edge::accounts::{Denied, FIRST_PATH};
use crate::edge::orders::local::By;
use crate::edge::page::lang::Lang;

const LOGIN_TITLE: Both<'_> = ["Đăng nhập kỹ thuật viên", "Technician's login"];
const FIRST_TITLE: Both<'_> = ["Tài khoản bằng mã", "Account by a code"];

pub(super) async fn login(visit: &Visit) -> Answer {
    if !visit.is_post {
        return match &visit.visitor {
            Some(_) => Answer::go(visit.lang, HOME),
            None => login_page(visit, StatusCode::OK, None),
        };
    }
    let (name, password) = (visit.form.get("ten"), visit.form.get("mat_khau"));
    let accounts = visit.accounts();
    match accounts
        .log_in(name, password, visit.address, || visit.now())
        .await
    {
        Ok(token) => enter(visit, &token, name, "login").await,
        Err((denied, locks)) => {
            if locks {
                // Whatever was typed as a name may be a password by mistake: it is not written down.
                let by = By {
                    who: "-".to_owned(),
                    ..visit.by()
                };
                visit
                    .record(by, "login", "refused", "locked for a while")
                    .await;
            }
            refused(&denied, |status, fault| {
                login_page(visit, status, Some(fault))
            })
        }
    }
}

/// A session begins: whatever the browser held before opens nothing any more.
async fn enter(visit: &Visit, token: &str, name: &str, deed: &'static str) -> Answer {
    if let Some(before) = &visit.visitor {
        visit.accounts().log_out(&before.token);
    }
    let by = By {
        who: name.trim().to_lowercase(),
        ..visit.by()
    };
    visit.record(by, deed, "done", "").await;
    Answer::go(visit.lang, HOME).with_cookie(session_cookie(token, visit.app.area.is_secure()))
}

fn login_page(visit: &Visit, status: StatusCode, fault: Option<Both<'_>>) -> Answer {
    let name = Field {
        name: "ten",
        label: ["Tên tài khoản", "Account"],
        kind: "text",
        value: visit.form.get("ten"),
        autocomplete: "username",
        hint: None,
        fault: None,
    };
    let password = Field {
        name: "mat_khau",
        label: ["Mật khẩu", "Password"],
        kind: "password",
        value: "",
        autocomplete: "current-password",
        hint: None,
        fault,
    };
    let inside = format!(
        "{}{}{}",
        name.html(visit.lang),
        password.html(visit.lang),
        button(visit.lang, ["Đăng nhập", "Log in"])
    );
    let help = link(
        visit.lang,
        FIRST_PATH,
        [
            "Chưa có tài khoản, quên mật khẩu hoặc bị khóa: dùng mã từ máy trạm (tramd account code)",
            "No account, a forgotten password, or locked out: a code from the box's console",
        ],
    );
    let html = format!(
        "{}<p>{help}</p>\n",
        form(visit.lang, LOGIN, &visit.token, &inside)
    );
    visit.page_with(
        status,
        LOGIN_TITLE,
        &section(visit.lang, LOGIN_TITLE, &html),
    )
}

pub(super) async fn first_account(visit: &Visit) -> Answer {
    if !visit.is_post {
        return first_page(visit, StatusCode::OK, None);
    }
    let word = |name| visit.form.get(name);
    if word("mat_khau") != word("mat_khau_2") {
        return first_page(
            visit,
            StatusCode::UNPROCESSABLE_ENTITY,
            Some(&Fault::Different),
        );
    }
    let accounts = visit.accounts();
    let (code, name, password) = (word("ma"), word("ten"), word("mat_khau"));
    let made = accounts.log_in_by_code(code, name, password, visit.address, visit.now());
    match made.await {
        Ok(token) => enter(visit, &token, name, "login_by_code").await,
        Err(denied) => refused(&denied, |status, _| {
            first_page(visit, status, Some(&Fault::Denied(&denied)))
        }),
    }
}

/// What is wrong with a form that makes an account.
pub(super) enum Fault<'a> {
    Different,
    Denied(&'a Denied),
}

fn first_page(visit: &Visit, status: StatusCode, fault: Option<&Fault<'_>>) -> Answer {
    let is_code = matches!(fault, Some(Fault::Denied(Denied::Code)));
    let code = Field {
        name: "ma",
        label: ["Mã dùng một lần", "One-time code"],
        kind: "text",
        value: visit.form.get("ma"),
        autocomplete: "one-time-code",
        hint: Some([
            "In ra bằng lệnh sudo tramd account code trên máy trạm; lần chạy đầu mã có trong nhật ký (journalctl -u tramd).",
            "Printed by sudo tramd account code on the box; at the first start it is in the log.",
        ]),
        fault: is_code.then_some([
            "Mã sai, đã dùng hoặc đã quá 1 giờ; hãy in mã mới.",
            "The code is wrong, used or older than an hour; print a new one.",
        ]),
    };
    let inside = format!(
        "{}{}{}",
        code.html(visit.lang),
        account_fields(visit, fault),
        button(
            visit.lang,
            [
                "Tạo tài khoản hoặc đặt lại mật khẩu",
                "Make the account, or set its password"
            ]
        )
    );
    let html = form(visit.lang, FIRST_PATH, &visit.token, &inside);
    visit.page_with(
        status,
        FIRST_TITLE,
        &section(visit.lang, FIRST_TITLE, &html),
    )
}

/// Name and password of an account that is to be, each with what is wrong with it.
pub(super) fn account_fields(visit: &Visit, fault: Option<&Fault<'_>>) -> String {
    let name = Field {
        name: "ten",
        label: ["Tên tài khoản", "Account"],
        kind: "text",
        value: visit.form.get("ten"),
        autocomplete: "username",
        hint: Some([
            "Từ 2 đến 32 chữ thường không dấu, số, dấu chấm, gạch; bắt đầu bằng chữ. Mỗi người một tài khoản.",
            "2 to 32 of a-z, 0-9, '.', '-', '_'; one account a person.",
        ]),
        fault: match fault {
            Some(Fault::Denied(Denied::Name)) => {
                Some(["Tên này không dùng được.", "This cannot be a name."])
            }
            Some(Fault::Denied(Denied::Taken)) => Some([
                "Đã có tài khoản tên này.",
                "There is an account of this name.",
            ]),
            _ => None,
        },
    };
    format!(
        "{}{}",
        name.html(visit.lang),
        password_fields(visit.lang, fault)
    )
}

/// A new password, twice.
pub(super) fn password_fields(lang: Lang, fault: Option<&Fault<'_>>) -> String {
    let password = Field {
        name: "mat_khau",
        label: ["Mật khẩu mới", "New password"],
        kind: "password",
        value: "",
        autocomplete: "new-password",
        hint: Some([
            "Ít nhất 12 ký tự, nên từ 15; không bắt buộc loại ký tự nào.",
            "At least 12 characters, better 15; any characters.",
        ]),
        fault: match fault {
            Some(Fault::Denied(Denied::Password(unfit))) => Some(unfit.texts()),
            _ => None,
        },
    };
    let again = Field {
        name: "mat_khau_2",
        label: ["Nhập lại mật khẩu mới", "The same again"],
        kind: "password",
        value: "",
        autocomplete: "new-password",
        hint: None,
        fault: matches!(fault, Some(Fault::Different)).then_some([
            "Hai mật khẩu không giống nhau.",
            "The two are not the same.",
        ]),
    };
    format!("{}{}", password.html(lang), again.html(lang))
}

/// Why somebody was not let in, as a page that `page` makes.
pub(super) fn refused(
    denied: &Denied,
    page: impl FnOnce(StatusCode, Both<'_>) -> Answer,
) -> Answer {
    let seconds = |wait_ms: u64| wait_ms.div_ceil(1_000).max(1);
    let (status, texts, retry_after_s) = match denied {
        Denied::Wrong => (
            StatusCode::UNAUTHORIZED,
            [
                "Tên tài khoản hoặc mật khẩu không đúng.".to_owned(),
                "Account or password is wrong.".to_owned(),
            ],
            None,
        ),
        Denied::Wait { wait_ms } => (
            StatusCode::TOO_MANY_REQUESTS,
            [
                format!(
                    "Thử sai quá nhiều lần; chờ {} giây rồi thử lại, hoặc dùng mã từ máy trạm.",
                    seconds(*wait_ms)
                ),
                format!(
                    "Too many tries; wait {} s, or use a code from the console.",
                    seconds(*wait_ms)
                ),
            ],
            Some(seconds(*wait_ms)),
        ),
        Denied::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            [
                "Nhiều người đăng nhập cùng lúc; thử lại sau vài giây.".to_owned(),
                "Too many logins at once; try again in a few seconds.".to_owned(),
            ],
            Some(3),
        ),
        Denied::Code | Denied::Name | Denied::Taken | Denied::Password(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            [String::new(), String::new()],
            None,
        ),
        Denied::Store(_) | Denied::Process(_) => {
            tracing::error!(error = %denied, "a technician's account could not be checked");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                [
                    "Trạm chưa kiểm tra được tài khoản; xem nhật ký của trạm và thử lại."
                        .to_owned(),
                    "The account could not be checked; see the box's log and try again.".to_owned(),
                ],
                Some(10),
            )
        }
    };
    Answer {
        retry_after_s,
        ..page(status, [&texts[0], &texts[1]])
    }
}

pub(super) fn logout(visit: &Visit) -> Answer {
    if let Some(visitor) = &visit.visitor {
        visit.accounts().log_out(&visitor.token);
    }
    Answer::go(visit.lang, LOGIN).with_cookie(no_session_cookie(visit.app.area.is_secure()))
}

/// Shown where a page cannot be made now.
pub(super) fn unavailable(visit: &Visit, title: Both<'_>, why: &dyn std::fmt::Display) -> Answer {
    tracing::warn!(error = %why, "a technician's page could not be made");
    visit.page_with(
        StatusCode::SERVICE_UNAVAILABLE,
        title,
        &error(
            visit.lang,
            [
                "Chưa đọc được dữ liệu của trạm; thử lại sau vài giây.",
                "The box's data cannot be read now; try again in a few seconds.",
            ],
        ),
    )
}
