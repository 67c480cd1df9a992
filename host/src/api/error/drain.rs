//! The errors of requests about log drains, each with its problem. Never handles a request.

use axum::http::StatusCode;

use crate::{control::drains::DrainError, http::problem::Problem};

/// Returns the problem of the error.
pub(super) fn problem(error: &DrainError, detail: String) -> Problem {
    match error {
        DrainError::Endpoint { app, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-endpoint", "Invalid endpoint", detail)
                .app(app)
                .hint("write it as https://logs.example.org/in, otlp+https://… or syslog+tls://logs.example.org:6514")
        }
        DrainError::TooManyOfApp { app } => {
            Problem::new(StatusCode::CONFLICT, "too-many-drains", "Too many drains", detail)
                .app(app)
                .hint("remove one with `isopod drains remove ID`")
        }
        DrainError::TooManyOfToken { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "too-many-drains", "Too many drains", detail)
                .app(app)
                .hint("remove some of them, or let an administrator add this one")
        }
        DrainError::TooMany => Problem::new(StatusCode::CONFLICT, "too-many-drains", "Too many drains", detail),
        DrainError::Unknown { app, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-drain", "No such drain", detail)
                .app(app)
                .hint("list the drains with `isopod drains`")
        }
    }
}
