//! Exports traces, metrics and logs to a collector by OTLP over HTTP. A thread of its own sends
//! them from bounded queues, so that a slow or failing collector costs telemetry, but delays no
//! request.
//!
//! ```text
//!  access record ──> span ──┐
//!  line of an app's log ────┼─ bounded queue ─> exporter's thread ──> collector
//!                           │                      ^
//!                    full: dropped, counted        └── metrics, at each interval
//! ```

mod attributes;
mod collector;
mod config;
mod exporter;
mod families;
mod queue;
mod record;
mod span;

pub(crate) use config::Config;
pub(crate) use exporter::MetricsText;
pub(crate) use queue::{AppLines, Telemetry};
pub(crate) use record::ExportedLine;

use super::{limits, metrics::TelemetryCounters};
use exporter::Exporter;
use queue::Item;
use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
};

/// The export before its thread runs: apps may already send, and what they send is queued.
pub(crate) struct Service {
    config: Config,
    telemetry: Telemetry,
    queue: Receiver<Item>,
}

/// The running export.
pub(crate) struct Running {
    telemetry: Telemetry,
    thread: JoinHandle<()>,
}

impl Service {
    pub(crate) fn new(config: Config, counters: TelemetryCounters) -> Self {
        // One more for the request to stop.
        let (sender, queue) = sync_channel(limits::TELEMETRY_SPANS_QUEUED + limits::TELEMETRY_LINES_QUEUED + 1);
        let telemetry = Telemetry::new(sender, config.sampling, counters);
        Self { config, telemetry, queue }
    }

    pub(crate) fn handle(&self) -> Telemetry {
        self.telemetry.clone()
    }

    /// Starts the thread. `metrics` returns the host's metrics.
    pub(crate) fn start(self, metrics: MetricsText) -> std::io::Result<Running> {
        let Self { config, telemetry, queue } = self;
        let exporter = Exporter::new(config, telemetry.clone(), metrics);
        let run = move || exporter.run(&queue);
        let thread = std::thread::Builder::new().name("isopod-telemetry".to_owned()).spawn(run)?;
        Ok(Running { telemetry, thread })
    }
}

impl Running {
    /// Sends the queued telemetry, and ends the thread. Blocks.
    pub(crate) fn stop(self) {
        self.telemetry.stop();
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the exporter of telemetry panicked");
        }
    }
}
