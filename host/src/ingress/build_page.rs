//! The page that people see in a browser while an app's latest build is broken. It goes away by itself.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use isopod_engine::ReplyBody;

/// Asked by the page whether the build is still broken.
pub(crate) const STATUS_PATH: &str = "/.well-known/isopod/build";

/// Whether a request comes from a person who looks at a page, and not from a program.
pub(crate) fn is_for_a_person<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && accepts_html(request.headers())
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"))
}

/// The page itself. 503, so that nothing caches or indexes it.
pub(crate) fn page(app: &str, error: &str) -> Response<ReplyBody> {
    let text = include_str!("build_page.html").replace("{{app}}", &escape(app)).replace("{{error}}", &escape(error));
    let mut response = Response::new(ReplyBody::full(text));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to the page's question: 409 while the build is broken, 204 once it is not.
pub(crate) fn status(broken: bool) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(""));
    *response.status_mut() = if broken { StatusCode::CONFLICT } else { StatusCode::NO_CONTENT };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_told_from_a_program() {
        let asks = |accept: &str| {
            let request = Request::builder().header(header::ACCEPT, accept).body(()).unwrap();
            is_for_a_person(&request)
        };
        assert!(asks("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert!(!asks("*/*"));
        assert!(!asks("application/json"));
    }

    #[test]
    fn a_compilers_words_cannot_become_markup() {
        assert_eq!(escape("Vec<u8> & \"x\""), "Vec&lt;u8&gt; &amp; &quot;x&quot;");
    }
}
