//! Destroys the app, in the app's task. The deletion in the store is the commit point. The app's
//! work then drains for a limited time, and its data is deleted last. Never deletes data of a
//! stored app.

use std::sync::Arc;

use futures::future::join_all;
use isopod_policy::AppCommand;
use isopod_store::NewActivity;
use serde_json::json;

use super::AppTask;
use crate::control::{
    app::APP_DESTROYED, background::activity_log::activity_of, error::DeployError, failpoint::reached, limits,
};
use crate::runtime::ActiveRelease;

impl AppTask {
    /// Deletes the app from the store, and then takes it out of service.
    pub(super) async fn delete_stored(&mut self, by: &str) -> Result<(), DeployError> {
        self.services.activity.flush().await;
        let decision = self.decide(AppCommand::Destroy).map_err(|denied| self.denied(denied))?;
        self.services.store.delete_app(&self.app.name, self.destroyed_activity(by)).await?;
        self.perform(decision, "requested", None);
        self.services.schedules.unschedule(&self.app.name);
        self.services.directory.remove(&self.app.name);
        Ok(())
    }

    /// Removes a destroyed app: its work ends, and then its data is deleted.
    pub(super) async fn remove(mut self) {
        reached("app-deleted").await;
        // The change in progress ends by itself, since the app is destroyed.
        self.change_ended().await;
        let at_work = std::mem::take(&mut self.at_work);
        self.drain_or_cancel(at_work).await;
        let (services, app, name) = (&self.services, &self.app, &self.app.name);
        // Waits for the guards that exist. Later access is rejected.
        app.data_gate.close().await;
        services.logs.forget(name).await;
        services.metrics.forget(name);
        if let Err(error) = services.store.remove_data(name).await {
            tracing::error!(app = %name, %error, "the folder of a destroyed app remains until the next start");
        }
        services.app_table.remove(name);
        let Some((by, reply)) = self.destroyed_by.take() else { return };
        tracing::info!(app = %self.app.name, by, "an app was destroyed with its data");
        // Only published to subscribers: the stored activity of the app is deleted with it.
        self.services.activity.publish(self.destroyed_activity(&by));
        // The client may have disconnected.
        drop(reply.send(Ok(())));
    }

    fn destroyed_activity(&self, by: &str) -> NewActivity {
        let text = "destroyed with all its data: requested".to_owned();
        activity_of(&self.app, APP_DESTROYED, text, json!({ "by": by }))
    }

    /// Drains the work of a destroyed app, including releases that were replaced or stopped before.
    /// Work that exceeds the drain time is cancelled.
    async fn drain_or_cancel(&self, at_work: Vec<Arc<ActiveRelease>>) {
        let app = &self.app;
        let done = async {
            join_all(at_work.iter().map(|running| running.drain())).await;
            app.traffic.drained().await;
        };
        let in_time = tokio::select! {
            in_time = tokio::time::timeout(limits::DRAIN_TIME, done) => in_time.is_ok(),
            () = self.services.shutdown.cancel.cancelled() => false,
        };
        app.traffic.destroy();
        if in_time {
            return;
        }
        tracing::warn!(app = %app.name, "work of a destroyed app exceeded the drain time and is cancelled");
        if tokio::time::timeout(limits::FLUSH_TIME, app.traffic.drained()).await.is_err() {
            tracing::warn!(app = %app.name, "cancelled work of a destroyed app continues without access to data");
        }
    }
}
