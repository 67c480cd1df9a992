//! Exports traces, metrics and logs to a collector by OTLP over HTTP. A thread of its own sends
//! them from bounded queues. A slow or failing collector loses telemetry but never delays a
//! request.
//!
//! ```text
//!  access record ──> span ──┐
//!  line of an app's log ────┼─ bounded queue ─> exporter's thread ──> collector
//!                           │                      ^
//!                    full: dropped, counted        └── metrics, at each interval
//! ```

mod attributes;
mod batch;
mod collector;
mod config;
mod delivery;
mod exporter;
mod families;
mod health;
mod queue;
mod record;
mod series;
mod span;

pub(crate) use config::{Config, Signal, Signals};
pub(crate) use exporter::MetricsText;
pub(crate) use queue::{AppExport, Telemetry};
pub(crate) use record::ExportedLine;

use super::{limits, metrics::TelemetryCounters};
use exporter::Exporter;
use queue::Item;
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread::JoinHandle,
};

/// Nice value of the thread. The conversion of all metrics is much work on a large host, and yields
/// to serving.
const NICENESS: libc::c_int = 10;

/// An exporter whose thread has not started. Spans and lines are already queued.
pub(crate) struct Service {
    config: Config,
    telemetry: Telemetry,
    queue: Receiver<Item>,
}

/// The exporter's thread.
pub(crate) struct RunningExporter {
    telemetry: Telemetry,
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl Service {
    pub(crate) fn new(config: Config, counters: TelemetryCounters) -> Self {
        // One more for the request to stop.
        let (sender, queue) = sync_channel(limits::TELEMETRY_SPANS_QUEUED + limits::TELEMETRY_LINES_QUEUED + 1);
        let telemetry = Telemetry::new(sender, &config, counters);
        Self { config, telemetry, queue }
    }

    pub(crate) fn handle(&self) -> Telemetry {
        self.telemetry.clone()
    }

    /// Starts the thread. `metrics` returns the host's metrics.
    pub(crate) fn start(self, metrics: MetricsText) -> std::io::Result<RunningExporter> {
        let Self { config, telemetry, queue } = self;
        if config.exposes_headers() {
            tracing::warn!("telemetry.headers are sent unencrypted: use https:// for telemetry.endpoint");
        }
        let exporter = Exporter::new(config, telemetry.clone(), metrics);
        let (ends, ended) = sync_channel(0);
        let run = move || {
            let _ends = ends;
            // SAFETY: `setpriority` takes plain numbers; 0 is the calling thread on Linux. A
            // failure changes nothing.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
            exporter.run(&queue);
        };
        // Linux shows 15 bytes of a thread's name.
        let thread = std::thread::Builder::new().name("telemetry".to_owned()).spawn(run)?;
        Ok(RunningExporter { telemetry, thread, ended })
    }
}

impl RunningExporter {
    /// Sends the queued telemetry once, and ends the thread. Blocks up to a timeout. Unsent spans
    /// and lines are then dropped and counted.
    pub(crate) fn stop(self) {
        self.telemetry.stop();
        self.thread.thread().unpark();
        let time_left = self.telemetry.time_left().unwrap_or_default();
        if matches!(self.ended.recv_timeout(time_left), Err(RecvTimeoutError::Timeout)) {
            let (spans, lines) = self.telemetry.abandon();
            tracing::warn!(spans, lines, "the last telemetry was not sent in time; it is dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isopod_policy::Sampling;
    use std::time::Duration;
    use ureq::tls::RootCerts;

    /// Returns the settings of an export of everything.
    pub(super) fn config() -> Config {
        Config {
            endpoint: "http://127.0.0.1:4318".to_owned(),
            headers: Vec::new(),
            roots: RootCerts::WebPki,
            signals: Signals::ALL,
            sampling: Sampling::new(1.0).expect("it is in range"),
            interval: Duration::from_secs(1),
        }
    }
}
