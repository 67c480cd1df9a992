//! The swap of an app's release: replaces the release that takes the app's jobs with one atomic
//! store. Freezes and thaws that release. Never decides when to swap: the app's task does.

use super::App;
use crate::runtime::{frozen::Frozen, release::ActiveRelease};
use isopod_policy::ReleaseNumber;
use std::sync::{Arc, PoisonError};

/// The target of an app's jobs.
pub(super) enum Serving {
    /// An active release takes the job.
    Release(Arc<ActiveRelease>),
    /// The frozen release is thawed first.
    Frozen(Frozen),
    /// The release is loaded first: it hasn't been requested since the host started.
    Cold(ReleaseNumber),
    /// Jobs are refused for this reason.
    Nothing { reason: String },
}

/// Whether an app can accept a job.
pub(in crate::runtime) enum Availability {
    Ready(Arc<ActiveRelease>),
    /// After this release is loaded.
    Cold(ReleaseNumber),
    Unavailable {
        reason: String,
    },
}

impl Serving {
    /// Returns the state of a new app.
    pub(super) fn nothing_deployed() -> Self {
        let reason = "nothing has been deployed to the app yet; a first build or push may be in progress".into();
        Self::Nothing { reason }
    }
}

impl App {
    /// Puts a release in service. Returns the previous release, which completes the jobs it has
    /// accepted.
    pub(crate) fn install(&self, release: Arc<ActiveRelease>) -> Option<Arc<ActiveRelease>> {
        let previous = self.put_in_service(release);
        self.end_canary();
        previous
    }

    pub(super) fn put_in_service(&self, release: Arc<ActiveRelease>) -> Option<Arc<ActiveRelease>> {
        if let Some(number) = release.release() {
            self.previews.remove(number);
        }
        release.set_standby(false);
        if let Some(previous) = self.active() {
            release.inherit_load(&previous);
        }
        self.track(&release);
        self.count_callers();
        self.replace(Serving::Release(release))
    }

    /// Puts a release in service without loading it. The first request loads it.
    pub(crate) fn install_cold(&self, release: ReleaseNumber) {
        drop(self.replace(Serving::Cold(release)));
    }

    /// Replaces the cold release of an app with the same release, now loaded. Returns false if the
    /// app no longer serves this release.
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
        self.end_canary();
        self.forget_callers();
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

    /// Returns the release that serves, and thaws it if necessary. `None` if it must be loaded
    /// first.
    pub(crate) fn serving(&self) -> Option<Arc<ActiveRelease>> {
        match self.availability() {
            Availability::Ready(release) => Some(release),
            Availability::Cold(_) | Availability::Unavailable { .. } => None,
        }
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

    pub(in crate::runtime) fn availability(&self) -> Availability {
        match &**self.serving.load() {
            Serving::Release(release) => Availability::Ready(Arc::clone(release)),
            Serving::Frozen(_) => self.thaw(),
            Serving::Cold(release) => Availability::Cold(*release),
            Serving::Nothing { reason } => Availability::Unavailable { reason: reason.clone() },
        }
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
}
