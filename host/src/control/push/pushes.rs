//! The uploads and push jobs of all apps: their permits, and the table of jobs that have not ended.
//! Never runs a job.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_policy::{AppName, PushId};
use isopod_store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};

use crate::{
    control::{
        error::{DeployError, UploadsOf},
        limits,
        push::{
            progress::{LivePush, PushNow},
            upload::{self, Upload},
        },
    },
    http::{byte_budget::Exceeded, shares::Shares},
};

/// The limits of push jobs.
#[derive(Debug, Clone)]
pub(crate) struct PushLimits {
    pub(crate) parallel: usize,
    pub(crate) queued_max: usize,
    pub(crate) time_limit: Duration,
}

/// The uploads and push jobs of all apps. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct Pushes(Arc<Table>);

struct Table {
    store: Store,
    options: PushLimits,
    live: Mutex<HashMap<PushId, Arc<LivePush>>>,
    /// Permits of push jobs that wait or run.
    queued: Arc<Semaphore>,
    /// Permits of push jobs that run.
    running: Semaphore,
    /// Permits to read the bundle of a new app or of a plugin before its push job.
    reading: Semaphore,
    uploads_by_token: Arc<Shares>,
    uploads_by_app: Arc<Shares>,
}

impl Pushes {
    /// Creates the table and the folder for uploads. Blocks briefly.
    pub(in crate::control) fn open(store: Store, options: PushLimits) -> std::io::Result<Self> {
        upload::prepare(&uploads_folder(&store))?;
        Ok(Self(Arc::new(Table {
            store,
            live: Mutex::default(),
            queued: Arc::new(Semaphore::new(options.queued_max)),
            running: Semaphore::new(options.parallel),
            reading: Semaphore::new(limits::NEW_BUNDLES_READ_MAX),
            uploads_by_token: Shares::new(limits::UPLOADS_MAX, limits::UPLOADS_PER_TOKEN),
            uploads_by_app: Shares::new(limits::UPLOADS_MAX, limits::UPLOADS_PER_APP),
            options,
        })))
    }

    pub(in crate::control) fn options(&self) -> &PushLimits {
        &self.0.options
    }

    /// Starts an upload for an app, or of a plugin whose name is not known yet. The upload holds
    /// its permits until it is dropped.
    pub(in crate::control) fn upload(&self, app: Option<&AppName>, token: &str) -> Result<Upload, DeployError> {
        let refused = |most, of| DeployError::TooManyUploads { of, most, retry_after: limits::UPLOADS_RETRY_AFTER };
        let of_token = self.0.uploads_by_token.permit(token).map_err(|exceeded| match exceeded {
            Exceeded::Own => refused(limits::UPLOADS_PER_TOKEN, UploadsOf::Token(token.to_owned())),
            Exceeded::Shared => refused(limits::UPLOADS_MAX, UploadsOf::Host),
        })?;
        // No app has an empty name.
        let holder = app.map_or("", AppName::as_str);
        let of_holder = || app.map_or(UploadsOf::Plugins, |app| UploadsOf::App(app.clone()));
        let of_app = self.0.uploads_by_app.permit(holder).map_err(|exceeded| match exceeded {
            Exceeded::Own => refused(limits::UPLOADS_PER_APP, of_holder()),
            Exceeded::Shared => refused(limits::UPLOADS_MAX, UploadsOf::Host),
        })?;
        Upload::begin(&uploads_folder(&self.0.store), [of_token, of_app])
    }

    /// Returns the permit of a push job that waits or runs, or `None` if there are too many.
    pub(in crate::control) fn queue(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.queued).try_acquire_owned().ok()
    }

    /// Waits for the permit of a push job that runs.
    pub(in crate::control) async fn acquire_running(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.0.running.acquire().await.ok()
    }

    /// Waits for the permit to read the bundle of a new app or of a plugin.
    pub(in crate::control) async fn acquire_reading(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.0.reading.acquire().await.ok()
    }

    /// Returns the current state of a push job of an app that exists.
    pub(in crate::control) async fn get(&self, app: &AppName, id: &PushId) -> Result<PushNow, DeployError> {
        if let Some(live) = self.live(id).filter(|live| live.app == *app) {
            return Ok(live.now());
        }
        let store = &self.0.store;
        match store.push(id).await?.filter(|push| push.app == *app) {
            Some(push) => {
                let log = store.push_log(id, 0).await?.into_iter().map(|line| line.text).collect();
                Ok(PushNow { push, log })
            }
            None => Err(DeployError::UnknownPush { app: app.clone(), id: id.to_string() }),
        }
    }

    /// Subscribes to a push job. The sender is dropped once the job's state is final.
    pub(in crate::control) async fn follow(
        &self,
        app: &AppName,
        id: &PushId,
    ) -> Result<watch::Receiver<PushNow>, DeployError> {
        match self.live(id).filter(|live| live.app == *app) {
            Some(live) => Ok(live.follow()),
            None => Ok(watch::Sender::new(self.get(app, id).await?).subscribe()),
        }
    }

    /// Returns the number of push jobs that wait or run.
    pub(in crate::control) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(in crate::control) fn live(&self, id: &PushId) -> Option<Arc<LivePush>> {
        self.lock().get(id).cloned()
    }

    pub(in crate::control) fn insert(&self, live: Arc<LivePush>) {
        self.lock().insert(live.id().clone(), live);
    }

    /// Removes a push job whose end is stored.
    pub(in crate::control) fn remove(&self, id: &PushId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PushId, Arc<LivePush>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the folder of uploads. Each upload is removed when its bundle is read or its push job
/// ends.
fn uploads_folder(store: &Store) -> PathBuf {
    store.folder().join("tmp")
}
