//! Why the API refuses a request before any handler acts. Never reads a request.

use crate::api::limits;

/// Why a request is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("invalid JSON body{}: {detail}", position(*line, *column))]
    Json { detail: String, line: usize, column: usize },
    #[error("the content type is {got}, but this route takes {wanted}")]
    ContentType { got: String, wanted: &'static str },
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("the request bodies that the API is reading use the whole budget of {} MiB",
        limits::API_BODIES_BYTES >> 20)]
    TooMany,
    #[error("the body is incomplete: {detail}")]
    Truncated { detail: String },
    #[error("the body timed out: no byte arrived for {} s, or it took longer than {} s in total",
        limits::ADMIN_BODY_IDLE.as_secs(), limits::ADMIN_BODY_TIME.as_secs())]
    TooSlow,
    #[error("invalid path: {detail}")]
    Path { detail: String },
    #[error("invalid query: {detail}")]
    Query { detail: String },
    #[error("invalid cursor for this list; send the `next` of the previous page, or leave it out")]
    Cursor,
    #[error("invalid header {name}: {detail}")]
    Header { name: &'static str, detail: String },
    #[error("invalid CloudEvent: {detail}")]
    Event { attribute: Option<String>, detail: String },
    #[error("the body is not UTF-8 text")]
    Text,
}

fn position(line: usize, column: usize) -> String {
    if line == 0 { String::new() } else { format!(" (line {line}, column {column})") }
}
