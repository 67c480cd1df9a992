//! Metrics of the apps' queues and of their CPU and memory use. Uses the same sources as the API's
//! real-time metrics, so that both agree. Never exports series of an app without an active release
//! or running work.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    durations::QueueLatencies,
    labels::{AppLabels, PluginCallLabels, PluginLabels, QueueLabels, StoredLabels},
};
use crate::runtime::{AppResources, CLASSES, LiveInstance, PluginOutcome, STOPPED, StoredEvents, class_name};
use isopod_policy::AppName;
use jiff::Timestamp;

/// The metric families of the load of all apps.
#[derive(Default)]
pub(super) struct LoadFamilies {
    cores: Family<QueueLabels, Gauge>,
    active_cores: Family<QueueLabels, Gauge>,
    buffered: Family<QueueLabels, Gauge>,
    waiting: Family<QueueLabels, Gauge<f64, AtomicU64>>,
    latencies: Family<QueueLabels, QueueLatencies>,
    events: Family<QueueLabels, Counter>,
    instances: Family<AppLabels, Gauge>,
    cpu: Family<AppLabels, Counter<f64, AtomicU64>>,
    memory: Family<AppLabels, Gauge>,
    stored: Family<StoredLabels, Gauge>,
    oldest: Family<AppLabels, Gauge<f64, AtomicU64>>,
    plugin_calls: Family<PluginCallLabels, Counter>,
    plugin_cpu: Family<PluginLabels, Counter<f64, AtomicU64>>,
}

impl LoadFamilies {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let load = Self::default();
        registry.register("queue_cores", "Cores of an app, by queue", load.cores.clone());
        registry.register("queue_active_cores", "Cores of a queue that run a job", load.active_cores.clone());
        registry.register("queue_buffered", "Jobs that wait in a queue", load.buffered.clone());
        let help = "Time for which the oldest job of a queue has waited, 0 if none waits";
        registry.register_with_unit("queue_oldest", help, Unit::Seconds, load.waiting.clone());
        let help = "Time from a job's arrival in a queue to its completion";
        registry.register_with_unit("queue_latency", help, Unit::Seconds, load.latencies.clone());
        registry.register("events", "Events delivered to an app's handler", load.events.clone());
        registry.register("app_instances", "Instances of an app", load.instances.clone());
        let help = "CPU time of an app's guests since the host started";
        registry.register_with_unit("app_cpu", help, Unit::Seconds, load.cpu.clone());
        let help = "Memory of an app's instances";
        registry.register_with_unit("app_memory", help, Unit::Bytes, load.memory.clone());
        registry.register("events_stored", "Stored events of an app, by state", load.stored.clone());
        let help = "Age of the oldest stored event that is ready or being delivered";
        registry.register_with_unit("events_oldest", help, Unit::Seconds, load.oldest.clone());
        let help = "Calls of a plugin for an app, by outcome";
        registry.register("app_plugin_calls", help, load.plugin_calls.clone());
        let help = "CPU time of a plugin's calls for an app, which is part of the app's CPU time";
        registry.register_with_unit("app_plugin_cpu", help, Unit::Seconds, load.plugin_cpu.clone());
        load
    }

    /// Removes all series, so that the next export contains only the apps recorded after this call.
    pub(super) fn clear(&self) {
        self.cores.clear();
        self.active_cores.clear();
        self.buffered.clear();
        self.waiting.clear();
        self.latencies.clear();
        self.events.clear();
        self.instances.clear();
        self.cpu.clear();
        self.memory.clear();
        self.stored.clear();
        self.oldest.clear();
        self.plugin_calls.clear();
        self.plugin_cpu.clear();
    }

    /// Records the stored events of an app, which may be asleep. An app without any has no series.
    pub(super) fn record_stored(&self, app: &AppName, events: &StoredEvents, now: Timestamp) {
        if *events == StoredEvents::default() {
            return;
        }
        let states =
            [("ready", events.ready), ("delayed", events.delayed), ("leased", events.leased), ("dead", events.dead)];
        for (state, number) in states {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.stored.get_or_create(&StoredLabels { app: app.to_string(), state }).set(number);
        }
        if let Some(oldest) = events.oldest_ms(now) {
            self.oldest.get_or_create(&AppLabels { app: app.to_string() }).set(oldest as f64 / 1e3);
        }
    }

    /// Records the current load of an app.
    pub(super) fn record(&self, app: &AppName, resources: &AppResources, instances: &[LiveInstance]) {
        let name = || app.to_string();
        for class in CLASSES {
            let (load, labels) = (resources.load(class), QueueLabels { app: name(), queue: class_name(class) });
            self.cores.get_or_create(&labels).set(load.cores.into());
            self.active_cores.get_or_create(&labels).set(load.active.into());
            self.buffered.get_or_create(&labels).set(load.waiting.into());
            let waiting = resources.waiting_since(class).map_or(0.0, |since| since.elapsed().as_secs_f64());
            self.waiting.get_or_create(&labels).set(waiting);
            let latencies = resources.latencies(class);
            if latencies.count() > 0 {
                self.latencies.get_or_create(&labels).add_all(&latencies);
            }
            self.events.get_or_create(&labels).inc_by(resources.events(class));
        }
        self.instances.get_or_create(&AppLabels { app: name() }).set(count(instances));
        let memory = instances.iter().map(|instance| instance.status.memory_bytes).sum::<usize>();
        self.cpu.get_or_create(&AppLabels { app: name() }).inc_by(resources.cpu().as_secs_f64());
        self.memory.get_or_create(&AppLabels { app: name() }).set(i64::try_from(memory).unwrap_or(i64::MAX));
        for calls in resources.all_plugin_calls() {
            let plugin = || calls.plugin().to_string();
            for outcome in PluginOutcome::ALL {
                let labels = PluginCallLabels { app: name(), plugin: plugin(), outcome: outcome.as_str() };
                self.plugin_calls.get_or_create(&labels).inc_by(calls.with_outcome(outcome));
            }
            let labels = PluginLabels { app: name(), plugin: plugin() };
            self.plugin_cpu.get_or_create(&labels).inc_by(calls.cpu().as_secs_f64());
        }
    }
}

/// Returns the number of instances, without the stopped ids that wait for the next instance.
fn count(instances: &[LiveInstance]) -> i64 {
    let running = instances.iter().filter(|instance| instance.status.state != STOPPED).count();
    i64::try_from(running).unwrap_or(i64::MAX)
}
