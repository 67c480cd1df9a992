//! Why a request doesn't get its app's response: the problem for the client, and the name of the
//! fault for the log and the metrics. Never sends a response.

use crate::{
    http::problem::{self, Problem},
    invoke_problem::{self, Interface},
    runtime::{
        ActiveRelease, AssetBudgetExceeded, AssetFailure, BodyBudgetExceeded, InvokeError, PluginFailureReason,
        UnreadableBody,
        middleware::{BrokenResponse, PluginFailure},
    },
};
use http::{HeaderValue, StatusCode, header};
use isopod_engine::{BadBody, BodyError, Fault, Resource};
use isopod_policy::{BodyLimit, Entry, InstanceId, RequestId};

/// The problem for the client, and the name of the fault for the log and the metrics.
pub(super) type Failed = (Problem, Option<&'static str>);

/// The fault of a client whose body can't be read, as [`Fault::BadRequest`].
const BAD_REQUEST: &str = "bad-request";

/// Returns the problem for the client, without the guest's own output, which is only in the app's
/// log.
pub(super) fn explain(refused: &InvokeError) -> Failed {
    let fault = match refused {
        InvokeError::BodyDoesNotFit { what, .. } => return does_not_fit(*what, refused.to_string()),
        InvokeError::QueueFull(_) => Some("queue-full"),
        InvokeError::QueueTimeout(_) => Some("queue-timeout"),
        InvokeError::Fault(fault) => Some(fault.code()),
        InvokeError::NoProcess(_) | InvokeError::NoInstance | InvokeError::Destroyed | InvokeError::Stopping => None,
    };
    (invoke_problem::of(refused, Interface::Http), fault)
}

/// Adds the guest's own message, which only responses of `dev` apps show.
pub(super) fn with_guest_output(problem: Problem, running: &ActiveRelease, fault: &Fault, id: RequestId) -> Problem {
    with_output(problem, fault, running.program().sandbox().output.last_output(id.as_str()))
}

fn with_output(mut problem: Problem, fault: &Fault, output: Option<String>) -> Problem {
    problem.detail = format!("{}: {fault}", problem.detail);
    if let Some(output) = output {
        problem.detail = format!("{}\n{output}", problem.detail);
    }
    problem
}

/// Returns the problem of a request to an instance of a process type that takes no HTTP requests.
pub(super) fn not_http(running: &ActiveRelease, instance: &InstanceId) -> Option<Problem> {
    let process = instance.process();
    let (does, hint) = match running.entry_of(&process)? {
        Entry::Http => return None,
        Entry::Events => ("handles events", "send an event with `isopod events send`"),
        Entry::Command => ("runs a command", "see its output with `isopod logs`"),
        Entry::Provider => ("is a plugin", "grant its interfaces to an app in its manifest, under [grants]"),
        Entry::Hook => ("is a hook", "see its events with `isopod events`"),
        Entry::Gate => ("is a plugin", "name the plugin in the host's settings, under [[gates]]"),
        Entry::Middleware => ("is a plugin", "name the plugin in the manifest of an app, under [[middleware]]"),
    };
    let detail = format!("`{instance}` is an instance of `{process}`, which {does} and takes no HTTP requests");
    let title = "The process type takes no HTTP requests";
    Some(Problem::new(StatusCode::NOT_FOUND, "no-http", title, detail).deployer_hint(hint))
}

/// Returns the problem of a request that ended because a plugin failed. Responses of `dev` apps
/// contain the plugin's error text.
pub(super) fn plugin_failed(failure: &PluginFailure, is_dev: bool) -> Failed {
    let (plugin, reason) = (&failure.plugin, &failure.reason);
    let (status, code, title) = match reason {
        PluginFailureReason::Invoke(InvokeError::Stopping) => {
            return (problem::stopping("the host is stopping: the request was not started"), None);
        }
        PluginFailureReason::AppDestroyed => return explain(&InvokeError::Destroyed),
        PluginFailureReason::Busy | PluginFailureReason::TooManyBodies(_) | PluginFailureReason::NoRoomForResponse => {
            (StatusCode::SERVICE_UNAVAILABLE, "plugin-busy", "A plugin of the app is busy")
        }
        PluginFailureReason::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "plugin-unavailable", "A plugin of the app is not serving")
        }
        PluginFailureReason::Missing
        | PluginFailureReason::Version(_)
        | PluginFailureReason::Invoke(_)
        | PluginFailureReason::UnknownAsset(_)
        | PluginFailureReason::NewBodyTooLarge { .. }
        | PluginFailureReason::ReplacedBodyTooLarge { .. }
        | PluginFailureReason::ResponseTooLarge { .. }
        | PluginFailureReason::ResponseTooSlow => {
            (StatusCode::BAD_GATEWAY, "plugin-failed", "A plugin of the app failed")
        }
    };
    let detail = match reason {
        PluginFailureReason::Invoke(InvokeError::Fault(fault)) if !is_dev => {
            format!("the plugin `{plugin}`, which handles the app's requests first, failed ({})", fault.code())
        }
        reason => format!("the plugin `{plugin}`, which handles the app's requests first, failed: {reason}"),
    };
    let hint = match reason {
        PluginFailureReason::Missing => {
            "install it with `isopod plugins install`, or remove it from isopod.toml".to_owned()
        }
        PluginFailureReason::Version(_) => {
            "install a version within the range, or change the range in isopod.toml and deploy".to_owned()
        }
        reason if reason.is_outside_call() => "the app's log lists these failures: `isopod logs`".to_owned(),
        _ => format!("see its log for details: `isopod logs --app {plugin}`"),
    };
    let problem = Problem::new(status, code, title, detail).member("plugin", plugin.to_string()).deployer_hint(hint);
    let problem = if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(1) } else { problem };
    (problem, Some(code))
}

