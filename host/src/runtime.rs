//! The data plane: which apps exist, what each app serves, and its instances. Never knows where a
//! job came from.
//!
//! ```text
//!  ingress, API ──> Directory ──> App ──> ActiveRelease (one release)
//!                                             └──> Pool (one per process type) ──> Instance
//! ```
//!
//! A new release replaces the previous one with a single atomic store. Jobs that were accepted
//! before stay with the previous release, which is dropped after its last job.

mod app;
mod assets;
mod call;
mod cancellation;
mod class;
mod command;
mod deadline;
mod directory;
mod error;
mod frozen;
mod gates;
pub(crate) mod health;
mod invoke;
pub(crate) mod limits;
pub(crate) mod middleware;
mod phase_times;
mod plan;
mod plugin_call;
mod plugin_use;
mod pool;
mod preview;
mod provider_session;
mod providers;
mod release;
mod resident;
mod resources;
mod status;
mod supervisor;
mod weak_list;
mod whole_body;

pub(crate) use app::App;
pub(crate) use assets::{AssetFailure, Assets, Pack};
pub(crate) use class::{CLASSES, class_name};
pub(crate) use directory::Directory;
pub(crate) use error::{AskError, InvokeError};
pub(crate) use gates::ask_gate;
pub(crate) use invoke::{Answered, HttpRequest};
pub(crate) use phase_times::PhaseTimes;
pub(crate) use plan::ProcessPlan;
pub(crate) use plugin_call::PluginFailureReason;
pub(crate) use plugin_use::{Chain, PluginOutcome};
pub(crate) use pool::{PoolCounters, ScaleChange};
pub(crate) use preview::{LoadRequest, LoadedRelease, PreviewError};
pub(crate) use providers::AppProviders;
pub(crate) use release::ActiveRelease;
pub(crate) use resources::{
    AppResources, AssetBudgetExceeded, BodyBudgetExceeded, GuestRuntimes, HostResources, Latency, StoredEvents,
};
pub(crate) use status::{LiveInstance, STOPPED};
pub(crate) use supervisor::CrashReport;
pub(crate) use whole_body::{UnreadableBody, WholeBody, receive};
