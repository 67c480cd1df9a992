//! Handles the requests of users that create no release, in the app's task: start, stop, and
//! changes of the type, the cores, the build error and the first config. Each change is stored
//! first, then applied, then recorded in the app's activity with its cause. Never verifies or
//! builds a bundle.

use isopod_policy::{
    AppCommand, AppType, Ceiling, ConfigVars, CoresOverride,
    json::{explain, whole},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::AppTask;
use crate::control::{app::BuildError, app_command::TypeChange, error::DeployError, failpoint::reached};

impl AppTask {
    pub(super) async fn start(&mut self, by: &str) -> Result<(), DeployError> {
        let changed = self.change(AppCommand::Start, "requested").await?;
        let (true, Some(release)) = (changed.base, self.app.fields().release) else { return Ok(()) };
        reached("app-starts").await;
        let text = format!("{release} is started: requested");
        self.services.activity.record(&self.app, "app-started", text, json!({ "release": release, "by": by })).await;
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
        self.services.activity.record(&self.app, "app-stopped", text.to_owned(), json!({ "by": by })).await;
        Ok(())
    }

    pub(super) async fn set_type(&mut self, change: TypeChange, by: &str) -> Result<(), DeployError> {
        self.forget_withdrawn();
        let TypeChange { app_type, from, release, skips_gates } = change;
        let before = self.app.fields().app_type;
        // Checked before the slots: a running app's type never changes.
        let decided = self.decide(AppCommand::SetType(app_type)).map_err(|denied| self.denied(denied))?;
        if decided.store.is_none() {
            return Ok(());
        }
        if (before, self.app.fields().release) != (from, release) {
            // The gates have decided about another change.
            return Err(DeployError::Busy(self.app.name.clone()));
        }
        // A production app keeps an instance of each process type warm.
        let (processes, limits) = self.services.releases.current_processes(&self.app).await?;
        let slots = self.services.releases.current_slots(&self.app).await?;
        self.services
            .releases
            .check_warm_minimum(app_type, &processes, &limits, slots)
            .map_err(|failure| DeployError::NotRolledOut { app: self.app.name.clone(), failure: Box::new(failure) })?;
        self.change(AppCommand::SetType(app_type), "requested").await?;
        self.app.traffic.resources().set_type(app_type);
        let note = if skips_gates { "; gates skipped" } else { "" };
        let text = format!("type changed from {before} to {app_type}: requested{note}");
        self.services
            .activity
            .record(&self.app, "app-type", text, json!({ "from": before, "to": app_type, "by": by }))
            .await;
        Ok(())
    }

    pub(super) async fn set_cores(&mut self, change: &Value, by: &str) -> Result<(), DeployError> {
        let (name, before) = (self.app.name.clone(), self.app.fields().cores);
        let overrides = merged_cores(before, change).map_err(|why| DeployError::Cores { app: name.clone(), why })?;
        let services = &self.services;
        services.store.set_app_cores(&name, overrides, Timestamp::now()).await?;
        self.publish(|fields| fields.cores = overrides);
        let (before, after) = (services.cores.with(before), services.cores.with(overrides));
        self.app.traffic.set_cores(after);
        // Stored events are claimed as far as there are cores.
        self.services.events.wake(&self.app);
        if before == after {
            return Ok(());
        }
        let text = format!(
            "cores changed from {} pull and {} push to {} and {}: requested",
            before.pull, before.push, after.pull, after.push
        );
        self.services
            .activity
            .record(&self.app, "app-cores", text, json!({ "from": before, "to": after, "by": by }))
            .await;
        Ok(())
    }

    pub(super) async fn set_ceiling(&self, change: &Value, by: &str) -> Result<(), DeployError> {
        let (name, before) = (self.app.name.clone(), self.app.fields().ceiling.clone());
        let own = merged_ceiling(&before, change).map_err(|why| DeployError::Ceiling { app: name.clone(), why })?;
        if own == before {
            return Ok(());
        }
        self.services.store.set_app_ceiling(&name, own.clone(), Timestamp::now()).await?;
        let data = json!({ "former_ceiling": before, "ceiling": own, "by": by });
        self.publish(|fields| fields.ceiling = own);
        let text = "the app's own ceiling changed: requested".to_owned();
        self.services.activity.record(&self.app, "app-ceiling", text, data).await;
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
        self.services.store.set_app_config(&self.app.name, config.clone(), Timestamp::now()).await?;
        self.publish(|fields| fields.config = config);
        let text = format!("config changed: {}; the first release receives it", keys.join(", "));
        self.services.activity.record(&self.app, "config-changed", text, json!({ "keys": keys, "by": by })).await;
        Ok(())
    }
}

/// Applies a merge patch to an app's own ceiling.
fn merged_ceiling(present: &Ceiling, change: &Value) -> Result<Ceiling, String> {
    if !change.is_object() {
        return Err("the body must be an object, for example {\"keyvalue\":false}".to_owned());
    }
    let mut patched = json!(present);
    json_patch::merge(&mut patched, change);
    serde_json::from_value(patched).map_err(|e| explain(&e))
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
