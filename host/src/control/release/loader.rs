//! Loads releases on request: cold releases of apps, and releases that are previewed by their own
//! URL. Never changes which release is current.

use std::sync::Arc;

use isopod_policy::{AppName, ReleaseNumber, ReleaseState};
use tokio::sync::mpsc;

use crate::control::{
    app_command::Command,
    app_table::AppTable,
    release::{boot::Purpose, load::log_deferred_load, releases::Releases},
    shutdown::Shutdown,
};
use crate::{
    observe::logs::LogLine,
    runtime::{LoadRequest, LoadedRelease, PreviewError},
};

/// The message for a client if the release may be available later.
const NOT_NOW: &str = "the release is temporarily unavailable; send the request again later";

/// The loader. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct Loader {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) releases: Releases,
    pub(in crate::control) shutdown: Shutdown,
}

impl Loader {
    /// Loads releases on request until the host shuts down.
    pub(in crate::control) async fn run(self, mut requests: mpsc::Receiver<LoadRequest>) {
        while let Some(LoadRequest { app, release, reply }) = requests.recv().await {
            let loader = self.clone();
            self.shutdown.in_background(async move {
                // The client may have disconnected.
                drop(reply.send(loader.fetch(&app, release).await));
            });
        }
    }

    async fn fetch(&self, name: &AppName, number: ReleaseNumber) -> Result<LoadedRelease, PreviewError> {
        let app = self.app_table.handle(name).map_err(|error| PreviewError::Unknown(error.to_string()))?;
        let found = self.releases.store.release(name, number).await;
        let unknown = || PreviewError::Unknown(format!("`{name}` has no release {number} that can serve"));
        let found = found.map_err(|error| {
            tracing::warn!(%name, release = %number, %error, "a release can't be read");
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
        let is_cold = || app.record.traffic.cold() == Some(number);
        let purpose = if is_cold() { Purpose::Serve } else { Purpose::Preview };
        match self.releases.load(&app.record, number, purpose).await {
            Ok(running) => {
                let running = Arc::new(running);
                let loaded = |reply| Command::ColdLoaded { running: Arc::clone(&running), reply };
                // A preview never serves.
                let serves = purpose == Purpose::Serve && app.ask(loaded).await.unwrap_or(false);
                Ok(LoadedRelease { release: running, serves })
            }
            // The next request triggers another attempt. The cause is in the app's log and is not
            // shown to clients.
            Err(failure) if failure.is_passing() => {
                log_deferred_load(&app.record, number, &failure);
                Err(PreviewError::Unavailable(NOT_NOW.to_owned()))
            }
            Err(failure) => {
                if is_cold() {
                    // An app that is destroyed meanwhile has no state.
                    drop(app.ask(|reply| Command::ColdFailed { release: number, failure, reply }).await);
                } else {
                    let text = format!(
                        "{number} was requested by its URL and can't be started: {}: {failure}",
                        failure.code()
                    );
                    app.record.log.write(LogLine::host(&app.record.name, text));
                }
                Err(PreviewError::Unavailable("the release can't be started".to_owned()))
            }
        }
    }
}
