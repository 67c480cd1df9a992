//! The Tokio runtimes for guests' timers, sockets and blocking work. An app with folders leases a
//! small runtime that bounds its file operations. All other guests use the runtime of their I/O
//! thread. Off the I/O threads they share one, which keeps them off the threads of the API and of
//! push jobs. Never runs a guest.

use super::file_runtimes::{FileLease, FileRuntimes};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::runtime::{EnterGuard, Handle, RuntimeFlavor};

/// The runtimes that guests use off the I/O threads.
#[derive(Clone)]
pub(crate) struct GuestRuntimes {
    shared: Handle,
    files: Arc<FileRuntimes>,
}

/// The runtime that an app with folders leases, while it has one.
#[derive(Default)]
pub(super) struct AppFiles(Mutex<Option<Arc<FileLease>>>);

/// The runtime that a guest's work enters.
enum Entered {
    /// The runtime of the I/O thread that polls the work.
    Current,
    Shared(Handle),
    /// The runtime that the app leases.
    Leased(Arc<FileLease>),
}

/// A guest's work, which enters its runtime whenever it is polled.
pub(crate) struct InGuestRuntime<F> {
    work: Pin<Box<F>>,
    runtime: Entered,
}

impl GuestRuntimes {
    /// Creates the runtimes. `shared` is the runtime for guests without folders that don't run on
    /// an I/O thread.
    pub(crate) fn on(shared: Handle) -> Self {
        Self { shared, files: Arc::default() }
    }

    /// Runs the work of a worker thread inside the shared runtime.
    pub(crate) fn enter(&self, work: impl FnOnce()) {
        let _entered = self.shared.enter();
        work();
    }

    /// Wraps work so that it enters the right runtime. `files` is set if the app's guests have
    /// folders.
    pub(super) fn wrap<F>(&self, files: Option<&AppFiles>, work: Pin<Box<F>>) -> InGuestRuntime<F> {
        let leased = files.and_then(|files| files.lease(&self.files));
        let runtime = match leased {
            Some(lease) => Entered::Leased(lease),
            None if is_io_thread() => Entered::Current,
            None => Entered::Shared(self.shared.clone()),
        };
        InGuestRuntime { work, runtime }
    }
}

fn is_io_thread() -> bool {
    Handle::try_current().is_ok_and(|current| matches!(current.runtime_flavor(), RuntimeFlavor::CurrentThread))
}

impl AppFiles {
    fn lease(&self, runtimes: &FileRuntimes) -> Option<Arc<FileLease>> {
        let mut lease = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.is_none() {
            *lease = runtimes.lease().map(Arc::new);
        }
        lease.clone()
    }

    /// Returns the runtime if no work of the app is in progress. A stuck file operation keeps it
    /// leased: on another runtime, the app would occupy further threads.
    pub(super) fn release_if_idle(&self) {
        let mut lease = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lease.take_if(|lease| Arc::strong_count(lease) == 1 && lease.is_quiet());
    }
}

impl Entered {
    fn enter(&self) -> Option<EnterGuard<'_>> {
        match self {
            Self::Current => None,
            Self::Shared(handle) => Some(handle.enter()),
            Self::Leased(lease) => lease.handle().map(Handle::enter),
        }
    }
}

impl<F: Future> Future for InGuestRuntime<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = this.runtime.enter();
        this.work.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::{Builder, Id, Runtime};

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).build().expect("threads can be started")
    }

    async fn here() -> Id {
        Handle::current().id()
    }

    #[test]
    fn guests_on_other_threads_use_the_guests_runtime() {
        let (control, own) = (runtime(), runtime());
        let guests = GuestRuntimes::on(own.handle().clone());
        let found = control.block_on(async { guests.wrap(None, Box::pin(here())).await });
        assert_eq!(found, own.handle().id());
        let io = Builder::new_current_thread().build().expect("a runtime can be made");
        assert_eq!(io.block_on(async { guests.wrap(None, Box::pin(here())).await }), io.handle().id());
    }

    #[test]
    fn guests_with_folders_use_the_runtime_of_their_app_on_every_thread() {
        let (control, own) = (runtime(), runtime());
        let io = Builder::new_current_thread().build().expect("a runtime can be made");
        let guests = GuestRuntimes::on(own.handle().clone());
        let (one, other) = (AppFiles::default(), AppFiles::default());
        let on =
            |runtime: &Runtime, files| runtime.block_on(async { guests.wrap(Some(files), Box::pin(here())).await });
        let of_one = on(&control, &one);
        assert_eq!(on(&io, &one), of_one);
        assert_ne!(on(&io, &other), of_one);
        assert!(![own.handle().id(), io.handle().id(), control.handle().id()].contains(&of_one));
        // Without a file operation in progress, the next app can lease the runtime.
        one.release_if_idle();
        assert_eq!(on(&io, &AppFiles::default()), of_one);
    }
}
