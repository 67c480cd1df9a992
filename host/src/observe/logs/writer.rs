//! The thread that writes the logs: the only code that creates, appends to and removes segments.
//! Never blocks a sender: lines that can't be written are dropped and counted.

use std::{
    collections::HashMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant, SystemTime},
};

use isopod_policy::AppName;
use tokio::sync::{Notify, broadcast};

use super::{
    AppLog, Config, Cursor, LogLine,
    queue::{Following, Gaps, Message, Posted},
    read::{segment_path, segments},
    request::{Formatter, Request},
    wake::Wake,
};
use crate::{failpoint, observe::limits};

pub(super) struct Writer {
    config: Config,
    gaps: Arc<Gaps>,
    dropped: Arc<AtomicU64>,
    /// Notifies waiting readers when the queue has free capacity.
    room: Arc<Notify>,
    open: HashMap<AppName, Open, foldhash::fast::RandomState>,
    followers: HashMap<AppName, broadcast::Sender<Posted>>,
    formatter: Formatter,
    /// The time of the current batch.
    now: SystemTime,
    reported_at: Option<Instant>,
    aging: Aging,
}

/// An entry to append to a log.
enum Entry {
    Line(LogLine),
    Request(Request),
}

/// The writer's progress through the logs of all apps.
#[derive(Default)]
struct Aging {
    /// The remaining apps of the current pass.
    left: Vec<AppName>,
    /// When the current pass began; `None` before the first.
    begun: Option<Instant>,
}

impl Aging {
    /// Returns the next few apps. A new pass begins some time after the start of the previous one.
    fn next(&mut self, config: &Config) -> Vec<AppName> {
        let pause = segment_time(config).min(limits::LOG_AGING_INTERVAL_MAX);
        if self.left.is_empty() && self.begun.is_none_or(|begun| begun.elapsed() >= pause) {
            self.begun = Some(Instant::now());
            let entries = std::fs::read_dir(&config.apps_dir).into_iter().flatten().flatten();
            self.left = entries.filter_map(|app| app.file_name().to_str()?.parse().ok()).collect();
        }
        self.left.split_off(self.left.len().saturating_sub(limits::LOG_AGING_CHECKS_PER_SECOND))
    }
}

/// An app's open segment, with a buffer of lines to write.
struct Open {
    dir: PathBuf,
    file: File,
    segment: u64,
    /// When the segment received its first line.
    begun: SystemTime,
    bytes: u64,
    waiting: Vec<u8>,
    waiting_lines: u64,
}

