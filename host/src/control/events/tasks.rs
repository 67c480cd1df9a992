//! The register of delivery tasks, at most one per app. Wakes an app's task, or requests a new one.
//! Never runs a task.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use jiff::Timestamp;
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
pub(super) struct Wake {
    is_woken: AtomicBool,
    /// The earliest due time of the delayed events that were stored since the last check, in
    /// milliseconds since 1970. [`NEVER`] if none was stored.
    due_ms: AtomicI64,
    changed: Notify,
}

const NEVER: i64 = i64::MAX;

/// Why a task was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Its queue may have a due event.
    Now,
    /// A delayed event that is due at this time was stored.
    DueAt(Timestamp),
}

impl Default for Wake {
    fn default() -> Self {
        Self { is_woken: AtomicBool::new(false), due_ms: AtomicI64::new(NEVER), changed: Notify::new() }
    }
}

impl Wake {
    /// Makes the task check its queue.
    pub(super) fn wake(&self) {
        self.is_woken.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Records that a stored event is due at this time. Wakes the task only if this is the first
    /// such event since its last check, or if it is due before the others. Otherwise, each delayed
    /// event would cause a check.
    fn wake_at(&self, due: Timestamp) {
        let due_ms = due.as_millisecond();
        if due_ms < self.due_ms.fetch_min(due_ms, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// Clears the recorded due time. Must be called before a check reads the queue.
    pub(super) fn begin_check(&self) {
        self.due_ms.swap(NEVER, Ordering::AcqRel);
    }

    /// Completes once the task has been woken since the last call, or once a due time before
    /// `known` is recorded.
    async fn woken(&self, known: Option<Timestamp>) -> Woken {
        let known_ms = known.map_or(NEVER, Timestamp::as_millisecond);
        loop {
            if self.is_woken.swap(false, Ordering::AcqRel) {
                return Woken::Now;
            }
            let due_ms = self.due_ms.load(Ordering::Acquire);
            if due_ms < known_ms {
                return Woken::DueAt(Timestamp::from_millisecond(due_ms).unwrap_or(Timestamp::MIN));
            }
            self.changed.notified().await;
        }
    }
}

impl Tasks {
    /// Makes the app's task check its queue. Requests a new task if the app has no task.
    pub(super) fn wake(&self, app: &Arc<AppRecord>) {
        self.wake_for(app, None);
    }

    /// Wakes the app's task for stored events, like [`Tasks::wake`]. `due` is the time at which the
    /// first of them is due, or `None` if one is due now. Delayed events need no earlier check.
    pub(super) fn wake_for(&self, app: &Arc<AppRecord>, due: Option<Timestamp>) {
        let mut known = self.0.lock();
        if let Some(wake) = known.get(&app.id) {
            match due {
                Some(due) => wake.wake_at(due),
                None => wake.wake(),
            }
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

    /// Completes once the task has been woken since the last call, or once a due time before
    /// `known` is recorded.
    pub(super) async fn woken(&self, known: Option<Timestamp>) -> Woken {
        self.wake.woken(known).await
    }

    /// Ends the registration. Returns false if the task was woken meanwhile, and must continue.
    pub(super) fn retire(&self) -> bool {
        let Some(register) = self.register.upgrade() else { return true };
        let mut known = register.lock();
        if self.wake.is_woken.load(Ordering::Acquire) || self.wake.due_ms.load(Ordering::Acquire) != NEVER {
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn delayed_events_wake_the_task_once_until_its_next_check() {
        let wake = Wake::default();
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        wake.wake_at(at(60));
        assert_eq!(wake.woken(None).await, Woken::DueAt(at(60)));
        {
            let mut woken = pin!(wake.woken(Some(at(60))));
            wake.wake_at(at(60));
            wake.wake_at(at(70));
            assert!(futures::poll!(&mut woken).is_pending(), "neither is due before the known event");
            wake.wake_at(at(50));
            assert_eq!(woken.await, Woken::DueAt(at(50)));
        }
        wake.begin_check();
        wake.wake_at(at(70));
        assert_eq!(wake.woken(None).await, Woken::DueAt(at(70)), "the check may have missed it");
        wake.wake();
        assert_eq!(wake.woken(Some(at(70))).await, Woken::Now);
    }
}
