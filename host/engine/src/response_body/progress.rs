//! Records when a response's body last made progress. Never decides whether the body has stalled.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The time of the last progress. One thread records it and another reads it.
pub(super) struct Progress {
    start: Instant,
    /// From `start` to the last progress.
    micros: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { start: Instant::now(), micros: AtomicU64::new(0) }
    }
}

impl Progress {
    pub(super) fn note(&self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}
