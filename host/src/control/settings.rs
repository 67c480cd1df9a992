//! Owns the changes of an app's settings: config vars, formation, grants, and rollback to a former
//! release. Each creates a release through the same pipeline as a push, or changes nothing. Never
//! receives a bundle.

use std::sync::Arc;

use isopod_policy::{
    AppKind, AppName, AppType, ConfigChange, ConfigVars, Formation, FormationChange, Limits, Manifest, NewProcess,
    ProcessName, ReleaseCause, ReleaseNumber, ReleaseState, config_vars::Applied, formation, json::explain,
};
use isopod_store::Release;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::control::{
    app::AppRecord,
    app_command::{AppHandle, ChangePermit, Command, Origin},
    app_table::AppTable,
    background::activity_log::ActivityLog,
    error::{DeployError, Failure, NOT_ALLOWED},
    limits,
    release::{
        pipeline::{self, ReleasePipeline, ReleaseSource, ReleaseSpec},
        releases::Releases,
        verify::{self, ValidBundle},
    },
    requester::Requester,
    shutdown::Shutdown,
};

/// A settings change of an app.
pub(crate) enum Change {
    Config(ConfigChange),
    /// A change of existing process types, as JSON.
    Formation(Value),
    /// A new process type, as JSON.
    NewProcess(Value),
    RemoveProcess(ProcessName),
    /// A JSON merge patch (RFC 7396) of the grants.
    Grants(Value),
    Rollback(ReleaseNumber),
    /// The approval of a release that asks for more than its ceiling allows.
    Approve(ReleaseNumber),
}

impl Change {
    /// Returns the cause of a release that the change creates.
    fn cause(&self) -> ReleaseCause {
        match self {
            Self::Config(_) => ReleaseCause::Config,
            Self::Formation(_) | Self::NewProcess(_) | Self::RemoveProcess(_) => ReleaseCause::Formation,
            Self::Grants(_) => ReleaseCause::Grants,
            Self::Rollback(_) => ReleaseCause::Rollback,
            Self::Approve(_) => ReleaseCause::Approval,
        }
    }
}

/// The content of the release that a change creates.
struct Changed {
    verified: ValidBundle,
    config: ConfigVars,
    cause: String,
}

/// Changes the settings of apps. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) releases: Releases,
    pub(in crate::control) pipeline: pipeline::Options,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) shutdown: Shutdown,
}

impl Settings {
    /// Applies a change to an app, and waits until its release serves. On an error, nothing
    /// changed.
    pub(crate) async fn change(
        &self,
        name: &AppName,
        change: Change,
        requester: &Requester,
    ) -> Result<Arc<AppRecord>, DeployError> {
        self.shutdown.ensure_open()?;
        let app = self.app_table.handle(name)?;
        requester.check_kind(&app.record)?;
        let busy = || DeployError::Busy(name.clone());
        let (reply, permit) = oneshot::channel();
        app.send(Command::AcquireChange { reply }).await.map_err(|_| app.unknown())?;
        let permit = tokio::time::timeout(limits::CHANGE_WAIT, permit).await.map_err(|_| busy())?;
        let permit = permit.map_err(|_| app.unknown())?;
        let present = self.releases.current_release(&app.record).await?;
        let kind = change.cause();
        let changed = match (change, present) {
            (Change::Config(change), None) => {
                self.set_initial_config(&app, change, &requester.by).await?;
                return Ok(app.record);
            }
            (Change::Approve(wanted), _) => Some(self.approved_content(&app.record, wanted).await?),
            (_, None) => return Err(DeployError::NothingToChange(name.clone())),
            (change, Some(present)) => self.changed(&app.record, change, present).await?,
        };
        if let Some(changed) = changed {
            let work = self.roll_out(app.clone(), permit, (kind, changed), requester.clone());
            work.await
                .map_err(|failure| DeployError::NotRolledOut { app: name.clone(), failure: Box::new(failure) })?;
        }
        Ok(app.record)
    }

    /// Stores the config of an app without a release. Its first release receives it.
    async fn set_initial_config(&self, app: &AppHandle, change: ConfigChange, by: &str) -> Result<(), DeployError> {
        let Applied { vars: config, changed: keys } = self.applied(&app.record, &change)?;
        if keys.is_empty() {
            return Ok(());
        }
        let by = by.to_owned();
        app.request(|reply| Command::SetConfig { config, keys, by, reply }).await
    }

