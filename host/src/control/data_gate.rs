//! Owns whether what an app keeps may still be reached. Whoever reaches for it on behalf of the app's guests passes through
//! here; the fence is closed once and for all when the app is destroyed, so that a guest which outlives its app never finds
//! what a new one of its name keeps. Never touches what is kept.

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// The fence around what one app keeps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct DataGate(TaskTracker);

/// The right to reach for it, until it is dropped.
pub(crate) type AccessGuard = TaskTrackerToken;

impl DataGate {
    /// Lets somebody in; none once the app is destroyed.
    pub(crate) fn pass(&self) -> Option<AccessGuard> {
        // Counted first: who is let in now is waited for by whoever closes it a moment later.
        let pass = self.0.token();
        (!self.0.is_closed()).then_some(pass)
    }

    /// Lets nobody in any more, and waits until all have left who are inside.
    pub(crate) async fn close(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_fence_lets_nobody_in_and_everybody_out() {
        let data_gate = DataGate::default();
        let inside = data_gate.pass().expect("it is open");
        let mut closing = Box::pin(data_gate.close());
        assert!(futures::poll!(&mut closing).is_pending());
        assert!(data_gate.pass().is_none());
        drop(inside);
        closing.await;
        assert!(data_gate.pass().is_none());
    }
}
