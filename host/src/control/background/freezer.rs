//! Owns letting go of apps that nobody asks for. One task for all of them: a frozen app has none, and no timer either.

use std::time::Instant;

use crate::control::Deployer;
use crate::limits;

impl Deployer {
    /// Freezes what has been idle for long enough, until the host stops.
    pub(in crate::control) async fn run_freezer(self) {
        let after = self.0.parts.freeze_after;
        loop {
            tokio::time::sleep(limits::FREEZE_LOOK.min(after / 2)).await;
            let now = Instant::now();
            for entry in self.apps(None, usize::MAX) {
                entry.traffic.evict_idle_previews(now, after);
                let Some(running) = entry.traffic.active() else { continue };
                let sizes = running.freeze_changes();
                if running.idle_for(now) >= after && entry.traffic.freeze() {
                    tracing::debug!(app = %entry.name, "an app that nobody asked for is frozen");
                    self.note_frozen(&entry, &sizes, after);
                }
            }
        }
    }
}