/// Returns the problem of a request for a static file that the host can't send.
pub(super) fn assets_failed(failure: &AssetFailure) -> Failed {
    let (status, code, title) = match failure {
        AssetFailure::Unreadable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "disk", "The disk failed"),
        AssetFailure::TooMany(exceeded) => {
            let status = match exceeded {
                AssetBudgetExceeded::Client | AssetBudgetExceeded::ClientOfAll => StatusCode::TOO_MANY_REQUESTS,
                AssetBudgetExceeded::App | AssetBudgetExceeded::Host => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, "too-many-files", "Too many concurrent responses with files")
        }
    };
    let problem = Problem::new(status, code, title, failure.to_string());
    let problem = match failure {
        AssetFailure::Unreadable(_) => {
            problem.deployer_hint("see the host's log; if the file is lost, deploy the app again")
        }
        AssetFailure::TooMany(_) => problem
            .retry_after(crate::http::limits::BODIES_RETRY_AFTER.as_secs())
            .hint("retry the request, and request fewer files at a time"),
    };
    (problem, Some(code))
}

/// Returns the problem of a request whose body can't be received.
pub(super) fn unreadable(body: UnreadableBody) -> Failed {
    match body {
        UnreadableBody::TooLarge(limit) => too_large(limit),
        UnreadableBody::TooLargeForPlugin { plugin, bytes_max } => {
            let detail = format!(
                "the plugin `{plugin}`, which reads request bodies before the app does, accepts at most {bytes_max} \
                 bytes"
            );
            let hint = "raise the plugin's limit in its config, if it has one";
            (too_large_problem(detail).deployer_hint(hint), Some(BAD_REQUEST))
        }
        UnreadableBody::TooSlow { seconds } => too_slow(format!("a body of this size must arrive within {seconds} s")),
        UnreadableBody::Broken(detail) => broken(detail),
        UnreadableBody::TooMany(bodies) => too_many(bodies),
    }
}

/// Returns the problem of a request whose response can't be read to its end for a plugin.
pub(super) fn response_broken(BrokenResponse { error, limit, is_dev, output }: BrokenResponse) -> Failed {
    match error {
        BodyError::Response(fault) => {
            let (problem, code) = explain(&InvokeError::Fault(fault.clone()));
            // The error text of a handler appears only in the log.
            let shows_fault = is_dev && !matches!(fault, Fault::Failed { .. });
            (if shows_fault { with_output(problem, &fault, output) } else { problem }, code)
        }
        // The client caused the failure.
        BodyError::BadRequest(BadBody::TooLarge) => too_large(limit),
        BodyError::BadRequest(BadBody::TooSlow) => too_slow("the rest of the body did not arrive in time".to_owned()),
        BodyError::BadRequest(BadBody::Broken { detail }) => broken(detail),
        BodyError::File(error) => assets_failed(&AssetFailure::Unreadable(error)),
        error => explain(&InvokeError::Fault(Fault::InvalidResponse { detail: error.to_string() })),
    }
}

pub(super) fn too_many(bodies: BodyBudgetExceeded) -> Failed {
    let (status, hint) = match bodies {
        BodyBudgetExceeded::Client => {
            (StatusCode::TOO_MANY_REQUESTS, "retry the request, with fewer bodies at a time, or send them faster")
        }
        BodyBudgetExceeded::App => {
            (StatusCode::TOO_MANY_REQUESTS, "slow clients use most of the budget: retry, with fewer requests at a time")
        }
        BodyBudgetExceeded::Host => {
            (StatusCode::SERVICE_UNAVAILABLE, "retry the request; requests without a body are still served")
        }
    };
    let problem = Problem::new(status, "too-many-bodies", "Too many concurrent request bodies", bodies.to_string());
    (problem.retry_after(crate::http::limits::BODIES_RETRY_AFTER.as_secs()).hint(hint), Some("too-many-bodies"))
}

