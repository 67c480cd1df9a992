//! The data plane: which apps exist, what each app serves, and its instances. Never knows where a
//! job came from.
//!
//! ```text
//!  ingress, API ──> Directory ──> App ──> ActiveRelease (one release) ──> Pool (one per process type) ──> Instance
//! ```
//!
//! A new release replaces the previous one with a single atomic store. Jobs that were accepted
//! before stay with the previous release, which is dropped after its last job.

mod cancellation;
mod command;
mod deadline;
mod file_runtimes;
mod frozen;
mod guest_runtime;
pub(crate) mod health;
mod invoke;
mod lease;
mod pool;
mod pool_state;
mod preview;
mod queue;
mod queue_stats;
mod release;
mod resources;
mod scale_window;
mod slot;
mod supervisor;

pub(crate) use guest_runtime::GuestRuntimes;
pub(crate) use invoke::InvokeError;
pub(crate) use pool::PoolCounters;
pub(crate) use preview::{LoadRequest, LoadSender, LoadedRelease, PreviewError};
pub(crate) use queue_stats::Latency;
pub(crate) use release::{ActiveRelease, LiveInstance, ProcessPlan};
pub(crate) use resources::{AppResources, BodyBudgetExceeded, CLASSES, HostResources, IncomingBody, class_name};
pub(crate) use scale_window::ScaleChange;
pub(crate) use slot::STOPPED;
pub(crate) use supervisor::CrashReport;

use arc_swap::{ArcSwap, ArcSwapOption};
use frozen::Frozen;
use isopod_policy::{AppName, Cores, InstanceId, ReleaseNumber};
use preview::{Loads, Previews};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// All apps that traffic can reach, by name.
pub(crate) struct Directory {
    apps: ArcSwap<HashMap<String, Arc<App>>>,
    loader: LoadSender,
    loads: Loads,
}