    /// Returns the content of the app's next release, or `None` if nothing would change.
    async fn changed(&self, app: &AppRecord, change: Change, present: Release) -> Result<Option<Changed>, DeployError> {
        let name = || app.name.clone();
        let number = present.number;
        if let Change::Rollback(wanted) = change {
            return self.rollback_content(app, wanted, number).await.map(Some);
        }
        let before = present.manifest.clone();
        let mut verified = self.releases.stored(present).await.map_err(|failure| unreadable(app, failure))?;
        let exported = verify::exported(&verified.info.entries, app.kind);
        let limits = verified.manifest.limits.clone();
        let mut config = app.fields().config.clone();
        let processes = match before.processes.is_empty() {
            true => formation::default_for(exported),
            false => before.processes.clone(),
        };
        let bad = |error| DeployError::Formation { app: name(), error: Box::new(error) };
        let cause = match change {
            Change::Config(change) => {
                let Applied { vars, changed } = self.applied(app, &change)?;
                if changed.is_empty() {
                    return Ok(None);
                }
                config = vars;
                format!("config changed: {}", changed.join(", "))
            }
            Change::Formation(body) => {
                let change = FormationChange::from_json(&body).map_err(bad)?;
                verified.manifest.processes = formation::update(&processes, &change, &limits).map_err(bad)?;
                // Compared before defaults are written out, which would look like a change.
                if verified.manifest.processes == processes {
                    return Ok(None);
                }
                formation_cause(&processes, &verified.manifest.processes, app.fields().app_type, &limits)
            }
            Change::NewProcess(_) if app.kind == AppKind::Plugin => {
                return Err(DeployError::IsPlugin { plugin: name(), what: "it has only one process type" });
            }
            Change::NewProcess(body) => {
                let new = NewProcess::from_json(&body).map_err(bad)?;
                verified.manifest.processes = formation::create(&processes, &new, &limits, exported).map_err(bad)?;
                format!("formation changed: process type {} added", new.name)
            }
            Change::RemoveProcess(name) => {
                verified.manifest.processes = formation::remove(&processes, &name).map_err(bad)?;
                format!("formation changed: process type {name} removed")
            }
            Change::Grants(patch) => {
                let patched = patched(&before, &patch);
                verified.manifest = patched.map_err(|why| DeployError::Grants { app: name(), why })?;
                "grants changed".to_owned()
            }
            Change::Rollback(_) | Change::Approve(_) => return Ok(None),
        };
        if verified.manifest == before && config == app.fields().config {
            return Ok(None);
        }
        Ok(Some(Changed { verified, config, cause }))
    }

    /// Returns the content of a former release, for a new release with the same content.
    async fn rollback_content(
        &self,
        app: &AppRecord,
        wanted: ReleaseNumber,
        present: ReleaseNumber,
    ) -> Result<Changed, DeployError> {
        let unknown = || DeployError::UnknownRelease { app: app.name.clone(), release: wanted.to_string() };
        let release = self.releases.store.release(&app.name, wanted).await?.ok_or_else(unknown)?;
        let refused = |why| DeployError::RollbackRefused { app: app.name.clone(), release: wanted, why };
        match release.state {
            ReleaseState::Retired => {}
            ReleaseState::Ready | ReleaseState::Frozen if wanted == present => {
                return Err(refused("it is already the current release".to_owned()));
            }
            ReleaseState::Ready | ReleaseState::Frozen => {}
            ReleaseState::Building | ReleaseState::Deploying | ReleaseState::Booted => {
                return Err(refused(format!("it is in state {} and never served", release.state)));
            }
            ReleaseState::BuildError | ReleaseState::DeploymentError => {
                let why = release.reason.map(|reason| format!(": {}", reason.detail)).unwrap_or_default();
                return Err(refused(format!("it is in state {}{why}", release.state)));
            }
        }
        let config = release.config.clone();
        let verified = self.releases.stored(release).await;
        let verified = verified.map_err(|failure| unreadable(app, failure))?;
        let cause = format!("rollback to {wanted}{}", app.fields().config.secret_changes(&config));
        Ok(Changed { verified, config, cause })
    }