impl Writer {
    pub(super) fn new(config: Config, gaps: Arc<Gaps>, dropped: Arc<AtomicU64>, room: Arc<Notify>) -> Self {
        Self {
            config,
            gaps,
            dropped,
            room,
            open: HashMap::default(),
            followers: HashMap::new(),
            formatter: Formatter::default(),
            now: SystemTime::now(),
            reported_at: None,
            aging: Aging::default(),
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>, wake: &Wake) {
        let mut checked_at = Instant::now();
        let mut first = None;
        loop {
            failpoint::here("log-writer");
            self.now = SystemTime::now();
            let mut taken = 0;
            for message in first.take().into_iter().chain(messages.try_iter().take(limits::LOG_MESSAGES_PER_FLUSH_MAX))
            {
                taken += 1;
                match message {
                    Message::Line(log, line) => self.take(&log, Entry::Line(*line)),
                    Message::Request(log, request) => self.take(&log, Entry::Request(request)),
                    Message::Follow(app, reply) => {
                        self.write_out();
                        // The reader may have disconnected.
                        drop(reply.send(self.follow(&app)));
                    }
                    Message::Forget(app, done) => {
                        self.forget(&app);
                        let _ = done.send(());
                    }
                    Message::Stop => {
                        self.report_gaps();
                        return self.write_out();
                    }
                }
            }
            self.room.notify_waiters();
            let is_check_due = checked_at.elapsed() >= limits::LOG_CHECK_INTERVAL;
            if is_check_due {
                self.report_gaps();
            }
            self.write_out();
            if is_check_due {
                checked_at = Instant::now();
                self.followers.retain(|_, followers| followers.receiver_count() > 0);
                self.remove_old();
            }
            if taken >= limits::LOG_MESSAGES_PER_FLUSH_MAX {
                continue;
            }
            wake.announce_sleep();
            match messages.try_recv() {
                Ok(message) => first = Some(message),
                Err(TryRecvError::Empty) => wake.sleep(limits::LOG_CHECK_INTERVAL),
                Err(TryRecvError::Disconnected) => return,
            }
            wake.gather();
        }
    }

    fn take(&mut self, log: &Arc<AppLog>, entry: Entry) {
        let before = log.pending.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a written line was enqueued");
        if log.is_forgotten() {
            return;
        }
        self.report_dropped(log);
        self.append(log, entry);
    }

    /// Reports the lines that were left out since the last report, also of logs without a further
    /// line.
    fn report_gaps(&mut self) {
        for log in self.gaps.take() {
            if log.is_forgotten() {
                continue;
            }
            self.report_dropped(&log);
            let unlisted = log.take_unlisted();
            if unlisted > 0 {
                let text = format!(
                    "{unlisted} more requests are not logged here: the rate limit of access lines was exceeded"
                );
                self.append(&log, Entry::Line(LogLine::host(log.app(), text)));
            }
        }
    }

    fn report_dropped(&mut self, log: &Arc<AppLog>) {
        let dropped = log.take_dropped();
        if dropped > 0 {
            let text = format!("{dropped} log lines were dropped here: the app logs faster than the host can write");
            self.append(log, Entry::Line(LogLine::host(log.app(), text)));
        }
    }

    fn append(&mut self, log: &Arc<AppLog>, entry: Entry) {
        let app = log.app();
        let end = match self.try_append(app, &entry) {
            Ok(end) => end,
            Err(error) => return self.lost(1, &error),
        };
        let Some(followers) = self.followers.get(app) else { return };
        let line = match entry {
            Entry::Line(line) => line,
            Entry::Request(request) => request.to_line(app),
        };
        if followers.send(Posted { end, line: Arc::new(line) }).is_err() {
            self.followers.remove(app);
        }
    }

    /// Returns the log position after the line.
    fn try_append(&mut self, app: &AppName, entry: &Entry) -> std::io::Result<Cursor> {
        if !self.open.contains_key(app) {
            if self.open.len() >= limits::LOG_FILES_OPEN {
                self.write_out();
                self.open.clear();
            }
            self.open.insert(app.clone(), Open::last(self.config.folder(app))?);
        }
        let open = self.open.get_mut(app).ok_or_else(|| std::io::Error::other("the segment is not open"))?;
        if open.is_full(&self.config, self.now) {
            open.write_out()?;
            *open = Open::new(open.dir.clone(), open.segment + 1)?;
            remove_over_size(&self.config, open)?;
        }
        match entry {
            Entry::Line(line) => serde_json::to_writer(&mut open.waiting, line)?,
            Entry::Request(request) => self.formatter.append(request, app, &mut open.waiting)?,
        }
        open.waiting.push(b'\n');
        open.waiting_lines += 1;
        Ok(Cursor { segment: open.segment, offset: open.bytes + open.waiting.len() as u64 })
    }

    fn write_out(&mut self) {
        let mut failed = Vec::new();
        for (app, open) in &mut self.open {
            let lines = open.waiting_lines;
            if let Err(error) = open.write_out() {
                failed.push((app.clone(), lines, error));
            }
        }
        for (app, lines, error) in failed {
            // A partial line may have been written. Reopening the log detects that and starts a new
            // segment.
            self.open.remove(&app);
            self.lost(lines, &error);
        }
    }

    fn lost(&mut self, lines: u64, error: &std::io::Error) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        if self.reported_at.is_none_or(|at| at.elapsed() >= limits::DISK_ERROR_LOG_INTERVAL) {
            self.reported_at = Some(Instant::now());
            tracing::warn!(%error, lines, "log lines can't be written and are dropped; apps are not affected");
        }
    }

    fn follow(&mut self, app: &AppName) -> Following {
        let end = self.end(app);
        let followers = self.followers.entry(app.clone());
        let new_lines = followers.or_insert_with(|| broadcast::channel(limits::LOG_FOLLOW_LINES).0).subscribe();
        Following { end, new_lines }
    }

