//! The thread that sends telemetry to the collector: gathers batches, reads the metrics at each
//! interval, and counts lost items. Never retries a request.

use super::{
    batch::Batch,
    collector::Refusal,
    config::{Config, Signal},
    delivery::Delivery,
    families::{self, Period},
    queue::{Item, Telemetry},
    record::{self, ExportedLine},
    series::{self, Series},
    span::{self, RequestSpan, nanoseconds},
};
use crate::{failpoint, observe::limits};
use jiff::Timestamp;
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// Returns the host's metrics, as OpenMetrics text.
pub(crate) type MetricsText = Box<dyn Fn() -> String + Send>;

/// The state of the thread.
pub(super) struct Exporter {
    delivery: Delivery,
    telemetry: Telemetry,
    metrics: MetricsText,
    interval: Duration,
    series: Series,
    spans: Batch<Box<RequestSpan>>,
    lines: Batch<Box<ExportedLine>>,
}

/// Reports a panic of the thread when it occurs: from then on, telemetry is dropped.
struct PanicReport;

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the telemetry exporter panicked; telemetry is dropped until the host is restarted");
        }
    }
}

impl Exporter {
    pub(super) fn new(config: Config, telemetry: Telemetry, metrics: MetricsText) -> Self {
        Self {
            interval: config.interval,
            delivery: Delivery::new(config, telemetry.clone()),
            telemetry,
            metrics,
            series: Series::since(nanoseconds(Timestamp::now())),
            spans: Batch::default(),
            lines: Batch::default(),
        }
    }

    /// Exports until the stop.
    pub(super) fn run(mut self, queue: &Receiver<Item>) {
        let _report = PanicReport;
        let mut metrics_due = Instant::now() + self.interval;
        let mut batch_due = Instant::now() + limits::TELEMETRY_GATHERING_TIME;
        loop {
            failpoint::here("telemetry-export");
            let due = metrics_due.min(batch_due);
            match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Item::Span(span, permits)) => self.spans.add(span, permits),
                Ok(Item::Line(line, permits)) => self.lines.add(line, permits),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Item::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if now >= batch_due || self.spans.is_full() || self.lines.is_full() {
                self.send_batches();
                batch_due = Instant::now() + limits::TELEMETRY_GATHERING_TIME;
            }
            if now >= metrics_due {
                self.send_metrics();
                metrics_due = Instant::now() + self.interval;
            }
        }
        self.send_batches();
        self.send_metrics();
    }

    fn send_batches(&mut self) {
        let (spans, permits) = self.spans.take();
        if !spans.is_empty() {
            let (number, data) = (spans.len() as u64, span::traces(spans));
            let lost = self.delivery.send(Signal::Traces, data).map_or(number, |rejected| rejected.min(number));
            self.telemetry.counters().spans_dropped.inc_by(lost);
            drop(permits);
        }
        let (lines, permits) = self.lines.take();
        if !lines.is_empty() {
            let (number, data) = (lines.len() as u64, record::logs(lines));
            let lost = self.delivery.send(Signal::Logs, data).map_or(number, |rejected| rejected.min(number));
            self.telemetry.counters().lines_dropped.inc_by(lost);
            drop(permits);
        }
    }

    /// Metrics that the collector doesn't accept aren't lost: the next export includes them.
    fn send_metrics(&mut self) {
        if !self.telemetry.signals().metrics {
            return;
        }
        let now = nanoseconds(Timestamp::now());
        let data = families::metrics(&(self.metrics)(), Period { start: self.series.started(), now });
        let mut is_accepted = true;
        for request in series::requests(self.series.follow(data, now)) {
            match self.delivery.send(Signal::Metrics, request) {
                Ok(rejected) => is_accepted &= rejected == 0,
                Err(Refusal::Permanent { .. }) => is_accepted = false,
                // The other requests would fail as well, and delay spans and lines.
                Err(Refusal::Temporary { .. }) => {
                    is_accepted = false;
                    break;
                }
            }
        }
        if !is_accepted {
            self.telemetry.counters().metrics_failed.inc();
        }
    }
}
