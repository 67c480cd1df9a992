//! Owns the life of an app besides its pushes: create, start, stop, change its type, delete. Each change is stored first,
//! then done, then recorded in the app's activity with its cause.

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

/// The kind of the last entry in the activity of an app.
pub(crate) const APP_DESTROYED: &str = "app-destroyed";

impl Deployer {
    /// Makes an app.
    pub(crate) async fn create(
        &self,
        name: &AppName,
        app_type: AppType,
        cause: &str,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.still_open()?;
        // One at a time: two apps of one name must not get past each other.
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
        let entry = self.enter(row);
        self.0.parts.directory.put(&[Arc::clone(&entry.traffic)]);
        let text = format!("created as a {app_type} app: {cause}");
        self.record(&entry, "app-created", text, json!({ "type": app_type, "by": by })).await;
        Ok(entry)
    }

    /// Makes an app known to this host's tables; traffic finds it once it is put in the directory.
    pub(super) fn enter(&self, row: App) -> Arc<AppRecord> {
        let resources = self.0.parts.machine.app_resources(row.app_type, self.0.parts.cores.with(row.cores));
        let traffic = Arc::new(runtime::App::new(row.name.clone(), resources));
        let log = self.0.parts.logs.app(&row.name);
        let entry = Arc::new(AppRecord::new(row, log, traffic, self.0.records.clone()));
        let mut apps = self.0.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.insert(entry.name.clone(), Arc::clone(&entry));
        entry
    }

    /// Changes an app's type, which only a stopped app lets happen.
    pub(crate) async fn set_type(
        &self,
        name: &AppName,
        app_type: AppType,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.still_open()?;
        let entry = self.app(name)?;
        let not_stopped = |state| DeployError::NotStopped { app: name.clone(), state };
        let state = entry.fields().state;
        if state != AppState::Stopped {
            return Err(not_stopped(state));
        }
        // Whoever holds the turn is changing the app, so it is not at rest even if its state says so.
        let _turn = entry.turn.try_lock().map_err(|_| DeployError::Busy(name.clone()))?;
        // Whoever starts it has done so, or takes the new type.
        let _alone = entry.commit.lock().await;
        entry.still_there()?;
        let (state, before) = {
            let fields = entry.fields();
            (fields.state, fields.app_type)
        };
        if state != AppState::Stopped {
            return Err(not_stopped(state));
        }
        if before == app_type {
            return Ok(Arc::clone(&entry));
        }
        // A production app keeps an instance of each process type warm.
        let (processes, limits) = self.present_processes(&entry).await?;
        let slots = self.present_slots(&entry).await?;
        self.check_kept(app_type, &processes, &limits, slots)
            .map_err(|failure| DeployError::NotRolledOut { app: name.clone(), failure: Box::new(failure) })?;
        self.0.parts.store.set_app_type(name, app_type, Timestamp::now()).await?;
        entry.fields().app_type = app_type;
        entry.traffic.resources().set_type(app_type);
        let text = format!("type changed from {before} to {app_type}: asked for");
        self.record(&entry, "app-type", text, json!({ "from": before, "to": app_type, "by": by })).await;
        Ok(Arc::clone(&entry))
    }

