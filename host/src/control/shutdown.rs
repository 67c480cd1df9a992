//! The phases of a shutdown, and the tasks that it waits for. Shared by all services of the control
//! plane. Never orders the phases: `service.rs` does.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::control::{
    app::AppRecord,
    error::{DeployError, Failure},
};

/// The phases of a shutdown. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::control) struct Shutdown {
    /// The tasks that a shutdown drains.
    pub(in crate::control) tasks: TaskTracker,
    /// The delivery tasks of the apps. Unlike other tasks, they have the drain time of requests.
    pub(in crate::control) deliveries: TaskTracker,
    /// Cancelled first: no new work is accepted.
    pub(in crate::control) closing: CancellationToken,
    /// Cancelled when the drain time of push jobs ends: unfinished work fails.
    pub(in crate::control) cancel: CancellationToken,
    /// Cancelled when the drain time of requests ends: handlers of stored events are cancelled.
    pub(in crate::control) cut_off: CancellationToken,
    /// Cancelled after that: the activity log stores its queue and ends.
    pub(in crate::control) drained: CancellationToken,
    /// Cancelled last: the tasks of the apps end.
    pub(in crate::control) ended: CancellationToken,
}

impl Shutdown {
    /// Refuses a request once the host stops.
    pub(in crate::control) fn ensure_open(&self) -> Result<(), DeployError> {
        if self.closing.is_cancelled() { Err(DeployError::Stopping) } else { Ok(()) }
    }

    /// Spawns work that is dropped when the host shuts down.
    pub(in crate::control) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.closing.clone().run_until_cancelled_owned(work));
    }

    /// Runs a future until it completes, the app is destroyed, or the host shuts down.
    pub(in crate::control) async fn unless_cancelled<T>(
        &self,
        app: &AppRecord,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = app.destroyed() => Err(Failure::AppDeleted),
            () = self.cancel.cancelled() => Err(Failure::HostStopped),
            done = future => Ok(done),
        }
    }
}
