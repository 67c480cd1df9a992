//! The queue to the writer: its messages, and the sender of each app. Bounds the lines of an app in
//! the queue and per second. Never blocks a sender of lines.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    mpsc::SyncSender,
};

use isopod_policy::AppName;
use jiff::Timestamp;
use tokio::sync::{broadcast, oneshot};

use super::{Cursor, LogLine, request::Request, wake::Wake};
use crate::observe::{access_log::AccessLine, limits};

/// The sender of one app's log, limited to a share of the queue.
pub(crate) struct AppLog {
    app: AppName,
    queue: SyncSender<Message>,
    wake: Arc<Wake>,
    pub(super) pending: AtomicUsize,
    /// Lines dropped since the last written line. The writer reports them in the log.
    pub(super) dropped: AtomicU64,
    dropped_by_all: Arc<AtomicU64>,
    requests: Rate,
    forgotten: AtomicBool,
}

/// A message to the writer.
pub(super) enum Message {
    Line(Arc<AppLog>, Box<LogLine>),
    Request(Arc<AppLog>, Request),
    /// Flushes all earlier lines, and replies with the end of the log and a subscription to later
    /// lines.
    Follow(AppName, oneshot::Sender<Following>),
    /// Closes and removes the app's files.
    Forget(AppName, oneshot::Sender<()>),
    Stop,
}

/// A reply to [`Message::Follow`].
pub(super) struct Following {
    pub(super) end: Cursor,
    pub(super) new_lines: broadcast::Receiver<Posted>,
}

/// A line from the writer, with the log position after it.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    pub(super) end: Cursor,
    pub(super) line: Arc<LogLine>,
}

impl AppLog {
    pub(super) fn new(
        app: AppName,
        queue: SyncSender<Message>,
        wake: Arc<Wake>,
        dropped_by_all: Arc<AtomicU64>,
    ) -> Self {
        Self {
            app,
            queue,
            wake,
            pending: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            dropped_by_all,
            requests: Rate::default(),
            forgotten: AtomicBool::new(false),
        }
    }

    pub(crate) fn app(&self) -> &AppName {
        &self.app
    }

    /// Enqueues a line. Never blocks: if the queue is full, the line is dropped and counted.
    pub(crate) fn write(self: &Arc<Self>, line: LogLine) {
        self.send(Message::Line(Arc::clone(self), Box::new(line)));
    }

    /// Enqueues a line about a request, unless the rate limit of this second is exceeded.
    pub(crate) fn request(self: &Arc<Self>, line: &AccessLine<'_>) {
        let time = Timestamp::now();
        if self.requests.allows(time.as_second()) {
            self.send(Message::Request(Arc::clone(self), Request::new(line, time)));
        }
    }

    /// Returns whether the app is destroyed. Later lines are discarded.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Discards later lines, and ends followers.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    fn send(&self, message: Message) {
        let pending = self.pending.fetch_add(1, Ordering::Relaxed);
        if pending >= limits::LOG_QUEUE_LINES_PER_APP || self.queue.try_send(message).is_err() {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.dropped_by_all.fetch_add(1, Ordering::Relaxed);
        } else if pending % limits::LOG_GATHERED_LINES == limits::LOG_GATHERED_LINES - 1 {
            self.wake.now();
        } else {
            self.wake.soon();
        }
    }

    /// Takes the number of requests that exceeded the rate limit since the last call.
    pub(super) fn take_unlisted(&self) -> u64 {
        self.requests.passed_over.swap(0, Ordering::Relaxed)
    }
}

/// Counts the access lines of the current second. Concurrent threads may exceed the limit by a few
/// lines, which is acceptable.
#[derive(Default)]
struct Rate {
    second: AtomicI64,
    lines: AtomicU32,
    passed_over: AtomicU64,
}

impl Rate {
    fn allows(&self, second: i64) -> bool {
        if self.second.load(Ordering::Relaxed) != second {
            self.second.store(second, Ordering::Relaxed);
            self.lines.store(0, Ordering::Relaxed);
        }
        // Loaded first, so that a flood of requests doesn't write to a cache line that all threads
        // share.
        let allowed = self.lines.load(Ordering::Relaxed) < limits::LOG_ACCESS_LINES_PER_SECOND
            && self.lines.fetch_add(1, Ordering::Relaxed) < limits::LOG_ACCESS_LINES_PER_SECOND;
        if !allowed {
            self.passed_over.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_above_the_rate_limit_are_counted_but_not_logged() {
        let rate = Rate::default();
        let listed = (0..limits::LOG_ACCESS_LINES_PER_SECOND + 5).filter(|_| rate.allows(7)).count();
        assert_eq!(listed, limits::LOG_ACCESS_LINES_PER_SECOND as usize);
        assert_eq!(rate.passed_over.load(Ordering::Relaxed), 5);
        assert!(rate.allows(8));
    }
}
