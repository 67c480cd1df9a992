//! The page that people see in a browser where programs get a problem: the same words. Never decides which problem it is.

use super::page;
use crate::problem::Problem;
use http::Response;
use isopod_engine::ReplyBody;
use isopod_policy::RequestId;

pub(super) fn page(problem: &Problem, id: RequestId) -> Response<ReplyBody> {
    let texts = [
        ("status", problem.status.as_str()),
        ("title", problem.title),
        ("detail", &problem.detail),
        ("hint", problem.hint.as_deref().unwrap_or_default()),
        ("request_id", id.as_str()),
    ];
    page::answer(problem.status, page::fill(include_str!("problem_page.html"), &texts))
}
