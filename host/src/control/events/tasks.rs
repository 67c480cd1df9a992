//! The register of delivery tasks, at most one per app. Wakes an app's task, or requests a new one.
//! Never runs a task.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::control::AppRecord;

/// The delivery tasks of all apps. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Register>);

#[derive(Default)]
struct Register {
    /// Keyed by the app's id, which stays unique if an app is destroyed and its name is used again.
    known: Mutex<HashMap<String, Arc<Wake>>>,
    /// The tasks to start: at most one per app.
    starts: Mutex<VecDeque<Start>>,
    has_starts: Notify,
}

/// A request to start the task of an app.
pub(super) struct Start {
    pub(super) app: Arc<AppRecord>,
    pub(super) registration: Registration,
}

/// The registration of a task, which ends when this is dropped.
pub(super) struct Registration {
    app_id: String,
    wake: Arc<Wake>,
    /// Weak, since the register holds the registrations of tasks that have not started.
    register: Weak<Register>,
}

/// Wakes one task.
#[derive(Default)]
pub(super) struct Wake {
    is_woken: AtomicBool,
    changed: Notify,
}

impl Wake {
    /// Makes the task check its queue.
    pub(super) fn wake(&self) {
        self.is_woken.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Completes once the task was woken since the last call.
    async fn woken(&self) {
        while !self.is_woken.swap(false, Ordering::AcqRel) {
            self.changed.notified().await;
        }
    }
}

impl Tasks {
    /// Makes the app's task check its queue. Requests a new task if the app has no task.
    pub(super) fn wake(&self, app: &Arc<AppRecord>) {
        let mut known = self.0.lock();
        if let Some(wake) = known.get(&app.id) {
            wake.wake();
            return;
        }
        let wake = Arc::<Wake>::default();
        known.insert(app.id.clone(), Arc::clone(&wake));
        drop(known);
        let registration = Registration { app_id: app.id.clone(), wake, register: Arc::downgrade(&self.0) };
        let start = Start { app: Arc::clone(app), registration };
        self.0.starts.lock().unwrap_or_else(PoisonError::into_inner).push_back(start);
        self.0.has_starts.notify_one();
    }

    /// Returns the next task to start. Only one caller at a time.
    pub(super) async fn next_start(&self) -> Start {
        loop {
            let next = self.0.starts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(start) => return start,
                None => self.0.has_starts.notified().await,
            }
        }
    }
}

impl Register {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Wake>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Completes once the task was woken since the last call.
    pub(super) async fn woken(&self) {
        self.wake.woken().await;
    }

    /// Ends the registration. Returns false if the task was woken meanwhile, and must continue.
    pub(super) fn retire(&self) -> bool {
        let Some(register) = self.register.upgrade() else { return true };
        let mut known = register.lock();
        if self.wake.is_woken.load(Ordering::Acquire) {
            return false;
        }
        known.remove(&self.app_id);
        true
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(register) = self.register.upgrade() else { return };
        let mut known = register.lock();
        // A task that retired may have a successor.
        if known.get(&self.app_id).is_some_and(|wake| Arc::ptr_eq(wake, &self.wake)) {
            known.remove(&self.app_id);
        }
    }
}
