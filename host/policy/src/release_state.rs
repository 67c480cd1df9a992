//! The state of a release, from building to its end. Owns the state transition table. Never
//! compiles, starts or deletes a release: the app's task consults the table first and then acts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Refused;
use crate::app_state::UnknownWord;

/// The state of a release.
///
/// ```text
///             built           booted          serve          freeze
///   building ───────▶ deploying ───────▶ booted ───────▶ ready ◀───────▶ frozen
///      │  │               │                │             │  ▲    serve      │
///      │  │               │                │   supersede │  │ serve         │ supersede
///      │  │               │                │             ▼  │               │
///      │  │               │                │            retired ◀───────────┘
///      │  │ deploy fails  │                │               │
///      │  └───────────────┴────────────────┴───────────────┴──▶ deployment_error
///      │ build fails                       (from ready and frozen as well)
///      └──────────────────────────────────────────────────────▶ build_error
/// ```
///
/// A retired release serves again if the rollout watch rolls back a bad successor; a manual
/// rollback creates a new release instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// The component is being compiled, or looked up in the compile cache.
    Building,
    /// The first instances are being started.
    Deploying,
    /// The first instances run, and their health is being checked.
    Booted,
    /// The app's current release, which takes its traffic.
    Ready,
    /// The app's current release, without instances; the next request thaws it.
    Frozen,
    /// Superseded by another release; kept for a rollback.
    Retired,
    /// Compiling failed. Final.
    BuildError,
    /// Starting failed, or the release turned bad while it served. Final.
    DeploymentError,
}

/// An event in a release's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReleaseEvent {
    /// The component is compiled.
    Built,
    /// The first instances run.
    Booted,
    /// It becomes the app's current release, or is thawed.
    Serve,
    /// Its last instance was dropped, since the app was idle.
    Freeze,
    /// Another release becomes the current one.
    Supersede,
    /// Compiling failed.
    BuildFails,
    /// The release can't be deployed, or must be taken out of service.
    DeployFails,
}

impl ReleaseEvent {
    /// Every event.
    pub const ALL: [Self; 7] =
        [Self::Built, Self::Booted, Self::Serve, Self::Freeze, Self::Supersede, Self::BuildFails, Self::DeployFails];

    fn verb(self) -> &'static str {
        match self {
            Self::Built => "build",
            Self::Booted => "boot",
            Self::Serve => "serve",
            Self::Freeze => "freeze",
            Self::Supersede => "supersede",
            Self::BuildFails => "fail the build",
            Self::DeployFails => "fail the deployment",
        }
    }
}

impl ReleaseState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Building,
        Self::Deploying,
        Self::Booted,
        Self::Ready,
        Self::Frozen,
        Self::Retired,
        Self::BuildError,
        Self::DeploymentError,
    ];

    /// Returns the state after `event`, or why the event is refused.
    pub fn step(self, event: ReleaseEvent) -> Result<Self, Refused> {
        use ReleaseEvent as E;
        match (self, event) {
            (Self::Building, E::Built) => Ok(Self::Deploying),
            (Self::Building, E::BuildFails) => Ok(Self::BuildError),
            (Self::Deploying, E::Booted) => Ok(Self::Booted),
            (Self::Booted | Self::Frozen | Self::Retired, E::Serve) => Ok(Self::Ready),
            (Self::Ready, E::Freeze) => Ok(Self::Frozen),
            (Self::Ready | Self::Frozen, E::Supersede) => Ok(Self::Retired),
            (
                Self::Building | Self::Deploying | Self::Booted | Self::Ready | Self::Frozen | Self::Retired,
                E::DeployFails,
            ) => Ok(Self::DeploymentError),
            (
                Self::Building
                | Self::Deploying
                | Self::Booted
                | Self::Ready
                | Self::Frozen
                | Self::Retired
                | Self::BuildError
                | Self::DeploymentError,
                E::Built | E::Booted | E::Serve | E::Freeze | E::Supersede | E::BuildFails | E::DeployFails,
            ) => Err(Refused { state: self.as_str(), event: event.verb(), why: self.why_not(event) }),
        }
    }

    fn why_not(self, event: ReleaseEvent) -> &'static str {
        match (self, event) {
            (Self::BuildError, _) => "its component couldn't be compiled; push a new one",
            (Self::DeploymentError, _) => "its deployment failed; roll back to another release, or push a new one",
            (Self::Building | Self::Deploying, ReleaseEvent::Serve) => "its instances don't run yet; wait for its push",
            (Self::Ready, ReleaseEvent::Serve) => "it is already the current release",
            (_, ReleaseEvent::Freeze) => "only the current release is frozen, and only once",
            (_, ReleaseEvent::Supersede) => "only the current release can be superseded",
            (_, _) => "a release goes from building through deploying and booted to ready, in this order",
        }
    }

    /// Returns whether the state is final.
    pub fn is_final(self) -> bool {
        match self {
            Self::BuildError | Self::DeploymentError => true,
            Self::Building | Self::Deploying | Self::Booted | Self::Ready | Self::Frozen | Self::Retired => false,
        }
    }

    /// Returns whether the release is being deployed for the first time.
    pub fn is_under_way(self) -> bool {
        match self {
            Self::Building | Self::Deploying | Self::Booted => true,
            Self::Ready | Self::Frozen | Self::Retired | Self::BuildError | Self::DeploymentError => false,
        }
    }

    /// Returns whether the release serves or can serve: it is compiled and hasn't turned bad. Such
    /// a release is reachable at its own URL, and a rollback to it is possible.
    pub fn can_serve(self) -> bool {
        match self {
            Self::Booted | Self::Ready | Self::Frozen | Self::Retired => true,
            Self::Building | Self::Deploying | Self::BuildError | Self::DeploymentError => false,
        }
    }

    /// Returns the state's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Deploying => "deploying",
            Self::Booted => "booted",
            Self::Ready => "ready",
            Self::Frozen => "frozen",
            Self::Retired => "retired",
            Self::BuildError => "build_error",
            Self::DeploymentError => "deployment_error",
        }
    }
}

