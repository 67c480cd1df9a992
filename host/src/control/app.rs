//! Owns the record of one app: its identity, its log, its traffic, the latest snapshot of its
//! fields, and the channel to its task. Never changes a field: the app's task does
//! (`app_task.rs`).

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use isopod_policy::{AppName, AppState, AppType, ConfigVars, CoresOverride, Intended, ProcessName, ReleaseNumber};
use isopod_store::App;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::control::{
    DeployError,
    app_task::{Command, Reply},
    app_usage::Usage,
};
use crate::{control::data_gate::DataGate, observe::logs::AppLog, runtime};

/// The record of one app.
pub(crate) struct AppRecord {
    pub(crate) name: AppName,
    /// Distinguishes the app from earlier and later apps of the same name.
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) log: Arc<AppLog>,
    pub(crate) traffic: Arc<runtime::App>,
    /// Rejects data access by guests once the app is destroyed.
    pub(crate) data_gate: DataGate,
    pub(crate) usage: Usage,
    /// The last firing of each scheduled process type, as stored before the host started.
    pub(crate) fired: HashMap<ProcessName, Timestamp>,
    /// The commands of the app's task. The task closes the channel when the app is destroyed.
    commands: mpsc::Sender<Box<Command>>,
    /// The latest fields. Only the app's task stores here.
    fields: ArcSwap<Fields>,
}

/// The fields of an app at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) app_type: AppType,
    /// The state that users see.
    pub(crate) state: AppState,
    /// The reason for the state `error`, as text for users.
    pub(crate) error_detail: Option<String>,
    pub(crate) intended: Intended,
    pub(crate) release: Option<ReleaseNumber>,
    /// Whether the release that served last handles HTTP requests. True until a release has served.
    pub(crate) serves_http: bool,
    /// The config vars of the next release.
    pub(crate) config: ConfigVars,
    /// The app's own core counts, which override the operator's defaults.
    pub(crate) cores: CoresOverride,
    pub(crate) build_error: Option<BuildError>,
}

/// The compiler's output for the newest code of a dev app, if the build failed.
#[derive(Debug, Clone)]
pub(crate) struct BuildError {
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// The app's task did not reply.
#[derive(Debug)]
pub(in crate::control) enum NoReply {
    /// The app was destroyed. By now, its name may belong to a new app.
    Destroyed,
    /// The command panicked.
    Panicked,
}

impl AppRecord {
    pub(in crate::control) fn new(
        row: App,
        fired: HashMap<ProcessName, Timestamp>,
        log: Arc<AppLog>,
        traffic: Arc<runtime::App>,
        commands: mpsc::Sender<Box<Command>>,
    ) -> Self {
        let fields = Fields {
            app_type: row.app_type,
            state: AppState::Stopped,
            error_detail: None,
            intended: row.intended,
            release: row.release,
            serves_http: true,
            config: row.config,
            cores: row.cores,
            build_error: None,
        };
        Self {
            name: row.name,
            id: row.id,
            created_at: row.created_at,
            log,
            traffic,
            data_gate: DataGate::default(),
            usage: Usage::default(),
            fired,
            commands,
            fields: ArcSwap::from_pointee(fields),
        }
    }

    /// Returns the latest fields.
    pub(crate) fn fields(&self) -> Arc<Fields> {
        self.fields.load_full()
    }

    /// Replaces the fields. Called only by the app's task.
    pub(in crate::control) fn publish(&self, fields: Fields) {
        self.fields.store(Arc::new(fields));
    }

    /// Returns whether the app is destroyed.
    pub(crate) fn is_destroyed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Completes when the app is destroyed.
    pub(crate) fn destroyed(&self) -> impl Future<Output = ()> + Send + 'static {
        let commands = self.commands.clone();
        async move { commands.closed().await }
    }

    /// Sends a command to the app's task, and waits for the reply. Waits while the queue of
    /// commands is full.
    pub(in crate::control) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NoReply> {
        let (reply, replied) = oneshot::channel();
        self.tell(command(reply)).await?;
        let no_reply = |_| if self.is_destroyed() { NoReply::Destroyed } else { NoReply::Panicked };
        replied.await.map_err(no_reply)
    }

    /// Sends a request of a user to the app's task, and returns its result.
    pub(in crate::control) async fn request<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, DeployError> {
        match self.ask(command).await {
            Ok(result) => result,
            Err(NoReply::Destroyed) => Err(self.unknown()),
            Err(NoReply::Panicked) => Err(DeployError::Interrupted(self.name.clone())),
        }
    }

    /// Sends a command without a reply.
    pub(in crate::control) async fn tell(&self, command: Command) -> Result<(), NoReply> {
        self.commands.send(Box::new(command)).await.map_err(|_| NoReply::Destroyed)
    }

    /// Returns the error for a request to an app that was destroyed meanwhile.
    pub(in crate::control) fn unknown(&self) -> DeployError {
        DeployError::UnknownApp(self.name.clone())
    }
}
