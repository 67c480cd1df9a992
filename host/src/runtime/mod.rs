//! Which apps there are, what each of them serves now, and its instances. Never knows where a job came from.
//!
//! ```text
//!  ingress, API ──> Directory ──> App ──> ActiveRelease (one release) ──> Pool (one per process type) ──> Instance
//! ```
//!
//! A new release is put in the old one's place with one atomic store: whatever was accepted before stays with the old
//! release, which goes when its last job is done.

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

pub(crate) use guest_runtime::Guests;
pub(crate) use invoke::InvokeError;
pub(crate) use pool::PoolCounters;
pub(crate) use preview::{LoadedRelease, PreviewError, PreviewRequest, PreviewSender};
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

/// Every app that traffic can reach, by name.
pub(crate) struct Directory {
    apps: ArcSwap<HashMap<String, Arc<App>>>,
    loader: PreviewSender,
    loads: Loads,
}

impl Directory {
    /// `visits` is asked for releases that do not serve.
    pub(crate) fn new(loader: PreviewSender) -> Self {
        Self { apps: ArcSwap::default(), loader, loads: Loads::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<App>> {
        self.apps.load().get(name).cloned()
    }

    /// Puts apps in, all at once: each call copies the whole table.
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

/// One app, as traffic sees it.
pub(crate) struct App {
    name: AppName,
    resources: Arc<AppResources>,
    serving: ArcSwap<Serving>,
    /// The text of the latest build, if it failed, to be shown to people who look at the app in a browser.
    build_error: ArcSwapOption<String>,
    previews: Arc<Previews>,
    /// Held by whoever thaws the release, so that one does it for all who come at the same moment.
    thaw_lock: Mutex<()>,
    /// The same for whoever has it loaded.
    load_lock: tokio::sync::Mutex<()>,
}

/// What an app does with a job.
enum Serving {
    /// It gives it to this release.
    Release(Arc<ActiveRelease>),
    /// It thaws this release, and gives it to that.
    Frozen(Frozen),
    /// It has this release loaded first: nobody has asked for it since the host started.
    Cold(ReleaseNumber),
    /// It refuses it, for this reason.
    Nothing { reason: String },
}

/// Whether an app can take a job.
enum Availability {
    Ready(Arc<ActiveRelease>),
    /// Once this release is loaded.
    Cold(ReleaseNumber),
    Unavailable {
        reason: String,
    },
}

impl App {
    pub(crate) fn new(name: AppName, resources: Arc<AppResources>) -> Self {
        let nothing = Serving::Nothing { reason: "nothing was deployed to the app yet".into() };
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

    /// What it has of the machine.
    pub(crate) fn resources(&self) -> &Arc<AppResources> {
        &self.resources
    }

    /// Gives it other cores.
    pub(crate) fn set_cores(&self, cores: Cores) {
        self.resources.set_cores(cores);
    }

    /// Serves this release from now on. The one before, which is handed back, finishes what it accepted.
    pub(crate) fn install(&self, running: Arc<ActiveRelease>) -> Option<Arc<ActiveRelease>> {
        if let Some(release) = running.release() {
            self.previews.forget(release);
        }
        running.set_standby(false);
        if let Some(before) = self.awake() {
            running.take_over(&before);
        }
        self.serve(Serving::Release(running))
    }

    /// Serves this release from now on, which is loaded when somebody first asks for it.
    pub(crate) fn install_cold(&self, release: ReleaseNumber) {
        drop(self.serve(Serving::Cold(release)));
    }

    /// Serves a release that was loaded because the app was cold. False if it is so no longer.
    pub(crate) fn warm_up(&self, running: &Arc<ActiveRelease>) -> bool {
        let before = self.serving.load_full();
        let Serving::Cold(release) = *before else { return false };
        if running.release() != Some(release) {
            return false;
        }
        let replaced = self.serving.compare_and_swap(&before, Arc::new(Serving::Release(Arc::clone(running))));
        Arc::ptr_eq(&replaced, &before)
    }

    /// The release that is to be loaded when somebody asks.
    pub(crate) fn cold(&self) -> Option<ReleaseNumber> {
        match **self.serving.load() {
            Serving::Cold(release) => Some(release),
            Serving::Release(_) | Serving::Frozen(_) | Serving::Nothing { .. } => None,
        }
    }

    /// Serves nothing from now on. What was accepted is finished by the release that is handed back.
    pub(crate) fn set_stopped(&self, reason: impl Into<String>) -> Option<Arc<ActiveRelease>> {
        self.previews.forget_all();
        self.serve(Serving::Nothing { reason: reason.into() })
    }

    fn serve(&self, serving: Serving) -> Option<Arc<ActiveRelease>> {
        match &*self.serving.swap(Arc::new(serving)) {
            Serving::Release(running) => {
                running.set_standby(true);
                Some(Arc::clone(running))
            }
            // Whoever replaces a release may want it back.
            Serving::Frozen(frozen) => frozen.thaw(&self.resources).ok().map(Arc::new),
            Serving::Cold(_) | Serving::Nothing { .. } => None,
        }
    }

    /// The release that serves, if one does and is not frozen.
    pub(crate) fn awake(&self) -> Option<Arc<ActiveRelease>> {
        match &**self.serving.load() {
            Serving::Release(running) => Some(Arc::clone(running)),
            Serving::Frozen(_) | Serving::Cold(_) | Serving::Nothing { .. } => None,
        }
    }

    /// The release that serves, thawed if need be; none while it still has to be loaded.
    pub(crate) fn serving(&self) -> Option<Arc<ActiveRelease>> {
        match self.availability() {
            Availability::Ready(running) => Some(running),
            Availability::Cold(_) | Availability::Unavailable { .. } => None,
        }
    }

    /// Waits until all of its work is done that was accepted, whichever release does it. Only of use once no new work can
    /// come.
    pub(crate) async fn drained(&self) {
        self.resources.drained().await;
    }

    /// Ends all that is not done, for good.
    pub(crate) fn end(&self) {
        self.resources.cancellation().end();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.resources.cancellation().is_over()
    }

    /// Whether anything of it is in memory to do its work, or is just finishing some.
    pub(crate) fn is_at_work(&self) -> bool {
        self.awake().is_some() || self.resources.is_at_work()
    }

    /// Whether a release serves, frozen or not.
    pub(crate) fn is_up(&self) -> bool {
        match **self.serving.load() {
            Serving::Release(_) | Serving::Frozen(_) | Serving::Cold(_) => true,
            Serving::Nothing { .. } => false,
        }
    }

    /// The release that is frozen now.
    pub(crate) fn frozen(&self) -> Option<ReleaseNumber> {
        match &**self.serving.load() {
            Serving::Frozen(frozen) => Some(frozen.release()),
            Serving::Cold(release) => Some(*release),
            Serving::Release(_) | Serving::Nothing { .. } => None,
        }
    }

    /// Lets go of the instances and the code of a release that has nothing to do. False if it must stay as it is.
    pub(crate) fn freeze(&self) -> bool {
        let before = self.serving.load_full();
        let Serving::Release(running) = &*before else { return false };
        let Some(frozen) = running.freeze() else { return false };
        // Whoever took the release a moment ago still has it, and is answered by it.
        let replaced = self.serving.compare_and_swap(&before, Arc::new(Serving::Frozen(frozen)));
        self.previews.forget_all();
        self.resources.rest();
        Arc::ptr_eq(&replaced, &before)
    }

    /// Lets go of releases that were reached by their own URLs, and are so no longer.
    pub(crate) fn evict_idle_previews(&self, now: Instant, after: Duration) {
        self.previews.forget_idle(now, after);
    }

    fn thaw(&self) -> Availability {
        let _one_for_all = self.thaw_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.serving.load_full();
        let frozen = match &*before {
            Serving::Frozen(frozen) => frozen,
            Serving::Release(running) => return Availability::Ready(Arc::clone(running)),
            Serving::Cold(release) => return Availability::Cold(*release),
            Serving::Nothing { reason } => return Availability::Unavailable { reason: reason.clone() },
        };
        match frozen.thaw(&self.resources) {
            Ok(running) => {
                let running = Arc::new(running);
                // Where another release was put here meanwhile, this one answers one request more.
                self.serving.compare_and_swap(&before, Arc::new(Serving::Release(Arc::clone(&running))));
                Availability::Ready(running)
            }
            Err(rejected) => {
                // Paths on the host must not reach clients.
                tracing::warn!(app = %self.name, %rejected, "a frozen release can't be thawed");
                Availability::Unavailable { reason: "its code can't be read now".to_owned() }
            }
        }
    }

    /// What takes work: the release that serves, and those that somebody visits by their own URLs.
    fn running(&self) -> impl Iterator<Item = Arc<ActiveRelease>> {
        self.awake().into_iter().chain(self.previews.all())
    }

    /// The release that takes work for an instance.
    pub(crate) fn with_instance(&self, id: &InstanceId) -> Option<Arc<ActiveRelease>> {
        self.running().find(|running| running.has_instance(id))
    }

    /// What runs of this app, newest release first: also what replaced releases still have to finish, or keep to serve
    /// again.
    pub(crate) fn instances(&self) -> Vec<LiveInstance> {
        let of_pools = self.resources.pools().into_iter().flat_map(|pool| {
            let (release, process) = (pool.release(), pool.process().clone());
            pool.seen().into_iter().map(move |seen| LiveInstance { release, process: process.clone(), seen })
        });
        let of_commands = self.running().flat_map(|running| running.seen_commands().collect::<Vec<_>>());
        let mut all: Vec<_> = of_pools.chain(of_commands).collect();
        all.sort_by_key(|instance| std::cmp::Reverse(instance.release));
        all
    }

    /// Ends an instance, after what it is doing, and starts a new one under its id; false if there is none.
    pub(crate) fn restart(&self, id: &InstanceId) -> bool {
        self.resources.pools().iter().any(|pool| pool.restart(id))
            || self.running().any(|running| running.restart_command(id))
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
