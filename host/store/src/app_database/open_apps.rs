//! The set of open databases: at most one per app, so that each file has one writer. Owns which
//! database is evicted, and when an app's next database may be opened. Never opens a file.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use isopod_policy::AppName;
use tokio::sync::OwnedSemaphorePermit;

use super::database::AppDatabase;
use super::open_guard::{Closing, OpenGuard};
use crate::limits::APPS_OPEN_MAX;

/// The state of an app's database.
#[derive(Debug)]
pub(super) enum State {
    Open(Arc<AppDatabase>),
    /// Its last call has completed, and its files are being closed.
    Closing(Closing),
    Closed,
}

/// The open databases, with the number of their last call.
#[derive(Debug, Default)]
pub(super) struct OpenApps {
    apps: HashMap<AppName, (Arc<AppDatabase>, u64)>,
    /// Databases that were evicted, until their running calls have completed and their files are
    /// closed.
    evicted: HashMap<AppName, (Weak<AppDatabase>, Closing)>,
    /// Counts calls: a logical clock for finding the least recently used database.
    calls: u64,
    /// The value of `calls` when idle databases were last closed.
    calls_before: u64,
}

impl OpenApps {
    /// Returns the state of the app's database, and marks an open one as recently used. Adds an
    /// evicted database with running calls to the open ones again.
    pub(super) fn used(&mut self, app: &AppName) -> State {
        self.calls += 1;
        if let Some((database, last_call)) = self.apps.get_mut(app) {
            *last_call = self.calls;
            return State::Open(Arc::clone(database));
        }
        let Some((database, closing)) = self.evicted.remove(app) else { return State::Closed };
        if let Some(database) = database.upgrade() {
            self.add(app.clone(), Arc::clone(&database));
            return State::Open(database);
        }
        if closing.has_ended() {
            return State::Closed;
        }
        self.evicted.insert(app.clone(), (database, closing.clone()));
        State::Closing(closing)
    }

    /// Adds the database that `make` returns. The app's database must be closed.
    pub(super) fn open(
        &mut self,
        app: &AppName,
        slot: OwnedSemaphorePermit,
        make: impl FnOnce(OpenGuard) -> AppDatabase,
    ) -> Arc<AppDatabase> {
        debug_assert!(!self.is_open(app), "two databases of an app would write one file");
        let database = Arc::new(make(OpenGuard::new(slot)));
        self.add(app.clone(), Arc::clone(&database));
        database
    }

    fn add(&mut self, app: AppName, database: Arc<AppDatabase>) {
        if self.apps.len() >= APPS_OPEN_MAX {
            let least = self.apps.iter().min_by_key(|(_, (_, last_call))| *last_call).map(|(app, _)| app.clone());
            least.inspect(|least| self.evict(least));
        }
        self.apps.insert(app, (database, self.calls));
    }

    /// Removes a database, which is closed once its running calls complete. Until then, a further
    /// call uses it again.
    fn evict(&mut self, app: &AppName) {
        if let Some((database, _)) = self.apps.remove(app) {
            self.evicted.insert(app.clone(), (Arc::downgrade(&database), database.closing.clone()));
        }
    }

    /// Evicts the databases without a call since the last eviction of idle databases.
    pub(super) fn evict_idle(&mut self) {
        let before = std::mem::replace(&mut self.calls_before, self.calls);
        let idle = self.apps.iter().filter(|(_, (_, last_call))| *last_call <= before);
        for app in idle.map(|(app, _)| app.clone()).collect::<Vec<_>>() {
            self.evict(&app);
        }
        self.evicted.retain(|_, (_, closing)| !closing.has_ended());
    }

    /// Removes a database that was closed permanently.
    pub(super) fn remove(&mut self, app: &AppName) {
        self.apps.remove(app);
        self.evicted.remove(app);
    }

    /// Returns whether the app's files are open.
    pub(super) fn is_open(&self, app: &AppName) -> bool {
        self.apps.contains_key(app) || self.evicted.get(app).is_some_and(|(_, closing)| !closing.has_ended())
    }

    /// Returns all open databases, including evicted ones with running calls.
    pub(super) fn all(&self) -> Vec<Arc<AppDatabase>> {
        let open = self.apps.values().map(|(database, _)| Arc::clone(database));
        open.chain(self.evicted.values().filter_map(|(database, _)| database.upgrade())).collect()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.apps.len()
    }

    /// Returns whether the app's database was evicted, and has no running calls.
    #[cfg(test)]
    pub(super) fn is_closing(&self, app: &AppName) -> bool {
        self.evicted.get(app).is_some_and(|(database, _)| database.strong_count() == 0)
    }

    /// Returns whether the app's database was opened and not evicted.
    #[cfg(test)]
    pub(super) fn is_kept(&self, app: &AppName) -> bool {
        self.apps.contains_key(app)
    }
}
