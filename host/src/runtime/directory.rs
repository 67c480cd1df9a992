//! All apps that traffic can reach, and the lookup of the release that takes a job. Never loads a
//! release itself.

use super::{
    app::{App, Availability},
    phase_times::PhaseTimes,
    plugin_use::PluginCalls,
    preview::{LoadSender, Loads, PreviewError, too_many},
    release::ActiveRelease,
};
use crate::runtime::limits;
use arc_swap::ArcSwap;
use isopod_policy::{AppName, Phase, PluginReference, ReleaseNumber};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::time::timeout;

/// All apps that traffic can reach, by name.
pub(crate) struct Directory {
    apps: ArcSwap<Apps>,
    /// The number of changes of `apps`.
    version: AtomicU64,
    loads: Loads,
}

type Apps = HashMap<String, Arc<App>, foldhash::fast::RandomState>;

impl Directory {
    /// Creates an empty directory. `loader` receives the requests to load releases that aren't in
    /// memory.
    pub(crate) fn new(loader: LoadSender) -> Self {
        Self { apps: ArcSwap::default(), version: AtomicU64::new(0), loads: Loads::new(loader) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<App>> {
        self.apps.load().get(name).cloned()
    }

    /// Returns a number that differs after an app was added or removed. A caller reads it before it
    /// looks an app up, and may use the result again while the number is the same.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns the release that serves an app, thawed or loaded if necessary, or the reason why no
    /// release serves.
    pub(crate) async fn serving(&self, app: &App) -> Result<Arc<ActiveRelease>, String> {
        match app.availability() {
            Availability::Ready(release) => Ok(release),
            Availability::Unavailable { reason } => Err(reason),
            // Boxed, so that the future of the other cases stays small.
            Availability::Cold(_) => Box::pin(self.load_cold(app)).await,
        }
    }

    /// Like [`Self::serving`], and adds the time of a thaw or a load to the request's phases.
    pub(crate) async fn serving_request(&self, app: &App, times: &PhaseTimes) -> Result<Arc<ActiveRelease>, String> {
        match app.active() {
            Some(release) => Ok(release),
            None => Box::pin(times.measure(Phase::Start, self.serving(app))).await,
        }
    }

    /// Returns the release of a plugin that an app uses. Like [`Self::serving`], except during the
    /// canary phase of the plugin's upgrade: then it may be the former release, if the app accepts
    /// its version. `calls` are the app's calls of the plugin.
    pub(crate) async fn serving_for(
        &self,
        plugin: &App,
        app: &AppName,
        used: &PluginReference,
        calls: &Arc<PluginCalls>,
    ) -> Result<Arc<ActiveRelease>, String> {
        let former = plugin.former_for(app, calls).filter(|former| former.ensure_accepted(used).is_ok());
        match former {
            Some(former) => Ok(former),
            None => {
                plugin.note_caller(app, calls);
                self.serving(plugin).await
            }
        }
    }

    /// Loads the release of a cold app, once for concurrent requests.
    async fn load_cold(&self, app: &App) -> Result<Arc<ActiveRelease>, String> {
        let _guard = app.load_lock.lock().await;
        match app.availability() {
            Availability::Ready(release) => Ok(release),
            Availability::Unavailable { reason } => Err(reason),
            Availability::Cold(number) => {
                // There is only one such load per app, so it waits for a permit; a preview would be
                // refused.
                let permit = timeout(limits::COLD_LOAD_WAIT, self.loads.cold_loads.acquire()).await;
                let _permit = permit.ok().and_then(Result::ok).ok_or_else(|| too_many().to_string())?;
                let loaded = self.loads.request(app.name().clone(), number).await.map_err(|error| error.to_string())?;
                app.track(&loaded.release);
                Ok(loaded.release)
            }
        }
    }

    /// Returns a release of an app by its number, and loads it as a preview if it doesn't serve.
    pub(crate) async fn preview(&self, app: &App, number: ReleaseNumber) -> Result<Arc<ActiveRelease>, PreviewError> {
        if let Some(serving) = app.serving().filter(|serving| serving.release() == Some(number)) {
            return Ok(serving);
        }
        if let Some(preview) = app.previews.find(number) {
            return Ok(preview);
        }
        let mut load = app.previews.load(app.name(), number, &self.loads);
        let outcome = load.wait_for(Option::is_some).await.map_err(|_| too_many())?.clone();
        outcome.unwrap_or_else(|| Err(too_many())).map(|loaded| loaded.release)
    }

    /// Adds several apps: each call copies the whole table.
    pub(crate) fn put(&self, new: &[Arc<App>]) {
        self.change(|apps| apps.extend(new.iter().map(|app| (app.name().to_string(), Arc::clone(app)))));
    }

    pub(crate) fn remove(&self, name: &AppName) {
        self.change(|apps| {
            apps.remove(name.as_str());
        });
    }

    fn change(&self, change: impl Fn(&mut Apps)) {
        self.apps.rcu(|apps| {
            let mut apps = Apps::clone(apps);
            change(&mut apps);
            apps
        });
        self.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{
        preview::LoadRequest,
        resources::{GuestRuntimes, HostResources},
    };
    use isopod_executor::{Config, Executor};
    use isopod_policy::{AppKind, AppType, Cores};
    use std::num::NonZeroUsize;
    use tokio::sync::mpsc;

    /// Rejects each load request, with the app's name as the reason.
    async fn reject_all(mut loader: mpsc::Receiver<LoadRequest>) {
        while let Some(request) = loader.recv().await {
            tokio::task::yield_now().await;
            drop(request.reply.send(Err(PreviewError::Unavailable(request.app.to_string()))));
        }
    }

    fn empty_directory(loader: LoadSender) -> Directory {
        Directory { apps: ArcSwap::default(), version: AtomicU64::new(0), loads: Loads::new(loader) }
    }

    #[tokio::test]
    async fn a_release_is_loaded_once_for_concurrent_previews_and_a_failure_is_shared() {
        let executor = Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started");
        let host = HostResources::new(executor, GuestRuntimes::on(tokio::runtime::Handle::current()));
        let (sender, mut loader) = mpsc::channel(1);
        let directory = empty_directory(sender);
        let app = App::new(
            "shop".parse().expect("a valid name"),
            AppKind::App,
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

    /// The state after the host starts: every app is cold.
    #[tokio::test]
    async fn concurrent_requests_to_cold_apps_wait_for_a_permit_and_previews_are_refused() {
        let host = HostResources::new(
            Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started"),
            GuestRuntimes::on(tokio::runtime::Handle::current()),
        );
        let (sender, loader) = mpsc::channel(2);
        let directory = empty_directory(sender);
        let first = "1".parse().expect("a valid number");
        let cold = |index| {
            let cores = Cores::new(1, 1).expect("valid cores");
            let app = App::new(
                format!("cold-{index}").parse().expect("a valid name"),
                AppKind::App,
                host.app_resources(AppType::Dev, cores),
            );
            app.install_cold(first);
            app
        };
        let apps: Vec<App> = (0..100).map(cold).collect();
        let loader_task = tokio::spawn(reject_all(loader));
        let replies = futures::future::join_all(apps.iter().map(|app| directory.serving(app))).await;
        for (app, reply) in apps.iter().zip(replies) {
            assert_eq!(reply.err().as_deref(), Some(app.name().as_ref()));
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
