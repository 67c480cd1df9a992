//! The cores of an app: how many it has, how many are in use, and which queued job gets the next.
//! Never queues or runs a job.

use super::pools::Pools;
use crate::runtime::class::class_index;
use isopod_executor::Class;
use isopod_policy::Cores;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The cores of one app, per class.
pub(super) struct AppCores {
    cores: [AtomicU32; 2],
    /// Cores in use, and queued jobs.
    busy: [AtomicU32; 2],
    waiting: [AtomicUsize; 2],
}

/// The current load of an app in one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CoreLoad {
    pub(crate) cores: u32,
    /// Cores in use.
    pub(crate) active: u32,
    pub(crate) waiting: u32,
}

impl AppCores {
    pub(super) fn new(cores: Cores) -> Self {
        Self {
            cores: [AtomicU32::new(cores.pull), AtomicU32::new(cores.push)],
            busy: Default::default(),
            waiting: Default::default(),
        }
    }

    /// Returns the number of cores.
    pub(super) fn count(&self, class: Class) -> u32 {
        self.cores[class_index(class)].load(Ordering::Relaxed)
    }

    /// Changes the number of cores. Running jobs continue.
    pub(super) fn set(&self, cores: Cores) {
        self.cores[class_index(Class::Pull)].store(cores.pull, Ordering::Relaxed);
        self.cores[class_index(Class::Push)].store(cores.push, Ordering::Relaxed);
    }

    pub(super) fn load(&self, class: Class, pools: &Pools) -> CoreLoad {
        let waiting = pools.all().iter().map(|pool| pool.waiting(class)).sum();
        CoreLoad { cores: self.count(class), active: self.busy[class_index(class)].load(Ordering::Relaxed), waiting }
    }

    pub(super) fn is_free(&self, class: Class) -> bool {
        self.busy[class_index(class)].load(Ordering::SeqCst) < self.count(class)
    }

    /// Acquires a core. Returns false if none is free.
    pub(super) fn acquire(&self, class: Class) -> bool {
        let cores = self.count(class);
        let increment = |busy: u32| (busy < cores).then_some(busy + 1);
        self.busy[class_index(class)].try_update(Ordering::SeqCst, Ordering::Relaxed, increment).is_ok()
    }

    /// Acquires a core even if none is free.
    pub(super) fn acquire_extra(&self, class: Class) {
        self.busy[class_index(class)].fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn release(&self, class: Class) {
        let before = self.busy[class_index(class)].fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "a released core was acquired");
    }

    /// Counts a queued job. Returns whether it is the first.
    pub(super) fn note_enqueued(&self, class: Class) -> bool {
        self.waiting[class_index(class)].fetch_add(1, Ordering::SeqCst) == 0
    }

    pub(super) fn note_dequeued(&self, class: Class, jobs: usize) {
        let before = self.waiting[class_index(class)].fetch_sub(jobs, Ordering::SeqCst);
        debug_assert!(before >= jobs, "a dequeued job was enqueued");
    }

    /// Returns the number of queued jobs.
    pub(super) fn waiting(&self, class: Class) -> usize {
        self.waiting[class_index(class)].load(Ordering::SeqCst)
    }

    /// Admits queued jobs to free cores. The job that has waited longest comes first, so that no
    /// release or process type starves another. Returns immediately if no job is queued or no core
    /// is free.
    pub(super) fn admit(&self, class: Class, pools: &Pools) {
        if self.waiting(class) == 0 || !self.is_free(class) {
            return;
        }
        let mut pools = pools.all();
        while let Some((position, _)) = pools
            .iter()
            .enumerate()
            .filter_map(|(position, pool)| Some((position, pool.oldest(class)?)))
            .min_by_key(|(_, since)| *since)
        {
            // A pool at its maximum leaves the core to the other pools.
            if !pools[position].clone().admit_one(class) {
                pools.swap_remove(position);
            }
        }
    }
}
