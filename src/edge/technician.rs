//! The technician's area of the box's page, under `/ky-thuat`: plain HTML that works without script.
//!
//! Every request passes [`serve`], which knows the closed list [`ROUTES`] and checks session, origin
//! and the form's token before a page sees anything. Nothing changes by GET: it shows what would
//! happen, and a form that is posted does it. What is done stands in the audit. The language of the
//! address (`lang=en`) is that of the page and of everything that it leads to.

mod audit;
mod bandwidth;
mod files;
mod form;
mod html;
mod link_test;
mod login;
mod machine;
mod parked;
mod people;
mod repair;
mod safekeeping;
mod sources;
mod steps;
mod stick;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use tokio::time::timeout;

use crate::edge::accounts::sessions::{Notice, form_token, random_token};
use crate::edge::accounts::{Accounts, Visitor};
use crate::edge::config::Config;
use crate::edge::http::App;
use crate::edge::listen::Peer;
use crate::edge::orders::local::{self, By};
use crate::edge::page::lang::Lang;
use crate::model::{Now, UnixMs};
use form::{Cookies, Fields};
use html::{Both, Frame};

/// Longest form of who is logged in, and of who is not, and how long either may be on its way.
const FORM_BYTES_MAX: usize = 256 * 1024;
const OPEN_FORM_BYTES_MAX: usize = 16 * 1024;
const FORM_TIMEOUT: Duration = Duration::from_secs(15);
/// The field that carries a form's token, and the one that says that a person has confirmed.
const TOKEN_FIELD: &str = "ma_bieu_mau";
const CONFIRMED: &str = "xac_nhan";
/// Fields by which a page's subject is named: source, number, file or account, and where a list goes on.
const NAMED: [&str; 4] = ["nguon", "so", "ten", "sau"];
const HOME: &str = "/ky-thuat";
const LOGIN: &str = "/ky-thuat/dang-nhap";

/// What the area shares.
pub struct Area {
    pub accounts: Accounts,
    config: Arc<Config>,
}

impl Area {
    pub fn new(config: &Arc<Config>) -> Area {
        Area {
            accounts: Accounts::new(&config.store),
            config: Arc::clone(config),
        }
    }

    pub(in crate::edge) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Writes into the audit; what is done is done, so a fault of the audit's is only logged.
    pub async fn record(
        &self,
        by: By,
        name: &'static str,
        result: &'static str,
        detail: String,
        now: UnixMs,
    ) {
        let config = Arc::clone(&self.config);
        let noted = tokio::task::spawn_blocking(move || {
            local::note(&config, &by, name, result, &detail, now)
        });
        match noted.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, name, "the audit could not be written"),
            Err(_) => tracing::error!(name, "writing the audit has panicked"),
        }
    }

    fn is_secure(&self) -> bool {
        self.config.http.tls.is_some()
    }
}

/// A page of the area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub path: &'static str,
    pub methods: Methods,
    /// Reachable without a session. Everything else needs one.
    pub is_open: bool,
    page: Page,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    Get,
    Post,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Home,
    Login,
    FirstAccount,
    Logout,
    Audit,
    Accounts,
    AddAccount,
    ChangePassword,
    RemoveAccount,
    Pause,
    Resume,
    SendNow,
    LinkTest,
    Parked,
    LookParked,
    RetryParked,
    DropParked,
    MendParked,
    Files,
    ReplayFile,
    Bandwidth,
    Backup,
    Stick,
    Bundle,
    Restart,
    PowerOff,
}

const fn route(path: &'static str, methods: Methods, page: Page) -> Route {
    Route {
        path,
        methods,
        is_open: false,
        page,
    }
}

const fn open(path: &'static str, page: Page) -> Route {
    Route {
        path,
        methods: Methods::Both,
        is_open: true,
        page,
    }
}

