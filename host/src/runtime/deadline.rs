//! The deadline of a job, counted from its arrival. It includes the time in the queue and the
//! guest's work. Never interprets the job.

use isopod_engine::Fault;
use isopod_policy::{had_enough_time, is_nearly_expired};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::{Sleep, sleep_until, timeout_at},
};

/// The arrival of a job, and the app's limit for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    arrived: Instant,
    limit: Duration,
}

pin_project! {
    /// A guest's work until its deadline.
    pub(super) struct UntilDeadline<W> {
        #[pin]
        work: W,
        deadline: Deadline,
        admitted: Instant,
        // Created only for work that waits: most work completes on its first poll. Unconstrained,
        // so that work which uses up its task's budget can't postpone its deadline.
        timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
    }
}

impl<W: Future> Future for UntilDeadline<W> {
    type Output = Result<W::Output, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        let deadline = *this.deadline;
        let timer = this.timer.get_or_insert_with(|| Box::pin(unconstrained(sleep_until(deadline.at()))));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(deadline.fault(*this.admitted)))
    }
}

impl Deadline {
    /// Returns the deadline of a job that arrives now.
    pub(super) fn after(limit: Duration) -> Self {
        Self { arrived: Instant::now(), limit }
    }

    /// Returns when the job arrived.
    pub(super) fn arrived(self) -> Instant {
        self.arrived
    }

    pub(super) fn limit(self) -> Duration {
        self.limit
    }

    /// Returns how much time is left.
    pub(super) fn remaining(self, now: Instant) -> Duration {
        self.limit.saturating_sub(now.saturating_duration_since(self.arrived))
    }

    /// Returns whether too little time is left to start the job.
    pub(super) fn is_nearly_expired(self) -> bool {
        is_nearly_expired(self.remaining(Instant::now()), self.limit)
    }

    /// Returns how long the job has waited, at most its limit.
    pub(super) fn waited(self) -> Duration {
        self.arrived.elapsed().min(self.limit)
    }

    /// Waits for `future` until the deadline. `None` if the deadline expires first.
    pub(super) async fn wait_for<T>(self, future: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.at(), future).await.ok()
    }

    /// Runs a guest's work until the deadline. `admitted` is when the job got its slot.
    pub(super) fn enforce<W: Future>(self, admitted: Instant, work: W) -> UntilDeadline<W> {
        UntilDeadline { work, deadline: self, admitted, timer: None }
    }

    /// Returns the fault of a guest that didn't complete in the time after `admitted`.
    fn fault(self, admitted: Instant) -> Fault {
        let available = self.remaining(admitted);
        Fault::Timeout { limit: if had_enough_time(available, self.limit) { self.limit } else { available } }
    }

    fn at(self) -> tokio::time::Instant {
        (self.arrived + self.limit).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    #[test]
    fn time_in_the_queue_counts_against_the_deadline() {
        let deadline = Deadline::after(LIMIT);
        let after = |ms| deadline.arrived() + Duration::from_millis(ms);
        assert_eq!(deadline.remaining(after(0)), LIMIT);
        assert_eq!(deadline.remaining(after(1_500)), Duration::from_millis(500));
        assert_eq!(deadline.remaining(after(2_500)), Duration::ZERO);
    }

    /// A guest that had most of the time is reported with the full limit, the number that its
    /// author has set.
    #[test]
    fn a_timeout_reports_the_time_that_the_guest_had() {
        let deadline = Deadline::after(LIMIT);
        let text = |waited_ms| deadline.fault(deadline.arrived() + Duration::from_millis(waited_ms)).to_string();
        assert_eq!(text(0), "the guest did not respond within 2 s");
        assert_eq!(text(1_000), "the guest did not respond within 2 s");
        assert_eq!(text(1_600), "the guest did not respond within 400 ms");
    }
}
