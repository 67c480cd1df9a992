//! Owns the lifecycle of an app besides its pushes: create, start, stop, change its type, destroy.
//! Each change is stored first, then applied, then recorded in the app's activity with its cause.
//! Never verifies or builds a bundle.

use std::{collections::HashMap, sync::Arc};

use futures::future::join_all;
use isopod_policy::{
    AppCommand, AppName, AppType, ConfigVars, Cores, CoresOverride, ProcessName,
    json::{explain, whole},
};
use isopod_store::{App, Control, Intended, NewApp, StoreError};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::control::{
    AppRecord, DeployError, Deployer,
    app::{APP_DESTROYED, BuildError},
    app_command::{AppHandle, Command, Reply},
    app_task::AppTask,
    background::activity_log::activity_of,
    failpoint::reached,
};
use crate::{control::limits, runtime, runtime::ActiveRelease};

impl Deployer {
    /// Creates an app.
    pub(crate) async fn create(
        &self,
        name: &AppName,
        app_type: AppType,
        cause: &str,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.ensure_open()?;
        // Serialised, so that two concurrent requests can't create the same name.
        let _creating = self.0.creating.lock().await;
        if let Some(known) = self.0.registry.registered(name) {
            let refused =
                if known.record.is_destroyed() { DeployError::BeingDestroyed } else { DeployError::AppExists };
            return Err(refused(name.clone()));
        }
        let new = NewApp { name: name.clone(), app_type, intended: Intended::Running, created_at: Timestamp::now() };
        let row = match self.0.parts.store.create_app(new).await {
            Ok(row) => row,
            Err(StoreError::AppExists { name }) => return Err(DeployError::AppExists(name)),
            Err(error) => return Err(error.into()),
        };
        reached("app-stored").await;
        let task = self.register(row, HashMap::new());
        let app = Arc::clone(&task.app);
        self.run_app(task);
        self.0.parts.directory.put(&[Arc::clone(&app.traffic)]);
        let text = format!("created as a {app_type} app: {cause}");
        self.0.activity.record(&app, "app-created", text, json!({ "type": app_type, "by": by })).await;
        Ok(app)
    }

    /// Adds the app's record, and returns its task. Traffic reaches the app once it is put in the
    /// directory.
    pub(super) fn register(&self, row: App, fired: HashMap<ProcessName, Timestamp>) -> AppTask {
        let resources = self.0.parts.machine.app_resources(row.app_type, self.0.parts.cores.with(row.cores));
        let traffic = Arc::new(runtime::App::new(row.name.clone(), resources));
        let log = self.0.parts.logs.app(&row.name);
        let (commands, received) = mpsc::channel(limits::APP_COMMANDS_QUEUED_MAX);
        let app = AppHandle::new(Arc::new(AppRecord::new(row, fired, log, traffic)), commands);
        self.0.registry.insert(app.clone());
        AppTask::new(self.clone(), app, received)
    }

    /// Runs the task of an app until the app is destroyed or the host ends.
    pub(super) fn run_app(&self, task: AppTask) {
        self.0.app_tasks.spawn(task.run());
    }

    /// Changes the type of a stopped app.
    pub(crate) async fn set_type(
        &self,
        name: &AppName,
        app_type: AppType,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.request(name, by, |by, reply| Command::SetType { app_type, by, reply }).await
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

    /// Returns the effective core counts of an app, and its overrides.
    pub(crate) fn cores(&self, app: &AppRecord) -> (Cores, CoresOverride) {
        let overrides = app.fields().cores;
        (self.0.parts.cores.with(overrides), overrides)
    }

    /// Starts a stopped app, or one in error. Returns before the release is loaded; the app's state
    /// shows the result.
    pub(crate) async fn start(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        self.request(name, by, |by, reply| Command::Start { by, reply }).await
    }

    /// Stops an app: new requests are refused at once, accepted requests are drained.
    pub(crate) async fn stop(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        let app = self.handle(name)?;
        let by = by.to_owned();
        app.request(|reply| Command::Stop { by, reply }).await?;
        Ok(app.record)
    }

    /// Sets or clears the build error of a dev app.
    pub(crate) async fn set_build_error(&self, name: &AppName, message: Option<String>) -> Result<(), DeployError> {
        self.handle(name)?.request(|reply| Command::SetBuildError { message, reply }).await
    }

    /// Sends a request to the app's task, unless the host is stopping.
    async fn request(
        &self,
        name: &AppName,
        by: &str,
        command: impl FnOnce(String, Reply<()>) -> Command,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.ensure_open()?;
        let app = self.handle(name)?;
        let by = by.to_owned();
        app.request(|reply| command(by, reply)).await?;
        Ok(app.record)
    }

    /// Destroys an app with all its data. The deletion in the store is the commit point; before it,
    /// nothing has changed. Accepted requests are then drained for a limited time.
    pub(crate) async fn delete(&self, name: &AppName, by: &str) -> Result<(), DeployError> {
        let destroyed = match self.handle(name) {
            Ok(app) => {
                let by = by.to_owned();
                app.request(|reply| Command::Destroy { by, reply }).await
            }
            Err(unknown) => Err(unknown),
        };
        if matches!(destroyed, Err(DeployError::UnknownApp(_))) {
            // A repeated request is answered once the destruction is complete, so that its client
            // can reuse the name.
            self.0.registry.until_removed(name).await;
        }
        destroyed
    }
}

impl AppTask {
    pub(super) async fn start(&mut self, by: &str) -> Result<(), DeployError> {
        let changed = self.change(AppCommand::Start, "requested").await?;
        let (true, Some(release)) = (changed.base, self.app.fields().release) else { return Ok(()) };
        reached("app-starts").await;
        let text = format!("{release} is started: requested");
        self.deployer.0.activity.record(&self.app, "app-started", text, json!({ "release": release, "by": by })).await;
        Ok(())
    }

