//! The threads that replace damaged databases of apps. A replacement copies a whole file, so it
//! must not occupy the threads that serve all apps. One thread replaces small files, so that they
//! don't wait for large ones. Owns the queues of replacements. Never serves a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::limits::{APPS_CLOSING_MAX, APPS_OPEN_MAX, CHECKED_BYTES_MAX};
use crate::workers::{caught, spawn};

type Rescue = Box<dyn FnOnce() + Send>;

/// Owns the threads. Dropping it completes the running replacements, drops the queued ones and ends
/// the threads.
#[derive(Debug)]
pub(super) struct Rescuer {
    handle: RescuerHandle,
    is_stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The channels to the threads. The capacity of each is the maximum number of open databases, since
/// each database has at most one queued replacement.
#[derive(Debug, Clone)]
pub(super) struct RescuerHandle {
    small: SyncSender<Message>,
    large: SyncSender<Message>,
}

enum Message {
    Rescue(Rescue),
    Stop,
}

impl Rescuer {
    pub(super) fn start() -> std::io::Result<Self> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let start = |name: &str| {
            let (queue, waiting) = sync_channel(APPS_OPEN_MAX + APPS_CLOSING_MAX);
            let of_thread = Arc::clone(&is_stopping);
            spawn(name, move || work(&waiting, &of_thread)).map(|thread| (queue, thread))
        };
        let (small, of_small) = start("isopod-rescue-s")?;
        let (large, of_large) = start("isopod-rescue-l")?;
        let handle = RescuerHandle { small, large };
        Ok(Self { handle, is_stopping, threads: vec![of_small, of_large] })
    }

    pub(super) fn handle(&self) -> RescuerHandle {
        self.handle.clone()
    }
}

impl RescuerHandle {
    /// Queues the replacement of a file of this size. Drops the replacement if the store is being
    /// closed.
    pub(super) fn queue(&self, bytes: u64, rescue: impl FnOnce() + Send + 'static) {
        let queue = if bytes <= CHECKED_BYTES_MAX { &self.small } else { &self.large };
        let queued = queue.try_send(Message::Rescue(Box::new(rescue)));
        debug_assert!(!matches!(queued, Err(TrySendError::Full(_))), "it has room for each open database");
    }
}

impl Drop for Rescuer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        for queue in [&self.handle.small, &self.handle.large] {
            let _ = queue.send(Message::Stop);
        }
        for thread in self.threads.drain(..) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rescue_of_a_small_file_does_not_wait_for_a_large_one() {
        let rescuer = Rescuer::start().expect("the threads start");
        let (release, held) = sync_channel::<()>(0);
        let (done, ended) = sync_channel::<&str>(2);
        let of_large = done.clone();
        rescuer.handle().queue(CHECKED_BYTES_MAX + 1, move || {
            let _ = held.recv();
            of_large.send("large").expect("the test waits");
        });
        rescuer.handle().queue(CHECKED_BYTES_MAX, move || done.send("small").expect("the test waits"));
        assert_eq!(ended.recv(), Ok("small"));
        drop(release);
        assert_eq!(ended.recv(), Ok("large"));
    }
}
