//! Gathers the outcomes of an app's concurrent deliveries, so that they share a commit. A commit of
//! outcomes doesn't wait for the disk, so it is too short for others to gather during it. Never
//! decides an outcome, and never commits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isopod_store::{Settled, StoreError};
use tokio::sync::{Notify, oneshot};

use crate::control::limits;

/// The outcomes, of type `O`, of one app's deliveries that wait for their commit.
pub(super) struct Settling<O> {
    gathered: Mutex<Gathered<O>>,
    /// Notified once no further outcome is worth the wait.
    complete: Notify,
}

struct Gathered<O> {
    /// The number of deliveries that have begun and whose outcome is not known yet.
    running: usize,
    outcomes: Vec<O>,
    /// The size of the gathered effects, in bytes.
    bytes: usize,
    replies: Vec<oneshot::Sender<Result<Settled, StoreError>>>,
}

/// Counts a delivery as running until this is dropped or the outcome is known.
pub(super) struct Running<O>(Arc<Settling<O>>);

/// Excludes a delivery from the count while its outcome waits for the commit. Dropping this counts
/// it again: after a conflict, its handler runs again.
struct Uncounted<'a, O>(&'a Settling<O>);

impl<O> Gathered<O> {
    /// Returns whether the gathered outcomes should be committed without waiting for others.
    fn is_complete(&self) -> bool {
        self.running == 0
            || self.outcomes.len() >= limits::OUTCOMES_PER_COMMIT_ENOUGH
            || self.bytes >= limits::OUTCOME_BYTES_PER_COMMIT
    }
}

impl<O> Settling<O> {
    pub(super) fn new() -> Arc<Self> {
        let gathered = Gathered { running: 0, outcomes: Vec::new(), bytes: 0, replies: Vec::new() };
        Arc::new(Self { gathered: Mutex::new(gathered), complete: Notify::new() })
    }

