//! An app's CPU account: its limits and its usage, and the jobs that are charged to it. Never polls
//! a guest.

use crate::{
    class::{Class, Weight},
    ledger::Ledger,
    pool::Pool,
    scheduler::Queued,
    sync::{AtomicBool, AtomicU64, Ordering},
};
use async_task::Runnable;
use std::{num::NonZeroU32, sync::Arc, time::Duration};

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

/// A call on the worker threads that is ready to be polled.
pub(crate) type Job = Runnable<Meta>;

/// Metadata of a moved call.
pub(crate) struct Meta {
    pub(crate) account: Account,
    pub(crate) class: Class,
    /// The call's position in the queue. Read and written under the queue's lock; an old ticket
    /// finds nothing.
    pub(crate) ticket: AtomicU64,
    pub(crate) abandoned: AtomicBool,
}

impl Queued for Job {
    fn set_ticket(&self, ticket: u64) {
        self.metadata().ticket.store(ticket, Ordering::Relaxed);
    }
}
