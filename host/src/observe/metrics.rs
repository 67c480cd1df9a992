//! Owns the host's metrics: every name once, and their encoding. Never counts by a label that a
//! client chooses.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use isopod_policy::{AlertRule, AppName, PushState};
use jiff::Timestamp;
use prometheus_client::{
    encoding::{prometheus_protobuf, prometheus_text, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::sync::Semaphore;

use super::{
    durations::{PushDurations, RequestDurations},
    exposition::Format,
    labels::{AppLabels, ClassLabels, FaultLabels, PushLabels, RequestLabels, RuleLabels, SignalLabels, StateLabels},
    load::LoadFamilies,
    machine,
};
use crate::runtime::{AppResources, LiveInstance, StoredEvents};

/// The state of the host at an export.
pub(crate) struct HostSample {
    pub(crate) apps: Vec<AppSample>,
    pub(crate) pushes_under_way: usize,
    pub(crate) log_lines_dropped: u64,
    /// The number of alerts that fire, for each enabled rule.
    pub(crate) alerts: Vec<(AlertRule, usize)>,
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

/// The metrics could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("the metrics can't be encoded")]
pub(crate) struct EncodeError;

struct Families {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_durations: Family<AppLabels, RequestDurations>,
    faults: Family<FaultLabels, Counter>,
    pushes: Family<PushLabels, Counter>,
    push_durations: PushDurations,
    api_requests: Family<ClassLabels, Counter>,
    apps: Family<StateLabels, Gauge>,
    instances: Family<StateLabels, Gauge>,
    pushes_under_way: Gauge,
    log_lines_dropped: Counter,
    alerts: Family<RuleLabels, Gauge>,
    processors: Gauge,
    process_cpu: Counter<f64, AtomicU64>,
    process_memory: Gauge,
    telemetry_dropped: Family<SignalLabels, Counter>,
    telemetry_failed: Counter,
    load: LoadFamilies,
    /// The kinds of faults of all apps so far.
    fault_kinds: Mutex<BTreeSet<&'static str>>,
    /// Held during an export, which replaces the values of some families.
    writing: Mutex<()>,
    /// The permit of an export. Others wait without occupying a thread.
    exports: Arc<Semaphore>,
}

/// The request counters of one app. Callers cache them, so that counting uses no lock that apps
/// share.
#[derive(Clone)]
pub(crate) struct AppMetrics {
    classes: [Counter; CLASSES.len()],
    durations: RequestDurations,
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
        self.durations.observe(duration);
    }
}

impl Families {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests answered for an app, by class of status", self.requests.clone());
        let help = "Time from a request's head to its response's head";
        registry.register_with_unit("request_duration", help, Unit::Seconds, self.request_durations.clone());
        registry.register("faults", "Failed requests, by kind of fault", self.faults.clone());
        registry.register("pushes", "Pushes that ended, by final state", self.pushes.clone());
        let help = "Time from a push's acceptance to its end";
        registry.register_with_unit("push_duration", help, Unit::Seconds, self.push_durations.clone());
        registry.register("api_requests", "Requests to the API, by class of status", self.api_requests.clone());
        registry.register("apps", "Apps by state", self.apps.clone());
        registry.register("instances", "Instances of all apps by state", self.instances.clone());
        registry.register("pushes_under_way", "Pushes that wait or run", self.pushes_under_way.clone());
        registry.register("log_lines_dropped", "Log lines dropped since the start", self.log_lines_dropped.clone());
        registry.register("alerts", "Alerts that fire, by rule", self.alerts.clone());
        registry.register("processors", "Processors that the host may use", self.processors.clone());
        let help = "CPU time of the host's process, including its guests";
        registry.register_with_unit("process_cpu", help, Unit::Seconds, self.process_cpu.clone());
        let help = "Resident memory of the host's process";
        registry.register_with_unit("process_resident_memory", help, Unit::Bytes, self.process_memory.clone());
        let help = "Spans and log lines that were not exported, by signal";
        registry.register("telemetry_dropped", help, self.telemetry_dropped.clone());
        let help = "Exports of metrics that the collector did not accept";
        registry.register("telemetry_metrics_failed", help, self.telemetry_failed.clone());
    }

    /// Sets the values that are read only for an export. The values don't change until the guard is
    /// dropped.
    fn record(&self, sample: &HostSample) -> MutexGuard<'_, ()> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.apps.clear();
        self.instances.clear();
        self.alerts.clear();
        self.load.clear();
        for app in &sample.apps {
            self.apps.get_or_create(&StateLabels { state: app.state }).inc();
            self.load.record_stored(&app.name, &app.stored_events, Timestamp::now());
            if let Some(resources) = &app.resources {
                self.load.record(&app.name, resources, &app.instances);
            }
            for instance in &app.instances {
                self.instances.get_or_create(&StateLabels { state: instance.status.state }).inc();
            }
        }
        for (rule, firing) in &sample.alerts {
            self.alerts.get_or_create(&RuleLabels { rule: rule.as_str() }).set(integer(*firing));
        }
        self.pushes_under_way.set(integer(sample.pushes_under_way));
        self.log_lines_dropped.inner().store(sample.log_lines_dropped, Ordering::Relaxed);
        self.processors.set(integer(machine::processors()));
        self.process_cpu.inner().store(machine::cpu_time().as_secs_f64().to_bits(), Ordering::Relaxed);
        self.process_memory.set(integer(machine::resident_bytes()));
        writing
    }
}

fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("isopod");
        let load = LoadFamilies::registered(&mut registry);
        let mut families = Families {
            registry,
            requests: Family::default(),
            request_durations: Family::default(),
            faults: Family::default(),
            pushes: Family::default(),
            push_durations: PushDurations::default(),
            api_requests: Family::default(),
            apps: Family::default(),
            instances: Family::default(),
            pushes_under_way: Gauge::default(),
            log_lines_dropped: Counter::default(),
            alerts: Family::default(),
            processors: Gauge::default(),
            process_cpu: Counter::default(),
            process_memory: Gauge::default(),
            telemetry_dropped: Family::default(),
            telemetry_failed: Counter::default(),
            load,
            fault_kinds: Mutex::default(),
            writing: Mutex::default(),
            exports: Arc::new(Semaphore::new(1)),
        };
        families.register();
        // A counter that appears with its first increment has no earlier sample, so a rate over it
        // would lack that increment.
        for state in PushState::ALL.into_iter().filter(|state| state.is_final()) {
            drop(families.pushes.get_or_create(&PushLabels { state: state.as_str() }));
        }
        for class in CLASSES {
            drop(families.api_requests.get_or_create(&ClassLabels { class }));
        }
        Self(Arc::new(families))
    }

    /// Returns the counters of one app.
    pub(crate) fn app(&self, app: &AppName) -> AppMetrics {
        let labels = |class| RequestLabels { app: app.to_string(), class };
        AppMetrics {
            classes: CLASSES.map(|class| self.0.requests.get_or_create(&labels(class)).clone()),
            durations: self.0.request_durations.get_or_create(&AppLabels { app: app.to_string() }).clone(),
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
        let mut kinds = self.0.fault_kinds.lock().unwrap_or_else(PoisonError::into_inner);
        // `forget` removes the counters of requests before it takes the lock, so a destroyed app
        // gets no new counter.
        let requests = RequestLabels { app: app.to_string(), class: CLASSES[0] };
        if self.0.requests.get(&requests).is_none() {
            return;
        }
        kinds.insert(fault);
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
        self.0.request_durations.remove(&AppLabels { app });
    }

    pub(crate) fn push_ended(&self, state: PushState, duration: Duration) {
        self.0.pushes.get_or_create(&PushLabels { state: state.as_str() }).inc();
        self.0.push_durations.observe(duration);
    }

    pub(crate) fn api_request(&self, status: StatusCode) {
        self.0.api_requests.get_or_create(&ClassLabels { class: CLASSES[class(status)] }).inc();
    }

    /// Samples the host and encodes all metrics, on a thread for blocking work: a large host has
    /// many series. One export runs at a time.
    pub(crate) async fn exported(
        &self,
        sample: impl FnOnce() -> HostSample + Send + 'static,
        format: Format,
    ) -> Result<Vec<u8>, EncodeError> {
        let (metrics, exports) = (self.clone(), Arc::clone(&self.0.exports));
        let permit = exports.acquire_owned().await.map_err(|_| EncodeError)?;
        let encode = move || {
            let _permit = permit;
            metrics.encoded(&sample(), format)
        };
        tokio::task::spawn_blocking(encode).await.map_err(|_| EncodeError)?
    }

    /// Encodes all metrics in a format.
    fn encoded(&self, sample: &HostSample, format: Format) -> Result<Vec<u8>, EncodeError> {
        let _writing = self.0.record(sample);
        let (registry, mut text) = (&self.0.registry, String::new());
        match format {
            Format::OpenMetrics => {
                text::encode(&mut text, registry).map(|()| text.into_bytes()).map_err(|_| EncodeError)
            }
            Format::Prometheus => {
                prometheus_text::encode(&mut text, registry).map(|()| text.into_bytes()).map_err(|_| EncodeError)
            }
            Format::Protobuf => prometheus_protobuf::encode_to_vec(registry).map_err(|_| EncodeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let sample = HostSample {
            apps: Vec::new(),
            pushes_under_way: 0,
            log_lines_dropped: 0,
            alerts: vec![(AlertRule::Cpu, 1)],
        };
        let encoded = metrics.encoded(&sample, Format::OpenMetrics).expect("metrics");
        String::from_utf8(encoded).expect("text")
    }

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
        metrics.fault(&destroyed, "trap");
        let text = text(&metrics);
        assert!(!text.contains("\"destroyed\""), "{text}");
        assert!(text.contains("isopod_faults_total{app=\"other\",fault=\"trap\"} 1"), "{text}");
    }

    #[test]
    fn counters_of_the_host_begin_with_zero() {
        let text = text(&Metrics::new());
        for series in ["isopod_pushes_total{state=\"failed\"} 0", "isopod_api_requests_total{class=\"5xx\"} 0"] {
            assert!(text.contains(series), "{series} is not in {text}");
        }
    }

    #[test]
    fn requests_are_counted_by_class() {
        let metrics = Metrics::new();
        let app = metrics.app(&"hello".parse().expect("valid name"));
        app.request(StatusCode::OK, Duration::from_millis(2));
        app.request(StatusCode::BAD_GATEWAY, Duration::from_millis(2));
        app.request(StatusCode::BAD_GATEWAY, Duration::from_millis(2));
        let text = text(&metrics);
        assert!(text.contains("isopod_requests_total{app=\"hello\",class=\"2xx\"} 1"), "{text}");
        assert!(text.contains("isopod_requests_total{app=\"hello\",class=\"5xx\"} 2"), "{text}");
        assert!(text.contains("isopod_request_duration_seconds_count{app=\"hello\"} 3"), "{text}");
        let counts = |app: &str| metrics.request_counts(&app.parse().expect("valid name"));
        assert_eq!(counts("hello"), RequestCounts { requests: 3, failures: 2 });
        assert_eq!(counts("other"), RequestCounts::default());
    }
}