    /// Returns the current end of the app's log. Without a log, that is the beginning.
    fn end(&mut self, app: &AppName) -> Cursor {
        if !self.open.contains_key(app) {
            let dir = self.config.folder(app);
            if dir.is_dir()
                && let Ok(open) = Open::last(dir)
            {
                self.open.insert(app.clone(), open);
            }
        }
        match self.open.get(app) {
            Some(open) => Cursor { segment: open.segment, offset: open.bytes },
            None => Cursor { segment: 0, offset: 0 },
        }
    }

    fn forget(&mut self, app: &AppName) {
        self.open.remove(app);
        self.followers.remove(app);
        if let Err(error) = std::fs::remove_dir_all(self.config.folder(app))
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, %app, "the log of a destroyed app can't be removed");
        }
    }

    /// Continues the pass through the logs of all apps, active or not, a few at a time.
    fn remove_old(&mut self) {
        for app in self.aging.next(&self.config) {
            match self.remove_over_age(&app) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, %app, "old log segments can't be removed");
                }
                // The log of an app that is being destroyed is removed with it.
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn remove_over_age(&mut self, app: &AppName) -> std::io::Result<()> {
        let dir = self.config.folder(app);
        let Some(oldest) = SystemTime::now().checked_sub(self.config.kept_for) else { return Ok(()) };
        let segments = segments(&dir)?;
        for segment in &segments {
            let path = segment_path(&dir, *segment);
            let found = std::fs::metadata(&path)?;
            if found.modified()? >= oldest {
                continue;
            }
            if Some(segment) == segments.last() {
                if found.len() == 0 {
                    continue;
                }
                // An empty segment replaces it, so that positions are never reused.
                self.open.remove(app);
                drop(Open::new(dir.clone(), segment + 1)?);
            }
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Open {
    /// Opens the newest segment to append to it, or a new segment if the last line is incomplete.
    fn last(dir: PathBuf) -> std::io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let Some(segment) = segments(&dir)?.last().copied() else { return Self::new(dir, 1) };
        let path = segment_path(&dir, segment);
        let found = std::fs::metadata(&path)?;
        let bytes = found.len();
        if bytes > 0 && !ends_with_newline(&path, bytes)? {
            return Self::new(dir, segment + 1);
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        let begun = found.created().or_else(|_| found.modified())?;
        Ok(Self { dir, file, segment, begun, bytes, waiting: Vec::new(), waiting_lines: 0 })
    }

    fn new(dir: PathBuf, segment: u64) -> std::io::Result<Self> {
        let path = segment_path(&dir, segment);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { dir, file, segment, begun: SystemTime::now(), bytes: 0, waiting: Vec::new(), waiting_lines: 0 })
    }

    /// Returns whether the next line begins another segment. Small segments are closed too, so that
    /// their lines can expire.
    fn is_full(&self, config: &Config, now: SystemTime) -> bool {
        let bytes = self.bytes + self.waiting.len() as u64;
        let is_old = || now.duration_since(self.begun).is_ok_and(|age| age >= segment_time(config));
        bytes >= config.segment_bytes || (bytes > 0 && is_old())
    }

    fn write_out(&mut self) -> std::io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.waiting)?;
        self.bytes += self.waiting.len() as u64;
        self.waiting.clear();
        self.waiting_lines = 0;
        Ok(())
    }
}

/// Returns how long one segment receives lines, regardless of their number.
fn segment_time(config: &Config) -> Duration {
    (config.kept_for / limits::LOG_SEGMENTS_BY_AGE).max(limits::LOG_CHECK_INTERVAL)
}

fn ends_with_newline(path: &std::path::Path, bytes: u64) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, bytes - 1)?;
    Ok(last == *b"\n")
}

/// Removes the oldest segments until the total size is within the limit.
fn remove_over_size(config: &Config, open: &Open) -> std::io::Result<()> {
    let mut sizes = Vec::new();
    for segment in segments(&open.dir)? {
        let path = segment_path(&open.dir, segment);
        sizes.push((segment, std::fs::metadata(&path)?.len(), path));
    }
    let mut total: u64 = sizes.iter().map(|(_, bytes, _)| bytes).sum();
    for (segment, bytes, path) in sizes {
        if total <= config.kept_bytes.saturating_sub(config.segment_bytes) || segment == open.segment {
            break;
        }
        std::fs::remove_file(path)?;
        total -= bytes;
    }
    Ok(())
}
