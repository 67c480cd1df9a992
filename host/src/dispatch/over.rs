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
pub(super) struct Over {
    is_over: AtomicBool,
    told: Notify,
}

pin_project! {
    /// Work of an app; none once the app is over.
    pub(super) struct WhileThere<'a, W> {
        #[pin]
        work: W,
        #[pin]
        told: Notified<'a>,
        over: &'a Over,
    }
}

impl Over {
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Does work while the app is there. What is done at once waits for nothing, and so costs no lock.
    pub(super) fn while_there<W: Future>(&self, work: W) -> WhileThere<'_, W> {
        WhileThere { work, told: self.told.notified(), over: self }
    }
}

impl<W: Future> Future for WhileThere<'_, W> {
    type Output = Option<W::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.over.is_over() {
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
        let over = Over::default();
        assert_eq!(over.while_there(ready(7)).await, Some(7));
        let mut endless = Box::pin(over.while_there(pending::<()>()));
        let unasked = Box::pin(over.while_there(pending::<()>()));
        assert!(futures::poll!(&mut endless).is_pending());
        over.end();
        assert_eq!((endless.await, unasked.await), (None, None));
        assert_eq!(over.while_there(ready(7)).await, None);
    }
}
