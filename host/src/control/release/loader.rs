//! Owns fetching releases that somebody visits by their own URLs while another one serves, and those that nobody
//! has asked for since the host started.

use std::sync::Arc;

use isopod_policy::ReleaseState;
use isopod_store::Control;
use tokio::sync::mpsc;

use crate::control::{AppRecord, Deployer, lifecycle::say_not_now, release::boot::Purpose};
use crate::{
    observe::logs::LogLine,
    runtime::{ActiveRelease, LoadRequest, LoadedRelease, PreviewError},
};

/// The message for a client if the release may be available later.
const NOT_NOW: &str = "the release can't be reached just now; send the request again in a moment";

impl Deployer {
    pub(in crate::control) async fn load_previews(self, mut visits: mpsc::Receiver<LoadRequest>) {
        while let Some(LoadRequest { app, release, reply }) = visits.recv().await {
            let deployer = self.clone();
            self.in_background(async move {
                // Whoever asked may have left.
                drop(reply.send(deployer.fetch(&app, release).await));
            });
        }
    }

    async fn fetch(
        &self,
        app: &isopod_policy::AppName,
        number: isopod_policy::ReleaseNumber,
    ) -> Result<LoadedRelease, PreviewError> {
        let entry = self.app(app).map_err(|error| PreviewError::Unknown(error.to_string()))?;
        let found = self.0.parts.store.release(app, number).await;
        let unknown = || PreviewError::Unknown(format!("`{app}` has no release {number} that can be reached"));
        let found = found.map_err(|error| {
            tracing::warn!(%app, release = %number, %error, "a release can't be read");
            PreviewError::Unavailable(NOT_NOW.to_owned())
        })?;
        let release = found.ok_or_else(unknown)?;
        match release.state {
            ReleaseState::Ready | ReleaseState::Frozen | ReleaseState::Retired => {}
            ReleaseState::Building | ReleaseState::Deploying | ReleaseState::Booted => {
                return Err(PreviewError::Unavailable(NOT_NOW.to_owned()));
            }
            ReleaseState::BuildError | ReleaseState::DeploymentError => return Err(unknown()),
        }
        let is_asked_for = || entry.traffic.cold() == Some(number);
        let purpose = if is_asked_for() { Purpose::Serve } else { Purpose::Preview };
        match self.load(&entry, number, purpose).await {
            Ok(running) => {
                let running = Arc::new(running);
                // False for one that is only visited.
                let serves = entry.traffic.install_loaded(&running);
                if serves {
                    entry.fields().serves_http = running.serves_http();
                }
                Ok(LoadedRelease { running, serves })
            }
            // The next visitor triggers another attempt. The cause is in the app's log and is not
            // shown to clients.
            Err(failure) if failure.is_passing() => {
                say_not_now(&entry, number, &failure);
                Err(PreviewError::Unavailable(NOT_NOW.to_owned()))
            }
            Err(failure) => {
                if is_asked_for() {
                    self.cannot_serve(&entry, number, &failure).await;
                } else {
                    let text = format!("{number} was visited and can't be started: {}: {failure}", failure.code());
                    entry.log.write(LogLine::host(&entry.name, text));
                }
                Err(PreviewError::Unavailable("the release can't be started".to_owned()))
            }
        }
    }

    /// The release that serves an app, thawed or loaded if need be; else why none does.
    pub(crate) async fn serving(&self, entry: &AppRecord) -> Result<Arc<ActiveRelease>, String> {
        self.0.parts.directory.serving(&entry.traffic).await
    }
}
