//! Cancels the work of an app when the app is destroyed: drops unfinished work, and starts none
//! afterwards. Never waits for work: the control plane drains the app first.

use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};
use tokio::sync::{Notify, futures::Notified};

/// Whether an app is destroyed, and a notification when it is.
#[derive(Default)]
pub(crate) struct Cancellation {
    is_cancelled: AtomicBool,
    notify: Notify,
}

pin_project! {
    /// Work of an app. Its output is `None` if the app is destroyed first.
    pub(crate) struct UntilCancelled<'a, W> {
        #[pin]
        work: W,
        #[pin]
        notified: Notified<'a>,
        cancellation: &'a Cancellation,
    }
}

impl Cancellation {
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }

    /// Runs work until the app is destroyed. Work that completes on its first poll takes no lock.
    pub(crate) fn run_until_cancelled<W: Future>(&self, work: W) -> UntilCancelled<'_, W> {
        UntilCancelled { work, notified: self.notify.notified(), cancellation: self }
    }
}

impl<W: Future> Future for UntilCancelled<'_, W> {
    type Output = Option<W::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.cancellation.is_cancelled() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Some(done));
        }
        this.notified.poll(cx).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn work_is_dropped_with_its_app_and_none_starts_afterwards() {
        let cancellation = Cancellation::default();
        assert_eq!(cancellation.run_until_cancelled(ready(7)).await, Some(7));
        let mut pending_work = Box::pin(cancellation.run_until_cancelled(pending::<()>()));
        let unpolled = Box::pin(cancellation.run_until_cancelled(pending::<()>()));
        assert!(futures::poll!(&mut pending_work).is_pending());
        cancellation.cancel();
        assert_eq!((pending_work.await, unpolled.await), (None, None));
        assert_eq!(cancellation.run_until_cancelled(ready(7)).await, None);
    }
}
