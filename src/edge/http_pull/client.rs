//! One request to a service, and what its answer means for the source.

use std::time::Duration;

use base64::Engine as _;
use ureq::Agent;

use crate::edge::config::http_pull::{HttpPullConfig, Login};
use crate::edge::connectors::Fault;
use crate::edge::http_pull::answer::Place;
use crate::edge::mqtt_source::read_password;
use crate::edge::trust::{Distrust, no_authority};
use crate::shell::web;

/// Pause where a busy service names none.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Asks one service; blocks.
pub struct Client {
    config: HttpPullConfig,
    agent: Agent,
    header: Option<(String, String)>,
}

/// What came.
pub enum Reply {
    Body {
        bytes: Vec<u8>,
        etag: Option<String>,
        link: Option<String>,
    },
    NotModified,
    /// The service wants to be left alone for so long.
    Busy(Duration, Fault),
}

impl Client {
    pub fn new(config: &HttpPullConfig) -> Result<Client, Fault> {
        let is_https = config.url.starts_with("https://");
        let agent = web::agent(
            Duration::from_millis(config.timeout_ms),
            is_https.then_some(config.authority.as_path()),
        );
        let header = match &config.login {
            None => None,
            Some(Login::Bearer(file)) => {
                let token = read_password(file)?;
                Some(("authorization".to_owned(), format!("Bearer {token}")))
            }
            Some(Login::Basic { user, password }) => {
                let pair = format!("{user}:{}", read_password(password)?);
                let text = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(("authorization".to_owned(), format!("Basic {text}")))
            }
            Some(Login::Header { name, secret }) => Some((name.clone(), read_password(secret)?)),
        };
        Ok(Client {
            config: config.clone(),
            agent: agent.map_err(no_authority)?,
            header,
        })
    }

    /// Asks for one page. `etag` is of the answer that was taken last at the first place.
    pub fn get(
        &self,
        place: &Place,
        since: Option<&(String, String)>,
        etag: Option<&str>,
    ) -> Result<Reply, Fault> {
        let mut request = match place {
            Place::Url(url) => self.agent.get(url),
            _ => self.agent.get(&self.config.url),
        };
        if !matches!(place, Place::Url(_)) {
            let size = self.config.page_size.as_ref();
            let size = size.map(|(param, size)| (param.clone(), size.to_string()));
            for (name, value) in self.config.query.iter() {
                request = request.query(name, value);
            }
            for (name, value) in size.iter().chain(since) {
                request = request.query(name, value);
            }
        }
        if let Place::With(name, value) = place {
            request = request.query(name, value);
        }
        request = request.header("accept", "application/json");
        if let Some((name, value)) = &self.header {
            request = request.header(name, value);
        }
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let mut response = request.call().map_err(no_answer)?;
        let head = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (etag, link) = (head("etag"), head("link"));
        match response.status().as_u16() {
            200 => {}
            304 => return Ok(Reply::NotModified),
            status @ (429 | 503) => {
                let pause = web::retry_after(response.headers()).unwrap_or(RETRY_AFTER);
                return Ok(Reply::Busy(pause, busy(status, pause.as_secs())));
            }
            status => return Err(of_status(status)),
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(self.config.body_bytes_max);
        let bytes = body.read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => too_large(self.config.body_bytes_max),
            error => no_answer(error),
        })?;
        Ok(Reply::Body { bytes, etag, link })
    }
}

fn no_answer(error: ureq::Error) -> Fault {
    let distrust = match &error {
        ureq::Error::Io(error) => Distrust::of(error),
        ureq::Error::Rustls(error) => Some(Distrust::of_tls(error)),
        _ => None,
    };
    if let Some(distrust) = distrust {
        return distrust.fault("ca");
    }
    let kind = web::kind_of(&error);
    Fault::new(
        "http_link",
        [
            format!("không hỏi được dịch vụ web ({kind}); con trỏ giữ nguyên"),
            format!("the web service gives no answer ({kind}); the cursor stands still"),
        ],
        [
            "Kiểm tra phần mềm có chạy không, url, mạng nội bộ, và ca nếu dịch vụ dùng chứng thư riêng.",
            "Check that the program runs, url, the local network, and ca if the service has a certificate of its own.",
        ],
    )
}

fn of_status(status: u16) -> Fault {
    let [hint_vi, hint_en] = match status {
        401 | 403 => [
            "Mã truy cập sai, hết hạn hoặc thiếu quyền: cấp lại và ghi vào tệp token_file.",
            "The token is wrong, has ended or lacks a right: have it issued again and write it to token_file.",
        ],
        300..=399 => [
            "Dịch vụ chuyển hướng: nếu mạng đòi đăng nhập thì đăng nhập trước, nếu không thì sửa url thành địa chỉ mới.",
            "The service redirects: if the network asks for a login, log in first; else set url to the new address.",
        ],
        404 | 410 => [
            "Không có địa chỉ này: kiểm tra url và phiên bản của phần mềm.",
            "There is no such address: check url and the program's version.",
        ],
        _ => [
            "Báo đơn vị vận hành phần mềm; trạm tự hỏi lại.",
            "Tell the program's operator; the box asks again by itself.",
        ],
    };
    let code = match status {
        401 | 403 => "http_login",
        _ => "http_status",
    };
    Fault::new(
        code,
        [
            format!("dịch vụ web trả lời mã {status}; con trỏ giữ nguyên"),
            format!("the web service answers {status}; the cursor stands still"),
        ],
        [hint_vi, hint_en],
    )
}

fn busy(status: u16, seconds: u64) -> Fault {
    Fault::new(
        "http_busy",
        [
            format!("dịch vụ web đang bận (mã {status}); trạm hỏi lại sau {seconds} giây"),
            format!("the web service is busy ({status}); the box asks again in {seconds} s"),
        ],
        [
            "Không cần làm gì; nếu lặp lại nhiều thì tăng every.",
            "Nothing is to be done; if it happens often, raise every.",
        ],
    )
}

fn too_large(limit: u64) -> Fault {
    Fault::new(
        "http_too_large",
        [
            format!("câu trả lời của dịch vụ lớn hơn {limit} byte; con trỏ giữ nguyên"),
            format!("the service's answer is larger than {limit} bytes; the cursor stands still"),
        ],
        [
            "Chia trang (paging, page_size) hoặc tăng body_max.",
            "Ask for pages (paging, page_size), or raise body_max.",
        ],
    )
}
