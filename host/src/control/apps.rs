//! Owns the requests that create, start, stop, change and destroy apps. Adds each app to the
//! app table, and runs its task. Never changes an app: its task does.

use std::{collections::HashMap, sync::Arc};

use isopod_policy::{AppKind, AppName, AppState, AppType, Ceiling, Cores, CoresOverride, InstanceId, ProcessName};
use isopod_store::{App, Intended, NewApp, Store, StoreError};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::control::{
    app::AppRecord,
    app_command::{AppHandle, Command, Reply, TypeChange},
    app_table::AppTable,
    app_task::{self, AppTask},
    background::activity_log::ActivityLog,
    error::DeployError,
    failpoint::reached,
    mailbox::Mailbox,
    plugins::Plugins,
    requester::Requester,
    shutdown::Shutdown,
};
use crate::{
    observe::logs::Logs,
    runtime::{self, ActiveRelease, Directory, HostResources},
};

/// The settings and handles of [`Apps`].
pub(in crate::control) struct Options {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) directory: Arc<Directory>,
    pub(in crate::control) logs: Logs,
    /// The resources that all apps share, and the cores of an app without an override.
    pub(in crate::control) machine: HostResources,
    pub(in crate::control) cores: Cores,
    pub(in crate::control) ceiling: Arc<Ceiling>,
    /// What the tasks of the apps share.
    pub(in crate::control) task_services: Arc<app_task::Services>,
    pub(in crate::control) plugins: Plugins,
    pub(in crate::control) shutdown: Shutdown,
}

/// The requests about apps. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Apps(Arc<Service>);

struct Service {
    options: Options,
    /// Locked while an app is created.
    creating: Mutex<()>,
}

impl Apps {
    pub(in crate::control) fn new(options: Options) -> Self {
        Self(Arc::new(Service { options, creating: Mutex::default() }))
    }

    /// Returns the app with this name.
    pub(crate) fn app(&self, name: &AppName) -> Result<Arc<AppRecord>, DeployError> {
        self.0.options.app_table.app(name)
    }

    /// Returns up to `limit` apps after `after`, ordered by name.
    pub(crate) fn list(&self, after: Option<&AppName>, limit: usize) -> Vec<Arc<AppRecord>> {
        self.0.options.app_table.of_kind(AppKind::App, after, limit)
    }

    /// Returns all apps and plugins, ordered by name.
    pub(crate) fn with_plugins(&self) -> Vec<Arc<AppRecord>> {
        self.0.options.app_table.all()
    }

    /// Creates an app.
    pub(crate) async fn create(
        &self,
        name: &AppName,
        app_type: AppType,
        cause: &str,
        requester: &Requester,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.create_record(name, AppKind::App, app_type, cause, requester).await
    }

    /// Creates a plugin, which has no release yet.
    pub(in crate::control) async fn create_plugin(
        &self,
        name: &AppName,
        requester: &Requester,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.create_record(name, AppKind::Plugin, AppType::Production, "created by its first push", requester).await
    }

    async fn create_record(
        &self,
        name: &AppName,
        kind: AppKind,
        app_type: AppType,
        cause: &str,
        requester: &Requester,
    ) -> Result<Arc<AppRecord>, DeployError> {
        let Options { app_table, store, directory, activity, shutdown, ceiling, plugins, .. } = &self.0.options;
        shutdown.ensure_open()?;
        requester.check_type(name, ceiling, app_type)?;
        if kind.is_app() && plugins.is_required(name) {
            return Err(DeployError::ReservedName(name.clone()));
        }
        // Serialised, so that two concurrent requests can't create the same name.
        let _creating = self.0.creating.lock().await;
        if let Some(known) = app_table.registered(name) {
            let refused =
                if known.record.is_destroyed() { DeployError::BeingDestroyed } else { DeployError::AppExists };
            return Err(refused(name.clone()));
        }
        let created_at = Timestamp::now();
        let new = NewApp { name: name.clone(), kind, app_type, intended: Intended::Running, created_at };
        let row = match store.create_app(new).await {
            Ok(row) => row,
            Err(StoreError::AppExists { name }) => return Err(DeployError::AppExists(name)),
            Err(error) => return Err(error.into()),
        };
        reached("app-stored").await;
        let task = self.register(row, HashMap::new());
        let app = Arc::clone(&task.handle.record);
        // First, since the task of an app that is destroyed removes the app from the directory.
        directory.put(&[Arc::clone(&app.traffic)]);
        reached("app-registered").await;
        task.spawn();
        let text = match kind {
            AppKind::App => format!("created as a {app_type} app: {cause}"),
            AppKind::Plugin => format!("created as a plugin: {cause}"),
        };
        activity.record(&app, "app-created", text, json!({ "kind": kind, "type": app_type, "by": requester.by })).await;
        Ok(app)
    }

