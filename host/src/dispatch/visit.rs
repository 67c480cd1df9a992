//! Releases that are reached by their own URLs while another one serves: asked for when somebody comes, kept for a few
//! visitors, and let go again. Never loads a release itself: that is asked of whoever listens to the visits.

use super::{App, Availability, Directory, Running};
use crate::limits;
use isopod_policy::{AppName, ReleaseNumber};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Somebody wants a release that does not serve. The answer says why it can't be had.
pub(crate) struct Visit {
    pub(crate) app: AppName,
    pub(crate) release: ReleaseNumber,
    pub(crate) answer: oneshot::Sender<Result<Arc<Running>, NoVisit>>,
}

/// The way to whoever loads releases.
pub(crate) type Visits = mpsc::Sender<Visit>;

/// Why a release can't be visited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoVisit {
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Unavailable(String),
}

/// Releases of one app that were visited lately, the latest last.
#[derive(Default)]
pub(super) struct Visited(Mutex<Vec<Arc<Running>>>);

impl Visited {
    fn find(&self, release: ReleaseNumber) -> Option<Arc<Running>> {
        let mut kept = self.lock();
        let at = kept.iter().position(|running| running.release() == Some(release))?;
        let running = kept.remove(at);
        kept.push(Arc::clone(&running));
        Some(running)
    }

    /// Keeps a release; of two that were loaded at the same time the first stays.
    fn keep(&self, running: Arc<Running>) -> Arc<Running> {
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

    pub(super) fn all(&self) -> Vec<Arc<Running>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory {
    /// A release of an app by its number, whether it serves or not.
    pub(crate) async fn visit(&self, app: &App, release: ReleaseNumber) -> Result<Arc<Running>, NoVisit> {
        if let Some(serving) = app.serving().filter(|running| running.release() == Some(release)) {
            return Ok(serving);
        }
        if let Some(visited) = app.visited.find(release) {
            return Ok(visited);
        }
        // Strangers may ask for many of them.
        let place = self.visits.try_reserve().map_err(|_| too_many())?;
        let running = fetched(place, app, release).await?;
        if app.awake().is_some_and(|serving| Arc::ptr_eq(&serving, &running)) {
            return Ok(running);
        }
        Ok(app.visited.keep(running))
    }

    /// The release that serves an app, thawed or loaded if need be; else why none does.
    pub(crate) async fn serving(&self, app: &App) -> Result<Arc<Running>, String> {
        match app.availability() {
            Availability::Ready(running) => Ok(running),
            Availability::Unavailable { reason } => Err(reason),
            Availability::Cold(_) => self.wake(app).await,
        }
    }

    /// Has the release of a cold app loaded, once for all who come at the same moment.
    async fn wake(&self, app: &App) -> Result<Arc<Running>, String> {
        let _one_for_all = app.waking.lock().await;
        match app.availability() {
            Availability::Ready(running) => Ok(running),
            Availability::Unavailable { reason } => Err(reason),
            Availability::Cold(release) => {
                // It is the app itself, and each app asks once: it waits for its turn.
                let place = timeout(limits::WAKE_WAIT, self.visits.reserve()).await;
                let place = place.ok().and_then(Result::ok).ok_or_else(|| too_many().to_string())?;
                fetched(place, app, release).await.map_err(|no_visit| no_visit.to_string())
            }
        }
    }
}

/// Has a release loaded, now that there is a place for that.
async fn fetched(place: mpsc::Permit<'_, Visit>, app: &App, release: ReleaseNumber) -> Result<Arc<Running>, NoVisit> {
    let (answer, answered) = oneshot::channel();
    place.send(Visit { app: app.name.clone(), release, answer });
    answered.await.unwrap_or_else(|_| Err(too_many()))
}

fn too_many() -> NoVisit {
    NoVisit::Unavailable("too many releases are being fetched; try again".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{Guests, Machine};
    use isopod_executor::{Config, Executor};
    use isopod_policy::{AppType, Cores};
    use std::num::NonZeroUsize;

    /// Says of whatever it is asked for that it is not there.
    async fn fetch_in_vain(mut visits: mpsc::Receiver<Visit>) {
        while let Some(visit) = visits.recv().await {
            tokio::task::yield_now().await;
            drop(visit.answer.send(Err(NoVisit::Unavailable(visit.app.to_string()))));
        }
    }

    /// As all are after a start of the host.
    #[tokio::test]
    async fn cold_apps_that_are_asked_for_at_the_same_moment_wait_for_their_turn_and_visitors_do_not() {
        let machine = Machine::new(
            Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started"),
            Guests::on(tokio::runtime::Handle::current()),
        );
        let (sender, visits) = mpsc::channel(2);
        let directory = Directory { apps: Default::default(), visits: sender };
        let first = "1".parse().expect("is a number");
        let cold = |index| {
            let cores = Cores::new(1, 1).expect("are cores");
            let app = App::new(format!("cold-{index}").parse().expect("is a name"), machine.share(AppType::Dev, cores));
            app.install_cold(first);
            app
        };
        let apps: Vec<App> = (0..100).map(cold).collect();
        let fetching = tokio::spawn(fetch_in_vain(visits));
        let heard = futures::future::join_all(apps.iter().map(|app| directory.serving(app))).await;
        for (app, heard) in apps.iter().zip(heard) {
            assert_eq!(heard.err().as_deref(), Some(app.name.as_ref()));
        }
        let visited = futures::future::join_all(apps.iter().map(|app| directory.visit(app, first))).await;
        let busy = visited
            .into_iter()
            .filter(|visited| visited.as_ref().is_err_and(|no_visit| no_visit.to_string().starts_with("too many")));
        assert_eq!(busy.count(), 98);
        drop(directory);
        fetching.await.expect("it ends with the directory");
    }
}
