//! Jobs that wait for an instance, in the order in which they came. Bounded by their number and by what they hold. Whoever
//! leaves gives up the turn, and whoever has no time left loses it: nobody starts work that no one waits for any more.

use super::{deadline::Deadline, lease::Lease, resources::AppResources};
use crate::limits;
use isopod_executor::Class;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The lease, once it is one's turn.
pub(super) type LeaseReceiver = oneshot::Receiver<Lease>;

#[derive(Default)]
pub(super) struct Queue {
    jobs: VecDeque<Waiting>,
    bytes: u64,
}

struct Waiting {
    turn: oneshot::Sender<Lease>,
    bytes: u64,
    deadline: Deadline,
}

impl Queue {
    /// A turn; where there is no room, what there is too much of.
    pub(super) fn join(
        &mut self,
        max: u32,
        (resources, class): (&AppResources, Class),
        bytes: u64,
        deadline: Deadline,
    ) -> Result<LeaseReceiver, String> {
        let is_full = |queue: &Self| queue.jobs.len() >= max as usize || queue.bytes + bytes > limits::QUEUED_BYTES;
        if is_full(self) {
            self.remove_cancelled(resources, class);
        }
        if self.jobs.len() >= max as usize {
            return Err(format!("{max} (queue_max)"));
        }
        if self.bytes + bytes > limits::QUEUED_BYTES {
            return Err(format!("{} MiB of bodies", limits::QUEUED_BYTES >> 20));
        }
        if !resources.host().reserve_bytes(bytes) {
            return Err(format!("{} MiB of bodies on the whole host", limits::QUEUED_BYTES_ALL >> 20));
        }
        self.bytes += bytes;
        resources.begin_waiting(class);
        let (sender, turn) = oneshot::channel();
        self.jobs.push_back(Waiting { turn: sender, bytes, deadline });
        Ok(turn)
    }

    /// Lets whoever joined last stand where its time says, if it waited before.
    pub(super) fn put_last_in_order(&mut self) {
        if let Some(last) = self.jobs.pop_back() {
            let at = self.jobs.partition_point(|job| job.deadline.begun() <= last.deadline.begun());
            self.jobs.insert(at, last);
        }
    }

    /// Takes out the first one who still waits and has at least so much time left, and says when that job came. Those before
    /// it are told that their turn comes too late.
    pub(super) fn next(
        &mut self,
        resources: &AppResources,
        class: Class,
        least_left: Duration,
        now: Instant,
    ) -> Option<(oneshot::Sender<Lease>, Instant)> {
        while let Some(job) = self.take_first(resources, class) {
            if !job.turn.is_closed() && job.deadline.left(now) >= least_left {
                return Some((job.turn, job.deadline.begun()));
            }
        }
        None
    }

    /// Lets go of all who stand in it.
    pub(super) fn clear(&mut self, resources: &AppResources, class: Class) {
        while self.take_first(resources, class).is_some() {}
    }

    fn take_first(&mut self, resources: &AppResources, class: Class) -> Option<Waiting> {
        let job = self.jobs.pop_front()?;
        self.bytes -= job.bytes;
        resources.host().release_bytes(job.bytes);
        resources.end_waiting(class, 1);
        Some(job)
    }

    /// Since when the first one waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.jobs.front().map(|job| job.deadline.begun())
    }

    /// How many still wait.
    pub(super) fn waiting(&self) -> u32 {
        let waiting = self.jobs.iter().filter(|job| !job.turn.is_closed()).count();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    /// How many stand in it, whether they still wait or not.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.jobs.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn remove_cancelled(&mut self, resources: &AppResources, class: Class) {
        let (before, jobs) = (self.bytes, self.jobs.len());
        self.jobs.retain(|job| !job.turn.is_closed());
        self.bytes = self.jobs.iter().map(|job| job.bytes).sum();
        resources.host().release_bytes(before - self.bytes);
        resources.end_waiting(class, jobs - self.jobs.len());
    }
}
