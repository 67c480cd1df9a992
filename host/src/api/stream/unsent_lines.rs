//! A bounded buffer between a log follower and an event stream. When full, it drops the oldest new
//! lines and counts them. Never reads a log.

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
    /// The number of lines that are missing before the next line, with the position after them.
    Missed(u64, Cursor),
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
    added: Notify,
    taken: Notify,
}

#[derive(Default)]
struct Held {
    lines: VecDeque<(LogLine, Cursor)>,
    bytes: usize,
    /// The number of dropped lines, and the position after them.
    missed: Option<(u64, Cursor)>,
    end: Option<FollowEnd>,
}

impl UnsentLines {
    /// Starts to follow a log.
    pub(super) fn of(follower: Follower) -> Self {
        let lines = Arc::<Lines>::default();
        let following = tokio::spawn(fill(Arc::clone(&lines), follower));
        Self { lines, _following: AbortOnDropHandle::new(following) }
    }

    /// Waits for what follows.
    pub(super) async fn next(&self) -> Unsent {
        loop {
            // Subscribed before the check, so that no change in between is missed.
            let added = self.lines.added.notified();
            if let Some(unsent) = self.lines.take() {
                return unsent;
            }
            added.await;
        }
    }
}

/// Adds the lines of a log until it ends. The stored lines wait for the client: a reconnecting
/// client is not slow because it has missed many lines. Later lines don't wait.
async fn fill(lines: Arc<Lines>, mut follower: Follower) {
    while !follower.has_caught_up() {
        lines.until_taken(|held| held.bytes < limits::STREAM_UNSENT_LOG_BYTES).await;
        match follower.next().await {
            Ok((line, end)) => lines.push(line, end),
            Err(end) => return lines.end(end),
        }
    }
    lines.until_taken(|held| held.lines.is_empty()).await;
    loop {
        match follower.next().await {
            Ok((line, end)) => lines.push(line, end),
            Err(end) => return lines.end(end),
        }
        lines.drop_oldest();
    }
}

fn size(line: &LogLine) -> usize {
    line.message.len() + size_of::<LogLine>()
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: LogLine, end: Cursor) {
        let mut held = self.lock();
        held.bytes += size(&line);
        held.lines.push_back((line, end));
        drop(held);
        self.added.notify_one();
    }

    /// Drops the oldest lines beyond the limit, but never the newest.
    fn drop_oldest(&self) {
        let mut held = self.lock();
        while held.bytes > limits::STREAM_UNSENT_LOG_BYTES && held.lines.len() > 1 {
            let Some((_, end)) = held.pop() else { return };
            let missed = held.missed.map_or(0, |(missed, _)| missed);
            held.missed = Some((missed + 1, end));
        }
    }

    fn end(&self, end: FollowEnd) {
        self.lock().end = Some(end);
        self.added.notify_one();
    }

    /// Waits until the client has taken enough lines.
    async fn until_taken(&self, is_enough: impl Fn(&Held) -> bool) {
        loop {
            // Subscribed before the check, so that no change in between is missed.
            let taken = self.taken.notified();
            if is_enough(&self.lock()) {
                return;
            }
            taken.await;
        }
    }

    fn take(&self) -> Option<Unsent> {
        let mut held = self.lock();
        if let Some((missed, end)) = held.missed.take() {
            return Some(Unsent::Missed(missed, end));
        }
        let Some((line, end)) = held.pop() else { return held.end.take().map(Unsent::End) };
        drop(held);
        self.taken.notify_one();
        Some(Unsent::Line(Box::new(line), end))
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
            lines.push(LogLine { message: text, ..LogLine::host(&app, String::new()) }, end(number));
            lines.drop_oldest();
        }
        lines.end(FollowEnd::Destroyed);
        let Some(Unsent::Missed(missed, position)) = lines.take() else { panic!("lines were dropped") };
        assert!((91..100).contains(&missed), "{missed}");
        // A client that reconnects after the event doesn't receive the missed lines.
        assert_eq!(position, end(missed - 1));
        for number in missed..100 {
            let Some(Unsent::Line(line, position)) = lines.take() else { panic!("line {number}") };
            assert!(line.message.starts_with(&format!("{number} ")) && position == end(number));
        }
        assert!(matches!(lines.take(), Some(Unsent::End(FollowEnd::Destroyed))) && lines.take().is_none());
        assert_eq!(lines.lock().bytes, 0);
    }
}
