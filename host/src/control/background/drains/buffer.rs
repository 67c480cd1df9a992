//! The buffer of one drain: bounded lines that wait for their endpoint, and the counters that users
//! see. A full buffer drops new lines and counts them, so a slow endpoint never delays an app.
//! Never sends a line.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{control::limits, observe::logs::LogLine};

/// The bytes that the buffers of all drains hold together beyond their own parts.
#[derive(Debug, Default)]
pub(super) struct SharedBytes(AtomicUsize);

/// The buffer of one drain.
#[derive(Default)]
pub(super) struct Buffer {
    shared: Arc<SharedBytes>,
    state: Mutex<State>,
    added: Notify,
}

#[derive(Default)]
struct State {
    /// Oldest first.
    lines: VecDeque<LogLine>,
    bytes: usize,
    counters: Counters,
}

/// The counters of a drain since the host's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Lines that wait to be sent.
    pub(crate) waiting: usize,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    /// Why the last attempt failed; `None` if it succeeded.
    pub(crate) error: Option<String>,
}

impl SharedBytes {
    /// Takes bytes, if the limit permits.
    fn take(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= limits::DRAIN_SHARED_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn release(&self, bytes: usize) {
        let held = self.0.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(held >= bytes, "released bytes were taken");
    }
}

/// Returns the bytes of a buffer that count as shared.
fn shared_part(bytes: usize) -> usize {
    bytes.saturating_sub(limits::DRAIN_OWN_BYTES)
}

impl Buffer {
    pub(super) fn new(shared: Arc<SharedBytes>) -> Self {
        Self { shared, state: Mutex::default(), added: Notify::default() }
    }

    /// Adds a line. A full buffer drops it.
    pub(super) fn push(&self, line: LogLine) {
        let mut state = self.lock();
        let bytes = state.bytes + bytes_of(&line);
        let is_full = state.lines.len() >= limits::DRAIN_LINES_MAX || bytes > limits::DRAIN_BYTES_MAX;
        if is_full || !self.shared.take(shared_part(bytes) - shared_part(state.bytes)) {
            state.counters.dropped += 1;
            return;
        }
        state.bytes = bytes;
        state.lines.push_back(line);
        drop(state);
        self.added.notify_one();
    }

    /// Waits for a line. Returns whether the lines fill a batch.
    pub(super) async fn filled(&self) -> bool {
        loop {
            // Registered before the check, so that no line is missed.
            let added = self.added.notified();
            let (lines, bytes) = {
                let state = self.lock();
                (state.lines.len(), state.bytes)
            };
            if lines > 0 {
                return lines >= limits::DRAIN_BATCH_LINES_MAX || bytes >= limits::DRAIN_BATCH_BYTES_MAX;
            }
            added.await;
        }
    }

    /// Returns the oldest lines without removing them.
    pub(super) fn batch(&self) -> Vec<LogLine> {
        let state = self.lock();
        let mut bytes = 0;
        let fits = |line: &&LogLine| {
            bytes += bytes_of(line);
            bytes <= limits::DRAIN_BATCH_BYTES_MAX
        };
        let mut batch: Vec<_> =
            state.lines.iter().take(limits::DRAIN_BATCH_LINES_MAX).take_while(fits).cloned().collect();
        if batch.is_empty() {
            // A single line may be larger than a batch.
            batch.extend(state.lines.front().cloned());
        }
        batch
    }

    /// Removes the oldest lines, which the endpoint has accepted.
    pub(super) fn sent(&self, lines: usize) {
        let mut state = self.lock();
        let removed = self.remove(&mut state, lines);
        state.counters.sent += removed;
        state.counters.error = None;
    }

    /// Removes the oldest lines, which the endpoint will never accept.
    pub(super) fn refused(&self, lines: usize, why: String) {
        let mut state = self.lock();
        let removed = self.remove(&mut state, lines);
        state.counters.dropped += removed;
        state.counters.error = Some(why);
    }

    /// Records a failed attempt. Returns whether the attempt before succeeded.
    pub(super) fn failed(&self, why: String) -> bool {
        self.lock().counters.error.replace(why).is_none()
    }

    pub(super) fn counters(&self) -> Counters {
        let state = self.lock();
        Counters { waiting: state.lines.len(), ..state.counters.clone() }
    }

