//! Freezes idle apps, with one task for all apps. Never runs a task or a timer per frozen app.

use std::time::{Duration, Instant};

use crate::control::limits;
use crate::control::{app_table::AppTable, background::activity_log::ActivityLog, background::scaler::record_frozen};

/// The freezer.
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) activity: ActivityLog,
    /// The idle time after which an app is frozen.
    pub(in crate::control) freeze_after: Duration,
}

impl Service {
    /// Freezes apps that have been idle for `freeze_after`, until the host shuts down.
    pub(in crate::control) async fn run(self) {
        let after = self.freeze_after;
        loop {
            tokio::time::sleep(limits::FREEZE_CHECK_INTERVAL_MAX.min(after / 2)).await;
            let now = Instant::now();
            for app in self.app_table.all() {
                app.traffic.evict_idle_previews(now, after);
                let Some(running) = app.traffic.active() else { continue };
                let sizes = running.freeze_changes();
                if running.idle_for(now) >= after && app.traffic.freeze() {
                    tracing::debug!(app = %app.name, "an idle app is frozen");
                    record_frozen(&self.activity, &app, &sizes, after);
                }
            }
        }
    }
}
