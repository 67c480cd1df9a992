//! The control plane: owns the apps' records, turns bundles into serving releases, and runs the
//! lifecycle of apps (create, push, start, stop, destroy). Never contains policy rules, never runs
//! guests, and never writes SQL: the crates `policy`, `engine` and `store` do.

mod app;
mod app_command;
mod app_task;
mod app_usage;
mod background;
pub(crate) mod data_folder;
mod data_gate;
mod error;
mod failpoint;
pub(crate) mod key_value;
mod lifecycle;
pub(crate) mod limits;
mod push;
mod queries;
mod registry;
mod release;
mod settings;
mod startup;
mod storing;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_engine::Engine;
use isopod_policy::{AppName, Cores};
use isopod_store::{NewActivity, Store};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    app::{APP_DESTROYED, AppRecord},
    error::{DeployError, Failure},
    push::progress::{PushNow, Step},
    push::upload::{Received, Upload},
    settings::Change,
    startup::Restored,
};
use self::{
    background::{
        activity_log::{self, ActivityLog},
        data_watch, freezer, gc, scaler,
        scheduler::{self, Schedules},
        usage,
    },
    push::pushes::Pushes,
    registry::Registry,
    release::releases::Releases,
};
use crate::{
    config,
    observe::{logs::Logs, machine, metrics::Metrics},
    runtime,
};

/// The services and settings that the deployer needs.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    pub(crate) directory: Arc<runtime::Directory>,
    pub(crate) logs: Logs,
    pub(crate) metrics: Metrics,
    pub(crate) pushes: config::Pushes,
    /// The resources that all apps share, and the cores of an app without an override.
    pub(crate) machine: runtime::HostResources,
    pub(crate) cores: Cores,
    /// The time window of the load peak that determines a pool's size.
    pub(crate) scale_window: Duration,
    /// The maximum number of warm instances of an app.
    pub(crate) app_instances_max: u32,
    pub(crate) watch: Arc<machine::Watch>,
    /// The idle time after which an app is frozen.
    pub(crate) freeze_after: Duration,
}

/// The handle of the control plane. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Deployer(Arc<Shared>);

struct Shared {
    parts: Parts,
    registry: Registry,
    releases: Releases,
    activity: ActivityLog,
    usage: usage::Service,
    creating: tokio::sync::Mutex<()>,
    /// The tasks of the apps.
    app_tasks: TaskTracker,
    pushes: Pushes,
    tasks: TaskTracker,
    /// The queue of reports about process types that fail repeatedly.
    crash_reports: mpsc::Sender<runtime::CrashReport>,
    /// The task of the activity log. Taken at shutdown, which waits for it.
    recording: Mutex<Option<JoinHandle<()>>>,
    schedules: Schedules,
    /// Cancelled first at shutdown: no new work is accepted.
    closing: CancellationToken,
    /// Cancelled when the drain time is over: unfinished work fails.
    cancel: CancellationToken,
    /// Cancelled after that: the activity log stores its queue and ends.
    drained: CancellationToken,
    /// Cancelled last: the tasks of the apps end.
    ended: CancellationToken,
}

impl Deployer {
    /// Creates the control plane and spawns its background tasks. Blocks briefly, to prepare the
    /// folder for uploads.
    pub(crate) fn open(parts: Parts, previews: mpsc::Receiver<runtime::LoadRequest>) -> std::io::Result<Self> {
        let (crash_reports, received_reports) = mpsc::channel(limits::CRASH_REPORTS_QUEUED_MAX);
        let (registry, closing, drained) = (Registry::new(), CancellationToken::new(), CancellationToken::new());
        let (activity, recorder) = activity_log::Service::new(activity_log::Options {
            store: parts.store.clone(),
            registry: registry.clone(),
            closing: closing.clone(),
            drained: drained.clone(),
        });
        let pushes = Pushes::open(parts.store.clone(), registry.clone(), parts.pushes.clone())?;
        let deployer = Self(Arc::new(Shared {
            usage: usage::Service { registry: registry.clone(), store: parts.store.clone() },
            releases: Releases {
                engine: parts.engine.clone(),
                store: parts.store.clone(),
                activity: activity.clone(),
                app_instances_max: parts.app_instances_max,
            },
            registry,
            activity,
            creating: tokio::sync::Mutex::new(()),
            app_tasks: TaskTracker::new(),
            pushes,
            tasks: TaskTracker::new(),
            crash_reports,
            recording: Mutex::default(),
            schedules: Schedules::default(),
            closing,
            cancel: CancellationToken::new(),
            drained,
            ended: CancellationToken::new(),
            parts,
        }));
        deployer.in_background(deployer.clone().receive_crash_reports(received_reports));
        deployer.in_background(deployer.clone().load_previews(previews));
        *deployer.recording() = Some(tokio::spawn(recorder.run()));
        deployer.run_services();
        Ok(deployer)
    }

