//! Previews: releases that clients request by their own URLs while another release serves. Loads a
//! release once for concurrent requests, limits concurrent loads, and evicts idle previews. Never
//! loads a release itself: the receiver of the load requests does.

use super::{ActiveRelease, App, Availability, Directory};
use crate::limits;
use isopod_policy::{AppName, ReleaseNumber};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};

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
    pub(crate) running: Arc<ActiveRelease>,
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

/// Limits of concurrent loads, for all apps together.
pub(super) struct Loads {
    /// One permit per preview that is being loaded.
    preview_loads: Arc<Semaphore>,
    /// One permit per preview that waits to be loaded.
    preview_queue: Arc<Semaphore>,
    /// One permit per cold app that is being loaded.
    cold_loads: Semaphore,
}

impl Default for Loads {
    fn default() -> Self {
        Self {
            preview_loads: Arc::new(Semaphore::new(limits::PREVIEWS_LOADING_MAX)),
            preview_queue: Arc::new(Semaphore::new(limits::PREVIEWS_QUEUED_MAX)),
            cold_loads: Semaphore::new(limits::COLD_RELEASES_LOADING_MAX),
        }
    }
}

type Outcome = Option<Result<LoadedRelease, PreviewError>>;

/// The previews of one app, and the loads in progress.
#[derive(Default)]
pub(super) struct Previews {
    /// In order of their last request, the most recent last.
    releases: Mutex<Vec<Arc<ActiveRelease>>>,
    /// Loads that are in progress or failed recently.
    loads: Mutex<HashMap<ReleaseNumber, watch::Receiver<Outcome>>>,
}

impl Previews {
    fn find(&self, release: ReleaseNumber) -> Option<Arc<ActiveRelease>> {
        let mut releases = self.lock();
        let at = releases.iter().position(|running| running.release() == Some(release))?;
        let running = releases.remove(at);
        releases.push(Arc::clone(&running));
        Some(running)
    }

    /// Adds a preview, and evicts the least recently requested if there are too many. Of two
    /// releases that were loaded concurrently, the first stays.
    fn insert(&self, running: Arc<ActiveRelease>) -> Arc<ActiveRelease> {
        if let Some(existing) = running.release().and_then(|release| self.find(release)) {
            return existing;
        }
        let mut releases = self.lock();
        if releases.len() >= limits::PREVIEWS_MAX {
            releases.remove(0);
        }
        releases.push(Arc::clone(&running));
        running
    }

    pub(super) fn remove(&self, release: ReleaseNumber) {
        self.lock().retain(|running| running.release() != Some(release));
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Evicts the previews that have been idle for `after`.
    pub(super) fn evict_idle(&self, now: Instant, after: Duration) {
        self.lock().retain(|running| running.idle_for(now) < after);
    }

    pub(super) fn all(&self) -> Vec<Arc<ActiveRelease>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ActiveRelease>>> {
        self.releases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<ReleaseNumber, watch::Receiver<Outcome>>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the load of a release, or starts it.
    fn load(
        self: &Arc<Self>,
        app: &AppName,
        release: ReleaseNumber,
        directory: &Directory,
    ) -> watch::Receiver<Outcome> {
        let mut loads = self.loads();
        if let Some(load) = loads.get(&release) {
            return load.clone();
        }
        let (outcome, load) = watch::channel(None);
        let Ok(waiting) = Arc::clone(&directory.loads.preview_queue).try_acquire_owned() else {
            outcome.send_replace(Some(Err(too_many())));
            return load;
        };
        loads.insert(release, load.clone());
        let (permits, loader) = (Arc::clone(&directory.loads.preview_loads), directory.loader.clone());
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
            false => Ok(LoadedRelease { running: self.insert(loaded.running), serves: false }),
        }
    }
}

impl Directory {
    /// Returns a release of an app by its number, and loads it as a preview if it doesn't serve.
    pub(crate) async fn preview(&self, app: &App, release: ReleaseNumber) -> Result<Arc<ActiveRelease>, PreviewError> {
        if let Some(serving) = app.serving().filter(|running| running.release() == Some(release)) {
            return Ok(serving);
        }
        if let Some(running) = app.previews.find(release) {
            return Ok(running);
        }
        let mut load = app.previews.load(&app.name, release, self);
        let outcome = load.wait_for(Option::is_some).await.map_err(|_| too_many())?.clone();
        outcome.unwrap_or_else(|| Err(too_many())).map(|loaded| loaded.running)
    }