/// Every page there is.
pub const ROUTES: &[Route] = &[
    route(HOME, Methods::Get, Page::Home),
    open(LOGIN, Page::Login),
    open(crate::edge::accounts::FIRST_PATH, Page::FirstAccount),
    route("/ky-thuat/dang-xuat", Methods::Post, Page::Logout),
    route("/ky-thuat/nhat-ky", Methods::Get, Page::Audit),
    route("/ky-thuat/tai-khoan", Methods::Get, Page::Accounts),
    route("/ky-thuat/tai-khoan/them", Methods::Both, Page::AddAccount),
    route(
        "/ky-thuat/tai-khoan/mat-khau",
        Methods::Both,
        Page::ChangePassword,
    ),
    route(
        "/ky-thuat/tai-khoan/xoa",
        Methods::Both,
        Page::RemoveAccount,
    ),
    route("/ky-thuat/nguon/tam-dung", Methods::Both, Page::Pause),
    route("/ky-thuat/nguon/chay-tiep", Methods::Both, Page::Resume),
    route("/ky-thuat/gui-ngay", Methods::Both, Page::SendNow),
    route("/ky-thuat/duong-truyen", Methods::Both, Page::LinkTest),
    route("/ky-thuat/giu-lai", Methods::Get, Page::Parked),
    route("/ky-thuat/giu-lai/xem", Methods::Get, Page::LookParked),
    route(
        "/ky-thuat/giu-lai/dua-lai",
        Methods::Both,
        Page::RetryParked,
    ),
    route("/ky-thuat/giu-lai/bo", Methods::Both, Page::DropParked),
    route("/ky-thuat/giu-lai/sua", Methods::Both, Page::MendParked),
    route("/ky-thuat/tep", Methods::Get, Page::Files),
    route("/ky-thuat/tep/nhan-lai", Methods::Both, Page::ReplayFile),
    route("/ky-thuat/bang-thong", Methods::Both, Page::Bandwidth),
    route("/ky-thuat/sao-luu", Methods::Both, Page::Backup),
    route(stick::PATH, Methods::Both, Page::Stick),
    route("/ky-thuat/goi-chan-doan", Methods::Both, Page::Bundle),
    route("/ky-thuat/khoi-dong-lai", Methods::Both, Page::Restart),
    route("/ky-thuat/tat-may", Methods::Both, Page::PowerOff),
];

/// A request that has passed the checks.
struct Visit {
    app: Arc<App>,
    lang: Lang,
    path: &'static str,
    is_post: bool,
    query: Fields,
    form: Fields,
    address: IpAddr,
    visitor: Option<Visitor>,
    /// The token that forms of this browser carry.
    token: String,
    /// To be set where the browser has nothing yet.
    cookie: Option<String>,
}

/// A file that the browser keeps.
struct Download {
    /// Of letters, digits, dots and hyphens.
    name: String,
    kind: &'static str,
    bytes: Vec<u8>,
}

/// What a page answers.
struct Answer {
    status: StatusCode,
    body: String,
    /// An answer that comes in parts; then `body` is not sent.
    stream: Option<Body>,
    /// A file to be kept, instead of a page.
    download: Option<Download>,
    /// Where the browser is to go instead.
    location: Option<String>,
    cookies: Vec<String>,
    retry_after_s: Option<u64>,
}

impl Answer {
    fn html(status: StatusCode, body: String) -> Answer {
        Answer {
            status,
            body,
            stream: None,
            download: None,
            location: None,
            cookies: Vec::new(),
            retry_after_s: None,
        }
    }

    fn go(lang: Lang, path: &str) -> Answer {
        Answer {
            location: Some(html::address(lang, path)),
            ..Answer::html(StatusCode::SEE_OTHER, String::new())
        }
    }

    fn with_cookie(mut self, cookie: String) -> Answer {
        self.cookies.push(cookie);
        self
    }

    fn into_response(self) -> Response<Body> {
        let (kind, file) = match &self.download {
            Some(Download { name, kind, .. }) => {
                let file = format!("attachment; filename=\"{name}\"");
                (*kind, Some((header::CONTENT_DISPOSITION, file)))
            }
            None => ("text/html; charset=utf-8", None),
        };
        let body = match (self.download, self.stream) {
            (Some(download), _) => Body::from(download.bytes),
            (None, Some(stream)) => stream,
            (None, None) => Body::from(self.body),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            // Without any referrer browsers would not say of a form where it comes from.
            (header::REFERRER_POLICY, "same-origin"),
            (header::CONTENT_SECURITY_POLICY, html::csp()),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let lines = self
            .cookies
            .iter()
            .map(|line| (header::SET_COOKIE, line.clone()));
        let location = self.location.map(|path| (header::LOCATION, path));
        let retry = self
            .retry_after_s
            .map(|seconds| (header::RETRY_AFTER, seconds.to_string()));
        for (name, value) in lines.chain(location).chain(retry).chain(file) {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        }
        response
    }
}

/// Serves a request under `/ky-thuat`.
pub async fn serve(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    request: Request,
) -> Response<Body> {
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.0);
    answer(app, address, request).await.into_response()
}

