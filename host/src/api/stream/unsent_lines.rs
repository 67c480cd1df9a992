//! The lines of a followed log that a stream has not sent. It keeps the newest lines within its
//! limit, and counts the others. Never reads a log.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    api::limits,
    observe::logs::{Cursor, FollowEnd, Follower, LogLine},
};

/// What a stream sends next.
#[derive(Debug)]
pub(super) enum Unsent {
    /// A line with the position after it.
    Line(Box<LogLine>, Cursor),
    /// The number of lines that are missing before the next line.
    Missed(u64),
    /// No further line follows.
    End(FollowEnd),
}

/// The lines of one stream. A task follows the log meanwhile, so that a slow client neither delays
/// nor repeats the reads of files.
pub(super) struct UnsentLines {
    lines: Arc<Lines>,
    _following: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Lines {
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Default)]
struct Held {
    lines: VecDeque<(LogLine, Cursor)>,
    bytes: usize,
    missed: u64,
    end: Option<FollowEnd>,
}

impl UnsentLines {
    /// Starts to follow a log.
    pub(super) fn of(mut follower: Follower) -> Self {
        let lines = Arc::<Lines>::default();
        let filled = Arc::clone(&lines);
        let following = tokio::spawn(async move {
            loop {
                match follower.next().await {
                    Ok((line, end)) => filled.push(line, end),
                    Err(end) => return filled.end(end),
                }
            }
        });
        Self { lines, _following: AbortOnDropHandle::new(following) }
    }

    /// Waits for what follows.
    pub(super) async fn next(&self) -> Unsent {
        loop {
            // Subscribed before the check, so that no change in between is missed.
            let changed = self.lines.changed.notified();
            if let Some(unsent) = self.lines.take() {
                return unsent;
            }
            changed.await;
        }
    }
}

fn size(line: &LogLine) -> usize {
    line.message.len() + size_of::<LogLine>()
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line. Drops the oldest lines beyond the limit, but never the newest.
    fn push(&self, line: LogLine, end: Cursor) {
        let mut held = self.lock();
        held.bytes += size(&line);
        held.lines.push_back((line, end));
        while held.bytes > limits::STREAM_UNSENT_LOG_BYTES && held.lines.len() > 1 {
            held.missed += 1;
            held.pop();
        }
        drop(held);
        self.changed.notify_one();
    }

    fn end(&self, end: FollowEnd) {
        self.lock().end = Some(end);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<Unsent> {
        let mut held = self.lock();
        match std::mem::take(&mut held.missed) {
            0 => held
                .pop()
                .map(|(line, end)| Unsent::Line(Box::new(line), end))
                .or_else(|| held.end.take().map(Unsent::End)),
            missed => Some(Unsent::Missed(missed)),
        }
    }
}

impl Held {
    fn pop(&mut self) -> Option<(LogLine, Cursor)> {
        let oldest = self.lines.pop_front()?;
        debug_assert!(self.bytes >= size(&oldest.0), "a held line was counted");
        self.bytes -= size(&oldest.0);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_beyond_the_limit_are_counted() {
        let lines = Lines::default();
        let app = "hello".parse().expect("is a name");
        let end = |offset| Cursor { segment: 1, offset };
        for number in 0..100 {
            let text = format!("{number} {}", "x".repeat(limits::STREAM_UNSENT_LOG_BYTES / 10));
            lines.push(LogLine::host(&app, text), end(number));
        }
        lines.end(FollowEnd::Destroyed);
        let Some(Unsent::Missed(missed)) = lines.take() else { panic!("lines were dropped") };
        assert!((91..100).contains(&missed), "{missed}");
        for number in missed..100 {
            let Some(Unsent::Line(line, position)) = lines.take() else { panic!("line {number}") };
            assert!(line.message.starts_with(&format!("{number} ")) && position == end(number));
        }
        assert!(matches!(lines.take(), Some(Unsent::End(FollowEnd::Destroyed))) && lines.take().is_none());
        assert_eq!(lines.lock().bytes, 0);
    }
}
