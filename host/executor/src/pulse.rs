//! Liveness counters of the fair threads: each counts the turns that it begins and ends. Never
//! decides whether a thread is stuck.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The counts of all fair threads of an executor.
#[derive(Clone)]
pub struct Pulse(Arc<[AtomicU64]>);

impl Pulse {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts the beginning of a turn, or its end.
    pub(crate) fn beat(&self, worker: usize) {
        self.0[worker].fetch_add(1, Relaxed);
    }

    /// The threads that are currently in a turn, by number, with the turn's number. A thread that
    /// is in the same turn much later has not yielded since.
    pub fn turns(&self) -> Vec<(usize, u64)> {
        let beats = self.0.iter().map(|beats| beats.load(Relaxed)).enumerate();
        beats.filter(|(_, beats)| beats % 2 == 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_in_a_turn_is_shown_and_each_turn_differs() {
        let pulse = Pulse::new(2);
        assert!(pulse.turns().is_empty());
        pulse.beat(1);
        let first = pulse.turns();
        assert_eq!(first, [(1, 1)]);
        pulse.beat(1);
        assert!(pulse.turns().is_empty());
        pulse.beat(1);
        assert_ne!(pulse.turns(), first);
    }
}
