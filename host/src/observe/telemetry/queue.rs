//! The queue to the exporter, and its senders. Bounds the spans and the lines of each app and of
//! all apps, and the bytes of lines. Never blocks a sender: items that exceed a limit are dropped
//! and counted.

use super::{
    config::{Config, Signals},
    record::ExportedLine,
    span::RequestSpan,
};
use crate::observe::{access_log::AccessLine, limits, metrics::TelemetryCounters};
use isopod_policy::Sampling;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

/// What the exporter receives.
pub(super) enum Item {
    Span(Box<RequestSpan>, Permits),
    Line(Box<ExportedLine>, Permits),
    Stop,
}

/// The permits of one item.
pub(super) struct Permits {
    /// Of its app, until the exporter receives the item.
    pub(super) of_app: QueuePermit,
    /// Of all apps, until the item is sent.
    pub(super) of_all: QueuePermit,
}

/// The unsent items of a kind, of one app or of all apps.
#[derive(Debug, Default)]
struct Usage {
    items: AtomicUsize,
    bytes: AtomicUsize,
}

/// The most unsent items, and the most bytes.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    items: usize,
    bytes: usize,
}

// The bytes of spans are not counted: each field of a span has a limit of its own.
const APP_SPANS: Capacity = Capacity { items: limits::TELEMETRY_SPANS_QUEUED_PER_APP, bytes: 0 };
const ALL_SPANS: Capacity = Capacity { items: limits::TELEMETRY_SPANS_QUEUED, bytes: 0 };
const APP_LINES: Capacity =
    Capacity { items: limits::TELEMETRY_LINES_QUEUED_PER_APP, bytes: limits::TELEMETRY_LINE_BYTES_QUEUED_PER_APP };
const ALL_LINES: Capacity =
    Capacity { items: limits::TELEMETRY_LINES_QUEUED, bytes: limits::TELEMETRY_LINE_BYTES_QUEUED };

/// A permit for one queue entry, released on drop.
#[derive(Debug)]
pub(super) struct QueuePermit {
    usage: Arc<Usage>,
    bytes: usize,
}

impl QueuePermit {
    /// Acquires a permit. `None` if the entry would exceed the capacity.
    fn acquire(usage: &Arc<Usage>, bytes: usize, capacity: Capacity) -> Option<Self> {
        let permit = Self { usage: Arc::clone(usage), bytes };
        let items = usage.items.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = usage.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (items <= capacity.items && bytes <= capacity.bytes).then_some(permit)
    }

    /// Returns the bytes of the entry.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        let items = self.usage.items.fetch_sub(1, Ordering::Relaxed);
        let bytes = self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        debug_assert!(items > 0 && bytes >= self.bytes, "a permit that is released was acquired");
    }
}

impl Permits {
    fn acquire(app: (&Arc<Usage>, Capacity), all: (&Arc<Usage>, Capacity), bytes: usize) -> Option<Self> {
        let of_app = QueuePermit::acquire(app.0, bytes, app.1)?;
        Some(Self { of_app, of_all: QueuePermit::acquire(all.0, bytes, all.1)? })
    }
}

/// The senders' side of the export. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Telemetry(Arc<Shared>);

struct Shared {
    queue: SyncSender<Item>,
    signals: Signals,
    sampling: Sampling,
    spans: Arc<Usage>,
    lines: Arc<Usage>,
    counters: TelemetryCounters,
    /// When the export must have ended. Set by the stop.
    stop_by: OnceLock<Instant>,
}

/// The sender of the spans and the lines of one app.
#[derive(Clone)]
pub(crate) struct AppExport {
    telemetry: Telemetry,
    spans: Arc<Usage>,
    lines: Arc<Usage>,
}

impl Telemetry {
    pub(super) fn new(queue: SyncSender<Item>, config: &Config, counters: TelemetryCounters) -> Self {
        let (spans, lines) = (Arc::default(), Arc::default());
        let (signals, sampling, stop_by) = (config.signals, config.sampling, OnceLock::new());
        Self(Arc::new(Shared { queue, signals, sampling, spans, lines, counters, stop_by }))
    }

    /// Returns which traces are recorded; `None` if traces aren't exported.
    pub(crate) fn sampling(&self) -> Option<Sampling> {
        self.0.signals.traces.then_some(self.0.sampling)
    }

    /// Returns the sender of an app.
    pub(crate) fn app(&self) -> AppExport {
        AppExport { telemetry: self.clone(), spans: Arc::default(), lines: Arc::default() }
    }

    pub(super) fn counters(&self) -> &TelemetryCounters {
        &self.0.counters
    }

    pub(super) fn signals(&self) -> Signals {
        self.0.signals
    }

    /// Tells the exporter to flush the queue and exit.
    pub(super) fn stop(&self) {
        self.0.stop_by.get_or_init(|| Instant::now() + limits::TELEMETRY_STOP_TIME);
        // The queue has capacity for it, unless the exporter has ended.
        let _ = self.0.queue.try_send(Item::Stop);
    }

    /// Returns the time until the export must end. `None` unless the host stops.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.0.stop_by.get().map(|stop_by| stop_by.saturating_duration_since(Instant::now()))
    }

    /// Counts all unsent spans and lines as dropped. Returns their numbers.
    pub(super) fn abandon(&self) -> (usize, usize) {
        let Shared { spans, lines, counters, .. } = &*self.0;
        let (spans, lines) = (spans.items.load(Ordering::Relaxed), lines.items.load(Ordering::Relaxed));
        counters.spans_dropped.inc_by(spans as u64);
        counters.lines_dropped.inc_by(lines as u64);
        (spans, lines)
    }

    fn send(&self, item: Option<Item>, dropped: &Counter) {
        if item.is_none_or(|item| self.0.queue.try_send(item).is_err()) {
            dropped.inc();
        }
    }
}

