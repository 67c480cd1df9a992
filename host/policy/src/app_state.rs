//! An app's type and state. Owns the state transition table. Never starts or stops an app: the
//! app's task consults the table first and then acts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Refused;

/// A word that isn't accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {given:?}: expected {expected}")]
pub struct UnknownWord {
    /// The kind of word, such as "app type".
    pub what: &'static str,
    /// The word, shortened if it is very long.
    pub given: String,
    /// The accepted words.
    pub expected: &'static str,
}

/// The type of an app: how its code is deployed, and whether it scales automatically.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AppType {
    /// Code is hot-reloaded into the running app; no automatic scaling.
    #[default]
    Dev,
    /// A change requires a new immutable release; no automatic scaling.
    Staging,
    /// A change requires a new immutable release; scales automatically, with at least one warm
    /// instance.
    Production,
}

impl AppType {
    /// Every type, in the order in which code usually moves through them.
    pub const ALL: [Self; 3] = [Self::Dev, Self::Staging, Self::Production];

    /// Returns the type's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl fmt::Display for AppType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AppType {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "app type",
            given: text.chars().take(80).collect(),
            expected: "\"dev\", \"staging\" or \"production\"",
        })
    }
}

/// Why an app is in the state `error`. A guest's own trap isn't a cause: it is counted and logged
/// instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCause {
    /// The internal health check failed.
    HealthCheck,
    /// The component was built with an SDK that is older than this host supports.
    SdkTooOld,
    /// The code couldn't be loaded.
    LoadFailed,
}

impl ErrorCause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::HealthCheck, Self::SdkTooOld, Self::LoadFailed];

    /// Returns the cause as a stable word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HealthCheck => "health-check",
            Self::SdkTooOld => "sdk-too-old",
            Self::LoadFailed => "load-failed",
        }
    }
}

impl fmt::Display for ErrorCause {
    /// Writes a sentence for people, with what to do next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HealthCheck => "the internal health check failed; see the app's log for the reason",
            Self::SdkTooOld => "built with an SDK older than this host supports; rebuild it with a newer isopod-sdk",
            Self::LoadFailed => "the code could not be loaded; deploy the bundle again",
        })
    }
}

/// The state of an app.
///
/// ```text
///                 deploy begins (from every state but deploying)
///             ┌────────────────────────────────────────────┐
///             │                                            ▼
///        stopped ──start──▶ starting ──serving──▶ running  deploying ──serving──▶ running
///           ▲                 ▲   │                  │         │
///           │                 │   └──────────────────┼─────────┘
///           │           start │                      │ failed(cause)
///           │                 │                      ▼
///           │                 └────────────────── error(cause) ──serving──▶ running
///           │
///           └── stop (from every state but stopped)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppState {
    /// Nothing runs and traffic is refused.
    Stopped,
    /// The current release is being loaded.
    Starting,
    /// A new release is being deployed; the previous release, if any, keeps the traffic.
    Deploying,
    /// The app serves traffic.
    Running,
    /// The app can't serve, for a reason outside the guest's own code.
    Error(ErrorCause),
}

/// An event in an app's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppEvent {
    /// A start was requested.
    Start,
    /// A stop was requested; accepted work has been finished or stored.
    Stop,
    /// A push starts to deploy a new release.
    DeployBegins,
    /// A release, new or previous, takes traffic.
    Serving,
    /// No release can take traffic.
    Failed(ErrorCause),
}

impl AppEvent {
    /// One event of each kind; `Failed` represents all causes.
    pub const KINDS: [Self; 5] =
        [Self::Start, Self::Stop, Self::DeployBegins, Self::Serving, Self::Failed(ErrorCause::HealthCheck)];

    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::DeployBegins => "deploy",
            Self::Serving => "serve",
            Self::Failed(_) => "fail",
        }
    }
}

impl AppState {
    /// One state of each kind; `Error` represents all causes.
    pub const KINDS: [Self; 5] =
        [Self::Stopped, Self::Starting, Self::Deploying, Self::Running, Self::Error(ErrorCause::HealthCheck)];

