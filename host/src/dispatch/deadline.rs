//! Until when a job has to be done, counted from its arrival: first it may wait for its turn, then its guest works. Never
//! knows what the job is.

use futures::FutureExt;
use isopod_engine::Fault;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The end of the time that an app's requests have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
}

/// A job whose deadline came before its turn. No guest has seen it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("it waited {} s for its turn and was not begun", .waited.as_secs_f64())]
pub(crate) struct Late {
    pub(crate) waited: Duration,
    /// When there should be room, as fast as jobs end now.
    pub(crate) retry_after: Duration,
}

impl Deadline {
    /// Of a job that comes now.
    pub(super) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    pub(super) fn limit(self) -> Duration {
        self.limit
    }

    /// Waits for what must come before; none if it does not.
    pub(super) async fn before<T>(self, coming: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.at, coming).await.ok()
    }

    /// Holds a guest's work to it. It is no `async fn`, whose future would have room for the work twice.
    pub(super) fn hold<T>(self, work: impl Future<Output = T>) -> impl Future<Output = Result<T, Fault>> {
        timeout_at(self.at, work).map(move |done| done.map_err(|_| Fault::Timeout { limit: self.limit }))
    }
}
