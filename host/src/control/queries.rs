//! Owns what people ask of an app that changes nothing of its releases: its formation and grants as they are, and a
//! fresh instance in place of one.

use std::collections::BTreeMap;

use isopod_policy::{
    AppName, ConfigVars, Formation, Grants, InstanceId, Limits, Manifest, ProcessName, config_vars::EffectiveVar,
    formation,
};
use serde_json::json;

use crate::control::{AppRecord, DeployError, Deployer, Failure, release::verify};

impl Deployer {
    /// The process types of the app's present release, with what nobody said filled in. None before the first.
    pub(crate) async fn formation(
        &self,
        name: &AppName,
    ) -> Result<BTreeMap<ProcessName, formation::ShownProcess>, DeployError> {
        let entry = self.app(name)?;
        let app_type = entry.fields().app_type;
        let (processes, limits) = self.present_processes(&entry).await?;
        Ok(formation::shown(&processes, app_type, &limits))
    }

    /// The process types of the present release as they were said, and its limits.
    pub(super) async fn present_processes(&self, entry: &AppRecord) -> Result<(Formation, Limits), DeployError> {
        let Some(release) = self.present(entry).await? else { return Ok((BTreeMap::new(), Limits::default())) };
        let limits = release.manifest.limits.clone();
        let processes = match entry.traffic.active() {
            _ if !release.manifest.processes.is_empty() => release.manifest.processes,
            Some(running) => formation::default_for(verify::exported(&running.program().info().entries)),
            None => match self.stored(release).await {
                Ok(verified) => formation::default_for(verify::exported(&verified.info.entries)),
                // What can't be read any more runs nothing.
                Err(_) => BTreeMap::new(),
            },
        };
        Ok((processes, limits))
    }

    /// The slots that an instance of the present release takes.
    pub(super) async fn present_slots(&self, entry: &AppRecord) -> Result<u32, DeployError> {
        let Some(release) = self.present(entry).await? else { return Ok(1) };
        if let Some(running) = entry.traffic.active() {
            return Ok(running.program().info().slots);
        }
        // What can't be read any more runs nothing.
        Ok(self.stored(release).await.map_or(1, |verified| verified.info.slots))
    }

    /// The grants of the app's present release; none before the first.
    pub(crate) async fn grants(&self, name: &AppName) -> Result<Grants, DeployError> {
        let entry = self.app(name)?;
        Ok(self.present(&entry).await?.map(|release| release.manifest.grants).unwrap_or_default())
    }

    /// The config vars that guests receive, with their sources. Secrets stay sealed.
    pub(crate) async fn effective_config(&self, name: &AppName) -> Result<Vec<EffectiveVar>, DeployError> {
        let entry = self.app(name)?;
        let manifest = self.present(&entry).await?.map(|release| release.manifest.config).unwrap_or_default();
        let vars = entry.fields().config.with_sources(&manifest);
        Ok(vars)
    }

    /// Ends an instance after what it is doing; a new one takes its place and its id.
    pub(crate) async fn restart(&self, name: &AppName, id: &InstanceId, by: &str) -> Result<(), DeployError> {
        let entry = self.app(name)?;
        if !entry.traffic.restart(id) {
            return Err(DeployError::UnknownInstance { app: name.clone(), id: id.to_string() });
        }
        let text = format!("{id} is restarted: asked for");
        self.record(&entry, "instance-restarted", text, json!({ "instance": id, "by": by })).await;
        Ok(())
    }

    /// What a guest reads as its config: the manifest's own, and above it the vars that were set at the host, with
    /// their secrets opened.
    pub(super) fn variables(
        &self,
        entry: &AppRecord,
        manifest: &Manifest,
        config: &ConfigVars,
    ) -> Result<Vec<(String, String)>, Failure> {
        let secrets = self.0.parts.store.secrets();
        let mut lost = Vec::new();
        let variables = config.effective(&manifest.config, |key, sealed| {
            let opened = secrets.unseal(&entry.name, key, sealed);
            Ok::<_, Failure>(opened.unwrap_or_else(|error| {
                lost.push((key.to_owned(), error));
                String::new()
            }))
        })?;
        // All of them are named: setting one again is of no use while another can't be opened.
        match lost.first() {
            None => Ok(variables.into_iter().collect()),
            Some((_, error)) => Err(Failure::SecretsLost {
                keys: lost.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(" "),
                why: error.to_string(),
            }),
        }
    }
}