pub(super) fn too_large(BodyLimit { bytes, by_memory }: BodyLimit) -> Failed {
    let problem = too_large_problem(format!("the app accepts bodies of at most {bytes} bytes"));
    let hint = if by_memory {
        "the app buffers whole bodies, in at most a quarter of its memory: raise memory under [limits] in isopod.toml, \
         or stream bodies, in Rust with isopod_sdk::http_streaming!"
    } else {
        "raise request_body under [limits] in isopod.toml"
    };
    (problem.deployer_hint(hint), Some(BAD_REQUEST))
}

/// Returns the failure of a guest that ran out of `what` because of the body's size.
fn does_not_fit(what: Resource, detail: String) -> Failed {
    let hint = match what {
        Resource::Memory => "raise memory under [limits] in isopod.toml, or stream bodies",
        Resource::Handles => {
            "send a smaller body, or read it in larger parts: the guest held too many handles at one time"
        }
        Resource::HostMemory | Resource::CallArguments | Resource::TableSpace | Resource::HeaderFields => {
            "send a smaller body, or pass less data in one host call"
        }
    };
    (too_large_problem(detail).deployer_hint(hint), Some("out-of-memory"))
}

fn too_large_problem(detail: String) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request's body is too large", detail)
}

pub(super) fn too_slow(detail: String) -> Failed {
    let title = "The request's body arrived too slowly";
    (closing(Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", title, detail)), Some(BAD_REQUEST))
}

pub(super) fn broken(detail: String) -> Failed {
    let title = "The request's body is incomplete";
    (closing(Problem::new(StatusCode::BAD_REQUEST, "body-broken", title, detail)), Some(BAD_REQUEST))
}

/// Closes the connection after the response: the host can't find the end of the body, and so not
/// the start of the next request.
fn closing(problem: Problem) -> Problem {
    problem.header(header::CONNECTION, HeaderValue::from_static("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_cannot_be_read_is_a_bad_request() {
        let limit = BodyLimit { bytes: 1, by_memory: false };
        let code = Fault::BadRequest { detail: String::new() }.code();
        for (_, fault) in [too_large(limit), too_slow(String::new()), broken(String::new())] {
            assert_eq!(fault, Some(code));
        }
    }

    fn broken_response(error: BodyError, is_dev: bool) -> (u16, String, bool) {
        let limit = BodyLimit { bytes: 7, by_memory: false };
        let output = is_dev.then(|| "thread panicked".to_owned());
        let (problem, _) = response_broken(BrokenResponse { error, limit, is_dev, output });
        let closes = problem.headers.iter().any(|(name, _)| *name == header::CONNECTION);
        (problem.status.as_u16(), problem.detail, closes)
    }

    #[test]
    fn a_clients_body_that_breaks_a_response_is_reported_as_without_middleware() {
        let broken = |bad| broken_response(BodyError::BadRequest(bad), false);
        let (status, detail, closes) = broken(BadBody::TooLarge);
        assert!((status, closes) == (413, false) && detail.contains("at most 7 bytes"), "{detail}");
        assert!(matches!(broken(BadBody::TooSlow), (408, _, true)));
        let (status, detail, closes) = broken(BadBody::Broken { detail: "reset by the client".to_owned() });
        assert!((status, closes) == (400, true) && detail == "reset by the client", "{detail}");
    }

    #[test]
    fn only_a_dev_app_shows_the_output_of_a_guest_that_broke_its_response() {
        let trap = || BodyError::Response(Fault::NoResponse);
        assert!(broken_response(trap(), true).1.contains("thread panicked"));
        assert!(!broken_response(trap(), false).1.contains("panicked"));
        let failed = BodyError::Response(Fault::Failed { message: "the secret is 42".to_owned() });
        let (_, detail, _) = broken_response(failed, true);
        assert!(!detail.contains("42") && !detail.contains("panicked"), "{detail}");
    }

    #[test]
    fn a_request_to_an_app_whose_plugin_is_starting_can_be_repeated() {
        let status = |reason| {
            let failure = PluginFailure { plugin: "cors".parse().expect("a valid name"), reason };
            let (problem, fault) = plugin_failed(&failure, false);
            let retries = problem.headers.iter().any(|(name, _)| *name == header::RETRY_AFTER);
            (problem.status.as_u16(), fault, retries)
        };
        let starting = PluginFailureReason::Unavailable("it is starting".to_owned());
        assert_eq!(status(starting), (503, Some("plugin-unavailable"), true));
        let old = PluginFailureReason::Version("1.0.0".parse().expect("a valid version"));
        for unfit in [PluginFailureReason::Missing, old] {
            assert_eq!(status(unfit), (502, Some("plugin-failed"), false));
        }
    }

    #[test]
    fn the_hint_about_a_body_that_does_not_fit_names_what_the_guest_ran_out_of() {
        let hint = |what| does_not_fit(what, String::new()).0.hints().unwrap_or_default();
        assert!(hint(Resource::Memory).contains("raise memory"));
        let handles = hint(Resource::Handles);
        assert!(handles.contains("handles") && handles.contains("smaller body"), "{handles}");
        assert!(!handles.contains("memory"), "{handles}");
    }
}
