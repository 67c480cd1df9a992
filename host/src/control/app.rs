//! Owns the record of one app: its identity, its log, its traffic, and the latest snapshot of its
//! fields. Never changes a field: the app's task does (`app_task.rs`).

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use isopod_policy::{
    AppKind, AppName, AppState, AppType, Ceiling, ConfigVars, CoresOverride, Intended, ProcessName, ReleaseNumber,
    formation::Exported,
};
use isopod_store::App;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    control::{app_usage::Usage, data_gate::DataGate},
    observe::logs::AppLog,
    runtime,
};

/// The kind of an app's last activity.
pub(crate) const APP_DESTROYED: &str = "app-destroyed";

/// The record of one app.
pub(crate) struct AppRecord {
    pub(crate) name: AppName,
    /// Distinguishes the app from earlier and later apps of the same name.
    pub(crate) id: String,
    pub(crate) kind: AppKind,
    pub(crate) created_at: Timestamp,
    pub(crate) log: Arc<AppLog>,
    pub(crate) traffic: Arc<runtime::App>,
    /// Rejects data access by guests once the app is destroyed.
    pub(crate) data_gate: DataGate,
    pub(crate) usage: Usage,
    /// The last firing of each scheduled process type, as stored before the host started.
    pub(crate) fired: HashMap<ProcessName, Timestamp>,
    /// The exports of the release whose bundle was read last. Locked during the read, so that
    /// concurrent queries read it once.
    pub(in crate::control) exports: tokio::sync::Mutex<Option<(ReleaseNumber, Exports)>>,
    /// Cancelled when the app is destroyed, before its task closes the channel of commands.
    destroyed: CancellationToken,
    /// The latest fields. Only the app's task replaces them.
    fields: ArcSwap<Fields>,
}

/// The exports of a release's component. They never change, so they are kept while the release is
/// current, even if its code is not in memory.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) struct Exports {
    /// The exports that its app may run.
    pub(in crate::control) exported: Exported,
    /// The number of slots that an instance takes.
    pub(in crate::control) slots: u32,
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
    /// The releases on standby, to which the rollout watch may return.
    pub(crate) standby: Vec<ReleaseNumber>,
    /// Whether the release that served last handles HTTP requests. True until a release has served.
    pub(crate) serves_http: bool,
    /// The config vars of the next release.
    pub(crate) config: ConfigVars,
    /// The app's own core counts, which override the operator's defaults.
    pub(crate) cores: CoresOverride,
    /// The settings of the app's own ceiling, which override those of the host.
    pub(crate) ceiling: Ceiling,
    pub(crate) build_error: Option<BuildError>,
}

/// The compiler's output for the newest code of a dev app, if the build failed.
#[derive(Debug, Clone)]
pub(crate) struct BuildError {
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

impl AppRecord {
    pub(in crate::control) fn new(
        row: App,
        fired: HashMap<ProcessName, Timestamp>,
        log: Arc<AppLog>,
        traffic: Arc<runtime::App>,
    ) -> Self {
        let fields = Fields {
            app_type: row.app_type,
            state: AppState::Stopped,
            error_detail: None,
            intended: row.intended,
            release: row.release,
            standby: Vec::new(),
            serves_http: row.kind.is_app(),
            config: row.config,
            cores: row.cores,
            ceiling: row.ceiling,
            build_error: None,
        };
        Self {
            name: row.name,
            id: row.id,
            kind: row.kind,
            created_at: row.created_at,
            log,
            traffic,
            data_gate: DataGate::default(),
            usage: Usage::default(),
            fired,
            exports: tokio::sync::Mutex::default(),
            destroyed: CancellationToken::new(),
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

    /// Publishes that the app is destroyed. Called only by the app's task.
    pub(in crate::control) fn set_destroyed(&self) {
        self.destroyed.cancel();
    }

    /// Returns whether the app is destroyed.
    pub(crate) fn is_destroyed(&self) -> bool {
        self.destroyed.is_cancelled()
    }

    /// Completes when the app is destroyed.
    pub(crate) fn destroyed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.destroyed.clone().cancelled_owned()
    }
}