    pub(super) async fn stop(&mut self, by: &str) -> Result<(), DeployError> {
        let was = self.app.fields().state;
        let changed = self.change(AppCommand::Stop, "requested").await?;
        let text = if was != self.app.fields().state {
            "stopped: requested"
        } else if changed.is_stored {
            // It was already stopped, possibly because it has no release.
            "stopped: requested; new releases serve once the app is started"
        } else {
            return Ok(());
        };
        self.deployer.0.activity.record(&self.app, "app-stopped", text.to_owned(), json!({ "by": by })).await;
        Ok(())
    }

    pub(super) async fn set_type(&mut self, app_type: AppType, by: &str) -> Result<(), DeployError> {
        self.forget_withdrawn();
        let before = self.app.fields().app_type;
        // Checked before the slots: a running app's type never changes.
        let decided = self.decide(AppCommand::SetType(app_type)).map_err(|denied| self.denied(denied))?;
        if decided.store.is_none() {
            return Ok(());
        }
        // A production app keeps an instance of each process type warm.
        let (processes, limits) = self.deployer.current_processes(&self.app).await?;
        let slots = self.deployer.current_slots(&self.app).await?;
        self.deployer
            .0
            .releases
            .check_warm_minimum(app_type, &processes, &limits, slots)
            .map_err(|failure| DeployError::NotRolledOut { app: self.app.name.clone(), failure: Box::new(failure) })?;
        self.change(AppCommand::SetType(app_type), "requested").await?;
        self.app.traffic.resources().set_type(app_type);
        let text = format!("type changed from {before} to {app_type}: requested");
        self.deployer
            .0
            .activity
            .record(&self.app, "app-type", text, json!({ "from": before, "to": app_type, "by": by }))
            .await;
        Ok(())
    }

    pub(super) async fn set_cores(&mut self, change: &Value, by: &str) -> Result<(), DeployError> {
        let (name, before) = (self.app.name.clone(), self.app.fields().cores);
        let overrides = merged_cores(before, change).map_err(|why| DeployError::Cores { app: name.clone(), why })?;
        let parts = &self.deployer.0.parts;
        parts.store.set_app_cores(&name, overrides, Timestamp::now()).await?;
        self.publish(|fields| fields.cores = overrides);
        let (before, after) = (parts.cores.with(before), parts.cores.with(overrides));
        self.app.traffic.set_cores(after);
        if before == after {
            return Ok(());
        }
        let text = format!(
            "cores changed from {} pull and {} push to {} and {}: requested",
            before.pull, before.push, after.pull, after.push
        );
        self.deployer
            .0
            .activity
            .record(&self.app, "app-cores", text, json!({ "from": before, "to": after, "by": by }))
            .await;
        Ok(())
    }

    pub(super) fn set_build_error(&self, message: Option<String>) -> Result<(), DeployError> {
        let app_type = self.app.fields().app_type;
        if app_type != AppType::Dev {
            return Err(DeployError::NotDev { app: self.app.name.clone(), app_type });
        }
        self.app.traffic.set_build_error(message.clone());
        let build_error = message.map(|message| BuildError { message, at: Timestamp::now() });
        self.publish(|fields| fields.build_error = build_error);
        Ok(())
    }

