//! Wires the services of the control plane: creates each, passes handles between them, and orders
//! their shutdown. Never handles a request.

use std::{sync::Arc, time::Duration};

use isopod_engine::Engine;
use isopod_policy::{Ceiling, Cores, GateUse, MiddlewareUse};
use isopod_store::Store;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::task::TaskTracker;

use crate::control::{
    app_table::AppTable,
    app_task,
    apps::{self, Apps},
    background::{
        activity_log::{self, ActivityLog},
        alerts::{self, AlertConfig, Alerts},
        crash_reports, data_watch, dead_letters,
        drains::{self, Drains},
        event_pruner, freezer, gc, hooks, scaler,
        scheduler::{self, Schedules},
        usage,
    },
    error::DeployError,
    events::{self, Events},
    limits,
    plugins::{self, Plugins},
    push::pushes::{PushLimits, Pushes},
    push_jobs::PushJobs,
    push_runner::PushRunner,
    queries::Queries,
    release::{loader::Loader, pipeline, releases::Releases},
    settings::Settings,
    shutdown::Shutdown,
    startup::{LateServices, Restored, Startup},
};
use crate::{
    observe::{logs::Logs, machine, metrics::Metrics},
    runtime,
};

/// The services and settings that the control plane needs.
pub(crate) struct Options {
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    pub(crate) directory: Arc<runtime::Directory>,
    pub(crate) logs: Logs,
    pub(crate) metrics: Metrics,
    pub(crate) pushes: PushLimits,
    /// The resources that all apps share, and the cores of an app without an override.
    pub(crate) machine: runtime::HostResources,
    pub(crate) cores: Cores,
    /// The time window of the load peak that determines a pool's size.
    pub(crate) scale_window: Duration,
    /// The maximum number of warm instances of an app.
    pub(crate) app_instances_max: u32,
    /// The ceiling on what releases may ask for.
    pub(crate) ceiling: Arc<Ceiling>,
    pub(crate) watch: Arc<machine::CpuSampler>,
    /// The idle time after which an app is frozen.
    pub(crate) freeze_after: Duration,
    /// The middleware that the operator requires for all apps.
    pub(crate) required_middleware: Vec<MiddlewareUse>,
    /// The gates that may refuse releases of apps.
    pub(crate) gates: Vec<GateUse>,
    pub(crate) alerts: AlertConfig,
}

/// The handles of the control plane's services, for the API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ControlPlane {
    pub(crate) apps: Apps,
    pub(crate) pushes: PushJobs,
    pub(crate) settings: Settings,
    pub(crate) queries: Queries,
    pub(crate) plugins: Plugins,
    pub(crate) events: Events,
    pub(crate) schedules: scheduler::Service,
    pub(crate) alerts: Alerts,
    pub(crate) drains: Drains,
}

/// The running control plane.
pub(crate) struct Service {
    handles: ControlPlane,
    core: Core,
    directory: Arc<runtime::Directory>,
    usage: usage::Service,
    /// The service of alerts, until it starts.
    alerting: Option<alerts::Service>,
    /// The tasks of the apps.
    app_tasks: TaskTracker,
    /// The task of the activity log, which a shutdown waits for.
    recording: JoinHandle<()>,
}

/// The state that most services share.
#[derive(Clone)]
struct Core {
    store: Store,
    app_table: AppTable,
    plugins: Plugins,
    activity: ActivityLog,
    schedules: Schedules,
    events: Events,
    shutdown: Shutdown,
}

