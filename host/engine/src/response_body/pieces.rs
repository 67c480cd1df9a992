//! A response's body with all its pieces available. Never waits.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;

/// A body with all its pieces available.
pub struct Pieces {
    frames: VecDeque<Frame<Bytes>>,
    left: u64,
    has_trailers: bool,
}

impl Pieces {
    pub(super) fn of(frames: VecDeque<Frame<Bytes>>) -> Self {
        let left = frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let has_trailers = frames.iter().any(Frame::is_trailers);
        Self { frames, left, has_trailers }
    }

    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        let frame = self.frames.pop_front()?;
        self.left -= frame.data_ref().map_or(0, |data| data.len() as u64);
        Some(frame)
    }

    /// Returns the bytes that remain.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn is_end(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.has_trailers { SizeHint::default() } else { SizeHint::with_exact(self.left) }
    }
}
