//! Owns what people ask of an app that changes nothing of its releases: its formation and grants as they are, and a
//! fresh instance in place of one.

use std::collections::BTreeMap;

use isopod_policy::{AppName, AppType, ConfigVars, Grants, InstanceId, Limits, Manifest, Process, ProcessName};
use serde_json::json;

use super::{DeployError, Deployer, Entry, Failure, verify};

impl Deployer {
    /// The process types of the app's present release, and what their unsaid numbers depend on. None before the first.
    pub(crate) async fn formation(
        &self,
        name: &AppName,
    ) -> Result<(AppType, Limits, BTreeMap<ProcessName, Process>), DeployError> {
        let entry = self.app(name)?;
        let app_type = entry.facts().app_type;
        let Some(release) = self.present(&entry).await? else {
            return Ok((app_type, Limits::default(), BTreeMap::new()));
        };
        let processes = match entry.traffic.serving().map(|running| running.program().info().entries) {
            Some(entries) => verify::formation(&release.manifest, &entries).unwrap_or_default().into_iter().collect(),
            None => match self.stored(release.clone()).await {
                Ok(verified) => verify::formation(&verified.manifest, &verified.info.entries)
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
                Err(_) => release.manifest.processes.clone(),
            },
        };
        Ok((app_type, release.manifest.limits, processes))
    }

    /// The grants of the app's present release; none before the first.
    pub(crate) async fn grants(&self, name: &AppName) -> Result<Grants, DeployError> {
        let entry = self.app(name)?;
        Ok(self.present(&entry).await?.map(|release| release.manifest.grants).unwrap_or_default())
    }

    /// Ends an instance after what it is doing; a new one takes its place and its id.
    pub(crate) async fn restart(&self, name: &AppName, id: &InstanceId, by: &str) -> Result<(), DeployError> {
        let entry = self.app(name)?;
        let restarted = entry.traffic.running().iter().any(|running| running.restart(id));
        if !restarted {
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
        entry: &Entry,
        manifest: &Manifest,
        config: &ConfigVars,
    ) -> Result<Vec<(String, String)>, Failure> {
        let mut variables: BTreeMap<String, String> = manifest.config.clone();
        for (key, value) in config.iter() {
            let plain = match value {
                isopod_policy::ConfigValue::Plain(text) => text.clone(),
                isopod_policy::ConfigValue::Secret(sealed) => {
                    self.0.parts.store.secrets().open(&entry.name, key, sealed)?
                }
            };
            variables.insert(key.clone(), plain);
        }
        Ok(variables.into_iter().collect())
    }
}