impl Service {
    /// Creates the control plane and spawns its background tasks. Blocks briefly, to prepare the
    /// folder for uploads.
    pub(crate) fn open(options: Options, previews: mpsc::Receiver<runtime::LoadRequest>) -> std::io::Result<Self> {
        let (app_table, shutdown) = (AppTable::new(), Shutdown::default());
        let (activity, recorder) = activity_log::Service::new(activity_log::Options {
            store: options.store.clone(),
            app_table: app_table.clone(),
            closing: shutdown.closing.clone(),
            drained: shutdown.drained.clone(),
        });
        let store = options.store.clone();
        let (queue, directory) = (Arc::new(store.events().clone()), Arc::clone(&options.directory));
        let (dead_letters, died) = mpsc::channel(limits::DEAD_LETTERS_QUEUED_MAX);
        let (events, deliveries) = events::open(queue, directory, app_table.clone(), shutdown.clone(), dead_letters);
        let plugins = plugins(&options, &app_table);
        let core = Core { store, app_table, plugins, activity, schedules: Schedules::default(), events, shutdown };
        let releases = Releases {
            engine: options.engine.clone(),
            store: core.store.clone(),
            activity: core.activity.clone(),
            events: core.events.clone(),
            plugins: core.plugins.clone(),
            app_instances_max: options.app_instances_max,
            ceiling: Arc::clone(&options.ceiling),
        };
        let pushes = Pushes::open(core.store.clone(), options.pushes.clone())?;
        let usage = usage::Service { app_table: core.app_table.clone(), store: core.store.clone() };
        let (crash_reports, received) = mpsc::channel(limits::CRASH_REPORTS_QUEUED_MAX);
        let app_tasks = TaskTracker::new();
        let scheduler = scheduler(&options, &core);
        let (alerts, alerting, helpers) = alerting(&options, &core);
        let parts = Parts {
            releases: &releases,
            pushes: &pushes,
            usage: &usage,
            app_tasks: &app_tasks,
            crash_reports,
            scheduler: scheduler.clone(),
            alerts,
            drains: drains(&options, &core),
        };
        let handles = handles(&options, &core, parts);

        core.shutdown.in_background(crash_reports::Service { app_table: core.app_table.clone(), received }.run());
        let loader = Loader { app_table: core.app_table.clone(), releases, shutdown: core.shutdown.clone() };
        core.shutdown.in_background(loader.run(previews));
        core.shutdown.in_background(deliveries.run());
        let recording = tokio::spawn(recorder.run());
        core.shutdown.in_background(scheduler.run());
        core.shutdown.in_background(dead_letters::Service { activity: core.activity.clone(), received: died }.run());
        run_services(&options, &core);
        core.shutdown.in_background(helpers.storing.run());
        helpers.sending.into_iter().for_each(|sending| core.shutdown.in_background(sending.run()));
        core.shutdown.in_background(usage.clone().run());
        let (directory, alerting) = (options.directory, Some(alerting));
        Ok(Self { handles, core, directory, usage, alerting, app_tasks, recording })
    }

    /// Returns the handles of the services.
    pub(crate) fn handles(&self) -> ControlPlane {
        self.handles.clone()
    }

    /// Returns the tasks that a shutdown drains.
    pub(crate) fn tasks(&self) -> TaskTracker {
        self.core.shutdown.tasks.clone()
    }

    /// Registers all stored apps, and marks push jobs that the last stop interrupted as failed. No
    /// app serves yet.
    pub(crate) async fn restore(&mut self) -> Result<Restored, DeployError> {
        let Core { store, app_table, plugins, activity, schedules, events, shutdown } = self.core.clone();
        let dispatcher = hooks::Service::new(store.clone(), app_table.clone(), events.clone(), activity.clone());
        let late = LateServices {
            gc: gc::Service { app_table: app_table.clone(), store: store.clone() },
            data_watch: data_watch::Service { app_table: app_table.clone(), activity, store: store.clone() },
            events,
            plugins: plugins.clone(),
            shutdown,
        };
        let (apps, directory) = (self.handles.apps.clone(), Arc::clone(&self.directory));
        let restored = Startup { apps, app_table, store, schedules, directory, late }.restore().await?;
        // Started only now, since events may wait for hooks that were not registered before.
        self.core.shutdown.in_background(dispatcher.run());
        // It ends the alerts of apps that are not registered.
        self.alerting.take().into_iter().for_each(|alerting| self.core.shutdown.in_background(alerting.run()));
        plugins.report_host_uses().await;
        self.handles.drains.restore().await;
        Ok(restored)
    }

