//! Owns what is known of one app while the host runs: its facts, its turn, and its ways into traffic and log. Never
//! stores anything: the store is asked first, and the facts follow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use isopod_policy::{AppEvent, AppName, AppState, AppType, ConfigVars, CoresOverride, ProcessName, ReleaseNumber};
use isopod_store::{App, Intended, NewActivity};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::control::{DeployError, background::activity_log::Record, background::usage::Usage};
use crate::{control::data_gate::DataGate, limits, observe::logs::AppLog, runtime};

/// One app.
pub(crate) struct AppRecord {
    pub(crate) name: AppName,
    /// Distinguishes it from an earlier or later app of the same name.
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) log: Arc<AppLog>,
    pub(crate) traffic: Arc<runtime::App>,
    /// Held by whoever changes what the app is: a push, a change of its settings. They come one after the other.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Held for the moment in which another release becomes the current one.
    pub(crate) commit: tokio::sync::Mutex<()>,
    /// Held while a push is accepted, from its row in the store to its place in line.
    pub(crate) accepting: tokio::sync::Mutex<()>,
    /// Room for the app's waiting pushes.
    pub(crate) pushes: Arc<Semaphore>,
    /// Cancelled when the app is deleted, for those who work on it.
    pub(crate) gone: CancellationToken,
    /// Around what the app's guests keep.
    pub(crate) data_gate: DataGate,
    /// Releases that may have to serve again, while a newer one is watched: first the last one that has proven well.
    earlier: Mutex<Vec<Arc<runtime::ActiveRelease>>>,
    pub(crate) usage: Usage,
    /// The way to whoever writes down what happens.
    records: mpsc::Sender<Record>,
    fields: Mutex<Fields>,
}

/// What changes about an app.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) app_type: AppType,
    pub(crate) state: AppState,
    /// What is behind the state `error`, for people.
    pub(crate) error_detail: Option<String>,
    pub(crate) intended: Intended,
    pub(crate) release: Option<ReleaseNumber>,
    /// Whether the release that served last takes HTTP requests; until one has, it is taken to do so.
    pub(crate) serves_http: bool,
    /// The config vars that the next release gets.
    pub(crate) config: ConfigVars,
    /// Where the app's cores differ from what the operator allots to all.
    pub(crate) cores: CoresOverride,
    /// When process types last fired by their schedules, as far as the host's start found it stored.
    pub(crate) fired: HashMap<ProcessName, Timestamp>,
    pub(crate) build_error: Option<BuildError>,
    /// The state that the app was in before the push under way, should that fail.
    pub(crate) before_deploy: (AppState, Option<String>),
    /// Set once the app is deleted, for those who still wait for their turn.
    pub(crate) deleted: bool,
}

/// What the compiler said when the newest code of a dev app could not be built.
#[derive(Debug, Clone)]
pub(crate) struct BuildError {
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

impl Fields {
    /// Whether its release is being loaded, because somebody asked for a start: also while a push that came after is
    /// bringing in another one.
    pub(crate) fn is_starting(&self) -> bool {
        match self.state {
            AppState::Starting => true,
            AppState::Deploying => self.before_deploy.0 == AppState::Starting,
            AppState::Stopped | AppState::Running | AppState::Error(_) => false,
        }
    }
}

impl AppRecord {
    pub(crate) fn new(row: App, log: Arc<AppLog>, traffic: Arc<runtime::App>, records: mpsc::Sender<Record>) -> Self {
        let fields = Fields {
            app_type: row.app_type,
            state: AppState::Stopped,
            error_detail: None,
            intended: row.intended,
            release: row.release,
            serves_http: true,
            config: row.config,
            cores: row.cores,
            fired: HashMap::new(),
            build_error: None,
            before_deploy: (AppState::Stopped, None),
            deleted: false,
        };
        Self {
            name: row.name,
            id: row.id,
            created_at: row.created_at,
            log,
            traffic,
            turn: Arc::default(),
            commit: tokio::sync::Mutex::new(()),
            accepting: tokio::sync::Mutex::new(()),
            pushes: Arc::new(Semaphore::new(limits::PUSHES_QUEUED_PER_APP)),
            gone: CancellationToken::new(),
            data_gate: DataGate::default(),
            earlier: Mutex::default(),
            usage: Usage::default(),
            records,
            fields: Mutex::new(fields),
        }
    }

