//! What the HTTP API says when it does not do what was asked (RFC 9457): Vietnamese first, English
//! beside it, and always what to do.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

/// Most errors that one answer lists.
pub const ERRORS_MAX: usize = 100;

#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// `urn:lienthong:problem:<code>`, stable.
    #[serde(rename = "type")]
    kind: String,
    /// Vietnamese and English.
    title: String,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    detail: String,
    detail_en: String,
    hint: String,
    hint_en: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ErrorItem>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

/// What is wrong at one place of the body.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ErrorItem {
    /// Which file of a form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Which record of the body or of the file, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<usize>,
    /// JSON pointer to the field; in an array's body it begins with the record's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    pub detail: String,
    pub detail_en: String,
}

/// The same sentence in Vietnamese and in English.
pub type Both<'a> = [&'a str; 2];

impl Problem {
    pub fn new(
        status: StatusCode,
        code: &str,
        title: Both<'_>,
        detail: Both<'_>,
        hint: Both<'_>,
    ) -> Problem {
        Problem {
            kind: format!("urn:lienthong:problem:{code}"),
            title: title.join(" / "),
            status,
            detail: detail[0].to_owned(),
            detail_en: detail[1].to_owned(),
            hint: hint[0].to_owned(),
            hint_en: hint[1].to_owned(),
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    #[must_use]
    pub fn with_errors(mut self, errors: Vec<ErrorItem>) -> Problem {
        self.errors = errors;
        self.errors.truncate(ERRORS_MAX);
        self
    }

    /// When it may be tried again.
    #[must_use]
    pub fn again_after_s(mut self, seconds: u32) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn not_found() -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            ["Không có địa chỉ này", "There is no such address"],
            [
                "Trạm không có dịch vụ ở địa chỉ này.",
                "The box offers nothing at this address.",
            ],
            [
                "Xem mô tả ở /v1/openapi.json.",
                "Read the description at /v1/openapi.json.",
            ],
        )
    }

    pub fn method_not_allowed() -> Problem {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            ["Sai phương thức", "Wrong method"],
            [
                "Địa chỉ này không nhận phương thức đó.",
                "This address does not take that method.",
            ],
            [
                "Gửi bản ghi bằng POST; đọc trạng thái bằng GET.",
                "Send records with POST; read the status with GET.",
            ],
        )
    }

    pub fn unauthorized() -> Problem {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            [
                "Thiếu hoặc sai mã truy cập",
                "The access token is missing or wrong",
            ],
            [
                "Yêu cầu không có mã truy cập mà trạm biết.",
                "The request carries no token that the box knows.",
            ],
            [
                "Gửi tiêu đề Authorization: Bearer <mã>; mã do người quản trị trạm cấp.",
                "Send the header Authorization: Bearer <token>; the box's administrator issues it.",
            ],
        )
    }

    pub fn too_large(what: Both<'_>) -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            ["Dữ liệu quá lớn", "The data is too large"],
            what,
            [
                "Chia thành nhiều lần gửi; tệp lớn gửi dưới dạng tệp đính kèm.",
                "Send it in several parts; send large files as attachments.",
            ],
        )
    }

    pub fn unavailable(code: &str, what: Both<'_>, hint: Both<'_>, again_after_s: u32) -> Problem {
        let title = ["Tạm thời chưa nhận được", "Not available at the moment"];
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, what, hint)
            .again_after_s(again_after_s)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self).expect("a problem is plain JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"lienthong\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