    /// Gives an app other cores than the operator allots to all. Needs no new release: jobs that wait begin at once, and
    /// what runs ends in its own time.
    pub(crate) async fn set_cores(
        &self,
        name: &AppName,
        change: &Value,
        by: &str,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.still_open()?;
        let entry = self.app(name)?;
        // One at a time: two changes at the same moment must not undo each other.
        let _dividing = self.0.dividing.lock().await;
        entry.still_there()?;
        let mut wanted = json!(entry.fields().cores);
        json_patch::merge(&mut wanted, change);
        for value in wanted.as_object_mut().into_iter().flat_map(|said| said.values_mut()) {
            *value = whole(value).map_or_else(|| value.take(), Value::from);
        }
        let is_count =
            |value: &Value| value.is_null() || value.as_u64().is_some_and(|count| u32::try_from(count).is_ok());
        let said = match wanted {
            Value::Object(ref said) if let Some((queue, value)) = said.iter().find(|(_, value)| !is_count(value)) => {
                Err(format!("`{queue}` is {value}; write a whole number, or null for as many as all apps have"))
            }
            Value::Object(_) => serde_json::from_value::<CoresOverride>(wanted).map_err(|e| explain(&e)),
            // A list could be read too, by the order of its numbers, which nobody should have to know.
            _ => Err("they are written as an object".to_owned()),
        };
        let said = said.and_then(|said| said.checked().map_err(|e| e.to_string()));
        let said = said.map_err(|why| DeployError::Cores { app: name.clone(), why })?;
        self.0.parts.store.set_app_cores(name, said, Timestamp::now()).await?;
        let before = std::mem::replace(&mut entry.fields().cores, said);
        let allotted = self.0.parts.cores;
        let (before, after) = (allotted.with(before), allotted.with(said));
        entry.traffic.set_cores(after);
        if before == after {
            return Ok(entry);
        }
        let text = format!(
            "cores changed from {} pull and {} push to {} and {}: asked for",
            before.pull, before.push, after.pull, after.push
        );
        self.record(&entry, "app-cores", text, json!({ "from": before, "to": after, "by": by })).await;
        Ok(entry)
    }

    /// The cores of an app, and what was said of them.
    pub(crate) fn cores(&self, entry: &AppRecord) -> (Cores, CoresOverride) {
        let said = entry.fields().cores;
        (self.0.parts.cores.with(said), said)
    }

    /// Starts a stopped app, or one in error. What comes of it is seen in its state.
    pub(crate) async fn start(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        self.still_open()?;
        let entry = self.app(name)?;
        let Some(release) = entry.fields().release else { return Err(DeployError::NothingToStart(name.clone())) };
        self.intend(&entry, Intended::Running).await?;
        if entry.step(AppEvent::Start, "asked for").is_err() {
            // It runs, or is being made to run: asked for what is the case.
            return Ok(entry);
        }
        reached("app-starts").await;
        let text = format!("{release} is started: asked for");
        self.record(&entry, "app-started", text, json!({ "release": release, "by": by })).await;
        let (deployer, starting) = (self.clone(), Arc::clone(&entry));
        self.0.tasks.spawn(async move { deployer.bring_up(&starting).await });
        Ok(entry)
    }

    /// Starts an app that somebody wanted started while a release was being made that then came to nothing.
    pub(super) fn start_if_wanted(&self, entry: &Arc<AppRecord>) {
        let wanted = {
            let fields = entry.fields();
            fields.intended == Intended::Running && fields.release.is_some() && fields.state == AppState::Stopped
        };
        if wanted && entry.step(AppEvent::Start, "asked for while a release was being made").is_ok() {
            let (deployer, starting) = (self.clone(), Arc::clone(entry));
            self.0.tasks.spawn(async move { deployer.bring_up(&starting).await });
        }
    }

    /// Stops an app: new requests are refused at once, accepted ones are finished.
    pub(crate) async fn stop(&self, name: &AppName, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        let entry = self.app(name)?;
        // Whoever is about to bring a release into service has done so, or sees that it is not wanted.
        let _alone = entry.commit.lock().await;
        entry.still_there()?;
        let was_intended = entry.fields().intended;
        self.intend(&entry, Intended::Stopped).await?;
        if entry.step(AppEvent::Stop, "asked for").is_err() {
            // It is stopped already, if only for want of a release.
            if was_intended != Intended::Stopped {
                drop(entry.traffic.set_stopped("the app is stopped"));
                let text = "stopped: asked for; what is deployed now serves once the app is started".to_owned();
                self.record(&entry, "app-stopped", text, json!({ "by": by })).await;
            }
            return Ok(Arc::clone(&entry));
        }
        let serving = entry.traffic.set_stopped("the app is stopped");
        // Nothing is watched any more: a start looks anew for what there is to go back to.
        let earlier = std::mem::take(&mut *entry.earlier());
        for ending in earlier.into_iter().chain(serving) {
            self.in_background(async move { ending.drain().await });
        }
        self.record(&entry, "app-stopped", "stopped: asked for".to_owned(), json!({ "by": by })).await;
        Ok(Arc::clone(&entry))
    }

