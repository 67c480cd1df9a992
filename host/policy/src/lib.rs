//! Isopod's decisions without side effects: names, ids, states, grants, limits, and the parsing of
//! manifests and bundles. Never uses a clock, a random source, a thread, a socket or a file: all
//! inputs are arguments, so that each decision can be tested by calling it.

mod access;
pub mod address;
mod admission;
pub mod advise;
mod alert;
mod app_limits;
mod app_machine;
mod app_state;
pub mod assets;
mod autoscale;
mod back_off;
mod body_rate;
pub mod bundle;
pub mod ceiling;
pub mod config_vars;
pub mod connections;
mod cores;
mod durations;
mod encoding;
pub mod formation;
mod gate;
mod grants;
mod health;
mod hook;
mod ids;
pub mod json;
pub mod limits;
pub mod manifest;
mod middleware;
mod names;
mod nearest;
mod phases;
mod plugin;
mod process;
mod provider;
mod push_state;
pub mod release_diff;
mod release_state;
mod restart;
pub mod retention;
mod retry;
mod retry_after;
mod sampling;
mod schedule;
mod schema;
mod setting_word;
pub mod swap_watch;
pub mod text;
mod token_bucket;
mod trace_context;
pub mod units;

pub use access::{Role, Scope};
pub use admission::{JobDurations, had_enough_time, is_nearly_expired};
pub use alert::{AlertChange, AlertRule, AlertSettings, AlertSide, AlertState, AlertUnit};
pub use app_limits::{BodyLimit, LimitError, Limits};
pub use app_machine::{AppAction, AppCommand, AppMachine, ChangeId, Decision, Denied, Durable, LoadId, Refusal};
pub use app_state::{AppEvent, AppState, AppType, BaseState, ErrorCause, Intended, Lifecycle, UnknownWord};
pub use assets::{Asset, AssetEncoding, AssetIndex};
pub use autoscale::Peaks;
pub use back_off::back_off;
pub use body_rate::BodyRate;
pub use bundle::{Bundle, BundleError, BundleKind, Form};
pub use ceiling::{Ceiling, Excess};
pub use config_vars::{
    Applied, ConfigChange, ConfigError, ConfigValue, ConfigVars, EffectiveVar, RedactedValue, Sealed, SecretText,
};
pub use cores::{Cores, CoresError, CoresOverride};
pub use durations::{DurationBucket, DurationCounts};
pub use formation::{Exported, Formation, FormationChange, FormationError, NewProcess};
pub use gate::{AppPattern, AppPatternError, GateUse, ReleaseCause};
pub use grants::{Access, FolderError, Grant, Grants, HttpGrant, HttpGrantError, Reach};
pub use health::{Health, HealthError};
pub use hook::{EventPattern, EventPatternError, Subscription, event_type};
pub use ids::{IdError, InstanceId, PushId, ReleaseNumber, RequestId};
pub use manifest::{Isolation, Manifest, ManifestError, Snapshot};
pub use middleware::{
    MiddlewareConfig, MiddlewareConfigError, MiddlewareUse, OnFailure, PathPattern, PathPatternError, PluginReference,
    PluginReferenceError,
};
pub use names::{AppName, NameError, NameRule, ProcessName};
pub use nearest::nearest;
pub use phases::{Phase, Timing, microseconds};
pub use plugin::{AppKind, PluginKind, PluginSettings, VersionError};
pub use process::{Entry, Inapplicable, Process, Scale};
pub use provider::{GrantedInterfaces, InterfaceName, InterfaceNameError};
pub use push_state::{PushEvent, PushState};
pub use release_diff::ReleaseContent;
pub use release_state::{ReleaseEvent, ReleaseState};
pub use restart::{Next, Restarts};
pub use retry::{Order, RetryError, RetryPolicy};
pub use retry_after::{ServiceRate, retry_after};
pub use sampling::Sampling;
pub use schedule::{Due, Missed, Overlap, Schedule, ScheduleError, TimeZone, TimeZoneError, Timetable, counted_since};
pub use token_bucket::{InvalidRate, Rate, Taken, TokenBucket};
pub use trace_context::{InvalidTraceId, RequestTrace, SpanId, TraceId, TraceParent, trace_state};

/// A transition that the state machine doesn't allow: what was requested, in which state, and why
/// it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {event} while {state}: {why}")]
pub struct Refused {
    /// The current state, as its users call it.
    pub state: &'static str,
    /// The requested event, as a verb.
    pub event: &'static str,
    /// Why this state doesn't allow the event, and what to do instead.
    pub why: &'static str,
}
