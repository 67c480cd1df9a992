//! Limits the running deliveries of each process type of an app, so that the backlog of one doesn't
//! delay the events of another. Never claims an event.

use std::{collections::HashMap, sync::Arc};

use isopod_policy::ProcessName;

/// The running deliveries of each process type, including those that wait for a core.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<ProcessName, Share>);

#[derive(Debug, Default)]
struct Share {
    /// Held by each running delivery.
    running: Arc<()>,
    /// Further events are claimed once fewer deliveries than this run. A claim is a transaction, so
    /// one claim takes several events if their deliveries are short.
    refill: usize,
}

impl Share {
    fn running(&self) -> usize {
        Arc::strong_count(&self.running) - 1
    }

    fn has_room(&self) -> bool {
        self.running() < self.refill
    }
}

impl Shares {
    /// Returns how many events of a process type to claim now, if it may have `limit` deliveries.
    /// `ahead` of these are claimed in advance.
    pub(super) fn room(&mut self, process: &ProcessName, limit: usize, ahead: usize) -> usize {
        let share = self.0.entry(process.clone()).or_default();
        share.refill = limit.saturating_sub(ahead / 2).saturating_add(1).min(limit).max(limit.div_ceil(2)).max(1);
        if share.has_room() { limit.saturating_sub(share.running()) } else { 0 }
    }

    /// Counts a delivery until the returned value is dropped.
    pub(super) fn begin(&mut self, process: &ProcessName) -> Arc<()> {
        Arc::clone(&self.0.entry(process.clone()).or_default().running)
    }

    /// Returns whether events of a process type may be claimed, after one of its deliveries has
    /// ended.
    pub(super) fn has_room(&self, process: &ProcessName) -> bool {
        self.0.get(process).is_none_or(Share::has_room)
    }

    /// Returns whether a process type has as many deliveries as it may have.
    pub(super) fn is_any_full(&self) -> bool {
        !self.0.values().all(Share::has_room)
    }

    /// Drops the counts of process types without deliveries.
    pub(super) fn forget_idle(&mut self) {
        self.0.retain(|_, share| share.running() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ProcessName {
        text.parse().expect("a valid name")
    }

    fn begin(shares: &mut Shares, process: &ProcessName, count: usize) -> Vec<Arc<()>> {
        (0..count).map(|_| shares.begin(process)).collect()
    }

    #[test]
    fn each_running_delivery_takes_room_of_its_process_type_only() {
        let [one, other] = ["one", "other"].map(name);
        let mut shares = Shares::default();
        assert_eq!(shares.room(&one, 2, 0), 2);
        let mut running = begin(&mut shares, &one, 2);
        assert_eq!((shares.room(&one, 2, 0), shares.room(&one, 1, 0), shares.room(&other, 2, 0)), (0, 0, 2));
        assert!(shares.is_any_full() && !shares.has_room(&one) && shares.has_room(&other));
        running.pop();
        assert_eq!(shares.room(&one, 2, 0), 1);
    }

    #[test]
    fn events_that_are_claimed_in_advance_are_claimed_in_batches() {
        let worker = name("worker");
        let mut shares = Shares::default();
        // 2 cores, and 8 events in advance.
        assert_eq!(shares.room(&worker, 10, 8), 10);
        let mut running = begin(&mut shares, &worker, 10);
        while running.len() > 6 {
            assert!(shares.is_any_full() && !shares.has_room(&worker));
            assert_eq!(shares.room(&worker, 10, 8), 0);
            running.pop();
        }
        assert!(!shares.is_any_full() && shares.has_room(&worker));
        assert_eq!(shares.room(&worker, 10, 8), 4);
        // At least half of the limit is claimed at a time.
        assert_eq!(shares.room(&worker, 10, 1_000), 0);
        running.truncate(4);
        assert_eq!(shares.room(&worker, 10, 1_000), 6);
    }

    #[test]
    fn only_process_types_with_deliveries_are_remembered() {
        let mut shares = Shares::default();
        let running = begin(&mut shares, &name("worker"), 1);
        shares.room(&name("nightly"), 2, 0);
        shares.forget_idle();
        assert_eq!(shares.0.keys().collect::<Vec<_>>(), [&name("worker")]);
        drop(running);
        shares.forget_idle();
        assert!(shares.0.is_empty());
    }
}
