//! The thread that checks large databases of apps while they are used. Owns the bounded queue of
//! checks. Never serves a request, and never replaces a database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use rusqlite::{Connection, InterruptHandle};

use crate::limits::CHECKS_WAITING_MAX;
use crate::workers::{caught, spawn};

/// A database that the thread checks.
pub(super) trait Checked: std::fmt::Debug + Send + Sync {
    /// Checks all pages while calls use the database. Blocks.
    fn check_while_used(self: Arc<Self>, running: &Running);
}

/// The handle to the thread. Dropping it interrupts the running check, drops the queued checks and
/// ends the thread.
#[derive(Debug)]
pub(super) struct Checker {
    handle: CheckerHandle,
    thread: Option<JoinHandle<()>>,
}

/// The channel to the thread.
#[derive(Debug, Clone)]
pub(super) struct CheckerHandle {
    queue: SyncSender<Message>,
    running: Arc<Running>,
}

#[derive(Default)]
pub(super) struct Running {
    is_stopping: AtomicBool,
    check: Mutex<Option<InterruptHandle>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("is_stopping", &self.is_stopping).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Message {
    /// Checks all pages of a database.
    Check(Weak<dyn Checked>),
    /// Blocks the thread.
    #[cfg(test)]
    Hold(Receiver<()>),
    Stop,
}

impl Running {
    /// Makes a check interruptible. Returns false if it must not run, since the thread ends.
    pub(super) fn begin(&self, connection: &Connection) -> bool {
        *self.check.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
        !self.is_stopping.load(Ordering::SeqCst)
    }

    pub(super) fn end(&self) {
        self.check.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        if let Some(check) = &*self.check.lock().unwrap_or_else(PoisonError::into_inner) {
            check.interrupt();
        }
    }
}

impl Checker {
    pub(super) fn start() -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(CHECKS_WAITING_MAX);
        let running = Arc::new(Running::default());
        let of_thread = Arc::clone(&running);
        let thread = spawn("isopod-kv-check", move || work(&waiting, &of_thread))?;
        Ok(Self { handle: CheckerHandle { queue, running }, thread: Some(thread) })
    }

    pub(super) fn handle(&self) -> CheckerHandle {
        self.handle.clone()
    }
}

impl CheckerHandle {
    /// Queues the check of all pages of a database. Returns false if the queue is full. A database
    /// that is closed before its turn isn't checked.
    pub(super) fn check(&self, database: Weak<dyn Checked>) -> bool {
        self.queue.try_send(Message::Check(database)).is_ok()
    }

    /// Blocks the thread until the receiver's sender is dropped.
    #[cfg(test)]
    pub(super) fn hold(&self, until: Receiver<()>) {
        self.queue.send(Message::Hold(until)).expect("the thread runs");
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.handle.running.stop();
        let _ = self.handle.queue.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(waiting: &Receiver<Message>, running: &Running) {
    while let Ok(message) = waiting.recv() {
        let database = match message {
            Message::Check(database) => database,
            #[cfg(test)]
            Message::Hold(until) => {
                while until.recv().is_ok() {}
                continue;
            }
            Message::Stop => return,
        };
        let Some(database) = database.upgrade().filter(|_| !running.is_stopping.load(Ordering::SeqCst)) else {
            continue;
        };
        // The panic hook has logged the panic. The other databases are still checked.
        let _ = caught(|| database.check_while_used(running));
        running.end();
    }
}
