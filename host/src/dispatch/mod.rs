//! Which apps there are, what each of them serves now, and its instances. Never knows where a job came from.
//!
//! ```text
//!  ingress, API ──> Directory ──> App ──> Running (one release) ──> Pool (one per process type) ──> Instance
//! ```
//!
//! A new release is put in the old one's place with one atomic store: whatever was accepted before stays with the old
//! release, which goes when its last job is done.

mod call;
mod pool;

pub(crate) use call::Refused;

use arc_swap::{ArcSwap, ArcSwapOption};
use isopod_engine::{Instance, Program};
use isopod_policy::{AppName, Entry, Isolation, Process, ReleaseNumber};
use pool::Pool;
use std::{collections::HashMap, sync::Arc};

/// Every app that traffic can reach, by name.
#[derive(Default)]
pub(crate) struct Directory {
    apps: ArcSwap<HashMap<String, Arc<App>>>,
}

impl Directory {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<App>> {
        self.apps.load().get(name).cloned()
    }

    pub(crate) fn put(&self, app: Arc<App>) {
        self.change(|apps| {
            apps.insert(app.name.to_string(), Arc::clone(&app));
        });
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

/// One app, as traffic sees it.
pub(crate) struct App {
    name: AppName,
    serving: ArcSwap<Serving>,
    /// The text of the latest build, if it failed, to be shown to people who look at the app in a browser.
    build_error: ArcSwapOption<String>,
}

/// What an app does with a job.
enum Serving {
    /// It gives it to this release.
    Release(Arc<Running>),
    /// It refuses it, for this reason.
    Nothing { reason: String },
}

/// Whether an app can take a job.
pub(crate) enum Availability {
    Ready(Arc<Running>),
    Unavailable { reason: String },
}

impl App {
    pub(crate) fn new(name: AppName) -> Self {
        let nothing = Serving::Nothing { reason: "nothing was deployed to the app yet".into() };
        Self { name, serving: ArcSwap::from_pointee(nothing), build_error: ArcSwapOption::empty() }
    }

    pub(crate) fn name(&self) -> &AppName {
        &self.name
    }

    /// Serves this release from now on. The one before finishes what it accepted.
    pub(crate) fn install(&self, running: Running) {
        self.serving.store(Arc::new(Serving::Release(Arc::new(running))));
    }

    /// Serves nothing from now on. What was accepted is finished.
    pub(crate) fn set_stopped(&self, reason: impl Into<String>) -> Option<Arc<Running>> {
        let before = self.serving.swap(Arc::new(Serving::Nothing { reason: reason.into() }));
        match &*before {
            Serving::Release(running) => Some(Arc::clone(running)),
            Serving::Nothing { .. } => None,
        }
    }

    pub(crate) fn is_serving(&self) -> bool {
        matches!(**self.serving.load(), Serving::Release(_))
    }

    pub(crate) fn availability(&self) -> Availability {
        match &**self.serving.load() {
            Serving::Release(running) => Availability::Ready(Arc::clone(running)),
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

/// One release at work: a pool of instances for each of its process types that answer anybody.
pub(crate) struct Running {
    release: Option<ReleaseNumber>,
    program: Program,
    http: Option<Arc<Pool>>,
    events: Option<Arc<Pool>>,
}

impl Running {
    /// `first` is an instance that was started to see whether the program is well.
    pub(crate) fn new(
        release: Option<ReleaseNumber>,
        program: Program,
        processes: &[(String, Process)],
        isolation: Isolation,
        first: Option<Instance>,
    ) -> Self {
        let isolation = if program.info().single_use { Isolation::Request } else { isolation };
        let pool = |entry: Entry| {
            let (_, process) = processes.iter().find(|(_, process)| process.entry == entry)?;
            let limits = &program.sandbox().limits;
            let max = process.max.min(limits.instances_max).max(1);
            Some(Arc::new(Pool::new(isolation, max, limits.queue_max)))
        };
        let running = Self { release, http: pool(Entry::Http), events: pool(Entry::Events), program: program.clone() };
        if let (Some(instance), Some(pool)) = (first, running.http.as_ref().or(running.events.as_ref())) {
            pool.add(Box::new(instance));
        }
        running
    }

    pub(crate) fn release(&self) -> Option<ReleaseNumber> {
        self.release
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Waits until nothing that was accepted is left. Only of use once no new job can come.
    pub(crate) async fn drained(&self) {
        for pool in [&self.http, &self.events].into_iter().flatten() {
            pool.drained().await;
        }
    }
}
