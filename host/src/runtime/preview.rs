//! Previews: releases that clients request by their own URLs while another release serves. Loads a
//! release once for concurrent requests, limits concurrent loads, and evicts idle previews. Never
//! loads a release itself: the receiver of the load requests does.

use super::{release::ActiveRelease, resident::ResidentReleases};
use crate::runtime::limits;
use isopod_policy::{AppName, ReleaseNumber};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// A request to load a release that isn't in memory. The reply is the release, or why it is
/// unavailable.
pub(crate) struct LoadRequest {
    pub(crate) app: AppName,
    pub(crate) release: ReleaseNumber,
    pub(crate) reply: oneshot::Sender<Result<LoadedRelease, PreviewError>>,
}

/// A release that was loaded.
#[derive(Clone)]
pub(crate) struct LoadedRelease {
    pub(crate) release: Arc<ActiveRelease>,
    /// Whether the release serves by now, because the app was cold.
    pub(crate) serves: bool,
}

/// Sends load requests to the control plane.
pub(crate) type LoadSender = mpsc::Sender<LoadRequest>;

/// Why a release can't be previewed, as text that is safe to show to clients: the app's log has the
/// cause.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PreviewError {
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Unavailable(String),
}

/// Requests loads from the control plane, within the limits for all apps together.
pub(super) struct Loads {
    loader: LoadSender,
    /// One permit per preview that is being loaded.
    preview_loads: Arc<Semaphore>,
    /// One permit per preview that waits to be loaded.
    preview_queue: Arc<Semaphore>,
    /// One permit per cold app that is being loaded.
    pub(super) cold_loads: Semaphore,
}

impl Loads {
    pub(super) fn new(loader: LoadSender) -> Self {
        Self {
            loader,
            preview_loads: Arc::new(Semaphore::new(limits::PREVIEWS_LOADING_MAX)),
            preview_queue: Arc::new(Semaphore::new(limits::PREVIEWS_QUEUED_MAX)),
            cold_loads: Semaphore::new(limits::COLD_RELEASES_LOADING_MAX),
        }
    }

    /// Sends a load request and waits for the reply.
    pub(super) async fn request(&self, app: AppName, release: ReleaseNumber) -> Result<LoadedRelease, PreviewError> {
        request_load(&self.loader, app, release).await
    }
}

pub(super) type Outcome = Option<Result<LoadedRelease, PreviewError>>;

/// The previews of one app, and the loads in progress.
pub(super) struct Previews {
    /// All releases of the app in memory.
    resident: Arc<ResidentReleases>,
    /// In order of their last request, the most recent last.
    releases: Mutex<Vec<Arc<ActiveRelease>>>,
    /// Loads that are in progress or failed recently.
    loads: Mutex<HashMap<ReleaseNumber, watch::Receiver<Outcome>>>,
}

impl Previews {
    pub(super) fn new(resident: Arc<ResidentReleases>) -> Self {
        Self { resident, releases: Mutex::default(), loads: Mutex::default() }
    }

    pub(super) fn find(&self, number: ReleaseNumber) -> Option<Arc<ActiveRelease>> {
        let mut releases = self.lock();
        let at = releases.iter().position(|release| release.release() == Some(number))?;
        let release = releases.remove(at);
        releases.push(Arc::clone(&release));
        Some(release)
    }

    /// Adds a preview, and evicts the least recently requested if there are too many. Of two
    /// releases that were loaded concurrently, the first stays.
    fn insert(&self, release: Arc<ActiveRelease>) -> Arc<ActiveRelease> {
        if let Some(existing) = release.release().and_then(|number| self.find(number)) {
            return existing;
        }
        self.resident.add(&release);
        let mut releases = self.lock();
        if releases.len() >= limits::PREVIEWS_MAX {
            releases.remove(0);
        }
        releases.push(Arc::clone(&release));
        release
    }

    pub(super) fn remove(&self, number: ReleaseNumber) {
        self.lock().retain(|release| release.release() != Some(number));
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Evicts the previews that have been idle for `after`.
    pub(super) fn evict_idle(&self, now: Instant, after: Duration) {
        self.lock().retain(|release| release.idle_for(now) < after);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ActiveRelease>>> {
        self.releases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<ReleaseNumber, watch::Receiver<Outcome>>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the load of a release, or starts it.
    pub(super) fn load(
        self: &Arc<Self>,
        app: &AppName,
        release: ReleaseNumber,
        host: &Loads,
    ) -> watch::Receiver<Outcome> {
        let mut loads = self.loads();
        if let Some(load) = loads.get(&release) {
            return load.clone();
        }
        let (outcome, load) = watch::channel(None);
        let Ok(waiting) = Arc::clone(&host.preview_queue).try_acquire_owned() else {
            outcome.send_replace(Some(Err(too_many())));
            return load;
        };
        loads.insert(release, load.clone());
        let (permits, loader) = (Arc::clone(&host.preview_loads), host.loader.clone());
        let (previews, app) = (Arc::clone(self), app.clone());
        // A separate task, so that a client that disconnects doesn't cancel the load for other
        // clients.
        tokio::spawn(async move {
            let loaded = previews.load_and_insert((permits, waiting), &loader, app, release).await;
            let is_failure_cached = matches!(loaded, Err(PreviewError::Unavailable(_)));
            outcome.send_replace(Some(loaded));
            if is_failure_cached {
                tokio::time::sleep(limits::PREVIEW_RETRY_PAUSE).await;
            }
            previews.loads().remove(&release);
        });
        load
    }

    async fn load_and_insert(
        &self,
        (permits, waiting): (Arc<Semaphore>, OwnedSemaphorePermit),
        loader: &LoadSender,
        app: AppName,
        release: ReleaseNumber,
    ) -> Result<LoadedRelease, PreviewError> {
        let _permit = permits.acquire().await.map_err(|_| too_many())?;
        drop(waiting);
        let loaded = request_load(loader, app, release).await?;
        match loaded.serves {
            true => Ok(loaded),
            false => Ok(LoadedRelease { release: self.insert(loaded.release), serves: false }),
        }
    }
}

/// Sends a load request and waits for the reply.
async fn request_load(
    loader: &LoadSender,
    app: AppName,
    release: ReleaseNumber,
) -> Result<LoadedRelease, PreviewError> {
    let (reply, reply_receiver) = oneshot::channel();
    loader.send(LoadRequest { app, release, reply }).await.map_err(|_| too_many())?;
    reply_receiver.await.unwrap_or_else(|_| Err(too_many()))
}

pub(super) fn too_many() -> PreviewError {
    PreviewError::Unavailable("too many releases are being loaded; try again".to_owned())
}