    async fn intend(&self, entry: &AppRecord, intended: Intended) -> Result<(), DeployError> {
        if entry.fields().intended != intended {
            self.0.parts.store.set_intended(&entry.name, intended, Timestamp::now()).await?;
            entry.fields().intended = intended;
        }
        Ok(())
    }

    /// Deletes an app with all it has. It is over once the store has said so, and until then nothing has changed; accepted
    /// requests are then finished for a while.
    pub(crate) async fn delete(&self, name: &AppName, by: &str) -> Result<(), DeployError> {
        let entry = match self.app(name) {
            Ok(entry) => entry,
            Err(unknown) => {
                // Whoever asks again for what is being done may use the name once told that the app is gone.
                let going = self.0.apps.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
                if let Some(going) = going {
                    drop(going.turn.lock().await);
                }
                return Err(unknown);
            }
        };
        // Before anybody can see that it is gone, so that whoever asks again stands behind.
        let turn = enqueue_change(&entry).await;
        let at_work = self.delete_stored(&entry).await?;
        reached("app-deleted").await;
        // Whoever had the turn gives it up.
        let _turn = turn.await;
        self.end_work(&entry, at_work).await;
        // Who is let out here was let in before; all others find the app gone.
        entry.data_gate.close().await;
        self.0.parts.logs.forget(name).await;
        self.0.parts.metrics.forget(name);
        if let Err(error) = self.0.parts.store.remove_data(name).await {
            tracing::error!(app = %name, %error, "the folder of a deleted app can't be removed; the next start tries again");
        }
        self.0.apps.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        tracing::info!(app = %name, by, "an app was deleted with its data");
        // Nothing of it is stored, since the activity of an app goes with it: this is for those who follow it.
        let text = "destroyed with all it had: asked for".to_owned();
        self.tell(self.activity_of(&entry, APP_DESTROYED, text, json!({ "by": by })));
        Ok(())
    }

    /// Takes an app out of the store, and then out of service. Gives what of it may still be at work.
    async fn delete_stored(&self, entry: &AppRecord) -> Result<Vec<Arc<runtime::ActiveRelease>>, DeployError> {
        // Whoever is about to bring a release into service has done so, or sees that the app is gone.
        let _alone = entry.commit.lock().await;
        entry.still_there()?;
        self.recorded().await;
        self.0.parts.store.delete_app(&entry.name).await?;
        entry.fields().deleted = true;
        entry.gone.cancel();
        let serving = entry.traffic.set_stopped("the app is deleted");
        self.unschedule(&entry.name);
        self.0.parts.directory.remove(&entry.name);
        let mut at_work = std::mem::take(&mut *entry.earlier());
        at_work.extend(serving);
        Ok(at_work)
    }

    /// Waits until the work of a deleted app is done, also that of releases which were replaced or stopped before; what is
    /// not done in time is cut off.
    async fn end_work(&self, entry: &AppRecord, at_work: Vec<Arc<runtime::ActiveRelease>>) {
        let done = async {
            join_all(at_work.iter().map(|running| running.drain())).await;
            entry.traffic.drained().await;
        };
        let in_time = tokio::select! {
            in_time = tokio::time::timeout(limits::DRAIN_TIME, done) => in_time.is_ok(),
            () = self.0.cancel.cancelled() => false,
        };
        entry.traffic.destroy();
        if in_time {
            return;
        }
        tracing::warn!(app = %entry.name, "work of a deleted app was not finished in time and is cut off");
        if tokio::time::timeout(limits::FLUSH_TIME, entry.traffic.drained()).await.is_err() {
            tracing::warn!(app = %entry.name, "work of a deleted app could not be cut off in time, and goes on without its data");
        }
    }

