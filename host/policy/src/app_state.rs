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

/// Whether an app is intended to run. The host determines its actual state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intended {
    /// The app is intended to run.
    Running,
    /// A user stopped the app.
    Stopped,
}

impl Intended {
    /// Returns the stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

impl FromStr for Intended {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Running, Self::Stopped].into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "intent",
            given: text.chars().take(80).collect(),
            expected: "running or stopped",
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

/// The state of an app as users see it: a base state, or `deploying` while a deployment covers it.
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

/// What an app does with its current release, whether or not a deployment is in progress.
///
/// ```text
///        stopped ──start──▶ starting ──serving, deployed──▶ running
///           ▲                 ▲   │                            │
///           │           start │   └────────────┬───────────────┘
///           │                 │                │ failed(cause)
///           │                 │                ▼
///           │                 └──────────── error(cause) ──serving, deployed──▶ running
///           │
///           └── stop (from every state but stopped)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BaseState {
    /// Nothing runs and traffic is refused.
    Stopped,
    /// The current release is being loaded.
    Starting,
    /// The current release serves traffic.
    Running,
    /// The current release can't serve.
    Error(ErrorCause),
}

/// The state of an app: its base state, and a deployment as an overlay.
///
/// The overlay hides the base state from users and never changes it, so that a deployment that
/// fails uncovers the state of the current release. A stop and a failure of the current release
/// remove the overlay: they are shown immediately, although the deployment continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    /// The state of the current release.
    pub base: BaseState,
    /// Whether a deployment is shown in place of the base state.
    pub is_deploying: bool,
}

/// An event in an app's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppEvent {
    /// A start was requested.
    Start,
    /// A stop was requested; accepted work has been finished or stored.
    Stop,
    /// A push or a settings change starts to deploy a new release.
    DeployBegins,
    /// The deployment ended, and its release doesn't serve: it failed, or the app is stopped.
    DeployEnds,
    /// The deployment ended, and its release takes traffic.
    Deployed,
    /// The current release takes traffic.
    Serving,
    /// The current release can't take traffic.
    Failed(ErrorCause),
}

impl AppEvent {
    /// One event of each kind; `Failed` represents all causes.
    pub const KINDS: [Self; 7] = [
        Self::Start,
        Self::Stop,
        Self::DeployBegins,
        Self::DeployEnds,
        Self::Deployed,
        Self::Serving,
        Self::Failed(ErrorCause::HealthCheck),
    ];

    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::DeployBegins => "deploy",
            Self::DeployEnds => "end the deployment",
            Self::Deployed => "complete the deployment",
            Self::Serving => "serve",
            Self::Failed(_) => "fail",
        }
    }
}

impl Lifecycle {
    /// The state of a new app, and of an app that was stopped.
    pub const STOPPED: Self = Self { base: BaseState::Stopped, is_deploying: false };
    /// The state of an app that serves.
    pub const RUNNING: Self = Self { base: BaseState::Running, is_deploying: false };

    /// Returns the state after `event`, or why the event is refused.
    pub fn step(self, event: AppEvent) -> Result<Self, Refused> {
        use AppEvent as E;
        use BaseState as B;
        let refused = |why| Err(Refused { state: self.label().as_str(), event: event.verb(), why });
        let covered = |base| Ok(Self { base, ..self });
        let uncovered = |base| Ok(Self { base, is_deploying: false });
        match (self.base, event) {
            (B::Stopped | B::Error(_), E::Start) => covered(B::Starting),
            (B::Starting, E::Start) => refused("the app is already starting"),
            (B::Running, E::Start) => refused("the app is already running"),

            (B::Stopped, E::Stop) if !self.is_deploying => refused("the app is already stopped"),
            (B::Stopped | B::Starting | B::Running | B::Error(_), E::Stop) => uncovered(B::Stopped),

            (B::Stopped | B::Starting | B::Running | B::Error(_), E::DeployBegins) if self.is_deploying => {
                refused("another push is being deployed; the next one starts after it")
            }
            (base @ (B::Stopped | B::Starting | B::Running | B::Error(_)), E::DeployBegins) => {
                Ok(Self { base, is_deploying: true })
            }
            (base @ (B::Stopped | B::Starting | B::Running | B::Error(_)), E::DeployEnds) => uncovered(base),

            (B::Stopped, E::Deployed) if !self.is_deploying => refused("a stopped app runs nothing; start it first"),
            (B::Stopped | B::Starting | B::Running | B::Error(_), E::Deployed) => uncovered(B::Running),

            (B::Stopped, E::Serving | E::Failed(_)) => refused("a stopped app runs nothing; start it first"),
            (B::Starting | B::Running | B::Error(_), E::Serving) => covered(B::Running),
            (B::Starting | B::Running | B::Error(_), E::Failed(cause)) => uncovered(B::Error(cause)),
        }
    }

