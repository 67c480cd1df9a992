//! Tracks the apps with events that will have to be pruned. Never decides when they are pruned.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use isopod_policy::AppName;

/// The apps with stored events. Other apps are not contained, so their databases are never opened
/// for pruning.
#[derive(Default)]
pub(super) struct Prunable {
    apps: Mutex<HashSet<AppName>>,
    /// Whether the events of earlier runs of the host have been found.
    is_complete: AtomicBool,
}

impl Prunable {
    /// Returns whether the events of earlier runs of the host have been found.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// Adds the apps with events of earlier runs of the host.
    pub(super) fn complete(&self, found: Vec<AppName>) {
        self.lock().extend(found);
        self.is_complete.store(true, Ordering::Relaxed);
    }

    /// Takes all apps.
    pub(super) fn take(&self) -> HashSet<AppName> {
        mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<AppName>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an app that has stored events.
    pub(super) fn note(&self, app: &AppName) {
        let mut apps = self.lock();
        if !apps.contains(app) {
            apps.insert(app.clone());
        }
    }
}
