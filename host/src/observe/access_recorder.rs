//! Records responses: a line in the app's log, and the app's counters. Called by I/O threads, so it
//! never blocks. Each thread caches the handles of the apps that it serves.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use isopod_policy::{AppName, Sampling};

use super::{
    access_log::{AccessLine, AccessLog},
    logs::{AppLog, Logs},
    metrics::{AppMetrics, Metrics},
    telemetry::Telemetry,
};
use crate::observe::limits;

/// The recorder of requests.
pub(crate) struct AccessRecorder {
    logs: Logs,
    metrics: Metrics,
    /// Decides which traces are recorded.
    telemetry: Option<Telemetry>,
    has_lines: bool,
}

struct Cached {
    log: Arc<AppLog>,
    metrics: AppMetrics,
}

thread_local! {
    static APPS: RefCell<HashMap<AppName, Cached, foldhash::fast::RandomState>> = RefCell::default();
}

impl AccessRecorder {
    /// Creates the recorder. Without `telemetry` it exports no spans, and without `has_lines` it
    /// writes no lines to logs.
    pub(crate) fn new(logs: Logs, metrics: Metrics, telemetry: Option<Telemetry>, has_lines: bool) -> Self {
        Self { logs, metrics, telemetry, has_lines }
    }

    fn look_up(&self, app: &AppName) -> Option<Cached> {
        let cached = Cached { log: self.logs.known(app)?, metrics: self.metrics.app(app) };
        if cached.log.is_forgotten() {
            // Its series may have been removed just before they were looked up.
            self.metrics.forget(app);
            return None;
        }
        Some(cached)
    }

    fn record(&self, cached: &Cached, line: &AccessLine<'_>) {
        if let Some(fault) = line.counted_fault() {
            self.metrics.fault(line.app, fault);
        }
        cached.metrics.request(line.status, line.duration);
        if self.has_lines {
            cached.log.request(line);
        }
        if let Some(export) = cached.log.export() {
            export.request(line);
        }
    }
}

impl AccessLog for AccessRecorder {
    fn sampling(&self) -> Option<Sampling> {
        self.telemetry.as_ref().and_then(Telemetry::sampling)
    }

    fn request(&self, line: AccessLine<'_>) {
        APPS.with_borrow_mut(|apps| {
            // The cached log is stale if the app was destroyed, and possibly created again.
            if let Some(cached) = apps.get(line.app).filter(|cached| !cached.log.is_forgotten()) {
                return self.record(cached, &line);
            }
            if apps.len() >= limits::ACCESS_APPS_CACHED {
                apps.clear();
            }
            let Some(cached) = self.look_up(line.app) else { return };
            self.record(&cached, &line);
            apps.insert(line.app.clone(), cached);
        });
    }
}
