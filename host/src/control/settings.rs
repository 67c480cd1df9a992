//! Owns changes of an app that are no push: its config vars, formation, grants, and going back to an earlier release.
//! Each makes a new release by the same road as a push, or changes nothing.

use std::sync::Arc;

use isopod_policy::{
    AppName, AppType, ConfigChange, ConfigVars, Formation, FormationChange, Limits, Manifest, NewProcess, ProcessName,
    ReleaseNumber, ReleaseState, config_vars::Applied, formation, json::explain,
};
use isopod_store::{Control, Release};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use crate::control::{
    AppRecord, DeployError, Deployer, Failure,
    release::pipeline::{ReleasePipeline, ReleaseSpec},
    release::verify::{self, Verified},
};
use crate::limits;

/// What is to be different about an app.
pub(crate) enum Change {
    Config(ConfigChange),
    /// What is to be different of which process types, as JSON.
    Formation(Value),
    /// A process type, as JSON.
    NewProcess(Value),
    RemoveProcess(ProcessName),
    /// A JSON merge patch (RFC 7396) of the grants.
    Grants(Value),
    Rollback(ReleaseNumber),
}

/// The content of the release that a change makes.
struct Changed {
    verified: Verified,
    config: ConfigVars,
    cause: String,
}

impl Deployer {
    /// Changes an app, and waits until the change is rolled out. An error means that nothing changed.
    pub(crate) async fn change(&self, name: &AppName, change: Change, by: &str) -> Result<Arc<AppRecord>, DeployError> {
        self.still_open()?;
        let entry = self.app(name)?;
        let busy = || DeployError::Busy(name.clone());
        let turn = tokio::time::timeout(limits::CHANGE_WAIT, Arc::clone(&entry.turn).lock_owned());
        let turn = turn.await.map_err(|_| busy())?;
        entry.still_there()?;
        let present = self.present(&entry).await?;
        let changed = match (change, present) {
            (Change::Config(change), None) => {
                self.keep_config(&entry, change, by).await?;
                return Ok(Arc::clone(&entry));
            }
            (_, None) => return Err(DeployError::NothingToChange(name.clone())),
            (change, Some(present)) => self.changed(&entry, change, present).await?,
        };
        if let Some(changed) = changed {
            let work = self.roll_out(Arc::clone(&entry), turn, changed, by.to_owned());
            work.await
                .map_err(|failure| DeployError::NotRolledOut { app: name.clone(), failure: Box::new(failure) })?;
        }
        Ok(entry)
    }

    /// Config of an app that has no release yet: its first one will have it.
    async fn keep_config(&self, entry: &AppRecord, change: ConfigChange, by: &str) -> Result<(), DeployError> {
        let Applied { vars: config, changed: keys } = self.applied(entry, &change)?;
        if keys.is_empty() {
            return Ok(());
        }
        self.0.parts.store.set_app_config(&entry.name, config.clone(), Timestamp::now()).await?;
        entry.fields().config = config;
        let text = format!("config changed: {}; the first release will have it", keys.join(", "));
        self.record(entry, "config-changed", text, json!({ "keys": keys, "by": by })).await;
        Ok(())
    }

    /// What the app's next release is made of; none if it is what the app has already.
    async fn changed(
        &self,
        entry: &AppRecord,
        change: Change,
        present: Release,
    ) -> Result<Option<Changed>, DeployError> {
        let app = || entry.name.clone();
        let number = present.number;
        if let Change::Rollback(wanted) = change {
            return self.of_earlier(entry, wanted, number).await.map(Some);
        }
        let before = present.manifest.clone();
        let mut verified = self
            .stored(present)
            .await
            .map_err(|failure| DeployError::NotRolledOut { app: app(), failure: Box::new(failure) })?;
        let exported = verify::exported(&verified.info.entries);
        let limits = verified.manifest.limits.clone();
        let mut config = entry.fields().config.clone();
        let processes = match before.processes.is_empty() {
            true => formation::default_for(exported),
            false => before.processes.clone(),
        };
        let bad = |error| DeployError::Formation { app: app(), error: Box::new(error) };
        let cause = match change {
            Change::Config(change) => {
                let Applied { vars, changed } = self.applied(entry, &change)?;
                if changed.is_empty() {
                    return Ok(None);
                }
                config = vars;
                format!("config changed: {}", changed.join(", "))
            }
            Change::Formation(body) => {
                let change = FormationChange::from_json(&body).map_err(bad)?;
                verified.manifest.processes = formation::update(&processes, &change, &limits).map_err(bad)?;
                // The usual process types, written out, would look like a change.
                if verified.manifest.processes == processes {
                    return Ok(None);
                }
                formation_cause(&processes, &verified.manifest.processes, entry.fields().app_type, &limits)
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
                verified.manifest = patched.map_err(|why| DeployError::Grants { app: app(), why })?;
                "grants changed".to_owned()
            }
            Change::Rollback(_) => return Ok(None),
        };
        if verified.manifest == before && config == entry.fields().config {
            return Ok(None);
        }
        Ok(Some(Changed { verified, config, cause }))
    }

