//! The runtime that guests' timers, sockets and blocking work belong to. I/O threads have one each; everywhere else it is
//! a runtime of the guests' own, so that they never take the threads of the API and of push jobs. Never runs a guest.

use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The guests' own runtime.
#[derive(Clone)]
pub(crate) struct Guests(Handle);

pin_project! {
    /// A guest's work, which finds the right runtime wherever it is polled. `runtime` is none on an I/O thread, whose own
    /// runtime is the right one.
    pub(crate) struct OnGuests<F> {
        #[pin]
        work: F,
        runtime: Option<Handle>,
    }
}

impl Guests {
    pub(crate) fn on(runtime: Handle) -> Self {
        Self(runtime)
    }

    /// Does work of a thread that runs guests, in their runtime.
    pub(crate) fn enter(&self, work: impl FnOnce()) {
        let _entered = self.0.enter();
        work();
    }

    /// Has the work find the right runtime.
    pub(super) fn carry<F>(&self, work: F) -> OnGuests<F> {
        let is_io_thread =
            Handle::try_current().is_ok_and(|current| matches!(current.runtime_flavor(), RuntimeFlavor::CurrentThread));
        OnGuests { work, runtime: (!is_io_thread).then(|| self.0.clone()) }
    }
}

impl<F: Future> Future for OnGuests<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.runtime.as_ref().map(Handle::enter);
        this.work.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).build().expect("threads can be started")
    }

    async fn here() -> tokio::runtime::Id {
        Handle::current().id()
    }

    #[test]
    fn guests_of_other_threads_find_their_own_runtime() {
        let (control, own) = (runtime(), runtime());
        let guests = Guests::on(own.handle().clone());
        let found = control.block_on(async { guests.carry(here()).await });
        assert_eq!(found, own.handle().id());
        let io = Builder::new_current_thread().build().expect("a runtime can be made");
        assert_eq!(io.block_on(async { guests.carry(here()).await }), io.handle().id());
    }
}
