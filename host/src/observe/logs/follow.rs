//! Follows an app's log from a given position. A follower that is slower than the app reads missed
//! lines from the files. It loses only lines of removed files, and reports that. Never writes.

use std::{collections::VecDeque, sync::Arc};

use isopod_policy::AppName;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{AppLog, Cursor, LineFilter, LogLine, Logs, LogsError, queue::Posted, read};

/// One follower of a log.
pub(crate) struct Follower {
    logs: Logs,
    log: Arc<AppLog>,
    filter: LineFilter,
    /// The position after the last returned line.
    at: Cursor,
    /// Lines that were read from files and not returned yet, with the positions after them.
    ready: VecDeque<(Cursor, LogLine)>,
    new_lines: Receiver<Posted>,
    /// Whether lines after `at` must be read from the files.
    is_behind: bool,
}

impl Follower {
    /// Returns every line from now on.
    pub(crate) async fn from_now(logs: Logs, log: Arc<AppLog>) -> Result<Self, LogsError> {
        let following = logs.end(log.app()).await?;
        let (filter, at) = (LineFilter::default(), following.end);
        Ok(Self { logs, log, filter, at, ready: VecDeque::new(), new_lines: following.new_lines, is_behind: false })
    }

    /// Returns the newest `limit` selected lines first, and then every later one.
    pub(crate) async fn of_newest(
        logs: Logs,
        log: Arc<AppLog>,
        filter: LineFilter,
        limit: usize,
    ) -> Result<Self, LogsError> {
        let (page, following) = logs.newest(log.app(), filter, limit).await?;
        let ready = page.ends.into_iter().zip(page.items).collect();
        Ok(Self { logs, log, filter, at: following.end, ready, new_lines: following.new_lines, is_behind: false })
    }

    /// Returns every selected line after this position.
    pub(crate) async fn after(
        logs: Logs,
        log: Arc<AppLog>,
        filter: LineFilter,
        position: Cursor,
    ) -> Result<Self, LogsError> {
        let following = logs.end(log.app()).await?;
        let at = position.min(following.end);
        Ok(Self { logs, log, filter, at, ready: VecDeque::new(), new_lines: following.new_lines, is_behind: true })
    }

    /// Waits for the next line and returns it with the position after it. Returns `None` once the
    /// app is deleted, or if its log can't be read.
    pub(crate) async fn next(&mut self) -> Option<(LogLine, Cursor)> {
        loop {
            if let Some((end, line)) = self.ready.pop_front() {
                self.at = self.at.max(end);
                return Some((line, end));
            }
            if self.is_behind {
                self.catch_up().await?;
                continue;
            }
            match self.new_lines.recv().await {
                // The line was already read from a file.
                Ok(posted) if posted.end <= self.at => {}
                Ok(posted) => {
                    self.at = posted.end;
                    if self.filter.selects(&posted.line) {
                        return Some((LogLine::clone(&posted.line), posted.end));
                    }
                }
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Returns whether the app is destroyed, so that no line follows.
    pub(crate) fn is_of_destroyed(&self) -> bool {
        self.log.is_forgotten()
    }

    /// Reads the next lines after `at` from the files.
    async fn catch_up(&mut self) -> Option<()> {
        let after = self.logs.after(self.log.app(), self.at).await;
        // Checked after the read, since the writer may have begun an empty log for a new app with
        // the same name.
        if self.is_of_destroyed() {
            return None;
        }
        let read = match after {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(app = %self.log.app(), %error, "a follower of a log is disconnected");
                return None;
            }
        };
        if let Some(first) = read.first_kept {
            let text = "lines were skipped here: they were removed before they were read";
            self.ready.push_back((first, LogLine::host(self.log.app(), text.to_owned())));
        }
        self.is_behind = !read.is_all;
        self.at = read.end;
        self.ready.extend(read.lines.into_iter().filter(|(_, line)| self.filter.selects(line)));
        Some(())
    }
}

impl Logs {
    /// Returns lines after a position, up to a limit.
    async fn after(&self, app: &AppName, position: Cursor) -> Result<read::LinesAfter, LogsError> {
        // The writer flushes its buffer before it replies.
        let end = self.end(app).await?.end;
        self.read_with(app, move |dir| read::after(dir, position, end)).await
    }
}