async fn answer(app: Arc<App>, address: IpAddr, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let lang = Lang::of_query(head.uri.query());
    let plain = |status, texts: Both<'_>| plain(&app.area.config, lang, status, texts);
    let path = head.uri.path().trim_end_matches('/');
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        let texts = ["Không có trang này.", "There is no such page."];
        return plain(StatusCode::NOT_FOUND, texts);
    };
    let is_post = head.method == Method::POST;
    let is_allowed = match route.methods {
        Methods::Get => head.method == Method::GET || head.method == Method::HEAD,
        Methods::Post => is_post,
        Methods::Both => is_post || head.method == Method::GET || head.method == Method::HEAD,
    };
    if !is_allowed {
        let texts = ["Trang này không nhận cách gọi đó.", "Not in this way."];
        return plain(StatusCode::METHOD_NOT_ALLOWED, texts);
    }
    let is_secure = app.area.is_secure();
    let cookies = Cookies::of(&head.headers, is_secure);
    let visitor = match &cookies.session {
        Some(secret) => app.area.accounts.visitor(secret, app.door.now()).await,
        None => None,
    };
    if visitor.is_none() && !route.is_open {
        return match is_post {
            false => Answer::go(lang, LOGIN),
            true => plain(
                StatusCode::UNAUTHORIZED,
                [
                    "Phiên làm việc đã hết; chưa có gì được thực hiện. Hãy đăng nhập lại.",
                    "The session has ended; nothing was done. Log in again.",
                ],
            ),
        };
    }
    // Before there is a session, a secret of its own binds the form to the browser.
    let (secret, cookie) = match (&visitor, cookies.before) {
        (Some(visitor), _) => (visitor.token.clone(), None),
        (None, Some(secret)) => (secret, None),
        (None, None) => {
            let secret = random_token();
            let cookie = form::before_cookie(&secret, is_secure);
            (secret, Some(cookie))
        }
    };
    let mut visit = Visit {
        lang,
        path: route.path,
        is_post,
        query: Fields::parse(head.uri.query().unwrap_or_default().as_bytes()),
        form: Fields::default(),
        address,
        visitor,
        token: form_token(&secret),
        cookie,
        app: Arc::clone(&app),
    };
    if is_post {
        let bytes_max = match visit.visitor {
            Some(_) => FORM_BYTES_MAX,
            None => OPEN_FORM_BYTES_MAX,
        };
        let Ok(Ok(bytes)) = timeout(FORM_TIMEOUT, to_bytes(body, bytes_max)).await else {
            let texts = [
                "Biểu mẫu quá lớn hoặc quá chậm.",
                "The form is too large or too slow.",
            ];
            return plain(StatusCode::BAD_REQUEST, texts);
        };
        visit.form = Fields::parse(&bytes);
        if !form::is_from_here(&head.headers, is_secure)
            || visit.cookie.is_some()
            || visit.form.get(TOKEN_FIELD) != visit.token
        {
            return plain(
                StatusCode::FORBIDDEN,
                [
                    "Biểu mẫu không đến từ trang này hoặc đã cũ; chưa có gì được thực hiện. Hãy mở lại trang.",
                    "The form is not from this page or too old; nothing was done. Open the page again.",
                ],
            );
        }
    }
    let cookie = visit.cookie.clone();
    let mut answer = show(route.page, &visit).await;
    answer.cookies.extend(cookie);
    answer
}

async fn show(page: Page, visit: &Visit) -> Answer {
    match page {
        Page::Home => sources::home(visit).await,
        Page::Login => login::login(visit).await,
        Page::FirstAccount => login::first_account(visit).await,
        Page::Logout => login::logout(visit),
        Page::Audit => audit::audit(visit).await,
        Page::Accounts => people::accounts(visit).await,
        Page::AddAccount => people::add(visit).await,
        Page::ChangePassword => people::change_password(visit).await,
        Page::RemoveAccount => people::remove(visit).await,
        Page::Pause => sources::pause(visit).await,
        Page::Resume => sources::resume(visit).await,
        Page::SendNow => sources::send_now(visit).await,
        Page::LinkTest => link_test::link_test(visit).await,
        Page::Parked => parked::list(visit).await,
        Page::LookParked => parked::look(visit).await,
        Page::RetryParked => parked::retry(visit).await,
        Page::DropParked => parked::drop_row(visit).await,
        Page::MendParked => parked::mend(visit).await,
        Page::Files => files::list(visit).await,
        Page::ReplayFile => files::replay(visit).await,
        Page::Bandwidth => bandwidth::bandwidth(visit).await,
        Page::Backup => safekeeping::backup(visit).await,
        Page::Stick => stick::stick(visit).await,
        Page::Bundle => safekeeping::diagnostics(visit).await,
        Page::Restart => machine::restart(visit).await,
        Page::PowerOff => machine::power_off(visit).await,
    }
}

