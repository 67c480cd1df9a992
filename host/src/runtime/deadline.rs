//! Until when a job has to be done, counted from its arrival: first it may wait for its turn, then its guest works. Never
//! knows what the job is.

use futures::FutureExt;
use isopod_engine::Fault;
use isopod_policy::{had_enough_time, is_nearly_expired};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// The end of the time that an app's requests have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    begun: Instant,
    limit: Duration,
}

/// A job whose turn did not come while there was enough time for its work. No guest has seen it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("it waited {} of its {} for its turn and was not begun", seconds(*.waited), seconds(*.limit))]
pub(crate) struct Late {
    pub(crate) waited: Duration,
    pub(crate) limit: Duration,
    /// When there should be room, as fast as jobs end now.
    pub(crate) retry_after: Duration,
}

fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 1_000.0).round() / 1_000.0)
}

impl Deadline {
    /// Of a job that comes now.
    pub(super) fn after(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit }
    }

    /// When the job came.
    pub(super) fn begun(self) -> Instant {
        self.begun
    }

    pub(super) fn limit(self) -> Duration {
        self.limit
    }

    /// How much of the time is left.
    pub(super) fn left(self, now: Instant) -> Duration {
        self.limit.saturating_sub(now.saturating_duration_since(self.begun))
    }

    /// Whether too little is left to begin.
    pub(super) fn is_hardly_left(self) -> bool {
        is_nearly_expired(self.left(Instant::now()), self.limit)
    }

    /// How much of the time was waited until now.
    pub(super) fn waited(self) -> Duration {
        self.begun.elapsed().min(self.limit)
    }

    /// Waits for what must come before; none if it does not.
    pub(super) async fn before<T>(self, coming: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.at(), coming).await.ok()
    }

    /// Holds a guest's work to it, for which there is time since `taken`. It is no `async fn`, whose future would have room
    /// for the work twice.
    pub(super) fn hold<T>(
        self,
        taken: Instant,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, Fault>> {
        timeout_at(self.at(), work).map(move |done| done.map_err(|_| self.missed(taken)))
    }

    /// What is said of a guest that was not done in the time that there was since `taken`.
    fn missed(self, taken: Instant) -> Fault {
        let had = self.left(taken);
        Fault::Timeout { limit: if had_enough_time(had, self.limit) { self.limit } else { had } }
    }

    fn at(self) -> tokio::time::Instant {
        (self.begun + self.limit).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    #[test]
    fn what_was_waited_is_no_time_for_the_guest() {
        let deadline = Deadline::after(LIMIT);
        let after = |ms| deadline.begun() + Duration::from_millis(ms);
        assert_eq!(deadline.left(after(0)), LIMIT);
        assert_eq!(deadline.left(after(1_500)), Duration::from_millis(500));
        assert_eq!(deadline.left(after(2_500)), Duration::ZERO);
    }

    /// A guest that had most of the time is said to have had all of it: that is the limit that its author knows.
    #[test]
    fn a_guest_is_said_to_have_had_what_it_had() {
        let deadline = Deadline::after(LIMIT);
        let told = |waited_ms| deadline.missed(deadline.begun() + Duration::from_millis(waited_ms)).to_string();
        assert_eq!(told(0), "the guest did not respond within 2 s");
        assert_eq!(told(1_000), "the guest did not respond within 2 s");
        assert_eq!(told(1_600), "the guest did not respond within 400 ms");
    }

    #[test]
    fn who_is_late_is_told_for_how_long_it_waited() {
        let late = |waited| Late { waited, limit: LIMIT, retry_after: LIMIT }.to_string();
        assert_eq!(late(LIMIT), "it waited 2 s of its 2 s for its turn and was not begun");
        assert_eq!(late(Duration::from_micros(1_500_400)), "it waited 1.5 s of its 2 s for its turn and was not begun");
    }
}
