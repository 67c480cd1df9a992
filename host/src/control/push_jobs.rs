//! Owns the requests about push jobs: receives uploads, hands received bundles to the tasks of
//! their apps, and reads the progress of jobs. Never runs a job.

use isopod_policy::{AppKind, AppName, AppType, BundleKind, Manifest, PushId};
use isopod_store::{Digest, Idempotency};
use tokio::sync::watch;

use crate::control::{
    app_command::{AppHandle, Command},
    app_table::AppTable,
    apps::Apps,
    error::{DeployError, Failure},
    push::{
        progress::PushNow,
        pushes::Pushes,
        request::{Accepted, PushRequest},
        upload::{Received, Upload},
    },
    release::verify,
    requester::Requester,
    shutdown::Shutdown,
};

/// A received bundle and the details of its push.
struct PushUpload {
    received: Received,
    kind: BundleKind,
    requester: Requester,
    key: Option<String>,
    created_app: bool,
}

/// Accepts, cancels and shows push jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PushJobs {
    pub(in crate::control) apps: Apps,
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) pushes: Pushes,
    pub(in crate::control) shutdown: Shutdown,
}

impl PushJobs {
    /// Starts an upload for an app, or of a plugin whose name is not known yet. The upload holds
    /// its permits until it is dropped.
    pub(crate) fn upload(&self, app: Option<&AppName>, token: &str) -> Result<Upload, DeployError> {
        self.shutdown.ensure_open()?;
        self.pushes.upload(app, token)
    }

    /// Accepts a received bundle as a push job. Creates the app if it doesn't exist and the bundle
    /// is valid.
    pub(crate) async fn submit(
        &self,
        name: &AppName,
        received: Received,
        kind: BundleKind,
        requester: &Requester,
        key: Option<String>,
    ) -> Result<Accepted, DeployError> {
        self.shutdown.ensure_open()?;
        let (app, received, created_app) = self.find_or_create(name, received, kind, requester).await?;
        requester.check_kind(&app.record)?;
        self.push(app, PushUpload { received, kind, requester: requester.clone(), key, created_app }).await
    }

    /// Accepts a received bundle as a push job of the plugin that its manifest names. Creates the
    /// plugin if it doesn't exist and the bundle is valid.
    pub(crate) async fn install_plugin(
        &self,
        received: Received,
        kind: BundleKind,
        requester: &Requester,
        key: Option<String>,
    ) -> Result<Accepted, DeployError> {
        self.shutdown.ensure_open()?;
        let name = {
            let _reading = self.pushes.acquire_reading().await;
            verify::read_plugin_name(&received, kind).await.map_err(unusable)?
        };
        let (app, created_app) = match self.app_table.handle(&name) {
            Ok(app) => (app, false),
            Err(DeployError::UnknownApp(_)) => {
                let created = match self.apps.create_plugin(&name, requester).await {
                    Ok(_) => true,
                    // A concurrent request created it.
                    Err(DeployError::AppExists(_)) => false,
                    Err(error) => return Err(error),
                };
                (self.app_table.handle(&name).map_err(|_| DeployError::BeingDestroyed(name.clone()))?, created)
            }
            Err(error) => return Err(error),
        };
        if app.record.kind == AppKind::App {
            return Err(DeployError::AppExists(name));
        }
        self.push(app, PushUpload { received, kind, requester: requester.clone(), key, created_app }).await
    }

    async fn push(&self, app: AppHandle, upload: PushUpload) -> Result<Accepted, DeployError> {
        let PushUpload { received, kind, requester, key, created_app } = upload;
        let idempotency = match key {
            Some(key) => Some(Idempotency { key, upload: digest(&received).await? }),
            None => None,
        };
        let request = PushRequest { received, kind, requester, idempotency, created_app };
        match app.request(|reply| Command::Push { request, reply }).await {
            Err(DeployError::UnknownApp(name)) => Err(DeployError::BeingDestroyed(name)),
            accepted => accepted,
        }
    }

    /// Returns the app. Creates it if it doesn't exist and the bundle is valid.
    async fn find_or_create(
        &self,
        name: &AppName,
        received: Received,
        kind: BundleKind,
        requester: &Requester,
    ) -> Result<(AppHandle, Received, bool), DeployError> {
        match self.app_table.handle(name) {
            Ok(app) => return Ok((app, received, false)),
            Err(DeployError::UnknownApp(_)) => {}
            Err(error) => return Err(error),
        }
        let app_type = {
            let _reading = self.pushes.acquire_reading().await;
            let verified = verify::read(&received, kind, Manifest::new(name.clone())).await.map_err(unusable)?;
            // The manifest selects the type. A bare component, typically a first try, makes a dev
            // app.
            if verified.has_manifest { verified.manifest.app_type } else { AppType::Dev }
        };
        match self.apps.create(name, app_type, "created by its first push", requester).await {
            Ok(_) => {
                let app = self.app_table.handle(name).map_err(|_| DeployError::BeingDestroyed(name.clone()))?;
                Ok((app, received, true))
            }
            // A concurrent request created it.
            Err(DeployError::AppExists(_)) => {
                let app = self.app_table.handle(name).map_err(|_| DeployError::BeingDestroyed(name.clone()))?;
                Ok((app, received, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Cancels a push job that still waits.
    pub(crate) async fn cancel(&self, name: &AppName, id: &PushId, by: &str) -> Result<PushNow, DeployError> {
        let (id, by) = (id.clone(), by.to_owned());
        self.app_table.handle(name)?.request(|reply| Command::CancelPush { id, by, reply }).await
    }

    /// Returns the current state of a push job.
    pub(crate) async fn get(&self, app: &AppName, id: &PushId) -> Result<PushNow, DeployError> {
        self.app_table.app(app)?;
        self.pushes.get(app, id).await
    }

    /// Subscribes to a push job. The sender is dropped once the job's state is final.
    pub(crate) async fn follow(&self, app: &AppName, id: &PushId) -> Result<watch::Receiver<PushNow>, DeployError> {
        if self.pushes.live(id).is_none_or(|live| live.app != *app) {
            self.app_table.app(app)?;
        }
        self.pushes.follow(app, id).await
    }

    /// Returns the state of a push job that has not ended. It may be newer than the stored state.
    pub(crate) fn under_way(&self, id: &PushId) -> Option<PushNow> {
        self.pushes.live(id).map(|live| live.now())
    }

    /// Returns the number of push jobs that wait or run.
    pub(crate) fn count(&self) -> usize {
        self.pushes.count()
    }
}

/// Returns the error for a bundle that can't create an app.
fn unusable(failure: Failure) -> DeployError {
    match failure {
        // The bundle may be valid.
        Failure::Store(error) => error.into(),
        failure => DeployError::Unusable(Box::new(failure)),
    }
}

async fn digest(received: &Received) -> Result<Digest, DeployError> {
    let path = received.path();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path).map(|bytes| Digest::of(&bytes))).await;
    let read = read.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    read.map_err(|source| DeployError::Disk { doing: "the upload can't be read", source })
}
