//! Owns the host's metrics: every name once, and their text. Never waits, and never counts by a
//! label that a client chooses.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use axum::http::StatusCode;
use isopod_policy::{AppName, PushState};
use jiff::Timestamp;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{
    labels::{AppLabels, ClassLabels, FaultLabels, PushLabels, RequestLabels, SignalLabels, StateLabels},
    load::LoadFamilies,
};
use crate::runtime::{AppResources, LiveInstance, StoredEvents};

/// Upper bounds of the buckets of a request's duration, in seconds.
const REQUEST_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Upper bounds of the buckets of a push's duration, in seconds.
const PUSH_SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 600.0];

/// The state of the host at an export.
pub(crate) struct HostSample {
    pub(crate) apps: Vec<AppSample>,
    pub(crate) pushes_under_way: usize,
    pub(crate) log_lines_dropped: u64,
}

/// The state of one app at an export.
pub(crate) struct AppSample {
    pub(crate) name: AppName,
    pub(crate) state: &'static str,
    pub(crate) instances: Vec<LiveInstance>,
    pub(crate) stored_events: StoredEvents,
    /// `None` for an app without a release in memory, which has no load.
    pub(crate) resources: Option<Arc<AppResources>>,
}

/// The handle: cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<AppLabels, Histogram, fn() -> Histogram>,
    faults: Family<FaultLabels, Counter>,
    pushes: Family<PushLabels, Counter>,
    push_seconds: Histogram,
    api_requests: Family<ClassLabels, Counter>,
    apps: Family<StateLabels, Gauge>,
    instances: Family<StateLabels, Gauge>,
    pushes_under_way: Gauge,
    log_lines_dropped: Counter,
    telemetry_dropped: Family<SignalLabels, Counter>,
    telemetry_failed: Counter,
    load: LoadFamilies,
    /// The kinds of faults of all apps so far.
    fault_kinds: Mutex<BTreeSet<&'static str>>,
    /// Held during an export, which replaces the values of some families.
    writing: Mutex<()>,
}

/// The request counters of one app. Callers cache them, so that counting uses no lock that apps
/// share.
#[derive(Clone)]
pub(crate) struct AppMetrics {
    classes: [Counter; CLASSES.len()],
    seconds: Histogram,
}

/// The answered requests of one app since the host's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestCounts {
    pub(crate) requests: u64,
    /// Those with a 5xx response.
    pub(crate) failures: u64,
}

/// The counters of the export of telemetry.
#[derive(Clone)]
pub(crate) struct TelemetryCounters {
    pub(crate) spans_dropped: Counter,
    pub(crate) lines_dropped: Counter,
    pub(crate) metrics_failed: Counter,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}

impl AppMetrics {
    pub(crate) fn request(&self, status: StatusCode, duration: Duration) {
        self.classes[class(status)].inc();
        self.seconds.observe(duration.as_secs_f64());
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("isopod");
        let load = LoadFamilies::registered(&mut registry);
        let mut families = Families {
            registry,
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            faults: Family::default(),
            pushes: Family::default(),
            push_seconds: Histogram::new(PUSH_SECONDS),
            api_requests: Family::default(),
            apps: Family::default(),
            instances: Family::default(),
            pushes_under_way: Gauge::default(),
            log_lines_dropped: Counter::default(),
            telemetry_dropped: Family::default(),
            telemetry_failed: Counter::default(),
            load,
            fault_kinds: Mutex::default(),
            writing: Mutex::default(),
        };
        let registry = &mut families.registry;
        registry.register("requests", "Requests answered for an app, by class of status", families.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Time from a request's head to its response's head",
            families.request_seconds.clone(),
        );
        registry.register("faults", "Failed requests, by kind of fault", families.faults.clone());
        registry.register("pushes", "Pushes that ended, by final state", families.pushes.clone());
        registry.register(
            "push_duration_seconds",
            "Time from a push's acceptance to its end",
            families.push_seconds.clone(),
        );
        registry.register("api_requests", "Requests to the API, by class of status", families.api_requests.clone());
        registry.register("apps", "Apps by state", families.apps.clone());
        registry.register("instances", "Instances of all apps by state", families.instances.clone());
        registry.register("pushes_under_way", "Pushes that wait or run", families.pushes_under_way.clone());
        registry.register("log_lines_dropped", "Log lines dropped since the start", families.log_lines_dropped.clone());
        let help = "Spans and log lines that were not exported, by signal";
        registry.register("telemetry_dropped", help, families.telemetry_dropped.clone());
        let help = "Exports of metrics that the collector did not accept";
        registry.register("telemetry_metrics_failed", help, families.telemetry_failed.clone());
        Self(Arc::new(families))
    }

    /// Returns the counters of one app.
    pub(crate) fn app(&self, app: &AppName) -> AppMetrics {
        let labels = |class| RequestLabels { app: app.to_string(), class };
        AppMetrics {
            classes: CLASSES.map(|class| self.0.requests.get_or_create(&labels(class)).clone()),
            seconds: self.0.request_seconds.get_or_create(&AppLabels { app: app.to_string() }).clone(),
        }
    }

