//! Owns queries: the formation, grants and config of an app's current release, the recommended
//! type, and the state of the host. Never changes an app.

use std::{collections::BTreeMap, sync::Arc};

use isopod_policy::{AppName, Entry, Grants, ProcessName, advise::Advice, config_vars::EffectiveVar, formation};
use isopod_store::{Month, NewActivity, StoreError};
use tokio::sync::broadcast;

use crate::control::{
    AppRecord,
    app_table::AppTable,
    background::{activity_log::ActivityLog, alerts::Alerts, usage},
    error::DeployError,
    push::pushes::Pushes,
    release::releases::Releases,
};
use crate::observe::metrics::{AppSample, HostSample};

/// Reads about apps and their releases. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queries {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) releases: Releases,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) usage: usage::Service,
    pub(in crate::control) pushes: Pushes,
    pub(in crate::control) alerts: Alerts,
}

/// The process types of an app's current release that handle events, with their attempts.
#[derive(Debug, Default)]
pub(crate) struct EventHandlers(BTreeMap<ProcessName, u32>);

impl EventHandlers {
    /// Returns the attempts of a process type; `None` if the release lacks it.
    pub(crate) fn attempts(&self, process: &ProcessName) -> Option<u32> {
        self.0.get(process).copied()
    }
}

impl Queries {
    /// Returns the process types of the app's current release with defaults filled in. Empty before
    /// the first release.
    pub(crate) async fn formation(
        &self,
        name: &AppName,
    ) -> Result<BTreeMap<ProcessName, formation::ShownProcess>, DeployError> {
        let app = self.app_table.app(name)?;
        let app_type = app.fields().app_type;
        let (processes, limits) = self.releases.current_processes(&app).await?;
        Ok(formation::shown(&processes, app_type, &limits))
    }

    /// Returns the process types of the app's current release to which stored events are delivered.
    /// Empty before the first release.
    pub(crate) async fn event_handlers(&self, app: &AppRecord) -> Result<EventHandlers, StoreError> {
        let (processes, _) = self.releases.current_processes(app).await?;
        let handlers =
            processes.into_iter().filter(|(_, process)| matches!(process.entry, Entry::Events | Entry::Hook));
        Ok(EventHandlers(handlers.map(|(name, process)| (name, process.retry_policy().attempts)).collect()))
    }

    /// Returns the state of the host for an export of its metrics.
    pub(crate) fn sample(&self, log_lines_dropped: u64) -> HostSample {
        let apps = self.app_table.all().into_iter().map(|app| AppSample {
            name: app.name.clone(),
            state: app.fields().state.as_str(),
            instances: app.traffic.instances(),
            stored_events: app.traffic.resources().stored_events().unwrap_or_default(),
            resources: app.traffic.is_resident().then(|| Arc::clone(app.traffic.resources())),
        });
        let (rules, firing) = (self.alerts.rules().keys(), self.alerts.firing());
        let alerts = rules.map(|rule| (*rule, firing.iter().filter(|alert| alert.rule == *rule).count()));
        let (pushes_under_way, alerts) = (self.pushes.count(), alerts.collect());
        HostSample { apps: apps.collect(), pushes_under_way, log_lines_dropped, alerts }
    }

    /// Recommends a type for an app by its use in the current month, which is also returned.
    pub(crate) async fn advise(&self, name: &AppName) -> Result<(Month, Advice), DeployError> {
        self.usage.advise(name).await
    }

    /// Returns the grants of the app's current release. Empty before the first release.
    pub(crate) async fn grants(&self, name: &AppName) -> Result<Grants, DeployError> {
        let app = self.app_table.app(name)?;
        Ok(self.releases.current_release(&app).await?.map(|release| release.manifest.grants).unwrap_or_default())
    }

    /// Returns the config vars that guests receive, with their sources. Secrets stay sealed.
    pub(crate) async fn effective_config(&self, name: &AppName) -> Result<Vec<EffectiveVar>, DeployError> {
        let app = self.app_table.app(name)?;
        let manifest =
            self.releases.current_release(&app).await?.map(|release| release.manifest.config).unwrap_or_default();
        let vars = app.fields().config.with_sources(&manifest);
        Ok(vars)
    }

    /// Subscribes to the activities of all apps from now on.
    pub(crate) fn subscribe_activities(&self) -> broadcast::Receiver<NewActivity> {
        self.activity.subscribe()
    }
}