impl AppExport {
    /// Exports the span of a request if its trace is recorded or the request failed.
    pub(crate) fn request(&self, line: &AccessLine<'_>) {
        let shared = &self.telemetry.0;
        let has_failed = line.status.is_server_error() || line.counted_fault().is_some();
        if !shared.signals.traces || !(line.trace.is_sampled || has_failed) {
            return;
        }
        let permits = Permits::acquire((&self.spans, APP_SPANS), (&shared.spans, ALL_SPANS), 0);
        let span = |permits| Item::Span(Box::new(RequestSpan::new(line, Timestamp::now())), permits);
        self.telemetry.send(permits.map(span), &shared.counters.spans_dropped);
    }

    /// Exports a line whose message has this number of bytes. `line` copies it if it doesn't exceed
    /// a limit.
    pub(crate) fn line(&self, bytes: usize, line: impl FnOnce() -> ExportedLine) {
        let shared = &self.telemetry.0;
        if !shared.signals.logs {
            return;
        }
        let permits = Permits::acquire((&self.lines, APP_LINES), (&shared.lines, ALL_LINES), bytes);
        let item = permits.map(|permits| Item::Line(Box::new(line()), permits));
        self.telemetry.send(item, &shared.counters.lines_dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::config, *};
    use crate::observe::metrics::Metrics;
    use isopod_policy::AppName;
    use std::sync::mpsc::{Receiver, sync_channel};

    fn telemetry(config: &Config) -> (Telemetry, Receiver<Item>) {
        let (sender, queue) = sync_channel(10_000);
        (Telemetry::new(sender, config, Metrics::new().telemetry()), queue)
    }

    fn send_line(app: &AppExport, bytes: usize) {
        app.line(bytes, || ExportedLine::of("hello".parse().expect("valid name"), "x".repeat(bytes)));
    }

    fn send_failure(app: &AppExport) {
        let name: AppName = "hello".parse().expect("valid name");
        app.request(&super::super::span::tests::failed(&name));
    }

    fn dropped(telemetry: &Telemetry) -> (u64, u64) {
        (telemetry.counters().spans_dropped.get(), telemetry.counters().lines_dropped.get())
    }

    #[test]
    fn a_dropped_permit_is_available_again() {
        let usage = Arc::default();
        let acquire = |bytes| QueuePermit::acquire(&usage, bytes, Capacity { items: 3, bytes: 10 });
        let mut permits: Vec<_> = (0..3).map(|_| acquire(2).expect("it is available")).collect();
        assert!(acquire(0).is_none() && usage.items.load(Ordering::Relaxed) == 3);
        permits.pop();
        assert!(acquire(7).is_none() && usage.bytes.load(Ordering::Relaxed) == 4);
        assert!(acquire(6).is_some());
    }

    #[test]
    fn the_bytes_of_unsent_lines_are_limited() {
        let (telemetry, queue) = telemetry(&config());
        let (large, small) = (telemetry.app(), telemetry.app());
        let bytes = 64 * 1024;
        let per_app = limits::TELEMETRY_LINE_BYTES_QUEUED_PER_APP / bytes;
        (0..=per_app).for_each(|_| send_line(&large, bytes));
        send_line(&small, bytes);
        assert_eq!((queue.try_iter().count(), dropped(&telemetry).1), (per_app + 1, 1));
        let items: Vec<_> = {
            let apps = limits::TELEMETRY_LINE_BYTES_QUEUED / limits::TELEMETRY_LINE_BYTES_QUEUED_PER_APP;
            (0..=apps).for_each(|_| (0..per_app).for_each(|_| send_line(&telemetry.app(), bytes)));
            queue.try_iter().collect()
        };
        assert_eq!(items.len() * bytes, limits::TELEMETRY_LINE_BYTES_QUEUED);
    }

    #[test]
    fn the_failures_of_an_app_do_not_displace_the_spans_of_others() {
        let (telemetry, queue) = telemetry(&config());
        let (failing, other) = (telemetry.app(), telemetry.app());
        (0..limits::TELEMETRY_SPANS_QUEUED).for_each(|_| send_failure(&failing));
        send_failure(&other);
        let lost = limits::TELEMETRY_SPANS_QUEUED - limits::TELEMETRY_SPANS_QUEUED_PER_APP;
        assert_eq!(dropped(&telemetry), (lost as u64, 0));
        assert_eq!(queue.try_iter().count(), limits::TELEMETRY_SPANS_QUEUED_PER_APP + 1);
    }

    #[test]
    fn a_signal_that_is_not_selected_is_not_queued() {
        let signals = Signals { traces: false, metrics: true, logs: false };
        let (telemetry, queue) = telemetry(&Config { signals, ..config() });
        let app = telemetry.app();
        send_failure(&app);
        send_line(&app, 1);
        assert!(queue.try_recv().is_err() && telemetry.sampling().is_none() && dropped(&telemetry) == (0, 0));
    }

    #[test]
    fn abandoned_items_count_as_dropped() {
        let (telemetry, queue) = telemetry(&config());
        let app = telemetry.app();
        (0..3).for_each(|_| send_failure(&app));
        send_line(&app, 1);
        // The exporter has received the first span, and hasn't sent it yet.
        let sending = queue.recv().expect("it is queued");
        assert_eq!((telemetry.abandon(), dropped(&telemetry)), ((3, 1), (3, 1)));
        drop(sending);
    }
}
