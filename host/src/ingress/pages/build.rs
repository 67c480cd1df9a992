//! The page that people see in a browser while an app's latest build is broken. It goes away by itself.

use crate::http::response_rules::ERROR_SOURCE;
use http::{HeaderValue, Response, StatusCode, header};
use isopod_engine::ReplyBody;

/// Asked by the page whether the build is still broken.
pub(crate) const STATUS_PATH: &str = "/.well-known/isopod/build";

/// The page itself. 503, so that nothing caches or indexes it.
pub(crate) fn page(app: &str, error: &str) -> Response<ReplyBody> {
    let text = super::fill(include_str!("build_page.html"), &[("app", app), ("error", error)]);
    let mut answer = super::answer(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static("app"));
    answer
}

/// The answer to the page's question: 409 while the build is broken, 204 once it is not.
pub(crate) fn status(broken: bool) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(""));
    *response.status_mut() = if broken { StatusCode::CONFLICT } else { StatusCode::NO_CONTENT };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
