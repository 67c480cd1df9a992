//! Measures the values of the rules, from counters that exist for other purposes. Never decides
//! whether an alert fires.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use isopod_engine::Engine;
use isopod_executor::Class;
use isopod_policy::{AlertRule, AppName, AppState, AppType};
use isopod_store::free_bytes;
use jiff::Timestamp;
use tokio::{task::JoinHandle, time::timeout};

use super::{certificates::CertificateFiles, reports::Reports, table::Sample, window::Window};
use crate::{
    control::{AppRecord, limits},
    observe::{
        logs::Logs,
        machine::CpuSampler,
        metrics::{Metrics, RequestCounts},
    },
    runtime::AppResources,
};

/// The sources of the values.
pub(super) struct Sources {
    pub(super) metrics: Metrics,
    pub(super) logs: Logs,
    pub(super) engine: Engine,
    /// The data folder, whose disk is measured.
    pub(super) folder: PathBuf,
    pub(super) certificates: CertificateFiles,
}

/// The measurements that need earlier samples.
pub(super) struct Measures {
    sources: Sources,
    cpu: CpuSampler,
    dropped_lines: Window<1>,
    /// Requests and failures, by the id of the app.
    requests: HashMap<String, Window<2>>,
    reports: Reports,
    /// The running probe of the disk, which may hang.
    disk_probe: Option<JoinHandle<Option<u64>>>,
}

impl Measures {
    pub(super) fn new(sources: Sources, reports: Reports) -> Self {
        Self {
            sources,
            cpu: CpuSampler::default(),
            dropped_lines: Window::default(),
            requests: HashMap::new(),
            reports,
            disk_probe: None,
        }
    }

    /// Forgets the apps that are not among these.
    pub(super) fn forget_missing(&mut self, apps: &[Arc<AppRecord>]) {
        let ids: HashSet<&str> = apps.iter().map(|app| app.id.as_str()).collect();
        self.requests.retain(|id, _| ids.contains(id.as_str()));
        let names: HashSet<&AppName> = apps.iter().map(|app| &app.name).collect();
        self.reports.forget_missing(&names);
    }

    /// Measures the values of the host. `now` is a time since any origin, which never runs
    /// backwards; `at` is the time of the clock.
    pub(super) async fn of_host(&mut self, now: Duration, at: Timestamp) -> Vec<Sample> {
        self.cpu.sample(Instant::now());
        let [dropped] = self.dropped_lines.increase(now, [self.sources.logs.dropped()]);
        let (reserved, most) =
            (self.sources.engine.memory_bytes_reserved(), self.sources.engine.memory_bytes_most(true));
        let certificates = self.sources.certificates.measure(now, at).await;
        let mut samples = vec![
            Sample::from((AlertRule::Cpu, Some(self.cpu.latest().cpu_share_percent()))),
            Sample::from((AlertRule::Memory, Some(percent(reserved, most)))),
            Sample::from((AlertRule::DiskSpace, self.disk_bytes_free().await.map(|bytes| bytes as f64))),
            Sample::from((AlertRule::LogDrops, Some(dropped as f64))),
        ];
        samples.extend(certificates.map(|(seconds, text)| Sample {
            rule: AlertRule::CertificateExpiry,
            value: Some(seconds),
            text: Some(text),
        }));
        samples
    }

    /// Returns the free space of the disk; `None` while a probe hangs. At most one probe runs.
    async fn disk_bytes_free(&mut self) -> Option<u64> {
        let folder = self.sources.folder.clone();
        let probe = self.disk_probe.get_or_insert_with(|| tokio::task::spawn_blocking(move || free_bytes(&folder)));
        let free = timeout(limits::ALERT_DISK_PROBE_TIME, &mut *probe).await.ok()?;
        self.disk_probe = None;
        free.ok().flatten()
    }