    /// Stores the config of an app without a release. Its first release receives it.
    pub(super) async fn set_config(&self, config: ConfigVars, keys: &[String], by: &str) -> Result<(), DeployError> {
        self.deployer.0.parts.store.set_app_config(&self.app.name, config.clone(), Timestamp::now()).await?;
        self.publish(|fields| fields.config = config);
        let text = format!("config changed: {}; the first release receives it", keys.join(", "));
        self.deployer.0.activity.record(&self.app, "config-changed", text, json!({ "keys": keys, "by": by })).await;
        Ok(())
    }

    /// Deletes the app from the store, and then takes it out of service.
    pub(super) async fn delete_stored(&mut self) -> Result<(), DeployError> {
        self.deployer.0.activity.flush().await;
        self.change(AppCommand::Destroy, "requested").await?;
        self.deployer.0.schedules.unschedule(&self.app.name);
        self.deployer.0.parts.directory.remove(&self.app.name);
        Ok(())
    }

    /// Removes a destroyed app: its work ends, and then its data is deleted.
    pub(super) async fn remove(mut self) {
        reached("app-deleted").await;
        // The change in progress ends by itself, since the app is destroyed.
        self.last_turn_ended().await;
        let at_work = std::mem::take(&mut self.at_work);
        self.drain_or_cancel(at_work).await;
        let (deployer, app, name) = (&self.deployer, &self.app, &self.app.name);
        // Waits for the guards that exist. Later access is rejected.
        app.data_gate.close().await;
        deployer.0.parts.logs.forget(name).await;
        deployer.0.parts.metrics.forget(name);
        if let Err(error) = deployer.0.parts.store.remove_data(name).await {
            tracing::error!(app = %name, %error, "the folder of a destroyed app can't be removed; the next start tries again");
        }
        deployer.0.registry.remove(name);
        let Some((by, reply)) = self.destroyed_by.take() else { return };
        tracing::info!(app = %self.app.name, by, "an app was destroyed with its data");
        // Only published to subscribers: the stored activity of the app is deleted with it.
        let text = "destroyed with all its data: requested".to_owned();
        let activity = activity_of(&self.app, APP_DESTROYED, text, json!({ "by": by }));
        self.deployer.0.activity.publish(activity);
        // The client may have disconnected.
        drop(reply.send(Ok(())));
    }

    /// Drains the work of a destroyed app, including releases that were replaced or stopped before.
    /// Work that exceeds the drain time is cancelled.
    async fn drain_or_cancel(&self, at_work: Vec<Arc<ActiveRelease>>) {
        let app = &self.app;
        let done = async {
            join_all(at_work.iter().map(|running| running.drain())).await;
            app.traffic.drained().await;
        };
        let in_time = tokio::select! {
            in_time = tokio::time::timeout(limits::DRAIN_TIME, done) => in_time.is_ok(),
            () = self.deployer.0.cancel.cancelled() => false,
        };
        app.traffic.destroy();
        if in_time {
            return;
        }
        tracing::warn!(app = %app.name, "work of a destroyed app exceeded the drain time and is cancelled");
        if tokio::time::timeout(limits::FLUSH_TIME, app.traffic.drained()).await.is_err() {
            tracing::warn!(app = %app.name, "work of a destroyed app did not end after its cancellation; it continues without access to data");
        }
    }
}

/// Applies a merge patch to the overrides of an app's cores.
fn merged_cores(present: CoresOverride, change: &Value) -> Result<CoresOverride, String> {
    let mut patched = json!(present);
    json_patch::merge(&mut patched, change);
    for value in patched.as_object_mut().into_iter().flat_map(|overrides| overrides.values_mut()) {
        *value = whole(value).map_or_else(|| value.take(), Value::from);
    }
    let is_count = |value: &Value| value.is_null() || value.as_u64().is_some_and(|count| u32::try_from(count).is_ok());
    let overrides = match patched {
        Value::Object(ref overrides)
            if let Some((queue, value)) = overrides.iter().find(|(_, value)| !is_count(value)) =>
        {
            Err(format!("`{queue}` is {value}; use a whole number, or null for the host's default"))
        }
        Value::Object(_) => serde_json::from_value::<CoresOverride>(patched).map_err(|e| explain(&e)),
        // Rejects a JSON array, which serde would also accept.
        _ => Err("the body must be an object".to_owned()),
    };
    overrides.and_then(|overrides| overrides.checked().map_err(|e| e.to_string()))
}