    pub(crate) fn earlier(&self) -> MutexGuard<'_, Vec<Arc<runtime::ActiveRelease>>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The facts, for a moment: the lock is never held across a wait.
    pub(crate) fn fields(&self) -> MutexGuard<'_, Fields> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the app was deleted while somebody waited to change it: what is stored by its name may be another one's.
    pub(super) fn still_there(&self) -> Result<(), DeployError> {
        if self.fields().deleted { Err(DeployError::UnknownApp(self.name.clone())) } else { Ok(()) }
    }

    /// Takes a step of the app's state machine, for a cause that people read in the app's activity.
    pub(crate) fn step(&self, event: AppEvent, cause: &str) -> Result<AppState, isopod_policy::Refused> {
        self.step_in(&mut self.fields(), event, cause)
    }

    /// A release is on its way into service; what the app is now is kept, should that come to nothing.
    pub(crate) fn begin_deploying(&self, cause: &str) -> Result<AppState, isopod_policy::Refused> {
        let mut fields = self.fields();
        fields.before_deploy = (fields.state, fields.error_detail.clone());
        self.step_in(&mut fields, AppEvent::DeployBegins, cause)
    }

    /// Goes from the state `deploying` back to what the app was before: it serves the release it has, or it is stopped.
    /// Nobody else's step comes in between.
    pub(crate) fn step_back(&self, cause: &str) {
        let mut fields = self.fields();
        if fields.state != AppState::Deploying {
            return;
        }
        let (before, detail) = fields.before_deploy.clone();
        let steps: &[AppEvent] = match before {
            AppState::Running | AppState::Deploying if self.traffic.is_up() => &[AppEvent::Serving],
            AppState::Error(cause) => &[AppEvent::Failed(cause)],
            // Whoever is about to start it is still at that, and goes on from there.
            AppState::Starting => &[AppEvent::Stop, AppEvent::Start],
            AppState::Stopped | AppState::Running | AppState::Deploying => &[AppEvent::Stop],
        };
        for event in steps {
            // An app that was in error before stays so for its own cause.
            let cause = detail.as_deref().unwrap_or(cause);
            if let Err(refused) = self.step_in(&mut fields, *event, cause) {
                tracing::error!(app = %self.name, %refused, "an app could not go back to its state before a push");
            }
        }
    }

    /// The release that was to be brought into service serves. Where a push is bringing in another one meanwhile, that is
    /// what the app goes back to should the push fail.
    pub(crate) fn brought_up(&self, cause: &str) {
        let mut fields = self.fields();
        if fields.state == AppState::Deploying {
            fields.before_deploy = (AppState::Running, None);
        } else if let Err(refused) = self.step_in(&mut fields, AppEvent::Serving, cause) {
            tracing::warn!(app = %self.name, %refused, "the app changed while it was started");
        }
    }

    fn step_in(&self, fields: &mut Fields, event: AppEvent, cause: &str) -> Result<AppState, isopod_policy::Refused> {
        let (before, after) = (fields.state, fields.state.step(event)?);
        fields.state = after;
        fields.error_detail = after.cause().is_some().then(|| cause.to_owned());
        tracing::info!(app = %self.name, from = %before, to = %after, cause, "the app's state changed");
        // Nothing is kept of an app that is deleted, and a new one of its name may be there before this is stored.
        if before != after && !fields.deleted {
            let data = json!({ "from": before, "to": after, "error": after.cause(), "cause": cause });
            let (app, kind) = (Some(self.name.clone()), "app-state".to_owned());
            let text = format!("{before} → {after}: {cause}");
            let change = NewActivity { app, kind, text, data, at: Timestamp::now() };
            // A record that finds no room is no reason to hold up the app.
            if self.records.try_send(Record::Happened(change)).is_err() {
                tracing::warn!(app = %self.name, "a change of state is not recorded: too many wait to be stored");
            }
        }
        Ok(after)
    }
}
