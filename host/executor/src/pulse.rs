//! Liveness counters of the worker threads: each thread counts the start and the end of its slices.
//! Never decides whether a thread is stuck.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The counters of an executor's worker threads.
#[derive(Clone)]
pub struct Pulse(Arc<[AtomicU64]>);

impl Pulse {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts the start of a slice, or its end.
    pub(crate) fn count(&self, worker: usize) {
        self.0[worker].fetch_add(1, Relaxed);
    }

    /// Returns the threads that are currently in a slice: their number, and the slice's number. A
    /// thread that is in the same slice much later hasn't yielded since.
    pub fn slices(&self) -> Vec<(usize, u64)> {
        let counts = self.0.iter().map(|counts| counts.load(Relaxed)).enumerate();
        counts.filter(|(_, counts)| counts % 2 == 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_in_a_slice_is_returned_and_each_slice_differs() {
        let pulse = Pulse::new(2);
        assert!(pulse.slices().is_empty());
        pulse.count(1);
        let first = pulse.slices();
        assert_eq!(first, [(1, 1)]);
        pulse.count(1);
        assert!(pulse.slices().is_empty());
        pulse.count(1);
        assert_ne!(pulse.slices(), first);
    }
}
