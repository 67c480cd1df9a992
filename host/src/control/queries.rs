//! Owns queries about an app's current release (formation, grants, config), and the restart of an
//! instance. Never creates a release.

use std::{collections::BTreeMap, sync::Arc};

use isopod_policy::{
    AppName, Formation, Grants, InstanceId, Limits, ProcessName, advise::Advice, config_vars::EffectiveVar, formation,
};
use isopod_store::Month;
use serde_json::json;

use crate::control::{AppRecord, DeployError, Deployer, release::verify};
use crate::observe::metrics::{AppSample, HostSample};

impl Deployer {
    /// Returns the process types of the app's current release with defaults filled in. Empty before
    /// the first release.
    pub(crate) async fn formation(
        &self,
        name: &AppName,
    ) -> Result<BTreeMap<ProcessName, formation::ShownProcess>, DeployError> {
        let app = self.app(name)?;
        let app_type = app.fields().app_type;
        let (processes, limits) = self.current_processes(&app).await?;
        Ok(formation::shown(&processes, app_type, &limits))
    }

    /// Returns the process types of the current release as declared, and its limits.
    pub(super) async fn current_processes(&self, app: &AppRecord) -> Result<(Formation, Limits), DeployError> {
        let Some(release) = self.0.releases.current_release(app).await? else {
            return Ok((BTreeMap::new(), Limits::default()));
        };
        let limits = release.manifest.limits.clone();
        let processes = match app.traffic.active() {
            _ if !release.manifest.processes.is_empty() => release.manifest.processes,
            Some(running) => formation::default_for(verify::exported(&running.program().info().entries)),
            None => match self.0.releases.stored(release).await {
                Ok(verified) => formation::default_for(verify::exported(&verified.info.entries)),
                // An unreadable release runs nothing.
                Err(_) => BTreeMap::new(),
            },
        };
        Ok((processes, limits))
    }

    /// Returns the number of slots that an instance of the current release takes.
    pub(super) async fn current_slots(&self, app: &AppRecord) -> Result<u32, DeployError> {
        let Some(release) = self.0.releases.current_release(app).await? else { return Ok(1) };
        if let Some(running) = app.traffic.active() {
            return Ok(running.program().info().slots);
        }
        // An unreadable release runs nothing.
        Ok(self.0.releases.stored(release).await.map_or(1, |verified| verified.info.slots))
    }

    /// Returns the state of the host for an export of its metrics.
    pub(crate) fn sample(&self, log_lines_dropped: u64) -> HostSample {
        let apps = self.apps(None, usize::MAX).into_iter().map(|app| AppSample {
            name: app.name.clone(),
            state: app.fields().state.as_str(),
            instances: app.traffic.instances(),
            resources: app.traffic.is_resident().then(|| Arc::clone(app.traffic.resources())),
        });
        HostSample { apps: apps.collect(), pushes_under_way: self.0.pushes.count(), log_lines_dropped }
    }

    /// Recommends a type for an app by its use in the current month, which is also returned.
    pub(crate) async fn advise(&self, name: &AppName) -> Result<(Month, Advice), DeployError> {
        self.0.usage.advise(name).await
    }

    /// Returns the grants of the app's current release. Empty before the first release.
    pub(crate) async fn grants(&self, name: &AppName) -> Result<Grants, DeployError> {
        let app = self.app(name)?;
        Ok(self.0.releases.current_release(&app).await?.map(|release| release.manifest.grants).unwrap_or_default())
    }

    /// Returns the config vars that guests receive, with their sources. Secrets stay sealed.
    pub(crate) async fn effective_config(&self, name: &AppName) -> Result<Vec<EffectiveVar>, DeployError> {
        let app = self.app(name)?;
        let manifest =
            self.0.releases.current_release(&app).await?.map(|release| release.manifest.config).unwrap_or_default();
        let vars = app.fields().config.with_sources(&manifest);
        Ok(vars)
    }

    /// Recycles an instance once its job completes. A new instance takes its slot and its id.
    pub(crate) async fn restart(&self, name: &AppName, id: &InstanceId, by: &str) -> Result<(), DeployError> {
        let app = self.app(name)?;
        if !app.traffic.restart(id) {
            return Err(DeployError::UnknownInstance { app: name.clone(), id: id.to_string() });
        }
        let text = format!("{id} is restarted: requested");
        self.0.activity.record(&app, "instance-restarted", text, json!({ "instance": id, "by": by })).await;
        Ok(())
    }
}