/// A page for who is perhaps nobody that we know.
fn plain(config: &Config, lang: Lang, status: StatusCode, texts: Both<'_>) -> Answer {
    let frame = Frame {
        lang,
        other: HOME,
        title: ["Kỹ thuật", "Technician"],
        box_id: config.box_id.as_str(),
        visitor: None,
        notice: None,
    };
    let body = format!(
        "{}<p>{}</p>\n",
        html::error(lang, texts),
        html::link(lang, HOME, ["Trang kỹ thuật", "The technician's page"])
    );
    Answer::html(status, html::page(&frame, &body))
}

impl Visit {
    fn accounts(&self) -> &Accounts {
        &self.app.area.accounts
    }

    fn config(&self) -> &Arc<Config> {
        &self.app.area.config
    }

    fn now(&self) -> Now {
        self.app.door.now()
    }

    fn by(&self) -> By {
        let who = self
            .visitor
            .as_ref()
            .map_or("-", |visitor| &visitor.account);
        By {
            who: who.to_owned(),
            place: self.address.to_canonical().to_string(),
        }
    }

    /// A person has seen what will happen, and wants it.
    fn is_confirmed(&self) -> bool {
        self.is_post && self.form.get(CONFIRMED) == "1"
    }

    /// A field of the form, or of the address where there is no form.
    fn field(&self, name: &str) -> &str {
        match self.is_post {
            true => self.form.get(name),
            false => self.query.get(name),
        }
    }

    /// Where this page is, without its language: what was named by the address, or by the form that led
    /// here. Nothing else of a form may stand in an address.
    fn path_again(&self) -> String {
        let mut path = self.path.to_owned();
        let known = NAMED.iter().filter(|_| self.visitor.is_some());
        for name in known.filter(|name| !self.field(name).is_empty()) {
            let mark = if path.contains('?') { '&' } else { '?' };
            path.push_str(&format!("{mark}{name}={}", form::encoded(self.field(name))));
        }
        path
    }

    fn page(&self, title: Both<'_>, body: &str) -> Answer {
        self.page_with(StatusCode::OK, title, body)
    }

    fn page_with(&self, status: StatusCode, title: Both<'_>, body: &str) -> Answer {
        let visitor = self.visitor.as_ref();
        let other = self.path_again();
        let frame = Frame {
            lang: self.lang,
            other: &other,
            title,
            box_id: self.config().box_id.as_str(),
            visitor: visitor.map(|visitor| (visitor.account.as_str(), self.token.as_str())),
            notice: visitor.and_then(|visitor| self.accounts().take_notice(visitor)),
        };
        Answer::html(status, html::page(&frame, body))
    }

    /// The page that says what will happen, with the button that does it. `what` is HTML.
    fn confirm(
        &self,
        title: Both<'_>,
        what: &str,
        fields: &[(&str, &str)],
        name: Both<'_>,
        back: &str,
    ) -> Answer {
        let mut inside = html::hidden(CONFIRMED, "1");
        for (field, value) in fields {
            inside.push_str(&html::hidden(field, value));
        }
        inside.push_str(&html::button(self.lang, name));
        let no = ["Không, quay lại", "No, back"];
        inside.push_str(&html::link(self.lang, back, no));
        let form = html::form(self.lang, self.path, &self.token, &inside);
        self.page(
            title,
            &html::section(self.lang, title, &format!("{what}{form}")),
        )
    }

    /// Tells on the next page how it went, and goes there.
    fn tell(&self, is_good: bool, [vi, en]: [String; 2], next: &str) -> Answer {
        if let Some(visitor) = &self.visitor {
            let notice = Notice { is_good, vi, en };
            self.accounts().set_notice(visitor, notice);
        }
        Answer::go(self.lang, next)
    }

    /// Writes into the audit what was done here.
    async fn record(&self, by: By, name: &'static str, result: &'static str, detail: &str) {
        let (area, now) = (&self.app.area, self.now().wall);
        area.record(by, name, result, detail.to_owned(), now).await;
    }
}
