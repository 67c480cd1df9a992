//! An app's account: what it may use, what it has used, and the way to run its guests. Never runs anything itself.

use crate::{
    class::{Class, Weight},
    ledger::Ledger,
    pool::Pool,
    run::Run,
    task::Job,
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// An app's share of the CPU. Cheap to clone; while nothing of the app runs it is a few numbers and nothing else, no
/// task, no timer and no place in any queue.
#[derive(Clone)]
pub struct Account {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: Arc<Ledger>,
    pool: Arc<Pool<Job>>,
    slice_ns: u64,
}

impl Account {
    pub(crate) fn new(ledger: Ledger, pool: Arc<Pool<Job>>, slice_ns: u64) -> Self {
        Self { inner: Arc::new(Inner { ledger: Arc::new(ledger), pool, slice_ns }) }
    }

    /// Runs a guest's work, where the returned future is awaited and on the fair threads. Its output comes with the CPU
    /// time it took. Dropping it ends the work: at once where it waits, at its next yield where it runs.
    pub fn run<F>(&self, class: Class, work: F) -> Run<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Run::new(self.clone(), class, work)
    }

    /// The CPU time that the account has used in a class.
    pub fn cpu(&self, class: Class) -> Duration {
        Duration::from_nanos(self.inner.ledger.cpu_ns(class))
    }

    /// What the account weighs against others.
    pub fn weight(&self) -> Weight {
        self.inner.ledger.weight()
    }

    /// Changes what the account weighs against others, from its next slice on.
    pub fn set_weight(&self, weight: Weight) {
        self.inner.ledger.set_weight(weight);
    }

    /// Changes how many fair threads may run the account's guests at once. Those that run now finish their slices.
    pub fn set_cores(&self, cores: NonZeroU32) {
        self.inner.ledger.set_cores(cores);
        self.inner.pool.cores_changed(&self.inner.ledger);
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    pub(crate) fn pool(&self) -> &Arc<Pool<Job>> {
        &self.inner.pool
    }

    pub(crate) fn slice_ns(&self) -> u64 {
        self.inner.slice_ns
    }
}
