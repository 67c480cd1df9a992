//! Follows an app's log from a given position. A follower that is slower than the app reads missed
//! lines from the files. It loses only lines of removed files, and reports their number. Never
//! writes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use isopod_policy::AppName;
use jiff::Timestamp;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    AppLog, Cursor, LineFilter, LogLine, Logs, LogsError,
    queue::{Following, Posted},
    read,
};

/// One follower of a log.
pub(crate) struct Follower {
    logs: Logs,
    log: Arc<AppLog>,
    filter: LineFilter,
    /// The position after the last line that was read.
    at: Cursor,
    /// The number of lines up to `at`, as the writer counts them, if known.
    number: Option<u64>,
    /// Lines that were read from files and not returned yet, with the positions after them.
    ready: VecDeque<(Cursor, LogLine)>,
    new_lines: Receiver<Posted>,
    /// Whether lines after `at` must be read from the files.
    is_behind: bool,
    /// Whether no later line can match the filter.
    is_past: bool,
}

/// Why a follower has no further line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowEnd {
    /// The app was destroyed.
    Destroyed,
    /// The latest time of the filter has passed.
    Past,
    /// The log can't be read, or the host stops.
    Unreadable,
}

impl Follower {
    /// Returns every line from now on.
    pub(crate) async fn from_now(logs: Logs, log: Arc<AppLog>) -> Result<Self, LogsError> {
        let following = logs.follow(log.app()).await?;
        let (filter, at, number) = (LineFilter::default(), following.end, Some(following.number));
        let (ready, new_lines) = (VecDeque::new(), following.new_lines);
        Ok(Self { logs, log, filter, at, number, ready, new_lines, is_behind: false, is_past: false })
    }

    /// Returns the newest `limit` selected lines first, and then every later one.
    pub(crate) async fn of_newest(
        logs: Logs,
        log: Arc<AppLog>,
        filter: LineFilter,
        limit: usize,
    ) -> Result<Self, LogsError> {
        let (page, following) = logs.newest(log.app(), filter.clone(), limit).await?;
        let ready = page.ends.into_iter().zip(page.items).collect();
        let (at, number, new_lines) = (following.end, Some(following.number), following.new_lines);
        Ok(Self { logs, log, filter, at, number, ready, new_lines, is_behind: false, is_past: false })
    }

    /// Returns every selected line after this position.
    pub(crate) async fn after(
        logs: Logs,
        log: Arc<AppLog>,
        filter: LineFilter,
        position: Cursor,
    ) -> Result<Self, LogsError> {
        let following = logs.follow(log.app()).await?;
        let (at, ready, new_lines) = (position.min(following.end), VecDeque::new(), following.new_lines);
        Ok(Self { logs, log, filter, at, number: None, ready, new_lines, is_behind: true, is_past: false })
    }

    /// Reads the first stored lines, so that an unreadable log is reported before the first line is
    /// awaited. Returns the position after which the lines follow.
    pub(crate) async fn prepare(&mut self) -> Result<Cursor, FollowEnd> {
        let start = self.at;
        if self.is_behind {
            self.catch_up().await?;
        }
        Ok(start)
    }

    /// Returns whether all lines that were stored at the last read were returned.
    pub(crate) fn has_caught_up(&self) -> bool {
        !self.is_behind && self.ready.is_empty()
    }

    /// Returns the position after the last line, once `next` has returned an error.
    pub(crate) fn position(&self) -> Cursor {
        self.at
    }

