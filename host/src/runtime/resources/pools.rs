//! The pools of an app or of the host, as the resources use them: to admit queued jobs to free
//! cores, and to evict instances. Never uses a pool for anything else.

use crate::runtime::weak_list::WeakList;
use isopod_engine::Program;
use isopod_executor::Class;
use isopod_policy::Entry;
use std::{sync::Arc, time::Instant};

/// Admits queued jobs.
pub(crate) trait Admit: Send + Sync {
    /// Returns the number of queued jobs of a class.
    fn waiting(&self, class: Class) -> u32;

    /// Returns the arrival time of the queued job of a class that has waited longest.
    fn waiting_since(&self, class: Class) -> Option<Instant>;

    /// Returns the arrival of the job that has waited longest, of those that could be admitted.
    fn oldest(&self, class: Class) -> Option<Instant>;

    /// Admits the job that has waited longest. Returns false if there is no such job, or no core or
    /// slot for it.
    fn admit_one(self: Arc<Self>, class: Class) -> bool;

    /// Refuses all queued jobs.
    fn refuse_waiting(&self);
}

/// Evicts idle instances.
pub(crate) trait Evict: Send + Sync {
    /// Returns the entry point through which the instances receive jobs.
    fn entry(&self) -> Entry;

    /// Returns the program of the instances.
    fn program(&self) -> &Program;

    /// Returns the number of instances, including those that run jobs.
    fn live(&self) -> u32;

    /// Evicts one idle instance. Returns false if no instance is idle.
    fn evict_idle(&self) -> bool;

    /// Evicts one idle instance above the warm minimum. Returns false if there is no such instance.
    fn evict_spare(&self) -> bool;
}

/// A pool that shares resources with others.
pub(crate) trait ResourceUser: Admit + Evict {}

impl<T: Admit + Evict> ResourceUser for T {}

/// The pools of one app, or of all apps.
pub(super) type Pools = WeakList<dyn ResourceUser>;