    /// Keeps what the compiler said about the newest code of a dev app, or forgets it.
    pub(crate) fn set_build_error(&self, name: &AppName, message: Option<String>) -> Result<(), DeployError> {
        let entry = self.app(name)?;
        let app_type = entry.fields().app_type;
        if app_type != AppType::Dev {
            return Err(DeployError::NotDev { app: name.clone(), app_type });
        }
        entry.traffic.set_build_error(message.clone());
        entry.fields().build_error = message.map(|message| BuildError { message, at: Timestamp::now() });
        Ok(())
    }

    /// Brings the present release of an app into service, as its intended state asks for. It does not wait for a push that
    /// is under way: that may take long, and may fail.
    pub(super) async fn bring_up(&self, entry: &Arc<AppRecord>) {
        while let Some((release, app_type)) = to_bring_up(entry) {
            let brought = tokio::select! {
                brought = self.load(entry, release, Purpose::Serve) => brought,
                () = entry.gone.cancelled() => return,
                () = self.0.cancel.cancelled() => return,
            };
            let before = match &brought {
                Ok(running) => self.to_watch_again(entry, running, release).await,
                Err(_) => None,
            };
            let _alone = entry.commit.lock().await;
            // A push, a stop or a change of type may have come first.
            if to_bring_up(entry) != Some((release, app_type)) {
                continue;
            }
            match brought {
                Ok(running) => {
                    if let Some(before) = &before {
                        before.supervise(&self.0.crash_reports);
                    }
                    self.put_in_service(entry, Arc::new(running), before);
                    entry.brought_up(&format!("{release} serves"));
                    self.refresh_from(entry, release).await;
                }
                Err(failure) if failure.is_passing() => {
                    say_not_now(entry, release, &failure);
                    self.bring_up_later(entry);
                }
                Err(failure) => self.cannot_serve(entry, release, &failure).await,
            }
            return;
        }
    }

    /// Nobody waits for it meanwhile, so that one app does not hold up those that are brought back after it.
    fn bring_up_later(&self, entry: &Arc<AppRecord>) {
        let (deployer, entry) = (self.clone(), Arc::clone(entry));
        self.in_background(async move {
            tokio::time::sleep(limits::BRING_UP_PAUSE).await;
            deployer.bring_up(&entry).await;
        });
    }

    /// The app has a release that can't be loaded: it is in error, and says why.
    pub(super) async fn cannot_serve(&self, entry: &AppRecord, release: ReleaseNumber, failure: &Failure) {
        let reason = format!("{}: {failure}", failure.code());
        entry.log.write(LogLine::host(&entry.name, format!("{release} can't be started: {reason}")));
        drop(entry.traffic.set_stopped("the app is in error"));
        self.schedule_stored(entry, release).await;
        settle(entry, AppEvent::Failed(failure.cause()), &reason);
        let data = json!({ "release": release, "cause": failure.cause(), "code": failure.code() });
        self.record(entry, "app-error", format!("{release} can't be started: {reason}"), data).await;
    }

    /// A stop, or a crash of the host, right after a swap does not end the watch over the new release: it is watched anew,
    /// beside the last good one, which this is.
    async fn to_watch_again(
        &self,
        entry: &Arc<AppRecord>,
        running: &runtime::ActiveRelease,
        number: ReleaseNumber,
    ) -> Option<Arc<runtime::ActiveRelease>> {
        let release = self.0.parts.store.release(&entry.name, number).await.ok()??;
        // Whichever way the clock was set meanwhile.
        if Timestamp::now().duration_since(release.updated_at).unsigned_abs() >= limits::RELEASE_FRESH {
            return None;
        }
        running.mark_fresh();
        if entry.fields().app_type == AppType::Dev {
            return None;
        }
        let (_, good) = self.last_good(entry, number).await?;
        good.set_standby(true);
        Some(good)
    }

