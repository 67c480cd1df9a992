//! The thread that sends telemetry to the collector: gathers batches, retries, and reports that the
//! collector fails. Only this thread waits for the collector.

use super::{
    collector::{Collector, Refusal},
    config::Config,
    families::{self, Period},
    queue::{Item, Place, Telemetry},
    record::{self, ExportedLine},
    span::{self, RequestSpan, nanoseconds},
};
use crate::observe::limits;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prost::Message;
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// Returns the host's metrics, as OpenMetrics text.
pub(crate) type MetricsText = Box<dyn Fn() -> String + Send>;

/// The state of the thread.
pub(super) struct Exporter {
    collector: Collector,
    telemetry: Telemetry,
    metrics: MetricsText,
    interval: Duration,
    started: Timestamp,
    spans: Vec<RequestSpan>,
    lines: Vec<(Box<ExportedLine>, [Place; 2])>,
    /// Whether the last request failed, so that a failure is reported once.
    is_failing: bool,
}

impl Exporter {
    pub(super) fn new(config: Config, telemetry: Telemetry, metrics: MetricsText) -> Self {
        Self {
            interval: config.interval,
            collector: Collector::new(config),
            telemetry,
            metrics,
            started: Timestamp::now(),
            spans: Vec::new(),
            lines: Vec::new(),
            is_failing: false,
        }
    }

    /// Exports until the stop.
    pub(super) fn run(mut self, queue: &Receiver<Item>) {
        let mut metrics_due = Instant::now() + self.interval;
        let mut batch_due = Instant::now() + limits::TELEMETRY_GATHERING_TIME;
        loop {
            let due = metrics_due.min(batch_due);
            let is_full = match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Item::Span(span, place)) => {
                    drop(place);
                    self.spans.push(*span);
                    self.spans.len() >= limits::TELEMETRY_BATCH
                }
                Ok(Item::Line(line, places)) => {
                    self.lines.push((line, places));
                    self.lines.len() >= limits::TELEMETRY_BATCH
                }
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Item::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            };
            let now = Instant::now();
            if is_full || now >= batch_due {
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
        let counters = self.telemetry.counters().clone();
        let spans = std::mem::take(&mut self.spans);
        if !spans.is_empty() {
            self.send("v1/traces", &span::traces(&spans), spans.len(), &counters.spans_dropped);
        }
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            let logs = record::logs(lines.iter().map(|(line, _)| &**line));
            self.send("v1/logs", &logs, lines.len(), &counters.lines_dropped);
        }
    }

    /// Metrics that the collector doesn't accept aren't lost: the next export includes them.
    fn send_metrics(&mut self) {
        let period = Period { start: nanoseconds(self.started), now: nanoseconds(Timestamp::now()) };
        let data = families::metrics(&(self.metrics)(), period);
        let failed = self.telemetry.counters().metrics_failed.clone();
        self.send("v1/metrics", &data, 1, &failed);
    }

    /// Sends data, and counts `items` as dropped if the collector doesn't accept it.
    fn send(&mut self, path: &str, data: &impl Message, items: usize, dropped: &Counter) {
        for attempt in 1.. {
            let refusal = match self.collector.send(path, data) {
                Ok(()) => {
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("the telemetry collector accepts data again");
                    }
                    return;
                }
                Err(refusal) => refusal,
            };
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(%refusal, path, "the telemetry collector accepts no data; it is dropped and counted");
            }
            let may_retry = matches!(refusal, Refusal::Temporary(_)) && attempt < limits::TELEMETRY_ATTEMPTS;
            if !may_retry || self.telemetry.is_stopping() {
                break;
            }
            std::thread::park_timeout(limits::TELEMETRY_RETRY_PAUSE * attempt);
        }
        dropped.inc_by(items as u64);
    }
}
