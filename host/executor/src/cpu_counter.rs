//! CPU time that is added up while it is used, for whoever looks meanwhile. Never charges it to anybody.

use std::{
    sync::{
        Arc,
        // Nothing depends on the order of what is only added up, so no model checker has to know of it.
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The CPU time of all calls that were told to add theirs here, up to their last slice. A clone is the same sum.
#[derive(Debug, Clone, Default)]
pub struct CpuCounter(Arc<AtomicU64>);

impl CpuCounter {
    /// How much it is by now.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, cpu_ns: u64) {
        self.0.fetch_add(cpu_ns, Ordering::Relaxed);
    }
}
