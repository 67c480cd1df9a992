//! Owns the services and settings that every stage of a release uses: the engine, the store and the
//! limits of the operator. Each method is in the file of its stage. Never knows a push or a task.

use std::sync::Arc;

use isopod_engine::Engine;
use isopod_policy::Ceiling;
use isopod_store::Store;

use crate::control::{background::activity_log::ActivityLog, events::Events, plugins::Plugins};

/// Reads, compiles and loads releases. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct Releases {
    pub(in crate::control) engine: Engine,
    pub(in crate::control) store: Store,
    pub(in crate::control) activity: ActivityLog,
    /// The receiver of the events that guests send.
    pub(in crate::control) events: Events,
    pub(in crate::control) plugins: Plugins,
    /// The maximum number of warm instances of an app.
    pub(in crate::control) app_instances_max: u32,
    /// The ceiling on what releases may ask for, which apps can override.
    pub(in crate::control) ceiling: Arc<Ceiling>,
}
