//! Owns the life of an app besides its pushes: create, start, stop, change its type, delete. Each change is stored first,
//! then done, then recorded in the app's activity with its cause.

use std::{path::PathBuf, sync::Arc, sync::PoisonError};

use isopod_policy::{AppEvent, AppName, AppState, AppType, Manifest, ReleaseNumber};
use isopod_store::{ActivityRow, AppRow, Intended, StoreError};
use jiff::Timestamp;

use super::{BuildError, Deployer, DeployError, Entry, Failure, activate, verify};
use crate::{dispatch, observe::logs::LogLine};

impl Deployer {
    /// Makes an app.
    pub(crate) async fn create(
        &self,
        name: &AppName,
        app_type: AppType,
        cause: &str,
        by: &str,
    ) -> Result<Arc<Entry>, DeployError> {
        self.open()?;
        // One at a time: two apps of one name must not get past each other.
        let _creating = self.0.creating.lock().await;
        if self.0.apps.read().unwrap_or_else(PoisonError::into_inner).contains_key(name) {
            return Err(DeployError::AppExists(name.clone()));
        }
        // A crash in the middle of deleting an app of this name may have left its data: it is not for the new one.
        self.remove_data(name).await?;
        let row = AppRow {
            name: name.clone(),
            app_type,
            intended: Intended::Running,
            release: None,
            created_at: Timestamp::now(),
        };
        match self.0.parts.store.create_app(row.clone()).await {
            Ok(()) => {}
            Err(StoreError::Exists) => return Err(DeployError::AppExists(name.clone())),
            Err(error) => return Err(error.into()),
        }
        let entry = self.enter(row);
        self.record(&entry, "created", &format!("{cause}, type {app_type}"), by).await;
        Ok(entry)
    }

    /// Makes an app known to traffic and to this host's tables.
    pub(super) fn enter(&self, row: AppRow) -> Arc<Entry> {
        let traffic = Arc::new(dispatch::App::new(row.name.clone()));
        let entry = Arc::new(Entry::new(row, self.0.parts.logs.clone(), Arc::clone(&traffic)));
        let mut apps = self.0.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.insert(entry.name.clone(), Arc::clone(&entry));
        self.0.parts.directory.put(traffic);
        entry
    }

    /// Changes an app's type, which only a stopped app lets happen.
    pub(crate) async fn set_type(&self, name: &AppName, app_type: AppType, by: &str) -> Result<Arc<Entry>, DeployError> {
        self.open()?;
        let entry = self.app(name)?;
        let not_stopped = |state| DeployError::NotStopped { app: name.clone(), state };
        let before = entry.facts().app_type;
        if before == app_type {
            return Ok(entry);
        }
        // Whoever holds the turn is changing the app, so it is not at rest even if its state says so.
        let turn = entry.turn.try_lock().map_err(|_| not_stopped(AppState::Deploying))?;
        let state = entry.facts().state;
        if state != AppState::Stopped {
            return Err(not_stopped(state));
        }
        self.0.parts.store.set_type(name, app_type).await?;
        entry.facts().app_type = app_type;
        drop(turn);
        self.record(&entry, "type", &format!("changed from {before} to {app_type}"), by).await;
        Ok(entry)
    }

    /// Starts a stopped app, or one in error. What comes of it is seen in its state.
    pub(crate) async fn start(&self, name: &AppName, by: &str) -> Result<Arc<Entry>, DeployError> {
        self.open()?;
        let entry = self.app(name)?;
        let Some(release) = entry.facts().release else { return Err(DeployError::NothingToStart(name.clone())) };
        if matches!(entry.facts().state, AppState::Running | AppState::Starting | AppState::Deploying) {
            // Asked for what is the case or is being done.
            self.intend(&entry, Intended::Running).await?;
            return Ok(entry);
        }
        self.intend(&entry, Intended::Running).await?;
        entry.step(AppEvent::Start, None).map_err(|refused| DeployError::Refused { app: name.clone(), refused })?;
        self.record(&entry, "started", &format!("{release} is started"), by).await;
        let (deployer, starting) = (self.clone(), Arc::clone(&entry));
        self.0.tasks.spawn(async move { deployer.bring_up(&starting).await });
        Ok(entry)
    }

    /// Stops an app: new requests are refused at once, accepted ones are finished.
    pub(crate) async fn stop(&self, name: &AppName, by: &str) -> Result<Arc<Entry>, DeployError> {
        let entry = self.app(name)?;
        self.intend(&entry, Intended::Stopped).await?;
        if entry.facts().state == AppState::Stopped {
            return Ok(entry);
        }
        entry.traffic.set_stopped("the app is stopped");
        entry.step(AppEvent::Stop, None).map_err(|refused| DeployError::Refused { app: name.clone(), refused })?;
        self.record(&entry, "stopped", "asked for", by).await;
        let draining = Arc::clone(&entry);
        self.0.tasks.spawn(async move { draining.traffic.drain().await });
        Ok(entry)
    }

    async fn intend(&self, entry: &Entry, intended: Intended) -> Result<(), DeployError> {
        if entry.facts().intended != intended {
            self.0.parts.store.set_intended(&entry.name, intended).await?;
            entry.facts().intended = intended;
        }
        Ok(())
    }