    /// Returns the requests of an app, without creating its counters.
    pub(crate) fn request_counts(&self, app: &AppName) -> RequestCounts {
        let count = |class| {
            let labels = RequestLabels { app: app.to_string(), class };
            self.0.requests.get(&labels).map_or(0, |counter| counter.get())
        };
        let [informational, success, redirect, client, failures] = CLASSES.map(count);
        RequestCounts { requests: informational + success + redirect + client + failures, failures }
    }

    /// Returns the counters of the export of telemetry. Without an export they have no series.
    pub(crate) fn telemetry(&self) -> TelemetryCounters {
        let dropped = |signal| self.0.telemetry_dropped.get_or_create(&SignalLabels { signal }).clone();
        TelemetryCounters {
            spans_dropped: dropped("traces"),
            lines_dropped: dropped("logs"),
            metrics_failed: self.0.telemetry_failed.clone(),
        }
    }

    pub(crate) fn fault(&self, app: &AppName, fault: &'static str) {
        self.0.fault_kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(fault);
        self.0.faults.get_or_create(&FaultLabels { app: app.to_string(), fault }).inc();
    }

    /// Removes the series of a destroyed app. Later increments of its counters are no longer
    /// exported.
    pub(crate) fn forget(&self, app: &AppName) {
        let app = app.to_string();
        for class in CLASSES {
            self.0.requests.remove(&RequestLabels { app: app.clone(), class });
        }
        for fault in self.0.fault_kinds.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.0.faults.remove(&FaultLabels { app: app.clone(), fault });
        }
        self.0.request_seconds.remove(&AppLabels { app });
    }

    pub(crate) fn push_ended(&self, state: PushState, duration: Duration) {
        self.0.pushes.get_or_create(&PushLabels { state: state.as_str() }).inc();
        self.0.push_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn api_request(&self, status: StatusCode) {
        self.0.api_requests.get_or_create(&ClassLabels { class: CLASSES[class(status)] }).inc();
    }

    /// Encodes all metrics as OpenMetrics text.
    pub(crate) fn text(&self, sample: &HostSample) -> String {
        let families = &self.0;
        let _writing = families.writing.lock().unwrap_or_else(PoisonError::into_inner);
        families.apps.clear();
        families.instances.clear();
        families.load.clear();
        for app in &sample.apps {
            families.apps.get_or_create(&StateLabels { state: app.state }).inc();
            families.load.record_stored(&app.name, &app.stored_events, Timestamp::now());
            if let Some(resources) = &app.resources {
                families.load.record(&app.name, resources, &app.instances);
            }
            for instance in &app.instances {
                families.instances.get_or_create(&StateLabels { state: instance.status.state }).inc();
            }
        }
        families.pushes_under_way.set(i64::try_from(sample.pushes_under_way).unwrap_or(i64::MAX));
        families.log_lines_dropped.inner().store(sample.log_lines_dropped, Ordering::Relaxed);
        let mut text = String::new();
        // Writing to a string can't fail, but encoding a label can.
        if let Err(error) = encode(&mut text, &families.registry) {
            tracing::error!(%error, "the metrics can't be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destroyed_app_has_no_series() {
        let metrics = Metrics::new();
        let (destroyed, other) = ("destroyed".parse().expect("valid name"), "other".parse().expect("valid name"));
        for app in [&destroyed, &other] {
            metrics.app(app).request(StatusCode::OK, Duration::from_millis(2));
            metrics.fault(app, "trap");
        }
        let counter = metrics.app(&destroyed);
        metrics.forget(&destroyed);
        counter.request(StatusCode::OK, Duration::from_millis(2));
        let mut text = String::new();
        encode(&mut text, &metrics.0.registry).expect("encodes");
        assert!(!text.contains("\"destroyed\""), "{text}");
        assert!(text.contains("isopod_faults_total{app=\"other\",fault=\"trap\"} 1"), "{text}");
    }

    #[test]
    fn requests_are_counted_by_class() {
        let metrics = Metrics::new();
        let app = metrics.app(&"hello".parse().expect("valid name"));
        app.request(StatusCode::OK, Duration::from_millis(2));
        app.request(StatusCode::BAD_GATEWAY, Duration::from_millis(2));
        app.request(StatusCode::BAD_GATEWAY, Duration::from_millis(2));
        let mut text = String::new();
        encode(&mut text, &metrics.0.registry).expect("encodes");
        assert!(text.contains("isopod_requests_total{app=\"hello\",class=\"2xx\"} 1"), "{text}");
        assert!(text.contains("isopod_requests_total{app=\"hello\",class=\"5xx\"} 2"), "{text}");
        assert!(text.contains("isopod_request_duration_seconds_count{app=\"hello\"} 3"), "{text}");
        let counts = |app: &str| metrics.request_counts(&app.parse().expect("valid name"));
        assert_eq!(counts("hello"), RequestCounts { requests: 3, failures: 2 });
        assert_eq!(counts("other"), RequestCounts::default());
    }
}
