//! Owns the sizes of pools while nobody changes them by hand: looks at all of them once in a while, lets go of what the
//! load no longer needs, and records each change with its reason and numbers. Growing is not its work: a job that finds
//! no free instance starts one itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control::{AppRecord, Deployer};
use crate::{limits, runtime::ScaleChange};

impl Deployer {
    /// Looks after the sizes of all pools until the host stops.
    pub(in crate::control) async fn run_scaler(self) {
        let window = self.0.parts.scale_window;
        loop {
            tokio::time::sleep(limits::SCALE_LOOK.min(window / 4)).await;
            let now = Instant::now();
            self.0.parts.watch.look(now);
            for entry in self.apps(None, usize::MAX) {
                let (resources, running) = (entry.traffic.resources(), entry.traffic.active());
                match running.is_some() || resources.is_resident() {
                    true => {
                        resources.sample_cpu(now);
                        // Who waits for room on a full host is told by nobody that there is some.
                        resources.admit_all();
                    }
                    false => resources.reset_cpu_sample(),
                }
                let Some(running) = running else { continue };
                for rescaled in running.update_scale(now, window) {
                    self.record_scale(&entry, rescaled, window).await;
                }
            }
        }
    }

    async fn record_scale(&self, entry: &AppRecord, rescaled: ScaleChange, window: Duration) {
        let text = explain(&rescaled, window);
        self.record(entry, "app-scaled", text, numbers(&rescaled)).await;
    }

    /// Records that an app that scales by itself was frozen with these instances. Nobody waits for that.
    pub(in crate::control) fn note_frozen(&self, entry: &AppRecord, sizes: &[ScaleChange], unasked: Duration) {
        for size in sizes {
            let ScaleChange { process, scale, from, to, .. } = size;
            let text = format!(
                "{process} shrank from {} to {to} instances of {}..{}: nobody asked for the app for {} s, so it is frozen \
                 until somebody does",
                from,
                scale.min,
                scale.max,
                unasked.as_secs()
            );
            self.note(entry, "app-scaled", text, numbers(size));
        }
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
            "{process} shrank from {from} to {to} instances {range}: not for want of load, which lately needed {needed}; they \
             failed, or gave way to others on a full host"
        );
    }
    if to > from && *to <= scale.min {
        return format!("{process} grew from {from} to {to} instances {range}: there is room again for those it keeps");
    }
    match (to > from, waiting) {
        (true, 0) => format!("{process} grew from {from} to {to} instances {range}: {ran} at one time"),
        (true, _) => {
            format!("{process} grew from {from} to {to} instances {range}: {ran} at one time, {waiting} waited")
        }
        (false, _) => {
            let window = window.as_secs();
            format!(
                "{process} shrank from {from} to {to} instances {range}: at most {ran} at one time in the last {window} s"
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
    fn a_decision_is_told_with_its_numbers() {
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
            "web grew from 1 to 10 instances of 1..10: 10 jobs ran at one time, 14 waited"
        );
        let shrunk = ScaleChange { from: 10, to: 1, needed: 1, peak: 1, waiting: 0, ..grown };
        assert!(explain(&shrunk, MINUTE).ends_with("at most 1 job ran at one time in the last 60 s"));
        let lost = ScaleChange { from: 10, to: 3, needed: 9, peak: 9, ..shrunk };
        assert!(explain(&lost, MINUTE).contains("not for want of load, which lately needed 9"));
    }
}