    /// Returns the release that serves an app, thawed or loaded if necessary, or the reason why no
    /// release serves.
    pub(crate) async fn serving(&self, app: &App) -> Result<Arc<ActiveRelease>, String> {
        match app.availability() {
            Availability::Ready(running) => Ok(running),
            Availability::Unavailable { reason } => Err(reason),
            Availability::Cold(_) => self.load_cold(app).await,
        }
    }

    /// Loads the release of a cold app, once for concurrent requests.
    async fn load_cold(&self, app: &App) -> Result<Arc<ActiveRelease>, String> {
        let _guard = app.load_lock.lock().await;
        match app.availability() {
            Availability::Ready(running) => Ok(running),
            Availability::Unavailable { reason } => Err(reason),
            Availability::Cold(release) => {
                // There is only one such load per app, so it waits for a permit; a preview would be
                // refused.
                let permit = timeout(limits::COLD_LOAD_WAIT, self.loads.cold_loads.acquire()).await;
                let _permit = permit.ok().and_then(Result::ok).ok_or_else(|| too_many().to_string())?;
                let loaded = request_load(&self.loader, app.name.clone(), release).await;
                loaded.map(|loaded| loaded.running).map_err(|error| error.to_string())
            }
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

fn too_many() -> PreviewError {
    PreviewError::Unavailable("too many releases are being loaded; try again".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{GuestRuntimes, HostResources};
    use isopod_executor::{Config, Executor};
    use isopod_policy::{AppType, Cores};
    use std::num::NonZeroUsize;

    /// Rejects each load request, with the app's name as the reason.
    async fn reject_all(mut loader: mpsc::Receiver<LoadRequest>) {
        while let Some(request) = loader.recv().await {
            tokio::task::yield_now().await;
            drop(request.reply.send(Err(PreviewError::Unavailable(request.app.to_string()))));
        }
    }

    #[tokio::test]
    async fn a_release_is_loaded_once_for_concurrent_previews_and_a_failure_is_shared() {
        let executor = Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started");
        let host = HostResources::new(executor, GuestRuntimes::on(tokio::runtime::Handle::current()));
        let (sender, mut loader) = mpsc::channel(1);
        let directory = Directory { apps: Default::default(), loader: sender, loads: Loads::default() };
        let app = App::new(
            "shop".parse().expect("a valid name"),
            host.app_resources(AppType::Dev, Cores::new(1, 1).expect("valid cores")),
        );
        let [first, second] = ["1", "2"].map(|number| number.parse().expect("a valid number"));
        let replying = async {
            let mut requested = Vec::new();
            while requested.len() < 2 {
                let request = loader.recv().await.expect("a load request");
                requested.push(request.release);
                drop(request.reply.send(Err(PreviewError::Unavailable("not now".to_owned()))));
            }
            requested
        };
        let clients = futures::future::join_all((0..60).map(|index| {
            let release = if index % 2 == 0 { first } else { second };
            directory.preview(&app, release)
        }));
        let (mut requested, outcomes) = tokio::join!(replying, clients);
        requested.sort();
        assert_eq!(requested, [first, second]);
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.to_string() == "not now")));
        // A failed load isn't retried immediately for the next request.
        assert!(directory.preview(&app, first).await.is_err());
        assert!(loader.try_recv().is_err());
    }

    /// After the host starts, every app is cold.
    #[tokio::test]
    async fn concurrent_requests_to_cold_apps_wait_for_a_permit_and_previews_are_refused() {
        let host = HostResources::new(
            Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started"),
            GuestRuntimes::on(tokio::runtime::Handle::current()),
        );
        let (sender, loader) = mpsc::channel(2);
        let directory = Directory { apps: Default::default(), loader: sender, loads: Loads::default() };
        let first = "1".parse().expect("a valid number");
        let cold = |index| {
            let cores = Cores::new(1, 1).expect("valid cores");
            let app = App::new(
                format!("cold-{index}").parse().expect("a valid name"),
                host.app_resources(AppType::Dev, cores),
            );
            app.install_cold(first);
            app
        };
        let apps: Vec<App> = (0..100).map(cold).collect();
        let loader_task = tokio::spawn(reject_all(loader));
        let replies = futures::future::join_all(apps.iter().map(|app| directory.serving(app))).await;
        for (app, reply) in apps.iter().zip(replies) {
            assert_eq!(reply.err().as_deref(), Some(app.name.as_ref()));
        }
        let outcomes = futures::future::join_all(apps.iter().map(|app| directory.preview(app, first))).await;
        let busy = outcomes
            .into_iter()
            .filter(|outcome| outcome.as_ref().is_err_and(|error| error.to_string().starts_with("too many")));
        assert_eq!(busy.count(), 100 - limits::PREVIEWS_QUEUED_MAX);
        drop(directory);
        loader_task.await.expect("the loader task ends with the directory");
    }
}
