//! One app, as seen by traffic: which release serves, its previews, and all its instances. Never
//! decides which release serves.

use super::{
    frozen::Frozen, preview::Previews, release::ActiveRelease, resident::ResidentReleases, resources::AppResources,
    status::LiveInstance,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use isopod_policy::{AppName, Cores, InstanceId, ReleaseNumber};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// One app, as seen by traffic.
pub(crate) struct App {
    name: AppName,
    resources: Arc<AppResources>,
    serving: ArcSwap<Serving>,
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

/// The target of an app's jobs.
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
pub(super) enum Availability {
    Ready(Arc<ActiveRelease>),
    /// After this release is loaded.
    Cold(ReleaseNumber),
    Unavailable {
        reason: String,
    },
}

impl App {
    pub(crate) fn new(name: AppName, resources: Arc<AppResources>) -> Self {
        let resident = Arc::<ResidentReleases>::default();
        let nothing = Serving::Nothing {
            reason: "nothing has been deployed to the app yet; a first build or push may be in progress".into(),
        };
        Self {
            name,
            resources,
            serving: ArcSwap::from_pointee(nothing),
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
    pub(crate) fn install(&self, release: Arc<ActiveRelease>) -> Option<Arc<ActiveRelease>> {
        if let Some(number) = release.release() {
            self.previews.remove(number);
        }
        release.set_standby(false);
        if let Some(previous) = self.active() {
            release.inherit_load(&previous);
        }
        self.track(&release);
        self.replace(Serving::Release(release))
    }

    /// Adds a release to the app's list, before the release takes its first job.
    pub(super) fn track(&self, release: &Arc<ActiveRelease>) {
        self.resident.add(release);
    }

    /// Puts a release in service that is loaded on its first request.
    pub(crate) fn install_cold(&self, release: ReleaseNumber) {
        drop(self.replace(Serving::Cold(release)));
    }

    /// Puts a release in service that was loaded because the app was cold. Returns false if the app
    /// serves another release, or none, by now.
    pub(crate) fn install_loaded(&self, release: &Arc<ActiveRelease>) -> bool {
        let previous = self.serving.load_full();
        let Serving::Cold(number) = *previous else { return false };
        if release.release() != Some(number) {
            return false;
        }
        self.track(release);
        let replaced = self.serving.compare_and_swap(&previous, Arc::new(Serving::Release(Arc::clone(release))));
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
        let former = match &*self.serving.swap(Arc::new(serving)) {
            Serving::Release(release) => Arc::clone(release),
            // The caller may need the replaced release for a rollback.
            Serving::Frozen(frozen) => Arc::new(ActiveRelease::thaw(frozen, &self.resources).ok()?),
            Serving::Cold(_) | Serving::Nothing { .. } => return None,
        };
        self.put_on_standby(&former);
        Some(former)
    }

    /// Puts a release on standby: another release serves, and a rollback may return to this one.
    /// Its instances are listed and take requests to their URLs until it is dropped or drains.
    pub(crate) fn put_on_standby(&self, release: &Arc<ActiveRelease>) {
        release.set_standby(true);
        self.track(release);
    }

    /// Returns the release that serves, unless it is frozen or cold.
    pub(crate) fn active(&self) -> Option<Arc<ActiveRelease>> {
        match &**self.serving.load() {
            Serving::Release(release) => Some(Arc::clone(release)),
            Serving::Frozen(_) | Serving::Cold(_) | Serving::Nothing { .. } => None,
        }
    }

    /// Returns the release that serves, and thaws it if necessary. `None` while it must be loaded.
    pub(crate) fn serving(&self) -> Option<Arc<ActiveRelease>> {
        match self.availability() {
            Availability::Ready(release) => Some(release),
            Availability::Cold(_) | Availability::Unavailable { .. } => None,
        }
    }

    /// Waits until all accepted jobs have completed, in every release. Only useful once no new job
    /// can arrive.
    pub(crate) async fn drained(&self) {
        while let Some(busy) = self.resident.busy_pool() {
            busy.drained().await;
        }
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
        let Serving::Release(release) = &*previous else { return false };
        let Some(frozen) = release.freeze() else { return false };
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
            Serving::Release(release) => return Availability::Ready(Arc::clone(release)),
            Serving::Cold(release) => return Availability::Cold(*release),
            Serving::Nothing { reason } => return Availability::Unavailable { reason: reason.clone() },
        };
        match ActiveRelease::thaw(frozen, &self.resources) {
            Ok(release) => {
                let release = Arc::new(release);
                self.track(&release);
                // If another release was installed meanwhile, the swap fails: the thawed release
                // takes only this job.
                self.serving.compare_and_swap(&previous, Arc::new(Serving::Release(Arc::clone(&release))));
                Availability::Ready(release)
            }
            Err(rejected) => {
                // The error may name paths of the host, which must not reach clients.
                tracing::warn!(app = %self.name, %rejected, "failed to thaw a frozen release");
                Availability::Unavailable { reason: "the release's code can't be read now".to_owned() }
            }
        }
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

    pub(super) fn availability(&self) -> Availability {
        match &**self.serving.load() {
            Serving::Release(release) => Availability::Ready(Arc::clone(release)),
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