    /// Removes the oldest lines, and returns their number.
    fn remove(&self, state: &mut State, lines: usize) -> u64 {
        let before = state.bytes;
        let removed = state.remove(lines);
        self.shared.release(shared_part(before) - shared_part(state.bytes));
        removed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.release(shared_part(state.bytes));
    }
}

impl State {
    /// Removes the oldest lines, and returns their number.
    fn remove(&mut self, lines: usize) -> u64 {
        let lines = lines.min(self.lines.len());
        let bytes: usize = self.lines.drain(..lines).map(|line| bytes_of(&line)).sum();
        debug_assert!(self.bytes >= bytes, "the bytes of buffered lines are counted");
        self.bytes = self.bytes.saturating_sub(bytes);
        lines as u64
    }
}

/// Returns the bytes that a line is charged: its texts, and a fixed part for its other members.
fn bytes_of(line: &LogLine) -> usize {
    line.message.len() + line.access.as_ref().map_or(0, |access| access.path.len()) + limits::DRAIN_LINE_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine::host(&"shop".parse().expect("a valid name"), text.to_owned())
    }

    #[test]
    fn a_full_buffer_drops_new_lines_and_counts_them() {
        let buffer = Buffer::default();
        (0..limits::DRAIN_LINES_MAX + 3).for_each(|number| buffer.push(line(&number.to_string())));
        let counters = buffer.counters();
        assert_eq!((counters.waiting, counters.dropped), (limits::DRAIN_LINES_MAX, 3));
        assert_eq!(buffer.batch()[0].message, "0");
    }

    #[tokio::test]
    async fn many_lines_fill_a_batch() {
        let buffer = Buffer::default();
        buffer.push(line("one"));
        assert!(!buffer.filled().await);
        (1..limits::DRAIN_BATCH_LINES_MAX).for_each(|_| buffer.push(line("another")));
        assert!(buffer.filled().await && buffer.batch().len() == limits::DRAIN_BATCH_LINES_MAX);
    }

    #[test]
    fn the_bytes_of_a_buffer_are_bounded() {
        let buffer = Buffer::default();
        let large = "x".repeat(8 * 1024);
        (0..2_000).for_each(|_| buffer.push(line(&large)));
        let counters = buffer.counters();
        assert!(counters.waiting * large.len() <= limits::DRAIN_BYTES_MAX && counters.dropped > 0, "{counters:?}");
        assert!(buffer.batch().len() * large.len() <= limits::DRAIN_BATCH_BYTES_MAX);
        buffer.sent(usize::MAX);
        assert_eq!((buffer.counters().waiting, buffer.lock().bytes), (0, 0));
    }

    #[test]
    fn the_bytes_of_all_buffers_are_bounded_and_each_has_a_part_of_its_own() {
        let all = Arc::<SharedBytes>::default();
        let large = "x".repeat(8 * 1024);
        let full = || {
            let buffer = Buffer::new(Arc::clone(&all));
            (0..600).for_each(|_| buffer.push(line(&large)));
            buffer
        };
        let bytes = |buffer: &Buffer| buffer.lock().bytes;
        let mut buffers: Vec<Buffer> = (0..30).map(|_| full()).collect();
        let shared_bytes: usize = buffers.iter().map(|buffer| shared_part(bytes(buffer))).sum();
        assert!(shared_bytes <= limits::DRAIN_SHARED_BYTES_MAX && shared_bytes == all.0.load(Ordering::Relaxed));
        let last = buffers.pop().expect("a buffer");
        assert!(bytes(&last) <= limits::DRAIN_OWN_BYTES && last.counters().waiting > 20, "{:?}", last.counters());
        buffers[0].sent(usize::MAX);
        assert!(bytes(&full()) > limits::DRAIN_OWN_BYTES, "the bytes of sent lines are free");
        drop((buffers, last));
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_batch_stays_until_its_outcome_is_known() {
        let buffer = Buffer::default();
        (0..3).for_each(|number| buffer.push(line(&number.to_string())));
        assert_eq!(buffer.batch().len(), 3);
        assert!(buffer.failed("status 500".to_owned()) && !buffer.failed("status 500".to_owned()));
        assert_eq!(buffer.batch().len(), 3);
        buffer.sent(2);
        buffer.refused(1, "status 400".to_owned());
        let error = Some("status 400".to_owned());
        assert_eq!(buffer.counters(), Counters { waiting: 0, sent: 2, dropped: 1, error });
    }
}
