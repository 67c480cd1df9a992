//! A queue of jobs that wait for a slot, in order of arrival. Limits the number of jobs and the
//! bytes of their bodies. Skips jobs that were cancelled or have too little time left, so that no
//! guest works for a client that no longer waits. Never starts a job.

use super::lease::Lease;
use crate::{
    runtime::limits,
    runtime::{deadline::Deadline, resources::AppResources},
};
use isopod_executor::Class;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Receives the lease when the job is admitted.
pub(super) type LeaseReceiver = oneshot::Receiver<Lease>;

#[derive(Default)]
pub(super) struct Queue {
    jobs: VecDeque<QueuedJob>,
    bytes: u64,
}

struct QueuedJob {
    sender: oneshot::Sender<Lease>,
    bytes: u64,
    deadline: Deadline,
}

impl Queue {
    /// Appends a job and returns the receiver of its lease, or which limit was exceeded.
    pub(super) fn enqueue(
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
        resources.note_enqueued(class);
        let (sender, receiver) = oneshot::channel();
        self.jobs.push_back(QueuedJob { sender, bytes, deadline });
        Ok(receiver)
    }

    /// Moves the last job to its position by arrival, for a job that was in the queue before.
    pub(super) fn sort_last(&mut self) {
        if let Some(last) = self.jobs.pop_back() {
            let at = self.jobs.partition_point(|job| job.deadline.arrived() <= last.deadline.arrived());
            self.jobs.insert(at, last);
        }
    }

    /// Removes the first job that still waits and has at least `time_required` left, and returns
    /// its sender and its arrival. Dropping the senders of the jobs before it reports a queue
    /// timeout to their callers.
    pub(super) fn dequeue(
        &mut self,
        resources: &AppResources,
        class: Class,
        time_required: Duration,
        now: Instant,
    ) -> Option<(oneshot::Sender<Lease>, Instant)> {
        while let Some(job) = self.pop(resources, class) {
            if !job.sender.is_closed() && job.deadline.remaining(now) >= time_required {
                return Some((job.sender, job.deadline.arrived()));
            }
        }
        None
    }

    /// Drops all queued jobs.
    pub(super) fn clear(&mut self, resources: &AppResources, class: Class) {
        while self.pop(resources, class).is_some() {}
    }

    fn pop(&mut self, resources: &AppResources, class: Class) -> Option<QueuedJob> {
        let job = self.jobs.pop_front()?;
        debug_assert!(self.bytes >= job.bytes, "the bytes of a dequeued job were counted");
        self.bytes -= job.bytes;
        resources.host().release_bytes(job.bytes);
        resources.note_dequeued(class, 1);
        Some(job)
    }

    /// Returns the arrival of the first job.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.jobs.front().map(|job| job.deadline.arrived())
    }

    /// Returns the arrival time of the first job that was not cancelled.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.jobs.iter().find(|job| !job.sender.is_closed()).map(|job| job.deadline.arrived())
    }

    /// Returns the number of queued jobs, without cancelled jobs.
    pub(super) fn waiting(&self) -> u32 {
        let waiting = self.jobs.iter().filter(|job| !job.sender.is_closed()).count();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    /// Returns the number of jobs in the queue, including cancelled jobs.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.jobs.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn remove_cancelled(&mut self, resources: &AppResources, class: Class) {
        let (before, jobs) = (self.bytes, self.jobs.len());
        self.jobs.retain(|job| !job.sender.is_closed());
        self.bytes = self.jobs.iter().map(|job| job.bytes).sum();
        resources.host().release_bytes(before - self.bytes);
        resources.note_dequeued(class, jobs - self.jobs.len());
    }
}
