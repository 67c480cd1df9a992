//! A response that the client of an HTTP/2 connection hasn't read to its end. The client permits
//! each byte by flow control, so the kernel doesn't show that it reads nothing. Limits the pieces
//! of the response that hyper holds. Never resets a connection.

use super::Line;
use crate::http::limits;
use slab::Slab;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// The unread responses of a connection.
pub(super) type Responses = Mutex<Slab<Progress>>;

/// The progress of a response.
pub(super) struct Progress {
    /// When the client last accepted bytes, in milliseconds after the connection was accepted.
    since_ms: u64,
    /// The pieces of the body that hyper holds.
    pieces: usize,
    /// The task that waits until hyper holds fewer pieces.
    waiting: Option<Waker>,
    /// Whether the body has no further piece now. If hyper holds none either, the client has
    /// nothing to read.
    is_paused: bool,
}

/// A response that its client has not yet received in full. The response's body holds it, and so do
/// the pieces of the body that hyper buffers.
pub(crate) struct Unread {
    line: Arc<Line>,
    key: usize,
}

impl Unread {
    /// Records a response whose client can read from now on.
    pub(super) fn new(line: Arc<Line>) -> Self {
        let progress = Progress { since_ms: line.now_ms(), pieces: 0, waiting: None, is_paused: false };
        let key = locked(&line.unread).insert(progress);
        Self { line, key }
    }

    /// Becomes ready once hyper may take a further piece of the body.
    pub(in crate::http::connections) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        match locked(&self.line.unread).get_mut(self.key) {
            Some(progress) if progress.pieces >= limits::HTTP2_PIECES_HELD_MAX => {
                progress.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(()),
        }
    }

    /// Records that hyper takes a piece of the body.
    pub(in crate::http::connections) fn piece_begins(&self) {
        self.update(|progress| {
            (progress.pieces, progress.is_paused) = (progress.pieces + 1, false);
            None
        });
    }

    /// Records that the client accepts bytes.
    pub(in crate::http::connections) fn advance(&self) {
        self.update(|_| None);
    }

    /// Records that hyper has sent or dropped a piece.
    pub(in crate::http::connections) fn piece_ends(&self) {
        self.update(|progress| {
            debug_assert!(progress.pieces > 0, "a piece ended that hadn't begun");
            progress.pieces = progress.pieces.saturating_sub(1);
            progress.waiting.take()
        });
    }

    /// Records that the body has no further piece yet. Doesn't restart the time without progress.
    pub(in crate::http::connections) fn pause(&self) {
        if let Some(progress) = locked(&self.line.unread).get_mut(self.key) {
            progress.is_paused = true;
        }
    }

    /// Records progress, and wakes the task that `update` returns.
    fn update(&self, update: impl FnOnce(&mut Progress) -> Option<Waker>) {
        let now_ms = self.line.now_ms();
        let woken = locked(&self.line.unread).get_mut(self.key).and_then(|progress| {
            progress.since_ms = now_ms;
            update(progress)
        });
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let removed = locked(&self.line.unread).try_remove(self.key);
        debug_assert!(removed.is_some(), "an unread response ended twice");
    }
}

/// Returns the longest time for which the client has read nothing of a response.
pub(super) fn longest(unread: &Responses, now_ms: u64) -> Option<Duration> {
    let responses = locked(unread);
    let unread = responses.iter().filter(|(_, progress)| progress.pieces > 0 || !progress.is_paused);
    let oldest = unread.map(|(_, progress)| progress.since_ms).min()?;
    Some(Duration::from_millis(now_ms.saturating_sub(oldest)))
}

fn locked(unread: &Responses) -> MutexGuard<'_, Slab<Progress>> {
    unread.lock().unwrap_or_else(PoisonError::into_inner)
}
