//! Maps the error of a job to its problem document: for HTTP requests of the traffic address, and
//! for events of the API. Each interface has codes of its own, which are part of its contract.
//! Never contains a guest's own output.

use axum::http::StatusCode;
use isopod_engine::{Fault, ProviderErrorKind};

use crate::{
    http::problem::{self, BUSY_DEPLOYER_HINT, BUSY_HINT, FULL_DEPLOYER_HINT, FULL_HINT, Problem, Source},
    runtime::InvokeError,
};

const LOGGED: &str = "see the app's log for details: `isopod logs`";

/// The interface by which a job arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface<'a> {
    Http,
    Event { app: &'a str },
}

/// Returns the problem for the sender of a job.
pub(crate) fn of(error: &InvokeError, interface: Interface<'_>) -> Problem {
    let problem = match error {
        InvokeError::NoProcess(_) | InvokeError::NoInstance => not_taken(error, interface),
        InvokeError::Destroyed => unavailable(error.to_string(), interface),
        InvokeError::Stopping => problem::stopping(detail(error, interface)),
        InvokeError::QueueFull(full) => {
            let title = "The app's queue is full";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue-full", title, detail(error, interface));
            problem.retry_after(full.retry_after.as_secs()).hint(BUSY_HINT).deployer_hint(BUSY_DEPLOYER_HINT)
        }
        InvokeError::QueueTimeout(late) => {
            let title = "The app was too busy";
            let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "queue-timeout", title, detail(error, interface));
            problem.retry_after(late.retry_after.as_secs()).hint(BUSY_HINT).deployer_hint(BUSY_DEPLOYER_HINT)
        }
        // Only HTTP requests have a body that streams. Its hint depends on the resource.
        InvokeError::BodyDoesNotFit { .. } => match interface {
            Interface::Http => {
                let title = "The request's body is too large";
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", title, detail(error, interface))
            }
            Interface::Event { .. } => failed("out-of-memory", error, interface),
        },
        InvokeError::Fault(fault) => fault_problem(fault, error, interface),
    };
    match interface {
        Interface::Http => problem,
        Interface::Event { app } => problem.app(app),
    }
}

/// Returns the problem of a job for an app that serves no release.
pub(crate) fn unavailable(why: impl Into<String>, interface: Interface<'_>) -> Problem {
    let (status, code, title) = (StatusCode::SERVICE_UNAVAILABLE, "app-unavailable", "The app is unavailable");
    match interface {
        Interface::Http => Problem::new(status, code, title, why),
        Interface::Event { app } => {
            Problem::new(status, code, title, format!("`{app}` is unavailable: {}", why.into()))
                .app(app)
                .retry_after(5)
                .hint("see its state with `isopod apps`, and the reason with `isopod activity`")
        }
    }
}

/// Returns the problem of a request to a release or an instance that doesn't exist.
pub(crate) fn no_such_part(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown-part", "No such release or instance", detail)
        .deployer_hint("list them with `isopod releases` and `isopod ps`")
}

/// The problem of a job that the app has no process type or instance for.
fn not_taken(error: &InvokeError, interface: Interface<'_>) -> Problem {
    match (interface, error) {
        (Interface::Event { app }, _) => {
            let detail = format!("`{app}` handles no events: {error}");
            Problem::new(StatusCode::CONFLICT, "no-events", "The app handles no events", detail)
                .hint("export isopod:app/event-handler@0.1.0; with the Rust SDK: `isopod_sdk::events!(handler)`")
        }
        (Interface::Http, InvokeError::NoInstance) => no_such_part(error.to_string()),
        (Interface::Http, _) => {
            let title = "The app takes no HTTP requests";
            Problem::new(StatusCode::NOT_FOUND, "no-http", title, error.to_string())
                .deployer_hint("list its process types with `isopod scale`; send events with `isopod events send`")
        }
    }
}

fn fault_problem(fault: &Fault, error: &InvokeError, interface: Interface<'_>) -> Problem {
    match (fault, interface) {
        (Fault::NoRoom { .. }, _) => {
            let title = "The host is full";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-room", title, detail(error, interface))
                .retry_after(1)
                .hint(FULL_HINT)
                .deployer_hint(FULL_DEPLOYER_HINT)
        }
        (Fault::Timeout { .. }, Interface::Http) => {
            app_problem(StatusCode::GATEWAY_TIMEOUT, "app-timeout", error, interface)
        }
        (Fault::Timeout { .. }, Interface::Event { .. }) => {
            app_problem(StatusCode::GATEWAY_TIMEOUT, "deadline", error, interface)
        }
        (Fault::NoSuchEntry { .. }, Interface::Event { .. }) => not_taken(error, interface),
        (Fault::Provider { provider, kind, .. }, Interface::Http) => provider_failed(provider, *kind),
        (Fault::BadRequest { .. }, Interface::Http) => {
            let title = "The request is invalid";
            Problem::new(StatusCode::BAD_REQUEST, "bad-request", title, detail(error, interface)).deployer_hint(LOGGED)
        }
        (Fault::Failed { .. }, Interface::Http) => {
            app_problem(StatusCode::INTERNAL_SERVER_ERROR, "app-failed", error, interface)
        }
        (
            Fault::Trap { .. }
            | Fault::OutOf { .. }
            | Fault::Exited { .. }
            | Fault::NoResponse
            | Fault::InvalidResponse { .. }
            | Fault::InvalidDecision { .. }
            | Fault::Failed { .. }
            | Fault::BadRequest { .. }
            | Fault::BodyLeftOpen
            | Fault::Stopped
            | Fault::ClientGone
            | Fault::Provider { .. }
            | Fault::NoSuchEntry { .. },
            _,
        ) => failed(fault.code(), error, interface),
    }
}

