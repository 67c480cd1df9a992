//! What Isopod decides, without doing anything: names, ids, states, grants, limits, and how a manifest and a bundle
//! are read. Nothing here has a clock, a random source, a thread, a socket or a file: whatever a decision needs comes
//! in as an argument, so that each one can be tested by calling it.

mod access;
pub mod address;
mod app_limits;
mod app_state;
pub mod bundle;
mod grants;
mod ids;
pub mod limits;
pub mod manifest;
mod names;
mod push_state;
mod release_state;
pub mod units;

pub use access::{Role, Scope};
pub use app_limits::{LimitError, Limits};
pub use app_state::{AppEvent, AppState, AppType, ErrorCause, UnknownWord};
pub use bundle::{Bundle, BundleError, BundleKind};
pub use grants::{Access, FolderError, Grants, HttpGrant, HttpGrantError, Reach};
pub use ids::{IdError, InstanceId, PushId, ReleaseNumber, RequestId};
pub use manifest::{Entry, Isolation, Manifest, ManifestError, Process};
pub use names::{AppName, NameError, NameRule, ProcessName};
pub use push_state::{PushEvent, PushState};
pub use release_state::{ReleaseEvent, ReleaseState};

/// A transition that the state machine does not have: what was asked, in which state, and why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {event} while {state}: {why}")]
pub struct Refused {
    /// The state the thing was in, as its users call it.
    pub state: &'static str,
    /// What was asked for, as a verb.
    pub event: &'static str,
    /// Why this state does not allow it, and what to do instead.
    pub why: &'static str,
}
