//! Releases that are reached by their own URLs while another one serves: loaded once for all
//! visitors, a few at a time, kept for a while, and dropped again. Never loads a release itself:
//! the receiver of the load requests does.

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

/// A request to load a release that does not serve. The reply is the release, or why it is
/// unavailable.
pub(crate) struct PreviewRequest {
    pub(crate) app: AppName,
    pub(crate) release: ReleaseNumber,
    pub(crate) answer: oneshot::Sender<Result<LoadedRelease, PreviewError>>,
}

/// A release that was loaded.
#[derive(Clone)]
pub(crate) struct LoadedRelease {
    pub(crate) running: Arc<ActiveRelease>,
    /// Whether it is the serving release by now, since its app was cold.
    pub(crate) serves: bool,
}

/// The way to whoever loads releases.
pub(crate) type PreviewSender = mpsc::Sender<PreviewRequest>;

/// Why a release can't be visited, in text that is safe for visitors: the cause is in the app's
/// log.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PreviewError {
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Unavailable(String),
}

/// How many releases are loaded at one time, all apps together.
pub(super) struct Loads {
    loader: Arc<Semaphore>,
    /// PreviewSender whose load has not begun.
    waiting: Arc<Semaphore>,
    wakes: Semaphore,
}

impl Default for Loads {
    fn default() -> Self {
        Self {
            loader: Arc::new(Semaphore::new(limits::VISITS_LOADING_MAX)),
            waiting: Arc::new(Semaphore::new(limits::VISITS_WAITING)),
            wakes: Semaphore::new(limits::WAKES_LOADING_MAX),
        }
    }
}

type Outcome = Option<Result<LoadedRelease, PreviewError>>;

/// Releases of one app that were visited lately, and those that are being loaded.
#[derive(Default)]
pub(super) struct Previews {
    /// The latest last.
    kept: Mutex<Vec<Arc<ActiveRelease>>>,
    /// Releases that are being loaded, or failed to load a moment ago.
    loads: Mutex<HashMap<ReleaseNumber, watch::Receiver<Outcome>>>,
}

impl Previews {
    fn find(&self, release: ReleaseNumber) -> Option<Arc<ActiveRelease>> {
        let mut kept = self.lock();
        let at = kept.iter().position(|running| running.release() == Some(release))?;
        let running = kept.remove(at);
        kept.push(Arc::clone(&running));
        Some(running)
    }

    /// Keeps a release; of two that were loaded at the same time the first stays.
    fn keep(&self, running: Arc<ActiveRelease>) -> Arc<ActiveRelease> {
        if let Some(known) = running.release().and_then(|release| self.find(release)) {
            return known;
        }
        let mut kept = self.lock();
        if kept.len() >= limits::RELEASES_VISITED_MAX {
            kept.remove(0);
        }
        kept.push(Arc::clone(&running));
        running
    }

    pub(super) fn forget(&self, release: ReleaseNumber) {
        self.lock().retain(|running| running.release() != Some(release));
    }

    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    /// Lets go of those that nobody has visited for so long.
    pub(super) fn forget_idle(&self, now: Instant, after: Duration) {
        self.lock().retain(|running| running.idle_for(now) < after);
    }

    pub(super) fn all(&self) -> Vec<Arc<ActiveRelease>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ActiveRelease>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<ReleaseNumber, watch::Receiver<Outcome>>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the load of a release, or begins it.
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
        let Ok(waiting) = Arc::clone(&directory.loads.waiting).try_acquire_owned() else {
            outcome.send_replace(Some(Err(too_many())));
            return load;
        };
        loads.insert(release, load.clone());
        let (turns, loader) = (Arc::clone(&directory.loads.loader), directory.loader.clone());
        let (previews, app) = (Arc::clone(self), app.clone());
        // A separate task, so that a visitor who disconnects doesn't cancel the load for others.
        tokio::spawn(async move {
            let fetched = previews.fetch((turns, waiting), &loader, app, release).await;
            let is_kept = matches!(fetched, Err(PreviewError::Unavailable(_)));
            outcome.send_replace(Some(fetched));
            if is_kept {
                tokio::time::sleep(limits::VISIT_FAILED_FOR).await;
            }
            previews.loads().remove(&release);
        });
        load
    }

    async fn fetch(
        &self,
        (turns, waiting): (Arc<Semaphore>, OwnedSemaphorePermit),
        loader: &PreviewSender,
        app: AppName,
        release: ReleaseNumber,
    ) -> Result<LoadedRelease, PreviewError> {
        let _turn = turns.acquire().await.map_err(|_| too_many())?;
        drop(waiting);
        let fetched = fetched(loader, app, release).await?;
        match fetched.serves {
            true => Ok(fetched),
            false => Ok(LoadedRelease { running: self.keep(fetched.running), serves: false }),
        }
    }
}

impl Directory {
    /// A release of an app by its number, whether it serves or not.
    pub(crate) async fn visit(&self, app: &App, release: ReleaseNumber) -> Result<Arc<ActiveRelease>, PreviewError> {
        if let Some(serving) = app.serving().filter(|running| running.release() == Some(release)) {
            return Ok(serving);
        }
        if let Some(previews) = app.previews.find(release) {
            return Ok(previews);
        }
        let mut load = app.previews.load(&app.name, release, self);
        let outcome = load.wait_for(Option::is_some).await.map_err(|_| too_many())?.clone();
        outcome.unwrap_or_else(|| Err(too_many())).map(|fetched| fetched.running)
    }

