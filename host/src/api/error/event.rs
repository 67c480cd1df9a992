//! The errors of requests about events, each with its problem. Never handles a request.

use axum::http::StatusCode;
use isopod_policy::ProcessName;
use isopod_store::EventState;

use crate::http::problem::{Problem, Source};

/// Why a request about an event fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    #[error("`{app}` refused the event: {message}")]
    Refused { app: String, message: String },
    #[error("`{app}` has no stored event with the id {id:?}{}", of_source(of.as_deref()))]
    /// `of` is the source that the request selects.
    Unknown { app: String, id: String, of: Option<String> },
    #[error("the event {id:?} is being delivered")]
    Running { app: String, id: String },
    #[error("the event {id:?} is {state}")]
    Ended { app: String, id: String, state: EventState },
    #[error("`{app}` could not handle the event and asks the sender to retry in {retry_after_s} s: {message}")]
    TryLater { app: String, message: String, retry_after_s: u64 },
    #[error("`{app}` has no process type {process:?} with a schedule")]
    NoSchedule { app: String, process: String },
    #[error("the app's current release lacks the process type of the selected dead letters: {}", list(processes))]
    NoProcess { app: String, processes: Vec<ProcessName> },
    #[error("the previous run of `{process}` is in progress")]
    RunInProgress { app: String, process: String },
}

/// Returns the end of a sentence about an event that a request selects by its source too.
fn of_source(source: Option<&str>) -> String {
    source.map_or_else(String::new, |source| format!(" and the source {source:?}"))
}

/// Returns the problem of the error.
pub(super) fn problem(error: &EventError, detail: String) -> Problem {
    match error {
        EventError::Refused { app, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "event-refused", "The app refused the event", detail)
                .app(app)
                .source(Source::App)
                .hint("don't retry: the app's handler refuses this event permanently")
        }
        EventError::Unknown { app, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-event", "No such event", detail).app(app).hint(
                "list the stored events with `isopod events list`; done and cancelled events are removed after a day",
            )
        }
        EventError::Running { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "event-running", "The event is being delivered", detail)
                .app(app)
                .hint("a delivery can't be cancelled; if it fails, the event can be cancelled before the next attempt")
        }
        EventError::Ended { app, state, .. } => {
            Problem::new(StatusCode::CONFLICT, "event-ended", "The event has ended", detail)
                .app(app)
                .member("state", state.as_str())
        }
        EventError::NoSchedule { app, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-schedule", "No such schedule", detail)
                .app(app)
                .hint("list the schedules with `isopod schedules`")
        }
        EventError::NoProcess { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "no-process-type", "The process type doesn't exist", detail)
                .app(app)
                .hint("deploy a release with the process type and redrive the dead letters again, or drop them")
        }
        EventError::RunInProgress { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "run-in-progress", "The previous run is in progress", detail)
                .app(app)
                .hint("run it again after the previous run has ended; `isopod ps` shows the run")
        }
        EventError::TryLater { app, retry_after_s, .. } => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "event-try-later", "The app asks to retry later", detail)
                .app(app)
                .source(Source::App)
                .retry_after(*retry_after_s)
                .hint(format!("send the event again in {retry_after_s} s: the host does not retry it"))
        }
    }
}

/// Returns names for an error text.
fn list(processes: &[ProcessName]) -> String {
    let names: Vec<String> = processes.iter().map(|process| format!("`{process}`")).collect();
    names.join(", ")
}
