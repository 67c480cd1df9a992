//! An app's CPU account: its limits, its usage, and the entry point for running its guests. Never
//! polls a guest itself.

use crate::{
    class::{Class, Weight},
    ledger::Ledger,
    pool::Pool,
    run::Run,
    task::Job,
};
use std::{num::NonZeroU32, pin::Pin, sync::Arc, time::Duration};

/// An app's share of the CPU. Cheap to clone. An account without running calls is a few numbers: it
/// has no task, no timer and no queue entry.
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

    /// Runs a guest's work, inline where the returned future is awaited or on the worker threads.
    /// Resolves to the work's output and the CPU time used. Dropping the future cancels the work:
    /// immediately if it waits, at its next yield if it runs.
    pub fn run<F>(&self, class: Class, work: F) -> Run<Pin<Box<F>>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.run_unpin(class, Box::pin(work))
    }

    /// Runs work that is already boxed. A large future that is passed on unboxed is copied each
    /// time.
    pub fn run_unpin<F>(&self, class: Class, work: F) -> Run<F>
    where
        F: Future + Unpin + Send + 'static,
        F::Output: Send + 'static,
    {
        Run::new(self.clone(), class, work)
    }

    /// Returns the CPU time that the account has used in a class.
    pub fn cpu(&self, class: Class) -> Duration {
        Duration::from_nanos(self.inner.ledger.cpu_ns(class))
    }

    /// Returns the account's weight relative to other accounts.
    pub fn weight(&self) -> Weight {
        self.inner.ledger.weight()
    }

    /// Changes the account's weight, from its next slice on.
    pub fn set_weight(&self, weight: Weight) {
        self.inner.ledger.set_weight(weight);
    }

    /// Changes how many worker threads may run the account's guests at the same time. Slices that
    /// already run are completed.
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
