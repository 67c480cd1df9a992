//! The interface of a measured server: connections that store events, and the handling of events.
//! Never names a server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

/// The size of an event's data.
pub(super) const EVENT_BYTES: usize = 1024;

/// A server that stores events durably.
pub(super) trait Queue: Sync {
    /// Opens a connection.
    fn sender(&self, due: Due) -> Result<Box<dyn Sender>>;

    /// Returns whether a connection can store several events at a time.
    fn has_batches(&self) -> bool {
        true
    }

    /// Handles the due events until all events that were sent are handled.
    fn handle(&self, progress: &Progress) -> Result<()>;
}

/// The time from which sent events may be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
}

impl Due {
    /// Returns a time after the end of every measurement.
    pub(super) fn later() -> Due {
        Due::At(Instant::now() + Duration::from_secs(24 * 3600))
    }

    /// Returns the delay of an event that is sent now, in whole seconds.
    pub(super) fn delay_s(self) -> Option<u64> {
        match self {
            Due::Now => None,
            Due::At(at) => Some(at.saturating_duration_since(Instant::now()).as_secs()),
        }
    }
}

/// A connection that stores events.
pub(super) trait Sender {
    /// Stores this many events, and returns once each is acknowledged.
    fn send(&mut self, events: usize) -> Result<()>;
}

/// The progress of the senders, for the handlers.
#[derive(Default)]
pub(super) struct Progress {
    /// The number of acknowledged events.
    pub(super) sent: AtomicU64,
    /// No sender is left.
    pub(super) is_over: AtomicBool,
}

impl Progress {
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// Returns the data of an event: JSON that the example `outbox` handles without an effect.
pub(super) fn data() -> String {
    let (head, tail) = ("[[\"attempt\",\"", "\"]]");
    format!("{head}{}{tail}", "x".repeat(EVENT_BYTES - head.len() - tail.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_an_event_has_its_size_and_is_json() {
        assert_eq!(data().len(), EVENT_BYTES);
        assert!(serde_json::from_str::<serde_json::Value>(&data()).is_ok());
    }
}
