//! Responses to requests with an invalid or incomplete head. hyper responds to them itself, without
//! a body and before it calls a service. The connection replaces hyper's response by one from this
//! module, with a request id and a problem. Never reads a request.

use crate::{
    http::limits,
    http::problem::Problem,
    http::response_rules::{ERROR_SOURCE, REQUEST_ID},
};
use http::{StatusCode, header};
use isopod_policy::RequestId;

/// Returns the response that replaces hyper's own, given the head that hyper writes. Returns `None`
/// if that head isn't a refusal.
pub(super) fn instead_of(head: &[u8]) -> Option<Vec<u8>> {
    let end = head.windows(4).position(|part| part == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(&head[..end]).ok()?.split("\r\n");
    let status_line = lines.next().filter(|line| line.starts_with("HTTP/1."))?;
    let status = status_line.split(' ').nth(1)?.parse().ok().filter(StatusCode::is_client_error)?;
    let date = lines.find(|line| line.starts_with("date: "));
    let problem = problem(status);
    let id = RequestId::from_random(rand::random());
    tracing::debug!(%status, request_id = %id, "a request's head was refused");
    let body = problem.json(id.as_str()).to_string();
    let mut response = format!("{status_line}\r\n");
    let length = body.len().to_string();
    let fields = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::CONTENT_LENGTH, &length),
        (header::CONNECTION, "close"),
        (REQUEST_ID, id.as_str()),
        (ERROR_SOURCE, "host"),
    ];
    for (name, value) in fields {
        response.push_str(&format!("{name}: {value}\r\n"));
    }
    response.extend(date.map(|date| format!("{date}\r\n")));
    response.push_str("\r\n");
    response.push_str(&body);
    Some(response.into_bytes())
}

fn problem(status: StatusCode) -> Problem {
    let (code, title, detail) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "head-too-large",
            "The request's head is too large",
            format!(
                "the limits are {} KiB with the target, {} fields, and a content-length below 2^64 - 2",
                limits::HEAD_BYTES >> 10,
                limits::HEAD_FIELDS
            ),
        ),
        StatusCode::REQUEST_TIMEOUT => (
            "head-too-slow",
            "The request's head arrived too slowly",
            "the complete head did not arrive before its timeout".to_owned(),
        ),
        _ => (
            "bad-head",
            "The request's head is invalid",
            "the request line, a field or the length of the body is not valid HTTP/1.1".to_owned(),
        ),
    };
    Problem::new(status, code, title, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(head: &str) -> Option<String> {
        instead_of(head.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("it is text"))
    }

    #[test]
    fn a_refusal_has_a_request_id_and_a_problem() {
        for (status, code) in
            [("400 Bad Request", "bad-head"), ("431 Request Header Fields Too Large", "head-too-large")]
        {
            let hypers = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n");
            let ours = refusal(&hypers).expect("it is a refusal");
            let (head, body) = ours.split_once("\r\n\r\n").expect("it has a head");
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            assert!(head.contains("\r\ndate: now") && head.contains("\r\nconnection: close\r\n"), "{head}");
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
            assert_eq!(head.matches("content-length").count(), 1, "{head}");
            let problem: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
            assert_eq!(problem["type"], format!("urn:isopod:problem:{code}"));
            let id = problem["request_id"].as_str().expect("it has an id");
            assert!(head.contains(&format!("\r\nx-request-id: {id}\r\n")), "{head}");
        }
    }

    #[test]
    fn other_responses_are_not_replaced() {
        for head in
            ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 400 Bad", "", "5\r\nhello\r\n"]
        {
            assert_eq!(refusal(head), None, "{head}");
        }
    }
}
