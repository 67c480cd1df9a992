//! Owns the way from a bundle to a serving release, and the life of an app: create, push, start, stop, delete. The
//! pure rules are in the policy crate, running is the engine's, remembering is the store's.

mod app;
mod background;
pub(crate) mod data_folder;
mod data_gate;
mod error;
mod failpoint;
pub(crate) mod key_value;
mod lifecycle;
mod push;
mod queries;
mod release;
mod settings;
mod startup;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use isopod_engine::Engine;
use isopod_policy::{AppName, Cores, PushId};
use isopod_store::{Control, NewActivity, Store};
use tokio::{
    sync::{Semaphore, broadcast, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    app::{AppRecord, BuildError},
    error::{DeployError, Failure},
    lifecycle::APP_DESTROYED,
    push::progress::{PushNow, Step},
    push::upload::{Received, Upload},
    settings::Change,
    startup::Restored,
};
use self::{background::activity_log::Record, background::scheduler::Schedules, push::progress::LivePush};
use crate::{
    config, limits,
    observe::{logs::Logs, machine, metrics::Metrics},
    runtime,
};

/// What the deployer works with.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    pub(crate) directory: Arc<runtime::Directory>,
    pub(crate) logs: Logs,
    pub(crate) metrics: Metrics,
    pub(crate) pushes: config::Pushes,
    /// What apps divide among them, and how many cores each gets of it.
    pub(crate) machine: runtime::HostResources,
    pub(crate) cores: Cores,
    /// Over which the peak of a pool counts for its size.
    pub(crate) scale_window: Duration,
    /// How many instances one app may keep without being asked.
    pub(crate) app_instances_max: u32,
    pub(crate) watch: Arc<machine::Watch>,
    /// How long an app goes unasked before it is frozen.
    pub(crate) freeze_after: Duration,
}

/// Where uploads are until their push is done.
fn uploads_folder(store: &Store) -> PathBuf {
    store.folder().join("tmp")
}

/// The handle: cheap to clone.
#[derive(Clone)]
pub(crate) struct Deployer(Arc<Shared>);

struct Shared {
    parts: Parts,
    apps: RwLock<BTreeMap<AppName, Arc<AppRecord>>>,
    creating: tokio::sync::Mutex<()>,
    /// Held while the cores of an app change.
    dividing: tokio::sync::Mutex<()>,
    live: Mutex<HashMap<PushId, Arc<LivePush>>>,
    /// Room for pushes that wait or run.
    room: Arc<Semaphore>,
    /// Slots for pushes that run.
    running: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    tasks: TaskTracker,
    /// The way to whoever hears of process types that can't be kept going.
    crash_reports: mpsc::Sender<runtime::CrashReport>,
    /// The way to whoever writes down what happens.
    records: mpsc::Sender<Record>,
    /// That one's task, until the host stops.
    recording: Mutex<Option<JoinHandle<()>>>,
    schedules: Schedules,
    /// What happens to apps, for those who follow.
    news: broadcast::Sender<NewActivity>,
    /// No new work is taken.
    closing: CancellationToken,
    /// Work under way is given up.
    cancel: CancellationToken,
    /// Nothing changes any more.
    settled: CancellationToken,
}

impl Deployer {
    /// Makes the deployer and starts what it does in the background. Blocks a little, to prepare the folder for uploads.
    pub(crate) fn open(parts: Parts, visits: mpsc::Receiver<runtime::LoadRequest>) -> std::io::Result<Self> {
        push::upload::prepare(&uploads_folder(&parts.store))?;
        let (crash_reports, told) = mpsc::channel(limits::TROUBLES_WAITING);
        let (records, recorded) = mpsc::channel(limits::RECORDS_WAITING);
        let deployer = Self(Arc::new(Shared {
            apps: RwLock::default(),
            creating: tokio::sync::Mutex::new(()),
            dividing: tokio::sync::Mutex::new(()),
            live: Mutex::default(),
            room: Arc::new(Semaphore::new(parts.pushes.queued_max)),
            running: Arc::new(Semaphore::new(parts.pushes.parallel)),
            uploads: Arc::new(Semaphore::new(limits::UPLOADS_MAX)),
            tasks: TaskTracker::new(),
            crash_reports,
            records,
            recording: Mutex::default(),
            schedules: Schedules::default(),
            news: broadcast::Sender::new(limits::ACTIVITY_FOLLOW_ENTRIES),
            closing: CancellationToken::new(),
            cancel: CancellationToken::new(),
            settled: CancellationToken::new(),
            parts,
        }));
        deployer.in_background(deployer.clone().receive_crash_reports(told));
        deployer.in_background(deployer.clone().load_previews(visits));
        let recording = tokio::spawn(deployer.clone().record_activity(recorded));
        *deployer.recording() = Some(recording);
        deployer.in_background(deployer.clone().run_scheduler());
        deployer.in_background(deployer.clone().run_freezer());
        deployer.in_background(deployer.clone().run_scaler());
        deployer.in_background(deployer.clone().run_usage());
        Ok(deployer)
    }