    /// Shuts down: accepts no new work, drains push jobs and other changes for up to
    /// `PUSH_DRAIN_TIME` and then cancels them as failed. Meanwhile, drains the handlers of stored
    /// events for up to `drain_time`, and then cancels them.
    pub(crate) async fn shut_down(&mut self, drain_time: Duration) {
        self.core.shutdown.closing.cancel();
        self.usage.store_usage().await;
        let Shutdown { drained, .. } = &self.core.shutdown;
        tokio::join!(self.drain_changes(), self.drain_deliveries(drain_time));
        drained.cancel();
        if tokio::time::timeout(limits::FLUSH_TIME, &mut self.recording).await.is_err() {
            tracing::warn!("the last activities were not recorded before the shutdown timeout");
        }
    }

    async fn drain_changes(&self) {
        let Shutdown { tasks, cancel, .. } = &self.core.shutdown;
        tasks.close();
        if tokio::time::timeout(limits::PUSH_DRAIN_TIME, tasks.wait()).await.is_ok() {
            return;
        }
        cancel.cancel();
        if tokio::time::timeout(limits::FLUSH_TIME, tasks.wait()).await.is_err() {
            tracing::warn!(
                "some changes did not end before the shutdown timeout; push jobs are marked as failed at the next \
                 start"
            );
        }
    }

    async fn drain_deliveries(&self, drain_time: Duration) {
        let Shutdown { deliveries, cut_off, .. } = &self.core.shutdown;
        deliveries.close();
        if tokio::time::timeout(drain_time, deliveries.wait()).await.is_ok() {
            return;
        }
        tracing::warn!("handlers of stored events were cut off: they did not complete within the drain time");
        cut_off.cancel();
        if tokio::time::timeout(limits::FLUSH_TIME, deliveries.wait()).await.is_err() {
            tracing::warn!("some event deliveries did not end before the shutdown timeout");
        }
    }

    /// Ends the tasks of the apps. Call it once nothing else uses the apps.
    pub(crate) async fn close(self) {
        self.core.shutdown.ended.cancel();
        self.app_tasks.close();
        if tokio::time::timeout(limits::FLUSH_TIME, self.app_tasks.wait()).await.is_err() {
            tracing::warn!("commands to apps did not end before the shutdown timeout");
        }
        self.core.app_table.close();
    }
}

/// The services, besides the core, from which the handles are created.
struct Parts<'a> {
    releases: &'a Releases,
    pushes: &'a Pushes,
    usage: &'a usage::Service,
    app_tasks: &'a TaskTracker,
    crash_reports: mpsc::Sender<runtime::CrashReport>,
    scheduler: scheduler::Service,
    alerts: Alerts,
    drains: Drains,
}