    /// Makes a stored release ready to serve, as it was made.
    pub(super) async fn load(
        &self,
        entry: &AppRecord,
        number: ReleaseNumber,
        purpose: Purpose,
    ) -> Result<runtime::ActiveRelease, Failure> {
        let release = self.0.parts.store.release(&entry.name, number).await?;
        let release = release.ok_or_else(|| Failure::Internal(format!("{number} is not in the store")))?;
        if release.state.is_final() {
            let reason = release.reason.map_or_else(|| release.state.to_string(), |reason| reason.detail);
            return Err(Failure::StoppedForGood { release: number, reason });
        }
        let app_type = entry.fields().app_type;
        let digest = release.snapshot.as_ref().unwrap_or(&release.bundle);
        let cached = match purpose {
            Purpose::Preview => self.0.parts.engine.load_compiled(digest.as_ref(), boot::speed(app_type)).await,
            // What serves is checked against its bundle.
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
        let (program, mut planned) = self.plan(entry, &compiled, &content, formation).await?;
        let resources = entry.traffic.resources();
        match purpose {
            Purpose::Serve => start_well(resources, &mut planned, manifest.isolation).await?,
            Purpose::Preview => planned.iter_mut().for_each(|planned| planned.scale.min = 0),
        }
        Ok(runtime::ActiveRelease::new(Some(number), program, manifest.isolation, planned, Arc::clone(resources)))
    }

    /// The release that the app has now.
    pub(super) async fn present(&self, entry: &AppRecord) -> Result<Option<Release>, StoreError> {
        let number = entry.fields().release;
        match number {
            Some(number) => self.0.parts.store.release(&entry.name, number).await,
            None => Ok(None),
        }
    }

    /// Takes over what a release that serves again brings with it: its config and its schedules.
    pub(super) async fn refresh_from(&self, entry: &Arc<AppRecord>, number: ReleaseNumber) {
        match self.0.parts.store.release(&entry.name, number).await {
            Ok(Some(release)) => {
                entry.fields().config = release.config;
                self.schedule(entry, &release.manifest);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(app = %entry.name, %error, "a release could not be read"),
        }
    }
}

/// Says that a release can't be loaded for a reason that is none of its own, so that the app stays what it is.
pub(super) fn say_not_now(entry: &AppRecord, release: ReleaseNumber, failure: &Failure) {
    tracing::warn!(app = %entry.name, %release, %failure, "a release can't be loaded now, and is tried again");
    let text = format!("{release} can't be started now, and is tried again: {}: {failure}", failure.code());
    entry.log.write(LogLine::host(&entry.name, text));
}

/// Starts what a release is to have from the beginning. Where the host has no room, it starts that once there is some: the
/// release was well when it was made, and room comes and goes.
async fn start_well(
    resources: &Arc<AppResources>,
    planned: &mut [ProcessPlan],
    isolation: Isolation,
) -> Result<(), Failure> {
    let started = match boot::start_all(resources, None, planned, isolation).await {
        Ok(_) => boot::check_all(resources, planned, isolation).await,
        Err(failure) => Err(failure),
    };
    match started {
        Err(failure) if failure.is_of_no_room() => planned.iter_mut().for_each(|planned| planned.warm.clear()),
        other => other?,
    }
    Ok(())
}

/// The release that is to be brought into service, and the type of its app; none where nobody waits for that any more.
fn to_bring_up(entry: &AppRecord) -> Option<(ReleaseNumber, AppType)> {
    let fields = entry.fields();
    let is_wanted = fields.is_starting() && !fields.deleted;
    fields.release.filter(|_| is_wanted).map(|release| (release, fields.app_type))
}

pub(super) fn settle(entry: &AppRecord, event: AppEvent, cause: &str) {
    if let Err(refused) = entry.step(event, cause) {
        tracing::warn!(app = %entry.name, %refused, "the app changed while it was started");
    }
}
