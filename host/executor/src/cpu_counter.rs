//! A sum of CPU time that can be read while calls add to it. Never charges an account.

use std::{
    sync::{
        Arc,
        // The sum orders no other memory access, so the model checker needn't model it.
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The CPU time of all calls that count in this counter, up to their last slice. A clone shares the
/// same sum.
#[derive(Debug, Clone, Default)]
pub struct CpuCounter(Arc<AtomicU64>);

impl CpuCounter {
    /// Returns the current sum.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, cpu_ns: u64) {
        self.0.fetch_add(cpu_ns, Ordering::Relaxed);
    }
}
