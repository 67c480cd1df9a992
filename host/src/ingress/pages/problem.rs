//! The page that a browser shows for a problem, with the same text as the JSON. Never chooses the
//! problem.

use crate::http::problem::Problem;
use http::{Response, header};
use isopod_engine::ResponseBody;
use isopod_policy::RequestId;

pub(in crate::ingress) fn page(problem: &Problem, id: RequestId) -> Response<ResponseBody> {
    let hints = problem.hints().unwrap_or_default();
    let texts = [
        ("status", problem.status.as_str()),
        ("title", problem.title),
        ("detail", &problem.detail),
        ("hint", &hints),
        ("request_id", id.as_str()),
    ];
    let mut response = super::response(problem.status, super::fill(include_str!("problem_page.html"), &texts));
    // The browser reloads the page after the problem's `Retry-After`.
    if let Some((_, seconds)) = problem.headers.iter().find(|(name, _)| name == header::RETRY_AFTER) {
        response.headers_mut().insert(header::REFRESH, seconds.clone());
    }
    response
}
