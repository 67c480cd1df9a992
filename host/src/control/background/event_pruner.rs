//! Deletes events that ended before the window of deduplication. Only touches the databases of apps
//! that have events. Never deletes an event that has not ended, or a dead letter.

use jiff::{SignedDuration, Timestamp};

use crate::control::{AppRecord, app_table::AppTable, events::Events, limits};

/// The pruner.
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) events: Events,
}

impl Service {
    /// Prunes one app after the other, at an interval, until the host shuts down. The events of an
    /// app that has none of this run of the host are found by one scan.
    pub(in crate::control) async fn run(self) {
        let mut interval = tokio::time::interval(limits::EVENT_PRUNE_INTERVAL);
        let mut is_first = true;
        loop {
            interval.tick().await;
            // The first tick is immediate, and a start has more urgent work.
            if std::mem::take(&mut is_first) {
                continue;
            }
            if let Err(error) = self.events.find_kept().await {
                tracing::warn!(%error, "the apps with events that have ended could not be found");
            }
            for name in self.events.take_prunable() {
                if let Ok(app) = self.app_table.app(&name) {
                    self.prune(&app).await;
                }
            }
        }
    }

    /// Prunes an app in small steps, between which other changes of its database run.
    async fn prune(&self, app: &AppRecord) {
        let window = SignedDuration::try_from(isopod_store::limits::DEDUPLICATION_WINDOW).unwrap_or_default();
        let before = Timestamp::now().saturating_sub(window).unwrap_or(Timestamp::MIN);
        loop {
            match self.events.prune(app, before, limits::EVENTS_PRUNED_PER_STEP).await {
                Ok(removed) if removed == limits::EVENTS_PRUNED_PER_STEP => {
                    tokio::time::sleep(limits::EVENT_PRUNE_PAUSE).await;
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(app = %app.name, %error, "events that have ended could not be removed");
                    return;
                }
            }
        }
    }
}
