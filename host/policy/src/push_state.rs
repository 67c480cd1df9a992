//! The state of a push job, which turns a bundle into a release. Owns the state transition table.
//! Never runs a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Refused;
use crate::app_state::UnknownWord;

/// The state of a push job.
///
/// ```text
///            take           build            deploy             complete
///   queued ────────▶ running ────────▶ building ────────▶ deploying ────────▶ completed
///     │  │              │                  │                  │
///     │  │ fail         │ fail             │ fail             │ fail
///     │  └──────────────┴──────────────────┴──────────────────┴──────────────▶ failed
///     │ cancel
///     └──────────────────────────────────────────────────────────────────────▶ cancelled
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PushState {
    /// The job waits in the queue.
    Queued,
    /// The job was cancelled while it was queued.
    Cancelled,
    /// The bundle is being received and verified.
    Running,
    /// The component is being compiled.
    Building,
    /// The new release is being deployed.
    Deploying,
    /// The new release serves.
    Completed,
    /// The job ended without a serving release; its record has the reason.
    Failed,
}

/// An event in a push job's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushEvent {
    /// A cancellation was requested.
    Cancel,
    /// A worker takes the job from the queue.
    Take,
    /// The bundle is verified.
    Build,
    /// The component is compiled.
    Deploy,
    /// The new release serves.
    Complete,
    /// A step failed, or the host stopped during the job.
    Fail,
}

impl PushEvent {
    /// Every event.
    pub const ALL: [Self; 6] = [Self::Cancel, Self::Take, Self::Build, Self::Deploy, Self::Complete, Self::Fail];

    fn verb(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Take => "take",
            Self::Build => "build",
            Self::Deploy => "deploy",
            Self::Complete => "complete",
            Self::Fail => "fail",
        }
    }
}

impl PushState {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Cancelled, Self::Running, Self::Building, Self::Deploying, Self::Completed, Self::Failed];

    /// Returns the state after `event`, or why the event is refused.
    pub fn step(self, event: PushEvent) -> Result<Self, Refused> {
        use PushEvent as E;
        match (self, event) {
            (Self::Queued, E::Cancel) => Ok(Self::Cancelled),
            (Self::Queued, E::Take) => Ok(Self::Running),
            (Self::Running, E::Build) => Ok(Self::Building),
            (Self::Building, E::Deploy) => Ok(Self::Deploying),
            (Self::Deploying, E::Complete) => Ok(Self::Completed),
            (Self::Queued | Self::Running | Self::Building | Self::Deploying, E::Fail) => Ok(Self::Failed),
            (
                Self::Queued
                | Self::Cancelled
                | Self::Running
                | Self::Building
                | Self::Deploying
                | Self::Completed
                | Self::Failed,
                E::Cancel | E::Take | E::Build | E::Deploy | E::Complete | E::Fail,
            ) => Err(Refused { state: self.as_str(), event: event.verb(), why: self.why_not(event) }),
        }
    }

    fn why_not(self, event: PushEvent) -> &'static str {
        match (self, event) {
            (Self::Cancelled, _) => "the push was cancelled; push again",
            (Self::Completed, _) => "the push has completed; roll back to undo it",
            (Self::Failed, _) => "the push has failed; push again",
            (_, PushEvent::Cancel) => "only a queued push can be cancelled; wait for it, and roll back to undo it",
            (_, _) => "a push goes from queued through running, building and deploying to completed, in this order",
        }
    }

    /// Returns whether the state is final.
    pub fn is_final(self) -> bool {
        match self {
            Self::Cancelled | Self::Completed | Self::Failed => true,
            Self::Queued | Self::Running | Self::Building | Self::Deploying => false,
        }
    }

    /// Returns the state's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Cancelled => "cancelled",
            Self::Running => "running",
            Self::Building => "building",
            Self::Deploying => "deploying",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for PushState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PushState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "push state",
            given: text.chars().take(80).collect(),
            expected: "queued, cancelled, running, building, deploying, completed or failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: rows are states, columns the events of `PushEvent::ALL`.
    const TABLE: &str = "\
              cancel     take     build     deploy     complete   fail
    queued    cancelled  running  -         -          -          failed
    cancelled -          -        -         -          -          -
    running   -          -        building  -          -          failed
    building  -          -        -         deploying  -          failed
    deploying -          -        -         -          completed  failed
    completed -          -        -         -          -          -
    failed    -          -        -         -          -          -";

    #[test]
    fn every_pair_of_state_and_event_matches_the_table() {
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().expect("the table has a head").split_whitespace().collect();
        let verbs: Vec<&str> = PushEvent::ALL.iter().map(|event| event.verb()).collect();
        assert_eq!(columns, verbs);
        for (state, line) in PushState::ALL.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], state.as_str());
            for (event, expected) in PushEvent::ALL.into_iter().zip(&cells[1..]) {
                let found = state.step(event).map_or("-", PushState::as_str);
                assert_eq!(found, *expected, "{state} + {}", event.verb());
            }
        }
    }

    #[test]
    fn only_a_queued_push_can_be_cancelled() {
        for state in PushState::ALL {
            assert_eq!(state.step(PushEvent::Cancel).is_ok(), state == PushState::Queued);
        }
    }

    #[test]
    fn a_final_push_refuses_every_event() {
        for state in PushState::ALL.into_iter().filter(|state| state.is_final()) {
            for event in PushEvent::ALL {
                assert!(state.step(event).is_err());
            }
        }
    }

    #[test]
    fn the_name_of_every_state_is_parsed_back() {
        for state in PushState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("Queued".parse::<PushState>().is_err());
    }
}