impl fmt::Display for ReleaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ReleaseState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "release state",
            given: text.chars().take(80).collect(),
            expected: "building, deploying, booted, ready, frozen, retired, build_error or deployment_error",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: rows are states, columns the events of `ReleaseEvent::ALL`.
    const TABLE: &str = "\
                     build      boot    serve  freeze  supersede  fail-the-build  fail-the-deployment
    building         deploying  -       -      -       -          build_error     deployment_error
    deploying        -          booted  -      -       -          -               deployment_error
    booted           -          -       ready  -       -          -               deployment_error
    ready            -          -       -      frozen  retired    -               deployment_error
    frozen           -          -       ready  -       retired    -               deployment_error
    retired          -          -       ready  -       -          -               deployment_error
    build_error      -          -       -      -       -          -               -
    deployment_error -          -       -      -       -          -               -";

    #[test]
    fn every_pair_of_state_and_event_matches_the_table() {
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().expect("the table has a head").split_whitespace().collect();
        let verbs: Vec<String> = ReleaseEvent::ALL.iter().map(|event| event.verb().replace(' ', "-")).collect();
        assert_eq!(columns, verbs);
        assert_eq!(lines.clone().count(), ReleaseState::ALL.len());
        for (state, line) in ReleaseState::ALL.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], state.as_str());
            for (event, expected) in ReleaseEvent::ALL.into_iter().zip(&cells[1..]) {
                let found = state.step(event).map_or("-", ReleaseState::as_str);
                assert_eq!(found, *expected, "{state} + {}", event.verb());
            }
        }
    }

    #[test]
    fn exactly_the_final_states_refuse_every_event() {
        for state in ReleaseState::ALL {
            let moves = ReleaseEvent::ALL.into_iter().any(|event| state.step(event).is_ok());
            assert_eq!(moves, !state.is_final(), "{state}");
        }
    }

    #[test]
    fn a_release_that_can_serve_needs_at_most_one_step() {
        for state in ReleaseState::ALL {
            let ready = state == ReleaseState::Ready || state.step(ReleaseEvent::Serve) == Ok(ReleaseState::Ready);
            assert_eq!(state.can_serve(), ready, "{state}");
        }
    }

    #[test]
    fn a_refusal_names_the_event_the_state_and_the_reason() {
        let refused =
            ReleaseState::BuildError.step(ReleaseEvent::Serve).expect_err("a release without a component can't serve");
        assert_eq!(
            refused.to_string(),
            "cannot serve while build_error: its component couldn't be compiled; push a new one"
        );
    }

    #[test]
    fn the_name_of_every_state_is_parsed_back_and_stored() {
        for state in ReleaseState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            let json = serde_json::to_string(&state).expect("it serialises");
            assert_eq!(json, format!("\"{state}\""));
            assert_eq!(serde_json::from_str::<ReleaseState>(&json).expect("it reads back"), state);
        }
        assert!("Ready".parse::<ReleaseState>().is_err());
    }
}
