//! Owns the metrics of what apps do now: their queues, and what they have of the machine. Taken from where the API's
//! real-time metrics are taken from, so that both say the same. Only of apps that are awake: those that sleep cost no line.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::metrics::AppLabels;
use crate::{
    control::AppRecord,
    runtime::{CLASSES, LiveInstance, class_name},
};

/// One set of families for all apps.
#[derive(Default)]
pub(super) struct Load {
    cores: Family<QueueLabels, Gauge>,
    active_cores: Family<QueueLabels, Gauge>,
    buffered: Family<QueueLabels, Gauge>,
    events: Family<QueueLabels, Counter>,
    cpu: Family<AppLabels, Counter<f64, AtomicU64>>,
    memory: Family<AppLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    app: String,
    queue: &'static str,
}

impl Load {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let load = Self::default();
        registry.register("queue_cores", "Cores that an app has in a queue", load.cores.clone());
        registry.register("queue_active_cores", "Cores of a queue that are at work", load.active_cores.clone());
        registry.register("queue_buffered", "Jobs that wait in a queue", load.buffered.clone());
        registry.register("events", "Events that were given to an app's handler", load.events.clone());
        let help = "CPU time of an app's guests since the host started";
        registry.register_with_unit("app_cpu", help, Unit::Seconds, load.cpu.clone());
        let help = "Memory of an app's instances";
        registry.register_with_unit("app_memory", help, Unit::Bytes, load.memory.clone());
        load
    }

    /// Forgets all apps, so that only those are told that are seen next.
    pub(super) fn clear(&self) {
        self.cores.clear();
        self.active_cores.clear();
        self.buffered.clear();
        self.events.clear();
        self.cpu.clear();
        self.memory.clear();
    }

    /// Takes in what an app does now.
    pub(super) fn see(&self, entry: &AppRecord, instances: &[LiveInstance]) {
        let resources = entry.traffic.resources();
        let app = || entry.name.to_string();
        for class in CLASSES {
            let (load, labels) = (resources.load(class), QueueLabels { app: app(), queue: class_name(class) });
            self.cores.get_or_create(&labels).set(load.cores.into());
            self.active_cores.get_or_create(&labels).set(load.active.into());
            self.buffered.get_or_create(&labels).set(load.waiting.into());
            self.events.get_or_create(&labels).inc_by(resources.events(class));
        }
        let memory = instances.iter().map(|instance| instance.status.memory_bytes).sum::<usize>();
        self.cpu.get_or_create(&AppLabels { app: app() }).inc_by(resources.cpu().as_secs_f64());
        self.memory.get_or_create(&AppLabels { app: app() }).set(i64::try_from(memory).unwrap_or(i64::MAX));
    }
}
