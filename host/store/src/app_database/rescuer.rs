//! The thread that replaces damaged databases of apps. A replacement copies a whole file, so it
//! must not occupy the threads that serve all apps. Owns the queue of replacements. Never serves a
//! request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::limits::{APPS_CLOSING_MAX, APPS_OPEN_MAX};
use crate::workers::{caught, spawn};

type Rescue = Box<dyn FnOnce() + Send>;

/// The handle to the thread. Dropping it completes the running replacement, drops the queued ones
/// and ends the thread.
#[derive(Debug)]
pub(super) struct Rescuer {
    handle: RescuerHandle,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The channel to the thread. Its length is bounded by the slots of open databases: each has at
/// most one queued replacement.
#[derive(Debug, Clone)]
pub(super) struct RescuerHandle(SyncSender<Message>);

enum Message {
    Rescue(Rescue),
    Stop,
}

impl Rescuer {
    pub(super) fn start() -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(APPS_OPEN_MAX + APPS_CLOSING_MAX);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let of_thread = Arc::clone(&is_stopping);
        let thread = spawn("isopod-kv-rescue", move || work(&waiting, &of_thread))?;
        Ok(Self { handle: RescuerHandle(queue), is_stopping, thread: Some(thread) })
    }

    pub(super) fn handle(&self) -> RescuerHandle {
        self.handle.clone()
    }
}

impl RescuerHandle {
    /// Queues a replacement. Drops it once the store is being closed.
    pub(super) fn queue(&self, rescue: impl FnOnce() + Send + 'static) {
        let queued = self.0.try_send(Message::Rescue(Box::new(rescue)));
        debug_assert!(!matches!(queued, Err(TrySendError::Full(_))), "it has room for each open database");
    }
}

impl Drop for Rescuer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = self.handle.0.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(waiting: &Receiver<Message>, is_stopping: &AtomicBool) {
    while let Ok(Message::Rescue(rescue)) = waiting.recv() {
        if is_stopping.load(Ordering::SeqCst) {
            return;
        }
        // The panic hook has logged the panic. Other databases are still replaced.
        let _ = caught(rescue);
    }
}
