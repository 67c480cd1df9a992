//! The page that people see in a browser where programs get a problem: the same words. Never decides which problem it is.

use crate::http::problem::Problem;
use http::{Response, header};
use isopod_engine::ReplyBody;
use isopod_policy::RequestId;

pub(in crate::ingress) fn page(problem: &Problem, id: RequestId) -> Response<ReplyBody> {
    let hints = problem.hints().unwrap_or_default();
    let texts = [
        ("status", problem.status.as_str()),
        ("title", problem.title),
        ("detail", &problem.detail),
        ("hint", &hints),
        ("request_id", id.as_str()),
    ];
    let mut answer = super::answer(problem.status, super::fill(include_str!("problem_page.html"), &texts));
    // A page that is to be looked at again looks again by itself.
    if let Some((_, seconds)) = problem.headers.iter().find(|(name, _)| name == header::RETRY_AFTER) {
        answer.headers_mut().insert(header::REFRESH, seconds.clone());
    }
    answer
}