/// Creates the services that handle requests.
fn handles(options: &Options, core: &Core, parts: Parts<'_>) -> ControlPlane {
    let Core { store, app_table, plugins, activity, schedules, events, shutdown } = core.clone();
    let Parts { releases, pushes, usage, app_tasks, crash_reports, scheduler, alerts, drains } = parts;
    let pipeline = pipeline::Options {
        releases: releases.clone(),
        directory: Arc::clone(&options.directory),
        time_limit: options.pushes.time_limit,
        shutdown: shutdown.clone(),
    };
    let push_runner = push_runner(options, core, pushes, &pipeline);
    let task_services = Arc::new(app_task::Services {
        app_table: app_table.clone(),
        store: store.clone(),
        releases: releases.clone(),
        activity: activity.clone(),
        schedules,
        events: events.clone(),
        directory: Arc::clone(&options.directory),
        logs: options.logs.clone(),
        metrics: options.metrics.clone(),
        pushes: pushes.clone(),
        push_runner,
        cores: options.cores,
        crash_reports,
        tasks: app_tasks.clone(),
        shutdown: shutdown.clone(),
    });
    let apps = Apps::new(apps::Options {
        app_table: app_table.clone(),
        store,
        activity: activity.clone(),
        directory: Arc::clone(&options.directory),
        logs: options.logs.clone(),
        machine: options.machine.clone(),
        cores: options.cores,
        ceiling: Arc::clone(&options.ceiling),
        task_services,
        plugins: plugins.clone(),
        shutdown: shutdown.clone(),
    });
    ControlPlane {
        pushes: PushJobs {
            apps: apps.clone(),
            app_table: app_table.clone(),
            pushes: pushes.clone(),
            shutdown: shutdown.clone(),
        },
        settings: Settings {
            app_table: app_table.clone(),
            releases: releases.clone(),
            pipeline,
            activity: activity.clone(),
            shutdown,
        },
        queries: Queries {
            app_table,
            releases: releases.clone(),
            activity,
            usage: usage.clone(),
            pushes: pushes.clone(),
            alerts: alerts.clone(),
        },
        plugins,
        events,
        schedules: scheduler,
        alerts,
        drains,
        apps,
    }
}

fn push_runner(options: &Options, core: &Core, pushes: &Pushes, pipeline: &pipeline::Options) -> PushRunner {
    PushRunner {
        pushes: pushes.clone(),
        pipeline: pipeline.clone(),
        activity: core.activity.clone(),
        metrics: options.metrics.clone(),
        shutdown: core.shutdown.clone(),
    }
}

/// Creates the service of plugins.
fn plugins(options: &Options, app_table: &AppTable) -> Plugins {
    Plugins::new(plugins::Options {
        app_table: app_table.clone(),
        store: options.store.clone(),
        directory: Arc::clone(&options.directory),
        required: options.required_middleware.clone(),
        gates: options.gates.clone(),
    })
}

/// Creates the service of alerts.
fn alerting(options: &Options, core: &Core) -> (Alerts, alerts::Service, alerts::Helpers) {
    let Core { store, app_table, activity, .. } = core.clone();
    alerts::Service::new(alerts::Options {
        config: options.alerts.clone(),
        app_table,
        activity,
        store,
        engine: options.engine.clone(),
        logs: options.logs.clone(),
        metrics: options.metrics.clone(),
    })
}

/// Creates the log drains.
fn drains(options: &Options, core: &Core) -> Drains {
    let Core { store, app_table, activity, shutdown, .. } = core.clone();
    Drains::new(drains::Options {
        app_table,
        store,
        activity,
        logs: options.logs.clone(),
        engine: options.engine.clone(),
        ceiling: Arc::clone(&options.ceiling),
        shutdown,
    })
}

/// Creates the scheduler, which is also the handle to the schedules.
fn scheduler(options: &Options, core: &Core) -> scheduler::Service {
    let Core { store, app_table, activity, schedules, events, shutdown, .. } = core.clone();
    scheduler::Service {
        app_table,
        activity,
        store,
        directory: Arc::clone(&options.directory),
        events,
        schedules,
        closing: shutdown.closing,
    }
}

/// Runs the services that work for all apps, until the host shuts down.
fn run_services(options: &Options, core: &Core) {
    let Core { app_table, activity, events, shutdown, .. } = core;
    let (app_table, activity) = (|| app_table.clone(), || activity.clone());
    let pruner = event_pruner::Service { app_table: app_table(), events: events.clone() };
    shutdown.in_background(pruner.run());
    let freeze_after = options.freeze_after;
    let host = options.machine.clone();
    shutdown.in_background(freezer::Service { app_table: app_table(), activity: activity(), host, freeze_after }.run());
    let (machine, window) = (Arc::clone(&options.watch), options.scale_window);
    shutdown.in_background(scaler::Service { app_table: app_table(), activity: activity(), machine, window }.run());
}
