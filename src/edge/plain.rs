//! Plain HTTP where HTTPS is spoken: a person is led to the right address, a program is told.

use std::convert::Infallible;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::net::TcpStream;

/// First byte of a TLS record with a handshake.
const HANDSHAKE: u8 = 0x16;
const HOST_CHARS_MAX: usize = 260;

/// Whether the other side begins with something that may be HTTP; waits for its first byte.
pub async fn is_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    // What has gone wrong shows at the next step.
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0] != HANDSHAKE && first[0].is_ascii()
}

/// Only what is looked at is led on: a token that travels in the clear must be noticed.
pub async fn answer<B: HttpBody>(request: Request<B>) -> Result<Response<Body>, Infallible> {
    let is_look = request.method() == Method::GET || request.method() == Method::HEAD;
    let is_secret = request.headers().contains_key(header::AUTHORIZATION);
    let place = (is_look && !is_secret).then(|| secure(&request)).flatten();
    let text = match is_secret {
        false => {
            "Cổng này dùng HTTPS: gõ https:// ở đầu địa chỉ.\n\
             This port speaks HTTPS: begin the address with https://.\n"
        }
        true => {
            "Cổng này dùng HTTPS: sửa địa chỉ thành https://. Mã truy cập vừa đi trần trên mạng, hãy đổi mã khác.\n\
             This port speaks HTTPS: change the address to https://. The token has just travelled in the clear; replace it.\n"
        }
    };
    if is_secret {
        tracing::warn!(
            "a program has sent its token in the clear; it must use https:// and a new token"
        );
    }
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Some(place) = place {
        headers.insert(header::LOCATION, place);
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    }
    Ok(response)
}

/// The same place by HTTPS.
fn secure<B>(request: &Request<B>) -> Option<HeaderValue> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if host.is_empty() || HOST_CHARS_MAX < host.len() || !host.bytes().all(is_host) {
        return None;
    }
    let path = request.uri().path_and_query()?.as_str();
    HeaderValue::from_str(&format!("https://{host}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(method: &str, host: &str, path: &str, token: bool) -> Response<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host);
        if token {
            request = request.header("authorization", "Bearer x");
        }
        answer(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn people_are_led_on_and_programs_are_told() {
        let led = asked("GET", "xa-tan-bien.local:8480", "/ky-thuat?lang=en", false).await;
        assert_eq!(led.status(), StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(
            led.headers()["location"],
            "https://xa-tan-bien.local:8480/ky-thuat?lang=en"
        );
        for (method, host, token) in [
            ("POST", "a", false),
            ("GET", "a", true),
            ("GET", "a b", false),
            ("GET", "", false),
            ("GET", "a/../b", false),
        ] {
            let told = asked(method, host, "/", token).await;
            assert_eq!(told.status(), StatusCode::BAD_REQUEST, "{method} {host}");
            assert!(!told.headers().contains_key("location"));
        }
    }
}
