//! Loads stored releases, and puts releases in service: after a start, for a cold app, and after a
//! commit. Never creates a release.

use std::sync::Arc;

use isopod_policy::{AppCommand, AppType, Isolation, LoadId, ReleaseNumber};
use isopod_store::{Control, Release, StoreError};
use jiff::Timestamp;
use serde_json::json;

use crate::control::release::releases::Releases;
use crate::control::{
    AppRecord, Failure,
    app_task::{AppTask, Done, Incoming},
    release::boot::{self, Purpose},
    release::verify::{self, ValidBundle},
    release::watch::watch_outcome,
};
use crate::{
    control::limits,
    observe::logs::LogLine,
    runtime::{ActiveRelease, AppResources, ProcessPlan},
};

/// A release that is loaded for a start.
pub(in crate::control) struct Loaded {
    running: ActiveRelease,
    /// The last good release, if the rollout watch resumes.
    beside: Option<Arc<ActiveRelease>>,
}

impl Releases {
    /// Loads the release of an app that starts. It doesn't wait for a push in progress, which may
    /// take long and may fail.
    pub(in crate::control) async fn load_to_serve(
        &self,
        app: &AppRecord,
        release: ReleaseNumber,
    ) -> Result<Loaded, Failure> {
        let running = self.load(app, release, Purpose::Serve).await?;
        let beside = self.resume_watch(app, &running, release).await;
        Ok(Loaded { running, beside })
    }

