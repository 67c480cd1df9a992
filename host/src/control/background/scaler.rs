//! Shrinks pools: samples all pools at an interval, evicts idle instances above the size that the
//! recent load needs, and records each change with its reason and numbers. Never grows a pool: a
//! job without a free instance starts one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::control::{AppRecord, app_table::AppTable, background::activity_log::ActivityLog};
use crate::{control::limits, observe::machine, runtime::ScaleChange};

/// The scaler.
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) machine: Arc<machine::CpuSampler>,
    /// The time window of the load peak that determines a pool's size.
    pub(in crate::control) window: Duration,
}

impl Service {
    /// Samples and shrinks all pools until the host shuts down.
    pub(in crate::control) async fn run(self) {
        let window = self.window;
        loop {
            tokio::time::sleep(limits::SCALE_CHECK_INTERVAL.min(window / 4)).await;
            let now = Instant::now();
            self.machine.sample(now);
            for app in self.app_table.all() {
                let (resources, running) = (app.traffic.resources(), app.traffic.active());
                match running.is_some() || resources.is_resident() {
                    true => {
                        resources.sample_cpu(now);
                        // Jobs that wait because the host is full aren't notified when slots become
                        // free.
                        resources.admit_all();
                    }
                    false => resources.reset_cpu_sample(),
                }
                let Some(running) = running else { continue };
                for rescaled in running.update_scale(now, window) {
                    self.record_scale(&app, rescaled, window).await;
                }
            }
        }
    }

    async fn record_scale(&self, app: &AppRecord, rescaled: ScaleChange, window: Duration) {
        let text = explain(&rescaled, window);
        self.activity.record(app, "app-scaled", text, numbers(&rescaled)).await;
    }
}

/// Records that a frozen app dropped these instances. Doesn't wait for the record.
pub(in crate::control) fn record_frozen(log: &ActivityLog, app: &AppRecord, sizes: &[ScaleChange], idle: Duration) {
    for size in sizes {
        let ScaleChange { process, scale, from, to, .. } = size;
        let text = format!(
            "{process} shrank from {} to {to} instances of {}..{}: no request for {} s, so the app is frozen until the \
             next request",
            from,
            scale.min,
            scale.max,
            idle.as_secs()
        );
        log.try_record(app, "app-scaled", text, numbers(size));
    }
}

fn numbers(rescaled: &ScaleChange) -> Value {
    let ScaleChange { process, scale, from, to, needed: _, peak, waiting } = rescaled;
    json!({
        "process": process, "from": from, "to": to, "min": scale.min, "max": scale.max, "peak": peak,
        "buffered": waiting, "by": "the scheduler"
    })
}

fn explain(rescaled: &ScaleChange, window: Duration) -> String {
    let ScaleChange { process, scale, from, to, needed, peak, waiting } = rescaled;
    let range = format!("of {}..{}", scale.min, scale.max);
    let ran = match peak {
        1 => "1 job ran".to_owned(),
        more => format!("{more} jobs ran"),
    };
    if to < from && to < needed {
        return format!(
            "{process} shrank from {from} to {to} instances {range}: the recent load needed {needed}, but \
             instances failed or were evicted for other apps on a full host"
        );
    }
    if to > from && *to <= scale.min {
        return format!(
            "{process} grew from {from} to {to} instances {range}: slots for its warm minimum are free again"
        );
    }
    match (to > from, waiting) {
        (true, 0) => format!("{process} grew from {from} to {to} instances {range}: {ran} concurrently"),
        (true, _) => {
            format!("{process} grew from {from} to {to} instances {range}: {ran} concurrently, {waiting} waited")
        }
        (false, _) => {
            let window = window.as_secs();
            format!(
                "{process} shrank from {from} to {to} instances {range}: at most {ran} concurrently in the last \
                 {window} s"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isopod_policy::Scale;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_decision_is_explained_with_its_numbers() {
        let grown = ScaleChange {
            process: "web".parse().expect("is a name"),
            scale: Scale { min: 1, max: 10 },
            from: 1,
            to: 10,
            needed: 10,
            peak: 10,
            waiting: 14,
        };
        assert_eq!(
            explain(&grown, MINUTE),
            "web grew from 1 to 10 instances of 1..10: 10 jobs ran concurrently, 14 waited"
        );
        let shrunk = ScaleChange { from: 10, to: 1, needed: 1, peak: 1, waiting: 0, ..grown };
        assert!(explain(&shrunk, MINUTE).ends_with("at most 1 job ran concurrently in the last 60 s"));
        let lost = ScaleChange { from: 10, to: 3, needed: 9, peak: 9, ..shrunk };
        assert!(explain(&lost, MINUTE).contains("the recent load needed 9"));
    }
}
