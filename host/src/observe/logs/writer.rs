//! The thread that writes the logs: the only one that creates, appends to and removes segments.
//! Never blocks a sender: lines that can't be written are dropped and counted.

use std::{
    collections::{HashMap, VecDeque},
    io::ErrorKind,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::{Instant, SystemTime},
};

use isopod_policy::AppName;
use tokio::sync::{Notify, broadcast};

use super::{
    AppLog, Config, Cursor, LogLine,
    queue::{Following, Gaps, Message, Posted},
    read::{segment_path, segments},
    request::{Formatter, Request},
    segment::{Open, Waiting, remove_over_size, segment_time},
    wake::Wake,
};
use crate::{failpoint, observe::limits};

pub(super) struct Writer {
    config: Config,
    gaps: Arc<Gaps>,
    /// Notifies waiting readers when the queue has free capacity.
    room: Arc<Notify>,
    open: HashMap<AppName, Open, foldhash::fast::RandomState>,
    followed: HashMap<AppName, Followed>,
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
    /// A report of lines that were left out, and their number.
    Report(LogLine, u64),
}

impl Entry {
    /// Returns the number of lines that are lost with this entry: itself, and those that only it
    /// reports.
    fn lines(&self) -> (u64, u64) {
        match self {
            Self::Line(_) | Self::Request(_) => (1, 0),
            Self::Report(_, reported) => (0, *reported),
        }
    }
}

/// The subscribers of an app's log.
struct Followed {
    sender: broadcast::Sender<Posted>,
    /// The position after the last line.
    end: Cursor,
    /// The number of lines since the log has subscribers.
    number: u64,
    /// Segments that were begun since then, each with the number of lines before it.
    begun: VecDeque<(u64, u64)>,
}

