//! The thread that checks large databases of apps while they are used, and replaces damaged
//! databases. Owns the bounded queue of checks. Never serves a request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use rusqlite::{Connection, InterruptHandle};

use crate::limits::CHECKS_WAITING_MAX;
use crate::workers::{caught, spawn};

/// A database that the thread works on.
pub(super) trait Checked: std::fmt::Debug + Send + Sync {
    /// Checks all pages while calls use the database. Blocks.
    fn check_while_used(&self, running: &Running);
    /// Replaces the database if it may be damaged. Blocks.
    fn replace_if_damaged(&self);
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
    /// Replaces a database that may be damaged.
    Replace(Weak<dyn Checked>),
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

    fn stop(&self) {
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
    /// Queues the check of all pages of a database. A full queue drops it.
    pub(super) fn check(&self, database: Weak<dyn Checked>) {
        let _ = self.queue.try_send(Message::Check(database));
    }

    /// Queues the replacement of a database that may be damaged. If the queue is full, the next
    /// call on the database replaces it.
    pub(super) fn replace(&self, database: Weak<dyn Checked>) {
        let _ = self.queue.try_send(Message::Replace(database));
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
        let (database, is_check) = match message {
            Message::Check(database) => (database, true),
            Message::Replace(database) => (database, false),
            Message::Stop => return,
        };
        let Some(database) = database.upgrade().filter(|_| !running.is_stopping.load(Ordering::SeqCst)) else {
            continue;
        };
        // The panic hook has logged the panic. The other databases are still checked.
        let _ = caught(|| {
            if is_check {
                database.check_while_used(running);
            }
            database.replace_if_damaged();
        });
        running.end();
    }
}
