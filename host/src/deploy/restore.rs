//! Owns bringing every app back when the host starts. Never keeps the host from starting because of one app.

use std::{sync::Arc, time::Instant};

use futures::StreamExt;
use isopod_policy::AppEvent;
use isopod_store::Intended;

use super::{Deployer, DeployError};
use crate::limits;

impl Deployer {
    /// Reads what is stored, and starts to bring the apps back. Ends when all of them are, or are in error.
    pub(crate) async fn restore(&self) -> Result<Restored, DeployError> {
        let store = &self.0.parts.store;
        let interrupted = store.fail_unfinished_pushes("host-stopped: the host stopped before the push was completed; push again").await?;
        for (app, id) in &interrupted {
            tracing::info!(%app, push = %id, "a push was interrupted by the host's stop and is failed");
        }
        let mut entries = Vec::new();
        for row in store.all_apps().await? {
            let intended = row.intended;
            let entry = self.enter(row);
            if intended == Intended::Running && entry.facts().release.is_some() {
                self.settle(&entry, AppEvent::Start, None);
                entries.push(entry);
            }
        }
        Ok(Restored { deployer: self.clone(), entries })
    }
}

/// Apps that are known and wait to be brought up.
pub(crate) struct Restored {
    deployer: Deployer,
    entries: Vec<Arc<super::Entry>>,
}

impl Restored {
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Brings them up, a bounded number at a time.
    pub(crate) async fn bring_up(self) {
        let begun = Instant::now();
        let count = self.entries.len();
        let deployer = &self.deployer;
        futures::stream::iter(&self.entries)
            .for_each_concurrent(limits::RESTORE_PARALLEL, |entry| deployer.bring_up(entry))
            .await;
        tracing::info!(apps = count, duration_ms = begun.elapsed().as_millis(), "the apps are brought back");
    }
}