    /// What the host waits for a while when it stops, before it is cut off.
    pub(crate) fn tasks(&self) -> TaskTracker {
        self.0.tasks.clone()
    }

    /// Does something that nobody waits for, until it is done or the host stops.
    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.0.closing.clone().run_until_cancelled_owned(work));
    }

    /// The app of this name.
    pub(crate) fn app(&self, name: &AppName) -> Result<Arc<AppRecord>, DeployError> {
        let apps = self.0.apps.read().unwrap_or_else(PoisonError::into_inner);
        let entry = apps.get(name).filter(|entry| !entry.fields().deleted);
        entry.cloned().ok_or_else(|| DeployError::UnknownApp(name.clone()))
    }

    /// Up to `limit` apps after `after`, by name.
    pub(crate) fn apps(&self, after: Option<&AppName>, limit: usize) -> Vec<Arc<AppRecord>> {
        use std::ops::Bound;
        let apps = self.0.apps.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = apps.range::<AppName, _>((from, Bound::Unbounded)).map(|(_, entry)| entry);
        entries.filter(|entry| !entry.fields().deleted).take(limit).cloned().collect()
    }

    /// Room to receive a bundle.
    pub(crate) async fn upload(&self) -> Result<Upload, DeployError> {
        self.still_open()?;
        let slot = Arc::clone(&self.0.uploads).try_acquire_owned().map_err(|_| DeployError::TooMany {
            what: format!("{} uploads", limits::UPLOADS_MAX),
            retry_after: Duration::from_secs(2),
        })?;
        Upload::begin(&uploads_folder(&self.0.parts.store), slot)
    }

    /// A push as it is now.
    pub(crate) async fn push(&self, app: &AppName, id: &PushId) -> Result<PushNow, DeployError> {
        self.app(app)?;
        if let Some(live) = self.live(id).filter(|live| live.entry.name == *app) {
            return Ok(live.now());
        }
        let control = &self.0.parts.store;
        match control.push(id).await?.filter(|push| push.app == *app) {
            Some(push) => {
                let log = control.push_log(id, 0).await?.into_iter().map(|line| line.text).collect();
                Ok(PushNow { push, log, steps: Vec::new() })
            }
            None => Err(DeployError::UnknownPush { app: app.clone(), id: id.to_string() }),
        }
    }

    /// A push as it is and becomes; the sender goes away once it is final.
    pub(crate) async fn follow(&self, app: &AppName, id: &PushId) -> Result<watch::Receiver<PushNow>, DeployError> {
        match self.live(id).filter(|live| live.entry.name == *app) {
            Some(live) => Ok(live.follow()),
            None => Ok(watch::Sender::new(self.push(app, id).await?).subscribe()),
        }
    }

    /// The newer state of a push, if it is under way.
    pub(crate) fn push_under_way(&self, id: &PushId) -> Option<PushNow> {
        self.live(id).map(|live| live.now())
    }

    /// How many pushes wait or run.
    pub(crate) fn pushes_under_way(&self) -> usize {
        self.live_pushes().len()
    }

    /// What happens to apps from now on.
    pub(crate) fn news(&self) -> broadcast::Receiver<NewActivity> {
        self.0.news.subscribe()
    }

    /// Takes no new work, lets pushes and other changes under way finish for a while, then gives them up as failed.
    pub(crate) async fn shut_down(&self, patience: Duration) {
        self.0.closing.cancel();
        self.store_usage().await;
        self.0.tasks.close();
        if tokio::time::timeout(patience, self.0.tasks.wait()).await.is_err() {
            self.0.cancel.cancel();
            if tokio::time::timeout(limits::FLUSH_TIME, self.0.tasks.wait()).await.is_err() {
                tracing::warn!(
                    "some changes could not be ended in time; pushes are marked as failed at the next start"
                );
            }
        }
        self.0.settled.cancel();
        let recording = self.recording().take();
        if let Some(recording) = recording
            && tokio::time::timeout(limits::FLUSH_TIME, recording).await.is_err()
        {
            tracing::warn!("the last activities could not be recorded in time");
        }
    }

    fn recording(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn still_open(&self) -> Result<(), DeployError> {
        if self.0.closing.is_cancelled() { Err(DeployError::Stopping) } else { Ok(()) }
    }

    fn live(&self, id: &PushId) -> Option<Arc<LivePush>> {
        self.live_pushes().get(id).cloned()
    }

    fn live_pushes(&self) -> MutexGuard<'_, HashMap<PushId, Arc<LivePush>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
