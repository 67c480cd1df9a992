//! Log drains: each sends the log of one app to an endpoint, on a task of its own with a bounded
//! buffer. Lines that don't fit are dropped and counted. Never delays an app or another drain.

mod buffer;
mod endpoint;
mod format;
mod send;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use isopod_engine::Engine;
use isopod_policy::{AppName, Ceiling, Excess, Grants, Limits, back_off, ceiling::Asked};
use isopod_policy::{limits::TEXT_DETAIL_BYTES_SHOWN, text::line_excerpt};
use isopod_store::{Drain, Store, StoreError};
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) use self::buffer::Counters;
use self::{
    buffer::{Buffer, SharedBytes},
    endpoint::Endpoint,
    send::{SendError, SendErrorKind, Sender},
};
use crate::control::{
    AppRecord, Authority, Requester, app_table::AppTable, background::activity_log::ActivityLog, error::DeployError,
    limits, shutdown::Shutdown,
};
use crate::observe::logs::{Follower, LineFilter, LogLine, Logs};

/// Why a request about drains is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("invalid endpoint: {why}")]
    Endpoint { app: AppName, why: String },
    #[error("`{app}` already has {} drains, which is the limit", limits::DRAINS_PER_APP_MAX)]
    TooManyOfApp { app: AppName },
    #[error("the token `{by}` has already added {} drains, which is the limit", limits::DRAINS_PER_TOKEN_MAX)]
    TooManyOfToken { app: AppName, by: String },
    #[error("the host already has {} drains, which is the limit", limits::DRAINS_MAX)]
    TooMany,
    #[error("`{app}` has no drain `{id}`")]
    Unknown { app: AppName, id: String },
}

/// Why a change of a drain fails.
#[derive(Debug)]
pub(crate) enum DrainFailure {
    Drain(DrainError),
    /// For a reason that isn't specific to drains.
    Other(DeployError),
}

impl From<DrainError> for DrainFailure {
    fn from(error: DrainError) -> Self {
        Self::Drain(error)
    }
}

impl From<DeployError> for DrainFailure {
    fn from(error: DeployError) -> Self {
        Self::Other(error)
    }
}

impl From<StoreError> for DrainFailure {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// The handles that drains need.
pub(in crate::control) struct Options {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) logs: Logs,
    pub(in crate::control) engine: Engine,
    /// The ceiling of all apps on the addresses that they may reach.
    pub(in crate::control) ceiling: Arc<Ceiling>,
    pub(in crate::control) shutdown: Shutdown,
}

/// The drains of all apps. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Drains(Arc<Service>);

struct Service {
    options: Options,
    running: Mutex<BTreeMap<String, Running>>,
    /// The bytes of all buffers.
    bytes: Arc<SharedBytes>,
    /// Locked while a drain is added, so that concurrent requests don't exceed the limits.
    adding: tokio::sync::Mutex<()>,
}

/// A drain that runs.
struct Running {
    row: Drain,
    /// The URL without secrets.
    shown: String,
    /// Distinguishes the app from a later one of the same name.
    app_id: String,
    buffer: Arc<Buffer>,
    stop: CancellationToken,
}

/// A drain as users see it.
#[derive(Debug, Clone)]
pub(crate) struct DrainStatus {
    pub(crate) id: String,
    /// The URL without secrets.
    pub(crate) url: String,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
    pub(crate) counters: Counters,
}

impl Running {
    fn status(&self) -> DrainStatus {
        DrainStatus {
            id: self.row.id.clone(),
            url: self.shown.clone(),
            created_by: self.row.created_by.clone(),
            created_at: self.row.created_at,
            counters: self.buffer.counters(),
        }
    }
}