    /// Returns the content of a release that waits for an approval, with the app's current config
    /// vars.
    async fn approved_content(&self, app: &AppRecord, wanted: ReleaseNumber) -> Result<Changed, DeployError> {
        let unknown = || DeployError::UnknownRelease { app: app.name.clone(), release: wanted.to_string() };
        let release = self.releases.store.release(&app.name, wanted).await?.ok_or_else(unknown)?;
        if release.reason.as_ref().is_none_or(|reason| reason.code != NOT_ALLOWED) {
            return Err(DeployError::NotWaiting { app: app.name.clone(), release: wanted, state: release.state });
        }
        let verified = self.releases.stored(release).await;
        let verified = verified.map_err(|failure| unreadable(app, failure))?;
        Ok(Changed { verified, config: app.fields().config.clone(), cause: format!("approval of {wanted}") })
    }

    /// Returns the config vars after a change, and the keys that it changed.
    fn applied(&self, app: &AppRecord, change: &ConfigChange) -> Result<Applied, DeployError> {
        let secrets = self.releases.store.secrets();
        let present = app.fields().config.clone();
        let applied = present.apply(change, |key, plain| secrets.seal(&app.name, key, plain));
        applied.map_err(|error| DeployError::Config { app: app.name.clone(), error: Box::new(error) })
    }

    /// Runs the release pipeline on a separate task, so that the change completes even if the
    /// client disconnects.
    async fn roll_out(
        &self,
        app: AppHandle,
        permit: ChangePermit,
        (kind, changed): (ReleaseCause, Changed),
        requester: Requester,
    ) -> Result<(), Failure> {
        let (pipeline, activity) = (self.pipeline.clone(), self.activity.clone());
        let work = async move {
            let record = Arc::clone(&app.record);
            let pipeline = ReleasePipeline::new(pipeline, app, permit, None);
            let Changed { verified, config, cause } = changed;
            let origin = Origin { kind, cause, by: requester.by.clone() };
            let source = ReleaseSource::Stored(Box::new(verified), config);
            let spec = ReleaseSpec { source, origin: origin.clone(), requester };
            let done = pipeline.run(spec, "the change was not applied").await.map(drop);
            // The audit trail counts changes beyond a ceiling, so a flood of them doesn't evict
            // entries.
            if let Err(failure) = &done
                && failure.code() != NOT_ALLOWED
            {
                let Origin { cause, by, .. } = origin;
                let text = format!("a change was not applied: {cause}: {failure}");
                let data = json!({ "code": failure.code(), "cause": cause, "by": by });
                activity.record(&record, "change-failed", text, data).await;
            }
            done
        };
        self.shutdown.tasks.spawn(work).await.unwrap_or_else(|e| Err(Failure::Internal(e.to_string())))
    }
}

/// Returns the error for a change whose bundle can't be read. A disk error says nothing about the
/// bundle.
fn unreadable(app: &AppRecord, failure: Failure) -> DeployError {
    match failure {
        Failure::Store(error) if error.is_passing() => error.into(),
        failure => DeployError::NotRolledOut { app: app.name.clone(), failure: Box::new(failure) },
    }
}

/// Applies a merge patch to the manifest's grants: named grants are replaced, and grants set to
/// null are removed. Parses the result as a manifest, so that the same rules apply.
fn patched(manifest: &Manifest, patch: &Value) -> Result<Manifest, String> {
    if !patch.is_object() {
        return Err("the body must be an object, for example {\"keyvalue\":true}".to_owned());
    }
    let mut present = serde_json::to_value(manifest).map_err(|e| explain(&e))?;
    json_patch::merge(&mut present["grants"], patch);
    serde_json::from_value(present).map_err(|e| explain(&e))
}

/// Describes the differences between two formations, with their numbers.
fn formation_cause(before: &Formation, after: &Formation, app_type: AppType, limits: &Limits) -> String {
    let shown = |formation| formation::shown(formation, app_type, limits);
    let (shown_before, shown_after) = (shown(before), shown(after));
    let changes = shown_after.iter().filter_map(|(name, now)| {
        let then = shown_before.get(name)?;
        let scaled = (then.min, then.max) != (now.min, now.max);
        let updated = (&then.health, &then.schedule, &then.args) != (&now.health, &now.schedule, &now.args);
        let counts = format!("{name} scaled from {}..{} to {}..{}", then.min, then.max, now.min, now.max);
        match (scaled, updated) {
            (true, true) => Some(format!("{counts} and updated")),
            (true, false) => Some(counts),
            (false, true) => Some(format!("{name} updated")),
            // The explicit value also applies after a change of the app's type.
            (false, false) if before.get(name) != after.get(name) => {
                Some(format!("{name} is set to {}..{}, the former default", now.min, now.max))
            }
            (false, false) => None,
        }
    });
    format!("formation changed: {}", changes.collect::<Vec<_>>().join(", "))
}
