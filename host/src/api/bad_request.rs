//! Why the API refuses a request before any handler acts. Never reads a request.

use crate::api::{limits, token_end::EndedBy};

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
    #[error("the request bodies that the API is reading for the token `{token}` use its whole budget of {} MiB",
        limits::API_BODIES_BYTES_PER_TOKEN >> 20)]
    TooManyOfToken { token: String },
    #[error("the token {} while the body was being received", ended(*.0))]
    TokenEnded(EndedBy),
    #[error("the body is incomplete: {detail}")]
    Truncated { detail: String },
    #[error("the body timed out: each {} KiB, and the rest, must arrive within {} s, and the whole body within {} s",
        limits::ADMIN_BODY_PART_BYTES >> 10, limits::ADMIN_BODY_PART_TIME.as_secs(),
        limits::ADMIN_BODY_TIME.as_secs())]
    TooSlow,
    #[error("invalid path: {detail}")]
    Path { detail: String },
    #[error("invalid query: {detail}")]
    Query { detail: String },
    #[error("invalid cursor for this list; send the `next` of the previous page, or leave it out")]
    Cursor,
    #[error("invalid header {name}: {detail}")]
    Header { name: &'static str, detail: String },
    #[error("invalid CloudEvent{}: {detail}", in_request(*position))]
    Event { position: Option<EventPosition>, attribute: Option<String>, detail: String },
    #[error("the body is not UTF-8 text")]
    Text,
}

impl BadRequest {
    /// Adds the position of the event that an error is about. JSON that is invalid makes an invalid
    /// event, since the other events of the request may be valid.
    pub(crate) fn at(self, position: EventPosition) -> Self {
        match self {
            Self::Event { attribute, detail, .. } => Self::Event { position: Some(position), attribute, detail },
            Self::Json { detail, column, .. } => {
                let detail = format!("invalid JSON (column {column}): {detail}");
                Self::Event { position: Some(position), attribute: None, detail }
            }
            other => other,
        }
    }
}

/// The position of an event in a request with several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventPosition {
    /// The line of the body, counted from 1.
    Line(u64),
    /// The index in the batch, counted from 0.
    Index(usize),
}

fn in_request(position: Option<EventPosition>) -> String {
    match position {
        Some(EventPosition::Line(number)) => format!(" on line {number}"),
        Some(EventPosition::Index(index)) => format!(" at index {index}"),
        None => String::new(),
    }
}

fn ended(by: EndedBy) -> &'static str {
    match by {
        EndedBy::Revocation => "was revoked",
        EndedBy::Expiry => "expired",
    }
}

fn position(line: usize, column: usize) -> String {
    if line == 0 { String::new() } else { format!(" (line {line}, column {column})") }
}
