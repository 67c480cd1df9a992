//! The queue to the writer: its messages, and the sender of each app. Bounds the lines of an app in
//! the queue and per second. Never blocks a sender of lines.

use std::sync::{
    Arc, Mutex, PoisonError,
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
    /// Lines that were dropped because a queue was full. The writer reports them in the log.
    dropped: AtomicU64,
    /// Requests above the rate limit. The writer reports them in the log.
    unlisted: AtomicU64,
    /// Whether the log is in `gaps`.
    has_gap: AtomicBool,
    gaps: Arc<Gaps>,
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
        gaps: Arc<Gaps>,
        dropped_by_all: Arc<AtomicU64>,
    ) -> Self {
        Self {
            app,
            queue,
            wake,
            pending: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            unlisted: AtomicU64::new(0),
            has_gap: AtomicBool::new(false),
            gaps,
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
        } else {
            self.leave_out(&self.unlisted);
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

    fn send(self: &Arc<Self>, message: Message) {
        let pending = self.pending.fetch_add(1, Ordering::Relaxed);
        if pending >= limits::LOG_QUEUE_LINES_PER_APP || self.queue.try_send(message).is_err() {
            let before = self.pending.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "a line that is left out was counted");
            self.dropped_by_all.fetch_add(1, Ordering::Relaxed);
            self.leave_out(&self.dropped);
        } else if pending % limits::LOG_GATHERED_LINES == limits::LOG_GATHERED_LINES - 1 {
            self.wake.now();
        } else {
            self.wake.soon();
        }
    }

    /// Counts a line that is left out. Only the first such line since the writer's last report
    /// takes the lock.
    fn leave_out(self: &Arc<Self>, count: &AtomicU64) {
        // Synchronises with the writer's last report: either that report includes this line, or
        // this thread sees `has_gap` cleared.
        count.fetch_add(1, Ordering::AcqRel);
        if !self.has_gap.load(Ordering::Relaxed) && !self.has_gap.swap(true, Ordering::Relaxed) {
            self.gaps.lock().push(Arc::clone(self));
        }
    }

    /// Takes the number of lines that were dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::AcqRel)
    }

    /// Takes the number of requests above the rate limit since the last call.
    pub(super) fn take_unlisted(&self) -> u64 {
        self.unlisted.swap(0, Ordering::AcqRel)
    }
}

/// The logs that left out lines since the writer's last report, each once.
#[derive(Default)]
pub(super) struct Gaps(Mutex<Vec<Arc<AppLog>>>);

impl Gaps {
    /// Takes the logs. The caller reports their lines.
    pub(super) fn take(&self) -> Vec<Arc<AppLog>> {
        let logs = std::mem::take(&mut *self.lock());
        logs.iter().for_each(|log| log.has_gap.store(false, Ordering::Relaxed));
        logs
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<AppLog>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the access lines of the current second. Concurrent threads may exceed the limit by a few
/// lines, which is acceptable.
#[derive(Default)]
struct Rate {
    second: AtomicI64,
    lines: AtomicU32,
}

impl Rate {
    fn allows(&self, second: i64) -> bool {
        if self.second.load(Ordering::Relaxed) != second {
            self.second.store(second, Ordering::Relaxed);
            self.lines.store(0, Ordering::Relaxed);
        }
        // Loaded first, so that a flood of requests doesn't write to a cache line that all threads
        // share.
        self.lines.load(Ordering::Relaxed) < limits::LOG_ACCESS_LINES_PER_SECOND
            && self.lines.fetch_add(1, Ordering::Relaxed) < limits::LOG_ACCESS_LINES_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_above_the_rate_limit_are_not_logged() {
        let rate = Rate::default();
        let listed = (0..limits::LOG_ACCESS_LINES_PER_SECOND + 5).filter(|_| rate.allows(7)).count();
        assert_eq!(listed, limits::LOG_ACCESS_LINES_PER_SECOND as usize);
        assert!(rate.allows(8));
    }
}
