//! The queue to the writer: its messages, and the sender of each app. Bounds the lines of an app in
//! the queue, their bytes, and the requests per second. Never blocks a sender of lines.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
};

use isopod_policy::AppName;
use jiff::Timestamp;
use tokio::sync::{Semaphore, broadcast, oneshot};

use super::{Cursor, LogLine, request::Request, wake::Wake};
use crate::observe::{access_log::AccessLine, limits, telemetry::AppExport};

/// The sender of one app's log, limited to a share of the queue.
pub(crate) struct AppLog {
    app: AppName,
    queue: SyncSender<Message>,
    wake: Arc<Wake>,
    /// The lines of this app in the queue.
    pending: AtomicUsize,
    /// The bytes of their messages.
    pending_bytes: AtomicUsize,
    /// Lines that were dropped because a queue was full. The writer reports them in the log.
    dropped: AtomicU64,
    /// Lines that could not be written. The writer reports them once it can write.
    unwritten: AtomicU64,
    /// Requests above the rate limit. The writer reports them in the log.
    unlisted: AtomicU64,
    /// Whether the log is in `gaps`.
    has_gap: AtomicBool,
    gaps: Arc<Gaps>,
    totals: Arc<Totals>,
    requests: Rate,
    forgotten: AtomicBool,
    /// Permits for reads of this log.
    reads: Arc<Semaphore>,
    /// Exports the lines and the spans. Lines about requests are not exported: spans have the same
    /// facts.
    export: Option<AppExport>,
}

/// The lines of all apps.
#[derive(Default)]
pub(super) struct Totals {
    /// Lines that were dropped since the start.
    pub(super) dropped: AtomicU64,
    /// The bytes of the messages in the queue.
    queued_bytes: AtomicUsize,
}

/// A message to the writer.
#[expect(clippy::large_enum_variant, reason = "a box would cost an allocation for each request")]
pub(super) enum Message {
    Line(Arc<AppLog>, Box<LogLine>),
    Request(Arc<AppLog>, Request),
    /// Flushes all earlier lines of the app, and replies with the end of its log.
    End(AppName, oneshot::Sender<Cursor>),
    /// Flushes all earlier lines of the app, and replies with the end of its log and a subscription
    /// to later lines.
    Follow(AppName, oneshot::Sender<Following>),
    /// Closes and removes the app's files.
    Forget(AppName, oneshot::Sender<()>),
    Stop,
}

/// A reply to [`Message::Follow`].
pub(super) struct Following {
    pub(super) end: Cursor,
    /// The number of lines before `end`, counted since the log has followers.
    pub(super) number: u64,
    /// Segments that were begun since then, each with the number of lines before it.
    pub(super) begun: VecDeque<(u64, u64)>,
    pub(super) new_lines: broadcast::Receiver<Posted>,
}

/// A line from the writer.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    /// The log position after the line.
    pub(super) end: Cursor,
    /// The number of lines up to this one, counted since the log has followers.
    pub(super) number: u64,
    /// `None` for a long line, which followers read from the file: the lines that wait for a slow
    /// follower must not use much memory.
    pub(super) line: Option<Arc<LogLine>>,
}

impl AppLog {
    pub(super) fn new(
        app: AppName,
        queue: SyncSender<Message>,
        wake: Arc<Wake>,
        gaps: Arc<Gaps>,
        totals: Arc<Totals>,
        export: Option<AppExport>,
    ) -> Self {
        Self {
            app,
            queue,
            wake,
            pending: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
            unlisted: AtomicU64::new(0),
            has_gap: AtomicBool::new(false),
            gaps,
            totals,
            requests: Rate::default(),
            forgotten: AtomicBool::new(false),
            reads: Arc::new(Semaphore::new(limits::LOG_READS_PER_APP_MAX)),
            export,
        }
    }

    pub(crate) fn app(&self) -> &AppName {
        &self.app
    }

    /// Enqueues a line. Never blocks: if the queue is full, the line is dropped and counted.
    pub(crate) fn write(self: &Arc<Self>, line: LogLine) {
        if let Some(export) = self.export.as_ref().filter(|_| !self.is_forgotten()) {
            export.line(line.message.len(), || line.exported());
        }
        let bytes = line.message.len();
        self.send(bytes, || Message::Line(Arc::clone(self), Box::new(line)));
    }

    /// Enqueues a line about a request, unless the rate limit of this second is exceeded.
    pub(crate) fn request(self: &Arc<Self>, line: &AccessLine<'_>) {
        let time = Timestamp::now();
        if self.requests.allows(time.as_second()) {
            self.send(0, || Message::Request(Arc::clone(self), Request::new(line, time)));
        } else {
            self.leave_out(&self.unlisted);
        }
    }

