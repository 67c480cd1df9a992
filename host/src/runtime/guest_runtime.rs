//! The runtime for guests' timers, sockets and blocking work. An app with folders has a small one of its own, which
//! bounds its file operations. All other guests use the I/O thread's runtime, and outside of I/O threads one that they
//! share, which keeps them off the threads of the API and of push jobs. Never runs a guest.

use super::file_runtimes::{FileLease, FileRuntimes};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::runtime::{EnterGuard, Handle, RuntimeFlavor};

/// The guests' own runtimes.
#[derive(Clone)]
pub(crate) struct Guests {
    shared: Handle,
    files: Arc<FileRuntimes>,
}

/// One app's runtime for its guests with folders, while it has one.
#[derive(Default)]
pub(super) struct AppFiles(Mutex<Option<Arc<FileLease>>>);

/// The runtime that a guest's work enters.
enum Entered {
    /// The I/O thread's own.
    Present,
    Shared(Handle),
    /// The app's own.
    Leased(Arc<FileLease>),
}

pin_project! {
    /// A guest's work, which enters the right runtime when it is polled.
    pub(crate) struct OnGuests<F> {
        #[pin]
        work: F,
        runtime: Entered,
    }
}

impl Guests {
    /// `shared` is the runtime for guests without folders that don't run on an I/O thread.
    pub(crate) fn on(shared: Handle) -> Self {
        Self { shared, files: Arc::default() }
    }

    /// Runs work of a guest thread inside the guests' runtime.
    pub(crate) fn enter(&self, work: impl FnOnce()) {
        let _entered = self.shared.enter();
        work();
    }

    /// Wraps the work so that it enters the right runtime. `files` is the app's if its guests have folders.
    pub(super) fn carry<F>(&self, files: Option<&AppFiles>, work: F) -> OnGuests<F> {
        let leased = files.and_then(|files| files.lease(&self.files));
        let runtime = match leased {
            Some(lease) => Entered::Leased(lease),
            None if is_io_thread() => Entered::Present,
            None => Entered::Shared(self.shared.clone()),
        };
        OnGuests { work, runtime }
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

    /// Gives the runtime back if no work of the app is in progress. A stuck file operation keeps it, since the app would
    /// occupy further threads on another one.
    pub(super) fn rest(&self) {
        let mut lease = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lease.take_if(|lease| Arc::strong_count(lease) == 1 && lease.is_quiet());
    }
}

impl Entered {
    fn enter(&self) -> Option<EnterGuard<'_>> {
        match self {
            Self::Present => None,
            Self::Shared(handle) => Some(handle.enter()),
            Self::Leased(lease) => lease.handle().map(Handle::enter),
        }
    }
}

impl<F: Future> Future for OnGuests<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.runtime.enter();
        this.work.poll(cx)
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
        let guests = Guests::on(own.handle().clone());
        let found = control.block_on(async { guests.carry(None, here()).await });
        assert_eq!(found, own.handle().id());
        let io = Builder::new_current_thread().build().expect("a runtime can be made");
        assert_eq!(io.block_on(async { guests.carry(None, here()).await }), io.handle().id());
    }

    #[test]
    fn guests_with_folders_use_the_runtime_of_their_app_on_every_thread() {
        let (control, own) = (runtime(), runtime());
        let io = Builder::new_current_thread().build().expect("a runtime can be made");
        let guests = Guests::on(own.handle().clone());
        let (one, other) = (AppFiles::default(), AppFiles::default());
        let on = |runtime: &Runtime, files| runtime.block_on(async { guests.carry(Some(files), here()).await });
        let of_one = on(&control, &one);
        assert_eq!(on(&io, &one), of_one);
        assert_ne!(on(&io, &other), of_one);
        assert!(![own.handle().id(), io.handle().id(), control.handle().id()].contains(&of_one));
        // Without a file operation in progress, the runtime is for the next app.
        one.rest();
        assert_eq!(on(&io, &AppFiles::default()), of_one);
    }
}
