//! The guard of an app's open files. Makes the app's next database wait until they are closed.
//! Never opens or closes a file.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit};

/// The right to open the files of one app. Held until they are closed.
#[derive(Debug)]
pub(super) struct OpenGuard {
    _slot: OwnedSemaphorePermit,
    is_open: OwnedMutexGuard<()>,
}

impl OpenGuard {
    #[expect(clippy::expect_used, reason = "no other task has this lock")]
    pub(super) fn new(slot: OwnedSemaphorePermit) -> Self {
        let is_open = Arc::new(Mutex::new(())).try_lock_owned().expect("a new lock is free");
        Self { _slot: slot, is_open }
    }

    /// Returns the state that the app's next database waits for.
    pub(super) fn closing(&self) -> Closing {
        Closing(Arc::clone(OwnedMutexGuard::mutex(&self.is_open)))
    }
}

/// A database that is being closed.
#[derive(Debug, Clone)]
pub(super) struct Closing(Arc<Mutex<()>>);

impl Closing {
    /// Waits until the files are closed.
    pub(super) async fn ended(self) {
        drop(self.0.lock().await);
    }

    /// Waits like [`Closing::ended`]. Blocks.
    pub(super) fn wait(&self) {
        drop(self.0.blocking_lock());
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.try_lock().is_ok()
    }
}