    /// Counts a delivery that begins.
    pub(super) fn begin(self: &Arc<Self>) -> Running<O> {
        self.lock().running += 1;
        Running(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Gathered<O>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the count of a delivery whose outcome is known.
    fn uncount(&self) -> Uncounted<'_, O> {
        self.end_one();
        Uncounted(self)
    }

    fn end_one(&self) {
        let mut gathered = self.lock();
        debug_assert!(gathered.running > 0, "a delivery that ends was counted");
        gathered.running = gathered.running.saturating_sub(1);
        if gathered.is_complete() {
            self.complete.notify_one();
        }
    }

    /// Completes once no further outcome is worth the wait.
    async fn completed(&self) {
        while !self.lock().is_complete() {
            self.complete.notified().await;
        }
    }
}

impl<O> Running<O> {
    /// Commits the delivery's outcome with `commit`, together with the outcomes of other deliveries
    /// that end meanwhile. `bytes` is the size of the outcome's effects. The first delivery commits
    /// for all. Therefore all deliveries of an app must use the same `commit`, and must only be
    /// dropped together.
    pub(super) async fn settle<C>(
        &self,
        outcome: O,
        bytes: usize,
        commit: impl FnOnce(Vec<O>) -> C,
    ) -> Result<Settled, StoreError>
    where
        C: Future<Output = Result<Vec<Result<Settled, StoreError>>, StoreError>>,
    {
        let settling = &*self.0;
        let (reply, answer) = oneshot::channel();
        let is_first = {
            let mut gathered = settling.lock();
            gathered.bytes += bytes;
            gathered.outcomes.push(outcome);
            gathered.replies.push(reply);
            gathered.outcomes.len() == 1
        };
        let _uncounted = settling.uncount();
        if is_first {
            // Under load, the wait usually ends by its timeout.
            let _ = tokio::time::timeout(limits::OUTCOME_WAIT, settling.completed()).await;
            let (outcomes, replies) = {
                let mut gathered = settling.lock();
                gathered.bytes = 0;
                (std::mem::take(&mut gathered.outcomes), std::mem::take(&mut gathered.replies))
            };
            let results = match commit(outcomes).await {
                Ok(results) => results,
                Err(error) => replies.iter().map(|_| Err(error.clone())).collect(),
            };
            for (reply, result) in replies.into_iter().zip(results) {
                // The waiting delivery may have been dropped.
                let _ = reply.send(result);
            }
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl<O> Drop for Uncounted<'_, O> {
    fn drop(&mut self) {
        self.0.lock().running += 1;
    }
}

impl<O> Drop for Running<O> {
    fn drop(&mut self) {
        self.0.end_one();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The sizes of the commits of one test.
    #[derive(Default)]
    struct Commits(RefCell<Vec<usize>>);

    impl Commits {
        async fn settle(&self, running: &Running<u32>, number: u32) -> Result<Settled, StoreError> {
            let commit = async |outcomes: Vec<u32>| {
                self.0.borrow_mut().push(outcomes.len());
                tokio::task::yield_now().await;
                Ok(outcomes.iter().map(|_| Ok(Settled::LeaseLost)).collect())
            };
            running.settle(number, 0, commit).await
        }
    }

    #[tokio::test]
    async fn a_single_delivery_does_not_wait() {
        let (settling, commits) = (Settling::new(), Commits::default());
        let running = settling.begin();
        for number in 0..3 {
            let mut settled = Box::pin(commits.settle(&running, number));
            assert!(futures::poll!(&mut settled).is_pending());
            assert_eq!(commits.0.take(), [1], "the commit has begun");
            assert_eq!(settled.await, Ok(Settled::LeaseLost));
        }
    }

    #[tokio::test]
    async fn concurrent_deliveries_share_a_commit() {
        let (settling, commits) = (Settling::new(), Commits::default());
        let running: Vec<Running<u32>> = (0..5).map(|_| settling.begin()).collect();
        let settled = running.iter().zip(0..).map(|(running, number)| commits.settle(running, number));
        let settled = futures::future::join_all(settled).await;
        assert!(settled.iter().all(Result::is_ok));
        assert_eq!(commits.0.take(), [5]);
    }

    #[tokio::test]
    async fn a_delivery_that_takes_long_delays_others_only_shortly() {
        let (settling, commits) = (Settling::new(), Commits::default());
        let (slow, quick) = (settling.begin(), settling.begin());
        let mut settled = Box::pin(commits.settle(&quick, 1));
        assert!(futures::poll!(&mut settled).is_pending() && commits.0.borrow().is_empty(), "it waits for the other");
        assert_eq!(settled.await, Ok(Settled::LeaseLost));
        let mut settled = Box::pin(commits.settle(&quick, 2));
        assert!(futures::poll!(&mut settled).is_pending());
        drop(slow);
        assert!(futures::poll!(&mut settled).is_pending());
        assert_eq!(commits.0.take(), [1, 1], "the second commit has begun once no other delivery runs");
        assert_eq!(settled.await, Ok(Settled::LeaseLost));
    }

    #[tokio::test]
    async fn a_delivery_that_is_dropped_while_it_settles_is_counted_once() {
        let (settling, commits) = (Settling::new(), Commits::default());
        let (first, second, slow) = (settling.begin(), settling.begin(), settling.begin());
        let mut gathers = Box::pin(commits.settle(&first, 1));
        let mut waits = Box::pin(commits.settle(&second, 2));
        assert!(futures::poll!(&mut gathers).is_pending() && futures::poll!(&mut waits).is_pending());
        assert_eq!(settling.lock().running, 1, "one delivery still runs");
        drop((gathers, waits));
        assert_eq!(settling.lock().running, 3);
        drop((first, second));
        assert_eq!(settling.lock().running, 1);
        drop(slow);
        assert_eq!(settling.lock().running, 0);
    }

    #[tokio::test]
    async fn a_commit_begins_once_it_has_enough_outcomes_and_its_error_reaches_each_delivery() {
        let (settling, commits) = (Settling::new(), Commits::default());
        let running: Vec<Running<u32>> = (0..=limits::OUTCOMES_PER_COMMIT_ENOUGH).map(|_| settling.begin()).collect();
        let one = &running[0];
        let others = running[1..].iter().zip(1..).map(|(running, number)| commits.settle(running, number));
        let settled = futures::future::join_all(others).await;
        assert!(settled.iter().all(Result::is_ok));
        assert_eq!(commits.0.take(), [limits::OUTCOMES_PER_COMMIT_ENOUGH], "one delivery still runs");
        let failed = one.settle(0, 0, async |_| Err(StoreError::EventQueueFull)).await;
        assert_eq!(failed, Err(StoreError::EventQueueFull));
    }
}