    /// Prepares to resume the rollout watch that a stop or a crash interrupted. Returns the last
    /// good release as the standby, or `None` if the release is no longer fresh.
    async fn resume_watch(
        &self,
        app: &AppRecord,
        running: &ActiveRelease,
        number: ReleaseNumber,
    ) -> Option<Arc<ActiveRelease>> {
        let release = self.store.release(&app.name, number).await.ok()??;
        // The absolute difference, since the clock may have been set back.
        if Timestamp::now().duration_since(release.updated_at).unsigned_abs() >= crate::runtime::limits::RELEASE_FRESH {
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
    pub(in crate::control) async fn load(
        &self,
        app: &AppRecord,
        number: ReleaseNumber,
        purpose: Purpose,
    ) -> Result<ActiveRelease, Failure> {
        let release = self.store.release(&app.name, number).await?;
        let release = release.ok_or_else(|| Failure::Internal(format!("{number} is not in the store")))?;
        if release.state.is_final() {
            let reason = release.reason.map_or_else(|| release.state.to_string(), |reason| reason.detail);
            return Err(Failure::TakenOutOfService { release: number, reason });
        }
        let app_type = app.fields().app_type;
        let digest = release.snapshot.as_ref().unwrap_or(&release.bundle);
        let cached = match purpose {
            Purpose::Preview => self.engine.load_compiled(digest.as_ref(), boot::speed(app_type)).await,
            // A release that serves is verified against its bundle.
            Purpose::Serve => None,
        };
        let (compiled, manifest) = match cached {
            Some(compiled) => (compiled, release.manifest),
            None => {
                let bytes = self.code_of(&release).await?;
                let (manifest, snapshot) = (release.manifest, release.snapshot);
                let verified = tokio::task::spawn_blocking(move || verify::stored(bytes, manifest, snapshot)).await;
                let ValidBundle { component, manifest, .. } =
                    verified.map_err(|e| Failure::Internal(e.to_string()))??;
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
        Ok(ActiveRelease::new(Some(number), program, manifest.isolation, planned, Arc::clone(resources)))
    }

    /// Reads the bundle of a stored release.
    pub(in crate::control) async fn stored(&self, release: Release) -> Result<ValidBundle, Failure> {
        let bytes = self.store.blobs().get(&release.bundle).await?;
        let (manifest, snapshot) = (release.manifest, release.snapshot);
        let verified = tokio::task::spawn_blocking(move || verify::stored(bytes, manifest, snapshot)).await;
        verified.map_err(|e| Failure::Internal(e.to_string()))?
    }

    /// Returns the app's current release.
    pub(in crate::control) async fn current_release(&self, app: &AppRecord) -> Result<Option<Release>, StoreError> {
        match app.fields().release {
            Some(number) => self.store.release(&app.name, number).await,
            None => Ok(None),
        }
    }
}

impl AppTask {
    /// Puts the release of a start in service, or records why it can't be loaded.
    pub(in crate::control) async fn loaded(
        &mut self,
        load: LoadId,
        release: ReleaseNumber,
        result: Result<Loaded, Failure>,
    ) {
        match result {
            Ok(Loaded { running, beside }) => {
                if let Some(beside) = &beside {
                    beside.supervise(&self.deployer.0.crash_reports);
                }
                let incoming = Incoming::New { running: Arc::new(running), beside };
                let cause = format!("{release} serves");
                if self.step(AppCommand::Loaded(load), &cause, Some(incoming)).is_ok() {
                    self.adopt_settings(release).await;
                }
            }
            Err(failure) if failure.is_passing() => {
                log_deferred_load(&self.app, release, &failure);
                self.step_or_warn(AppCommand::LoadDeferred(load), "the host tries again");
            }
            Err(failure) => {
                let command = AppCommand::LoadFailed(load, failure.cause());
                self.cannot_serve(command, release, &failure).await;
            }
        }
    }

    /// Puts the app in the state `error`, since its release can't be loaded.
    pub(in crate::control) async fn cannot_serve(
        &mut self,
        command: AppCommand,
        release: ReleaseNumber,
        failure: &Failure,
    ) {
        let Ok(decision) = self.decide(command) else { return };
        let reason = format!("{}: {failure}", failure.code());
        self.app.log.write(LogLine::host(&self.app.name, format!("{release} can't be started: {reason}")));
        self.deployer.0.schedules.schedule_stored(&self.deployer.0.parts.store, &self.app, release).await;
        self.perform(decision, &reason, None);
        let data = json!({ "release": release, "cause": failure.cause(), "code": failure.code() });
        let text = format!("{release} can't be started: {reason}");
        self.deployer.0.activity.record(&self.app, "app-error", text, data).await;
    }

    /// Puts a cold release in service that was loaded for its first request. Returns false if the
    /// app serves something else by now.
    pub(in crate::control) fn cold_loaded(&self, running: &Arc<ActiveRelease>) -> bool {
        let serves = self.app.traffic.install_loaded(running);
        if serves {
            self.publish(|fields| fields.serves_http = running.serves_http());
        }
        serves
    }

    /// Puts a release in service, and starts its rollout watch. The former release stays on standby
    /// until the new release passes its watch, together with earlier releases that did not pass
    /// theirs in time.
    pub(in crate::control) fn serve(&mut self, incoming: Incoming) {
        let running = match incoming {
            Incoming::New { running, beside } => {
                running.supervise(&self.deployer.0.crash_reports);
                let former = self.app.traffic.install(Arc::clone(&running));
                self.standby.extend(former.or(beside));
                if self.standby.len() > limits::STANDBY_RELEASES_MAX {
                    // The oldest passed its watch, so it is kept.
                    let evicted = self.standby.remove(1);
                    self.deployer.in_background(async move { evicted.drain().await });
                }
                running
            }
            Incoming::Return { running, is_loaded } => {
                let bad = self.app.traffic.install(Arc::clone(&running));
                if is_loaded {
                    running.supervise(&self.deployer.0.crash_reports);
                }
                // Wound down in the background, since its work may take long.
                if let Some(bad) = bad {
                    self.deployer.in_background(async move { bad.drain().await });
                }
                running
            }
        };
        self.publish(|fields| fields.serves_http = running.serves_http());
        match self.standby.last().cloned() {
            Some(before) => {
                let app = Arc::clone(&self.app);
                self.begin_watch(async move {
                    let outcome = watch_outcome(&app, &before, &running).await;
                    Done::Watched(running, outcome)
                });
            }
            None => self.stop_watch(),
        }
    }

    /// Adopts the config and the schedules of a release that serves again.
    pub(in crate::control) async fn adopt_settings(&self, number: ReleaseNumber) {
        match self.deployer.0.parts.store.release(&self.app.name, number).await {
            Ok(Some(release)) => {
                self.publish(|fields| fields.config = release.config);
                self.deployer.0.schedules.schedule(&self.app, &release.manifest);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(app = %self.app.name, %error, "a release could not be read"),
        }
    }
}

/// Logs that a release can't be loaded for a reason outside the release. The app's state stays the
/// same.
pub(in crate::control) fn log_deferred_load(app: &AppRecord, release: ReleaseNumber, failure: &Failure) {
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
