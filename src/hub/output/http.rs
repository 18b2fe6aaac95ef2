//! HTTP to targets: one client with its limits, and what a status means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;

use crate::hub::output::{Failure, Trouble, no_authority, secret};
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::web;

/// What of an answer is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A target that speaks HTTP.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub url: String,
    /// Authorities that its certificate comes from; required for https.
    pub ca: Option<PathBuf>,
    pub timeout: Duration,
}

/// `url`, `ca` and `timeout`.
pub fn settings(section: &mut Section, timeout: Option<Duration>) -> Option<Endpoint> {
    let url = section.value("url", None, url);
    let ca = section.optional_path("ca");
    let (url, ca) = (url?, ca?);
    if url.starts_with("https://") && ca.is_none() {
        section.fault(
            "ca",
            Wrong::new(
                "bắt buộc khi url là https",
                "is required with an https url",
                "Ghi đường dẫn tệp PEM của CA, ví dụ \"/etc/ssl/certs/ca-certificates.crt\".",
                "Name the PEM file of the authorities, such as \"/etc/ssl/certs/ca-certificates.crt\".",
            ),
        );
        return None;
    }
    Some(Endpoint {
        url,
        ca,
        timeout: timeout?,
    })
}

/// Outside this machine only https: bodies and tokens must not be read on the way.
fn url(text: &str) -> Result<String, Wrong> {
    let is_near = text.strip_prefix("http://").is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        ["localhost", "127.0.0.1", "[::1]"].contains(&host)
    });
    let is_plain = |text: &str| !text.contains(|c: char| c.is_control() || c == ' ' || c == '@');
    match (is_near || text.starts_with("https://")) && is_plain(text) {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(Wrong::new(
            "không phải là địa chỉ https (http chỉ dùng được trong cùng một máy)",
            "is no https address (http only within this machine)",
            "Ví dụ: \"https://kho.tinh.example/v1/su-kien\"; mật khẩu để trong tệp riêng.",
            "For example: \"https://kho.tinh.example/v1/su-kien\"; secrets stand in files of their own.",
        )),
    }
}

/// A status and the beginning of the answer.
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

pub struct Client {
    agent: Agent,
}

impl Client {
    pub fn open(endpoint: &Endpoint) -> Result<Client, Trouble> {
        let agent = web::agent(endpoint.timeout, endpoint.ca.as_deref());
        Ok(Client {
            agent: agent.map_err(|fault| no_authority("ca", &fault))?,
        })
    }

    pub fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer, Trouble> {
        let mut request = self.agent.post(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send(body).map_err(|error| no_answer(&error))?;
        let retry_after = web::retry_after(response.headers());
        let status = response.status().as_u16();
        let read = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec();
        let body = match read {
            Ok(body) => body,
            // What a long answer says is of no interest here.
            Err(ureq::Error::BodyExceedsLimit(_)) => Vec::new(),
            Err(error) => return Err(no_answer(&error)),
        };
        Ok(Answer {
            status,
            retry_after,
            body,
        })
    }
}

/// What a status means: an entry that is refused is parked, everything else makes the output wait.
pub fn judge(answer: &Answer) -> Result<(), Failure> {
    let status = answer.status;
    let hint = match status {
        200..=299 => return Ok(()),
        400 | 406 | 409 | 413 | 415 | 422 => {
            return Err(Failure::Data {
                reason: "refused",
                detail: format!("HTTP {status}"),
            });
        }
        401 | 403 => [
            "Mã truy cập sai, hết hạn hoặc thiếu quyền: cấp lại và ghi vào tệp; trục tự thử lại.",
            "The token is wrong, has ended or lacks a right: have it issued again and write it to its file; the hub tries again.",
        ],
        300..=399 => [
            "Dịch vụ chuyển hướng: sửa url thành địa chỉ mới.",
            "The service redirects: set url to the new address.",
        ],
        404 | 405 | 410 => [
            "Không có địa chỉ này: kiểm tra url.",
            "There is no such address: check url.",
        ],
        _ => [
            "Báo đơn vị vận hành dịch vụ; trục giữ lại và tự gửi tiếp.",
            "Tell the service's operator; the hub keeps everything and goes on by itself.",
        ],
    };
    let mut trouble = Trouble::new(
        "http_status",
        [
            format!("dịch vụ trả lời mã {status}"),
            format!("the service answers {status}"),
        ],
        hint,
    );
    trouble.pause = answer.retry_after;
    Err(trouble.into())
}

fn no_answer(error: &ureq::Error) -> Trouble {
    let kind = web::kind_of(error);
    Trouble::new(
        "connect",
        [
            format!("dịch vụ không trả lời ({kind})"),
            format!("the service gives no answer ({kind})"),
        ],
        [
            "Kiểm tra dịch vụ có chạy không, url, mạng, và tệp ca; trục giữ lại và tự gửi tiếp.",
            "Check that the service runs, url, the network, and the ca file; the hub keeps everything and goes on by itself.",
        ],
    )
}

/// A secret that stands in a header.
pub fn header_secret(file: &Path) -> Result<String, Trouble> {
    let text = secret(file)?;
    match !text.is_empty() && text.bytes().all(|b| (0x21..0x7f).contains(&b)) {
        true => Ok(text),
        false => Err(Trouble::new(
            "secret",
            [
                format!("tệp {} không chứa mã truy cập", file.display()),
                format!("{} holds no token", file.display()),
            ],
            [
                "Ghi mã vào dòng đầu của tệp, không dấu, không khoảng trắng.",
                "Write the token in the file's first line, in ASCII without spaces.",
            ],
        )),
    }
}
