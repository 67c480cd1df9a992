//! Loads stored releases, and reads bundles. Never creates a release, and never puts one in
//! service: the app's task does (`app_task/activate.rs`).

use std::sync::Arc;

use isopod_engine::ComponentInfo;
use isopod_policy::{AppType, Formation, Isolation, Limits, ReleaseNumber, formation};
use isopod_store::{Release, StoreError, StoredAssets};
use jiff::Timestamp;

use crate::control::{
    app::{AppRecord, Exports},
    error::Failure,
    failpoint::reached,
    release::{
        boot::{self, Purpose},
        last_good::LastGoodSearch,
        releases::Releases,
        verify::{self, ValidBundle},
    },
};
use crate::{
    observe::logs::LogLine,
    runtime::{ActiveRelease, AppResources, Assets, Pack, ProcessPlan},
};

/// A release that is loaded for a start.
pub(in crate::control) struct Loaded {
    pub(in crate::control) running: ActiveRelease,
    /// The last good release, if the rollout watch resumes.
    pub(in crate::control) beside: Option<Arc<ActiveRelease>>,
}

impl Releases {
    /// Loads the release of an app that starts. The load doesn't wait for a push in progress, which
    /// may take long and may fail.
    pub(in crate::control) async fn load_to_serve(
        &self,
        app: &AppRecord,
        release: ReleaseNumber,
    ) -> Result<Loaded, Failure> {
        reached("release-loads").await;
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
        match self.last_good(app, number, &mut LastGoodSearch::default()).await {
            Ok(good) => good.map(|(_, good)| good),
            Err(failure) => {
                let text = format!("the rollout watch of {number} can't resume: {}: {failure}", failure.code());
                app.log.write(LogLine::host(&app.name, text));
                None
            }
        }
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
        let (config, assets) = (release.config.clone(), self.assets(app, release.assets.as_ref()));
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
                let verified = tokio::task::spawn_blocking(move || verify::stored(bytes, release)).await;
                let ValidBundle { component, manifest, .. } =
                    verified.map_err(|e| Failure::Internal(e.to_string()))??;
                (self.compile(&component, app_type).await?, manifest)
            }
        };
        let formation = verify::formation_of(&manifest, &compiled.info().entries)?;
        let settings = boot::ReleaseSettings { manifest: &manifest, config: &config, number };
        let (program, mut planned) = self.plan(app, &compiled, &settings, formation).await?;
        let resources = app.traffic.resources();
        match purpose {
            Purpose::Serve => start_warm(resources, &mut planned, manifest.isolation).await?,
            Purpose::Preview => planned.iter_mut().for_each(|planned| planned.scale.min = 0),
        }
        let release = ActiveRelease::new(Some(number), program, manifest.isolation, planned, Arc::clone(resources));
        let release = release.with_middleware(&manifest.middleware, resources).with_assets(assets);
        Ok(release.with_plugin(manifest.plugin.as_ref()))
    }

    /// Returns the assets of a release, which are verified and read when they are first needed.
    pub(in crate::control) fn assets(&self, app: &AppRecord, stored: Option<&StoredAssets>) -> Option<Assets> {
        let digest = &stored?.digest;
        let (path, budgets) = (self.store.blobs().path(digest), Arc::clone(app.traffic.resources().assets()));
        let pack = Pack::new(app.name.clone(), path, digest.as_str(), budgets);
        Some(Assets::new(Arc::new(pack)))
    }

    /// Reads the bundle of a stored release.
    pub(in crate::control) async fn stored(&self, release: Release) -> Result<ValidBundle, Failure> {
        let bytes = self.store.blobs().get(&release.bundle).await?;
        let verified = tokio::task::spawn_blocking(move || verify::stored(bytes, release)).await;
        verified.map_err(|e| Failure::Internal(e.to_string()))?
    }

    /// Returns the app's current release.
    pub(in crate::control) async fn current_release(&self, app: &AppRecord) -> Result<Option<Release>, StoreError> {
        match app.fields().release {
            Some(number) => self.store.release(&app.name, number).await,
            None => Ok(None),
        }
    }

    /// Returns the process types of the current release as declared, and its limits.
    pub(in crate::control) async fn current_processes(
        &self,
        app: &AppRecord,
    ) -> Result<(Formation, Limits), StoreError> {
        let Some(release) = self.current_release(app).await? else {
            return Ok((Formation::new(), Limits::default()));
        };
        let limits = release.manifest.limits.clone();
        if !release.manifest.processes.is_empty() {
            return Ok((release.manifest.processes, limits));
        }
        let exports = self.exports(app, release).await?;
        Ok((exports.map(|exports| formation::default_for(exports.exported)).unwrap_or_default(), limits))
    }

    /// Returns the number of slots that an instance of the current release takes.
    pub(in crate::control) async fn current_slots(&self, app: &AppRecord) -> Result<u32, StoreError> {
        let Some(release) = self.current_release(app).await? else { return Ok(1) };
        Ok(self.exports(app, release).await?.map_or(1, |exports| exports.slots))
    }

    /// Returns the exports of a release. `None` if its bundle is damaged: such a release runs
    /// nothing. A bundle that can't be read now is an error.
    async fn exports(&self, app: &AppRecord, release: Release) -> Result<Option<Exports>, StoreError> {
        let number = release.number;
        let mut known = app.exports.lock().await;
        if let Some((_, exports)) = known.as_ref().filter(|(of, _)| *of == number) {
            return Ok(Some(*exports));
        }
        let exported = |info: &ComponentInfo| verify::exported(&info.entries, app.kind);
        let of = |info: &ComponentInfo| Exports { exported: exported(info), slots: info.slots };
        let exports = match app.traffic.active().filter(|running| running.release() == Some(number)) {
            Some(running) => of(running.program().info()),
            None => match self.stored(release).await {
                Ok(verified) => of(&verified.info),
                Err(Failure::Store(error)) if error.is_passing() => return Err(error),
                Err(_) => return Ok(None),
            },
        };
        *known = Some((number, exports));
        Ok(Some(exports))
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
