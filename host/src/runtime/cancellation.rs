//! The end of an app. Work that is not done by then is dropped wherever it stands, and none is begun after it. Never waits
//! for work: whoever ends an app has done so before.

use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};
use tokio::sync::{Notify, futures::Notified};

/// Whether an app is over.
#[derive(Default)]
pub(super) struct Cancellation {
    is_over: AtomicBool,
    told: Notify,
}

pin_project! {
    /// Work of an app; none once the app is over.
    pub(super) struct UntilCancelled<'a, W> {
        #[pin]
        work: W,
        #[pin]
        told: Notified<'a>,
        cancellation: &'a Cancellation,
    }
}

impl Cancellation {
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Does work while the app is there. What is done at once waits for nothing, and so costs no lock.
    pub(super) fn run_until_cancelled<W: Future>(&self, work: W) -> UntilCancelled<'_, W> {
        UntilCancelled { work, told: self.told.notified(), cancellation: self }
    }
}

impl<W: Future> Future for UntilCancelled<'_, W> {
    type Output = Option<W::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.cancellation.is_over() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Some(done));
        }
        this.told.poll(cx).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn work_ends_with_its_app_and_none_begins_after_it() {
        let cancellation = Cancellation::default();
        assert_eq!(cancellation.run_until_cancelled(ready(7)).await, Some(7));
        let mut endless = Box::pin(cancellation.run_until_cancelled(pending::<()>()));
        let unasked = Box::pin(cancellation.run_until_cancelled(pending::<()>()));
        assert!(futures::poll!(&mut endless).is_pending());
        cancellation.end();
        assert_eq!((endless.await, unasked.await), (None, None));
        assert_eq!(cancellation.run_until_cancelled(ready(7)).await, None);
    }
}