impl Followed {
    /// Counts a line, and returns its number.
    fn count(&mut self, end: Cursor) -> u64 {
        if end.segment != self.end.segment {
            if self.begun.len() >= limits::LOG_FOLLOW_SEGMENTS {
                self.begun.pop_front();
            }
            self.begun.push_back((end.segment, self.number));
        }
        self.end = end;
        self.number += 1;
        self.number
    }
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

impl Writer {
    pub(super) fn new(config: Config, gaps: Arc<Gaps>, room: Arc<Notify>) -> Self {
        Self {
            config,
            gaps,
            room,
            open: HashMap::default(),
            followed: HashMap::new(),
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
                    Message::Line(log, line) => self.take(&log, line.message.len(), Entry::Line(*line)),
                    Message::Request(log, request) => self.take(&log, 0, Entry::Request(request)),
                    Message::End(app, reply) => {
                        self.write_out_one(&app);
                        // The reader may have disconnected.
                        let _ = reply.send(self.end(&app));
                    }
                    Message::Follow(app, reply) => {
                        self.write_out_one(&app);
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
                self.followed.retain(|_, followed| followed.sender.receiver_count() > 0);
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

    fn take(&mut self, log: &Arc<AppLog>, bytes: usize, entry: Entry) {
        log.refund(bytes);
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
            let text = "more requests are not logged here: the rate limit of access lines was exceeded";
            self.report(&log, log.take_unlisted(), text);
        }
    }

    fn report_dropped(&mut self, log: &Arc<AppLog>) {
        let text = "log lines were dropped here: the app logs faster than the host can write";
        self.report(log, log.take_dropped(), text);
        let text = "log lines were dropped here: the host could not write them to its disk";
        self.report(log, log.take_unwritten(), text);
    }

    fn report(&mut self, log: &Arc<AppLog>, lines: u64, text: &str) {
        if lines > 0 {
            self.append(log, Entry::Report(LogLine::host(log.app(), format!("{lines} {text}")), lines));
        }
    }

    fn append(&mut self, log: &Arc<AppLog>, entry: Entry) {
        let app = log.app();
        let end = match self.try_append(log, &entry) {
            Ok(end) => end,
            Err(error) => {
                let (lines, reported) = entry.lines();
                self.lost(log, lines, reported, &error);
                // The log may be in a state that no further line can leave, such as a full segment
                // in a removed folder.
                let open = self.open.remove(app);
                return open.into_iter().for_each(|open| self.lost_with(open, &error));
            }
        };
        let Some(followed) = self.followed.get_mut(app) else { return };
        let number = followed.count(end);
        let line = match entry {
            Entry::Line(line) | Entry::Report(line, _) => line,
            Entry::Request(request) => request.to_line(app),
        };
        let line = (line.message.len() <= limits::LOG_FOLLOW_LINE_BYTES_MAX).then(|| Arc::new(line));
        if followed.sender.send(Posted { end, number, line }).is_err() {
            self.followed.remove(app);
        }
    }

    /// Returns the log position after the line.
    fn try_append(&mut self, log: &Arc<AppLog>, entry: &Entry) -> std::io::Result<Cursor> {
        let app = log.app();
        self.ensure_open(app)?;
        let open = self.open.get_mut(app).ok_or_else(|| std::io::Error::other("the segment is not open"))?;
        if open.is_full(&self.config, self.now) {
            open.write_out()?;
            open.begin_next()?;
            remove_over_size(&self.config, open)?;
        }
        let (lines, reported) = entry.lines();
        open.waiting.log.get_or_insert_with(|| Arc::clone(log));
        open.waiting.lines += lines;
        open.waiting.reported += reported;
        match entry {
            Entry::Line(line) | Entry::Report(line, _) => serde_json::to_writer(&mut open.waiting.bytes, line)?,
            Entry::Request(request) => self.formatter.append(request, app, &mut open.waiting.bytes)?,
        }
        open.waiting.bytes.push(b'\n');
        let end = open.end();
        if open.waiting.bytes.len() >= limits::LOG_FLUSH_BYTES {
            self.write_out_one(app);
        }
        Ok(end)
    }

    /// Opens an app's log if it is closed, for its writes and for its readers. At the limit of open
    /// files, writes out and closes all others first.
    fn ensure_open(&mut self, app: &AppName) -> std::io::Result<()> {
        if self.open.contains_key(app) {
            return Ok(());
        }
        if self.open.len() >= limits::LOG_FILES_OPEN {
            self.write_out();
            self.open.clear();
        }
        let open = Open::last(self.config.folder(app), self.last_segment(app))?;
        self.open.insert(app.clone(), open);
        Ok(())
    }

    /// Returns the last segment that followers know, so that positions never recur after the log's
    /// folder was removed.
    fn last_segment(&self, app: &AppName) -> u64 {
        self.followed.get(app).map_or(0, |followed| followed.end.segment)
    }

    fn write_out(&mut self) {
        let waiting = self.open.iter().filter(|(_, open)| !open.waiting.bytes.is_empty());
        let waiting: Vec<AppName> = waiting.map(|(app, _)| app.clone()).collect();
        waiting.iter().for_each(|app| self.write_out_one(app));
    }

    fn write_out_one(&mut self, app: &AppName) {
        let written = self.open.get_mut(app).map(Open::write_out);
        if let Some(Err(error)) = written
            && let Some(open) = self.open.remove(app)
        {
            // A partial line may have been written. Reopening the log detects that and starts a new
            // segment.
            self.lost_with(open, &error);
        }
    }

    /// Counts the lines that are lost with an open segment.
    fn lost_with(&mut self, open: Open, error: &std::io::Error) {
        let Waiting { log, lines, reported, .. } = open.waiting;
        if let Some(log) = log {
            self.lost(&log, lines, reported, error);
        }
    }

    fn lost(&mut self, log: &Arc<AppLog>, lines: u64, reported: u64, error: &std::io::Error) {
        if lines + reported == 0 {
            return;
        }
        log.note_unwritten(lines, reported);
        if self.reported_at.is_none_or(|at| at.elapsed() >= limits::DISK_ERROR_LOG_INTERVAL) {
            self.reported_at = Some(Instant::now());
            let app = log.app();
            tracing::warn!(%error, %app, "log lines can't be written and are dropped; apps are not affected");
        }
    }

    fn follow(&mut self, app: &AppName) -> Following {
        let end = self.end(app);
        let followed = self.followed.entry(app.clone()).or_insert_with(|| {
            let sender = broadcast::channel(limits::LOG_FOLLOW_LINES).0;
            Followed { sender, end, number: 0, begun: VecDeque::new() }
        });
        let new_lines = followed.sender.subscribe();
        Following { end, number: followed.number, begun: followed.begun.clone(), new_lines }
    }

    /// Returns the current end of the app's log. Without a log, that is the beginning.
    fn end(&mut self, app: &AppName) -> Cursor {
        // A reader never creates a log, and reports an unreadable one when it reads the lines.
        if !self.open.contains_key(app) && self.config.folder(app).is_dir() {
            let _ = self.ensure_open(app);
        }
        match (self.open.get(app), self.followed.get(app)) {
            (Some(open), _) => open.end(),
            (None, Some(followed)) => followed.end,
            (None, None) => Cursor { segment: 0, offset: 0 },
        }
    }

    fn forget(&mut self, app: &AppName) {
        self.open.remove(app);
        self.followed.remove(app);
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
                drop(Open::begin(dir.clone(), segment + 1)?);
            }
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}