    /// Measures the values of an app. An app of the type `dev` has no problem unless its alerts are
    /// enabled.
    pub(super) fn of_app(&mut self, app: &AppRecord, with_dev_apps: bool, now: Duration) -> Vec<Sample> {
        let fields = app.fields();
        if fields.app_type == AppType::Dev && !with_dev_apps {
            // Counted meanwhile, since another type may follow.
            self.error_percent(app, now);
            let rules = AlertRule::ALL.into_iter().filter(|rule| rule.is_of_apps());
            return rules.map(|rule| Sample::from((rule, Some(0.0)))).collect();
        }
        let resources = app.traffic.resources();
        let is_stopped = fields.state == AppState::Stopped;
        let failed_pushes = self.reports.failed_pushes(&app.name);
        let crash_loops = self.reports.crash_loops(&app.name, now);
        let waiting = waiting(resources);
        // A stopped app keeps its events on purpose, so only their number is a problem.
        let unless_stopped = |value: Option<f64>| if is_stopped { Some(0.0) } else { value };
        let values = [
            (AlertRule::QueueDepth, waiting),
            (AlertRule::QueueAge, unless_stopped(oldest_seconds(resources))),
            (AlertRule::DrainTime, unless_stopped(drain_seconds(resources))),
            (AlertRule::ErrorRate, Some(self.error_percent(app, now))),
            (AlertRule::CrashLoop, unless_stopped(Some(crash_loops as f64))),
            (AlertRule::AppDown, down(fields.state)),
            (AlertRule::FailedPushes, failed_pushes.map(f64::from)),
        ];
        values.map(Sample::from).into()
    }

    /// Returns the share of failed requests in the last minute; 0 for too few requests.
    fn error_percent(&mut self, app: &AppRecord, now: Duration) -> f64 {
        let RequestCounts { requests, failures } = self.sources.metrics.request_counts(&app.name);
        if requests == 0 {
            return 0.0;
        }
        let window = self.requests.entry(app.id.clone()).or_insert_with(|| {
            // The app has had no request before: the counters are those since the host's start.
            let mut window = Window::default();
            window.increase(now, [0, 0]);
            window
        });
        let [requests, failures] = window.increase(now, [requests, failures]);
        if requests < limits::ALERT_REQUESTS_MIN { 0.0 } else { percent(failures, requests) }
    }
}

/// Returns the number of waiting requests and events; `None` if the host has not read the events.
fn waiting(resources: &AppResources) -> Option<f64> {
    let stored = resources.stored_events()?;
    let events = u64::from(resources.load(Class::Push).waiting).max(stored.ready + stored.leased);
    Some((resources.waiting(Class::Pull) as u64).saturating_add(events) as f64)
}

/// Returns the age of the oldest waiting request or event; `None` if the host has not read the
/// events. An app whose events are all being delivered has no waiting event.
fn oldest_seconds(resources: &AppResources) -> Option<f64> {
    let request = resources.waiting_since(Class::Pull).map_or(Duration::ZERO, |since| since.elapsed());
    let (stored, load) = (resources.stored_events()?, resources.load(Class::Push));
    // The numbers are those of the last check, which may precede the latest deliveries.
    let is_waiting = load.waiting > 0 || stored.ready + stored.leased > u64::from(load.active);
    let event = stored.oldest_ms(Timestamp::now()).filter(|_| is_waiting);
    Some(request.max(Duration::from_millis(event.unwrap_or(0))).as_secs_f64())
}

/// Returns the time in which the waiting events are delivered at the current rate; `None` if the
/// host has not read the events.
fn drain_seconds(resources: &AppResources) -> Option<f64> {
    let ready = resources.stored_events()?.ready;
    if ready < limits::ALERT_DRAIN_EVENTS_MIN {
        return Some(0.0);
    }
    let rate = resources.queue_metrics(Class::Push).throughput_per_s;
    // Without any progress, the division yields infinity.
    Some((ready as f64 / rate).min(limits::ALERT_DRAIN_TIME_MAX.as_secs_f64()))
}

/// Returns 1 for an app that can't serve, and 0 for one that serves or is stopped. `None` while a
/// release is loaded or deployed, including after a restart of the host: only the outcome shows
/// whether the app can serve again.
fn down(state: AppState) -> Option<f64> {
    match state {
        AppState::Error(_) => Some(1.0),
        AppState::Starting | AppState::Deploying => None,
        AppState::Running | AppState::Stopped => Some(0.0),
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use isopod_policy::{AlertState, ErrorCause};

    use super::*;

    #[test]
    fn only_the_outcome_of_a_start_ends_the_alert_of_an_app_in_error() {
        let rule = AlertRule::AppDown;
        let settings = rule.defaults();
        let mut alert = AlertState::Firing { clear_since: None };
        let mut after = |seconds, state| {
            rule.step(&settings, &mut alert, down(state), Duration::from_secs(seconds));
            alert.is_firing()
        };
        assert!(after(0, AppState::Starting) && after(3_600, AppState::Starting), "the host restarted");
        assert!(after(3_601, AppState::Error(ErrorCause::LoadFailed)));
        assert!(after(3_602, AppState::Deploying) && after(7_200, AppState::Deploying));
        assert!(after(7_201, AppState::Running) && !after(7_300, AppState::Running));
    }
}
