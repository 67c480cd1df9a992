//! Watches the data folder while the host runs. Reports removed data of apps and a replaced
//! `control.db` once each. Also restores the disk space in reserve. Never stops the host.

use std::{mem::discriminant, sync::Arc};

use isopod_store::{Store, StoreError};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::{
    control::{
        AppRecord,
        app_table::AppTable,
        background::activity_log::ActivityLog,
        data_folder::{self, Detected},
    },
    control::{failpoint, limits},
};

/// The watch on the data folder.
#[derive(Clone)]
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) store: Store,
}

impl Service {
    /// Reports losses until the host stops.
    pub(in crate::control) async fn run(self) {
        tokio::join!(self.report_losses(), self.look_for_losses(), self.watch_control());
    }

    /// Reports databases that can't be read when the host starts.
    pub(in crate::control) async fn report_unreadable(&self, found: Vec<(Arc<AppRecord>, StoreError)>) {
        for (app, error) in found {
            let (kind, text, data) = data_folder::unreadable(&self.store, &app.name, &error);
            tracing::error!(app = %app.name, "{text}");
            self.activity.record(&app, kind, text, data).await;
        }
    }

    async fn report_losses(&self) {
        while let Some(lost) = self.store.next_loss().await {
            data_folder::log_lost(&lost, Detected::WhileRunning);
            if let Ok(app) = self.app_table.app(&lost.app) {
                let (kind, text, data) = data_folder::activity(&lost, Detected::WhileRunning);
                self.activity.try_record(&app, kind, text, data);
            }
        }
    }

    async fn look_for_losses(&self) {
        let pause = failpoint::interval("data-check", limits::DATA_LOSS_CHECK_INTERVAL);
        let mut ticks = interval_at(Instant::now() + pause, pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.store.look_for_losses().await {
                tracing::warn!(%error, "the data of apps can't be checked");
            }
            if let Err(error) = self.store.restore_reserve().await {
                tracing::warn!(%error, "the disk space in reserve can't be restored");
            }
        }
    }

    async fn watch_control(&self) {
        let store = &self.store;
        let mut ticks = interval(limits::CONTROL_FILE_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The kind of the last reported problem.
        let mut reported = None;
        loop {
            ticks.tick().await;
            let problem = store.control_problem();
            let kind = problem.as_ref().map(discriminant);
            if kind == reported {
                continue;
            }
            reported = kind;
            let Some(mut problem) = problem else {
                tracing::info!("control.db is again the file that the host opened");
                continue;
            };
            // An unreadable file may be intact.
            if matches!(problem, StoreError::ControlChanged { .. }) {
                if let Err(error) = store.save_control().await {
                    tracing::warn!(%error, "the content of control.db can't be saved to lost+found");
                }
                // This error contains the path of the copy.
                problem = store.control_problem().unwrap_or(problem);
            }
            tracing::error!("{problem}");
        }
    }
}