    /// Runs the services that work for all apps, until the host shuts down.
    fn run_services(&self) {
        let Shared { parts, registry, activity, .. } = &*self.0;
        self.in_background(self.scheduler().run());
        let (registry, activity) = (|| registry.clone(), || activity.clone());
        let freeze_after = parts.freeze_after;
        self.in_background(freezer::Service { registry: registry(), activity: activity(), freeze_after }.run());
        let (machine, window) = (Arc::clone(&parts.watch), parts.scale_window);
        self.in_background(scaler::Service { registry: registry(), activity: activity(), machine, window }.run());
        self.in_background(self.0.usage.clone().run());
    }

    /// Runs the services that must not start before all apps are registered.
    fn run_late_services(&self) {
        let Shared { parts, registry, activity, .. } = &*self.0;
        let store = || parts.store.clone();
        self.in_background(gc::Service { registry: registry.clone(), store: store() }.run());
        let (registry, activity) = (registry.clone(), activity.clone());
        self.in_background(data_watch::Service { registry, activity, store: store() }.run());
    }

    fn scheduler(&self) -> scheduler::Service {
        let Shared { parts, registry, activity, schedules, closing, .. } = &*self.0;
        scheduler::Service {
            registry: registry.clone(),
            activity: activity.clone(),
            store: parts.store.clone(),
            directory: Arc::clone(&parts.directory),
            schedules: schedules.clone(),
            closing: closing.clone(),
        }
    }

    /// The tasks that a shutdown drains.
    pub(crate) fn tasks(&self) -> TaskTracker {
        self.0.tasks.clone()
    }

    /// Spawns work that is dropped when the host shuts down.
    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.0.closing.clone().run_until_cancelled_owned(work));
    }

    /// Returns the app with this name.
    pub(crate) fn app(&self, name: &AppName) -> Result<Arc<AppRecord>, DeployError> {
        self.0.registry.app(name)
    }

    /// Returns the handle of the app with this name.
    fn handle(&self, name: &AppName) -> Result<app_command::AppHandle, DeployError> {
        self.0.registry.handle(name)
    }

    /// Returns up to `limit` apps after `after`, ordered by name.
    pub(crate) fn apps(&self, after: Option<&AppName>, limit: usize) -> Vec<Arc<AppRecord>> {
        self.0.registry.apps(after, limit)
    }

    /// Starts an upload, which holds a permit until it is dropped.
    pub(crate) fn upload(&self) -> Result<Upload, DeployError> {
        self.ensure_open()?;
        self.0.pushes.upload()
    }

    /// The push jobs of all apps.
    pub(crate) fn pushes(&self) -> &Pushes {
        &self.0.pushes
    }

    /// Subscribes to the activities of all apps from now on.
    pub(crate) fn news(&self) -> broadcast::Receiver<NewActivity> {
        self.0.activity.news()
    }

    /// Shuts down: accepts no new work, drains push jobs and other changes for up to `patience`,
    /// and then cancels them as failed.
    pub(crate) async fn shut_down(&self, patience: Duration) {
        self.0.closing.cancel();
        self.0.usage.store_usage().await;
        self.0.tasks.close();
        if tokio::time::timeout(patience, self.0.tasks.wait()).await.is_err() {
            self.0.cancel.cancel();
            if tokio::time::timeout(limits::FLUSH_TIME, self.0.tasks.wait()).await.is_err() {
                tracing::warn!(
                    "some changes did not end before the shutdown timeout; push jobs are marked as failed at the next start"
                );
            }
        }
        self.0.drained.cancel();
        let recording = self.recording().take();
        if let Some(recording) = recording
            && tokio::time::timeout(limits::FLUSH_TIME, recording).await.is_err()
        {
            tracing::warn!("the last activities were not recorded before the shutdown timeout");
        }
    }

    /// Ends the tasks of the apps, once nothing refers to the apps any longer.
    pub(crate) async fn close(self) {
        self.0.ended.cancel();
        self.0.app_tasks.close();
        if tokio::time::timeout(limits::FLUSH_TIME, self.0.app_tasks.wait()).await.is_err() {
            tracing::warn!("commands to apps did not end before the shutdown timeout");
        }
    }

    fn recording(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ensure_open(&self) -> Result<(), DeployError> {
        if self.0.closing.is_cancelled() { Err(DeployError::Stopping) } else { Ok(()) }
    }
}