    /// Adds the app's record, and returns its task. Traffic reaches the app once it is put in the
    /// directory.
    pub(in crate::control) fn register(&self, row: App, fired: HashMap<ProcessName, Timestamp>) -> AppTask {
        let Options { app_table, logs, machine, cores, task_services, .. } = &self.0.options;
        let resources = machine.app_resources(row.app_type, cores.with(row.cores));
        let traffic = Arc::new(runtime::App::new(row.name.clone(), row.kind, resources));
        let log = logs.app(&row.name);
        let (mailbox, commands) = Mailbox::new();
        let app = AppHandle::new(Arc::new(AppRecord::new(row, fired, log, traffic)), mailbox);
        app_table.insert(app.clone());
        AppTask::new(Arc::clone(task_services), app, commands)
    }

    /// Changes the type of a stopped app.
    pub(crate) async fn set_type(
        &self,
        name: &AppName,
        app_type: AppType,
        requester: &Requester,
    ) -> Result<Arc<AppRecord>, DeployError> {
        let app = self.app(name)?;
        if app.kind == AppKind::Plugin && app_type != AppType::Production {
            let what = "its type is always production";
            return Err(DeployError::IsPlugin { plugin: name.clone(), what });
        }
        if app.fields().app_type != app_type {
            requester.check_type(name, &self.ceiling(&app), app_type)?;
        }
        let change = self.gated(&app, app_type, requester).await?;
        self.request(name, &requester.by, |by, reply| Command::SetType { change, by, reply }).await
    }

    /// Calls the gates of the app's new type for its current release. Otherwise, a deploy to an app
    /// of another type, followed by a change of the type, would bypass them.
    async fn gated(
        &self,
        app: &AppRecord,
        app_type: AppType,
        requester: &Requester,
    ) -> Result<TypeChange, DeployError> {
        let Options { plugins, directory, task_services, .. } = &self.0.options;
        let fields = app.fields();
        let (from, release, name) = (fields.app_type, fields.release, || app.name.clone());
        let has_gates = from != app_type && plugins.gates_of(app, app_type).next().is_some();
        let skips_gates = has_gates && requester.skips_gates;
        if let (Some(number), true, false) = (release, has_gates, skips_gates) {
            if fields.state != AppState::Stopped {
                return Err(DeployError::NotStopped { app: name(), state: fields.state });
            }
            let asked = task_services.releases.pass_gates_of_type(directory, app, (number, app_type), &requester.by);
            asked.await.map_err(|failure| DeployError::NotRolledOut { app: name(), failure: Box::new(failure) })?;
        }
        Ok(TypeChange { app_type, from, release, skips_gates })
    }

    /// Overrides the operator's core counts for an app. Needs no new release: waiting jobs start at
    /// once if there are more cores, and running jobs complete if there are fewer.
    pub(crate) async fn set_cores(
        &self,
        name: &AppName,
        change: Value,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.request(name, by, |by, reply| Command::SetCores { change, by, reply }).await
    }

