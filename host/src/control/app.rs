//! Owns the record of one app while the host runs: its fields, its locks, its log and its traffic.
//! Never stores anything: callers store a change first and then update the record.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use isopod_policy::{
    AppEvent, AppName, AppState, AppType, BaseState, ConfigVars, CoresOverride, Lifecycle, ProcessName, Refused,
    ReleaseNumber,
};
use isopod_store::{App, Intended, NewActivity};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::control::{DeployError, background::activity_log::Record, background::usage::Usage};
use crate::{control::data_gate::DataGate, limits, observe::logs::AppLog, runtime};

/// The record of one app.
pub(crate) struct AppRecord {
    pub(crate) name: AppName,
    /// Distinguishes the app from earlier and later apps of the same name.
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) log: Arc<AppLog>,
    pub(crate) traffic: Arc<runtime::App>,
    /// Held by a push job or a settings change while it runs. Waiters are served in order of
    /// arrival.
    pub(crate) change_lock: Arc<tokio::sync::Mutex<()>>,
    /// Held while another release becomes the current release.
    pub(crate) commit: tokio::sync::Mutex<()>,
    /// Held while a push is accepted, from the insertion of its row to its position in the queue of
    /// changes.
    pub(crate) accepting: tokio::sync::Mutex<()>,
    /// Permits of the app's push jobs.
    pub(crate) pushes: Arc<Semaphore>,
    /// Cancelled when the app is destroyed. Ends work on the app.
    pub(crate) destroyed: CancellationToken,
    /// Rejects data access by guests once the app is destroyed.
    pub(crate) data_gate: DataGate,
    /// Standby releases during a rollout watch. The first is the last release that passed its
    /// watch.
    standby: Mutex<Vec<Arc<runtime::ActiveRelease>>>,
    pub(crate) usage: Usage,
    /// The queue of the activity log.
    records: mpsc::Sender<Record>,
    fields: Mutex<Fields>,
}

/// The mutable fields of an app's record.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) app_type: AppType,
    lifecycle: Lifecycle,
    /// The reason for the base state `error`, as text for users.
    pub(crate) error_detail: Option<String>,
    pub(crate) intended: Intended,
    pub(crate) release: Option<ReleaseNumber>,
    /// Whether the release that served last handles HTTP requests. True until a release has served.
    pub(crate) serves_http: bool,
    /// The config vars of the next release.
    pub(crate) config: ConfigVars,
    /// The app's own core counts, which override the operator's defaults.
    pub(crate) cores: CoresOverride,
    /// The last firing of each scheduled process type, as stored before the host started.
    pub(crate) fired: HashMap<ProcessName, Timestamp>,
    pub(crate) build_error: Option<BuildError>,
    /// Set once the app is destroyed. Checked by callers that waited for a lock meanwhile.
    pub(crate) deleted: bool,
}

/// The compiler's output for the newest code of a dev app, if the build failed.
#[derive(Debug, Clone)]
pub(crate) struct BuildError {
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

impl Fields {
    /// The state that users see.
    pub(crate) fn state(&self) -> AppState {
        self.lifecycle.label()
    }

    /// Whether the app's release is being loaded for a start, also while a push deploys another
    /// release.
    pub(crate) fn is_starting(&self) -> bool {
        self.lifecycle.base == BaseState::Starting
    }
}

impl AppRecord {
    pub(crate) fn new(row: App, log: Arc<AppLog>, traffic: Arc<runtime::App>, records: mpsc::Sender<Record>) -> Self {
        let fields = Fields {
            app_type: row.app_type,
            lifecycle: Lifecycle::STOPPED,
            error_detail: None,
            intended: row.intended,
            release: row.release,
            serves_http: true,
            config: row.config,
            cores: row.cores,
            fired: HashMap::new(),
            build_error: None,
            deleted: false,
        };
        Self {
            name: row.name,
            id: row.id,
            created_at: row.created_at,
            log,
            traffic,
            change_lock: Arc::default(),
            commit: tokio::sync::Mutex::new(()),
            accepting: tokio::sync::Mutex::new(()),
            pushes: Arc::new(Semaphore::new(limits::PUSHES_QUEUED_PER_APP)),
            destroyed: CancellationToken::new(),
            data_gate: DataGate::default(),
            standby: Mutex::default(),
            usage: Usage::default(),
            records,
            fields: Mutex::new(fields),
        }
    }

    /// Locks the standby releases.
    pub(crate) fn standby(&self) -> MutexGuard<'_, Vec<Arc<runtime::ActiveRelease>>> {
        self.standby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the fields. Callers never hold the guard across an await.
    pub(crate) fn fields(&self) -> MutexGuard<'_, Fields> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the app was destroyed while the caller waited for a lock. By then, the name may
    /// belong to a new app in the store.
    pub(super) fn ensure_exists(&self) -> Result<(), DeployError> {
        if self.fields().deleted { Err(DeployError::UnknownApp(self.name.clone())) } else { Ok(()) }
    }

    /// Marks the app as running without an activity, since it serves as before the host's start.
    pub(super) fn restore_running(&self) {
        self.fields().lifecycle = Lifecycle::RUNNING;
    }

    /// Steps the app's state machine. Users read `cause` in the app's activity.
    pub(crate) fn step(&self, event: AppEvent, cause: &str) -> Result<(), Refused> {
        let mut fields = self.fields();
        let (before, after) = (fields.lifecycle, fields.lifecycle.step(event)?);
        fields.lifecycle = after;
        match (after.base, event) {
            (BaseState::Error(_), AppEvent::Failed(_)) => fields.error_detail = Some(cause.to_owned()),
            (BaseState::Error(_), _) => {}
            (BaseState::Stopped | BaseState::Starting | BaseState::Running, _) => fields.error_detail = None,
        }
        let (from, to) = (before.label(), after.label());
        if from == to {
            return Ok(());
        }
        // A deployment that failed uncovers the original error.
        let cause = fields.error_detail.as_deref().filter(|_| to.cause().is_some()).unwrap_or(cause);
        tracing::info!(app = %self.name, %from, %to, cause, "the app's state changed");
        // Activities of a destroyed app are not stored: a new app of the same name may exist by
        // then.
        if !fields.deleted {
            let data = json!({ "from": from, "to": to, "error": to.cause(), "cause": cause });
            let (app, kind) = (Some(self.name.clone()), "app-state".to_owned());
            let text = format!("{from} → {to}: {cause}");
            let change = NewActivity { app, kind, text, data, at: Timestamp::now() };
            // A full queue drops the activity instead of delaying the app.
            if self.records.try_send(Record::Activity(change)).is_err() {
                tracing::warn!(app = %self.name, "a state change is not recorded: the queue of activities is full");
            }
        }
        Ok(())
    }
}