    /// Returns the export of the app's spans, if telemetry is exported.
    pub(crate) fn export(&self) -> Option<&AppExport> {
        self.export.as_ref()
    }

    /// Returns the permits for reads of this log.
    pub(super) fn reads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.reads)
    }

    /// Returns whether the app is destroyed. Later lines are discarded.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Discards later lines, and ends followers.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    /// Enqueues a message with this number of bytes.
    fn send(self: &Arc<Self>, bytes: usize, message: impl FnOnce() -> Message) {
        let (pending, fits) = self.charge(bytes);
        if !fits || self.queue.try_send(message()).is_err() {
            self.refund(bytes);
            self.totals.dropped.fetch_add(1, Ordering::Relaxed);
            self.leave_out(&self.dropped);
        } else if pending % limits::LOG_GATHERED_LINES == limits::LOG_GATHERED_LINES - 1 {
            self.wake.now();
        } else {
            self.wake.soon();
        }
    }

    /// Counts a line in the queue. Returns the number of lines before it, and whether it fits.
    fn charge(&self, bytes: usize) -> (usize, bool) {
        let pending = self.pending.fetch_add(1, Ordering::Relaxed);
        if bytes == 0 {
            return (pending, pending < limits::LOG_QUEUE_LINES_PER_APP);
        }
        let of_app = self.pending_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_all = self.totals.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = pending < limits::LOG_QUEUE_LINES_PER_APP
            && of_app <= limits::LOG_QUEUE_BYTES_PER_APP
            && of_all <= limits::LOG_QUEUE_BYTES;
        (pending, fits)
    }

    /// Counts a line that has left the queue.
    pub(super) fn refund(&self, bytes: usize) {
        let before = self.pending.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a line that leaves the queue was counted");
        if bytes > 0 {
            let of_app = self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            let of_all = self.totals.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            debug_assert!(of_app >= bytes && of_all >= bytes, "the bytes of a line were counted");
        }
    }

    /// Counts lines that could not be written: `lines` for the first time, and others that a lost
    /// report had counted.
    pub(super) fn note_unwritten(self: &Arc<Self>, lines: u64, reported_lines: u64) {
        self.totals.dropped.fetch_add(lines, Ordering::Relaxed);
        self.leave_out_many(&self.unwritten, lines + reported_lines);
    }

    /// Counts a line that is left out. Only the first such line since the writer's last report
    /// takes the lock.
    fn leave_out(self: &Arc<Self>, count: &AtomicU64) {
        self.leave_out_many(count, 1);
    }

    fn leave_out_many(self: &Arc<Self>, count: &AtomicU64, lines: u64) {
        // Synchronises with the writer's last report: either that report includes these lines, or
        // this thread sees `has_gap` cleared.
        count.fetch_add(lines, Ordering::AcqRel);
        if !self.has_gap.load(Ordering::Relaxed) && !self.has_gap.swap(true, Ordering::Relaxed) {
            self.gaps.lock().push(Arc::clone(self));
        }
    }

    /// Takes the number of lines that were dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::AcqRel)
    }

    /// Takes the number of lines that could not be written since the last call. Only the writer
    /// counts them.
    pub(super) fn take_unwritten(&self) -> u64 {
        match self.unwritten.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.unwritten.swap(0, Ordering::Relaxed),
        }
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
    use super::{super::Stream, *};

    #[test]
    fn the_bytes_of_an_app_in_the_queue_are_limited() {
        let (queue, messages) = std::sync::mpsc::sync_channel(limits::LOG_QUEUE_LINES);
        let totals = Arc::<Totals>::default();
        let app: AppName = "hello".parse().expect("it is a name");
        let log = AppLog::new(app.clone(), queue, Arc::default(), Arc::default(), Arc::clone(&totals), None);
        let log = Arc::new(log);
        let bytes = 64 * 1024;
        let write = || log.write(LogLine::of_guest(&app, Stream::Stdout, "x".repeat(bytes)));
        let most = limits::LOG_QUEUE_BYTES_PER_APP / bytes;
        (0..most + 5).for_each(|_| write());
        assert_eq!(totals.dropped.load(Ordering::Relaxed), 5);
        assert_eq!(messages.try_iter().count(), most);
        log.refund(bytes);
        (0..2).for_each(|_| write());
        assert_eq!((messages.try_iter().count(), totals.dropped.load(Ordering::Relaxed)), (1, 6));
        assert_eq!(log.take_dropped(), 6);
    }

    #[test]
    fn requests_above_the_rate_limit_are_not_logged() {
        let rate = Rate::default();
        let listed = (0..limits::LOG_ACCESS_LINES_PER_SECOND + 5).filter(|_| rate.allows(7)).count();
        assert_eq!(listed, limits::LOG_ACCESS_LINES_PER_SECOND as usize);
        assert!(rate.allows(8));
    }
}