    /// Overrides settings of the operator's ceiling for an app. Its next release is compared with
    /// the result.
    pub(crate) async fn set_ceiling(
        &self,
        name: &AppName,
        change: Value,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.request(name, by, |by, reply| Command::SetCeiling { change, by, reply }).await
    }

    /// Returns the ceiling of an app.
    pub(crate) fn ceiling(&self, app: &AppRecord) -> Ceiling {
        self.0.options.ceiling.with(&app.fields().ceiling)
    }

    /// Returns the host's ceiling, which apps can override.
    pub(crate) fn host_ceiling(&self) -> &Ceiling {
        &self.0.options.ceiling
    }

    /// Returns the effective core counts of an app, and its overrides.
    pub(crate) fn cores(&self, app: &AppRecord) -> (Cores, CoresOverride) {
        let overrides = app.fields().cores;
        (self.0.options.cores.with(overrides), overrides)
    }

    /// Starts a stopped app, or one in error. Returns before the release is loaded; the app's state
    /// shows the result.
    pub(crate) async fn start(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        self.request(name, by, |by, reply| Command::Start { by, reply }).await
    }

    /// Stops an app: new requests are refused immediately, accepted requests are drained.
    pub(crate) async fn stop(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        let app = self.0.options.app_table.handle(name)?;
        let by = by.to_owned();
        app.request(|reply| Command::Stop { by, reply }).await?;
        Ok(app.record)
    }

    /// Sets or clears the build error of a dev app.
    pub(crate) async fn set_build_error(&self, name: &AppName, message: Option<String>) -> Result<(), DeployError> {
        self.0.options.app_table.handle(name)?.request(|reply| Command::SetBuildError { message, reply }).await
    }

    /// Sends a request to the app's task, unless the host is stopping.
    async fn request(
        &self,
        name: &AppName,
        by: &str,
        command: impl FnOnce(String, Reply<()>) -> Command,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.0.options.shutdown.ensure_open()?;
        let app = self.0.options.app_table.handle(name)?;
        let by = by.to_owned();
        app.request(|reply| command(by, reply)).await?;
        Ok(app.record)
    }

    /// Destroys an app with all its data. The deletion in the store is the commit point; before it,
    /// nothing has changed. Accepted requests are then drained for a limited time.
    pub(crate) async fn delete(&self, name: &AppName, by: &str) -> Result<(), DeployError> {
        let app_table = &self.0.options.app_table;
        let destroyed = match app_table.handle(name) {
            Ok(app) => {
                let by = by.to_owned();
                // Taken before the command is sent, since a commit holds the lock while it waits
                // for the plugin's task.
                let unused = match app.record.kind {
                    AppKind::App => None,
                    AppKind::Plugin => Some(self.0.options.plugins.lock_unused(name).await?),
                };
                app.request(|reply| Command::Destroy { by, unused, reply }).await
            }
            Err(unknown) => Err(unknown),
        };
        if matches!(destroyed, Err(DeployError::UnknownApp(_))) {
            // A repeated request is answered once the destruction is complete, so that its client
            // can reuse the name.
            app_table.until_removed(name).await;
        }
        destroyed
    }

    /// Recycles an instance once its job completes. A new instance takes its slot and its id.
    pub(crate) async fn restart(&self, name: &AppName, id: &InstanceId, by: &str) -> Result<(), DeployError> {
        let app = self.app(name)?;
        if !app.traffic.restart(id) {
            return Err(DeployError::UnknownInstance { app: name.clone(), id: id.to_string() });
        }
        let text = format!("{id} is restarted: requested");
        self.0.options.activity.record(&app, "instance-restarted", text, json!({ "instance": id, "by": by })).await;
        Ok(())
    }

    /// Returns the release that serves an app, which it thaws or loads if necessary. The error is
    /// the reason why no release serves.
    pub(crate) async fn serving(&self, app: &AppRecord) -> Result<Arc<ActiveRelease>, String> {
        self.0.options.directory.serving(&app.traffic).await
    }
}