    /// Returns the state that users see.
    pub fn label(self) -> AppState {
        match self.base {
            _ if self.is_deploying => AppState::Deploying,
            BaseState::Stopped => AppState::Stopped,
            BaseState::Starting => AppState::Starting,
            BaseState::Running => AppState::Running,
            BaseState::Error(cause) => AppState::Error(cause),
        }
    }
}

impl AppState {
    /// One state of each kind; `Error` represents all causes.
    pub const KINDS: [Self; 5] =
        [Self::Stopped, Self::Starting, Self::Deploying, Self::Running, Self::Error(ErrorCause::HealthCheck)];

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

    /// The whole table: rows are base states, `+` with a deployment, columns the events of
    /// `AppEvent::KINDS`.
    const TABLE: &str = "\
               start      stop     deploy     end-the-deployment  complete-the-deployment  serve     fail
    stopped    starting   -        stopped+   stopped             -                        -         -
    stopped+   starting+  stopped  -          stopped             running                  -         -
    starting   -          stopped  starting+  starting            running                  running   error
    starting+  -          stopped  -          starting            running                  running+  error
    running    -          stopped  running+   running             running                  running   error
    running+   -          stopped  -          running             running                  running+  error
    error      starting   stopped  error+     error               running                  running   error
    error+     starting+  stopped  -          error               running                  running+  error";

    const BASES: [BaseState; 4] =
        [BaseState::Stopped, BaseState::Starting, BaseState::Running, BaseState::Error(ErrorCause::HealthCheck)];

    fn name(state: Lifecycle) -> String {
        let base = Lifecycle { is_deploying: false, ..state }.label();
        format!("{base}{}", if state.is_deploying { "+" } else { "" })
    }

    #[test]
    fn every_pair_of_state_and_event_matches_the_table() {
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().expect("the table has a head").split_whitespace().collect();
        let verbs: Vec<String> = AppEvent::KINDS.iter().map(|event| event.verb().replace(' ', "-")).collect();
        assert_eq!(columns, verbs);
        let states =
            BASES.into_iter().flat_map(|base| [false, true].map(|is_deploying| Lifecycle { base, is_deploying }));
        let states: Vec<Lifecycle> = states.collect();
        assert_eq!(lines.clone().count(), states.len());
        for (state, line) in states.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], name(state));
            for (event, expected) in AppEvent::KINDS.into_iter().zip(&cells[1..]) {
                let found = state.step(event).map_or("-".to_owned(), name);
                assert_eq!(found, *expected, "{} + {}", name(state), event.verb());
            }
        }
    }

    #[test]
    fn a_deployment_covers_the_base_state_until_it_ends() {
        for base in BASES {
            let before = Lifecycle { base, is_deploying: false };
            let during = before.step(AppEvent::DeployBegins).expect("no deployment is in progress");
            assert_eq!((during.base, during.label()), (base, AppState::Deploying));
            assert_eq!(during.step(AppEvent::DeployEnds), Ok(before));
        }
    }

    #[test]
    fn the_state_error_keeps_the_cause() {
        for cause in ErrorCause::ALL {
            let failed = Lifecycle::RUNNING.step(AppEvent::Failed(cause)).expect("a running app can fail");
            assert_eq!(failed.label(), AppState::Error(cause));
            assert_eq!(failed.label().cause(), Some(cause));
        }
    }

    #[test]
    fn a_refusal_names_the_event_the_state_and_the_reason() {
        let refused = Lifecycle::RUNNING.step(AppEvent::Start).expect_err("a running app cannot be started");
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