    /// Waits for the next line and returns it with the position after it.
    pub(crate) async fn next(&mut self) -> Result<(LogLine, Cursor), FollowEnd> {
        loop {
            if let Some((end, line)) = self.ready.pop_front() {
                return Ok((line, end));
            }
            if self.is_behind {
                self.catch_up().await?;
                continue;
            }
            if self.is_past {
                return Err(FollowEnd::Past);
            }
            let received = match self.filter.time_left(Timestamp::now()) {
                None => self.new_lines.recv().await,
                Some(Duration::ZERO) => {
                    // Lines that were written until now may still be in the writer's queue.
                    (self.is_past, self.is_behind) = (true, true);
                    continue;
                }
                Some(left) => match tokio::time::timeout(left, self.new_lines.recv()).await {
                    Ok(received) => received,
                    Err(_) => continue,
                },
            };
            match received {
                // The line was already read from a file.
                Ok(posted) if posted.end <= self.at => {}
                Ok(Posted { line: None, .. }) | Err(RecvError::Lagged(_)) => self.is_behind = true,
                Ok(Posted { end, number, line: Some(line) }) => {
                    (self.at, self.number) = (end, Some(number));
                    if self.filter.selects(&line) {
                        return Ok((LogLine::clone(&line), end));
                    }
                }
                Err(RecvError::Closed) if self.log.is_forgotten() => return Err(FollowEnd::Destroyed),
                // The host stops.
                Err(RecvError::Closed) => return Err(FollowEnd::Unreadable),
            }
        }
    }

    /// Reads the next lines after `at` from the files.
    async fn catch_up(&mut self) -> Result<(), FollowEnd> {
        let after = self.logs.after(self.log.app(), self.filter.clone(), self.at).await;
        // Checked after the read, since the writer may have begun an empty log for a new app with
        // the same name.
        if self.log.is_forgotten() {
            return Err(FollowEnd::Destroyed);
        }
        let (read, following) = match after {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(app = %self.log.app(), %error, "a follower of a log is disconnected");
                return Err(FollowEnd::Unreadable);
            }
        };
        if let Some(first) = read.first_kept {
            let before_first = following.begun.iter().find(|(segment, _)| *segment == first.segment);
            let before_first = before_first.map(|(_, number)| *number);
            let skipped = before_first.zip(self.number).map(|(first, read)| first.saturating_sub(read));
            self.number = before_first;
            let text = match skipped {
                // The removed segment was read to its end.
                Some(0) => None,
                Some(1) => Some("1 line was skipped here: it was removed before it was read".to_owned()),
                Some(lines) => {
                    Some(format!("{lines} lines were skipped here: they were removed before they were read"))
                }
                None => Some("lines were skipped here: they were removed before they were read".to_owned()),
            };
            self.ready.extend(text.map(|text| (first, LogLine::host(self.log.app(), text))));
        }
        self.is_behind = !read.is_all;
        self.at = read.end;
        self.number = match read.is_all {
            true => Some(following.number),
            false => self.number.map(|number| number + read.read_lines),
        };
        self.ready.extend(read.lines);
        Ok(())
    }
}

impl Logs {
    /// Returns selected lines after a position, up to a limit, and the end of the log.
    async fn after(
        &self,
        app: &AppName,
        filter: LineFilter,
        position: Cursor,
    ) -> Result<(read::LinesAfter, Following), LogsError> {
        // The writer flushes its buffer before it replies.
        let following = self.follow(app).await?;
        let end = following.end;
        let read = self.read_with(app, move |dir| read::after(dir, &filter, position, end)).await?;
        Ok((read, following))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Service, Stream};
    use super::*;

    #[tokio::test]
    async fn a_removed_segment_that_was_read_is_not_reported() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let (apps_dir, app): (_, AppName) = (dir.path().to_owned(), "hello".parse().expect("is a name"));
        // Each new segment replaces the one before.
        let config =
            Config { apps_dir, segment_bytes: 4 << 10, kept_bytes: 4 << 10, kept_for: Duration::from_secs(3600) };
        let service = Service::start(config, None).expect("starts");
        let log = service.handle().app(&app);
        let mut follower = Follower::from_now(service.handle(), Arc::clone(&log)).await.expect("follows");
        log.write(LogLine::host(&app, "x".repeat(5_000)));
        assert_eq!(follower.next().await.expect("a line").0.message.len(), 5_000);
        // A follower reads a long line from its segment.
        log.write(LogLine::of_guest(&app, Stream::Log, "y".repeat(10_000)));
        assert_eq!(follower.next().await.expect("a line").0.message.len(), 10_000);
        service.stop();
    }
}
