//! Owns fetching releases that somebody visits by their own URLs while another one serves.

use std::sync::Arc;

use isopod_policy::ReleaseState;
use isopod_store::Control;
use tokio::sync::mpsc;

use super::Deployer;
use crate::dispatch::{NoVisit, Running, Visit};

impl Deployer {
    pub(super) async fn receive_visits(self, mut visits: mpsc::Receiver<Visit>) {
        while let Some(Visit { app, release, answer }) = visits.recv().await {
            let deployer = self.clone();
            self.in_background(async move {
                // Whoever asked may have left.
                drop(answer.send(deployer.fetch(&app, release).await));
            });
        }
    }

    async fn fetch(
        &self,
        app: &isopod_policy::AppName,
        number: isopod_policy::ReleaseNumber,
    ) -> Result<Arc<Running>, NoVisit> {
        let entry = self.app(app).map_err(|error| NoVisit::Unknown(error.to_string()))?;
        let found = self.0.parts.store.release(app, number).await;
        let found = found.map_err(|error| NoVisit::Unavailable(error.to_string()))?;
        let release = found.ok_or_else(|| NoVisit::Unknown(format!("`{app}` has no release {number}")))?;
        match release.state {
            ReleaseState::Ready | ReleaseState::Frozen | ReleaseState::Retired => {}
            ReleaseState::Building | ReleaseState::Deploying | ReleaseState::Booted => {
                return Err(NoVisit::Unavailable(format!("{number} is {} and not ready yet", release.state)));
            }
            ReleaseState::BuildError | ReleaseState::DeploymentError => {
                let why = release.reason.map(|reason| format!(": {}", reason.detail)).unwrap_or_default();
                return Err(NoVisit::Unknown(format!("{number} is in {}{why}", release.state)));
            }
        }
        let loaded = self.load(&entry, number).await;
        let running = loaded.map_err(|failure| NoVisit::Unavailable(format!("{}: {failure}", failure.code())))?;
        Ok(Arc::new(running))
    }
}