/// The problem of a request whose app called a provider that failed or could not be called.
fn provider_failed(provider: &str, kind: ProviderErrorKind) -> Problem {
    let (code, title, what) = match kind {
        ProviderErrorKind::Busy => ("plugin-busy", "A plugin of the app is busy", "has no free instance for the app"),
        ProviderErrorKind::Unavailable => ("plugin-unavailable", "A plugin of the app is not serving", "isn't serving"),
        ProviderErrorKind::Missing => {
            ("plugin-failed", "A plugin of the app failed", "isn't installed in an accepted version")
        }
        ProviderErrorKind::Failed => ("plugin-failed", "A plugin of the app failed", "failed"),
    };
    let detail = format!("the plugin `{provider}`, which the app calls, {what}");
    let problem = match kind {
        ProviderErrorKind::Busy | ProviderErrorKind::Unavailable => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail).retry_after(1)
        }
        ProviderErrorKind::Missing | ProviderErrorKind::Failed => {
            Problem::new(StatusCode::BAD_GATEWAY, code, title, detail)
        }
    };
    let hint = match kind {
        ProviderErrorKind::Missing => "install it with `isopod plugins install`".to_owned(),
        _ => format!("see its log for details: `isopod logs --app {provider}`"),
    };
    problem.member("plugin", provider.to_owned()).deployer_hint(hint)
}

/// The problem of a job that the app's own code failed to complete.
fn failed(fault: &'static str, error: &InvokeError, interface: Interface<'_>) -> Problem {
    match interface {
        Interface::Http => app_problem(StatusCode::BAD_GATEWAY, "app-failed", error, interface),
        Interface::Event { .. } => {
            app_problem(StatusCode::BAD_GATEWAY, "guest-failed", error, interface).member("fault", fault)
        }
    }
}

fn app_problem(status: StatusCode, code: &'static str, error: &InvokeError, interface: Interface<'_>) -> Problem {
    let title = match error {
        InvokeError::Fault(Fault::Timeout { .. }) => "The app timed out",
        _ => "The app failed",
    };
    let problem = Problem::new(status, code, title, detail(error, interface)).source(Source::App);
    match interface {
        Interface::Http => {
            problem.hint("if this happens again, report the request id to the app's owner").deployer_hint(LOGGED)
        }
        Interface::Event { .. } => problem.hint(LOGGED),
    }
}

/// Describes the error. A visitor of an app doesn't see what its code said.
fn detail(error: &InvokeError, interface: Interface<'_>) -> String {
    let Interface::Event { app } = interface else {
        return match error {
            InvokeError::Fault(Fault::NoRoom { .. }) => {
                "the host currently has no slot or memory for another instance".to_owned()
            }
            InvokeError::Fault(Fault::BadRequest { detail }) => detail.clone(),
            InvokeError::Fault(Fault::Failed { .. }) => "the app's handler returned an error".to_owned(),
            InvokeError::Fault(fault @ Fault::Timeout { .. }) => fault.to_string(),
            InvokeError::Fault(fault) => format!("the app failed before it responded ({})", fault.code()),
            other => other.to_string(),
        };
    };
    match error {
        InvokeError::Stopping => format!("the event was not delivered to `{app}`: {error}"),
        InvokeError::QueueFull(_) => format!("the queue of `{app}` is full: {error}"),
        InvokeError::QueueTimeout(_) => format!("`{app}` was too busy for the event: {error}"),
        InvokeError::Fault(Fault::Timeout { .. }) => format!("`{app}` timed out: {error}"),
        InvokeError::Fault(Fault::NoRoom { .. }) => format!("`{app}` can't start an instance for the event: {error}"),
        InvokeError::NoProcess(_)
        | InvokeError::NoInstance
        | InvokeError::Destroyed
        | InvokeError::BodyDoesNotFit { .. }
        | InvokeError::Fault(_) => format!("`{app}` failed while it handled the event: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn trap() -> Fault {
        let secret = || "secret".to_owned();
        Fault::Trap { message: secret(), output: secret(), backtrace: [secret()].into_iter().collect() }
    }

    /// Both interfaces give each error one problem. The codes are part of the contract.
    #[test]
    fn each_error_has_a_code_for_requests_and_one_for_events() {
        let limit = Duration::from_secs(1);
        let table: [(InvokeError, &str, &str); 7] = [
            (InvokeError::NoProcess("events"), "404 no-http", "409 no-events"),
            (InvokeError::NoInstance, "404 unknown-part", "409 no-events"),
            (InvokeError::Destroyed, "503 app-unavailable", "503 app-unavailable"),
            (InvokeError::Stopping, "503 stopping", "503 stopping"),
            (trap().into(), "502 app-failed", "502 guest-failed"),
            (Fault::Timeout { limit }.into(), "504 app-timeout", "504 deadline"),
            (Fault::NoResponse.into(), "502 app-failed", "502 guest-failed"),
        ];
        for (error, http, event) in table {
            let code = |interface| {
                let problem = of(&error, interface);
                format!("{} {}", problem.status.as_u16(), problem.code)
            };
            assert_eq!(
                (code(Interface::Http).as_str(), code(Interface::Event { app: "shop" }).as_str()),
                (http, event)
            );
        }
    }

    #[test]
    fn a_visitor_does_not_see_what_the_app_said() {
        let problem = of(&trap().into(), Interface::Http);
        assert!(!problem.detail.contains("secret"), "{}", problem.detail);
    }
}
