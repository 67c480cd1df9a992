//! Freezes idle apps, with one task for all apps. Never runs a task or a timer per frozen app.

use std::time::Instant;

use crate::control::Deployer;
use crate::control::limits;

impl Deployer {
    /// Freezes apps that have been idle for `freeze_after`, until the host shuts down.
    pub(in crate::control) async fn run_freezer(self) {
        let after = self.0.parts.freeze_after;
        loop {
            tokio::time::sleep(limits::FREEZE_CHECK_INTERVAL_MAX.min(after / 2)).await;
            let now = Instant::now();
            for app in self.apps(None, usize::MAX) {
                app.traffic.evict_idle_previews(now, after);
                let Some(running) = app.traffic.active() else { continue };
                let sizes = running.freeze_changes();
                if running.idle_for(now) >= after && app.traffic.freeze() {
                    tracing::debug!(app = %app.name, "an idle app is frozen");
                    self.record_frozen(&app, &sizes, after);
                }
            }
        }
    }
}
