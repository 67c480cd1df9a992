//! Owns fetching releases that somebody visits by their own URLs while another one serves, and those that nobody
//! has asked for since the host started.

use std::sync::Arc;

use isopod_policy::ReleaseState;
use isopod_store::Control;
use tokio::sync::mpsc;

use super::{Deployer, Entry, activate::Purpose, lifecycle::say_not_now};
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
        let is_asked_for = || entry.traffic.cold() == Some(number);
        let purpose = if is_asked_for() { Purpose::Serve } else { Purpose::Visit };
        match self.load(&entry, number, purpose).await {
            Ok(running) => {
                let running = Arc::new(running);
                // False for one that is only visited.
                if entry.traffic.warm_up(&running) {
                    entry.facts().serves_http = running.serves_http();
                }
                Ok(running)
            }
            // The next one who asks has it tried again. Paths of the host are nothing for clients.
            Err(failure) if failure.is_passing() => {
                say_not_now(&entry, number, &failure);
                let text = "the host can't read the app's code just now; send it again in a moment";
                Err(NoVisit::Unavailable(text.to_owned()))
            }
            Err(failure) => {
                if is_asked_for() {
                    self.cannot_serve(&entry, number, &failure).await;
                }
                Err(NoVisit::Unavailable(format!("{}: {failure}", failure.code())))
            }
        }
    }

    /// The release that serves an app, thawed or loaded if need be; else why none does.
    pub(crate) async fn serving(&self, entry: &Entry) -> Result<Arc<Running>, String> {
        self.0.parts.directory.serving(&entry.traffic).await
    }
}
