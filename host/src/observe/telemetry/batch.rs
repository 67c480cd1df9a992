//! The items of one request to a collector, until they are sent. Never sends them.

use super::queue::{Permits, QueuePermit};
use crate::observe::limits;

/// A batch of spans or of lines.
pub(super) struct Batch<T> {
    items: Vec<T>,
    permits: Vec<QueuePermit>,
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { items: Vec::new(), permits: Vec::new(), bytes: 0 }
    }
}

impl<T> Batch<T> {
    /// Adds an item, and releases its app's permit.
    pub(super) fn add(&mut self, item: T, permits: Permits) {
        let Permits { of_app, of_all } = permits;
        drop(of_app);
        self.bytes += of_all.bytes();
        self.items.push(item);
        self.permits.push(of_all);
    }

    /// Returns whether the batch must be sent before further items are added.
    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= limits::TELEMETRY_BATCH || self.bytes >= limits::TELEMETRY_BATCH_BYTES
    }

    /// Takes the items, with their permits, which the caller releases when the items are sent.
    pub(super) fn take(&mut self) -> (Vec<T>, Vec<QueuePermit>) {
        let Self { items, permits, .. } = std::mem::take(self);
        (items, permits)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            config::Signals,
            queue::{Item, Telemetry},
            record::ExportedLine,
            tests::config,
        },
        *,
    };
    use crate::observe::metrics::Metrics;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_batch_is_limited_by_its_bytes() {
        assert!(config().signals == Signals::ALL);
        let (sender, queue) = sync_channel(10_000);
        let telemetry = Telemetry::new(sender, &config(), Metrics::new().telemetry());
        let (bytes, mut batch) = (64 * 1024, Batch::default());
        let most = limits::TELEMETRY_BATCH_BYTES / bytes;
        for number in 1..=most {
            let line = || ExportedLine::of("hello".parse().expect("valid name"), "x".repeat(bytes));
            telemetry.app().line(bytes, line);
            let Ok(Item::Line(line, permits)) = queue.try_recv() else { panic!("line {number} is not queued") };
            batch.add(line, permits);
            assert_eq!(batch.is_full(), number == most, "after {number} lines");
        }
        assert_eq!((batch.take().0.len(), batch.is_full()), (most, false));
    }
}
