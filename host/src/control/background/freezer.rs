//! Freezes idle apps, with one task for all apps, drops full token buckets, and returns free memory
//! to the system. Never runs a task or a timer per frozen app.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::allocator;
use crate::control::{
    app::AppRecord, app_table::AppTable, background::activity_log::ActivityLog, background::scaler::record_frozen,
    limits,
};
use crate::runtime::HostResources;

/// The freezer.
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) host: HostResources,
    /// The idle time after which an app is frozen.
    pub(in crate::control) freeze_after: Duration,
}

impl Service {
    /// Freezes apps that have been idle for `freeze_after`, until the host shuts down.
    pub(in crate::control) async fn run(self) {
        loop {
            tokio::time::sleep(limits::FREEZE_CHECK_INTERVAL_MAX.min(self.freeze_after / 2)).await;
            let frozen = self.freeze_idle(Instant::now());
            frozen.iter().for_each(|app| app.traffic.remove_dropped());
            if !frozen.is_empty() {
                self.host.remove_dropped_pools();
            }
            allocator::return_free_memory();
        }
    }

    /// Freezes the apps that are idle, and returns them.
    fn freeze_idle(&self, now: Instant) -> Vec<Arc<AppRecord>> {
        let freeze = |app: &Arc<AppRecord>| {
            app.traffic.evict_idle_previews(now, self.freeze_after);
            app.traffic.resources().drop_full_counters();
            let Some(running) = app.traffic.active() else { return false };
            let sizes = running.freeze_changes();
            let is_frozen = running.idle_for(now) >= self.freeze_after && app.traffic.freeze();
            if is_frozen {
                tracing::debug!(app = %app.name, "an idle app is frozen");
                record_frozen(&self.activity, app, &sizes, self.freeze_after);
            }
            is_frozen
        };
        self.app_table.all().into_iter().filter(freeze).collect()
    }
}