    /// The content of an earlier release, to be had again under a new number.
    async fn of_earlier(
        &self,
        entry: &AppRecord,
        wanted: ReleaseNumber,
        present: ReleaseNumber,
    ) -> Result<Changed, DeployError> {
        let unknown = || DeployError::UnknownRelease { app: entry.name.clone(), release: wanted.to_string() };
        let release = self.0.parts.store.release(&entry.name, wanted).await?.ok_or_else(unknown)?;
        let refused = |why| DeployError::NoWayBack { app: entry.name.clone(), release: wanted, why };
        match release.state {
            ReleaseState::Retired => {}
            ReleaseState::Ready | ReleaseState::Frozen if wanted == present => {
                return Err(refused("it is the current release already".to_owned()));
            }
            ReleaseState::Ready | ReleaseState::Frozen => {}
            ReleaseState::Building | ReleaseState::Deploying | ReleaseState::Booted => {
                return Err(refused(format!("it is {} and never served", release.state)));
            }
            ReleaseState::BuildError | ReleaseState::DeploymentError => {
                let why = release.reason.map(|reason| format!(": {}", reason.detail)).unwrap_or_default();
                return Err(refused(format!("it is in {}{why}", release.state)));
            }
        }
        let config = release.config.clone();
        let verified = self.stored(release).await;
        let verified = verified.map_err(|failure| refused(failure.to_string()))?;
        let cause = format!("rollback to {wanted}{}", entry.fields().config.secret_changes(&config));
        Ok(Changed { verified, config, cause })
    }

    pub(super) async fn stored(&self, release: Release) -> Result<Verified, Failure> {
        let bytes = self.0.parts.store.blobs().get(&release.bundle).await?;
        let (manifest, snapshot) = (release.manifest, release.snapshot);
        let verified = tokio::task::spawn_blocking(move || verify::stored(bytes, manifest, snapshot)).await;
        verified.map_err(|e| Failure::Internal(e.to_string()))?
    }

    /// The config vars after a change, and which of them it changed.
    fn applied(&self, entry: &AppRecord, change: &ConfigChange) -> Result<Applied, DeployError> {
        let secrets = self.0.parts.store.secrets();
        let present = entry.fields().config.clone();
        let applied = present.apply(change, |key, plain| secrets.seal(&entry.name, key, plain));
        applied.map_err(|error| DeployError::Config { app: entry.name.clone(), error: Box::new(error) })
    }

    /// On a task of its own, so that a client which leaves does not leave the change half done.
    async fn roll_out(
        &self,
        entry: Arc<AppRecord>,
        turn: OwnedMutexGuard<()>,
        changed: Changed,
        by: String,
    ) -> Result<(), Failure> {
        let deployer = self.clone();
        let work = async move {
            let _turn = turn;
            let making = ReleasePipeline::new(Arc::clone(&entry), deployer.0.parts.store.clone(), None);
            let Changed { verified, config, cause } = changed;
            let (wanted_for, asked_by) = (cause.clone(), by.clone());
            let wanted = ReleaseSpec { verified, config, cause, by };
            let preparing = deployer.prepare(&making, wanted);
            let done = deployer.carry_out(&making, preparing, "the change was not rolled out").await;
            if let Err(failure) = &done {
                let text = format!("a change was not rolled out: {wanted_for}: {failure}");
                let data = json!({ "code": failure.code(), "cause": wanted_for, "by": asked_by });
                deployer.record(&entry, "change-failed", text, data).await;
            }
            done
        };
        self.0.tasks.spawn(work).await.unwrap_or_else(|e| Err(Failure::Internal(e.to_string())))
    }
}

/// The manifest with its grants after a merge patch: what it names is replaced, what it sets to null is taken away. Read
/// as a manifest that somebody wrote, so that the same rules hold.
fn patched(manifest: &Manifest, patch: &Value) -> Result<Manifest, String> {
    if !patch.is_object() {
        return Err("the body must be an object, such as {\"keyvalue\":true}".to_owned());
    }
    let mut present = serde_json::to_value(manifest).map_err(|e| explain(&e))?;
    json_patch::merge(&mut present["grants"], patch);
    serde_json::from_value(present).map_err(|e| explain(&e))
}

/// Says of a changed formation what is different, with the numbers.
fn formation_cause(before: &Formation, after: &Formation, app_type: AppType, limits: &Limits) -> String {
    let shown = |formation| formation::shown(formation, app_type, limits);
    let (shown_before, shown_after) = (shown(before), shown(after));
    let said = shown_after.iter().filter_map(|(name, now)| {
        let then = shown_before.get(name)?;
        let scaled = (then.min, then.max) != (now.min, now.max);
        let updated = (&then.health, &then.schedule, &then.args) != (&now.health, &now.schedule, &now.args);
        let counts = format!("{name} scaled from {}..{} to {}..{}", then.min, then.max, now.min, now.max);
        match (scaled, updated) {
            (true, true) => Some(format!("{counts} and updated")),
            (true, false) => Some(counts),
            (false, true) => Some(format!("{name} updated")),
            // It stays so from now on, also where the type of the app changes.
            (false, false) if before.get(name) != after.get(name) => {
                Some(format!("{name} is set to {}..{}, which it had by default", now.min, now.max))
            }
            (false, false) => None,
        }
    });
    format!("formation changed: {}", said.collect::<Vec<_>>().join(", "))
}
