//! Counts the running deliveries of process types with one attempt. Never claims an event.

use std::{collections::HashMap, sync::Arc};

use isopod_policy::ProcessName;

/// The running deliveries of process types with `attempts = 1`. Their events are not claimed in
/// advance: if the host is killed, a claimed event becomes a dead letter, even if its handler has
/// not started.
#[derive(Debug, Default)]
pub(super) struct SingleAttempts(HashMap<ProcessName, Arc<()>>);

impl SingleAttempts {
    /// Returns how many of `slots` handlers a process type can start now.
    pub(super) fn free(&self, process: &ProcessName, slots: usize) -> usize {
        let running = self.0.get(process).map_or(0, |running| Arc::strong_count(running) - 1);
        slots.saturating_sub(running)
    }

    /// Counts a delivery until the returned value is dropped.
    pub(super) fn begin(&mut self, process: &ProcessName) -> Arc<()> {
        Arc::clone(self.0.entry(process.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_running_delivery_takes_a_slot_of_its_process_type() {
        let [one, other] = ["one", "other"].map(|name| name.parse::<ProcessName>().expect("a valid name"));
        let mut single = SingleAttempts::default();
        assert_eq!(single.free(&one, 2), 2);
        let running = [single.begin(&one), single.begin(&one)];
        assert_eq!((single.free(&one, 2), single.free(&one, 1), single.free(&other, 2)), (0, 0, 2));
        drop(running);
        assert_eq!(single.free(&one, 2), 2);
    }
}
