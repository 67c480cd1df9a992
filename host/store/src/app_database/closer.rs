//! The thread that closes the databases of apps. Owns SQLite's checkpoint on close, which waits for
//! the disk. Never serves a request.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::open_connection::OpenConnection;
use super::open_guard::OpenGuard;
use crate::limits::{APPS_CLOSING_MAX, APPS_OPEN_MAX};
use crate::workers::spawn;

/// The handle to the thread. Dropping it closes all databases in the queue and ends the thread.
#[derive(Debug)]
pub(super) struct Closer {
    messages: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// The channel to the thread. Its length is bounded by the slots of open databases, which are freed
/// only once a database is closed.
#[derive(Debug, Clone)]
pub(super) struct CloserHandle(SyncSender<Message>);

enum Message {
    Close(Box<ClosingFiles>),
    /// Blocks the thread.
    #[cfg(test)]
    Hold(Receiver<()>),
    Stop,
}

/// A database without running calls.
pub(super) struct ClosingFiles {
    pub(super) reader: Option<OpenConnection>,
    pub(super) writer: Option<OpenConnection>,
    pub(super) guard: OpenGuard,
}

impl ClosingFiles {
    /// Closes the connections, then frees the slot. The app's next database may then be opened.
    fn finish(self) {
        drop((self.reader, self.writer));
        drop(self.guard);
    }
}

impl Closer {
    pub(super) fn start() -> std::io::Result<Self> {
        let (messages, waiting) = sync_channel(APPS_OPEN_MAX + APPS_CLOSING_MAX);
        let thread = spawn("isopod-kv-close", move || close(&waiting))?;
        Ok(Self { messages, thread: Some(thread) })
    }

    pub(super) fn handle(&self) -> CloserHandle {
        CloserHandle(self.messages.clone())
    }
}

impl CloserHandle {
    /// Sends a database to the thread. Once the store is closed, closes it on the calling thread.
    pub(super) fn close(&self, closing: ClosingFiles) {
        let _ = self.0.send(Message::Close(Box::new(closing)));
    }

    /// Blocks the thread until the receiver's sender is dropped.
    #[cfg(test)]
    pub(super) fn hold(&self, until: Receiver<()>) {
        self.0.send(Message::Hold(until)).expect("the thread runs");
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn close(waiting: &Receiver<Message>) {
    while let Ok(message) = waiting.recv() {
        match message {
            Message::Close(closing) => closing.finish(),
            #[cfg(test)]
            Message::Hold(until) => drop(until.recv()),
            Message::Stop => return,
        }
    }
}