impl Drains {
    pub(in crate::control) fn new(options: Options) -> Self {
        let (running, adding) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Service { options, running, bytes: Arc::default(), adding }))
    }

    /// Starts the stored drains. Called once all apps are registered.
    pub(in crate::control) async fn restore(&self) {
        let rows = self.0.options.store.drains().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the drains can't be read, so no log is drained");
            Vec::new()
        });
        for row in rows {
            let Ok(app) = self.0.options.app_table.app(&row.app) else { continue };
            let endpoint = self.stored_endpoint(&row);
            if let Err(why) = &endpoint {
                tracing::warn!(app = %row.app, id = row.id, why, "a drain can't be started");
            }
            self.start(app, row, endpoint);
        }
    }

    /// Returns the endpoint of a stored drain, or why its URL can't be used.
    fn stored_endpoint(&self, Drain { app, id, url, .. }: &Drain) -> Result<Endpoint, String> {
        let opened = self.0.options.store.secrets().unseal(app, &sealed_as(id), url);
        let lost = "the stored URL can't be read, because the file secrets.key was lost or replaced, or the URL was \
                    changed; remove the drain and add it again";
        Endpoint::parse(&opened.map_err(|_| lost.to_owned())?)
    }

    /// Returns the drains of an app, oldest first.
    pub(crate) fn list(&self, app: &AppRecord) -> Vec<DrainStatus> {
        let running = self.lock();
        let mut drains: Vec<_> = running.values().filter(|drain| drain.app_id == app.id).map(Running::status).collect();
        drains.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        drains
    }

    /// Adds a drain to an app, within the ceilings of the app and of the token.
    pub(crate) async fn add(
        &self,
        app: &Arc<AppRecord>,
        url: &str,
        requester: &Requester,
    ) -> Result<DrainStatus, DrainFailure> {
        let Options { store, activity, shutdown, .. } = &self.0.options;
        shutdown.ensure_open()?;
        requester.check_kind(app)?;
        let invalid = |why: String| DrainError::Endpoint { app: app.name.clone(), why };
        let endpoint = Endpoint::parse(url).map_err(invalid)?;
        let grant = endpoint.grant().map_err(|why| invalid(why.to_owned()))?;
        self.check_ceiling(app, &Grants { http: vec![grant], ..Grants::default() }, requester)?;
        let _adding = self.0.adding.lock().await;
        self.check_number(app, requester)?;
        let id = format!("d-{}", &isopod_policy::RequestId::from_random(rand::random()).as_str()[..10]);
        let row = Drain {
            app: app.name.clone(),
            url: store.secrets().seal(&app.name, &sealed_as(&id), url),
            id: id.clone(),
            created_by: requester.by.clone(),
            created_at: Timestamp::now(),
        };
        store.insert_drain(row.clone()).await?;
        if app.is_destroyed() {
            // A new app of the same name must not have the drain.
            store.delete_drain(&app.name, &id).await?;
            return Err(DeployError::UnknownApp(app.name.clone()).into());
        }
        let shown = endpoint.to_string();
        self.start(Arc::clone(app), row, Ok(endpoint));
        let text = format!("drain {id} to {shown} added");
        activity.record(app, "drain-added", text, json!({ "drain": id, "url": shown, "by": requester.by })).await;
        let added = self.lock().get(&id).map(Running::status);
        added.ok_or_else(|| DeployError::UnknownApp(app.name.clone()).into())
    }

    /// Removes a drain. Lines in its buffer are dropped.
    pub(crate) async fn remove(&self, app: &AppRecord, id: &str, requester: &Requester) -> Result<(), DrainFailure> {
        let Options { store, activity, shutdown, .. } = &self.0.options;
        shutdown.ensure_open()?;
        requester.check_kind(app)?;
        let unknown = || DrainError::Unknown { app: app.name.clone(), id: id.to_owned() };
        let known = self.list(app).into_iter().find(|drain| drain.id == id).ok_or_else(unknown)?;
        store.delete_drain(&app.name, id).await?;
        if let Some(removed) = self.lock().remove(id) {
            removed.stop.cancel();
        }
        let text = format!("drain {id} to {} removed", known.url);
        activity.record(app, "drain-removed", text, json!({ "drain": id, "url": known.url, "by": requester.by })).await;
        Ok(())
    }

    /// Refuses a drain beyond the limits of the app, of the token and of the host.
    fn check_number(&self, app: &AppRecord, requester: &Requester) -> Result<(), DrainError> {
        if self.list(app).len() >= limits::DRAINS_PER_APP_MAX {
            return Err(DrainError::TooManyOfApp { app: app.name.clone() });
        }
        let running = self.lock();
        let of_token = || running.values().filter(|drain| drain.row.created_by == requester.by).count();
        if matches!(requester.authority, Authority::Limited(_)) && of_token() >= limits::DRAINS_PER_TOKEN_MAX {
            return Err(DrainError::TooManyOfToken { app: app.name.clone(), by: requester.by.clone() });
        }
        if running.len() >= limits::DRAINS_MAX { Err(DrainError::TooMany) } else { Ok(()) }
    }

    /// Refuses an endpoint that the app's releases could not be granted.
    fn check_ceiling(&self, app: &AppRecord, grants: &Grants, requester: &Requester) -> Result<(), DeployError> {
        let fields = app.fields();
        let of_app = self.0.options.ceiling.with(&fields.ceiling);
        let asked = Asked { grants, middleware: &[], limits: &Limits::default(), app_type: fields.app_type };
        let mut excesses = requester.excesses(&of_app, &asked, None);
        excesses.retain(|excess| matches!(excess, Excess::Grant { .. }));
        if excesses.is_empty() { Ok(()) } else { Err(DeployError::NotAllowed { app: app.name.clone(), excesses }) }
    }

    /// Starts a drain. One without a usable endpoint is only listed, with the reason.
    fn start(&self, app: Arc<AppRecord>, row: Drain, endpoint: Result<Endpoint, String>) {
        let Options { logs, engine, shutdown, .. } = &self.0.options;
        let (buffer, stop) = (Arc::new(Buffer::new(Arc::clone(&self.0.bytes))), CancellationToken::new());
        let (shown, sender) = match endpoint {
            Ok(endpoint) => (endpoint.to_string(), Some(Sender::new(app.name.clone(), endpoint, engine.clone()))),
            Err(why) => {
                buffer.failed(why);
                ("unreadable".to_owned(), None)
            }
        };
        let (id, app_id) = (row.id.clone(), app.id.clone());
        let running = Running { row, shown, app_id, buffer: Arc::clone(&buffer), stop: stop.clone() };
        self.lock().insert(id.clone(), running);
        let (drains, logs) = (self.clone(), logs.clone());
        shutdown.in_background(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = app.destroyed() => {}
                () = run(logs, &app, &id, sender, &buffer) => {}
            }
            drains.lock().remove(&id);
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the name with which the URL of a drain is sealed. It is not that of a config var.
fn sealed_as(id: &str) -> String {
    format!("drain {id}")
}

/// Reads the app's log and sends its lines. Never ends.
async fn run(logs: Logs, app: &AppRecord, id: &str, sender: Option<Sender>, buffer: &Buffer) {
    match sender {
        Some(sender) => {
            tokio::join!(read(logs, app, buffer), send(app, id, sender, buffer));
        }
        None => std::future::pending().await,
    }
}

/// Copies the lines of an app's log into the buffer. If the log can't be read, tries again, and
/// continues after the last line.
async fn read(logs: Logs, app: &AppRecord, buffer: &Buffer) {
    let mut last = None;
    loop {
        let (logs, log) = (logs.clone(), Arc::clone(&app.log));
        let follower = match last {
            None => Follower::from_now(logs, log).await,
            Some(position) => Follower::after(logs, log, LineFilter::default(), position).await,
        };
        if let Ok(mut follower) = follower {
            while let Ok((line, _)) = follower.next().await {
                buffer.push(line);
            }
            last = Some(follower.position());
        }
        tokio::time::sleep(limits::DRAIN_LOG_RETRY_INTERVAL).await;
    }
}

/// Sends the lines of the buffer. After a failure, waits before the next attempt.
async fn send(app: &AppRecord, id: &str, mut sender: Sender, buffer: &Buffer) {
    let mut failures = 0;
    loop {
        if !buffer.filled().await {
            tokio::time::sleep(limits::DRAIN_GATHERING_TIME).await;
        }
        let batch = buffer.batch();
        let Err(SendError { why, kind, retry_after }) = sender.send(&batch).await else {
            buffer.sent(batch.len());
            failures = 0;
            continue;
        };
        let why = line_excerpt(&why, TEXT_DETAIL_BYTES_SHOWN);
        if kind == SendErrorKind::Permanent {
            buffer.refused(batch.len(), why);
            continue;
        }
        if buffer.failed(why.clone()) {
            let text = format!("the drain {id} fails, and is retried: {why}");
            app.log.write(LogLine::host(&app.name, text));
        }
        failures += 1;
        let retry = limits::DRAIN_RETRY_AFTER;
        let pause = back_off(*retry.start(), *retry.end(), failures, rand::random());
        tokio::time::sleep(pause.max(retry_after.unwrap_or_default())).await;
    }
}
