//! The runtime for guests' timers, sockets and blocking work. I/O threads have one each; everywhere
//! else a separate runtime for guests keeps them off the threads of the API and of push jobs. Never
//! runs a guest.

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
    /// A guest's work, which enters the right runtime when it is polled. `runtime` is `None` on an
    /// I/O thread, which has its own.
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

    /// Runs work of a guest thread inside the guests' runtime.
    pub(crate) fn enter(&self, work: impl FnOnce()) {
        let _entered = self.0.enter();
        work();
    }

    /// Wraps the work so that it enters the right runtime.
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
    fn guests_on_other_threads_use_the_guests_runtime() {
        let (control, own) = (runtime(), runtime());
        let guests = Guests::on(own.handle().clone());
        let found = control.block_on(async { guests.carry(here()).await });
        assert_eq!(found, own.handle().id());
        let io = Builder::new_current_thread().build().expect("a runtime can be made");
        assert_eq!(io.block_on(async { guests.carry(here()).await }), io.handle().id());
    }
}
