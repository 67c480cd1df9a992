//! The right to use one place of a pool. Whatever becomes of the work, the place is given back when this is dropped.

use super::pool::Pool;
use isopod_engine::{Fault, Instance};
use isopod_executor::{Class, CpuCounter};
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
    /// When it had its turn.
    pub(super) taken: Instant,
    /// What the place's guests have used, to which this job adds its own.
    pub(super) spent: CpuCounter,
    /// Whether what is done counts as a request.
    pub(super) counts: bool,
    /// Whether the answer is on its way already, and how long it took is noted.
    pub(super) has_answered: bool,
    /// Whether there was no instance here and none began: the job left, or the host had no room.
    pub(super) is_untouched: bool,
}

impl Lease {
    /// The instance of this place, started now if it has none.
    pub(super) async fn instance(&mut self) -> Result<Box<Instance>, Fault> {
        match (self.instance.take(), &self.pool) {
            (Some(instance), _) => Ok(instance),
            (None, Some(pool)) => {
                let started = pool.resources().start(pool.program()).await;
                match &started {
                    Ok(instance) => pool.started(self.index, instance.memory_bytes()),
                    Err(fault) => self.is_untouched = matches!(fault, Fault::NoRoom { .. }),
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

    /// The same, for a job that begins now. One that left while this was on its way to it has done nothing.
    pub(super) fn begin(mut self) -> Self {
        self.counts = true;
        self.is_untouched = false;
        self
    }

    /// Notes that the job has its answer, while the place stays taken for the rest of it.
    pub(super) fn note_answer(&mut self) {
        if let Some(pool) = &self.pool {
            pool.note_work(self.taken.elapsed());
            self.has_answered = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let Self { index, class, is_untouched, .. } = *self;
        // Nothing was done where nothing could start.
        let counts = self.counts && !is_untouched;
        let now = Instant::now();
        if counts {
            pool.resources().note(class, now, now.saturating_duration_since(self.begun));
        }
        let worked = (counts && !self.has_answered).then(|| now.saturating_duration_since(self.taken));
        pool.give_back(ReleasedLease { index, instance: self.instance.take(), class, counts, worked, is_untouched });
    }
}

/// What a lease leaves behind.
pub(super) struct ReleasedLease {
    pub(super) index: usize,
    pub(super) instance: Option<Box<Instance>>,
    pub(super) class: Class,
    pub(super) counts: bool,
    /// How long the job took since its turn, unless that is noted or says nothing.
    pub(super) worked: Option<Duration>,
    pub(super) is_untouched: bool,
}
