//! Garbage collection: deletes expired releases, blobs without a release, and compiled code without
//! a blob. Never deletes the current release.

use std::collections::HashSet;

use isopod_policy::{
    AppName,
    retention::{StoredRelease, expired},
};
use isopod_store::{Digest, Store, StoreError, remove_unused_files};
use jiff::Timestamp;

use crate::control::app_table::AppTable;
use crate::control::limits;

/// The garbage collector.
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
}

impl Service {
    /// Collects at an interval until the host shuts down. The first run is immediate, so that a
    /// host that restarts more often than the interval is also collected. Started after all apps
    /// are registered, since their releases are kept.
    pub(in crate::control) async fn run(self) {
        loop {
            if let Err(error) = self.collect().await {
                tracing::warn!(%error, "old releases and bundles could not be removed");
            }
            tokio::time::sleep(limits::GC_INTERVAL).await;
        }
    }

    async fn collect(&self) -> Result<(), StoreError> {
        let store = &self.store;
        let mut releases = 0;
        for app in self.app_table.all() {
            releases += self.delete_expired_releases(&app.name).await?;
        }
        let swept = store.sweep_blobs(limits::UNUSED_FILE_RETENTION).await?;
        if swept.moved > 0 {
            let (bundles, to) = (swept.moved, swept.lost.display());
            tracing::warn!(bundles, %to, "bundles that this control.db never had were moved to lost+found");
        }
        let bundles = swept.removed.len();
        let needed = store.bundles_in_use().await?;
        let cache = store.folder().join("cache");
        let artefacts =
            remove_unused_files(&cache, move |name| belongs_to(name, &needed), limits::UNUSED_FILE_RETENTION).await?;
        if releases + bundles + artefacts > 0 {
            tracing::info!(releases, bundles, artefacts, "removed unused releases, bundles and compiled code");
        }
        Ok(())
    }

    async fn delete_expired_releases(&self, app: &AppName) -> Result<usize, StoreError> {
        let store = &self.store;
        let Some(current) = self.app_table.app(app).ok().and_then(|app| app.fields().release) else { return Ok(0) };
        let stamps = store.release_stamps(app).await?;
        let stored: Vec<StoredRelease> = stamps
            .into_iter()
            .map(|stamp| StoredRelease {
                number: stamp.number,
                state: stamp.state,
                last_current_at: stamp.last_current_at,
            })
            .collect();
        let old = expired(&stored, Some(current), Timestamp::now());
        if !old.is_empty() {
            store.delete_releases(app, &old).await?;
        }
        Ok(old.len())
    }
}

/// Returns whether a compiled file belongs to one of these bundles: its name begins with the
/// bundle's digest.
fn belongs_to(name: &str, bundles: &HashSet<Digest>) -> bool {
    let digest = name.split(['-', '.']).next().and_then(|digest| digest.parse().ok());
    digest.is_some_and(|digest| bundles.contains(&digest))
}
