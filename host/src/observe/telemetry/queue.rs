//! The queue to the exporter, and its senders. Bounded for each signal, and for the lines of each
//! app. Never blocks a sender: what finds no room is dropped and counted.

use super::{record::ExportedLine, span::RequestSpan};
use crate::observe::{access_log::AccessLine, limits, metrics::TelemetryCounters};
use isopod_policy::Sampling;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc::SyncSender,
};

/// What the exporter receives.
pub(super) enum Item {
    Span(Box<RequestSpan>, Place),
    Line(Box<ExportedLine>, [Place; 2]),
    Stop,
}

/// A place in the queue, which is free again when this is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place. `None` if all `most` are taken.
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place that is freed was taken");
    }
}

/// The senders' side of the export. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Telemetry(Arc<Shared>);

struct Shared {
    queue: SyncSender<Item>,
    sampling: Sampling,
    spans: Arc<AtomicUsize>,
    lines: Arc<AtomicUsize>,
    counters: TelemetryCounters,
    is_stopping: AtomicBool,
}

/// The sender of the lines of one app.
#[derive(Clone)]
pub(crate) struct AppLines {
    telemetry: Telemetry,
    lines: Arc<AtomicUsize>,
}

impl Telemetry {
    pub(super) fn new(queue: SyncSender<Item>, sampling: Sampling, counters: TelemetryCounters) -> Self {
        let (spans, lines) = (Arc::default(), Arc::default());
        Self(Arc::new(Shared { queue, sampling, spans, lines, counters, is_stopping: AtomicBool::new(false) }))
    }

    /// Returns which traces are recorded.
    pub(crate) fn sampling(&self) -> Sampling {
        self.0.sampling
    }

    /// Exports the span of a request if its trace is recorded or the request failed.
    pub(crate) fn request(&self, line: &AccessLine<'_>) {
        let has_failed = line.status.is_server_error() || line.counted_fault().is_some();
        if !line.trace.is_sampled && !has_failed {
            return;
        }
        let place = Place::take(&self.0.spans, limits::TELEMETRY_SPANS_QUEUED);
        let item = place.map(|place| Item::Span(Box::new(RequestSpan::new(line, Timestamp::now())), place));
        self.send(item, &self.0.counters.spans_dropped);
    }

    /// Returns the sender of the lines of an app.
    pub(crate) fn app_lines(&self) -> AppLines {
        AppLines { telemetry: self.clone(), lines: Arc::default() }
    }

    pub(super) fn counters(&self) -> &TelemetryCounters {
        &self.0.counters
    }

    /// Asks the exporter to send its queue, and to end.
    pub(super) fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
        // The queue has a place for it, unless the exporter has ended.
        let _ = self.0.queue.try_send(Item::Stop);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }

    fn send(&self, item: Option<Item>, dropped: &Counter) {
        if item.is_none_or(|item| self.0.queue.try_send(item).is_err()) {
            dropped.inc();
        }
    }
}

impl AppLines {
    /// Exports a line. `line` makes a copy of it, if there is room.
    pub(crate) fn send(&self, line: impl FnOnce() -> ExportedLine) {
        let shared = &self.telemetry.0;
        let own = Place::take(&self.lines, limits::TELEMETRY_LINES_QUEUED_PER_APP);
        let all = own.and_then(|own| Some([own, Place::take(&shared.lines, limits::TELEMETRY_LINES_QUEUED)?]));
        let item = all.map(|places| Item::Line(Box::new(line()), places));
        self.telemetry.send(item, &shared.counters.lines_dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_dropped_can_be_taken_again() {
        let taken = Arc::default();
        let places: Vec<_> = (0..3).map(|_| Place::take(&taken, 3).expect("it is free")).collect();
        assert!(Place::take(&taken, 3).is_none() && taken.load(Ordering::Relaxed) == 3);
        drop(places);
        assert!(Place::take(&taken, 3).is_some());
    }
}
