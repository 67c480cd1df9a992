//! Owns the lifecycle of an app besides its pushes: create, start, stop, change its type, destroy.
//! Each change is stored first, then applied, then recorded in the app's activity with its cause.
//! Never verifies or builds a bundle.

use std::sync::{Arc, PoisonError};

use futures::future::join_all;
use isopod_policy::{
    AppEvent, AppName, AppState, AppType, Cores, CoresOverride, Isolation, ReleaseNumber,
    json::{explain, whole},
};
use isopod_store::{App, Control, Intended, NewApp, Release, StoreError};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::control::{
    AppRecord, BuildError, DeployError, Deployer, Failure,
    failpoint::reached,
    push::job::enqueue_change,
    release::boot::{self, Purpose},
    release::verify::{self, Verified},
};
use crate::{
    limits,
    observe::logs::LogLine,
    runtime::{self, AppResources, ProcessPlan},
};

/// The kind of an app's last activity.
pub(crate) const APP_DESTROYED: &str = "app-destroyed";

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
        if let Some(known) = self.0.apps.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            let is_going = known.fields().deleted;
            let refused = if is_going { DeployError::BeingDestroyed } else { DeployError::AppExists };
            return Err(refused(name.clone()));
        }
        let new = NewApp { name: name.clone(), app_type, intended: Intended::Running, created_at: Timestamp::now() };
        let row = match self.0.parts.store.create_app(new).await {
            Ok(row) => row,
            Err(StoreError::AppExists { name }) => return Err(DeployError::AppExists(name)),
            Err(error) => return Err(error.into()),
        };
        reached("app-stored").await;
        let app = self.register(row);
        self.0.parts.directory.put(&[Arc::clone(&app.traffic)]);
        let text = format!("created as a {app_type} app: {cause}");
        self.record(&app, "app-created", text, json!({ "type": app_type, "by": by })).await;
        Ok(app)
    }

    /// Adds the app's record. Traffic reaches the app once it is put in the directory.
    pub(super) fn register(&self, row: App) -> Arc<AppRecord> {
        let resources = self.0.parts.machine.app_resources(row.app_type, self.0.parts.cores.with(row.cores));
        let traffic = Arc::new(runtime::App::new(row.name.clone(), resources));
        let log = self.0.parts.logs.app(&row.name);
        let app = Arc::new(AppRecord::new(row, log, traffic, self.0.records.clone()));
        let mut apps = self.0.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.insert(app.name.clone(), Arc::clone(&app));
        app
    }

    /// Changes the type of a stopped app.
    pub(crate) async fn set_type(
        &self,
        name: &AppName,
        app_type: AppType,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.ensure_open()?;
        let app = self.app(name)?;
        let not_stopped = |state| DeployError::NotStopped { app: name.clone(), state };
        let state = app.fields().state();
        if state != AppState::Stopped {
            return Err(not_stopped(state));
        }
        // While the lock is held, a change of the app is in progress, even if its state is
        // `stopped`.
        let _turn = app.change_lock.try_lock().map_err(|_| DeployError::Busy(name.clone()))?;
        // A concurrent start has either committed, or uses the new type.
        let _commit = app.commit.lock().await;
        app.ensure_exists()?;
        let (state, before) = {
            let fields = app.fields();
            (fields.state(), fields.app_type)
        };
        if state != AppState::Stopped {
            return Err(not_stopped(state));
        }
        if before == app_type {
            return Ok(Arc::clone(&app));
        }
        // A production app keeps an instance of each process type warm.
        let (processes, limits) = self.current_processes(&app).await?;
        let slots = self.current_slots(&app).await?;
        self.check_warm_minimum(app_type, &processes, &limits, slots)
            .map_err(|failure| DeployError::NotRolledOut { app: name.clone(), failure: Box::new(failure) })?;
        self.0.parts.store.set_app_type(name, app_type, Timestamp::now()).await?;
        app.fields().app_type = app_type;
        app.traffic.resources().set_type(app_type);
        let text = format!("type changed from {before} to {app_type}: requested");
        self.record(&app, "app-type", text, json!({ "from": before, "to": app_type, "by": by })).await;
        Ok(Arc::clone(&app))
    }

    /// Overrides the operator's core counts for an app. Needs no new release: waiting jobs start at
    /// once if there are more cores, and running jobs complete if there are fewer.
    pub(crate) async fn set_cores(
        &self,
        name: &AppName,
        change: &Value,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.ensure_open()?;
        let app = self.app(name)?;
        // Serialised, so that concurrent changes don't overwrite each other.
        let _changing_cores = self.0.changing_cores.lock().await;
        app.ensure_exists()?;
        let mut patched = json!(app.fields().cores);
        json_patch::merge(&mut patched, change);
        for value in patched.as_object_mut().into_iter().flat_map(|overrides| overrides.values_mut()) {
            *value = whole(value).map_or_else(|| value.take(), Value::from);
        }
        let is_count =
            |value: &Value| value.is_null() || value.as_u64().is_some_and(|count| u32::try_from(count).is_ok());
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
        let overrides = overrides.and_then(|overrides| overrides.checked().map_err(|e| e.to_string()));
        let overrides = overrides.map_err(|why| DeployError::Cores { app: name.clone(), why })?;
        self.0.parts.store.set_app_cores(name, overrides, Timestamp::now()).await?;
        let before = std::mem::replace(&mut app.fields().cores, overrides);
        let allotted = self.0.parts.cores;
        let (before, after) = (allotted.with(before), allotted.with(overrides));
        app.traffic.set_cores(after);
        if before == after {
            return Ok(app);
        }
        let text = format!(
            "cores changed from {} pull and {} push to {} and {}: requested",
            before.pull, before.push, after.pull, after.push
        );
        self.record(&app, "app-cores", text, json!({ "from": before, "to": after, "by": by })).await;
        Ok(app)
    }

    /// Returns the effective core counts of an app, and its overrides.
    pub(crate) fn cores(&self, app: &AppRecord) -> (Cores, CoresOverride) {
        let overrides = app.fields().cores;
        (self.0.parts.cores.with(overrides), overrides)
    }

    /// Starts a stopped app, or one in error. Returns before the release is loaded; the app's state
    /// shows the result.
    pub(crate) async fn start(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        self.ensure_open()?;
        let app = self.app(name)?;
        let Some(release) = app.fields().release else { return Err(DeployError::NothingToStart(name.clone())) };
        self.intend(&app, Intended::Running).await?;
        if app.step(AppEvent::Start, "requested").is_err() {
            // It is running or starting already.
            return Ok(app);
        }
        reached("app-starts").await;
        let text = format!("{release} is started: requested");
        self.record(&app, "app-started", text, json!({ "release": release, "by": by })).await;
        let (deployer, starting) = (self.clone(), Arc::clone(&app));
        self.0.tasks.spawn(async move { deployer.activate(&starting).await });
        Ok(app)
    }

    /// Stops an app: new requests are refused at once, accepted requests are drained.
    pub(crate) async fn stop(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        let app = self.app(name)?;
        // A concurrent start has either committed, or finds the new intended state.
        let _commit = app.commit.lock().await;
        app.ensure_exists()?;
        let was_intended = app.fields().intended;
        self.intend(&app, Intended::Stopped).await?;
        if app.step(AppEvent::Stop, "requested").is_err() {
            // It is already stopped, possibly because it has no release.
            if was_intended != Intended::Stopped {
                drop(app.traffic.set_stopped("the app is stopped"));
                let text = "stopped: requested; new releases serve once the app is started".to_owned();
                self.record(&app, "app-stopped", text, json!({ "by": by })).await;
            }
            return Ok(Arc::clone(&app));
        }
        let serving = app.traffic.set_stopped("the app is stopped");
        // The rollout watch ends: the next start selects the release to return to itself.
        let standby = std::mem::take(&mut *app.standby());
        for release in standby.into_iter().chain(serving) {
            self.in_background(async move { release.drain().await });
        }
        self.record(&app, "app-stopped", "stopped: requested".to_owned(), json!({ "by": by })).await;
        Ok(Arc::clone(&app))
    }

    async fn intend(&self, app: &AppRecord, intended: Intended) -> Result<(), DeployError> {
        if app.fields().intended != intended {
            self.0.parts.store.set_intended(&app.name, intended, Timestamp::now()).await?;
            app.fields().intended = intended;
        }
        Ok(())
    }

    /// Destroys an app with all its data. The deletion in the store is the commit point; before it,
    /// nothing has changed. Accepted requests are then drained for a limited time.
    pub(crate) async fn delete(&self, name: &AppName, by: &str) -> Result<(), DeployError> {
        let app = match self.app(name) {
            Ok(app) => app,
            Err(unknown) => {
                // A repeated request is answered once the destruction is complete, so that its
                // client can reuse the name.
                let being_destroyed = self.0.apps.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
                if let Some(being_destroyed) = being_destroyed {
                    drop(being_destroyed.change_lock.lock().await);
                }
                return Err(unknown);
            }
        };
        // Enqueued before the deletion is visible, so that a repeated request waits behind this
        // one.
        let turn = enqueue_change(&app).await;
        let at_work = self.delete_stored(&app).await?;
        reached("app-deleted").await;
        // The change in progress is cancelled and releases the lock.
        let _turn = turn.await;
        self.drain_or_cancel(&app, at_work).await;
        // Waits for the guards that exist. Later access is rejected.
        app.data_gate.close().await;
        self.0.parts.logs.forget(name).await;
        self.0.parts.metrics.forget(name);
        if let Err(error) = self.0.parts.store.remove_data(name).await {
            tracing::error!(app = %name, %error, "the folder of a destroyed app can't be removed; the next start tries again");
        }
        self.0.apps.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        tracing::info!(app = %name, by, "an app was destroyed with its data");
        // Only published to subscribers: the stored activity of the app is deleted with it.
        let text = "destroyed with all its data: requested".to_owned();
        self.publish(self.activity_of(&app, APP_DESTROYED, text, json!({ "by": by })));
        Ok(())
    }

    /// Deletes an app from the store, and then takes it out of service. Returns the releases that
    /// may still run work.
    async fn delete_stored(&self, app: &AppRecord) -> Result<Vec<Arc<runtime::ActiveRelease>>, DeployError> {
        // A concurrent start has either committed, or finds the app destroyed.
        let _commit = app.commit.lock().await;
        app.ensure_exists()?;
        self.flush_activity().await;
        self.0.parts.store.delete_app(&app.name).await?;
        app.fields().deleted = true;
        app.destroyed.cancel();
        let serving = app.traffic.set_stopped("the app is destroyed");
        self.unschedule(&app.name);
        self.0.parts.directory.remove(&app.name);
        let mut at_work = std::mem::take(&mut *app.standby());
        at_work.extend(serving);
        Ok(at_work)
    }

    /// Drains the work of a destroyed app, including releases that were replaced or stopped before.
    /// Work that exceeds the drain time is cancelled.
    async fn drain_or_cancel(&self, app: &AppRecord, at_work: Vec<Arc<runtime::ActiveRelease>>) {
        let done = async {
            join_all(at_work.iter().map(|running| running.drain())).await;
            app.traffic.drained().await;
        };
        let in_time = tokio::select! {
            in_time = tokio::time::timeout(limits::DRAIN_TIME, done) => in_time.is_ok(),
            () = self.0.cancel.cancelled() => false,
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

    /// Sets or clears the build error of a dev app.
    pub(crate) fn set_build_error(&self, name: &AppName, message: Option<String>) -> Result<(), DeployError> {
        let app = self.app(name)?;
        let app_type = app.fields().app_type;
        if app_type != AppType::Dev {
            return Err(DeployError::NotDev { app: name.clone(), app_type });
        }
        app.traffic.set_build_error(message.clone());
        app.fields().build_error = message.map(|message| BuildError { message, at: Timestamp::now() });
        Ok(())
    }

    /// Loads the app's current release and puts it in service, if the app is starting. It doesn't
    /// wait for a push in progress, which may take long and may fail.
    pub(super) async fn activate(&self, app: &Arc<AppRecord>) {
        while let Some((release, app_type)) = release_to_activate(app) {
            let loaded = tokio::select! {
                loaded = self.load(app, release, Purpose::Serve) => loaded,
                () = app.destroyed.cancelled() => return,
                () = self.0.cancel.cancelled() => return,
            };
            let before = match &loaded {
                Ok(running) => self.resume_watch(app, running, release).await,
                Err(_) => None,
            };
            let _commit = app.commit.lock().await;
            // A push, a stop or a change of type may have been committed meanwhile.
            if release_to_activate(app) != Some((release, app_type)) {
                continue;
            }
            match loaded {
                Ok(running) => {
                    if let Some(before) = &before {
                        before.supervise(&self.0.crash_reports);
                    }
                    self.put_in_service(app, Arc::new(running), before);
                    step_or_warn(app, AppEvent::Serving, &format!("{release} serves"));
                    self.adopt_settings(app, release).await;
                }
                Err(failure) if failure.is_passing() => {
                    log_deferred_load(app, release, &failure);
                    self.activate_later(app);
                }
                Err(failure) => self.cannot_serve(app, release, &failure).await,
            }
            return;
        }
    }

    /// Retries later on a separate task, so that other apps are not delayed at the host's start.
    fn activate_later(&self, app: &Arc<AppRecord>) {
        let (deployer, app) = (self.clone(), Arc::clone(app));
        self.in_background(async move {
            tokio::time::sleep(limits::BRING_UP_PAUSE).await;
            deployer.activate(&app).await;
        });
    }

    /// Puts the app in the state `error`, since its release can't be loaded.
    pub(super) async fn cannot_serve(&self, app: &AppRecord, release: ReleaseNumber, failure: &Failure) {
        let reason = format!("{}: {failure}", failure.code());
        app.log.write(LogLine::host(&app.name, format!("{release} can't be started: {reason}")));
        drop(app.traffic.set_stopped("the app is in error"));
        self.schedule_stored(app, release).await;
        step_or_warn(app, AppEvent::Failed(failure.cause()), &reason);
        let data = json!({ "release": release, "cause": failure.cause(), "code": failure.code() });
        self.record(app, "app-error", format!("{release} can't be started: {reason}"), data).await;
    }

    /// Prepares to resume the rollout watch that a stop or a crash interrupted. Returns the last
    /// good release as the standby, or `None` if the release is no longer fresh.
    async fn resume_watch(
        &self,
        app: &Arc<AppRecord>,
        running: &runtime::ActiveRelease,
        number: ReleaseNumber,
    ) -> Option<Arc<runtime::ActiveRelease>> {
        let release = self.0.parts.store.release(&app.name, number).await.ok()??;
        // The absolute difference, since the clock may have been set back.
        if Timestamp::now().duration_since(release.updated_at).unsigned_abs() >= limits::RELEASE_FRESH {
            return None;
        }
        running.mark_fresh();
        if app.fields().app_type == AppType::Dev {
            return None;
        }
        let (_, good) = self.last_good(app, number).await?;
        good.set_standby(true);
        Some(good)
    }

    /// Loads a stored release.
    pub(super) async fn load(
        &self,
        app: &AppRecord,
        number: ReleaseNumber,
        purpose: Purpose,
    ) -> Result<runtime::ActiveRelease, Failure> {
        let release = self.0.parts.store.release(&app.name, number).await?;
        let release = release.ok_or_else(|| Failure::Internal(format!("{number} is not in the store")))?;
        if release.state.is_final() {
            let reason = release.reason.map_or_else(|| release.state.to_string(), |reason| reason.detail);
            return Err(Failure::TakenOutOfService { release: number, reason });
        }
        let app_type = app.fields().app_type;
        let digest = release.snapshot.as_ref().unwrap_or(&release.bundle);
        let cached = match purpose {
            Purpose::Preview => self.0.parts.engine.load_compiled(digest.as_ref(), boot::speed(app_type)).await,
            // A release that serves is verified against its bundle.
            Purpose::Serve => None,
        };
        let (compiled, manifest) = match cached {
            Some(compiled) => (compiled, release.manifest),
            None => {
                let bytes = self.code_of(&release).await?;
                let (manifest, snapshot) = (release.manifest, release.snapshot);
                let verified = tokio::task::spawn_blocking(move || verify::stored(bytes, manifest, snapshot)).await;
                let Verified { component, manifest, .. } = verified.map_err(|e| Failure::Internal(e.to_string()))??;
                (self.compile(&component, app_type).await?, manifest)
            }
        };
        let formation = verify::formation_of(&manifest, &compiled.info().entries)?;
        let content = boot::Content { manifest: &manifest, config: &release.config, number };
        let (program, mut planned) = self.plan(app, &compiled, &content, formation).await?;
        let resources = app.traffic.resources();
        match purpose {
            Purpose::Serve => start_warm(resources, &mut planned, manifest.isolation).await?,
            Purpose::Preview => planned.iter_mut().for_each(|planned| planned.scale.min = 0),
        }
        Ok(runtime::ActiveRelease::new(Some(number), program, manifest.isolation, planned, Arc::clone(resources)))
    }

    /// Returns the app's current release.
    pub(super) async fn current_release(&self, app: &AppRecord) -> Result<Option<Release>, StoreError> {
        let number = app.fields().release;
        match number {
            Some(number) => self.0.parts.store.release(&app.name, number).await,
            None => Ok(None),
        }
    }

    /// Adopts the config and the schedules of a release that serves again.
    pub(super) async fn adopt_settings(&self, app: &Arc<AppRecord>, number: ReleaseNumber) {
        match self.0.parts.store.release(&app.name, number).await {
            Ok(Some(release)) => {
                app.fields().config = release.config;
                self.schedule(app, &release.manifest);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(app = %app.name, %error, "a release could not be read"),
        }
    }
}

/// Logs that a release can't be loaded for a reason outside the release. The app's state stays the
/// same.
pub(super) fn log_deferred_load(app: &AppRecord, release: ReleaseNumber, failure: &Failure) {
    tracing::warn!(app = %app.name, %release, %failure, "a release can't be loaded now; the host tries again");
    let text = format!("{release} can't be started now; the host tries again: {}: {failure}", failure.code());
    app.log.write(LogLine::host(&app.name, text));
}

/// Starts and checks the warm instances of a release. Without a free slot the release loads without
/// them: it passed its checks when it was created, and slots become free later.
async fn start_warm(
    resources: &Arc<AppResources>,
    planned: &mut [ProcessPlan],
    isolation: Isolation,
) -> Result<(), Failure> {
    let started = match boot::start_all(resources, None, planned, isolation).await {
        Ok(_) => boot::check_all(resources, planned, isolation).await,
        Err(failure) => Err(failure),
    };
    match started {
        Err(failure) if failure.is_no_room() => planned.iter_mut().for_each(|planned| planned.warm.clear()),
        other => other?,
    }
    Ok(())
}

/// Returns the release to load and the app's type; `None` if the app is not starting.
fn release_to_activate(app: &AppRecord) -> Option<(ReleaseNumber, AppType)> {
    let fields = app.fields();
    let must_load = fields.is_starting() && !fields.deleted;
    fields.release.filter(|_| must_load).map(|release| (release, fields.app_type))
}

/// Steps the app's state machine, and logs a refused step.
pub(super) fn step_or_warn(app: &AppRecord, event: AppEvent, cause: &str) {
    if let Err(refused) = app.step(event, cause) {
        tracing::warn!(app = %app.name, %refused, "the app's state changed meanwhile");
    }
}
