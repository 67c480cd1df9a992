//! Owns what is thrown away: old releases, bundles and snapshots that no release names any more, and compiled code of
//! such.

use std::collections::HashSet;

use isopod_policy::{
    AppName,
    retention::{StoredRelease, expired},
};
use isopod_store::{Control, Digest, StoreError, remove_unused_files};
use jiff::Timestamp;

use crate::control::Deployer;
use crate::limits;

impl Deployer {
    /// Throws away what is not needed, now and then, until the host stops. Begins at once, since a host that is started
    /// more often than that must be tidied too; only once all apps are known, since what is theirs is not.
    pub(in crate::control) async fn keep_tidy(self) {
        loop {
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "old releases and bundles could not be removed");
            }
            tokio::time::sleep(limits::TIDY_INTERVAL).await;
        }
    }

    async fn tidy(&self) -> Result<(), StoreError> {
        let store = &self.0.parts.store;
        let mut releases = 0;
        for entry in self.apps(None, usize::MAX) {
            releases += self.forget_releases(&entry.name).await?;
        }
        let swept = store.sweep_blobs(limits::UNUSED_KEPT_FOR).await?;
        if swept.moved > 0 {
            let (bundles, to) = (swept.moved, swept.lost.display());
            tracing::warn!(bundles, %to, "bundles that this control.db never had were moved to lost+found");
        }
        let bundles = swept.removed.len();
        let needed = store.bundles_in_use().await?;
        let cache = store.folder().join("cache");
        let artefacts = remove_unused_files(&cache, move |name| is_of(name, &needed), limits::UNUSED_KEPT_FOR).await?;
        if releases + bundles + artefacts > 0 {
            tracing::info!(releases, bundles, artefacts, "removed what is not needed any more");
        }
        Ok(())
    }

    async fn forget_releases(&self, app: &AppName) -> Result<usize, StoreError> {
        let store = &self.0.parts.store;
        let Some(current) = self.app(app).ok().and_then(|entry| entry.fields().release) else { return Ok(0) };
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

/// Whether a compiled file is of one of these bundles: its name begins with the bundle's digest.
fn is_of(name: &str, bundles: &HashSet<Digest>) -> bool {
    let digest = name.split(['-', '.']).next().and_then(|digest| digest.parse().ok());
    digest.is_some_and(|digest| bundles.contains(&digest))
}