    /// The release that serves an app, thawed or loaded if need be; else why none does.
    pub(crate) async fn serving(&self, app: &App) -> Result<Arc<ActiveRelease>, String> {
        match app.availability() {
            Availability::Ready(running) => Ok(running),
            Availability::Unavailable { reason } => Err(reason),
            Availability::Cold(_) => self.wake(app).await,
        }
    }

    /// Has the release of a cold app loaded, once for all who come at the same moment.
    async fn wake(&self, app: &App) -> Result<Arc<ActiveRelease>, String> {
        let _one_for_all = app.load_lock.lock().await;
        match app.availability() {
            Availability::Ready(running) => Ok(running),
            Availability::Unavailable { reason } => Err(reason),
            Availability::Cold(release) => {
                // It is the app itself, and each app asks once: it waits for its turn.
                let turn = timeout(limits::WAKE_WAIT, self.loads.wakes.acquire()).await;
                let _turn = turn.ok().and_then(Result::ok).ok_or_else(|| too_many().to_string())?;
                let fetched = fetched(&self.loader, app.name.clone(), release).await;
                fetched.map(|fetched| fetched.running).map_err(|no_visit| no_visit.to_string())
            }
        }
    }
}

/// Has a release loaded.
async fn fetched(loader: &PreviewSender, app: AppName, release: ReleaseNumber) -> Result<LoadedRelease, PreviewError> {
    let (answer, answered) = oneshot::channel();
    loader.send(PreviewRequest { app, release, answer }).await.map_err(|_| too_many())?;
    answered.await.unwrap_or_else(|_| Err(too_many()))
}

fn too_many() -> PreviewError {
    PreviewError::Unavailable("too many releases are being fetched; try again".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Guests, HostResources};
    use isopod_executor::{Config, Executor};
    use isopod_policy::{AppType, Cores};
    use std::num::NonZeroUsize;

    /// Says of whatever it is asked for that it is not there.
    async fn fetch_in_vain(mut loader: mpsc::Receiver<PreviewRequest>) {
        while let Some(visit) = loader.recv().await {
            tokio::task::yield_now().await;
            drop(visit.answer.send(Err(PreviewError::Unavailable(visit.app.to_string()))));
        }
    }

    #[tokio::test]
    async fn a_release_is_loaded_once_for_all_visitors_and_a_failure_is_shared() {
        let executor = Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started");
        let host = HostResources::new(executor, Guests::on(tokio::runtime::Handle::current()));
        let (sender, mut loader) = mpsc::channel(1);
        let directory = Directory { apps: Default::default(), loader: sender, loads: Loads::default() };
        let app = App::new(
            "shop".parse().expect("is a name"),
            host.resources(AppType::Dev, Cores::new(1, 1).expect("are cores")),
        );
        let [first, second] = ["1", "2"].map(|number| number.parse().expect("is a number"));
        let answering = async {
            let mut asked = Vec::new();
            while asked.len() < 2 {
                let visit = loader.recv().await.expect("a visit");
                asked.push(visit.release);
                drop(visit.answer.send(Err(PreviewError::Unavailable("not now".to_owned()))));
            }
            asked
        };
        let visitors = futures::future::join_all((0..60).map(|index| {
            let release = if index % 2 == 0 { first } else { second };
            directory.visit(&app, release)
        }));
        let (mut asked, previews) = tokio::join!(answering, visitors);
        asked.sort();
        assert_eq!(asked, [first, second]);
        assert!(previews.iter().all(|previews| previews.as_ref().is_err_and(|error| error.to_string() == "not now")));
        // A load that has just failed is not retried for each visitor.
        assert!(directory.visit(&app, first).await.is_err());
        assert!(loader.try_recv().is_err());
    }

    /// As all are after a start of the host.
    #[tokio::test]
    async fn cold_apps_that_are_asked_for_at_the_same_moment_wait_for_their_turn_and_visitors_do_not() {
        let host = HostResources::new(
            Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started"),
            Guests::on(tokio::runtime::Handle::current()),
        );
        let (sender, loader) = mpsc::channel(2);
        let directory = Directory { apps: Default::default(), loader: sender, loads: Loads::default() };
        let first = "1".parse().expect("is a number");
        let cold = |index| {
            let cores = Cores::new(1, 1).expect("are cores");
            let app =
                App::new(format!("cold-{index}").parse().expect("is a name"), host.resources(AppType::Dev, cores));
            app.install_cold(first);
            app
        };
        let apps: Vec<App> = (0..100).map(cold).collect();
        let fetching = tokio::spawn(fetch_in_vain(loader));
        let heard = futures::future::join_all(apps.iter().map(|app| directory.serving(app))).await;
        for (app, heard) in apps.iter().zip(heard) {
            assert_eq!(heard.err().as_deref(), Some(app.name.as_ref()));
        }
        let previews = futures::future::join_all(apps.iter().map(|app| directory.visit(app, first))).await;
        let busy = previews
            .into_iter()
            .filter(|previews| previews.as_ref().is_err_and(|no_visit| no_visit.to_string().starts_with("too many")));
        assert_eq!(busy.count(), 100 - limits::VISITS_WAITING);
        drop(directory);
        fetching.await.expect("it ends with the directory");
    }
}
