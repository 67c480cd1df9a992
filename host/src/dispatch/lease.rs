//! The right to use one place of a pool. Whatever becomes of the work, the place is given back when this is dropped.

use super::pool::Pool;
use isopod_engine::{Fault, Instance};
use isopod_executor::Class;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// One of a pool's places, with the instance in it if there is one. The place is free again once this is dropped.
pub(super) struct Lease {
    /// None once the place was given back.
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) index: usize,
    pub(super) instance: Option<Box<Instance>>,
    pub(super) class: Class,
    /// When the job came.
    pub(super) begun: Instant,
    pub(super) spent: Duration,
    /// Whether what was done counts as a request.
    pub(super) counts: bool,
    /// Whether the host had no room for an instance here.
    pub(super) found_no_room: bool,
}

impl Lease {
    /// The instance of this place, started now if it has none.
    pub(super) async fn instance(&mut self) -> Result<Box<Instance>, Fault> {
        match (self.instance.take(), &self.pool) {
            (Some(instance), _) => Ok(instance),
            (None, Some(pool)) => {
                let started = pool.share().start(pool.program()).await;
                match &started {
                    Ok(instance) => pool.started(self.index, instance.memory_bytes()),
                    Err(fault) => self.found_no_room = matches!(fault, Fault::NoRoom { .. }),
                }
                started
            }
            // A lease that was given back is gone, and its place with it.
            (None, None) => Err(Fault::NoAnswer),
        }
    }

    /// Whether an instance is there already.
    pub(super) fn has_instance(&self) -> bool {
        self.instance.is_some()
    }

    /// The instance of this place, if it has one.
    pub(super) fn take(&mut self) -> Option<Box<Instance>> {
        self.instance.take()
    }

    /// Puts an instance back for the next job.
    pub(super) fn put(&mut self, instance: Option<Box<Instance>>) {
        self.instance = instance;
    }

    /// The same, for a job that left before it began.
    pub(super) fn unused(mut self) -> Self {
        self.counts = false;
        self
    }

    /// Charges the place for the time that its guest had a thread.
    pub(super) fn charge(&mut self, spent: Duration) {
        self.spent += spent;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let Self { index, class, spent, found_no_room, .. } = *self;
        // Nothing was done where nothing could start.
        let counts = self.counts && !found_no_room;
        if counts {
            pool.share().note(class, self.begun);
        }
        pool.give_back(Returned { index, instance: self.instance.take(), class, spent, counts, found_no_room });
    }
}

/// What a lease leaves behind.
pub(super) struct Returned {
    pub(super) index: usize,
    pub(super) instance: Option<Box<Instance>>,
    pub(super) class: Class,
    pub(super) spent: Duration,
    pub(super) counts: bool,
    pub(super) found_no_room: bool,
}