impl Directory {
    /// `loader` receives the requests to load releases that aren't in memory.
    pub(crate) fn new(loader: LoadSender) -> Self {
        Self { apps: ArcSwap::default(), loader, loads: Loads::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<App>> {
        self.apps.load().get(name).cloned()
    }

    /// Adds several apps at once: each call copies the whole table.
    pub(crate) fn put(&self, new: &[Arc<App>]) {
        self.change(|apps| apps.extend(new.iter().map(|app| (app.name.to_string(), Arc::clone(app)))));
    }

    pub(crate) fn remove(&self, name: &AppName) {
        self.change(|apps| {
            apps.remove(name.as_str());
        });
    }

    fn change(&self, change: impl Fn(&mut HashMap<String, Arc<App>>)) {
        self.apps.rcu(|apps| {
            let mut apps = HashMap::clone(apps);
            change(&mut apps);
            apps
        });
    }
}

/// One app, as seen by traffic.
pub(crate) struct App {
    name: AppName,
    resources: Arc<AppResources>,
    serving: ArcSwap<Serving>,
    /// The output of the latest build if it failed. Shown in a browser at the app's URL.
    build_error: ArcSwapOption<String>,
    previews: Arc<Previews>,
    /// Held while a release is thawed, so that concurrent requests thaw it once.
    thaw_lock: Mutex<()>,
    /// Held while a cold release is loaded, for the same reason.
    load_lock: tokio::sync::Mutex<()>,
}

/// What an app serves.
enum Serving {
    /// An active release takes the job.
    Release(Arc<ActiveRelease>),
    /// The frozen release is thawed first.
    Frozen(Frozen),
    /// The release is loaded first: it hasn't been requested since the host started.
    Cold(ReleaseNumber),
    /// Jobs are refused for this reason.
    Nothing { reason: String },
}

/// Whether an app can take a job.
enum Availability {
    Ready(Arc<ActiveRelease>),
    /// After this release is loaded.
    Cold(ReleaseNumber),
    Unavailable {
        reason: String,
    },
}

impl App {
    pub(crate) fn new(name: AppName, resources: Arc<AppResources>) -> Self {
        let nothing = Serving::Nothing { reason: "nothing has been deployed to the app yet".into() };
        Self {
            name,
            resources,
            serving: ArcSwap::from_pointee(nothing),
            build_error: ArcSwapOption::empty(),
            previews: Arc::default(),
            thaw_lock: Mutex::new(()),
            load_lock: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn name(&self) -> &AppName {
        &self.name
    }

    /// Returns the app's share of the host's resources.
    pub(crate) fn resources(&self) -> &Arc<AppResources> {
        &self.resources
    }

    /// Changes the number of the app's cores.
    pub(crate) fn set_cores(&self, cores: Cores) {
        self.resources.set_cores(cores);
    }

    /// Puts a release in service. Returns the previous release, which completes the jobs it has
    /// accepted.
    pub(crate) fn install(&self, running: Arc<ActiveRelease>) -> Option<Arc<ActiveRelease>> {
        if let Some(release) = running.release() {
            self.previews.remove(release);
        }
        running.set_standby(false);
        if let Some(previous) = self.active() {
            running.inherit_load(&previous);
        }
        self.replace(Serving::Release(running))
    }

    /// Puts a release in service that is loaded on its first request.
    pub(crate) fn install_cold(&self, release: ReleaseNumber) {
        drop(self.replace(Serving::Cold(release)));
    }

    /// Puts a release in service that was loaded because the app was cold. Returns false if the app
    /// serves something else by now.
    pub(crate) fn install_loaded(&self, running: &Arc<ActiveRelease>) -> bool {
        let previous = self.serving.load_full();
        let Serving::Cold(release) = *previous else { return false };
        if running.release() != Some(release) {
            return false;
        }
        let replaced = self.serving.compare_and_swap(&previous, Arc::new(Serving::Release(Arc::clone(running))));
        Arc::ptr_eq(&replaced, &previous)
    }

    /// Returns the release to load on the next request.
    pub(crate) fn cold(&self) -> Option<ReleaseNumber> {
        match **self.serving.load() {
            Serving::Cold(release) => Some(release),
            Serving::Release(_) | Serving::Frozen(_) | Serving::Nothing { .. } => None,
        }
    }

    /// Takes the app out of service. Returns the previous release, which completes the jobs it has
    /// accepted.
    pub(crate) fn set_stopped(&self, reason: impl Into<String>) -> Option<Arc<ActiveRelease>> {
        self.previews.clear();
        self.replace(Serving::Nothing { reason: reason.into() })
    }

    fn replace(&self, serving: Serving) -> Option<Arc<ActiveRelease>> {
        match &*self.serving.swap(Arc::new(serving)) {
            Serving::Release(running) => {
                running.set_standby(true);
                Some(Arc::clone(running))
            }
            // The caller may need the replaced release for a rollback.
            Serving::Frozen(frozen) => frozen.thaw(&self.resources).ok().map(Arc::new),
            Serving::Cold(_) | Serving::Nothing { .. } => None,
        }
    }

    /// Returns the release that serves, unless it is frozen or cold.
    pub(crate) fn active(&self) -> Option<Arc<ActiveRelease>> {
        match &**self.serving.load() {
            Serving::Release(running) => Some(Arc::clone(running)),
            Serving::Frozen(_) | Serving::Cold(_) | Serving::Nothing { .. } => None,
        }
    }

    /// Returns the release that serves, and thaws it if necessary. `None` while it must be loaded.
    pub(crate) fn serving(&self) -> Option<Arc<ActiveRelease>> {
        match self.availability() {
            Availability::Ready(running) => Some(running),
            Availability::Cold(_) | Availability::Unavailable { .. } => None,
        }
    }

    /// Waits until all accepted jobs have completed, in every release. Only useful once no new job
    /// can arrive.
    pub(crate) async fn drained(&self) {
        self.resources.drained().await;
    }

    /// Cancels all unfinished work of the app, permanently.
    pub(crate) fn destroy(&self) {
        self.resources.cancellation().cancel();
    }

    pub(crate) fn is_destroyed(&self) -> bool {
        self.resources.cancellation().is_cancelled()
    }

    /// Returns whether any release of the app is in memory. Includes replaced releases that drain
    /// or are on standby.
    pub(crate) fn is_resident(&self) -> bool {
        self.active().is_some() || self.resources.is_resident()
    }

    /// Returns whether a release serves: active, frozen or cold.
    pub(crate) fn is_up(&self) -> bool {
        match **self.serving.load() {
            Serving::Release(_) | Serving::Frozen(_) | Serving::Cold(_) => true,
            Serving::Nothing { .. } => false,
        }
    }

    /// Returns the number of the release that serves while it is frozen or cold.
    pub(crate) fn frozen(&self) -> Option<ReleaseNumber> {
        match &**self.serving.load() {
            Serving::Frozen(frozen) => Some(frozen.release()),
            Serving::Cold(release) => Some(*release),
            Serving::Release(_) | Serving::Nothing { .. } => None,
        }
    }

    /// Drops the instances and the code of an idle release. Returns false if the release must stay
    /// in memory.
    pub(crate) fn freeze(&self) -> bool {
        let previous = self.serving.load_full();
        let Serving::Release(running) = &*previous else { return false };
        let Some(frozen) = running.freeze() else { return false };
        // A caller that loaded the release before this swap still holds it, and completes its job
        // there.
        let replaced = self.serving.compare_and_swap(&previous, Arc::new(Serving::Frozen(frozen)));
        self.previews.clear();
        self.resources.trim();
        Arc::ptr_eq(&replaced, &previous)
    }

    /// Evicts previews that have been idle for `after`.
    pub(crate) fn evict_idle_previews(&self, now: Instant, after: Duration) {
        self.previews.evict_idle(now, after);
    }

    fn thaw(&self) -> Availability {
        let _guard = self.thaw_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = self.serving.load_full();
        let frozen = match &*previous {
            Serving::Frozen(frozen) => frozen,
            Serving::Release(running) => return Availability::Ready(Arc::clone(running)),
            Serving::Cold(release) => return Availability::Cold(*release),
            Serving::Nothing { reason } => return Availability::Unavailable { reason: reason.clone() },
        };
        match frozen.thaw(&self.resources) {
            Ok(running) => {
                let running = Arc::new(running);
                // If another release was installed meanwhile, the swap fails: the thawed release
                // takes only this job.
                self.serving.compare_and_swap(&previous, Arc::new(Serving::Release(Arc::clone(&running))));
                Availability::Ready(running)
            }
            Err(rejected) => {
                // The error may name paths of the host, which must not reach clients.
                tracing::warn!(app = %self.name, %rejected, "failed to thaw a frozen release");
                Availability::Unavailable { reason: "the release's code can't be read now".to_owned() }
            }
        }
    }

    /// Returns the releases that take jobs: the active one and the previews.
    fn releases(&self) -> impl Iterator<Item = Arc<ActiveRelease>> {
        self.active().into_iter().chain(self.previews.all())
    }

    /// Returns the release that takes jobs for an instance.
    pub(crate) fn with_instance(&self, id: &InstanceId) -> Option<Arc<ActiveRelease>> {
        self.releases().find(|running| running.has_instance(id))
    }

    /// Returns the app's instances, newest release first. Includes those of replaced releases that
    /// drain or are on standby.
    pub(crate) fn instances(&self) -> Vec<LiveInstance> {
        let pool_instances = self.resources.pools().into_iter().flat_map(|pool| {
            let (release, process) = (pool.release(), pool.process().clone());
            pool.statuses().into_iter().map(move |status| LiveInstance { release, process: process.clone(), status })
        });
        let command_instances = self.releases().flat_map(|running| running.command_instances().collect::<Vec<_>>());
        let mut all: Vec<_> = pool_instances.chain(command_instances).collect();
        all.sort_by_key(|instance| std::cmp::Reverse(instance.release));
        all
    }

    /// Ends an instance after its current job, and starts a new one with the same id. Returns false
    /// if there is no such instance.
    pub(crate) fn restart(&self, id: &InstanceId) -> bool {
        self.resources.pools().iter().any(|pool| pool.restart(id))
            || self.releases().any(|running| running.restart_command(id))
    }

    fn availability(&self) -> Availability {
        match &**self.serving.load() {
            Serving::Release(running) => Availability::Ready(Arc::clone(running)),
            Serving::Frozen(_) => self.thaw(),
            Serving::Cold(release) => Availability::Cold(*release),
            Serving::Nothing { reason } => Availability::Unavailable { reason: reason.clone() },
        }
    }

    pub(crate) fn set_build_error(&self, text: Option<String>) {
        self.build_error.store(text.map(Arc::new));
    }

    pub(crate) fn build_error(&self) -> Option<Arc<String>> {
        self.build_error.load_full()
    }
}
