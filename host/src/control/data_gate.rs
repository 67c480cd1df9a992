//! Owns the data gate of an app: each access to its stored data on behalf of a guest holds a guard.
//! The gate closes permanently when the app is destroyed, so that a guest that outlives its app
//! can't reach the data of a new app of the same name. Never touches the data.

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// The data gate of one app. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct DataGate(TaskTracker);

/// The right to access the app's data until the guard is dropped.
pub(crate) type AccessGuard = TaskTrackerToken;

impl DataGate {
    /// Returns a guard, or `None` once the gate is closed.
    pub(crate) fn guard(&self) -> Option<AccessGuard> {
        // Counted before the check, so that a concurrent `close` waits for this guard.
        let guard = self.0.token();
        (!self.0.is_closed()).then_some(guard)
    }

    /// Rejects new access, and waits until all guards are dropped.
    pub(crate) async fn close(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_gate_rejects_access_and_waits_for_open_guards() {
        let data_gate = DataGate::default();
        let guard = data_gate.guard().expect("the gate is open");
        let mut closing = Box::pin(data_gate.close());
        assert!(futures::poll!(&mut closing).is_pending());
        assert!(data_gate.guard().is_none());
        drop(guard);
        closing.await;
        assert!(data_gate.guard().is_none());
    }
}
