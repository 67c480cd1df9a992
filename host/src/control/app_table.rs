//! All apps of the host, by name. Owns the table; never changes an app.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use isopod_policy::{AppKind, AppName};
use tokio::sync::watch;

use crate::control::{app::AppRecord, app_command::AppHandle, error::DeployError};

/// The table of all apps. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct AppTable(Arc<Table>);

struct Table {
    apps: RwLock<BTreeMap<AppName, AppHandle>>,
    /// Notifies when a destroyed app was removed.
    removed: watch::Sender<()>,
}

impl AppTable {
    pub(in crate::control) fn new() -> Self {
        Self(Arc::new(Table { apps: RwLock::default(), removed: watch::Sender::new(()) }))
    }

    /// Returns the app with this name.
    pub(in crate::control) fn app(&self, name: &AppName) -> Result<Arc<AppRecord>, DeployError> {
        self.handle(name).map(|app| app.record)
    }

    /// Returns the handle of the app with this name, which sends commands to its task.
    pub(in crate::control) fn handle(&self, name: &AppName) -> Result<AppHandle, DeployError> {
        let app = self.registered(name).filter(|app| !app.record.is_destroyed());
        app.ok_or_else(|| DeployError::UnknownApp(name.clone()))
    }

    /// Returns up to `limit` records of one kind after `after`, ordered by name.
    pub(in crate::control) fn of_kind(
        &self,
        kind: AppKind,
        after: Option<&AppName>,
        limit: usize,
    ) -> Vec<Arc<AppRecord>> {
        let apps = self.0.apps.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = apps.range::<AppName, _>((from, Bound::Unbounded)).map(|(_, app)| &app.record);
        records.filter(|app| app.kind == kind && !app.is_destroyed()).take(limit).cloned().collect()
    }

    /// Returns all apps and plugins, ordered by name.
    pub(in crate::control) fn all(&self) -> Vec<Arc<AppRecord>> {
        let apps = self.0.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.values().map(|app| &app.record).filter(|app| !app.is_destroyed()).cloned().collect()
    }

    /// Returns the app with this name, also while it is being destroyed.
    pub(in crate::control) fn registered(&self, name: &AppName) -> Option<AppHandle> {
        self.0.apps.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(in crate::control) fn insert(&self, app: AppHandle) {
        self.0.apps.write().unwrap_or_else(PoisonError::into_inner).insert(app.record.name.clone(), app);
    }

    /// Removes a destroyed app, whose name is free from then on.
    pub(in crate::control) fn remove(&self, name: &AppName) {
        self.0.apps.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.removed.send_replace(());
    }

    /// Closes the mailboxes of all apps. Resting tasks hold references to shared services, which
    /// would otherwise outlive the host.
    pub(in crate::control) fn close(&self) {
        let apps: Vec<_> = self.0.apps.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        apps.iter().for_each(|app| app.mailbox().close());
    }

    /// Waits until the name is free, if its app is being destroyed.
    pub(in crate::control) async fn until_removed(&self, name: &AppName) {
        let mut removed = self.0.removed.subscribe();
        while self.registered(name).is_some_and(|app| app.record.is_destroyed()) && removed.changed().await.is_ok() {}
    }
}
