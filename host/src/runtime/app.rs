//! One app, as seen by traffic: the release that serves, its previews, and all its instances. Never
//! changes which release serves (`app/swap.rs`).

mod callers;
mod canary;
mod swap;

pub(super) use self::swap::Availability;
use self::{callers::Callers, canary::Canary, swap::Serving};
use super::{
    preview::Previews, release::ActiveRelease, resident::ResidentReleases, resources::AppResources,
    status::LiveInstance,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use isopod_policy::{AppKind, AppName, Cores, InstanceId};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// One app, as seen by traffic.
pub(crate) struct App {
    name: AppName,
    kind: AppKind,
    resources: Arc<AppResources>,
    serving: ArcSwap<Serving>,
    /// The canary phase of a plugin's upgrade, while it is in progress.
    canary: ArcSwapOption<Canary>,
    /// The callers of a plugin's new release, during the rollout watch.
    callers: ArcSwapOption<Callers>,
    /// All releases that have taken jobs, including those that drain.
    resident: Arc<ResidentReleases>,
    /// The output of the latest build if it failed. Shown in a browser at the app's URL.
    build_error: ArcSwapOption<String>,
    pub(super) previews: Arc<Previews>,
    /// Held while a release is thawed, so that concurrent requests thaw it once.
    thaw_lock: Mutex<()>,
    /// Held while a cold release is loaded, so that concurrent requests load it once.
    pub(super) load_lock: tokio::sync::Mutex<()>,
}

impl App {
    pub(crate) fn new(name: AppName, kind: AppKind, resources: Arc<AppResources>) -> Self {
        let resident = Arc::<ResidentReleases>::default();
        Self {
            name,
            kind,
            resources,
            serving: ArcSwap::from_pointee(Serving::nothing_deployed()),
            canary: ArcSwapOption::empty(),
            callers: ArcSwapOption::empty(),
            previews: Arc::new(Previews::new(Arc::clone(&resident))),
            resident,
            build_error: ArcSwapOption::empty(),
            thaw_lock: Mutex::new(()),
            load_lock: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn name(&self) -> &AppName {
        &self.name
    }

    /// Returns whether this is a plugin, which no host name selects.
    pub(crate) fn is_plugin(&self) -> bool {
        self.kind == AppKind::Plugin
    }

    /// Returns the app's share of the host's resources.
    pub(crate) fn resources(&self) -> &Arc<AppResources> {
        &self.resources
    }

    /// Changes the number of the app's cores.
    pub(crate) fn set_cores(&self, cores: Cores) {
        self.resources.set_cores(cores);
    }

    /// Adds a release to the app's list, before the release takes its first job.
    pub(super) fn track(&self, release: &Arc<ActiveRelease>) {
        self.resident.add(release);
    }

    /// Waits until all accepted jobs and all calls of plugins have completed, in every release.
    /// Only useful once no new job can arrive.
    pub(crate) async fn drained(&self) {
        loop {
            // An app's middlewares are called before its jobs and after them.
            self.resources.plugin_calls_ended().await;
            match self.resident.busy_pool() {
                Some(busy) => busy.drained().await,
                None => return,
            }
        }
    }

    /// Cancels all unfinished work of the app, permanently.
    pub(crate) fn destroy(&self) {
        self.resources.cancellation().cancel();
        self.resources.assets().close();
    }

    pub(crate) fn is_destroyed(&self) -> bool {
        self.resources.cancellation().is_cancelled()
    }

    /// Returns whether any release of the app is in memory. Includes replaced releases that drain
    /// or are on standby.
    pub(crate) fn is_resident(&self) -> bool {
        self.active().is_some() || self.resources.is_resident()
    }

    /// Frees the memory of dropped releases. Useful after [`Self::freeze`], once the caller has
    /// dropped its own reference to the release.
    pub(crate) fn remove_dropped(&self) {
        self.resident.remove_dropped();
        self.resources.remove_dropped_pools();
    }

    /// Evicts previews that have been idle for `after`.
    pub(crate) fn evict_idle_previews(&self, now: Instant, after: Duration) {
        self.previews.evict_idle(now, after);
    }

    /// Returns the release that takes jobs for an instance.
    pub(crate) fn with_instance(&self, id: &InstanceId) -> Option<Arc<ActiveRelease>> {
        self.resident.with_instance(id)
    }

    /// Returns the app's instances, newest release first. Includes those of replaced releases that
    /// drain or are on standby.
    pub(crate) fn instances(&self) -> Vec<LiveInstance> {
        self.resident.instances()
    }

    /// Ends an instance after its current job, and starts a new one with the same id. Returns false
    /// if there is no such instance.
    pub(crate) fn restart(&self, id: &InstanceId) -> bool {
        self.resident.restart(id)
    }

    pub(crate) fn set_build_error(&self, text: Option<String>) {
        self.build_error.store(text.map(Arc::new));
    }

    pub(crate) fn build_error(&self) -> Option<Arc<String>> {
        self.build_error.load_full()
    }
}