    /// Returns the state after `event`, or why the event is refused.
    pub fn step(self, event: AppEvent) -> Result<Self, Refused> {
        use AppEvent as E;
        let refused = |why| Err(Refused { state: self.as_str(), event: event.verb(), why });
        match (self, event) {
            (Self::Stopped, E::Start) => Ok(Self::Starting),
            (Self::Stopped, E::Stop) => refused("the app is already stopped"),
            (Self::Stopped, E::DeployBegins) => Ok(Self::Deploying),
            (Self::Stopped, E::Serving | E::Failed(_)) => refused("a stopped app runs nothing; start it first"),

            (Self::Starting, E::Start) => refused("the app is already starting"),
            (Self::Starting, E::DeployBegins) => Ok(Self::Deploying),

            (Self::Deploying, E::Start) => refused("the app starts when the push in progress completes"),
            (Self::Deploying, E::DeployBegins) => {
                refused("another push is being deployed; the next one starts after it")
            }

            (Self::Running, E::Start) => refused("the app is already running"),
            (Self::Running, E::DeployBegins) => Ok(Self::Deploying),

            (Self::Error(_), E::Start) => Ok(Self::Starting),
            (Self::Error(_), E::DeployBegins) => Ok(Self::Deploying),

            (Self::Starting | Self::Deploying | Self::Running | Self::Error(_), E::Stop) => Ok(Self::Stopped),
            (Self::Starting | Self::Deploying | Self::Running | Self::Error(_), E::Serving) => Ok(Self::Running),
            (Self::Starting | Self::Deploying | Self::Running | Self::Error(_), E::Failed(cause)) => {
                Ok(Self::Error(cause))
            }
        }
    }

    /// Returns the state's name, without the cause of an error.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Deploying => "deploying",
            Self::Running => "running",
            Self::Error(_) => "error",
        }
    }

    /// Returns the cause, if the state is `error`.
    pub fn cause(self) -> Option<ErrorCause> {
        match self {
            Self::Error(cause) => Some(cause),
            Self::Stopped | Self::Starting | Self::Deploying | Self::Running => None,
        }
    }
}

impl fmt::Display for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for AppState {
    /// Writes only the name; the cause is in the app's field `error`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: rows are states, columns the events of `AppEvent::KINDS`.
    const TABLE: &str = "\
              start     stop     deploy     serve    fail
    stopped   starting  -        deploying  -        -
    starting  -         stopped  deploying  running  error
    deploying -         stopped  -          running  error
    running   -         stopped  deploying  running  error
    error     starting  stopped  deploying  running  error";

    #[test]
    fn every_pair_of_state_and_event_matches_the_table() {
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().expect("the table has a head").split_whitespace().collect();
        let verbs: Vec<&str> = AppEvent::KINDS.iter().map(|event| event.verb()).collect();
        assert_eq!(columns, verbs);
        for (state, line) in AppState::KINDS.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], state.as_str());
            for (event, expected) in AppEvent::KINDS.into_iter().zip(&cells[1..]) {
                let found = state.step(event).map_or("-", AppState::as_str);
                assert_eq!(found, *expected, "{state} + {}", event.verb());
            }
        }
    }

    #[test]
    fn the_state_error_keeps_the_cause() {
        for cause in ErrorCause::ALL {
            assert_eq!(AppState::Running.step(AppEvent::Failed(cause)), Ok(AppState::Error(cause)));
            assert_eq!(AppState::Error(cause).cause(), Some(cause));
        }
    }

    #[test]
    fn a_refusal_names_the_event_the_state_and_the_reason() {
        let refused = AppState::Running.step(AppEvent::Start).expect_err("a running app cannot be started");
        assert_eq!(refused.to_string(), "cannot start while running: the app is already running");
    }

    #[test]
    fn only_a_types_own_name_is_parsed() {
        for kind in AppType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "prod".parse::<AppType>().expect_err("prod is not the word");
        assert_eq!(error.to_string(), "invalid app type \"prod\": expected \"dev\", \"staging\" or \"production\"");
    }
}