    /// Deletes an app with all it has.
    pub(crate) async fn delete(&self, name: &AppName) -> Result<(), DeployError> {
        let entry = self.app(name)?;
        entry.facts().deleted = true;
        entry.gone.cancel();
        entry.traffic.set_stopped("the app is deleted");
        self.0.parts.directory.remove(name);
        let _turn = entry.turn.lock().await;
        entry.traffic.drain().await;
        if let Err(error) = self.0.parts.store.delete_app(name).await {
            // It is still stored, so it is still an app: it comes back as a stopped one.
            entry.facts().deleted = false;
            self.0.parts.directory.put(Arc::clone(&entry.traffic));
            return Err(error.into());
        }
        self.0.parts.logs.forget(name).await;
        let removed = self.remove_data(name).await;
        self.0.apps.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        tracing::info!(app = %name, "an app was deleted with its data");
        removed
    }

    async fn remove_data(&self, name: &AppName) -> Result<(), DeployError> {
        self.0.parts.keyvalue.remove_app(name).await?;
        let folder: PathBuf = self.0.parts.data_dir.join("apps").join(name.as_str());
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
        match removed.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(DeployError::Disk { doing: "the app's data can't be removed", source }),
        }
    }

    /// Keeps what the compiler said about the newest code of a dev app, or forgets it.
    pub(crate) fn set_build_error(&self, name: &AppName, message: Option<String>) -> Result<Arc<Entry>, DeployError> {
        let entry = self.app(name)?;
        let app_type = entry.facts().app_type;
        if app_type != AppType::Dev {
            return Err(DeployError::NotDev { app: name.clone(), app_type });
        }
        let error = message.map(|message| BuildError { message: message.into(), at: Timestamp::now() });
        entry.traffic.set_build_error(error.as_ref().map(|error| error.message.to_string()));
        entry.facts().build_error = error;
        Ok(entry)
    }

    /// Brings the present release of an app into service, as its intended state asks for.
    pub(super) async fn bring_up(&self, entry: &Entry) {
        let _turn = entry.turn.lock().await;
        let (state, release) = {
            let facts = entry.facts();
            (facts.state, facts.release)
        };
        // A push or a stop came first.
        let (AppState::Starting, Some(release)) = (state, release) else { return };
        let brought = tokio::select! {
            brought = self.load(entry, release) => brought,
            () = entry.gone.cancelled() => return,
            () = self.0.abandon.cancelled() => return,
        };
        let still_wanted = entry.facts().state == AppState::Starting;
        match brought {
            Ok(running) if still_wanted => {
                entry.traffic.install(running);
                self.settle(entry, AppEvent::Serving, None);
            }
            Ok(_) => {}
            Err(failure) => {
                let reason = failure.reason();
                entry.log.write(LogLine::host(&entry.name, format!("{release} can't be started: {reason}")));
                entry.traffic.set_stopped("the app is in error");
                self.settle(entry, AppEvent::Failed(failure.cause()), Some(reason.clone()));
                self.record(entry, "error", &format!("{release}: {reason}"), "host").await;
            }
        }
    }

    fn settle(&self, entry: &Entry, event: AppEvent, detail: Option<String>) {
        if let Err(refused) = entry.step(event, detail) {
            tracing::warn!(app = %entry.name, %refused, "the app changed while it was started");
        }
    }

    async fn load(&self, entry: &Entry, release: ReleaseNumber) -> Result<dispatch::Running, Failure> {
        let row = self.0.parts.store.release(&entry.name, release).await?;
        let row = row.ok_or_else(|| Failure::Internal(format!("{release} is not in the store")))?;
        let manifest = stored_manifest(&row.manifest)?;
        let bytes = self.0.parts.store.blob(&row.digest).await?;
        let verified = verify::stored(bytes, manifest)?;
        let app_type = entry.facts().app_type;
        let component = self.compile(&verified, app_type).await?;
        let program = self.program(entry, &component, &verified.manifest, release).await?;
        let processes = verify::formation(&verified.manifest, &verified.info.entries)?;
        activate::check(&program, &processes).await?;
        Ok(super::running(release, program, processes, &verified.manifest))
    }

    /// The manifest that the app runs with now.
    pub(super) async fn present_manifest(&self, entry: &Entry) -> Result<Manifest, Failure> {
        let release = entry.facts().release;
        match release {
            Some(release) => match self.0.parts.store.release(&entry.name, release).await? {
                Some(row) => stored_manifest(&row.manifest),
                None => verify::empty_manifest(&entry.name),
            },
            None => verify::empty_manifest(&entry.name),
        }
    }

    /// Adds to the app's activity. A record that can't be kept is no reason to undo what was done.
    pub(super) async fn record(&self, entry: &Entry, kind: &str, cause: &str, by: &str) {
        let row = ActivityRow {
            app: entry.name.clone(),
            kind: kind.to_owned(),
            cause: cause.to_owned(),
            by: by.to_owned(),
            at: Timestamp::now(),
        };
        if let Err(error) = self.0.parts.store.append_activity(row).await {
            tracing::warn!(app = %entry.name, %error, kind, cause, "an activity could not be recorded");
        }
    }
}

fn stored_manifest(json: &str) -> Result<Manifest, Failure> {
    serde_json::from_str(json).map_err(|e| Failure::Internal(format!("the release's manifest can't be read: {e}")))
}
