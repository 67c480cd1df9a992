//! The page that a browser shows while an app's latest build is broken. The page reloads once the
//! build works. Never runs a build.

use crate::http::response_rules::ERROR_SOURCE;
use http::{HeaderValue, Response, StatusCode, header};
use isopod_engine::ResponseBody;

/// The path at which the page polls whether the build is still broken.
pub(crate) const STATUS_PATH: &str = "/.well-known/isopod/build";

/// Returns the page, with 503, so that it is neither cached nor indexed.
pub(crate) fn page(app: &str, error: &str) -> Response<ResponseBody> {
    let text = super::fill(include_str!("build_page.html"), &[("app", app), ("error", error)]);
    let mut response = super::response(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static("app"));
    response
}

/// Returns the response to the page's poll: 409 while the build is broken, otherwise 204.
pub(crate) fn status(broken: bool) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(""));
    *response.status_mut() = if broken { StatusCode::CONFLICT } else { StatusCode::NO_CONTENT };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
